"""What the kernel tells of a connection, from which slow clients are known."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from service.connections import State, connections, state


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
