"""What a worker's memory rises to under the worst that one request can bring, for each parser: for tests only.

`python -m tests.peaks <uri>` prints, as JSON, the bytes for each of `CASES` by its name, and the status of the answer.
Each is answered by a process of its own, forked from one that has answered small ones, and Linux tells how large that
was at most.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask
from mongoengine import fields as me
from werkzeug.test import EnvironBuilder

import settings
from service import app as application
from service.core.base64url import encode_base64url
from service.core.errors import Problem
from service.documents import RECORDS, Record
from service.files.images_format import measure_of, shared_form
from service.files.ranges import parse_ranges
from service.streams.forms import pieces_of
from service.streams.tus import metadata
from service.upkeep import indexes
from tests.client import PASSWORD, Person

MIB = 1024 * 1024
HEADERS = 60_000
"""Bytes of a header or a query string: all headers together may have 64 KiB."""


class Shape(Record):
    """A record with fields that hold more than those of notes do."""

    free = me.DictField()
    counts = me.MapField(me.IntField())
    words = me.ListField(me.StringField())
    numbers = me.ListField(me.FloatField())
    area = me.PolygonField()
    meta = {"collection": "shapes", "filters": ["words"]}


class Story(Record):
    """A record whose text is searched, without a bound of its own."""

    text = me.StringField()
    meta = {"collection": "stories", "search": ["text"]}


Case = tuple[str, str, str, bytes, dict[str, str]]
"""A name, and the request: method, path, body, and headers beside the token."""


def filled(before: str, piece: str, after: str, size: int = MIB) -> bytes:
    """A text of so many bytes: one piece again and again, with commas between."""
    times = (size - len(before.encode()) - len(after.encode())) // (len(piece.encode()) + 1)
    return (before + ",".join([piece] * times) + after).encode()


def numbered(before: str, piece: str, after: str, size: int = MIB) -> bytes:
    """The same, of pieces with a number in each, so that no two are the same."""
    made, left = [], size - len(before) - len(after)
    for number in count():
        text = piece.format(number)
        left -= len(text) + 1
        if left < 0:
            return (before + ",".join(made) + after).encode()
        made.append(text)
    raise AssertionError


def unspaced() -> str:
    """A text without spaces, in which no pair of letters is there twice for long."""
    draw = random.Random(1)
    return "".join(chr(draw.randrange(0x4E00, 0x9FFF)) for _ in range(10_000))


JSON_TEXTS: dict[str, tuple[str, str, str]] = {
    "levels": ("[" * 61, "1", ',"\\u0000"' + "]" * 61),
    "lists": ("[", "[]", "]"),
    "objects": ("[", "{}", "]"),
    "pairs": ("[", '{"a":1}', "]"),
    "texts": ("[", '"ab"', "]"),
    "fractions": ("[", "1e9", "]"),
    "a long number": ("[1234567890123456789,", "[]", "]"),
    "lost fractions": ("[", "12345678901234567.5", "]"),
}


def bodies() -> Iterator[Case]:
    """JSON, of which anything can be read before it is looked at."""
    for name, (before, piece, after) in JSON_TEXTS.items():
        yield f"JSON: {name}", "POST", "/auth", filled(before, piece, after), {}
    yield "JSON: names", "POST", "/auth", numbered("{", '"{}":1', "}"), {}
    yield "JSON: one wide text", "POST", "/v1/notes", filled('{"title":"\U0001f600', "a", '"}'), {}
    yield "JSON: text to be composed", "POST", "/v1/notes", filled('{"title":"', "a\u0301\u0958", '"}'), {}
    yield "sign-up", "POST", "/v1/accounts", filled('{"username":[', "[]", "]}"), {}
    yield "list with mistakes", "POST", "/v1/notes", filled('{"title":"x","readers":[', "1", "]}"), {}
    yield "list", "POST", "/v1/shapes", filled('{"words":[', '"ab"', "]}"), {}
    yield "list without a bound, with mistakes", "POST", "/v1/shapes", filled('{"words":[', "1", "]}"), {}
    yield "embedded documents", "POST", "/v1/notes", filled('{"title":"x","checklist":[', "{}", "]}"), {}
    yield "map", "POST", "/v1/shapes", numbered('{"counts":{', '"{}":1', "}}"), {}
    yield "map with mistakes", "POST", "/v1/shapes", numbered('{"counts":{', '"{}":""', "}}"), {}
    yield "free object", "POST", "/v1/shapes", filled('{"free":{"a":[', "[]", "]}}"), {}
    yield "polygon", "POST", "/v1/shapes", filled('{"area":{"type":"Polygon","coordinates":[[', "[1,1]", "]]}}"), {}
    yield "replacement", "PUT", "/v1/shapes/x", filled('{"words":[', '"ab"', "]}"), {}
    yield "searched text", "POST", "/v1/stories", filled('{"text":"', unspaced(), '"}'), {}
    yield "searched text of words", "POST", "/v1/stories", numbered('{"text":"é', "x{}", '"}', MIB - 1), {}
    yield "with a key", "POST", "/v1/shapes", filled('{"words":[', "1e9", "]}"), {"Idempotency-Key": "k"}


def patches() -> Iterator[Case]:
    """A merge patch and update operators."""
    for name, body in {
        "merge": filled('{"free":{"a":[', "{}", "]}}"),
        "merge of names": numbered('{"free":{', '"{}":1', "}}"),
        "$unset": numbered('{"$unset":[', '"a{}"', "]}"),
        "$inc": numbered('{"$inc":{', '"a{}":1', "}}"),
        "$push": filled('{"$push":{"words":{"each":[', '"ab"', "]}}}"),
        "$push with mistakes": filled('{"$push":{"words":{"each":[', "1", "]}}}"),
        "$add_to_set": numbered('{"$add_to_set":{"words":{"each":[', '"{}"', "]}}}"),
        "$pull": numbered('{"$pull":{"numbers":{"each":[', "{}", "]}}}"),
        "path": b'{"' + b"a." * (MIB // 2 - 10) + b'a":1}',
        "paths": numbered("{", '"free.{}":1', "}"),
    }.items():
        yield f"patch: {name}", "PATCH", "/v1/shapes/x", body, {}


def batches() -> Iterator[Case]:
    """Requests in one."""
    part = '{"method":"POST","path":"/v1/shapes","body":'
    for name, body in {
        "mistakes": filled('{"requests":[', "{}", "]}"),
        "headers": numbered('{"requests":[{"method":"GET","path":"/v1/notes","headers":{', '"{}":1', "}}]}"),
        "a body": filled('{"requests":[' + part + '{"words":[', "[]", "]}}]}"),
        "bodies": filled('{"requests":[', part + '{"words":[' + "[]," * 6800 + "[]]}}", "]}"),
        "good bodies": filled('{"requests":[', part + '{"words":[' + '"ab",' * 4000 + '"ab"]}}', "]}"),
        "paths": filled('{"requests":[', '{"method":"GET","path":"/v1/notes?' + "a&" * 3900 + '"}', "]}"),
    }.items():
        yield f"batch: {name}", "POST", "/v1/batch", body, {}


def lines() -> Iterator[Case]:
    """Query strings and headers."""
    where = filled('{"$or":[', '{"pinned":true}', "]}", HEADERS // 2).decode()
    deep = '{"$and":[' * 60 + "{}" + "]}" * 60
    for name, query in {
        "parameters": "a&" * (HEADERS // 2),
        "where": "where=" + quote(where, safe=""),
        "where of levels": "where=" + quote(deep, safe=""),
        "where of lists": "where=" + filled("[", "[]", "]", HEADERS).decode(),
        "fields": "fields=" + "a," * (HEADERS // 2),
        "expand": "expand=" + "a," * (HEADERS // 2),
        "cursor": "cursor=" + "A" * HEADERS,
        "search": "search=" + "a%20" * (HEADERS // 4),
    }.items():
        yield f"query string: {name}", "GET", f"/v1/notes?{query}", b"", {}
    for name, headers in {
        "If-Match": {"If-Match": '"",' * (HEADERS // 3) + '""'},
        "If-None-Match": {"If-None-Match": 'W/"a", ' * (HEADERS // 7) + '""'},
        "Idempotency-Key": {"Idempotency-Key": "k" * HEADERS},
        "Content-Type": {"Content-Type": "text/plain" + ";a=b" * (HEADERS // 4)},
        "X-Request-ID": {"X-Request-ID": "r" * HEADERS},
        "Cookie": {"Cookie": "a=b;" * (HEADERS // 4)},
    }.items():
        yield f"header: {name}", "PATCH", "/v1/notes/x", b'{"title":"y"}', headers
    for name, token in {"dots": "." * HEADERS, "text": "e" * HEADERS + "." + "e" * 9 + ".e"}.items():
        yield f"token: {name}", "GET", "/v1/notes", b"", {"Authorization": f"Bearer {token}"}


def credentials() -> Iterator[Case]:
    """A passkey, whose parts are read before anybody is known."""
    signed = filled('{"type":"webauthn.get","challenge":"AAAA","origin":"x","more":[', "[]", "]}", MIB * 7 // 10)
    for name, text in {"client data": signed, "levels": b"[" * (MIB * 7 // 10)}.items():
        credential = {"id": "a", "response": {"clientDataJSON": encode_base64url(text)}}
        yield f"passkey: {name}", "POST", "/auth/passkeys", json.dumps({"credential": credential}).encode(), {}


CASES: list[Case] = [*bodies(), *patches(), *batches(), *lines(), *credentials()]


# --- What the streams read -------------------------------------------------------------------------------------------

PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
FILE_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
FORMS: dict[str, bytes] = {
    "parts": (PART % b"a" + b"x\r\n") * 18_000,
    "text": PART % b"a" + b"x" * MIB,
    "headers": b"--b\r\n" + b"a: b\r\n" * 170_000,
    "parameters": b"--b\r\nContent-Disposition: form-data; " + b"a=b;" * 250_000,
    "preamble": b"x" * MIB,
    "beginnings of boundaries": FILE_PART + b"\r\n--" * 250_000,
}
SQUARE_HEAD = b"\0\0\0\x10\0\0\0\x10"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
IMAGES: dict[str, tuple[str, bytes]] = {
    "JPEG, segments": ("image/jpeg", b"\xff\xd8" + b"\xff\xe1\0\x02" * 262_000),
    "JPEG, scans": (
        "image/jpeg",
        b"\xff\xd8\xff\xc0\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0" + b"\xff\xda\0\x02" * 262_000,
    ),
    "PNG, chunks": (
        "image/png",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + SQUARE_HEAD + b"\x08\x02\0\0\0abcd" + b"\0\0\0\0IDATabcd" * 87_000,
    ),
    "GIF, frames": (
        "image/gif",
        b"GIF89a\x10\0\x10\0\0\0\0" + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\0" * 87_000 + b";",
    ),
    "WebP, frames": (
        "image/webp",
        b"RIFF\xf6\xff\x0f\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x0f\0\0\x0f\0\0" + b"ANMF\0\0\0\0" * 130_000,
    ),
    "HEIC, boxes": ("image/heic", HEIC + b"\0\x10\0\0meta\0\0\0\0" + b"\0\0\0\x08abcd" * 131_000),
}


async def read_form(body: bytes) -> None:
    """Take a form apart as it comes."""

    async def pieces() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), 65_536):
            yield body[begin : begin + 65_536]

    async for _ in pieces_of({"content-type": "multipart/form-data; boundary=b"}, pieces()):
        pass


def read_image(kind: str, content: bytes) -> None:
    """Measure an image, and find out what others get of it."""

    def read(start: int, stop: int) -> bytes:
        return content[start:stop]

    measure_of(kind, read, len(content))
    shared_form(kind, read, len(content))


STREAMS: dict[str, Callable[[], Any]] = {
    **{f"form: {name}": lambda body=body: asyncio.run(read_form(body)) for name, body in FORMS.items()},
    "tus: Upload-Metadata": lambda: metadata(",".join(f"a{number} YQ==" for number in range(HEADERS // 10))),
    "header: Range": lambda: parse_ranges("bytes=" + "0-1," * (HEADERS // 4), MIB),
    **{f"image: {name}": partial(read_image, *image) for name, image in IMAGES.items()},
}
"""What is read in a process of the streams, without what it is asked for around it."""


def environ_of(case: Case, token: dict[str, str]) -> dict[str, Any]:
    """The WSGI environment of a request."""
    _, method, path, body, headers = case
    json_type = {"Content-Type": "application/json"} if body else {}
    builder = EnvironBuilder(path, method=method, input_stream=BytesIO(body), headers={**json_type, **token, **headers})
    return {**builder.get_environ(), "CONTENT_LENGTH": str(len(body))}


def memory(name: str) -> int:
    """A figure of this process, in bytes (proc(5))."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a fork of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return json.loads(told)


