"""Sessions: how they are opened, refreshed and ended, and which are alive."""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, cast

from pymongo.errors import PyMongoError

from service.core.base64url import decode_base64url, encode_base64url
from service.core.clock import now
from service.core.errors import BadCredentials, NotAuthenticated, TokenReused
from service.core.ids import new_id
from service.core.log import log
from service.documents import Account, Event, Session
from service.documents.account import ALIVE, NOT_LOCKED
from service.identity.keys import Keys
from service.identity.tokens import Recent, Tokens, seconds
from service.mongo import driver, transactions
from service.mongo.raw import Raw
from service.policy import HELD, Identity

SESSION_ENDED = "the session has ended; log in again"
KNOWN_SESSIONS = 10_000
CHECK_SECONDS = 0.8
"""How long a session is taken to be alive without a look: an ended one is dead everywhere within a second."""
RENEWAL_PAUSE = 0.3
"""Seconds between two looks at all sessions that were used lately."""
LATELY_SECONDS = 10.0
"""How long a session is looked at so after a use: beyond that it costs more than a look of its own at the next one."""
LOOKED_AT_ONCE = 1000
"""Most sessions that one query asks for."""
SECRET_BYTES = 32
MAC_BYTES = 16


@dataclass(slots=True)
class Seen:
    """Whom a session acts for, by the monotonic clock the `moment` at which it was alive, and when it was used last."""

    moment: float
    identity: Identity
    used: float

    @property
    def is_stale(self) -> bool:
        """Tell whether that was too long ago for the session to be taken to be alive."""
        return time.monotonic() - self.moment >= CHECK_SECONDS


