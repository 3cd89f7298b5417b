"""The one table from MongoEngine's field classes to what they mean in JSON, in MongoDB and in OpenAPI."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import mongoengine
from annotated_types import Ge, Le, MaxLen, MinLen
from bson import Decimal128, ObjectId
from mongoengine import fields as me
from mongoengine.base import BaseField, ComplexBaseField
from pydantic import AfterValidator, WithJsonSchema

from service.model.stored_values import (
    WHOLE_NUMBERS,
    Kinds,
    as_it_is,
    double,
    is_free,
    is_line,
    is_point,
    is_polygon,
    is_position,
    long_number,
    member_kinds,
    number_kinds,
    short_number,
)
from service.model.values import (
    DECIMAL_TEXT,
    EMAIL,
    LONG_INTEGER,
    POSITION,
    bytes_text,
    date_text,
    decimal_parser,
    decimal_text,
    geojson,
    long_text,
    many,
    object_id_text,
    parse_bytes,
    parse_date,
    parse_email,
    parse_float,
    parse_free,
    parse_line,
    parse_long,
    parse_object_id,
    parse_polygon,
    parse_position,
    parse_time,
    parse_uuid,
    parsed,
    time_compared,
    time_text,
    uuid_text,
    wrong,
)

ORDER = frozenset({"$gt", "$gte", "$lt", "$lte"})
EQUAL = frozenset({"$eq", "$ne", "$in", "$nin", "$exists"})
COMPARE = EQUAL | ORDER
TEXT = COMPARE | {"$prefix"}
LIST_OPERATORS = frozenset({"$all", "$elemMatch", "$size"})
PRESENT = frozenset({"$exists"})

NUMBER_UPDATES = frozenset({"$inc", "$min", "$max"})
ORDER_UPDATES = frozenset({"$min", "$max"})
LIST_UPDATES = frozenset({"$push", "$add_to_set", "$pull"})
NO_UPDATES: frozenset[str] = frozenset()


class UnsupportedField(TypeError):
    """A document has a field that cannot be derived; the service does not start."""


class InvalidDocument(TypeError):
    """A document declares what cannot be served; the service does not start."""


def matching(pattern: re.Pattern[str], detail: str) -> Any:
    """Return the rule that a string matches a regular expression from its start, as MongoEngine's `regex` does."""

    def check(value: str) -> str:
        match = pattern.match(value)
        # Python's `$` also matches before a newline at the end, which would let "name\n" pass.
        if match is None or ("$" in pattern.pattern and value.endswith("\n") and match.end() < len(value)):
            raise wrong("pattern", detail)
        return value

    return AfterValidator(check)


def passing(validate: Callable[[Any], Any], detail: str | None = None, kind: str = "not_valid") -> Any:
    """Return the rule that one of MongoEngine's own validators passes; `detail` or its message says what is right."""

    def check(value: Any) -> Any:
        try:
            validate(value)
        except (mongoengine.ValidationError, ValueError) as error:
            raise wrong(kind, detail or getattr(error, "message", None) or str(error)) from error
        return value

    return AfterValidator(check)


