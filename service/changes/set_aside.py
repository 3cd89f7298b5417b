"""What is stored of the records of which a hook has made nothing yet: put off, tried again, set aside, dropped."""

from collections.abc import Collection, Iterable
from datetime import timedelta

from pymongo import ReplaceOne, ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError

from service.changes.compaction import change_id
from service.core.clock import now
from service.core.log import log
from service.documents import SetAside
from service.mongo.raw import Filter, Raw
from service.records.refusals import DUPLICATE

HOOK_TRIES = 8
FIRST_HOOK_DELAY, LONGEST_HOOK_DELAY = 1.0, 300.0
"""Seconds until the second try, and between two later ones; from one to the next they double."""
DIED = "Died"
"""The reason of a try after which nobody was there to say anything."""


def new_row(type: str, record: str, seq: int, created: bool, previous: Raw | None) -> Raw:
    """Return what is stored of a record before anything has failed; `previous` is its row of an older change."""
    return {
        "_id": change_id(type, record),
        "type": type,
        "record": record,
        "seq": seq,
        "created": created or (previous is not None and previous["created"]),
        "state": "waiting",
        "tries": 0,
        "due_at": now(),
        "reason": DIED,
        "since": now() if previous is None else previous["since"],
    }


def failed_row(row: Raw, tries: int, reason: str) -> Raw:
    """Return the row of a record whose hook has failed so often; after `HOOK_TRIES` it is set aside."""
    state = "set_aside" if tries >= HOOK_TRIES else "waiting"
    due_at = now() + timedelta(seconds=delay_after(tries))
    return {**row, "state": state, "tries": tries, "due_at": due_at, "reason": reason}


def delay_after(tries: int) -> float:
    """Return in how many seconds what has been tried so often is tried again."""
    return float(min(FIRST_HOOK_DELAY * 2 ** (tries - 1), LONGEST_HOOK_DELAY))


def keep_row(row: Raw) -> None:
    """Store a row in place of that of an older change, and leave that of a newer one."""
    try:
        SetAside._get_collection().replace_one({"_id": row["_id"], "seq": {"$lte": row["seq"]}}, row, upsert=True)
    except DuplicateKeyError:
        log.info("newer_set_aside", id=row["_id"])


def keep_rows(rows: Iterable[Raw]) -> None:
    """Store many rows: see `keep_row`."""
    writes = [ReplaceOne({"_id": row["_id"], "seq": {"$lte": row["seq"]}}, row, upsert=True) for row in rows]
    try:
        SetAside._get_collection().bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        if any(failed["code"] != DUPLICATE for failed in error.details["writeErrors"]):
            raise


def known_rows(ids: Collection[str]) -> dict[str, Raw]:
    """Return the rows of these ids, by id."""
    return {row["_id"]: row for row in SetAside._get_collection().find({"_id": {"$in": list(ids)}})}


def end_row(row: Raw) -> None:
    """Forget a record that was taken, unless a newer change of it has failed meanwhile."""
    SetAside._get_collection().delete_one({"_id": row["_id"], "seq": {"$lte": row["seq"]}})


def take_row(type: str) -> Raw | None:
    """Return the next row that is tried again, its try counted already: a try may end with the process."""
    due = {"type": type, "state": "waiting", "due_at": {"$lte": now()}}
    row: Raw | None = SetAside._get_collection().find_one(due, sort=[("due_at", 1), ("seq", 1)])
    if row is None:
        return None
    tries = row["tries"] + 1
    counted = {"tries": tries, "due_at": now() + timedelta(seconds=delay_after(tries))}
    as_it_was = {"_id": row["_id"], "seq": row["seq"], "tries": row["tries"], "state": "waiting"}
    found: Raw | None = SetAside._get_collection().find_one_and_update(
        as_it_was, {"$set": counted}, return_document=ReturnDocument.AFTER
    )
    # Somebody has repeated or dropped it at this moment.
    return take_row(type) if found is None else found


def count_rows(type: str, state: str) -> int:
    """Return how many records of a type are in a state."""
    return int(SetAside._get_collection().count_documents({"type": type, "state": state}))


# --- For the person who runs the service -----------------------------------------------------------------------------


def newest_rows(limit: int) -> list[Raw]:
    """Return what is tried again or set aside, the newest first."""
    return list(SetAside._get_collection().find({}, sort=[("since", -1)], limit=limit))


def repeat_rows(chosen: Filter) -> int:
    """Have what is set aside told again, of what is chosen, as often as what is new; return of how many."""
    again = {"$set": {"state": "waiting", "tries": 0, "due_at": now()}}
    return int(SetAside._get_collection().update_many({**chosen, "state": "set_aside"}, again).modified_count)


def drop_rows(chosen: Filter) -> int:
    """Forget what is chosen; return how many these were."""
    return int(SetAside._get_collection().delete_many(chosen).deleted_count)
