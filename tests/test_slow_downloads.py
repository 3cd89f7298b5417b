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
from tests.test_slow_clients import is_cut
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
        assert until(lambda: is_ready(found))
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        yield found


def download(service: Running, token: str, path: str) -> socket.socket:
    """Ask for what is at a path, and take nothing of it yet."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=60)
    head = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def slowly(service: Running, token: str, path: str) -> bytes:
    """What a slow client gets."""
    found = bytearray()
    with closing(download(service, token, path)) as connection:
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < SLOW_SECONDS:
            if (due := int(passed * SLOW_RATE) - len(found)) > 0:
                found += connection.recv(due)
            time.sleep(0.05)
        while piece := connection.recv(2**16):
            found += piece
    return bytes(found)


def is_cut_off(service: Running, token: str, path: str) -> bool:
    """Whether a client is that takes nothing."""
    with closing(download(service, token, path)) as connection:
        return until(lambda: is_cut(connection), 60)


def test_a_slow_client_gets_all_and_one_that_takes_nothing_is_cut_off(service: Running) -> None:
    """Of a file, which the streams send, and of an export, which the API sends."""
    token = token_of(service)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    base = f"http://127.0.0.1:{service.port}"
    made = requests.post(f"{base}/v1/files", CONTENT, headers=headers, timeout=60)
    file, export = f"/v1/files/{made.json()['id']}/content", "/v1/accounts/me/export"
    notes = [{"method": "POST", "path": "/v1/notes", "body": {"title": "x", "body": "y" * 100_000}}] * 10
    for _ in range(len(CONTENT) // 1_000_000 + 1):
        assert service.send("POST", "/v1/batch", {"requests": notes}, token).json()["responses"][-1]["status"] == 201

    sent, exported, *cut = at_once(
        lambda: slowly(service, token, file),
        lambda: slowly(service, token, export),
        lambda: is_cut_off(service, token, file),
        lambda: is_cut_off(service, token, export),
    )
    assert sent.endswith(CONTENT)
    assert (len(exported) > len(CONTENT), exported[-7:]) == (True, b"\r\n0\r\n\r\n")
    assert cut == [True, True]
