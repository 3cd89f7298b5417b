"""The service itself: health, metrics, its documentation."""

import re
from typing import Any

from flask import Response, current_app, jsonify, render_template_string
from markupsafe import Markup, escape

from service.core import metrics as counted
from service.core.errors import DatabaseUnavailable, NotFound, ShuttingDown, all_problems
from service.http.openapi import document, operation
from service.http.web import Answer
from service.mongo import connection
from service.security import security

HEALTH = {
    "title": "Health",
    "type": "object",
    "properties": {"status": {"type": "string", "examples": ["ok"]}},
    "required": ["status"],
}

OBJECT = {"type": "object", "additionalProperties": {}}
PUBLIC_KEY = {
    "title": "PublicKey",
    "type": "object",
    "description": "A key of an elliptic curve (RFC 7518, section 6.2, and RFC 8037).",
    "properties": {name: {"type": "string"} for name in ("kid", "kty", "alg", "use", "crv", "x", "y")},
    "required": ["kid", "kty", "alg", "use", "crv", "x"],
}
JWKS = {
    "title": "PublicKeys",
    "type": "object",
    "description": "A set of keys (RFC 7517).",
    "properties": {"keys": {"type": "array", "items": PUBLIC_KEY}},
    "required": ["keys"],
}


@operation("Tell whether the process serves", name="isLive", tag="system", public=True, answer={200: HEALTH})
def live() -> Response:
    """Answer while the process serves."""
    return jsonify(status="ok")


@operation(
    "Tell whether requests should come here",
    name="isReady",
    tag="system",
    public=True,
    answer={200: HEALTH},
    problems=["database_unavailable", "shutting_down"],
)
def ready() -> Response:
    """Answer while MongoDB has a writable primary and the server is not about to end."""
    if current_app.extensions.get("madang.draining"):
        raise ShuttingDown
    if not connection.is_writable():
        raise DatabaseUnavailable("MongoDB has no writable primary")
    return jsonify(status="ok")


@operation(
    "Get the metrics",
    name="getMetrics",
    tag="system",
    public=True,
    answer={200: {"type": "string"}},
    media_type="text/plain",
)
def metrics() -> Response:
    """Return the metrics in Prometheus' text format."""
    connection.count_connections()
    return Answer(counted.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


@operation("Get this document", name="getDocument", tag="system", public=True, answer={200: OBJECT})
def openapi() -> Response:
    """Return the OpenAPI document; it is the same for as long as the app lives."""
    known = current_app.extensions
    if "madang.openapi" not in known:
        known["madang.openapi"] = document(current_app)
    return jsonify(known["madang.openapi"])


@operation(
    "Read about the problem codes",
    name="readProblems",
    tag="system",
    public=True,
    answer={200: {"type": "string"}},
    media_type="text/html",
)
def problems() -> Response:
    """Return a page that explains every code."""
    page = render_template_string(PROBLEMS, problems=all_problems(), marked=marked)
    return Answer(page, content_type="text/html; charset=utf-8")


def marked(text: str) -> Markup:
    """Return a text as HTML, with what stands in backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704  it is escaped


PROBLEMS = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Problems</title>
<h1>Problems</h1>
<p>Every error is a problem document (RFC 9457). Switch on its <code>code</code>; it does not change.</p>
{% for problem in problems %}
<h2 id="{{ problem.code }}">{{ problem.status }} <code>{{ problem.code }}</code></h2>
<p>{{ problem.title }}. {{ marked(problem.meaning) }}</p>
{% endfor %}
</html>
"""


@operation(
    "Get the public keys", name="getPublicKeys", tag="system", public=True, answer={200: JWKS}, problems=["not_found"]
)
def jwks() -> Response:
    """Return the keys with which other services verify access tokens (RFC 7517); a shared secret has none."""
    keys = security().tokens.public_keys()
    if not keys:
        raise NotFound("access tokens are signed with a shared secret, which is not published")
    return jsonify(keys=keys)


ROUTES: list[tuple[str, Any]] = [
    ("/health/live", live),
    ("/health/ready", ready),
    ("/metrics", metrics),
    ("/openapi.json", openapi),
    ("/docs/problems", problems),
    ("/.well-known/jwks.json", jwks),
]
