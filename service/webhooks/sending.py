"""The sender of one webhook: takes its items from the outbox, and calls it for each."""

import time
from datetime import timedelta

from service.core import metrics
from service.core.clock import now
from service.core.errors import NotFound
from service.core.log import log
from service.mongo.raw import Raw
from service.outbox.calling import MOST_WAIT_ASKED, WHOLE_CALL_SECONDS, Called, OutwardCaller
from service.outbox.dispatch import SENT_WITHIN, CannotSend, Postponed, Refused, Retries, Turn
from service.outbox.letters import Letters
from service.outbox.sealing import Unsealable
from service.webhooks.keeping import (
    Webhooks,
    find_webhook,
    note_failure,
    note_rest,
    note_taken,
    seconds_of_rest,
    switch_off,
    webhook_kind,
)
from service.webhooks.messages import NothingToSay, WebhookMessage, message_of
from service.webhooks.signing import signed_headers

RETRIES = Retries(first=5.0, longest=MOST_WAIT_ASKED, within=timedelta(days=3))
"""About 22 tries in three days; between two of them half of the time is by chance."""
FAILS_FOR = timedelta(days=7)
"""How long no call may be taken until a webhook is switched off."""
BUSY = frozenset({429, 502, 503, 504})
"""Statuses that are about the server, not about what it was sent: nothing else is sent to it for a while."""
GONE_STATUS = 410
TAKEN_SECONDS = (WHOLE_CALL_SECONDS + 5.0) / SENT_WITHIN


class WebhookSender:
    """Calls one webhook."""

    seconds = TAKEN_SECONDS

    def __init__(self, webhooks: Webhooks, letters: Letters, caller: OutwardCaller, webhook: str) -> None:
        """Take what it works with, and the id of the webhook."""
        self.webhook, self.webhooks, self.letters, self.caller = webhook, webhooks, letters, caller
        self.kind = webhook_kind(webhook)

    def retries(self, item: Raw) -> Retries:
        """Return how often and how long a message is tried."""
        return RETRIES

    def rest(self) -> None:
        """Do nothing: nothing is kept between two calls."""

    def send(self, item: Raw, turn: Turn) -> None:
        """Call the webhook about an item. Raises `Refused`, `Postponed` or `CannotSend`."""
        try:
            webhook = find_webhook(self.webhook)
            if not webhook["active"]:
                raise CannotSend("it is switched off")
            if rest := seconds_of_rest(webhook):
                raise CannotSend("its server has asked for time", rest)
            message, secrets = message_of(self.webhooks.registry, webhook, item), self.webhooks.secrets(webhook)
        except (NotFound, NothingToSay) as error:
            raise Refused(str(error)) from None
        except Unsealable:
            raise Postponed("its secrets were encrypted with a secret that this service does not have") from None
        self.judge(webhook, self.called(webhook, message, secrets, turn.until))

    def called(self, webhook: Raw, message: WebhookMessage, secrets: list[str], until: float) -> Called:
        """Send a message, until a time at most, and return what came of it."""
        began = time.monotonic()
        headers = signed_headers(message.id, now(), message.body, secrets)
        called = self.caller.call(webhook["url"], message.body, headers, until)
        seconds = time.monotonic() - began
        metrics.WEBHOOK_CALLS.labels(outcome_of(called)).inc()
        metrics.WEBHOOK_SECONDS.observe(seconds)
        log.info("webhook_called", webhook=self.webhook, message=message.id, outcome=called.reason, ms=seconds * 1000)
        return called

    def judge(self, webhook: Raw, called: Called) -> None:
        """Note what came of a call; raise `Refused`, `Postponed` or `CannotSend` where it was not taken."""
        if called.is_taken:
            note_taken(webhook)
            return
        if called.status == GONE_STATUS:
            switch_off(webhook, "gone", self.letters)
            raise Refused(called.reason)
        if note_failure(webhook) <= now() - FAILS_FOR:
            switch_off(webhook, "failing", self.letters)
        if called.status is None or called.status in BUSY:
            if called.retry_after is not None:
                note_rest(webhook, called.retry_after)
            raise CannotSend(called.reason, called.retry_after)
        raise Postponed(called.reason, called.retry_after)


def outcome_of(called: Called) -> str:
    """Return by what a call is counted: the hundreds of its status, or `none`."""
    return "none" if called.status is None else f"{called.status // 100}xx"
