"""Distance: from `$near` in `where` to MongoDB's own, and what counts the same records."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from service.core.errors import BadQuery
from service.model.record_type import FieldPath
from service.model.values import parse_position
from service.mongo.raw import Filter
from service.query.paging import bad

EARTH_METRES = 6_378_100
NOT_PAGED = "$near sorts by distance and is not paged"


def parse_near(at: FieldPath, name: str, condition: dict[str, Any], args: Mapping[str, str]) -> Filter:
    """Return MongoDB's filter for `$near` on the field that is called `name`; raises `BadQuery`."""
    if "$near" not in at.operators:
        raise BadQuery(f"`{name}`: $near works on a point")
    for parameter in ("sort", "search"):
        if parameter in args:
            raise bad(parameter, NOT_PAGED)
    operand = condition["$near"]
    if len(condition) > 1 or not isinstance(operand, dict) or not {"point"} <= set(operand) <= {"point", "max_metres"}:
        raise BadQuery(
            f'`{name}`: $near takes {{"point": [longitude, latitude], "max_metres": number}}, alone on its field'
        )
    near: Filter = {"$geometry": {"type": "Point", "coordinates": position(name, operand["point"])}}
    if "max_metres" in operand:
        near["$maxDistance"] = metres(name, operand["max_metres"])
    return {at.stored: {"$near": near}}


def position(name: str, value: Any) -> list[float]:
    """Return a longitude and a latitude in degrees."""
    try:
        return parse_position(value)
    except PydanticCustomError as error:
        raise BadQuery(f"`{name}`: the point of $near is {error.message()}") from None


def metres(name: str, value: Any) -> float:
    """Return a distance in metres."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 3e7:
        raise BadQuery(f"`{name}`: max_metres is a number from 0 to 30000000")
    return float(value)


def within(near: Filter) -> Filter:
    """Return the filter that matches what `$near` does without sorting: what a count can use."""
    ((name, condition),) = near.items()
    if "$maxDistance" not in condition["$near"]:
        return {name: {"$ne": None}}
    point = condition["$near"]["$geometry"]["coordinates"]
    return {name: {"$geoWithin": {"$centerSphere": [point, condition["$near"]["$maxDistance"] / EARTH_METRES]}}}
