"""Sign-in by a provider in a browser: there, back, and from there to the app with a code.

OpenID Connect Core 1.0, section 3.1, towards the provider, and RFC 6749, section 4.1, with RFC 7636 towards the app;
RFC 9207 and RFC 9700. Between start and callback nothing is stored here: it stands in a sealed cookie, so whoever
starts many fills nothing, and only the browser that began can end it.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

from service.core.base64url import decode_base64url, encode_base64url
from service.core.clock import now
from service.core.errors import (
    BadCredentials,
    BadParameter,
    Cause,
    NotFound,
    ProviderUnavailable,
    TooManyRequests,
)
from service.core.log import log
from service.documents import AuthorizationCode, SpentToken
from service.identity.id_tokens import Asserted, asserted
from service.identity.issuers import Endpoints
from service.identity.keys import Keys
from service.identity.provider_tokens import kept_token, token_answer
from service.identity.providers import GOOGLE, Provider, Providers
from service.identity.sessions import SECRET_BYTES, hashed
from service.identity.throttle import Throttle
from service.mongo.raw import Raw
from service.outbox.sealing import Seal, Unsealable

FLOW_MINUTES = 10
"""How long somebody may stay at the provider."""
CODE_SECONDS = 60
"""How long the app has to exchange its code (RFC 6749, section 4.1.2, allows ten minutes)."""
LONGEST_SIGN_IN = 4000
"""Most characters of a sealed cookie; a browser keeps no longer one."""
LONGEST_CODE = 200
LONGEST_VERIFIER = 500
"""Most characters of each that is looked at."""
SCOPE = "openid email"
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
"""RFC 7636, section 4.1."""
ERROR = re.compile(r"[a-z_]{1,60}")
CANCELLED_AT_APPLE = "user_cancelled_authorize"
"""What Apple calls `access_denied`."""
DENIED, FAILED, LATER = "access_denied", "server_error", "temporarily_unavailable"
"""What an app is told (RFC 6749, section 4.1.2.1)."""


@dataclass(frozen=True, slots=True)
class Departure:
    """Where the browser goes, and what it has to bring back: a sealed text."""

    url: str
    sealed: str


@dataclass(frozen=True, slots=True)
class CallbackAnswer:
    """What a provider has the browser bring (RFC 6749, section 4.1.2; RFC 9207)."""

    state: str = ""
    code: str | None = None
    error: str | None = None
    iss: str | None = None


class Failed(Exception):
    """A sign-in that comes to nothing, by the code that the app is told; the reason is for the log."""

    def __init__(self, code: str, reason: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(reason)


class WebSignIn:
    """What is done of a sign-in in a browser."""

    def __init__(
        self, config: Mapping[str, Any], keys: Keys, providers: Providers, throttle: Throttle, base: str
    ) -> None:
        """Take the settings, and where people reach the service. Raises `ValueError` where the latter is not known."""
        self.redirects = frozenset(config["PROVIDER_REDIRECTS"])
        if self.redirects and not base:
            raise ValueError("PUBLIC_URL has to be set where PROVIDER_REDIRECTS is: providers send browsers back there")
        self.base = f"{base}{config['JWT_AUTH_URL_RULE']}/providers"
        self.is_secure = base.startswith("https:")
        self.seal = Seal(keys.each("sign-in in a browser"))
        self.outbox_seal = Seal(keys.each("outbox"))
        self.providers, self.throttle = providers, throttle

    def client(self, name: str) -> tuple[Provider, str]:
        """Return a provider that can be used in a browser, and what we are called there. Raises `NotFound`."""
        provider = self.providers.named(name)
        if provider.web_client is None or provider.secret is None:
            raise NotFound("the settings name no client of this provider for a browser")
        return provider, provider.web_client

    def same_site(self, name: str) -> str:
        """Return to which requests of other sites' pages the browser adds the cookie of a sign-in.

        Lax: to those that follow an address. None: to forms too, and Apple answers by a form where it is asked for an
        address; without TLS no browser takes that.
        """
        return "None" if self.providers.named(name).answers_by_form and self.is_secure else "Lax"

    def callback(self, provider: Provider) -> str:
        """Return where a provider sends browsers back to: to each another path (RFC 9700, section 4.4.2)."""
        return f"{self.base}/{provider.name}/callback"

    def start(self, name: str, redirect_uri: str, challenge: str, state: str | None) -> Departure:
        """Return the way to a provider, for an app that is known by its link, and by its challenge of S256.

        Raises `NotFound`, `BadParameter` for a link that the settings do not have, `ProviderUnavailable`.
        """
        provider, client_id = self.client(name)
        if redirect_uri not in self.redirects:
            cause = Cause("not_allowed", "one of PROVIDER_REDIRECTS, to the letter", parameter="redirect_uri")
            raise BadParameter("the link back into the app is none that this service knows", [cause])
        place = provider.issuer.current().endpoints.authorization
        if place is None:
            raise ProviderUnavailable
        own_state, nonce, verifier = (secrets.token_urlsafe(SECRET_BYTES) for _ in range(3))
        asked = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": self.callback(provider),
            "scope": SCOPE,
            "state": own_state,
            "nonce": hashlib.sha256(nonce.encode()).hexdigest() if provider.hashes_nonce else nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            **({"response_mode": "form_post"} if provider.answers_by_form else {}),
            # It gives a refresh token, by which all is given back when the account goes.
            **({"access_type": "offline"} if provider.name == GOOGLE else {}),
        }
        kept: Raw = {"state": own_state, "nonce": nonce, "verifier": verifier}
        kept |= {"redirect_uri": redirect_uri, "challenge": challenge, "app_state": state}
        until = now() + timedelta(minutes=FLOW_MINUTES)
        sealed = self.seal.close({**kept, "until": until}, provider.name)
        return Departure(with_query(place, asked), encode_base64url(sealed))

    def finish(self, name: str, sealed: str, answer: CallbackAnswer, client: str) -> str:
        """Return the link into the app, with a code or an error, for the browser that has begun.

        Raises `NotFound`, and `BadParameter` where nobody knows into which app: it was begun in another browser, too
        long ago, or has ended already.
        """
        provider, client_id = self.client(name)
        kept = self.kept(provider, sealed, answer.state)
        try:
            told = {"code": self.code_for(provider, client_id, kept, answer, client)}
        except Failed as failure:
            log.warning("provider_sign_in_failed", provider=name, error=failure.code, reason=failure.reason)
            told = {"error": failure.code}
        app_state = {} if kept["app_state"] is None else {"state": kept["app_state"]}
        return with_query(kept["redirect_uri"], {**told, **app_state})

    def kept(self, provider: Provider, sealed: str, state: str) -> Raw:
        """Return what the cookie of a browser holds of a sign-in. Raises `BadParameter` where it is not this one."""
        try:
            found = self.seal.open(decode_base64url(sealed[:LONGEST_SIGN_IN]), provider.name)
        except (Unsealable, ValueError):
            found = None
        same = found is not None and hmac.compare_digest(found["state"].encode(), state.encode())
        if found is None or not same or found["until"] <= now() or found["redirect_uri"] not in self.redirects:
            raise unknown_sign_in()
        return found

    def code_for(self, provider: Provider, client_id: str, kept: Raw, answer: CallbackAnswer, client: str) -> str:
        """Return a code for what a provider asserts. Raises `Failed`, and `BadParameter` as `spend_state` does."""
        try:
            endpoints = provider.issuer.current().endpoints
        except ProviderUnavailable as problem:
            raise Failed(LATER, problem.detail) from problem
        if answer.iss != provider.issuer.url if answer.iss is not None else endpoints.names_itself:
            raise Failed(FAILED, "the answer is from another issuer, or does not say from which")
        if answer.error is not None:
            known = DENIED if answer.error == CANCELLED_AT_APPLE else answer.error
            raise Failed(known if ERROR.fullmatch(known) else FAILED, "the provider says so")
        if not answer.code:
            raise Failed(FAILED, "the provider has sent no code")
        try:
            with self.throttle.counting(f"provider {provider.name} {client}", client):
                spend_state(kept)
                who = self.asserted(provider, endpoints, client_id, kept, answer.code)
                return issue_code(who, kept["challenge"])
        except (ProviderUnavailable, TooManyRequests) as problem:
            raise Failed(LATER, problem.detail) from problem
        except BadCredentials as problem:
            raise Failed(FAILED, problem.detail) from problem

    def asserted(self, provider: Provider, endpoints: Endpoints, client_id: str, kept: Raw, code: str) -> Asserted:
        """Return who has signed in, by the code of the provider.

        Raises `BadCredentials` where the code or what it gives is not good, and `ProviderUnavailable`.
        """
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.callback(provider),
            "code_verifier": kept["verifier"],
        }
        found = provider.asking.wait(lambda: token_answer(provider, endpoints, client_id, sent))
        # The token is for this client and for no other of ours.
        own = replace(provider, client_ids=frozenset({client_id}))
        who = asserted(own, str(found.get("id_token")), kept["nonce"], code)
        return replace(who, given=kept_token(self.outbox_seal, endpoints, client_id, found))

    def exchanged(self, code: str, verifier: str, client: str, name: str | None = None) -> Asserted:
        """Return who has signed in, at the provider `name` if one is named, for the app that began and its code.

        It is spent with the ID token that it stands for: what that is good for happens once, and until then the code is
        good for its minute. Raises `BadCredentials` for one that is not good, or the verifier of another, and
        `TooManyRequests`.
        """
        with self.throttle.counting(f"provider code {client}", client):
            good = {"_id": hashed(code.encode()), "expires_at": {"$gt": now()}}
            found = AuthorizationCode._get_collection().find_one(good)
            if found is None:
                raise BadCredentials("the code was used, or is older than a minute; sign in again")
            same = hmac.compare_digest(found["challenge"], challenge_of(verifier)) and VERIFIER.fullmatch(verifier)
            if not same or name not in (None, found["provider"]):
                AuthorizationCode._get_collection().delete_one({"_id": found["_id"]})
                raise BadCredentials("the verifier is not that of the code; sign in again")
        return Asserted(**{name: found.get(name) for name in Asserted.__slots__})


def issue_code(who: Asserted, challenge: str) -> str:
    """Return a new code for who has signed in, which is stored as its hash."""
    code = secrets.token_urlsafe(SECRET_BYTES)
    # Not for longer than it is known that the token was used.
    expires_at = min(now() + timedelta(seconds=CODE_SECONDS), who.until)
    told = {name: value for name, value in asdict(who).items() if value is not None}
    document = {"_id": hashed(code.encode()), "challenge": challenge, **told, "expires_at": expires_at}
    AuthorizationCode._get_collection().insert_one(document)
    return code


def spend_state(kept: Raw) -> None:
    """Note that a sign-in has come back with a code. Raises `BadParameter` where it has before."""
    if not SpentToken.spend(hashed(kept["state"].encode()), kept["until"]):
        raise unknown_sign_in()


def unknown_sign_in() -> BadParameter:
    """Return what a browser is told that brings an answer to nothing that it has begun."""
    cause = Cause("unknown_state", "that of a sign-in that this browser has begun, and not ended", parameter="state")
    return BadParameter("nobody in this browser has begun that sign-in, or it has ended; go back to the app", [cause])


def challenge_of(verifier: str) -> str:
    """Return the challenge of a verifier by S256 (RFC 7636, section 4.2)."""
    return encode_base64url(hashlib.sha256(verifier.encode()).digest())


def with_query(url: str, parameters: Mapping[str, str]) -> str:
    """Return a URL with more parameters; what it has already stays (RFC 6749, section 3.1)."""
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters, quote_via=quote)}"
