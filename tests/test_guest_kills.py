"""A merge of many records whose workers are killed: each record goes over, once, and none is lost.

`MADANG_MERGE_RECORDS` is how many there are, `MADANG_MERGE_KILLS` how many workers die; `make chaos` merges 100,000
while five die.
"""

import os
import random
import signal
import time

import pytest
from flask import Flask

from service.documents import Account, Note
from service.documents.account import ALIVE
from service.records import store
from tests.client import Person
from tests.forked_workers import wait_for, working
from tests.test_guests import guest_on, merge
from tests.types import type_of

pytestmark = pytest.mark.real

RECORDS = int(os.environ.get("MADANG_MERGE_RECORDS", "2000"))
KILLS = int(os.environ.get("MADANG_MERGE_KILLS", "1"))


def test_a_merge_whose_workers_are_killed_ends_with_each_record_once(app: Flask, ada: Person) -> None:
    guest, notes = guest_on(app), Note._get_collection()
    for begin in range(0, RECORDS, 1000):
        numbers = range(begin, min(begin + 1000, RECORDS))
        store.create_many(type_of(Note), guest.id, [{"_id": f"n{number}", "title": "a note"} for number in numbers])
    assert merge(ada, guest).status_code == 202

    def left() -> int:
        return notes.count_documents({"owner": guest.id})

    with working(app, "tests.merge_worker", {}) as workers:
        for kill in range(1, KILLS + 1):
            pid = workers.start()
            due = RECORDS * (KILLS + 1 - kill) // (KILLS + 1)
            wait_for(lambda due=due: left() <= due, left)  # type: ignore[misc]
            time.sleep(random.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
        workers.start()
        wait_for(lambda: Account._get_collection().find_one({"_id": guest.id, **ALIVE}) is None, left)
    assert workers.others == []
    assert notes.count_documents({"owner": ada.id, "revision": 2}) == RECORDS
    assert notes.count_documents({}) == RECORDS
