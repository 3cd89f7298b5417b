"""The collection that an import reads: in this database, in another one or on another server. It is never written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument
from mongoengine.connection import get_connection
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ConfigurationError, OperationFailure

from service.documents import Account
from service.model.foreign import unsayable
from service.mongo.connection import UNAUTHORIZED
from service.mongo.raw import Raw, in_bson

SOURCE_TIMES = {"timeoutMS": 30_000, "serverSelectionTimeoutMS": 5000, "connectTimeoutMS": 5000}
"""How long the server of a source may take, so that one that hangs is told."""
MOST_READ_BYTES = 16 * 1024 * 1024
"""About how many bytes of documents are held at once."""
READABLE: CodecOptions[Raw] = CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    # What is no UTF-8 can be told from what is, and refused.
    unicode_decode_error_handler="surrogateescape",
)
AS_IT_CAME: CodecOptions[Any] = CodecOptions(
    document_class=RawBSONDocument, uuid_representation=UuidRepresentation.STANDARD
)


class ImportRefused(RuntimeError):
    """Nothing can be imported in this way; the message is for the person at the terminal."""


class ImportSource:
    """A collection of other software, read in the order of its ids."""

    def __init__(self, database: Database[Any], name: str) -> None:
        self.collection: Collection[Any] = database.get_collection(name, codec_options=AS_IT_CAME)
        self.check_kind(database, name)

    def check_kind(self, database: Database[Any], name: str) -> None:
        """Raise `ImportRefused` where there is no such collection, or one that has no index on its ids."""
        try:
            kinds = list(database.list_collections(filter={"name": name}))
        except OperationFailure as error:
            if error.code == UNAUTHORIZED:
                return
            raise
        if not kinds:
            others = ", ".join(sorted(database.list_collection_names())) or "none"
            raise ImportRefused(f"there is no collection {name} in the database {database.name}; there are: {others}")
        if (kind := kinds[0]["type"]) != "collection":
            raise ImportRefused(f"{name} is a {kind}: write it into a collection first, by a stage $out")

    def is_that_of(self, other: Collection[Any]) -> bool:
        """Tell whether this is another collection, by whatever address it is reached."""
        mine = self.collection
        if (mine.database.name, mine.name) != (other.database.name, other.name):
            return False
        return bool(process_of(mine) == process_of(other))

    def read(self, last: Raw | None, most: int) -> list["Found"]:
        """Return the documents that follow the `last` one, at most so many; with MaxKey as id one is none."""
        # Not by `$gt`, which compares ids of one type alone.
        cursor = self.collection.find(hint=[("_id", 1)], sort=[("_id", 1)], limit=most + 1)
        if last is not None:
            if list(unsayable(last["_id"])) and isinstance(last["_id"], str):
                raise ImportRefused("an id of the source is no UTF-8, so what follows it cannot be asked for: mend it")
            cursor = cursor.min([("_id", last["_id"])])
        with cursor:
            rows = (found(row) for row in cursor)
            return within_memory((row for row in rows if last is None or not has_same_id(row.document, last)), most)

    def read_again(self, ids: Sequence[Any]) -> list["Found"]:
        """Return the documents that have these ids still."""
        with self.collection.find({"_id": {"$in": ids}}, sort=[("_id", 1)]) as cursor:
            return [found(row) for row in cursor]

    def texts_among(self, ids: Sequence[str]) -> set[str]:
        """Return those of some texts that are ids of documents."""
        rows = self.collection.find({"_id": {"$in": list(ids)}}, {"_id": 1}) if ids else ()
        return {row["_id"] for row in rows}


@dataclass(frozen=True, slots=True)
class Found:
    """A document of the source; of what cannot be decoded, and so is not `whole`, there is the id alone."""

    document: Raw
    size: int
    whole: bool = True


def found(row: RawBSONDocument) -> Found:
    """Return a document as it came."""
    try:
        return Found(bson.decode(row.raw, READABLE), len(row.raw))
    except (BSONError, ValueError, OverflowError):
        return Found({"_id": row["_id"]}, len(row.raw), whole=False)


def within_memory(rows: Iterator[Found], most: int) -> list[Found]:
    """Return the first of the documents, until they are enough."""
    kept: list[Found] = []
    size = 0
    for row in rows:
        kept.append(row)
        size += row.size
        if len(kept) == most or size > MOST_READ_BYTES:
            break
    return kept


def has_same_id(document: Raw, other: Raw) -> bool:
    """Tell whether two documents have one id; NaN is unlike itself to Python."""
    one, another = ({"_id": there["_id"]} for there in (document, other))
    return in_bson(one) == in_bson(another)


def process_of(collection: Collection[Any]) -> Any:
    """Return what tells the server of a collection from all others."""
    hello = collection.database.client.admin.command("hello")
    return hello.get("topologyVersion", {}).get("processId", hello.get("me"))


@contextmanager
def opened(uri: str | None, database: str | None, name: str) -> Iterator[ImportSource]:
    """Open a collection: of the service's own server, or of the one at a `uri`; raises `ImportRefused`."""
    if uri is None:
        own: Database[Any] = Account._get_collection().database
        yield ImportSource(own if database is None else get_connection()[database], name)
        return
    try:
        # What the address itself says is not written over.
        waiting: Any = {name: time for name, time in SOURCE_TIMES.items() if name.lower() not in uri.lower()}
        client: MongoClient[Any] = MongoClient(uri, appname="madang-import", **waiting)
    except (ConfigurationError, ValueError) as error:
        raise ImportRefused(f"--uri: {error}") from None
    with client:
        try:
            named = client.get_default_database().name if database is None else database
        except ConfigurationError:
            raise ImportRefused("say in which database: in the path of --uri, or by --database") from None
        yield ImportSource(client[named], name)
