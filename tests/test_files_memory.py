"""What downloads that are under way hold in memory, whatever their clients do: so much, and no more."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from service.core.errors import Overloaded, TooManyRequests
from service.files.blobs import CHUNK_BYTES
from service.files.ranges import Span
from service.streams.contents import Content
from service.streams.files import Files
from service.streams.transfers import LARGEST_PIECE, LEAST_PIECE, MOST_AHEAD, MOST_GOING_ACCOUNT, ReadAhead, Transfers

BODY = bytes(n * 7 % 251 for n in range(3 * CHUNK_BYTES + 10))
MANY = 200
"""Downloads whose clients take nothing."""
THREADS = 8
ON_THE_WAY = 6
"""Pieces that Granian takes of an answer that nobody reads: four in its queue, one before it, one on the connection."""


class Downloads:
    """Downloads of one process, and how often each chunk was read for them."""

    def __init__(self) -> None:
        self.transfers = Transfers()
        self.reads: Counter[int] = Counter()
        self.most_read_at_once = self.read_at_once = 0
        self.files: Any = SimpleNamespace(
            threads=SimpleNamespace(do=self.do), transfers=self.transfers, reads=asyncio.Semaphore(THREADS)
        )
        self.files.read = partial(Files.read, self.files)

    async def do(self, work: Callable[[], bytes]) -> bytes:
        """As threads do it, whose results wait for the event loop."""
        self.read_at_once += 1
        self.most_read_at_once = max(self.most_read_at_once, self.read_at_once)
        found = work()
        await asyncio.sleep(0)
        self.read_at_once -= 1
        return found

    def read(self, start: int, stop: int) -> bytes:
        """As MongoDB gives it: not beyond the end of a chunk."""
        n = start // CHUNK_BYTES
        self.reads[n] += 1
        return BODY[start : min(stop, (n + 1) * CHUNK_BYTES)]

    async def begin(self) -> AsyncGenerator[bytes, None]:
        """Begin another one, whose first bytes are read as the answer begins."""
        self.transfers.going("ada")
        content, span = Content('"tag"', len(BODY), "text/plain", "a.txt", self.read), Span(0, len(BODY))
        return Files.bytes_of(self.files, content, span, await Files.first(self.files, content, span))


async def whole(body: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([piece async for piece in body])


def test_many_downloads_that_nobody_takes_hold_a_bounded_number_of_bytes() -> None:
    async def stalled() -> int:
        downloads = Downloads()
        bodies = await asyncio.gather(*[downloads.begin() for _ in range(MANY)])
        assert downloads.most_read_at_once <= THREADS
        sent = [await anext(body) for _ in range(ON_THE_WAY) for body in bodies]
        held = sum(map(len, sent)) + downloads.transfers.ahead.held
        for body in bodies:
            await body.aclose()
        assert downloads.transfers.ahead.held == 0
        return held

    assert asyncio.run(stalled()) <= MANY * ON_THE_WAY * LEAST_PIECE + MOST_AHEAD


def test_a_download_that_has_lost_what_it_had_read_sends_the_same_bytes() -> None:
    async def mixed() -> list[bytes]:
        downloads, random = Downloads(), Random(18)
        downloads.transfers.ahead = ReadAhead(2 * CHUNK_BYTES)
        bodies = {n: await downloads.begin() for n in range(8)}
        found = [b""] * len(bodies)
        while bodies:
            n = random.choice(list(bodies))
            piece = await anext(bodies[n], None)
            if piece is None:
                del bodies[n]
            else:
                found[n] += piece
        assert downloads.reads.total() > 8 * 4  # some was read again
        return found

    assert asyncio.run(mixed()) == [BODY] * 8


def test_a_download_among_few_reads_each_chunk_once_in_large_pieces() -> None:
    async def alone() -> list[bytes]:
        downloads = Downloads()
        found = [piece async for piece in await downloads.begin()]
        assert downloads.reads == {0: 1, 1: 1, 2: 1, 3: 1}
        return found

    found = asyncio.run(alone())
    assert b"".join(found) == BODY
    assert max(map(len, found)) == LARGEST_PIECE


def test_what_was_read_at_once_is_sent_though_it_is_more_than_is_held() -> None:
    async def large() -> bytes:
        downloads = Downloads()
        downloads.transfers.ahead = ReadAhead(CHUNK_BYTES - 1)
        return await whole(await downloads.begin())

    assert asyncio.run(large()) == BODY


def test_an_account_has_half_of_the_downloads_of_a_process() -> None:
    transfers = Transfers()
    ends = [transfers.going("ada") for _ in range(MOST_GOING_ACCOUNT)]
    with pytest.raises(TooManyRequests):
        transfers.going("ada")
    ends += [transfers.going("bob") for _ in range(MOST_GOING_ACCOUNT)]
    with pytest.raises(Overloaded):
        transfers.going("eve")
    for end in ends:
        end()
    transfers.going("ada")
