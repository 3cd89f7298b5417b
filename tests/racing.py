"""Works that are begun at the same moment, each on a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from werkzeug.test import TestResponse

Made = TypeVar("Made")


def at_once(*works: Callable[[], Made]) -> list[Made]:
    """What these return, in their order, begun together; what one raises is raised."""
    together = threading.Barrier(len(works))

    def begun(work: Callable[[], Made]) -> Made:
        together.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begun, works))


def statuses(*works: Callable[[], TestResponse]) -> list[int]:
    """The sorted statuses of what is asked at the same moment."""
    return sorted(answer.status_code for answer in at_once(*works))
