"""What MongoDB is asked to do for a PATCH, and under which guard it keeps every rule of the fields."""

import math
from typing import Any

import mongoengine as me
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import ValidationFailed
from service.documents import Record
from service.model import patch
from service.model.field import field_of
from service.records import store
from tests.properties import examples
from tests.types import TwoAtMostField, create, schema_of, type_of

LEAST, MOST = -(2**63), 2**63 - 1


class Box(me.EmbeddedDocument):
    width = me.IntField(required=True, db_field="w")
    depth = me.IntField(default=3)
    height = me.IntField(max_value=9)


class Parcel(Record):
    """A field of each kind that MongoDB can change by itself, or cannot."""

    title = me.StringField(required=True)
    hint = me.StringField(db_field="h")
    kind = me.StringField(required=True, default="box")
    count = me.IntField(min_value=-3, max_value=3, default=0, db_field="c")
    total = me.LongField()
    low = me.LongField(min_value=5)
    high = me.LongField(max_value=-5)
    choice = me.IntField(choices=[0, 1])
    start = me.DateTimeField()
    tags = me.ListField(me.StringField(), max_length=3, db_field="t")
    loose = me.ListField(me.IntField())
    must = me.ListField(me.IntField(), required=True)
    order = me.SortedListField(me.IntField())
    two = TwoAtMostField(me.IntField())
    seeded = me.ListField(me.IntField(), default=lambda: [1])
    box = me.EmbeddedDocumentField(Box, db_field="b")
    case = me.EmbeddedDocumentField(Box, required=True)
    boxes = me.EmbeddedDocumentListField(Box)
    scores = me.MapField(me.IntField())
    sizes = me.MapField(me.IntField(), required=True)
    rates = me.MapField(me.IntField(required=True))
    ranks = me.MapField(me.IntField(default=4))
    extra = me.DictField()
    place = me.PointField(auto_index=False)

    meta = {"collection": "test_parcels"}


def parsed(body: Any) -> patch.Patch:
    return patch.parse(schema_of(Parcel), body)


THERE = {"$exists": True}


@pytest.mark.parametrize(
    ("body", "update", "guard"),
    [
        ({"title": "a", "hint": None}, {"$set": {"title": "a"}, "$unset": {"h": ""}}, {}),
        ({"count": None, "kind": None}, {"$set": {"c": 0, "kind": "box"}}, {}),
        ({"tags": None, "scores": None}, {"$set": {"t": [], "scores": {}}}, {}),
        ({"box.depth": None}, {"$set": {"b.depth": 3}}, {"b": THERE}),
        ({"box.height": None}, {"$unset": {"b.height": ""}}, {"b": THERE}),
        ({"case.height": None}, {"$unset": {"case.height": ""}}, {"case": THERE}),
        ({"boxes.1.height": None}, {"$unset": {"boxes.1.height": ""}}, {"boxes": THERE, "boxes.1": THERE}),
        ({"scores.a": None}, {"$unset": {"scores.a": ""}}, {"scores": THERE}),
        ({"rates.a": None}, {"$unset": {"rates.a": ""}}, {"rates": THERE}),
        ({"ranks.a": None}, {"$unset": {"ranks.a": ""}}, {"ranks": THERE}),
        ({"$inc": {"count": 2}}, {"$inc": {"c": 2}}, {"c": {"$gte": -5, "$lte": 1}}),
        ({"$inc": {"total": 2}}, {"$inc": {"total": 2}}, {"total": {"$gte": LEAST, "$lte": MOST - 2}}),
        ({"$inc": {"total": -2}}, {"$inc": {"total": -2}}, {"total": {"$gte": LEAST + 2, "$lte": MOST}}),
        ({"$inc": {"low": LEAST}}, {"$inc": {"low": LEAST}}, {"low": {"$in": []}}),
        ({"$inc": {"low": 5 - MOST}}, {"$inc": {"low": 5 - MOST}}, {"low": {"$gte": MOST, "$lte": MOST}}),
        ({"$inc": {"high": MOST}}, {"$inc": {"high": MOST}}, {"high": {"$in": []}}),
        ({"$min": {"count": 2}}, {"$min": {"c": 2}}, {"c": THERE}),
        ({"$max": {"choice": 1}}, {"$max": {"choice": 1}}, {}),
        ({"$min": {"choice": 1}}, {"$min": {"choice": 1}}, {}),
        ({"$push": {"loose": 1}}, {"$push": {"loose": {"$each": [1]}}}, {}),
        ({"$push": {"must": 1}}, {"$push": {"must": {"$each": [1]}}}, {}),
        ({"$push": {"seeded": 1}}, {"$push": {"seeded": {"$each": [1]}}}, {"seeded": THERE}),
        ({"$pull": {"tags": "a"}}, {"$pullAll": {"t": ["a"]}}, {}),
        ({"$add_to_set": {"tags": "a"}}, {"$addToSet": {"t": {"$each": ["a"]}}}, {"t.2": {"$exists": False}}),
        (
            {"$push": {"tags": {"each": ["a", "b", "c"], "position": 1}}},
            {"$push": {"t": {"$each": ["a", "b", "c"], "$position": 1}}},
            {"t.0": {"$exists": False}},
        ),
        (
            {"$push": {"tags": {"each": ["a", "b", "c", "d"], "slice": -3}}},
            {"$push": {"t": {"$each": ["a", "b", "c", "d"], "$slice": -3}}},
            {},
        ),
        (
            {"$push": {"tags": {"each": ["a"], "slice": 4}}},
            {"$push": {"t": {"$each": ["a"], "$slice": 4}}},
            {"t.2": {"$exists": False}},
        ),
        ({"$push": {"loose": {"each": [1], "slice": 0}}}, {"$push": {"loose": {"$each": [1], "$slice": 0}}}, {}),
        ({"$push": {"must": {"each": [], "slice": 1}}}, {"$push": {"must": {"$each": [], "$slice": 1}}}, {}),
    ],
    ids=str,
)
def test_mongodb_does_it_under_a_guard(body: Any, update: dict[str, Any], guard: dict[str, Any]) -> None:
    wanted = parsed(body)
    assert (wanted.direct, wanted.update, wanted.guard) == (True, update, guard)


