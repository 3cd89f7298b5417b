"""Passages of the order: the changes of records behind a number, for what goes through all of them.

Hooks, webhooks and declared notifications read them, each from where it has stopped. It needs no change stream, whose
tokens the oplog rolls over: the order keeps each record's newest change for as long as the record is there, and the end
of one as long as its tombstone.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pymongo.read_concern import ReadConcern

from service.changes import order
from service.changes.order import Order
from service.core.errors import FeedUnavailable
from service.documents import Change, Lease
from service.model.record_type import RecordType
from service.mongo.raw import Filter, Raw

COMMITTED = ReadConcern("majority")
"""What no failover undoes: who went by a number that is given anew afterwards would miss what has it then."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Some changes of records in their order, and up to which number there are no others."""

    changes: Sequence[Raw]
    until: int
    newest: int
    """The last number of the order when it was read."""
    is_cut: bool
    """Whether ends of records may be missing in it: who reads has not come for longer than tombstones stay."""
    is_unread: bool = False
    """Whether there was nobody to be told of what is in it."""

    @property
    def is_last(self) -> bool:
        """Whether there was nothing behind it when it was read."""
        return self.until == self.newest


def next_passage(
    types: Collection[str],
    behind: int,
    most: int,
    of_records: bool = True,
    is_awaited: Callable[[], bool] = lambda: True,
) -> Passage:
    """Return at most so many changes of some types that come behind a number.

    Of each record it is the newest one, or its end; what was withdrawn from somebody, and memberships, are none
    `of_records`. Where `is_awaited` says that there is nobody to be told, all is passed by. Raises `PyMongoError`.
    """
    found = committed_order()
    if found is None:
        return Passage((), behind, behind, False)
    # A number that is not given yet is of an order that was before this one.
    begin = behind if behind <= found.seq else 0
    is_cut = begin != behind or 0 < begin < found.floor
    # The end is read first: who sees a number sees all lower ones, so nothing is missing until it.
    span = {"type": {"$in": sorted(types)}, "seq": {"$gt": begin, "$lte": found.seq}}
    span |= {"revision": {"$exists": True}} if of_records else {}
    # It is asked after that: who waits before a write is told of it, for its number is a higher one.
    is_unread = begin != found.seq and not is_awaited()
    changes = [] if is_unread or begin == found.seq else changes_in(span, most)
    until = found.seq if len(changes) < most else changes[-1]["seq"]
    return Passage(changes, until, found.seq, is_cut, is_unread)


def changes_in(span: Filter, most: int) -> list[Raw]:
    """Return at most so many changes in their order."""
    committed = Change._get_collection().with_options(read_concern=COMMITTED)
    return list(committed.find(span, sort=[("seq", 1)], limit=most, batch_size=most))


def records_now(registry: Mapping[str, RecordType], named: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Raw]:
    """Return those of some records that are there, by type and id, with one look-up for each type."""
    by_type: dict[str, list[str]] = {}
    for type, id in named:
        by_type.setdefault(type, []).append(id)
    found: dict[tuple[str, str], Raw] = {}
    for type, ids in by_type.items():
        there = {"_id": {"$in": ids}, "access": {"$exists": True}}
        for row in registry[type].collection.find(there, registry[type].unread):
            found[type, row["_id"]] = row
    return found


def was_written_before(stored: Raw, since: datetime) -> bool:
    """Tell whether a record was written last before a time (UTC): an order that is made anew tells of it again."""
    written = stored.get("updated_at")
    return isinstance(written, datetime) and written < since


def committed_order() -> Order | None:
    """Return how far the order has come, None where there is none yet. Raises `PyMongoError`."""
    committed = Lease._get_collection().with_options(read_concern=COMMITTED)
    try:
        return order.order_in(committed.find_one({"_id": order.RECORDER}, {"state": 1}))
    except FeedUnavailable:
        return None
