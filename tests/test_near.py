"""What is near and what is within: only a real server has them."""

import json
from typing import Any

import pytest

from service.documents import Note
from tests.client import Person
from tests.types import new, parser_of

pytestmark = pytest.mark.real


def titles(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json
    return [item["title"] for item in answer.json["items"]]


def place(longitude: float, latitude: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [longitude, latitude]}


@pytest.fixture
def city(ada: Person) -> Person:
    for title, longitude in (("far", 127.2), ("here", 127.0), ("near", 127.01)):
        ada.make_note(title=title, place=place(longitude, 37.5))
    ada.make_note(title="nowhere")
    return ada


def test_the_nearest_comes_first(city: Person) -> None:
    answer = city.find(where={"place": {"$near": {"point": [127.0, 37.5]}}})
    assert titles(answer) == ["here", "near", "far"]
    assert answer.json["next"] is None


def test_only_what_is_within_the_distance_is_found_and_counted(city: Person) -> None:
    answer = city.find(where={"place": {"$near": {"point": [127.0, 37.5], "max_metres": 2000}}}, count="true", limit=1)
    assert titles(answer) == ["here"]
    assert (answer.json["total"], answer.json["next"]) == (2, None)


@pytest.mark.parametrize("centre", [(0, 90), (10, 90), (0, -90), (180, 0), (-180, 0), (30, 89.99), (0, 0)])
@pytest.mark.parametrize("most", [0, 1, 1112, 60_000, 20_100_000, None])
def test_what_is_near_is_counted_as_it_is_listed(ada: Person, centre: tuple[float, float], most: float | None) -> None:
    _, latitude = centre
    away = [(shift, turn) for shift in (0, 0.01, 0.5) for turn in (0, 90, -90)]
    inwards = -1 if latitude > 0 else 1
    spots = [centre, *((turn, latitude + inwards * shift) for shift, turn in away)]
    Note._get_collection().insert_many(new(Note, ada.id, {"title": "x", "place": place(*spot)}) for spot in spots)
    near = {"point": centre, **({} if most is None else {"max_metres": most})}
    answer = ada.find(where={"place": {"$near": near}, "title": "x"}, count="true", limit=100).json
    assert answer["total"] == len(answer["items"]) > 0


def test_what_is_near_is_filtered_too(city: Person) -> None:
    where = {"place": {"$near": {"point": [127.0, 37.5]}}, "title": {"$ne": "here"}}
    assert titles(city.find(where=where)) == ["near", "far"]


def test_what_is_near_is_no_business_of_strangers(city: Person, bob: Person) -> None:
    assert titles(bob.find(where={"place": {"$near": {"point": [127.0, 37.5]}}}, scope="mine,shared,public")) == []


AROUND = {"box": [[126.95, 37], [127.05, 38]]}


def polygon(*ring: list[float]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


@pytest.mark.parametrize("shape", [AROUND, polygon([126.95, 37], [127.05, 37], [127.05, 38], [126.95, 38])])
def test_what_is_within_is_found_in_any_order_and_counted(city: Person, shape: dict[str, Any]) -> None:
    answer = city.find(where={"place": {"$within": shape}}, sort="-title", count="true")
    assert titles(answer) == ["near", "here"]
    assert answer.json["total"] == 2
    assert titles(city.find(where={"place": {"$not": {"$within": shape}}}, sort="title")) == ["far", "nowhere"]


@pytest.mark.parametrize("sort", Note._meta["sorts"])
def test_what_is_within_is_paged_by_any_sort(city: Person, sort: str) -> None:
    where = {"place": {"$within": {"box": [[126, 37], [128, 38]]}}}
    found, page = [], city.find(where=where, sort=sort, limit=1).json
    found += page["items"]
    while page["next"]:
        page = city.find(where=where, sort=sort, limit=1, cursor=page["next"]).json
        found += page["items"]
    assert found == city.find(where=where, sort=sort).json["items"]
    assert {item["title"] for item in found} == {"here", "near", "far"}


def test_what_is_within_is_no_business_of_strangers(city: Person, bob: Person) -> None:
    assert titles(bob.find(where={"place": {"$within": AROUND}}, scope="mine,shared,public")) == []


def test_what_is_within_is_searched(city: Person) -> None:
    east = {"box": [[127.1, 37], [127.3, 38]]}
    assert titles(city.find(where={"place": {"$within": east}}, search="far nowhere")) == ["far"]


@pytest.mark.parametrize("sort", Note._meta["sorts"])
def test_the_index_of_the_sort_serves_what_is_within(city: Person, sort: str) -> None:
    asked = parser_of(Note).parse({"sort": sort, "where": json.dumps({"place": {"$within": AROUND}})}, city.id, b"k")
    condition = {"$and": [{"access": {"$in": [f"o:{city.id}", f"r:{city.id}"]}}, asked.where]}
    # As a page is read: by the index of its sort.
    found = Note._get_collection().find(condition, sort=list(asked.sort.keys), collation=asked.sort.bson)
    found = found.hint(asked.sort.index_name)
    plan = str(found.explain()["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in plan
    assert "COLLSCAN" not in plan
    assert "'SORT'" not in plan


HOLE = [[5, 5], [6, 5], [6, 6], [5, 5]]


@pytest.mark.parametrize(
    "shape",
    [
        polygon([0, 0], [10, 10], [0, 10], [10, 0]),
        polygon([0, 0], [0, 0], [0, 0]),
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]], HOLE]},
        {"type": "Polygon", "coordinates": [HOLE, HOLE]},
    ],
)
@pytest.mark.parametrize("more", [{}, {"count": "true"}, {"search": "here"}])
def test_a_polygon_that_is_none_is_a_bad_query(city: Person, shape: dict[str, Any], more: dict[str, str]) -> None:
    answer = city.find(where={"place": {"$within": shape}}, **more)
    assert (answer.status_code, answer.json["code"]) == (400, "bad_query")
    assert "`place`" in answer.json["detail"]


def test_a_shape_stands_alone_on_its_field(ada: Person) -> None:
    box = {"$within": {"box": [[0, 0], [1, 1]]}}
    for where in ({"place": {**box, "$exists": True}}, {"place": {"$not": {**box, "$exists": True}}}):
        answer = ada.find(where=where)
        assert (answer.status_code, answer.json["code"]) == (400, "bad_query")
        assert "stands alone" in answer.json["detail"]
