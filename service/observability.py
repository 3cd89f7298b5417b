"""What the service shows of itself: a request id, one log line per request, metrics."""

import logging
import os
import re
import secrets
import sys
import time
from typing import Any

import orjson
import structlog
from concurrent_log_handler import ConcurrentRotatingFileHandler
from flask import Flask, Response, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.registry import REGISTRY
from pymongo import monitoring
from structlog.typing import EventDict, WrappedLogger

from service.context import g

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-site",
    "Cache-Control": "no-store",
}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUESTS = Counter("madang_requests_total", "Requests answered.", ["method", "route", "status"])
LATENCY = Histogram("madang_request_seconds", "Time to answer.", ["method", "route"], buckets=BUCKETS)
IN_FLIGHT = Gauge("madang_requests_in_flight", "Requests being answered.", multiprocess_mode="livesum")
DATABASE = Histogram("madang_database_seconds", "Time of MongoDB commands.", ["command"], buckets=BUCKETS)
CONNECTIONS = Gauge(
    "madang_database_connections", "Connections to MongoDB by state.", ["state"], multiprocess_mode="livesum"
)

log = structlog.get_logger()


def init_app(app: Flask) -> None:
    """Give every request of `app` an id, a log line and its place in the metrics, and every answer its headers."""
    configure_log(app.config)
    app.before_request(begin)
    app.after_request(finish)
    app.teardown_request(end)


def begin() -> None:
    """Start the clock and name the request: the client's own name for it, or a new one."""
    g.started = time.perf_counter()
    sent = request.headers.get("X-Request-ID", "")
    g.request_id = sent if REQUEST_ID.fullmatch(sent) else secrets.token_hex(16)
    g.address = request.remote_addr or "unknown"
    IN_FLIGHT.inc()


def end(_error: BaseException | None) -> None:
    """Count the request out, whatever became of it."""
    IN_FLIGHT.dec()


def finish(response: Response) -> Response:
    """Add the headers of every answer, count it, and write its one log line."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if "ETag" in response.headers:
        # A device may keep a record, but has to ask whether it is still current.
        response.headers["Cache-Control"] = "private, no-cache"
    response.headers["X-Request-ID"] = g.request_id
    seconds = time.perf_counter() - g.started
    observe(request.method, route(), response.status_code, seconds)
    log.info(
        "request",
        method=request.method,
        route=route(),
        status=response.status_code,
        ms=round(seconds * 1000, 2),
        request_id=g.request_id,
        account=str(g.identity) if "identity" in g else None,
    )
    return response


def route() -> str:
    """Return the pattern of the route that the request matched: never what a client made up."""
    return request.url_rule.rule if request.url_rule is not None else "unmatched"


def observe(method: str, rule: str, status: int, seconds: float) -> None:
    """Count one answered request. Methods that HTTP does not know share one label: a client cannot add series."""
    known = method if method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else "other"
    REQUESTS.labels(known, rule, status).inc()
    LATENCY.labels(known, rule).observe(seconds)


def metrics() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    if not multiprocess_directory():
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def multiprocess_directory() -> str | None:
    """Return the folder in which the workers of this service share their metrics, if there are several."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")


class CommandTimes(monitoring.CommandListener):
    """Counts the time of MongoDB commands, as the driver measures it."""

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Do nothing: the driver reports the duration at the end."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count a command that was answered."""
        DATABASE.labels(event.command_name).observe(event.duration_micros / 1e6)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count a command that failed."""
        DATABASE.labels(event.command_name).observe(event.duration_micros / 1e6)


class PoolGauge(monitoring.ConnectionPoolListener):
    """Counts the open connections to MongoDB and those in use."""

    def connection_created(self, event: Any) -> None:
        """Count a connection that was opened."""
        CONNECTIONS.labels("open").inc()

    def connection_closed(self, event: Any) -> None:
        """Count a connection that was closed."""
        CONNECTIONS.labels("open").dec()

    def connection_checked_out(self, event: Any) -> None:
        """Count a connection that an operation took."""
        CONNECTIONS.labels("in_use").inc()

    def connection_checked_in(self, event: Any) -> None:
        """Count a connection that an operation gave back."""
        CONNECTIONS.labels("in_use").dec()

    def pool_created(self, event: Any) -> None:
        """Do nothing."""

    def pool_ready(self, event: Any) -> None:
        """Do nothing."""

    def pool_cleared(self, event: Any) -> None:
        """Do nothing."""

    def pool_closed(self, event: Any) -> None:
        """Do nothing."""

    def connection_ready(self, event: Any) -> None:
        """Do nothing."""

    def connection_check_out_started(self, event: Any) -> None:
        """Do nothing."""

    def connection_check_out_failed(self, event: Any) -> None:
        """Do nothing."""


# The same for every app of a process: two with one database share its connections.
LISTENERS = [CommandTimes(), PoolGauge()]


class Sinks:
    """The last step of a log line: text for the terminal as returned, and JSON for the log file if there is one."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.render = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        self.as_json = config["LOG_JSON"]
        self.file = (
            ConcurrentRotatingFileHandler(
                config["LOG_FILE"], maxBytes=config["LOG_FILE_BYTES"], backupCount=config["LOG_FILE_COUNT"]
            )
            if config["LOG_FILE"]
            else None
        )

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        """Return the finished line."""
        line = orjson.dumps(event, default=str).decode()
        if self.file is not None:
            self.file.handle(self.file_record(line))
        return line if self.as_json else str(self.render(logger, name, event))

    @staticmethod
    def file_record(line: str) -> Any:
        """Return a record of the standard library that holds a finished line."""
        return logging.LogRecord("madang", logging.INFO, "", 0, line, None, None)


def configure_log(config: dict[str, Any]) -> None:
    """Set up structlog as the settings say: level, form and file."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if config["LOG_JSON"] else keep_exception,
            Sinks(config),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(config["LOG_LEVEL"].lower()),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )


def keep_exception(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Leave the exception to the console renderer."""
    return event
