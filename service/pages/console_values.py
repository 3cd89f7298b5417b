"""Between the JSON of a record and the flat texts of a form, both ways; the name of an input is a JSON pointer.

`#` never stands in the name of a field, so what is behind it names a part of an input: the key of an entry of a map,
or one of the two numbers of a point. That a list or an embedded document is there, be it empty, an input says as well.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from mongoengine import fields as me

from service.core.errors import MalformedJson, ValidationFailed
from service.core.json_text import decode
from service.model.field import Field
from service.model.schema import Schema
from service.pages.console_kinds import input_kind

Flat = dict[str, str]
"""What a form sends: the text of each input by its name."""
SAID_TO_BE_THERE = {"list": "[]", "object": "{}", "map": "{}"}
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,40}")
LOCAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?")
TRUE, FALSE = "true", "false"
MOST_INPUTS = 1000


# --- From JSON -------------------------------------------------------------------------------------------------------


def flattened(fields: Mapping[str, Field], values: Mapping[str, Any], at: str = "") -> Flat:
    """Return the texts of the inputs of some fields with these values in JSON."""
    found: Flat = {}
    for name, field in fields.items():
        found |= flat_value(field, values.get(name), f"{at}/{name}")
    return found


def flat_value(field: Field, value: Any, at: str) -> Flat:
    """Return the texts of the inputs of one value, None where it is not set."""
    kind = input_kind(field)
    if kind in SAID_TO_BE_THERE:
        return {} if value is None else {at: SAID_TO_BE_THERE[kind], **dict(flat_parts(field, value, at))}
    if kind == "point":
        longitude, latitude = ("", "") if value is None else position_of(value)
        return {f"{at}#lon": longitude, f"{at}#lat": latitude}
    return {at: "" if value is None else WRITTEN_VALUE.get(kind, str)(value)}


def flat_parts(field: Field, value: Any, at: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of what is in a list, a map or an embedded document."""
    if field.is_list and field.entry is not None:
        for index, entry in enumerate(value):
            yield from flat_entry(field.entry, entry, f"{at}/{index}")
    elif field.is_map and field.entry is not None:
        for index, (key, entry) in enumerate(value.items()):
            yield f"{at}/{index}#key", key
            yield from flat_entry(field.entry, entry, f"{at}/{index}")
    else:
        yield from flattened(field.members, value, at).items()


