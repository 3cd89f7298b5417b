"""How long MongoDB keeps the past while somebody reads it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from service.mongo.raw import Raw
from service.upkeep.past import LONG_SECONDS, PAST_PARAMETER, past_kept
from tests.test_mongod import plain_mongod

pytestmark = pytest.mark.real


def seconds_of_the_past(client: MongoClient[Raw]) -> int:
    return int(client.admin.command({"getParameter": 1, PAST_PARAMETER: 1})[PAST_PARAMETER])


def options(seconds: int) -> tuple[str, str]:
    return "--setParameter", f"{PAST_PARAMETER}={seconds}"


@pytest.fixture
def short(tmp_path: Path) -> Iterator[MongoClient[Raw]]:
    """A MongoDB that is started to keep less than usual."""
    with plain_mongod(tmp_path / "data", *options(20)) as (_, port), MongoClient[Raw]("127.0.0.1", port) as client:
        yield client


def test_it_is_kept_for_longer_meanwhile(short: MongoClient[Raw]) -> None:
    with past_kept(short):
        assert seconds_of_the_past(short) == LONG_SECONDS
    assert seconds_of_the_past(short) == 20


def test_what_fails_has_it_kept_as_before(short: MongoClient[Raw]) -> None:
    with pytest.raises(KeyError), past_kept(short):
        raise KeyError
    assert seconds_of_the_past(short) == 20


def test_one_that_was_killed_before_leaves_nothing_behind(short: MongoClient[Raw]) -> None:
    short.admin.command({"setParameter": 1, PAST_PARAMETER: LONG_SECONDS})
    with past_kept(short):
        pass
    assert seconds_of_the_past(short) == 20


def test_a_mongodb_that_goes_away_meanwhile_hides_no_error(tmp_path: Path) -> None:
    def lost() -> None:
        with past_kept(client):
            os.kill(pid, signal.SIGKILL)
            raise KeyError

    with (
        plain_mongod(tmp_path / "data", *options(20)) as (pid, port),
        MongoClient[Raw]("127.0.0.1", port, serverSelectionTimeoutMS=100) as client,
        pytest.raises(KeyError),
    ):
        lost()


@pytest.mark.parametrize("words", [(), options(300), options(4000)])
def test_a_mongodb_that_keeps_as_much_as_usual_is_left_as_it_is(tmp_path: Path, words: tuple[str, ...]) -> None:
    with plain_mongod(tmp_path / "data", *words) as (_, port), MongoClient[Raw]("127.0.0.1", port) as client:
        client.admin.command({"setParameter": 1, PAST_PARAMETER: 7})
        with past_kept(client):
            assert seconds_of_the_past(client) == 7
        assert seconds_of_the_past(client) == 7


@pytest.mark.parametrize("may", [[], ["getCmdLineOpts"]])
def test_who_may_not_say_it_reads_all_the_same(tmp_path: Path, may: list[str]) -> None:
    with (
        plain_mongod(tmp_path / "data", "--auth", *options(20)) as (_, port),
        MongoClient[Raw]("127.0.0.1", port) as root,
    ):
        rights = [{"resource": {"cluster": True}, "actions": may}] if may else []
        create_user(root, "root", ["root"])
        with MongoClient[Raw]("127.0.0.1", port, username="root", password="word") as admin:
            admin.admin.command({"createRole": "reader", "privileges": rights, "roles": []})
            create_user(admin, "reader", ["reader"])
            with MongoClient[Raw]("127.0.0.1", port, username="reader", password="word") as client:
                with pytest.raises(OperationFailure):
                    client.admin.command({"setParameter": 1, PAST_PARAMETER: 7})
                with past_kept(client):
                    assert seconds_of_the_past(admin) == 20


def create_user(client: MongoClient[Any], name: str, roles: list[str]) -> None:
    client.admin.command({"createUser": name, "pwd": "word", "roles": roles})
