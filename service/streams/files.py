"""Files: `POST /v1/files`, and the bytes of each. A slow client holds a part of a file, and no thread."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core.errors import BadParameter, Cause, NotFound, Problem, RequestInProgress, RevisionMismatch
from service.core.json_text import decode
from service.core.query_string import each_once
from service.documents import File
from service.files.blobs import FILE_NOT_THERE, Blobs, BytesGone, GridFs
from service.files.links import FileLinks, reader_of
from service.files.media_types import is_shown
from service.files.names import disposition
from service.files.ranges import Span, parse_ranges
from service.files.uploads import Uploads
from service.http.connections import BUFFERED
from service.identity.security import Security
from service.model.registry import Registry
from service.mongo import driver
from service.mongo.raw import Raw
from service.policy import NOT_BURIED, Identity
from service.records.reading import Reader
from service.streams.contents import Content, Contents
from service.streams.exchange import Request, Response, json_response
from service.streams.forms import MOST_TEXT, MULTIPART, body_kind, pieces_of, too_large_a_file
from service.streams.retries import UploadRetries, UploadRetry
from service.streams.threads import Threads
from service.streams.transfers import Intake, Transfers, paced

CONTENT_PARAMETERS = frozenset({"inline", "link", "size"})
THROUGH_PARAMETERS = frozenset({"inline", "size"})
ANYWHERE = (("Cross-Origin-Resource-Policy", "cross-origin"),)
"""What lets the page of any site show what a link leads to: whoever has the link may see it."""
LISTS = ("readers", "writers")
"""Parts of a form that may come several times, or once as a list in JSON."""
CLOSED = "default-src 'none'; frame-ancestors 'none'; sandbox"
SHOWING = (
    "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
)
"""Policies of what is saved and of what is shown: nothing runs under either. A PDF is shown in no sandbox."""
PDF = "application/pdf"
Headers = tuple[tuple[str, str], ...]


class Files:
    """Takes and gives the bytes of files."""

    def __init__(
        self, settings: Mapping[str, Any], registry: Registry, security: Security, threads: Threads, blobs: Blobs
    ) -> None:
        self.registry, self.security, self.threads, self.blobs = registry, security, threads, blobs
        self.type = registry.of(File)
        self.uploads = Uploads(registry, blobs, settings["FILES_ACCOUNT_BYTES"])
        self.most = int(settings["FILES_DIRECT_BYTES"])
        self.patience = float(settings["CLIENT_TIMEOUT"])
        self.transfers = Transfers()
        # What threads have read lies in memory until the event loop comes to it, and a crowd keeps that busy.
        self.reads = asyncio.Semaphore(settings["STREAMS_THREADS"])
        self.contents = Contents(settings, threads, blobs)
        self.links = FileLinks(security.keys.each("file link"))
        self.retries = UploadRetries(settings, security.keys)

    async def identity(self, request: Request) -> Identity:
        """Return who asks. Raises `NotAuthenticated` or `TokenExpired`."""
        found = await self.threads.do(partial(self.security.identify, request.headers.get("authorization")))
        request.account = found.account
        return found

    # --- They come ---------------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        """Store the file in the body, and answer with its record.

        Raises `TooLarge`, `QuotaExceeded`, `ValidationFailed`, and what a creation and a body that comes do.
        """
        identity = await self.identity(request)
        with self.transfers.coming(identity.account, self.held(request)):
            async with aclosing(paced(request, self.patience)) as body:
                return await self.taken(request, identity, body)

    def made(self, record: Raw) -> Response:
        """Return the answer that tells of a new file."""
        answer = json_response(self.type.schema.dump(record), 201)
        tag = f'"{record["revision"]}"'
        return Response(201, answer.body, (*answer.headers, ("Location", f"/v1/files/{record['_id']}"), ("ETag", tag)))

    def held(self, request: Request) -> int:
        """Return how many bytes of an upload are in memory at once."""
        return min(self.blobs.part, max(GridFs.part, told_length(request) or self.most))

    async def taken(self, request: Request, identity: Identity, body: AsyncGenerator[bytes, None]) -> Response:
        """Make the file in the body, and tell of it."""
        is_form = body_kind(request.headers)[0] == MULTIPART
        length = told_length(request)
        if length > self.most + (MOST_TEXT if is_form else 0):
            raise too_large_a_file(self.most)
        intake = Intake(self.uploads, self.threads, identity, self.most, 0 if is_form else length)
        try:
            filename, fields = await fill(intake, request, body)
            content = self.type.schema.load({"name": filename, **form_members(fields)})
            retry = self.retries.of(request, identity.account, content, intake.hash.hexdigest())
            if retry is not None:
                return await self.once(request, intake, content, retry)
            return self.made(await intake.finish(content))
        except BaseException:
            await intake.give_up()
            raise

    async def once(self, request: Request, intake: Intake, content: Raw, retry: UploadRetry) -> Response:
        """Make a file unless that was done by an earlier request with its key, and tell of it.

        Raises `IdempotencyMismatch`, `TooManyRequests`, `RequestInProgress`, and what a creation does.
        """
        try:
            if (kept := await self.threads.do(partial(self.retries.kept, retry))) is None:
                return self.made(await intake.finish(content, lambda made: self.retries.keep(retry, self.made(made))))
        except DuplicateKeyError:
            # The same request has come at the same moment, and was quicker.
            kept = await self.threads.do(partial(self.retries.kept, retry))
        except Problem as problem:
            await self.threads.do(partial(self.retries.keep_problem, retry, problem, request))
            raise
        await intake.give_up()
        if kept is None:
            raise RequestInProgress("an earlier request with this key is still running")
        return kept

    # --- They go -----------------------------------------------------------------------------------------------------

    async def content(self, request: Request) -> Response:
        """Answer with the bytes of a file, or of a smaller image of it, or with some of them.

        Raises `NotFound`, `RangeNotSatisfiable`, and what `Contents` does.
        """
        asked = each_once(request.parameters)
        if "link" in asked:
            return await self.linked(request, asked)
        identity = await self.identity(request)
        record = await self.threads.do(partial(self.find, identity, request.arguments["id"]))
        return await self.told(request, record, identity.account == record["owner"], asked)

    async def linked(self, request: Request, asked: Mapping[str, str]) -> Response:
        """Answer by a link, as the account that has made it, if that may read the file still. Raises `NotFound`."""
        link = self.links.read(request.arguments["id"], asked["link"])
        request.account = link.account
        record = await self.threads.do(lambda: self.find(reader_of(link), request.arguments["id"]))
        chosen = {**asked, **({"size": link.size} if link.size else {})}
        # Whoever has the link may be anybody: so they get what others than the owner get.
        found = await self.told(request, record, False, chosen)
        return replace(found, headers=(*found.headers, *ANYWHERE))

    async def through(self, request: Request) -> Response:
        """Answer with a file that a record refers to, for whoever may read that. Raises `NotFound`."""
        asked = each_once(request.parameters)
        identity = await self.identity(request)
        record = await self.threads.do(partial(self.referred, identity, **request.arguments))
        return await self.told(request, record, identity.account == record["owner"], asked)

    def referred(self, identity: Identity, type: str, id: str, file: str) -> Raw:
        """Return the record of a file to which a record refers that somebody may read. Raises `NotFound`."""
        found = self.registry.get(type)
        places = [one.place for one in found.references.values() if one.target is File] if found is not None else []
        record = Reader(self.registry, found, identity).find(id) if found is not None and places else None
        if record is None or all(named != file for place in places for _, named in place.stored_values(record)):
            raise NotFound(FILE_NOT_THERE)
        there = driver.find_one(self.type.collection, {"_id": file, **NOT_BURIED})
        if there is None:
            raise NotFound(FILE_NOT_THERE)
        return there

    async def told(self, request: Request, record: Raw, is_owner: bool, asked: Mapping[str, str]) -> Response:
        """Return the bytes of a file, or of a smaller image of it, as a request asks for them."""
        inline = is_inline(asked)
        if "size" in asked:
            content = await self.contents.smaller(record, asked["size"], request.headers.get("accept"))
        else:
            content = await self.contents.original(record, is_owner)
        return await self.answer(request, content, inline)

    def find(self, identity: Identity, id: str) -> Raw:
        """Return the record of a file that somebody may read. Raises `NotFound`."""
        record = Reader(self.registry, self.type, identity).find(id)
        if record is None:
            raise NotFound(FILE_NOT_THERE)
        return record

    async def answer(self, request: Request, content: Content, inline: bool) -> Response:
        """Return the bytes of a file, as a request asks for them."""
        headers = headers_of(content, inline)
        tag = content.tag
        wanted = request.headers.get("if-match")
        # A weak tag is none here (RFC 9110, section 13.1.1).
        if wanted is not None and not is_any_of(tag, [one.strip() for one in wanted.split(",")]):
            raise RevisionMismatch(f"the content has the entity tag {tag}")
        if knows(request.headers.get("if-none-match"), tag):
            return Response(304, b"", headers)
        size = content.size
        # A date tells nothing here: there is none that the bytes have.
        same = request.headers.get("if-range", tag).strip() == tag
        spans = parse_ranges(request.headers.get("range") if same and request.method == "GET" else None, size)
        if len(spans) > 1:
            return await self.several(request.account, content, spans, headers)
        status, span = (206, spans[0]) if spans else (200, Span(0, size))
        headers = (*headers, ("Content-Type", content.media_type), ("Content-Length", str(span.stop - span.start)))
        if spans:
            headers = (*headers, ("Content-Range", span.content_range(size)))
        if request.method == "HEAD":
            return Response(status, b"", headers)
        return download(status, headers, *await self.begun(request.account, content, span))

    async def begun(
        self, account: str | None, content: Content, span: Span
    ) -> tuple[AsyncGenerator[bytes, None], Callable[[], None]]:
        """Return bytes of a file that are on their way, and what to call when they no longer are.

        Raises as `first` does, and `Overloaded` or `TooManyRequests` where too many are under way.
        """
        end = self.transfers.going(account)
        try:
            return self.bytes_of(content, span, await self.first(content, span)), end
        except BaseException:
            end()
            raise

    async def first(self, content: Content, span: Span) -> bytes:
        """Return the first of some bytes, before any answer is begun: a store that fails is told of by a status.

        Raises `NotFound` where the file is deleted meanwhile, and `StorageUnavailable`.
        """
        if span.start == span.stop:
            return b""
        try:
            return await self.read(content, span.start, span.stop)
        except BytesGone:
            raise NotFound(FILE_NOT_THERE) from None

    async def several(self, account: str | None, content: Content, spans: list[Span], headers: Headers) -> Response:
        """Return some ranges of bytes, one after the other (RFC 9110, section 14.6)."""
        boundary, size = content.tag.strip('"')[:60], content.size
        heads = [
            f"--{boundary}\r\nContent-Type: {content.media_type}\r\n"
            f"Content-Range: {span.content_range(size)}\r\n\r\n".encode()
            for span in spans
        ]
        end = f"--{boundary}--\r\n".encode()
        length = sum(len(head) + span.stop - span.start + 2 for head, span in zip(heads, spans, strict=True)) + len(end)

        first, ended = await self.begun(account, content, spans[0])

        async def body() -> AsyncGenerator[bytes, None]:
            for number, (head, span) in enumerate(zip(heads, spans, strict=True)):
                yield head
                async with aclosing(self.bytes_of(content, span, b"") if number else first) as pieces:
                    async for piece in pieces:
                        yield piece
                yield b"\r\n"
            yield end

        kind = f"multipart/byteranges; boundary={boundary}"
        headers = (*headers, ("Content-Type", kind), ("Content-Length", str(length)))
        return download(206, headers, body(), ended)

    async def read(self, content: Content, start: int, stop: int) -> bytes:
        """Return bytes of a file from `start` on, as `Content.read` does, when it is their turn."""
        async with self.reads:
            return await self.threads.do(partial(content.read, start, stop))

    async def bytes_of(self, content: Content, span: Span, first: bytes) -> AsyncGenerator[bytes, None]:
        """Yield some bytes of a file, of which the `first` are read. Raises `BytesGone` where they go meanwhile."""
        download, position, ahead = object(), span.start, self.transfers.ahead
        ahead.put(download, first)
        # A slow client has us hold for seconds what is named here.
        del first
        try:
            while position < span.stop:
                if piece := ahead.take(download, self.transfers.piece):
                    position += len(piece)
                    yield piece
                else:
                    ahead.put(download, await self.read(content, position, span.stop))
        finally:
            ahead.drop(download)


def download(status: int, headers: Headers, body: AsyncGenerator[bytes, None], end: Callable[[], None]) -> Response:
    """Return an answer that comes piece by piece, and what to call when it no longer does."""
    # Two hold what is sent: the kernel on the way to the door, and on the way from there.
    return Response(status, body, headers, end, 2 * BUFFERED)


async def fill(intake: Intake, request: Request, body: AsyncIterator[bytes]) -> tuple[str, dict[str, list[str]]]:
    """Hand the file in a body to `intake`; return its name, and the other parts by theirs."""
    filename, fields = "", dict[str, list[str]]()
    texts: list[tuple[str, bytearray]] = []
    async for piece in pieces_of(request.headers, body):
        if piece.name is None:
            filename = piece.filename
            await intake.take(piece.data)
        elif not piece.data:
            texts.append((piece.name, bytearray()))
        else:
            texts[-1][1].extend(piece.data)
    for name, text in texts:
        fields.setdefault(name, []).append(text.decode("utf-8", "replace"))
    return filename, fields


def form_members(fields: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the members of a record that the parts of a form are. Raises `MalformedJson` for lists that are none."""
    found: dict[str, Any] = {}
    for name, texts in fields.items():
        if name in LISTS:
            found[name] = decode(texts[0].encode()) if len(texts) == 1 and texts[0].startswith("[") else texts
        else:
            found[name] = texts[-1]
    return found


