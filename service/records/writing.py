"""Writing records of one type as somebody may: what a write needs beyond its one conditional operation."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core.errors import (
    AlreadyExists,
    Cause,
    DatabaseUnavailable,
    Forbidden,
    NotFound,
    RevisionMismatch,
    ValidationFailed,
    pointer,
)
from service.model.patch import Patch
from service.mongo import transactions
from service.mongo.raw import Raw
from service.policy import Action, may
from service.records import deletion, references, store
from service.records.precondition import NONE, Precondition
from service.records.reading import Reader

MOST_ATTEMPTS = 50


class Writer(Reader):
    """The records of a type that an identity may write."""

    __slots__ = ()

    def create(self, content: Mapping[str, Any]) -> Raw:
        """Store a new record of the identity's and return it.

        Raises `ValidationFailed`, and `pymongo.errors.DuplicateKeyError` when its id is taken.
        """
        self.check_references(content)
        return store.create(self.type, self.identity.account, content)

    def patch(self, id: str, wanted: Patch, precondition: Precondition = NONE) -> Raw:
        """Return the record after a patch, all of it or nothing.

        Raises `NotFound`, `Forbidden`, `RevisionMismatch` or `ValidationFailed`.
        """
        action = self.action_for(wanted.named)
        try:
            self.check_references(wanted.values)
        except ValidationFailed as error:
            raise ValidationFailed(map(wanted.brought, error.causes)) from None
        if wanted.direct:
            condition = {"_id": id, **self.scope(action), **wanted.guard, **precondition.condition}
            record = store.change(self.type, condition, wanted.update)
            if record is not None:
                return record
        return self.computed(id, action, wanted, precondition)

    def computed(self, id: str, action: Action, wanted: Patch, precondition: Precondition) -> Raw:
        """Return the record after a patch that needs the current one: read, apply, write if nobody else did."""
        named = {self.type.schema.fields[name].stored for name in wanted.named}
        for _ in attempts():
            current = self.current(id, action, precondition)
            content = wanted.apply(current)
            self.check_references({name: value for name, value in content.items() if name in named}, current)
            record = self.rewrite(action, current, content)
            if record is not None:
                return record
        raise AssertionError

    def put(self, id: str, content: Raw, sharing: set[str], precondition: Precondition = NONE) -> Raw:
        """Return the record after its replacement by a whole one; it is at revision 1 where it was made.

        Sharing stays as it is but for the fields of it that the client named. Raises `Forbidden`, `AlreadyExists`,
        `RevisionMismatch` or `ValidationFailed`.
        """
        self.check_references(content)
        if precondition.none_match == "*":
            precondition.check_absent()
            return self.create_only(id, content)
        plain = precondition == NONE and not sharing and not self.type.fixed
        for _ in attempts():
            try:
                if plain:
                    condition = {"_id": id, **self.scope("write")}
                    return store.put(self.type, condition, content, self.identity.account)
                record = self.replace(id, content, sharing, precondition)
            except DuplicateKeyError:
                self.refuse_taken(id, "own" if sharing else "write")
            else:
                if record is not None:
                    return record
        raise AssertionError

    def create_only(self, id: str, content: Raw) -> Raw:
        """Store a record that must not be there yet."""
        try:
            return store.create(self.type, self.identity.account, content)
        except DuplicateKeyError:
            if transactions.outside(self.find, id) is None:
                raise AlreadyExists("the id is taken") from None
            raise RevisionMismatch("there is a record with this id") from None

    def replace(self, id: str, content: Raw, sharing: set[str], precondition: Precondition) -> Raw | None:
        """Replace the record that a precondition or new sharing is about; None where it was changed meanwhile.

        Raises `pymongo.errors.DuplicateKeyError` where there is none to read and the id is taken.
        """
        action: Action = "own" if sharing else "write"
        try:
            current = self.current(id, action, precondition)
        except NotFound:
            precondition.check_absent()
            return store.create(self.type, self.identity.account, content)
        self.refuse_change_of_fixed(content, current)
        kept = {name: current.get(name, []) for name in store.SHARING - sharing}
        return self.rewrite(action, current, {**content, **kept})

    def rewrite(self, action: Action, current: Raw, content: Raw) -> Raw | None:
        """Give a record that is still as it was read the whole new `content`; None where it is not."""
        condition = {"_id": current["_id"], **self.scope(action), "revision": current["revision"]}
        return store.rewrite(self.type, condition, content, current["owner"])

    def delete(
        self, id: str, keep: timedelta, precondition: Precondition = NONE, within_transaction: bool = False
    ) -> None:
        """Leave of a record a tombstone for `keep`, after what its delete rules ask for.

        `within_transaction` says that all this is done or undone with what is around it.
        Raises `NotFound`, `Forbidden`, `RevisionMismatch` or `StillReferenced`.
        """
        if self.registry.referrers(self.type):
            self.current(id, "write", precondition)
            deletion.refuse_if_referenced(self.registry, self.type, [id])
            release = partial(deletion.release, self.registry, self.type, [id], keep)
            if within_transaction:
                release()
            else:
                # Outside of the transaction of an idempotency key: it may be large, and done twice it does no harm.
                transactions.outside(release)
        for _ in attempts():
            if store.bury(self.type, {"_id": id, **self.scope("write"), **precondition.condition}, keep):
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
        if transactions.is_active():
            raise DatabaseUnavailable("somebody else made the record at the same moment")

    def refuse_change_of_fixed(self, content: Raw, current: Raw) -> None:
        """Raise `ValidationFailed` where a replacement changes what is said once, at creation."""
        changed = [field for field in self.type.fixed if content.get(field.stored) != current.get(field.stored)]
        if changed:
            raise ValidationFailed(
                Cause("read_only", "what it was at creation", pointer=pointer(field.name)) for field in changed
            )

    def check_references(self, content: Mapping[str, Any], current: Raw | None = None) -> None:
        """Raise `ValidationFailed` where `content` refers to what is not there or may not be read.

        What the `current` record refers to already is not looked at.
        """
        references.check_references(self.registry, self.identity, self.type, content, current)

    def action_for(self, names: Iterable[str]) -> Action:
        """Return what a change of these fields needs: only the owner changes who may see a record."""
        return "own" if any(self.type.schema.fields[name].owner_only for name in names) else "write"


def attempts() -> Iterator[int]:
    """Yield tries of a change that is computed on the current record, while others change it too.

    Raises `DatabaseUnavailable` when all are used up, so that a loop over it ends with success or with a problem.
    """
    yield from range(MOST_ATTEMPTS)
    raise DatabaseUnavailable("the record is changed by too many at once")
