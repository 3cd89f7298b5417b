"""After a change: the hook of one record type is told of each, in order for each record, at least once.

The order keeps one change of each record, at its newest number. So what the hook is told is each record's newest state,
not each write: of two that come shortly after each other it may hear once.
"""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pymongo

from service.changes import set_aside
from service.changes.follower import Follower, begin_following
from service.changes.passage import COMMITTED, Passage, was_written_before
from service.core import metrics
from service.core.log import log
from service.core.own_thread import OwnThread
from service.documents import Change, LeaseLost, Right
from service.documents.record_change import ChangeKind, RecordChange
from service.model.hooks import AFTER_CHANGE, typed_record
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.policy import Identity, owner_in
from service.records.acting import Acting

HOOK_SECONDS = 15.0
"""Most seconds of one call of a hook."""
HOOK_ENDS_WITHIN = 5.0
"""Seconds that it has for its end when it is told to; after them its process ends."""
TOLD_FOR = 1.0
"""Seconds after which it is noted what was told; so much is told again after a crash, and what failed waits so long."""
TRIED_EVERY = 10.0
"""Seconds between two looks for what is to be tried again, where nothing is known to wait."""
DEATHS = 3
"""As the beginning of how many workers in a row at one number none of the changes there is believed to be harmless."""


def lease_of(type: str) -> str:
    """Return the name of the lease in whose document it is kept how far the hook of a type has come."""
    return f"after-change:{type}"


class DoesNotEnd(Exception):
    """A hook was told to end, and has not."""


