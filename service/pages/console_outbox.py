"""The outbox in the console: mails, jobs and what else waits or has failed; to be repeated, cancelled or dropped."""

from collections.abc import Callable
from typing import Any

from flask import request

from service.core.errors import NotFound
from service.documents import OutboxItem
from service.documents.outbox_item import STATES
from service.http.arguments import parameters
from service.http.openapi import operation
from service.http.web import Answer
from service.mongo import transactions
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.jobs import JOB
from service.pages.account import ABOUT
from service.pages.console_sign_in import BY_FORM
from service.pages.console_visit import Visitor, for_admins, go

OUTBOX_PATH = "/admin/outbox"
MOST_ITEMS_SHOWN = 100
NOT_SENT = ("waiting", "failed")
OF_A_JOB = ("name", "key")
"""What is told of a job: what it is handed may be anything."""


@operation("Look at what is to be sent and done", parameters=frozenset({"state", "kind"}), **ABOUT)
@for_admins
def outbox_page(visitor: Visitor) -> Answer:
    """Show what waits and what failed, the newest first; codes and links are sealed, and never shown."""
    visitor.log.note("listed", "outbox", after=parameters())
    return shown_outbox(visitor)


def shown_outbox(visitor: Visitor, mistake: str = "") -> Answer:
    """Return the page, narrowed as its address says."""
    args = parameters()
    state, kind = args.get("state", ""), args.get("kind", "")
    rows = items.list_of([state] if state in STATES else NOT_SENT, kind or None, MOST_ITEMS_SHOWN)
    kinds = sorted({str(one) for one in OutboxItem._get_collection().distinct("kind")})
    values: dict[str, Any] = {"state": state, "kind": kind, "kinds": kinds, "states": STATES, "mistake": mistake}
    return visitor.shown("console/outbox.html", rows=[(row, told_of(row)) for row in rows], **values)


def told_of(item: Raw) -> str:
    """Return what a person may see of an item."""
    content = item["content"]
    names = OF_A_JOB if item["kind"] == JOB else content
    return "  ".join(f"{name}: {content[name]}" for name in names if name in content)


@operation("Repeat, cancel or drop what is to be sent or done", **BY_FORM, **ABOUT)
@for_admins
def change_outbox(visitor: Visitor) -> Answer:
    """Do to one item what the button asks for."""
    verb, _, id = request.form.get("do", "").partition(" ")
    work = DONE_TO_ITEMS.get(verb)
    if work is None:
        raise NotFound("there is no such button")
    if not transactions.run_where_there_are(lambda: done_and_noted(visitor, verb, work, id)):
        return shown_outbox(visitor, "not_done")
    return go(OUTBOX_PATH)


def done_and_noted(visitor: Visitor, verb: str, work: Callable[[Raw], int], id: str) -> bool:
    """Do it, and write it into the log; False, and nothing is written, where it is not to be done any more."""
    item = OutboxItem._get_collection().find_one({"_id": id}, {"kind": 1, "account": 1, "content": 1})
    if item is None or not work({"_id": id}):
        return False
    told = {"kind": item["kind"], "about": told_of(item)}
    visitor.log.note(verb, "outbox", id, item.get("account", ""), before=told)
    return True


DONE_TO_ITEMS: dict[str, Callable[[Raw], int]] = {
    "repeat": items.repeat_failed,
    "cancel": lambda chosen: sum(items.cancel(chosen)),
    "drop": items.remove_items,
}
"""What the buttons do; each returns to how many."""
OUTBOX_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", OUTBOX_PATH, outbox_page),
    ("POST", OUTBOX_PATH, change_outbox),
]
