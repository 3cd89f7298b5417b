"""Ports for servers that are started in a moment."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.serve import ports
from service.serve.ports import free_port, free_ports

pytestmark = pytest.mark.once


def test_no_outgoing_connection_can_take_a_port_before_its_server_listens() -> None:
    first, last = map(int, ports.EPHEMERAL.read_text().split())
    given = {free_port() for _ in range(500)}
    assert not [port for port in given if first <= port <= last or port < 1024]


def test_a_process_gets_no_port_twice() -> None:
    given = [free_port() for _ in range(300)]
    rows = [first + place for first in (free_ports(3) for _ in range(100)) for place in range(3)]
    assert len({*given, *rows}) == 600


@pytest.mark.parametrize("is_listening", [True, False])
def test_a_port_that_somebody_has_is_not_given(monkeypatch: pytest.MonkeyPatch, is_listening: bool) -> None:
    first = free_ports(4)
    monkeypatch.setattr(ports, "settled", lambda: range(first, first + 4))
    monkeypatch.setattr(ports, "_given", set())
    with ExitStack() as held:
        other = held.enter_context(socket.create_server(("127.0.0.1", first + 1 if is_listening else 0)))
        if not is_listening:
            source = ("127.0.0.1", first + 1)
            held.enter_context(socket.create_connection(other.getsockname(), source_address=source))
        assert free_ports(2) == first + 2
        assert free_port() == first
        with pytest.raises(OSError, match="No 1 ports"):
            free_port()


@pytest.mark.parametrize(
    ("kept", "best"),
    [
        ("32768\t60999\n", range(10_000, 32_768)),
        ("1024 20000", range(20_001, 65_536)),
        ("1024 65535", range(10_000, 65_536)),
    ],
)
def test_the_range_is_what_the_kernel_leaves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: str, best: range
) -> None:
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "range")
    assert ports.settled() == range(10_000, 49_152)
    ports.EPHEMERAL.write_text(kept)
    assert ports.settled() == best
