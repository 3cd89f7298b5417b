"""The route table: every resource of the service on one page."""

from collections.abc import Callable
from typing import Any

import flask_restful
from flask import Blueprint, Flask, Response

from service.context import current_globals, current_service
from service.core.errors import BadRequest
from service.core.query_string import refuse_unknown
from service.documents import File, Group
from service.http.idempotency import idempotent
from service.http.openapi import operation_of
from service.http.web import current_request, empty_answer, json_answer
from service.model.registry import Registry
from service.pages import account as pages
from service.pages import console, front
from service.query.parse import Parser
from service.resources import changes, docs, system, webhooks
from service.resources.accounts import AccountList, Export, OwnAccount, Password, PublicAccount
from service.resources.addresses import (
    CodeRequest,
    CodeSignIn,
    OwnAddress,
    OwnAddressVerification,
    PasswordReset,
    PasswordResetConfirmation,
)
from service.resources.auth import Login, Logout, Refresh, login_arguments
from service.resources.batch import Batch
from service.resources.changes import ChangeList
from service.resources.files import FileContent, FileLinkList, FileList, ReferredFile
from service.resources.functions import add_functions
from service.resources.groups import GroupMemberItem, GroupMemberList
from service.resources.guests import Guest, Merge, Username
from service.resources.identities import IdentityItem, IdentityList, ProviderSignIn
from service.resources.invitations import GroupInvitationItem, GroupInvitationList, InvitationItem
from service.resources.live import LiveEventStream, TicketList
from service.resources.passkeys import PasskeyItem, PasskeyList, PasskeyOptions, PasskeySignIn, PasskeySignInOptions
from service.resources.push import AdminPushList, OwnPush
from service.resources.records import RecordItem, RecordList
from service.resources.second_factor import (
    OwnSecondFactor,
    RecoveryCodeList,
    SecondFactorConfirmation,
    SecondFactorLogin,
)
from service.resources.sessions import EventList, SessionItem, SessionList
from service.resources.sync import RxdbPuller, RxdbPusher, RxdbStreamer, WatermelonSync
from service.resources.web_sign_in import ProviderCallback, ProviderExchange, ProviderStart
from service.resources.webhooks import (
    DeliveryList,
    DeliveryRepeat,
    WebhookItem,
    WebhookList,
    WebhookPing,
    WebhookSecret,
)
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
    add_accounts(v1)
    v1.add_resource(Batch, "/batch", endpoint="batch")
    v1.add_resource(ChangeList, "/changes", endpoint="changes")
    v1.add_resource(LiveEventStream, "/live", endpoint="live")
    v1.add_resource(TicketList, "/live/tickets", endpoint="tickets")
    v1.add_resource(AdminPushList, "/admin/push", endpoint="admin-push")
    v1.add_resource(WatermelonSync, "/sync/watermelondb", endpoint="watermelon")
    registry: Registry = app.extensions["madang.registry"]
    add_records(app, v1, registry)
    if Group in registry.by_document:
        add_members(v1)
    if File in registry.by_document:
        v1.add_resource(FileContent, "/files/<id>/content", endpoint="file-content")
        v1.add_resource(FileLinkList, "/files/<id>/links", endpoint="file-links")
    add_webhooks(v1)
    add_functions(v1, app.extensions["madang.functions"])
    app.register_blueprint(blueprint)

    add_auth(app)
    for path, view in (*system.ROUTES, *pages.PAGE_ROUTES, *front.FRONT_ROUTES):
        app.add_url_rule(path, view_func=view)
    for method, path, view in console.CONSOLE_ROUTES:
        app.add_url_rule(path, view_func=view, methods=[method])
    docs.init_app(app)
    pages.init_app(app)
    front.init_app(app)
    changes.init_app(app)
    webhooks.init_app(app)


def add_accounts(v1: Api) -> None:
    """Add the routes of people."""
    v1.add_resource(AccountList, "/accounts", endpoint="accounts")
    v1.add_resource(OwnAccount, "/accounts/me", endpoint="own-account")
    v1.add_resource(Password, "/accounts/me/password", endpoint="own-password")
    v1.add_resource(OwnAddress, "/accounts/me/email", endpoint="own-address")
    v1.add_resource(OwnAddressVerification, "/accounts/me/email/verification", endpoint="own-address-verification")
    v1.add_resource(Username, "/accounts/me/username", endpoint="own-username")
    v1.add_resource(Merge, "/accounts/me/merge", endpoint="own-merge")
    v1.add_resource(Export, "/accounts/me/export", endpoint="own-export")
    v1.add_resource(SessionList, "/accounts/me/sessions", endpoint="own-sessions")
    v1.add_resource(SessionItem, "/accounts/me/sessions/<id>", endpoint="own-session")
    v1.add_resource(EventList, "/accounts/me/events", endpoint="own-events")
    v1.add_resource(IdentityList, "/accounts/me/identities", endpoint="own-identities")
    v1.add_resource(IdentityItem, "/accounts/me/identities/<id>", endpoint="own-identity")
    v1.add_resource(PasskeyList, "/accounts/me/passkeys", endpoint="own-passkeys")
    v1.add_resource(PasskeyOptions, "/accounts/me/passkeys/options", endpoint="own-passkey-options")
    v1.add_resource(PasskeyItem, "/accounts/me/passkeys/<id>", endpoint="own-passkey")
    v1.add_resource(OwnSecondFactor, "/accounts/me/totp", endpoint="own-second-factor")
    v1.add_resource(SecondFactorConfirmation, "/accounts/me/totp/confirmation", endpoint="own-second-factor-on")
    v1.add_resource(RecoveryCodeList, "/accounts/me/totp/recovery-codes", endpoint="own-recovery-codes")
    v1.add_resource(OwnPush, "/accounts/me/push", endpoint="own-push")
    v1.add_resource(PublicAccount, "/accounts/<id>", endpoint="account")


