"""What MongoDB does for a create and a patch: notes as Madang keeps them, and with one thing dropped at a time.

All ways take turns on one MongoDB with a cache of 1 GB, as small installations have, in small blocks of writes; the
commands are those that the service sends, by its own driver. What is counted is the CPU of MongoDB for the connections;
its journal, its checkpoints and what it writes out are not in it. What else the machine does makes a block dearer and
never cheaper, so the quarter of the blocks that were cheapest tells.
"""

import os
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.collection import Collection

from bench import compare, data
from bench.contenders import NEWEST
from bench.search import cpu_of_connections
from service.documents import RECORDS, Note
from service.documents.record import WORDS
from service.model.registry import Registry
from service.mongo.connection import Client
from service.mongo.raw import Raw
from service.mongo.short import ShortDriver
from service.policy import NOT_BURIED, Identity, access_list, owned_by, scope
from service.records import search_words, store

NOTES, ROUNDS, WRITES, THREADS = 3000, 24, 40, 2
TYPE = Registry(RECORDS).of(Note)
DECLARED = [IndexModel([(name, ASCENDING)], name=name, sparse=True) for name in ("purge_at", "going_at")]
INDEXES = {str(model.document["name"]): model for model in (*TYPE.indexes, *DECLARED)}

WRITES_OF = ("create", "patch of the title", "patch of other fields")

Command = Raw


@dataclass(frozen=True, slots=True)
class Way:
    """How notes are kept and written: by which indexes, and what is done to a note and to the command of a patch."""

    title: str
    indexes: Sequence[str] = tuple(INDEXES)
    stored: Callable[[Raw], Raw] = lambda note: note
    patched: Callable[[Command], Command] = lambda command: command
    is_retried: bool = True


def shortened(note: Raw) -> Raw:
    """Return a note whose entries of the access list are short."""
    return {**note, "access": [entry[-6:] for entry in note["access"]]}


def shortened_patch(command: Command) -> Command:
    """Return a patch of such a note."""
    query = command["query"]
    return {**command, "query": shortened(query) if "access" in query else query}


def hinted(command: Command) -> Command:
    """Return a patch that names the index of ids, so that MongoDB weighs no other."""
    return {**command, "hint": "_id_"}


def scoped(command: Command) -> Command:
    """Return a patch whose condition says who may write, also where the access list says it."""
    return {**command, "query": {**scope(identity(command), "write", TYPE), **command["query"]}}


def identity(command: Command) -> Identity:
    """Return who patches: the owner."""
    return Identity(owner(int(command["query"]["_id"][8:], 16)), "", 0)


def wordless(document: Mapping[str, Any]) -> Raw:
    """Return a note, a condition or values without words."""
    return {name: value for name, value in document.items() if not name.startswith(WORDS)}


def wordless_patch(command: Command) -> Command:
    """Return a patch that writes no words."""
    update = {**command["update"], "$set": wordless(command["update"]["$set"])}
    return {**command, "query": wordless(command["query"]), "update": update}


def owned(command: Command) -> Command:
    """Return a patch whose condition is the owner alone."""
    query = command["query"]
    if "$or" not in query:
        return command
    kept = {name: value for name, value in query.items() if name not in ("$or", *NOT_BURIED)}
    return {**command, "query": {**kept, "access": owned_by(str(identity(command)))}}


def unstamped(command: Command) -> Command:
    """Return a patch without the version of who writes."""
    return {**command, "update": {name: value for name, value in command["update"].items() if name != "$min"}}


def as_update(command: Command) -> Command:
    """Return a patch as an `update`, which answers no document and keeps none for a retry."""
    statement = {"q": command["query"], "u": command["update"]}
    return {"update": command["findAndModify"], "updates": [statement]}


def bare(command: Command) -> Command:
    """Return a patch as the bare callable sends it."""
    command = unstamped(wordless_patch(command))
    del command["fields"]
    return {**command, "query": {"_id": command["query"]["_id"], "owner": str(identity(command))}}


def but(*names: str) -> tuple[str, ...]:
    """Return the names of the indexes but these."""
    return tuple(name for name in INDEXES if name not in names)


WAYS = (
    Way("nothing"),
    *(Way(f"index `{name}`", but(name)) for name in INDEXES if name != WORDS),
    Way("all of these but `access_1_updated_at_1__id_1`", ("access_1_updated_at_1__id_1", WORDS)),
    Way("index `search_words`", but(WORDS)),
    Way("`search_words`, index and field", but(WORDS), wordless, wordless_patch),
    Way("18 of 24 letters of each entry of `access`", tuple(INDEXES), shortened, shortened_patch),
    Way("the `$or` of who may write: the owner alone", patched=owned),
    Way("the stamp `oldest_writer`", patched=unstamped),
    Way("copy and answer of `findAndModify`: an `update`", patched=as_update),
    Way("the number by which it is retried", is_retried=False),
    Way("all: as the bare callable", (), wordless, bare),
    Way("nothing, but it names the index of ids (`hint`)", patched=hinted),
    Way("nothing, but the scope stands beside the access list", patched=scoped),
)


