"""What has changed among some records and accounts, and what the order makes of it: read once for a whole batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from service.changes import compaction
from service.changes.compaction import MEMBERSHIP, RecordState
from service.documents import Account, Change
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.policy import HELD, member_mark

Dirty = tuple[str, str]
"""The collection and the id of what may have changed."""
FirstAccess = Mapping[Dirty, tuple[str, ...]]
"""The access lists with which records were made."""
Maker = Callable[[int, datetime], Raw]
"""Makes a change at a number; one that tells of an end is kept until a time."""

SEEN_FIELDS = {"access": 1, "revision": 1, "purge_at": 1, "owner": 1}
ANSWERED_AT_ONCE = 1000
"""Rows that one answer of MongoDB brings, more than a batch has records: no open transaction waits for a second one."""


class News:
    """What has changed of what may have, as it is at this moment; in a transaction, at that of its snapshot."""

    def __init__(self, registry: Registry, dirty: Iterable[Dirty], made: FirstAccess | None) -> None:
        """Look at all of it, which was written, and of which some was `made` new: it counts again.

        Of None nobody knows whether it was written, and what is recorded already is left out. Their numbers are in the
        order of `dirty`.
        """
        self.is_written, self.made = made is not None, made or {}
        self.of: dict[Dirty, list[Maker]] = {one: [] for one in dirty}
        self.known: set[str] = set()
        by_type: dict[str, list[str]] = {}
        for name, id in self.of:
            by_type.setdefault(name, []).append(id)
        for name, ids in by_type.items():
            if name == MEMBERSHIP:
                self.look_at_accounts(ids)
            elif name in registry:
                self.look_at_records(registry[name], ids)
        self.makers = [maker for makers in self.of.values() for maker in makers]

    @property
    def count(self) -> int:
        """How many numbers they take."""
        return len(self.makers)

    def changes(self, first: int, end: datetime) -> list[Raw]:
        """Return the changes, from the number `first` on; those that tell of an end are kept until `end`."""
        return [make(seq, end) for seq, make in enumerate(self.makers, first)]

    def kept(self, condition: Mapping[str, Any]) -> list[Raw]:
        """Return the changes that there are, and remember that they are `known`."""
        found = list(Change._get_collection().find(condition, batch_size=ANSWERED_AT_ONCE))
        self.known.update(change["_id"] for change in found)
        return found

    def kept_by_id(self, ids: Iterable[str]) -> dict[str, Raw]:
        """Return the changes that there are of these, by id."""
        return {change["_id"]: change for change in self.kept({"_id": {"$in": list(ids)}})}

    def look_at_records(self, type: RecordType, ids: list[str]) -> None:
        """Find what has changed of records of a type."""
        found = type.collection.find({"_id": {"$in": ids}}, SEEN_FIELDS, batch_size=ANSWERED_AT_ONCE)
        stored = {row["_id"]: row for row in found}
        before = self.kept_by_id(compaction.change_id(type.name, id) for id in ids)
        changed = []
        for id in ids:
            seen = RecordState.of(stored.get(id), self.made.get((type.name, id), ()))
            previous = before.get(compaction.change_id(type.name, id))
            if compaction.is_news(seen, previous) and (self.is_written or not compaction.is_recorded(seen, previous)):
                changed.append((id, seen, previous))
        apart = [
            (id, mark, previous) for id, seen, previous in changed for mark in compaction.marks_apart(seen, previous)
        ]
        self.look_at_withdrawals(type, apart)
        for id, seen, previous in changed:
            self.of[type.name, id].append(record_maker(type.name, id, seen, previous))

    def look_at_withdrawals(self, type: RecordType, apart: Sequence[tuple[str, str, Raw | None]]) -> None:
        """Take the marks of those who are told apart of records, each with the record's id and the change before."""
        ids = [compaction.withdrawal_id(type.name, id, mark) for id, mark, _ in apart]
        earlier = self.kept_by_id(ids) if ids else {}
        for (id, mark, previous), told in zip(apart, ids, strict=True):
            self.of[type.name, id].append(withdrawal_maker(type.name, id, mark, previous, earlier.get(told)))

    def look_at_accounts(self, ids: list[str]) -> None:
        """Find what has changed of the roles and groups of accounts."""
        stored = {row["_id"]: row for row in Account._get_collection().find({"_id": {"$in": ids}}, MEMBER_FIELDS)}
        of_accounts: dict[str, dict[str, Raw]] = {id: {} for id in ids}
        for row in self.kept({"marks": {"$in": [*map(member_mark, ids)]}, "type": MEMBERSHIP}):
            of_accounts[row["record"]][compaction.principal_of(row)] = row
        for id, before in of_accounts.items():
            principals = compaction.principals_of(stored.get(id))
            for principal in compaction.changed_memberships(principals, before.values()):
                self.of[MEMBERSHIP, id].append(membership_maker(id, principal, before.get(principal)))


MEMBER_FIELDS = {**HELD, "deleted_at": 1}


def record_maker(type: str, id: str, seen: RecordState, previous: Mapping[str, Any] | None) -> Maker:
    """Return what makes the change of a record."""
    return lambda seq, end: compaction.of_record(type, id, seen, previous, seq, end)


def withdrawal_maker(
    type: str, id: str, mark: str, previous: Mapping[str, Any] | None, earlier: Mapping[str, Any] | None
) -> Maker:
    """Return what makes the change of a withdrawal."""
    return lambda seq, end: compaction.of_withdrawal(type, id, mark, previous, earlier, seq, end)


def membership_maker(account: str, principal: str, previous: Mapping[str, Any] | None) -> Maker:
    """Return what makes the change of a membership that begins or ends."""
    return lambda seq, end: compaction.of_membership(account, principal, previous, seq, end)
