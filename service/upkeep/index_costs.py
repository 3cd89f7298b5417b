"""What indexes cost and who uses them: bytes of each, and how often MongoDB has taken it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import OperationFailure

from service.core.clock import now
from service.model.registry import Registry
from service.upkeep import indexes

IDLE_AFTER = timedelta(days=7)
"""After so long without a use an index may be called idle: what is asked for once a week is no less wanted."""


@dataclass(frozen=True, slots=True)
class IndexCost:
    """One index: its bytes, how often it was used `since` a time, and what it is there for beside queries.

    `writes` are those of its whole collection since MongoDB began: each that touches one of its fields writes it too.

    `state` is as in `IndexChange`, empty where it is as declared; of one that is missing nothing else is known.
    """

    collection: str
    name: str
    state: str = ""
    bytes: int = 0
    uses: int = 0
    since: datetime | None = None
    guards: str = ""
    is_of_records: bool = False
    writes: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether it costs each write of records, and has served nobody for long: as declared, and guarding nothing."""
        has_lasted = self.since is not None and now() - self.since >= IDLE_AFTER
        return self.is_of_records and has_lasted and not self.uses and not self.state and not self.guards


def index_costs(registry: Registry) -> list[IndexCost]:
    """Return all indexes but those by id, those of the largest first; uses are those of the server that answers."""
    states = {(change.document, change.name): change.kind for change in indexes.changes(registry)}
    found = []
    for document in indexes.document_classes(registry):
        collection = document._get_collection_name()
        there = {name: index for name, index in indexes.existing(document).items() if name != "_id_"}
        (sizes, writes), uses = stored_and_written(document), uses_of(document)
        for name, about in there.items():
            state = states.pop((document, name), "")
            used, since = uses.get(name, (0, None))
            told = (sizes.get(name, 0), used, since, guarded(about), collection in registry, writes)
            found.append(IndexCost(collection, name, state, *told))
    found += [IndexCost(document._get_collection_name(), name, state) for (document, name), state in states.items()]
    return sorted(found, key=lambda cost: (-cost.bytes, cost.collection, cost.name))


def stored_and_written(document: Any) -> tuple[Mapping[str, int], int]:
    """Return the bytes of the indexes of a collection by name, and its writes; none where there is no collection."""
    try:
        rows = [*document._get_collection().aggregate([{"$collStats": {"storageStats": {}, "latencyStats": {}}}])]
    except OperationFailure as error:
        if error.code != NO_SUCH_COLLECTION:
            raise
        return {}, 0
    sizes = {name: int(size) for row in rows for name, size in row["storageStats"]["indexSizes"].items()}
    return sizes, sum(int(row["latencyStats"]["writes"]["ops"]) for row in rows)


def guarded(index: Mapping[str, Any]) -> str:
    """Return what an index is there for beside queries: `unique` values, or the `time` of what goes; else nothing."""
    return "unique" if index.get("unique") else "time" if "expireAfterSeconds" in index else ""


NO_SUCH_COLLECTION = 26


def uses_of(document: Any) -> Mapping[str, tuple[int, datetime]]:
    """Return how often each index of a collection was used, and since when, by name."""
    rows = document._get_collection().aggregate([{"$indexStats": {}}])
    return {row["name"]: (int(row["accesses"]["ops"]), naive(row["accesses"]["since"])) for row in rows}


def naive(moment: datetime) -> datetime:
    """Return a time in UTC without its zone."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
