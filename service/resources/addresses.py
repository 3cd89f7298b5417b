"""Addresses: verified by a code, and for whoever reads them a way to a new password and to tokens."""

from collections.abc import Callable
from typing import Annotated, Any

import mongoengine
from pydantic import AfterValidator, Field, WithJsonSchema

from service.context import g
from service.core.errors import Cause, NotSupported, ValidationFailed
from service.documents import Account
from service.documents.account import address_key
from service.http.arguments import Arguments, take
from service.http.beforehand import beforehand
from service.http.languages import asked_language
from service.http.openapi import operation
from service.identity.addresses import RESET, SIGN_IN, VERIFY
from service.identity.codes import CODE_LENGTH, CODE_MINUTES, LONGEST_SENT
from service.identity.passwords import new_password
from service.identity.schemas import ACCOUNT
from service.model.validation import required
from service.model.values import EMAIL, LONGEST_EMAIL, parse_email, wrong
from service.mongo import transactions
from service.mongo.raw import Raw
from service.resources.accounts import PASSWORD, ask_all_but_guests, own_account
from service.resources.auth import Device, TokenAnswer
from service.resources.resource import Resource
from service.security import current_identity, security


def one_address(text: str) -> str:
    """Return an e-mail address in its usual spelling; raises `PydanticCustomError` for what an account cannot have."""
    address = parse_email(text)
    try:
        Account.email.validate(address)
    except mongoengine.ValidationError as error:
        raise wrong("email", EMAIL) from error
    return address


EmailText = Annotated[
    str,
    AfterValidator(one_address),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": LONGEST_EMAIL, "examples": ["ada@example.com"]}),
]
CodeText = Annotated[
    str, Field(max_length=LONGEST_SENT, description=f"{CODE_LENGTH} characters", examples=["K7WQ2MXB"])
]


class AddressArguments(Arguments):
    """The body of a request to send something to an address."""

    email: EmailText


class CodeArguments(Arguments):
    """The body with a code that was sent."""

    code: CodeText


class CodeSignInArguments(Arguments):
    """The body of a sign-in by code."""

    email: EmailText
    code: CodeText
    device: Device = None


class ResetArguments(Arguments):
    """The body of a new password: with address and code, or with the token of the link."""

    email: EmailText | None = None
    code: CodeText | None = None
    token: str | None = Field(default=None, max_length=LONGEST_SENT, description="that of the link, in place of both")
    new_password: Annotated[Any, WithJsonSchema({**PASSWORD, "examples": ["three green boats"]})]


class SentAnswer(Arguments):
    """What is told of something that was sent, be there such an account or not."""

    expires_in: int = Field(description="seconds that the code is good", examples=[CODE_MINUTES * 60])


def was_sent(address: str, ask: Callable[[str, str, str], None]) -> tuple[dict[str, Any], int]:
    """Answer a request for a code; `ask` stores what is sent, of the address, the language and who asks.

    Raises `NotSupported` without mail, `TooManyRequests` where it is one too many.
    """
    if not security().letters.available:
        raise NotSupported("this service sends no mail: MAIL_URL is not set")
    security().throttle.code_request(address_key(address), g.address)
    language, client = asked_language(), g.address
    transactions.run_where_there_are(lambda: ask(address, language, client))
    return {"expires_in": CODE_MINUTES * 60}, 202


class OwnAddress(Resource):
    """The address of the one who asks."""

    @operation(
        "Send a code and a link to a new address",
        name="changeOwnAddress",
        body=AddressArguments,
        answer={202: SentAnswer},
        problems=["reauthentication_required", "too_many_requests", "not_supported"],
    )
    def put(self) -> tuple[dict[str, Any], int]:
        """Have an address verified; until it is, the account has the one before. It asks for a recent login."""
        sent = take(AddressArguments)
        ask_all_but_guests(own_account(), "a new address")
        return was_sent(sent.email, lambda *asked: security().addresses.ask_to_verify(own_account(), *asked))


