"""Uploads that go on after whatever happens: what is stored of them, who writes to them, and their end.

What a client hears of an upload is what is committed of it. One writes at a time: who does holds the blob for some
seconds after the last bytes that came, so that a phone that has changed its network soon goes on by another connection.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from service.core.clock import now
from service.core.errors import AlreadyExists, Cause, NotFound, OffsetMismatch, TooLarge, UploadLocked
from service.documents import File
from service.documents.blob import Blob
from service.files.blobs import UPLOAD_ENDED, BlobPart, BytesGone
from service.files.findings import found_out
from service.files.uploads import Uploads, forget_late, in_its_time
from service.mongo import transactions
from service.mongo.raw import Raw
from service.policy import Identity
from service.records import storage

RESUMABLE_LIFE = timedelta(hours=24)
"""How long an upload may take from its creation."""
HELD_FOR = timedelta(seconds=5)
"""How long somebody who writes keeps others out after the last bytes that came."""
GOES_ON_ELSEWHERE = "the upload has ended, or goes on by another connection"


@dataclass(frozen=True, slots=True)
class Writing:
    """An upload while somebody writes to it.

    `length` bytes are committed; `begin` is where the next part begins, a whole number of steps of the store, and
    `rest` are the bytes from there on that are stored already.
    """

    id: str
    account: str
    writer: str
    declared: int
    length: int
    begin: int
    rest: bytes
    expires_at: datetime

    @property
    def stop(self) -> int:
        """How many bytes are stored, with those that are not committed."""
        return self.begin + len(self.rest)

    @property
    def own(self) -> Raw:
        """The filter of its blob while nobody else writes to it and it has not ended."""
        return {"_id": self.id, "writer": self.writer, "file": None, **storage.LIVING}


class Resumable:
    """The uploads of all accounts, each of `most` bytes."""

    def __init__(self, uploads: Uploads, most: int) -> None:
        self.uploads, self.blobs, self.most = uploads, uploads.blobs, most

    def create(self, account: str, declared: int, content: Mapping[str, Any], metadata: str) -> Raw:
        """Begin an upload of so many bytes, whose file will have this `content`; return its blob.

        `metadata` is what the client says of it, and is told again.

        One that names the id of its file is begun once, as long as none of its bytes has come: the answer to the first
        may be lost, and it has taken its room. Raises `TooLarge`, `QuotaExceeded`, and `AlreadyExists` where the id is
        taken.
        """
        if declared > self.most:
            raise TooLarge(f"a file has {self.most} bytes at most")
        if "_id" in content and File._get_collection().find_one({"_id": content["_id"]}, {"_id": 1}) is not None:
            raise AlreadyExists(
                "the id is taken", [Cause("not_unique", "an id that no record has or had", pointer="/id")]
            )
        about = {"declared": declared, "content": dict(content), "metadata": metadata}
        if "_id" in content and (begun := self.begun(account, about)) is not None:
            return begun
        return self.uploads.reserved(account, declared, RESUMABLE_LIFE, **about)

    def begun(self, account: str, about: Raw) -> Raw | None:
        """Return the blob of an upload that is begun with this, and no more; None where there is none."""
        untouched = {"length": 0, "file": None, "writer": None, "expires_at": {"$gt": now()}, **storage.LIVING}
        found: Raw | None = Blob._get_collection().find_one({"account": account, **about, **untouched})
        return found

    def found(self, id: str, account: str) -> Raw:
        """Return the blob of an upload of an account, finished or not. Raises `NotFound`."""
        blob: Raw | None = Blob._get_collection().find_one({**of_account(id, account), **storage.LIVING})
        if blob is None or ("file" not in blob and blob["expires_at"] <= now()):
            raise NotFound("there is no such upload, or its time is over")
        return blob

    def end(self, id: str, account: str) -> None:
        """Give an unfinished upload up. Raises `NotFound`."""
        own = {**of_account(id, account), "file": None}
        if not transactions.run_where_there_are(lambda: storage.orphan(own)):
            raise NotFound("there is no such upload, or it is finished")

    # --- Who writes --------------------------------------------------------------------------------------------------

    def hold(self, id: str, account: str, offset: int) -> Writing:
        """Begin to write behind so many bytes. Raises `NotFound`, `UploadLocked`, and `OffsetMismatch`."""
        writer, moment = secrets.token_hex(8), now()
        free: Raw = {"$or": [{"writer": None}, {"writer_until": {"$lte": moment}}]}
        same = {**of_account(id, account), "file": None, "expires_at": {"$gt": moment}, **storage.LIVING, **free}
        held = {"$set": {"writer": writer, "writer_until": moment + HELD_FOR}}
        blob: Raw | None = Blob._get_collection().find_one_and_update(same, held)
        if blob is None and "file" not in (blob := self.found(id, account)):
            raise UploadLocked
        if blob["length"] != offset or "file" in blob:
            self.release(id, writer)
            raise OffsetMismatch(f"{blob['length']} bytes are stored", headers={"Upload-Offset": str(blob["length"])})
        begin = offset - offset % self.blobs.step
        try:
            rest = self.blobs.rest(id, begin, offset)
        except BytesGone:
            self.end(id, account)
            raise NotFound(UPLOAD_ENDED) from None
        return Writing(id, account, writer, blob["declared"], offset, begin, rest, blob["expires_at"])

    def renew(self, writing: Writing) -> None:
        """Keep others out for some seconds more. Raises `NotFound` where one has come, or the upload has ended."""
        held = {"$set": {"writer_until": now() + HELD_FOR}}
        if not Blob._get_collection().update_one(writing.own, held).matched_count:
            raise NotFound(GOES_ON_ELSEWHERE)

    def release(self, id: str, writer: str) -> None:
        """Let others write."""
        Blob._get_collection().update_one({"_id": id, "writer": writer}, {"$unset": {"writer": "", "writer_until": ""}})

    def write(self, writing: Writing, data: bytes, last: bool, commit: bool) -> Writing:
        """Store bytes from where the next part begins, and, with `commit`, tell of them; return what comes after.

        Raises `NotFound` where somebody else writes by now, or the upload has ended.
        """
        stop = writing.begin + len(data)
        try:
            part = self.blobs.send(writing.id, writing.begin, data, last)
        except NotFound:
            self.end(writing.id, writing.account)
            raise
        in_its_time(partial(self.written, writing, part, stop if commit else None))
        whole = stop - stop % self.blobs.step
        rest = data[whole - writing.begin :]
        return replace(writing, length=stop if commit else writing.length, begin=whole, rest=rest)

    def written(self, writing: Writing, part: BlobPart, length: int | None) -> None:
        """Do it, as a part of a transaction."""
        told = {"writer_until": now() + HELD_FOR, **({} if length is None else {"length": length})}
        if not Blob._get_collection().update_one(writing.own, {"$set": told}).matched_count:
            raise NotFound(GOES_ON_ELSEWHERE)
        self.blobs.keep(writing.id, part)

    # --- The end -----------------------------------------------------------------------------------------------------

    def finish(self, identity: Identity, writing: Writing, digest: str) -> Raw:
        """Make the file of an upload that is whole, and return its record. Raises what a creation does."""
        try:
            blob = self.found(writing.id, writing.account)
            found = found_out(partial(self.uploads.read, writing.id), writing.declared)
            content = {**blob["content"], **found, "sha256": digest}
            return in_its_time(partial(self.finished, identity, writing, content))
        except NotFound:
            forget_late(self.blobs, writing.id)
            raise

    def finished(self, identity: Identity, writing: Writing, content: Raw) -> Raw:
        """Do it, as a part of a transaction: that all bytes are there is told when the file is."""
        whole = {"$set": {"length": writing.declared}}
        if not Blob._get_collection().update_one(writing.own, whole).matched_count:
            raise NotFound(GOES_ON_ELSEWHERE)
        return self.uploads.claimed(identity, writing.id, content)


def of_account(id: str, account: str) -> Raw:
    """Return the filter of the blob of an upload that may break off, if it is of an account."""
    return {"_id": id, "account": account, "declared": {"$exists": True}}
