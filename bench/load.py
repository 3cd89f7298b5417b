"""Put load on a server with wrk, for a bounded time, and return what came of it."""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.processes import LOAD_CORE, Process

SCRIPT = Path(__file__).with_name("load.lua")
WORKLOADS = ("get", "list", "create", "patch", "session")
RESULT = re.compile(r"^RESULT (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: answers per second, milliseconds, answers that were wrong, and CPU in µs per answer.

    `cpu` is that of the server, `database` that of MongoDB.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    count: int
    wrong: int
    database: float = 0.0


def lua(value: object) -> str:
    """Return a Python value as Lua source."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"[ {lua(key)} ]={lua(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"[==[{value}]==]"
    if isinstance(value, Sequence):
        return "{" + ",".join(lua(item) for item in value) + "}"
    return str(value)


def measure(
    process: Process, workload: str, facts: Mapping[str, object], folder: Path, connections: int, seconds: int
) -> Sample:
    """Return one sample of `workload`. `facts` are the paths, tokens and bodies that the script draws from."""
    data = folder / "facts.lua"
    data.write_text("return " + lua(facts))
    before = process.cpu()
    done = subprocess.run(
        [
            *("taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"),
            *("--timeout", "10s", "-s", str(SCRIPT), process.base, "--", workload, str(data)),
        ],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    used = process.cpu() - before
    found = RESULT.search(done.stdout)
    if found is None:
        raise RuntimeError(f"wrk said:\n{done.stdout}\n{done.stderr}")
    count, micros, wrong, p50, p99 = (float(number) for number in found[1].split())
    return Sample(
        rate=count / micros * 1e6,
        p50=p50 / 1000,
        p99=p99 / 1000,
        cpu=used / max(count, 1) * 1e6,
        count=int(count),
        wrong=int(wrong),
    )
