"""tus 1.0 at `/v1/uploads`: uploads that go on where they broke off (https://tus.io/protocols/resumable-upload).

Core, creation, creation-with-upload, expiration, checksum and termination.
"""

import binascii
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

from pymongo.errors import PyMongoError

from service.core.errors import (
    BadRequest,
    ChecksumMismatch,
    Problem,
    RequestTimeout,
    TooLarge,
    UnsupportedMediaType,
    UploadVersion,
)
from service.core.log import log
from service.files.names import base_name
from service.files.resumable import Resumable, Writing
from service.mongo.raw import Raw
from service.policy import Identity
from service.streams.exchange import ClientGone, Request, Response
from service.streams.files import Files, Headers
from service.streams.transfers import paced

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
CHECKSUM_ALGORITHMS = ("sha1", "sha256", "md5")
PART_TYPE = "application/offset+octet-stream"
MOST_METADATA = 4096
"""Most letters of `Upload-Metadata`, which is stored as it came."""
RENEWS_EVERY = 1.0
"""Seconds between two times that a writer keeps others out, while bytes come."""
MOST_HASHES = 1000
"""Most uploads that have broken off whose hash is kept; of any other all is read again at the end."""
SPOKEN: Headers = (("Tus-Resumable", VERSION), ("Cache-Control", "no-store"))


class Checksum(NamedTuple):
    """What the bytes of a body have to come to."""

    digest: Any
    value: bytes


