"""Clients that are slow, silent, or send without end: they keep nobody else waiting, and memory does not grow."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.test_attacks_requests import raw, request, statuses
from tests.test_run import ADA, Running, running
from tests.waiting import until

pytestmark = pytest.mark.real

SLOTS = 2
PATIENCE = 1.0
"""`CLIENT_TIMEOUT` of the server, in seconds."""
CUT = 15.0
"""Seconds within which a slow client is cut off, twice its patience and what a busy machine adds."""
HALF_A_BODY = b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"


@pytest.fixture(scope="module", params=["with a door", "without a door"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = {"CLIENT_TIMEOUT": str(PATIENCE), "IDLE_TIMEOUT": "3", "ADMISSION_WAIT": "0.2"}
    alone = () if request.param == "with a door" else ("--only", "api")
    options = ("--memory", "--threads", str(SLOTS), *alone)
    with running(tmp_path_factory.mktemp("var"), *options, RATELIMIT_ENABLED="false", **limits) as found:
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        yield found


@pytest.fixture
def connect(service: Running) -> Iterator[Callable[[bytes], socket.socket]]:
    """A function that opens a connection and sends the first bytes; all are closed in the end."""
    with ExitStack() as stack:

        def opened(first: bytes) -> socket.socket:
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(CUT)
            connection.connect(("127.0.0.1", service.port))
            connection.sendall(first)
            return stack.enter_context(closing(connection))

        yield opened


def memory(service: Running) -> float:
    """The resident megabytes of all its processes."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in service.everything()]
    return sum(int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024 for text in texts)


def works(service: Running) -> bool:
    return service.send("POST", "/auth", ADA).status_code == 200


# Bodies


def test_a_body_that_stops_is_cut_off_and_told(connect) -> None:
    connection = connect(HALF_A_BODY)
    answer = connection.recv(65536)
    assert statuses(answer) == [408]
    assert b'"code":"request_timeout"' in answer
    assert b"retry-after: 1" in answer.lower()
    assert connection.recv(65536) == b""


def test_a_body_of_a_byte_at_a_time_is_cut_off(connect) -> None:
    connection = connect(HALF_A_BODY)
    end = time.monotonic() + CUT
    connection.settimeout(0.2)
    answer = b""
    while not answer and time.monotonic() < end:
        connection.sendall(b" ")
        try:
            answer = connection.recv(65536)
        except TimeoutError:
            continue
    assert statuses(answer) == [408]


def test_slow_bodies_take_no_slot_and_not_all_places(service: Running, connect) -> None:
    slow: list[socket.socket] = []

    def refused() -> bool:
        slow.append(connect(HALF_A_BODY))
        answer = service.send("POST", "/v1/notes", {"title": "x"})
        return (answer.status_code, answer.json().get("code")) == (503, "overloaded")

    # When every place for a body is taken, one more is refused. What has no body is served.
    assert until(refused, CUT)
    assert service.send("GET", "/v1/notes").status_code == 401
    assert service.send("GET", "/health/live").status_code == 200
    assert {statuses(connection.recv(65536))[0] for connection in slow} <= {408, 503}
    assert until(lambda: works(service))


def test_a_connection_that_is_idle_or_at_work_is_not_cut_off_with_a_slow_one(service: Running, connect) -> None:
    idle = connect(request(b"GET /health/live"))
    assert statuses(idle.recv(65536)) == [200]
    slow = connect(HALF_A_BODY)
    assert statuses(slow.recv(65536)) == [408]
    idle.sendall(request(b"GET /health/live"))
    assert statuses(idle.recv(65536)) == [200]


def test_a_body_of_a_gibibyte_is_refused_unread(service: Running) -> None:
    before = memory(service)
    head = b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=CUT) as connection:
        connection.sendall(head)
        connection.settimeout(0.5)
        try:
            while sent < 2**30:
                sent += connection.send(bytes(65536))
        except OSError:
            pass
        connection.settimeout(CUT)
        assert statuses(connection.recv(65536)) == [413]
    assert sent < 2**26
    assert memory(service) < before + 30


def test_a_body_in_chunks_without_end_is_refused_at_the_limit(service: Running) -> None:
    before = memory(service)
    head = b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + bytes(65536) + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=CUT) as connection:
        connection.sendall(head)
        connection.settimeout(0.5)
        try:
            while sent < 2**30:
                sent += connection.send(piece)
        except OSError:
            pass
        connection.settimeout(CUT)
        assert statuses(connection.recv(65536)) == [413]
    assert sent < 2**26
    assert memory(service) < before + 30


# Answers that nobody takes


def is_cut(connection: socket.socket) -> bool:
    """Whether the other end takes nothing more."""
    try:
        connection.send(b"\r\n")
    except OSError:
        return True
    return False


def test_answers_that_nobody_reads_hold_no_slot_and_are_cut_off(service: Running, connect) -> None:
    page = request(b"GET /docs/swagger-ui-bundle.js")
    for _ in range(SLOTS * 3):
        connect(page * 3)
    assert service.send("GET", "/v1/notes").status_code == 401
    assert service.send("GET", "/health/live").status_code == 200
    assert until(lambda: works(service), CUT)


def test_a_large_answer_that_nobody_takes_is_thrown_away(service: Running, connect) -> None:
    token = service.send("POST", "/auth", ADA).json()["access_token"]
    for _ in range(60):
        assert service.send("POST", "/v1/notes", {"title": "x", "body": "x" * 100_000}, token).status_code == 201
    assert len(service.send("GET", "/v1/accounts/me/export", token=token).json()["notes"]) == 60
    connection = connect(request(b"GET /v1/notes?limit=100", b"Authorization: Bearer " + token.encode() + b"\r\n"))
    assert until(lambda: is_cut(connection), CUT)


# Headers


def test_who_says_nothing_or_a_byte_at_a_time_is_cut_off_and_holds_nothing(service: Running, connect) -> None:
    silent = connect(b"")
    slow = [connect(b"GET /health/live HTTP/1.1\r\nX-A: ") for _ in range(100)]
    assert works(service)

    def is_cut() -> bool:
        try:
            slow[0].send(b"a")
            slow[0].settimeout(0.2)
            return slow[0].recv(100) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    assert until(is_cut, CUT)
    assert silent.recv(100) == b""


@pytest.mark.parametrize(
    "flood",
    [b"X-A: b\r\n" * 100_000, b"X-A: " + b"b" * 1_000_000 + b"\r\n", b"".join(b"X-%d: b\r\n" % n for n in range(500))],
    ids=["many", "long", "500 names"],
)
def test_a_flood_of_headers_is_refused(service: Running, flood: bytes) -> None:
    before = memory(service)
    with socket.create_connection(("127.0.0.1", service.port), timeout=CUT) as connection:
        try:
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + flood + b"\r\n")
            answer = connection.recv(65536)
        except ConnectionError:
            answer = b""
    assert statuses(answer) in ([431], [])
    assert memory(service) < before + 30
    assert works(service)


def test_pipelined_requests_are_answered_in_order(service: Running) -> None:
    several = [request(b"GET /health/live"), request(b"GET /v1/notes"), request(b"GET /nothing")] * 20
    assert statuses(raw(service, b"".join(several))) == [200, 401, 404] * 20
