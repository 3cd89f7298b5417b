"""The open connections of this process as the kernel sees them: those that keep us waiting are cut off."""

import os
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

SLOWEST = 1024
"""Bytes a second below which a client does not take its answer."""
BUFFERED = 3
"""How many times `CLIENT_TIMEOUT` a client may seem to take nothing of a long answer, though it takes it slowly.

The kernel holds megabytes of what is sent to a client, and lets us go on when a third of that has been taken.
"""

Peer = tuple[str, int]


class State(NamedTuple):
    """What the kernel knows of a connection."""

    silent: float
    """Seconds since we sent anything; since it was opened, if we never did."""
    owing: bool
    """Whether something was received since: a request has begun, and its rest or our answer is due."""
    acknowledged: int
    """Bytes that the client has taken."""
    pending: bool
    """Whether there are others that it has not."""
    stalls: int = 0
    """Looks in a row at which it had taken none of them since the one before."""


class Watch:
    """Cuts off clients that take too long to send a body or to take an answer.

    Granian reads and writes without a time limit, and does not tell which connection a request came by. But a client
    on whose connection nothing moves can be told from the kernel's figures: twice in a row, half the time apart.
    """

    def __init__(self, patience: float, idle: float, behind_door: bool = False) -> None:
        """Take the seconds that a client may take, and those after which an idle connection is closed anyway.

        The door closes its idle connections much earlier, so that all that are older than the patience are at work.
        """
        self.patience = patience
        self.idle = idle
        self.behind_door = behind_door
        # Two looks for each patience. The door takes as slowly as its client, but for more than one look at a time.
        self.most_stalls = 2 * BUFFERED if behind_door else 1
        self.waits: dict[object, tuple[float, str]] = {}

    def begin(self, address: str) -> object:
        """Note that a client of an address is waited for."""
        key = object()
        self.waits[key] = time.monotonic(), address
        return key

    def end(self, key: object) -> None:
        """Note that it no longer is."""
        del self.waits[key]

    def start(self, port: int) -> None:
        """Watch the clients that are connected to a port, as long as the process lives."""
        if sys.platform == "linux":
            threading.Thread(target=self.run, args=[port], name="watch", daemon=True).start()

    def run(self, port: int) -> None:
        """Look at the connections twice within the patience."""
        seen: dict[Peer, State] = {}
        while True:
            time.sleep(self.patience / 2)
            seen = self.look(port, seen)

    def look(self, port: int, before: Mapping[Peer, State]) -> dict[Peer, State]:
        """Cut connections that are as they were when they were `before`; return how all are now."""
        late = self.late()
        found: dict[Peer, State] = {}
        for peer, connection in connections(port):
            now = state(connection)
            found[peer] = self.compare(connection, peer[0] in late, before[peer], now) if peer in before else now
        return found

    def late(self) -> set[str]:
        """Return the addresses of the clients that are waited for too long."""
        latest = time.monotonic() - self.patience
        return {address for begun, address in list(self.waits.values()) if begun < latest}

    def compare(self, connection: socket.socket, late: bool, before: State, now: State) -> State:
        """Cut a connection on which nothing has moved, or for a `late` client too little; return how it is `now`."""
        least = SLOWEST * self.patience / 2 if late else 1
        owing = (before.owing and now.owing) or self.behind_door
        silent = now.silent > self.patience and owing
        if before.pending and now.pending and now.acknowledged - before.acknowledged < least:
            now = now._replace(stalls=before.stalls + 1)
        with suppress(OSError):  # it may have ended by itself
            if now.stalls >= self.most_stalls:
                connection.shutdown(socket.SHUT_RDWR)
            # Of two requests in one piece only the first was answered: it looks idle, but outlives those that are.
            elif late and not now.pending and (silent or now.silent > self.idle + self.patience):
                # It ends the body; what the request is answered still goes out.
                connection.shutdown(socket.SHUT_RD)
        return now


def connections(port: int) -> Iterator[tuple[Peer, socket.socket]]:
    """Yield the connections of others to a port of ours, and who is at their end. They are closed with the next."""
    with os.scandir("/proc/self/fd") as entries:
        numbers = [int(entry.name) for entry in entries]
    for number in numbers:
        with suppress(OSError):
            # A copy: Granian may close its own at any moment, and the number be another's.
            copy = os.dup(number)
            if not stat.S_ISSOCK(os.fstat(copy).st_mode):
                os.close(copy)
                continue
            # Whatever its kind is, it is not asked for that: the kernel knows.
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, copy) as connection:
                if connection.getsockname()[1:2] == (port,):
                    yield connection.getpeername()[:2], connection


def state(connection: socket.socket) -> State:
    """Return what the kernel knows of a connection (`struct tcp_info` of Linux)."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    unacknowledged, sent, received, acknowledged, unsent, answers = struct.unpack("=24xI16xI4xI64xQ16xI8xI32x", info)
    return State(sent / 1000, received < sent or not answers, acknowledged, bool(unacknowledged or unsent))
