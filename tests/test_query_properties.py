"""Whatever is asked of whatever records: `where` finds what Python finds, and walking pages meets each record once."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import mongoengine as me
import pytest
from bson import Decimal128, ObjectId
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import BadParameter, BadQuery
from service.documents import Note, Record
from service.mongo.raw import Raw
from service.query.parse import Query
from tests.properties import examples
from tests.types import new, parser_of, schema_of

KEY = b"k" * 32
OWN = {"access": {"$in": ["o:ada", "r:ada"]}}
CI = examples(80)


class Rank(Record):
    """One field of each class that can be sorted by, all without a value where none is given."""

    text = me.StringField()
    whole = me.IntField()
    long = me.LongField()
    real = me.FloatField()
    flag = me.BooleanField()
    time = me.DateTimeField(db_field="t")
    day = me.DateField()
    key = me.ObjectIdField()
    price = me.Decimal128Field()

    meta = {
        "collection": "ranks",
        "sorts": [
            *("-updated_at", "created_at", "text,-whole", "-flag,time,-text", "-day,-text", "flag,whole"),
            *(
                f"{sign}{name}"
                for sign in ("", "-")
                for name in ("text", "whole", "long", "real", "time", "day", "key", "price")
            ),
        ],
        "filters": ["id"],
    }


@pytest.fixture(autouse=True)
def _empty(app: Flask) -> Iterator[None]:
    yield
    Rank._get_collection().delete_many({})


# --- where against Python --------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["a", "ab", "B", "a.c", "é", "😀", "a c", "\n"])
PRIORITIES = st.integers(0, 3)
TIMES = st.sampled_from([f"2026-11-{day}T10:00:00.000Z" for day in (10, 11, 12)])
BOOKS = st.sampled_from(["x", "y"])
PLACES = st.tuples(st.integers(-2, 2), st.integers(-2, 2)).map(
    lambda pair: {"type": "Point", "coordinates": [float(part) for part in pair]}
)
NOTES = st.fixed_dictionaries(
    {
        "title": WORDS,
        "tags": st.lists(WORDS, max_size=3),
        "pinned": st.booleans(),
        "priority": PRIORITIES,
        "checklist": st.lists(st.fixed_dictionaries({"text": WORDS, "done": st.booleans()}), max_size=3),
    },
    optional={"due": TIMES, "notebook": BOOKS, "place": PLACES},
)

EQUAL = ["$eq", "$ne"]
ORDER = ["$gt", "$gte", "$lt", "$lte"]
FIELDS: dict[str, tuple[st.SearchStrategy[Any], list[str]]] = {
    "title": (WORDS, [*EQUAL, *ORDER, "$prefix"]),
    "tags": (WORDS, [*EQUAL, *ORDER, "$prefix"]),
    "checklist.text": (WORDS, [*EQUAL, *ORDER, "$prefix"]),
    "checklist.done": (st.booleans(), EQUAL),
    "pinned": (st.booleans(), EQUAL),
    "priority": (PRIORITIES, [*EQUAL, *ORDER]),
    "due": (TIMES, [*EQUAL, *ORDER]),
    "notebook": (BOOKS, EQUAL),
}


def operations(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """One operator and its operand for a field."""
    values, operators = FIELDS[name]
    nullable = values if "." in name else values | st.none()
    said = [st.fixed_dictionaries({operator: values}) for operator in operators]
    said += [st.fixed_dictionaries({operator: nullable}) for operator in EQUAL]
    said += [st.fixed_dictionaries({operator: st.lists(nullable, max_size=2)}) for operator in ("$in", "$nin")]
    if "." not in name:
        said.append(st.fixed_dictionaries({"$exists": st.booleans()}))
    if name == "tags":
        said.append(st.fixed_dictionaries({"$all": st.lists(values, max_size=2)}))
        said.append(st.fixed_dictionaries({"$size": st.integers(0, 3)}))
    return st.one_of(said)


def elements() -> st.SearchStrategy[dict[str, Any]]:
    """Conditions on one entry of a list, or their opposite."""
    member = st.one_of([st.fixed_dictionaries({f: c}) for f, c in (("text", WORDS), ("done", st.booleans()))])
    both = st.fixed_dictionaries({"text": WORDS | st.fixed_dictionaries({"$ne": WORDS}), "done": st.booleans()})
    either = st.fixed_dictionaries({"$or": st.lists(member, min_size=1, max_size=2)})
    neither = st.fixed_dictionaries({"$not": both | member})
    items = st.fixed_dictionaries({"$elemMatch": st.one_of(both, member, either, neither)})
    bounds = st.fixed_dictionaries(dict.fromkeys(("$gte", "$lt"), WORDS))
    tags = st.fixed_dictionaries(
        {"$elemMatch": st.one_of(bounds, *(st.fixed_dictionaries({o: WORDS}) for o in ("$ne", "$prefix")))}
    )
    said = [
        (name, some | st.fixed_dictionaries({"$not": some})) for name, some in (("checklist", items), ("tags", tags))
    ]
    return st.one_of([st.fixed_dictionaries({name: condition}) for name, condition in said])


def conditions(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """What `where` may say of one field: a value, operators, or their opposite."""
    some = st.lists(operations(name), min_size=1, max_size=2).map(
        lambda parts: {k: v for p in parts for k, v in p.items()}
    )
    said = FIELDS[name][0] | some | st.fixed_dictionaries({"$not": some})
    return said.map(lambda condition: {name: condition})


def combined(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    several = st.lists(parts, min_size=1, max_size=3)
    logic = [st.fixed_dictionaries({name: several}) for name in ("$and", "$or", "$nor")]
    return st.one_of(
        *logic, st.fixed_dictionaries({"$not": parts}), st.tuples(parts, parts).map(lambda p: {**p[0], **p[1]})
    )


def shapes() -> st.SearchStrategy[dict[str, Any]]:
    """That a place is within a box or a triangle between the points where places are, or outside."""
    lows, highs = (st.tuples(st.integers(a, b), st.integers(a, b)).map(list) for a, b in ((-2, 0), (0, 2)))
    boxes = st.tuples(lows, highs).map(lambda pair: {"box": list(pair)})
    triangle = {"type": "Polygon", "coordinates": [[[-1.5, -1.5], [3.5, -1.5], [-1.5, 3.5], [-1.5, -1.5]]]}
    said = st.fixed_dictionaries({"$within": boxes | st.just(triangle)})
    return st.fixed_dictionaries({"place": said | st.fixed_dictionaries({"$not": said})})


def wheres(names: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(st.one_of([*(conditions(name) for name in names), elements()]), combined, max_leaves=5)


def fits(record: dict[str, Any], where: dict[str, Any]) -> bool:
    """Whether a record in JSON form fulfils a `where`: the specification in plain Python."""
    return all(fits_member(record, name, condition) for name, condition in where.items())


def fits_member(record: dict[str, Any], name: str, condition: Any) -> bool:
    if name == "$and":
        return all(fits(record, part) for part in condition)
    if name == "$or":
        return any(fits(record, part) for part in condition)
    if name == "$nor":
        return not any(fits(record, part) for part in condition)
    if name == "$not":
        return not fits(record, condition)
    head, _, rest = name.partition(".")
    value = [item[rest] for item in record[head]] if rest else record[head]
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    return all(fits_operator(value, operator, operand) for operator, operand in condition.items())


def fits_operator(value: Any, operator: str, operand: Any) -> bool:
    """Whether a value, or for a list any of its entries, fulfils an operator. Times compare as text in UTC."""
    entries = value if isinstance(value, list) else [value]
    there = [entry for entry in entries if entry is not None]
    match operator:
        case "$not":
            return not all(fits_operator(value, *part) for part in operand.items())
        case "$eq":
            return operand in entries
        case "$ne":
            return operand not in entries
        case "$in":
            return any(entry in operand for entry in entries)
        case "$nin":
            return not any(entry in operand for entry in entries)
        case "$exists":
            return (value is not None) is operand
        case "$size":
            return len(value) == operand
        case "$elemMatch":
            return any(fits_entry(entry, operand) for entry in there)
        case "$within":
            return any(is_within(entry["coordinates"], operand) for entry in there)
        case "$all":
            return bool(operand) and all(entry in value for entry in operand)
        case "$prefix":
            return any(entry.startswith(operand) for entry in there)
        case "$gt":
            return any(entry > operand for entry in there)
        case "$gte":
            return any(entry >= operand for entry in there)
        case "$lt":
            return any(entry < operand for entry in there)
        case "$lte":
            return any(entry <= operand for entry in there)
    raise AssertionError(operator)


def is_within(position: list[float], shape: dict[str, Any]) -> bool:
    """Whether a position is within a box, or the one triangle that we ask for."""
    if "box" in shape:
        low, high = shape["box"]
        return all(a <= part <= b for a, part, b in zip(low, position, high, strict=True))
    return min(position) >= -1.5 and sum(position) <= 2


def fits_entry(entry: Any, condition: dict[str, Any]) -> bool:
    """Whether one entry of a list fulfils all that is said of it."""
    if isinstance(entry, dict):
        return fits(entry, condition)
    return all(fits_operator(entry, *part) for part in condition.items())


def found_by(bodies: list[dict[str, Any]], where: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The ids of the notes that the database finds, and of those that Python finds."""
    stored = [new(Note, "ada", schema_of(Note).load(body)) for body in bodies]
    Note._get_collection().delete_many({})
    Note._get_collection().insert_many(stored)
    asked = parser_of(Note).parse({"where": json.dumps(where)}, "ada", KEY)
    found = {row["_id"] for row in Note._get_collection().find({"$and": [OWN, asked.where]})}
    return found, {row["_id"] for row in stored if fits(schema_of(Note).dump(row), where)}


