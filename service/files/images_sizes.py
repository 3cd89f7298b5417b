"""Sizes: which smaller images there are of one, and in which format a client takes them."""

from collections.abc import Iterable
from typing import NamedTuple

WEBP, JPEG, PNG = "image/webp", "image/jpeg", "image/png"
OFFERED = (WEBP, JPEG, PNG)
"""Media types of a smaller image, the best one first."""


class Size(NamedTuple):
    """What `FILES_SIZES` says of one size: a box in pixels that is filled (`cover`), or that holds all of the image."""

    name: str
    width: int
    height: int
    cover: bool


def size_from(text: str) -> Size:
    """Return the size that a text of `FILES_SIZES` names, such as `thumb 200x200 cover` or `screen 1600 contain`."""
    name, box, way = text.split(" ")
    width, _, height = box.partition("x")
    return Size(name, int(width), int(height or width), way == "cover")


def sizes_by_name(texts: Iterable[str]) -> dict[str, Size]:
    """Return the sizes of `FILES_SIZES` by name."""
    return {size.name: size for size in map(size_from, texts)}


def media_type_for(accept: str | None) -> str:
    """Return the media type that an `Accept` likes best of those offered (RFC 9110, section 12.5.1).

    What takes none of them, or none of an image at all, gets the first: a server may disregard the header, and most
    clients that say `application/json` say it of all their requests.
    """
    liked = sorted(OFFERED, key=lambda offered: -weight_of(offered, accept or "*/*"))
    return liked[0]


def weight_of(media_type: str, accept: str) -> float:
    """Return the weight that the most specific range of an `Accept` gives to a media type; 0 where none does."""
    ranges = (media_type, media_type.split("/")[0] + "/*", "*/*")
    weights: dict[str, float] = {}
    for entry in accept.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        weights[name] = max(weights.get(name, 0.0), weight(parameters))
    return next((weights[name] for name in ranges if name in weights), 0.0)


def weight(parameters: Iterable[str]) -> float:
    """Return the `q` among the parameters of a range; 1 where there is none, 0 where it is no number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            digits = value.strip()
            return min(float(digits), 1.0) if digits.replace(".", "", 1).isdecimal() and digits.isascii() else 0.0
    return 1.0
