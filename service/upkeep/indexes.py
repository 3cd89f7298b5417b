"""The indexes that serve what clients may ask: derived from the documents, checked at start, made in the background."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo import TEXT, IndexModel
from pymongo.errors import OperationFailure

from service.documents import Account, Event, KeptAnswer, Lease, MigrationRun, Session
from service.model.registry import Registry

NAMESPACE_NOT_FOUND = 26


@dataclass(frozen=True, slots=True)
class Change:
    """An index that is `missing` in the database, is there but `different`, or is there and `unused`."""

    document: Any
    kind: str
    name: str
    model: IndexModel | None = None

    def __str__(self) -> str:
        return f"{self.kind:<12} {self.document._get_collection_name()}.{self.name}"


def declared(document: Any) -> list[IndexModel]:
    """Return the indexes that a document class declares in MongoEngine's way."""
    specs = [dict(spec) for spec in document._meta["index_specs"]]
    return [IndexModel(spec.pop("fields"), **{k: v for k, v in spec.items() if k != "cls"}) for spec in specs]


SYSTEM: tuple[Any, ...] = (Account, Session, Event, KeptAnswer, Lease, MigrationRun)
"""The document classes with a collection that are no record types."""


def document_classes(registry: Registry) -> list[Any]:
    """Return every document class of the service that has a collection."""
    return [*SYSTEM, *registry.documents]


def wanted(registry: Registry) -> dict[Any, list[IndexModel]]:
    """Return every index that there has to be, by document class."""
    return {
        **{document: declared(document) for document in SYSTEM},
        **{type.document: [*declared(type.document), *type.indexes] for type in registry.values()},
    }


def changes(registry: Registry) -> list[Change]:
    """Return what has to change in the database until its indexes are the declared ones, unused ones last."""
    found = []
    for document, models in wanted(registry).items():
        by_name = {model.document["name"]: model for model in models}
        there = existing(document)
        found += [Change(document, "missing", name, model) for name, model in by_name.items() if name not in there]
        found += [
            Change(document, "different", name, model)
            for name, model in by_name.items()
            if name in there and not is_same(model, there[name])
        ]
        found += [Change(document, "unused", name) for name in there if name not in by_name and name != "_id_"]
    return sorted(found, key=lambda change: change.kind == "unused")


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


def advice(registry: Registry) -> list[str]:
    """Return what the person who starts the service should know about indexes, a sentence each."""
    different = ", ".join(change.name for change in changes(registry) if change.kind == "different")
    return [f"`flask indexes make`, when no older service runs: different are {different}"] if different else []


def make(registry: Registry, *kinds: str) -> list[Change]:
    """Make the missing indexes and those that differ, or only some of these `kinds`, and return them.

    MongoDB builds beside reads and writes.
    """
    made = [change for change in changes(registry) if change.kind in (kinds or ("missing", "different"))]
    for change in made:
        # 0 is no deadline at all; None would be that of the connection, and a large index takes longer.
        with pymongo.timeout(0):
            if change.kind == "different":
                change.document._get_collection().drop_index(change.name)
            change.document._get_collection().create_indexes([change.model])
    return made


def drop(registry: Registry) -> list[Change]:
    """Drop the unused indexes and return them."""
    unused = [change for change in changes(registry) if change.kind == "unused"]
    for change in unused:
        change.document._get_collection().drop_index(change.name)
    return unused
