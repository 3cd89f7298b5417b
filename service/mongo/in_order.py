"""Stored documents one after the other, in the order of their ids: while somebody works with one, no cursor waits.

MongoDB ends a cursor that waits for half an hour, and what is done with a document may take its time.
"""

from collections.abc import Iterator
from typing import Any

from service.mongo.raw import Filter, Raw

IN_ORDER_AT_ONCE = 1000
"""Most documents that are read at once."""


def each_in_order(collection: Any, condition: Filter, fields: Raw) -> Iterator[Raw]:
    """Yield these fields of the documents that fulfil a condition on others than the id, which is a text."""
    after: Filter = {}
    while rows := list(collection.find({**condition, **after}, fields, limit=IN_ORDER_AT_ONCE).sort("_id")):
        yield from rows
        after = {"_id": {"$gt": rows[-1]["_id"]}}
