"""The second factor: set up and switched off by its owner, and given by whoever logs in."""

from typing import Any

from pydantic import Field

from service.context import g
from service.core.errors import NotFound
from service.http.arguments import Arguments, take
from service.http.openapi import operation
from service.http.web import Answer, json_answer, not_kept
from service.identity.codes import LONGEST_SENT
from service.identity.schemas import dump_second_factor, second_factor
from service.identity.second_factors import RECOVERY_CODES
from service.identity.sessions import device_of
from service.resources.accounts import ask_for_recent_login, own_account
from service.resources.auth import TokenAnswer
from service.resources.resource import Resource
from service.security import current_identity, security


class FactorCode(Arguments):
    """The body with a code of the authenticator app."""

    code: str = Field(max_length=LONGEST_SENT, description="six digits", examples=["492039"])


class FactorAnswer(Arguments):
    """The body of the second half of a login."""

    challenge: str = Field(max_length=LONGEST_SENT, description="as it came with `second_factor_required`")
    code: str = Field(
        max_length=LONGEST_SENT, description="of the authenticator app, or a recovery code", examples=["492039"]
    )


class NewFactor(Arguments):
    """What an authenticator app has to know."""

    secret: str = Field(description="in base32, to be typed in", examples=["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"])
    uri: str = Field(description="the same as `otpauth:` URI, to be shown as a QR code")


class IssuedRecoveryCodes(Arguments):
    """What gets in without the authenticator app, each once. They are not shown again."""

    recovery_codes: list[str] = Field(min_length=RECOVERY_CODES, max_length=RECOVERY_CODES)


class SecondFactorLogin(Resource):
    """Where a challenge and a code are exchanged for tokens."""

    @operation(
        "Log in with a second factor",
        name="giveSecondFactor",
        tag="auth",
        public=True,
        body=FactorAnswer,
        answer={200: TokenAnswer},
        problems=["bad_credentials", "forbidden", "too_many_requests"],
        # Its tries count whatever becomes of it.
        bounded=lambda: False,
    )
    def post(self) -> dict[str, Any]:
        """Start the session for which `second_factor_required` was answered, and return its tokens."""
        sent = take(FactorAnswer)
        return security().enter_by_second_factor(sent.challenge, sent.code, g.address)


class OwnSecondFactor(Resource):
    """The second factor of the one who asks."""

    @operation("Get the own second factor", name="getSecondFactor", answer={200: second_factor}, problems=["not_found"])
    def get(self) -> dict[str, Any]:
        """Tell since when it is on, and how many recovery codes are left; `404` where it is off."""
        account = own_account()
        if "second_factor" not in account:
            raise NotFound("the account has no second factor")
        return dump_second_factor(account["second_factor"])

    @operation(
        "Set up an authenticator app",
        name="beginSecondFactor",
        answer={200: NewFactor},
        problems=["reauthentication_required", "limit_reached", "forbidden"],
        bounded=lambda: False,
    )
    def post(self) -> Answer:
        """Return a secret; the second factor is on when a code of it was confirmed. It asks for a recent login."""
        ask_for_recent_login("a second factor")
        secret, uri = security().second_factors.begin(own_account(), current_identity.session)
        return not_kept(json_answer({"secret": secret, "uri": uri}))

    @operation(
        "Switch the own second factor off",
        name="removeSecondFactor",
        answer={204: None},
        problems=["reauthentication_required", "not_found"],
    )
    def delete(self) -> tuple[None, int]:
        """Ask for none any more, and tell the owner by mail. It asks for a recent login."""
        ask_for_recent_login("switching the second factor off")
        security().second_factors.remove(own_account(), g.address, device_of(current_identity.session))
        return None, 204


class SecondFactorConfirmation(Resource):
    """Where the first code of a new authenticator app comes."""

    @operation(
        "Switch the own second factor on",
        name="confirmSecondFactor",
        body=FactorCode,
        answer={200: IssuedRecoveryCodes},
        problems=["bad_credentials", "limit_reached", "too_many_requests"],
        bounded=lambda: False,
    )
    def post(self) -> Answer:
        """Take a code of the secret that this session got; all other sessions end. The recovery codes come once."""
        session = current_identity.session
        factors, sent = security().second_factors, take(FactorCode)
        codes = factors.confirm(own_account(), session, sent.code, g.address, device_of(session))
        return not_kept(json_answer({"recovery_codes": codes}))


class RecoveryCodeList(Resource):
    """The recovery codes of the one who asks."""

    @operation(
        "Make new recovery codes",
        name="renewRecoveryCodes",
        answer={200: IssuedRecoveryCodes},
        problems=["reauthentication_required", "not_found"],
        bounded=lambda: False,
    )
    def post(self) -> Answer:
        """Return ten in place of all before. It asks for a recent login."""
        ask_for_recent_login("new recovery codes")
        device = device_of(current_identity.session)
        codes = security().second_factors.renew_recovery_codes(own_account(), g.address, device)
        return not_kept(json_answer({"recovery_codes": codes}))
