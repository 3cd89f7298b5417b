"""PATCH below HTTP: merge patch, update operators, and that MongoDB's way and our own give the same record."""

from collections.abc import Iterator
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import MalformedJson, ValidationFailed
from service.documents import Note, Notebook, Record
from service.model import patch
from service.mongo.raw import Raw
from service.records import store
from tests.properties import examples
from tests.types import TwoAtMostField, create, schema_of, type_of

pytestmark = pytest.mark.usefixtures("app")

DAY = "2026-11-{:02}"
TIME = "2026-11-{:02}T10:00:00.000Z"


class Step(me.EmbeddedDocument):
    text = me.StringField(required=True, max_length=5)
    done = me.BooleanField(default=False)
    note = me.StringField()


def even(value: int) -> None:
    if value % 2:
        raise me.ValidationError("an even number")


class Plan(Record):
    """A field of each kind that a patch treats in its own way."""

    title = me.StringField(required=True, max_length=5)
    hint = me.StringField()
    count = me.IntField(min_value=-3, max_value=3, default=0)
    loose = me.IntField()
    ratio = me.FloatField(min_value=-2, max_value=2)
    start = me.DateTimeField(db_field="s")
    day = me.DateField()
    on = me.BooleanField(default=True)
    tags = me.ListField(me.StringField(max_length=3), max_length=3)
    must = me.ListField(me.IntField(), required=True)
    order = me.SortedListField(me.IntField())
    steps = me.EmbeddedDocumentListField(Step, max_length=3)
    first = me.EmbeddedDocumentField(Step)
    extra = me.DictField()
    scores = me.MapField(me.IntField(max_value=9))
    place = me.PointField(auto_index=False)
    book = me.ReferenceField(Notebook)

    meta = {"collection": "plans"}


class Rest(Record):
    """Fields with rules that MongoDB does not know, and fields that a client does not write."""

    title = me.StringField(required=True)
    huge = me.LongField(default=0)
    third = me.FloatField(max_value=0.3)
    choice = me.IntField(choices=[0, 1, 5], default=0)
    pairs = me.IntField(validation=even, default=0)
    floor = me.IntField(min_value=5, default=5)
    two = TwoAtMostField(me.IntField())
    seeded = me.ListField(me.IntField(), default=lambda: [1])
    kind = me.StringField(fixed=True)
    views = me.IntField(read_only=True, default=0)
    secret = me.StringField(hidden=True)

    meta = {"collection": "rests"}


class Trip(Record):
    """A record with a rule over two fields."""

    start = me.IntField(required=True)
    end = me.IntField(required=True)

    meta = {"collection": "trips"}

    def clean(self) -> None:
        if self.start > self.end:
            raise me.ValidationError("ends before it starts")


FULL: dict[str, Any] = {
    "title": "plan",
    "hint": "h",
    "count": 1,
    "loose": 1,
    "ratio": 0.5,
    "start": TIME.format(10),
    "day": DAY.format(10),
    "tags": ["a", "b"],
    "must": [1],
    "order": [1, 3],
    "steps": [{"text": "one"}],
    "first": {"text": "one", "note": "n"},
    "extra": {"a": {"b": 1, "c": 2}},
    "scores": {"ada": 1},
}
PLAIN = {"title": "rest", "kind": "k"}


@pytest.fixture(autouse=True)
def nothing_is_left(app: Flask) -> Iterator[None]:
    """These collections are of no registry, so nobody else empties them."""
    yield
    for document in (Plan, Rest, Trip):
        document._get_collection().delete_many({})


def changed(document: type[Record], body: Any, before: Raw) -> Raw:
    """What the resource does with a patch: MongoDB's way if it can, else our own. The stored record is returned."""
    wanted = patch.parse(schema_of(document), body)
    directly = (
        store.change(type_of(document), {"_id": before["_id"], **wanted.guard}, wanted.update)
        if wanted.direct
        else None
    )
    after = directly or store.rewrite(type_of(document), {"_id": before["_id"]}, wanted.apply(before), before)
    assert after is not None
    return after


