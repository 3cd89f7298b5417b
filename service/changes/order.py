"""The order of all changes as one document: how far it has come, and where its recorder goes on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from bson import Timestamp
from mongoengine.connection import get_connection

from service.core.errors import CursorExpired, FeedUnavailable
from service.documents import Lease

RECORDER = "recorder"
"""Of the lease in whose document the order is kept: what guards one guards the other."""


@dataclass(frozen=True, slots=True)
class Order:
    """How far the order has come.

    `seq` is the last number that was given, `floor` the last one that is forgotten, below which no client can go on.
    All that happened until `clock`, a cluster time of MongoDB, has its number, unless it is `incomplete`.
    """

    seq: int
    floor: int
    clock: Timestamp
    incomplete: bool

    def check(self, number: int) -> None:
        """Raise `CursorExpired` for a number that is older than what is remembered, or of another order.

        The beginning, 0, is of every order.
        """
        if number and not self.floor <= number <= self.seq:
            raise CursorExpired("the cursor is older than what the service remembers; begin without one")


def state_in(lease: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the state that the document of the lease holds, None where there is none yet, or but a part of one.

    A part is what a recorder writes under which somebody has deleted the document; then it begins anew.
    """
    state: Mapping[str, Any] = (lease or {}).get("state") or {}
    return state if state.keys() >= {"seq", "floor"} else None


def order_in(lease: Mapping[str, Any] | None) -> Order:
    """Return the order that the document of the lease holds; raises `FeedUnavailable` where there is none yet."""
    state = state_in(lease)
    if state is None:
        raise FeedUnavailable("nothing has been recorded yet; a worker has to run")
    return Order(state["seq"], state["floor"], state["clock"], state["comparing"] is not None)


LATE = 30.0
"""Seconds after which an order that says nothing is one that nobody records; it says something every ten."""


def check_recorded() -> None:
    """Raise `FeedUnavailable` where nobody records, by MongoDB's clock, and `PyMongoError` where it does not answer."""
    found = order_in(lease_document())
    now = get_connection().admin.command("hello")["localTime"].replace(tzinfo=UTC)
    behind = now.timestamp() - found.clock.time
    if behind > LATE:
        raise FeedUnavailable(f"the order of changes is {behind:.0f} seconds behind")


def lease_document() -> Mapping[str, Any] | None:
    """Return the document of the lease, None where nobody ever took it."""
    found: Mapping[str, Any] | None = Lease._get_collection().find_one({"_id": RECORDER}, {"state": 1})
    return found
