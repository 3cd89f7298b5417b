"""Hooks: the methods of a record type that the service calls around its writes, and the record as they see it."""

import inspect
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from mongoengine import EmbeddedDocument

from service.core.spelling import nearest
from service.documents.record import Record
from service.model.fields import InvalidDocument
from service.mongo.raw import in_bson

BEFORE_CREATE, BEFORE_CHANGE, BEFORE_DELETE, AFTER_CHANGE = HOOKS = (
    *("before_create", "before_change", "before_delete"),
    "after_change",
)
TAKEN: Mapping[str, tuple[str, ...]] = {
    BEFORE_CREATE: ("self", "who"),
    BEFORE_CHANGE: ("self", "before", "who"),
    BEFORE_DELETE: ("self", "who"),
    AFTER_CHANGE: ("cls", "change"),
}
"""What each is given."""
SERVERS = frozenset(Record._fields) - {"readers", "writers"}
"""The fields of every record that the service alone sets, for a hook too."""


def hooks_of(document: type[Record]) -> frozenset[str]:
    """Return the names of the hooks that a document class has.

    Raises `InvalidDocument` for one that is not called so, takes something else, or is not what it has to be.
    """
    found = {name for kind in document.__mro__ if kind not in Record.__mro__ for name in vars(kind)}
    named = {name for name in found if name.startswith(("before_", "after_")) and callable(getattr(document, name))}
    for name in sorted(named):
        check_hook(document, name)
    return frozenset(named)


def check_hook(document: type[Record], name: str) -> None:
    """Raise `InvalidDocument` where a method that looks like a hook is none that could be called."""
    what = f"{document.__name__}.{name}"
    if name not in HOOKS:
        raise InvalidDocument(f"{what} looks like a hook, and is none{nearest(name, HOOKS)}; call it otherwise")
    method = inspect.getattr_static(document, name)
    is_of_class = isinstance(method, classmethod)
    function = method.__func__ if is_of_class else method
    if is_of_class != (name == AFTER_CHANGE):
        raise InvalidDocument(f"{what} has to be {'a classmethod' if name == AFTER_CHANGE else 'a method'}")
    if inspect.iscoroutinefunction(function) or len(inspect.signature(function).parameters) != len(TAKEN[name]):
        raise InvalidDocument(f"{what} has to be a plain function that takes {', '.join(TAKEN[name])}")


def typed_record(document: type[Record], stored: Mapping[str, Any]) -> Record:
    """Return a stored record as an instance of its class, which does not load what it refers to.

    A reference is a `DBRef` with the `id`: to load it would ask nobody whether it may be read.
    """
    record: Record = document._from_son(deepcopy(dict(stored)))
    stop_loading(record)
    return record


def stop_loading(value: Any) -> None:
    """Have no reference loaded by a look at it, in a document and all that is embedded in it."""
    if isinstance(value, Record | EmbeddedDocument):
        kind: Any = type(value)
        value._fields = quiet_fields(kind)
        value = list(value._data.values())
    if isinstance(value, list | dict):
        for member in value.values() if isinstance(value, dict) else value:
            stop_loading(member)


@cache
def quiet_fields(document: Any) -> Mapping[str, Any]:
    """Return the fields of a document class as they are for instances that load no references."""
    fields: Mapping[str, Any] = deepcopy(document._fields)
    for field in fields.values():
        field.set_auto_dereferencing(False)
    return fields


def altered(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the stored names under which two documents in BSON form differ."""
    names = dict.fromkeys([*before, *after])
    return [name for name in names if in_bson({"": before.get(name)}) != in_bson({"": after.get(name)})]
