"""The recorder: what it makes of gaps, restarts, rivals and other programs, in one process and in many."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bson import Timestamp
from flask import Flask
from mongoengine import StringField
from mongoengine.connection import get_connection

from service.changes import comparison, order, recorder, tail
from service.changes.order import lease_document
from service.core import metrics
from service.core.errors import FeedUnavailable
from service.documents import Change, Lease, LeaseLost, Note, Notebook, Record
from service.model.registry import Registry
from service.upkeep import indexes
from tests.client import PASSWORD, Person
from tests.recording import Recording
from tests.test_changes import Device
from tests.test_changes_model import lost_token
from tests.test_run import Running, called, running
from tests.trees import another_database, emptied
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = pytest.mark.real


@pytest.fixture
def device(ada: Person, recording: Recording) -> Device:
    return Device(ada, recording)


def state() -> dict[str, Any]:
    return dict((lease_document() or {})["state"])


def successor(recording: Recording, settings: dict[str, Any], registry: Registry = REGISTRY) -> Recording:
    """A recorder that takes over."""
    recording.close()
    recording.lease.release()
    return Recording(registry, settings)


# What there is to record


@pytest.fixture
def indexed() -> Iterator[None]:
    """A collection that was dropped, or replaced, has its indexes again."""
    yield
    Notebook._get_collection().drop()
    indexes.make(REGISTRY)


def test_a_collection_that_is_dropped_is_told_record_by_record(ada: Person, device: Device, indexed: None) -> None:
    for number in range(5):
        ada.make_notebook(id=f"b{number}")
    ada.make_note(id="stays")
    device.pull()
    Notebook._get_collection().drop()
    assert {(item["id"], item.get("gone")) for item in device.pull()} == {(f"b{n}", "deleted") for n in range(5)}
    assert device.has == {("notes", "stays"): 1}


def test_a_collection_that_takes_the_place_of_another_is_compared(ada: Person, device: Device, indexed: None) -> None:
    for number in range(3):
        ada.make_notebook(id=f"b{number}")
    device.pull()
    database = Notebook._get_collection().database
    database["elsewhere"].insert_one({**database["notebooks"].find_one({"_id": "b0"}), "revision": 5})
    database["elsewhere"].rename("notebooks", dropTarget=True)
    device.pull()
    assert device.has == {("notebooks", "b0"): 5}


def test_a_write_for_the_sake_of_the_write_is_none(ada: Person, device: Device) -> None:
    ada.make_note(id="one")
    device.pull()
    before = state()["seq"]
    Note._get_collection().update_one({"_id": "one"}, {"$inc": {"reference_writes": 1}})
    assert device.pull() == []
    assert state()["seq"] == before


def test_other_software_may_store_what_no_client_can_name(ada: Person, device: Device) -> None:
    Note._get_collection().insert_one({"_id": 7, "access": ["o:" + ada.id]})
    Note._get_collection().insert_one({"_id": {"a": 1}, "access": ["o:" + ada.id]})
    ada.make_note(id="one")
    device.recording.catch_up()
    assert Change._get_collection().count_documents({}) == 1
    Note._get_collection().delete_many({"_id": {"$not": {"$type": "string"}}})


def test_more_writes_of_one_transaction_than_a_batch_holds_are_all_seen_by_a_pull(
    ada: Person, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "BATCH", 4)
    requests = [{"method": "POST", "path": "/v1/notes", "body": {"title": "t"}} for _ in range(20)]
    assert ada.post("/v1/batch", {"atomic": True, "requests": requests}).status_code == 200
    assert len(device.pull()) == 20


def test_a_batch_that_follows_another_is_left_to_grow(
    ada: Person, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.pull()
    moment, slept = [time.monotonic() + 1], []

    def sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
            ada.make_note(id="meanwhile")

    monkeypatch.setattr(recorder, "time", SimpleNamespace(monotonic=lambda: moment[0], sleep=sleep))
    step = partial(device.recording.recorder.step, device.recording.lease)
    ada.make_note(id="alone")
    step()
    assert (Change._get_collection().count_documents({}), slept) == (1, [])
    ada.make_note(id="after")
    step()
    assert Change._get_collection().count_documents({}) == 3
    assert slept == [pytest.approx(recorder.GROWS + recorder.GROWS_BY)]
    moment[0] += 1
    ada.make_note(id="later")
    step()
    assert (Change._get_collection().count_documents({}), len(slept)) == (4, 1)


# Where it goes on


def test_what_came_and_went_before_anybody_recorded_it_is_gone_for_who_sent_it(
    ada: Person, bob: Person, device: Device
) -> None:
    device.pull()
    bobs = Device(bob, device.recording)
    bobs.pull()
    ada.make_note(id="one")
    ada.delete("/v1/notes/one")
    ada.make_note(id="two")
    Note._get_collection().delete_one({"_id": "two"})
    assert [(item["id"], item["gone"]) for item in device.pull()] == [("one", "deleted"), ("two", "deleted")]
    assert bobs.pull() == []


def test_what_happened_while_nobody_recorded_is_recorded_by_the_next(
    ada: Person, device: Device, test_settings: dict[str, Any]
) -> None:
    ada.make_note(id="one")
    device.pull()
    device.recording = successor(device.recording, test_settings)
    ada.make_note(id="two")
    ada.delete("/v1/notes/one")
    assert len(device.pull()) == 2
    assert device.has == device.listed()
    device.recording.close()


def test_a_gap_is_told_and_compared(ada: Person, device: Device, test_settings: dict[str, Any]) -> None:
    for name in ("changed", "deleted", "erased", "same"):
        ada.make_note(id=name)
    device.pull()
    device.recording = successor(device.recording, test_settings)
    ada.patch("/v1/notes/changed", {"title": "x"})
    ada.delete("/v1/notes/deleted")
    Note._get_collection().delete_one({"_id": "erased"})
    ada.make_note(id="made")
    ada.make_note(id="passing")
    ada.delete("/v1/notes/passing")
    Lease._get_collection().update_one({"_id": order.RECORDER}, {"$set": {"state.token": lost_token()}})
    before = metrics.GAPS._value.get()
    items = device.pull()
    assert metrics.GAPS._value.get() == before + 1
    # A device of its owner may have sent what came and went in the gap.
    assert {item["id"] for item in items} == {"changed", "deleted", "erased", "made", "passing"}
    assert device.has == device.listed()
    device.recording.close()


def test_a_comparison_that_is_cut_short_goes_on(
    ada: Person, device: Device, test_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "BATCH", 2)
    for number in range(9):
        ada.make_note(id=f"n{number}")
    Change._get_collection().delete_many({})
    Lease._get_collection().update_one(
        {"_id": order.RECORDER}, {"$set": {"state.comparing": {"type": "notes", "after": ""}}}
    )
    for _ in range(6):
        device.recording = successor(device.recording, test_settings)
        assert device.recording.lease.take()
        device.recording.recorder.step(device.recording.lease)
    assert state()["comparing"] != comparison.START
    assert len(device.pull()) == 9
    numbers = [change["seq"] for change in Change._get_collection().find()]
    assert len(set(numbers)) == 9
    device.recording.close()


def test_a_type_that_comes_is_recorded_and_one_that_goes_is_forgotten(
    ada: Person, recording: Recording, test_settings: dict[str, Any]
) -> None:
    class Recipe(Record):
        """What to cook."""

        name = StringField()
        meta = {"collection": "recipes"}

    Recipe._get_collection().insert_one({"_id": "soup", "access": ["o:" + ada.id], "revision": 1})
    later = successor(recording, test_settings, Registry([Notebook, Note, Recipe]))
    later.catch_up()
    assert Change._get_collection().find_one({"_id": "recipes/soup"})["marks"] == ["o:" + ada.id]
    last = successor(later, test_settings)
    last.catch_up()
    assert Change._get_collection().find_one({"type": "recipes"}) is None
    last.close()
    Recipe._get_collection().drop()


def test_an_order_that_begins_anew_gives_no_number_again_and_takes_no_old_cursor(
    ada: Person, device: Device, test_settings: dict[str, Any]
) -> None:
    ada.make_note(id="one")
    device.pull()
    before = state()["seq"]
    device.recording.close()
    time.sleep(1.1)  # a number is the time in microseconds, of whole seconds
    Change._get_collection().delete_many({})
    Lease._get_collection().delete_one({"_id": order.RECORDER})
    later = Recording(REGISTRY, test_settings)
    later.catch_up()
    assert state()["floor"] > before
    answer = ada.get("/v1/changes", query_string={"cursor": device.cursor})
    assert (answer.status_code, answer.json["code"]) == (410, "cursor_expired")
    assert len(ada.get("/v1/changes").json["items"]) == 1
    later.close()


def test_an_order_whose_document_was_deleted_under_the_recorder_begins_anew(ada: Person, device: Device) -> None:
    ada.make_note(id="one")
    device.pull()
    before = state()["seq"]
    time.sleep(1.1)  # a number is the time in microseconds, of whole seconds
    Lease._get_collection().update_one({"_id": order.RECORDER}, {"$unset": {"state": ""}})
    ada.make_note(id="two")
    with pytest.raises(LeaseLost):
        device.recording.catch_up()
    device.recording.catch_up()
    assert state()["seq"] > before
    assert {item["id"] for item in ada.get("/v1/changes").json["items"]} == {"one", "two"}


def test_a_part_of_an_order_is_told_as_none(ada: Person) -> None:
    part = {"state": {"token": None}, "holder": "a", "epoch": 1}
    Lease._get_collection().replace_one({"_id": order.RECORDER}, part, upsert=True)
    assert ada.get("/v1/changes").json["code"] == "feed_unavailable"


# What is over


def test_what_ended_long_ago_is_forgotten_and_older_cursors_are_refused(
    ada: Person, bob: Person, app: Flask, test_settings: dict[str, Any]
) -> None:
    recording = Recording(REGISTRY, test_settings, keep=timedelta())
    bobs = Device(bob, recording)
    ada.make_note(id="one", readers=[bob.id])
    bobs.pull()
    ada.patch("/v1/notes/one", {"readers": []})
    recording.catch_up()
    recording.recorder.forget(recording.lease)
    assert Change._get_collection().count_documents({}) == 1
    answer = bob.get("/v1/changes", query_string={"cursor": bobs.cursor})
    assert (answer.status_code, answer.json["code"]) == (410, "cursor_expired")
    bobs.cursor, bobs.has = None, {}
    assert bobs.pull() == []
    ada.make_note(id="two", readers=[bob.id])
    assert len(bobs.pull()) == 1
    recording.close()


def test_a_record_that_came_back_is_not_forgotten(ada: Person, app: Flask, test_settings: dict[str, Any]) -> None:
    recording = Recording(REGISTRY, test_settings, keep=timedelta())
    ada.make_note(id="one")
    recording.catch_up()
    Note._get_collection().delete_one({"_id": "one"})
    recording.catch_up()
    ada.make_note(id="one")
    recording.catch_up()
    recording.recorder.forget(recording.lease)
    assert [change["_id"] for change in Change._get_collection().find()] == ["notes/one"]
    recording.close()


# Who waits for it


def test_without_a_recorder_a_pull_says_so(ada: Person) -> None:
    answer = ada.get("/v1/changes")
    assert (answer.status_code, answer.json["code"], answer.headers["Retry-After"]) == (503, "feed_unavailable", "1")


def test_a_pull_does_not_answer_without_what_was_acknowledged(ada: Person, device: Device) -> None:
    device.pull()
    ada.make_note()
    answer = ada.get("/v1/changes", query_string={"cursor": device.cursor})
    assert (answer.status_code, answer.json["code"]) == (503, "feed_unavailable")
    assert len(device.pull()) == 1


def test_a_pull_does_not_wait_for_what_is_never_recorded(ada: Person, device: Device) -> None:
    device.pull()
    ada.log_in("another device")
    device.recording.catch_up()
    get_connection().get_default_database()["other"].insert_one({})
    assert ada.get("/v1/changes", query_string={"cursor": device.cursor}).json["items"] == []
    get_connection().get_default_database()["other"].drop()


def test_a_pull_inside_of_an_answer_of_bytes_is_cut_and_goes_on(ada: Person, device: Device) -> None:
    for number in range(50):
        ada.make_note(id=f"n{number}", body="x" * 100_000)
    device.recording.catch_up()
    answer = ada.get("/v1/changes", query_string={"limit": 1000})
    assert answer.json["more"]
    assert 3_900_000 < len(answer.data) < 4 * 1024 * 1024 + 5_000
    assert len(device.pull()) == 50


# As processes


class Following(threading.Thread):
    """A device that follows its cursor over HTTP, whatever is the matter."""

    def __init__(self, service: Running, token: str) -> None:
        super().__init__(daemon=True)
        self.service, self.token = service, token
        self.has: dict[str, int] = {}
        self.cursor = ""
        self.ending = threading.Event()
        self.codes: set[str] = set()

    def run(self) -> None:
        while not self.ending.is_set():
            self.pull()

    def pull(self) -> bool:
        path = f"/v1/changes?cursor={self.cursor}" if self.cursor else "/v1/changes"
        answer = self.service.send("GET", path, token=self.token)
        if answer.status_code != 200:
            self.codes.add(answer.json()["code"])
            time.sleep(0.1)
            return False
        body = answer.json()
        for item in body["items"]:
            if "gone" in item:
                self.has.pop(item["id"], None)
            else:
                assert self.has.get(item["id"], 0) <= item["revision"]
                self.has[item["id"]] = item["revision"]
        self.cursor = body["cursor"]
        return not body["more"]


def write(service: Running, token: str, ending: threading.Event, seed: int) -> None:
    """Make, change and delete notes."""
    chance = random.Random(seed)
    while not ending.is_set():
        id = f"{seed}-{chance.randrange(30)}"
        body = {"title": "x"}
        if chance.random() < 0.2:
            service.send("DELETE", f"/v1/notes/{id}", token=token)
        else:
            service.send("PUT", f"/v1/notes/{id}", body, token)


def test_no_change_is_lost_while_workers_are_killed_and_stopped(
    tmp_path: Path, mongodb_uri: str, pytestconfig: pytest.Config
) -> None:
    uri = another_database(mongodb_uri, "madang_recorder")
    limits = {"RATELIMIT_ENABLED": "false", "MONGODB_URI": uri}
    with emptied(uri), ExitStack() as stack:
        service = stack.enter_context(running(tmp_path / "0", "--workers", "1", **limits))
        stack.enter_context(running(tmp_path / "1", "--only", "worker", **limits))
        ada = {"username": "ada", "password": PASSWORD}
        assert service.send("POST", "/v1/accounts", ada).status_code == 201
        token = service.send("POST", "/auth", ada).json()["access_token"]
        device = Following(service, token)
        device.start()
        ending = threading.Event()
        writers = [threading.Thread(target=write, args=(service, token, ending, seed)) for seed in range(2)]
        for writer in writers:
            writer.start()
        for number in range(4):
            time.sleep(1.5)
            assert until(lambda: is_alive(holder_of_the_order(uri)))
            holder = holder_of_the_order(uri)
            if number % 2:
                os.kill(holder, signal.SIGSTOP)
                time.sleep(7.5)
                os.kill(holder, signal.SIGCONT)
            else:
                os.kill(holder, signal.SIGKILL)
        ending.set()
        for writer in writers:
            writer.join()
        device.ending.set()
        device.join()
        assert until(device.pull)
        listed: dict[str, int] = {}
        path = "/v1/notes?limit=100"
        page = service.send("GET", path, token=token).json()
        listed |= {record["id"]: record["revision"] for record in page["items"]}
        assert page["next"] is None
        assert device.has == listed
        assert device.codes <= {"feed_unavailable"}
        numbers = [change["seq"] for change in Change._get_collection().database.client[name_in(uri)]["changes"].find()]
        assert len(set(numbers)) == len(numbers)


def is_alive(pid: int) -> bool:
    return bool(called(pid))


def name_in(uri: str) -> str:
    return uri.rsplit("/", 1)[1].partition("?")[0]


def holder_of_the_order(uri: str) -> int:
    """The process that records now."""
    leases = get_connection()[name_in(uri)]["leases"]
    return int(leases.find_one({"_id": order.RECORDER})["holder"].split(":")[1])


# What it tells


def test_an_order_that_nobody_records_is_told(recording: Recording) -> None:
    order.check_recorded()
    Lease._get_collection().update_one({"_id": order.RECORDER}, {"$set": {"state.clock": Timestamp(1_000, 1)}})
    with pytest.raises(FeedUnavailable, match="seconds behind"):
        order.check_recorded()
    Lease._get_collection().delete_one({"_id": order.RECORDER})
    with pytest.raises(FeedUnavailable, match="nothing has been recorded"):
        order.check_recorded()


def test_it_counts_what_it_records(ada: Person, device: Device) -> None:
    before = metrics.RECORDED._value.get()
    ada.make_note()
    ada.make_note()
    device.pull()
    assert metrics.RECORDED._value.get() == before + 2
    assert abs(metrics.NEWEST._value.get() - time.time()) < 10
    assert 0 <= metrics.LAG._value.get() < 10
