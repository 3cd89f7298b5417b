"""Receipts: which records a device of RxDB has sent a moment ago, so that what it may miss of them is told again.

While its push of a row is under way, RxDB drops what it pulls of that row, and never asks for it again. So its
checkpoint does not go past such a row until the answer to its push has come for certain, or been lost.
"""

from collections.abc import Sequence
from datetime import timedelta

from service.changes import order
from service.changes.corrections import LONGEST_ID
from service.core.clock import now
from service.documents import Change, PushReceipt
from service.policy import Identity

UNDER_WAY = timedelta(minutes=10)
"""How long the answer to a push may be under way: longer than any client waits for it."""
MOST_KEPT = 10_000
"""Most ids of a minute; of more the first are forgotten."""


def note_push(identity: Identity, type: str, ids: Sequence[str]) -> None:
    """Say that a push of records of a type has come from a session. All of a minute are one receipt."""
    moment = now()
    PushReceipt._get_collection().update_one(
        {"_id": f"{identity.session}/{type}/{moment:%d%H%M}"},
        {
            "$setOnInsert": {"account": identity.account, "session": identity.session, "type": type},
            "$push": {"records": {"$each": [id for id in ids if len(id) <= LONGEST_ID], "$slice": -MOST_KEPT}},
            "$min": {"seq": order.order_in(order.lease_document()).seq},
            "$set": {"expires_at": moment + UNDER_WAY},
        },
        upsert=True,
    )


def first_unsure(session: str, type: str) -> int | None:
    """Return the first number of the order at which a record has changed since a session has sent it, a moment ago.

    None where there is none.
    """
    found = []
    for receipt in PushReceipt._get_collection().find({"session": session, "type": type, "expires_at": {"$gt": now()}}):
        since = {"type": type, "record": {"$in": receipt["records"]}, "seq": {"$gt": receipt["seq"]}}
        first = Change._get_collection().find_one(since, {"seq": 1}, sort=[("seq", 1)])
        found += [first["seq"]] if first is not None else []
    return min(found, default=None)
