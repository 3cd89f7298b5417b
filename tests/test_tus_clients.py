"""tus-js-client as it ships, through a proxy that cuts connections at random, while processes are killed.

`MADANG_TUS_UPLOADS` and `MADANG_TUS_BYTES` say how many uploads of how many bytes; a few small ones of themselves. The
long form, in `make chaos`, is 200 of 30 MB.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.test_generated_clients import OURS, TOOLS
from tests.test_processes import LIMITS, is_ready
from tests.test_run import ADA, Running, children, running, token_of
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.clients]

UPLOADS = int(os.environ.get("MADANG_TUS_UPLOADS", "4"))
BYTES = int(os.environ.get("MADANG_TUS_BYTES", "3000000"))
KILL_PAUSE = 15
"""Least seconds between two kills: after ten within a minute the service gives up, as it should."""


class Scissors:
    """A proxy for any TCP, which cuts each connection after so many bytes as it comes to, on whichever way."""

    def __init__(self, port: int, random: Random, most: int) -> None:
        self.port, self.random, self.most, self.cuts = port, random, most, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"

    def __enter__(self) -> "Scissors":
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.close()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.server.accept()
                threading.Thread(target=self.relay, args=[client], daemon=True).start()

    def relay(self, client: socket.socket) -> None:
        """Hand on what comes on both ways, until it is time to cut."""
        other = socket.create_connection(("127.0.0.1", self.port))
        left = [self.random.randrange(1, self.most)]

        def one_way(source: socket.socket, target: socket.socket) -> None:
            with suppress(OSError):
                while piece := source.recv(65536):
                    target.sendall(piece[: left[0]])
                    left[0] -= len(piece)
                    if left[0] <= 0:
                        self.cuts += 1
                        break
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        back = threading.Thread(target=one_way, args=[other, client], daemon=True)
        back.start()
        one_way(client, other)
        back.join()
        client.close()
        other.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {**LIMITS, "JWT_EXPIRATION_DELTA": "3600", "FILES_ACCOUNT_BYTES": str(2**40)}
    with running(tmp_path_factory.mktemp("var"), "--workers", "1", **limits) as found:
        assert until(lambda: is_ready(found))
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        yield found


def test_every_upload_arrives_whole_although_connections_are_cut_and_processes_killed(
    service: Running, tmp_path: Path
) -> None:
    if not (TOOLS / "node_modules/tus-js-client").exists():
        pytest.fail("there is no tus-js-client: `make clients` installs it")
    shutil.copy(OURS / "tus.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    token = token_of(service)
    with Scissors(service.port, Random(18), 2 * BYTES) as proxy:
        words = [proxy.url, token, str(UPLOADS), str(BYTES), "4"]
        client = subprocess.Popen(["node", tmp_path / "tus.mjs", *words], stdout=subprocess.PIPE, text=True)
        assert client.stdout is not None
        said, kills, killed = [], 0, 0.0
        for number, line in enumerate(client.stdout):
            said.append(json.loads(line))
            if "brokenOff" in said[-1]:
                break
            if number % 4 == 0 and time.monotonic() - killed > KILL_PAUSE:
                killed = time.monotonic()
                for pid in children(service.pid("madang-streams")):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
        assert client.wait() == 0
        client.stdout.close()
    # The library has Node end with 0 also where something was never answered: this line comes after all of them.
    assert "brokenOff" in said[-1], f"{len(said)} of {UPLOADS} uploads have come to an end"
    broken_off = said.pop()["brokenOff"]
    assert [one["failed"] for one in said if "failed" in one] == []
    assert proxy.cuts > 0
    told = f"{proxy.cuts} connections cut, {broken_off} answers cut behind their head, {kills} processes killed"
    print(f"{UPLOADS} uploads of {BYTES} bytes: {told}")  # noqa: T201  for docs/reliability.md
    files = {}
    path = "/v1/files?limit=100"
    while path:
        page = service.send("GET", path, token=token).json()
        files.update({record["id"]: record for record in page["items"]})
        path = f"/v1/files?limit=100&cursor={page['next']}" if page["next"] else ""
    assert len(said) == UPLOADS
    for one in said:
        assert (files[one["file"]]["sha256"], files[one["file"]]["size"]) == (one["sha256"], BYTES)
    account = service.send("GET", "/v1/accounts/me", token=token).json()
    # A creation whose answer was lost is an upload that nobody goes on with.
    assert account["storage"]["used"] >= UPLOADS * BYTES
