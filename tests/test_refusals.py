"""What only MongoDB can refuse: 422 on the field, on every way of writing, with nothing stored."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from mongoengine.connection import get_db
from pymongo.errors import OperationFailure, WriteError

from service.documents import Record
from service.model.registry import Registry
from service.mongo import problems, transactions
from service.policy import Identity
from service.records import refusals
from service.records.bulk import Bulk, BulkWrite
from service.upkeep import indexes
from tests.client import Person, Phone, pointers
from tests.types import type_of
from tests.waiting import until

pytestmark = pytest.mark.real


def ring(*corners: tuple[float, float]) -> list[list[float]]:
    return [[*corner] for corner in (*corners, corners[0])]


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [*rings]}


def line(*positions: tuple[float, float]) -> dict[str, Any]:
    return {"type": "LineString", "coordinates": [[*position] for position in positions]}


SQUARE = ring((0, 0), (2, 0), (2, 2), (0, 2))
GOOD = polygon(SQUARE)
SHAPES = {
    "bow-tie": polygon(ring((0, 0), (2, 2), (2, 0), (0, 2))),
    "hole outside": polygon(SQUARE, ring((5, 5), (6, 5), (6, 6))),
    "hole that is the ring": polygon(SQUARE, SQUARE),
    "hole that crosses the ring": polygon(SQUARE, ring((1, 1), (3, 1), (3, 1.5))),
    "spike": polygon(ring((0, 0), (1, 0), (0, 0), (0, 1))),
}


class Stop(me.EmbeddedDocument):
    area = me.PolygonField()


class Park(Record):
    """A type with shapes at every depth, and with what other indexes do not hold."""

    title = me.StringField(max_length=100)
    area = me.PolygonField(db_field="a")
    path = me.LineStringField()
    stops = me.EmbeddedDocumentListField(Stop)
    tags = me.ListField(me.StringField())
    links = me.ListField(me.StringField())
    kind = me.DictField()
    language = me.StringField()
    note = me.StringField(db_field="n")

    meta = {
        "collection": "test_parks",
        "indexes": [
            {"fields": ["$title"]},
            "#kind",
            [("stops.area", "2dsphere")],
        ],
    }


@pytest.fixture
def parks(app: Flask, make_app: Any, ada: Person) -> Iterator[Phone]:
    other = make_app(documents=[Park])
    with other.app_context():
        indexes.make(other.extensions["madang.registry"])
    yield Phone(other.test_client(), ada.headers)
    Park._get_collection().drop()


Way = Callable[[Phone, str, Any], Any]


def by_patch(phone: Phone, name: str, value: Any) -> Any:
    return phone.patch("/v1/test_parks/a", {name: value})


def computed(phone: Phone, name: str, value: Any) -> Any:
    """By a patch that is applied to what is there."""
    return phone.patch("/v1/test_parks/a", {name: value, "kind": {"x": 1}})


def in_batch(phone: Phone, name: str, value: Any, **options: Any) -> Any:
    requests = [{"method": "POST", "path": "/v1/test_parks", "body": {name: value}}]
    return phone.post("/v1/batch", {"requests": requests, **options})


WAYS: dict[str, Way] = {
    "POST": lambda phone, name, value: phone.post("/v1/test_parks", {name: value}),
    "POST with a key": lambda phone, name, value: phone.post(
        "/v1/test_parks", {name: value}, headers={"Idempotency-Key": "k"}
    ),
    "PUT": lambda phone, name, value: phone.put("/v1/test_parks/b", {name: value}),
    "PUT of what is there": lambda phone, name, value: phone.put("/v1/test_parks/a", {name: value}),
    "PUT if at": lambda phone, name, value: phone.put("/v1/test_parks/a", {name: value}, headers={"If-Match": '"1"'}),
    "PUT if none": lambda phone, name, value: phone.put(
        "/v1/test_parks/b", {name: value}, headers={"If-None-Match": "*"}
    ),
    "PATCH": by_patch,
    "PATCH, computed": computed,
    "PATCH with a key": lambda phone, name, value: phone.patch(
        "/v1/test_parks/a", {name: value}, headers={"Idempotency-Key": "k"}
    ),
    "batch": in_batch,
    "atomic batch": lambda phone, name, value: in_batch(phone, name, value, atomic=True),
}


def refused(answer: Any) -> dict[str, str]:
    """The causes of a refusal, alone or in a batch."""
    if answer.status_code == 200:
        (part,) = answer.json["responses"]
        assert part["status"] == 422, part
        return {cause["pointer"]: cause["code"] for cause in part["body"]["errors"]}
    assert answer.status_code == 422, answer.json
    return pointers(answer)


@pytest.mark.parametrize("way", WAYS)
def test_a_shape_that_mongodb_takes_for_none_is_told_on_its_field(parks: Phone, way: str) -> None:
    before = parks.post("/v1/test_parks", {"id": "a", "area": GOOD}).json
    for name, shape in SHAPES.items():
        assert refused(WAYS[way](parks, "area", shape)) == {"/area": "shape"}, name
        if "key" in way:
            break
    assert parks.get("/v1/test_parks").json["items"] == [before]


@pytest.mark.parametrize("way", ["POST", "PUT of what is there", "PATCH", "PATCH, computed"])
def test_of_several_shapes_the_wrong_ones_are_causes_at(parks: Phone, way: str) -> None:
    parks.post("/v1/test_parks", {"id": "a"})
    bow, spike = SHAPES["bow-tie"], SHAPES["spike"]
    stops = [{"area": GOOD}, {"area": bow}, {}, {"area": spike}]
    assert refused(WAYS[way](parks, "stops", stops)) == {"/stops/1/area": "shape", "/stops/3/area": "shape"}


def test_a_patch_tells_its_own_place_of_a_shape(parks: Phone) -> None:
    made = parks.post("/v1/test_parks", {"id": "a", "stops": [{"area": GOOD}]})
    assert made.status_code == 201, made.json
    bow = SHAPES["bow-tie"]
    bodies: list[tuple[dict[str, Any], str]] = [
        ({"$push": {"stops": {"each": [{"area": GOOD}, {"area": bow}]}}}, "/$push/stops/each/1/area"),
        ({"$add_to_set": {"stops": {"each": [{"area": bow}]}}}, "/$add_to_set/stops/each/0/area"),
        ({"stops.0": {"area": bow}}, "/stops.0/area"),
        ({"stops.0.area": bow}, "/stops.0.area"),
        ({"$push": {"stops": {"area": bow}}}, "/$push/stops/area"),
        ({"title": "x", "area": bow, "path": line((0, 0), (1, 1))}, "/area"),
    ]
    for body, place in bodies:
        assert refused(parks.patch("/v1/test_parks/a", body)) == {place: "shape"}, body
    assert parks.get("/v1/test_parks/a").json["revision"] == 1


def test_a_shape_that_no_index_holds_may_be_any(ada: Person, make_app: Any) -> None:
    class Sketch(Record):
        area = me.PolygonField(auto_index=False)
        meta = {"collection": "test_sketches"}

    phone = Phone(make_app(documents=[Sketch]).test_client(), ada.headers)
    assert phone.post("/v1/test_sketches", {"area": SHAPES["bow-tie"]}).status_code == 201
    Sketch._get_collection().drop()


@pytest.mark.parametrize("way", WAYS)
def test_a_record_over_16_mb_is_told_on_its_largest_field(parks: Phone, way: str, monkeypatch: Any) -> None:
    app: Any = parks.client.application
    monkeypatch.setitem(app.config, "MAX_CONTENT_LENGTH", 64 * 2**20)
    parks.post("/v1/test_parks", {"id": "a", "tags": ["x"]})
    assert refused(WAYS[way](parks, "note", "x" * 17 * 2**20)) == {"/note": "too_large"}
    assert [item["note"] for item in parks.get("/v1/test_parks").json["items"]] == [None]


def has_stored(values: dict[str, Any]) -> bool:
    """Store what is large, where the cache of a small MongoDB has room for it now."""
    try:
        return bool(Park._get_collection().update_one({"_id": "a"}, {"$set": values}).matched_count)
    except WriteError as error:
        if error.code != problems.CACHE_FULL:
            raise
        return False


def test_a_list_that_grows_over_16_mb_is_causes_at(parks: Phone) -> None:
    parks.post("/v1/test_parks", {"id": "a"})
    piece = ["x" * 500_000]
    until(lambda: has_stored({"links": piece * 33}))
    assert refused(parks.patch("/v1/test_parks/a", {"title": "y", "$push": {"links": piece[0]}})) == {
        "/$push/links": "too_large"
    }
    answer = parks.patch("/v1/test_parks/a", {"$push": {"links": {"each": piece}}, "kind": {"a": 1}})
    assert refused(answer) == {"/$push/links": "too_large"}
    assert parks.get("/v1/test_parks/a").json["revision"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_what_the_validator_of_a_collection_refuses_is_told_on_its_field(parks: Phone, way: str) -> None:
    parks.post("/v1/test_parks", {"id": "a"})
    rules = {"properties": {"n": {"maxLength": 3}, "title": {"enum": ["a", "b"]}}}
    get_db().command("collMod", "test_parks", validator={"$jsonSchema": rules})
    assert refused(WAYS[way](parks, "note", "long")) == {"/note": "not_valid"}
    assert refused(WAYS[way.replace(" with a key", "")](parks, "title", "c")) == {"/title": "not_valid"}


def test_what_another_validator_refuses_is_told_of_the_whole(parks: Phone) -> None:
    parks.post("/v1/test_parks", {"id": "a"})
    get_db().command("collMod", "test_parks", validator={"$expr": {"$lt": [{"$strLenCP": "$n"}, 3]}})
    assert refused(parks.post("/v1/test_parks", {"note": "long"})) == {"": "not_valid"}


@pytest.mark.parametrize("way", [way for way in WAYS if "key" not in way])
def test_what_other_indexes_do_not_hold_is_told_on_its_field(parks: Phone, way: str) -> None:
    parks.post("/v1/test_parks", {"id": "a", "title": "x"})
    assert refused(WAYS[way](parks, "language", "elvish")) == {"/language": "not_allowed"}
    Park._get_collection().update_one({"_id": "a"}, {"$unset": {"links": ""}})
    get_db()["test_parks"].create_index([("links", "hashed")])
    assert refused(WAYS[way](parks, "links", ["x"])) == {"/links": "not_indexed"}


@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_two_lists_that_no_index_holds_together_are_causes_at(parks: Phone, method: str) -> None:
    parks.post("/v1/test_parks", {"id": "a"})
    Park._get_collection().update_one({"_id": "a"}, {"$unset": {"links": "", "tags": ""}})
    get_db()["test_parks"].create_index([("links", 1), ("tags", 1)])
    path = "/v1/test_parks" if method == "post" else "/v1/test_parks/a"
    answer = getattr(parks, method)(path, {"tags": ["x"], "links": ["y"]})
    assert refused(answer) == {"/tags": "not_indexed", "/links": "not_indexed"}
    Park._get_collection().update_one({"_id": "a"}, {"$set": {"links": ["x"]}})
    assert refused(parks.patch("/v1/test_parks/a", {"$push": {"tags": "y"}})) == {"/$push/tags": "not_indexed"}


def test_a_shape_in_a_batch_undoes_all_of_an_atomic_one(parks: Phone) -> None:
    bodies = [{"title": "x"}, {"area": SHAPES["bow-tie"]}, {"title": "y"}]
    requests = [{"method": "POST", "path": "/v1/test_parks", "body": body} for body in bodies]
    answer = parks.post("/v1/batch", {"requests": requests, "atomic": True})
    assert [part["status"] for part in answer.json["responses"]] == [424, 422, 424]
    assert Park._get_collection().count_documents({}) == 0


def test_a_refusal_is_kept_for_its_key_and_told_again(parks: Phone) -> None:
    answers = [
        parks.post("/v1/test_parks", {"area": SHAPES["bow-tie"]}, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert [refused(answer) for answer in answers] == [{"/area": "shape"}] * 2
    assert answers[1].headers["Idempotent-Replayed"] == "true"


def test_of_many_writes_at_once_those_that_mongodb_refuses_have_a_problem(parks: Phone, ada: Person) -> None:
    types = Registry([Park])
    park, identity = types.of(Park), Identity(ada.id, "", 0)
    parks.post("/v1/test_parks", {"id": "old"})
    get_db().command("collMod", "test_parks", validator={"$jsonSchema": {"properties": {"n": {"maxLength": 3}}}})
    values: dict[str, Any] = {
        "bow": {"area": SHAPES["bow-tie"]},
        "good": {"area": GOOD, "title": "x"},
        "spike": {"stops": [{"area": GOOD}, {"area": SHAPES["spike"]}]},
        "long": {"note": "long"},
        "old": {"title": "y", "language": "elvish"},
    }
    tries = []

    def work() -> list[BulkWrite]:
        tries.append(1)
        writes = [BulkWrite(park, id, named) for id, named in values.items()]
        bulk = Bulk(types, identity, timedelta(days=1), lambda _targets: set())
        bulk.read(writes)
        bulk.prepare(writes)
        bulk.store(writes)
        return writes

    done = transactions.run(work)
    problems = {write.id: [cause.pointer for cause in write.problem.causes] for write in done if write.problem}
    assert problems == {"bow": ["/area"], "spike": ["/stops/1/area"], "long": ["/note"], "old": ["/language"]}
    assert {item["id"]: item["title"] for item in parks.get("/v1/test_parks").json["items"]} == {
        "old": None,
        "good": "x",
    }
    assert len(tries) == 4


def test_an_error_that_no_field_can_mend_stays_a_bug() -> None:
    error = OperationFailure("conflict", 40)
    assert refusals.refused(type_of(Park), error, {"title": "x"}) is error
