"""Slow lists: noted by each process as they are answered, and stored now and then, so that no request waits for it."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pymongo
from mongoengine.connection import get_connection
from pymongo.errors import PyMongoError

from service.core.clock import now
from service.core.log import log
from service.documents import SlowList
from service.mongo.raw import Filter
from service.query.parse import Query

SLOW_AFTER = 0.1
"""Seconds after which the query of a list is slow: MongoDB's own number for its log."""
MOST_KINDS = 200
"""Most kinds that a process remembers until they are stored; a client may think up any number."""
MOST_STORED = 1000
"""Most kinds that are stored, of all processes: a new one beyond them is not, until others have gone by their time."""
MOST_EXPLAINED = 10
"""Most kinds of those of a minute, the longest, of which MongoDB is asked how it finds them: each costs a list."""
EXPLAINED_WITHIN = 2000
"""Milliseconds that MongoDB may take to tell how it found something."""


@dataclass(slots=True)
class SlowSeen:
    """A kind of list as a process has seen it: one of its queries stands for all, and is stored nowhere."""

    asked: Query
    condition: Filter
    times: int = 0
    seconds: float = 0.0


class SlowLists:
    """The kinds that were slow in this process since they were stored last."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], SlowSeen] = {}
        self.lock = threading.Lock()

    def note(self, asked: Query, condition: Filter, seconds: float) -> None:
        """Note how long a list took that was slow."""
        key = asked.type.name, list_kind(asked)
        with self.lock:
            if key not in self.seen and len(self.seen) >= MOST_KINDS:
                return
            found = self.seen.setdefault(key, SlowSeen(asked, condition))
            found.times += 1
            found.seconds = max(found.seconds, seconds)

    def store(self) -> int:
        """Store what was noted, the longest with how MongoDB finds it, and forget it; return how many had room."""
        with self.lock:
            seen, self.seen = self.seen, {}
        longest = sorted(seen.items(), key=lambda item: item[1].seconds, reverse=True)
        stored = [(id, found) for (name, kind), found in longest if (id := store_kind(name, kind, found))]
        for id, found in stored[:MOST_EXPLAINED]:
            if walked := keys_walked(found):
                SlowList._get_collection().update_one({"_id": id}, {"$set": walked})
        return len(stored)


SLOW_LISTS = SlowLists()
"""Those of this process."""


def store_kind(name: str, kind: str, found: SlowSeen) -> str | None:
    """Store a kind of list of the type `name`, and return its id; None where it is new, and there is no room."""
    id = sha256(f"{name} {kind}".encode()).hexdigest()[:32]
    update = {
        "$set": {"type": name, "kind": kind, "index": index_of(found.asked), "last": now()},
        "$inc": {"times": found.times},
        "$max": {"seconds": found.seconds},
    }
    if SlowList._get_collection().update_one({"_id": id}, update).matched_count:
        return id
    if SlowList._get_collection().estimated_document_count() >= MOST_STORED:
        return None
    SlowList._get_collection().update_one({"_id": id}, update, upsert=True)
    return id


def list_kind(asked: Query) -> str:
    """Return what was asked for, without the values."""
    parts = [f"scope={','.join(asked.scopes)}"] if asked.scopes else []
    if compared := sorted(set(operators_in(asked.where, ""))):
        parts.append(f"where={', '.join(compared)}")
    if asked.near is not None:
        return " ".join([*parts, "near"])
    if asked.search is not None:
        return " ".join([*parts, "search"])
    return " ".join([*parts, f"sort={','.join(f'{name}:{way}' for name, way in asked.sort.keys)}"])


def operators_in(condition: Any, name: str) -> Iterator[str]:
    """Yield the fields of a filter with the operators that each is compared by."""
    if isinstance(condition, Mapping):
        for key, value in condition.items():
            if key in ("$and", "$or", "$nor", "$not", "$elemMatch"):
                yield from operators_in(value, name)
            elif key.startswith("$"):
                yield f"{name} {key}".strip()
            elif isinstance(value, Mapping) and any(part.startswith("$") for part in value):
                yield from operators_in(value, key)
            else:
                yield f"{key} $eq"
    elif isinstance(condition, Sequence) and not isinstance(condition, str | bytes):
        for part in condition:
            yield from operators_in(part, name)


def index_of(asked: Query) -> str:
    """Return the index that serves a list; empty for what is near, and a search, which have their own."""
    return asked.sort.index_name if asked.near is None and asked.search is None else ""


def keys_walked(found: SlowSeen) -> dict[str, int]:
    """Return how many keys MongoDB walks to find the first page of a list; nothing where it does not tell in time.

    Mongomock never does.
    """
    asked = found.asked
    if not (index := index_of(asked)) or not isinstance(get_connection(), pymongo.MongoClient):
        return {}
    query = {
        "find": asked.type.collection.name,
        "filter": found.condition,
        "sort": dict(asked.sort.keys),
        "limit": asked.limit,
        "hint": index,
        "maxTimeMS": EXPLAINED_WITHIN,
        **({"collation": asked.sort.bson} if asked.sort.bson else {}),
    }
    explain = {"explain": query, "verbosity": "executionStats", "maxTimeMS": EXPLAINED_WITHIN}
    try:
        told = asked.type.collection.database.command(explain)["executionStats"]
    except PyMongoError as error:
        log.warning("not_explained", type=asked.type.name, reason=type(error).__name__)
        return {}
    return {"keys": told["totalKeysExamined"], "found": told["nReturned"]}
