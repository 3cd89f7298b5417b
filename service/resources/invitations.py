"""Invitations to groups: managers make, see and revoke them, and whoever has one accepts it."""

from typing import Any

import orjson
from pydantic import Field

from service.context import g
from service.core.errors import Cause, ValidationFailed
from service.http.arguments import Arguments, take
from service.http.languages import asked_language
from service.http.openapi import operation
from service.http.web import Answer, json_answer
from service.identity.invitations import MOST_USES, MadeInvitation, Offer
from service.identity.memberships import GroupRole, entry_of
from service.identity.schemas import INVITATION, OWN_MEMBERSHIP, listed
from service.resources.addresses import EmailText
from service.resources.groups import MEMBERS_ALONE, look_up_anew, own_memberships
from service.resources.resource import Resource
from service.security import current_identity, security


class NewInvitation(Arguments):
    """The body that invites: anybody who has the code, so often, or who has a verified address."""

    email: EmailText | None = None
    role: GroupRole = "member"
    uses: int = Field(
        default=1,
        ge=1,
        le=MOST_USES,
        description="how many accounts may join by it; one where `email` is named",
        examples=[5],
    )


def invitation_list(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the invitations to a group."""
    return listed("InvitationList", INVITATION.json_schema("read"))


def made_invitation(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of an invitation with its code and its link, which are told once."""
    shown = INVITATION.json_schema("read")
    secret = {
        "code": {"type": "string", "description": "to be typed, with dashes or without; told this once"},
        "link": {"type": "string", "description": "leads into the app by a page of the service; told this once"},
    }
    properties, required = {**shown["properties"], **secret}, [*shown["required"], *secret]
    return {**shown, "title": "MadeInvitation", "properties": properties, "required": required}


def with_secret(shown: dict[str, Any], made: MadeInvitation) -> Answer:
    """Return the answer that tells the code and the link of an invitation; what is kept for a retry has neither."""
    answer = json_answer({**shown, "code": made.code, "link": made.link}, 201)
    answer.kept_body = orjson.dumps(shown)
    return answer


def told_again(kept: Answer) -> Answer:
    """Return the kept answer with the code and the link that were told with it. Raises `NotFound`."""
    shown = orjson.loads(kept.get_data())
    return kept if kept.status_code >= 400 else with_secret(shown, security().invitations.told_again(shown["id"]))


class GroupInvitationList(Resource):
    """The invitations to a group."""

    @operation(
        "List the open invitations to a group",
        name="listGroupInvitations",
        answer={200: invitation_list},
        problems=MEMBERS_ALONE,
    )
    def get(self, id: str) -> dict[str, Any]:
        """Return those that can still be accepted, the oldest first, without their codes; for managers."""
        rows = security().invitations.listed(own_memberships(), id)
        return {"items": [INVITATION.dump(row) for row in rows]}

    @operation(
        "Invite to a group",
        name="createGroupInvitation",
        body=NewInvitation,
        answer={201: made_invitation},
        problems=[*MEMBERS_ALONE, "limit_reached", "too_many_requests", "not_supported"],
        replayed=lambda kept: told_again(kept),
    )
    def post(self, id: str) -> Answer:
        """Make an invitation, and send it where an address is named; for managers."""
        sent = take(NewInvitation)
        if sent.email is not None and sent.uses != 1:
            raise ValidationFailed([Cause("not_allowed", "1 beside an address", pointer="/uses")])
        offer = Offer(sent.role, sent.uses, sent.email)
        made = security().invitations.make(own_memberships(), id, offer, asked_language(), g.address)
        return with_secret(INVITATION.dump(made.stored), made)


class GroupInvitationItem(Resource):
    """One invitation to a group."""

    @operation(
        "Revoke an invitation to a group",
        name="revokeGroupInvitation",
        answer={204: None},
        problems=MEMBERS_ALONE,
    )
    def delete(self, id: str, invitation: str) -> tuple[None, int]:
        """Make an invitation void; for managers, whoever of them made it. Who has joined by it stays."""
        security().invitations.revoke(own_memberships(), id, invitation, g.address)
        return None, 204


class InvitationItem(Resource):
    """An invitation in the hands of somebody who is invited."""

    @operation(
        "Accept an invitation to a group",
        name="acceptInvitation",
        tag="groups",
        answer={200: OWN_MEMBERSHIP, 201: OWN_MEMBERSHIP},
        problems=["not_found", "limit_reached", "too_many_requests"],
    )
    def post(self, code: str) -> tuple[dict[str, Any], int]:
        """Join a group by the code, or the token of the link, that one was given. Done twice it is as done once."""
        row, group, is_new = security().invitations.accept(own_memberships(), code, g.address)
        look_up_anew(str(current_identity))
        return OWN_MEMBERSHIP.dump(dict(entry_of(row, group))), 201 if is_new else 200
