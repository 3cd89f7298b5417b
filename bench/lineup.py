"""Who can be measured, by the names that the command line takes."""

from collections.abc import Iterable
from dataclasses import replace

from bench import tree
from bench.contenders import BARE, INDEXED, MADANG, NODE, PEERS, Contender
from bench.pocketbase import POCKETBASE, WITHOUT_LOG

ALL = (BARE, MADANG, NODE, *PEERS, POCKETBASE, INDEXED)
"""Who is compared where no names are given."""
KNOWN = (*ALL, WITHOUT_LOG)


def chosen(names: Iterable[str]) -> list[Contender]:
    """Return the contenders with these names: one of `KNOWN`, with a number of threads after a colon, or a source tree.

    Raises `ValueError` for a name that nobody has.
    """
    return [named(name) for name in names]


def named(name: str) -> Contender:
    """Return the contender with a name."""
    base, _, detail = name.partition(":")
    if base == tree.PREFIX:
        return tree.contender(name, detail)
    found = next((contender for contender in KNOWN if contender.name == base), None)
    if found is None:
        names = ", ".join(contender.name for contender in KNOWN)
        raise ValueError(f"there is no server {name!r}; there are {names} and {tree.PREFIX}:<folder>")
    return replace(found, name=name, database=base, threads=int(detail)) if detail else found
