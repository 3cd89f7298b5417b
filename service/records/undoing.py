"""Undoing a deletion: what an admin deletes is kept as long as its tombstone, and given back to it.

Of what a client deletes nothing is kept, nor of what goes with a record by a delete rule.
"""

from collections.abc import Mapping
from typing import Any, Literal

import bson

from service.core.clock import now
from service.core.errors import AlreadyExists, NotFound
from service.documents import Account, DeletedContent
from service.documents.account import ALIVE
from service.documents.record import LEFT, WORDS
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo import driver
from service.mongo.raw import STANDARD, Raw
from service.policy import named_by
from service.records import store
from service.records.acting import identity_of
from service.records.writing import Writer

LARGEST_KEPT = 1_000_000
"""Most bytes of BSON of a record that are kept."""
MOST_SHOWN_DELETED = 100
MADE_ANEW = LEFT | {"access", WORDS, "reference_writes"}
"""The stored names of what a tombstone has, or what is made of the content."""

WhyNot = Literal["bytes_gone", "members_gone", "too_large", "not_kept", "other_form", "going"]
"""Why a deletion cannot be undone; `going`, while what referred to the record is released."""


def hindrance(type: RecordType, record: Mapping[str, Any]) -> WhyNot | None:
    """Return why the deletion of a record cannot be undone; None where it can."""
    if type.is_file:
        return "bytes_gone"
    if type.is_group:
        return "members_gone"
    return "too_large" if len(bson.encode(record, codec_options=STANDARD)) > LARGEST_KEPT else None


def keep_content(type: RecordType, record: Raw) -> None:
    """Keep what a record was that was just deleted, in the transaction of its deletion, if that can be undone."""
    tombstone = tombstone_of(type, record["_id"])
    if tombstone is None or hindrance(type, record) is not None:
        return
    kept: Raw = {
        "_id": kept_id(type, record["_id"]),
        "type": type.name,
        "record": record["_id"],
        "owner": record["owner"],
        "revision": tombstone["revision"],
        "form": record.get("schema_version", 0),
        "content": {name: value for name, value in record.items() if name not in MADE_ANEW},
        "deleted_at": now(),
        "expires_at": tombstone["purge_at"],
    }
    DeletedContent._get_collection().replace_one({"_id": kept["_id"]}, kept, upsert=True)


def kept_id(type: RecordType, id: str) -> str:
    """Return the id of what is kept of a record."""
    return f"{type.name}/{id}"


def tombstone_of(type: RecordType, id: str) -> Raw | None:
    """Return the tombstone of a record; None where there is none, or it is about to go."""
    return driver.find_one(type.collection, {"_id": id, "purge_at": {"$gt": now()}})


def kept_content(type: RecordType, tombstone: Mapping[str, Any]) -> tuple[Raw | None, WhyNot | None]:
    """Return what is kept of the record whose tombstone this is, or why it cannot be had."""
    named = {"_id": kept_id(type, tombstone["_id"]), "revision": tombstone["revision"]}
    kept: Raw | None = driver.find_one(DeletedContent._get_collection(), named)
    if kept is None:
        return None, hindrance(type, {}) or "not_kept"
    if kept["form"] != type.document.version():
        return None, "other_form"
    return (None, "going") if "going_at" in tombstone else (kept, None)


def deleted_lately(type: RecordType) -> list[Raw]:
    """Return what is kept of the records of a type, the newest first, without their content."""
    chosen = {"type": type.name, "expires_at": {"$gt": now()}}
    found = DeletedContent._get_collection().find(chosen, {"content": 0}, sort=[("deleted_at", -1)])
    return list(found.limit(MOST_SHOWN_DELETED))


def undo_deletion(registry: Registry, type: RecordType, id: str) -> Raw:
    """Give a tombstone back what its record was, and return the record: what its owner may have at this moment.

    What referred to it does not come back, nor what went with it, nor accounts that are gone among its readers and
    writers. Raises `NotFound` where it cannot be had, or its owner has gone; `ValidationFailed` where it refers to what
    is gone, or is given to a group that its owner has left; `AlreadyExists` where a unique value is taken, the
    tombstone has changed, or what referred to it is released still.
    """
    tombstone = tombstone_of(type, id)
    kept, why_not = (None, "not_kept") if tombstone is None else kept_content(type, tombstone)
    if why_not == "going":
        raise AlreadyExists("what referred to the record is released still")
    if kept is None:
        raise NotFound(f"the content of the record cannot be had ({why_not})")
    writer = Writer(registry, type, identity_of(kept["owner"]))

    def write() -> Raw:
        content = without_the_gone(kept["content"])
        writer.check_references(content)
        writer.check_groups(None, content)
        record = store.unbury(type, id, kept["owner"], kept["revision"], content)
        if record is None:
            raise AlreadyExists("the record is there again, or its tombstone has gone")
        DeletedContent._get_collection().delete_one({"_id": kept["_id"]})
        return record

    return writer.referring(kept["content"], write)


def without_the_gone(content: Raw) -> Raw:
    """Return the content of a record without the accounts among its readers and writers that are there no more."""
    given = {name: content[name] for name in ("readers", "writers") if name in content}
    named, _, _ = named_by({one for principals in given.values() for one in principals})
    alive = {row["_id"] for row in Account._get_collection().find({"_id": {"$in": named}, **ALIVE}, {"_id": 1})}
    gone = {*named} - alive
    return {**content, **{name: [one for one in given[name] if one not in gone] for name in given}}
