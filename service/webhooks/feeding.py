"""The feed of webhooks: from the order of changes to items of the outbox, one for each webhook and record.

An item names a record. What waits for a record says all that there is to say of it, so of many changes while a receiver
is slow there is one call; and a change that comes while one is under way has an item of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.changes.passage import records_now, was_written_before
from service.core.errors import BadQuery
from service.core.log import log
from service.documents import Webhook, WebhookMatch
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.items import NewItem
from service.policy import owner_in
from service.query.matching import Verdict, record_matcher
from service.webhooks.keeping import WebhookPlan, webhook_kind


@dataclass(frozen=True, slots=True)
class Listener:
    """A webhook that is told of some types: by their names what tells of a record whether it fits, None for any."""

    id: str
    fits: Mapping[str, Verdict | None]

    @classmethod
    def of(cls, registry: Registry, webhook: Raw) -> "Listener":
        """Return what a stored webhook hears of; of a type that its conditions are none of it hears nothing."""
        plan = WebhookPlan.of(webhook)
        found: dict[str, Verdict | None] = {}
        for name in registry if plan.types is None else plan.types:
            if name not in registry:
                continue
            try:
                found[name] = None if plan.where is None else record_matcher(registry[name], plan.where)
            except BadQuery as error:
                log.warning("webhook_where", webhook=webhook["_id"], type=name, reason=error.detail)
        return cls(webhook["_id"], found)


def has_listeners() -> bool:
    """Tell whether there is a webhook to be told of changes now."""
    return Webhook._get_collection().find_one({"active": True}, {"_id": 1}) is not None


def listeners(registry: Registry) -> list[Listener]:
    """Return all that are to be told of changes now."""
    return [Listener.of(registry, row) for row in Webhook._get_collection().find({"active": True}, sort=[("_id", 1)])]


def feed(registry: Registry, changes: Sequence[Raw], since: datetime) -> None:
    """Have all webhooks told of changes that came into the order; done twice it is as done once.

    Who listens is looked up after the changes were read: who made a webhook before a write is told of it. Nobody is
    told of what was written last before `since`, in UTC: after a restore the order is made anew, of all that there is.
    """
    told = listeners(registry)
    newest = {(change["type"], change["record"]): change for change in changes}
    rows = records_now(registry, newest)
    for (type, id), change in newest.items():
        row = rows.get((type, id))
        if row is not None and was_written_before(row, since):
            continue
        # Of one that is gone whose it was, as far as the order knows.
        owner = owner_in(change["marks"]) if row is None else row["owner"]
        for listener in told:
            if type in listener.fits:
                tell(listener, type, id, row, owner)


def tell(listener: Listener, type: str, id: str, row: Raw | None, owner: str | None) -> None:
    """Have a webhook told of a change of a record.

    One with conditions hears of what fulfils them, and once of what did when it heard of it last.
    """
    fits = listener.fits[type]
    if fits is None:
        put_delivery(listener.id, type, id, owner)
        return
    match = {"_id": f"{listener.id}/{type}/{id}"}
    if row is not None and fits(row):
        WebhookMatch._get_collection().update_one(match, {"$setOnInsert": {"webhook": listener.id}}, upsert=True)
        put_delivery(listener.id, type, id, owner)
    elif WebhookMatch._get_collection().find_one(match) is not None:
        # First the item: who dies between the two says it once more.
        put_delivery(listener.id, type, id, owner)
        WebhookMatch._get_collection().delete_one(match)


def put_delivery(webhook: str, type: str, id: str, owner: str | None) -> str:
    """Have a webhook told of a record, and return the id of the item."""
    content: dict[str, Any] = {"type": type, "record": id, "owner": owner}
    place = f"{webhook_kind(webhook)}\n{type}\n{id}"
    return items.add_once(NewItem(webhook_kind(webhook), content, alone=place), place)


def put_ping(webhook: str) -> str:
    """Have a webhook called about nothing, and return the id of the item."""
    return items.add_once(NewItem(webhook_kind(webhook), {"ping": True}), f"{webhook_kind(webhook)}\nping")
