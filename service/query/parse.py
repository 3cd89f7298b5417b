"""From a query string to a Query: what to filter, how to sort, which page, what to send."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from service.core.errors import BadQuery
from service.core.json_text import encode
from service.model.record_type import RecordType, Sort
from service.mongo.raw import Filter, Raw
from service.query.near import NOT_PAGED, parse_near
from service.query.paging import bad, cursor_of, parse_cursor
from service.query.search import RANK, Rank, Search, parse_rank, parse_search
from service.query.where import Compiler, decoded_where, filter_path, listing

SEAL_BYTES = 32
KNOWN_QUERIES, LONGEST_KNOWN = 512, 500  # of so many characters
LIMIT = 100
DEFAULT_LIMIT = 20

PARAMETERS = frozenset({"where", "sort", "limit", "cursor", "fields", "expand", "count", "search", "scope"})
ITEM_PARAMETERS = frozenset({"fields", "expand"})
SCOPES = ("mine", "shared", "public")


@dataclass(frozen=True, slots=True)
class View:
    """What of a record is sent: all fields or only those named, and which references as the record they point to."""

    fields: tuple[str, ...] | None
    expand: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A list that a client asked for, checked and in MongoDB's terms; who may read what is not in it.

    `after` bounds it to what follows the last page, and so does `behind` in a search. `shapes` are the fields whose
    place has to be within a shape. `by_alphabet` tells that what fulfils `where` hangs on the sort's alphabet. `seal`
    binds a cursor to the query and the account. `projection` has the stored fields that are read: those that go out and
    those that a cursor is made of. To name the others, as left out, costs MongoDB more.
    """

    type: RecordType
    where: Filter
    sort: Sort
    after: Filter
    limit: int
    view: View
    projection: Mapping[str, int]
    count: bool
    scopes: tuple[str, ...]
    search: Search | None
    behind: Rank | None
    near: Filter | None
    shapes: tuple[str, ...]
    by_alphabet: bool
    seal: bytes

    def following(self, cursor: str) -> "Query":
        """Return the query of what follows the page that ended with `cursor`; raises `BadParameter`."""
        if self.near is not None:
            raise bad("cursor", NOT_PAGED)
        if self.search is not None:
            return replace(self, behind=parse_rank(cursor, self.seal))
        return replace(self, after=parse_cursor(self.type.schema, self.sort, cursor, self.seal))

    def cursor(self, last: Raw) -> str:
        """Return the cursor of the page that follows the record `last`."""
        if self.search is not None:
            rank: Rank = last[RANK]
            return rank.cursor(self.seal)
        return cursor_of(self.type.schema, self.sort, last, self.seal)


class Parser:
    """Reads what lists of one record type are asked for.

    An app sends a handful of query strings all day long, for all who use it, so what the last ones mean is remembered:
    at most 5 MB, for long ones are not.
    """

    def __init__(self, type: RecordType) -> None:
        self.type = type
        self.remembered = lru_cache(KNOWN_QUERIES)(self.plan)

    def parse(self, args: Mapping[str, str], account: str, key: bytes) -> Query:
        """Return the query that the parameters `args` ask for an `account`; `key` authenticates cursors.

        Raises `BadParameter` for the query string and `BadQuery` for what is inside `where`.
        """
        named = tuple((name, text) for name, text in args.items() if name != "cursor")
        short = sum(len(text) for _, text in named) <= LONGEST_KNOWN
        plan = (self.remembered if short else self.plan)(named)
        seal = hashlib.blake2b(account.encode() + b"\0" + plan.seal, key=key, digest_size=SEAL_BYTES).digest()
        asked = replace(plan, seal=seal)
        return asked.following(args["cursor"]) if "cursor" in args else asked

    def plan(self, named: tuple[tuple[str, str], ...]) -> Query:
        """Return a query, whoever asks it and from where on: its seal is only what tells it from all others."""
        type, args = self.type, dict(named)
        typed = args.get("search")
        scopes = parse_scopes(args.get("scope", "mine,shared" if typed is None else "mine"))
        search = None if typed is None else asked_search(type, typed, scopes, args)
        where = decoded_where(args.get("where", "{}"))
        nearby = [name for name, condition in where.items() if isinstance(condition, dict) and "$near" in condition]
        if len(nearby) > 1:
            raise BadQuery("$near stands once in `where`")
        near = parse_near(filter_path(type, nearby[0]), nearby[0], where[nearby[0]], args) if nearby else None
        sort = parse_sort(type, args.get("sort", "-updated_at"))
        view = parse_view(type, args)
        sorting = (name.partition(".")[0] for name, _ in sort.keys)
        shown = (type.schema.fields[name].stored for name in view.fields or type.schema.fields)
        compiler = Compiler(type)
        return Query(
            type=type,
            where=compiler.compile({name: where[name] for name in where if name not in nearby}),
            sort=sort,
            after={},
            limit=parse_limit(args.get("limit")),
            view=view,
            projection=dict.fromkeys((*shown, *sorting), 1),
            count=parse_count(args.get("count", "false")),
            scopes=scopes,
            search=search,
            behind=None,
            near=near,
            shapes=tuple(sorted(compiler.shapes)),
            by_alphabet=compiler.by_alphabet,
            seal=encode([type.name, where, sort.index_name, sort.keys, scopes, typed]),
        )


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
        raise bad("scope", f"one or several of {listing(SCOPES)}, with commas")
    return tuple(name for name in SCOPES if name in names)


def parse_view(type: RecordType, args: Mapping[str, str]) -> View:
    """Return which fields and which expanded references are asked for."""
    public = type.schema.fields
    fields = args.get("fields")
    names = None if fields is None else tuple(dict.fromkeys(("id", *fields.split(","))))
    if names is not None and not set(names) <= set(public):
        raise bad("fields", f"one or several of {listing(tuple(public))}, with commas", "unknown_field")
    expand = tuple(dict.fromkeys(args["expand"].split(","))) if "expand" in args else ()
    able = tuple(type.references)
    if expand and not able:
        raise bad("expand", "this type has no reference", "unknown_parameter")
    if not set(expand) <= set(able):
        raise bad("expand", f"one or several of {listing(able)}", "unknown_field")
    if names is not None and not {name.partition(".")[0] for name in expand} <= set(names):
        raise bad("expand", "a field that `fields` leaves out cannot be expanded")
    return View(names, expand)


def parse_sort(type: RecordType, text: str) -> Sort:
    """Return the order that is asked for."""
    if text not in type.sorts:
        raise bad("sort", f"one of {listing(tuple(type.sorts))}")
    return type.sorts[text]


def asked_search(type: RecordType, text: str, scopes: tuple[str, ...], args: Mapping[str, str]) -> Search:
    """Return what is searched for in some scopes; raises `BadParameter` for what the words of a type cannot serve."""
    if not type.search:
        raise bad("search", "this type declares no text fields to search", "unknown_parameter")
    if "public" in scopes:
        raise bad("search", "only with scope=mine and scope=shared: what is public is not searched")
    if "sort" in args:
        raise bad("search", "takes no sort: the best match comes first")
    return parse_search(text)