def peak(app: Flask, case: Case, token: dict[str, str]) -> tuple[int, int]:
    """By how many bytes this process grows at most while it answers, and the status."""
    environ, statuses = environ_of(case, token), []
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    _ = b"".join(app(environ, lambda status, headers: statuses.append(status)))
    return memory("VmHWM") - before, int(statuses[0][:3])


def grown(work: Callable[[], Any]) -> tuple[int, int]:
    """By how many bytes this process grows at most by some work, and the status that comes of it."""
    Path("/proc/self/clear_refs").write_text("5")
    before, status = memory("VmRSS"), 200
    try:
        work()
    except Problem as problem:
        status = problem.status
    return memory("VmHWM") - before, status


def ready(app: Flask) -> dict[str, str]:
    """Answer small requests of every kind; return the header of somebody who is signed in."""
    ada = Person.sign_up(app.test_client(), "ada")
    for path, content in (
        ("/v1/notes/x", {"title": "x"}),
        ("/v1/shapes/x", {"words": ["x"]}),
        ("/v1/stories/x", {"text": "x"}),
    ):
        assert ada.put(path, content).status_code == 201
        assert ada.patch(path, {"readers": []}).status_code == 200
        assert ada.get(path.removesuffix("/x")).status_code == 200
    ada.post("/v1/batch", {"requests": [{"method": "GET", "path": "/v1/notes"}]})
    ada.post("/v1/notes", {"title": "x"}, headers={"Idempotency-Key": "first"})
    ada.post("/auth", {"username": "ada", "password": PASSWORD})
    ada.post("/auth/passkeys", {"credential": {}})
    return ada.headers


def main() -> None:
    """Print the peaks of all cases, and their statuses."""
    chosen = settings.load({"SERVICE_ENV": "test", "SERVICE_MONGODB_URI": sys.argv[1]})
    passkeys = {"WEBAUTHN_RP_ID": "example.org", "WEBAUTHN_ORIGINS": ["https://example.org"]}
    app = application.create_app({**chosen, **passkeys, "LOG_LEVEL": "ERROR"}, [*RECORDS, Shape, Story])
    with app.app_context():
        indexes.make(app.extensions["madang.registry"])
    token = ready(app)
    peaks = {case[0]: in_child(partial(peak, app, case, token)) for case in CASES}
    sys.stdout.write(json.dumps(peaks | {name: in_child(partial(grown, work)) for name, work in STREAMS.items()}))


if __name__ == "__main__":
    main()
