"""Changes: what is new for an account since a place in the order of all changes."""

from typing import Any

from flask import Flask

from service.changes.barrier import Barrier
from service.changes.pull import parse_pull
from service.context import current_registry, current_service
from service.core.errors import NotSupported
from service.http.arguments import parameters
from service.http.openapi import operation
from service.http.usage import account_usage
from service.mongo import connection, transactions
from service.resources.resource import Resource
from service.security import current_identity, security


class ChangeList(Resource):
    """What has changed."""

    @operation(
        "List what has changed",
        name="listChanges",
        parameters=frozenset({"types", "scope", "cursor", "limit", "wait"}),
        answer={200: "changes"},
        problems=["cursor_expired", "feed_unavailable", "not_supported", "too_many_requests"],
    )
    def get(self) -> dict[str, Any]:
        """Return the records that have changed for this account since its cursor, and those that are gone for it."""
        asked = parse_pull(current_registry(), parameters(), str(current_identity), security().cursor_key)
        # At once: where there is a door, it hands what asks to wait over to the streams. In an atomic batch too: what
        # its transaction has not committed is in no order.
        return transactions.outside(asked.answer_now, current_barrier(), account_usage().using).as_dict()


def init_app(app: Flask) -> None:
    """Prepare pulls, where there is a database with change streams."""
    if not connection.is_memory(app.config["MONGODB_URI"]):
        client = connection.stream_client(app.config)
        registry = app.extensions["madang.registry"]
        app.extensions["madang.barrier"] = Barrier(registry, client, app.config["MONGODB_CONNECT_TIMEOUT"])


def current_barrier() -> Barrier:
    """Return the barrier of the app; raises `NotSupported` on mongomock."""
    found: Barrier | None = current_service().extensions.get("madang.barrier")
    if found is None:
        raise NotSupported("changes need a real MongoDB")
    return found
