"""The deadline of a request: how long all its operations may take together, whatever driver does them."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from typing import Any, TypeVar

import pymongo
from mongoengine.connection import get_connection
from pymongo import _csot
from pymongo.errors import PyMongoError

from service.core.errors import TooExpensive
from service.mongo import connection

Result = TypeVar("Result")

QUERY_SHARE = 0.4
"""What of the time of an operation MongoDB may take for a query that a client thought up."""
HEALTHY_SECONDS = 0.5
"""Within which a MongoDB that is well answers something cheap."""


def lasting(seconds: float) -> AbstractContextManager[Any]:
    """Return the context whose operations take so many seconds together, or until the deadline around it."""
    return pymongo.timeout(seconds)


def left() -> float:
    """Return the seconds until the deadline; infinite where there is none."""
    return _csot.get_deadline() - time.monotonic()


def apart(work: Callable[..., Result], *args: Any) -> Result:
    """Do `work` without a deadline but that which each of its operations has."""
    return copy_context().run(released, work, *args)


def anew(seconds: float, work: Callable[..., Result], *args: Any) -> Result:
    """Do `work` with a deadline so many seconds from now, whatever deadline there was."""

    def lasting_work() -> Result:
        with lasting(seconds):
            return work(*args)

    return apart(lasting_work)


def released(work: Callable[..., Result], *args: Any) -> Result:
    """Do `work` in a context whose deadline is gone from here on."""
    _csot.reset_all()
    return work(*args)


def limited(work: Callable[[], Result]) -> Result:
    """Do the `work` of a query that a client thought up, in the time that one may take.

    Raises `TooExpensive` when that was not enough and MongoDB is well: another try would cost the same.
    """
    client = get_connection()
    if not isinstance(client, pymongo.MongoClient):
        return work()
    timeout: Any = client.options.timeout
    try:
        with lasting(timeout * QUERY_SHARE):
            return work()
    except PyMongoError as error:
        if not was_too_short(error):
            raise
        raise TooExpensive from error


def was_too_short(error: PyMongoError) -> bool:
    """Tell whether an operation failed for want of time although MongoDB is well."""
    return error.timeout and Context().run(is_well)


def is_well() -> bool:
    """Tell whether MongoDB answers something cheap at once."""
    with lasting(HEALTHY_SECONDS):
        return connection.is_writable()
