"""`flask migrate run` as real processes: killed, two at once, beside writers, and while MongoDB is away."""

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from service.core.clock import now
from service.serve import mongod
from tests.test_readme import Block
from tests.trees import another_database, emptied, flask, serving, start, version
from tests.waiting import until

pytestmark = pytest.mark.real

NOTES = 3000
COUNTING = [
    Block("", "diff service/documents/note.py", '         "collection": "notes",\n+        "version": 2,\n'),
    Block("", "diff service/upkeep/migrations.py", "-from service.documents import Account\n"
          "+from service.documents import Account, Note\n"),
    Block("", "diff service/upkeep/migrations.py", " MIGRATIONS: list[Migration] = [\n"
          '+    Migration(Note, 2, "one mark more", [{"$set": {"tags": {"$concatArrays": ["$tags", ["m"]]}}}]),\n'),
]  # fmt: skip
"""A migration that shows how often it was done."""


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return version(tmp_path_factory.mktemp("counting"), COUNTING)


@pytest.fixture
def uri(mongodb_uri: str) -> str:
    return another_database(mongodb_uri, "migrating")


@pytest.fixture
def database(uri: str) -> Iterator[Any]:
    with emptied(uri) as found:
        fill(found)
        yield found


def fill(database: Any) -> None:
    fresh = {"title": "t", "tags": [], "owner": "o", "revision": 1, "access": ["o:o"], "schema_version": 1}
    database["notes"].insert_many([{**fresh, "_id": f"n{number:05}", "updated_at": now()} for number in range(NOTES)])


def marks(database: Any) -> Counter[int]:
    """How many notes were migrated how often."""
    return Counter(row["tags"].count("m") for row in database["notes"].find({}, {"tags": 1}))


def looked_at(database: Any) -> int:
    walk = database["migrations"].find_one({"_id": "notes"})
    return 0 if walk is None else int(walk["looked_at"])


def test_killed_it_goes_on_where_it_was_and_does_nothing_twice(counting: Path, uri: str, database: Any) -> None:
    begun = 0
    for kill in range(3):
        process = start(counting, uri, "migrate", "run", "--rest", "20")
        assert until(lambda: looked_at(database) > begun)  # noqa: B023  called before the next turn
        time.sleep(0.03 * kill)
        process.kill()
        process.communicate()
        assert looked_at(database) >= begun
        begun = looked_at(database)
    assert 0 < marks(database)[1] < NOTES
    assert f"notes: {NOTES} looked at" in flask(counting, uri, "migrate", "run", "--rest", "0")
    assert marks(database) == {1: NOTES}
    assert database["notes"].count_documents({"schema_version": 2, "revision": 1}) == NOTES


def test_done_again_it_changes_nothing(counting: Path, uri: str, database: Any) -> None:
    flask(counting, uri, "migrate", "run", "--rest", "0")
    before = list(database["notes"].find())
    assert f"notes: {NOTES} looked at, 0 changed" in flask(counting, uri, "migrate", "run", "--rest", "0")
    assert list(database["notes"].find()) == before


def test_two_at_once_do_it_once(counting: Path, uri: str, database: Any) -> None:
    both = [start(counting, uri, "migrate", "run", "--rest", "1") for _ in range(2)]
    assert [(process.communicate(timeout=60)[1].count("Error"), process.returncode) for process in both] == [(0, 0)] * 2
    assert marks(database) == {1: NOTES}


def test_what_clients_write_meanwhile_stays(counting: Path, uri: str, database: Any, tmp_path: Path) -> None:
    with serving(uri, tmp_path, counting) as (server,):
        owner = server.sign_up("ada")
        mine = [f"n{number:05}" for number in range(0, NOTES, NOTES // 100)]
        database["notes"].update_many({"_id": {"$in": mine}}, {"$set": {"owner": owner, "access": [f"o:{owner}"]}})
        process = start(counting, uri, "migrate", "run", "--rest", "2")

        def push(id: str) -> None:
            for number in range(3):
                answer = server.send(
                    "PATCH", f"/v1/notes/{id}", {"$push": {"tags": f"c{number}"}, "title": f"{number}"}
                )
                assert answer.status_code == 200, answer.text

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(push, mine))
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert marks(database) == {1: NOTES}
        for row in database["notes"].find({"_id": {"$in": mine}}):
            assert sorted(row["tags"]) == ["c0", "c1", "c2", "m"]
            assert (row["title"], row["revision"]) == ("2", 4)


def test_a_transaction_that_holds_a_note_is_waited_for(counting: Path, uri: str, database: Any) -> None:
    with database.client.start_session() as session, session.start_transaction():
        database["notes"].update_one({"_id": "n00010"}, {"$push": {"tags": "held"}}, session=session)
        process = start(counting, uri, "migrate", "run", "--rest", "0")
        time.sleep(4)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert sorted(database["notes"].find_one({"_id": "n00010"})["tags"]) == ["held", "m"]
    assert marks(database) == {1: NOTES}


# MongoDB away


@pytest.fixture
def server(tmp_path: Path) -> Iterator[mongod.LocalServer]:
    with mongod.LocalServer.start(tmp_path / "mongodb") as running:
        with MongoClient(running.uri, serverSelectionTimeoutMS=2000) as client:
            fill(client.get_default_database())
        yield running


def test_a_mongodb_that_comes_back_is_waited_for(counting: Path, server: mongod.LocalServer) -> None:
    with MongoClient(server.uri, serverSelectionTimeoutMS=2000) as client:
        database = client.get_default_database()
        process = start(counting, server.uri, "migrate", "run", "--rest", "5", settings={"MONGODB_TIMEOUT": "0.5"})
        assert until(lambda: looked_at(database))
        os.kill(server.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(server.pid, signal.SIGCONT)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert marks(database) == {1: NOTES}


def test_a_mongodb_that_stays_away_is_told_and_the_next_run_goes_on(counting: Path, tmp_path: Path) -> None:
    with (
        mongod.LocalServer.start(tmp_path / "mongodb") as running,
        MongoClient(running.uri, serverSelectionTimeoutMS=2000) as client,
    ):
        database = client.get_default_database()
        fill(database)
        process = start(counting, running.uri, "migrate", "run", "--rest", "5", "--patience", "1")
        assert until(lambda: looked_at(database))
        os.kill(running.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    last = errors.splitlines()[-1]
    assert re.match(r"Error: MongoDB does not answer: .+\. Run it again: it goes on where it was$", last)
    assert "Traceback" not in errors
    with (
        mongod.LocalServer.start(tmp_path / "mongodb") as running,
        MongoClient(running.uri, serverSelectionTimeoutMS=2000) as client,
    ):
        database = client.get_default_database()
        assert 0 < looked_at(database) < NOTES
        flask(counting, running.uri, "migrate", "run", "--rest", "0")
        assert marks(database) == {1: NOTES}


def test_a_mongodb_that_does_not_let_us_in_is_told(counting: Path, uri: str, database: Any) -> None:
    said = flask(counting, uri.replace("://", "://nobody:wrong@"), "migrate", "run", code=1)
    assert said.splitlines()[-1].startswith("Error: MongoDB refuses: Authentication failed.")


def test_without_a_mongodb_there_is_a_sentence(counting: Path, tmp_path: Path) -> None:
    said = flask(counting, "", "migrate", "list", code=1, settings={"ENV": "local", "VAR": str(tmp_path)})
    assert said.startswith("Error: no MongoDB: start the service first")