@given(bodies=st.lists(NOTES, min_size=1, max_size=6), where=wheres([name for name in FIELDS if "." not in name]))
@examples(150)
def test_where_finds_the_records_that_python_finds(bodies: list[dict[str, Any]], where: dict[str, Any]) -> None:
    found, wanted = found_by(bodies, where)
    assert found == wanted


# mongomock finds nothing for `$not` on a path into an empty list, and knows no shapes.
@pytest.mark.real
@given(
    bodies=st.lists(NOTES, min_size=1, max_size=6),
    where=st.one_of(wheres(list(FIELDS)), combined(shapes() | conditions("title"))),
)
@examples(200)
def test_where_finds_the_records_that_python_finds_by_paths_too(
    bodies: list[dict[str, Any]], where: dict[str, Any]
) -> None:
    found, wanted = found_by(bodies, where)
    assert found == wanted


TOKENS = [
    *Note._meta["filters"],
    *EQUAL,
    *ORDER,
    "$in",
    "$all",
    "$elemMatch",
    "checklist",
    "text",
    "$exists",
    "$size",
    "$prefix",
    "$not",
    "$and",
    "$or",
    "$nor",
]
KEYS = st.sampled_from([*TOKENS, "$near", "$within", "box", "$where", "$regex", "access", "", "a.b"])
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), TIMES, WORDS),
    lambda parts: st.lists(parts, max_size=2) | st.dictionaries(KEYS, parts, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, ANYTHING, max_size=2))
