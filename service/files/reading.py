"""Bytes that are read piece by piece, from wherever they are."""

from collections.abc import Callable, Iterator

Read = Callable[[int, int], bytes]
"""Gives bytes of a file from the first on: at least one where there are any, and none from the second place on."""


def pieces(read: Read, start: int, stop: int) -> Iterator[bytes]:
    """Yield bytes from one place to another, as they are read. Raises what `read` does where they are not there."""
    while start < stop:
        piece = read(start, stop)
        yield piece
        start += len(piece)
