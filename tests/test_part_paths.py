"""Paths into a record: where each leads, what it names there, and what becomes of it."""

from typing import Any

import mongoengine as me
import pytest

from service.documents import Record
from service.model.parts import (
    REMOVED,
    MissingEntry,
    Part,
    Spot,
    Taken,
    changed,
    is_path,
    put_in,
    stripped,
)
from tests.types import schema_of


def light(value: Any) -> None:
    if value.weight and value.weight > 9:
        raise me.ValidationError("at most 9")


class Crate(me.EmbeddedDocument):
    id = me.StringField()
    weight = me.IntField(db_field="w")
    marks = me.ListField(me.StringField())
    inner = me.MapField(me.ListField(me.IntField()))


class Numbered(me.EmbeddedDocument):
    id = me.IntField()


class Digits(me.EmbeddedDocument):
    count = me.IntField(db_field="7")
    lid = me.StringField(fixed=True)


class Depot(Record):
    """Whatever a path can lead through."""

    title = me.StringField()
    crates = me.EmbeddedDocumentListField(Crate, db_field="c")
    kept = me.MapField(me.EmbeddedDocumentField(Crate))
    main = me.EmbeddedDocumentField(Crate, db_field="m")
    ruled = me.EmbeddedDocumentField(Crate, validation=light)
    numbered = me.EmbeddedDocumentListField(Numbered)
    digits = me.EmbeddedDocumentListField(Digits)
    order = me.SortedListField(me.IntField())
    grid = me.ListField(me.ListField(me.IntField()))
    maps = me.ListField(me.MapField(me.IntField()))
    logs = me.MapField(me.ListField(me.StringField()))
    mine = me.ListField(me.IntField(), owner_only=True)
    meta = {"collection": "depots"}


def part(path: str) -> Part:
    found = schema_of(Depot).part(path)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "spot", "stored", "kind"),
    [
        ("crates", ("crates",), "c", "member"),
        ("crates.0", ("crates", 0), "c.0", "entry"),
        ("crates.10.marks.2", ("crates", 10, "marks", 2), "c.10.marks.2", "entry"),
        ("crates[id=a.b]", ("crates", "a.b"), "c.a.b", "entry"),
        ("crates[id=a].weight", ("crates", "a", "weight"), "c.a.w", "member"),
        ("crates[id=a].marks.3", ("crates", "a", "marks", 3), "c.a.marks.3", "entry"),
        ("kept.a", ("kept", "a"), "kept.a", "key"),
        ("kept.a.weight", ("kept", "a", "weight"), "kept.a.w", "member"),
        ("kept.a.inner.b.1", ("kept", "a", "inner", "b", 1), "kept.a.inner.b.1", "entry"),
        ("kept.[id=a]", ("kept", "[id=a]"), "kept.[id=a]", "key"),
        ("main.marks.0", ("main", "marks", 0), "m.marks.0", "entry"),
        ("main.inner.0", ("main", "inner", "0"), "m.inner.0", "key"),
        ("grid.1.0", ("grid", 1, 0), "grid.1.0", "entry"),
    ],
)
def test_a_path_leads_to_one_part(path: str, spot: Spot, stored: str, kind: str) -> None:
    found = part(path)
    assert (found.spot, found.stored) == (spot, stored)
    assert (found.is_entry, found.is_member) == (kind == "entry", kind == "member")
    assert found.root.name == spot[0]
    assert len(found.inner) == len(found.steps) == len(spot)
    assert found.inner[-1] is found.field


@pytest.mark.parametrize(
    "path",
    [
        *["crates[id=a]b", "crates[id=]", f"crates[id={'a' * 201}]", "crates]0", "crates.0]", "crates.0x", "crates.01"],
        *["kept[id=a]", "kept.", "kept.a.b", "kept.__proto__", "numbered[id=1]", "digits[id=a]", "grid[id=a]"],
        *["crates.", "main..weight", "main.[weight", "main]weight", "title.0", "main.weight.a", "xmain", ""],
        *["crates.100000", "crates.٣", "maps.0.a.b"],
    ],
)
def test_a_path_to_nothing_leads_nowhere(path: str) -> None:
    assert schema_of(Depot).part(path) is None


