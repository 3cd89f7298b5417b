"""A record type: all that follows from one document class, as one value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from mongoengine import CASCADE, DENY, DO_NOTHING, NULLIFY, PULL
from mongoengine import fields as me
from pymongo import ASCENDING, DESCENDING, GEOSPHERE, IndexModel
from pymongo.collection import Collection

from service.documents.account import Account
from service.documents.file import File
from service.documents.group import Group
from service.documents.record import LEFT, WORDS, Record
from service.model.collation import Collation
from service.model.declarations import check_class, check_example, check_push, check_values
from service.model.field import Field
from service.model.fields import GEOMETRIES, LIST_OPERATORS, InvalidDocument
from service.model.hooks import hooks_of
from service.model.indexed import check_indexes
from service.model.places import Place, places
from service.model.schema import Schema
from service.model.unique import Unique, uniques_of
from service.mongo.raw import Raw

IndexKeys = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A field at a dotted path, and that path as MongoDB has it; `in_list` where a list is on the way or at its end."""

    field: Field
    stored: str
    in_list: bool

    @property
    def compared(self) -> Field:
        """The field whose values a condition names: of a list its entries."""
        return self.field.entry if self.field.is_list and self.field.entry is not None else self.field

    @property
    def operators(self) -> frozenset[str]:
        """The operators of `where` that make sense on it; a list takes those of its entries too."""
        able = self.field.meaning.compare
        return able | self.compared.meaning.compare if able >= LIST_OPERATORS else able


@dataclass(frozen=True)
class Sort:
    """An order of a list: the stored paths with their directions, and their fields. It ends on the id.

    Texts are in the alphabet of `collation`, by code points where it is None, and so are all that such a list compares.
    """

    keys: IndexKeys
    fields: tuple[Field, ...]
    collation: Collation | None = None

    @cached_property
    def index(self) -> IndexModel:
        """The index that serves it and its reverse: led by who may read, the first key upwards."""
        upwards = self.keys[0][1]
        keys = [("access", ASCENDING), *((name, direction * upwards) for name, direction in self.keys)]
        if self.collation is None:
            return IndexModel(keys)
        # Under a name of its own, beside that of another alphabet, which the servers of another version may need.
        name = "_".join([*(f"{name}_{direction}" for name, direction in keys), self.collation.name])
        return IndexModel(keys, name=name, collation=self.collation.bson)

    @cached_property
    def index_name(self) -> str:
        """The name of that index."""
        return str(self.index.document["name"])

    @cached_property
    def bson(self) -> dict[str, Any] | None:
        """Its collation as MongoDB's commands take it."""
        return None if self.collation is None else self.collation.bson


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A place at which records point to others, or to accounts, and what happens when one of these is deleted."""

    place: Place
    target: type[Record] | type[Account]

    @property
    def stored(self) -> str:
        """The dotted name by which MongoDB finds what points somewhere."""
        return self.place.stored

    @property
    def delete_rule(self) -> int:
        """What happens to it when what it points to is deleted: a rule of MongoEngine's."""
        return self.place.field.delete_rule


