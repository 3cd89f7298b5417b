"""A body that the service takes, made up from what a document declares."""

from typing import Any, Literal

from mongoengine import fields as me

from service.core.errors import ValidationFailed
from service.model.field import Field
from service.model.json_schema import Json, of_value
from service.model.schema import Schema

NO_VALUE = object()
SAMPLES: Json = {
    "date": "2026-11-22",
    "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "email": "ada@example.com",
}
SEOUL = [126.978, 37.566]
COORDINATES = {
    me.PointField: SEOUL,
    me.LineStringField: [SEOUL, [126.99, 37.57]],
    me.PolygonField: [[SEOUL, [126.99, 37.57], [126.99, 37.56], SEOUL]],
}


def example_of(schema: Schema, purpose: Literal["create", "patch"]) -> Json | None:
    """Return a body that `schema` takes, None where a required member cannot be made up.

    Of the members that may be left out it has those that can be made up. A patch has one member.
    """
    given = [field for field in schema.fields.values() if field.is_given_by_clients and not field.owner_only]
    made: Json = {}
    for field in sorted(given, key=lambda field: not field.is_named_at_creation):
        value = sample(field)
        if value is not NO_VALUE and (field.is_named_at_creation or is_good(schema, {**made, field.name: value})):
            made[field.name] = value
    if not is_good(schema, made):
        return None
    patched = [field.name for field in given if field.is_patched and field.name in made]
    return made if purpose == "create" else {name: made[name] for name in patched[:1]}


def is_good(schema: Schema, body: Json) -> bool:
    """Tell whether a body is taken."""
    try:
        schema.load(body)
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
    for kind, coordinates in COORDINATES.items():
        if isinstance(field.declared, kind):
            return {"type": kind.__name__.removesuffix("Field"), "coordinates": coordinates}
    return of_schema(of_value(field, "create"))


def of_schema(made: Json) -> Any:
    """Return a value that a JSON Schema of no members may well take, or `NO_VALUE`."""
    if choices := made.get("enum") or made.get("then", {}).get("enum"):
        return choices[0]
    if told := made.get("examples"):
        return told[0]
    kind = made.get("type")
    if kind == "string":
        text = SAMPLES.get(made.get("format", ""), "Text")
        return (
            (text * made.get("minLength", 1))[: made.get("maxLength", 100)]
            if len(text) < made.get("minLength", 0)
            else text
        )
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        return max(made.get("minimum", 1), min(1, made.get("maximum", 1)))
    return {} if kind == "object" and "properties" not in made else NO_VALUE
