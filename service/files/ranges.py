"""Ranges of bytes that a client asks for (RFC 9110, section 14)."""

import re
from typing import NamedTuple

from service.core.errors import RangeNotSatisfiable

MOST_RANGES = 20
"""Most ranges of one answer; who asks for more gets the whole."""
SPEC = re.compile(r"(\d{0,18})-(\d{0,18})")
BYTE_RANGES = re.compile(r"bytes=(.*)", re.IGNORECASE | re.DOTALL)


class Span(NamedTuple):
    """Bytes from `start` on, without that at `stop`."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        """Return the `Content-Range` of it."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


def parse_ranges(header: str | None, size: int) -> list[Span]:
    """Return the ranges of `size` bytes that a `Range` header asks for; empty for the whole.

    What is no range of bytes, more of them than is sensible, and some that lie over each other and are more than the
    whole, is ignored, as HTTP allows. Raises `RangeNotSatisfiable` where none is in the content.
    """
    asked = BYTE_RANGES.fullmatch(header.strip()) if header else None
    if asked is None:
        return []
    specs = [spec.strip() for spec in asked[1].split(",") if spec.strip()]
    found = [SPEC.fullmatch(spec) for spec in specs[: MOST_RANGES + 1]]
    if not found or len(found) > MOST_RANGES:
        return []
    spans = []
    for spec in found:
        if spec is None or not (spec[1] or spec[2]) or (spec[1] and spec[2] and int(spec[1]) > int(spec[2])):
            return []
        if (span := span_of(spec[1], spec[2], size)) is not None:
            spans.append(span)
    if not spans:
        raise RangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return spans if len(spans) == 1 or sum(stop - start for start, stop in spans) <= size else []


def span_of(first: str, last: str, size: int) -> Span | None:
    """Return the bytes that one range names, of which `first` or `last` may be empty; None where there are none."""
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    return Span(start, stop) if start < stop else None
