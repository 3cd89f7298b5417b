"""A TCP proxy before MongoDB that holds its answers back, or takes no connection at all."""

import socket
import threading
import time
from contextlib import closing, suppress

from service.serve.ports import free_port


class Proxy:
    """What stands between a service and a server on loopback; it starts and ends with a `with` block."""

    def __init__(self, target: int) -> None:
        """Take the port of the server."""
        self.target = target
        self.port = free_port()
        self.delay = 0.0
        """Seconds by which each piece of an answer is late."""
        self.loses: bytes | None = None
        """What the next answer holds that does not arrive: the connection breaks instead."""
        self.listener: socket.socket | None = None
        self.open: set[socket.socket] = set()

    def __enter__(self) -> "Proxy":
        self.listen()
        return self

    def __exit__(self, *_error: object) -> None:
        self.shut()

    def listen(self) -> None:
        """Take connections."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=[self.listener], daemon=True).start()

    def shut(self) -> None:
        """Close the port and all connections."""
        if self.listener is not None:
            with suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        for connection in list(self.open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def accept(self, listener: socket.socket) -> None:
        """Join each connection with one of its own to the server, until the listener is closed."""
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.open |= {near, far}
                threading.Thread(target=self.pass_on, args=[near, far, False], daemon=True).start()
                threading.Thread(target=self.pass_on, args=[far, near, True], daemon=True).start()

    def pass_on(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        """Pass on what comes from one end, until it has nothing more."""
        with suppress(OSError), closing(source):
            while piece := source.recv(2**20):
                if answers:
                    time.sleep(self.delay)
                    if self.loses is not None and self.loses in piece:
                        self.loses = None
                        break
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        self.open.discard(source)
