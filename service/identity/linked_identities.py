"""Sign-in by a provider, and by which of them an account can be entered.

Who somebody is, issuer and subject say, and never an address: a sign-in finds the account to which these are linked, or
makes a new one. It never finds an account by its address.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core.clock import now
from service.core.errors import (
    AccountExists,
    AlreadyExists,
    BadCredentials,
    Cause,
    ValidationFailed,
)
from service.core.ids import new_id
from service.documents import Account, Event, SpentToken
from service.documents.account import ALIVE, NOT_MERGED
from service.identity import provider_tokens
from service.identity.accounts import new_account, refuse_locked
from service.identity.id_tokens import Asserted, asserted
from service.identity.notices import Notices
from service.identity.provider_tokens import keep_token, revoke_later
from service.identity.providers import Providers
from service.identity.sessions import Sessions
from service.identity.throttle import Throttle
from service.identity.ways_in import take_way_in
from service.mongo import transactions
from service.mongo.raw import Raw
from service.outbox.sealing import Seal

MOST_IDENTITIES = 20
"""Most identities of one account."""


class LinkedIdentities:
    """What can be done with an ID token."""

    def __init__(
        self, config: Mapping[str, Any], sessions: Sessions, throttle: Throttle, notices: Notices, seal: Seal
    ) -> None:
        """Take the settings and all that has a part in it. Raises `ValueError` for settings that are wrong."""
        self.providers = Providers(config)
        self.sessions, self.throttle, self.notices = sessions, throttle, notices
        self.seal = seal

    def asserted(self, name: str, token: str, nonce: str | None, code: str | None, client: str) -> Asserted:
        """Return who a token of the provider `name` is about; see `id_tokens.asserted`.

        A token that is not good counts as a failed login. Raises `NotFound` and `TooManyRequests` too.
        """
        provider = self.providers.named(name)
        with self.throttle.counting(f"provider {name} {client}", client):
            return asserted(provider, token, nonce, code)

    def sign_in(self, who: Asserted, client: str) -> Raw:
        """Return the account of whom a token is about, a new one for somebody new; the token is spent.

        Raises `BadCredentials` for a token that was used, `AccountExists` where an account has the verified address,
        `Forbidden` where the account is locked, `TooManyRequests` for too many new ones.
        """
        account = account_of(who)
        if account is None:
            return self.signed_up(who, client)
        refuse_locked(account)
        spend(who)
        note_use(account, who)
        return account

    def signed_up(self, who: Asserted, client: str) -> Raw:
        """Return a new account of somebody, or the one that another sign-in at the same moment has made."""
        refuse_taken_address(who)
        self.throttle.sign_up(client)
        spend(who)
        account = new_account({**address_of(who), "identities": [new_identity(who)]})
        try:
            Account._get_collection().insert_one(account)
        except DuplicateKeyError:
            found = account_of(who)
            if found is None:
                raise taken_address() from None
            refuse_locked(found)
            return found
        Event.record(account["_id"], "sign_up", client)
        return account

    def link(self, account: str, who: Asserted, client: str, device: str | None) -> tuple[Raw, bool]:
        """Let an account be entered by whom a token is about; return the identity, and whether it is new there.

        It is told to the reader of the verified address. A guest is none from then on. Raises `BadCredentials` for a
        token that was used, `AlreadyExists` where the identity is another account's, `ValidationFailed` where the
        account has too many, or is gone.
        """
        return transactions.run_where_there_are(partial(self.link_at_once, account, who, client, device))

    def link_at_once(self, account: str, who: Asserted, client: str, device: str | None) -> tuple[Raw, bool]:
        """Do that as a part of a transaction."""
        there = account_of(who)
        if there is not None and there["_id"] != account:
            raise of_another_account()
        spend(who)
        if there is not None:
            if who.given is not None:
                keep_token(account, who.key, who.given)
            return next(identity for identity in there["identities"] if identity["key"] == who.key), False
        new = new_identity(who)
        room = {"_id": account, f"identities.{MOST_IDENTITIES - 1}": {"$exists": False}, **NOT_MERGED, **ALIVE}
        change = Account.written(
            {"$push": {"identities": new}, "$set": {"updated_at": now()}, "$unset": {"guest_seen_at": ""}}
        )
        try:
            entered = Account._get_collection().find_one_and_update(
                {**room, "identities.key": {"$ne": who.key}}, change
            )
        except DuplicateKeyError:
            raise of_another_account() from None
        if entered is None:
            raise ValidationFailed([Cause("too_many", f"at most {MOST_IDENTITIES} identities", pointer="/id_token")])
        Event.record(account, "identity_linked", client, device)
        self.notices.identity_linked(entered, new)
        return new, True

    def unlink(self, account: str, session: str, id: str, client: str, device: str | None) -> None:
        """Take an identity from an account; all of its sessions but one end, for some may have been opened by it.

        It is told to the reader of the verified address. Raises `NotFound` where it has none of that id, `LastWayIn`
        where nobody could enter the account any more.
        """
        transactions.run_where_there_are(partial(self.unlink_at_once, account, session, id, client, device))

    def unlink_at_once(self, account: str, session: str, id: str, client: str, device: str | None) -> None:
        """Do that as a part of a transaction."""
        before, identity = take_way_in(account, "identities", id)
        # First the account, then the sessions: a sign-in that runs at the same time looks at the account last.
        self.sessions.end(account, but=session)
        Event.record(account, "identity_removed", client, device)
        revoke_later(identity)
        self.notices.identity_removed(before, identity)

    def redeem_later(self, account: str, who: Asserted, code: str | None) -> None:
        """Have a code exchanged that came beside an ID token: see `provider_tokens.redeem_later`."""
        provider_tokens.redeem_later(self.seal, self.providers.named(who.provider), account, who, code)


def account_of(who: Asserted) -> Raw | None:
    """Return the account to which an identity is linked, None if there is none."""
    found: Raw | None = Account._get_collection().find_one({"identities.key": who.key, **ALIVE})
    return found


def refuse_taken_address(who: Asserted) -> None:
    """Raise `AccountExists` where an account has the address that the provider has verified; the token stays good.

    Not for the account that another sign-in of the same person has made at this moment.
    """
    anothers = {"email_key": who.address_key, "identities.key": {"$ne": who.key}, **ALIVE}
    if who.address_key is not None and Account._get_collection().find_one(anothers, {"_id": 1}) is not None:
        raise taken_address()


def taken_address() -> AccountExists:
    """Return what somebody is told whose address an account has that is not linked."""
    return AccountExists("an account has this address; sign in there, then link the identity")


def of_another_account() -> AlreadyExists:
    """Return what somebody is told who links what is linked elsewhere."""
    cause = Cause("not_unique", "an identity that no other account has", pointer="/id_token")
    return AlreadyExists("the identity belongs to another account", [cause])


def spend(who: Asserted) -> None:
    """Make a token void. Raises `BadCredentials` where it was used before: of requests at once, one has it.

    It is a part of the transaction under way, for what the token was good for happens with it or not at all.
    """
    if not SpentToken.spend(who.token, who.until):
        raise BadCredentials("the ID token was used before; get a new one")


def note_use(account: Raw, who: Asserted) -> None:
    """Write down when an identity was used, and the address that its provider tells now."""
    here = {"_id": account["_id"], "identities.key": who.key}
    used: dict[str, Any] = {"$set": {"identities.$.last_used_at": now()}}
    if who.email is None:
        used["$unset"] = {"identities.$.email": ""}
    else:
        used["$set"]["identities.$.email"] = who.email
    used["$set"] |= {f"identities.$.{name}": value for name, value in (who.given or {}).items()}
    Account._get_collection().update_one(here, Account.written(used))


def new_identity(who: Asserted) -> Raw:
    """Return a new identity as it is stored."""
    moment = now()
    named = {"provider": who.provider, "issuer": who.issuer, "subject": who.subject}
    address = {} if who.email is None else {"email": who.email}
    times = {"created_at": moment, "last_used_at": moment}
    return {"id": new_id(), "key": who.key, **named, **address, **(who.given or {}), **times}


def address_of(who: Asserted) -> dict[str, Any]:
    """Return what a new account has of an address: one that its provider has verified belongs to it."""
    if who.email is None:
        return {}
    key = who.address_key
    verified = {"email_verified": False} if key is None else {"email_verified": True, "email_key": key}
    return {"email": who.email, **verified}
