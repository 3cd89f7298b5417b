"""The comparison of all records with what the order says of them: what was before it began, or what a gap has hidden.

It goes through the collections by id, in batches that the recorder does one after the other, so it can be cut short
anywhere and goes on.
"""

from collections.abc import Mapping

from pymongo.collection import Collection

from service.changes.compaction import MEMBERSHIP, change_id, end_of_type
from service.changes.news import Dirty
from service.documents import Account, Change
from service.model.registry import Registry
from service.mongo.raw import Raw

BATCH = 500
"""Most records that are compared at once."""

Position = Mapping[str, str]
"""A collection, and the id in it that was compared last."""
START: Position = {"type": "", "after": ""}


def next_batch(registry: Registry, position: Position) -> tuple[list[Dirty], Position | None]:
    """Return what is compared next, and the position behind it; None when all is."""
    names = [*registry, MEMBERSHIP]
    name = position["type"] or names[0]
    if name not in names:
        return [], START  # the type has gone meanwhile
    ids, last = ids_after(collection_of(registry, name), name, position["after"])
    dirty: list[Dirty] = [(name, id) for id in ids]
    if last is not None:
        return dirty, {"type": name, "after": last}
    rest = names[names.index(name) + 1 :]
    return dirty, {"type": rest[0], "after": ""} if rest else None


def collection_of(registry: Registry, name: str) -> Collection[Raw]:
    """Return the collection of a type, or that of the accounts."""
    found: Collection[Raw] = Account._get_collection() if name == MEMBERSHIP else registry[name].collection
    return found


def ids_after(collection: Collection[Raw], name: str, after: str) -> tuple[list[str], str | None]:
    """Return the ids that follow one and the last of them, None for that at the end.

    They are those of the records and of what is recorded: what has gone from one of the two is in the other.
    """
    rows = collection.find({"_id": {"$gt": after}}, {"_id": 1}, sort=[("_id", 1)], limit=BATCH)
    stored = [row["_id"] for row in rows]
    # Changes of records stand in the order of these; withdrawals may not, and nothing is compared by them alone.
    span = {"_id": {"$gt": change_id(name, after), "$lt": end_of_type(name)}, "record": {"$gt": after}}
    known = Change._get_collection().find(span, {"record": 1}, sort=[("_id", 1)], limit=BATCH)
    recorded = [row["record"] for row in known]
    full = [ids[-1] for ids in (stored, recorded) if len(ids) == BATCH]
    last = min(full) if full else None
    return sorted(id for id in {*stored, *recorded} if last is None or id <= last), last


def forgotten_types(registry: Registry) -> list[str]:
    """Return the ids of some changes of types that are served no more; none when all have gone."""
    strange = {"type": {"$nin": [*registry, MEMBERSHIP]}}
    return [row["_id"] for row in Change._get_collection().find(strange, {"_id": 1}, limit=BATCH)]
