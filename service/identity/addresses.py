"""Addresses: what is sent to one, and what whoever reads it may do: verify it, set a password, sign in.

Who asks gets the same answer whether the address is known or not, after the same work: a code is stored, and a mail.
An account that says to have an address has it when the address was verified, and not before: who writes down the
address of somebody else gets nothing by it.
"""

from collections.abc import Mapping
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from service.core.clock import now
from service.core.errors import AlreadyExists, BadCredentials, Cause
from service.documents import Account, Event, OneTimeCode
from service.documents.account import ALIVE, NOT_MERGED, address_key
from service.identity.accounts import new_account, refuse_locked
from service.identity.codes import CODE_MINUTES, Codes, Issued, stamp_of
from service.identity.links import Links
from service.identity.notices import Notices
from service.identity.passwords import Hashing, new_password
from service.identity.sessions import Sessions
from service.identity.throttle import Throttle
from service.mongo import transactions
from service.mongo.raw import Raw
from service.outbox import mail
from service.outbox.letters import Letter, Letters, Value

WRONG_CODE = "the code is wrong, was used or tried too often, or is older than 15 minutes; ask for a new one"
ENTERED_BY = ("password_hash", "email_key", "merged_into")
"""What has to be as it was read where a code is taken; a guest that becomes a part of another account takes none."""
VERIFY, RESET, SIGN_IN = "verify", "reset", "sign_in"
"""The purposes of codes."""


