"""The worker of the outbox: takes what is due, has it sent, and tries again later what could not be."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from service.core import metrics
from service.core.clock import elapsed, now
from service.core.log import log
from service.documents import Right
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.arrivals import Listening

COUNTS_EVERY = 10.0
"""Seconds between two counts of what waits."""
WAIT = 1.0
"""Seconds that a step waits for an arrival: so late a worker notices that it has to end."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds for which nothing is sent where nobody takes anything, at first and after many times."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How long and how often something is tried, and the seconds until the second try and between two later ones.

    From one to the next they double.
    """

    first: float
    longest: float
    within: timedelta | None = None
    tries: int | None = None

    def are_over(self, item: Raw) -> bool:
        """Tell whether an item is not tried once more."""
        too_old = self.within is not None and item["created_at"] < now() - self.within
        return too_old or (self.tries is not None and item["attempts"] >= self.tries)


FOR_A_DAY = Retries(first=15.0, longest=1800.0, within=timedelta(days=1))
"""RFC 5321, section 4.5.4.1, asks for less haste and four days; what we send is of little use after one."""


SENT_WITHIN = 2 / 3
"""The part of the time for which an item is a worker's own in which it is sent; in the rest that is marked."""


@dataclass(frozen=True, slots=True)
class Turn:
    """For how long a sender may work at what it is handed.

    While the worker `goes_on`; and at `until`, of `elapsed`, nothing may be under way any more of what it does not keep
    for longer: soon another worker has it.
    """

    goes_on: Callable[[], bool]
    until: float


class Refused(Exception):
    """It is not taken, and will not be."""


