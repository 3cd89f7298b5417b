"""The table of what a worker does again and again, with its pause."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from service.changes import order
from service.changes.recorder import Recorder
from service.documents import Right
from service.identity import deletion
from service.model.registry import Registry
from service.mongo import connection
from service.records import deletion as records_deletion


@dataclass(frozen=True, slots=True)
class Chore:
    """A piece of work that one process at a time does, every `pause` seconds."""

    name: str
    """Of its lease too: another name would be another lease."""
    pause: float
    work: Callable[[Right], Any]
    """Does what there is to do, for as long as its right is held."""


def chores(settings: Mapping[str, Any], registry: Registry) -> list[Chore]:
    """Return all chores, for the settings of the service and its record types."""
    age = deletion.last_writes(settings["MONGODB_TIMEOUT"])
    found = [
        Chore("sweep", 5.0, lambda right: deletion.sweep(registry, age, lambda: right.held)),
        Chore("release", 5.0, lambda right: records_deletion.release_again(registry, age, lambda: right.held)),
    ]
    if not connection.is_memory(settings["MONGODB_URI"]):
        # Mongomock has no change streams.
        keep = timedelta(days=settings["TOMBSTONE_DAYS"])
        found.append(Chore(order.RECORDER, 0.0, Recorder(registry, connection.stream_client(settings), keep).step))
    return found
