"""The ASGI app of the streams: what opens and closes with it, its routes, and the one handler of all errors."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from service.core import metrics
from service.core.errors import (
    BadRequest,
    DatabaseUnavailable,
    InternalError,
    NotFound,
    NotSupported,
    Problem,
    RequestTimeout,
)
from service.core.log import Lines, log
from service.core.query_string import refuse_unknown
from service.documents import File
from service.files.blobs import BytesGone
from service.files.stores import store_of
from service.identity.security import Security
from service.model.registry import Registry
from service.mongo import connection
from service.mongo.raw import Raw
from service.streams.cors import CrossOrigin
from service.streams.engine import SWEEP_EVERY
from service.streams.events import LIVE_PARAMETERS, LiveEvents
from service.streams.exchange import (
    CLIENT_GONE,
    ClientGone,
    Message,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    json_response,
    problem_of,
    response_to,
)
from service.streams.files import CONTENT_PARAMETERS, THROUGH_PARAMETERS, Files
from service.streams.following import Following
from service.streams.forms import largest_body
from service.streams.pulls import PULL_PARAMETERS, Pulls
from service.streams.readiness import Readiness
from service.streams.router import Handler, Route, Router
from service.streams.rxdb_streams import PULL_STREAM, RxdbStreams
from service.streams.socket_io import SocketIo
from service.streams.threads import Threads
from service.streams.transfers import hear_out
from service.streams.tus import Tus

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
        self.socket_io: SocketIo | None = None
        self.threads: Threads | None = None
        self.files: Files | None = None
        self.router = Router([])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a connection, or open and close what is needed for that."""
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif scope["type"] == "websocket":
            await self.connect(Request({**scope, "method": "GET"}, receive), send)
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
            self.socket_io = SocketIo(self.following, self.cross_origin)
        engine = None if self.socket_io is None else self.socket_io.engine
        ready = Readiness(self.database, self.settings["MONGODB_CONNECT_TIMEOUT"], self.is_draining, self.others)
        self.router = Router(
            [
                Route("GET", "/health/live", lives),
                Route("GET", "/health/ready", ready.own),
                Route("GET", ALL_READY, ready.all),
                Route("GET", PULL_STREAM, self.real(lambda found: RxdbStreams(found).answer)),
                Route("GET", SOCKET_IO, unsupported if engine is None else engine.poll, None, SOCKET_IO_POLL),
                Route("POST", SOCKET_IO, unsupported if engine is None else engine.push, None, has_body=True),
                Route("GET", "/v1/live", self.real(lambda found: LiveEvents(found).answer), LIVE_PARAMETERS),
                Route(
                    "GET", "/v1/changes", self.real(lambda found: Pulls(found).answer), PULL_PARAMETERS, WAITING_PULL
                ),
                *self.of_files(),
            ]
        )

    def of_files(self) -> Iterator[Route]:
        """Yield the routes of files, which an app may leave out of its record types."""
        if File not in self.registry.by_document:
            return
        security = Security(self.settings) if self.following is None else self.following.security
        # Of their own: who asks for what has changed does not have its turn behind a crowd that uploads.
        self.threads = Threads(self.settings["STREAMS_THREADS"], self.settings["MONGODB_TIMEOUT"])
        self.files = files = Files(self.settings, self.registry, security, self.threads, store_of(self.settings))
        yield Route("POST", "/v1/files", files.create, has_body=True)
        yield Route("GET", "/v1/files/<id>/content", files.content, CONTENT_PARAMETERS)
        yield Route("GET", "/v1/<type>/<id>/files/<file>", files.through, THROUGH_PARAMETERS)
        tus = Tus(self.settings, files)
        yield Route("OPTIONS", "/v1/uploads", tus.describe)
        yield Route("POST", "/v1/uploads", tus.create, has_body=True)
        yield Route("GET", "/v1/uploads/<id>", tus.tell)
        yield Route("PATCH", "/v1/uploads/<id>", tus.patch, has_body=True)
        yield Route("DELETE", "/v1/uploads/<id>", tus.end)

    def real(self, handler: Callable[[Following], Handler]) -> Handler:
        """Return a handler of what needs a real MongoDB, or the one that says so where there is none."""
        return unsupported if self.following is None else handler(self.following)

    async def close(self) -> None:
        """Close what was opened."""
        if self.socket_io is not None:
            await self.socket_io.stop()
        if self.following is not None:
            await self.following.stop()
        if self.files is not None:
            self.files.contents.close()
        if self.threads is not None:
            self.threads.close()
        if self.database is not None:
            await self.database.close()

    async def watch(self) -> None:
        """Let all that wait know when the server is about to end."""
        swept = time.monotonic()
        while True:
            await asyncio.sleep(LOOKS_EVERY)
            if self.following is not None and self.is_draining():
                self.following.subscriptions.drain()
            if self.socket_io is not None and time.monotonic() - swept > SWEEP_EVERY:
                await self.socket_io.engine.sweep()
                swept = time.monotonic()

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
        except (BytesGone, Problem, PyMongoError) as error:
            # Fewer bytes than the answer has told: so the client knows that it has not got all.
            log.warning("cut_off", request_id=request.id, reason=type(error).__name__)
        except TimeoutError:
            # It comes again with its cursor; until then nothing is kept for it.
            metrics.CUT_OFF.inc()
        finally:
            metrics.IN_FLIGHT.dec()

    async def connect(self, request: Request, send: Send) -> None:
        """Answer a WebSocket, which is one of Socket.IO."""
        if self.socket_io is None or request.path.rstrip("/") != SOCKET_IO:
            await request.receive()
            await send(NO_SOCKET)
            return
        request.route = SOCKET_IO
        metrics.IN_FLIGHT.inc()
        try:
            await self.socket_io.engine.websocket(request, send, partial(self.tell, request))
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
            if request.has_body and not request.has_come and not isinstance(problem, RequestTimeout):
                problem.headers.setdefault("Connection", "close")
                await hear_out(request, self.settings["CLIENT_TIMEOUT"], largest_body(self.settings))
            return response_to(problem, request)

    async def handled(self, request: Request) -> Response:
        """Return the answer of who answers the path."""
        if request.method != request.method.upper():
            raise BadRequest("a method is written in capitals")
        if request.method == "OPTIONS" and not self.router.has(request.method, request.path):
            allowed = self.router.allowed(request.path)
            if not allowed:
                raise NotFound("there is nothing at this path")
            return Response(200, headers=(("Allow", allowed),))
        route, request.arguments = self.router.find(request.method, request.path)
        request.route = route.name
        if route.parameters is not None:
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


SOCKET_IO = "/socket.io"
SOCKET_IO_POLL = "/socket.io?poll"
"""What polls of Socket.IO are called in the metrics: they wait, and are not slow."""
NO_SOCKET: Message = {"type": "websocket.close", "code": 1000}
WAITING_PULL = "/v1/changes?wait"
"""What the pulls that wait are called in the metrics: they take long, and are not slow."""


async def lives(_request: Request) -> Response:
    """Answer while the process serves."""
    return json_response({"status": "ok"})


async def unsupported(_request: Request) -> Response:
    """Say that this needs a real MongoDB."""
    raise NotSupported("this needs a real MongoDB")
