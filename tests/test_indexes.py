"""Declarations that no index can serve are refused, and every query that a client can send is led by an index."""

import itertools
import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import mongoengine as me
import pymongo
import pytest
from flask import Flask
from mongoengine.base import BaseField
from pymongo import ASCENDING, TEXT, IndexModel
from pymongo.collection import Collection

from service.documents import RECORDS, Note, Record
from service.model.fields import UnsupportedField
from service.model.record_type import InvalidDocument, derive
from service.mongo.raw import Raw
from service.policy import Identity
from service.query.parse import Query
from service.records import store
from service.records.reading import Reader
from service.records.searching import MOST_RANKED
from service.upkeep import indexes
from tests.types import REGISTRY, parser_of, type_of

KEY = b"k" * 32


# --- Declarations ----------------------------------------------------------------------------------------------------


class Part(me.EmbeddedDocument):
    name = me.StringField(db_field="n")


def declaring(declared: dict[str, BaseField] | None = None, **meta: Any) -> type[Record]:
    """A record type with some fields that declares this in its `meta`."""
    fields: dict[str, Any] = {
        "title": me.StringField(db_field="t"),
        "tags": me.ListField(me.StringField()),
        "parts": me.EmbeddedDocumentListField(Part),
        "part": me.EmbeddedDocumentField(Part),
        "free": me.DictField(),
        "number": me.IntField(),
        "cost": me.DecimalField(),
        "spot": me.PointField(auto_index=False),
        "secret": me.StringField(hidden=True),
        **(declared or {}),
        "meta": {"collection": "declaring", "sorts": ["-updated_at"], **meta},
    }
    made: type[Record] = type("Declaring", (Record,), fields)
    return made


@pytest.mark.all_types
@pytest.mark.parametrize("document", RECORDS)
def test_the_record_types_that_ship_can_be_served(document: type[Record]) -> None:
    derive(document)


@pytest.mark.parametrize(
    ("meta", "say"),
    [
        ({"sorts": ["title"]}, "the default, -updated_at"),
        ({"sorts": ["-updated_at", "nothing"]}, "'nothing', which is no public field"),
        ({"sorts": ["-updated_at", "secret"]}, "'secret', which is no public field"),
        ({"sorts": ["-updated_at", "title,-nothing"]}, "'nothing'"),
        ({"sorts": ["-updated_at", "tags"]}, "sorts by tags, a list"),
        ({"sorts": ["-updated_at", "-title,tags"]}, "sorts by tags, a list"),
        ({"sorts": ["-updated_at", "free"]}, "sorts by free, which has no order"),
        ({"sorts": ["-updated_at", "cost"]}, "sorts by cost, which has no order"),
        ({"sorts": ["-updated_at", "spot"]}, "sorts by spot, which has no order"),
        ({"filters": ["nothing"]}, "'nothing'"),
        ({"filters": ["access"]}, "'access'"),
        ({"filters": ["title.x"]}, "'title' holds no embedded document"),
        ({"filters": ["parts.nothing"]}, "'parts.nothing'"),
        ({"search": ["nothing"]}, "'nothing'"),
        ({"search": ["number"]}, "searches number, which is no text"),
        ({"search": ["tags"]}, "searches tags, which is no text"),
        ({"sorts": ["-updated_at", "parts.name"]}, "a list"),
    ],
)
def test_a_declaration_that_no_index_can_serve_is_refused(meta: dict[str, Any], say: str) -> None:
    with pytest.raises(InvalidDocument, match=say):
        derive(declaring(**meta))


def test_a_field_that_cannot_be_derived_is_refused() -> None:
    with pytest.raises(UnsupportedField, match=r"Declaring\.any"):
        derive(declaring({"any": me.DynamicField()}))


UPDATED = [("access", 1), ("updated_at", 1), ("_id", 1)]


@pytest.mark.parametrize(
    ("meta", "wanted"),
    [
        ({}, []),
        ({"sorts": ["updated_at"]}, []),
        ({"sorts": ["title"]}, [[("access", 1), ("t", 1), ("_id", 1)]]),
        ({"sorts": ["id"]}, [[("access", 1), ("_id", 1)]]),
        ({"sorts": ["-number,title"]}, [[("access", 1), ("number", 1), ("t", -1), ("_id", -1)]]),
        ({"sorts": ["-number,title", "number,-title"]}, [[("access", 1), ("number", 1), ("t", -1), ("_id", -1)]]),
        ({"filters": ["title", "spot"]}, [[("access", 1), ("spot", "2dsphere")]]),
        ({"search": ["title", "part.name"]}, [[("search_words.w", 1)]]),
        ({"sorts": ["part.name"]}, [[("access", 1), ("part.n", 1), ("_id", 1)]]),
    ],
)
def test_the_indexes_follow_from_what_is_declared(meta: dict[str, Any], wanted: list[Any]) -> None:
    meta["sorts"] = ["-updated_at", *meta.get("sorts", [])]
    keys = [list(model.document["key"].items()) for model in derive(declaring(**meta)).indexes]
    assert keys == [UPDATED, *wanted]


