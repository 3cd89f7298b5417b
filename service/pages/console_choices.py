"""What a reference can be set to, searched while somebody types: what the owner of the record may refer to."""

import orjson
from flask import render_template

from service.context import current_registry
from service.core.errors import NotFound
from service.http.arguments import parameters
from service.http.openapi import operation
from service.http.web import Answer
from service.identity.accounts import accounts_beginning
from service.model.record_type import RecordType
from service.pages.account import ABOUT, as_page
from service.pages.console_records import named_type, owner_named
from service.pages.console_tables import cell, columns
from service.pages.console_visit import CONSOLE_POLICY, Visitor, for_admins
from service.query.parse import Parser
from service.records.acting import identity_of
from service.records.reading import Reader
from service.security import security

MOST_CHOICES = 10
LONGEST_SEARCHED = 100

Choice = tuple[str, str]
"""An id, and what a person knows it by."""


@operation("Find what a reference can be set to", takes_others=True, **ABOUT)
@for_admins
def choices_part(visitor: Visitor, name: str) -> Answer:
    """Return the options of an input: its text comes under its own name, which `input` says."""
    sent = parameters()
    text = sent.get(sent.get("input", ""), "").strip()[:LONGEST_SEARCHED]
    if name == "accounts":
        found = accounts_like(text)
    else:
        found = records_like(named_type(name), owner_named(sent.get("owner", "")) or visitor.who.account, text)
    visitor.log.note("searched", name, after={"text": text})
    return as_page(render_template("console/choices.html", choices=found), CONSOLE_POLICY)


def accounts_like(text: str) -> list[Choice]:
    """Return accounts whose name begins with a text."""
    return [(row["_id"], row.get("username", "")) for row in accounts_beginning(text, MOST_CHOICES)]


def records_like(type: RecordType, owner: str, text: str) -> list[Choice]:
    """Return records that an owner may refer to: those that a text finds, the newest where there is no text."""
    try:
        who = identity_of(owner)
    except NotFound:
        return []
    asked = {"limit": str(MOST_CHOICES), **(narrowed(type, text) if text else {})}
    reader = Reader(current_registry(), type, who)
    query = Parser(type).parse(asked, who.account, security().cursor_key)
    items, _ = reader.told_carefully(reader.page(query), query)
    shown = columns(type)
    return [(item["id"], next((cell(item[name]) for name in shown if item.get(name)), item["id"])) for item in items]


def narrowed(type: RecordType, text: str) -> dict[str, str]:
    """Return the parameters of a list that a text narrows: by a search, else by how the first text it has begins."""
    if type.search:
        return {"search": text, "scope": "mine,shared"}
    able = [name for name in columns(type) if name in type.filters and "$prefix" in type.filters[name].operators]
    return {"where": orjson.dumps({next(iter(able), "id"): {"$prefix": text}}).decode()}
