"""The sync clients of apps, as their libraries ship them, against a running service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from pymongo import MongoClient

from tests import converging
from tests.client import PASSWORD
from tests.devices import COLLECTIONS, NOTE_COLUMNS, NOTEBOOK_COLUMNS, TABLES, DeviceError, Devices, RealDevice
from tests.faults import FaultyProxy
from tests.test_browser import http
from tests.test_generated_clients import OURS, ROOT, TOOLS
from tests.test_run import Running, running
from tests.waiting import until

pytestmark = pytest.mark.clients
Json = dict[str, Any]


RUNS = int(os.environ.get("MADANG_SYNC_RUNS", "2"))
"""Of the short form; `make converge` runs the long one."""


@pytest.fixture(scope="module")
def database(mongodb_uri: str) -> Iterator[MongoClient[Json]]:
    """The database of the service, for what only an operator does."""
    uri = urlsplit(mongodb_uri)._replace(path="/madang-sync").geturl()
    with MongoClient[Json](uri) as client:
        yield client
        client.drop_database("madang-sync")


@pytest.fixture(scope="module")
def uri(mongodb_uri: str) -> str:
    return urlsplit(mongodb_uri)._replace(path="/madang-sync").geturl()


@pytest.fixture(scope="module")
def service(database: MongoClient[Json], uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"MONGODB_URI": uri, "RATELIMIT_ENABLED": "false", "JWT_EXPIRATION_DELTA": "36000"}
    with running(tmp_path_factory.mktemp("var"), "--workers", "1", **settings) as found:
        yield found


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
        self.opened: list[RealDevice] = []
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

    def status(self, path: str) -> int:
        return self.http.get(self.url + path, timeout=30).status_code

    def note(self, id: str) -> Json:
        found: Json = self.send("GET", f"/v1/notes/{id}").json()
        return found

    def open(self, name: str, kind: str, **options: Any) -> RealDevice:
        named = {"url": self.url, "token": self.token(), **options}
        self.opened.append(self.devices.open(f"{self.name}-{name}", kind, **named))
        return self.opened[-1]

    def watermelon(self, name: str, **options: Any) -> RealDevice:
        return self.open(name, "watermelon", **{"schema": TABLES, **options})

    def rxdb(self, name: str, kind: str = "rxdb", **options: Any) -> RealDevice:
        return self.open(name, kind, **{"collections": COLLECTIONS, "batch": 10, **options})

    def close(self) -> None:
        """Close the devices: RxDB has 16 collections open at most."""
        for device in self.opened:
            device.do("close")
        self.http.close()


@pytest.fixture
def ada(service: Running, devices: Devices) -> Iterator[User]:
    user = User(service, devices)
    yield user
    user.close()


@pytest.fixture
def bob(service: Running, devices: Devices) -> Iterator[User]:
    user = User(service, devices)
    yield user
    user.close()


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


def forget(user: User, database: MongoClient[Json]) -> None:
    """Let the order forget all that there was before, as it does after a month."""
    user.send("GET", "/v1/changes")
    orders = database.get_default_database()["leases"]
    state = orders.find_one({"_id": "recorder"})
    assert state is not None
    orders.update_one({"_id": "recorder"}, {"$set": {"state.floor": state["state"]["seq"]}})


# WatermelonDB


def test_watermelondb_is_put_right_where_a_row_was_refused(ada: User, bob: User) -> None:
    phone = ada.watermelon("phone")
    mine, theirs, bad, good = map(ada.id_of, ("mine", "theirs", "bad", "good"))
    ada.send("POST", "/v1/notes", {"id": mine, "title": "a"})
    bob.send("POST", "/v1/notes", {"id": theirs, "title": "a", "readers": [ada.id]})
    phone.sync()
    phone.do("create", table="notes", id=bad, row={**NOTE, "title": ""})
    phone.do("create", table="notes", id=good, row={**NOTE, "title": "half of \ud83d\ude00 \U0001f600"})
    phone.do("update", table="notes", id=mine, row={"priority": 9})
    phone.do("update", table="notes", id=theirs, row={"title": "b"})
    problems = {one["id"]: one["problem"]["code"] for one in phone.sync()["problems"]}
    assert problems == {bad: "validation_failed", mine: "validation_failed", theirs: "forbidden"} | (
        {good: "validation_failed"} if ada.status(f"/v1/notes/{good}") == 404 else {}
    )
    phone.sync()
    assert phone.rows().keys() - {good} == {mine, theirs}
    assert (phone.rows()[mine]["priority"], phone.rows()[theirs]["title"]) == (0, "a")
    assert phone.do("unsynced") is False
    assert "pushed" not in phone.sync()


def test_watermelondb_merges_what_others_have_changed(ada: User) -> None:
    phone = ada.watermelon("phone", pause=300)
    one = ada.id_of("one")
    ada.send("POST", "/v1/notes", {"id": one, "title": "a"})
    phone.sync()
    phone.do("update", table="notes", id=one, row={"title": "mine"})
    syncing = phone.devices.begin(phone.name, "sync")
    # Between its pull and its push.
    until(lambda: phone.do("last").get("pushed"))
    ada.send("PATCH", f"/v1/notes/{one}", {"body": "theirs"})
    with pytest.raises(DeviceError, match=r"409[^$]*sync_conflict"):
        syncing.result(30)
    phone.do("set", to={"pause": 0})
    phone.sync()
    assert (ada.note(one)["title"], ada.note(one)["body"]) == ("mine", "theirs")
    phone.sync()
    assert phone.rows()[one]["body"] == "theirs"


def test_watermelondb_after_a_lost_answer_doubles_nothing(ada: User, service: Running) -> None:
    lost = iter(["", "lost after"])
    with FaultyProxy(service.port, lambda _method, path: next(lost, "") if "/sync/" in path else "") as proxy:
        phone = ada.watermelon("phone", url=proxy.url)
        one = ada.id_of("one")
        phone.do("create", table="notes", id=one, row=NOTE)
        with pytest.raises(DeviceError):
            phone.sync()
        assert ada.note(one)["revision"] == 1
        phone.sync()
        assert ada.note(one)["revision"] == 1
        phone.sync()
        assert phone.rows()[one]["updated_at"] == phone.rows()[one]["created_at"]


def test_watermelondb_migrates(ada: User) -> None:
    old = [column for column in NOTE_COLUMNS if column["name"] not in ("due", "pinned")]
    phone = ada.watermelon("phone", schema={"version": 1, "tables": {"notes": old}})
    due, plain, book = map(ada.id_of, ("due", "plain", "book"))
    ada.send("POST", "/v1/notes", {"id": due, "title": "a", "due": "2026-11-22T10:00:00.000Z"})
    ada.send("POST", "/v1/notes", {"id": plain, "title": "a"})
    ada.send("POST", "/v1/notebooks", {"id": book, "title": "a"})
    phone.sync()
    added = [column for column in NOTE_COLUMNS if column["name"] in ("due", "pinned")]
    tables = {"notes": NOTE_COLUMNS, "notebooks": NOTEBOOK_COLUMNS}
    steps = [{"table": "notes", "columns": added}, {"create": "notebooks"}]
    phone.do("upgrade", schema={"version": 2, "tables": tables}, steps=steps, migratable=1)
    assert phone.rows()[due]["due"] is None
    pulled = phone.sync()["pulled"]["changes"]
    assert [row["id"] for row in pulled["notes"]["updated"]] == [due]
    assert phone.rows()[due]["due"] == 1795341600000
    assert phone.rows("notebooks").keys() == {book}


def test_watermelondb_that_was_away_for_too_long_begins_anew(ada: User, database: MongoClient[Json]) -> None:
    phone = ada.watermelon("phone")
    gone, left, own = map(ada.id_of, ("gone", "left", "own"))
    for id in (gone, left):
        ada.send("POST", "/v1/notes", {"id": id, "title": "a"})
    phone.sync()
    ada.send("DELETE", f"/v1/notes/{gone}")
    ada.send("PATCH", f"/v1/notes/{left}", {"title": "b"})
    forget(ada, database)
    phone.do("create", table="notes", id=own, row=NOTE)
    assert phone.sync()["pulled"]["strategy"] == "replacement"
    assert phone.rows().keys() == {left, own}
    assert ada.note(own)["title"] == "a note"


def test_watermelondb_drops_what_was_withdrawn(ada: User, bob: User) -> None:
    phone = bob.watermelon("phone")
    one = ada.id_of("one")
    ada.send("POST", "/v1/notes", {"id": one, "title": "a", "writers": [bob.id]})
    phone.sync()
    phone.do("update", table="notes", id=one, row={"title": "b"})
    ada.send("PATCH", f"/v1/notes/{one}", {"writers": []})
    phone.sync()
    assert phone.rows() == {}
    assert ada.note(one)["title"] == "a"


# RxDB

RXDB = pytest.mark.parametrize("kind", ["rxdb", "rxdb-server"])


@RXDB
def test_rxdb_is_put_right_where_a_document_was_refused(ada: User, bob: User, kind: str) -> None:
    phone = ada.rxdb("phone", kind)
    mine, theirs, bad, good = map(ada.id_of, ("mine", "theirs", "bad", "good"))
    ada.send("POST", "/v1/notes", {"id": mine, "title": "a"})
    bob.send("POST", "/v1/notes", {"id": theirs, "title": "a", "readers": [ada.id]})
    phone.sync()
    phone.do("create", table="notes", id=bad, row={"title": ""})
    phone.do("create", table="notes", id=good, row={"title": "a"})
    phone.do("update", table="notes", id=mine, row={"priority": 9})
    phone.do("update", table="notes", id=theirs, row={"title": "b"})
    told = phone.sync()
    assert told["errors"] == []
    assert {conflict["realMasterState"]["id"] for conflict in told["conflicts"]} == {bad, mine, theirs}
    phone.sync()
    assert phone.rows() == {id: ada.note(id) for id in (mine, theirs, good)}
    assert phone.sync()["sent"] == []


@RXDB
def test_rxdb_takes_what_others_have_changed(ada: User, kind: str) -> None:
    phone = ada.rxdb("phone", kind)
    one = ada.id_of("one")
    ada.send("POST", "/v1/notes", {"id": one, "title": "a"})
    phone.sync()
    ada.send("PATCH", f"/v1/notes/{one}", {"title": "theirs"})
    phone.do("update", table="notes", id=one, row={"title": "mine"})
    for _ in range(2):
        phone.sync()
    assert phone.rows() == {one: ada.note(one)}
    assert ada.note(one)["title"] == "theirs"


@RXDB
def test_rxdb_drops_what_was_withdrawn(ada: User, bob: User, kind: str) -> None:
    phone = bob.rxdb("phone", kind)
    one = ada.id_of("one")
    ada.send("POST", "/v1/notes", {"id": one, "title": "a", "readers": [bob.id]})
    phone.sync()
    ada.send("PATCH", f"/v1/notes/{one}", {"readers": []})
    assert phone.sync()["errors"] == []
    assert phone.rows() == {}


@RXDB
def test_rxdb_loses_nothing_that_is_written_while_a_push_is_under_way(ada: User, service: Running, kind: str) -> None:
    def late(_method: str, path: str) -> str:
        return "late" if path.endswith("/push") else ""

    with FaultyProxy(service.port, late, lateness=0.3) as proxy:
        phone = ada.rxdb("phone", kind, url=proxy.url)
        one = ada.id_of("one")
        ada.send("POST", "/v1/notes", {"id": one, "title": "a"})
        phone.sync()
        syncing = phone.devices.begin(phone.name, "live", tables=["notes"])
        syncing.result(30)
        text = ""
        for letter in "milk and bread":
            text += letter
            phone.do("update", table="notes", id=one, row={"title": text})
            time.sleep(0.05)
        until(lambda: ada.note(one)["title"] == text)
        # What the stream says of a moment before may come in between.
        until(lambda: phone.rows()[one]["title"] == text)
        phone.do("stop")
    until(lambda: phone.sync() and phone.rows() == {one: ada.note(one)})


def test_rxdbs_own_client_hears_of_changes_as_they_come(ada: User) -> None:
    phone = ada.rxdb("phone", "rxdb-server")
    one, two = ada.id_of("one"), ada.id_of("two")
    ada.send("POST", "/v1/notes", {"id": one, "title": "a"})
    phone.do("live")
    until(lambda: phone.rows().keys() == {one})
    ada.send("POST", "/v1/notes", {"id": two, "title": "b"})
    ada.send("PATCH", f"/v1/notes/{one}", {"title": "c"})
    until(lambda: phone.rows() == {one: ada.note(one), two: ada.note(two)})
    ada.send("DELETE", f"/v1/notes/{one}")
    until(lambda: phone.rows().keys() == {two})
    phone.do("stop")


@pytest.mark.parametrize(
    ("kind", "status", "event", "goes_on"),
    [
        *(("rxdb-server", status, "RC_PULL", True) for status in (400, 409, 410, 429, 503)),
        ("rxdb-server", 401, "unauthorized$", True),
        ("rxdb-server", 403, "forbidden$", False),
        ("rxdb-server", 426, "outdatedClient$", False),
        *(("rxdb", status, "RC_PULL", True) for status in (400, 401, 403, 409, 410, 426, 429, 503)),
    ],
)
def test_what_rxdb_makes_of_a_status(
    ada: User, service: Running, kind: str, status: int, event: str, goes_on: bool
) -> None:
    """What docs/sync.md says of it: a replication tries again for ever, but for two that end that of rxdb-server."""
    answers = iter([str(status)])
    with FaultyProxy(service.port, lambda _method, path: next(answers, "") if "/pull?" in path else "") as proxy:
        phone = ada.rxdb("phone", kind, url=proxy.url)
        one = ada.id_of("one")
        ada.send("POST", "/v1/notes", {"id": one, "title": "a"})
        phone.devices.begin(phone.name, "live", tables=["notes"])
        until(lambda: event in [error["code"] for error in phone.do("last")["errors"]])
        if goes_on:
            until(lambda: phone.rows().keys() == {one})
        else:
            time.sleep(0.3)
            assert phone.rows() == {}
            assert phone.do("isStopped", table="notes")


# All of them


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[str]]:
    """How often each thing happened, for the page of the long form."""
    found: Counter[str] = Counter()
    yield found
    happened = ", ".join(f"{name or 'as it should be'} {count}" for name, count in sorted(found.items()))
    print(happened)  # noqa: T201  for the page


@pytest.mark.parametrize("seed", range(RUNS))
def test_all_devices_have_the_same_in_the_end(
    service: Running, devices: Devices, uri: str, tally: Counter[str], seed: int
) -> None:
    tally += converging.run(seed, service, devices, uri)


# docs/sync.md


def written_out(folder: Path) -> None:
    """Put the code of the page into files, as a bundler would have it."""
    page = (ROOT / "docs/sync.md").read_text()
    blocks = re.findall(r"```js\n// (\S+)\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == page.count("```js")
    for name, text in blocks:
        required = re.sub(
            r'import (\{.*?\}) from "(@nozbe/.*?)";',
            r'import { createRequire } from "node:module";\nconst \1 = createRequire(import.meta.url)("\2");',
            text,
        )
        (folder / name).write_text(required)


def test_the_code_of_the_page_works(ada: User, database: MongoClient[Json], tmp_path: Path) -> None:
    written_out(tmp_path)
    shutil.copy(OURS / "documented.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    command = ["node", str(tmp_path / "documented.mjs"), ada.url, ada.token(), "expiring"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == "expire\n", said + process.stdout.read()
        forget(ada, database)
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.read() == "done\n"
