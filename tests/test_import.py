"""`flask import`: an existing collection becomes records, as a POST could have stored them, once, and over nothing."""

import json
import re
import shlex
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import DBRef, Decimal128, Int64, MinKey, ObjectId, Regex
from bson.binary import Binary
from click.testing import Result
from flask import Flask
from mongoengine import (
    CASCADE,
    DENY,
    DateField,
    DateTimeField,
    DecimalField,
    DictField,
    EmbeddedDocument,
    EmbeddedDocumentListField,
    FloatField,
    MapField,
    PointField,
    PolygonField,
    ReferenceField,
    StringField,
    UUIDField,
)
from mongoengine.connection import get_connection

from service.core.ids import new_id
from service.documents import Account, Note, Record
from service.records import store
from service.upkeep import indexes
from tests.client import PASSWORD, Person
from tests.conftest import ROOT
from tests.recording import Recording
from tests.test_readme import Block, blocks
from tests.types import as_it_ships

pytestmark = pytest.mark.real

BORN, CHANGED = datetime(2019, 5, 1, 12, 0, 0, 123000), datetime(2020, 1, 2)


@pytest.fixture
def old(app: Flask) -> Iterator[Any]:
    """The database of a service that somebody has written by hand."""
    client = get_connection()
    name = f"{client.get_default_database().name}_old"
    client.drop_database(name)
    yield client[name]
    client.drop_database(name)


class Importing:
    """Runs `flask import` on collections of that database."""

    def __init__(self, app: Flask, old: Any, folder: Path) -> None:
        self.app, self.old, self.report = app, old, folder / "report"

    def run(self, *words: str, type: str = "notes", collection: str = "todos", **options: Any) -> Result:
        named = ["import", type, "--from", collection, "--database", self.old.name, "--report", str(self.report)]
        result = self.app.test_cli_runner().invoke(args=[*named, *words], **options)
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def __call__(self, *words: str, code: int = 0, **options: Any) -> str:
        """What a run says at its end that ends with this code."""
        result = self.run(*words, **options)
        assert result.exit_code == code, result.output
        return str(result.stdout.splitlines()[0]).partition(": ")[2]

    @property
    def refused(self) -> dict[Any, dict[str, str]]:
        """Of each document in the report, the codes by place."""
        lines = [json.loads(line) for line in self.report.read_text().splitlines()]
        return {
            line["_id"] if isinstance(line["_id"], str | int) else str(*line["_id"].values()): {
                cause["pointer"]: cause["code"] for cause in line["errors"]
            }
            for line in lines
        }


@pytest.fixture
def importing(app: Flask, old: Any, tmp_path: Path) -> Importing:
    return Importing(app, old, tmp_path)


def stored(id: str, document: type[Record] = Note) -> Any:
    return document._get_collection().find_one({"_id": id})


def all_that_is_stored() -> dict[str, Any]:
    database = get_connection().get_default_database()
    return {name: list(database[name].find()) for name in database.list_collection_names()}


# What it does