class AfterChanges:
    """Tells the hook of one record type; what its calls delete leaves a tombstone for `keep`."""

    def __init__(
        self,
        registry: Registry,
        type: RecordType,
        keep: timedelta,
        end_process: Callable[[], None] = lambda: os._exit(70),
    ) -> None:
        """Take the record type, and what ends this process where a hook does not end that has to."""
        self.registry, self.type, self.keep, self.end_process = registry, type, keep, end_process
        self.hook: Callable[[RecordChange], Any] = getattr(type.document, AFTER_CHANGE)
        self.follower = Follower(lease_of(type.name), [type.name], self.tell)
        self.try_at = 0.0
        self.trouble: str | None = None
        """Why not all is told, for whoever asks how the worker is."""

    def step(self, right: Right) -> None:
        """Tell of what has happened, then of what is to be tried again. Raises `PyMongoError` or `LeaseLost`."""
        self.follower.step(right)
        if time.monotonic() >= self.try_at:
            self.try_again(right)

    # --- What happens ------------------------------------------------------------------------------------------------

    def tell(self, right: Right, passage: Passage) -> None:
        """Tell of some changes; what fails keeps nothing else waiting. Raises `LeaseLost`."""
        known = set_aside.known_rows([change["_id"] for change in passage.changes])
        rows = [self.row_for(change, known.get(change["_id"])) for change in passage.changes]
        if self.follower.begun >= DEATHS:
            # One of them may be what has ended the workers: each is tried by itself, and counted before.
            log.error("after_change_careful", type=self.type.name, changes=len(rows))
            set_aside.keep_rows(rows)
            self.try_at = 0.0
            return
        noted = time.monotonic()
        for row in rows:
            self.attempt(right, {**row, "tries": 1}, row["_id"] in known)
            if time.monotonic() >= noted + TOLD_FOR:
                self.follower.note(right, row["seq"])
                noted = time.monotonic()

    def row_for(self, change: Raw, previous: Raw | None) -> Raw:
        """Return what is stored of a change if it cannot be told."""
        is_new = change.get("first", 0) > self.follower.whole
        return set_aside.new_row(self.type.name, change["record"], change["seq"], is_new, previous)

    def attempt(self, right: Right, row: Raw, is_stored: bool) -> None:
        """Tell the hook of a record as it is now, and keep what has come of it. Raises `PyMongoError`, `LeaseLost`."""
        stored = self.found(row["record"])
        # After it was read: who was stopped meanwhile must not tell what is old by now.
        if not right.held:
            raise LeaseLost(self.follower.name)
        error = self.call(row, stored)
        if error is not None:
            self.put_off(row, error)
        elif is_stored:
            set_aside.end_row(row)
        if isinstance(error, DoesNotEnd):
            # Not before it is kept: else the next worker would come to the same end.
            self.follower.note(right, max(row["seq"], self.follower.number))
            log.critical("after_change_does_not_end", type=self.type.name, id=row["record"])
            self.end_process()

    def found(self, id: str) -> Raw | None:
        """Return what is stored of a record, as no failover undoes it; None where nothing is left."""
        committed = self.type.collection.with_options(read_concern=COMMITTED)
        found: Raw | None = committed.find_one({"_id": id}, self.type.unread)
        return found

    def call(self, row: Raw, stored: Raw | None) -> BaseException | None:
        """Call the hook; return why it has not taken the change, None where it has."""
        if stored is not None and was_written_before(stored, self.follower.since):
            return None
        work = OwnThread(self.follower.name, lambda: self.call_in_time(row, stored))
        with metrics.HOOK_TIMES.labels(self.type.name).time():
            if not work.has_ended(HOOK_SECONDS):
                work.interrupt()
                if not work.has_ended(HOOK_ENDS_WITHIN):
                    return DoesNotEnd()
        return work.error

    def call_in_time(self, row: Raw, stored: Raw | None) -> None:
        """Call the hook; what it asks of MongoDB ends when its time does."""
        with pymongo.timeout(HOOK_SECONDS):
            self.hook(self.change_of(row, stored))

    def change_of(self, row: Raw, stored: Raw | None) -> RecordChange:
        """Return what the hook is told of a record."""
        is_there = stored is not None and "purge_at" not in stored
        kind: ChangeKind = "deleted" if not is_there else "created" if row["created"] else "changed"
        last = stored or self.last_known(row["_id"])
        return RecordChange(
            type=self.type.name,
            id=row["record"],
            kind=kind,
            revision=last.get("revision", 0),
            owner=last.get("owner"),
            seq=row["seq"],
            record=typed_record(self.type.document, stored) if stored is not None and is_there else None,
            acting_for=self.acting_for,
        )

    def acting_for(self, account: str) -> Acting:
        """Return the records as an account may read and write them. Raises `NotFound` where there is none."""
        # One for each: it notes what it has read.
        nobody = Identity("", "", 0)
        return Acting(self.registry, nobody, self.keep, self.follower.name).acting_for(account)

    def last_known(self, id: str) -> Raw:
        """Return revision and owner of a record of which not even a tombstone is left, as far as the order has them."""
        change: Raw = Change._get_collection().find_one({"_id": id}) or {}
        return {"revision": change.get("revision", 0), "owner": owner_in(change.get("marks", ()))}

    # --- What fails --------------------------------------------------------------------------------------------------

    def put_off(self, row: Raw, error: BaseException) -> None:
        """Have a record told of again later, or set it aside after many tries."""
        kept = set_aside.failed_row(row, row["tries"], type(error).__name__)
        metrics.HOOK_FAILED.labels(self.type.name).inc()
        told = {"type": self.type.name, "id": row["record"], "tries": row["tries"], "state": kept["state"]}
        log.error("after_change_failed", **told, exc_info=error)
        set_aside.keep_row(kept)
        self.try_at = min(self.try_at, time.monotonic() + set_aside.delay_after(row["tries"]))

    def try_again(self, right: Right) -> None:
        """Try again what is due, for a moment: what is new waits for it."""
        end = time.monotonic() + TOLD_FOR
        while time.monotonic() < end and (row := set_aside.take_row(self.type.name)) is not None:
            if row["tries"] > set_aside.HOOK_TRIES:
                # Whoever had it the last time has died.
                self.put_off(row, Died())
            else:
                self.attempt(right, row, True)
        waits = self.count()
        self.try_at = time.monotonic() + (TOLD_FOR if waits else TRIED_EVERY)

    def count(self) -> int:
        """Count what is set aside, for metrics and health; return how many wait for another try."""
        found = set_aside.count_rows(self.type.name, "set_aside")
        metrics.SET_ASIDE.labels(self.type.name).set(found)
        self.trouble = f"of {found} records its hook could make nothing; see `flask hooks list`" if found else None
        return set_aside.count_rows(self.type.name, "waiting")


class Died(Exception):
    """The worker has died at each try."""


def begin_hooks(registry: Registry) -> None:
    """Have each hook that is new begin with what is written from now on. Raises `PyMongoError`."""
    begin_following(lease_of(type.name) for type in registry.values() if AFTER_CHANGE in type.hooks)
