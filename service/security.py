"""Who a request acts for and what it may do: login, sessions, and the one filter that decides access.

The way of working is Flask-JWT's: `authenticate(username, password)` and `identity(payload)` are the two handlers,
`current_identity` is a proxy, and the `JWT_*` settings mean what they meant there.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any, Literal, cast

from flask import Flask
from werkzeug.local import LocalProxy

from service.context import Identity, current_globals, current_service, g
from service.core.errors import BadCredentials, Forbidden, NotAuthenticated, TokenReused
from service.core.log import log
from service.documents import Account, Event, Record, Session
from service.documents.account import ALIVE
from service.documents.record import Raw, new_id, now
from service.identity.passwords import Hashing, needs_rehash
from service.identity.throttle import Throttle
from service.identity.tokens import Recent, Tokens, seconds
from service.mongo import wire

KNOWN_SESSIONS = 10_000
SESSION_CHECK_SECONDS = 0.8
"""How long a session is taken to be alive without a look: an ended one is dead everywhere within a second."""
SECRET_BYTES = 32
MAC_BYTES = 16

Action = Literal["read", "write", "own"]
Within = Sequence[Literal["mine", "shared", "public"] | str]
Filter = dict[str, Any]

current_identity: Identity = cast(Identity, LocalProxy(lambda: current_globals().identity))
"""The identity of this request. What leaves the request takes `str(current_identity)`: BSON cannot encode a proxy."""


class Security:
    """What one app keeps for its requests: keys, hashing threads, and who was seen of late."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.tokens = Tokens(config)
        self.hashing = Hashing(config["PASSWORD_HASHING_LIMIT"])
        self.throttle = Throttle(config)
        self.session_life = timedelta(seconds=seconds(config["JWT_REFRESH_EXPIRATION_DELTA"]))
        self.grace = timedelta(seconds=seconds(config["JWT_REFRESH_GRACE"]))
        self.identities: Recent[tuple[float, Identity]] = Recent(KNOWN_SESSIONS, is_stale)
        self.secrets: list[str] = [config["SECRET_KEY"]] if config["SECRET_KEY"] else self.tokens.secrets
        self.cursor_key = self.derived_key("cursor")

    def derived_key(self, purpose: str, secret: str | None = None) -> bytes:
        """Return a key of 32 bytes for one `purpose`, so that no two uses share one (RFC 8725, section 3.12)."""
        return hmac.digest((secret or self.secrets[0]).encode(), f"madang {purpose}".encode(), "sha256")


def init_app(app: Flask) -> None:
    """Read the `JWT_*` settings of `app`."""
    app.extensions["madang.security"] = Security(app.config)


def security() -> Security:
    """Return what the current app keeps."""
    found: Security = current_service().extensions["madang.security"]
    return found


# --- Who -------------------------------------------------------------------------------------------------------------


def identify(header: str | None) -> Identity:
    """Return whom an `Authorization` header names. Raises `NotAuthenticated` or `TokenExpired`."""
    scheme, _, token = (header or "").partition(" ")
    tokens = security().tokens
    if scheme.lower() not in tokens.schemes or not token:
        raise NotAuthenticated("send the access token as `Authorization: Bearer …`", offered=header is not None)
    return identity(tokens.verify(token.strip()))


def identity(payload: Mapping[str, Any]) -> Identity:
    """Return the identity that verified claims stand for, if its session is still there.

    Flask-JWT's second handler. The session is looked up at most once in `SESSION_CHECK_SECONDS`.
    """
    recent = security().identities
    known = recent.get(payload["sid"])
    moment = time.monotonic()
    if known is not None and moment - known[0] < SESSION_CHECK_SECONDS and known[1].account == payload["sub"]:
        same = known[1].auth_time == payload["auth_time"]
        return known[1] if same else replace(known[1], auth_time=int(payload["auth_time"]))
    account = live_account(payload["sub"], payload["sid"])
    if account is None:
        raise NotAuthenticated("the session has ended; log in again")
    found = Identity(payload["sub"], payload["sid"], int(payload["auth_time"]), tuple(account.get("roles", ())))
    recent.put(payload["sid"], (moment, found))
    return found


