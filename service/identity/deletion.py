"""What goes with an account that is deleted, and what it may take with it: its export."""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from service.core.clock import now
from service.documents import Account, AwaitedReference, Correction, Event, KeptAnswer, PushReceipt, Session
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.policy import NOT_BURIED, given_to, owned_by, withdrawal
from service.records import store
from service.records.deletion import bury_for_release, id_batches, release, release_account

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
    mark = {"$set": {"deleted_at": now()}, "$unset": dict.fromkeys(PERSONAL_FIELDS, "")}
    Account._get_collection().update_one({"_id": account}, mark)
    purge(registry, account)


PERSONAL_FIELDS = ("username_key", "username", "password_hash", "email", "display_name", "roles", "last_login_at")


def purge(registry: Registry, account: str) -> None:
    """Remove the sessions, kept answers, events, records and grants of an account, and what sync keeps for it."""
    Session._get_collection().delete_many({"account": account})
    KeptAnswer._get_collection().delete_many({"account": account})
    # Those of others stay, without what is this account's: a retry must not do again what was done.
    KeptAnswer._get_collection().update_many({"others": account}, {"$unset": {"body": "", "others": ""}})
    Event._get_collection().delete_many({"account": account})
    Correction._get_collection().delete_many({"account": account})
    PushReceipt._get_collection().delete_many({"account": account})
    AwaitedReference._get_collection().delete_many({"account": account})
    release_account(registry, account, timedelta())
    for type in registry.values():
        for ids in id_batches(type, {"access": owned_by(account)}):
            remove(registry, type, ids)
        given = {"access": given_to(account)}
        for ids in id_batches(type, given):
            store.change_many(type, ids, {**given, **OF_LISTS}, withdrawal(account))
            # Where other software has stored no list, MongoDB would refuse to take something out of it.
            store.change_many(type, ids, given, {"$pull": {"access": given["access"]}})


OF_LISTS = {"$nor": [{name: {"$exists": True, "$not": {"$type": "array"}}} for name in ("readers", "writers")]}
"""The filter of records whose readers and writers are lists, or not stored."""


def remove(registry: Registry, type: RecordType, ids: list[str]) -> None:
    """Remove records; of those that others may refer to a tombstone stays, until a worker has released them."""
    if not registry.bound(type):
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
    """Yield each record type with the stored records that an account owns."""
    for type in registry.values():
        own = {"owner": account["_id"], "access": owned_by(account["_id"])}
        yield type, iter(type.collection.find(own, type.unread, batch_size=100))
