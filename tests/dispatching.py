"""What tests of dispatchers hold in their hands: one that waits for nobody, and the items as they are stored."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from service.documents import OutboxItem
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.arrivals import ARRIVALS_EVERY, Listening, Lookout
from service.outbox.dispatch import AnyDispatcher, Dispatcher, Turn
from service.worker.chores import Chore
from service.worker.crew import Crew
from service.worker.lease import Alone

AS_LONG_AS_IT_TAKES = Turn(lambda: True, math.inf)


class Deaf(Listening):
    """Hears nothing, and does not wait."""

    def __init__(self) -> None:
        super().__init__(lambda _kind: False)

    def wait(self, seconds: float) -> bool:
        return False


@contextmanager
def hearing() -> Iterator[Lookout]:
    """Hear of arrivals as a worker does, on a thread of its own."""
    lookout = Lookout()
    crew = Crew([Chore("arrivals", ARRIVALS_EVERY, lookout.look, shared=True)])
    crew.start()
    yield lookout
    crew.stop(30)


def next_item(worker: AnyDispatcher) -> Raw | None:
    """Take what a worker would take next, whether or not it waits."""
    return items.take_due(worker.kind, worker.sender.seconds)


def deliver_all(worker: Dispatcher) -> None:
    """Send all that is due, whether or not the worker waits."""
    while (item := next_item(worker)) is not None:
        worker.deliver(item, AS_LONG_AS_IT_TAKES)


def stored(id: str) -> Raw:
    found = OutboxItem._get_collection().find_one({"_id": id})
    assert found is not None
    return dict(found)


def due_now(id: str) -> None:
    OutboxItem._get_collection().update_one({"_id": id}, {"$set": {"due_at": items.DUE_AT_ONCE}})


def look(worker: AnyDispatcher, times: int = 1) -> None:
    """Have a worker look at what waits, so many times, and send what it takes each time."""
    for _ in range(times):
        worker.is_due = True
        worker.step(Alone())
