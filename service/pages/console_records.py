"""Records in the console: the table of each type, and all of one record."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from service.context import current_registry
from service.core.errors import NotFound, Problem, Unreadable
from service.documents import File
from service.http.arguments import parameters
from service.http.openapi import operation
from service.http.web import Answer
from service.identity.accounts import account_by_name
from service.identity.memberships import entry_of, member_accounts
from service.model.record_type import RecordType
from service.mongo.raw import Raw
from service.pages.account import ABOUT
from service.pages.console_files import preview
from service.pages.console_maps import marks_of
from service.pages.console_tables import (
    FILTER_ROWS,
    TABLE_OPERATORS,
    cell,
    columns,
    filter_names,
    where_of,
)
from service.pages.console_visit import Visitor, for_admins
from service.query.parse import Parser
from service.records.administering import AllRecords
from service.records.writing import Writer
from service.security import security

PAGE_ROWS = 50
TABLE_PARAMETERS = frozenset(
    {"owner", "sort", "cursor", *(f"{name}{row}" for name in ("field", "operator", "value") for row in (1, 2))}
)


def named_type(name: str) -> RecordType:
    """Return the record type of a name. Raises `NotFound`."""
    found = current_registry().get(name)
    if found is None:
        raise NotFound("there is no such record type")
    return found


def all_records(visitor: Visitor, name: str, owner: str = "") -> AllRecords:
    """Return the records of a type for an admin. Raises `NotFound`."""
    return AllRecords(current_registry(), named_type(name), visitor.who, owner)


# --- To look at them -------------------------------------------------------------------------------------------------


@operation("Look at the records of a type", parameters=TABLE_PARAMETERS, **ABOUT)
@for_admins
def table_page(visitor: Visitor, name: str) -> Answer:
    """Show a page of the table."""
    args = parameters()
    records = all_records(visitor, name, owner := owner_named(args.get("owner", "")))
    view: dict[str, Any] = {"type": records.type, "args": args, "owner": owner, **filters_of(records.type)}
    try:
        rows, following = table_rows(records, args)
    except Problem as problem:
        return visitor.shown("console/table.html", rows=[], problem=problem, **view)
    visitor.log.note("listed", name, owner=owner, after={**args})
    link = f"?{urlencode({**args, 'cursor': following})}" if following else ""
    return visitor.shown("console/table.html", rows=rows, following=link, **view)


def filters_of(type: RecordType) -> dict[str, Any]:
    """Return what the form above a table offers."""
    return {
        "columns": columns(type),
        "cell": cell,
        "filters": filter_names(type),
        "operators": TABLE_OPERATORS,
        "filter_rows": range(1, FILTER_ROWS + 1),
        "is_made_here": not type.is_file,
    }


def table_rows(records: AllRecords, args: Mapping[str, str]) -> tuple[list[Raw], str | None]:
    """Return the rows of a page in JSON, and the cursor of the next one."""
    asked = {name: args[name] for name in ("sort", "cursor") if args.get(name)}
    asked |= {"limit": str(PAGE_ROWS), "where": orjson.dumps(where_of(records.type, args)).decode()}
    query = records.asked(Parser(records.type), asked, security().cursor_key)
    page = records.page(query)
    try:
        return records.told(page, query)
    except (Unreadable, TypeError):
        return records.told_carefully(page, query)


def owner_named(text: str) -> str:
    """Return the id of the account that a name, an address or an id means; what is none is looked for as it is."""
    found = account_by_name(text) if text else None
    return text.strip() if found is None else str(found["_id"])


@operation("Look at a record", **ABOUT)
@for_admins
def record_page(visitor: Visitor, name: str, id: str) -> Answer:
    """Show all that clients see of it, and of a group its members."""
    records = all_records(visitor, name)
    record = found_record(records, id)
    visitor.log.note("read", name, id, record["owner"])
    unreadable = unreadable_at(records, record)
    told = records.type.schema.dump(record) if unreadable is None else {}
    files = {at: preview(visitor, file) for at, file in files_of(records.type, record).items()}
    return visitor.shown(
        "console/record.html",
        type=records.type,
        id=id,
        told=told,
        unreadable=unreadable,
        pretty=pretty,
        references=references_of(records.type, told),
        owner=record["owner"],
        files=files,
        marks=marks_of(records.type, told),
        picture=preview(visitor, id) if records.type.is_file else None,
        members=[(one, entry_of(one, id)) for one in member_accounts(id)] if records.type.is_group else None,
    )


def unreadable_at(records: Writer, record: Raw) -> str | None:
    """Return at which place of a record something is stored that JSON cannot say; None where there is no such place."""
    try:
        records.type.schema.check_readable(record)
    except Unreadable as problem:
        return ".".join(map(str, problem.place))
    return None


def found_record(records: Writer, id: str) -> Raw:
    """Return a record. Raises `NotFound`."""
    record = records.find(id)
    if record is None:
        raise NotFound("there is no such record")
    return record


def pretty(value: Any) -> str:
    """Return a value for people."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def references_of(type: RecordType, told: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return by field what a record refers to: the names of types, and ids."""
    found: dict[str, list[tuple[str, str]]] = {}
    for reference in type.references.values():
        target = str(reference.target._get_collection_name())
        for steps, id in reference.place.json_values(told):
            found.setdefault(str(steps[0]), []).append((target, id))
    return found


def files_of(type: RecordType, record: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that a record refers to, by the pointers of the places."""
    found = {}
    for reference in type.references.values():
        if reference.target is File:
            pointed = reference.place.stored_values(record)
            found.update({"/" + "/".join(map(str, steps)): id for steps, id in pointed})
    return found