class Tus:
    """Answers tus."""

    def __init__(self, settings: Mapping[str, Any], files: Files) -> None:
        self.files, self.threads = files, files.threads
        self.resumable = Resumable(files.uploads, min(int(settings["FILES_BYTES"]), files.blobs.most))
        self.part = files.blobs.part
        self.hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    async def describe(self, _request: Request) -> Response:
        """Say what is spoken here; anybody may ask."""
        told = (
            *(("Tus-Resumable", VERSION), ("Tus-Version", VERSION), ("Tus-Extension", EXTENSIONS)),
            *(("Tus-Max-Size", str(self.resumable.most)), ("Tus-Checksum-Algorithm", ",".join(CHECKSUM_ALGORITHMS))),
        )
        return Response(204, b"", told)

    async def create(self, request: Request) -> Response:
        """Begin an upload, with its first bytes where they come along."""
        identity = await self.admitted(request)
        declared = bytes_in(request, "upload-length")
        content = self.content(request)
        part_of(request)
        said = request.headers.get("upload-metadata", "")
        begin = partial(self.resumable.create, identity.account, declared, content, said)
        blob = await self.threads.do(begin)
        place = ("Location", f"/v1/uploads/{blob['_id']}")
        if not request.has_body and declared:
            return Response(201, b"", (*SPOKEN, place, *expiry(blob)))
        try:
            told = await self.written(request, identity, blob["_id"], 0)
        except BaseException:
            # Nobody knows where it is, so nobody goes on with it.
            await self.give_up(blob["_id"], identity.account)
            raise
        return Response(201, b"", (*told, place))

    async def give_up(self, id: str, account: str) -> None:
        """Free what an upload has reserved, at once if that can be, else when its time is over."""
        self.hashes.pop(id, None)
        try:
            await self.threads.do(partial(self.resumable.end, id, account))
        except (Problem, PyMongoError) as error:
            log.warning("upload_left", reason=type(error).__name__)

    async def tell(self, request: Request) -> Response:
        """Tell how many bytes are stored."""
        identity = await self.admitted(request)
        find = partial(self.resumable.found, request.arguments["id"], identity.account)
        blob = await self.threads.do(find)
        sizes = (("Upload-Offset", str(blob["length"])), ("Upload-Length", str(blob["declared"])))
        return Response(200, b"", (*SPOKEN, *sizes, *metadata_told(blob), *made_of(blob), *expiry(blob)))

    async def patch(self, request: Request) -> Response:
        """Take bytes behind those that are stored."""
        identity = await self.admitted(request)
        offset = bytes_in(request, "upload-offset")
        return Response(204, b"", await self.written(request, identity, request.arguments["id"], offset))

    async def end(self, request: Request) -> Response:
        """Give an upload up."""
        identity = await self.admitted(request)
        await self.threads.do(partial(self.resumable.end, request.arguments["id"], identity.account))
        self.hashes.pop(request.arguments["id"], None)
        return Response(204, b"", SPOKEN)

    async def admitted(self, request: Request) -> Identity:
        """Return who asks. Raises `NotAuthenticated`, and `UploadVersion` for another protocol."""
        if request.headers.get("tus-resumable") != VERSION:
            raise UploadVersion(headers={"Tus-Version": VERSION})
        return await self.files.identity(request)

    def content(self, request: Request) -> Raw:
        """Return what the file of an upload will say, in BSON form. Raises `BadRequest` and `ValidationFailed`."""
        told = metadata(request.headers.get("upload-metadata", ""))
        named = {"name": base_name(told.get("filename") or told.get("name"))}
        return self.files.type.schema.load(named | ({"id": told["id"]} if "id" in told else {}))

    # --- Bytes -------------------------------------------------------------------------------------------------------

    async def written(self, request: Request, identity: Identity, id: str, offset: int) -> Headers:
        """Take the bytes in a body, make the file where they are the last, and return what is told of it."""
        wanted = part_of(request)
        with self.files.transfers.coming(identity.account, self.part):
            writing = await self.threads.do(partial(self.resumable.hold, id, identity.account, offset))
            try:
                async with aclosing(paced(request, self.files.patience)) as body:
                    writing = await self.take(writing, body, wanted)
                return await self.told(identity, writing)
            finally:
                await self.threads.do(partial(self.resumable.release, id, writing.writer))

    async def take(self, writing: Writing, body: AsyncGenerator[bytes, None], wanted: Checksum | None) -> Writing:
        """Store the bytes of a body; with a checksum they count when all have come, and it is right.

        What has come of one that breaks off is stored. Raises `ClientGone`, `ChecksumMismatch`, and `TooLarge`.
        """
        running = self.kept_hash(writing.id, writing.length)
        buffer, renewed, commit = bytearray(writing.rest), monotonic(), wanted is None
        try:
            async for data in body:
                if writing.begin + len(buffer) + len(data) > writing.declared:
                    raise TooLarge(f"the upload is of {writing.declared} bytes")
                buffer += data
                if running is not None:
                    running.update(data)
                if wanted is not None:
                    wanted.digest.update(data)
                if writing.begin + len(buffer) == writing.declared:
                    break
                if len(buffer) >= self.part:
                    writing, buffer = await self.stored(writing, buffer, False, commit)
                    renewed = monotonic()
                elif monotonic() - renewed > RENEWS_EVERY:
                    await self.threads.do(partial(self.resumable.renew, writing))
                    renewed = monotonic()
        except (ClientGone, RequestTimeout):
            if commit:
                writing, _ = await self.stored(writing, buffer, False, True)
                self.remember(writing, running)
            raise
        if wanted is not None and wanted.digest.digest() != wanted.value:
            raise ChecksumMismatch
        # That all bytes are there is told with the file: a client that hears of it comes no more.
        is_whole = writing.begin + len(buffer) == writing.declared
        writing, _ = await self.stored(writing, buffer, is_whole, not is_whole)
        self.remember(writing, running)
        return writing

    async def stored(self, writing: Writing, buffer: bytearray, last: bool, commit: bool) -> tuple[Writing, bytearray]:
        """Store a part; return what comes after, with those of its bytes that the next part begins with."""
        after = await self.threads.do(partial(self.resumable.write, writing, bytes(buffer), last, commit))
        return after, bytearray(after.rest)

    def remember(self, writing: Writing, running: Any) -> None:
        """Keep the hash of what is stored, for who goes on."""
        if running is not None:
            self.hashes[writing.id] = writing.stop, running
            while len(self.hashes) > MOST_HASHES:
                self.hashes.popitem(last=False)

    async def told(self, identity: Identity, writing: Writing) -> Headers:
        """Return what is told after bytes have come; where they were the last, the file is made first."""
        told = (*SPOKEN, ("Upload-Offset", str(writing.stop)))
        if writing.stop < writing.declared:
            return (*told, expires(writing.expires_at))
        digest = self.kept_hash(writing.id, writing.stop) or await self.hashed(writing)
        record = await self.threads.do(partial(self.resumable.finish, identity, writing, digest.hexdigest()))
        return (*told, ("X-File-Id", record["_id"]))

    def kept_hash(self, id: str, stop: int) -> Any:
        """Return the hash of so many bytes of an upload, and keep it no longer; None where there is none."""
        known, digest = self.hashes.pop(id, (0, hashlib.sha256()))
        return digest if known == stop else None

    async def hashed(self, writing: Writing) -> Any:
        """Return the hash of all that is stored of an upload, and keep others out meanwhile. Raises `NotFound`."""
        digest, position, renewed = hashlib.sha256(), 0, monotonic()
        while position < writing.stop:
            data = await self.threads.do(partial(self.files.uploads.read, writing.id, position, writing.stop))
            digest.update(data)
            position += len(data)
            if monotonic() - renewed > RENEWS_EVERY:
                await self.threads.do(partial(self.resumable.renew, writing))
                renewed = monotonic()
        return digest


