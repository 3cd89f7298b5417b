"""Access tokens: signed, verified, and the keys to do it (RFC 7519, RFC 8725)."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import jwt
import orjson
from jwt.algorithms import Algorithm, get_default_algorithms

from service.core.base64url import decode_base64url, encode_base64url
from service.core.errors import NotAuthenticated, TokenExpired

SHARED = frozenset({"HS256", "HS384", "HS512"})
ASYMMETRIC = frozenset({"ES256", "EdDSA"})
OWN_CLAIMS = ("sub", "sid", "auth_time")
VERIFIABLE_CLAIMS = frozenset({"signature", "exp", "nbf", "iat"})
TYPES = frozenset({None, "JWT", "at+jwt"})
VERIFIED_TOKENS = 10_000
"""Most verified tokens that a worker remembers, 0.8 KB each; verifying one again costs 50 µs."""
LONGEST_TOKEN = 4096
FAULTS: dict[type[Exception], str] = {
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.InvalidAlgorithmError: "it is signed by another algorithm",
    jwt.ImmatureSignatureError: "it is not good yet; look at the clocks",
    jwt.MissingRequiredClaimError: "a claim is missing",
}

Entry = TypeVar("Entry")


class Recent(Generic[Entry]):
    """A map that forgets its oldest entries: those beyond `size`, and those that are of no use any more.

    Without the latter each map of a worker would grow to its `size` however few people use the service. A single step
    of it is atomic under the GIL.
    """

    def __init__(self, size: int, is_over: Callable[[Entry], bool]) -> None:
        """Take the most entries, and what tells that one is of no use; entries come in the order in which they end."""
        self.size = size
        self.is_over = is_over
        self.entries: dict[str, Entry] = {}

    def get(self, key: str) -> Entry | None:
        """Return the entry of `key`, None if there is none."""
        return self.entries.get(key)

    def put(self, key: str, entry: Entry) -> None:
        """Keep `entry` as the newest, and let the oldest go."""
        entries = self.entries
        entries.pop(key, None)
        entries[key] = entry
        try:
            while len(entries) > self.size or self.is_over(entries[next(iter(entries))]):
                entries.pop(next(iter(entries)), None)
        except (KeyError, RuntimeError, StopIteration):  # nothing is left, or another thread made room meanwhile
            pass

    def drop(self, matches: Callable[[Entry], bool]) -> None:
        """Forget every entry that `matches`."""
        for key, entry in list(self.entries.items()):
            if matches(entry):
                self.entries.pop(key, None)


@dataclass(frozen=True, slots=True)
class Key:
    """A key with its name. `signing` is None for a retired public key; `public` is None for a shared secret."""

    kid: str
    signing: Any
    verifying: Any
    public: Mapping[str, Any] | None = None


def load_key(algorithm: Algorithm, name: str, text: str) -> Key:
    """Return the key in `text`: a shared secret, or a PEM of a private or of a retired public key.

    Raises `ValueError` for a PEM that does not hold a key for the algorithm `name`.
    """
    if name in SHARED and "-----BEGIN" in text:
        raise ValueError(f"JWT_SECRET_KEY is a PEM, and {name} takes a shared secret")
    if name in SHARED:
        return Key(hashlib.sha256(b"madang key id\0" + text.encode()).hexdigest()[:16], text, text)
    try:
        loaded = algorithm.prepare_key(text)
    except (jwt.InvalidKeyError, TypeError, ValueError) as error:
        raise ValueError(f"JWT_SECRET_KEY has to hold a PEM key for {name}") from error
    private = hasattr(loaded, "private_bytes")
    verifying = loaded.public_key() if private else loaded
    public = dict(algorithm.to_jwk(verifying, as_dict=True))
    kid = thumbprint(public)
    return Key(kid, loaded if private else None, verifying, {**public, "kid": kid, "alg": name, "use": "sig"})


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the name of a public key (RFC 7638): a hash of its required members in their order."""
    members = {name: jwk[name] for name in sorted(("crv", "kty", "x", "y")) if name in jwk}
    text = "{" + ",".join(f'"{name}":"{value}"' for name, value in members.items()) + "}"
    return encode_base64url(hashlib.sha256(text.encode()).digest())


