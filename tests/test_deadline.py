"""The deadline of a request: what it asks of MongoDB ends in time, and what is too expensive is told as that."""

import json
import time
from typing import Any

import pytest
from flask import Flask
from mongoengine.connection import get_connection
from pymongo.errors import AutoReconnect, ExecutionTimeout, NetworkTimeout

from service.changes.barrier import Barrier
from service.changes.pull import Pull, Pulled
from service.documents import Note
from service.mongo import deadline, transactions
from service.records import reading
from service.resources import batch
from tests.client import Person
from tests.types import new
from tests.waiting import until

SECONDS = 0.25
"""What a request may take in these tests."""
COSTLY = {"$or": [{"tags": {"$prefix": f"tag{number}"}} for number in range(99)]}
"""What MongoDB has to compare each tag of each record with, 99 times."""
PATH = f"/v1/notes?scope=public&where={json.dumps(COSTLY)}".replace('"', "%22").replace(" ", "")


@pytest.fixture
def hurried(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.config, "MONGODB_TIMEOUT", SECONDS)


@pytest.fixture
def crowd(ada: Person) -> None:
    """So many public notes that a costly query takes longer than a request may."""
    content = {"title": "x", "readers": ["*"], "tags": [f"tag of notes {number}" for number in range(20)]}
    rows = [new(Note, "somebody", content) for _ in range(4_000)]
    Note._get_collection().insert_many(rows)


# What takes too long


@pytest.mark.real
@pytest.mark.usefixtures("hurried", "crowd")
@pytest.mark.parametrize("parameters", [{}, {"count": "true"}, {"sort": "-priority,due"}])
def test_a_query_that_takes_too_long_is_not_asked_for_again(ada: Person, parameters: dict[str, Any]) -> None:
    began = time.monotonic()
    answer = ada.find(where=COSTLY, scope="public", **parameters)
    assert time.monotonic() - began < SECONDS + 1
    assert (answer.status_code, answer.json["code"]) == (400, "too_expensive")
    assert "Retry-After" not in answer.headers
    assert ada.get("/v1/notes").status_code == 200


@pytest.mark.real
@pytest.mark.usefixtures("hurried", "crowd")
@pytest.mark.parametrize("atomic", [False, True])
def test_a_batch_has_the_time_of_one_request(ada: Person, atomic: bool) -> None:
    began = time.monotonic()
    parts = [{"method": "POST", "path": "/v1/notes", "body": {"title": "first"}}]
    parts += [{"method": "GET", "path": PATH}] * 30
    answer = ada.post("/v1/batch", {"requests": parts, "atomic": atomic})
    assert time.monotonic() - began < SECONDS + 1.5
    statuses = [part["status"] for part in answer.json["responses"]]
    assert statuses == ([424, 400, *[424] * 29] if atomic else [201, *[400] * 30])
    assert "Retry-After" not in answer.headers
    if not atomic:
        last = answer.json["responses"][-1]["body"]
        assert (last["code"], "in another" in last["detail"]) == ("too_expensive", True)
    assert len(ada.get("/v1/notes").json["items"]) == (0 if atomic else 1)


@pytest.mark.real
@pytest.mark.usefixtures("hurried", "crowd")
def test_what_a_batch_had_no_time_for_is_done_when_it_is_sent_again_with_its_key(ada: Person) -> None:
    make = {"method": "POST", "path": "/v1/notes", "body": {"title": "x"}}
    parts = [make, *[{"method": "GET", "path": PATH}] * 3, make]
    send = lambda: ada.post("/v1/batch", {"requests": parts}, headers={"Idempotency-Key": "k"}).json["responses"]  # noqa: E731
    assert [part["status"] for part in send()] == [201, 400, 400, 400, 400]
    Note._get_collection().delete_many({"owner": "somebody"})
    again = send()
    assert [part["status"] for part in again] == [201, 200, 200, 200, 201]
    assert again[0]["headers"]["Idempotent-Replayed"] == "true"
    assert Note._get_collection().count_documents({"owner": ada.id}) == 2


