"""The bytes of files in a backup, where they are not in MongoDB: as the chunks that they would be there.

So a backup can be brought back into either store, which is also how files move from one to the other.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import bson
from pymongo.database import Database

from service.core.clock import now
from service.core.log import log
from service.documents import Blob, BlobChunk, Lease
from service.files.blobs import CHUNK_BYTES, Blobs, BytesGone, chunk_id
from service.files.reading import pieces
from service.files.uploads import COPYING
from service.mongo.in_order import each_in_order
from service.mongo.raw import Raw
from service.outbox.items import worker_name
from service.records.storage import LIVING
from service.upkeep.archive import BackupError

CHUNKS_OF_BLOCK = 32
"""Chunks that a block of a backup has."""
HELD_SECONDS = 600.0
"""How long a sweep waits for a backup of which nothing more is heard."""
CLAIMED: Raw = {"file": {"$exists": True}, **LIVING}
"""The filter of the blobs that files have."""


class Copying:
    """The right to copy bytes, while which none are taken away."""

    def __init__(self) -> None:
        """Raise `BackupError` where another one copies."""
        epoch = Lease.take(COPYING, worker_name(), HELD_SECONDS)
        if epoch is None:
            raise BackupError("another backup is under way, or was cut short; try again in some minutes")
        self.epoch, self.renewed = epoch, time.monotonic()

    def go_on(self) -> None:
        """Keep the right. Raises `BackupError` where it is lost."""
        if time.monotonic() - self.renewed < HELD_SECONDS / 10:
            return
        self.renewed = time.monotonic()
        if not Lease.extend(COPYING, self.epoch, HELD_SECONDS):
            raise BackupError("MongoDB was away for so long that files may be gone; make the backup again")


@contextmanager
def copying(blobs: Blobs) -> Iterator[Copying | None]:
    """Have no bytes taken away while the block runs, where they are not in MongoDB, whose snapshot has them."""
    if blobs.in_mongodb:
        yield None
        return
    right = Copying()
    try:
        yield right
    finally:
        Lease.give_back(COPYING, right.epoch)


def blobs_of_files(session: Any) -> list[tuple[str, int]]:
    """Return id and length of the blobs that files have at the moment of a session."""
    rows = Blob._get_collection().find(CLAIMED, {"length": 1}, session=session)
    return [(row["_id"], row["length"]) for row in rows.sort("_id")]


def chunk_batches(blobs: Blobs, found: list[tuple[str, int]], right: Copying) -> Iterator[tuple[int, bytes]]:
    """Yield number and BSON of the chunks that blobs would have in MongoDB, some of them at a time.

    One that is not there is left out, and `flask files check` finds it then. Raises `StorageUnavailable`.
    """
    batch: list[bytes] = []
    for blob, length in found:
        try:
            for n, data in enumerate(chunks_of(blobs, blob, length)):
                batch.append(bson.encode({"_id": chunk_id(blob, n), "files_id": blob, "n": n, "data": data}))
                if len(batch) == CHUNKS_OF_BLOCK:
                    yield len(batch), b"".join(batch)
                    batch = []
                    right.go_on()
        except BytesGone:
            log.warning("bytes_gone", blob=blob)
    if batch:
        yield len(batch), b"".join(batch)


def chunks_of(blobs: Blobs, blob: str, length: int) -> Iterator[bytes]:
    """Yield the bytes of a blob, as many as a chunk has at a time. Raises `BytesGone`."""
    buffer = bytearray()
    for data in pieces(partial(blobs.read, blob), 0, length):
        buffer += data
        while len(buffer) >= CHUNK_BYTES:
            yield bytes(buffer[:CHUNK_BYTES])
            del buffer[:CHUNK_BYTES]
    if buffer:
        yield bytes(buffer)


def bring_back(blobs: Blobs, database: Database[Raw], prefix: str) -> None:
    """Bring the bytes of a restore, whose collections wait under a `prefix`, to where they belong.

    Uploads that were under way to S3 are over: their parts are in no backup. Raises `StorageUnavailable`.
    """
    waiting = database[f"{prefix}{Blob._get_collection_name()}"]
    over = {"$set": {"expires_at": now()}, "$unset": {"multipart": "", "parts": ""}}
    waiting.update_many({"multipart": {"$exists": True}, "file": None}, over)
    if blobs.in_mongodb:
        return
    chunks = database[f"{prefix}{BlobChunk._get_collection_name()}"]
    for row in each_in_order(waiting, CLAIMED, {"length": 1}):
        own = {"files_id": row["_id"]}
        if row["length"] and chunks.find_one(own, {"_id": 1}) is None:
            continue  # a file whose bytes were lost before the backup
        blobs.fill(row["_id"], (bytes(chunk["data"]) for chunk in chunks.find(own).sort("n")))
        chunks.delete_many(own)
