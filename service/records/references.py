"""References: what a record points to has to be there, for the one who says so."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from service.core.errors import Cause, ValidationFailed, pointer
from service.documents.account import Account
from service.model.places import Pointed
from service.model.record_type import RecordType, Reference
from service.model.registry import Registry
from service.mongo import driver
from service.policy import EVERYONE, Identity, given_to, scope
from service.records import people, store


def check_references(
    registry: Registry,
    identity: Identity,
    type: RecordType,
    content: Mapping[str, Any],
    current: Mapping[str, Any] | None = None,
) -> None:
    """Refuse references of `content`, in BSON form, to what is not there or what the identity may not read.

    Those that the `current` record has already are not asked for again: who sent them may not be the one who changes
    something else. One query for each type that is pointed to. Raises `ValidationFailed`.
    """
    if type.references and (missing := list(missing_targets(registry, identity, type, content, current or {}))):
        raise ValidationFailed(missing)
    for reference in registry.holding(type):
        if ids := [id for _, id in new_values(reference, content, current or {})]:
            store.touch(registry.of(reference.target), ids)


def missing_targets(
    registry: Registry, identity: Identity, type: RecordType, content: Mapping[str, Any], current: Mapping[str, Any]
) -> Iterator[Cause]:
    """Yield a cause for every id that names nothing that the identity may read."""
    for target, pointed in named_targets(type, content, current).items():
        there = existing_targets(registry, identity, target, dict.fromkeys(id for _, id in pointed))
        yield from (missing(target, place) for place, id in pointed if id not in there)


def missing(target: Any, place: tuple[str | int, ...]) -> Cause:
    """Return the cause that what stands at a place names nothing of the class `target`."""
    detail = f"the id of {'an account' if target is Account else 'a record that you may read'}"
    return Cause("not_found", detail, pointer=pointer(*place))


def named_targets(
    type: RecordType, content: Mapping[str, Any], current: Mapping[str, Any]
) -> Mapping[Any, list[Pointed]]:
    """Return the ids that `content` has and `current` has not, with their places, by what they point to."""
    found: dict[Any, list[Pointed]] = {}
    for reference in type.references.values():
        if pointed := new_values(reference, content, current):
            found.setdefault(reference.target, []).extend(pointed)
    return found


def new_values(reference: Reference, content: Mapping[str, Any], current: Mapping[str, Any]) -> list[Pointed]:
    """Return the ids that `content` has at a reference and `current` has not, with their places."""
    place = reference.place
    if place.root.stored not in content or not (pointed := list(place.stored_values(content))):
        return []
    known = {id for _, id in place.stored_values(current)}
    return [named for named in pointed if named[1] not in known]


def existing_targets(registry: Registry, identity: Identity, target: Any, ids: Iterable[str]) -> set[str]:
    """Return those of the ids that name a record of the class `target` that the identity may read, or an account."""
    if target is Account:
        return people.living(ids)
    type = registry.of(target)
    readable = {"_id": {"$in": list(ids)}, **scope(identity, "read", type)}
    return {row["_id"] for row in driver.find(type.collection, readable, {"_id": 1})}


def access_lists(registry: Registry, target: Any, ids: Iterable[str]) -> dict[str, list[str]]:
    """Return who may read those of the ids that name a record of the class `target`, or an account: access lists."""
    if target is Account:
        return {id: [given_to(EVERYONE)] for id in people.living(ids)}
    found = driver.find(registry.of(target).collection, {"_id": {"$in": list(ids)}}, {"access": 1})
    return {row["_id"]: row["access"] for row in found if is_access_list(row.get("access"))}


def is_access_list(value: Any) -> bool:
    """Tell whether a stored value is an access list: a tombstone has none, and other software may have stored any."""
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
