"""A pull: one answer with what has changed for an account since its cursor, as JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import orjson

from service.changes.barrier import Barrier
from service.changes.cursors import checkpoint_of, seal_of, sealed_cursor
from service.changes.feed import Checkpoint, Feed
from service.changes.order import Order
from service.core.errors import BadParameter
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.policy import Within
from service.query.paging import bad
from service.query.parse import parse_scopes
from service.query.where import listing

MOST_ITEMS = 1000
DEFAULT_ITEMS = 200
MOST_ANSWER_BYTES = 4 * 1024 * 1024
"""Most bytes of the items of an answer; one that is larger comes alone."""
MOST_WAIT = 25.0
"""Most seconds that an answer with nothing new may wait."""

Using = Callable[[str], AbstractContextManager[None]]
"""Counts for an account what is done within."""


@dataclass(frozen=True, slots=True)
class Pull:
    """What one request asks for, checked."""

    account: str
    types: Sequence[RecordType]
    within: Within
    checkpoint: Checkpoint
    limit: int
    wait: float
    seal: bytes

    def answer_now(self, barrier: Barrier, using: Using) -> "Pulled":
        """Return what there is, up to this moment; its making is counted by `using`, and not the wait for the order.

        Raises `FeedUnavailable`, what `using` raises, and what `answer` does.
        """
        order = barrier.passed()
        with using(self.account):
            return self.answer(order)

    def answer(self, order: Order) -> "Pulled":
        """Return what there is, up to the last number of an order that has come to this moment.

        Raises `CursorExpired`, or `NotAuthenticated` where the account has gone.
        """
        order.check(self.checkpoint.oldest)
        place, more, size = self.checkpoint, False, 0
        pieces: dict[tuple[str, str], bytes] = {}
        for page in Feed(self.account, self.types, self.within).pages(place, order.seq, self.limit):
            for item in page.items:
                named = item.type.name, item.id
                piece = orjson.dumps(as_json(item.type, item.id, item.row, item.gone))
                size += len(piece) - len(pieces.get(named, b""))
                if pieces and size > MOST_ANSWER_BYTES:
                    return Pulled([*pieces.values()], place, True, self.seal)
                # What comes by another right too takes the place of what was read a moment before.
                pieces.pop(named, None)
                pieces[named] = piece
                place = item.checkpoint
            place, more = page.checkpoint, page.more
        return Pulled([*pieces.values()], place, more, self.seal)


@dataclass(frozen=True, slots=True)
class Pulled:
    """The items of an answer as JSON texts, and the checkpoint behind them."""

    items: Sequence[bytes]
    checkpoint: Checkpoint
    more: bool
    seal: bytes

    def as_dict(self) -> dict[str, Any]:
        """Return the body of the answer, for orjson to write."""
        items = [orjson.Fragment(item) for item in self.items]
        return {"items": items, "cursor": sealed_cursor(self.checkpoint, self.seal), "more": self.more}


def as_json(type: RecordType, id: str, row: Raw | None, gone: str) -> dict[str, Any]:
    """Return an item as a client gets it: the record as it is stored, or why it is gone."""
    named = {"type": type.name, "id": id}
    if row is None:
        return {**named, "gone": gone}
    return {**named, "revision": row["revision"], "record": type.schema.dump(row)}


# --- What is asked for -----------------------------------------------------------------------------------------------


def parse_pull(registry: Registry, args: Mapping[str, str], account: str, key: bytes) -> Pull:
    """Return what the parameters of a query string ask for an account; `key` authenticates cursors.

    Raises `BadParameter`.
    """
    types = parse_types(registry, args.get("types"))
    within = parse_within(types, args.get("scope"))
    seal = seal_of(key, account, [type.name for type in types], within)
    checkpoint = checkpoint_of(args["cursor"], seal) if "cursor" in args else Checkpoint()
    limit = whole(args, "limit", DEFAULT_ITEMS, 1, MOST_ITEMS)
    return Pull(account, types, within, checkpoint, limit, float(whole(args, "wait", 0, 0, int(MOST_WAIT))), seal)


def parse_types(registry: Registry, text: str | None, parameter: str = "types") -> list[RecordType]:
    """Return the record types that are named with commas; all, if none is."""
    names = [*registry] if text is None else text.split(",")
    if len(set(names)) != len(names) or not set(names) <= registry.keys():
        raise bad(parameter, f"one or several of {listing(tuple(registry))}, with commas")
    return [registry[name] for name in names]


def parse_within(types: Iterable[RecordType], text: str | None) -> tuple[str, ...]:
    """Return the scopes that are named with commas."""
    within = parse_scopes("mine,shared" if text is None else text)
    if "public" in within and (closed := [type.name for type in types if not type.document._meta.get("sync_public")]):
        raise bad("scope", f"without public for {listing(closed)}: it is for types with meta['sync_public']")
    return within


def whole(args: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Return a whole number between two limits."""
    text = args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise out_of_range(name, least, most)
    return int(text)


def out_of_range(name: str, least: int, most: int) -> BadParameter:
    """Return the problem of a number that is none, or not between its limits."""
    return bad(name, f"a whole number from {least} to {most}", "out_of_range")
