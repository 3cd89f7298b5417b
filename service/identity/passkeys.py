"""Passkeys (WebAuthn, level 3): how a key comes to an account, and how it opens it.

The authenticator has verified its user, so a passkey is both factors: something that is had, and a finger, face or PIN.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from service.core.base64url import encode_base64url
from service.core.clock import now
from service.core.errors import (
    AlreadyExists,
    BadCredentials,
    Cause,
    LimitReached,
    NotFound,
    NotSupported,
)
from service.core.ids import new_id
from service.documents import Account, Event
from service.documents.account import ALIVE, NOT_MERGED
from service.identity.accounts import refuse_locked
from service.identity.addresses import unchanged
from service.identity.challenges import (
    NOT_GOOD,
    OpenChallenges,
    entered_by,
    make_challenge,
    set_up_by,
    spend_challenge,
    tried_challenge,
)
from service.identity.keys import Keys
from service.identity.notices import Notices
from service.identity.sessions import Sessions
from service.identity.throttle import Throttle
from service.identity.ways_in import take_way_in
from service.mongo import transactions
from service.mongo.raw import Raw

if TYPE_CHECKING:
    from service.identity.relying_party import RelyingParty

OPTIONS_LIFE = timedelta(minutes=5)
MOST_PASSKEYS = 20
SET_UP = "passkey_set_up"
"""The purpose of challenges for new passkeys."""


class Passkeys:
    """Those of all accounts, for one relying party."""

    def __init__(
        self, config: Mapping[str, Any], keys: Keys, sessions: Sessions, throttle: Throttle, notices: Notices
    ) -> None:
        """Read the settings once. Raises `ValueError` for origins that are none of the relying party's."""
        rp_id: str | None = config["WEBAUTHN_RP_ID"]
        origins: list[str] = config["WEBAUTHN_ORIGINS"]
        self.challenges = OpenChallenges(keys.each("passkey challenge"), OPTIONS_LIFE)
        self.sessions, self.throttle, self.notices = sessions, throttle, notices
        check_origins(rp_id, origins)
        self.configured = None if rp_id is None else relying_party(rp_id, config["APP_NAME"], origins)

    @property
    def party(self) -> "RelyingParty":
        """Return whom passkeys are for. Raises `NotSupported` where the settings do not say it."""
        if self.configured is None:
            raise NotSupported("this service has no passkeys: WEBAUTHN_RP_ID is not set")
        return self.configured

    # --- To come to one ---

    def creation_options(self, account: Raw, session: str) -> Raw:
        """Return what `navigator.credentials.create` takes as `publicKey`, for one session of an account."""
        challenge, options = self.party.creation_options(account)
        token = encode_base64url(challenge)
        make_challenge(SET_UP, set_up_by(account, session, token), account, OPTIONS_LIFE, {})
        return options

    def register(self, account: Raw, session: str, credential: Raw, name: str, client: str, device: str | None) -> Raw:
        """Add a new passkey to an account and return it as it is stored; a guest is none from then on.

        Raises `BadCredentials`, `AlreadyExists` where another account has it, `LimitReached`.
        """
        challenge = self.party.challenge_in(credential)
        found = tried_challenge(SET_UP, set_up_by(account, session, encode_base64url(challenge)))
        if found is None or found["stamp"] != entered_by(account):
            raise BadCredentials(NOT_GOOD)
        verified = self.party.verify_registration(credential, challenge)
        moment = now()
        passkey = {
            "id": new_id(),
            "key": encode_base64url(verified.credential_id),
            "public_key": verified.credential_public_key,
            "sign_count": verified.sign_count,
            "name": name,
            "created_at": moment,
            "last_used_at": moment,
        }
        transactions.run_where_there_are(partial(self.add, account, found, passkey, client, device))
        return passkey

    def add(self, account: Raw, set_up: Raw, passkey: Raw, client: str, device: str | None) -> None:
        """Store a passkey with its account, as a part of a transaction in which the set-up is spent.

        Raises `AlreadyExists`, `LimitReached`, and `BadCredentials` where the set-up was spent meanwhile, or the
        account has another password or address by now, which ended the session.
        """
        if not spend_challenge(set_up):
            raise BadCredentials(NOT_GOOD)
        if Account._get_collection().find_one({"passkeys.key": passkey["key"]}, {"_id": 1}) is not None:
            raise taken_passkey()
        if len(account.get("passkeys", ())) >= MOST_PASSKEYS:
            raise LimitReached(f"an account has at most {MOST_PASSKEYS} passkeys")
        room = {**unchanged(account), f"passkeys.{MOST_PASSKEYS - 1}": {"$exists": False}, **NOT_MERGED}
        change = Account.written(
            {"$push": {"passkeys": passkey}, "$set": {"updated_at": now()}, "$unset": {"guest_seen_at": ""}}
        )
        # Where another account gets the key at this moment, MongoDB has all of it tried again, and then it is found.
        if not Account._get_collection().update_one(room, change).matched_count:
            raise BadCredentials(NOT_GOOD)
        Event.record(account["_id"], "passkey_added", client, device)
        self.notices.passkey_added(account, passkey["name"])

    # --- To enter ---

    def request_options(self) -> Raw:
        """Return what `navigator.credentials.get` takes as `publicKey`; it names nobody, so it tells of nobody."""
        return self.party.request_options(self.challenges.make())

    def sign_in(self, credential: Raw, client: str) -> tuple[Raw, dict[str, Any]]:
        """Return the account that a passkey opens, and the filter by which: see `Sessions.open`.

        The challenge is spent whatever comes of it. Raises `BadCredentials`, which counts as a failed login,
        `Forbidden` where the account is locked, `TooManyRequests`.
        """
        with self.throttle.counting(f"passkey {client}", client):
            account, key = self.signed_in(credential)
        refuse_locked(account)
        return account, {"passkeys.key": key}

    def signed_in(self, credential: Raw) -> tuple[Raw, str]:
        """Return the account of a passkey that has signed a challenge of ours, and its key; the count is stored."""
        challenge, key = self.party.challenge_in(credential), str(credential.get("id", ""))
        if not self.challenges.spend(challenge):
            raise BadCredentials(NOT_GOOD)
        account: Raw | None = Account._get_collection().find_one({"passkeys.key": key, **ALIVE})
        # WebAuthn level 3, section 7.2, step 6: who a discoverable passkey says it is of.
        if account is None or credential["response"].get("userHandle") != encode_base64url(account["_id"].encode()):
            raise BadCredentials(NOT_GOOD)
        passkey = next(one for one in account["passkeys"] if one["key"] == key)
        count = self.party.verify_sign_in(credential, challenge, passkey)
        as_read = {"key": key, "sign_count": passkey["sign_count"]}
        used = {"passkeys.$.sign_count": count, "passkeys.$.last_used_at": now()}
        same = {"_id": account["_id"], "passkeys": {"$elemMatch": as_read}}
        if not Account._get_collection().update_one(same, Account.written({"$set": used})).matched_count:
            raise BadCredentials(NOT_GOOD)
        return account, key

    # --- To keep ---

    def rename(self, account: str, id: str, name: str) -> None:
        """Give a passkey another name. Raises `NotFound`."""
        named = Account.written({"$set": {"passkeys.$.name": name, "updated_at": now()}})
        if not Account._get_collection().update_one({"_id": account, "passkeys.id": id, **ALIVE}, named).matched_count:
            raise NotFound("there is no such passkey")

    def remove(self, account: str, session: str, id: str, client: str, device: str | None) -> None:
        """Take a passkey from an account; all of its sessions but one end, for some may have been opened by it.

        Raises `NotFound`, `LastWayIn` where nobody could enter the account any more.
        """
        transactions.run_where_there_are(partial(self.remove_at_once, account, session, id, client, device))

    def remove_at_once(self, account: str, session: str, id: str, client: str, device: str | None) -> None:
        """Do that as a part of a transaction."""
        before, passkey = take_way_in(account, "passkeys", id)
        # First the account, then the sessions: a sign-in that runs at the same time looks at the account last.
        self.sessions.end(account, but=session)
        Event.record(account, "passkey_removed", client, device)
        self.notices.passkey_removed(before, passkey["name"])