def told_length(request: Request) -> int:
    """Return how many bytes a body has by its header; 0 where it does not tell."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def is_inline(sent: Mapping[str, str]) -> bool:
    """Tell whether a file is asked for that is to be shown. Raises `BadParameter`."""
    text = sent.get("inline", "false")
    if text not in ("true", "false"):
        raise BadParameter("`inline`: true or false", [Cause("not_allowed", "true or false", parameter="inline")])
    return text == "true"


def knows(header: str | None, tag: str) -> bool:
    """Tell whether a client has what has this entity tag: `If-None-Match` (RFC 9110, section 13.1.2)."""
    return is_any_of(tag, [one.strip().removeprefix("W/") for one in (header or "").split(",")])


def is_any_of(tag: str, named: list[str]) -> bool:
    """Tell whether an entity tag is among those that a header names; `*` names any."""
    return named == ["*"] or tag in named


def headers_of(content: Content, inline: bool) -> Headers:
    """Return the headers of every answer with the bytes of a file."""
    shown = inline and is_shown(content.media_type)
    policy = SHOWING if shown and content.media_type == PDF else f"{SHOWING}; sandbox" if shown else CLOSED
    return (
        ("ETag", content.tag),
        ("Accept-Ranges", "bytes"),
        # A device may keep it, but has to ask whether it may still see it.
        ("Cache-Control", "private, no-cache"),
        ("Content-Disposition", disposition(content.name, shown)),
        ("Content-Security-Policy", policy),
        *content.headers,
    )
