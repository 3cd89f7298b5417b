"""The schedule: of each job that has one, the next run waits in the outbox.

So what is due is found as all else is, and what was due while no worker ran is done once when one does.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim

from service.documents import OutboxItem
from service.mongo import connection
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.jobs import JOB, Job


class Schedule:
    """Keeps the next runs of some jobs waiting."""

    def __init__(self, jobs: Mapping[str, Job]) -> None:
        self.jobs = [job for job in jobs.values() if job.cron is not None]
        self.trouble: str | None = None
        """Which of the jobs have failed when they were due last."""

    def keep(self) -> None:
        """Have the next run of each job waiting, and no run of a schedule that is no more."""
        remove_stale(self.jobs)
        for job in self.jobs:
            if not has_next(job):
                add_next(job, connection.server_time())
        failing = [job.name for job in self.jobs if has_failed(job)]
        self.trouble = f"failed when they were due last: {', '.join(failing)}" if failing else None


def next_time(job: Job, after: datetime) -> datetime:
    """Return when a job is due next after a time; both in UTC, without a zone.

    As Debian's cron does it: what names an hour is done once in an hour that comes twice, the first time, and right
    after an hour that does not come; what is done in every hour, or every few minutes of any, follows the real time.
    """
    zone, moment = ZoneInfo(job.zone), after.replace(tzinfo=UTC)
    times = CronSim(job.cron or "", moment.astimezone(zone))
    while True:
        found = next(times).astimezone(UTC)
        # In the second of two hours it tells the times of the first one, which are over.
        if found > moment:
            return found.replace(tzinfo=None)


def add_next(job: Job, after: datetime) -> bool:
    """Store the next run of a job after a time; False where it is there, or was there."""
    due_at = next_time(job, after)
    item = job.item(
        {},
        {"schedule": job.schedule, "due_at": due_at},
        dedupe_key=f"{job.name}\n{job.schedule}\n{due_at.isoformat()}",
        due_at=due_at,
        priority=job.priority,
    )
    return items.add_item(item, item.id(), None)


def has_next(job: Job) -> bool:
    """Tell whether a run by the schedule waits that nobody has begun."""
    waiting = {**of_schedule(job), "state": "waiting", "tries": 0}
    return OutboxItem._get_collection().find_one(waiting, {"_id": 1}) is not None


def has_failed(job: Job) -> bool:
    """Tell whether the last run by the schedule that came to its end has failed."""
    ended = {**of_schedule(job), "state": {"$in": ["sent", "failed"]}, "reason": {"$ne": items.CANCELLED}}
    found = OutboxItem._get_collection().find_one(ended, {"state": 1}, sort=[("content.due_at", -1)])
    return found is not None and found["state"] == "failed"


def of_schedule(job: Job) -> Raw:
    """Return the filter of the runs by the schedule of a job."""
    return {"kind": JOB, "content.name": job.name, "content.schedule": job.schedule}


def remove_stale(jobs: list[Job]) -> None:
    """Remove the waiting runs of schedules that are not those of these jobs; what has begun comes to its end."""
    waiting = {"kind": JOB, "state": "waiting", "tries": 0, "content.schedule": {"$exists": True}}
    kept = [{"content.name": job.name, "content.schedule": job.schedule} for job in jobs]
    OutboxItem._get_collection().delete_many({**waiting, **({"$nor": kept} if kept else {})})