def run() -> list[dict[str, Any]]:
    """Return one row for each way and write, with the µs of a write in each block."""
    found: dict[tuple[str, str], list[float]] = {}
    with compare.mongodb(1.0) as (uri, _, pid), ThreadPoolExecutor(THREADS) as pool:
        client = Client(uri, timeoutMS=60_000)
        assert isinstance(client.driver, ShortDriver)
        filled_ways = [(way, filled(client, number, way)) for number, way in enumerate(WAYS)]
        for turn in range(-1, ROUNDS):
            begin = turn % len(WAYS)
            for way, collection in filled_ways[begin:] + filled_ways[:begin]:
                for name, commands in blocks(collection, way, turn):
                    before = cpu_of_connections(pid)
                    for reply in pool.map(sender(client.driver, collection, way), commands):
                        assert reply.get("value", reply.get("n")), (way.title, name, reply)
                    cpu = (cpu_of_connections(pid) - before) / WRITES * 1e6
                    found.setdefault((way.title, name), []).append(round(cpu, 1))
            print(f"round {turn + 1} of {ROUNDS}, load average {os.getloadavg()[0]:.1f}", flush=True)
        client.close()
    # The first blocks have warmed everything up.
    return [{"way": way, "write": write, "cpu": cpu[1:]} for (way, write), cpu in found.items()]


def filled(client: Client, number: int, way: Way) -> Collection[Raw]:
    """Return a collection with notes and indexes."""
    collection = client.get_default_database()[f"notes{number}"]
    for first in range(0, NOTES, 500):
        collection.insert_many([way.stored(note(at)) for at in range(first, first + 500)])
    collection.create_indexes([INDEXES[name] for name in way.indexes] or [NEWEST])
    return collection


def note(number: int) -> Raw:
    """Return a note as Madang stores it."""
    return store.new_record(TYPE, owner(number), {"_id": data.note_id(number), **data.content(number)})


def owner(number: int) -> str:
    """Return the id of the account that owns a note."""
    return data.account_id(number % data.ACCOUNTS)


def blocks(collection: Collection[Raw], way: Way, turn: int) -> Iterator[tuple[str, list[Command]]]:
    """Yield the writes of a round by their names, as commands."""
    new = [way.stored(note(NOTES + (turn + 1) * WRITES + number)) for number in range(WRITES)]
    yield WRITES_OF[0], [{"insert": collection.name, "documents": [one]} for one in new]
    draw = random.Random(turn)
    numbers = draw.sample(range(NOTES), WRITES)
    values = ({"title": f"changed {turn} times"}, {"priority": (turn + 2) % 6, "pinned": turn % 2 == 0})
    for name, changed in zip(WRITES_OF[1:], values, strict=True):
        yield name, [way.patched(patch(collection, number, changed)) for number in numbers]


def patch(collection: Collection[Raw], number: int, values: Raw) -> Command:
    """Return the command of the direct patch of a note by its owner."""
    allowed: Raw = scope(Identity(owner(number), "", 0), "write", TYPE)
    update: search_words.Update = {"$set": values}
    if texts := search_words.touched(TYPE, update):
        access = access_list(owner(number), {})
        worded = search_words.worded(TYPE, update, texts, access)
        allowed, update = {"access": access, **worded.guard}, worded.update
    return {
        "findAndModify": collection.name,
        "query": {"_id": data.note_id(number), **allowed},
        "update": store.stamped(TYPE, update),
        "new": True,
        "fields": TYPE.unread,
    }


def sender(driver: ShortDriver, collection: Collection[Raw], way: Way) -> Callable[[Command], Raw]:
    """Return what sends a command and returns the reply."""

    def send(command: Command) -> Raw:
        if way.is_retried:
            return dict(driver.write(collection, command, failed))
        server = driver.primary(collection.database.client._topology)
        return dict(driver.run(server, collection, command, driver.deadline())[0])

    return send


def failed(_session: Any) -> Any:
    """Raise that a write was no plain success."""
    raise AssertionError("MongoDB refused a write")


# --- What comes of it ------------------------------------------------------------------------------------------------


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return by way and write the µs that it costs in the cheapest quarter of its blocks."""
    cheapest = {(row["way"], row["write"]): sorted(row["cpu"])[: max(len(row["cpu"]) // 4, 1)] for row in rows}
    return {way.title: {write: statistics.mean(cheapest[way.title, write]) for write in WRITES_OF} for way in WAYS}