@examples(300)
def test_any_where_is_either_refused_or_understood_by_the_database(where: dict[str, Any]) -> None:
    try:
        asked = parser_of(Note).parse({"where": json.dumps(where)}, "ada", KEY)
    except BadQuery:
        return
    list(Note._get_collection().find({"$and": [OWN, asked.where]}))


# --- Walking pages ---------------------------------------------------------------------------------------------------

START = datetime(2026, 11, 22, 10)
INSTANTS = st.integers(-2, 2).map(lambda n: START + timedelta(milliseconds=n))
RANKS = st.fixed_dictionaries(
    {"created_at": INSTANTS, "updated_at": INSTANTS},
    optional={
        "text": st.sampled_from(["", "a", "B", "é", "😀"]),
        "whole": st.integers(-1, 1),
        "long": st.sampled_from([-(2**63), 0, 2**53 + 1, 2**63 - 1]),
        "real": st.sampled_from([-1e308, -0.1, 0.0, 0.1, 1e-300]),
        "flag": st.booleans(),
        "t": st.sampled_from([datetime(1, 1, 1), START, START + timedelta(milliseconds=1)]),
        "day": st.sampled_from([datetime(1, 1, 1), datetime(2026, 11, 22)]),
        "key": st.sampled_from([ObjectId(b"\0" * 12), ObjectId(b"\1" * 12)]),
    },
)
LISTS = st.lists(RANKS, min_size=1, max_size=12)
# mongomock cannot compare decimals; they are walked below.
SORTS = st.sampled_from([sort for sort in Rank._meta["sorts"] if "price" not in sort])


def insert(content: list[Raw], first: int = 0) -> list[Raw]:
    """Store records with the times that they name, under ids that do not ascend, counted from `first`."""
    rows = []
    for number, values in enumerate(content, first):
        row = new(Rank, "ada", {"_id": f"{number * 37 % 1009:04}", **values})
        rows.append({**row, **values})
    if rows:
        Rank._get_collection().insert_many(rows)
    return rows