def after(body: Any, document: type[Record] = Plan, content: dict[str, Any] = FULL) -> dict[str, Any]:
    """The JSON form of a new record after a patch."""
    before = create(document, "ada", schema_of(document).load(content))
    return schema_of(document).dump(changed(document, body, before))


def refused(body: Any, document: type[Record] = Plan, content: dict[str, Any] = FULL) -> dict[str | None, str]:
    """The codes by pointer with which a patch is refused; the record is as it was."""
    before = create(document, "ada", schema_of(document).load(content))
    with pytest.raises(ValidationFailed) as failed:
        changed(document, body, before)
    assert document._get_collection().find_one({"_id": before["_id"]}) == before
    return {cause.pointer: cause.code for cause in failed.value.causes}


# --- Merge patch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"title": "new"}, {"title": "new", "hint": "h"}),
        ({"hint": None, "start": None, "book": None}, {"hint": None, "start": None, "book": None}),
        ({"count": None, "tags": None, "on": None}, {"count": 0, "tags": [], "on": True}),
        ({"start": TIME.format(11)}, {"start": TIME.format(11)}),
        ({"tags": ["c"]}, {"tags": ["c"]}),
        ({"order": [3, 2]}, {"order": [2, 3]}),
        ({"extra": {"a": {"b": None, "d": 4}}}, {"extra": {"a": {"c": 2, "d": 4}}}),
        ({"extra": None}, {"extra": {}}),
        ({"scores": {"bob": 2}}, {"scores": {"ada": 1, "bob": 2}}),
        ({"first": {"text": "two"}}, {"first": {"text": "two", "done": False, "note": "n"}}),
        ({"first": {"text": "two", "note": None}}, {"first": {"text": "two", "done": False, "note": None}}),
        ({"first": None}, {"first": None}),
        ({"steps": [{"text": "x"}]}, {"steps": [{"text": "x", "done": False, "note": None}]}),
        ({"place": {"type": "Point", "coordinates": [1, 2]}}, {"place": {"type": "Point", "coordinates": [1, 2]}}),
        ({"readers": ["bob"]}, {"readers": ["bob"]}),
        ({"first": {"done": True}}, {"first": {"text": "one", "done": True, "note": "n"}}),
        ({"first": {"text": "two", "done": None}}, {"first": {"text": "two", "done": False, "note": "n"}}),
        ({"scores": {"ada": None, "bob": 2}}, {"scores": {"bob": 2}}),
    ],
)
def test_a_merge_patch_changes_what_it_names_and_null_clears(body: dict[str, Any], result: dict[str, Any]) -> None:
    assert result.items() <= after(body).items()


def test_an_empty_patch_changes_nothing_but_counts_as_a_write() -> None:
    before = create(Plan, "ada", schema_of(Plan).load(FULL))
    stored = changed(Plan, {}, before)
    assert stored == {**before, "revision": 2, "updated_at": stored["updated_at"], "oldest_writer": 1}


def test_a_patch_of_the_readers_changes_who_may_read() -> None:
    before = create(Plan, "ada", schema_of(Plan).load(FULL))
    assert changed(Plan, {"$push": {"readers": "bob"}}, before)["access"] == ["o:ada", "r:bob"]


ONE = {"text": "one", "done": False, "note": None}