def test_a_collection_becomes_the_records_of_its_owners(
    importing: Importing, old: Any, ada: Person, bob: Person
) -> None:
    home = ObjectId()
    old.lists.insert_one({"_id": home, "title": "Home", "user": ObjectId(ada.id)})
    first, second = ObjectId(), uuid.uuid4()
    of_ada = {"user": ObjectId(ada.id), "createdAt": BORN, "updatedAt": CHANGED, "__v": 0}
    old.todos.insert_many(
        [
            {"_id": first, **of_ada, "text": "Milk", "list": DBRef("lists", home), "due": BORN, "tags": ["shop"]},
            {"_id": second, **of_ada, "user": DBRef("users", ObjectId(bob.id)), "text": "Bread", "list": None},
            {"_id": 7, **of_ada, "user": ada.id, "text": "Seven"},
            {"_id": "own-id", **of_ada, "text": "Own", "updatedAt": None},
        ]
    )
    assert importing("--owner", "user", type="notebooks", collection="lists") == "1 read, 1 imported, 0 there already"
    words = ["--owner", "user", "--created", "createdAt", "--updated", "updatedAt", "--ignore", "__v"]
    said = importing(*words, "--rename", "text=title", "--rename", "list=notebook")
    assert said == "4 read, 4 imported, 0 there already"
    milk = ada.get(f"/v1/notes/{first}").json
    assert (milk["title"], milk["notebook"], milk["tags"]) == ("Milk", str(home), ["shop"])
    assert (milk["created_at"], milk["updated_at"]) == ("2019-05-01T12:00:00.123Z", "2020-01-02T00:00:00.000Z")
    assert (milk["due"], milk["revision"], milk["owner"]) == ("2019-05-01T12:00:00.123Z", 1, ada.id)
    assert bob.get(f"/v1/notes/{second}").json["title"] == "Bread"
    assert bob.get(f"/v1/notes/{first}").status_code == 404
    assert ada.get("/v1/notes/7").json["title"] == "Seven"
    assert ada.get("/v1/notes/own-id").json["updated_at"] == "2019-05-01T12:00:00.123Z"


def test_what_is_imported_is_found_changed_and_deleted_like_any_other(
    importing: Importing, old: Any, ada: Person
) -> None:
    old.todos.insert_many([{"_id": f"n{number}", "title": f"Oat milk {number}"} for number in range(3)])
    importing("--owned-by", "ADA")
    assert len(ada.get("/v1/notes?search=oat").json["items"]) == 3
    assert ada.patch("/v1/notes/n1", {"title": "Bread"}, headers={"If-Match": '"1"'}).json["revision"] == 2
    assert ada.delete("/v1/notes/n2").status_code == 204
    assert [note["id"] for note in ada.get("/v1/notes?sort=title").json["items"]] == ["n1", "n0"]
    posted = ada.make_note(title="Oat milk 0", id="posted")
    assert set(stored("posted")) == set(stored("n0"))
    assert stored("posted")["search_words"] == stored("n0")["search_words"]
    assert posted.keys() == ada.get("/v1/notes/n0").json.keys()


def test_a_device_pulls_what_is_imported(
    importing: Importing, old: Any, ada: Person, recording: Recording, recorded: None
) -> None:
    old.todos.insert_one({"_id": "n1", "title": "Milk"})
    cursor = ada.get("/v1/changes").json["cursor"]
    importing("--owned-by", "ada")
    page = ada.get("/v1/changes", query_string={"cursor": cursor}).json
    assert [(change["type"], change["id"]) for change in page["items"]] == [("notes", "n1")]


def test_a_dry_run_says_the_same_and_writes_nothing(importing: Importing, old: Any, ada: Person) -> None:
    old.todos.insert_many([{"_id": 1, "title": "Milk"}, {"_id": 2, "title": ""}])
    before = all_that_is_stored()
    assert (
        importing("--owned-by", "ada", "--dry-run", code=3) == "2 read, 1 would be imported, 0 there already, 1 refused"
    )
    reported = importing.refused
    assert all_that_is_stored() == before
    assert importing("--owned-by", "ada", code=3) == "2 read, 1 imported, 0 there already, 1 refused"
    assert importing.refused == reported == {2: {"/title": "too_short"}}


def test_the_source_is_as_it_was(importing: Importing, old: Any, ada: Person) -> None:
    old.todos.insert_many([{"_id": 1, "title": "Milk"}, {"_id": 2}])
    before = list(old.todos.find())
    importing("--owned-by", "ada", code=3)
    assert list(old.todos.find()) == before


