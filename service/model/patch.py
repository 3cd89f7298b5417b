"""From the body of a PATCH to one conditional update: merge patch (RFC 7396) and update operators."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from mongoengine import fields as me
from pydantic import ValidationError

from service.core.errors import Cause, ValidationFailed, pointer
from service.core.json_text import as_object
from service.model.field import Field
from service.model.fields import LIST_UPDATES, own_rules
from service.model.operands import check_count, checked_operand, collected, is_each
from service.model.parts import (
    MissingEntry,
    Part,
    Spot,
    Taken,
    changed,
    is_path,
    put_in,
    stripped,
)
from service.model.schema import Schema
from service.model.updates import APPLY, PUSH_OPTIONS, Pushed, merged
from service.model.validation import validate
from service.model.values import ONE_KEY, composed

MONGO_NAMES = {"$add_to_set": "$addToSet", "$pull": "$pullAll"}
MOST_PARTS = 100
"""Most dotted paths in one patch."""


@dataclass(slots=True)
class Patch:
    """A checked patch.

    Where `direct`, MongoDB's `update` under the condition `guard` is the whole patch, and keeps every rule of the
    fields. Where it is not, or where the guard does not hold, `apply` gives the result from the current record.
    `parts` are what it names, with their `places` in the body, and `values` what it brings, in BSON form as a record
    would have it: `sources` has where each of these stands. For the names that are `single` a list operator brings one,
    without `each`. `located` is where the parts were found in the record to which it was applied last.
    """

    schema: Schema
    merge: dict[str, Any]
    operators: dict[str, dict[str, Any]]
    parts: dict[str, Part]
    places: dict[str, str]
    direct: bool
    single: frozenset[str]
    update: dict[str, dict[str, Any]] = field(default_factory=dict)
    guard: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    sources: list[tuple[Spot, str]] = field(default_factory=list)
    located: dict[str, list[Spot]] = field(default_factory=dict)

    @property
    def named(self) -> set[str]:
        """Return the names of the fields that the patch touches."""
        return {part.root.name for part in self.parts.values()}

    @property
    def lists(self) -> set[str]:
        """Return the names with which an operator is used."""
        return {name for operands in self.operators.values() for name in operands}

    def apply(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content, in BSON form, that `current` has after this patch.

        Raises `ValidationFailed` when the result would break a rule.
        """
        before = self.schema.dump(current)
        kept = [field for field in self.schema.fields.values() if field.is_given_by_clients]
        after = {field.name: before[field.name] for field in kept}
        for name, change in self.changes():
            after = self.changed(after, name, change)
        named = self.named
        # A list of which an entry was named, which may be gone.
        holed = {part.root.name for part in self.parts.values() if part.is_entry}
        left = {name: stripped(value) if name in holed else value for name, value in after.items()}
        given = {name: value for name, value in left.items() if value is not None}
        try:
            content = self.schema.load(given)
        except ValidationFailed as error:
            raise ValidationFailed(self.placed(cause) for cause in error.causes) from None
        # What the patch does not name stays as it is stored, with all that a newer server has put inside.
        stored = (field.stored for field in kept if field.name not in named)
        return {**content, **{name: current[name] for name in stored if name in current}}

    def changes(self) -> Iterator[tuple[str, Callable[[Any], Any]]]:
        """Yield each name with what it does to what is there."""
        for name, value in self.merge.items():
            yield name, partial(merged, patch=value)
        for operator, operands in self.operators.items():
            for name, operand in operands.items():
                yield name, partial(APPLY[operator], operand=operand)

    def changed(self, content: dict[str, Any], name: str, change: Callable[[Any], Any]) -> dict[str, Any]:
        """Return content in JSON form with one part changed; raises `ValidationFailed` where it is not there."""
        self.located[name] = []
        try:
            found: dict[str, Any] = changed(content, self.parts[name].steps, change, self.located[name])
        except MissingEntry:
            raise ValidationFailed([Cause("not_found", "an entry of the list", pointer=self.places[name])]) from None
        return found

    def bring(self, name: str, value: Any) -> None:
        """Add a value that the patch brings."""
        self.sources.append((put_in(self.values, self.parts[name], value), name))

    def brought(self, cause: Cause) -> Cause:
        """Return a cause about one of `values` with its place in the body of the patch."""
        for spot, name in self.sources:
            if (rest := below(cause.pointer, pointer(*spot))) is not None:
                if name in self.lists:
                    rest = rest.removeprefix("/0") if name in self.single else "/each" + rest
                return replace(cause, pointer=self.places[name] + rest)
        around = [name for spot, name in self.sources if cause.pointer and below(pointer(*spot), cause.pointer)]
        return replace(cause, pointer=self.places[around[0]]) if around else cause

    def placed(self, cause: Cause) -> Cause:
        """Return a cause about the result with its place in the body of the patch."""
        spots = [(pointer(*spot), name) for name in self.parts for spot in self.spots(name)]
        for spot, name in spots:
            if (rest := below(cause.pointer, spot)) is not None:
                return replace(cause, pointer=self.places[name] + ("" if name in self.lists else rest))
        for spot, name in spots:
            if cause.pointer and below(spot, cause.pointer):
                return replace(cause, pointer=self.places[name])
        return self.missing(cause)

    def missing(self, cause: Cause) -> Cause:
        """Return a cause about what lacks beside a part that is named by a path, named by a path as well."""
        around, _, last = (cause.pointer or "").rpartition("/")
        for name, part in self.parts.items():
            if part.around and any(pointer(*spot[:-1]) == around for spot in self.spots(name)):
                return replace(cause, pointer=pointer(f"{name.rpartition('.')[0]}.{last}"))
        return cause

    def spots(self, name: str) -> list[Spot]:
        """Return where a part is in a record: where it was found last, or where its own steps say."""
        return self.located.get(name) or [self.parts[name].spot]

    def of_named(self, causes: Sequence[Cause]) -> list[Cause]:
        """Return those of the causes that are about what the patch names, each with its place in the body.

        All of them where it names none.
        """
        named = [pointer(name) for name in self.named]
        about = [cause for cause in causes if any(below(cause.pointer, spot) is not None for spot in named)]
        return [self.placed(cause) for cause in about or causes]


