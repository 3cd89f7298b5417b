"""Who may do what: the one place where access is decided, as a filter and as a set.

Each record has a hidden list `access` of all who may read it: `o:` and its owner, `r:` and each principal that it was
given to; of a group there is also the mark of who has founded it, which gives no right. A principal is an account id,
`role:<name>`, `group:<id>`, or `*` for everyone signed in. The grammar of the list stands here and nowhere else. What
belongs to a group (`group:<id>` is its owner) is given to its members, and its managers act as its owner.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from service.model.record_type import RecordType
from service.mongo.raw import Filter

Action = Literal["read", "write", "own"]
Within = Sequence[Literal["mine", "shared", "public"] | str]

EVERYONE = "*"
OWNER, GIVEN = "o:", "r:"
WITHDRAWN, MEMBER = "x:", "a:"
ANY: Within = ("mine", "shared", "public")
NOT_BURIED: Filter = {"purge_at": {"$exists": False}}
ROLE, GROUP = "role:", "group:"
MANAGER = "manager"
"""The role of a member of a group who acts for it."""
HELD = {"roles": 1, "groups": 1}
"""The stored fields of an account that say what it is a member of."""
ADMIN = "admin"
"""The role of those who may enter the console, and the scope that they have there alone: the records of all."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who acts: an account, by one of its sessions.

    `auth_time` is when the password was given, in seconds since the epoch; `groups` are the ids of those that it is a
    member of, `managed` of those for which it acts. `is_admin` tells that it has the scope `admin`, which comes with
    no token: the console alone gives it. `str()` gives the account id.
    """

    account: str
    session: str
    auth_time: int
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    managed: tuple[str, ...] = ()
    is_admin: bool = False

    @classmethod
    def of(cls, account: Mapping[str, Any], session: str = "", auth_time: int = 0) -> "Identity":
        """Return the identity of a stored account, of which at least `HELD` was read."""
        groups = account.get("groups", ())
        managed = tuple(held["group"] for held in groups if held["role"] == MANAGER)
        named = tuple(held["group"] for held in groups)
        return cls(account["_id"], session, auth_time, tuple(account.get("roles", ())), named, managed)

    def __str__(self) -> str:
        return self.account

    @property
    def principals(self) -> list[str]:
        """Return the names under which this identity was given rights: its id, its roles and its groups."""
        return [self.account, *self.memberships]

    @property
    def memberships(self) -> list[str]:
        """Return the principals that it is a member of."""
        return [*(ROLE + role for role in self.roles), *map(group_principal, self.groups)]

    def within(self, memberships: Collection[str]) -> "Identity":
        """Return the identity with those of its memberships alone."""
        roles = tuple(role for role in self.roles if ROLE + role in memberships)
        groups = tuple(group for group in self.groups if group_principal(group) in memberships)
        return replace(self, roles=roles, groups=groups, managed=tuple(one for one in self.managed if one in groups))

    @property
    def in_console(self) -> "Identity | None":
        """Return the identity with the scope `admin`; None where its account has not the role."""
        return replace(self, is_admin=True) if ADMIN in self.roles else None

    @property
    def owners(self) -> list[str]:
        """Return the owners of records that it acts for: itself, and the groups that it manages."""
        return [self.account, *map(group_principal, self.managed)]


def scope(identity: Identity, action: Action, type: RecordType, within: Within = ANY) -> Filter:
    """Return the MongoDB filter of those records of a type that an identity may `read`, may `write`, or owns (`own`).

    `within` narrows reading to what is `mine`, `shared` with the identity by id, role or group, or `public`. Every type
    has the same rules. The scope `admin` is that of all records which are not deleted, whatever `within` says; it is
    no set of entries, so what goes by these (sync, live events, search) knows nothing of it.
    """
    if identity.is_admin:
        return {**NOT_BURIED}
    if action == "own":
        return {"owner": {"$in": identity.owners}, **NOT_BURIED}
    if action == "write":
        writers = {"$in": [*identity.principals, EVERYONE]}
        return {"$or": [{"owner": {"$in": identity.owners}}, {"writers": writers}], **NOT_BURIED}
    # The hidden list of a tombstone is gone, so that reading finds none.
    return {"access": {"$in": entries(identity, within)}}


def entries(identity: Identity, within: Within = ANY) -> list[str]:
    """Return the set whose intersection with a record's access list means that the identity may read it."""
    found = [OWNER + identity.account] if "mine" in within else []
    if "shared" in within:
        found += [GIVEN + principal for principal in identity.principals]
    if "public" in within:
        found.append(GIVEN + EVERYONE)
    return found


