"""PNG (third edition), GIF (89a) and WebP (RFC 9649): chunks and blocks, one after the other."""

import zlib
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

PNG_KEPT = frozenset(
    b"IHDR PLTE IDAT IEND tRNS cHRM gAMA iCCP sBIT sRGB cICP mDCV cLLI bKGD pHYs acTL fcTL fdAT".split()
)
"""Chunks that say how the pixels look; the others hold text, EXIF, time, or what nobody knows."""
GIF_KEPT = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
"""Applications whose blocks say how often a moving image begins again."""
EXTENSION, IMAGE, TRAILER, CONTROL, APPLICATION = 0x21, 0x2C, 0x3B, 0xF9, 0xFF
WEBP_KEPT = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
WEBP_FRAME = frozenset({b"VP8 ", b"VP8L", b"ALPH"})
WEBP_EXIF, WEBP_XMP = 0x08, 0x04
"""Flags of `VP8X`: there is such a chunk."""


# --- PNG -------------------------------------------------------------------------------------------------------------


def png_chunks(source: ImageFile) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, first byte and end of each chunk, up to `IEND`. Raises `Broken`."""
    if source.take(0, 8) != b"\x89PNG\r\n\x1a\n":
        raise Broken("no PNG")
    place, kind = 8, b""
    while kind != b"IEND":
        kind, stop = source.take(place + 4, 4), place + 12 + source.number(place, 4)
        source.take(stop - 4, 4)
        yield kind, place, stop
        place = stop


def png_measured(source: ImageFile) -> ImageMeasure:
    """Return the measure of a PNG. Raises `Broken`."""
    orientation = UPRIGHT
    for kind, start, stop in png_chunks(source):
        if kind == b"eXIf":
            orientation = orientation_of(source.take(start + 8, stop - start - 12))
        if kind == b"IDAT":
            break
    if source.take(12, 4) != b"IHDR":
        raise Broken("no header")
    return ImageMeasure(source.number(16, 4), source.number(20, 4)).turned(orientation)


def png_shared(source: ImageFile) -> list[Extract]:
    """Return what others get of a PNG: the chunks that say how its pixels look. Raises `Broken`."""
    orientation, pieces = UPRIGHT, [kept(0, 8)]
    for kind, start, stop in png_chunks(source):
        if kind == b"eXIf":
            orientation = orientation_of(source.take(start + 8, stop - start - 12))
        elif kind in PNG_KEPT:
            pieces.append(kept(start, stop))
    if orientation != UPRIGHT:
        chunk = b"eXIf" + tiff_of(orientation)
        pieces.insert(2, own((len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)))
    return joined_extracts(pieces)


# --- GIF -------------------------------------------------------------------------------------------------------------


def gif_measured(source: ImageFile) -> ImageMeasure:
    """Return the measure of a GIF. Raises `Broken`."""
    if source.take(0, 6) not in {b"GIF87a", b"GIF89a"}:
        raise Broken("no GIF")
    width, height = (int.from_bytes(source.take(place, 2), "little") for place in (6, 8))
    return ImageMeasure(width, height)


def gif_shared(source: ImageFile) -> list[Extract]:
    """Return what others get of a GIF: its images, and how they follow each other. Raises `Broken`."""
    gif_measured(source)
    place = 13 + table_bytes(source.number(10, 1))
    pieces = [kept(0, place)]
    while (kind := source.number(place, 1)) != TRAILER:
        stop = gif_block_end(source, place, kind)
        if is_kept_block(source, place, kind):
            pieces.append(kept(place, stop))
        place = stop
    return joined_extracts([*pieces, kept(place, place + 1)])


def table_bytes(flags: int) -> int:
    """Return how many bytes a table of colours has, of which the flags before it tell."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def gif_block_end(source: ImageFile, place: int, kind: int) -> int:
    """Return where a block ends. Raises `Broken`."""
    if kind == EXTENSION:
        place += 2
    elif kind == IMAGE:
        place += 11 + table_bytes(source.number(place + 9, 1))
    else:
        raise Broken(f"no block at byte {place}")
    while length := source.number(place, 1):
        place += 1 + length
    return place + 1


