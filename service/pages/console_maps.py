"""Small maps of points in the console: where a point is on the vendored one, and which point a press on it means."""

from collections.abc import Mapping
from typing import Any

from service.model.record_type import RecordType
from service.pages.console_kinds import input_kind
from service.pages.console_values import Flat, float_value, number_text, position_of

MAP_WIDTH, MAP_HEIGHT = 300, 150
"""Of the map as it is shown, in pixels: wherever it is shown, for a browser tells of a press in these."""
EAST, NORTH = 180.0, 90.0
PRESSED = "map "
"""What the name of a map begins with; the name of its input follows."""

Mark = tuple[float, float]
"""A place on the map, in pixels from the upper left."""


def mark(longitude: str, latitude: str) -> Mark | None:
    """Return where the point of these texts is on the map; None for what is none on the earth."""
    x, y = float_value(longitude), float_value(latitude)
    if not (isinstance(x, float) and isinstance(y, float) and abs(x) <= EAST and abs(y) <= NORTH):
        return None
    return round((x + EAST) / (2 * EAST) * MAP_WIDTH, 1), round((NORTH - y) / (2 * NORTH) * MAP_HEIGHT, 1)


def pressed_map(sent: Mapping[str, str]) -> tuple[str, Flat] | None:
    """Return the name of the point whose map was pressed, with its texts; None where a form was sent otherwise.

    The upper left corner is where a keyboard presses, and is no place that somebody has chosen: it changes nothing.
    """
    at = next((name[len(PRESSED) : -2] for name in sent if name.startswith(PRESSED) and name.endswith(".x")), None)
    if at is None:
        return None
    x, y = (float_value(sent.get(f"{PRESSED}{at}.{axis}", "")) for axis in "xy")
    if not (isinstance(x, float) and isinstance(y, float)) or not (0 <= x <= MAP_WIDTH and 0 <= y <= MAP_HEIGHT):
        return at, {}
    if x == 0 == y:
        return at, {}
    longitude, latitude = x / MAP_WIDTH * 2 * EAST - EAST, NORTH - y / MAP_HEIGHT * 2 * NORTH
    return at, {f"{at}#lon": number_text(round(longitude, 1)), f"{at}#lat": number_text(round(latitude, 1))}


def marks_of(type: RecordType, told: Mapping[str, Any]) -> dict[str, Mark]:
    """Return the marks of the points of a record in JSON, by the names of their fields."""
    fields = type.schema.fields.items()
    points = [name for name, field in fields if input_kind(field) == "point" and told.get(name) is not None]
    found = {name: mark(*position_of(told[name])) for name in points}
    return {name: place for name, place in found.items() if place is not None}
