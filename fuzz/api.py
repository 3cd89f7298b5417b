"""What the OpenAPI document allows and forbids, sent by Schemathesis to a real server on a real MongoDB over HTTP."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from bench.processes import ROOT
from chaos.servers import Server
from fuzz.outcome import Outcome

Who = Literal["account", "nobody"]
CONFIG = Path(__file__).with_name("schemathesis.toml")
SETTINGS = {"RATELIMIT_ENABLED": "false"}
"""All comes from one address."""


def server(folder: Path, uri: str) -> Server:
    """Return a server that is not started yet."""
    return Server(folder, uri, workers=1, **SETTINGS)


def run(base: str, folder: Path, who: Who, examples: int, seed: int, *options: str) -> Outcome:
    """Send up to so many generated `examples` to each operation, after all that follows from the document alone.

    `options` are further ones of `schemathesis run`. Raises `subprocess.TimeoutExpired` after half an hour.
    """
    report = folder / f"{who}.json"
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{base}/openapi.json"]
    words += [f"--max-examples={examples}", f"--seed={seed}", "--no-color", "--report=json", *options]
    environ = {**os.environ, "FUZZ_BASE": base, "FUZZ_AS": who, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    started = time.monotonic()
    done = subprocess.run(
        [*words, f"--report-json-path={report}"],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    spent = time.monotonic() - started
    if not report.exists():
        return Outcome(f"API as {who}", 0, 1, spent, done.stdout + done.stderr)
    told = json.loads(report.read_text())
    failures = told["test_cases"]["unique_failures"] + told["test_cases"]["errored"]
    whole = told["operations"]["tested"] == told["operations"]["total"]
    failed = bool(failures or done.returncode or not whole)
    cases = told["test_cases"]["generated"]
    return Outcome(f"API as {who}", cases, failures or int(failed), spent, done.stdout if failed else "")
