"""Changes: what is new for an account since a place in the order of all changes."""

import threading
import time
from typing import Any

from flask import Flask

from service.changes import pull
from service.changes.barrier import Barrier
from service.context import current_registry, current_service
from service.core.errors import NotSupported
from service.http.arguments import parameters
from service.http.idempotency import PART_OF_BATCH
from service.http.openapi import operation
from service.http.web import current_request
from service.mongo import connection, deadline, transactions
from service.resources.resource import Resource
from service.security import current_identity, security

MOST_WAITING = 4
"""Most requests of a worker that wait for news, each on a thread; another is answered at once, and comes again."""
NEWS_PAUSE = 0.25
"""Seconds between two looks for news of a request that waits here; where there is a door, the streams answer it."""


class ChangeList(Resource):
    """What has changed."""

    @operation(
        "List what has changed",
        name="listChanges",
        parameters=frozenset({"types", "scope", "cursor", "limit", "wait"}),
        answer={200: "changes"},
        problems=["cursor_expired", "feed_unavailable", "not_supported"],
    )
    def get(self) -> dict[str, Any]:
        """Return the records that have changed for this account since its cursor, and those that are gone for it."""
        asked = pull.parse_pull(current_registry(), parameters(), str(current_identity), security().cursor_key)
        waiting = current_feed()
        # In an atomic batch too: what its transaction has not committed is in no order.
        found = transactions.outside(asked.answer, waiting.barrier)
        waits = asked.wait and PART_OF_BATCH not in current_request().environ
        if waits and not found.items and waiting.places.acquire(blocking=False):
            try:
                end = time.monotonic() + asked.wait
                while not found.items and time.monotonic() < end:
                    time.sleep(NEWS_PAUSE)
                    # Each look has a deadline of its own: that of the request is shorter than the wait.
                    found = deadline.apart(asked.answer, waiting.barrier)
            finally:
                waiting.places.release()
        return found.as_dict()


class Feeding:
    """What one app keeps for pulls: its barrier, and how many may wait."""

    def __init__(self, app: Flask) -> None:
        client = connection.stream_client(app.config)
        self.barrier = Barrier(app.extensions["madang.registry"], client, app.config["MONGODB_CONNECT_TIMEOUT"])
        self.places = threading.Semaphore(MOST_WAITING)


def init_app(app: Flask) -> None:
    """Prepare pulls, where there is a database with change streams."""
    if not connection.is_memory(app.config["MONGODB_URI"]):
        app.extensions["madang.feeding"] = Feeding(app)


def current_feed() -> Feeding:
    """Return what the app keeps for pulls; raises `NotSupported` on mongomock."""
    found: Feeding | None = current_service().extensions.get("madang.feeding")
    if found is None:
        raise NotSupported("changes need a real MongoDB")
    return found
