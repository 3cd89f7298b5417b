"""The answers of `where` without MongoDB: whether a stored record fulfils a filter that was compiled from one.

Live events and webhooks are decided so. The answers are MongoDB's own (its manual, "Query and
Projection Operators"): values of another BSON type are not compared, a path goes into every entry of a list, and what
is missing is null. The tests hold the two against each other.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from operator import eq, ge, gt, le, lt
from typing import Any
from uuid import UUID

from bson import Decimal128, ObjectId

from service.core.errors import BadQuery
from service.model.record_type import RecordType
from service.mongo.raw import Filter
from service.query.where import Compiler

Verdict = Callable[[Any], bool]
"""Tells of a value, or of a document, whether it fulfils a condition."""
MatchSteps = tuple[str, ...]

LOGIC = frozenset({"$and", "$or", "$nor"})
RELATIONS: Mapping[str, Callable[[Any, Any], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}


class Absence:
    """Stands for the value of a field that is not there."""


MISSING = Absence()


def matcher(condition: Filter) -> Verdict:
    """Return what tells whether a stored document fulfils a filter.

    Raises `BadQuery` for one that MongoDB alone can decide.
    """
    clauses = [clause(name, operand) for name, operand in condition.items()]
    if len(clauses) == 1:
        return clauses[0]
    return lambda document: all(fulfils(document) for fulfils in clauses)


def record_matcher(type: RecordType, where: Any) -> Verdict:
    """Return what tells whether a stored record of a type fulfils a decoded `where`; raises `BadQuery`."""
    if isinstance(where, dict) and any(isinstance(one, dict) and "$near" in one for one in where.values()):
        raise BadQuery("$near sorts by distance, and nothing is sorted here; use $within")
    return matcher(Compiler(type).compile(where))


def clause(name: str, operand: Any) -> Verdict:
    """Return what tells whether a document fulfils one member of a filter."""
    if name in LOGIC:
        parts = [matcher(part) for part in operand]
        if name == "$and":
            return lambda document: all(part(document) for part in parts)
        if name == "$or":
            return lambda document: any(part(document) for part in parts)
        return lambda document: not any(part(document) for part in parts)
    return field_verdict(tuple(name.split(".")), operand)


def field_verdict(steps: MatchSteps, operators: Mapping[str, Any]) -> Verdict:
    """Return what tells whether the field at a path fulfils all of some operators, each for itself."""
    verdicts = [OPERATORS.get(operator, ordered)(steps, operator, operand) for operator, operand in operators.items()]
    if len(verdicts) == 1:
        return verdicts[0]
    return lambda document: all(fulfils(document) for fulfils in verdicts)


# --- What stands at a path -------------------------------------------------------------------------------------------


def values_at(document: Any, steps: MatchSteps, leaf_entries: bool = True) -> Iterator[Any]:
    """Yield what MongoDB compares of a path: every entry of a list at its end, and that list itself.

    Without `leaf_entries` it is the list alone.
    """
    for number, step in enumerate(steps, 1):
        document = document.get(step, MISSING) if isinstance(document, dict) else MISSING
        if isinstance(document, list):
            rest = steps[number:]
            if not rest:
                yield from document if leaf_entries else ()
                yield document
                return
            for entry in document:
                if isinstance(entry, dict):
                    yield from values_at(entry, rest, leaf_entries)
            return
    yield document


def any_value(steps: MatchSteps, fulfils: Verdict, leaf_entries: bool = True) -> Verdict:
    """Return what tells whether one of the values at a path fulfils something."""
    if len(steps) == 1 and leaf_entries:
        (name,) = steps

        def plain(document: Any) -> bool:
            value = document.get(name, MISSING)
            return fulfils(value) or (isinstance(value, list) and any(map(fulfils, value)))

        return plain
    return lambda document: any(map(fulfils, values_at(document, steps, leaf_entries)))


# --- Operators -------------------------------------------------------------------------------------------------------


def compared_as(value: Any) -> tuple[str, Any]:
    """Return the BSON type of a value, as far as it is compared, and the value in the form to compare."""
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, Decimal128):
        return "number", value.to_decimal()
    if isinstance(value, int | float):
        return "number", value
    for kind in (str, datetime, UUID, ObjectId):
        if isinstance(value, kind):
            return kind.__name__, value
    return ("null", None) if value is None or value is MISSING else (type(value).__name__, value)


def compared(compare: Callable[[Any, Any], bool], operand: Any) -> Verdict:
    """Return what tells whether a value stands in a relation to an operand: one of its own type does, or none."""
    kind, wanted = compared_as(operand)
    allows_equal = compare in (eq, ge, le)
    if kind == "str":
        return lambda value: isinstance(value, str) and compare(value, wanted)
    if kind == "null":
        return lambda value: allows_equal and (value is None or value is MISSING)

    def fulfils(value: Any) -> bool:
        found, other = compared_as(value)
        if found != kind:
            return False
        if kind == "number" and (is_nan(other) or is_nan(wanted)):
            return allows_equal and is_nan(other) and is_nan(wanted)
        return compare(other, wanted)

    return fulfils


def is_nan(number: float | Decimal) -> bool:
    """Tell whether a number is none: it equals itself here, and nothing else."""
    return number.is_nan() if isinstance(number, Decimal) else number != number


def equal(steps: MatchSteps, operator: str, operand: Any) -> Verdict:
    """Return what tells of `$eq` and `$ne`."""
    found = any_value(steps, compared(eq, operand))
    return found if operator == "$eq" else negated(found)


def one_of_values(steps: MatchSteps, operator: str, operand: Sequence[Any]) -> Verdict:
    """Return what tells of `$in` and `$nin`."""
    tests = [compared(eq, value) for value in operand]
    found = any_value(steps, lambda value: any(fulfils(value) for fulfils in tests))
    return found if operator == "$in" else negated(found)


def all_of(steps: MatchSteps, _operator: str, operand: Sequence[Any]) -> Verdict:
    """Return what tells of `$all`: of no value at all it is never fulfilled."""
    found = [any_value(steps, compared(eq, value)) for value in operand]
    return lambda document: bool(found) and all(fulfils(document) for fulfils in found)


def ordered(steps: MatchSteps, operator: str, operand: Any) -> Verdict:
    """Return what tells of `$gt`, `$gte`, `$lt` and `$lte`."""
    return any_value(steps, compared(RELATIONS[operator], operand))


def field_exists(steps: MatchSteps, _operator: str, operand: bool) -> Verdict:
    """Return what tells of `$exists`."""
    found = any_value(steps, lambda value: value is not MISSING, leaf_entries=False)
    return found if operand else negated(found)


def opposite(steps: MatchSteps, _operator: str, operand: Mapping[str, Any]) -> Verdict:
    """Return what tells of `$not`."""
    return negated(field_verdict(steps, operand))


def sized(steps: MatchSteps, _operator: str, operand: int) -> Verdict:
    """Return what tells of `$size`."""
    return any_value(steps, lambda value: isinstance(value, list) and len(value) == operand, leaf_entries=False)


def matching_element(steps: MatchSteps, _operator: str, operand: Mapping[str, Any]) -> Verdict:
    """Return what tells of `$elemMatch`: whether one entry fulfils all."""
    if operand.keys() <= LOGIC or not any(name.startswith("$") for name in operand):
        whole = matcher({**operand})

        def fulfils(entry: Any) -> bool:
            return isinstance(entry, dict) and whole(entry)

    else:
        of_value = field_verdict(("",), operand)

        def fulfils(entry: Any) -> bool:
            return of_value({"": entry})

    return any_value(steps, lambda value: isinstance(value, list) and any(map(fulfils, value)), leaf_entries=False)


def beginning(steps: MatchSteps, _operator: str, operand: str) -> Verdict:
    """Return what tells of the `$regex` that `$prefix` is compiled to."""
    begins = re.compile(operand).match
    return any_value(steps, lambda value: isinstance(value, str) and begins(value) is not None)


def in_box(steps: MatchSteps, _operator: str, operand: Mapping[str, Any]) -> Verdict:
    """Return what tells whether a point lies in a box, its edges included. Raises `BadQuery` for another shape."""
    if "$box" not in operand:
        raise BadQuery(f"`{'.'.join(steps)}`: what lies in a polygon only MongoDB can tell; name a box")
    (west, south), (east, north) = operand["$box"]

    def inside(value: Any) -> bool:
        point = value.get("coordinates") if isinstance(value, dict) else value
        if not isinstance(point, list) or len(point) != 2 or not all(isinstance(part, int | float) for part in point):
            return False
        return bool(west <= point[0] <= east and south <= point[1] <= north)

    return any_value(steps, inside)


def negated(fulfils: Verdict) -> Verdict:
    """Return what tells the opposite."""
    return lambda document: not fulfils(document)


OPERATORS: Mapping[str, Callable[[MatchSteps, str, Any], Verdict]] = {
    "$eq": equal,
    "$ne": equal,
    "$in": one_of_values,
    "$nin": one_of_values,
    "$all": all_of,
    "$exists": field_exists,
    "$not": opposite,
    "$size": sized,
    "$elemMatch": matching_element,
    "$regex": beginning,
    "$geoWithin": in_box,
}
"""What tells of each operator; the others are those of order."""
