"""Accounts in the console: found, given roles, locked, signed out, deleted; and what happened to each."""

from typing import Any

from flask import request, url_for

from service.context import current_registry
from service.core.clock import now
from service.core.errors import NotFound, ValidationFailed
from service.documents import Account, Event, Session
from service.documents.account import ALIVE
from service.http.arguments import parameters
from service.http.openapi import operation
from service.http.web import Answer
from service.identity.accounts import account_by_name, accounts_beginning, act_as_admin, change_by_operator
from service.identity.deletion import mark_deleted, purge
from service.identity.schemas import ACCOUNT
from service.identity.sessions import device_of
from service.model.validation import validate
from service.mongo import deadline, driver, transactions
from service.mongo.raw import Raw
from service.pages.account import ABOUT
from service.pages.console_sign_in import BY_FORM
from service.pages.console_visit import Visitor, for_admins, go
from service.records.storage import used_of
from service.security import security

MOST_LISTED = 50
ACCOUNT_PATH = "/admin/accounts/<id>"


def living_account(id: str) -> Raw:
    """Return an account that is not being deleted. Raises `NotFound`."""
    found = driver.find_one(Account._get_collection(), {"_id": id, **ALIVE})
    if found is None:
        raise NotFound("there is no such account")
    return found


@operation("Find accounts", parameters=frozenset({"name", "after"}), **ABOUT)
@for_admins
def accounts_page(visitor: Visitor) -> Answer:
    """Show those whose name begins with a text, that which an address or an id means, or all, the newest first."""
    args = parameters()
    name, after = args.get("name", "").strip(), args.get("after", "")
    rows = named_accounts(name) if name else newest_accounts(after)
    visitor.log.note("searched" if name else "listed", "accounts", after={"name": name} if name else None)
    last = rows[-1]["_id"] if not name and len(rows) == MOST_LISTED else ""
    return visitor.shown("console/accounts.html", rows=rows, name=name, last=last)


def named_accounts(name: str) -> list[Raw]:
    """Return the accounts that a text means: by id, by a verified address, and by how the username begins."""
    rows = accounts_beginning(name, MOST_LISTED)
    others = (driver.find_one(Account._get_collection(), {"_id": name, **ALIVE}), account_by_name(name))
    known = {row["_id"] for row in rows}
    return [*{one["_id"]: one for one in others if one is not None and one["_id"] not in known}.values(), *rows]


def newest_accounts(after: str) -> list[Raw]:
    """Return a page of all accounts, in the order of their ids."""
    chosen: Raw = {"_id": {"$lt": after}, **ALIVE} if after else {**ALIVE}
    return list(Account._get_collection().find(chosen, sort=[("_id", -1)], limit=MOST_LISTED))


@operation("Look at an account", **ABOUT)
@for_admins
def account_page(visitor: Visitor, id: str) -> Answer:
    """Show an account, where it is signed in, and what happened to it; nothing by which it is entered."""
    account = living_account(id)
    visitor.log.note("read", "accounts", id, id)
    return shown_account(visitor, account)


def shown_account(visitor: Visitor, account: Raw, mistake: str = "") -> Answer:
    """Return the page of an account."""
    id = account["_id"]
    alive = {"account": id, "expires_at": {"$gt": now()}}
    return visitor.shown(
        "console/account.html",
        account=account,
        told=ACCOUNT.dump(account),
        mistake=mistake,
        is_own=id == visitor.who.account,
        used=used_of(account),
        sessions=list(Session._get_collection().find(alive, sort=[("last_used_at", -1)], limit=MOST_LISTED)),
        events=list(Event._get_collection().find({"account": id}, sort=[("time", -1)], limit=MOST_LISTED)),
        types=list(current_registry()),
        providers=[identity["provider"] for identity in account.get("identities", ())],
        passkeys=len(account.get("passkeys", ())),
    )


@operation("Change an account", **BY_FORM, **ABOUT)
@for_admins
def change_account_page(visitor: Visitor, id: str) -> Answer:
    """Do what the button asks for: give roles, lock, unlock, end one or all sessions, switch the second factor off."""
    account = living_account(id)
    verb, _, about = request.form.get("do", "").partition(" ")
    work = DONE_TO_ACCOUNTS.get(verb)
    if work is None:
        raise NotFound("there is no such button")
    if id == visitor.who.account and verb in NOT_TO_ONESELF:
        return shown_account(visitor, account, "own_account")

    def act() -> None:
        act_as_admin(visitor.who.account)
        work(visitor, account, about)

    try:
        transactions.run_where_there_are(act)
    except ValidationFailed as problem:
        return shown_account(visitor, account, "; ".join(cause.detail for cause in problem.causes))
    # Other requests of this process go by what they have seen for most of a second.
    security().sessions.forget(id)
    return go(url_for("account_page", id=id))


