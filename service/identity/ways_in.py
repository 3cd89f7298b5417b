"""Ways in: by what an account can be entered, and how one of them is taken from it, but never the last."""

from collections.abc import Mapping
from typing import Any, Literal

from service.core.clock import now
from service.core.errors import LastWayIn, NotFound
from service.documents import Account
from service.documents.account import ALIVE
from service.mongo.raw import Raw

Held = Literal["identities", "passkeys"]
"""What an account may have several of, each a way in."""
CALLED: Mapping[Held, tuple[str, str]] = {
    "identities": ("identity", "link another identity"),
    "passkeys": ("passkey", "add another passkey"),
}
"""What one of them is called, and what somebody does to have another one."""
BY_PASSWORD: list[dict[str, Any]] = [
    {"password_hash": {"$exists": True}, name: {"$exists": True}} for name in ("username_key", "email_key")
]
"""The filters of accounts that can be entered by a password."""


def ways_beside(own: Held) -> list[dict[str, Any]]:
    """Return filters, one of which holds where an account can be entered with one of its `own` less."""
    lists: list[dict[str, Any]] = [{f"{held}.{int(held == own)}": {"$exists": True}} for held in CALLED]
    return [*lists, *BY_PASSWORD]


def has_way_beside_address(account: Mapping[str, Any]) -> bool:
    """Tell whether an account can be entered by something else than what is sent to its verified address."""
    has_password = "password_hash" in account and "username_key" in account
    return bool(account.get("identities") or account.get("passkeys")) or has_password


def take_way_in(account: str, own: Held, id: str) -> tuple[Raw, Raw]:
    """Take one of its `own` from an account; return the account as it was, and what was taken.

    Raises `NotFound` where it has none of that id, `LastWayIn` where nobody could enter the account any more.
    """
    has_it = {"_id": account, f"{own}.id": id, **ALIVE}
    change = Account.written({"$pull": {own: {"id": id}}, "$set": {"updated_at": now()}})
    before = Account._get_collection().find_one_and_update({**has_it, "$or": ways_beside(own)}, change)
    if before is not None:
        return before, next(one for one in before[own] if one["id"] == id)
    name, remedy = CALLED[own]
    if Account._get_collection().find_one(has_it, {"_id": 1}) is None:
        raise NotFound(f"there is no such {name}")
    raise LastWayIn(f"nobody could enter the account any more; set a password or {remedy} first")
