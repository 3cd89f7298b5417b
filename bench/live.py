"""Live events beside PocketBase: what idle connections cost, and how soon a thousand subscribers hear of a change."""

import asyncio
import json
import resource
import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from bench import changes, compare, contenders, data
from bench.contenders import MADANG, Contender
from bench.data import Dataset
from bench.pocketbase import POCKETBASE
from bench.processes import Process, serving

NOTES = Dataset(1000)
IDLE = 10_000
SUBSCRIBERS = 1000
ROUNDS = 3
CHANGES = 15
"""Changes of each round, one after the other."""
EVENTS_SECONDS = 4
WRITERS = 8
AT_ONCE = 50
"""Connections that are being opened at once."""
IDLE_SECONDS = 20
ASKED = 300
GOALS = {"KB of an idle connection": 60, "events a second": 20_000}
LIMITS = {
    "SERVICE_LIVE_CONNECTIONS_ACCOUNT": "20000",
    "SERVICE_RATELIMIT_LIST_SECONDS": "100000",
    "SERVICE_RATELIMIT_ENABLED": "false",
}
STREAMS = replace(
    MADANG,
    name="streams",
    database="madang",
    command=("{python}", "run.py", "--only", "streams", "--port", "{port}"),
    environ={**MADANG.environ, **LIMITS},
)
API = replace(MADANG, environ=STREAMS.environ)

FOLLOWED = quote('{"notes":{}}')

Json = dict[str, Any]


class Subscriber(asyncio.Protocol):
    """One connection that reads events. `heard` counts those that have come, over all that share it."""

    def __init__(self, crowd: "Crowd") -> None:
        self.crowd = crowd
        self.tail = b""
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        """Keep where to write."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Count what has come; the end is kept, where an event may be in two pieces."""
        text = self.tail + data
        if not self.first.done():
            self.tail = text
            if self.crowd.ready in text:
                self.first.set_result(text)
                self.tail = b""
            return
        crowd = self.crowd
        found = text.count(crowd.marker)
        if found:
            crowd.heard += found
            crowd.last = time.monotonic()
            text = text[text.rfind(crowd.marker) + len(crowd.marker) :]
        self.tail = text[-len(crowd.marker) + 1 :]

    def connection_lost(self, _error: Exception | None) -> None:
        """Say so, where it was not asked for."""
        self.crowd.lost += not self.crowd.is_closing
        if not self.first.done():
            self.first.set_exception(ConnectionError("closed before the first event"))


@dataclass
class Crowd:
    """Subscribers of one server."""

    ready: bytes
    marker: bytes = b"\n\n\n"
    heard: int = 0
    last: float = 0.0
    lost: int = 0
    is_closing: bool = False
    all: list[Subscriber] = field(default_factory=list)

    def expect(self, marker: bytes) -> None:
        """Count from now on what has a marker."""
        self.marker, self.heard = marker, 0

    async def reached(self, count: int, seconds: float = 30) -> None:
        """Wait until as many events have come; raises `TimeoutError`."""
        end = time.monotonic() + seconds
        while self.heard < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.heard} of {count} events came, {self.lost} connections were lost")
            await asyncio.sleep(0.0005)


class Server(ABC):
    """What is measured: where its connections are opened, and where notes are written, as its `contender` has it."""

    contender: Contender

    def __init__(self, title: str, process: Process, writes: Process) -> None:
        self.title, self.process, self.writes = title, process, writes
        self.session = requests.Session()
        self.session.trust_env = False

    @abstractmethod
    async def open(self, crowd: Crowd) -> None:
        """Open a connection and subscribe."""

    def body(self, title: str) -> Json:
        """Return a note with a title."""
        return {"title": title}

    @abstractmethod
    def token(self) -> str:
        """Return the token of the one account."""

    def write(self, title: str, session: requests.Session | None = None) -> None:
        """Make a note; returns when it is acknowledged."""
        headers = {"Authorization": self.token()}
        where = f"{self.writes.base}{self.contender.collection}"
        answer = (session or self.session).post(where, json=self.body(title), headers=headers)
        if answer.status_code not in (200, 201):
            raise RuntimeError(f"{self.title}: {answer.status_code} {answer.text}")

    async def connect(self, crowd: Crowd, request: bytes) -> tuple[Subscriber, bytes]:
        """Send a request and return what came with the first event."""
        loop = asyncio.get_running_loop()
        _, one = await loop.create_connection(lambda: Subscriber(crowd), "127.0.0.1", self.process.port)
        assert one.transport is not None
        one.transport.write(request)
        text = await asyncio.wait_for(one.first, 60)
        crowd.all.append(one)
        return one, text


