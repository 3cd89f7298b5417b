"""The connection to MongoDB."""

import gc
import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from pymongo.server_api import ServerApi
from pymongo.topology_description import TOPOLOGY_TYPE
from structlog.testing import capture_logs

from service.documents import Note
from service.mongo import connection, driver, short
from service.mongo.connection import Client
from service.mongo.memory import MemoryClient
from service.mongo.short import ShortDriver
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


# --- Which driver ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("timeoutMS=500", ""),
        ("timeoutMS=500&directConnection=true", ""),
        ("timeoutMS=500&tls=true", ""),
        ("timeoutMS=0", "timeoutMS=0"),
        ("timeoutMS=500&retryReads=false", "retryReads=false"),
        ("timeoutMS=500&retryWrites=false", "retryWrites=false"),
        ("timeoutMS=500&loadBalanced=true", "loadBalanced"),
        ("timeoutMS=500&compressors=zlib", "compressors"),
    ],
)
def test_the_driver_is_chosen_by_the_options_of_the_connection(option: str, reason: str) -> None:
    with Client(f"mongodb://localhost/?{option}", connect=False) as client:
        assert client.driver.name == ("pymongo" if reason else "short")
        assert client.driver.reason == reason


def test_what_no_uri_can_ask_for_is_looked_at_too() -> None:
    with Client("mongodb://localhost/?timeoutMS=500", connect=False, server_api=ServerApi("1")) as client:
        assert client.driver.reason == "serverApi"
    pool = SimpleNamespace(_compression_settings=None, server_api=None)
    plain = {"timeout": 1, "retry_reads": True, "retry_writes": True, "load_balanced": None, "pool_options": pool}
    asked: Any = SimpleNamespace(**plain, auto_encryption_opts=object())
    assert short.obstacle(asked) == "autoEncryption"


@pytest.mark.parametrize("option", ["", "?directConnection=true", "?retryReads=false"])
def test_the_log_tells_which_driver_it_is_and_why(
    monkeypatch: pytest.MonkeyPatch, test_settings: dict[str, Any], option: str
) -> None:
    config = {**test_settings, "MONGODB_URI": f"mongodb://localhost/madang{option}"}
    settings = connection.options(config)
    client = settings.pop("mongo_client_class")(**{name: settings[name] for name in settings if name != "db"})
    monkeypatch.setattr(connection, "get_connection", lambda: client)
    with client, capture_logs() as lines:
        connection.tell_driver()
    assert lines == [{"event": "driver", "log_level": "info", "driver": "short"}]


def test_the_log_tells_why_it_is_pymongo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "get_connection", MemoryClient)
    with capture_logs() as lines:
        connection.tell_driver()
    assert lines == [{"event": "driver", "log_level": "info", "driver": "pymongo", "reason": "mongomock"}]


def test_a_worker_tells_its_driver_when_it_starts() -> None:
    environ = {"SERVICE_ENV": "production", "SERVICE_MONGODB_URI": connection.MEMORY, "SERVICE_LOG_JSON": "true"}
    done = subprocess.run(
        [sys.executable, "-c", "import run; from service.serve import api; api.create_serving_app(run.load())"],
        env={**os.environ, **environ, "SERVICE_JWT_SECRET_KEY": "a secret of this test, of more than 32 bytes"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (line,) = (json.loads(line) for line in done.stdout.splitlines())
    assert (line["event"], line["driver"], line["reason"]) == ("driver", "pymongo", "mongomock")


def test_a_sharded_cluster_is_left_to_pymongo_and_the_log_tells_so_once() -> None:
    own = ShortDriver(1.0)
    topology = SimpleNamespace(
        description=SimpleNamespace(topology_type=TOPOLOGY_TYPE.Sharded, topology_type_name="Sharded")
    )
    with capture_logs() as lines:
        assert own.primary(topology) is None
        topology.description = SimpleNamespace(**vars(topology.description))
        assert own.primary(topology) is None
    assert lines == [{"event": "driver", "log_level": "info", "driver": "pymongo", "reason": "topology Sharded"}]


def test_records_are_read_by_the_driver_of_their_connection(app: Flask, mongodb_uri: str) -> None:
    wanted = "pymongo" if connection.is_memory(mongodb_uri) else "short"
    assert driver.driver_of(Note._get_collection()).name == wanted
