"""Patches of parts: dotted paths, entries by place or id, `$unset`, and where `$push` puts what it brings."""

from typing import Any

import mongoengine as me
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import ValidationFailed
from service.documents import Notebook, Record
from service.model import patch
from service.mongo.raw import Raw
from service.records import store
from tests.client import Person, pointers
from tests.properties import examples
from tests.types import create, schema_of, type_of

pytestmark = pytest.mark.usefixtures("app")


class Lift(me.EmbeddedDocument):
    """One of several that have an id each."""

    id = me.StringField(required=True, max_length=9)
    weight = me.IntField(min_value=0, max_value=9, db_field="w")
    marks = me.ListField(me.StringField(max_length=3), max_length=3)
    book = me.ReferenceField(Notebook)


class Frame(me.EmbeddedDocument):
    width = me.IntField(required=True, db_field="x")
    height = me.IntField(max_value=9)
    depth = me.IntField(default=3)


class Workout(Record):
    """Whatever can have parts."""

    title = me.StringField(required=True)
    lifts = me.EmbeddedDocumentListField(Lift, max_length=4, db_field="l")
    frame = me.EmbeddedDocumentField(Frame, db_field="f")
    scores = me.MapField(me.IntField(max_value=9))
    logs = me.MapField(me.ListField(me.StringField(), max_length=2))
    names = me.MapField(me.StringField(), required=True, default=lambda: {"a": "b"})
    order = me.SortedListField(me.IntField())
    grid = me.ListField(me.ListField(me.IntField()))
    maps = me.ListField(me.MapField(me.IntField()))
    tags = me.ListField(me.StringField(max_length=3), max_length=3)
    must = me.ListField(me.IntField(), required=True)
    extra = me.DictField()
    place = me.PointField(auto_index=False)

    meta = {"collection": "workouts"}


FULL: dict[str, Any] = {
    "title": "a",
    "lifts": [{"id": "a1", "weight": 5}, {"id": "b.2"}],
    "frame": {"width": 1, "height": 2},
    "scores": {"ada": 1},
    "logs": {"ada": ["a"]},
    "names": {"a": "b"},
    "order": [1, 3],
    "grid": [[1, 2], [3]],
    "maps": [{"3": 1}],
    "tags": ["a", "b"],
    "must": [1],
    "extra": {"a": {"b": 1}},
}
NEVER_THE_SAME = {"id", "created_at", "updated_at", "revision"}


def ways(body: Any, before: Raw) -> list[Raw | None]:
    """The record after a patch, by MongoDB's way where there is one, and by our own."""
    wanted = patch.parse(schema_of(Workout), body)
    ours = store.rewrite(type_of(Workout), {"_id": before["_id"]}, wanted.apply(before), before)
    store.rewrite(type_of(Workout), {"_id": before["_id"]}, before, before)
    condition = {"_id": before["_id"], **wanted.guard}
    return [ours, store.change(type_of(Workout), condition, wanted.update) if wanted.direct else None]


def shown(stored: Raw | None) -> dict[str, Any]:
    assert stored is not None
    dumped = schema_of(Workout).dump(stored)
    return {name: value for name, value in dumped.items() if name not in NEVER_THE_SAME}


def after(body: Any, content: dict[str, Any] = FULL) -> tuple[dict[str, Any], bool]:
    """The record after a patch, and whether MongoDB did it in one operation."""
    before = create(Workout, "ada", schema_of(Workout).load(content))
    ours, theirs = ways(body, before)
    if theirs is not None:
        assert shown(theirs) == shown(ours)
    return shown(ours), theirs is not None


def refused(body: Any, content: dict[str, Any] = FULL) -> dict[str | None, str]:
    before = create(Workout, "ada", schema_of(Workout).load(content))
    with pytest.raises(ValidationFailed) as failed:
        ways(body, before)
    assert Workout._get_collection().find_one({"_id": before["_id"]}) == before
    return {cause.pointer: cause.code for cause in failed.value.causes}


BEFORE = shown({**schema_of(Workout).load(FULL), "owner": "ada"})
A1, B2 = BEFORE["lifts"]
FRAME = BEFORE["frame"]


