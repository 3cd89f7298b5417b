"""From documents of other software to the JSON that a client would send of them, field by field.

What has one meaning is translated: an ObjectId where a text or an id is due, a BSON date where a time is. What has none
is left as it is or named with its place, for the validators and whoever reads their causes.
"""

import math
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from bson import DBRef, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from mongoengine import fields as me

from service.core.errors import MOST_CAUSES, Cause, pointer
from service.core.json_text import MAX_LEVELS
from service.model.field import Field
from service.model.values import bytes_text, date_text, integral, time_text

Ignored = Mapping[str, "Ignored"]
"""The names of members that are left out, each with those below it; one with none below is left out itself."""
TEXT_LIKE = me.StringField | me.ObjectIdField | me.UUIDField
DECIMALS = me.DecimalField | me.Decimal128Field
EXISTING_TIME = "a time between the years 1 and 9999"


def ignored(paths: tuple[str, ...]) -> Ignored:
    """Return what some dotted paths name; lists and maps are called as they are, as in `Place.name`."""
    tree: dict[str, Any] = {}
    # The whole of something comes after its parts, and takes their place.
    for path in sorted(paths, key=lambda path: -path.count(".")):
        *outer, last = path.split(".")
        around = tree
        for name in outer:
            around = around.setdefault(name, {})
        around[last] = {}
    return tree


def id_text(value: Any) -> str | None:
    """Return what other software has as an id, as text; None where that is not one thing.

    An ObjectId is its 24 hexadecimal digits, a UUID its usual text, a whole number its digits.
    """
    number = integral(value)
    if isinstance(number, int) and not isinstance(number, bool):
        return str(int(number))
    return str(value) if isinstance(value, str | ObjectId | uuid.UUID) else None


def pointed_id(value: Any) -> str | None:
    """Return the id in a reference as text: in a DBRef, in Parse's `Class$id`, or the id itself; else None."""
    text = id_text(value.id if isinstance(value, DBRef) else value)
    # No id has a `$` in it.
    return text.rpartition("$")[2] if text else None


def member_at(document: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a dotted path through embedded documents, None where nothing does."""
    found: Any = document
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


class Translation:
    """One document on its way to JSON, and the `causes` that are found on it, with pointers into the document."""

    def __init__(self) -> None:
        self.causes: list[Cause] = []

    def refuse(self, code: str, detail: str, *place: str | int) -> None:
        """Name something that is not right, unless enough is named."""
        if len(self.causes) < MOST_CAUSES:
            self.causes.append(Cause(code, detail, pointer=pointer(*place)))

    def members(
        self, fields: Mapping[str, Field], document: Mapping[str, Any], ignored: Ignored, *place: str | int
    ) -> dict[str, Any]:
        """Return the members of a document by the names of their fields; what is null is not there.

        A field goes by its name, and where that is not there by the one that MongoDB has.
        """
        stored = {field.stored: field for field in fields.values() if field.name not in document}
        body: dict[str, Any] = {}
        for name, value in document.items():
            below = ignored.get(name, {})
            if value is None or (name in ignored and not below):
                continue
            field = fields.get(name) or stored.get(name)
            # Of what nobody knows only the name is told.
            known = field is not None
            body[field.name if field else name] = self.content(field, value, below, *place, name) if known else None
        return body

    def content(self, field: Field | None, value: Any, ignored: Ignored, *place: str | int) -> Any:
        """Return the value of a field as JSON has it."""
        if field is None:
            return value
        if field.document is not None and isinstance(value, Mapping):
            return self.members(field.members, value, ignored, *place)
        if field.is_list and isinstance(value, list):
            return [self.content(field.entry, entry, ignored, *place, index) for index, entry in enumerate(value)]
        if field.is_map and isinstance(value, Mapping):
            return {key: self.content(field.entry, entry, ignored, *place, key) for key, entry in value.items()}
        return self.leaf(field, value, *place)

    def leaf(self, field: Field, value: Any, *place: str | int) -> Any:
        """Return a value in one piece as JSON has it."""
        declared = field.declared
        if field.is_reference:
            found = pointed_id(value)
            return value if found is None else found
        if isinstance(value, DatetimeMS):
            self.refuse("time", EXISTING_TIME, *place)
            return value
        if isinstance(declared, me.DateTimeField):
            return self.time(declared, value, *place)
        for kinds, of_fields, write in LEAVES:
            if isinstance(declared, of_fields) and isinstance(value, kinds) and not isinstance(value, bool):
                return write(value)
        return value

    def time(self, declared: Any, value: Any, *place: str | int) -> Any:
        """Return a time, or a day, as text."""
        if not isinstance(value, datetime):
            return value
        if not isinstance(declared, me.DateField):
            return time_text(value)
        if value != datetime(value.year, value.month, value.day):
            self.refuse("date", "a day: midnight in UTC", *place)
        return date_text(value)


LEAVES: tuple[tuple[Any, Any, Callable[[Any], Any]], ...] = (
    ((ObjectId, uuid.UUID), TEXT_LIKE, str),
    (Decimal128, DECIMALS, lambda value: str(value.to_decimal())),
    (int, DECIMALS, lambda value: str(int(value))),
    (float, DECIMALS, repr),
    (bytes, me.BinaryField, bytes_text),
    (Int64, object, int),
    (list, me.PointField, lambda value: {"type": "Point", "coordinates": value}),
)
"""The types of values that are translated, in which fields, and how. The last are MongoDB's older pairs of numbers."""


def unsayable(value: Any, *place: str | int) -> Iterator[Cause]:
    """Yield a cause for all in a body that JSON cannot say or the service would not keep, wherever it stands."""
    if isinstance(value, str):
        yield from of_text(value, *place)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Cause("not_finite", "a number that is finite", pointer=pointer(*place))
    elif isinstance(value, dict | list):
        if len(place) > MAX_LEVELS:
            yield Cause("too_deep", f"at most {MAX_LEVELS} levels", pointer=pointer(*place))
            return
        for step, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from of_text(step, *place, step) if isinstance(step, str) else ()
            yield from unsayable(member, *place, step)
    elif not isinstance(value, int | None):
        detail = "text, a number, true, false, a list or an object: what JSON has"
        yield Cause("wrong_type", detail, pointer=pointer(*place))


def of_text(text: str, *place: str | int) -> Iterator[Cause]:
    """Yield a cause for a text with NUL, or with bytes in it that were no UTF-8."""
    if "\0" in text:
        yield Cause("nul", "text without NUL characters", pointer=pointer(*place))
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        told = (part.encode(errors="replace").decode() if isinstance(part, str) else part for part in place)
        yield Cause("text", "text in UTF-8", pointer=pointer(*told))
