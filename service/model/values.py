"""From JSON to BSON and back, value by value: strict about types, and telling what would be right."""

import base64
import binascii
import math
import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import orjson
from bson import Decimal128, ObjectId
from bson.binary import USER_DEFINED_SUBTYPE, Binary
from email_validator import EmailNotValidError, validate_email
from mongoengine import fields as me
from mongoengine.base import BaseField
from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.core.normal_forms import normalized

RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?")
LONGEST_DECIMAL = 50
LONG_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
# Not `format: decimal`: some generators take that for a floating-point number, which loses digits and is refused here.
DECIMAL_TEXT = {
    "type": "string",
    "pattern": f"^{DECIMAL.pattern}$",
    "maxLength": LONGEST_DECIMAL,
    "examples": ["12.50"],
}
KNOWN_TIMES = 8192
MAX_DEPTH = 20
"""Most levels of a free-form object; MongoDB itself ends at 100."""


def wrong(kind: str, detail: str, *place: str | int) -> PydanticCustomError:
    """Return the error of a value that is not right, or of what is at a place in it; `detail` says what would be."""
    # With a context, pydantic would read a brace in the text as the name of something in it.
    return PydanticCustomError(kind, detail, {"place": place}) if place else PydanticCustomError(kind, detail)


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


BETWEEN_TWO = re.compile(r"\.[0-9]{3}0*[1-9]")
"""What the text of a time between two milliseconds has in it."""
UNLIKE_ALL = Binary(b"between two milliseconds", USER_DEFINED_SUBTYPE)
"""A value that no field has."""


def time_compared(operator: str, text: str, moment: datetime) -> tuple[str, Any]:
    """Return the operator and the operand with which MongoDB finds what a client asks for by an `operator` and a time.

    What is stored is a whole millisecond. `moment` is the last one that is not after what the `text` says, which may
    lie between it and the next one: nothing is equal to that.
    """
    if operator in ("$gt", "$lte") or not BETWEEN_TWO.search(text):
        return operator, moment
    if operator not in ("$gte", "$lt"):
        return operator, UNLIKE_ALL
    try:
        return operator, moment + timedelta(milliseconds=1)
    except OverflowError:
        # It is the last of all.
        return ("$type", "date") if operator == "$lt" else (operator, UNLIKE_ALL)


class TimeTexts(dict[datetime, str]):
    """UTC times without zone as RFC 3339 text with milliseconds.

    They are remembered, at most `KNOWN_TIMES` of them, 2 MB: most records were never changed, so two of their times are
    the same, and what was written last is what is read again and again. A page has 60 times.
    """

    def __missing__(self, moment: datetime) -> str:
        """Return the text of a time that is not known yet."""
        if type(moment) is not datetime:
            raise TypeError(type(moment))
        # A third of the time of `isoformat`. orjson leaves out a fraction of zero.
        text = orjson.dumps(moment).decode()
        found = f"{text[1:24]}Z" if len(text) == 28 else f"{text[1:20]}.000Z"
        if len(self) >= KNOWN_TIMES:
            self.clear()
        self[moment] = found
        return found


known_times = TimeTexts()
time_text = known_times.__getitem__
"""Return the text of a time: written in C where it is known, and without the key that `lru_cache` makes each time."""


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
    if type(moment) is not datetime:
        raise TypeError(type(moment))
    return moment.date().isoformat()


def text_of_kind(kind: type) -> Callable[[Any], str]:
    """Return what writes a value of one type as text; it raises `TypeError` for any other."""

    def write(value: Any) -> str:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(type(value))
        return str(value)

    return write


uuid_text, object_id_text, long_text = text_of_kind(uuid.UUID), text_of_kind(ObjectId), text_of_kind(int)


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
LONGEST_EMAIL = 254
"""RFC 5321, section 4.5.3.1.3. Anybody may send a longer text, and to look through a megabyte takes a second."""


