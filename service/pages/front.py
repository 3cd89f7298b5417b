"""The front page: what runs here, since when, and the first three requests; in production the name and what is open."""

import shlex
from typing import Any

import orjson
from flask import Flask, current_app, redirect, request
from pymongo.errors import PyMongoError

from service.context import current_service
from service.core import clock
from service.documents import Account
from service.http.openapi import operation, own_version
from service.http.web import Answer
from service.identity.first_admin import is_without_admin
from service.model.example import example_of
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.pages.account import ABOUT, shown

DOCS = "/docs/"
FOUND = 302


def init_app(app: Flask) -> None:
    """Note when `app` began."""
    app.extensions["madang.began"] = clock.now()


@operation("See what runs here", name="openFrontPage", answer={200: {"type": "string"}}, **ABOUT)
def front_page() -> Answer:
    """Show the front page. What it tells of accounts and records is for local work alone."""
    config = current_app.config
    if config["ENVIRONMENT"] != "local":
        return shown("front.html", "en")
    began = current_app.extensions["madang.began"].strftime("%d %B %Y, %H:%M UTC")
    made = shown("front.html", "en", version=own_version(), began=began, **first_steps())
    made.headers["Cache-Control"] = "no-store"
    return made


@operation(
    "Go to the documentation",
    name="openRoot",
    answer={FOUND: {"type": "string"}},
    headers={FOUND: ["Location"]},
    **ABOUT,
)
def root() -> Any:
    """Lead whoever looks at the root of the API to its documentation."""
    return redirect(DOCS, FOUND, Answer)


FRONT_ROUTES: list[tuple[str, Any]] = [("/", front_page), ("/v1", root)]


def first_steps() -> Raw:
    """Return the record types, the first account and the first three requests; only the types while MongoDB is away."""
    registry: Registry = current_service().extensions["madang.registry"]
    try:
        first = Account._get_collection().find_one(
            {"username": {"$type": "string"}}, {"username": 1}, sort=[("_id", 1)]
        )
    except PyMongoError:
        return {"types": registry, "away": True}
    name = first["username"] if first else None
    requests = first_requests(name or "mina", registry)
    return {"types": registry, "first": name, "requests": requests, "has_admin": not is_without_admin()}


def first_requests(username: str, registry: Registry) -> dict[str, str]:
    """Return the requests, for a shell, that sign `username` up, log in and create a record of the first type."""
    config, base = current_app.config, shlex.quote(request.host_url.rstrip("/"))
    password = "three green boats"  # noqa: S105  an example
    new = curl_arguments({"username": username, "password": password})
    sent = curl_arguments({config["JWT_AUTH_USERNAME_KEY"]: username, config["JWT_AUTH_PASSWORD_KEY"]: password})
    reading = """python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])'"""
    requests = {
        "sign_up": f"curl -s {base}/v1/accounts {new}",
        "log_in": f"TOKEN=$(curl -s {base}{config['JWT_AUTH_URL_RULE']} {sent} |\n  {reading})",
    }
    examples = ((name, example_of(type.schema, "create")) for name, type in registry.items())
    if found := next((pair for pair in examples if pair[1] is not None), None):
        path, example = f"/v1/{found[0]}", curl_arguments(found[1])
        requests["create"] = f'curl -s {base}{path} -H "Authorization: Bearer $TOKEN" {example}'
    return requests


def curl_arguments(body: Any) -> str:
    """Return the arguments of curl that send a body."""
    return f"-H 'Content-Type: application/json' \\\n  -d {shlex.quote(orjson.dumps(body).decode())}"
