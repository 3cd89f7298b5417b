"""Spelling: which name somebody has meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the rest of a sentence about a name that nobody knows: the one that was meant, if one is near."""
    found = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""
