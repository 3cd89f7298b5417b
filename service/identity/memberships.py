"""Memberships: who belongs to which group, and in which role.

They stand on the accounts, at most so many of each, so that whom a request acts for is still read with one look. Each
change of them is a transaction that writes to the group as well: of two that go on at the same time in one group,
or beside its deletion, MongoDB refuses one, which looks again. So what has to hold of all members of a group holds.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from service.core.errors import Cause, Forbidden, LastManager, LimitReached, NotFound, ValidationFailed
from service.documents import Account, Event, Group, Invitation
from service.documents.account import ALIVE, NOT_LOCKED
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo import transactions
from service.mongo.raw import Raw
from service.policy import MANAGER, NOT_BURIED, Identity
from service.records import deletion, store
from service.records.founding import MOST_GROUPS, enter, groups_of, leave
from service.records.reading import Reader

MOST_MEMBERS = 1000
"""Most members of a group."""
MOST_ADDED = 50
"""Most groups of an account to which others add it: the rest of its places only itself can fill."""

GroupRole = Literal["member", "manager"]


@dataclass(frozen=True, slots=True)
class Memberships:
    """The members of groups, as one identity may see and change them; a group that ends leaves a tombstone for `keep`.

    What it may is asked of MongoDB each time, not of what is known of the identity.
    """

    registry: Registry
    identity: Identity
    keep: timedelta

    def listed(self, group: str) -> list[Raw]:
        """Return the accounts of the members of a group, the longest first. Raises `NotFound` or `Forbidden`."""
        self.own_role(group)
        return member_accounts(group)

    def put(self, group: str, account: str, role: GroupRole) -> tuple[Raw, bool]:
        """Make an account a member in a role, or change its role; return it, and whether it came to be a member.

        Raises `NotFound`, `Forbidden`, `ValidationFailed`, `LimitReached` or `LastManager`.
        """
        return transactions.run_where_there_are(partial(self.put_at_once, group, account, role))

    def put_at_once(self, group: str, account: str, role: GroupRole) -> tuple[Raw, bool]:
        """Do that as a part of a transaction."""
        self.check_manages(group)
        claim(self.registry, group)
        there = Account._get_collection().find_one({"_id": account, **ALIVE}, {"groups": 1})
        if there is None:
            raise ValidationFailed([Cause("not_found", "the id of an account", pointer="/account")])
        before = role_in(there, group)
        if before is None:
            join_group(group, account, role, MOST_GROUPS if account == self.identity.account else MOST_ADDED)
        elif before != role:
            if before == MANAGER:
                self.check_not_last(group, account)
                revoke_those_of(group, account)
            give_role(group, account, role)
        return member_of(group, account), before is None

    def remove(self, group: str, account: str) -> None:
        """End a membership: one's own, or for managers anybody's; a group without members ends with it.

        Raises `NotFound`, `Forbidden` or `LastManager`.
        """
        transactions.run_where_there_are(partial(self.remove_at_once, group, account))

    def remove_at_once(self, group: str, account: str) -> None:
        """Do that as a part of a transaction."""
        if account == self.identity.account:
            self.own_role(group)
        else:
            self.check_manages(group)
        claim(self.registry, group)
        role = role_of(account, group)
        if role is None:
            raise NotFound("there is no such member")
        if Account._get_collection().find_one(others_in(group, account), {"_id": 1}) is None:
            end_group(self.registry, group, self.keep)
        elif role == MANAGER:
            self.check_not_last(group, account)
        leave_group(group, account)

    def check_manages(self, group: str) -> None:
        """Raise `NotFound` or `Forbidden` where the identity does not manage a group."""
        if self.own_role(group) != MANAGER:
            raise Forbidden("that is for the managers of the group")

    def own_role(self, group: str) -> str:
        """Return the role of the identity in a group. Raises `NotFound` or `Forbidden`."""
        role = role_of(self.identity.account, group)
        if role is None:
            if Reader(self.registry, group_type(self.registry), self.identity).find(group) is None:
                raise NotFound("there is no such group")
            raise Forbidden("that is for the members of the group")
        return role

    def check_not_last(self, group: str, account: str) -> None:
        """Raise `LastManager` where nobody else could manage the group; who is locked cannot."""
        others = {**others_in(group, account), **NOT_LOCKED}
        others["groups"] = {"$elemMatch": {"group": group, "role": MANAGER}}
        if Account._get_collection().find_one(others, {"_id": 1}) is None:
            raise LastManager("the group has other members and no other manager; make one of them a manager first")


def group_type(registry: Registry) -> RecordType:
    """Return the record type of groups."""
    return registry.of(Group)


def claim(registry: Registry, group: str) -> None:
    """Write to a group whose members are to change, so that nobody else changes them at the same time.

    Raises `NotFound` where it is being deleted.
    """
    type = group_type(registry)
    if type.collection.find_one({"_id": group, **NOT_BURIED}, {"_id": 1}) is None:
        raise NotFound("there is no such group")
    store.touch(type, [group])


def join_group(group: str, account: str, role: str, most: int = MOST_GROUPS) -> None:
    """Make an account a member of a group that was claimed. Raises `LimitReached`."""
    in_group = {"groups.group": group}
    if Account._get_collection().count_documents(in_group, limit=MOST_MEMBERS) >= MOST_MEMBERS:
        raise LimitReached(f"a group has {MOST_MEMBERS} members at most")
    enter(account, group, role, most)
    Event.record(account, "group_joined")


def leave_group(group: str, account: str) -> None:
    """End the membership of an account in a group that was claimed."""
    leave([account], group)
    revoke_those_of(group, account)
    Event.record(account, "group_left")


def give_role(group: str, account: str, role: str) -> None:
    """Give a member of a group that was claimed a role."""
    changed = Account.written({"$set": {"groups.$.role": role}})
    Account._get_collection().update_one({"_id": account, "groups.group": group}, changed)


def revoke_those_of(group: str, account: str) -> None:
    """Make the invitations void by which somebody who manages a group no more has invited others."""
    Invitation._get_collection().delete_many({"group": group, "inviter": account})


def end_group(registry: Registry, group: str, keep: timedelta) -> None:
    """Delete a group, and after the transaction what it was given."""
    type = group_type(registry)
    deletion.bury_for_release(registry, type, {"_id": group, **NOT_BURIED}, keep)
    transactions.afterwards(partial(deletion.release_or_leave, registry, type, [group], keep))


def member_accounts(group: str) -> list[Raw]:
    """Return the accounts of the members of a group, the longest first."""
    rows = Account._get_collection().find({"groups.group": group, **ALIVE}, limit=MOST_MEMBERS)
    return sorted(rows, key=lambda row: (entry_of(row, group)["since"], row["_id"]))


def member_of(group: str, account: str) -> Raw:
    """Return the account of a member."""
    found: Raw | None = Account._get_collection().find_one({"_id": account, "groups.group": group})
    if found is None:
        raise NotFound("there is no such member")
    return found


def entry_of(account: Mapping[str, Any], group: str) -> Mapping[str, Any]:
    """Return what an account has of its membership in a group; an empty one where it has none."""
    return next((held for held in account.get("groups", ()) if held["group"] == group), {})


def role_in(account: Mapping[str, Any], group: str) -> str | None:
    """Return the role of an account in a group, None for none."""
    return entry_of(account, group).get("role")


def role_of(account: str, group: str) -> str | None:
    """Return the role of an account in a group as it is now, None for none; in a transaction, as that sees it."""
    return role_in({"groups": groups_of(account)}, group)


def others_in(group: str, account: str) -> dict[str, Any]:
    """Return the filter of the other members of a group."""
    return {"groups.group": group, **ALIVE, "_id": {"$ne": account}}


def hand_over_memberships(registry: Registry, giver: str, taker: str) -> None:
    """Have an account be what another one is in its groups, as far as it has room for them.

    It can be cut short anywhere and done again. Raises `NotAuthenticated` where the taker has gone.
    """
    for held in groups_of(giver) if Group in registry.by_document else ():
        transactions.run_where_there_are(partial(hand_over_membership, registry, held["group"], giver, taker))


def hand_over_membership(registry: Registry, group: str, giver: str, taker: str) -> None:
    """Do it with one membership, if there still is one, as a part of a transaction."""
    with suppress(NotFound, LimitReached):
        claim(registry, group)
        role = role_of(giver, group)
        if role is None:
            return
        if role_of(taker, group) is None:
            enter(taker, group, role)
        elif role == MANAGER:
            give_role(group, taker, MANAGER)
        leave([giver], group)
        hand_over_invitations(group, giver, taker)


def hand_over_invitations(group: str, giver: str, taker: str) -> None:
    """Have an account be whom another one was to the invitations of a group: who made them, and who took them."""
    made, taken = {"group": group, "inviter": giver}, {"group": group, "taken_by": giver}
    Invitation._get_collection().update_many(made, {"$set": {"inviter": taker}})
    Invitation._get_collection().update_many(taken, {"$addToSet": {"taken_by": taker}})
    Invitation._get_collection().update_many(taken, {"$pull": {"taken_by": giver}})


def leave_all(registry: Registry, account: str) -> None:
    """End all memberships of an account that is being deleted; it can be cut short anywhere and done again.

    A group that it alone has managed goes on with the member who has been there longest, first of those that can log
    in; one without other members ends.
    """
    if Group not in registry.by_document:
        return
    row = Account._get_collection().find_one({"_id": account}, {"groups": 1}) or {}
    for held in row.get("groups", ()):
        work: Callable[[], None] = partial(leave_for_ever, registry, held["group"], account)
        transactions.run_where_there_are(work)


def leave_for_ever(registry: Registry, group: str, account: str) -> None:
    """End one membership of an account that is being deleted, as a part of a transaction."""
    leave([account], group)
    try:
        claim(registry, group)
    except NotFound:
        return
    others = [row for row in member_accounts(group) if row["_id"] != account]
    if not others:
        # Nobody is left to be told of the end.
        end_group(registry, group, timedelta())
    elif not any(role_in(row, group) == MANAGER for row in others):
        successor = next((row for row in others if "locked_at" not in row), others[0])
        give_role(group, successor["_id"], MANAGER)
