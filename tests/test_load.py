"""From JSON to BSON, each time with validators that are made anew: of what a class declares, nothing is forgotten."""

import enum
from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pytest

from service.core.errors import ValidationFailed
from service.core.json_text import MAX_MEMBERS
from service.documents import Record
from service.model.load import (
    CHECKED_AT_ONCE,
    MOST_UNKNOWN,
    annotation,
    check_rules,
    has_rules,
    is_long,
    list_in_pieces,
)
from service.model.schema import Schema
from service.model.validation import validate, validator

APART, COMPOSED = "cafe\u0301", "caf\u00e9"
Found = dict[str | None, str]


def not_seven(value: Any) -> None:
    if value == 7:
        raise me.ValidationError("any but 7")


class Drink(enum.Enum):
    """A member that its author did not compose."""

    COFFEE = APART


class Spot(me.EmbeddedDocument):
    """One that has a rule of its own, and another in it."""

    text = me.StringField(required=True, max_length=5)
    done = me.BooleanField(default=False, db_field="d")
    seen = me.IntField(read_only=True)
    by = me.StringField(fixed=True)
    inner = me.EmbeddedDocumentField("Inner")


class Inner(me.EmbeddedDocument):
    low = me.IntField(default=0)
    high = me.IntField(default=0)

    def clean(self) -> None:
        if self.low > self.high:
            raise me.ValidationError("the wrong way", errors={"low": "not above `high`", "high": "not below `low`"})
        if self.low == 13:
            raise me.ValidationError("bad luck", errors=None)


class Place(Record):
    """A field of each kind that is loaded in its own way."""

    name = me.StringField(required=True, db_field="n")
    words = me.ListField(me.StringField(max_length=3))
    few = me.ListField(me.IntField(), max_length=60)
    must = me.ListField(me.IntField(), required=True)
    keyed = me.MapField(me.IntField(max_value=9), required=True)
    order = me.SortedListField(me.IntField())
    spot = me.EmbeddedDocumentField(Spot)
    spots = me.EmbeddedDocumentListField(Spot)
    by_key = me.MapField(me.ListField(me.EmbeddedDocumentField(Spot)))
    count = me.IntField(max_value=9, validation=not_seven)
    zero = me.IntField(required=True, default=5)
    ratio = me.FloatField()
    drink = me.EnumField(Drink)
    blob = me.BinaryField()
    link = me.URLField()
    views = me.IntField(read_only=True)
    cook = me.StringField(fixed=True)
    code = me.IntField(default=3)
    none = me.StringField(default=lambda: None)
    meta = {"collection": "places"}


LEAST: dict[str, Any] = {"name": "a", "must": [1], "keyed": {"a": 1}}


def loaded(body: dict[str, Any]) -> dict[str, Any]:
    return Schema(Place).load({**LEAST, **body})


def codes(failed: ValidationFailed) -> Found:
    return {cause.pointer: cause.code for cause in failed.causes}


def refused(body: dict[str, Any]) -> Found:
    with pytest.raises(ValidationFailed) as failed:
        loaded(body)
    return codes(failed.value)


def patched(body: dict[str, Any]) -> dict[str, Any]:
    return validate(Schema(Place).patch_body, body)  # type: ignore[no-any-return]


def patch_refused(body: dict[str, Any]) -> Found:
    with pytest.raises(ValidationFailed) as failed:
        patched(body)
    return codes(failed.value)


def wrong_at(length: int, *places: int) -> list[Any]:
    """A list of texts with a number in some places."""
    return [1 if place in places else "x" for place in range(length)]


def test_what_is_left_out_gets_its_default_and_no_null_is_stored() -> None:
    assert loaded({}) == {
        "n": "a",
        "readers": [],
        "writers": [],
        "words": [],
        "few": [],
        "must": [1],
        "keyed": {"a": 1},
        "order": [],
        "spots": [],
        "by_key": {},
        "zero": 5,
        "code": 3,
    }


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ({"name": APART}, {"n": COMPOSED}),
        ({"link": f"https://example.com/{APART}"}, {"link": f"https://example.com/{COMPOSED}"}),
        ({"keyed": {APART: 1}}, {"keyed": {COMPOSED: 1}}),
        ({"drink": APART}, {"drink": APART}),
        ({"name": "", "zero": 0}, {"n": "", "zero": 0}),
        ({"order": [3, 1, 2]}, {"order": [1, 2, 3]}),
        ({"words": ["c", "a"]}, {"words": ["c", "a"]}),
        ({"count": 5.0}, {"count": 5}),
        ({"ratio": 1e300}, {"ratio": 1e300}),
        ({"spot": {"text": "t"}}, {"spot": {"text": "t", "d": False}}),
        ({"spots": [{"text": "t", "by": None, "done": True}]}, {"spots": [{"text": "t", "d": True}]}),
        ({"code": 4, "none": "n"}, {"code": 4, "none": "n"}),
        ({"words": [], "by_key": {}}, {"words": [], "by_key": {}}),
        ({"spot": None, "count": None}, {}),
    ],
)
def test_a_value_is_stored_in_its_one_form(body: dict[str, Any], stored: dict[str, Any]) -> None:
    assert loaded(body) == {**loaded({}), **stored}


