"""Ids that the server makes."""

import secrets
import time

RANDOM_BITS = 52
STEP_BITS = 40

newest = 0
"""The last id that this process made."""


def new_id() -> str:
    """Return an id that no server has made before, that sorts by time, and that nobody can foresee.

    24 hexadecimal digits: seconds, milliseconds, and 52 random bits. What a process makes within a millisecond stays in
    order: each is a random step beyond the last.
    """
    global newest  # of two threads at once each takes a step of its own
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    moment = seconds << 12 | rest // 1_000_000
    # What can be foreseen can be taken: ids are chosen by clients too, and the owner of the next one would get 409.
    if moment > newest >> RANDOM_BITS:
        made = moment << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    else:
        made = newest + 1 + secrets.randbits(STEP_BITS)
    newest = made
    return f"{made:024x}"
