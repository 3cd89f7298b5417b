"""A push of RxDB: documents of one type as a device has them, each with what it takes the server to have."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from service.changes import corrections, receipts
from service.changes.push_parts import parts_of
from service.changes.rxdb_documents import documents_of
from service.changes.watermelon_push import LONGEST, MOST_ROW_CAUSES, MOST_ROWS
from service.core.clock import now
from service.core.errors import (
    MOST_CAUSES,
    Cause,
    Problem,
    ReferencePending,
    TooLarge,
    ValidationFailed,
    pointer,
)
from service.core.json_text import MAX_MEMBERS, decode_rows
from service.documents import Account, AwaitedReference, Correction
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.model.validation import validate
from service.mongo import transactions
from service.mongo.raw import Raw
from service.policy import Identity
from service.records.bulk import Bulk, BulkWrite, Target, is_stored_alike, taken_ids

WAITS_FOR = timedelta(minutes=10)
"""How long a push waits for what it refers to: other collections of the device may have much to send."""
MOST_AWAITED = 1000

ClientDocument = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class PushedDocument:
    """A document as it was pushed, and what the device takes the server to have; `wrong` is what nobody could store."""

    id: str
    state: ClientDocument
    assumed: ClientDocument | None
    wrong: Sequence[Cause] = ()

    @property
    def is_deleted(self) -> bool:
        """Whether the device has deleted it."""
        return self.state.get("_deleted") is True

    @property
    def is_known(self) -> bool:
        """Whether the device takes the server to have it."""
        return self.assumed is not None and self.assumed.get("_deleted") is not True

    def values(self, type: RecordType) -> dict[str, Any]:
        """Return what the device says, in JSON form, of what it has taken away as null. Raises `ValidationFailed`."""
        if self.wrong:
            raise ValidationFailed(self.wrong)
        values = documents_of(type).values(self.state)
        before = {} if self.assumed is None else self.assumed
        fields = type.schema.fields
        cleared = (name for name in before if name in fields and name not in self.state)
        return {**{name: None for name in cleared if fields[name].is_patched}, **values}

    def is_based_on(self, current: Raw, type: RecordType) -> bool:
        """Tell whether the device has changed what is stored, and not what was there before.

        Its document says so by its revision; else by what it takes the server to have, if that is not newer than the
        document: sometimes RxDB sends an old one with what it has got from the server meanwhile.
        """
        revision = self.state.get("revision")
        if revision == current["revision"]:
            return True
        if self.assumed is None or not self.is_known:
            return False
        return self.assumed.get("revision") == revision and has_same_content(type, self.assumed, current)


def has_same_content(type: RecordType, document: ClientDocument, record: Raw) -> bool:
    """Tell whether a document has, in all that clients write, what is stored."""
    try:
        said = documents_of(type).values(document)
        fields = type.schema.fields
        values = validate(type.schema.patch_body, {name: said[name] for name in said if fields[name].is_patched})
    except ValidationFailed:
        return False
    return all(
        is_stored_alike(fields[name].default() if value is None else value, fields[name].value_in(record))
        for name, value in values.items()
    )


@dataclass(frozen=True, slots=True)
class PushOutcome:
    """The documents that the device has to take over, and what was wrong with some of them."""

    conflicts: list[dict[str, Any]]
    problems: list[tuple[str, Problem]]

    def with_more(self, other: "PushOutcome") -> "PushOutcome":
        """Return it with that of other documents."""
        return PushOutcome([*self.conflicts, *other.conflicts], [*self.problems, *other.problems])


@dataclass(frozen=True, slots=True)
class RxdbPush:
    """What one request brings."""

    registry: Registry
    identity: Identity
    type: RecordType
    rows: Sequence[PushedDocument]
    keep: timedelta

    def done(self) -> PushOutcome:
        """Store what can be stored, and return what the device has otherwise than the service.

        Raises `ReferencePending`, and nothing is done, where something refers to what has not come yet; of a very large
        push parts may be done then.
        """
        receipts.note_push(self.identity, self.type.name, [row.id for row in self.rows])
        awaited = self.awaited()
        overdue = {target for target, since in awaited.items() if since <= now() - WAITS_FOR}
        outcome = PushOutcome([], [])
        try:
            for rows in parts_of(self.rows, lambda row: row.state):
                outcome = outcome.with_more(transactions.run(partial(self.stored, rows, overdue), LONGEST))
        except Missing as missing:
            self.await_targets(missing.targets, awaited)
            raise ReferencePending("records of this push refer to others that have not come yet") from None
        return outcome

    def stored(self, rows: Sequence[PushedDocument], overdue: Collection[str]) -> PushOutcome:
        """Do the work of a transaction; what is `overdue` is not waited for any more."""
        writes = {row: BulkWrite(self.type, row.id, None) for row in rows}

        def clearable(targets: Collection[Target]) -> set[Target]:
            refused = {write.id for write in writes.values() if write.problem is not None}
            return self.clearable(targets, refused, overdue)

        bulk = Bulk(self.registry, self.identity, self.keep, clearable)
        bulk.read(writes.values())
        conflicting = {row for row, write in writes.items() if not self.is_to_be_done(bulk, row, write)}
        bulk.store(list(writes.values()))
        problems = [(row.id, write.problem) for row, write in writes.items() if write.problem is not None]
        # What there will not be, although others may refer to it.
        none = [
            row.id
            for row, write in writes.items()
            if write.current is None and (write.problem is not None or (row.is_deleted and not write.taken))
        ]
        corrections.remember(self.identity.account, ((self.type.name, id) for id in none), self.keep)
        return PushOutcome(
            [*self.answers(write for row, write in writes.items() if is_told(row, write, conflicting))], problems
        )

    def is_to_be_done(self, bulk: Bulk, row: PushedDocument, write: BulkWrite) -> bool:
        """Decide about one document; False where the device has changed what is not there any more."""
        if write.current is None and (row.is_deleted or row.is_known):
            return row.is_deleted
        try:
            write.values = None if row.is_deleted and not row.wrong else row.values(self.type)
            bulk.decide(write)
        except ValidationFailed as problem:
            write.refuse(problem)
        if write.action and write.current is not None and not row.is_based_on(write.current, self.type):
            write.action = ""
            return False
        return True

    def answers(self, writes: Iterable[BulkWrite]) -> Iterator[dict[str, Any]]:
        """Yield documents as the service has them: without content where this account has none.

        What cannot be told in JSON is left out.
        """
        documents = documents_of(self.type)
        for write in writes:
            record = write.record or write.current
            if record is None:
                yield documents.gone(write.id)
            elif self.type.schema.is_readable(record):
                yield documents.document(record)

    # --- References --------------------------------------------------------------------------------------------------

    def clearable(self, targets: Collection[Target], refused: Collection[str], overdue: Collection[str]) -> set[Target]:
        """Return what is gone, or not to be read, or was refused; raises `Missing` for what may still come."""
        found = {target for target in targets if target[0] is Account}
        for kind in {kind for kind, _ in targets if kind is not Account}:
            type = self.registry.of(kind)
            ids = [id for other, id in targets if other is kind]
            known = taken_ids(type, ids) | (set(refused) if type is self.type else set())
            known |= {id for id in ids if text_of(type, id) in overdue} | self.refused_before(type, ids)
            found |= {(kind, id) for id in ids if id in known}
        if missing := [target for target in targets if target not in found]:
            raise Missing([text_of(self.registry.of(kind), id) for kind, id in missing])
        return found

    def refused_before(self, type: RecordType, ids: Iterable[str]) -> set[str]:
        """Return those of the ids of which a push of this account was refused, or that it has deleted unseen."""
        named = {f"{self.identity.account}/{type.name}/{id}": id for id in ids}
        return {named[row["_id"]] for row in Correction._get_collection().find({"_id": {"$in": [*named]}}, {"_id": 1})}

    def awaited(self) -> dict[str, Any]:
        """Return what this session's documents of the type have been waiting for, and since when."""
        found = AwaitedReference._get_collection().find_one({"_id": self.waiting})
        return {} if found is None else {one["target"]: one["since"] for one in found["awaited"]}

    def await_targets(self, targets: Iterable[str], before: Mapping[str, Any]) -> None:
        """Remember since when this session's documents of the type wait for what they refer to."""
        moment = now()
        awaited = [{"target": target, "since": before.get(target, moment)} for target in islice(targets, MOST_AWAITED)]
        AwaitedReference._get_collection().update_one(
            {"_id": self.waiting},
            {"$set": {"account": self.identity.account, "awaited": awaited, "expires_at": moment + 2 * WAITS_FOR}},
            upsert=True,
        )

    @property
    def waiting(self) -> str:
        """The id of what is remembered of this."""
        return f"{self.identity.session}/{self.type.name}"


