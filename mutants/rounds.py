"""Rounds of trials: first on what is imported already, then, of what lived, with the mutant imported anew."""

import contextlib
import gc
import importlib
import itertools
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from mutants import modules
from mutants.mutation import Mutant
from mutants.trial import (
    KILLED,
    LIVES,
    PYTEST,
    ROOT,
    STILL_OPEN,
    Conductor,
    Ended,
    Live,
    Reach,
    Stopping,
    compiled,
    file_of,
    forked,
)

OURS = ("service", "settings", "tests", "fuzz", "bench", "mutants", "__main__")
FIRST_TRY = 1.5
"""Seconds of tests that a mutant is tried with at first."""
NO_END = 10**6
Tell = Callable[[str], None]
Known = Callable[[Mutant], bool]


def living(mutants: Sequence[Mutant], database: str | None, is_known: Known, tell: Tell) -> list[Mutant]:
    """Return those mutants that no test kills, on mongomock or on the `database` at a URI.

    One that is known to be the same program is tried in the first round alone.
    """
    if not mutants:
        return []
    options = []
    if database:
        options = ["--mongodb"]
        os.environ["SERVICE_MONGODB_URI"] = database
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        out = Path(folder) / "lived"
        if forked(lambda: Warm(mutants, options, tell).run(out), NO_END, NO_END, silent=False).status != LIVES:
            raise SystemExit("the first round did not come to its end; see above")
        reach, lived, foreign = pickle.loads(out.read_bytes())
    for name in foreign:
        with contextlib.suppress(Exception):  # some modules are made at run time and can be imported by no name
            importlib.import_module(name)
    left = [mutant for mutant in mutants if (mutant.module, mutant.text) in lived]
    for module in dict.fromkeys(mutant.module for mutant in left):
        first = soon(reach, reach.of(module, None, modules.files([module])))
        check(partial(imported, unchanged(module), options, reach, first), module)
    return [one for one in counted(left, tell, "second") if is_known(one) or outlives(one, options, reach, tell)]


def outlives(mutant: Mutant, options: Sequence[str], reach: Reach, tell: Tell) -> bool:
    """Tell whether a mutant lives when it is imported anew, and say which does: the rest of a run may take long."""
    lives = fresh(mutant, options, reach) == LIVES
    if lives:
        tell(f"lives: {mutant.module} {mutant.place}: {mutant.was!r} -> {mutant.becomes!r}")
    return lives


def counted(mutants: Sequence[Mutant], tell: Tell, which: str) -> Iterator[Mutant]:
    """Yield each, telling now and then how far it is."""
    for number, mutant in enumerate(mutants):
        if number % 50 == 0:
            tell(f"{which} round: {number} of {len(mutants)}, {mutant.module}")
        yield mutant


class Warm:
    """The first round: one run of pytest, and mutants that are put into what it has imported."""

    def __init__(self, mutants: Sequence[Mutant], options: Sequence[str], tell: Tell) -> None:
        self.mutants = mutants
        self.options = options
        self.tell = tell
        self.modules = list(dict.fromkeys(mutant.module for mutant in mutants))
        self.lived: set[tuple[str, str]] = set()

    def run(self, out: Path) -> None:
        """Try all; leave in `out` who lived, what runs which line, and what of others' was imported."""

        def conduct(conductor: Conductor) -> None:
            reach = conductor.watch(self.modules)
            self.tell(f"{len(reach.seconds)} tests without a mutant: {sum(reach.seconds.values()):.0f} s")
            if not self.options:  # a client of a real server does not outlive a fork
                conductor.prepare()
            live = Live.of(ROOT / module for module in self.modules)
            gc.collect()
            gc.freeze()  # a copy that collects would write to every page
            for module in self.modules:
                self.go_through(module, conductor, reach, live[ROOT / module])
            foreign = [name for name in sys.modules if name.partition(".")[0] not in OURS]
            out.write_bytes(pickle.dumps((reach, self.lived, foreign)))

        words = [*PYTEST, *self.options, *modules.files(self.modules)]
        raise SystemExit(int(pytest.main(words, plugins=[Conductor(conduct)])))

    def go_through(self, module: str, conductor: Conductor, reach: Reach, live: Live) -> None:
        """Try the mutants of one module; what no test runs by itself is left to the second round."""
        own = [mutant for mutant in self.mutants if mutant.module == module]
        lived = 0
        first = soon(reach, reach.of(module, None, modules.files([module])))
        check(partial(conductor.try_out, live, unchanged(module).text, first, limit(reach, first)), module)
        for mutant in counted(own, self.tell, "first"):
            names = soon(reach, who_may_notice(mutant, reach, anew=False))
            if (
                not names
                or reach.noted(mutant.place, conductor.try_out(live, mutant.text, names, limit(reach, names)))
                in STILL_OPEN
            ):
                self.lived.add((module, mutant.text))
                lived += 1
        self.tell(f"{module}: {len(own)} mutants, {lived} left")