@pytest.mark.parametrize(
    "body",
    [
        {"box": {"width": 1}},
        {"title": "a", "extra": {"a": 1}},
        {"scores": {"a": 1}},
        {"extra": {"type": "a", "coordinates": [1, 2]}},
        {"place": {"coordinates": [3, 4]}},
        {"place": {"type": "Point"}},
        {"boxes.0": None},
        {"sizes.a": None},
        {"$inc": {"choice": 1}},
        {"$min": {"count": 4}},
        {"$pull": {"must": 1}},
        {"$push": {"must": {"each": [1], "slice": 0}}},
        {"$push": {"order": 1}},
        {"$pull": {"order": 1}},
        {"$push": {"two": 1}},
        {"scores": {"a": 1}, "$push": {"tags": "a"}},
        {"$push": {"tags": {"each": ["a", "b", "c", "d"]}}},
        {"title": "a", "$push": {"tags": {"each": ["a", "b", "c", "d"]}}, "$add_to_set": {"loose": 1}},
    ],
    ids=str,
)
def test_what_mongodb_cannot_know_is_computed(body: Any) -> None:
    assert parsed(body).direct is False


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("name", "stored", "operand"), [("low", MOST, LEAST), ("high", LEAST, MOST)])
def test_no_sum_leaves_the_limits_at_the_ends_of_64_bits(name: str, stored: int, operand: int) -> None:
    before = create(Parcel, "ada", {"title": "a", name: stored})
    wanted = parsed({"$inc": {name: operand}})
    assert store.change(type_of(Parcel), {"_id": before["_id"], **wanted.guard}, wanted.update) is None
    with pytest.raises(ValidationFailed) as failed:
        wanted.apply(before)
    assert f"/$inc/{name}" in {cause.pointer for cause in failed.value.causes}
    Parcel._get_collection().delete_one({"_id": before["_id"]})


@pytest.mark.parametrize("body", [{"place": {"type": "Point", "coordinates": [1, 2]}}, {"place": None}, {"box": None}])
def test_a_value_that_is_whole_is_not_merged(body: Any) -> None:
    assert parsed(body).direct


LIMITS = st.floats(-1e6, 1e6).filter(lambda number: abs(number) > 1e-6) | st.integers(-9, 9).map(lambda n: n / 10)


@given(limits=st.tuples(LIMITS, LIMITS).map(sorted), operand=LIMITS)
@examples(300)
def test_no_sum_of_floats_leaves_the_limits_where_the_guard_holds(limits: list[float], operand: float) -> None:
    field = field_of(me.FloatField(min_value=limits[0], max_value=limits[1], db_field="x"), "x")
    guard = patch.room_for(field, operand)
    low, high = guard["$gte"], guard["$lte"]
    for number in (low, math.nextafter(low, math.inf), math.nextafter(high, -math.inf), high):
        assert not low <= number <= high or limits[0] <= number + operand <= limits[1]


def test_the_guard_of_a_float_lets_all_but_the_edges_pass() -> None:
    field = field_of(me.FloatField(min_value=-2, max_value=2, db_field="x"), "x")
    guard = patch.room_for(field, 0.5)
    assert -2.5 < guard["$gte"] < -2.499999999999
    assert 1.499999999999 < guard["$lte"] < 1.5
