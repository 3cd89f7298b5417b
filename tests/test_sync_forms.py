"""Rows of WatermelonDB and documents of RxDB: whatever a record holds comes there and back."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import datetime
from enum import Enum
from typing import Any

import mongoengine as me
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from service.changes.rxdb_documents import documents_of, problems_text
from service.changes.watermelon_rows import EMPTY, columns_of
from service.core.errors import ValidationFailed
from service.core.json_text import decode_rows, unstorable
from service.documents import Note, Notebook, Record
from tests.properties import examples
from tests.types import new, schema_of, type_of

Json = dict[str, Any]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Step(me.EmbeddedDocument):
    text = me.StringField(required=True)
    at = me.DateTimeField()


class Everything(Record):
    """A type with each kind of field that looks different somewhere."""

    title = me.StringField(required=True, db_field="t")
    at = me.DateTimeField(required=True)
    maybe = me.DateTimeField(db_field="m")
    day = me.DateField()
    whole = me.LongField()
    part = me.FloatField(default=0.5)
    price = me.DecimalField(precision=2)
    yes = me.BooleanField(default=False)
    colour = me.EnumField(Colour)
    words = me.ListField(me.StringField())
    table = me.ListField(me.ListField(me.IntField()))
    free = me.DictField()
    named = me.MapField(me.IntField())
    step = me.EmbeddedDocumentField(Step)
    steps = me.EmbeddedDocumentListField(Step)
    place = me.PointField(auto_index=False)
    book = me.ReferenceField(Notebook)
    data = me.BinaryField()
    fixed = me.StringField(fixed=True)

    meta = {"collection": "test_everything"}


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(
    lambda moment: moment.isoformat(timespec="milliseconds") + "Z"
)
DAYS = st.dates().map(lambda day: day.isoformat())
STEPS = st.fixed_dictionaries({"text": TEXTS}, optional={"at": MOMENTS})
KEYS = st.text("abc", min_size=1, max_size=3)
FREE = st.dictionaries(KEYS, st.recursive(st.booleans() | st.integers(-5, 5) | TEXTS | st.none(), st.lists), max_size=3)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "maybe": MOMENTS,
    "day": DAYS,
    "whole": st.integers(-(2**53) + 1, 2**53 - 1),
    "part": st.floats(-1e6, 1e6),
    "price": st.integers(-1000, 1000).map(lambda cents: f"{cents / 100:.2f}"),
    "yes": st.booleans(),
    "colour": st.sampled_from(["red", "blue"]),
    "words": st.lists(TEXTS, max_size=3),
    "table": st.lists(st.lists(st.integers(-9, 9), max_size=2), max_size=2),
    "free": FREE,
    "named": st.dictionaries(KEYS, st.integers(0, 9), max_size=2),
    "step": STEPS,
    "steps": st.lists(STEPS, max_size=2),
    "place": st.just({"type": "Point", "coordinates": [1.5, -2.5]}),
    "book": st.text("abc", min_size=1, max_size=5),
    "data": st.binary(max_size=5).map(lambda data: b64encode(data).decode()),
    "fixed": TEXTS,
}
BODIES = st.fixed_dictionaries({"title": TEXTS, "at": MOMENTS}, optional=VALUES)


def record(body: Json) -> Json:
    return new(Everything, "ada", schema_of(Everything).load(body))


def client_values(stored: Json) -> Json:
    """What clients say of a record, in JSON form."""
    schema = schema_of(Everything)
    return {name: value for name, value in schema.dump(stored).items() if schema.fields[name].is_given_by_clients}


@given(BODIES)
@examples(150)
def test_a_row_comes_back_as_it_was(body: Json) -> None:
    stored, columns = record(body), columns_of(type_of(Everything))
    row = json.loads(json.dumps(columns.row(stored)))
    assert all(isinstance(value, str | int | float | bool | None) for value in row.values())
    Draft202012Validator(columns.json_schema()).validate(row)
    due = client_values(stored)
    assert columns.values(row, due) == due
    assert columns.has_all_of(stored, {**row, "_status": "updated", "_changed": "title", "own": 1})
    again = schema_of(Everything).load({name: value for name, value in due.items() if value is not None})
    assert again == {name: stored[name] for name in again}


@given(BODIES)
@examples(50)
def test_a_row_of_columns_that_are_not_optional_comes_back_too(body: Json) -> None:
    """Of null such a device keeps `""`, 0 or false; of what has parts and of references that is nothing."""
    stored, columns = record(body), columns_of(type_of(Everything))
    row = columns.row(stored)
    held = {name: "" if value is None else value for name, value in row.items()}
    names = [name for name, kind in columns.kinds.items() if kind == "text of JSON" or name == "book"]
    assert columns.values(held, names) == {name: schema_of(Everything).dump(stored)[name] for name in names}
    assert columns.has_all_of(stored, {name: EMPTY[0] if value is None else value for name, value in row.items()})


@given(BODIES)
@examples(100)
def test_a_document_comes_back_as_it_was(body: Json) -> None:
    stored, documents = record(body), documents_of(type_of(Everything))
    document = json.loads(json.dumps(documents.document(stored)))
    Draft202012Validator(documents.json_schema()).validate(document)
    assert document == {**schema_of(Everything).dump(stored), "_deleted": False}
    assert documents.values({**document, "_rev": "1-a", "_meta": {}, "_attachments": {}}) == client_values(stored)


@pytest.mark.parametrize("document", [Note, Notebook, Everything])
def test_what_is_gone_has_all_members_and_no_content(document: type[Record]) -> None:
    documents = documents_of(type_of(document))
    gone = documents.gone("one")
    Draft202012Validator(documents.json_schema()).validate(gone)
    assert gone.keys() == {*schema_of(document).fields, "_deleted"}
    assert (gone["id"], gone["_deleted"], gone["title"], gone["owner"]) == ("one", True, "", "")


@pytest.mark.parametrize(
    ("column", "value", "code"),
    [
        ("at", "2026-11-22T10:00:00Z", "time"),
        ("at", 1.5, "time"),
        ("at", True, "time"),
        ("at", 1e300, "time"),
        ("at", float("nan"), "time"),
        ("at", 10**30, "time"),
        ("words", ["a"], "wrong_type"),
        ("words", "[1", "json"),
        ("words", "[" * 2000, "json"),
        ("free", '{"a": "b\\u0000"}', "nul"),
        ("free", '{"a": "\\ud800"}', "json"),
    ],
)
def test_a_column_of_another_form_is_told(column: str, value: Any, code: str) -> None:
    with pytest.raises(ValidationFailed) as failed:
        columns_of(type_of(Everything)).values({column: value}, [column])
    assert [(cause.pointer, cause.code) for cause in failed.value.causes] == [(f"/{column}", code)]


def test_what_a_client_lacks_is_found() -> None:
    columns, stored = columns_of(type_of(Everything)), record({"title": "a", "at": "2026-11-22T10:00:00.000Z"})
    assert columns.has_all_of(stored, {"title": "a", "words": "[]", "yes": False, "colour": ""})
    for row in ({"title": "b"}, {"yes": 0}, {"at": 1}, {"words": ""}, {"revision": 2}):
        assert not columns.has_all_of(stored, row)


def test_problems_are_told_as_far_as_they_fit() -> None:
    problems = [{"id": f"é{number}", "problem": {"code": "x"}} for number in range(10)]
    assert json.loads(problems_text(problems, 1000)) == problems
    text = problems_text(problems, 100)
    assert text.isascii()
    assert 0 < len(json.loads(text)) < 10
    assert problems_text(problems, 5) == "[]"


@pytest.mark.parametrize(
    ("text", "value", "is_storable"),
    [
        (b'["a"]', ["a"], True),
        (b'["\\ud83d\\ude00"]', ["\U0001f600"], True),
        (b'["\\ud83d"]', ["\ud83d"], False),
        (b'["\\ude00\\ud83d"]', ["\ude00\ud83d"], False),
        (b'["\\u0000"]', ["\0"], False),
        (b'["\\ud83d", 123456789012345678901]', ["\ud83d", 123456789012345678901], False),
    ],
)
def test_text_of_javascript_is_read_row_by_row(text: bytes, value: Any, is_storable: bool) -> None:
    found, check = decode_rows(text)
    assert found == value
    assert (check(found) == []) is is_storable
    assert (unstorable(found) == []) is is_storable