def flat_entry(field: Field, value: Any, at: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of an entry, which is there whatever it holds."""
    yield from flat_value(field, value, at).items()
    if value is None and (kind := input_kind(field)) in SAID_TO_BE_THERE:
        yield at, SAID_TO_BE_THERE[kind]
        yield from flattened(field.members, {name: given(one) for name, one in field.members.items()}, at).items()


def given(field: Field) -> Any:
    """Return the default of a field in JSON form, None where it has none."""
    value = field.default()
    shape = field.meaning.shape(field.declared)
    return value if value is None or shape is None else shape(value)


def default_values(schema: Schema, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return what a new record has where nobody says anything else."""
    return {name: given(field) for name, field in fields.items()}


def position_of(value: Any) -> tuple[str, str]:
    """Return longitude and latitude of a point."""
    longitude, latitude = value["coordinates"] if isinstance(value, dict) else value
    return number_text(longitude), number_text(latitude)


def number_text(value: Any) -> str:
    """Return a number as JSON has it, without the point of a whole one."""
    return repr(value).removesuffix(".0")


def indented_json(value: Any) -> str:
    """Return JSON for people."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


WRITTEN_VALUE: Mapping[str, Callable[[Any], str]] = {
    "bool": lambda value: TRUE if value else FALSE,
    "choice": lambda value: orjson.dumps(value).decode(),
    "json": indented_json,
    "float": number_text,
    "time": lambda value: str(value).removesuffix("Z"),
}
"""How a value of some kind is written into its input; what is not here is its own text."""


# --- To JSON ---------------------------------------------------------------------------------------------------------


class Reading:
    """Reads a form; `moved` says which input a pointer into the JSON means, where it is another one."""

    def __init__(self, sent: Mapping[str, str]) -> None:
        """Take the form, whose line ends are made those of everybody but forms."""
        self.sent = {name: text.replace("\r\n", "\n") for name, text in sent.items()}
        self.moved: dict[str, str] = {}

    def body(self, fields: Mapping[str, Field]) -> dict[str, Any]:
        """Return the JSON that a form says of some fields, None for what is not set.

        What is no value of its kind stays the text that was typed, for the validators to refuse. Raises
        `ValidationFailed` for a character that no text may hold.
        """
        found = decode(json.dumps(self.members(fields, "", "")).encode())
        return found if isinstance(found, dict) else {}

    def members(self, fields: Mapping[str, Field], at: str, place: str) -> dict[str, Any]:
        """Return the values of the members of a document; `at` is the name of its input, `place` where JSON has it."""
        return {name: self.value(field, f"{at}/{name}", f"{place}/{name}") for name, field in fields.items()}

    def value(self, field: Field, at: str, place: str) -> Any:
        """Return the value of one field."""
        self.moved[place] = at
        kind = input_kind(field)
        if kind in SAID_TO_BE_THERE:
            return self.parts(field, at, place) if at in self.sent else [] if kind == "list" else None
        if kind == "point":
            return self.point(field, at)
        text = self.sent.get(at, "")
        if not text and ((kind != "long" and kind != "text") or field.is_nullable):
            return None
        return READ_TEXT.get(kind, str)(text)

    def parts(self, field: Field, at: str, place: str) -> Any:
        """Return a list, a map or an embedded document."""
        entry = field.entry
        if field.is_list and entry is not None:
            return [self.value(entry, name, f"{place}/{index}") for index, name in enumerate(self.entries(at))]
        if field.is_map and entry is not None:
            names = {self.sent.get(f"{name}#key", ""): name for name in self.entries(at)}
            return {key: self.value(entry, name, f"{place}/{key}") for key, name in names.items()}
        found = self.members(field.members, at, place)
        return {name: value for name, value in found.items() if value is not None or field.members[name].is_nullable}

    def entries(self, at: str) -> Iterator[str]:
        """Yield the names of the inputs of the entries of a list or a map."""
        for index in range(MOST_INPUTS):
            name = f"{at}/{index}"
            if name not in self.sent and f"{name}#lon" not in self.sent:
                return
            yield name

    def point(self, field: Field, at: str) -> Any:
        """Return a point, None where neither of its numbers is given."""
        typed = [self.sent.get(f"{at}#{part}", "").strip() for part in ("lon", "lat")]
        if typed == ["", ""]:
            return None
        position = [float_value(text) for text in typed]
        return position if isinstance(field.declared, me.GeoPointField) else {"type": "Point", "coordinates": position}


def whole_value(text: str) -> Any:
    """Return a whole number; what is none as it was typed."""
    return int(text) if WHOLE_NUMBER.fullmatch(text.strip()) else float_value(text)


def float_value(text: str) -> Any:
    """Return a number; what is none as it was typed."""
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def json_value(text: str) -> Any:
    """Return what a JSON text says; what is none as it was typed."""
    try:
        return decode(text.encode())
    except (MalformedJson, ValidationFailed):
        return text


def time_value(text: str) -> str:
    """Return a time in UTC; browsers leave out the zone, and seconds that are none."""
    found = LOCAL_TIME.fullmatch(text)
    return text if found is None else f"{text}{'' if found[1] else ':00'}Z"


def bool_value(text: str) -> Any:
    """Return true or false; what is neither as it was sent."""
    return {TRUE: True, FALSE: False}.get(text, text)


READ_TEXT: Mapping[str, Callable[[str], Any]] = {
    "bool": bool_value,
    "int": whole_value,
    "float": float_value,
    "choice": json_value,
    "json": json_value,
    "time": time_value,
}
"""What a text of some kind of input says; what is not here says itself."""


# --- What was changed ------------------------------------------------------------------------------------------------


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch (RFC 7396) that leads from one object to another."""
    found: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        was = before.get(name)
        if isinstance(was, dict) and isinstance(value, dict):
            if was != value:
                found[name] = merge_patch(was, value)
        elif name not in before or was != value or isinstance(was, bool) != isinstance(value, bool):
            found[name] = value
    return found


# --- Entries that come and go ----------------------------------------------------------------------------------------


def with_input(flat: Flat, fields: Mapping[str, Field], at: str) -> Flat:
    """Return a form with one more entry in the list or map at `at`, or with the embedded document there."""
    field = field_at(fields, at)
    if field is None:
        return flat
    if field.entry is None:
        return {**flat, **dict(flat_entry(field, None, at))}
    name = f"{at}/{len(list(Reading(flat).entries(at)))}"
    key = {f"{name}#key": ""} if field.is_map else {}
    return {**flat, at: SAID_TO_BE_THERE[input_kind(field)], **key, **dict(flat_entry(field.entry, None, name))}


def without_input(flat: Flat, at: str) -> Flat:
    """Return a form without what is at `at`; the entries behind it move up."""
    outer, _, last = at.rpartition("/")
    left = {name: text for name, text in flat.items() if not within(name, at)}
    if not last.isdecimal():
        return left
    moved: Flat = {}
    for name, text in left.items():
        found = re.match(rf"{re.escape(outer)}/(\d+)(?=[/#]|$)", name)
        behind = found is not None and int(found[1]) > int(last)
        moved[f"{outer}/{int(found[1]) - 1}{name[found.end() :]}" if found is not None and behind else name] = text
    return moved


def within(name: str, at: str) -> bool:
    """Tell whether an input belongs to what is at `at`."""
    return name == at or name.startswith((f"{at}/", f"{at}#"))


def field_at(fields: Mapping[str, Field], at: str) -> Field | None:
    """Return the field whose input has a name; None for what is no such name."""
    found: Field | None = None
    for step in at.split("/")[1:]:
        if found is not None and found.entry is not None:
            found = found.entry if step.isdecimal() else None
        else:
            found = (fields if found is None else found.members).get(step)
        if found is None:
            return None
    return found
