"""A body that the service takes, made up from what a document declares."""

from decimal import Decimal
from typing import Any, Literal

from bson import Decimal128
from mongoengine import fields as me

from service.core.errors import ValidationFailed
from service.model.field import Field
from service.model.json_schema import Json, choices_of, of_value
from service.model.schema import Schema
from service.model.validation import Validator, validate
from service.model.values import decimal_text

NO_VALUE = object()
TEXTS: Json = {
    "date": "2026-11-22",
    "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "email": "ada@example.com",
    "int64": "1",
}
"""Text of a format."""
SEOUL = [126.978, 37.566]
VALUES = {
    me.PointField: {"type": "Point", "coordinates": SEOUL},
    me.LineStringField: {"type": "LineString", "coordinates": [SEOUL, [126.99, 37.57]]},
    me.PolygonField: {"type": "Polygon", "coordinates": [[SEOUL, [126.99, 37.57], [126.99, 37.56], SEOUL]]},
    me.GeoPointField: SEOUL,
    me.URLField: "https://example.com/",
    me.ObjectIdField: "507f1f77bcf86cd799439011",
    me.BinaryField: "aGVsbG8=",
}
"""What no JSON Schema tells."""


def example_of(schema: Schema, purpose: Literal["create", "patch"]) -> Json | None:
    """Return a body that `schema` takes, None where a required member cannot be made up.

    It is the `example` that the class tells in its `meta`; else it has, of the members that may be left out, those that
    can be made up. A patch has one member.
    """
    told = schema.document._meta.get("example")
    made = {**told} if told else completed(schema, needed(schema))
    whole = made if is_whole(schema, made) else None
    return whole if purpose == "create" else example_of_patch(schema, whole or {})


def example_of_patch(schema: Schema, made: Json) -> Json | None:
    """Return a patch of one field: the first in the body of a new document, else the first with a value to make up."""
    patched = [field for field in schema.fields.values() if field.is_patched and not field.owner_only]
    for field in sorted(patched, key=lambda field: field.name not in made):
        value = made.get(field.name, sample(field))
        if value is not NO_VALUE and is_taken(schema.patch_body, {field.name: value}):
            return {field.name: value}
    return None


def needed(schema: Schema) -> Json:
    """Return values for the members that a new document has to name, as far as they can be made up."""
    required = {name: sample(field) for name, field in schema.fields.items() if field.is_named_at_creation}
    return {name: value for name, value in required.items() if value is not NO_VALUE}


def completed(schema: Schema, body: Json) -> Json:
    """Return a body that makes a document with each member more that can be made up, and with which it still does."""
    made = {**body}
    for name, field in schema.fields.items():
        if name in made or not field.is_given_by_clients or field.owner_only:
            continue
        value = sample(field)
        if value is not NO_VALUE and is_whole(schema, {**made, name: value}):
            made[name] = value
    return made


def is_whole(schema: Schema, body: Json) -> bool:
    """Tell whether a body makes a document."""
    try:
        schema.load(body)
    except ValidationFailed:
        return False
    return True


def is_taken(by: Validator, body: Json) -> bool:
    """Tell whether a validator takes a body."""
    try:
        validate(by, body)
    except ValidationFailed:
        return False
    return True


def sample(field: Field) -> Any:
    """Return a value that a field may well take, or `NO_VALUE`."""
    if field.is_reference:
        return NO_VALUE
    if field.document is not None:
        members = {name: sample(member) for name, member in field.members.items() if not member.read_only}
        return {name: value for name, value in members.items() if value is not NO_VALUE}
    if field.entry is not None:
        entry = sample(field.entry)
        return NO_VALUE if entry is NO_VALUE else [entry] if field.is_list else {"key": entry}
    declared = field.declared
    if isinstance(declared, me.DecimalField | me.Decimal128Field) and not declared.choices:
        return sample_decimal(declared)
    known = next((value for kind, value in VALUES.items() if isinstance(declared, kind)), None)
    return known if known is not None and not declared.choices else of_schema(of_value(field, "create"))


def sample_decimal(declared: Any) -> str:
    """Return a decimal between the limits of a field, with its digits."""
    number = Decimal("12.50")
    number = number if declared.min_value is None else max(number, Decimal(declared.min_value))
    number = number if declared.max_value is None else min(number, Decimal(declared.max_value))
    return decimal_text(declared)(Decimal128(number) if isinstance(declared, me.Decimal128Field) else number)


def of_schema(made: Json) -> Any:
    """Return a value that a JSON Schema of no members may well take, or `NO_VALUE`."""
    if choices := choices_of(made):
        return choices[0]
    if examples := made.get("examples"):
        return examples[0]
    kind = made.get("type")
    if kind == "string":
        return sample_text(made)
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        return max(made.get("minimum", 1), min(1, made.get("maximum", 1)))
    return {"key": "Text"} if kind == "object" and "properties" not in made else NO_VALUE


def sample_text(made: Json) -> str:
    """Return text of the format and the length that a JSON Schema asks for."""
    text = str(TEXTS.get(made.get("format", ""), "Text"))
    least = made.get("minLength", 0)
    return (text if len(text) >= least else text * least)[: made.get("maxLength", max(least, len(text)))]