def test_ids_of_all_types_are_come_by_and_batches_end_anywhere(importing: Importing, old: Any, ada: Person) -> None:
    ids = [
        1,
        2.0,
        Int64(3),
        "a",
        "b",
        ObjectId(),
        uuid.uuid4(),
        float("nan"),
        MinKey(),
        {"a": 1},
        BORN,
        True,
        Binary(b"x"),
    ]
    old.todos.insert_many([{"_id": id, "title": "t"} for id in ids])
    assert importing("--owned-by", "ada", "--batch", "1", code=3) == "13 read, 7 imported, 0 there already, 6 refused"
    assert {id for places in importing.refused.values() for id in places.items()} == {("/_id", "wrong_type")}
    old.todos.insert_many([{"_id": id, "title": "t"} for id in ("", "..", "a b", "a" * 65, "a\0b")])
    assert importing("--owned-by", "ada", code=3).startswith("18 read, 0 imported, 7 there already")


def test_two_ids_that_are_the_same_text_are_told_apart(importing: Importing, old: Any, ada: Person) -> None:
    old.todos.insert_many([{"_id": 1, "title": "number"}, {"_id": "1", "title": "text"}])
    for said in ("2 read, 1 would be imported", "2 read, 1 imported"):
        assert importing("--owned-by", "ada", *["--dry-run"][: "would" in said], code=3).startswith(said)
    assert (stored("1")["title"], importing.refused) == ("text", {1: {"/_id": "not_unique"}})


# Again


def test_a_second_run_passes_over_what_is_there(importing: Importing, old: Any, ada: Person) -> None:
    old.todos.insert_many([{"_id": number, "title": "t"} for number in range(5)])
    importing("--owned-by", "ada")
    before = list(Note._get_collection().find())
    old.todos.insert_one({"_id": 9, "title": "new"})
    assert importing("--owned-by", "ada", "--batch", "2") == "6 read, 1 imported, 5 there already"
    assert list(Note._get_collection().find({"_id": {"$ne": "9"}})) == before


def test_what_was_changed_or_deleted_here_stays_so(importing: Importing, old: Any, ada: Person) -> None:
    old.todos.insert_many([{"_id": number, "title": "t"} for number in range(3)])
    importing("--owned-by", "ada")
    ada.patch("/v1/notes/1", {"title": "mine"})
    ada.delete("/v1/notes/2")
    old.todos.update_one({"_id": 0}, {"$set": {"title": "changed there"}})
    said = importing("--owned-by", "ada")
    assert said == "3 read, 0 imported, 0 there already, 2 there but different, 1 deleted here"
    assert importing.refused == {0: {"": "differs"}, 1: {"": "differs"}, 2: {"": "deleted"}}
    assert (stored("0")["title"], stored("1")["title"]) == ("t", "mine")
    assert ada.get("/v1/notes/2").status_code == 404


def test_the_record_of_another_with_the_same_id_stays(importing: Importing, old: Any, ada: Person, bob: Person) -> None:
    bob.make_note(id="n1", title="t")
    old.todos.insert_one({"_id": "n1", "title": "t"})
    assert importing("--owned-by", "ada").endswith("1 there but different")
    assert stored("n1")["owner"] == bob.id


# Whose


def test_an_owner_who_is_no_account_is_refused_and_never_guessed(importing: Importing, old: Any, ada: Person) -> None:
    owners = [
        ObjectId(),
        "nobody",
        "",
        0,
        None,
        ["x"],
        {"$ne": None},
        Regex(".*"),
        DBRef("users", ada.id),
        f"_User${ada.id}",
    ]
    old.todos.insert_many([{"_id": n, "title": "t", "user": owner} for n, owner in enumerate(owners)])
    assert importing("--owner", "user", code=3) == "10 read, 2 imported, 0 there already, 8 refused"
    codes = {id: places["/user"] for id, places in importing.refused.items()}
    assert list(codes.values()) == [*["not_found"] * 2, "wrong_type", "not_found", "required", *["wrong_type"] * 3]


def test_an_owner_is_found_by_name(importing: Importing, old: Any, ada: Person) -> None:
    old.todos.insert_many([{"_id": 1, "title": "t", "by": {"name": "ADA"}}, {"_id": 2, "title": "t", "by": {}}])
    words = ["--owner", "by.name", "--owner-is", "username", "--ignore", "by", "--ignore", "by.name"]
    assert importing(*words, code=3) == "2 read, 1 imported, 0 there already, 1 refused"
    assert (stored("1")["owner"], importing.refused) == (ada.id, {2: {"/by/name": "required"}})


