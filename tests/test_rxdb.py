"""RxDB's protocol over HTTP: pages and checkpoints, what a push does, and what is told of what it does not."""

from __future__ import annotations

import json
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from mongoengine import (
    DecimalField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EnumField,
    IntField,
    ListField,
    StringField,
)
from werkzeug.test import TestResponse

from service.changes import rxdb_pull, rxdb_push
from service.changes.rxdb_documents import Documents
from service.core.clock import now
from service.documents import AwaitedReference, Note, Notebook, PushReceipt, Record, Session
from service.identity import sessions
from service.model.record_type import derive
from tests.client import Person
from tests.recording import Recording
from tests.syncing import Json, Replica, check_answers
from tests.test_house import Recorder

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recording")]


@pytest.fixture
def adas(ada: Person, recording: Recording) -> Replica:
    return Replica(ada, recording)


@pytest.fixture
def bobs(bob: Person, recording: Recording) -> Replica:
    return Replica(bob, recording)


def note(id: str, **fields: Any) -> Json:
    return {"id": id, "title": "a note", "_deleted": False, **fields}


def ids(documents: list[Json]) -> list[str]:
    return [document["id"] for document in documents]


def problems(answer: TestResponse) -> dict[str, str]:
    """Why rows of a push were refused, code by id."""
    return {one["id"]: one["problem"]["code"] for one in json.loads(answer.headers.get("Sync-Problems", "[]"))}


# Pull


def test_a_document_is_the_records_json(ada: Person, adas: Replica) -> None:
    ada.make_note(id="one", due="2026-11-22T10:00:00.000Z", tags=["a"])
    assert adas.pull() == [{**ada.get("/v1/notes/one").json, "_deleted": False}]
    assert adas.pull() == []


def test_a_page_is_full_as_long_as_there_is_more(ada: Person, adas: Replica) -> None:
    for number in range(7):
        ada.make_note(id=f"n{number}")
    assert [len(adas.page(3)) for _ in range(4)] == [3, 3, 1, 0]
    ada.patch("/v1/notes/n0", {"title": "b"})
    assert ids(adas.page(3)) == ["n0"]


def test_what_is_gone_has_no_content(ada: Person, bob: Person, bobs: Replica) -> None:
    ada.make_note(id="one", title="secret", body="secret", tags=["secret"], readers=[bob.id])
    ada.make_note(id="two", title="secret", readers=[bob.id])
    assert sorted(ids(bobs.pull())) == ["one", "two"]
    ada.patch("/v1/notes/one", {"readers": []})
    ada.delete("/v1/notes/two")
    gone = bobs.pull()
    assert sorted(ids(gone)) == ["one", "two"]
    for document in gone:
        assert document["_deleted"] is True
        assert "secret" not in str(document)
        assert ada.id not in str(document)
        assert document.keys() == {*ada.get("/v1/notes/one").json, "_deleted"}
        assert (document["title"], document["tags"], document["due"]) == ("", [], None)


class Grade(Enum):
    """Has values of more than one type."""

    NONE = "none"
    BEST = 1


class Graded(EmbeddedDocument):
    """Has a member that cannot be null."""

    grade = IntField(required=True)


@pytest.mark.parametrize(
    "field",
    [
        EnumField(Grade, required=True),
        IntField(required=True, choices=(3, 4)),
        StringField(required=True, choices=("a", "b")),
        DecimalField(required=True, min_value=2),
        ListField(EnumField(Grade), required=True),
        EmbeddedDocumentField(Graded, required=True),
    ],
)
def test_what_is_gone_is_as_the_schema_says(field: Any) -> None:
    made: type[Record] = type("Graded", (Record,), {"value": field, "meta": {"collection": "graded"}})
    documents = Documents(derive(made))
    Draft202012Validator(documents.json_schema()).validate(documents.gone("one"))


def test_a_checkpoint_is_that_of_its_account_and_type(ada: Person, bob: Person, adas: Replica, bobs: Replica) -> None:
    ada.make_note(id="one")
    adas.pull()
    for person, path, checkpoint in (
        (bob, "/v1/sync/rxdb/notes/0", adas.checkpoint),
        (ada, "/v1/sync/rxdb/notebooks/0", adas.checkpoint),
        (ada, "/v1/sync/rxdb/notes/0", {**adas.checkpoint, "lwt": adas.checkpoint["lwt"] + 1}),
        (ada, "/v1/sync/rxdb/notes/0", {**adas.checkpoint, "id": "x"}),
        (ada, "/v1/sync/rxdb/notes/0", {"id": "", "lwt": adas.checkpoint["lwt"]}),
    ):
        answer = person.get(f"{path}/pull", query_string=checkpoint)
        assert (answer.status_code, answer.json["error"]) == (400, True)


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "lwt=x", "lwt=-1", "lwt=1e9", "other=1"])
def test_what_nobody_can_mean_is_refused(ada: Person, query: str) -> None:
    assert ada.get(f"/v1/sync/rxdb/notes/0/pull?{query}").status_code == 400


