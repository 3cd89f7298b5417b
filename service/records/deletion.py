"""What goes with a record that is deleted: in bounded batches, and again after a crash."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from itertools import islice
from typing import Any

from mongoengine import CASCADE, DENY, NULLIFY, PULL

from service.core.errors import StillReferenced
from service.model.places import Place
from service.model.record_type import RecordType
from service.model.registry import Referrer, Registry
from service.records import store

BATCH = 1000
"""Most records that one operation of a deletion touches, so that other requests get their turn in between."""

Going = frozenset[tuple[str, str]]
"""Records whose deletion led to another's, by type and id: where they refer to each other, each is looked at once."""


Traversal = Iterator["Traversal"]
"""A traversal of those that refer to some records; it yields the traversals that have to be done before it goes on."""


def done(traversal: Traversal) -> None:
    """Do a traversal and all that it leads to. Calls of a function would end at about 900 levels of records."""
    begun = [traversal]
    while begun:
        deeper = next(begun[-1], None)
        if deeper is None:
            begun.pop()
        else:
            begun.append(deeper)


def refuse_if_referenced(registry: Registry, type: RecordType, ids: list[str]) -> None:
    """Raise `StillReferenced` where a rule keeps a record, or one that would go with it, while another refers to it."""
    done(refusing(registry, type, ids, frozenset()))


def refusing(registry: Registry, type: RecordType, ids: list[str], going: Going) -> Traversal:
    """Look for what keeps the records of one level."""
    if not ids:
        return
    going |= {(type.name, id) for id in ids}
    for other, reference in registry.referrers(type):
        pointing, rule = {reference.stored: {"$in": ids}}, reference.delete_rule
        if rule == DENY and other.collection.find_one(pointing, {"_id": 1}):
            raise StillReferenced(f"{other.name} still refer to this record")
        if rule == CASCADE and registry.referrers(other):
            rows = other.collection.find(pointing, {"_id": 1}, batch_size=BATCH)
            while read := [row["_id"] for row in islice(rows, BATCH)]:
                yield refusing(registry, other, [id for id in read if (other.name, id) not in going], going)


def release(registry: Registry, type: RecordType, ids: list[str], keep: timedelta) -> None:
    """Clear, or delete in their turn, the references to records that go, as the declared rules say.

    A deleted record leaves a tombstone for `keep`. It can be cut short anywhere and done again.
    """
    going = frozenset((type.name, id) for id in ids)
    done(releasing(registry, registry.referrers(type), ids, keep, going))


def release_account(registry: Registry, account: str, keep: timedelta) -> None:
    """Do the same for the references to an account that goes."""
    done(releasing(registry, registry.account_referrers, [account], keep, frozenset()))


def releasing(
    registry: Registry, referrers: Iterable[Referrer], ids: list[str], keep: timedelta, going: Going
) -> Traversal:
    """Release what goes on one level, to which `referrers` point; a record goes after all that refer to it."""
    for other, reference in referrers:
        name, rule = reference.stored, reference.delete_rule
        if rule not in (CASCADE, PULL, NULLIFY):
            continue
        for found in id_batches(other, {name: {"$in": ids}}, going):
            if rule == CASCADE:
                deeper = going | {(other.name, id) for id in found}
                yield releasing(registry, registry.referrers(other), found, keep, deeper)
                for child in found:
                    store.bury(other, {"_id": child, name: {"$in": ids}}, keep)
            elif reference.place.is_in_list:
                take_out(other, reference.place, found, ids)
            elif rule == PULL:
                store.change_many(other, found, {"$pull": {name: {"$in": ids}}})
            else:
                store.change_many(other, found, {"$unset": {name: ""}})


def take_out(type: RecordType, place: Place, found: list[str], ids: list[str]) -> None:
    """Take the `ids` out of what stands at a place inside of lists; a record that changes meanwhile stays for later."""
    gone, root = frozenset(ids), place.root.stored
    for row in type.collection.find({"_id": {"$in": found}}, {root: 1, "revision": 1}):
        left = place.without(row, gone)[root]
        store.change(type, {"_id": row["_id"], "revision": row["revision"]}, {"$set": {root: left}})


def id_batches(type: RecordType, condition: Mapping[str, Any], going: Going = frozenset()) -> Iterator[list[str]]:
    """Yield the ids of records that fulfil `condition`, which the caller ends, until none is left but those `going`."""
    known = {id for name, id in going if name == type.name}
    while True:
        # Left out here and not by the condition: the list would be as long as a tree is deep, on each of its levels.
        rows = type.collection.find(condition, {"_id": 1}, limit=BATCH + len(known))
        ids = [row["_id"] for row in rows if row["_id"] not in known][:BATCH]
        if not ids:
            return
        yield ids
