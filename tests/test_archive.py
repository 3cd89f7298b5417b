"""The file of a backup: any change, cut or addition is found, and what is something else is told."""

import random
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.binary import Binary

from service.core.clock import now
from service.upkeep import archive
from service.upkeep.archive import BackupError


def whole(folder: Path, *blocks: dict[str, Any]) -> Path:
    """An archive of these blocks, with the right checksum."""
    file = folder / "made"
    with file.open("wb") as opened:
        writer = archive.ArchiveWriter(opened)
        for block in blocks:
            writer.add(block)
        writer.close()
    return file


def block(*documents: bytes, name: str = "notes") -> dict[str, Any]:
    return {"collection": name, "count": len(documents), "documents": Binary(b"".join(documents))}


HEADER = {"made_at": now(), "versions": {"accounts": 1, "notes": 1}}
NOTE = bson.encode({"_id": "x"})


def small(folder: Path) -> bytes:
    return whole(folder, HEADER, block(NOTE), {"counts": {"notes": 1}}).read_bytes()


def checked(folder: Path, data: bytes) -> None:
    file = folder / "file"
    file.write_bytes(data)
    with file.open("rb") as opened:
        archive.verify(opened)


def test_every_byte_that_is_changed_is_found(tmp_path: Path) -> None:
    data = small(tmp_path)
    checked(tmp_path, data)
    for place in range(len(data)):
        for change in (1, 0x80):
            changed = bytearray(data)
            changed[place] ^= change
            with pytest.raises(BackupError):
                checked(tmp_path, bytes(changed))


def test_every_cut_and_every_addition_is_found(tmp_path: Path) -> None:
    data = small(tmp_path)
    for size in range(len(data)):
        with pytest.raises(BackupError):
            checked(tmp_path, data[:size])
    for more in (b"\0", b"\n", data, bytes(archive.DIGEST)):
        with pytest.raises(BackupError):
            checked(tmp_path, data + more)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a backup"),
        (b"hello\n", "not a backup"),
        (b"\x1f\x8b" + bytes(100), "not a backup"),
        (b"madang backup 2\n" + bytes(100), "has format 2, of a newer Madang; this one reads up to 1"),
        (b"madang backup 1\n" + bytes(100), "damaged"),
        (b"madang backup 1\n", "damaged"),
    ],
)
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(BackupError, match=reason):
        checked(tmp_path, content)


def unpacked(folder: Path, *raw: bytes, flush: bool) -> list[archive.Block]:
    """The blocks of an archive with the right checksum over what is no good stream of blocks."""
    with (folder / "made").open("wb") as file:
        writer = archive.ArchiveWriter(file)
        for data in raw:
            writer.write(writer.packer.compress(data) if flush else data)
        writer.write(writer.packer.flush() if flush else b"")
        file.write(writer.digest.digest())
    with (folder / "made").open("rb") as file:
        archive.verify(file)
        return list(archive.blocks(file))


@pytest.mark.parametrize(
    ("raw", "flush"),
    [(b"no gzip", False), (b"", False), (NOTE[:-1], True), (b"\x05\0\0\0\1", True), (b"\0\0\0\0", True)],
    ids=["no gzip", "nothing", "a cut block", "no BSON", "a block of no length"],
)
def test_blocks_that_nobody_wrote_are_refused(tmp_path: Path, raw: bytes, flush: bool) -> None:
    with pytest.raises(BackupError, match="damaged"):
        unpacked(tmp_path, raw, flush=flush)


def test_large_blocks_come_out_as_they_went_in(tmp_path: Path) -> None:
    sizes = (0, 1, archive.PIECE - 1, archive.PIECE, 3 * archive.PIECE + 1)
    blocks = [{"documents": random.randbytes(size // 2) + bytes(size - size // 2)} for size in sizes]
    with whole(tmp_path, *blocks).open("rb") as file:
        archive.verify(file)
        assert list(archive.blocks(file)) == blocks
