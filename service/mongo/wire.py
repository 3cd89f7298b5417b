"""One command to MongoDB's primary, over a connection of PyMongo's pool, without PyMongo's layers in between.

Of the 200 µs that PyMongo takes for a `find_one`, 60 are what has to be done: encode, send, receive, decode (measured
with PyMongo 4.20). The rest finds a server, prepares retries and tells listeners. That is needed when something is
unusual, so the work is shared: here is one try of the usual thing, and whatever is no plain success is done again by
PyMongo, with all that it knows of elections, retries, deadlines and errors. A write that is done again goes under the
same number of the same session, by which MongoDB knows it and does it once (retryable writes, MongoDB manual).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from struct import Struct
from typing import Any

import bson
import pymongo
from pymongo import ReturnDocument, _csot
from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.monitoring import ConnectionClosedReason
from pymongo.synchronous.client_session import _SESSION
from pymongo.topology_description import TOPOLOGY_TYPE

from service.core.metrics import database_of

Raw = dict[str, Any]
"""A document as MongoDB has it."""
Order = Sequence[tuple[str, int]]

OP_MSG = 2013
HEAD = Struct("<iiiiIB")
"""Length, id, id of the request that is answered, opcode, flags, kind of the first section (wire protocol, OP_MSG)."""
FIRST_READ = 64 * 1024
LEAST_SECONDS = 0.001


class Unusual(Exception):
    """There was no plain success; PyMongo has to do it."""


class Primary:
    """The way from one `client` of PyMongo to the primary of its replica set."""

    def __init__(self, client: pymongo.MongoClient[Raw]) -> None:
        self.client = client
        self.ids = count(1)
        options = client.options
        # What a URI can ask for beyond this, only PyMongo knows how to do.
        self.usable = (
            options.timeout
            and options.pool_options.server_api is None
            and options.auto_encryption_opts is None
            and not options.load_balanced
            and options.retry_writes
            and not options.read_concern.document
            and not options.write_concern.document
        )
        self.timeout = float(options.timeout or 0)
        self.seen: Any = None
        self.server: Any = None
        self.session_minutes: int | None = None

    def find(self) -> Any:
        """Return PyMongo's server of the primary as it knows it now; None when it knows of none."""
        # It makes a new description whenever it learns something, so the same one has the same primary.
        description = self.client._topology.description
        if description is not self.seen:
            self.server = self.in_description(description)
            self.seen = description
        return self.server

    def in_description(self, description: Any) -> Any:
        """Return the server of the primary in a description of a replica set; None in any other."""
        if not self.usable or description.topology_type != TOPOLOGY_TYPE.ReplicaSetWithPrimary:
            return None
        for address, server in description.server_descriptions().items():
            if server.is_writable and server.retryable_writes_supported:
                self.session_minutes = description.logical_session_timeout_minutes
                return self.client._topology.get_server_by_address(address)
        return None

    def run(self, collection: Collection[Raw], command: Raw, numbers: Any = None) -> Raw:
        """Send a command about `collection` and return MongoDB's reply; raises `Unusual` for all but a plain success.

        It may have had its effect all the same: the answer may be what got lost.
        """
        server = self.find()
        if server is None:
            raise Unusual
        if "getMore" not in command:
            command["maxTimeMS"] = int(self.timeout * 1000)
        command["$db"] = collection.database.name
        if numbers is not None:
            numbers.last_use = time.monotonic()
            command["lsid"], command["txnNumber"] = numbers.session_id, numbers.transaction_id
        body = bson.encode(command, codec_options=collection.codec_options)
        start = time.perf_counter()
        reply: Raw = bson.decode(self.exchanged(server, body), collection.codec_options)
        database_of(next(iter(command))).observe(time.perf_counter() - start)
        if reply["ok"] != 1 or "writeErrors" in reply or "writeConcernError" in reply:
            raise Unusual
        return reply

    def exchanged(self, server: Any, body: bytes) -> memoryview:
        """Send the BSON of a command and return that of its reply; raises `Unusual`."""
        request = next(self.ids) & 0x7FFFFFFF
        message = HEAD.pack(HEAD.size + len(body), request, 0, OP_MSG, 0, 0) + body
        try:
            # The deadline is for a connection that has to be waited for, or to be opened.
            with pymongo.timeout(self.timeout), server.pool.checkout() as connection:
                try:
                    connection.set_conn_timeout(self.timeout)
                    connection.conn.sock.sendall(message)
                    return received(connection.conn.sock, request, time.monotonic() + self.timeout)
                except BaseException:
                    # What is left of this exchange must not be taken for the answer of the next one.
                    connection.close_conn(ConnectionClosedReason.ERROR)
                    raise
        except (OSError, PyMongoError) as error:
            raise Unusual from error

    def rest(self, start: float) -> Any:
        """Return the context in which PyMongo has what is left of the time of an operation that began at `start`."""
        return pymongo.timeout(max(LEAST_SECONDS, start + self.timeout - time.monotonic()))


known: Primary | None = None
"""Of the client that was asked for last: a process has one."""


