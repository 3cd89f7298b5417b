"""The indexes that serve what clients may ask: derived from the documents, checked at start, made in the background."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pymongo
from mongoengine import DO_NOTHING
from mongoengine import fields as me
from mongoengine.base import BaseField
from pymongo import ASCENDING, GEOSPHERE, TEXT, IndexModel
from pymongo.errors import OperationFailure

from service import query
from service.documents import RECORDS, Account, Event, KeptAnswer, Lease, Session, Walk
from service.documents.record import Record
from service.model import schema
from service.model.fields import meaning
from service.query import InvalidDocument, paging

Keys = tuple[tuple[str, Any], ...]
NAMESPACE_NOT_FOUND = 26


@dataclass(frozen=True, slots=True)
class Change:
    """An index that is `missing` in the database, is there but `different`, or is there and `superfluous`."""

    document: Any
    kind: str
    name: str
    model: IndexModel | None = None

    def __str__(self) -> str:
        return f"{self.kind:<12} {self.document._meta['collection']}.{self.name}"


def check(document: type[Record]) -> None:
    """Refuse a record type whose declarations cannot be derived or served by an index.

    Raises `InvalidDocument` or `UnsupportedField`, with the name of the field and what to do.
    """
    schema.whole(document)
    schema.shaper(document)
    if "-updated_at" not in document._meta["sorts"]:
        raise InvalidDocument(f"{document.__name__}: `sorts` has to hold the default, -updated_at")
    for sort in document._meta["sorts"]:
        for name in sort.split(","):
            path = name.removeprefix("-")
            field = query.field_at(document, path)
            steps = [path.rsplit(".", n)[0] for n in range(path.count(".") + 1)]
            if any(isinstance(query.field_at(document, step), me.ListField) for step in steps):
                raise InvalidDocument(
                    f"{document.__name__} sorts by {name}, a list; an index takes one list, and that is who may read"
                )
            if meaning(field).lowest is None:
                raise InvalidDocument(f"{document.__name__} sorts by {name}, which has no order that MongoDB knows")
    for path in document._meta["filters"]:
        query.operators_of(query.field_at(document, path))
    for path in document._meta["search"]:
        if not isinstance(query.field_at(document, path), me.StringField):
            raise InvalidDocument(f"{document.__name__} searches {path}, which is no text")


def of_records(document: type[Record]) -> Iterator[IndexModel]:
    """Yield the indexes that follow from the sorts, points and search fields of a record type.

    Each sort's index is led by who may read, so that the own, the shared and the public records come out sorted.
    """
    sorts = [paging.index_keys(query.sort_keys(document, sort)) for sort in document._meta["sorts"]]
    for keys in dict.fromkeys(map(tuple, sorts)):
        yield IndexModel(list(keys))
    for path in document._meta["filters"]:
        if "$near" in meaning(query.field_at(document, path)).compare:
            yield IndexModel([("access", ASCENDING), (query.stored_path(document, path), GEOSPHERE)])
    for field in schema.public_fields(document).values():
        if has_delete_rule(field):
            yield IndexModel([(field.db_field, ASCENDING)], sparse=True)
    if document._meta["search"]:
        paths = [query.stored_path(document, path) for path in document._meta["search"]]
        searched: list[tuple[str, Any]] = [("owner", ASCENDING), *((path, TEXT) for path in paths)]
        # Otherwise a field that is called `language` chooses one, and a value that names none refuses the record.
        yield IndexModel(searched, name="search", language_override="_")


def has_delete_rule(field: BaseField) -> bool:
    """Tell whether something happens to `field` when the record that it refers to is deleted."""
    inner = getattr(field, "field", None) or field
    return bool(getattr(inner, "reverse_delete_rule", DO_NOTHING) != DO_NOTHING)


def declared(document: Any) -> list[IndexModel]:
    """Return every index that `document` asks for: MongoEngine's own declarations, then those that follow."""
    specs = [dict(spec) for spec in document._meta["index_specs"]]
    own = [IndexModel(spec.pop("fields"), **{k: v for k, v in spec.items() if k != "cls"}) for spec in specs]
    return own + (list(of_records(document)) if issubclass(document, Record) else [])


def documents() -> list[Any]:
    """Return every document class of the service that has a collection."""
    return [Account, Session, Event, KeptAnswer, Lease, Walk, *RECORDS]


def changes() -> list[Change]:
    """Return what has to change in the database until its indexes are the declared ones, superfluous ones last."""
    found = []
    for document in documents():
        wanted = {model.document["name"]: model for model in declared(document)}
        there = existing(document)
        found += [Change(document, "missing", name, model) for name, model in wanted.items() if name not in there]
        found += [
            Change(document, "different", name, model)
            for name, model in wanted.items()
            if name in there and not is_same(model, there[name])
        ]
        found += [Change(document, "superfluous", name) for name in there if name not in wanted and name != "_id_"]
    return sorted(found, key=lambda change: change.kind == "superfluous")


OPTIONS = ("unique", "sparse", "expireAfterSeconds")


def is_same(model: IndexModel, there: Mapping[str, Any]) -> bool:
    """Tell whether an index in the database is the one declared: its keys and what it does."""
    texts = {name for name, kind in model.document["key"].items() if kind == TEXT}
    # MongoDB keeps the fields of a text index apart, as weights; mongomock among the keys.
    keys = {name: kind for name, kind in dict(there["key"]).items() if kind != TEXT and name != "_ftsx"}
    searched = set(there.get("weights", (name for name, kind in there["key"] if kind == TEXT)))
    wanted = {name: kind for name, kind in model.document["key"].items() if kind != TEXT}
    # mongomock keeps no other option of a text index than its keys.
    options = (*OPTIONS, "language_override") if "weights" in there else OPTIONS
    same_options = all(model.document.get(option) == there.get(option) for option in options)
    return list(keys.items()) == list(wanted.items()) and texts == searched and same_options


def existing(document: Any) -> Mapping[str, Any]:
    """Return the indexes of a collection in the database by name; none where there is no collection yet."""
    try:
        found: Mapping[str, Any] = document._get_collection().index_information()
    except OperationFailure as error:
        if error.code != NAMESPACE_NOT_FOUND:
            raise
        return {}
    return found


def notes() -> list[str]:
    """Return what the person who starts the service should know about indexes, a sentence each."""
    different = ", ".join(change.name for change in changes() if change.kind == "different")
    return [f"`flask indexes make`, when no older service runs: different are {different}"] if different else []


def make(*kinds: str) -> list[Change]:
    """Make the missing indexes and those that differ, or only some of these `kinds`, and return them.

    MongoDB builds beside reads and writes.
    """
    made = [change for change in changes() if change.kind in (kinds or ("missing", "different"))]
    for change in made:
        # 0 is no deadline at all; None would be that of the connection, and a large index takes longer.
        with pymongo.timeout(0):
            if change.kind == "different":
                change.document._get_collection().drop_index(change.name)
            change.document._get_collection().create_indexes([change.model])
    return made


def drop() -> list[Change]:
    """Drop the superfluous indexes and return them."""
    superfluous = [change for change in changes() if change.kind == "superfluous"]
    for change in superfluous:
        change.document._get_collection().drop_index(change.name)
    return superfluous
