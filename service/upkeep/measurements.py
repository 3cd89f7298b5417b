"""Measurements: what the service counts of itself, stored each minute, and what it says of the last day.

Each start stores its own sums, those of all its processes: whichever comes first in a minute does it. So those of
several machines stand side by side, and are added up when they are looked at.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any

from mongoengine.connection import get_db
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from pymongo.errors import DuplicateKeyError

from service.core import metrics
from service.core.clock import now
from service.documents import Measurement
from service.mongo import connection
from service.mongo.raw import Raw

EVERY = 60.0
"""Seconds between two measurements of one start."""
MEASURED_DAY = timedelta(hours=24)
MEASURED_STEP = timedelta(minutes=10)
"""How much of a day one point of a plot tells of."""
MOST_MEASUREMENTS = 50_000
"""Most measurements that are looked at: those of a day of about 35 starts."""

Chosen = Callable[[Sample], bool]


def any_of_them(_sample: Sample) -> bool:
    """Choose each."""
    return True


COUNTED: Mapping[str, tuple[str, Chosen]] = {
    "requests": ("madang_requests_total", any_of_them),
    "failed": ("madang_requests_total", lambda sample: sample.labels["status"].startswith("5")),
    "refused": ("madang_requests_total", lambda sample: sample.labels["status"].startswith("4")),
    "changes": ("madang_changes_recorded_total", any_of_them),
    "jobs": ("madang_jobs_total", lambda sample: sample.labels["outcome"] == "done"),
    "jobs_failed": ("madang_jobs_total", lambda sample: sample.labels["outcome"] != "done"),
    "sent": ("madang_outbox_sent_total", any_of_them),
    "not_sent": ("madang_outbox_failed_total", any_of_them),
}
"""The sums, by name: the counter that each is made of, and which of its series."""
LAG_GAUGE, WAITING_GAUGE = "madang_changes_lag_seconds", "madang_outbox_waiting"


# --- To store them ---------------------------------------------------------------------------------------------------


def measure(uri: str) -> bool:
    """Store what this start has counted, if no other process of it has in this minute; tell whether this one did.

    `uri` is that of MongoDB: mongomock has no size.
    """
    moment, source = now().replace(microsecond=0), metrics.source()
    id = sha256(f"{source} {moment:%Y-%m-%d %H:%M}".encode()).hexdigest()[:32]
    if Measurement._get_collection().find_one({"_id": id}, {"_id": 1}) is not None:
        return False
    told = {"_id": id, "time": moment, "source": source, **summed(metrics.of_all_processes().collect())}
    if not connection.is_memory(uri):
        sizes = get_db().command("dbStats")
        told["held"] |= {"data": int(sizes["dataSize"]), "indexes": int(sizes["indexSize"])}
    try:
        Measurement._get_collection().insert_one(told)
    except DuplicateKeyError:
        return False
    return True


def summed(collected: Iterable[Metric]) -> Raw:
    """Return the sums of what was collected, how many requests took at most so long, and what is so now."""
    samples = [sample for metric in collected for sample in metric.samples]
    series: dict[str, list[Sample]] = {}
    for sample in samples:
        series.setdefault(sample.name, []).append(sample)
    counted = {name: total(filter(chosen, series.get(of, ()))) for name, (of, chosen) in COUNTED.items()}
    buckets = dict.fromkeys(map(bound, metrics.BUCKETS), 0)
    for sample in series.get("madang_request_seconds_bucket", ()):
        if (most := bound(float(sample.labels["le"]))) in buckets:
            buckets[most] += int(sample.value)
    held = {"lag": max((sample.value for sample in series.get(LAG_GAUGE, ())), default=0.0)}
    held["waiting"] = total(series.get(WAITING_GAUGE, ()))
    return {"counted": counted, "buckets": list(buckets.values()), "held": held}


def total(samples: Iterable[Sample]) -> int:
    """Return the sum of the values of some samples."""
    return int(sum(sample.value for sample in samples))


def bound(seconds: float) -> str:
    """Return the name of a bucket."""
    return f"{seconds:g}"


# --- What they say ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class MeasuredSpan:
    """What happened in one step of the day, over all starts: `counted` in it, and the most that was `held`."""

    begin: datetime
    counted: dict[str, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * len(metrics.BUCKETS))
    held: dict[str, float] = field(default_factory=dict)

    def add(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Add what one start has counted between two of its measurements."""
        for name, number in after["counted"].items():
            self.counted[name] = self.counted.get(name, 0) + max(0, number - before["counted"].get(name, 0))
        between = zip(before["buckets"], after["buckets"], strict=False)
        self.buckets[: len(after["buckets"])] = [
            sum_ + max(0, late - early) for sum_, (early, late) in zip(self.buckets, between, strict=False)
        ]

    def hold(self, found: Mapping[str, float]) -> None:
        """Take over what was so at a moment, where it is more."""
        for name, value in found.items():
            self.held[name] = max(value, self.held.get(name, 0))

    def latency(self, part: float) -> float | None:
        """Return the seconds in which this part of the requests was answered; None where there was none.

        Within a bucket they count as evenly spread; what took longer than the last bound counts as that.
        """
        requests = self.counted.get("requests", 0)
        if not requests:
            return None
        wanted, below, least = part * requests, 0, 0.0
        for most, number in zip(metrics.BUCKETS, self.buckets, strict=True):
            if number >= wanted and number > below:
                return least + (most - least) * (wanted - below) / (number - below)
            below, least = number, most
        return float(metrics.BUCKETS[-1])


def last_day(end: datetime) -> list[MeasuredSpan]:
    """Return the day before `end`, step by step."""
    begin = floor(end - MEASURED_DAY) + MEASURED_STEP
    spans = {
        begin + number * MEASURED_STEP: MeasuredSpan(begin + number * MEASURED_STEP)
        for number in range(int(MEASURED_DAY / MEASURED_STEP))
    }
    chosen = {"time": {"$gte": begin - MEASURED_STEP, "$lte": end}}
    rows = Measurement._get_collection().find(chosen, sort=[("time", 1)], limit=MOST_MEASUREMENTS)
    by_source: dict[str, list[Raw]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    for found in by_source.values():
        add_source(spans, found)
    return list(spans.values())


def add_source(spans: Mapping[datetime, MeasuredSpan], rows: Sequence[Raw]) -> None:
    """Add to a day what one start has stored of it, in the order of time."""
    for before, after in pairwise(rows):
        if (span := spans.get(floor(after["time"]))) is not None:
            span.add(before, after)
    for row in rows:
        if (span := spans.get(floor(row["time"]))) is not None:
            span.hold(row["held"])


def floor(moment: datetime) -> datetime:
    """Return the begin of the step in which a moment is."""
    return moment - (moment - datetime.min) % MEASURED_STEP
