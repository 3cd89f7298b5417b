"""Accounts: sign-up, the own account, the public part of others."""

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import orjson
from flask import Response
from pydantic import AfterValidator, Field, WithJsonSchema
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from service.context import current_registry, g
from service.core.clock import now
from service.core.errors import (
    AlreadyExists,
    BadCredentials,
    Cause,
    NotAuthenticated,
    NotFound,
    ReauthenticationRequired,
    ValidationFailed,
)
from service.core.ids import new_id
from service.core.log import log
from service.documents import Account, Event
from service.documents.account import ALIVE, public
from service.http.arguments import Arguments, json_body, json_object, take
from service.http.beforehand import beforehand
from service.http.openapi import operation
from service.http.usage import account_usage
from service.http.web import Answer, empty_answer
from service.identity.deletion import delete_account, exported
from service.identity.passwords import MAX_LENGTH, MAX_SENT, MIN_LENGTH, acceptable
from service.identity.schemas import ACCOUNT, public_account
from service.identity.sessions import device_of
from service.model import operands, patch
from service.model.record_type import RecordType
from service.model.validation import required, validate, validator_of_rules
from service.mongo import deadline, driver, transactions
from service.mongo.raw import Raw
from service.resources.resource import Resource
from service.security import current_identity, security

RECENT_LOGIN_SECONDS = 300
PASSWORD = {"type": "string", "minLength": MIN_LENGTH, "maxLength": MAX_LENGTH, "format": "password"}
EXAMPLE = {"username": "ada", "password": "correct horse battery"}


class PasswordChange(Arguments):
    """The body of a change of password."""

    current_password: str = Field(max_length=MAX_SENT, examples=[EXAMPLE["password"]])
    new_password: Annotated[Any, WithJsonSchema({**PASSWORD, "examples": ["three green boats"]})]


