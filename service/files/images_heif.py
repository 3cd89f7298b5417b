"""HEIC and AVIF: boxes (ISO/IEC 14496-12) and items (ISO/IEC 23008-12).

Items are found by their place in the file, so nothing is taken out: what others do not get is zeros.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter

from service.files.boxes import Box, blank, boxes
from service.files.images_parts import Broken, Extract, ImageFile, ImageMeasure, joined_extracts, kept, own

PICTURES = frozenset(b"hvc1 hev1 av01 grid iovl iden tmap".split())
"""Kinds of items that are pixels, or say how they lie; EXIF, XMP and all others are not given to others."""
MOST_EXTENTS, MOST_BOXES = 1000, 100
"""Most pieces that the items of a file are in, and boxes in one: a photo of a phone has a hundred pieces, or two."""
IN_FILE, IN_META = 0, 1
"""Ways in which an item says where it is."""
EMPTY_EXIF = b"\0\0\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
"""EXIF that says nothing, as an item has it: some decoders do not take zeros."""
Filling = tuple[int, int, bytes | None]
"""The places in the file of what others get, and what they get in its place."""


@dataclass(slots=True)
class Items:
    """What the box `meta` says: the kind of each item, where its bytes are, and what the first picture looks like."""

    kinds: dict[int, bytes] = field(default_factory=dict)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    found: dict[bytes, Box] = field(default_factory=dict)


def items_of(source: ImageFile) -> Items:
    """Return what the items of a file are. Raises `Broken`."""
    meta = next((box for box in boxes(source, 0, source.size) if box[0] == b"meta"), None)
    if meta is None or source.take(4, 4) != b"ftyp":
        raise Broken("no items")
    items = Items()
    items.found = {box[0]: box for box in boxes(source, meta[2] + 4, meta[3])}
    items.kinds = dict(kinds_of(source, items.found))
    data = items.found.get(b"idat")
    items.extents = dict(extents_of(source, items.found, data[2] if data else None))
    return items


def kinds_of(source: ImageFile, found: dict[bytes, Box]) -> Iterator[tuple[int, bytes]]:
    """Yield number and kind of each item, from the boxes `iinf` and `infe`. Raises `Broken`."""
    if b"iinf" not in found:
        return
    _, _, content, stop = found[b"iinf"]
    first = content + (6 if source.number(content, 1) == 0 else 8)
    for _, _, place, _ in boxes(source, first, stop):
        version = source.number(place, 1)
        if version not in {2, 3}:
            raise Broken("an item of an old kind")
        width = 2 if version == 2 else 4
        yield source.number(place + 4, width), source.take(place + 4 + width + 2, 4)


def extents_of(
    source: ImageFile, found: dict[bytes, Box], data_at: int | None
) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield number and places of each item, from the box `iloc`. Raises `Broken`."""
    if b"iloc" not in found:
        return
    place = found[b"iloc"][2]
    version, sizes = source.number(place, 1), source.number(place + 4, 2)
    offset_size, length_size, base_size, index_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    wide = 4 if version == 2 else 2
    count, place = source.number(place + 6, wide), place + 6 + wide
    for _ in range(count):
        item, place = source.number(place, wide), place + wide
        way, place = (source.number(place, 2) & 15, place + 2) if version else (IN_FILE, place)
        start, place = source.number(place + 2, base_size), place + 2 + base_size
        if way not in {IN_FILE, IN_META} or (way == IN_META and data_at is None):
            raise Broken("an item that is made of others")
        start += data_at or 0 if way == IN_META else 0
        extents, number_of = [], source.number(place, 2)
        place += 2
        for _ in range(number_of):
            place += index_size if version else 0
            first = start + source.number(place, offset_size)
            length = source.number(place + offset_size, length_size)
            extents.append((first, first + length if length else source.size))
            place += offset_size + length_size
        yield item, extents


# --- The measure -----------------------------------------------------------------------------------------------------


