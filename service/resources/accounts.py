"""Accounts: sign-up, the own account, the public part of others."""

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import orjson
from flask import Response, current_app
from pydantic import Field, WithJsonSchema
from pymongo import ReturnDocument

from service.context import current_registry, g
from service.core.clock import now
from service.core.errors import (
    BadCredentials,
    LastWayIn,
    NotAuthenticated,
    NotFound,
    ReauthenticationRequired,
    ValidationFailed,
)
from service.core.log import log
from service.documents import Account, Event, Invitation, Session
from service.documents.account import ALIVE, public
from service.http.arguments import Arguments, json_body, json_object, take
from service.http.beforehand import beforehand
from service.http.openapi import operation
from service.http.usage import account_usage
from service.http.web import Answer, empty_answer
from service.identity.accounts import store_account
from service.identity.deletion import delete_account, exported
from service.identity.passwords import MAX_LENGTH, MAX_SENT, MIN_LENGTH, new_password
from service.identity.schemas import (
    ACCOUNT,
    INVITATION,
    OWN_MEMBERSHIP,
    dump_identity,
    dump_passkey,
    dump_push,
    dump_second_factor,
    listed,
    public_account,
)
from service.identity.sessions import device_of
from service.identity.ways_in import has_way_beside_address
from service.model import operands, patch
from service.model.record_type import RecordType
from service.model.validation import required
from service.mongo import deadline, transactions
from service.mongo.raw import Raw
from service.records.storage import used_of
from service.records.store import attempts
from service.resources.resource import Resource
from service.security import current_identity, security

RECENT_LOGIN_SECONDS = 300
PASSWORD = {"type": "string", "minLength": MIN_LENGTH, "maxLength": MAX_LENGTH, "format": "password"}
EXAMPLE = {"username": "ada", "password": "correct horse battery"}


class PasswordChange(Arguments):
    """The body of a change of password."""

    current_password: str | None = Field(
        default=None,
        max_length=MAX_SENT,
        description="left out by an account that has no password",
        examples=[EXAMPLE["password"]],
    )
    new_password: Annotated[Any, WithJsonSchema({**PASSWORD, "examples": ["three green boats"]})]


