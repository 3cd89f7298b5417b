"""The short way: one command to the primary over a connection of PyMongo's pool, without PyMongo's layers in between.

Of the 200 µs that PyMongo takes for a `find_one`, 60 are what has to be done: encode, send, receive, decode (measured
with PyMongo 4.20). The rest selects a server, prepares retries and tells listeners. So here is one try of a plain
operation, and PyMongo is the fallback for all else, any failure included: it knows of elections, retries, deadlines
and errors. It does a write again under the transaction number of the same server session, by which MongoDB knows it and
does it once (MongoDB manual, retryable writes).
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from math import ceil
from typing import Any, NamedTuple, TypeVar

import bson
import pymongo
from pymongo import _csot
from pymongo.client_options import ClientOptions
from pymongo.collection import Collection
from pymongo.errors import ExecutionTimeout, PyMongoError
from pymongo.monitoring import ConnectionClosedReason
from pymongo.read_preferences import ReadPreference
from pymongo.synchronous.client_session import _SESSION, ClientSession
from pymongo.synchronous.command_cursor import CommandCursor
from pymongo.topology_description import TOPOLOGY_TYPE, TopologyDescription

from service.core.log import log
from service.core.metrics import database_of
from service.mongo import wire
from service.mongo.driver import Selection
from service.mongo.plain import PyMongoDriver
from service.mongo.portion import PORTION_BYTES, Portion, portion_of
from service.mongo.raw import Raw

Result = TypeVar("Result")
PRIMARY = ReadPreference.PRIMARY.mode
LEAST_SECONDS = 0.001
STEP = 0.01
"""Seconds by which the timeouts of sockets differ."""
TIME_IS_UP = 50
"""MongoDB's code for a command that it has ended because its time was up."""
GRACE_MS = 20
"""Milliseconds in which MongoDB's word that the time is up may arrive."""
UNCHANGED = nullcontext()


class Fallback(Exception):
    """There was no plain success: PyMongo has to do it."""


class NoReply(Fallback):
    """No connection was to be had, it broke, or the reply did not come."""


def obstacle(options: ClientOptions) -> str:
    """Return the option of a connection for which only PyMongo will do, as a URI has it; empty where there is none."""
    pool = options.pool_options
    found = {
        "timeoutMS=0": not options.timeout,
        "retryReads=false": not options.retry_reads,
        "retryWrites=false": not options.retry_writes,
        "loadBalanced": options.load_balanced,
        "compressors": pool._compression_settings is not None and pool._compression_settings.compressors,
        "serverApi": pool.server_api is not None,
        "autoEncryption": options.auto_encryption_opts is not None,
    }
    return next((name for name, is_so in found.items() if is_so), "")