def test_bytes_stay_bytes() -> None:
    assert type(loaded({"blob": "aGk="})["blob"]) is bytes


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"words": ["long"]}, {"/words/0": "too_long"}),
        ({"keyed": {"a": 10}}, {"/keyed/a": "too_large"}),
        ({"keyed": {"$a": 1}}, {"/keyed/$a": "key"}),
        ({"keyed": {APART: 1, COMPOSED: 2}}, {"/keyed": "named_twice"}),
        ({"keyed": {}}, {"/keyed": "too_short"}),
        ({"must": []}, {"/must": "too_short"}),
        ({"count": 10}, {"/count": "too_large"}),
        ({"count": 7}, {"/count": "not_valid"}),
        ({"spot": {"text": "longer", "more": 1}}, {"/spot/text": "too_long", "/spot/more": "unknown_field"}),
        ({"spot": {}}, {"/spot/text": "required"}),
        ({"spot": {"text": "t", "seen": 1}}, {"/spot/seen": "read_only"}),
        ({"spot": 5, "words": "x", "keyed": [1]}, dict.fromkeys(["/spot", "/words", "/keyed"], "wrong_type")),
        (
            {"words": {}, "keyed": [], "few": {}, "by_key": []},
            dict.fromkeys(["/words", "/few", "/keyed", "/by_key"], "wrong_type"),
        ),
        ({"name": None, "words": None, "zero": None}, dict.fromkeys(["/name", "/words", "/zero"], "wrong_type")),
        ({"views": 1, "more": 1}, {"/views": "read_only", "/more": "unknown_field"}),
    ],
)
def test_what_breaks_a_rule_is_told_with_its_place(body: dict[str, Any], found: Found) -> None:
    assert refused(body) == found


def test_a_required_field_is_missed() -> None:
    with pytest.raises(ValidationFailed) as failed:
        Schema(Place).load({"views": 1})
    assert codes(failed.value) == {
        "/name": "required",
        "/must": "required",
        "/keyed": "required",
        "/views": "read_only",
    }


# --- A patch ---------------------------------------------------------------------------------------------------------


def test_a_patch_names_what_it_likes_and_null_clears() -> None:
    assert patched({}) == {}
    cleared = {"words": None, "count": None, "zero": None, "spot": None, "must": [2]}
    assert patched(cleared) == cleared


def test_a_patch_sets_nothing_that_a_client_cannot_and_clears_nothing_that_has_to_be() -> None:
    body = {"views": 1, "cook": "c", "id": "i", "name": None, "more": 1}
    assert patch_refused(body) == {
        "/views": "read_only",
        "/cook": "read_only",
        "/id": "read_only",
        "/name": "wrong_type",
        "/more": "unknown_field",
    }


# --- Without the limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("must", []), ("keyed", {}), ("keyed", {"a": 10}), ("words", ["long"]), ("count", 7), ("count", 10)],
)
def test_a_query_may_name_a_value_that_could_not_be_stored(name: str, value: Any) -> None:
    field = Schema(Place).fields[name]
    assert validate(validator(annotation(field, limited=False)), value) == value
    with pytest.raises(ValidationFailed):
        validate(validator(annotation(field)), value)


@pytest.mark.parametrize(("name", "value"), [("words", [1]), ("keyed", {"a": "x"}), ("count", "x"), ("order", 1)])
def test_a_query_names_a_value_of_the_type(name: str, value: Any) -> None:
    with pytest.raises(ValidationFailed):
        validate(validator(annotation(Schema(Place).fields[name], limited=False)), value)


