"""What is fed with any bytes: each parser of what a client sends. Only a `Problem` may come out, or what BSON takes."""

import enum
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import bson
import jwt
import mongoengine as me
import orjson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

import settings
from service.core.errors import Problem
from service.core.ids import new_id
from service.core.json_text import decode
from service.documents import Note, Notebook, Record
from service.identity.sessions import SECRET_BYTES
from service.model import patch
from service.model.record_type import derive
from service.mongo import connection
from service.query.parse import PARAMETERS, Parser
from service.records import store
from service.security import Security


class Colour(enum.Enum):
    """Values of several types."""

    RED = "red"
    ONE = 1


class Line(me.EmbeddedDocument):
    """A part of a record."""

    text = me.StringField(required=True, max_length=20)
    number = me.IntField()


class Everything(Record):
    """One field of each class that a record type can have."""

    text = me.StringField(min_length=1, max_length=50)
    formed = me.StringField(regex=r"^[a-z]+$")
    chosen = me.StringField(choices=["a", "b"])
    link = me.URLField()
    mail = me.EmailField()
    whole = me.IntField(min_value=-10, max_value=10, default=1)
    long = me.LongField()
    real = me.FloatField(max_value=1e9)
    money = me.DecimalField(precision=2)
    price = me.Decimal128Field()
    flag = me.BooleanField()
    time = me.DateTimeField()
    day = me.DateField()
    uuid = me.UUIDField()
    key = me.ObjectIdField()
    data = me.BinaryField(max_bytes=20)
    colour = me.EnumField(Colour)
    book = me.ReferenceField(Notebook)
    spot = me.GeoPointField()
    place = me.PointField(auto_index=False)
    way = me.LineStringField(auto_index=False)
    area = me.PolygonField(auto_index=False)
    tags = me.ListField(me.StringField(max_length=20), max_length=5)
    order = me.SortedListField(me.IntField())
    times = me.ListField(me.DateTimeField())
    names = me.MapField(me.StringField())
    free = me.DictField()
    line = me.EmbeddedDocumentField(Line)
    lines = me.EmbeddedDocumentListField(Line, max_length=5)

    meta = {
        "collection": "everything",
        "filters": [
            *(
                "id",
                "owner",
                "created_at",
                "revision",
                "text",
                "link",
                "mail",
                "whole",
                "long",
                "real",
                "money",
                "price",
            ),
            *("flag", "time", "day", "uuid", "key", "colour", "book", "spot", "place", "tags", "times", "lines.number"),
        ],
        "search": ["text"],
    }


CODEC: Any = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
BOUND = Security(settings.load({"SERVICE_ENV": "test", "SERVICE_MONGODB_URI": connection.MEMORY}))
TYPE = derive(Everything)
TYPES = (derive(Note), TYPE)
SAMPLE = store.new_record(TYPE, "ada", TYPE.schema.load({"id": "x", "text": "a", "tags": ["b"], "whole": 2}))


def encoded(*values: Any) -> None:
    """Encode what goes to MongoDB, as the connection does; it raises for what BSON cannot hold."""
    for value in values:
        bson.encode({"value": value}, codec_options=CODEC)


def asked(arguments: Mapping[str, str]) -> None:
    """Parse a query string as the list of two record types does."""
    for type in TYPES:
        try:
            found = Parser(type).parse(arguments, "ada", BOUND.cursor_key)
        except Problem:
            continue
        encoded(found.where, found.near, found.after)


def text_of(data: bytes) -> str:
    """Return the text of bytes as a query string or a header gives it."""
    return data.decode(errors="replace")


def fuzz_json(data: bytes) -> None:
    """Decode a body."""
    orjson.dumps(decode(data))


def fuzz_body(data: bytes) -> None:
    """Load a body that creates a record, and dump the record."""
    content = TYPE.schema.load(decode(data))
    encoded(content)
    orjson.dumps(TYPE.schema.dump(store.new_record(TYPE, "ada", content)))


def fuzz_patch(data: bytes) -> None:
    """Parse a patch and apply it to a record."""
    wanted = patch.parse(TYPE.schema, decode(data))
    encoded(wanted.update, wanted.guard, wanted.values)
    content = wanted.apply(SAMPLE)
    encoded(content)
    orjson.dumps(TYPE.schema.dump({**SAMPLE, **content}))


def fuzz_where(data: bytes) -> None:
    """Parse a `where`."""
    asked({"where": text_of(data)})


def fuzz_query(data: bytes) -> None:
    """Parse a whole query string."""
    asked({name: text for name, text in parse_qsl(text_of(data), True) if name in PARAMETERS})


def fuzz_cursor(data: bytes) -> None:
    """Parse the cursor of a page."""
    asked({"cursor": text_of(data)})


def fuzz_access_token(data: bytes) -> None:
    """Verify an access token."""
    BOUND.tokens.verify(text_of(data))


def fuzz_claims(data: bytes) -> None:
    """Verify an access token that holds anything, but is signed with our key: another service may share it."""
    BOUND.tokens.verify(jwt.PyJWS().encode(data, BOUND.tokens.first.signing, "HS256"))


def fuzz_refresh_token(data: bytes) -> None:
    """Open a refresh token."""
    BOUND.sessions.unpacked(text_of(data))


