"""Growth: whether a request takes as long with two million records as with ten thousand, and a worker stays small."""

import os
import statistics
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import check, compare, contenders, data, load
from bench.contenders import MADANG, Contender
from bench.data import Dataset
from bench.processes import Process

SIZES = (10_000, 100_000, 2_000_000)
ACCOUNTS = 5
"""Few, so that each account has a hundred pages of twenty even in the smallest set."""
PAGES = 100
ROUNDS = 7
SECONDS = 2
REQUESTS = 200_000
LARGE = 100_000
"""Characters of a large record's body: the most that a note may have."""
EXPORTED = 20_000
WITH_LARGE, WITH_MANY = data.ACCOUNTS, data.ACCOUNTS + 1
"""Accounts beside those that get load."""


def sized(size: int) -> Contender:
    """Return Madang on a database of its own."""
    return replace(MADANG, name=f"madang-{size}", database=f"madang_{size}")


# --- Time ------------------------------------------------------------------------------------------------------------


def run() -> list[dict[str, Any]]:
    """Return the median milliseconds of get, list and a page 100 deep at each size; the sizes take turns."""
    rows: list[dict[str, Any]] = []
    with compare.mongodb() as (uri, folder, _), ExitStack() as stack:
        cells = {size: stack.enter_context(grown(size, uri, folder)) for size in SIZES}
        for turn in range(-1, ROUNDS):
            for workload in ("get", "list", "page"):
                for size, (process, facts) in cells.items():
                    # A cursor serves the account that it was made for: the first one.
                    kind, asked = ("raw", facts | {"accounts": 1}) if workload == "page" else (workload, facts)
                    sample = load.measure(process, kind, asked, folder, 1, SECONDS)
                    if sample.wrong:
                        raise check.WrongAnswer(f"{size} records: {sample.wrong} answers to {workload} are errors")
                    rows += [{"size": size, "workload": workload, "p50": sample.p50, "cpu": sample.cpu}] * (turn >= 0)
            print(f"round {turn + 1} of {ROUNDS}, load average {os.getloadavg()[0]:.1f}", flush=True)
    return rows


@contextmanager
def grown(size: int, uri: str, folder: Path) -> Iterator[tuple[Process, dict[str, Any]]]:
    """Seed and run Madang with as many records, and yield it with what to ask it."""
    print(f"seed {size} records", flush=True)
    contender, dataset = sized(size), Dataset(size, ACCOUNTS)
    contenders.seed(contender, uri, dataset)
    with compare.started(contender, uri, folder) as process:
        check.reading(contender, process, dataset)
        facts = contender.facts(uri, "get", dataset)
        facts["paths"] = deep_pages(process, 0)
        yield process, facts