def below(place: str | None, spot: str) -> str | None:
    """Return what leads on from `spot` to `place`, both JSON pointers; None where it does not lie there."""
    if place is None or not f"{place}/".startswith(f"{spot}/"):
        return None
    return place[len(spot) :]


def parse(schema: Schema, body: Any) -> Patch:
    """Return the patch that a decoded `body` asks for.

    Raises `MalformedJson` when it is no object, `ValidationFailed` with every cause at once.
    """
    found: list[Cause] = []
    check_count(as_object(body))
    merge, operators, places = divided(body, found)
    if sum(map(is_path, (*merge, *(name for operands in operators.values() for name in operands)))) > MOST_PARTS:
        raise ValidationFailed([Cause("too_long", f"at most {MOST_PARTS} paths", pointer="")])
    taken = Taken()
    parts = checked_parts(schema, merge, places, taken, found)
    whole = {name: value for name, value in merge.items() if name not in parts or not is_merged(parts[name], value)}
    for name in merge.keys() - whole.keys():
        merge[name] = collected(found, partial(with_composed_keys, parts[name].field, merge[name], name))
    changes = checked_changes(schema, whole, parts, places, found)
    checked = dict(checked_operators(schema, operators, parts, taken, found))
    if found:
        raise ValidationFailed(found)
    single = frozenset(name for operands in operators.values() for name in operands if not is_each(operands[name]))
    places |= {name: pointer(operator, name) for operator, operands in operators.items() for name in operands}
    direct = len(whole) == len(merge) and not schema.has_rules and all(part.is_direct for part in parts.values())
    patch = Patch(schema, merge, checked, parts, places, direct=direct, single=single)
    for part in parts.values():
        patch.guard |= part.guard
    for name, value in changes.items():
        add_value(patch, name, value)
    for operator, operands in checked.items():
        for name, operand in operands.items():
            add_operator(patch, operator, name, operand)
    return patch


# --- Checking --------------------------------------------------------------------------------------------------------


