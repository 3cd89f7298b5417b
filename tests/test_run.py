"""`python run.py`, as a person starts it: real processes, real signals, real HTTP."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from service.serve.ports import free_port
from tests.conftest import ROOT
from tests.trees import version
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.measured]

ADA = {"username": "ada", "password": "correct horse battery"}


def gone(pid: int) -> bool:
    """Tell whether a process has ended; a zombie has."""
    path = Path(f"/proc/{pid}/cmdline")
    try:
        return not path.read_bytes()
    except FileNotFoundError:
        return True


def environment(var: Path, **settings: str) -> dict[str, str]:
    """The environment of a start: that of this process without settings of ours, but with these."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("SERVICE_", "PROMETHEUS_"))}
    return {**kept, "SERVICE_VAR": str(var), **{f"SERVICE_{name}": text for name, text in settings.items()}}


class Running:
    """A started service."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, output: Path) -> None:
        self.process = process
        self.port = port
        self.output = output

    def send(self, method: str, path: str, body: Any = None, token: str | None = None) -> requests.Response:
        """Send a request on a connection of its own."""
        headers = {"Connection": "close"} | ({"Authorization": f"Bearer {token}"} if token else {})
        return requests.request(method, f"http://127.0.0.1:{self.port}{path}", json=body, headers=headers, timeout=10)

    def lives(self) -> bool:
        with suppress(requests.ConnectionError):
            return self.send("GET", "/health/live").status_code == 200
        return False

    @property
    def said(self) -> str:
        return self.output.read_text()

    @property
    def mongod(self) -> int:
        """The process id of its MongoDB, as it was announced."""
        (pid,) = re.findall(r"\(mongod (\d+),", self.said)
        return int(pid)

    def pid(self, name: str) -> int:
        """The process id of one of its programs; 0 while there is none."""
        return next((pid for pid in children(self.process.pid) if called(pid) == name), 0)

    def workers(self) -> list[int]:
        """The process ids of the API's workers."""
        api = self.pid("madang-api")
        return children(api) if api else []

    def everything(self) -> list[int]:
        """The process ids of all that it has started."""
        found = [self.process.pid]
        for pid in found:
            found += children(pid)
        return found[1:]


def children(pid: int) -> list[int]:
    """The process ids of what a process has started."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def called(pid: int) -> str:
    """What a process calls itself."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