def test_an_address_that_nobody_verified_is_nobodys(importing: Importing, old: Any, ada: Person, bob: Person) -> None:
    old.todos.insert_one({"_id": 1, "title": "t", "mail": "victim@example.com"})
    words = ["--owner", "mail", "--owner-is", "email"]
    ada.patch("/v1/accounts/me", {"email": "victim@example.com"})
    assert importing(*words, code=3).endswith("1 refused")
    verified = {"email": "Victim@example.com", "email_key": "victim@example.com", "email_verified": True}
    Account._get_collection().update_one({"_id": bob.id}, {"$set": verified})
    assert importing(*words, "--dry-run") == "1 read, 1 would be imported, 0 there already"


def test_a_deleted_account_gets_nothing(importing: Importing, old: Any, ada: Person, app: Flask) -> None:
    app.test_cli_runner().invoke(args=["accounts", "delete", "ada", "--yes"])
    old.todos.insert_one({"_id": 1, "title": "t", "user": ada.id})
    assert importing("--owner", "user", code=3).endswith("0 imported, 0 there already, 1 refused")


def test_an_owner_who_goes_meanwhile_leaves_nothing_behind(
    importing: Importing, old: Any, ada: Person, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_first(*args: Any, **options: Any) -> Any:
        app.test_cli_runner().invoke(args=["accounts", "delete", "ada", "--yes"])
        return take_over(*args, **options)

    take_over = store.take_over
    monkeypatch.setattr(store, "take_over", go_first)
    old.todos.insert_one({"_id": 1, "title": "t"})
    assert importing("--owned-by", "ada", code=3) == "1 read, 0 imported, 0 there already, 1 refused"
    assert Note.objects.count() == 0


def test_an_account_is_made_with_the_id_that_it_had(importing: Importing, old: Any, app: Flask) -> None:
    id = str(ObjectId())
    run = app.test_cli_runner().invoke
    words = ["accounts", "create", "--password", PASSWORD, "--id"]
    assert run(args=[*words, id, "mina"]).output == f"{id}\n"
    assert "the id is taken" in run(args=[*words, id, "suni"]).output
    for wrong in ("..", "a b", "me", ""):
        assert "--id: " in run(args=[*words, wrong, "suni"]).output
    assert Account.objects.count() == 1
    old.todos.insert_one({"_id": 1, "title": "t", "user": ObjectId(id)})
    importing("--owner", "user")
    assert stored("1")["owner"] == id


# What is refused


DEEP: dict[str, Any] = {}
for _ in range(30):
    DEEP = {"d": DEEP}
FAR = bson.datetime_ms.DatetimeMS(253402300800000)
HOSTILE: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "dbref-in-a-text": ({"title": DBRef("a", 1)}, {"/title": "wrong_type"}),
    "binary-in-a-text": ({"title": b"x"}, {"/title": "wrong_type"}),
    "number-in-a-text": ({"title": 5}, {"/title": "wrong_type"}),
    "nul": ({"body": "a\0b"}, {"/body": "nul"}),
    "nul-in-a-list": ({"tags": ["a", "b\0"]}, {"/tags/1": "nul"}),
    "too-long": ({"tags": ["a" * 41]}, {"/tags/0": "too_long"}),
    "year-10000": ({"due": FAR}, {"/due": "time"}),
    "time-as-a-number": ({"due": 1500000000000}, {"/due": "wrong_type"}),
    "infinite": ({"priority": float("inf")}, {"/priority": "not_finite"}),
    "fraction": ({"priority": 1.5}, {"/priority": "wrong_type"}),
    "choice": ({"priority": 9}, {"/priority": "too_large"}),
    "number-as-truth": ({"pinned": 1}, {"/pinned": "wrong_type"}),
    "unknown": ({"colour": "red", "__v": 3}, {"/colour": "unknown_field", "/__v": "unknown_field"}),
    "embedded": ({"checklist": [{"text": "a"}, {"text": "b", "_id": 1}]}, {"/checklist/1/_id": "unknown_field"}),
    "null-in-a-list": ({"tags": [None]}, {"/tags/0": "wrong_type"}),
    "servers": ({"revision": 7}, {"/revision": "read_only"}),
    "hidden": ({"access": ["r:*"]}, {"/access": "unknown_field"}),
    "second-id": ({"id": "other"}, {"/id": "unknown_field"}),
    "polygon": ({"place": {"type": "Point", "coordinates": [200, 0]}}, {"/place": "position"}),
    "reference": ({"notebook": ObjectId()}, {"/notebook": "not_found"}),
    "reference-that-is-none": ({"notebook": {"$in": []}}, {"/notebook": "wrong_type"}),
    "principal": ({"readers": ["a b"]}, {"/readers/0": "pattern"}),
    "too-large": ({"body": "한" * 400_000}, {"/body": "too_long", "": "too_large"}),
}


