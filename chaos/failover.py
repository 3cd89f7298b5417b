"""Members of the replica set that are killed, step down or freeze while people write."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pymongo

from chaos.cluster import Member
from chaos.stage import Outcome, Stage, staged

GRACE = 2.0
"""Seconds after the election within which writes have to come through."""
FROZEN_GRACE = 15.0
"""The same where the former primary is frozen: only after some 12 seconds the remaining secondary stops to wait for
its oplog and turns to the new primary, and without it there is no majority."""


Fault = Callable[[Stage], tuple[float, float | None]]


def run(folder: Path, times: int) -> list[Outcome]:
    """Play every scenario, `times` times each fault of a primary."""
    scenarios: dict[str, tuple[Fault, int]] = {
        "primary killed": (kill_primary, times),
        "primary steps down": (step_down, max(1, times // 3)),
        "primary frozen, then thawed": (freeze_primary, max(1, times // 3)),
        "a secondary killed": (kill_secondary, max(1, times // 3)),
        "no majority": (kill_both_secondaries, max(1, times // 5)),
    }
    return [play(folder, name, fault, number) for name, (fault, number) in scenarios.items()]


def play(folder: Path, name: str, fault: Fault, times: int) -> Outcome:
    """Play one fault `times` times on a set of its own."""
    with staged(folder / fault.__name__) as stage:
        stage.play(1)
        measured = []
        for _ in range(times):
            measured.append(fault(stage))
            stage.cluster.restore()
            stage.play(1)
        outcome = stage.finish(name, times)
    outcome.recoveries = [recovery for recovery, _ in measured]
    outcome.elections = [election for _, election in measured if election is not None]
    return outcome


def elected(stage: Stage, former: Member, begun: float, grace: float = GRACE) -> tuple[float, float]:
    """Return when writes came through again and when another member was primary, in seconds after a fault."""
    stage.cluster.primary(but=former)
    election = time.monotonic() - begun
    recovery = stage.recovered(begun)
    if recovery > election + grace + stage.slack:
        stage.watch.breach(f"writes came through {recovery:.1f} s after the fault, the election took {election:.1f} s")
    return recovery, election


def kill_primary(stage: Stage) -> tuple[float, float | None]:
    """Kill the primary."""
    former = stage.cluster.primary()
    begun = time.monotonic()
    former.kill()
    return elected(stage, former, begun)


def step_down(stage: Stage) -> tuple[float, float | None]:
    """Let the primary step down in order."""
    former = stage.cluster.primary()
    begun = time.monotonic()
    # It waits for a secondary that has everything; while so many write there may be none.
    with pymongo.timeout(20):
        former.ask("replSetStepDown", value=10, secondaryCatchUpPeriodSecs=5, force=True)
    return elected(stage, former, begun)


def freeze_primary(stage: Stage) -> tuple[float, float | None]:
    """Stop the primary without a word, as a broken network would; it wakes and still takes itself for the primary."""
    former = stage.cluster.primary()
    begun = time.monotonic()
    former.send(signal.SIGSTOP)
    try:
        measured = elected(stage, former, begun, FROZEN_GRACE)
        stage.play(1)
    finally:
        former.send(signal.SIGCONT)
    return measured


def kill_secondary(stage: Stage) -> tuple[float, float | None]:
    """Kill one of the secondaries: the majority stays, and nobody should notice."""
    victim = stage.cluster.secondaries()[0]
    begun = time.monotonic()
    victim.kill()
    stage.play(3)
    return stage.probe.longest_gap(begun), None


def kill_both_secondaries(stage: Stage) -> tuple[float, float | None]:
    """Kill both secondaries: nothing may be acknowledged until one is back."""
    for victim in stage.cluster.secondaries():
        victim.kill()
    begun = time.monotonic()
    stage.play(8)
    if (recovery := stage.probe.recovery(begun)) is not None:
        stage.watch.breach(f"a write was acknowledged {recovery:.1f} s after the majority was gone")
    begun = time.monotonic()
    stage.cluster.restore()
    return stage.recovered(begun), None
