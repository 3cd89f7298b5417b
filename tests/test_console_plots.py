"""Plots of the console: what each start has counted, added up over the last day, and as a table for who reads."""

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from service.core import metrics
from service.core.clock import now
from service.documents import Measurement
from service.mongo.connection import MEMORY
from service.mongo.raw import Raw
from service.pages.console_plots import PLOTS, number_told, path, size_told, time_told
from service.pages.console_texts import CONSOLE_TEXTS
from service.upkeep import indexes, measurements
from service.upkeep.measurements import MeasuredSpan, last_day
from service.worker.chores import chores
from tests.admin_browser import AdminBrowser
from tests.client import Person
from tests.conftest import ROOT
from tests.types import EVERY

END = now().replace(hour=12, minute=34, second=56, microsecond=0) + timedelta(days=1)
"""Tomorrow: what is older than a day the database removes."""


@pytest.fixture(autouse=True)
def nothing_measured(app: Flask) -> None:
    Measurement._get_collection().delete_many({})


def measured(source: str, moment: datetime, buckets: list[int] | None = None, **told: Any) -> None:
    """Store what a start had counted at a moment."""
    held = {name: told.pop(name) for name in ("lag", "waiting", "data", "indexes") if name in told}
    row: Raw = {"_id": f"{source} {moment}", "time": moment, "source": source, "counted": told, "held": held}
    Measurement._get_collection().insert_one({**row, "buckets": buckets or [0] * len(metrics.BUCKETS)})


def at(minutes: int) -> datetime:
    """So many minutes before the end."""
    return END - timedelta(minutes=minutes)


def spans_of(name: str) -> dict[str, int]:
    """What was counted in each span of the day in which something was."""
    return {f"{span.begin:%d %H:%M}": span.counted[name] for span in last_day(END) if span.counted.get(name)}


def test_what_several_starts_count_is_added_up_and_a_new_start_counts_from_nothing() -> None:
    for minutes, number in ((60, 1000), (59, 1004), (45, 1005)):
        measured("one", at(minutes), requests=number)
    for minutes, number in ((59, 7), (58, 9), (2, 9)):
        measured("two", at(minutes), requests=number)
    measured("three", at(1), requests=500)
    assert spans_of("requests") == {f"{END:%d} 11:30": 6, f"{END:%d} 11:40": 1}


def test_a_day_has_all_its_steps_whatever_was_stored() -> None:
    measured("one", at(25 * 60), requests=1)
    measured("one", at(1), requests=3)
    day = last_day(END)
    assert len(day) == 144
    assert (day[0].begin, day[-1].begin) == (at(24 * 60 - 6).replace(second=0), at(4).replace(second=0))
    assert spans_of("requests") == {}
    measured("one", END, requests=5)
    assert spans_of("requests") == {f"{END:%d} 12:30": 2}


def test_of_what_is_held_the_most_is_told() -> None:
    measured("one", at(3), lag=0.5, data=100)
    measured("two", at(2), lag=2.5, data=90)
    assert last_day(END)[-1].held == {"lag": 2.5, "data": 100}


def with_buckets(**numbers: int) -> MeasuredSpan:
    """A span with so many requests that took at most so many milliseconds."""
    span, below = MeasuredSpan(END), 0
    for index, most in enumerate(metrics.BUCKETS):
        below += numbers.get(f"ms{most * 1000:g}", 0)
        span.buckets[index] = below
    span.counted["requests"] = below + numbers.get("longer", 0)
    return span


@pytest.mark.parametrize(
    ("numbers", "half", "most"),
    [
        ({}, None, None),
        ({"ms10": 100}, 0.0075, 0.00995),
        ({"ms10": 90, "ms1000": 10}, 0.0078, 0.95),
        ({"ms1": 1}, 0.0005, 0.00099),
        ({"ms1": 1, "longer": 99}, 10.0, 10.0),
    ],
)
def test_how_long_requests_took_is_told_out_of_the_buckets(
    numbers: dict[str, int], half: float | None, most: float | None
) -> None:
    span = with_buckets(**numbers)
    told = [span.latency(part) for part in (0.5, 0.99)]
    assert [one and round(one, 4) for one in told] == [half and round(half, 4), most and round(most, 4)]


# What is stored


def test_one_process_of_a_start_measures_in_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.upkeep.measurements.now", lambda: END)
    assert [measurements.measure(MEMORY) for _ in range(3)] == [True, False, False]
    monkeypatch.setattr("service.upkeep.measurements.now", lambda: END + timedelta(minutes=1))
    assert measurements.measure(MEMORY)
    monkeypatch.setattr(metrics, "source", lambda: "another")
    assert measurements.measure(MEMORY)
    assert Measurement.objects.count() == 3


