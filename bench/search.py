"""What search costs a write: notes without it, with MongoDB's index of texts, and with the words that Madang makes.

The three take turns on one MongoDB, write by write as a server does it, so a disturbance meets all of them. What is
counted is the CPU of MongoDB for the connection; beside it stands how long a write took,
and how much lies in the index.
"""

import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import ASCENDING, TEXT, IndexModel, MongoClient
from pymongo.collection import Collection

from bench import compare, data
from service.documents import RECORDS, Note
from service.documents.record import WORDS
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.records import search_words, store

NOTES, ROUNDS, WRITES = 5000, 9, 60
REGISTRY = Registry(RECORDS)
TYPE = REGISTRY.of(Note)
WORDS_OF_ENGLISH, WORDS_OF_BODY = 5000, 85
SYLLABLES = (
    "가나다라마바사아자차카타파하거너더러머버서어저처커터퍼허고노도로모보소오조초코토포호"
    "구누두루무부수우주추쿠투푸후기니디리미비시이지치키티피히"
)
PARTICLES = (
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "에",
    "에서",
    "의",
    "와",
    "도",
    "로",
    "으로",
    "까지",
    "부터",
    "입니다",
    "했습니다",
    "",
)
FORMER = IndexModel([("owner", ASCENDING), ("title", TEXT), ("body", TEXT)], name="search", language_override="_")


@dataclass(frozen=True, slots=True)
class Language:
    """Whose words notes are made of, the frequent ones first, and with how many each is shared."""

    title: str
    words: tuple[str, ...]
    shared: int = 0

    def text(self, draw: random.Random, count: int) -> str:
        """Return a text of so many words, as often each as in a language (Zipf)."""
        weights = [1 / (rank + 3) for rank in range(len(self.words))]
        return " ".join(draw.choices(self.words, weights, k=count))

    def note(self, number: int) -> Raw:
        """Return a note as Madang stores it."""
        draw = random.Random(number)
        readers = [f"{draw.getrandbits(96):024x}" for _ in range(self.shared)]
        content = {**data.content(number), "title": self.text(draw, 5), "body": self.text(draw, WORDS_OF_BODY)}
        content |= {"_id": data.note_id(number), "readers": readers, "writers": []}
        return store.new_record(TYPE, data.account_id(number % data.ACCOUNTS), content)


def english() -> tuple[str, ...]:
    """Return words of two to nine letters."""
    draw = random.Random(1)
    return tuple(
        "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(WORDS_OF_ENGLISH)
    )


