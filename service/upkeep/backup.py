"""A backup of all that the service stores, as it was at one moment, and its way back into an empty database."""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
from bson.binary import Binary
from mongoengine.connection import get_connection
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from service.core.clock import now
from service.core.ids import new_id
from service.documents import (
    Account,
    AuthorizationCode,
    AwaitedReference,
    BlobChunk,
    Challenge,
    Change,
    Correction,
    DeletedContent,
    Invitation,
    Lease,
    Measurement,
    MigrationRun,
    OneTimeCode,
    OutboxItem,
    PushReceipt,
    Session,
    SetAside,
    SlowList,
    Ticket,
)
from service.documents.versioned import Versioned
from service.files.blobs import Blobs
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.upkeep import archive, file_bytes, indexes
from service.upkeep.archive import BackupError, Block
from service.upkeep.past import past_kept

BATCH = 1000
"""Most documents of a block; MongoDB ends one at 16 MB before."""
BLOCK_SECONDS = 20
"""How long MongoDB may take for one block."""
PREFIX = "restoring."
"""What the names of collections begin with that wait for the end of a restore."""
CLAIM = "restoring"
"""The collection of the one document that says who gives the collections their names."""
PUBLISHING = timedelta(minutes=1)
"""Much longer than it takes to give the collections their names."""
TROUBLES = {
    239: "the backup took longer than MongoDB keeps the past; raise minSnapshotHistoryWindowInSeconds (300 by default)",
    246: "a collection or an index was made while the backup was under way; make the backup again",
}
"""What MongoDB's codes SnapshotTooOld and SnapshotUnavailable say of a backup."""

Report = Callable[[str, int, int, bool], None]
"""Is told the name of a collection, how many documents and bytes of it are through, and whether that is all."""


def backed_up(registry: Registry) -> list[Any]:
    """Return the document classes that a backup holds; accounts last, for nobody logs in before they are there.

    Sessions are not among them: an old backup would bring ended ones back to life, that of a stolen phone too. Leases,
    tickets, codes and challenges are of the moment, and so is the order of changes, which begins anew after a restore:
    its numbers never go back. So is what sync and hooks keep, which goes by them. What has to be sent is of the moment
    too: from an old backup all of it would be sent again, and its codes do not belong into a file. Invitations that
    were revoked would be good again. Measurements are those of starts that
    are over, and what was deleted is no part of what is there.
    """
    beside = (
        Session,
        Account,
        Lease,
        Change,
        Correction,
        PushReceipt,
        AwaitedReference,
        Ticket,
        OneTimeCode,
        Invitation,
        OutboxItem,
        AuthorizationCode,
        Challenge,
        SetAside,
        DeletedContent,
        Measurement,
        SlowList,
    )
    others = [document for document in indexes.document_classes(registry) if document not in beside]
    return [*others, Account]


def versions(registry: Registry) -> dict[str, int | None]:
    """Return the version of the stored form by collection, None where it has none."""
    return {document._get_collection_name(): version_of(document) for document in backed_up(registry)}


def version_of(document: Any) -> int | None:
    """Return the version of the stored form of a document class, None where it has none."""
    return document.version() if issubclass(document, Versioned) else None


def stored() -> Database[Raw]:
    """Return the database of the service."""
    database: Database[Raw] = Account._get_collection().database
    return database


# --- Backup ----------------------------------------------------------------------------------------------------------


