"""Who a request acts for and what it may do: tokens, sessions, and the one filter that decides access.

The way of working is Flask-JWT's: `authenticate(username, password)` and `identity(payload)` are the two handlers,
`current_identity` is a proxy, and the `JWT_*` settings mean what they meant there.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any, Generic, Literal, TypeVar, cast

import jwt
from flask import Flask, current_app
from werkzeug.local import LocalProxy

from service.context import Identity, g
from service.documents import Account, Record, Session
from service.documents.record import Raw, new_id, now
from service.errors import BadCredentials, NotAuthenticated, TokenExpired
from service.passwords import Hashing

ALGORITHMS = frozenset({"HS256", "HS384", "HS512"})
OWN_CLAIMS = ("sub", "sid", "auth_time")
VERIFIABLE_CLAIMS = frozenset({"signature", "exp", "nbf", "iat"})
VERIFIED_TOKENS = 10_000
"""Most verified tokens that a worker remembers, about 1 KB each; verifying one again costs 50 µs."""
KNOWN_SESSIONS = 10_000
SESSION_CHECK_SECONDS = 0.8
"""How long a session is taken to be alive without a look: an ended one is dead everywhere within a second."""

Action = Literal["read", "write", "own"]
Within = Sequence[Literal["mine", "shared", "public"] | str]
Filter = dict[str, Any]
Entry = TypeVar("Entry")

current_identity: Identity = cast(Identity, LocalProxy(lambda: g.identity))
"""The identity of this request. What leaves the request takes `str(current_identity)`: BSON cannot encode a proxy."""


class Recent(Generic[Entry]):
    """A map that forgets its oldest entries beyond `size`. A single step of it is atomic under the GIL."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.entries: dict[str, Entry] = {}

    def get(self, key: str) -> Entry | None:
        """Return the entry of `key`, None if there is none."""
        return self.entries.get(key)

    def put(self, key: str, entry: Entry) -> None:
        """Keep `entry`, and let the oldest go when there are too many."""
        self.entries[key] = entry
        while len(self.entries) > self.size:
            try:
                self.entries.pop(next(iter(self.entries)), None)
            except (RuntimeError, StopIteration):  # another thread changed the map meanwhile
                break

    def drop(self, matches: Callable[[Entry], bool]) -> None:
        """Forget every entry that `matches`."""
        for key, entry in list(self.entries.items()):
            if matches(entry):
                self.entries.pop(key, None)


