"""`python -m bench` compares and writes docs/performance.md; see `--help` for what else is measured."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import (
    changes,
    compare,
    files,
    growth,
    instructions,
    lineup,
    live,
    load,
    mongod,
    page,
    profiling,
    pulls,
    search,
    transfers,
    writes,
)
from bench.compare import Plan

RESULTS = Path(__file__).with_name("results")
THREADS = (1, 2, 4, 8, 16, 32)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = (
        "compare",
        "growth",
        "memory",
        "workers",
        "changes",
        "pulls",
        "threads",
        "instructions",
        "profile",
        "search",
        "writes",
        "mongod",
        "live",
        "files",
        "transfers",
        "all",
        "check",
        "page",
    )
    parser.add_argument("what", nargs="?", default="compare", choices=names)
    everybody = ",".join(contender.name for contender in lineup.ALL)
    servers = "some of these, or other source trees as `tree:<folder>`: %(default)s"
    parser.add_argument("--servers", default=everybody, help=servers)
    parser.add_argument("--workloads", default=",".join(load.WORKLOADS))
    parser.add_argument("--yardstick", default="bare", help="the server to which ratios are given (%(default)s)")
    parser.add_argument("--connections", default="32,1")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4, help="of each cell in each round")
    parser.add_argument(
        "--cache-gb", type=float, default=1, help="MongoDB's cache when servers are compared (%(default)s)"
    )
    parser.add_argument("--dry", action="store_true", help="only print: keep no results and write no page")
    return parser.parse_args(argv)


def comparison(options: argparse.Namespace) -> Any:
    """Compare the servers."""
    names = options.servers.split(",")
    plan = Plan(
        names=names if options.yardstick in names else [options.yardstick, *names],
        workloads=options.workloads.split(","),
        connections=[int(number) for number in options.connections.split(",")],
        rounds=options.rounds,
        seconds=options.seconds,
        cache_gb=options.cache_gb,
    )
    rows = compare.run(plan)
    print(page.plain(rows, options.yardstick))
    return rows


def threads(options: argparse.Namespace) -> Any:
    """Compare the numbers of threads of the bare callable and of Madang."""
    names = ["bare", *(f"{name}:{count}" for name in ("bare", "madang") for count in THREADS)]
    rows = compare.run(Plan(names, options.workloads.split(","), (32,), options.rounds, options.seconds))
    print(page.plain(rows))
    return rows


def checked(options: argparse.Namespace) -> None:
    """Start every server and check its answers."""
    with compare.lined_up(options.servers.split(",")):
        print("every answer is right")


MEASURES: dict[str, Callable[[argparse.Namespace], Any]] = {
    "compare": comparison,
    "growth": lambda _options: growth.run(),
    "memory": lambda _options: growth.memory(),
    "workers": lambda _options: growth.workers(),
    "changes": lambda _options: changes.run(),
    "pulls": lambda _options: pulls.run(),
    "instructions": lambda _options: instructions.run(),
    "profile": lambda _options: profiling.run(),
    "search": lambda _options: search.run(),
    "writes": lambda _options: writes.run(),
    "mongod": lambda _options: mongod.run(),
    "live": lambda _options: live.run(),
    "files": lambda _options: files.run(),
    "transfers": lambda _options: transfers.run(),
}


def measure(name: str, options: argparse.Namespace) -> None:
    """Measure one thing and keep what comes of it."""
    start = os.getloadavg()[0]
    found = {"rows": MEASURES[name](options), "load": [start, os.getloadavg()[0]], "machine": page.machine()}
    if name == "profile":
        sys.stdout.flush()
    if options.dry:
        print(json.dumps(found["rows"], indent=1) if name != "compare" else "")
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found))


def main() -> int:
    """Do what the command line asks for; return the exit code."""
    options = arguments()
    if options.what == "check":
        checked(options)
    elif options.what == "threads":
        threads(options)
    elif options.what != "page":
        for name in MEASURES if options.what == "all" else [options.what]:
            measure(name, options)
    if options.what not in ("check", "threads") and not options.dry:
        page.write(RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
