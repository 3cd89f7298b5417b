"""From a decoded `where` to a MongoDB filter, typed by the fields of a record type."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from service.core.errors import BadQuery, MalformedJson, ValidationFailed
from service.core.json_text import decode, encode
from service.model.fields import ORDER, PRESENT, TEXT
from service.model.record_type import FieldPath, RecordType, path_in
from service.model.validation import causes
from service.model.values import integral
from service.mongo.raw import Filter
from service.query.near import parse_shape

LEVELS = 8
TERMS = 100
LONGEST_PREFIX = 1000  # MongoDB takes no pattern over 32 KB


def listing(names: Sequence[str] | frozenset[str]) -> str:
    """Return names for a sentence."""
    return ", ".join(sorted(names)) if isinstance(names, frozenset) else ", ".join(names)


def decoded_where(text: str) -> dict[str, Any]:
    """Return the object that the text of `where` holds."""
    try:
        where = decode(text.encode())
    except (MalformedJson, UnicodeEncodeError) as error:
        raise BadQuery(f"`where`: {error}") from None
    except ValidationFailed:
        raise BadQuery("`where` holds a NUL character, which no record has") from None
    if not isinstance(where, dict):
        raise BadQuery('`where` has to be a JSON object, such as {"pinned": true}')
    return where


class ListPath(FieldPath):
    """A list of embedded documents that is no filter itself, but some of its members are."""

    __slots__ = ()

    @property
    def operators(self) -> frozenset[str]:
        """The one operator that asks of its members."""
        return frozenset({"$elemMatch"})


class EntryPath(FieldPath):
    """One entry of a plain list, which is always there."""

    __slots__ = ()

    @property
    def operators(self) -> frozenset[str]:
        """The operators that compare it."""
        return self.field.meaning.compare & TEXT - PRESENT


class EntryOf(NamedTuple):
    """The list whose entry a condition is about: what its path begins with, for clients and in MongoDB."""

    name: str
    stored: str


RECORD = EntryOf("", "")


def filter_path(type: RecordType, path: str, within: EntryOf = RECORD) -> FieldPath:
    """Return what the type lets clients ask of a path; raises `BadQuery` for any other path."""
    whole = within.name + path
    if whole in type.filters:
        return type.filters[whole]
    if any(name.startswith(f"{whole}.") for name in type.filters):
        at = path_in(type.document, type.schema, whole)
        if at.field.is_list:
            return ListPath(at.field, at.stored, at.in_list)
    raise not_filtered(type, path, within)


def not_filtered(type: RecordType, path: str, within: EntryOf) -> BadQuery:
    """Return the problem of a path that the type does not let clients ask for."""
    able = [name.removeprefix(within.name) for name in type.filters if name.startswith(within.name)]
    return BadQuery(f"{path!r} cannot be filtered; these can: {listing(able) or 'none'}")


class Compiler:
    """Turns a decoded `where` into a MongoDB filter, typed by the fields of a record type; counts terms and levels.

    `shapes` are the fields that were asked for what is within a shape; `by_alphabet` tells that a condition hangs on
    the order of texts.
    """

    def __init__(self, type: RecordType) -> None:
        self.type = type
        self.terms = 0
        self.shapes: set[str] = set()
        self.by_alphabet = False

    def compile(self, where: Any, level: int = 0, within: EntryOf = RECORD) -> Filter:
        """Return the filter of one object of conditions on a record or on an entry. Raises `BadQuery`."""
        if level > LEVELS:
            raise BadQuery(f"`where` is nested over {LEVELS} levels")
        if not isinstance(where, dict):
            raise BadQuery("a condition has to be an object of fields or of $and, $or, $nor, $not")
        if not where:
            self.count()
        clauses = [self.clause(name, condition, level, within) for name, condition in where.items()]
        return clauses[0] if len(clauses) == 1 else {"$and": clauses} if clauses else {}

    def clause(self, name: str, condition: Any, level: int, within: EntryOf) -> Filter:
        """Return the filter of one member of an object."""
        if name in ("$and", "$or", "$nor"):
            if not isinstance(condition, list) or not condition:
                raise BadQuery(f"`{name}` takes a list of at least one object")
            return {name: [self.compile(part, level + 1, within) for part in condition]}
        if name == "$not":
            return {"$nor": [self.compile(condition, level + 1, within)]}
        if name.startswith("$"):
            raise BadQuery(f"`{name}` is no operator here; there are $and, $or, $nor, $not, and fields")
        at = filter_path(self.type, name, within)
        if isinstance(at, ListPath) and not isinstance(condition, dict):
            raise not_filtered(self.type, name, within)
        return {at.stored.removeprefix(within.stored): self.condition(within.name + name, at, condition, level)}

    def condition(self, name: str, at: FieldPath, condition: Any, level: int) -> Any:
        """Return the MongoDB condition on one field: a value, or an object of operators."""
        if not isinstance(condition, dict):
            return dict([self.compared(name, at, "$eq", condition)])
        if not condition:
            raise BadQuery(f"`{name}`: an empty object matches nothing; name an operator")
        if "$within" in condition and len(condition) > 1:
            raise BadQuery(f"`{name}`: $within stands alone on its field; put what else it has to fulfil into $and")
        return {
            key: value
            for operator, operand in condition.items()
            for key, value in self.operation(name, at, operator, operand, level)
        }

    def operation(self, name: str, at: FieldPath, operator: str, operand: Any, level: int) -> Iterator[tuple[str, Any]]:
        """Yield MongoDB's form of one operator on one field."""
        if operator == "$not":
            if level >= LEVELS:
                raise BadQuery(f"`where` is nested over {LEVELS} levels")
            if not isinstance(operand, dict):
                raise BadQuery(f"`{name}`: $not takes an object of operators")
            yield "$not", self.condition(name, at, operand, level + 1)
            return
        able = at.operators
        if operator not in able:
            raise BadQuery(f"`{name}`: {operator!r} does not apply; use one of {listing(able | {'$not'})}")
        if operator == "$near":
            raise BadQuery(f"`{name}`: $near stands at the top level of `where`, once and alone on its field")
        if operator == "$elemMatch":
            yield operator, self.element(name, at, operand, level)
        elif operator in ("$in", "$nin", "$all"):
            yield operator, self.values(name, at, operator, operand)
        elif operator == "$within":
            self.count()
            yield from parse_shape(name, operand).items()
            self.shapes.add(name)
        elif operator == "$exists":
            yield operator, self.boolean(name, operand)
        elif operator == "$size":
            yield operator, self.size(name, operand)
        elif operator == "$prefix":
            text = self.value(name, at, operand, nullable=False)
            if len(text) > LONGEST_PREFIX:
                raise BadQuery(f"`{name}`: $prefix takes a string of at most {LONGEST_PREFIX} characters")
            yield "$regex", "^" + re.escape(text)
        else:
            self.by_alphabet |= operator in ORDER and at.compared.is_text
            yield self.compared(name, at, operator, operand)

    def element(self, name: str, at: FieldPath, operand: Any, level: int) -> Any:
        """Return the conditions that one entry of a list has to fulfil together."""
        if level >= LEVELS:
            raise BadQuery(f"`where` is nested over {LEVELS} levels")
        if not isinstance(operand, dict) or not operand:
            raise BadQuery(f"`{name}`: $elemMatch takes an object of what one entry has to fulfil")
        if at.compared.document is not None:
            return self.compile(operand, level + 1, EntryOf(f"{name}.", f"{at.stored}."))
        return self.condition(name, EntryPath(at.compared, at.stored, False), operand, level + 1)

    def compared(self, name: str, at: FieldPath, operator: str, operand: Any) -> tuple[str, Any]:
        """Return MongoDB's form of a comparison with one value."""
        value = self.value(name, at, operand, operator in ("$eq", "$ne"))
        change = at.compared.meaning.compared
        return (operator, value) if change is None or value is None else change(operator, operand, value)

    def value(self, name: str, at: FieldPath, value: Any, nullable: bool) -> Any:
        """Return one value in BSON form, typed by the field."""
        self.count()
        if value is None and nullable:
            return None
        try:
            return self.type.schema.typed(at.compared).validate_python(value)
        except ValidationError as error:
            wanted = causes(error)[0].detail
            raise BadQuery(f"`{name}` is compared with {short(value)}; it takes {wanted}") from None

    def values(self, name: str, at: FieldPath, operator: str, operand: Any) -> list[Any]:
        """Return the values of a list operator."""
        if not isinstance(operand, list):
            raise BadQuery(f"`{name}`: {operator} takes a list")
        if not operand:
            self.count()
        return [self.compared(name, at, "$eq", value)[1] for value in operand]

    def boolean(self, name: str, operand: Any) -> bool:
        """Return the operand of `$exists`."""
        self.count()
        if not isinstance(operand, bool):
            raise BadQuery(f"`{name}`: $exists takes true or false")
        return operand

    def size(self, name: str, operand: Any) -> int:
        """Return the operand of `$size`."""
        self.count()
        number = integral(operand)
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**31:
            raise BadQuery(f"`{name}`: $size takes a whole number from 0")
        return number

    def count(self) -> None:
        """Count one term."""
        self.terms += 1
        if self.terms > TERMS:
            raise BadQuery(f"`where` has over {TERMS} terms")


def short(value: Any) -> str:
    """Return a value for a sentence, at most 40 characters of it."""
    text = encode(value).decode()
    return text if len(text) <= 40 else text[:40] + "…"
