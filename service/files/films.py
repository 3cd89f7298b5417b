"""Films and recordings in boxes (ISO/IEC 14496-12: MP4, MOV, 3GP): what others get has no place and no device.

Pictures and sound are found by their place in the file, so nothing is taken out: what others do not get is zeros.
"""

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise

from service.files.boxes import Box, blank, box_at, boxes
from service.files.images_parts import Broken, Extract, ImageFile, SharedBytes, joined_extracts, kept
from service.files.reading import Read

FILMS = frozenset({"video/mp4", "video/quicktime", "video/3gpp", "video/x-m4v", "audio/mp4"})
"""Media types of what is in such boxes."""
SHOWN_TRACKS = frozenset(b"vide soun auxv pict text sbtl subt subp clcp tmcd hint".split())
"""Kinds of tracks that are seen and heard; others say where and by what each moment was recorded."""
SHOWN_WITHIN = {
    b"moov": frozenset(b"mvhd iods mvex pssh trak".split()),
    b"trak": frozenset(b"tkhd edts tref load tapt clip matt trgr mdia".split()),
    b"mdia": frozenset(b"mdhd elng hdlr minf".split()),
    b"moof": frozenset(b"mfhd traf pssh".split()),
    b"traf": frozenset(b"tfhd trun tfdt sbgp sgpd subs saiz saio senc".split()),
}
"""What is given of the boxes that have others in them; a camera writes into `udta`, `meta`, `uuid` and its own."""
SHOWN_OUTSIDE = frozenset(b"ftyp styp pdin moov moof mdat sidx ssix mfra".split())
HANDLER_NAME = 24
"""Where the name stands in `hdlr`, which cameras fill with their own."""
MOST_SAMPLES, MOST_SPANS = 2_000_000, 100_000
"""Most numbers in the tables of all tracks that are hidden, and most pieces that these are in: those of a day."""
MOST_FILM_PARTS, MOST_FILM_BLOCKS, MOST_FILM_PIECES = 100_000, 2000, 20_000
"""Most parts of a film that are looked at, blocks that are read of it, and pieces that others get.

In fragments of two seconds an hour has 1800, each with some thirty parts in one block.
"""


def shared_film(read: Read, size: int) -> SharedBytes | None:
    """Return what others than its owner get of a film of `size` bytes; None where nobody can tell what is in it.

    No `©xyz`, `loci`, keys of QuickTime, XMP, and no track of what a camera measures.
    """
    source = ImageFile(read, size, MOST_FILM_PARTS, MOST_FILM_BLOCKS)
    try:
        outside = list(outer_boxes(source))
        tracks = frozenset(hidden_tracks(source, outside))
        if tracks and any(box[0] == b"moof" for box in outside):
            raise Broken("a hidden track in fragments")
        hidden = hidden_spans(source, tracks)
        pieces = joined_extracts(piece for box in outside for piece in taken_apart(source, box, SHOWN_OUTSIDE, tracks))
        if len(pieces) > MOST_FILM_PIECES:
            raise Broken("too many pieces")
    except Broken:
        return None
    return SharedBytes(zeroing(read, hidden) if hidden else read, pieces, len(hidden))


def outer_boxes(source: ImageFile) -> Iterator[Box]:
    """Yield the boxes of a film, and what is none as one of no kind.

    Where a recording broke off, the last one reaches over the end: here it ends with the file. Raises `Broken`.
    """
    place = 0
    while place < source.size:
        left = source.size - place
        if left < 8 or (left < 16 and source.number(place, 4) == 1):
            kind, content, stop = b"", place, source.size
        else:
            kind, _, content, stop = box_at(source, place, source.size)
        if stop < content:
            kind, content, stop = b"", place, source.size
        yield kind, place, content, min(stop, source.size)
        place = stop


def taken_apart(source: ImageFile, box: Box, shown: frozenset[bytes], hidden: frozenset[Box]) -> Iterator[Extract]:
    """Yield what others get of a box among which these kinds are shown, but some `hidden` tracks. Raises `Broken`."""
    kind, start, content, stop = box
    if not kind:
        yield Extract(stop - start)
    elif kind not in shown or box in hidden:
        yield from blank(start, content, stop)
    elif kind in SHOWN_WITHIN:
        yield kept(start, content)
        for inner in boxes(source, content, stop):
            yield from taken_apart(source, inner, SHOWN_WITHIN[kind], hidden)
    elif kind == b"hdlr":
        name = min(content + HANDLER_NAME, stop)
        yield kept(start, name)
        yield Extract(stop - name)
    else:
        yield kept(start, stop)


