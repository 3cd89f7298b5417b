"""The service in processes that kill themselves at a named step of a request, and are started again: for tests only.

`python -m tests.crashing <port> …` serves the app of the environment's settings on each port, one Granian with one
worker each, as `run.py` does, and starts it again when it has died. It ends when its standard input is closed.

A request with the header `X-Crash-At: <point>` kills its worker (SIGKILL) there. The points are `received`, `answered`
(the answer is ready, none of it was sent) and, for the n-th command that the request sends to MongoDB, `<n>-before`,
`<n>-sent` (the command is on its way, the reply was not read) and `<n>-after`. At a point that does not come, `never`
say, nothing happens, and the answer's header `X-Commands` names the commands.
"""

import gc
import math
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import bson
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server
from pymongo.synchronous.pool import Connection

import settings
from service import app as application
from service.http import kept_bytes
from service.identity import sessions
from service.mongo import wire

PHASES = ("before", "sent", "after")
COMMAND = 21
"""Where the command begins in a message to MongoDB: after its header, its flags and the kind of its first section."""


class Fuse(threading.local):
    """The point at which the request of this thread ends the process, and the commands that it has sent."""

    point: str | None = None
    commands: list[str] = []

    def arm(self, point: str | None) -> None:
        self.point, self.commands = point, []

    def burn(self, point: str) -> None:
        if point == self.point:
            os.kill(os.getpid(), signal.SIGKILL)

    def count(self, message: bytes) -> None:
        """Note one more command of the armed request."""
        size = int.from_bytes(message[COMMAND : COMMAND + 4], "little")
        self.commands.append(next(iter(bson.decode(message[COMMAND : COMMAND + size]))))
        self.burn(f"{len(self.commands)}-before")


fuse = Fuse()


def points(commands: list[str]) -> Iterator[tuple[str, str]]:
    """Yield every point of a request that sends `commands`, and its name for people."""
    yield "received", "received"
    for number, command in enumerate(commands, 1):
        for phase in PHASES:
            yield f"{number}-{phase}", f"{command} {phase}"
    yield "answered", "answered"


def install() -> None:
    """Put the fault points around the commands that PyMongo sends, and those that go the short way."""
    send, receive = Connection.send_message, Connection.receive_message

    def send_message(self: Connection, message: bytes, *args: Any) -> None:
        if fuse.point is None:
            return send(self, message, *args)
        fuse.count(message)
        send(self, message, *args)
        return fuse.burn(f"{len(fuse.commands)}-sent")

    def receive_message(self: Connection, *args: Any) -> Any:
        reply = receive(self, *args)
        if fuse.point is not None:
            fuse.burn(f"{len(fuse.commands)}-after")
        return reply

    exchange, receive_short = wire.exchange, wire.receive

    def exchange_short(sock: Any, command: bytes, deadline: float) -> Any:
        if fuse.point is not None:
            fuse.count(bytes(COMMAND) + command)
        return exchange(sock, command, deadline)

    def receive_reply(*args: Any) -> Any:
        if fuse.point is None:
            return receive_short(*args)
        fuse.burn(f"{len(fuse.commands)}-sent")
        reply = receive_short(*args)
        fuse.burn(f"{len(fuse.commands)}-after")
        return reply

    Connection.send_message, Connection.receive_message = send_message, receive_message
    wire.exchange, wire.receive = exchange_short, receive_reply
    # Otherwise the number of commands would depend on how long ago the session and the kept answers were looked at.
    kept_bytes.PAUSE = math.inf
    sessions.CHECK_SECONDS = 0


class Crashing:
    """A WSGI app that is `app`, but dies where a request says."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        fuse.arm(environ.get("HTTP_X_CRASH_AT"))
        fuse.burn("received")

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            own = [("X-Pid", str(os.getpid())), ("X-Commands", ",".join(fuse.commands))]
            return start_response(status, [*headers, *own], *error)

        try:
            body = b"".join(self.app(environ, start))
            fuse.burn("answered")
        finally:
            fuse.arm(None)
        return [body]


@cache
def create_app() -> Crashing:
    """Return the application: what a worker loads. It is made before the first fork, and opens no connection."""
    install()
    return Crashing(application.create_app(settings.load(os.environ)))


def serve(port: int) -> None:
    """Serve on a port until the worker dies or a signal comes."""
    Server(
        "tests.crashing:create_app",
        factory=True,
        interface=Interfaces.WSGI,
        address="127.0.0.1",
        port=port,
        workers=1,
        blocking_threads=4,
        respawn_failed_workers=False,
        workers_kill_timeout=5,
        log_level=LogLevels.critical,
        websockets=False,
    ).serve()


def start(port: int) -> int:
    """Serve on a port in a process of its own, which has every module already; return its id."""
    pid = os.fork()
    if pid == 0:
        try:
            serve(port)
        finally:
            os._exit(0)
    return pid


def main(ports: list[int]) -> None:
    """Keep a server on each port until standard input is closed."""
    create_app()
    # What is there now stays: a collection in a child would copy it page by page.
    gc.freeze()
    servers = {start(port): port for port in ports}
    ended = threading.Event()

    def stop() -> None:
        # Not `sys.stdin.read()`: that holds a lock, which a fork would hand on.
        os.read(0, 1)
        ended.set()
        for pid in list(servers):
            os.kill(pid, signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    while servers:
        port = servers.pop(os.wait()[0])
        if not ended.is_set():
            servers[start(port)] = port


if __name__ == "__main__":
    # Granian loads this module by its name, and as that it is another one than `__main__`.
    from tests import crashing

    crashing.main([int(port) for port in sys.argv[1:]])
