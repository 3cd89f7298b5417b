"""A push of WatermelonDB: what a device has made, changed and deleted; in one transaction, unless it is very large."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, Literal

from service.changes import compaction, corrections, order
from service.changes.feed import Feed
from service.changes.push_parts import in_turn, parts_of
from service.changes.watermelon_rows import OWN_COLUMNS, columns_of
from service.core.errors import (
    MOST_CAUSES,
    Cause,
    Problem,
    SyncConflict,
    TooLarge,
    ValidationFailed,
    pointer,
)
from service.core.json_text import MAX_MEMBERS, as_object, decode_rows
from service.documents import Change
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo import transactions
from service.policy import Identity
from service.records.bulk import Bulk, BulkWrite, Target

RowKind = Literal["created", "updated", "deleted"]
ROW_KINDS: tuple[RowKind, ...] = ("created", "updated", "deleted")
MOST_ROWS = 10_000
LONGEST = 30.0
"""Seconds that a transaction of a push may take."""
MOST_ROW_CAUSES = 10
"""Most causes that are told of one row, as far as they are many by the sender's will."""
MOST_LOOKED_UP = 1000
"""Most changes of one query."""
CHANGED = "a record that has not changed since `last_pulled_at`"


@dataclass(frozen=True, slots=True, eq=False)
class PushedRow:
    """A row as it was pushed: of one that is deleted there is the id alone. `wrong` is what nobody could store."""

    type: RecordType
    kind: RowKind
    index: int
    id: str
    row: Mapping[str, Any]
    wrong: Sequence[Cause] = ()

    @property
    def place(self) -> str:
        """The pointer to it in the body."""
        return pointer(self.type.name, self.kind, self.index)

    def values(self, is_there: bool) -> dict[str, Any] | None:
        """Return what it says, in JSON form: of a row that was changed only what it names; None if it is deleted.

        Raises `ValidationFailed`.
        """
        if self.wrong:
            raise ValidationFailed(self.wrong)
        if self.kind == "deleted":
            return None
        fields = self.type.schema.fields
        said = self.row.keys() - OWN_COLUMNS - {"id"}
        if is_there and self.kind == "updated" and isinstance(changed := self.row.get("_changed"), str):
            said &= set(changed.split(","))
        if unknown := sorted(name for name in said if name not in fields):
            causes = (Cause("unknown_field", "there is no such column", pointer=pointer(name)) for name in unknown)
            raise ValidationFailed(islice(causes, MOST_ROW_CAUSES))
        return columns_of(self.type).values(self.row, [name for name in said if fields[name].is_given_by_clients])


