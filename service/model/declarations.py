"""Declarations: what a document class says of itself, held to what is known and to its own rules at the start."""

import dis
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import FunctionType
from typing import Any

from mongoengine import fields as me
from mongoengine.base import BaseField
from pydantic import ValidationError

from service.core.errors import Unreadable, ValidationFailed
from service.core.spelling import nearest
from service.documents.record import Record
from service.model.dump import json_default
from service.model.field import Field
from service.model.fields import InvalidDocument
from service.model.schema import Schema
from service.model.validation import causes

ARGUMENTS = frozenset(
    {"read_only", "fixed", "hidden", "owner_only", "help_text", "delete_rule", "collation", "as_string"}
)
"""What a field takes beside MongoEngine's own arguments."""
OF_WHOLE_FIELDS = ("read_only", "fixed", "hidden", "owner_only")
"""Those of them that only a field of the record itself takes: what is inside of one comes and goes with it."""
OWN_META = frozenset({"sorts", "filters", "search", "example", "version", "push", "sync_public", "sync_versions"})
META = OWN_META | {
    *("abstract", "allow_inheritance", "auto_create_index", "auto_create_index_on_save", "cascade", "collection"),
    *("db_alias", "delete_rules", "id_field", "index_background", "index_cls", "index_opts", "index_specs", "indexes"),
    *("max_documents", "max_size", "ordering", "queryset_class", "shard_key", "strict", "timeseries"),
}
"""What `meta` may say: ours and MongoEngine's."""
COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def mistake(what: str, why: str) -> InvalidDocument:
    """Return the error about a part of a declaration."""
    return InvalidDocument(f"{what} {why}")


def check_class(document: Any) -> None:
    """Raise `InvalidDocument` for what is no record type at all, or declares what nobody knows."""
    name = getattr(document, "__name__", repr(document))
    if not isinstance(document, type) or not issubclass(document, Record):
        raise mistake(name, "is no record type: it has to inherit Record (service/documents/record.py)")
    if document._meta.get("abstract"):
        raise mistake(name, "is abstract, so there are no records of it")
    check_meta(name, document._meta)
    collection = document._meta.get("collection")
    if not isinstance(collection, str) or not COLLECTION.fullmatch(collection):
        raise mistake(name, f"has the collection {collection!r}, which is no part of a path; use a-z, 0-9, _ and -")
    if document._meta.get("allow_inheritance"):
        raise mistake(
            name, "allows inheritance, so the class of a record would have to be guessed; inherit Record twice"
        )
    check_names(document)
    check_fields(document, name, set())


def check_meta(name: str, meta: Mapping[str, Any]) -> None:
    """Raise `InvalidDocument` for a key of `meta` that nobody knows, or a value that it cannot have."""
    for key in meta.keys() - META:
        raise mistake(name, f"has meta[{key!r}], which nobody knows{nearest(key, META)}")
    if type(version := meta.get("version", 1)) is not int or version < 1:
        raise mistake(name, f"has meta['version'] {version!r}, which is no whole number from 1 on")
    if type(public := meta.get("sync_public", False)) is not bool:
        raise mistake(name, f"has meta['sync_public'] {public!r}, which is neither True nor False")
    if not is_list_of_versions(meta.get("sync_versions", [0])):
        raise mistake(name, f"has meta['sync_versions'] {meta['sync_versions']!r}, which is no list of whole numbers")
    for key in ("sorts", "filters", "search"):
        value = meta.get(key, [])
        if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
            raise mistake(name, f"has meta[{key!r}] {value!r}, which is no list of names")


def is_list_of_versions(value: Any) -> bool:
    """Tell whether a value names the versions of a type that clients may have: at least one whole number."""
    return isinstance(value, list | tuple) and bool(value) and all(type(one) is int and one >= 0 for one in value)


def check_names(document: type[Record]) -> None:
    """Raise `InvalidDocument` for a field that takes the place of one of Record's, and for one that is none."""
    inherited = set(dir(Record))
    for kind in document.__mro__[: document.__mro__.index(Record)]:
        for name, value in vars(kind).items():
            check_value(f"{document.__name__}.{name}", value)
            if name in TAKEN_NAMES and isinstance(value, BaseField):
                raise mistake(f"{document.__name__}.{name}", f"has to be called otherwise: {TAKEN_NAMES[name]}")
            is_field = name in Record._fields or isinstance(value, BaseField)
            if is_field and name in inherited and value is not Record._fields.get(name):
                raise mistake(
                    f"{document.__name__}.{name}", f"takes the place of Record.{name}; {OTHER_NAME.get(name, RENAME)}"
                )


