"""The folder in which the processes of one start add up their metrics."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
FOLDERS = "metrics-"


@contextmanager
def shared(var: Path) -> Iterator[Path]:
    """Give the processes that are forked in this block a folder in `var`, and remove those that nobody uses.

    prometheus-client looks for it when it is imported, which must not have happened before.
    """
    var.mkdir(parents=True, exist_ok=True)
    folder, lock = made(var.resolve())
    os.environ[VARIABLE] = str(folder)
    remove_unused(var)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def made(var: Path) -> tuple[Path, int]:
    """Make a folder, and lock it for as long as the returned file or one that a fork inherits is open."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-", dir=var))
        # Another start may take it for one that nobody uses before it is locked.
        with suppress(OSError):
            return folder, locked(folder)


def locked(folder: Path) -> int:
    """Lock a folder. Raises `OSError` where another process has locked it, or it is gone."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()
    except OSError:
        os.close(lock)
        raise
    return lock


def remove_unused(var: Path) -> None:
    """Remove the folders of services that were killed: the kernel has freed their locks."""
    for folder in var.glob(f"{FOLDERS}*"):
        with suppress(OSError):
            lock = locked(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
