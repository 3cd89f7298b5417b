"""Where it is counted how often something happens: in MongoDB, so that all processes count together."""

from collections.abc import Mapping
from typing import Any

from limits.storage import MemoryStorage, MongoDBStorage
from mongoengine.connection import get_connection

from service.mongo import connection


class SharedStorage(MongoDBStorage):
    """Counts in the service's own database, over its own connections."""

    def _init_mongo_client(self, uri: str | None, **options: int | str | bool) -> Any:
        return get_connection()

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` more of `key`; False when that would be more than `limit` in `expiry` seconds.

        The first counts of a key are upserts; of those that come at once one inserts, and the parent class says of the
        others that the limit is reached. What is there by then is asked again.
        """
        return super().acquire_entry(key, limit, expiry, amount) or super().acquire_entry(key, limit, expiry, amount)

    def __del__(self) -> None:
        """Leave the connection open: the parent class closes it here, and it is the service's own."""


def rate_storage(config: Mapping[str, Any]) -> MemoryStorage | SharedStorage:
    """Return what counts for the service of these settings; with mongomock, which has one process, in memory."""
    uri = config["MONGODB_URI"]
    if connection.is_memory(uri):
        return MemoryStorage()
    return SharedStorage(
        uri,
        connection.name_of(uri),
        counter_collection_name="throttle_counters",
        window_collection_name="throttle_windows",
    )