def test_mongoengines_own_declarations_are_made_too() -> None:
    document = declaring(indexes=["number", {"fields": ["title"], "sparse": True}])
    made = {model.document["name"]: model.document for model in indexes.declared(document)}
    assert {"number_1", "t_1", "purge_at_1"} <= set(made)
    assert made["t_1"]["sparse"]
    assert made["purge_at_1"]["expireAfterSeconds"] == 0


# --- In the database -------------------------------------------------------------------------------------------------


@pytest.fixture
def notes(app: Flask) -> Iterator[Collection[Raw]]:
    """The collection of notes, whose indexes are the declared ones before and after."""
    indexes.make(REGISTRY)
    yield Note._get_collection()
    Note._get_collection().drop_indexes()
    indexes.make(REGISTRY)


def test_a_database_with_the_declared_indexes_needs_no_change(notes: Collection[Raw]) -> None:
    assert indexes.changes(REGISTRY) == []
    assert indexes.make(REGISTRY) == indexes.drop(REGISTRY) == []


def test_a_missing_index_is_named_and_made(notes: Collection[Raw]) -> None:
    name = "access_1_due_1__id_1"
    notes.drop_index(name)
    assert [str(change) for change in indexes.changes(REGISTRY)] == [f"missing      notes.{name}"]
    assert [change.name for change in indexes.make(REGISTRY)] == [name]
    assert name in notes.index_information()


def test_a_unused_index_is_named_and_stays_until_it_is_dropped(notes: Collection[Raw]) -> None:
    notes.create_index("body")
    assert [str(change) for change in indexes.changes(REGISTRY)] == ["unused       notes.body_1"]
    assert indexes.make(REGISTRY) == []
    assert "body_1" in notes.index_information()
    assert [change.name for change in indexes.drop(REGISTRY)] == ["body_1"]
    assert "body_1" not in notes.index_information()


@pytest.mark.real
def test_indexes_are_made_in_an_empty_database(notes: Collection[Raw]) -> None:
    notes.drop()
    assert {change.kind for change in indexes.changes(REGISTRY)} == {"missing"}
    indexes.make(REGISTRY)
    assert indexes.changes(REGISTRY) == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("search_words", IndexModel([("search_words.w", ASCENDING)], name="search_words")),
        ("search_words", IndexModel([("title", TEXT)], name="search_words")),
        ("purge_at_1", IndexModel([("purge_at", ASCENDING)], name="purge_at_1")),
    ],
)
def test_an_index_with_the_right_name_but_other_keys_or_options_is_a_change(
    notes: Collection[Raw], name: str, other: IndexModel
) -> None:
    notes.drop_index(name)
    notes.create_indexes([other])
    assert name in {change.name for change in indexes.changes(REGISTRY)}


# --- 100,000 notes ---------------------------------------------------------------------------------------------------

OWNERS = 100
NOTES = 100_000
LIMIT = 20
START = datetime(2026, 1, 1)
ME = Identity("owner7", "session", 0, ("a", "b", "c"))
NOTES_OF_ME = Reader(REGISTRY, REGISTRY.of(Note), ME)
SCOPES = {"mine": 1, "shared": 4, "public": 1, "mine,shared": 5}
"""The scopes and the number of principals that each asks for."""


def many_notes() -> Iterator[Raw]:
    """Notes of which a third has readers, most are not due, and most are of the least priority."""
    dice = random.Random(7)
    others = [*(f"owner{number}" for number in range(OWNERS)), *(f"role:{role}" for role in "abcdef"), "*"]
    for number in range(NOTES):
        note = store.new_record(
            type_of(Note),
            f"owner{dice.randrange(OWNERS)}",
            {
                "_id": f"{dice.getrandbits(64):016x}",
                "title": f"note {dice.randrange(5000)}",
                "body": "",
                "tags": ["a"] if number % 3 else [],
                "pinned": number % 10 == 0,
                "priority": max(0, dice.randrange(18) - 12),
                "checklist": [{"text": "milk", "done": number % 2 == 0}],
                "readers": dice.sample(others, dice.randint(1, 2)) if dice.random() < 1 / 3 else [],
                "writers": [],
            },
        )
        note["created_at"] = note["updated_at"] = START + timedelta(minutes=dice.randrange(200_000))
        if dice.random() < 0.3:
            note["due"] = START + timedelta(hours=dice.randrange(5000))
        if number % 5 == 0:
            note["place"] = {"type": "Point", "coordinates": [dice.uniform(126, 128), dice.uniform(36, 38)]}
        yield note


