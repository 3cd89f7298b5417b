"""Attacks by what is small to ask for and large to answer: a page of a list ends in time (OWASP API4:2023)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from mongoengine import ListField, ReferenceField, StringField

from service.documents import Note, Record
from service.model.registry import Registry
from service.mongo import portion
from service.records import searching
from service.upkeep import indexes
from tests.client import Person
from tests.types import new

PLENTY = portion.PORTION_BYTES + 1024 * 1024
"""Bytes that no page has, though the last of its records may go beyond `PORTION_BYTES`."""


class Chest(Record):
    """What takes much room."""

    text = StringField()
    meta = {"collection": "test_chests"}


class Ship(Record):
    """What has many chests."""

    main = ReferenceField(Chest)
    chests = ListField(ReferenceField(Chest))
    meta = {"collection": "test_ships"}


def fill(person: Person, count: int, **content: Any) -> list[str]:
    """Ids of notes that are stored."""
    rows = [new(Note, person.id, {"title": f"a note {number:03}", **content}) for number in range(count)]
    Note._get_collection().insert_many(rows)
    return [row["_id"] for row in rows]


def walk(person: Person, path: str = "/v1/notes", **asked: Any) -> list[list[str]]:
    """The ids of each page of a list, none of which is too large."""
    pages, cursor = [], {}
    while cursor is not None:
        answer = person.get(path, query_string={**asked, **cursor})
        assert answer.status_code == 200, answer.json
        assert len(answer.data) < PLENTY
        pages.append([item["id"] for item in answer.json["items"]])
        cursor = {"cursor": answer.json["next"]} if answer.json["next"] else None
    return pages


def test_a_page_of_large_records_ends_early_and_the_next_one_goes_on(ada: Person) -> None:
    ids = fill(ada, 60, body="x" * 100_000)
    pages = walk(ada, sort="title", limit=100)
    assert [id for found in pages for id in found] == ids
    assert [len(found) for found in pages] == [42, 18]
    assert ada.find(limit=100, count="true").json["total"] == 60
    assert [len(found) for found in walk(ada, limit=100, fields="title")] == [60]


def test_what_grows_in_json_ends_a_page_too(ada: Person) -> None:
    ids = fill(ada, 20, body="\x01" * 100_000)
    pages = walk(ada, sort="title", limit=20)
    assert [id for found in pages for id in found] == ids
    assert [len(found) for found in pages] == [7, 7, 6]


def test_a_page_that_ends_early_leaves_out_what_cannot_be_told(ada: Person) -> None:
    ids = fill(ada, 60, body="x" * 100_000)
    Note._get_collection().update_many({"_id": {"$in": ids[40:43]}}, {"$set": {"tags": 5}})
    pages = walk(ada, sort="title", limit=100)
    assert [id for found in pages for id in found] == ids[:40] + ids[43:]


def test_large_records_are_told_by_rank(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        ada.make_note(title="tea " * (number + 1), body="x" * 100_000)
    ranked = [id for found in walk(ada, search="tea", limit=1) for id in found]
    assert len(ranked) == 6
    # Two of them are more than a page.
    for module in (portion, searching):
        monkeypatch.setattr(module, "PORTION_BYTES", 150_000)
    monkeypatch.setattr("service.mongo.short.PORTION_BYTES", 150_000)
    pages = walk(ada, search="tea", limit=6)
    assert [id for found in pages for id in found] == ranked
    assert max(map(len, pages)) < 6


@pytest.mark.real
def test_the_nearest_that_no_answer_holds_are_refused(ada: Person) -> None:
    fill(ada, 60, body="x" * 100_000, place={"type": "Point", "coordinates": [127.0, 37.5]})
    nearest = {"place": {"$near": {"point": [127.0, 37.5]}}}
    answer = ada.find(where=nearest, limit=100)
    assert (answer.status_code, answer.json["code"]) == (400, "too_expensive")
    assert "`limit`" in answer.json["detail"]
    assert len(ada.find(where=nearest, limit=40).json["items"]) == 40
    assert len(ada.find(where=nearest, limit=100, fields="title").json["items"]) == 60


# What is expanded


@pytest.fixture
def captain(make_app: Callable[..., Flask], ada: Person) -> Iterator[Person]:
    """Ada, at a service with ships and chests."""
    made = make_app(documents=[Chest, Ship])
    with made.app_context():
        indexes.make(Registry([Chest, Ship]))
    ada.client = made.test_client()
    chests = [new(Chest, ada.id, {"_id": f"c{number}", "text": "x" * 800_000}) for number in range(8)]
    Chest._get_collection().insert_many(chests)
    yield ada
    for document in (Chest, Ship):
        document._get_collection().delete_many({})


def sail(person: Person, *ships: dict[str, Any]) -> None:
    for number, ship in enumerate(ships):
        assert person.post("/v1/test_ships", {"id": f"s{number:02}", **ship}).status_code == 201


def test_one_large_record_that_many_refer_to_ends_a_page(captain: Person) -> None:
    sail(captain, *({"main": "c0"} for _ in range(12)))
    pages = walk(captain, "/v1/test_ships", expand="main", sort="created_at", limit=100)
    assert [len(found) for found in pages] == [6, 6]
    assert [id for found in pages for id in found] == [f"s{number:02}" for number in range(12)]


def test_many_large_records_that_are_referred_to_end_a_page(captain: Person) -> None:
    sail(captain, *({"main": f"c{number}"} for number in range(8)))
    pages = walk(captain, "/v1/test_ships", expand="main", sort="created_at", limit=100)
    assert [id for found in pages for id in found] == [f"s{number:02}" for number in range(8)]
    assert max(map(len, pages)) < 8


def test_one_record_that_refers_to_more_than_an_answer_holds_is_refused(captain: Person) -> None:
    sail(captain, {"chests": [f"c{number}" for number in range(8)]}, {"chests": ["c0"]})
    for path in ("/v1/test_ships/s00?expand=chests", "/v1/test_ships?expand=chests&sort=created_at"):
        answer = captain.get(path)
        assert (answer.status_code, answer.json["code"]) == (400, "too_expensive")
        assert "`expand`" in answer.json["detail"]
    assert captain.get("/v1/test_ships/s00").status_code == 200
    assert captain.get("/v1/test_ships/s01?expand=chests").json["expanded"]["chests"]["c0"]["id"] == "c0"
