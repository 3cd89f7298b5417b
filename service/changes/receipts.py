"""Receipts: which records a device of RxDB has sent a moment ago, so that what it may miss of them is told again.

While its push of a row is under way, RxDB drops what it pulls of that row, and never asks for it again. So its
checkpoint does not go past such a row until the answer to its push has come for certain, or been lost.
"""

from collections.abc import Sequence
from datetime import timedelta

from service.changes import order
from service.changes.corrections import LONGEST_ID
from service.changes.feed import changes_had, held_memberships
from service.core.clock import now
from service.documents import PushReceipt
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


def first_unsure(identity: Identity, type: str) -> int | None:
    """Return the first number of the order at which a record has changed since a session has sent it, a moment ago.

    None where there is none. A device can send any id: changes of what its account could never have do not count.
    """
    asked = {"session": identity.session, "type": type, "expires_at": {"$gt": now()}}
    receipts = list(PushReceipt._get_collection().find(asked))
    held = held_memberships(identity.account) if receipts else {}
    firsts = (next(changes_had(identity.account, held, type, sent["records"], sent["seq"]), None) for sent in receipts)
    return min((first["seq"] for first in firsts if first is not None), default=None)
