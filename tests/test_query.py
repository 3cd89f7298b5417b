"""The query string below HTTP: what each parameter and operator becomes, what is refused, and cursors."""

import json
from datetime import datetime
from typing import Any

import bson
import mongoengine as me
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from service.core.errors import BadParameter, BadQuery
from service.documents import Note, Notebook, Record
from service.model.record_type import InvalidDocument, path_in
from service.mongo import problems
from service.query.near import geo_near, refused_shape
from service.query.parse import Parser, Query, View
from service.query.search import RANK, Rank, parse_search
from tests.properties import examples
from tests.types import schema_of, type_of

KEY = b"k" * 32
TIME = "2026-11-22T10:00:00.000Z"
MOMENT = datetime(2026, 11, 22, 10)
ROW = {
    "_id": "note-1",
    "title": "é",
    "due": MOMENT,
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "priority": 3,
}


class Address(me.EmbeddedDocument):
    city = me.StringField(db_field="c")
    spot = me.PointField(auto_index=False)
    streets = me.ListField(me.StringField(), db_field="s")


class Shop(Record):
    """A record whose fields have other names in the database, some of them inside embedded documents."""

    name = me.StringField(db_field="n")
    address = me.EmbeddedDocumentField(Address, db_field="a")
    branches = me.EmbeddedDocumentListField(Address, db_field="b")

    meta = {
        "collection": "shops",
        "sorts": ["-updated_at", "name", "address.city"],
        "filters": [
            *("name", "address.city", "address.spot"),
            *("branches", "branches.city", "branches.streets", "branches.spot"),
        ],
    }


def parse(document: type[Record] = Note, account: str = "ada", key: bytes = KEY, **args: Any) -> Query:
    """The query of some parameters; `where` may be given decoded."""
    if not isinstance(args.get("where", ""), str):
        args["where"] = json.dumps(args["where"])
    return Parser(type_of(document)).parse(args, account, key)


def refused(document: type[Record] = Note, **args: Any) -> str:
    """What is said of a parameter that is refused, which has to be named as its cause."""
    with pytest.raises(BadParameter) as failed:
        parse(document, **args)
    assert failed.value.causes[0].parameter in args
    return failed.value.detail


def misunderstood(where: Any, document: type[Record] = Note) -> str:
    """What is said of a `where` that is refused."""
    with pytest.raises(BadQuery) as failed:
        parse(document, where=where)
    return failed.value.detail


# --- The simple parameters -------------------------------------------------------------------------------------------


def test_without_parameters_a_list_is_the_newest_of_the_own_and_the_shared() -> None:
    asked = parse()
    assert (asked.where, asked.after, asked.near, asked.search, asked.count) == ({}, {}, None, None, False)
    assert asked.sort.keys == (("updated_at", -1), ("_id", -1))
    assert (asked.limit, asked.scopes, asked.view) == (20, ("mine", "shared"), View(None, ()))


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("100", 100), ("020", 20)])
def test_limit_is_how_many_records_a_page_holds(text: str, limit: int) -> None:
    assert parse(limit=text).limit == limit


@pytest.mark.parametrize("text", ["0", "101", "-1", "+1", "1.0", "1e1", "", " 1", "1\n", "x", "\u0661", "9" * 5000])
def test_a_limit_out_of_range_is_refused(text: str) -> None:
    assert "1 to 100" in refused(limit=text)


@pytest.mark.parametrize(
    ("text", "sort"),
    [
        ("updated_at", (("updated_at", 1), ("_id", 1))),
        ("-title", (("title", -1), ("_id", -1))),
        ("-priority,due", (("priority", -1), ("due", 1), ("_id", 1))),
    ],
)
def test_a_sort_ends_on_the_id(text: str, sort: Any) -> None:
    assert parse(sort=text).sort.keys == sort


@pytest.mark.parametrize(
    "text", ["", "body", "-body", "id", "access", "title,due", "due,-priority", "--title", "+title"]
)
def test_a_sort_that_is_not_declared_is_refused_with_those_that_are(text: str) -> None:
    assert ", ".join(Note._meta["sorts"]) in refused(sort=text)


