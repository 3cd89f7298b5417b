"""Who a request of Flask's acts for.

The way of working is Flask-JWT's: `authenticate(username, password)` and `identity(payload)` are the two handlers,
`current_identity` is a proxy, and the `JWT_*` settings mean what they meant there. What they do stands in
`service/identity/security.py`, which the streams use without Flask.
"""

from collections.abc import Mapping
from typing import Any, cast

from flask import Flask
from werkzeug.local import LocalProxy

from service.context import current_globals, current_service
from service.identity.security import Security
from service.mongo.raw import Raw
from service.policy import Identity

current_identity: Identity = cast(Identity, LocalProxy(lambda: current_globals().identity))
"""The identity of this request. What leaves the request takes `str(current_identity)`: BSON cannot encode a proxy."""


def init_app(app: Flask) -> None:
    """Read the `JWT_*` settings of `app`."""
    app.extensions["madang.security"] = Security(app.config)


def security() -> Security:
    """Return what the current app keeps."""
    found: Security = current_service().extensions["madang.security"]
    return found


def identify(header: str | None) -> Identity:
    """Return whom an `Authorization` header names. Raises `NotAuthenticated` or `TokenExpired`."""
    return security().identify(header)


def identity(payload: Mapping[str, Any]) -> Identity:
    """Return the identity that verified claims stand for: see `Security.identity`."""
    return security().identity(payload)


def authenticate(username: str, password: str) -> Raw:
    """Return the account with this name and this password: see `Security.authenticate`."""
    return security().authenticate(username, password)