# --- Many mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"words": wrong_at(CHECKED_AT_ONCE, 3, 24)}, ["/words/3", "/words/24"]),
        ({"words": wrong_at(CHECKED_AT_ONCE + 1, 3, 25)}, ["/words/3"]),
        ({"words": wrong_at(60, 26, 49, 50)}, ["/words/26", "/words/49"]),
        ({"words": wrong_at(60, 59)}, ["/words/59"]),
        ({"few": [1] * 30 + ["x"] + [1] * 28 + ["x"]}, ["/few/30", "/few/59"]),
        ({"keyed": {f"k{at}": "x" if at in (3, 24, 25) else 1 for at in range(60)}}, ["/keyed/k3", "/keyed/k24"]),
    ],
)
def test_of_what_may_be_long_the_first_mistakes_are_told(body: dict[str, Any], found: list[str]) -> None:
    assert list(refused(body)) == found


def test_of_a_long_list_each_piece_is_looked_at_once() -> None:
    asked: list[int] = []

    def check(piece: list[int]) -> list[int]:
        asked.append(len(piece))
        return piece

    whole = list(range(60))
    assert list_in_pieces(whole, check) == whole
    assert asked == [25, 25, 10]


def test_what_is_long_is_stored_whole() -> None:
    body = {"words": [str(at) for at in range(77)], "keyed": {f"k{at}": at % 10 for at in range(77)}}
    assert body.items() <= loaded(body).items()


@pytest.mark.parametrize(("most", "long"), [(None, True), (1, False), (MAX_MEMBERS, False), (MAX_MEMBERS + 1, True)])
def test_a_list_is_long_that_has_more_entries_than_a_body_has_members(most: int | None, long: bool) -> None:
    document = type("Row", (me.EmbeddedDocument,), {"row": me.ListField(me.IntField(), max_length=most)})
    assert is_long(Schema(document).fields["row"]) is long


def test_of_unknown_members_so_many_are_told_one_by_one_and_no_more() -> None:
    known = {"text": "t", "done": True, "by": "b", "inner": None, "seen": 1}
    unknown = {f"m{at}": 1 for at in range(MOST_UNKNOWN)}
    assert MOST_UNKNOWN == 20
    assert len(refused({"spot": {**known, **unknown}})) == 21
    with pytest.raises(ValidationFailed) as failed:
        loaded({"spot": {**known, **unknown, "one": 1}})
    (cause,) = failed.value.causes
    assert (cause.pointer, cause.code, cause.detail) == (
        "/spot",
        "unknown_field",
        "no members but text, done, seen, by, inner",
    )


# --- Rules over several fields ---------------------------------------------------------------------------------------


class Plain(me.EmbeddedDocument):
    text = me.StringField()


class Own(me.EmbeddedDocument):
    text = me.StringField()

    def clean(self) -> None:
        raise me.ValidationError("never")


class Around(me.EmbeddedDocument):
    own = me.ListField(me.EmbeddedDocumentField(Own))


@pytest.mark.parametrize(("document", "ruled"), [(Plain, False), (Own, True), (Around, True), (Place, True)])
def test_a_document_has_rules_where_it_or_one_in_it_has(document: Any, ruled: bool) -> None:
    assert has_rules(document, Schema(document).fields) is ruled


def causes(content: dict[str, Any]) -> Iterator[tuple[str | None, str, str]]:
    with pytest.raises(ValidationFailed) as failed:
        check_rules(Place, {"n": "a", **content})
    return ((cause.pointer, cause.code, cause.detail) for cause in failed.value.causes)


@pytest.mark.parametrize(
    ("around", "place"),
    [
        (lambda spot: {"spot": spot}, "/spot"),
        (lambda spot: {"spots": [{"text": "a"}, spot]}, "/spots/1"),
        (lambda spot: {"by_key": {"k": [{"text": "a"}, spot]}}, "/by_key/k/1"),
    ],
)
def test_what_an_embedded_documents_rule_refuses_is_told_with_its_place(around: Any, place: str) -> None:
    spot = {"text": "t", "inner": {"low": 2, "high": 1}}
    assert list(causes(around(spot))) == [
        (f"{place}/inner/low", "not_valid", "not above `high`"),
        (f"{place}/inner/high", "not_valid", "not below `low`"),
    ]
    whole = {"text": "t", "inner": {"low": 13, "high": 13}}
    assert list(causes(around(whole))) == [(f"{place}/inner", "not_valid", "bad luck")]


def test_what_every_rule_accepts_is_loaded() -> None:
    check_rules(Place, loaded({"spot": {"text": "t", "inner": {"high": 1}}}))
