"""A server of HTTP/2 over TLS on this machine, that answers as a test says, as APNs or FCM."""

import asyncio
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from tests.certificates import certified


@dataclass
class Asked:
    """A request that came: on which connection, with what."""

    connection: int
    stream: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.headers[":path"]

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Said:
    """What is answered; `goaway` names the last request that is looked at, `cut` ends the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    goaway: int | None = None
    cut: bool = False
    reset: ErrorCodes | None = None
    silent: bool = False


Answering = Callable[[Asked], Said]


class Http2Server:
    """The server, on a thread of its own."""

    def __init__(self, folder: Path, answering: Answering, streams: int = 100, keeps: bool = True) -> None:
        self.context, self.certificate = certified(folder, "localhost", "127.0.0.1")
        self.context.set_alpn_protocols(["h2"])
        self.answering, self.streams, self.keeps = answering, streams, keeps
        self.asked: list[Asked] = []
        self.connections = 0
        self.most_at_once = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.ready.wait(10)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listen())
        self.loop.run_forever()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def listen(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        self.ready.set()

    def stop(self) -> None:
        def end() -> None:
            self.server.close()
            for writer in self.writers:
                writer.transport.abort()
            self.loop.call_later(0.05, self.loop.stop)

        self.loop.call_soon_threadsafe(end)
        self.thread.join(10)

    def cut_all(self) -> None:
        """End all connections, as a network does."""
        self.loop.call_soon_threadsafe(lambda: [writer.transport.abort() for writer in self.writers])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        try:
            await Conversation(self, self.connections, writer).run(reader)
        except (ConnectionError, H2Error, ssl.SSLError, TimeoutError):
            return
        finally:
            self.writers.discard(writer)
            writer.close()


class Conversation:
    """One connection."""

    def __init__(self, server: Http2Server, number: int, writer: asyncio.StreamWriter) -> None:
        self.server, self.number, self.writer = server, number, writer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.open: dict[int, Asked] = {}
        self.gone = False

    async def run(self, reader: asyncio.StreamReader) -> None:
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self.server.streams})
        self.writer.write(self.h2.data_to_send())
        while data := await reader.read(65536):
            for event in self.h2.receive_data(data):
                self.take(event)
            if self.gone:
                return
            self.writer.write(self.h2.data_to_send())
            await self.writer.drain()

    def take(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            self.open[event.stream_id] = Asked(self.number, event.stream_id, dict(event.headers))
            self.server.most_at_once = max(self.server.most_at_once, len(self.open))
        elif isinstance(event, DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self.open:
                self.open[event.stream_id].body += event.data
        elif isinstance(event, StreamEnded) and event.stream_id in self.open and not self.gone:
            self.answer(event.stream_id, self.open.pop(event.stream_id))

    def answer(self, stream: int, asked: Asked) -> None:
        if self.server.keeps:
            self.server.asked.append(asked)
        said = self.server.answering(asked)
        if said.goaway is not None:
            # By hand: h2 would not let what came before be answered.
            last, code = said.goaway.to_bytes(4, "big"), (0).to_bytes(4, "big")
            told = b'{"reason":"Shutdown"}'
            frame = (8 + len(told)).to_bytes(3, "big") + bytes([7, 0]) + bytes(4) + last + code + told
            self.writer.write(self.h2.data_to_send() + frame)
        if said.cut:
            self.writer.write(self.h2.data_to_send())
            self.gone = True
            self.writer.transport.abort()
        elif said.reset is not None:
            self.h2.reset_stream(stream, said.reset)
        elif not said.silent and (said.goaway is None or stream <= said.goaway):
            body = b"" if said.body is None else said.body if isinstance(said.body, bytes) else orjson.dumps(said.body)
            self.h2.send_headers(stream, [(":status", str(said.status)), *said.headers.items()], end_stream=not body)
            for begin in range(0, len(body), 16_000):
                self.h2.send_data(stream, body[begin : begin + 16_000], end_stream=begin + 16_000 >= len(body))
