"""People as records point to them: the accounts that live, and what everybody signed in may know of one."""

from collections.abc import Iterable
from typing import Any

from service.documents.account import ALIVE, Account, public
from service.mongo import driver


def living(ids: Iterable[str]) -> set[str]:
    """Return those of the ids that are accounts, and not being deleted."""
    found = driver.find(Account._get_collection(), {"_id": {"$in": list(ids)}, **ALIVE}, {"_id": 1})
    return {account["_id"] for account in found}


def by_id(ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what everybody may know of those accounts among the ids that live, by id: one query."""
    wanted = list(ids)
    found = driver.find(Account._get_collection(), {"_id": {"$in": wanted}, **ALIVE}) if wanted else ()
    return {account["_id"]: public(account) for account in found}