def page(sort: str, limit: int, cursor: str | None) -> tuple[list[Raw], str | None]:
    """One page as the resource reads it, and the cursor of the next."""
    args = {"sort": sort, "limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
    asked = parser_of(Rank).parse(args, "ada", KEY)
    condition = {"$and": [OWN, asked.after]} if asked.after else OWN
    rows = list(Rank._get_collection().find(condition, sort=list(asked.sort.keys), limit=limit + 1))
    return rows[:limit], asked.cursor(rows[limit - 1]) if len(rows) > limit else None


def in_order(rows: list[Raw], sort: str) -> list[str]:
    """The ids as Python sorts them: null lowest, ties by id in the direction of the last field."""
    names = sort.split(",")
    ordered = sorted(rows, key=lambda row: row["_id"], reverse=names[-1].startswith("-"))
    for name in reversed(names):
        stored = schema_of(Rank).fields[name.removeprefix("-")].stored
        ordered.sort(key=lambda row: (row.get(stored) is not None, row.get(stored)), reverse=name.startswith("-"))
    return [row["_id"] for row in ordered]


def walk(sort: str, limit: int) -> list[str]:
    """The ids on all pages."""
    found, cursor = page(sort, limit, None)
    seen = [row["_id"] for row in found]
    while cursor is not None and len(seen) < 100:
        found, cursor = page(sort, limit, cursor)
        seen += [row["_id"] for row in found]
    return seen


@given(content=LISTS, sort=SORTS, limit=st.integers(1, 5))
@CI
def test_walking_pages_gives_every_record_once_in_order(content: list[Raw], sort: str, limit: int) -> None:
    Rank._get_collection().delete_many({})
    rows = insert(content)
    assert walk(sort, limit) == in_order(rows, sort)


@pytest.mark.real
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_decimals_are_walked_in_the_order_of_their_values(limit: int) -> None:
    prices = [None, "-1E+600", "-2.50", "0", "9.9", "10", "10", "1E+30", None]
    rows = insert([{} if price is None else {"price": Decimal128(price)} for price in prices])
    valued = [row["_id"] for row in rows[1:5]], sorted(row["_id"] for row in rows[5:7]), [rows[7]["_id"]]
    nulls = sorted(row["_id"] for row in (rows[0], rows[8]))
    assert walk("price", limit) == [*nulls, *(key for keys in valued for key in keys)]
    assert walk("-price", limit) == walk("price", limit)[::-1]


@given(content=LISTS, sort=SORTS, limit=st.integers(1, 3), data=st.data())
@CI
def test_walking_pages_meets_each_record_once_while_others_come_and_go(
    content: list[Raw], sort: str, limit: int, data: st.DataObject
) -> None:
    Rank._get_collection().delete_many({})
    rows, seen, cursor = insert(content), list[str](), None
    steady = rows[::2]
    while len(seen) < 100:
        found, cursor = page(sort, limit, cursor)
        seen += [row["_id"] for row in found]
        if cursor is None:
            break
        if len(rows) < 40:
            rows += insert(data.draw(st.lists(RANKS, max_size=2)), len(rows))
        leaving = [row["_id"] for row in rows if row not in steady and data.draw(st.booleans())]
        Rank._get_collection().delete_many({"_id": {"$in": leaving}})
    assert len(seen) == len(set(seen))
    staying = {row["_id"] for row in steady}
    assert [key for key in seen if key in staying] == in_order(steady, sort)


# --- Cursors ---------------------------------------------------------------------------------------------------------

ASKED = st.fixed_dictionaries(
    {"account": st.sampled_from(["ada", "bob"]), "sort": st.sampled_from(["-updated_at", "title", "-title"])},
    optional={
        "where": st.sampled_from([{}, {"title": "a"}, {"title": "b"}, {"title": {"$eq": "a"}}, {"tags": "a"}]),
        "scope": st.sampled_from(["mine", "mine,shared", "shared", "public,mine"]),
        "limit": st.sampled_from(["1", "100"]),
        "count": st.just("true"),
        "fields": st.just("title"),
    },
)
ROWS = st.fixed_dictionaries({"_id": WORDS, "title": WORDS, "updated_at": INSTANTS})


def asked_for(said: dict[str, Any], **more: str) -> Query:
    """The query for notes that an account asks."""
    args = {name: value for name, value in said.items() if name not in ("account", "where")}
    if "where" in said:
        args["where"] = json.dumps(said["where"])
    return parser_of(Note).parse({**args, **more}, said["account"], KEY)


def meant(said: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a query the one that it is: how much of a page is sent does not."""
    return said["account"], said["sort"], said.get("where", {}), said.get("scope", "mine,shared")


@given(first=ASKED, second=ASKED, row=ROWS)
@CI
def test_a_cursor_continues_its_own_query_and_no_other(first: Any, second: Any, row: Raw) -> None:
    cursor = asked_for(first).cursor(row)
    if meant(first) == meant(second):
        assert asked_for(second, cursor=cursor).after
    else:
        with pytest.raises(BadParameter, match="very same query"):
            asked_for(second, cursor=cursor)


LETTERS = st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ ")


@given(said=ASKED, row=ROWS, data=st.data())
@examples(200)
def test_a_cursor_that_was_tampered_with_is_refused(said: Any, row: Raw, data: st.DataObject) -> None:
    cursor = asked_for(said).cursor(row)
    start = data.draw(st.integers(0, len(cursor)))
    end = data.draw(st.integers(start, len(cursor)))
    changed = cursor[:start] + data.draw(st.text(LETTERS, max_size=4)) + cursor[end:]
    if changed != cursor:
        with pytest.raises(BadParameter, match="very same query"):
            asked_for(said, cursor=changed)