@dataclass(frozen=True, eq=False)
class RecordType:
    """What a document class declares, derived once; a registry holds those of an app.

    `name` is that of the collection and of the path under `/v1`. `sorts`, `filters` and `references` are by what
    clients call them, `search` are the places of the texts that are searched. `indexes` are those that follow from
    all this.
    """

    document: type[Record]
    name: str
    schema: Schema
    sorts: Mapping[str, Sort]
    filters: Mapping[str, FieldPath]
    search: tuple[Place, ...]
    references: Mapping[str, Reference]
    uniques: tuple[Unique, ...]
    indexes: tuple[IndexModel, ...] = field(repr=False)
    hooks: frozenset[str]

    @property
    def collection(self) -> Collection[Raw]:
        """The collection of its records, to read. What is written goes through `records.store`."""
        found: Collection[Raw] = self.document._get_collection()
        return found

    @property
    def is_group(self) -> bool:
        """Whether its records are groups of people."""
        return self.document is Group

    @property
    def is_file(self) -> bool:
        """Whether its records have bytes beside them: who uploads these makes them, and nobody else does."""
        return self.document is File

    @cached_property
    def fixed(self) -> tuple[Field, ...]:
        """The fields, beside the id, that a client says once, at creation."""
        return tuple(field for field in self.schema.fields.values() if field.fixed and not field.is_id)

    @cached_property
    def given(self) -> frozenset[str]:
        """The stored names of the fields whose value a client says."""
        return frozenset(field.stored for field in self.schema.fields.values() if field.is_given_by_clients)

    @cached_property
    def shapes(self) -> tuple[Place, ...]:
        """The places of geometries, at any depth."""
        return tuple(places(self.schema.fields, lambda field: isinstance(field.declared, GEOMETRIES)))

    @cached_property
    def names(self) -> Mapping[str, str]:
        """What clients call each field, by its stored name."""
        return {field.stored: name for name, field in self.schema.fields.items()}

    @cached_property
    def unread(self) -> dict[str, int] | None:
        """What of a record nobody needs who reads or changes it: its words, which MongoDB looks at."""
        return {WORDS: 0} if self.search else None

    @cached_property
    def cleared(self) -> frozenset[str]:
        """The stored names of the fields of which nothing is left when a record is deleted."""
        return frozenset(field.db_field for field in self.document._fields.values()) - LEFT


def derive(document: type[Record]) -> RecordType:
    """Return the record type of a document class.

    Raises `InvalidDocument` or `UnsupportedField`, with the name of the field and what to do, for declarations that
    cannot be derived or served by an index.
    """
    check_class(document)
    meta, schema = document._meta, Schema(document)
    schema.compile()
    check_values(document, schema)
    check_example(document, schema)
    check_push(document)
    # Not before: the defaults are in it.
    _ = schema.dump
    if "-updated_at" not in meta["sorts"]:
        raise InvalidDocument(f"{document.__name__}: `sorts` has to hold the default, -updated_at")
    sorts = {text: sort_of(document, schema, text) for text in meta["sorts"]}
    filters = {path: path_in(document, schema, path) for path in meta["filters"]}
    search = tuple(searched(document, schema, path) for path in meta["search"])
    references = {
        place.name: reference_at(document, place) for place in places(schema.fields, lambda field: field.is_reference)
    }
    uniques = tuple(uniques_of(document, schema.fields))
    indexes = (*indexes_of(sorts, filters, search, references), *(unique.index for unique in uniques))
    check_indexes(document, (list(model.document["key"].items()) for model in indexes))
    hooks = hooks_of(document)
    return RecordType(document, meta["collection"], schema, sorts, filters, search, references, uniques, indexes, hooks)


def path_in(document: type[Record], schema: Schema, path: str) -> FieldPath:
    """Return the field at a dotted path, through embedded documents and lists of them. Raises `InvalidDocument`."""
    fields, stored, in_list = schema.fields, [], False
    *outer, last = path.split(".")
    for name in outer:
        field = member(document, fields, name, path)
        in_list = in_list or field.is_list
        inner = field.entry if field.is_list and field.entry is not None else field
        if inner.document is None:
            raise InvalidDocument(f"{document.__name__} declares {path!r}, but {name!r} holds no embedded document")
        stored.append(field.stored)
        fields = inner.members
    field = member(document, fields, last, path)
    return FieldPath(field, ".".join([*stored, field.stored]), in_list or field.is_list)


def member(document: type[Record], fields: Mapping[str, Field], name: str, path: str) -> Field:
    """Return the field of a name; raises `InvalidDocument` where there is none that clients see."""
    if name not in fields:
        raise InvalidDocument(f"{document.__name__} declares {path!r}, which is no public field of it")
    return fields[name]


