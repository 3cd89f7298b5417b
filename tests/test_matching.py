"""What `where` finds in memory and what MongoDB finds are the same, field class by field class."""

import enum
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import mongoengine as me
import pytest
from bson import Decimal128, ObjectId
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import BadQuery
from service.documents import Note, Notebook, Record
from service.model.fields import MEANINGS, PRESENT, Meaning
from service.model.record_type import FieldPath
from service.mongo import driver
from service.query.matching import matcher
from service.query.where import Compiler
from tests.properties import examples
from tests.types import type_of

pytestmark = pytest.mark.real


class Colour(enum.Enum):
    RED = "red"
    ONE = 1
    HALF = 0.5


class Part(me.EmbeddedDocument):
    text = me.StringField(db_field="t")
    whole = me.IntField()
    marks = me.ListField(me.IntField())


class Thing(Record):
    """One field of each class that can be compared, alone and as the entry of a list."""

    text = me.StringField()
    url = me.URLField()
    email = me.EmailField()
    whole = me.IntField()
    long = me.LongField()
    real = me.FloatField()
    price = me.DecimalField()
    exact = me.Decimal128Field()
    flag = me.BooleanField()
    time = me.DateTimeField(db_field="when")
    day = me.DateField()
    key = me.UUIDField(binary=True)
    object_id = me.ObjectIdField()
    data = me.BinaryField()
    colour = me.EnumField(Colour)
    book = me.ReferenceField(Notebook)
    lazy = me.LazyReferenceField(Notebook)
    pair = me.GeoPointField()
    place = me.PointField(auto_index=False)
    line = me.LineStringField(auto_index=False)
    area = me.PolygonField(auto_index=False)
    map = me.MapField(me.IntField())
    free = me.DictField()
    one = me.EmbeddedDocumentField(Part)
    parts = me.EmbeddedDocumentListField(Part)
    texts = me.ListField(me.StringField())
    wholes = me.ListField(me.IntField())
    times = me.ListField(me.DateTimeField())
    keys = me.ListField(me.UUIDField(binary=True))
    sorted = me.SortedListField(me.FloatField())

    meta = {
        "collection": "things",
        "filters": [
            *("text", "url", "email", "whole", "long", "real", "price", "exact", "flag", "time", "day", "key"),
            *("object_id", "data", "colour", "book", "lazy", "pair", "place", "line", "area", "map", "free", "one"),
            *("one.text", "one.whole", "one.marks", "parts", "parts.text", "parts.whole", "parts.marks"),
            *("texts", "wholes", "times", "keys", "sorted"),
        ],
    }


TYPE = type_of(Thing)

NUMBERS = [0, 1, -1, 2, 7]
VALUES: dict[str, list[Any]] = {
    "StringField": ["", "a", "ab", "A", "é", "e\u0301", "\ufffd", "😀", "￿", "a.b"],
    "URLField": ["https://a.example/", "https://b.example/x"],
    "EmailField": ["a@example.com", "b@example.com"],
    "IntField": NUMBERS,
    "LongField": [*NUMBERS, 2**62, 2**53 + 1],
    "FloatField": [0.0, -0.0, 0.1, 1.0, 2.5, -1.5, 2.0**53],
    "DecimalField": ["0", "1", "1.50", "0.1"],
    "Decimal128Field": ["0", "1", "1.5", "0.1", "-1", "1E+3"],
    "BooleanField": [True, False],
    "DateTimeField": ["2026-11-22T10:00:00.000Z", "2026-11-22T10:00:00.001Z", "1960-01-01T00:00:00+01:00"],
    "DateField": ["2026-11-22", "1960-01-01"],
    "UUIDField": [str(uuid.UUID(int=1)), str(uuid.UUID(int=2**127))],
    "ObjectIdField": ["0" * 24, "f" * 24, "6b08d6600df9a611000706c9"],
    "EnumField": ["red", 1, 0.5],
    "ReferenceField": ["x", "y"],
    "LazyReferenceField": ["x", "y"],
}
"""What clients send of each class, in JSON."""
BOXES = [[[0, 0], [1, 1]], [[-180, -90], [180, 90]], [[1, 1], [1, 1]], [[0.5, -1], [2, 1]]]
POINTS = [[0.0, 0.0], [1.0, 1.0], [0.5, 1.0], [2.0, -1.0], [1.0000000001, 1.0]]

