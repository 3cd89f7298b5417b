"""MongoDB's change stream of what the order is made of, batch by batch, with the token to go on from.

PyMongo's own gives one event after the other and waits when there is none. Here a batch is a value, also an empty one:
the token that comes with it says up to which moment there was nothing (MongoDB manual, `postBatchResumeToken`).
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from bson import Timestamp
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.synchronous.client_session import ClientSession

from service.documents import Account
from service.documents.record import WORDS
from service.documents.versioned import STAMPS
from service.model.registry import Registry
from service.mongo.raw import Raw

AWAITED_MS = 1000
"""Milliseconds that one look waits for an event: so late a thread notices that it has to end."""
BATCH = 500
"""Most events of a batch."""
UNSEEN = frozenset({"reference_writes", "going_at", WORDS}) | STAMPS
"""Stored fields whose change no client sees."""
TOLD = ("operationType", "ns.coll", "to.coll", "documentKey", "clusterTime")
"""What is wanted of every event; of one that brings a whole document its access list too."""
HISTORY_LOST = frozenset({136, 260, 280, 286})
"""Codes with which MongoDB says that what follows a token is not to be had any more."""

CHANGED_FIELDS: Raw = {
    "$concatArrays": [
        {
            "$map": {
                "input": {"$objectToArray": {"$ifNull": ["$updateDescription.updatedFields", {}]}},
                "in": "$$this.k",
            }
        },
        {"$ifNull": ["$updateDescription.removedFields", []]},
        {"$map": {"input": {"$ifNull": ["$updateDescription.truncatedArrays", []]}, "in": "$$this.field"}},
    ]
}
"""The expression of the names of the fields that an update has changed."""

Token = Mapping[str, Any]


class HistoryLost(Exception):
    """What happened between a token and now cannot be had: the oplog has rolled over it."""


@dataclass(frozen=True, slots=True)
class Events:
    """Events in their order, the token behind them, and the time up to which there are no others."""

    events: Sequence[Raw]
    token: Token
    until: Timestamp

    @property
    def is_cut(self) -> bool:
        """Whether more of the time of the last one may follow: those of one transaction have one time."""
        return bool(self.events) and self.until < self.events[-1]["clusterTime"]


def watched(registry: Registry) -> list[str]:
    """Return the collections whose changes are recorded."""
    return [*registry, Account._get_collection_name()]


def stages(registry: Registry) -> list[Raw]:
    """Return the stages of a change stream that gives the events that the order is made of, and little of each."""
    names = watched(registry)
    is_unseen = {"$setIsSubset": [CHANGED_FIELDS, [*UNSEEN]]}
    is_seen = {"$or": [{"$ne": ["$operationType", "update"]}, {"$not": [is_unseen]}]}
    return [
        {
            "$match": {
                "$or": [
                    {"ns.coll": {"$in": names}, "$expr": is_seen},
                    {"to.coll": {"$in": names}},
                    {"operationType": {"$in": ["dropDatabase", "invalidate"]}},
                ]
            }
        },
        {"$project": {**dict.fromkeys(TOLD, 1), "fullDocument.access": 1}},
    ]


class Tail:
    """A change stream of one database that is open."""

    def __init__(
        self,
        client: MongoClient[Raw],
        database: str,
        stages: Iterable[Raw],
        token: Token | None = None,
        at: Timestamp | None = None,
    ) -> None:
        """Open it after a token, or at a time, or now. Raises `HistoryLost` or `PyMongoError`."""
        self.database = client[database]
        self.session: ClientSession = client.start_session(causal_consistency=False)
        begin = {"startAfter": token} if token else {"startAtOperationTime": at} if at else {}
        pipeline = [{"$changeStream": begin}, *stages]
        try:
            cursor = self.run({"aggregate": 1, "pipeline": pipeline, "cursor": {"batchSize": 0}})
        except BaseException:
            self.session.end_session()
            raise
        self.cursor, self.token = cursor["id"], cursor["postBatchResumeToken"]

    def run(self, command: dict[str, Any]) -> Any:
        """Run a command of the cursor and return what it says of it.

        In a context of its own: the deadline of a request would be the time that MongoDB waits for an event.
        """
        try:
            return Context().run(self.database.command, command, session=self.session)["cursor"]
        except OperationFailure as error:
            if error.code in HISTORY_LOST:
                raise HistoryLost(str(error)) from error
            raise

    def next(self, patience: int) -> Events:
        """Return what has happened since, or nothing after `patience` milliseconds.

        Raises `HistoryLost` or `PyMongoError`; then it is of no more use.
        """
        more = {"getMore": self.cursor, "collection": "$cmd.aggregate", "batchSize": BATCH, "maxTimeMS": patience}
        cursor = self.run(more)
        events, self.token = cursor["nextBatch"], cursor["postBatchResumeToken"]
        until = time_of(self.token)
        if len(events) >= BATCH:
            until = before(events[-1]["clusterTime"])
        return Events(events, self.token, until)

    def close(self) -> None:
        """Close it; one that MongoDB does not answer for ends there by itself."""
        kill = {"killCursors": "$cmd.aggregate", "cursors": [self.cursor]}
        with suppress(PyMongoError):
            Context().run(self.database.command, kill, session=self.session)
        self.session.end_session()


def time_of(token: Token) -> Timestamp:
    """Return the cluster time of a resume token.

    A token is a KeyString in hexadecimal: the mark of a timestamp, then its seconds and its ordinal (MongoDB's source,
    `resume_token.h`). Raises `ValueError` for one that is none.
    """
    text = token["_data"]
    if not text.startswith("82"):
        raise ValueError("not a resume token that begins with a time")
    return Timestamp(int(text[2:10], 16), int(text[10:18], 16))


def before(time: Timestamp) -> Timestamp:
    """Return the cluster time just before another."""
    return Timestamp(time.time, time.inc - 1) if time.inc else Timestamp(time.time - 1, 2**32 - 1)