def test_a_sort_names_the_field_as_the_database_has_it() -> None:
    assert parse(Shop, sort="name").sort.keys[0] == ("n", 1)


def test_a_sort_inside_an_embedded_document_names_its_whole_path() -> None:
    assert parse(Shop, sort="address.city").sort.keys[0] == ("a.c", 1)


@pytest.mark.parametrize(
    ("text", "scopes"),
    [
        ("mine", ("mine",)),
        ("shared,mine", ("mine", "shared")),
        ("public,shared,mine", ("mine", "shared", "public")),
    ],
)
def test_scopes_are_taken_in_any_order(text: str, scopes: tuple[str, ...]) -> None:
    assert parse(scope=text).scopes == scopes


@pytest.mark.parametrize("text", ["", "all", "mine,", "mine,mine", "Mine", "mine shared", "mine, shared"])
def test_an_unknown_scope_is_refused(text: str) -> None:
    assert "mine, shared, public" in refused(scope=text)


@pytest.mark.parametrize(("text", "count"), [("true", True), ("false", False)])
def test_count_is_true_or_false(text: str, count: bool) -> None:
    assert parse(count=text).count is count


@pytest.mark.parametrize("text", ["", "1", "True", "yes"])
def test_another_count_is_refused(text: str) -> None:
    assert "true or false" in refused(count=text)


def test_fields_are_what_is_sent_and_the_id_always_is() -> None:
    assert parse(fields="title,tags,title").view.fields == ("id", "title", "tags")


def test_fields_are_all_that_is_read_but_for_those_of_the_cursor() -> None:
    assert set(parse(fields="title", sort="-priority,due").projection) == {"_id", "title", "priority", "due"}
    assert set(parse(Shop, fields="name").projection) == {"_id", "n", "updated_at"}


def test_all_fields_are_read_by_name_so_that_what_is_hidden_is_not() -> None:
    assert parse().projection == {field.stored: 1 for field in schema_of(Note).fields.values()}
    assert {"access", "purge_at"} <= {*schema_of(Note).hidden} - parse().projection.keys()


@pytest.mark.parametrize("text", ["", "access", "purge_at", "_id", "title,", "checklist.text", "title,nothing"])
def test_fields_that_are_not_there_are_refused_with_those_that_are(text: str) -> None:
    assert "id, owner, readers" in refused(fields=text)


def test_expand_names_references() -> None:
    assert parse(expand="notebook").view.expand == ("notebook",)
    assert parse(expand="notebook", fields="notebook").view.expand == ("notebook",)


@pytest.mark.parametrize(
    ("document", "text", "say"),
    [(Note, "title", "notebook"), (Note, "", "notebook"), (Notebook, "title", "no reference")],
)
def test_what_is_no_reference_cannot_be_expanded(document: type[Record], text: str, say: str) -> None:
    assert say in refused(document, expand=text)


def test_a_field_that_is_not_sent_cannot_be_expanded() -> None:
    assert "leaves out" in refused(expand="notebook", fields="title")


@pytest.mark.parametrize("text", ["a", "a b", "é" * 500])
def test_a_search_is_in_what_is_mine_where_it_does_not_say_otherwise(text: str) -> None:
    asked = parse(search=text)
    assert (asked.search, asked.scopes) == (parse_search(text), ("mine",))
    assert parse(search=text, scope="mine").scopes == ("mine",)
    assert parse(search=text, scope="shared,mine").scopes == ("mine", "shared")


@pytest.mark.parametrize(
    ("document", "args", "say"),
    [
        (Note, {"search": "a", "scope": "public"}, "scope=shared"),
        (Note, {"search": "a", "scope": "mine,public"}, "scope=shared"),
        (Note, {"search": "a", "sort": "title"}, "takes no sort"),
        (Note, {"search": ""}, "1 to 500"),
        (Note, {"search": " \t"}, "1 to 500"),
        (Note, {"search": "a" * 501}, "1 to 500"),
        (Notebook, {"search": "a"}, "no text fields"),
    ],
)
def test_a_search_that_no_index_serves_is_refused(document: type[Record], args: dict[str, str], say: str) -> None:
    assert say in refused(document, **args)


