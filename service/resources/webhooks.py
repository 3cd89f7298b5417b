"""Webhooks: those who run the service see, make, change and remove them, and what is sent to them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, Literal

import orjson
from flask import Flask
from pydantic import Field

from service.context import current_globals, current_service, g
from service.core.errors import Forbidden, NotSupported
from service.core.json_text import encode
from service.core.log import log
from service.http.arguments import Arguments, has_body, take
from service.http.beforehand import beforehand
from service.http.openapi import operation
from service.http.web import Answer, json_answer
from service.identity.admin_log import AdminLog, changed_parts
from service.identity.schemas import listed
from service.mongo import connection, transactions
from service.mongo.raw import Raw
from service.policy import ADMIN
from service.resources.resource import Resource
from service.webhooks import deliveries, keeping
from service.webhooks.deliveries import MOST_DELIVERIES
from service.webhooks.keeping import WebhookPlan, Webhooks, host_of, id_in
from service.webhooks.shown import (
    DELIVERY_SHAPE,
    MADE_WEBHOOK_SHAPE,
    WEBHOOK_SHAPE,
    dump_delivery,
    dump_webhook,
)

EXTENSION = "madang.webhooks"
ADMINS_ALONE = ("forbidden", "not_supported")
OLD_SECRET_HOURS = 24
MOST_OLD_SECRET_HOURS = 168
EXAMPLE_URL = "https://example.com/hook"

CalledUrl = Annotated[str, Field(min_length=1, description="what is called", examples=[EXAMPLE_URL])]
ToldTypes = Annotated[
    list[str], Field(min_length=1, description="record types; where it is left out, all", examples=[["notes"]])
]
ToldWhere = Annotated[
    dict[str, Any],
    Field(description="conditions that a record has to fulfil, as in a list", examples=[{"pinned": True}]),
]


class NewWebhook(Arguments):
    """The body of a new webhook."""

    url: CalledUrl
    types: ToldTypes | None = None
    where: ToldWhere | None = None


class WebhookPatch(Arguments):
    """The body of a change: what is left out stays."""

    url: CalledUrl = EXAMPLE_URL
    types: ToldTypes | None = None
    where: ToldWhere | None = None
    active: bool = Field(default=True, description="whether it is called", examples=[True])


class NewSecret(Arguments):
    """The body of another secret."""

    keep_hours: int = Field(
        default=OLD_SECRET_HOURS,
        ge=0,
        le=MOST_OLD_SECRET_HOURS,
        description="how long the one that it has signs too",
        examples=[OLD_SECRET_HOURS],
    )


class DeliveryParameters(Arguments):
    """The query parameters of a list of deliveries."""

    state: Literal["waiting", "sent", "failed"] | None = Field(
        default=None, description="those alone", examples=["sent"]
    )
    limit: int = Field(default=100, ge=1, le=MOST_DELIVERIES, description="the newest", examples=[100])


def init_app(app: Flask) -> None:
    """Prepare webhooks. Raises `ValueError` for a wrong setting."""
    keys = app.extensions["madang.security"].keys.each("webhooks")
    app.extensions[EXTENSION] = Webhooks(app.config, app.extensions["madang.registry"], keys)


def current_webhooks() -> Webhooks:
    """Return the webhooks of the app."""
    found: Webhooks = current_service().extensions[EXTENSION]
    return found


def admitted_admin() -> str:
    """Return the account of the request, if it has the role for this. Raises `Forbidden` and `NotSupported`."""
    who = current_globals().identity
    if ADMIN not in who.roles:
        raise Forbidden(f"only who has the role {ADMIN} may do this")
    if connection.is_memory(current_service().config["MONGODB_URI"]):
        raise NotSupported("webhooks need a real MongoDB")
    return str(who)


def acted(action: str, work: Callable[[], Raw], look: Callable[[], Raw] | None = None) -> Raw:
    """Do something with a webhook, or one of its deliveries, and note it in the log of admins: both or neither.

    To `look` first at what it was has the log tell of what became another.
    """
    admin_log = AdminLog(current_globals().identity, g.address, g.request_id)

    def work_and_note() -> Raw:
        before = None if look is None else look()
        row = work()
        if "kind" in row:
            admin_log.note(action, "webhooks", id_in(row["kind"]), after={"delivery": row["_id"]})
        elif before is None:
            admin_log.note(action, "webhooks", row["_id"], after=logged_form(row))
        else:
            parts = changed_parts(logged_form(before), logged_form(row))
            admin_log.note(action, "webhooks", row["_id"], before=parts[0], after=parts[1])
        return row

    return transactions.run_where_there_are(work_and_note)


def logged_form(row: Raw) -> dict[str, Any]:
    """Return what the log tells of a webhook: of its URL the host, for what stands behind it is often a secret."""
    shown = dump_webhook(row)
    return {**{name: shown[name] for name in ("types", "where", "active")}, "host": host_of(row["url"])}


def made_known(row: Raw, status: int) -> Answer:
    """Return the answer that tells a webhook with its newest secret; what is kept for a retry has no secret."""
    shown = dump_webhook(row)
    answer = json_answer({**shown, "secret": current_webhooks().secrets(row)[0]}, status)
    answer.kept_body = encode(shown)
    return answer


def known_again(kept: Answer) -> Answer:
    """Return the kept answer with the secret that the webhook has now. Raises `NotFound`."""
    if kept.status_code >= 400:
        return kept
    return made_known(keeping.find_webhook(orjson.loads(kept.get_data())["id"]), kept.status_code)


class WebhookList(Resource):
    """All webhooks."""

    @operation(
        "List webhooks",
        name="listWebhooks",
        answer={200: listed("WebhookList", WEBHOOK_SHAPE)},
        problems=ADMINS_ALONE,
    )
    def get(self) -> dict[str, Any]:
        """Return all, the oldest first, without their secrets."""
        admitted_admin()
        return {"items": [dump_webhook(row) for row in keeping.listed_webhooks()]}

    @operation(
        "Make a webhook",
        name="createWebhook",
        body=NewWebhook,
        answer={201: MADE_WEBHOOK_SHAPE},
        headers={201: ["Location"]},
        problems=[*ADMINS_ALONE, "limit_reached"],
        beforehand=lambda: checked_new(),
        replayed=lambda kept: known_again(kept),
    )
    def post(self) -> Answer:
        """Have a server told of changes from now on. Its secret is told this once."""
        plan = beforehand(checked_new)
        account = admitted_admin()
        row = acted("created", lambda: current_webhooks().make(plan, account))
        log.info("webhook_made", webhook=row["_id"], host=host_of(plan.url), account=account)
        answer = made_known(row, 201)
        answer.headers["Location"] = f"/v1/admin/webhooks/{row['_id']}"
        return answer


def checked_new() -> WebhookPlan:
    """Return what is asked for, its URL looked at. Raises `ValidationFailed`, `Forbidden` and `NotSupported`."""
    sent = take(NewWebhook)
    admitted_admin()
    current_webhooks().check_url(sent.url)
    return WebhookPlan(sent.url, sent.types, sent.where)


def changed_members() -> dict[str, Any]:
    """Return what of a webhook is to be another, a new URL looked at. Raises as `checked_new` does."""
    sent = take(WebhookPatch)
    admitted_admin()
    asked = {name: getattr(sent, name) for name in sent.model_fields_set}
    if "url" in asked:
        current_webhooks().check_url(asked["url"])
    return asked


class WebhookItem(Resource):
    """One webhook."""

    @operation(
        "Get a webhook",
        name="getWebhook",
        answer={200: WEBHOOK_SHAPE},
        problems=[*ADMINS_ALONE, "not_found"],
    )
    def get(self, id: str) -> dict[str, Any]:
        """Return it without its secrets."""
        admitted_admin()
        return dump_webhook(keeping.find_webhook(id))

    @operation(
        "Change a webhook, or switch it on or off",
        name="changeWebhook",
        body=WebhookPatch,
        answer={200: WEBHOOK_SHAPE},
        problems=[*ADMINS_ALONE, "not_found"],
        beforehand=lambda: changed_members(),
    )
    def patch(self, id: str) -> dict[str, Any]:
        """Change what is named. What changes while it is off is not told to it."""
        asked = beforehand(changed_members)
        account = admitted_admin()
        row = acted("changed", lambda: current_webhooks().change(id, asked), lambda: keeping.find_webhook(id))
        log.info("webhook_changed", webhook=id, host=host_of(row["url"]), active=row["active"], account=account)
        return dump_webhook(row)

    @operation(
        "Remove a webhook",
        name="deleteWebhook",
        answer={204: None},
        problems=[*ADMINS_ALONE, "not_found"],
    )
    def delete(self, id: str) -> tuple[None, int]:
        """Remove it, with all that was, or was to be, sent to it."""
        account = admitted_admin()
        acted("deleted", lambda: keeping.remove_webhook(id))
        log.info("webhook_removed", webhook=id, account=account)
        return None, 204


class WebhookSecret(Resource):
    """The secret of a webhook."""

    @operation(
        "Give a webhook another secret",
        name="rotateWebhookSecret",
        body=NewSecret,
        optional_body=True,
        answer={200: MADE_WEBHOOK_SHAPE},
        problems=[*ADMINS_ALONE, "not_found"],
        replayed=lambda kept: known_again(kept),
    )
    def post(self, id: str) -> Answer:
        """Sign by a new secret, and for a while by that before too, so that its server can change over."""
        sent = take(NewSecret) if has_body() else NewSecret()
        account = admitted_admin()
        keep = timedelta(hours=sent.keep_hours)
        row = acted("secret_rotated", lambda: current_webhooks().rotate(id, keep))
        log.info("webhook_secret_rotated", webhook=id, account=account)
        return made_known(row, 200)


class WebhookPing(Resource):
    """A test of a webhook."""

    @operation(
        "Call a webhook to test it",
        name="pingWebhook",
        answer={202: DELIVERY_SHAPE},
        problems=[*ADMINS_ALONE, "not_found"],
    )
    def post(self, id: str) -> tuple[dict[str, Any], int]:
        """Send a message of the type `webhook.ping`; what comes of it stands among the deliveries."""
        admitted_admin()
        return dump_delivery(acted("pinged", lambda: deliveries.ping(id))), 202


class DeliveryList(Resource):
    """What is sent to a webhook."""

    @operation(
        "List the deliveries of a webhook",
        name="listWebhookDeliveries",
        parameters=DeliveryParameters,
        answer={200: listed("WebhookDeliveryList", DELIVERY_SHAPE)},
        problems=[*ADMINS_ALONE, "not_found"],
    )
    def get(self, id: str) -> dict[str, Any]:
        """Return the newest first. What was taken is kept for 7 days, what failed for 30."""
        admitted_admin()
        asked = take(DeliveryParameters, "query")
        return {"items": [dump_delivery(item) for item in deliveries.list_deliveries(id, asked.state, asked.limit)]}


class DeliveryRepeat(Resource):
    """A delivery, once more."""

    @operation(
        "Repeat a delivery",
        name="repeatWebhookDelivery",
        answer={202: DELIVERY_SHAPE},
        problems=[*ADMINS_ALONE, "not_found"],
    )
    def post(self, id: str, delivery: str) -> tuple[dict[str, Any], int]:
        """Have the same record told once more, as it is then; the answer is the new delivery."""
        admitted_admin()
        return dump_delivery(acted("repeated", lambda: deliveries.repeat(id, delivery))), 202
