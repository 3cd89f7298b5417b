"""The one door for writes of records: create, change, change many, migrate, bury, erase.

Each write carries its stamps: `updated_at`, `revision`, the version of the form, the access list where sharing
changes, and the words by which it is found where these change or a searched text does. What watches records, and what
comes after, goes by these.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, DocumentTooLarge, DuplicateKeyError, OperationFailure

from service.core.clock import now
from service.core.errors import DatabaseUnavailable
from service.core.ids import new_id
from service.documents.record import LEFT
from service.model.record_type import RecordType
from service.mongo import driver, problems, transactions
from service.mongo.raw import Raw
from service.policy import access_list, founded_by, group_principal
from service.records import founding, refusals, search_words, storage
from service.records.search_words import Update

Removed = TypeVar("Removed")


def create(type: RecordType, owner: str, content: Mapping[str, Any]) -> Raw:
    """Store a new record of `owner`, of a group its founder, with `content` in BSON form and return it.

    Raises `pymongo.errors.DuplicateKeyError` when its `_id` is taken, `AlreadyExists` when a unique value is,
    `LimitReached` where an account founds one group too many, and `ValidationFailed` where MongoDB refuses a value.
    """
    record = new_record(type, owner, content)
    if type.is_group:
        founding.check_room(owner)
    try:
        driver.insert(type.collection, record)
    except DuplicateKeyError as error:
        raise refusals.taken(type, error, record["_id"], record) from None
    except (OperationFailure, DocumentTooLarge) as error:
        raise refusals.refused(type, error, record) from error
    if type.is_group:
        founding.found_group(owner, record["_id"])
    return record


def new_record(type: RecordType, owner: str, content: Mapping[str, Any]) -> Raw:
    """Return `content` as a whole new record."""
    id = content.get("_id") or new_id()
    told: list[str] = []
    if type.is_group:
        owner, told = group_principal(id), [founded_by(owner)]
    moment, access = now(), access_list(owner, content, told)
    return type.document.new(
        {
            "_id": id,
            **content,
            "owner": owner,
            "created_at": moment,
            "updated_at": moment,
            "revision": 1,
            "access": access,
            **search_words.words_field(type, content, access),
        }
    )


def change(
    type: RecordType, condition: Mapping[str, Any], update: Update, brought: Mapping[str, Any] | None = None
) -> Raw | None:
    """Apply the MongoDB `update` to the one record that fulfils `condition`, and return it as it then is.

    `brought` are the values of the update as a record has them, where that is more than what `$set` says.
    Returns None, and changes nothing, when there is none. Where `update` writes a text that is searched, it has to say
    the whole of it (else `ValueError`), and unless `condition` names the access list the record is read first.
    Raises `AlreadyExists` when a unique value is taken, and `ValidationFailed`, with pointers into the record, where
    MongoDB refuses a value.
    """
    texts = search_words.touched(type, update)
    if not texts:
        return apply(type, condition, update, brought=brought)
    if isinstance(access := condition.get("access"), list):
        worded = search_words.worded(type, update, texts, access)
        return apply(type, {**condition, **worded.guard}, worded.update, brought=brought)
    for _ in attempts():
        current = driver.find_one(type.collection, condition)
        if current is None:
            return None
        same = {**condition, "_id": current["_id"], "revision": current["revision"], "access": current["access"]}
        record = apply(type, same, search_words.made_anew(type, update, texts, current), brought=brought)
        if record is not None:
            return record
    raise AssertionError


MOST_ATTEMPTS = 50


def attempts() -> Iterator[int]:
    """Yield tries of a change that is computed on the current record, while others change it too.

    Raises `DatabaseUnavailable` when all are used up, so that a loop over it ends with success or with a problem.
    """
    yield from range(MOST_ATTEMPTS)
    raise DatabaseUnavailable("the record is changed by too many at once")


def apply(
    type: RecordType,
    condition: Mapping[str, Any],
    update: Update,
    upsert: bool = False,
    brought: Mapping[str, Any] | None = None,
) -> Raw | None:
    """Apply an `update` that says all that is to change, with the stamps; see `change`."""
    values = update.get("$set", {}) if brought is None else brought
    return refusals.explained(
        *(type, condition, values),
        lambda: driver.change(type.collection, condition, stamped(type, update), upsert, type.unread),
    )


def create_many(type: RecordType, owner: str, contents: Iterable[Mapping[str, Any]]) -> list[Raw]:
    """Store new records of `owner`, as a part of a transaction, and return them; see `create`.

    Raises `pymongo.errors.BulkWriteError` where an id or a unique value is taken.
    """
    records = [new_record(type, owner, content) for content in contents]
    type.collection.insert_many(records)
    for record in records if type.is_group else ():
        founding.found_group(owner, record["_id"])
    return records


def take_over(type: RecordType, records: Sequence[Raw], together: bool = False) -> dict[str, Exception]:
    """Store whole new records that come from elsewhere, and return why some are not, by id: see `create`.

    Each by itself, or `together` in a transaction, which ends at the first that is refused.
    """
    try:
        type.collection.insert_many(records, ordered=together)
    except BulkWriteError as error:
        told = error.details["writeErrors"]
        if problems.is_transient(error) or not told:
            raise
        return {records[one["index"]]["_id"]: refusals.problem_of_one(type, one, records[one["index"]]) for one in told}
    return {}


SEEN_BY = {"owner", "readers", "writers"}
"""The stored fields that the access list is made of."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A record as it was read, and the values that some of its stored fields get, None for those that go."""

    current: Raw
    values: Mapping[str, Any]

    @property
    def content(self) -> Raw:
        """The record with these values."""
        kept = {name: value for name, value in self.current.items() if name not in self.values}
        return {**kept, **self.given}

    @property
    def after(self) -> Raw:
        """The record with these values and the access list that follows from them, before it is stamped."""
        after = self.content
        return {**after, "access": access_list(after["owner"], after, self.current["access"])}

    @property
    def given(self) -> Raw:
        """The values that are stored."""
        return {name: value for name, value in self.values.items() if value is not None}

    @property
    def update(self) -> Update:
        """The MongoDB update."""
        shared = {"access": self.after["access"]} if SEEN_BY & self.values.keys() else {}
        cleared = dict.fromkeys(self.values.keys() - self.given.keys(), "")
        update = {"$set": {**self.given, **shared}}
        return {**update, "$unset": cleared} if cleared else update

    def stored(self, moment: datetime) -> Raw:
        """Return the record as it is once this was written at a `moment`."""
        return {**self.after, "updated_at": moment, "revision": self.current["revision"] + 1}


