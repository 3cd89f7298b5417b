"""References: what a record points to has to be there, for the one who says so."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.core.errors import Cause, ValidationFailed, pointer
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo import driver
from service.policy import Identity, scope


def check_references(registry: Registry, identity: Identity, type: RecordType, content: Mapping[str, Any]) -> None:
    """Refuse references of `content`, in BSON form, to records that are not there or that the identity may not read.

    One query for each field that points somewhere. Raises `ValidationFailed`.
    """
    if missing := list(missing_targets(registry, identity, type, content)):
        raise ValidationFailed(missing)


def missing_targets(
    registry: Registry, identity: Identity, type: RecordType, content: Mapping[str, Any]
) -> Iterator[Cause]:
    """Yield a cause for every id that names no record that the identity may read."""
    for name, reference in type.references.items():
        value = content.get(reference.field.stored)
        if not value:
            continue
        ids, target = ids_in(value), registry.of(reference.target)
        readable = {"_id": {"$in": ids}, **scope(identity, "read", target)}
        there = {row["_id"] for row in driver.find(target.collection, readable, {"_id": 1})}
        for index, id in enumerate(ids):
            if id not in there:
                place = (name, index) if isinstance(value, list) else (name,)
                yield Cause("not_found", "the id of a record that you may read", pointer=pointer(*place))


def ids_in(value: Any) -> list[Any]:
    """Return the ids in a reference field: none, one or many."""
    return value if isinstance(value, list) else [] if value is None else [value]
