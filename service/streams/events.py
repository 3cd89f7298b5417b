"""`GET /v1/live`: what is asked for, by whom, from which place on."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from service.changes.cursors import checkpoint_of, seal_of
from service.changes.feed import WITHIN, Checkpoint
from service.core.errors import (
    BadParameter,
    BadQuery,
    MalformedJson,
    NotAuthenticated,
    TooManyRequests,
    ValidationFailed,
)
from service.core.json_text import decode
from service.core.query_string import each_once
from service.model.registry import Registry
from service.query.matching import matcher, record_matcher
from service.query.paging import bad
from service.query.where import listing
from service.streams.exchange import Request, Response
from service.streams.following import Following
from service.streams.live import Live, Wheres
from service.streams.sse import ServerSent

LIVE_PARAMETERS = frozenset({"subscribe", "cursor", "ticket"})
EVENT_STREAM = (("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no"))
"""The second one asks nginx, where it stands in front, to send each event on as it comes."""
SERVER_SENT = ServerSent()


class LiveEvents:
    """Answers with live events."""

    def __init__(self, following: Following) -> None:
        self.following = following

    async def answer(self, request: Request) -> Response:
        """Answer with the events of the types that are asked for, for as long as client and session are there.

        Raises `BadParameter`, `BadQuery`, `NotAuthenticated`, `FeedUnavailable`, and `TooManyRequests` or `Overloaded`
        where there are as many connections as there may be.
        """
        args = each_once(request.parameters)
        wheres = parse_subscribe(self.following.registry, args.get("subscribe"), self.most_types)
        claims = await self.claims(request, args)
        request.account = claims["sub"]
        live = Live(self.following, claims, wheres, SERVER_SENT, self.place(request, args, claims["sub"], wheres))
        if request.method == "HEAD":
            return Response(200, headers=EVENT_STREAM)
        await live.begin()
        gone = asyncio.create_task(request.gone())
        gone.add_done_callback(lambda _: live.end())

        def end() -> None:
            gone.cancel()
            live.leave()

        return Response(200, live.stream(), EVENT_STREAM, end)

    @property
    def most_types(self) -> int:
        """How many types one connection may follow."""
        return int(self.following.settings["LIVE_SUBSCRIPTIONS"])

    async def claims(self, request: Request, args: Mapping[str, str]) -> dict[str, Any]:
        """Return who asks, by a header or by a ticket, which is void after that. Raises `NotAuthenticated`."""
        if "ticket" not in args:
            return self.following.security.claims(request.headers.get("authorization"))
        if "authorization" in request.headers or request.method == "HEAD":
            raise NotAuthenticated("send a ticket or an access token, not both; a ticket is good for a GET")
        spend = partial(self.following.security.tickets.spend, args["ticket"])
        return await self.following.threads.do(spend)

    def place(self, request: Request, args: Mapping[str, str], account: str, wheres: Wheres) -> Checkpoint | None:
        """Return from where on events are asked for; None for those that come from now on.

        What a library sends by itself, when it has lost its connection, wins; where that is of no use any more, because
        keys have changed, nobody could mend it, so the client is told to begin anew. Raises `BadParameter`.
        """
        seal = seal_of(self.following.security.cursor_key, account, wheres, WITHIN)
        if last := request.headers.get("last-event-id"):
            try:
                return checkpoint_of(last, seal)
            except BadParameter:
                return UNKNOWN
        return checkpoint_of(args["cursor"], seal) if "cursor" in args else None


UNKNOWN = Checkpoint(1)
"""A place that is older than any that there is: who comes from there has to begin anew."""


def parse_subscribe(registry: Registry, text: str | None, most: int) -> Wheres:
    """Return what the JSON of `subscribe` asks for. Raises `BadParameter`, `BadQuery`, `TooManyRequests`."""
    if text is None:
        return wheres_of(registry, None, most)
    try:
        return wheres_of(registry, decode(text.encode()), most)
    except (MalformedJson, ValidationFailed, UnicodeEncodeError):
        raise bad("subscribe", SUBSCRIBE_EXAMPLE) from None


def wheres_of(registry: Registry, asked: Any, most: int) -> Wheres:
    """Return what tells of each type that is asked for whether a record fits; all types and records where none is.

    Raises `BadParameter`, `BadQuery`, and `TooManyRequests` for too many.
    """
    if asked is None:
        return {name: matcher({}) for name in registry}
    if not isinstance(asked, dict):
        raise bad("subscribe", SUBSCRIBE_EXAMPLE)
    if not asked or not asked.keys() <= registry.keys():
        raise bad("subscribe", f"one or several of {listing(tuple(registry))}, each with its conditions")
    if len(asked) > most:
        raise TooManyRequests(f"a connection follows {most} types at most")
    return {name: compiled_where(registry, name, where) for name, where in asked.items()}


SUBSCRIBE_EXAMPLE = 'a JSON object of types with their conditions, such as {"notes": {"pinned": true}}'


def compiled_where(registry: Registry, name: str, where: Any) -> Any:
    """Return what tells whether a record of a type fits; raises `BadQuery`, which names the type."""
    try:
        return record_matcher(registry[name], where)
    except BadQuery as error:
        raise BadQuery(f"`{name}`: {error.detail}") from None
