"""What goes with a record that is deleted: in bounded batches, and again after a crash.

The burial comes first: one conditional write, after which nobody can refer to the record any more. It leaves a mark,
`going_at`, and what refers to the record is released then. A write that found the record before its burial may still
be under way, so a worker releases once more when it has ended for certain, and takes the mark away.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from mongoengine import CASCADE, DENY, NULLIFY, PULL
from pymongo.errors import PyMongoError

from service.core.clock import now
from service.core.errors import StillReferenced
from service.core.log import log
from service.documents.account import Account
from service.documents.invitation import Invitation
from service.model.places import Place
from service.model.record_type import RecordType
from service.model.registry import Referrer, Registry
from service.mongo import transactions
from service.policy import entries_of, given_to, group_principal, withdrawal
from service.records import founding, store

BATCH = 1000
"""Most records that one operation of a deletion touches, so that other requests get their turn in between."""
MOST_AT_ONCE = 1000
"""Most records that the deletions of one transaction touch: it locks them, and others wait for it."""

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


# --- What stands in the way ------------------------------------------------------------------------------------------


def survey(registry: Registry, type: RecordType, ids: list[str]) -> None:
    """Look at all that refers to records before they are deleted in one transaction, with what goes with them.

    Raises `StillReferenced` where a rule keeps one of them, and where they are more than a transaction may touch.
    """
    done(surveying(registry, type, ids, frozenset()))


def surveying(registry: Registry, type: RecordType, ids: list[str], going: Going) -> Traversal:
    """Look at what refers to the records of one level."""
    going |= {(type.name, id) for id in ids}
    for id in ids if type.is_group else ():
        if not transactions.has_room(count_of_group(registry, id), MOST_AT_ONCE):
            raise StillReferenced(
                f"over {MOST_AT_ONCE} members, invitations and records have to do with the group, more than are "
                "changed at once; delete it by a request of its own, outside of an atomic batch"
            )
    for other, reference in registry.bound(type):
        pointing = {reference.stored: {"$in": ids}}
        if reference.delete_rule == DENY:
            if other.collection.find_one(pointing, {"_id": 1}):
                raise StillReferenced(f"{other.name} still refer to this record")
            continue
        if not transactions.has_room(other.collection.count_documents(pointing, limit=MOST_AT_ONCE + 1), MOST_AT_ONCE):
            raise StillReferenced(
                f"over {MOST_AT_ONCE} records refer to what goes, more than are changed at once; delete or change some "
                "of them first, or delete this record by a request of its own if it stands in an atomic batch"
            )
        if reference.delete_rule == CASCADE and registry.bound(other):
            rows = other.collection.find(pointing, {"_id": 1}, batch_size=BATCH)
            while read := [row["_id"] for row in islice(rows, BATCH)]:
                yield surveying(registry, other, [id for id in read if (other.name, id) not in going], going)


def count_of_group(registry: Registry, group: str) -> int:
    """Return how many members, invitations and given records a group has, counted as far as it matters."""
    bounded, given = MOST_AT_ONCE + 1, {"access": given_to(group_principal(group))}
    members: int = Account._get_collection().count_documents({"groups.group": group}, limit=bounded)
    invitations: int = Invitation._get_collection().count_documents({"group": group}, limit=bounded)
    return (
        members + invitations + sum(type.collection.count_documents(given, limit=bounded) for type in registry.values())
    )


# --- What follows ----------------------------------------------------------------------------------------------------


def release_or_leave(registry: Registry, type: RecordType, ids: list[str], keep: timedelta) -> None:
    """Release what refers to records that are buried; what MongoDB does not do in time is left to a worker."""
    try:
        release(registry, type, ids, keep)
    except PyMongoError as error:
        log.warning("release_left", type=type.name, reason=error.__class__.__name__)


def release(registry: Registry, type: RecordType, ids: list[str], keep: timedelta) -> None:
    """Clear, or delete in their turn, the references to records that are buried, as the declared rules say.

    A deleted record leaves a tombstone for `keep`. It can be cut short anywhere and done again.
    """
    for id in ids if type.is_group else ():
        dissolve(registry, id)
    done(releasing_records(registry, type, ids, keep))


def dissolve(registry: Registry, group: str) -> None:
    """End all memberships of a group that is buried, and its invitations, and take what it was given: in batches."""
    member = {"groups.group": group}
    while ids := [row["_id"] for row in Account._get_collection().find(member, {"_id": 1}, limit=BATCH)]:
        founding.leave(ids, group)
    Invitation._get_collection().delete_many({"group": group})
    withdraw_all(registry, group_principal(group))


def withdraw_all(registry: Registry, principal: str) -> None:
    """Take from a principal all that it was given, in batches."""
    given = {"access": {"$in": entries_of(principal)}}
    for type in registry.values():
        for ids in id_batches(type, given):
            store.change_many(type, ids, {**given, **OF_LISTS}, withdrawal(principal))
            # Where other software has stored no list, MongoDB would refuse to take something out of it.
            store.change_many(type, ids, given, {"$pull": {"access": given["access"]}})


OF_LISTS = {"$nor": [{name: {"$exists": True, "$not": {"$type": "array"}}} for name in ("readers", "writers")]}
"""The filter of records whose readers and writers are lists, or not stored."""


def release_account(registry: Registry, account: str, keep: timedelta) -> None:
    """Do the same for the references to an account that goes."""
    done(releasing(registry, registry.account_referrers, [account], keep, lambda _ids: frozenset()))


def releasing_records(registry: Registry, type: RecordType, ids: list[str], keep: timedelta) -> Traversal:
    """Release what points to records of a type."""
    return releasing(registry, registry.referrers(type), ids, keep, partial(store.already_settled, type))


def releasing(
    registry: Registry,
    referrers: Iterable[Referrer],
    ids: list[str],
    keep: timedelta,
    settled: Callable[[list[str]], Collection[str]],
) -> Traversal:
    """Release what `referrers` point to on one level; what goes with it is buried first, and then released.

    `settled` returns those of the `ids` that another has come to the end of, while this process stood still, say: they
    may be there again, and what refers to them by now is not to be released.
    """
    for other, reference in referrers:
        name, rule = reference.stored, reference.delete_rule
        if rule not in (CASCADE, PULL, NULLIFY):
            continue
        while ids and (found := id_batch(other, {name: {"$in": ids}})):
            over = settled(ids)
            ids = [id for id in ids if id not in over]
            pointing = {name: {"$in": ids}}
            if rule == CASCADE:
                # What somebody else buries at the same moment has a mark of its own.
                gone = [id for id in found if bury_for_release(registry, other, {"_id": id, **pointing}, keep)]
                yield releasing_records(registry, other, gone, keep)
                continue
            if rule == PULL and reference.place.root.stored == name:
                store.change_many(other, found, {name: {"$in": ids, "$type": "array"}}, {"$pull": pointing})
            elif rule == NULLIFY and not reference.place.is_in_list:
                store.change_many(other, found, pointing, {"$unset": {name: ""}})
            # What stands in lists, or where other software has stored a list, or none.
            take_out(other, reference.place, found, ids)


def take_out(type: RecordType, place: Place, found: list[str], ids: list[str]) -> None:
    """Take the `ids` out of what stands at a place in any form; a record that changes meanwhile stays for later."""
    gone, root = frozenset(ids), place.root.stored
    for row in type.collection.find({"_id": {"$in": found}, place.stored: {"$in": ids}}, {root: 1, "revision": 1}):
        left = place.without(row, gone)
        update = {"$set": {root: left[root]}} if root in left else {"$unset": {root: ""}}
        store.change(type, {"_id": row["_id"], "revision": row["revision"]}, update)


def bury_for_release(registry: Registry, type: RecordType, condition: Mapping[str, Any], keep: timedelta) -> bool:
    """Leave a tombstone of the one record that fulfils `condition`, marked where others may refer to it.

    False, and nothing is changed, when there is none.
    """
    return store.bury(type, condition, keep, going=registry.is_released(type))


def id_batches(type: RecordType, condition: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the ids of records that fulfil `condition`, which the caller ends, until none is left."""
    while ids := id_batch(type, condition):
        yield ids


def id_batch(type: RecordType, condition: Mapping[str, Any]) -> list[str]:
    """Return the ids of records that fulfil `condition`, of so many as one operation touches."""
    return [row["_id"] for row in type.collection.find(condition, {"_id": 1}, limit=BATCH)]


def release_again(registry: Registry, after: timedelta, going_on: Callable[[], bool] = lambda: True) -> int:
    """Release once more what refers to records that were buried `after` ago or before, while `going_on`.

    Returns how many these were.
    """
    released = 0
    for type in registry.values():
        due = {"going_at": {"$lte": now() - after}}
        while going_on() and (rows := list(type.collection.find(due, {"purge_at": 1}, limit=BATCH))):
            ids = [row["_id"] for row in rows]
            # What goes with them leaves a tombstone for as long as they do.
            release(registry, type, ids, max(row["purge_at"] for row in rows) - now())
            store.settle(type, ids)
            released += len(ids)
    return released
