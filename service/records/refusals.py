"""What MongoDB refuses of a record: what is taken, and what breaks no rule of its fields, told with their names."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from pymongo.errors import DocumentTooLarge, DuplicateKeyError, OperationFailure, PyMongoError

from service.core.errors import AlreadyExists, Cause, Unreadable, ValidationFailed, pointer
from service.model.places import Pointed
from service.model.record_type import RecordType
from service.model.unique import Unique, stored_unique
from service.mongo import driver, problems, transactions
from service.mongo.raw import Raw, in_bson

Written = TypeVar("Written")
PointerSteps = tuple[str | int, ...]
SHAPE = "a shape whose lines touch and cross nothing, with holes within the first ring"
DUPLICATE = 11000
"""The server's code of a value that an index has already."""
INDEXED = re.compile(r"\[([^\[\]]+)\]|path: (\S+)")
"""How MongoDB writes the names of fields that an index cannot hold."""


def explained(
    type: RecordType, condition: Mapping[str, Any], brought: Mapping[str, Any], write: Callable[[], Written]
) -> Written:
    """Return what a `write` of the record that fulfils `condition` gives, to which it brings some values.

    Raises, for what MongoDB refuses, what it means.
    """
    try:
        return write()
    except DuplicateKeyError as error:
        raise taken(type, error, condition.get("_id", ""), brought) from None
    except (OperationFailure, DocumentTooLarge) as error:
        if (problem := unlike_fields(type, error, condition)) is not None:
            raise problem from None
        raise refused(type, error, brought) from error


def taken(type: RecordType, error: DuplicateKeyError, id: str, values: Mapping[str, Any]) -> Exception:
    """Return the problem of a unique value that another record has; the error as it is where that is the id."""
    pattern = (error.details or {}).get("keyPattern")
    unique = guessed(type, id, values) if pattern is None else stored_unique(type.uniques, pattern)
    if unique is not None:
        return unique.problem()
    if pattern is None or list(pattern) == ["_id"]:
        return error
    return AlreadyExists("a value is taken that has to be unique")


def guessed(type: RecordType, id: str, values: Mapping[str, Any]) -> Unique | None:
    """Return whose value another record has, if any: mongomock does not say which index it was."""
    for unique in type.uniques:
        same = {place.stored: value for place in unique.places for _, value in place.stored_values(values)}
        if same and type.collection.find_one({**same, "_id": {"$ne": id}}):
            return unique
    return None


def problem_of_one(type: RecordType, told: Mapping[str, Any], record: Raw) -> Exception:
    """Return what MongoDB tells of one record of many that it does not store."""
    if told["code"] == DUPLICATE:
        return taken(type, DuplicateKeyError(told["errmsg"], DUPLICATE, told), record["_id"], record)
    return refused(type, OperationFailure(told["errmsg"], told["code"], told), record)


def refused(type: RecordType, error: Exception, brought: Mapping[str, Any]) -> Exception:
    """Return what an error of a write means that brought some values, in BSON form as a record has them.

    That is `ValidationFailed` with pointers into the record in JSON, or the error as it is where it is another.
    """
    if isinstance(error, PyMongoError) and problems.is_transient(error):
        return error
    if isinstance(error, DocumentTooLarge):
        return ValidationFailed(too_large(type, error, brought))
    if not isinstance(error, OperationFailure) or error.code not in REFUSALS:
        return error
    return ValidationFailed(REFUSALS[error.code](type, error, brought))


def unlike_fields(type: RecordType, error: Exception, condition: Mapping[str, Any]) -> Unreadable | None:
    """Return why an update cannot be applied to the record that fulfils `condition`: what is stored is of other types.

    None where that is not why. MongoDB quotes in its `error` what is stored: raise this one `from None`.
    """
    if getattr(error, "code", None) not in OF_STORED_TYPES:
        return None
    record = transactions.outside(driver.find_one, type.collection, condition, type.unread)
    try:
        type.schema.check_readable(record or {})
    except Unreadable as problem:
        return problem
    return None


