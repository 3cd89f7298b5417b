"""The programs beside each other, as real processes: what dies, what is stopped, what ends, and who may do what."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from service.core.clock import now
from service.serve.ports import free_port, free_ports
from tests.conftest import ROOT
from tests.test_run import (
    ADA,
    Running,
    called,
    children,
    environment,
    gone,
    refused,
    running,
    token_of,
    until,
)
from tests.trees import another_database, emptied, version

pytestmark = pytest.mark.real

LIMITS = {"RATELIMIT_ENABLED": "false", "MONGODB_TIMEOUT": "3", "MONGODB_CONNECT_TIMEOUT": "1"}
PROGRAMS = ["caddy", "madang-api", "madang-streams", "madang-worker"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All programs and a MongoDB, which most of these tests share."""
    with running(tmp_path_factory.mktemp("var"), "--workers", "1", **LIMITS) as found:
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        assert until(lambda: is_ready(found))
        yield found


def is_ready(service: Running) -> bool:
    try:
        return service.send("GET", "/health/ready").status_code == 200
    except requests.ConnectionError:
        return False


# What dies


@pytest.mark.parametrize("name", [*PROGRAMS, "mongod"])
def test_a_program_that_is_killed_is_started_again(service: Running, name: str) -> None:
    token = token_of(service)
    before = service.pid(name)
    assert before  # to kill 0 is to kill the tests
    started = children(before)
    os.kill(before, signal.SIGKILL)
    assert until(lambda: service.pid(name) not in (0, before))
    assert until(lambda: is_ready(service))
    assert until(lambda: all(map(gone, started)))  # they end what they have begun, at the port of the new one
    assert service.send("POST", "/v1/notes", {"title": "x"}, token).status_code == 201
    assert "program_died" in service.said


def test_clients_wait_while_the_api_is_started_again(service: Running) -> None:
    for _ in range(3):
        before = service.pid("madang-api")
        for pid in (before, *children(before)):
            os.kill(pid, signal.SIGKILL)
        assert until(lambda before=before: gone(before))
        assert service.send("GET", "/health/live").status_code == 200


