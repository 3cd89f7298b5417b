"""What other software has stored and is no value of its field: it makes one record unreadable, and never a list."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import bson
import orjson
import pytest
from bson import CodecOptions, DBRef, Decimal128, Int64, ObjectId, Regex
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from flask import Flask
from pymongo.errors import WriteError

from service.core import metrics
from service.core.errors import Unreadable
from service.documents import Note, Notebook
from service.model import dump
from service.records import reading
from service.upkeep import indexes
from tests.client import Person, Phone
from tests.gym import Gym
from tests.recording import Recording
from tests.syncing import Melon, Replica
from tests.test_changes import Device
from tests.types import schema_of

ODD: list[Any] = [
    DBRef("notebooks", "a"),
    ObjectId(),
    Decimal128("NaN"),
    Regex("a"),
    DatetimeMS(253402300800000),  # the first moment of the year 10000
    float("nan"),
    float("inf"),
    Int64(2**40),
    "text",
    5,
    5.5,
    True,
    ["text"],
    {"text": "text"},
    [ObjectId()],
    {"text": ObjectId()},
    {"type": "Point", "coordinates": [1, "2"]},
    {"type": "Point", "coordinates": [float("nan"), 2]},
    {"name": 5, "weight_kg": float("nan")},
    [{"name": DBRef("notebooks", "a")}],
    [["text"]],
    datetime(2026, 11, 22),
]
FIELDS = [name for name, field in schema_of(Gym).fields.items() if not field.read_only]


@pytest.fixture(params=[("priority", "3"), ("tags", [ObjectId()]), ("due", "soon"), ("checklist", {"text": "a"})])
def bad(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What one note is stored with; JSON has no ObjectId, and could say the others."""
    name, value = request.param
    return {name: value}


@pytest.fixture
def notes(ada: Person, bad: dict[str, Any]) -> list[str]:
    """Three notes, the second of which cannot be told."""
    for id in ("one", "two", "three"):
        ada.make_note(id=id, tags=["t"])
    spoil("two", bad)
    return ["one", "three"]


def spoil(id: str, values: dict[str, Any], document: Any = Note) -> None:
    document._get_collection().update_one({"_id": id}, {"$set": values})


def ids(items: list[dict[str, Any]]) -> list[str]:
    return sorted(item["id"] for item in items)


# Values


@pytest.mark.parametrize("name", FIELDS)
def test_no_stored_value_makes_what_is_no_json(name: str) -> None:
    schema = schema_of(Gym)
    stored = {"_id": "a", "owner": "ada", "created_at": datetime(2026, 1, 1), "updated_at": datetime(2026, 1, 1)}
    for value in ODD:
        row = {**stored, "revision": 1, "name": "a", schema.fields[name].stored: value}
        if (plain := told(lambda row=row: dump.plain(schema.fields, row))) is not None:
            assert told(lambda row=row: schema.dump(row)) == plain
        elif (found := told(lambda row=row: schema.dump(row)[name])) is not None:
            # Only what stands in something else is not looked at, as long as JSON can say it.
            assert type(found) is (list if schema.fields[name].is_list or name == "corner" else dict), (value, found)


def told(make: Callable[[], Any]) -> Any:
    """What is made, if it can be said in JSON."""
    try:
        made = make()
        orjson.dumps(made)
    except (Unreadable, TypeError):
        return None
    return made


def test_a_number_that_is_stored_in_another_type_is_that_number() -> None:
    schema = schema_of(Gym)
    stored = {"name": "a", "level": 2.0, "members": 7.0, "rating": 4, "steps": Int64(5)}
    told = dump.plain(schema.fields, stored)
    assert (told["level"], told["members"], told["rating"], told["steps"]) == (2, 7, 4.0, "5")
    assert [type(told[name]) for name in ("level", "members", "rating")] == [int, int, float]


SECRET = "s3cret"
TELLING: list[Any] = [
    SECRET,
    [SECRET],
    [[SECRET]],
    {"name": SECRET, "text": [ObjectId()]},
    {"text": SECRET},
    [{"name": SECRET, "bought": SECRET}],
    DBRef(SECRET, SECRET),
    Regex(SECRET),
    Binary(SECRET.encode()),
    {"type": "Point", "coordinates": SECRET},
    {"type": SECRET, "coordinates": [1, 2]},
]