def change_each(type: RecordType, edits: Sequence[Edit]) -> list[Raw]:
    """Change records, each in its own way, as a part of a transaction, and return them as they then are.

    Nobody has changed them since they were read in it: MongoDB would not let the transaction go on.
    Raises `pymongo.errors.BulkWriteError` where a unique value is taken.
    """
    moment = now()
    updates = ((edit, search_words.rewritten(type, edit.update, edit.current, edit.after)) for edit in edits)
    type.collection.bulk_write(
        [UpdateOne({"_id": edit.current["_id"]}, stamped(type, update, moment)) for edit, update in updates]
    )
    return [edit.stored(moment) for edit in edits]


def change_one(type: RecordType, condition: Mapping[str, Any], edit: Edit) -> Raw | None:
    """Change the one record that fulfils `condition` still, which was read as the edit says, and return it.

    What it is then is known without MongoDB. Returns None, and changes nothing, when there is none. Raises as `change`
    does.
    """
    moment = now()
    update = stamped(type, search_words.rewritten(type, edit.update, edit.current, edit.after), moment)
    is_done = refusals.explained(type, condition, edit.given, lambda: driver.update(type.collection, condition, update))
    return edit.stored(moment) if is_done else None


def change_many(type: RecordType, ids: Sequence[str], condition: Mapping[str, Any], update: Update) -> None:
    """Apply one MongoDB `update` to those of several records that fulfil `condition` still.

    It writes no text that is searched. Who may find a record no longer may keep its words there: the access list is
    asked as well.
    """
    assert not search_words.touched(type, update)  # noqa: S101  the words of each would be others
    type.collection.update_many({"_id": {"$in": ids}, **condition}, stamped(type, update))


