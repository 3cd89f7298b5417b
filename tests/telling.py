"""A record type whose hook is told of changes, and a worker that tells it, in the hands of a test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from mongoengine import StringField

from service.changes.after_changes import AfterChanges, lease_of
from service.documents import Lease, Record
from service.documents.record_change import RecordChange
from service.model.registry import Registry
from service.worker.lease import Holding
from tests.recording import Recording

PATH = "/v1/test_parcels"
LEASE = lease_of("test_parcels")


class Parcel(Record):
    """Is told of, and does then what its title or the test says."""

    title = StringField()
    label = StringField(hidden=True)
    meta = {"collection": "test_parcels", "sync_public": True}
    changes: ClassVar[list[RecordChange]] = []
    does: ClassVar[dict[str, Callable[[RecordChange], Any]]] = {}
    """What the hook does for some records, by their ids."""

    @classmethod
    def after_change(cls, change: RecordChange) -> None:
        cls.changes.append(change)
        if change.id in cls.does:
            cls.does[change.id](change)


def title(change: RecordChange) -> str | None:
    """The title of the record of a change."""
    return None if change.record is None else str(change.record.title)


def fail(_change: RecordChange) -> None:
    """Do what a hook with a bug does."""
    raise RuntimeError("a poison")


class Killed(BaseException):
    """The worker ends at this line."""


class Telling:
    """A worker that tells, and one that records."""

    def __init__(self, registry: Registry, settings: dict[str, Any], document: type[Record] = Parcel) -> None:
        self.registry, self.told = registry, document
        self.recording = Recording(registry, settings)
        self.ended = 0
        self.start()

    def start(self) -> None:
        """Begin as a process does that knows nothing, while the last one still has its lease."""
        type = self.registry.of(self.told)
        lease = lease_of(type.name)
        Lease._get_collection().update_one({"_id": lease}, [{"$set": {"expires_at": "$$NOW"}}])
        self.work = AfterChanges(self.registry, type, timedelta(days=30), self.end)
        self.lease = Holding(lease, 60.0)
        assert self.lease.take()

    def end(self) -> None:
        """End, as the process would."""
        self.ended += 1
        raise Killed

    def catch_up(self, steps: int = 4) -> list[tuple[str, str | None]]:
        """Record and tell all that has happened; return the ids and titles that were told."""
        self.recording.catch_up()
        Parcel.changes.clear()
        for _ in range(steps):
            self.work.step(self.lease)
        return [(change.id, title(change)) for change in Parcel.changes]

    def try_now(self) -> None:
        """Do not wait for the next look for what is to be tried again."""
        self.work.try_at = 0.0


class Stuck:
    """What a hook does that never ends by itself; interrupted in Python, or only when it is let go."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def in_python(self, _change: RecordChange) -> None:
        while not self.released.wait(0.005):
            pass

    def deaf(self, _change: RecordChange) -> None:
        while not self.released.is_set():
            try:
                self.released.wait(0.005)
            except BaseException:
                continue
