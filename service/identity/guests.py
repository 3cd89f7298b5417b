"""Guests: accounts without a name, which get one, become a part of another account, or go when nobody comes back."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from service.core.clock import now
from service.core.errors import AlreadyExists, Cause, Forbidden, NotAuthenticated, NotFound, ValidationFailed
from service.documents import Account, Session
from service.documents.account import ALIVE, NOT_LOCKED, NOT_MERGED
from service.identity.accounts import new_account, taken_username
from service.identity.deletion import mark_deleted, purge
from service.identity.memberships import hand_over_memberships
from service.identity.sessions import Sessions, hashed
from service.model.registry import Registry
from service.mongo import transactions
from service.mongo.raw import Raw
from service.records.handover import Handover

IS_GUEST: Raw = {
    "guest_seen_at": {"$exists": True},
    "username_key": {"$exists": False},
    "email_key": {"$exists": False},
    **NOT_MERGED,
    **ALIVE,
}
"""The filter of guests: who has got a name, or a verified address, is none, and neither is one that is being merged."""
BATCH = 100


def new_guest() -> Raw:
    """Store a new account without a name and return it."""
    account = new_account({"guest_seen_at": now()})
    Account._get_collection().insert_one(account)
    return account


# --- They become full accounts ---------------------------------------------------------------------------------------


def name(account: Raw, username: str, password_hash: str) -> Raw:
    """Give an account, as it was read, the username that it has not yet, and a password; return it.

    Raises `AlreadyExists` where the name is taken, or the account has one, or another password, meanwhile, and
    `NotAuthenticated` where it has gone, or becomes a part of another one.
    """
    there = {"_id": account["_id"], **NOT_MERGED, **ALIVE}
    same = {**there, "password_hash": account.get("password_hash"), "username_key": None}
    given = {
        "username": username,
        "username_key": username.lower(),
        "password_hash": password_hash,
        "updated_at": now(),
    }
    update = Account.written({"$set": given, "$unset": {"guest_seen_at": ""}})
    try:
        found: Raw | None = Account._get_collection().find_one_and_update(
            same, update, return_document=ReturnDocument.AFTER
        )
    except DuplicateKeyError:
        raise taken_username() from None
    if found is None and Account._get_collection().find_one(there, {"_id": 1}) is None:
        raise NotAuthenticated("the account is gone")
    if found is None:
        raise AlreadyExists("the account has a username, which stays")
    return found


# --- They become another account's -----------------------------------------------------------------------------------


def merge(sessions: Sessions, taker: str, token: str) -> bool:
    """Begin to make all that a guest has another account's; from here on nobody can act for the guest.

    Tell whether it begins: where it was begun by the same refresh token of the guest nothing is done. Raises
    `Forbidden` where the taker is a guest, `ValidationFailed` for what is no token of one, and `NotSupported` on
    mongomock.
    """
    if Account._get_collection().find_one({"_id": taker, **IS_GUEST}, {"_id": 1}) is not None:
        raise Forbidden("a guest takes nothing over; sign in to the account, or give this one a name")
    try:
        session, secret, _ = sessions.unpacked(token)
    except NotAuthenticated:
        raise no_guest() from None
    return transactions.run(lambda: begin_merge(sessions, taker, session, hashed(secret)))


def begin_merge(sessions: Sessions, taker: str, session: str, secret: str) -> bool:
    """Do it in one transaction: who refreshes the guest's token, or names the guest, at the same moment waits."""
    begun = {"merged_into": taker, "merged_session": session}
    if Account._get_collection().find_one(begun, {"_id": 1}) is not None:
        return False
    # The last token may have been spent by a refresh whose answer was lost.
    repeated = {"previous_hash": secret, "rotated_at": {"$gte": now() - sessions.grace}}
    good = {"_id": session, "$or": [{"refresh_hash": secret}, repeated]}
    found = Session._get_collection().find_one(good, {"account": 1, "expires_at": 1})
    if found is None or found["expires_at"] <= now():
        raise no_guest()
    guest = {"_id": found["account"], **IS_GUEST, **NOT_LOCKED}
    update = Account.written({"$set": {**begun, "merged_at": now()}, "$unset": {"guest_seen_at": ""}})
    if not Account._get_collection().update_one(guest, update).matched_count:
        raise no_guest()
    sessions.end(found["account"])
    return True


def no_guest() -> ValidationFailed:
    """Return the problem of a token that is none of a guest: it does not say of whom it is."""
    cause = Cause("guest_token", "the last refresh token of a guest", pointer="/guest_refresh_token")
    return ValidationFailed([cause])


def go_on_merging(
    registry: Registry, after: timedelta, keep: timedelta, going_on: Callable[[], bool] = lambda: True
) -> int:
    """Go on with the merges that were begun, while `going_on`; return how many guests are gone.

    A guest goes when all that it had begun has ended, `after` that time. With an account that goes while it takes
    over what a guest has, goes what it has not got yet.
    """
    gone = 0
    for guest in Account._get_collection().find({"merged_into": {"$exists": True}, **ALIVE}):
        ended = guest["merged_at"] <= now() - after
        try:
            whole = Handover(registry, guest["_id"], guest["merged_into"], keep).run(going_on)
            hand_over_memberships(registry, guest["_id"], guest["merged_into"])
        except (NotFound, NotAuthenticated):
            whole = ended = True
        if whole and ended and mark_deleted({"_id": guest["_id"]}):
            purge(registry, guest["_id"])
            gone += 1
    return gone


# --- They go ---------------------------------------------------------------------------------------------------------


def let_go(registry: Registry, days: float, going_on: Callable[[], bool] = lambda: True) -> int:
    """Delete the guests that were not seen for so many days, while `going_on`; return how many."""
    gone, since = 0, now() - timedelta(days=days)
    due = {**IS_GUEST, "guest_seen_at": {"$lte": since}}
    while rows := list(Account._get_collection().find(due, {"guest_seen_at": 1}, limit=BATCH)):
        for guest in rows:
            if not going_on():
                return gone
            if transactions.run_where_there_are(partial(is_left, guest, since)):
                purge(registry, guest["_id"])
                gone += 1
    return gone


def is_left(guest: Raw, since: datetime) -> bool:
    """Mark a guest as deleted where none of its sessions was used `since`; else remember when one was.

    In one transaction, in which nobody uses a session unseen: a refresh changes it.
    """
    rows = Session._get_collection().find({"account": guest["_id"]}, {"last_used_at": 1})
    seen = max((row["last_used_at"] for row in rows), default=guest["guest_seen_at"])
    same = {**IS_GUEST, **guest}
    if seen > since:
        Account._get_collection().update_one(same, {"$set": {"guest_seen_at": seen}})
        return False
    Session._get_collection().delete_many({"account": guest["_id"]})
    return mark_deleted(same)
