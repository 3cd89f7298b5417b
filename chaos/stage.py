"""A run: servers on a replica set, people who write, and what comes of it when the faults are over."""

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from chaos.client import Watch
from chaos.cluster import Cluster
from chaos.ledger import Done, Findings, Ledger
from chaos.servers import Server
from chaos.writers import Pool, Probe, Traveller, Writer, person

WRITERS = 4
SETTLED = 120
"""Seconds that clients get to use up their attempts when a run ends."""


@dataclass
class Outcome:
    """What came of one scenario."""

    name: str
    faults: int
    ledger: Ledger
    watch: Watch
    findings: Findings
    recoveries: list[float] = field(default_factory=list)
    """Seconds from a fault to the answer of the first write sent after it that came through."""
    elections: list[float] = field(default_factory=list)
    """Seconds from a fault until the set had another primary; none where that is not what is waited for."""

    def as_row(self) -> dict[str, Any]:
        """Return the figures by name."""
        found, told = self.findings, self.ledger.outcomes
        return {
            "scenario": self.name,
            "faults": self.faults,
            "tried": told.total(),
            "acknowledged": told["acknowledged"],
            "refused": told["refused"],
            "unknown": told["unknown"],
            "losses": len(found.losses),
            "duplicates": len(found.duplicates),
            "ghosts": len(found.ghosts),
            "breaches": len(self.watch.breaches),
            "recovery": max(self.recoveries, default=None),
            "election": max(self.elections, default=None),
            "slowest": self.watch.slowest,
            "answers": dict(self.watch.answers),
        }

    def complaints(self) -> list[str]:
        """Return every promise that was broken."""
        found = self.findings
        return [*found.losses, *found.duplicates, *found.ghosts, *self.watch.breaches]


class Stage:
    """Servers on a replica set, with people who write."""

    def __init__(self, cluster: Cluster, servers: list[Server], slack: float) -> None:
        self.cluster, self.servers, self.slack = cluster, servers, slack
        self.watch, self.ledger, self.draw = Watch(), Ledger(), random.Random(6)
        self.bases = [server.base for server in servers]
        self.probe = Probe(person(self.bases, self.watch, 0), self.ledger)
        pool = Pool(person(self.bases, self.watch, 1))
        people: list[Any] = [self.probe, Traveller(person(self.bases, self.watch, 2))]
        people += [
            Writer(f"w{number}", person(self.bases, self.watch, 10 + number), self.ledger, pool)
            for number in range(WRITERS)
        ]
        self.threads = [threading.Thread(target=one.work, args=[self.watch.ended], daemon=True) for one in people]

    def play(self, seconds: float) -> None:
        """Let the people write for a while."""
        time.sleep(seconds)

    def recovered(self, moment: float, seconds: float = 60) -> float:
        """Return the seconds from a `moment` until a write sent after it came through; waits up to `seconds`."""
        end = time.monotonic() + seconds
        while (found := self.probe.recovery(moment)) is None and time.monotonic() < end:
            time.sleep(0.02)
        if found is None:
            self.watch.breach(f"no write came through for {seconds} s")
            return seconds
        return found

    def finish(self, name: str, faults: int) -> Outcome:
        """Let the people end what they do, and compare what they were told with what is there."""
        self.watch.ended.set()
        end = time.monotonic() + SETTLED
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                self.watch.breach("a client did not come to an end")
        self.cluster.await_all()
        for done in self.ledger.sample(self.draw):
            self.send_again(done)
        return Outcome(name, faults, self.ledger, self.watch, self.ledger.compare(self.cluster.uri))

    def send_again(self, done: Done) -> None:
        """Send an acknowledged request once more: its answer has to be the first one, to the byte."""
        headers = {"Authorization": f"Bearer {done.token}", "Idempotency-Key": done.key}
        base = self.draw.choice(self.bases)
        answer = requests.request(done.method, base + done.path, json=done.body, headers=headers, timeout=30)
        replayed = answer.headers.get("Idempotent-Replayed") == "true"
        if answer.status_code == 401:
            return  # the access token is too old by now
        # A batch is asked part by part; only the whole of it was kept.
        if (answer.status_code, answer.content, replayed) != (done.status, done.content, True):
            self.watch.breach(f"{done.method} {done.path} once more: {answer.status_code} {answer.text}")


@contextmanager
def staged(
    folder: Path, workers: int = 1, settings: Mapping[str, str] | None = None, slack: float = 0.0
) -> Iterator[Stage]:
    """Start three mongods, two servers and the people; end them with the block.

    `slack` is in seconds: how much later than promised a write may come through, on a machine that does other work.
    """
    with Cluster.started(folder / "cluster") as cluster:
        servers = [Server(folder / f"server-{number}", cluster.uri, workers, **(settings or {})) for number in range(2)]
        try:
            for server in servers:
                server.start()
            stage = Stage(cluster, servers, slack)
            for thread in stage.threads:
                thread.start()
            try:
                yield stage
            finally:
                stage.watch.ended.set()
        finally:
            for server in servers:
                server.stop()
