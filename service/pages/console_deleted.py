"""What was deleted in the console: looked at, and brought back while its tombstone lasts."""

from typing import Any

from flask import url_for

from service.context import current_registry
from service.core.errors import AlreadyExists, NotFound, Problem, ValidationFailed
from service.http.openapi import operation
from service.http.web import Answer
from service.model.record_type import RecordType
from service.mongo import transactions
from service.mongo.raw import Raw
from service.pages.account import ABOUT
from service.pages.console_records import named_type
from service.pages.console_sign_in import BY_FORM
from service.pages.console_visit import Visitor, for_admins, go
from service.records.undoing import deleted_lately, kept_content, tombstone_of, undo_deletion

DELETED_PATH = "/admin/deleted/<name>"


@operation("List what was deleted in the console", **ABOUT)
@for_admins
def deleted_list_page(visitor: Visitor, name: str) -> Answer:
    """Show the records of a type whose deletion can be undone, the newest first."""
    type = named_type(name)
    visitor.log.note("listed", "deleted", after={"type": name})
    return visitor.shown("console/deleted_list.html", type=type, rows=deleted_lately(type))


@operation("Look at what is left of a record", **ABOUT)
@for_admins
def deleted_page(visitor: Visitor, name: str, id: str) -> Answer:
    """Show until when a tombstone lasts, and whether its record can be brought back."""
    return shown_tombstone(visitor, named_type(name), id)


def shown_tombstone(visitor: Visitor, type: RecordType, id: str, problem: Problem | None = None) -> Answer:
    """Return the page of a tombstone, with the problem that stood in the way. Raises `NotFound` where there is none."""
    tombstone = tombstone_of(type, id)
    if tombstone is None:
        raise NotFound("there is no such tombstone")
    kept, why_not = kept_content(type, tombstone)
    values: dict[str, Any] = {"type": type, "id": id, "tombstone": tombstone, "kept": kept, "why_not": why_not}
    return visitor.shown("console/deleted.html", 200 if problem is None else problem.status, problem=problem, **values)


@operation("Undo a deletion", **BY_FORM, **ABOUT)
@for_admins
def undo_page(visitor: Visitor, name: str, id: str) -> Answer:
    """Bring a record back, and write it into the log."""
    type = named_type(name)
    try:
        transactions.run_where_there_are(lambda: undo_and_note(visitor, type, id))
    except (ValidationFailed, AlreadyExists) as problem:
        return shown_tombstone(visitor, type, id, problem)
    return go(url_for("record_page", name=name, id=id))


def undo_and_note(visitor: Visitor, type: RecordType, id: str) -> Raw:
    """Undo the deletion, and write it into the log."""
    record = undo_deletion(current_registry(), type, id)
    visitor.log.note("restored", type.name, id, record["owner"], after=type.schema.dump(record))
    return record


DELETED_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", DELETED_PATH, deleted_list_page),
    ("GET", f"{DELETED_PATH}/<id>", deleted_page),
    ("POST", f"{DELETED_PATH}/<id>", undo_page),
]
