"""The results as a Markdown table."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.page import table
from chaos.cluster import ELECTION_TIMEOUT

Columns = Mapping[str, tuple[str, str]]
"""The heading of each column, with the name of its figure and how that is written."""

LEDGER: Columns = {
    "scenario": ("scenario", ""),
    "faults": ("faults", ","),
    "writes": ("tried", ","),
    "acknowledged": ("acknowledged", ","),
    "refused": ("refused", ","),
    "unknown": ("unknown", ","),
    "lost": ("losses", ","),
    "doubled": ("duplicates", ","),
    "done though refused": ("ghosts", ","),
    "other breaches": ("breaches", ","),
    f"election, at {ELECTION_TIMEOUT} s": ("election", ".1f"),
    "writes again after": ("recovery", ".1f"),
    "slowest answer": ("slowest", ".1f"),
}
LOAD: Columns = {
    "scenario": ("scenario", ""),
    "connections": ("connections", ","),
    "accepted a second": ("rate", ",.0f"),
    "`overloaded`": ("refused", ","),
    "`database_unavailable`": ("unavailable", ","),
    "p99 accepted": ("p99", ".2f"),
    "p99 refused": ("p99_refused", ".2f"),
    "slowest health, docs": ("health", ".2f"),
    "accepted again after": ("recovery", ".2f"),
    "MB before": ("before", ",.0f"),
    "MB after": ("after", ",.0f"),
    "breaches": ("breaches", ","),
}


def markdown(rows: Sequence[Mapping[str, Any]], columns: Columns) -> str:
    """Return a table with a line for each scenario; times are in seconds, the worst of all faults."""
    cells = [["" if row[name] is None else format(row[name], form) for name, form in columns.values()] for row in rows]
    return table(tuple(columns), cells)
