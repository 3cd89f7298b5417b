"""What becomes of one document of another software: the record that it would be, or what is in the way of that."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, Literal

import orjson
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from pydantic_core import PydanticCustomError

from service.core.errors import MOST_CAUSES, Cause, Problem, ValidationFailed, pointer
from service.core.spelling import nearest
from service.documents import Account
from service.documents.account import ALIVE, address_key
from service.model.field import Field
from service.model.foreign import (
    EXISTING_TIME,
    Ignored,
    Translation,
    id_text,
    ignored,
    member_at,
    of_text,
    pointed_id,
    unsayable,
)
from service.model.record_type import RecordType
from service.model.validation import Validator, validate, validator
from service.model.values import parse_email, parse_time, parsed
from service.mongo.raw import Raw, in_bson
from service.policy import HELD, Identity
from service.records import store
from service.records.bulk import LARGEST, is_stored_alike
from service.upkeep.source import Found, ImportRefused

OwnerKind = Literal["id", "username", "email"]
Fate = Literal["imported", "there", "differs", "deleted", "refused"]
TIME_TEXT: Validator = validator(parsed(parse_time, {}))


@dataclass(slots=True, eq=False)
class Candidate:
    """A document of the source, the record that it may become, and the `causes` against that.

    `body` is what a client would send of it, `content` the same in BSON form.
    """

    source_id: Any
    id: str = ""
    body: Raw = field(default_factory=dict)
    content: Raw = field(default_factory=dict)
    times: Raw = field(default_factory=dict)
    owner_value: str | None = None
    owner: Identity | None = None
    causes: list[Cause] = field(default_factory=list)

    def record(self, type: RecordType) -> Raw:
        """Return the whole new record."""
        assert self.owner is not None  # noqa: S101  what has none is refused before
        return {**store.new_record(type, self.owner.account, self.content), **self.times}


@dataclass(frozen=True)
class Plan:
    """How the documents of a collection become records of a type.

    `owner` is the field that says whose a record is, by the `owner_kind` of its value; without one all are `owned_by`
    one account. `created` and `updated` are fields with times, the first that a document has counts, and `_id` is the
    moment of an ObjectId. `renames` are names of fields by those in the source. `most_bytes` is what a client may send.
    Raises `ImportRefused` for what cannot be.
    """

    type: RecordType
    owner: str = ""
    owner_kind: OwnerKind = "id"
    owned_by: str = ""
    created: Sequence[str] = ()
    updated: Sequence[str] = ()
    renames: Mapping[str, str] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    most_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        for name in self.renames.values():
            known = self.type.schema.fields.get(name)
            if known is None or not known.is_given_by_clients:
                raise ImportRefused(
                    f"{self.type.name} have no field {name!r} that can be given{self.those_meant(name)}"
                )
        if len(set(self.renames.values())) < len(self.renames):
            raise ImportRefused("two fields cannot become one: --rename has a name twice")

    def those_meant(self, name: str) -> str:
        """Return the question about the name that was meant, or the names that there are."""
        names = [one.name for one in self.type.schema.fields.values() if one.is_given_by_clients]
        return nearest(name, names) or f"; there are {', '.join(names)}"

    @cached_property
    def left_out(self) -> Ignored:
        """What of a document is no content: what was named as such, and what says whose it is and of when."""
        return ignored((*self.ignore, "_id", *(name for name in self.said if not self.is_field(name))))

    @cached_property
    def said(self) -> tuple[str, ...]:
        """The names of the whole fields that say whose a record is and of when."""
        return tuple(name for name in (self.owner, *self.created, *self.updated) if name and "." not in name)

    def is_field(self, name: str) -> bool:
        """Tell whether what stands under a name in the source is a value of the record as well."""
        known = self.type.schema.fields.get(self.renames.get(name, name))
        return known is not None and known.is_given_by_clients

    @cached_property
    def source_names(self) -> Mapping[str, str]:
        """The names in the source of fields that have another one here, by the latter."""
        return {new: old for old, new in self.renames.items()}

    def candidate(self, found: Found) -> Candidate:
        """Return what a document would be, without a look at what else there is."""
        document = found.document
        made = Candidate(document["_id"])
        if not found.whole:
            made.causes.append(Cause("not_bson", "a document that can be decoded", pointer=""))
            return made
        self.translate(document, made)
        self.read_times(document, made)
        self.read_owner(document, made)
        return made

    def translate(self, document: Raw, made: Candidate) -> None:
        """Fill in id, body and content, or the causes against them."""
        translation = Translation()
        renamed = {self.renames.get(name, name): value for name, value in document.items()}
        if len(renamed) < len(document):
            translation.refuse("not_unique", "one field for each name; --ignore the other")
        fields = {name: one for name, one in self.type.schema.fields.items() if not one.is_id}
        left_out = {self.renames.get(name, name): below for name, below in self.left_out.items()}
        made.body = translation.members(fields, renamed, left_out)
        found = id_text(document["_id"])
        if found is None:
            translation.refuse("wrong_type", "an ObjectId, a UUID, a whole number or text", "_id")
        made.id = "-" if found is None else found
        body = {**made.body, "id": made.id}
        if "id" in made.body:
            made.causes.append(Cause("unknown_field", "the id is in _id: --ignore id", pointer="/id"))
        causes = {cause.pointer: cause for cause in self.load(body, made)}
        for cause in (*islice(unsayable(body), MOST_CAUSES), *translation.causes):
            # Of a value of another type the field tells better what would be right.
            if cause.code != "wrong_type" or cause.pointer not in causes:
                causes[cause.pointer] = cause
        made.causes += [self.in_source(cause) for cause in causes.values()]

    def load(self, body: Raw, made: Candidate) -> Sequence[Cause]:
        """Load a body as that of a client, or return the causes against it."""
        with suppress(TypeError, UnicodeEncodeError):
            if len(orjson.dumps(body)) > self.most_bytes:
                return [Cause("too_large", f"at most {self.most_bytes} bytes as JSON", pointer="")]
        try:
            made.content = self.type.schema.load(body)
        except ValidationFailed as problem:
            return problem.causes
        except Problem as problem:
            return [Cause(problem.code, problem.detail, pointer="")]
        return ()

    def in_source(self, cause: Cause) -> Cause:
        """Return a cause with the place in the source."""
        steps = (cause.pointer or "").split("/")
        if len(steps) > 1:
            steps[1] = "_id" if steps[1] == "id" else pointer(self.source_names.get(steps[1], steps[1]))[1:]
        return Cause(cause.code, cause.detail, pointer="/".join(steps))

    # --- Whose, and of when ------------------------------------------------------------------------------------------

    def read_times(self, document: Raw, made: Candidate) -> None:
        """Fill in the times that the source has."""
        created = self.time_in(document, self.created, made)
        updated = self.time_in(document, self.updated, made) or created
        if self.created and created is None:
            self.refuse_missing(self.created[0], made)
        times = {"created_at": created, "updated_at": updated}
        made.times = {name: moment for name, moment in times.items() if moment is not None}

    def time_in(self, document: Raw, names: Sequence[str], made: Candidate) -> datetime | None:
        """Return the time in the first of the fields that a document has."""
        for name in names:
            value = member_at(document, name)
            if value is None:
                continue
            try:
                return time_of_value(value, name)
            except ValidationFailed as problem:
                made.causes += problem.causes
                return None
        return None

    def read_owner(self, document: Raw, made: Candidate) -> None:
        """Fill in what the source says of the owner."""
        if not self.owner:
            made.owner_value = self.owned_by
            return
        value = member_at(document, self.owner)
        if value is None:
            self.refuse_missing(self.owner, made)
            return
        named = pointed_id(value) if self.owner_kind == "id" else value
        made.owner_value = named if isinstance(named, str) and not any(of_text(named)) else None
        if made.owner_value is None:
            detail = "an id, or a reference with one" if self.owner_kind == "id" else "text"
            made.causes.append(Cause("wrong_type", detail, pointer=pointer(*self.owner.split("."))))

    def refuse_missing(self, name: str, made: Candidate) -> None:
        """Say that a document lacks what was named, unless more is known."""
        place = pointer(*name.split("."))
        if all(cause.pointer != place for cause in made.causes):
            made.causes.append(Cause("required", "this field is required", pointer=place))

    def owners(self, candidates: Sequence[Candidate]) -> None:
        """Find the accounts that own the records; a record whose owner is no account is refused."""
        values = {one.owner_value for one in candidates if one.owner_value is not None}
        there = accounts_by(self.owner_kind, values)
        for one in candidates:
            one.owner = there.get(owner_key(self.owner_kind, one.owner_value or ""))
            if one.owner is None and one.owner_value is not None:
                self.without_owner(one)

    def without_owner(self, made: Candidate) -> Fate:
        """Refuse a document whose owner is no account."""
        place = pointer(*self.owner.split(".")) if self.owner else ""
        made.causes.append(Cause("not_found", OWNERS[self.owner_kind], pointer=place))
        return "refused"


OWNERS: Mapping[OwnerKind, str] = {
    "id": "the id of an account",
    "username": "the name of an account",
    "email": "the verified e-mail address of an account",
}
STORED_AS: Mapping[OwnerKind, str] = {"id": "_id", "username": "username_key", "email": "email_key"}


def owner_key(kind: OwnerKind, value: str) -> str:
    """Return how an account has what names it."""
    if kind == "email":
        with suppress(PydanticCustomError, ValueError):
            return address_key(parse_email(value))
    return value.lower() if kind == "username" else value


def accounts_by(kind: OwnerKind, values: set[str]) -> dict[str, Identity]:
    """Return the accounts that live and that some values name, by these.

    An e-mail address that nobody has verified names nobody: anyone may write down that of another, to be given what is
    theirs.
    """
    stored = STORED_AS[kind]
    named = {stored: {"$in": sorted({owner_key(kind, value) for value in values})}, **ALIVE}
    found: dict[str, Identity] = {}
    twice = set()
    for row in Account._get_collection().find(named, {**HELD, stored: 1}):
        if row[stored] in found:
            twice.add(row[stored])
        found[row[stored]] = Identity.of(row)
    return {value: identity for value, identity in found.items() if value not in twice}


def time_of_value(value: Any, name: str) -> datetime:
    """Return the time that a value of the source is; raises `ValidationFailed`."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, ObjectId) and name == "_id":
        return value.generation_time.replace(tzinfo=None)
    if isinstance(value, DatetimeMS):
        raise ValidationFailed([Cause("time", EXISTING_TIME, pointer=pointer(*name.split(".")))])
    found: datetime = validate(TIME_TEXT, value, *name.split("."))
    return found