@pytest.fixture
def gyms(make_app: Any, ada: Person) -> Any:
    """A phone of ada's on an app that has the type."""
    app = make_app(documents=[Notebook, Gym])
    with app.app_context():
        indexes.make(app.extensions["madang.registry"])
    yield Phone(app.test_client(), ada.headers)
    Gym._get_collection().drop()


def test_no_value_gets_into_the_log(gyms: Phone, capsys: pytest.CaptureFixture[str]) -> None:
    """With a problem that is ours the log has a traceback, and an error may quote what it could not make sense of."""
    for name in FIELDS[1:]:
        assert gyms.post("/v1/gyms", {"id": name, "name": "a"}).status_code == 201
        capsys.readouterr()
        told = []
        for value in TELLING:
            try:
                spoil(name, {schema_of(Gym).fields[name].stored: value}, Gym)
            except WriteError:
                continue  # no index takes it
            told.append(gyms.get(f"/v1/gyms/{name}"))
        said = capsys.readouterr().out
        assert "Traceback" in said, name
        assert SECRET not in said, name
        refused = [answer for answer in told if answer.status_code == 500]
        assert {answer.json["code"] for answer in refused} == {"unreadable"}, name
        assert all(SECRET not in answer.text for answer in refused), name


OPERATORS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"best": SECRET}, {"best.name": "a"}),
    ({"best": [SECRET]}, {"best.name": "a"}),
    ({"best": SECRET}, {"$inc": {"best.serial": 1}}),
    ({"best": {"name": "a", "serial": SECRET}}, {"$inc": {"best.serial": 1}}),
    ({"machines": [SECRET]}, {"machines.0.name": "a"}),
    ({"machines": [[SECRET]]}, {"machines.0.name": "a"}),
    ({"machines": SECRET}, {"$push": {"machines": {"name": "a"}}}),
    ({"rooms": SECRET}, {"rooms.a": {"name": "a"}}),
    ({"rooms": {"a": SECRET}}, {"rooms.a.name": "a"}),
    ({"rooms": {"a": [SECRET]}}, {"rooms.a.serial": 5}),
    ({"moods": SECRET}, {"$push": {"moods": "good"}}),
    ({"moods": SECRET}, {"$add_to_set": {"moods": "good"}}),
    ({"moods": {"a": SECRET}}, {"$pull": {"moods": "good"}}),
    ({"members": SECRET}, {"$inc": {"members": 1}}),
    ({"members": [SECRET]}, {"$inc": {"members": 1}}),
    ({"revision": SECRET}, {"open": True}),
]
"""What is stored, and a patch that does not work on it."""


@pytest.mark.real
def test_an_operator_that_does_not_work_on_what_is_stored_changes_nothing_and_quotes_nothing(
    gyms: Phone, capsys: pytest.CaptureFixture[str]
) -> None:
    """MongoDB quotes what is stored where it says why."""
    for number, (values, patch) in enumerate(OPERATORS):
        id, path = str(number), f"/v1/gyms/{number}"
        gyms.post("/v1/gyms", {"id": id, "name": "a"})
        spoil(id, values, Gym)
        before = Gym._get_collection().find_one({"_id": id})
        for headers in ({}, {"Idempotency-Key": id}):
            answer = gyms.patch(path, patch, headers=headers)
            assert (answer.status_code, answer.json["code"]) == (500, "unreadable"), (values, patch)
            assert answer.json["errors"][0]["pointer"].split("/")[1] in values
            assert SECRET not in answer.text
        assert Gym._get_collection().find_one({"_id": id}) == before, (values, patch)
    assert SECRET not in capsys.readouterr().out


# What the server sets


def test_a_revision_in_another_type_is_that_number(ada: Person) -> None:
    """As the shell of MongoDB stores it."""
    ada.make_note(id="one")
    spoil("one", {"revision": 3.0})
    answer = ada.get("/v1/notes/one")
    assert (repr(answer.json["revision"]), answer.headers["ETag"]) == ("3", '"3"')
    changed = ada.patch("/v1/notes/one", {"title": "new"}, headers={"If-Match": answer.headers["ETag"]})
    assert (changed.status_code, repr(changed.json["revision"]), changed.headers["ETag"]) == (200, "4", '"4"')
    assert ada.get("/v1/notes/one", headers={"If-None-Match": '"4"'}).status_code == 304


