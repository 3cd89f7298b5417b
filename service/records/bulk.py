"""Many writes of one identity as a part of one transaction: what is wrong with one of them does not stop the others."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, Literal, TypeVar

import bson
from mongoengine import CASCADE, DENY
from pymongo.errors import BulkWriteError, OperationFailure

from service.core.errors import (
    AlreadyExists,
    Cause,
    Forbidden,
    Problem,
    StillReferenced,
    TooLarge,
    ValidationFailed,
    pointer,
)
from service.model.hooks import BEFORE_CHANGE, BEFORE_CREATE, BEFORE_DELETE
from service.model.load import check_rules
from service.model.record_type import RecordType, Reference
from service.model.registry import Registry
from service.model.unique import Unique
from service.model.validation import validate
from service.mongo import driver, transactions
from service.mongo.raw import STANDARD, Raw, in_bson
from service.policy import Action, Identity, may, scope
from service.records import before_hooks, deletion, founding, references, refusals, store
from service.records.writing import refuse_file

AT_ONCE = 200
"""Most documents of one query."""
MOST_READ = 64 * 1024 * 1024
"""Most bytes of records as they are before: a client sends whole ones, so they are about as large as what it sends."""
LARGEST = 16 * 1024 * 1024 - 64 * 1024
"""Most bytes of a record, with room for its stamps; MongoDB stores 16 MiB."""
One = TypeVar("One")
Target = tuple[Any, str]
"""The class of what is referred to, and an id."""
Clearable = Callable[[Collection[Target]], Collection[Target]]
"""Tells of what is referred to and not there which of it a reference may be cleared of; another one is refused."""


@dataclass(slots=True, eq=False)
class BulkWrite:
    """What is to become of one record: `values`, in JSON form by field, of fields that a client says; None deletes it.

    `current` is the record as the identity may read it; where there is none, the id may be `taken`. `action` is what is
    done in the end, "" for nothing, with `content` as what is stored; `problem` is why nothing is, and `record` the
    record afterwards. `is_altered` says that something else is stored than was asked for.
    """

    type: RecordType
    id: str
    values: Mapping[str, Any] | None
    current: Raw | None = None
    taken: bool = False
    action: Literal["create", "change", "delete", ""] = ""
    content: Raw = field(default_factory=dict)
    problem: Problem | None = None
    record: Raw | None = None
    is_altered: bool = False

    @property
    def after(self) -> Raw:
        """The record as it will be, without what the server sets."""
        return self.content if self.current is None else store.Edit(self.current, self.content).after

    def refuse(self, problem: Problem) -> None:
        """Leave the record as it is."""
        self.problem, self.action = problem, ""


class Bulk:
    """The records of all types, as an identity may write many of them at once: `read`, `prepare`, then `store`.

    `clearable` decides about references to what is not there, and is not `planned` to come after these; a deleted
    record leaves a tombstone for `keep`.
    """

    def __init__(
        self,
        registry: Registry,
        identity: Identity,
        keep: timedelta,
        clearable: Clearable,
        planned: Collection[Target] = (),
    ) -> None:
        self.registry, self.identity, self.keep, self.clearable = registry, identity, keep, clearable
        self.planned = frozenset(planned)
        self.founded = 0

    def read(self, writes: Iterable[BulkWrite]) -> None:
        """Find out what there is now; raises `TooLarge` where that is more than is held in memory."""
        size = 0
        for type, own in by_type(writes):
            for some in in_parts(own):
                found = self.readable(type, [write.id for write in some])
                size += sum(len(in_bson(record)) for record in found.values())
                if size > MOST_READ:
                    raise TooLarge("the records that are written are too large to be written at once")
                taken = taken_ids(type, [write.id for write in some if write.id not in found])
                for write in some:
                    write.current, write.taken = found.get(write.id), write.id in taken

    def readable(self, type: RecordType, ids: Sequence[str]) -> dict[str, Raw]:
        """Return those of the records named that the identity may read, by id."""
        condition = {"_id": {"$in": ids}, **scope(self.identity, "read", type)}
        return {row["_id"]: row for row in driver.find(type.collection, condition, type.unread)}

    def prepare(self, writes: Iterable[BulkWrite]) -> None:
        """Decide what to do about each record, by itself; what cannot be done has a problem then."""
        for write in writes:
            self.decide(write)

    def store(self, writes: Sequence[BulkWrite]) -> None:
        """Do all that was decided and can be done together; what cannot be has a problem then.

        What is released from deleted records is so when the transaction is committed.
        """
        self.run_hooks(writes)
        self.check_groups(writes)
        self.check_references(writes)
        for type, own in by_type(writes):
            for unique in type.uniques:
                self.refuse_taken_values(unique, type, [one for one in own if one.action in ("create", "change")])
        try:
            self.put(writes)
        except BulkWriteError as error:
            # Somebody else has stored it since this transaction began, or MongoDB refuses it: the next one knows.
            transactions.try_again(error)

    # --- One record --------------------------------------------------------------------------------------------------

    def decide(self, write: BulkWrite) -> None:
        """Decide what to do about one record, or find what stands in the way."""
        try:
            if write.values is None:
                self.decide_deletion(write)
            elif write.current is None:
                self.decide_creation(write, write.values)
            else:
                self.decide_change(write, write.values, write.current)
            check_size(write)
            if (refused := transactions.findings().get((write.type.name, write.id))) is not None:
                raise refused
        except Problem as problem:
            write.refuse(problem)

    def decide_deletion(self, write: BulkWrite) -> None:
        """Decide about a deletion; of what is not there it is done already."""
        if write.current is not None:
            self.admit("write", write.current)
            write.action = "delete"

    def decide_creation(self, write: BulkWrite, values: Mapping[str, Any]) -> None:
        """Decide about a record that is not there."""
        refuse_file(write.type)
        content = write.type.schema.load({**values, "id": write.id})
        if write.taken:
            raise AlreadyExists("the id is taken", [Cause("not_unique", "an id that no record has", pointer="/id")])
        if write.type.is_group:
            self.founded += 1
            founding.check_room(self.identity.account, self.founded)
        write.content, write.action = content, "create"

    def decide_change(self, write: BulkWrite, values: Mapping[str, Any], current: Raw) -> None:
        """Decide about a record that is there; where nothing would change, nothing is asked."""
        fields = write.type.schema.fields
        given = {name: value for name, value in values.items() if not fields[name].fixed}
        checked = {**validate(write.type.schema.patch_body, given), **checked_fixed(write.type, values, current)}
        changed: set[str] = set()
        for name, value in checked.items():
            stored = fields[name].default() if value is None else value
            write.is_altered |= value is None and stored is not None
            if not is_stored_alike(stored, fields[name].value_in(current)):
                write.content[fields[name].stored] = stored
                changed.add(name)
        if not changed:
            return
        if said_once := [name for name in changed if fields[name].fixed]:
            raise ValidationFailed(Cause("read_only", "what it was at creation", pointer=pointer(n)) for n in said_once)
        self.admit("own" if any(fields[name].owner_only for name in changed) else "write", current)
        if write.type.schema.has_rules:
            check_rules(write.type.document, write.after)
        write.action = "change"

    def admit(self, action: Action, current: Raw) -> None:
        """Raise `Forbidden` where the identity may read a record, but not do that to it."""
        if not may(self.identity, action, current):
            raise Forbidden("you may read this record, but not do that to it")

    # --- Hooks -------------------------------------------------------------------------------------------------------

    def run_hooks(self, writes: Iterable[BulkWrite]) -> None:
        """Run the hooks of what was decided: not before, for a large push is decided about twice.

        A problem of one refuses that record alone; raises `HookFailed` where one has a bug.
        """
        for write in writes:
            if write.action and write.type.hooks:
                try:
                    self.run_hook(write)
                    check_size(write)
                except Problem as problem:
                    write.refuse(problem)

    def run_hook(self, write: BulkWrite) -> None:
        """Run the hook of one record, if there is one, and take over what it changes."""
        hooks, changes, current = write.type.hooks, Raw(), write.current or {}
        if write.action == "create" and BEFORE_CREATE in hooks:
            changes = before_hooks.on_creation(write.type, self.identity, write.content)
            write.content = store.Edit(write.content, changes).content
        elif write.action == "change" and BEFORE_CHANGE in hooks:
            changes = before_hooks.on_change(write.type, self.identity, current, write.after)
            write.content |= changes
        elif write.action == "delete" and BEFORE_DELETE in hooks:
            before_hooks.on_deletion(write.type, self.identity, current)
        write.is_altered |= bool(changes)

    # --- Groups and references ----------------------------------------------------------------------------------------

    def check_groups(self, writes: Sequence[BulkWrite]) -> None:
        """Refuse what gives a record to a group of which the identity is no member; one that it founds here is fine."""
        founded = {write.id for write in writes if write.type.is_group and write.action == "create"}
        for write in writes:
            if write.action:
                missing = founding.missing_groups(self.identity.account, write.content, write.current, founded)
                if missing:
                    write.refuse(ValidationFailed(missing))

    def check_references(self, writes: Sequence[BulkWrite]) -> None:
        """Refuse or clear references to what is not there; what is created here at the same time is."""
        pointing = {write: named for write in writes if (named := targets_of(write))}
        there = self.existing({target for named in pointing.values() for target in named})
        refused = True
        while refused:
            # One that is refused may be what another refers to.
            there_now = self.there(writes, there)
            missing = {target for write, named in pointing.items() if write.action for target in named} - there_now
            cleared = self.clearable(missing) if missing else ()
            refused = False
            for write, named in pointing.items():
                gone = set(named) - there_now
                if write.action and gone:
                    refused = clear_or_refuse(write, gone, cleared) or refused
                    pointing[write] = targets_of(write)
        self.touch(writes)

    def existing(self, targets: Collection[Target]) -> set[Target]:
        """Return those of the targets that the identity may read, or that are accounts."""
        found: set[Target] = set()
        for kind in {kind for kind, _ in targets}:
            ids = [id for other, id in targets if other is kind]
            for some in in_parts(ids):
                found |= {(kind, id) for id in references.existing_targets(self.registry, self.identity, kind, some)}
        return found

    def there(self, writes: Iterable[BulkWrite], existing: set[Target]) -> set[Target]:
        """Return what there will be to refer to."""
        created = {(write.type.document, write.id) for write in writes if write.action == "create"}
        deleted = {(write.type.document, write.id) for write in writes if write.action == "delete"}
        return (existing - deleted) | created | self.planned

    def touch(self, writes: Iterable[BulkWrite]) -> None:
        """Write to what must not be deleted at this moment without a look at who refers to it."""
        touched: dict[RecordType, set[str]] = {}
        for write in writes:
            for reference in self.registry.holding(write.type) if write.action else ():
                ids = {id for _, id in references.new_values(reference, write.content, write.current or {})}
                touched.setdefault(self.registry.of(reference.target), set()).update(ids)
        for type, ids in touched.items():
            if ids:
                store.touch(type, sorted(ids))

    def refuse_taken_values(self, unique: Unique, type: RecordType, writes: Sequence[BulkWrite]) -> None:
        """Refuse what would give a record the unique values of another, stored or written at the same time."""
        wanted: dict[bytes, BulkWrite] = {}
        for write in writes:
            values = unique_values(unique, {"owner": self.identity.account, **write.after})
            if values is not None and wanted.setdefault(values, write) is not write:
                write.refuse(unique.problem())
        for some in in_parts(list(wanted)):
            for row in type.collection.find({"$or": [bson.decode(values, STANDARD) for values in some]}):
                write = wanted[unique_values(unique, row) or b""]
                if write.id != row["_id"]:
                    write.refuse(unique.problem())

    # --- Storing -----------------------------------------------------------------------------------------------------

    def put(self, writes: Sequence[BulkWrite]) -> None:
        """Store what was decided: first what is new, last what goes, so that rules about references see the others."""
        for type, own in by_type(writes):
            for some in in_parts([write for write in own if write.action == "create"]):
                with learning(some):
                    made = store.create_many(type, self.identity.account, [write.content for write in some])
                for write, record in zip(some, made, strict=True):
                    write.record = record
        for type, own in by_type(writes):
            for some in in_parts([write for write in own if write.action == "change"]):
                edits = [store.Edit(write.current or {}, write.content) for write in some]
                with learning(some):
                    changed = store.change_each(type, edits)
                for write, record in zip(some, changed, strict=True):
                    write.record = record
        going = [write for write in writes if write.action == "delete"]
        for type, own in by_type(going):
            if not self.registry.is_kept(type):
                self.delete(type, own)
        self.delete_kept([write for write in going if self.registry.is_kept(write.type)])

    def delete(self, type: RecordType, writes: Sequence[BulkWrite]) -> None:
        """Leave tombstones; what refers to the records is released after the transaction."""
        bound = self.registry.is_released(type)
        for some in in_parts(writes):
            store.bury_many(type, [write.current or {} for write in some], self.keep, going=bound)
        if bound:
            ids = [write.id for write in writes]
            transactions.afterwards(partial(deletion.release_or_leave, self.registry, type, ids, self.keep))

    def delete_kept(self, writes: list[BulkWrite]) -> None:
        """Delete records that others may keep, as far as these do not: some of them may go here too."""
        left = writes
        while left:
            kept = [write for write in left if not self.is_deleted(write)]
            if len(kept) == len(left):
                return
            left = kept

    def is_deleted(self, write: BulkWrite) -> bool:
        """Delete a record with all that follows from it; where others keep it, say so."""
        try:
            deletion.survey(self.registry, write.type, [write.id])
        except StillReferenced as problem:
            write.problem = problem
            return False
        write.problem = None
        store.bury_many(write.type, [write.current or {}], self.keep, going=True)
        deletion.release(self.registry, write.type, [write.id], self.keep)
        return True


def check_size(write: BulkWrite) -> None:
    """Raise `TooLarge` for a record that would be larger than MongoDB stores."""
    if write.action in ("create", "change") and len(in_bson(write.after)) > LARGEST:
        raise TooLarge("the record would be larger than MongoDB stores")


@contextmanager
def learning(writes: Sequence[BulkWrite]) -> Iterator[None]:
    """Remember for the next try of the transaction which writes of the block MongoDB refuses, and why."""
    try:
        yield
    except BulkWriteError as error:
        (told,) = error.details["writeErrors"]
        refusal = OperationFailure(told["errmsg"], told["code"], told)
        # It ends at the first. Of shapes the others can be told at once, and not try by try.
        of_shape = told["code"] in refusals.OF_SHAPES
        for write in writes[told["index"] :] if of_shape else [writes[told["index"]]]:
            refused = refusals.refused(write.type, refusal, write.content)
            if isinstance(refused, ValidationFailed) and not (of_shape and refused.causes[0].pointer == ""):
                transactions.findings()[write.type.name, write.id] = refused
        raise


def by_type(writes: Iterable[BulkWrite]) -> list[tuple[RecordType, list[BulkWrite]]]:
    """Return the writes of each type."""
    found: dict[RecordType, list[BulkWrite]] = {}
    for write in writes:
        found.setdefault(write.type, []).append(write)
    return list(found.items())


def in_parts(members: Sequence[One]) -> Iterator[Sequence[One]]:
    """Yield parts of what is asked for, none so large that it would need much memory."""
    for begin in range(0, len(members), AT_ONCE):
        yield members[begin : begin + AT_ONCE]


def taken_ids(type: RecordType, ids: Sequence[str]) -> set[str]:
    """Return those of the ids that somebody's record has, or a tombstone."""
    return {row["_id"] for row in driver.find(type.collection, {"_id": {"$in": ids}}, {"_id": 1})} if ids else set()


