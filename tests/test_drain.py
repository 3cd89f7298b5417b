"""How a server ends: readiness first, requests in flight to their end, and all of it in bounded time."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from granian.constants import Interfaces
from granian.server.mp import MPServer
from pymongo import MongoClient

import settings
from service.serve.addresses import Address
from service.serve.deaths import MOST_DEATHS, Deaths
from service.serve.ports import free_port
from service.serve.serving import Draining, DrainingServer
from tests.conftest import ROOT
from tests.test_run import ADA, Running, environment, refused, running, token_of
from tests.waiting import until

pytestmark = pytest.mark.real

LIVE = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
BOUND = 12
"""Seconds within which a server has ended when it is told to: `DRAIN_SECONDS`, and some for MongoDB's end."""


def a_server() -> DrainingServer:
    loaded = settings.load({"SERVICE_ENV": "test"})
    return DrainingServer("api", Address("127.0.0.1", 0), loaded, Draining(), interface=Interfaces.WSGI)


@contextmanager
def connection(service: Running, request: str = LIVE) -> Iterator[socket.socket]:
    with closing(socket.create_connection(("127.0.0.1", service.port), timeout=20)) as opened:
        opened.sendall(request.encode())
        yield opened


def seconds_to_end(service: Running) -> float:
    begun = time.monotonic()
    service.process.terminate()
    assert service.process.wait(30) == 0
    return time.monotonic() - begun


def ready(service: Running) -> tuple[int, str]:
    answer = service.send("GET", "/health/ready")
    return answer.status_code, answer.json().get("code", "")


def test_readiness_goes_first(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "2", DRAIN_DELAY="2") as service, connection(service) as kept:
        service.send("POST", "/v1/accounts", ADA)
        token = token_of(service)
        assert b"connection: close" not in kept.recv(4096).lower()
        service.process.terminate()
        assert until(lambda: ready(service) == (503, "shutting_down"), 1)
        # Whoever has not seen it yet is served, on connections old and new, and told to go.
        assert service.send("POST", "/v1/notes", {"title": "x"}, token).status_code == 201
        kept.sendall(LIVE.encode())
        answer = kept.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer.lower()
        assert service.process.wait(BOUND) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", service.port))


def test_a_second_signal_cuts_the_wait_short(tmp_path: Path) -> None:
    with running(tmp_path, "--memory", DRAIN_DELAY="60") as service:
        service.process.terminate()
        assert until(lambda: ready(service) == (503, "shutting_down"), 1)
        assert seconds_to_end(service) < BOUND


def test_a_request_in_flight_is_answered_and_new_ones_are_refused(tmp_path: Path) -> None:
    limits = {"MONGODB_TIMEOUT": "3", "MONGODB_CONNECT_TIMEOUT": "3"}
    with running(tmp_path, "--workers", "1", **limits) as service:
        service.send("POST", "/v1/accounts", ADA)
        token = token_of(service)
        # A frozen database makes it slow: it takes the three seconds of MONGODB_TIMEOUT.
        os.kill(service.mongod, signal.SIGSTOP)
        try:
            request = f"GET /v1/notes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            with connection(service, request) as slow:
                time.sleep(0.3)
                service.process.terminate()
                assert until(lambda: not service.lives(), 2)
                assert slow.recv(4096).startswith(b"HTTP/1.1 503")
        finally:
            os.kill(service.mongod, signal.SIGCONT)
        assert service.process.wait(BOUND) == 0


@contextmanager
def never_read(service: Running) -> Iterator[None]:
    """Thousands of answers that nobody takes: they fill the buffers of the connection."""
    with closing(socket.create_connection(("127.0.0.1", service.port))) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        opened.setblocking(False)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                opened.send(request)
            except BlockingIOError:
                time.sleep(0.05)
        yield


def test_an_idle_connection_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with running(tmp_path, "--memory") as service, connection(service) as kept:
        kept.recv(4096)
        assert seconds_to_end(service) < 5


def test_no_client_keeps_it_from_ending(tmp_path: Path) -> None:
    """One sends half a request, one half a body, one does not read its answers."""
    half = "POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with (
        running(tmp_path, "--memory") as service,
        connection(service, LIVE[:10]),
        connection(service, half),
        never_read(service),
    ):
        assert seconds_to_end(service) < BOUND


def test_a_signal_during_the_start_is_heard(tmp_path: Path) -> None:
    """At any moment: before the database is there, while it starts, while the worker loads, and later."""
    for number, pause in enumerate((0.4, 1.0, 1.4)):
        var = tmp_path / str(number)
        words = [sys.executable, "run.py", "--port", str(free_port()), "--workers", "1"]
        with subprocess.Popen(words, cwd=ROOT, env=environment(var), stdout=subprocess.DEVNULL) as process:
            time.sleep(pause)
            process.terminate()
            begun = time.monotonic()
            try:
                assert process.wait(30) in (0, 143, -signal.SIGTERM)
            finally:
                process.kill()
            assert time.monotonic() - begun < 5, f"after {pause} s"
        assert not list(var.glob("metrics-*"))


