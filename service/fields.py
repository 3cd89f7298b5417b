"""The one table from MongoEngine's field classes to what they mean in JSON, in MongoDB and in OpenAPI."""

import base64
import binascii
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, TypeVar, cast

import mongoengine
from annotated_types import Ge, Le, MaxLen, MinLen
from bson import Decimal128, ObjectId
from email_validator import EmailNotValidError, validate_email
from mongoengine import fields as me
from mongoengine.base import BaseField
from pydantic import AfterValidator, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
LONGEST_DECIMAL = 50
MAX_DEPTH = 20
"""Most levels of a free-form object; MongoDB itself ends at 100."""

COMPARE = frozenset({"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists"})
EQUAL = frozenset({"$eq", "$ne", "$in", "$nin", "$exists"})
TEXT = COMPARE | {"$prefix"}
LIST = frozenset({"$all", "$size"})
PRESENT = frozenset({"$exists"})

NUMBER_UPDATES = frozenset({"$inc", "$min", "$max"})
ORDER_UPDATES = frozenset({"$min", "$max"})
LIST_UPDATES = frozenset({"$push", "$add_to_set", "$pull"})
NO_UPDATES: frozenset[str] = frozenset()


Function = TypeVar("Function", bound=Callable[..., Any])


def once(function: Function) -> Function:
    """Compute `function` once for each of its arguments, of which there are as many as the documents declare.

    It is `functools.cache` that keeps the types.
    """
    return cast(Function, cache(function))


class UnsupportedField(TypeError):
    """A document has a field that cannot be derived; the service does not start."""


def wrong(kind: str, detail: str) -> PydanticCustomError:
    """Return the error of a value that is not right; `detail` says what would be."""
    return PydanticCustomError(kind, detail)


def parsed(parse: Callable[[Any], Any], schema: dict[str, Any]) -> Any:
    """Return the annotation of a value that `parse` takes from JSON, raising `PydanticCustomError`."""
    return Annotated[Any, PlainValidator(parse), WithJsonSchema(schema)]


def text_in(value: Any, example: str) -> str:
    """Return `value` if it is a string."""
    if not isinstance(value, str):
        raise wrong("wrong_type", f"a string such as {example}")
    return value


def parse_time(value: Any) -> datetime:
    """Return the UTC time without zone, in milliseconds, that RFC 3339 text names."""
    example = "2026-11-22T10:00:00.000Z"
    text = text_in(value, example)
    if not RFC3339.fullmatch(text):
        raise wrong("time", f"an RFC 3339 time with its offset, such as {example}")
    try:
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise wrong("time", f"a time that exists, such as {example}") from error
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def time_text(moment: datetime) -> str:
    """Return a UTC time without zone as RFC 3339 text with milliseconds."""
    return moment.isoformat(timespec="milliseconds") + "Z"


def parse_date(value: Any) -> datetime:
    """Return midnight of the day that RFC 3339 text names: MongoDB has no type for a day."""
    text = text_in(value, "2026-11-22")
    try:
        if not DAY.fullmatch(text):
            raise ValueError(text)
        day = date.fromisoformat(text)
    except ValueError as error:
        raise wrong("date", "a day that exists, such as 2026-11-22") from error
    return datetime(day.year, day.month, day.day)


def date_text(moment: datetime) -> str:
    """Return the day of a midnight as text."""
    return moment.date().isoformat()


def parse_uuid(value: Any) -> uuid.UUID:
    """Return the UUID that its usual text names (RFC 9562)."""
    text = text_in(value, str(uuid.NAMESPACE_DNS))
    try:
        found = uuid.UUID(text)
    except ValueError as error:
        raise wrong("uuid", f"a UUID such as {uuid.NAMESPACE_DNS}") from error
    if str(found) != text.lower():
        raise wrong("uuid", f"a UUID such as {uuid.NAMESPACE_DNS}")
    return found


