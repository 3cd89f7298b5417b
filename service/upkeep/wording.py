"""Give stored records the words by which they are found, where they have none, or others than this version makes.

What Python makes of a text no pipeline can, so here each record is read, and written if nobody has
changed it since.
"""

from collections.abc import Iterator, Sequence

from pymongo.errors import BulkWriteError

from service.documents import MigrationRun
from service.documents.record import WORDS
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo import problems
from service.mongo.raw import Raw
from service.records import search_words, store
from service.records.references import is_access_list
from service.upkeep.upgrade import UpgradeError
from service.upkeep.walk import Progress, begun_walk, find_walk, insist, note_done, walk_start, walked

WORDS_FORM = 1
"""The number of the form of words. Raise it when `service/model/words.py` makes others, or they are kept otherwise."""
BATCH = 100
"""Most records that are read at once: their texts may be long."""


def form_of(type: RecordType) -> str:
    """Return what tells words of this version and declaration from others."""
    return f"{WORDS_FORM} of {', '.join(place.stored for place in type.search)} in version {type.document.version()}"


def words_description(type: RecordType) -> str:
    """Return what is made, for a person."""
    return f"words of {', '.join(place.name for place in type.search)}"


def walk_of(type: RecordType) -> Raw | None:
    """Return what is known of the last walk through the records of a type, None if there was none."""
    return find_walk(walk_name(type))


def walk_name(type: RecordType) -> str:
    """Return the id of the walk; a dot is in no collection's name."""
    return f"{type.name}.words"


def searched_types(registry: Registry) -> list[RecordType]:
    """Return the types that have words."""
    return [type for type in registry.values() if type.search]


def is_worded(type: RecordType) -> bool:
    """Tell whether a walk for these words has come to its end."""
    walk = walk_of(type)
    return walk is not None and walk["form"] == form_of(type) and "finished_at" in walk


def unworded(registry: Registry) -> list[RecordType]:
    """Return the types of which some records may lack their words."""
    return [type for type in searched_types(registry) if not is_worded(type)]


def advice(registry: Registry) -> list[str]:
    """Return what the person who starts the service should know, a sentence each."""
    names = ", ".join(type.name for type in unworded(registry))
    return [f"a search does not find all {names} until `flask migrate run` has made their words"] if names else []


def mark_empty(registry: Registry) -> None:
    """Note for every collection that is empty that there is nothing to make."""
    for type in registry.values():
        if not type.search:
            # What is searched again one day has words of today's texts, and needs a walk.
            MigrationRun._get_collection().delete_one({"_id": walk_name(type)})
            continue
        if walk_of(type) is None and type.collection.find_one({}, {"_id": 1}) is None:
            note_done(walk_name(type), start_of(type))


def start_of(type: RecordType) -> Raw:
    """Return the beginning of a walk."""
    return walk_start(type.document.version(), form=form_of(type))


def walk_to_go_on(type: RecordType) -> Raw:
    """Return the walk to go on with: the one that was cut short, or that another runner is on, else a new one."""
    walk = walk_of(type)
    if walk is not None and walk["form"] == form_of(type) and "finished_at" not in walk:
        return walk
    return begun_walk(walk_name(type), walk, start_of(type))


def make_words(type: RecordType, rest: float = 1.0, patience: float = 60.0) -> Iterator[Progress]:
    """Give all records of a type their words, batch by batch, and yield how far that has come.

    Raises `UpgradeError` where MongoDB refuses the words of a record, and what `walked` does.
    """
    walk = insist(lambda: walk_to_go_on(type), patience)
    read = lambda after: read_batch(type, {"$gt": after})  # noqa: E731
    bring = lambda rows: make_right(type, [row["_id"] for row in rows])  # noqa: E731
    yield from walked(type.document, walk, read, bring, rest, patience)


def read_batch(type: RecordType, ids: Raw) -> list[Raw]:
    """Return the first records whose id fulfils a condition, with what their words are made of."""
    roots = {place.root.stored for place in type.search}
    projection = dict.fromkeys([*roots, "access", "revision", WORDS], 1)
    return list(type.collection.find({"_id": ids}, projection, sort=[("_id", 1)], limit=BATCH))


def make_right(type: RecordType, ids: Sequence[str]) -> int:
    """Make the words of some records right; return how many were not.

    What is changed meanwhile is looked at again: who changes a text makes its words, but an old server does not.
    """
    changed = 0
    while wrong := [row for row in read_batch(type, {"$in": ids}) if not is_right(type, row)]:
        try:
            changed += store.set_words(type, wrong)
        except BulkWriteError as error:
            if problems.is_transient(error):
                raise
            first = error.details["writeErrors"][0]["op"]["q"]["_id"]
            raise UpgradeError(f"words of {type.name}, of {first}: {problems.said_by(error)}") from error
    return changed


def is_right(type: RecordType, row: Raw) -> bool:
    """Tell whether a record has the words that it has to have.

    What is left of a deleted one has none, and neither has one that nobody may read, for other software wrote it.
    """
    return not is_access_list(row.get("access")) or row.get(WORDS) == search_words.words_of(type, row, row["access"])
