"""From a query string to a Query: what to filter, how to sort, which page, what to send."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson
from mongoengine import fields as me
from mongoengine.base import BaseField
from pydantic import ValidationError
from pymongo import ASCENDING, DESCENDING

from service.core.errors import BadQuery, MalformedJson, ValidationFailed
from service.documents.record import Raw, Record
from service.model import schema
from service.model.fields import LIST, meaning, once
from service.query.near import NOT_PAGED, parse_near
from service.query.paging import SCORE, Filter, Sort, bad, parse_cursor, sealed, shaped, value_at

Type = type[Record]

LEVELS = 8
TERMS = 100
SEAL_BYTES = 32
KNOWN_QUERIES, LONGEST_KNOWN = 512, 500  # of so many characters
LONGEST_PREFIX = 1000  # MongoDB takes no pattern over 32 KB
LIMIT = 100
DEFAULT_LIMIT = 20

PARAMETERS = frozenset({"where", "sort", "limit", "cursor", "fields", "expand", "count", "search", "scope"})
ITEM_PARAMETERS = frozenset({"fields", "expand"})
SCOPES = ("mine", "shared", "public")


class InvalidDocument(TypeError):
    """A record type declares a sort or a filter that no index can serve; the service does not start."""


@dataclass(frozen=True, slots=True)
class View:
    """What of a record is sent: all fields or only those named, and which references as the record they point to."""

    fields: tuple[str, ...] | None = None
    expand: tuple[str, ...] = ()


WHOLE = View()


@dataclass(frozen=True, slots=True)
class Query:
    """A list that a client asked for, checked and in MongoDB's terms; who may read what is not in it.

    `after` bounds it to what follows the last page. `seal` binds a cursor to the query and the account.
    """

    document: Type
    where: Filter
    sort: Sort
    sort_fields: tuple[BaseField, ...]
    after: Filter
    limit: int
    view: View
    count: bool
    scopes: tuple[str, ...]
    search: str | None
    near: Filter | None
    seal: bytes

    @property
    def projection(self) -> dict[str, int]:
        """Return which stored fields are read: those that go out and those that a cursor is made of."""
        if self.view.fields is None:
            return dict.fromkeys(schema.hidden(self.document), 0)
        fields = self.document._fields
        sorting = {name.partition(".")[0]: 1 for name, _ in self.sort}
        return {fields[name].db_field: 1 for name in self.view.fields} | sorting

    def following(self, cursor: str) -> Filter:
        """Return the filter of what follows the page that ended with `cursor`; raises `BadParameter`."""
        if self.near is not None:
            raise bad("cursor", NOT_PAGED)
        return parse_cursor(self.sort_fields, self.sort, cursor, self.seal, self.search is not None)

    def cursor(self, last: Raw) -> str:
        """Return the cursor of the page that follows the record `last`."""
        if self.search is not None:
            return sealed([last[SCORE], last["_id"]], self.seal)
        values = [value_at(last, name) for name, _ in self.sort]
        return sealed([shaped(field, value) for field, value in zip(self.sort_fields, values, strict=True)], self.seal)


def parse(document: Any, args: Mapping[str, str], account: str, key: bytes) -> Query:
    """Return the query that the parameters `args` ask of `document`, for an `account`; `key` authenticates cursors.

    Raises `BadParameter` for the query string and `BadQuery` for what is inside `where`.
    """
    said = tuple((name, text) for name, text in args.items() if name != "cursor")
    short = sum(len(text) for _, text in said) <= LONGEST_KNOWN
    plan, terms = (planned if short else planned.__wrapped__)(document, said)
    seal = hashlib.blake2b(account.encode() + b"\0" + terms, key=key, digest_size=SEAL_BYTES).digest()
    asked = Query(**plan, after={}, seal=seal)
    return replace(asked, after=asked.following(args["cursor"])) if "cursor" in args else asked


@lru_cache(KNOWN_QUERIES)
def planned(document: Any, said: tuple[tuple[str, str], ...]) -> tuple[dict[str, Any], bytes]:
    """Return what a query is, whoever asks it and from where on, and the bytes that tell it from all others.

    An app sends a handful of query strings all day long, for all who use it, so the last ones are remembered: at most
    5 MB, for long ones are not.
    """
    args = dict(said)
    search = args.get("search")
    if search is not None:
        check_search(document, args)
    scopes = parse_scopes(args.get("scope", "mine" if search is not None else "mine,shared"))
    where = decoded(args.get("where", "{}"))
    nearby = [name for name, condition in where.items() if isinstance(condition, dict) and "$near" in condition]
    if len(nearby) > 1:
        raise BadQuery("$near stands once in `where`")
    near = near_of(document, nearby[0], where[nearby[0]], args) if nearby else None
    sort = parse_sort(document, args.get("sort"))
    plan = {
        "document": document,
        "where": Compiler(document).compile({name: where[name] for name in where if name not in nearby}),
        "sort": sort,
        "sort_fields": tuple(field_stored_at(document, name) for name, _ in sort),
        "limit": parse_limit(args.get("limit")),
        "view": parse_view(document, args),
        "count": parse_count(args.get("count", "false")),
        "scopes": scopes,
        "search": search,
        "near": near,
    }
    return plan, orjson.dumps([document._meta["collection"], where, sort, scopes, search])


def listed(names: Sequence[str] | frozenset[str]) -> str:
    """Return names for a sentence."""
    return ", ".join(sorted(names)) if isinstance(names, frozenset) else ", ".join(names)


# --- The simple parameters -------------------------------------------------------------------------------------------


def parse_limit(text: str | None) -> int:
    """Return how many records a page holds."""
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= LIMIT:
        raise bad("limit", f"a whole number from 1 to {LIMIT}", "out_of_range")
    return int(text)


def parse_count(text: str) -> bool:
    """Return whether the total is asked for."""
    if text not in ("true", "false"):
        raise bad("count", "true or false")
    return text == "true"


def parse_scopes(text: str) -> tuple[str, ...]:
    """Return the scopes of a list, in their fixed order."""
    names = text.split(",")
    if not set(names) <= set(SCOPES) or len(set(names)) != len(names):
        raise bad("scope", f"one or several of {listed(SCOPES)}, with commas")
    return tuple(name for name in SCOPES if name in names)


def parse_view(document: Type, args: Mapping[str, str]) -> View:
    """Return which fields and which expanded references are asked for."""
    if "fields" not in args and "expand" not in args:
        return WHOLE
    public = schema.public_fields(document)
    fields = args.get("fields")
    names = None if fields is None else tuple(dict.fromkeys(("id", *fields.split(","))))
    if names is not None and not set(names) <= set(public):
        raise bad("fields", f"one or several of {listed(tuple(public))}, with commas", "unknown_field")
    expand = tuple(dict.fromkeys(args["expand"].split(","))) if "expand" in args else ()
    able = [name for name, _, _ in schema.references(document)]
    if expand and not able:
        raise bad("expand", "this type has no reference", "unknown_parameter")
    if not set(expand) <= set(able):
        raise bad("expand", f"one or several of {listed(able)}", "unknown_field")
    if names is not None and not set(expand) <= set(names):
        raise bad("expand", "a field that `fields` leaves out cannot be expanded")
    return View(names, expand)


def parse_sort(document: Type, text: str | None) -> Sort:
    """Return the stored fields to sort by, each with its direction, ending on the id."""
    sorts = document._meta["sorts"]
    if text is not None and text not in sorts:
        raise bad("sort", f"one of {listed(sorts)}")
    return sort_keys(document, text or "-updated_at")


def sort_keys(document: Type, text: str) -> Sort:
    """Return the stored fields and directions of a sort such as `-priority,due`; ties end on the id."""
    keys = []
    for name in text.split(","):
        path = stored_path(document, name.removeprefix("-"))
        keys.append((path, DESCENDING if name.startswith("-") else ASCENDING))
    return tuple(keys) if keys[-1][0] == "_id" else (*keys, ("_id", keys[-1][1]))


def check_search(document: Type, args: Mapping[str, str]) -> None:
    """Refuse a search that no text index can serve."""
    if not document._meta["search"]:
        raise bad("search", "this type declares no text fields to search", "unknown_parameter")
    if args.get("scope", "mine") != "mine":
        raise bad("search", "only with scope=mine: the text index is led by the owner")
    if "sort" in args:
        raise bad("search", "takes no sort: the best match comes first")
    if not args["search"].strip() or len(args["search"]) > 500:
        raise bad("search", "1 to 500 characters", "out_of_range")


# --- where -----------------------------------------------------------------------------------------------------------


def decoded(text: str) -> dict[str, Any]:
    """Return the object that the text of `where` holds."""
    try:
        where = schema.decoded(text.encode())
    except (MalformedJson, UnicodeEncodeError) as error:
        raise BadQuery(f"`where`: {error}") from None
    except ValidationFailed:
        raise BadQuery("`where` holds a NUL character, which no record has") from None
    if not isinstance(where, dict):
        raise BadQuery('`where` has to be a JSON object, such as {"pinned": true}')
    return where


class Compiler:
    """Turns a decoded `where` into a MongoDB filter, typed by the fields of `document`; counts terms and levels."""

    def __init__(self, document: Type) -> None:
        self.document = document
        self.terms = 0

    def compile(self, where: Any, level: int = 0) -> Filter:
        """Return the filter of one object of conditions. Raises `BadQuery`."""
        if level > LEVELS:
            raise BadQuery(f"`where` is nested over {LEVELS} levels")
        if not isinstance(where, dict):
            raise BadQuery("a condition has to be an object of fields or of $and, $or, $nor, $not")
        if not where and level:
            self.count()
        clauses = [self.clause(name, condition, level) for name, condition in where.items()]
        return clauses[0] if len(clauses) == 1 else {"$and": clauses} if clauses else {}

    def clause(self, name: str, condition: Any, level: int) -> Filter:
        """Return the filter of one member of an object."""
        if name in ("$and", "$or", "$nor"):
            if not isinstance(condition, list) or not condition:
                raise BadQuery(f"`{name}` takes a list of at least one object")
            return {name: [self.compile(part, level + 1) for part in condition]}
        if name == "$not":
            return {"$nor": [self.compile(condition, level + 1)]}
        if name.startswith("$"):
            raise BadQuery(f"`{name}` is no operator here; there are $and, $or, $nor, $not, and fields")
        field = filter_field(self.document, name)
        return {stored_path(self.document, name): self.condition(name, field, condition, level)}

    def condition(self, name: str, field: BaseField, condition: Any, level: int) -> Any:
        """Return the MongoDB condition on one field: a value, or an object of operators."""
        if not isinstance(condition, dict):
            return {"$eq": self.value(name, field, condition)}
        if not condition:
            raise BadQuery(f"`{name}`: an empty object matches nothing; name an operator")
        return {
            key: value
            for operator, operand in condition.items()
            for key, value in self.operation(name, field, operator, operand, level)
        }

    def operation(
        self, name: str, field: BaseField, operator: str, operand: Any, level: int
    ) -> Iterator[tuple[str, Any]]:
        """Yield MongoDB's form of one operator on one field."""
        if operator == "$not":
            if level >= LEVELS:
                raise BadQuery(f"`where` is nested over {LEVELS} levels")
            if not isinstance(operand, dict):
                raise BadQuery(f"`{name}`: $not takes an object of operators")
            yield "$not", self.condition(name, field, operand, level + 1)
            return
        able = operators_of(field)
        if operator not in able:
            raise BadQuery(f"`{name}`: {operator!r} does not apply; use one of {listed(able | {'$not'})}")
        if operator == "$near":
            raise BadQuery(f"`{name}`: $near stands at the top level of `where`, once and alone on its field")
        if operator in ("$in", "$nin", "$all"):
            yield operator, self.values(name, field, operator, operand)
        elif operator == "$exists":
            yield operator, self.boolean(name, operand)
        elif operator == "$size":
            yield operator, self.size(name, operand)
        elif operator == "$prefix":
            text = self.value(name, field, operand)
            if not isinstance(text, str) or len(text) > LONGEST_PREFIX:
                raise BadQuery(f"`{name}`: $prefix takes a string of at most {LONGEST_PREFIX} characters")
            yield "$regex", "^" + re.escape(text)
        else:
            yield operator, self.value(name, field, operand, operator in ("$eq", "$ne"))

    def value(self, name: str, field: BaseField, value: Any, nullable: bool = True) -> Any:
        """Return one value in BSON form, typed by the field."""
        self.count()
        if value is None and nullable:
            return None
        try:
            return schema.load_stored(entry_field(field), value)
        except ValidationError as error:
            wanted = schema.causes(error)[0].detail
            raise BadQuery(f"`{name}` is compared with {short(value)}; it takes {wanted}") from None

    def values(self, name: str, field: BaseField, operator: str, operand: Any) -> list[Any]:
        """Return the values of a list operator."""
        if not isinstance(operand, list):
            raise BadQuery(f"`{name}`: {operator} takes a list")
        if not operand:
            self.count()
        return [self.value(name, field, value) for value in operand]

    def boolean(self, name: str, operand: Any) -> bool:
        """Return the operand of `$exists`."""
        self.count()
        if not isinstance(operand, bool):
            raise BadQuery(f"`{name}`: $exists takes true or false")
        return operand

    def size(self, name: str, operand: Any) -> int:
        """Return the operand of `$size`."""
        self.count()
        if isinstance(operand, bool) or not isinstance(operand, int) or not 0 <= operand < 2**31:
            raise BadQuery(f"`{name}`: $size takes a whole number from 0")
        return operand

    def count(self) -> None:
        """Count one term."""
        self.terms += 1
        if self.terms > TERMS:
            raise BadQuery(f"`where` has over {TERMS} terms")


