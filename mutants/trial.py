"""One run of pytest in this process, from whose collected tests each trial forks: only the copy has the mutant."""

import contextlib
import ctypes
import gc
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import coverage
import pytest

from mutants.modules import LEFT_OUT

ROOT = Path(__file__).parent.parent
PYTEST = (
    *("-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:unraisableexception"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
"""How pytest runs; what this process leaves to the collector would else be a failure of the first test of a copy."""
FLAKY = 3
"""Most tests that may fail without a mutant, as those do that wait for a clock on a busy machine."""
FAILED = "failed"
"""The file in which a trial leaves the name of the test that failed."""
PR_SET_PDEATHSIG = 1
"""Linux's number for: end me when the one who started me has ended."""
MEMORY = 6 * 1024**3
LIVES, KILLED, UNFIT = 0, 1, 2
STILL_OPEN = (LIVES, UNFIT)
"""How a trial ends: all tests passed, one failed, or the mutant cannot be put into a module that is there already."""


class Ended(NamedTuple):
    """How a trial ended, and the test that failed, if one did, with the end of what it said."""

    status: int
    said: str = ""


class Reach:
    """What each line is run by: names of tests, with the seconds that each takes, and those that killed something."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.tests: dict[str, dict[int, set[str]]] = {}
        self.killers: dict[str, set[str]] = defaultdict(set)

    def of(
        self, module: str, lines: range | None, files: Sequence[str], place: str = "", anew: bool = True
    ) -> list[str]:
        """Return the tests in `files` that run one of the lines of a module.

        First those that killed a mutant of the same function, `place`, then the quickest. All others where none of the
        files has one; where the module is imported `anew`, all for what runs at import or is shared by tests.
        """
        reaching = set(self.seconds) if anew and self.is_shared(module, lines) else self.at(module, lines or ())
        own = {test for test in reaching if file_of(test) in files}
        first = self.killers[place] if place else ()
        return sorted((own or reaching) & self.seconds.keys(), key=lambda test: (test not in first, self.seconds[test]))

    def noted(self, place: str, ended: Ended) -> int:
        """Return how the trial of a mutant of a function ended; remember the test that killed it."""
        if ended.said:
            self.killers[place].add(ended.said.splitlines()[0])
        return ended.status

    def at(self, module: str, lines: Iterable[int]) -> set[str]:
        """Return what runs one of the lines; the name is empty for what is made once for all tests."""
        by_line = self.tests.get(module, {})
        return set().union(*(by_line.get(line, set()) for line in lines))

    def is_shared(self, module: str, lines: range | None) -> bool:
        """Tell whether lines run at import, or to make what all tests share."""
        return lines is None or "" in self.at(module, lines)


def file_of(test: str) -> str:
    """Return the file that a test is in."""
    return test.partition("::")[0]


class Watching:
    """A plugin for pytest that notes which test runs which line; what tests share counts for all of them."""

    def __init__(self, modules: Sequence[str], reach: Reach) -> None:
        self.reach = reach
        self.modules = modules
        paths = [str(ROOT / module) for module in modules]
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=paths)
        self.failed: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Count the lines for this test."""
        self.coverage.switch_context(item.nodeid)
        started = time.process_time()
        done = yield
        self.reach.seconds[item.nodeid] = time.process_time() - started
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: pytest.FixtureRequest) -> Iterator[None]:
        """Count the lines of what is made once for all tests for no test."""
        if fixturedef.scope == "function":
            return (yield)
        self.coverage.switch_context("")
        done = yield
        self.coverage.switch_context(request._pyfuncitem.nodeid)
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that fails although there is no mutant."""
        if report.failed:
            self.failed.append(report.nodeid)

    def finish(self) -> None:
        """Read what was noted."""
        self.coverage.stop()
        data = self.coverage.get_data()
        for module in self.modules:
            lines = data.contexts_by_lineno(str(ROOT / module))
            self.reach.tests[module] = {line: set(tests) for line, tests in lines.items()}


class Stopping:
    """A plugin for pytest that ends the process at the first test that fails."""

    def __init__(self, session: pytest.Session | None = None) -> None:
        self.session = session

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """End what the tests have started, then the process."""
        if report.failed:
            Path(tempfile.gettempdir(), FAILED).write_text(f"{report.nodeid}\n{report.longreprtext[-600:]}")
            with contextlib.suppress(BaseException):
                if self.session is not None:
                    self.session._setupstate.teardown_exact(None)
            os._exit(KILLED)


class Conductor:
    """A plugin for pytest whose tests are not run by pytest, but by whoever `conducts`."""

    def __init__(self, conduct: Callable[["Conductor"], None]) -> None:
        self.conduct = conduct
        self.session: pytest.Session
        self.items: dict[str, pytest.Item] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Hand over what was collected."""
        self.session = session
        self.items = {item.nodeid: item for item in session.items if item.nodeid not in LEFT_OUT}
        self.conduct(self)
        return True

    def prepare(self) -> None:
        """Make the app that tests share, so that no copy of this process has to; nobody has asked it anything yet."""
        first = next(iter(self.items.values()))
        test = pytest.Function.from_parent(first.parent, name="shared", callobj=lambda shared_app: None)
        test.config.hook.pytest_runtest_protocol(item=test, nextitem=first)

    def run(self, names: Iterable[str]) -> None:
        """Run tests here, to the end or until a plugin ends the process."""
        items = [self.items[name] for name in names]
        self.session._setupstate.teardown_exact(items[0])  # what was made for all stays; the last file is left
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

    def watch(self, modules: Sequence[str]) -> Reach:
        """Return what runs which line. Raises `SystemExit` where a test fails without a mutant."""

        def watched(out: Path) -> None:
            reach = Reach()
            watching = Watching(modules, reach)
            self.session.config.pluginmanager.register(watching)
            watching.coverage.start()
            self.run(self.items)
            watching.finish()
            out.write_bytes(pickle.dumps((reach, watching.failed)))

        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            out = Path(folder) / "reach"
            ended = forked(lambda: watched(out), 1800, 1800)
            if ended.status != LIVES:
                raise SystemExit(f"the tests did not come to their end without a mutant: {ended}")
            reach, failed = pickle.loads(out.read_bytes())
        if len(failed) > FLAKY:
            raise SystemExit("without a mutant there fail: " + ", ".join(failed))
        for name in failed:
            print(f"left out, as it fails without a mutant: {name}", file=sys.stderr)
            del reach.seconds[name]
        return reach

    def try_out(self, live: "Live", text: str, names: Sequence[str], seconds: float) -> Ended:
        """Return what becomes of a mutant that is put into the functions of its module that are there."""

        def tried() -> None:
            if not live.become(text):
                os._exit(UNFIT)
            self.session.config.pluginmanager.register(Stopping(self.session))
            self.run(names)

        return forked(tried, seconds, 30 + 5 * seconds)


@dataclass
class Live:
    """The functions of a module that are there, and the code that they were made of."""

    path: Path
    functions: list[tuple[tuple[str, int], FunctionType]] = field(default_factory=list)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> dict[Path, "Live"]:
        """Return those of several modules. Raises `SystemExit` where none is found: each mutant would seem to live."""
        gc.unfreeze()  # what is frozen, as the tests do with all that stays, the collector does not tell of
        by_path = {path: cls(path) for path in paths}
        orders = {path: {code: name for name, code in named(compiled(path, path.read_text()))} for path in by_path}
        by_line = {
            path: {(code.co_qualname, code.co_firstlineno): name for code, name in order.items()}
            for path, order in orders.items()
        }
        for function in gc.get_objects():
            if isinstance(function, FunctionType) and (path := Path(function.__code__.co_filename)) in by_path:
                code = function.__code__
                if name := by_line[path].get((code.co_qualname, code.co_firstlineno)):
                    by_path[path].functions.append((name, function))
        if missed := [str(path) for path, live in by_path.items() if orders[path] and not live.functions]:
            raise SystemExit(f"no functions are found of {', '.join(missed)}")
        return by_path

    def become(self, text: str) -> bool:
        """Give the functions the code of another text of the module; False where they cannot take it."""
        codes = dict(named(compiled(self.path, text)))
        for name, function in self.functions:
            if name in codes:
                try:
                    function.__code__ = codes[name]
                except ValueError:
                    return False
        return True


def compiled(path: Path, text: str) -> CodeType:
    """Return the code of the text of a module."""
    return compile(text, str(path), "exec", dont_inherit=True)


def named(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """Yield each function in some code by its name, and which one of that name it is."""
    count: Mapping[str, list[int]] = defaultdict(list)
    waiting = [code]
    while waiting:
        inner = [one for one in waiting.pop(0).co_consts if isinstance(one, CodeType)]
        for one in inner:
            yield (one.co_qualname, len(count[one.co_qualname])), one
            count[one.co_qualname].append(1)
        waiting += inner


def forked(work: Callable[[], None], seconds: float, patience: float, silent: bool = True) -> Ended:
    """Do `work` in a copy of this process, and return how it ended: `LIVES`, or another status.

    It is killed when it has used so many `seconds` of processor, or has been idle for `patience` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads, which the copy lacks
            child = os.fork()
        if child == 0:
            in_child(work, int(seconds) + 1, folder, silent)
        try:
            status = waited_for(child, patience)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        failed = Path(folder, FAILED)
        return Ended(os.waitstatus_to_exitcode(status), failed.read_text() if failed.exists() else "")


def waited_for(child: int, patience: float) -> int:
    """Return the status of a child when it has ended; it is killed when it has been idle for so many seconds."""
    pause = 0.001
    started = time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        passed = time.monotonic() - started
        if passed > patience and passed - busy(child) > patience and not is_runnable(child):
            os.killpg(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(pause)
        pause = min(pause * 1.3, 0.05)


def busy(process: int) -> float:
    """Return the seconds in which the threads of a process worked, or waited for a processor: 0 but on Linux.

    On a busy machine a trial waits longer than it works; that is no sign that it would never end.
    """
    nanoseconds = 0
    for thread in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            worked, waited, _slices = map(int, thread.read_text().split())
            nanoseconds += worked + waited
    return nanoseconds / 1e9


def is_runnable(process: int) -> bool:
    """Tell whether a thread of the process works or waits for a processor at this moment: False but on Linux.

    How long it has waited Linux tells when the wait is over.
    """
    for thread in Path(f"/proc/{process}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if thread.read_text().rpartition(")")[2].split()[0] == "R":
                return True
    return False


def in_child(work: Callable[[], None], seconds: int, folder: str, silent: bool) -> None:
    """Do `work` in a group of its own, within limits, and without a word if it is to be `silent`."""
    status = 3
    try:
        os.setpgid(0, 0)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        tempfile.tempdir = folder
        os.environ["TMPDIR"] = folder
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
        if silent:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
        work()
        status = LIVES
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(status)
