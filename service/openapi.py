"""From the routes, their operations and the documents: the OpenAPI 3.1 document of the service."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flask import Flask

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of one route takes and answers; it documents the method, and the request is held to it.

    `body` and `answer` name a purpose of the record type ("create", "patch", "read", "page"), or are a class or a
    JSON Schema. `parameters` are the query parameters; any other is refused. `public` routes need no token.
    """

    summary: str
    parameters: frozenset[str] = frozenset()
    body: Any = None
    optional_body: bool = False
    answer: Mapping[int, Any] = field(default_factory=dict)
    headers: Mapping[int, Iterable[str]] = field(default_factory=dict)
    conditional: bool = False
    public: bool = False
    problems: Iterable[str] = ()
    media_type: str = "application/json"


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
    target = view if resource is None else getattr(resource, method.lower().replace("head", "get"), None)
    return getattr(target, "operation", None)


def document(app: Flask) -> dict[str, Any]:
    """Return the OpenAPI document of `app`."""
    return {"openapi": "3.1.0", "info": {"title": "Madang", "version": "0"}, "paths": {}}
