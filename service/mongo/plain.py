"""PyMongo's own way."""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from bson import Timestamp
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.synchronous.client_session import ClientSession
from pymongo.synchronous.cursor import Cursor

from service.mongo.driver import Selection
from service.mongo.portion import Portion, portion_of
from service.mongo.raw import Raw


class PyMongoDriver:
    """Does each operation as PyMongo does it."""

    name = "pymongo"

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def find(self, selected: Selection) -> list[Raw]:
        """Return the documents that are selected."""
        return list(cursor_over(selected))

    def portion(self, selected: Selection) -> Portion:
        """Return the first documents that are selected, as many as make a portion."""
        with closing(cursor_over(selected._replace(limit=selected.limit + 1))) as cursor:
            return portion_of(cursor, selected.limit)

    def find_at(self, selected: Selection) -> tuple[Raw | None, Timestamp]:
        """Return the first document that is selected, and MongoDB's clock when it was read."""
        collection, condition, projection, *_ = selected
        with collection.database.client.start_session(causal_consistency=False) as session:
            found = collection.find_one(condition, projection, session=session)
            moment = session.operation_time
        assert moment is not None  # noqa: S101  a member of a replica set always tells
        return found, moment

    def insert(self, collection: Collection[Raw], document: Raw, session: ClientSession | None = None) -> None:
        """Store a new document."""
        collection.insert_one(document, session=session)

    def change(
        self,
        collection: Collection[Raw],
        condition: Mapping[str, Any],
        update: Mapping[str, Any],
        upsert: bool,
        projection: Mapping[str, int] | None,
        session: ClientSession | None = None,
    ) -> Raw | None:
        """Change the one document that fulfils a condition and return it as it then is."""
        found: Raw | None = collection.find_one_and_update(
            *(condition, update, projection),
            upsert=upsert,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        return found

    def update(
        self,
        collection: Collection[Raw],
        condition: Mapping[str, Any],
        update: Mapping[str, Any],
        session: ClientSession | None = None,
    ) -> bool:
        """Change the one document that fulfils a condition and tell whether there was one."""
        return bool(collection.update_one(condition, update, session=session).matched_count)


def cursor_over(selected: Selection) -> Cursor[Raw]:
    """Return PyMongo's cursor over the documents that are selected."""
    collection, condition, projection, sort, limit, hint, collation = selected
    cursor = collection.find(condition, projection, sort=list(sort) or None, limit=limit, collation=collation)
    return cursor.hint(hint) if hint else cursor
