"""`python -m mutants` tries the mutants of all modules that are listed, or of those that are named.

It fails where one lives that is not in the list of those that are the same program.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence

from mutants import database, modules, rounds
from mutants.known import FILE, as_toml, known
from mutants.mutation import Mutant, mutants_of
from mutants.trial import ROOT

STARTED = time.monotonic()
EACH = 0.72
"""Seconds of a processor for a mutant, with its part of all that a run does once: measured with those of sessions."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument(
        "modules", nargs="*", default=list(modules.TESTS), metavar="module", help="such as service/policy.py"
    )
    parser.add_argument("--place", default="", help="only what is in functions whose name begins so")
    return parser.parse_args(argv)


def tell(text: str) -> None:
    """Print how far it is."""
    print(f"{time.monotonic() - STARTED:6.0f} s  {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Try what the command line asks for; return 1 where a mutant lives, or the list names one that does not."""
    options = arguments()
    if unknown := set(options.modules) - set(modules.TESTS):
        raise SystemExit(f"no tests are named in mutants/modules.py for {', '.join(sorted(unknown))}")
    made = [mutant for module in options.modules for mutant in mutants_of(ROOT, module)]
    mutants = [mutant for mutant in made if mutant.place.startswith(options.place)]
    minutes = max(1, round(len(mutants) * EACH / 60))
    tell(f"{len(mutants)} mutants of {len(options.modules)} modules, about {minutes} minutes of a processor")
    reasons = known()
    left = rounds.living(mutants, None, lambda mutant: mutant.name in reasons, tell)
    new = [mutant for mutant in left if mutant.name not in reasons]
    again = [mutant for mutant in new if mutant.module in modules.REAL]
    if again:
        tell(f"{len(again)} mutants again, on a real MongoDB")
        with database.started() as uri:
            lived = rounds.living(again, uri, lambda mutant: False, tell)
        new = [mutant for mutant in new if mutant not in again or mutant in lived]
    return report(mutants, made, left, new, options)


def report(
    mutants: list[Mutant], made: list[Mutant], left: list[Mutant], new: list[Mutant], options: argparse.Namespace
) -> int:
    """Print what became of the mutants, and the entries that the list lacks; return the status of the process."""
    reasons = known()
    alive = {mutant.name for mutant in left}
    tried = {mutant.name for mutant in mutants}
    gone = [name for name in reasons if name[0] in options.modules and name not in {mutant.name for mutant in made}]
    killed = [name for name in reasons if name in tried and name not in alive]
    same = len([mutant for mutant in left if mutant.name in reasons])
    print(
        f"{len(mutants)} mutants: {len(mutants) - same - len(new)} killed,"
        f" {same} known to be the same program, {len(new)} live"
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    tell(f"{(used.ru_utime + used.ru_stime) / 60:.1f} minutes of a processor")
    for title, names in (("there is no such mutant", gone), ("a test kills it", killed)):
        for name in names:
            print(f"{FILE.name}: {title}: {name}")
    print(as_toml(new))
    return 1 if new or gone or killed else 0


if __name__ == "__main__":
    sys.exit(main())