# --- Beside a record that is there ------------------------------------------------------------------------------------


def is_there(type: RecordType, made: Candidate, record: Raw) -> bool:
    """Tell whether a record is what a document would become, but for what is made anew each time."""
    assert made.owner is not None  # noqa: S101  what has none is refused before
    same = record.get("owner") == made.owner.account
    if record.get("revision") == 1:
        same = same and all(record.get(name) == moment for name, moment in made.times.items())
    fields = [one for one in type.schema.fields.values() if one.is_given_by_clients]
    return same and all(agrees(one, made.body, made.content, record) for one in fields)


def agrees(field: Field, body: Raw, content: Raw, record: Raw) -> bool:
    """Tell whether a field of two documents in BSON form is the same; `body` tells what the first was made of."""
    said = body.get(field.name)
    if said is None and is_made(field):
        return True
    return is_alike(field, said, field.value_in(content), field.value_in(record))


def is_alike(field: Field, said: Any, one: Any, other: Any) -> bool:
    """Tell whether two values of a field, or of an entry of one, are the same."""
    if field.document is not None and all(isinstance(value, dict) for value in (said, one, other)):
        return all(agrees(member, said, one, other) for member in field.members.values())
    if field.is_list and field.entry is not None and field.entry.document is not None:
        lists = (said, one, other)
        if all(isinstance(value, list) and len(value) == len(lists[0]) for value in lists):
            return all(is_alike(field.entry, *entries) for entries in zip(*lists, strict=True))
    if field.is_map and field.entry is not None and field.entry.document is not None:
        maps = (said, one, other)
        if all(isinstance(value, dict) and value.keys() == said.keys() for value in maps):
            return all(is_alike(field.entry, *(value[key] for value in maps)) for key in said)
    return is_stored_alike(one, other)


def is_made(field: Field) -> bool:
    """Tell whether the default of a field is made anew each time, as an id or the time of day is."""
    default = field.declared.default
    return callable(default) and default not in (list, dict)


def is_too_large(record: Raw) -> bool:
    """Tell whether MongoDB has no room for a record with its words."""
    return len(in_bson(record)) > LARGEST
