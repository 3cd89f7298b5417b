"""The file of a backup: compressed, and whole or refused.

A line of text names the format. What follows is one gzip stream of BSON documents: a header, blocks of stored
documents, and at the end the number of documents of each collection. The last 32 bytes are the SHA-256 of all before.
"""

import hashlib
import os
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import bson
from bson.raw_bson import RawBSONDocument

FORMAT = 1
"""The format that this version writes, and the newest that it reads."""

NAME = b"madang backup %d\n"
LEVEL = 1
"""Of gzip: the higher ones make the file a tenth smaller, and take three times as long."""
PIECE = 1024 * 1024
DIGEST = 32
GZIP = 31
"""What zlib calls the format of gzip, with its header."""

Block = dict[str, Any]


class BackupError(RuntimeError):
    """A backup cannot be made or brought back; the message is for the person at the terminal."""


class ArchiveWriter:
    """Writes an archive into an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        self.raw = 0
        """Bytes before compression."""
        self.write(NAME % FORMAT)

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.digest.update(data)
        self.file.write(data)

    def add(self, block: Mapping[str, Any]) -> None:
        """Write one block."""
        data = bson.encode(block)
        self.raw += len(data)
        self.write(self.packer.compress(data))

    def close(self) -> None:
        """Write the end; without it the file is refused."""
        self.write(self.packer.flush())
        self.file.write(self.digest.digest())
        self.file.flush()
        os.fsync(self.file.fileno())


@contextmanager
def created(path: Path) -> Iterator[ArchiveWriter]:
    """Give a writer whose file is at `path`, for its owner alone, when the block has ended well; else there is none.

    Raises `BackupError` where there is a file already, `OSError` where it cannot be written.
    """
    if path.exists():
        raise BackupError(f"{path} is there already; name another file")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            writer = ArchiveWriter(file)
            yield writer
            writer.close()
        draft.rename(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Have a new name in a folder survive a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def verify(file: BinaryIO) -> None:
    """Raise `BackupError` unless an open file is a whole archive of a format that this version reads."""
    first = file.readline(64)
    found = re.fullmatch(rb"madang backup (\d{1,9})\n", first)
    if found is None:
        raise BackupError("this is not a backup of Madang")
    if int(found[1]) > FORMAT:
        raise BackupError(f"the backup has format {int(found[1])}, of a newer Madang; this one reads up to {FORMAT}")
    file.seek(0)
    digest, rest = hashlib.sha256(), file.seek(0, os.SEEK_END) - DIGEST
    file.seek(0)
    while rest > 0 and (data := file.read(min(PIECE, rest))):
        digest.update(data)
        rest -= len(data)
    if rest != 0 or file.read() != digest.digest():
        raise BackupError("the backup is damaged: it is not whole, or was changed after it was made")
    file.seek(0)


def blocks(file: BinaryIO) -> Iterator[Block]:
    """Yield the blocks of an open archive, one at a time in memory. Raises `BackupError` where it is damaged."""
    file.readline(64)
    unpacker, buffer = zlib.decompressobj(GZIP), bytearray()
    try:
        while data := unpacker.unconsumed_tail or file.read(PIECE):
            buffer += unpacker.decompress(data, PIECE)
            while len(buffer) >= 4 and len(buffer) >= (size := int.from_bytes(buffer[:4], "little")):
                yield bson.decode(bytes(buffer[:size]))
                del buffer[:size]
            if unpacker.eof:
                break
    except (zlib.error, bson.InvalidBSON) as error:
        raise BackupError(f"the backup is damaged: {error}") from error
    if buffer or not unpacker.eof:
        raise BackupError("the backup is damaged: its last block is not whole")


def documents_in(joined: bytes) -> Iterator[RawBSONDocument]:
    """Yield the stored documents of a block."""
    place = 0
    while place < len(joined):
        size = int.from_bytes(joined[place : place + 4], "little")
        yield RawBSONDocument(joined[place : place + size])
        place += size


def count(joined: bytes) -> int:
    """Return how many stored documents a block has."""
    found = place = 0
    while place < len(joined):
        place += int.from_bytes(joined[place : place + 4], "little")
        found += 1
    return found