BODY = b"""{
"text": "a", "formed": "b", "chosen": "a", "link": "https://example.com/", "mail": "ada@example.com", "whole": 3,
"long": 1099511627776, "real": 1.5, "money": "1.25", "price": "1E+3", "flag": true, "names": {"a": "b"}, "colour": 1,
"time": "2026-11-22T10:00:00.000+09:00", "day": "2026-11-22", "data": "aGVsbG8=", "free": {"a": [1]}, "times": [],
"uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "key": "000000000000000000000000", "tags": ["a", "b"], "order": [2, 1],
"spot": [127, 37.5], "place": {"type": "Point", "coordinates": [1, 2]}, "way": {"type": "LineString", "coordinates":
[[0, 0], [1.5, 1]]}, "line": {"text": "x"}, "lines": [{"text": "y", "number": 1}], "readers": ["*"]}"""
PATCHES = (
    b'{"text": null, "$inc": {"whole": 1, "long": -1}, "$push": {"tags": {"each": ["x", "y"]}}, "free": {"a": null}}',
    b'{"$min": {"time": "2026-11-22T10:00:00Z"}, "$max": {"real": 2.5}, "$add_to_set": {"order": 3}}',
    b'{"$pull": {"lines": {"text": "y"}}, "line": {"number": null}, "readers": ["*", "role:team"]}',
)
WHERES = (
    b'{"text": {"$prefix": "a"}, "$or": [{"whole": {"$gte": 1, "$lt": 5}}, {"tags": {"$all": ["a"], "$size": 2}}]}',
    b'{"place": {"$near": {"point": [127, 37], "max_metres": 100}}, "$not": {"lines.number": {"$in": [1, null]}}}',
    b'{"time": {"$not": {"$gt": "2026-11-22T10:00:00Z"}}, "price": "1.5", "key": "000000000000000000000000"}',
)
CURSORS = tuple(
    Parser(type).parse({}, "ada", BOUND.cursor_key).cursor({**SAMPLE, "_id": "x"}).encode() for type in TYPES
)
QUERIES = (
    b"limit=20&count=true&scope=mine,public&fields=id,title&sort=-priority,due",
    b"search=milk&scope=mine&expand=notebook&where=%7B%22pinned%22%3A%20true%7D",
    urlencode({"cursor": CURSORS[0].decode(), "limit": "5"}).encode(),
)
TOKEN = BOUND.tokens.issue("ada", new_id(), 1_800_000_000)
CLAIMS = orjson.dumps(jwt.decode(TOKEN, options={"verify_signature": False}))
REFRESH = BOUND.sessions.packed(new_id(), b"x" * SECRET_BYTES)

TARGETS: Mapping[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]] = {
    "json": (fuzz_json, (BODY, *PATCHES)),
    "body": (fuzz_body, (BODY, b'{"id": "x", "readers": ["*"]}')),
    "patch": (fuzz_patch, (BODY, *PATCHES)),
    "where": (fuzz_where, WHERES),
    "query": (fuzz_query, QUERIES),
    "cursor": (fuzz_cursor, CURSORS),
    "access token": (fuzz_access_token, (TOKEN.encode(),)),
    "claims": (fuzz_claims, (CLAIMS,)),
    "refresh token": (fuzz_refresh_token, (REFRESH.encode(),)),
}
"""Each parser by its name, with inputs to begin with."""


def feed(name: str, data: bytes) -> None:
    """Give `data` to a parser; raises what is no `Problem`, which is a bug."""
    try:
        TARGETS[name][0](data)
    except Problem:
        return


def names() -> set[str]:
    """Return the names that stand in JSON objects: of fields and of operators."""
    return {
        *(name for type in TYPES for name in (*type.schema.fields, *type.filters)),
        *(
            *patch.APPLY,
            *TYPE.filters["times"].operators,
            *TYPE.filters["spot"].operators,
        ),
        *(
            "$and",
            "$or",
            "$nor",
            "$not",
            "$prefix",
            "$eq",
            "each",
            "point",
            "max_metres",
            "type",
            "coordinates",
            "number",
        ),
        *("sub", "sid", "auth_time", "iat", "nbf", "exp", "aud", "iss", "jti", "$where", "a.b", ""),
    }


VALUES = (
    *(
        b"null",
        b"true",
        b"0",
        b"-1",
        b"1",
        b"1.0",
        b"1.5",
        b"1e308",
        b"-0.0",
        b"9007199254740993",
        b"9223372036854775807",
    ),
    *(b"-9223372036854775808", b"9223372036854775808", b"18446744073709551615", b"[]", b"{}", b'""', b'"a"', b'"*"'),
    *(b'"\\u0000"', b'"2026-11-22T10:00:00Z"', b'"0000-00-00T00:00:00Z"', b'"9999-12-31T23:59:59-23:59"', b'"1E+6144"'),
    *(b'"0001-01-01T00:00:00+23:59"', b'"2026-11-22"', b'"NaN"', b'"000000000000000000000000"', b'{"each": ["x"]}'),
    *(
        b'{"type": "Point", "coordinates": [180, 90]}',
        b'{"point": [1, 2]}',
        b"[1, 2]",
        b'"aGVsbG8="',
        b'"a.b"',
        b'"$a"',
    ),
    b'"6ba7b810-9dad-11d1-80b4-00c04fd430c8"',
)
"""JSON values at the edges of what the fields take."""


def words() -> set[str]:
    """Return what stands in what the parsers take, for a fuzzer that knows bytes only."""
    return (names() - {""}) | PARAMETERS | {text.decode() for text in VALUES}
