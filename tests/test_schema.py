"""A whole body: every cause at once with its pointer, defaults, what only the server sets, and the JSON Schema."""

import re
from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pytest
from jsonschema import Draft202012Validator

from service.core.clock import now
from service.core.errors import MalformedJson, ValidationFailed
from service.documents import RECORDS, Account, Note, Notebook, Record
from service.model.field import Document
from service.model.json_schema import Purpose
from tests.types import new, schema_of

SERVER_SETS = ["owner", "created_at", "updated_at", "revision"]
NOTE = {
    "id": "note-1",
    "title": "groceries",
    "body": "for the week",
    "tags": ["home"],
    "pinned": True,
    "priority": 3,
    "due": "2026-11-22T10:00:00.000Z",
    "place": {"type": "Point", "coordinates": [126.98, 37.57]},
    "checklist": [{"text": "milk", "done": True}],
    "notebook": "book-1",
    "readers": ["role:family"],
    "writers": ["*"],
}


class Kitchen(me.EmbeddedDocument):
    name = me.StringField(required=True)
    seats = me.IntField(default=4)

    def clean(self) -> None:
        if self.name == "outside":
            raise me.ValidationError("a kitchen is inside")


class Meal(Record):
    """What is cooked, with rules over several fields."""

    title = me.StringField(required=True, regex=re.compile("^[a-z]+$", re.IGNORECASE))
    start = me.DateTimeField(db_field="s")
    end = me.DateTimeField(db_field="e")
    cook = me.StringField(fixed=True)
    views = me.IntField(read_only=True, default=0)
    secret = me.StringField(hidden=True)
    kitchen = me.EmbeddedDocumentField(Kitchen)

    meta = {"collection": "meals"}

    def clean(self) -> None:
        if self.title == "everything":
            raise me.ValidationError("too much to cook")
        if self.start and self.end and self.start > self.end:
            raise me.ValidationError("wrong order", errors={"end": "not before `start`", "start": "not after `end`"})


def refused(document: Document, body: Any) -> dict[str | None, str]:
    """The codes by pointer with which a body is refused."""
    with pytest.raises(ValidationFailed) as failed:
        schema_of(document).load(body)
    return {cause.pointer: cause.code for cause in failed.value.causes}


def stamped(document: type[Record], body: dict[str, Any]) -> dict[str, Any]:
    """The JSON form of the record that a body makes."""
    return schema_of(document).dump(new(document, "ada", schema_of(document).load(body)))


# --- Bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, [], "{}", 1, True])
def test_a_body_that_is_no_object_is_malformed(body: Any) -> None:
    with pytest.raises(MalformedJson):
        schema_of(Note).load(body)


def test_a_full_record_comes_back_as_it_was_sent() -> None:
    made = stamped(Note, NOTE)
    assert {name: made[name] for name in NOTE} == NOTE
    assert set(made) - set(NOTE) == set(SERVER_SETS)


def test_what_a_body_leaves_out_gets_its_default() -> None:
    made = stamped(Note, {"title": "a"})
    empty = {"body": "", "tags": [], "pinned": False, "priority": 0, "checklist": [], "readers": [], "writers": []}
    assert empty.items() <= made.items()
    assert made["due"] is made["place"] is made["notebook"] is None


def test_no_null_is_stored() -> None:
    content = schema_of(Note).load({"title": "a", "due": None, "place": None, "notebook": None})
    assert set(content) == {"title", "body", "tags", "pinned", "priority", "checklist", "readers", "writers"}


def test_a_default_list_is_not_shared_between_records() -> None:
    schema_of(Note).load({"title": "a"})["tags"].append("b")
    assert schema_of(Note).load({"title": "a"})["tags"] == []


