"""What update operators take: how many names, and each operand in one form."""

from typing import Any

import mongoengine as me
import pytest

from service.core.errors import MOST_CAUSES, ValidationFailed
from service.core.json_text import MAX_MEMBERS
from service.documents import Record
from service.model import patch
from tests.types import schema_of


class Hour(me.EmbeddedDocument):
    at = me.DateTimeField(required=True)
    serial = me.LongField(as_string=True)


looked_at: list[int] = []


def never(value: int) -> None:
    looked_at.append(value)
    raise me.ValidationError("no number is right")


class Shift(Record):
    """Lists and numbers of which the operand in JSON is not what is stored."""

    title = me.StringField(required=True)
    start = me.DateTimeField(db_field="s")
    serial = me.LongField(as_string=True)
    size = me.IntField(max_value=5)
    times = me.ListField(me.DateTimeField())
    hours = me.EmbeddedDocumentListField(Hour)
    tags = me.ListField(me.StringField(max_length=3))
    none = me.ListField(me.IntField(validation=never))
    extra = me.DictField()

    meta = {"collection": "test_shifts"}


def parsed(body: Any) -> patch.Patch:
    return patch.parse(schema_of(Shift), body)


def refused(body: Any) -> list[tuple[str | None, str]]:
    """The places and codes with which a patch is refused, each as often as it is told."""
    with pytest.raises(ValidationFailed) as failed:
        parsed(body)
    return [(cause.pointer, cause.code) for cause in failed.value.causes]


def many(count: int) -> dict[str, int]:
    return {f"x{number}": 1 for number in range(count)}


TOO_MANY = [("", "too_long")]


@pytest.mark.parametrize(
    "body", [many(MAX_MEMBERS), {"$inc": many(MAX_MEMBERS - 1)}, {"$inc": 1, **many(MAX_MEMBERS - 1)}]
)
def test_a_patch_has_room_for_a_thousand_names(body: Any) -> None:
    assert refused(body) != TOO_MANY


@pytest.mark.parametrize(
    "body",
    [
        {"$inc": many(MAX_MEMBERS)},
        {"$unset": [*many(MAX_MEMBERS)]},
        {"$inc": many(MAX_MEMBERS // 2), "$max": many(MAX_MEMBERS // 2)},
        {"$inc": many(MAX_MEMBERS // 2), **many(MAX_MEMBERS // 2)},
    ],
)
def test_a_patch_of_more_names_is_refused(body: Any) -> None:
    assert refused(body) == TOO_MANY


def test_what_a_value_holds_is_no_name_of_the_patch() -> None:
    assert parsed({"extra": many(MAX_MEMBERS)}).merge["extra"] == many(MAX_MEMBERS)


NOON = "2026-11-28T12:00:00.000Z"
LATER = "2026-11-28T13:00:00+01:00"
"""The same moment."""


@pytest.mark.parametrize(
    ("body", "now", "then"),
    [
        ({"$inc": {"serial": "2"}}, {"serial": 1}, {"serial": "3"}),
        ({"$max": {"serial": 2.0}}, {"serial": 1}, {"serial": "2"}),
        ({"$min": {"start": LATER}}, {}, {"start": NOON}),
        ({"$push": {"times": LATER}}, {}, {"times": [NOON]}),
        ({"$push": {"times": {"each": [LATER]}}}, {"times": []}, {"times": [NOON]}),
        ({"$push": {"hours": {"at": LATER, "serial": 2}}}, {}, {"hours": [{"at": NOON, "serial": "2"}]}),
        ({"$push": {"tags": {"each": ["a"], "position": 0.0}}}, {"tags": ["b"]}, {"tags": ["a", "b"]}),
        ({"$push": {"tags": {"each": ["a"], "slice": -(2**31)}}}, {"tags": ["b"]}, {"tags": ["b", "a"]}),
        ({"$push": {"tags": {"each": ["a"], "position": 2**31 - 1}}}, {"tags": ["b"]}, {"tags": ["b", "a"]}),
    ],
    ids=str,
)
def test_an_operand_is_taken_in_each_form_that_a_value_has(
    body: Any, now: dict[str, Any], then: dict[str, Any]
) -> None:
    stored = {"_id": "a", **schema_of(Shift).load({"title": "a"}), **now}
    shown = schema_of(Shift).dump({**stored, **parsed(body).apply(stored)})
    assert then.items() <= shown.items()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"$push": {"tags": {"each": [], "position": -(2**31) - 1}}}, [("/$push/tags/position", "wrong_type")]),
        ({"$push": {"tags": {"each": [], "position": 2**31}}}, [("/$push/tags/position", "wrong_type")]),
        ({"$push": {"tags": {"each": [], "slice": False}}}, [("/$push/tags/slice", "wrong_type")]),
        ({"$push": {"tags": {"each": [], "slice": None}}}, [("/$push/tags/slice", "wrong_type")]),
        ({"$push": {"tags": {"each": [], "slice": 0.5}}}, [("/$push/tags/slice", "wrong_type")]),
        (
            {"$pull": {"tags": {"each": [], "slice": 1, "position": 1}}},
            [("/$pull/tags/position", "unknown_field"), ("/$pull/tags/slice", "unknown_field")],
        ),
        (
            {"$push": {"tags": {"each": ["long", "a", 1]}}},
            [("/$push/tags/each/0", "too_long"), ("/$push/tags/each/2", "wrong_type")],
        ),
        ({"$push": {"tags": {"each": {"0": "a"}}}}, [("/$push/tags/each", "wrong_type")]),
        ({"$inc": {"size": "1", "title": 1}}, [("/$inc/size", "wrong_type"), ("/$inc/title", "not_allowed")]),
    ],
    ids=str,
)
def test_an_operand_that_cannot_be_is_refused_at_its_place(body: Any, told: Any) -> None:
    assert refused(body) == told


def test_an_operand_is_looked_through_as_far_as_its_first_mistakes() -> None:
    looked_at.clear()
    mistakes = refused({"$push": {"none": {"each": list(range(MOST_CAUSES + 50))}}})
    assert mistakes == [(f"/$push/none/each/{number}", "not_valid") for number in range(MOST_CAUSES)]
    assert looked_at == list(range(MOST_CAUSES))


def test_each_has_to_be_a_list() -> None:
    with pytest.raises(ValidationFailed) as failed:
        parsed({"$push": {"tags": {"each": 1}}})
    assert [cause.detail for cause in failed.value.causes] == ["a list"]
