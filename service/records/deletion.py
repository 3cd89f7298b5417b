"""What goes with a record that is deleted: in bounded batches, and again after a crash."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

from mongoengine import CASCADE, DENY, NULLIFY, PULL

from service.core.errors import StillReferenced
from service.documents import Record

BATCH = 1000
"""Most records that one operation of a deletion touches, so that other requests get their turn in between."""

Referrer = tuple[type[Record], str, int]


def referrers(document: type[Record]) -> list[Referrer]:
    """Return who refers to `document` with a delete rule of MongoEngine's: the type, its stored field, the rule."""
    rules = document._meta.get("delete_rules") or {}
    return [(other, other._fields[name].db_field, rule) for (other, name), rule in rules.items()]


Going = frozenset[tuple[type[Record], str]]
"""Records whose deletion led to another's: where records refer to each other, each is looked at once."""


Walk = Iterator["Walk"]
"""A walk over those that refer to some records; it yields the walks that have to be done before it goes on."""


def done(walk: Walk) -> None:
    """Do a walk and all that it leads to. Calls of a function would end at about 900 levels of records."""
    begun = [walk]
    while begun:
        deeper = next(begun[-1], None)
        if deeper is None:
            begun.pop()
        else:
            begun.append(deeper)


def refuse_if_referenced(document: type[Record], ids: list[str]) -> None:
    """Raise `StillReferenced` where a rule keeps a record, or one that would go with it, while another refers to it."""
    done(refusing(document, ids, frozenset()))


def refusing(document: type[Record], ids: list[str], going: Going) -> Walk:
    """Look for what keeps the records of one level."""
    if not ids:
        return
    going |= {(document, id) for id in ids}  # noqa: A001
    for other, name, rule in referrers(document):
        if rule == DENY and other.stored().find_one({name: {"$in": ids}}, {"_id": 1}):
            raise StillReferenced(f"{other._meta['collection']} still refer to this record")
        if rule == CASCADE and referrers(other):
            rows = other.stored().find({name: {"$in": ids}}, {"_id": 1}, batch_size=BATCH)
            while read := [row["_id"] for row in islice(rows, BATCH)]:
                yield refusing(other, [id for id in read if (other, id) not in going], going)  # noqa: A001


def release(document: type[Record], ids: list[str], keep: timedelta) -> None:
    """Clear, or delete in their turn, the references to records that go, as the declared rules say.

    A deleted record leaves a tombstone for `keep`. It can be cut short anywhere and done again.
    """
    done(releasing(document, ids, keep, frozenset()))


def releasing(document: type[Record], ids: list[str], keep: timedelta, going: Going) -> Walk:
    """Release the records of one level; a record goes after all that refer to it."""
    going |= {(document, id) for id in ids}  # noqa: A001
    for other, name, rule in referrers(document):
        for found in batches(other, {name: {"$in": ids}}, going):
            if rule == CASCADE:
                yield releasing(other, found, keep, going)
                for child in found:
                    other.bury({"_id": child, name: {"$in": ids}}, keep)
            elif rule == PULL:
                change_all(other, found, {"$pull": {name: {"$in": ids}}})
            elif rule == NULLIFY:
                change_all(other, found, {"$unset": {name: ""}})
            else:
                break


def batches(document: type[Record], condition: dict[str, Any], going: Going = frozenset()) -> Iterator[list[str]]:
    """Yield the ids of records that fulfil `condition`, which the caller ends, until none is left but those `going`."""
    known = {id for owner, id in going if owner is document}  # noqa: A001
    while True:
        # Left out here and not by the condition: the list would be as long as a tree is deep, on each of its levels.
        rows = document.stored().find(condition, {"_id": 1}, limit=BATCH + len(known))
        ids = [row["_id"] for row in rows if row["_id"] not in known][:BATCH]
        if not ids:
            return
        yield ids


def change_all(document: type[Record], ids: list[str], update: dict[str, dict[str, Any]]) -> None:
    """Apply one update to several records, with the stamps of any write."""
    document.stored().update_many({"_id": {"$in": ids}}, document.written(update))
