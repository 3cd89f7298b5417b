"""Times in `where`: what MongoDB finds is what an exact model does, to the last digit that a client sends."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from service.documents import Record
from service.mongo.raw import Raw
from service.query.where import Compiler
from tests.client import Person
from tests.properties import examples
from tests.types import create, type_of

START = datetime(2026, 11, 22, 10, 0, 0, 120_000)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999_000)


class Moment(me.EmbeddedDocument):
    at = me.DateTimeField()


class Lap(Record):
    """A type with a time, times, and times in what it holds."""

    due = me.DateTimeField()
    times = me.ListField(me.DateTimeField())
    moments = me.EmbeddedDocumentListField(Moment)

    meta = {"collection": "test_laps", "filters": ["due", "times", "moments.at"]}


ROWS: list[dict[str, Any]] = [
    {},
    *({"due": START + timedelta(milliseconds=number)} for number in range(6)),
    *(
        {"times": [START + timedelta(milliseconds=number) for number in numbers]}
        for numbers in ((), (1,), (0, 3), (2, 5))
    ),
    *({"moments": [{"at": START + timedelta(milliseconds=number)}]} for number in (1, 4)),
    {"due": LAST, "times": [LAST]},
]


@pytest.fixture(scope="module")
def laps(shared_app: Flask) -> Iterator[None]:
    with shared_app.app_context():
        for number, row in enumerate(ROWS):
            create(Lap, "ada", {"_id": str(number), **row})
        yield
        Lap._get_collection().drop()


def nanoseconds(moment: datetime) -> Fraction:
    """A time as nanoseconds."""
    return Fraction((moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)) * 1000


def text_of(number: Fraction, hours: int, digits: int) -> str:
    """A time as a client writes it: in some zone, with at least so many digits."""
    seconds, rest = divmod(number, 10**9)
    zone = timezone(timedelta(hours=hours))
    try:
        moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(seconds))).astimezone(zone)
    except OverflowError:
        return text_of(number, 0, digits)
    fraction = f"{int(rest):09}".rstrip("0").ljust(digits, "0")
    offset = "Z" if hours == 0 else f"{moment:%z}"[:3] + ":00"
    return f"{moment:%Y-%m-%dT%H:%M:%S}{'.' if fraction else ''}{fraction}{offset}"


NEAR = st.integers(-1_500_000, 6_500_000).map(lambda number: nanoseconds(START) + number)
AT = st.integers(-1, 7).map(lambda number: nanoseconds(START) + number * 1_000_000)
AT_THE_END = st.sampled_from([0, 1, 400_000, 999_999]).map(lambda number: nanoseconds(LAST) + number)
NAMED = st.one_of(NEAR, AT, AT_THE_END)
OPERATORS = {
    "$eq": lambda stored, named: stored == named,
    "$lt": lambda stored, named: stored < named,
    "$lte": lambda stored, named: stored <= named,
    "$gt": lambda stored, named: stored > named,
    "$gte": lambda stored, named: stored >= named,
}
NEGATED = {"$ne": "$eq", "$nin": "$in"}
Condition = tuple[str, Any]
ONE = st.tuples(st.sampled_from([*OPERATORS, "$ne"]), NAMED)
SEVERAL = st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(NAMED, max_size=3))


def holds(values: list[Fraction], operator: str, operand: Any) -> bool:
    """What an operator says of the values of a field: one of them, for what is not negated."""
    if operator in NEGATED:
        return not holds(values, NEGATED[operator], operand)
    if operator == "$in":
        return any(value in operand for value in values)
    if operator == "$all":
        return bool(operand) and all(named in values for named in operand)
    return any(OPERATORS[operator](value, operand) for value in values)


def values_at(row: dict[str, Any], name: str) -> list[Fraction]:
    """The times that a row has in a field."""
    found = row.get(name) or []
    if name == "moments.at":
        found = [moment["at"] for moment in row.get("moments", [])]
    return [nanoseconds(moment) for moment in (found if isinstance(found, list) else [found])]


def found_with(where: dict[str, Any]) -> set[int]:
    condition: Raw = Compiler(type_of(Lap)).compile(where)
    return {int(row["_id"]) for row in Lap._get_collection().find(condition, {"_id": 1})}


def written(operand: Any, hours: int, digits: int) -> Any:
    """The operand as JSON has it."""
    if isinstance(operand, list):
        return [text_of(named, hours, digits) for named in operand]
    return text_of(operand, hours, digits)


@given(
    name=st.sampled_from(["due", "times", "moments.at"]),
    condition=st.one_of(ONE, SEVERAL),
    hours=st.integers(-12, 12),
    digits=st.integers(0, 12),
)
@examples(300)
def test_a_condition_on_a_time_is_exact(laps: None, name: str, condition: Condition, hours: int, digits: int) -> None:
    operator, operand = condition
    expected = {number for number, row in enumerate(ROWS) if holds(values_at(row, name), operator, operand)}
    assert found_with({name: {operator: written(operand, hours, digits)}}) == expected


@given(first=ONE, second=st.one_of(ONE, SEVERAL), negated=ONE)
@examples(200)
def test_conditions_on_one_time_hold_together(
    laps: None, first: Condition, second: Condition, negated: Condition
) -> None:
    where: dict[str, Any] = {operator: written(operand, 0, 0) for operator, operand in (first, second)}
    kept = dict((first, second))
    where["$not"] = {negated[0]: written(negated[1], 0, 0)}

    def is_wanted(row: dict[str, Any]) -> bool:
        values = values_at(row, "due")
        return all(holds(values, *one) for one in kept.items()) and not holds(values, *negated)

    assert found_with({"due": where}) == {number for number, row in enumerate(ROWS) if is_wanted(row)}


@given(operand=st.lists(st.one_of(AT, NEAR), min_size=1, max_size=2))
@examples(100)
def test_a_list_has_all_of_some_times_exactly(laps: None, operand: list[Fraction]) -> None:
    expected = {number for number, row in enumerate(ROWS) if holds(values_at(row, "times"), "$all", operand)}
    assert found_with({"times": {"$all": written(operand, 0, 0)}}) == expected


@given(first=ONE, second=ONE)
@examples(100)
def test_one_entry_fulfils_all_conditions_exactly(laps: None, first: Condition, second: Condition) -> None:
    kept = dict((first, second))
    where = {operator: written(operand, 0, 0) for operator, operand in kept.items()}
    expected = {
        number
        for number, row in enumerate(ROWS)
        if any(all(holds([value], *one) for one in kept.items()) for value in values_at(row, "times"))
    }
    assert found_with({"times": {"$elemMatch": where}}) == expected


def test_a_bound_of_more_digits_than_are_kept_finds_what_is_before_it(ada: Person) -> None:
    made = ada.make_note(due="2026-11-22T10:00:00.1239Z")
    assert made["due"] == "2026-11-22T10:00:00.123Z"
    counts = {"$lt": 1, "$lte": 1, "$gt": 0, "$gte": 0, "$eq": 0, "$ne": 1}
    for operator, count in counts.items():
        found = ada.find(where={"due": {operator: "2026-11-22T10:00:00.1235Z"}}).json["items"]
        assert len(found) == count, operator
    assert len(ada.find(where={"due": "2026-11-22T10:00:00.1230000Z"}).json["items"]) == 1
