"""The connection to MongoDB: how it is opened, how long it may take, and what its errors mean to a client."""

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from typing import Any, TypeVar, cast

import mongoengine
import mongomock
import pymongo
from mongoengine.connection import get_connection
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)
from pymongo.synchronous.client_session import ClientSession
from pymongo.uri_parser import parse_uri

from service.core import metrics
from service.core.errors import AlreadyExists, DatabaseUnavailable, NotSupported, Problem, TooLarge

MEMORY = "memory://"
"""Scheme of a `MONGODB_URI` that means mongomock: nothing is kept."""

TOO_LARGE_CODES = frozenset({10334, 17280, 17419, 17420})
"""Server codes of a document over 16 MiB and of an index entry that is too long."""


def connection_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `mongoengine.connect`. Every operation has a deadline (`timeoutMS`).

    The write concern is the server's default, a majority since MongoDB 5: named here, PyMongo 4.20 would send it inside
    of transactions too, where the server refuses it. Reads ask the primary, where every acknowledged write is.
    Raises `ValueError` for a URI that asks for less.
    """
    uri = config["MONGODB_URI"]
    if is_memory(uri):
        return {"host": "mongodb://localhost", "db": "madang", "mongo_client_class": mongomock.MongoClient}
    return {
        "host": without_write_concern(uri),
        "db": name_of(uri),
        "connect": False,
        "timeoutMS": int(config["MONGODB_TIMEOUT"] * 1000),
        "serverSelectionTimeoutMS": int(config["MONGODB_CONNECT_TIMEOUT"] * 1000),
        "connectTimeoutMS": int(config["MONGODB_CONNECT_TIMEOUT"] * 1000),
        "maxPoolSize": config["MONGODB_POOL_SIZE"],
        "retryWrites": True,
        "retryReads": True,
        "readPreference": "primary",
        "appname": "madang",
        "event_listeners": metrics.LISTENERS,
    }


def is_memory(uri: str | None) -> bool:
    """Tell whether a URI means mongomock."""
    return bool(uri and uri.startswith(MEMORY))


def name_of(uri: str) -> str:
    """Return the name of the database in the path of a URI."""
    return str(parse_uri(uri)["database"] or "madang")


RULES: Mapping[str, frozenset[str]] = {
    "w": frozenset({"majority"}),
    "journal": frozenset({"true"}),
    "retrywrites": frozenset({"true"}),
}
"""What a URI may say of options on which it stands that no acknowledged write is lost."""


def without_write_concern(uri: str) -> str:
    """Return a URI without the options that are the rule here anyhow; raises `ValueError` where they break it."""
    server, mark, options = uri.partition("?")
    kept = []
    for option in filter(None, re.split("[&;]", options)):
        name, _, value = option.partition("=")
        if value.lower() not in RULES.get(name.lower(), {value.lower()}):
            raise ValueError(f"MONGODB_URI has {option}, with which a write can get lost; leave it out")
        if name.lower() not in ("w", "journal", "wtimeoutms"):
            kept.append(option)
    return server + (mark + "&".join(kept) if kept else "")


UNAUTHORIZED = 13


def default_write_concern() -> str | int | None:
    """Return how many members have a write before it is acknowledged; None where this user may not ask.

    It is less than a `majority` where arbiters vote, before MongoDB 5, and where somebody has set it so.
    """
    client = get_connection()
    if isinstance(client, mongomock.MongoClient):
        return "majority"
    try:
        found = client.admin.command("getDefaultRWConcern")
    except OperationFailure as error:
        if error.code == UNAUTHORIZED:
            return None
        raise
    return cast("str | int", found.get("defaultWriteConcern", {}).get("w", 1))


def is_writable() -> bool:
    """Tell whether MongoDB has a primary that takes writes now."""
    client = get_connection()
    if isinstance(client, mongomock.MongoClient):
        return True
    try:
        return bool(client.admin.command("hello")["isWritablePrimary"])
    except PyMongoError:
        return False


def count_connections() -> None:
    """Set the gauges of this process's connections to MongoDB; a look now and then costs less than to count uses."""
    client = get_connection()
    if isinstance(client, mongomock.MongoClient):
        return
    pools = [server.pool for server in list(client._topology._servers.values())]
    in_use = sum(pool.active_sockets for pool in pools)
    metrics.OPEN.set(in_use + sum(len(pool.conns) for pool in pools))
    metrics.IN_USE.set(in_use)


def keep_counting(pause: float = 1.0) -> None:
    """Start a thread that counts the connections every `pause` seconds."""

    def work() -> None:
        while True:
            time.sleep(pause)
            count_connections()

    threading.Thread(target=work, name="connections", daemon=True).start()


Result = TypeVar("Result")

active: ContextVar[bool] = ContextVar("transaction", default=False)
"""Whether this thread's operations are part of a transaction."""


def transaction(work: Callable[[], Result], seconds: float) -> Result:
    """Do `work` in one MongoDB transaction and return its result; inside another transaction, as a part of that.

    It is tried again, as MongoDB's driver asks, when the server says that the conflict passes, for as long as
    `seconds`. Every operation of this thread belongs to it, without being told. An exception undoes all.

    Raises `NotSupported` on mongomock.
    """
    client = get_connection()
    if isinstance(client, mongomock.MongoClient):
        raise NotSupported("transactions need a real MongoDB")
    if active.get():
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


def disconnect() -> None:
    """Close every connection, so that another app of this process can connect elsewhere."""
    mongoengine.disconnect_all()


def problem(error: Exception) -> Problem | None:
    """Return what an error of PyMongo or MongoEngine means to a client; None where it is a bug of ours."""
    if isinstance(error, DuplicateKeyError | mongoengine.NotUniqueError):
        return AlreadyExists("the id is taken")
    if isinstance(error, DocumentTooLarge) or getattr(error, "code", None) in TOO_LARGE_CODES:
        return TooLarge("the record would be larger than MongoDB stores")
    if isinstance(error, NotImplementedError):
        return NotSupported("mongomock cannot do this; it needs a real MongoDB")
    if isinstance(error, PyMongoError) and is_passing(error):
        return DatabaseUnavailable()
    return None


def is_passing(error: PyMongoError) -> bool:
    """Tell whether an operation failed for a reason that passes: no primary, no connection, no time, a failover."""
    if isinstance(error, ConnectionFailure | WaitQueueTimeoutError) or error.timeout:
        return True
    labels = ("RetryableWriteError", "TransientTransactionError", "RetryableError", "SystemOverloadedError")
    return isinstance(error, OperationFailure) and any(error.has_error_label(label) for label in labels)
