"""The comparison: every workload on every server in turn, as ratios to the bare callable of the same round."""

import os
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pymongo import MongoClient

from bench import check, contenders, lineup, load
from bench.contenders import Contender
from bench.data import Dataset
from bench.load import Sample
from bench.processes import LOAD_CORE, Process, cpu_of, serving
from service.mongo.raw import Raw
from service.serve.mongod import EVICTION, PAST_SECONDS, LocalServer
from service.upkeep.past import PAST_PARAMETER, USUAL_SECONDS

WARM_UP = 1
FORGIVEN = 0.002
"""Share of answers under load that may be errors: Eve refuses one of two patches of a note that come at once."""
DATASET = Dataset()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: rounds of `seconds` each for every workload, number of connections and server."""

    names: Sequence[str]
    workloads: Sequence[str] = load.WORKLOADS
    connections: Sequence[int] = (32, 1)
    rounds: int = 5
    seconds: int = 4
    cache_gb: float | None = None
    """MongoDB's cache in gigabytes; None for its own choice, half of the memory."""


class Database(NamedTuple):
    """The MongoDB of a run: its URI, its process, and a folder for what the run keeps."""

    uri: str
    folder: Path
    pid: int


Parameters = Mapping[str, int | str]
"""What MongoDB does, by the names of its parameters."""


@dataclass
class Field:
    """The servers that run, on one MongoDB."""

    database: Database
    servers: dict[str, tuple[Contender, Process]] = field(default_factory=dict)


USUAL: Parameters = {
    PAST_PARAMETER: USUAL_SECONDS,
    "wiredTigerEngineRuntimeConfig": ",".join(
        (
            "eviction_dirty_target=5",
            "eviction_dirty_trigger=20",
            "eviction_updates_target=0",
            "eviction_updates_trigger=0",
        )
    ),
}
"""What a MongoDB has that is started without options: by these all servers are compared."""
OURS: Parameters = {
    PAST_PARAMETER: PAST_SECONDS,
    "wiredTigerEngineRuntimeConfig": EVICTION,
}
"""What a MongoDB has that Madang starts."""


@contextmanager
def mongodb(cache_gb: float | None = None, parameters: Parameters = USUAL) -> Iterator[Database]:
    """Run a MongoDB on the core of the load, in a folder that goes away, for this process too.

    A small cache has it write changed pages again and again while it is measured, and not at checkpoints alone.
    """
    os.sched_setaffinity(0, {LOAD_CORE})
    with (
        TemporaryDirectory(prefix="madang-bench-") as folder,
        LocalServer.start(Path(folder) / "mongodb", cache_gb=cache_gb) as server,
    ):
        set_parameters(server.uri, parameters)
        yield Database(server.uri, Path(folder), server.pid)


def set_parameters(uri: str, parameters: Parameters) -> None:
    """Set parameters of a MongoDB that runs."""
    with MongoClient[Raw](uri) as client:
        for name, value in parameters.items():
            client.admin.command({"setParameter": 1, name: value})


@contextmanager
def lined_up(names: Sequence[str], cache_gb: float | None = None) -> Iterator[Field]:
    """Seed, start and check the servers; they run until the block ends."""
    chosen = lineup.chosen(names)
    with mongodb(cache_gb) as database, ExitStack() as stack:
        made = Field(database)
        uri, seeded = database.uri, set[str]()
        for contender in chosen:
            print(f"seed, start and check {contender.name}", flush=True)
            if contender.where(uri) not in seeded:
                stack.callback(contender.drop, uri)
                contenders.seed(contender, uri, DATASET)
                seeded.add(contender.where(uri))
            process = stack.enter_context(started(contender, uri, database.folder))
            check.check(contender, process, DATASET)
            contender.clean(uri)
            made.servers[contender.name] = (contender, process)
        yield made


def started(contender: Contender, uri: str, folder: Path, cores: str = "0") -> Any:
    """Return the context of a running server; its log goes to a file, as in production."""
    name = contender.name.replace("/", "_")
    environ = {**contender.environment(uri), "SERVICE_VAR": str(folder / f"var-{name}")}
    log = folder / f"{name}.log"
    return serving(contender.filled(uri), environ, contender.item % "x", log, cores, folder=contender.folder)


def run(plan: Plan, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Return one row for each sample; servers take turns within a round, so that a disturbance meets all of them.

    Each time in another order: who comes after a server that asks no MongoDB would always find a rested one.
    """
    rows, chance = [], random.Random(0)
    with lined_up(plan.names, plan.cache_gb) as place:
        cells = [(workload, connections) for workload in plan.workloads for connections in plan.connections]
        for turn in range(-1, plan.rounds):
            for workload, connections in cells:
                for name in chance.sample(plan.names, len(plan.names)):
                    seconds = WARM_UP if turn < 0 else plan.seconds
                    sample = one(place, name, workload, connections, seconds)
                    if turn >= 0:
                        rows.append(as_row(turn, name, workload, connections, sample))
            say(f"round {turn + 1} of {plan.rounds}, load average {os.getloadavg()[0]:.1f}")
    return rows


def one(place: Field, name: str, workload: str, connections: int, seconds: int) -> Sample:
    """Return one sample, and remove what it made. Raises `WrongAnswer` where a server failed under load."""
    contender, process = place.servers[name]
    database = place.database
    facts = contender.facts(database.uri, workload, DATASET)
    before = cpu_of(database.pid)
    sample = load.measure(process, workload, facts, database.folder, connections, seconds)
    sample = replace(sample, database=(cpu_of(database.pid) - before) / max(sample.count, 1) * 1e6)
    if workload in ("create", "session"):
        contender.clean(database.uri)
    if sample.wrong > sample.count * FORGIVEN:
        raise check.WrongAnswer(f"{name}: {sample.wrong} of {sample.count} answers to {workload} are errors")
    return sample


def as_row(turn: int, name: str, workload: str, connections: int, sample: Sample) -> dict[str, Any]:
    """Return one sample with what it is a sample of."""
    return {"round": turn, "name": name, "workload": workload, "connections": connections, **asdict(sample)}


# --- What comes of it ------------------------------------------------------------------------------------------------

MIDDLE = ("rate", "cpu", "database", "p50", "p99")
"""The figures whose medians are shown; kept results may be older than one of them."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A workload on a server: medians over the rounds, and the ratio to bare with its lowest and highest.

    `cpu` is that of the server and `database` that of MongoDB, in µs per answer.
    """

    rate: float
    ratio: float
    low: float
    high: float
    cpu: float
    cpu_ratio: float
    database: float
    p50: float
    p99: float


def cell(rows: Sequence[dict[str, Any]], name: str, workload: str, connections: int, yardstick: str = "bare") -> Cell:
    """Return the summary of one cell: the ratio is the median of those to the `yardstick` within each round."""
    own, bare = (
        {row["round"]: row for row in rows if (row["name"], row["workload"], row["connections"]) == wanted}
        for wanted in ((name, workload, connections), (yardstick, workload, connections))
    )
    ratios = [own[turn]["rate"] / bare[turn]["rate"] for turn in own]
    middle = {key: statistics.median(row.get(key, 0.0) for row in own.values()) for key in MIDDLE}
    return Cell(
        ratio=statistics.median(ratios),
        low=min(ratios),
        high=max(ratios),
        cpu_ratio=statistics.median(bare[turn]["cpu"] / own[turn]["cpu"] for turn in own),
        **middle,
    )
