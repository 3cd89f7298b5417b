"""Granian as this service runs it: it says that it will end before it does, and replaces workers that die."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from typing import Any

from granian.constants import HTTPModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from service.core import metrics
from service.core.headers import HEADERS_BYTES
from service.core.log import log
from service.serve.addresses import Address
from service.serve.deaths import MOST_DEATHS, WINDOW, Deaths
from service.serve.failures import GAVE_UP
from service.serve.process import DRAIN_SECONDS, process_name
from service.serve.signals import held_back

FILES = 512
"""Open files that are no connections of clients: those to MongoDB, logs, metrics."""
WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Draining:
    """Whether the server is about to end. The parent process says so, and its workers see it at once."""

    def __init__(self) -> None:
        # Shared memory without a lock: a worker that is killed while it looks would hold a lock for ever.
        self.shared = multiprocessing.RawValue("b", 0)

    def __bool__(self) -> bool:
        """Tell whether the end has begun."""
        return bool(self.shared.value)

    def begin(self) -> None:
        """Let every worker know that the end has begun."""
        self.shared.value = 1


class Farewell:
    """A WSGI app that is `app`, and while the server drains asks each client to take another connection."""

    def __init__(self, app: WSGI, draining: Draining) -> None:
        self.app, self.draining = app, draining

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if not self.draining:
            return self.app(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, [*headers, ("Connection", "close")], *error)

        return self.app(environ, start)


class DrainingServer(MPServer):
    """Granian's server with a drain before its end, and with patience for workers that are killed.

    Left to itself, Granian ends when a worker dies within 5.5 s of the last one's death, and may miss one of several
    workers that die at the same moment.
    """

    def __init__(
        self, name: str, address: Address, settings: Mapping[str, Any], draining: Draining, **options: Any
    ) -> None:
        """Take the name of the program, where to listen, the settings of the service, and Granian's own options."""
        super().__init__(
            "service",
            address=address.host,
            port=address.port,
            backpressure=settings["MAX_CONNECTIONS"],
            # A connection that may turn out to be HTTP/2 is waited for without a limit, and has many requests at once.
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(settings["IDLE_TIMEOUT"] * 1000), max_buffer_size=HEADERS_BYTES
            ),
            workers_kill_timeout=DRAIN_SECONDS,
            log_level=LogLevels.error,
            # Where `setproctitle` is installed, Granian would take a name of its own; elsewhere it takes none.
            process_name=process_name(name) if find_spec("setproctitle") else None,
            **options,
        )
        self.draining = draining
        # The door looks after load balancers where there is one: nobody new comes when this server is told to end.
        self.drain_delay = 0.0 if settings["BEHIND_DOOR"] else settings["DRAIN_DELAY"]
        self.deaths = Deaths()

    def run(self, load: Callable[[], Any]) -> None:
        """Serve what `load` returns in each worker, until a signal comes. Exits where workers cannot live."""
        self.serve(target_loader=load, wrap_loader=False)
        if self.deaths.too_many:
            sys.exit(GAVE_UP)

    def shutdown(self, exit_code: int = 0) -> None:
        """Say that the end has begun, wait until a load balancer has seen it, then let the workers end."""
        self.draining.begin()
        if self.interrupt_signal:
            self.wait_for_balancer()
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]

    def wait_for_balancer(self) -> None:
        """Serve on for the drain delay, or until a second signal."""
        end = time.monotonic() + self.drain_delay
        self.interrupt_signal = False
        while not self.interrupt_signal and (left := end - time.monotonic()) > 0:
            self.main_loop_interrupt.wait(left)
            self.main_loop_interrupt.clear()

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        """Replace workers that die, until a signal comes or they die too often."""
        while True:
            self.main_loop_interrupt.wait()
            # Before the look: who dies after it wakes this again, and is not replaced twice.
            self.main_loop_interrupt.clear()
            if self.interrupt_signal:
                return
            dead = [wrk for wrk in self.wrks if not wrk.is_alive()]  # type: ignore[no-untyped-call]
            for worker in dead:
                metrics.forget(worker.inner.pid)
            if dead:
                self.deaths.add()
            # Granian takes them for its own failure.
            self.interrupt_children.clear()
            if self.deaths.too_many:
                log.error("workers_given_up", most=MOST_DEATHS, seconds=WINDOW)
                return
            self._respawn_workers([worker.idx for worker in dead], spawn_target, target_loader)

    def _spawn_worker(self, *args: Any, **named: Any) -> Any:
        """Return a worker that is about to start, and will hear no signal before its first line."""
        worker: Any = super()._spawn_worker(*args, **named)
        worker.start = held_back()(worker.start)
        return worker


def allow_connections(wanted: int) -> int:
    """Let this process and its workers open the files that so many connections need; return how many there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted + FILES if hard == resource.RLIM_INFINITY else min(wanted + FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    allowed = max(1, limit - FILES)
    if allowed < wanted:
        log.warning("few_connections", each_worker=allowed, reason="the limit of open files")
    return allowed