class Addresses:
    """What can be done by reading what is sent to an address."""

    def __init__(
        self,
        config: Mapping[str, Any],
        codes: Codes,
        letters: Letters,
        sessions: Sessions,
        throttle: Throttle,
        hashing: Hashing,
    ) -> None:
        """Take the settings and all that has a part in it. Raises `ValueError` for settings that cannot be kept."""
        self.codes, self.letters, self.sessions = codes, letters, sessions
        self.throttle, self.hashing = throttle, hashing
        self.links, self.notices = Links(config), Notices(letters)
        self.sign_up_by_code: bool = config["SIGN_UP_BY_CODE"]
        if self.sign_up_by_code:
            mail.require(config, "SIGN_UP_BY_CODE")

    # --- To ask ---

    def ask_to_verify(self, account: Raw, address: str, language: str, client: str) -> None:
        """Send a code and a link to an address that an account wants to have."""
        key = address_key(address)
        taken = Account._get_collection().find_one({"email_key": key, "_id": {"$ne": account["_id"]}}, {"_id": 1})
        issued = self.codes.issue(VERIFY, account["_id"], address, key, account)
        link = self.links.verify(issued.token)
        language = account.get("locale") or language
        if taken is None:
            name = account.get("username") or ""
            self.send(address, "verify_address", language, account, issued, link=link, username=name)
        else:
            self.send(address, "account_exists", language, account)
        Event.record(account["_id"], f"{VERIFY}_code_sent", client)

    def ask_to_reset(self, address: str, language: str, client: str) -> None:
        """Send a code and a link for a new password to an address, or that no account has it."""
        account, sent_to, issued = self.issued_for(RESET, address, client)
        link = self.links.reset(issued.token)
        if account is None:
            self.send(sent_to, "no_account", language)
        else:
            self.send(sent_to, "reset_password", account.get("locale") or language, account, issued, link=link)

    def ask_to_sign_in(self, address: str, language: str, client: str) -> None:
        """Send a code to sign in with to an address, or that no account has it."""
        account, sent_to, issued = self.issued_for(SIGN_IN, address, client)
        language = (account or {}).get("locale") or language
        if account is None and not self.sign_up_by_code:
            self.send(sent_to, "no_account", language)
        else:
            self.send(sent_to, "sign_in_code", language, account, issued)

    def issued_for(self, purpose: str, address: str, client: str) -> tuple[Raw | None, str, Issued]:
        """Return the account that has a verified address, how the address is spelled there, and a code for it."""
        key = address_key(address)
        account = account_at(key)
        # To the address that was verified: another spelling may be that of another mailbox.
        sent_to = address if account is None else account["email"]
        # For an address that nobody has too, so that the time does not tell it.
        Event.record("" if account is None else account["_id"], f"{purpose}_code_sent", client)
        return account, sent_to, self.codes.issue(purpose, key, sent_to, key, account)

    def send(
        self,
        address: str,
        template: str,
        language: str,
        account: Raw | None = None,
        issued: Issued | None = None,
        **values: Value,
    ) -> None:
        """Store a letter. Raises `TooManyRequests` where no more may be sent, so that no code is made void by it."""
        if issued is not None:
            values |= {"code": issued.code, "minutes": CODE_MINUTES}
        owner, until = None if account is None else account["_id"], None if issued is None else issued.until
        self.letters.post_asked_for(Letter(address, template, language, values, owner, until=until))

    # --- To do ---

    def tried(self, purpose: str, subject: str, code: str) -> Raw:
        """Return what was stored with a code. Raises `BadCredentials` for a wrong one; each try counts."""
        return good(self.codes.tried(purpose, subject, code))

    def tried_code(self, purpose: str, address: str, code: str, client: str) -> Raw:
        """Return what was stored with a code that was sent to an address.

        Raises `BadCredentials` for a wrong one, which counts as a failed login, `TooManyRequests` for one too many.
        """
        key = address_key(address)
        with self.throttle.counting(f"{purpose} {key}", client):
            return self.tried(purpose, key, code)

    def tried_token(self, purpose: str, token: str, client: str) -> Raw:
        """Return what was stored with the token of a link; see `tried_code`."""
        with self.throttle.counting(f"{purpose} token", client):
            return good(self.codes.of_token(purpose, token))

    def verify(self, found: Raw, client: str) -> Raw:
        """Give an account the address whose code, or link, was found; return the account as it now is.

        It is part of one transaction, where there are transactions. Raises `BadCredentials` where the code is void by
        now, `AlreadyExists` where the address belongs to another account.
        """
        account = self.spent(found)
        try:
            changed: Raw | None = Account._get_collection().find_one_and_update(
                unchanged(account),
                # A guest becomes a full account by that.
                Account.written(
                    {"$set": {**verified_address(found), "updated_at": now()}, "$unset": {"guest_seen_at": ""}}
                ),
                return_document=ReturnDocument.AFTER,
            )
        except DuplicateKeyError:
            cause = Cause("not_unique", "an address that no account has", pointer="/email")
            raise AlreadyExists("the address belongs to another account", [cause]) from None
        self.void_codes(account)
        if account.get("email_key") != found["address_key"]:
            self.notices.address_changed(account, found["address"])
        Event.record(account["_id"], "address_verified", client)
        return good(changed)

    def set_password(self, found: Raw, wanted: Any, client: str) -> None:
        """Give the account that a code concerns the password that is wanted; see `reset`.

        Raises `ValidationFailed` where that account may not have it, `TooManyRequests` where too many are hashed.
        """
        account = Account._get_collection().find_one({"_id": found["account"]}, {"username": 1}) or {}
        password = new_password({"new_password": wanted}, "new_password", account.get("username"))
        password_hash = self.hashing.hash(password)
        transactions.run_where_there_are(lambda: self.reset(found, password_hash, client))

    def reset(self, found: Raw, password_hash: str, client: str) -> None:
        """Give the account at the address whose code, or link, was found a password, and end all of its sessions.

        It is part of one transaction, where there are transactions: a login that runs at the same time writes to the
        account too, so one of the two sees the other. Raises `BadCredentials` where the code is void by now.
        """
        account = self.spent(found)
        change = Account.written({"$set": {"password_hash": password_hash, "updated_at": now()}})
        if not Account._get_collection().update_one(unchanged(account), change).matched_count:
            raise BadCredentials(WRONG_CODE)
        # First the account, then the sessions: a login that runs at the same time looks at the account last.
        self.sessions.end(account["_id"])
        self.void_codes(account)
        self.notices.password_changed(account)
        Event.record(account["_id"], "password_reset", client)

    def sign_in(self, found: Raw, client: str) -> Raw:
        """Return the account that whoever reads an address signs in to by the code that was found; maybe a new one.

        Raises `BadCredentials` where the code is void by now, `Forbidden` where the account is locked.
        """
        if found["account"] is None and self.sign_up_by_code:
            return self.signed_up(found, client)
        account = self.spent(found)
        refuse_locked(account)
        return account

    def signed_up(self, found: Raw, client: str) -> Raw:
        """Return a new account of whoever reads an address; raises `BadCredentials` where it has one by now."""
        if not self.codes.spend(found):
            raise BadCredentials(WRONG_CODE)
        account = new_account(verified_address(found))
        try:
            Account._get_collection().insert_one(account)
        except DuplicateKeyError:
            raise BadCredentials(WRONG_CODE) from None
        Event.record(account["_id"], "sign_up", client)
        return account

    def spent(self, found: Raw) -> Raw:
        """Return the account that a code concerns, as it is, and make the code void.

        Raises `BadCredentials` where that was done, or where password or address have changed since it was sent.
        """
        account = good(Account._get_collection().find_one({"_id": found["account"], **NOT_MERGED, **ALIVE}))
        if stamp_of(account) != found["stamp"] or not self.codes.spend(found):
            raise BadCredentials(WRONG_CODE)
        return account

    def void_codes(self, account: Raw) -> None:
        """Forget the codes of an account whose password or address has changed; their stamps tell it too."""
        OneTimeCode._get_collection().delete_many({"account": account["_id"]})


def account_at(key: str) -> Raw | None:
    """Return the account that the verified address with a key belongs to."""
    found: Raw | None = Account._get_collection().find_one({"email_key": key, **ALIVE})
    return found


def verified_address(found: Raw) -> Raw:
    """Return what an account has of the address whose code, or link, was found."""
    return {"email": found["address"], "email_key": found["address_key"], "email_verified": True}


def unchanged(account: Raw) -> dict[str, Any]:
    """Return the filter of an account that is entered as it was when it was read."""
    return {"_id": account["_id"], **{name: account.get(name) for name in ENTERED_BY}, **ALIVE}


def good(found: Raw | None) -> Raw:
    """Return what was found; raises `BadCredentials` for nothing."""
    if found is None:
        raise BadCredentials(WRONG_CODE)
    return found
