"""Corrections: what the devices of an account are told once more, because what they sent of it was not stored."""

from collections.abc import Iterable
from datetime import timedelta

from pymongo import UpdateOne

from service.changes import order
from service.core.clock import now
from service.documents import Correction

LONGEST_ID = 200
"""Most characters of an id that is remembered: one that was made up may have any."""

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


def due(account: str, since: int) -> dict[str, list[str]]:
    """Return what the devices of an account that come from a number of the order are told once more: ids by type."""
    found: dict[str, list[str]] = {}
    for row in Correction._get_collection().find({"account": account, "seq": {"$gte": since}}):
        found.setdefault(row["type"], []).append(row["record"])
    return found
