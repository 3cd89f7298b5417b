"""Whether requests should come here: what the streams need, and for the door, what its other programs say."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from service.core.errors import DatabaseUnavailable, NotReady, Problem, ShuttingDown
from service.mongo.raw import Raw
from service.streams.exchange import Request, Response, json_response

QUESTION = b"GET /health/ready HTTP/1.1\r\nHost: madang\r\nConnection: close\r\n\r\n"
READY = "ok"


class Readiness:
    """Answers for this program, and for the whole service."""

    def __init__(
        self,
        database: AsyncMongoClient[Raw] | None,
        patience: float,
        is_draining: Callable[[], bool],
        others: Mapping[str, Sequence[tuple[str, int]]],
    ) -> None:
        """Take the database, if there is one, the seconds it may take, and where the other programs are, by name."""
        self.database, self.patience, self.is_draining, self.others = database, patience, is_draining, others

    async def own(self, _request: Request) -> Response:
        """Answer whether this program can do its work. Raises `ShuttingDown` or `DatabaseUnavailable`."""
        await self.check()
        return json_response({"status": READY})

    async def all(self, _request: Request) -> Response:
        """Answer whether every program of the service can do its work. Raises `NotReady`, which names those."""
        names = list(self.others)
        told = await asyncio.gather(self.state(), *(self.ask(self.others[name]) for name in names))
        parts = dict(zip(["streams", *names], told, strict=True))
        missing = [f"{name} ({state})" for name, state in parts.items() if state != READY]
        if missing:
            raise NotReady(f"not ready: {', '.join(missing)}", parts=parts)
        return json_response({"status": READY, "parts": parts})

    async def state(self) -> str:
        """Return what keeps this program from its work, or `ok`."""
        try:
            await self.check()
        except Problem as problem:
            return problem.code
        return READY

    async def check(self) -> None:
        """Raise `ShuttingDown` or `DatabaseUnavailable` where this program cannot do its work."""
        if self.is_draining():
            raise ShuttingDown
        if self.database is None:
            return
        try:
            hello = await asyncio.wait_for(self.database.admin.command("hello"), self.patience)
        except (PyMongoError, TimeoutError):
            raise DatabaseUnavailable from None
        if not hello["isWritablePrimary"]:
            raise DatabaseUnavailable("MongoDB has no writable primary")

    async def ask(self, addresses: Sequence[tuple[str, int]]) -> str:
        """Return `ok` where one of a program's processes says so, else what the last one said."""
        said = "no address"
        for host, port in addresses:
            try:
                said = await asyncio.wait_for(status(host, port), self.patience + 1)
            except (OSError, TimeoutError, ValueError):
                said = "no answer"
            if said == READY:
                return READY
        return said


async def status(host: str, port: int) -> str:
    """Return what another program answers to the question whether it is ready: `ok`, or its status."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(QUESTION)
        await writer.drain()
        line = await reader.readline()
    finally:
        writer.close()
    code = int(line.split()[1]) if len(line.split()) > 1 else 0
    return READY if code == 200 else f"answers {code}"
