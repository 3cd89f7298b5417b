"""A request and its answer, as the handlers of the streams see them."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from service.core.errors import InternalError, Problem
from service.core.headers import FRESH, request_id
from service.core.query_string import Parameters, query_parameters
from service.mongo import problems

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PROBLEM_TYPE = "application/problem+json"
CLIENT_GONE = 499
"""The status that is counted where a client has gone before it got one; no client ever sees it."""


class ClientGone(Exception):
    """The client has closed the connection: nobody waits for an answer."""


class Request:
    """What a client has sent but for its body, which is read piece by piece.

    `route` is the pattern that the path has matched, `account` that of whoever was found to ask; `is_coming` tells
    whether some of the body was read, `has_come` whether all of it.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        """Take the ASGI scope, and where messages come from."""
        self.scope, self.receive = scope, receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.arguments: dict[str, str] = {}
        self.route = "unmatched"
        self.account: str | None = None
        self.is_coming = self.has_come = False
        self.started = time.perf_counter()

    @cached_property
    def headers(self) -> dict[str, str]:
        """The headers by name in lower case; those that came several times, joined."""
        found: dict[str, str] = {}
        for name, text in self.scope["headers"]:
            key, value = name.decode("latin-1"), text.decode("latin-1")
            found[key] = f"{found[key]}, {value}" if key in found else value
        return found

    @cached_property
    def id(self) -> str:
        """The id of the request: the client's own, or a new one."""
        return request_id(self.headers.get("x-request-id", ""))

    @cached_property
    def parameters(self) -> Parameters:
        """Name and value of each parameter of the query string, in order."""
        return query_parameters(self.scope["query_string"])

    @property
    def has_body(self) -> bool:
        """Tell whether there is a body, which one of two headers has to say (RFC 9112, section 6.3)."""
        return self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raises `ClientGone` where it breaks off."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self.is_coming, self.has_come = True, not message.get("more_body")
            if message.get("body"):
                yield message["body"]
            if self.has_come:
                return

    async def gone(self) -> None:
        """Return when the client has closed the connection, or has got its answer."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: a body that is there, or one that comes piece by piece; then `end` is called when it is over.

    A client has `times` its patience for a piece.
    """

    status: int
    body: bytes | AsyncGenerator[bytes, None] = b""
    headers: tuple[tuple[str, str], ...] = ()
    end: Callable[[], None] = lambda: None
    times: int = 1

    async def send(self, request: Request, send: Send, more: Iterable[tuple[str, str]], patience: float) -> None:
        """Send the answer to a request, with those headers of every answer that it has not set, and with `more`.

        Raises `TimeoutError` where the client does not take a piece within its time, by a `patience` in seconds.
        """
        names = {name.lower() for name, _ in self.headers}
        own = [*self.headers, *more, ("X-Request-ID", request.id)]
        own += [(name, text) for name, text in FRESH if name.lower() not in names]
        if isinstance(self.body, bytes) and "content-length" not in names:
            own.append(("Content-Length", str(len(self.body))))
        encoded = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in own]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})
        if isinstance(self.body, bytes):
            shown = b"" if request.method == "HEAD" else self.body
            await send({"type": "http.response.body", "body": shown})
            return
        async with aclosing(self.body) as pieces:
            async for piece in pieces:
                async with asyncio.timeout(self.times * patience):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def problem_of(error: Exception) -> Problem:
    """Return the problem that an exception of PyMongo or our own means to a client."""
    if isinstance(error, Problem):
        return error
    return problems.of(error) or InternalError("something went wrong on our side")


def json_response(content: Any, status: int = 200) -> Response:
    """Return an answer with JSON."""
    return Response(status, orjson.dumps(content), (("Content-Type", "application/json"),))


def response_to(problem: Problem, request: Request) -> Response:
    """Return the answer that tells of a problem."""
    document = orjson.dumps(problem.as_dict(request.id, request.path))
    return Response(problem.status, document, (*problem.headers.items(), ("Content-Type", PROBLEM_TYPE)))
