"""Whatever a patch says, what comes of it is what a model in plain Python says, or nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client import Person
from tests.properties import examples

Json = dict[str, Any]

TITLES = st.sampled_from(["", "a", "b", "x" * 200, "x" * 201])
TAGS = st.sampled_from(["", "a", "b", "é", "x" * 40, "x" * 41])
TIMES = st.sampled_from([f"2026-11-{day}T10:00:00.000Z" for day in (10, 11, 12)])
ITEMS = st.fixed_dictionaries({"text": st.sampled_from(["a", "b"])}, optional={"done": st.booleans()})
SHORT = st.lists(TAGS, max_size=3)
FULL = st.integers(18, 20).map(lambda n: [f"t{i}" for i in range(n)])
POINTS = st.sampled_from([{"type": "Point", "coordinates": [1.5, 2]}, {"type": "Point", "coordinates": [0, 91]}])

NOTES = st.fixed_dictionaries(
    {"title": st.sampled_from(["a", "b"])},
    optional={
        "body": st.sampled_from(["", "b"]),
        "tags": st.lists(st.sampled_from(["a", "b", "é"]), max_size=3) | FULL,
        "pinned": st.booleans(),
        "priority": st.integers(0, 5),
        "due": TIMES,
        "checklist": st.lists(ITEMS, max_size=3),
    },
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": TITLES,
    "body": TITLES,
    "tags": SHORT,
    "pinned": st.booleans(),
    "priority": st.integers(-1, 6),
    "due": TIMES,
    "place": POINTS,
    "checklist": st.lists(ITEMS, max_size=3),
}
DEFAULTS: Json = {"body": "", "tags": [], "pinned": False, "priority": 0, "due": None, "place": None, "checklist": []}


def operands(entries: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return entries | st.fixed_dictionaries({"each": st.lists(entries, max_size=3)})


LISTS = st.sampled_from(["$push", "$add_to_set", "$pull"])
CHANGES: dict[str, st.SearchStrategy[tuple[str, Any]]] = {
    name: st.tuples(st.just("="), values | st.none()) for name, values in VALUES.items()
}
CHANGES["tags"] |= st.tuples(LISTS, operands(TAGS))
CHANGES["checklist"] |= st.tuples(LISTS, operands(ITEMS))
CHANGES["priority"] |= st.tuples(st.sampled_from(["$inc", "$min", "$max"]), st.integers(-6, 6))
CHANGES["due"] |= st.tuples(st.sampled_from(["$min", "$max"]), TIMES)
PATCHES = st.lists(st.sampled_from(sorted(CHANGES)), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: CHANGES[name] for name in names})
)


def body_of(said: dict[str, tuple[str, Any]]) -> Json:
    body: Json = {}
    for name, (operator, value) in said.items():
        (body if operator == "=" else body.setdefault(operator, {}))[name] = value
    return body


def each(operand: Any) -> list[Any]:
    """The values of a list operator; an item of a checklist with what it leaves out."""
    values = operand["each"] if isinstance(operand, dict) and "each" in operand else [operand]
    return [{"done": False, **value} if isinstance(value, dict) else value for value in values]


def united(now: list[Any], more: list[Any]) -> list[Any]:
    result = list(now)
    for value in more:
        if value not in result:
            result.append(value)
    return result


MODEL: dict[str, Callable[[Any, Any], Any]] = {
    "$inc": lambda now, operand: now + operand,
    "$min": lambda now, operand: operand if now is None else min(now, operand),
    "$max": lambda now, operand: operand if now is None else max(now, operand),
    "$push": lambda now, operand: now + each(operand),
    "$add_to_set": lambda now, operand: united(now, each(operand)),
    "$pull": lambda now, operand: [value for value in now if value not in each(operand)],
}


def expected(now: Json, said: dict[str, tuple[str, Any]]) -> Json:
    """A note after a patch, whether or not it may be so."""
    after = dict(now)
    for name, (operator, value) in said.items():
        if operator != "=":
            after[name] = MODEL[operator](now[name], value)
        elif value is None:
            after[name] = DEFAULTS.get(name)
        else:
            after[name] = each({"each": value}) if name == "checklist" else value
    return after


def may_be(note: Json) -> bool:
    """Whether a note keeps the limits of the contract."""
    return (
        isinstance(note["title"], str)
        and 1 <= len(note["title"]) <= 200
        and len(note["tags"]) <= 20
        and all(1 <= len(tag) <= 40 for tag in note["tags"])
        and 0 <= note["priority"] <= 5
        and (note["place"] is None or note["place"]["coordinates"][1] <= 90)
    )


def is_good(said: dict[str, tuple[str, Any]]) -> bool:
    """Whether what a list operator brings is a tag: that is asked for even where it changes nothing."""
    operator, operand = said.get("tags", ("=", None))
    return operator == "=" or all(1 <= len(tag) <= 40 for tag in each(operand))


@given(content=NOTES, said=PATCHES)
@examples(50)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_patch_does_what_the_model_does_or_nothing(
    ada: Person, conditional: bool, content: Json, said: dict[str, tuple[str, Any]]
) -> None:
    now = ada.put("/v1/notes/one", content).json
    headers = {"If-Match": f'"{now["revision"]}"'} if conditional else {}
    answer = ada.patch("/v1/notes/one", body_of(said), headers=headers)
    stored = ada.get("/v1/notes/one").json
    after = expected(now, said)
    if may_be(after) and is_good(said):
        assert answer.status_code == 200, answer.json
        changing = {"updated_at": stored["updated_at"], "revision": now["revision"] + 1}
        assert answer.json == stored == {**after, **changing}
    else:
        assert answer.status_code == 422
        assert stored == now
