"""Passwords: how they are hashed, how many at once, and which are refused."""

import gzip
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from threading import BoundedSemaphore
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from service.core.errors import TooManyRequests
from service.model.values import wrong

MIN_LENGTH = 8
MAX_LENGTH = 128
# OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, two passes, one lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)

Result = TypeVar("Result")


class Hashing:
    """Hashes passwords on threads of its own, at most `limit` waiting or running at once.

    Argon2 takes tens of milliseconds of a core and 19 MiB. One thread keeps it from the cores that serve reads.
    """

    def __init__(self, limit: int) -> None:
        """Take the most hashes that may wait or run."""
        self.places = BoundedSemaphore(limit)
        self.threads = ThreadPoolExecutor(1, thread_name_prefix="argon2", initializer=step_back)
        # A hash to compare with when there is no such account, so that the answer takes the same time.
        self.decoy = HASHER.hash("no account has this password")

    def run(self, work: Callable[..., Result], *args: Any) -> Result:
        """Return what `work` does on a hashing thread. Raises `TooManyRequests` when all places are taken."""
        if not self.places.acquire(blocking=False):
            raise TooManyRequests("too many logins at this moment", retry_after=1)
        try:
            return self.threads.submit(work, *args).result()
        finally:
            self.places.release()

    def hash(self, password: str) -> str:
        """Return the argon2id hash of a password, with its parameters and salt (PHC string format)."""
        return self.run(HASHER.hash, password)

    def matches(self, stored: str | None, password: str) -> bool:
        """Tell whether `password` has the `stored` hash; takes as long when there is none."""
        return self.run(has_hash, stored or self.decoy, password) and stored is not None


def step_back() -> None:
    """Give this thread less of the cores than those that serve; only Linux has a priority for each thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def has_hash(stored: str, password: str) -> bool:
    """Tell whether a password has a hash."""
    try:
        return HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(stored: str) -> bool:
    """Tell whether a hash was made with other parameters than those in use."""
    return HASHER.check_needs_rehash(stored)


@cache
def common_passwords() -> frozenset[str]:
    """Return the passwords that are tried first, in lower case."""
    packed = resources.files("service.identity").joinpath("common-passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split())


def acceptable(password: Any, username: str) -> str:
    """Return a new password that may be used by `username`; raises `PydanticCustomError` with what would be right."""
    if not isinstance(password, str):
        raise wrong("wrong_type", "a string")
    if len(password) < MIN_LENGTH:
        raise wrong("too_short", f"at least {MIN_LENGTH} characters")
    if len(password) > MAX_LENGTH:
        raise wrong("too_long", f"at most {MAX_LENGTH} characters")
    folded = password.casefold()
    if folded in common_passwords():
        raise wrong("too_common", "a password that is not among the most common ones")
    if username and username.casefold() in folded:
        raise wrong("holds_username", "a password that does not hold the username")
    return password
