"""Bytes between a client and the store: how fast, how many at once, and a part at a time."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

from pymongo.errors import PyMongoError

from service.core.errors import Overloaded, RequestTimeout, TooManyRequests
from service.core.log import log
from service.files.blobs import CHUNK_BYTES, GridFs
from service.files.uploads import Upload, Uploads
from service.http.connections import SLOWEST
from service.mongo.raw import Raw
from service.policy import Identity
from service.streams.exchange import Request
from service.streams.forms import too_large_a_file
from service.streams.threads import Threads

MOST_COMING, MOST_COMING_ACCOUNT = 128, 64
"""Most uploads at once in a process, and of one account: each holds a part in memory."""
MOST_GOING, MOST_GOING_ACCOUNT = 1000, 500
"""Most downloads at once in a process, and as one account."""
HEARD_OUT = 32 * 1024
"""Bytes a second at which the rest of a body has to come that is read for the sake of its refusal alone."""
MOST_HELD = MOST_COMING * GridFs.part
"""Most bytes that uploads hold in memory together: a part each, which S3 has five times as large as MongoDB."""
LARGEST_PIECE, LEAST_PIECE = 64 * 1024, 16 * 1024
"""Bytes that a download sends at once, and its client has to take in time. Of a slow one Granian holds five of them."""
MOST_IN_PIECES = 24 * LARGEST_PIECE
"""Bytes of one piece of each download, all together: where there are more, their pieces are smaller."""
MOST_AHEAD = 32 * CHUNK_BYTES
"""Most bytes that downloads hold of what they have read and not sent."""


class ReadAhead:
    """What downloads have read and not sent: `most` bytes of it, as long as it is more than one read of one of them.

    Beyond that, whoever has waited longest for its client loses it, and will read it again.
    """

    def __init__(self, most: int = MOST_AHEAD) -> None:
        self.most, self.held = most, 0
        self.rests: dict[object, tuple[bytes, int]] = {}

    def put(self, download: object, data: bytes, begin: int = 0) -> None:
        """Hold what a download has read, of which the bytes before `begin` are sent."""
        if begin < len(data):
            self.rests[download] = data, begin
            self.held += len(data)
        while self.held > self.most and len(self.rests) > 1:
            # They stand in the order in which they were last put.
            self.drop(next(iter(self.rests)))

    def take(self, download: object, most: int) -> bytes:
        """Return the next bytes of a download; none where it has to read."""
        data, begin = self.drop(download)
        self.put(download, data, begin + most)
        return data[begin : begin + most]

    def drop(self, download: object) -> tuple[bytes, int]:
        """Hold nothing of a download any more; return what was held, and how much of it is sent."""
        data, begin = self.rests.pop(download, (b"", 0))
        self.held -= len(data)
        return data, begin


class Transfers:
    """Those that are under way in this process."""

    def __init__(self) -> None:
        self.uploads: Counter[str] = Counter()
        self.downloads: Counter[str | None] = Counter()
        self.held = 0
        self.ahead = ReadAhead()

    @property
    def piece(self) -> int:
        """How many bytes a download sends at once, by how many downloads there are."""
        return max(LEAST_PIECE, min(LARGEST_PIECE, MOST_IN_PIECES // max(self.downloads.total(), 1)))

    @contextmanager
    def coming(self, account: str, part: int) -> Iterator[None]:
        """Count an upload that holds up to a `part` in memory while the block runs.

        Raises `Overloaded`, or `TooManyRequests` for those of one account.
        """
        if self.uploads.total() >= MOST_COMING or self.held + part > MOST_HELD:
            raise Overloaded
        if self.uploads[account] >= MOST_COMING_ACCOUNT:
            raise TooManyRequests(f"an account may send {MOST_COMING_ACCOUNT} files at once")
        self.uploads[account] += 1
        self.held += part
        try:
            yield
        finally:
            self.held -= part
            self.uploads[account] -= 1
            self.uploads += Counter()  # without those that are at 0

    def going(self, account: str | None) -> Callable[[], None]:
        """Count a download until what is returned is called.

        Raises `Overloaded`, or `TooManyRequests` for those of one account.
        """
        if self.downloads.total() >= MOST_GOING:
            raise Overloaded
        if self.downloads[account] >= MOST_GOING_ACCOUNT:
            raise TooManyRequests(f"an account may read {MOST_GOING_ACCOUNT} files at once")
        self.downloads[account] += 1

        def end() -> None:
            self.downloads[account] -= 1
            self.downloads += Counter()  # without those that are at 0

        return end


async def paced(request: Request, patience: float, slowest: float = SLOWEST) -> AsyncGenerator[bytes, None]:
    """Yield a body as it comes. Raises `RequestTimeout` where it comes too slowly, and `ClientGone`.

    It may keep us waiting for `patience` seconds, and for as long as its bytes take at the `slowest` that is fair, in
    bytes a second.
    """
    body, waited, received = aiter(request.body()), 0.0, 0
    while True:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(patience + received / slowest - waited):
                piece = await anext(body, None)
        except TimeoutError:
            raise RequestTimeout from None
        waited += time.monotonic() - begun
        if piece is None:
            return
        received += len(piece)
        yield piece


async def hear_out(request: Request, patience: float, most: int) -> None:
    """Read what is left of the body of a request that is refused, `most` bytes of it, as far as it comes in time.

    A client, or the door, that still sends when the connection is closed would not hear of the refusal; but one that
    sends without end, or slower than phones do, is not heard out. Who waits for a word before it sends (`Expect`, RFC
    9110, section 10.1.1) gets the refusal as that. Raises `ClientGone`.
    """
    if "expect" in request.headers and not request.is_coming:
        return
    try:
        async with aclosing(paced(request, patience, HEARD_OUT)) as body:
            async for piece in body:
                most -= len(piece)
                if most < 0:
                    return
    except RequestTimeout:
        return


class Intake:
    """The bytes of one file that come: of no more than `most`, where so many are `expected`."""

    def __init__(self, uploads: Uploads, threads: Threads, identity: Identity, most: int, expected: int) -> None:
        self.uploads, self.threads, self.identity = uploads, threads, identity
        self.most, self.expected = most, expected
        self.part = uploads.blobs.part
        self.upload: Upload | None = None
        self.rest = bytearray()
        self.size = 0
        self.hash = hashlib.sha256()

    async def take(self, data: bytes) -> None:
        """Take some bytes, and store what is a whole part. Raises `TooLarge`, and what `Uploads.add` does."""
        self.size += len(data)
        if self.size > self.most:
            raise too_large_a_file(self.most)
        self.hash.update(data)
        self.rest += data
        while len(self.rest) > self.part:
            if self.upload is None:
                begin = partial(self.uploads.begin, self.identity.account, self.expected)
                self.upload = await self.threads.do(begin)
            part = bytes(self.rest[: self.part])
            self.upload = await self.threads.do(partial(self.uploads.add, self.upload, part))
            del self.rest[: self.part]

    async def finish(self, content: Mapping[str, Any], beside: Callable[[Raw], None] = lambda _made: None) -> Raw:
        """Make the record with `content` of what has come, and return it; raises what `Uploads.finish` does."""
        told = {**content, "sha256": self.hash.hexdigest()}
        finish = partial(self.uploads.finish, self.identity, self.upload, bytes(self.rest), told, beside)
        record = await self.threads.do(finish)
        self.upload = None
        return record

    async def give_up(self) -> None:
        """Leave what has come to the sweep, at once if that can be, else when its time is over."""
        if self.upload is None:
            return
        try:
            await self.threads.do(partial(self.uploads.give_up, self.upload))
        except PyMongoError as error:
            log.warning("upload_left", reason=type(error).__name__)
