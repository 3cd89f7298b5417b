"""Pulls that wait: `GET /v1/changes?wait=`, which answers as soon as there is something new.

Waiting takes no thread and asks MongoDB nothing: the one reader of this process wakes those that a change concerns.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from service.changes.pull import Pull, Pulled, parse_pull
from service.core.errors import NotAuthenticated
from service.core.query_string import each_once
from service.identity.sessions import SESSION_ENDED
from service.policy import marks
from service.streams.delivery import Delivery
from service.streams.exchange import ClientGone, Request, Response, json_response
from service.streams.following import Following
from service.streams.subscriptions import Subscription, woken_within

PULL_PARAMETERS = frozenset({"types", "scope", "cursor", "limit", "wait"})


class Waiting(Subscription):
    """One request that waits for news."""

    kind = "wait"

    def __init__(self, account: str, session: str, types: list[str]) -> None:
        super().__init__(account, session, types)
        self.woken = asyncio.Event()
        self.has_ended = self.is_draining = self.is_gone = False

    def tell(self, delivery: Delivery) -> None:
        """Wake up: there may be something new."""
        self.woken.set()

    def turn(self) -> None:
        """Wake up, to hear by the roles of now: where one comes and goes unseen no change will tell of it."""
        self.woken.set()

    def miss(self) -> None:
        """Wake up, and look."""
        self.woken.set()

    def end(self) -> None:
        """Wake up: the session has ended."""
        self.has_ended = True
        self.woken.set()

    def drain(self) -> None:
        """Wake up: the server is about to end, so answer."""
        self.is_draining = True
        self.woken.set()

    def leave(self) -> None:
        """Wake up: the client has gone."""
        self.is_gone = True
        self.woken.set()


class Pulls:
    """Answers pulls."""

    def __init__(self, following: Following) -> None:
        self.following = following
        self.security, self.threads = following.security, following.threads

    async def answer(self, request: Request) -> Response:
        """Answer a pull, when there is something new or its time is over.

        Raises `Overloaded` or `TooManyRequests` where too many wait already, and what a pull in the API does.
        """
        claims = self.security.claims(request.headers.get("authorization"))
        request.account = claims["sub"]
        key = self.security.cursor_key
        asked = parse_pull(self.following.registry, each_once(request.parameters), claims["sub"], key)
        waiting = Waiting(claims["sub"], claims["sid"], [type.name for type in asked.types])
        self.following.subscriptions.add(waiting)
        gone = asyncio.create_task(request.gone())
        gone.add_done_callback(lambda _: waiting.leave())
        try:
            return json_response((await self.news(asked, claims, waiting)).as_dict())
        finally:
            gone.cancel()
            self.following.subscriptions.remove(waiting)

    async def news(self, asked: Pull, claims: Mapping[str, Any], waiting: Waiting) -> Pulled:
        """Return what is new, or nothing when the time is over. Raises `ClientGone`, `NotAuthenticated`."""
        loop = asyncio.get_running_loop()
        end = loop.time() + asked.wait
        while True:
            # In this order nothing is missed: what comes after the pull wakes it again.
            waiting.woken.clear()
            identity = await self.threads.do(partial(self.security.current_identity, claims))
            heard = waiting.keys_of(marks(identity, asked.within))
            self.following.subscriptions.find_by(waiting, heard)
            found = await self.threads.do(partial(asked.answer_now, self.following.barrier, self.following.usage.using))
            if found.items or waiting.is_draining or not await woken_within(waiting.woken, end - loop.time()):
                return found
            if waiting.is_gone:
                raise ClientGone
            if waiting.has_ended:
                raise NotAuthenticated(SESSION_ENDED)