def test_all_that_is_wrong_is_named_at_once() -> None:
    body = {
        "body": 5,
        "tags": ["ok", ""],
        "pinned": 1,
        "priority": 6,
        "due": "tomorrow",
        "checklist": [{"text": ""}, {"done": "yes"}],
        "owner": "eve",
        "readers": ["not a principal"],
        "a/b~c": 1,
    }
    assert refused(Note, body) == {
        "/title": "required",
        "/body": "wrong_type",
        "/tags/1": "too_short",
        "/pinned": "wrong_type",
        "/priority": "too_large",
        "/due": "time",
        "/checklist/0/text": "too_short",
        "/checklist/1/text": "required",
        "/checklist/1/done": "wrong_type",
        "/owner": "read_only",
        "/readers/0": "pattern",
        "/a~1b~0c": "unknown_field",
    }


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"title": ""}, {"/title": "too_short"}),
        ({"title": "a" * 201}, {"/title": "too_long"}),
        ({"title": "a", "body": "a" * 100_001}, {"/body": "too_long"}),
        ({"title": "a", "tags": ["b"] * 21}, {"/tags": "too_long"}),
        ({"title": "a", "tags": ["b" * 41]}, {"/tags/0": "too_long"}),
        ({"title": "a", "priority": -1}, {"/priority": "too_small"}),
        ({"title": "a", "checklist": [{"text": "b"}] * 101}, {"/checklist": "too_long"}),
        ({"title": "a", "readers": ["b"] * 101}, {"/readers": "too_long"}),
        ({"title": "a", "readers": ["role:"]}, {"/readers/0": "pattern"}),
        ({"title": "a", "writers": ["b\n"]}, {"/writers/0": "pattern"}),
        ({"title": "a", "id": "b/c"}, {"/id": "pattern"}),
        ({"title": "a", "id": ""}, {"/id": "pattern"}),
        ({"title": "a", "id": "b\n"}, {"/id": "pattern"}),
        ({"title": "a", "id": 5}, {"/id": "wrong_type"}),
        ({"title": None}, {"/title": "wrong_type"}),
        ({"title": "a", "pinned": None}, {"/pinned": "wrong_type"}),
        ({"title": "a", "tags": None}, {"/tags": "wrong_type"}),
        ({"title": "a", "notebook": ""}, {"/notebook": "too_short"}),
    ],
)
def test_the_limits_of_a_note_are_kept(body: dict[str, Any], error: dict[str, str]) -> None:
    assert refused(Note, body) == error


@pytest.mark.parametrize(
    "body", [{"title": "a" * 200}, {"title": "a", "tags": ["b" * 40] * 20}, {**NOTE, "priority": 5}]
)
def test_what_reaches_a_limit_is_within(body: dict[str, Any]) -> None:
    assert body.items() <= stamped(Note, body).items()


@pytest.mark.parametrize("colour", ["red", "#12345", "#1234567", "#12345g", "#123456\n", "x#123456"])
def test_a_colour_has_six_hexadecimal_digits(colour: str) -> None:
    assert refused(Notebook, {"title": "a", "colour": colour}) == {"/colour": "pattern"}


@pytest.mark.parametrize("name", SERVER_SETS)
def test_what_the_server_sets_is_refused_even_as_null(name: str) -> None:
    assert refused(Note, {"title": "a", name: None}) == {f"/{name}": "read_only"}


@pytest.mark.parametrize("name", ["secret", "access", "purge_at", "_id", "s"])
def test_a_hidden_field_and_a_name_of_the_database_are_unknown(name: str) -> None:
    assert refused(Meal, {"title": "a", name: None}) == {f"/{name}": "unknown_field"}


def test_a_hidden_field_is_not_dumped() -> None:
    dumped = schema_of(Meal).dump({"_id": "a", "title": "soup", "secret": "salt", "access": ["o:ada"]})
    assert {"secret", "access", "purge_at", "_id"}.isdisjoint(dumped)


def test_a_field_is_stored_under_its_name_in_the_database() -> None:
    content = schema_of(Meal).load({"title": "soup", "start": "2026-11-22T10:00:00Z"})
    assert "s" in content
    assert "start" not in content
    assert schema_of(Meal).dump(content)["start"] == "2026-11-22T10:00:00.000Z"


# --- clean -----------------------------------------------------------------------------------------------------------


def test_what_clean_says_of_the_whole_is_a_cause_without_a_place() -> None:
    assert refused(Meal, {"title": "everything"}) == {"": "not_valid"}


def test_what_clean_says_of_fields_is_a_cause_for_each() -> None:
    body = {"title": "soup", "start": "2026-11-22T10:00:00Z", "end": "2026-11-22T09:00:00Z"}
    assert refused(Meal, body) == {"/start": "not_valid", "/end": "not_valid"}


