"""The route table: every resource of the service on one page."""

from collections.abc import Callable
from typing import Any

import flask_restful
from flask import Blueprint, Flask, Response

from service.context import current_globals, current_service
from service.core.errors import BadRequest
from service.core.query_string import refuse_unknown
from service.http.idempotency import idempotent
from service.http.openapi import operation_of
from service.http.web import current_request, empty_answer, json_answer
from service.model.registry import Registry
from service.query.parse import Parser
from service.resources import changes, docs, system
from service.resources.accounts import AccountList, Export, OwnAccount, Password, PublicAccount
from service.resources.auth import Login, Logout, Refresh, login_arguments
from service.resources.batch import Batch
from service.resources.changes import ChangeList
from service.resources.live import LiveEventStream, TicketList
from service.resources.records import RecordItem, RecordList
from service.resources.sessions import EventList, SessionItem, SessionList
from service.resources.sync import RxdbPuller, RxdbPusher, RxdbStreamer, WatermelonSync
from service.security import identify


class Api(flask_restful.Api):
    """Flask-RESTful, but with the app's one error handler and the app's JSON."""

    def error_router(self, original_handler: Any, error: Exception) -> Any:
        """Hand every error back to the app."""
        return original_handler(error)

    def make_response(self, data: Any, *args: Any, **kwargs: Any) -> Response:
        """Return the answer of a resource: a dict or a list as JSON, None as an empty body."""
        status, headers = args[0] if args else 200, (kwargs.get("headers") or {}).items()
        if data is not None:
            return json_answer(data, status, headers)
        return empty_answer(status, headers)


class RetriedApi(Api):
    """The resources whose writes a client may send again."""

    def output(self, resource: Callable[..., Any]) -> Callable[..., Response]:
        """Wrap a resource so that a write with an idempotency key is done once."""
        return idempotent(super().output(resource))


def init_app(app: Flask) -> None:
    """Give `app` its routes, each guarded by what its operation says."""
    app.extensions["madang.login"] = login_arguments(app.config)
    app.extensions["madang.record_types"] = {}
    app.extensions["madang.parsers"] = []
    app.before_request(admit)

    blueprint = Blueprint("v1", __name__, url_prefix="/v1")
    v1 = RetriedApi(blueprint)
    v1.add_resource(AccountList, "/accounts", endpoint="accounts")
    v1.add_resource(OwnAccount, "/accounts/me", endpoint="own-account")
    v1.add_resource(Password, "/accounts/me/password", endpoint="own-password")
    v1.add_resource(Export, "/accounts/me/export", endpoint="own-export")
    v1.add_resource(SessionList, "/accounts/me/sessions", endpoint="own-sessions")
    v1.add_resource(SessionItem, "/accounts/me/sessions/<id>", endpoint="own-session")
    v1.add_resource(EventList, "/accounts/me/events", endpoint="own-events")
    v1.add_resource(PublicAccount, "/accounts/<id>", endpoint="account")
    v1.add_resource(Batch, "/batch", endpoint="batch")
    v1.add_resource(ChangeList, "/changes", endpoint="changes")
    v1.add_resource(LiveEventStream, "/live", endpoint="live")
    v1.add_resource(TicketList, "/live/tickets", endpoint="tickets")
    v1.add_resource(WatermelonSync, "/sync/watermelondb", endpoint="watermelon")
    registry: Registry = app.extensions["madang.registry"]
    for name, type in registry.items():
        parser = Parser(type)
        kwargs = {"registry": registry, "parser": parser}
        app.extensions["madang.parsers"].append(parser)
        # With a slash, which no other endpoint has, nor the name of a type.
        app.extensions["madang.record_types"] |= {f"v1.{name}/list": type, f"v1.{name}/item": type}
        v1.add_resource(RecordList, f"/{name}", endpoint=f"{name}/list", resource_class_kwargs=kwargs)
        v1.add_resource(RecordItem, f"/{name}/<id>", endpoint=f"{name}/item", resource_class_kwargs=kwargs)
        for part, resource in (("pull", RxdbPuller), ("push", RxdbPusher), ("pullStream", RxdbStreamer)):
            endpoint, path = f"{name}/rxdb-{part}", f"/sync/rxdb/{name}/<version>/{part}"
            app.extensions["madang.record_types"][f"v1.{endpoint}"] = type
            v1.add_resource(resource, path, endpoint=endpoint, resource_class_kwargs={"type": type})
    app.register_blueprint(blueprint)

    auth = Api(app)
    rule = app.config["JWT_AUTH_URL_RULE"]
    auth.add_resource(Login, rule, endpoint="login")
    auth.add_resource(Refresh, f"{rule}/refresh", endpoint="refresh")
    auth.add_resource(Logout, f"{rule}/logout", endpoint="logout")

    for path, view in system.ROUTES:
        app.add_url_rule(path, view_func=view)
    docs.init_app(app)
    changes.init_app(app)


def admit() -> None:
    """Let a request in: who sends it is known where that is asked for, and it brings nothing that nobody reads."""
    sent = current_request()
    if sent.url_rule is None or sent.method == "OPTIONS":
        return
    asked = operation_of(current_service(), sent.url_rule.endpoint, sent.method)
    if asked is None or not asked.public:
        current_globals().identity = identify(sent.environ.get("HTTP_AUTHORIZATION"))
    if sent.parameters:
        refuse_unknown((name for name, _ in sent.parameters), asked.known if asked is not None else frozenset())
    if asked is not None and asked.is_push:
        sent.max_content_length = current_service().config["MAX_PUSH_LENGTH"]
    if asked is not None and asked.body is None and sent.has_body:
        raise BadRequest("this takes no body")
