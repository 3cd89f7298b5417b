"""A lease in the hands of this process: whether it is still ours, by a clock of our own."""

import secrets
import threading
from collections.abc import Mapping
from typing import Any

from service.core.clock import elapsed
from service.documents import Lease, LeaseLost
from service.outbox.items import worker_name

SECONDS = 6.0
"""How long a lease is good: when its holder dies, another takes it within so long and one of the attempts below."""
RENEWALS = 3
"""How often it is renewed while it is good: all but one may fail."""
ATTEMPTS = 6
"""How often another tries to take it meanwhile."""


class Holding:
    """A lease on the work `name`, held or not.

    The time that it is good is counted from before MongoDB was asked, so it ends here no later than there.
    """

    def __init__(self, name: str, seconds: float = SECONDS) -> None:
        self.name = name
        self.seconds = seconds
        self.holder = f"{worker_name()}:{secrets.token_hex(8)}"
        self.epoch = 0
        """Of the last time that it was taken; 0 before the first."""
        self.until = 0.0
        self.lock = threading.Lock()

    @property
    def held(self) -> bool:
        """Whether no other process can have the lease now."""
        return elapsed() < self.until

    def take(self) -> bool:
        """Take the lease, if nobody holds it. Raises `PyMongoError` where MongoDB does not answer."""
        asked = elapsed()
        epoch = Lease.take(self.name, self.holder, self.seconds)
        with self.lock:
            if epoch is not None:
                self.epoch, self.until = epoch, asked + self.seconds
        return self.held

    def renew(self) -> None:
        """Make the lease last longer, if it is ours. Raises `PyMongoError` where MongoDB does not answer."""
        asked, epoch = elapsed(), self.epoch
        ours = Lease.extend(self.name, epoch, self.seconds)
        with self.lock:
            if epoch == self.epoch:
                self.until = asked + self.seconds if ours else 0.0

    def release(self) -> None:
        """Let another process have the lease at once. Raises `PyMongoError` where MongoDB does not answer."""
        with self.lock:
            self.until = 0.0
        Lease.give_back(self.name, self.epoch)

    def change(self, update: Mapping[str, Any]) -> dict[str, Any]:
        """Apply an update to the lease's document as its holder: see `Lease.change`. Raises `LeaseLost`."""
        if not self.held:
            raise LeaseLost(self.name)
        return Lease.change(self.name, self.epoch, update)


class Alone:
    """The right to do a piece of work where there is one process: with mongomock, whose data no other one sees."""

    held = True
    epoch = 0

    def change(self, update: Mapping[str, Any]) -> dict[str, Any]:
        """Raise `LeaseLost`: there is no lease whose document could be changed."""
        raise LeaseLost("there is one process, and no lease")


class Shared:
    """The right to do work that all processes do at once, what they share having leases of its own: until the end."""

    epoch = 0

    def __init__(self, ending: threading.Event) -> None:
        self.ending = ending

    @property
    def held(self) -> bool:
        """Whether this process goes on."""
        return not self.ending.is_set()

    def change(self, update: Mapping[str, Any]) -> dict[str, Any]:
        """Raise `LeaseLost`: there is no lease whose document could be changed."""
        raise LeaseLost("it is shared, and there is no lease")