def backup(registry: Registry, blobs: Blobs, path: Path, report: Report) -> dict[str, int]:
    """Write all collections, as they are at one moment, into the file `path`; return the number of documents of each.

    So are the bytes of files, wherever they are. The service may go on reading and writing. Raises `BackupError`,
    `OSError`, `PyMongoError` or `StorageUnavailable`, and leaves no file.
    """
    client: MongoClient[Raw] = get_connection()
    counts: dict[str, int] = {}
    with archive.created(path) as writer, file_bytes.copying(blobs) as right:
        with past_kept(client), client.start_session(snapshot=True) as session:
            writer.add({"made_at": now(), "versions": versions(registry)})
            copied = [] if right is None else file_bytes.blobs_of_files(session)
            for name in versions(registry):
                counts[name] = 0
                raw = writer.raw
                for joined in raw_batches(name, session):
                    number = archive.count(joined)
                    writer.add({"collection": name, "count": number, "documents": Binary(joined)})
                    counts[name] += number
                    report(name, counts[name], writer.raw - raw, False)
                report(name, counts[name], writer.raw - raw, True)
        if right is not None:
            # Last: another store is read for longer than MongoDB keeps the past.
            copy_bytes(blobs, copied, right, writer, counts, report)
        writer.add({"counts": counts})
    return counts


def copy_bytes(
    blobs: Blobs,
    copied: list[tuple[str, int]],
    right: file_bytes.Copying,
    writer: archive.ArchiveWriter,
    counts: dict[str, int],
    report: Report,
) -> None:
    """Write the bytes of files as the chunks that they would be in MongoDB, and count them among those."""
    name, raw = BlobChunk._get_collection_name(), writer.raw
    for number, joined in file_bytes.chunk_batches(blobs, copied, right):
        writer.add({"collection": name, "count": number, "documents": Binary(joined)})
        counts[name] += number
        report(name, counts[name], writer.raw - raw, False)
    report(name, counts[name], writer.raw - raw, True)


def raw_batches(name: str, session: Any) -> Iterator[bytes]:
    """Yield the stored documents of a collection, in the order of their ids, many joined in one text of bytes."""
    try:
        # The order makes two backups of the same documents alike, and costs nothing.
        with closing(stored()[name].find_raw_batches(sort=[("_id", 1)], batch_size=BATCH, session=session)) as cursor:
            while True:
                with pymongo.timeout(BLOCK_SECONDS):
                    joined: Any = next(cursor, None)
                if joined is None:
                    return
                yield joined
    except OperationFailure as error:
        if error.code not in TROUBLES:
            raise
        raise BackupError(f"{TROUBLES[error.code]}: docs/backup.md") from error


# --- Restore ---------------------------------------------------------------------------------------------------------


def restore(registry: Registry, blobs: Blobs, path: Path, report: Report) -> dict[str, int]:
    """Bring the documents of a backup into this database, which is empty; return the number of documents of each.

    The documents wait under other names until all of them are there with their indexes, so that what fails leaves the
    database as it was. Raises `BackupError`, `OSError`, `PyMongoError` or `StorageUnavailable`.
    """
    with path.open("rb") as file:
        archive.verify(file)
        blocks = archive.blocks(file)
        check_versions(next(blocks, {}), versions(registry))
        undo_unfinished()
        refuse_occupied()
        run = new_id()
        try:
            counts = load(blocks, run, report)
            index(registry, run, counts)
            file_bytes.bring_back(blobs, stored(), f"{PREFIX}{run}.")
            publish(run, list(counts))
        except BaseException:
            # Where MongoDB is away, what is left waits for the next restore, which drops it; nobody reads it.
            with suppress(PyMongoError):
                take_back(run)
            raise
    indexes.make(registry)
    return counts


def check_versions(header: Block, ours: dict[str, int | None]) -> None:
    """Raise `BackupError` where a backup holds what this version of the service does not know."""
    if "versions" not in header:
        raise BackupError("the backup is damaged: it does not say what is in it")
    for name, version in header["versions"].items():
        if name not in ours:
            raise BackupError(f"the backup holds {name}, which this service has no document for")
        if (version or 0) > (ours[name] or 0):
            raise BackupError(
                f"the backup is of a newer service: its {name} have version {version}, this one knows {ours[name]}"
            )


def refuse_occupied() -> None:
    """Raise `BackupError` where the database has any document, but for what is known of migrations and leases."""
    own = {MigrationRun._get_collection_name(), Lease._get_collection_name()}
    with pymongo.timeout(BLOCK_SECONDS):
        for name in stored().list_collection_names():
            beside = name in own or name.startswith((PREFIX, "system."))
            if not beside and name != CLAIM and stored()[name].find_one({}, {"_id": 1}) is not None:
                raise BackupError(f"the database is not empty: it has {name}; restore into an empty one")