class Missing(Exception):
    """Carries out of the transaction what is referred to and has not come."""

    def __init__(self, targets: Sequence[str]) -> None:
        super().__init__()
        self.targets = targets


def text_of(type: RecordType, id: str) -> str:
    """Return a target as text."""
    return f"{type.name}/{id}"


def is_told(row: PushedDocument, write: BulkWrite, conflicting: Collection[PushedDocument]) -> bool:
    """Tell whether the device has a document otherwise than the service, beyond what it gets with its next pull.

    Of an id that is no text it could not be told.
    """
    is_other = row in conflicting or write.problem is not None or write.is_altered
    return is_other and row.id == row.state["id"]


def parse_documents(text: bytes) -> list[PushedDocument]:
    """Return the documents of a body.

    Raises `MalformedJson`, `ValidationFailed` and `TooLarge` for what no document can be made of.
    """
    body, unstorable = decode_rows(text)
    if not isinstance(body, list):
        raise ValidationFailed([Cause("wrong_type", "a list of rows", pointer="")])
    if len(body) > MOST_ROWS:
        raise TooLarge(f"there are more than {MOST_ROWS:,} rows")
    wrong = list(islice((cause for index, row in enumerate(body) for cause in obstacles(index, row)), MOST_CAUSES))
    if wrong:
        raise ValidationFailed(wrong)
    found = {}
    for row in body:
        state, causes = row["newDocumentState"], unstorable(row)[:MOST_ROW_CAUSES]
        id = state["id"].encode(errors="replace").decode() if causes else state["id"]
        found[id] = PushedDocument(id, state, row.get("assumedMasterState"), causes)
    return list(found.values())


def obstacles(index: int, row: Any) -> Iterable[Cause]:
    """Yield why no document can be made of what stands in its place."""
    if not isinstance(row, dict):
        yield Cause("wrong_type", "an object", pointer=pointer(index))
        return
    if not isinstance(row.get("assumedMasterState", {}), dict | None):
        yield Cause("wrong_type", "an object", pointer=pointer(index, "assumedMasterState"))
    state = row.get("newDocumentState")
    if not isinstance(state, dict) or len(state) > MAX_MEMBERS:
        yield Cause("wrong_type", "an object", pointer=pointer(index, "newDocumentState"))
    elif not isinstance(state.get("id"), str):
        yield Cause("wrong_type", "an id", pointer=pointer(index, "newDocumentState", "id"))
