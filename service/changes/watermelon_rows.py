"""Rows as WatermelonDB has them: flat, times as milliseconds, and what has parts as JSON text.

A column can hold a text, a number or a boolean, and one that is not optional holds `""`, `0` or `false` for null.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Literal

import orjson
from mongoengine import fields as me

from service.core.errors import Cause, MalformedJson, ValidationFailed, pointer
from service.core.json_text import decode
from service.model import json_schema
from service.model.field import Field
from service.model.json_schema import Json
from service.model.record_type import RecordType
from service.model.values import time_text
from service.mongo.raw import Raw

ColumnKind = Literal["plain", "time", "text of JSON"]

EPOCH = datetime(1970, 1, 1)
MILLISECOND = timedelta(milliseconds=1)
OWN_COLUMNS = frozenset({"_status", "_changed"})
"""What the library keeps in a row for itself."""
EMPTY: tuple[Any, ...] = ("", 0, False)
"""What a column that is not optional holds in place of null."""


def kind_of(field: Field) -> ColumnKind:
    """Return in which form a column holds the values of a field."""
    if isinstance(field.declared, me.DateTimeField) and not isinstance(field.declared, me.DateField):
        return "time"
    made = json_schema.of_value(field, "read")
    return "text of JSON" if made.get("type") in ("array", "object") else "plain"


class Columns:
    """The columns of the table of a record type, by the names of its fields."""

    def __init__(self, type: RecordType) -> None:
        self.type = type
        self.kinds: dict[str, ColumnKind] = {name: kind_of(field) for name, field in type.schema.fields.items()}
        self.times = [name for name, kind in self.kinds.items() if kind == "time"]
        self.texts = [name for name, kind in self.kinds.items() if kind == "text of JSON"]

    def row(self, record: Raw) -> dict[str, Any]:
        """Return a stored record as a row."""
        row = self.type.schema.dump(record)
        for name in self.times:
            if row[name] is not None:
                row[name] = milliseconds(row[name])
        for name in self.texts:
            if row[name] is not None:
                row[name] = orjson.dumps(row[name]).decode()
        return row

    def values(self, row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
        """Return what a row has in those of its columns that are named, in JSON form.

        Raises `ValidationFailed` where a column has not the form that it should have.
        """
        found: dict[str, Any] = {}
        wrong: list[Cause] = []
        for name in names:
            try:
                found[name] = self.value(name, row[name])
            except ValidationFailed as error:
                wrong += error.causes
        if wrong:
            raise ValidationFailed(wrong)
        return found

    def value(self, name: str, value: Any) -> Any:
        """Return the JSON form of a value of a column; raises `ValidationFailed`."""
        kind, field = self.kinds[name], self.type.schema.fields[name]
        if value == "" and (kind == "text of JSON" or field.is_reference):
            return None
        if value is None or kind == "plain":
            return value
        return time_from(name, value) if kind == "time" else decoded_parts(name, value)

    def has_all_of(self, record: Raw, row: Mapping[str, Any]) -> bool:
        """Tell whether a client that has sent a row has all of the record that is stored."""
        stored = self.row(record)
        return all(holds(value, stored[name]) for name, value in row.items() if name in stored)

    def json_schema(self) -> Json:
        """Return the JSON Schema of a row."""
        fields = self.type.schema.fields
        return {
            "title": f"{self.type.document.__name__}Row",
            "type": "object",
            "description": "A record as a flat row.",
            "properties": {name: of_column(fields[name], kind) for name, kind in self.kinds.items()},
            "required": list(self.kinds),
            "additionalProperties": False,
        }


@cache
def columns_of(type: RecordType) -> Columns:
    """Return the columns of a record type, made at their first use."""
    return Columns(type)


def milliseconds(text: str) -> int:
    """Return an RFC 3339 time in UTC as milliseconds since 1970."""
    return (datetime.fromisoformat(text[:-1]) - EPOCH) // MILLISECOND


def time_from(name: str, value: Any) -> str:
    """Return milliseconds since 1970 as RFC 3339 text; raises `ValidationFailed`."""
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    try:
        if whole:
            return time_text(EPOCH + int(value) * MILLISECOND)
    except OverflowError:
        pass
    raise ValidationFailed([Cause("time", "milliseconds since 1970, as a whole number", pointer=pointer(name))])


def decoded_parts(name: str, value: Any) -> Any:
    """Return the list or object that a JSON text says; raises `ValidationFailed`."""
    if not isinstance(value, str):
        raise ValidationFailed([Cause("wrong_type", "JSON text", pointer=pointer(name))])
    try:
        return decode(value.encode())
    except MalformedJson as error:
        raise ValidationFailed([Cause("json", error.detail, pointer=pointer(name))]) from None
    except ValidationFailed as error:
        raise ValidationFailed([Cause("nul", "text without NUL characters", pointer=pointer(name))]) from error


def holds(sent: Any, stored: Any) -> bool:
    """Tell whether a column in which a client has sent a value holds one that is stored."""
    if stored is None:
        return sent is None or sent in EMPTY
    return type(sent) is type(stored) and bool(sent == stored)


def of_column(field: Field, kind: ColumnKind) -> Json:
    """Return the JSON Schema of what a column holds."""
    if kind == "plain":
        return json_schema.of_field(field, "read")
    texts = {"time": "milliseconds since 1970", "text of JSON": "JSON text"}
    held: Json = {"type": "integer", "format": "int64"} if kind == "time" else {"type": "string"}
    shown = json_schema.description(field, "read")
    made = {"anyOf": [held, {"type": "null"}]} if field.is_nullable else held
    return {**made, "description": "; ".join(filter(None, [texts[kind], shown]))}
