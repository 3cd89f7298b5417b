"""One field of a document, as its class declares it: what clients, MongoDB and the API document go by."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mongoengine import DO_NOTHING
from mongoengine import fields as me
from mongoengine.base import BaseDocument, BaseField, ComplexBaseField, GeoJsonBaseField
from mongoengine.errors import NotRegistered

from service.model.collation import Collation, collation_of
from service.model.fields import InvalidDocument, Meaning, UnsupportedField, meaning, named

Document = type[BaseDocument]


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """What a document says of one of its fields.

    `name` is what clients call it, `stored` what MongoDB does. `entry` is the field of what a list or a map holds,
    `members` are those of the embedded document that the field is. A client may not write what is `read_only`, says
    once what is `fixed`, and only the owner of a record writes what is `owner_only`. A sort by it goes by the alphabet
    of its `collation`.
    """

    name: str
    stored: str
    declared: BaseField
    meaning: Meaning
    entry: "Field | None"
    document: Document | None
    members: Mapping[str, "Field"]
    read_only: bool
    fixed: bool
    owner_only: bool
    collation: Collation | None

    @property
    def is_text(self) -> bool:
        """Tell whether it holds one text."""
        return isinstance(self.meaning.lowest, str)

    @property
    def is_list(self) -> bool:
        """Tell whether it holds several values."""
        return isinstance(self.declared, me.ListField)

    @property
    def is_map(self) -> bool:
        """Tell whether it holds values by keys that clients choose, all of one kind."""
        return isinstance(self.declared, me.DictField) and self.entry is not None

    @property
    def is_object(self) -> bool:
        """Tell whether it is a JSON object that a merge patch goes into."""
        return isinstance(self.declared, me.EmbeddedDocumentField | me.DictField) or self.is_geometry

    @property
    def is_geometry(self) -> bool:
        """Tell whether it is a geometry of GeoJSON (RFC 7946), which has two members."""
        return isinstance(self.declared, GeoJsonBaseField)

    @property
    def is_id(self) -> bool:
        """Tell whether it is the id of the document."""
        return bool(self.declared.primary_key)

    @property
    def is_required(self) -> bool:
        """Tell whether it has to have a value."""
        return bool(self.declared.required)

    @property
    def is_named_at_creation(self) -> bool:
        """Tell whether a new document has to name it: it is required and has no default."""
        empty = self.declared.default is None or self.is_list or isinstance(self.declared, me.DictField)
        return self.is_required and empty and not self.read_only and not self.is_id

    @property
    def is_nullable(self) -> bool:
        """Tell whether JSON `null`, for no value, is a value of it."""
        return not self.is_required and self.declared.default is None

    @property
    def is_given_by_clients(self) -> bool:
        """Tell whether a client says its value, be it only at creation."""
        return not self.read_only and not self.is_id

    @property
    def is_patched(self) -> bool:
        """Tell whether a patch may name it."""
        return self.is_given_by_clients and not self.fixed

    @property
    def is_reference(self) -> bool:
        """Tell whether its value is the id of something else."""
        return isinstance(self.declared, REFERENCES)

    @property
    def target(self) -> Any:
        """Return the document class that it, or each entry of it, points to; None where it is no reference.

        Raises `UnsupportedField` where there is no such class.
        """
        if self.is_list and self.entry is not None:
            return self.entry.target
        if not self.is_reference:
            return None
        try:
            return self.declared.document_type
        except NotRegistered:
            text = self.declared.document_type_obj
            raise UnsupportedField(f"{named(self.declared)} refers to {text!r}, which is no document class") from None

    @property
    def delete_rule(self) -> int:
        """Return what happens to it when the record that it points to is deleted: a rule of MongoEngine's.

        MongoEngine takes none of its own inside of an embedded document, so there it is `delete_rule`.
        """
        return int(getattr(self.declared, "delete_rule", getattr(self.declared, "reverse_delete_rule", DO_NOTHING)))

    def value_in(self, stored: Mapping[str, Any]) -> Any:
        """Return its value in a stored document; what is not stored is the default."""
        return stored[self.stored] if self.stored in stored else self.default()

    def default(self) -> Any:
        """Return its default in BSON form, None if it has none."""
        declared = self.declared
        # What is empty is the same in BSON; MongoEngine would take 20 µs to find that out.
        if isinstance(declared, ComplexBaseField) and declared.default in (list, dict):
            return declared.default()
        value = declared.default() if callable(declared.default) else declared.default
        return None if value is None else declared.to_mongo(value)


REFERENCES = me.ReferenceField | me.LazyReferenceField


def field_of(declared: BaseField, name: str = "", within: tuple[Document, ...] = ()) -> Field:
    """Return what is declared of one field.

    `within` are the embedded documents around it. Raises `UnsupportedField` for what cannot be derived.
    """
    inner = getattr(declared, "field", None)
    document = declared.document_type if isinstance(declared, me.EmbeddedDocumentField) else None
    if isinstance(declared, me.ListField) and inner is None:
        raise UnsupportedField(f"{named(declared)} is a list of anything; name the field of its entries")
    entry = None if inner is None else field_of(inner, within=within)
    if entry is not None and entry.collation is not None:
        raise InvalidDocument(f"{named(declared)} holds what has a collation, but nothing is sorted by it")
    return Field(
        name=name or str(declared.name),
        stored=str(declared.db_field),
        declared=declared,
        meaning=meaning(declared),
        entry=entry,
        document=document,
        members={} if document is None else members_of(document, within),
        read_only=bool(getattr(declared, "read_only", False)),
        fixed=bool(declared.primary_key or getattr(declared, "fixed", False)),
        owner_only=bool(getattr(declared, "owner_only", False)),
        collation=collation_of(declared),
    )


def members_of(document: Document, within: tuple[Document, ...]) -> dict[str, Field]:
    """Return the fields of an embedded document; raises `UnsupportedField` where they have no end."""
    if document._meta.get("allow_inheritance"):
        raise UnsupportedField(f"{document.__name__} allows inheritance, so the class would come from the client")
    if document in within:
        raise UnsupportedField(f"{document.__name__} holds itself, so a record could be of any depth")
    return public_fields(document, (*within, document))


def public_fields(document: Document, within: tuple[Document, ...] = ()) -> dict[str, Field]:
    """Return the fields of a document class that clients see, by name, in the order of their declaration."""
    return {name: field_of(document._fields[name], name, within) for name in public_names(document)}


def public_names(document: Document) -> Iterator[str]:
    """Yield the names of the fields that clients see."""
    for name in document._fields_ordered:
        if name != "_cls" and not getattr(document._fields[name], "hidden", False):
            yield name


def hidden_names(document: Document) -> list[str]:
    """Return the stored names of the fields that no client sees."""
    seen = set(public_names(document))
    return [field.db_field for name, field in document._fields.items() if name not in seen]


def embedded_documents(fields: Mapping[str, Field]) -> Iterator[Document]:
    """Yield the embedded document classes that some fields hold, at any depth."""
    for field in fields.values():
        yield from embedded_in(field)


def embedded_in(field: Field) -> Iterator[Document]:
    """Yield the embedded document classes that a field holds, at any depth."""
    if field.entry is not None:
        yield from embedded_in(field.entry)
    if field.document is not None:
        yield field.document
        yield from embedded_documents(field.members)
