"""The indexes that serve what clients may ask: derived from the documents, checked at start, made in the background."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pymongo
from mongoengine.connection import get_connection
from pymongo import TEXT, IndexModel
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, OperationFailure

from service.documents import SYSTEM
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo.problems import is_transient, said_by
from service.mongo.raw import Raw


@dataclass(frozen=True, slots=True)
class IndexChange:
    """An index that is `missing` in the database, is there but `different`, or is there and `unused`."""

    document: Any
    kind: str
    name: str
    model: IndexModel | None = None

    @property
    def is_unused(self) -> bool:
        """Whether nothing needs the index any more."""
        return self.kind == "unused"

    @property
    def place(self) -> str:
        """Its collection and its name."""
        return f"{self.document._get_collection_name()}.{self.name}"

    def __str__(self) -> str:
        return f"{self.kind:<12} {self.place}"


class IndexRefused(ValueError):
    """MongoDB cannot make an index for what is stored; the message is for the person at the terminal."""


def declared(document: Any) -> list[IndexModel]:
    """Return the indexes that a document class declares in MongoEngine's way."""
    specs = [dict(spec) for spec in document._meta["index_specs"]]
    return [IndexModel(spec.pop("fields"), **{k: v for k, v in spec.items() if k != "cls"}) for spec in specs]


def of_type(type: RecordType) -> list[IndexModel]:
    """Return the indexes of a record type; what is unique is held by those of its own, and not in MongoEngine's way."""
    return [*(model for model in declared(type.document) if not model.document.get("unique")), *type.indexes]


def document_classes(registry: Registry) -> list[Any]:
    """Return every document class of the service that has a collection."""
    return [*SYSTEM, *registry.documents]


def wanted(registry: Registry) -> dict[Any, list[IndexModel]]:
    """Return every index that there has to be, by document class."""
    return {
        **{document: declared(document) for document in SYSTEM},
        **{type.document: of_type(type) for type in registry.values()},
    }


def changes(registry: Registry) -> list[IndexChange]:
    """Return what has to change in the database until its indexes are the declared ones, unused ones last."""
    found = []
    for document, models in wanted(registry).items():
        by_name = {model.document["name"]: model for model in models}
        there = existing(document)
        found += [IndexChange(document, "missing", name, model) for name, model in by_name.items() if name not in there]
        found += [
            IndexChange(document, "different", name, model)
            for name, model in by_name.items()
            if name in there and not is_same(model, there[name])
        ]
        found += [IndexChange(document, "unused", name) for name in there if name not in by_name and name != "_id_"]
    return sorted(found, key=lambda change: change.is_unused)


OPTIONS = ("unique", "sparse", "expireAfterSeconds", "partialFilterExpression")


def is_same(model: IndexModel, there: Mapping[str, Any]) -> bool:
    """Tell whether an index in the database is the one declared: its keys and what it does."""
    texts = {name for name, kind in model.document["key"].items() if kind == TEXT}
    # MongoDB keeps the fields of a text index apart, as weights; mongomock among the keys.
    keys = {name: kind for name, kind in dict(there["key"]).items() if kind != TEXT and name != "_ftsx"}
    searched = set(there.get("weights", (name for name, kind in there["key"] if kind == TEXT)))
    wanted = {name: kind for name, kind in model.document["key"].items() if kind != TEXT}
    same_options = all(model.document.get(option) == there.get(option) for option in OPTIONS)
    same_options = same_options and has_collation(model.document.get("collation"), there)
    return list(keys.items()) == list(wanted.items()) and texts == searched and same_options


def has_collation(wanted: Mapping[str, Any] | None, there: Mapping[str, Any]) -> bool:
    """Tell whether an index in the database has the collation that is wanted; mongomock keeps none."""
    if wanted is None:
        return "collation" not in there
    is_mocked = not isinstance(get_connection(), pymongo.MongoClient)
    return is_mocked or {name: there.get("collation", {}).get(name) for name in wanted} == dict(wanted)


def existing(document: Any) -> Mapping[str, Any]:
    """Return the indexes of a collection in the database by name; none where there is no collection yet."""
    found: Mapping[str, Any] = document._get_collection().index_information()
    return found


def advice(registry: Registry) -> list[str]:
    """Return what the person who starts the service should know about indexes, a sentence each."""
    different = ", ".join(change.name for change in changes(registry) if change.kind == "different")
    return [f"`flask indexes make`, when no older service runs: different are {different}"] if different else []


def unused_advice(registry: Registry) -> list[str]:
    """Return what the person who has migrated all documents should know of indexes that nothing reads any more."""
    names = [found.place for found in changes(registry) if found.is_unused]
    told = f"not used any more, but written with every change: {', '.join(names)}"
    return [f"{told}. `flask indexes drop`, when no older service runs"] if names else []


def make(registry: Registry, *kinds: str) -> list[IndexChange]:
    """Make the missing indexes and those that differ, or only some of these `kinds`, and return them.

    MongoDB builds beside reads and writes. Raises `IndexRefused` where what is stored has no room in one.
    """
    made = [change for change in changes(registry) if change.kind in (kinds or ("missing", "different"))]
    for change in made:
        # 0 is no deadline at all; None would be that of the connection, and a large index takes longer.
        with pymongo.timeout(0):
            if change.kind == "different":
                change.document._get_collection().drop_index(change.name)
            build(change.document._get_collection(), change.model)
    return made


def build(collection: Collection[Raw], model: IndexModel | None) -> None:
    """Make one index; raises `IndexRefused`."""
    assert model is not None  # noqa: S101  what is unused is not made
    options = dict(model.document)
    keys = list(options.pop("key").items())
    try:
        collection.create_index(keys, **options)
    except OperationFailure as error:
        if is_transient(error):
            raise
        reason = obstacle_in(collection, error)
        raise IndexRefused(f"the index {options['name']} of {collection.name} cannot be made: {reason}") from None


GEO = re.compile(r"Can't extract geo keys: \{ _id: (.+?), .*\}  (.+)", re.DOTALL)
MOST_SAID = 300
"""Most characters of what MongoDB says: it may repeat a whole document."""


def obstacle_in(collection: Collection[Raw], error: OperationFailure) -> str:
    """Return why MongoDB refuses an index, with an example of what is in its way."""
    text = said_by(error).rpartition(" :: caused by :: ")[2]
    if shape := GEO.search(text):
        return f"{shape[1]} has a shape that MongoDB cannot index: {shape[2][:MOST_SAID]}. Change it there"
    same = (error.details or {}).get("keyValue")
    if not isinstance(error, DuplicateKeyError) or same is None:
        return text[:MOST_SAID]
    ids = [str(row["_id"]) for row in collection.find(same, {"_id": 1}, limit=2)]
    values = ", ".join(f"{name} {value!r}" for name, value in same.items())
    return f"{' and '.join(ids)}, and maybe more, have the same {values}. Change or delete all but one"


def drop(registry: Registry) -> list[IndexChange]:
    """Drop the unused indexes and return them."""
    unused = [change for change in changes(registry) if change.is_unused]
    for change in unused:
        change.document._get_collection().drop_index(change.name)
    return unused
