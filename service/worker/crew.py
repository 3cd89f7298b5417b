"""The threads of a worker: one for each chore, and one that keeps their leases."""

import threading
import time
from collections.abc import Iterable

from pymongo.errors import PyMongoError

from service.core.errors import StorageUnavailable
from service.core.log import log
from service.documents import LeaseLost
from service.mongo import connection
from service.worker.chores import Chore
from service.worker.lease import ATTEMPTS, RENEWALS, SECONDS, Alone, Holding, Shared


class Crew:
    """Does chores until it is told to end. Each that is not shared is done by the process that holds its lease."""

    def __init__(self, chores: Iterable[Chore], alone: bool = False, seconds: float = SECONDS) -> None:
        """Take the chores, whether there is no other process that could do them, and how long a lease is good."""
        self.seconds = seconds
        self.ending = threading.Event()
        self.chores = list(chores)
        self.leases: list[Holding] = []
        self.threads: list[threading.Thread] = []
        for chore in self.chores:
            right = Shared(self.ending) if chore.shared else Alone() if alone else self.lease_for(chore)
            work = (chore, right)
            self.threads.append(threading.Thread(target=self.attend, args=work, name=chore.name, daemon=True))
        if self.leases:
            self.threads.append(threading.Thread(target=self.keep, name="leases", daemon=True))

    def lease_for(self, chore: Chore) -> Holding:
        """Return the lease of a chore, which is kept once it is taken."""
        self.leases.append(Holding(chore.name, self.seconds))
        return self.leases[-1]

    def start(self) -> None:
        """Begin."""
        for thread in self.threads:
            thread.start()

    def stop(self, patience: float) -> None:
        """End what is begun, within so many seconds, and give the leases back."""
        end = time.monotonic() + patience
        self.ending.set()
        for thread in self.threads:
            thread.join(max(0.0, end - time.monotonic()))

    @property
    def complete(self) -> bool:
        """Whether every thread lives."""
        return all(thread.is_alive() for thread in self.threads)

    def troubles(self) -> dict[str, str]:
        """Return why some chores cannot be done now, by their names."""
        return {chore.name: trouble for chore in self.chores if (trouble := chore.trouble()) is not None}

    def attend(self, chore: Chore, lease: Holding | Alone | Shared) -> None:
        """Do a chore again and again while its lease is ours, else try to take it."""
        while not self.ending.is_set():
            self.ending.wait(self.attempt(chore, lease))
        if isinstance(lease, Holding) and lease.held:
            self.release(lease)

    def attempt(self, chore: Chore, lease: Holding | Alone | Shared) -> float:
        """Do a chore once, if its lease is ours; return the seconds until the next time."""
        try:
            if not lease.held and not (isinstance(lease, Holding) and lease.take()):
                return self.seconds / ATTEMPTS
            chore.work(lease)
        except (PyMongoError, LeaseLost, StorageUnavailable) as error:
            log.warning("chore_failed", chore=chore.name, reason=type(error).__name__)
            return self.seconds / ATTEMPTS
        except Exception as error:
            # A bug; the other chores and the next time are not to suffer from it.
            log.error("chore_failed", chore=chore.name, exc_info=error)
        return chore.pause

    def keep(self) -> None:
        """Renew the leases that are ours, again and again."""
        while not self.ending.wait(self.seconds / RENEWALS):
            for lease in self.leases:
                if lease.held:
                    self.renew(lease)

    def renew(self, lease: Holding) -> None:
        """Renew a lease; one that MongoDB does not answer for runs out by itself."""
        try:
            lease.renew()
        except PyMongoError as error:
            log.warning("lease_not_renewed", lease=lease.name, reason=type(error).__name__)

    def release(self, lease: Holding) -> None:
        """Give a lease back; one that MongoDB does not answer for runs out by itself."""
        try:
            lease.release()
        except PyMongoError as error:
            log.warning("lease_not_released", lease=lease.name, reason=type(error).__name__)


def is_ready(crew: Crew) -> bool:
    """Tell whether a worker can do its chores now."""
    return crew.complete and connection.is_writable()
