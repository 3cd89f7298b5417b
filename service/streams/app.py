"""The ASGI app of the streams: what opens and closes with it, its routes, and the one handler of all errors."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pymongo import AsyncMongoClient

from service.core import metrics
from service.core.errors import BadRequest, DatabaseUnavailable, InternalError, NotFound, NotSupported, Problem
from service.core.log import Lines, log
from service.core.query_string import refuse_unknown
from service.model.registry import Registry
from service.mongo import connection, problems
from service.mongo.raw import Raw
from service.streams.cors import CrossOrigin
from service.streams.events import LIVE_PARAMETERS, LiveEvents
from service.streams.exchange import (
    CLIENT_GONE,
    ClientGone,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    json_response,
    response_to,
)
from service.streams.following import Following
from service.streams.pulls import PULL_PARAMETERS, Pulls
from service.streams.readiness import Readiness
from service.streams.router import Handler, Route, Router
from service.streams.rxdb_streams import PULL_STREAM, RxdbStreams

ALL_READY = "/health/all"
"""Where the door finds whether every program is ready."""
LOOKS_EVERY = 0.1
"""Seconds between two looks whether the server is about to end."""


class Streams:
    """An ASGI app."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        registry: Registry,
        is_draining: Callable[[], bool],
        others: Mapping[str, Sequence[tuple[str, int]]],
        lines: Lines,
    ) -> None:
        """Take the settings and the record types, what tells whether the server is about to end, and two more.

        `others` are the addresses of the other programs, by name; `lines` is where a request has its line in the log.
        MongoEngine has to be connected.
        """
        self.settings, self.registry, self.lines = settings, registry, lines
        self.is_draining = is_draining
        self.others = others
        self.cross_origin = CrossOrigin(settings["CORS_ORIGINS"])
        self.database: AsyncMongoClient[Raw] | None = None
        self.following: Following | None = None
        self.router = Router([])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a connection, or open and close what is needed for that."""
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self.answer(Request(scope, receive), send)

    async def live(self, receive: Receive, send: Send) -> None:
        """Open what is needed, and close it in the end."""
        await receive()
        self.open()
        watch = asyncio.create_task(self.watch())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        watch.cancel()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    def open(self) -> None:
        """Open the database, begin to follow the order, and lay out the routes. Call it from the event loop."""
        if not connection.is_memory(self.settings["MONGODB_URI"]):
            self.database = connection.async_client(dict(self.settings))
            self.following = Following(self.settings, self.registry)
            self.following.start(asyncio.get_running_loop())
        ready = Readiness(self.database, self.settings["MONGODB_CONNECT_TIMEOUT"], self.is_draining, self.others)
        self.router = Router(
            [
                Route("GET", "/health/live", lives),
                Route("GET", "/health/ready", ready.own),
                Route("GET", ALL_READY, ready.all),
                Route("GET", PULL_STREAM, self.real(lambda found: RxdbStreams(found).answer)),
                Route("GET", "/v1/live", self.real(lambda found: LiveEvents(found).answer), LIVE_PARAMETERS),
                Route(
                    "GET", "/v1/changes", self.real(lambda found: Pulls(found).answer), PULL_PARAMETERS, WAITING_PULL
                ),
            ]
        )

    def real(self, handler: Callable[[Following], Handler]) -> Handler:
        """Return a handler of what needs a real MongoDB, or the one that says so where there is none."""
        return unsupported if self.following is None else handler(self.following)

    async def close(self) -> None:
        """Close what was opened."""
        if self.following is not None:
            await self.following.stop()
        if self.database is not None:
            await self.database.close()

    async def watch(self) -> None:
        """Let all that wait know when the server is about to end."""
        while True:
            await asyncio.sleep(LOOKS_EVERY)
            if self.following is not None and self.is_draining():
                self.following.subscriptions.drain()

    # --- A request ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Request, send: Send) -> None:
        """Answer a request."""
        metrics.IN_FLIGHT.inc()
        try:
            response = await self.response(request)
            self.tell(request, response.status)
            try:
                await response.send(request, send, self.headers(request), self.settings["CLIENT_TIMEOUT"])
            finally:
                response.end()
        except ClientGone:
            self.tell(request, CLIENT_GONE)
        except TimeoutError:
            # It comes again with its cursor; until then nothing is kept for it.
            metrics.CUT_OFF.inc()
        finally:
            metrics.IN_FLIGHT.dec()

    async def response(self, request: Request) -> Response:
        """Return the answer to a request, whatever happens; raises `ClientGone` where nobody waits for it."""
        try:
            return await self.handled(request)
        except ClientGone:
            raise
        except Exception as error:
            problem = problem_of(error)
            if problem.status == InternalError.status:
                log.error("internal_error", request_id=request.id, exc_info=error)
            elif problem.status == DatabaseUnavailable.status:
                log.warning("unavailable", request_id=request.id, reason=f"{type(error).__name__}: {error}")
            return response_to(problem, request)

    async def handled(self, request: Request) -> Response:
        """Return the answer of who answers the path."""
        if request.method != request.method.upper():
            raise BadRequest("a method is written in capitals")
        if request.method == "OPTIONS":
            allowed = self.router.allowed(request.path)
            if not allowed:
                raise NotFound("there is nothing at this path")
            return Response(200, headers=(("Allow", allowed),))
        route, request.arguments = self.router.find(request.method, request.path)
        request.route = route.name
        refuse_unknown((name for name, _ in request.parameters), route.parameters)
        if request.has_body and not route.has_body:
            raise BadRequest("this takes no body")
        return await route.handler(request)

    def headers(self, request: Request) -> Iterator[tuple[str, str]]:
        """Yield the headers that depend on who asks, and on whether the server is about to end."""
        yield from self.cross_origin.headers(request)
        if self.is_draining():
            yield "Connection", "close"

    def tell(self, request: Request, status: int) -> None:
        """Count a request, and write its one line; of one whose answer goes on for long, when that begins."""
        seconds = time.perf_counter() - request.started
        metrics.observe(request.method, request.route, status, seconds)
        self.lines.tell_request(request.method, request.route, status, seconds, request.id, request.account)


WAITING_PULL = "/v1/changes?wait"
"""What the pulls that wait are called in the metrics: they take long, and are not slow."""


def problem_of(error: Exception) -> Problem:
    """Return the problem that an exception of PyMongo or our own means to a client."""
    if isinstance(error, Problem):
        return error
    return problems.of(error) or InternalError("something went wrong on our side")


async def lives(_request: Request) -> Response:
    """Answer while the process serves."""
    return json_response({"status": "ok"})


async def unsupported(_request: Request) -> Response:
    """Say that this needs a real MongoDB."""
    raise NotSupported("this needs a real MongoDB")