class Tokens:
    """Issues access tokens and verifies them, as the `JWT_*` settings say."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read the settings once. Raises `ValueError` for one that would make tokens unsafe."""
        texts = config["JWT_SECRET_KEY"] or []
        self.algorithm: str = config["JWT_ALGORITHM"]
        verify = set(config["JWT_VERIFY_CLAIMS"])
        if self.algorithm not in SHARED | ASYMMETRIC:
            raise ValueError(f"JWT_ALGORITHM has to be one of {', '.join(sorted(SHARED | ASYMMETRIC))}")
        if "signature" not in verify or not verify <= VERIFIABLE_CLAIMS:
            raise ValueError("JWT_VERIFY_CLAIMS has to hold `signature`, and beside it only exp, nbf and iat")
        algorithm = get_default_algorithms()[self.algorithm]
        loaded = [load_key(algorithm, self.algorithm, text) for text in keys_in(texts)]
        if not loaded or loaded[0].signing is None or not all(texts):
            raise ValueError("JWT_SECRET_KEY or SECRET_KEY has to be set, and the first key has to be one that signs")
        self.keys = {key.kid: key for key in loaded}
        self.first = loaded[0]
        # What other keys may be derived from: a public key is no secret.
        self.secrets = [text for text, key in zip(keys_in(texts), loaded, strict=True) if key.signing is not None]
        self.options: Any = {f"verify_{claim}": claim in verify for claim in ("exp", "nbf", "iat")}
        self.options["require"] = [*config["JWT_REQUIRED_CLAIMS"], *OWN_CLAIMS]
        self.leeway = seconds(config["JWT_LEEWAY"])
        self.life = seconds(config["JWT_EXPIRATION_DELTA"])
        self.not_before = seconds(config["JWT_NOT_BEFORE_DELTA"])
        self.schemes = frozenset({"bearer", config["JWT_AUTH_HEADER_PREFIX"].lower()})
        self.verified: Recent[dict[str, Any]] = Recent(VERIFIED_TOKENS, is_over)

    def issue(self, account: str, session: str, auth_time: int) -> str:
        """Return a signed access token; `auth_time` is when the password was given, in seconds since the epoch."""
        issued = int(time.time())
        claims = {
            "sub": account,
            "sid": session,
            "auth_time": auth_time,
            "iat": issued,
            "nbf": issued + int(self.not_before),
            "exp": issued + int(self.life),
        }
        return jwt.encode(claims, self.first.signing, self.algorithm, headers={"kid": self.first.kid})

    def verify(self, token: str) -> dict[str, Any]:
        """Return what an access token says of who sends it, `OWN_CLAIMS`, and `until` when, in seconds since the epoch.

        Raises `TokenExpired` when it is past its `exp`, `NotAuthenticated` for anything else that is wrong with it.
        """
        known = self.verified.get(token)
        if known is not None:
            if is_over(known):
                raise TokenExpired("the access token has expired; refresh it")
            return known
        if len(token) > LONGEST_TOKEN:
            raise NotAuthenticated("the access token is longer than any that was issued")
        try:
            check_form(token)
            claims = jwt.decode(
                token, self.key_of(token), algorithms=[self.algorithm], options=self.options, leeway=self.leeway
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpired("the access token has expired; refresh it") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise NotAuthenticated(f"the access token is not valid: {fault_of(error)}") from None
        check_types(claims)
        # Not all the claims: whoever shares the key may send any number, and they would stay here.
        until = claims["exp"] + self.leeway if self.options["verify_exp"] and "exp" in claims else math.inf
        kept = {"sub": claims["sub"], "sid": claims["sid"], "auth_time": claims["auth_time"], "until": until}
        self.verified.put(token, kept)
        return kept

    def key_of(self, token: str) -> Any:
        """Return the key that a token names in its header; the first where it names none."""
        header = jwt.get_unverified_header(token)
        kid = header.get("kid", self.first.kid)
        if kid not in self.keys:
            raise NotAuthenticated("the access token was signed with a key that is not in use")
        if header.get("typ") not in TYPES:
            raise NotAuthenticated("this token is not an access token")
        return self.keys[kid].verifying

    def public_keys(self) -> list[Mapping[str, Any]]:
        """Return the public keys for other services, as a JWK set holds them (RFC 7517); none of a shared secret."""
        return [key.public for key in self.keys.values() if key.public is not None]


def is_over(kept: Mapping[str, Any]) -> bool:
    """Tell whether a verified token has expired."""
    return time.time() >= kept["until"]  # type: ignore[no-any-return]


def keys_in(keys: str | list[str]) -> list[str]:
    """Return the keys of a setting that is one key or several."""
    return [keys] if isinstance(keys, str) else keys


def check_form(token: str) -> None:
    """Raise `ValueError` for a token that is spelled in another way than ours: PyJWT takes JSON in UTF-16 too."""
    header, claims, _signature = map(decode_base64url, token.split("."))
    orjson.loads(header)
    orjson.loads(claims)


def fault_of(error: Exception) -> str:
    """Return what is wrong with a token that PyJWT or `check_form` has refused, for those who look for the reason."""
    return next((text for kind, text in FAULTS.items() if isinstance(error, kind)), "it has not the form of a token")


def check_types(claims: Mapping[str, Any]) -> None:
    """Raise `NotAuthenticated` where a claim has a type that it cannot have, or the token is for an audience of others.

    The key may be shared with other issuers.
    """
    if "aud" in claims:
        raise NotAuthenticated("the token is for an audience, and those of this service name none")
    # PyJWT looks at the type of `sub`, and what is not finite is no JSON to orjson.
    times = [claims[name] for name in ("auth_time", "iat", "nbf", "exp") if name in claims]
    if not isinstance(claims["sid"], str) or any(type(time) not in (int, float) for time in times):
        raise NotAuthenticated("a claim of the access token has the wrong type")


def seconds(duration: float | timedelta) -> float:
    """Return a duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