def korean() -> tuple[str, ...]:
    """Return stems of two or three syllables with particles, as words of Korean are."""
    draw = random.Random(2)
    stems = ["".join(draw.choices(SYLLABLES, k=draw.choice((2, 2, 3)))) for _ in range(WORDS_OF_ENGLISH // 3)]
    return tuple(stem + draw.choice(PARTICLES) for stem in stems for _ in range(3))


LANGUAGES = (
    Language("English", english()),
    Language("Korean", korean()),
    Language("English, given to one", english(), 1),
    Language("English, given to five", english(), 5),
)


@dataclass(frozen=True, slots=True)
class Way:
    """How notes are searched: what is left out of a record that Madang makes, and the index."""

    title: str
    has_words: bool
    index: IndexModel | None

    def stored(self, note: Raw) -> Raw:
        """Return a note as this way stores it."""
        return note if self.has_words else {name: value for name, value in note.items() if name != WORDS}

    def indexes(self) -> list[IndexModel]:
        """Return the indexes of notes."""
        others = [model for model in TYPE.indexes if model.document["name"] != WORDS]
        return [*others, *([self.index] if self.index else [])]


WAYS = (
    Way("without", False, None),
    Way("MongoDB's index of texts", False, FORMER),
    Way("words", True, next(model for model in TYPE.indexes if model.document["name"] == WORDS)),
)


def cpu_of_connections(pid: int) -> float:
    """Return the seconds of CPU that a mongod has used for its connections, to the nanosecond (Linux, `schedstat`).

    What it does by the clock, its journal and its diagnostics, would count more the longer a busy machine takes.
    """
    used = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # a thread that has ended meanwhile, none of those that are measured
            if (task / "comm").read_text().startswith("conn"):
                used += int((task / "schedstat").read_text().split()[0])
    return used / 1e9


def run() -> list[dict[str, Any]]:
    """Return one row for each block of writes."""
    rows: list[dict[str, Any]] = []
    with compare.mongodb(1.0) as (uri, _, pid), MongoClient[Raw](uri) as client:
        for language in LANGUAGES:
            collections = {way.title: filled(client, language, way) for way in WAYS}
            for turn in range(-1, ROUNDS):
                for way in WAYS[turn % 3 :] + WAYS[: turn % 3]:
                    for name, work in blocks(collections[way.title], language, way, turn):
                        begun, before = time.perf_counter(), cpu_of_connections(pid)
                        work()
                        cpu, seconds = cpu_of_connections(pid) - before, time.perf_counter() - begun
                        row = {"language": language.title, "way": way.title, "write": name, "round": turn}
                        rows += [{**row, "cpu": cpu / WRITES * 1e6, "ms": seconds / WRITES * 1e3}] * (turn >= 0)
            for way in WAYS:
                rows.append({"language": language.title, "way": way.title, **sizes(collections[way.title], way)})
                collections[way.title].drop()
            print(f"{language.title}: load average {os.getloadavg()[0]:.1f}", flush=True)
    return rows


def filled(client: MongoClient[Raw], language: Language, way: Way) -> Collection[Raw]:
    """Return a collection with notes and indexes."""
    collection = client.get_default_database()[f"notes{WAYS.index(way)}"]
    for first in range(0, NOTES, 500):
        collection.insert_many([way.stored(language.note(number)) for number in range(first, first + 500)])
    collection.create_indexes(way.indexes())
    return collection


def blocks(
    collection: Collection[Raw], language: Language, way: Way, turn: int
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the writes of a round by their names, prepared, so that only MongoDB is measured."""
    draw = random.Random(turn)
    numbers = [draw.randrange(NOTES) for _ in range(WRITES)]
    new = [way.stored(language.note(NOTES + (turn + 1) * WRITES + number)) for number in range(WRITES)]
    yield "create", lambda: [collection.insert_one(note) for note in new] and None
    other: Mapping[str, Any] = {"$set": {"pinned": turn % 2 == 0, "priority": turn % 6}}
    yield "patch of another field", lambda: changed(collection, [(number, other) for number in numbers])
    titles = [retitled(language, way, number, draw) for number in numbers]
    yield "patch of the title", lambda: changed(collection, list(zip(numbers, titles, strict=True)))


def retitled(language: Language, way: Way, number: int, draw: random.Random) -> Mapping[str, Any]:
    """Return the update that gives a note another title."""
    update: Mapping[str, Any] = {"$set": {"title": language.text(draw, 5)}}
    access = language.note(number)["access"]
    texts = search_words.touched(TYPE, update)
    return search_words.worded(TYPE, update, texts, access).update if way.has_words else update


def changed(collection: Collection[Raw], updates: list[tuple[int, Mapping[str, Any]]]) -> None:
    """Change notes as a patch does."""
    for number, update in updates:
        collection.find_one_and_update(
            {"_id": data.note_id(number)}, store.stamped(TYPE, update), TYPE.unread, return_document=True
        )


def sizes(collection: Collection[Raw], way: Way) -> dict[str, Any]:
    """Return how large a note and its part of the index are, in bytes, and how many words it has."""
    stats = collection.database.command("collStats", collection.name)
    index = stats["indexSizes"].get(way.index.document["name"], 0) if way.index else 0
    entries = [sum(len(text["w"]) for text in row.get(WORDS, ())) for row in collection.find({}, {WORDS: 1}, limit=500)]
    return {"size": stats["avgObjSize"], "index": index / stats["count"], "entries": statistics.mean(entries)}


# --- What comes of it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """What a write costs in the middle of all rounds: MongoDB's CPU in µs, and milliseconds."""

    cpu: float
    ms: float


def summary(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Cost]]:
    """Return what each write of each language costs, by way."""
    found: dict[tuple[str, str], dict[str, Cost]] = {}
    for language in dict.fromkeys(row["language"] for row in rows):
        for write in ("create", "patch of another field", "patch of the title"):
            for way in WAYS:
                own = [
                    row
                    for row in rows
                    if (row["language"], row.get("write"), row["way"]) == (language, write, way.title)
                ]
                cost = Cost(*(statistics.median(row[name] for row in own) for name in ("cpu", "ms")))
                found.setdefault((language, write), {})[way.title] = cost
    return found