class Madang(Server):
    """Server-sent events of Madang."""

    contender = MADANG

    async def open(self, crowd: Crowd) -> None:
        """Open a connection that follows the notes."""
        line = f"GET /v1/live?subscribe={FOLLOWED} HTTP/1.1"
        await self.connect(crowd, f"{line}\r\nHost: x\r\nAuthorization: {self.token()}\r\n\r\n".encode())

    def token(self) -> str:
        """Return the token of the one account."""
        return f"Bearer {data.token(0)}"


class PocketBaseLive(Server):
    """Realtime events of PocketBase."""

    contender = POCKETBASE

    async def open(self, crowd: Crowd) -> None:
        """Open a connection, and subscribe with the id that comes by it."""
        _, text = await self.connect(crowd, b"GET /api/realtime HTTP/1.1\r\nHost: x\r\n\r\n")
        client = json.loads(next(line for line in text.split(b"\n") if line.startswith(b"data:"))[5:])["clientId"]
        body = json.dumps({"clientId": client, "subscriptions": ["notes/*"]}).encode()
        lines = [
            *("POST /api/realtime HTTP/1.1", "Host: x", f"Authorization: {self.token()}"),
            *("Content-Type: application/json", "Connection: close", f"Content-Length: {len(body)}", "", ""),
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.process.port)
        writer.write("\r\n".join(lines).encode() + body)
        status = await reader.readline()
        writer.close()
        if b" 204 " not in status:
            raise RuntimeError(f"PocketBase subscribes nobody: {status!r}")

    def body(self, title: str) -> Json:
        """Return a note with a title and its owner."""
        return {"title": title, "owner": data.account_id(0)}

    def token(self) -> str:
        """Return the token of the one account."""
        return POCKETBASE.token(0)


READY = {"Madang": b"caught_up\ndata: {}\n\n", "PocketBase": b"\n\n"}


@asynccontextmanager
async def subscribed(server: Server, count: int) -> AsyncIterator[Crowd]:
    """Yield so many subscribers."""
    crowd = Crowd(READY[server.title])
    turn = asyncio.Semaphore(AT_ONCE)

    async def open() -> None:
        async with turn:
            await server.open(crowd)

    await asyncio.gather(*(open() for _ in range(count)))
    try:
        yield crowd
    finally:
        crowd.is_closing = True
        for one in crowd.all:
            assert one.transport is not None
            one.transport.abort()
        await asyncio.sleep(1)


async def spread(server: Server, name: str) -> list[tuple[float, float]]:
    """Return for each change the seconds until the last subscriber has it, from its sending and from its answer on."""
    found = []
    async with subscribed(server, SUBSCRIBERS) as crowd:
        await asyncio.to_thread(server.write, f"{data.CREATED} first")
        await asyncio.sleep(1)
        for number in range(CHANGES):
            title = f"{data.CREATED} {name} {number:04d}"
            # It stands in each event once: Madang's and PocketBase's have the record as JSON.
            crowd.expect(f'"title":"{title}"'.encode())
            begun = time.monotonic()
            await asyncio.to_thread(server.write, title)
            answered = time.monotonic()
            await crowd.reached(SUBSCRIBERS)
            found.append((crowd.last - begun, max(0.0, crowd.last - answered)))
            await asyncio.sleep(0.1)
        if crowd.lost:
            raise RuntimeError(f"{server.title} lost {crowd.lost} connections")
    return found


async def saturated(server: Server) -> float:
    """Return how many events a second come while several writers write as fast as they can."""
    async with subscribed(server, SUBSCRIBERS) as crowd:
        crowd.expect(f'"title":"{data.CREATED} many'.encode())
        end = time.monotonic() + EVENTS_SECONDS

        def write(number: int) -> int:
            session, written = requests.Session(), 0
            session.trust_env = False
            while time.monotonic() < end:
                server.write(f"{data.CREATED} many {number}", session)
                written += 1
            return written

        begun = time.monotonic()
        written = sum(await asyncio.gather(*(asyncio.to_thread(write, number) for number in range(WRITERS))))
        await crowd.reached(written * SUBSCRIBERS, 120)
        return crowd.heard / (crowd.last - begun)


