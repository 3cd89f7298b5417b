"""From the body of a PATCH to one conditional update: merge patch (RFC 7396) and update operators."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mongoengine import fields as me
from pydantic import ValidationError

from service.core.errors import MOST_CAUSES, Cause, ValidationFailed, pointer
from service.core.json_text import as_object
from service.model.field import Field
from service.model.fields import LIST_UPDATES, NUMBER_UPDATES, own_rules
from service.model.schema import Schema
from service.model.validation import validate

MONGO_NAMES = {"$add_to_set": "$addToSet", "$pull": "$pullAll"}


@dataclass(slots=True)
class Patch:
    """A checked patch.

    Where `direct`, MongoDB's `update` under the condition `guard` is the whole patch, and keeps every rule of the
    fields. Where it is not, or where the guard does not hold, `apply` gives the result from the current record.
    `named` are the fields that it touches, and `values` the values that it brings, in BSON form by stored name. For the
    fields that are `single` a list operator brings one, without `each`.
    """

    schema: Schema
    merge: dict[str, Any]
    operators: dict[str, dict[str, list[Any] | Any]]
    direct: bool = True
    update: dict[str, dict[str, Any]] = field(default_factory=dict)
    guard: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    single: frozenset[str] = frozenset()

    @property
    def named(self) -> set[str]:
        """Return the names of the fields that the patch touches."""
        return {*self.merge, *(name for operands in self.operators.values() for name in operands)}

    def apply(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content, in BSON form, that `current` has after this patch.

        Raises `ValidationFailed` when the result would break a rule.
        """
        before = self.schema.dump(current)
        kept = [field for field in self.schema.fields.values() if field.is_given_by_clients]
        after = merged({field.name: before[field.name] for field in kept}, self.merge)
        for operator, operands in self.operators.items():
            for name, operand in operands.items():
                after[name] = APPLY[operator](after.get(name), operand)
        try:
            content = self.schema.load({name: value for name, value in after.items() if value is not None})
        except ValidationFailed as error:
            raise ValidationFailed(self.placed(cause) for cause in error.causes) from None
        # What the patch does not name stays as it is stored, with all that a newer server has put inside.
        stored = (field.stored for field in kept if field.name not in self.named)
        return {**content, **{name: current[name] for name in stored if name in current}}

    def brought(self, cause: Cause) -> Cause:
        """Return a cause about one of `values` with its place in the body of the patch."""
        root, slash, rest = (cause.pointer or "").removeprefix("/").partition("/")
        for operator, operands in self.operators.items():
            for name in operands:
                if root == pointer(name).removeprefix("/"):
                    inner = rest.partition("/")[1:] if name in self.single else ("/each", slash, rest)
                    return replace(cause, pointer=pointer(operator, name) + "".join(inner))
        return cause

    def placed(self, cause: Cause) -> Cause:
        """Return a cause about the result with its place in the body of the patch."""
        for operator, operands in self.operators.items():
            for name in operands:
                if cause.pointer == pointer(name) or (cause.pointer or "").startswith(pointer(name) + "/"):
                    return replace(cause, pointer=pointer(operator, name))
        return cause

    def of_named(self, causes: Sequence[Cause]) -> list[Cause]:
        """Return those of the causes that are about what the patch names, each with its place in the body.

        All of them where it names none.
        """
        named = {pointer(name) for name in self.named}
        about = [cause for cause in causes if "/" + (cause.pointer or "").split("/")[1] in named]
        return [self.placed(cause) for cause in about or causes]


