"""What the streams keep to follow the order of changes: its reader, who listens, and what pulls go by."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from service.changes.barrier import Barrier
from service.changes.reader import Heard, OrderReader
from service.identity.security import Security
from service.model.registry import Registry
from service.mongo import connection
from service.streams.subscriptions import Subscriptions
from service.streams.threads import Threads


class Following:
    """Of one process. The reader hears, on its thread; the event loop tells those that listen."""

    def __init__(self, settings: Mapping[str, Any], registry: Registry) -> None:
        self.settings, self.registry = settings, registry
        self.security = Security(settings)
        self.threads = Threads(settings["STREAMS_THREADS"], settings["MONGODB_TIMEOUT"])
        self.subscriptions = Subscriptions(settings["LIVE_CONNECTIONS"], settings["LIVE_CONNECTIONS_ACCOUNT"])
        self.client = connection.stream_client(settings)
        self.barrier = Barrier(registry, self.client, settings["MONGODB_CONNECT_TIMEOUT"])
        self.reader: OrderReader | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read, and tell those that listen in an event loop."""
        self.reader = OrderReader(self.client, partial(self.hand_over, loop))
        self.reader.start()

    def hand_over(self, loop: asyncio.AbstractEventLoop, heard: Heard) -> None:
        """Tell, from the reader's thread; return when all that listen have been told."""
        asyncio.run_coroutine_threadsafe(self.hear(heard), loop).result()

    async def hear(self, heard: Heard) -> None:
        """Tell all that listen of what has happened."""
        self.subscriptions.hear(heard)

    async def stop(self) -> None:
        """End, when what was begun is done."""
        if self.reader is not None:
            # In a thread: its last words are told in this event loop.
            await asyncio.get_running_loop().run_in_executor(None, self.reader.stop)
        self.barrier.leave()
        self.threads.close()
        self.client.close()
