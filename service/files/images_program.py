"""The program that decodes images: it forks a process for each, under limits, and reads none itself.

It is started with no environment and no descriptor but a socket to who has started it, and knows nothing of the
service. Over the socket comes a task with two descriptors: the image, and a pipe for what is made of it. What is said
of an image is `ok` and a line end and the bytes, or `no` and a sentence. Where neither was said, the process was
killed: it took too long, wanted too much memory, or broke.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import warnings
from contextlib import suppress

from service.files import images_work
from service.files.images_confinement import confine, end_with_program
from service.files.images_tasks import DONE, REFUSED, Task
from service.files.images_work import NotRendered

REAPS_EVERY = 0.2
"""Seconds between two looks at the processes, while there are any."""
MOST_BYTES_OF_A_TASK = 4096


class Limits:
    """What one process may take: `memory` in bytes, `seconds` of a processor, and twice as many by the clock."""

    def __init__(self, memory: int, seconds: int) -> None:
        self.memory, self.seconds = memory, seconds

    def set(self) -> None:
        """Set them, for good: no file, socket or process can be opened from here on."""
        if sys.platform == "linux":
            set_limit(resource.RLIMIT_AS, self.memory)
        set_limit(resource.RLIMIT_CPU, self.seconds)
        signal.setitimer(signal.ITIMER_REAL, 2 * self.seconds)
        for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE):
            set_limit(kind, 0)
        if not confine():
            set_limit(resource.RLIMIT_NPROC, 0)


def set_limit(kind: int, most: int) -> None:
    """Set a limit that cannot be raised again; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


class DecodingProgram:
    """Takes tasks from its socket, until that is closed."""

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self.control, self.limits = control, limits
        self.deadlines: dict[int, float] = {}

    def run(self) -> None:
        """Start a process for each task, and end those that take too long; all of them in the end."""
        while True:
            ready, _, _ = select.select([self.control], [], [], REAPS_EVERY if self.deadlines else None)
            if ready and not self.take():
                break
            self.reap()
            self.kill(time.monotonic())
        self.kill(float("inf"))

    def take(self) -> bool:
        """Start a process for the next task; false where there is none, for the other side has gone."""
        text, descriptors, _, _ = socket.recv_fds(self.control, MOST_BYTES_OF_A_TASK, 2)
        if not text:
            return False
        source, output = descriptors
        task = Task(*json.loads(text))
        program, process = os.getpid(), os.fork()
        if process == 0:
            self.work(task, source, output, program)
        os.close(source)
        os.close(output)
        self.deadlines[process] = time.monotonic() + 2 * self.limits.seconds
        self.control.sendall(b".")
        return True

    def work(self, task: Task, source: int, output: int, program: int) -> None:
        """Do a task in the process that was forked for it, and end this."""
        if not end_with_program(program):
            os._exit(0)
        self.control.close()
        self.limits.set()
        with suppress(BrokenPipeError):
            for piece in said_of(task, source):
                write(output, piece)
        os._exit(0)

    def reap(self) -> None:
        """Forget the processes that have ended."""
        while self.deadlines:
            process, _ = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            self.deadlines.pop(process, None)

    def kill(self, now: float) -> None:
        """Kill the processes whose time is over."""
        for process in [process for process, deadline in self.deadlines.items() if deadline <= now]:
            os.kill(process, signal.SIGKILL)


def said_of(task: Task, source: int) -> tuple[bytes, bytes]:
    """Return what is said of an image: what was made of it, or why nothing was."""
    try:
        with os.fdopen(source, "rb") as file:
            return DONE, images_work.render(file, task)
    except NotRendered as refused:
        return REFUSED, str(refused).encode()
    except MemoryError:
        return REFUSED, b"the image takes more memory to decode than there may be"
    except Exception:  # whatever the decoders raise of bytes that are foreign: the image is broken
        return REFUSED, b"the image is broken, or its format is not one that is read"


def write(output: int, data: bytes) -> None:
    """Write all of the data into a pipe."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(output, rest) :]


def main() -> None:
    """Run. The arguments are the descriptor of the socket, and the memory in bytes and the seconds of one process."""
    descriptor, memory, seconds = map(int, sys.argv[1:])
    # What Pillow thinks of foreign bytes is of no use to anybody.
    warnings.simplefilter("ignore")
    images_work.load_decoders()
    gc.freeze()
    DecodingProgram(socket.socket(fileno=descriptor), Limits(memory, seconds)).run()
