"""The programs of the service beside each other: started again when they die, ended in order."""

import signal
import time
from collections.abc import Callable, Sequence

from service.core import metrics
from service.core.log import log
from service.serve.deaths import MOST_DEATHS, WINDOW, Deaths
from service.serve.failures import CANNOT_START, GAVE_UP
from service.serve.process import DRAIN_SECONDS, Process
from service.serve.signals import Signals

LOOK = 0.05
"""Seconds between two looks at programs that are not ready yet."""
SLACK = 2.0
"""Seconds that a program may take beyond those in which it has to end."""


class Program:
    """A program that is kept running."""

    def __init__(self, name: str, start: Callable[[], Process]) -> None:
        """Take its name, and what starts a process of it."""
        self.name, self.start = name, start
        self.process: Process | None = None
        self.deaths = Deaths()
        self.due = 0.0
        """When it is started, where it has no process."""
        self.was_ready = False

    def look(self) -> int | None:
        """Start it where that is due; return the exit code of the service where that would be of no use."""
        if self.process is None:
            if time.monotonic() >= self.due:
                self.process = self.start()
            return None
        code = self.process.poll()
        if code is None:
            self.was_ready = self.was_ready or self.process.is_ready()
            return None
        metrics.forget(self.process.pid)
        self.process = None
        return self.mourn(code)

    def mourn(self, code: int) -> int | None:
        """Say that it has ended and when it is started again; return the exit code of the service if it is not."""
        if code in (CANNOT_START, GAVE_UP):
            return CANNOT_START if code == CANNOT_START else 1
        self.deaths.add()
        self.due = time.monotonic() + self.deaths.pause
        end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if self.deaths.too_many or (code > 0 and not self.was_ready):
            log.error("program_given_up", program=self.name, end=end, most=MOST_DEATHS, seconds=WINDOW)
            return 1
        log.warning("program_died", program=self.name, end=end, started_again_in=round(self.deaths.pause, 1))
        return None

    def lives(self) -> bool:
        """Tell whether it has a process that has not ended."""
        return self.process is not None and self.process.poll() is None

    def send(self, sign: signal.Signals) -> None:
        """Send its process a signal, if it has one."""
        if self.process is not None:
            self.process.send(sign)


class Supervisor:
    """Keeps programs running until a signal comes; they are started in their order."""

    def __init__(self, programs: Sequence[Program], signals: Signals, begun: Callable[[], object]) -> None:
        """Take the programs, where signals are heard, and what is called when all are ready for the first time."""
        self.programs = list(programs)
        self.signals = signals
        self.begun: Callable[[], object] | None = begun

    def run(self) -> int:
        """Keep them running; return the exit code that is due when one cannot, or 0 after a signal."""
        while True:
            for program in self.programs:
                if (code := program.look()) is not None:
                    return code
            if self.begun is not None and all(program.was_ready for program in self.programs):
                self.begun()
                self.begun = None
            if self.signals.wait(self.pause()):
                return 0

    def pause(self) -> float:
        """Return the seconds until something may be due; the end of a process is heard at once."""
        if self.begun is not None:
            return LOOK
        return min((program.due - time.monotonic() for program in self.programs if not program.process), default=60.0)

    def end(self, delay: float) -> None:
        """End all: the door first, which serves for so many seconds more; a signal makes it quick.

        What has begun is answered: the API ends after the door, or before it when there is no time to wait for that.
        """
        self.send(signal.SIGTERM, "worker", "door")
        if self.living("door"):
            hurried = self.wait(delay, "door")
            self.send(signal.SIGTERM, "streams")
            hurried or self.wait(DRAIN_SECONDS + SLACK, "door", "streams")
        self.send(signal.SIGTERM, "api", "streams")
        while self.wait(delay + DRAIN_SECONDS + SLACK, "api", "streams", "worker"):
            self.send(signal.SIGTERM, "api", "streams")
        # It may still hand over the last that they said; one that serves on for its delay is not waited for.
        self.wait(SLACK, "door")
        self.send(signal.SIGKILL, "door", "api", "streams", "worker")

    def living(self, *names: str) -> list[Program]:
        """Return those of the programs that live."""
        return [program for program in self.programs if program.name in names and program.lives()]

    def send(self, sign: signal.Signals, *names: str) -> None:
        """Send a signal to programs."""
        for program in self.living(*names):
            program.send(sign)

    def wait(self, seconds: float, *names: str) -> bool:
        """Wait until programs have ended, at most so long; tell whether a signal came first."""
        end = time.monotonic() + seconds
        while self.living(*names) and (left := end - time.monotonic()) > 0:
            if self.signals.wait(left):
                return True
        return False