def whole_line(validate: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a validator that does not overlook a newline at the end, as Python's `$` does."""

    def check(value: str) -> None:
        if value.endswith("\n"):
            raise ValueError(value)
        validate(value)

    return check


def own_rules(field: BaseField) -> Iterator[Any]:
    """Yield what a document's author added to a field: `choices`, `validation=`, or a field class of their own."""
    if field.choices and not isinstance(field, me.EnumField):
        allowed = stored_choices(field)
        shape = meaning(field).shape(field)
        told = allowed if shape is None else [shape(choice) for choice in allowed]
        yield AfterValidator(one_of(allowed, told))
        yield WithJsonSchema(enumerated(told))
    if field.validation is not None:
        yield passing(field.validation)
    if not type(field).__module__.startswith("mongoengine."):
        yield passing(field.validate)


def member_parser(field: BaseField) -> Callable[[Any], Any]:
    """Return the parser of the value of an enum's member; `1` and `1.0` are one value, `true` is another."""
    values = [member.value for member in field.choices]

    def parse(value: Any) -> Any:
        for known in values:
            if value == known and isinstance(value, bool) == isinstance(known, bool):
                return known
        raise wrong("not_allowed", "one of " + ", ".join(map(repr, values)))

    return parse


def stored_choices(field: BaseField) -> list[Any]:
    """Return the choices of a field in BSON form; each may stand in a pair with its name for people."""
    allowed = [choice[0] if isinstance(choice, list | tuple) else choice for choice in field.choices]
    return allowed if isinstance(field, ComplexBaseField) else list(map(field.to_mongo, allowed))


def one_of(allowed: list[Any], told: list[Any]) -> Callable[[Any], Any]:
    """Return the check that a value stands in a list, which is `told` in its JSON form."""

    def check(value: Any) -> Any:
        if value not in allowed:
            raise wrong("not_allowed", "one of " + ", ".join(map(repr, told)))
        return value

    return check


TYPE_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def enumerated(values: list[Any]) -> dict[str, Any]:
    """Return the JSON Schema of one of some values.

    Generators want to know their type. Of a choice of numbers some make names that they send as strings, so that is a
    condition, which they skip.
    """
    kinds = {TYPE_NAMES.get(type(value)) for value in values}
    if kinds == {"string"}:
        return {"type": "string", "enum": values}
    condition = {"if": {}, "then": {"enum": values}}
    return condition if len(kinds) > 1 or None in kinds else {"type": kinds.pop(), **condition}


def enum_schema(field: BaseField) -> dict[str, Any]:
    """Return the JSON Schema of an enum's member, with the names that generated clients give them."""
    made = enumerated([member.value for member in field.choices])
    return made | {"x-enum-varnames": [member.name for member in field.choices]} if "enum" in made else made


def length(field: BaseField) -> Iterator[Any]:
    """Yield the limits on the length of a string, a list or bytes."""
    if (least := getattr(field, "min_length", None)) is not None:
        yield MinLen(least)
    if (most := getattr(field, "max_length", None)) is not None:
        yield MaxLen(most)


def text_limits(field: BaseField) -> Iterator[Any]:
    """Yield the limits of a string field."""
    yield from length(field)
    if (pattern := getattr(field, "regex", None)) is not None:
        yield matching(pattern, f"text that matches {pattern.pattern}")


def bounds(lowest: float, highest: float) -> Callable[[BaseField], Iterator[Any]]:
    """Return what yields a number field's limits, or those of its BSON type where it names none."""

    def limits(field: BaseField) -> Iterator[Any]:
        yield Ge(lowest if field.min_value is None else field.min_value)
        yield Le(highest if field.max_value is None else field.max_value)

    return limits


def no_limits(_field: BaseField) -> Iterator[Any]:
    """Yield nothing."""
    return iter(())


def no_shape(_field: BaseField) -> None:
    """Say that BSON and JSON form are the same."""


def always(annotation: Any) -> Callable[[BaseField], Any]:
    """Return what gives the same annotation for every field of a class."""
    return lambda _field: annotation


def text_kinds(_field: BaseField) -> Kinds:
    """Return the type of texts."""
    return (str,)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a field class means outside Python.

    `value` gives the pydantic annotation of a value by its type alone, ending in BSON form; `limits` what more the
    field asks of a value that is stored. `shape` gives the function from BSON to JSON, which raises what it likes for a
    value of another type, or None where the two are the same. Where they are, `kinds` gives the types of a stored
    value that is in one piece, `holds` tells whether JSON can say it, and `mend` gives what it can be taken for.
    `compare` are the operators of `where` and `update` those of a patch that make sense. `compared` gives the operator
    and the operand that MongoDB gets for an operator and a value in JSON and in BSON, where these are not the same.
    `lowest` is the least value of the BSON type; without one the field cannot be sorted by.
    """

    value: Callable[[BaseField], Any]
    limits: Callable[[BaseField], Iterator[Any]] = no_limits
    shape: Callable[[BaseField], Callable[[Any], Any] | None] = no_shape
    kinds: Callable[[BaseField], Kinds] = text_kinds
    holds: Callable[[Any], bool] | None = None
    mend: Callable[[Any], Any] = as_it_is
    compare: frozenset[str] = PRESENT
    compared: Callable[[str, Any, Any], tuple[str, Any]] | None = None
    update: frozenset[str] = NO_UPDATES
    lowest: Any = None


GEOMETRIES = me.PointField | me.LineStringField | me.PolygonField | me.GeoPointField
TIME = {"type": "string", "format": "date-time", "examples": ["2026-11-22T10:00:00.000Z"]}
REFERENCE_ID = Annotated[str, MinLen(1), MaxLen(64)]
DAY_ONE = datetime(1, 1, 1)
NO_NUMBER = -math.inf
INT64 = Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]
"""The whole numbers that BSON can hold."""


LONG_TEXT = parsed(parse_long, {"type": "string", "pattern": f"^({LONG_INTEGER.pattern})$"})
"""The same as strings: a double, which is what numbers are to JavaScript and others, loses digits of them."""


def is_text(field: BaseField) -> bool:
    """Tell whether clients have asked for the whole numbers of a field as strings."""
    return bool(getattr(field, "as_string", False))


MEANINGS: Mapping[type[BaseField], Meaning | str] = {
    me.StringField: Meaning(always(str), text_limits, compare=TEXT, lowest=""),
    me.URLField: Meaning(
        always(str),
        lambda field: iter((*length(field), passing(whole_line(field.validate), "a URL such as https://example.com/"))),
        compare=TEXT,
        lowest="",
    ),
    me.EmailField: Meaning(
        always(parsed(parse_email, {"type": "string", "format": "email"})),
        lambda field: iter((*length(field), passing(field.validate, EMAIL, "email"))),
        compare=TEXT,
        lowest="",
    ),
    me.IntField: Meaning(
        always(INT64),
        bounds(-(2**31), 2**31 - 1),
        kinds=number_kinds,
        mend=short_number,
        compare=COMPARE,
        update=NUMBER_UPDATES,
        lowest=NO_NUMBER,
    ),
    me.LongField: Meaning(
        lambda field: LONG_TEXT if is_text(field) else INT64,
        bounds(-(2**63), 2**63 - 1),
        shape=lambda field: long_text if is_text(field) else None,
        kinds=always(WHOLE_NUMBERS),
        mend=long_number,
        compare=COMPARE,
        update=NUMBER_UPDATES,
        lowest=NO_NUMBER,
    ),
    me.FloatField: Meaning(
        always(parsed(parse_float, {"type": "number"})),
        bounds(-1.7976931348623157e308, 1.7976931348623157e308),
        kinds=always((float,)),
        holds=math.isfinite,
        mend=double,
        compare=COMPARE,
        update=NUMBER_UPDATES,
        lowest=NO_NUMBER,
    ),
    me.DecimalField: Meaning(
        lambda field: parsed(decimal_parser(field), DECIMAL_TEXT),
        shape=decimal_text,
        compare=EQUAL,
    ),
    me.Decimal128Field: Meaning(
        lambda field: parsed(decimal_parser(field), DECIMAL_TEXT),
        shape=decimal_text,
        compare=COMPARE,
        lowest=Decimal128("-Infinity"),
    ),
    me.BooleanField: Meaning(always(bool), kinds=always((bool,)), compare=EQUAL, lowest=False),
    me.DateTimeField: Meaning(
        always(parsed(parse_time, TIME)),
        shape=always(time_text),
        compare=COMPARE,
        compared=time_compared,
        update=ORDER_UPDATES,
        lowest=DAY_ONE,
    ),
    me.DateField: Meaning(
        always(parsed(parse_date, {"type": "string", "format": "date"})),
        shape=always(date_text),
        compare=COMPARE,
        update=ORDER_UPDATES,
        lowest=DAY_ONE,
    ),
    me.UUIDField: Meaning(
        always(parsed(parse_uuid, {"type": "string", "format": "uuid"})), shape=always(uuid_text), compare=EQUAL
    ),
    me.ObjectIdField: Meaning(
        always(parsed(parse_object_id, {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"})),
        shape=always(object_id_text),
        compare=COMPARE,
        lowest=ObjectId(b"\0" * 12),
    ),
    me.BinaryField: Meaning(
        always(parsed(parse_bytes, {"type": "string", "contentEncoding": "base64"})),
        lambda field: iter(() if field.max_bytes is None else (MaxLen(field.max_bytes),)),
        shape=always(bytes_text),
    ),
    me.EnumField: Meaning(
        lambda field: parsed(member_parser(field), enum_schema(field)),
        kinds=member_kinds,
        mend=long_number,
        compare=EQUAL,
    ),
    me.ReferenceField: Meaning(always(REFERENCE_ID), compare=EQUAL),
    me.LazyReferenceField: Meaning(always(REFERENCE_ID), compare=EQUAL),
    me.GeoPointField: Meaning(
        always(parsed(parse_position, POSITION)),
        kinds=always((list,)),
        holds=is_position,
        compare=PRESENT | {"$near", "$within"},
    ),
    me.PointField: Meaning(
        always(geojson("Point", parse_position, POSITION)),
        kinds=always((dict,)),
        holds=is_point,
        compare=PRESENT | {"$near", "$within"},
    ),
    me.LineStringField: Meaning(
        always(geojson("LineString", parse_line, many(POSITION, 2))), kinds=always((dict,)), holds=is_line
    ),
    me.PolygonField: Meaning(
        always(geojson("Polygon", parse_polygon, many(many(POSITION, 4), 1))), kinds=always((dict,)), holds=is_polygon
    ),
    # What stands inside these is derived in `load` and `dump`, which go from field to field.
    me.ListField: Meaning(always(list), length, compare=LIST_OPERATORS | PRESENT, update=LIST_UPDATES),
    me.MapField: Meaning(always(dict)),
    me.DictField: Meaning(
        always(parsed(parse_free, {"type": "object", "additionalProperties": {}})),
        kinds=always((dict,)),
        holds=is_free,
    ),
    me.EmbeddedDocumentField: Meaning(always(dict)),
    me.GenericReferenceField: "the collection that it points to would come from the client; use a ReferenceField",
    me.GenericLazyReferenceField: "the collection that it points to would come from the client; use a ReferenceField",
    me.GenericEmbeddedDocumentField: "the class would come from the client; use an EmbeddedDocumentField",
    me.DynamicField: "it has no type to check; use a DictField",
    me.CachedReferenceField: "the copy that it keeps goes stale; use a ReferenceField and `expand`",
    me.ComplexDateTimeField: "it is kept as text; use a DateTimeField, which has milliseconds",
    me.SequenceField: "it takes a second round trip to the database on each create; let the server make the id",
    me.FileField: "files are not JSON",
}


def meaning(field: BaseField) -> Meaning:
    """Return what `field` means: the row of its class, or of the nearest class that it inherits.

    Raises `UnsupportedField` for a class that has no row, or whose row says why there is none.
    """
    for kind in type(field).__mro__:
        found = MEANINGS.get(kind)
        if isinstance(found, Meaning):
            return found
        if found is not None:
            raise UnsupportedField(f"{named(field)} is a {type(field).__name__}, which is refused: {found}")
    raise UnsupportedField(
        f"{named(field)} is a {type(field).__name__}, and service/model/fields.py has no row for it; "
        "add one, or use a field class that has one"
    )


def named(field: BaseField) -> str:
    """Return the name of a field with that of its document, for a person."""
    owner = getattr(field, "owner_document", None)
    return f"{owner.__name__}.{field.name}" if owner is not None else f"field {field.name!r}"
