"""Passkeys: those by which the own account can be entered, and sign-in by one."""

from typing import Annotated, Any

import orjson
from pydantic import Field

from service.context import g
from service.core.base64url import encode_base64url
from service.http.arguments import Arguments, take
from service.http.openapi import operation
from service.http.web import Answer, json_answer, not_kept
from service.identity.schemas import dump_passkey, listed, passkey
from service.identity.sessions import device_of
from service.resources.accounts import ask_all_but_guests, ask_for_recent_login, own_account
from service.resources.auth import Device, TokenAnswer
from service.resources.resource import Resource
from service.security import current_identity, security

PasskeyName = Annotated[str, Field(min_length=1, max_length=80, examples=["Ada's phone"])]


def credential_example(kind: str, response: dict[str, str]) -> dict[str, Any]:
    """Return a credential in the form that clients send, which nobody takes: its challenge was never made."""
    signed = {"type": f"webauthn.{kind}", "challenge": "bm90IG9uZSBvZiBvdXJz", "origin": "https://app.example.com"}
    id = "ingdcKbBtpBm0rrL8WdkiyGD94J6susz_-ieQLfwTig"
    response = {"clientDataJSON": encode_base64url(orjson.dumps(signed)), **response}
    return {"id": id, "rawId": id, "type": "public-key", "response": response}


CREATED = credential_example(
    "create",
    {
        "attestationObject": "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YViko3mm9u6vuaVeN4wRgDTidR5oL6ufLTCrE9ISVYbOGUdFAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAIIp4HXCmwbaQZtK6y_FnZIshg_eCerLrM__onkC38E4opQECAyYgASFYIO7zTXOWzhIs7BZaYqtvpDTJS81X"
        "OW706WqORaPv4cjaIlggP89-mIuYsFUJ7xwPyPUfh9e2TNW5gsBkSzpgH6BqqPo"
    },
)
SIGNED = credential_example(
    "get",
    {
        "authenticatorData": "o3mm9u6vuaVeN4wRgDTidR5oL6ufLTCrE9ISVYbOGUcFAAAAAQ",
        "signature": "MEUCIQCFgh2EldvmvEpw7m1GcDKNMJaALiVmYKh6OzJB83rJ7QIgaKcwQfYTqKdSMovFTly90GnEePMlyccCQBjMsaa1QFY",
        "userHandle": "NjkyNmMwZGU1YTFiMmMzZDRlNWY2MDcx",
    },
)
DESCRIPTION = "as `PublicKeyCredential.toJSON()` gives it"


class NewPasskey(Arguments):
    """The body of a new passkey."""

    credential: dict[str, Any] = Field(description=DESCRIPTION, examples=[CREATED])
    name: PasskeyName


class RenamedPasskey(Arguments):
    """The body of another name."""

    name: PasskeyName


class PasskeySignInArguments(Arguments):
    """The body of a sign-in by a passkey."""

    credential: dict[str, Any] = Field(description=DESCRIPTION, examples=[SIGNED])
    device: Device = None


def passkey_options(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of options."""
    return {
        "title": "PasskeyOptions",
        "type": "object",
        "description": "For `PublicKeyCredential.parseCreationOptionsFromJSON` or `parseRequestOptionsFromJSON`.",
        "additionalProperties": True,
    }


def passkey_list(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the list of passkeys."""
    return listed("PasskeyList", passkey())


class PasskeyOptions(Resource):
    """Where a new passkey begins."""

    @operation(
        "Get options for a new passkey",
        name="beginPasskey",
        answer={200: passkey_options},
        problems=["reauthentication_required", "not_supported"],
        bounded=lambda: False,
    )
    def post(self) -> Answer:
        """Return what the device makes a passkey by, good once for five minutes. It asks for a recent login."""
        account = own_account()
        ask_all_but_guests(account, "a new passkey")
        return not_kept(json_answer(security().passkeys.creation_options(account, current_identity.session)))


class PasskeyList(Resource):
    """The passkeys of the one who asks."""

    @operation("List the own passkeys", name="listPasskeys", answer={200: passkey_list})
    def get(self) -> dict[str, Any]:
        """Return all, in the order in which they were added."""
        return {"items": [dump_passkey(one) for one in own_account().get("passkeys", [])]}

    @operation(
        "Add a passkey",
        name="addPasskey",
        body=NewPasskey,
        answer={201: passkey},
        headers={201: ["Location"]},
        problems=["bad_credentials", "already_exists", "limit_reached", "not_supported"],
        bounded=lambda: False,
    )
    def post(self) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Have the own account entered by it too. A guest becomes a full account."""
        sent, session = take(NewPasskey), current_identity.session
        added = security().passkeys.register(
            own_account(), session, sent.credential, sent.name, g.address, device_of(session)
        )
        return dump_passkey(added), 201, {"Location": f"/v1/accounts/me/passkeys/{added['id']}"}


class PasskeyItem(Resource):
    """One of them."""

    @operation(
        "Rename one of the own passkeys",
        name="renamePasskey",
        body=RenamedPasskey,
        answer={204: None},
    )
    def patch(self, id: str) -> tuple[None, int]:
        """Give it another name."""
        security().passkeys.rename(str(current_identity), id, take(RenamedPasskey).name)
        return None, 204

    @operation(
        "Remove one of the own passkeys",
        name="removePasskey",
        answer={204: None},
        problems=["reauthentication_required", "last_way_in"],
    )
    def delete(self, id: str) -> tuple[None, int]:
        """Take it from the account, and end all other sessions. The last way in stays. It asks for a recent login."""
        ask_for_recent_login("removing a passkey")
        session = current_identity.session
        security().passkeys.remove(str(current_identity), session, id, g.address, device_of(session))
        return None, 204


class PasskeySignInOptions(Resource):
    """Where a sign-in by a passkey begins."""

    @operation(
        "Get options to sign in by a passkey",
        name="askForPasskey",
        tag="auth",
        public=True,
        answer={200: passkey_options},
        problems=["not_supported"],
        bounded=lambda: False,
    )
    def post(self) -> Answer:
        """Return what a passkey signs, good once for five minutes. They name nobody."""
        return not_kept(json_answer(security().passkeys.request_options()))


class PasskeySignIn(Resource):
    """Where what a passkey has signed is exchanged for tokens."""

    @operation(
        "Sign in by a passkey",
        name="signInByPasskey",
        tag="auth",
        public=True,
        body=PasskeySignInArguments,
        answer={200: TokenAnswer},
        problems=["bad_credentials", "forbidden", "too_many_requests", "not_supported"],
        bounded=lambda: False,
    )
    def post(self) -> dict[str, Any]:
        """Start a session of the account that has the passkey; it is both factors."""
        sent = take(PasskeySignInArguments)
        return security().enter_by_passkey(sent.credential, g.address, sent.device)
