"""What other software has stored and is no value of its field: it makes one record unreadable, and never a list."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
import pytest
from bson import DBRef, Decimal128, Int64, ObjectId, Regex
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS

from service.core import metrics
from service.core.errors import Unreadable
from service.documents import Note, Notebook
from service.model import dump
from tests.client import Person
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


def test_a_write_that_needs_what_is_stored_does_nothing_where_that_cannot_be_told(ada: Person) -> None:
    ada.make_note(id="one")
    spoil("one", {"due": "soon"})
    answer = ada.patch("/v1/notes/one", {"$push": {"tags": {"each": ["b"], "position": 0}}, "place": {"type": "Point"}})
    assert answer.status_code in (422, 500)
    assert Note._get_collection().find_one({"_id": "one"})["revision"] == 1  # type: ignore[index]


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
