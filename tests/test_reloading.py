"""A command that is run again when a part of it changes: `--reload` without a service."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.serve import reloading
from service.serve.signals import Signals
from tests.waiting import until

pytestmark = pytest.mark.once

COMMAND = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with open(sys.argv[1], "a") as file:
    file.write("begun\\n")
while True:
    time.sleep(0.05)
"""


class Kept:
    """A command that is kept new, and what was told of it."""

    def __init__(self, root: Path, command: str = COMMAND) -> None:
        self.command, self.root, self.begun, self.told = command, root, root / "begun", []
        (root / "service").mkdir()

    def times(self) -> int:
        return self.begun.read_text().count("\n") if self.begun.exists() else 0

    def until(self, happen: Callable[[], object]) -> int:
        """The exit code of what is kept new until something has happened in another thread."""

        def work() -> None:
            try:
                until(lambda: self.times() == 1)
                happen()
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        with Signals() as signals, ThreadPoolExecutor(1) as threads:
            done = threads.submit(work)
            words = [sys.executable, "-c", self.command, str(self.begun)]
            code = reloading.keep_new(words, self.root, os.environ, None, signals, self.told.append)
            done.result()
        return code


def test_it_is_run_again_when_a_part_changes(tmp_path: Path) -> None:
    kept = Kept(tmp_path)

    def edit() -> None:
        (tmp_path / "service" / "one.py").write_text("ONE = 1\n")
        until(lambda: kept.times() == 2)

    assert kept.until(edit) == 0
    assert kept.told == [f"changed: {Path('service') / 'one.py'}"]


def test_what_is_no_part_leaves_it_alone(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    (tmp_path / "docs").mkdir()

    def edit() -> None:
        (tmp_path / "README.md").write_text("# One\n")
        (tmp_path / "docs" / "one.md").write_text("# One\n")
        # What is a part is heard after it.
        (tmp_path / "run.py").write_text("ONE = 1\n")
        until(lambda: kept.times() == 2)

    assert kept.until(edit) == 0
    assert kept.told == ["changed: run.py"]


def test_one_that_is_ended_while_it_starts_has_ended_as_asked(tmp_path: Path) -> None:
    starting = COMMAND.replace("sys.exit(0)", "sys.exit(128 + signal.SIGTERM)")
    assert Kept(tmp_path, starting).until(lambda: None) == 0


def test_the_exit_code_of_a_failure_is_handed_on(tmp_path: Path) -> None:
    assert Kept(tmp_path, COMMAND.replace("sys.exit(0)", "sys.exit(3)")).until(lambda: None) == 3


def test_when_its_mongod_is_given_up_it_ends_with_the_same_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "revived", lambda server: SimpleNamespace(look=lambda: server.code))
    words, server = [sys.executable, "-c", COMMAND, str(tmp_path / "begun")], SimpleNamespace(code=4)
    with Signals() as signals:
        assert reloading.keep_new(words, tmp_path, os.environ, cast("Any", server), signals, print) == 4


STUBBORN = """
import signal, sys, time
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
print("begun", flush=True)
while len(heard) < 2:
    time.sleep(0.02)
time.sleep(0.5)
sys.exit(5)
"""


def test_one_that_does_not_end_is_told_once_more_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "PATIENCE", 0.2)
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert reloading.ended(process) == 5
        assert reloading.ended(process) == 5
