"""A walk through stored documents: by id, in batches, beside a running service, again after a crash.

How far it has come is stored after each batch, so it goes on after a crash, and two that walk at once share the way.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo.errors import PyMongoError

from service.core.clock import now
from service.core.ids import new_id
from service.documents import MigrationRun
from service.documents.versioned import Versioned
from service.mongo import problems
from service.mongo.raw import Raw

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the walk through the documents of a class has come."""

    document: type[Versioned]
    looked_at: int
    changed: int
    finished: bool


def find_walk(name: str) -> Raw | None:
    """Return what is known of the last walk of a name, None if there was none."""
    found: Raw | None = MigrationRun._get_collection().find_one({"_id": name})
    return found


def walk_start(to_version: int, **more: Any) -> Raw:
    """Return the beginning of a walk."""
    begin = {"position": "", "looked_at": 0, "changed": 0, "started_at": now()}
    return {"run": new_id(), "to_version": to_version, **more, **begin}


def note_done(name: str, start: Raw) -> None:
    """Note that there is nothing to walk through, unless somebody has begun to."""
    done = {**start, "finished_at": now()}
    MigrationRun._get_collection().update_one({"_id": name}, {"$setOnInsert": done}, upsert=True)


def begun_walk(name: str, walk: Raw | None, start: Raw) -> Raw:
    """Begin anew after the last `walk`, and return what is begun: of two that begin at once, that of the first."""
    mine = {"_id": name} | ({} if walk is None else {"run": walk["run"]})
    anew = {"$set": start, "$unset": {"finished_at": ""}}
    MigrationRun._get_collection().update_one(
        mine, {"$setOnInsert": start} if walk is None else anew, upsert=walk is None
    )
    begun = find_walk(name)
    assert begun is not None  # noqa: S101  it was just stored, and nothing deletes it
    return begun


def walked(
    document: type[Versioned],
    walk: Raw,
    read: Callable[[str], list[Raw]],
    bring: Callable[[list[Raw]], int],
    rest: float,
    patience: float,
) -> Iterator[Progress]:
    """Go through all documents of a class, batch by batch, and yield how far that has come.

    `read` gives those that follow an id, `bring` changes some of them and tells how many. After each batch it rests,
    `rest` times as long as the batch took, so that a running service hardly notices. When MongoDB does not answer it
    tries again for `patience` seconds, and raises `PyMongoError` then.
    """
    mine = {"_id": walk["_id"], "run": walk["run"]}
    position, looked_at, changed = walk["position"], walk["looked_at"], walk["changed"]
    while rows := insist(lambda: read(position), patience):  # noqa: B023  called before the next turn
        with rested(rest):
            changed += insist(lambda: bring(rows), patience)
            position, looked_at = rows[-1]["_id"], looked_at + len(rows)
            # Two runners on one walk: the one ahead says where to go on, for it came by everything before.
            step = {"$max": {"position": position}, "$set": {"looked_at": looked_at, "changed": changed}}
            insist(lambda: MigrationRun._get_collection().update_one(mine, step), patience)  # noqa: B023
            yield Progress(document, looked_at, changed, False)
    insist(lambda: MigrationRun._get_collection().update_one(mine, {"$set": {"finished_at": now()}}), patience)
    yield Progress(document, looked_at, changed, True)


@contextmanager
def rested(rest: float) -> Iterator[None]:
    """Rest after the block, `rest` times as long as it took."""
    begun = time.monotonic()
    yield
    time.sleep(rest * (time.monotonic() - begun))


def insist(work: Callable[[], Result], patience: float) -> Result:
    """Return what `work` gives; where MongoDB does not answer, try it again for `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        try:
            return work()
        except PyMongoError as error:
            if not problems.is_transient(error) or time.monotonic() > end:
                raise
            time.sleep(0.2)
