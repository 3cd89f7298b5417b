"""What one program keeps to know who asks: keys, sessions, hashing threads and limits, and Flask-JWT's two handlers."""

from collections.abc import Mapping
from typing import Any

from service.core.errors import BadCredentials, Forbidden, NotAuthenticated
from service.documents import Account
from service.identity.keys import Keys
from service.identity.passwords import Hashing
from service.identity.sessions import SESSION_ENDED, Sessions
from service.identity.throttle import Throttle
from service.identity.tickets import Tickets
from service.identity.tokens import Tokens
from service.mongo.raw import Raw
from service.policy import Identity


class Security:
    """Knows whom a token and a password stand for."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Read the settings once. Raises `ValueError` for one that is not safe."""
        self.tokens = Tokens(config)
        self.keys = Keys((config["SECRET_KEY"],) if config["SECRET_KEY"] else tuple(self.tokens.secrets))
        self.sessions = Sessions(config, self.tokens, self.keys)
        self.hashing = Hashing(config["PASSWORD_HASHING_LIMIT"])
        self.throttle = Throttle(config)
        self.tickets = Tickets()
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
        """Return the account with this name, without regard to case, and this password.

        Flask-JWT's first handler. Raises `BadCredentials` in the same time whichever is wrong, `Forbidden` when the
        account is locked.
        """
        account: Raw | None = Account._get_collection().find_one({"username_key": username.lower()})
        stored = None if account is None else account["password_hash"]
        if not self.hashing.matches(stored, password) or account is None:
            raise BadCredentials("the username or the password is wrong")
        if "locked_at" in account:
            raise Forbidden("the account is locked")
        if (renewed := self.hashing.renewed(account["password_hash"], password)) is not None:
            same = {"_id": account["_id"], "password_hash": account["password_hash"]}
            if not Account._get_collection().update_one(same, {"$set": {"password_hash": renewed}}).modified_count:
                # Somebody renewed or changed it at the same moment: look again.
                return self.authenticate(username, password)
            account["password_hash"] = renewed
        return account
