"""Boxes (ISO/IEC 14496-12), of which films and some images are made: their kind, their length, and what is in them."""

from collections.abc import Iterator

from service.files.images_parts import Broken, Extract, ImageFile, kept, own

BLANK = b"free"
Box = tuple[bytes, int, int, int]
"""Kind of a box, its first byte, that of its content, and its end."""


def box_at(source: ImageFile, place: int, end: int) -> Box:
    """Return the box that begins at a place, as it says of itself; without a length it reaches to `end`.

    Raises `Broken` where the file ends before its content.
    """
    length, kind, content = source.number(place, 4), source.take(place + 4, 4), place + 8
    if length == 1:
        length, content = source.number(place + 8, 8), place + 16
    return kind, place, content, place + length if length else end


def boxes(source: ImageFile, place: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two places. Raises `Broken`."""
    while place < end:
        box = box_at(source, place, end)
        if not box[2] <= box[3] <= end:
            raise Broken(f"no box at byte {place}")
        yield box
        place = box[3]


def blank(start: int, content: int, stop: int) -> list[Extract]:
    """Return a box of nothing in the place of another, with the length that this had."""
    length = [kept(start, start + 4), own(BLANK), kept(start + 8, content)]
    return [*length, Extract(stop - content)]
