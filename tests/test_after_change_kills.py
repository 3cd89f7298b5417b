"""Workers that tell a hook of changes are killed and stopped: each record's newest state is told, never one before it.

`MADANG_HOOK_KILLS` is how many are killed at random; `make chaos` kills two hundred.
"""

import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from mongoengine.connection import get_db

from service.changes.after_changes import begin_hooks
from service.documents import Lease, SetAside
from service.model.registry import Registry
from service.upkeep import indexes
from tests.client import Person
from tests.forked_workers import is_stopped, wait_for, working
from tests.outbox_worker import STOPPED
from tests.telling import LEASE, PATH, Parcel

pytestmark = [pytest.mark.real, pytest.mark.measured]

KILLS = int(os.environ.get("MADANG_HOOK_KILLS", "5"))
MODULE = "tests.hook_worker"
Told = dict[str, list[tuple[int, str]]]


@pytest.fixture
def service(make_app: Callable[..., Flask]) -> Iterator[Flask]:
    made = make_app(documents=[Parcel])
    with made.app_context():
        indexes.make(Registry([Parcel]))
    begin_hooks(Registry([Parcel]))
    yield made
    for name in ("test_parcels", "told", "set_aside"):
        get_db()[name].drop()
    indexes.make(Registry([Parcel]))
    Lease._get_collection().delete_many({"_id": {"$in": [LEASE, "recorder"]}})


@pytest.fixture
def ada(service: Flask, ada: Person) -> Person:
    ada.client = service.test_client()
    return ada


class Writing:
    """Somebody who makes, changes and deletes records."""

    def __init__(self, ada: Person) -> None:
        self.ada, self.by_chance, self.made, self.deleted, self.writes = ada, random.Random(KILLS), 0, set[str](), 0

    def write(self) -> None:
        """Make five records, and change or delete some that are there."""
        for _ in range(5):
            assert self.ada.post(PATH, {"id": f"p{self.made}", "title": "new"}).status_code == 201
            self.made += 1
        for _ in range(5):
            id = f"p{self.by_chance.randrange(self.made)}"
            if id not in self.deleted and self.by_chance.random() < 0.2:
                self.deleted.add(id)
                assert self.ada.delete(f"{PATH}/{id}").status_code == 204
            elif id not in self.deleted:
                assert self.ada.patch(f"{PATH}/{id}", {"title": "changed"}).status_code == 200
        self.writes += 10

    def write_all(self) -> None:
        """Change all that are there."""
        for number in range(self.made):
            if f"p{number}" not in self.deleted:
                assert self.ada.patch(f"{PATH}/p{number}", {"title": "newer"}).status_code == 200


def told() -> Told:
    """What the hook was told of each record, as it came."""
    found: Told = defaultdict(list)
    for row in get_db()["told"].find({}, sort=[("$natural", 1)]):
        found[row["record"]].append((row["revision"], row["kind"]))
    return found


def newest() -> dict[str, int]:
    """The revision of each record."""
    return {row["_id"]: row["revision"] for row in Parcel._get_collection().find({}, {"revision": 1})}


def untold() -> int:
    """How many records are stored whose newest state was not told."""
    heard = told()
    return sum(revision not in [seen for seen, _ in heard[id]] for id, revision in newest().items())


def check(heard: Told, deleted: set[str]) -> None:
    """Whether each was told as promised."""
    for id, revision in newest().items():
        revisions = [seen for seen, _ in heard[id]]
        assert revisions == sorted(revisions), id
        assert revisions[-1] == revision
        assert (heard[id][-1][1] == "deleted") == (id in deleted)
        assert heard[id][0][1] in ("created", "deleted")


def test_of_changes_whose_workers_are_killed_each_record_is_told_and_none_goes_back(ada: Person) -> None:
    writing = Writing(ada)
    ada.post(PATH, {"id": "poison", "title": "poison"})
    began = time.monotonic()
    with working(ada.client.application, MODULE, {}) as workers:
        workers.kill_by_chance(KILLS, 0.6, writing.write)
        wait_for(lambda: untold() == 1, untold)
        # It says nothing of the poison, and keeps it.
        wait_for(lambda: SetAside._get_collection().count_documents({"record": "poison"}) == 1)
    heard = told()
    Parcel._get_collection().delete_one({"_id": "poison"})
    check(heard, writing.deleted)
    assert workers.others == []
    distinct = sum(len(set(each)) for each in heard.values())
    sys.stdout.write(
        f"{KILLS} kills in {time.monotonic() - began:.0f} s: {writing.made} records, {writing.writes} writes, "
        f"{sum(map(len, heard.values()))} times told, of these {distinct} different, "
        f"by {len(get_db()['told'].distinct('worker'))} workers\n"
    )


def test_a_worker_that_is_stopped_for_longer_than_its_lease_keeps_nothing_waiting_and_loses_nothing(
    ada: Person,
) -> None:
    writing = Writing(ada)
    writing.write()
    with working(ada.client.application, MODULE, {}) as workers:
        stopped = workers.start(STOPPED)
        wait_for(lambda: is_stopped(stopped))
        writing.write_all()
        other = workers.start()
        wait_for(lambda: untold() == 0)
        os.kill(stopped, signal.SIGCONT)
        writing.write()
        wait_for(lambda: untold() == 0)
        os.kill(other, signal.SIGKILL)
        writing.write()
        wait_for(lambda: untold() == 0)
    check(told(), writing.deleted)
    assert len(get_db()["told"].distinct("worker")) == 2
    assert workers.others == []
