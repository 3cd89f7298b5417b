"""Guests: an account before anybody has given a name, and how it becomes a full one, or a part of another."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from service.context import g
from service.documents import Event
from service.documents.account import USERNAME
from service.http.arguments import Arguments, has_body, take
from service.http.beforehand import beforehand
from service.http.openapi import operation
from service.identity import guests
from service.identity.passwords import MAX_SENT, new_password
from service.identity.schemas import ACCOUNT
from service.identity.sessions import device_of
from service.mongo.raw import Raw
from service.resources.accounts import EXAMPLE, PASSWORD, ask_all_but_guests, check_current_password, own_account
from service.resources.auth import Device, TokenAnswer
from service.resources.resource import Resource
from service.security import current_identity, security


class GuestArguments(Arguments):
    """The optional body of a guest's sign-in."""

    device: Device = None


class Name(Arguments):
    """The body that gives an account a name."""

    username: str = Field(pattern=USERNAME, examples=[EXAMPLE["username"]])
    password: Annotated[
        str, Field(max_length=MAX_SENT), WithJsonSchema({**PASSWORD, "examples": [EXAMPLE["password"]]})
    ]


class MergeArguments(Arguments):
    """The body of a merge."""

    guest_refresh_token: str = Field(max_length=500, description="the last one of the guest on this device")


class Guest(Resource):
    """Where somebody begins without a name."""

    @operation(
        "Sign in as a guest",
        name="signInAsGuest",
        tag="auth",
        public=True,
        body=GuestArguments,
        optional_body=True,
        answer={200: TokenAnswer},
        problems=["too_many_requests"],
    )
    def post(self) -> dict[str, Any]:
        """Make an account without a name and return the tokens of its one session.

        Nobody gets into it who has lost them. It goes when it was not used for `GUEST_DAYS`.
        """
        sent = take(GuestArguments) if has_body() else GuestArguments()
        security().throttle.sign_up(g.address)
        account = guests.new_guest()
        Event.record(account["_id"], "sign_up", g.address, sent.device)
        return security().sessions.open(account, g.address, sent.device)


class Username(Resource):
    """The username of an account that has none yet."""

    @operation(
        "Give the own account a username",
        name="nameOwnAccount",
        example=EXAMPLE,
        body=Name,
        answer={200: ACCOUNT},
        problems=["already_exists", "bad_credentials", "reauthentication_required", "too_many_requests"],
        beforehand=lambda: hashed_name(),
    )
    def put(self) -> dict[str, Any]:
        """Make a full account of a guest, with all that it has.

        An account that somebody signs in to by other ways asks for a login of the last five minutes, and one that has
        a password for that.
        """
        account = guests.name(*beforehand(hashed_name))
        Event.record(account["_id"], "named", g.address, device_of(current_identity.session))
        return ACCOUNT.dump(account)


def hashed_name() -> tuple[Raw, str, str]:
    """Return the account that the request at hand gives a name, that name, and the hash of its password."""
    sent, account = take(Name), own_account()
    security().throttle.password_change(account["_id"])
    if (known := account.get("password_hash")) is not None:
        check_current_password(account, sent.password)
        return account, sent.username, known
    ask_all_but_guests(account, "a first password")
    password = new_password({"password": sent.password}, "password", sent.username)
    return account, sent.username, security().hashing.hash(password)


class Merge(Resource):
    """Where a guest becomes a part of the account that somebody has signed in to on the same device."""

    @operation(
        "Take over what a guest has",
        name="mergeGuest",
        body=MergeArguments,
        answer={202: None},
        problems=["forbidden", "not_supported"],
    )
    def post(self) -> tuple[None, int]:
        """Make all that a guest owns, and all that it was given, the own account's.

        The guest's tokens end at once. A worker does the rest, in seconds or minutes, and it is told as changes.
        Ids stay.
        """
        account = str(current_identity)
        if guests.merge(security().sessions, account, take(MergeArguments).guest_refresh_token):
            Event.record(account, "guest_merged", g.address, device_of(current_identity.session))
        return None, 202
