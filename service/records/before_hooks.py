"""Hooks before a write: the record type's own code looks at a record as it will be, changes it, or refuses the write.

It runs within the request, as close before the write as can be. What it changes is held to the rules of a body.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from pymongo.errors import PyMongoError

from service.core.errors import Cause, Problem, ValidationFailed
from service.core.log import log
from service.documents.record import Record
from service.model.hooks import BEFORE_CHANGE, BEFORE_CREATE, BEFORE_DELETE, SERVERS, altered, typed_record
from service.model.load import check_rules
from service.model.record_type import RecordType
from service.model.validation import required, validate
from service.mongo.raw import Raw
from service.policy import Identity, group_principal
from service.records.store import Edit


class HookFailed(Exception):
    """A hook raised what is no problem, or set what only the service sets: a bug of the record type."""


def on_creation(type: RecordType, who: Identity, content: Mapping[str, Any]) -> Raw:
    """Return what `before_create` changes of a new record: values in BSON form by stored name, None for what goes.

    Raises a `Problem` of the hook, `ValidationFailed` for what a body could not hold, and `HookFailed`.
    """
    owner = group_principal(content["_id"]) if type.is_group else who.account
    return changed_by(type, BEFORE_CREATE, {**content, "owner": owner}, who)


def on_change(type: RecordType, who: Identity, before: Mapping[str, Any], after: Mapping[str, Any]) -> Raw:
    """Return what `before_change` changes of a record that will be as it is `after`; see `on_creation`."""
    return changed_by(type, BEFORE_CHANGE, after, typed(type, before), who)


def on_deletion(type: RecordType, who: Identity, record: Mapping[str, Any]) -> None:
    """Let `before_delete` refuse the deletion of a record; what it changes goes with the record."""
    call_hook(type, BEFORE_DELETE, typed(type, record), who)


def typed(type: RecordType, record: Mapping[str, Any]) -> Record:
    """Return a record as hooks see it; raises `Unreadable` where what is stored is no value of its field."""
    try:
        return typed_record(type.document, record)
    except Exception:
        type.schema.check_readable(record)
        raise


def call_hook(type: RecordType, hook: str, record: Record, *given: Any) -> None:
    """Call a hook. Raises the problem that it raises, an error of MongoDB as it is, and `HookFailed` for all else."""
    try:
        getattr(record, hook)(*given)
    except (Problem, PyMongoError):
        raise
    except Exception as error:
        raise failed(type, hook, f"raised {error.__class__.__name__}") from error


def failed(type: RecordType, hook: str, why: str) -> HookFailed:
    """Return the error of a hook, after a log line that names it."""
    name = f"{type.document.__name__}.{hook}"
    log.error("hook_failed", hook=name, reason=why)
    return HookFailed(f"{name} {why}")


def changed_by(type: RecordType, hook: str, content: Mapping[str, Any], *given: Any) -> Raw:
    """Return what a hook changes of a record with this content, checked."""
    record = typed(type, content)
    before = deepcopy(record.to_mongo())
    call_hook(type, hook, record, *given)
    try:
        after = record.to_mongo()
        names = altered(before, after)
        if named := {type.document._reverse_db_field_map.get(name, name) for name in names} & SERVERS:
            raise ValueError(f"{', '.join(sorted(named))} are set by the service alone")
        changes = checked(type, names, record, after)
    except ValidationFailed:
        raise
    except Exception as error:
        raise failed(type, hook, f"left what cannot be stored: {error.__class__.__name__}") from error
    if changes and type.schema.has_rules:
        check_rules(type.document, Edit({**content}, changes).content)
    return changes


def checked(type: RecordType, names: Iterable[str], record: Record, after: Mapping[str, Any]) -> Raw:
    """Return the values of some stored names as a body with them would be stored; raises `ValidationFailed`.

    What no client sees is held to MongoEngine's rules. Raises `Unreadable`, and MongoEngine's errors.
    """
    found: list[Cause] = []
    changes: Raw = {}
    for stored in names:
        try:
            changes[stored] = checked_value(type, stored, record, after)
        except ValidationFailed as error:
            found += error.causes
    if found:
        raise ValidationFailed(found)
    return changes


def checked_value(type: RecordType, stored: str, record: Record, after: Mapping[str, Any]) -> Any:
    """Return the value of one stored name, None where it goes."""
    if stored not in type.names:
        name = type.document._reverse_db_field_map.get(stored, stored)
        if (value := record._data.get(name)) is not None:
            type.document._fields[name]._validate(value)
        return after.get(stored)
    field = type.schema.fields[type.names[stored]]
    if after.get(stored) is None:
        if field.is_named_at_creation:
            raise ValidationFailed([required(field.name)])
        return field.default()
    return validate(type.schema.value(field), type.schema.member(field, after), field.name)
