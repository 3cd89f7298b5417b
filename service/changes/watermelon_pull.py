"""A pull of WatermelonDB: all that has changed, in one answer, written piece by piece."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import IO, Any

import orjson

from service.changes import corrections
from service.changes.feed import FEW_ITEMS, PIECE_BYTES, WITHIN, Checkpoint, Feed, Item
from service.changes.order import Order
from service.changes.pull import parse_types
from service.changes.watermelon_rows import EMPTY, Columns, columns_of
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.query.paging import bad

LAST_NUMBER = 2**53
"""The end of the whole numbers that JavaScript knows."""
IN_MEMORY = 256 * 1024
"""Bytes of the ids of deleted records that wait for their turn in memory; more of them wait in a file."""


@dataclass(frozen=True, slots=True)
class WatermelonPull:
    """What one request asks for, checked.

    It has all up to the number `since` of the order, but nothing of the tables that are `new` to it, nor the values of
    columns that are `added`, by table. `is_first` asks for rows as `created`.
    """

    account: str
    types: Sequence[RecordType]
    since: int
    new: frozenset[str]
    added: Mapping[str, frozenset[str]]
    is_turbo: bool

    def pieces(self, order: Order) -> Iterator[bytes]:
        """Yield the answer, up to the last number of an order that has come to this moment.

        Raises `CursorExpired`, and `NotAuthenticated` where the account has gone.
        """
        order.check(self.since)
        return self.written(order.seq)

    def written(self, last: int) -> Iterator[bytes]:
        """Yield the JSON of all tables."""
        begin = b'{"changes":{'
        for type in self.types:
            table = Table(self, type, last)
            yield begin + orjson.dumps(type.name) + b":"
            yield from table.pieces()
            begin = b","
        # Without tables there is an object all the same.
        yield (b"" if begin == b"," else begin) + b'},"timestamp":%d}' % last


@dataclass(slots=True)
class Table:
    """What has changed of one type, up to the number `last` of the order, and what comes in any case."""

    asked: WatermelonPull
    type: RecordType
    last: int
    seen: set[str] = field(default_factory=set)

    @property
    def since(self) -> int:
        """The number that the client has come to, for this table."""
        return 0 if self.type.name in self.asked.new else self.asked.since

    def pieces(self) -> Iterator[bytes]:
        """Yield the JSON of the table: its rows, then the ids of what is gone, which come between them."""
        yield b'{"created":[],"updated":[' if not self.asked.is_turbo else b'{"updated":[],"created":['
        with gone_ids() as gone:
            is_first = True
            for rows in self.rows(gone):
                yield (b"" if is_first else b",") + b",".join(rows)
                is_first = False
            yield b'],"deleted":['
            gone.seek(0)
            while piece := gone.read(PIECE_BYTES):
                yield piece
        yield b"]}"

    def rows(self, gone: IO[bytes]) -> Iterator[list[bytes]]:
        """Yield the JSON of some rows at a time, and write the ids of what is gone."""
        columns = columns_of(self.type)
        feed = Feed(self.asked.account, [self.type], WITHIN)
        for items in self.walk(feed, self.since):
            yield from rows_of(columns, self.told_once(items, gone))
        for items in self.corrected(feed) if self.since else ():
            yield from rows_of(columns, self.told_once(items, gone, remembered=False))
        if self.since and (added := self.asked.added.get(self.type.name)):
            for items in self.walk(feed, 0):
                yield from rows_of(columns, self.told_once(items, gone), lambda row: has_value(row, added))

    def walk(self, feed: Feed, since: int) -> Iterator[Sequence[Item]]:
        """Yield what the order tells after a number, up to the last one."""
        for page in feed.pages(Checkpoint(since), self.last):
            yield page.items

    def corrected(self, feed: Feed) -> Iterator[list[Item]]:
        """Yield how the records are now that come in any case."""
        identity = feed.identity()
        for ids in corrections.due(self.asked.account, self.type.name, self.asked.since, FEW_ITEMS):
            found = feed.readable(identity, [(self.type.name, id) for id in ids])
            rows = {id: found.get((self.type.name, id)) for id in ids}
            yield [
                Item(self.type, id, row, "" if row else "deleted", Checkpoint())
                for id, row in rows.items()
                if row is None or self.type.schema.is_readable(row)
            ]

    def told_once(self, items: Iterable[Item], gone: IO[bytes], remembered: bool = True) -> Iterator[Item]:
        """Yield the records that are there, and write the ids of the others; none that was told already.

        In a walk from the beginning nothing comes twice, for it ends where it was when it began. Of what is gone, the
        ids are not `remembered` where nothing that follows has them: a device may have made up any number.
        """
        for item in items:
            if self.since:
                if item.id in self.seen:
                    continue
                if remembered or item.row is not None:
                    self.seen.add(item.id)
            if item.row is not None:
                yield item
            elif not self.asked.is_turbo:
                gone.write((b"," if gone.tell() else b"") + orjson.dumps(item.id))


def gone_ids() -> AbstractContextManager[IO[bytes]]:
    """Return a file for the ids of what is gone, which is none as long as they are few."""
    return tempfile.SpooledTemporaryFile(IN_MEMORY)


def rows_of(
    columns: Columns, items: Iterable[Item], wanted: Callable[[dict[str, Any]], bool] = lambda row: True
) -> Iterator[list[bytes]]:
    """Yield the JSON of the records among some items, as rows, if there are any that are wanted."""
    rows = (columns.row(item.row) for item in items if item.row is not None)
    if found := [orjson.dumps(row) for row in rows if wanted(row)]:
        yield found


def has_value(row: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Tell whether a row has, in one of some columns, another value than a client has in a new column."""
    return any(row.get(name) is not None and row[name] not in EMPTY for name in names)


