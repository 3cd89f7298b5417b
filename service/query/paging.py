"""Keyset paging: opaque cursors, and the filter of all that follows one in the order of a sort."""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import orjson
from pymongo import ASCENDING

from service.core.base64url import decode_base64url, encode_base64url
from service.core.errors import BadParameter, Cause
from service.model.field import Field
from service.model.record_type import Sort
from service.model.schema import Schema
from service.mongo.raw import Filter

MAC_BYTES = 16
NEXT_OF_ANSWER = "the `next` of an earlier answer to the very same query"


def bad(parameter: str, detail: str, code: str = "not_allowed") -> BadParameter:
    """Return the problem of one query parameter."""
    return BadParameter(f"`{parameter}`: {detail}", [Cause(code, detail, parameter=parameter)])


def sealed(values: list[Any], seal: bytes) -> str:
    """Return the opaque text of the last values, authenticated by the seal of their query."""
    payload = orjson.dumps(values)
    return encode_base64url(mac_of(payload, seal) + payload)


def unsealed(text: str, seal: bytes, parameter: str = "cursor", asked: str = NEXT_OF_ANSWER) -> list[Any]:
    """Return the values that `sealed` hid; raises `BadParameter` for what it did not make for this query.

    That names the `parameter`, and what it is `asked` to be.
    """
    problem = bad(parameter, asked, "not_valid")
    try:
        data = decode_base64url(text)
    except ValueError:
        raise problem from None
    mac, payload = data[:MAC_BYTES], data[MAC_BYTES:]
    if not hmac.compare_digest(mac, mac_of(payload, seal)):
        raise problem
    values: list[Any] = orjson.loads(payload)
    return values


def mac_of(payload: bytes, seal: bytes) -> bytes:
    """Return the MAC of a cursor: keyed BLAKE2 (RFC 7693), a third of the time of HMAC by OpenSSL."""
    return hashlib.blake2b(payload, key=seal, digest_size=MAC_BYTES).digest()


def cursor_of(schema: Schema, sort: Sort, last: Any, seal: bytes) -> str:
    """Return the cursor of what follows the stored record `last` in the order of a sort."""
    values = (value_at(last, name) for name, _ in sort.keys)
    return sealed([schema.shaped(field, value) for field, value in zip(sort.fields, values, strict=True)], seal)


def parse_cursor(schema: Schema, sort: Sort, text: str, seal: bytes) -> Filter:
    """Return the filter of all that follows the record that a cursor was made of."""
    stored = [
        value if field.meaning.shape(field.declared) is None else value and schema.typed(field).validate_python(value)
        for field, value in zip(sort.fields, unsealed(text, seal), strict=True)
    ]
    return following(sort, stored)


def following(sort: Sort, values: Sequence[Any]) -> Filter:
    """Return the filter of what comes after `values` in the order of `sort`; null is the lowest.

    The leading field gets a bound of its own and the rest stands in an `$or` beside it. Written as a bare `$or`,
    MongoDB sorts in memory (measured on 6.0: 1,500 keys for a page of 20 instead of 22).
    """
    bound = at_or_after(sort.fields[0], *sort.keys[0], values[0])
    steps: list[Filter] = []
    equal: Filter = {}
    for index, (field, (name, direction), value) in enumerate(zip(sort.fields, sort.keys, values, strict=True)):
        later = strictly_after(field, name, direction, value)
        if later is not None:
            steps.append(equal | later)
        if index > 0 or value is None:
            # The bound on the leading field says what its equality would, but for null.
            equal |= equals(field, name, value)
    return {"$and": [bound, {"$or": steps}]} if bound else {"$or": steps}


def null_only(field: Field, name: str) -> Filter:
    """Return the filter of a field without a value, as one range of an index.

    An equality with null is two points to MongoDB, which it cannot walk in order; below the lowest value is one range.
    """
    return {name: {"$not": {"$gte": field.meaning.lowest}}}


def strictly_after(field: Field, name: str, direction: int, value: Any) -> Filter | None:
    """Return the filter of what is strictly after `value` in one field; None when nothing can be."""
    if direction == ASCENDING:
        return {name: {"$gte": field.meaning.lowest} if value is None else {"$gt": value}}
    if value is None:
        return None
    return {name: {"$not": {"$gte": value}}}


def at_or_after(field: Field, name: str, direction: int, value: Any) -> Filter | None:
    """Return the filter of what is at or after `value` in one field; None when all is."""
    if direction == ASCENDING:
        return None if value is None else {name: {"$gte": value}}
    return null_only(field, name) if value is None else {name: {"$not": {"$gt": value}}}


def equals(field: Field, name: str, value: Any) -> Filter:
    """Return the filter of an equal value in one field."""
    return null_only(field, name) if value is None else {name: value}


def value_at(record: Any, path: str) -> Any:
    """Return the value at a dotted path of a stored record, None where there is none."""
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record
