"""The properties that the tests hold, on many more examples, and new ones each time."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.processes import ROOT
from fuzz.outcome import Outcome

FILES = {
    "`where`, pages and cursors": ("tests/test_query_properties.py", "tests/test_query.py"),
    "patches": ("tests/test_patch_properties.py", "tests/test_patch.py"),
    "batches": ("tests/test_batch_properties.py",),
}
COUNTED = re.compile(r"- (\d+) passing, (\d+) failing")


def run(times: int) -> Iterator[Outcome]:
    """Yield what came of the properties of each kind, on so many `times` the examples of the tests."""
    for name, files in FILES.items():
        words = [sys.executable, "-m", "pytest", "--mongodb", "--hypothesis-show-statistics", *files]
        started = time.monotonic()
        done = subprocess.run(
            words,
            cwd=ROOT,
            env={**os.environ, "FUZZ_TIMES": str(times)},
            capture_output=True,
            text=True,
            timeout=1800,
        )
        cases = sum(int(passing) + int(failing) for passing, failing in COUNTED.findall(done.stdout))
        failed = done.returncode != 0 or not cases
        said = done.stdout[-5000:] + done.stderr if failed else ""
        yield Outcome(f"properties: {name}", cases, int(failed), time.monotonic() - started, said)
