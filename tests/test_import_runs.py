"""`flask import` as real processes: killed, two at once, beside writers, from another server, while MongoDB is away."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient

from service.core.clock import now
from service.serve import mongod
from tests.trees import another_database, emptied, flask, start, version
from tests.waiting import until

pytestmark = pytest.mark.real

DOCUMENTS = 2000
OWNER = "a" * 24
WORDS = ("import", "notes", "--from", "todos", "--owner", "user", "--created", "_id")
WRONG = frozenset(range(0, DOCUMENTS, 200))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return version(tmp_path_factory.mktemp("importing"), [])


@pytest.fixture(scope="module")
def uri(mongodb_uri: str) -> str:
    return another_database(mongodb_uri, "importing")


@pytest.fixture(scope="module")
def indexed(uri: str, tree: Path) -> Iterator[Any]:
    with emptied(uri) as found:
        flask(tree, uri, "indexes", "make")
        yield found


@pytest.fixture
def database(indexed: Any) -> Any:
    for name in ("notes", "accounts", "todos"):
        indexed[name].delete_many({})
    fill(indexed)
    return indexed


def fill(database: Any) -> None:
    """An account, and what it has; some of it cannot be imported."""
    database["accounts"].insert_one({"_id": OWNER, "username": "ada", "username_key": "ada", "created_at": now()})
    rows = ((ObjectId(f"{number:024x}"), number) for number in range(DOCUMENTS))
    database["todos"].insert_many({"_id": id, "title": title(number), "user": ObjectId(OWNER)} for id, number in rows)


def title(number: int) -> str:
    return "" if number in WRONG else f"t{number}"


def imported(database: Any) -> int:
    return int(database["notes"].count_documents({}))


def is_whole(database: Any) -> bool:
    """Whether all that can be is there, once, as it was."""
    rows = database["notes"].find({}, {"title": 1, "revision": 1, "owner": 1, "access": 1})
    found = {row["_id"]: (row["title"], row["revision"], row["owner"], row["access"]) for row in rows}
    due = (number for number in range(DOCUMENTS) if number not in WRONG)
    return found == {f"{number:024x}": (f"t{number}", 1, OWNER, [f"o:{OWNER}"]) for number in due}


def test_killed_anywhere_it_goes_on_and_nothing_is_lost_or_doubled(tree: Path, uri: str, database: Any) -> None:
    for kill in range(2):
        begun = imported(database)
        process = start(tree, uri, *WORDS, "--batch", "50", "--rest", "3")
        assert until(lambda: imported(database) > begun)  # noqa: B023  called before the next turn
        time.sleep(random.Random(kill).uniform(0, 0.2))
        process.kill()
        process.communicate()
    there = imported(database)
    assert 0 < there < DOCUMENTS - len(WRONG)
    said = flask(tree, uri, *WORDS, code=3)
    assert f"{DOCUMENTS} read, {DOCUMENTS - 10 - there} imported, {there} there already, 10 refused" in said
    assert is_whole(database)


def test_two_at_once_import_each_once(tree: Path, uri: str, database: Any) -> None:
    both = [start(tree, uri, *WORDS, "--batch", "20") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [(process.returncode, errors.count("Error")) for process, (_, errors) in zip(both, said, strict=True)] == [
        (3, 0),
        (3, 0),
    ]
    done = [int(output.split(" read, ")[1].split(" imported")[0]) for output, _ in said]
    assert sum(done) == DOCUMENTS - len(WRONG)
    assert is_whole(database)


def test_a_mongodb_that_goes_away_is_waited_for_then_told_and_the_next_run_goes_on(
    tree: Path, uri: str, database: Any, tmp_path: Path
) -> None:
    """The source is on another server, which stops for a while, and then for good."""
    with mongod.LocalServer.start(tmp_path / "mongodb") as other:
        with MongoClient(other.uri) as client:
            fill(client["old"])
        words = (
            *WORDS,
            "--uri",
            f"{other.uri}&timeoutMS=500&connectTimeoutMS=500&serverSelectionTimeoutMS=500",
            "--database",
            "old",
        )
        process = start(tree, uri, *words, "--batch", "50", "--rest", "3", "--patience", "3")
        assert until(lambda: imported(database))
        os.kill(other.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(other.pid, signal.SIGCONT)
        begun = imported(database)
        assert until(lambda: imported(database) > begun)
        os.kill(other.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("Error: MongoDB does not answer: ")
    assert errors.endswith(". Run it again: what is there is passed over\n")
    assert "Traceback" not in errors
    assert imported(database) < DOCUMENTS
    flask(tree, uri, *WORDS, code=3)
    assert is_whole(database)
