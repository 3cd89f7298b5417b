"""The table of a record type in the console: its filters, its columns, and what stands in its cells."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from service.core.errors import BadQuery
from service.model.field import Field
from service.model.record_type import FieldPath, RecordType
from service.pages.console_kinds import choices, input_kind
from service.pages.console_values import READ_TEXT

FILTER_ROWS = 2
"""How many conditions a table takes."""
TABLE_OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$prefix", "$in", "$exists")
MOST_COLUMNS = 5
COLUMN_KINDS = frozenset({"text", "long", "int", "float", "bool", "choice", "time", "date", "reference"})
LONGEST_CELL = 80
SHOWN_ANYWAY = frozenset({"id", "owner", "readers", "writers", "created_at", "updated_at", "revision"})


def columns(type: RecordType) -> list[str]:
    """Return the names of the fields that a table shows beside id, owner and time: the first that fit into a cell."""
    fields = type.schema.fields.items()
    found = [name for name, field in fields if name not in SHOWN_ANYWAY and input_kind(field) in COLUMN_KINDS]
    return found[:MOST_COLUMNS]


def cell(value: Any) -> str:
    """Return what stands in a cell."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"


def filter_names(type: RecordType) -> list[str]:
    """Return the names of the fields by which a table can be narrowed."""
    return [name for name, path in type.filters.items() if set(TABLE_OPERATORS) & path.operators]


def where_of(type: RecordType, args: Mapping[str, str]) -> dict[str, Any]:
    """Return the `where` that the conditions of a table say. Raises `BadQuery` for a field that has no filter."""
    clauses = [*clauses_of(type, args)]
    return {"$and": clauses} if len(clauses) > 1 else clauses[0] if clauses else {}


def clauses_of(type: RecordType, args: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the conditions that are filled in."""
    for row in map(str, range(1, FILTER_ROWS + 1)):
        if name := args.get(f"field{row}", ""):
            if name not in type.filters:
                raise BadQuery(f"{name!r} cannot be filtered")
            operator = args.get(f"operator{row}", TABLE_OPERATORS[0])
            yield {name: {operator: operand(type.filters[name], operator, args.get(f"value{row}", ""))}}


def operand(path: FieldPath, operator: str, text: str) -> Any:
    """Return in JSON the operand that somebody typed."""
    if operator == "$exists":
        return text.strip().lower() not in ("false", "no", "0")
    if operator == "$in":
        return [single(path.compared, part.strip()) for part in text.split(",")]
    return single(path.compared, text)


def single(field: Field, text: str) -> Any:
    """Return one value of a field; of a choice the text by which a person knows it will do."""
    kind = input_kind(field)
    if kind == "choice" and text in choices(field):
        return text
    return READ_TEXT.get(kind, str)(text)
