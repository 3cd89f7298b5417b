"""Accounts: how they are made and stored, and which may be entered."""

from collections.abc import Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core.errors import AlreadyExists, Cause, Forbidden
from service.core.ids import new_id
from service.documents import Account
from service.identity.schemas import ACCOUNT
from service.mongo import driver, transactions
from service.mongo.raw import Raw


def new_account(values: Mapping[str, Any]) -> Raw:
    """Return a new account with some values in BSON form, and with the defaults of all others; it is not stored yet."""
    return Account.new({**ACCOUNT.load({}), "_id": new_id(), **values})


def store_account(content: dict[str, Any], password_hash: str) -> Raw:
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
        raise taken_username() from None
    return account


def refuse_locked(account: Mapping[str, Any]) -> None:
    """Raise `Forbidden` for an account that nobody may enter."""
    if "locked_at" in account:
        raise Forbidden("the account is locked")


def known_as(account: Raw) -> str:
    """Return what an account is called where one chooses between several of one's own."""
    return str(account.get("username") or account.get("email") or account["_id"])


def taken_username() -> AlreadyExists:
    """Return the problem of a username that another account has."""
    cause = Cause("not_unique", "a name that no account has, whatever its capitals", pointer="/username")
    return AlreadyExists("the username is taken", [cause])