def parse(schema: Schema, body: Any) -> Patch:
    """Return the patch that a decoded `body` asks for.

    Raises `MalformedJson` when it is no object, `ValidationFailed` with every cause at once.
    """
    body = as_object(body)
    merge = {name: value for name, value in body.items() if not name.startswith("$")}
    found: list[Cause] = []
    whole = {name: value for name, value in merge.items() if not is_merged(schema, name, value)}
    changes = collected(found, lambda: validate(schema.patch_body, whole)) or {}
    operators = {name: operands for name, operands in body.items() if name.startswith("$")}
    checked = dict(checked_operators(schema, operators, set(merge), found)) if operators else {}
    if found:
        raise ValidationFailed(found)
    single = frozenset(name for operands in operators.values() for name in operands if not is_each(operands[name]))
    patch = Patch(schema, merge, checked, direct=len(whole) == len(merge) and not schema.has_rules, single=single)
    for name, value in changes.items():
        add_value(patch, schema.fields[name], value)
    for operator, operands in checked.items():
        for name, operand in operands.items():
            add_operator(patch, operator, schema.fields[name], operand)
    return patch


def collected(found: list[Cause], check: Callable[[], Any]) -> Any:
    """Return what `check` returns, or None after its causes were added to `found`."""
    try:
        return check()
    except ValidationFailed as error:
        found.extend(error.causes)
        return None


# --- Checking --------------------------------------------------------------------------------------------------------