def stamped(type: RecordType, update: Update, moment: datetime | None = None) -> dict[str, Mapping[str, Any]]:
    """Return the MongoDB `update` of a record that is there, with the stamps of any write."""
    return type.document.written(
        {
            **update,
            "$set": {**update.get("$set", {}), "updated_at": moment or now()},
            "$inc": {**update.get("$inc", {}), "revision": 1},
        }
    )


def rewrite(type: RecordType, condition: Mapping[str, Any], content: Mapping[str, Any], current: Raw) -> Raw | None:
    """Give the record that was read as `current` and fulfils `condition` the whole new `content`, and return it.

    Returns None, and changes nothing, when there is none.
    """
    return change_one(type, condition, Edit(current, {name: content.get(name) for name in type.given}))


def put(type: RecordType, condition: Mapping[str, Any], content: Mapping[str, Any], owner: str) -> Raw:
    """Replace the content of the record that fulfils `condition` but not what only its owner writes; else make it.

    It is of a type that is not searched: for the words of one that is there one has to know who may find it.
    Raises `pymongo.errors.DuplicateKeyError` when the id belongs to a record that does not fulfil `condition`.
    """
    own = type.schema.owner_only
    update = replacement(type, {name: value for name, value in content.items() if name not in own}, own)
    first = {name: content[name] for name in own & content.keys()}
    first |= {"owner": owner, "created_at": now(), "access": access_list(owner, content)}
    record = apply(type, condition, {**update, "$setOnInsert": type.document.new(first)}, upsert=True)
    assert record is not None  # noqa: S101  an upsert always has a document to return
    return record


