"""The query string of a request: its parameters, each once, and none that nobody takes."""

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import parse_qsl

from service.core.errors import BadParameter, Cause

KNOWN_QUERIES, LONGEST_KNOWN, MOST_KNOWN = 512, 500, 16  # of so many bytes and parameters

Parameters = tuple[tuple[str, str], ...]
"""Name and value of each parameter, in order."""


def query_parameters(text: bytes) -> Parameters:
    """Return the parameters of a query string. Raises `BadParameter` for one that is not UTF-8.

    An app sends a handful of them all day long, for all who use it, and to take one apart is a twentieth of a list. The
    last ones are remembered, unless they are long: at most 2 MB.
    """
    if not text:
        return ()
    known = len(text) <= LONGEST_KNOWN and text.count(b"&") < MOST_KNOWN
    return (known_parameters if known else known_parameters.__wrapped__)(text)


@lru_cache(KNOWN_QUERIES)
def known_parameters(text: bytes) -> Parameters:
    """Return the parameters of a query string, and remember them."""
    try:
        return tuple(parse_qsl(text.decode(), keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        # Kept as it is, it would be looked for as a text that nobody has meant.
        raise BadParameter("the query string is not UTF-8, percent-encoded") from None


def each_once(sent: Parameters) -> dict[str, str]:
    """Return parameters by name; raises `BadParameter` for one that stands twice."""
    found = dict(sent)
    if len(found) < len(sent):
        names = [name for name, _ in sent]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadParameter(f"`{twice}` stands twice", [Cause("twice", "once", parameter=twice)])
    return found


def refuse_unknown(sent: Iterable[str], known: frozenset[str]) -> None:
    """Raise `BadParameter` for parameters of the query string that the operation does not take."""
    unknown = [name for name in sent if name not in known]
    if unknown:
        detail = f"one of {', '.join(sorted(known))}" if known else "none is taken here"
        causes = (Cause("unknown_parameter", detail, parameter=name) for name in unknown)
        raise BadParameter("there are unknown query parameters", causes)
