"""Processes that this one has started: forked ones that do work of ours, and programs of others."""

import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

from service.serve.failures import CANNOT_START, CannotStart
from service.serve.signals import become_child, end_with, held_back

DRAIN_SECONDS = 10
"""How long a process may take to end what it has begun."""
PR_SET_NAME = 15

# A launcher instead of `preexec_fn`: Python code between fork and exec can deadlock when other threads hold locks.
# The death signal survives exec. The parent may be gone before prctl, then no signal would ever come.
LAUNCHER = """
import os, signal, sys
parent, sign, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, sign)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")
os.execv(command[0], command)
"""


class Process(Protocol):
    """A process that was started."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code, negative where a signal killed it; None while it lives."""
        ...

    def is_ready(self) -> bool:
        """Tell whether it does what it is there for."""
        ...

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        ...


class Spawned:
    """A program of others."""

    def __init__(self, process: "subprocess.Popen[bytes]", is_ready: Callable[[], bool] = lambda: True) -> None:
        self.process = process
        self.pid = process.pid
        self.probe = is_ready

    def poll(self) -> int | None:
        """Return its exit code, negative where a signal killed it; None while it lives."""
        return self.process.poll()

    def is_ready(self) -> bool:
        """Tell whether it does what it is there for."""
        return self.probe()

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        self.process.send_signal(sign)


class Forked:
    """A process that does `work`, which is given what it calls when it is ready."""

    def __init__(self, name: str, work: Callable[[Callable[[], None]], None]) -> None:
        """Start it. Call it while there is no other thread: what that one holds would be held for ever."""
        self.name, self.work = name, work
        self.code: int | None = None
        told, tell = os.pipe()
        os.set_blocking(told, False)
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        with held_back():
            self.pid = os.fork()
            if self.pid == 0:
                os.close(told)
                self.run(parent, tell)
        os.close(tell)
        self.told = told

    def run(self, parent: int, tell: int) -> NoReturn:
        """Do the work, in the new process, and end that."""
        began = False

        def ready() -> None:
            nonlocal began
            began = True
            os.write(tell, b".")

        code = 1
        try:
            become_child()
            call_itself(process_name(self.name))
            end_with(parent, DRAIN_SECONDS + 1)
            self.work(ready)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except CannotStart as error:
            code = error.code
            sys.stderr.write(f"Madang does not start: {error}\n")
        except BaseException as error:
            if isinstance(error, ValueError) and not began:
                # What reads a setting says so of one that is wrong.
                code = CANNOT_START
                sys.stderr.write(f"Madang does not start: {error}\n")
            else:
                traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def poll(self) -> int | None:
        """Return its exit code, negative where a signal killed it; None while it lives."""
        if self.code is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.code = os.waitstatus_to_exitcode(status)
                os.close(self.told)
        return self.code

    def is_ready(self) -> bool:
        """Tell whether it has said so; after that, it is not asked again."""
        try:
            return self.code is None and bool(os.read(self.told, 1))
        except BlockingIOError:
            return False

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        if self.poll() is None:
            os.kill(self.pid, sign)


def process_name(program: str) -> str:
    """Return what the process of a program is called."""
    return f"madang-{program}"


def call_itself(name: str) -> None:
    """Give this process a name for `ps` and `top`, where the system can."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def launched(command: Sequence[str], death: signal.Signals, **options: object) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own; on Linux it gets the signal `death` when this thread ends.

    In a session of its own, Ctrl-C does not reach it: the service says when it ends.
    """
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), str(int(death))]
    return subprocess.Popen([*launcher, *command], start_new_session=True, **options)  # type: ignore[call-overload,no-any-return]  # noqa: S603
