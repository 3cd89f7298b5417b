"""What the OpenAPI document allows and forbids, sent by Schemathesis to a real server on a real MongoDB over HTTP."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import requests

from bench.processes import ROOT, Process, await_answer
from chaos.servers import Server
from fuzz.outcome import Outcome

Who = Literal["account", "nobody", "peers"]
CONFIG = Path(__file__).with_name("schemathesis.toml")
PASSKEYS = {"WEBAUTHN_RP_ID": "example.com", "WEBAUTHN_ORIGINS": '["https://example.com"]'}
SETTINGS = {"RATELIMIT_ENABLED": "false", **PASSKEYS}
"""All comes from one address, and nothing is left out."""
TOKEN = {
    "extractFrom": "body",
    "extractSelector": "/access_token",
    "sendIn": "header",
    "sendName": "Authorization",
    "sendTemplate": "Bearer {token}",
}
"""Where Schemathesis finds the token of a login, and how it sends it."""


def server(folder: Path, uri: str) -> Server:
    """Return a server that is not started yet: the API, and a worker, without which there are no changes."""
    return Server(folder, uri, workers=1, only="api,worker", **SETTINGS)


def start(server: Server) -> None:
    """Start it, and wait until changes are recorded."""
    server.start()
    assert server.process is not None
    await_answer(Process(server.process.popen, server.port + 1), "/health/ready", server.log)


def peers(base: str, folder: Path) -> Iterator[str]:
    """Yield the options for two accounts that do not see what the other has made, and are not deleted meanwhile."""
    known = []
    session = requests.Session()
    session.trust_env = False  # no proxy for 127.0.0.1
    for name in ("ada", "bob"):
        sent = {"username": name, "password": "three green boats"}
        session.post(f"{base}/v1/accounts", json=sent, timeout=30).raise_for_status()
        login = {"endpoint": "/auth", "verb": "POST", "contentType": "application/json", "payloadRaw": json.dumps(sent)}
        known.append({"name": name, "loginEndpointAuth": {**login, "token": TOKEN}})
    path = folder / "identities.json"
    path.write_text(json.dumps({"auth": known}))
    yield from (f"--auth-wfc={path}", "--auth-wfc-user=ada")
    yield from (f"--exclude-operation-id={name}" for name in ("delete-v1-accounts-me", "post-auth-logout"))


def run(base: str, folder: Path, who: Who, examples: int, seed: int, *options: str) -> Outcome:
    """Send up to so many generated `examples` to each operation, after all that follows from the document alone.

    `options` are further ones of `schemathesis run`. Raises `subprocess.TimeoutExpired` after half an hour.
    """
    report = folder / f"{who}.json"
    options = (*options, *peers(base, folder)) if who == "peers" else options
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
    told = json.loads(report.read_text()) if report.exists() else {"operations": None}
    if told["operations"] is None:
        return Outcome(f"API as {who}", 0, 1, spent, done.stdout + done.stderr)
    failures = told["test_cases"]["unique_failures"] + told["test_cases"]["errored"]
    whole = told["operations"]["tested"] == told["operations"]["selected"]
    failed = bool(failures or done.returncode or not whole)
    cases = told["test_cases"]["generated"]
    return Outcome(f"API as {who}", cases, failures or int(failed), spent, done.stdout if failed else "")
