"""Where the time of a request goes: the profiler over the WSGI application, against a real MongoDB."""

import cProfile
import pstats
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench import compare, contenders, inprocess
from bench.contenders import BARE, MADANG
from service.identity import sessions

REQUESTS = 2000
TOP = 25


def run() -> list[dict[str, Any]]:
    """Print the functions that take most and return the share of each package, by server and workload."""
    rows = []
    sessions.CHECK_SECONDS = sessions.RENEWAL_PAUSE = 1e9
    with compare.mongodb() as (uri, _, _):
        for contender in (BARE, MADANG):
            contenders.seed(contender, uri, inprocess.DATASET)
            app = inprocess.load(contender, uri)
            for workload in ("get", "list", "create", "patch"):
                caller = inprocess.Caller(contender, app, workload)
                stats = profiled(caller)
                print(f"\n=== {contender.name} {workload}: µs per request, the profiler's own cost included")
                show(stats)
                rows.append({"name": contender.name, "workload": workload, "shares": shares(stats)})
    return rows


def profiled(caller: inprocess.Caller) -> pstats.Stats:
    """Return the profile of many requests."""
    for environ in caller.environs(200):
        caller.call(environ)
    environs = caller.environs(REQUESTS)
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    for environ in environs:
        caller.call(environ)
    profile.disable()
    return pstats.Stats(profile)


def functions(stats: pstats.Stats) -> dict[Any, Any]:
    """Return the figures by function: calls, and seconds in it, alone and with all that it calls."""
    found: dict[Any, Any] = stats.stats  # type: ignore[attr-defined]
    return found


def show(stats: pstats.Stats) -> None:
    """Print the functions that take most time themselves, with their part of it and of all that they call."""
    ordered = sorted(functions(stats).items(), key=lambda item: -item[1][2])
    for (file, line, name), (_, calls, own, total, _) in ordered[:TOP]:
        where = f"{package(file)}:{Path(file).stem}:{line} {name}" if file != "~" else name
        times = f"own {own / REQUESTS * 1e6:6.1f}  all {total / REQUESTS * 1e6:7.1f}"
        print(f"  {times}  {calls / REQUESTS:5.1f} x  {where}")


def package(file: str) -> str:
    """Return the package that a file belongs to."""
    if file == "~":
        return ""
    parts = Path(file).parts
    if "site-packages" in parts:
        return Path(parts[parts.index("site-packages") + 1]).stem
    return "the service" if "service" in parts else "bench" if "bench" in parts else "Python"


def shares(stats: pstats.Stats) -> dict[str, float]:
    """Return the share of the time that each package takes itself; what is written in C counts for its caller."""
    spent: Counter[str] = Counter()
    for (file, _, _), (_, _, own, _, callers) in functions(stats).items():
        if file != "~":
            spent[package(file)] += own
            continue
        for (caller, _, _), (_, _, seconds, _) in callers.items():
            spent[package(caller) or "Python"] += seconds
    whole = sum(spent.values())
    return {name: seconds / whole for name, seconds in spent.most_common(8)}
