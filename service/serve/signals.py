"""The signals of a process that starts others: heard one by one, in the main thread, none lost."""

import os
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

ENDING = (signal.SIGTERM, signal.SIGINT)
NOT_ENDING = (signal.SIGCHLD, signal.SIGALRM)
HANDLED = (*ENDING, signal.SIGHUP, *NOT_ENDING)
FROM_A_TERMINAL = (signal.SIGINT, signal.SIGHUP)
"""What a terminal sends to all processes that it started; the one that started the others tells them in its order."""

IMPORTS = "<frozen importlib._bootstrap>"
"""Where Python takes the locks of imports."""
AGAIN = 0.02
"""Seconds until a signal that came during an import is heard."""


class Signals:
    """Signals that end this process, or tell of the end of another, as long as the block lasts.

    At first one ends what is under way, but for an import: it raises `SystemExit`. After `listen` it is heard by `wait`
    alone.
    """

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.far.setblocking(False)
        self.former: dict[int, object] = {}
        self.is_listening = False
        self.ending = 0
        """The signal that ended, or will end, what is under way."""

    def __enter__(self) -> Self:
        """Hear signals from now on."""
        signal.set_wakeup_fd(self.far.fileno(), warn_on_full_buffer=False)
        for sign in HANDLED:
            # Who started it with `nohup` wants it to live on.
            if signal.getsignal(sign) is not signal.SIG_IGN or sign in NOT_ENDING:
                self.former[sign] = signal.signal(sign, self.hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hear signals no longer."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(-1)
        for sign, handler in self.former.items():
            signal.signal(sign, handler)  # type: ignore[arg-type]
        self.near.close()
        self.far.close()

    def hear(self, sign: int, frame: FrameType | None) -> None:
        """End what is under way when a signal comes to which nobody listens; an import is waited for.

        What breaks an import off can leave the lock of all imports held for ever, and another thread may wait for it.
        """
        if sign == signal.SIGCHLD or self.is_listening:
            return
        if sign != signal.SIGALRM:
            self.ending = sign
        if is_importing(frame):
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
            return
        # One that has waited meanwhile is not to break off what this one ends.
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Python ignores an exception in a finalizer, where this may run: `wait` tells of the signal all the same.
        raise SystemExit(128 + self.ending)

    def listen(self) -> None:
        """Let `wait` tell of signals from now on."""
        self.is_listening = True

    def wait(self, seconds: float) -> bool:
        """Wait for a signal, at most so long; tell whether one came that ends this process."""
        if not select.select([self.near], [], [], max(0.0, seconds))[0]:
            return False
        return bool({*self.near.recv(4096)} - {*NOT_ENDING})


def is_importing(frame: FrameType | None) -> bool:
    """Tell whether what runs at a frame is a part of an import."""
    return any(at.f_code.co_filename == IMPORTS for at, _ in traceback.walk_stack(frame))


def become_child() -> None:
    """Let this process, which was just forked under `held_back`, end by SIGTERM alone, as it would by itself."""
    signal.set_wakeup_fd(-1)
    for sign in HANDLED:
        signal.signal(sign, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, FROM_A_TERMINAL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


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


def end_with(parent: int, patience: float) -> None:
    """Start a thread that ends this process when its parent is gone: nobody else would, and it would keep its port.

    It is told to end, and has to within `patience` seconds.
    """

    def work() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os._exit(1)

    # It takes no signal: the main thread might not wake up for it.
    with held_back():
        threading.Thread(target=work, name="parent", daemon=True).start()
