"""What the options bring with which Madang starts a MongoDB of its own: patches that go on for long, beside a worker.

One MongoDB is set to either way in turns, while it runs. Its cache is that of `make serve`.
"""

from collections.abc import Sequence
from typing import Any

from bench import compare, contenders
from bench.changes import UNBOUNDED, working
from bench.compare import Cell

CACHE_GB = 0.25
ROUNDS = 4
SECONDS = 40
"""Of a turn: longer than what was overwritten is kept by our own MongoDB."""
WORKLOAD, CONNECTIONS = "patch", 32
USUALLY, OURS = "as it is by itself", "as Madang starts it"
WAYS = {USUALLY: compare.USUAL, OURS: compare.OURS}


def run() -> list[dict[str, Any]]:
    """Return one row for each turn; its name is the way in which MongoDB was set."""
    rows = []
    with compare.mongodb(CACHE_GB) as database:
        contenders.seed(UNBOUNDED, database.uri, compare.DATASET)
        with (
            working(database.uri, database.folder),
            compare.started(UNBOUNDED, database.uri, database.folder) as api,
        ):
            place = compare.Field(database, {UNBOUNDED.name: (UNBOUNDED, api)})
            for turn in range(ROUNDS):
                for way, parameters in WAYS.items():
                    compare.set_parameters(database.uri, parameters)
                    sample = compare.one(place, UNBOUNDED.name, WORKLOAD, CONNECTIONS, SECONDS)
                    rows.append(compare.as_row(turn, way, WORKLOAD, CONNECTIONS, sample))
                    print(rows[-1], flush=True)
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Cell]:
    """Return the medians of each way."""
    return {way: compare.cell(rows, way, WORKLOAD, CONNECTIONS, USUALLY) for way in WAYS}
