"""Updates: what a merge patch and each update operator make of a value in JSON form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from service.model.fields import LIST_UPDATES, NUMBER_UPDATES

PUSH_OPTIONS = ("position", "slice")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What `$push` brings: the values, where they go, and how much of the list is kept, from its end if negative."""

    each: list[Any]
    position: int | None = None
    slice: int | None = None


def merged(target: Any, patch: Any) -> Any:
    """Return `target` after a JSON merge patch (RFC 7396, section 2)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def pushed(current: list[Any] | None, operand: Pushed) -> list[Any]:
    """Return a list after `$push`."""
    current = current or []
    at = len(current) if operand.position is None else operand.position
    whole = [*current[:at], *operand.each, *current[at:]]
    if operand.slice is None:
        return whole
    return whole[: operand.slice] if operand.slice >= 0 else whole[operand.slice :]


def without(current: list[Any] | None, operand: list[Any]) -> list[Any] | None:
    """Return a list without the entries of another; where there is no list, `$pull` makes none."""
    if current is None:
        return None
    gone = set(map(frozen, operand))
    return [entry for entry in current if frozen(entry) not in gone]


def united(current: list[Any] | None, operand: list[Any]) -> list[Any]:
    """Return a list with those entries of another that it lacks."""
    result = list(current or [])
    known = set(map(frozen, result))
    for entry in operand:
        if (key := frozen(entry)) not in known:
            known.add(key)
            result.append(entry)
    return result


def frozen(value: Any) -> Any:
    """Return a value in JSON form so that it can be in a set: to look through lists costs a minute for a long one."""
    if isinstance(value, dict):
        return frozenset((name, frozen(member)) for name, member in value.items())
    if isinstance(value, list):
        return tuple(map(frozen, value))
    # To Python, but not to MongoDB, 1 is true.
    return (bool, value) if isinstance(value, bool) else value


def comparable(current: Any, operand: Any) -> Any:
    """Return a current value as a number where the operand is one: JSON may have it as a string."""
    return int(current) if isinstance(current, str) and not isinstance(operand, str) else current


def added(current: Any, operand: float) -> float:
    """Return a number after `$inc`."""
    return (comparable(current, operand) or 0) + operand


def lowered(current: Any, operand: Any) -> Any:
    """Return a value after `$min`."""
    return operand if current is None else min(comparable(current, operand), operand)


def raised(current: Any, operand: Any) -> Any:
    """Return a value after `$max`."""
    return operand if current is None else max(comparable(current, operand), operand)


APPLY: Mapping[str, Callable[..., Any]] = {
    "$inc": added,
    "$min": lowered,
    "$max": raised,
    "$push": pushed,
    "$add_to_set": united,
    "$pull": without,
}
"""What each operator makes of the `current` value of a field, None where there is none, in JSON form."""
assert set(APPLY) == LIST_UPDATES | NUMBER_UPDATES  # noqa: S101  the table of fields and this one name the same operators
