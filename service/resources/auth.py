"""Login: where tokens are issued."""

from typing import Any

from flask import current_app, request
from flask_restful import Resource
from pydantic import Field, create_model

from service.openapi import operation
from service.resources.arguments import Arguments, take
from service.security import authenticate, open_session


def login_arguments(config: dict[str, Any]) -> type[Arguments]:
    """Return the body of a login; the settings name its two main fields."""
    username, password = config["JWT_AUTH_USERNAME_KEY"], config["JWT_AUTH_PASSWORD_KEY"]
    return create_model(
        "Login",
        __base__=Arguments,
        username=(str, Field(alias=username, max_length=200)),
        password=(str, Field(alias=password, max_length=200)),
        device=(str | None, Field(default=None, max_length=80, description="a name for the session list")),
    )


class TokenAnswer(Arguments):
    """The tokens of a session."""

    access_token: str
    token_type: str = Field(examples=["Bearer"])
    expires_in: int = Field(description="seconds that the access token lives")
    refresh_token: str
    session_id: str


class Login(Resource):
    """Where a username and a password are exchanged for tokens."""

    @operation("Log in", public=True, body=login_arguments, answer={200: TokenAnswer}, problems=["bad_credentials"])
    def post(self) -> dict[str, Any]:
        """Start a session on this device and return its tokens."""
        sent: Any = take(current_app.extensions["madang.login"])
        account = authenticate(sent.username, sent.password)
        return open_session(account["_id"], sent.device, request.remote_addr)
