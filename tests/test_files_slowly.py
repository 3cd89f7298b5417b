"""Downloads through the door by clients that are slow, or take nothing: the kernel holds megabytes on the way."""

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import requests

from tests.racing import at_once
from tests.test_processes import LIMITS, is_ready
from tests.test_run import ADA, Running, running, token_of
from tests.waiting import until

pytestmark = pytest.mark.real

PATIENCE = 4.0
"""`CLIENT_TIMEOUT`, in seconds."""
CONTENT = hashlib.shake_128(b"film").digest(2**24)
"""More than the kernel holds on both ways, that to the door and that from there."""
SLOW_SECONDS, SLOW_RATE = 20, 200_000
"""A client takes so many bytes a second for so long; the kernel lets us go on after more than its patience."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {**LIMITS, "CLIENT_TIMEOUT": str(PATIENCE), "FILES_DIRECT_BYTES": str(2**25)}
    with running(tmp_path_factory.mktemp("var"), "--workers", "1", **limits) as found:
        assert until(lambda: is_ready(found), 20)
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        yield found


def download(service: Running, token: str, id: str) -> socket.socket:
    """Ask for a file, and take nothing of it yet."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    head = (
        f"GET /v1/files/{id}/content HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
    connection.sendall(head.encode())
    return connection


def test_a_slow_client_gets_all_of_a_file_and_one_that_takes_nothing_is_cut_off(service: Running) -> None:
    token = token_of(service)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    made = requests.post(f"http://127.0.0.1:{service.port}/v1/files", CONTENT, headers=headers, timeout=60)
    id = made.json()["id"]

    def slowly() -> bytes:
        found = bytearray()
        with closing(download(service, token, id)) as connection:
            begun = time.monotonic()
            while (passed := time.monotonic() - begun) < SLOW_SECONDS:
                if (due := int(passed * SLOW_RATE) - len(found)) > 0:
                    found += connection.recv(due)
                time.sleep(0.05)
            while piece := connection.recv(2**16):
                found += piece
        return bytes(found)

    def never() -> bool:
        with closing(download(service, token, id)) as connection:

            def is_cut() -> bool:
                try:
                    connection.send(b"\r\n")
                except OSError:
                    return True
                return False

            return until(is_cut, 60)

    received, was_cut = at_once(slowly, never)
    assert received.endswith(CONTENT)
    assert was_cut
