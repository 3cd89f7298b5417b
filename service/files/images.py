"""Smaller images: each made in a process of its own, by the program that `images_program` is."""

import asyncio
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

from service.core.errors import BadImage, Overloaded
from service.files.images_sizes import Size
from service.files.images_tasks import DONE, REFUSED, Task
from service.files.images_turns import Turns

PROJECT_FOLDER = Path(__file__).parent.parent.parent
IMPORT = "from service.files.images_program import main; main()"
START_CODE = f"import sys; sys.path.insert(0, {str(PROJECT_FOLDER)!r}); {IMPORT}"
"""What Python is started with: isolated, it does not look for modules anywhere but where it is told to."""
MEMORY, MEMORY_OF_A_PIXEL = 512 * 1024 * 1024, 16
"""Bytes that a process may take: what Python and the decoders reserve, and four copies of the largest image."""
BYTES_OF_A_PIXEL = 8
"""Bytes in a file for each pixel that may be decoded: what has more than four channels of 16 bits take is no image."""
MOST_RESULT = 64 * 1024 * 1024
"""Most bytes of a smaller image."""
PIPE_BYTES = 65_536
BEYOND_LIMITS = 5.0
"""Seconds that the program has beyond its own limits, until it is taken for broken."""


class Decoders:
    """Makes smaller images, so many at once; the others in their turn. `render` is for any thread."""

    code = START_CODE

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Take `FILES_PIXELS`, `FILES_DECODERS` and `FILES_IMAGE_SECONDS`. The program is started when it is needed."""
        self.pixels, self.seconds = settings["FILES_PIXELS"], settings["FILES_IMAGE_SECONDS"]
        self.turns = Turns(settings["FILES_DECODERS"])
        self.pool = ThreadPoolExecutor(settings["FILES_DECODERS"], thread_name_prefix="images")
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None

    async def rendered(self, account: str, pieces: Iterable[bytes], size: Size, media_type: str) -> bytes:
        """Return the smaller image when it is the turn of an account. Raises `BadImage` or `Overloaded`."""
        async with self.turns.of(account):
            work = partial(self.render, pieces, size, media_type)
            return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    def render(self, pieces: Iterable[bytes], size: Size, media_type: str) -> bytes:
        """Return the smaller image, of the bytes that come piece by piece. Raises `BadImage` or `Overloaded`."""
        task = Task(size.width, size.height, size.cover, media_type, self.pixels)
        with tempfile.TemporaryFile() as source:
            spool(pieces, source, BYTES_OF_A_PIXEL * self.pixels)
            said = self.asked(task, source)
        if said.startswith(DONE):
            return said[len(DONE) :]
        if said.startswith(REFUSED):
            raise BadImage(said[len(REFUSED) :].decode(errors="replace")[:200])
        raise BadImage("the image takes more time or memory to decode than there may be")

    def asked(self, task: Task, source: IO[bytes]) -> bytes:
        """Return what is said of a task: nothing where its process was killed. Raises `Overloaded`."""
        reading, writing = os.pipe()
        try:
            try:
                program = self.hand_over(task, source.fileno(), writing)
            finally:
                os.close(writing)
            said = read_all(reading, time.monotonic() + 2 * self.seconds + BEYOND_LIMITS)
        finally:
            os.close(reading)
        if said is None or (not said and program.poll() is not None):
            self.forget(program)
            raise Overloaded("what decodes images is being started again")
        return said

    def hand_over(self, task: Task, source: int, output: int) -> subprocess.Popen[bytes]:
        """Give a task to the program, started where there is none; return it. Raises `Overloaded` where it is gone."""
        with self.lock:
            program, control = self.running()
            try:
                socket.send_fds(control, [json.dumps(task).encode()], [source, output])
                taken = control.recv(1)
            except OSError:
                taken = b""
        if not taken:
            self.forget(program)
            raise Overloaded("what decodes images is being started again")
        return program

    def running(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """Return the program and the socket to it. Call it with the lock."""
        if self.process is None or self.control is None:
            ours, theirs = socket.socketpair()
            ours.settimeout(BEYOND_LIMITS)
            memory = MEMORY + MEMORY_OF_A_PIXEL * self.pixels
            with theirs:
                # The program is ours, and its arguments are numbers.
                self.process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-I", "-c", self.code, str(theirs.fileno()), str(memory), str(self.seconds)],
                    pass_fds=[theirs.fileno()],
                    env={},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self.control = ours
        return self.process, self.control

    def forget(self, program: subprocess.Popen[bytes]) -> None:
        """End a program that is no use any more, and all that it has forked; the next task starts another."""
        with self.lock:
            if self.process is program:
                self.end()

    def close(self) -> None:
        """End the program. What waits for it gets nothing."""
        with self.lock:
            self.end()

    def end(self) -> None:
        """Kill the program; what it has forked goes with it. Call it with the lock."""
        if self.process is not None and self.control is not None:
            self.control.close()
            self.process.kill()
            self.process.wait()
            self.process = self.control = None


def spool(pieces: Iterable[bytes], file: IO[bytes], most: int) -> None:
    """Write bytes into a file, for a decoder goes back and forth in them. Raises `BadImage` where they are too many."""
    count = 0
    for piece in pieces:
        count += len(piece)
        if count > most:
            raise BadImage(f"the image has more than {most} bytes")
        file.write(piece)
    file.flush()
    file.seek(0)


def read_all(descriptor: int, deadline: float) -> bytes | None:
    """Return what comes out of a pipe until its end, None where that does not come in time. Raises `BadImage`."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    found = bytearray()
    while poll.poll(max(0, deadline - time.monotonic()) * 1000):
        piece = os.read(descriptor, PIPE_BYTES)
        if not piece:
            return bytes(found)
        found += piece
        if len(found) > MOST_RESULT:
            raise BadImage("the smaller image has too many bytes")
    return None
