"""The time as MongoDB keeps it, and how much of it passes."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the time in UTC with milliseconds, without a zone: what MongoDB stores and PyMongo gives back."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def elapsed() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(CLOCK)


CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