TAKEN_NAMES = {"expanded": "`expand` answers there"}
RENAME = "give it another name"
OTHER_NAME = {"id": "the id of a record is a text that its client chooses or the server makes"}


def check_value(name: str, value: Any) -> None:
    """Raise `InvalidDocument` for what was meant as a field: a class without brackets, or one with a comma behind."""
    if isinstance(value, type) and issubclass(value, BaseField):
        raise mistake(name, f"is the class {value.__name__}; write {value.__name__}()")
    if isinstance(value, tuple) and any(isinstance(entry, BaseField) for entry in value):
        raise mistake(name, "is a tuple with a field in it; take the comma behind it away")


def check_fields(document: Any, name: str, seen: set[Any]) -> None:
    """Raise `InvalidDocument` for what the fields of a class, and of those embedded in it, take no argument of."""
    seen.add(document)
    by_stored: dict[str, str] = {}
    for field_name, field in document._fields.items():
        other = by_stored.setdefault(field.db_field, field_name)
        if other != field_name:
            raise mistake(f"{name}.{field_name}", f"is stored as {field.db_field!r}, and so is {name}.{other}")
        for inner in with_entries(field):
            check_field(f"{name}.{field_name}", inner)
            if inner is not field or issubclass(document, me.EmbeddedDocument):
                check_inner(f"{name}.{field_name}", inner)
            embedded = inner.document_type if isinstance(inner, me.EmbeddedDocumentField) else None
            if embedded is not None and embedded not in seen:
                check_meta(embedded.__name__, embedded._meta)
                for attribute, value in vars(embedded).items():
                    check_value(f"{embedded.__name__}.{attribute}", value)
                check_fields(embedded, embedded.__name__, seen)


def with_entries(field: BaseField) -> Iterator[BaseField]:
    """Yield a field and, where it is a list or a map, the fields of what it holds."""
    while field is not None:
        yield field
        field = getattr(field, "field", None)


def check_field(name: str, field: BaseField) -> None:
    """Raise `InvalidDocument` for an argument that nobody knows, and for limits that let nothing pass."""
    kind: Any = type(field)
    for argument in vars(field).keys() - assigned(kind) - ARGUMENTS:
        known = ARGUMENTS | parameters_of(kind)
        raise mistake(name, f"has the argument {argument}, which nobody knows{nearest(argument, known)}")
    for least, most in (("min_length", "max_length"), ("min_value", "max_value")):
        check_limits(name, least, getattr(field, least, None), most, getattr(field, most, None))
    if field.validation is not None and not callable(field.validation):
        raise mistake(name, "has a `validation` that is no function")
    if hasattr(field, "as_string") and not isinstance(field, me.LongField):
        raise mistake(name, f"has the argument as_string, which a LongField takes; this is a {kind.__name__}")
    if isinstance(field.choices, str):
        raise mistake(name, f"has the choices {field.choices!r}, one text; write a list of them")


def check_inner(name: str, field: BaseField) -> None:
    """Raise `InvalidDocument` where it is said of what a field holds who may write or see it."""
    for argument in OF_WHOLE_FIELDS:
        if getattr(field, argument, False):
            raise mistake(name, f"is {argument} inside of a field, which is written as a whole; say it of that field")


def check_limits(name: str, least: str, low: Any, most: str, high: Any) -> None:
    """Raise `InvalidDocument` for two limits that are no numbers, or the wrong way round."""
    for limit, value in ((least, low), (most, high)):
        if value is not None and (isinstance(value, str | bool) or (limit.endswith("length") and not is_length(value))):
            raise mistake(name, f"has {limit} {value!r}, which is no {'length' if 'length' in limit else 'number'}")
    if low is not None and high is not None and low > high:
        raise mistake(name, f"has {least} {low!r} over {most} {high!r}, so nothing would pass")


def is_length(value: Any) -> bool:
    """Tell whether a value can be the length of something."""
    return isinstance(value, int) and value >= 0


@cache
def assigned(kind: type) -> frozenset[str]:
    """Return the attributes that the code of a field class gives its instances.

    What else one has came in by `**kwargs`, of which MongoEngine takes any and keeps them.
    """
    found = {"name"}  # which the class of the document gives
    for base in kind.__mro__:
        functions = [part for value in vars(base).values() for part in functions_in(value)]
        found.update(*(assigned_by(function) for function in functions))
    return frozenset(found) | parameters_of(kind)


