"""Operands: what the update operators of a patch are given, checked and in one form."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from service.core.errors import MOST_CAUSES, Cause, ValidationFailed, pointer
from service.core.json_text import MAX_MEMBERS
from service.model.field import Field
from service.model.schema import Schema
from service.model.updates import PUSH_OPTIONS, Pushed
from service.model.validation import validate
from service.model.values import integral


def check_count(body: Mapping[str, Any]) -> None:
    """Raise `ValidationFailed` where a patch has too many names, with those in its operators."""
    inner = (operands for name, operands in body.items() if name.startswith("$"))
    if len(body) + sum(len(operands) for operands in inner if isinstance(operands, list | dict)) > MAX_MEMBERS:
        raise ValidationFailed([Cause("too_long", f"at most {MAX_MEMBERS} names", pointer="")])


def collected(found: list[Cause], check: Callable[[], Any]) -> Any:
    """Return what `check` returns, or None after its causes were added to `found`."""
    try:
        return check()
    except ValidationFailed as error:
        found.extend(error.causes)
        return None


def checked_operand(schema: Schema, field: Field, operand: Any, operator: str, name: str) -> Any:
    """Return the operand in one form: a number, another value in JSON, or for a list operator the values."""
    if field.entry is None:
        checked = validate(schema.typed(field), operand, operator, name)
        return checked if "$inc" in field.meaning.update else schema.shaped(field, checked)
    each = checked_each(schema, field.entry, operand, operator, name)
    if operator != "$push":
        return each
    at = {option: number_in(operand, option, operator, name) for option in PUSH_OPTIONS if is_each(operand)}
    return Pushed(each, **at)


def checked_each(schema: Schema, entry: Field, operand: Any, *place: str) -> list[Any]:
    """Return the values that the operand of a list operator brings, in JSON form."""
    validator = schema.value(entry)
    if not is_each(operand):
        return [schema.shaped(entry, validate(validator, operand, *place))]
    unknown = operand.keys() - {"each", *(PUSH_OPTIONS if place[0] == "$push" else ())}
    if unknown:
        raise ValidationFailed(
            Cause("unknown_field", "there is no such option", pointer=pointer(*place, name)) for name in sorted(unknown)
        )
    if not isinstance(operand["each"], list):
        raise ValidationFailed([Cause("wrong_type", "a list", pointer=pointer(*place, "each"))])
    found: list[Cause] = []
    stored = []
    for index, value in enumerate(operand["each"]):
        stored.append(collected(found, partial(validate, validator, value, *place, "each", index)))
        if len(found) >= MOST_CAUSES:
            break
    if found:
        raise ValidationFailed(found)
    return [schema.shaped(entry, value) for value in stored]


def number_in(operand: Mapping[str, Any], option: str, *place: str) -> int | None:
    """Return the whole number that an option of `$push` is, None where it is left out."""
    if option not in operand:
        return None
    number = integral(operand[option])
    if isinstance(number, bool) or not isinstance(number, int) or not -(2**31) <= number < 2**31:
        raise ValidationFailed([Cause("wrong_type", "a whole number", pointer=pointer(*place, option))])
    return number


def is_each(operand: Any) -> bool:
    """Tell whether the operand of a list operator brings several values."""
    return isinstance(operand, dict) and "each" in operand and operand.keys() <= {"each", *PUSH_OPTIONS}
