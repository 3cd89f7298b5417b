"""Issuers: the keys of an OpenID provider, fetched, kept, and looked up again when one is new.

OpenID Connect Discovery 1.0, section 4; RFC 7517. What is fetched comes from where the settings and the issuer's own
document say, and from nowhere else.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock, Thread
from typing import Any

import jwt

from service.core.errors import BadCredentials, ProviderUnavailable
from service.core.log import log
from service.identity import fetching

KEPT_SECONDS = 600.0
"""How long keys are used without a look whether there are others."""
STALE_SECONDS = 6 * 3600.0
"""How long they are used where the issuer does not answer."""
PAUSE_SECONDS = 2.0
"""How long an issuer that did not answer is not asked again."""
MOST_LOOKS = 5
LOOK_SECONDS = 30.0
"""A key that is not known makes us look again: so often at once, and then once in so many seconds."""
MOST_KEYS = 100
LEAST_RSA_BITS = 2048

ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    **{f"{kind}{bits}": ("RSA", None) for kind in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""What may sign an ID token, with the type of its key and the curve: no shared secret, and never `none`."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of an issuer, with what it may be used for; `algorithm` is None where it does not say."""

    kid: str | None
    type: str
    curve: str | None
    algorithm: str | None
    public: Any

    def suits(self, algorithm: str) -> bool:
        """Tell whether a token of an algorithm can have been signed with it."""
        return ALGORITHMS[algorithm] == (self.type, self.curve) and self.algorithm in (None, algorithm)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where an issuer does what, as its document says it (OpenID Connect Discovery 1.0, section 3).

    Each is None where the document names none. `names_itself` tells whether each answer of its pages says which issuer
    it is from (RFC 9207, section 3), `by_form` whether a client shows its secret in the form, not in a header.
    """

    authorization: str | None
    token: str | None
    revocation: str | None
    names_itself: bool
    by_form: bool


@dataclass(frozen=True, slots=True)
class Known:
    """The keys and endpoints of an issuer as they were at a `moment` of the monotonic clock."""

    keys: tuple[IssuerKey, ...]
    endpoints: Endpoints
    moment: float

    @property
    def age(self) -> float:
        """Return how old they are, in seconds."""
        return time.monotonic() - self.moment

    def with_name(self, kid: str | None) -> list[IssuerKey]:
        """Return the keys of a name, or all where a token names none."""
        return [key for key in self.keys if kid is None or key.kid == kid]


@dataclass(frozen=True, slots=True)
class Flight:
    """What is being fetched at this moment, once for all who wait for it."""

    known: "Future[Known]" = field(default_factory=Future)
    begun: float = field(default_factory=time.monotonic)

    @property
    def is_lost(self) -> bool:
        """Tell whether it takes so long that another one may begin."""
        return time.monotonic() - self.begun > 10 * fetching.FETCH_SECONDS


class Issuer:
    """An OpenID provider, by the URL of its issuer, and its keys as this process knows them."""

    def __init__(self, url: str, https_only: bool) -> None:
        """Take the URL; nothing is fetched before the first token comes."""
        self.url = url
        self.https_only = https_only
        self.known: Known | None = None
        self.flight: Flight | None = None
        self.lock = Lock()
        self.waiting = BoundedSemaphore(fetching.MOST_WAITING)
        self.paused_until = 0.0
        self.looks, self.looked = float(MOST_LOOKS), time.monotonic()

    def key(self, kid: str | None, algorithm: str) -> Any:
        """Return the public key that a token of this issuer names, for one of `ALGORITHMS`.

        Raises `BadCredentials` where there is none that suits, `ProviderUnavailable` where the issuer does not answer.
        """
        known = self.current()
        found = known.with_name(kid)
        if not found and self.may_look():
            found = self.renewed().with_name(kid)
        suiting = [key for key in found if key.suits(algorithm)]
        if len(suiting) != 1:
            raise BadCredentials("the ID token was not signed with a key that its issuer names")
        return suiting[0].public

    def current(self) -> Known:
        """Return the keys, looked up anew when that was long ago; old ones do for a while when nobody answers."""
        known = self.known
        if known is None:
            return self.renewed()
        if known.age <= KEPT_SECONDS:
            return known
        try:
            return self.renewed()
        except ProviderUnavailable:
            if known.age > STALE_SECONDS:
                raise
            return known

    def may_look(self) -> bool:
        """Tell whether the keys may be looked up once more for one that is not known, and count it."""
        with self.lock:
            moment = time.monotonic()
            self.looks = min(float(MOST_LOOKS), self.looks + (moment - self.looked) / LOOK_SECONDS)
            self.looked = moment
            if self.looks < 1:
                return False
            self.looks -= 1
            return True

    def renewed(self) -> Known:
        """Return the keys as they are now, fetched once for all who ask at the same time.

        Raises `ProviderUnavailable` where they do not come in time.
        """
        if not self.waiting.acquire(blocking=False):
            raise ProviderUnavailable
        try:
            return self.begun().known.result(fetching.FETCH_SECONDS)
        except TimeoutError:
            self.paused_until = time.monotonic() + PAUSE_SECONDS
            raise ProviderUnavailable from None
        finally:
            self.waiting.release()

    def begun(self) -> Flight:
        """Return what is under way, or begin it; raises `ProviderUnavailable` shortly after one that failed."""
        with self.lock:
            if time.monotonic() < self.paused_until:
                raise ProviderUnavailable
            if self.flight is None or self.flight.is_lost:
                self.flight = Flight()
                # In a thread of its own: a request waits for so long and no longer, also where a name is looked up.
                Thread(target=self.fly, args=(self.flight,), daemon=True, name="issuer").start()
            return self.flight

    def fly(self, flight: Flight) -> None:
        """Fetch the keys, and give them, or what came in between, to all who wait."""
        try:
            self.known = known = self.fetched()
        except fetching.FAILURES as error:
            self.paused_until = time.monotonic() + PAUSE_SECONDS
            log.warning("provider_unavailable", issuer=self.url, reason=f"{type(error).__name__}: {error}"[:300])
            self.landed(flight)
            flight.known.set_exception(ProviderUnavailable())
        except Exception as error:
            self.landed(flight)
            flight.known.set_exception(error)
        else:
            self.landed(flight)
            flight.known.set_result(known)

    def landed(self, flight: Flight) -> None:
        """Let the next one begin."""
        with self.lock:
            if self.flight is flight:
                self.flight = None

    def fetched(self) -> Known:
        """Return what the issuer says at this moment. Raises `OSError`, `HTTPException` or `ValueError`."""
        about = fetching.fetch(f"{self.url.rstrip('/')}/.well-known/openid-configuration", self.https_only)
        if about.get("issuer") != self.url:
            raise ValueError("its document is that of another issuer")
        found = fetching.fetch(str(about.get("jwks_uri")), self.https_only).get("keys")
        keys = tuple(issuer_keys(found if isinstance(found, list) else []))
        if not keys:
            raise ValueError("it names no key that can be used")
        return Known(keys, endpoints_in(about, self.https_only), time.monotonic())


def endpoints_in(about: Mapping[str, Any], https_only: bool) -> Endpoints:
    """Return where an issuer does what; what is no URL that may be asked is none."""

    def endpoint(name: str) -> str | None:
        url = about.get(f"{name}_endpoint")
        if not (isinstance(url, str) and url.isascii() and url.isprintable()):
            return None
        return url if fetching.may_be_asked(url, https_only) else None

    # Where it says nothing it is the header (OpenID Connect Discovery 1.0, section 3).
    ways = about.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Endpoints(
        authorization=endpoint("authorization"),
        token=endpoint("token"),
        revocation=endpoint("revocation"),
        names_itself=about.get("authorization_response_iss_parameter_supported") is True,
        by_form=not (isinstance(ways, list) and "client_secret_basic" in ways),
    )


def issuer_keys(found: list[Any]) -> Iterator[IssuerKey]:
    """Yield the public keys of a JWK set that can verify what we take; a set may hold others (RFC 7517, section 5)."""
    for jwk in found[:MOST_KEYS]:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig" or jwk.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        try:
            public = jwt.PyJWK(jwk).key
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        is_rsa = jwk["kty"] == "RSA"
        if "d" not in jwk and not (is_rsa and public.key_size < LEAST_RSA_BITS):
            yield IssuerKey(jwk.get("kid"), jwk["kty"], None if is_rsa else jwk.get("crv"), jwk.get("alg"), public)