def functions_in(value: Any) -> list[FunctionType]:
    """Return the functions that a member of a class consists of."""
    parts = (value.fget, value.fset) if isinstance(value, property) else (value,)
    return [part for part in parts if isinstance(part, FunctionType)]


@cache
def assigned_by(function: FunctionType) -> frozenset[str]:
    """Return the names of the attributes that a function assigns."""
    steps = dis.get_instructions(function)
    return frozenset(step.argval for step in steps if step.opname == "STORE_ATTR")


def parameters_of(kind: type) -> frozenset[str]:
    """Return the names of the arguments that a field class takes."""
    made = (vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base) and base is not object)
    named = {name for init in made for name in inspect.signature(init).parameters}
    return frozenset(named - {"self", "args", "kwargs"})


# --- With what is derived --------------------------------------------------------------------------------------------


def check_values(document: type[Record], schema: Schema) -> None:
    """Raise `InvalidDocument` for a default or a choice that breaks the rules of its own field, at any depth."""
    for name, field in schema.fields.items():
        check_value_of(f"{document.__name__}.{name}", schema, field)


def check_example(document: type[Record], schema: Schema) -> None:
    """Raise `InvalidDocument` for an `example` in `meta` that no record can be made of."""
    example, name = document._meta.get("example"), document.__name__
    if example is None:
        return
    if not isinstance(example, Mapping):
        raise mistake(name, f"has meta['example'] {example!r}, which is no body; write a dict of members")
    try:
        schema.load(dict(example))
    except ValidationFailed as error:
        said = "; ".join(f"{cause.pointer}: {cause.detail}" for cause in error.causes)
        raise mistake(name, f"has meta['example'] {example!r}, which breaks its own rules: {said}") from None


def check_push(document: type[Record]) -> None:
    """Raise `InvalidDocument` for a `push` in `meta` that cannot be called with a record."""
    told, name = document._meta.get("push"), document.__name__
    if told is None:
        return
    if not inspect.isfunction(told) or len(inspect.signature(told).parameters) != 1:
        raise mistake(name, "has meta['push'] that is no function of a record; see docs/push.md")


def check_value_of(name: str, schema: Schema, field: Field) -> None:
    """Raise `InvalidDocument` for a default or a choice of a field, or of what it holds, that is no value of it."""
    check_choices(name, schema, field)
    check_default(name, schema, field)
    if field.entry is not None:
        check_value_of(name, schema, field.entry)
    for member_name, member in field.members.items():
        check_value_of(f"{name}.{member_name}", schema, member)


def check_default(name: str, schema: Schema, field: Field) -> None:
    """Raise `InvalidDocument` for a default that a client could not send."""
    declared = field.declared.default
    if declared is None or declared in (list, dict):
        return
    try:
        value = in_json(lambda: json_default(field), field.default)
    except Exception as error:
        # Whatever an author's function, or MongoEngine with a value of another type, may raise.
        raise mistake(name, f"has a default that is no value of it: {type(error).__name__}: {error}") from error
    if wrong := broken(lambda: schema.value(field).validate_python(value)):
        raise mistake(name, f"has the default {value!r}, which breaks its own rule: {wrong}")


def check_choices(name: str, schema: Schema, field: Field) -> None:
    """Raise `InvalidDocument` for a choice that no client could make."""
    if not field.declared.choices or isinstance(field.declared, me.EnumField):
        return
    for choice in field.declared.choices:
        declared = choice[0] if isinstance(choice, list | tuple) else choice
        stored = field.declared.to_mongo(declared)
        value = in_json(lambda: schema.shaped(field, stored), lambda: stored)  # noqa: B023  called at once
        if wrong := broken(lambda: schema.value(field).validate_python(value)):  # noqa: B023
            raise mistake(name, f"has the choice {value!r}, which breaks its own rule: {wrong}")


def in_json(shape: Callable[[], Any], stored: Callable[[], Any]) -> Any:
    """Return what `shape` gives, or the value as it is `stored` where it is none of its field: a validator says why."""
    try:
        return shape()
    except Unreadable:
        return stored()


def broken(validate: Callable[[], Any]) -> str:
    """Return what a validator says is right where it refuses a value; empty where it takes it."""
    try:
        validate()
    except ValidationError as error:
        return causes(error)[0].detail
    return ""