@pytest.mark.parametrize(
    ("body", "result", "direct"),
    [
        ({"lifts.0.weight": 6}, {"lifts": [{**A1, "weight": 6}, B2]}, True),
        ({"lifts.0.weight": None}, {"lifts": [{**A1, "weight": None}, B2]}, True),
        ({"lifts.1.id": "c", "lifts.1.weight": 1}, {"lifts": [A1, {**B2, "id": "c", "weight": 1}]}, True),
        ({"lifts.0": {"weight": 6}}, {"lifts": [{**A1, "weight": 6}, B2]}, False),
        ({"lifts.0": None}, {"lifts": [B2]}, False),
        ({"lifts.0": None, "lifts.1.weight": 3}, {"lifts": [{**B2, "weight": 3}]}, False),
        ({"lifts[id=a1].weight": 6}, {"lifts": [{**A1, "weight": 6}, B2]}, False),
        ({"lifts[id=b.2].weight": 6}, {"lifts": [A1, {**B2, "weight": 6}]}, False),
        ({"lifts[id=a1]": None}, {"lifts": [B2]}, False),
        ({"lifts[id=a1]": {"weight": 1}}, {"lifts": [{**A1, "weight": 1}, B2]}, False),
        ({"frame.height": 4}, {"frame": {**FRAME, "height": 4}}, True),
        ({"frame.height": None}, {"frame": {**FRAME, "height": None}}, True),
        ({"frame.width": 2, "frame.depth": None}, {"frame": {**FRAME, "width": 2}}, True),
        ({"scores.ada": 2, "scores.bob": 3}, {"scores": {"ada": 2, "bob": 3}}, True),
        ({"scores.a[0": 2, "scores.ada": None}, {"scores": {"a[0": 2}}, True),
        ({"scores.0": 2}, {"scores": {"ada": 1, "0": 2}}, True),
        ({"names.a": "c"}, {"names": {"a": "c"}}, True),
        ({"tags.1": "c"}, {"tags": ["a", "c"]}, True),
        ({"tags.0": None, "tags.1": "c"}, {"tags": ["c"]}, False),
        ({"order.0": 9}, {"order": [3, 9]}, False),
        ({"grid.0.1": 7, "grid.1": [4]}, {"grid": [[1, 7], [4]]}, True),
        ({"maps.0.3": 2}, {"maps": [{"3": 2}]}, False),
        ({"$inc": {"lifts.0.weight": -2}}, {"lifts": [{**A1, "weight": 3}, B2]}, True),
        ({"$inc": {"lifts.1.weight": 2}}, {"lifts": [A1, {**B2, "weight": 2}]}, False),
        ({"$inc": {"lifts[id=a1].weight": 2}}, {"lifts": [{**A1, "weight": 7}, B2]}, False),
        ({"$inc": {"scores.ada": 1, "frame.height": 1}}, {"scores": {"ada": 2}, "frame": {**FRAME, "height": 3}}, True),
        ({"$inc": {"scores.bob": 2}}, {"scores": {"ada": 1, "bob": 2}}, False),
        ({"$inc": {"must.0": 3}}, {"must": [4]}, True),
        ({"$max": {"scores.ada": 4}}, {"scores": {"ada": 4}}, True),
        ({"$push": {"lifts.0.marks": "x"}}, {"lifts": [{**A1, "marks": ["x"]}, B2]}, True),
        ({"$push": {"lifts[id=a1].marks": {"each": ["x"]}}}, {"lifts": [{**A1, "marks": ["x"]}, B2]}, False),
        ({"$push": {"logs.bob": "a"}}, {"logs": {"ada": ["a"], "bob": ["a"]}}, True),
        ({"$push": {"logs.bob": "a"}, "lifts.0": None}, {"logs": {"ada": ["a"], "bob": ["a"]}, "lifts": [B2]}, False),
        ({"$pull": {"logs.bob": "a"}}, {}, True),
        ({"$pull": {"logs.bob": "a"}, "lifts.0": None}, {"lifts": [B2]}, False),
        ({"$unset": ["lifts.0", "scores.ada", "frame.depth"]}, {"lifts": [B2], "scores": {}}, False),
        ({"$unset": ["frame", "tags", "extra"]}, {"frame": None, "tags": [], "extra": {}}, True),
        ({"title": "b", "frame.height": 4}, {"title": "b", "frame": {**FRAME, "height": 4}}, True),
    ],
)
def test_a_patch_changes_a_part_and_nothing_beside_it(body: Any, result: dict[str, Any], direct: bool) -> None:
    assert after(body) == ({**BEFORE, **result}, direct)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({"frame.width": 2}, {"frame": {**FRAME, "width": 2, "height": None}}),
        ({"frame.height": None}, {"frame": None}),
        ({"scores.bob": 2}, {"scores": {"bob": 2}}),
        ({"names.c": "d"}, {"names": {"a": "b", "c": "d"}}),
        ({"$inc": {"frame.depth": 1}, "frame.width": 2}, {"frame": {**FRAME, "width": 2, "height": None, "depth": 4}}),
    ],
)
def test_what_a_part_is_in_is_made_where_it_is_not(body: Any, result: dict[str, Any]) -> None:
    before = create(Workout, "ada", {"title": "a", "must": [1]})
    assert result.items() <= shown(ways(body, before)[0]).items()