# --- Operators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"$inc": {"count": 2}}, {"count": 3}),
        ({"$inc": {"count": -4, "loose": 5}}, {"count": -3, "loose": 6}),
        ({"$inc": {"ratio": 1}}, {"ratio": 1.5}),
        ({"$min": {"count": 0}, "$max": {"ratio": 0.25}}, {"count": 0, "ratio": 0.5}),
        ({"$min": {"count": 99}}, {"count": 1}),
        ({"$min": {"start": TIME.format(9)}}, {"start": TIME.format(9)}),
        ({"$max": {"start": "2026-11-10T13:00:00+02:00"}}, {"start": "2026-11-10T11:00:00.000Z"}),
        ({"$max": {"day": DAY.format(9)}}, {"day": DAY.format(10)}),
        ({"$push": {"tags": "a"}}, {"tags": ["a", "b", "a"]}),
        ({"$push": {"tags": {"each": ["a"]}, "must": {"each": [2, 3]}}}, {"tags": ["a", "b", "a"], "must": [1, 2, 3]}),
        ({"$push": {"tags": {"each": []}}}, {"tags": ["a", "b"]}),
        ({"$push": {"order": 2}}, {"order": [1, 2, 3]}),
        ({"$push": {"steps": {"text": "x"}}}, {"steps": [{**ONE, "text": text} for text in ("one", "x")]}),
        ({"$add_to_set": {"tags": {"each": ["a", "c", "c"]}}}, {"tags": ["a", "b", "c"]}),
        ({"$pull": {"tags": "a"}}, {"tags": ["b"]}),
        ({"$pull": {"tags": {"each": ["a", "b", "x"]}}}, {"tags": []}),
        ({"$pull": {"steps": {"text": "one"}}}, {"steps": []}),
        ({"title": "new", "$inc": {"count": 1}, "$push": {"tags": "c"}}, {"title": "new", "count": 2}),
    ],
)
def test_an_operator_does_what_its_name_says(body: dict[str, Any], result: dict[str, Any]) -> None:
    assert result.items() <= after(body).items()


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"$inc": {"loose": 2}}, {"loose": 2}),
        ({"$min": {"loose": 2}}, {"loose": 2}),
        ({"$max": {"start": TIME.format(9)}}, {"start": TIME.format(9)}),
        ({"$push": {"tags": "c"}}, {"tags": ["c"]}),
        ({"$pull": {"tags": "c"}}, {"tags": []}),
    ],
)
def test_an_operator_works_on_a_field_without_a_value(body: dict[str, Any], result: dict[str, Any]) -> None:
    assert result.items() <= after(body, content={"title": "a", "must": [1]}).items()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"$rename": {"title": "hint"}}, {"/$rename": "unknown_operator"}),
        ({"$set": {"title": "a"}}, {"/$set": "unknown_operator"}),
        ({"$addToSet": {"tags": "a"}}, {"/$addToSet": "unknown_operator"}),
        ({"$inc": 1}, {"/$inc": "wrong_type"}),
        ({"$inc": {"x/y": 1}}, {"/$inc/x~1y": "unknown_field"}),
        ({"$inc": {"access": 1}}, {"/$inc/access": "unknown_field"}),
        ({"$inc": {"revision": 1}}, {"/$inc/revision": "read_only"}),
        ({"$inc": {"title": 1}}, {"/$inc/title": "not_allowed"}),
        ({"$inc": {"start": 1}}, {"/$inc/start": "not_allowed"}),
        ({"$push": {"count": 1}}, {"/$push/count": "not_allowed"}),
        ({"$inc": {"count": "1"}}, {"/$inc/count": "wrong_type"}),
        ({"$inc": {"count": 1.5}}, {"/$inc/count": "wrong_type"}),
        ({"$inc": {"count": True}}, {"/$inc/count": "wrong_type"}),
        ({"$inc": {"count": None}}, {"/$inc/count": "wrong_type"}),
        ({"$max": {"start": "now"}}, {"/$max/start": "time"}),
        ({"$push": {"tags": 1}}, {"/$push/tags": "wrong_type"}),
        ({"$push": {"tags": "long"}}, {"/$push/tags": "too_long"}),
        ({"$push": {"tags": ["a"]}}, {"/$push/tags": "wrong_type"}),
        ({"$push": {"tags": {"each": "a"}}}, {"/$push/tags/each": "wrong_type"}),
        ({"$push": {"tags": {"each": ["a", 1]}}}, {"/$push/tags/each/1": "wrong_type"}),
        ({"$push": {"tags": {"each": ["a"], "at": 0}}}, {"/$push/tags": "wrong_type"}),
        ({"$push": {"steps": {"done": 1}}}, {"/$push/steps/text": "required", "/$push/steps/done": "wrong_type"}),
        ({"count": 1, "$inc": {"count": 1}}, {"/$inc/count": "named_twice"}),
        ({"$inc": {"count": 1}, "$min": {"count": 1}}, {"/$min/count": "named_twice"}),
        ({"id": "a"}, {"/id": "read_only"}),
        ({"owner": "eve", "revision": 7}, {"/owner": "read_only", "/revision": "read_only"}),
        ({"title": None}, {"/title": "wrong_type"}),
        ({"must": None}, {"/must": "wrong_type"}),
        (
            {"x/y": 1, "count": "1", "$inc": {"loose": "1"}, "$pop": 1},
            {
                "/x~1y": "unknown_field",
                "/count": "wrong_type",
                "/$inc/loose": "wrong_type",
                "/$pop": "unknown_operator",
            },
        ),
    ],
)
def test_a_patch_that_makes_no_sense_names_every_place(body: dict[str, Any], error: dict[str, str]) -> None:
    assert refused(body) == error


