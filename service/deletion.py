"""What goes with a record or an account that is deleted: in bounded batches, and again after a crash."""

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import islice
from typing import Any

from mongoengine import CASCADE, DENY, NULLIFY, PULL
from pymongo.errors import PyMongoError

from service.documents import RECORDS, Account, Event, KeptAnswer, Record, Session
from service.documents.record import Raw, now
from service.errors import StillReferenced
from service.observability import log

BATCH = 1000
"""Most records that one operation of a deletion touches, so that other requests get their turn in between."""

LAST_WRITES = timedelta(seconds=15)
"""How long after its deletion an account is swept once more: by then every request that it had begun has ended."""

Referrer = tuple[type[Record], str, int]


def referrers(document: type[Record]) -> list[Referrer]:
    """Return who refers to `document` with a delete rule of MongoEngine's: the type, its stored field, the rule."""
    rules = document._meta.get("delete_rules") or {}
    return [(other, other._fields[name].db_field, rule) for (other, name), rule in rules.items()]


Going = frozenset[tuple[type[Record], str]]
"""Records whose deletion led to another's: where records refer to each other, each is looked at once."""


def referring(other: type[Record], name: str, ids: list[str], going: Going) -> dict[str, Any]:
    """Return the filter of records of a type that refer to `ids` in the field `name`, but for those that go anyhow."""
    return {name: {"$in": ids}, "_id": {"$nin": [id for owner, id in going if owner is other]}}  # noqa: A001


def refuse_if_referenced(document: type[Record], ids: list[str], going: Going = frozenset()) -> None:
    """Raise `StillReferenced` where a rule keeps a record, or one that would go with it, while another refers to it."""
    going |= {(document, id) for id in ids}  # noqa: A001
    for other, name, rule in referrers(document):
        if rule == DENY and other.stored().find_one({name: {"$in": ids}}, {"_id": 1}):
            raise StillReferenced(f"{other._meta['collection']} still refer to this record")
        if rule == CASCADE and referrers(other):
            rows = other.stored().find(referring(other, name, ids, going), {"_id": 1}, batch_size=BATCH)
            while found := [row["_id"] for row in islice(rows, BATCH)]:
                refuse_if_referenced(other, found, going)


def release(document: type[Record], ids: list[str], keep: timedelta, going: Going = frozenset()) -> None:
    """Clear, or delete in their turn, the references to records that go, as the declared rules say.

    A deleted record leaves a tombstone for `keep`. It can be cut short anywhere and done again.
    """
    going |= {(document, id) for id in ids}  # noqa: A001
    for other, name, rule in referrers(document):
        for found in batches(other, referring(other, name, ids, going)):
            if rule == CASCADE:
                release(other, found, keep, going)
                for child in found:
                    other.bury({"_id": child, name: {"$in": ids}}, keep)
            elif rule == PULL:
                change_all(other, found, {"$pull": {name: {"$in": ids}}})
            elif rule == NULLIFY:
                change_all(other, found, {"$unset": {name: ""}})
            else:
                break


def batches(document: type[Record], condition: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the ids of records that fulfil `condition`, which the caller ends, until there are none."""
    while ids := [row["_id"] for row in document.stored().find(condition, {"_id": 1}, limit=BATCH)]:
        yield ids


def change_all(document: type[Record], ids: list[str], update: dict[str, dict[str, Any]]) -> None:
    """Apply one update to several records, with the stamps of any write."""
    stamps = {**update, "$set": {"updated_at": now()}, "$inc": {"revision": 1}}
    document.stored().update_many({"_id": {"$in": ids}}, stamps)


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


def sweep() -> int:
    """End the deletions that were begun and are old enough; return how many accounts are gone for good."""
    due = list(Account._get_collection().find({"deleted_at": {"$lte": now() - LAST_WRITES}}, {"_id": 1}))
    for account in due:
        purge(account["_id"])
        Account._get_collection().delete_one({"_id": account["_id"]})
    return len(due)


def keep_sweeping(pause: float = 5.0) -> None:
    """Start a thread that sweeps every `pause` seconds for as long as this process lives."""

    def work() -> None:
        while True:
            time.sleep(pause)
            try:
                sweep()
            except PyMongoError as error:
                log.warning("sweep_failed", reason=type(error).__name__)

    threading.Thread(target=work, name="sweep", daemon=True).start()


def exported(account: Raw) -> Iterable[tuple[type[Record], Iterator[Raw]]]:
    """Yield each record type with the stored records that an account owns."""
    for record in RECORDS:
        rows = record.stored().find({"owner": account["_id"], "access": f"o:{account['_id']}"}, batch_size=100)
        yield record, iter(rows)
