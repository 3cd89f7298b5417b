"""How often something that is kept running has died of late, and what follows from that."""

import time
from collections import deque

MOST_DEATHS = 10
"""Deaths within `WINDOW`, after which it is given up: it cannot live."""
WINDOW = 60.0
"""In seconds."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between the second death and the next start, and between later ones at most."""


class Deaths:
    """The last deaths of a process, or of processes that died on one occasion."""

    def __init__(self) -> None:
        self.moments: deque[float] = deque(maxlen=MOST_DEATHS)

    def add(self) -> None:
        """Note that it has died now."""
        self.moments.append(time.monotonic())

    @property
    def too_many(self) -> bool:
        """Whether the last death was one too many."""
        return len(self.moments) == MOST_DEATHS and self.moments[-1] - self.moments[0] <= WINDOW

    @property
    def pause(self) -> float:
        """Seconds to wait before the next start: none after the first death, then twice as long after each."""
        recent = sum(1 for moment in self.moments if moment > self.moments[-1] - WINDOW)
        return min(FIRST_PAUSE * 2 ** (recent - 2), LONGEST_PAUSE) if recent > 1 else 0.0
