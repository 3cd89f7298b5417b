"""JPEG (ITU T.81, annex B): segments, and what applications write into theirs."""

import re
from collections.abc import Iterator

from service.files.images_parts import (
    UPRIGHT,
    Broken,
    Extract,
    ImageFile,
    ImageMeasure,
    joined_extracts,
    kept,
    orientation_of,
    own,
    tiff_of,
)

START, END, SCAN, COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
"""Markers without a length."""
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of what says how large the image is."""
JFIF, EXIF, PROFILE, ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
APPLICATIONS = range(0xE0, 0xF0)
AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""Where a scan ends: a marker that is no part of one."""


def segments(source: ImageFile) -> Iterator[tuple[int, int, int]]:
    """Yield marker, first byte and end of each segment, with the scan that follows it, up to the end of the image."""
    if source.take(0, 2) != b"\xff\xd8":
        raise Broken("no JPEG")
    place = 2
    while True:
        start, marker = place, source.number(place + 1, 1)
        if source.number(place, 1) != 0xFF:
            raise Broken(f"no segment at byte {place}")
        if marker == 0xFF:
            place += 1
            continue
        if marker == END:
            yield marker, start, place + 2
            return
        stop = place + 2 if marker in WITHOUT_LENGTH else place + 2 + source.number(place + 2, 2)
        place = scan_end(source, stop) if marker == SCAN else stop
        yield marker, start, place


def scan_end(source: ImageFile, first: int) -> int:
    """Return where the scan that begins at a byte ends. Raises `Broken` where it does not."""
    for place, block in source.blocks(first):
        if found := AFTER_SCAN.search(block):
            return place + found.start()
    raise Broken("a scan has no end")


def orientation_at(source: ImageFile, start: int, stop: int) -> int:
    """Return how an image is turned, by a segment that may be EXIF."""
    if stop - start < 12 or source.take(start + 4, 6) != b"Exif\0\0":
        return UPRIGHT
    return orientation_of(source.take(start + 10, stop - start - 10))


def jpeg_measured(source: ImageFile) -> ImageMeasure:
    """Return the measure of the image. Raises `Broken`."""
    orientation, found = UPRIGHT, None
    for marker, start, stop in segments_of_head(source):
        if marker == EXIF and orientation == UPRIGHT:
            orientation = orientation_at(source, start, stop)
        elif marker in FRAMES and found is None:
            found = ImageMeasure(source.number(start + 7, 2), source.number(start + 5, 2))
    if found is None:
        raise Broken("no frame")
    return found.turned(orientation)


def segments_of_head(source: ImageFile) -> Iterator[tuple[int, int, int]]:
    """Yield the segments before the first scan, whose end is not looked for."""
    place = 2
    if source.take(0, 2) != b"\xff\xd8":
        raise Broken("no JPEG")
    while (marker := source.number(place, 2)) not in {0xFF00 | SCAN, 0xFF00 | END}:
        if marker < 0xFF00:
            raise Broken(f"no segment at byte {place}")
        if marker == 0xFFFF:
            place += 1
            continue
        stop = place + 2 if marker & 0xFF in WITHOUT_LENGTH else place + 2 + source.number(place + 2, 2)
        yield marker & 0xFF, place, stop
        place = stop


def jpeg_shared(source: ImageFile) -> list[Extract]:
    """Return what others get: no segments of applications but what colours need, no comment, nothing behind the end."""
    orientation, pieces = UPRIGHT, []
    for marker, start, stop in segments(source):
        if marker == EXIF and orientation == UPRIGHT:
            orientation = orientation_at(source, start, stop)
        pieces += shared_of(source, marker, start, stop)
    turn = b"\xff\xe1\x00\x22Exif\0\0" + tiff_of(orientation)
    return joined_extracts([kept(0, 2), *([own(turn)] if orientation != UPRIGHT else []), *pieces])


def shared_of(source: ImageFile, marker: int, start: int, stop: int) -> list[Extract]:
    """Return what others get of a segment."""
    if marker == JFIF and source.take(start + 4, 5) == b"JFIF\0":
        # Without the thumbnail, which may show what was cut off since.
        return [own(b"\xff\xe0\x00\x10" + source.take(start + 4, 12) + b"\0\0")]
    if marker == PROFILE and source.take(start + 4, min(12, stop - start - 4)) == b"ICC_PROFILE\0":
        return [kept(start, stop)]
    if marker == COMMENT or (marker in APPLICATIONS and marker != ADOBE):
        return []
    return [kept(start, stop)]
