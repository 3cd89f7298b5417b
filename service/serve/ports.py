"""Ports of this machine for a server that is started in a moment."""

import random
import socket
from itertools import chain
from pathlib import Path

from service.serve.addresses import LOOPBACK

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, LAST = 10_000, 65_535
"""Programs that people know by their ports are below."""

_given: set[int] = set()
_random = random.SystemRandom()


def free_port() -> int:
    """Return a port of loopback that nobody has; see `free_ports`."""
    return free_ports(1)


def free_ports(number: int) -> int:
    """Return the first of some ports in a row which nobody has; this process gets none of them twice.

    None is one that the kernel gives to an outgoing connection, as far as there are others: until its server listens,
    such a port can become one end of any connection of this machine. Raises `OSError` where none can be found.
    """
    choice = settled()
    begin = _random.randrange(len(choice))
    for first in chain(choice[begin:], choice[:begin]):
        row = range(first, first + number)
        if row[-1] <= choice[-1] and _given.isdisjoint(row) and all(map(port_is_free, row)):
            _given.update(row)
            return first
    raise OSError(f"No {number} ports in a row are free among {choice[0]} to {choice[-1]}")


def settled() -> range:
    """Return the ports that no outgoing connection is given; all where the kernel keeps none apart."""
    try:
        first, last = map(int, EPHEMERAL.read_text().split())
    except OSError:  # not on Linux: the range that IANA names
        first, last = 49_152, LAST
    return max(range(LOWEST, first), range(last + 1, LAST + 1), key=len) or range(LOWEST, LAST + 1)


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen at this port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
