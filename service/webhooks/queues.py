"""The queues of webhooks: a thread for each in this process, so that a receiver that hangs delays itself alone."""

import threading
import time
from collections.abc import Callable

from pymongo.errors import PyMongoError

from service.core.log import log
from service.documents import OutboxItem, Right, Webhook
from service.outbox.arrivals import Listening, Lookout
from service.outbox.dispatch import Dispatcher, Sender
from service.webhooks.keeping import KIND_PREFIX, id_in, remove_traces

LOOKED_AFTER = 1.0
"""Seconds after which webhooks are looked for that were made, switched off or removed."""
CLEARED_EVERY = 60.0
"""Seconds between two looks for items whose webhook was removed while they were stored."""
GOES_ON_AFTER = 1.0
"""Seconds after which a queue goes on where MongoDB did not answer."""


class Queue:
    """One webhook's own thread, for as long as the worker has its right and the webhook is on."""

    def __init__(self, sender: Sender, right: Right) -> None:
        self.arrivals, self.right = Listening(sender.kind.__eq__), right
        self.dispatcher = Dispatcher(sender, self.arrivals)
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run, name=sender.kind, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Call the webhook for what is due, again and again."""
        while self.right.held and not self.is_over.is_set():
            try:
                self.dispatcher.step(self.right)
            except Exception as error:
                # MongoDB did not answer, or it is a bug: the next time is not to suffer from it.
                reason = {"reason": type(error).__name__} if isinstance(error, PyMongoError) else {"exc_info": error}
                log.error("webhook_queue_failed", kind=self.dispatcher.kind, **reason)
                self.is_over.wait(GOES_ON_AFTER)
        if self.is_over.is_set():
            # Counted no more: what it showed last would stay. The worker ends, it may be: then others count on.
            self.dispatcher.forget()


class Queues:
    """Keeps a queue for each webhook that is on."""

    def __init__(self, sender_of: Callable[[str], Sender], lookout: Lookout) -> None:
        """Take what makes the sender of a webhook, and what hears of arrivals."""
        self.sender_of = sender_of
        self.arrivals = lookout.of_kinds(lambda kind: kind.startswith(KIND_PREFIX))
        self.queues: dict[str, Queue] = {}
        self.clear_at = 0.0

    def work(self, right: Right) -> None:
        """Keep the queues until the right to that ends, and then wait for the calls that are under way.

        Raises `PyMongoError`; then the queues go on, and it is called again.
        """
        while right.held:
            self.step(right)
        for queue in self.queues.values():
            queue.thread.join()
        self.queues.clear()

    def step(self, right: Right) -> None:
        """Begin and end queues as there are webhooks, and wake those for which something has arrived."""
        on = {row["_id"] for row in Webhook._get_collection().find({"active": True}, {"_id": 1})}
        for id in self.queues.keys() - on:
            # What is under way ends by itself.
            self.queues.pop(id).is_over.set()
        for id in on - self.queues.keys():
            self.queues[id] = Queue(self.sender_of(id), right)
        if time.monotonic() >= self.clear_at:
            self.clear_at = time.monotonic() + CLEARED_EVERY
            clear()
        for kind in self.arrivals.heard(LOOKED_AFTER):
            for queue in self.queues.values():
                queue.arrivals.tell(kind)


def clear() -> None:
    """Remove what waits for webhooks that were removed meanwhile."""
    waiting = {"state": "waiting", "kind": {"$regex": f"^{KIND_PREFIX}"}}
    # First the items: a webhook of one that is found here was there before it.
    kinds = OutboxItem._get_collection().distinct("kind", waiting)
    for kind in kinds:
        if Webhook._get_collection().find_one({"_id": id_in(kind)}, {"_id": 1}) is None:
            remove_traces(id_in(kind))
