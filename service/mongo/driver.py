"""What a request asks of MongoDB: a small protocol, which `plain` and `short` implement, and the functions over it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from bson import Timestamp
from pymongo.collection import Collection

from service.mongo.portion import Portion
from service.mongo.raw import Raw

SortKeys = Sequence[tuple[str, int]]
"""Fields with their direction: 1 ascending, -1 descending."""


class Selection(NamedTuple):
    """Documents of a collection that fulfil a condition, at most `limit` where it is not 0, by the index called `hint`.

    Texts are compared and sorted by the `collation`, by code points where it is None. Without a `projection` they are
    whole.
    """

    collection: Collection[Raw]
    condition: Mapping[str, Any]
    projection: Mapping[str, int] | None = None
    sort: SortKeys = ()
    limit: int = 0
    hint: str = ""
    collation: Mapping[str, Any] | None = None


class Driver(Protocol):
    """How the operations of requests are done; each connection has one, which is chosen when it is made.

    Inside of a transaction they belong to it. What goes wrong is a `pymongo.errors.PyMongoError`.
    """

    name: str
    reason: str
    """The option of the connection for which only PyMongo will do; empty for the short way."""

    def find(self, selected: Selection) -> list[Raw]:
        """Return the documents that are selected."""
        ...

    def portion(self, selected: Selection) -> Portion:
        """Return the first documents that are selected, as many as make a portion."""
        ...

    def find_at(self, selected: Selection) -> tuple[Raw | None, Timestamp]:
        """Return the first document that is selected, and MongoDB's clock when it was read."""
        ...

    def insert(self, collection: Collection[Raw], document: Raw) -> None:
        """Store a new document."""
        ...

    def change(
        self,
        collection: Collection[Raw],
        condition: Mapping[str, Any],
        update: Mapping[str, Any],
        upsert: bool,
        projection: Mapping[str, int] | None,
    ) -> Raw | None:
        """Change the one document that fulfils a condition and return it as it then is."""
        ...

    def update(self, collection: Collection[Raw], condition: Mapping[str, Any], update: Mapping[str, Any]) -> bool:
        """Change the one document that fulfils a condition and tell whether there was one."""
        ...


def driver_of(collection: Collection[Raw]) -> Driver:
    """Return the driver that was chosen for the connection of a collection: see `connection.Client`."""
    client: Any = collection.database.client
    driver: Driver = client.driver
    return driver


def find(
    collection: Collection[Raw],
    condition: Mapping[str, Any],
    projection: Mapping[str, int] | None = None,
    sort: SortKeys = (),
    limit: int = 0,
    hint: str = "",
) -> list[Raw]:
    """Return all documents that fulfil `condition`; see `Selection`."""
    return driver_of(collection).find(Selection(collection, condition, projection, sort, limit, hint))


def portion(selected: Selection) -> Portion:
    """Return the first documents that are selected, as many as make a portion."""
    return driver_of(selected.collection).portion(selected)


def find_one(
    collection: Collection[Raw], condition: Mapping[str, Any], projection: Mapping[str, int] | None = None
) -> Raw | None:
    """Return a document that fulfils `condition`, None when there is none."""
    found = find(collection, condition, projection, limit=1)
    return found[0] if found else None


def find_at(collection: Collection[Raw], id: str, projection: Mapping[str, int]) -> tuple[Raw | None, Timestamp]:
    """Return the document with an id, None where there is none, and MongoDB's clock when it was read.

    That is its `operationTime`, which members of a replica set tell: what was acknowledged before is not later.
    """
    return driver_of(collection).find_at(Selection(collection, {"_id": id}, projection, limit=1))


def insert(collection: Collection[Raw], document: Raw) -> None:
    """Store a new document, which brings its `_id`. Raises `pymongo.errors.DuplicateKeyError` when that is taken."""
    driver_of(collection).insert(collection, document)


def change(
    collection: Collection[Raw],
    condition: Mapping[str, Any],
    update: Mapping[str, Any],
    upsert: bool = False,
    projection: Mapping[str, int] | None = None,
) -> Raw | None:
    """Apply `update` to the one document that fulfils `condition` and return it as it then is; None if there is none.

    Raises `pymongo.errors.DuplicateKeyError` where it breaks a unique index.
    """
    return driver_of(collection).change(collection, condition, update, upsert, projection)


def update(collection: Collection[Raw], condition: Mapping[str, Any], update: Mapping[str, Any]) -> bool:
    """Apply `update` to the one document that fulfils `condition` and tell whether there was one.

    MongoDB neither returns the document nor keeps a copy of it for a retry, as it does for `change`.
    Raises as that does.
    """
    return driver_of(collection).update(collection, condition, update)