def is_stale(seen: tuple[float, Identity]) -> bool:
    """Tell whether a session was looked up too long ago to be taken to be alive."""
    return time.monotonic() - seen[0] >= SESSION_CHECK_SECONDS


def live_account(account: str, session: str) -> Raw | None:
    """Return the account of a session that has not ended, with its roles; None when one of the two is gone."""
    alive = wire.find_one(Session._get_collection(), {"_id": session, "account": account}, {"expires_at": 1})
    if alive is None or alive["expires_at"] <= now():
        return None
    return wire.find_one(Account._get_collection(), {"_id": account, **ALIVE}, {"roles": 1})


def authenticate(username: str, password: str) -> Raw:
    """Return the account with this name, without regard to case, and this password.

    Flask-JWT's first handler. Raises `BadCredentials` in the same time whichever is wrong, `Forbidden` when the
    account is locked.
    """
    account: Raw | None = Account._get_collection().find_one({"username_key": username.lower()})
    stored = None if account is None else account["password_hash"]
    if not security().hashing.matches(stored, password) or account is None:
        raise BadCredentials("the username or the password is wrong")
    if "locked_at" in account:
        raise Forbidden("the account is locked")
    if needs_rehash(account["password_hash"]):
        renewed = security().hashing.hash(password)
        same = {"_id": account["_id"], "password_hash": account["password_hash"]}
        if not Account._get_collection().update_one(same, {"$set": {"password_hash": renewed}}).modified_count:
            # Somebody renewed or changed it at the same moment: look again.
            return authenticate(username, password)
        account["password_hash"] = renewed
    return account


def failed_login(username: str, device: str | None) -> None:
    """Record a failed login; for a name that does not exist too, so that the time does not tell it."""
    account = Account._get_collection().find_one({"username_key": username.lower()}, {"_id": 1})
    Event.record("" if account is None else account["_id"], "login_failed", g.address, device)


def device_of(session: str) -> str | None:
    """Return the name of the device of a session, None when it has none or has ended."""
    found = Session._get_collection().find_one({"_id": session}, {"device": 1}) or {}
    return cast("str | None", found.get("device"))


# --- Sessions --------------------------------------------------------------------------------------------------------


def open_session(account: Raw, device: str | None) -> dict[str, Any]:
    """Start a session of an account whose password was just given, and return its tokens, as the login answers.

    Raises `BadCredentials` when the password was changed, or the account deleted or locked, in the meantime.
    """
    moment = now()
    session, secret = new_id(), secrets.token_bytes(SECRET_BYTES)
    document = {
        "_id": session,
        "account": account["_id"],
        "device": device,
        "address": g.address,
        "created_at": moment,
        "last_used_at": moment,
        "auth_time": int(moment.replace(tzinfo=UTC).timestamp()),
        "expires_at": moment + security().session_life,
        "refresh_hash": hashed(secret),
    }
    Session._get_collection().insert_one(document)
    # Whoever changes a password changes the account first and ends its sessions after: one of the two sees the other.
    unchanged = {"_id": account["_id"], "password_hash": account["password_hash"], "locked_at": {"$exists": False}}
    if Account._get_collection().find_one(unchanged, {"_id": 1}) is None:
        Session._get_collection().delete_one({"_id": session})
        raise BadCredentials("the username or the password is wrong")
    Event.record(account["_id"], "login", g.address, device)
    return token_answer(document, secret)


def refresh(token: str) -> dict[str, Any]:
    """Spend a refresh token and return the tokens that follow it, as the refresh answers.

    Its successor is derived from it with a key of ours, so that a retry within the grace gets the very same one
    although only hashes are stored. Raises `NotAuthenticated` for what never was a token or whose session has ended,
    `TokenReused` for one that was spent before; that ends the session.
    """
    session, secret, key = unpacked(token)
    following = hmac.digest(security().derived_key("successor", key), session.encode() + secret, "sha256")
    moment = now()
    rotation = {
        "refresh_hash": hashed(following),
        "previous_hash": hashed(secret),
        "rotated_at": moment,
        "last_used_at": moment,
        "expires_at": moment + security().session_life,
    }
    good = {"_id": session, "refresh_hash": hashed(secret), "expires_at": {"$gt": moment}}
    found = wire.change(Session._get_collection(), good, {"$set": rotation})
    if found is None:
        found = repeated(session, secret, following)
    return token_answer(found, following)