LONG = "x" * 201


@pytest.mark.parametrize(
    ("body", "error"),
    [
        *(
            ({name: 1}, {f"/{name}": "unknown_field"})
            for name in ("frame.x", "frame.__proto__", "__proto__.a", "title.a")
        ),
        *(
            ({name: 1}, {f"/{name}": "unknown_field"})
            for name in (".", "..", ".frame", "frame.", "frame..width", "a.b")
        ),
        *(({name: 1}, {f"/{name}": "unknown_field"}) for name in ("[id=a1]", "lifts[id=a1", "lifts[a1]", "lifts[id=]")),
        *(
            ({name: 1}, {f"/{name}": "unknown_field"})
            for name in ("lifts.$.weight", "lifts.$[].weight", "lifts.-1.weight")
        ),
        *(
            ({name: 1}, {f"/{name}": "unknown_field"})
            for name in ("lifts.00.weight", "lifts.1e1", "lifts.100000", "lifts.٣")
        ),
        *(
            ({name: 1}, {f"/{name}": "unknown_field"})
            for name in ("scores.", "scores.$a", "scores.a.b", "scores[id=a]")
        ),
        *(({name: 1}, {f"/{name}": "unknown_field"}) for name in (f"scores.{LONG}", "scores.__proto__", "place.type")),
        *(({name: 1}, {f"/{name}": "unknown_field"}) for name in ("tags[id=a]", "extra.a", "lifts.weight", "access.0")),
        ({"$inc": {"frame.x": 1}}, {"/$inc/frame.x": "unknown_field"}),
        ({"$unset": ["frame.x"]}, {"/$unset/0": "unknown_field"}),
        ({"readers.0": 1, "owner.a": 1}, {"/readers.0": "wrong_type", "/owner.a": "unknown_field"}),
        ({"lifts.9.weight": 1}, {"/lifts.9.weight": "not_found"}),
        ({"lifts.2": {"id": "c"}}, {"/lifts.2": "not_found"}),
        ({"lifts[id=x].weight": 1}, {"/lifts[id=x].weight": "not_found"}),
        ({"$inc": {"lifts.9.weight": 1}}, {"/$inc/lifts.9.weight": "not_found"}),
        ({"$unset": ["tags.5"]}, {"/$unset/0": "not_found"}),
        ({"frame.height": "1"}, {"/frame.height": "wrong_type"}),
        ({"frame.height": 10}, {"/frame.height": "too_large"}),
        ({"frame.width": None}, {"/frame.width": "wrong_type"}),
        ({"$unset": ["frame.width"]}, {"/$unset/0": "required"}),
        ({"lifts.0": {"weight": 10}}, {"/lifts.0/weight": "too_large"}),
        ({"lifts[id=a1]": {"marks": ["long"]}}, {"/lifts[id=a1]/marks/0": "too_long"}),
        ({"lifts.0.marks": ["long"]}, {"/lifts.0.marks/0": "too_long"}),
        ({"scores.ada": 10, "grid.0": [1, "1"]}, {"/scores.ada": "too_large", "/grid.0/1": "wrong_type"}),
        ({"$inc": {"scores.ada": 9}}, {"/$inc/scores.ada": "too_large"}),
        ({"$inc": {"lifts[id=a1].weight": 9}}, {"/$inc/lifts[id=a1].weight": "too_large"}),
        ({"$push": {"lifts.0.marks": {"each": ["a", "b", "c", "d"]}}}, {"/$push/lifts.0.marks": "too_long"}),
        ({"$push": {"lifts.0.marks": {"each": ["a", 1]}}}, {"/$push/lifts.0.marks/each/1": "wrong_type"}),
        ({"$inc": {"frame": 1}}, {"/$inc/frame": "not_allowed"}),
        ({"$push": {"lifts.0": 1}}, {"/$push/lifts.0": "not_allowed"}),
        ({"must.0": None}, {"/must.0": "too_short"}),
        ({"names.a": None}, {"/names.a": "too_short"}),
        ({"frame": None, "frame.height": 1}, {"/frame.height": "named_twice"}),
        ({"frame.height": 1, "frame": None}, {"/frame": "named_twice"}),
        ({"lifts.0.weight": 1, "$push": {"lifts": {"id": "c"}}}, {"/$push/lifts": "named_twice"}),
        ({"lifts.0": None, "lifts.0.weight": 1}, {"/lifts.0.weight": "named_twice"}),
        ({"frame.height": 1, "$inc": {"frame.height": 1}}, {"/$inc/frame.height": "named_twice"}),
        ({"lifts.0.weight": 1, "lifts[id=a1].weight": 2}, {"/lifts[id=a1].weight": "named_twice"}),
        ({"$unset": ["frame"], "frame.height": 1}, {"/$unset/0": "named_twice"}),
    ],
)
def test_a_part_that_makes_no_sense_is_refused_at_its_place(body: Any, error: dict[str, str]) -> None:
    assert refused(body) == error


