"""Bring stored documents to the form of this version: in batches, beside a running service, again after a crash.

Every step is a conditional update: it takes a document that has the form before it, and gives it the number of the form
after it. So a document is changed once however often it is met, by how many runners, and what a client wrote a moment
ago is what the step begins with.
"""

from collections.abc import Iterator
from functools import partial

from pymongo.errors import PyMongoError

from service.documents import Account
from service.documents.versioned import Versioned
from service.model.registry import Registry
from service.mongo import problems
from service.mongo.raw import Filter, Raw
from service.records import store
from service.upkeep.migrations import Migration, every_step, steps, versioned
from service.upkeep.walk import Progress, begun_walk, find_walk, insist, note_done, walk_start, walked

BATCH = 500
"""Most documents that one operation reads or changes, so that other requests get their turn in between."""

FORM = {"$min": [{"$ifNull": ["$schema_version", 0]}, "$oldest_writer"]}
"""The version of a stored document's form: that of the lowest writer where that is lower."""

GONE = ("purge_at", "deleted_at")
"""The marks of what was deleted: there is nothing left to migrate."""


class UpgradeError(RuntimeError):
    """The documents cannot be brought to this version; the message is for the person at the terminal."""


def run_of(document: type[Versioned]) -> Raw | None:
    """Return what is known of the last walk through the documents of a class, None if there was none."""
    return find_walk(document._get_collection_name())


def is_done(migration: Migration) -> bool:
    """Tell whether a walk that includes `migration` has come to its end."""
    walk = run_of(migration.document)
    return walk is not None and "finished_at" in walk and walk["to_version"] >= migration.to_version


def open_migrations(registry: Registry) -> list[Migration]:
    """Return the migrations that are not done, without a look at the documents themselves."""
    return [migration for migration in every_step(registry.documents) if not is_done(migration)]


def newer(registry: Registry) -> list[type[Versioned]]:
    """Return the document classes whose stored documents a newer service has brought beyond this version."""
    walks = ((document, run_of(document)) for document in versioned(registry.documents))
    return [document for document, walk in walks if walk and walk["to_version"] > document.version()]


def advice(registry: Registry) -> list[str]:
    """Return what the person who starts the service should know about the stored documents, a sentence each."""
    found = []
    if waiting := len(open_migrations(registry)):
        found.append(f"{waiting} open migration(s): see `flask migrate list` and docs/upgrading.md")
    if ahead := ", ".join(document._get_collection_name() for document in newer(registry)):
        found.append(f"a newer service has migrated {ahead}; this one leaves alone what it does not know")
    return found


def mark_empty(registry: Registry) -> None:
    """Note for every collection that is empty that there is nothing to migrate: a new database begins with today's."""
    for document in versioned(registry.documents):
        if run_of(document) is None and document._get_collection().find_one({}, {"_id": 1}) is None:
            note_done(document._get_collection_name(), walk_start(document.version()))


def joined(document: type[Versioned]) -> Raw:
    """Return the walk to go on with: the one that was cut short, or that another runner is on, else a new one.

    Raises `UpgradeError` where a newer service has been at work.
    """
    name, version = document._get_collection_name(), document.version()
    walk = run_of(document)
    if walk is not None and walk["to_version"] > version:
        raise UpgradeError(
            f"{name} were brought to version {walk['to_version']} by a newer service; this one knows version {version}"
        )
    if walk is not None and walk["to_version"] == version and "finished_at" not in walk:
        return walk
    return begun_walk(name, walk, walk_start(version))


def upgrade(
    registry: Registry, document: type[Versioned], rest: float = 1.0, patience: float = 60.0
) -> Iterator[Progress]:
    """Bring all documents of a class to its version, batch by batch, and yield how far that has come: see `walked`.

    Raises `UpgradeError` for a step that MongoDB refuses, `PyMongoError` when MongoDB stays away.
    """
    walk = insist(lambda: joined(document), patience)
    yield from walked(document, walk, partial(batch, document), partial(bring, registry, document), rest, patience)


def batch(document: type[Versioned], after: str) -> list[Raw]:
    """Return id and form of the documents that follow an id."""
    stages = [
        {"$match": {"_id": {"$gt": after}}},
        {"$sort": {"_id": 1}},
        {"$limit": BATCH},
        {"$project": {"form": FORM}},
    ]
    return list(document._get_collection().aggregate(stages, hint="_id_"))


def bring(registry: Registry, document: type[Versioned], rows: list[Raw]) -> int:
    """Take those of the `rows` that need it through all steps; return how many came to the end."""
    changed = 0
    for step in steps(document):
        behind = [row["_id"] for row in rows if row["form"] < step.to_version]
        if not behind:
            continue
        condition: Filter = {
            "_id": {"$in": behind},
            "$expr": {"$eq": [FORM, step.to_version - 1]},
            **{mark: {"$exists": False} for mark in GONE},
        }
        try:
            changed = migrated(registry, document, condition, step)
        except PyMongoError as error:
            if problems.is_transient(error):
                raise
            raise UpgradeError(refusal(step, rows, error)) from error
    return changed


def migrated(registry: Registry, document: type[Versioned], condition: Filter, step: Migration) -> int:
    """Take the records, or accounts, that fulfil `condition` through one step; return how many did."""
    if document in registry.by_document:
        return store.migrate(registry.of(document), condition, step.pipeline())
    return int(Account._get_collection().update_many(condition, step.pipeline()).matched_count)


def refusal(step: Migration, rows: list[Raw], error: PyMongoError) -> str:
    """Return the sentence about a step that MongoDB refuses."""
    name, first, last = step.document._get_collection_name(), rows[0]["_id"], rows[-1]["_id"]
    return f"{name} to version {step.to_version}, between the ids {first} and {last}: {error}"
