"""What the options bring with which Madang starts a MongoDB of its own: patches that go on for long, beside a worker.

One MongoDB is set to either way in turns, while it runs. Its cache is that of `make serve`.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench import check, compare, contenders, load
from bench.changes import UNBOUNDED, working
from bench.contenders import MADANG
from bench.data import Dataset
from bench.processes import cpu_of

CACHE_GB = 0.25
ROUNDS = 4
SECONDS = 40
"""Of a turn: longer than what was overwritten is kept by our own MongoDB."""
WAYS = {"as it is by itself": compare.USUAL, "as Madang starts it": compare.OURS}


def run() -> list[dict[str, Any]]:
    """Return one row for each turn: patches a second, their p50 and p99 in ms, and µs of MongoDB's CPU for each."""
    rows = []
    with compare.mongodb(CACHE_GB) as (uri, folder, pid):
        contenders.seed(MADANG, uri, Dataset())
        facts = MADANG.facts(uri, "patch", Dataset())
        with working(uri, folder), compare.started(UNBOUNDED, uri, folder) as api:
            for turn in range(ROUNDS):
                for way, parameters in WAYS.items():
                    compare.set_parameters(uri, parameters)
                    before = cpu_of(pid)
                    sample = load.measure(api, "patch", facts, folder, 32, SECONDS)
                    cpu = (cpu_of(pid) - before) / max(sample.count, 1) * 1e6
                    if sample.wrong:
                        raise check.WrongAnswer(f"{sample.wrong} of {sample.count} answers are errors")
                    rows.append(
                        {
                            "round": turn,
                            "way": way,
                            "rate": sample.rate,
                            "p50": sample.p50,
                            "p99": sample.p99,
                            "cpu": cpu,
                        }
                    )
                    print(rows[-1], flush=True)
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the medians of each way."""
    names = ("rate", "p50", "p99", "cpu")
    return {
        way: {name: statistics.median(row[name] for row in rows if row["way"] == way) for name in names} for way in WAYS
    }
