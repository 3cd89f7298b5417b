"""Workers that merge guests: `python -m tests.merge_worker`, as `tests.outbox_worker`."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import mongoengine
from pymongo.errors import PyMongoError

from service.identity import guests
from service.mongo import connection
from tests.outbox_worker import fork_workers
from tests.types import REGISTRY


def work(config: dict[str, Any], _point: str) -> None:
    """Merge until the end, without the second that a worker takes between two looks."""
    mongoengine.connect(**connection.options(config))
    while True:
        # The transaction of one that died holds its records for some seconds; the crew comes again too.
        with suppress(PyMongoError):
            guests.go_on_merging(REGISTRY, timedelta(), timedelta(days=30))


if __name__ == "__main__":
    fork_workers(work)
