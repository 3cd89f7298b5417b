"""The sync clients of apps, as their libraries ship them, against a running service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from pymongo import MongoClient

from tests.client import PASSWORD
from tests.devices import COLLECTIONS, TABLES, Devices, RealDevice
from tests.test_browser import http
from tests.test_run import Running, running

pytestmark = pytest.mark.clients
Json = dict[str, Any]


@pytest.fixture(scope="module")
def service(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    uri = urlsplit(mongodb_uri)._replace(path="/madang-sync").geturl()
    settings = {"MONGODB_URI": uri, "RATELIMIT_ENABLED": "false", "JWT_EXPIRATION_DELTA": "3600"}
    with running(tmp_path_factory.mktemp("var"), "--workers", "1", **settings) as found:
        yield found
    with MongoClient(uri) as client:
        client.drop_database("madang-sync")


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devices]:
    with Devices(tmp_path_factory.mktemp("devices")) as found:
        yield found


class User:
    """Somebody with an account and any number of devices."""

    made = 0

    def __init__(self, service: Running, devices: Devices) -> None:
        User.made += 1
        self.name, self.devices = f"user{User.made}", devices
        self.url = f"http://127.0.0.1:{service.port}"
        self.http = http()
        account = {"username": self.name, "password": PASSWORD}
        self.id = self.send("POST", "/v1/accounts", account).json()["id"]
        self.http.headers["Authorization"] = f"Bearer {self.token()}"

    def id_of(self, word: str) -> str:
        """An id that nobody else has."""
        return f"{self.name}-{word}"

    def token(self) -> str:
        """The access token of a new session."""
        answer = requests.post(f"{self.url}/auth", json={"username": self.name, "password": PASSWORD}, timeout=30)
        return str(answer.json()["access_token"])

    def send(self, method: str, path: str, body: Any = None) -> requests.Response:
        answer = self.http.request(method, self.url + path, json=body, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer

    def note(self, id: str) -> Json:
        found: Json = self.send("GET", f"/v1/notes/{id}").json()
        return found

    def watermelon(self, name: str, **options: Any) -> RealDevice:
        named = {"url": self.url, "token": self.token(), "schema": TABLES, **options}
        return self.devices.open(f"{self.name}-{name}", "watermelon", **named)

    def rxdb(self, name: str, kind: str = "rxdb", **options: Any) -> RealDevice:
        named = {"url": self.url, "token": self.token(), "collections": COLLECTIONS, "batch": 10, **options}
        return self.devices.open(f"{self.name}-{name}", kind, **named)


@pytest.fixture
def ada(service: Running, devices: Devices) -> User:
    return User(service, devices)


NOTE: Json = {"title": "a note", "body": "", "tags": "[]", "checklist": "[]", "priority": 0, "pinned": False}


def test_watermelondb_goes_there_and_back(ada: User) -> None:
    phone, tablet = ada.watermelon("phone"), ada.watermelon("tablet")
    book, one = ada.id_of("book"), ada.id_of("one")
    phone.sync()
    phone.do("create", table="notebooks", id=book, row={"title": "Book"})
    phone.do("create", table="notes", id=one, row={**NOTE, "notebook": book, "due": 1795341600000})
    assert phone.sync()["problems"] == []
    stored = ada.note(one)
    assert (stored["notebook"], stored["due"]) == (book, "2026-11-22T10:00:00.000Z")
    tablet.sync()
    assert tablet.rows()[one]["due"] == 1795341600000
    tablet.do("update", table="notes", id=one, row={"title": "b"})
    tablet.sync()
    phone.do("update", table="notes", id=one, row={"body": "c"})
    phone.sync()
    tablet.sync()
    assert (ada.note(one)["title"], ada.note(one)["body"]) == ("b", "c")
    phone.sync()
    assert phone.rows() == tablet.rows()
    phone.do("remove", table="notes", id=one)
    phone.sync()
    tablet.sync()
    assert tablet.rows() == phone.rows() == {}


@pytest.mark.parametrize("kind", ["rxdb", "rxdb-server"])
def test_rxdb_goes_there_and_back(ada: User, kind: str) -> None:
    phone, tablet = ada.rxdb("phone", kind), ada.rxdb("tablet", kind)
    book, one = ada.id_of("book"), ada.id_of("one")
    phone.do("create", table="notebooks", id=book, row={"title": "Book"})
    phone.do("create", table="notes", id=one, row={"title": "a", "notebook": book})
    told = phone.sync()
    assert {error["code"] for error in told["errors"]} <= {"RC_PUSH"}, told["errors"]
    assert ada.note(one)["notebook"] == book
    tablet.sync()
    assert tablet.rows()[one]["title"] == "a"
    tablet.do("update", table="notes", id=one, row={"title": "b", "due": "2026-11-22T10:00:00.000Z"})
    for device in (tablet, phone, phone, tablet):
        device.sync()
    assert phone.rows() == tablet.rows() == {one: ada.note(one)}
    phone.do("remove", table="notes", id=one)
    # A page of a pull may be older than the push that it overtakes.
    for device in (phone, phone, tablet):
        device.sync()
    assert tablet.rows() == phone.rows() == {}