STRANGE: list[Any] = [
    *(None, 0, 1, 1.0, 0.1, True, False, "", "a", "red", float("nan"), float("inf"), 2**53 + 1, float(2**53)),
    *(Decimal128("1"), Decimal128("0.1"), Decimal128("NaN"), Decimal128("Infinity"), Decimal128("1.50")),
    *(datetime(2026, 11, 22, 10), ObjectId("0" * 24), uuid.UUID(int=1), b"a", {"a": 1}, {"t": "a"}, {}),
    *([], [[]], [1], ["a"], [None], [{}], [{"t": "a"}], [[{"t": "a"}]], [1, "a", None], [[1], [2]]),
]
"""What other software may store in any field."""


def class_of(at: FieldPath) -> str:
    return type(at.compared.declared).__name__


def json_of(at: FieldPath) -> st.SearchStrategy[Any]:
    return st.sampled_from(VALUES.get(class_of(at), [{"text": "a"}, {"text": "b", "whole": 1, "marks": [1]}]))


def operations(name: str, at: FieldPath, able: frozenset[str], depth: int = 1) -> st.SearchStrategy[dict[str, Any]]:
    """One operator of those that a field takes, and its operand."""
    made: list[st.SearchStrategy[dict[str, Any]]] = []
    for operator in sorted(able - {"$near"}):
        if operator == "$exists":
            operand: st.SearchStrategy[Any] = st.booleans()
        elif operator == "$size":
            operand = st.integers(0, 3)
        elif operator == "$within":
            operand = st.sampled_from(BOXES).map(lambda box: {"box": box})
        elif operator == "$elemMatch":
            operand = element(name, at, depth)
        elif operator in ("$in", "$nin", "$all"):
            operand = st.lists(json_of(at) | st.none(), max_size=3)
        elif operator in ("$eq", "$ne"):
            operand = json_of(at) | st.none()
        else:
            operand = json_of(at)
        made.append(st.fixed_dictionaries({operator: operand}))
    return st.one_of(made)


