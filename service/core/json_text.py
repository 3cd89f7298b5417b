"""JSON text from clients: decoded once, of bounded depth, without NUL, whole numbers to the last digit."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any

import orjson

from service.core.errors import MOST_CAUSES, Cause, MalformedJson, ValidationFailed, pointer

MAX_LEVELS = 64
"""Most levels of a JSON text: more than any document has, and less than any library that reads it later can take."""
MAX_MEMBERS = 1000
"""Most members of a body: more than any document has; each unknown one costs as much as a whole good note."""


LONG_NUMBER = b"0" * 16
"""The shortest run of digits and points in which a double may lose one: it keeps 15 of any number."""
DIGITS = bytes(ord("0") if chr(byte) in "0123456789." else ord(" ") for byte in range(256))
"""What `bytes.translate` makes such runs of."""


def decode(text: bytes) -> Any:
    """Return the value of a JSON text in UTF-8 (RFC 8259).

    A whole number is an `int` to its last digit, however large it is. One with a point or an exponent, such as `5.0`,
    is a `float` as long as the shortest text of that says the same.

    Raises `MalformedJson`, and `ValidationFailed` for a NUL, which other software would take for the end of a string.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"not JSON in UTF-8: {error}") from None
    # Most texts can have neither, which two searches tell; only the others are walked.
    suspicious = b"\\u0000" in text or text.count(b"[") + text.count(b"{") > MAX_LEVELS
    if suspicious and (found := list(islice(nul_places(value), MOST_CAUSES))):
        raise ValidationFailed(found)
    if LONG_NUMBER not in text.translate(DIGITS):
        return value
    # orjson has whole numbers beyond 64 bits rounded, and nobody could tell any more.
    del value
    return to_last_digit(text)


def to_last_digit(text: bytes) -> Any:
    """Return the value of a JSON text with long numbers; raises `ValidationFailed` where all of a fraction is lost."""
    value = json.loads(text, parse_float=exact_number)
    if found := list(islice(lost_fractions(value), MOST_CAUSES)):
        raise ValidationFailed(found)
    return value


def exact_number(text: str) -> float | int | Decimal:
    """Return the number that a text with a point or an exponent is, a `Decimal` where a double has lost its fraction.

    Any other fraction is rounded to the next double, as is usual (RFC 8259, section 6).
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is larger than a double")
    if not number or not number.is_integer() or Decimal(repr(number)) == (exact := Decimal(text)):
        return number
    return int(exact) if exact == exact.to_integral_value() else exact


def lost_fractions(value: Any, *place: str | int) -> Iterator[Cause]:
    """Yield a cause for every fraction that a double has lost."""
    for name, member in members_of_value(value):
        if isinstance(member, list | dict):
            yield from lost_fractions(member, *place, name)
        elif isinstance(member, Decimal):
            yield Cause("inexact", "a number of at most 15 digits", pointer=pointer(*place, name))


def encode(value: Any, option: int = 0) -> bytes:
    """Return the text of a value that `decode` gave; `option` is one of orjson's."""
    try:
        return orjson.dumps(value, option=option)
    except orjson.JSONEncodeError:
        # A whole number of more than 64 bits.
        return json.dumps(value, sort_keys=bool(option & orjson.OPT_SORT_KEYS), separators=(",", ":")).encode()


def decode_rows(text: bytes) -> tuple[Any, Callable[[Any], list[Cause]]]:
    """Return the value of a JSON text, and what finds in a part of it the text that cannot be stored.

    JavaScript has strings that end in the middle of a character, and writes them as they are. Where a text brings many
    rows, one such row, or one with NUL, must not keep the others from being read. Raises `MalformedJson`.
    """
    by_python = SURROGATE.search(text) is not None or LONG_NUMBER in text.translate(DIGITS)
    try:
        read = partial(json.loads, parse_constant=no_constant, parse_float=exact_number) if by_python else orjson.loads
        value = read(text)
    except (ValueError, RecursionError) as error:
        raise MalformedJson(f"not JSON in UTF-8: {error}") from None
    return value, unstorable if by_python or b"\\u0000" in text else lambda _value: []


SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a character, as JSON escapes it."""


def no_constant(name: str) -> None:
    """Refuse what Python takes for JSON."""
    raise ValueError(f"{name} is no JSON")


def unstorable(value: Any) -> list[Cause]:
    """Return where in a decoded value there is text with NUL or half a character, or a number that is not kept.

    Raises `MalformedJson` if it is too deep.
    """
    found = list(islice((*nul_places(value), *lost_fractions(value)), MOST_CAUSES))
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        found.append(Cause("text", "text that is Unicode", pointer=""))
    return found


def canonical(text: bytes) -> bytes:
    """Return one text for all that say the same: members in order, a number in one spelling, no space between.

    That is RFC 8785, but whole numbers of more than 53 bits stay as they are. Raises as `decode` does.
    """
    value = decode(text)
    return encode(whole_numbers(value) if FRACTION.search(text) else value, orjson.OPT_SORT_KEYS)


FRACTION = re.compile(rb"[0-9][.eE]")
"""What a text has in which a whole number may be spelled as a fraction."""


def whole_numbers(value: Any) -> Any:
    """Return a decoded value, changed, in which `5.0` and `5` are the same."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    for name, member in members_of_value(value):
        # In its place: a second whole would take as much memory again.
        value[name] = whole_numbers(member)
    return value


def nul_places(value: Any, *place: str | int) -> Iterator[Cause]:
    """Yield a cause for every string, and every name of a member, with NUL; raises `MalformedJson` if too deep.

    What it keeps grows with the levels and not with the members, of which a body may have half a million.
    """
    if isinstance(value, str):
        if "\0" in value:
            yield Cause("nul", "text without NUL characters", pointer=pointer(*place))
        return
    for name, member in members_of_value(value):
        if len(place) == MAX_LEVELS:
            raise MalformedJson(f"JSON of more than {MAX_LEVELS} levels")
        if isinstance(name, str) and "\0" in name:
            yield Cause("nul", "a name without NUL characters", pointer=pointer(*place, name))
        if isinstance(member, str | list | dict):
            yield from nul_places(member, *place, name)


def members_of_value(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the members of an object or a list, each with its name or number; none of anything else."""
    return value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()


def as_object(body: Any) -> dict[str, Any]:
    """Return a decoded body that is an object; raises `MalformedJson` for any other, and for one of many members."""
    if not isinstance(body, dict):
        raise MalformedJson("the body has to be a JSON object")
    if len(body) > MAX_MEMBERS:
        raise MalformedJson(f"the body has more than {MAX_MEMBERS} members")
    return body
