"""The second factor: codes of an authenticator app (RFC 6238) and recovery codes, asked for after any way in.

The apps that people have know one form: HMAC-SHA-1, six digits, steps of 30 seconds.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import partial
from typing import Any

import pyotp

from service.core.clock import now
from service.core.errors import BadCredentials, Forbidden, LimitReached, NotFound, SecondFactorRequired
from service.core.ids import new_id
from service.core.log import log
from service.documents import Account, Event
from service.documents.account import ALIVE
from service.identity.accounts import known_as, refuse_locked
from service.identity.addresses import unchanged
from service.identity.challenges import (
    entered_by,
    make_challenge,
    set_up_by,
    spend_challenge,
    tried_challenge,
    void_challenges,
)
from service.identity.codes import LONGEST_SENT, dashed, random_code
from service.identity.keys import Keys
from service.identity.notices import Notices
from service.identity.sessions import SECRET_BYTES, Sessions
from service.identity.throttle import Throttle
from service.identity.ways_in import has_way_beside_address
from service.mongo import transactions
from service.mongo.raw import Raw
from service.outbox.sealing import Seal, Unsealable

CHALLENGE_LIFE = timedelta(minutes=5)
SET_UP_LIFE = timedelta(minutes=15)
SECRET_CHARACTERS = 32
"""Length of a secret in base32: 160 bits, as RFC 4226, section 4, recommends."""
STEP_SECONDS = 30
SIX_DIGITS = re.compile("[0-9]{6}")
RECOVERY_CODES = 10
RECOVERY_LENGTH = 16
"""Characters of a recovery code, 79 bits: nobody guesses one, so a fast hash does, and it needs no key of ours."""
SECOND_FACTOR, SET_UP = "second_factor", "totp_set_up"
"""The purposes of challenges."""
WITHOUT: dict[str, Any] = {"second_factor": {"$exists": False}}
"""The filter of accounts that ask for no second factor."""
WRONG = (
    "the code is wrong or was used, or the challenge is answered, was tried too often or is older than 5 minutes; "
    "log in again"
)
NOT_SET_UP = "the code is wrong, or the set-up was tried too often or is older than 15 minutes"


@dataclass(frozen=True, slots=True)
class Passed:
    """Who has given a second factor: the account, the device, and what the account has to have to be entered."""

    account: Raw
    device: str | None
    way_in: dict[str, Any]


class SecondFactors:
    """Those of all accounts."""

    def __init__(
        self, config: Mapping[str, Any], keys: Keys, sessions: Sessions, throttle: Throttle, notices: Notices
    ) -> None:
        """Take the name that authenticator apps show, and all that has a part in it."""
        self.seal = Seal(keys.each("second factor"))
        self.issuer: str = config["APP_NAME"]
        self.sessions, self.throttle, self.notices = sessions, throttle, notices

    # --- To switch it on and off ---

    def begin(self, account: Raw, session: str) -> tuple[str, str]:
        """Return a new secret for an account and the `otpauth:` URI with it; `confirm` switches it on.

        Raises `Forbidden` for a guest, `LimitReached` where it is on.
        """
        refuse_unguarded(account)
        refuse_second(account)
        secret = pyotp.random_base32(SECRET_CHARACTERS)
        sealed = self.seal.close({"secret": secret}, account["_id"])
        make_challenge(SET_UP, set_up_by(account, session), account, SET_UP_LIFE, {"sealed": sealed})
        return secret, pyotp.TOTP(secret).provisioning_uri(name=known_as(account), issuer_name=self.issuer)

    def confirm(self, account: Raw, session: str, code: str, client: str, device: str | None) -> list[str]:
        """Switch it on by a code of the secret that the same session got; return the recovery codes.

        All other sessions end: they were opened without it. Raises `BadCredentials` for a wrong code, `LimitReached`
        where it is on, `TooManyRequests`.
        """
        refuse_second(account)
        self.throttle.second_factor(account["_id"])
        found = tried_challenge(SET_UP, set_up_by(account, session))
        if found is None or found["stamp"] != entered_by(account):
            raise BadCredentials(NOT_SET_UP)
        step = matching_step(self.secret(account, found["sealed"]), code)
        if step is None:
            raise BadCredentials(NOT_SET_UP)
        codes = new_recovery_codes()
        factor = {
            "id": new_id(),
            "sealed": found["sealed"],
            "step": step,
            "recovery_hashes": [recovery_hash(account["_id"], code) for code in codes],
            "created_at": now(),
        }
        transactions.run_where_there_are(partial(self.switch_on, account, found, factor, session, client, device))
        return codes

    def switch_on(self, account: Raw, set_up: Raw, factor: Raw, session: str, client: str, device: str | None) -> None:
        """Do that as a part of a transaction, in which the set-up is spent."""
        if not spend_challenge(set_up):
            raise BadCredentials(NOT_SET_UP)
        change = Account.written({"$set": {"second_factor": factor, "updated_at": now()}})
        if not Account._get_collection().update_one({**unchanged(account), **WITHOUT}, change).matched_count:
            raise already_on()
        # First the account, then the sessions: a login that runs at the same time looks at the account last.
        self.sessions.end(account["_id"], but=session)
        void_challenges(account["_id"])
        Event.record(account["_id"], "second_factor_on", client, device)
        self.notices.second_factor_on(account)

    def renew_recovery_codes(self, account: Raw, client: str, device: str | None) -> list[str]:
        """Return recovery codes in place of those before. Raises `NotFound` where there is no second factor."""
        codes = new_recovery_codes()
        hashes = [recovery_hash(account["_id"], code) for code in codes]
        transactions.run_where_there_are(partial(self.replace_recovery_hashes, account, hashes, client, device))
        return codes

    def replace_recovery_hashes(self, account: Raw, hashes: list[str], client: str, device: str | None) -> None:
        """Do that as a part of a transaction."""
        change = Account.written({"$set": {"second_factor.recovery_hashes": hashes, "updated_at": now()}})
        if not Account._get_collection().update_one(has_it(account), change).matched_count:
            raise NotFound("the account has no second factor")
        Event.record(account["_id"], "recovery_codes_renewed", client, device)

    def remove(self, account: Raw, client: str | None, device: str | None = None) -> None:
        """Switch it off and tell the owner. Raises `NotFound` where there is none."""
        transactions.run_where_there_are(partial(self.switch_off, account, client, device))

    def switch_off(self, account: Raw, client: str | None, device: str | None) -> None:
        """Do that as a part of a transaction."""
        change = Account.written({"$unset": {"second_factor": ""}, "$set": {"updated_at": now()}})
        if not Account._get_collection().update_one(has_it(account), change).matched_count:
            raise NotFound("the account has no second factor")
        void_challenges(account["_id"])
        Event.record(account["_id"], "second_factor_off", client, device)
        self.notices.second_factor_off(account)

    # --- To enter ---

    def ask(self, account: Raw, device: str | None, way_in: Mapping[str, Any]) -> None:
        """Raise `SecondFactorRequired`, with a challenge, where an account that somebody is entering asks for one."""
        if "second_factor" not in account:
            return
        token = secrets.token_urlsafe(SECRET_BYTES)
        pairs = [{"field": field, "value": value} for field, value in way_in.items()]
        make_challenge(SECOND_FACTOR, token, account, CHALLENGE_LIFE, {"device": device, "way_in": pairs})
        detail = "give a code of the authenticator app, or a recovery code"
        raise SecondFactorRequired(detail, offered=False, challenge=token)

    def passed(self, token: str, code: str, client: str) -> Passed:
        """Return who may enter by the answer to a challenge; code and challenge are spent.

        Raises `BadCredentials` for a wrong answer, which counts as a failed login, `TooManyRequests` for one too many,
        `Forbidden` where the account is locked.
        """
        with self.throttle.counting(f"challenge {client}", client):
            found, account = challenged(token)
        # It counts before the code is looked at, so that of many at once none beyond the limit is.
        self.throttle.second_factor(account["_id"])
        with self.throttle.counting(f"second factor {account['_id']}", client):
            if not self.takes(account, code):
                Event.record(account["_id"], "second_factor_failed", client, found["device"])
                raise BadCredentials(WRONG)
        if not spend_challenge(found):
            raise BadCredentials(WRONG)
        refuse_locked(account)
        same = {"email_key": account.get("email_key"), "second_factor.id": account["second_factor"]["id"]}
        return Passed(account, found["device"], {**{pair["field"]: pair["value"] for pair in found["way_in"]}, **same})

    def takes(self, account: Raw, code: str) -> bool:
        """Tell whether a code is right and was not used; it is used then. Of two requests at once one has it."""
        given = re.sub(r"[\s-]", "", code[:LONGEST_SENT]).upper()
        if SIX_DIGITS.fullmatch(given):
            return self.takes_step(account, given)
        hashed = recovery_hash(account["_id"], given)
        unused = {**has_it(account), "second_factor.recovery_hashes": hashed}
        used = Account.written({"$pull": {"second_factor.recovery_hashes": hashed}})
        return bool(Account._get_collection().update_one(unused, used).matched_count)

    def takes_step(self, account: Raw, code: str) -> bool:
        """Tell whether a code of the app is right, and of a later step than any that was taken."""
        secret = self.secret(account, account["second_factor"]["sealed"])
        step = matching_step(secret, code)
        if secret is None or step is None:
            return False
        # Sealed anew, so that it is by the key in use when an older one is given up.
        taken = {
            "second_factor.step": step,
            "second_factor.sealed": self.seal.close({"secret": secret}, account["_id"]),
        }
        later = {**has_it(account), "second_factor.step": {"$lt": step}}
        return bool(Account._get_collection().update_one(later, Account.written({"$set": taken})).matched_count)

    def secret(self, account: Raw, sealed: bytes) -> str | None:
        """Return a secret as it was given to the app; None where no key of ours opens it any more."""
        try:
            return str(self.seal.open(sealed, account["_id"])["secret"])
        except Unsealable:
            log.error("second_factor_unreadable", account=account["_id"])
            return None


def matching_step(secret: str | None, code: str) -> int | None:
    """Return the time step that a code is of: this one, the one before or the one after (RFC 6238, section 5.2)."""
    given = re.sub(r"\s", "", code[:LONGEST_SENT])
    if secret is None or not SIX_DIGITS.fullmatch(given):
        return None
    app, this = pyotp.TOTP(secret), int(now().replace(tzinfo=UTC).timestamp()) // STEP_SECONDS
    found = [step for step in (this - 1, this, this + 1) if hmac.compare_digest(app.generate_otp(step), given)]
    return max(found, default=None)


def new_recovery_codes() -> list[str]:
    """Return recovery codes as people write them down."""
    return [dashed(random_code(RECOVERY_LENGTH)) for _ in range(RECOVERY_CODES)]


def recovery_hash(account: str, code: str) -> str:
    """Return what is stored of a recovery code, with or without its hyphens."""
    return hashlib.sha256(f"{account}\0{code.replace('-', '')}".encode()).hexdigest()


def has_it(account: Raw) -> dict[str, Any]:
    """Return the filter of an account that has the second factor that was read."""
    return {"_id": account["_id"], "second_factor.id": account.get("second_factor", {}).get("id", ""), **ALIVE}


def challenged(token: str) -> tuple[Raw, Raw]:
    """Return a challenge that is alive, and its account as it is.

    Raises `BadCredentials` where there is none, or the account is gone or is entered by something else by now.
    """
    found = tried_challenge(SECOND_FACTOR, token)
    if found is not None:
        account: Raw | None = Account._get_collection().find_one({"_id": found["account"], **ALIVE})
        if account is not None and entered_by(account) == found["stamp"]:
            return found, account
    raise BadCredentials(WRONG)


def refuse_unguarded(account: Raw) -> None:
    """Raise `Forbidden` for an account that nobody can log in to: a second factor would guard nothing."""
    if "email_key" not in account and not has_way_beside_address(account):
        raise Forbidden("nobody can log in to this account; give it a username or an address first")


def refuse_second(account: Raw) -> None:
    """Raise `LimitReached` where an account has a second factor."""
    if "second_factor" in account:
        raise already_on()


def already_on() -> LimitReached:
    """Return what somebody is told who switches on what is on."""
    return LimitReached("an account has one authenticator app; switch the second factor off to set up another")
