"""What the kernel tells of a connection, from which slow clients are known."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from service.http.connections import BUFFERED, State, Watch, connections, state


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the end of a client, and ours."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as near,
        listener.accept()[0] as far,
    ):
        yield near, far


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_look_at_the_connections_leaves_nothing_open() -> None:
    with pair() as (near, far):
        before = open_files()
        for _ in range(3):
            assert [peer for peer, _ in connections(far.getsockname()[1])] == [near.getsockname()]
        assert open_files() == before


def seen(first: bytes, answer: bytes = b"", then: bytes = b"") -> State:
    """What the kernel tells of a connection on which these were received, sent and received, some time apart."""
    with pair() as (near, far):
        for sender, piece in ((near, first), (far, answer), (near, then)):
            if piece:
                sender.sendall(piece)
                time.sleep(0.02)
        return state(far)


def test_the_kernel_tells_who_owes_what() -> None:
    assert seen(b"half a request").owing
    assert not seen(b"a request", b"an answer").owing
    assert seen(b"a request", b"an answer", b"half a request").owing
    answered = seen(b"a request", b"an answer")
    assert (answered.acknowledged, answered.pending) == (len(b"an answer"), False)
    assert 0.015 < answered.silent < 10


def test_an_answer_that_is_not_taken_is_pending() -> None:
    with pair() as (_, far):
        far.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                far.send(bytes(65536))
        assert state(far).pending


IDLE = State(silent=1, owing=False, acknowledged=5, pending=False)


@pytest.mark.parametrize(
    ("late", "before", "now", "cut"),
    [
        (True, {"owing": True, "silent": 15}, {"owing": True, "silent": 21}, "body"),
        (False, {"owing": True, "silent": 15}, {"owing": True, "silent": 21}, None),
        (True, {"silent": 15}, {"owing": True, "silent": 21}, None),
        (True, {"owing": True, "silent": 5}, {"owing": True, "silent": 11}, None),
        (True, {"silent": 60}, {"silent": 74}, None),
        (True, {"silent": 86}, {"silent": 96}, "body"),
        (False, {"pending": True}, {"pending": True}, "all"),
        (False, {"pending": True}, {"pending": True, "acknowledged": 6}, None),
        (True, {"pending": True}, {"pending": True, "acknowledged": 6}, "all"),
        (True, {"pending": True}, {"pending": True, "acknowledged": 50_000}, None),
        (False, {}, {"pending": True}, None),
    ],
)
def test_a_connection_is_cut_that_did_not_move(
    late: bool, before: dict[str, Any], now: dict[str, Any], cut: str | None
) -> None:
    watch = Watch(patience=20.0, idle=75.0)
    with pair() as (near, far):
        near.settimeout(0.05)
        far.settimeout(0.05)
        watch.compare(far, late, IDLE._replace(**before), IDLE._replace(**now))
        assert is_ended(near) == (cut == "all")
        assert is_ended(far) == (cut is not None)


def test_behind_the_door_whoever_is_silent_is_at_work() -> None:
    """Which of two came first in the same tick of the kernel, it does not tell; the door keeps no idle connection."""
    watch = Watch(patience=20.0, idle=75.0, behind_door=True)
    with pair() as (_, far):
        far.settimeout(0.05)
        watch.compare(far, True, IDLE._replace(silent=9), IDLE._replace(silent=19))
        assert not is_ended(far)
        watch.compare(far, False, IDLE._replace(silent=15), IDLE._replace(silent=25))
        assert not is_ended(far)
        watch.compare(far, True, IDLE._replace(silent=15), IDLE._replace(silent=25))
        assert is_ended(far)


def test_behind_the_door_a_client_may_seem_to_take_nothing_for_longer() -> None:
    """The kernel holds megabytes on the way there, and tells of progress a megabyte at a time."""
    watch = Watch(patience=20.0, idle=75.0, behind_door=True)
    pending = IDLE._replace(pending=True)
    with pair() as (near, far):
        near.settimeout(0.05)
        now = pending
        for _ in range(2 * BUFFERED - 1):
            now = watch.compare(far, True, now, pending._replace(silent=50))
        moved = pending._replace(acknowledged=pending.acknowledged + 1)
        now = watch.compare(far, False, now, moved)
        for _ in range(2 * BUFFERED - 1):
            assert not is_ended(near)
            now = watch.compare(far, False, now, moved)
        watch.compare(far, False, now, moved)
        assert is_ended(near)


def is_ended(end: socket.socket) -> bool:
    """Tell whether nothing more comes from the other end."""
    try:
        return end.recv(1) == b""
    except TimeoutError:
        return False


def test_only_who_is_waited_for_too_long_is_cut_off() -> None:
    watch = Watch(patience=0.1, idle=75.0)
    with pair() as (near, far):
        far.settimeout(0.05)
        port = far.getsockname()[1]
        near.sendall(b"half a request")
        assert far.recv(100)
        waiting = watch.begin("127.0.0.1")
        seen = watch.look(port, {})
        assert list(seen) == [near.getsockname()]
        time.sleep(0.15)
        assert watch.late() == {"127.0.0.1"}
        watch.end(waiting)
        watch.look(port, seen)
        assert not is_ended(far)
        watch.waits[waiting] = (time.monotonic() - 1, "127.0.0.1")
        watch.look(port, seen)
        assert is_ended(far)
