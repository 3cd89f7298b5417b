"""What keeps programs running, with processes that are made up."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from service.serve import counters
from service.serve.deaths import MOST_DEATHS
from service.serve.process import Forked, Spawned
from service.serve.signals import Signals
from service.serve.supervisor import Program, Supervisor
from tests.conftest import ROOT
from tests.test_run import gone
from tests.waiting import until


class Fake:
    """A process that ends when it is told to, or by itself."""

    pid = 0

    def __init__(self, code: int | None = None, stubborn: bool = False) -> None:
        self.code, self.stubborn = code, stubborn
        self.got: list[signal.Signals] = []

    def poll(self) -> int | None:
        return self.code

    def is_ready(self) -> bool:
        return self.code is None

    def send(self, sign: signal.Signals) -> None:
        self.got.append(sign)
        if not self.stubborn or sign == signal.SIGKILL:
            self.code = -sign


class SlowDoor(Fake):
    """A door that ends half a second after the API, with the last answer handed over."""

    def __init__(self, api: Fake) -> None:
        super().__init__(stubborn=True)
        self.api, self.left = api, 0.0

    def poll(self) -> int | None:
        if self.api.code is not None:
            self.left = self.left or time.monotonic() + 0.5
            self.code = 0 if self.code is None and time.monotonic() > self.left else self.code
        return self.code


class Quiet(Signals):
    """Signals that come when a test says so, after so many waits."""

    def __init__(self, *after: int) -> None:
        self.after, self.waits = set(after), 0

    def wait(self, seconds: float) -> bool:
        self.waits += 1
        time.sleep(min(seconds, 0.001))
        return self.waits in self.after


def test_a_program_that_dies_too_often_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    started: list[Fake] = []

    def start() -> Fake:
        started.append(Fake(-signal.SIGKILL))
        return started[-1]

    program = Program("api", start)
    program.was_ready = True
    end = time.monotonic() + 60
    while (code := program.look()) is None and time.monotonic() < end:
        program.due = 0.0  # without its pauses
    assert (code, len(started)) == (1, MOST_DEATHS)
    said = capsys.readouterr().out
    assert "killed by SIGKILL" in said
    assert "program_given_up" in said


@pytest.mark.parametrize(("code", "ends"), [(2, 2), (69, 1), (1, 1), (0, None), (-signal.SIGSEGV, None)])
def test_a_program_that_ends_at_its_start_is_started_again_only_where_that_helps(code: int, ends: int | None) -> None:
    program = Program("api", lambda: Fake(code))
    assert program.look() is None
    assert program.look() == ends


def test_one_that_failed_after_it_was_ready_is_started_again() -> None:
    processes = [Fake(), Fake()]
    program = Program("api", lambda: processes.pop(0))
    program.look()
    program.look()
    assert program.was_ready
    assert isinstance(program.process, Fake)
    program.process.code = 1
    assert program.look() is None
    assert program.process is None
    program.look()
    assert program.lives()


def supervisor(signals: Signals, **processes: Fake) -> Supervisor:
    programs = [Program(name, lambda process=process: process) for name, process in processes.items()]
    return Supervisor(programs, signals, lambda: None)


def everything(**options: Any) -> dict[str, Fake]:
    return {name: Fake(**options) for name in ("api", "streams", "worker", "door")}


def test_it_says_once_when_all_are_ready() -> None:
    said: list[bool] = []
    found = supervisor(Quiet(5), **everything())
    found.begun = lambda: said.append(True)
    assert found.run() == 0
    assert said == [True]


def test_a_program_that_cannot_start_ends_all() -> None:
    assert supervisor(Quiet(), api=Fake(2), door=Fake()).run() == 2


def test_programs_that_do_not_end_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serve.supervisor.DRAIN_SECONDS", -2)
    processes = everything(stubborn=True)
    found = supervisor(Quiet(10), **processes)
    found.run()
    found.end(0.0)
    assert all(process.got[-1] == signal.SIGKILL for process in processes.values())


def test_a_second_signal_ends_the_api_before_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.serve.supervisor.SLACK", 0.05)
    processes = everything()
    processes["door"].stubborn = True
    found = supervisor(Quiet(3, 4), **processes)
    found.run()
    found.end(60.0)
    assert processes["door"].got == [signal.SIGTERM, signal.SIGKILL]
    assert processes["api"].got == processes["streams"].got == [signal.SIGTERM]


def test_a_hurried_end_leaves_the_door_time_to_hand_over_the_last_answers() -> None:
    processes = everything()
    door = processes["door"] = SlowDoor(processes["api"])
    found = supervisor(Quiet(3, 4), **processes)
    found.run()
    found.end(60.0)
    assert door.got == [signal.SIGTERM]
    assert door.code == 0


def test_every_further_signal_is_handed_on() -> None:
    processes = {"api": Fake(stubborn=True)}
    found = supervisor(Quiet(3, 4, 5), **processes)
    found.run()
    monkey = processes["api"]
    found.end(-20.0)
    assert monkey.got[-1] == signal.SIGKILL
    assert monkey.got[0] == signal.SIGTERM


# Processes


def ended(process: Forked | Spawned) -> int:
    assert until(lambda: process.poll() is not None)
    code = process.poll()
    assert code is not None
    return code


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("ready(); time.sleep(0.2)", 0, ""),
        ("raise CannotStart('for a reason')", 2, "Madang does not start: for a reason"),
        ("sys.exit(69)", 69, ""),
        ("sys.exit('why')", 1, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", -15, ""),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(0.1)", 0, ""),
    ],
)
def test_a_forked_program_ends_as_its_work_does(script: str, code: int, said: str) -> None:
    """In a Python of its own: this one has threads."""
    text = f"""
