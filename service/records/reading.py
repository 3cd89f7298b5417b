"""Reading records of one type as somebody may: one, a page, a total, with the records that they refer to."""

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any

import orjson
from pymongo.errors import OperationFailure

from service.core.errors import TooExpensive, Unreadable
from service.core.log import log
from service.documents.account import Account
from service.documents.record import WORDS
from service.model.record_type import RecordType, Reference
from service.model.registry import Registry
from service.mongo import deadline, driver
from service.mongo.driver import Selection
from service.mongo.portion import PORTION_BYTES, Portion, portion_of
from service.mongo.raw import Filter, Raw
from service.policy import Action, Identity, entries, scope
from service.query import near
from service.query.parse import Query, View
from service.records import people, search_words, searching
from service.records.slow_lists import SLOW_AFTER, SLOW_LISTS

MOST_COUNTED = 10_000
"""Most records that a count tells exactly: to count reads all of them."""


MOST_LEFT_OUT = 1000
"""Most rows one after the other that cannot be told, by what a list is sorted by: beyond them a list ends."""
SURELY_FITTING = PORTION_BYTES // 8
"""Bytes of BSON whose JSON fits into an answer, whatever they hold: a character that is escaped has 6 for one."""


NEAREST = "so many records are more than one answer holds; ask for fewer with `limit`, or for less with `fields`"


class TooMuch(TooExpensive):
    """What was asked for comes to more than an answer may have."""


