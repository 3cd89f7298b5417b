"""Eve with its own means: a schema, token authentication, and resources restricted to their user by `auth_field`."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from eve import Eve
from eve.auth import TokenAuth
from flask import Response, abort, jsonify, request

SECRET = os.environ["BENCH_SECRET"]

CHECKLIST = {
    "type": "dict",
    "schema": {
        "text": {"type": "string", "required": True, "minlength": 1, "maxlength": 200},
        "done": {"type": "boolean", "default": False},
    },
}
NOTE = {
    "title": {"type": "string", "required": True, "minlength": 1, "maxlength": 200},
    "body": {"type": "string", "maxlength": 100_000, "default": ""},
    "tags": {"type": "list", "schema": {"type": "string", "minlength": 1, "maxlength": 40}, "maxlength": 20},
    "pinned": {"type": "boolean", "default": False},
    "priority": {"type": "integer", "min": 0, "max": 5, "default": 0},
    "due": {"type": "datetime", "nullable": True},
    "place": {"type": "point", "nullable": True},
    "checklist": {"type": "list", "schema": CHECKLIST, "maxlength": 100},
    "notebook": {"type": "string", "nullable": True},
    "revision": {"type": "integer", "readonly": True},
}
SETTINGS = {
    "MONGO_URI": os.environ["BENCH_URI"],
    "DOMAIN": {"notes": {"schema": NOTE, "auth_field": "owner"}},
    "RESOURCE_METHODS": ["GET", "POST"],
    "ITEM_METHODS": ["GET", "PATCH"],
    "LAST_UPDATED": "updated_at",
    "DATE_CREATED": "created_at",
    "DATE_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
    "PAGINATION_DEFAULT": 20,
    # What a user turns off who wants it fast: links, XML, the count of each page, and the need to send an ETag.
    "HATEOAS": False,
    "RENDERERS": ["eve.render.JSONRenderer"],
    "OPTIMIZE_PAGINATION_FOR_SPEED": True,
    "ENFORCE_IF_MATCH": False,
    # Answer a write with the whole note, as the others do.
    "BANDWIDTH_SAVER": False,
}


class JwtAuth(TokenAuth):
    """Token authentication whose token is a JWT."""

    def check_auth(self, token: str, allowed_roles: Any, resource: str, method: str) -> bool:
        """Tell whether the token is good, and restrict the request to its account."""
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        except jwt.PyJWTError:
            return False
        self.set_request_auth_value(claims["sub"])
        return True


def count_revision(updates: dict[str, Any], original: dict[str, Any]) -> None:
    """Add one to the revision of a note that is patched."""
    updates["revision"] = original.get("revision", 0) + 1


def first_revision(items: list[dict[str, Any]]) -> None:
    """Give new notes their first revision."""
    for item in items:
        item["revision"] = 1


app = Eve(settings=SETTINGS, auth=JwtAuth)
app.on_update_notes += count_revision
app.on_insert_notes += first_revision


@app.post("/refresh")
def refresh() -> Response:
    """Return new tokens for a refresh token."""
    try:
        claims = jwt.decode(request.get_json()["refresh_token"], SECRET, algorithms=["HS256"], audience="refresh")
    except jwt.PyJWTError:
        abort(401)
    now = datetime.now(UTC)
    common = {"sub": claims["sub"], "iat": now}
    return jsonify(
        access_token=jwt.encode({**common, "exp": now + timedelta(minutes=5)}, SECRET, "HS256"),
        refresh_token=jwt.encode({**common, "exp": now + timedelta(days=1), "aud": "refresh"}, SECRET, "HS256"),
    )