def test_what_lacks_beside_a_part_is_named_by_a_path() -> None:
    assert refused({"frame.height": 1}, {"title": "a", "must": [1], "names": {"a": "b"}}) == {
        "/frame.width": "required"
    }


def test_a_patch_has_100_paths_at_most() -> None:
    assert after({f"scores.k{n}": 1 for n in range(100)})[0]["scores"]["k99"] == 1
    assert refused({f"scores.k{n}": 1 for n in range(101)}) == {"": "too_long"}
    assert refused({"$inc": {f"scores.k{n}": 1 for n in range(10_000)}}) == {"": "too_long"}
    assert refused({"$unset": [f"scores.k{n}" for n in range(10_000)]}) == {"": "too_long"}
    assert refused({f"lifts[id=k{n}]": None for n in range(101)}) == {"": "too_long"}
    assert "" not in refused({f"k{n}": 1 for n in range(101)})


@pytest.mark.parametrize(
    ("operand", "result"),
    [
        ({"each": ["c"], "position": 0}, ["c", "a", "b"]),
        ({"each": ["c"], "position": -1}, ["a", "c", "b"]),
        ({"each": ["c"], "position": -9}, ["c", "a", "b"]),
        ({"each": ["c"], "position": 9}, ["a", "b", "c"]),
        ({"each": ["c", "d", "e"], "slice": -3}, ["c", "d", "e"]),
        ({"each": ["c", "d"], "slice": 3}, ["a", "b", "c"]),
        ({"each": ["c", "d"], "position": 0, "slice": 2}, ["c", "d"]),
        ({"each": ["c"], "slice": 9}, ["a", "b", "c"]),
        ({"each": [], "slice": -1}, ["b"]),
        ({"each": ["c"], "slice": 0}, []),
    ],
)
def test_push_takes_a_position_and_a_slice(operand: Any, result: list[str]) -> None:
    assert after({"$push": {"tags": operand}}) == ({**BEFORE, "tags": result}, True)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"$push": {"tags": {"each": ["c", "d"], "slice": 9}}}, {"/$push/tags": "too_long"}),
        ({"$push": {"must": {"each": [1], "slice": 0}}}, {"/$push/must": "too_short"}),
        ({"$push": {"tags": {"each": ["a"], "position": "0"}}}, {"/$push/tags/position": "wrong_type"}),
        ({"$push": {"tags": {"each": ["a"], "slice": 2**31}}}, {"/$push/tags/slice": "wrong_type"}),
        ({"$push": {"tags": {"each": ["a"], "slice": True}}}, {"/$push/tags/slice": "wrong_type"}),
        ({"$push": {"tags": {"position": 0}}}, {"/$push/tags": "wrong_type"}),
        ({"$pull": {"tags": {"each": ["a"], "slice": 1}}}, {"/$pull/tags/slice": "unknown_field"}),
        ({"$add_to_set": {"tags": {"each": ["a"], "position": 1}}}, {"/$add_to_set/tags/position": "unknown_field"}),
        ({"$unset": "hint"}, {"/$unset": "wrong_type"}),
        ({"$unset": {"hint": ""}}, {"/$unset": "wrong_type"}),
        ({"$unset": [1]}, {"/$unset": "wrong_type"}),
        ({"$unset": ["tags", "title", "must"]}, {"/$unset/1": "required", "/$unset/2": "required"}),
        ({"$unset": ["nothing", "id"]}, {"/$unset/0": "unknown_field", "/$unset/1": "read_only"}),
        ({"$unset": ["tags", "tags"]}, {"/$unset/1": "named_twice"}),
        ({"place": None, "$unset": ["place"]}, {"/$unset/0": "named_twice"}),
        ({"$unset": ["tags"], "$push": {"tags": "a"}}, {"/$push/tags": "named_twice"}),
    ],
)
def test_a_push_or_an_unset_that_makes_no_sense_is_refused_at_its_place(body: Any, error: dict[str, str]) -> None:
    assert refused(body) == error


