"""Waiting until something is so, in place of a time that is long enough on one machine and too long on another."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(reached: Callable[[], Found], seconds: float = 30, told: Callable[[], object] = str) -> Found:
    """What `reached` returns once that is true; an AssertionError when it never is, with what is `told` then."""
    end = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < end, f"not reached within {seconds} s {told()}"
        time.sleep(0.02)
    return found