def is_kept_block(source: ImageFile, place: int, kind: int) -> bool:
    """Tell whether others get a block."""
    if kind == IMAGE:
        return True
    label = source.number(place + 1, 1)
    return label == CONTROL or (label == APPLICATION and source.take(place + 3, 11) in GIF_KEPT)


# --- WebP ------------------------------------------------------------------------------------------------------------


def webp_chunks(source: ImageFile, place: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, first byte and end of each chunk between two places. Raises `Broken`."""
    while place < end:
        length = int.from_bytes(source.take(place + 4, 4), "little")
        stop = place + 8 + length + length % 2
        if stop > end:
            raise Broken("a chunk goes on behind its end")
        yield source.take(place, 4), place, stop
        place = stop


def webp_end(source: ImageFile) -> int:
    """Return where a WebP ends. Raises `Broken`."""
    if source.take(0, 4) != b"RIFF" or source.take(8, 4) != b"WEBP":
        raise Broken("no WebP")
    return 8 + int.from_bytes(source.take(4, 4), "little")


def webp_measured(source: ImageFile) -> ImageMeasure:
    """Return the measure of a WebP: of its first chunk that has one, turned as its EXIF says. Raises `Broken`."""
    found, orientation = None, UPRIGHT
    for kind, start, stop in webp_chunks(source, 12, min(webp_end(source), source.size)):
        if found is None:
            found = webp_size(source, kind, start + 8)
        if kind == b"EXIF":
            orientation = webp_orientation(source, start, stop)
    if found is None:
        raise Broken("no image")
    return found.turned(orientation)


def webp_size(source: ImageFile, kind: bytes, place: int) -> ImageMeasure | None:
    """Return the size that a chunk tells, whose payload begins at a place."""
    if kind == b"VP8X":
        across, down = (int.from_bytes(source.take(place + at, 3), "little") + 1 for at in (4, 7))
    elif kind == b"VP8L":
        bits = int.from_bytes(source.take(place + 1, 4), "little")
        across, down = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        across, down = (int.from_bytes(source.take(place + at, 2), "little") & 0x3FFF for at in (6, 8))
    else:
        return None
    return ImageMeasure(across, down)


def webp_orientation(source: ImageFile, start: int, stop: int) -> int:
    """Return how an image is turned, by its chunk of EXIF, before which some write what JPEG has there."""
    data = source.take(start + 8, stop - start - 8)
    return orientation_of(data.removeprefix(b"Exif\0\0"))


def webp_shared(source: ImageFile) -> list[Extract]:
    """Return what others get of a WebP: images, moving ones, colours. Raises `Broken`."""
    pieces: list[Extract] = []
    orientation, flags_at = UPRIGHT, -1
    for kind, start, stop in webp_chunks(source, 12, webp_end(source)):
        if kind == b"EXIF":
            orientation = webp_orientation(source, start, stop)
        if kind == b"ANMF" and any(inner not in WEBP_FRAME for inner, _, _ in webp_chunks(source, start + 24, stop)):
            raise Broken("a frame has chunks that nobody knows")
        if kind == b"VP8X":
            flags_at = len(pieces)
        if kind in WEBP_KEPT:
            pieces.append(kept(start, stop))
    turn = tiff_of(orientation) if orientation != UPRIGHT and flags_at >= 0 else b""
    if flags_at >= 0:
        whole = source.take(pieces[flags_at].first or 0, pieces[flags_at].length)
        flags = whole[8] & ~WEBP_EXIF & ~WEBP_XMP | (WEBP_EXIF if turn else 0)
        pieces[flags_at] = own(whole[:8] + bytes((flags,)) + whole[9:])
    if turn:
        pieces.append(own(b"EXIF" + len(turn).to_bytes(4, "little") + turn))
    size = 4 + sum(piece.length for piece in pieces)
    return joined_extracts([own(b"RIFF" + size.to_bytes(4, "little") + b"WEBP"), *pieces])
