"""Paging below HTTP: which filter follows a page, whatever values it ends with, and what a wrong parameter says."""

from datetime import datetime
from typing import Any

import mongoengine as me
import pytest
from bson import Decimal128, ObjectId

from service.core.errors import BadParameter
from service.documents import Note, Record
from service.mongo.raw import Filter
from service.query import paging
from service.query.paging import following
from tests.test_query import KEY, MOMENT, ROW, parse
from tests.test_query_properties import Rank
from tests.types import parser_of, type_of

DAY_ONE = datetime(1, 1, 1)


class Ledger(Record):
    """A record with a number that is a string in JSON."""

    amount = me.LongField(as_string=True)

    meta = {"collection": "ledgers", "sorts": ["-updated_at", "amount"]}


def test_a_cursor_leads_to_what_follows_the_values_of_its_record() -> None:
    sort = type_of(Note).sorts["-priority,due"]
    asked = parse(sort="-priority,due")
    whole = following(sort, [3, MOMENT, "note-1"])
    assert asked.following(asked.cursor(ROW)).after == whole
    assert asked.following(asked.cursor({**ROW, "due": None})).after == following(sort, [3, None, "note-1"])


FOLLOWING: list[tuple[str, list[Any], Filter]] = [
    (
        "title",
        ["a", "id"],
        {"$and": [{"title": {"$gte": "a"}}, {"$or": [{"title": {"$gt": "a"}}, {"_id": {"$gt": "id"}}]}]},
    ),
    (
        "-title",
        ["a", "id"],
        {
            "$and": [
                {"title": {"$not": {"$gt": "a"}}},
                {"$or": [{"title": {"$not": {"$gte": "a"}}}, {"_id": {"$not": {"$gte": "id"}}}]},
            ]
        },
    ),
    (
        "due",
        [None, "id"],
        {
            "$or": [
                {"due": {"$gte": DAY_ONE}},
                {"due": {"$not": {"$gte": DAY_ONE}}, "_id": {"$gt": "id"}},
            ]
        },
    ),
    (
        "-due",
        [None, "id"],
        {
            "$and": [
                {"due": {"$not": {"$gte": DAY_ONE}}},
                {"$or": [{"due": {"$not": {"$gte": DAY_ONE}}, "_id": {"$not": {"$gte": "id"}}}]},
            ]
        },
    ),
    (
        "-priority,due",
        [3, None, "id"],
        {
            "$and": [
                {"priority": {"$not": {"$gt": 3}}},
                {
                    "$or": [
                        {"priority": {"$not": {"$gte": 3}}},
                        {"due": {"$gte": DAY_ONE}},
                        {"due": {"$not": {"$gte": DAY_ONE}}, "_id": {"$gt": "id"}},
                    ]
                },
            ]
        },
    ),
    (
        "-priority,due",
        [3, MOMENT, "id"],
        {
            "$and": [
                {"priority": {"$not": {"$gt": 3}}},
                {
                    "$or": [
                        {"priority": {"$not": {"$gte": 3}}},
                        {"due": {"$gt": MOMENT}},
                        {"due": MOMENT, "_id": {"$gt": "id"}},
                    ]
                },
            ]
        },
    ),
]


@pytest.mark.parametrize(("sort", "values", "wanted"), FOLLOWING)
def test_what_follows_a_record_is_bounded_by_its_first_value(sort: str, values: list[Any], wanted: Filter) -> None:
    assert following(type_of(Note).sorts[sort], values) == wanted


def test_a_null_before_other_values_stays_one() -> None:
    null = {"text": {"$not": {"$gte": ""}}}
    later = [{"text": {"$gte": ""}}, {**null, "whole": {"$not": {"$gte": 1}}}]
    tied = {**null, "whole": 1, "_id": {"$not": {"$gte": "id"}}}
    assert following(type_of(Rank).sorts["text,-whole"], [None, 1, "id"]) == {"$or": [*later, tied]}


def test_a_text_that_is_stored_in_another_form_is_found_again() -> None:
    asked, text = parse(sort="title"), "e\u0301"
    after = asked.following(asked.cursor({**ROW, "title": text})).after
    assert after == following(asked.sort, [text, "note-1"])


def test_a_number_that_clients_get_as_a_string_is_one_in_the_database() -> None:
    asked = parse(Ledger, sort="amount")
    assert asked.following(asked.cursor({"_id": "x", "amount": 2**60})).after == following(asked.sort, [2**60, "x"])


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("long", 2**53 + 1),
        ("whole", 7),
        ("real", 0.5),
        ("time", MOMENT),
        ("-day", datetime(2026, 11, 22)),
        ("key", ObjectId(b"\1" * 12)),
        ("price", Decimal128("2.50")),
    ],
)
def test_a_cursor_holds_a_value_in_the_form_that_the_database_has(sort: str, value: Any) -> None:
    asked = parse(Rank, sort=sort)
    stored = asked.sort.keys[0][0]
    after = asked.following(asked.cursor({"_id": "x", stored: value})).after
    assert after == following(asked.sort, [value, "x"])


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"limit": "0"}, "out_of_range"),
        ({"limit": "x"}, "out_of_range"),
        ({"count": "1"}, "not_allowed"),
        ({"scope": "all"}, "not_allowed"),
        ({"sort": "body"}, "not_allowed"),
        ({"cursor": "x"}, "not_valid"),
        ({"cursor": "é"}, "not_valid"),
        ({"fields": "nothing"}, "unknown_field"),
        ({"expand": "title"}, "unknown_field"),
        ({"expand": "notebook", "fields": "title"}, "not_allowed"),
        ({"search": "a", "scope": "public"}, "not_allowed"),
        ({"search": "a", "sort": "title"}, "not_allowed"),
    ],
)
def test_a_wrong_parameter_says_which_it_is_and_why(args: dict[str, str], code: str) -> None:
    with pytest.raises(BadParameter) as failed:
        parser_of(Note).parse(args, "ada", KEY)
    (cause,) = failed.value.causes
    assert (cause.parameter in args, cause.code, cause.pointer) == (True, code, None)
    assert failed.value.detail == f"`{cause.parameter}`: {cause.detail}"


def test_a_value_at_a_path_is_none_where_something_on_the_way_is_not_there() -> None:
    record = {"a": {"b": {"c": 1}}, "list": [1]}
    assert [paging.value_at(record, path) for path in ("a.b.c", "a.b", "a.x.c", "list.0", "x")] == [
        *(1, {"c": 1}),
        *(None, None, None),
    ]