def divided(
    body: Mapping[str, Any], found: list[Cause]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, str]]:
    """Return the merge patch of a body, its operators, and the places of what is merged; `$unset` merges null."""
    merge = {name: value for name, value in body.items() if not name.startswith("$")}
    places = {name: pointer(name) for name in merge}
    names = body.get("$unset", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        found.append(Cause("wrong_type", "a list of names", pointer="/$unset"))
        names = []
    for index, name in enumerate(names):
        place = pointer("$unset", index)
        if name in merge:
            found.append(Cause("named_twice", "a patch may name each field once", pointer=place))
        else:
            merge[name], places[name] = None, place
    operators = {}
    for operator, operands in body.items():
        if not operator.startswith("$") or operator == "$unset":
            continue
        if operator not in APPLY:
            found.append(
                Cause("unknown_operator", "one of " + ", ".join([*APPLY, "$unset"]), pointer=pointer(operator))
            )
        elif not isinstance(operands, dict):
            found.append(Cause("wrong_type", "an object of fields and values", pointer=pointer(operator)))
        else:
            operators[operator] = operands
    return merge, operators, places


def checked_parts(
    schema: Schema, merge: Mapping[str, Any], places: Mapping[str, str], taken: Taken, found: list[Cause]
) -> dict[str, Part]:
    """Return the parts that a merge patch names; what is wrong is added to `found`."""
    parts = {}
    for name in merge:
        part = schema.part(name)
        if part is None:
            found.append(Cause("unknown_field", "there is no such field", pointer=places[name]))
        elif not part.is_patched:
            found.append(Cause("read_only", "a field that a client cannot set here", pointer=places[name]))
        elif (cause := taken.take(part, places[name])) is not None:
            found.append(cause)
        else:
            parts[name] = part
    return parts


def checked_changes(
    schema: Schema, whole: Mapping[str, Any], parts: Mapping[str, Part], places: Mapping[str, str], found: list[Cause]
) -> dict[str, Any]:
    """Return the values of a merge patch in BSON form, None for what is cleared; causes are added to `found`."""
    known = {name: value for name, value in whole.items() if name in parts}
    fields = {name: value for name, value in known.items() if name in schema.fields}
    changes: dict[str, Any] = {}
    try:
        changes = validate(schema.patch_body, fields)
    except ValidationFailed as error:
        spots: dict[str | None, str] = {pointer(name): place for name, place in places.items()}
        found += [unset_cause(cause, spots.get(cause.pointer, "")) for cause in error.causes]
    for name in (name for name in known if name not in fields):
        part, value = parts[name], known[name]
        if value is not None or (part.is_member and part.field.is_named_at_creation):
            try:
                changes[name] = validate(schema.value(part.field), value, name)
            except ValidationFailed as error:
                found += [unset_cause(cause, places[name]) for cause in error.causes]
        else:
            changes[name] = None
    return changes


def unset_cause(cause: Cause, place: str) -> Cause:
    """Return a cause about a merge patch, as that of a field that cannot be cleared where its place is in `$unset`."""
    return Cause("required", "this field is required", pointer=place) if place.startswith("/$unset/") else cause


def checked_operators(
    schema: Schema, operators: Mapping[str, dict[str, Any]], parts: dict[str, Part], taken: Taken, found: list[Cause]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each operator with its checked operands in JSON form by name, and add these names to `parts`.

    What is wrong is added to `found`.
    """
    for operator, operands in operators.items():
        good = {}
        for name, operand in operands.items():
            part = schema.part(name)
            if part is None:
                found.append(Cause("unknown_field", "there is no such field", pointer=pointer(operator, name)))
            elif (cause := misplaced(schema, part, taken, operator, name)) is not None:
                found.append(cause)
            else:
                parts[name] = part
                good[name] = collected(found, partial(checked_operand, schema, part.field, operand, operator, name))
        yield operator, good


def misplaced(schema: Schema, part: Part, taken: Taken, operator: str, name: str) -> Cause | None:
    """Return why `operator` cannot be used on the part `name`, or None."""
    place = pointer(operator, name)
    if not part.is_patched:
        return Cause("read_only", "a field that a client cannot set here", pointer=place)
    if (cause := taken.take(part, place)) is not None:
        return cause
    if operator not in part.field.meaning.update:
        able = [other.name for other in schema.fields.values() if other.is_patched and operator in other.meaning.update]
        return Cause(
            "not_allowed", f"`{operator}` works on: {', '.join(able) or 'no field of this type'}", pointer=place
        )
    return None


# --- The direct way --------------------------------------------------------------------------------------------------


def add_value(patch: Patch, name: str, value: Any) -> None:
    """Add one part of a merge patch, with its `value` in BSON form."""
    part = patch.parts[name]
    if value is None and part.is_member:
        value = part.field.default()
    if value is not None:
        patch.update.setdefault("$set", {})[part.stored] = value
        patch.bring(name, value)
        return
    if part.is_entry or (not part.is_member and part.around[-1].is_required):
        # What is left has to be looked at.
        patch.direct = False
    patch.update.setdefault("$unset", {})[part.stored] = ""


def is_merged(part: Part, value: Any) -> bool:
    """Tell whether a value of a merge patch is an object that is merged with what is there, and checked after that."""
    field = part.field
    is_object = isinstance(value, dict) and field.is_object
    return is_object and not (field.is_geometry and value.keys() >= {"type", "coordinates"})


def with_composed_keys(field: Field, value: Any, *place: str) -> Any:
    """Return what is merged into `field` with the keys of its maps as they are kept.

    Raises `ValidationFailed` for two keys that are one then.
    """
    if not isinstance(value, dict):
        return value
    if field.entry is None:
        known = field.members
        return {
            name: with_composed_keys(known[name], member, *place, name) if name in known else member
            for name, member in value.items()
        }
    made = {composed(key): with_composed_keys(field.entry, entry, *place, key) for key, entry in value.items()}
    if len(made) < len(value):
        raise ValidationFailed([Cause("named_twice", ONE_KEY, pointer=pointer(*place))])
    return made


def add_operator(patch: Patch, operator: str, name: str, operand: Any) -> None:
    """Add one part of an update operator, with the guard under which its result keeps the rules of the field."""
    part = patch.parts[name]
    field = part.field
    if operator != "$min" and operator != "$max" and any(own_rules(field.declared)):
        # A rule of the document's author can only be asked about the result.
        patch.direct = False
    if operator in LIST_UPDATES:
        add_list_operator(patch, operator, name, operand if isinstance(operand, Pushed) else Pushed(operand))
    elif operator == "$inc":
        patch.guard[part.stored] = room_for(field, operand)
        patch.update.setdefault("$inc", {})[part.stored] = operand
    else:
        try:
            stored = patch.schema.value(field).validate_python(operand)
        except ValidationError:
            patch.direct = False
            return
        if field.declared.default is not None:
            patch.guard[part.stored] = {"$exists": True}
        patch.update.setdefault(operator, {})[part.stored] = stored


def add_list_operator(patch: Patch, operator: str, name: str, operand: Pushed) -> None:
    """Add one list of `$push`, `$add_to_set` or `$pull`."""
    part = patch.parts[name]
    field, place = part.field, part.stored
    assert field.entry is not None  # noqa: S101  these operators are for lists
    stored = [patch.schema.value(field.entry).validate_python(value) for value in operand.each]
    if operator != "$pull":
        patch.bring(name, stored)
    if field.is_required and (operator == "$pull" or operand.slice == 0):
        patch.direct = False
    if isinstance(field.declared, me.SortedListField):
        patch.direct = False
    if field.default():
        patch.guard[place] = {"$exists": True}
    most = field.declared.max_length
    if operator != "$pull" and most is not None and (operand.slice is None or abs(operand.slice) > most):
        room = most - len(stored)
        patch.direct = patch.direct and room >= 0
        # A list has room for n more when it has no entry at index max - n.
        patch.guard[f"{place}.{room}"] = {"$exists": False}
    options = {f"${option}": number for option in PUSH_OPTIONS if (number := getattr(operand, option)) is not None}
    change = stored if operator == "$pull" else {"$each": stored, **options}
    patch.update.setdefault(MONGO_NAMES.get(operator, operator), {})[place] = change


def room_for(field: Field, operand: float) -> dict[str, Any]:
    """Return the condition under which a number field stays within its limits when `operand` is added.

    It may refuse a float at the very edge, for sums are rounded: then the result is computed and looked at.
    """
    lowest, highest = field.meaning.limits(field.declared)
    low, high = lowest.ge - operand, highest.le - operand
    if isinstance(field.declared, me.FloatField):
        edge = 4 * max(math.ulp(low), math.ulp(high), math.ulp(operand))
        return {"$gte": low + edge, "$lte": high - edge}
    low, high = max(low, -(2**63)), min(high, 2**63 - 1)
    return {"$gte": low, "$lte": high} if low <= high else {"$in": []}  # no stored number has that much room
