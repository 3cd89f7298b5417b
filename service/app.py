"""The application factory: an ordered list of small steps, and the one handler of all errors."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from flask import Flask, Request, Response
from flask.json.provider import JSONProvider
from flask.sessions import SessionInterface
from flask_cors import CORS
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from service import cli, database, errors, indexes, observability, resources, security
from service.context import Globals, g
from service.documents import RECORDS
from service.errors import Problem

EXPOSED_HEADERS = ["ETag", "Link", "Location", "Retry-After", "X-Request-ID", "Idempotent-Replayed"]

BY_STATUS: Mapping[int, type[Problem]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
}
"""What an error of Werkzeug's means; any other below 500 is a bad request."""


class Json(JSONProvider):
    """Flask's JSON by orjson. A resource's dict goes straight to bytes."""

    def dumps(self, obj: Any, **_kwargs: Any) -> str:
        """Return JSON text."""
        return orjson.dumps(obj).decode()

    def loads(self, s: str | bytes, **_kwargs: Any) -> Any:
        """Return the value of JSON text."""
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a JSON answer."""
        return Response(orjson.dumps(self._prepare_response_obj(args, kwargs)), content_type="application/json")


class NoSessions(SessionInterface):
    """Flask's cookie sessions, which an API has no use for: none is opened, none is saved."""

    def open_session(self, app: Flask, request: Request) -> None:
        """Open none."""


def create_app(settings: Mapping[str, Any]) -> Flask:
    """Return the WSGI application for `settings`, as `settings.load` gives them. Opens no connection.

    Raises `UnsupportedField` or `InvalidDocument` for a document that cannot be served, `ValueError` for a setting
    that is not safe.
    """
    app = Flask("service", static_folder=None)
    app.config.from_mapping(settings)
    app.app_ctx_globals_class = Globals
    app.session_interface = NoSessions()
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    for init_app in STEPS:
        init_app(app)
    return app


def check_documents(_app: Flask) -> None:
    """Refuse to start with a record type that cannot be served."""
    for document in RECORDS:
        indexes.check(document)


def use_json(app: Flask) -> None:
    """Let orjson write the answers; after the database, for flask-mongoengine sets a writer of its own."""
    app.json = Json(app)


def trust_proxies(app: Flask) -> None:
    """Believe the `X-Forwarded-*` headers of as many proxies as there are in front."""
    if count := app.config["TRUSTED_PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]


def allow_origins(app: Flask) -> None:
    """Let pages of the configured origins call the API; tokens travel in a header, so never with credentials."""
    CORS(
        app,
        resources=[r"/v1/.*", rf"{app.config['JWT_AUTH_URL_RULE']}(/.*)?", "/openapi.json"],
        origins=app.config["CORS_ORIGINS"],
        expose_headers=EXPOSED_HEADERS,
        supports_credentials=False,
        send_wildcard=True,
        # Apps send no Origin; only a page's request is worth the look at its rules.
        always_send=False,
        max_age=600,
    )


def handle_errors(app: Flask) -> None:
    """Answer every error, whoever raised it, with a problem document."""
    app.register_error_handler(Exception, problem_response)


def problem_response(error: Exception) -> Response:
    """Return the problem document of any exception."""
    if database.active.get() and database.is_conflict(error):
        # Not an answer yet: the transaction around this request is tried again.
        raise error
    problem = as_problem(error)
    if problem.status == 500:
        observability.log.error("internal_error", request_id=g.request_id, exc_info=error)
    elif problem.status == 503:
        observability.log.warning("unavailable", request_id=g.request_id, reason=f"{type(error).__name__}: {error}")
    response = Response(orjson.dumps(problem.as_dict(g.request_id)), problem.status, problem.headers)
    response.content_type = "application/problem+json"
    return response


def as_problem(error: Exception) -> Problem:
    """Return the problem that an exception of Flask, Werkzeug, PyMongo, MongoEngine or our own means to a client."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return from_werkzeug(error)
    return database.problem(error) or errors.InternalError("something went wrong on our side")


def from_werkzeug(error: HTTPException) -> Problem:
    """Return the problem of an HTTP error that Werkzeug or Flask raised."""
    status = error.code or 500
    if status >= 500:
        return errors.InternalError("something went wrong on our side")
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    found = BY_STATUS.get(status, errors.BadRequest)
    detail = "there is nothing at this path" if status == 404 else error.description
    return found(detail, headers=kept)


STEPS: list[Callable[[Flask], None]] = [
    check_documents,
    trust_proxies,
    observability.init_app,
    handle_errors,
    allow_origins,
    database.init_app,
    use_json,
    security.init_app,
    resources.init_app,
    cli.init_app,
]
