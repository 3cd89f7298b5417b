"""What comes of one run, and the table of several."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.page import table


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many cases a run tried, and what it found; `said` is all that a person needs to see of a failure."""

    name: str
    cases: int
    failures: int
    seconds: float
    said: str = ""


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return a table with a line for each run."""
    rows = [[one.name, f"{one.cases:,}", str(one.failures), f"{one.seconds:.0f} s"] for one in outcomes]
    return table(("what", "cases", "failures", "time"), rows)
