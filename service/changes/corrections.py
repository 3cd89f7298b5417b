"""Corrections: what the devices of an account are told once more, because what they sent of it was not stored."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import islice

from pymongo import UpdateOne

from service.changes import order
from service.core.clock import now
from service.documents import Correction

LONGEST_ID = 200
"""Most characters of an id that is remembered of a push: one that was made up may have any."""

Named = tuple[str, str]
"""The type and the id of a record, or of what a device takes for one."""


def remember(account: str, named: Iterable[Named], keep: timedelta) -> None:
    """Have the next pull of each device of an account tell how these records are; for `keep`, as all ends are told."""
    seq = order.order_in(order.lease_document()).seq
    said = {"$set": {"seq": seq, "expires_at": now() + keep}}
    operations = [
        UpdateOne(
            {"_id": f"{account}/{type}/{id}"},
            {**said, "$setOnInsert": {"account": account, "type": type, "record": id}},
            upsert=True,
        )
        for type, id in named
        if len(id) <= LONGEST_ID
    ]
    if operations:
        Correction._get_collection().bulk_write(operations, ordered=False)


def due(account: str, type: str, since: int, at_once: int) -> Iterator[Sequence[str]]:
    """Yield what the devices of an account that come from a number of the order are told once more of a type.

    These are ids, some `at_once`: a device can have as many remembered as it likes.
    """
    asked = {"account": account, "type": type, "seq": {"$gte": since}}
    with closing(Correction._get_collection().find(asked, {"record": 1}, batch_size=at_once)) as rows:
        while some := [row["record"] for row in islice(rows, at_once)]:
            yield some
