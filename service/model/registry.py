"""The record types of one app."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.documents.account import Account
from service.documents.record import Record
from service.model.fields import InvalidDocument
from service.model.record_type import RecordType, Reference, derive

Referrer = tuple[RecordType, Reference]


class Registry(Mapping[str, RecordType]):
    """The record types that an app serves, by name, in the order of their declaration.

    Raises `InvalidDocument` or `UnsupportedField` for document classes that cannot be served.
    """

    def __init__(self, documents: Sequence[type[Record]]) -> None:
        self.documents = tuple(documents)
        self.types = {(type := derive(document)).name: type for document in documents}
        self.by_document = {type.document: type for type in self.types.values()}
        self.check_targets()
        self.referring = {document: tuple(self.find_referrers(document)) for document in (*self.documents, Account)}

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