def unchanged(module: str) -> Mutant:
    """Return a mutant that is the module as it is."""
    return Mutant(module, "", "", "", (ROOT / module).read_text(), None)


def check(trial: Callable[[], Ended], module: str) -> None:
    """Raise `SystemExit` where the tests of an unchanged module fail twice: all its mutants would seem killed."""
    if trial().status != LIVES and (ended := trial()).status != LIVES:
        raise SystemExit(
            f"{module}: its tests fail in a trial although nothing is changed: {ended.status} {ended.said}"
        )


def soon(reach: Reach, names: Sequence[str]) -> list[str]:
    """Return the first tests, of some seconds in all: most mutants do not live longer, and the others come again."""
    until = itertools.accumulate(reach.seconds[name] for name in names)
    return [name for name, seconds in zip(names, until, strict=True) if seconds < FIRST_TRY] or list(names[:1])


def limit(reach: Reach, names: Sequence[str]) -> float:
    """Return the seconds of processor after which tests are taken never to end."""
    return 5 + 3 * sum(reach.seconds[name] for name in names)


def fresh(mutant: Mutant, options: Sequence[str], reach: Reach) -> int:
    """Return how a trial ends of a mutant that is imported in place of its module."""
    return reach.noted(mutant.place, imported(mutant, options, reach, who_may_notice(mutant, reach)))


def who_may_notice(mutant: Mutant, reach: Reach, anew: bool = True) -> list[str]:
    """Return the tests that can notice a mutant, those first that are likely to."""
    return reach.of(mutant.module, mutant.lines, modules.files([mutant.module]), mutant.place, anew)


def imported(mutant: Mutant, options: Sequence[str], reach: Reach, names: Sequence[str]) -> Ended:
    """Return what these tests make of a mutant that is imported in place of its module."""
    files = list(dict.fromkeys(map(file_of, names)))

    def tried() -> None:
        take(mutant)
        plugins = [Stopping(), Only(names)]
        raise SystemExit(KILLED if pytest.main([*PYTEST, *options, "-x", *files], plugins=plugins) else LIVES)

    if not names:
        return Ended(LIVES)
    seconds = 15 + limit(reach, names)
    return forked(tried, seconds, 30 + 5 * seconds)


class Only:
    """A plugin for pytest that runs these tests, in this order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.order = {name: number for number, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out the others."""
        chosen = [item for item in items if item.nodeid in self.order]
        items[:] = sorted(chosen, key=lambda item: self.order[item.nodeid])


def take(mutant: Mutant) -> None:
    """Have this process import a mutant in place of its module."""
    path = str(ROOT / mutant.module)
    plain = SourceFileLoader.get_code

    def get_code(loader: Any, name: str) -> CodeType | None:
        if loader.path == path:
            return compiled(Path(path), mutant.text)
        return plain(loader, name)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
