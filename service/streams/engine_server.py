"""The server of `python-engineio`, with ids by which a door finds its process, and tasks that can be ended."""

import asyncio
from contextvars import ContextVar
from typing import Any

from engineio import AsyncServer

from service.core.log import log
from service.streams.exchange import Request
from service.streams.session_ids import REACHED_AT, process_tag


class LibraryLog:
    """Where the library tells what happens. What it takes for errors is a client's mistake, but for exceptions."""

    def info(self, *_: Any) -> None:
        """Tell nothing: it has packets in it, and with them tokens."""

    warning = error = info

    def exception(self, message: str, *_: Any) -> None:
        """Tell of a bug."""
        log.error("engine_failed", reason=message, exc_info=True)


TAG: ContextVar[str] = ContextVar("tag", default="")
"""What the id begins with if a session is opened now."""


class LibraryServer(AsyncServer):
    """The library's server. By the ids of its sessions a door finds it, and its tasks can be ended: pings to come."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.tasks: set[asyncio.Task[Any]] = set()

    def generate_id(self) -> str:
        """Return the id of a new session."""
        return TAG.get() + str(super().generate_id())

    def start_background_task(self, target: Any, *args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """Begin a task."""
        task: asyncio.Task[Any] = super().start_background_task(target, *args, **kwargs)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


def tag(request: Request) -> None:
    """Let the session that this task opens have an id by which the door finds it again."""
    address = request.headers.get(REACHED_AT)
    TAG.set("" if address is None else process_tag(address))