def parse_email(value: Any) -> str:
    """Return an e-mail address in its usual spelling."""
    text = text_in(value, "ada@example.com")
    if len(text) > LONGEST_EMAIL:
        raise wrong("email", EMAIL)
    try:
        return validate_email(text, check_deliverability=False).normalized
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
    """Return a finite number that a double has; a boolean is none. A fraction is rounded, a whole number is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong("wrong_type", "a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise wrong("not_finite", "a number that is finite")
    if number != value:
        raise wrong("inexact", "a number of at most 15 digits, as more do not fit")
    return number


def integral(value: Any) -> Any:
    """Return a number without a fraction as an integer, which `5.0` is too; all else as it is.

    So says JSON Schema 2020-12 (Core, section 4.2.3). Of a float that has lost no digit, the shortest text is what was
    sent: `core.json_text.decode` sees to that.
    """
    if not isinstance(value, float) or not value.is_integer():
        return value
    return int(value) if abs(value) < 2**53 else int(Decimal(repr(value)))


def parse_long(value: Any) -> int:
    """Return the whole number of 64 bits that a string or a JSON number says."""
    number = int(value) if isinstance(value, str) and LONG_INTEGER.fullmatch(value) else integral(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise wrong("wrong_type", 'a whole number as a string, such as "9007199254740993"')
    check_long(number)
    return number


def check_long(number: int) -> None:
    """Raise `PydanticCustomError` for a whole number that BSON cannot hold."""
    if number < -(2**63):
        raise wrong("too_small", "at least -9223372036854775808")
    if number >= 2**63:
        raise wrong("too_large", "at most 9223372036854775807")


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
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal | Decimal128):
            raise TypeError(type(value))
        number = value.to_decimal() if isinstance(value, Decimal128) else Decimal(str(value))
        if not number.is_finite():
            raise ValueError("not a number")
        return str(number if isinstance(value, Decimal128) else number.quantize(Decimal(1).scaleb(-field.precision)))

    return write


def parse_free(value: Any) -> dict[str, Any]:
    """Return an object of any JSON, if its keys and its depth can be stored."""
    if not isinstance(value, dict):
        raise wrong("wrong_type", "an object")
    check_free(value)
    return value


def check_free(value: Any, *place: str | int) -> None:
    """Raise `PydanticCustomError` where MongoDB could not keep free-form JSON, or not ask for it again."""
    if len(place) > MAX_DEPTH:
        raise wrong("too_deep", f"at most {MAX_DEPTH} levels", *place)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise wrong("too_large", "whole numbers between -2^63 and 2^63-1", *place)
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, member in members:
        if isinstance(step, str) and not is_key(step):
            raise wrong("key", KEYS, *place, step)
        check_free(member, *place, step)


def composed(value: Any) -> Any:
    """Return text in Unicode's form NFC, so that one name is one however a keyboard sends it; all else as it is."""
    return normalized("NFC", value) if isinstance(value, str) else value


KEYS = "keys of 1 to 200 characters, without a `.` or NUL in them and no `$` in front"


ONE_KEY = "each key once, and two that look the same are one"


def is_key(text: str) -> bool:
    """Tell whether a text can name a field in MongoDB and in an update path."""
    return 0 < len(text) <= 200 and not text.startswith("$") and "." not in text and "\0" not in text


def check_key(key: str) -> str:
    """Return `key` if it can name a field in MongoDB and in an update path."""
    if not is_key(key):
        raise wrong("key", KEYS)
    return key


POSITION = {
    "type": "array",
    "description": "longitude and latitude in degrees",
    "items": {"type": "number", "format": "double"},
    "minItems": 2,
    "maxItems": 2,
    # Generators make three numbers of `prefixItems` beside `items`, or numbers of no size without; they skip this.
    "if": {"minItems": 2},
    "then": {"prefixItems": [{"minimum": -180, "maximum": 180}, {"minimum": -90, "maximum": 90}]},
}


def parse_position(value: Any) -> list[float]:
    """Return `[longitude, latitude]` in degrees (RFC 7946, section 3.1.1)."""
    detail = "[longitude, latitude], -180 to 180 and -90 to 90"
    if not isinstance(value, list) or len(value) != 2:
        raise wrong("position", detail)
    longitude, latitude = (parse_float(part) for part in value)
    if not (-180 <= longitude <= 180 and -90 <= latitude <= 90):
        raise wrong("position", detail)
    return [longitude, latitude]


LINE = "a list of at least two different positions [longitude, latitude]"


def parse_line(value: Any) -> list[list[float]]:
    """Return two positions or more, of which two are different: MongoDB takes no other line for one."""
    if not isinstance(value, list) or len(value) < 2:
        raise wrong("line", LINE)
    line = [parse_position(position) for position in value]
    if line.count(line[0]) == len(line):
        raise wrong("line", LINE)
    return line


def parse_polygon(value: Any) -> list[list[list[float]]]:
    """Return closed rings of four positions or more (RFC 7946, section 3.1.6), of which three are different."""
    if not isinstance(value, list) or not value:
        raise wrong("polygon", "a list of rings, the outer one first")
    rings = [parse_line(ring) for ring in value]
    if any(len(ring) < 4 or ring[0] != ring[-1] or len(set(map(tuple, ring))) < 3 for ring in rings):
        raise wrong("polygon", "rings of at least three different positions, and the first again as the last")
    return rings


def geojson(kind: str, parse: Callable[[Any], Any], coordinates: dict[str, Any]) -> Any:
    """Return the annotation of a GeoJSON geometry (RFC 7946) of one `kind`."""

    def parse_geometry(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or set(value) != {"type", "coordinates"} or value["type"] != kind:
            raise wrong("geojson", f'an object {{"type": "{kind}", "coordinates": …}} and nothing else in it')
        return {"type": kind, "coordinates": parse(value["coordinates"])}

    schema = {
        "title": kind,
        "type": "object",
        "description": "A geometry of GeoJSON (RFC 7946).",
        "properties": {
            "type": {"title": f"{kind}Type", "type": "string", "enum": [kind]},
            "coordinates": coordinates,
        },
        "required": ["type", "coordinates"],
        "additionalProperties": False,
    }
    return parsed(parse_geometry, schema)


def many(schema: dict[str, Any], least: int) -> dict[str, Any]:
    """Return the JSON Schema of a list."""
    return {"type": "array", "items": schema, "minItems": least}
