"""Where in the body of a PATCH a cause stands: one about what it brings, about its result, or about what is unique."""

from typing import Any

import mongoengine as me
import pytest

from service.core.errors import Cause, ValidationFailed
from service.documents import Record
from service.model import patch
from service.model.values import ONE_KEY
from tests.types import schema_of


class Leg(me.EmbeddedDocument):
    km = me.IntField(required=True, max_value=9, db_field="k")
    hours = me.IntField(max_value=9, db_field="h")
    stops = me.ListField(me.StringField(max_length=3))
    tolls = me.MapField(me.IntField())

    def clean(self) -> None:
        if self.hours == 7:
            raise me.ValidationError("no leg takes seven hours")


class Route(Record):
    """Whatever causes can be about, stored under other names than those that clients know."""

    title = me.StringField(required=True)
    tags = me.ListField(me.StringField(), db_field="t")
    rows = me.ListField(me.ListField(me.StringField()))
    legs = me.EmbeddedDocumentListField(Leg, db_field="l")
    first = me.EmbeddedDocumentField(Leg, db_field="f")
    last = me.EmbeddedDocumentField(Leg)
    days = me.MapField(me.EmbeddedDocumentField(Leg))
    marks = me.MapField(me.IntField(max_value=9))
    size = me.IntField()

    meta = {"collection": "test_routes"}


def parsed(body: Any) -> patch.Patch:
    return patch.parse(schema_of(Route), body)


def about(place: str | None) -> Cause:
    return Cause("wrong", "a text", pointer=place)


STORED = {"_id": "a", "title": "a", "l": [{"k": 1}, {"k": 2}], "f": {"k": 3}}


@pytest.mark.parametrize(
    ("body", "place", "told"),
    [
        ({"tags": ["a", "b"]}, "/tags/1", "/tags/1"),
        ({"tags": ["a"], "rows": [["a"]]}, "/rows/0/0", "/rows/0/0"),
        ({"first.stops": ["a", "b"]}, "/first/stops/1", "/first.stops/1"),
        ({"legs.7.stops": ["a"], "legs.9.stops": ["a", "b"]}, "/legs/1/stops/1", "/legs.9.stops/1"),
        ({"$push": {"tags": "a"}}, "/tags/0", "/$push/tags"),
        ({"$push": {"tags": "a"}}, "/tags", "/$push/tags"),
        ({"$push": {"rows": ["a", "b"]}}, "/rows/0/1", "/$push/rows/1"),
        ({"$push": {"legs": {"km": 1, "stops": ["a"]}}}, "/legs/0/stops/0", "/$push/legs/stops/0"),
        ({"$push": {"tags": {"each": ["a", "b"]}}}, "/tags/1", "/$push/tags/each/1"),
        ({"$add_to_set": {"legs": {"each": [{"km": 1}]}}}, "/legs/0/km", "/$add_to_set/legs/each/0/km"),
        ({"$push": {"tags": {"each": ["a"]}, "rows": ["a"]}}, "/rows/0/0", "/$push/rows/0"),
        ({"title": "b", "first.km": 2}, "/first", "/first.km"),
        ({"title": "b", "first.km": 2}, "/last", "/last"),
        ({"title": "b"}, "", ""),
        ({"title": "b"}, None, None),
    ],
    ids=str,
)
def test_a_cause_about_what_a_patch_brings_stands_where_that_stands(body: Any, place: str | None, told: Any) -> None:
    assert parsed(body).brought(about(place)) == about(told)


@pytest.mark.parametrize(
    ("body", "place", "told"),
    [
        ({"tags": ["a", "b"]}, "/tags/1", "/tags/1"),
        ({"$push": {"legs": {"km": 1}}}, "/legs/2/km", "/$push/legs"),
        ({"$inc": {"legs.1.km": 1}}, "/legs/1/km", "/$inc/legs.1.km"),
        ({"legs.1": {"km": 1}}, "/legs/1/km", "/legs.1/km"),
        ({"$unset": ["size"]}, "/size", "/$unset/0"),
        ({"title": "b", "legs.1.stops": []}, "/legs", "/legs.1.stops"),
        ({"title": "b", "legs.1.stops": []}, "/legs/0/km", "/legs/0/km"),
        ({"title": "b", "legs.1.stops": []}, "/legs/1/km", "/legs.1.km"),
        ({"title": "b", "first.stops": []}, "/first/km", "/first.km"),
        ({"title": "b", "first.stops": []}, "/last/km", "/last/km"),
        ({"title": "b"}, "", ""),
        ({"title": "b"}, None, None),
    ],
    ids=str,
)
def test_a_cause_about_the_result_stands_where_the_patch_made_it(body: Any, place: str | None, told: Any) -> None:
    wanted = parsed(body)
    assert wanted.placed(about(place)) == about(told)
    wanted.apply(STORED)
    assert wanted.placed(about(place)) == about(told)