def load(blocks: Iterator[Block], run: str, report: Report) -> dict[str, int]:
    """Store the documents of a backup under names that nobody reads; return the number of each collection."""
    loaded: dict[str, int] = {}
    size = 0
    for block in blocks:
        if "counts" in block:
            counts: dict[str, int] = block["counts"]
            if loaded != {name: number for name, number in counts.items() if number}:
                raise BackupError("the backup is damaged: it does not hold as many documents as it says")
            return counts
        name, found = block["collection"], list(archive.documents_in(block["documents"]))
        size = size + len(block["documents"]) if name in loaded else len(block["documents"])
        with pymongo.timeout(BLOCK_SECONDS), uninterrupted():
            stored()[f"{PREFIX}{run}.{name}"].insert_many(found, ordered=False)
        loaded[name] = loaded.get(name, 0) + len(found)
        report(name, loaded[name], size, False)
    raise BackupError("the backup is damaged: it has no end")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off until the end: MongoDB goes on with a write, and makes the collection anew that is taken back."""
    put_off: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, frame: put_off.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
        if put_off:
            signal.raise_signal(signal.SIGINT)


def index(registry: Registry, run: str, counts: dict[str, int]) -> None:
    """Make the indexes of the collections that wait; check that all documents are in them."""
    wanted = indexes.wanted(registry)
    for document in backed_up(registry):
        name = document._get_collection_name()
        waiting = stored()[f"{PREFIX}{run}.{name}"]
        # 0 is no deadline: an index takes its time.
        with pymongo.timeout(0):
            if models := wanted[document]:
                waiting.create_indexes(models)
            elif not counts.get(name):
                continue
            if (there := waiting.count_documents({})) != counts.get(name, 0):
                raise BackupError(f"MongoDB has {there} {name} of {counts.get(name, 0)}; try again")


def publish(run: str, names: list[str]) -> None:
    """Give the collections that wait their names, accounts last."""
    try:
        claim = {"_id": CLAIM, "run": run, "names": names, "at": now()}
        stored()[CLAIM].insert_one(claim)
    except DuplicateKeyError:
        raise BackupError("another restore into this database is about to end") from None
    try:
        refuse_occupied()
    except BackupError:
        stored()[CLAIM].drop()
        raise
    there = set(stored().list_collection_names())
    for name in names:
        if (waiting := f"{PREFIX}{run}.{name}") in there:
            stored()[waiting].rename(name, dropTarget=True)
        else:
            stored()[name].drop()
    stored()[CLAIM].drop()
    drop_waiting(PREFIX)


def undo_unfinished() -> None:
    """Take back what a restore has left that was cut short while it gave collections their names."""
    claim = stored()[CLAIM].find_one({"_id": CLAIM})
    if claim is None:
        return
    if now() - claim["at"] < PUBLISHING:
        raise BackupError("another restore into this database is about to end, or was cut short; try in a minute")
    take_back(claim["run"])


def take_back(run: str) -> None:
    """Leave nothing of a restore that did not come to its end."""
    claim = stored()[CLAIM].find_one({"_id": CLAIM, "run": run})
    if claim is not None:
        # Before, all of these were empty. One that waits no longer has got its name.
        waiting = set(stored().list_collection_names())
        for name in claim["names"]:
            if f"{PREFIX}{run}.{name}" not in waiting:
                stored()[name].drop()
        stored()[CLAIM].drop()
    drop_waiting(f"{PREFIX}{run}.")


def is_unfinished() -> bool:
    """Tell whether a restore was cut short so that only a part of the collections is there."""
    return stored()[CLAIM].find_one({"_id": CLAIM}) is not None


def drop_waiting(prefix: str) -> None:
    """Drop the collections that wait under names that begin with `prefix`."""
    for name in stored().list_collection_names():
        if name.startswith(prefix):
            stored()[name].drop()
