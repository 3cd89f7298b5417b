"""Granian as this service runs it: it says that it will end before it does, and replaces workers that die."""

import multiprocessing
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from granian.log import logger
from granian.server.mp import MPServer

DEATHS = 10
"""Occasions on which workers died within `DEATHS_WINDOW`, after which the server gives up: they cannot start."""
DEATHS_WINDOW = 60.0
"""In seconds."""

ENDING = (signal.SIGTERM, signal.SIGINT)

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


def wake_for_signals() -> None:
    """Let the main thread of this process hear a signal at once, whichever thread the kernel gave it to.

    Python calls the handler in the main thread, which does not wake up for it when another thread took the signal: a
    thread that is just being started can. A worker would serve on, deaf, until it is killed. Call it from the main
    thread.
    """
    heard, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    main = threading.get_ident()

    def work() -> None:
        while signals := heard.recv(64):
            if set(signals) != {signal.SIGUSR1}:
                signal.pthread_kill(main, signal.SIGUSR1)

    threading.Thread(target=work, name="signals", daemon=True).start()


@contextmanager
def held_back() -> Iterator[None]:
    """Let the signals that end a server wait until the block is over, for this thread and processes it starts in it.

    A worker takes over its parent's handler, which would take the signal and not end the worker; it lets them come when
    it has its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_on_signals() -> None:
    """Let a signal end this process, a worker that has just been started; one that was held back ends it now."""
    for sign in ENDING:
        signal.signal(sign, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


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

    def __init__(self, *args: Any, draining: Draining, drain_delay: float, **options: Any) -> None:
        """Take Granian's own arguments, and the seconds from a signal to the end of listening."""
        super().__init__(*args, **options)
        self.draining = draining
        self.drain_delay = drain_delay
        self.deaths: deque[float] = deque(maxlen=DEATHS)

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
            if self.reload_signal and not self.interrupt_signal:
                self._reload(spawn_target, target_loader)  # type: ignore[no-untyped-call]
            if self.interrupt_signal:
                return
            dead = [wrk.idx for wrk in self.wrks if not wrk.is_alive()]  # type: ignore[no-untyped-call]
            if dead and self.die_too_often():
                logger.error(f"workers died on {DEATHS} occasions within {DEATHS_WINDOW:.0f} s; the server gives up")
                # Granian's end takes these for its failure, and its exit code is 1.
                self.interrupt_children.extend(dead)
                return
            self.interrupt_children.clear()
            self._respawn_workers(dead, spawn_target, target_loader)

    def _spawn_worker(self, *args: Any, **named: Any) -> Any:
        """Return a worker that is about to start, and will hear no signal before its first line."""
        worker: Any = super()._spawn_worker(*args, **named)
        worker.start = held_back()(worker.start)
        return worker

    def die_too_often(self) -> bool:
        """Tell whether, with those that are dead now, workers died on `DEATHS` occasions within `DEATHS_WINDOW`."""
        moment = time.monotonic()
        self.deaths.append(moment)
        return len(self.deaths) == DEATHS and moment - self.deaths[0] <= DEATHS_WINDOW