def element(name: str, at: FieldPath, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """What one entry of a list has to fulfil."""
    if at.compared.document is None:
        able = at.compared.meaning.compare - PRESENT
        plain = operations(name, at, able)
        return plain | st.fixed_dictionaries({"$not": plain})
    members = [path.removeprefix(f"{name}.") for path in TYPE.filters if path.startswith(f"{name}.")]
    inner = st.one_of(
        [conditions(f"{name}.{member}", depth - 1).map(lambda found, m=member: {m: found}) for member in members]
    )
    several = st.lists(inner, min_size=1, max_size=2)
    return (
        inner
        | several.map(lambda parts: {key: value for part in parts for key, value in part.items()})
        | several.map(lambda parts: {"$or": parts})
        | inner.map(lambda part: {"$not": part})
    )


def conditions(name: str, depth: int = 1) -> st.SearchStrategy[Any]:
    """What `where` may say of one field."""
    at = TYPE.filters[name]
    able = at.operators if depth else at.operators - {"$elemMatch"}
    plain = operations(name, at, able, depth)
    both = st.tuples(plain, plain).map(lambda pair: {**pair[0], **({} if alone(pair) else pair[1])})
    return plain | both | st.fixed_dictionaries({"$not": plain})


def alone(pair: tuple[dict[str, Any], ...]) -> bool:
    """Whether one of two operators stands alone on its field."""
    return any("$within" in operator for operator in pair)


def stored_values(name: str) -> st.SearchStrategy[Any]:
    """What may stand in a field: what clients send, and what other software may have written."""
    field = TYPE.schema.fields[name]
    kind = type(field.declared).__name__
    strange = st.sampled_from(STRANGE)
    if kind in VALUES:
        own: st.SearchStrategy[Any] = st.sampled_from(VALUES[kind]).map(TYPE.schema.typed(field).validate_python)
    elif name == "place":
        own = st.sampled_from(POINTS).map(lambda point: {"type": "Point", "coordinates": point})
    elif name == "pair":
        own = st.sampled_from(POINTS)
    elif name == "one":
        return parts | strange
    elif name == "parts":
        own = st.lists(parts, max_size=3)
    elif field.entry is not None and type(field.entry.declared).__name__ in VALUES:
        values = st.sampled_from(VALUES[type(field.entry.declared).__name__])
        own = st.lists(values.map(TYPE.schema.typed(field.entry).validate_python), max_size=3)
    else:
        return strange
    return own if name in ("place", "pair") else own | own | strange


parts = st.fixed_dictionaries(
    {},
    optional={
        "t": st.sampled_from(["a", "b", "", None, 1, ["a", "b"]]),
        "whole": st.sampled_from([*NUMBERS, None, "a", [1, 2]]),
        "marks": st.sampled_from([[], [1]])
        | st.lists(st.sampled_from(NUMBERS), max_size=3)
        | st.sampled_from([None, [[1]], 1]),
    },
)


@pytest.fixture(autouse=True)
def _empty(app: Flask) -> Iterator[None]:
    yield
    Thing._get_collection().delete_many({})


def same(rows: list[dict[str, Any]], where: dict[str, Any]) -> None:
    condition = Compiler(TYPE).compile(where)
    collection = Thing._get_collection()
    collection.delete_many({})
    collection.insert_many([{**row, "_id": str(number)} for number, row in enumerate(rows)])
    theirs = {row["_id"] for row in driver.find(collection, condition)}
    fulfils = matcher(condition)
    assert {row["_id"] for row in driver.find(collection, {}) if fulfils(row)} == theirs, (where, condition)


@pytest.mark.parametrize("name", Thing._meta["filters"][5:])
def test_both_find_the_same(name: str) -> None:
    @examples(60)
    @given(st.data())
    def try_one(data: Any) -> None:
        top = name.split(".")[0]
        stored = TYPE.schema.fields[top].stored
        rows = [
            {stored: data.draw(stored_values(top))} if data.draw(st.integers(0, 9)) else {}
            for _ in range(data.draw(st.integers(1, 6)))
        ]
        same(rows, {name: data.draw(conditions(name))})

    try_one()


@examples(150)
@given(st.data())
def test_both_find_the_same_of_conditions_on_several_fields(data: Any) -> None:
    names = data.draw(
        st.lists(st.sampled_from(["text", "whole", "texts", "parts.whole", "flag"]), min_size=2, max_size=3)
    )
    rows = [
        {TYPE.schema.fields[name.split(".")[0]].stored: data.draw(stored_values(name.split(".")[0])) for name in names}
        for _ in range(4)
    ]
    clauses = [{name: data.draw(conditions(name))} for name in names]
    joined = data.draw(st.sampled_from(["$and", "$or", "$nor", "$not", ""]))
    where = {k: v for clause in clauses for k, v in clause.items()}
    same(rows, where if not joined else {"$not": where} if joined == "$not" else {joined: clauses})


def test_every_class_that_can_be_compared_is_tried() -> None:
    compared = {
        kind for kind, meaning in MEANINGS.items() if isinstance(meaning, Meaning) and meaning.compare > PRESENT
    }
    declared = [at.field.declared for at in TYPE.filters.values()]
    assert [kind for kind in compared if not any(isinstance(field, kind) for field in declared)] == []


def test_a_polygon_is_refused() -> None:
    ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
    condition = Compiler(type_of(Note)).compile({"place": {"$within": {"type": "Polygon", "coordinates": [ring]}}})
    with pytest.raises(BadQuery, match="name a box"):
        matcher(condition)