def test_what_a_client_could_not_send_is_refused_with_its_place(importing: Importing, old: Any, ada: Person) -> None:
    old.todos.insert_many([{"_id": name, "title": "t", **content} for name, (content, _) in HOSTILE.items()])
    assert importing("--owned-by", "ada", code=3).startswith(f"{len(HOSTILE)} read, 0 imported")
    found = {name: places.items() & importing.refused[name].items() for name, (_, places) in HOSTILE.items()}
    assert {name for name, hit in found.items() if not hit} == set()
    assert importing.refused.keys() == HOSTILE.keys()


def test_no_value_is_told(importing: Importing, old: Any, ada: Person) -> None:
    old.todos.insert_one({"_id": 1, "title": "", "body": 5, "due": "my secret", "secret": "secret"})
    result = importing.run("--owned-by", "ada")
    assert result.exit_code == 3
    assert "my secret" not in result.output + importing.report.read_text()
    assert "       1  /due  time: an RFC 3339 time with its offset" in result.stdout


def test_names_of_the_source_do_not_command_a_terminal(importing: Importing, old: Any, ada: Person) -> None:
    hostile = {"\x1b]0;owned\x07\u202e": 1, "é": 2, "x" * 100_000: 3}
    old.todos.insert_one({"_id": "y" * 1000 + "\x1b[2J", "title": "t", **hostile})
    result = importing.run("--owned-by", "ada")
    assert {character for character in result.output if not character.isprintable()} == {"\n"}
    assert "  /\\x1b]0;owned\\x07\\u202e  unknown_field" in result.stdout
    assert "  /é  unknown_field" in result.stdout
    assert max(map(len, result.stdout.splitlines())) < 600
    assert importing.refused["y" * 1000 + "\x1b[2J"].keys() == {"/_id", *(f"/{name}" for name in hostile)}


def test_text_that_is_no_utf_8_is_refused_and_not_replaced(importing: Importing, old: Any, ada: Person) -> None:
    whole = bson.encode({"_id": 1, "title": "caf_"})
    old.todos.insert_one(bson.raw_bson.RawBSONDocument(whole.replace(b"caf_", b"caf\xe9")))
    assert importing("--owned-by", "ada", code=3).endswith("1 refused")
    assert importing.refused == {1: {"/title": "text"}}
    whole = bson.encode({"_id": "caf_", "title": "t"})
    old.todos.insert_one(bson.raw_bson.RawBSONDocument(whole.replace(b"caf_", b"caf\xe9")))
    assert "an id of the source is no UTF-8" in importing.run("--owned-by", "ada").stderr


# Types of one's own


class Part(EmbeddedDocument):
    key = StringField(default=new_id)
    day = DateField()
    length = DecimalField(precision=2, db_field="len")


class Branch(Record):
    name = StringField(required=True, unique=True, db_field="n")
    parent = ReferenceField("self", reverse_delete_rule=CASCADE)
    parts = EmbeddedDocumentListField(Part)
    sizes = MapField(FloatField())
    free = DictField()
    spot = PointField(auto_index=False)
    opened_at = DateTimeField()
    code = UUIDField()
    meta = {"collection": "branches"}


