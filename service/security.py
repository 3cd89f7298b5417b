"""Who a request acts for.

The way of working is Flask-JWT's: `authenticate(username, password)` and `identity(payload)` are the two handlers,
`current_identity` is a proxy, and the `JWT_*` settings mean what they meant there.
"""

from collections.abc import Mapping
from typing import Any, cast

from flask import Flask
from werkzeug.local import LocalProxy

from service.context import current_globals, current_service
from service.core.errors import BadCredentials, Forbidden, NotAuthenticated
from service.documents import Account
from service.identity.keys import Keys
from service.identity.passwords import Hashing
from service.identity.sessions import Sessions
from service.identity.throttle import Throttle
from service.identity.tokens import Tokens
from service.mongo.raw import Raw
from service.policy import Identity

current_identity: Identity = cast(Identity, LocalProxy(lambda: current_globals().identity))
"""The identity of this request. What leaves the request takes `str(current_identity)`: BSON cannot encode a proxy."""


class Security:
    """What one app keeps for its requests: keys, sessions, hashing threads and limits."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.tokens = Tokens(config)
        self.keys = Keys((config["SECRET_KEY"],) if config["SECRET_KEY"] else tuple(self.tokens.secrets))
        self.sessions = Sessions(config, self.tokens, self.keys)
        self.hashing = Hashing(config["PASSWORD_HASHING_LIMIT"])
        self.throttle = Throttle(config)
        self.cursor_key = self.keys.derived("cursor")


def init_app(app: Flask) -> None:
    """Read the `JWT_*` settings of `app`."""
    app.extensions["madang.security"] = Security(app.config)


def security() -> Security:
    """Return what the current app keeps."""
    found: Security = current_service().extensions["madang.security"]
    return found


def identify(header: str | None) -> Identity:
    """Return whom an `Authorization` header names. Raises `NotAuthenticated` or `TokenExpired`."""
    scheme, _, token = (header or "").partition(" ")
    tokens = security().tokens
    if scheme.lower() not in tokens.schemes or not token:
        raise NotAuthenticated("send the access token as `Authorization: Bearer …`", offered=header is not None)
    return identity(tokens.verify(token.strip()))


def identity(payload: Mapping[str, Any]) -> Identity:
    """Return the identity that verified claims stand for. Flask-JWT's second handler.

    Raises `NotAuthenticated` when the session has ended.
    """
    found = security().sessions.identity(payload["sub"], payload["sid"], int(payload["auth_time"]))
    if found is None:
        raise NotAuthenticated("the session has ended; log in again")
    return found


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
    if (renewed := security().hashing.renewed(account["password_hash"], password)) is not None:
        same = {"_id": account["_id"], "password_hash": account["password_hash"]}
        if not Account._get_collection().update_one(same, {"$set": {"password_hash": renewed}}).modified_count:
            # Somebody renewed or changed it at the same moment: look again.
            return authenticate(username, password)
        account["password_hash"] = renewed
    return account
