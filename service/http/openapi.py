"""From the routes, their operations and the documents: the OpenAPI 3.1 document of the service."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from apispec import APISpec
from flask import Flask
from mongoengine import DO_NOTHING
from pydantic import BaseModel
from werkzeug.routing import Rule

from service.core.errors import RXDB, Problem, all_problems
from service.http.components import Components
from service.http.list_parameters import NARROWED, PARAMETER_SCHEMAS, PARAMETER_TEXTS
from service.http.record_schemas import of_changes, of_everything, of_page, of_view
from service.http.sync_schemas import OF_ONE, OF_SYNC
from service.http.web import Answer
from service.model import json_schema
from service.model.example import example_of
from service.model.json_schema import Json
from service.model.record_type import RecordType
from service.model.registry import Referrer, Registry
from service.model.schema import Schema

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one route takes and answers; it documents the method, and the request is held to it.

    `name` is the `operationId`, after which generated clients call their functions; `{type}` and `{types}` in it stand
    for the record type and its collection. `tag` is the group that it is shown in. Without them both follow from the
    path. `example` is a body that works. `body` and the values of `answer` are a purpose of the record type ("create",
    "patch", "read", "view", "page"), "export" for all that an account owns, "changes" for what has changed, a `Schema`,
    a pydantic model, a JSON Schema, or a function from the settings to one of these; None is no body. Those of sync are
    called as in `sync_schemas`, and the body of a push (`is_push`) may be as large as one. `parameters` are the query
    parameters, or the model that `take` reads them into; any other is refused. `headers` are those of an answer.
    `conditional` takes `If-Match`. `public` needs no token. `problems` are codes beyond those that follow from the
    rest. `bounded` tells whether the work of the request at hand is small enough for one transaction; `beforehand`
    makes what takes long and is done before that (`service/http/beforehand.py`); `replayed` makes of the answer that
    was kept for a request with an idempotency key the one that a retry gets. `takes_others` refuses no parameter.
    """

    summary: str
    name: str = ""
    tag: str = ""
    example: Any = None
    parameters: frozenset[str] | type[BaseModel] = frozenset()
    body: Any = None
    body_type: str = "application/json"
    optional_body: bool = False
    answer: Mapping[int, Any] = field(default_factory=dict)
    headers: Mapping[int, Iterable[str]] = field(default_factory=dict)
    conditional: bool = False
    public: bool = False
    problems: Iterable[str] = ()
    media_type: str = "application/json"
    bounded: Callable[[], bool] = lambda: True
    beforehand: Callable[[], Any] | None = None
    replayed: Callable[[Answer], Answer] = lambda kept: kept
    takes_others: bool = False
    is_push: bool = False

    @property
    def known(self) -> frozenset[str]:
        """Return the names of the query parameters."""
        named = self.parameters
        return named if isinstance(named, frozenset) else frozenset(named.model_fields)


def operation(summary: str, **about: Any) -> Callable[[Method], Method]:
    """Describe the method of a resource or a plain view: see `Operation`."""

    def describe(method: Method) -> Method:
        method.operation = Operation(summary, **about)  # type: ignore[attr-defined]
        return method

    return describe


def operation_of(app: Flask, endpoint: str, method: str) -> Operation | None:
    """Return what describes `method` at an endpoint; None where nothing does."""
    view = app.view_functions[endpoint]
    resource = getattr(view, "view_class", None)
    target = view if resource is None else getattr(resource, "get" if method == "HEAD" else method.lower(), None)
    return getattr(target, "operation", None)


def record_type(app: Flask, endpoint: str) -> RecordType | None:
    """Return the record type that an endpoint serves, None for any other endpoint."""
    found: RecordType | None = app.extensions["madang.record_types"].get(endpoint)
    return found


# --- The document ----------------------------------------------------------------------------------------------------

HEADER_TEXTS: Mapping[str, str] = {
    "X-Request-ID": "the id of the request: the client's own, or a new one",
    "ETag": "the revision of the record, in quotes",
    "Accept-Ranges": "`bytes`",
    "Content-Range": "which bytes these are, and of how many",
    "Location": "the path of what was made",
    "Link": 'the next page, with rel="next"',
    "Allow": "the methods that the path has",
    "Retry-After": "seconds to wait",
    "WWW-Authenticate": "the scheme that is asked for",
    "Sync-Problems": "why rows of the push were refused, as JSON: a list of `id` and `problem`",
    "Idempotent-Replayed": "`true` when this is the kept answer to an earlier request",
}
REQUEST_ID_TEXT = (
    "your own id of this request, of 1 to 64 letters, digits and `._-`; any other is replaced by a new one"
)
KEY_SCHEMA = {"type": "string", "pattern": "^[\\x20-\\x7e]{1,255}$"}
PROBLEM_HEADERS = {401: ["WWW-Authenticate"], 405: ["Allow"], **{status: ["Retry-After"] for status in (409, 429, 503)}}

