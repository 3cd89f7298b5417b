"""Who may do what: the one place where access is decided, as a filter and as a set.

Each record has a hidden list `access` of all who may read it: `o:` and its owner, `r:` and each principal that it was
given to. A principal is an account id, `role:<name>`, or `*` for everyone signed in. The grammar of the list stands
here and nowhere else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who acts: an account, by one of its sessions.

    `auth_time` is when the password was given, in seconds since the epoch. `str()` gives the account id.
    """

    account: str
    session: str
    auth_time: int
    roles: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.account

    @property
    def principals(self) -> list[str]:
        """Return the names under which this identity was given rights: its id and its roles."""
        return [self.account, *(f"role:{role}" for role in self.roles)]


def scope(identity: Identity, action: Action, type: RecordType, within: Within = ANY) -> Filter:
    """Return the MongoDB filter of those records of a type that an identity may `read`, may `write`, or owns (`own`).

    `within` narrows reading to what is `mine`, `shared` with the identity by id or role, or `public`. Every type has
    the same rules.
    """
    if action == "own":
        return {"owner": identity.account, **NOT_BURIED}
    if action == "write":
        writers = {"$in": [*identity.principals, EVERYONE]}
        return {"$or": [{"owner": identity.account}, {"writers": writers}], **NOT_BURIED}
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


def access_list(owner: str, content: Mapping[str, Any]) -> list[str]:
    """Return the hidden list of a record of an `owner` whose `content` names its readers and writers."""
    principals: Iterable[str] = {*content.get("readers", ()), *content.get("writers", ())}
    return [owned_by(owner), *map(given_to, sorted(principals))]


def owned_by(account: str) -> str:
    """Return the entry of the owner of a record."""
    return OWNER + account


def given_to(principal: str) -> str:
    """Return the entry of a principal that a record was given to."""
    return GIVEN + principal


def withdrawn(entry: str) -> str:
    """Return the mark for those who could read a record by this entry of its access list, and no longer can."""
    return WITHDRAWN + entry[len(GIVEN) :]


def member_mark(account: str) -> str:
    """Return the mark of what changes the roles of an account."""
    return MEMBER + account


def marks(identity: Identity, within: Within = ANY) -> list[str]:
    """Return the marks of all changes that an identity hears of, within some scopes."""
    allowed = entries(identity, within)
    return [*allowed, *dict.fromkeys(map(withdrawn, allowed)), member_mark(identity.account)]


def withdrawal(principal: str) -> dict[str, Any]:
    """Return the MongoDB update that takes away all that a principal was given of a record."""
    return {"$pull": {"readers": principal, "writers": principal, "access": given_to(principal)}}


def may(identity: Identity, action: Action, record: Mapping[str, Any]) -> bool:
    """Tell of a record that an identity may read whether it may do `action` with it as well."""
    if action == "read" or record["owner"] == identity.account:
        return True
    return action == "write" and not {*identity.principals, EVERYONE}.isdisjoint(record.get("writers", ()))
