"""Fan-out: of a notification for many accounts one item for each of their devices, in steps that are done once."""

from collections.abc import Sequence
from datetime import timedelta

from service.documents import OutboxItem
from service.mongo import transactions
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.dispatch import GivenBack, Lost, Postponed, Retries, Turn
from service.push import registrations
from service.push.registrations import PLATFORMS, Registration
from service.push.sending import BROADCAST, device_item

STEP_DEVICES, STEP_ACCOUNTS = 500, 20
"""Of how many the items are stored in one transaction."""
MOST_UNSENT = 20_000
"""Items of devices that wait; beyond these a fan-out waits too, so the outbox does not grow with the audience."""
WAIT_SECONDS = 2.0
FAN_OUT_RETRIES = Retries(first=1.0, longest=5.0, within=timedelta(days=28))


class FanOut:
    """Makes items for devices of the items that are for many accounts."""

    kind = BROADCAST
    seconds = 30.0

    def retries(self, item: Raw) -> Retries:
        """Return how often and how long an item is tried."""
        return FAN_OUT_RETRIES

    def rest(self) -> None:
        """Do nothing."""

    def send(self, item: Raw, turn: Turn) -> None:
        """Store an item for each device. Raises `Postponed`, `GivenBack` or `Lost`."""
        while True:
            if not turn.goes_on():
                raise GivenBack(item["_id"])
            if is_full():
                raise Postponed(f"over {MOST_UNSENT:,} notifications wait already", WAIT_SECONDS)
            after = transactions.run_where_there_are(lambda: self.step(item))
            if after is None:
                return
            item["content"]["after"] = after

    def step(self, item: Raw) -> str | int | None:
        """Store the items of the next devices; return behind what the ones after them are, None where there are none.

        What is stored and how far it is are one transaction: a step is done once, whoever dies.
        """
        devices, after = next_devices(item["content"])
        items.add_many([device_item(device, item["message"], item["until"]) for device in devices])
        if items.extend(item, self.seconds, {"content.after": after}) is None:
            raise Lost(item["_id"])
        return after


def next_devices(content: Raw) -> tuple[Sequence[Registration], str | int | None]:
    """Return the next devices of a fan-out, and behind what those after them are."""
    topics, accounts = content["topics"], content["accounts"]
    if accounts:
        begin = content.get("after") or 0
        end = begin + STEP_ACCOUNTS
        found = [device for one in accounts[begin:end] for device in registrations.account_devices(one, topics)]
        return found, end if end < len(accounts) else None
    found = registrations.of_topics(topics, content.get("after") or "", STEP_DEVICES)
    return found, found[-1].session if len(found) == STEP_DEVICES else None


def is_full() -> bool:
    """Tell whether as much waits for the platforms as may."""
    waiting = {"state": "waiting", "kind": {"$in": list(PLATFORMS)}}
    return int(OutboxItem._get_collection().count_documents(waiting, limit=MOST_UNSENT)) >= MOST_UNSENT
