"""The records of a type as an admin has them: those of all by their ids, or those of one owner by any sort."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from pymongo import DESCENDING

from service.model.record_type import RecordType, Sort
from service.model.registry import Registry
from service.mongo import deadline
from service.mongo.portion import Portion
from service.mongo.raw import Filter
from service.policy import Identity, held_by
from service.query.parse import Parser, Query
from service.records.writing import Writer


class OrderOfIds(Sort):
    """The order of ids, which MongoDB's own index serves whoever may read; ids that the server made sort by time."""

    @cached_property
    def index_name(self) -> str:
        """The name of that index."""
        return "_id_"


class AllRecords(Writer):
    """The records of a type that somebody with the scope `admin` reads and writes, of one `owner` where one is named.

    Each sort has an index that is led by who may read, so it serves the records of one owner. One more for each sort,
    for admins alone, would make every write dearer.
    """

    __slots__ = ("owner",)

    def __init__(self, registry: Registry, type: RecordType, identity: Identity, owner: str = "") -> None:
        """Take whose records these are, empty for those of all."""
        super().__init__(registry, type, identity)
        self.owner = owner

    def asked(self, parser: Parser, args: Mapping[str, str], key: bytes) -> Query:
        """Return the query of a list; `sort` is for the records of one owner. Raises as `Parser.parse` does."""
        cursor = args.get("cursor", "")
        named = {name: value for name, value in args.items() if name != "cursor" and (self.owner or name != "sort")}
        query = parser.parse(named, f"{self.identity.account} {self.owner}", key)
        if not self.owner:
            query = replace(query, sort=OrderOfIds((("_id", DESCENDING),), (self.type.schema.fields["id"],)))
        return query.following(cursor) if cursor else query

    def page(self, asked: Query) -> Portion:
        """Return the rows of a page; raises `TooExpensive` where what is asked for is too seldom to be found in time.

        Whoever asks for what is seldom among a million records names the owner.
        """
        return deadline.limited(lambda: self.rows(asked))

    def condition(self, asked: Query) -> Filter:
        """Return the filter of what is asked for."""
        parts: list[Filter] = [self.scope("read"), *([held_by(self.owner)] if self.owner else [])]
        return {"$and": [*parts, asked.where]} if asked.where else {"$and": parts}

    def about_how_many(self) -> int:
        """Return about how many records there are, with those that are deleted and leave a tombstone still."""
        return int(self.type.collection.estimated_document_count())