def short(value: Any) -> str:
    """Return a value for a sentence, at most 40 characters of it."""
    text = orjson.dumps(value).decode()
    return text if len(text) <= 40 else text[:40] + "…"


@once
def operators_of(field: BaseField) -> frozenset[str]:
    """Return the operators of `where` that make sense on `field`; a list takes those of its entries too."""
    able = meaning(field).compare
    return able | meaning(entry_field(field)).compare if able >= LIST else able


def entry_field(field: BaseField) -> BaseField:
    """Return the field whose values a condition names: of a list its entries."""
    return field.field if isinstance(field, me.ListField) else field


def filter_field(document: Type, path: str) -> BaseField:
    """Return the field at a path that the type lets clients filter; raises `BadQuery` for any other."""
    filters = document._meta["filters"]
    if path not in filters:
        raise BadQuery(f"{path!r} cannot be filtered; these can: {listed(filters)}")
    return field_at(document, path)


@once
def field_at(document: Any, path: str) -> BaseField:
    """Return the field at a dotted path, through embedded documents and lists of them. Raises `InvalidDocument`."""
    name, _, rest = path.partition(".")
    field = schema.public_fields(document).get(name)
    if field is None:
        raise InvalidDocument(f"{document.__name__} declares {path!r}, which is no public field of it")
    if not rest:
        return field
    inner = entry_field(field)
    if not isinstance(inner, me.EmbeddedDocumentField):
        raise InvalidDocument(f"{document.__name__} declares {path!r}, but {name!r} holds no embedded document")
    return field_at(inner.document_type, rest)


@once
def stored_path(document: Any, path: str) -> str:
    """Return the path of a field as MongoDB has it."""
    name, _, rest = path.partition(".")
    field = field_at(document, name)
    if not rest:
        return str(field.db_field)
    return f"{field.db_field}.{stored_path(entry_field(field).document_type, rest)}"


@once
def field_stored_at(document: Any, path: str) -> BaseField:
    """Return the public field at a dotted path as MongoDB has it."""
    name, _, rest = path.partition(".")
    (field,) = [field for field in schema.public_fields(document).values() if field.db_field == name]
    return field_stored_at(entry_field(field).document_type, rest) if rest else field


def near_of(document: Type, name: str, condition: dict[str, Any], args: Mapping[str, str]) -> Filter:
    """Return MongoDB's `$near` on the field `name`."""
    field = filter_field(document, name)
    return {stored_path(document, name): parse_near(field, name, condition, args)}