def replacement(type: RecordType, content: Mapping[str, Any], kept: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the update that leaves of a record's content only `content`, and what is `kept` or the server's."""
    update = {"$set": {name: value for name, value in content.items() if name in type.given}}
    gone = type.given - content.keys() - {*kept}
    return {**update, "$unset": dict.fromkeys(gone, "")} if gone else update


def migrate(type: RecordType, condition: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> int:
    """Apply the `stages` of a migration, which bring their stamps, to all records that fulfil `condition`.

    Returns how many did.
    """
    return int(type.collection.update_many(condition, list(stages)).matched_count)


def set_words(type: RecordType, rows: Sequence[Raw]) -> int:
    """Set the words of records that are as they were read, without a stamp: no client sees them; return of how many."""
    updates = [
        UpdateOne(
            {"_id": row["_id"], "revision": row.get("revision"), "access": row["access"]},
            {"$set": search_words.words_field(type, row, row["access"])},
        )
        for row in rows
    ]
    return int(type.collection.bulk_write(updates, ordered=False).matched_count)


LEAST_MARKED = timedelta(minutes=10)
"""How long a tombstone with a mark is kept at least: for longer than any write takes that found the record there."""


def tombstone_mark(keep: timedelta, going: bool) -> dict[str, datetime]:
    """Return what a tombstone has that no record has: when it goes, and since when others are released from it."""
    moment = now()
    return {"purge_at": moment + max(keep, LEAST_MARKED), "going_at": moment} if going else {"purge_at": moment + keep}


def bury(type: RecordType, condition: Mapping[str, Any], keep: timedelta, going: bool = False) -> bool:
    """Leave of the one record that fulfils `condition` a tombstone for `keep`; False when there is none.

    Where others may refer to it, and so it is `going`, the tombstone has a mark until `settle`.
    """
    return with_bytes(type, lambda: leave_tombstone(type, condition, keep, going))


def leave_tombstone(type: RecordType, condition: Mapping[str, Any], keep: timedelta, going: bool) -> bool:
    """Do it, as a part of what `with_bytes` does."""
    # The names of all fields are known, so one update without a read leaves nothing of the content.
    update: Update = {"$unset": dict.fromkeys(type.cleared, ""), "$set": tombstone_mark(keep, going)}
    tombstone = apply(type, condition, update)
    if tombstone is None:
        return False
    give_up_bytes(type, [tombstone["_id"]])
    if unknown := tombstone.keys() - LEFT:
        # What a newer server has stored, running beside this one: it goes as well.
        buried = {"_id": tombstone["_id"], "purge_at": {"$exists": True}}
        type.collection.update_one(buried, {"$unset": dict.fromkeys(unknown, "")})
    return True


def bury_many(type: RecordType, records: Sequence[Raw], keep: timedelta, going: bool = False) -> None:
    """Leave tombstones of records that were read in the same transaction; see `bury`."""
    # What a newer server has stored goes as well.
    names = type.cleared | {name for record in records for name in record.keys() - LEFT}
    update: Update = {"$unset": dict.fromkeys(names, ""), "$set": tombstone_mark(keep, going)}
    ids = [record["_id"] for record in records]
    type.collection.update_many({"_id": {"$in": ids}}, stamped(type, update))
    give_up_bytes(type, ids)


def unbury(type: RecordType, id: str, owner: str, revision: int, content: Mapping[str, Any]) -> Raw | None:
    """Give the tombstone of this `revision` the content that its record of `owner` had, and return the record.

    Returns None, and changes nothing, when there is none, or others are released from it still: who does that has read
    its id, and would take from it what came to refer to it since. Raises `AlreadyExists` when a unique value is taken.
    """
    access = access_list(owner, content)
    update: Update = {
        "$set": {**content, "access": access, **search_words.words_field(type, content, access)},
        "$unset": {"purge_at": ""},
    }
    settled = {"purge_at": {"$gt": now()}, "going_at": {"$exists": False}}
    buried = {"_id": id, "owner": owner, "revision": revision, **settled}
    return apply(type, buried, update)


def already_settled(type: RecordType, ids: Sequence[str]) -> set[str]:
    """Return those of some records that are no tombstone which others are released from; not those that are gone."""
    found = {"_id": {"$in": ids}, "going_at": {"$exists": False}}
    return {row["_id"] for row in type.collection.find(found, {"_id": 1})}


def settle(type: RecordType, ids: Sequence[str]) -> None:
    """Take the mark from tombstones to which nothing refers any more; one that stayed for its sake alone goes."""
    type.collection.delete_many({"_id": {"$in": ids}, "purge_at": {"$lte": now() + LEAST_MARKED}})
    type.collection.update_many({"_id": {"$in": ids}}, {"$unset": {"going_at": ""}})


def touch(type: RecordType, ids: Sequence[str]) -> None:
    """Write to records that another comes to refer to, without a stamp: nobody sees it but who deletes one of them.

    Inside of a transaction MongoDB does not let both go on.
    """
    type.collection.update_many({"_id": {"$in": ids}}, {"$inc": {"reference_writes": 1}})


def erase(type: RecordType, ids: Sequence[str]) -> None:
    """Remove records with all that they leave: where their owner has gone, and nobody asks for them again."""

    def work() -> None:
        give_up_bytes(type, ids)
        type.collection.delete_many({"_id": {"$in": ids}})

    with_bytes(type, work)


def with_bytes(type: RecordType, work: Callable[[], Removed]) -> Removed:
    """Do `work`, which removes records: of files in a transaction, in which their bytes are given up."""
    return transactions.run_where_there_are(work) if type.is_file else work()


def give_up_bytes(type: RecordType, ids: Sequence[str]) -> None:
    """Give up the bytes of records, if the records of this type have any, as a part of a transaction."""
    if type.is_file:
        storage.orphan_files(ids)
