"""What `make mutants` stands on: its list of mutants that are the same program, and trials in a copy of the process."""

import gc
import os
import re
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

import pytest

from mutants import known, modules, trial

pytestmark = pytest.mark.once


def test_each_module_and_each_file_of_its_tests_is_there() -> None:
    named = [*modules.TESTS, *modules.REAL, *modules.files(modules.TESTS)]
    assert [name for name in named if not (trial.ROOT / name).is_file()] == []
    assert modules.TESTS.keys() >= modules.REAL


def test_the_page_of_attacks_counts_the_mutants_of_each_module() -> None:
    page = (trial.ROOT / "docs" / "attacks.md").read_text().partition("\n## Whether a test would notice\n")[2]
    rows = re.findall(r"^- `(service/\S+)`: (\d+) mutants, (\d+) killed, (\d+) the same program$", page, re.MULTILINE)
    assert {module for module, *_ in rows} == modules.TESTS.keys()
    same = Counter(module for module, *_ in known.known())
    for module, made, killed, listed in rows:
        assert int(made) == int(killed) + int(listed)
        assert int(listed) == same[module]


def test_each_mutant_that_is_the_same_program_has_a_reason_and_stands_in_its_module() -> None:
    texts = {module: lines_of(module) for module in modules.TESTS}
    for module, _place, was, _becomes in known.known():
        assert was == "" or was in texts[module], f"{module}: {was}"


def lines_of(module: str) -> str:
    """A module without what its lines are indented by, as the list has them."""
    return "\n".join(line.strip() for line in (trial.ROOT / module).read_text().splitlines())


ENTRY = "[[same]]\nmodule = 'a.py'\nplace = 'f'\nwas = 'x'\nbecomes = ['y']\nwhy = '{}'\n"


@pytest.mark.parametrize("text", [ENTRY.format(" "), ENTRY.format("so") * 2])
def test_a_mutant_without_a_reason_or_twice_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "same.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"same\.toml"):
        known.known(file)


@pytest.mark.parametrize("text", ["a = 'b'", 'a = "b"', "a = f('b',\n\"é\\n\")", "", "'''"])
def test_what_is_printed_can_be_put_into_the_list(text: str) -> None:
    printed = known.entry("a.py", "f", text, [text, ""])
    entry = tomllib.loads(printed)["same"][0]
    assert (entry["was"], entry["becomes"]) == (text, [text, ""])


# Trials


SOURCE = """
def outer(number):
    return [inner(one) for one in range(number)]

def inner(one):
    return one + 1

def made():
    return lambda one: one + 1
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[dict[str, FunctionType]]:
    """The functions of a module that was imported."""
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    names: dict[str, FunctionType] = {}
    exec(trial.compiled(path, SOURCE), names)
    names["kept"] = names["made"]()
    yield names
    gc.freeze()  # as it was for other tests


def test_a_mutant_gets_into_functions_that_are_there_and_those_that_they_have_made(
    module: dict[str, FunctionType], tmp_path: Path
) -> None:
    path = tmp_path / "module.py"
    live = trial.Live.of([path])[path]
    assert live.become(SOURCE.replace("one + 1", "one + 2").replace("range", "\n    range"))
    assert [module[name](3) for name in ("outer", "inner", "kept")] == [[2, 3, 4], 5, 5]


def test_functions_are_found_that_the_collector_leaves_out(module: dict[str, FunctionType], tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    gc.collect()
    gc.freeze()
    assert trial.Live.of([path])[path].become(SOURCE.replace("one + 1", "one + 2"))
    assert module["kept"](3) == 5


def test_a_module_whose_functions_are_nowhere_stops_the_run(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    with pytest.raises(SystemExit, match="no functions are found"):
        trial.Live.of([path])


def test_a_mutant_that_needs_other_variables_does_not_fit(module: dict[str, FunctionType], tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    live = trial.Live.of([path])[path]
    assert not live.become(SOURCE.replace("return lambda one: one + 1", "x = 1; return lambda one: one + x"))


def endless() -> None:
    while True:
        pass


def asleep() -> None:
    os.read(os.pipe()[0], 1)


@pytest.mark.parametrize(
    ("work", "lives"),
    [(lambda: None, True), (lambda: 1 / 0, False), (lambda: os._exit(1), False), (endless, False), (asleep, False)],
)
def test_a_trial_tells_whether_its_work_came_to_a_good_end(work: Callable[[], None], lives: bool) -> None:
    assert (trial.forked(work, 0, 3).status == trial.LIVES) is lives


def at_work() -> None:
    while time.process_time() < 1:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells how long a process has waited")
def test_a_trial_that_is_at_work_may_take_longer_than_one_that_is_idle() -> None:
    assert trial.forked(at_work, 60, 0.2).status == trial.LIVES


def test_lines_that_no_single_test_runs_are_for_all_tests() -> None:
    reach = trial.Reach()
    reach.seconds = {"tests/test_a.py::one": 2, "tests/test_a.py::two": 1, "tests/test_b.py::three": 0}
    reach.tests = {
        "m.py": {1: {"tests/test_a.py::one"}, 2: {"", "tests/test_a.py::one"}, 3: {"tests/test_b.py::three"}}
    }
    files = ["tests/test_a.py"]
    assert reach.of("m.py", range(1, 2), files) == ["tests/test_a.py::one"]
    assert reach.of("m.py", range(2, 3), files) == ["tests/test_a.py::two", "tests/test_a.py::one"]
    assert reach.of("m.py", None, files) == ["tests/test_a.py::two", "tests/test_a.py::one"]
    assert reach.of("m.py", range(3, 4), files) == ["tests/test_b.py::three"]
    assert reach.of("m.py", range(2, 3), files, anew=False) == ["tests/test_a.py::one"]
    assert reach.of("m.py", None, files, anew=False) == []


def test_what_killed_a_mutant_is_asked_first_about_others_of_its_function() -> None:
    reach = trial.Reach()
    reach.seconds = {"tests/test_a.py::one": 2, "tests/test_a.py::two": 1}
    reach.tests = {"m.py": {1: set(reach.seconds)}}
    files = ["tests/test_a.py"]
    assert reach.noted("f", trial.Ended(trial.KILLED, "tests/test_a.py::one\nassert 1 == 2")) == trial.KILLED
    assert reach.noted("g", trial.Ended(trial.LIVES)) == trial.LIVES
    assert reach.of("m.py", range(1, 2), files, "f") == ["tests/test_a.py::one", "tests/test_a.py::two"]
    assert reach.of("m.py", range(1, 2), files, "g") == ["tests/test_a.py::two", "tests/test_a.py::one"]
