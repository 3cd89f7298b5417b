"""What files of images and films are made of: how they are read, and which parts of them others get."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from service.files.reading import Read

BLOCK = 262_144
"""Bytes that are read at once."""
MOST_FILE_PARTS, MOST_HEAD_PARTS = 200_000, 20_000
"""Most parts that a file is taken apart into, half a second's work, and its head. A GIF of 50 MB has so many."""
UPRIGHT = 1
"""The orientation of what is not turned."""


class Broken(Exception):
    """A file is not built as its format asks for."""


class ImageMeasure(NamedTuple):
    """The pixels of an image across and down, as it is seen upright."""

    width: int
    height: int

    def turned(self, orientation: int) -> "ImageMeasure":
        """Return the measure of an image whose EXIF says how it is turned."""
        return ImageMeasure(self.height, self.width) if orientation >= 5 else self


class Extract(NamedTuple):
    """So many bytes of what others get: those of the file from `first` on, or `own` ones, or zeros."""

    length: int
    first: int | None = None
    own: bytes | None = None


class ImageFile:
    """The bytes of a file, read in blocks, of which the last is kept."""

    def __init__(self, read: Read, size: int, most_parts: int, most_blocks: float = math.inf) -> None:
        self.read_block, self.size, self.most_parts, self.most_blocks = read, size, most_parts, most_blocks
        self.parts, self.blocks_read, self.place, self.block = 0, 0, 0, b""

    def take(self, first: int, count: int) -> bytes:
        """Return so many bytes from a place on. Raises `Broken` where they are not there, or after too many parts."""
        self.parts += 1
        if self.parts > self.most_parts or first < 0 or first + count > self.size:
            raise Broken(f"the file ends before byte {first + count}, or has too many parts")
        if not self.place <= first <= first + count <= self.place + len(self.block):
            self.place, self.block = first, self.whole(first, count)
        return self.block[first - self.place : first - self.place + count]

    def whole(self, first: int, count: int) -> bytes:
        """Return so many bytes from a place on, and what was read with them.

        No more is read than what a store gives at once: where its parts end, a block may be short. Raises `Broken`
        where they are not there, or after too many blocks.
        """
        found, stop = b"", min(self.size, first + max(count, BLOCK))
        while len(found) < count:
            self.blocks_read += 1
            piece = self.read_block(first + len(found), stop)
            if not piece or self.blocks_read > self.most_blocks:
                raise Broken(f"the file ends before byte {first + count}, or is in too many places")
            found += piece
        return found

    def number(self, first: int, count: int) -> int:
        """Return the number that so many bytes are, the highest first. Raises `Broken`."""
        return int.from_bytes(self.take(first, count))

    def blocks(self, first: int) -> Iterator[tuple[int, bytes]]:
        """Yield the blocks from a place on, with their places; each repeats the last byte of the one before."""
        last = b""
        while first < self.size:
            self.take(first, 1)
            block = self.block[first - self.place :]
            yield first - len(last), last + block
            first, last = first + len(block), block[-1:]


class SharedBytes:
    """What others get of a file: pieces of it and of our own, read like the file itself."""

    def __init__(self, read: Read, pieces: list[Extract], more: int = 0) -> None:
        """Take what reads the file, the pieces, and how many `more` of them are remembered by what reads."""
        self.read_original, self.pieces, self.weight = read, pieces, len(pieces) + more
        self.ends = list(accumulate(piece.length for piece in pieces))

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.ends[-1] if self.ends else 0

    def read(self, first: int, stop: int) -> bytes:
        """Return bytes from the first on: at least one where there are any, and none from `stop` on."""
        place = bisect_right(self.ends, first)
        if place == len(self.pieces) or stop <= first:
            return b""
        piece = self.pieces[place]
        skipped = first - (self.ends[place] - piece.length)
        count = min(stop - first, piece.length - skipped, BLOCK if piece.first is None else stop)
        if piece.first is not None:
            return self.read_original(piece.first + skipped, piece.first + skipped + count)
        return bytes(count) if piece.own is None else piece.own[skipped : skipped + count]


def kept(first: int, stop: int) -> Extract:
    """Return the piece that is the bytes of the file from the first to the last."""
    return Extract(stop - first, first)


def own(data: bytes) -> Extract:
    """Return the piece that is bytes of ours."""
    return Extract(len(data), own=data)


def joined_extracts(pieces: Iterable[Extract]) -> list[Extract]:
    """Return pieces with those made one that follow each other in the file."""
    found: list[Extract] = []
    for piece in pieces:
        last = found[-1] if found else None
        if last is not None and last.first is not None and piece.first == last.first + last.length:
            found[-1] = Extract(last.length + piece.length, last.first)
        elif piece.length:
            found.append(piece)
    return found


def orientation_of(tiff: bytes) -> int:
    """Return how an image is turned that has this in its EXIF, from 1 to 8; 1 where nothing can be read of it."""
    order = {b"II": "little", b"MM": "big"}.get(tiff[:2])
    if order is None:
        return UPRIGHT

    def number(place: int, count: int) -> int:
        return int.from_bytes(tiff[place : place + count], "little" if order == "little" else "big")

    directory = number(4, 4)
    for entry in range(min(number(directory, 2), 1000)):
        place = directory + 2 + 12 * entry
        if number(place, 2) == 0x0112 and number(place + 2, 2) == 3:
            found = number(place + 8, 2)
            return found if 1 <= found <= 8 else UPRIGHT
    return UPRIGHT


def tiff_of(orientation: int) -> bytes:
    """Return an EXIF that says how an image is turned and nothing else."""
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + orientation.to_bytes(2) + b"\0\0\0\0\0\0"
