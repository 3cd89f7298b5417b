"""The streams in the hands of a test: their app in an event loop of its own thread, called as an ASGI server does."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from service.streams.app import Streams
from tests.waiting import until


class Sent:
    """What the app has sent."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.status = messages[0]["status"]
        self.headers = {name.decode(): text.decode() for name, text in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])
        self.ended = not messages[-1].get("more_body")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def scope(method: str, path: str, query: dict[str, Any] | str = "", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").lower().encode(), text.encode()) for name, text in headers.items()]
    text = query if isinstance(query, str) else urlencode(query)
    return {"type": "http", "method": method, "path": path, "query_string": text.encode(), "headers": pairs}


class Exchange:
    """One request that is being answered, from the client's side."""

    def __init__(
        self,
        app: Streams,
        loop: asyncio.AbstractEventLoop,
        scope: dict[str, Any],
        body: bytes = b"",
        whole: bool = True,
    ) -> None:
        self.body, self.whole = body, whole
        self.messages: list[dict[str, Any]] = []
        self.loop = loop
        self.hung_up = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.asked = False
        self.done: Future[None] = asyncio.run_coroutine_threadsafe(app(scope, self.receive, self.send), loop)

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": self.body, "more_body": not self.whole}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if not self.hung_up.is_set():
            self.messages.append(message)

    def hang_up(self) -> None:
        """Close the connection."""
        self.loop.call_soon_threadsafe(self.hung_up.set)

    def stop_reading(self) -> None:
        """Take nothing more of what is sent."""
        self.loop.call_soon_threadsafe(self.reads.clear)

    def read_on(self) -> None:
        """Take again what is sent."""
        self.loop.call_soon_threadsafe(self.reads.set)

    def result(self, seconds: float = 10) -> Sent:
        """The whole answer."""
        self.done.result(seconds)
        return Sent(self.messages)


class WebSocket(Exchange):
    """A WebSocket, from the client's side."""

    def __init__(self, app: Streams, loop: asyncio.AbstractEventLoop, scope: dict[str, Any]) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent.put_nowait({"type": "websocket.connect"})
        super().__init__(app, loop, {**scope, "type": "websocket"})

    async def receive(self) -> dict[str, Any]:
        return await self.sent.get()

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.close":
            self.sent.put_nowait({"type": "websocket.disconnect"})

    def emit(self, text: str | bytes) -> None:
        """Send a message."""
        kind = "text" if isinstance(text, str) else "bytes"
        self.loop.call_soon_threadsafe(self.sent.put_nowait, {"type": "websocket.receive", kind: text})

    def hang_up(self) -> None:
        super().hang_up()
        self.loop.call_soon_threadsafe(self.sent.put_nowait, {"type": "websocket.disconnect"})

    @property
    def texts(self) -> list[str]:
        """All messages that came."""
        return [one["text"] for one in [*self.messages] if one["type"] == "websocket.send"]

    @property
    def is_closed(self) -> bool:
        return self.done.done()


class Served:
    """The app while it serves."""

    def __init__(self, app: Streams, loop: asyncio.AbstractEventLoop) -> None:
        self.app, self.loop = app, loop
        self.said: list[str] = []
        self.exchanges: list[Exchange] = []
        self.ended = asyncio.Event()

    def begin(self, method: str, path: str, query: dict[str, Any] | str = "", **headers: str) -> Exchange:
        """Send a request, and do not wait for its answer."""
        found = Exchange(self.app, self.loop, scope(method, path, query, **headers))
        self.exchanges.append(found)
        return found

    def ask(self, method: str, path: str, query: dict[str, Any] | str = "", **headers: str) -> Sent:
        """Send a request and return its answer."""
        return self.begin(method, path, query, **headers).result()

    def post(self, path: str, query: dict[str, Any], body: bytes, **headers: str) -> Sent:
        """Send a request with a body and return its answer."""
        return self.begin_body("POST", path, query, body, **headers).result()

    def begin_body(
        self, method: str, path: str, query: dict[str, Any], body: bytes, whole: bool = True, **headers: str
    ) -> Exchange:
        """Send a request with a body, or with the beginning of one, and do not wait for its answer."""
        asked = scope(method, path, query, **{"content_length": str(len(body)), **headers})
        found = Exchange(self.app, self.loop, asked, body, whole)
        self.exchanges.append(found)
        return found

    def open(self, path: str, query: dict[str, Any], **headers: str) -> WebSocket:
        """Open a WebSocket."""
        found = WebSocket(
            self.app, self.loop, scope("GET", path, query, connection="Upgrade", upgrade="websocket", **headers)
        )
        self.exchanges.append(found)
        return found

    @property
    def waiting(self) -> int:
        """How many listen."""
        assert self.app.following is not None
        return len(self.app.following.subscriptions.all)

    async def receive(self) -> dict[str, Any]:
        if self.said:
            await self.ended.wait()
        return {"type": "lifespan"}

    async def send(self, message: Any) -> None:
        self.said.append(message["type"])


@contextmanager
def served(app: Streams) -> Iterator[Served]:
    """Serve an app until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="streams")
    thread.start()
    found = Served(app, loop)
    life = asyncio.run_coroutine_threadsafe(app({"type": "lifespan"}, found.receive, found.send), loop)
    try:
        until(lambda: found.said)
        yield found
    finally:
        for one in found.exchanges:
            one.hang_up()
            one.read_on()
        wait([one.done for one in found.exchanges], 10)
        loop.call_soon_threadsafe(found.ended.set)
        life.result(10)
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
