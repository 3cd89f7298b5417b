"""What is said of a `where` that is refused, and what else of it holds at its edges."""

import json
from datetime import timedelta
from typing import Any

import mongoengine as me
import pytest

from service.documents import Record
from service.model.values import UNLIKE_ALL
from tests.test_query import BOX, MOMENT, TIME, Shop, misunderstood, parse

BETWEEN = "2026-11-22T10:00:00.0005Z"
NEXT = MOMENT + timedelta(milliseconds=1)
NO_STRING = "is compared with 1; it takes a string"


class Gauge(Record):
    """A record that is asked for a number, which may be larger than any whole number of MongoDB's."""

    height = me.FloatField()

    meta = {"collection": "gauges", "sorts": ["-updated_at"], "filters": ["height"]}


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"title": 1}, f"`title` {NO_STRING}"),
        ({"title": {"$ne": 1}}, f"`title` {NO_STRING}"),
        ({"title": {"$lt": None}}, "`title` is compared with null; it takes a string"),
        ({"title": {"$not": {"$gt": 1}}}, f"`title` {NO_STRING}"),
        ({"title": {"$nin": [1]}}, f"`title` {NO_STRING}"),
        ({"title": {"$in": "a"}}, "`title`: $in takes a list"),
        ({"tags": {"$all": [1]}}, f"`tags` {NO_STRING}"),
        ({"tags": {"$all": {}}}, "`tags`: $all takes a list"),
        ({"tags": {"$size": -1}}, "`tags`: $size takes a whole number from 0"),
        ({"due": {"$exists": 1}}, "`due`: $exists takes true or false"),
        ({"title": {"$prefix": 1}}, f"`title` {NO_STRING}"),
        ({"tags": {"$prefix": None}}, "`tags` is compared with null; it takes a string"),
        ({"title": {}}, "`title`: an empty object matches nothing; name an operator"),
        ({"title": {"$not": 1}}, "`title`: $not takes an object of operators"),
        ({"pinned": {"$gt": 1}}, "`pinned`: '$gt' does not apply; use one of $eq, $exists, $in, $ne, $nin, $not"),
        ({"tags": {"$elemMatch": []}}, "`tags`: $elemMatch takes an object of what one entry has to fulfil"),
        ({"tags": {"$elemMatch": {"$gt": 1}}}, f"`tags` {NO_STRING}"),
        (
            {"tags": {"$elemMatch": {"$exists": True}}},
            "`tags`: '$exists' does not apply; use one of $eq, $gt, $gte, $in, $lt, $lte, $ne, $nin, $not, $prefix",
        ),
        ({"checklist": {"$elemMatch": {"text": 1}}}, f"`checklist.text` {NO_STRING}"),
        ({"checklist": {"$elemMatch": {"$not": {"text": 1}}}}, f"`checklist.text` {NO_STRING}"),
        ({"checklist": {"$size": 1}}, "`checklist`: '$size' does not apply; use one of $elemMatch, $not"),
        ({"checklist": {"$elemMatch": {"": 1}}}, "'' cannot be filtered; these can: text, done"),
        (
            {"place": {"$not": {"$near": {"type": "Point", "coordinates": [1, 2]}}}},
            "`place`: $near stands at the top level of `where`, once and alone on its field",
        ),
        ({"$where": 1}, "`$where` is no operator here; there are $and, $or, $nor, $not, and fields"),
        ({"$or": 1}, "`$or` takes a list of at least one object"),
        ({"$and": True}, "`$and` takes a list of at least one object"),
        ({"$or": [1]}, "a condition has to be an object of fields or of $and, $or, $nor, $not"),
    ],
)
def test_what_is_refused_is_told_with_its_field_and_what_it_takes(where: Any, said: str) -> None:
    assert misunderstood(where) == said