TOLD_IN_AN_IMPORT = """
import os, signal, time
from service.serve.signals import Signals

with Signals():
    try:
        import told
        {then}
    finally:
        time.sleep(0.2)
        print("ended")
"""


@pytest.mark.parametrize("then", ["time.sleep(9)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_a_signal_during_an_import_lets_it_come_to_its_end(tmp_path: Path, then: str) -> None:
    """One that is broken off may hold the lock of all imports, for which another thread waits.

    Nor does it break off the end, where another signal begins with that before it is heard.
    """
    (tmp_path / "told.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nprint('imported')\n")
    code, path = TOLD_IN_AN_IMPORT.format(then=then), {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=path, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, "imported\nended\n"), done.stderr


HEARD_BY_ANOTHER_THREAD = """
import os, signal, threading, time
from service.serve.signals import wake_for_signals

told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
wake_for_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threading.Thread(target=lambda: (time.sleep(0.2), signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM]),
    os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)), daemon=True).start()
told.wait()
"""
"""The kernel gives the signal to the one thread that does not block it, while the main thread waits for a lock."""


def test_a_signal_that_another_thread_takes_is_heard_at_once() -> None:
    assert subprocess.run([sys.executable, "-c", HEARD_BY_ANOTHER_THREAD], cwd=ROOT, timeout=10).returncode == 0


EARLY = """
import os, signal, sys, time
from service.serve.signals import become_child, held_back

signal.signal(signal.SIGTERM, lambda *_: None)
with held_back():
    worker = os.fork()
    if not worker:
        os.kill(os.getpid(), signal.SIGTERM)
        become_child()
        time.sleep(5)
        os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) != -signal.SIGTERM)
"""
"""A worker that is told to end before its first line has run."""


def test_a_signal_between_a_workers_start_and_its_first_line_ends_it() -> None:
    assert subprocess.run([sys.executable, "-c", EARLY], cwd=ROOT, timeout=10).returncode == 0


def test_signals_wait_while_a_worker_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    server = a_server()
    blocked: list[set[int]] = []

    class Worker:
        def start(self) -> None:
            blocked.append(set(signal.pthread_sigmask(signal.SIG_BLOCK, [])))

        def terminate(self) -> None: ...

        def join(self, timeout: float | None) -> None: ...

        def is_alive(self) -> bool:
            return False

    monkeypatch.setattr(MPServer, "_spawn_worker", lambda *_, **__: Worker())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    server._spawn_workers(None, None)
    server._respawn_workers([0], None, None)
    assert [mask >= {signal.SIGTERM, signal.SIGINT} for mask in blocked] == [True, True]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


# Workers that die


def test_workers_that_die_again_and_again_are_replaced(tmp_path: Path) -> None:
    """Granian by itself would end when one dies within 5.5 seconds of its start."""
    with running(tmp_path, "--workers", "1") as service:
        for _ in range(4):
            (worker,) = service.workers()
            os.kill(worker, signal.SIGKILL)
            assert until(lambda worker=worker: service.workers() not in ([], [worker]))
            assert until(service.lives)


def test_workers_that_die_together_are_all_replaced(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "3") as service:
        for _ in range(3):
            before = service.workers()
            for worker in before:
                os.kill(worker, signal.SIGKILL)
            assert until(lambda before=before: len(set(service.workers()) - set(before)) == 3)
            assert until(service.lives)


def test_many_deaths_in_a_short_time_are_too_many() -> None:
    deaths, pauses = Deaths(), []
    for _ in range(MOST_DEATHS - 1):
        deaths.add()
        pauses.append(deaths.pause)
        assert not deaths.too_many
    deaths.add()
    assert deaths.too_many
    assert pauses == [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]


def test_a_signal_comes_before_the_dead() -> None:
    """A worker that is made while the server ends would not hear that it has to."""
    server = a_server()
    server.reload_signal, server.wrks = True, [None]
    server.signal_handler_interrupt()
    server._serve_loop(None, None)


def test_a_worker_that_cannot_live_ends_the_server(tmp_path: Path) -> None:
    with running(tmp_path, "--workers", "1") as service:
        end = time.monotonic() + 60
        while service.process.poll() is None and time.monotonic() < end:
            for worker in service.workers():
                os.kill(worker, signal.SIGKILL)
            time.sleep(0.02)
        assert service.process.returncode == 1


# What MongoDB promises


def test_it_does_not_start_where_mongodb_acknowledges_too_early(tmp_path: Path, mongodb_uri: str) -> None:
    with MongoClient(mongodb_uri) as client:
        client.admin.command("setDefaultRWConcern", defaultWriteConcern={"w": 1})
        try:
            code, message = refused(tmp_path, MONGODB_URI=mongodb_uri)
        finally:
            client.admin.command("setDefaultRWConcern", defaultWriteConcern={"w": "majority"})
    assert code == 2
    assert "setDefaultRWConcern" in message
