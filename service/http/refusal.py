"""A refusal: the answer to a request that the app does not hear of."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import orjson

from service.core import metrics
from service.core.errors import Problem
from service.core.headers import FRESH, request_id

REFUSED = "refused"
"""The route of a refused request in the metrics: it is not looked up."""


def refuse(problem: Problem, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with a problem that the app does not hear of: counted, but without a log line."""
    named = request_id(environ.get("HTTP_X_REQUEST_ID", ""))
    headers = [*problem.headers.items(), ("Content-Type", "application/problem+json"), ("X-Request-ID", named)]
    start_response(f"{problem.status} {HTTPStatus(problem.status).phrase}", [*headers, *FRESH])
    method = environ["REQUEST_METHOD"]
    metrics.requests_of(method if method in metrics.METHODS else "other", REFUSED, problem.status).inc()
    return [orjson.dumps(problem.as_dict(named, environ["PATH_INFO"]))]
