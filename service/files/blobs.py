"""Where the bytes of files are: one small protocol, and MongoDB's GridFS behind it. What speaks S3 is in `s3`."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import NamedTuple, Protocol

from bson.binary import Binary

from service.documents.blob import Blob, BlobChunk
from service.files.reading import pieces
from service.mongo.raw import Raw

CHUNK_BYTES = 255 * 1024
"""Bytes of a chunk; what GridFS takes itself, so that a document with its names fits into 256 KiB."""
CHUNKS_AT_ONCE = 100
"""Most chunks that one operation deletes."""
FILE_NOT_THERE = "there is no such file"
"""What somebody hears of a file that is not there, or that they may not read."""
UPLOAD_ENDED = "the upload has ended; begin another one"
"""What somebody hears who goes on with an upload of which nothing is left."""


class BytesGone(Exception):
    """Bytes that were to be read are not there any more."""


class BlobPart(NamedTuple):
    """Bytes of a blob from `start` on, which are still to be kept, and the `tags` of what the store has of them."""

    start: int
    data: bytes
    tags: Mapping[str, str] = {}


class Blobs(Protocol):
    """Keeps bytes by the id of their blob. What a blob is, and whose, stands in MongoDB: `documents/blob.py`.

    Bytes are put part by part, in two steps: `send`, and then `keep` in the transaction that tells of them. Each part
    begins on a multiple of `step`; so what comes after a part that did not end on one is put together with the bytes
    since the last. A part that is put again takes the place of the first. All are there to be read after the last one.
    """

    step: int
    part: int
    """Bytes of a part as they come from a client: what an upload holds in memory."""
    in_mongodb: bool
    """Whether the bytes are documents of MongoDB: part of the transaction of their thread, and of a backup."""
    most: int
    """Most bytes of a blob."""

    def send(self, blob: str, start: int, data: bytes, last: bool) -> BlobPart:
        """Hand bytes over to the store, outside of a transaction; return what is to be kept. `last` ends the blob.

        Raises `StorageUnavailable`, and `NotFound` where what is there of the blob is of no use any more.
        """

    def keep(self, blob: str, part: BlobPart) -> None:
        """Keep what `send` has returned, as a part of a transaction."""

    def rest(self, blob: str, start: int, stop: int) -> bytes:
        """Return the bytes behind the last whole step of a blob that is not ended. Raises `BytesGone`."""

    def settle(self, blob: str) -> None:
        """Forget what was needed until a blob was ended, as a part of the transaction that claims it."""

    def read(self, blob: str, start: int, stop: int) -> bytes:
        """Return bytes of a blob that is ended: at least one, and none from `stop` on.

        Raises `BytesGone`, and `StorageUnavailable`.
        """

    def delete(self, blob: str) -> None:
        """Remove all bytes of a blob; where there are none that is done already. Raises `StorageUnavailable`."""

    def size(self, blob: str) -> int | None:
        """Return how many bytes there are of a blob that is ended; None where that cannot be said."""

    def fill(self, blob: str, pieces: Iterable[bytes]) -> None:
        """Store all bytes of a blob that is not there yet, as a restore does. Raises `StorageUnavailable`."""

    def strays(self, age: timedelta) -> Iterator[str]:
        """Yield the ids of blobs that are not there, and have bytes; of those that have not lain for `age`, none."""


class GridFs:
    """Keeps bytes in chunks, as documents of MongoDB."""

    step = CHUNK_BYTES
    part = 4 * CHUNK_BYTES
    in_mongodb = True
    most = 2**50

    def send(self, blob: str, start: int, data: bytes, last: bool) -> BlobPart:
        """Return what is to be kept: all of it."""
        return BlobPart(start, data)

    def keep(self, blob: str, part: BlobPart) -> None:
        """Store a part, as a part of a transaction."""
        for offset in range(0, len(part.data), CHUNK_BYTES):
            n, piece = (part.start + offset) // CHUNK_BYTES, Binary(part.data[offset : offset + CHUNK_BYTES])
            same = {"_id": chunk_id(blob, n)}
            BlobChunk._get_collection().replace_one(same, {"files_id": blob, "n": n, "data": piece}, upsert=True)

    def rest(self, blob: str, start: int, stop: int) -> bytes:
        """Return the bytes from one place to another. Raises `BytesGone`."""
        return b"".join(pieces(partial(self.read, blob), start, stop))

    def settle(self, blob: str) -> None:
        """Do nothing: the parts are the blob."""

    def read(self, blob: str, start: int, stop: int) -> bytes:
        """Return bytes from `start` on: at least one, and none from `stop` on. Raises `BytesGone`."""
        n, begin = divmod(start, CHUNK_BYTES)
        found = BlobChunk._get_collection().find_one({"_id": chunk_id(blob, n)}, {"data": 1})
        data = bytes(found["data"][begin : begin + stop - start]) if found is not None else b""
        if not data:
            raise BytesGone(blob)
        return data

    def delete(self, blob: str) -> None:
        """Remove all bytes of a blob; where there are none that is done already."""
        self.remove({"files_id": blob})

    def drop(self, blob: str, stop: int) -> None:
        """Remove the chunks before a place."""
        self.remove({"files_id": blob, "n": {"$lt": stop // CHUNK_BYTES}})

    def remove(self, own: Raw) -> None:
        """Remove the chunks that fulfil a condition."""
        while rows := list(BlobChunk._get_collection().find(own, {"_id": 1}, limit=CHUNKS_AT_ONCE)):
            BlobChunk._get_collection().delete_many({"_id": {"$in": [row["_id"] for row in rows]}})

    def size(self, blob: str) -> int | None:
        """Return how many bytes there are by the number of chunks and the last one; None where they do not fit."""
        own = {"files_id": blob}
        number = BlobChunk._get_collection().count_documents(own)
        if not number:
            return 0
        last = BlobChunk._get_collection().find_one({**own, "n": number - 1})
        return None if last is None else (number - 1) * CHUNK_BYTES + len(last["data"])

    def fill(self, blob: str, pieces: Iterable[bytes]) -> None:
        """Store all bytes of a blob."""
        for start, data in split_evenly(pieces, self.part):
            self.keep(blob, BlobPart(start, data))

    def strays(self, age: timedelta) -> Iterator[str]:
        """Yield the blobs that are not there, and have chunks; of an `age` none, for nothing says how long they lie.

        A sweep leaves none, and those that a restore brings back may be there before their blobs.
        """
        if age:
            return
        for row in BlobChunk._get_collection().aggregate([{"$group": {"_id": "$files_id"}}]):
            # Looked at in this order: a sweep takes the chunks before the blob.
            is_owned = Blob._get_collection().find_one({"_id": row["_id"]}, {"_id": 1}) is not None
            if not is_owned and BlobChunk._get_collection().find_one({"files_id": row["_id"]}, {"_id": 1}) is not None:
                yield row["_id"]


def split_evenly(pieces: Iterable[bytes], part: int) -> Iterator[tuple[int, bytes]]:
    """Yield bytes that come in pieces as parts of so many, each with its place; the last may be a short one."""
    buffer, start = bytearray(), 0
    for piece in pieces:
        buffer += piece
        # What is left over is never nothing: the last part is the one at which a store ends.
        while len(buffer) > part:
            yield start, bytes(buffer[:part])
            del buffer[:part]
            start += part
    yield start, bytes(buffer)


def chunk_id(blob: str, n: int) -> str:
    """Return the id of a chunk of a blob."""
    return f"{blob}.{n}"