@pytest.mark.parametrize("name", ["nothing", "checklist"])
def test_what_cannot_be_filtered_is_told_by_its_name(name: str) -> None:
    assert misunderstood({name: 1}).startswith(f"'{name}' cannot be filtered; these can: id, owner, ")


def test_an_embedded_document_has_no_entry_to_ask_of() -> None:
    assert "'address' cannot be filtered" in misunderstood({"address": {"$elemMatch": {"city": "a"}}}, Shop)


@pytest.mark.parametrize("more", [{"$exists": True}, {"$exists": True, "$not": {"$exists": False}}])
def test_what_stands_beside_a_shape_is_refused(more: dict[str, Any]) -> None:
    assert misunderstood({"place": {"$within": BOX, **more}}).startswith("`place`: $within stands alone on its field")


def test_a_prefix_has_at_most_1000_characters() -> None:
    parse(where={"title": {"$prefix": "a" * 1000}})
    said = misunderstood({"title": {"$prefix": "a" * 1001}})
    assert said == "`title`: $prefix takes a string of at most 1000 characters"


@pytest.mark.parametrize("size", [0, 63, 2**31 - 1])
def test_a_list_may_be_asked_for_any_size_that_mongodb_takes(size: int) -> None:
    assert parse(where={"tags": {"$size": size}}).where == {"tags": {"$size": size}}


def test_of_a_long_value_40_characters_are_told() -> None:
    assert "compared with " + json.dumps("x" * 38) + ";" in misunderstood({"priority": "x" * 38})
    assert 'compared with "' + "x" * 39 + "…;" in misunderstood({"priority": "x" * 39})


@pytest.mark.parametrize(
    ("where", "hangs"),
    [
        ({}, False),
        ({"title": "a"}, False),
        *(({"title": {operator: "a"}}, False) for operator in ("$eq", "$ne", "$prefix")),
        ({"priority": {"$gt": 1}}, False),
        *(({"title": {operator: "a"}}, True) for operator in ("$gt", "$gte", "$lt", "$lte")),
        ({"tags": {"$elemMatch": {"$gt": "a"}}}, True),
        ({"title": {"$gt": "a"}, "priority": {"$gt": 1}}, True),
        ({"priority": {"$gt": 1}, "$or": [{"title": {"$lt": "a"}}]}, True),
    ],
)
def test_only_more_and_less_of_a_text_hangs_on_the_alphabet(where: Any, hangs: bool) -> None:
    assert parse(where=where).by_alphabet is hangs


@pytest.mark.parametrize(
    ("operator", "asked"),
    [("$gt", MOMENT), ("$lte", MOMENT), ("$gte", NEXT), ("$lt", NEXT), ("$eq", UNLIKE_ALL), ("$ne", UNLIKE_ALL)],
)
def test_a_time_between_two_milliseconds_is_compared_with_the_one_that_decides(operator: str, asked: Any) -> None:
    assert parse(where={"due": {operator: BETWEEN}}).where == {"due": {operator: asked}}


def test_nothing_equals_a_time_between_two_milliseconds() -> None:
    assert parse(where={"due": BETWEEN}).where == {"due": {"$eq": UNLIKE_ALL}}
    where = {"due": {"$in": [BETWEEN, TIME, None]}}
    assert parse(where=where).where == {"due": {"$in": [UNLIKE_ALL, MOMENT, None]}}


def test_a_condition_on_a_plain_entry_is_a_level() -> None:
    def of_an_entry(levels: int) -> Any:
        condition: Any = {"$eq": "a"}
        for _ in range(levels - 1):
            condition = {"$not": condition}
        return {"tags": {"$elemMatch": condition}}

    parse(where=of_an_entry(8))
    assert misunderstood(of_an_entry(9)) == "`where` is nested over 8 levels"


def test_a_whole_number_of_more_than_64_bits_is_a_number() -> None:
    assert parse(Gauge, where={"height": {"$gt": 2**65}}).where == {"height": {"$gt": 2.0**65}}
