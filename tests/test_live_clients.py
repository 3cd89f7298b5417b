"""Live events in the hands of libraries as they ship, while connections are lost again and again.

For so many seconds as `MADANG_LIVE_SECONDS` says; a few of themselves.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.test_generated_clients import OURS, TOOLS
from tests.test_processes import LIMITS, is_ready
from tests.test_run import ADA, Running, children, running, token_of
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.clients]

SECONDS = float(os.environ.get("MADANG_LIVE_SECONDS", "8"))
MOST_LOSSES = 9
"""Most processes that die in a minute: after ten, the service takes itself for broken, and ends."""
CLIENTS = {
    "eventsource": ("live.mjs",),
    "socket.io": ("socket.mjs",),
    "socket.io over WebSocket": ("socket.mjs", "websocket"),
    "socket.io over polling": ("socket.mjs", "polling"),
}


class Follower:
    """A library in Node."""

    def __init__(self, folder: Path, script: str, *words: str) -> None:
        if not (TOOLS / "installed").exists():
            pytest.fail("there is no eventsource: `make clients` installs it")
        folder.mkdir()
        shutil.copy(OURS / script, folder)
        (folder / "node_modules").symlink_to(TOOLS / "node_modules")
        self.process = subprocess.Popen(["node", folder / script, *words], stdout=subprocess.PIPE, text=True)
        self.have: dict[str, int] = {}
        self.opened, self.resyncs, self.transport = 0, 0, ""
        self.endings: list[str] = []
        self.failures: list[Any] = []
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            self.have = said.get("have", self.have)
            self.opened = said.get("opened", self.opened)
            self.transport = said.get("transport", self.transport)
            self.resyncs += "resync" in said
            self.endings += [said["ended"]] if "ended" in said else []
            self.failures += [said] if "failed" in said or "refused" in said else []

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {**LIMITS, "JWT_EXPIRATION_DELTA": "3600"}
    with running(tmp_path_factory.mktemp("var"), "--workers", "1", **limits) as found:
        assert until(lambda: is_ready(found))
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        assert until(lambda: found.send("GET", "/v1/changes", token=token_of(found)).status_code == 200)
        yield found


def lose_connections(service: Running) -> None:
    """Lose every live connection, and the process that had them."""
    for pid in children(service.pid("madang-streams")):
        os.kill(pid, signal.SIGKILL)


def write_something(service: Running, random: Random, token: str, there: list[str], ids: Iterator[int]) -> None:
    """Make, change or delete a note; forty are there at most."""
    chance = random.random()
    if not there or (chance < 0.4 and len(there) < 40):
        there.append(f"n{next(ids)}")
        answer = service.send("POST", "/v1/notes", {"id": there[-1], "title": "x"}, token)
    elif chance < 0.8:
        answer = service.send("PATCH", f"/v1/notes/{random.choice(there)}", {"title": f"{random.random()}"}, token)
    else:
        answer = service.send("DELETE", f"/v1/notes/{there.pop(random.randrange(len(there)))}", token=token)
    assert answer.ok, answer.text


def test_libraries_have_what_a_list_shows_although_they_lose_their_connections(
    service: Running, tmp_path: Path
) -> None:
    random, there, ids, token = Random(16), list[str](), count(), token_of(service)
    cursor = service.send("GET", "/v1/changes?types=notes", token=token).json()["cursor"]
    with ExitStack() as stack:
        followers: dict[str, Follower] = {}
        for number, (name, (script, *words)) in enumerate(CLIENTS.items()):
            given = (f"http://127.0.0.1:{service.port}", token, cursor, *words)
            followers[name] = one = Follower(tmp_path / str(number), script, *given)
            stack.callback(one.end)
        assert until(lambda: all(one.opened == 1 for one in followers.values()))
        end, losses = time.monotonic() + SECONDS, list[float]()
        while time.monotonic() < end or len(losses) < 2:
            if len(losses) >= MOST_LOSSES and losses[-MOST_LOSSES] > time.monotonic() - 60:
                write_something(service, random, token, there, ids)
                time.sleep(0.2)
                continue
            opened = {name: one.opened for name, one in followers.items()}
            for _ in range(random.randrange(1, 15)):
                write_something(service, random, token, there, ids)
            lose_connections(service)
            losses.append(time.monotonic())
            for _ in range(random.randrange(1, 15)):
                write_something(service, random, token, there, ids)
            for name, one in followers.items():
                before = opened[name]
                assert until(
                    lambda one=one, before=before: one.opened > before,
                    30,
                    lambda name=name, one=one: (name, one.failures),
                )
        listed = service.send("GET", "/v1/notes?limit=100", token=token).json()["items"]
        due = {note["id"]: note["revision"] for note in listed}
        assert due
        for name, one in followers.items():
            assert until(lambda one=one: one.have == due, 15, lambda name=name: name)
            assert one.resyncs == 0, name
        found = {name: one.transport for name, one in followers.items()}
        assert (found["socket.io over WebSocket"], found["socket.io over polling"]) == ("websocket", "polling")
        assert "io server disconnect" not in followers["socket.io"].endings
        print(f"{len(losses)} losses, {next(ids)} notes made, {len(due)} left")  # noqa: T201  for docs/reliability.md


def test_a_session_that_ends_disconnects_socket_io_for_good(service: Running, tmp_path: Path) -> None:
    token = token_of(service)
    cursor = service.send("GET", "/v1/changes?types=notes", token=token).json()["cursor"]
    with ExitStack() as stack:
        followers = []
        for transport in ("websocket", "polling"):
            given = (f"http://127.0.0.1:{service.port}", token, cursor, transport)
            followers.append(Follower(tmp_path / transport, "socket.mjs", *given))
            stack.callback(followers[-1].end)
        assert until(lambda: all(one.opened == 1 for one in followers))
        begun = time.monotonic()
        assert service.send("POST", "/auth/logout", {}, token).status_code == 204
        assert until(lambda: all(one.endings for one in followers), 5)
        assert time.monotonic() - begun < 1.5
        assert [one.endings for one in followers] == [["io server disconnect"]] * 2
        time.sleep(0.5)
        assert [one.opened for one in followers] == [1, 1]
