"""Mongomock as this service uses it. It is loaded where `MONGODB_URI` asks for it: it takes 2 MB of a process."""

from typing import Any

import mongomock
import mongomock.collection
from bson import BSON

from service.mongo.driver import Driver
from service.mongo.plain import PyMongoDriver
from service.mongo.raw import STANDARD


class MemoryClient(mongomock.MongoClient):  # type: ignore[type-arg]
    """Mongomock's client: it stands in for PyMongo's. It knows no alphabet: texts are in the order of code points."""

    driver: Driver = PyMongoDriver("mongomock")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        mongomock.ignore_feature("collation")
        # It tries whether a document can be encoded, without the options of its client: it would refuse every UUID.
        mongomock.collection.BSON = StandardBSON  # type: ignore[attr-defined]


class StandardBSON(BSON):
    """Encodes a UUID as every language reads it."""

    @classmethod
    def encode(cls, document: Any, check_keys: bool = False, codec_options: Any = STANDARD) -> BSON:
        """Return a document in BSON."""
        return super().encode(document, check_keys, codec_options)
