"""What an error of the database means to a client."""

import pytest
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteError,
    WTimeoutError,
)

from service.mongo import problems


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServerSelectionTimeoutError("no primary"), "database_unavailable"),
        (AutoReconnect("gone"), "database_unavailable"),
        (NetworkTimeout("slow"), "database_unavailable"),
        (ExecutionTimeout("slow", 50), "database_unavailable"),
        (WTimeoutError("slow", 64), "database_unavailable"),
        (OperationFailure("stepped down", 189, {"errorLabels": ["RetryableWriteError"]}), "database_unavailable"),
        (WriteError("transaction is too large and will not fit in the cache", 388), "database_unavailable"),
        (DuplicateKeyError("again", 11000), "already_exists"),
        (NotImplementedError("mongomock"), "not_supported"),
    ],
)
def test_an_error_of_the_database_means_something_to_a_client(error: Exception, code: str) -> None:
    problem = problems.of(error)
    assert problem is not None
    assert problem.code == code


@pytest.mark.parametrize("error", [OperationFailure("bad query", 2), ValueError("a bug")])
def test_any_other_error_is_a_bug(error: Exception) -> None:
    assert problems.of(error) is None
