"""Declared notifications: what `meta["push"]` of a record type says of each change, to the devices of some accounts."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from pymongo.errors import PyMongoError

from service.changes.passage import Passage, records_now, was_written_before
from service.core import metrics
from service.core.clock import now
from service.core.log import log
from service.documents import Account, LeaseLost, Right
from service.documents.account import ALIVE
from service.model.hooks import typed_record
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.outbox import items
from service.policy import HELD, Identity, scope
from service.push import registrations
from service.push.notification import Notification, check_topic
from service.push.sending import device_item, until_of

FOLLOWER = "push"
"""The name of the lease under which the order is followed."""
MOST_NAMED = 100
"""Most accounts that one change is told to."""
STALE = timedelta(days=1)
"""What was written longer ago is no news, also where the order is made anew and tells of it again."""


class DeclaredPushes:
    """Sends what record types declare, of the changes that a follower hears of."""

    def __init__(self, registry: Registry) -> None:
        self.types = {name: type for name, type in registry.items() if "push" in type.document._meta}

    def tell(self, right: Right, passage: Passage) -> None:
        """Send what is to be said of some changes; of one that is told again nothing is said twice.

        Raises `PyMongoError`, and `LeaseLost` where another one goes on.
        """
        there = [change for change in passage.changes if not change.get("gone")]
        rows = records_now(self.types, [(change["type"], change["record"]) for change in there])
        since = now() - STALE
        for (name, _), record in rows.items():
            if not right.held:
                raise LeaseLost(FOLLOWER)
            if not was_written_before(record, since):
                self.tell_one(self.types[name], record)

    def tell_one(self, type: RecordType, record: Raw) -> None:
        """Send what is to be said of a record as it is now. What the team's code does wrong stops no other one."""
        try:
            said = type.document._meta["push"](typed_record(type.document, record))
            if said is None:
                return
            to, topic, told = understood(said)
        except PyMongoError:
            raise
        except Exception as error:
            metrics.PUSH_MISTAKES.labels(type.name).inc()
            log.error("push_declaration_failed", type=type.name, record=record["_id"], exc_info=error)
            return
        # Once for each revision and device, whoever dies in between.
        said_of = f"{type.name}\n{record['_id']}\n{record['revision']}"
        for account in to:
            if may_read(account, type, record["_id"]):
                self.put(said_of, registrations.account_devices(account, topic), told)

    def put(self, said_of: str, devices: Iterable[registrations.Registration], told: Notification) -> None:
        """Store an item for each of some devices, unless it is there already."""
        until = until_of(told)
        for device in devices:
            item = device_item(device, told.stored(), until, f"{said_of}\n{device.session}")
            items.add_item(item, item.id(), None)


def understood(said: Mapping[str, Any]) -> tuple[list[str], list[str], Notification]:
    """Return whom something is said to, the topics that they follow, and what. Raises `ValueError` or `TypeError`."""
    given = dict(said)
    to, topic = given.pop("to"), given.pop("topic", None)
    if isinstance(to, str) or not all(isinstance(account, str) for account in to):
        raise TypeError("`to` has to be a list of ids of accounts")
    named = list(dict.fromkeys(to))
    if len(named) > MOST_NAMED:
        raise ValueError(f"at most {MOST_NAMED} accounts")
    return named, [] if topic is None else [check_topic(topic)], Notification(**given)


def may_read(account: str, type: RecordType, id: str) -> bool:
    """Tell whether an account may read a record: to nobody else anything is said of it."""
    found = Account._get_collection().find_one({"_id": account, **ALIVE}, HELD)
    if found is None:
        return False
    filter = {"_id": id, **scope(Identity.of(found), "read", type)}
    return type.collection.find_one(filter, {"_id": 1}) is not None