def test_an_operator_on_the_wrong_field_names_those_that_it_works_on() -> None:
    with pytest.raises(ValidationFailed) as failed:
        patch.parse(schema_of(Note), {"$inc": {"title": 1}})
    assert failed.value.causes[0].detail == "`$inc` works on: priority"


@pytest.mark.parametrize("body", [None, [], "{}", 5])
def test_a_patch_that_is_no_object_is_malformed(body: Any) -> None:
    with pytest.raises(MalformedJson):
        patch.parse(schema_of(Note), body)


BROKEN = [
    ({"$inc": {"count": 3}}, "/$inc/count", "too_large"),
    ({"$inc": {"count": -5}}, "/$inc/count", "too_small"),
    ({"$inc": {"loose": 2**31 - 1}}, "/$inc/loose", "too_large"),
    ({"$inc": {"ratio": 1.75}}, "/$inc/ratio", "too_large"),
    ({"$max": {"count": 4}}, "/$max/count", "too_large"),
    ({"$push": {"tags": {"each": ["c", "d"]}}}, "/$push/tags", "too_long"),
    ({"$push": {"tags": {"each": ["c", "d", "e", "f"]}}}, "/$push/tags", "too_long"),
    ({"$add_to_set": {"tags": {"each": ["c", "d"]}}}, "/$add_to_set/tags", "too_long"),
    ({"extra": {"a": {"$b": 1}}}, "/extra", "key"),
    ({"scores": {"bob": 10}}, "/scores/bob", "too_large"),
    ({"title": "long title"}, "/title", "too_long"),
]


@pytest.mark.parametrize(("body", "place", "code"), BROKEN)
def test_a_patch_that_breaks_a_limit_changes_nothing(body: dict[str, Any], place: str, code: str) -> None:
    assert list(refused({"hint": "changed", **body}).values()) == [code]


@pytest.mark.parametrize(("body", "place", "code"), [broken for broken in BROKEN if broken[1].startswith("/$")])
def test_a_limit_that_an_operator_breaks_is_named_by_its_place_in_the_body(
    body: dict[str, Any], place: str, code: str
) -> None:
    assert refused(body) == {place: code}


def test_a_required_list_cannot_be_pulled_empty() -> None:
    assert list(refused({"$pull": {"must": 1}}).values()) == ["too_short"]


def test_a_list_within_its_limit_may_be_filled_by_what_is_there_already() -> None:
    assert after({"$add_to_set": {"tags": {"each": ["a", "b", "c"]}}})["tags"] == ["a", "b", "c"]


@pytest.mark.parametrize("body", [{"$inc": {"end": -5}}, {"end": 0}, {"start": 9, "$min": {"end": 8}}])
def test_a_patch_that_clean_refuses_changes_nothing(body: dict[str, Any]) -> None:
    assert refused(body, Trip, {"start": 1, "end": 2}) == {"": "not_valid"}


