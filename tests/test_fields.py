"""Every field class of the table: from JSON to MongoDB and back, what is refused, and the JSON Schema of both."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import bson
import mongoengine as me
import pytest
from bson import ObjectId
from bson.binary import UUID_SUBTYPE, UuidRepresentation
from bson.codec_options import CodecOptions
from flask import Flask
from jsonschema import Draft202012Validator
from mongoengine.base import BaseField

from service.core.errors import ValidationFailed
from service.documents import Notebook, Record
from service.model import json_schema, values
from service.model.field import field_of
from service.model.fields import UnsupportedField
from service.model.record_type import derive
from tests.types import create, schema_of

UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
POINT = {"type": "Point", "coordinates": [126.98, 37.57]}
LINE = {"type": "LineString", "coordinates": [[0, 0], [1.5, 1]]}
RING = [[0, 0], [1, 0], [1, 1], [0, 0]]
POLYGON = {"type": "Polygon", "coordinates": [RING]}


class Mood(enum.Enum):
    GOOD = "good"
    FIRST = 1


class Line(me.EmbeddedDocument):
    text = me.StringField(required=True, max_length=5)
    done = me.BooleanField(default=False)


class EvenField(me.IntField):
    """A field class as the author of a document would write it."""

    def validate(self, value: Any, **options: Any) -> None:
        super().validate(value, **options)
        if value % 2:
            self.error("an even number")


def not_monday(value: str) -> None:
    if value == "monday":
        raise me.ValidationError("any day but monday")


def nested(levels: int) -> dict[str, Any]:
    return {"a": nested(levels - 1)} if levels else {}


@dataclass
class Case:
    """A field, JSON values that it takes, and `(value, code)` of those that it refuses; a third member is a bug."""

    field: BaseField
    good: list[Any]
    bad: list[tuple[Any, ...]] = field(default_factory=list)


CASES = {
    "string": Case(
        me.StringField(min_length=2, max_length=4),
        ["ab", "äöü€", "a\0b\n"],
        [(5, "wrong_type"), ("a", "too_short"), ("abcde", "too_long"), (["ab"], "wrong_type"), (True, "wrong_type")],
    ),
    "string with a pattern": Case(
        me.StringField(regex="^[a-z]+$"),
        ["abc"],
        [("ABC", "pattern"), ("", "pattern"), ("abc\n", "pattern"), ("1abc", "pattern")],
    ),
    "string with two patterns": Case(
        me.StringField(regex="^a$|^b$"),
        ["a", "b"],
        [("c", "pattern"), ("b\n", "pattern"), ("a\n", "pattern")],
    ),
    "string with choices": Case(
        me.StringField(choices=["s", "m"]), ["s", "m"], [("l", "not_allowed"), (1, "wrong_type")]
    ),
    "string with named choices": Case(
        me.StringField(choices=[("s", "small"), ("m", "medium")]), ["s", "m"], [("small", "not_allowed")]
    ),
    "string with a rule": Case(me.StringField(validation=not_monday), ["friday"], [("monday", "not_valid")]),
    "decimal with choices": Case(
        me.DecimalField(precision=2, choices=[Decimal("1.10"), Decimal("2.50")]),
        ["1.10", "2.50"],
        [("1.20", "not_allowed"), (1.1, "wrong_type")],
    ),
    "date with choices": Case(
        me.DateField(choices=[date(2026, 11, 22)]), ["2026-11-22"], [("2026-11-23", "not_allowed")]
    ),
    "e-mail": Case(
        me.EmailField(max_length=30),
        ["ada@example.com"],
        [
            (5, "wrong_type"),
            ("ada", "email"),
            ("ada@example.com\n", "email"),
            (f"ada@{'a' * 30}.com", "too_long"),
            ("ü@example.com", "email"),
        ],
    ),
    "URL": Case(
        me.URLField(),
        ["https://example.com/a?b=c"],
        [
            (5, "wrong_type"),
            ("example", "not_valid"),
            ("javascript:alert(1)", "not_valid"),
            ("https://example.com/\n", "not_valid"),
        ],
    ),
    "int": Case(
        me.IntField(min_value=-5, max_value=5),
        [-5, 0, 5],
        [
            *[("5", "wrong_type"), (1.5, "wrong_type"), (True, "wrong_type"), (float("nan"), "wrong_type")],
            *[(-6, "too_small"), (6, "too_large"), (6.0, "too_large"), (1e300, "too_large")],
        ],
    ),
    "int without limits": Case(
        me.IntField(), [-(2**31), 2**31 - 1], [(2**31, "too_large"), (-(2**31) - 1, "too_small"), (2**64, "too_large")]
    ),
    "int with choices": Case(me.IntField(choices=[1, 2]), [1, 2], [(3, "not_allowed"), (True, "wrong_type")]),
    "long": Case(
        me.LongField(), [-(2**63), 2**63 - 1], [(2**63, "too_large"), ("1", "wrong_type"), (False, "wrong_type")]
    ),
    "long as a string": Case(
        me.LongField(as_string=True, min_value=-(2**62)),
        [str(-(2**62)), str(2**40), str(2**63 - 1)],
        [
            *[(True, "wrong_type"), (1.5, "wrong_type"), ("1.0", "wrong_type"), ("", "wrong_type"), ([], "wrong_type")],
            *[("01", "wrong_type"), ("-0", "wrong_type"), ("+1", "wrong_type"), ("1e3", "wrong_type")],
            *[("\uff11", "wrong_type"), ("1\n", "wrong_type"), ("9" * 5000, "wrong_type")],
            *[(str(2**63), "too_large"), (str(-(2**62) - 1), "too_small"), (-(2**63) - 1, "too_small")],
        ],
    ),
    "long as a string with choices": Case(
        me.LongField(as_string=True, choices=[2**40, 2**60]),
        [str(2**40), str(2**60)],
        [("2", "not_allowed"), (3, "not_allowed")],
    ),
    "float": Case(
        me.FloatField(min_value=-1, max_value=1.5),
        [-1, 0.1, 1.5],
        [("1", "wrong_type"), (True, "wrong_type"), (1.6, "too_large"), (-1.1, "too_small")],
    ),
    "float without limits": Case(
        me.FloatField(),
        [1e308, -1e-308, 2**63],
        [(float("inf"), "not_finite"), (10**400, "not_finite"), (2**53 + 1, "inexact")],
    ),
    "decimal": Case(
        me.DecimalField(precision=2, min_value=-10, max_value=10**18),
        ["12.50", "-0.01", "10000.00"],
        [
            *[(12.5, "wrong_type"), (12, "wrong_type"), ("x", "decimal"), ("NaN", "decimal"), ("1e400", "decimal")],
            *[("Infinity", "decimal"), ("-10.01", "too_small"), ("1000000000000000001", "too_large"), ("", "decimal")],
            ("1_0.00", "decimal"),
            (" 1.00\n", "decimal"),
            ("\uff11.00", "decimal"),
            ("123456789012345678.12", "decimal"),
            ("1.239", "decimal"),
        ],
    ),
    "decimal kept as text": Case(me.DecimalField(precision=3, force_string=True), ["12.500"], [(12.5, "wrong_type")]),
    "decimal of 128 bits": Case(
        me.Decimal128Field(min_value=0),
        ["12.50", "0", "1234567890123456789012345678.901234"],
        [
            *[(12.5, "wrong_type"), ("x", "decimal"), ("sNaN", "decimal"), ("-Infinity", "decimal")],
            *[("-1", "too_small"), ("12345678901234567890123456789012345", "decimal")],
            ("1_0", "decimal"),
        ],
    ),
    "decimal of 128 bits without limits": Case(me.Decimal128Field(), ["-12.50", "1E+30"]),
    "boolean": Case(me.BooleanField(), [True, False], [(1, "wrong_type"), (0, "wrong_type"), ("true", "wrong_type")]),
    "datetime": Case(
        me.DateTimeField(),
        ["2026-11-22T10:00:00.000Z", "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"],
        [
            (1764000000, "wrong_type"),
            *[(text, "time") for text in ("2026-11-22T10:00:00", "2026-11-22", "2026-02-30T10:00:00Z", "now")],
            *[(text, "time") for text in ("2026-11-22T10:00:00Z\n", "2026-11-22T25:00:00Z", "20261122T100000Z")],
            *[(text, "time") for text in ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00")],
            *[(text, "time") for text in ("\uff12026-11-22T10:00:00Z", "2026-11-22T10:00:00+24:00")],
        ],
    ),
    "date": Case(
        me.DateField(),
        ["2026-11-22", "0001-01-01", "9999-12-31"],
        [
            (20261122, "wrong_type"),
            *[(text, "date") for text in ("2026-02-30", "20261122", "2026-11-22T00:00:00Z", "2026-11-22\n")],
            ("2026-W01-1", "date"),
        ],
    ),
    "UUID": Case(
        me.UUIDField(),
        [UUID],
        [(5, "wrong_type"), ("x", "uuid"), (UUID.replace("-", ""), "uuid"), (f"{{{UUID}}}", "uuid")],
    ),
    "ObjectId": Case(
        me.ObjectIdField(),
        ["507f1f77bcf86cd799439011"],
        [(5, "wrong_type"), ("507f1f77bcf86cd79943901", "object_id"), ("abcdefghijkl", "object_id")],
    ),
    "list": Case(
        me.ListField(me.StringField(max_length=2), max_length=2),
        [[], ["b", "a"], ["a", "a"]],
        [("a", "wrong_type"), ({}, "wrong_type"), (["a", "b", "c"], "too_long")],
    ),
    "list of lists": Case(me.ListField(me.ListField(me.IntField())), [[[1], [], [2, 3]]], [({"0": []}, "wrong_type")]),
    "required list": Case(
        me.ListField(me.IntField(), required=True),
        [[1]],
        [([], "too_short"), (None, "wrong_type")],
    ),
    "sorted list": Case(me.SortedListField(me.IntField()), [[1, 2, 3]], [(3, "wrong_type")]),
    "map": Case(
        me.MapField(me.IntField(max_value=9)),
        [{}, {"ada": 1, "a b/c~d": 2}],
        [([], "wrong_type"), ("{}", "wrong_type")],
    ),
    "dict": Case(
        me.DictField(),
        [{}, {"a": [1, 2.5, None, {"b": True}], "c d": "é"}, nested(20)],
        [
            *[([], "wrong_type"), ({"$a": 1}, "key"), ({"a": [{"b.c": 1}]}, "key"), ({"": 1}, "key")],
            *[({"a\0": 1}, "key"), ({"a" * 201: 1}, "key"), (nested(21), "too_deep"), ({"n": 2**63}, "too_large")],
        ],
    ),
    "embedded": Case(
        me.EmbeddedDocumentField(Line),
        [{"text": "milk", "done": True}],
        [("milk", "wrong_type"), (["milk"], "wrong_type")],
    ),
    "list of embedded": Case(
        me.EmbeddedDocumentListField(Line, max_length=2),
        [[], [{"text": "milk", "done": False}]],
        [({}, "wrong_type"), ([{"text": "a"}] * 3, "too_long")],
    ),
    "reference": Case(
        me.ReferenceField(Notebook),
        ["book.1"],
        [(5, "wrong_type"), ("", "too_short"), ("a" * 65, "too_long"), ({"$ref": "notebooks"}, "wrong_type")],
    ),
    "lazy reference": Case(me.LazyReferenceField(Notebook), ["book.1"], [(5, "wrong_type"), ("", "too_short")]),
    "list of references": Case(me.ListField(me.ReferenceField(Notebook)), [["b", "a"]], [("b", "wrong_type")]),
    "enum": Case(
        me.EnumField(Mood),
        ["good", 1],
        [
            *[("GOOD", "not_allowed"), ("1", "not_allowed"), (2, "not_allowed"), ([], "not_allowed")],
            (True, "not_allowed"),
        ],
    ),
    "geo point": Case(
        me.GeoPointField(),
        [[126.98, 37.57], [-180, -90]],
        [
            *[([1], "position"), ([1, 2, 3], "position"), ([181, 0], "position"), ([0, 90.1], "position")],
            *[(["1", "2"], "wrong_type"), ([True, 2], "wrong_type"), ({"x": 1, "y": 2}, "position")],
        ],
    ),
    "point": Case(
        me.PointField(auto_index=False),
        [POINT],
        [
            *[([1, 2], "geojson"), (LINE, "geojson"), ({**POINT, "crs": 1}, "geojson"), ({"type": "Point"}, "geojson")],
            *[({**POINT, "coordinates": [0, 91]}, "position"), ({**POINT, "coordinates": [1, "2"]}, "wrong_type")],
        ],
    ),
    "line": Case(
        me.LineStringField(auto_index=False),
        [LINE],
        [
            (POINT, "geojson"),
            ({**LINE, "coordinates": [[0, 0]]}, "line"),
            ({**LINE, "coordinates": [0, 0]}, "position"),
        ],
    ),
    "polygon": Case(
        me.PolygonField(auto_index=False),
        [POLYGON],
        [
            *[
                (LINE, "geojson"),
                ({**POLYGON, "coordinates": []}, "polygon"),
                ({**POLYGON, "coordinates": 1}, "polygon"),
            ],
            *[({**POLYGON, "coordinates": [RING[:3]]}, "polygon"), ({**POLYGON, "coordinates": [RING[1:]]}, "polygon")],
        ],
    ),
    "binary": Case(
        me.BinaryField(max_bytes=5),
        ["aGVsbG8=", ""],
        [
            (5, "wrong_type"),
            ("aGVsbG8", "base64"),
            ("a-_=", "base64"),
            ("é", "base64"),
            ("aGVsbG8h", "too_long"),
        ],
    ),
    "a field class of the author's own": Case(EvenField(max_value=8), [2, 8], [(3, "not_valid"), (10, "too_large")]),
}


def record_type(name: str, **declared: BaseField) -> type[Record]:
    made: type[Record] = type(name, (Record,), {**declared, "meta": {"collection": "field_cases"}})
    return made


TYPES = {name: record_type(f"Case{number}", value=case.field) for number, (name, case) in enumerate(CASES.items())}
"""The record types, each with one field `value`."""

GOOD = [
    pytest.param(TYPES[name], value, id=f"{name}-{n}") for name, c in CASES.items() for n, value in enumerate(c.good)
]
BAD = [
    pytest.param(
        *(TYPES[name], value, code),
        id=f"{name}-{n}",
    )
    for name, c in CASES.items()
    for n, (value, code) in enumerate(c.bad)
]
KINDS = [pytest.param(document, id=name) for name, document in TYPES.items()]
OPTIONAL = [kind for kind in KINDS if field_of(kind.values[0].value).is_nullable]


@pytest.fixture(autouse=True)
def _no_cases(app: Flask) -> Iterator[None]:
    yield
    TYPES["string"]._get_collection().delete_many({})


def bson_of(value: Any) -> bytes:
    return bson.encode({"": value}, codec_options=CodecOptions(uuid_representation=UuidRepresentation.STANDARD))


def codes(error: ValidationFailed) -> dict[str | None, str]:
    return {cause.pointer: cause.code for cause in error.causes}


# --- Values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("document", "value"), GOOD)
def test_a_good_value_comes_back_from_the_database_as_it_was_sent(document: type[Record], value: Any) -> None:
    record = create(document, "ada", schema_of(document).load({"value": value}))
    stored = document._get_collection().find_one({"_id": record["_id"]})
    assert schema_of(document).dump(stored or {})["value"] == value


@pytest.mark.parametrize(("document", "value"), GOOD)
def test_mongoengine_loads_what_was_stored_finds_it_valid_and_would_store_the_same(
    document: type[Record], value: Any
) -> None:
    record = create(document, "ada", schema_of(document).load({"value": value}))
    loaded = document.objects.get(id=record["_id"])
    loaded.validate()
    assert bson_of(loaded.to_mongo()["value"]) == bson_of(record["value"])


@pytest.mark.parametrize(
    ("name", "sent", "back"),
    [
        ("datetime", "2026-11-22T12:00:00+02:00", "2026-11-22T10:00:00.000Z"),
        ("datetime", "2026-11-22t10:00:00.1z", "2026-11-22T10:00:00.100Z"),
        ("datetime", "2026-11-22 10:00:00.123999Z", "2026-11-22T10:00:00.123Z"),
        ("datetime", "2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00.123Z"),
        ("e-mail", "ada@EXAMPLE.com", "ada@example.com"),
        ("UUID", UUID.upper(), UUID),
        ("ObjectId", "507F1F77BCF86CD799439011", "507f1f77bcf86cd799439011"),
        ("decimal", "12.5", "12.50"),
        ("sorted list", [3, 1, 2], [1, 2, 3]),
        ("embedded", {"text": "milk"}, {"text": "milk", "done": False}),
    ],
)
def test_a_value_comes_back_in_its_one_spelling(name: str, sent: Any, back: Any) -> None:
    assert schema_of(TYPES[name]).dump(schema_of(TYPES[name]).load({"value": sent}))["value"] == back


def test_a_decimal_that_was_read_can_be_sent_again() -> None:
    document = TYPES["decimal of 128 bits without limits"]
    read = schema_of(document).dump(schema_of(document).load({"value": "-1E+6144"}))["value"]
    assert schema_of(document).dump(schema_of(document).load({"value": read}))["value"] == read


@pytest.mark.parametrize(("document", "value", "code"), BAD)
def test_a_bad_value_is_refused_with_its_code(document: type[Record], value: Any, code: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        schema_of(document).load({"value": value})
    ((place, found),) = codes(refused.value).items()
    assert (place.split("/")[1], found) == ("value", code)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"$a": 1}, "/value/$a"),
        ({"a": [1, {"b.c": 1}]}, "/value/a/1/b.c"),
        ({"a": [2**63]}, "/value/a/0"),
        ({"a": {"b/c": -(2**63) - 1}}, "/value/a/b~1c"),
        ({"ok": 1, "a": nested(20)}, "/value" + "/a" * 21),
    ],
)
def test_what_is_wrong_in_a_free_form_object_is_told_with_its_place(value: Any, place: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        schema_of(TYPES["dict"]).load({"value": value})
    assert list(codes(refused.value)) == [place]


@pytest.mark.parametrize("document", OPTIONAL)
def test_null_for_an_optional_field_is_no_value(document: type[Record]) -> None:
    content = schema_of(document).load({"value": None})
    assert "value" not in content
    assert schema_of(document).dump(content)["value"] is None


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(me.StringField(required=True), id="required"),
        pytest.param(me.IntField(default=3), id="with a default"),
        pytest.param(me.ListField(me.IntField()), id="a list"),
        pytest.param(me.MapField(me.IntField()), id="a map"),
    ],
)
def test_null_is_refused_where_there_is_always_a_value(field: BaseField) -> None:
    document = record_type("NeverNull", value=field)
    with pytest.raises(ValidationFailed) as refused:
        schema_of(document).load({"value": None})
    assert codes(refused.value) == {"/value": "wrong_type"}


@pytest.mark.parametrize(
    ("field", "default"),
    [
        (me.IntField(default=3), 3),
        (me.BooleanField(default=lambda: True), True),
        (me.EnumField(Mood, default=Mood.GOOD), "good"),
        (me.ObjectIdField(default=ObjectId(b"\1" * 12)), "01" * 12),
        (me.DecimalField(default=1.5), "1.50"),
        (me.ListField(me.IntField()), []),
        (me.ListField(me.IntField(), default=lambda: [1]), [1]),
        (me.MapField(me.IntField()), {}),
        (me.DictField(), {}),
        (me.EmbeddedDocumentListField(Line), []),
        (me.EmbeddedDocumentField(Line, default=lambda: Line(text="a")), {"text": "a", "done": False}),
    ],
)
def test_a_default_fills_what_a_body_leaves_out_and_what_an_old_record_lacks(field: BaseField, default: Any) -> None:
    document = record_type("WithDefault", value=field)
    stored = create(document, "ada", schema_of(document).load({}))
    del stored["value"]
    assert schema_of(document).dump(stored)["value"] == default
    assert (
        schema_of(document).dump(document._get_collection().find_one({"_id": stored["_id"]}) or {})["value"] == default
    )


@pytest.mark.parametrize(
    "field",
    [
        me.StringField(required=True),
        me.ListField(me.IntField(), required=True),
        me.EmbeddedDocumentField(Line, required=True),
        me.MapField(me.IntField(), required=True),
        me.DictField(required=True),
    ],
)
def test_a_required_field_that_is_missing_is_named(field: BaseField) -> None:
    with pytest.raises(ValidationFailed) as refused:
        schema_of(record_type("WithRequired", value=field)).load({})
    assert codes(refused.value) == {"/value": "required"}


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        (
            me.ListField(me.StringField(max_length=1)),
            ["a", "bb", 3],
            {"/value/1": "too_long", "/value/2": "wrong_type"},
        ),
        (me.ListField(me.ListField(me.IntField())), [[1], [2, "3"]], {"/value/1/1": "wrong_type"}),
        (me.MapField(me.IntField(max_value=9)), {"a/b~c": 10}, {"/value/a~1b~0c": "too_large"}),
        (me.MapField(me.IntField()), {"a.b": 1, "$c": 1}, {"/value/a.b": "key", "/value/$c": "key"}),
        (me.EmbeddedDocumentField(Line), {"done": 1}, {"/value/text": "required", "/value/done": "wrong_type"}),
        (me.EmbeddedDocumentField(Line), {"text": "a", "x/y": 1}, {"/value/x~1y": "unknown_field"}),
        (me.EmbeddedDocumentListField(Line), [{"text": "a"}, {"text": "milk x"}], {"/value/1/text": "too_long"}),
        (me.EmbeddedDocumentListField(Line), [{"text": "a"}, None], {"/value/1": "wrong_type"}),
        (me.ListField(me.ReferenceField(Notebook)), ["a", 1], {"/value/1": "wrong_type"}),
        (me.MapField(me.IntField()), {"[key]": "x"}, {"/value/[key]": "wrong_type"}),
    ],
)
def test_what_is_wrong_inside_a_value_is_named_by_its_pointer(
    field: BaseField, value: Any, error: dict[str, str]
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        schema_of(record_type("Inside", value=field)).load({"value": value})
    assert codes(refused.value) == error


def test_the_message_of_the_authors_own_rule_reaches_the_client() -> None:
    with pytest.raises(ValidationFailed) as refused:
        schema_of(TYPES["string with a rule"]).load({"value": "monday"})
    assert refused.value.causes[0].detail == "any day but monday"


@pytest.mark.real
def test_a_uuid_is_stored_in_the_form_that_every_language_reads() -> None:
    record = create(TYPES["UUID"], "ada", schema_of(TYPES["UUID"]).load({"value": UUID}))
    plain = (
        TYPES["UUID"]._get_collection().with_options(CodecOptions(uuid_representation=UuidRepresentation.UNSPECIFIED))
    )
    assert (plain.find_one({"_id": record["_id"]}) or {})["value"].subtype == UUID_SUBTYPE


def test_a_whole_number_for_a_float_is_stored_as_a_float() -> None:
    assert isinstance(schema_of(TYPES["float"]).load({"value": 1})["value"], float)


# --- JSON Schema -----------------------------------------------------------------------------------------------------

EXPRESSIBLE = {"wrong_type", "too_long", "too_short", "too_small", "too_large", "pattern", "not_allowed", "geojson"}


def expressible(kind: str, value: Any, code: str) -> bool:
    """Whether JSON Schema can say it: it knows no numbers in strings, nor base64."""
    if kind.startswith(("decimal", "dict", "binary", "long as")) and code != "wrong_type":
        return False
    return code in EXPRESSIBLE and not str(value).endswith("\n")


def validator(document: type[Record]) -> Draft202012Validator:
    made = json_schema.of_field(schema_of(document).fields["value"], "create")
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


@pytest.mark.parametrize(("document", "value"), GOOD)
def test_the_json_schema_of_a_field_accepts_a_good_value(document: type[Record], value: Any) -> None:
    validator(document).validate(value)


@pytest.mark.parametrize(
    ("document", "value"),
    [
        pytest.param(TYPES[name], bad[0], id=f"{name}-{n}")
        for name, case in CASES.items()
        for n, bad in enumerate(case.bad)
        if expressible(name, *bad[:2])
    ],
)
def test_the_json_schema_of_a_field_refuses_a_bad_value(document: type[Record], value: Any) -> None:
    assert not validator(document).is_valid(value)


@pytest.mark.parametrize("document", KINDS)
def test_the_json_schema_of_a_field_knows_whether_null_is_a_value(document: type[Record]) -> None:
    assert validator(document).is_valid(None) == schema_of(document).fields["value"].is_nullable


@pytest.mark.parametrize(
    ("field", "part"),
    [
        (me.IntField(default=3), {"description": "`3` where it is left out", "format": "int32"}),
        (me.EnumField(Mood, default=Mood.GOOD), {"description": 'one of "good", 1; `"good"` where it is left out'}),
        (me.IntField(choices=[1, 2]), {"description": "one of 1, 2"}),
        (me.LongField(required=True), {"format": "int64"}),
        (me.FloatField(required=True), {"format": "double"}),
        (me.DecimalField(required=True), {"type": "string", "examples": ["12.50"]}),
        (me.DateTimeField(required=True), {"format": "date-time"}),
        (me.DateField(required=True), {"format": "date"}),
        (me.UUIDField(required=True), {"format": "uuid"}),
        (me.EmailField(required=True), {"format": "email"}),
        (me.BinaryField(required=True), {"contentEncoding": "base64"}),
        (me.StringField(required=True, help_text="what it is"), {"description": "what it is"}),
    ],
)
def test_the_json_schema_of_a_field_tells_what_a_person_wants_to_know(field: BaseField, part: dict[str, Any]) -> None:
    made = json_schema.of_field(field_of(record_type("Told", value=field).value), "create")
    assert part.items() <= made.items()


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        (me.StringField(choices=["s", "m"], required=True), ["s", "m"]),
        (me.DecimalField(choices=[Decimal("1.10")], required=True), ["1.10"]),
        (me.DateField(choices=[date(2026, 11, 22)], required=True), ["2026-11-22"]),
    ],
)
def test_choices_are_called_by_what_declares_them(field: BaseField, choices: list[str]) -> None:
    made = json_schema.of_field(field_of(record_type("Told", value=field).value), "create")
    (told,) = made["allOf"]
    assert (told["title"], told["type"], told["enum"]) == ("ToldValue", "string", choices)


# --- What has no row -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (me.GenericReferenceField(), "ReferenceField"),
        (me.GenericLazyReferenceField(), "ReferenceField"),
        (me.GenericEmbeddedDocumentField(), "EmbeddedDocumentField"),
        (me.DynamicField(), "DictField"),
        (me.CachedReferenceField(Notebook), "ReferenceField"),
        (me.ComplexDateTimeField(), "DateTimeField"),
        (me.SequenceField(), "the server make the id"),
        (me.FileField(), "not JSON"),
        (me.ListField(me.DynamicField()), "DictField"),
        (me.ListField(), "name the field of its entries"),
        (me.MapField(me.GenericReferenceField()), "ReferenceField"),
    ],
)
def test_a_field_class_that_is_refused_says_why(field: BaseField, reason: str) -> None:
    with pytest.raises(UnsupportedField, match=reason):
        derive(record_type("Refused", value=field))


class OddField(BaseField):
    pass


@pytest.mark.parametrize("field", [OddField(), me.MultiPointField(auto_index=False)])
def test_an_unknown_field_class_stops_with_the_name_of_the_field_and_of_its_class(field: BaseField) -> None:
    with pytest.raises(UnsupportedField, match=rf"Odd\.value is a {type(field).__name__}"):
        derive(record_type("Odd", value=field))


def test_an_embedded_document_that_allows_inheritance_is_refused() -> None:
    class Shape(me.EmbeddedDocument):
        meta = {"allow_inheritance": True}

    with pytest.raises(UnsupportedField, match="Shape allows inheritance"):
        derive(record_type("Drawing", value=me.EmbeddedDocumentField(Shape)))


def test_an_embedded_document_that_holds_itself_is_derived_or_refused_with_a_reason() -> None:
    class Branch(me.EmbeddedDocument):
        twig = me.EmbeddedDocumentField("self")

    try:
        derive(record_type("Tree", value=me.EmbeddedDocumentField(Branch)))
    except UnsupportedField as refused:
        assert "Branch" in str(refused)  # noqa: PT017  either outcome is good


@pytest.mark.parametrize(
    ("field", "target"),
    [
        (me.ReferenceField(Notebook), Notebook),
        (me.LazyReferenceField(Notebook), Notebook),
        (me.ListField(me.ReferenceField(Notebook)), Notebook),
        (me.ListField(me.StringField()), None),
        (me.StringField(), None),
    ],
)
def test_a_reference_field_says_what_it_points_to(field: BaseField, target: Any) -> None:
    assert field_of(field).target is target


def test_of_times_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "KNOWN_TIMES", 2)
    texts = values.TimeTexts()
    assert [texts[datetime(2026, 11, day)] for day in (1, 2, 3)] == [
        f"2026-11-0{day}T00:00:00.000Z" for day in (1, 2, 3)
    ]
    assert list(texts) == [datetime(2026, 11, 3)]