def test_what_clean_accepts_is_loaded() -> None:
    assert stamped(Meal, {"title": "soup", "start": NOTE["due"], "end": NOTE["due"]})["end"] == NOTE["due"]


def test_the_clean_of_an_embedded_document_is_honoured() -> None:
    assert refused(Meal, {"title": "soup", "kitchen": {"name": "outside"}}) == {"/kitchen": "not_valid"}


# --- JSON Schema -----------------------------------------------------------------------------------------------------


def validator(document: Document, purpose: Purpose) -> Draft202012Validator:
    return Draft202012Validator(schema_of(document).json_schema(purpose))


def objects(made: Any) -> Iterator[dict[str, Any]]:
    """Every part of a JSON Schema that describes an object."""
    if isinstance(made, dict):
        if made.get("type") == "object":
            yield made
        made = list(made.values())
    for part in made if isinstance(made, list) else ():
        yield from objects(part)


@pytest.mark.parametrize("purpose", ["read", "create", "patch"])
@pytest.mark.all_types
@pytest.mark.parametrize("document", [*RECORDS, Account, Meal])
def test_the_json_schema_of_a_document_is_valid_and_closed(document: Document, purpose: Purpose) -> None:
    made = schema_of(document).json_schema(purpose)
    Draft202012Validator.check_schema(made)
    assert all(part["additionalProperties"] is False for part in objects(made) if "properties" in part)


@pytest.mark.parametrize("body", [NOTE, {"title": "a"}, {**NOTE, "due": None, "place": None, "notebook": None}])
def test_the_json_schema_accepts_what_is_sent_and_what_is_answered(body: dict[str, Any]) -> None:
    validator(Note, "create").validate(body)
    validator(Note, "read").validate(stamped(Note, body))


@pytest.mark.parametrize(
    "body", [{}, {"title": ""}, {"title": "a", "owner": "b"}, {"title": "a", "x": 1}, {"title": "a", "pinned": None}]
)
def test_the_json_schema_of_a_creation_refuses_what_load_refuses(body: dict[str, Any]) -> None:
    assert refused(Note, body)
    assert not validator(Note, "create").is_valid(body)


@pytest.mark.parametrize(
    ("body", "good"),
    [
        ({}, True),
        ({"priority": 1}, True),
        ({"due": None, "pinned": None, "tags": None}, True),
        ({"title": None}, False),
        ({"id": "a"}, False),
        ({"owner": "a"}, False),
        ({"priority": 9}, False),
    ],
)
def test_the_json_schema_of_a_patch_asks_for_nothing_and_takes_null_to_clear(body: dict[str, Any], good: bool) -> None:
    assert validator(Note, "patch").is_valid(body) == good


def test_the_json_schema_of_an_answer_has_every_field_and_marks_those_of_the_server() -> None:
    made = schema_of(Note).json_schema("read")
    assert made["required"] == list(made["properties"])
    assert [name for name, part in made["properties"].items() if part.get("readOnly")] == SERVER_SETS


def test_the_json_schema_of_a_creation_tells_the_defaults_in_words() -> None:
    """A generator takes a member with `default` for one that is always there."""
    made = schema_of(Note).json_schema("create")["properties"]
    ends = {name: part.get("description", "").rpartition("`")[0].rpartition("`")[2] for name, part in made.items()}
    assert {name: text for name, text in ends.items() if "left out" in made[name].get("description", "")} == {
        "readers": "[]",
        "writers": "[]",
        "body": '""',
        "tags": "[]",
        "pinned": "false",
        "priority": "0",
        "checklist": "[]",
    }
    assert "default" not in str(made)


class Lately(Record):
    """What was seen a moment ago."""

    seen_at = me.DateTimeField(default=now)
    meta = {"collection": "test_lately"}


def test_what_is_made_anew_each_time_is_told_as_no_default() -> None:
    made = schema_of(Lately).json_schema("create")["properties"]
    assert "left out" not in str(made["seen_at"])


def test_the_json_schema_is_described_by_the_first_line_of_the_docstring() -> None:
    assert schema_of(Meal).json_schema("read")["description"] == "What is cooked, with rules over several fields."


def test_the_json_schema_accepts_what_a_pattern_without_regard_to_case_accepts() -> None:
    schema_of(Meal).load({"title": "SOUP"})
    assert validator(Meal, "create").is_valid({"title": "SOUP"})