def test_a_patch_that_clean_accepts_is_done() -> None:
    assert after({"start": 5, "$inc": {"end": 5}}, Trip, {"start": 1, "end": 2})["end"] == 7


def test_a_long_number_is_added_to() -> None:
    assert after({"$inc": {"huge": 1}}, Rest, PLAIN)["huge"] == 1


@pytest.mark.parametrize(
    ("content", "body", "code"),
    [
        ({}, {"$inc": {"choice": 2}}, "not_allowed"),
        ({}, {"$inc": {"pairs": 1}}, "not_valid"),
        ({"third": -9.7}, {"$inc": {"third": 10}}, "too_large"),
        ({"two": [1, 2]}, {"$push": {"two": 3}}, "not_valid"),
        ({}, {"$max": {"choice": 2}}, "not_allowed"),
        ({}, {"$max": {"pairs": 1}}, "not_valid"),
        ({}, {"choice": 2, "pairs": 2}, "not_allowed"),
    ],
)
def test_a_patch_keeps_the_authors_own_rules(content: dict[str, Any], body: dict[str, Any], code: str) -> None:
    assert list(refused(body, Rest, {**PLAIN, **content}).values()) == [code]


@pytest.mark.parametrize("field", ["count", "loose"])
@pytest.mark.parametrize("operand", [2**63, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_refused(field: str, operand: int) -> None:
    assert refused({"$inc": {field: operand}})


COMPUTED: list[dict[str, Any]] = [{"title": "new", "$push": {"readers": "bob"}}, {"$max": {"choice": 0}, "readers": []}]


@pytest.mark.parametrize("body", COMPUTED)
def test_a_patch_keeps_what_a_client_cannot_write(body: dict[str, Any]) -> None:
    content = {**schema_of(Rest).load(PLAIN), "views": 7, "secret": "s"}
    stored = changed(Rest, body, create(Rest, "ada", content))
    assert {name: stored.get(name) for name in ("kind", "views", "secret")} == {"kind": "k", "views": 7, "secret": "s"}


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"$push": {"seeded": 2}}, {"seeded": [1, 2]}),
        ({"$add_to_set": {"seeded": 1}}, {"seeded": [1]}),
        ({"$min": {"pairs": 2}}, {"pairs": 0}),
        ({"$inc": {"floor": 2}}, {"floor": 7}),
    ],
)
def test_an_operator_begins_with_the_default_where_a_record_has_no_value(
    body: dict[str, Any], result: dict[str, Any]
) -> None:
    before = create(Rest, "ada", {"title": "older than its fields"})
    assert result.items() <= schema_of(Rest).dump(changed(Rest, body, before)).items()


@pytest.mark.real
def test_a_number_far_below_the_lowest_is_refused() -> None:
    assert refused({"$inc": {"floor": -(2**63)}}, Rest, PLAIN) == {"/$inc/floor": "too_small"}


# --- MongoDB's way and our own ---------------------------------------------------------------------------------------

WORDS = st.sampled_from(["", "a", "b", "ab", "é"])
NUMBERS = st.integers(-4, 4)
QUARTERS = st.integers(-10, 10).map(lambda n: n / 4)
TIMES = st.integers(1, 28).map(TIME.format)
DAYS = st.integers(1, 28).map(DAY.format)
STEPS = st.fixed_dictionaries({"text": WORDS}, optional={"done": st.booleans(), "note": WORDS})
POINTS = st.tuples(NUMBERS, NUMBERS).map(lambda pair: {"type": "Point", "coordinates": list(pair)})
OBJECTS = st.dictionaries(
    WORDS.filter(bool), st.none() | NUMBERS | st.dictionaries(WORDS.filter(bool), NUMBERS), max_size=2
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": WORDS,
    "hint": WORDS,
    "count": NUMBERS,
    "loose": NUMBERS,
    "ratio": QUARTERS,
    "start": TIMES,
    "day": DAYS,
    "on": st.booleans(),
    "tags": st.lists(WORDS, max_size=4),
    "must": st.lists(NUMBERS, min_size=1, max_size=3),
    "order": st.lists(NUMBERS, max_size=3),
    "steps": st.lists(STEPS, max_size=3),
    "first": STEPS,
    "extra": OBJECTS,
    "scores": st.dictionaries(WORDS.filter(bool), NUMBERS, max_size=2),
    "place": POINTS,
    "book": st.just("book"),
    "readers": st.lists(st.sampled_from(["ada", "bob", "*", "role:x"]), max_size=2),
}
ENTRIES = {"steps": STEPS, "tags": WORDS, "must": NUMBERS, "order": NUMBERS, "readers": st.sampled_from(["ada", "bob"])}