def parse_object_id(value: Any) -> ObjectId:
    """Return the ObjectId of 24 hexadecimal digits."""
    text = text_in(value, "507f1f77bcf86cd799439011")
    if not ObjectId.is_valid(text):
        raise wrong("object_id", "24 hexadecimal digits")
    return ObjectId(text)


EMAIL = "an e-mail address such as ada@example.com"


def parse_email(value: Any) -> str:
    """Return an e-mail address in its usual spelling."""
    try:
        return validate_email(text_in(value, "ada@example.com"), check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise wrong("email", EMAIL) from error


def parse_bytes(value: Any) -> bytes:
    """Return the bytes of standard base64 text (RFC 4648, section 4)."""
    text = text_in(value, "aGVsbG8=")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong("base64", "bytes as base64 with padding, such as aGVsbG8=") from error


def bytes_text(value: bytes) -> str:
    """Return bytes as base64 text."""
    return base64.b64encode(value).decode()


def parse_float(value: Any) -> float:
    """Return a finite number; a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong("wrong_type", "a number")
    if not math.isfinite(number := float(value)):
        raise wrong("not_finite", "a number that is finite")
    return number


def decimal_parser(field: BaseField) -> Callable[[Any], Any]:
    """Return the parser of decimal text, into the BSON form that MongoEngine's `field` would store."""

    def parse(value: Any) -> Any:
        text = text_in(value, '"12.50"')
        if not DECIMAL.fullmatch(text) or len(text) > LONGEST_DECIMAL:
            raise wrong("decimal", 'a decimal number as a string, such as "12.50"')
        number = Decimal(text)
        try:
            stored = Decimal128(number) if isinstance(field, me.Decimal128Field) else field.to_mongo(number)
        except ArithmeticError as error:
            raise wrong("decimal", "a decimal number that fits 34 digits") from error
        in_bounds(number, field)
        if Decimal(decimal_text(field)(stored)) != number:
            raise wrong("decimal", f"at most {getattr(field, 'precision', 34)} decimal places, and 15 digits in all")
        return stored

    return parse


def in_bounds(number: Decimal, field: BaseField) -> None:
    """Refuse a number that is not between the limits of `field`."""
    if field.min_value is not None and number < field.min_value:
        raise wrong("too_small", f"at least {field.min_value}")
    if field.max_value is not None and number > field.max_value:
        raise wrong("too_large", f"at most {field.max_value}")


def decimal_text(field: BaseField) -> Callable[[Any], str]:
    """Return the writer of a stored decimal as text, with the digits that `field` keeps."""

    def write(value: Any) -> str:
        if isinstance(value, Decimal128):
            return str(value.to_decimal())
        return str(Decimal(str(value)).quantize(Decimal(1).scaleb(-field.precision)))

    return write


def parse_free(value: Any) -> dict[str, Any]:
    """Return an object of any JSON, if its keys and its depth can be stored."""
    if not isinstance(value, dict):
        raise wrong("wrong_type", "an object")
    check_free(value, 0)
    return value


def check_free(value: Any, depth: int) -> None:
    """Raise `PydanticCustomError` where MongoDB could not keep free-form JSON, or not ask for it again."""
    if depth > MAX_DEPTH:
        raise wrong("too_deep", f"at most {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key in value:
            check_key(key)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise wrong("too_large", "whole numbers between -2^63 and 2^63-1")
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        check_free(child, depth + 1)


def check_key(key: str) -> str:
    """Return `key` if it can name a field in MongoDB and in an update path."""
    if not key or len(key) > 200 or key.startswith("$") or "." in key or "\0" in key:
        raise wrong("key", "keys of 1 to 200 characters, without a `.` or NUL in them and no `$` in front")
    return key


POSITION = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}


def parse_position(value: Any) -> list[float]:
    """Return `[longitude, latitude]` in degrees (RFC 7946, section 3.1.1)."""
    detail = "[longitude, latitude], -180 to 180 and -90 to 90"
    if not isinstance(value, list) or len(value) != 2:
        raise wrong("position", detail)
    longitude, latitude = (parse_float(part) for part in value)
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise wrong("position", detail)
    return [longitude, latitude]


def parse_line(value: Any) -> list[list[float]]:
    """Return two positions or more."""
    if not isinstance(value, list) or len(value) < 2:
        raise wrong("line", "a list of at least two positions [longitude, latitude]")
    return [parse_position(position) for position in value]


def parse_polygon(value: Any) -> list[list[list[float]]]:
    """Return closed rings of four positions or more (RFC 7946, section 3.1.6)."""
    if not isinstance(value, list) or not value:
        raise wrong("polygon", "a list of rings, the outer one first")
    rings = [parse_line(ring) for ring in value]
    if any(len(ring) < 4 or ring[0] != ring[-1] for ring in rings):
        raise wrong("polygon", "rings of at least four positions, of which the last is the first")
    return rings


def geojson(kind: str, parse: Callable[[Any], Any], coordinates: dict[str, Any]) -> Any:
    """Return the annotation of a GeoJSON geometry (RFC 7946) of one `kind`."""

    def parse_geometry(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or set(value) != {"type", "coordinates"} or value["type"] != kind:
            raise wrong("geojson", f'an object {{"type": "{kind}", "coordinates": …}} and nothing else in it')
        return {"type": kind, "coordinates": parse(value["coordinates"])}

    schema = {
        "type": "object",
        "properties": {"type": {"const": kind}, "coordinates": coordinates},
        "required": ["type", "coordinates"],
        "additionalProperties": False,
    }
    return parsed(parse_geometry, schema)


def many(schema: dict[str, Any], least: int) -> dict[str, Any]:
    """Return the JSON Schema of a list."""
    return {"type": "array", "items": schema, "minItems": least}


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
        allowed = [choice[0] if isinstance(choice, list | tuple) else choice for choice in field.choices]
        yield AfterValidator(one_of(allowed))
        yield WithJsonSchema({"enum": allowed})
    if field.validation is not None:
        yield passing(field.validation)
    if not type(field).__module__.startswith("mongoengine."):
        yield passing(field.validate)


def member_parser(field: BaseField) -> Callable[[Any], Any]:
    """Return the parser of the value of an enum's member; `1`, `1.0` and `true` are three values."""
    values = [member.value for member in field.choices]

    def parse(value: Any) -> Any:
        if not any(value == known and type(value) is type(known) for known in values):
            raise wrong("not_allowed", "one of " + ", ".join(map(repr, values)))
        return value

    return parse


def one_of(allowed: list[Any]) -> Callable[[Any], Any]:
    """Return the check that a value stands in a list."""

    def check(value: Any) -> Any:
        if value not in allowed:
            raise wrong("not_allowed", "one of " + ", ".join(map(repr, allowed)))
        return value

    return check


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


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a field class means outside Python.

    `value` gives the pydantic annotation of a value by its type alone, ending in BSON form; `limits` what more the
    field asks of a value that is stored. `shape` gives the function from BSON to JSON, or None where the two are the
    same. `compare` are the operators of `where` and `update` those of a patch that make sense. `lowest` is the least
    value of the BSON type; without one the field cannot be sorted by.
    """

    value: Callable[[BaseField], Any]
    limits: Callable[[BaseField], Iterator[Any]] = no_limits
    shape: Callable[[BaseField], Callable[[Any], Any] | None] = no_shape
    compare: frozenset[str] = PRESENT
    update: frozenset[str] = NO_UPDATES
    lowest: Any = None


TIME = {"type": "string", "format": "date-time", "examples": ["2026-11-22T10:00:00.000Z"]}
REFERENCE_ID = Annotated[str, MinLen(1), MaxLen(64)]
DAY_ONE = datetime(1, 1, 1)
NO_NUMBER = -math.inf
INT64 = Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]
"""The whole numbers that BSON can hold."""


def whole_number(lowest: int, highest: int) -> Meaning:
    """Return the meaning of a whole number between the limits of its BSON type."""
    limits = bounds(lowest, highest)
    return Meaning(always(INT64), limits, compare=COMPARE, update=NUMBER_UPDATES, lowest=NO_NUMBER)


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
        always(INT64), bounds(-(2**31), 2**31 - 1), compare=COMPARE, update=NUMBER_UPDATES, lowest=NO_NUMBER
    ),
    me.LongField: Meaning(
        always(INT64), bounds(-(2**63), 2**63 - 1), compare=COMPARE, update=NUMBER_UPDATES, lowest=NO_NUMBER
    ),
    me.FloatField: Meaning(
        always(parsed(parse_float, {"type": "number"})),
        bounds(-1.7976931348623157e308, 1.7976931348623157e308),
        compare=COMPARE,
        update=NUMBER_UPDATES,
        lowest=NO_NUMBER,
    ),
    me.DecimalField: Meaning(
        lambda field: parsed(decimal_parser(field), {"type": "string", "format": "decimal"}),
        shape=decimal_text,
        compare=EQUAL,
    ),
    me.Decimal128Field: Meaning(
        lambda field: parsed(decimal_parser(field), {"type": "string", "format": "decimal"}),
        shape=decimal_text,
        compare=COMPARE,
        lowest=Decimal128("-Infinity"),
    ),
    me.BooleanField: Meaning(always(bool), compare=EQUAL, lowest=False),
    me.DateTimeField: Meaning(
        always(parsed(parse_time, TIME)),
        shape=always(time_text),
        compare=COMPARE,
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
        always(parsed(parse_uuid, {"type": "string", "format": "uuid"})), shape=always(str), compare=EQUAL
    ),
    me.ObjectIdField: Meaning(
        always(parsed(parse_object_id, {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"})),
        shape=always(str),
        compare=COMPARE,
        lowest=ObjectId(b"\0" * 12),
    ),
    me.BinaryField: Meaning(
        always(parsed(parse_bytes, {"type": "string", "contentEncoding": "base64"})),
        lambda field: iter(() if field.max_bytes is None else (MaxLen(field.max_bytes),)),
        shape=always(bytes_text),
    ),
    me.EnumField: Meaning(
        lambda field: parsed(member_parser(field), {"enum": [member.value for member in field.choices]}),
        compare=EQUAL,
    ),
    me.ReferenceField: Meaning(always(REFERENCE_ID), compare=EQUAL),
    me.LazyReferenceField: Meaning(always(REFERENCE_ID), compare=EQUAL),
    me.GeoPointField: Meaning(always(parsed(parse_position, POSITION)), compare=PRESENT | {"$near"}),
    me.PointField: Meaning(always(geojson("Point", parse_position, POSITION)), compare=PRESENT | {"$near"}),
    me.LineStringField: Meaning(always(geojson("LineString", parse_line, many(POSITION, 2)))),
    me.PolygonField: Meaning(always(geojson("Polygon", parse_polygon, many(many(POSITION, 4), 1)))),
    # What stands inside these is derived in `schema`, which goes from field to field.
    me.ListField: Meaning(always(list), length, compare=LIST | PRESENT, update=LIST_UPDATES),
    me.MapField: Meaning(always(dict)),
    me.DictField: Meaning(
        always(parsed(parse_free, {"type": "object", "additionalProperties": True})),
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
        f"{named(field)} is a {type(field).__name__}, and service/fields.py has no row for it; "
        "add one, or use a field class that has one"
    )


def named(field: BaseField) -> str:
    """Return the name of a field with that of its document, for a person."""
    owner = getattr(field, "owner_document", None)
    return f"{owner.__name__}.{field.name}" if owner is not None else f"field {field.name!r}"


def refers_to(field: BaseField) -> Any:
    """Return the document class that `field`, or each entry of a list field, points to; None for any other field."""
    inner = getattr(field, "field", None)
    if isinstance(field, me.ListField) and inner is not None:
        return refers_to(inner)
    return field.document_type if isinstance(field, me.ReferenceField | me.LazyReferenceField) else None
