"""The yardstick: one WSGI callable on PyMongo, PyJWT and orjson. No framework, no validation, no log.

It verifies the token on each request and reads and writes the caller's own notes only.
"""

import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import jwt
import orjson
from bson import ObjectId
from pymongo import DESCENDING, MongoClient, ReturnDocument

SECRET = os.environ["BENCH_SECRET"]
NOTES = MongoClient(os.environ["BENCH_URI"], connect=False).get_default_database()["notes"]
OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
FIELDS = ("title", "body", "tags", "pinned", "priority", "due", "place", "checklist", "notebook")
JSON = ("Content-Type", "application/json")

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], Any]


def application(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Answer one request."""
    try:
        status, value = answer(environ)
    except (jwt.PyJWTError, KeyError):
        status, value = "401 Unauthorized", {"error": "not authenticated"}
    start_response(status, [JSON])
    return [orjson.dumps(value, option=OPTIONS)]


def answer(environ: Environ) -> tuple[str, Any]:
    """Return the status and the body of one request."""
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    if path == "/refresh":
        return "200 OK", refresh(orjson.loads(environ["wsgi.input"].read()))
    owner = jwt.decode(environ["HTTP_AUTHORIZATION"].removeprefix("Bearer "), SECRET, algorithms=["HS256"])["sub"]
    if path == "/notes":
        return create(owner, environ) if method == "POST" else page(owner, environ)
    return (patch if method == "PATCH" else get)(owner, path.removeprefix("/notes/"), environ)


def get(owner: str, id: str, _environ: Environ) -> tuple[str, Any]:
    """Return one note."""
    return one(NOTES.find_one({"_id": id, "owner": owner}))


def one(note: Any) -> tuple[str, Any]:
    """Return the answer of one note or of none."""
    return ("404 Not Found", {"error": "not found"}) if note is None else ("200 OK", shaped(note))


def shaped(note: Any) -> Any:
    """Return a note as JSON."""
    note["id"] = note.pop("_id")
    return note


def page(owner: str, environ: Environ) -> tuple[str, Any]:
    """Return the notes of the caller that were written last."""
    asked = parse_qs(environ["QUERY_STRING"])
    condition = {"owner": owner, "pinned": asked["pinned"][0] == "true"}
    found = NOTES.find(condition, sort=[("updated_at", DESCENDING), ("_id", DESCENDING)], limit=int(asked["limit"][0]))
    return "200 OK", {"items": [shaped(note) for note in found]}


def create(owner: str, environ: Environ) -> tuple[str, Any]:
    """Store a new note."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    note = {
        "_id": str(ObjectId()),
        **received(environ),
        "owner": owner,
        "created_at": moment,
        "updated_at": moment,
        "revision": 1,
    }
    NOTES.insert_one(note)
    return "201 Created", shaped(note)


def patch(owner: str, id: str, environ: Environ) -> tuple[str, Any]:
    """Change some fields of a note."""
    changes = {**received(environ), "updated_at": datetime.now(UTC).replace(tzinfo=None)}
    update = {"$set": changes, "$inc": {"revision": 1}}
    return one(NOTES.find_one_and_update({"_id": id, "owner": owner}, update, return_document=ReturnDocument.AFTER))


def received(environ: Environ) -> dict[str, Any]:
    """Return the body, with times as MongoDB stores them."""
    body = orjson.loads(environ["wsgi.input"].read())
    if "due" in body:
        body["due"] = datetime.fromisoformat(body["due"]).astimezone(UTC).replace(tzinfo=None)
    return {name: body[name] for name in FIELDS if name in body}


def refresh(body: dict[str, str]) -> dict[str, str]:
    """Return new tokens for a refresh token."""
    claims = jwt.decode(body["refresh_token"], SECRET, algorithms=["HS256"], audience="refresh")
    issued = int(time.time())
    common = {"sub": claims["sub"], "iat": issued}
    return {
        "access_token": jwt.encode({**common, "exp": issued + 300}, SECRET, "HS256"),
        "refresh_token": jwt.encode({**common, "exp": issued + 86400, "aud": "refresh"}, SECRET, "HS256"),
    }
