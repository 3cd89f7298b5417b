"""Leases: which process does a piece of work that one at a time may do."""

from collections.abc import Mapping
from typing import Any, Protocol

from bson import Int64
from mongoengine import DateTimeField, DictField, Document, LongField, StringField
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError


class LeaseLost(Exception):
    """Somebody else has the lease, or had it meanwhile: what was about to be stored is theirs to do."""


class Right(Protocol):
    """What a piece of work is given: whether it may go on."""

    @property
    def held(self) -> bool:
        """Whether no other process does this work now. Look before each step that may not be done twice."""
        ...

    @property
    def epoch(self) -> int:
        """The number of the time that the lease was taken."""
        ...

    def change(self, update: Mapping[str, Any]) -> dict[str, Any]:
        """Change the document of the lease as its holder; raises `LeaseLost`."""
        ...


class Lease(Document):
    """The right to do a piece of work until it expires; one document for each piece of work.

    Only MongoDB's clock is asked, so those of the machines may differ. The `epoch` grows each time that the lease is
    taken, and the document is never deleted: who writes under the condition of an epoch cannot overtake a successor.
    """

    id = StringField(primary_key=True, help_text="name of the work")
    holder = StringField(required=True)
    epoch = LongField(required=True)
    expires_at = DateTimeField(required=True)
    # What the work keeps with its lease, such as how far it has come; see `change`.
    state = DictField()

    meta = {"collection": "leases", "auto_create_index": False}

    @classmethod
    def take(cls, name: str, holder: str, seconds: float) -> int | None:
        """Take the lease on `name` for so many seconds; return its epoch, None while another holds it."""
        free = {
            "$or": [
                {"$lte": [{"$ifNull": ["$expires_at", "$$NOW"]}, "$$NOW"]},
                {"$eq": ["$holder", {"$literal": holder}]},
            ]
        }
        taken = {
            "holder": {"$cond": [free, {"$literal": holder}, "$holder"]},
            "epoch": {"$cond": [free, {"$add": [{"$ifNull": ["$epoch", Int64(0)]}, 1]}, "$epoch"]},
            "expires_at": {"$cond": [free, after(seconds), "$expires_at"]},
        }
        try:
            found = cls._get_collection().find_one_and_update(
                {"_id": name}, [{"$set": taken}], upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:
            return None  # another one has made the document at the same moment
        return int(found["epoch"]) if found["holder"] == holder else None

    @classmethod
    def extend(cls, name: str, epoch: int, seconds: float) -> bool:
        """Keep the lease for so many seconds from now; False where somebody else took it."""
        later = [{"$set": {"expires_at": after(seconds)}}]
        return bool(cls._get_collection().update_one({"_id": name, "epoch": epoch}, later).matched_count)

    @classmethod
    def is_taken(cls, name: str) -> bool:
        """Tell whether somebody has the lease now."""
        taken = {"_id": name, "$expr": {"$gt": ["$expires_at", "$$NOW"]}}
        return cls._get_collection().find_one(taken, {"_id": 1}) is not None

    @classmethod
    def give_back(cls, name: str, epoch: int) -> None:
        """Let another take the lease at once."""
        cls._get_collection().update_one({"_id": name, "epoch": epoch}, [{"$set": {"expires_at": "$$NOW"}}])

    @classmethod
    def change(cls, name: str, epoch: int, update: Mapping[str, Any]) -> dict[str, Any]:
        """Apply a MongoDB update to the lease's document, and return that as it is then.

        As a part of a transaction it guards all that the transaction writes: who takes the lease meanwhile makes the
        transaction fail. Raises `LeaseLost` where the epoch has passed.
        """
        found: dict[str, Any] | None = cls._get_collection().find_one_and_update(
            {"_id": name, "epoch": epoch}, update, return_document=ReturnDocument.AFTER
        )
        if found is None:
            raise LeaseLost(name)
        return found


def after(seconds: float) -> dict[str, Any]:
    """Return the time in so many seconds by MongoDB's clock, for a pipeline."""
    return {"$add": ["$$NOW", round(seconds * 1000)]}
