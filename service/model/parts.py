"""Parts: the places in a record that a patch names, by a field or by a dotted path into one."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mongoengine import fields as me

from service.core.errors import Cause
from service.model.dump import json_default
from service.model.field import Field
from service.model.fields import own_rules
from service.model.values import composed, is_key

Spot = tuple[str | int, ...]
"""The steps of a JSON pointer."""
NAME_STEP = re.compile(r"[^.\[\]]+")
ID_STEP = re.compile(r"\[id=([^\[\]]{1,200})\]")
INDEX_STEP = re.compile(r"(?:0|[1-9][0-9]{0,4})(?=[.\[]|$)")
REMOVED = object()
"""What stands in a list where an entry has been removed, so that the places of the others stay."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a document."""

    field: Field


@dataclass(frozen=True, slots=True)
class MapKey:
    """What a map has under a key."""

    key: str


@dataclass(frozen=True, slots=True)
class EntryAt:
    """The entry of a list at a place, counted from 0."""

    number: int


@dataclass(frozen=True, slots=True)
class EntryId:
    """Every entry of a list of embedded documents with an id."""

    id: str


PartStep = Member | MapKey | EntryAt | EntryId


@dataclass(frozen=True)
class Part:
    """A place in a record: the steps that lead there, and the field of what is there.

    `around` are the fields that it is inside of, the outermost first. What follows from these is kept: see
    `Schema.part`.
    """

    steps: tuple[PartStep, ...]
    field: Field
    around: tuple[Field, ...] = ()

    @cached_property
    def root(self) -> Field:
        """Return the field of the record that it is, or is in."""
        return self.around[0] if self.around else self.field

    @cached_property
    def is_patched(self) -> bool:
        """Tell whether a patch may name it."""
        return all(step.field.is_patched for step in self.steps if isinstance(step, Member))

    @property
    def is_entry(self) -> bool:
        """Tell whether it is an entry of a list."""
        return isinstance(self.steps[-1], EntryAt | EntryId)

    @property
    def is_member(self) -> bool:
        """Tell whether it is a member of a document."""
        return isinstance(self.steps[-1], Member)

    @cached_property
    def is_direct(self) -> bool:
        """Tell whether MongoDB can change it while it keeps the rules of all that is around it."""
        is_ruled = self.root.owner_only or any(map(has_own_rules, self.around))
        return not is_ruled and all(map(is_exact, self.steps, self.inner))

    @property
    def inner(self) -> tuple[Field, ...]:
        """Return the field of what each step leads to."""
        return (*self.around, self.field)

    @cached_property
    def stored(self) -> str:
        """Return its dotted name in MongoDB, where it is direct."""
        return ".".join(map(stored_step, self.steps))

    @cached_property
    def guard(self) -> dict[str, Any]:
        """Return the condition under which there is something that it can be changed in."""
        names = [stored_step(step) for step in self.steps]
        last = len(names) if self.is_entry else len(names) - 1
        return {".".join(names[:end]): {"$exists": True} for end in range(1, last + 1)}

    @cached_property
    def spot(self) -> Spot:
        """Return the steps of the pointer to it in a record; an id stands for the entries that have it."""
        return tuple(map(spot_step, self.steps))


def stored_step(step: PartStep) -> str:
    """Return a step as MongoDB has it."""
    return step.field.stored if isinstance(step, Member) else str(spot_step(step))


def spot_step(step: PartStep) -> str | int:
    """Return a step as a JSON pointer has it."""
    match step:
        case Member(field):
            return field.name
        case EntryAt(number):
            return number
        case MapKey(key):
            return key
        case EntryId(id):
            return id


def has_own_rules(field: Field) -> bool:
    """Tell whether a value of a field has to be looked at as a whole after a change in it."""
    return isinstance(field.declared, me.SortedListField) or any(own_rules(field.declared))


def is_exact(step: PartStep, field: Field) -> bool:
    """Tell whether MongoDB understands a step to what `field` describes in this way alone.

    It takes a number for a place in a list, and for a name in the objects of the list as well.
    """
    if not isinstance(step, EntryAt):
        return not isinstance(step, EntryId)
    return not isinstance(field.declared, me.DictField) and not any(
        member.stored.isdigit() for member in field.members.values()
    )


# --- From text -------------------------------------------------------------------------------------------------------


def is_path(name: str) -> bool:
    """Tell whether a name leads into a field."""
    return "." in name or "[" in name


def part_at(fields: Mapping[str, Field], path: str) -> Part | None:
    """Return the part that a name or a path leads to, None where there is none that a document of `fields` can have.

    Keys and ids in it are taken as they are kept: composed.
    """
    steps: list[PartStep] = []
    found: list[Field] = []
    rest = f".{composed(path)}"
    while rest:
        read = next_step(found[-1] if found else None, fields, rest)
        if read is None:
            return None
        step, field, rest = read
        steps.append(step)
        found.append(field)
    return Part(tuple(steps), found[-1], tuple(found[:-1]))