def repeated(session: str, secret: bytes, following: bytes) -> Raw:
    """Return the session of a refresh token that was just rotated; ends the session of one spent long ago."""
    found = Session._get_collection().find_one({"_id": session, "expires_at": {"$gt": now()}})
    if found is None:
        raise NotAuthenticated("the session has ended; log in again")
    just_rotated = found.get("previous_hash") == hashed(secret) and found["refresh_hash"] == hashed(following)
    if just_rotated and now() - found["rotated_at"] <= security().grace:
        return cast(Raw, found)
    end_sessions(found["account"], session)
    Event.record(found["account"], "refresh_reused", g.address, found.get("device"))
    log.warning("refresh_reused", account=found["account"], session=session, request_id=g.request_id)
    raise TokenReused("the refresh token was spent before; the session has ended")


def packed(session: str, secret: bytes) -> str:
    """Return a refresh token: the session, a secret, and the proof that we made it."""
    proof = proof_of(session, secret, security().secrets[0])
    return f"{session}.{base64.urlsafe_b64encode(secret + proof).rstrip(b'=').decode()}"


def unpacked(token: str) -> tuple[str, bytes, str]:
    """Return the session and the secret of a refresh token, and the key that proves it; raises `NotAuthenticated`."""
    session, _, text = token.rpartition(".")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        data = b""
    secret, proof = data[:SECRET_BYTES], data[SECRET_BYTES:]
    for key in security().secrets:
        if hmac.compare_digest(proof, proof_of(session, secret, key)):
            return session, secret, key
    # A guess must not end a session, so what we did not make is no reuse.
    raise NotAuthenticated("this is not a refresh token of this service")


def proof_of(session: str, secret: bytes, key: str) -> bytes:
    """Return what shows that we made a refresh token."""
    return hmac.digest(security().derived_key("refresh", key), session.encode() + b"\0" + secret, "sha256")[:MAC_BYTES]


def hashed(secret: bytes) -> str:
    """Return what is stored of a secret of 32 random bytes; one that nobody can guess needs no slow hash."""
    return hashlib.sha256(secret).hexdigest()


def token_answer(session: Raw, secret: bytes) -> dict[str, Any]:
    """Return the body of a login or a refresh."""
    tokens = security().tokens
    return {
        "access_token": tokens.issue(session["account"], session["_id"], session["auth_time"]),
        "token_type": "Bearer",
        "expires_in": int(tokens.life),
        "refresh_token": packed(session["_id"], secret),
        "session_id": session["_id"],
    }


def end_sessions(account: str, only: str | None = None, but: str | None = None) -> int:
    """End the sessions of an account: all, `only` one, or all `but` one. Return how many."""
    condition: Filter = {"account": account}
    if only is not None:
        condition["_id"] = only
    elif but is not None:
        condition["_id"] = {"$ne": but}
    ended = Session._get_collection().delete_many(condition).deleted_count
    security().identities.drop(lambda entry: entry[1].account == account)
    return int(ended)


# --- What ------------------------------------------------------------------------------------------------------------

EVERYONE = "*"
ANY: Within = ("mine", "shared", "public")
NOT_BURIED: Filter = {"purge_at": {"$exists": False}}


def scope(action: Action, document: type[Record], within: Within = ANY) -> Filter:
    """Return the MongoDB filter of those records that the current identity may `read`, may `write`, or owns (`own`).

    This is the only place where access is decided. `within` narrows reading to what is `mine`, `shared` with me by id
    or role, or `public`.
    """
    who = current_globals().identity
    account, principals = who.account, who.principals
    if action == "own":
        return {"owner": account, **NOT_BURIED}
    if action == "write":
        return {"$or": [{"owner": account}, {"writers": {"$in": [*principals, EVERYONE]}}], **NOT_BURIED}
    # The hidden list of a tombstone is gone, so that reading finds none.
    entries = [f"o:{account}"] if "mine" in within else []
    entries += [f"r:{principal}" for principal in principals] if "shared" in within else []
    entries += [f"r:{EVERYONE}"] if "public" in within else []
    return {"access": entries[0] if len(entries) == 1 else {"$in": entries}}
