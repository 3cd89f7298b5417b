"""What tests of dispatchers hold in their hands: one that waits for nobody, and the items as they are stored."""

import math

from service.documents import OutboxItem
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.arrivals import Looks
from service.outbox.dispatch import AnyDispatcher, Turn
from service.worker.lease import Alone

AS_LONG_AS_IT_TAKES = Turn(lambda: True, math.inf)


class Deaf(Looks):
    """Hears nothing, and does not wait."""

    def wait(self, seconds: float) -> bool:
        return False


def stored(id: str) -> Raw:
    found = OutboxItem._get_collection().find_one({"_id": id})
    assert found is not None
    return dict(found)


def due_now(id: str) -> None:
    OutboxItem._get_collection().update_one({"_id": id}, {"$set": {"due_at": items.DUE_AT_ONCE}})


def look(worker: AnyDispatcher, times: int = 1) -> None:
    """Have a worker look at what waits, so many times, and send what it takes each time."""
    for _ in range(times):
        worker.look_at = 0.0
        worker.step(Alone())
