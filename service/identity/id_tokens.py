"""ID tokens: what a provider says of who signed in there, verified (OpenID Connect Core 1.0, section 3.1.3.7)."""

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from service.core.base64url import encode_base64url
from service.core.errors import BadCredentials
from service.documents.account import address_key
from service.identity.issuers import ALGORITHMS
from service.identity.providers import Provider
from service.identity.tokens import check_form, fault_of
from service.mongo.raw import Raw

LONGEST_ID_TOKEN = 16_384
LONGEST_SUBJECT = 255
LONGEST_KEPT_ADDRESS = 254
LEEWAY_SECONDS = 30
"""Clock skew between a provider and us that is forgiven."""
MOST_DAYS = 30
"""How long a token may be good: for as long it is known here that it was used."""
REQUIRED = ["iss", "sub", "aud", "exp", "iat"]


@dataclass(frozen=True, slots=True)
class Asserted:
    """Who signed in at a provider, by a verified token.

    `token` is the hash under which the token is spent, `until` when it expires, in UTC without zone. `email` is None
    where there is none that an account could have. `client` is what we are called in it, `given` what the identity
    keeps of what the provider gave beside it.
    """

    provider: str
    issuer: str
    subject: str
    email: str | None
    email_verified: bool
    token: str
    until: datetime
    client: str
    given: Raw | None = None

    @property
    def key(self) -> str:
        """Return what is the same for all tokens of one person at one issuer, and of nobody else."""
        return hashlib.sha256(f"{self.issuer}\0{self.subject}".encode()).hexdigest()

    @property
    def way_in(self) -> dict[str, Any]:
        """Return the filter of the account that can be entered by it: see `Sessions.open`."""
        return {"identities.key": self.key}

    @property
    def address_key(self) -> str | None:
        """Return the key of the address that the provider has verified, None where it has not."""
        return address_key(self.email) if self.email is not None and self.email_verified else None


def asserted(provider: Provider, token: str, nonce: str | None, code: str | None) -> Asserted:
    """Return who a token of a provider is about; `nonce` and the authorization `code` are what the app has beside it.

    Raises `BadCredentials` where anything is wrong with the token, `ProviderUnavailable` where its issuer's keys are
    not known and do not come.
    """
    try:
        check_form(token)
        header = jwt.get_unverified_header(token)
        algorithm, kid = str(header.get("alg")), header.get("kid")
        if algorithm not in ALGORITHMS or "crit" in header or not isinstance(kid, str | None):
            raise BadCredentials("the ID token is signed in a way that is not taken")
        key = provider.issuer.key(kid, algorithm)
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=provider.issuer_names,
            options={"require": REQUIRED, "verify_aud": False},
            leeway=LEEWAY_SECONDS,
        )
        client = audience_of(claims, provider.client_ids)
        until = end_of(claims)
    except jwt.ExpiredSignatureError:
        raise BadCredentials("the ID token has expired; get a new one") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise BadCredentials(f"the ID token is not valid: {fault_of(error)}") from None
    check_nonce(claims.get("nonce"), nonce, provider.hashes_nonce)
    check_code(claims.get("c_hash"), code, algorithm)
    # What is signed, and not the signature: that has more than one spelling where it is of an elliptic curve.
    signed = hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()
    email, is_verified = address_in(claims)
    return Asserted(provider.name, provider.issuer.url, subject_of(claims), email, is_verified, signed, until, client)


def audience_of(claims: Mapping[str, Any], ours: frozenset[str]) -> str:
    """Return which of our names a token is for.

    Raises `BadCredentials` for one that is not for us, for others too, or was made for a party that is not us.
    """
    audience = claims["aud"]
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not named or not all(isinstance(one, str) and one in ours for one in named):
        raise BadCredentials("the ID token is for another audience")
    party = claims.get("azp")
    if party not in ours if "azp" in claims else len(named) > 1:
        raise BadCredentials("the ID token was made for another party")
    return str(named[0])


def end_of(claims: Mapping[str, Any]) -> datetime:
    """Return when a token expires, in UTC without zone. Raises `BadCredentials` where its times make no sense."""
    times = [claims[name] for name in ("exp", "iat", "nbf") if name in claims]
    if any(type(moment) not in (int, float) for moment in times):
        raise BadCredentials("a time in the ID token has the wrong type")
    if claims["exp"] > time.time() + MOST_DAYS * 86_400:
        raise BadCredentials("the ID token is good for too long")
    return datetime.fromtimestamp(claims["exp"] + LEEWAY_SECONDS, UTC).replace(tzinfo=None, microsecond=0)


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return who a token is about. Raises `BadCredentials` for nobody."""
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise BadCredentials("the ID token does not say whom it is about")
    return subject


def check_nonce(claimed: Any, given: str | None, is_hashed: bool) -> None:
    """Raise `BadCredentials` where the nonces of the app and of the token are not the same, or only one has one.

    A token with a nonce was made for whoever knows it; were that left out, a stolen token would be good without it.
    """
    if claimed is None and given is None:
        return
    wanted = hashlib.sha256((given or "").encode()).hexdigest() if is_hashed else given or ""
    same = isinstance(claimed, str) and hmac.compare_digest(claimed.encode(), wanted.encode())
    if given is None or not same:
        raise BadCredentials("the nonce is not that of the ID token")


def check_code(claimed: Any, code: str | None, algorithm: str) -> None:
    """Raise `BadCredentials` where an authorization code came with another token (section 3.3.2.11)."""
    if code is None or claimed is None:
        return
    digest = hashlib.new("sha512" if algorithm == "EdDSA" else f"sha{algorithm[2:]}", code.encode()).digest()
    if not isinstance(claimed, str) or not hmac.compare_digest(claimed, encode_base64url(digest[: len(digest) // 2])):
        raise BadCredentials("the authorization code is not that of the ID token")


def address_in(claims: Mapping[str, Any]) -> tuple[str | None, bool]:
    """Return the address in a token, and whether the provider has verified it; Apple says that as a text."""
    email = claims.get("email")
    if not isinstance(email, str) or len(email) > LONGEST_KEPT_ADDRESS:
        return None, False
    try:
        address_key(email)
    except ValueError:
        return None, False
    told = claims.get("email_verified")
    return email, told is True or told == "true"
