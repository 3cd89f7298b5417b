"""Where the programs of the service listen."""

import errno
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from service.serve.failures import CannotStart

LOOPBACK = "127.0.0.1"
DOOR, API, STREAMS, WORKER = PROGRAMS = ("door", "api", "streams", "worker")


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """Return the address that is written `host:port`. Raises `ValueError`."""
    host, _, port = text.rpartition(":")
    return Address(host.strip("[]"), int(port))


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each of the programs that are started listens."""

    of: Mapping[str, Address]
    reserved: Sequence[socket.socket] = ()
    """Held open, so that no other process gets a port while its program is started again."""


def laid_out(names: Sequence[str], host: str, port: int) -> Layout:
    """Return where programs listen: the door at `host` and `port` and the others behind it.

    Without a door, the first of them listens there and each other one at the next port. Raises `CannotStart` where one
    of these is taken.
    """
    if DOOR in names:
        refuse_taken(Address(host, port))
        others = [name for name in names if name != DOOR]
        reserved = [reserve() for _ in others]
        inside = {name: Address(*taken.getsockname()[:2]) for name, taken in zip(others, reserved, strict=True)}
        return Layout({DOOR: Address(host, port), **inside}, reserved)
    found = laid_in_a_row(names, host, port)
    for address in found.values():
        refuse_taken(address)
    return Layout(found)


def laid_in_a_row(names: Sequence[str], host: str, port: int) -> dict[str, Address]:
    """Return where programs without a door listen: the first at a port, each other one at the next."""
    return {name: Address(host, port + number) for number, name in enumerate(names)}


def reserve() -> socket.socket:
    """Return a socket with a free port of this machine, which processes of this user alone may share."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    taken.bind((LOOPBACK, 0))
    return taken


def refuse_taken(address: Address) -> None:
    """Raise `CannotStart` where nobody can listen.

    That is also when another server has the port: the kernel would share the requests out between the two.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            reason = f"{address}: {error.strerror or error}"
            is_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
            raise CannotStart(f"{reason}\n{OTHER_HOST if is_host else other_port(address.port)}") from error


OTHER_HOST = "Choose a host of this machine: --host 127.0.0.1, or --host 0.0.0.0 for all of its addresses"


def other_port(port: int) -> str:
    """Return what to do where a port cannot be had."""
    return f'Choose another port: make serve ARGS="--port {port % 65000 + 10}"'


def answers(address: Address) -> bool:
    """Tell whether somebody takes connections there."""
    host = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}.get(address.host, address.host)  # noqa: S104
    try:
        socket.create_connection((host, address.port), timeout=1).close()
    except OSError:
        return False
    return True
