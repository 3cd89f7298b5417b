"""Turns: so many may do something at once; the others wait, and the accounts among them come one after the other."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.core.errors import Overloaded

MOST_IMAGES_WAITING = 256
"""Most that wait for their turn; for one beyond, the answer is 503 `overloaded`."""
LONGEST_WAIT = 20.0
"""Seconds that one may wait for its turn."""


class Turns:
    """Gives turns, on one event loop. Who asks for a thousand makes others wait for no more than one of them."""

    def __init__(self, at_once: int) -> None:
        self.free, self.count = at_once, 0
        self.waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def of(self, account: str) -> AsyncIterator[None]:
        """Wait for a turn of an account, and have it. Raises `Overloaded` where too many wait, or for too long."""
        if self.free:
            self.free -= 1
        else:
            await self.wait(account)
        try:
            yield
        finally:
            self.give()

    async def wait(self, account: str) -> None:
        """Wait until a turn is given."""
        if self.count >= MOST_IMAGES_WAITING:
            raise Overloaded("too many images wait to be decoded")
        turn = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(account, deque()).append(turn)
        self.count += 1
        try:
            async with asyncio.timeout(LONGEST_WAIT):
                await turn
        except BaseException as ended:
            self.leave(account, turn)
            if isinstance(ended, TimeoutError):
                raise Overloaded("an image has waited for too long to be decoded") from None
            raise

    def leave(self, account: str, turn: asyncio.Future[None]) -> None:
        """Wait no more; a turn that was given meanwhile goes on to the next."""
        if turn.done() and not turn.cancelled():
            self.give()
            return
        queue = self.waiting.get(account, deque())
        if turn in queue:
            queue.remove(turn)
            self.count -= 1
        if not queue:
            self.waiting.pop(account, None)

    def give(self) -> None:
        """Give a turn back: the account that had none for the longest is next."""
        if not self.waiting:
            self.free += 1
            return
        account = next(iter(self.waiting))
        queue = self.waiting.pop(account)
        turn = queue.popleft()
        self.count -= 1
        if queue:
            self.waiting[account] = queue
        if turn.done():
            self.give()
        else:
            turn.set_result(None)
