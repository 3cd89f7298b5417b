"""A portion: as many of the documents that fulfil a condition as were asked for and fit into one answer."""

from collections.abc import Iterable
from typing import NamedTuple

from service.mongo.raw import Raw, in_bson

PORTION_BYTES = 4 * 1024 * 1024
"""Bytes of BSON, or of JSON, behind which a portion ends: the document that goes beyond them is its last one."""


class Portion(NamedTuple):
    """The documents, whether there are more, and how many bytes of BSON they have, or a few more."""

    rows: list[Raw]
    more: bool
    size: int


def portion_of(rows: Iterable[Raw], limit: int) -> Portion:
    """Return the first of the rows, at most `limit`, as a portion."""
    found: list[Raw] = []
    size = 0
    for row in rows:
        if len(found) == limit or size > PORTION_BYTES:
            return Portion(found, True, size)
        found.append(row)
        size += len(in_bson(row))
    return Portion(found, False, size)