@pytest.mark.parametrize(
    ("path", "direct"),
    [
        *[("title", True), ("crates.0.weight", True), ("kept.a.inner.b.1", True), ("grid.0.1", True), ("order", True)],
        *[("crates[id=a]", False), ("crates[id=a].weight", False), ("order.0", False), ("maps.0.3", False)],
        *[("ruled", True), ("ruled.weight", False), ("ruled.marks.0", False), ("digits.0.count", False)],
        *[("mine", False), ("mine.0", False), ("readers.0", False), ("numbered.0.id", True)],
    ],
)
def test_a_part_is_direct_where_mongodb_keeps_all_rules(path: str, direct: bool) -> None:
    assert part(path).is_direct is direct


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("title", []),
        ("main.weight", ["m"]),
        ("kept.a", ["kept"]),
        ("kept.a.weight", ["kept", "kept.a"]),
        ("grid.1", ["grid", "grid.1"]),
        ("crates.0.marks.2", ["c", "c.0", "c.0.marks", "c.0.marks.2"]),
    ],
)
def test_what_a_part_is_in_has_to_be_there_and_an_entry_itself(path: str, there: list[str]) -> None:
    assert part(path).guard == {name: {"$exists": True} for name in there}


@pytest.mark.parametrize(
    ("path", "patched"), [("title", True), ("digits.0.count", True), ("digits.0.lid", False), ("revision", False)]
)
def test_a_part_is_patched_where_each_member_on_the_way_is(path: str, patched: bool) -> None:
    assert part(path).is_patched is patched


def test_a_path_is_what_leads_into_a_field() -> None:
    assert list(map(is_path, ["a", "a.b", "a[id=b]", "$a"])) == [False, True, True, False]


# --- Taken -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *[("title", "title"), ("main", "main.weight"), ("main.weight", "main"), ("main.weight", "main.weight")],
        *[("crates", "crates.0.marks.1"), ("crates.0", "crates.0.marks.1"), ("crates.0.marks", "crates.0.marks.1")],
        *[("crates.0.marks.1", "crates.0.marks"), ("crates.0.marks.1", "crates.0"), ("crates.0", "crates[id=a]")],
        *[("crates[id=a].weight", "crates.0.marks"), ("crates[id=a]", "crates[id=a]")],
    ],
)
def test_a_part_is_taken_once_and_nothing_in_it_nor_in_two_ways(first: str, second: str) -> None:
    taken = Taken()
    assert taken.take(part(first), "/first") is None
    cause = taken.take(part(second), "/second")
    assert cause is not None
    assert (cause.code, cause.pointer) == ("named_twice", "/second")


def test_parts_beside_one_another_are_taken() -> None:
    taken = Taken()
    for path in ("title", "main.weight", "main.marks.0", "main.marks.1", "crates.0", "crates.1.weight", "kept.a"):
        assert taken.take(part(path), path) is None


# --- A document with a part changed ----------------------------------------------------------------------------------

BEFORE: dict[str, Any] = {
    "title": "t",
    "crates": [{"id": "a", "weight": 1}, {"id": "b", "weight": 2}, {"id": "a", "weight": 3}],
    "kept": {"x": {"id": "k"}},
    "main": None,
    "grid": [[1, 2], [3]],
    "logs": {},
}