@dataclass(frozen=True, slots=True)
class WatermelonPush:
    """What one request brings, from a device that has all up to the number `since` of the order."""

    registry: Registry
    identity: Identity
    since: int
    rows: Sequence[PushedRow]
    keep: timedelta

    def done(self) -> list[tuple[PushedRow, Problem]]:
        """Store it, and return the rows that are refused, with what is wrong with each.

        Raises `SyncConflict`, and nothing is done, where others have changed what it changes.
        """
        order.order_in(order.lease_document()).check(self.since)
        refused: list[tuple[PushedRow, Problem]] = []
        try:
            for rows, later in self.parts():
                refused += transactions.run(partial(self.stored, rows, later), LONGEST)
        except Conflicting as conflicting:
            # Most of them come by themselves with the next pull; who has come past them already is told once more.
            corrections.remember(self.identity.account, map(record_of, conflicting.rows), self.keep)
            raise SyncConflict(
                "records of this push have changed since the last pull; pull, and push what is left",
                (Cause("conflict", CHANGED, pointer=row.place) for row in conflicting.rows),
            ) from None
        return refused

    def parts(self) -> Iterator[tuple[Sequence[PushedRow], Collection[Target]]]:
        """Yield what is done in one transaction each, with what will be made after it: all at once, if it fits.

        Raises `Conflicting` before the first one. Where somebody changes a record between two of them, what was done
        is: the device pulls, and pushes all once more, of which these rows change nothing.
        """
        parts = list(parts_of(self.rows, lambda row: row.row))
        if len(parts) > 1:
            writes = self.decided(Bulk(self.registry, self.identity, self.keep, self.clearable), self.rows)
            parts = list(parts_of(in_turn(self.registry, writes), lambda row: row.row))
            later = {(row.type.document, row.id) for row, write in writes.items() if write.action == "create"}
        else:
            later = set()
        for part in parts:
            later -= {(row.type.document, row.id) for row in part}
            yield part, frozenset(later)

    def stored(self, rows: Sequence[PushedRow], later: Collection[Target]) -> list[tuple[PushedRow, Problem]]:
        """Do the work of a transaction."""
        bulk = Bulk(self.registry, self.identity, self.keep, self.clearable, later)
        writes = self.decided(bulk, rows)
        bulk.store(list(writes.values()))
        told = (
            record_of(row) for row, write in writes.items() if write.problem is not None or is_otherwise(row, write)
        )
        corrections.remember(self.identity.account, told, self.keep)
        return [(row, write.problem) for row, write in writes.items() if write.problem is not None]

    def decided(self, bulk: Bulk, rows: Sequence[PushedRow]) -> dict[PushedRow, BulkWrite]:
        """Return what is to be done about each row; raises `Conflicting`."""
        writes = {row: BulkWrite(row.type, row.id, None) for row in rows}
        bulk.read(writes.values())
        for row, write in writes.items():
            try:
                write.values = row.values(write.current is not None)
                bulk.decide(write)
            except ValidationFailed as problem:
                write.refuse(problem)
        if found := self.conflicts(writes):
            raise Conflicting(found)
        return writes

    # --- What others have done ---------------------------------------------------------------------------------------

    def conflicts(self, writes: Mapping[PushedRow, BulkWrite]) -> list[PushedRow]:
        """Return the rows that would change what has changed since the last pull, or has ended for the account.

        A row that changes nothing, as all do when a push comes again, is in nobody's way.
        """
        found = self.changed(
            {row: write for row, write in writes.items() if write.current is not None and write.action}
        )
        gone = [row for row, write in writes.items() if write.taken and row.kind != "deleted" and not row.wrong]
        if gone:
            ended = self.feed.ended(map(record_of, gone))
            found += [row for row in gone if record_of(row) in ended]
        return found

    def changed(self, writes: Mapping[PushedRow, BulkWrite]) -> list[PushedRow]:
        """Return those of the rows whose records are not as they were when the device pulled."""
        told: dict[str, Mapping[str, Any]] = {}
        ids = [compaction.change_id(*record_of(row)) for row in writes]
        for begin in range(0, len(ids), MOST_LOOKED_UP):
            some = {"_id": {"$in": ids[begin : begin + MOST_LOOKED_UP]}, "seq": {"$lte": self.since}}
            told |= {change["_id"]: change for change in Change._get_collection().find(some, {"revision": 1})}
        return [
            row
            for id, (row, write) in zip(ids, writes.items(), strict=True)
            if write.current is not None and told.get(id, {}).get("revision") != write.current["revision"]
        ]

    def clearable(self, targets: Collection[Target]) -> set[Target]:
        """Return what has ended for the account, or is deleted by the device itself.

        Of a reference to that a row is cleared, as if it had been earlier.
        """
        by_document = {type.document: name for name, type in self.registry.items()}
        known = {target: (by_document[target[0]], target[1]) for target in targets if target[0] in by_document}
        ended = self.feed.ended(known.values()) if known else set()
        ended |= {record_of(row) for row in self.rows if row.kind == "deleted"}
        return {target for target, name in known.items() if name in ended}

    @property
    def feed(self) -> Feed:
        """What the account hears of."""
        return Feed(self.identity.account, self.registry.values(), ())


