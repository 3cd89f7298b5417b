"""Calls to servers of others: one that hangs, drips, sends a gigabyte or leads elsewhere gets nothing out of us."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from service.outbox import calling
from service.outbox.calling import Called, OutwardCaller
from service.outbox.targets import Targets

pytestmark = pytest.mark.once

Serve = Callable[[socket.socket], None]


class Receiver:
    """A server that does with each connection what it is told to."""

    def __init__(self, serve: Serve) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.serve, self.came, self.ended = serve, 0, threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            if self.ended.is_set():
                connection.close()
                return
            self.came += 1
            with connection, suppress(OSError):
                self.serve(connection)

    def stop(self) -> None:
        self.ended.set()
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        self.thread.join(10)
        self.listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?a=b"


@pytest.fixture
def receiver() -> Iterator[Callable[[Serve], Receiver]]:
    started: list[Receiver] = []

    def start(serve: Serve) -> Receiver:
        started.append(Receiver(serve))
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "CALL_SECONDS", 0.5)


def received(connection: socket.socket) -> bytes:
    """The next bytes. Raises `ConnectionError` at the end."""
    if not (came := connection.recv(65_536)):
        raise ConnectionError("it has ended")
    return came


def read_request(connection: socket.socket) -> bytes:
    """All of a request: what is closed with something unread breaks off."""
    connection.settimeout(5)
    came = received(connection)
    while b"\r\n\r\n" not in came:
        came += received(connection)
    head, _, body = came.partition(b"\r\n\r\n")
    length = int(next(line for line in head.split(b"\r\n") if line[:15] == b"Content-Length:")[15:])
    while len(body) < length:
        body += received(connection)
    return head + b"\r\n\r\n" + body


def saying(*pieces: bytes, wait: float = 0.0) -> Serve:
    """What reads something, and says pieces of an answer."""

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(wait)

    return serve


def call(receiver: Receiver, body: bytes = b"{}", **headers: str) -> Called:
    return OutwardCaller(Targets(["127.0.0.0/8"])).call(receiver.url, body, headers)


def test_a_request_is_sent_as_http_and_any_2xx_is_taken(receiver: Any) -> None:
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        seen.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    there = receiver(serve)
    called = call(there, b'{"a":1}', Own="yes")
    assert (called.is_taken, called.status, called.reason) == (True, 204, "204 No Content")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /hook?a=b HTTP/1.1"
    assert {f"Host: 127.0.0.1:{there.port}", "Content-Length: 7", "Connection: close", "Own: yes"} == set(lines[1:])
    assert body == b'{"a":1}'


@pytest.mark.parametrize("status", [199, 300, 400, 410, 429, 500, 503])
def test_no_other_status_is_taken(receiver: Any, status: int) -> None:
    answer = f"HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".encode()
    called = call(receiver(saying(answer)))
    assert not called.is_taken
    if status >= 200:
        assert (called.status, called.retry_after) == (status, 7.0)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("21600", 21_600.0),
        ("999999999", 21_600.0),
        ("9" * 40, 21_600.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 21_600.0),
        ("Mon, 01 Jan 1990 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2030 99999999999:00:00 GMT", None),
    ],
)
def test_nobody_has_us_wait_for_longer_than_six_hours(receiver: Any, asked: str, told: float | None) -> None:
    answer = f"HTTP/1.1 429 X\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n".encode()
    called = call(receiver(saying(answer)))
    assert (called.status, called.retry_after) == (429, told)


def test_no_redirect_is_followed(receiver: Any) -> None:
    elsewhere = receiver(saying(b"HTTP/1.1 200 OK\r\n\r\n"))
    for status in (301, 302, 303, 307, 308):
        answer = f"HTTP/1.1 {status} Found\r\nLocation: {elsewhere.url}\r\n\r\n".encode()
        called = call(receiver(saying(answer)))
        assert (called.is_taken, "not followed" in called.reason) == (False, True)
    assert elsewhere.came == 0


def hang(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)


def never_read(connection: socket.socket) -> None:
    time.sleep(1.0)


def drip(connection: socket.socket) -> None:
    for one in b"HTTP/1.1 200 OK" * 9:
        connection.sendall(bytes([one]))
        time.sleep(0.05)


@pytest.mark.parametrize("serve", [hang, never_read, drip])
def test_who_keeps_us_waiting_is_left_in_time(receiver: Any, serve: Serve) -> None:
    there = receiver(serve)
    began = time.monotonic()
    called = call(there, b"x" * 20_000)
    assert called.status is None
    assert time.monotonic() - began < 1.5


def test_of_a_gigabyte_nothing_is_read(receiver: Any) -> None:
    sent = 0

    def serve(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(1024):
            connection.sendall(b"x" * 1_048_576)
            sent += 1

    there = receiver(serve)
    began = time.monotonic()
    assert call(there).is_taken
    assert time.monotonic() - began < 1.0
    there.stop()
    assert sent < 100


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00" * 100,
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"HTTP/1.1 200 " + b"x" * 70_000,
    ],
)
def test_what_is_no_answer_of_http_is_none(receiver: Any, said: bytes) -> None:
    assert call(receiver(saying(said))).status is None


def test_a_name_that_is_another_address_by_then_is_not_looked_up_again(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the first answer is open, the second is this machine."""
    there = receiver(saying(b"HTTP/1.1 200 OK\r\n\r\n"))
    answers = ["203.0.113.9", "127.0.0.1"]
    connected: list[str] = []

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (answers.pop(0), port))]

    def connect(address: tuple[str, int], *_: Any) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError

    targets = Targets(["203.0.113.0/24"])
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", look_up)
        patched.setattr(socket, "create_connection", connect)
        called = OutwardCaller(targets).call(f"https://rebound.example:{there.port}/", b"{}", {})
        assert connected == ["203.0.113.9"]
        assert called == Called(None, "it takes no connection")
        assert "not called" in OutwardCaller(targets).call("https://rebound.example/", b"{}", {}).reason
    assert there.came == 0


def test_an_address_that_comes_too_late_is_not_called(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = receiver(saying(b"HTTP/1.1 200 OK\r\n\r\n"))
    monkeypatch.setattr(calling, "LOOK_UP_SECONDS", -1.0)
    assert (call(there), there.came) == (Called(None, "no address in time"), 0)


def test_a_server_of_our_own_is_not_called(receiver: Any) -> None:
    there = receiver(saying(b"HTTP/1.1 200 OK\r\n\r\n"))
    called = OutwardCaller(Targets()).call(there.url.replace("http:", "https:"), b"{}", {})
    assert (called.status, there.came) == (None, 0)


def test_a_certificate_has_to_be_good(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    there = receiver(saying(b"HTTP/1.1 200 OK\r\n\r\n"))
    called = OutwardCaller(Targets(["127.0.0.0/8"])).call(there.url.replace("http:", "https:"), b"{}", {})
    assert (called.status, called.reason) == (None, "no TLS")