def test_a_reference_in_a_part_is_looked_at() -> None:
    wanted = patch.parse(
        schema_of(Workout), {"lifts.1.book": "x", "lifts.0.weight": 1, "$push": {"lifts.0.marks": {"each": ["a"]}}}
    )
    assert wanted.values == {"l": [{"book": "x"}, {"w": 1}, {"marks": ["a"]}]}
    assert [spot for spot, _ in wanted.sources] == [("lifts", 0, "book"), ("lifts", 1, "weight"), ("lifts", 2, "marks")]


# --- Over HTTP -------------------------------------------------------------------------------------------------------


def test_a_line_of_a_checklist_is_ticked(ada: Person) -> None:
    note = ada.make_note(checklist=[{"text": "a"}, {"text": "b"}])
    answer = ada.patch(f"/v1/notes/{note['id']}", {"checklist.1.done": True})
    assert answer.json["checklist"] == [{"text": "a", "done": False}, {"text": "b", "done": True}]
    assert pointers(ada.patch(f"/v1/notes/{note['id']}", {"checklist.7.done": True})) == {
        "/checklist.7.done": "not_found"
    }


def test_a_field_is_cleared_by_its_name(ada: Person) -> None:
    note = ada.make_note(due="2026-11-26T10:00:00Z", tags=["a"], notebook=ada.make_notebook()["id"])
    answer = ada.patch(f"/v1/notes/{note['id']}", {"$unset": ["due", "tags", "notebook"]})
    assert (answer.json["due"], answer.json["tags"], answer.json["notebook"]) == (None, [], None)


def test_a_part_of_the_readers_changes_who_may_read(ada: Person, bob: Person) -> None:
    note = ada.make_note(readers=["role:none"])
    assert bob.get(f"/v1/notes/{note['id']}").status_code == 404
    assert ada.patch(f"/v1/notes/{note['id']}", {"readers.0": bob.id}).status_code == 200
    assert bob.get(f"/v1/notes/{note['id']}").status_code == 200
    assert bob.patch(f"/v1/notes/{note['id']}", {"readers.0": "*"}).status_code == 403


# --- MongoDB's way and our own ---------------------------------------------------------------------------------------

NUMBERS = st.integers(-1, 10)
MARKS = st.sampled_from(["a", "b", "long"])
PARTS: dict[str, st.SearchStrategy[Any]] = {
    **{f"lifts.{n}.weight": NUMBERS for n in range(3)},
    **{f"lifts[id={id}].weight": NUMBERS for id in ("a1", "b.2", "x")},
    "lifts.0.marks": st.lists(MARKS, max_size=3),
    "lifts.1": st.fixed_dictionaries({"weight": NUMBERS}),
    **dict.fromkeys(["frame.width", "frame.height", "frame.depth", "scores.ada", "scores.bob", "grid.0.1"], NUMBERS),
    "names.a": MARKS,
    "tags.1": MARKS,
    "must.0": NUMBERS,
    "order.0": NUMBERS,
    "maps.0.3": NUMBERS,
}
NUMERIC = [name for name, values in PARTS.items() if values is NUMBERS]