@pytest.mark.parametrize("values", [{"revision": "3"}, {"owner": ObjectId()}, {"owner": 5}, {"updated_at": "now"}])
def test_what_the_server_sets_has_its_type_too(ada: Person, values: dict[str, Any]) -> None:
    ada.make_note(id="one")
    ada.make_note(id="two")
    spoil("two", values)
    assert ids(ada.get("/v1/notes").json["items"]) == ["one"]
    answer = ada.get("/v1/notes/two")
    assert (answer.status_code, answer.json["code"]) == (500, "unreadable")
    assert answer.json["errors"][0]["pointer"][1:] in values


# Lists


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"where": '{"tags": {"$exists": true}}'},
        {"sort": "priority"},
        {"sort": "-priority"},
        {"sort": "due"},
        {"sort": "-due"},
        {"fields": "title,tags,priority,due,checklist"},
        {"expand": "notebook"},
        {"count": "true"},
        pytest.param({"search": "note"}, marks=pytest.mark.real),
    ],
)
def test_a_list_leaves_it_out(ada: Person, notes: list[str], asked: dict[str, str]) -> None:
    answer = ada.get("/v1/notes", query_string=asked)
    assert (answer.status_code, ids(answer.json["items"])) == (200, notes)


def test_a_list_of_other_fields_has_it(ada: Person, notes: list[str]) -> None:
    assert ids(ada.get("/v1/notes?fields=title").json["items"]) == ["one", "three", "two"]


