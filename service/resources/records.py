"""The list and the item of any record type."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, unquote_plus

from flask import current_app, request
from pymongo.errors import DuplicateKeyError

from service import query
from service.core.errors import (
    AlreadyExists,
    Cause,
    DatabaseUnavailable,
    Forbidden,
    NotFound,
    RevisionMismatch,
    ValidationFailed,
    pointer,
)
from service.documents import Record
from service.documents.record import Raw
from service.http.arguments import json_body, json_object, parameters
from service.http.idempotency import ATOMIC
from service.http.openapi import operation
from service.http.web import current_request
from service.model import schema
from service.model.fields import refers_to
from service.model.patch import Patch
from service.model.patch import parse as parse_patch
from service.mongo import driver, transactions
from service.query import Query, View, near, paging
from service.query.paging import Filter
from service.records.deletion import referrers, refuse_if_referenced, release
from service.resources.resource import Resource
from service.security import Action, current_identity, scope, security

Answer = tuple[dict[str, Any] | None, int, dict[str, str]]


class RecordResource(Resource):
    """What list and item share: the record type."""

    def __init__(self, document: type[Record]) -> None:
        self.document = document


class RecordList(RecordResource):
    """All records of a type that the identity may see, and where new ones are made."""

    @operation("List records", parameters=query.PARAMETERS, answer={200: "page"}, headers={200: ["Link"]})
    def get(self) -> Answer:
        """Return one page of the records that the query asks for."""
        sent = parameters()
        asked = query.parse(self.document, sent, str(current_identity), security().cursor_key)
        condition = readable_and_asked(asked)
        rows = read_page(asked, condition)
        page, more = rows[: asked.limit], len(rows) > asked.limit
        following = asked.cursor(page[-1]) if more and asked.near is None else None
        answer: dict[str, Any] = {"items": dump_all(self.document, page, asked.view), "next": following}
        if asked.count:
            answer["total"] = count(asked, condition)
        return answer, 200, {"Link": next_link(following)} if following else {}

    @operation("Create a record", body="create", answer={201: "read"}, headers={201: ["Location", "ETag"]})
    def post(self) -> Answer:
        """Store a new record of this account."""
        content = schema.load(self.document, json_body())
        check_references(self.document, content)
        return answer(self.document, self.document.insert(str(current_identity), content), 201)


class RecordItem(RecordResource):
    """One record."""

    @operation(
        "Get a record",
        parameters=query.ITEM_PARAMETERS,
        answer={200: "view", 304: None},
        headers={200: ["ETag"], 304: ["ETag"]},
    )
    def get(self, id: str) -> Answer:
        """Return the record, or 304 when the client has it already."""
        view = query.parse_view(self.document, parameters())
        record = find(self.document, "read", id)
        if record is None:
            raise NotFound("there is no such record")
        known = tags("HTTP_IF_NONE_MATCH", weak=True)
        if known is not None and (known == ANY or record["revision"] in known):
            return None, 304, {"ETag": etag(record)}
        return dump_all(self.document, [record], view)[0], 200, {"ETag": etag(record)}

    @operation("Change a record", body="patch", answer={200: "read"}, headers={200: ["ETag"]}, conditional=True)
    def patch(self, id: str) -> Answer:
        """Apply a merge patch and update operators; all of it or nothing."""
        wanted = parse_patch(self.document, json_body())
        action = action_for(self.document, wanted.named)
        check_references(self.document, wanted.values)
        if wanted.direct:
            condition = {"_id": id, **scope(action, self.document), **wanted.guard, **if_match()}
            record = self.document.change(condition, wanted.update)
            if record is not None:
                return answer(self.document, record)
        return answer(self.document, self.computed(id, action, wanted))

    def computed(self, id: str, action: Action, wanted: Patch) -> Raw:
        """Return the record after a patch that needs the current one: read, apply, write if nobody else did."""
        for _ in attempts():
            current = self.current(id, action)
            content = wanted.apply(current)
            named = {self.document._fields[name].db_field for name in wanted.named}
            check_references(self.document, {name: value for name, value in content.items() if name in named})
            condition = {"_id": id, **scope(action, self.document), "revision": current["revision"]}
            record = self.document.rewrite(condition, content, current["owner"])
            if record is not None:
                return record
        raise AssertionError

    def current(self, id: str, action: Action) -> Raw:
        """Return the record that may be changed; raises what stands in the way of it."""
        record = find(self.document, action, id)
        if record is None:
            raise (
                Forbidden("you may read this record, but not do that to it")
                if find(self.document, "read", id)
                else NotFound("there is no such record")
            )
        if (wanted := if_match()) and record["revision"] not in wanted["revision"]["$in"]:
            raise RevisionMismatch(f"the record is at revision {record['revision']}")
        return record

    @operation(
        "Replace a record, or create it under this id",
        body="create",
        answer={200: "read", 201: "read"},
        headers={200: ["ETag"], 201: ["Location", "ETag"]},
        conditional=True,
    )
    def put(self, id: str) -> Answer:
        """Store a whole record under an id; sharing stays as it is where the body does not name it."""
        body = json_object()
        if body.get("id", id) != id:
            raise ValidationFailed([Cause("read_only", "the id in the path", pointer="/id")])
        content = schema.load(self.document, {**body, "id": id})
        check_references(self.document, content)
        sharing = {"readers", "writers"} & set(body)
        if tags("HTTP_IF_NONE_MATCH") is not None:
            return self.create_only(content)
        if tags("HTTP_IF_MATCH") is None and not sharing and not fixed_fields(self.document):
            record = self.replace_or_create(id, content)
        else:
            record = self.replace_current(id, content, sharing)
        return answer(self.document, record, 201 if record["revision"] == 1 else 200)

    def create_only(self, content: Raw) -> Answer:
        """Store a record that must not be there yet."""
        if tags("HTTP_IF_NONE_MATCH") != ANY:
            raise RevisionMismatch("on PUT, If-None-Match takes `*` only")
        try:
            return answer(self.document, self.document.insert(str(current_identity), content), 201)
        except DuplicateKeyError:
            raise RevisionMismatch("there is a record with this id") from None

    def replace_or_create(self, id: str, content: Raw) -> Raw:
        """Replace the record if it may be written, create it if there is none."""
        for _ in attempts():
            try:
                return self.document.put({"_id": id, **scope("write", self.document)}, content, str(current_identity))
            except DuplicateKeyError:
                self.refuse_taken(id)
        raise AssertionError

    def refuse_taken(self, id: str) -> None:
        """Raise why no record can be made under this id; return where it can be replaced, for it was just made."""
        # In a transaction a duplicate has undone it already, and nothing more can be read in it.
        look = partial(transactions.outside, driver.find_one, self.document.stored())
        if look({"_id": id, **scope("write", self.document)}):
            if transactions.is_active():
                raise DatabaseUnavailable("somebody else made the record at the same moment")
        elif look({"_id": id, **scope("read", self.document)}):
            raise Forbidden("you may read this record, but not write it")
        else:
            raise AlreadyExists("the id is taken")

    def replace_current(self, id: str, content: Raw, sharing: set[str]) -> Raw:
        """Replace the record that `If-Match` or new sharing is about."""
        action: Action = "own" if sharing else "write"
        for _ in attempts():
            try:
                current = self.current(id, action)
            except NotFound:
                if tags("HTTP_IF_MATCH") is not None:
                    raise RevisionMismatch("there is no such record") from None
                return self.document.insert(str(current_identity), content)
            refuse_change_of_fixed(self.document, content, current)
            kept = {name: current.get(name, []) for name in {"readers", "writers"} - sharing}
            condition = {"_id": id, **scope(action, self.document), "revision": current["revision"]}
            record = self.document.rewrite(condition, {**content, **kept}, current["owner"])
            if record is not None:
                return record
        raise AssertionError

    @operation("Delete a record", answer={204: None}, conditional=True)
    def delete(self, id: str) -> Answer:
        """Leave a tombstone, which keeps the id taken."""
        keep = timedelta(days=current_app.config["TOMBSTONE_DAYS"])
        if referrers(self.document):
            self.current(id, "write")
            refuse_if_referenced(self.document, [id])
            if ATOMIC in request.environ:
                release(self.document, [id], keep)
            else:
                # Outside of the transaction of an idempotency key: it may be large, and done twice it does no harm.
                transactions.outside(release, self.document, [id], keep)
        for _ in attempts():
            if self.document.bury({"_id": id, **scope("write", self.document), **if_match()}, keep):
                break
            self.current(id, "write")
        return None, 204, {}


# --- Reading ---------------------------------------------------------------------------------------------------------


def find(document: type[Record], action: Action, id: str) -> Raw | None:
    """Return the record with this id if the identity may do `action` with it."""
    return driver.find_one(document.stored(), {"_id": id, **scope(action, document)})


def read_page(asked: Query, condition: Filter) -> list[Raw]:
    """Return the rows of a page, and one more if there is a next page."""
    collection = asked.document.stored()
    if asked.near is not None:
        return list(collection.find({"$and": [condition, asked.near]}, asked.projection, limit=asked.limit))
    if asked.search is not None:
        return list(collection.aggregate(search_stages(asked)))
    bounded = {"$and": [condition, asked.after]} if asked.after else condition
    # Left to itself MongoDB may take the index of a filter, and then sorts in memory.
    hint = paging.index_keys(asked.sort)
    return driver.find(collection, bounded, asked.projection, asked.sort, asked.limit + 1, hint)


def readable_and_asked(asked: Query) -> Filter:
    """Return the filter of what the identity may read and the query asks for."""
    allowed = scope("read", asked.document, asked.scopes)
    return {"$and": [allowed, asked.where]} if asked.where else allowed


def searched(asked: Query) -> Filter:
    """Return the filter of a text search: its index is led by the owner."""
    return {"$and": [{**scope("own", asked.document), "$text": {"$search": asked.search}}, asked.where]}


def search_stages(asked: Query) -> list[dict[str, Any]]:
    """Return the aggregation of a text search in the account's own records, best match first."""
    return [
        {"$match": searched(asked)},
        {"$set": {paging.SCORE: {"$meta": "textScore"}}},
        *([{"$match": asked.after}] if asked.after else []),
        {"$sort": {paging.SCORE: -1, "_id": 1}},
        {"$limit": asked.limit + 1},
    ]


