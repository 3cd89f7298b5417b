"""Whether each file has its bytes, and each byte its file: what `flask files check` compares, both ways."""

import hashlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from service.documents import Account, File
from service.documents.blob import Blob
from service.files.blobs import Blobs, BytesGone
from service.files.reading import pieces
from service.mongo import transactions
from service.mongo.in_order import each_in_order
from service.mongo.raw import Raw
from service.policy import NOT_BURIED
from service.records.storage import LIVING, used_of


class Fault(NamedTuple):
    """What does not fit together: of which kind, of which file, blob or account, and what is wrong."""

    kind: str
    id: str
    detail: str


def faults(blobs: Blobs, content: bool = False) -> Iterator[Fault]:
    """Yield what does not fit together, beside a running service; with `content`, all bytes are read and hashed too.

    Each is looked at in a transaction of its own, so that what is just being written is no fault.
    """
    yield from each(File, NOT_BURIED, partial(wrong_with_file, blobs))
    if content:
        yield from each_content(blobs)
    yield from each(Blob, {"file": {"$exists": True}, **LIVING}, wrong_with_blob)
    yield from each(Account, {}, wrong_with_account)
    for id in blobs.strays(timedelta()):
        yield Fault("bytes", id, "their blob is not there")


def each_content(blobs: Blobs) -> Iterator[Fault]:
    """Yield what is wrong with the bytes of files, all of which are read, outside of any transaction."""
    for record in each_in_order(File._get_collection(), NOT_BURIED, {"blob": 1, "size": 1, "sha256": 1}):
        fault = wrong_bytes(blobs, record)
        # One that is deleted meanwhile has no bytes any more.
        if fault and File._get_collection().find_one({"_id": record["_id"], **NOT_BURIED}, {"_id": 1}):
            yield fault


def each(document: Any, condition: Raw, look: Callable[[str], Fault | None]) -> Iterator[Fault]:
    """Yield what is wrong with the documents of a class that fulfil a condition."""
    for row in each_in_order(document._get_collection(), condition, {"_id": 1}):
        found = transactions.run_where_there_are(partial(look, row["_id"]))
        if found is not None:
            yield found


def wrong_with_file(blobs: Blobs, id: str) -> Fault | None:
    """Return what is wrong with a file: its bytes are not there, or not all of them."""
    record = File._get_collection().find_one({"_id": id, **NOT_BURIED})
    if record is None:
        return None
    blob = Blob._get_collection().find_one({"_id": record.get("blob"), "file": id, **LIVING})
    if blob is None:
        return Fault("file", id, "its bytes are not there")
    if blob["length"] != record["size"]:
        return Fault("file", id, f"it has {blob['length']} bytes of {record['size']}")
    there = blobs.size(blob["_id"])
    return None if there == record["size"] else Fault("file", id, f"{there or 0} bytes of {record['size']} are there")


def wrong_bytes(blobs: Blobs, record: Raw) -> Fault | None:
    """Return what is wrong with the bytes of a file, all of which are read."""
    found, position = hashlib.sha256(), 0
    try:
        for data in pieces(partial(blobs.read, record["blob"]), 0, record["size"]):
            found.update(data)
            position += len(data)
    except BytesGone:
        return Fault("file", record["_id"], f"it ends at byte {position} of {record['size']}")
    is_same = found.hexdigest() == record["sha256"]
    return None if is_same else Fault("file", record["_id"], "its bytes are not those that were uploaded")


def wrong_with_blob(id: str) -> Fault | None:
    """Return what is wrong with claimed bytes: nobody has them."""
    blob = Blob._get_collection().find_one({"_id": id, "file": {"$exists": True}, **LIVING})
    if blob is None:
        return None
    own = {} if blob.get("rendition") else {"blob": id}
    if File._get_collection().find_one({"_id": blob["file"], **own, **NOT_BURIED}, {"_id": 1}):
        return None
    return Fault("blob", id, f"the file {blob['file']} is not there")


def wrong_with_account(id: str) -> Fault | None:
    """Return what is wrong with what is counted of an account."""
    account = Account._get_collection().find_one({"_id": id}, {"storage_bytes": 1})
    if account is None:
        return None
    number = sum(row["reserved"] for row in Blob._get_collection().find({"account": id}, {"reserved": 1}))
    used = used_of(account)
    return None if used == number else Fault("account", id, f"it is said to use {used} bytes, and uses {number}")