# --- where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "compiled"),
    [
        ({}, {}),
        ({"title": "a"}, {"title": {"$eq": "a"}}),
        ({"due": None}, {"due": {"$eq": None}}),
        ({"id": "a"}, {"_id": {"$eq": "a"}}),
        ({"due": TIME}, {"due": {"$eq": MOMENT}}),
        ({"due": {"$gt": "2026-11-22T12:00:00+02:00"}}, {"due": {"$gt": MOMENT}}),
        ({"priority": {"$gte": 1, "$lt": 3}}, {"priority": {"$gte": 1, "$lt": 3}}),
        ({"priority": {"$ne": 1}}, {"priority": {"$ne": 1}}),
        ({"priority": {"$lte": 99}}, {"priority": {"$lte": 99}}),
        ({"priority": {"$in": [1, None]}}, {"priority": {"$in": [1, None]}}),
        ({"priority": {"$nin": []}}, {"priority": {"$nin": []}}),
        ({"due": {"$exists": False}}, {"due": {"$exists": False}}),
        ({"pinned": True}, {"pinned": {"$eq": True}}),
        ({"tags": "a"}, {"tags": {"$eq": "a"}}),
        ({"tags": {"$all": ["a", "b"], "$size": 2}}, {"tags": {"$all": ["a", "b"], "$size": 2}}),
        ({"tags": {"$prefix": "a"}}, {"tags": {"$regex": "^a"}}),
        ({"title": {"$prefix": "a.*$"}}, {"title": {"$regex": r"^a\.\*\$"}}),
        ({"title": {"$not": {"$prefix": "a"}}}, {"title": {"$not": {"$regex": "^a"}}}),
        ({"checklist.text": "milk"}, {"checklist.text": {"$eq": "milk"}}),
        ({"notebook": {"$in": ["a"]}}, {"notebook": {"$in": ["a"]}}),
        ({"title": "a", "pinned": True}, {"$and": [{"title": {"$eq": "a"}}, {"pinned": {"$eq": True}}]}),
        ({"$and": [{"title": "a"}]}, {"$and": [{"title": {"$eq": "a"}}]}),
        ({"$or": [{"title": "a"}, {}]}, {"$or": [{"title": {"$eq": "a"}}, {}]}),
        ({"$nor": [{"title": "a"}]}, {"$nor": [{"title": {"$eq": "a"}}]}),
        ({"$not": {"title": "a"}}, {"$nor": [{"title": {"$eq": "a"}}]}),
    ],
)
def test_where_becomes_a_filter_typed_by_the_fields(where: Any, compiled: Any) -> None:
    assert parse(where=where).where == compiled


def test_where_names_the_fields_as_the_database_has_them() -> None:
    where = {"$or": [{"name": "a"}, {"address.city": "b"}, {"branches.city": "c"}]}
    assert parse(Shop, where=where).where == {
        "$or": [{"n": {"$eq": "a"}}, {"a.c": {"$eq": "b"}}, {"b.c": {"$eq": "c"}}]
    }


@pytest.mark.parametrize(
    ("where", "compiled"),
    [
        ({"tags": {"$elemMatch": {"$gt": "a", "$lt": "c"}}}, {"tags": {"$elemMatch": {"$gt": "a", "$lt": "c"}}}),
        (
            {"checklist": {"$elemMatch": {"text": {"$prefix": "a"}, "done": False}}},
            {"checklist": {"$elemMatch": {"$and": [{"text": {"$regex": "^a"}}, {"done": {"$eq": False}}]}}},
        ),
        (
            {"checklist": {"$not": {"$elemMatch": {"$or": [{"text": "a"}, {"$not": {"done": True}}]}}}},
            {
                "checklist": {
                    "$not": {"$elemMatch": {"$or": [{"text": {"$eq": "a"}}, {"$nor": [{"done": {"$eq": True}}]}]}}
                }
            },
        ),
    ],
)
def test_conditions_on_one_entry_of_a_list_stand_together(where: Any, compiled: Any) -> None:
    assert parse(where=where).where == compiled


