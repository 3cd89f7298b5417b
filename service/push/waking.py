"""Waking: a silent notification for devices that follow the topic `changes`, when there is something new for them.

At the session it is noted when its device is due, so of many changes comes one notification: `APART` after the last one
at the earliest, and when no connection of the session is live any more.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from service.changes.compaction import MEMBERSHIP
from service.changes.passage import Passage
from service.core.clock import now
from service.documents import Account, LeaseLost, Right, Session
from service.documents.account import ALIVE
from service.model.registry import Registry
from service.mongo import transactions
from service.mongo.raw import Filter, Raw
from service.outbox import items
from service.policy import EVERYONE, heard_by, named_by
from service.push.fan_out import STEP_DEVICES, is_full
from service.push.notification import Notification
from service.push.registrations import REACHED, Registration
from service.push.sending import device_item, until_of

WAKING_TOPIC = "changes"
WAKING = "waking"
"""The name of the lease under which the order is followed."""
APART = timedelta(minutes=1)
"""Time between two notifications for one device."""
LIVE_FOR = timedelta(seconds=60)
"""How long a session counts as one with a live connection after it was told."""
NAMED_AT_ONCE = 1000
"""Accounts, or sessions, that one write names."""
FOLLOWS: Filter = {"push.topics": WAKING_TOPIC}
TO_BE_WOKEN: Filter = {**FOLLOWS, "wake_at": {"$exists": False}}
WAKE = Notification(data={"topic": WAKING_TOPIC}, collapse=WAKING_TOPIC, urgent=False)


def waking_types(registry: Registry) -> list[str]:
    """Return of what it is news that it has changed: all records, and of what an account is a member."""
    return [*registry, MEMBERSHIP]


def has_sleepers() -> bool:
    """Tell whether there is a device that news would have to be noted for."""
    return Session._get_collection().find_one(TO_BE_WOKEN, {"_id": 1}) is not None


def note_news(right: Right, passage: Passage) -> None:
    """Note which devices there is something new for; told again it does no harm. Raises `LeaseLost`, `PyMongoError`."""
    moment = now()
    # Of what is missing `$max` takes no notice.
    due_at = {"$max": [moment, {"$add": ["$woken_at", APART // timedelta(milliseconds=1)]}, "$live_until"]}
    for those in who_hears({mark for change in passage.changes for mark in change["marks"]}):
        if not right.held:
            raise LeaseLost(WAKING)
        Session._get_collection().update_many({**TO_BE_WOKEN, **those}, [{"$set": {"wake_at": due_at}}])


def who_hears(marks: Iterable[str]) -> Iterator[Filter]:
    """Yield filters of the sessions whose accounts hear of what has some marks."""
    principals = {heard_by(mark) for mark in marks}
    if EVERYONE in principals:
        yield {}
        return
    accounts = accounts_of(principals)
    while some := list(islice(accounts, NAMED_AT_ONCE)):
        yield {"account": {"$in": some}}


def accounts_of(principals: set[str]) -> Iterator[str]:
    """Yield the accounts that some principals stand for."""
    accounts, roles, groups = named_by(principals)
    yield from accounts
    members = [{"roles": {"$in": roles}}] if roles else []
    members += [{"groups.group": {"$in": groups}}] if groups else []
    if members:
        for found in Account._get_collection().find({"$or": members, **ALIVE}, {"_id": 1}):
            yield found["_id"]


def note_live(sessions: Iterable[str]) -> None:
    """Note that sessions have a live connection: what was to wake their devices waits for its end."""
    live_until = now() + LIVE_FOR
    later: Any = {"$cond": [{"$gt": ["$wake_at", None]}, {"$max": ["$wake_at", live_until]}, "$$REMOVE"]}
    left = iter(sessions)
    while some := list(islice(left, NAMED_AT_ONCE)):
        change = [{"$set": {"live_until": live_until, "wake_at": later}}]
        Session._get_collection().update_many({"_id": {"$in": some}, **FOLLOWS}, change)


def wake_due(right: Right) -> None:
    """Send to the devices that are due, as long as the outbox has room for it. Raises `PyMongoError`."""
    while right.held and not is_full() and transactions.run(wake_some):
        continue


def wake_some() -> bool:
    """Send to some of the devices that are due, once: a part of a transaction; False where there are none."""
    moment = now()
    due = {"wake_at": {"$lte": moment}}
    wanted = {**REACHED, "expires_at": 1}
    found = list(Session._get_collection().find(due, wanted, sort=[("wake_at", 1)], limit=STEP_DEVICES))
    if not found:
        return False
    woken = {"$set": {"woken_at": moment}, "$unset": {"wake_at": ""}}
    Session._get_collection().update_many({**due, "_id": {"$in": [row["_id"] for row in found]}}, woken)
    put_wakes([Registration.of(row) for row in found if follows(row) and row["expires_at"] > moment])
    return True


def follows(session: Raw) -> bool:
    """Tell whether a session is reached, and follows the topic still."""
    return WAKING_TOPIC in session.get("push", {}).get("topics", ())


def put_wakes(devices: Sequence[Registration]) -> None:
    """Store what wakes some devices."""
    until, message = until_of(WAKE), WAKE.stored()
    items.add_many([device_item(device, message, until, brief=True) for device in devices])
