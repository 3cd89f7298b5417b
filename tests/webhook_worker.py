"""Workers that record, feed and call webhooks, and are killed: `python -m tests.webhook_worker`, as `outbox_worker`."""

from typing import Any

import mongoengine

from service.documents import RECORDS
from service.model.registry import Registry
from service.mongo import connection
from service.outbox import items
from service.webhooks.sending import WebhookSender
from service.worker import chores
from service.worker.crew import Crew
from tests.outbox_worker import STOPPED, dying, fork_workers, stopping, telling

POINTS = ("fed", "taken", "called", "marked")
LEASE = 3.0
"""Seconds for which an item, and the chores, are a worker's own."""
DONE_HERE = {"arrivals", "recorder", "webhooks", "calls"}


def work(config: dict[str, Any], point: str) -> None:
    """Do all that webhooks need until the end, and die at a point."""
    mongoengine.connect(**connection.options(config))
    WebhookSender.seconds = LEASE
    items.take_due = telling(items.take_due)
    if point == "fed":
        items.add_once = dying(items.add_once)
    elif point == "taken":
        items.take_due = dying(items.take_due)
    elif point == STOPPED:
        items.take_due = stopping(items.take_due)
    elif point == "called":
        items.mark_sent = dying(items.mark_sent, before=True)
    elif point == "marked":
        items.mark_sent = dying(items.mark_sent)
    crew = Crew([chore for chore in chores.chores(config, Registry(RECORDS)) if chore.name in DONE_HERE], seconds=LEASE)
    crew.start()
    crew.threads[0].join()


if __name__ == "__main__":
    fork_workers(work)