def next_step(field: Field | None, fields: Mapping[str, Field], rest: str) -> tuple[PartStep, Field, str] | None:
    """Return the first step of the text `rest` from a field, or from a document of `fields`; and the text after it."""
    if field is not None and field.entry is not None:
        if field.is_list and (named := ID_STEP.match(rest)) and has_id(field.entry):
            return EntryId(named[1]), field.entry, rest[named.end() :]
        if not rest.startswith("."):
            return None
        if field.is_list:
            index = INDEX_STEP.match(rest, 1)
            return index and (EntryAt(int(index[0])), field.entry, rest[index.end() :])
        key, dot, after = rest[1:].partition(".")
        # `__proto__` is a trap for those who write it into an object of JavaScript.
        return (MapKey(key), field.entry, dot + after) if is_key(key) and key != "__proto__" else None
    members = fields if field is None else field.members
    name = NAME_STEP.match(rest, 1) if rest.startswith(".") else None
    if name is None or name[0] not in members:
        return None
    member = members[name[0]]
    return Member(member), member, rest[name.end() :]


def has_id(entry: Field) -> bool:
    """Tell whether the entries of a list are documents that have an id."""
    return "id" in entry.members and isinstance(entry.members["id"].declared, me.StringField)


class Taken:
    """The parts that a patch has named already: none twice, and none inside of another."""

    def __init__(self) -> None:
        self.whole: set[tuple[PartStep, ...]] = set()
        self.around: dict[tuple[PartStep, ...], type[PartStep]] = {}

    def take(self, part: Part, place: str) -> Cause | None:
        """Take a part; return why it cannot be, or None."""
        steps = part.steps
        if len(steps) == 1 and steps not in self.whole and steps not in self.around:
            # As below, in a fifth of the time: nearly all patches name whole fields.
            self.whole.add(steps)
            return None
        inside = [(steps[:end], type(steps[end])) for end in range(1, len(steps))]
        if steps in self.whole or steps in self.around or any(outer in self.whole for outer, _ in inside):
            return Cause("named_twice", "a patch may name each field once, and nothing inside of it", pointer=place)
        if any(self.around.get(outer, kind) is not kind for outer, kind in inside):
            return Cause(
                "named_twice", "the entries of a list by their places or by their ids, not both", pointer=place
            )
        self.whole.add(steps)
        self.around.update(inside)
        return None


# --- On a document in JSON form --------------------------------------------------------------------------------------


class MissingEntry(LookupError):
    """A list has no such entry."""


def changed(
    value: Any, steps: tuple[PartStep, ...], change: Callable[[Any], Any], found: list[Spot], *spot: Any
) -> Any:
    """Return `value` with what `change` makes of the part to which `steps` lead; `value` itself stays as it is.

    Where `change` gives None, the part is no more. Where the part was goes to `found`. Raises `MissingEntry`.
    """
    if not steps:
        found.append(spot)
        return change(value)
    step, rest = steps[0], steps[1:]
    if isinstance(step, EntryAt | EntryId):
        entries = list(value or ())
        for index in entries_at(entries, step):
            entry = changed(entries[index], rest, change, found, *spot, index)
            entries[index] = REMOVED if entry is None else entry
        return entries
    name = spot_step(step)
    now = None if value is None else value.get(name)
    if now is None and isinstance(step, Member):
        now = json_default(step.field)
    new = changed(now, rest, change, found, *spot, name)
    if new is None:
        return value if value is None else {key: member for key, member in value.items() if key != name}
    return {**(value or {}), name: new}


def entries_at(entries: list[Any], step: EntryAt | EntryId) -> list[int]:
    """Return the places of the entries that a step means. Raises `MissingEntry`."""
    if isinstance(step, EntryAt):
        found = [step.number] if step.number < len(entries) else []
    else:
        found = [at for at, entry in enumerate(entries) if isinstance(entry, dict) and entry.get("id") == step.id]
    if not found:
        raise MissingEntry
    return found


def stripped(value: Any) -> Any:
    """Return a value in JSON form without the entries that were removed."""
    if isinstance(value, list):
        return [stripped(entry) for entry in value if entry is not REMOVED]
    if isinstance(value, dict):
        return {name: stripped(member) for name, member in value.items()}
    return value


def put_in(values: dict[str, Any], part: Part, value: Any) -> Spot:
    """Put the `value` of a part, in BSON form, where `values` would have it; return the pointer to it.

    Each entry of a list that is named becomes one of its own, at the end.
    """
    if len(part.steps) == 1:
        # As below, but quick.
        values.setdefault(part.stored, value)
        return part.spot
    spot: list[str | int] = []
    holder: Any = values
    for step, empty in zip(part.steps, (*map(empty_for, part.steps[1:]), value), strict=True):
        if isinstance(step, EntryAt | EntryId):
            spot.append(len(holder))
            holder.append(empty)
            holder = empty
        else:
            spot.append(spot_step(step))
            holder = holder.setdefault(stored_step(step), empty)
    return tuple(spot)


def empty_for(step: PartStep) -> Any:
    """Return what has nothing in it yet, for a step into it."""
    return [] if isinstance(step, EntryAt | EntryId) else {}
