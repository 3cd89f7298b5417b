"""What is near and what is within: from `$near` and `$within` in `where` to MongoDB's own."""

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError
from pymongo.errors import OperationFailure

from service.core.errors import BadQuery
from service.model.record_type import FieldPath
from service.model.values import parse_polygon, parse_position
from service.mongo import problems
from service.mongo.raw import Filter
from service.query.paging import bad

MOST_POSITIONS = 500
SHAPES = (
    '$within takes a GeoJSON polygon {"type": "Polygon", "coordinates": […]} of at most 500 positions, '
    'or {"box": [[west, south], [east, north]]}'
)
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


def geo_near(near: Filter, condition: Filter) -> dict[str, Any]:
    """Return the first stage of an aggregation that finds, under a condition, what `$near` does.

    To count within a circle instead is not the same: at a pole a circle without a radius holds what is degrees away.
    """
    ((name, asked),) = near.items()
    point = {"near": asked["$near"]["$geometry"], "key": name, "spherical": True, "distanceField": "_distance"}
    most = {"maxDistance": asked["$near"]["$maxDistance"]} if "$maxDistance" in asked["$near"] else {}
    return {"$geoNear": {**point, **most, "query": condition}}


def parse_shape(name: str, operand: Any) -> Filter:
    """Return MongoDB's condition for `$within` on the field that is called `name`; raises `BadQuery`."""
    if isinstance(operand, dict) and set(operand) == {"box"}:
        return {"$geoWithin": {"$box": box(name, operand["box"])}}
    if not isinstance(operand, dict) or set(operand) != {"type", "coordinates"} or operand["type"] != "Polygon":
        raise BadQuery(f"`{name}`: {SHAPES}")
    try:
        rings = parse_polygon(operand["coordinates"])
    except PydanticCustomError as error:
        raise BadQuery(f"`{name}`: the polygon of $within is {error.message()}") from None
    if sum(map(len, rings)) > MOST_POSITIONS:
        raise BadQuery(f"`{name}`: {SHAPES}")
    return {"$geoWithin": {"$geometry": {"type": "Polygon", "coordinates": rings}}}


def box(name: str, operand: Any) -> list[list[float]]:
    """Return the corners of a box in degrees, the south-western one first."""
    try:
        (west, south), (east, north) = corners = [parse_position(corner) for corner in operand]
    except (TypeError, ValueError):
        raise BadQuery(f"`{name}`: {SHAPES}, in degrees") from None
    if west > east or south > north:
        raise BadQuery(
            f"`{name}`: the box of $within begins in the south-west; one over the 180th meridian is two boxes, in $or"
        )
    return corners


def refused_shape(shapes: tuple[str, ...], error: OperationFailure) -> Exception:
    """Return what an error of the database means where the fields that `shapes` names are asked with a polygon."""
    if not shapes or error.code != problems.BAD_VALUE:
        return error
    named = ", ".join(f"`{name}`" for name in shapes)
    # Only the server knows: edges are arcs of great circles, and it rounds as it does.
    return BadQuery(f"{named}: no ring of a polygon crosses itself or another, and holes lie within the first ring")
