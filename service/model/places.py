"""Places: where in a document the fields of some kind stand, at any depth, and what is stored there."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from service.model.field import Field

Step = Field | Literal["list", "map"]
"""A member of a document, or every entry of a list or a map."""
Pointed = tuple[tuple[str | int, ...], Any]
"""A value with the steps of the pointer that leads to it."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where one field stands: the steps that lead to its values from the document that has it at some depth."""

    steps: tuple[Step, ...]
    field: Field

    @cached_property
    def name(self) -> str:
        """Return its dotted name as clients have it; what is in lists and maps is called as they are."""
        return ".".join(step.name for step in self.members)

    @cached_property
    def stored(self) -> str:
        """Return its dotted name as MongoDB has it."""
        return ".".join(step.stored for step in self.members)

    @cached_property
    def members(self) -> tuple[Field, ...]:
        """Return the members that lead to it, the outermost first."""
        return tuple(step for step in self.steps if isinstance(step, Field))

    @cached_property
    def root(self) -> Field:
        """Return the field of the document itself in which it stands."""
        return self.members[0]

    @cached_property
    def is_in_map(self) -> bool:
        """Tell whether a map is on the way, whose keys nobody knows before."""
        return "map" in self.steps

    @cached_property
    def is_in_list(self) -> bool:
        """Tell whether it is a member of what a list holds."""
        return "list" in self.steps[:-1]

    @cached_property
    def is_single(self) -> bool:
        """Tell whether there is at most one value here: no list and no map is on the way or at its end."""
        return all(isinstance(step, Field) for step in self.steps)

    @cached_property
    def is_entry(self) -> bool:
        """Tell whether its values are the entries of a list."""
        return self.steps[-1] == "list"

    def stored_values(self, stored: Mapping[str, Any]) -> Iterator[Pointed]:
        """Yield all values that a document in BSON form has here, each with its place."""
        return values(stored, self.steps, lambda field: field.stored)

    def json_values(self, item: Mapping[str, Any]) -> Iterator[Pointed]:
        """Yield all values that a document in JSON form has here, each with its place."""
        return values(item, self.steps, lambda field: field.name)

    def without(self, stored: Mapping[str, Any], gone: Collection[str]) -> Any:
        """Return a document in BSON form without the values here that are `gone`; `stored` stays as it is."""
        return value_without(stored, tuple(step.stored for step in self.members), gone)

    def exchanged(self, stored: Mapping[str, Any], old: str, new: str) -> Any:
        """Return a document in BSON form with the id `new` wherever `old` stands here; `stored` stays as it is."""
        return value_exchanged(stored, tuple(step.stored for step in self.members), old, new)


def places(fields: Mapping[str, Field], wanted: Callable[[Field], bool]) -> Iterator[Place]:
    """Yield the place of each field that is `wanted`, among `fields` and in what they hold."""
    for field in fields.values():
        yield from places_in(field, (field,), wanted)


def places_in(field: Field, steps: tuple[Step, ...], wanted: Callable[[Field], bool]) -> Iterator[Place]:
    """Yield the places of what is `wanted` in a field to which `steps` lead."""
    if wanted(field):
        yield Place(steps, field)
    elif field.entry is not None:
        yield from places_in(field.entry, (*steps, "list" if field.is_list else "map"), wanted)
    else:
        for member in field.members.values():
            yield from places_in(member, (*steps, member), wanted)


def place_at(fields: Mapping[str, Field], path: str) -> Place | None:
    """Return the place of the field at a dotted path through embedded documents, None where there is none."""
    steps: list[Field] = []
    for name in path.split("."):
        if name not in fields:
            return None
        steps.append(fields[name])
        fields = fields[name].members
    return Place(tuple(steps), steps[-1])


def values(value: Any, steps: tuple[Step, ...], named: Callable[[Field], str], *place: str | int) -> Iterator[Pointed]:
    """Yield the values to which `steps` lead from a value; what has another form than the fields say has none."""
    if value is None:
        return
    if not steps:
        yield place, value
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Field):
        if isinstance(value, Mapping):
            yield from values(value.get(named(step)), rest, named, *place, step.name)
        return
    entries: Any = ()
    if step == "list" and isinstance(value, list):
        entries = enumerate(value)
    elif step == "map" and isinstance(value, Mapping):
        entries = value.items()
    for key, entry in entries:
        yield from values(entry, rest, named, *place, key)


def value_without(value: Any, names: tuple[str, ...], gone: Collection[str]) -> Any:
    """Return a value in BSON form without what is `gone` where MongoDB finds it along some `names`.

    That is in a list as in what stands there alone, whichever the field says. Members go, and entries of lists.
    """
    if isinstance(value, list):
        return [value_without(entry, names, gone) for entry in value if names or not is_id_in(gone, entry)]
    if not names or not isinstance(value, Mapping) or names[0] not in value:
        return value
    name, *rest = names
    if not rest and is_id_in(gone, value[name]):
        return {other: member for other, member in value.items() if other != name}
    return {**value, name: value_without(value[name], tuple(rest), gone)}


def value_exchanged(value: Any, names: tuple[str, ...], old: str, new: str) -> Any:
    """Return a value in BSON form with the id `new` wherever MongoDB finds `old` along some `names`; see above."""
    if isinstance(value, list):
        return [value_exchanged(entry, names, old, new) for entry in value]
    if not names:
        return new if value == old else value
    if not isinstance(value, Mapping) or names[0] not in value:
        return value
    return {**value, names[0]: value_exchanged(value[names[0]], names[1:], old, new)}


def is_id_in(ids: Collection[str], value: Any) -> bool:
    """Tell whether a stored value, of whatever type, is one of some ids."""
    return isinstance(value, str) and value in ids