class Leaf(Record):
    branch = ReferenceField(Branch, reverse_delete_rule=DENY)
    meta = {"collection": "leaves"}


@pytest.fixture
def garden(make_app: Any, app: Flask, old: Any, tmp_path: Path) -> Iterator[Importing]:
    made = make_app([Branch, Leaf])
    with made.app_context():
        indexes.make(made.extensions["madang.registry"])
    yield Importing(made, old, tmp_path)
    for document in (Branch, Leaf):
        document._get_collection().drop()


def test_what_has_one_meaning_is_translated_at_any_depth(garden: Importing, old: Any, ada: Person) -> None:
    code = uuid.uuid4()
    part = {"_id": 1, "day": datetime(2020, 2, 29), "len": Decimal128("1.50"), "key": ObjectId("a" * 24)}
    old.b.insert_one(
        {"_id": 1, "n": "one", "parts": [part, {"length": 2}], "sizes": {"a": 1, "b": Int64(2)}, "free": {"x": [1, {}]},
         "spot": [127.0, 37.5], "opened_at": "2020-01-01T00:00:00+09:00", "code": code}
    )  # fmt: skip
    garden("--owned-by", "ada", "--ignore", "parts._id", type="branches", collection="b")
    found = Person(garden.app.test_client(), ada.headers).get("/v1/branches/1").json
    assert found["parts"][0] == {"key": "a" * 24, "day": "2020-02-29", "length": "1.50"}
    assert (found["parts"][1]["length"], len(found["parts"][1]["key"])) == ("2.00", 24)
    assert (found["sizes"], found["free"], found["code"]) == ({"a": 1.0, "b": 2.0}, {"x": [1, {}]}, str(code))
    assert found["spot"] == {"type": "Point", "coordinates": [127.0, 37.5]}
    assert found["opened_at"] == "2019-12-31T15:00:00.000Z"
    said = garden("--owned-by", "ada", "--ignore", "parts._id", type="branches", collection="b")
    assert said == "1 read, 0 imported, 1 there already"


FREE: dict[str, tuple[Any, tuple[str, str]]] = {
    "dbref": ({"a": [DBRef("x", 1)]}, ("/free/a/0", "wrong_type")),
    "date": ({"a": BORN}, ("/free/a", "wrong_type")),
    "far-date": ({"a": FAR}, ("/free/a", "wrong_type")),
    "not-a-number": ({"a": float("nan")}, ("/free/a", "not_finite")),
    "deep": (DEEP, ("/free" + "/d" * 21, "too_deep")),
    "key-with-a-dot": ({"a.b": 1}, ("/free/a.b", "key")),
    "key-with-a-dollar": ({"$a": 1}, ("/free/$a", "key")),
    "text-with-nul": ({"a": {"b": "\0"}}, ("/free/a/b", "nul")),
}


def test_what_json_cannot_say_is_refused_inside_of_a_free_form(garden: Importing, old: Any, ada: Person) -> None:
    old.b.insert_many([{"_id": name, "name": name, "free": free} for name, (free, _) in FREE.items()])
    garden("--owned-by", "ada", type="branches", collection="b", code=3)
    assert {name: dict([cause]) for name, (_, cause) in FREE.items()} == garden.refused


def test_a_tree_comes_whole_in_whatever_order_it_lies(garden: Importing, old: Any, ada: Person) -> None:
    """Each of a chain refers to one that comes after it, over many batches."""
    old.b.insert_many([{"_id": n, "name": str(n), "parent": None if n == 11 else n + 1} for n in range(12)])
    old.b.insert_many([{"_id": 20, "name": "lost", "parent": 99}, {"_id": 21, "name": "its child", "parent": 20}])
    words = ["--owned-by", "ada", "--batch", "3"]
    for dry in (["--dry-run"], []):
        said = garden(*words, *dry, type="branches", collection="b", code=3)
        assert said.replace("would be ", "") == "14 read, 12 imported, 0 there already, 2 refused"
        assert garden.refused == {20: {"/parent": "not_found"}, 21: {"/parent": "not_found"}}


