"""Films and recordings in boxes (ISO/IEC 14496-12: MP4, MOV, 3GP): what others get has no place and no device.

Pictures and sound are found by their place in the file, so nothing is taken out: what others do not get is zeros.
"""

import struct
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise

from service.files.images_heif import Box, blank, boxes
from service.files.images_parts import (
    MOST_FILE_PARTS,
    Broken,
    Extract,
    ImageFile,
    SharedBytes,
    joined_extracts,
    kept,
)
from service.files.reading import Read

FILMS = frozenset({"video/mp4", "video/quicktime", "video/3gpp", "video/x-m4v", "audio/mp4"})
"""Media types of what is in such boxes."""
SHOWN_TRACKS = frozenset(b"vide soun auxv pict text sbtl subt subp clcp tmcd hint".split())
"""Kinds of tracks that are seen and heard; others say where and by what each moment was recorded."""
SHOWN_WITHIN = {
    b"moov": frozenset(b"mvhd iods mvex pssh trak".split()),
    b"trak": frozenset(b"tkhd edts tref load tapt clip matt trgr mdia".split()),
    b"mdia": frozenset(b"mdhd elng hdlr minf".split()),
}
"""What is given of the boxes that have others in them; a camera writes into `udta`, `meta`, `uuid` and its own."""
SHOWN_OUTSIDE = frozenset(b"ftyp styp pdin moov moof mdat sidx ssix mfra".split())
MOST_SAMPLES = 500_000
"""Most entries of a table of samples: those of a day, ten a second."""
HiddenSpan = tuple[int, int]


def shared_film(read: Read, size: int) -> SharedBytes:
    """Return what others than its owner get of a film of `size` bytes: all of one that is built otherwise.

    No `©xyz`, `loci`, keys of QuickTime, XMP, and no track of what a camera measures.
    """
    try:
        return SharedBytes(read, joined_extracts(list(extracts(ImageFile(read, size, MOST_FILE_PARTS)))))
    except Broken:
        # Its owner has sent it; nobody gets past anything by a film that cannot be read.
        return SharedBytes(read, [kept(0, size)])


def extracts(source: ImageFile) -> Iterator[Extract]:
    """Yield what others get. Raises `Broken`."""
    outside = list(boxes(source, 0, source.size))
    hidden = sorted(span for box in outside if box[0] == b"moov" for span in hidden_in(source, box))
    for kind, start, content, stop in outside:
        if kind == b"mdat":
            yield kept(start, content)
            yield from zeros_where(content, stop, hidden)
        elif kind in SHOWN_OUTSIDE:
            yield from taken_apart(source, (kind, start, content, stop))
        else:
            yield from blank(start, content, stop)


def taken_apart(source: ImageFile, box: Box) -> Iterator[Extract]:
    """Yield what others get of a box. Raises `Broken`."""
    kind, start, content, stop = box
    if kind not in SHOWN_WITHIN:
        yield kept(start, stop)
        return
    yield kept(start, content)
    for inner in boxes(source, content, stop):
        if inner[0] in SHOWN_WITHIN[kind] and not (inner[0] == b"trak" and hides(source, inner)):
            yield from taken_apart(source, inner)
        else:
            yield from blank(*inner[1:])


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


def hidden_in(source: ImageFile, film: Box) -> Iterator[HiddenSpan]:
    """Yield where the bytes are of the tracks that others do not get. Raises `Broken`."""
    for track in boxes(source, film[2], film[3]):
        if track[0] == b"trak" and hides(source, track):
            table = inside(source, track, b"mdia", b"minf", b"stbl")
            yield from () if table is None else samples(source, table)


def samples(source: ImageFile, table: Box) -> Iterator[HiddenSpan]:
    """Yield where the chunks of a track are, each of which has some samples. Raises `Broken`."""
    found = {box[0]: box[2] for box in boxes(source, table[2], table[3])}
    if not {b"stsz", b"stsc"} <= set(found) or not {b"stco", b"co64"} & set(found):
        raise Broken("no table of samples")
    size = source.number(found[b"stsz"] + 4, 4)
    sizes = [] if size else numbers(source, found[b"stsz"] + 8, "I")
    places = numbers(source, found[b"stco"] + 4, "I") if b"stco" in found else numbers(source, found[b"co64"] + 4, "Q")
    runs = numbers(source, found[b"stsc"] + 4, "I", 3)
    each = [(runs[n] - 1, runs[n + 1]) for n in range(0, len(runs), 3)]
    sample = 0
    for (first, count), (stop, _) in pairwise([*each, (len(places), 0)]):
        for place in places[first:stop]:
            yield place, place + (size * count or sum(sizes[sample : sample + count]))
            sample += count


def numbers(source: ImageFile, place: int, code: str, columns: int = 1) -> list[int]:
    """Return the numbers of a table behind that of its rows. Raises `Broken`."""
    count = source.number(place, 4) * columns
    if count > MOST_SAMPLES:
        raise Broken("too long a table")
    form = f">{count}{code}"
    return list(struct.unpack(form, source.take(place + 4, struct.calcsize(form))))


def zeros_where(first: int, stop: int, hidden: list[HiddenSpan]) -> Iterator[Extract]:
    """Yield the bytes between two places, with zeros where something is hidden; what is hidden is in order."""
    # A chunk that begins before the place may reach over it.
    for begin, end in hidden[max(bisect_left(hidden, (first, 0)) - 1, 0) : bisect_left(hidden, (stop, 0))]:
        start, end = max(begin, first), min(end, stop)
        if start < end:
            yield kept(first, start)
            yield Extract(end - start)
            first = end
    yield kept(first, stop)
