"""The ASGI app of the streams: what opens and closes with it, its routes, and the one handler of all errors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymongo import AsyncMongoClient

from service.core.errors import InternalError, Problem
from service.core.log import log
from service.mongo import connection
from service.mongo.raw import Raw
from service.streams.exchange import Receive, Request, Response, Scope, Send, json_response, response_to
from service.streams.readiness import Readiness
from service.streams.router import Route, Router

ALL_READY = "/health/all"
"""Where the door finds whether every program is ready."""


class Streams:
    """An ASGI app."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        is_draining: Callable[[], bool],
        others: Mapping[str, Sequence[tuple[str, int]]],
    ) -> None:
        """Take the settings, what tells whether the server is about to end, and where other programs are, by name."""
        self.settings = settings
        self.is_draining = is_draining
        self.others = others
        self.database: AsyncMongoClient[Raw] | None = None
        self.router = Router([])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a connection, or open and close what is needed for that."""
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self.answer(scope, receive, send)

    async def live(self, receive: Receive, send: Send) -> None:
        """Open what is needed, and close it in the end."""
        await receive()
        self.open()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self.database is not None:
            await self.database.close()
        await send({"type": "lifespan.shutdown.complete"})

    def open(self) -> None:
        """Open the database and lay out the routes. Opens no connection: the first operation does."""
        if not connection.is_memory(self.settings["MONGODB_URI"]):
            self.database = connection.async_client(dict(self.settings))
        ready = Readiness(self.database, self.settings["MONGODB_CONNECT_TIMEOUT"], self.is_draining, self.others)
        self.router = Router(
            [
                Route("GET", "/health/live", lives),
                Route("GET", "/health/ready", ready.own),
                Route("GET", ALL_READY, ready.all),
            ]
        )

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = Request(scope, receive, {})
        try:
            handler, request.arguments = self.router.find(request.method, request.path)
            response = await handler(request)
        except Problem as problem:
            response = response_to(problem, request)
        except Exception as error:
            log.error("internal_error", request_id=request.id, exc_info=error)
            response = response_to(InternalError("something went wrong on our side"), request)
        await response.send(request, send, self.is_draining())


async def lives(_request: Request) -> Response:
    """Answer while the process serves."""
    return json_response({"status": "ok"})