def test_of_what_is_unique_together_a_patch_is_told_what_it_names() -> None:
    both = [about("/title"), about("/size"), about("/size_of_all")]
    assert parsed({"$inc": {"size": 1}, "tags": []}).of_named(both) == [about("/$inc/size")]
    assert parsed({"tags": []}).of_named(both) == both
    assert parsed({"first.km": 1}).of_named([about("/first/km"), about("/last/km")]) == [about("/first.km")]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"legs.1.hours": 7}, "/legs.1.hours"),
        ({"last.hours": 1}, "/last.km"),
        ({"$push": {"legs": {"each": [{"km": 1}, {"km": 10}]}}}, "/$push/legs/each/1/km"),
    ],
)
def test_what_applying_finds_stands_in_the_body(body: Any, place: str) -> None:
    with pytest.raises(ValidationFailed) as failed:
        parsed(body).apply(STORED)
    assert [cause.pointer for cause in failed.value.causes] == [place]


def test_what_is_pulled_is_nothing_that_the_patch_brings() -> None:
    assert parsed({"$pull": {"tags": "a"}, "$push": {"rows": ["b"]}}).values == {"rows": [["b"]]}


def test_a_document_with_rules_of_its_own_is_not_changed_by_mongodb_alone() -> None:
    assert parsed({"title": "b"}).direct is False


def test_paths_are_counted_in_operators_too() -> None:
    more = {f"marks.k{number}": 1 for number in range(51)}
    for body in ({"$inc": {**more, **{f"marks.l{number}": 1 for number in range(50)}}}, {**more, "$inc": more}):
        with pytest.raises(ValidationFailed) as failed:
            parsed(body)
        assert [(cause.pointer, cause.code) for cause in failed.value.causes] == [("", "too_long")]


def test_a_mistake_is_told_once() -> None:
    with pytest.raises(ValidationFailed) as failed:
        parsed(
            {
                "title": 1,
                "size": "1",
                "first.km": "1",
                "last.km": 1,
                "legs.0": {"km": 1, "hours": "1"},
                "$inc": {"nothing": 1},
            }
        )
    assert sorted(str(cause.pointer) for cause in failed.value.causes) == [
        *("/$inc/nothing", "/first.km", "/size", "/title")
    ]


def test_an_object_for_what_is_none_is_refused_before_anything_is_looked_at() -> None:
    with pytest.raises(ValidationFailed) as failed:
        parsed({"title": {"a": 1}, "tags": {"0": "a"}, "size": {}})
    assert {(cause.pointer, cause.code) for cause in failed.value.causes} == {
        (place, "wrong_type") for place in ("/title", "/tags", "/size")
    }


@pytest.mark.parametrize(
    ("change", "then"),
    [
        ({"tolls": None}, {"k": 3}),
        ({"tolls": {"a": 1, "b": None}}, {"k": 3, "tolls": {"a": 1}}),
        ({"km": 4, "stops": ["a"]}, {"k": 4, "stops": ["a"]}),
    ],
)
def test_what_is_inside_of_an_object_is_merged(change: Any, then: dict[str, Any]) -> None:
    first = parsed({"first": change}).apply(STORED)["f"]
    assert {name: value for name, value in first.items() if value not in ([], {})} == then


def test_a_required_field_that_was_never_stored_is_required() -> None:
    with pytest.raises(ValidationFailed) as failed:
        parsed({"size": 1}).apply({"_id": "a"})
    assert [(cause.pointer, cause.code) for cause in failed.value.causes] == [("/title", "required")]


def test_what_is_not_named_stays_with_all_that_a_newer_server_has_put_inside() -> None:
    newer = {"k": 3, "newer": 1}
    after = parsed({"title": "b"}).apply({**STORED, "f": newer, "last": newer})
    assert (after["title"], after["f"], after["last"]) == ("b", newer, newer)


APART, COMPOSED = "cafe\u0301", "caf\u00e9"


def test_a_key_inside_of_an_object_is_one_however_it_is_composed() -> None:
    stored = {**STORED, "f": {"k": 3, "tolls": {COMPOSED: 1, "a": 1}}}
    for change in ({"tolls": {APART: None}}, {"tolls": {COMPOSED: None}}):
        assert parsed({"first": change}).apply(stored)["f"]["tolls"] == {"a": 1}
    with pytest.raises(ValidationFailed) as failed:
        parsed({"first": {"nothing": {APART: 1}, "km": 1}}).apply(stored)
    assert [(cause.pointer, cause.code) for cause in failed.value.causes] == [("/first/nothing", "unknown_field")]
    for body, place in (
        ({"first": {"tolls": {APART: 1, COMPOSED: 2}}, "marks": {"a": {APART: 1}}}, "/first/tolls"),
        ({"days": {"mon": {"tolls": {APART: 1, COMPOSED: 2}}}}, "/days/mon/tolls"),
    ):
        with pytest.raises(ValidationFailed) as failed:
            parsed(body)
        assert failed.value.causes == (Cause("named_twice", ONE_KEY, pointer=place),)


def test_an_operator_that_there_is_not_names_those_that_there_are() -> None:
    with pytest.raises(ValidationFailed) as failed:
        parsed({"$set": {"title": "b"}})
    assert [cause.detail for cause in failed.value.causes] == [
        "one of $inc, $min, $max, $push, $add_to_set, $pull, $unset"
    ]
