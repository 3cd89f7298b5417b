"""Sending: notifications become items of the outbox, one for each device, in the transaction of the write."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from service.core.clock import now
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.items import NewItem
from service.push import registrations
from service.push.notification import DAY, Notification, Text, check_topic
from service.push.registrations import Registration

BROADCAST = "broadcast"
"""The kind of items that are for many accounts, and become one for each device."""
LEAST_LIFE = timedelta(minutes=1)
"""How long one that comes at once or never may take to leave here."""


def send(
    account: str,
    *,
    title: Text | None = None,
    body: Text | None = None,
    data: Mapping[str, Any] | None = None,
    topic: str | None = None,
    collapse: str | None = None,
    seconds: int = DAY,
    urgent: bool = True,
    badge: int | None = None,
    sound: str | None = None,
) -> int:
    """Send a notification to the devices of an account; return to how many. Part of the transaction of this thread.

    With a `topic` it goes to those that follow it. A text may be one for each language, `{"en": …, "ko": …}`: each
    device gets its own. With neither title nor body nobody sees it, and it wakes the app. See `Notification` for the
    rest. Raises `ValueError` for what cannot be sent.
    """
    told = Notification(title, body, data or {}, collapse, seconds, urgent, badge, sound)
    topics = [] if topic is None else [check_topic(topic)]
    devices = registrations.account_devices(account, topics)
    put_items(devices, told)
    return len(devices)


def put_items(devices: Iterable[Registration], notification: Notification) -> None:
    """Store one item for each of some devices."""
    until, message = until_of(notification), notification.stored()
    items.add_many([device_item(device, message, until) for device in devices])


def device_item(
    device: Registration, message: Raw, until: datetime, dedupe_key: str | None = None, brief: bool = False
) -> NewItem:
    """Return what is stored of a notification for a device: what is said goes when it is sent."""
    content = {"session": device.session}
    return NewItem(device.platform, content, device.account, dedupe_key, until, message=message, brief=brief)


def until_of(notification: Notification) -> datetime:
    """Return until when a notification is tried that is sent now."""
    return now() + max(LEAST_LIFE, timedelta(seconds=notification.seconds))


def broadcast(accounts: Sequence[str], topics: Sequence[str], notification: Notification, by: str) -> str:
    """Have a notification sent to the devices of accounts, that follow one of some topics where any are named.

    Without accounts to those of anybody that follow one of the topics. Returns the id of the item that a worker makes
    of it one for each device. Raises `ValueError`.
    """
    if not accounts and not topics:
        raise ValueError("accounts, topics, or both")
    until = until_of(notification)
    content: Raw = {"accounts": list(accounts), "topics": [check_topic(topic) for topic in topics], "by": by}
    item = NewItem(BROADCAST, content, until=until, message=notification.stored())
    id = item.id()
    items.add_item(item, id, None)
    return id
