"""What a run wrote, as its clients know it, and whether the database agrees."""

import random
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pymongo import MongoClient

Outcome = Literal["acknowledged", "refused", "unknown"]
COUNTS = {"acknowledged": {1}, "refused": {0}, "unknown": {0, 1}}
"""How many records with its title a write may have left."""
SAMPLE = 300


@dataclass(frozen=True, slots=True)
class Done:
    """A keyed request that was acknowledged, and its answer."""

    method: str
    path: str
    body: Any
    key: str
    token: str
    status: int
    content: bytes


@dataclass
class Findings:
    """Where the database and the clients disagree."""

    losses: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    """What was refused, and is there."""


class Ledger:
    """Every write with what became of it. May be used by many threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.made: dict[str, Outcome] = {}
        """By title: a record that one write was to make."""
        self.added: dict[str, Counter[str]] = {}
        """By id: how often 1 was added to the priority of a record."""
        self.states: dict[str, set[str | None]] = {}
        """By id: the titles that a record of one writer may have; None where it may be deleted."""
        self.done: list[Done] = []

    def note(self, title: str, outcome: Outcome) -> None:
        """Keep what became of a write that was to make, or to name, one record `title`."""
        with self.lock:
            self.outcomes[outcome] += 1
            self.made[title] = outcome

    def add(self, id: str, outcome: Outcome) -> None:
        """Keep what became of an addition of 1 to the priority of the record `id`."""
        with self.lock:
            self.outcomes[outcome] += 1
            self.added.setdefault(id, Counter())[outcome] += 1

    def change(self, id: str, title: str | None, outcome: Outcome) -> None:
        """Keep what became of a replacement (or of a deletion, without a title) of a record of one writer alone."""
        with self.lock:
            self.outcomes[outcome] += 1
            before = self.states.get(id, {None})
            self.states[id] = {"acknowledged": {title}, "refused": before, "unknown": before | {title}}[outcome]

    def keep(self, done: Done) -> None:
        """Keep an acknowledged request, to be sent once more at the end."""
        with self.lock:
            self.done.append(done)

    def sample(self, draw: random.Random) -> list[Done]:
        """Return some of the requests that were acknowledged."""
        with self.lock:
            return draw.sample(self.done, min(SAMPLE, len(self.done)))

    def compare(self, uri: str) -> Findings:
        """Compare with the database at `uri`, which has to be at rest."""
        with MongoClient[dict[str, Any]](uri) as client:
            rows = list(client.madang.notes.find({}, {"title": 1, "priority": 1, "purge_at": 1}))
        findings = Findings()
        compare_titles(self.made, rows, findings)
        found = {row["_id"]: row for row in rows}
        for id, counts in self.added.items():
            compare_sum(id, counts, found.get(id), findings)
        for id, titles in self.states.items():
            row = found.get(id, {})
            if (title := row.get("title")) not in titles:
                findings.losses.append(f"{id} has the title {title}, not one of {titles}")
        return findings


def compare_titles(made: dict[str, Outcome], rows: Iterable[dict[str, Any]], findings: Findings) -> None:
    """Look for each record that one write was to make."""
    counts = Counter(row.get("title") for row in rows)
    for title, outcome in made.items():
        number = counts[title]
        if number in COUNTS[outcome]:
            continue
        kind = findings.duplicates if number > 1 else findings.ghosts if number else findings.losses
        kind.append(f"{title}: {outcome}, and {number} times there")


def compare_sum(id: str, counts: Counter[str], row: dict[str, Any] | None, findings: Findings) -> None:
    """Look whether a priority is what was added to it."""
    total = row["priority"] if row else -1
    if total < counts["acknowledged"]:
        findings.losses.append(f"{id}: {total} of {counts['acknowledged']} additions are there")
    elif total > counts["acknowledged"] + counts["unknown"]:
        findings.duplicates.append(f"{id}: {total}, but {dict(counts)}")
