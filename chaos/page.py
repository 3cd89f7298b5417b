"""The results as a Markdown table."""

from collections.abc import Sequence
from typing import Any

from bench.page import table

HEADS = (
    *("scenario", "faults", "writes", "acknowledged", "refused", "unknown", "lost", "doubled", "done though refused"),
    *("other breaches", "election", "writes again after", "slowest answer"),
)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table with a line for each scenario; times are in seconds, the worst of all faults."""
    return table(HEADS, [cells(row) for row in rows])


def cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a line."""
    counts = ("faults", "tried", "acknowledged", "refused", "unknown", "losses", "duplicates", "ghosts", "breaches")
    times = ("election", "recovery", "slowest")
    return [
        row["scenario"],
        *(f"{row[name]:,}" for name in counts),
        *("" if row[name] is None else f"{row[name]:.1f} s" for name in times),
    ]
