"""Login, refresh and logout: where tokens are issued and end."""

from typing import Annotated, Any

from flask import current_app
from pydantic import Field, create_model

from service.context import g
from service.documents import Event
from service.http.arguments import Arguments, has_body, take
from service.http.openapi import operation
from service.identity.passwords import MAX_SENT
from service.identity.sessions import device_of
from service.resources.resource import Resource
from service.security import current_identity, security

Device = Annotated[
    str | None, Field(max_length=80, description="a name for the session list", examples=["Ada's phone"])
]


def login_arguments(config: dict[str, Any]) -> type[Arguments]:
    """Return the body of a login; the settings name its two main fields."""
    username, password = config["JWT_AUTH_USERNAME_KEY"], config["JWT_AUTH_PASSWORD_KEY"]
    return create_model(
        "LoginArguments",
        __base__=Arguments,
        username=(str, Field(alias=username, max_length=200, examples=["ada"])),
        password=(str, Field(alias=password, max_length=MAX_SENT, examples=["correct horse battery"])),
        device=(Device, None),
    )


class RefreshArguments(Arguments):
    """The body of a refresh."""

    refresh_token: str = Field(max_length=500)


class LogoutArguments(Arguments):
    """The optional body of a logout."""

    everywhere: bool = Field(default=False, description="end all sessions of the account")


class TokenAnswer(Arguments):
    """The tokens of a session."""

    access_token: str
    token_type: str = Field(examples=["Bearer"])
    expires_in: int = Field(description="seconds that the access token lives")
    refresh_token: str
    session_id: str


class Login(Resource):
    """Where a username and a password are exchanged for tokens."""

    @operation(
        "Log in",
        name="logIn",
        tag="auth",
        public=True,
        body=login_arguments,
        answer={200: TokenAnswer},
        problems=["bad_credentials", "second_factor_required", "forbidden", "too_many_requests"],
    )
    def post(self) -> dict[str, Any]:
        """Start a session on this device and return its tokens."""
        sent: Any = take(current_app.extensions["madang.login"])
        account = security().log_in(sent.username, sent.password, g.address, sent.device)
        return security().enter(account, g.address, sent.device)


class Refresh(Resource):
    """Where a refresh token is exchanged for new tokens."""

    @operation(
        "Refresh the tokens",
        name="refreshTokens",
        tag="auth",
        public=True,
        body=RefreshArguments,
        answer={200: TokenAnswer},
        problems=["not_authenticated", "token_reused"],
    )
    def post(self) -> dict[str, Any]:
        """Spend a refresh token; sent again within the grace, it gets the same answer."""
        return security().sessions.refresh(take(RefreshArguments).refresh_token, g.address, g.request_id)


class Logout(Resource):
    """Where sessions end."""

    @operation("Log out", name="logOut", tag="auth", body=LogoutArguments, optional_body=True, answer={204: None})
    def post(self) -> tuple[None, int]:
        """End this session, or all of the account."""
        sent = take(LogoutArguments) if has_body() else LogoutArguments()
        account, device = str(current_identity), device_of(current_identity.session)
        security().sessions.end(account, only=None if sent.everywhere else current_identity.session)
        Event.record(account, "logout_everywhere" if sent.everywhere else "logout", g.address, device)
        return None, 204
