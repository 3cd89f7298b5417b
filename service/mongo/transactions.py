"""Transactions: some operations of one thread that are done together or not at all."""

from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, TypeVar, cast

import mongomock
import pymongo
from mongoengine.connection import get_connection
from pymongo.errors import PyMongoError
from pymongo.synchronous.client_session import ClientSession

from service.core.errors import NotSupported

Result = TypeVar("Result")

active: ContextVar[bool] = ContextVar("transaction", default=False)


def is_active() -> bool:
    """Tell whether this thread's operations are part of a transaction."""
    return active.get()


def run(work: Callable[[], Result], seconds: float) -> Result:
    """Do `work` in one MongoDB transaction and return its result; inside another transaction, as a part of that.

    It is tried again, as MongoDB's driver asks, when the server says that the conflict passes, for as long as
    `seconds`. Every operation of this thread belongs to it, without being told. An exception undoes all.

    Raises `NotSupported` on mongomock.
    """
    client = get_connection()
    if isinstance(client, mongomock.MongoClient):
        raise NotSupported("transactions need a real MongoDB")
    if is_active():
        return work()
    token = active.set(True)
    try:
        with pymongo.timeout(seconds), client.start_session() as session, session.bind():
            return cast(Result, session.with_transaction(lambda _session: ended_on_error(session, work)))
    finally:
        active.reset(token)


def ended_on_error(session: ClientSession, work: Callable[[], Result]) -> Result:
    """Do `work`; when it fails, tell MongoDB at once.

    Where the time is up, the driver has none left to say so, and the records stay locked until the server finds out.
    """
    try:
        return work()
    except BaseException:
        if session.in_transaction:
            outside(session.abort_transaction)
        raise


def outside(work: Callable[..., Result], *args: Any) -> Result:
    """Do `work` outside the transaction of this thread, if there is one: one that failed takes no operation."""
    return Context().run(work, *args)


def is_conflict(error: Exception) -> bool:
    """Tell whether a transaction has to be tried again as a whole."""
    return isinstance(error, PyMongoError) and error.has_error_label("TransientTransactionError")
