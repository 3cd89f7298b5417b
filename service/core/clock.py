"""The time as MongoDB keeps it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time in UTC with milliseconds, without a zone: what MongoDB stores and PyMongo gives back."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
