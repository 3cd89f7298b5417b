"""Workers, parents, whole servers and everything at once that are killed, or told to end, while people write."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests

from chaos.servers import Server
from chaos.stage import Outcome, Stage, staged
from service.serve.deaths import MOST_DEATHS, WINDOW

GRACE = 2.0
"""Seconds after a fault within which writes have to come through, for the other server is there."""
RESTART = 30.0
"""The same where nothing is left: three mongods recover, elect, and two servers start."""
DRAIN_DELAY = 1.0
SELDOM = WINDOW / MOST_DEATHS / 2
"""Seconds between deaths of workers, of two servers in turns, of which neither gives up."""
ORPHANS = 13.0
"""Seconds that workers may outlive their parent: one to notice, ten for the requests that they have begun, and some."""

Fault = Callable[[Stage, int], float]


def run(folder: Path, times: int) -> list[Outcome]:
    """Play every scenario, `times` times each fault of a worker."""
    scenarios: dict[str, tuple[Fault, int]] = {
        "a worker killed": (kill_worker, times * 2),
        "a parent killed": (kill_parent, max(1, times // 2)),
        "everything killed": (kill_everything, max(1, times // 3)),
        "servers told to end, in turns": (restart_in_turns, max(2, times // 2)),
    }
    return [play(folder, name, fault, number) for name, (fault, number) in scenarios.items()]


def play(folder: Path, name: str, fault: Fault, times: int) -> Outcome:
    """Play one fault `times` times."""
    settings = {"DRAIN_DELAY": str(DRAIN_DELAY)}
    with staged(folder / fault.__name__, workers=2, settings=settings) as stage:
        stage.play(1)
        recoveries = []
        for number in range(times):
            recoveries.append(fault(stage, number))
            stage.play(1)
        outcome = stage.finish(name, times)
    outcome.recoveries = recoveries
    return outcome


def in_time(stage: Stage, begun: float, bound: float) -> float:
    """Return the seconds from a fault until a write came through, which have to be within the `bound`."""
    recovery = stage.recovered(begun)
    if recovery > bound + stage.slack:
        stage.watch.breach(f"writes came through {recovery:.1f} s after the fault")
    return recovery


def kill_worker(stage: Stage, number: int) -> float:
    """Kill a worker; its parent starts another, if not too many have died: see `service/serve/deaths.py`."""
    server = stage.servers[number % 2]
    begun = time.monotonic()
    server.kill_worker(number)
    found = in_time(stage, begun, GRACE)
    if not server.is_up():
        stage.watch.breach("a server ended with its worker")
        server.start()
    stage.play(SELDOM)
    return found


def kill_parent(stage: Stage, number: int) -> float:
    """Kill the parent of the workers, which then end by themselves, and start the server again."""
    server = stage.servers[number % 2]
    orphans = server.pids()[1:]
    begun = time.monotonic()
    server.kill_parent()
    found = in_time(stage, begun, GRACE)
    server.start()
    end = begun + ORPHANS
    while any(map(lives, orphans)):
        if time.monotonic() > end:
            stage.watch.breach(f"workers outlived their parent by {ORPHANS} s")
            break
        time.sleep(0.1)
    return found


def lives(pid: int) -> bool:
    """Tell whether a process that is no child of ours is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def kill_everything(stage: Stage, _number: int) -> float:
    """Kill servers and mongods at once, as a power cut does, and start all again."""
    begun = time.monotonic()
    for server in stage.servers:
        server.kill()
    for member in stage.cluster.members:
        member.kill()
    stage.cluster.restore()
    starts = [threading.Thread(target=server.start) for server in stage.servers]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    return in_time(stage, begun, RESTART)


def restart_in_turns(stage: Stage, number: int) -> float:
    """Tell a server to end behind a load balancer that asks for its readiness; no request may fail for that.

    The people use the servers that are ready, as the balancer would choose.
    """
    server = stage.servers[number % 2]
    others = [other.base for other in stage.servers if other is not server]
    failed = sum(stage.watch.answers[name] for name in NO_ANSWER)
    begun = time.monotonic()
    assert server.process is not None
    server.process.popen.send_signal(signal.SIGTERM)
    while is_ready(server):
        if time.monotonic() - begun > DRAIN_DELAY + stage.slack:
            stage.watch.breach("a server that ends was still ready")
            break
        time.sleep(0.02)
    stage.bases[:] = others
    found = in_time(stage, begun, GRACE)
    if code := server.process.popen.wait(30):
        stage.watch.breach(f"a server that was told to end did so with {code}")
    server.start()
    stage.bases.append(server.base)
    if more := sum(stage.watch.answers[name] for name in NO_ANSWER) - failed:
        stage.watch.breach(f"{more} requests were not answered while a server ended in order")
    return found


NO_ANSWER = ("ConnectionError", "ReadTimeout", "ConnectTimeout", "ChunkedEncodingError")


def is_ready(server: Server) -> bool:
    """Tell what a load balancer would be told."""
    return requests.get(f"{server.base}/health/ready", timeout=5).status_code == 200
