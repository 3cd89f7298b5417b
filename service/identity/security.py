"""What one program keeps to know who asks: keys, sessions, hashing threads and limits, and Flask-JWT's two handlers."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from service.core.clock import now
from service.core.errors import BadCredentials, NotAuthenticated
from service.documents import Account, Event
from service.identity.accounts import account_by_name, refuse_locked
from service.identity.addresses import Addresses
from service.identity.codes import Codes
from service.identity.first_admin import FirstAdmin
from service.identity.invitations import Invitations
from service.identity.keys import Keys
from service.identity.linked_identities import LinkedIdentities
from service.identity.passkeys import Passkeys
from service.identity.passwords import Hashing
from service.identity.push_devices import PushDevices
from service.identity.second_factors import WITHOUT, SecondFactors
from service.identity.sessions import SESSION_ENDED, Sessions
from service.identity.throttle import Throttle
from service.identity.tickets import Tickets
from service.identity.tokens import Tokens
from service.identity.web_sign_in import WebSignIn
from service.mongo.raw import Raw
from service.outbox.letters import Letters
from service.policy import Identity


def keys_of(config: Mapping[str, Any], tokens: Tokens) -> Keys:
    """Return what keys are derived from: the secret of the installation, else those that sign tokens."""
    return Keys((config["SECRET_KEY"],) if config["SECRET_KEY"] else tuple(tokens.secrets))


class Security:
    """Knows whom a token and a password stand for."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read the settings once. Raises `ValueError` for one that is not safe."""
        self.tokens = Tokens(config)
        self.keys = keys_of(config, self.tokens)
        self.sessions = Sessions(config, self.tokens, self.keys)
        self.hashing = Hashing(config["PASSWORD_HASHING_LIMIT"])
        self.throttle = Throttle(config)
        self.tickets = Tickets()
        self.letters = Letters(config, self.keys.each("outbox"))
        codes = Codes(self.keys)
        self.addresses = Addresses(config, codes, self.letters, self.sessions, self.throttle, self.hashing)
        links = self.addresses.links
        self.invitations = Invitations(config, self.keys, links, self.letters, self.throttle)
        self.linked_identities = LinkedIdentities(
            config, self.sessions, self.throttle, self.addresses.notices, self.letters.seal
        )
        providers, base = self.linked_identities.providers, self.addresses.links.base
        self.web_sign_in = WebSignIn(config, self.keys, providers, self.throttle, base)
        self.second_factors = SecondFactors(config, self.keys, self.sessions, self.throttle, self.addresses.notices)
        self.passkeys = Passkeys(config, self.keys, self.sessions, self.throttle, self.addresses.notices)
        self.push_devices = PushDevices(config, self.throttle)
        self.first_admin = FirstAdmin(self.keys)
        self.cursor_key = self.keys.derived("cursor")

    def claims(self, header: str | None) -> dict[str, Any]:
        """Return the verified claims of an `Authorization` header. Raises `NotAuthenticated` or `TokenExpired`."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() not in self.tokens.schemes or not token:
            raise NotAuthenticated("send the access token as `Authorization: Bearer …`", offered=header is not None)
        return self.tokens.verify(token.strip())

    def identify(self, header: str | None) -> Identity:
        """Return whom an `Authorization` header names. Raises `NotAuthenticated` or `TokenExpired`."""
        return self.identity(self.claims(header))

    def identity(self, payload: Mapping[str, Any]) -> Identity:
        """Return the identity that verified claims stand for. Flask-JWT's second handler.

        Raises `NotAuthenticated` when the session has ended.
        """
        found = self.sessions.identity(payload["sub"], payload["sid"], int(payload["auth_time"]))
        if found is None:
            raise NotAuthenticated(SESSION_ENDED)
        return found

    def current_identity(self, payload: Mapping[str, Any]) -> Identity:
        """Return the identity that verified claims stand for at this moment, whenever it was looked up last.

        Raises `NotAuthenticated` when the session has ended.
        """
        return self.renewed_identity(Identity(payload["sub"], payload["sid"], int(payload["auth_time"])))

    def renewed_identity(self, known: Identity) -> Identity:
        """Return an identity as it is at this moment, with the roles of now.

        Raises `NotAuthenticated` when the session has ended.
        """
        found = self.sessions.current_identity(known.account, known.session, known.auth_time)
        if found is None:
            raise NotAuthenticated(SESSION_ENDED)
        return found

    def authenticate(self, username: str, password: str) -> Raw:
        """Return the account with this username or verified address, without regard to case, and this password.

        Flask-JWT's first handler. Raises as `with_password` does.
        """
        return self.with_password(account_by_name(username), password)

    def with_password(self, account: Raw | None, password: str) -> Raw:
        """Return the account that a name has led to, None for none, if this is its password.

        Raises `BadCredentials` in the same time whichever is wrong, `Forbidden` when the account is locked.
        """
        stored = None if account is None else account.get("password_hash")
        if not self.hashing.matches(stored, password) or account is None:
            raise BadCredentials("the username or the password is wrong")
        refuse_locked(account)
        if (renewed := self.hashing.renewed(account["password_hash"], password)) is not None:
            same = {"_id": account["_id"], "password_hash": account["password_hash"]}
            if not Account._get_collection().update_one(same, {"$set": {"password_hash": renewed}}).modified_count:
                # Somebody renewed or changed it at the same moment: look again.
                return self.with_password(Account._get_collection().find_one({"_id": account["_id"]}), password)
            account["password_hash"] = renewed
        return account

    def log_in(self, username: str, password: str, address: str, device: str | None) -> Raw:
        """Return the account with this name and password for somebody at an address, where tries are counted.

        Raises as `with_password` does, and `TooManyRequests`.
        """
        known = account_by_name(username)
        # Of an account that has two names the guesses count together.
        name = username.lower() if known is None else known["_id"]
        self.throttle.check_login(name, address)
        try:
            account = self.with_password(known, password)
        except BadCredentials:
            self.throttle.failed_login(name, address)
            # For a name that does not exist too, so that the time does not tell it.
            Event.record("" if known is None else known["_id"], "login_failed", address, device)
            raise
        # Once more: of many guesses that were sent at once, none beyond the limit is answered, not even the right one.
        self.throttle.check_login(name, address)
        return account

    def enter(
        self, account: Raw, address: str, device: str | None, way_in: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Open a session of an account whose owner has just shown who they are, and return its tokens.

        `way_in` and what is raised: see `Sessions.open`. Raises `SecondFactorRequired` where the account asks for one.
        """
        self.second_factors.ask(account, device, way_in)
        return self.opened(account, address, device, {**way_in, **WITHOUT})

    def enter_by_second_factor(self, challenge: str, code: str, address: str) -> dict[str, Any]:
        """Open the session for which a second factor was asked, and return its tokens: see `SecondFactors.passed`."""
        passed = self.second_factors.passed(challenge, code, address)
        return self.opened(passed.account, address, passed.device, passed.way_in)

    def enter_by_passkey(self, credential: Raw, address: str, device: str | None) -> dict[str, Any]:
        """Open a session by a passkey, which is both factors, and return its tokens: see `Passkeys.sign_in`."""
        account, way_in = self.passkeys.sign_in(credential, address)
        return self.opened(account, address, device, way_in)

    def opened(self, account: Raw, address: str, device: str | None, way_in: Mapping[str, Any]) -> dict[str, Any]:
        """Open a session and return its tokens; a device that was not seen before is told to the owner."""
        notices = self.addresses.notices
        is_new = notices.is_new_device(account, address, device)
        tokens = self.sessions.open(account, address, device, way_in)
        if is_new:
            notices.new_device(account, device, now())
        return tokens
