"""Sign-in by a provider in a browser: where an app sends one, where the provider sends it back, and the exchange."""

from typing import Any

from pydantic import ConfigDict, Field

from service.context import g
from service.http.arguments import Arguments, take
from service.http.openapi import operation
from service.http.web import Answer, current_request, empty_answer
from service.identity.web_sign_in import FLOW_MINUTES, LONGEST_CODE, LONGEST_VERIFIER, CallbackAnswer
from service.pages.account import FORM_TYPE
from service.resources.auth import Device, TokenAnswer
from service.resources.resource import Resource
from service.security import security

ELSEWHERE = 302
SIGN_IN_COOKIE = "madang_sign_in"
LEADING: dict[str, Any] = {
    "tag": "auth",
    "public": True,
    "answer": {ELSEWHERE: None},
    "headers": {ELSEWHERE: ["Location"]},
}
"""Of what sends a browser elsewhere."""


class StartArguments(Arguments):
    """What an app that begins a sign-in says."""

    redirect_uri: str = Field(max_length=500, description="the link back into the app, one of `PROVIDER_REDIRECTS`")
    code_challenge: str = Field(
        pattern="^[A-Za-z0-9_-]{43}$", description="SHA-256 of the verifier, as base64url (RFC 7636)"
    )
    code_challenge_method: str = Field(default="S256", pattern="^S256$")
    state: str | None = Field(
        default=None, max_length=1000, pattern="^[\\x20-\\x7e]*$", description="comes back as it is"
    )


class CallbackArguments(Arguments):
    """What a provider has the browser bring; whatever else it sends is ignored (RFC 6749, section 4.1.2)."""

    model_config = ConfigDict(extra="ignore")

    state: str = Field(default="", max_length=500)
    code: str | None = Field(default=None, max_length=4000)
    error: str | None = Field(default=None, max_length=500)
    iss: str | None = Field(default=None, max_length=500)


class ExchangeArguments(Arguments):
    """The body of an exchange."""

    code: str = Field(max_length=LONGEST_CODE, description="as it came in the link")
    code_verifier: str = Field(max_length=LONGEST_VERIFIER, description="that of the `code_challenge`")
    device: Device = None


class ProviderStart(Resource):
    """Where an app sends a browser to have somebody sign in at a provider."""

    @operation(
        "Begin a sign-in in a browser",
        name="startProviderSignIn",
        parameters=StartArguments,
        problems=["not_found", "provider_unavailable"],
        **LEADING,
    )
    def get(self, name: str) -> Answer:
        """Send the browser to the provider; it comes back to this service, and from here to `redirect_uri`."""
        asked = take(StartArguments, "query")
        way = security().web_sign_in.start(name, asked.redirect_uri, asked.code_challenge, asked.state)
        return with_cookie(moved(way.url), name, way.sealed, FLOW_MINUTES * 60)


class ProviderCallback(Resource):
    """Where a provider sends the browser back to."""

    @operation(
        "Come back from a provider",
        name="returnFromProvider",
        parameters=CallbackArguments,
        takes_others=True,
        problems=["not_found"],
        **LEADING,
    )
    def get(self, name: str) -> Answer:
        """Send the browser on into the app, with a code or an error."""
        return led_back(name, take(CallbackArguments, "query"))

    @operation(
        "Come back from a provider by a form",
        name="returnFromProviderByForm",
        body=CallbackArguments,
        body_type=FORM_TYPE,
        problems=["not_found"],
        **LEADING,
    )
    def post(self, name: str) -> Answer:
        """Send the browser on into the app, with a code or an error: Apple answers in this way."""
        return led_back(name, take(CallbackArguments, "form"))


class ProviderExchange(Resource):
    """Where an app gets tokens for its code."""

    @operation(
        "Exchange the code of a sign-in",
        name="exchangeProviderCode",
        tag="auth",
        public=True,
        body=ExchangeArguments,
        answer={200: TokenAnswer},
        problems=["bad_credentials", "second_factor_required", "forbidden", "account_exists", "too_many_requests"],
    )
    def post(self) -> dict[str, Any]:
        """Start a session of the account that is linked to issuer and subject; somebody new gets a new account."""
        sent = take(ExchangeArguments)
        who = security().web_sign_in.exchanged(sent.code, sent.code_verifier, g.address)
        account = security().linked_identities.sign_in(who, g.address)
        return security().enter(account, g.address, sent.device, who.way_in)


def led_back(name: str, brought: CallbackArguments) -> Answer:
    """Return the way into the app; the cookie of the sign-in goes."""
    sealed = current_request().cookies.get(cookie_name(), "")
    answer = CallbackAnswer(brought.state, brought.code, brought.error, brought.iss)
    return with_cookie(moved(security().web_sign_in.finish(name, sealed, answer, g.address)), name, "", 0)


def moved(url: str) -> Answer:
    """Return an answer that sends the browser to a URL."""
    return empty_answer(ELSEWHERE, [("Location", url)])


def cookie_name() -> str:
    """Return the name of the cookie: that of one that no other host can set, where the service is HTTPS."""
    return f"__Host-{SIGN_IN_COOKIE}" if security().web_sign_in.is_secure else SIGN_IN_COOKIE


def with_cookie(answer: Answer, name: str, sealed: str, seconds: int) -> Answer:
    """Have the browser keep a sealed sign-in for so long; the newest takes the place of the one before."""
    flow = security().web_sign_in
    answer.set_cookie(
        cookie_name(),
        sealed,
        max_age=seconds,
        path="/",
        secure=flow.is_secure,
        httponly=True,
        samesite=flow.same_site(name),
    )
    return answer
