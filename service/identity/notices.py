"""Notices: what the owner of an account is told by mail, so that they hear of what somebody else does."""

from datetime import datetime

from service.core.clock import now
from service.documents import Event
from service.identity.throttle import network_of
from service.mongo.raw import Raw
from service.outbox.letters import Letter, Letters, Value

LOGINS_LOOKED_AT = 200
"""Most earlier logins among which a device is looked for."""


class Notices:
    """Writes to verified addresses; an account without one is told nothing."""

    def __init__(self, letters: Letters) -> None:
        self.letters = letters

    def password_changed(self, account: Raw) -> None:
        """Tell that the password is another one."""
        self.tell(account, "password_changed", when=now())

    def address_changed(self, account: Raw, new_address: str) -> None:
        """Tell the reader of the address that an account had that it has another one, or none, by now."""
        self.tell(account, "address_changed", when=now(), new_address=new_address)

    def identity_linked(self, account: Raw, identity: Raw) -> None:
        """Tell by which provider, and which address there, the account can be entered from now on."""
        self.tell(account, "identity_linked", **letter_values(identity))

    def identity_removed(self, account: Raw, identity: Raw) -> None:
        """Tell by which provider, and which address there, the account can be entered no more."""
        self.tell(account, "identity_removed", **letter_values(identity))

    def second_factor_on(self, account: Raw) -> None:
        """Tell that a second factor is asked for from now on."""
        self.tell(account, "second_factor_on", when=now())

    def second_factor_off(self, account: Raw) -> None:
        """Tell that no second factor is asked for any more."""
        self.tell(account, "second_factor_off", when=now())

    def passkey_added(self, account: Raw, name: str) -> None:
        """Tell that a passkey of some name can open the account."""
        self.tell(account, "passkey_added", passkey=name, when=now())

    def passkey_removed(self, account: Raw, name: str) -> None:
        """Tell that a passkey of some name opens it no more."""
        self.tell(account, "passkey_removed", passkey=name, when=now())

    def new_device(self, account: Raw, device: str | None, when: datetime) -> None:
        """Tell that somebody has logged in whose device and network were not seen before."""
        self.tell(account, "new_device", device=device or "", when=when)

    def is_new_device(self, account: Raw, address: str, device: str | None) -> bool:
        """Tell whether a login from an address, on a device of this name, is the first one of its kind.

        Both have to be as they were in one login that is remembered: anybody can give their device a name. The very
        first login of an account is nothing to tell of.
        """
        if "email_key" not in account or "last_login_at" not in account:
            return False
        logins = {"account": account["_id"], "kind": "login", "device": device}
        seen = Event._get_collection().find(logins, {"address": 1}, sort=[("time", -1)], limit=LOGINS_LOOKED_AT)
        network = network_of(address)
        return not any(network_of(event.get("address") or "") == network for event in seen)

    def tell(self, account: Raw, template: str, **values: Value) -> None:
        """Store a letter to the verified address of an account, in its language."""
        if "email_key" in account:
            language = account.get("locale") or "en"
            self.letters.post(Letter(account["email"], template, language, values, account["_id"]))


def letter_values(identity: Raw) -> dict[str, Value]:
    """Return what a letter says of an identity."""
    return {"provider": identity["provider"], "address": identity.get("email") or "", "when": now()}
