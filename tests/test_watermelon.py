"""WatermelonDB's protocol over HTTP: what a push does, and what the next pull of each device brings."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from tests.client import Person
from tests.recording import Recording
from tests.syncing import Json, Melon, check_answers
from tests.test_house import Recorder

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recording")]


@pytest.fixture
def adas(ada: Person, recording: Recording) -> Melon:
    return Melon(ada, recording)


@pytest.fixture
def bobs(bob: Person, recording: Recording) -> Melon:
    return Melon(bob, recording)


def note(id: str, **columns: Any) -> Json:
    return {"id": id, "_status": "created", "_changed": "", "title": "a note", **columns}


def changed(row: Json, **columns: Any) -> Json:
    return {**row, "_status": "updated", "_changed": ",".join(columns), **columns}


def ids(rows: list[Json]) -> list[str]:
    return [row["id"] for row in rows]


def test_a_first_pull_brings_all_and_the_next_one_what_is_new(ada: Person, adas: Melon) -> None:
    made = ada.make_note(id="one", due="2026-11-22T10:00:00.000Z", tags=["a"], checklist=[{"text": "x"}])
    tables = adas.pull()
    assert tables["notebooks"] == {"created": [], "updated": [], "deleted": []}
    (row,) = tables["notes"]["updated"]
    assert row["due"] == 1795341600000
    assert row["tags"] == '["a"]'
    assert row["checklist"] == '[{"text":"x","done":false}]'
    assert row["place"] is None
    assert (row["title"], row["revision"], row["owner"]) == (made["title"], 1, ada.id)
    assert adas.pull()["notes"] == {"created": [], "updated": [], "deleted": []}
    ada.delete("/v1/notes/one")
    assert adas.pull()["notes"]["deleted"] == ["one"]


def test_a_push_makes_changes_and_deletes(ada: Person, adas: Melon) -> None:
    adas.pull()
    row = note("one", tags='["a"]', due=1795341600000, pinned=True, created_at=1, updated_at=1)
    assert adas.push(notes={"created": [row, note("two")], "updated": [], "deleted": []}) == {}
    stored = ada.get("/v1/notes/one").json
    assert (stored["tags"], stored["due"], stored["pinned"]) == (["a"], "2026-11-22T10:00:00.000Z", True)
    assert stored["created_at"] > "2026"
    tables = adas.pull()
    assert sorted(ids(tables["notes"]["updated"])) == ["one", "two"]
    assert adas.push(notes={"updated": [changed(row, title="b")], "deleted": ["two"]}) == {}
    assert ada.get("/v1/notes/one").json["title"] == "b"
    assert ada.get("/v1/notes/two").status_code == 404


def test_only_what_a_row_names_is_written(ada: Person, adas: Melon) -> None:
    ada.make_note(id="one", title="a", body="theirs")
    (row,) = adas.pull()["notes"]["updated"]
    adas.push(notes={"updated": [{**changed(row, title="b"), "body": "mine"}]})
    stored = ada.get("/v1/notes/one").json
    assert (stored["title"], stored["body"]) == ("b", "theirs")


def test_what_others_have_changed_is_a_conflict_and_nothing_is_done(ada: Person, adas: Melon) -> None:
    ada.make_note(id="one")
    ada.make_note(id="two")
    first, second = adas.pull()["notes"]["updated"]
    ada.patch("/v1/notes/one", {"body": "new"})
    problem = adas.push(409, notes={"updated": [changed(first, title="x"), changed(second, title="x")]})
    assert problem["code"] == "sync_conflict"
    assert [cause["pointer"] for cause in problem["errors"]] == ["/notes/updated/0"]
    assert ada.get("/v1/notes/two").json["title"] == "a note"
    assert ids(adas.pull()["notes"]["updated"]) == ["one"]
    assert adas.push(notes={"updated": [changed(first, title="x"), changed(second, title="x")]}) == {}


def test_what_was_deleted_is_a_conflict_and_told_once_more(ada: Person, adas: Melon) -> None:
    ada.make_note(id="one")
    (row,) = adas.pull()["notes"]["updated"]
    ada.delete("/v1/notes/one")
    adas.push(409, notes={"updated": [changed(row, title="x")]})
    assert adas.pull()["notes"]["deleted"] == ["one"]
    # A device that has it all the same is not told to try again for ever.
    adas.push(409, notes={"updated": [changed(row, title="x")]})
    assert adas.pull()["notes"]["deleted"] == ["one"]


def test_a_push_that_comes_again_does_nothing_twice(ada: Person, adas: Melon) -> None:
    ada.make_note(id="old")
    (row,) = adas.pull()["notes"]["updated"]
    sent = {"created": [note("one", tags='["a"]')], "updated": [changed(row, title="b")], "deleted": []}
    for _ in range(3):
        assert adas.push(notes=sent) == {}
    assert [ada.get(f"/v1/notes/{id}").json["revision"] for id in ("one", "old")] == [1, 2]
    adas.push(notes={"deleted": ["old"]}, status=409)
    adas.pull()
    for _ in range(2):
        assert adas.push(notes={"deleted": ["old"]}) == {}


def test_a_row_that_is_refused_does_not_stop_the_others_and_is_put_right(ada: Person, bob: Person, adas: Melon) -> None:
    ada.make_note(id="mine")
    bob.make_note(id="theirs", readers=[ada.id])
    bob.make_note(id="hidden")
    rows = {row["id"]: row for row in adas.pull()["notes"]["updated"]}
    answer = adas.push(
        notes={
            "created": [note("good"), note("bad", title=""), note("hidden"), note("odd", colour="red")],
            "updated": [changed(rows["mine"], priority=9), changed(rows["theirs"], title="x")],
        }
    )
    problems = {(one["table"], one["id"]): one["problem"] for one in answer["problems"]}
    assert {id: problem["code"] for (_, id), problem in problems.items()} == {
        "bad": "validation_failed",
        "hidden": "already_exists",
        "odd": "validation_failed",
        "mine": "validation_failed",
        "theirs": "forbidden",
    }
    assert problems["notes", "mine"]["errors"][0]["pointer"] == "/priority"
    assert ada.get("/v1/notes/good").status_code == 200
    told = adas.pull()["notes"]
    assert sorted(ids(told["updated"])) == ["good", "mine", "theirs"]
    assert sorted(told["deleted"]) == ["bad", "hidden", "odd"]
    ada.make_note(id="more")
    adas.pull()
    assert adas.pull()["notes"] == {"created": [], "updated": [], "deleted": []}


def test_references_point_to_rows_of_the_same_push(ada: Person, adas: Melon) -> None:
    adas.pull()
    book = {"id": "book", "title": "Book"}
    answer = adas.push(
        notes={"created": [note("one", notebook="book"), note("two", notebook="none")]},
        notebooks={"created": [book, {"id": "bad", "title": ""}]},
    )
    assert [one["id"] for one in answer["problems"]] == ["two", "bad"]
    assert answer["problems"][0]["problem"]["errors"][0]["pointer"] == "/notebook"
    assert ada.get("/v1/notes/one").json["notebook"] == "book"


def test_a_reference_to_what_is_gone_meanwhile_is_cleared(ada: Person, adas: Melon) -> None:
    ada.make_notebook(id="book")
    adas.pull()
    ada.delete("/v1/notebooks/book")
    adas.recording.catch_up()
    assert adas.push(notes={"created": [note("one", notebook="book")]}) == {}
    assert ada.get("/v1/notes/one").json["notebook"] is None
    assert adas.pull()["notes"]["updated"][0]["notebook"] is None


def test_withdrawn_rows_are_deleted_on_the_device(ada: Person, bob: Person, bobs: Melon) -> None:
    ada.make_note(id="one", writers=[bob.id])
    (row,) = bobs.pull()["notes"]["updated"]
    ada.patch("/v1/notes/one", {"writers": []})
    bobs.recording.catch_up()
    bobs.push(409, notes={"updated": [changed(row, title="x")]})
    assert bobs.pull()["notes"]["deleted"] == ["one"]


def test_a_migration_brings_new_tables_and_values_of_new_columns(ada: Person, adas: Melon) -> None:
    ada.make_notebook(id="book")
    ada.make_note(id="one", due="2026-11-22T10:00:00.000Z")
    ada.make_note(id="two")
    adas.pull()
    ada.make_note(id="three")
    said = '{"from":1,"tables":["notebooks","own"],"columns":[{"table":"notes","columns":["due","x"]}]}'
    tables = adas.pull(migration=said)
    assert ids(tables["notebooks"]["updated"]) == ["book"]
    assert sorted(ids(tables["notes"]["updated"])) == ["one", "three"]


def test_a_first_pull_may_be_turbo(ada: Person, adas: Melon) -> None:
    ada.make_note(id="one")
    tables = adas.pull(turbo="true", tables="notes")
    assert list(tables) == ["notes"]
    assert (ids(tables["notes"]["created"]), tables["notes"]["updated"]) == (["one"], [])
    answer = adas.person.get(f"/v1/sync/watermelondb?last_pulled_at={adas.timestamp}&turbo=true")
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        *("tables=none", "tables=notes,none", "tables=", "last_pulled_at=x", "last_pulled_at=-1"),
        *("last_pulled_at=99999999999999999", "migration=x", "migration={}", 'migration={"tables":[1],"columns":[]}'),
        *("turbo=yes", "schema_version=x", "other=1"),
    ],
)
def test_what_nobody_can_mean_is_refused(ada: Person, query: str) -> None:
    assert ada.get(f"/v1/sync/watermelondb?{query}").status_code == 400


@pytest.mark.parametrize(
    ("tables", "wrong"),
    [
        ({"notes": {"created": {}}}, {"/notes/created": "wrong_type"}),
        (
            {"notes": {"created": ["x"], "deleted": [1]}},
            {"/notes/created/0": "wrong_type", "/notes/deleted/0": "wrong_type"},
        ),
        ({"notes": {"created": [{"title": "x"}]}}, {"/notes/created/0/id": "wrong_type"}),
        ({"notes": {"updated": [note("a")], "deleted": ["a"]}}, {"/notes/deleted/0": "twice"}),
    ],
)
def test_a_push_with_what_is_no_row_is_refused_as_a_whole(ada: Person, adas: Melon, tables: Json, wrong: Json) -> None:
    adas.pull()
    problem = adas.push(422, notebooks={"created": [{"id": "good", "title": "x"}]}, **tables)
    assert {cause["pointer"]: cause["code"] for cause in problem["errors"]} == wrong
    assert ada.get("/v1/notebooks/good").status_code == 404


def test_a_push_of_more_rows_than_there_may_be_is_too_large(adas: Melon) -> None:
    adas.pull()
    assert adas.push(413, notes={"deleted": [str(number) for number in range(10_001)]})["code"] == "too_large"


def test_a_row_that_nobody_could_store_is_refused_alone(ada: Person, adas: Melon) -> None:
    adas.pull()
    # Half a character, which JSON can say and UTF-8 cannot.
    body = '{"notes": {"created": [{"id": "odd", "title": "\\ud800"}, {"id": "good", "title": "x"}]}}'
    answer = ada.post(
        f"/v1/sync/watermelondb?last_pulled_at={adas.timestamp}", data=body, content_type="application/json"
    )
    (told,) = answer.json["problems"]
    assert (told["id"], told["problem"]["code"]) == ("odd", "validation_failed")
    assert ada.get("/v1/notes/good").status_code == 200


def test_each_answer_is_what_the_document_says(app: Flask, recording: Recording) -> None:
    client = Recorder(app, TestResponse)
    ada = Person.sign_up(client, "ada")
    ada.make_note(id="old", due="2026-11-22T10:00:00.000Z")
    melon = Melon(ada, recording)
    (row,) = melon.pull()["notes"]["updated"]
    ada.patch("/v1/notes/old", {"title": "b"})
    melon.push(409, notes={"updated": [changed(row, title="c")]})
    melon.pull(turbo="false")
    melon.push(notes={"created": [note("one"), note("bad", title="")], "deleted": ["old"]})
    melon.pull()
    ada.get("/v1/sync/watermelondb?last_pulled_at=1")
    ada.get("/v1/sync/watermelondb?tables=x")
    ada.post("/v1/sync/watermelondb?last_pulled_at=1", {})
    ada.post(f"/v1/sync/watermelondb?last_pulled_at={melon.timestamp}", {"none": {"created": [{"id": "a"}]}})
    ada.post("/v1/sync/watermelondb", data="{", headers={"Content-Type": "application/json"})
    check_answers(app, client)


def test_a_device_that_has_a_row_otherwise_is_put_right(ada: Person, adas: Melon) -> None:
    """The answer to a push was lost: what is pulled then does not go into the columns that the device has changed."""
    ada.make_note(id="one")
    (row,) = adas.pull()["notes"]["updated"]
    sent = changed(row, title="b", updated_at=1)
    adas.push(notes={"updated": [sent]})
    (row,) = adas.pull()["notes"]["updated"]
    adas.push(notes={"updated": [{**row, **changed(row, title="b", updated_at=1)}]})
    assert adas.pull()["notes"]["updated"] == [row]
    assert ada.get("/v1/notes/one").json["revision"] == 2
