"""Attacks by way of sync: what a device sends is what an attacker sends (OWASP API1, API3, API4:2023)."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from service.changes import corrections, feed, order, push_parts
from service.changes.watermelon_pull import parse_watermelon_pull
from service.documents import Correction, Note, Notebook, PushReceipt
from service.mongo import driver, transactions
from tests.client import Person
from tests.recording import Recording
from tests.syncing import Json, Melon, Replica
from tests.types import REGISTRY

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recording")]

MELON = "/v1/sync/watermelondb?last_pulled_at=0"
RXDB = "/v1/sync/rxdb/notes/0/push"
HEADERS = {"Content-Type": "application/json"}


def melon(person: Person, kind: str, *rows: Any, table: str = "notes") -> Any:
    """Push rows as a device that knows nothing."""
    return person.post(MELON, {table: {kind: [*rows]}})


def rxdb(person: Person, *documents: Json) -> Any:
    """Push documents as a device that claims to have what is there."""
    claimed = [{"newDocumentState": new, "assumedMasterState": {**new, "title": "secret"}} for new in documents]
    return person.post(RXDB, claimed)


def stored() -> list[Json]:
    return [row for document in (Note, Notebook) for row in document._get_collection().find().sort("_id", 1)]


# What is another's


def test_a_push_touches_nothing_that_is_anothers(ada: Person, bob: Person) -> None:
    bob.make_note(id="hidden", title="secret")
    bob.make_note(id="read", title="secret", readers=[ada.id])
    before = stored()
    for revision in (1, None, 2):
        for id in ("hidden", "read"):
            row = {"id": id, "title": "mine", "owner": ada.id, "_changed": "title,owner"}
            row |= {} if revision is None else {"revision": revision}
            answers = [
                *(melon(ada, kind, row) for kind in ("created", "updated")),
                melon(ada, "deleted", id),
                rxdb(ada, row, {**row, "id": f"{id}-2", "notebook": id}),
                rxdb(ada, {**row, "_deleted": True}),
            ]
            assert all(answer.status_code in (200, 409) for answer in answers)
            assert "secret" not in "".join(answer.text for answer in answers) or id == "read"
    mine = [row for row in stored() if row["owner"] == ada.id]
    assert [row for row in stored() if row not in mine] == before
    assert all("notebook" not in row for row in mine)


def test_a_push_does_not_share_what_one_does_not_own(ada: Person, bob: Person, recording: Recording) -> None:
    bob.make_note(id="one", writers=[ada.id])
    device = Melon(ada, recording)
    (row,) = device.pull()["notes"]["updated"]
    for field in ("readers", "writers"):
        sent = {**row, field: '["*"]', "_status": "updated", "_changed": f"title,{field}", "title": "x"}
        assert device.push(notes={"updated": [sent]})["problems"][0]["problem"]["code"] == "forbidden"
        (old,) = Replica(ada, recording).pull()
        assert ada.post(RXDB, [{"newDocumentState": {**old, field: ["*"]}, "assumedMasterState": old}]).json == [old]
    assert bob.get("/v1/notes/one").json["revision"] == 1


def test_what_a_push_refers_to_is_not_shown(ada: Person, bob: Person) -> None:
    bob.make_notebook(id="hidden", title="secret")
    for answer in (
        melon(ada, "created", {"id": "one", "title": "a", "notebook": "hidden"}),
        ada.post(RXDB, [{"newDocumentState": {"id": "two", "title": "a", "notebook": "hidden"}}]),
    ):
        assert answer.status_code == 200
        assert "secret" not in answer.text + str(answer.headers)
    assert [row.get("notebook") for row in stored() if row["owner"] == ada.id] == [None]


@pytest.mark.parametrize("since", ["0", "1", "1795741565000000", "9007199254740991"])
def test_a_place_that_is_made_up_shows_nothing_of_others(
    ada: Person, bob: Person, recording: Recording, since: str
) -> None:
    bob.make_note(id="hidden", title="secret")
    bob.make_note(id="gone", title="secret")
    bob.delete("/v1/notes/gone")
    recording.catch_up()
    answer = ada.get(f"/v1/sync/watermelondb?last_pulled_at={since}")
    assert answer.status_code in (200, 410)
    assert not any(word in answer.text for word in ("secret", "hidden", '"gone"'))


# Names that a client makes up

NAMES = [
    *("_id", "__proto__", "access", "purge_at", "going_at", "reference_writes", "schema_version"),
    *("$set", "a.b", "", "x" * 300),
]
TABLES = ["accounts", "sessions", "changes", "leases", "corrections", "__proto__", "system.js", ""]


@pytest.mark.parametrize("name", NAMES)
def test_a_column_that_is_made_up_is_stored_nowhere(ada: Person, recording: Recording, name: str) -> None:
    row = {"id": "one", "title": "a", name: "evil", "_changed": name, "_status": "updated"}
    problems = melon(ada, "created", row).json["problems"]
    assert problems[0]["problem"]["errors"][0]["code"] == "unknown_field"
    answer = ada.post(RXDB, [{"newDocumentState": {"id": "two", "title": "a", name: "evil"}}])
    assert [document["id"] for document in answer.json] == ["two"]
    assert stored() == []
    ada.make_note(id="one")
    (known,) = Melon(ada, recording).pull()["notes"]["updated"]
    sent = {**known, name: "evil", "_changed": name, "_status": "updated"}
    assert melon(ada, "updated", sent).json["problems"]
    assert "evil" not in str(stored())


@pytest.mark.parametrize(
    "name", ["accounts", "sessions", "changes", "leases", "corrections", "__proto__", "system.js", ""]
)
def test_a_table_that_is_made_up_is_none(ada: Person, recording: Recording, name: str) -> None:
    recording.catch_up()
    answer = melon(ada, "created", {"id": "one", "title": "a"}, table=name)
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (422, "unknown_table")
    assert ada.get("/v1/sync/watermelondb", query_string={"tables": name}).status_code == 400
    migration = json.dumps({"from": 1, "tables": [name], "columns": [{"table": name, "columns": [name]}]})
    answer = ada.get("/v1/sync/watermelondb", query_string={"migration": migration})
    assert (answer.status_code, answer.json["changes"].keys()) == (200, {*REGISTRY})
    assert ada.post(f"/v1/sync/rxdb/{name}/0/push", []).status_code in (404, 405)


def test_what_the_server_sets_is_not_set_by_a_push(ada: Person, bob: Person) -> None:
    own = {"owner": bob.id, "revision": 99, "created_at": 1, "updated_at": 1}
    assert melon(ada, "created", {"id": "one", "title": "a", **own}).json == {}
    assert ada.post(RXDB, [{"newDocumentState": {"id": "two", "title": "a", **own}}]).json == []
    for id in ("one", "two"):
        record = ada.get(f"/v1/notes/{id}").json
        assert (record["owner"], record["revision"]) == (ada.id, 1)
        assert record["created_at"] > "2026"


# What one push costs


def timed(person: Person, path: str, body: bytes) -> tuple[Any, float]:
    began = time.monotonic()
    answer = person.post(path, data=body, headers=HEADERS)
    return answer, time.monotonic() - began


def test_a_push_is_not_unpacked(ada: Person) -> None:
    packed = gzip.compress(b"[" + b" " * 10_000_000 + b"]")
    for path in (MELON, RXDB):
        answer = ada.post(path, data=packed, headers={**HEADERS, "Content-Encoding": "gzip"})
        assert answer.status_code == 415


def test_a_push_larger_than_16_mib_is_refused(ada: Person) -> None:
    body = b'[{"newDocumentState": {"id": "a", "title": "%s"}}]' % (b"x" * 17_000_000)
    for path in (MELON, RXDB):
        assert ada.post(path, data=body, headers=HEADERS).status_code == 413


@pytest.mark.parametrize(
    "row",
    [
        {f"c{number}": 1 for number in range(900)},
        {"title": "", "priority": "x", "due": "x", "place": 1, "tags": 1, "checklist": [], "notebook": 1},
        {"title": "a", "checklist": json.dumps([{"text": 1, "x": 2}] * 100)},
        {"title": "a", "tags": "[" * 3000},
    ],
    ids=["columns", "values", "entries", "levels"],
)
def test_a_push_of_mistakes_costs_little_and_tells_little(ada: Person, row: Json) -> None:
    rows = [{"id": f"n{number}", **row} for number in range(500)]
    body = json.dumps({"notes": {"created": rows}}).encode()
    answer, seconds = timed(ada, MELON, body)
    assert (answer.status_code, len(answer.json["problems"])) == (200, 500)
    assert len(answer.data) < 20 * len(body) + 2_000_000
    assert seconds < 10
    answer, seconds = timed(ada, RXDB, json.dumps([{"newDocumentState": one} for one in rows]).encode())
    assert (answer.status_code, len(answer.json)) == (200, 500)
    assert len(answer.headers["Sync-Problems"]) <= 4096
    assert seconds < 10
    assert stored() == []


@pytest.mark.parametrize("depth", [100, 900, 100_000])
def test_a_push_of_many_levels_is_refused_or_stored_nowhere(ada: Person, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    for path, body in (
        (MELON, '{"notes": {"created": [{"id": "a", "title": DEEP}]}}'),
        (MELON, '{"notes": DEEP}'),
        (RXDB, '[{"newDocumentState": {"id": "a", "title": "a", "checklist": DEEP}}]'),
        (RXDB, '[{"newDocumentState": {"id": "a", "title": "\\ud83d", "x": DEEP}}]'),
        (RXDB, "DEEP"),
    ):
        sent = body.replace("DEEP", deep)
        assert ada.post(path, data=sent, headers=HEADERS).status_code in (200, 400, 422)
    assert stored() == []


def test_records_that_are_large_are_not_all_read_at_once(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        ada.make_note(id=f"n{number}", body="x" * 50_000)
    monkeypatch.setattr("service.records.bulk.MOST_READ", 100_000)
    answer = ada.post(RXDB, [{"newDocumentState": {"id": f"n{number}", "title": "a"}} for number in range(3)])
    assert answer.status_code == 413


def test_a_push_holds_no_long_transaction(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_parts, "MOST_IN_PART", 2)
    calls: list[int] = []
    run = transactions.run

    def counted(work: Any, *args: Any) -> Any:
        calls.append(1)
        return run(work, *args)

    monkeypatch.setattr(transactions, "run", counted)
    rows = [{"id": f"n{number}", "title": "a"} for number in range(5)]
    assert melon(ada, "created", *rows).json == {}
    assert len(calls) == 3
    assert len(stored()) == 5


@pytest.mark.parametrize("value", [2**65, "\ud83d"])
def test_no_value_of_a_row_hides_how_large_it_is(value: Any) -> None:
    rows = [{"text": "x" * 300_000, "value": value}] * 3
    assert [len(part) for part in push_parts.parts_of(rows, lambda row: row)] == [1, 1, 1]


def test_a_row_of_more_levels_than_are_stored_counts_for_nothing() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"deeper": deep}
    assert [len(part) for part in push_parts.parts_of([deep, deep], lambda row: row)] == [2]


def test_a_push_does_not_fill_what_is_told_once_more_with_ids_of_any_length(ada: Person) -> None:
    for id in ("x" * 201, "y" * 200, "a/b"):
        assert melon(ada, "created", {"id": id, "title": ""}).json["problems"]
        assert ada.post(RXDB, [{"newDocumentState": {"id": id, "title": ""}}]).status_code == 200
    assert sorted(row["record"] for row in Correction._get_collection().find()) == ["a/b", "y" * 200]


def test_what_is_noted_of_a_push_are_ids_that_a_record_could_have(ada: Person) -> None:
    for id in ("x" * 9_000_000, "y" * 9_000_000, "x" * 201, "z" * 200):
        assert ada.post(RXDB, [{"newDocumentState": {"id": id, "title": "a"}}]).status_code == 200
    assert [id for row in PushReceipt._get_collection().find() for id in row["records"]] == ["z" * 200]


def test_a_pull_holds_only_some_of_what_is_told_once_more(ada: Person, recording: Recording) -> None:
    named = [("notes", f"{number:0200}") for number in range(6000)]
    corrections.remember(ada.id, named, timedelta(days=1))
    found = order.order_in(order.lease_document())
    pull = parse_watermelon_pull(REGISTRY, {"last_pulled_at": str(max(found.seq, 1))}, ada.id)
    tracemalloc.start()
    try:
        size = sum(map(len, pull.pieces(found)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 6000 * 200
    assert peak < 2_000_000  # a piece of the answer, while it is read from the file


def test_pulls_are_counted_as_lists_are(make_app: Any, recording: Recording) -> None:
    app: Flask = make_app(RATELIMIT_ENABLED=True, RATELIMIT_LIST_SECONDS=0.001)
    ada = Person.sign_up(app.test_client(), "ada")
    ada.make_note()
    recording.catch_up()
    first = ada.get("/v1/sync/watermelondb")
    assert (first.status_code, len(first.data) > 0) == (200, True)
    for path in ("/v1/changes", "/v1/sync/watermelondb", "/v1/sync/rxdb/notes/0/pull"):
        assert ada.get(path).status_code == 429
    assert ada.get("/v1/sync/rxdb/notes/0/pull").json["error"] is True


def test_a_pull_that_asks_for_much_reads_a_little_at_a_time(
    ada: Person, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(70):
        ada.make_note(id=f"n{number}", body="x" * 100_000)
    recording.catch_up()
    read: list[int] = []
    find = driver.find

    def counted(collection: Any, *args: Any, **named: Any) -> Any:
        rows = find(collection, *args, **named)
        if collection.name == "notes":
            read.append(len(rows))
        return rows

    monkeypatch.setattr(feed.driver, "find", counted)
    for path, reads in (("/v1/changes?limit=1000", [50]), ("/v1/sync/rxdb/notes/0/pull?limit=10000", [50, 5, 5, 5, 5])):
        read.clear()
        assert len(ada.get(path).data) > 4_000_000
        assert read == reads


def test_what_has_ended_before_a_walk_began_costs_little(
    ada: Person, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"n{number}" for number in range(300)]
    melon(ada, "created", *({"id": id, "title": "t"} for id in ids))
    recording.catch_up()
    assert {ada.delete(f"/v1/notes/{id}").status_code for id in ids} == {204}
    ada.make_note(id="last")
    recording.catch_up()
    asked: list[str] = []
    find = driver.find

    def counted(collection: Any, *args: Any, **named: Any) -> Any:
        asked.append(collection.name)
        return find(collection, *args, **named)

    monkeypatch.setattr(feed.driver, "find", counted)
    answer = ada.get("/v1/changes?limit=1").json
    assert [item["id"] for item in answer["items"]] == ["last"]
    assert len(asked) < 40


def test_no_sync_in_a_batch(ada: Person) -> None:
    for path in ("/v1/sync/watermelondb", "/v1/%73ync/watermelondb", "/v1/sync/rxdb/notes/0/pull"):
        assert ada.post("/v1/batch", {"requests": [{"method": "GET", "path": path}]}).status_code == 422
