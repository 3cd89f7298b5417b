"""Very many mistakes in one body: the first are told, each with its place, and no more is looked at than that takes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from mongoengine import fields as me

from service.core.errors import MOST_CAUSES, ValidationFailed
from service.core.json_text import MAX_LEVELS, MAX_MEMBERS, decode
from service.documents import Record
from service.model import load
from tests.client import Person, Phone, pointers

MakeApp = Callable[..., Flask]


class Part(me.EmbeddedDocument):
    text = me.StringField(required=True, max_length=9)


class Store(Record):
    words = me.ListField(me.StringField())
    few = me.ListField(me.StringField(), max_length=30)
    parts = me.EmbeddedDocumentListField(Part)
    rows = me.ListField(me.ListField(me.IntField()))
    counts = me.MapField(me.IntField())
    meta = {"collection": "stores"}


@pytest.fixture
def here(make_app: MakeApp, ada: Person) -> Iterator[Phone]:
    app = make_app([Store])
    yield Phone(app.test_client(), ada.headers)
    Store._get_collection().delete_many({})


def wrong_at(length: int, *places: int) -> list[Any]:
    """A list of texts with a number in some places."""
    return [1 if place in places else "x" for place in range(length)]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"words": wrong_at(10, 3, 7)}, {"/words/3": "wrong_type", "/words/7": "wrong_type"}),
        ({"words": wrong_at(90, 40, 49, 60)}, {"/words/40": "wrong_type", "/words/49": "wrong_type"}),
        ({"parts": [{"text": "a"}] * 70 + [{}]}, {"/parts/70/text": "required"}),
        ({"rows": [[1]] * 30 + [[1] * 30 + ["x"]]}, {"/rows/30/30": "wrong_type"}),
        ({"counts": {f"k{number}": number for number in range(60)} | {"z": ""}}, {"/counts/z": "wrong_type"}),
        ({"counts": {f"k{number}": number for number in range(60)} | {"$z": 1}}, {"/counts/$z": "key"}),
        ({"words": "x" * 90, "counts": [1] * 90}, {"/words": "wrong_type", "/counts": "wrong_type"}),
        ({"few": ["x"] * 31}, {"/few": "too_long"}),
    ],
)
def test_a_long_list_is_looked_through_as_far_as_its_first_mistakes(
    here: Phone, body: dict[str, Any], found: dict[str, str]
) -> None:
    assert here.put("/v1/stores/y", {}).status_code == 201
    for answer in (here.post("/v1/stores", body), here.put("/v1/stores/x", body), here.patch("/v1/stores/y", body)):
        assert (answer.status_code, pointers(answer)) == (422, found)


def test_a_long_list_without_a_mistake_is_stored_as_it_is(here: Phone) -> None:
    body = {
        "words": [f"w{number}" for number in range(load.CHECKED_AT_ONCE * 4 + 1)],
        "parts": [{"text": str(number)} for number in range(60)],
        "rows": [[row] * 60 for row in range(60)],
        "counts": {f"k{number}": number for number in range(60)},
    }
    told = here.put("/v1/stores/x", body).json
    assert {name: told[name] for name in body} == body


def test_of_very_many_mistakes_the_first_are_told(ada: Person) -> None:
    body = {"title": "x", **{f"m{number}": 1 for number in range(MAX_MEMBERS - 1)}}
    answer = ada.post("/v1/notes", body)
    assert answer.json["detail"] == f"{MOST_CAUSES} or more fields are not valid"
    assert [cause["pointer"] for cause in answer.json["errors"]] == [f"/m{number}" for number in range(MOST_CAUSES)]
    assert {cause["code"] for cause in answer.json["errors"]} == {"unknown_field"}


def test_mistakes_of_several_kinds_are_told_alike_however_many_there_are(ada: Person) -> None:
    wrong = {"title": "x" * 201, "tags": ["x"] * 21, "priority": 9, "due": "now", "checklist": [{"text": ""}]}
    few = ada.post("/v1/notes", wrong).json["errors"]
    many = ada.post("/v1/notes", wrong | {f"m{number}": 1 for number in range(MOST_CAUSES)}).json["errors"]
    assert len(few) == 5
    assert many[: len(few)] == few


def test_an_embedded_document_of_many_members_is_one_mistake(ada: Person) -> None:
    entry = {"text": "x", **{f"m{number}": 1 for number in range(50)}}
    answer = ada.post("/v1/notes", {"title": "x", "checklist": [entry] * 100})
    assert pointers(answer) == {f"/checklist/{number}": "unknown_field" for number in range(100)}
    assert answer.json["errors"][0]["detail"] == "no members but text, done"
    assert pointers(ada.post("/v1/notes", {"title": "x", "checklist": [{"text": "x", "m": 1}]})) == {
        "/checklist/0/m": "unknown_field"
    }


@pytest.mark.parametrize("name", ["$unset", "$inc", "$push"])
def test_an_operator_takes_so_many_names_and_no_more(ada: Person, name: str) -> None:
    ada.make_note(id="x")
    names = [f"m{number}" for number in range(MAX_MEMBERS + 1)]
    answer = ada.patch("/v1/notes/x", {name: names if name == "$unset" else dict.fromkeys(names, 1)})
    assert pointers(answer) == {"": "too_long"}
    assert str(MAX_MEMBERS) in answer.json["errors"][0]["detail"]


def test_a_request_of_a_batch_has_few_headers(ada: Person) -> None:
    part = {"method": "GET", "path": "/v1/notes", "headers": {f"h{number}": 1 for number in range(1000)}}
    assert pointers(ada.post("/v1/batch", {"requests": [part]})) == {"/requests/0/headers": "not_allowed"}


def nested(levels: int, inner: str) -> bytes:
    return ("[" * levels + inner + "]" * levels).encode()


def test_a_nul_is_told_with_its_place_at_any_level() -> None:
    with pytest.raises(ValidationFailed) as problem:
        decode(nested(MAX_LEVELS - 2, '{"a":["x","\\u0000"],"\\u0000":{"b":"\\u0000"}}'))
    spot = "/0" * (MAX_LEVELS - 2)
    assert [cause.pointer for cause in problem.value.causes] == [f"{spot}/a/1", f"{spot}/\0", f"{spot}/\0/b"]
