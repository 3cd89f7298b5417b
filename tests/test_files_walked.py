"""Whoever goes through all files keeps no cursor open meanwhile: MongoDB ends one that waits for half an hour."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from bson import Binary
from pymongo.collection import Collection

from service.core.clock import now
from service.documents import Blob, BlobChunk, File
from service.files.blobs import GridFs, chunk_id
from service.files.check import each, each_content
from service.files.uploads import Uploads
from service.mongo import transactions
from service.policy import NOT_BURIED
from service.upkeep import file_bytes
from tests.types import REGISTRY

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("app")]

MANY = 1500
"""More than MongoDB gives at once, and than are read at once."""


def waiting_cursors(collection: Collection[Any]) -> int:
    """How many cursors of a collection are open, and wait for somebody to go on."""
    idle = [{"$currentOp": {"idleCursors": True}}, {"$match": {"ns": collection.full_name, "type": "idleCursor"}}]
    return len(transactions.outside(lambda: list(collection.database.client.admin.aggregate(idle))))


class Elsewhere(GridFs):
    """A store that is not MongoDB, and looks at the cursors of a collection while it has something to do."""

    in_mongodb = False

    def __init__(self, collection: Collection[Any]) -> None:
        self.collection = collection
        self.seen: list[int] = []
        self.done: list[str] = []

    def note(self, blob: str) -> None:
        """Note what is done, and now and then the cursors."""
        self.done.append(blob)
        if len(self.done) % 500 == 1:
            self.seen.append(waiting_cursors(self.collection))

    def fill(self, blob: str, pieces: Iterable[bytes]) -> None:
        self.note(f"{blob} {b''.join(pieces).decode()}")

    def read(self, blob: str, start: int, stop: int) -> bytes:
        self.note(blob)
        return b"x"

    def delete(self, blob: str) -> None:
        self.note(blob)


def names() -> list[str]:
    return [f"b{number:05}" for number in range(MANY)]


def stored_blobs(collection: Collection[Any], **about: Any) -> None:
    blob = {"account": "ada", "reserved": 1, "length": 1, "chunkSize": 1, "uploadDate": now(), **about}
    collection.insert_many([{"_id": name, **blob} for name in names()])


def stored_files() -> None:
    record = {"owner": "ada", "size": 1, "sha256": "0"}
    File._get_collection().insert_many([{"_id": name, "blob": name, **record} for name in names()])


def test_a_restore_fills_the_store_without_a_cursor() -> None:
    waiting = Blob._get_collection()
    stored_blobs(waiting, file="f")
    chunks = [{"_id": chunk_id(name, 0), "files_id": name, "n": 0, "data": Binary(b"x")} for name in names()]
    BlobChunk._get_collection().insert_many(chunks)
    store = Elsewhere(waiting)
    file_bytes.bring_back(store, waiting.database, "")
    assert store.done == [f"{name} x" for name in names()]
    assert set(store.seen) == {0}
    assert BlobChunk._get_collection().count_documents({}) == 0


def test_a_check_looks_at_each_without_a_cursor() -> None:
    stored_files()
    store = Elsewhere(File._get_collection())
    assert list(each(File, NOT_BURIED, store.note)) == []
    assert store.done == names()
    assert set(store.seen) == {0}


def test_a_check_reads_all_bytes_without_a_cursor() -> None:
    stored_files()
    store = Elsewhere(File._get_collection())
    assert [fault.id for fault in each_content(store)] == names()
    assert store.done == names()
    assert set(store.seen) == {0}


def test_a_sweep_takes_bytes_away_without_a_cursor() -> None:
    stored_blobs(Blob._get_collection(), orphaned_at=now() - timedelta(seconds=1))
    store = Elsewhere(Blob._get_collection())
    assert Uploads(REGISTRY, store, 0).sweep() == MANY
    assert sorted(store.done) == names()
    assert set(store.seen) == {0}