class Sessions:
    """The sessions of all accounts, and the refresh tokens that keep them alive."""

    def __init__(self, config: Mapping[str, Any], tokens: Tokens, keys: Keys) -> None:
        """Take the settings, what issues access tokens, and the keys that refresh tokens are made with."""
        self.tokens = tokens
        self.keys = keys
        self.life = timedelta(seconds=seconds(config["JWT_REFRESH_EXPIRATION_DELTA"]))
        self.grace = timedelta(seconds=seconds(config["JWT_REFRESH_GRACE"]))
        self.seen: Recent[Seen] = Recent(KNOWN_SESSIONS, lambda seen: seen.is_stale)

    def identity(self, account: str, session: str, auth_time: int) -> Identity | None:
        """Return whom a session acts for; None when it has ended, or is not of this account.

        It is looked up where neither this nor `renew` has done so within `CHECK_SECONDS`.
        """
        seen = self.seen.get(session)
        if seen is None or seen.identity.account != account or seen.is_stale:
            return self.current_identity(account, session, auth_time)
        seen.used = time.monotonic()
        same = seen.identity.auth_time == auth_time
        return seen.identity if same else replace(seen.identity, auth_time=auth_time)

    def current_identity(self, account: str, session: str, auth_time: int) -> Identity | None:
        """Return whom a session acts for at this moment, with the roles and groups of now; None when it has ended."""
        moment = time.monotonic()
        found = look(account, session)
        if found is None:
            return None
        identity = Identity.of(found, session, auth_time)
        self.seen.put(session, Seen(moment, identity, moment))
        return identity

    def renew(self) -> None:
        """Look at all sessions at once that were used lately, and forget the others and those that have ended."""
        moment = time.monotonic()
        self.seen.drop(lambda seen: moment - seen.used >= LATELY_SECONDS)
        used = [*self.seen.entries.items()]
        for first in range(0, len(used), LOOKED_AT_ONCE):
            some = used[first : first + LOOKED_AT_ONCE]
            moment = time.monotonic()
            found = live_accounts({id: seen.identity.account for id, seen in some})
            for id, seen in some:
                if id in found:
                    # Not put anew: one that was forgotten meanwhile stays so.
                    seen.identity, seen.moment = Identity.of(found[id], id, seen.identity.auth_time), moment
                else:
                    self.seen.entries.pop(id, None)

    def keep_renewing(self) -> None:
        """Start a thread that does so every `RENEWAL_PAUSE`.

        While MongoDB does not answer, each request looks for itself, and tells of it.
        """

        def work() -> None:
            while True:
                time.sleep(RENEWAL_PAUSE)
                try:
                    self.renew()
                except PyMongoError:
                    continue
                except Exception as error:
                    log.error("sessions_not_renewed", exc_info=error)

        threading.Thread(target=work, name="sessions", daemon=True).start()

    def expiry(self, session: str) -> datetime | None:
        """Return when a session ends if nobody refreshes it, in UTC without zone; None when it has ended."""
        found = driver.find_one(Session._get_collection(), {"_id": session}, {"expires_at": 1})
        return None if found is None else found["expires_at"]

    def open(
        self, account: Raw, address: str, device: str | None, way_in: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Start a session of an account whose password was just given, and return its tokens, as the login answers.

        Who came in otherwise says by a filter what the account has for that: `way_in`. Raises `BadCredentials` when
        that is gone, the password was changed, or the account deleted or locked, in the meantime.
        """
        moment = now()
        session, secret = new_id(), secrets.token_bytes(SECRET_BYTES)
        document = {
            "_id": session,
            "account": account["_id"],
            "device": device,
            "address": address,
            "created_at": moment,
            "last_used_at": moment,
            "auth_time": int(moment.replace(tzinfo=UTC).timestamp()),
            "expires_at": moment + self.life,
            "refresh_hash": hashed(secret),
        }
        Session._get_collection().insert_one(document)
        # Whoever changes a password changes the account and then ends its sessions, maybe in a transaction, which sees
        # none that was made since it began. A write of the account is what the two cannot both do unseen.
        unchanged = {"_id": account["_id"], "password_hash": account.get("password_hash"), **NOT_LOCKED}
        login = Account.written({"$set": {"last_login_at": moment}})
        if not Account._get_collection().update_one({**unchanged, **way_in}, login).matched_count:
            Session._get_collection().delete_one({"_id": session})
            raise BadCredentials("the username or the password is wrong")
        Event.record(account["_id"], "login", address, device)
        return self.answer(document, secret)

    def refresh(self, token: str, address: str, request_id: str) -> dict[str, Any]:
        """Spend a refresh token and return the tokens that follow it, as the refresh answers.

        Its successor is derived from it with a key of ours, so that a retry gets the very same one although only hashes
        are stored: within the grace, as long as that one is unused. Raises `NotAuthenticated` for what never was a
        token or whose session has ended, `TokenReused` for one that was spent before; that ends the session, and is an
        event from `address` and a line in the log.
        """
        session, secret, key = self.unpacked(token)
        following = hmac.digest(self.keys.derived("successor", key), session.encode() + secret, "sha256")
        moment = now()
        rotation = {
            "refresh_hash": hashed(following),
            "previous_hash": hashed(secret),
            "rotated_at": moment,
            "last_used_at": moment,
            "expires_at": moment + self.life,
        }
        good = {"_id": session, "refresh_hash": hashed(secret), "expires_at": {"$gt": moment}}
        rotated = driver.change(Session._get_collection(), good, {"$set": rotation})
        if rotated is not None:
            return self.answer(rotated, following)
        found = Session._get_collection().find_one({"_id": session, "expires_at": {"$gt": now()}})
        if found is None:
            raise NotAuthenticated(SESSION_ENDED)
        if self.is_repeated(found, secret, following):
            return self.answer(found, following)
        if self.end(found["account"], session):
            Event.record(found["account"], "refresh_reused", address, found.get("device"))
            log.warning("refresh_reused", account=found["account"], session=session, request_id=request_id)
        raise TokenReused("the refresh token was spent before; the session has ended")

    def is_repeated(self, session: Raw, secret: bytes, following: bytes) -> bool:
        """Tell whether a refresh token is the one that was just rotated."""
        last = session.get("previous_hash") == hashed(secret) and session["refresh_hash"] == hashed(following)
        return last and now() - session["rotated_at"] <= self.grace

    def end(self, account: str, only: str | None = None, but: str | None = None) -> int:
        """End the sessions of an account: all, `only` one, or all `but` one. Return how many."""
        condition: dict[str, Any] = {"account": account}
        if only is not None:
            condition["_id"] = only
        elif but is not None:
            condition["_id"] = {"$ne": but}
        ended = Session._get_collection().delete_many(condition).deleted_count
        self.forget(account)
        return int(ended)

    def keep(self, session: str, life: timedelta) -> None:
        """Have a session that has not ended be good for so long from now, without a refresh."""
        moment = now()
        kept = {"last_used_at": moment, "expires_at": moment + life}
        Session._get_collection().update_one({"_id": session, "expires_at": {"$gt": moment}}, {"$set": kept})

    def forget(self, account: str) -> None:
        """Have the sessions of an account looked up anew, in this process."""
        self.seen.drop(lambda seen: seen.identity.account == account)

    def answer(self, session: Raw, secret: bytes) -> dict[str, Any]:
        """Return the body of a login or a refresh."""
        return {
            "access_token": self.tokens.issue(session["account"], session["_id"], session["auth_time"]),
            "token_type": "Bearer",
            "expires_in": int(self.tokens.life),
            "refresh_token": self.packed(session["_id"], secret),
            "session_id": session["_id"],
        }

    def packed(self, session: str, secret: bytes) -> str:
        """Return a refresh token: the session, a secret, and the MAC that shows that we made it."""
        mac = self.mac(session, secret, self.keys.secrets[0])
        return f"{session}.{encode_base64url(secret + mac)}"

    def unpacked(self, token: str) -> tuple[str, bytes, str]:
        """Return the session and the secret of a refresh token, and the key that its MAC was made with.

        Raises `NotAuthenticated` for what we did not make.
        """
        session, _, text = token.rpartition(".")
        try:
            data = decode_base64url(text)
        except ValueError:
            data = b""
        secret, mac = data[:SECRET_BYTES], data[SECRET_BYTES:]
        for key in self.keys.secrets:
            if hmac.compare_digest(mac, self.mac(session, secret, key)):
                return session, secret, key
        # A guess must not end a session, so what we did not make is no reuse.
        raise NotAuthenticated("this is not a refresh token of this service")

    def mac(self, session: str, secret: bytes, key: str) -> bytes:
        """Return the MAC of a refresh token."""
        return hmac.digest(self.keys.derived("refresh", key), session.encode() + b"\0" + secret, "sha256")[:MAC_BYTES]


def hashed(secret: bytes) -> str:
    """Return what is stored of a secret of 32 random bytes; one that nobody can guess needs no slow hash."""
    return hashlib.sha256(secret).hexdigest()


def look(account: str, session: str) -> Raw | None:
    """Return the account of a session as it is at this moment, with its memberships; None when one of the two is gone.

    A transaction sees them as they were when it began, and as it has changed them itself. So in one both are asked:
    whether it has not ended the session, and what is there now.
    """
    found = live_account(account, session)
    if found is not None and transactions.is_active():
        found = transactions.outside(live_account, account, session)
    return found


def live_account(account: str, session: str) -> Raw | None:
    """Return the account of a session that has not ended, with its memberships; None when one of the two is gone."""
    return live_accounts({session: account}).get(session)


def live_accounts(owners: Mapping[str, str]) -> dict[str, Raw]:
    """Return the accounts, with their memberships, of those sessions that have not ended, of all with their accounts.

    One whose account is gone, or another one, has ended.
    """
    moment = now()
    shown, sessions = {"account": 1, "expires_at": 1}, Session._get_collection()
    alive = {
        row["_id"]: row["account"]
        for row in driver.find(sessions, {"_id": {"$in": [*owners]}}, shown, limit=len(owners))
        if row["account"] == owners[row["_id"]] and row["expires_at"] > moment
    }
    if not alive:
        return {}
    wanted = {*alive.values()}
    living = {"_id": {"$in": [*wanted]}, **ALIVE}
    accounts = {row["_id"]: row for row in driver.find(Account._get_collection(), living, HELD, limit=len(wanted))}
    return {session: accounts[account] for session, account in alive.items() if account in accounts}


def device_of(session: str) -> str | None:
    """Return the name of the device of a session, None when it has none or has ended."""
    found = Session._get_collection().find_one({"_id": session}, {"device": 1}) or {}
    return cast("str | None", found.get("device"))