def relying_party(rp_id: str, name: str, origins: list[str]) -> "RelyingParty":
    """Return the relying party. Only now is its library loaded, which takes 6 MB of a process and 0.2 s of a start."""
    from service.identity.relying_party import RelyingParty

    return RelyingParty(rp_id, name, origins)


def taken_passkey() -> AlreadyExists:
    """Return what somebody is told whose passkey an account has."""
    return AlreadyExists("the passkey is in use", [Cause("not_unique", "a new passkey", pointer="/credential")])


def check_origins(rp_id: str | None, origins: list[str]) -> None:
    """Raise `ValueError` for origins that no client would let use the passkeys of a relying party."""
    if rp_id is None and origins:
        raise ValueError("WEBAUTHN_ORIGINS needs WEBAUTHN_RP_ID: the domain that passkeys are for")
    if rp_id is not None and not origins:
        raise ValueError("WEBAUTHN_RP_ID needs WEBAUTHN_ORIGINS: where passkeys may be used")
    for origin in origins:
        if origin.startswith("android:apk-key-hash:"):
            continue
        parts = urlsplit(origin)
        host = parts.hostname or ""
        secure = parts.scheme == "https" or (parts.scheme, host) == ("http", "localhost")
        if not secure or not (host == rp_id or host.endswith(f".{rp_id}")) or parts.path or parts.query:
            raise ValueError(f"WEBAUTHN_ORIGINS: {origin} has to be https:// and {rp_id}, or a domain below it")
