"""Passwords: how they are hashed, how many at once, and which are refused."""

import gzip
import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from threading import BoundedSemaphore
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import AfterValidator

from service.core.errors import TooManyRequests, ValidationFailed
from service.core.normal_forms import normalized
from service.model.validation import required, validate, validator_of_rules
from service.model.values import wrong

MIN_LENGTH = 8
MAX_LENGTH = 128
MAX_SENT = 1000
"""Most characters of a password as it comes: a keyboard may send one letter in several."""
# OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, two passes, one lane.
HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
NICE = 10
"""How far the thread that hashes steps back, in the numbers of `nice`."""

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
            raise TooManyRequests("too many logins at this moment")
        try:
            return self.threads.submit(work, *args).result()
        finally:
            self.places.release()

    def hash(self, password: str) -> str:
        """Return the argon2id hash of a password, with its parameters and salt (PHC string format)."""
        return self.run(HASHER.hash, prepared(password))

    def matches(self, stored: str | None, password: str) -> bool:
        """Tell whether `password` has the `stored` hash; takes as long when there is none."""
        return self.run(has_hash, stored or self.decoy, password) and stored is not None

    def renewed(self, stored: str, password: str) -> str | None:
        """Return a hash of `password` to take the place of the `stored` one that it has; None where that one is good.

        It is not where it was made with other parameters than those in use, or of the password as it came.
        """
        form = prepared(password)
        good = not HASHER.check_needs_rehash(stored) and (form == password or self.run(form_has_hash, stored, form))
        return None if good else self.hash(password)


def step_back() -> None:
    """Give this thread less of the cores than those that serve; only Linux has a priority for each thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        # Who was started with still less may not have more again: that would be an error, and each login with it.
        os.setpriority(os.PRIO_PROCESS, thread, max(NICE, os.getpriority(os.PRIO_PROCESS, thread)))


def prepared(password: str) -> str:
    """Return the form of a password that is hashed, one for all keyboards (RFC 8265, section 4.2: OpaqueString)."""
    spaced = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    return normalized("NFC", spaced)


def has_hash(stored: str, password: str) -> bool:
    """Tell whether a password has a hash: in its prepared form, or as it came, which was hashed at first."""
    return any(form_has_hash(stored, form) for form in dict.fromkeys((prepared(password), password)))


def form_has_hash(stored: str, form: str) -> bool:
    """Tell whether one form of a password has a hash."""
    try:
        return HASHER.verify(stored, form)
    except (VerificationError, InvalidHashError):
        return False


@cache
def common_passwords() -> frozenset[str]:
    """Return the passwords that are tried first, in lower case."""
    packed = resources.files("service.identity").joinpath("common-passwords.txt.gz").read_bytes()
    return frozenset(gzip.decompress(packed).decode().split())


def acceptable(password: Any, username: str) -> str:
    """Return a new password that may be used by `username`; raises `PydanticCustomError` with what would be right."""
    if not isinstance(password, str):
        raise wrong("wrong_type", "a string")
    # First as it came: to bring a megabyte into form takes a while.
    form = password if len(password) > MAX_SENT else prepared(password)
    if len(form) < MIN_LENGTH:
        raise wrong("too_short", f"at least {MIN_LENGTH} characters")
    if len(form) > MAX_LENGTH:
        raise wrong("too_long", f"at most {MAX_LENGTH} characters")
    folded = form.casefold()
    if folded in common_passwords():
        raise wrong("too_common", "a password that is not among the most common ones")
    if username and username.casefold() in folded:
        raise wrong("holds_username", "a password that does not hold the username")
    return form


def new_password(body: dict[str, Any], name: str, username: Any) -> str:
    """Return the new password in a body; raises `ValidationFailed` where it may not be used."""
    if name not in body:
        raise ValidationFailed([required(name)])
    rule = AfterValidator(lambda password: acceptable(password, username if isinstance(username, str) else ""))
    password: str = validate(validator_of_rules(rule), body[name], name)
    return password
