"""The feed: what has changed for an account since a checkpoint, page by page.

A page is one range of the index `(marks, type, seq)` and one look-up of the records in it, as the account may read
them at that moment: what it may not read it only hears the end of. No snapshot is needed. All up to the last number
that the order had before is there when the range is read, and a change that moves meanwhile moves behind it. Beyond it
MongoDB may show a later change and not an earlier one: it reads each mark by itself, while the recorder writes.

A membership in the range is a walk of its own, a *backfill*: one that began brings what the role or the group could
read before, one that ended takes it away.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson
from pymongo import ASCENDING

from service.changes import compaction
from service.changes.barrier import LOOK_AGAIN
from service.changes.compaction import MEMBERSHIP
from service.core.errors import FeedUnavailable, NotAuthenticated
from service.documents import Change
from service.documents.account import ALIVE, Account
from service.model.record_type import RecordType
from service.mongo import driver
from service.mongo.raw import Filter, Raw
from service.policy import (
    EVERYONE,
    HELD,
    Identity,
    Within,
    entries_of,
    given_to,
    marks,
    member_mark,
    owned_by,
    scope,
    withdrawn,
)

WITHIN: Within = ("mine", "shared")
"""What a device keeps, if it asks for nothing else."""
Gone = Literal["", "deleted", "withdrawn"]
FEW_ITEMS, MANY_ITEMS = 50, 200
"""Items that are read at once, at first and at most: as many as give about `PIECE_BYTES` of JSON."""
MOST_PASSED = 1000
"""Most changes that are read at once where many that came before tell nothing."""
PIECE_BYTES = 512 * 1024
SETTLES_WITHIN = 2.0
"""Seconds for which the recorder is waited for, when a membership has ended that it has not seen yet."""
MOST_BRANCHES = 200
"""Most ranges of an index that MongoDB merges in order; of more it would sort (`internalQueryMaxScansToExplode`)."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a client has come.

    It has all up to `seq`. `first` is the last number of the order when a walk from the beginning began: of what ended
    before, it has never heard. `backfill` are the number of the membership that is walked through, and how far that is.
    """

    seq: int = 0
    first: int = 0
    backfill: tuple[int, int] | None = None

    def at(self, seq: int) -> "Checkpoint":
        """Return the checkpoint of a client that has gone on to `seq`."""
        return Checkpoint(seq, self.first if seq < self.first else 0)

    @property
    def oldest(self) -> int:
        """The number from which on the ends of things have to be known."""
        return max(self.seq, self.first)


@dataclass(frozen=True, slots=True)
class Item:
    """A record that has changed: as it is stored where the account may read it, else why it is `gone`.

    `checkpoint` is where a client is that has got it.
    """

    type: RecordType
    id: str
    row: Raw | None
    gone: Gone
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class FeedPage:
    """The next items, the checkpoint behind them, and whether there are more now."""

    items: Sequence[Item]
    checkpoint: Checkpoint
    more: bool


class Feed:
    """What an account hears of, of some types, within some scopes.

    Who begins has nothing, and hears of no end from before; with `all_ends` of those too.
    """

    def __init__(self, account: str, types: Iterable[RecordType], within: Within, all_ends: bool = False) -> None:
        self.account, self.within, self.all_ends = account, within, all_ends
        self.types = {type.name: type for type in types}

    def page(self, checkpoint: Checkpoint, last: int, limit: int) -> FeedPage:
        """Return what follows a checkpoint, at most `limit` items; `last` is the last number of the order now.

        Without an item there are no more. Raises `NotAuthenticated` where the account has gone.
        """
        checkpoint, size = checkpoint if checkpoint.oldest else Checkpoint(0, first=last), limit
        if checkpoint.seq >= last and checkpoint.backfill is None:
            return FeedPage((), checkpoint.at(checkpoint.seq), False)
        while True:
            page = self.step(checkpoint, last, limit, size)
            if page.items or not page.more:
                return page
            checkpoint, size = page.checkpoint, min(2 * size, MOST_PASSED)

    def pages(self, checkpoint: Checkpoint, last: int, limit: int | None = None) -> Iterator[FeedPage]:
        """Yield what follows a checkpoint, at most `limit` items in all, in pages that fit into memory."""
        left, more, size = limit, True, FEW_ITEMS
        while more and left != 0:
            page = self.page(checkpoint, last, size if left is None else min(left, size))
            yield page
            left = None if left is None else left - len(page.items)
            checkpoint, more, size = page.checkpoint, page.more, fitting(page.items)

    def step(self, checkpoint: Checkpoint, last: int, limit: int, size: int) -> FeedPage:
        """Return the next piece of the walk, of `size` changes and `limit` items at most.

        It may have no item although there are more.
        """
        # Before the changes: who gains a role after this has a change of that behind them.
        identity = settled_identity(self.account, self.identity)
        if checkpoint.backfill is not None:
            membership = self.membership_at(checkpoint.backfill[0])
            if membership is not None:
                return self.backfilled(identity, checkpoint, membership, checkpoint.backfill[1], limit, size)
            checkpoint = replace(checkpoint, backfill=None)  # it has changed again, and is further on
        reach = {"$gt": checkpoint.seq, "$lte": last}
        rows = self.range(marks(identity, self.within), [*self.types, MEMBERSHIP], reach, size + 1)
        found, more = rows[:size], len(rows) > size
        for number, row in enumerate(found):
            if row["type"] == MEMBERSHIP and row["seq"] > checkpoint.first and "shared" in self.within:
                if number == 0:
                    return self.backfilled(identity, checkpoint, row, 0, limit, size)
                found, more = found[:number], True
                break
        heard = [row for row in found if self.is_heard(row, checkpoint)]
        found, heard, more = up_to(limit, found, heard, more)
        items = self.items(identity, heard, checkpoint.at)
        if items and identity.memberships and lost_memberships(self.identity(), identity.memberships):
            # What was read may have been written after a membership was lost.
            return FeedPage((), checkpoint, True)
        # Behind the last one there is nothing, so nobody has to look there again.
        seq = found[-1]["seq"] if more else max(last, checkpoint.seq)
        return FeedPage(items, checkpoint.at(seq), more)

    def backfilled(
        self, identity: Identity, checkpoint: Checkpoint, membership: Raw, after: int, limit: int, size: int
    ) -> FeedPage:
        """Return the next piece of the walk through what a membership gives, or took away when it ended."""
        seq, given = membership["seq"], given_to(compaction.principal_of(membership))
        begins = compaction.is_held(membership)
        # What stands behind the membership comes by itself where it lasts; where it ended, nobody looks there.
        told, bound = ([given], {"$lt": seq}) if begins else ([given, withdrawn(given)], {})
        # One after the other: what is withdrawn meanwhile goes from the first to the second.
        rows = [row for mark in told for row in self.range([mark], [*self.types], {"$gt": after, **bound}, size + 1)]
        found, more = sorted(rows, key=lambda row: row["seq"])[:size], len(rows) > size
        heard = [row for row in found if not (begins and compaction.is_end(row))]
        found, heard, more = up_to(limit, found, heard, more)
        items = self.items(identity, heard, lambda at: replace(checkpoint, backfill=(seq, at)), told)
        if begins:
            items = [item for item in items if item.row is not None]
        return FeedPage(
            items, replace(checkpoint, backfill=(seq, found[-1]["seq"])) if more else checkpoint.at(seq), True
        )

    def is_heard(self, change: Raw, checkpoint: Checkpoint) -> bool:
        """Tell whether a client at a checkpoint hears of a change: of an end before it began it need not."""
        if change["type"] == MEMBERSHIP:
            return False
        return self.all_ends or change["seq"] > checkpoint.first or not compaction.is_end(change)

    def items(
        self,
        identity: Identity,
        rows: Sequence[Raw],
        checkpoint_at: Callable[[int], Checkpoint],
        told: Sequence[str] = (),
    ) -> list[Item]:
        """Return what the changes say, each record once; those who hear of it by the marks `told`, or by their own."""
        newest: dict[tuple[str, str], Raw] = {}
        for change in rows:
            # At its last number: a client that is cut off before it has to come by it again.
            newest.pop((change["type"], change["record"]), None)
            newest[change["type"], change["record"]] = change
        found = self.readable(identity, newest)
        items = []
        own, told = own_marks(self.account), told or marks(identity, self.within)
        held = held_memberships(self.account) if len(found) < len(newest) else {}
        for (name, id), change in newest.items():
            row = found.get((name, id))
            if row is None and not compaction.can_have_it(change, told, held, own):
                continue
            if row is not None and not self.types[name].schema.is_readable(row):
                # What a device has of it stays as it is, until somebody has mended what is stored.
                continue
            gone: Gone = "" if row is not None else "deleted" if change.get("gone") else "withdrawn"
            items.append(Item(self.types[name], id, row, gone, checkpoint_at(change["seq"])))
        return items

    def readable(self, identity: Identity, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Raw]:
        """Return those of the records named that the identity may read, by type and id: one query for each type."""
        ids: dict[str, list[str]] = {}
        for name, id in wanted:
            ids.setdefault(name, []).append(id)
        found: dict[tuple[str, str], Raw] = {}
        for name, named in ids.items():
            type = self.types[name]
            condition = {"_id": {"$in": named}, **scope(identity, "read", type, self.within)}
            found |= {(name, row["_id"]): row for row in driver.find(type.collection, condition, type.unread)}
        return found

    def ended(self, wanted: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of the records named, by type and id, that the account could read once and no longer can.

        As far as the order remembers; of what it never had a right to nobody is told that it was there.
        """
        held = held_memberships(self.account)
        ids: dict[str, list[str]] = {}
        for name, id in wanted:
            ids.setdefault(name, []).append(id)
        return {
            (name, change["record"])
            for name, named in ids.items()
            for change in changes_had(self.account, held, name, named)
        }

    # --- What MongoDB is asked ---------------------------------------------------------------------------------------

    def identity(self) -> Identity:
        """Return the account as it is now, with its memberships; raises `NotAuthenticated` where it has gone."""
        found = driver.find_one(Account._get_collection(), {"_id": self.account, **ALIVE}, HELD)
        if found is None:
            raise NotAuthenticated("the account has gone")
        return Identity.of(found)

    def range(self, told: Sequence[str], types: Sequence[str], seq: Filter, limit: int) -> list[Raw]:
        """Return the first changes within bounds of their numbers that one of the marks hears of, in their order."""
        size = max(1, MOST_BRANCHES // max(1, len(types)))
        found: dict[str, Raw] = {}
        for begin in range(0, len(told), size):
            condition = {"marks": {"$in": told[begin : begin + size]}, "type": {"$in": types}, "seq": seq}
            rows = driver.find(Change._get_collection(), condition, None, [("seq", ASCENDING)], limit, BY_MARK)
            found |= {row["_id"]: row for row in rows}
        return sorted(found.values(), key=lambda row: row["seq"])[:limit]

    def membership_at(self, seq: int) -> Raw | None:
        """Return the membership of the account that changed at a number, if it has not changed since."""
        return driver.find_one(Change._get_collection(), {**memberships_in_order(self.account), "seq": seq})


def settled_identity(account: str, look: Callable[[], Identity]) -> Identity:
    """Return the identity of an account, which `look` finds, with those of its memberships that the order has.

    It has the end of all others then. A membership that came and went before the recorder looked has no place in the
    order, so nothing may be told by it, and nothing may be passed by while one is away that will be back unseen. Raises
    `FeedUnavailable` where the recorder does not come so far in time, and what `look` does.
    """
    end = time.monotonic() + SETTLES_WITHIN
    while True:
        # Before the account: what begins in between is left out, and comes by a change of its own.
        recorded = {name for name, spans in held_memberships(account).items() if spans[-1][1] is None}
        identity = look()
        if not lost_memberships(identity, recorded):
            return identity.within(recorded)
        if time.monotonic() >= end:
            raise FeedUnavailable("a membership of the account has ended a moment ago")
        time.sleep(LOOK_AGAIN)


def held_memberships(account: str) -> dict[str, Any]:
    """Return from where to where each membership of an account was held, by principal, as far as the order has it."""
    rows = driver.find(Change._get_collection(), memberships_in_order(account))
    return {compaction.principal_of(row): row["held"] for row in rows}


def own_marks(account: str) -> set[str]:
    """Return the marks by which an account, or everybody, hears of something without a membership."""
    return {owned_by(account), *entries_of(account), *entries_of(EVERYONE)}


def changes_had(account: str, held: Mapping[str, Any], type: str, ids: Sequence[str], behind: int = 0) -> Iterator[Raw]:
    """Yield the changes of some records behind a number, in their order, that tell of what an account can have had.

    `held` are the spans of its memberships, as far as the order remembers.
    """
    own = own_marks(account)
    told = [withdrawn(given_to(principal)) for principal in (account, EVERYONE, *held)]
    asked = compaction.changes_of(type, ids, told, behind)
    for change in Change._get_collection().find(asked, sort=[("seq", ASCENDING)]):
        if compaction.can_have_it(change, change["marks"], held, own):
            yield change


def memberships_in_order(account: str) -> Filter:
    """Return the filter of the memberships of an account."""
    return {"marks": member_mark(account), "type": MEMBERSHIP}


def fitting(items: Sequence[Item]) -> int:
    """Return how many records make a page, if they are like these."""
    size = sum(len(orjson.dumps(item.type.schema.dump(item.row))) for item in items[:5] if item.row is not None)
    average = size // min(5, len(items)) if items else 0
    return max(1, min(MANY_ITEMS, PIECE_BYTES // max(average, 1)))


def up_to(limit: int, found: list[Raw], heard: list[Raw], more: bool) -> tuple[list[Raw], list[Raw], bool]:
    """Return the changes that were `found`, those of them that are `heard` of, and whether there are more.

    Beyond `limit` that are heard of, all the rest is for the next time.
    """
    return (found, heard, more) if len(heard) <= limit else (heard[:limit], heard[:limit], True)


def lost_memberships(identity: Identity, before: Iterable[str]) -> set[str]:
    """Return those of some memberships that an identity has no more."""
    return {*before} - {*identity.memberships}


BY_MARK = "marks_1_type_1_seq_1"
"""The index of the order (`documents/change.py`)."""