def test_conditions_on_one_entry_name_the_fields_as_the_database_has_them() -> None:
    entry = {"city": "a", "streets": {"$elemMatch": {"$ne": "b"}}}
    assert parse(Shop, where={"branches": {"$size": 2, "$elemMatch": entry}}).where == {
        "b": {"$size": 2, "$elemMatch": {"$and": [{"c": {"$eq": "a"}}, {"s": {"$elemMatch": {"$ne": "b"}}}]}}
    }


@pytest.mark.parametrize("operand", [None, 1, "a", [], {}, {"checklist.text": "a"}, {"title": "a"}, {"$where": "1"}])
def test_what_is_no_condition_on_an_entry_is_refused(operand: Any) -> None:
    assert misunderstood({"checklist": {"$elemMatch": operand}})


@pytest.mark.parametrize(
    "operand",
    [None, "a", [], {}, {"$exists": True}, {"$size": 1}, {"$all": ["a"]}, {"$elemMatch": {"$eq": "a"}}, {"$gt": 1}],
)
def test_what_is_no_condition_on_a_plain_entry_is_refused(operand: Any) -> None:
    assert misunderstood({"tags": {"$elemMatch": operand}})


@pytest.mark.parametrize("condition", [None, 1, {"$size": 1}, {"$exists": True}, {"$eq": None}, {"$not": {"$size": 1}}])
def test_a_list_that_is_no_filter_is_asked_of_its_entries_only(condition: Any) -> None:
    assert misunderstood({"checklist": condition})


def test_a_field_that_an_entry_cannot_be_asked_for_is_refused_with_those_that_can() -> None:
    assert "these can: text, done" in misunderstood({"checklist": {"$elemMatch": {"title": "a"}}})


@pytest.mark.parametrize("text", ["", "{", "nothing", "{'a': 1}", '{"title": NaN}', "[" * 5000])
def test_a_where_that_is_not_json_is_refused(text: str) -> None:
    assert "not JSON" in misunderstood(text)


def test_a_where_that_is_not_unicode_is_refused() -> None:
    assert misunderstood('{"title": "\ud800"}')


@pytest.mark.parametrize("text", ["[]", "null", "1", '"title"', "true"])
def test_a_where_that_is_no_object_is_refused(text: str) -> None:
    assert "has to be a JSON object" in misunderstood(text)


@pytest.mark.parametrize(
    "name",
    ["nothing", "access", "readers", "body", "checklist", "tags.0", "title.x", "_id", "", "ti.tle", "a\0b", "purge_at"],
)
def test_a_field_that_cannot_be_filtered_is_refused_with_those_that_can(name: str) -> None:
    said = misunderstood({name: 1})
    assert "NUL" in said if "\0" in name else ", ".join(Note._meta["filters"]) in said


@pytest.mark.parametrize(
    "where",
    [
        {"$where": "sleep(1)"},
        {"$expr": {"$eq": [1, 1]}},
        {"$function": {}},
        {"$text": {"$search": "a"}},
        {"$comment": "a"},
        {"$jsonSchema": {}},
        {"$eq": 1},
        {"$near": {"point": [1, 2]}},
        {"$and": [{"$where": "1"}]},
        {"$not": {"$expr": 1}},
        {"title": {"$regex": "a"}},
        {"title": {"$where": "1"}},
        {"title": {"$expr": 1}},
        {"title": {"$type": 2}},
        {"title": {"$elemMatch": {}}},
        {"title": {"$options": "i", "$prefix": "a"}},
        {"title": {"$not": {"$regex": "a"}}},
        {"title": {"a": 1}},
        {"title": {"a.b": 1}},
        {"title": {"": 1}},
        {"title": {"$eq": "a", "x": 1}},
        {"checklist.text": {"$elemMatch": {}}},
        {"checklist.text": {"$elemMatch": {"$eq": "a"}}},
        {"priority": {"$mod": [2, 0]}},
        {"place": {"$geoWithin": {}}},
    ],
)
def test_what_else_mongodb_understands_is_refused(where: Any) -> None:
    assert misunderstood(where)