async def idle(server: Server, base: float) -> Json:
    """Return what idle connections cost: kilobytes each, and the share of a core of all of them."""
    begun = time.monotonic()
    async with subscribed(server, IDLE) as crowd:
        opened = time.monotonic() - begun
        await asyncio.sleep(3)
        cpu = server.process.cpu()
        await asyncio.sleep(IDLE_SECONDS)
        share = (server.process.cpu() - cpu) / IDLE_SECONDS
        kilobytes = (server.process.memory() - base) * 1024 / IDLE
        beside = await asyncio.to_thread(asked, server)
        if crowd.lost:
            raise RuntimeError(f"{server.title} lost {crowd.lost} connections")
    found = {
        "KB of an idle connection": kilobytes,
        "% of a core, all idle": 100 * share,
        "opened a second": IDLE / opened,
    }
    return {**found, **{f"{name} beside {IDLE:,}": value for name, value in beside.items()}}


def asked(server: Server) -> Json:
    """Return the milliseconds of a health check and of a get."""
    path = server.contender.item % data.note_id(0)
    health = "/health/ready" if isinstance(server, Madang) else "/api/health"
    headers = {"Authorization": server.token()}
    found = {}
    for name, url in (("health ms", server.process.base + health), ("get ms", server.writes.base + path)):
        times = []
        for _ in range(ASKED):
            begun = time.monotonic()
            if server.session.get(url, headers=headers).status_code != 200:
                raise RuntimeError(f"{server.title}: {url} is not answered")
            times.append(time.monotonic() - begun)
        found[name] = 1000 * statistics.median(times)
    return found


@contextmanager
def servers(uri: str, folder: Path) -> Iterator[list[Server]]:
    """Run both servers, each on the core that is not the load's."""
    with ExitStack() as stack:
        for contender in (MADANG, POCKETBASE):
            contenders.seed(contender, uri, NOTES)
            stack.callback(contender.drop, uri)
        stack.enter_context(changes.working(uri, folder, replace(API, database="madang")))
        environ = {**STREAMS.environment(uri), "SERVICE_VAR": str(folder / "var-streams")}
        streams = stack.enter_context(serving(STREAMS.filled(uri), environ, "/health/live", folder / "streams.log"))
        api = stack.enter_context(compare.started(API, uri, folder, "1"))
        pocketbase = stack.enter_context(compare.started(POCKETBASE, uri, folder))
        yield [Madang("Madang", streams, api), PocketBaseLive("PocketBase", pocketbase, pocketbase)]


async def measured(both: Sequence[Server]) -> Json:
    """Return all figures of each server; they take turns."""
    found: dict[str, Json] = {server.title: asked(server) for server in both}
    times: dict[str, list[tuple[float, float]]] = {server.title: [] for server in both}
    rates: dict[str, list[float]] = {server.title: [] for server in both}
    # First, while their memory is what they have begun with.
    for server in both:
        found[server.title] |= await idle(server, server.process.memory())
        print(server.title, found[server.title], flush=True)
    for turn in range(ROUNDS):
        for server in both:
            times[server.title] += await spread(server, str(turn))
            rates[server.title].append(await saturated(server))
            print(server.title, turn, times[server.title][-1], f"{rates[server.title][-1]:.0f} events/s", flush=True)
    for title, own in found.items():
        sent, answered = (sorted(pair[which] for pair in times[title]) for which in (0, 1))
        own |= {
            "to the last of 1,000, p50 ms": 1000 * sent[len(sent) // 2],
            "to the last of 1,000, p99 ms": 1000 * sent[len(sent) * 99 // 100],
            "the same from the answer on, p50 ms": 1000 * answered[len(answered) // 2],
            "the same from the answer on, p99 ms": 1000 * answered[len(answered) * 99 // 100],
            "events a second": statistics.median(rates[title]),
        }
    return found


def run() -> Json:
    """Return all figures of both servers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * IDLE)), hard))
    with compare.mongodb() as (uri, folder, _), servers(uri, folder) as both:
        return asyncio.run(measured(both))
