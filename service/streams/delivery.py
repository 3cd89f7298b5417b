"""Delivery: a change on its way to all who hear of it, with what is looked up and made once for all of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from service.changes import compaction
from service.changes.feed import WITHIN
from service.documents import Account
from service.documents.account import ALIVE
from service.model.registry import Registry
from service.mongo import driver
from service.mongo.raw import Raw
from service.policy import HELD, Identity, entries


class Delivery:
    """One change, and the record as it is `now`.

    That is None where nobody may read it any more, nobody asks for it, or it cannot be told in JSON.
    """

    __slots__ = ("bodies", "change", "id", "is_end", "is_membership", "now", "readers", "seq", "type")

    def __init__(self, change: Mapping[str, Any]) -> None:
        self.change = change
        self.seq: int = change["seq"]
        self.type: str = change["type"]
        self.id: str = change["record"]
        self.is_membership = self.type == compaction.MEMBERSHIP
        self.is_end = not self.is_membership and compaction.is_end(change)
        self.now: Raw | None = None
        self.readers: Mapping[str, frozenset[str]] = {}
        """By account, the entries of those that were looked up anew."""
        self.bodies: dict[Any, bytes] = {}

    @property
    def is_overtaken(self) -> bool:
        """Whether the record has been written since: who may read it now may have lost a role before that."""
        return self.now is not None and (self.is_end or self.now["revision"] > self.change["revision"])

    @property
    def gone(self) -> str:
        """Why the record is gone, for those who may read it no more."""
        return "deleted" if self.change.get("gone") else "withdrawn"

    def body(self, key: Any, make: Callable[[], bytes]) -> bytes:
        """Return what is sent of it under a key: made when it is asked for first."""
        found = self.bodies.get(key)
        if found is None:
            found = self.bodies[key] = make()
        return found


def look_up(registry: Registry, deliveries: Iterable[Delivery]) -> None:
    """Find the records of deliveries as they are now: one query for each type."""
    by_type: dict[str, dict[str, list[Delivery]]] = {}
    for delivery in deliveries:
        by_type.setdefault(delivery.type, {}).setdefault(delivery.id, []).append(delivery)
    for name, by_id in by_type.items():
        # A tombstone has no access list.
        there = {"_id": {"$in": [*by_id]}, "access": {"$exists": True}}
        type = registry[name]
        for row in filter(type.schema.is_readable, driver.find(type.collection, there, type.unread)):
            for delivery in by_id[row["_id"]]:
                delivery.now = row


def entries_now(accounts: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return by which entries of access lists accounts may read at this moment; those that are gone by none."""
    named = list(accounts)
    rows = driver.find(Account._get_collection(), {"_id": {"$in": named}, **ALIVE}, HELD)
    found = {row["_id"]: Identity.of(row) for row in rows}
    return {id: frozenset(entries(found[id], WITHIN)) if id in found else frozenset() for id in named}