def count(asked: Query, condition: Filter) -> int:
    """Return how many records the whole query has."""
    if asked.search is not None:
        condition = searched(asked)
    elif asked.near is not None:
        condition = {"$and": [condition, near.within(asked.near)]}
    return asked.document.stored().count_documents(condition)


def dump_all(document: type[Record], rows: Iterable[Raw], view: View) -> list[dict[str, Any]]:
    """Return stored records turned into JSON form, with the references that `view` expands as records."""
    shape = schema.shaper(document)
    items = [shape(row) for row in rows]
    if view.fields is not None:
        items = [{name: item[name] for name in view.fields} for item in items]
    for name in view.expand:
        target = refers_to(document._fields[name])
        found = readable(target, {id for item in items for id in as_list(item[name])})  # noqa: A001
        for item in items:
            value = item[name]
            item[name] = [found.get(id) for id in value] if isinstance(value, list) else found.get(value)  # noqa: A001
    return items


def readable(target: type[Record], ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return those of the records named that the identity may read, in JSON form by id: one query."""
    wanted = list(ids)
    rows = driver.find(target.stored(), {"_id": {"$in": wanted}, **scope("read", target)}) if wanted else ()
    return {row["_id"]: schema.dump(target, row) for row in rows}


def as_list(value: Any) -> list[Any]:
    """Return the ids in a reference field: none, one or many."""
    return value if isinstance(value, list) else [] if value is None else [value]


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


def attempts() -> Iterator[int]:
    """Yield tries of a change that is computed on the current record, while others change it too.

    Raises `DatabaseUnavailable` when all are used up, so that a loop over it ends with success or with a problem.
    """
    yield from range(50)
    raise DatabaseUnavailable("the record is changed by too many at once")


# --- Writing ---------------------------------------------------------------------------------------------------------


def answer(document: type[Record], record: Raw, status: int = 200) -> Answer:
    """Return a record as it now is, with its ETag."""
    headers = {"ETag": etag(record)}
    if status == 201:
        headers["Location"] = f"/v1/{document._meta['collection']}/{record['_id']}"
    return schema.dump(document, record), status, headers


def etag(record: Raw) -> str:
    """Return the entity tag of a record: its revision."""
    return f'"{record["revision"]}"'


def if_match() -> Filter:
    """Return the condition that `If-Match` sets (RFC 9110, section 13.1.1): one of the revisions named."""
    named = tags("HTTP_IF_MATCH")
    return {} if named is None or named == ANY else {"revision": {"$in": named}}


ANY = [-1]
"""What `*` stands for among entity tags: any revision."""


def tags(header: str, weak: bool = False) -> list[int] | None:
    """Return the revisions that a conditional `header` of WSGI's names, `ANY` for `*`, None where it is not there.

    A tag that is none of ours names no revision. Only a `weak` comparison takes weak tags (RFC 9110, section 8.8.3.2).
    """
    text = current_request().environ.get(header)
    if text is None:
        return None
    if text.strip() == "*":
        return ANY
    return [int(tag) for prefix, tag in ENTITY_TAG.findall(text) if (weak or not prefix) and REVISION.fullmatch(tag)]


ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"')
REVISION = re.compile(r"[0-9]{1,18}")


def refuse_change_of_fixed(document: type[Record], content: Raw, current: Raw) -> None:
    """Raise `ValidationFailed` where a replacement changes what is said once, at creation."""
    stored = {name: document._fields[name].db_field for name in fixed_fields(document)}
    changed = [name for name, db_field in stored.items() if content.get(db_field) != current.get(db_field)]
    if changed:
        raise ValidationFailed(Cause("read_only", "what it was at creation", pointer=pointer(name)) for name in changed)


def fixed_fields(document: type[Record]) -> list[str]:
    """Return the names of the fields, beside the id, that a client says once, at creation."""
    return [name for name, field in schema.public_fields(document).items() if getattr(field, "fixed", False)]


def action_for(document: type[Record], names: Iterable[str]) -> Action:
    """Return what a change of these fields needs: only the owner changes who may see a record."""
    return "own" if any(getattr(document._fields[name], "owner_only", False) for name in names) else "write"


def check_references(document: type[Record], content: Mapping[str, Any]) -> None:
    """Refuse references to records that are not there or that the identity may not read: one query per relation."""
    missing = []
    for name, field, target in schema.references(document):
        if ids := as_list(content.get(field.db_field)):
            rows = driver.find(target.stored(), {"_id": {"$in": ids}, **scope("read", target)}, {"_id": 1})
            there = {row["_id"] for row in rows}
            many = isinstance(content[field.db_field], list)
            missing += [
                Cause(
                    "not_found",
                    "the id of a record that you may read",
                    pointer=pointer(name, index) if many else pointer(name),
                )
                for index, id in enumerate(ids)  # noqa: A001
                if id not in there
            ]
    if missing:
        raise ValidationFailed(missing)
