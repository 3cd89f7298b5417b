"""The parsers, one after the other, each in a process of its own under Atheris."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from bench.processes import ROOT
from fuzz.outcome import Outcome
from fuzz.targets import TARGETS


def run(seconds: int, seed: int) -> Iterator[Outcome]:
    """Yield what came of each parser, fed for some `seconds`."""
    for name in TARGETS:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            yield feed(name, folder, seconds, seed)


def feed(name: str, folder: str, seconds: int, seed: int) -> Outcome:
    """Feed one parser."""
    words = [sys.executable, "-m", "fuzz.engine", name, folder, str(seconds), str(seed)]
    started = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=seconds + 120)
    spent = time.monotonic() - started
    said = done.stdout + done.stderr
    counted = re.search(r"number_of_executed_units: (\d+)", said) or re.search(r"Done (\d+)", said)
    failed = done.returncode != 0 or counted is None
    cases = int(counted[1]) if counted else 0
    return Outcome(f"parser: {name}", cases, int(failed), spent, said[-5000:] if failed else "")
