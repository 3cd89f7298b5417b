"""The connection to MongoDB."""

import gc
from typing import Any

import pytest

from service.mongo import connection
from tests.client import Person
from tests.trees import another_database


@pytest.mark.real
def test_an_app_that_goes_leaves_the_connection_of_the_others_open(make_app: Any, ada: Person) -> None:
    other = make_app(RATELIMIT_ENABLED=True)
    other.test_client().post("/auth", json={"username": "nobody", "password": "wrong password"})
    del other
    gc.collect()
    assert ada.get("/v1/notes").status_code == 200


def test_a_uri_as_hosted_databases_give_it_is_taken(test_settings: dict[str, Any]) -> None:
    """Its `w=majority` is the rule anyhow, and PyMongo would send it in transactions, where the server refuses it."""
    uri = "mongodb://a,b:2/madang?retryWrites=true&W=majority&journal=true&wtimeoutMS=0&replicaSet=x"
    found = connection.options({**test_settings, "MONGODB_URI": uri})
    assert found["host"] == "mongodb://a,b:2/madang?retryWrites=true&replicaSet=x"


@pytest.mark.parametrize("option", ["w=1", "W=0", "w=2", "journal=false", "retryWrites=false"])
def test_a_uri_cannot_weaken_what_is_promised(test_settings: dict[str, Any], option: str) -> None:
    with pytest.raises(ValueError, match="MONGODB_URI"):
        connection.options({**test_settings, "MONGODB_URI": f"mongodb://a/madang?replicaSet=x&{option}"})


@pytest.mark.parametrize(
    ("uri", "other"),
    [
        ("mongodb://h:1/app?replicaSet=r", "mongodb://h:1/app_x?replicaSet=r"),
        ("mongodb://h:1,i:2/app", "mongodb://h:1,i:2/app_x"),
        ("mongodb://h:1/?w=1", "mongodb://h:1/madang_x?w=1"),
        ("mongodb://h", "mongodb://h/madang_x"),
    ],
)
def test_the_tests_have_a_database_of_their_own_on_a_server_that_is_named(uri: str, other: str) -> None:
    assert another_database(uri, "x") == other
