"""The record types of one app."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mongoengine import CASCADE, DENY, DO_NOTHING

from service.documents import SYSTEM, Account
from service.documents.record import Record
from service.model.fields import InvalidDocument
from service.model.record_type import RecordType, Reference, derive

Referrer = tuple[RecordType, Reference]
TAKEN_PATHS = frozenset(
    {
        *("accounts", "batch", "changes", "live", "sync", "invitations", "functions", "uploads", "admin"),
        *("account", "memberships", "push", "identities", "passkeys", "second_factor"),
    }
)
"""Paths under `/v1` that are none of a record type, and what an export has beside records."""


class Registry(Mapping[str, RecordType]):
    """The record types that an app serves, by name, in the order of their declaration.

    Raises `InvalidDocument` or `UnsupportedField` for document classes that cannot be served.
    """

    def __init__(self, documents: Sequence[type[Record]]) -> None:
        self.documents = tuple(documents)
        self.types: dict[str, RecordType] = {}
        for document in documents:
            self.add(derive(document))
        self.by_document = {type.document: type for type in self.types.values()}
        self.check_targets()
        self.referring = {document: tuple(self.find_referrers(document)) for document in (*self.documents, Account)}
        self.minding = {document: tuple(filter(has_rule, found)) for document, found in self.referring.items()}
        self.kept = frozenset(document for document in self.documents if self.finds_keeper(document))
        self.held = {type: tuple(self.find_held(type)) for type in self.types.values()}

    def add(self, type: RecordType) -> None:
        """Add a record type; raises `InvalidDocument` where its name is that of something else."""
        name = f"{type.document.__name__} has the collection {type.name!r}"
        if type.name in self.types:
            other = self.types[type.name].document
            if other is type.document:
                raise InvalidDocument(f"{type.document.__name__} is listed twice as a record type")
            raise InvalidDocument(f"{name}, and so has {other.__name__}")
        for system in SYSTEM:
            if system._get_collection_name() == type.name:
                raise InvalidDocument(f"{name}, in which the service keeps {system.__name__}")
        if type.name in TAKEN_PATHS:
            raise InvalidDocument(f"{name}, but the path /v1/{type.name} is taken")
        self.types[type.name] = type

    def __getitem__(self, name: str) -> RecordType:
        return self.types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.types)

    def __len__(self) -> int:
        return len(self.types)

    def of(self, document: Any) -> RecordType:
        """Return the record type of a document class."""
        return self.by_document[document]

    def referrers(self, target: RecordType) -> tuple[Referrer, ...]:
        """Return the types with references to `target`, and these references."""
        return self.referring[target.document]

    def bound(self, target: RecordType) -> tuple[Referrer, ...]:
        """Return those of the references to `target` that a deletion minds."""
        return self.minding[target.document]

    def is_released(self, target: RecordType) -> bool:
        """Tell whether something has to be done elsewhere when a record of `target` is deleted."""
        return target.is_group or bool(self.bound(target))

    def is_kept(self, target: RecordType) -> bool:
        """Tell whether a rule may keep a record of `target`, or one that goes with it, while another refers to it."""
        return target.document in self.kept

    def holding(self, type: RecordType) -> tuple[Reference, ...]:
        """Return the references of a type whose target, while it is deleted, must not miss one for a moment.

        Such a target is deleted in one transaction, after a look at all that keeps it or goes with it. So what comes to
        refer to it is written in one as well, together with a write to the target: of the two MongoDB refuses one.
        """
        return self.held[type]

    @property
    def account_referrers(self) -> tuple[Referrer, ...]:
        """Return the types with references to accounts, and these references."""
        return self.referring[Account]

    def check_targets(self) -> None:
        """Raise `InvalidDocument` for a reference to what is no record type of this app."""
        for type in self.types.values():
            for name, reference in type.references.items():
                if reference.target not in self.by_document and reference.target is not Account:
                    raise InvalidDocument(
                        f"{type.document.__name__}.{name} refers to {reference.target.__name__}, "
                        "which is no record type here: list it in RECORDS"
                    )

    def find_referrers(self, document: Any) -> Iterator[Referrer]:
        """Yield the types with references to a document class, and these references."""
        for type in self.types.values():
            for reference in type.references.values():
                if reference.target is document:
                    yield type, reference

    def finds_keeper(self, document: Any) -> bool:
        """Tell whether a reference that keeps what it points to leads to a class, or to one that goes with it."""
        seen, rest = {document}, [document]
        while rest:
            for other, reference in self.minding[rest.pop()]:
                if reference.delete_rule == DENY:
                    return True
                if reference.delete_rule == CASCADE and other.document not in seen:
                    seen.add(other.document)
                    rest.append(other.document)
        return False

    def find_held(self, type: RecordType) -> Iterator[Reference]:
        """Yield the references of a type to what is deleted in one transaction with all that follows."""
        for reference in type.references.values():
            if reference.delete_rule in (DENY, CASCADE) and reference.target in self.kept:
                yield reference


def has_rule(referrer: Referrer) -> bool:
    """Tell whether something happens to a reference when its target is deleted."""
    return bool(referrer[1].delete_rule != DO_NOTHING)
