"""Messages: what a webhook is sent of a record, as it is now."""

from dataclasses import dataclass
from datetime import datetime

import orjson

from service.changes.pull import as_json
from service.core.errors import BadQuery, Unreadable
from service.model.json_schema import Json
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.model.values import time_text
from service.mongo.raw import Raw
from service.query.matching import record_matcher
from service.webhooks.keeping import WebhookPlan

MOST_MESSAGE_BYTES = 20_000
"""Most bytes of a message (Standard Webhooks, "Payload size"); a record that makes more is named, not sent."""
PING = "webhook.ping"


@dataclass(frozen=True, slots=True)
class WebhookMessage:
    """A message: its id, which each try of it has, and its body."""

    id: str
    body: bytes


class NothingToSay(Exception):
    """There is no such type any more, or its condition is none of it."""


def message_of(registry: Registry, webhook: Raw, item: Raw) -> WebhookMessage:
    """Return what a webhook is sent for an item of the outbox. Raises `NothingToSay`.

    Looked up when it is sent, so what is tried again never overtakes what is newer.
    """
    content, moment = item["content"], item["created_at"]
    if "type" not in content:
        return WebhookMessage(f"msg_{item['_id']}", message_json(PING, moment, {}))
    type = registry.get(content["type"])
    if type is None:
        raise NothingToSay(f"there are no {content['type']} any more")
    state, data = told_now(type, webhook, content["record"], content["owner"])
    # In a message of its own for each state: one that was taken and one that was not must not have one id.
    return WebhookMessage(f"msg_{item['_id']}_{state}", message_json(event_of(type), moment, data))


def told_now(type: RecordType, webhook: Raw, id: str, owner: str | None) -> tuple[str, Json]:
    """Return the state of a record as it is now, and what is told of it; of one that is gone whose it was is given.

    Raises `NothingToSay`.
    """
    row = type.collection.find_one({"_id": id, "access": {"$exists": True}}, type.unread)
    if row is None:
        return "gone", {**as_json(type, id, None, "deleted"), "owner": owner}
    if not fits(type, webhook, row):
        return f"{row['revision']}_unmatched", {**as_json(type, id, None, "unmatched"), "owner": row["owner"]}
    return str(row["revision"]), told_of_record(type, id, row)


def fits(type: RecordType, webhook: Raw, row: Raw) -> bool:
    """Tell whether a record fulfils the conditions of a webhook. Raises `NothingToSay`."""
    where = WebhookPlan.of(webhook).where
    try:
        return where is None or record_matcher(type, where)(row)
    except BadQuery as error:
        raise NothingToSay(f"its conditions are none of {type.name}: {error.detail}") from None


def told_of_record(type: RecordType, id: str, row: Raw) -> Json:
    """Return what is told of a record; of one that is too large, or that cannot be told in JSON, its name."""
    named = {"type": type.name, "id": id, "revision": row["revision"], "owner": row["owner"]}
    try:
        whole = {**as_json(type, id, row, ""), "owner": row["owner"]}
    except Unreadable:
        return named
    return whole if len(message_json(event_of(type), row["updated_at"], whole)) <= MOST_MESSAGE_BYTES else named


def event_of(type: RecordType) -> str:
    """Return the name of the event of a change of records of a type."""
    return f"{type.name}.changed"


def message_json(event: str, moment: datetime, data: Json) -> bytes:
    """Return the body of a message about what came at a moment, in UTC."""
    return orjson.dumps({"type": event, "timestamp": time_text(moment), "data": data})
