"""How many bytes of kept answers there are, of each account and in all, and when there is room for no more."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Flask
from mongoengine.connection import get_db

from service.context import current_service
from service.core.errors import Overloaded, Problem, TooManyRequests
from service.documents import KeptAnswer
from service.identity.tokens import Recent
from service.mongo import connection
from service.records.kept_answers import NO_ROOM_FOR_ANOTHER, ROOM_AFTER, bytes_of

KNOWN_ACCOUNTS = 10_000
LOOKS = 16
"""A worker looks how much an account keeps each time that it has added this part of what is allowed."""
PAUSE = 10.0
"""Least seconds between two looks at an account that is over its limit, and at all together."""


@dataclass(slots=True)
class Usage:
    """Bytes that an account kept when it was looked at, and that this worker has added since."""

    counted: int = 0
    added: int = 0
    looked: float = -math.inf


class KeptBytes:
    """Bounds the kept answers.

    Counting them in the database with each write would be one more write, in which those of an account meet. So each
    worker counts what it adds, and looks now and then: an account can pass its limit by a sixteenth for each worker.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Take the limits out of the settings."""
        self.of_account: int = config["KEPT_ANSWERS_ACCOUNT_BYTES"]
        self.in_all: int = config["KEPT_ANSWERS_BYTES"]
        self.accounts: Recent[Usage] = Recent(KNOWN_ACCOUNTS, lambda _: False)
        self.all = Usage()
        self.is_memory = connection.is_memory(config["MONGODB_URI"])

    def refusal(self, account: str) -> Problem | None:
        """Return why no further answer is kept for an account; None while there is room."""
        if self.is_over(self.all, self.in_all, self.count_all, regularly=True):
            return Overloaded("there is no room to keep another answer for a retry")
        usage = self.accounts.get(account)
        if usage is not None and self.is_over(usage, self.of_account, partial(bytes_of, account)):
            return TooManyRequests(NO_ROOM_FOR_ANOTHER, ROOM_AFTER)
        return None

    def is_over(self, usage: Usage, limit: int, count: Callable[[], int], regularly: bool = False) -> bool:
        """Tell whether a limit is reached; `count` again where that is due: `regularly`, or for a reason."""
        moment = time.monotonic()
        paused = moment >= usage.looked + PAUSE
        if usage.added >= limit // LOOKS or (paused and (regularly or usage.counted + usage.added >= limit)):
            usage.counted, usage.added, usage.looked = count(), 0, moment
        return usage.counted + usage.added >= limit

    def add(self, account: str, size: int) -> None:
        """Note that so many bytes were kept for an account."""
        usage = self.accounts.get(account) or Usage()
        usage.added += size
        self.all.added += size
        self.accounts.put(account, usage)

    def count_all(self) -> int:
        """Return the bytes of all kept answers."""
        if self.is_memory:
            return 0
        return int(get_db().command({"collStats": KeptAnswer._get_collection_name()})["size"])


def init_app(app: Flask) -> None:
    """Read the limits of `app`."""
    app.extensions["madang.kept_bytes"] = KeptBytes(app.config)


def kept_bytes() -> KeptBytes:
    """Return what counts the kept answers of the current app."""
    found: KeptBytes = current_service().extensions["madang.kept_bytes"]
    return found
