"""The log of what admins did in the console and with webhooks, written with what they did, in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.core.clock import now
from service.core.ids import new_id
from service.core.json_text import encode
from service.documents import AdminAction, DeletedContent
from service.documents.admin_action import KEPT_FOR
from service.mongo.raw import Raw
from service.policy import Identity

LONGEST_TOLD = 16_000
"""Most bytes of JSON that are kept of what was there before, or is there now."""
LOG_PAGE = 50

LoggedState = Mapping[str, Any]
"""What is told in JSON of a record, or of an account."""


@dataclass(frozen=True, slots=True)
class AdminLog:
    """Who acts, from where and by which request."""

    who: Identity
    address: str
    request_id: str

    def note(self, action: str, subject: str, target: str = "", owner: str = "", **told: LoggedState | None) -> None:
        """Store what was done to whom; `before` and `after` are what was there, and what is there now."""
        moment = now()
        entry: Raw = {
            "_id": new_id(),
            "account": self.who.account,
            "time": moment,
            "action": action,
            "subject": subject,
            "address": self.address,
            "request_id": self.request_id,
            "expires_at": moment + KEPT_FOR,
        }
        entry |= {name: value for name, value in (("target", target), ("owner", owner)) if value}
        entry |= {name: told_text(value) for name, value in told.items() if value is not None}
        AdminAction._get_collection().insert_one(entry)


def told_text(told: LoggedState) -> str:
    """Return as JSON what is told; of what is too long the names, each with its bytes."""
    text = encode(told)
    if len(text) > LONGEST_TOLD:
        sizes = sorted(((name, len(encode(value))) for name, value in told.items()), key=lambda one: -one[1])
        text = encode({name[:100]: f"{size} bytes" for name, size in sizes[:100]})
    return text.decode()


def changed_parts(before: LoggedState, after: LoggedState) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return of two states the members that differ."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {name: before.get(name) for name in names}, {name: after.get(name) for name in names}


def logged_actions(last: str, account: str = "", most: int = LOG_PAGE) -> list[Raw]:
    """Return a page of the log, the newest first: what comes after the id `last`, of one admin where one is named."""
    chosen: Raw = {"account": account} if account else {}
    if last:
        chosen["_id"] = {"$lt": last}
    return list(AdminAction._get_collection().find(chosen, sort=[("_id", -1)], limit=most))


def forget_owner(owner: str) -> None:
    """Take out of the log what it tells of the data of an account, and forget what was deleted of them.

    That something was done to them stays.
    """
    told = {"owner": owner}
    AdminAction._get_collection().update_many(told, {"$unset": {"before": "", "after": "", "owner": ""}})
    DeletedContent._get_collection().delete_many(told)
