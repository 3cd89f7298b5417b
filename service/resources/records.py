"""The list and the item of any record type."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_plus

from flask import request

from service.context import current_globals
from service.core.errors import Cause, NotFound, Unreadable, ValidationFailed
from service.http.arguments import json_body, json_object, parameters
from service.http.conditional import etag, etag_of_answer, is_known, precondition
from service.http.idempotency import ATOMIC
from service.http.openapi import operation
from service.http.usage import account_usage
from service.http.web import Answer, current_request, json_answer
from service.model.patch import parse as parse_patch
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.query.parse import ITEM_PARAMETERS, PARAMETERS, Parser, View, parse_view
from service.records.reading import MOST_COUNTED
from service.records.writing import Writer
from service.resources.resource import Resource, tombstones_kept
from service.security import security

Answered = tuple[dict[str, Any] | None, int, dict[str, str]]


class RecordResource(Resource):
    """What list and item share: the record type, and its records as the one who asks may see and change them."""

    def __init__(self, registry: Registry, parser: Parser) -> None:
        self.parser = parser
        self.type: RecordType = parser.type
        identity = current_globals().identity
        if parser.type.is_group:
            # Who has founded a group or joined it a moment ago sees it at once.
            identity = security().renewed_identity(identity)
        self.records = Writer(registry, parser.type, identity)

    def result(self, record: Raw, status: int = 200) -> Answered | Answer:
        """Return a record as it now is, with its entity tag; without content if it cannot be told: it is stored."""
        headers = {"ETag": etag(record)}
        if status == 201:
            headers["Location"] = f"/v1/{self.type.name}/{record['_id']}"
        try:
            return json_answer(self.type.schema.dump(record), status, headers.items())
        except (Unreadable, TypeError):
            if self.type.schema.is_readable(record):
                raise
        return None, 204, headers


class RecordList(RecordResource):
    """All records of a type that the identity may see, and where new ones are made."""

    @operation("List records", name="list{types}", parameters=PARAMETERS, answer={200: "page"}, headers={200: ["Link"]})
    def get(self) -> Answer:
        """Return one page of the records that the query asks for."""
        asked = self.parser.parse(parameters(), self.records.identity.account, security().cursor_key)
        with account_usage().using(self.records.identity.account):
            page = self.records.page(asked)
            total = total_members(self.records.total(asked)) if asked.count else {}
            try:
                return page_answer(*self.records.told(page, asked), total)
            except (Unreadable, TypeError):
                return page_answer(*self.records.told_carefully(page, asked), total)

    @operation(
        "Create a record", name="create{type}", body="create", answer={201: "read"}, headers={201: ["Location", "ETag"]}
    )
    def post(self) -> Answered | Answer:
        """Store a new record of this account."""
        return self.result(self.records.create(self.type.schema.load(json_body())), 201)


class RecordItem(RecordResource):
    """One record."""

    @operation(
        "Get a record",
        name="get{type}",
        parameters=ITEM_PARAMETERS,
        answer={200: "view", 304: None},
        headers={200: ["ETag"], 304: ["ETag"]},
        conditional=True,
    )
    def get(self, id: str) -> Answered | Answer:
        """Return the record, or 304 when the client has it already."""
        view = parse_view(self.type, parameters())
        record = self.records.find(id)
        if record is None:
            raise NotFound("there is no such record")
        precondition().check_match(record["revision"])
        try:
            return item_answer(record, self.records.dump([record], view), view)
        except (Unreadable, TypeError):
            self.type.schema.check_readable(record)
            return item_answer(record, self.records.dump([record], view, careful=True), view)

    @operation(
        "Change a record",
        name="change{type}",
        body="patch",
        answer={200: "read"},
        headers={200: ["ETag"]},
        conditional=True,
    )
    def patch(self, id: str) -> Answered | Answer:
        """Apply a merge patch and update operators; all of it or nothing."""
        return self.result(self.records.patch(id, parse_patch(self.type.schema, json_body()), precondition()))

    @operation(
        "Replace a record, or create it under this id",
        name="replace{type}",
        body="create",
        answer={200: "read", 201: "read"},
        headers={200: ["ETag"], 201: ["Location", "ETag"]},
        conditional=True,
    )
    def put(self, id: str) -> Answered | Answer:
        """Store a whole record under an id; sharing stays as it is where the body does not name it."""
        body = json_object()
        if body.get("id", id) != id:
            raise ValidationFailed([Cause("read_only", "the id in the path", pointer="/id")])
        content = self.type.schema.load({**body, "id": id})
        own = {field.stored for name, field in self.type.schema.owner_only_fields.items() if name in body}
        record = self.records.put(id, content, own, precondition())
        return self.result(record, 201 if record["revision"] == 1 else 200)

    @operation("Delete a record", name="delete{type}", answer={204: None}, conditional=True)
    def delete(self, id: str) -> Answered:
        """Leave a tombstone, which keeps the id taken."""
        self.records.delete(id, tombstones_kept(), precondition(), ATOMIC in request.environ)
        return None, 204, {}


def page_answer(items: list[dict[str, Any]], following: str | None, total: Mapping[str, int]) -> Answer:
    """Return a page; raises `TypeError` for what JSON cannot say."""
    links = {"Link": next_link(following)} if following else {}
    return json_answer({"items": items, "next": following, **total}, headers=links.items())


def item_answer(record: Raw, items: list[dict[str, Any]], view: View) -> Answered | Answer:
    """Return a record with its entity tag, or that the client has it; raises `TypeError` for what JSON cannot say."""
    headers = {"ETag": etag_of_answer(record, items[0]) if view.expand else etag(record)}
    return (None, 304, headers) if is_known(headers["ETag"]) else json_answer(items[0], 200, headers.items())


def total_members(total: int) -> dict[str, int]:
    """Return the members that tell a total, exactly or as the least that it is."""
    return {"total": total} if total <= MOST_COUNTED else {"total_at_least": MOST_COUNTED}


def next_link(cursor: str) -> str:
    """Return the `Link` to the next page of the request at hand (RFC 8288)."""
    sent = current_request()
    # What the client has encoded stays as it is; only what must not stand in a header is quoted.
    asked = quote(sent.query_string, safe=QUERY)
    if any(name == "cursor" for name, _ in sent.parameters):
        asked = "&".join(part for part in asked.split("&") if unquote_plus(part.partition("=")[0]) != "cursor")
    return f'<{quote(sent.path)}?{asked}{"&" if asked else ""}cursor={cursor}>; rel="next"'


QUERY = "!$%&'()*+,/:;=?@~"
"""The characters that stand for themselves in a query string (RFC 3986, section 3.4), and the percent sign."""
