"""Members of groups: who they are, who comes in, who goes."""

from typing import Any

from pydantic import Field

from service.context import current_globals, current_registry
from service.http.arguments import Arguments, take
from service.http.openapi import operation
from service.identity.memberships import GroupRole, Memberships, entry_of
from service.identity.schemas import MEMBER, listed
from service.mongo import transactions
from service.mongo.raw import Raw
from service.resources.resource import Resource, tombstones_kept
from service.security import security

MEMBERS_ALONE = ("forbidden", "not_found")


class NewMember(Arguments):
    """The body that makes an account a member of a group, or gives a member another role."""

    account: str = Field(max_length=64, description="account id", examples=["6926c0de5a1b2c3d4e5f6071"])
    role: GroupRole = "member"


def member_list(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the members of a group."""
    return listed("MemberList", MEMBER.json_schema("read"))


class GroupMemberList(Resource):
    """The members of a group."""

    @operation(
        "List the members of a group", name="listGroupMembers", answer={200: member_list}, problems=MEMBERS_ALONE
    )
    def get(self, id: str) -> dict[str, Any]:
        """Return all members, the longest first; for members."""
        return {"items": [as_member(row, id) for row in own_memberships().listed(id)]}

    @operation(
        "Add a member to a group, or change the role of one",
        name="putGroupMember",
        body=NewMember,
        answer={200: MEMBER, 201: MEMBER},
        problems=[*MEMBERS_ALONE, "last_manager", "limit_reached"],
    )
    def post(self, id: str) -> tuple[dict[str, Any], int]:
        """Make an account a member in a role, or change its role; for managers."""
        sent = take(NewMember)
        row, is_new = own_memberships().put(id, sent.account, sent.role)
        look_up_anew(sent.account)
        return as_member(row, id), 201 if is_new else 200


class GroupMemberItem(Resource):
    """One member of a group."""

    @operation(
        "Remove a member from a group, or leave it",
        name="removeGroupMember",
        answer={204: None},
        problems=[*MEMBERS_ALONE, "last_manager"],
    )
    def delete(self, id: str, account: str) -> tuple[None, int]:
        """End a membership: the own one (`me` stands for it), or for managers anybody's. The last one to go ends it."""
        account = str(current_globals().identity) if account == "me" else account
        own_memberships().remove(id, account)
        look_up_anew(account)
        return None, 204


def own_memberships() -> Memberships:
    """Return the memberships as the one who asks may see and change them."""
    return Memberships(current_registry(), current_globals().identity, tombstones_kept())


def look_up_anew(account: str) -> None:
    """Have the sessions of an account looked up anew in this process, when what was done is committed."""
    transactions.afterwards(lambda: security().sessions.forget(account))


def as_member(row: Raw, group: str) -> dict[str, Any]:
    """Return a stored account as a member of a group in JSON form."""
    entry = entry_of(row, group)
    told: Raw = {"account": row["_id"], "role": entry["role"], "since": entry["since"]}
    return MEMBER.dump({**told, **{name: row[name] for name in ("username", "display_name") if name in row}})
