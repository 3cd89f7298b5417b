"""The connection to MongoDB."""

import gc
from typing import Any

import pytest
from flask import Flask
from pymongo.errors import (
    AutoReconnect,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WTimeoutError,
)

from service.documents import Event
from service.mongo import database
from tests.client import Person


@pytest.mark.real
def test_an_app_that_goes_leaves_the_connection_of_the_others_open(make_app: Any, ada: Person) -> None:
    other = make_app(RATELIMIT_ENABLED=True)
    other.test_client().post("/auth", json={"username": "nobody", "password": "wrong password"})
    del other
    gc.collect()
    assert ada.get("/v1/notes").status_code == 200


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ServerSelectionTimeoutError("no primary"), "database_unavailable"),
        (AutoReconnect("gone"), "database_unavailable"),
        (NetworkTimeout("slow"), "database_unavailable"),
        (ExecutionTimeout("slow", 50), "database_unavailable"),
        (WTimeoutError("slow", 64), "database_unavailable"),
        (OperationFailure("stepped down", 189, {"errorLabels": ["RetryableWriteError"]}), "database_unavailable"),
        (DuplicateKeyError("again", 11000), "already_exists"),
        (OperationFailure("too big", 17419), "too_large"),
        (NotImplementedError("mongomock"), "not_supported"),
    ],
)
def test_an_error_of_the_database_means_something_to_a_client(error: Exception, code: str) -> None:
    problem = database.problem(error)
    assert problem is not None
    assert problem.code == code


@pytest.mark.parametrize("error", [OperationFailure("bad query", 2), ValueError("a bug")])
def test_any_other_error_is_a_bug(error: Exception) -> None:
    assert database.problem(error) is None


@pytest.mark.real
def test_a_transaction_undoes_all_when_it_fails(app: Flask) -> None:
    def work() -> None:
        Event.record("ada", "login")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        database.transaction(work, 5)
    assert Event._get_collection().count_documents({}) == 0
    assert not database.active.get()


@pytest.mark.real
def test_what_is_done_outside_stays(app: Flask) -> None:
    def work() -> None:
        database.outside(Event.record, "ada", "login")
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        database.transaction(work, 5)
    assert Event._get_collection().count_documents({}) == 1


def test_a_uri_as_hosted_databases_give_it_is_taken(test_settings: dict[str, Any]) -> None:
    """Its `w=majority` is the rule anyhow, and PyMongo would send it in transactions, where the server refuses it."""
    uri = "mongodb://a,b:2/madang?retryWrites=true&W=majority&journal=true&wtimeoutMS=0&replicaSet=x"
    found = database.connection_settings({**test_settings, "MONGODB_URI": uri})
    assert found["host"] == "mongodb://a,b:2/madang?retryWrites=true&replicaSet=x"


@pytest.mark.parametrize("option", ["w=1", "W=0", "w=2", "journal=false", "retryWrites=false"])
def test_a_uri_cannot_weaken_what_is_promised(test_settings: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match="MONGODB_URI"):
        database.connection_settings({**test_settings, "MONGODB_URI": f"mongodb://a/madang?replicaSet=x&{option}"})
