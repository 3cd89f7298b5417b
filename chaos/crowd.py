"""Many connections at once: visitors who ask without a pause, and people who are slow on purpose."""

import asyncio
import json
import math
import random
import socket
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field

from chaos.cluster import POLL

HEALTH_PAUSE = 0.1
ERRORS = (OSError, asyncio.IncompleteReadError, ValueError)


@dataclass
class Seen:
    """What the visitors saw; times are in seconds."""

    answers: Counter[str] = field(default_factory=Counter)
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    last: float = 0.0
    """When a request was accepted, by the monotonic clock."""

    def answer(self, status: int, headers: str, body: bytes, seconds: float) -> None:
        """Count an answer to a visitor, and check it."""
        if status in (200, 201):
            self.answers["accepted"] += 1
            self.accepted.append(seconds)
            self.last = time.monotonic()
        elif status == 503 and "\r\nretry-after: " in headers:
            self.answers[json.loads(body)["code"]] += 1
            self.refused.append(seconds)
        else:
            self.breaches.append(f"{status} {body[:300]!r}")


@dataclass
class Crowd:
    """Visitors of one server, with the token of an account."""

    port: int
    token: str
    seen: Seen = field(default_factory=Seen)
    obedient: bool = False
    """Whether they wait for as long as `Retry-After` says."""

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return the bytes of a request."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n".encode() + body

    async def visit(self, number: int) -> None:
        """Ask again and again, on one connection for as long as it lasts."""
        draw = random.Random(number)
        reads = self.request("GET", "/v1/notes?limit=5")
        writes = self.request("POST", "/v1/notes", b'{"title": "one of many"}')
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError as error:
                self.seen.answers[type(error).__name__] += 1
                await asyncio.sleep(1)
                continue
            try:
                while True:
                    await self.ask(reader, writer, writes if draw.random() < 0.1 else reads)
            except ERRORS as error:
                self.seen.answers[type(error).__name__] += 1
            finally:
                writer.close()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
        """Ask once."""
        begun = time.monotonic()
        writer.write(request)
        status, headers, body = await read(reader)
        self.seen.answer(status, headers, body, time.monotonic() - begun)
        if status == 503 and self.obedient:
            await asyncio.sleep(random.uniform(1, 2))

    async def look(self, paths: Sequence[str] = ("/health/live", "/docs/problems", "/openapi.json")) -> None:
        """Ask what a load balancer and a developer ask, on a new connection each time."""
        number = 0
        while True:
            path, number, begun = paths[number % len(paths)], number + 1, time.monotonic()
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(self.request("GET", path))
                    status, _, body = await read(reader)
                finally:
                    writer.close()
            except ERRORS as error:
                self.seen.breaches.append(f"{path}: {error!r}")
            else:
                self.seen.health.append(time.monotonic() - begun)
                if status != 200:
                    self.seen.breaches.append(f"{path}: {status} {body[:300]!r}")
            await asyncio.sleep(HEALTH_PAUSE)

    async def dawdle(self, first: bytes = b"", then: bytes = b"") -> None:
        """Send something, then a little each second, and never read; once more when that is cut off."""
        while True:
            # What the kernel takes in for somebody who does not read has to be little.
            slow = socket.socket()
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.setblocking(False)
            with suppress(OSError), closing(slow):
                loop = asyncio.get_running_loop()
                await loop.sock_connect(slow, ("127.0.0.1", self.port))
                await loop.sock_sendall(slow, first)
                while True:
                    await asyncio.sleep(1)
                    await loop.sock_sendall(slow, then)
            await asyncio.sleep(POLL)


async def read(reader: asyncio.StreamReader) -> tuple[int, str, bytes]:
    """Return status, headers and body of an answer; raises one of `ERRORS` where there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    _, _, after = head.partition("\r\ncontent-length: ")
    body = await reader.readexactly(int(after.partition("\r\n")[0] or 0))
    return int(head.split(" ", 2)[1]), head, body


def percentile(times: Sequence[float], share: float) -> float | None:
    """Return the time within which a share of all was done; none where nothing was."""
    return sorted(times)[max(0, math.ceil(len(times) * share) - 1)] if times else None
