"""Jobs out of the items of the outbox: done under a lease that is kept, within their time."""

import os
import time
from collections.abc import Callable, Mapping

from pymongo.errors import PyMongoError

from service.core import metrics
from service.core.clock import elapsed
from service.core.log import log
from service.core.own_thread import Interrupted
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.dispatch import GivenBack, Lost, Postponed, Refused, Retries, Turn
from service.outbox.jobs import JOB, Job
from service.outbox.run import KEPT_FOR, Cut, Run

FIRST_DELAY, LONGEST_DELAY = 15.0, 3600.0
"""Seconds until the second try, and between two later ones."""
UNKNOWN_TRIES = 100
"""How often a worker looks whether it knows a job: about four days, for one that a newer version has stored."""
LOOKED_AT_EVERY = 0.5
"""Seconds between two looks at a job that is at work."""
RENEWED_EVERY = 2.0
"""Seconds between two renewals of its lease; so late a job hears that it is cancelled."""
ENDS_WITHIN = 8.0
"""Seconds that a job has for its end when it is told to; after them its process ends."""
MOST_REASON = 500
"""Most characters that are kept of why a try failed."""


class JobSender:
    """Does the items that are jobs, each on a thread of its own."""

    kind = JOB
    seconds = KEPT_FOR

    def __init__(self, jobs: Mapping[str, Job], end_process: Callable[[], None] = lambda: os._exit(70)) -> None:
        """Take the jobs by name, and what ends this process where a job does not end that has to."""
        self.jobs, self.end_process = jobs, end_process

    def retries(self, item: Raw) -> Retries:
        """Return how often a job is tried. One that nobody knows here waits for the version that does."""
        job = self.jobs.get(item["content"]["name"])
        if job is None:
            return Retries(FIRST_DELAY, LONGEST_DELAY, tries=UNKNOWN_TRIES)
        return Retries(FIRST_DELAY, LONGEST_DELAY, tries=job.tries)

    def rest(self) -> None:
        """Do nothing: nothing is kept between two jobs."""

    def send(self, item: Raw, turn: Turn) -> None:
        """Do a job. Raises `Refused`, `Postponed`, `GivenBack` or `Lost`."""
        name = item["content"]["name"]
        job = self.jobs.get(name)
        if job is None:
            raise Postponed("this version of the service has no such job")
        run, began = Run(item), time.monotonic()
        if not run.renew():
            raise Lost(name)
        log.info("job_began", job=name, item=run.id, tries=run.tries)
        with metrics.JOBS_AT_WORK.track_inprogress():
            run.begin(lambda: job.work(run, **item["content"]["arguments"]))
            self.watch(run, job, turn.goes_on)
        seconds = time.monotonic() - began
        failure = self.failure(run, job)
        outcome = "done" if failure is None else type(failure).__name__.lower()
        metrics.JOBS.labels(name, outcome).inc()
        metrics.JOB_SECONDS.labels(name).observe(seconds)
        log.info("job_ended", job=name, item=run.id, tries=run.tries, outcome=outcome, ms=round(seconds * 1000, 2))
        if failure is not None:
            raise failure

    def watch(self, run: Run, job: Job, goes_on: Callable[[], bool]) -> None:
        """Wait until the work has ended, keep its lease meanwhile, and tell it to end where it has to."""
        over_at, renew_at = elapsed() + job.seconds, elapsed() + RENEWED_EVERY
        while not run.has_ended(LOOKED_AT_EVERY):
            if elapsed() >= renew_at:
                renew_at = elapsed() + RENEWED_EVERY
                self.keep(run)
            cut: Cut | None = run.cut
            if elapsed() >= run.until - ENDS_WITHIN:
                # MongoDB did not answer; soon another worker may have it.
                cut = "lost"
            elif elapsed() >= over_at:
                cut = "over time"
            elif not goes_on():
                cut = cut or "worker ends"
            if cut is not None:
                self.end(run, job, cut)
                return

    def keep(self, run: Run) -> None:
        """Renew the lease of a run."""
        try:
            if not run.finished and not run.renew() and not run.finished:
                run.cut = "lost"
        except PyMongoError as error:
            log.warning("lease_not_renewed", lease=run.id, reason=type(error).__name__)

    def end(self, run: Run, job: Job, cut: Cut) -> None:
        """Have the work end; where it does not, end the process, for else two would do it at once."""
        run.interrupt(cut)
        if run.has_ended(ENDS_WITHIN - 1):
            return
        log.critical("job_does_not_end", job=job.name, item=run.id, reason=cut)
        metrics.JOBS.labels(job.name, "killed").inc()
        self.end_process()

    def is_ours(self, run: Run) -> bool:
        """Tell whether nobody has taken a run that has ended: who lost it meanwhile has nothing to say of it."""
        try:
            return items.extend(run.item, KEPT_FOR) is not None
        except PyMongoError:
            # It is done, and is marked as that when MongoDB is back, if it is ours then.
            return True

    def failure(self, run: Run, job: Job) -> Exception | None:
        """Return what has to be said of a run that has ended; None where it is done."""
        if run.finished:
            return None
        if run.cut == "lost":
            return Lost(job.name)
        if run.error is None:
            return None if self.is_ours(run) else Lost(job.name)
        if isinstance(run.error, Refused | Postponed):
            return run.error
        if isinstance(run.error, Interrupted):
            return cut_short(run, job)
        log.error("job_failed", job=job.name, item=run.id, tries=run.tries, exc_info=run.error)
        return Postponed(f"{type(run.error).__name__}: {run.error}"[:MOST_REASON])


def cut_short(run: Run, job: Job) -> Exception:
    """Return what has to be said of a run that was told to end, and did."""
    if run.cut == "worker ends":
        return GivenBack(job.name)
    if run.cut == "cancelled":
        return Refused(items.CANCELLED)
    if run.cut == "over time":
        return Postponed(f"it took longer than {job.seconds:g} s")
    return Lost(job.name)