def heif_measured(source: ImageFile) -> ImageMeasure:
    """Return the measure of the first picture: its `ispe`, cut by its `clap`, turned by its `irot`. Raises `Broken`."""
    items = items_of(source)
    if not {b"pitm", b"iprp"} <= set(items.found):
        raise Broken("no first picture")
    place = items.found[b"pitm"][2]
    primary = source.number(place + 4, 2 if source.number(place, 1) == 0 else 4)
    _, _, content, stop = items.found[b"iprp"]
    parts = {box[0]: box for box in boxes(source, content, stop)}
    if not {b"ipco", b"ipma"} <= set(parts):
        raise Broken("no properties")
    properties = list(boxes(source, parts[b"ipco"][2], parts[b"ipco"][3]))
    own_ones = [properties[n - 1] for n in associated(source, parts[b"ipma"], primary) if 0 < n <= len(properties)]
    extent = next((box[2] for box in own_ones if box[0] == b"ispe"), None)
    if extent is None:
        raise Broken("no size")
    found = ImageMeasure(source.number(extent + 4, 4), source.number(extent + 8, 4))
    for cut in (box[2] for box in own_ones if box[0] == b"clap"):
        across, per_across, down, per_down = (source.number(cut + at, 4) for at in (0, 4, 8, 12))
        found = ImageMeasure(across // max(per_across, 1), down // max(per_down, 1))
    quarters = sum(source.number(box[2], 1) & 3 for box in own_ones if box[0] == b"irot")
    return ImageMeasure(found.height, found.width) if quarters % 2 else found


def associated(source: ImageFile, box: Box, item: int) -> list[int]:
    """Return the numbers of the properties of an item, from the box `ipma`. Raises `Broken`."""
    place = box[2]
    wide, long = 4 if source.number(place, 1) else 2, source.number(place + 3, 1) & 1
    count, place = source.number(place + 4, 4), place + 8
    for _ in range(count):
        found, length = source.number(place, wide), source.number(place + wide, 1)
        place += wide + 1
        step = 2 if long else 1
        if found == item:
            mask = 0x7FFF if long else 0x7F
            return [source.number(place + n * step, step) & mask for n in range(length)]
        place += length * step
    return []


# --- What others get -------------------------------------------------------------------------------------------------


def heif_shared(source: ImageFile) -> list[Extract]:
    """Return what others get: the headers and the bytes of pictures, zeros for all else. Raises `Broken`.

    A file with a film in it (`moov`) is none of which that can be told.
    """
    items = items_of(source)
    pieces: list[Extract] = []
    if sum(map(len, items.extents.values())) > MOST_EXTENTS:
        raise Broken("too many pieces")
    shown: list[Filling] = []
    hidden: list[tuple[int, int]] = []
    for item, extents in items.extents.items():
        kind = items.kinds.get(item, b"")
        if kind in PICTURES:
            shown += [(start, end, None) for start, end in extents]
        else:
            hidden += extents
            shown += [(start, end, EMPTY_EXIF) for start, end in extents if kind == b"Exif"]
    for kind, start, content, stop in few_boxes(source, 0, source.size):
        if kind == b"moov":
            raise Broken("a film")
        if kind == b"meta":
            pieces += shared_of_meta(source, content, stop, start, shown)
        elif kind == b"mdat":
            pieces += [kept(start, content), *only(content, stop, shown)]
        elif kind == b"ftyp":
            pieces.append(kept(start, stop))
        else:
            pieces += blank(start, content, stop)
    return joined_extracts(zeroed(pieces, hidden))


def few_boxes(source: ImageFile, place: int, end: int) -> list[Box]:
    """Return the boxes between two places. Raises `Broken`, for too many as well: each is compared with all items."""
    found = list(islice(boxes(source, place, end), MOST_BOXES + 1))
    if len(found) > MOST_BOXES:
        raise Broken("too many boxes")
    return found


def shared_of_meta(source: ImageFile, content: int, stop: int, start: int, shown: list[Filling]) -> list[Extract]:
    """Return what others get of the box `meta`: what the items are, and what of pictures is in it."""
    pieces = [kept(start, content + 4)]
    for kind, first, inside, end in few_boxes(source, content + 4, stop):
        if kind == b"idat":
            pieces += [kept(first, inside), *only(inside, end, shown)]
        elif kind in {b"hdlr", b"pitm", b"iinf", b"iloc", b"iref", b"iprp", b"grpl", b"dinf"}:
            pieces.append(kept(first, end))
        else:
            pieces += blank(first, inside, end)
    return pieces


def only(first: int, stop: int, shown: list[Filling]) -> list[Extract]:
    """Return the bytes between two places that are in one of the extents shown, and zeros for the others."""
    pieces, place = [], first
    for begin, finish, filling in sorted(shown, key=itemgetter(0)):
        start, end = max(begin, place), min(finish, stop)
        if filling is not None and end - begin >= len(filling) and start == begin:
            pieces += [Extract(start - place), own(filling)]
            place = start + len(filling)
        elif filling is None and start < end:
            pieces += [Extract(start - place), kept(start, end)]
            place = end
    return [*pieces, Extract(stop - place)]


def zeroed(pieces: list[Extract], hidden: list[tuple[int, int]]) -> list[Extract]:
    """Return pieces with zeros where they would show what is hidden, even if a picture is said to be there."""
    for start, end in hidden:
        pieces = [part for piece in pieces for part in cut_out(piece, start, end)]
    return pieces


def cut_out(piece: Extract, start: int, end: int) -> list[Extract]:
    """Return a piece with zeros between two places of the file."""
    if piece.first is None or end <= piece.first or piece.first + piece.length <= start:
        return [piece]
    stop = piece.first + piece.length
    start, end = max(start, piece.first), min(end, stop)
    return [kept(piece.first, start), Extract(end - start), kept(end, stop)]