class Reader:
    """The records of a type that an identity may read."""

    __slots__ = ("identity", "registry", "type")

    def __init__(self, registry: Registry, type: RecordType, identity: Identity) -> None:
        self.registry, self.type, self.identity = registry, type, identity

    def scope(self, action: Action) -> Filter:
        """Return the filter of the records with which the identity may do `action`."""
        return scope(self.identity, action, self.type)

    def find(self, id: str) -> Raw | None:
        """Return the record with this id, None where there is none that the identity may read."""
        return driver.find_one(self.type.collection, {"_id": id, **self.scope("read")}, self.type.unread)

    def page(self, asked: Query) -> Portion:
        """Return the rows of a page, as many as fit into an answer.

        Raises `TooExpensive`, `TooMuch` for a page that has no next one, and `BadQuery` for a shape that is none.
        """
        is_shaped_by_client = asked.where or asked.search is not None or asked.near is not None
        began = time.monotonic()
        try:
            return deadline.limited(lambda: self.rows(asked)) if is_shaped_by_client else self.rows(asked)
        except OperationFailure as error:
            raise near.refused_shape(asked.shapes, error) from error
        finally:
            if (seconds := time.monotonic() - began) >= SLOW_AFTER:
                SLOW_LISTS.note(asked, self.condition(asked), seconds)

    def rows(self, asked: Query) -> Portion:
        """Return what MongoDB finds for a page."""
        collection, condition = self.type.collection, self.condition(asked)
        if asked.near is not None:
            nearest = {"$and": [condition, asked.near]}
            with closing(collection.find(nearest, asked.projection, limit=asked.limit)) as rows:
                page = portion_of(rows, asked.limit)
            if page.more:
                raise TooMuch(NEAREST)
            return page
        if asked.search is not None:
            return searching.page(self.type, asked, asked.search, condition, self.tags(asked))
        bounded = {"$and": [condition, asked.after]} if asked.after else condition
        # Left to itself MongoDB may take the index of a filter, and then sorts in memory.
        sort = asked.sort
        return driver.portion(
            Selection(collection, bounded, asked.projection, sort.keys, asked.limit, sort.index_name, sort.bson)
        )

    def total(self, asked: Query) -> int:
        """Return how many records the whole query has; one more than `MOST_COUNTED` where they are more than these.

        Asked for after its page, which refuses what is no shape.
        Raises `TooExpensive`.
        """
        condition = self.condition(asked)
        if asked.near is not None:
            stages = [near.geo_near(asked.near, condition), {"$limit": MOST_COUNTED + 1}, {"$count": "total"}]
            found = deadline.limited(lambda: list(self.type.collection.aggregate(stages)))
            return int(found[0]["total"]) if found else 0
        options: dict[str, Any] = {"limit": MOST_COUNTED + 1}
        if asked.search is not None:
            if not asked.search.terms:
                return 0
            condition = {"$and": [condition, asked.search.filter(self.tags(asked))]}
            options["hint"] = WORDS
        if asked.by_alphabet and asked.sort.collation is not None:
            options |= {"hint": asked.sort.index_name, "collation": asked.sort.bson}
        return deadline.limited(lambda: self.type.collection.count_documents(condition, **options))

    def condition(self, asked: Query) -> Filter:
        """Return the filter of what the identity may read and the query asks for."""
        allowed = scope(self.identity, "read", self.type, asked.scopes)
        return {"$and": [allowed, asked.where]} if asked.where else allowed

    def tags(self, asked: Query) -> list[str]:
        """Return the tags of the words by which the identity finds what the query asks for."""
        return search_words.tags_of(entries(self.identity, asked.scopes))

    def dump(self, rows: Iterable[Raw], view: View, careful: bool = False) -> list[dict[str, Any]]:
        """Return stored records in JSON form, with the references that `view` expands as records.

        Raises `TooMuch`, and `Unreadable`; where it is `careful`, that only for the rows themselves.
        """
        schema = self.type.schema
        if view.fields is None:
            dump = schema.dump
            items = [dump(row) for row in rows]
        else:
            fields = [(name, schema.fields[name]) for name in view.fields]
            items = [{name: schema.member(field, row) for name, field in fields} for row in rows]
        for item, expanded in zip(items, self.expanded(items, view, careful), strict=True) if view.expand else ():
            item["expanded"] = expanded
        return items

    def told(self, page: Portion, asked: Query) -> tuple[list[dict[str, Any]], str | None]:
        """Return the rows of a page in JSON form, as many as fit into an answer, and the cursor of the next page.

        Raises `TooMuch` where not even one fits with what it refers to; else as `dump`.
        """
        rows, more, size = page
        if size <= SURELY_FITTING and not asked.view.expand:
            items = self.dump(rows, asked.view)
        else:
            items = self.as_many_as_fit(rows, asked)
            more = more or len(items) < len(rows)
        return items, asked.cursor(rows[len(items) - 1]) if more else None

    def told_carefully(self, page: Portion, asked: Query) -> tuple[list[dict[str, Any]], str | None]:
        """Return what `told` does, without the rows that cannot be told in JSON."""
        rows, following = self.readable(page, asked)
        items = self.as_many_as_fit(rows, asked, careful=True)
        return items, asked.cursor(rows[len(items) - 1]) if len(items) < len(rows) else following

    def as_many_as_fit(self, rows: list[Raw], asked: Query, careful: bool = False) -> list[dict[str, Any]]:
        """Return the first of the rows in JSON form, as many as fit into an answer; raises as `told` does."""
        try:
            items = self.dump(rows, asked.view, careful)
        except TooMuch:
            if len(rows) == 1:
                raise
            return self.as_many_as_fit(rows[: len(rows) // 2], asked, careful)
        size = 0
        for count, item in enumerate(items):
            if size > PORTION_BYTES:
                if asked.near is not None:
                    raise TooMuch(NEAREST)
                return items[:count]
            size += len(orjson.dumps(item))
        return items

    def readable(self, page: Portion, asked: Query) -> tuple[list[Raw], str | None]:
        """Return those of the rows of a page that can be told in JSON, and the cursor of the next page, if any.

        The cursor is made of the last row, even if that is left out. Where what the list is sorted by is what cannot be
        told, it is made of the last row that can: the next page begins with some that are left out again.
        """
        found = [row for row in page.rows if self.type.schema.is_readable(row)]
        if not page.more:
            return found, None
        try:
            return found, asked.cursor(page.rows[-1])
        except (Unreadable, TypeError):
            if found:
                return found, asked.cursor(found[-1])
        if asked.limit >= MOST_LEFT_OUT:
            log.error("unreadable_page", collection=self.type.name, rows=len(page.rows))
            return [], None
        found, following = self.readable(self.page(wider := replace(asked, limit=MOST_LEFT_OUT)), wider)
        if len(found) > asked.limit:
            found = found[: asked.limit]
            following = asked.cursor(found[-1])
        return found, following

    def expanded(self, items: list[dict[str, Any]], view: View, careful: bool) -> list[dict[str, Any]]:
        """Return for each record in JSON form what its references point to, by their path: one query for each path.

        What is gone, what the identity may not read, and what cannot be told is None; a reference that is not set is
        left out.
        """
        found: list[dict[str, Any]] = [{} for _ in items]
        for name in view.expand:
            place = self.type.references[name].place
            named = [[id for _, id in place.json_values(item)] for item in items]
            targets = self.targets(self.type.references[name], {id for ids in named for id in ids}, careful)
            for expanded, ids in zip(found, named, strict=True):
                if not place.is_single:
                    expanded[name] = {id: targets.get(id) for id in ids}
                elif ids:
                    expanded[name] = targets.get(ids[0])
        return found

    def targets(self, reference: Reference, ids: Iterable[str], careful: bool) -> dict[str, dict[str, Any]]:
        """Return what a reference points to with these ids, in JSON form by id, as far as the identity may read it."""
        if reference.target is Account:
            return people.by_id(ids)
        return Reader(self.registry, self.registry.of(reference.target), self.identity).by_id(ids, careful)

    def by_id(self, ids: Iterable[str], careful: bool) -> dict[str, dict[str, Any]]:
        """Return those of the records named that the identity may read, in JSON form by id: one query.

        Raises `TooMuch`, and `Unreadable`; where it is `careful`, such a record is left out.
        """
        wanted = list(ids)
        if not wanted:
            return {}
        named = {"_id": {"$in": wanted}, **self.scope("read")}
        found = driver.portion(Selection(self.type.collection, named, self.type.unread, limit=len(wanted)))
        if found.more:
            raise TooMuch("what `expand` asks for is more than one answer holds; ask for fewer references")
        schema = self.type.schema
        return {row["_id"]: schema.dump(row) for row in found.rows if not careful or schema.is_readable(row)}
