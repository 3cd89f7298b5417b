"""What goes with a record or an account that is deleted: in bounded batches, and again after a crash."""

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

from mongoengine import CASCADE, DENY, NULLIFY, PULL
from pymongo.errors import PyMongoError

from service.core.errors import StillReferenced
from service.core.log import log
from service.documents import RECORDS, Account, Event, KeptAnswer, Record, Session
from service.documents.record import Raw, now

BATCH = 1000
"""Most records that one operation of a deletion touches, so that other requests get their turn in between."""

LAST_WRITES = timedelta(seconds=15)
"""How long after its deletion an account is swept once more, or longer where operations may take longer."""


def last_writes(timeout: float) -> timedelta:
    """Return when every request that an account had begun has ended, where an operation may take `timeout` seconds."""
    return max(LAST_WRITES, timedelta(seconds=3 * timeout))


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


def delete_account(account: str) -> None:
    """Delete an account with all that it owns and every grant that it was given.

    From the first step on nobody can act for it. What is cut short after that is ended by `sweep`, and so is what a
    request of the account stored while it was deleted.
    """
    mark = {"$set": {"deleted_at": now()}, "$unset": dict.fromkeys(PERSONAL_FIELDS, "")}
    Account._get_collection().update_one({"_id": account}, mark)
    purge(account)


PERSONAL_FIELDS = ("username_key", "username", "password_hash", "email", "display_name", "roles")


def purge(account: str) -> None:
    """Remove the sessions, kept answers, events, records and grants of an account."""
    for document in (Session, KeptAnswer, Event):
        document._get_collection().delete_many({"account": account})
    for record in RECORDS:
        for ids in batches(record, {"access": f"o:{account}"}):
            release(record, ids, timedelta())
            record.stored().delete_many({"_id": {"$in": ids}})
        granted = f"r:{account}"
        for ids in batches(record, {"access": granted}):
            change_all(record, ids, {"$pull": {"readers": account, "writers": account, "access": granted}})


def sweep(after: timedelta = LAST_WRITES) -> int:
    """End the deletions that were begun and are old enough; return how many accounts are gone for good."""
    due = list(Account._get_collection().find({"deleted_at": {"$lte": now() - after}}, {"_id": 1}))
    for account in due:
        purge(account["_id"])
        Account._get_collection().delete_one({"_id": account["_id"]})
    return len(due)


def keep_sweeping(timeout: float, pause: float = 5.0) -> None:
    """Start a thread that sweeps every `pause` seconds; an operation of MongoDB may take `timeout` seconds."""

    def work() -> None:
        while True:
            time.sleep(pause)
            try:
                sweep(last_writes(timeout))
            except PyMongoError as error:
                log.warning("sweep_failed", reason=type(error).__name__)

    threading.Thread(target=work, name="sweep", daemon=True).start()


def exported(account: Raw) -> Iterable[tuple[type[Record], Iterator[Raw]]]:
    """Yield each record type with the stored records that an account owns."""
    for record in RECORDS:
        rows = record.stored().find({"owner": account["_id"], "access": f"o:{account['_id']}"}, batch_size=100)
        yield record, iter(rows)
