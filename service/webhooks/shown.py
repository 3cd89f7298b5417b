"""Webhooks and their deliveries as those see them who may: as JSON, and what describes it."""

from service.documents.outbox_item import STATES
from service.documents.webhook import OFF_REASONS
from service.model.json_schema import Json
from service.model.values import time_text
from service.mongo.raw import Raw
from service.webhooks.keeping import WebhookPlan

TEXT_SHAPE: Json = {"type": "string"}
TIME_SHAPE: Json = {"type": "string", "format": "date-time"}


def or_null(shape: Json, text: str) -> Json:
    """Return the JSON Schema of something that may be missing, with what it is."""
    return {"anyOf": [shape, {"type": "null"}], "description": text}


WEBHOOK_MEMBERS: Json = {
    "id": TEXT_SHAPE,
    "url": {"type": "string", "description": "what is called"},
    "types": or_null({"type": "array", "items": TEXT_SHAPE}, "record types; null is all that there are and will be"),
    "where": or_null(
        {"type": "object", "additionalProperties": True}, "conditions that a record has to fulfil, as in a list"
    ),
    "active": {"type": "boolean", "description": "whether it is called"},
    "off_reason": or_null(
        {"type": "string", "x-extensible-enum": [*OFF_REASONS]},
        "why the service has switched it off: its server is gone, or has taken no call for a week",
    ),
    "off_at": or_null(TIME_SHAPE, "when the service has switched it off"),
    "failing_since": or_null(TIME_SHAPE, "since when no call has been taken"),
    "rests_until": or_null(TIME_SHAPE, "until when its server has asked not to be called"),
    "old_secret_until": or_null(TIME_SHAPE, "until when the secret before signs too"),
    "owner": or_null(TEXT_SHAPE, "the account that is told by mail"),
    "created_at": TIME_SHAPE,
    "updated_at": TIME_SHAPE,
}
DELIVERY_MEMBERS: Json = {
    "id": TEXT_SHAPE,
    "type": or_null(TEXT_SHAPE, "the type of the record; null for a ping"),
    "record": or_null(TEXT_SHAPE, "the id of the record; null for a ping"),
    "state": {"title": "WebhookDeliveryState", "type": "string", "enum": [*STATES]},
    "tries": {"type": "integer", "minimum": 0},
    "reason": or_null(TEXT_SHAPE, "what came of the last try, where that was not taken"),
    "created_at": TIME_SHAPE,
    "due_at": or_null(TIME_SHAPE, "of what waits: when it is tried next; null is at once"),
    "sent_at": or_null(TIME_SHAPE, "when it was taken"),
}


def described(title: str, text: str, members: Json) -> Json:
    """Return the JSON Schema of an object that has all of some members."""
    return {
        "title": title,
        "type": "object",
        "description": text,
        "properties": members,
        "required": list(members),
        "additionalProperties": False,
    }


WEBHOOK_SHAPE = described("Webhook", "A server that is told of changes.", WEBHOOK_MEMBERS)
MADE_WEBHOOK_SHAPE = described(
    "MadeWebhook",
    "A webhook with its new secret, which is told this once.",
    {**WEBHOOK_MEMBERS, "secret": {"type": "string", "description": "by which its server verifies signatures"}},
)
DELIVERY_SHAPE = described("WebhookDelivery", "A call that is, or was, to be made.", DELIVERY_MEMBERS)


def dump_webhook(row: Raw) -> Json:
    """Return a stored webhook as JSON has it, without its secrets."""
    plan = WebhookPlan.of(row)
    return {
        "id": row["_id"],
        "url": plan.url,
        "types": plan.types,
        "where": plan.where,
        "active": row["active"],
        "off_reason": row.get("off_reason"),
        "owner": row.get("owner"),
        **{name: told_time(row, name) for name in ("off_at", "failing_since", "rests_until", "old_secret_until")},
        **{name: told_time(row, name) for name in ("created_at", "updated_at")},
    }


def dump_delivery(item: Raw) -> Json:
    """Return an item of the outbox that is for a webhook as JSON has it."""
    content, waits = item["content"], item["state"] == "waiting" and item["tries"] > 0
    return {
        "id": item["_id"],
        "type": content.get("type"),
        "record": content.get("record"),
        "state": item["state"],
        "tries": item["tries"],
        "reason": item.get("reason"),
        "created_at": told_time(item, "created_at"),
        "due_at": told_time(item, "due_at") if waits else None,
        "sent_at": told_time(item, "sent_at"),
    }


def told_time(row: Raw, name: str) -> str | None:
    """Return a stored time as JSON has it, None where there is none."""
    return time_text(row[name]) if name in row else None
