"""The webhooks in the console: whom the service calls, what about, and how that goes."""

from typing import Any

from service.http.openapi import operation
from service.http.web import Answer
from service.pages.account import ABOUT
from service.pages.console_visit import Visitor, for_admins
from service.webhooks.keeping import listed_webhooks, webhook_kind


@operation("Look at the webhooks", **ABOUT)
@for_admins
def webhooks_page(visitor: Visitor) -> Answer:
    """Show each webhook without its secrets, with a link to its calls, which the outbox has."""
    visitor.log.note("listed", "webhooks")
    return visitor.shown("console/webhooks.html", rows=listed_webhooks(), kind_of=webhook_kind)


WEBHOOK_ROUTES: list[tuple[str, str, Any]] = [("GET", "/admin/webhooks", webhooks_page)]