def changes(name: str) -> st.SearchStrategy[tuple[str, Any]]:
    """What a patch may say of a field: a value, null, or an operator with its operand."""
    said = [st.tuples(st.just("="), VALUES[name]), st.just(("=", None))]
    if name in ENTRIES:
        operands = ENTRIES[name] | st.fixed_dictionaries({"each": st.lists(ENTRIES[name], max_size=3)})
        said.append(st.tuples(st.sampled_from(["$push", "$add_to_set", "$pull"]), operands))
    if name in ("count", "loose", "ratio"):
        said.append(st.tuples(st.sampled_from(["$inc", "$min", "$max"]), VALUES[name]))
    if name in ("start", "day"):
        said.append(st.tuples(st.sampled_from(["$min", "$max"]), VALUES[name]))
    return st.one_of(said)


def as_body(said: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """The body of a patch that says this of each field."""
    body: dict[str, Any] = {}
    for name, (operator, value) in said.items():
        if operator == "=":
            body[name] = value
        else:
            body.setdefault(operator, {})[name] = value
    return body


VALID = {**VALUES, "count": st.integers(-3, 3), "ratio": st.integers(-8, 8).map(lambda n: n / 4)}
VALID["tags"] = st.lists(WORDS, max_size=3)
RECORDS = st.fixed_dictionaries(
    {name: VALID[name] for name in ("title", "must")},
    optional={name: values for name, values in VALID.items() if name not in ("title", "must")},
)
PATCHES = st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: changes(name) for name in names}).map(as_body)
)


def comparable(stored: Raw) -> dict[str, str]:
    """A stored record without what differs between two copies; as text, in which 1, 1.0 and True differ."""
    return {name: repr(stored[name]) for name in stored.keys() - {"_id", "created_at", "updated_at"}}


def is_valid(stored: Raw) -> bool:
    """Whether a client could have sent the record as it now is."""
    shown = schema_of(Plan).dump(stored)
    schema_of(Plan).load({name: shown[name] for name in VALUES if shown[name] is not None})
    return True


@given(content=RECORDS, body=PATCHES)
@examples(200)
def test_mongodbs_way_and_our_own_give_the_same_valid_record(content: dict[str, Any], body: dict[str, Any]) -> None:
    one, two = (create(Plan, "ada", schema_of(Plan).load(content)) for _ in range(2))
    try:
        wanted = patch.parse(schema_of(Plan), body)
    except ValidationFailed:
        return
    theirs = store.change(type_of(Plan), {"_id": one["_id"], **wanted.guard}, wanted.update) if wanted.direct else None
    try:
        ours = store.rewrite(type_of(Plan), {"_id": two["_id"]}, wanted.apply(two), two)
    except ValidationFailed:
        ours = None
    if ours is not None:
        # What is answered is computed, and has to be what is stored; the stamp of the writer is nobody's answer.
        stored = Plan._get_collection().find_one({"_id": two["_id"]}, type_of(Plan).unread)
        ours = {**ours, "oldest_writer": stored["oldest_writer"]}
        assert comparable(stored) == comparable(ours)
    if theirs is not None:
        assert ours is not None
        assert comparable(theirs) == comparable(ours)
    assert ours is None or is_valid(ours)