def checked_fixed(type: RecordType, values: Mapping[str, Any], current: Raw) -> Raw:
    """Return, checked, what is said of the fields that are said once."""
    named = [field for field in type.fixed if field.name in values]
    return {
        field.name: values[field.name]
        if values[field.name] is None
        else validate(type.schema.value(field), values[field.name], field.name)
        for field in named
    }


def is_stored_alike(one: Any, other: Any) -> bool:
    """Tell whether two values are stored in the same way; to Python, 1 and true are."""
    return bool(one == other) and in_bson({"": one}) == in_bson({"": other})


def targets_of(write: BulkWrite) -> list[Target]:
    """Return what a record comes to refer to."""
    if not write.action or not write.type.references:
        return []
    named = references.named_targets(write.type, write.content, write.current or {})
    return [(kind, id) for kind, pointed in named.items() for _, id in pointed]


def clear_or_refuse(write: BulkWrite, gone: set[Target], cleared: Collection[Target]) -> bool:
    """Take references to what is gone out of what is written, or refuse it where that cannot be; tell whether it is."""
    left: list[Cause] = []
    for reference in write.type.references.values():
        place, target = reference.place, reference.target
        new = references.new_values(reference, write.content, write.current or {})
        missing = [(spot, id) for spot, id in new if (target, id) in gone]
        if not can_be_cleared(reference):
            left += (references.missing(target, spot) for spot, _ in missing)
            continue
        left += (references.missing(target, spot) for spot, id in missing if (target, id) not in cleared)
        root = place.root.stored
        if ids := {id for _, id in missing if (target, id) in cleared}:
            write.is_altered = True
            write.content[root] = place.without({root: write.content[root]}, ids).get(root)
    if left:
        write.refuse(ValidationFailed(left))
    return bool(left)


def can_be_cleared(reference: Reference) -> bool:
    """Tell whether a reference may become empty when what it points to is gone, as its delete rule would have it."""
    place = reference.place
    is_kept = reference.delete_rule in (CASCADE, DENY) or place.members[-1].is_required or place.is_in_map
    return not is_kept


def unique_values(unique: Unique, record: Raw) -> bytes | None:
    """Return what a record has that no other may have, as BSON by stored path; None where it lacks a part of that."""
    found = {place.stored: value for place in unique.places for _, value in place.stored_values(record)}
    return in_bson(found) if len(found) == len(unique.places) else None