import os, signal, sys, time
from service.serve.failures import CannotStart
from service.serve.process import Forked

def work(ready):
    {script}

forked = Forked("test", work)
was_ready = False
while forked.poll() is None:
    was_ready = was_ready or forked.is_ready()
    time.sleep(0.01)
assert was_ready == {"ready()" in script}
forked.send(signal.SIGKILL)
assert not forked.is_ready()
print(forked.poll())
"""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert int(done.stdout) == code
    assert said in done.stderr


def test_a_forked_program_ends_with_its_parent() -> None:
    text = """
import os, time
from service.serve.process import Forked
forked = Forked("test", lambda ready: time.sleep(60))
print(forked.pid, flush=True)
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=30, check=True
    )
    assert until(lambda: gone(int(done.stdout)), 15)


def test_a_spawned_program_gets_signals() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    spawned = Spawned(process)
    assert (spawned.poll(), spawned.is_ready(), spawned.pid) == (None, True, process.pid)
    spawned.send(signal.SIGKILL)
    assert ended(spawned) == -signal.SIGKILL


SIGNALS = """
import os, signal, sys
from service.serve.signals import Signals

# A shell has the programs in its background ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
with Signals() as signals:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it goes on")
    except SystemExit as ended:
        assert ended.code == 143
    signals.listen()
    assert signals.wait(0)  # also where the exception was lost
    assert not signals.wait(0)
    os.kill(os.getpid(), signal.SIGCHLD)
    assert not signals.wait(0)
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.wait(5)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""


def test_signals_end_what_is_under_way_and_later_are_heard() -> None:
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{SIGNALS}"
    assert subprocess.run([sys.executable, "-c", ignoring], cwd=ROOT, timeout=30, check=False).returncode == 0


# The folder of the metrics


def test_folders_that_nobody_uses_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(counters.VARIABLE, "")
    (tmp_path / "metrics-1-left").mkdir()
    (tmp_path / "metrics-1-left" / "counter_1.db").touch()
    with counters.shared(tmp_path) as first:
        assert os.environ[counters.VARIABLE] == str(first)
        with counters.shared(tmp_path) as second:
            assert {*tmp_path.glob("metrics-*")} == {first, second}
        assert [*tmp_path.glob("metrics-*")] == [first]
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_goes_before_it_is_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    lock = counters.locked

    def slow(folder: Path) -> int:
        made.append(folder)
        if len(made) == 1:
            folder.rmdir()
        return lock(folder)

    monkeypatch.setattr(counters, "locked", slow)
    folder, held = counters.made(tmp_path)
    os.close(held)
    assert [folder] == made[1:]