class Tokens:
    """Issues access tokens and verifies them (RFC 7519, RFC 8725), as the `JWT_*` settings say."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read the settings once. Raises `ValueError` for one that would make tokens unsafe."""
        keys = config["JWT_SECRET_KEY"]
        self.keys: dict[str, str] = {key_id(key): key for key in ([keys] if isinstance(keys, str) else keys or [])}
        self.algorithm: str = config["JWT_ALGORITHM"]
        verify = set(config["JWT_VERIFY_CLAIMS"])
        if not self.keys:
            raise ValueError("JWT_SECRET_KEY or SECRET_KEY has to be set")
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"JWT_ALGORITHM has to be one of {', '.join(sorted(ALGORITHMS))}")
        if "signature" not in verify or not verify <= VERIFIABLE_CLAIMS:
            raise ValueError("JWT_VERIFY_CLAIMS has to hold `signature`, and beside it only exp, nbf and iat")
        self.options: Any = {f"verify_{claim}": claim in verify for claim in ("exp", "nbf", "iat")}
        self.options["require"] = [*config["JWT_REQUIRED_CLAIMS"], *OWN_CLAIMS]
        self.leeway = seconds(config["JWT_LEEWAY"])
        self.life = seconds(config["JWT_EXPIRATION_DELTA"])
        self.not_before = seconds(config["JWT_NOT_BEFORE_DELTA"])
        self.schemes = frozenset({"bearer", config["JWT_AUTH_HEADER_PREFIX"].lower()})
        self.verified: Recent[dict[str, Any]] = Recent(VERIFIED_TOKENS)

    def issue(self, account: str, session: str, auth_time: int) -> str:
        """Return a signed access token; `auth_time` is when the password was given, in seconds since the epoch."""
        kid, key = next(iter(self.keys.items()))
        issued = int(time.time())
        claims = {
            "sub": account,
            "sid": session,
            "auth_time": auth_time,
            "iat": issued,
            "nbf": issued + int(self.not_before),
            "exp": issued + int(self.life),
        }
        return jwt.encode(claims, key, self.algorithm, headers={"kid": kid})

    def verify(self, token: str) -> dict[str, Any]:
        """Return the claims of an access token.

        Raises `TokenExpired` when it is past its `exp`, `NotAuthenticated` for anything else that is wrong with it.
        """
        known = self.verified.get(token)
        if known is not None:
            if self.options["verify_exp"] and "exp" in known and time.time() >= known["exp"] + self.leeway:
                raise TokenExpired("the access token has expired; refresh it")
            return known
        try:
            claims = jwt.decode(
                token, self.key_of(token), algorithms=[self.algorithm], options=self.options, leeway=self.leeway
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpired("the access token has expired; refresh it") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise NotAuthenticated(f"the access token is not valid: {type(error).__name__}") from None
        check_types(claims)
        self.verified.put(token, claims)
        return claims

    def key_of(self, token: str) -> str:
        """Return the key that a token names in its header; the first where it names none."""
        kid = jwt.get_unverified_header(token).get("kid", next(iter(self.keys)))
        if not isinstance(kid, str) or kid not in self.keys:
            raise NotAuthenticated("the access token was signed with a key that is not in use")
        return self.keys[kid]


def check_types(claims: Mapping[str, Any]) -> None:
    """Raise `NotAuthenticated` where a claim has a type that it cannot have: a key may be shared with other issuers."""
    text = all(isinstance(claims[name], str) for name in ("sub", "sid"))
    whole = all(type(claims.get(name, 0)) in (int, float) for name in ("auth_time", "iat", "nbf", "exp"))
    if not text or not whole:
        raise NotAuthenticated("a claim of the access token has the wrong type")


def key_id(key: str) -> str:
    """Return a name for a key that tells nothing about it."""
    return hashlib.sha256(b"madang key id\0" + key.encode()).hexdigest()[:16]


def seconds(duration: float | timedelta) -> float:
    """Return a duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


class Security:
    """What one app keeps for its requests: keys, hashing threads, and who was seen of late."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.tokens = Tokens(config)
        self.hashing = Hashing(config["PASSWORD_HASHING_LIMIT"])
        self.session_life = seconds(config["JWT_REFRESH_EXPIRATION_DELTA"])
        self.identities: Recent[tuple[float, Identity]] = Recent(KNOWN_SESSIONS)
        self.secret: str = config["SECRET_KEY"] or next(iter(self.tokens.keys.values()))
        self.cursor_key = self.derived_key("cursor")

    def derived_key(self, purpose: str) -> bytes:
        """Return a key of 32 bytes for one `purpose`, so that no two uses share one (RFC 8725, section 3.12)."""
        return hmac.digest(self.secret.encode(), f"madang {purpose}".encode(), "sha256")


def init_app(app: Flask) -> None:
    """Read the `JWT_*` settings of `app`."""
    app.extensions["madang.security"] = Security(app.config)


def security() -> Security:
    """Return what the current app keeps."""
    return cast(Security, current_app.extensions["madang.security"])


# --- Who -------------------------------------------------------------------------------------------------------------


def identify(header: str | None) -> Identity:
    """Return whom an `Authorization` header names. Raises `NotAuthenticated` or `TokenExpired`."""
    scheme, _, token = (header or "").partition(" ")
    tokens = security().tokens
    if scheme.lower() not in tokens.schemes or not token:
        raise NotAuthenticated("send the access token as `Authorization: Bearer …`")
    return identity(tokens.verify(token.strip()))


def identity(payload: Mapping[str, Any]) -> Identity:
    """Return the identity that verified claims stand for, if its session is still there.

    Flask-JWT's second handler. The session is looked up at most once in `SESSION_CHECK_SECONDS`.
    """
    recent = security().identities
    known = recent.get(payload["sid"])
    moment = time.monotonic()
    if known is not None and moment - known[0] < SESSION_CHECK_SECONDS and known[1].account == payload["sub"]:
        return known[1]
    account = live_account(payload["sub"], payload["sid"])
    if account is None:
        raise NotAuthenticated("the session has ended; log in again")
    found = Identity(payload["sub"], payload["sid"], int(payload["auth_time"]), tuple(account.get("roles", ())))
    recent.put(payload["sid"], (moment, found))
    return found


def live_account(account: str, session: str) -> Raw | None:
    """Return the account of a session that has not ended, with its roles; None when one of the two is gone."""
    alive = Session._get_collection().find_one({"_id": session, "account": account}, {"expires_at": 1})
    if alive is None or alive["expires_at"] <= now():
        return None
    found: Raw | None = Account._get_collection().find_one({"_id": account}, {"roles": 1})
    return found


def authenticate(username: str, password: str) -> Raw:
    """Return the account with this name, without regard to case, and this password.

    Flask-JWT's first handler. Raises `BadCredentials` in the same time whichever is wrong.
    """
    account = Account._get_collection().find_one({"username_key": username.lower()})
    stored = None if account is None else account["password_hash"]
    if not security().hashing.matches(stored, password) or account is None:
        raise BadCredentials("the username or the password is wrong")
    return cast(Raw, account)


# --- Sessions --------------------------------------------------------------------------------------------------------


def open_session(account: str, device: str | None, address: str | None) -> dict[str, Any]:
    """Start a session of an account and return its tokens, as the login answers."""
    moment = now()
    session, auth_time = new_id(), int(moment.replace(tzinfo=UTC).timestamp())
    refresh = f"{session}.{secrets.token_urlsafe(32)}"
    document = Session(
        id=session,
        account=account,
        device=device,
        address=address,
        created_at=moment,
        last_used_at=moment,
        auth_time=auth_time,
        expires_at=moment + timedelta(seconds=security().session_life),
        refresh_hash=hashlib.sha256(refresh.encode()).hexdigest(),
    )
    document.save(force_insert=True)
    return token_answer(account, session, auth_time, refresh)


def token_answer(account: str, session: str, auth_time: int, refresh: str) -> dict[str, Any]:
    """Return the body of a login or a refresh."""
    tokens = security().tokens
    return {
        "access_token": tokens.issue(account, session, auth_time),
        "token_type": "Bearer",
        "expires_in": int(tokens.life),
        "refresh_token": refresh,
        "session_id": session,
    }


def forget(account: str, session: str | None = None) -> None:
    """Drop what this process remembers of one session of an account, or of all: they end here at once."""
    security().identities.drop(lambda entry: entry[1].account == account and session in (None, entry[1].session))


# --- What ------------------------------------------------------------------------------------------------------------

EVERYONE = "*"
ANY: Within = ("mine", "shared", "public")
NOT_BURIED: Filter = {"purge_at": {"$exists": False}}


def scope(action: Action, document: type[Record], within: Within = ANY) -> Filter:
    """Return the MongoDB filter of those records that the current identity may `read`, `write`, or `own`s.

    This is the only place where access is decided. `within` narrows reading to what is `mine`, `shared` with me by id
    or role, or `public`.
    """
    account, principals = str(current_identity), current_identity.principals
    if action == "own":
        return {"owner": account, **NOT_BURIED}
    if action == "write":
        return {"$or": [{"owner": account}, {"writers": {"$in": [*principals, EVERYONE]}}], **NOT_BURIED}
    # The hidden list of a tombstone is gone, so that reading finds none.
    entries = [f"o:{account}"] if "mine" in within else []
    entries += [f"r:{principal}" for principal in principals] if "shared" in within else []
    entries += [f"r:{EVERYONE}"] if "public" in within else []
    return {"access": entries[0] if len(entries) == 1 else {"$in": entries}}