def give_roles_to(visitor: Visitor, account: Raw, _about: str) -> None:
    """Give an account the roles that are named, and no others. Raises `ValidationFailed`."""
    named = [*dict.fromkeys(request.form.get("roles", "").replace(",", " ").split())]
    roles = validate(ACCOUNT.value(ACCOUNT.fields["roles"]), named, "roles")
    change_by_operator(account["_id"], {"$set": {"roles": roles, "updated_at": now()}}, "roles_changed")
    told = {"before": {"roles": account.get("roles", [])}, "after": {"roles": roles}}
    visitor.log.note("changed", "accounts", account["_id"], account["_id"], **told)


def lock_account(visitor: Visitor, account: Raw, _about: str) -> None:
    """Lock an account: its sessions end, and nobody can log in."""
    change_by_operator(account["_id"], {"$set": {"locked_at": now()}}, "locked")
    security().sessions.end(account["_id"])
    visitor.log.note("locked", "accounts", account["_id"], account["_id"])


def unlock_account(visitor: Visitor, account: Raw, _about: str) -> None:
    """Let an account log in again."""
    change_by_operator(account["_id"], {"$unset": {"locked_at": ""}}, "unlocked")
    visitor.log.note("unlocked", "accounts", account["_id"], account["_id"])


def end_session_of(visitor: Visitor, account: Raw, session: str) -> None:
    """End one session of an account, all where none is named. Raises `NotFound`."""
    device = device_of(session) if session else None
    if not security().sessions.end(account["_id"], only=session or None) and session:
        raise NotFound("there is no such session")
    Event.record(account["_id"], "session_ended", device=device)
    visitor.log.note("signed_out", "accounts", account["_id"], account["_id"], after={"session": session or "all"})


def switch_factor_off(visitor: Visitor, account: Raw, _about: str) -> None:
    """Let somebody in who has lost app and recovery codes; the owner is told. Raises `NotFound`."""
    security().second_factors.remove(account, None)
    visitor.log.note("second_factor_off", "accounts", account["_id"], account["_id"])


DONE_TO_ACCOUNTS = {
    "roles": give_roles_to,
    "lock": lock_account,
    "unlock": unlock_account,
    "end": end_session_of,
    "factor": switch_factor_off,
}
"""What the buttons on the page of an account do."""
NOT_TO_ONESELF = frozenset({"roles", "lock", "factor"})
"""What would shut the last admin out, or take the guard from the account that acts."""


@operation("Ask before an account is deleted", **ABOUT)
@for_admins
def delete_account_page(visitor: Visitor, id: str) -> Answer:
    """Show whose account it is, and ask for its name."""
    return visitor.shown("console/delete_account.html", account=living_account(id), mistake="")


@operation("Delete an account", **BY_FORM, **ABOUT)
@for_admins
def remove_account(visitor: Visitor, id: str) -> Answer:
    """Delete an account with all that it owns, if its name or its id was typed."""
    account = living_account(id)
    if id == visitor.who.account:
        return visitor.shown("console/delete_account.html", account=account, mistake="own_account")
    if request.form.get("name", "") not in (id, account.get("username")):
        return visitor.shown("console/delete_account.html", account=account, mistake="name_differs")

    def mark() -> None:
        act_as_admin(visitor.who.account)
        visitor.log.note("deleted", "accounts", id)
        security().sessions.end(id)
        if not mark_deleted({"_id": id, **ALIVE}):
            raise NotFound("there is no such account")

    transactions.run_where_there_are(mark)
    security().sessions.forget(id)
    # It may take longer than other requests, and what is cut short a worker ends.
    deadline.apart(purge, current_registry(), id)
    return go("/admin/accounts")


ACCOUNT_ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/admin/accounts", accounts_page),
    ("GET", ACCOUNT_PATH, account_page),
    ("POST", ACCOUNT_PATH, change_account_page),
    ("GET", f"{ACCOUNT_PATH}/delete", delete_account_page),
    ("POST", f"{ACCOUNT_PATH}/delete", remove_account),
]
