"""What belongs to one request and nobody else: the typed `g`."""

from typing import Any, cast

import flask
from flask import Flask
from flask.ctx import _AppCtxGlobals
from flask.globals import _cv_app

from service.model.registry import Registry
from service.policy import Identity


class Globals(_AppCtxGlobals):
    """The fields of `g`. Those of a request are set in `before_request` and gone at its end."""

    request_id: str
    started: float
    address: str
    identity: Identity

    def __getattr__(self, name: str) -> Any:
        """Say what is missing; without this, a read outside a request would be a bare AttributeError."""
        if name.startswith("__") or name not in Globals.__annotations__:
            raise AttributeError(name)
        raise RuntimeError(f"g.{name} is read where it is not set: outside a request, or before authentication")


g = cast(Globals, flask.g)


OUTSIDE = "this belongs to a request, and there is none"


# Through Flask's proxies each look takes half a microsecond, and a request looks thirty times.
def current_service() -> Flask:
    """Return the application itself. Raises `RuntimeError` outside of its context, as Flask's proxies do."""
    try:
        return _cv_app.get().app
    except LookupError:
        raise RuntimeError(OUTSIDE) from None


def current_globals() -> Globals:
    """Return `g` itself. Raises `RuntimeError` outside of a context."""
    try:
        return _cv_app.get().g  # type: ignore[return-value]
    except LookupError:
        raise RuntimeError(OUTSIDE) from None


def current_registry() -> Registry:
    """Return the record types of the app. Raises `RuntimeError` outside of a context."""
    found: Registry = current_service().extensions["madang.registry"]
    return found
