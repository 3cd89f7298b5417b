"""A record type is a value: an app has its own, and one that goes leaves nothing behind."""

import gc
import weakref
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from service.documents import Note, Notebook, Record
from service.model import dump
from service.model.patch import parse as parse_patch
from service.model.record_type import InvalidDocument, derive
from service.model.registry import Registry
from service.query.parse import Parser
from tests.client import Person, Phone
from tests.properties import examples
from tests.types import new, schema_of


class Stone(Record):
    """A type that only one of two apps has."""

    weight = me.IntField(default=1)
    meta = {"collection": "test_stones"}


def test_two_apps_of_one_process_may_have_different_types(app: Flask, make_app: Any, ada: Person) -> None:
    other = Phone(make_app(documents=[Stone]).test_client(), ada.headers)
    assert other.post("/v1/test_stones", {"weight": 2}).status_code == 201
    assert (other.get("/v1/notes").status_code, ada.get("/v1/test_stones").status_code) == (404, 404)
    assert ada.get("/v1/notes").status_code == 200
    assert "/v1/test_stones" in other.get("/openapi.json").json["paths"]
    assert "/v1/test_stones" not in ada.get("/openapi.json").json["paths"]
    Stone._get_collection().drop()


def test_a_type_that_goes_leaves_nothing_behind() -> None:
    registry = Registry([Notebook, Note])
    type = registry.of(Note)
    parser = Parser(type)
    parser.parse({"where": '{"title": "a"}', "sort": "-due"}, "ada", b"k" * 32)
    parse_patch(type.schema, {"title": "a", "$push": {"tags": "b"}})
    type.schema.dump(new(Note, "ada", type.schema.load({"title": "a"})))
    type.schema.json_schema("patch")
    left = [weakref.ref(value) for value in (registry, type, type.schema, parser)]
    del registry, type, parser
    gc.collect()
    assert [reference() for reference in left] == [None] * 4


def test_a_record_type_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        derive(Note).name = "other"  # type: ignore[misc]


def test_a_reference_to_what_is_no_record_type_of_the_app_is_refused() -> None:
    with pytest.raises(InvalidDocument, match=r"Note\.notebook refers to Notebook, which is no record type here"):
        Registry([Note])


def test_a_field_that_expand_would_hide_is_refused() -> None:
    class Parcel(Record):
        expanded = me.StringField()
        meta = {"collection": "test_parcels"}

    with pytest.raises(InvalidDocument, match=r"Parcel\.expanded has to be called otherwise"):
        derive(Parcel)


# Shaping

TEXTS = st.text(max_size=3)
STORED = st.fixed_dictionaries(
    {"_id": TEXTS, "owner": TEXTS, "title": TEXTS, "created_at": st.datetimes(), "updated_at": st.datetimes()},
    optional={
        "revision": st.integers(1, 9),
        "body": TEXTS,
        "tags": st.lists(TEXTS, max_size=2),
        "due": st.datetimes(),
        "place": st.just({"type": "Point", "coordinates": [1, 2]}),
        "checklist": st.lists(
            st.fixed_dictionaries({"text": TEXTS}, optional={"done": st.booleans(), "unknown": TEXTS}), max_size=2
        ),
        "access": st.just(["o:ada"]),
        "schema_version": st.just(1),
        "from_a_newer_server": TEXTS,
    },
)


@given(STORED)
@examples(200)
def test_the_compiled_way_of_shaping_gives_what_the_plain_one_does(stored: dict[str, Any]) -> None:
    schema = schema_of(Note)
    assert schema.dump(stored) == dump.plain(schema.fields, stored)


class Inner(me.EmbeddedDocument):
    when = me.DateTimeField(db_field="w")
    marks = me.ListField(me.IntField(), default=lambda: [1])


class Renamed(Record):
    """Everything that shaping has to mend."""

    title = me.StringField(db_field="t", default="none")
    body = me.StringField(db_field="title")
    whens = me.ListField(me.DateTimeField(), db_field="ws")
    inner = me.EmbeddedDocumentField(Inner, db_field="i")
    inners = me.MapField(me.EmbeddedDocumentField(Inner))
    secret = me.StringField(hidden=True)
    meta = {"collection": "test_renamed"}


INNERS = st.fixed_dictionaries({}, optional={"w": st.datetimes(), "marks": st.lists(st.integers(0, 3), max_size=2)})


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "t": TEXTS,
            "title": TEXTS,
            "ws": st.lists(st.datetimes(), max_size=2),
            "i": INNERS,
            "inners": st.dictionaries(TEXTS, INNERS, max_size=2),
            "secret": TEXTS,
        },
    )
)
@examples(200)
def test_names_of_the_database_and_what_lies_inside_are_shaped_the_same_by_both(stored: dict[str, Any]) -> None:
    schema = schema_of(Renamed)
    assert schema.dump(stored) == dump.plain(schema.fields, stored)


@given(STORED)
@examples(50)
def test_shaping_leaves_the_row_as_it_is(stored: dict[str, Any]) -> None:
    before = {**stored}
    schema_of(Note).dump(stored)
    assert stored == before


def test_what_follows_from_declarations_is_derived_once() -> None:
    registry = Registry([Notebook, Note])
    notes, notebooks = registry.of(Note), registry.of(Notebook)
    assert [reference.stored for _, reference in registry.bound(notebooks)] == ["notebook"]
    assert not registry.holding(notes)
    for derived in (
        lambda: registry.bound(notebooks),
        lambda: registry.holding(notes),
        lambda: notes.fixed,
        lambda: notes.given,
        lambda: notes.cleared,
        lambda: notes.schema.owner_only_fields,
    ):
        assert derived() is derived()