@pytest.mark.usefixtures("hurried")
def test_writes_that_a_slow_mongodb_leaves_no_time_for_are_asked_for_again(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_part = batch.answer

    def slowly(part: Any, before: list[Any]) -> Any:
        outcome = answer_part(part, before)
        if len(before) == 1:
            time.sleep(SECONDS)
        return outcome

    monkeypatch.setattr(batch, "answer", slowly)
    parts = [{"method": "POST", "path": "/v1/notes", "body": {"title": "x"}}] * 4
    send = lambda: ada.post("/v1/batch", {"requests": parts}, headers={"Idempotency-Key": "k"})  # noqa: E731
    answer = send()
    assert [part["status"] for part in answer.json["responses"]] == [201, 201, 503, 503]
    assert answer.json["responses"][2]["body"]["code"] == "database_unavailable"
    assert (answer.headers["Retry-After"], answer.json["responses"][3]["headers"]["Retry-After"]) == ("1", "1")
    monkeypatch.setattr(batch, "answer", answer_part)
    assert [part["status"] for part in send().json["responses"]] == [201] * 4
    assert Note._get_collection().count_documents({}) == 4


@pytest.mark.real
@pytest.mark.usefixtures("hurried", "crowd")
def test_mongodb_ends_what_nobody_waits_for(ada: Person) -> None:
    assert ada.find(where=COSTLY, scope="public", count="true").status_code == 400
    running = {"ns": Note._get_collection().full_name, "op": {"$in": ["query", "command", "getmore"]}}
    admin = get_connection().admin
    until(lambda: not list(admin.aggregate([{"$currentOp": {}}, {"$match": running}])), 1)


# Whether it is the query, or MongoDB


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.real
@pytest.mark.parametrize("well", [True, False])
def test_only_a_mongodb_that_is_well_says_that_a_query_is_too_expensive(
    ada: Person, monkeypatch: pytest.MonkeyPatch, well: bool
) -> None:
    monkeypatch.setattr(reading.Reader, "rows", failing(NetworkTimeout("timed out")))
    monkeypatch.setattr(deadline.connection, "is_writable", lambda: well)
    assert ada.find(where={"pinned": True}).json["code"] == ("too_expensive" if well else "database_unavailable")


@pytest.mark.real
def test_a_page_without_conditions_is_never_too_expensive(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading.Reader, "rows", failing(ExecutionTimeout("time is up", 50)))
    assert ada.find().json["code"] == "database_unavailable"


@pytest.mark.real
def test_what_fails_for_another_reason_is_told_as_before(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading.Reader, "rows", failing(AutoReconnect("no connection")))
    assert ada.find(where={"pinned": True}).json["code"] == "database_unavailable"


# The deadline itself


def test_a_deadline_within_another_does_not_extend_it() -> None:
    assert deadline.left() == float("inf")
    with deadline.lasting(5), deadline.lasting(60):
        assert 4 < deadline.left() <= 5
        assert 4 < transactions.outside(deadline.left) <= 5
        assert deadline.apart(deadline.left) == float("inf")
    assert deadline.left() == float("inf")


@pytest.mark.usefixtures("hurried")
def test_every_request_has_one(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []
    find = reading.Reader.find
    monkeypatch.setattr(reading.Reader, "find", lambda *args: left.append(deadline.left()) or find(*args))
    ada.get("/v1/notes/x")
    ada.post("/v1/batch", {"requests": [{"method": "GET", "path": "/v1/notes/x"}] * 2})
    assert len(left) == 3
    assert all(0 < seconds <= SECONDS for seconds in left)
    assert left[1] > left[2]


@pytest.mark.real
@pytest.mark.usefixtures("hurried")
def test_the_api_lets_no_pull_wait(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[float] = []

    def nothing_new(asked: Pull, _: Any) -> Pulled:
        left.append(deadline.left())
        return Pulled([], asked.checkpoint, False, asked.seal)

    monkeypatch.setattr(Barrier, "passed", lambda _: None)
    monkeypatch.setattr(Pull, "answer", nothing_new)
    answer = ada.post("/v1/batch", {"requests": [{"method": "GET", "path": "/v1/changes?wait=1"}] * 2})
    assert [part["status"] for part in answer.json["responses"]] == [200, 200]
    assert ada.get("/v1/changes?wait=25").json["items"] == []
    assert len(left) == 3
    assert all(seconds <= SECONDS for seconds in left)


@pytest.mark.real
def test_the_deletion_of_an_account_takes_as_long_as_it_takes(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "MONGODB_TIMEOUT", 0.1)
    for _ in range(3):
        Note._get_collection().insert_many([new(Note, ada.id, {"title": "x"}) for _ in range(3_000)])
    began = time.monotonic()
    assert ada.delete("/v1/accounts/me").status_code == 204
    assert time.monotonic() - began > 0.1
    assert Note._get_collection().count_documents({}) == 0


# Counts


@pytest.fixture
def counted(ada: Person, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(reading, "MOST_COUNTED", 5)
    monkeypatch.setattr("service.resources.records.MOST_COUNTED", 5)

    def count(notes: int, **parameters: Any) -> dict[str, Any]:
        for _ in range(notes):
            ada.make_note(title="apple", place={"type": "Point", "coordinates": [0, 0]})
        answer = ada.find(limit=1, count="true", **parameters).json
        return {name: answer[name] for name in answer if name.startswith("total")}

    return count


@pytest.mark.parametrize(("notes", "told"), [(4, {"total": 4}), (5, {"total": 5}), (6, {"total_at_least": 5})])
def test_a_count_is_exact_up_to_its_bound(counted: Any, notes: int, told: dict[str, int]) -> None:
    assert counted(notes) == told


@pytest.mark.real
@pytest.mark.parametrize("parameters", [{"search": "apple"}, {"where": {"place": {"$near": {"point": [0, 0]}}}}])
def test_every_count_has_the_bound(counted: Any, parameters: dict[str, Any]) -> None:
    assert counted(6, **parameters) == {"total_at_least": 5}


def test_ten_thousand_are_counted() -> None:
    assert reading.MOST_COUNTED == 10_000
