"""Live events in the hands of a library as it ships, while connections are lost again and again."""

import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.test_generated_clients import OURS, TOOLS
from tests.test_processes import LIMITS, is_ready
from tests.test_run import ADA, children, running, token_of, until

pytestmark = [pytest.mark.real, pytest.mark.clients]

LOSSES = 4


class Follower:
    """The package `eventsource` in Node."""

    def __init__(self, folder: Path, *words: str) -> None:
        if not (TOOLS / "installed").exists():
            pytest.fail("there is no eventsource: `make clients` installs it")
        shutil.copy(OURS / "live.mjs", folder)
        (folder / "node_modules").symlink_to(TOOLS / "node_modules")
        self.process = subprocess.Popen(["node", folder / "live.mjs", *words], stdout=subprocess.PIPE, text=True)
        self.have: dict[str, int] = {}
        self.opened, self.resyncs = 0, 0
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            self.have = said.get("have", self.have)
            self.opened = said.get("opened", self.opened)
            self.resyncs += "resync" in said

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_eventsource_has_what_a_list_shows_although_it_loses_its_connection(tmp_path: Path) -> None:
    limits = {**LIMITS, "JWT_EXPIRATION_DELTA": "3600"}
    with running(tmp_path / "var", "--workers", "1", **limits) as service:
        assert until(lambda: is_ready(service), 20)
        assert service.send("POST", "/v1/accounts", ADA).status_code == 201
        token = token_of(service)
        assert until(lambda: service.send("GET", "/v1/changes", token=token).status_code == 200)
        folder = tmp_path / "node"
        folder.mkdir()
        cursor = service.send("GET", "/v1/changes?types=notes", token=token).json()["cursor"]
        follower = Follower(folder, f"http://127.0.0.1:{service.port}", token, cursor)
        try:
            assert until(lambda: follower.opened == 1)
            for loss in range(LOSSES):
                for number in range(5):
                    service.send("POST", "/v1/notes", {"id": f"n{loss}-{number}", "title": "x"}, token)
                service.send("PATCH", f"/v1/notes/n{loss}-0", {"title": "y"}, token)
                opened = follower.opened
                for pid in children(service.pid("madang-streams")):
                    os.kill(pid, signal.SIGKILL)
                service.send("DELETE", f"/v1/notes/n{loss}-1", token=token)
                assert until(lambda opened=opened: follower.opened > opened, 30)
            listed = service.send("GET", "/v1/notes?limit=100", token=token).json()["items"]
            assert len(listed) == LOSSES * 4
            assert until(lambda: follower.have == {note["id"]: note["revision"] for note in listed}, 15)
            assert follower.resyncs == 0
        finally:
            follower.end()
