"""From the routes, their operations and the documents: the OpenAPI 3.1 document of the service."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import permutations
from typing import Any, TypeVar

from apispec import APISpec
from flask import Flask
from mongoengine import DENY
from pydantic import BaseModel
from werkzeug.routing import Rule

from service.core.errors import Problem, all_problems
from service.documents.account import Account
from service.identity.schemas import public_account
from service.model import json_schema
from service.model.json_schema import Json
from service.model.record_type import RecordType, Reference
from service.model.registry import Referrer, Registry
from service.model.schema import Schema
from service.query.parse import DEFAULT_LIMIT, LIMIT, SCOPES

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one route takes and answers; it documents the method, and the request is held to it.

    `body` and the values of `answer` are a purpose of the record type ("create", "patch", "read", "page"), a
    `Schema`, a pydantic model, a JSON Schema, or a function from the settings to one of these; None is no body.
    `parameters` are the query parameters, or the model that `take` reads them into; any other is refused. `headers` are
    those of an answer. `conditional` takes `If-Match`. `public` needs no token. `problems` are codes beyond those that
    follow from the rest. `bounded` tells whether the work of the request at hand is small enough for one transaction.
    """

    summary: str
    parameters: frozenset[str] | type[BaseModel] = frozenset()
    body: Any = None
    optional_body: bool = False
    answer: Mapping[int, Any] = field(default_factory=dict)
    headers: Mapping[int, Iterable[str]] = field(default_factory=dict)
    conditional: bool = False
    public: bool = False
    problems: Iterable[str] = ()
    media_type: str = "application/json"
    bounded: Callable[[], bool] = lambda: True

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
    "Location": "the path of what was made",
    "Link": 'the next page, with rel="next"',
    "Allow": "the methods that the path has",
    "Retry-After": "seconds to wait",
    "WWW-Authenticate": "the scheme that is asked for",
    "Idempotent-Replayed": "`true` when this is the kept answer to an earlier request",
}
REQUEST_ID_TEXT = (
    "your own id of this request, of 1 to 64 letters, digits and `._-`; any other is replaced by a new one"
)
KEY_SCHEMA = {"type": "string", "pattern": "^[\\x20-\\x7e]{1,255}$"}
PROBLEM_HEADERS = {401: ["WWW-Authenticate"], 405: ["Allow"], **{status: ["Retry-After"] for status in (409, 429, 503)}}

PARAMETER_SCHEMAS: Mapping[str, Json] = {
    "where": {"type": "string"},
    "sort": {"type": "string"},
    "limit": {"type": "integer", "minimum": 1, "maximum": LIMIT, "default": DEFAULT_LIMIT},
    "cursor": {"type": "string"},
    "fields": {"type": "string", "examples": ["id,updated_at"]},
    "expand": {"type": "string"},
    "count": {"type": "boolean", "default": False},
    "search": {"type": "string", "pattern": r"\S", "maxLength": 500},
    "scope": {"type": "string", "enum": [",".join(some) for n in (1, 2, 3) for some in permutations(SCOPES, n)]},
}
NARROWED: Mapping[str, Callable[[RecordType], Json | None]] = {
    "where": lambda record: {"examples": [f'{{"{name}": {{"$exists": true}}}}' for name in list(record.filters)[-1:]]},
    "sort": lambda record: {"enum": list(record.sorts)},
    "fields": lambda record: some_of(record.schema.fields),
    "expand": lambda record: some_of(record.references),
    "search": lambda record: {} if record.search else None,
}
"""What the record type says of the values of a query parameter; None where it has nothing for it."""


def some_of(names: Iterable[str]) -> Json | None:
    """Return the JSON Schema of one or several of some names, with commas; None where there are none."""
    some = "|".join(map(re.escape, names))
    return {"pattern": f"^({some})(,({some}))*$"} if some else None


PARAMETER_TEXTS: Mapping[str, str] = {
    "where": "Which records, as JSON.",
    "sort": "The order; null is lowest, ties end on the id.",
    "limit": "Most records of a page.",
    "cursor": "The `next` of an earlier answer to the same query.",
    "fields": "Send the id and these fields only, with commas.",
    "expand": "Send these references as the records that they point to, with commas.",
    "count": "Add the exact `total`.",
    "search": "Full-text search, best match first; in the own records only.",
    "scope": "`mine`, `shared`, `public`, or several with commas.",
}

