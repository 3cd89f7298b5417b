"""The application factory: an ordered list of small steps, and the one handler of all errors."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from flask import Flask, Response
from flask_cors import cross_origin
from flask_mongoengine import MongoEngine
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from service import cli, functions, resources, security
from service.context import Globals, g
from service.core import errors
from service.core.errors import Problem
from service.core.log import log
from service.core.origins import EXPOSED_HEADERS, PREFLIGHT_SECONDS, whole_origins
from service.documents import RECORDS, Record
from service.http import kept_bytes, observability, usage
from service.http.functions import functions_by_name
from service.http.web import (
    PROBLEM_JSON,
    Answer,
    ApiRequest,
    JsonProvider,
    NoSessions,
    Service,
    current_request,
    json_answer,
)
from service.model.registry import Registry
from service.mongo import connection, problems, transactions
from service.upkeep import migrations

BY_STATUS: Mapping[int, type[Problem]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.TooLarge,
    415: errors.UnsupportedMediaType,
}
"""What an error of Werkzeug's means; any other below 500 is a bad request."""


def create_app(
    settings: Mapping[str, Any],
    documents: Sequence[type[Record]] = RECORDS,
    team: Sequence[ModuleType] | None = None,
) -> Flask:
    """Return the WSGI application for `settings`, as `settings.load` gives them, and some record types.

    The functions that clients call are those of the modules of the `team`, of `service/functions/` if none are named.

    Opens no connection.

    Raises `UnsupportedField` or `InvalidDocument` for a document that cannot be served, `ValueError` for a setting
    that is not safe.
    """
    app = Service("service", static_folder=None)
    app.config.from_mapping(settings)
    app.extensions["madang.settings"] = frozenset(settings)
    app.app_ctx_globals_class = Globals
    app.request_class = ApiRequest
    app.response_class = Answer
    app.session_interface = NoSessions()
    app.extensions["madang.registry"] = Registry(documents)
    app.extensions["madang.functions"] = functions_by_name(functions.modules() if team is None else team)
    migrations.check_steps(documents)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    for init_app in STEPS:
        init_app(app)
    return app


def bind_documents(app: Flask) -> None:
    """Bind MongoEngine to the MongoDB of the settings. Opens no connection: the first operation does."""
    app.config["MONGODB_SETTINGS"] = connection.options(app.config)
    MongoEngine().init_app(app)


def use_json(app: Flask) -> None:
    """Let orjson write the answers; after the database, for flask-mongoengine sets a writer of its own."""
    app.json = JsonProvider(app)


def trust_proxies(app: Flask) -> None:
    """Believe the `X-Forwarded-*` headers of as many proxies as there are in front, and of the door.

    The door adds an address to those before, but hands scheme and host on as the first proxy has set them.
    """
    proxies, door = app.config["TRUSTED_PROXIES"], int(app.config["BEHIND_DOOR"])
    if proxies or door:
        hops = proxies or door
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=proxies + door, x_proto=hops, x_host=hops
        )


def allow_origins(app: Flask) -> None:
    """Let pages of the configured origins call the API; tokens travel in a header, so never with credentials."""
    is_open = re.compile(rf"/v1/.*|{re.escape(app.config['JWT_AUTH_URL_RULE'])}(/.*)?|/openapi\.json", re.DOTALL)
    add_headers = cross_origin(
        origins=whole_origins(app.config["CORS_ORIGINS"]),
        expose_headers=[*EXPOSED_HEADERS],
        supports_credentials=False,
        send_wildcard=True,
        always_send=False,
        automatic_options=False,
        max_age=PREFLIGHT_SECONDS,
    )(answer_as_it_is)

    def allow(response: Response) -> Response:
        # Apps send no Origin, and to look through the rules costs 15 µs: only a page's request is worth it.
        sent = current_request()
        return add_headers(response) if "HTTP_ORIGIN" in sent.environ and is_open.fullmatch(sent.path) else response

    app.after_request(allow)


def answer_as_it_is(response: Response) -> Response:
    """Return an answer; Flask-CORS adds its headers to what a function returns."""
    return response


def handle_errors(app: Flask) -> None:
    """Answer every error, whoever raised it, with a problem document."""
    app.register_error_handler(Exception, problem_response)


def problem_response(error: Exception) -> Response:
    """Return the problem document of any exception."""
    if transactions.is_active() and transactions.is_conflict(error):
        # Not an answer yet: the transaction around this request is tried again.
        raise error
    problem = as_problem(error)
    if problem.status == 500:
        log.error("internal_error", request_id=g.request_id, exc_info=error)
    elif problem.status == 503:
        log.warning("unavailable", request_id=g.request_id, reason=f"{type(error).__name__}: {error}")
    answer = json_answer(
        problem.as_dict(g.request_id, current_request().path), problem.status, problem.headers.items(), PROBLEM_JSON
    )
    answer.keepable = problem.keepable
    return answer


def as_problem(error: Exception) -> Problem:
    """Return the problem that an exception of Flask, Werkzeug, PyMongo, MongoEngine or our own means to a client."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return from_werkzeug(error)
    return problems.of(error) or errors.InternalError("something went wrong on our side")


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
    trust_proxies,
    observability.init_app,
    handle_errors,
    allow_origins,
    bind_documents,
    use_json,
    security.init_app,
    usage.init_app,
    kept_bytes.init_app,
    resources.init_app,
    cli.init_app,
]
