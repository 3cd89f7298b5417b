"""How a pull of twenty changes grows with what there is: CPU of the server and MongoDB, of few and of many records."""

import itertools
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import requests
from bson import Int64

from bench import changes, check, compare, contenders, data
from bench.contenders import MADANG, Contender
from bench.growth import ACCOUNTS, SIZES
from bench.processes import Process
from bench.search import cpu_of_connections
from service.changes.compaction import RecordState, of_record
from service.changes.tail import time_of
from service.core.clock import now
from service.mongo.raw import Raw

PLACES = 50
"""From where an account pulls: places that are spread over all that it has."""
AT_ONCE = 20
PULLS = 400
ROUNDS = 9
GOAL = 1.15


def run() -> dict[str, Any]:
    """Return the median µs of CPU of a pull at each size, and the last relative to the first; the sizes take turns."""
    costs: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    with compare.mongodb() as (uri, folder, pid), ExitStack() as stack:
        cells = {size: stack.enter_context(filled(size, uri, folder)) for size in SIZES}
        for turn in range(-1, ROUNDS):
            for size, (api, paths) in cells.items():
                costs[size] += [pulled(api, paths, pid)] * (turn >= 0)
            print(f"round {turn + 1} of {ROUNDS}", flush=True)
    ratios = [sum(last) / sum(first) for first, last in zip(costs[SIZES[0]], costs[SIZES[-1]], strict=True)]
    server, database = (
        {f"{size:,}": statistics.median(cost[part] for cost in found) for size, found in costs.items()}
        for part in (0, 1)
    )
    found = {"server": server, "database": database, "growth": statistics.median(ratios), "ratios": sorted(ratios)}
    print(found, flush=True)
    return found


def pulled(api: Process, paths: list[str], mongod: int) -> tuple[float, float]:
    """Return the µs of CPU of the server and of MongoDB's connections for each of some pulls."""
    session = signed_in()
    before = api.cpu(), cpu_of_connections(mongod)
    for path in itertools.islice(itertools.cycle(paths), PULLS):
        answer = session.get(api.base + path)
        if answer.status_code != 200 or len(answer.json()["items"]) != AT_ONCE:
            raise check.WrongAnswer(f"{path}: {answer.status_code} {answer.text[:200]}")
    return (api.cpu() - before[0]) / PULLS * 1e6, (cpu_of_connections(mongod) - before[1]) / PULLS * 1e6


@contextmanager
def filled(size: int, uri: str, folder: Path) -> Iterator[tuple[Process, list[str]]]:
    """Run a server with as many records, all of them recorded, and yield it with the paths of pulls."""
    contender = replace(changes.UNBOUNDED, name=f"pulls-{size}", database=f"pulls_{size}")
    print(f"fill {size:,}", flush=True)
    fill(contender, uri, size)
    with changes.working(uri, folder, contender), compare.started(contender, uri, folder) as api:
        yield api, [f"/v1/changes?limit={AT_ONCE}&cursor={cursor}" for cursor in places(api, size // ACCOUNTS)]


def signed_in() -> requests.Session:
    """Return the session of the first account; to look for proxies would be a part of what is measured."""
    found = requests.Session()
    found.trust_env = False
    found.headers["Authorization"] = f"Bearer {data.token(0)}"
    return found


def places(api: Process, own: int) -> list[str]:
    """Return cursors spread over all that the first account has; each has a page behind it."""
    session = signed_in()
    found, asked, step = [], {}, own // PLACES
    page = min(step, 1000)
    for at in range(0, own - step, page):
        answer = session.get(f"{api.base}/v1/changes", params={"limit": str(page), **asked})
        check.expect(MADANG, "the status of a pull", answer.status_code, 200)
        asked = {"cursor": answer.json()["cursor"]}
        found += [asked["cursor"]] * (at // step != (at + page) // step)
    return found


def fill(contender: Contender, uri: str, size: int) -> None:
    """Store small records, and the order as a recorder would have made it of them; then the indexes, all at once."""
    contender.drop(uri)
    own = contender.where(uri)
    with contenders.database_of(own) as base, changes.recording(own) as recording:
        for batch in contenders.in_batches(records(size)):
            base["notes"].insert_many(batch, ordered=False)
        recorder, lease = recording.recorder, recording.lease
        lease.take()
        recorder.begin(lease)
        first = base["leases"].find_one({"_id": lease.name})["state"]["seq"] + 1
        end = now() + timedelta(days=30)
        made = (
            of_record("notes", record["_id"], RecordState.of(record), None, Int64(seq), end)
            for seq, record in enumerate(records(size), first)
        )
        for batch in contenders.in_batches(made):
            base["changes"].insert_many(batch, ordered=False)
            lease.renew()
        token = recorder.opened(None).token
        said = {"state.seq": Int64(first + size - 1), "state.comparing": None, "state.token": token}
        recorder.change(lease, {"$set": {**said, "state.clock": time_of(token)}})
    contender.prepare(own)


def records(size: int) -> Iterator[Raw]:
    """Yield notes of a few words, dealt out to the accounts in turn."""
    samples = [contenders.as_record({**note(n), "number": n}) for n in range(ACCOUNTS)]
    for number in range(size):
        stamp = data.START + timedelta(seconds=number)
        yield {**samples[number % ACCOUNTS], "_id": data.note_id(number), "updated_at": stamp}


def note(account: int) -> data.Note:
    """Return what there is of each note of an account: little, for there are many."""
    few = {name: data.content(account)[name] for name in ("title", "pinned", "priority")}
    return {**few, "owner": data.account_id(account), "updated_at": data.START}
