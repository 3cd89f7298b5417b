"""Work on a thread of its own, which can be told to end without another thread being hit."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any


class Interrupted(BaseException):
    """The work has to end: it is over its time, or is not this process's to do any more.

    No `Exception`: work that catches all of those does not go on by mistake.
    """


class OwnThread:
    """Work that has begun, what it raised, and how it is told to end."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        """Begin."""
        self.work = work
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.perform, name=name, daemon=True)
        self.thread.start()

    def perform(self) -> None:
        """Do the work, and keep what it raised."""
        try:
            self.work()
        except BaseException as error:
            self.error = error

    def has_ended(self, seconds: float) -> bool:
        """Wait for the end of the work, so long at most; tell whether it has ended."""
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def interrupt(self) -> None:
        """Tell the work to end: `Interrupted` is raised in it, as soon as it is at work in Python."""
        # Another one may have the identity of one that has ended.
        if self.thread.is_alive():
            thread = ctypes.c_ulong(self.thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(Interrupted))
