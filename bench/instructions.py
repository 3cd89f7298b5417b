"""Instructions per request, counted by valgrind: the figure that hardly moves from run to run, whatever else runs.

`python -m bench instructions` starts MongoDB, fills it and runs this module under valgrind.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import compare, contenders, data, inprocess
from bench.contenders import BARE, MADANG
from service.identity import sessions

WORKLOADS = ("get", "list", "create", "patch")
WARM_UP = 1
REQUESTS = 200
TOTAL = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


def run() -> list[dict[str, Any]]:
    """Return the instructions per request of each workload, for the bare callable and for Madang."""
    rows = []
    with compare.mongodb() as (uri, folder, _):
        for contender in (BARE, MADANG):
            contenders.seed(contender, uri, inprocess.DATASET)
        out = folder / "callgrind"
        command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"]
        done = subprocess.run(
            [*command, sys.executable, "-m", "bench.instructions", uri, str(out)],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            cwd=contenders.ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=3600,
        )
    for line in done.stdout.splitlines():
        if line.startswith("COUNT "):
            _, name, workload, count = line.split()
            rows.append({"name": name, "workload": workload, "instructions": float(count)})
    return rows


def control(*options: str) -> None:
    """Tell the valgrind that this process runs in what to do."""
    subprocess.run(["callgrind_control", *options, str(os.getpid())], check=True, capture_output=True, timeout=60)


def counted(work: Callable[[], Any], out: Path) -> int:
    """Return the instructions that `work` takes, without those of the kernel."""
    before = set(out.parent.glob(out.name + "*"))
    control("-i", "on")
    control("-z")
    work()
    control("-i", "off")
    control("-d")
    (dump,) = set(out.parent.glob(out.name + "*")) - before
    return int(TOTAL.findall(dump.read_text())[-1])


def main(uri: str, out: Path) -> None:
    """Count, inside of valgrind. It is slow, so that sessions would be looked up too often: they are taken as known."""
    sessions.CHECK_SECONDS = sessions.RENEWAL_PAUSE = 1e9
    for contender in (BARE, MADANG):
        app = inprocess.load(contender, uri)
        for workload in WORKLOADS:
            caller = inprocess.Caller(contender, app, workload)
            for environ in caller.environs(max(WARM_UP, 2 * data.ACCOUNTS)):
                caller.call(environ)
            environs = caller.environs(REQUESTS)
            count = counted(lambda: [caller.call(environ) for environ in environs], out)  # noqa: B023
            print(f"\nCOUNT {contender.name} {workload} {count / REQUESTS:.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