PROBLEM: Json = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": [problem.code for problem in all_problems()]},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Cause"}},
        **{name: schema for problem in all_problems() for name, schema in problem.extension.items()},
    },
    "required": ["type", "title", "status", "code", "detail", "request_id"],
}
CAUSE: Json = {
    "type": "object",
    "description": "One of several causes, with its place in the request.",
    "properties": {
        "pointer": {"type": "string", "format": "json-pointer"},
        "parameter": {"type": "string"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
    "required": ["code", "detail"],
}


def document(app: Flask) -> Json:
    """Return the OpenAPI document of every route of `app`."""
    spec = APISpec(
        title="Madang",
        version=own_version(),
        openapi_version="3.1.0",
        info={"description": "Accounts, tokens and app data for mobile apps.", "license": {"name": "Apache-2.0"}},
    )
    spec.components.schema("Problem", PROBLEM)
    spec.components.schema("Cause", CAUSE)
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        if "<path:" in rule.rule:
            continue  # files of Swagger UI: nobody's API
        described = dict(operations(app, spec, rule))
        if described:
            spec.path(path_of(rule), operations=described, parameters=path_parameters(app, rule))
    made: Json = spec.to_dict()
    return made


def own_version() -> str:
    """Return the version of the service; a checkout that is not installed has none."""
    try:
        return version("madang")
    except PackageNotFoundError:
        return "0.1.0"


def path_of(rule: Rule) -> str:
    """Return the path template of a route."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule).rstrip("/")


def path_parameters(app: Flask, rule: Rule) -> list[Json]:
    """Return the parameters in the path of a route."""
    record = record_type(app, rule.endpoint)
    made = {"type": "string"} if record is None else json_schema.of_value(record.schema.fields["id"], "create")
    return [{"name": name, "in": "path", "required": True, "schema": made} for name in sorted(rule.arguments)]


def operations(app: Flask, spec: APISpec, rule: Rule) -> Iterator[tuple[str, Json]]:
    """Yield each method of a route with its description."""
    for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
        found = operation_of(app, rule.endpoint, method)
        if found is not None:
            yield method.lower(), Describer(app, spec, rule, method, found).describe()


@dataclass(frozen=True, slots=True)
class Describer:
    """Describes one operation; schemas that have a name go to the components of `spec`."""

    app: Flask
    spec: APISpec
    rule: Rule
    method: str
    operation: Operation

    def describe(self) -> Json:
        """Return the OpenAPI operation object."""
        described: Json = {
            "summary": self.operation.summary,
            "operationId": "-".join(re.findall(r"\w+", f"{self.method.lower()} {path_of(self.rule)}")),
            "tags": [self.tag()],
            "security": [] if self.operation.public else [{"bearer": []}],
            "parameters": list(self.parameters()),
            "responses": {**self.answers(), **self.problems()},
        }
        if self.operation.body is not None:
            content = {"application/json": {"schema": self.schema(self.operation.body)}}
            described["requestBody"] = {"required": not self.operation.optional_body, "content": content}
        return described

    def tag(self) -> str:
        """Return the group that the operation is shown in."""
        parts = self.rule.rule.strip("/").split("/")
        return parts[1] if parts[0] == "v1" else parts[0].strip(".").split(".")[0]

    def parameters(self) -> Iterator[Json]:
        """Yield the parameters in the query string and the headers."""
        for name in sorted(self.operation.known):
            if (made := self.parameter(name)) is not None:
                text = PARAMETER_TEXTS.get(name, "")
                yield {"name": name, "in": "query", "description": text, "schema": made}
        yield header("X-Request-ID", {"type": "string"}, REQUEST_ID_TEXT)
        if self.is_retried():
            yield header("Idempotency-Key", KEY_SCHEMA, "the same for every try of one write, so that it is done once")
        if self.operation.conditional:
            yield header("If-Match", {"type": "string"}, "only if the record is at this ETag")
        if 304 in self.operation.answer:
            yield header("If-None-Match", {"type": "string"}, "only if the record is no longer at this ETag")
        if self.method == "PUT" and self.operation.conditional:
            yield header("If-None-Match", {"const": "*"}, "only if there is no record with this id")

    def is_retried(self) -> bool:
        """Tell whether the operation is a write that may be sent again with an idempotency key."""
        return self.method != "GET" and self.rule.rule.startswith("/v1/")

    def headers(self, *names: str) -> Json:
        """Return the headers of an answer: those named, and those that follow from the operation."""
        return headers([*names, *(["Idempotent-Replayed"] if self.is_retried() else [])])

    def parameter(self, name: str) -> Json | None:
        """Return the JSON Schema of a query parameter, narrowed to what the record type has; None if it has nothing."""
        record = record_type(self.app, self.rule.endpoint)
        if record is not None and name in NARROWED:
            narrowed = NARROWED[name](record)
            return None if narrowed is None else PARAMETER_SCHEMAS[name] | narrowed
        named = self.operation.parameters
        if not isinstance(named, frozenset):
            return dict(named.model_json_schema()["properties"][name])
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
            found |= {"idempotency_mismatch", "request_in_progress"}
        if "where" in self.operation.known:
            found |= {"bad_query", "not_supported"}
        if self.method == "DELETE" and any(reference.delete_rule == DENY for _, reference in self.referrers()):
            found |= {"still_referenced"}
        if self.rule.arguments:
            found |= {"not_found"}
        if self.operation.conditional:
            found |= {"revision_mismatch", "forbidden"}
        record = record_type(self.app, self.rule.endpoint)
        if record is not None and self.method in ("POST", "PUT", *(["PATCH"] if record.uniques else [])):
            found |= {"already_exists"}
        return found

    def referrers(self) -> Iterable[Referrer]:
        """Return who refers to the record type of the route."""
        registry: Registry = self.app.extensions["madang.registry"]
        record = record_type(self.app, self.rule.endpoint)
        return () if record is None else registry.referrers(record)

    def schema(self, kind: Any) -> Json:
        """Return the JSON Schema, or the reference to it, of a body."""
        if isinstance(kind, dict):
            return kind
        if isinstance(kind, str):
            return self.of_record(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            made = kind.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, part in made.pop("$defs", {}).items():
                self.named(name, part)
            return self.named(kind.__name__, made)
        if isinstance(kind, Schema):
            return self.named(kind.document.__name__, kind.json_schema("read"))
        return self.schema(kind(self.app.config))

    def of_record(self, purpose: Any) -> Json:
        """Return the reference to the schema of the route's record type, or of a document, for a purpose."""
        record = record_type(self.app, self.rule.endpoint)
        assert record is not None  # noqa: S101  purposes are named by the record resources only
        if purpose == "page":
            return self.named(f"{record.document.__name__}Page", page(self.of_record("view")))
        if purpose == "view":
            return self.named(f"{record.document.__name__}View", self.view(record))
        name = record.document.__name__ + {"read": "", "create": "Create", "patch": "Patch"}[purpose]
        return self.named(name, record.schema.json_schema(purpose))

    def view(self, record: RecordType) -> Json:
        """Return the JSON Schema of a record as `fields` and `expand` let it come: in part, with records for ids."""
        expanded = {reference.place.field: self.target(reference) for reference in record.references.values()}
        return {**record.schema.json_schema("read", expanded), "required": ["id"]}

    def target(self, reference: Reference) -> Json:
        """Return the reference to the schema of what a reference is expanded to."""
        if reference.target is Account:
            return self.named("PublicAccount", public_account())
        registry: Registry = self.app.extensions["madang.registry"]
        target = registry.of(reference.target)
        return self.named(target.document.__name__, target.schema.json_schema("read"))

    def named(self, name: str, made: Json) -> Json:
        """Return the reference to a schema among the components, put there at its first use."""
        if name not in self.spec.components.schemas:
            self.spec.components.schema(name, made)
        return {"$ref": f"#/components/schemas/{name}"}


def header(name: str, made: Json, text: str) -> Json:
    """Return a request header."""
    return {"name": name, "in": "header", "required": False, "description": text, "schema": made}


def headers(names: Iterable[str]) -> Json:
    """Return the headers of an answer: those named, and the one that every answer has."""
    return {
        name: {"description": HEADER_TEXTS[name], "schema": {"type": "string"}} for name in ("X-Request-ID", *names)
    }


def page(item: Json) -> Json:
    """Return the JSON Schema of a page of `item`s."""
    return {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": item},
            "next": {"type": ["string", "null"], "description": "cursor of the next page, null on the last"},
            "total": {"type": "integer", "description": "how many there are in all, with `count=true`"},
        },
        "required": ["items", "next"],
        "additionalProperties": False,
    }