def test_a_reference_to_what_the_owner_may_not_read_is_refused(
    garden: Importing, old: Any, ada: Person, bob: Person
) -> None:
    mine = Person(garden.app.test_client(), ada.headers)
    mine.post("/v1/branches", {"id": "1", "name": "hers"})
    mine.post("/v1/branches", {"id": "2", "name": "everybody's", "readers": ["*"]})
    old.leaves.insert_many([{"_id": n, "branch": n, "user": who.id} for n in (1, 2) for who in (ada,)])
    old.leaves.insert_many([{"_id": n + 10, "branch": n, "user": bob.id} for n in (1, 2)])
    said = garden("--owner", "user", type="leaves", collection="leaves", code=3)
    assert (said, garden.refused) == ("4 read, 3 imported, 0 there already, 1 refused", {11: {"/branch": "not_found"}})
    assert mine.delete("/v1/branches/2").status_code == 409, "a leaf keeps it"


def test_a_unique_value_is_taken_once(garden: Importing, old: Any, ada: Person) -> None:
    Person(garden.app.test_client(), ada.headers).post("/v1/branches", {"name": "taken"})
    names = ["a", "b", "a", "taken", "c", "b"]
    old.b.insert_many([{"_id": n, "name": name} for n, name in enumerate(names)])
    for dry in (["--dry-run", "--batch", "2"], ["--dry-run"], ["--batch", "2"]):
        said = garden("--owned-by", "ada", *dry, type="branches", collection="b", code=3)
        assert said.replace("would be ", "") == "6 read, 3 imported, 0 there already, 3 refused"
        assert garden.refused == {id: {"/name": "not_unique"} for id in (2, 3, 5)}


