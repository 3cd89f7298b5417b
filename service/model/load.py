"""From JSON to BSON: the validators of bodies and of single values, and the rules of a document's own `clean`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, NotRequired, Required

from mongoengine import EmbeddedDocument
from mongoengine import fields as me
from mongoengine.base import BaseDocument
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from typing_extensions import TypedDict

from service.core.errors import Cause, ValidationFailed, pointer
from service.core.json_text import MAX_MEMBERS
from service.model.field import Document, Field, embedded_documents
from service.model.fields import INT64, own_rules
from service.model.values import ONE_KEY, check_key, composed, integral, wrong

typed_dict: Any = TypedDict
"""The same, but not for mypy: name and members come from a document."""
STRICT = ConfigDict(strict=True, extra="forbid")
CHECKED_AT_ONCE = 25
"""Entries of a long list or map that are checked at once."""
MOST_UNKNOWN = 20
"""Members beyond its fields of which an embedded document is told that there are none, one by one."""


def annotation(field: Field, limited: bool = True) -> Any:
    """Return the pydantic annotation of one value of `field`, ending in BSON form; without its limits for a query."""
    declared = field.declared
    rules = [*field.meaning.limits(declared), *own_rules(declared)] if limited else []
    value = nested(field, limited)
    if isinstance(declared, me.SortedListField):
        rules.append(AfterValidator(declared.to_mongo))
    if isinstance(declared, me.ListField | me.DictField) and field.is_required and limited:
        rules.append(AfterValidator(not_empty))
    # The last one is asked first, so limits count after it.
    if value is str:
        rules.append(BeforeValidator(composed))
    if value is INT64:
        rules.append(BeforeValidator(integral))
    return Annotated[value, *rules] if rules else value


def nested(field: Field, limited: bool) -> Any:
    """Return the annotation of a field without rules of its own, through what it holds."""
    if field.document is not None:
        members = body_type(field.document.__name__, field.members)
        rules = BeforeValidator(few_members(field.members)), AfterValidator(filler(field.members))
        return Annotated[members, *rules]
    if field.entry is None:
        return field.meaning.value(field.declared)
    entry: Any = annotation(field.entry, limited)
    if field.is_list:
        return Annotated[list[entry], WrapValidator(list_in_pieces)] if is_long(field) else list[entry]
    key: Any = Annotated[str, BeforeValidator(composed), AfterValidator(check_key)]
    return Annotated[dict[key, entry], WrapValidator(map_in_pieces)]


def is_long(field: Field) -> bool:
    """Tell whether a list may have so many entries that not all of its mistakes are looked for."""
    most = field.declared.max_length
    return most is None or most > MAX_MEMBERS


def map_in_pieces(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Return a map as `check` makes it, or the mistakes of its first piece that has some.

    Each mistake takes a kilobyte, and a body has room for half a million.
    """
    if not isinstance(value, dict):
        return check(value)
    made: dict[str, Any] = {}
    pairs = iter(value.items())
    while piece := dict(islice(pairs, CHECKED_AT_ONCE)):
        made |= check(piece)
    if len(made) < len(value):
        raise wrong("named_twice", ONE_KEY)
    return made


def list_in_pieces(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Return a list as `check` makes it, or the mistakes of its first piece that has some."""
    if not isinstance(value, list):
        return check(value)
    made: list[Any] = []
    for start in range(0, len(value), CHECKED_AT_ONCE):
        try:
            made += check(value[start : start + CHECKED_AT_ONCE])
        except ValidationError:
            # With all before it, so that each place is the one in the whole list.
            made = check(value[: start + CHECKED_AT_ONCE])
    return made


def few_members(fields: Mapping[str, Field]) -> Callable[[Any], Any]:
    """Return the rule that an embedded document has hardly more members than there are fields."""
    most = len(fields) + MOST_UNKNOWN

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise wrong("unknown_field", f"no members but {', '.join(fields)}")
        return value

    return check


def not_empty(value: Any) -> Any:
    """Return a list or a map that has an entry: what `required` means for them in MongoEngine."""
    if not value:
        raise wrong("too_short", "at least 1 entry")
    return value


def body_type(name: str, fields: Mapping[str, Field], partial: bool = False) -> Any:
    """Return the TypedDict of a body that makes a whole document, or of a merge patch, whose null clears a field."""
    members: dict[str, Any] = {}
    for member, field in fields.items():
        if field.read_only or (partial and field.fixed):
            members[member] = NotRequired[Annotated[Any, PlainValidator(refuse_read_only)]]
            continue
        value = annotation(field)
        value = value | None if field.is_nullable or (partial and not field.is_named_at_creation) else value
        members[member] = Required[value] if field.is_named_at_creation and not partial else NotRequired[value]
    made: Any = typed_dict(name, members)
    made.__pydantic_config__ = STRICT
    return made


def refuse_read_only(_value: Any) -> None:
    """Refuse a field that only the server sets."""
    raise wrong("read_only", "a field that a client cannot set here")


def filler(fields: Mapping[str, Field]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the function from checked values by name to the BSON form: defaults filled in, no null stored."""
    # To ask each field that has none for its default would take a third of the time of a creation's content.
    plan = [
        (name, field.stored, None if field.declared.default is None else field.default)
        for name, field in fields.items()
    ]

    def fill(values: dict[str, Any]) -> dict[str, Any]:
        stored = {}
        for name, db_field, make in plan:
            value = values.get(name)
            if value is None and make is not None:
                value = make()
            if value is not None:
                stored[db_field] = value
        return stored

    return fill


# --- Rules over several fields ---------------------------------------------------------------------------------------


def has_rules(document: Document, fields: Mapping[str, Field]) -> bool:
    """Tell whether a document, or one embedded in it, has rules over several fields, in a `clean` of its own."""
    return any(kind.clean is not BaseDocument.clean for kind in (document, *embedded_documents(fields)))


def check_rules(document: Document, content: Mapping[str, Any]) -> None:
    """Raise `ValidationFailed` where the document's own `clean`, MongoEngine's place for this, refuses `content`."""
    if found := list(broken_rules(document._from_son(dict(content)))):
        raise ValidationFailed(found)


def broken_rules(instance: Any, *place: str | int) -> Iterator[Cause]:
    """Yield the causes that the `clean` of a document and of those embedded in it name."""
    try:
        instance.clean()
    except me.ValidationError as error:
        yield from rule_causes(error, place)
    for name, value in instance._data.items():
        yield from broken_rules_in(value, *place, name)


def broken_rules_in(value: Any, *place: str | int) -> Iterator[Cause]:
    """Yield the causes that the `clean` of the embedded documents in a value name, in lists and maps of any depth."""
    if isinstance(value, EmbeddedDocument):
        yield from broken_rules(value, *place)
    elif isinstance(value, list | dict):
        for step, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from broken_rules_in(member, *place, step)


def rule_causes(error: me.ValidationError, place: Iterable[str | int]) -> list[Cause]:
    """Return the causes that an author's `clean` named: one for each field of `errors`, or one for the whole."""
    named_fields = {name: str(detail) for name, detail in (error.errors or {}).items()}
    if not named_fields:
        return [Cause("not_valid", error.message, pointer=pointer(*place))]
    return [Cause("not_valid", detail, pointer=pointer(*place, name)) for name, detail in named_fields.items()]
