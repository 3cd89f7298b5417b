"""One run of a job: what the job is handed, and how it is told to end."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from service.core.clock import elapsed
from service.core.own_thread import Interrupted, OwnThread
from service.documents import LeaseLost
from service.mongo import transactions
from service.mongo.raw import Raw
from service.outbox import items

Result = TypeVar("Result")
Cut = Literal["over time", "cancelled", "worker ends", "lost"]
"""Why a run is told to end."""

KEPT_FOR = 20.0
"""Seconds for which a run is this worker's own; it is renewed while the job is at work."""
MOST_NOTE = 200
"""Most characters of what a job says of its progress."""


class Run:
    """One run of a job.

    `id` is the same at each try, so it makes a good idempotency key for what the job asks of others. `tries` counts
    them from 1. `due_at` is for when it was asked for, in UTC: of a job with a schedule, the time that that names.
    """

    def __init__(self, item: Raw) -> None:
        """Take an item that was just taken; it is held when it was renewed."""
        self.item = item
        self.id: str = item["_id"]
        self.tries: int = item["tries"]
        self.due_at = item["content"].get("due_at", item["created_at"])
        self.until = 0.0
        """Until when nobody else takes it, by a clock of our own."""
        self.finished = False
        """Whether `once` has said that it is done."""
        self.cut: Cut | None = None
        self.thread: OwnThread | None = None

    @property
    def held(self) -> bool:
        """Whether the job may go on. Look before each step that must not be done twice."""
        return self.cut is None and elapsed() < self.until

    def check(self) -> None:
        """Raise `Interrupted` where the job has to end."""
        if not self.held:
            raise Interrupted(self.cut or "lost")

    def progress(self, part: float, note: str = "") -> None:
        """Say how far the job is, from 0 to 1, and at what, for `flask jobs list`. Raises `Interrupted` as `check`."""
        self.check()
        if not self.renew({"progress": {"part": min(1.0, max(0.0, part)), "note": note[:MOST_NOTE]}}):
            raise Interrupted("lost")

    def once(self, work: Callable[[], Result]) -> Result:
        """Do `work`, the last thing that the job does, in one transaction with the mark that the job is done.

        So what it writes to this MongoDB is written once, however often the job is tried. It may be called more than
        once where the transaction conflicts; on mongomock there is none. Raises `Interrupted` as `check`.
        """
        self.check()

        def work_and_mark() -> Result:
            result = work()
            if not items.finish_ours(self.item):
                raise LeaseLost(self.id)
            return result

        try:
            result = transactions.run_where_there_are(work_and_mark)
        except LeaseLost:
            raise Interrupted("lost") from None
        self.finished = True
        return result

    # --- For who has the job done ------------------------------------------------------------------------------------

    def renew(self, change: Mapping[str, Any] | None = None) -> bool:
        """Keep the run, and change its item; False where it is another's. Raises `PyMongoError`."""
        asked = elapsed()
        found = items.extend(self.item, KEPT_FOR, change)
        if found is None:
            return False
        self.until = asked + KEPT_FOR
        if "cancelled" in found and self.cut is None:
            self.cut = "cancelled"
        return True

    def begin(self, work: Callable[[], Any]) -> None:
        """Have the work done on a thread of its own, which alone is hit by `interrupt`."""
        self.thread = OwnThread(f"job {self.id}", work)

    @property
    def error(self) -> BaseException | None:
        """What the work has raised."""
        return None if self.thread is None else self.thread.error

    def has_ended(self, seconds: float) -> bool:
        """Wait for the end of the work, so long at most; tell whether it has ended."""
        assert self.thread is not None  # noqa: S101  it was begun
        return self.thread.has_ended(seconds)

    def interrupt(self, cut: Cut) -> None:
        """Tell the work to end: `Interrupted` is raised in it, as soon as it is at work in Python."""
        self.cut = cut
        assert self.thread is not None  # noqa: S101  it was begun
        self.thread.interrupt()
