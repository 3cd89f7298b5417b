"""Upkeep: how fast backup, restore and migration are, what memory they take, and what a reader notices meanwhile.

`python -m bench.upkeep --notes 200000` starts a MongoDB and a service of their own and prints the table of the docs.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from pymongo import MongoClient

from service.core.clock import now
from service.serve import mongod
from service.serve.ports import free_port

ROOT = Path(__file__).parent.parent
PASSWORD = "three green boats"
BODY = "the quick brown fox jumps over the lazy dog and finds the yard in front of the house where everybody meets "


@dataclass
class Row:
    """One command: how long it took, the most memory of its process, and what a reader had to wait beside it."""

    name: str
    seconds: float
    peak: float
    waits: list[float]

    def text(self, size: float) -> str:
        """Return the line of the table; `size` is in MB of BSON."""
        rate = f"{size / self.seconds:.0f}" if size else ""
        times = statistics.quantiles(self.waits, n=100) if len(self.waits) > 1 else [0.0] * 99
        peak = f"{self.peak:.0f} MB" if self.peak else ""
        return f"| {self.name} | {self.seconds:.1f} | {rate} | {peak} | {times[49]:.1f} | {times[98]:.1f} |"


def fill(database: Any, notes: int, owner: str) -> float:
    """Store so many notes of about half a kilobyte; return their size in MB."""
    moment = now()
    for first in range(0, notes, 5000):
        rows = [
            {
                "_id": f"n{number:08}",
                "title": f"note number {number}",
                "body": random.randbytes(120).hex() + BODY,
                "tags": ["a", f"t{number % 100}"],
                "pinned": False,
                "priority": number % 6,
                "checklist": [],
                "owner": owner,
                "readers": [],
                "writers": [],
                "access": [f"o:{owner}"],
                "created_at": moment,
                "updated_at": moment,
                "revision": 1,
            }
            for number in range(first, min(notes, first + 5000))
        ]
        database["notes"].insert_many(rows, ordered=False)
    return float(database.command("collStats", "notes")["size"]) / 1e6


class Reader(threading.Thread):
    """A phone that reads notes, 100 in a second, for as long as it is told."""

    def __init__(self, base: str, headers: dict[str, str], notes: int) -> None:
        super().__init__()
        self.base, self.headers, self.notes = base, headers, notes
        self.waits: list[float] = []
        self.ended = threading.Event()

    def run(self) -> None:
        """Read, and note how long each answer took, in ms."""
        with requests.Session() as session:
            session.headers.update(self.headers)
            while not self.ended.wait(0.01):
                begun = time.perf_counter()
                number = len(self.waits) * 7919 % self.notes
                session.get(f"{self.base}/v1/notes/n{number:08}", timeout=30).raise_for_status()
                self.waits.append((time.perf_counter() - begun) * 1000)


@contextmanager
def read_beside(base: str, headers: dict[str, str], notes: int) -> Iterator[Reader]:
    """Read while the block runs."""
    reader = Reader(base, headers, notes)
    reader.start()
    try:
        yield reader
    finally:
        reader.ended.set()
        reader.join()


def command(uri: str, *words: str) -> tuple[float, float]:
    """Run a `flask` command; return the seconds and the peak of its memory in MB."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "run", *words],
        cwd=ROOT,
        env={**os.environ, "SERVICE_ENV": "test", "SERVICE_MONGODB_URI": uri},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{words[0]} ended with {process.returncode}")
    return time.monotonic() - begun, usage.ru_maxrss / 1024


@contextmanager
def service(uri: str, folder: Path) -> Iterator[str]:
    """Serve with one worker; yield the address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "run.py", "--only", "api", "--port", str(port), "--workers", "1"],
        cwd=ROOT,
        env={**os.environ, "SERVICE_ENV": "test", "SERVICE_MONGODB_URI": uri, "SERVICE_VAR": str(folder / "var")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                requests.get(f"{base}/health/ready", timeout=2).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.05)
        yield base
    finally:
        process.terminate()
        process.wait(30)


def sign_up(base: str) -> tuple[str, dict[str, str]]:
    """Return the id of a new account and the headers of its requests."""
    account = {"username": "mina", "password": PASSWORD}
    id_ = requests.post(f"{base}/v1/accounts", json=account, timeout=10).json()["id"]
    token = requests.post(f"{base}/auth", json=account, timeout=10).json()["access_token"]
    return id_, {"Authorization": f"Bearer {token}"}


def measure(notes: int, folder: Path) -> tuple[float, int, list[Row]]:
    """Return the MB of BSON, the bytes of the backup, and a row for each command."""
    rows: list[Row] = []
    with mongod.LocalServer.start(folder / "mongodb", cache_gb=None) as server, MongoClient[Any](server.uri) as client:
        with service(server.uri, folder) as base:
            owner, headers = sign_up(base)
            size = fill(client.get_default_database(), notes, owner)
            with read_beside(base, headers, notes) as reader:
                time.sleep(5)
            rows.append(Row("nothing", 5, 0, reader.waits))
            for name, words in (
                ("`flask migrate run`", ["migrate", "run"]),
                ("`flask migrate run`, nothing to do", ["migrate", "run"]),
                ("`flask backup`", ["backup", str(folder / "backup")]),
            ):
                with read_beside(base, headers, notes) as reader:
                    seconds, peak = command(server.uri, *words)
                rows.append(Row(name, seconds, peak, reader.waits))
        other = server.uri.replace("/madang?", "/restored?")
        rows.append(Row("`flask restore`, all indexes made", *command(other, "restore", str(folder / "backup")), []))
        if client["restored"]["notes"].count_documents({}) != notes:
            raise RuntimeError("notes are missing")
    return size, (folder / "backup").stat().st_size, rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=200_000)
    notes = parser.parse_args().notes
    with tempfile.TemporaryDirectory() as folder:
        size, stored, rows = measure(notes, Path(folder))
    print(f"{notes:,} notes, {size:.0f} MB of BSON; the file has {stored / 1e6:.0f} MB\n")
    print("| while this runs | seconds | MB/s | peak | a read, median ms | p99 ms |\n|---|---|---|---|---|---|")
    for row in rows:
        print(row.text(size if row.peak else 0))


if __name__ == "__main__":
    main()