def deep_pages(process: Process, account: int) -> list[str]:
    """Return the path of the page that a client comes to after a hundred of them, having checked that none repeats."""
    path, seen = f"{MADANG.collection}?sort=-updated_at", set()
    token = data.token(account)
    cursor = ""
    for _ in range(PAGES):
        address = path + cursor
        status, body = check.ask(process, "GET", address, token)
        check.expect(MADANG, "the status of a page", status, 200)
        seen |= {note["id"] for note in body["items"]}
        cursor = f"&cursor={urllib.parse.quote(body['next'] or '')}"
    check.expect(MADANG, "the number of notes on a hundred pages", len(seen), PAGES * 20)
    return [address]


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[int, tuple[float, float]]]:
    """Return by workload and size the median p50 and its ratio to that of the smallest size."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for workload in ("get", "list", "page"):
        middle = {
            size: statistics.median(
                row["p50"] for row in rows if (int(row["size"]), row["workload"]) == (size, workload)
            )
            for size in SIZES
        }
        found[workload] = {size: (value, value / middle[SIZES[0]]) for size, value in middle.items()}
    return found


# --- Memory ----------------------------------------------------------------------------------------------------------


def memory() -> dict[str, Any]:
    """Return the megabytes of a worker over many requests, and what an export and a list of large records add."""
    dataset = Dataset()
    with compare.mongodb() as (uri, folder, _):
        contenders.seed(MADANG, uri, dataset)
        make_large(uri)
        with compare.started(MADANG, uri, folder) as process:
            over_time = list(worn(process, uri, folder, dataset))
            return {"requests": over_time, "large": growth_of(process)}


def make_large(uri: str) -> None:
    """Give one account a hundred notes of the greatest length, and another very many small ones."""
    moment = data.START.replace(year=2030)
    large = [
        {"number": 10**9 + n, "owner": data.account_id(WITH_LARGE), "updated_at": moment, **data.content(n)}
        for n in range(100)
    ]
    many = (
        {"number": 2 * 10**9 + n, "owner": data.account_id(WITH_MANY), "updated_at": moment, **data.content(n)}
        for n in range(EXPORTED)
    )
    with contenders.database_of(MADANG.where(uri)) as base:
        base["notes"].insert_many([MADANG.stored({**note, "body": "x" * LARGE}) for note in large])
        for batch in contenders.in_batches(map(MADANG.stored, many)):
            base["notes"].insert_many(batch)


def worn(process: Process, uri: str, folder: Path, dataset: Dataset) -> Iterator[dict[str, float]]:
    """Yield the number of requests so far and the megabytes, until there were enough."""
    done = 0
    deadline = time.monotonic() + 1800
    workloads = ("session", "get", "list", "create", "patch")
    while done < REQUESTS and time.monotonic() < deadline:
        for workload in workloads:
            facts = MADANG.facts(uri, workload, dataset)
            done += load.measure(process, workload, facts, folder, 32, 4).count
        MADANG.clean(uri)
        yield {"requests": done, "megabytes": process.memory()}


def growth_of(process: Process) -> dict[str, float]:
    """Return by request the megabytes that it adds to the worker at its peak."""
    paths = {
        "a list of 100 records of 100 kB": (f"{MADANG.collection}?limit=100&sort=-updated_at", WITH_LARGE),
        f"an export of {EXPORTED // 1000},000 records": ("/v1/accounts/me/export", WITH_MANY),
    }
    return {name: peak(process, path, account) for name, (path, account) in paths.items()}


def peak(process: Process, path: str, account: int) -> float:
    """Return how many megabytes more than before the worker has at most while it answers."""
    before = process.memory()
    process.forget_peak()
    for _ in range(3):
        status, _ = check.ask(process, "GET", path, data.token(account))
        check.expect(MADANG, f"the status of {path}", status, 200)
    return process.peak() - before


# --- Workers ---------------------------------------------------------------------------------------------------------


def workers() -> list[dict[str, Any]]:
    """Return the throughput of one and of two workers, on one core and on both."""
    rows: list[dict[str, Any]] = []
    with compare.mongodb() as (uri, folder, _), ExitStack() as stack:
        contenders.seed(MADANG, uri, Dataset())
        places = {
            (count, cores): stack.enter_context(compare.started(with_workers(count, cores), uri, folder, cores))
            for count, cores in ((1, "0"), (2, "0"), (2, "0,1"))
        }
        for turn in range(-1, 5):
            for workload in ("get", "create"):
                for (count, cores), process in places.items():
                    facts = MADANG.facts(uri, workload, Dataset())
                    sample = load.measure(process, workload, facts, folder, 32, 3)
                    MADANG.clean(uri)
                    row = {"workers": count, "cores": cores, "workload": workload}
                    rows += [{**row, "rate": sample.rate, "cpu": sample.cpu}] * (turn >= 0)
    return rows


def with_workers(count: int, cores: str) -> Contender:
    """Return Madang with as many workers; each starts on the same database."""
    command = (*MADANG.command, "--workers", str(count))
    return replace(MADANG, name=f"madang-{count}-{cores}", database="madang", command=command)
