"""What an error of the database means to a client."""

import re

import mongoengine
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)

from service.core.errors import AlreadyExists, DatabaseUnavailable, NotSupported, Problem, TooLarge

BAD_VALUE = 2
"""The server's code of a query that it does not take."""
TOO_LARGE_CODES = frozenset({10334, 17280, 17419, 17420})
"""Those of a document over 16 MiB and of an index entry that is too long."""

CACHE_FULL = 388
"""That of a write for which the server's cache has no room at the moment."""


def of(error: Exception) -> Problem | None:
    """Return what an error of PyMongo or MongoEngine means to a client; None where it is a bug of ours."""
    if isinstance(error, DuplicateKeyError | mongoengine.NotUniqueError):
        return AlreadyExists("the id is taken")
    if isinstance(error, DocumentTooLarge) or getattr(error, "code", None) in TOO_LARGE_CODES:
        return TooLarge("the document would be larger than MongoDB stores")
    if isinstance(error, NotImplementedError):
        return NotSupported("mongomock cannot do this; it needs a real MongoDB")
    if isinstance(error, PyMongoError) and is_transient(error):
        return DatabaseUnavailable()
    return None


def is_transient(error: PyMongoError) -> bool:
    """Tell whether an operation failed for a transient reason: no primary, no connection, time or room, a failover."""
    if isinstance(error, ConnectionFailure | WaitQueueTimeoutError) or error.timeout:
        return True
    if getattr(error, "code", None) == CACHE_FULL:
        return True
    labels = ("RetryableWriteError", "TransientTransactionError", "RetryableError", "SystemOverloadedError")
    return isinstance(error, OperationFailure) and any(error.has_error_label(label) for label in labels)


def said_by(error: PyMongoError) -> str:
    """Return what MongoDB says, without all that PyMongo adds of what it knows of the servers."""
    refused = error.details.get("writeErrors", ()) if isinstance(error, BulkWriteError) else ()
    text = refused[0]["errmsg"] if refused else str(error)
    return re.split(r", Timeout:|, full error:| \(configured timeouts", text)[0]
