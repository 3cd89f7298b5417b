"""The worker of a kind of items that are sent many at once: what each of them has come to is kept apart."""

from collections.abc import Callable, Sequence
from typing import Protocol

from service.core import metrics
from service.core.clock import elapsed
from service.core.log import log
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.arrivals import Listening
from service.outbox.dispatch import SENT_WITHIN, AnyDispatcher, AnySender, CannotSend

SendOutcome = Exception | None
"""Why an item was not sent: what `Sender.send` raises; None where it was."""


class BulkSender(AnySender, Protocol):
    """Sends the items of one kind, many at once, from one thread."""

    @property
    def most(self) -> int:
        """How many it is handed at once; `seconds` are for all of them."""
        ...

    def send_many(self, taken: Sequence[Raw], until: float) -> list[SendOutcome]:
        """Send items; return what has come of each, and raise nothing of that.

        At `until`, of `elapsed`, nothing may be under way any more: soon another worker has them.
        """
        ...


class BulkDispatcher(AnyDispatcher):
    """Sends the items of one kind, many at once, beside the dispatchers of other workers."""

    def __init__(self, sender: BulkSender, arrivals: Listening) -> None:
        super().__init__(sender, arrivals)
        self.bulk_sender = sender

    def send_due(self, goes_on: Callable[[], bool]) -> bool:
        """Send what is due of what nobody else sends, while the worker `goes_on`; False where there is nothing."""
        # From before MongoDB is asked: here they are no longer ours than there.
        until = elapsed() + SENT_WITHIN * self.sender.seconds
        taken = items.take_many_due(self.kind, self.sender.seconds, self.bulk_sender.most)
        if not taken:
            return False
        self.deliver_many(taken, until)
        return True

    def deliver_many(self, taken: Sequence[Raw], until: float) -> None:
        """Send items, until a time at most, and keep what has come of each."""
        sound = []
        for item in taken:
            if (obstacle := self.obstacle(item)) is not None:
                self.give_up(item, obstacle)
            else:
                sound.append(item)
        outcomes = self.bulk_sender.send_many(sound, until)
        self.sent = [item for item, outcome in zip(sound, outcomes, strict=True) if outcome is None]
        if self.sent:
            self.reached()
        self.mark()
        unsent = [(item, outcome) for item, outcome in zip(sound, outcomes, strict=True) if outcome is not None]
        self.give_back([item for item, outcome in unsent if isinstance(outcome, CannotSend)])
        for item, outcome in unsent:
            if not isinstance(outcome, CannotSend):
                self.settle(item, outcome)
        # Last: what others of the same moment have come to does not say that there is no trouble.
        if troubles := [outcome for _, outcome in unsent if isinstance(outcome, CannotSend)]:
            self.pause(str(troubles[0]), max(trouble.wait or 0.0 for trouble in troubles))

    def give_back(self, unsent: Sequence[Raw]) -> None:
        """Let items wait as if they had not been tried: it was not because of them."""
        items.give_many_back(unsent)
        if unsent:
            metrics.PUT_OFF.labels(self.kind).inc(len(unsent))
            log.warning("items_given_back", kind=self.kind, items=len(unsent))

    def mark(self) -> None:
        """Mark what was acknowledged, at once: what is not marked is sent again. Raises `PyMongoError`."""
        if self.sent:
            items.mark_many_sent(self.sent)
            metrics.SENT.labels(self.kind).inc(len(self.sent))
            log.info("items_sent", kind=self.kind, items=len(self.sent))
            self.sent = []