def sort_of(document: type[Record], schema: Schema, text: str) -> Sort:
    """Return the order that a sort such as `-priority,due` names."""
    keys, fields = [], []
    for name in text.split(","):
        found = path_in(document, schema, name.removeprefix("-"))
        if found.in_list:
            raise InvalidDocument(
                f"{document.__name__} sorts by {name}, a list; an index takes one list, and that is who may read"
            )
        if found.field.meaning.lowest is None:
            raise InvalidDocument(f"{document.__name__} sorts by {name}, which has no order that MongoDB knows")
        keys.append((found.stored, DESCENDING if name.startswith("-") else ASCENDING))
        fields.append(found.field)
    if keys[-1][0] != "_id":
        keys.append(("_id", keys[-1][1]))
        fields.append(schema.fields["id"])
    return Sort(tuple(keys), tuple(fields), shared_collation(document, text, fields))


def shared_collation(document: type[Record], text: str, fields: Sequence[Field]) -> Collation | None:
    """Return the one alphabet of the texts that a sort names; raises `InvalidDocument` where they have several."""
    texts = [field for field in fields if field.is_text and not field.is_id]
    found = {field.collation for field in texts}
    if len(found) > 1:
        names = " and ".join(field.name for field in texts)
        raise InvalidDocument(
            f"{document.__name__} sorts by {text}, but an index has one collation; declare the same of {names}"
        )
    return next(iter(found), None)


def searched(document: type[Record], schema: Schema, path: str) -> Place:
    """Return the place of a text that is searched; raises `InvalidDocument` for what is no text."""
    field = path_in(document, schema, path).field
    if not isinstance(field.declared, me.StringField):
        raise InvalidDocument(f"{document.__name__} searches {path}, which is no text")
    return next(place for place in places(schema.fields, lambda other: other is field) if place.name == path)


def reference_at(document: type[Record], place: Place) -> Reference:
    """Return the reference at a place; raises `InvalidDocument` for a delete rule that cannot be kept there."""
    rule = place.field.delete_rule
    if rule != DO_NOTHING and (obstacle := obstacle_to_rule(place, rule)):
        raise InvalidDocument(
            f"{document.__name__}.{place.name} has the delete rule {RULE_NAMES[rule]}, but {obstacle}"
        )
    return Reference(place, place.field.target)


RULE_NAMES = {NULLIFY: "NULLIFY", CASCADE: "CASCADE", DENY: "DENY", PULL: "PULL"}


def obstacle_to_rule(place: Place, rule: int) -> str:
    """Return why a delete rule cannot be kept at a place; empty where it can."""
    emptied = place.members[-1].is_required and rule in (NULLIFY, PULL)
    found = {
        "no index finds what stands in a map; use a list": place.is_in_map,
        "no index finds what stands in a list of lists": ("list", "list") in pairwise(place.steps),
        "it is one of a list; use PULL": rule == NULLIFY and place.is_entry,
        "it is no list; use NULLIFY": rule == PULL and not place.is_entry,
        "it is required, so the record would break its own rule; use CASCADE or DENY": emptied,
        "nobody may keep an account from being deleted; use NULLIFY, PULL or CASCADE": (
            rule == DENY and place.field.target is Account
        ),
    }
    return next((sentence for sentence, is_so in found.items() if is_so), "")


def indexes_of(
    sorts: Mapping[str, Sort],
    filters: Mapping[str, FieldPath],
    search: Sequence[Place],
    references: Mapping[str, Reference],
) -> list[IndexModel]:
    """Return the indexes that follow from what is declared.

    Each sort's index is led by who may read, so that the own, the shared and the public records come out sorted.
    """
    found = list({sort.index_name: sort.index for sort in sorts.values()}.values())
    found += [
        IndexModel([("access", ASCENDING), (filter.stored, GEOSPHERE)])
        for filter in filters.values()
        if "$near" in filter.operators
    ]
    found += [
        IndexModel([(reference.stored, ASCENDING)], sparse=True)
        for reference in references.values()
        if reference.delete_rule != DO_NOTHING
    ]
    if search:
        found.append(IndexModel([(f"{WORDS}.w", ASCENDING)], name=WORDS, sparse=True))
    return found
