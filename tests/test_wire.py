"""MongoDB's wire protocol: what is no reply is refused, and what comes in pieces is put together."""

import socket

import pytest

from service.mongo import wire

LATE = 1e12
"""A deadline that does not come."""


def header(length: int, reply_to: int) -> bytes:
    return wire.HEADER.pack(length, 1, reply_to, wire.OP_MSG, 0, 0)


def test_a_message_that_is_no_reply_is_refused() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(header(wire.HEADER.size, 7))
        with pytest.raises(OSError, match="not the reply"):
            wire.receive(here, 8, LATE)


def test_a_connection_that_ends_within_a_reply_is_an_error() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(header(wire.HEADER.size, 8)[:9])
        there.close()
        with pytest.raises(OSError, match="closed"):
            wire.receive(here, 8, LATE)


def test_more_than_the_reply_is_refused() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(header(wire.HEADER.size, 8) + b"more")
        with pytest.raises(OSError, match="not the reply"):
            wire.receive(here, 8, LATE)


def test_a_reply_in_pieces_is_put_together() -> None:
    here, there = socket.socketpair()
    with here, there:
        body = bytes(range(256)) * 300
        whole = header(wire.HEADER.size + len(body), 8) + body
        for start in range(0, len(whole), 10_000):
            there.sendall(whole[start : start + 10_000])
        assert bytes(wire.receive(here, 8, LATE)) == body


def test_a_reply_whose_pieces_come_too_late_is_given_up() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(header(1000, 8))
        with pytest.raises(TimeoutError):
            wire.receive(here, 8, 0)