# --- What is asked for -----------------------------------------------------------------------------------------------


def parse_watermelon_pull(registry: Registry, args: Mapping[str, str], account: str) -> WatermelonPull:
    """Return what the parameters of a query string ask for an account. Raises `BadParameter`."""
    types = parse_types(registry, args.get("tables"), "tables")
    since = parse_number(args.get("last_pulled_at"))
    new, added = parse_migration(args.get("migration", "null"))
    turbo = args.get("turbo", "false")
    if turbo not in ("true", "false") or (turbo == "true" and since):
        raise bad("turbo", "true or false; true only where nothing was pulled before")
    parse_version(args.get("schema_version"))
    return WatermelonPull(account, types, since, new, added, turbo == "true")


def parse_number(text: str | None) -> int:
    """Return the number that a client has come to, 0 for none: JavaScript writes null into a query string as text."""
    if text in (None, "", "null", "undefined"):
        return 0
    assert text is not None  # noqa: S101  for the type checker
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) < LAST_NUMBER):
        raise bad("last_pulled_at", "the `timestamp` of the last pull, or null")
    return int(text)


def parse_version(text: str | None) -> None:
    """Refuse what is no version of a schema. Which one it is makes no difference: a row has the columns of all."""
    if text not in (None, "", "null", "undefined") and not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise bad("schema_version", "a whole number")


def parse_migration(text: str) -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """Return the tables, and the columns by table, that are new to a client since its last pull.

    It names those too that it has for itself, so a name that nobody knows here says nothing.
    """
    try:
        said = orjson.loads(text)
        if said is None:
            return frozenset(), {}
        columns = {part["table"]: frozenset(map(checked_name, part["columns"])) for part in said["columns"]}
        return frozenset(map(checked_name, said["tables"])), columns
    except (ValueError, TypeError, KeyError):
        detail = '{"from": 1, "tables": ["…"], "columns": [{"table": "…", "columns": ["…"]}]}, or null'
        raise bad("migration", detail) from None


def checked_name(name: Any) -> str:
    """Return a name that is text; raises `TypeError`."""
    if not isinstance(name, str):
        raise TypeError(name)
    return name