def test_a_polygon_that_only_mongodb_refuses_is_named(
    make_app: Any, app: Flask, old: Any, ada: Person, tmp_path: Path
) -> None:
    class Field(Record):
        shape = PolygonField()
        meta = {"collection": "fields", "indexes": [{"fields": [("shape", "2dsphere")]}]}

    made = make_app([Field])
    with made.app_context():
        indexes.make(made.extensions["madang.registry"])
    ring = [[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    square = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    old.f.insert_many(
        [{"_id": n, "shape": {"type": "Polygon", "coordinates": [r]}} for n, r in enumerate((ring, square))]
    )
    importing = Importing(made, old, tmp_path)
    for dry in (["--dry-run"], []):
        assert importing("--owned-by", "ada", *dry, type="fields", collection="f", code=3).endswith("1 refused")
        assert importing.refused == {0: {"/shape": "shape"}}
    Field._get_collection().drop()


# What cannot be


WORDS = ("--owned-by", "ada")
AWAY = "mongodb://127.0.0.1:1/x?serverSelectionTimeoutMS=300"
WRONG: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "type": (WORDS, {"type": "note"}, "there is no record type 'note'; did you mean notes?"),
    "collection": (WORDS, {"collection": "todo"}, "there is no collection todo in the database"),
    "owner": ((), {}, "say whose the records are"),
    "both owners": ((*WORDS, "--owner", "user"), {}, "say whose the records are"),
    "nobody": (("--owned-by", "nobody"), {}, "there is no account 'nobody'"),
    "new name": ((*WORDS, "--rename", "a=titel"), {}, "notes have no field 'titel' that can be given; did you mean"),
    "server's name": ((*WORDS, "--rename", "rev=revision"), {}, "notes have no field 'revision'"),
    "two names": ((*WORDS, "--rename", "a=title", "--rename", "b=title"), {}, "two fields cannot become one"),
    "part": ((*WORDS, "--rename", "a.b=title"), {}, "--rename 'a.b=title' is not OLD=NEW of whole fields"),
    "no name": ((*WORDS, "--rename", "title"), {}, "--rename 'title' is not OLD=NEW"),
    "kind": ((*WORDS, "--owner-is", "email"), {}, "--owner-is says what is in the field of --owner"),
    "uri": ((*WORDS, "--uri", "http://x/"), {}, "--uri: "),
    "away": ((*WORDS, "--uri", AWAY), {}, "MongoDB does not answer: "),
    "report": ((*WORDS, "--report", "/nowhere/report"), {}, "/nowhere/report: No such file or directory"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_told_in_a_sentence(importing: Importing, old: Any, ada: Person, case: str) -> None:
    old.todos.insert_one({"_id": 1, "title": "t"})
    words, options, sentence = WRONG[case]
    result = importing.run(*words, "--patience", "0", **options)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {sentence}")
    assert (result.stderr.count("\n"), Note.objects.count()) == (1, 0)


def test_the_collection_of_the_records_themselves_is_no_source(
    importing: Importing, ada: Person, mongodb_uri: str
) -> None:
    ada.make_note()
    name = get_connection().get_default_database().name
    for words in (["--database", name], ["--uri", mongodb_uri.replace("127.0.0.1", "localhost"), "--database", name]):
        result = importing.run("--owned-by", "ada", *words, collection="notes")
        assert 'db.notes.renameCollection("notes_before")' in result.stderr, result.output
        assert (result.exit_code, Note.objects.count()) == (1, 1)


def test_a_view_is_no_source(importing: Importing, old: Any, ada: Person) -> None:
    old.command("create", "seen", viewOn="todos", pipeline=[])
    assert "seen is a view: " in importing.run("--owned-by", "ada", collection="seen").stderr


def test_without_an_index_nothing_is_imported(importing: Importing, old: Any, ada: Person, app: Flask) -> None:
    old.todos.insert_one({"_id": 1, "title": "t"})
    Note._get_collection().drop_index("search_words")
    assert "run `flask indexes make` first" in importing.run("--owned-by", "ada").stderr
    app.test_cli_runner().invoke(args=["indexes", "make"])
    importing("--owned-by", "ada")


# docs/importing.md


def commands(block: Block, **words: str) -> list[list[str]]:
    """The `flask` commands of a block, with the words of others for some of theirs."""
    lines = [shlex.split(line)[1:] for line in block.text.splitlines() if line.startswith("flask ")]
    return [[words.get(word, word) for word in line] for line in lines]


@as_it_ships
def test_the_commands_of_the_page_say_what_it_shows(app: Flask, old: Any, tmp_path: Path) -> None:
    user, home = ObjectId(), ObjectId()
    mine = {"user": user, "createdAt": BORN, "__v": 0}
    old.lists.insert_one({"_id": home, "title": "Home", **mine})
    texts = ("Milk", "Bread", "")
    old.todos.insert_many([{**mine, "text": text, "list": DBRef("lists", home), "done": False} for text in texts])
    parse = {"_created_at": BORN, "_updated_at": CHANGED, "_acl": {}, "_rperm": ["*", str(user)], "_wperm": [str(user)]}
    old.Note.insert_one({"_id": "Ed1nuqPvcm", "title": "From Parse", "_p_author": f"_User${user}", **parse})
    found = list(blocks(ROOT / "docs" / "importing.md"))
    words = {"$USER_ID": str(user), "$PASSWORD": PASSWORD, "old": old.name, "parse": old.name}
    typed = [command for block in found if block.info == "sh" for command in commands(block, **words)]
    said = [app.test_cli_runner().invoke(args=command) for command in typed]
    assert [result.exit_code for result in said] == [0, 0, 3, 0], [result.output for result in said]
    (shown,) = (block.text for block in found if block.info == "text")
    pattern = re.escape(shown).replace("65a0…03", "[0-9a-f]+")
    assert re.fullmatch(pattern, said[1].stdout + said[2].stdout), said[2].stdout
    (note,) = Note._get_collection().find()
    assert (note["owner"], note["readers"], note["writers"]) == (str(user), ["*", str(user)], [str(user)])