@contextmanager
def running(var: Path, *options: str, port: int | None = None, **settings: str) -> Iterator[Running]:
    """Start the service, wait until it serves, and end it."""
    port, output = port or free_port(), var / "output"
    var.mkdir(exist_ok=True)
    words = [sys.executable, "run.py", "--port", str(port), *options]
    with output.open("wb") as out:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(var, **settings), stdout=out, stderr=out)
    service = Running(process, port, output)
    try:
        assert until(lambda: service.lives() or process.poll() is not None)
        assert process.poll() is None, service.said
        yield service
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def refused(var: Path, *options: str, **settings: str) -> tuple[int, str]:
    """The exit code and the last words of a start that fails."""
    words = [sys.executable, "run.py", "--port", str(free_port()), *options]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(var, **settings), capture_output=True, text=True, timeout=30, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of two workers with a MongoDB of its own, which most of these tests share."""
    limits = {"MONGODB_TIMEOUT": "1", "MONGODB_CONNECT_TIMEOUT": "0.5", "RATELIMIT_ENABLED": "false"}
    with running(tmp_path_factory.mktemp("var"), "--workers", "2", **limits) as found:
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        yield found


def token_of(service: Running) -> str:
    return str(service.send("POST", "/auth", ADA).json()["access_token"])


# A running service


def test_it_says_where_it_is_and_what_to_try(service: Running) -> None:
    for word in (f"http://127.0.0.1:{service.port}/docs", "2 worker(s)", "settings: local", "/v1/accounts", "mongod"):
        assert word in service.said


def test_it_keeps_what_it_is_given(service: Running) -> None:
    token = token_of(service)
    made = service.send("POST", "/v1/notes", {"title": "제목"}, token)
    assert made.status_code == 201
    assert service.send("GET", made.headers["Location"], token=token).json() == made.json()


def test_the_metrics_of_several_workers_add_up(service: Running) -> None:
    def count(text: str) -> float:
        (found,) = re.findall(
            r'madang_requests_total\{method="GET",route="/docs/problems",status="200"\} (\S+)', text
        ) or [0]
        return float(found)

    before = count(service.send("GET", "/metrics").text)
    for _ in range(30):
        service.send("GET", "/docs/problems")
    assert {count(service.send("GET", "/metrics").text) - before for _ in range(8)} == {30}


def test_the_indexes_command_joins_the_running_server(service: Running) -> None:
    words = [sys.executable, "-m", "flask", "--app", "run", "indexes", "show"]
    env = environment(service.output.parent)
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "the indexes are as declared")


def test_a_second_start_on_the_same_data_says_who_holds_it(service: Running) -> None:
    code, message = refused(service.output.parent)
    assert code == 2
    assert f"process {service.process.pid}" in message
    assert service.lives()


@pytest.mark.parametrize(
    ("size", "status"),
    [
        (10, 401),
        pytest.param(
            1024 * 1024 + 1,
            413,
        ),
    ],
)
def test_a_body_of_unknown_length_is_read_up_to_the_limit(service: Running, size: int, status: int) -> None:
    start = b'{"username": "x", "password": "'
    pieces = [start, *[b"x" * 65536] * (size // 65536), b"x" * (size % 65536), b'"}']
    headers = {"Content-Type": "application/json"}
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # the answer may come before the whole body was sent
            connection.request("POST", "/auth", body=iter(pieces), headers=headers, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, json.load(answer)["status"]) == (status, status)


def test_while_mongodb_does_not_answer_it_says_so_in_time_and_recovers(service: Running) -> None:
    token = token_of(service)
    os.kill(service.mongod, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        answers = [service.send("GET", path, token=token) for path in ("/health/live", "/health/ready", "/v1/notes")]
        # Readiness looks for `MONGODB_CONNECT_TIMEOUT`, the list for `MONGODB_TIMEOUT`.
        assert time.monotonic() - begun < 2 + 5 + 2
    finally:
        os.kill(service.mongod, signal.SIGCONT)
    assert [answer.status_code for answer in answers] == [200, 503, 503]
    assert answers[2].json()["code"] == "database_unavailable"
    assert int(answers[2].headers["Retry-After"]) >= 1
    assert until(lambda: service.send("GET", "/v1/notes", token=token).status_code == 200)


def test_a_worker_that_dies_is_replaced(service: Running) -> None:
    before = service.workers()
    os.kill(before[0], signal.SIGKILL)
    assert until(lambda: len(set(service.workers()) - set(before)) == 1 and len(service.workers()) == 2)
    assert until(service.lives)


# Start, stop, and start again


def test_data_and_sessions_survive_a_restart(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "1") as first:
        first.send("POST", "/v1/accounts", ADA)
        token = token_of(first)
        first.send("PUT", "/v1/notes/x", {"title": "kept"}, token)
    assert first.process.returncode == 0
    with running(tmp_path, "--workers", "1") as second:
        assert second.send("GET", "/v1/notes/x", token=token).json()["title"] == "kept"
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT], ids=lambda sign: sign.name)
def test_a_signal_ends_it_with_all_its_processes(tmp_path: Path, sign: signal.Signals) -> None:
    with running(tmp_path, "--workers", "2") as service:
        others = service.everything()
        assert {called(pid) for pid in others} == {"mongod", "caddy", "madang-api", "madang-streams", "madang-worker"}
        service.process.send_signal(sign)
        assert service.process.wait(20) == 0
        assert until(lambda: all(gone(pid) for pid in others))
        assert not list(tmp_path.glob("metrics-*"))


def test_nothing_outlives_a_service_that_was_killed(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2") as service:
        others = service.everything()
        assert len(others) >= 7
        service.process.kill()
        service.process.wait()
        assert until(lambda: all(gone(pid) for pid in others), 15)
    with running(tmp_path) as again:
        assert again.lives()
        assert len(list(tmp_path.glob("metrics-*"))) == 1


def test_in_memory_it_warns_that_all_is_lost(tmp_path: Path) -> None:
    with running(tmp_path, "--memory") as service:
        assert until(lambda: "LOST when the service stops" in service.said)
        assert service.send("POST", "/v1/accounts", ADA).status_code == 201
        assert token_of(service)
    assert service.process.returncode == 0
    assert not (tmp_path / "mongodb").exists()


# What keeps it from starting


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"NO_SUCH_SETTING": "1"}, 2, ["SERVICE_NO_SUCH_SETTING is no setting"]),
        ({"ENV": "production"}, 2, ["SERVICE_MONGODB_URI is required", "SERVICE_JWT_SECRET_KEY is required"]),
        ({"JWT_ALGORITHM": "none", "MONGODB_URI": "memory://"}, 2, ["JWT_ALGORITHM"]),
        ({"MONGODB_URI": "mongodb://127.0.0.1:9/x", "MONGODB_TIMEOUT": "0.5"}, 1, ["MongoDB does not answer"]),
        ({"TOMBSTONE_DAYS": "1e12"}, 2, ["SERVICE_TOMBSTONE_DAYS is 1000000000000.0; it has to be from 0.1 to 36500"]),
        ({"MONGODB_URI": "nonsense"}, 2, ["SERVICE_MONGODB_URI", "Invalid URI"]),
        ({"MONGODB_URI": "mongodb://ada:ses@me@h/x"}, 2, ["SERVICE_MONGODB_URI", "escaped"]),
        ({"MONGODB_URI": "mongodb://h/x?tls=maybe"}, 2, ["tls must be"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_it_stops_with_a_message(tmp_path: Path, settings: dict[str, str], code: int, words: list[str]) -> None:
    found, message = refused(tmp_path, **settings)
    assert (found, [word for word in words if word not in message]) == (code, [])


def test_a_port_that_is_taken_is_told(service: Running, tmp_path: Path) -> None:
    code, message = refused(tmp_path, "--memory", "--port", str(service.port))
    assert code == 2
    assert str(service.port) in message


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
def test_a_host_that_is_none_of_this_machine_is_told(tmp_path: Path, host: str) -> None:
    code, message = refused(tmp_path, "--memory", "--host", host)
    assert code == 2
    assert host in message
    assert "Choose a host of this machine" in message
    assert "another port" not in message


def test_an_empty_secret_is_told_with_its_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("\n")
    code, message = refused(tmp_path, "--memory")
    assert (code, message) == (
        2,
        f"Madang does not start: {secret} is empty; remove it, and the next start makes a new secret\n",
    )


def test_its_folder_is_the_projects_wherever_it_is_started(tmp_path: Path) -> None:
    tree = version(tmp_path / "tree", ())
    words = [sys.executable, str(tree / "run.py"), "--memory", "--only", "api", "--host", "no-such-host.invalid"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environ = {name: text for name, text in environment(tmp_path).items() if name != "SERVICE_VAR"}
    subprocess.run(words, cwd=elsewhere, env=environ, capture_output=True, timeout=30, check=False)
    assert (tree / "var" / "secret").exists()
    assert not list(elsewhere.iterdir())


def test_without_its_indexes_it_does_not_start_where_a_person_makes_them(tmp_path: Path) -> None:
    code, message = refused(tmp_path, CREATE_INDEXES="false")
    assert code == 2
    assert "flask indexes make" in message
    assert "notes." in message
