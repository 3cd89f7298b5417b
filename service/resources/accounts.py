"""Accounts: sign-up, the own account, the public part of others."""

import time
from typing import Any

from flask_restful import Resource
from pydantic import AfterValidator
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from service import patch, schema
from service.documents import RECORDS, Account, Session
from service.documents.record import Raw, new_id, now
from service.errors import AlreadyExists, NotAuthenticated, NotFound, ReauthenticationRequired, ValidationFailed
from service.openapi import operation
from service.passwords import MAX_LENGTH, MIN_LENGTH, acceptable
from service.resources.arguments import json_body, json_object
from service.security import current_identity, forget, security

RECENT_LOGIN_SECONDS = 300
PUBLIC_FIELDS = ("id", "username", "display_name")
PASSWORD = {"type": "string", "minLength": MIN_LENGTH, "maxLength": MAX_LENGTH, "format": "password"}


def sign_up_schema(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of a sign-up: an account with a password."""
    account = schema.object_schema(Account, "create")
    properties = {**account["properties"], "password": PASSWORD}
    return {**account, "properties": properties, "required": [*account["required"], "password"]}


def public_schema(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of the public part of an account."""
    account = schema.object_schema(Account, "read")
    properties = {name: account["properties"][name] for name in PUBLIC_FIELDS}
    return {**account, "properties": properties, "required": list(PUBLIC_FIELDS)}


def change_schema(_config: Any) -> dict[str, Any]:
    """Return the JSON Schema of a change of the own account."""
    return schema.object_schema(Account, "patch")


class AccountList(Resource):
    """Where accounts are made."""

    @operation(
        "Sign up",
        public=True,
        body=sign_up_schema,
        answer={201: Account},
        headers={201: ["Location"]},
        problems=["already_exists"],
    )
    def post(self) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Make an account."""
        body = json_object()
        found: list[Any] = []
        content = patch.collected(found, lambda: schema.load(Account, without_password(body)))
        password = patch.collected(found, lambda: new_password(body, "password", body.get("username")))
        if found:
            raise ValidationFailed(found)
        account = {
            "_id": new_id(),
            **content,
            "username_key": content["username"].lower(),
            "password_hash": security().hashing.hash(password),
        }
        try:
            Account._get_collection().insert_one(account)
        except DuplicateKeyError:
            raise AlreadyExists("the username is taken") from None
        return schema.dump(Account, account), 201, {"Location": "/v1/accounts/me"}


def without_password(body: dict[str, Any]) -> dict[str, Any]:
    """Return a sign-up without its password, which is no field of the document."""
    return {name: value for name, value in body.items() if name != "password"}


def new_password(body: dict[str, Any], name: str, username: Any) -> str:
    """Return the new password in a body; raises `ValidationFailed` where it may not be used."""
    if name not in body:
        raise ValidationFailed([schema.required(name)])
    rule = AfterValidator(lambda password: acceptable(password, username if isinstance(username, str) else ""))
    password: str = schema.checked(schema.rule(rule), body[name], name)
    return password


class OwnAccount(Resource):
    """The account of the one who asks."""

    @operation("Get the own account", answer={200: Account})
    def get(self) -> dict[str, Any]:
        """Return the own account."""
        return schema.dump(Account, own_account())

    @operation("Change the own account", body=change_schema, answer={200: Account})
    def patch(self) -> dict[str, Any]:
        """Change display name and e-mail address."""
        update = patch.parse(Account, json_body()).update
        if "email" in {*update.get("$set", {}), *update.get("$unset", {})}:
            # A new address is one that nobody has confirmed.
            update.setdefault("$set", {})["email_verified"] = False
        update.setdefault("$set", {})["updated_at"] = now()
        account = Account._get_collection().find_one_and_update(
            {"_id": str(current_identity)}, update, return_document=ReturnDocument.AFTER
        )
        return schema.dump(Account, there(account))

    @operation(
        "Delete the own account", answer={204: None}, problems=["reauthentication_required"], bounded=lambda: False
    )
    def delete(self) -> tuple[None, int]:
        """Delete the account with all that it owns. It asks for a login of the last five minutes."""
        if time.time() - current_identity.auth_time > RECENT_LOGIN_SECONDS:
            raise ReauthenticationRequired(
                "log in again; deleting an account asks for a login of the last five minutes"
            )
        account = str(current_identity)
        Session._get_collection().delete_many({"account": account})
        forget(account)
        for document in RECORDS:
            document.stored().delete_many({"owner": account})
        Account._get_collection().delete_one({"_id": account})
        return None, 204


class PublicAccount(Resource):
    """What everyone signed in may know of an account."""

    @operation("Get the public part of an account", answer={200: public_schema})
    def get(self, id: str) -> dict[str, Any]:
        """Return id, username and display name."""
        account = Account._get_collection().find_one({"_id": id})
        if account is None:
            raise NotFound("there is no such account")
        return schema.dump(Account, account, PUBLIC_FIELDS)


def own_account() -> Raw:
    """Return the stored account of the current identity."""
    return there(Account._get_collection().find_one({"_id": str(current_identity)}))


def there(account: Raw | None) -> Raw:
    """Return an account that is there; one that was deleted since the token was checked can do nothing."""
    if account is None:
        raise NotAuthenticated("the account is gone")
    return account
