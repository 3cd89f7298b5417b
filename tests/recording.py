"""A recorder in the hands of a test: it does its steps when it is told to, under a lease of its own."""

import time
from datetime import timedelta
from typing import Any

from bson import Timestamp
from mongoengine.connection import get_connection

from service.changes import order
from service.changes.recorder import Recorder
from service.changes.tail import time_of
from service.model.registry import Registry
from service.mongo import connection
from service.worker.lease import Holding


class Recording:
    """A worker that records nothing else."""

    def __init__(self, registry: Registry, settings: dict[str, Any], keep: timedelta = timedelta(days=30)) -> None:
        self.client = connection.stream_client(settings)
        self.recorder = Recorder(registry, self.client, keep)
        self.lease = Holding(order.RECORDER, 60.0)

    def catch_up(self) -> None:
        """Record all that has happened until now."""
        assert self.lease.held or self.lease.take()
        now = get_connection().admin.command("hello")["operationTime"]
        self.recorder.step(self.lease)
        begun = time.monotonic()
        while self.recorder.comparing is not None or self.recorder.is_cut or self.reached() < now:
            self.recorder.step(self.lease)
            if time.monotonic() - begun > 20:
                self.lease.renew()
                begun = time.monotonic()

    def reached(self) -> Timestamp:
        """Until when all that has happened is recorded."""
        assert self.recorder.tail is not None
        return time_of(self.recorder.tail.token)

    def close(self) -> None:
        self.recorder.close()
        self.client.close()