def add_auth(app: Flask) -> None:
    """Add the routes where tokens are issued and end, under the path that the settings name."""
    auth = Api(app)
    rule = app.config["JWT_AUTH_URL_RULE"]
    auth.add_resource(Login, rule, endpoint="login")
    auth.add_resource(Guest, f"{rule}/guest", endpoint="guest")
    auth.add_resource(Refresh, f"{rule}/refresh", endpoint="refresh")
    auth.add_resource(Logout, f"{rule}/logout", endpoint="logout")
    auth.add_resource(PasswordReset, f"{rule}/password-reset", endpoint="password-reset")
    confirmation = f"{rule}/password-reset/confirmation"
    auth.add_resource(PasswordResetConfirmation, confirmation, endpoint="password-reset-confirmation")
    auth.add_resource(CodeRequest, f"{rule}/code", endpoint="code")
    auth.add_resource(CodeSignIn, f"{rule}/code/confirmation", endpoint="code-confirmation")
    auth.add_resource(ProviderExchange, f"{rule}/providers/exchange", endpoint="provider-exchange")
    auth.add_resource(ProviderStart, f"{rule}/providers/<name>/start", endpoint="provider-start")
    auth.add_resource(ProviderCallback, f"{rule}/providers/<name>/callback", endpoint="provider-callback")
    auth.add_resource(PasskeySignInOptions, f"{rule}/passkeys/options", endpoint="passkey-options")
    auth.add_resource(PasskeySignIn, f"{rule}/passkeys", endpoint="passkey-sign-in")
    auth.add_resource(SecondFactorLogin, f"{rule}/second-factor", endpoint="second-factor")
    auth.add_resource(ProviderSignIn, f"{rule}/providers/<name>", endpoint="provider-sign-in")


def add_records(app: Flask, v1: Api, registry: Registry) -> None:
    """Add the routes of each record type."""
    for name, type in registry.items():
        parser = Parser(type)
        kwargs = {"registry": registry, "parser": parser}
        app.extensions["madang.parsers"].append(parser)
        # With a slash, which no other endpoint has, nor the name of a type.
        app.extensions["madang.record_types"] |= {f"v1.{name}/list": type, f"v1.{name}/item": type}
        of_all = FileList if type.is_file else RecordList
        v1.add_resource(of_all, f"/{name}", endpoint=f"{name}/list", resource_class_kwargs=kwargs)
        v1.add_resource(RecordItem, f"/{name}/<id>", endpoint=f"{name}/item", resource_class_kwargs=kwargs)
        if any(reference.target is File for reference in type.references.values()):
            v1.add_resource(ReferredFile, f"/{name}/<id>/files/<file>", endpoint=f"{name}-file")
        for part, resource in (("pull", RxdbPuller), ("push", RxdbPusher), ("pullStream", RxdbStreamer)):
            endpoint, path = f"{name}/rxdb-{part}", f"/sync/rxdb/{name}/<version>/{part}"
            app.extensions["madang.record_types"][f"v1.{endpoint}"] = type
            v1.add_resource(resource, path, endpoint=endpoint, resource_class_kwargs={"type": type})


def add_members(v1: Api) -> None:
    """Add the routes of the members of groups, and of those who are invited."""
    v1.add_resource(GroupMemberList, "/groups/<id>/members", endpoint="group-members")
    v1.add_resource(GroupMemberItem, "/groups/<id>/members/<account>", endpoint="group-member")
    v1.add_resource(GroupInvitationList, "/groups/<id>/invitations", endpoint="group-invitations")
    v1.add_resource(GroupInvitationItem, "/groups/<id>/invitations/<invitation>", endpoint="group-invitation")
    v1.add_resource(InvitationItem, "/invitations/<code>", endpoint="invitation")


def add_webhooks(v1: Api) -> None:
    """Add the routes of webhooks."""
    v1.add_resource(WebhookList, "/admin/webhooks", endpoint="webhooks")
    v1.add_resource(WebhookItem, "/admin/webhooks/<id>", endpoint="webhook")
    v1.add_resource(WebhookSecret, "/admin/webhooks/<id>/secret", endpoint="webhook-secret")
    v1.add_resource(WebhookPing, "/admin/webhooks/<id>/ping", endpoint="webhook-ping")
    v1.add_resource(DeliveryList, "/admin/webhooks/<id>/deliveries", endpoint="webhook-deliveries")
    repeat = "/admin/webhooks/<id>/deliveries/<delivery>/repeat"
    v1.add_resource(DeliveryRepeat, repeat, endpoint="webhook-delivery-repeat")


def admit() -> None:
    """Let a request in: who sends it is known where that is asked for, and it brings nothing that nobody reads."""
    sent = current_request()
    if sent.url_rule is None or sent.method == "OPTIONS":
        return
    asked = operation_of(current_service(), sent.url_rule.endpoint, sent.method)
    if asked is None or not asked.public:
        current_globals().identity = identify(sent.environ.get("HTTP_AUTHORIZATION"))
    if sent.parameters and not (asked is not None and asked.takes_others):
        refuse_unknown((name for name, _ in sent.parameters), asked.known if asked is not None else frozenset())
    if asked is not None and asked.is_push:
        sent.max_content_length = current_service().config["MAX_PUSH_LENGTH"]
    if asked is not None and asked.body is None and sent.has_body:
        raise BadRequest("this takes no body")