@pytest.mark.parametrize(
    ("path", "now", "result", "found"),
    [
        ("title", "t", {"title": "new"}, [("title",)]),
        ("main.weight", None, {"main": {"weight": "new"}}, [("main", "weight")]),
        ("main.marks", [], {"main": {"marks": "new"}}, [("main", "marks")]),
        ("kept.y", None, {"kept": {"x": {"id": "k"}, "y": "new"}}, [("kept", "y")]),
        ("kept.x.id", "k", {"kept": {"x": {"id": "new"}}}, [("kept", "x", "id")]),
        ("kept.x.marks", [], {"kept": {"x": {"id": "k", "marks": "new"}}}, [("kept", "x", "marks")]),
        ("logs.a", None, {"logs": {"a": "new"}}, [("logs", "a")]),
        ("grid.0.1", 2, {"grid": [[1, "new"], [3]]}, [("grid", 0, 1)]),
        (
            "crates[id=a].weight",
            3,
            {"crates": [{"id": "a", "weight": "new"}, {"id": "b", "weight": 2}, {"id": "a", "weight": "new"}]},
            [("crates", 0, "weight"), ("crates", 2, "weight")],
        ),
    ],
)
def test_a_change_reaches_its_part_and_nothing_beside_it(
    path: str, now: Any, result: dict[str, Any], found: list[Spot]
) -> None:
    asked: list[Any] = []
    spots: list[Spot] = []

    def change(value: Any) -> str:
        asked.append(value)
        return "new"

    before = repr(BEFORE)
    assert changed(BEFORE, part(path).steps, change, spots) == {**BEFORE, **result}
    assert (asked[-1], spots) == (now, found)
    assert repr(BEFORE) == before


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("main.weight", {"main": None}),
        ("logs.a", {"logs": {}}),
        ("kept.x", {"kept": {}}),
        ("kept.x.id", {"kept": {"x": {}}}),
        ("kept.x.marks", {"kept": {"x": {"id": "k"}}}),
        ("crates[id=a]", {"crates": [REMOVED, {"id": "b", "weight": 2}, REMOVED]}),
        ("crates.1.id", {"crates": [BEFORE["crates"][0], {"weight": 2}, BEFORE["crates"][2]]}),
    ],
)
def test_a_part_that_a_change_leaves_nothing_of_is_gone(path: str, result: dict[str, Any]) -> None:
    after = changed(BEFORE, part(path).steps, lambda value: None, [])
    assert {"main": None, **after} == {**BEFORE, **result}


def test_an_entry_keeps_its_place_while_another_goes() -> None:
    one = changed(BEFORE, part("crates.0").steps, lambda value: None, [])
    two = changed(one, part("crates[id=b].weight").steps, lambda value: 7, [])
    assert stripped(two)["crates"] == [{"id": "b", "weight": 7}, {"id": "a", "weight": 3}]


@pytest.mark.parametrize("path", ["crates.3", "crates.9.weight", "crates[id=c].weight", "grid.1.1", "logs.a.0"])
def test_an_entry_that_is_not_there_is_missed(path: str) -> None:
    with pytest.raises(MissingEntry):
        changed(BEFORE, part(path).steps, lambda value: value, [])


def test_what_was_removed_goes_from_lists_of_any_depth() -> None:
    value = {"a": [1, REMOVED, [REMOVED, 2]], "b": {"c": [{"d": [REMOVED]}, None]}, "e": "f"}
    assert stripped(value) == {"a": [1, [2]], "b": {"c": [{"d": []}, None]}, "e": "f"}


# --- What a patch brings ---------------------------------------------------------------------------------------------


def test_what_a_patch_brings_stands_as_in_a_record_and_each_entry_at_the_end() -> None:
    values: dict[str, Any] = {}
    brought = [
        ("title", "t"),
        ("main.weight", 1),
        ("main.marks", ["m"]),
        ("crates.7.weight", 2),
        ("crates[id=a].marks.5", "n"),
        ("kept.k.inner.i.4", 3),
        ("grid.2.2", 4),
        ("grid.0", [5]),
    ]
    assert [put_in(values, part(path), value) for path, value in brought] == [
        ("title",),
        ("main", "weight"),
        ("main", "marks"),
        ("crates", 0, "weight"),
        ("crates", 1, "marks", 0),
        ("kept", "k", "inner", "i", 0),
        ("grid", 0, 0),
        ("grid", 1),
    ]
    assert values == {
        "title": "t",
        "m": {"w": 1, "marks": ["m"]},
        "c": [{"w": 2}, {"marks": ["n"]}],
        "kept": {"k": {"inner": {"i": [3]}}},
        "grid": [[4], [5]],
    }