def test_a_request_whose_program_dies_is_told_that_nobody_knows(service: Running) -> None:
    token = token_of(service)
    mongod = service.pid("mongod")
    os.kill(mongod, signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", service.port), timeout=20) as connection:
            head = f"POST /v1/notes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-Request-ID: mine\r\n"
            body = '{"title": "x"}'
            connection.sendall(
                f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            time.sleep(0.5)  # on its way to MongoDB
            api = service.pid("madang-api")
            for pid in (api, *children(api)):
                os.kill(pid, signal.SIGKILL)
            answer = connection.recv(65536).lower()
    finally:
        os.kill(mongod, signal.SIGCONT)
    assert answer.startswith(b"http/1.1 502")
    for part in (b'"code": "answer_lost"', b'"request_id": "mine"', b"x-request-id: mine", b"nosniff", b"no-store"):
        assert part in answer
    assert b"server:" not in answer
    assert until(lambda: is_ready(service))


def test_a_program_that_is_not_there_is_told_in_time(tmp_path: Path) -> None:
    nobody = free_port()
    with running_door(tmp_path, DOOR_API=f'["127.0.0.1:{nobody}"]') as base:
        begun = time.monotonic()
        answer = requests.get(f"{base}/v1/notes", timeout=20)
        assert 2 < time.monotonic() - begun < 10
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]


@contextmanager
def running_door(var: Path, *options: str, **settings: str) -> Iterator[str]:
    """A door alone; yields its address."""
    port = free_port()
    words = [sys.executable, "run.py", "--only", "door", "--port", str(port), *options]
    with (var / "output").open("wb") as out:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(var, **settings), stdout=out, stderr=out)
    try:
        assert until(lambda: b"Madang is at" in (var / "output").read_bytes(), told=(var / "output").read_text)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_readiness_names_the_part_that_is_not_ready(service: Running) -> None:
    os.kill(service.pid("madang-worker"), signal.SIGSTOP)
    try:
        answer = service.send("GET", "/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert answer.json()["parts"] == {"streams": "ok", "api": "ok", "worker": "no answer"}
        assert "worker (no answer)" in answer.json()["detail"]
    finally:
        os.kill(service.pid("madang-worker"), signal.SIGCONT)
    assert until(lambda: is_ready(service))


def test_readiness_says_so_when_the_streams_do_not_answer(service: Running) -> None:
    for pid in children(service.pid("madang-streams")):
        os.kill(pid, signal.SIGSTOP)
    try:
        assert service.send("GET", "/health/ready").status_code == 502
        assert service.send("GET", "/health/live").status_code == 200
    finally:
        for pid in children(service.pid("madang-streams")):
            os.kill(pid, signal.SIGCONT)
    assert until(lambda: is_ready(service))


# What waits


def waiting_pull(service: Running, token: str, **query: Any) -> "Future[requests.Response]":
    """A pull that waits, on a thread."""
    address, bearer = f"http://127.0.0.1:{service.port}/v1/changes", {"Authorization": f"Bearer {token}"}
    pool = ThreadPoolExecutor(1)
    found = pool.submit(requests.get, address, params={"wait": 25, **query}, headers=bearer, timeout=40)
    pool.shutdown(wait=False)
    return found


def last_cursor(service: Running, token: str) -> str:
    return str(service.send("GET", "/v1/changes?limit=1000", token=token).json()["cursor"])


def test_a_pull_waits_behind_the_door_for_what_is_new(service: Running) -> None:
    token = token_of(service)
    assert until(lambda: service.send("GET", "/v1/changes", token=token).status_code == 200)
    waiting = waiting_pull(service, token, cursor=last_cursor(service, token))
    time.sleep(0.5)
    assert not waiting.done()
    begun = time.monotonic()
    made = service.send("POST", "/v1/notes", {"title": "x"}, token).json()
    answer = waiting.result()
    assert time.monotonic() - begun < 5
    assert [item["record"] for item in answer.json()["items"]] == [made]
    assert "Server" not in answer.headers
    told = service.send("GET", "/metrics").text
    assert re.search(r'madang_requests_total\{method="GET",route="/v1/changes\?wait",status="200"\} [1-9]', told)


def test_live_events_come_through_the_door_while_it_is_silent_too(service: Running) -> None:
    token = token_of(service)
    base, bearer = f"http://127.0.0.1:{service.port}", {"Authorization": f"Bearer {token}"}
    assert until(lambda: service.send("GET", "/v1/changes", token=token).status_code == 200)
    ticket = requests.post(f"{base}/v1/live/tickets", headers=bearer, timeout=10).json()["ticket"]
    coded = {"Accept-Encoding": "gzip, zstd"}
    with (
        requests.get(f"{base}/v1/live", params={"ticket": ticket}, headers=coded, timeout=40, stream=True) as answer,
        requests.get(f"{base}/v1/sync/rxdb/notes/0/pullStream", headers=bearer, timeout=40, stream=True) as documents,
    ):
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
        assert "Content-Encoding" not in answer.headers
        lines, of_rxdb = answer.iter_lines(decode_unicode=True), documents.iter_lines(decode_unicode=True)
        assert "event: caught_up" in (next(lines), next(lines))
        begun = time.monotonic()
        made = service.send("POST", "/v1/notes", {"title": "x"}, token).json()
        data = next(line[6:] for line in lines if line.startswith('data: {"type'))
        assert json.loads(data)["record"] == made
        assert made["id"] in next(line for line in of_rxdb if line.startswith("data: "))
        assert time.monotonic() - begun < 5
        # Longer than any limit of the door on a connection that is idle.
        assert next(line for line in lines if line.startswith(":")) == ": alive"
        assert service.send("POST", "/auth/logout", token=token).status_code == 204
        begun = time.monotonic()
        assert not [line for line in lines if line.startswith("data")]
        assert time.monotonic() - begun < 2


# The end


def test_at_the_end_who_waits_is_answered(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "1", **LIMITS) as service:
        assert until(lambda: is_ready(service))
        assert service.send("POST", "/v1/accounts", ADA).status_code == 201
        token = token_of(service)
        assert until(lambda: service.send("GET", "/v1/changes", token=token).status_code == 200)
        waiting = waiting_pull(service, token, cursor=last_cursor(service, token))
        time.sleep(1)
        assert not waiting.done()
        begun = time.monotonic()
        service.process.terminate()
        answer = waiting.result()
        assert (answer.status_code, answer.json()["items"]) == (200, [])
        assert service.process.wait(20) == 0
        assert time.monotonic() - begun < 10


def test_all_end_in_order(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "1", DRAIN_DELAY="1", **LIMITS) as service:
        assert until(lambda: is_ready(service))
        alive = {name: service.pid(name) for name in (*PROGRAMS, "mongod")}
        ended: list[str] = []
        service.process.terminate()

        def all_ended() -> bool:
            ended.extend(name for name in alive if name not in ended and gone(alive[name]))
            return len(ended) == len(alive)

        assert until(all_ended)
        assert ended.index("caddy") < ended.index("madang-api") < ended.index("mongod")
        assert ended[0] == "madang-worker"
        assert service.process.wait(10) == 0
    assert not list(tmp_path.glob("metrics-*"))


# Who asks


def addresses(service: Running, **headers: str) -> set[str]:
    """Where the service saw somebody log in who sent these headers."""
    base, name = f"http://127.0.0.1:{service.port}", f"u{time.monotonic_ns()}"
    account = {"username": name, "password": ADA["password"]}
    assert requests.post(f"{base}/v1/accounts", json=account, headers=headers, timeout=10).status_code == 201
    token = requests.post(f"{base}/auth", json=account, headers=headers, timeout=10).json()["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    events = requests.get(f"{base}/v1/accounts/me/events", headers=bearer, timeout=10).json()["items"]
    return {event["address"] for event in events}


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X_Forwarded_For", "X-Real-IP", "Forwarded"])
def test_nobody_says_himself_where_he_is(service: Running, name: str) -> None:
    value = "for=198.51.100.1" if name == "Forwarded" else "198.51.100.1"
    assert addresses(service, **{name: value}) == {"127.0.0.1"}


def test_with_a_proxy_in_front_its_word_counts_and_no_other(tmp_path: Path) -> None:
    with running(tmp_path, "--memory", TRUSTED_PROXIES="1", RATELIMIT_ENABLED="false") as service:
        assert addresses(service, **{"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}) == {"203.0.113.7"}


# Entity tags


@pytest.mark.parametrize("coding", ["gzip", "zstd", "gzip, deflate, br, zstd"])
def test_a_tag_is_good_whatever_coding_was_asked_for(service: Running, coding: str) -> None:
    token = token_of(service)
    base, bearer = f"http://127.0.0.1:{service.port}/v1/notes", {"Authorization": f"Bearer {token}"}
    made = requests.post(base, json={"title": "x", "body": "long " * 2000}, headers=bearer, timeout=10)
    path = f"{base}/{made.json()['id']}"
    read = requests.get(path, headers={**bearer, "Accept-Encoding": coding}, timeout=10)
    assert (read.headers["ETag"], "Content-Encoding" in read.headers) == ('"1"', False)
    same = requests.get(path, headers={**bearer, "Accept-Encoding": coding, "If-None-Match": '"1"'}, timeout=10)
    assert (same.status_code, same.headers["ETag"]) == (304, '"1"')
    changed = requests.patch(
        path,
        json={"title": "y"},
        headers={**bearer, "Accept-Encoding": coding, "If-Match": read.headers["ETag"]},
        timeout=10,
    )
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')


def test_a_page_of_a_list_is_compressed(service: Running) -> None:
    token = token_of(service)
    bearer = {"Authorization": f"Bearer {token}"}
    base = f"http://127.0.0.1:{service.port}"
    for _ in range(3):
        service.send("POST", "/v1/notes", {"title": "x", "body": "long " * 2000}, token)
    plain = requests.get(f"{base}/v1/notes", headers={**bearer, "Accept-Encoding": "identity"}, timeout=10)
    small = requests.get(f"{base}/v1/notes", headers={**bearer, "Accept-Encoding": "gzip"}, timeout=10)
    assert (small.headers["Content-Encoding"], small.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert small.json() == plain.json()
    assert int(small.raw.tell()) < len(plain.content) / 5


# Some programs alone


def status(port: int, path: str = "/health/ready") -> int:
    try:
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code
    except requests.ConnectionError:
        return 0


def test_without_a_door_each_has_a_port(tmp_path: Path) -> None:
    port = free_ports(3)
    with running(tmp_path, "--no-door", "--workers", "1", port=port) as service:
        assert until(lambda: [status(port + number) for number in range(3)] == [200] * 3)
        # It is said by the launcher, when it has seen them ready itself.
        assert until(lambda: "Madang is at" in service.said, 10)
        for number, name in enumerate(("api", "streams", "worker")):
            assert re.search(rf"\b{name} \d+ at 127.0.0.1:{port + number}\b", service.said)
        assert service.pid("caddy") == 0
        assert status(port + 1, "/v1/notes") == 404
        assert "madang_requests_total" in requests.get(f"http://127.0.0.1:{port + 2}/metrics", timeout=5).text


def test_only_what_is_asked_for_is_started(tmp_path: Path, mongodb_uri: str) -> None:
    uri = another_database(mongodb_uri, "madang_only")
    with emptied(uri), running(tmp_path, "--only", "api", "--workers", "1", MONGODB_URI=uri) as service:
        assert {called(pid) for pid in children(service.process.pid)} == {"madang-api"}
        assert status(service.port) == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "api,stream"], "'stream' is none of door, api, streams, worker"),
        (["--memory", "--only", "worker"], "does the worker's chores itself"),
        (["--no-door", "--only", "door"], "contradict"),
        (["--only", "door"], "SERVICE_DOOR_API"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, options: list[str], words: str) -> None:
    code, message = refused(tmp_path, *options)
    assert (code, words in message) == (2, True), message


def test_without_caddy_it_says_what_to_do(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    environ = environment(tmp_path) | {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [python, "run.py", "--memory", "--port", str(free_port())]
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert 'ARGS="--no-door"' in done.stderr
    assert "Traceback" not in done.stderr


# Workers


class Workers:
    """Two workers on one database."""

    def __init__(self, base: Any, services: list[Running]) -> None:
        self.base, self.services = base, services

    def lease(self) -> dict[str, Any]:
        found: dict[str, Any] = self.base["leases"].find_one({"_id": "sweep"}) or {"holder": "", "epoch": 0}
        return found

    def holder(self) -> int:
        """The process id of the worker that has the lease."""
        return int(self.lease()["holder"].split(":")[1])

    def sweep(self) -> bool:
        """Whether somebody sweeps now: what is marked goes."""
        account = f"a{time.monotonic_ns()}"
        self.base["accounts"].insert_one({"_id": account, "deleted_at": now() - timedelta(minutes=1)})
        return until(lambda: self.base["accounts"].find_one({"_id": account}) is None, 25)


@pytest.fixture
def workers(tmp_path: Path, mongodb_uri: str) -> Iterator[Workers]:
    uri = another_database(mongodb_uri, "madang_workers")
    with emptied(uri) as base, ExitStack() as stack:
        settings = {"MONGODB_URI": uri, **LIMITS}
        started = [
            stack.enter_context(running(tmp_path / str(number), "--only", "worker", **settings)) for number in range(2)
        ]
        found = Workers(base, started)
        assert until(lambda: found.lease()["epoch"] == 1)
        yield found


REPLACED = 10.0
"""Seconds within which another worker goes on."""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=lambda sign: sign.name)
def test_when_a_worker_is_gone_another_goes_on(workers: Workers, sign: signal.Signals) -> None:
    assert workers.sweep()
    before = workers.holder()
    begun = time.monotonic()
    os.kill(before, sign)
    assert until(lambda: workers.holder() != before, REPLACED + 5)
    assert time.monotonic() - begun < (REPLACED if sign == signal.SIGKILL else 5)
    assert workers.lease()["epoch"] == 2
    assert workers.sweep()


def test_a_worker_that_was_stopped_beyond_its_lease_has_lost_it(workers: Workers) -> None:
    stopped = workers.holder()
    begun = time.monotonic()
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert until(lambda: workers.holder() != stopped, REPLACED + 5)
        assert time.monotonic() - begun < REPLACED
        successor, epoch = workers.holder(), workers.lease()["epoch"]
        assert epoch == 2
        assert workers.sweep()
    finally:
        os.kill(stopped, signal.SIGCONT)
    # It wakes up, and finds that another one works.
    assert workers.sweep()
    assert (workers.holder(), workers.lease()["epoch"]) == (successor, epoch)


def test_a_worker_tells_of_its_health(workers: Workers) -> None:
    service = workers.services[0]
    assert service.send("GET", "/health/ready").json() == {"status": "ok"}
    assert service.send("GET", "/v1/notes").json()["code"] == "not_found"
    assert service.send("POST", "/health/ready").status_code == 501
    assert "python_info" in service.send("GET", "/metrics").text or service.send("GET", "/metrics").status_code == 200


# New code


def test_a_reload_serves_the_new_code(tmp_path: Path) -> None:
    tree, var = tmp_path / "tree", tmp_path / "var"
    for name in ("service", "settings"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tree)
    var.mkdir()
    port, output = free_port(), var / "output"
    words = [sys.executable, "run.py", "--reload", "--port", str(port), "--workers", "1"]
    with output.open("wb") as out:
        process = subprocess.Popen(words, cwd=tree, env=environment(var, **LIMITS), stdout=out, stderr=out)
    try:
        page = f"http://127.0.0.1:{port}/docs/problems"

        def shows(text: str) -> bool:
            try:
                return text in requests.get(page, timeout=5).text
            except requests.ConnectionError:
                return False

        assert until(lambda: shows("<title>Problems</title>"), 30, output.read_text)
        mongod = json.loads((var / "mongodb" / "madang.json").read_text())["pid"]
        module = tree / "service" / "resources" / "system.py"
        module.write_text(module.read_text().replace("<title>Problems</title>", "<title>Changed</title>"))
        assert until(lambda: shows("<title>Changed</title>"), 30, output.read_text)
        # A mistake ends it until it is mended; the MongoDB runs on.
        good = module.read_text()
        module.write_text(good + "\nthis is no Python\n")
        assert until(lambda: "SyntaxError" in output.read_text())
        module.write_text(good.replace("<title>Changed</title>", "<title>Mended</title>"))
        assert until(lambda: shows("<title>Mended</title>"), 30, output.read_text)
        assert called(mongod) == "mongod"
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_mongod_that_dies_while_files_are_watched_is_started_again(tmp_path: Path) -> None:
    tree, var = version(tmp_path / "tree", ()), tmp_path / "var"
    var.mkdir()
    port, output, noted = free_port(), var / "output", var / "mongodb" / "madang.json"
    words = [sys.executable, "run.py", "--reload", "--port", str(port), "--workers", "1", "--only", "api"]
    with output.open("wb") as out:
        process = subprocess.Popen(words, cwd=tree, env=environment(var, **LIMITS), stdout=out, stderr=out)
    try:

        def is_ready() -> bool:
            try:
                return requests.get(f"http://127.0.0.1:{port}/health/ready", timeout=5).ok
            except requests.ConnectionError:
                return False

        assert until(is_ready, 30, output.read_text)
        first = json.loads(noted.read_text())["pid"]
        os.kill(first, signal.SIGKILL)
        assert until(lambda: json.loads(noted.read_text())["pid"] != first, 10, output.read_text)
        assert until(is_ready, 30, output.read_text)
        # A page is no part of the service; what is one is heard after it.
        (tree / "README.md").write_text("# Another word\n")
        (tree / "settings" / "local.py").touch()
        assert until(lambda: "changed: " in output.read_text(), 10)
        assert re.findall("changed: (.*)", output.read_text()) == ["settings/local.py"]
    finally:
        process.terminate()
        assert process.wait(30) == 0
