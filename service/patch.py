"""From the body of a PATCH to one conditional update: merge patch (RFC 7396) and update operators."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mongoengine import fields as me
from mongoengine.base import BaseField
from pydantic import ValidationError

from service import schema
from service.errors import Cause, ValidationFailed, pointer
from service.fields import LIST_UPDATES, NUMBER_UPDATES, meaning
from service.schema import Document

MONGO_NAMES = {"$add_to_set": "$addToSet", "$pull": "$pullAll"}


@dataclass(slots=True)
class Patch:
    """A checked patch.

    Where `direct`, MongoDB's `update` under the condition `guard` is the whole patch, and keeps every rule of the
    fields. Where it is not, or where the guard does not hold, `apply` gives the result from the current record.
    `named` are the fields that it touches, and `values` the values that it brings, in BSON form.
    """

    document: Document
    merge: dict[str, Any]
    operators: dict[str, dict[str, list[Any] | Any]]
    direct: bool = True
    update: dict[str, dict[str, Any]] = field(default_factory=dict)
    guard: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def named(self) -> set[str]:
        """Return the names of the fields that the patch touches."""
        return {*self.merge, *(name for operands in self.operators.values() for name in operands)}

    def apply(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content, in BSON form, that `current` has after this patch.

        Raises `ValidationFailed` when the result would break a rule.
        """
        before = schema.dump(self.document, current)
        after = merged({name: before[name] for name in writable(self.document)}, self.merge)
        for operator, operands in self.operators.items():
            for name, operand in operands.items():
                after[name] = APPLY[operator](after.get(name), operand)
        return schema.load(self.document, {name: value for name, value in after.items() if value is not None})


