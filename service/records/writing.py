"""Writing records of one type as somebody may: what a write needs beyond its one conditional operation."""

from collections.abc import Callable, Container, Iterable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core.errors import (
    AlreadyExists,
    Cause,
    Forbidden,
    NotFound,
    RevisionMismatch,
    ValidationFailed,
    pointer,
)
from service.core.ids import new_id
from service.model.hooks import BEFORE_CHANGE, BEFORE_CREATE, BEFORE_DELETE
from service.model.patch import Patch
from service.model.record_type import RecordType
from service.mongo import driver, transactions
from service.mongo.raw import Raw
from service.policy import Action, access_list, may
from service.records import before_hooks, deletion, founding, references, search_words, store
from service.records.precondition import NONE, Precondition
from service.records.reading import Reader


class Writer(Reader):
    """The records of a type that an identity may write."""

    __slots__ = ()

    def create(self, content: Mapping[str, Any]) -> Raw:
        """Store a new record of the identity's and return it. Raises `ValidationFailed` or `AlreadyExists`."""

        def write() -> Raw:
            self.check_references(content)
            self.check_groups(None, content)
            try:
                return self.make(content)
            except DuplicateKeyError:
                cause = Cause("not_unique", "an id that no record has or had", pointer=pointer("id"))
                raise AlreadyExists("the id is taken", [cause]) from None

        return self.referring(content, write)

    def make(self, content: Mapping[str, Any]) -> Raw:
        """Store a new record with `content`, as a hook leaves it; raises as `store.create` does, and `Forbidden`."""
        if BYTES not in content:
            refuse_file(self.type)
        if BEFORE_CREATE in self.type.hooks:
            content = {"_id": new_id(), **content}
            changes = before_hooks.on_creation(self.type, self.identity, content)
            self.check_changes(changes)
            content = store.Edit(content, changes).content
        return store.create(self.type, self.identity.account, content)

    def check_changes(self, changes: Mapping[str, Any], current: Raw | None = None) -> None:
        """Refuse, of the values that a hook has given to fields, what a body could not hold. Raises `ValidationFailed`.

        What it refers to has to be there for the one who writes, who has to be in the groups that it names.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        self.check_references(given, current)
        self.check_groups(None if current is None else current["_id"], given)

    def referring(self, names: Container[str], write: Callable[[], Raw]) -> Raw:
        """Do a write of the fields that are stored under `names`, and the look at the references in them.

        It is one transaction where a record that they refer to has to know of it, and where a group may be founded.
        """
        held = self.type.is_group or any(
            # What a hook will name nobody knows.
            reference.place.root.stored in names or self.type.hooks
            for reference in self.registry.holding(self.type)
        )
        return transactions.run_where_there_are(write) if held else write()

    def patch(self, id: str, wanted: Patch, precondition: Precondition = NONE) -> Raw:
        """Return the record after a patch, all of it or nothing.

        Raises `NotFound`, `Forbidden`, `AlreadyExists`, `RevisionMismatch` or `ValidationFailed`.
        """
        named = {self.type.schema.fields[name].stored for name in wanted.named}
        return self.referring(named, lambda: self.patched(id, wanted, precondition, named))

    def patched(self, id: str, wanted: Patch, precondition: Precondition, named: set[str]) -> Raw:
        """Return the record after a patch of the fields that are stored under the names `named`."""
        try:
            self.check_references(wanted.values)
            self.check_groups(id, wanted.values)
        except ValidationFailed as error:
            raise ValidationFailed(map(wanted.brought, error.causes)) from None
        action = self.action_for(wanted.named)
        try:
            return self.direct(id, action, wanted, precondition) or self.computed(
                id, action, wanted, precondition, named
            )
        except AlreadyExists as error:
            raise AlreadyExists(error.detail, wanted.of_named(error.causes)) from None

    def direct(self, id: str, action: Action, wanted: Patch, precondition: Precondition) -> Raw | None:
        """Return the record after a patch by one operation; None where that cannot be, or conditions do not hold."""
        if not wanted.direct or BEFORE_CHANGE in self.type.hooks:
            return None
        allowed = self.scope(action)
        if texts := search_words.touched(self.type, wanted.update):
            if None in texts.values():
                return None
            # Most are the own and given to nobody, which says all that the scope does. Of any other one has to know
            # who may find it.
            allowed = {"access": access_list(str(self.identity), {})}
        condition = {"_id": id, **allowed, **wanted.guard, **precondition.condition}
        try:
            return store.change(self.type, condition, wanted.update, wanted.values)
        except ValidationFailed as error:
            raise ValidationFailed(map(wanted.brought, error.causes)) from error

    def computed(self, id: str, action: Action, wanted: Patch, precondition: Precondition, named: set[str]) -> Raw:
        """Return the record after a patch that needs the current one: read, apply, write if nobody else did."""
        for _ in store.attempts():
            current = self.current(id, action, precondition)
            content = wanted.apply(current)
            try:
                self.check_references({name: value for name, value in content.items() if name in named}, current)
                record = self.rewrite(action, current, content)
            except ValidationFailed as error:
                raise ValidationFailed(map(wanted.placed, error.causes)) from error
            if record is not None:
                return record
        raise AssertionError

    def put(self, id: str, content: Raw, own: set[str], precondition: Precondition = NONE) -> Raw:
        """Return the record after its replacement by a whole one; it is at revision 1 where it was made.

        `own` are the stored names of those fields that only the owner writes and the client named; the others of them
        stay as they are. Raises `Forbidden`, `AlreadyExists`,
        `RevisionMismatch` or `ValidationFailed`.
        """
        return self.referring(content, lambda: self.replaced(id, content, own, precondition))

    def replaced(self, id: str, content: Raw, own: set[str], precondition: Precondition) -> Raw:
        """Return the record after its replacement."""
        self.check_groups(id, content)
        try:
            self.check_references(content)
        except ValidationFailed:
            # What the record refers to already is not asked again.
            self.check_references(content, self.find(id))
        if transactions.is_active() and self.is_buried(id):
            # The transaction may have done it itself: then a duplicate would be somebody else's for ever.
            raise AlreadyExists("the id was that of a record that is deleted")
        if precondition.none_match == "*":
            precondition.check_absent()
            return self.create_only(id, content)
        needs_look = self.type.fixed or self.type.search or self.type.hooks or self.type.is_group or self.type.is_file
        plain = precondition == NONE and not own and not needs_look
        for _ in store.attempts():
            try:
                if plain:
                    condition = {"_id": id, **self.scope("write")}
                    return store.put(self.type, condition, content, self.identity.account)
                record = self.replace(id, content, own, precondition)
            except DuplicateKeyError as error:
                self.refuse_taken(id, "own" if own else "write")
                if transactions.is_active():
                    # Somebody else has made the record since this transaction began; the next one sees it.
                    transactions.try_again(error)
            else:
                if record is not None:
                    return record
        raise AssertionError

    def create_only(self, id: str, content: Raw) -> Raw:
        """Store a record that must not be there yet."""
        try:
            return self.make(content)
        except DuplicateKeyError:
            if transactions.outside(self.find, id) is None:
                raise AlreadyExists("the id is taken") from None
            raise RevisionMismatch("there is a record with this id") from None

    def replace(self, id: str, content: Raw, own: set[str], precondition: Precondition) -> Raw | None:
        """Replace the record that a precondition or new sharing is about; None where it was changed meanwhile.

        Raises `pymongo.errors.DuplicateKeyError` where there is none to read and the id is taken.
        """
        action: Action = "own" if own else "write"
        try:
            current = self.current(id, action, precondition)
        except NotFound:
            precondition.check_absent()
            return self.make(content)
        self.refuse_change_of_fixed(content, current)
        kept = self.type.schema.owner_only - own
        brought = {name: value for name, value in content.items() if name not in kept}
        return self.rewrite(action, current, {**brought, **{name: current[name] for name in kept & current.keys()}})

    def rewrite(self, action: Action, current: Raw, content: Raw) -> Raw | None:
        """Give a record that is still as it was read the whole new `content`; None where it is not."""
        condition = {"_id": current["_id"], **self.scope(action), "revision": current["revision"]}
        if BEFORE_CHANGE not in self.type.hooks:
            return store.rewrite(self.type, condition, content, current)
        values = {name: content.get(name) for name in self.type.given}
        changes = before_hooks.on_change(self.type, self.identity, current, store.Edit(current, values).after)
        self.check_changes(changes, current)
        return store.change_one(self.type, condition, store.Edit(current, {**values, **changes}))

    def delete(
        self, id: str, keep: timedelta, precondition: Precondition = NONE, within_transaction: bool = False
    ) -> None:
        """Leave of a record a tombstone for `keep`, and do to what refers to it what its delete rules ask for.

        `within_transaction` says that all this is done or undone with what is around it.
        Raises `NotFound`, `Forbidden`, `RevisionMismatch` or `StillReferenced`.
        """
        if not self.registry.is_released(self.type):
            return self.bury(id, keep, precondition)
        if within_transaction or self.registry.is_kept(self.type):
            return transactions.run_where_there_are(partial(self.delete_at_once, id, keep, precondition))
        self.bury(id, keep, precondition)
        # After the transaction of an idempotency key: it may be large, and done twice it does no harm.
        return transactions.afterwards(partial(deletion.release_or_leave, self.registry, self.type, [id], keep))

    def delete_at_once(self, id: str, keep: timedelta, precondition: Precondition) -> None:
        """Delete a record with all that follows from it, if that is not too much for one transaction."""
        self.current(id, "write", precondition)
        deletion.survey(self.registry, self.type, [id])
        self.bury(id, keep, precondition)
        deletion.release(self.registry, self.type, [id], keep)

    def bury(self, id: str, keep: timedelta, precondition: Precondition) -> None:
        """Leave of a record a tombstone, or raise what stands in the way of it."""
        for _ in store.attempts():
            condition = {"_id": id, **self.scope("write"), **precondition.condition}
            if BEFORE_DELETE in self.type.hooks:
                current = self.current(id, "write", precondition)
                before_hooks.on_deletion(self.type, self.identity, current)
                condition["revision"] = current["revision"]
            if deletion.bury_for_release(self.registry, self.type, condition, keep):
                return
            self.current(id, "write", precondition)

    # --- What stands in the way ---

    def current(self, id: str, action: Action, precondition: Precondition) -> Raw:
        """Return the record with which the identity may do `action`; raises what stands in the way of it."""
        record = self.find(id)
        if record is None:
            raise NotFound("there is no such record")
        if not may(self.identity, action, record):
            raise Forbidden("you may read this record, but not do that to it")
        precondition.check(record["revision"])
        return record

    def refuse_taken(self, id: str, action: Action) -> None:
        """Raise why no record can be made under this id; return where it can be replaced, for it was just made."""
        # In a transaction a duplicate has undone it already, and nothing more can be read in it.
        record = transactions.outside(self.find, id)
        if record is None:
            raise AlreadyExists("the id is taken")
        if not may(self.identity, action, record):
            raise Forbidden("you may read this record, but not write it")

    def is_buried(self, id: str) -> bool:
        """Tell whether what has this id is a tombstone."""
        return driver.find_one(self.type.collection, {"_id": id, "purge_at": {"$exists": True}}, {"_id": 1}) is not None

    def refuse_change_of_fixed(self, content: Raw, current: Raw) -> None:
        """Raise `ValidationFailed` where a replacement changes what is said once, at creation."""
        changed = [field for field in self.type.fixed if field.value_in(content) != field.value_in(current)]
        if changed:
            raise ValidationFailed(
                Cause("read_only", "what it was at creation", pointer=pointer(field.name)) for field in changed
            )

    def check_references(self, content: Mapping[str, Any], current: Raw | None = None) -> None:
        """Raise `ValidationFailed` where `content` refers to what is not there or may not be read.

        What the `current` record refers to already is not looked at.
        """
        references.check_references(self.registry, self.identity, self.type, content, current)

    def check_groups(self, id: str | None, content: Mapping[str, Any]) -> None:
        """Raise `ValidationFailed` where `content` gives a record to a group of which the identity is no member.

        What the record that has this id is given to already may stay.
        """
        if not founding.missing_groups(self.identity.account, content):
            return
        current = None if id is None else self.find(id)
        if missing := founding.missing_groups(self.identity.account, content, current):
            raise ValidationFailed(missing)

    def action_for(self, names: Iterable[str]) -> Action:
        """Return what a change of these fields needs: only the owner changes who may see a record."""
        return "own" if any(self.type.schema.fields[name].owner_only for name in names) else "write"


BYTES = "blob"
"""What of a file only an upload can say: where its bytes are."""


def refuse_file(type: RecordType) -> None:
    """Raise `Forbidden` where records of a type are made by an upload alone."""
    if type.is_file:
        raise Forbidden("a file is made by its bytes: send them to POST /v1/files or to /v1/uploads")