def test_what_a_process_counts_is_measured(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.upkeep.measurements.now", lambda: at(2))
    measurements.measure(MEMORY)
    for _ in range(3):
        assert ada.get("/v1/notes").status_code == 200
    assert ada.get("/v1/notes/none").status_code == 404
    metrics.observe("GET", "/v1/notes", 503, 0.2)
    metrics.JOBS.labels("weekly", "done").inc()
    metrics.JOBS.labels("weekly", "failed").inc(2)
    monkeypatch.setattr("service.upkeep.measurements.now", lambda: END)
    measurements.measure(MEMORY)
    span = last_day(END)[-1]
    wanted = {"requests": 5, "refused": 1, "failed": 1, "jobs": 1, "jobs_failed": 2}
    assert {name: span.counted[name] for name in wanted} == wanted
    assert span.buckets[-1] == 5
    assert (span.latency(0.99) or 0) > 0.1


COUNTS = """
import sys
from service.core import metrics
for _ in range(int(sys.argv[1])):
    metrics.observe("GET", "/v1/notes", 200, 0.02)
metrics.LAG.set(float(sys.argv[2]))
"""
"""A process that answers so many requests, says how far behind the order is, and ends."""


def count_in_processes(folder: Path, *told: tuple[str, str]) -> None:
    """Let processes of one start, with their counters in a folder, count at the same time."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    counting = [subprocess.Popen([sys.executable, "-c", COUNTS, *one], cwd=ROOT, env=environ) for one in told]
    assert [one.wait(60) for one in counting] == [0] * len(told)


def test_what_all_processes_of_all_starts_count_is_on_one_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    count_in_processes(first, ("100", "0.1"))
    for moment, told in ((at(2), [("3", "0.5"), ("4", "2.5")]), (END, [])):
        for folder in (first, second):
            monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
            monkeypatch.setattr("service.upkeep.measurements.now", lambda moment=moment: moment)
            assert measurements.measure(MEMORY)
            count_in_processes(folder, *told)
    span = last_day(END)[-1]
    assert (span.counted["requests"], span.buckets[-1], span.held["lag"]) == (14, 14, 2.5)


def test_every_program_measures_once_a_minute(test_settings: dict[str, Any]) -> None:
    (chore,) = [one for one in chores(test_settings, EVERY) if one.name == "measurements"]
    assert (chore.pause, chore.shared) == (60.0, True)
    chore.work(None)  # type: ignore[arg-type]
    assert Measurement.objects.count() == 1


@pytest.mark.real
@pytest.mark.usefixtures("ada")
def test_the_size_of_the_database_is_measured_and_old_measurements_go(test_settings: dict[str, Any]) -> None:
    measurements.measure(test_settings["MONGODB_URI"])
    (row,) = Measurement.objects
    assert row.held["data"] > 0
    assert row.held["indexes"] > 0
    (index,) = [one for one in indexes.existing(Measurement).values() if "expireAfterSeconds" in one]
    assert (index["key"], index["expireAfterSeconds"]) == ([("time", 1)], 25 * 3600)


# What is shown


def test_the_overview_shows_each_number_on_its_plot_and_in_a_table(app: Flask, ada: Person) -> None:
    moment = now()
    for minutes, number in ((2, 0), (0, 12345)):
        buckets = [0, 0, 0, *[number] * 10]
        measured("one", moment - timedelta(minutes=minutes), buckets, requests=number, data=2_500_000)
    admin = AdminBrowser.of(ada, app)
    page = admin.get("/admin").text
    assert page.count('<svg viewBox="0 0 480 140" role="img"') == len(PLOTS)
    assert page.count("requests: 12,345") == 1
    assert '<td class="number">12,345</td>' in page
    assert '<td class="number">2.5 MB</td>' in page
    assert "style=" not in page


def test_a_day_on_which_nothing_was_measured_is_shown_empty(app: Flask, ada: Person) -> None:
    page = AdminBrowser.of(ada, app).get("/admin").text
    assert page.count('<svg viewBox="0 0 480 140" role="img"') == len(PLOTS)
    assert "<title>" in page
    assert 'class="column"' not in page


def test_each_plot_and_line_has_a_name_in_each_language() -> None:
    for texts in CONSOLE_TEXTS.values():
        for kind in PLOTS:
            assert texts[kind.name]
            assert all(texts[series.name] for series in kind.series)


def test_a_line_has_a_gap_where_nobody_knows_the_value() -> None:
    assert path([1, None, 2, 0], 2, 10) == "M52.0 63.0H62.0M72.0 8.0H82.0L82.0 118.0H92.0"


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (number_told(1234567), "1,234,567"),
        (time_told(0.0123), "12.3 ms"),
        (time_told(12.34), "12.3 s"),
        (size_told(999), "999 B"),
        (size_told(2_500_000), "2.5 MB"),
        (size_told(3e15), "3,000.0 TB"),
    ],
)
def test_numbers_are_told_for_people(told: str, text: str) -> None:
    assert told == text
