"""What each update operator makes of a value, below any record."""

from typing import Any

import pytest

from service.model.updates import APPLY, Pushed, frozen, merged


@pytest.mark.parametrize(
    ("operator", "current", "operand", "result"),
    [
        ("$inc", 3, 2, 5),
        ("$inc", None, 2, 2),
        ("$inc", "9007199254740993", 1, 9007199254740994),
        ("$min", 3, 2, 2),
        ("$min", 2, 3, 2),
        ("$min", None, 3, 3),
        ("$min", "10", 9, 9),
        ("$min", "8", 9, 8),
        ("$min", "2026-11-10", "2026-11-09", "2026-11-09"),
        ("$max", 3, 2, 3),
        ("$max", 2, 3, 3),
        ("$max", None, -3, -3),
        ("$max", "10", 9, 10),
        ("$max", "2026-11-09", "2026-11-10", "2026-11-10"),
        ("$add_to_set", ["a", "b"], ["b", "c", "c"], ["a", "b", "c"]),
        ("$add_to_set", ["a", "a"], [], ["a", "a"]),
        ("$add_to_set", None, ["a"], ["a"]),
        ("$pull", ["a", "b", "a"], ["a", "c"], ["b"]),
        ("$pull", [], ["a"], []),
        ("$pull", None, ["a"], None),
    ],
)
def test_an_operator_makes_this_of_a_value(operator: str, current: Any, operand: Any, result: Any) -> None:
    assert APPLY[operator](current, operand) == result


@pytest.mark.parametrize(
    ("current", "operand", "result"),
    [
        (["a", "b"], Pushed(["c"]), ["a", "b", "c"]),
        (None, Pushed(["c"]), ["c"]),
        (["a", "b"], Pushed(["c"], position=0), ["c", "a", "b"]),
        (["a", "b"], Pushed(["c"], position=-1), ["a", "c", "b"]),
        (["a", "b"], Pushed(["c"], slice=2), ["a", "b"]),
        (["a", "b"], Pushed(["c"], slice=1), ["a"]),
        (["a", "b"], Pushed(["c"], slice=0), []),
        (["a", "b"], Pushed(["c"], slice=-2), ["b", "c"]),
    ],
)
def test_what_is_pushed_goes_to_its_place_before_the_list_is_cut(
    current: Any, operand: Pushed, result: list[str]
) -> None:
    assert APPLY["$push"](current, operand) == result


def test_values_that_python_takes_for_one_another_stay_two() -> None:
    several = [True, False, 1, 0, [True], [1], [], {}, {"a": True}, {"a": 1}, {"b": 1}, {"a": [1]}, {"a": {}}, None]
    assert len({frozen(value) for value in several}) == len(several)
    assert frozen({"a": [1], "b": 2}) == frozen({"b": 2, "a": [1.0]})


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merging_is_that_of_rfc_7396_appendix_a(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result


def test_merging_leaves_its_target_alone() -> None:
    target = {"a": {"b": 1}}
    merged(target, {"a": {"b": 2}, "c": 3})
    assert target == {"a": {"b": 1}}
