"""What the service counts of itself, for Prometheus."""

import os
import socket
import time
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.registry import REGISTRY
from pymongo import monitoring

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

REQUESTS = Counter("madang_requests_total", "Requests answered.", ["method", "route", "status"])
LATENCY = Histogram("madang_request_seconds", "Time to answer.", ["method", "route"], buckets=BUCKETS)
IN_FLIGHT = Gauge("madang_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum")
DATABASE = Histogram("madang_database_seconds", "Time of MongoDB commands.", ["command"], buckets=BUCKETS)
CONNECTIONS = Gauge(
    "madang_database_connections", "Connections to MongoDB by state.", ["state"], multiprocess_mode="livesum"
)
RECORDED = Counter("madang_changes_recorded_total", "Changes that came into the order.")
LAG = Gauge("madang_changes_lag_seconds", "From the last change to its place in the order.", multiprocess_mode="max")
NEWEST = Gauge("madang_changes_newest_seconds", "Time of the last change, since 1970.", multiprocess_mode="max")
GAPS = Counter("madang_changes_gaps_total", "How often what had happened was lost, and all was compared.")

FOLLOWED = Counter("madang_followed_changes_total", "Changes that something was told of.", ["follower"])
BEHIND = Gauge(
    "madang_followed_behind", "Numbers of the order that are left.", ["follower"], multiprocess_mode="mostrecent"
)
FOLLOWED_LATE = Counter(
    "madang_followed_late_total", "How often ends of records were forgotten before they were told.", ["follower"]
)

HOOK_FAILED = Counter("madang_hook_failed_total", "Times that an after_change failed.", ["type"])
HOOK_TIMES = Histogram("madang_hook_seconds", "Time of an after_change.", ["type"], buckets=BUCKETS)
SET_ASIDE = Gauge(
    "madang_hook_set_aside", "Records of which a hook is told no more.", ["type"], multiprocess_mode="mostrecent"
)

UNREADABLE = Counter(
    "madang_unreadable_documents_total", "Stored documents that could not be told in JSON.", ["document"]
)

WAITING = Gauge("madang_live_connections", "Clients that wait, for live events or a pull.", multiprocess_mode="livesum")
EVENTS = Counter("madang_live_events_total", "Live events that were sent.")
CUT_OFF = Counter("madang_live_cut_off_total", "Clients that were cut off because they did not read.")

OUTBOX = Gauge("madang_outbox_waiting", "Items that have to be sent.", ["kind"], multiprocess_mode="mostrecent")
OLDEST = Gauge(
    "madang_outbox_oldest_seconds", "Age of the oldest that waits.", ["kind"], multiprocess_mode="mostrecent"
)
SENT = Counter("madang_outbox_sent_total", "Items that were sent.", ["kind"])
PUT_OFF = Counter("madang_outbox_put_off_total", "Tries that failed and are made again.", ["kind"])
FAILED = Counter("madang_outbox_failed_total", "Items that are not tried any more.", ["kind"])
JOBS = Counter("madang_jobs_total", "Runs of jobs that ended, by what came of them.", ["name", "outcome"])
JOB_SECONDS = Histogram("madang_job_seconds", "Time of runs of jobs.", ["name"], buckets=(0.1, 1, 10, 60, 600, 3600))
JOBS_AT_WORK = Gauge("madang_jobs_at_work", "Jobs that are at work.", multiprocess_mode="livesum")
MAILS_WITHHELD = Counter(
    "madang_mails_withheld_total", "Mails that were not stored, by what was in the way.", ["reason"]
)
WEBHOOK_CALLS = Counter("madang_webhook_calls_total", "Calls of webhooks, by what was answered.", ["outcome"])
WEBHOOK_SECONDS = Histogram("madang_webhook_seconds", "Time of calls of webhooks.", buckets=(0.05, 0.1, 0.5, 1, 5, 15))
WEBHOOKS_OFF = Counter("madang_webhooks_off_total", "Webhooks that were switched off, and why.", ["reason"])

DEAD_TOKENS = Counter("madang_push_dead_tokens_total", "Device tokens that nobody is behind any more.", ["platform"])
PUSH_MISTAKES = Counter("madang_push_mistakes_total", "Changes of which a declaration could say nothing.", ["type"])

# To find a series by its labels takes as long as all the rest; there are as many as routes, methods and statuses.
requests_of = cache(REQUESTS.labels)
latency_of = cache(LATENCY.labels)
database_of = cache(DATABASE.labels)
OPEN, IN_USE = CONNECTIONS.labels("open"), CONNECTIONS.labels("in_use")


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count one answered request. Methods that HTTP does not know share one label: a client cannot add series."""
    known = method if method in METHODS else "other"
    requests_of(known, route, status).inc()
    latency_of(known, route).observe(seconds)


def recorded(moment: int, changes: int) -> None:
    """Count changes that came into the order, the last of which was made at a `moment`, in seconds since 1970."""
    RECORDED.inc(changes)
    NEWEST.set(moment)
    LAG.set(max(0.0, time.time() - moment))


def of_all_processes() -> CollectorRegistry:
    """Return what collects the metrics of all processes of this start; of this one where it is alone."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def exposition() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    return generate_latest(of_all_processes())


def source() -> str:
    """Return the name of what `of_all_processes` collects: the same in all processes of one start, and in no other."""
    return f"{socket.gethostname()} {os.environ.get('PROMETHEUS_MULTIPROC_DIR') or os.getpid()}"


def forget(process: int) -> None:
    """Drop the gauges of a process that has ended; what it counted stays."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]


class CommandTimes(monitoring.CommandListener):
    """Counts the time of those MongoDB commands that PyMongo itself runs, as it measures it."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Do nothing: the driver reports the duration at the end."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count a command that was answered."""
        database_of(event.command_name).observe(event.duration_micros / 1e6)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count a command that failed."""
        database_of(event.command_name).observe(event.duration_micros / 1e6)


# The same for every app of a process: two with one database share its connections.
LISTENERS = [CommandTimes()]
