"""The schedule: jobs are done at their times, in their zones, once, whatever the clocks of a country do."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from service.core.clock import now
from service.documents import OutboxItem
from service.outbox import items
from service.outbox.dispatch import Dispatcher
from service.outbox.jobs import JOB, Job
from service.outbox.performing import JobSender
from service.outbox.run import Run
from service.outbox.schedule import Schedule, next_time
from tests.dispatching import Deaf, look


def times(cron: str, zone: str, after: datetime, number: int = 3) -> list[str]:
    """The next times of a schedule, in UTC."""
    weekly, found = Job("weekly", lambda run: None, cron, zone), []
    for _ in range(number):
        after = next_time(weekly, after)
        found.append(f"{after:%m-%d %H:%M}")
    return found


@pytest.mark.once
def test_a_schedule_names_times_of_its_zone() -> None:
    assert times("0 6 * * 1", "Asia/Seoul", datetime(2026, 11, 27)) == ["11-29 21:00", "12-06 21:00", "12-13 21:00"]
    assert times("0 6 * * 1", "UTC", datetime(2026, 11, 27), 1) == ["11-30 06:00"]


@pytest.mark.once
def test_a_day_of_the_month_or_of_the_week_is_meant_as_in_cron() -> None:
    """crontab(5): where both are given either will do."""
    assert times("0 0 1 * 1", "UTC", datetime(2026, 11, 27)) == ["11-30 00:00", "12-01 00:00", "12-07 00:00"]


@pytest.mark.once
def test_an_hour_that_comes_twice_is_one_for_what_names_it() -> None:
    """In New York 01:30 comes at 05:30 and at 06:30 UTC on 1 November 2026."""
    assert times("30 1 * * *", "America/New_York", datetime(2026, 11, 1, 0), 2) == ["11-01 05:30", "11-02 06:30"]


@pytest.mark.once
@pytest.mark.parametrize("minute", [0, 10, 29, 31, 59])
def test_in_the_second_of_the_two_nothing_is_due_that_was_done_in_the_first(minute: int) -> None:
    after = datetime(2026, 11, 1, 6, minute)
    assert times("30 1 * * *", "America/New_York", after, 1) == ["11-02 06:30"]


@pytest.mark.once
def test_an_hour_that_comes_twice_is_two_for_what_is_done_in_every_hour() -> None:
    found = times("30 * * * *", "America/New_York", datetime(2026, 11, 1, 4, 45))
    assert found == ["11-01 05:30", "11-01 06:30", "11-01 07:30"]


@pytest.mark.once
def test_what_names_an_hour_that_does_not_come_is_done_right_after_it() -> None:
    """In Berlin 02:00 is followed by 03:00, at 01:00 UTC on 29 March 2026."""
    assert times("30 2 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12), 2) == ["03-29 01:00", "03-30 00:30"]


@pytest.mark.once
def test_what_is_done_every_few_minutes_follows_the_real_time_through_both() -> None:
    spring = times("*/20 * * * *", "Europe/Berlin", datetime(2026, 3, 29, 0, 30), 4)
    assert spring == ["03-29 00:40", "03-29 01:00", "03-29 01:20", "03-29 01:40"]
    autumn = times("*/20 * * * *", "Europe/Berlin", datetime(2026, 10, 25, 0, 30), 4)
    assert autumn == ["10-25 00:40", "10-25 01:00", "10-25 01:20", "10-25 01:40"]


# What waits


@pytest.fixture
def clock(app: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, datetime]:
    """The time of MongoDB in the hands of a test."""
    found = {"now": datetime(2026, 11, 27)}
    monkeypatch.setattr("service.mongo.connection.server_time", lambda: found["now"])
    return found


def waiting() -> list[datetime]:
    return [item["due_at"] for item in OutboxItem._get_collection().find({"kind": JOB, "state": "waiting"})]


def weekly(work: Any = lambda run: None, cron: str = "0 6 * * 1", **given: Any) -> Job:
    return Job("weekly", work, cron, "Asia/Seoul", alone=True, **given)


def worker_of(job: Job) -> Dispatcher:
    return Dispatcher(JobSender({job.name: job}), Deaf())


def test_the_next_run_waits_and_it_is_one_whoever_looks(clock: dict[str, datetime]) -> None:
    for _ in range(3):
        Schedule({"weekly": weekly()}).keep()
    assert waiting() == [datetime(2026, 11, 29, 21)]


def test_each_run_is_done_once_at_its_time(clock: dict[str, datetime]) -> None:
    seen: list[datetime] = []

    def work(run: Run) -> None:
        seen.append(run.due_at)

    job = weekly(work)
    schedule, worker = Schedule({"weekly": job}), worker_of(job)
    for day in range(22):
        clock["now"] = datetime(2026, 11, 27, 21, 0, 1) + timedelta(days=day)
        schedule.keep()
        look(worker)
        schedule.keep()
        look(worker)
    assert seen == [datetime(2026, 11, 29, 21), datetime(2026, 12, 6, 21), datetime(2026, 12, 13, 21)]


def test_what_was_due_while_no_worker_ran_is_done_once_when_one_does(clock: dict[str, datetime]) -> None:
    seen: list[datetime] = []
    job = weekly(lambda run: seen.append(run.due_at))
    schedule, worker = Schedule({"weekly": job}), worker_of(job)
    schedule.keep()
    clock["now"] = datetime(2027, 1, 20)
    for _ in range(3):
        schedule.keep()
        look(worker)
    assert seen == [datetime(2026, 11, 29, 21)]
    assert waiting() == [datetime(2027, 1, 24, 21)]


def test_a_new_schedule_brings_nothing_of_the_past(clock: dict[str, datetime]) -> None:
    clock["now"] = datetime(2026, 11, 22, 21, 0, 1)
    Schedule({"weekly": weekly()}).keep()
    assert waiting() == [datetime(2026, 11, 29, 21)]


def test_another_schedule_replaces_what_waits_and_none_removes_it(clock: dict[str, datetime]) -> None:
    Schedule({"weekly": weekly()}).keep()
    Schedule({"weekly": weekly(cron="0 7 * * 1")}).keep()
    assert waiting() == [datetime(2026, 11, 29, 22)]
    Schedule({}).keep()
    assert waiting() == []


def test_a_run_that_lasts_until_the_next_one_is_due_is_not_done_beside_it(clock: dict[str, datetime]) -> None:
    job = weekly(cron="* * * * *")
    schedule = Schedule({"weekly": job})
    schedule.keep()
    clock["now"] += timedelta(minutes=1)
    first = items.take_due(JOB, 3600.0)
    assert first is not None
    schedule.keep()
    clock["now"] += timedelta(minutes=1)
    assert items.take_due(JOB, 3600.0) is None
    items.mark_sent(first)
    assert items.take_due(JOB, 3600.0) is not None


def test_a_run_that_failed_is_told_until_one_has_succeeded(clock: dict[str, datetime]) -> None:
    raised: list[Exception] = [KeyError("a")]

    def work(run: Run) -> None:
        if raised:
            raise raised.pop()

    job = weekly(work, tries=1)
    schedule, worker = Schedule({"weekly": job}), worker_of(job)
    for due in (0, 7):
        schedule.keep()
        clock["now"] = datetime(2026, 11, 29, 21, 0, 1) + timedelta(days=due)
        look(worker)
        schedule.keep()
        if not due:
            assert schedule.trouble == "failed when they were due last: weekly"
    assert schedule.trouble is None


def test_a_run_that_somebody_cancels_is_left_out_and_no_trouble(clock: dict[str, datetime]) -> None:
    schedule = Schedule({"weekly": weekly()})
    schedule.keep()
    assert items.cancel({"kind": JOB}) == (1, 0)
    schedule.keep()
    assert (waiting(), schedule.trouble) == ([], None)
    clock["now"] = datetime(2026, 11, 29, 21, 0, 1)
    schedule.keep()
    assert waiting() == [datetime(2026, 12, 6, 21)]


def test_the_schedule_is_kept_by_mongodb_s_clock(app: Any) -> None:
    before = now()
    Schedule({"weekly": weekly(cron="* * * * *")}).keep()
    (due_at,) = waiting()
    assert before < due_at <= now() + timedelta(seconds=61)
