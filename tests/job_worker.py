"""Workers that do jobs and die where they are told to: `python -m tests.job_worker`, as `tests.outbox_worker`.

Each run of the one job that they know holds a lock of the file system on its id, which ends with its process: who finds
it taken says that two are at work at once. What it has done stands in `effects`, and what it does by `once` in `done`.
"""

import fcntl
import os
import random
import time
from pathlib import Path
from typing import Any

import mongoengine
from mongoengine.connection import get_db

from service.mongo import connection
from service.outbox import items, performing, run
from service.outbox.jobs import Job
from service.outbox.performing import JobSender
from service.outbox.run import Run
from service.worker import chores
from service.worker.lease import Alone
from tests.dispatching import hearing
from tests.outbox_worker import die, dying, fork_workers, telling

POINTS = ("taken", "at work", "done", "marked")
LEASE = 3.0
"""Seconds for which a run is a worker's own."""


def work(job_run: Run) -> None:
    """Take a while, and note what was done."""
    with (Path(os.environ["LOCKS"]) / job_run.id).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.write(1, f"twice at once: {job_run.id}\n".encode())
        get_db()["effects"].insert_one({"run": job_run.id})
        job_run.progress(0.5)
        time.sleep(random.uniform(0.0, 0.2))
        if armed == "at work":
            die()
        job_run.once(lambda: get_db()["done"].insert_one({"run": job_run.id}))
        if armed == "done":
            die()


STEADY = Job("steady", work, tries=1000)
armed = "-"


def do_jobs(config: dict[str, Any], point: str) -> None:
    """Do what is due until the end."""
    global armed
    armed = point
    run.KEPT_FOR = performing.KEPT_FOR = LEASE
    performing.RENEWED_EVERY, performing.ENDS_WITHIN = 0.3, 1.2
    mongoengine.connect(**connection.options(config))
    items.take_due = telling(items.take_due)
    if point == "taken":
        items.take_due = dying(items.take_due)
    elif point == "marked":
        items.mark_sent = dying(items.mark_sent)
    sender = JobSender({STEADY.name: STEADY})
    sender.seconds = LEASE
    with hearing() as lookout:
        chore = chores.sending(sender, lookout.of_kind)
        while True:
            chore.work(Alone())


if __name__ == "__main__":
    fork_workers(do_jobs)
