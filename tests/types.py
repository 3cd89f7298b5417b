"""The record types of document classes that a test declares, each derived once."""

from functools import cache
from typing import Any

import mongoengine as me
import pytest

from service.documents import RECORDS, File, Group, Note, Notebook, Record
from service.model.field import Document
from service.model.record_type import RecordType, derive
from service.model.registry import Registry
from service.model.schema import Schema
from service.mongo.raw import Raw
from service.query.parse import Parser
from service.records import store

SHIPPED: list[type[Record]] = [Notebook, Note, Group, File]
REGISTRY = Registry(SHIPPED)
"""The record types that ship, which the tests of what records do are about."""

EVERY = Registry(RECORDS)
"""The record types of this tree, with those that somebody has added."""

as_it_ships = pytest.mark.skipif(RECORDS != SHIPPED, reason="begins with the record types that ship; here are others")
"""Marks what begins with the record types that ship, as the pages do that add others."""


class TwoAtMostField(me.ListField):
    """A list field class as the author of a document would write it, with a rule that MongoDB does not know."""

    def validate(self, value: Any, **options: Any) -> None:
        super().validate(value, **options)
        if len(value) > 2:
            self.error("two at most")


@cache
def type_of(document: type[Record]) -> RecordType:
    return derive(document)


@cache
def parser_of(document: type[Record]) -> Parser:
    return Parser(type_of(document))


@cache
def schema_of(document: Document) -> Schema:
    return Schema(document)


def new(document: type[Record], owner: str, content: dict[str, Any]) -> Raw:
    """A whole new record of these contents in BSON form, not stored yet."""
    return store.new_record(type_of(document), owner, content)


def create(document: type[Record], owner: str, content: dict[str, Any]) -> Raw:
    """A record of these contents in BSON form, stored."""
    return store.create(type_of(document), owner, content)
