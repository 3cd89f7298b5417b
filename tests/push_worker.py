"""Workers of notifications that die where they are told to: `python -m tests.push_worker`, as `tests.outbox_worker`."""

from typing import Any

import mongoengine

from service.mongo import connection
from service.outbox import items
from service.outbox.bulk_dispatch import BulkDispatcher
from service.push.apns import Apns
from service.push.channel import Channel, Exchange
from service.push.sender import PushSender
from service.worker import chores
from service.worker.lease import Alone
from tests.dispatching import hearing
from tests.outbox_worker import STOPPED, die, dying, fork_workers, stopping

POINTS = ("taken", "under way", "answered", "marked")
LEASE = 3.0
"""Seconds for which items are a worker's own."""
AT_ONCE = 5
"""Items that a worker takes."""


def arm(point: str) -> None:
    """Have this process die at a point."""
    if point == "taken":
        take = items.take_many_due

        def take_many_due(*args: Any) -> list[dict[str, Any]]:
            taken = take(*args)
            if taken:
                die()
            return taken

        items.take_many_due = take_many_due
    elif point == STOPPED:
        items.take_many_due = stopping(items.take_many_due)
    elif point == "under way":
        take_event = Exchange.take

        def take(self: Exchange, event: Any) -> None:
            take_event(self, event)
            if any(result is not None for result in self.results):
                die()

        Exchange.take = take  # type: ignore[method-assign]
    elif point == "answered":
        Channel.exchange = dying(Channel.exchange)  # type: ignore[method-assign]
    elif point == "marked":
        items.mark_many_sent = lambda sent, mark=items.mark_many_sent: (mark(sent), die())  # type: ignore[assignment,misc]


def push_due(config: dict[str, Any], point: str) -> None:
    """Send what is due until the end."""
    mongoengine.connect(**connection.options(config))
    arm(point)
    sender = PushSender(Apns(config))
    sender.seconds, sender.most = LEASE, AT_ONCE
    with hearing() as lookout:
        chore = chores.dispatching(BulkDispatcher(sender, lookout.of_kind("apns")))
        while True:
            chore.work(Alone())


if __name__ == "__main__":
    fork_workers(push_due)