def sign_up_schema(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of a sign-up: an account with a password."""
    account = ACCOUNT.json_schema("create")
    properties = {**account["properties"], "password": PASSWORD}
    named = properties["username"]
    properties["username"] = {**named["anyOf"][0], "description": named["description"]}
    return {**account, "title": "SignUp", "properties": properties, "required": ["username", "password"]}


def change_schema(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of a change of the own account."""
    return ACCOUNT.json_schema("patch")


def own_account_schema(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the own account, with how many bytes its files take."""
    account, number = ACCOUNT.json_schema("read"), {"type": "integer", "minimum": 0}
    storage = {
        "title": "Storage",
        "type": "object",
        "description": "Bytes that the files of the account take, with those of uploads that are under way.",
        "properties": {"used": number, "limit": number},
        "required": ["used", "limit"],
    }
    properties = {**account["properties"], "storage": storage}
    return {**account, "title": "OwnAccount", "properties": properties, "required": [*account["required"], "storage"]}


class AccountSearch(Arguments):
    """The parameters of a look for an account."""

    username: str = Field(max_length=40, description="The whole name, whatever its capitals.", examples=["ada"])


def account_list(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the accounts that were found."""
    return listed("PublicAccountList", public_account())


class AccountList(Resource):
    """Where accounts are made and found."""

    @operation(
        "Find an account by its username",
        name="findAccounts",
        parameters=AccountSearch,
        answer={200: account_list},
        problems=["too_many_requests"],
    )
    def get(self) -> dict[str, Any]:
        """Return the public part of the account with this username, if there is one."""
        asked = take(AccountSearch, "query")
        security().throttle.look_up(str(current_identity))
        found = Account._get_collection().find_one({"username_key": asked.username.lower(), **ALIVE})
        return {"items": [] if found is None else [public(found)]}

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
        account = store_account(*beforehand(hashed_sign_up))
        Event.record(account["_id"], "sign_up", g.address)
        return ACCOUNT.dump(account), 201, {"Location": "/v1/accounts/me"}


def hashed_sign_up() -> tuple[dict[str, Any], str]:
    """Return the content of the account that the request at hand asks for, and the hash of its password."""
    body = json_object()
    found: list[Any] = []
    content = operands.collected(found, lambda: ACCOUNT.load(without_password(body)))
    password = operands.collected(found, lambda: new_password(body, "password", body.get("username")))
    if body.get("username") is None:
        found.append(required("username"))
    if found:
        raise ValidationFailed(found)
    security().throttle.sign_up(g.address)
    return content, security().hashing.hash(password)


def without_password(body: dict[str, Any]) -> dict[str, Any]:
    """Return a sign-up without its password, which is no field of the document."""
    return {name: value for name, value in body.items() if name != "password"}


class OwnAccount(Resource):
    """The account of the one who asks."""

    @operation("Get the own account", name="getOwnAccount", answer={200: own_account_schema})
    def get(self) -> dict[str, Any]:
        """Return the own account, and how many bytes its files take."""
        return as_own(own_account())

    @operation(
        "Change the own account",
        name="changeOwnAccount",
        example={"display_name": "Ada Lovelace"},
        body=change_schema,
        answer={200: own_account_schema},
        problems=["reauthentication_required", "last_way_in"],
    )
    def patch(self) -> dict[str, Any]:
        """Change display name, locale, time zone and e-mail address; an address that is set here is not verified.

        To give up a verified one asks for a login of the last five minutes.
        """
        wanted = patch.parse(ACCOUNT, json_body())
        if "email" in wanted.named:
            return as_own(transactions.run_where_there_are(lambda: changed_account(wanted)))
        return as_own(changed_account(wanted))

    @operation(
        "Delete the own account",
        name="deleteOwnAccount",
        answer={204: None},
        problems=["reauthentication_required"],
        bounded=lambda: False,
    )
    def delete(self) -> Answer:
        """Delete the account with all that it owns. It asks for a login of the last five minutes."""
        ask_for_recent_login("deleting an account")
        account = str(current_identity)
        security().sessions.end(account)
        # It may take longer than other requests: what it says is done when it is answered.
        deadline.apart(delete_account, current_registry(), account)
        log.warning("account_deleted", account=account, request_id=g.request_id)
        answer = empty_answer(204)
        answer.keepable = False  # nobody is there who could ask again
        return answer


def as_own(account: Raw) -> dict[str, Any]:
    """Return a stored account in JSON form for its owner, with how many bytes its files take."""
    storage = {"used": used_of(account), "limit": current_app.config["FILES_ACCOUNT_BYTES"]}
    return {**ACCOUNT.dump(account), "storage": storage}


def changed_account(wanted: patch.Patch) -> Raw:
    """Change the account of the one who asks, and return it; a verified address that is given up is told there."""
    for _ in attempts():
        account = own_account()
        # What is told of an address was told of this one, so it has to be there still.
        same = {name: account.get(name) for name in ("_id", "email", "email_key", "identities", "passkeys")} | ALIVE
        changed: Raw | None = Account._get_collection().find_one_and_update(
            same, Account.written(change_of(account, wanted)), return_document=ReturnDocument.AFTER
        )
        if changed is not None:
            if "email_key" in account and "email_key" not in changed:
                note_lost_address(account, changed)
            return changed
    raise AssertionError


def note_lost_address(account: Raw, changed: Raw) -> None:
    """Make void what was sent to the address that an account has given up, and tell it to who reads that."""
    addresses = security().addresses
    addresses.void_codes(account)
    addresses.notices.address_changed(account, changed.get("email") or "")
    Event.record(account["_id"], "address_given_up", g.address, device_of(current_identity.session))


def change_of(account: Raw, wanted: patch.Patch) -> dict[str, Any]:
    """Return the update that a patch of an account is. Raises `ReauthenticationRequired`."""
    named, values = dict(wanted.update), dict(wanted.update.get("$set", {}))
    if "email" in wanted.named and wanted.values.get("email") != account.get("email"):
        if account.get("email_verified"):
            ask_for_recent_login("giving up a verified address")
            refuse_last_address(account)
        values["email_verified"] = False
        named["$unset"] = {**named.get("$unset", {}), "email_key": ""}
    return {**named, "$set": {**values, "updated_at": now()}}


def refuse_last_address(account: Raw) -> None:
    """Raise `LastWayIn` where nobody could enter an account without its verified address."""
    if not has_way_beside_address(account):
        raise LastWayIn("nobody could enter the account without its address; set a username and a password first")


def ask_for_recent_login(what: str) -> None:
    """Raise `ReauthenticationRequired` where the one who asks has not logged in during the last five minutes."""
    if time.time() - current_identity.auth_time > RECENT_LOGIN_SECONDS:
        raise ReauthenticationRequired(f"log in again; {what} asks for a login of the last five minutes")


def ask_all_but_guests(account: Raw, what: str) -> None:
    """Ask for a recent login; a guest has no other one than that which made it."""
    if "guest_seen_at" not in account:
        ask_for_recent_login(what)


class Password(Resource):
    """The password of the one who asks."""

    @operation(
        "Change the own password",
        name="changeOwnPassword",
        body=PasswordChange,
        answer={204: None},
        problems=["bad_credentials", "too_many_requests", "reauthentication_required"],
        beforehand=lambda: checked_change(),
    )
    def put(self) -> tuple[None, int]:
        """Set a new password; every other session ends."""
        account, password_hash = beforehand(checked_change)
        transactions.run_where_there_are(lambda: change_password(account, password_hash))
        return None, 204


def change_password(account: Raw, password_hash: str) -> None:
    """Give an account another password, with all that follows from it. Raises `BadCredentials`."""
    same = {"_id": account["_id"], "password_hash": account.get("password_hash")}
    change = {"password_hash": password_hash, "updated_at": now()}
    if not Account._get_collection().update_one(same, Account.written({"$set": change})).matched_count:
        raise BadCredentials("the password was changed at the same time")
    # First the account, then the sessions: a login that runs at the same time looks at the account last.
    security().sessions.end(account["_id"], but=current_identity.session)
    Event.record(account["_id"], "password_changed", g.address, device_of(current_identity.session))
    security().addresses.void_codes(account)
    security().addresses.notices.password_changed(account)


def checked_change() -> tuple[Raw, str]:
    """Return the account that may change its password as the request at hand asks, and the hash of the new one."""
    sent = take(PasswordChange)
    account = own_account()
    security().throttle.password_change(account["_id"])
    check_current_password(account, sent.current_password)
    password = new_password({"new_password": sent.new_password}, "new_password", account.get("username"))
    return account, security().hashing.hash(password)


def check_current_password(account: Raw, given: str | None) -> None:
    """Raise `BadCredentials` for a wrong password; where there is none, a recent login takes its place."""
    if "password_hash" not in account:
        ask_for_recent_login("a first password")
    elif given is None:
        raise ValidationFailed([required("current_password")])
    elif not security().hashing.matches(account["password_hash"], given):
        transactions.outside(Event.record, account["_id"], "login_failed", g.address)
        raise BadCredentials("the current password is wrong")


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
    """Yield the JSON of an account, of what stands beside it, and of its records by collection, a piece at a time."""
    yield b'{"account":' + orjson.dumps(ACCOUNT.dump(account))
    yield b',"memberships":' + orjson.dumps([OWN_MEMBERSHIP.dump(held) for held in account.get("groups", ())])
    reached = Session._get_collection().find({"account": account["_id"], "push": {"$exists": True}}, {"push": 1})
    made = Invitation._get_collection().find({"inviter": account["_id"]}, sort=[("_id", 1)])
    factor = account.get("second_factor")
    beside: dict[str, Any] = {
        "identities": [dump_identity(identity) for identity in account.get("identities", ())],
        "invitations": [INVITATION.dump(row) for row in made],
        "passkeys": [dump_passkey(passkey) for passkey in account.get("passkeys", ())],
        "push": [{**dump_push(row["push"]), "token": row["push"]["token"]} for row in reached],
        "second_factor": factor and dump_second_factor(factor),
    }
    for name, told in beside.items():
        if told:
            yield b',"' + name.encode() + b'":' + orjson.dumps(told)
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