class ShortDriver(PyMongoDriver):
    """The short way of a connection whose operations may take `timeout` seconds."""

    name = "short"

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        self.known: tuple[Any, Any] = (None, None)
        """What PyMongo knew of the servers when they were last looked at, and its server of the primary then."""
        self.told = False

    def find(self, selected: Selection) -> list[Raw]:
        """Return the documents that are selected."""
        return self.answered(selected, all_rows, super().find)

    def portion(self, selected: Selection) -> Portion:
        """Return the first documents that are selected, as many as make a portion: one reply has it."""
        return self.answered(selected, portion_in, super().portion, 1)

    def find_at(self, selected: Selection) -> tuple[Raw | None, bson.Timestamp]:
        """Return the first document that is selected, and MongoDB's clock when it was read."""
        return self.answered(selected, one_and_clock, super().find_at)

    def answered(
        self,
        selected: Selection,
        take: Callable[["Reply"], Result],
        fallback: Callable[[Selection], Result],
        more: int = 0,
    ) -> Result:
        """Return what `take` makes of the reply to a find, or what `fallback` gives, by which PyMongo does it.

        So many documents `more` are asked for.
        """
        collection = selected.collection
        server = self.primary(collection.database.client._topology) if is_plain(collection) else None
        if server is None:
            return fallback(selected)
        deadline = self.deadline()
        try:
            body, size = self.run(server, collection, find_command(selected, more), deadline)
        except Fallback:
            with left_until(deadline):
                return fallback(selected)
        return take(Reply(selected, body, size, server, deadline))

    def insert(self, collection: Collection[Raw], document: Raw, session: ClientSession | None = None) -> None:
        """Store a new document."""
        command = {"insert": collection.name, "documents": [document]}
        self.write(collection, command, partial(super().insert, collection, document))

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
        command = {"findAndModify": collection.name, "query": condition, "update": update, "new": True}
        if upsert:
            command["upsert"] = True
        if projection:
            command["fields"] = projection
        fallback = partial(super().change, collection, condition, update, upsert, projection)
        reply = self.write(collection, command, lambda session: {"value": fallback(session)})
        found: Raw | None = reply["value"]
        return found

    def update(
        self,
        collection: Collection[Raw],
        condition: Mapping[str, Any],
        update: Mapping[str, Any],
        session: ClientSession | None = None,
    ) -> bool:
        """Change the one document that fulfils a condition and tell whether there was one."""
        fallback = partial(super().update, collection, condition, update)
        command = {"update": collection.name, "updates": [{"q": condition, "u": update}]}
        reply = self.write(collection, command, lambda session: {"n": fallback(session)})
        return bool(reply["n"])

    def write(self, collection: Collection[Raw], command: Raw, fallback: Callable[[ClientSession | None], Any]) -> Any:
        """Do a write once and return its reply, or what `fallback` gives, by which PyMongo does it."""
        client = collection.database.client
        topology = client._topology
        server = self.primary(topology) if is_plain(collection) and collection.write_concern.acknowledged else None
        if server is None or not server.description.retryable_writes_supported:
            return fallback(None)
        deadline = self.deadline()
        server_session = topology.get_server_session(topology.description.logical_session_timeout_minutes)
        server_session.last_use = time.monotonic()
        command["lsid"] = server_session.session_id
        command["txnNumber"] = bson.Int64(server_session.transaction_id + 1)
        if not collection.write_concern.is_server_default:
            command["writeConcern"] = collection.write_concern.document
        try:
            reply, _ = self.run(server, collection, command, deadline)
        except Fallback as error:
            if isinstance(error, NoReply):
                server_session.mark_dirty()
            with left_until(deadline), client.start_session(causal_consistency=False) as session:
                # PyMongo counts up before it sends, and so comes to the same number.
                session._server_session = server_session
                return fallback(session)
        # Only now: a session whose write was cut short by anything else is not used again, for its number may be.
        server_session.inc_transaction_id()
        topology.return_server_session(server_session)
        return reply

    def primary(self, topology: Any) -> Any:
        """Return PyMongo's server of the primary as it knows it now; None when it knows of none."""
        # PyMongo makes a new description whenever it learns something, so the same one has the same primary.
        description, server = self.known
        if description is not topology.description:
            description = topology.description
            server = self.primary_in(description, topology)
            self.known = description, server
        return server

    def primary_in(self, description: TopologyDescription, topology: Any) -> Any:
        """Return the server that takes writes, of a replica set or of a direct connection; None where there is none."""
        if description.topology_type in (TOPOLOGY_TYPE.Sharded, TOPOLOGY_TYPE.LoadBalanced):
            if not self.told:
                log.info("driver", driver=PyMongoDriver.name, reason=f"topology {description.topology_type_name}")
            self.told = True
            return None
        servers = description.server_descriptions().items()
        address = next((address for address, server in servers if server.is_writable), None)
        return topology.get_server_by_address(address) if address else None

    def deadline(self) -> float:
        """Return until when an operation that begins now may take, by the monotonic clock."""
        return min(time.monotonic() + self.timeout, _csot.get_deadline())

    def bounded(self) -> AbstractContextManager[Any]:
        """Return the context in which what PyMongo does has the deadline around it, or one if there is none."""
        return UNCHANGED if _csot.get_timeout() is not None else pymongo.timeout(self.timeout)

    def run(self, server: Any, collection: Collection[Raw], command: Raw, deadline: float) -> tuple[Any, int]:
        """Send a command to a server and return its reply, with its bytes; raises `Fallback` for all but success.

        It may have had its effect all the same: what got lost may be the reply. Raises `ExecutionTimeout` where MongoDB
        itself has ended it, for it took too long.
        """
        left = int((deadline - time.monotonic()) * 1000)
        if left <= 0:
            raise ExecutionTimeout("no time is left, so it was not sent", TIME_IS_UP)
        # A little less than we wait for, so that the reply says what has become of it.
        command["maxTimeMS"] = max(1, left - GRACE_MS)
        name = next(iter(command))
        command["$db"] = collection.database.name
        body = bson.encode(command, codec_options=collection.codec_options)
        start = time.perf_counter()
        received = self.exchanged(server, body, deadline)
        reply = bson.decode(received, collection.codec_options)
        if reply.get("code") == TIME_IS_UP:
            database_of(name).observe(time.perf_counter() - start)
            raise ExecutionTimeout(reply["errmsg"], TIME_IS_UP, reply)
        if reply["ok"] != 1 or "writeErrors" in reply or "writeConcernError" in reply:
            raise Fallback
        database_of(name).observe(time.perf_counter() - start)
        return reply, len(received)

    def exchanged(self, server: Any, body: bytes, deadline: float) -> memoryview:
        """Send the BSON of a command and return that of its reply; raises `NoReply`."""
        try:
            # The deadline is for a connection that has to be waited for, or to be opened.
            with self.bounded(), server.pool.checkout() as connection:
                try:
                    # In steps, so that it is set anew, by a call of the kernel, only where there was a wait.
                    connection.set_conn_timeout(max(ceil((deadline - time.monotonic()) / STEP), 1) * STEP)
                    return wire.exchange(connection.conn.sock, body, deadline)
                except BaseException:
                    # What is left of this exchange must not be taken for the reply to the next one.
                    connection.close_conn(ConnectionClosedReason.ERROR)
                    raise
        except (OSError, PyMongoError) as error:
            raise NoReply from error