def said_of(name: str) -> st.SearchStrategy[tuple[str, Any]]:
    said = [st.tuples(st.just("="), PARTS[name]), st.just(("=", None))]
    if name in NUMERIC:
        # mongomock does nothing for `$min` and `$max` in a list.
        able = ["$inc"] if "0" in name or "lifts" in name else ["$inc", "$min", "$max"]
        said.append(st.tuples(st.sampled_from(able), NUMBERS))
    if name == "lifts.0.marks":
        pushed = st.fixed_dictionaries(
            {"each": st.lists(MARKS, max_size=2)},
            optional={"position": st.integers(-2, 2), "slice": st.integers(-4, 4)},
        )
        said.append(st.tuples(st.just("$push"), pushed))
    return st.one_of(said)


def body_of(said: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, (operator, value) in said.items():
        (body if operator == "=" else body.setdefault(operator, {}))[name] = value
    return body


BODIES = st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: said_of(name) for name in names}).map(body_of)
)
CONTENTS = st.fixed_dictionaries({name: st.just(FULL[name]) for name in ("title", "must", "names")}).flatmap(
    lambda least: st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in FULL.items()}).map(
        lambda more: {**more, **least}
    )
)


@given(content=CONTENTS, body=BODIES)
@examples(200)
def test_a_part_is_changed_the_same_by_mongodb_and_by_us(content: dict[str, Any], body: dict[str, Any]) -> None:
    before = create(Workout, "ada", schema_of(Workout).load(content))
    try:
        ours, theirs = ways(body, before)
    except ValidationFailed:
        # MongoDB's way must not do what ours refuses.
        try:
            wanted = patch.parse(schema_of(Workout), body)
        except ValidationFailed:
            return
        condition = {"_id": before["_id"], **wanted.guard}
        assert not wanted.direct or store.change(type_of(Workout), condition, wanted.update) is None
        return
    schema_of(Workout).load({k: v for k, v in shown(ours).items() if k in FULL and k != "frame" and v is not None})
    if theirs is not None:
        assert shown(theirs) == shown(ours)


# How keys are composed

APART, COMPOSED = "cafe\u0301", "caf\u00e9"


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ({f"scores.{APART}": 3}, {"scores": {COMPOSED: 3}}),
        ({"scores": {APART: 3}}, {"scores": {COMPOSED: 3}}),
        ({f"scores.{COMPOSED}": 3}, {"scores": {COMPOSED: 3}}),
        ({"$inc": {f"scores.{APART}": 2}}, {"scores": {COMPOSED: 3}}),
        ({"$unset": [f"scores.{APART}"]}, {"scores": {}}),
        ({"scores": {APART: None}}, {"scores": {}}),
        ({"maps.0": {APART: 2}}, {"maps": [{COMPOSED: 2}]}),
        ({f"lifts[id={APART}].weight": 6}, {"lifts": [{**A1, "id": COMPOSED, "weight": 6}]}),
    ],
    ids=str,
)
def test_a_key_or_an_id_is_one_however_it_is_composed(body: Any, result: dict[str, Any]) -> None:
    lifts = [{"id": APART, "weight": 5}]
    content = {**FULL, "scores": {APART: 1}, "maps": [{APART: 1}], "lifts": lifts}
    assert result.items() <= after(body, content)[0].items()


TWO = {APART: 1, COMPOSED: 2}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"scores": TWO}, "/scores"),
        ({"scores": {**TWO, **{str(number): 1 for number in range(30)}}}, "/scores"),
        ({"maps.0": TWO}, "/maps.0"),
        ({"maps": [TWO]}, "/maps/0"),
        ({f"scores.{APART}": 1, f"scores.{COMPOSED}": 2}, f"/scores.{COMPOSED}"),
    ],
    ids=str,
)
def test_two_keys_that_are_one_are_refused(body: Any, place: str) -> None:
    assert refused(body) == {place: "named_twice"}
    if "scores" in body:
        with pytest.raises(ValidationFailed) as failed:
            schema_of(Workout).load({**FULL, **body})
        assert [(cause.pointer, cause.code) for cause in failed.value.causes] == [(place, "named_twice")]