def checked_operators(
    schema: Schema, operators: Mapping[str, Any], taken: set[str], found: list[Cause]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each operator with its checked operands in JSON form by field; what is wrong is added to `found`."""
    for operator, operands in operators.items():
        if operator not in APPLY:
            found.append(Cause("unknown_operator", "one of " + ", ".join(APPLY), pointer=pointer(operator)))
        elif not isinstance(operands, dict):
            found.append(Cause("wrong_type", "an object of fields and values", pointer=pointer(operator)))
        else:
            good = {}
            for name, operand in operands.items():
                place = (operator, name)
                if (cause := misplaced(schema, taken, *place)) is not None:
                    found.append(cause)
                    continue
                taken.add(name)
                field = schema.fields[name]
                good[name] = collected(found, lambda: checked_operand(schema, field, operand, *place))  # noqa: B023
            yield operator, good


def misplaced(schema: Schema, taken: set[str], operator: str, name: str) -> Cause | None:
    """Return why `operator` cannot be used on the field `name`, or None."""
    place = pointer(operator, name)
    if name not in schema.fields:
        return Cause("unknown_field", "there is no such field", pointer=place)
    field = schema.fields[name]
    if not field.is_patched:
        return Cause("read_only", "a field that a client cannot set here", pointer=place)
    if name in taken:
        return Cause("named_twice", "a patch may name each field once", pointer=place)
    if operator not in field.meaning.update:
        able = [other.name for other in schema.fields.values() if other.is_patched and operator in other.meaning.update]
        return Cause(
            "not_allowed", f"`{operator}` works on: {', '.join(able) or 'no field of this type'}", pointer=place
        )
    return None


def checked_operand(schema: Schema, field: Field, operand: Any, operator: str, name: str) -> Any:
    """Return the operand in its one JSON form: a value, or for a list operator the list of values."""
    if operator not in LIST_UPDATES or field.entry is None:
        return schema.shaped(field, validate(schema.typed(field), operand, operator, name))
    each = is_each(operand)
    if each and not isinstance(operand["each"], list):
        raise ValidationFailed([Cause("wrong_type", "a list", pointer=pointer(operator, name, "each"))])
    entry = schema.value(field.entry)
    if not each:
        return [schema.shaped(field.entry, validate(entry, operand, operator, name))]
    found: list[Cause] = []
    stored = []
    for index, value in enumerate(operand["each"]):
        stored.append(collected(found, lambda: validate(entry, value, operator, name, "each", index)))  # noqa: B023
        if len(found) >= MOST_CAUSES:
            break
    if found:
        raise ValidationFailed(found)
    return [schema.shaped(field.entry, value) for value in stored]


def is_each(operand: Any) -> bool:
    """Tell whether the operand of a list operator brings several values."""
    return isinstance(operand, dict) and set(operand) == {"each"}


# --- The direct way --------------------------------------------------------------------------------------------------


def add_value(patch: Patch, field: Field, value: Any) -> None:
    """Add one field of a merge patch, with its `value` in BSON form."""
    if field.owner_only:
        # Who may read is derived from two fields together, so the current record is needed.
        patch.direct = False
    if value is None:
        value = field.default()
    if value is None:
        patch.update.setdefault("$unset", {})[field.stored] = ""
    else:
        patch.update.setdefault("$set", {})[field.stored] = patch.values[field.stored] = value


def is_merged(schema: Schema, name: str, value: Any) -> bool:
    """Tell whether a value of a merge patch is an object that is merged with what is there, and checked after that."""
    return isinstance(value, dict) and name in schema.fields and schema.fields[name].is_object


def add_operator(patch: Patch, operator: str, field: Field, operand: Any) -> None:
    """Add one field of an update operator, with the guard under which its result keeps the rules of the field."""
    name = field.stored
    if operator != "$min" and operator != "$max" and any(own_rules(field.declared)):
        # A rule of the document's author can only be asked about the result.
        patch.direct = False
    if operator in LIST_UPDATES:
        add_list_operator(patch, operator, field, operand)
    elif operator == "$inc":
        patch.guard[name] = room_for(field, operand)
        patch.update.setdefault("$inc", {})[name] = operand
    else:
        try:
            stored = patch.schema.value(field).validate_python(operand)
        except ValidationError:
            patch.direct = False
            return
        if field.declared.default is not None:
            patch.guard[name] = {"$exists": True}
        patch.update.setdefault(operator, {})[name] = stored


def add_list_operator(patch: Patch, operator: str, field: Field, operand: list[Any]) -> None:
    """Add one list field of `$push`, `$add_to_set` or `$pull`."""
    name = field.stored
    assert field.entry is not None  # noqa: S101  these operators are for lists
    stored = [patch.schema.value(field.entry).validate_python(value) for value in operand]
    if operator != "$pull":
        patch.values[name] = stored
    elif field.is_required:
        patch.direct = False
    if isinstance(field.declared, me.SortedListField) or field.owner_only:
        patch.direct = False
    if field.default():
        patch.guard[name] = {"$exists": True}
    if operator != "$pull" and (most := getattr(field.declared, "max_length", None)) is not None:
        room = most - len(stored)
        patch.direct = patch.direct and room >= 0
        # A list has room for n more when it has no entry at index max - n.
        patch.guard[f"{name}.{room}"] = {"$exists": False}
    change = stored if operator == "$pull" else {"$each": stored}
    patch.update.setdefault(MONGO_NAMES.get(operator, operator), {})[name] = change


def room_for(field: Field, operand: float) -> dict[str, float]:
    """Return the condition under which a number field stays within its limits when `operand` is added.

    It may refuse a float at the very edge, for sums are rounded: then the result is computed and looked at.
    """
    lowest, highest = (rule for rule in field.meaning.limits(field.declared))
    low, high = lowest.ge - operand, highest.le - operand
    if isinstance(field.declared, me.FloatField):
        edge = 4 * max(math.ulp(low), math.ulp(high), math.ulp(operand))
        return {"$gte": low + edge, "$lte": high - edge}
    return {"$gte": min(max(low, -(2**63)), 2**63 - 1), "$lte": max(min(high, 2**63 - 1), -(2**63))}


# --- On the current record -------------------------------------------------------------------------------------------


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


def without(current: list[Any] | None, operand: list[Any]) -> list[Any]:
    """Return a list without the entries of another."""
    gone = set(map(frozen, operand))
    return [entry for entry in current or [] if frozen(entry) not in gone]


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
    return tuple(map(frozen, value)) if isinstance(value, list) else value


APPLY: Mapping[str, Callable[[Any, Any], Any]] = {
    "$inc": lambda current, operand: (current or 0) + operand,
    "$min": lambda current, operand: operand if current is None else min(current, operand),
    "$max": lambda current, operand: operand if current is None else max(current, operand),
    "$push": lambda current, operand: [*(current or []), *operand],
    "$add_to_set": united,
    "$pull": without,
}
assert set(APPLY) == LIST_UPDATES | NUMBER_UPDATES  # noqa: S101  the table of fields and this one name the same operators