def access_list(owner: str, content: Mapping[str, Any], before: Sequence[str] = ()) -> list[str]:
    """Return the hidden list of a record of an `owner` whose `content` names its readers and writers.

    Of the list `before` the mark of a founder stays.
    """
    principals = {*content.get("readers", ()), *content.get("writers", ())}
    if owner.startswith(GROUP):
        principals.add(owner)
    return [owned_by(owner), *map(given_to, sorted(principals)), *filter(is_withdrawn, before)]


def founded_by(account: str) -> str:
    """Return the mark of who has founded a group: not its owner, and perhaps no member when somebody looks first."""
    return withdrawn(given_to(account))


def group_principal(group: str) -> str:
    """Return the principal that stands for the members of a group."""
    return GROUP + group


def group_of(principal: str) -> str | None:
    """Return the group for whose members a principal stands, None for any other."""
    return principal[len(GROUP) :] if principal.startswith(GROUP) else None


def owned_by(account: str) -> str:
    """Return the entry of the owner of a record."""
    return OWNER + account


def held_by(owner: str) -> Filter:
    """Return the filter of the records of one owner, which the index of each sort serves."""
    return {"access": owned_by(owner)}


def owner_in(entries: Sequence[str]) -> str | None:
    """Return the account that owns a record with such an access list, None where nobody does."""
    return next((entry[len(OWNER) :] for entry in entries if entry.startswith(OWNER)), None)


def given_to(principal: str) -> str:
    """Return the entry of a principal that a record was given to."""
    return GIVEN + principal


def withdrawn(entry: str) -> str:
    """Return the mark for those who could read a record by this entry of its access list, and no longer can."""
    return WITHDRAWN + entry[len(GIVEN) :]


def is_withdrawn(mark: Any) -> bool:
    """Tell whether a mark is that of those who can read a record no longer; other software may have stored no text."""
    return isinstance(mark, str) and mark.startswith(WITHDRAWN)


def member_mark(account: str) -> str:
    """Return the mark of what changes the roles and groups of an account."""
    return MEMBER + account


def heard_by(mark: str) -> str:
    """Return the principal that hears of what has a mark; of one of an owner or a member that is an account."""
    return mark[len(OWNER) :]


def named_by(principals: Collection[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the accounts, the roles and the groups that some principals stand for."""
    roles = [one[len(ROLE) :] for one in principals if one.startswith(ROLE)]
    groups = [one[len(GROUP) :] for one in principals if one.startswith(GROUP)]
    return [one for one in principals if ":" not in one and one != EVERYONE], roles, groups


def marks(identity: Identity, within: Within = ANY) -> list[str]:
    """Return the marks of all changes that an identity hears of, within some scopes."""
    allowed = entries(identity, within)
    return [*allowed, *dict.fromkeys(map(withdrawn, allowed)), member_mark(identity.account)]


def withdrawal(principal: str) -> dict[str, Any]:
    """Return the MongoDB update that takes away all that a principal was given of a record."""
    return {"$pull": {"readers": principal, "writers": principal, "access": {"$in": entries_of(principal)}}}


def entries_of(principal: str) -> list[str]:
    """Return what can stand of a principal in access lists."""
    return [given_to(principal), withdrawn(given_to(principal))]


def may(identity: Identity, action: Action, record: Mapping[str, Any]) -> bool:
    """Tell of a record that an identity may read whether it may do `action` with it as well."""
    if identity.is_admin:
        return True
    if action == "read" or record["owner"] in identity.owners:
        return True
    return action == "write" and not {*identity.principals, EVERYONE}.isdisjoint(record.get("writers", ()))