class OwnAddressVerification(Resource):
    """Where a code that was sent to a new address comes back."""

    @operation(
        "Verify the new address",
        name="verifyOwnAddress",
        body=CodeArguments,
        answer={200: ACCOUNT},
        problems=["bad_credentials", "already_exists"],
        beforehand=lambda: code_of_own_address(),
    )
    def post(self) -> dict[str, Any]:
        """Give the account the address to which the code was sent, and return it."""
        found = beforehand(code_of_own_address)
        changed = transactions.run_where_there_are(lambda: security().addresses.verify(found, g.address))
        return ACCOUNT.dump(changed)


def code_of_own_address() -> Raw:
    """Return what was stored with the code that the request at hand brings; the try counts."""
    return security().addresses.tried(VERIFY, str(current_identity), take(CodeArguments).code)


class PasswordReset(Resource):
    """Where somebody who has forgotten the password asks for a code."""

    @operation(
        "Send a code and a link for a new password",
        name="askForPasswordReset",
        tag="auth",
        public=True,
        body=AddressArguments,
        answer={202: SentAnswer},
        problems=["too_many_requests", "not_supported"],
    )
    def post(self) -> tuple[dict[str, Any], int]:
        """Write to an address, in the same time and with the same answer whether an account has it or not."""
        return was_sent(take(AddressArguments).email, security().addresses.ask_to_reset)


class PasswordResetConfirmation(Resource):
    """Where the code comes back, with a new password."""

    @operation(
        "Set a new password by code or link",
        name="confirmPasswordReset",
        tag="auth",
        public=True,
        body=ResetArguments,
        answer={204: None},
        problems=["bad_credentials", "too_many_requests"],
    )
    def post(self) -> tuple[None, int]:
        """Set the password of the account whose address was written to; all of its sessions end."""
        sent = take(ResetArguments)
        security().addresses.set_password(code_of_reset(sent), sent.new_password, g.address)
        return None, 204


def code_of_reset(sent: ResetArguments) -> Raw:
    """Return what was stored with the code or the token in a body.

    The password is looked at first: one that nobody may have takes no try. Raises `ValidationFailed`,
    `BadCredentials`, `TooManyRequests`.
    """
    new_password({"new_password": sent.new_password}, "new_password", "")
    if sent.token is not None:
        twice = [name for name in ("email", "code") if getattr(sent, name) is not None]
        if twice:
            raise ValidationFailed([Cause("not_allowed", "not beside a token", pointer=f"/{name}") for name in twice])
        return security().addresses.tried_token(RESET, sent.token, g.address)
    if sent.email is None or sent.code is None:
        lacking = [name for name in ("email", "code") if getattr(sent, name) is None]
        raise ValidationFailed([required(name) for name in lacking])
    return security().addresses.tried_code(RESET, sent.email, sent.code, g.address)


class CodeRequest(Resource):
    """Where somebody asks for a code to sign in with."""

    @operation(
        "Send a code to sign in with",
        name="askForCode",
        tag="auth",
        public=True,
        body=AddressArguments,
        answer={202: SentAnswer},
        problems=["too_many_requests", "not_supported"],
    )
    def post(self) -> tuple[dict[str, Any], int]:
        """Write to an address, in the same time and with the same answer whether an account has it or not."""
        return was_sent(take(AddressArguments).email, security().addresses.ask_to_sign_in)


class CodeSignIn(Resource):
    """Where a code is exchanged for tokens."""

    @operation(
        "Sign in by code",
        name="signInByCode",
        tag="auth",
        public=True,
        body=CodeSignInArguments,
        answer={200: TokenAnswer},
        problems=["bad_credentials", "second_factor_required", "forbidden", "too_many_requests"],
    )
    def post(self) -> dict[str, Any]:
        """Start a session of the account that has the address; with `SIGN_UP_BY_CODE` one is made if there is none."""
        sent = take(CodeSignInArguments)
        addresses = security().addresses
        found = addresses.tried_code(SIGN_IN, sent.email, sent.code, g.address)
        account = addresses.sign_in(found, g.address)
        return security().enter(account, g.address, sent.device)