def bytes_in(request: Request, name: str) -> int:
    """Return the whole number in a header. Raises `BadRequest`."""
    text = request.headers.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest(f"`{name.title()}` is a number of bytes")
    return int(text)


def metadata(header: str) -> dict[str, str]:
    """Return the pairs of `Upload-Metadata`. Raises `BadRequest`."""
    found: dict[str, str] = {}
    if len(header) > MOST_METADATA:
        raise BadRequest(f"`Upload-Metadata` has {MOST_METADATA} letters at most")
    try:
        for pair in filter(None, header.split(",")):
            name, _, value = pair.strip().partition(" ")
            found[name] = binascii.a2b_base64(value, strict_mode=True).decode()
    except ValueError:
        raise BadRequest("`Upload-Metadata` has names, each with a text in Base64 behind it") from None
    return found


def part_of(request: Request) -> Checksum | None:
    """Return what the bytes in a body have to come to, if that is told. Raises `UnsupportedMediaType`, `BadRequest`."""
    if request.has_body and request.headers.get("content-type") != PART_TYPE:
        raise UnsupportedMediaType(f"bytes of an upload come as {PART_TYPE}")
    return checksum(request.headers.get("upload-checksum"))


def checksum(header: str | None) -> Checksum | None:
    """Return the checksum that a body is to have, if one is told. Raises `BadRequest`."""
    if header is None:
        return None
    algorithm, _, value = header.partition(" ")
    try:
        wanted = binascii.a2b_base64(value.strip(), strict_mode=True)
    except ValueError:
        wanted = b""
    if algorithm not in CHECKSUM_ALGORITHMS or not wanted:
        raise BadRequest(
            f"`Upload-Checksum` has one of {', '.join(CHECKSUM_ALGORITHMS)}, and the checksum in Base64 behind it"
        )
    return Checksum(hashlib.new(algorithm, usedforsecurity=False), wanted)


def expiry(blob: Raw) -> Headers:
    """Return when an upload goes; nothing of one that is finished."""
    return () if "file" in blob else (expires(blob["expires_at"]),)


def expires(moment: datetime) -> tuple[str, str]:
    """Return the header that says when an upload goes."""
    return "Upload-Expires", format_datetime(moment.replace(tzinfo=UTC), usegmt=True)


def metadata_told(blob: Raw) -> Headers:
    """Return what the client has said of an upload, as it did; nothing of one that was begun by an older version."""
    return (("Upload-Metadata", blob["metadata"]),) if blob.get("metadata") else ()


def made_of(blob: Raw) -> Headers:
    """Return which file was made of an upload."""
    return (("X-File-Id", blob["file"]),) if "file" in blob else ()