def inside(source: ImageFile, box: Box, *kinds: bytes) -> Box | None:
    """Return the box at the end of a way into another one; None where there is none. Raises `Broken`."""
    for kind in kinds:
        found = next((inner for inner in boxes(source, box[2], box[3]) if inner[0] == kind), None)
        if found is None:
            return None
        box = found
    return box


def hides(source: ImageFile, track: Box) -> bool:
    """Tell whether a track is none that is seen or heard. Raises `Broken`."""
    handler = inside(source, track, b"mdia", b"hdlr")
    return handler is None or source.take(handler[2] + 8, 4) not in SHOWN_TRACKS


# --- Tracks that others do not get -----------------------------------------------------------------------------------

Spans = list[tuple[int, int]]
"""Pieces of a file, in their order; no two of them meet."""


def hidden_tracks(source: ImageFile, outside: list[Box]) -> Iterator[Box]:
    """Yield the tracks that others do not get. Raises `Broken`."""
    for film in outside:
        if film[0] == b"moov":
            yield from (box for box in boxes(source, film[2], film[3]) if box[0] == b"trak" and hides(source, box))


def hidden_spans(source: ImageFile, tracks: frozenset[Box]) -> Spans:
    """Return where the bytes of some tracks are. Raises `Broken`."""
    spans: Spans = []
    tables = Tables(source)
    for track in tracks:
        table = inside(source, track, b"mdia", b"minf", b"stbl")
        for span in () if table is None else tables.chunks(table):
            spans.append(span)
            if len(spans) > MOST_SPANS:
                raise Broken("a hidden track in too many pieces")
    return joined_spans(spans)


def joined_spans(spans: Spans) -> Spans:
    """Return pieces in their order, with those made one that meet."""
    found: Spans = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


class Tables:
    """The tables of samples of a film, of which so many numbers are read in all."""

    def __init__(self, source: ImageFile) -> None:
        self.source, self.left = source, MOST_SAMPLES

    def numbers(self, place: int, code: str) -> "array[int]":
        """Return the numbers of a table behind that of its rows, where one row of `stsc` has three. Raises `Broken`."""
        found: array[int] = array(code[0])
        count = self.source.number(place, 4) * len(code)
        self.left -= count
        if self.left < 0:
            raise Broken("too long tables")
        found.frombytes(self.source.take(place + 4, count * found.itemsize))
        if sys.byteorder == "little":
            found.byteswap()
        return found

    def chunks(self, table: Box) -> Iterator[tuple[int, int]]:
        """Yield where the chunks of a track are, each of which has some samples. Raises `Broken`."""
        source, found = self.source, {box[0]: box[2] for box in boxes(self.source, table[2], table[3])}
        if not {b"stsz", b"stsc"} <= set(found) or not {b"stco", b"co64"} & set(found):
            raise Broken("no table of samples")
        size = source.number(found[b"stsz"] + 4, 4)
        sizes = array("I") if size else self.numbers(found[b"stsz"] + 8, "I")
        places = self.numbers(found[b"stco"] + 4, "I") if b"stco" in found else self.numbers(found[b"co64"] + 4, "Q")
        runs = self.numbers(found[b"stsc"] + 4, "III")
        firsts = [*runs[::3], len(places) + 1]
        if any(first >= stop for first, stop in pairwise([0, *firsts])):
            raise Broken("chunks without an order")
        sample = 0
        for (first, stop), count in zip(pairwise(firsts), runs[1::3], strict=True):
            for place in places[first - 1 : stop - 1]:
                yield place, place + (size * count or sum(sizes[sample : sample + count]))
                sample += count


def zeroing(read: Read, hidden: Spans) -> Read:
    """Return what reads a file with zeros in the place of some pieces."""
    starts = [start for start, _ in hidden]

    def zeroed(first: int, stop: int) -> bytes:
        data = bytearray(read(first, stop))
        stop = first + len(data)
        for start, end in hidden[max(bisect_right(starts, first) - 1, 0) : bisect_right(starts, stop)]:
            begin, end = max(start, first), min(end, stop)
            if begin < end:
                data[begin - first : end - first] = bytes(end - begin)
        return bytes(data)

    return zeroed