@pytest.fixture(scope="module")
def crowd(shared_app: Flask) -> Iterator[Collection[Raw]]:
    """100,000 notes of 100 owners, in a database that keeps a profile of what it is asked."""
    notes = Note._get_collection()
    with pymongo.timeout(300):
        notes.drop()
        rows = many_notes()
        while batch := list(itertools.islice(rows, 10_000)):
            notes.insert_many(batch, ordered=False)
        indexes.make(REGISTRY)
        notes.database.command("profile", 2, filter={"ns": notes.full_name})
    # Not within: the time would go on for all the tests of this module.
    yield notes
    with pymongo.timeout(60):
        notes.database.command("profile", 0)
        notes.database["system.profile"].drop()
        notes.drop()
        indexes.make(REGISTRY)


def asked_for(**args: Any) -> Query:
    if "where" in args:
        args["where"] = json.dumps(args["where"])
    return parser_of(Note).parse({"limit": str(LIMIT), **args}, str(ME), KEY)


def profiled(crowd: Collection[Raw], asked: Query) -> Raw:
    """What MongoDB says of the command with which the resource reads a page."""
    found = NOTES_OF_ME.page(asked)
    profile = crowd.database["system.profile"].find_one(sort=[("$natural", -1)])
    assert profile is not None
    assert profile["nreturned"] == len(found.rows) + found.more
    assert "COLLSCAN" not in profile["planSummary"]
    return profile


PLACES: dict[str, Any] = {"middle": {}, "same": {"priority": 0}, "null": {"due": None}}
"""Where a page begins: in the middle of all, of the notes of one priority, of those that are not due."""


def page_at(crowd: Collection[Raw], place: str, sort: str, scope: str) -> Query:
    """The query of a page of a list."""
    asked = asked_for(sort=sort, scope=scope)
    if place == "first":
        return asked
    condition = {"$and": [NOTES_OF_ME.condition(asked), PLACES[place]]}
    middle = crowd.count_documents(condition) // 2
    last = crowd.find(condition, sort=list(asked.sort.keys), skip=middle, limit=1)[0]
    return asked_for(sort=sort, scope=scope, cursor=asked.cursor(last))


@pytest.mark.real
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(
    ("sort", "place"),
    [
        (sort, place)
        for sort in Note._meta["sorts"]
        for place in ("first", *PLACES)
        if PLACES.get(place, {}).keys() <= {name.removeprefix("-") for name in sort.split(",")}
    ],
)
def test_a_page_of_any_sort_reads_little_more_than_its_records(
    crowd: Collection[Raw], sort: str, place: str, scope: str
) -> None:
    profile = profiled(crowd, page_at(crowd, place, sort, scope))
    assert profile["nreturned"] == LIMIT + 1
    assert not profile.get("hasSortStage")
    assert profile["keysExamined"] <= 20 * SCOPES[scope] + 3 * LIMIT


FILTERS: dict[str, Any] = {
    "id": {"$gt": "8"},
    "owner": "owner8",
    "created_at": {"$gt": "2026-03-01T00:00:00Z"},
    "updated_at": {"$lt": "2026-03-01T00:00:00Z"},
    "revision": {"$gte": 1},
    "title": {"$prefix": "note 1"},
    "tags": "a",
    "pinned": True,
    "priority": {"$in": [1, 2]},
    "due": None,
    "place": {"$exists": True},
    "checklist.text": "milk",
    "checklist.done": {"$ne": True},
    "notebook": {"$exists": False},
}
"""A condition on each field that can be filtered."""


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "scope"),
    [(name, scope) for name in Note._meta["filters"] for scope in SCOPES],
)
def test_a_filter_reads_no_more_than_may_be_read_and_sorts_nothing(
    crowd: Collection[Raw], name: str, scope: str
) -> None:
    profile = profiled(crowd, asked_for(where={name: FILTERS[name]}, scope=scope))
    assert not profile.get("hasSortStage")
    assert profile["docsExamined"] < NOTES / 10


@pytest.mark.real
def test_what_is_near_comes_from_the_index_of_places(crowd: Collection[Raw]) -> None:
    near = {"point": [127, 37], "max_metres": 20_000}
    profile = profiled(crowd, asked_for(where={"place": {"$near": near}, "pinned": True}))
    assert "GEO_NEAR_2DSPHERE" in profile["planSummary"]
    assert profile["docsExamined"] < NOTES / 10


@pytest.mark.real
def test_a_search_reads_only_what_is_mine(crowd: Collection[Raw]) -> None:
    NOTES_OF_ME.page(asked_for(search="note "))
    asked = {"command.hint": "search_words"}
    (profile,) = crowd.database["system.profile"].find(asked, sort=[("$natural", -1)], limit=1)
    assert crowd.count_documents({"owner": str(ME)}, limit=MOST_RANKED + 1) > MOST_RANKED - 100
    assert profile["planSummary"] == "IXSCAN { search_words.w: 1 }"
    assert profile["keysExamined"] == profile["docsExamined"] == profile["nreturned"]