@pytest.mark.parametrize("sort", ["priority", "-priority", "due", "-due", "title", "-updated_at"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_bring_all_others_whatever_it_is_sorted_by(ada: Person, sort: str, limit: int) -> None:
    for number in range(9):
        ada.make_note(id=f"n{number}", title=f"t{number}", priority=number % 4, due=f"2026-11-2{number}T10:00:00Z")
    spoil("n1", {"priority": "3"})
    spoil("n4", {"due": ObjectId()})
    spoil("n5", {"due": "soon", "priority": False})
    spoil("n8", {"tags": [ObjectId()]})
    found, cursor = [], None
    for _ in range(30):
        answer = ada.get(
            "/v1/notes", query_string={"sort": sort, "limit": limit, **({"cursor": cursor} if cursor else {})}
        )
        assert answer.status_code == 200, answer.json
        found += [item["id"] for item in answer.json["items"]]
        if (cursor := answer.json["next"]) is None:
            break
    assert cursor is None
    assert sorted(found) == ["n0", "n2", "n3", "n6", "n7"]


def test_it_is_logged_and_counted_with_its_place_and_without_its_value(
    ada: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    ada.make_note(id="one", body="a secret")
    spoil("one", {"checklist": [{"text": ObjectId("507f1f77bcf86cd799439011"), "done": True}]})
    counted = metrics.UNREADABLE.labels("Note")._value.get()
    assert ada.get("/v1/notes").json["items"] == []
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "unreadable" in line]
    assert "checklist.0.text" in line
    assert "ObjectId" in line
    assert "507f1f77bcf86cd799439011" not in line
    assert metrics.UNREADABLE.labels("Note")._value.get() == counted + 1


@pytest.mark.real
@pytest.mark.parametrize("value", [DatetimeMS(253402300800000), DatetimeMS(-(10**15))])
def test_a_year_that_python_does_not_have_is_a_value_of_one_record(ada: Person, value: DatetimeMS) -> None:
    ada.make_note(id="one")
    ada.make_note(id="two")
    spoil("two", {"due": value})
    assert ids(ada.get("/v1/notes?sort=due").json["items"]) == ["one"]
    assert ada.get("/v1/notes/two").json["errors"][0]["pointer"] == "/due"


# One


def test_it_is_a_problem_of_its_own_that_names_the_place(ada: Person, notes: list[str], bad: dict[str, Any]) -> None:
    answer = ada.get("/v1/notes/two")
    assert (answer.status_code, answer.json["code"]) == (500, "unreadable")
    assert answer.json["errors"][0]["pointer"].split("/")[1] in bad
    assert ada.get("/v1/notes/one").status_code == 200


def test_a_write_is_answered_without_content(ada: Person, notes: list[str], bad: dict[str, Any]) -> None:
    answer = ada.patch("/v1/notes/two", {"title": "new"})
    assert (answer.status_code, answer.data, answer.headers["ETag"]) == (204, b"", '"2"')
    assert Note._get_collection().find_one({"_id": "two"})["title"] == "new"  # type: ignore[index]
    (name,) = bad
    mended = ada.patch("/v1/notes/two", {name: None})
    assert (mended.status_code, mended.json["title"], mended.json["revision"]) == (200, "new", 3)


READS: dict[str, Any] = {"title": "new", "place": {"coordinates": [127, 37]}}
"""A patch that has to read what is there: the place is merged with it."""


@pytest.fixture
def placed(ada: Person) -> Person:
    """Somebody with two notes that have a place, the second of which cannot be told."""
    for id in ("one", "two"):
        ada.make_note(id=id, title="old", place={"type": "Point", "coordinates": [1, 1]})
    spoil("two", {"due": "soon"})
    return ada


def stored(id: str = "two") -> Any:
    return Note._get_collection().find_one({"_id": id}, {"_id": 0, "title": 1, "place": 1, "revision": 1})


def test_a_patch_that_has_to_read_what_cannot_be_told_does_nothing(placed: Person) -> None:
    before = stored()
    answer = placed.patch("/v1/notes/two", READS)
    assert (answer.status_code, answer.json["code"]) == (500, "unreadable")
    assert [cause["pointer"] for cause in answer.json["errors"]] == ["/due"]
    assert stored() == before
    assert placed.patch("/v1/notes/one", READS).json["title"] == "new"


def test_it_is_done_with_the_same_key_when_that_is_mended(placed: Person) -> None:
    key = {"Idempotency-Key": "k"}
    assert placed.patch("/v1/notes/two", READS, headers=key).status_code == 500
    assert placed.patch("/v1/notes/two", {"due": None}).status_code == 200
    again = placed.patch("/v1/notes/two", READS, headers=key)
    assert (again.status_code, again.json["title"], again.json["place"]["coordinates"]) == (200, "new", [127, 37])


@pytest.mark.parametrize("atomic", [False, pytest.param(True, marks=pytest.mark.real)])
def test_in_a_batch_it_is_one_answer_of_its_own(placed: Person, atomic: bool) -> None:
    requests = [{"method": "PATCH", "path": f"/v1/notes/{id}", "body": READS} for id in ("one", "two")]
    answer = placed.post("/v1/batch", {"requests": requests, **({"atomic": True} if atomic else {})})
    assert [part["status"] for part in answer.json["responses"]] == ([424, 500] if atomic else [200, 500])
    assert answer.json["responses"][1]["body"]["code"] == "unreadable"
    assert [stored(id)["title"] for id in ("one", "two")] == (["old", "old"] if atomic else ["new", "old"])


def test_put_mends_it(ada: Person, notes: list[str]) -> None:
    answer = ada.put("/v1/notes/two", {"title": "new"})
    assert (answer.status_code, answer.json["title"]) == (200, "new")


def test_each_answer_of_a_batch_is_its_own(ada: Person, notes: list[str]) -> None:
    requests = [
        {"method": "PATCH", "path": "/v1/notes/two", "body": {"title": "new"}},
        {"method": "GET", "path": "/v1/notes/two"},
        {"method": "GET", "path": "/v1/notes"},
    ]
    answer = ada.post("/v1/batch", {"requests": requests})
    assert [part["status"] for part in answer.json["responses"]] == [204, 500, 200]


def test_what_points_to_it_is_told_without_it(ada: Person) -> None:
    book = ada.make_notebook(id="book")
    ada.make_note(id="one", notebook=book["id"])
    spoil("book", {"title": ObjectId()}, Notebook)
    for path in ("/v1/notes?expand=notebook", "/v1/notes/one?expand=notebook"):
        answer = ada.get(path).json
        (item,) = answer.get("items", [answer])
        assert item["expanded"] == {"notebook": None}


def test_an_export_leaves_it_out(ada: Person, notes: list[str]) -> None:
    assert ids(ada.get("/v1/accounts/me/export").json["notes"]) == notes


# What changes


@pytest.mark.real
def test_devices_are_not_told_of_it_until_it_is_mended(ada: Person, recording: Recording, bad: dict[str, Any]) -> None:
    device, melon, replica = Device(ada, recording), Melon(ada, recording), Replica(ada, recording)
    for id in ("one", "two", "three"):
        ada.make_note(id=id)
    spoil("two", bad)
    assert ids(device.pull()) == ids(melon.pull()["notes"]["updated"]) == ids(replica.pull()) == ["one", "three"]
    (name,) = bad
    assert ada.patch("/v1/notes/two", {name: None}).status_code == 200
    assert ids(device.pull()) == ids(melon.pull()["notes"]["updated"]) == ids(replica.pull()) == ["two"]


@pytest.mark.real
def test_a_push_of_it_is_done_and_told_without_it(ada: Person, recording: Recording, bad: dict[str, Any]) -> None:
    replica = Replica(ada, recording)
    ada.make_note(id="one")
    (old,) = replica.pull()
    spoil("one", bad)
    assert replica.push(({**old, "title": "new"}, old)) == []
    assert Note._get_collection().find_one({"_id": "one"})["title"] == "new"  # type: ignore[index]


@pytest.mark.real
def test_bytes_that_are_no_text_are_told_as_such(ada: Person) -> None:
    ada.make_note(id="one", title="abc")
    command = Note._get_collection().database.command
    # As a driver of C stores it, which does not look: PyMongo would.
    command({"update": "notes", "updates": [{"q": {"_id": "one"}, "u": {"$set": {"body": Binary(b"\xff", 0)}}}]})
    assert ada.get("/v1/notes/one").status_code == 500
    assert ada.get("/v1/notes").json["items"] == []


@pytest.mark.real
def test_text_that_is_no_utf_8_is_told_with_a_sign_in_its_place(ada: Person, recording: Recording) -> None:
    """As drivers that do not look store it."""
    ada.make_note(id="one")
    device = Device(ada, recording)
    note: Any = Note._get_collection().find_one({"_id": "one"})
    whole = bson.encode({**note, "_id": "bad", "title": "caf\u00e9", "tags": ["\u00e9"]})
    raw = RawBSONDocument(whole.replace("\u00e9".encode(), b"\xc3\xff"))
    Note._get_collection().with_options(CodecOptions(document_class=RawBSONDocument)).insert_one(raw)
    title = "caf\ufffd\ufffd"
    assert {item["title"] for item in ada.get("/v1/notes?sort=title").json["items"]} == {"a note", title}
    assert ada.get("/v1/notes/bad").json["tags"] == ["\ufffd\ufffd"]
    assert {item["record"]["title"] for item in device.pull()} == {"a note", title}
    changed = ada.patch("/v1/notes/bad", {"pinned": True, "place": {"type": "Point", "coordinates": [1, 2]}})
    assert (changed.status_code, changed.json["title"]) == (200, title)
    assert ada.patch("/v1/notes/bad", {"title": "caf\u00e9"}).json["title"] == "caf\u00e9"


def test_a_page_of_nothing_that_can_be_told_is_empty_and_logged(
    ada: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "MOST_LEFT_OUT", 2)
    for number in range(3):
        ada.make_note(id=f"n{number}")
    Note._get_collection().update_many({}, {"$set": {"priority": "3"}})
    answer = ada.get("/v1/notes?limit=1&sort=-priority,due")
    assert (answer.status_code, answer.json["items"], answer.json["next"]) == (200, [], None)
    assert '"event":"unreadable_page"' in capsys.readouterr().out


def test_an_error_of_ours_in_an_answer_is_not_taken_for_what_is_stored(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise TypeError("ours")

    monkeypatch.setattr(app.extensions["madang.registry"]["notes"].schema, "dump", fail)
    monkeypatch.setitem(app.config, "PROPAGATE_EXCEPTIONS", False)
    answer = ada.post("/v1/notes", {"title": "x"})
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
