"""Workers of the outbox that die where they are told to: `python -m tests.outbox_worker`, told what to do line by line.

It imports everything once. Each line of its input is a point to die at, or `-`; it forks a worker for it and prints the
worker's id. A worker prints the id of each item that it takes.
"""

import os
import signal
import smtplib
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import mongoengine

import settings
from service.core.log import configure_log
from service.mongo import connection
from service.outbox import items
from service.outbox.transports import Smtp
from service.worker import chores
from service.worker.lease import Alone
from tests.dispatching import hearing

POINTS = ("taken", "connected", "data sent", "acknowledged", "marked")
STOPPED = "stopped"
"""A point at which a worker stops, when it has taken something."""
LEASE = 3.0
"""Seconds for which an item is a worker's own."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(work: Callable[..., Any], before: bool = False) -> Callable[..., Any]:
    """What does the same, and dies before or after it; unless nothing came of it."""

    def die_too(*args: Any, **named: Any) -> Any:
        if before:
            die()
        result = work(*args, **named)
        if result is not None or work.__name__ != "take_due":
            die()
        return result

    return die_too


WAS_STOPPED = 0.5
"""Seconds that a thread which sleeps for a moment does not lose unless its process is stopped."""


def stopping(work: Callable[..., Any]) -> Callable[..., Any]:
    """What does the same, and once, when something has come of it, stops this process until a test has it go on."""
    left = [signal.SIGSTOP]

    def stop_too(*args: Any) -> Any:
        result = work(*args)
        if result and left:
            seen = time.monotonic()
            os.kill(os.getpid(), left.pop())
            # Where it is another thread that takes the signal, this one would run on for a moment.
            while time.monotonic() - seen < WAS_STOPPED:
                seen = time.monotonic()
                time.sleep(0.001)
        return result

    return stop_too


def arm(point: str) -> None:
    """Have this process die at a point."""
    if point == "taken":
        items.take_due = dying(items.take_due)
    elif point == STOPPED:
        items.take_due = stopping(items.take_due)
    elif point == "connected":
        smtplib.SMTP.data = dying(smtplib.SMTP.data, before=True)  # type: ignore[method-assign]
    elif point == "data sent":
        # The second of two answers is that to the whole message.
        asked = smtplib.SMTP.getreply

        def data(self: smtplib.SMTP, message: Any) -> Any:
            self.getreply = lambda: (asked(self), setattr(self, "getreply", die))[0]  # type: ignore[method-assign]
            return original(self, message)

        original, smtplib.SMTP.data = smtplib.SMTP.data, data  # type: ignore[method-assign]
    elif point == "acknowledged":
        items.mark_sent = dying(items.mark_sent, before=True)
    elif point == "marked":
        items.mark_sent = dying(items.mark_sent)


def telling(work: Callable[..., Any]) -> Callable[..., Any]:
    """What tells which item it has taken."""

    def take_due(*args: Any) -> Any:
        item = work(*args)
        if item is not None:
            os.write(1, f"took {os.getpid()} {item['_id']}\n".encode())
        return item

    return take_due


def work(config: dict[str, Any], point: str) -> None:
    """Send what is due until the end."""
    mongoengine.connect(**connection.options(config))
    items.take_due = telling(items.take_due)
    arm(point)
    (sender,) = chores.senders(config)
    transport: Smtp = sender.transport  # type: ignore[attr-defined]
    transport.seconds = LEASE
    with hearing() as lookout:
        chore = chores.sending(sender, lookout.of_kind)
        while True:
            chore.work(Alone())


def fork_workers(work: Callable[[dict[str, Any], str], None]) -> None:
    """Fork a worker for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    config = settings.load(os.environ)
    # Whoever is killed within a line of the log leaves half of it, and what is said next would be its other half.
    configure_log(config)
    workers = []
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                work(config, line.strip())
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        workers.append(pid)
        os.write(1, f"started {pid}\n".encode())
    for pid in workers:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    fork_workers(work)