@pytest.mark.parametrize("operator", ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$prefix"])
@pytest.mark.parametrize("value", [{"$gt": ""}, {"$where": "1"}, {}, ["a"], 1, True])
def test_an_operator_or_another_type_where_a_text_belongs_is_refused(operator: str, value: Any) -> None:
    assert misunderstood({"title": {operator: value}})


@pytest.mark.parametrize(
    "where",
    [
        {"title": {"$in": "a"}},
        {"title": {"$in": {"$gt": ""}}},
        {"title": {"$in": ["a", {"$gt": ""}]}},
        {"title": {"$nin": [["a"]]}},
        {"title": {"$gt": None}},
        {"title": {"$prefix": None}},
        {"title": {"$not": "a"}},
        {"title": {"$not": None}},
        {"title": {}},
        {"title": {"$not": {}}},
        {"title": {"$all": ["a"]}},
        {"title": {"$size": 1}},
        {"title": []},
        {"tags": ["a"]},
        {"tags": {"$all": "a"}},
        {"tags": {"$all": [{"$elemMatch": {}}]}},
        {"tags": {"$size": -1}},
        {"tags": {"$size": 1.5}},
        {"tags": {"$size": True}},
        {"tags": {"$size": 2**31}},
        {"due": {"$exists": 1}},
        {"due": {"$exists": None}},
        {"due": {"$prefix": "2026"}},
        {"due": "2026-11-22"},
        {"due": 0},
        {"pinned": 1},
        {"pinned": {"$gt": False}},
        {"priority": "1"},
        {"priority": 1.5},
        {"priority": 2**64},
        {"priority": True},
        {"priority": {"$prefix": "1"}},
        {"place": {"type": "Point", "coordinates": [1, 2]}},
        {"place": {"$eq": None}},
        {"notebook": {"$gt": "a"}},
        {"$and": {}},
        {"$and": []},
        {"$or": [1]},
        {"$or": [[]]},
        {"$nor": None},
        {"$not": []},
        {"$not": "a"},
    ],
)
def test_an_operand_of_the_wrong_kind_is_refused(where: Any) -> None:
    assert misunderstood(where)


def test_an_operator_that_does_not_apply_is_refused_with_those_that_do() -> None:
    assert "$eq, $exists, $in, $ne, $nin, $not" in misunderstood({"pinned": {"$gt": True}})


def nested(name: str, levels: int) -> Any:
    condition: Any = {"title": "a"}
    for _ in range(levels):
        condition = {name: condition if name == "$not" else [condition]}
    return condition


def within_field(levels: int) -> Any:
    condition: Any = {"$eq": "a"}
    for _ in range(levels):
        condition = {"$not": condition}
    return {"title": condition}


@pytest.mark.parametrize("name", ["$and", "$or", "$nor", "$not"])
def test_a_where_may_be_nested_over_8_levels_and_no_more(name: str) -> None:
    parse(where=nested(name, 8))
    assert "nested over 8 levels" in misunderstood(nested(name, 9))


def within_entry(levels: int) -> Any:
    condition: Any = {"text": "a"}
    for _ in range(levels - 1):
        condition = {"$and": [condition]}
    return {"checklist": {"$elemMatch": condition}}


def test_a_condition_on_an_entry_is_a_level() -> None:
    parse(where=within_entry(8))
    assert "nested over 8 levels" in misunderstood(within_entry(9))
    assert "nested over 8 levels" in misunderstood({"$and": [within_entry(8)]})
    entry: Any = {"tags": {"$elemMatch": {"$eq": "a"}}}
    for _ in range(8):
        entry = {"$and": [entry]}
    assert "nested over 8 levels" in misunderstood(entry)


def test_a_condition_on_a_field_may_be_nested_over_8_levels_and_no_more() -> None:
    parse(where=within_field(8))
    assert "nested over 8 levels" in misunderstood(within_field(9))
    assert "nested over 8 levels" in misunderstood({"$and": [within_field(8)]})


@pytest.mark.parametrize(
    "terms",
    [
        lambda n: {"$or": [{"title": "a"}] * n},
        lambda n: {"title": {"$in": ["a"] * n}},
        lambda n: {"$or": [{"due": {"$exists": True}}] * n},
        lambda n: {"$or": [{"tags": {"$size": 1}}] * n},
        lambda n: {"priority": 1, "$or": [{"title": {"$nin": ["a"] * (n - 1)}}]},
        lambda n: {"$or": [{"title": {"$in": []}}] * n},
        lambda n: {"$or": [{}] * n},
        lambda n: {"$or": [{"place": {"$within": BOX}}] * n},
        lambda n: {"$or": [{"checklist": {"$elemMatch": {"text": "a"}}}] * n},
        lambda n: {"tags": {"$elemMatch": {"$in": ["a"] * n}}},
    ],
)
def test_a_where_may_have_100_terms_and_no_more(terms: Any) -> None:
    parse(where=terms(100))
    assert "over 100 terms" in misunderstood(terms(101))


@pytest.mark.parametrize("where", [{"title": "a\0"}, {"title\0": "a"}, {"tags": {"$in": ["\0"]}}])
def test_a_nul_is_refused(where: Any) -> None:
    assert "NUL" in misunderstood(where)


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert parse(where={"title": r"\u0000"}).where == {"title": {"$eq": r"\u0000"}}


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
@pytest.mark.parametrize("operator", ["$eq", "$lt", "$in"])
def test_a_number_that_mongodb_cannot_hold_is_refused(operator: str, number: int) -> None:
    assert misunderstood({"priority": {operator: [number] if operator == "$in" else number}})


# --- $near -----------------------------------------------------------------------------------------------------------


def test_near_becomes_a_query_of_its_own() -> None:
    asked = parse(where={"place": {"$near": {"point": [127, 37.5], "max_metres": 100}}, "pinned": True})
    point = {"type": "Point", "coordinates": [127.0, 37.5]}
    assert asked.near == {"place": {"$near": {"$geometry": point, "$maxDistance": 100.0}}}
    assert asked.where == {"pinned": {"$eq": True}}


@pytest.mark.parametrize(
    "condition",
    [
        {"$near": None},
        {"$near": [1, 2]},
        {"$near": {}},
        {"$near": {"max_metres": 1}},
        {"$near": {"point": [1]}},
        {"$near": {"point": [181, 0]}},
        {"$near": {"point": ["1", "2"]}},
        {"$near": {"point": {"type": "Point", "coordinates": [1, 2]}}},
        {"$near": {"point": [1, 2], "max_metres": "1"}},
        {"$near": {"point": [1, 2], "max_metres": True}},
        {"$near": {"point": [1, 2], "max_metres": -1}},
        {"$near": {"point": [1, 2], "max_metres": 30_000_001}},
        {"$near": {"point": [1, 2], "$minDistance": 1}},
        {"$near": {"point": [1, 2]}, "$exists": True},
        {"$not": {"$near": {"point": [1, 2]}}},
    ],
)
def test_a_near_that_makes_no_sense_is_refused(condition: Any) -> None:
    assert "`place`" in misunderstood({"place": condition})


@pytest.mark.parametrize("most", [0, 30_000_000])
def test_near_is_within_any_distance_that_the_earth_has(most: int) -> None:
    asked = parse(where={"place": {"$near": {"point": [127, 37.5], "max_metres": most}}})
    assert asked.near is not None
    assert asked.near["place"]["$near"]["$maxDistance"] == most


@pytest.mark.parametrize("most", [{}, {"max_metres": 100}])
def test_what_is_near_is_counted_under_the_same_condition(most: dict[str, int]) -> None:
    asked = parse(Shop, where={"address.spot": {"$near": {"point": [1, 2], **most}}})
    point = {"type": "Point", "coordinates": [1.0, 2.0]}
    stage = {"near": point, "key": "a.spot", "spherical": True, "distanceField": "_distance", "query": {"x": 1}}
    assert asked.near is not None
    assert geo_near(asked.near, {"x": 1}) == {"$geoNear": stage | ({"maxDistance": 100.0} if most else {})}


@pytest.mark.parametrize(
    "where",
    [
        {"$and": [{"place": {"$near": {"point": [1, 2]}}}]},
        {"$or": [{"place": {"$near": {"point": [1, 2]}}}, {"pinned": True}]},
        {"$not": {"place": {"$near": {"point": [1, 2]}}}},
        {"title": {"$near": {"point": [1, 2]}}},
        {"nothing": {"$near": {"point": [1, 2]}}},
        {"place": {"$near": {"point": [1, 2]}}, "title": {"$near": {"point": [1, 2]}}},
    ],
)
def test_a_near_elsewhere_than_on_a_point_at_the_top_is_refused(where: Any) -> None:
    assert misunderstood(where)


@pytest.mark.parametrize("parameter", [{"sort": "title"}, {"search": "a"}, {"cursor": "a"}])
def test_near_takes_no_sort_no_search_and_no_cursor(parameter: dict[str, str]) -> None:
    assert "$near sorts by distance" in refused(where={"place": {"$near": {"point": [1, 2]}}}, **parameter)


SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]}
BOX = {"box": [[126, 37], [128, 38.5]]}