def parse(document: Document, body: Any) -> Patch:
    """Return the patch that a decoded `body` asks for.

    Raises `MalformedJson` when it is no object, `ValidationFailed` with every cause at once.
    """
    body = schema.as_object(body)
    merge = {name: value for name, value in body.items() if not name.startswith("$")}
    found: list[Cause] = []
    changes = collected(found, lambda: schema.checked(schema.partial(document), merge)) or {}
    operators = {name: operands for name, operands in body.items() if name.startswith("$")}
    checked = dict(checked_operators(document, operators, set(merge), found))
    if found:
        raise ValidationFailed(found)
    patch = Patch(document, merge, checked)
    if schema.has_rules(document):
        patch.direct = False
    fields = schema.public_fields(document)
    for name, value in changes.items():
        add_value(patch, fields[name], merge[name], value)
    for operator, operands in checked.items():
        for name, operand in operands.items():
            add_operator(patch, operator, fields[name], operand)
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
    document: Document, operators: Mapping[str, Any], taken: set[str], found: list[Cause]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each operator with its checked operands in JSON form by field; what is wrong is added to `found`."""
    fields = schema.public_fields(document)
    for operator, operands in operators.items():
        if operator not in APPLY:
            found.append(Cause("unknown_operator", "one of " + ", ".join(APPLY), pointer=pointer(operator)))
        elif not isinstance(operands, dict):
            found.append(Cause("wrong_type", "an object of fields and values", pointer=pointer(operator)))
        else:
            good = {}
            for name, operand in operands.items():
                place = (operator, name)
                if (cause := misplaced(document, taken, *place)) is not None:
                    found.append(cause)
                    continue
                taken.add(name)
                good[name] = collected(found, lambda: checked_operand(fields[name], operand, *place))  # noqa: B023
            yield operator, good


def misplaced(document: Document, taken: set[str], operator: str, name: str) -> Cause | None:
    """Return why `operator` cannot be used on the field `name`, or None."""
    fields = schema.public_fields(document)
    place = pointer(operator, name)
    if name not in fields:
        return Cause("unknown_field", "there is no such field", pointer=place)
    if name not in writable(document):
        return Cause("read_only", "a field that a client cannot set here", pointer=place)
    if name in taken:
        return Cause("named_twice", "a patch may name each field once", pointer=place)
    if operator not in meaning(fields[name]).update:
        able = [other for other in writable(document) if operator in meaning(fields[other]).update]
        return Cause(
            "not_allowed", f"`{operator}` works on: {', '.join(able) or 'no field of this type'}", pointer=place
        )
    return None


def checked_operand(field: BaseField, operand: Any, operator: str, name: str) -> Any:
    """Return the operand in its one JSON form: a value, or for a list operator the list of values."""
    if operator not in LIST_UPDATES:
        stored = schema.checked(schema.value_of(field, False), operand, operator, name)
        return shaped(field, stored)
    each = isinstance(operand, dict) and set(operand) == {"each"}
    if each and not isinstance(operand["each"], list):
        raise ValidationFailed([Cause("wrong_type", "a list", pointer=pointer(operator, name, "each"))])
    entry = schema.value_of(field.field)
    if not each:
        return [shaped(field.field, schema.checked(entry, operand, operator, name))]
    found: list[Cause] = []
    stored = [
        collected(found, lambda: schema.checked(entry, value, operator, name, "each", index))  # noqa: B023
        for index, value in enumerate(operand["each"])
    ]
    if found:
        raise ValidationFailed(found)
    return [shaped(field.field, value) for value in stored]


def shaped(field: BaseField, stored: Any) -> Any:
    """Return a stored value of `field` in JSON form."""
    shape = schema.shape_of(field)
    return stored if shape is None else shape(stored)


# --- The direct way --------------------------------------------------------------------------------------------------


def add_value(patch: Patch, field: BaseField, sent: Any, value: Any) -> None:
    """Add one field of a merge patch; `sent` is what the client wrote, `value` its BSON form."""
    if getattr(field, "owner_only", False) or (isinstance(sent, dict) and not is_geometry(field)):
        # Sharing is derived from two fields, and an object is merged with what is there: both need the current record.
        patch.direct = False
    if value is None:
        value = schema.default_of(field)
    if value is None:
        patch.update.setdefault("$unset", {})[field.db_field] = ""
    else:
        patch.update.setdefault("$set", {})[field.db_field] = patch.values[field.name] = value


def is_geometry(field: BaseField) -> bool:
    """Tell whether an object of `field` is always whole, so that merging it is replacing it."""
    return isinstance(field, me.PointField | me.LineStringField | me.PolygonField)


def add_operator(patch: Patch, operator: str, field: BaseField, operand: Any) -> None:
    """Add one field of an update operator, with the guard under which its result keeps the rules of the field."""
    name = field.db_field
    if operator in LIST_UPDATES:
        add_list_operator(patch, operator, field, operand)
    elif operator == "$inc":
        low, high = limits(field)
        patch.guard[name] = {"$gte": low - operand, "$lte": high - operand}
        patch.update.setdefault("$inc", {})[name] = operand
    else:
        try:
            stored = schema.value_of(field).validate_python(operand)
        except ValidationError:
            patch.direct = False
            return
        if field.default is not None:
            patch.guard[name] = {"$exists": True}
        patch.update.setdefault(operator, {})[name] = stored


def add_list_operator(patch: Patch, operator: str, field: BaseField, operand: list[Any]) -> None:
    """Add one list field of `$push`, `$add_to_set` or `$pull`."""
    name = field.db_field
    stored = [schema.value_of(field.field).validate_python(value) for value in operand]
    if operator != "$pull":
        patch.values[field.name] = stored
    elif field.required:
        patch.direct = False
    if isinstance(field, me.SortedListField) or getattr(field, "owner_only", False) or field.validation is not None:
        patch.direct = False
    if operator != "$pull" and field.max_length is not None:
        room = field.max_length - len(stored)
        patch.direct = patch.direct and room >= 0
        # A list has room for n more when it has no entry at index max - n.
        patch.guard[f"{name}.{room}"] = {"$exists": False}
    change = stored if operator == "$pull" else {"$each": stored}
    patch.update.setdefault(MONGO_NAMES.get(operator, operator), {})[name] = change


def limits(field: BaseField) -> tuple[float, float]:
    """Return the lowest and the highest value of a number field."""
    low, high = meaning(field).limits(field)
    return low.ge, high.le


# --- On the current record -------------------------------------------------------------------------------------------


def writable(document: Document) -> list[str]:
    """Return the names of the fields that a patch may touch."""
    return [
        name
        for name, field in schema.public_fields(document).items()
        if not getattr(field, "read_only", False) and not schema.is_fixed(field)
    ]


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
    return [entry for entry in current or [] if entry not in operand]


def united(current: list[Any] | None, operand: list[Any]) -> list[Any]:
    """Return a list with those entries of another that it lacks."""
    result = list(current or [])
    for entry in operand:
        if entry not in result:
            result.append(entry)
    return result


APPLY: Mapping[str, Callable[[Any, Any], Any]] = {
    "$inc": lambda current, operand: (current or 0) + operand,
    "$min": lambda current, operand: operand if current is None else min(current, operand),
    "$max": lambda current, operand: operand if current is None else max(current, operand),
    "$push": lambda current, operand: [*(current or []), *operand],
    "$add_to_set": united,
    "$pull": without,
}
assert set(APPLY) == LIST_UPDATES | NUMBER_UPDATES  # noqa: S101  the table of fields and this one name the same operators