class TriedAgain(Exception):
    """Something is tried again: after `wait` seconds, where who takes it has asked for so many."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Postponed(TriedAgain):
    """It is not taken now; others may be."""


class CannotSend(TriedAgain):
    """Nothing can be sent now: who takes it does not answer, or does not take anything from us."""


class GivenBack(Exception):
    """The worker ends: another one is to do it, and this was no try."""


class Lost(Exception):
    """Somebody else has it by now, or nobody: what came of it is not ours to say."""


class AnySender(Protocol):
    """Sends the items of one kind, from one thread."""

    @property
    def kind(self) -> str:
        """The kind of items that it sends."""
        ...

    @property
    def seconds(self) -> float:
        """For how many seconds what it is handed is its own, unless it keeps it for more."""
        ...

    def retries(self, item: Raw) -> Retries:
        """Return how often and how long an item is tried."""
        ...

    def rest(self) -> None:
        """Hear that there is nothing to send at this moment."""
        ...


class Sender(AnySender, Protocol):
    """Sends the items of one kind, one at a time."""

    def send(self, item: Raw, turn: Turn) -> None:
        """Send an item; when this returns it was acknowledged.

        Raises `Refused`, `Postponed`, `CannotSend`, `GivenBack` or `Lost`.
        """
        ...


class AnyDispatcher:
    """What dispatchers have in common: when they look, and what they keep of what was not sent."""

    def __init__(self, sender: AnySender, arrivals: Listening, counts: bool = True) -> None:
        """Take what sends, what wakes it, and whether it counts what waits; of several in a process one does."""
        self.sender, self.arrivals, self.counts = sender, arrivals, counts
        self.kind = sender.kind
        self.count_at = self.paused_until = 0.0
        self.is_due = True
        """Whether there may be something to send."""
        self.failures = 0
        self.sent: list[Raw] = []
        """What was acknowledged, and is not marked as that yet."""
        self.trouble: str | None = None
        """Why nothing can be sent now."""

    def step(self, right: Right) -> None:
        """Send what is due, or wait a second for it. Raises `PyMongoError`; then call it again."""
        self.mark()
        if self.counts and time.monotonic() >= self.count_at:
            self.count_at = time.monotonic() + COUNTS_EVERY
            self.count()
        is_paused = time.monotonic() < self.paused_until
        if is_paused or not self.is_due or not self.send_due(lambda: right.held):
            self.sender.rest()
            self.is_due = self.arrivals.wait(WAIT)

    def send_due(self, goes_on: Callable[[], bool]) -> bool:
        """Send what is due of what nobody else sends, while the worker `goes_on`; False where there is nothing."""
        raise NotImplementedError

    def mark(self) -> None:
        """Mark what was acknowledged, at once: what is not marked is sent again. Raises `PyMongoError`."""
        raise NotImplementedError

    def settle(self, item: Raw, error: Exception) -> None:
        """Keep why an item was not sent."""
        if isinstance(error, Refused):
            self.reached()
            self.give_up(item, str(error))
        elif isinstance(error, Postponed):
            self.reached()
            self.put_off(item, str(error), error.wait)
        elif isinstance(error, CannotSend):
            self.pause(str(error), error.wait)
            self.put_off(item, str(error), error.wait)
        elif isinstance(error, GivenBack):
            log.info("item_given_back", kind=self.kind, item=item["_id"], tries=item["tries"])
            items.give_back(item)
        elif isinstance(error, Lost):
            log.warning("item_lost", kind=self.kind, item=item["_id"], tries=item["tries"])
        else:
            # A bug, of a template for example: it must not keep all others from being sent.
            log.error("item_failed", kind=self.kind, item=item["_id"], exc_info=error)
            self.put_off(item, f"a mistake of ours: {type(error).__name__}")

    def obstacle(self, item: Raw) -> str | None:
        """Return why an item is not to be sent, if that is so."""
        if "cancelled" in item:
            return items.CANCELLED
        if "until" in item and item["until"] <= now():
            return "too late: it is of no more use"
        tries = self.sender.retries(item).tries
        if tries is not None and item["attempts"] > tries:
            return str(item.get("reason", "each worker that had it died"))
        return None

    def put_off(self, item: Raw, reason: str, wait: float | None = None) -> None:
        """Have an item tried again later, unless that was done for too long."""
        retries = self.sender.retries(item)
        if retries.are_over(item):
            self.give_up(item, reason)
            return
        metrics.PUT_OFF.labels(self.kind).inc()
        log.warning("item_put_off", kind=self.kind, item=item["_id"], tries=item["tries"], reason=reason)
        items.put_off(item, max(wait or 0.0, delay(item["attempts"], retries.first, retries.longest)), reason)

    def give_up(self, item: Raw, reason: str) -> None:
        """Keep an item as failed."""
        metrics.FAILED.labels(self.kind).inc()
        log.error("item_given_up", kind=self.kind, item=item["_id"], tries=item["tries"], reason=reason)
        items.give_up(item, reason)

    def pause(self, reason: str, wait: float | None = None) -> None:
        """Send nothing for a while, and not before as many seconds are over as somebody has asked for."""
        self.failures += 1
        self.trouble = reason
        self.paused_until = time.monotonic() + max(wait or 0.0, delay(self.failures, FIRST_PAUSE, LONGEST_PAUSE))

    def reached(self) -> None:
        """Note that somebody takes what we send, or at least answers."""
        self.failures, self.trouble = 0, None

    def count(self) -> None:
        """Set the gauges of what waits."""
        waiting, oldest = items.waiting(self.kind)
        metrics.OUTBOX.labels(self.kind).set(waiting)
        metrics.OLDEST.labels(self.kind).set(0.0 if oldest is None else max(0.0, (now() - oldest).total_seconds()))

    def forget(self) -> None:
        """Set the gauges of what waits to zero, where nobody sends these items any more."""
        metrics.OUTBOX.labels(self.kind).set(0)
        metrics.OLDEST.labels(self.kind).set(0.0)


class Dispatcher(AnyDispatcher):
    """Sends the items of one kind one at a time, beside the dispatchers of other workers."""

    def __init__(self, sender: Sender, arrivals: Listening, counts: bool = True) -> None:
        """Take the same, with what sends one at a time."""
        super().__init__(sender, arrivals, counts)
        self.one_sender = sender

    def send_due(self, goes_on: Callable[[], bool]) -> bool:
        """Send what is due of what nobody else sends, while the worker `goes_on`; False where there is nothing."""
        # From before MongoDB is asked: here it is no longer ours than there.
        until = elapsed() + SENT_WITHIN * self.sender.seconds
        item = items.take_due(self.kind, self.sender.seconds)
        if item is not None:
            self.deliver(item, Turn(goes_on, until))
        return item is not None

    def deliver(self, item: Raw, turn: Turn) -> None:
        """Send an item, and keep what has come of it."""
        if (obstacle := self.obstacle(item)) is not None:
            self.give_up(item, obstacle)
            return
        try:
            self.one_sender.send(item, turn)
        except Exception as error:
            self.settle(item, error)
        else:
            self.reached()
            self.sent = [item]
            self.mark()

    def mark(self) -> None:
        """Mark what was acknowledged, at once: what is not marked is sent again. Raises `PyMongoError`."""
        for item in self.sent:
            items.mark_sent(item)
            metrics.SENT.labels(self.kind).inc()
            log.info("item_sent", kind=self.kind, item=item["_id"], tries=item["tries"])
        self.sent = []


def delay(times: int, first: float, longest: float) -> float:
    """Return the seconds until something is tried again that has failed so many times.

    Half of them by chance, so that many that failed at once do not come back at once.
    """
    whole: float = min(first * 2 ** min(times - 1, 30), longest)
    return whole * random.uniform(0.5, 1.0)  # noqa: S311  nobody gains by foreseeing it
