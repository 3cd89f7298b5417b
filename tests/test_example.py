"""Bodies that are made up for the API document: each of them is taken."""

from decimal import Decimal
from typing import Any

import mongoengine as me
import pytest

from service.documents import Notebook, Record
from service.model.example import example_of
from service.model.schema import Schema
from service.model.validation import validate
from tests.gym import Gym, Visit
from tests.test_fields import TYPES
from tests.types import SHIPPED, schema_of

NONE_CAN_BE_MADE_UP = {"string with a pattern", "string with two patterns", "a field class of the author's own"}
POINTS_TO_SOMETHING = {"reference", "lazy reference", "list of references"}


@pytest.mark.parametrize("name", sorted(set(TYPES) - NONE_CAN_BE_MADE_UP - POINTS_TO_SOMETHING))
def test_a_value_of_every_class_of_field_is_made_up(name: str) -> None:
    schema = schema_of(TYPES[name])
    created, patched = example_of(schema, "create"), example_of(schema, "patch")
    assert created is not None
    assert created.keys() == {"value"}
    assert schema.load(created)
    assert patched == created


@pytest.mark.parametrize("document", [*SHIPPED, Gym])
def test_a_record_has_all_that_can_be_made_up(document: type[Record]) -> None:
    schema = schema_of(document)
    made = example_of(schema, "create")
    assert made is not None
    left_out = {name for name, field in schema.fields.items() if field.is_given_by_clients} - made.keys()
    fields = {name: schema.fields[name].entry or schema.fields[name] for name in left_out - {"readers", "writers"}}
    assert [name for name, field in fields.items() if not field.is_reference and not field.declared.regex] == []


def test_what_needs_a_reference_has_a_patch_alone() -> None:
    assert example_of(schema_of(Visit), "create") is None
    assert example_of(schema_of(Visit), "patch") == {"at": "2026-11-22T10:00:00.000Z"}


@pytest.mark.parametrize(
    "field",
    [
        me.DecimalField(min_value=100, precision=1),
        me.DecimalField(max_value=-3, precision=0),
        me.Decimal128Field(max_value=Decimal("0.5")),
        me.StringField(max_length=2),
        me.StringField(min_length=30),
        me.EmailField(min_length=4),
        me.IntField(min_value=7),
        me.IntField(max_value=-7),
        me.FloatField(min_value=0.5, max_value=0.75),
        me.LongField(as_string=True),
        me.IntField(choices=[30, 40]),
        me.URLField(choices=["https://a.example/"]),
        me.ListField(me.StringField(max_length=1), max_length=1),
        me.MapField(me.DecimalField(max_value=2)),
    ],
)
def test_what_is_made_up_is_within_limits(field: Any) -> None:
    field.required = True
    made: type[Record] = type("Limited", (Record,), {"value": field, "meta": {"collection": "limited"}})
    assert validate(schema_of(made).body, example_of(schema_of(made), "create"))


def test_rules_over_several_fields_are_kept() -> None:
    class Trip(Record):
        """It ends after it begins."""

        start = me.DateField()
        end = me.DateField()
        book = me.ReferenceField(Notebook)
        meta = {"collection": "trips"}

        def clean(self) -> None:
            if self.start and self.end and self.start >= self.end:
                raise me.ValidationError("the end before the start")

    assert example_of(schema_of(Trip), "create") == {"start": "2026-11-22"}


def declared(meta: dict[str, Any] | None = None, **fields: Any) -> Schema:
    kind: type[Record] = type("Made", (Record,), {**fields, "meta": {"collection": "made", **(meta or {})}})
    return Schema(kind)


def test_what_cannot_be_guessed_is_left_out_where_that_may_be() -> None:
    unguessed = {"word": me.StringField(regex="^[0-9]{3}$"), "notebook": me.ReferenceField(Notebook)}
    assert example_of(declared(title=me.StringField(), **unguessed), "create") == {"title": "Text"}
    assert example_of(declared(word=me.StringField(regex="^[0-9]{3}$", required=True)), "create") is None
    assert example_of(declared(notebook=me.ReferenceField(Notebook, required=True)), "create") is None


def test_an_example_that_the_class_tells_is_taken_before_all() -> None:
    word = me.StringField(regex="^[0-9]{3}$")
    schema = declared({"example": {"word": "321"}}, title=me.StringField(), word=word)
    assert example_of(schema, "create") == {"word": "321"}
    assert example_of(schema, "patch") == {"word": "321"}


def test_a_patch_has_one_member_that_may_be_changed() -> None:
    fields = {"origin": me.StringField(required=True, fixed=True), "a": me.IntField(), "b": me.IntField()}
    assert example_of(declared(**fields), "patch") == {"a": 1}


def test_what_a_record_has_to_have_is_not_empty() -> None:
    assert example_of(declared(lore=me.DictField(required=True)), "create") == {"lore": {"key": "Text"}}


def test_a_body_that_breaks_a_rule_of_one_field_is_no_example_of_a_patch() -> None:
    told = {"example": {"origin": "a", "word": "none"}}
    fields = {"origin": me.StringField(required=True, fixed=True), "word": me.StringField(regex="^[0-9]{3}$")}
    assert example_of(declared(told, **fields), "create") is None
    assert example_of(declared(**fields), "patch") is None
