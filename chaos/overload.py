"""More than a server can serve: too many requests, clients that are slow on purpose, a MongoDB that does not answer."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from chaos.client import TIMEOUT, Client, Watch
from chaos.crowd import Crowd, percentile
from chaos.proxy import Proxy
from chaos.servers import Server
from chaos.writers import person
from service.http.admission import QUEUE
from service.serve import mongod

TIMES = 20
"""Connections for each request that the server works on at once."""
IDLE = 10_000
P99 = 2.0
"""Seconds within which 99 of 100 accepted requests are answered while others are refused."""
HEALTH = 2.0
"""Seconds within which health and documentation answer, whatever happens."""
RECOVERY = 5.0
"""Seconds after MongoDB is back within which requests are accepted again; the driver looks for it twice a second."""
BESIDE = 0.5
"""Seconds of work with MongoDB before it goes and after it is back."""
LONGEST = 60.0
"""Seconds after which recovery is no longer waited for."""
GROWTH = 64.0
"""Megabytes by which the largest worker may grow: most of it is the threads that wait."""
CLIENT_TIMEOUT = 2.0
"""The setting, so that a run sees clients that are cut off."""
HALF_A_BODY = b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
UNREAD = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 5


@dataclass
class Figures:
    """What came of one scenario; times are in seconds, memory in megabytes of the largest worker."""

    name: str
    connections: int
    rate: float
    refused: int
    unavailable: int
    p99: float | None
    p99_refused: float | None
    health: float
    before: float
    after: float
    recovery: float | None = None
    answers: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """Return the figures by name."""
        return {**vars(self), "scenario": self.name, "breaches": len(self.broken)}

    def complaints(self) -> list[str]:
        """Return every promise that was broken."""
        return self.broken


class Site:
    """One server on a MongoDB of one member, behind a proxy of which MongoDB's answers can be late."""

    def __init__(self, server: Server, database: mongod.LocalServer, proxy: Proxy, slots: int, slack: float) -> None:
        self.server, self.database, self.proxy, self.slots, self.slack = server, database, proxy, slots, slack
        self.client: Client = person([server.base], Watch(), 7)
        for _ in range(5):
            self.client.send("POST", "/v1/notes", {"title": "one of few"})

    def memory(self) -> float:
        """Return the resident megabytes of the largest worker."""
        assert self.server.process is not None
        return self.server.process.memory()

    def play(
        self,
        name: str,
        connections: int,
        seconds: float,
        obedient: bool = False,
        around: Any = None,
        before: float | None = None,
    ) -> Figures:
        """Let visitors come on so many connections for a while; `around` is what happens meanwhile.

        `before` is the memory that the figures start from: that of now, if it is not given.
        """
        self.client.log_in()
        before = before or self.memory()
        crowd = Crowd(self.server.port, self.client.access, obedient=obedient)
        begun = time.monotonic()
        recovery = asyncio.run(self.scene(crowd, connections, seconds, around))
        took = time.monotonic() - begun
        seen = crowd.seen
        figures = Figures(
            name,
            connections,
            rate=len(seen.accepted) / took,
            refused=seen.answers["overloaded"],
            unavailable=seen.answers["database_unavailable"],
            p99=percentile(seen.accepted, 0.99),
            p99_refused=percentile(seen.refused, 0.99),
            health=max(seen.health, default=0.0),
            before=before,
            after=self.memory(),
            recovery=recovery,
            answers=dict(seen.answers),
            broken=seen.breaches,
        )
        self.check(figures)
        return figures

    async def scene(self, crowd: Crowd, connections: int, seconds: float, around: Any) -> float | None:
        """Play a scenario in an event loop; return the seconds that it took to recover."""
        visits = [crowd.visit(number) for number in range(connections)]
        tasks = [asyncio.create_task(one) for one in (*visits, crowd.look())]
        try:
            found: float | None = await around(crowd) if around else await asyncio.sleep(seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found

    def check(self, figures: Figures) -> None:
        """Compare the figures with the promises."""
        bounds = (
            ("health or docs answered after", figures.health, HEALTH + self.slack),
            ("MongoDB was back, and requests accepted after", figures.recovery, RECOVERY + self.slack),
            ("the memory of a worker grew by", figures.after - figures.before, GROWTH),
            ("p99", figures.p99, (P99 if figures.recovery is None else TIMEOUT) + self.slack),
            ("p99 of the refused", figures.p99_refused, (P99 if figures.recovery is None else TIMEOUT) + self.slack),
        )
        figures.broken += [
            f"{what} {found:.2f}" for what, found, bound in bounds if found is not None and found > bound
        ]
        if not figures.rate:
            figures.broken.append("nothing was accepted")

    async def away(self, crowd: Crowd, seconds: float, begin: Callable[[], None], end: Callable[[], None]) -> float:
        """Let MongoDB be away for a while, and return the seconds until a request was accepted again."""
        await asyncio.sleep(BESIDE)
        begin()
        await asyncio.sleep(seconds)
        end()
        back = time.monotonic()
        while crowd.seen.last < back and time.monotonic() < back + LONGEST:
            await asyncio.sleep(0.02)
        recovery = time.monotonic() - back
        await asyncio.sleep(BESIDE)
        return recovery


async def beside(crowd: Crowd, seconds: float, number: int, first: bytes = b"", then: bytes = b"") -> None:
    """Let a number of connections be slow for a while."""
    tasks = [asyncio.create_task(crowd.dawdle(first, then)) for _ in range(number)]
    try:
        await asyncio.sleep(seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def crowded(site: Site, seconds: float) -> Figures:
    """Come on `TIMES` as many connections as there are slots, and do not wait when told to."""
    return site.play("20 times the connections, without patience", site.slots * TIMES, seconds)


def obedient(site: Site, seconds: float) -> Figures:
    """Come on as many, and do what docs/clients.md says."""
    return site.play("20 times the connections, as told", site.slots * TIMES, seconds, obedient=True)


def idle(site: Site, seconds: float, number: int = IDLE) -> Figures:
    """Connect and say nothing."""
    before = site.memory()
    with ExitStack() as connections:
        for _ in range(number):
            connections.enter_context(socket.create_connection(("127.0.0.1", site.server.port), timeout=10))
        return site.play(f"{number:,} idle connections", site.slots, seconds, before=before)


def slow_bodies(site: Site, seconds: float) -> Figures:
    """Send a byte a second of more bodies than there are places for."""
    around = partial(beside, seconds=seconds, number=site.slots * QUEUE, first=HALF_A_BODY, then=b" ")
    return site.play("bodies of a byte a second", site.slots, seconds, around=around)


def unread_answers(site: Site, seconds: float) -> Figures:
    """Ask for large answers and take none of them."""
    around = partial(beside, seconds=seconds, number=site.slots * QUEUE, first=UNREAD, then=b"\r\n")
    return site.play("answers that nobody reads", site.slots, seconds, around=around)


def frozen(site: Site, seconds: float) -> Figures:
    """Stop MongoDB without a word."""
    around = partial(
        site.away,
        seconds=seconds,
        begin=lambda: os.kill(site.database.pid, signal.SIGSTOP),
        end=lambda: os.kill(site.database.pid, signal.SIGCONT),
    )
    try:
        return site.play("MongoDB frozen", site.slots * 4, seconds, obedient=True, around=around)
    finally:
        os.kill(site.database.pid, signal.SIGCONT)


def unreachable(site: Site, seconds: float) -> Figures:
    """Close MongoDB's port."""
    around = partial(site.away, seconds=seconds, begin=site.proxy.shut, end=site.proxy.listen)
    return site.play("MongoDB's port closed", site.slots * 4, seconds, obedient=True, around=around)


def late(site: Site, seconds: float) -> Figures:
    """Let every answer of MongoDB be two seconds late."""
    around = partial(
        site.away,
        seconds=seconds,
        begin=partial(setattr, site.proxy, "delay", 2.0),
        end=partial(setattr, site.proxy, "delay", 0.0),
    )
    return site.play("MongoDB 2 s late", site.slots * 4, seconds, obedient=True, around=around)


SCENARIOS = (crowded, obedient, idle, slow_bodies, unread_answers, frozen, unreachable, late)


def run(folder: Path, times: int) -> list[Figures]:
    """Play every scenario for `times` seconds, on a server of its own."""
    outcomes = []
    for scenario in SCENARIOS:
        with opened(folder / scenario.__name__, workers=2, threads=16) as site:
            site.play("warm", site.slots, 3)
            outcomes.append(scenario(site, times))
    return outcomes


@contextmanager
def opened(folder: Path, workers: int, threads: int, slack: float = 0.0, **settings: str) -> Iterator[Site]:
    """Start a MongoDB, a proxy before it and a server; end them with the block. `slack` is that of `staged`."""
    folder.mkdir(parents=True)
    with (
        mongod.LocalServer.start(folder / "mongodb") as database,
        Proxy(parse_uri(database.uri)["nodelist"][0][1]) as proxy,
    ):
        uri = put_before(database, proxy)
        # What all ask for together is bounded here, not what one account has used.
        given = {"CLIENT_TIMEOUT": str(CLIENT_TIMEOUT), "RATELIMIT_LIST_SECONDS": "100000", **settings}
        server = Server(folder / "server", uri, workers, threads, **given)
        try:
            server.start()
            yield Site(server, database, proxy, workers * threads, slack)
        finally:
            server.stop()


def put_before(database: mongod.LocalServer, proxy: Proxy) -> str:
    """Let a replica set of one member tell its clients that it is where the proxy is; return the URI."""
    with MongoClient[dict[str, Any]](database.uri) as client:
        config = client.admin.command("replSetGetConfig")["config"]
        config["version"] += 1
        config["members"][0]["host"] = f"127.0.0.1:{proxy.port}"
        client.admin.command("replSetReconfig", config)
    return f"mongodb://127.0.0.1:{proxy.port}/madang?replicaSet={mongod.REPLICA_SET}"
