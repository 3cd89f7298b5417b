"""Transactions: some operations of one thread that are done together or not at all."""

from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, NoReturn, TypeVar

import pymongo
from mongoengine.connection import get_connection
from pymongo.errors import PyMongoError
from pymongo.synchronous.client_session import _SESSION, ClientSession

from service.core.errors import NotSupported

CONFLICT = "TransientTransactionError"
"""The label of an error that passes when the transaction is tried again."""

Result = TypeVar("Result")


class Transaction:
    """What there is to know of a transaction of this thread: how much it changes, and what is done after it.

    `findings` is what one try has found out and the next ones go by.
    """

    def __init__(self) -> None:
        self.findings: dict[Any, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Begin, or begin anew."""
        self.changed = 0
        self.following: list[Callable[[], None]] = []


active: ContextVar[Transaction | None] = ContextVar("transaction", default=None)


def is_active() -> bool:
    """Tell whether this thread's operations are part of a transaction."""
    return active.get() is not None


def run(work: Callable[[], Result], seconds: float = 0.0) -> Result:
    """Do `work` in one MongoDB transaction and return its result; inside another transaction, as a part of that.

    It is tried again, as MongoDB's driver asks, when the server says that the conflict passes, for as long as an
    operation may take, or for so many `seconds` where these are more, and no deadline is nearer. Every operation of
    this thread belongs to it, without being told. An exception undoes all.

    Raises `NotSupported` on mongomock.
    """
    client = get_connection()
    if not isinstance(client, pymongo.MongoClient):
        raise NotSupported("transactions need a real MongoDB")
    if is_active():
        return work()
    transaction = Transaction()
    token = active.set(transaction)
    try:
        timeout = max(client.options.timeout or 0.0, seconds)
        with pymongo.timeout(timeout), client.start_session() as session, session.bind():
            result = session.with_transaction(lambda _session: ended_on_error(session, transaction, work))
    finally:
        active.reset(token)
    for task in transaction.following:
        task()
    return result


def run_where_there_are(work: Callable[[], Result]) -> Result:
    """Do `work` in one transaction as `run` does; on mongomock, which has one process and none, without."""
    return run(work) if isinstance(get_connection(), pymongo.MongoClient) else work()


def ended_on_error(session: ClientSession, transaction: Transaction, work: Callable[[], Result]) -> Result:
    """Do `work`; when it fails, tell MongoDB at once.

    Where the time is up, the driver has none left to say so, and the records stay locked until the server finds out.
    """
    transaction.begin()
    try:
        return work()
    except BaseException:
        if session.in_transaction:
            Context().run(session.abort_transaction)
        raise


def afterwards(work: Callable[[], None]) -> None:
    """Do `work` when the transaction of this thread is committed, and never if it is undone; now if there is none.

    What has to be done for certain is found again by somebody else where the process dies in between.
    """
    transaction = active.get()
    if transaction is None:
        work()
    else:
        transaction.following.append(work)


def findings() -> dict[Any, Any]:
    """Return what the tries of the transaction of this thread have found out; outside of one nobody keeps it."""
    return (active.get() or Transaction()).findings


def has_room(records: int, most: int) -> bool:
    """Tell whether the transaction of this thread may change so many records more, `most` in all, and count them."""
    transaction = active.get() or Transaction()
    transaction.changed += records
    return transaction.changed <= most


def outside(work: Callable[..., Result], *args: Any) -> Result:
    """Do `work` outside the transaction of this thread, if there is one: one that failed takes no operation."""
    return copy_context().run(detached, work, *args)


def detached(work: Callable[..., Result], *args: Any) -> Result:
    """Do `work` in a context that belongs to no transaction from here on."""
    active.set(None)
    _SESSION.set(None)
    return work(*args)


def try_again(error: PyMongoError) -> NoReturn:
    """Raise an error of an operation so that its transaction is tried again as a whole."""
    error._add_error_label(CONFLICT)
    raise error


def is_conflict(error: Exception) -> bool:
    """Tell whether a transaction has to be tried again as a whole."""
    return isinstance(error, PyMongoError) and error.has_error_label(CONFLICT)
