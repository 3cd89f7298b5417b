"""Founding of groups, and sharing with them: what a write of records has to do with who is a member of what.

Who founds a group is its first manager. That stands on the account, in the same transaction as the group.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from service.core.clock import now
from service.core.errors import Cause, LimitReached, NotAuthenticated, pointer
from service.documents.account import ALIVE, Account
from service.mongo import driver
from service.mongo.raw import Filter, Raw
from service.policy import MANAGER, group_of

MOST_GROUPS = 100
"""Most groups that an account may be a member of: each is a range of the index that its lists are read from."""


def groups_of(account: str) -> list[Raw]:
    """Return the groups that an account is a member of, as they stand on it; in a transaction, as that sees them."""
    found = driver.find_one(Account._get_collection(), {"_id": account, **ALIVE}, {"groups": 1})
    return [] if found is None else list(found.get("groups", ()))


def check_room(account: str, more: int = 1) -> None:
    """Raise `LimitReached` where an account cannot be a member of so many groups more."""
    if len(groups_of(account)) + more > MOST_GROUPS:
        raise LimitReached(f"an account is a member of {MOST_GROUPS} groups at most; leave one first")


def enter(account: str, group: str, role: str, most: int = MOST_GROUPS) -> None:
    """Make an account a member of a group that it is not in yet, if it is one of fewer than `most`.

    Raises `LimitReached`, and `NotAuthenticated` where the account has gone.
    """
    has_room: Filter = {f"groups.{most - 1}": {"$exists": False}}
    entry = {"group": group, "role": role, "since": now()}
    update = Account.written({"$push": {"groups": entry}})
    there = {"_id": account, **ALIVE, "groups.group": {"$ne": group}}
    if not Account._get_collection().update_one({**there, **has_room}, update).matched_count:
        if Account._get_collection().find_one(there, {"_id": 1}) is None:
            raise NotAuthenticated("the account is gone")
        raise LimitReached(f"an account is a member of {most} groups at most; leave one first")


def leave(accounts: Collection[str], group: str) -> None:
    """End the memberships of accounts in a group."""
    left = Account.written({"$pull": {"groups": {"group": group}}})
    Account._get_collection().update_many({"_id": {"$in": [*accounts]}}, left)


def found_group(founder: str, group: str) -> None:
    """Make the account that has stored a new group its first manager. Raises `LimitReached`."""
    enter(founder, group, MANAGER)


def groups_named(
    content: Mapping[str, Any], current: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, tuple[str, int]]]:
    """Yield the groups to which `content` gives a record and `current` does not, with their places."""
    for name in ("readers", "writers"):
        known = (current or {}).get(name, ())
        for index, principal in enumerate(content.get(name, ())):
            group = group_of(principal)
            if group is not None and principal not in known:
                yield group, (name, index)


def missing_groups(
    account: str, content: Mapping[str, Any], current: Mapping[str, Any] | None = None, others: Collection[str] = ()
) -> list[Cause]:
    """Return a cause for each group to which a record comes to be given by who is no member of it.

    So nobody can give a record to a group that is not there yet, whose id somebody else might choose. `others` are
    groups that are founded at the same time.
    """
    named = list(groups_named(content, current))
    if not named:
        return []
    known = {*(held["group"] for held in groups_of(account)), *others}
    detail = "the id of a group that you are a member of"
    return [Cause("not_found", detail, pointer=pointer(*place)) for group, place in named if group not in known]
