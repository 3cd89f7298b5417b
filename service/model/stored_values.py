"""What is stored: whether it is a value of its field, whoever has stored it, and what can be taken for one."""

from collections.abc import Callable
from math import isfinite
from typing import Any

from bson import Int64
from mongoengine.base import BaseField

from service.model.values import integral

Kinds = tuple[type, ...]
WHOLE_NUMBERS: Kinds = (int, Int64)
"""As PyMongo gives whole numbers of 32 and of 64 bits."""
LOWEST, HIGHEST = -(2**31), 2**31 - 1


def number_kinds(field: BaseField) -> Kinds:
    """Return the types of the whole numbers that a field of 32 bits, or of the limits that it names, can have."""
    limits = (field.min_value or 0, field.max_value or 0)
    return (int,) if all(LOWEST <= limit <= HIGHEST for limit in limits) else WHOLE_NUMBERS


def member_kinds(field: BaseField) -> Kinds:
    """Return the types of the values of an enum's members."""
    kinds = {type(member.value) for member in field.choices}
    return tuple(kinds | {Int64} if int in kinds else kinds)


def as_it_is(value: Any) -> Any:
    """Return the value itself."""
    return value


def short_number(value: Any) -> Any:
    """Return a whole number of 32 bits, which the shell of MongoDB stores as a double and some drivers in 64 bits."""
    number = integral(value)
    return int(number) if type(number) in WHOLE_NUMBERS and LOWEST <= number <= HIGHEST else value


def long_number(value: Any) -> Any:
    """Return a whole number of 64 bits, which the shell of MongoDB stores as a double."""
    return integral(value)


def double(value: Any) -> Any:
    """Return a whole number as a double."""
    return float(value) if type(value) in WHOLE_NUMBERS else value


def is_point(value: dict[str, Any]) -> bool:
    """Tell whether a GeoJSON geometry is a point. Raises what a value of another type makes of it."""
    longitude, latitude = value["coordinates"]
    # A difference is quicker than to ask whether both are finite.
    return longitude - longitude + latitude - latitude == 0 and value["type"] == "Point" and len(value) == 2


def is_position(value: list[Any]) -> bool:
    """Tell whether a list is two numbers. Raises what a value of another type makes of it."""
    longitude, latitude = value
    return isfinite(longitude + latitude)


def is_line(value: dict[str, Any]) -> bool:
    """Tell whether a GeoJSON geometry is a line."""
    return value["type"] == "LineString" and len(value) == 2 and all(map(is_position, value["coordinates"]))


def is_polygon(value: dict[str, Any]) -> bool:
    """Tell whether a GeoJSON geometry is a polygon."""
    rings = value["coordinates"]
    return value["type"] == "Polygon" and len(value) == 2 and all(is_position(spot) for ring in rings for spot in ring)


def is_free(value: Any) -> bool:
    """Tell whether JSON can say all of a value."""
    if (test := FREE.get(type(value))) is None:
        return False
    return test(value)


def is_anything(_value: Any) -> bool:
    """Say yes."""
    return True


FREE: dict[type, Callable[[Any], bool]] = {
    type(None): is_anything,
    str: is_anything,
    bool: is_anything,
    int: is_anything,
    Int64: is_anything,
    float: isfinite,
    list: lambda value: all(map(is_free, value)),
    dict: lambda value: all(map(is_free, value.values())),
}
"""The types that JSON has, and which of their values it can say."""
