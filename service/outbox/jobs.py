"""Jobs: functions of the app that a worker does later, or by a schedule."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from service.mongo.raw import Raw, in_bson
from service.outbox import items
from service.outbox.items import DUE_AT_ONCE, NewItem

JOB = "job"
"""The kind of items that are jobs."""
JOB_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
MOST_ARGUMENTS = 64 * 1024
"""Most bytes of the arguments of a job, as BSON: what is larger is stored first, and looked up by the job."""
MOST_KEY = 200
"""Most characters of a key."""
CRON_FIELDS = 5


@dataclass(frozen=True)
class Job:
    """A function that a worker does.

    `tries` is how often at most, `seconds` how long one try may take, and of the waiting ones those with a lower
    `priority` (0 to 9) are done first. Of one that is `alone` a single run is at work at a time, over all workers.
    With `cron`, five fields as in crontab(5), it is done at these times of the `zone` (IANA). Raises `ValueError`.
    """

    name: str
    work: Callable[..., Any]
    cron: str | None = None
    zone: str = "UTC"
    tries: int = 5
    seconds: float = 300.0
    priority: int = 5
    alone: bool = False

    def __post_init__(self) -> None:
        if JOB_NAME.fullmatch(self.name) is None:
            raise ValueError(f"{self.name!r} is no name of a job: small letters, digits and -, 64 at most")
        if inspect.iscoroutinefunction(self.work):
            raise ValueError(f"{self.name} has to be a plain function; nobody would wait for this one")
        if self.tries < 1 or self.seconds <= 0 or not 0 <= self.priority <= 9:
            raise ValueError(f"{self.name}: at least one try, more than 0 seconds, a priority from 0 to 9")
        if self.cron is not None:
            self.check_schedule(self.cron)

    def check_schedule(self, cron: str) -> None:
        """Raise `ValueError` for a schedule that is none."""
        if len(cron.split()) != CRON_FIELDS:
            raise ValueError(f"{self.name}: cron has five fields: minute, hour, day, month, day of the week")
        try:
            next(CronSim(cron, datetime.now(ZoneInfo(self.zone))))
        except (CronSimError, LookupError, ValueError) as error:
            raise ValueError(f"{self.name}: {cron!r} in {self.zone!r} is no schedule: {error}") from None
        except StopIteration:
            raise ValueError(f"{self.name}: {cron!r} never comes") from None
        self.bind({})

    @cached_property
    def signature(self) -> inspect.Signature:
        """What the function takes."""
        return inspect.signature(self.work)

    def bind(self, arguments: Mapping[str, Any]) -> None:
        """Raise `ValueError` for arguments that the function does not take."""
        try:
            self.signature.bind(None, **arguments)
        except TypeError as error:
            raise ValueError(f"{self.name}: {error}") from None

    @property
    def schedule(self) -> str | None:
        """When it is done by itself, as people read it."""
        return None if self.cron is None else f"{self.cron} {self.zone}"

    def item(self, arguments: Mapping[str, Any], more: Mapping[str, Any], **given: Any) -> NewItem:
        """Return what is stored of a run that is asked for."""
        content = {"name": self.name, "arguments": dict(arguments), **more}
        return NewItem(JOB, content, alone=self.name if self.alone else None, **given)


def job(
    name: str,
    *,
    cron: str | None = None,
    zone: str = "UTC",
    tries: int = 5,
    seconds: float = 300.0,
    priority: int = 5,
    alone: bool | None = None,
) -> Callable[[Callable[..., Any]], Job]:
    """Make a job of a function, which is handed its `Run` and the arguments by name. Raises `ValueError`.

    See `Job` for what is given. One with a schedule is `alone`, unless that is said otherwise.
    """

    def made(work: Callable[..., Any]) -> Job:
        is_alone = cron is not None if alone is None else alone
        return Job(name, work, cron, zone, tries, seconds, priority, is_alone)

    return made


def enqueue(
    job: Job,
    arguments: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    at: datetime | None = None,
    priority: int | None = None,
    account: str | None = None,
) -> str:
    """Have a job done by a worker; return the id of the run. Part of the transaction of this thread, if there is one.

    `arguments` are by name and what BSON can hold; everybody sees them who reads the database. Of those with one `key`
    that no worker has begun there is one: this call and that one are the same then, with the arguments of the first. It
    is due `at` a time (with a zone, or in UTC), else at once. While it waits, it goes with the deletion of `account`.
    Raises `ValueError`.
    """
    given = dict(arguments or {})
    job.bind(given)
    if len(in_bson(given)) > MOST_ARGUMENTS:
        raise ValueError(f"{job.name}: over {MOST_ARGUMENTS:,} bytes of arguments; store them, and hand over an id")
    if key is not None and len(key) > MOST_KEY:
        raise ValueError(f"{job.name}: a key of more than {MOST_KEY} characters")
    due_at = DUE_AT_ONCE if at is None else in_utc(at)
    more: Raw = {} if at is None else {"due_at": due_at}
    more |= {} if key is None else {"key": key}
    wanted = job.priority if priority is None else min(9, max(0, priority))
    item = job.item(given, more, account=account, due_at=due_at, priority=wanted)
    if key is not None:
        return items.add_once(item, f"{JOB}\n{job.name}\n{key}")
    id = item.id()
    items.add_item(item, id, None)
    return id


def in_utc(moment: datetime) -> datetime:
    """Return a time in UTC without a zone, as MongoDB keeps it; one without a zone is in UTC."""
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def jobs_in(modules: Iterable[ModuleType]) -> dict[str, Job]:
    """Return the jobs that some modules define, by their names. Raises `ValueError` where two have one name."""
    found: dict[str, Job] = {}
    for module in modules:
        for value in vars(module).values():
            if not isinstance(value, Job):
                continue
            if found.setdefault(value.name, value) is not value:
                raise ValueError(f"there are two jobs {value.name!r}")
    return found