def primary_for(collection: Collection[Raw]) -> Primary | None:
    """Return the way to the primary for an operation at hand; None where PyMongo has to do it.

    That is inside of a transaction, under a deadline of its own, where the database is mongomock, and where the URI
    asks for what only PyMongo knows how to do.
    """
    global known
    if _SESSION.get() is not None or _csot.get_timeout() is not None:
        return None
    client: Any = collection.database.client
    if known is None or known.client is not client:
        if not isinstance(client, pymongo.MongoClient):
            return None
        known = Primary(client)
    return known if known.usable else None


def received(sock: Any, request: int, deadline: float) -> memoryview:
    """Return the BSON of the one message that answers `request`. Raises `OSError`, `Unusual` for any other message."""
    data = sock.recv(FIRST_READ)
    while len(data) < HEAD.size:
        data += more(sock.recv(FIRST_READ))
    length, _, answered, opcode, flags, kind = HEAD.unpack_from(data)
    if (answered, opcode, flags, kind) != (request, OP_MSG, 0, 0) or len(data) > length:
        raise OSError("this is not the answer")
    if len(data) == length:
        return memoryview(data)[HEAD.size :]
    whole = memoryview(bytearray(length))
    whole[: len(data)] = data
    have = len(data)
    while have < length:
        if time.monotonic() > deadline:
            raise TimeoutError("the answer did not come in time")
        have += len(more(whole[have : have + sock.recv_into(whole[have:])]))
    return whole[HEAD.size :]


def more(part: Any) -> Any:
    """Return a part of a message; raises `OSError` when there is none, for the other side has closed the connection."""
    if not part:
        raise OSError("the connection was closed")
    return part


# --- What a request asks ---------------------------------------------------------------------------------------------


def find(
    collection: Collection[Raw],
    condition: Mapping[str, Any],
    projection: Mapping[str, int] | None = None,
    sort: Order = (),
    limit: int = 0,
    hint: Order = (),
) -> list[Raw]:
    """Return the documents that fulfil `condition`, as `Collection.find` does, read at once."""
    command: Raw = {"find": collection.name, "filter": condition}
    if projection:
        command["projection"] = projection
    if sort:
        command["sort"] = dict(sort)
    if limit:
        command["limit"] = command["batchSize"] = limit
    if hint:
        command["hint"] = dict(hint)

    def usual(primary: Primary) -> list[Raw]:
        cursor = primary.run(collection, command)["cursor"]
        found: list[Raw] = cursor["firstBatch"]
        while cursor["id"]:
            # A reply holds 16 MB; large records take several.
            following = {"getMore": bson.Int64(cursor["id"]), "collection": collection.name}
            cursor = primary.run(collection, following)["cursor"]
            found += cursor["nextBatch"]
        return found

    def ordinary() -> list[Raw]:
        cursor = collection.find(condition, projection, sort=list(sort) or None, limit=limit)
        return list(cursor.hint(list(hint)) if hint else cursor)

    primary = primary_for(collection)
    if primary is None:
        return ordinary()
    start = time.monotonic()
    try:
        return usual(primary)
    except Unusual:
        with primary.rest(start):
            return ordinary()


def find_one(
    collection: Collection[Raw], condition: Mapping[str, Any], projection: Mapping[str, int] | None = None
) -> Raw | None:
    """Return a document that fulfils `condition`, None when there is none."""
    found = find(collection, condition, projection, limit=1)
    return found[0] if found else None


def insert(collection: Collection[Raw], document: Raw) -> None:
    """Store a new document, which brings its `_id`. Raises `pymongo.errors.DuplicateKeyError` when that is taken."""
    command = {"insert": collection.name, "documents": [document]}
    write(collection, command, lambda session: collection.insert_one(document, session=session))


def change(
    collection: Collection[Raw], condition: Mapping[str, Any], update: Mapping[str, Any], upsert: bool = False
) -> Raw | None:
    """Apply `update` to the one document that fulfils `condition` and return it as it then is; None if there is none.

    Raises `pymongo.errors.DuplicateKeyError` where it breaks a unique index.
    """

    def ordinary(session: Any) -> Raw:
        value = collection.find_one_and_update(
            condition, update, upsert=upsert, return_document=ReturnDocument.AFTER, session=session
        )
        return {"value": value}

    command = {"findAndModify": collection.name, "query": condition, "update": update, "new": True, "upsert": upsert}
    found: Raw | None = write(collection, command, ordinary)["value"]
    return found


def write(collection: Collection[Raw], command: Raw, ordinary: Callable[[Any], Any]) -> Any:
    """Do a write once: by `command`, or by what PyMongo does when it is `ordinary`, under the same number."""
    primary = primary_for(collection)
    if primary is None:
        return ordinary(None)
    start = time.monotonic()
    topology = primary.client._topology
    numbers = topology.get_server_session(primary.session_minutes)
    numbers.inc_transaction_id()
    try:
        reply = primary.run(collection, command, numbers)
    except Unusual as unusual:
        if unusual.__cause__ is not None:
            numbers.mark_dirty()
        # PyMongo adds one before it begins.
        numbers._transaction_id -= 1
        with primary.rest(start), primary.client.start_session(causal_consistency=False) as session:
            session._server_session = numbers
            return ordinary(session)
    except BaseException:
        topology.return_server_session(numbers)
        raise
    topology.return_server_session(numbers)
    return reply
