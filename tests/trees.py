"""Versions of the service beside each other: changed copies of it, run as real processes on one database."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import requests
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from service.serve.ports import free_port
from tests.client import PASSWORD
from tests.test_extending import apply
from tests.test_readme import Block
from tests.types import EVERY, SHIPPED

ROOT = Path(__file__).parent.parent


def version(tree: Path, changes: Iterable[Block]) -> Path:
    """A copy of the service at `tree`, with changes as a page shows them."""
    for name in ("service", "settings"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tree)
    for change in changes:
        apply(Block(change.heading, change.info.replace("contract ", ""), change.text), tree)
    return tree


def add_types(tree: Path, module: str, text: str, *names: str) -> None:
    """Write a module of record types into a copy of the service, and list them."""
    (tree / "service" / "documents" / f"{module}.py").write_text(text)
    all = ", ".join(names)
    change_records(tree, rf"from service.documents.{module} import {all}\n\n\1\2, {all}]")


def leave_out_own_types(tree: Path) -> None:
    """List the record types that ship alone in a copy of the service."""
    change_records(tree, rf"\1[{', '.join(document.__name__ for document in SHIPPED)}]")


def change_records(tree: Path, to: str) -> None:
    """Write the line of the record types anew: its groups are what is before the list, and the list without its end."""
    init = tree / "service" / "documents" / "__init__.py"
    text, count = re.subn(r"^(RECORDS: .* = )(\[.*)\]$", to, init.read_text(), flags=re.MULTILINE)
    assert count == 1
    init.write_text(text)


def environment(uri: str, var: Path, **settings: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("SERVICE_", "PROMETHEUS_"))}
    named = {"ENV": "test", "MONGODB_URI": uri, "VAR": str(var), "LOG_LEVEL": "ERROR", **settings}
    folder = str(Path(sys.executable).parent)
    return {
        **kept,
        "FLASK_APP": "run",
        "PATH": f"{folder}:{kept['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{f"SERVICE_{name}": value for name, value in named.items()},
    }


def start(tree: Path, uri: str, *words: str, **options: Any) -> "subprocess.Popen[str]":
    """A `flask` command of a version of the service that runs."""
    command = [sys.executable, "-m", "flask", "--app", "run", *words]
    settings = options.pop("settings", {})
    env = environment(uri, tree, **settings)
    return subprocess.Popen(
        command, cwd=tree, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def flask(tree: Path, uri: str, *words: str, code: int = 0, **options: Any) -> str:
    """What a `flask` command says on both channels; no trace, whatever happens."""
    process = start(tree, uri, *words, **options)
    output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors, errors
    assert process.returncode == code, (process.returncode, output, errors)
    return output + errors


class Server:
    """A version of the service on a port, and somebody signed in on it."""

    def __init__(self, tree: Path, uri: str, var: Path, only: str = "api") -> None:
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy for 127.0.0.1
        self.output = var / f"output-{port}"
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "run.py", "--only", only, "--port", str(port), "--workers", "1"],
                cwd=tree,
                env=environment(uri, var),
                stdout=out,
                stderr=out,
            )

    def wait(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if self.send("GET", "/health/ready").ok and "Madang is at" in self.said:
                    return
            except requests.ConnectionError:
                time.sleep(0.05)
        raise AssertionError(self.said)

    @property
    def said(self) -> str:
        return self.output.read_text()

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        return self.session.request(method, self.base + path, json=body, headers=headers, timeout=30)

    def sign_up(self, username: str) -> str:
        """Make an account and log in; return its id."""
        answer = self.send("POST", "/v1/accounts", {"username": username, "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        self.log_in(username)
        return str(answer.json()["id"])

    def log_in(self, username: str) -> None:
        answer = self.send("POST", "/auth", {"username": username, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        self.session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def stop(self) -> None:
        self.session.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def serving(uri: str, var: Path, *trees: Path, only: str = "api") -> Iterator[list[Server]]:
    """A server of each version on one database, of these programs."""
    servers: list[Server] = []
    try:
        for tree in trees:
            servers.append(Server(tree, uri, var, only))
            servers[-1].wait()
        yield servers
    finally:
        for server in servers:
            server.stop()


def another_database(uri: str, name: str) -> str:
    """The URI of another database on the same server: that of the URI with `_name` behind it."""
    scheme, _, rest = uri.partition("://")
    hosts, _, path = rest.partition("/")
    database, mark, options = path.partition("?")
    return f"{scheme}://{hosts}/{database or 'madang'}_{name}{mark}{options}"


@contextmanager
def emptied(uri: str) -> Iterator[Any]:
    """A database that is empty before and gone after."""
    with MongoClient(uri) as client:
        name = parse_uri(uri)["database"]
        client.drop_database(name)
        try:
            yield client[name]
        finally:
            client.drop_database(name)


class Client:
    """Sends requests to a server, called as Flask's test client is."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.application = SimpleNamespace(extensions={"madang.registry": EVERY})
        self.seen: list[tuple[str, str, int]] = []

    def open(self, path: str, method: str = "GET", **options: Any) -> Any:
        query, headers = options.pop("query_string", None), dict(options.pop("headers", {}) or {})
        answer = requests.request(method, self.server.base + path, params=query, headers=headers, timeout=30, **options)
        code = answer.json().get("code", "") if answer.status_code >= 400 and answer.content else ""
        self.seen.append((method, code, answer.status_code))
        return SimpleNamespace(
            status_code=answer.status_code,
            headers=answer.headers,
            content_type=answer.headers.get("Content-Type"),
            data=answer.content,
            text=answer.text,
            json=answer.json() if answer.content and "json" in answer.headers.get("Content-Type", "") else None,
        )

    def get(self, path: str, **options: Any) -> Any:
        return self.open(path, **options)
