"""Workers that a test starts from one program, so that each is there at once, and kills."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from flask import Flask
from mongoengine.connection import get_connection

from service.documents import OutboxItem
from tests.conftest import ROOT

PATIENCE = 60.0


class Workers:
    """The program that starts workers, and what they have said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pids: Queue[int] = Queue()
        self.taken: dict[int, str] = {}
        self.others: list[str] = []
        """What was said beside."""
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for said in self.process.stdout:
            match said.split():
                case ["started", pid]:
                    self.pids.put(int(pid))
                case ["took", pid, item]:
                    self.taken[int(pid)] = item
                case _:
                    self.others.append(said)

    def start(self, point: str = "-") -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{point}\n")
        self.process.stdin.flush()
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(Empty):
                return self.pids.get(timeout=1.0)
            assert self.process.poll() is None, f"what starts workers has ended with {self.process.returncode}"
        raise AssertionError(f"no worker within {PATIENCE:g} s; said was {self.others[-5:]}")

    def die_at(self, points: Iterable[str]) -> dict[str, str]:
        """Have one worker after the other die at a point; what each had taken, by the point."""
        died = {}
        for point in points:
            pid = self.start(point)
            wait_for(lambda pid=pid: is_gone(pid) and pid in self.taken)  # type: ignore[misc]
            died[point] = self.taken[pid]
        return died

    def kill_by_chance(self, kills: int, most: float, put: Callable[[], object]) -> None:
        """Put in something to do, and kill one of two workers at most so many seconds later, again and again."""
        by_chance = random.Random(kills)
        running = [self.start() for _ in range(2)]
        for number in range(kills):
            put()
            time.sleep(by_chance.uniform(0.0, most))
            with suppress(ProcessLookupError):
                os.kill(running[number % 2], signal.SIGKILL)
            running[number % 2] = self.start()


@contextmanager
def working(app: Flask, module: str, more: Mapping[str, str]) -> Iterator[Workers]:
    """The program of a module, which forks workers, with more variables of its environment."""
    environ = {
        **os.environ,
        "SERVICE_ENV": "test",
        "SERVICE_MONGODB_URI": app.config["MONGODB_URI"],
        "SERVICE_LOG_LEVEL": "CRITICAL",
        **more,
    }
    command = [sys.executable, "-m", module]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, env=environ, **pipes)
    workers = Workers(process)
    try:
        yield workers
    finally:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(PATIENCE)
        workers.reader.join()
        process.stdout.close()  # type: ignore[union-attr]


def end_transactions_after(seconds: int) -> int:
    """Let MongoDB end the transactions that nobody ends; return after how many seconds it did so before."""
    admin, name = get_connection().admin, "transactionLifetimeLimitSeconds"
    before: int = admin.command({"getParameter": 1, name: 1})[name]
    admin.command({"setParameter": 1, name: seconds})
    return before


@contextmanager
def transactions_ended_after(seconds: int) -> Iterator[None]:
    """A while in which it does so; by itself it takes a minute."""
    before = end_transactions_after(seconds)
    try:
        yield
    finally:
        end_transactions_after(before)


def wait_for(ready: Callable[[], bool], left: Callable[[], int] = lambda: 0) -> None:
    """Wait, as long as what is left becomes less now and then."""
    until, least = time.monotonic() + PATIENCE, left()
    while not ready():
        if (now_left := left()) < least:
            until, least = time.monotonic() + PATIENCE, now_left
        assert time.monotonic() < until
        time.sleep(0.05)


def waiting() -> int:
    """How many items of the outbox wait."""
    return int(OutboxItem._get_collection().count_documents({"state": "waiting"}))


def is_stopped(pid: int) -> bool:
    """Whether a process was told to stop, and has."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
