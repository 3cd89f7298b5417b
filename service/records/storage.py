"""What the files of an account take, counted to the byte, and whose bytes are whose.

What is counted on an account is always the sum of what its blobs have reserved: who changes the one changes the other
in the same transaction. So of two uploads at once, for which there is not room for both, one is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from service.core.clock import now
from service.core.errors import NotAuthenticated, QuotaExceeded
from service.documents.account import ALIVE, Account
from service.documents.blob import Blob
from service.mongo.raw import Raw

BATCH = 1000
"""Most blobs that one transaction gives up."""
LIVING: Raw = {"orphaned_at": {"$exists": False}}
"""The filter of blobs that may still be added to, claimed or read."""


def used_of(account: Mapping[str, Any]) -> int:
    """Return the bytes that a stored account uses."""
    return int(account.get("storage_bytes") or 0)


def reserve_bytes(account: str, number: int, limit: int) -> None:
    """Count so many bytes more, as a part of a transaction.

    Raises `QuotaExceeded` where an account may not have them, and `NotAuthenticated` where it has gone.
    """
    room: Raw = {"$or": [{"storage_bytes": {"$lte": limit - number}}]}
    if number <= limit:
        room["$or"].append({"storage_bytes": None})
    living: Raw = {"_id": account, **ALIVE}
    if not count_bytes(living | (room if number > 0 else {}), number):
        if Account._get_collection().find_one(living, {"_id": 1}) is None:
            raise NotAuthenticated("the account is gone")
        raise QuotaExceeded(f"the files of an account may have {limit} bytes together")


def count_bytes(account: Raw, number: int) -> bool:
    """Count so many bytes more, or less, of the one account that fulfils a condition; tell whether there is one."""
    update = {"$inc": {"storage_bytes": number}}
    return bool(Account._get_collection().update_one(account, update).matched_count)


def orphan(condition: Raw) -> int:
    """Leave blobs that fulfil `condition` to the sweep, as a part of a transaction; return how many."""
    found = list(Blob._get_collection().find({**condition, **LIVING}, {"account": 1, "reserved": 1}, limit=BATCH))
    if found:
        ids = [row["_id"] for row in found]
        given_up = {"$set": {"orphaned_at": now(), "reserved": 0}}
        Blob._get_collection().update_many({"_id": {"$in": ids}, **LIVING}, given_up)
        freed: dict[str, int] = {}
        for row in found:
            freed[row["account"]] = freed.get(row["account"], 0) + row["reserved"]
        for account, number in sorted(freed.items()):
            count_bytes({"_id": account}, -number)
    return len(found)


def orphan_files(files: Sequence[str]) -> None:
    """Leave all bytes of files to the sweep, as a part of a transaction."""
    while orphan({"file": {"$in": files}}):
        pass


def hand_over(files: Sequence[str], giver: str, taker: str) -> None:
    """Have the bytes of files count in the storage of the taker, as a part of a transaction.

    What somebody has got stays theirs, even where it is more than they might have uploaded.
    """
    theirs = {"file": {"$in": files}, "account": giver, **LIVING}
    number = sum(row["reserved"] for row in Blob._get_collection().find(theirs, {"reserved": 1}))
    Blob._get_collection().update_many(theirs, {"$set": {"account": taker}})
    count_bytes({"_id": giver}, -number)
    count_bytes({"_id": taker}, number)
