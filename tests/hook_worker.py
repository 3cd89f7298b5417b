"""Workers that record and tell a hook: `python -m tests.hook_worker`, told what to do as `tests.outbox_worker` is.

The hook notes in `told` what it hears, and who hears it; it fails for records whose title says so.
"""

import os
import random
import threading
import time
from datetime import timedelta
from typing import Any

import mongoengine
from mongoengine.connection import get_db

from service.changes import order
from service.changes.after_changes import AfterChanges
from service.changes.recorder import Recorder
from service.documents.record_change import RecordChange
from service.model.registry import Registry
from service.mongo import connection
from service.worker.chores import Chore, telling
from service.worker.crew import Crew
from tests.outbox_worker import STOPPED, fork_workers, stopping
from tests.telling import Parcel, title

LEASE_SECONDS = 1.5
"""How long a lease of such a worker is good."""


def note(change: RecordChange) -> None:
    """Take a moment, and note what was told."""
    time.sleep(random.uniform(0.0, 0.01))
    if title(change) == "poison":
        raise RuntimeError("a poison")
    told = {"record": change.id, "revision": change.revision, "kind": change.kind, "worker": os.getpid()}
    get_db()["told"].insert_one(told)


def tell_all(config: dict[str, Any], point: str) -> None:
    """Record and tell until the end."""
    if point == STOPPED:
        # When it has read what it is about to tell.
        AfterChanges.found = stopping(AfterChanges.found)  # type: ignore[method-assign]
    mongoengine.connect(**connection.options(config))
    Parcel.after_change = classmethod(lambda _cls, change: note(change))  # type: ignore[assignment,method-assign]
    registry, keep = Registry([Parcel]), timedelta(days=30)
    recorder = Recorder(registry, connection.stream_client(config), keep)
    chores = [Chore(order.RECORDER, 0.0, recorder.step), telling(registry, registry["test_parcels"], keep)]
    Crew(chores, seconds=LEASE_SECONDS).start()
    threading.Event().wait()


if __name__ == "__main__":
    fork_workers(tell_all)
