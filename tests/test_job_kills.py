"""Workers that do jobs are killed: none is lost, none is at work twice at once, and what is done once is done once.

`MADANG_JOB_KILLS` is how many are killed at random; `make chaos` kills two hundred.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from mongoengine.connection import get_db

from service.documents import OutboxItem
from service.outbox.jobs import enqueue
from tests.forked_workers import transactions_ended_after, wait_for, waiting, working
from tests.job_worker import POINTS, STEADY

pytestmark = [pytest.mark.real, pytest.mark.measured]

KILLS = int(os.environ.get("MADANG_JOB_KILLS", "5"))
MODULE = "tests.job_worker"


def noted(collection: str) -> Counter[str]:
    return Counter(found["run"] for found in get_db()[collection].find())


def is_done(id: str) -> bool:
    found = OutboxItem._get_collection().find_one({"_id": id})
    return found is not None and found["state"] == "sent"


@pytest.fixture(autouse=True)
def soon_forgotten(app: Flask) -> Iterator[None]:
    """The transactions of the dead do not keep others waiting for long."""
    with transactions_ended_after(2):
        yield


@pytest.fixture(autouse=True)
def collections(app: Flask) -> Iterator[None]:
    """Make them before the transactions of many workers do."""
    for name in ("effects", "done"):
        get_db()[name].insert_one({"_id": "first"})
        get_db()[name].delete_many({})
    yield
    for name in ("effects", "done"):
        get_db().drop_collection(name)


def test_a_job_whose_worker_is_killed_at_any_point_is_done(app: Flask, tmp_path: Path) -> None:
    ids = [enqueue(STEADY) for _ in POINTS]
    with working(app, MODULE, {"LOCKS": str(tmp_path)}) as workers:
        died = workers.die_at(POINTS)
        workers.start()
        wait_for(lambda: waiting() == 0)
    assert all(map(is_done, ids))
    assert noted("done") == dict.fromkeys(ids, 1)
    # What is done outside of `once` is done again by who takes it after the death.
    assert noted("effects") == {**dict.fromkeys(ids, 1), died["at work"]: 2}
    assert workers.others == []


def test_of_jobs_whose_workers_are_killed_none_is_lost_or_at_work_twice_at_once(app: Flask, tmp_path: Path) -> None:
    ids: list[str] = []
    with working(app, MODULE, {"LOCKS": str(tmp_path)}) as workers:
        workers.kill_by_chance(KILLS, 0.4, lambda: ids.extend(enqueue(STEADY) for _ in range(3)))
        wait_for(lambda: waiting() == 0, waiting)
    assert all(map(is_done, ids))
    assert noted("done") == dict.fromkeys(ids, 1)
    assert set(noted("effects")) == set(ids)
    assert noted("effects").total() - len(ids) <= KILLS
    assert workers.others == []
