"""Sign-in by a provider, and the identities by which the own account can be entered."""

from typing import Any

from pydantic import Field

from service.context import g
from service.core.errors import Cause, ValidationFailed
from service.http.arguments import Arguments, take
from service.http.beforehand import beforehand
from service.http.openapi import operation
from service.identity.id_tokens import LONGEST_ID_TOKEN, Asserted
from service.identity.schemas import dump_identity, linked_identity, listed
from service.identity.sessions import device_of
from service.identity.web_sign_in import LONGEST_CODE, LONGEST_VERIFIER
from service.resources.accounts import ask_all_but_guests, ask_for_recent_login, own_account
from service.resources.auth import Device, TokenAnswer
from service.resources.resource import Resource
from service.security import current_identity, security

AS_SIGNED = "the ID token, as the provider has signed it"


class BesideTokenArguments(Arguments):
    """What an app has beside the ID token of a provider after somebody signed in there."""

    nonce: str | None = Field(
        default=None,
        max_length=500,
        description="the nonce that the app has made, never its hash",
    )
    authorization_code: str | None = Field(
        default=None, max_length=4000, description="the code that came beside the token, which is held to it"
    )


class ProviderSignInArguments(BesideTokenArguments):
    """The body of a sign-in by a provider."""

    id_token: str = Field(max_length=LONGEST_ID_TOKEN, description=AS_SIGNED)
    device: Device = None


class NewIdentityArguments(BesideTokenArguments):
    """The body of a new identity: with an ID token, or the code of a sign-in in a browser."""

    provider: str = Field(max_length=40, examples=["google"])
    id_token: str | None = Field(default=None, max_length=LONGEST_ID_TOKEN, description=AS_SIGNED)
    code: str | None = Field(default=None, max_length=LONGEST_CODE, description="in place of the token")
    code_verifier: str | None = Field(default=None, max_length=LONGEST_VERIFIER, description="with the code")


def identity_list(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the list of identities."""
    return listed("IdentityList", linked_identity())


def asserted_by(name: str, token: str, sent: BesideTokenArguments) -> Asserted:
    """Return who a token is about: see `LinkedIdentities.asserted`."""
    return security().linked_identities.asserted(name, token, sent.nonce, sent.authorization_code, g.address)


class ProviderSignIn(Resource):
    """Where an ID token of a provider is exchanged for tokens."""

    @operation(
        "Sign in by a provider",
        name="signInByProvider",
        tag="auth",
        public=True,
        body=ProviderSignInArguments,
        answer={200: TokenAnswer},
        problems=[
            *("bad_credentials", "second_factor_required", "forbidden", "not_found", "account_exists"),
            *("too_many_requests", "provider_unavailable"),
        ],
    )
    def post(self, name: str) -> dict[str, Any]:
        """Start a session of the account that is linked to issuer and subject; somebody new gets a new account."""
        sent = take(ProviderSignInArguments)
        who = asserted_by(name, sent.id_token, sent)
        linked = security().linked_identities
        account = linked.sign_in(who, g.address)
        # First: a second factor may be asked for, and the code is good for minutes.
        linked.redeem_later(account["_id"], who, sent.authorization_code)
        return security().enter(account, g.address, sent.device, who.way_in)


class IdentityList(Resource):
    """By whom the account of the one who asks can be entered."""

    @operation("List the own identities", name="listIdentities", answer={200: identity_list})
    def get(self) -> dict[str, Any]:
        """Return all identities of the own account, in the order in which they were linked."""
        return {"items": [dump_identity(identity) for identity in own_account().get("identities", [])]}

    @operation(
        "Link an identity of a provider",
        name="linkIdentity",
        body=NewIdentityArguments,
        answer={200: linked_identity, 201: linked_identity},
        headers={201: ["Location"]},
        problems=[
            *("reauthentication_required", "bad_credentials", "not_found", "already_exists"),
            *("too_many_requests", "provider_unavailable"),
        ],
        beforehand=lambda: newly_asserted(),
    )
    def post(self) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Have the own account entered by it too; `200` where it is linked already. A guest becomes a full account.

        It asks for a login of the last five minutes, but of a guest.
        """
        who = beforehand(newly_asserted)
        account = str(current_identity)
        device = device_of(current_identity.session)
        linked = security().linked_identities
        identity, is_new = linked.link(account, who, g.address, device)
        linked.redeem_later(account, who, take(NewIdentityArguments).authorization_code)
        place = {"Location": f"/v1/accounts/me/identities/{identity['id']}"}
        return dump_identity(identity), 201 if is_new else 200, place if is_new else {}


def newly_asserted() -> Asserted:
    """Return who the token in the request at hand is about. Raises `ReauthenticationRequired` too."""
    sent = take(NewIdentityArguments)
    ask_all_but_guests(own_account(), "a new identity")
    if sent.id_token is not None and sent.code is None and sent.code_verifier is None:
        return asserted_by(sent.provider, sent.id_token, sent)
    beside = sent.nonce is not None or sent.authorization_code is not None
    if sent.id_token is None and sent.code is not None and sent.code_verifier is not None and not beside:
        return security().web_sign_in.exchanged(sent.code, sent.code_verifier, g.address, sent.provider)
    one = "either an ID token, with what came beside it, or a code with its verifier"
    raise ValidationFailed([Cause("required", one, pointer="/id_token")])


class IdentityItem(Resource):
    """One of them."""

    @operation(
        "Remove one of the own identities",
        name="removeIdentity",
        answer={204: None},
        problems=["reauthentication_required", "last_way_in"],
    )
    def delete(self, id: str) -> tuple[None, int]:
        """Take it from the account, and end all other sessions. The last way in stays. It asks for a recent login."""
        ask_for_recent_login("removing an identity")
        session = current_identity.session
        linked = security().linked_identities
        linked.unlink(str(current_identity), session, id, g.address, device_of(session))
        return None, 204
