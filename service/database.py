"""The connection to MongoDB: how it is opened, how long it may take, and what its errors mean to a client."""

from typing import Any

import mongoengine
import mongomock
from bson.errors import InvalidDocument
from flask import Flask
from flask_mongoengine import MongoEngine
from mongoengine.connection import get_connection
from pymongo.errors import (
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)

from service.errors import AlreadyExists, DatabaseUnavailable, Problem, TooLarge
from service.observability import CommandTimes, PoolGauge

MEMORY = "memory://"
"""Scheme of a `MONGODB_URI` that means mongomock: nothing is kept."""

TOO_LARGE_CODES = frozenset({10334, 17280, 17419, 17420})
"""Server codes of a document over 16 MiB and of an index entry that is too long."""


def init_app(app: Flask) -> None:
    """Bind MongoEngine to the MongoDB of `app`'s settings. Opens no connection: the first operation does."""
    app.config["MONGODB_SETTINGS"] = connection_settings(app.config)
    MongoEngine().init_app(app)


def connection_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `mongoengine.connect`. Every operation has a deadline (`timeoutMS`)."""
    uri = config["MONGODB_URI"]
    if is_memory(uri):
        return {"host": "mongodb://localhost", "db": "madang", "mongo_client_class": mongomock.MongoClient}
    return {
        "host": uri,
        "connect": False,
        "timeoutMS": int(config["MONGODB_TIMEOUT"] * 1000),
        "serverSelectionTimeoutMS": int(config["MONGODB_CONNECT_TIMEOUT"] * 1000),
        "connectTimeoutMS": int(config["MONGODB_CONNECT_TIMEOUT"] * 1000),
        "maxPoolSize": config["MONGODB_POOL_SIZE"],
        "retryWrites": True,
        "retryReads": True,
        "w": "majority",
        "appname": "madang",
        "event_listeners": [CommandTimes(), PoolGauge()],
    }


def is_memory(uri: str | None) -> bool:
    """Tell whether a URI means mongomock."""
    return bool(uri and uri.startswith(MEMORY))


def is_writable() -> bool:
    """Tell whether MongoDB has a primary that takes writes now."""
    client = get_connection()
    if isinstance(client, mongomock.MongoClient):
        return True
    try:
        return bool(client.admin.command("hello")["isWritablePrimary"])
    except PyMongoError:
        return False


def disconnect() -> None:
    """Close every connection, so that another app of this process can connect elsewhere."""
    mongoengine.disconnect_all()


def problem(error: Exception) -> Problem | None:
    """Return what an error of PyMongo or MongoEngine means to a client; None where it is a bug of ours."""
    if isinstance(error, DuplicateKeyError | mongoengine.NotUniqueError):
        return AlreadyExists("the id is taken")
    if isinstance(error, DocumentTooLarge) or getattr(error, "code", None) in TOO_LARGE_CODES:
        return TooLarge("the record would be larger than MongoDB stores")
    if isinstance(error, InvalidDocument):
        return None
    if isinstance(error, PyMongoError) and is_passing(error):
        return DatabaseUnavailable()
    return None


def is_passing(error: PyMongoError) -> bool:
    """Tell whether an operation failed for a reason that passes: no primary, no connection, no time, a failover."""
    if isinstance(error, ConnectionFailure | WaitQueueTimeoutError) or error.timeout:
        return True
    labels = ("RetryableWriteError", "TransientTransactionError", "RetryableError", "SystemOverloadedError")
    return isinstance(error, OperationFailure) and any(error.has_error_label(label) for label in labels)
