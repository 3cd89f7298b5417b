"""Handing over: all that an account owns, and all that it was given, becomes another's.

It is done in batches. Each is one transaction in which the taker is still there, and what was handed over is not found
again: so it can be cut short anywhere and goes on, and nothing is handed over twice.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from pymongo.errors import BulkWriteError

from service.core.errors import AlreadyExists, NotFound
from service.core.log import log
from service.documents import Account
from service.documents.account import ALIVE
from service.model.field import Field
from service.model.record_type import RecordType
from service.model.registry import Referrer, Registry
from service.model.unique import Unique
from service.mongo import transactions
from service.mongo.raw import Raw
from service.policy import given_to, owned_by
from service.records import storage, store
from service.records.deletion import bury_for_release
from service.records.refusals import DUPLICATE
from service.records.store import Edit

BATCH = 200
"""Most records of a transaction: it locks them, and others wait for it."""


class Handover:
    """All that one account, the giver, has, for another one, the taker.

    What is left of a record that the taker's cannot stand beside is a tombstone, kept for `keep`.
    """

    def __init__(self, registry: Registry, giver: str, taker: str, keep: timedelta) -> None:
        self.registry, self.giver, self.taker, self.keep = registry, giver, taker, keep

    def run(self, going_on: Callable[[], bool] = lambda: True) -> bool:
        """Hand over all that there is while `going_on`; tell whether nothing is left.

        Raises `NotFound` where the taker has gone.
        """
        return all(going_on() for step in self.steps() for _ in step)

    def steps(self) -> Iterator[Iterator[None]]:
        """Yield what there is to do, each of which pauses after a batch."""
        yield from map(self.records, self.registry.values())
        yield from map(self.references, self.registry.account_referrers)

    # --- What it owns, and what it was given -------------------------------------------------------------------------

    def records(self, type: RecordType) -> Iterator[None]:
        """Hand over the records of a type."""
        while ids := [row["_id"] for row in type.collection.find(self.had(), {"_id": 1}, limit=BATCH)]:
            if not self.is_handed_over(type, ids):
                for id in ids:
                    if not self.is_handed_over(type, [id]):
                        self.make_room(type, id)
            yield

    def had(self) -> Raw:
        """Return the filter of the records that the giver has."""
        return {"access": {"$in": [owned_by(self.giver), given_to(self.giver)]}}

    def is_handed_over(self, type: RecordType, ids: list[str], without: tuple[str, ...] = ()) -> bool:
        """Hand over those of the records named that the giver has, without some of their values.

        False, and nothing is done, where one has a value that has to be unique and that one of the taker's has.
        """
        try:
            transactions.run(lambda: self.hand_over(type, ids, without))
        except BulkWriteError as error:
            if error.details["writeErrors"][0]["code"] != DUPLICATE:
                raise
            return False
        return True

    def hand_over(self, type: RecordType, ids: list[str], without: tuple[str, ...]) -> None:
        """Do it in one transaction. Raises `NotFound` and `BulkWriteError`."""
        # One that goes meanwhile is swept once more when this has ended: see `identity.deletion`.
        if Account._get_collection().find_one({"_id": self.taker, **ALIVE}, {"_id": 1}) is None:
            raise NotFound("the account has gone")
        rows = type.collection.find({"_id": {"$in": ids}, **self.had()})
        edits = [Edit(row, {**dict.fromkeys(without), **self.others(row)}) for row in rows]
        if edits:
            store.change_each(type, edits)
        if type.is_file:
            storage.hand_over(ids, self.giver, self.taker)

    def others(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the owner, the readers and the writers of a record when it is handed over."""
        owner = self.taker if row["owner"] == self.giver else row["owner"]
        found: dict[str, Any] = {"owner": owner}
        for name in ("readers", "writers"):
            if (listed := row.get(name)) is not None:
                # Other software may have stored what is no list.
                given = listed if isinstance(listed, list) else ()
                names = [self.taker if one == self.giver else one for one in given]
                found[name] = [one for one in dict.fromkeys(names) if one != owner] or None
        return found

    def make_room(self, type: RecordType, id: str) -> None:
        """Hand over a record without what one of the taker's has and no two may have; bury it where that must be."""
        found = (clearable(unique) for unique in type.uniques if "owner" in unique.stored)
        cleared = tuple(field.stored for field in found if field is not None)
        if not cleared or not self.is_handed_over(type, [id], cleared):
            log.warning("not_handed_over", type=type.name, id=id, account=self.taker, reason="a unique value is taken")
            bury_for_release(self.registry, type, {"_id": id, **self.had()}, self.keep)

    # --- What refers to it -------------------------------------------------------------------------------------------

    def references(self, referrer: Referrer) -> Iterator[None]:
        """Have what refers to the giver refer to the taker."""
        type, reference = referrer
        root, last = reference.place.root.stored, ""
        pointing = {reference.stored: self.giver}
        while rows := list(
            type.collection.find({"_id": {"$gt": last}, **pointing}, {root: 1, "revision": 1}, limit=BATCH).sort("_id")
        ):
            for row in rows:
                told = reference.place.exchanged(row, self.giver, self.taker)
                same = {"_id": row["_id"], "revision": row["revision"]}
                # One that is unique, and that one of the taker's has, is cleared when the giver goes.
                with suppress(AlreadyExists):
                    store.change(type, same, {"$set": {root: told[root]}})
            last = rows[-1]["_id"]
            yield


def clearable(unique: Unique) -> Field | None:
    """Return a field of the record itself without which nothing is compared, None where each has to have a value."""
    return next((place.root for place in unique.given if len(place.steps) == 1 and place.root.is_nullable), None)
