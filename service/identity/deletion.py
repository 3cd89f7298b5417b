"""What goes with an account that is deleted, and what it may take with it: its export."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from service.core.clock import now
from service.documents import (
    Account,
    AwaitedReference,
    Challenge,
    Correction,
    Event,
    Invitation,
    KeptAnswer,
    OneTimeCode,
    OutboxItem,
    PushReceipt,
    Session,
    Webhook,
)
from service.identity.admin_log import forget_owner
from service.identity.memberships import leave_all
from service.identity.provider_tokens import revoke_later
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo import transactions
from service.mongo.raw import Filter, Raw
from service.policy import NOT_BURIED, owned_by
from service.records import storage, store
from service.records.deletion import bury_for_release, id_batches, release, release_account, withdraw_all

LAST_WRITES = timedelta(seconds=15)
"""How long after its deletion an account is swept once more, or longer where operations may take longer."""


def last_writes(timeout: float) -> timedelta:
    """Return when every request that an account had begun has ended, where an operation may take `timeout` seconds."""
    return max(LAST_WRITES, timedelta(seconds=3 * timeout))


def delete_account(registry: Registry, account: str) -> None:
    """Delete an account with all that it owns and every grant that it was given.

    From the first step on nobody can act for it. What is cut short after that is ended by `sweep`, and so is what a
    request of the account stored while it was deleted.
    """
    transactions.run_where_there_are(lambda: mark_deleted({"_id": account}))
    purge(registry, account)


def mark_deleted(condition: Mapping[str, Any]) -> bool:
    """Mark the one account that fulfils a condition as deleted; False where there is none.

    In the transaction of this thread it has what providers gave revoked.
    """
    mark = {"$set": {"deleted_at": now()}, "$unset": dict.fromkeys(PERSONAL_FIELDS, "")}
    before = Account._get_collection().find_one_and_update(condition, mark, {"identities": 1})
    for identity in (before or {}).get("identities", ()):
        revoke_later(identity)
    return before is not None


PERSONAL_FIELDS = (
    *("username_key", "username", "password_hash", "email", "email_key", "email_verified", "email_bounced"),
    *("display_name", "locale", "time_zone", "roles", "last_login_at", "admin_acts", "identities"),
    *("second_factor", "passkeys"),
    *("guest_seen_at", "merged_into", "merged_at", "merged_session"),
)


def purge(registry: Registry, account: str) -> None:
    """Remove all that an account has: from its sessions to its records, its grants, and what is kept for sync."""
    Session._get_collection().delete_many({"account": account})
    KeptAnswer._get_collection().delete_many({"account": account})
    # Those of others stay, without what is this account's: a retry must not do again what was done.
    KeptAnswer._get_collection().update_many({"others": account}, {"$unset": {"body": "", "others": "", "noted": ""}})
    Event._get_collection().delete_many({"account": account})
    OneTimeCode._get_collection().delete_many({"account": account})
    Challenge._get_collection().delete_many({"account": account})
    Correction._get_collection().delete_many({"account": account})
    PushReceipt._get_collection().delete_many({"account": account})
    AwaitedReference._get_collection().delete_many({"account": account})
    OutboxItem._get_collection().delete_many({"account": account})
    forget_owner(account)
    # It is of the service, and goes on; others are told of it from now on.
    Webhook._get_collection().update_many({"owner": account}, {"$unset": {"owner": ""}})
    leave_all(registry, account)
    # What it made in a group that it had not left yet has to be there by now.
    Invitation._get_collection().delete_many({"inviter": account})
    Invitation._get_collection().update_many({"taken_by": account}, {"$pull": {"taken_by": account}})
    release_account(registry, account, timedelta())
    for type in registry.values():
        for ids in id_batches(type, {"access": owned_by(account)}):
            remove(registry, type, ids)
    # Uploads that are under way.
    while transactions.run_where_there_are(lambda: storage.orphan({"account": account})):
        pass
    withdraw_all(registry, account)


def remove(registry: Registry, type: RecordType, ids: list[str]) -> None:
    """Remove records; of those that others may refer to a tombstone stays, until a worker has released them."""
    if not registry.is_released(type):
        store.erase(type, ids)
        return
    for id in ids:
        bury_for_release(registry, type, {"_id": id, **NOT_BURIED}, timedelta())
    release(registry, type, ids, timedelta())


def sweep(registry: Registry, after: timedelta = LAST_WRITES, going_on: Callable[[], bool] = lambda: True) -> int:
    """End the deletions that were begun and are old enough, while `going_on`; return how many accounts are gone."""
    due = list(Account._get_collection().find({"deleted_at": {"$lte": now() - after}}, {"_id": 1}))
    gone = 0
    for account in due:
        if not going_on():
            break
        purge(registry, account["_id"])
        gone += Account._get_collection().delete_one({"_id": account["_id"]}).deleted_count
    return gone


def exported(registry: Registry, account: Raw) -> Iterable[tuple[RecordType, Iterator[Raw]]]:
    """Yield each record type with the stored records that an account owns, and the groups that it is a member of."""
    groups = [held["group"] for held in account.get("groups", ())]
    for type in registry.values():
        own: Filter = {"owner": account["_id"], "access": owned_by(account["_id"])}
        if type.is_group:
            own = {"_id": {"$in": groups}, **NOT_BURIED}
        yield type, iter(type.collection.find(own, type.unread, batch_size=100))