PROBLEM: Json = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {
            "type": "string",
            "description": "What went wrong. It does not change; a newer server may have more of them.",
            "x-extensible-enum": [problem.code for problem in all_problems()],
        },
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Cause"}},
        "error": {"type": "boolean", "description": f"true under {RXDB}, and nowhere else"},
        **{name: schema for problem in all_problems() for name, schema in problem.extension.items()},
    },
    "required": ["type", "title", "status", "code", "detail", "request_id"],
}
CAUSE: Json = {
    "type": "object",
    "description": "One of several causes, with its place in the request.",
    "properties": {
        "pointer": {"type": "string", "format": "json-pointer"},
        **{name: {"type": "string"} for name in ("parameter", "code", "detail")},
    },
    "required": ["code", "detail"],
}


INTRODUCTION = """The backend of an app: accounts, tokens and records as JSON over HTTP.

1. Sign up (`POST /v1/accounts`), and log in ({login}), which gives an access token and a refresh token.
2. Send the access token with every request, as `Authorization: Bearer …`. It lives minutes; refresh it.
3. Make, list, change and delete records. A change may name the `ETag` that it was made on in `If-Match`.
4. Give each write an `Idempotency-Key`, and send it again with the same key until there is an answer.

Every error is a problem document; switch on its `code`, see [/docs/problems](/docs/problems).
"""
TAGS: Mapping[str, str] = {
    "accounts": "Sign-up, the own account, its sessions and events.",
    "auth": "Where tokens are issued, refreshed and ended.",
    "batch": "Many requests in one.",
    "pages": "Where the links of mails lead.",
    "changes": "What has changed while the app was away.",
    "live": "What changes, as it happens.",
    "sync": "The protocols of WatermelonDB and RxDB.",
    "admin": "What those do who run the service: accounts with the role admin.",
    "functions": "What the team of this service lets clients call.",
    "system": "Health, metrics, keys and this document.",
}
METHOD_ORDER = ("GET", "POST", "PATCH", "PUT", "DELETE")