def test_what_is_within_becomes_a_condition_of_the_database() -> None:
    asked = parse(where={"place": {"$within": BOX}}, sort="title")
    assert asked.where == {"place": {"$geoWithin": {"$box": [[126.0, 37.0], [128.0, 38.5]]}}}
    assert asked.shapes == ("place",)
    polygon = {"type": "Polygon", "coordinates": [[[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0], [0.0, 0.0]]]}
    assert parse(Shop, where={"$not": {"address.spot": {"$within": SQUARE}}}).where == {
        "$nor": [{"a.spot": {"$geoWithin": {"$geometry": polygon}}}]
    }


@pytest.mark.parametrize(
    "shape",
    [
        *(None, [], {}, 1, "box", {"box": None}, {"box": []}, {"box": [[0, 0]]}, {"box": [[0, 0], [1]]}, {"box": 5}),
        *({"box": [[0, 0], [1, "1"]]}, {"box": [[0, 0], [181, 1]]}, {"box": [[0, 0], [1, 1]], "x": 1}),
        *({"box": [[1, 0], [0, 1]]}, {"box": [[0, 1], [1, 0]]}, {"box": {"0": 1}}, {"box": "ab"}),
        *({**SQUARE, "type": "MultiPolygon"}, {**SQUARE, "crs": {}}, {"type": "Polygon"}, {"$box": [[0, 0], [1, 1]]}),
        *({**SQUARE, "coordinates": coordinates} for coordinates in (None, [], [[]], [[[0, 0], [1, 0], [0, 0]]])),
        {**SQUARE, "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]},
        {**SQUARE, "coordinates": [[[0, 0], *([[1, 1]] * 500), [0, 0]]]},
        {"$geometry": SQUARE},
    ],
)
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    say = misunderstood({"place": {"$within": shape}})
    assert "within" in say
    assert "`place`" in say


@pytest.mark.parametrize("box", [[[1, 1], [1, 2]], [[1, 1], [2, 1]], [[1, 1], [1, 1]]])
def test_a_box_may_be_a_line_or_a_point(box: list[list[int]]) -> None:
    assert parse(where={"place": {"$within": {"box": box}}}).where == {"place": {"$geoWithin": {"$box": box}}}


def test_what_mongodb_refuses_of_a_shape_is_told_of_its_fields_and_nothing_else_is() -> None:
    refused_by_mongodb = OperationFailure("no polygon", problems.BAD_VALUE)
    told = refused_shape(("home", "place"), refused_by_mongodb)
    assert isinstance(told, BadQuery)
    assert told.detail.startswith("`home`, `place`: ")
    assert refused_shape((), refused_by_mongodb) is refused_by_mongodb
    other = OperationFailure("another", problems.BAD_VALUE + 1)
    assert refused_shape(("place",), other) is other


@pytest.mark.parametrize(
    "where", [{"title": {"$within": BOX}}, {"$within": BOX}, {"tags": {"$elemMatch": {"$within": BOX}}}]
)
def test_what_is_within_is_asked_of_points_alone(where: Any) -> None:
    assert misunderstood(where)


def test_near_inside_an_embedded_document_names_its_whole_path() -> None:
    assert set(parse(Shop, where={"address.spot": {"$near": {"point": [1, 2]}}}).near or {}) == {"a.spot"}


# --- Cursors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [ROW, {"_id": "note-1"}])
@pytest.mark.parametrize("sort", Note._meta["sorts"])
def test_a_cursor_holds_whatever_value_a_sort_has(sort: str, row: dict[str, Any]) -> None:
    after = parse(sort=sort, cursor=parse(sort=sort).cursor(row)).after
    assert "note-1" in str(after)
    bson.encode(after)


@pytest.mark.parametrize(
    "same", [{"limit": "5"}, {"fields": "title"}, {"count": "true"}, {"expand": "notebook"}, {"where": " { } "}]
)
def test_a_cursor_goes_on_with_another_limit_or_view(same: dict[str, str]) -> None:
    assert parse(cursor=parse().cursor(ROW), **same).after == parse(cursor=parse().cursor(ROW)).after


@pytest.mark.parametrize(
    "other",
    [
        {"document": Notebook},
        {"account": "eve"},
        {"key": b"x" * 32},
        {"sort": "updated_at"},
        {"sort": "-priority,due"},
        {"where": {"pinned": True}},
        {"scope": "mine"},
        {"scope": "mine,shared,public"},
        {"search": "a"},
    ],
)
def test_a_cursor_of_another_query_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        parse(cursor=parse().cursor(ROW), **other)


def test_the_cursor_of_a_search_holds_the_rank_of_the_last() -> None:
    moment = datetime(2026, 11, 22, 10, 0, 0, 123000)
    cursor = parse(search="a").cursor({"_id": "b", RANK: Rank(10011, moment, "b")})
    assert parse(search="a", cursor=cursor).behind == (10011, moment, "b")
    for other in ({"search": "b"}, {"search": "a", "scope": "mine,shared"}, {"search": "a", "where": {"pinned": True}}):
        assert "earlier answer" in refused(cursor=cursor, **other)


CURSOR = parse().cursor(ROW)


@pytest.mark.parametrize("place", range(len(CURSOR) - 1))
def test_a_cursor_with_another_character_is_refused(place: int) -> None:
    other = "A" if CURSOR[place] != "A" else "B"
    assert "earlier answer" in refused(cursor=CURSOR[:place] + other + CURSOR[place + 1 :])


@pytest.mark.parametrize(
    "text",
    ["", "=", "A", "AAAA", "A" * 22, "é", "\0", f"{CURSOR}A", f"A{CURSOR}", f"{CURSOR}\n", f" {CURSOR}", CURSOR * 2],
)
def test_a_text_that_is_no_cursor_is_refused(text: str) -> None:
    assert "earlier answer" in refused(cursor=text)


@pytest.mark.parametrize("length", range(len(CURSOR)))
def test_a_cursor_that_is_cut_off_is_refused(length: int) -> None:
    assert "earlier answer" in refused(cursor=CURSOR[:length])


def test_a_cursor_has_one_spelling() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    cursor = parse(sort="title").cursor({"_id": "x", "title": "a"})
    others = [cursor[:-1] + letter for letter in letters if letter != cursor[-1]]
    assert all(refused(sort="title", cursor=text) for text in [*others, f"{cursor}="])


@given(st.text() | st.text(st.characters(codec="ascii")) | st.binary().map(lambda data: data.hex()))
@examples(100)
def test_garbage_for_a_cursor_is_refused(text: str) -> None:
    assert "earlier answer" in refused(cursor=text)


# --- Declarations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "say"),
    [
        ("nothing", "no public field"),
        ("access", "no public field"),
        ("name.x", "no embedded"),
        ("address.x", "no public"),
    ],
)
def test_a_path_that_leads_nowhere_is_a_bug_of_the_document(path: str, say: str) -> None:
    with pytest.raises(InvalidDocument, match=say):
        path_in(Shop, schema_of(Shop), path)


def test_a_part_with_filters_on_its_members_alone_is_no_filter_itself() -> None:
    parse(Shop, where={"address.city": "Seoul"})
    assert "address" in misunderstood({"address": {"$size": 1}}, Shop)


def test_a_polygon_has_at_most_500_positions() -> None:
    def within(positions: int) -> Any:
        ring = [[number / 1000, 0] for number in range(positions - 2)] + [[1, 1], [0, 0]]
        return {"place": {"$within": {"type": "Polygon", "coordinates": [ring]}}}

    parse(where=within(500))
    assert "500" in misunderstood(within(501))
