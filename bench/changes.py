"""The order of changes: how fast it is recorded, how soon a write is seen, and what a pull costs."""

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import mongoengine
import requests
from prometheus_client.parser import text_string_to_metric_families

from bench import check, compare, contenders, data, load
from bench.contenders import MADANG, Contender, madang_settings
from bench.data import Dataset
from bench.processes import LOAD_CORE, Process, serving
from service.documents import RECORDS
from service.model.registry import Registry
from service.mongo import connection
from tests.recording import Recording

ROUNDS = 5
SECONDS = 4
RECORDED = 50_000
"""Changes that are recorded in one go."""
WRITES = 200
"""Writes a second beside which their visibility is measured."""
FIRST = 100_000
"""Records of a first pull."""
GOALS = {
    "recorded a second": 5000,
    "visible p50 ms": 50,
    "visible p99 ms": 200,
    "pull with nothing new / get": 0.5,
    "create beside the recorder": 0.9,
    "patch beside the recorder": 0.9,
}

UNBOUNDED = replace(MADANG, environ={**MADANG.environ, "SERVICE_RATELIMIT_LIST_SECONDS": "100000"})
"""The server for what one account alone pulls, more than it may."""


def run() -> dict[str, Any]:
    """Return all figures.

    What changes all records at once comes last: MongoDB keeps for a while what was before
    (`minSnapshotHistoryWindowInSeconds`), and what is measured beside that costs more.
    """
    with compare.mongodb(parameters=compare.OURS) as (uri, folder, _):
        contenders.seed(MADANG, uri, Dataset(RECORDED))
        found: dict[str, Any] = seen(uri, folder)
        found |= beside(uri, folder)
        found |= first(uri, folder)
        found |= recorded(uri)
    return found


# --- The recorder ----------------------------------------------------------------------------------------------------


@contextmanager
def recording(where: str) -> Iterator[Recording]:
    """Yield a recorder in this process, on the database of a contender."""
    settings = madang_settings(where)
    mongoengine.connect(**connection.options(dict(settings)))
    found = Recording(Registry(RECORDS), dict(settings), timedelta(days=30))
    try:
        yield found
    finally:
        # Else no worker could go on with it for as long as it lasts.
        found.lease.release()
        found.close()
        connection.disconnect()


def recorded(uri: str) -> dict[str, float]:
    """Return how many changes one core records and compares in a second; MongoDB has the other."""
    contenders.seed(MADANG, uri, Dataset(RECORDED))
    os.sched_setaffinity(0, {0})
    try:
        with recording(MADANG.where(uri)) as recorder:
            begun = time.monotonic()
            recorder.catch_up()
            compared = RECORDED / (time.monotonic() - begun)
            rates = []
            for _ in range(3):
                with contenders.database_of(MADANG.where(uri)) as base:
                    base["notes"].update_many({}, {"$inc": {"revision": 1}})
                begun = time.monotonic()
                recorder.catch_up()
                rates.append(RECORDED / (time.monotonic() - begun))
    finally:
        os.sched_setaffinity(0, {LOAD_CORE})
    print(f"recorded {rates}, compared {compared:.0f} a second", flush=True)
    return {"recorded a second": statistics.median(rates), "compared a second": compared}


@contextmanager
def working(uri: str, folder: Path, contender: Contender = MADANG) -> Iterator[Process]:
    """Run a worker on the database of a contender, on either core."""
    command = ("{python}", "run.py", "--only", "worker", "--port", "{port}")
    name = f"worker-{contender.name}"
    worker = replace(contender, name=name, database=contender.database or contender.name, command=command)
    environ = {**worker.environment(uri), "SERVICE_VAR": str(folder / f"var-{name}")}
    with serving(worker.filled(uri), environ, "/health/live", folder / f"{name}.log", "0,1") as process:
        until_ready(process)
        yield process


def until_ready(worker: Process) -> None:
    """Wait until a worker has recorded all that there is, and told of it; raises `RuntimeError` where it does not."""
    for _ in range(1800):
        if requests.get(f"{worker.base}/health/ready", timeout=10).status_code == 200:
            # Who goes through the order looks at it four times a second.
            time.sleep(0.5)
            if not behind(worker):
                return
        time.sleep(0.5)
    raise RuntimeError("the worker does not get ready")


def behind(worker: Process) -> float:
    """Return how many numbers of the order are left to those who go through it."""
    told = text_string_to_metric_families(requests.get(f"{worker.base}/metrics", timeout=10).text)
    return sum(sample.value for family in told for sample in family.samples if family.name == "madang_followed_behind")


