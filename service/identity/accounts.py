"""Accounts: how they are made and stored, found by what people call them, changed by operators, and entered."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core.clock import now
from service.core.errors import AlreadyExists, Cause, Forbidden, NotFound
from service.core.ids import new_id
from service.documents import Account, Event
from service.documents.account import ALIVE, NOT_LOCKED, address_key
from service.identity.schemas import ACCOUNT
from service.mongo import driver, transactions
from service.mongo.raw import Raw
from service.policy import ADMIN


def new_account(values: Mapping[str, Any]) -> Raw:
    """Return a new account with some values in BSON form, and with the defaults of all others; it is not stored yet."""
    return Account.new({**ACCOUNT.load({}), **at_one_moment(), "_id": new_id(), **values})


def at_one_moment() -> Raw:
    """Return when an account is made and was last changed; as defaults the two could be a millisecond apart."""
    moment = now()
    return {"created_at": moment, "updated_at": moment}


def store_account(content: dict[str, Any], password_hash: str) -> Raw:
    """Store a new account and return it. Raises `AlreadyExists` when its username or id is taken."""
    key = content["username"].lower()
    named = {"username_key": key, "password_hash": password_hash}
    account = Account.new({"_id": new_id(), **content, **at_one_moment(), **named})
    try:
        Account._get_collection().insert_one(account)
    except DuplicateKeyError:
        # In a transaction the duplicate has undone it already, and nothing more can be read in it.
        if transactions.outside(driver.find_one, Account._get_collection(), {"_id": account["_id"]}) is not None:
            cause = Cause("not_unique", "an id that no account has", pointer="/id")
            raise AlreadyExists("the id is taken", [cause]) from None
        raise taken_username() from None
    return account


def account_by_name(name: str) -> Raw | None:
    """Return the account with a username or a verified address, without regard to case, None where there is none."""
    key = {"username_key": name.lower()}
    if "@" in name:
        with suppress(ValueError):
            key = {"email_key": address_key(name)}
    found: Raw | None = Account._get_collection().find_one(key)
    return found


def accounts_beginning(text: str, most: int) -> list[Raw]:
    """Return the accounts whose username begins with a text, without regard to case, `most` of them, in their order."""
    key = text.lower()
    named: Raw = {"username_key": {"$gte": key, "$lt": f"{key}\U0010ffff"}, **ALIVE}
    return list(Account._get_collection().find(named, sort=[("username_key", 1)], limit=most))


def locale_of(account: str) -> str | None:
    """Return the language tag that an account has chosen, None where it has none."""
    found = driver.find_one(Account._get_collection(), {"_id": account}, {"locale": 1})
    return None if found is None else found.get("locale")


def change_by_operator(account: str, update: Mapping[str, Any], kind: str) -> None:
    """Change an account that is not being deleted, and record for its owner what happened to it.

    From where somebody did it who runs the service is none of the owner's business. Raises `NotFound`.
    """
    changing = {"_id": account, **ALIVE}
    if not Account._get_collection().update_one(changing, Account.written(update)).matched_count:
        raise NotFound("there is no such account")
    Event.record(account, kind)


def act_as_admin(account: str) -> None:
    """Make sure that an account is an admin still: a part of the transaction in which it acts on another one.

    It is written to, so of two admins who act on each other at once the second sees what the first has done. Raises
    `Forbidden`.
    """
    acting = {"_id": account, "roles": ADMIN, **ALIVE, **NOT_LOCKED}
    if not Account._get_collection().update_one(acting, Account.written({"$inc": {"admin_acts": 1}})).matched_count:
        raise Forbidden("this account is no admin any more")


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
