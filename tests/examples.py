"""Records of any type, made up from what its class declares and from what its rules say: no type is named here."""

import base64
import re
import string
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import date, datetime
from typing import Any

from hypothesis import HealthCheck, Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from mongoengine import fields as me

from service.core.errors import ValidationFailed
from service.documents import Account
from service.model import example
from service.model.field import Field
from service.model.json_schema import of_value
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.model.schema import Schema
from service.model.unique import Unique
from tests.client import Person
from tests.uploading import upload

Json = dict[str, Any]
Values = st.SearchStrategy[Any]
Hints = tuple[str, ...]
SEARCH = settings(
    phases=[Phase.generate],
    max_examples=500,
    database=None,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

SHORT = settings(SEARCH, max_examples=100)


# Values of a field, the simplest first

LETTERS = string.ascii_letters + string.digits
PRINTED = st.characters(codec="ascii", exclude_categories=["C"])
FORMATS: Mapping[str, Values] = {
    "date-time": st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(lambda time: f"{time.isoformat()}Z"),
    "date": st.dates(date(1970, 1, 1), date(2100, 1, 1)).map(date.isoformat),
    "uuid": st.uuids().map(str),
    "email": st.text(LETTERS, min_size=1, max_size=10).map("{}@example.com".format),
}
POSITIONS = st.tuples(st.integers(-180, 180), st.integers(-90, 90)).map(list)


def values(field: Field, hints: Hints = ()) -> Values:
    """Values that a field may well take. The service has said the `hints` of what would be right: their words too."""
    if field.is_reference:
        return st.just("a-record")
    if field.document is not None:
        return members(field.members, hints)
    if field.entry is not None:
        least = max(getattr(field.declared, "min_length", None) or 0, int(field.is_required))
        most = min(getattr(field.declared, "max_length", None) or least + 2, least + 2)
        entries = values(field.entry, hints)
        names = st.text(string.ascii_lowercase, min_size=1, max_size=5)
        return st.lists(entries, min_size=least, max_size=most) if field.is_list else st.dictionaries(names, entries)
    if isinstance(field.declared, me.GeoPointField):
        return POSITIONS
    if isinstance(field.declared, me.PointField):
        return POSITIONS.map(lambda position: {"type": "Point", "coordinates": position})
    if isinstance(field.declared, me.LineStringField | me.PolygonField):
        return st.just(example.sample(field))
    return of_schema(of_value(field, "create"), hints)


def members(fields: Mapping[str, Field], hints: Hints = ()) -> Values:
    """Objects with those of these members that have to be there, and any of the others."""
    given = {name: (field, values(field, hints)) for name, field in fields.items() if field.is_given_by_clients}
    needed = {name: made for name, (field, made) in given.items() if field.is_named_at_creation}
    return st.fixed_dictionaries(
        needed, optional={name: made for name, (_, made) in given.items() if name not in needed}
    )


def of_schema(schema: Json, hints: Hints) -> Values:
    """Values that a schema without members allows."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    made = KINDS[schema["type"]](schema, hints)
    return st.sampled_from(schema["examples"]) | made if "examples" in schema else made


def texts(schema: Json, hints: Hints) -> Values:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
    size = max(least, min(1, most))
    if schema.get("contentEncoding") == "base64":
        made: Values = st.binary(max_size=20).map(lambda value: base64.b64encode(value).decode())
    elif "pattern" in schema:
        made = st.from_regex(schema["pattern"], alphabet=PRINTED)
    elif schema.get("format") in FORMATS:
        made = FORMATS[schema["format"]]
    elif schema.get("format") == "decimal":
        made = st.decimals(-1000, 1000, places=2).map(str)
    else:
        made = st.text(LETTERS + " ", min_size=size, max_size=min(most, size + 20))
    words = [word for hint in hints for word in re.findall(r"[^\s,;`'\"]+", hint)]
    patterns = [hint.removeprefix(MATCHING) for hint in hints if hint.startswith(MATCHING)]
    told = [st.sampled_from(words)] if words else []
    told += [st.from_regex(pattern, alphabet=PRINTED) for pattern in patterns]
    return st.one_of(*told, made).filter(lambda text: least <= len(text) <= most)


MATCHING = "text that matches "


def integers(schema: Json, _hints: Hints) -> Values:
    return st.integers(schema.get("minimum", -(10**6)), schema.get("maximum", 10**6))


def fractions(schema: Json, _hints: Hints) -> Values:
    least, most = max(schema.get("minimum", -1e6), -1e300), min(schema.get("maximum", 1e6), 1e300)
    return st.floats(least, most, allow_nan=False, allow_subnormal=False)


KINDS: Mapping[str, Callable[[Json, Hints], Values]] = {
    "string": texts,
    "integer": integers,
    "number": fractions,
    "boolean": lambda _schema, _hints: st.booleans(),
    "object": lambda _schema, _hints: st.dictionaries(st.text(string.ascii_lowercase, min_size=1), st.integers(0, 9)),
}


# Bodies that a type takes, in which a reference is any text


def refused(schema: Schema, body: Json) -> dict[str, Hints]:
    """The fields of a body that are not taken, each with what would be right; "" for the whole."""
    found: dict[str, Hints] = {}
    try:
        schema.load(deepcopy(body))
    except ValidationFailed as error:
        for cause in error.causes:
            name = (cause.pointer or "").split("/")[1] if cause.pointer else ""
            found[name] = (*found.get(name, ()), cause.detail)
    return found


def least_body(schema: Schema) -> Json:
    """The example that the class tells, or values for what is required and whatever else its rules ask for.

    What can be made up is, as the API document shows it; the rest is searched for.
    """
    told = schema.document._meta.get("example")
    body = {**(told or example.needed(schema))}
    for name, field in schema.fields.items():
        if field.is_named_at_creation and name not in body:
            body[name] = find(values(field), lambda _: True, settings=SEARCH)
    try:
        return mended(schema, body)
    except NoSuchExample:
        raise AssertionError(
            f"no {schema.document.__name__} was found that its rules take, they said {refused(schema, body)}; "
            'tell one in `meta["example"]` of the class: docs/extending.md'
        ) from None


def mended(schema: Schema, body: Json) -> Json:
    """The body with other values where it is refused, one after the other; else with others anywhere.

    Raises `NoSuchExample`.
    """
    body = {**body}
    for _ in schema.fields:
        wrong = refused(schema, body)
        if not wrong:
            return body
        if not wrong.keys() <= schema.fields.keys():
            break
        for name, hints in wrong.items():
            body[name] = find(
                values(schema.fields[name], hints),
                lambda value, name=name: name not in refused(schema, {**body, name: value}),
                settings=SEARCH,
            )
    return {**body, **find(members(schema.fields), lambda more: not refused(schema, {**body, **more}), settings=SEARCH)}


def varied(record: RecordType, body: Json, used: dict[Unique, list[Any]]) -> Json:
    """The body with other values where no two records may have the same, if some are soon found."""
    body = {**body}
    for unique in record.uniques:
        taken = used.setdefault(unique, [])
        names = dict.fromkeys(place.root.name for place in unique.given if place.root.name in body)
        if taken and names:
            with suppress(NoSuchExample):
                found = find(
                    st.fixed_dictionaries({name: values(record.schema.fields[name]) for name in names}),
                    lambda some, taken=taken, unique=unique: (
                        told(unique, {**body, **some}) not in taken and not refused(record.schema, {**body, **some})
                    ),
                    settings=SHORT,
                )
                body.update(found)
        taken.append(told(unique, body))
    return body


def told(unique: Unique, body: Json) -> Any:
    """What a body has where no two records may have the same."""
    return [list(place.json_values(body)) for place in unique.given]


# Records


class Examples:
    """Makes records of any type for somebody who is signed in."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.registry: Registry = person.client.application.extensions["madang.registry"]
        self.found: dict[str, Json] = {}
        self.used: dict[str, dict[Unique, list[Any]]] = {}
        self.begun: list[str] = []

    def make(self, collection: str, **more: Any) -> Json:
        """A new record with what it needs, and nothing else."""
        return self.sent(collection, {**self.least(collection), **more})

    def sent(self, collection: str, body: Json) -> Json:
        if self.registry[collection].is_file:
            return upload(self.person, body)
        answer = self.person.post(f"/v1/{collection}", body)
        assert answer.status_code == 201, answer.json
        made: Json = answer.json
        return made

    def least(self, collection: str) -> Json:
        """A body that makes a record with what it needs, and what the class tells in its example."""
        if collection not in self.found:
            self.found[collection] = least_body(self.registry[collection].schema)
        return self.fresh(collection, self.found[collection])

    def body(self, collection: str) -> Json:
        """A body that makes a record with all that can be made up, as far as it is unlike those before it."""
        self.least(collection)
        return self.fresh(collection, example.completed(self.registry[collection].schema, self.found[collection]))

    def changeable(self, collection: str, body: Json) -> Json:
        """What of a body a patch may name."""
        fields = self.registry[collection].schema.fields
        return {name: value for name, value in body.items() if fields[name].is_patched}

    def fresh(self, collection: str, body: Json) -> Json:
        """A body that no other record stands in the way of, with ids of records that are there as its references."""
        record = self.registry[collection]
        body = deepcopy(varied(record, body, self.used.setdefault(collection, {})))
        for reference in record.references.values():
            for steps, _ in list(reference.place.json_values(body)):
                *outer, last = steps
                around: Any = body
                for step in outer:
                    around = around[step]
                around[last] = self.target(reference.target, collection)
        return body

    def target(self, document: Any, of: str) -> str:
        """The id of the person, or of a new record, for a record of the collection `of`."""
        if document is Account:
            return self.person.id
        name: str = document._meta["collection"]
        assert name not in (*self.begun, of), f"a first record of {name} would have to refer to another one"
        self.begun.append(of)
        try:
            return str(self.make(name)["id"])
        finally:
            self.begun.pop()