def document(app: Flask) -> Json:
    """Return the OpenAPI document of every route of `app` that clients call; the console is for people."""
    rules = [rule for rule in app.url_map.iter_rules() if not rule.rule.startswith(("/docs/<path:", "/admin"))]
    tags = ordered_tags(app, {tag_of(app, rule) for rule in rules})
    spec = APISpec(
        title="Madang",
        version=own_version(),
        openapi_version="3.1.0",
        info={
            "description": INTRODUCTION.format(login=f"`POST {app.config['JWT_AUTH_URL_RULE']}`"),
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        servers=[{"url": "/", "description": "the server that this document comes from"}],
        tags=[{"name": tag, **({"description": text} if text else {})} for tag, text in tags.items()],
    )
    components = Components(spec)
    components.put("Problem", PROBLEM)
    components.put("Cause", CAUSE)
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    used: set[str] = set()
    described: dict[str, tuple[Rule, Json]] = {}
    for rule in sorted(rules, key=lambda rule: (answers_records(app, rule), rule.rule)):
        if path_of(rule) not in described and (about := dict(operations(app, components, rule, used))):
            described[path_of(rule)] = rule, about
    order = list(tags)
    for path, (rule, about) in sorted(described.items(), key=lambda one: (order.index(tag_of(app, one[1][0])), one[0])):
        spec.path(path, operations=about, parameters=path_parameters(app, rule))
    made: Json = spec.to_dict()
    return made


def answers_records(app: Flask, rule: Rule) -> bool:
    """Tell whether a route answers with records: a type may be called as one of our own schemas, which come first."""
    found = (operation_of(app, rule.endpoint, method) for method in METHOD_ORDER if method in (rule.methods or ()))
    return any(isinstance(kind, str) for about in found if about is not None for kind in about.answer.values())


def ordered_tags(app: Flask, used: set[str]) -> dict[str, str]:
    """Return the groups of operations in the order in which an app comes to them, each with what it is about."""
    registry: Registry = app.extensions["madang.registry"]
    records = {name: str(type.schema.json_schema("read")["description"]) for name, type in registry.items()}
    first, last = ("accounts", "auth"), ("batch", "system")
    others = sorted(used - {*first, *last, *records})
    names = [*first, *records, *others, *last]
    return {name: {**records, **TAGS}.get(name, "") for name in names if name in used}


def tag_of(app: Flask, rule: Rule) -> str:
    """Return the group that the operations of a route are shown in."""
    found = (operation_of(app, rule.endpoint, method) for method in METHOD_ORDER if method in (rule.methods or ()))
    named = next((about.tag for about in found if about is not None and about.tag), "")
    parts = rule.rule.strip("/").split("/")
    return named or (parts[1] if parts[0] == "v1" else parts[0].strip(".").split(".")[0])


def own_version() -> str:
    """Return the version of the service; a checkout that is not installed has none."""
    try:
        return version("madang")
    except PackageNotFoundError:
        return "0.1.0"


def path_of(rule: Rule) -> str:
    """Return the path template of a route."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule).rstrip("/") or "/"


def path_parameters(app: Flask, rule: Rule) -> list[Json]:
    """Return the parameters in the path of a route."""
    record = record_type(app, rule.endpoint)
    text: Json = {"type": "string"}
    id = text if record is None else json_schema.of_value(record.schema.fields["id"], "create")
    return [
        {"name": name, "in": "path", "required": True, "schema": id if name == "id" else text}
        for name in sorted(rule.arguments)
    ]


def operations(app: Flask, components: Components, rule: Rule, used: set[str]) -> Iterator[tuple[str, Json]]:
    """Yield each method of a route with its description; no name that is `used` already comes a second time."""
    for method in METHOD_ORDER:
        found = operation_of(app, rule.endpoint, method) if method in (rule.methods or ()) else None
        if found is not None:
            described = Describer(app, components, rule, method, found).describe()
            if described["operationId"] in used:
                described["operationId"] = name_by_path(method, rule)
            used.add(described["operationId"])
            yield method.lower(), described


def name_by_path(method: str, rule: Rule) -> str:
    """Return the name of an operation that has none of its own."""
    return method.lower() + json_schema.camel(path_of(rule).removeprefix("/v1"))


@dataclass(frozen=True, slots=True)
class Describer:
    """Describes one operation; schemas that have a name go to the `components`."""

    app: Flask
    components: Components
    rule: Rule
    method: str
    operation: Operation

    def describe(self) -> Json:
        """Return the OpenAPI operation object."""
        described: Json = {
            "summary": self.operation.summary,
            "operationId": self.name(),
            "tags": [tag_of(self.app, self.rule)],
            "security": [] if self.operation.public else [{"bearer": []}],
            "parameters": list(self.parameters()),
            "responses": {**self.answers(), **self.problems()},
        }
        if self.operation.body is not None:
            content = {self.operation.body_type: {"schema": self.schema(self.operation.body), **self.example()}}
            described["requestBody"] = {"required": not self.operation.optional_body, "content": content}
        return described

    def name(self) -> str:
        """Return the `operationId`."""
        if (record := self.record) is not None:
            return self.operation.name.format(type=record.document.__name__, types=json_schema.camel(record.name))
        return self.operation.name or name_by_path(self.method, self.rule)

    def example(self) -> Json:
        """Return the member with a body that works, as far as one can be made up."""
        record, found = self.record, self.operation.example
        if record is not None and self.operation.body in ("create", "patch"):
            found = example_of(record.schema, self.operation.body)
        return {} if found is None else {"example": found}

    def parameters(self) -> Iterator[Json]:
        """Yield the parameters in the query string and the headers."""
        for name in sorted(self.operation.known, key=lambda name: ([*PARAMETER_SCHEMAS, name].index(name), name)):
            if (made := self.parameter(name)) is not None:
                about = {"required": self.is_required(name), "description": PARAMETER_TEXTS.get(name, "")}
                yield {"name": name, "in": "query", **about, "schema": made}
        yield header("X-Request-ID", {"type": "string"}, REQUEST_ID_TEXT)
        if self.is_retried():
            yield header("Idempotency-Key", KEY_SCHEMA, "the same for every try of one write, so that it is done once")
        if self.operation.conditional:
            yield header("If-Match", {"type": "string"}, "only if the record is at this ETag")
        if 304 in self.operation.answer:
            yield header("If-None-Match", {"type": "string"}, "only if the record is no longer at this ETag")
        if self.method == "PUT" and self.operation.conditional:
            text = "`*`: only if there is no record with this id"
            yield header("If-None-Match", {"type": "string", "examples": ["*"]}, text)

    def is_retried(self) -> bool:
        """Tell whether the operation is a write that may be sent again with an idempotency key."""
        return self.method != "GET" and self.rule.rule.startswith("/v1/")

    def headers(self, *names: str) -> Json:
        """Return the headers of an answer: those named, and those that follow from the operation."""
        return headers([*names, *(["Idempotent-Replayed"] if self.is_retried() else [])])

    def is_required(self, name: str) -> bool:
        """Tell whether a query parameter has to be there."""
        named = self.operation.parameters
        return not isinstance(named, frozenset) and named.model_fields[name].is_required()

    def parameter(self, name: str) -> Json | None:
        """Return the JSON Schema of a query parameter, narrowed to what the record type has; None if it has nothing."""
        if self.record is not None and name in NARROWED:
            narrowed = NARROWED[name](self.record)
            return None if narrowed is None else self.components.hoisted(PARAMETER_SCHEMAS[name] | narrowed)
        named = self.operation.parameters
        if not isinstance(named, frozenset):
            return self.components.of_model_member(named, name)
        return PARAMETER_SCHEMAS.get(name, {"type": "string"})

    def answers(self) -> Json:
        """Return the answers of success by status."""
        return {
            str(status): {
                "description": "No change" if status == 304 else "Done",
                "headers": self.headers(*self.operation.headers.get(status, ())),
                **({} if body is None else {"content": {self.operation.media_type: {"schema": self.schema(body)}}}),
            }
            for status, body in self.operation.answer.items()
        }

    def problems(self) -> Json:
        """Return the answers of failure by status."""
        by_status: dict[int, list[type[Problem]]] = {}
        for problem in all_problems():
            if problem.code in self.codes():
                by_status.setdefault(problem.status, []).append(problem)
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        return {
            str(status): {
                "description": " ".join(f"`{problem.code}`: {problem.meaning}" for problem in found),
                "headers": self.headers(*PROBLEM_HEADERS.get(status, ())),
                "content": content,
            }
            for status, found in by_status.items()
        }

    def codes(self) -> set[str]:
        """Return the problem codes that the operation may answer."""
        found = {"internal_error", "bad_parameter", "bad_request", "database_unavailable", "overloaded"}
        found.update(self.operation.problems)
        if not self.operation.public:
            found |= {"not_authenticated", "token_expired"}
        if self.operation.body is not None:
            found |= {"malformed_json", "unsupported_media_type", "validation_failed", "too_large", "request_timeout"}
        if self.is_retried():
            found |= {"idempotency_mismatch", "request_in_progress", "too_many_requests", "not_found"}
        if "where" in self.operation.known:
            found |= {"bad_query", "not_supported", "too_expensive", "too_many_requests"}
        if "expand" in self.operation.known and self.record is not None and self.record.references:
            found |= {"too_expensive"}
        if self.method == "DELETE" and any(reference.delete_rule != DO_NOTHING for _, reference in self.referrers()):
            found |= {"still_referenced"}
        if self.rule.arguments:
            found |= {"not_found"}
        if self.operation.conditional:
            found |= {"revision_mismatch", "forbidden"}
        record = self.record
        if record is not None and self.method in ("POST", "PUT", *(["PATCH"] if record.uniques else [])):
            found |= {"already_exists"}
        return found

    def referrers(self) -> Iterable[Referrer]:
        """Return who refers to the record type of the route."""
        return () if self.record is None else self.registry.referrers(self.record)

    def schema(self, kind: Any) -> Json:
        """Return the JSON Schema, or the reference to it, of a body."""
        if isinstance(kind, dict):
            return self.components.hoisted(kind)
        if isinstance(kind, str):
            whole = {"export": of_everything, "changes": of_changes, **OF_SYNC}.get(kind)
            return self.components.hoisted(self.of_record(kind) if whole is None else whole(self.registry))
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return self.components.of_model(kind)
        if isinstance(kind, Schema):
            return self.components.hoisted(kind.json_schema("read"))
        return self.schema(kind(self.app.config))

    @property
    def record(self) -> RecordType | None:
        """The record type of the route, None where it has none."""
        return record_type(self.app, self.rule.endpoint)

    @property
    def registry(self) -> Registry:
        """The record types of the app."""
        found: Registry = self.app.extensions["madang.registry"]
        return found

    def of_record(self, purpose: Any) -> Json:
        """Return the JSON Schema of the route's record type for a purpose."""
        record = self.record
        assert record is not None  # noqa: S101  purposes are named by the record resources only
        if (made := OF_ONE.get(purpose)) is not None:
            return made(record)
        if purpose == "page":
            return of_page(f"{json_schema.title_of(record.document)}Page", of_view(self.registry, record))
        return of_view(self.registry, record) if purpose == "view" else record.schema.json_schema(purpose)


def header(name: str, made: Json, text: str) -> Json:
    """Return a request header."""
    return {"name": name, "in": "header", "required": False, "description": text, "schema": made}


def headers(names: Iterable[str]) -> Json:
    """Return the headers of an answer: those named, and the one that every answer has."""
    return {
        name: {"description": HEADER_TEXTS[name], "schema": {"type": "string"}} for name in ("X-Request-ID", *names)
    }
