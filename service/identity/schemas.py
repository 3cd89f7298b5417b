"""Accounts, sessions and events as clients see them."""

from typing import Any

from service.documents import Account, Event, Session
from service.documents.account import PUBLIC_FIELDS
from service.model.schema import Schema

ACCOUNT = Schema(Account)
SESSION = Schema(Session)
EVENT = Schema(Event)


def public_account(_config: Any = None) -> dict[str, Any]:
    """Return the JSON Schema of the public part of an account."""
    account = ACCOUNT.json_schema("read")
    properties = {name: account["properties"][name] for name in PUBLIC_FIELDS}
    return {**account, "title": "PublicAccount", "properties": properties, "required": list(PUBLIC_FIELDS)}
