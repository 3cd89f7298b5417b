"""What a download that is under way holds in memory: no more than what is still to be sent of one read."""

import asyncio
from types import SimpleNamespace
from typing import Any

from service.files.blobs import CHUNK_BYTES
from service.files.ranges import Span
from service.streams.contents import Content
from service.streams.files import SENT_BYTES, Files

BODY = bytes(n * 7 % 251 for n in range(3 * CHUNK_BYTES + 10))


def read(start: int, stop: int) -> bytes:
    """As MongoDB gives it: not beyond the end of a chunk."""
    return BODY[start : min(stop, (start // CHUNK_BYTES + 1) * CHUNK_BYTES)]


async def at_once(work: Any) -> Any:
    return work()


def held_while_sent(files: Any, content: Content) -> list[tuple[bytes, int]]:
    """Each piece that is sent, and how many bytes are held while it is, itself among them."""

    async def walk() -> list[tuple[bytes, int]]:
        found = []
        body = Files.bytes_of(files, content, Span(0, len(BODY)), content.read(0, len(BODY)))
        async for piece in body:
            texts = [value for value in body.ag_frame.f_locals.values() if isinstance(value, bytes)]
            found.append((piece, sum(map(len, texts))))
        return found

    return asyncio.run(walk())


def test_a_download_holds_what_is_still_to_be_sent_of_one_read() -> None:
    files = SimpleNamespace(threads=SimpleNamespace(do=at_once))
    content = Content('"tag"', len(BODY), "text/plain", "a.txt", read)
    found = held_while_sent(files, content)
    assert b"".join(piece for piece, _ in found) == BODY
    assert max(held for _, held in found) <= CHUNK_BYTES
    # The last piece of each chunk is sent with nothing of that chunk behind it.
    assert min(held for piece, held in found if len(piece) == SENT_BYTES) < CHUNK_BYTES
    assert [held for piece, held in found if len(piece) < SENT_BYTES] == [
        len(piece) for piece, _ in found if len(piece) < SENT_BYTES
    ]
