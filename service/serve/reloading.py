"""The service started again, with new code, whenever a file changes: for those who write it."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import watchfiles

from service.serve.process import launched
from service.serve.signals import Signals

LOOK = 0.2
"""Seconds between two looks at the service and at what has changed."""
IGNORED = ("tests", "docs", "bench", "chaos", "fuzz")
PATIENCE = 3
"""Seconds for requests to end before the service is told to hurry."""


def keep_new(
    words: Sequence[str],
    root: Path,
    var: Path,
    environ: Mapping[str, str],
    signals: Signals,
    say: Callable[[str], object],
) -> int:
    """Run a command until a signal comes, and again whenever a file below `root` changes; return the exit code.

    `say` is given the lines for the person at the terminal. What is in `var` may change.
    """
    watched = watchfiles.DefaultFilter(
        ignore_dirs=[*watchfiles.DefaultFilter.ignore_dirs, *IGNORED], ignore_paths=[var.resolve()]
    )
    signals.listen()
    process = begun(words, environ)
    changes = watchfiles.watch(
        root, watch_filter=watched, rust_timeout=int(LOOK * 1000), yield_on_timeout=True, raise_interrupt=False
    )
    for changed in changes:
        if signals.wait(0):
            break
        if changed:
            say(f"changed: {changed_names(changed, root)}")
            ended(process)
            process = begun(words, environ)
    return ended(process)


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