def is_plain(collection: Collection[Raw]) -> bool:
    """Tell whether an operation is one for the short way.

    PyMongo does what belongs to a session, what need not be read from the primary, and types that are made by a codec.
    """
    return (
        _SESSION.get() is None
        and collection.read_preference.mode == PRIMARY
        and not collection.codec_options.type_registry.codecs
    )


class Reply(NamedTuple):
    """What a server has replied to a find, how many bytes that were, and until when the operation may take."""

    selected: Selection
    body: Any
    size: int
    server: Any
    deadline: float

    def cursor(self) -> CommandCursor[Raw]:
        """Return PyMongo's cursor over these documents and the rest, of those that MongoDB keeps."""
        return CommandCursor(self.selected.collection, self.body["cursor"], self.server.description.address)


def all_rows(reply: Reply) -> list[Raw]:
    """Return all documents; a reply holds 16 MB, and PyMongo gets what is beyond."""
    cursor = reply.body["cursor"]
    if not cursor["id"]:
        rows: list[Raw] = cursor["firstBatch"]
        return rows
    with left_until(reply.deadline):
        return list(reply.cursor())


def portion_in(reply: Reply) -> Portion:
    """Return the first documents, as many as make a portion."""
    cursor, limit = reply.body["cursor"], reply.selected.limit
    rows: list[Raw] = cursor["firstBatch"]
    if cursor["id"]:
        # More than a reply holds, or what MongoDB has sorted in memory: it need not keep the rest.
        with left_until(reply.deadline):
            reply.cursor().close()
    if reply.size <= PORTION_BYTES:
        return Portion(rows[:limit], len(rows) > limit, reply.size)
    found = portion_of(rows, limit)
    return found._replace(more=True) if cursor["id"] else found


def one_and_clock(reply: Reply) -> tuple[Raw | None, bson.Timestamp]:
    """Return the first document, if there is one, and MongoDB's clock when it was read."""
    return next(iter(reply.body["cursor"]["firstBatch"]), None), reply.body["operationTime"]


def find_command(selected: Selection, more: int) -> Raw:
    """Return the command of a find (MongoDB manual, `find`), of so many documents `more`."""
    collection, condition, projection, sort, limit, hint, collation = selected
    command: Raw = {"find": collection.name, "filter": condition}
    if projection:
        command["projection"] = projection
    if sort:
        command["sort"] = dict(sort)
    if limit:
        command["limit"] = command["batchSize"] = limit + more
    if hint:
        command["hint"] = hint
    if collation:
        command["collation"] = collation
    if collection.read_concern.level:
        command["readConcern"] = collection.read_concern.document
    return command


def left_until(deadline: float) -> Any:
    """Return the context in which PyMongo has what is left of the time of an operation."""
    return pymongo.timeout(max(LEAST_SECONDS, deadline - time.monotonic()))
