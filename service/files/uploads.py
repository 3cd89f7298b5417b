"""Bytes on their way to become a file: reserved, added part by part, and claimed by the record that is made of them.

The record is there when, and only when, its bytes are. They come first, under the id of a blob that is nobody's; then
one transaction makes the record and gives it the blob. What nobody has claimed in time, and what a deleted record has
left, a worker takes away.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from pymongo.errors import DuplicateKeyError

from service.core.clock import now
from service.core.errors import NotFound, Problem
from service.core.ids import new_id
from service.documents import File, Lease
from service.documents.blob import Blob
from service.files.blobs import CHUNK_BYTES, UPLOAD_ENDED, BlobPart, Blobs, BytesGone
from service.files.findings import found_out
from service.model.registry import Registry
from service.mongo import deadline, transactions
from service.mongo.raw import Raw
from service.policy import Identity
from service.records import storage
from service.records.writing import Writer

COPYING = "copying"
"""The name of the lease of who copies bytes that are not in MongoDB: no sweep takes one away meanwhile."""
STRAY_FOR = timedelta(days=1)
"""How long bytes of which nothing is known lie: longer than a restore, whose records come after their bytes."""
DIRECT_LIFE = timedelta(minutes=30)
"""How long bytes may come by one request."""


Result = TypeVar("Result")


def in_its_time(work: Callable[[], Result]) -> Result:
    """Do work as one transaction, whose time does not begin with what another store took before."""
    return deadline.apart(lambda: transactions.run_where_there_are(work))


def forget_late(blobs: Blobs, id: str) -> None:
    """Remove the bytes of a blob that was swept away while they were on their way to a store that undoes nothing."""
    if not blobs.in_mongodb and Blob._get_collection().find_one({"_id": id}, {"_id": 1}) is None:
        blobs.delete(id)


def noted(made: Raw, beside: Callable[[Raw], None]) -> Raw:
    """Do what is to be done beside a record that was made, and return that."""
    beside(made)
    return made


@dataclass(frozen=True, slots=True)
class Upload:
    """What is stored of bytes that come: `length` of them, where `reserved` may become."""

    id: str
    account: str
    length: int = 0
    reserved: int = 0


class Uploads:
    """Those of all accounts, each of which may have `limit` bytes; the bytes are in `blobs`."""

    def __init__(self, registry: Registry, blobs: Blobs, limit: int) -> None:
        self.registry, self.blobs, self.limit = registry, blobs, limit

    def begin(self, account: str, expected: int, life: timedelta = DIRECT_LIFE) -> Upload:
        """Reserve room for the bytes that are expected. Raises `QuotaExceeded`, or `NotAuthenticated`."""
        return Upload(self.reserved(account, expected, life)["_id"], account, 0, expected)

    def reserved(self, account: str, expected: int, life: timedelta, **about: Any) -> Raw:
        """Do it, and return the blob; `about` is what else it says."""
        upload = Upload(new_id(), account, 0, expected)
        return transactions.run_where_there_are(partial(self.begun, upload, life, about))

    def begun(self, upload: Upload, life: timedelta, about: Mapping[str, Any]) -> Raw:
        """Do it, as a part of a transaction."""
        storage.reserve_bytes(upload.account, upload.reserved, self.limit)
        moment = now()
        blob = {
            "_id": upload.id,
            "account": upload.account,
            "reserved": upload.reserved,
            "length": 0,
            "chunkSize": CHUNK_BYTES,
            "uploadDate": moment,
            "expires_at": moment + life,
            **about,
        }
        Blob._get_collection().insert_one(blob)
        return blob

    def add(self, upload: Upload, data: bytes) -> Upload:
        """Add bytes, after a whole number of steps of the store; return what is stored then.

        Raises `QuotaExceeded`, and `NotFound` where the upload has ended meanwhile.
        """
        part = self.blobs.send(upload.id, upload.length, data, False)
        return in_its_time(partial(self.added, upload, len(data), part))

    def added(self, upload: Upload, count: int, part: BlobPart) -> Upload:
        """Tell of so many bytes more, as a part of a transaction."""
        length = upload.length + count
        after = replace(upload, length=length, reserved=max(upload.reserved, length))
        if after.reserved > upload.reserved:
            storage.reserve_bytes(upload.account, after.reserved - upload.reserved, self.limit)
        same = {"_id": upload.id, "length": upload.length, "file": None, **storage.LIVING}
        told = {"$set": {"length": after.length, "reserved": after.reserved}}
        if not Blob._get_collection().update_one(same, told).matched_count:
            raise NotFound(UPLOAD_ENDED)
        self.blobs.keep(upload.id, part)
        return after

    def finish(
        self,
        identity: Identity,
        upload: Upload | None,
        rest: bytes,
        content: Mapping[str, Any],
        beside: Callable[[Raw], None] = lambda _made: None,
    ) -> Raw:
        """Add the last bytes and make the record with this `content`, in BSON form; return it.

        Without an `upload` these are all bytes; `beside` is done with the record, in the same transaction. Raises what
        `begin`, `add`, `Writer.create` and `beside` do.
        """
        if upload is None and not self.blobs.in_mongodb:
            # Nothing undoes what such a store has got: so there is a blob by which the sweep finds it.
            upload = self.begin(identity.account, len(rest))
        begun = upload or Upload(new_id(), identity.account, 0, len(rest))
        try:
            part = self.blobs.send(begun.id, begun.length, rest, True)
            whole = {**content, **self.found_out(begun, rest)}
            work = partial(self.finished, identity, begun, upload is None, len(rest), part, whole)
            return in_its_time(lambda: noted(work(), beside))
        except (Problem, DuplicateKeyError):
            # Mongomock has undone nothing.
            self.give_up(begun)
            raise

    def found_out(self, upload: Upload, rest: bytes) -> Raw:
        """Return what the bytes of an upload and the rest of them tell of the file. Raises `NotFound`."""

        def read(first: int, stop: int) -> bytes:
            if first < upload.length:
                return self.read(upload.id, first, min(stop, upload.length))
            return rest[first - upload.length : stop - upload.length]

        return found_out(read, upload.length + len(rest))

    def read(self, id: str, start: int, stop: int) -> bytes:
        """Return bytes of an upload, as its store does. Raises `NotFound` where it was swept away meanwhile."""
        try:
            return self.blobs.read(id, start, stop)
        except BytesGone:
            raise NotFound(UPLOAD_ENDED) from None

    def finished(
        self, identity: Identity, upload: Upload, is_new: bool, count: int, part: BlobPart, content: Mapping[str, Any]
    ) -> Raw:
        """Do it, as a part of a transaction."""
        if is_new:
            self.begun(upload, DIRECT_LIFE, {})
        self.added(upload, count, part)
        return self.claimed(identity, upload.id, content)

    def claimed(self, identity: Identity, id: str, content: Mapping[str, Any]) -> Raw:
        """Make the record of a blob, as a part of a transaction, and return it.

        Raises `NotFound` where the upload has ended meanwhile, and what `Writer.create` does.
        """
        blob = Blob._get_collection().find_one({"_id": id, "file": None, **storage.LIVING})
        if blob is None:
            raise NotFound(UPLOAD_ENDED)
        whole = {"_id": new_id(), **content, "blob": id, "size": blob["length"]}
        made = Writer(self.registry, self.registry.of(File), identity).create(whole)
        storage.reserve_bytes(blob["account"], blob["length"] - blob["reserved"], self.limit)
        over = {"expires_at": "", "writer": "", "writer_until": ""}
        claim = {"$set": {"file": made["_id"], "reserved": blob["length"]}, "$unset": over}
        Blob._get_collection().update_one({"_id": id}, claim)
        self.blobs.settle(id)
        return made

    def give_up(self, upload: Upload) -> None:
        """Leave the bytes of an upload that is not finished to the sweep."""
        unclaimed = {"_id": upload.id, "file": None}
        in_its_time(lambda: storage.orphan(unclaimed))
        forget_late(self.blobs, upload.id)

    def sweep_strays(self, going_on: Callable[[], bool] = lambda: True) -> int:
        """Remove the bytes of which nothing is known, while `going_on`; return of how many blobs.

        They are what somebody was killed over at the very moment of a sweep, or a restore that did not come to its end.
        """
        gone = 0
        for id in self.blobs.strays(STRAY_FOR):
            if not going_on():
                break
            self.blobs.delete(id)
            gone += 1
        return gone

    def sweep(self, going_on: Callable[[], bool] = lambda: True) -> int:
        """Take away the bytes that nobody claims any more, while `going_on`; return of how many blobs."""
        late = {"file": None, "expires_at": {"$lte": now()}}
        while going_on() and transactions.run_where_there_are(lambda: storage.orphan(late)):
            pass
        gone = 0
        orphaned = {"orphaned_at": {"$exists": True}}
        while rows := list(Blob._get_collection().find(orphaned, {"_id": 1}, limit=storage.BATCH)):
            for row in rows:
                # Asked after the row was found: so a copy that begins behind it has no such file.
                if not going_on() or (not self.blobs.in_mongodb and Lease.is_taken(COPYING)):
                    return gone
                # Who adds to a blob writes to it in the same transaction, so nothing comes after it was given up.
                self.blobs.delete(row["_id"])
                gone += Blob._get_collection().delete_one({"_id": row["_id"]}).deleted_count
        return gone