def is_otherwise(row: PushedRow, write: BulkWrite) -> bool:
    """Tell whether a device has a record otherwise, although nothing had to be done.

    When a push comes again, its pull before has brought what the first one has done; but not into the columns that it
    has changed itself, of which `updated_at` is one. What is done here it is told by the next pull anyhow.
    """
    if write.action or write.current is None or row.kind == "deleted" or not row.type.schema.is_readable(write.current):
        return False
    return not columns_of(row.type).has_all_of(write.current, row.row)


class Conflicting(Exception):
    """Carries rows that stand in the way out of the transaction."""

    def __init__(self, rows: Sequence[PushedRow]) -> None:
        super().__init__()
        self.rows = rows


def record_of(row: PushedRow) -> corrections.Named:
    """Return the type and the id of a row."""
    return row.type.name, row.id


# --- What is sent ----------------------------------------------------------------------------------------------------


def parse_rows(registry: Registry, text: bytes) -> list[PushedRow]:
    """Return the rows of a body.

    Raises `MalformedJson`, `ValidationFailed` and `TooLarge` for what no row can be made of, whatever is in it.
    """
    body, unstorable = decode_rows(text)
    found: list[PushedRow] = []
    wrong: list[Cause] = []
    for table, said in as_object(body).items():
        for kind, rows in parts_of_table(table, said, wrong):
            if rows and table not in registry:
                wrong.append(Cause("unknown_table", f"one of {', '.join(registry)}", pointer=pointer(table)))
                continue
            if len(found) + len(rows) > MOST_ROWS:
                raise TooLarge(f"there are more than {MOST_ROWS:,} rows")
            for index, row in enumerate(rows):
                if (cause := obstacle_to_row(kind, row)) is None:
                    found.append(row_of(registry[table], kind, index, row, unstorable(row)))
                elif len(wrong) < MOST_CAUSES:
                    wrong.append(replace(cause, pointer=pointer(table, kind, index) + (cause.pointer or "")))
    wrong += islice(named_twice(found), MOST_CAUSES)
    if wrong:
        raise ValidationFailed(wrong)
    return found


def parts_of_table(table: str, said: Any, wrong: list[Cause]) -> Iterator[tuple[RowKind, list[Any]]]:
    """Yield what was done to rows of a table with these rows; what is no such thing is added to `wrong`."""
    if not isinstance(said, dict):
        wrong.append(Cause("wrong_type", "an object with created, updated and deleted", pointer=pointer(table)))
        return
    wrong += (
        Cause("unknown_field", f"one of {', '.join(ROW_KINDS)}", pointer=pointer(table, name))
        for name in islice(said.keys() - {*ROW_KINDS}, MOST_CAUSES)
    )
    for kind in ROW_KINDS:
        rows = said.get(kind, [])
        if isinstance(rows, list):
            yield kind, rows
        else:
            wrong.append(Cause("wrong_type", "a list", pointer=pointer(table, kind)))


def obstacle_to_row(kind: RowKind, row: Any) -> Cause | None:
    """Return why no row can be made of what stands in its place; None where one can."""
    if kind == "deleted":
        return None if isinstance(row, str) else Cause("wrong_type", "an id", pointer="")
    if not isinstance(row, dict) or len(row) > MAX_MEMBERS:
        return Cause("wrong_type", f"a row of at most {MAX_MEMBERS} columns", pointer="")
    return None if isinstance(row.get("id"), str) else Cause("wrong_type", "an id", pointer="/id")


def row_of(type: RecordType, kind: RowKind, index: int, row: Any, wrong: Sequence[Cause]) -> PushedRow:
    """Return a row that was sent."""
    id, content = (row, {}) if kind == "deleted" else (row["id"], row)
    # Half a character in an id: no record can have it.
    return PushedRow(type, kind, index, id.encode(errors="replace").decode() if wrong else id, content, wrong)


def named_twice(rows: Iterable[PushedRow]) -> Iterator[Cause]:
    """Yield a cause for each row whose record another one is about as well."""
    seen: set[corrections.Named] = set()
    for row in rows:
        if record_of(row) in seen:
            yield Cause("twice", "each record once", pointer=row.place)
        seen.add(record_of(row))