# --- What a client waits for -----------------------------------------------------------------------------------------


def seen(uri: str, folder: Path) -> dict[str, float]:
    """Return after how many milliseconds a write is in a pull, and pulls with nothing new beside gets."""
    with working(uri, folder), compare.started(UNBOUNDED, uri, folder) as api:
        times: list[float] = []
        threads = []
        for number in range(4):
            threads.append(threading.Thread(target=write_and_pull, args=(api, number, times)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        times.sort()
        found = {
            "visible p50 ms": 1000 * times[len(times) // 2],
            "visible p99 ms": 1000 * times[len(times) * 99 // 100],
        }
        print(found, flush=True)
        return {**found, **idle(api, uri, folder)}


def write_and_pull(api: Process, account: int, times: list[float]) -> None:
    """Write a part of the load, and pull after each write what has to be in it."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {data.token(account)}"
    cursor = followed(session, api, "")
    begun = time.monotonic()
    for number in range(WRITES // 4 * 10):
        time.sleep(max(0.0, begun + number * 4 / WRITES - time.monotonic()))
        made = session.post(f"{api.base}/v1/notes", json={"title": data.CREATED})
        acknowledged = time.monotonic()
        answer = session.get(f"{api.base}/v1/changes", params={"cursor": cursor}).json()
        times.append(time.monotonic() - acknowledged)
        cursor = answer["cursor"]
        if made.json()["id"] not in [item["id"] for item in answer["items"]]:
            raise check.WrongAnswer("a pull does not have what was acknowledged")


def followed(session: requests.Session, api: Process, cursor: str) -> str:
    """Return the cursor behind all that there is."""
    while True:
        asked = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
        answer = session.get(f"{api.base}/v1/changes", params=asked)
        if answer.status_code == 503:
            time.sleep(0.5)
            continue
        cursor = answer.json()["cursor"]
        if not answer.json()["more"]:
            return cursor


def idle(api: Process, uri: str, folder: Path) -> dict[str, float]:
    """Return how many pulls with nothing new there are for each get by id, in the same round."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {data.token(0)}"
    path = f"/v1/changes?cursor={followed(session, api, '')}"
    facts = MADANG.facts(uri, "get", Dataset(RECORDED)) | {"paths": [path]}
    ratios = []
    for _ in range(ROUNDS):
        got = load.measure(api, "get", facts, folder, 32, SECONDS)
        pulled = load.measure(api, "raw", facts | {"accounts": 1}, folder, 32, SECONDS)
        if got.wrong or pulled.wrong:
            raise check.WrongAnswer(f"{got.wrong} gets and {pulled.wrong} pulls are errors")
        ratios.append(pulled.rate / got.rate)
        print(f"pulls {pulled.rate:.0f}/s, gets {got.rate:.0f}/s", flush=True)
    return {"pull with nothing new / get": statistics.median(ratios)}


def beside(uri: str, folder: Path) -> dict[str, float]:
    """Return what is left of the writes beside a recorder on the core of MongoDB and of the load."""
    rates: dict[tuple[str, bool], list[float]] = {}
    with compare.started(UNBOUNDED, uri, folder) as api:
        for _ in range(ROUNDS):
            for with_recorder in (False, True):
                with ExitStack() as stack:
                    if with_recorder:
                        stack.enter_context(working(uri, folder))
                    for workload in ("create", "patch"):
                        facts = MADANG.facts(uri, workload, Dataset(RECORDED))
                        sample = load.measure(api, workload, facts, folder, 32, SECONDS)
                        rates.setdefault((workload, with_recorder), []).append(sample.rate)
                MADANG.clean(uri)
    found = {}
    for workload in ("create", "patch"):
        pairs = zip(rates[workload, True], rates[workload, False], strict=True)
        found[f"{workload} beside the recorder"] = statistics.median(one / other for one, other in pairs)
    print(found, flush=True)
    return found


# --- What there is much of -------------------------------------------------------------------------------------------


def first(uri: str, folder: Path) -> dict[str, float]:
    """Return how many records of a first pull come in a second, and the megabytes that it adds to the server."""
    contenders.seed(MADANG, uri, Dataset(FIRST, 1))
    with working(uri, folder), compare.started(UNBOUNDED, uri, folder) as api:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {data.token(0)}"
        session.get(f"{api.base}/v1/notes")
        api.forget_peak()
        before, begun = api.memory(), time.monotonic()
        followed(session, api, "")
        found = {
            "records of a first pull a second": FIRST / (time.monotonic() - begun),
            "megabytes that it adds": api.peak() - before,
        }
    print(found, flush=True)
    return found