def test_the_first_page_may_be_asked_for_in_many_ways(ada: Person, adas: Replica) -> None:
    ada.make_note(id="one")
    adas.recording.catch_up()
    for query in ("", "?lwt=0&id=&limit=10", "?lwt=null&id=", "?lwt=undefined"):
        assert ids(ada.get(f"/v1/sync/rxdb/notes/0/pull{query}").json["documents"]) == ["one"]


def test_a_quiet_collection_gets_a_new_checkpoint_each_day(
    ada: Person, adas: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada.make_note(id="one")
    adas.pull()
    before = adas.checkpoint
    ada.make_notebook()
    assert adas.pull() == []
    monkeypatch.setattr(rxdb_pull, "FRESH_SECONDS", -1)
    (document,) = adas.page()
    assert (document["id"], document["_deleted"]) == (".", True)
    assert adas.checkpoint["lwt"] > before["lwt"]


def test_a_checkpoint_that_is_too_old_is_said_to_be(ada: Person, adas: Replica, recording: Recording) -> None:
    ada.make_note(id="one")
    adas.pull()
    recording.recorder.change(recording.lease, {"$max": {"state.floor": adas.checkpoint["lwt"] + 1}})
    recording.recorder.change(recording.lease, {"$max": {"state.seq": adas.checkpoint["lwt"] + 1}})
    answer = ada.get(f"{adas.path}/pull", query_string=adas.checkpoint)
    assert (answer.status_code, answer.json["code"], answer.json["error"]) == (410, "cursor_expired", True)


def test_what_a_device_has_just_sent_is_told_again(ada: Person, adas: Replica) -> None:
    """While a push of it was under way, the device has dropped what it pulled."""
    adas.pull()
    assert adas.push((note("one"), None)) == []
    assert ids(adas.pull()) == ["one"]
    ada.patch("/v1/notes/one", {"title": "b"})
    ada.make_note(id="two")
    assert ids(adas.page()) == ["one", "two"]
    assert ids(adas.page()) == ["one", "two"]
    # Also where its pages come to be full, and then at an end.
    assert [ids(adas.page(2)) for _ in range(4)] == [["one", "two"], ["one"], ["one", "two"], ["one"]]
    PushReceipt._get_collection().update_many({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    assert ids(adas.page()) == ["one", "two"]
    assert adas.page() == []


def test_what_was_withdrawn_from_a_device_that_has_just_sent_it_is_told_again(
    ada: Person, bob: Person, bobs: Replica
) -> None:
    ada.make_note(id="one", readers=[bob.id], writers=[bob.id])
    (old,) = bobs.pull()
    assert bobs.push(({**old, "title": "b"}, old)) == []
    assert ids(bobs.pull()) == ["one"]
    ada.patch("/v1/notes/one", {"readers": [], "writers": []})
    ada.patch("/v1/notes/one", {"title": "c"})
    assert [(one["id"], one["_deleted"]) for one in bobs.page()] == [("one", True)]
    assert [(one["id"], one["_deleted"]) for one in bobs.page()] == [("one", True)]


def test_a_device_that_names_what_it_may_not_read_does_not_learn_when_that_changes(
    ada: Person, adas: Replica, bob: Person
) -> None:
    bob.make_note(id="secret")
    adas.pull()
    adas.push((note("secret"), None))
    adas.pull()
    bob.patch("/v1/notes/secret", {"title": "b"})
    ada.make_note(id="two")
    assert ids(adas.page()) == ["two"]
    assert adas.page() == []


def test_another_session_is_told_once(ada: Person, adas: Replica, app: Flask, recording: Recording) -> None:
    adas.pull()
    adas.push((note("one"), None))
    tablet = Person(app.test_client())
    tablet.username = ada.username
    tablet.log_in()
    other = Replica(tablet, recording)
    assert ids(other.page()) == ["one"]
    assert other.page() == []


# Push


def test_a_push_makes_changes_and_deletes(ada: Person, adas: Replica) -> None:
    assert adas.push((note("one", tags=["a"]), None), (note("two"), None)) == []
    assert ada.get("/v1/notes/one").json["tags"] == ["a"]
    one, two = sorted(adas.pull(), key=lambda document: document["id"])
    assert adas.push(({**one, "title": "b"}, one), ({**two, "_deleted": True}, two)) == []
    assert ada.get("/v1/notes/one").json["title"] == "b"
    assert ada.get("/v1/notes/two").status_code == 404


def test_what_others_have_changed_is_answered(ada: Person, adas: Replica) -> None:
    ada.make_note(id="one")
    (old,) = adas.pull()
    ada.patch("/v1/notes/one", {"title": "theirs"})
    (conflict,) = adas.push(({**old, "title": "mine"}, old))
    assert conflict == {**ada.get("/v1/notes/one").json, "_deleted": False}
    assert conflict["title"] == "theirs"
    (conflict,) = adas.push(({**old, "_deleted": True}, old))
    assert conflict["title"] == "theirs"
    ada.delete("/v1/notes/one")
    (conflict,) = adas.push(({**old, "title": "mine"}, old))
    assert (conflict["id"], conflict["_deleted"]) == ("one", True)


def test_without_revisions_what_clients_write_is_compared(ada: Person, adas: Replica) -> None:
    ada.make_note(id="one", due="2026-11-22T10:00:00.000Z")
    old = note("one", due="2026-11-22T11:00:00+01:00")
    ada.patch("/v1/notes/one", {"title": "b"})
    ada.patch("/v1/notes/one", {"title": "a note"})
    assert adas.push(({**old, "title": "c"}, old)) == []
    (conflict,) = adas.push(({**old, "title": "d"}, old))
    assert conflict["title"] == "c"


def test_an_old_document_with_a_newer_assumed_state_is_a_conflict(ada: Person, adas: Replica) -> None:
    ada.make_note(id="one")
    (old,) = adas.pull()
    ada.patch("/v1/notes/one", {"body": "theirs"})
    (new,) = adas.pull()
    (conflict,) = adas.push(({**old, "title": "mine"}, new))
    assert conflict["body"] == "theirs"


def test_one_can_go_on_writing_while_a_push_is_under_way(ada: Person, adas: Replica) -> None:
    ada.make_note(id="one", title="a")
    (old,) = adas.pull()
    first, second = {**old, "title": "ab"}, {**old, "title": "abc"}
    assert adas.push((first, old)) == []
    # The device takes the service to have what it has sent, and knows of no new revision.
    assert adas.push((second, first)) == []
    assert ada.get("/v1/notes/one").json["title"] == "abc"
    # Its answer was lost: the same once more.
    assert adas.push((second, first)) == []
    assert ada.get("/v1/notes/one").json["revision"] == 3


def test_a_field_that_is_taken_away_is_cleared(ada: Person, adas: Replica) -> None:
    ada.make_note(id="one", due="2026-11-22T10:00:00.000Z")
    (old,) = adas.pull()
    assert adas.push(({name: value for name, value in old.items() if name != "due"}, old)) == []
    assert ada.get("/v1/notes/one").json["due"] is None
    # What a client of fewer fields does not know stays.
    assert adas.push((note("one", title="b"), note("one"))) == []
    assert ada.get("/v1/notes/one").json["title"] == "b"


def test_what_is_refused_is_answered_as_it_is(ada: Person, bob: Person, adas: Replica) -> None:
    ada.make_note(id="mine")
    bob.make_note(id="theirs", readers=[ada.id])
    bob.make_note(id="hidden", title="secret")
    old = {document["id"]: document for document in adas.pull()}
    answer = adas.send(
        ({**old["mine"], "priority": 9}, old["mine"]),
        ({**old["theirs"], "title": "x"}, old["theirs"]),
        (note("hidden"), None),
        (note("bad", title=""), None),
        (note("odd", colour="red"), None),
        (note("good"), None),
    )
    assert answer.status_code == 200
    told = {document["id"]: document for document in answer.json}
    assert told["mine"] == old["mine"]
    assert told["theirs"] == old["theirs"]
    assert all(told[id]["_deleted"] for id in ("hidden", "bad", "odd"))
    assert "secret" not in answer.text
    assert "good" not in told
    assert problems(answer) == {
        "mine": "validation_failed",
        "theirs": "forbidden",
        "hidden": "already_exists",
        "bad": "validation_failed",
        "odd": "validation_failed",
    }
    # The client stores what it was answered, and sends it back.
    again = [(document, document) for document in answer.json]
    assert adas.push(*again) == []


def test_problems_fit_into_their_header(ada: Person, adas: Replica) -> None:
    answer = adas.send(*((note(f"n{number}", title=""), None) for number in range(100)))
    text = answer.headers["Sync-Problems"]
    assert len(text) <= 4096
    assert 5 < len(json.loads(text)) < 100
    assert len(answer.json) == 100


def test_what_is_stored_otherwise_than_it_was_sent_is_answered(ada: Person, adas: Replica) -> None:
    (told,) = adas.push((note("one", tags=None), None)) or [None]
    assert told is None or told["_deleted"]
    ada.make_note(id="two", tags=["a"])
    (old,) = adas.pull()
    (told,) = adas.push(({**old, "tags": None}, old))
    assert (told["tags"], told["revision"]) == ([], 2)


def test_what_refers_to_what_has_not_come_waits_for_it(ada: Person, adas: Replica, recording: Recording) -> None:
    waiting = [(note("one", notebook="book"), None), (note("two"), None)]
    for _ in range(2):
        answer = adas.send(*waiting)
        assert (answer.status_code, answer.json["code"], answer.json["error"]) == (409, "reference_pending", True)
        assert answer.headers["Retry-After"]
    assert ada.get("/v1/notes/two").status_code == 404
    books = Replica(ada, recording, "notebooks")
    assert books.push(({"id": "book", "title": "Book"}, None)) == []
    assert adas.push(*waiting) == []
    assert ada.get("/v1/notes/one").json["notebook"] == "book"


def test_what_never_comes_is_not_waited_for_for_ever(
    ada: Person, adas: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert adas.send((note("one", notebook="none"), None)).status_code == 409
    monkeypatch.setattr(rxdb_push, "WAITS_FOR", timedelta(0))
    (told,) = adas.push((note("one", notebook="none"), None))
    assert told["notebook"] is None
    # Another one has its own time.
    monkeypatch.undo()
    assert adas.send((note("two", notebook="none"), None), (note("three", notebook="else"), None)).status_code == 409
    assert AwaitedReference._get_collection().count_documents({}) == 1


def test_a_reference_to_what_is_gone_or_was_refused_is_cleared(
    ada: Person, bob: Person, adas: Replica, recording: Recording
) -> None:
    ada.make_notebook(id="gone")
    ada.delete("/v1/notebooks/gone")
    bob.make_notebook(id="hidden")
    Replica(ada, recording, "notebooks").push(({"id": "refused", "title": ""}, None))
    rows = [(note(book, notebook=book), None) for book in ("gone", "hidden", "refused")]
    told = adas.push(*rows)
    assert [(document["id"], document["notebook"]) for document in told] == [
        ("gone", None),
        ("hidden", None),
        ("refused", None),
    ]
    assert ada.get("/v1/notes/gone").json["notebook"] is None


def test_a_text_that_cannot_be_stored_is_a_problem_of_its_row(ada: Person, adas: Replica) -> None:
    ada.make_note(id="old", title="whole")
    (old,) = adas.pull()
    body = json.dumps(
        [
            {"newDocumentState": {**old, "title": "half \ud83d"}, "assumedMasterState": old},
            {"newDocumentState": note("nul", body="a\0b")},
            {"newDocumentState": note("half\ud83d")},
            {"newDocumentState": note("good", title="\U0001f600")},
        ]
    )
    answer = ada.post(f"{adas.path}/push", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.json
    told = {document["id"]: document for document in answer.json}
    assert told["old"]["title"] == "whole"
    assert told["nul"]["_deleted"] is True
    assert told.keys() == {"old", "nul"}
    assert ada.get("/v1/notes/good").json["title"] == "\U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        *("{}", "1", "[1]", "[{}]", '[{"newDocumentState": 1}]', '[{"newDocumentState": {"id": 1}}]'),
        '[{"newDocumentState": {"id": "a"}, "assumedMasterState": 1}]',
    ],
)
def test_what_is_no_document_is_refused_as_a_whole(ada: Person, body: str) -> None:
    answer = ada.post("/v1/sync/rxdb/notes/0/push", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json["error"]) == (422, True)


def test_a_push_of_too_many_rows_is_too_large(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rxdb_push, "MOST_ROWS", 2)
    body = [{"newDocumentState": note(f"n{number}")} for number in range(3)]
    assert ada.post("/v1/sync/rxdb/notes/0/push", body).status_code == 413


# Versions and errors


class Memo(Record):
    """A type that has had three forms."""

    text = StringField()
    meta = {"collection": "test_memos", "sync_versions": [2, 3]}


def test_a_version_that_is_served_no_more_is_426(make_app: Any, recording: Recording) -> None:
    ada = Person.sign_up(make_app([Notebook, Note, Memo]).test_client(), "ada")
    assert [Replica(ada, recording, "test_memos", version).page() for version in (2, 3)] == [[], []]
    for version, status in ((0, 426), (1, 426), (4, 404), ("x", 404), ("-1", 404)):
        path = f"/v1/sync/rxdb/test_memos/{version}"
        for answer in (ada.get(f"{path}/pull"), ada.post(f"{path}/push", [])):
            assert (answer.status_code, answer.json["error"]) == (status, True)


def test_every_error_of_these_routes_says_so(ada: Person, app: Flask) -> None:
    nobody = Person(app.test_client())
    for answer in (
        nobody.get("/v1/sync/rxdb/notes/0/pull"),
        ada.get("/v1/sync/rxdb/none/0/pull"),
        ada.put("/v1/sync/rxdb/notes/0/push", []),
        ada.post("/v1/sync/rxdb/notes/0/push", data="x", headers={"Content-Type": "text/plain"}),
        ada.post("/v1/sync/rxdb/notes/0/push", data="{", headers={"Content-Type": "application/json"}),
    ):
        assert answer.status_code >= 400
        assert answer.json["error"] is True
    assert "error" not in ada.get("/v1/notes/none").json


def test_each_answer_is_what_the_document_says(app: Flask, recording: Recording) -> None:
    client = Recorder(app, TestResponse)
    ada = Person.sign_up(client, "ada")
    ada.make_note(id="old", place={"type": "Point", "coordinates": [1, 2]}, checklist=[{"text": "a"}])
    ada.make_note(id="gone")
    for type in ("notes", "notebooks"):
        replica = Replica(ada, recording, type)
        replica.pull()
        ada.delete("/v1/notes/gone")
        replica.pull()
        replica.send(({"id": "one", "title": "a"}, None), ({"id": "bad", "title": ""}, None))
        replica.send(({"id": "two", "title": "a", "notebook": "none"}, None))
        ada.get(f"{replica.path}/pull?lwt=x")
        ada.get(f"/v1/sync/rxdb/{type}/x/pull")
        ada.post(f"{replica.path}/push", {})
    check_answers(app, client)


def test_what_was_pushed_before_the_first_pull_and_ended_since_goes(ada: Person, recording: Recording) -> None:
    device = Replica(ada, recording)
    assert device.pull() == []
    assert device.push(({"id": "one", "title": "a"}, None)) == []
    assert ada.delete("/v1/notes/one").status_code == 204
    assert [(document["id"], document["_deleted"]) for document in device.pull()] == [("one", True)]


def test_a_push_goes_by_the_roles_of_the_pull_before_it(
    ada: Person, bob: Person, adas: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "CHECK_SECONDS", 60)
    bob.make_note(id="one", readers=["role:team"])
    assert adas.pull() == []
    ada.set_roles("team")
    (known,) = adas.pull()
    assert adas.push(({**known, "_deleted": True}, known)) == [known]


def test_the_api_itself_has_no_stream(ada: Person) -> None:
    answer = ada.get("/v1/sync/rxdb/notes/0/pullStream")
    assert (answer.status_code, answer.json["code"]) == (501, "not_supported")
    assert ada.get("/v1/sync/rxdb/notes/x/pullStream").status_code == 404


def test_a_push_of_a_session_that_has_just_ended_is_refused(ada: Person, bob: Person, adas: Replica) -> None:
    bob.make_note(id="theirs", writers=[ada.id])
    adas.pull()
    Session._get_collection().delete_many({"account": ada.id})
    assert adas.send((note("one"), None)).status_code == 401
    assert Note.objects(id="one").count() == 0


@pytest.mark.parametrize(
    "assumed",
    [None, {"id": "one", "revision": 9, "_deleted": True}, {"id": "one", "revision": 9, "priority": "x"}],
    ids=["nothing", "a deleted one", "what nobody could store"],
)
def test_a_change_of_what_was_never_there_is_a_conflict(ada: Person, adas: Replica, assumed: Json | None) -> None:
    stored = ada.make_note(id="one")
    (conflict,) = adas.push((note("one", title="b", revision=9), assumed))
    assert conflict == {**stored, "_deleted": False}
    assert ada.get("/v1/notes/one").json == stored


def test_a_deletion_that_is_pushed_takes_references_to_it_away(ada: Person, recording: Recording) -> None:
    book = ada.make_notebook(id="book")
    ada.make_note(id="one", notebook="book")
    notebooks = Replica(ada, recording, "notebooks")
    assert notebooks.push(({**book, "_deleted": True}, {**book, "_deleted": False})) == []
    assert ada.get("/v1/notebooks/book").status_code == 404
    assert ada.get("/v1/notes/one").json["notebook"] is None
