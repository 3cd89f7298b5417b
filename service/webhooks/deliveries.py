"""Deliveries: the items of the outbox that are for a webhook, to be seen and repeated."""

from collections.abc import Sequence

from service.core.errors import NotFound
from service.documents import OutboxItem
from service.documents.outbox_item import STATES
from service.mongo.raw import Raw
from service.outbox import items
from service.webhooks.feeding import put_delivery, put_ping
from service.webhooks.keeping import find_webhook, webhook_kind

MOST_DELIVERIES = 200
"""Most that are listed at once, the newest."""


def list_deliveries(webhook: str, state: str | None, limit: int) -> list[Raw]:
    """Return what is, or was, to be sent to a webhook, the newest first. Raises `NotFound`."""
    find_webhook(webhook)
    states: Sequence[str] = STATES if state is None else (state,)
    return items.list_of(states, webhook_kind(webhook), limit)


def repeat(webhook: str, delivery: str) -> Raw:
    """Have a webhook called once more about what a delivery was about, and return the new one. Raises `NotFound`."""
    found = delivery_of(webhook, delivery)["content"]
    made = (
        put_delivery(webhook, found["type"], found["record"], found["owner"]) if "type" in found else put_ping(webhook)
    )
    return delivery_of(webhook, made)


def ping(webhook: str) -> Raw:
    """Have a webhook called about nothing, and return the delivery. Raises `NotFound`."""
    find_webhook(webhook)
    return delivery_of(webhook, put_ping(webhook))


def delivery_of(webhook: str, delivery: str) -> Raw:
    """Return a delivery of a webhook. Raises `NotFound`."""
    found: Raw | None = OutboxItem._get_collection().find_one({"_id": delivery, "kind": webhook_kind(webhook)})
    if found is None:
        raise NotFound("there is no such delivery, or not any more")
    return found
