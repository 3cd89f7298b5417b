"""The service started again, with new code, whenever a file changes: for those who write it."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import watchfiles

from service.serve.mongod import LocalServer
from service.serve.process import launched
from service.serve.programs import revived
from service.serve.signals import Signals

LOOK = 0.2
"""Seconds between two looks at the service and at what has changed."""
PARTS = ("service", "settings", "run.py")
"""What the service is made of: what else changes in the folder is none of its code."""
PATIENCE = 3
"""Seconds for requests to end before the service is told to hurry."""


def keep_new(
    words: Sequence[str],
    root: Path,
    environ: Mapping[str, str],
    server: LocalServer | None,
    signals: Signals,
    say: Callable[[str], object],
) -> int:
    """Run a command until a signal comes, and again whenever a part of it below `root` changes; return the exit code.

    The `server` that it asks runs on meanwhile, and is started again when it dies; where that is of no use, this ends.
    `say` is given the lines for the person at the terminal.
    """
    signals.listen()
    mongod = None if server is None else revived(server)
    process = begun(words, environ)
    changes = watchfiles.watch(
        root, watch_filter=Parts(root), rust_timeout=int(LOOK * 1000), yield_on_timeout=True, raise_interrupt=False
    )
    for changed in changes:
        if signals.wait(0):
            break
        if mongod is not None and (code := mongod.look()) is not None:
            ended(process)
            return code
        if changed:
            say(f"changed: {changed_names(changed, root)}")
            ended(process)
            process = begun(words, environ)
    code = ended(process)
    # It had only just been started, and did not listen yet: the signal ended it, or what it had under way.
    return 0 if code in (-signal.SIGTERM, 128 + signal.SIGTERM) else code


class Parts(watchfiles.DefaultFilter):
    """Lets through what is a part of the service in the folder `root`."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __call__(self, change: watchfiles.Change, path: str) -> bool:
        """Tell whether a change is one of the service."""
        first = Path(os.path.relpath(path, self.root)).parts[:1]
        return first[0] in PARTS and super().__call__(change, path) if first else False


def begun(words: Sequence[str], environ: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start the service."""
    return launched(words, signal.SIGTERM, env=dict(environ))


def ended(process: "subprocess.Popen[bytes]") -> int:
    """End the service; return its exit code."""
    for sign in (signal.SIGTERM, signal.SIGTERM):
        if process.poll() is None:
            process.send_signal(sign)
        try:
            return process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            continue
    return process.wait()


def changed_names(changed: Iterable[tuple[watchfiles.Change, str]], root: Path) -> str:
    """Return the names of files that have changed."""
    return ", ".join(sorted(os.path.relpath(path, root) for _, path in changed))