def sign_up_schema(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of a sign-up: an account with a password."""
    account = ACCOUNT.json_schema("create")
    properties = {**account["properties"], "password": PASSWORD}
    return {**account, "title": "SignUp", "properties": properties, "required": [*account["required"], "password"]}


def change_schema(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of a change of the own account."""
    return ACCOUNT.json_schema("patch")


class AccountList(Resource):
    """Where accounts are made."""

    @operation(
        "Sign up",
        name="signUp",
        example=EXAMPLE,
        public=True,
        body=sign_up_schema,
        answer={201: ACCOUNT},
        headers={201: ["Location"]},
        problems=["already_exists", "too_many_requests"],
        beforehand=lambda: hashed_sign_up(),
    )
    def post(self) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Make an account."""
        account = store(*beforehand(hashed_sign_up))
        Event.record(account["_id"], "sign_up", g.address)
        return ACCOUNT.dump(account), 201, {"Location": "/v1/accounts/me"}


def hashed_sign_up() -> tuple[dict[str, Any], str]:
    """Return the content of the account that the request at hand asks for, and the hash of its password."""
    body = json_object()
    found: list[Any] = []
    content = operands.collected(found, lambda: ACCOUNT.load(without_password(body)))
    password = operands.collected(found, lambda: new_password(body, "password", body.get("username")))
    if found:
        raise ValidationFailed(found)
    security().throttle.sign_up(g.address)
    return content, security().hashing.hash(password)


def store(content: dict[str, Any], password_hash: str) -> Raw:
    """Store a new account and return it. Raises `AlreadyExists` when its username or id is taken."""
    key = content["username"].lower()
    account = Account.new({"_id": new_id(), **content, "username_key": key, "password_hash": password_hash})
    try:
        Account._get_collection().insert_one(account)
    except DuplicateKeyError:
        # In a transaction the duplicate has undone it already, and nothing more can be read in it.
        if transactions.outside(driver.find_one, Account._get_collection(), {"_id": account["_id"]}) is not None:
            cause = Cause("not_unique", "an id that no account has", pointer="/id")
            raise AlreadyExists("the id is taken", [cause]) from None
        cause = Cause("not_unique", "a name that no account has, whatever its capitals", pointer="/username")
        raise AlreadyExists("the username is taken", [cause]) from None
    return account


def without_password(body: dict[str, Any]) -> dict[str, Any]:
    """Return a sign-up without its password, which is no field of the document."""
    return {name: value for name, value in body.items() if name != "password"}


def new_password(body: dict[str, Any], name: str, username: Any) -> str:
    """Return the new password in a body; raises `ValidationFailed` where it may not be used."""
    if name not in body:
        raise ValidationFailed([required(name)])
    rule = AfterValidator(lambda password: acceptable(password, username if isinstance(username, str) else ""))
    password: str = validate(validator_of_rules(rule), body[name], name)
    return password


class OwnAccount(Resource):
    """The account of the one who asks."""

    @operation("Get the own account", name="getOwnAccount", answer={200: ACCOUNT})
    def get(self) -> dict[str, Any]:
        """Return the own account."""
        return ACCOUNT.dump(own_account())

    @operation(
        "Change the own account",
        name="changeOwnAccount",
        example={"display_name": "Ada Lovelace"},
        body=change_schema,
        answer={200: ACCOUNT},
    )
    def patch(self) -> dict[str, Any]:
        """Change display name and e-mail address."""
        wanted = patch.parse(ACCOUNT, json_body())
        update = wanted.update
        if "email" in wanted.named and wanted.values.get("email") != own_account().get("email"):
            # A new address is one that nobody has confirmed.
            update.setdefault("$set", {})["email_verified"] = False
        update.setdefault("$set", {})["updated_at"] = now()
        account = Account._get_collection().find_one_and_update(
            {"_id": str(current_identity), **ALIVE}, Account.written(update), return_document=ReturnDocument.AFTER
        )
        return ACCOUNT.dump(there(account))

    @operation(
        "Delete the own account",
        name="deleteOwnAccount",
        answer={204: None},
        problems=["reauthentication_required"],
        bounded=lambda: False,
    )
    def delete(self) -> Answer:
        """Delete the account with all that it owns. It asks for a login of the last five minutes."""
        if time.time() - current_identity.auth_time > RECENT_LOGIN_SECONDS:
            raise ReauthenticationRequired(
                "log in again; deleting an account asks for a login of the last five minutes"
            )
        account = str(current_identity)
        security().sessions.end(account)
        # It may take longer than other requests: what it says is done when it is answered.
        deadline.apart(delete_account, current_registry(), account)
        log.warning("account_deleted", account=account, request_id=g.request_id)
        answer = empty_answer(204)
        answer.keepable = False  # nobody is there who could ask again
        return answer


class Password(Resource):
    """The password of the one who asks."""

    @operation(
        "Change the own password",
        name="changeOwnPassword",
        body=PasswordChange,
        answer={204: None},
        problems=["bad_credentials", "too_many_requests"],
        beforehand=lambda: checked_change(),
    )
    def put(self) -> tuple[None, int]:
        """Set a new password; every other session ends."""
        account, password_hash = beforehand(checked_change)
        same = {"_id": account["_id"], "password_hash": account["password_hash"]}
        change = {"password_hash": password_hash, "updated_at": now()}
        if not Account._get_collection().update_one(same, Account.written({"$set": change})).matched_count:
            raise BadCredentials("the password was changed at the same time")
        # First the account, then the sessions: a login that runs at the same time looks at the account last.
        security().sessions.end(account["_id"], but=current_identity.session)
        Event.record(account["_id"], "password_changed", g.address, device_of(current_identity.session))
        return None, 204


def checked_change() -> tuple[Raw, str]:
    """Return the account that may change its password as the request at hand asks, and the hash of the new one."""
    sent = take(PasswordChange)
    account = own_account()
    security().throttle.password_change(account["_id"])
    if not security().hashing.matches(account["password_hash"], sent.current_password):
        transactions.outside(Event.record, account["_id"], "login_failed", g.address)
        raise BadCredentials("the current password is wrong")
    password = new_password({"new_password": sent.new_password}, "new_password", account["username"])
    return account, security().hashing.hash(password)


class Export(Resource):
    """All that the service has of an account."""

    @operation(
        "Export the own account and all that it owns",
        name="exportOwnAccount",
        answer={200: "export"},
        problems=["too_many_requests"],
    )
    def get(self) -> Response:
        """Stream one JSON document, record by record."""
        account, usage = own_account(), account_usage()
        usage.check(account["_id"])
        pieces = export(account, exported(current_registry(), account))
        return Answer(usage.each(account["_id"], pieces), mimetype="application/json")


def export(account: Raw, records: Iterable[tuple[RecordType, Iterator[Raw]]]) -> Iterator[bytes]:
    """Yield the JSON of an account and of its records by collection, a piece at a time."""
    yield b'{"account":' + orjson.dumps(ACCOUNT.dump(account))
    for type, rows in records:
        yield b',"' + type.name.encode() + b'":['
        for index, row in enumerate(filter(type.schema.is_readable, rows)):
            yield (b"," if index else b"") + orjson.dumps(type.schema.dump(row))
        yield b"]"
    yield b"}"


class PublicAccount(Resource):
    """What everyone signed in may know of an account."""

    @operation("Get the public part of an account", name="getAccount", answer={200: public_account})
    def get(self, id: str) -> dict[str, Any]:
        """Return id, username and display name."""
        account = Account._get_collection().find_one({"_id": id, **ALIVE})
        if account is None:
            raise NotFound("there is no such account")
        return public(account)


def own_account() -> Raw:
    """Return the stored account of the current identity."""
    return there(Account._get_collection().find_one({"_id": str(current_identity), **ALIVE}))


def there(account: Raw | None) -> Raw:
    """Return an account that is there; one that was deleted since the token was checked can do nothing."""
    if account is None:
        raise NotAuthenticated("the account is gone")
    return account
