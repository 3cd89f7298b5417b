"""What has to be so in the database before the service starts."""

from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from service.mongo import connection
from service.serve import preparation
from service.serve.failures import CannotStart
from tests.types import REGISTRY


def test_where_a_person_makes_the_indexes_and_all_are_there_it_starts(app: Flask) -> None:
    assert preparation.made_ready(REGISTRY, make_indexes=False) == []


def test_where_a_person_makes_the_indexes_those_that_are_missing_are_named(app: Flask) -> None:
    collection = REGISTRY["notes"].collection
    name = next(name for name in collection.index_information() if name != "_id_")
    collection.drop_index(name)
    with pytest.raises(CannotStart, match=r"run `flask indexes make`; these are missing:\n.*" + name):
        preparation.made_ready(REGISTRY, make_indexes=False)
    preparation.made_ready(REGISTRY, make_indexes=True)
    assert name in collection.index_information()


def test_a_write_that_can_get_lost_is_no_start(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "default_write_concern", lambda: 1)
    with pytest.raises(CannotStart, match="acknowledges a write when 1 of its members has it"):
        preparation.made_ready(REGISTRY, make_indexes=True)


def test_where_mongodb_does_not_tell_of_its_writes_a_person_is_asked_to_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refusing(code: int) -> Any:
        client = Mock(spec=MongoClient, admin=Mock())
        client.admin.command.side_effect = OperationFailure("no", code)
        return client

    monkeypatch.setattr(connection, "get_connection", lambda: refusing(connection.UNAUTHORIZED))
    assert preparation.weak_writes() == [
        "this user of MongoDB may not see its default write concern; it has to be a majority"
    ]
    monkeypatch.setattr(connection, "get_connection", lambda: refusing(1))
    with pytest.raises(OperationFailure):
        preparation.weak_writes()