def shapes(type: RecordType, error: Exception, brought: Mapping[str, Any]) -> list[Cause]:
    """Return the shapes that MongoDB takes into no index: only it knows, for it rounds as it does."""
    there = [named for place in type.shapes for named in place.stored_values(brought)]
    wrong = [steps for steps, value in there if not transactions.outside(is_shape, type, value)]
    return causes_at("shape", SHAPE, wrong)


def is_shape(type: RecordType, value: Any) -> bool:
    """Tell whether MongoDB takes a geometry in a query, where it has the same rules."""
    try:
        type.collection.find_one({"_id": "", "shape": {"$geoIntersects": {"$geometry": value}}}, {"_id": 1})
    except OperationFailure as error:
        if error.code != problems.BAD_VALUE:
            raise
        return False
    return True


def too_large(type: RecordType, error: Exception, brought: Mapping[str, Any]) -> list[Cause]:
    """Return the largest of the values."""
    sizes = {steps: len(in_bson({"": value})) for steps, value in members(type, brought)}
    return causes_at("too_large", "less: a record has at most 16 MB", sorted(sizes, key=sizes.__getitem__)[-1:])


def unindexed(type: RecordType, error: OperationFailure, brought: Mapping[str, Any]) -> list[Cause]:
    """Return the lists that MongoDB names as what an index does not hold, or not together."""
    names = {type.names.get(name, name) for pair in INDEXED.findall(problems.said_by(error)) for name in pair}
    found = [steps for steps, _ in members(type, brought) if steps[-1] in names]
    return causes_at("not_indexed", "no list, or an empty one: an index of the collection does not hold it", found)


def language(type: RecordType, error: Exception, brought: Mapping[str, Any]) -> list[Cause]:
    """Return the field that MongoDB takes for the language of a text index."""
    found = [steps for steps, _ in members(type, brought) if steps[-1] == "language"]
    return causes_at("not_allowed", "the name of a language that MongoDB's text indexes know", found)


def invalid(type: RecordType, error: OperationFailure, brought: Mapping[str, Any]) -> list[Cause]:
    """Return the fields that a validator refuses which somebody has given to the collection."""
    names = dict.fromkeys(type.names.get(name, name) for name in refused_names(error.details))
    return causes_at("not_valid", "a value that the validator of the collection takes", [(name,) for name in names])


def refused_names(found: Any) -> Iterator[str]:
    """Yield the names of the outermost fields in what MongoDB tells of a validator (`errInfo`)."""
    if isinstance(found, Mapping):
        if "propertyName" in found:
            yield found["propertyName"]
            return
        yield from found.get("missingProperties", ())
    for inner in found.values() if isinstance(found, Mapping) else found if isinstance(found, list) else ():
        yield from refused_names(inner)


def members(type: RecordType, brought: Mapping[str, Any]) -> Iterator[Pointed]:
    """Yield those of the values that clients know, with their places."""
    for stored, value in brought.items():
        if stored in type.names:
            yield (type.names[stored],), value


def causes_at(code: str, detail: str, found: Iterable[PointerSteps]) -> list[Cause]:
    """Return a cause for each place, or one about all of a body where no place is known."""
    return [Cause(code, detail, pointer=pointer(*steps)) for steps in found] or [Cause(code, detail, pointer="")]


OF_STORED_TYPES = frozenset({problems.BAD_VALUE, 14, 28})
"""Of operators on what is no number, no list, or no object with members."""
OF_SHAPES = frozenset({13026, 13027, 16755, 16804})
Refusal = Callable[[RecordType, OperationFailure, Mapping[str, Any]], list[Cause]]
REFUSALS: Mapping[int | None, Refusal] = {
    121: invalid,
    171: unindexed,
    201: too_large,
    388: too_large,
    16766: unindexed,
    17261: language,
    17262: language,
    **dict.fromkeys(problems.TOO_LARGE_CODES, too_large),
    **dict.fromkeys(OF_SHAPES, shapes),
}
"""By the server's codes. What stands nowhere is a bug of ours."""
