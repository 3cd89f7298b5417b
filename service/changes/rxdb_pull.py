"""A pull of RxDB: the next documents of one type, and the checkpoint behind them, written piece by piece."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from service.changes import receipts
from service.changes.cursors import seal_of
from service.changes.feed import WITHIN, Checkpoint, Feed, Item
from service.changes.order import Order
from service.changes.pull import whole
from service.changes.rxdb_documents import documents_of
from service.changes.watermelon_pull import LAST_NUMBER
from service.core.errors import NotFound, UpgradeRequired
from service.model.record_type import RecordType
from service.policy import Identity
from service.query.paging import bad, sealed, unsealed

MOST_DOCUMENTS = 10_000
FRESH_SECONDS = 24 * 3600
"""How old a checkpoint may become while nothing changes."""
NO_RECORD = "."
"""An id that no record can have: a document of this id is there for the sake of the checkpoint that comes with it."""


@dataclass(frozen=True, slots=True)
class RxdbCheckpoint:
    """A checkpoint as a client has it: where it is in the order, and when it was given, in seconds since 1970."""

    place: Checkpoint
    given: int

    def as_dict(self, seal: bytes) -> dict[str, Any]:
        """Return its JSON form. The client looks at `lwt` alone, and sends both back as they are."""
        place = self.place
        return {
            "id": sealed([place.seq, place.first, self.given, *(place.backfill or ())], seal),
            "lwt": place.seq,
        }


@dataclass(frozen=True, slots=True)
class RxdbPull:
    """What one request asks for, checked; `sent` is its checkpoint as it was sent."""

    identity: Identity
    type: RecordType
    checkpoint: RxdbCheckpoint
    sent: Mapping[str, Any]
    limit: int
    seal: bytes

    @property
    def feed(self) -> Feed:
        """What the account hears of.

        Who has no checkpoint may have pushed all the same: of a page without documents RxDB keeps none.
        """
        return Feed(self.identity.account, [self.type], WITHIN, all_ends=True)

    def pieces(self, order: Order) -> Iterator[bytes]:
        """Yield the answer, from an order that has come to this moment.

        Raises `CursorExpired`, and `NotAuthenticated` where the account has gone.
        """
        order.check(self.checkpoint.place.oldest)
        return self.written(order.seq)

    def written(self, last: int) -> Iterator[bytes]:
        """Yield the JSON of documents and checkpoint.

        The client goes on as long as it gets as many documents as it has asked for. Of no document it keeps no
        checkpoint either.
        """
        yield b'{"documents":['
        count, place = 0, self.checkpoint.place
        for page in self.feed.pages(self.checkpoint.place, last, self.limit):
            if page.items:
                yield (b"," if count else b"") + self.documents(page.items)
            count, place = count + len(page.items), page.checkpoint
        is_full = count == self.limit
        unsure = None if is_full else receipts.first_unsure(self.identity, self.type.name)
        if unsure is not None and unsure <= place.seq:
            place = Checkpoint(unsure - 1)
            if not count and place.seq < self.checkpoint.place.seq and self.limit > 1:
                again = self.feed.page(place, last, self.limit - 1).items
                yield self.documents(again)
                count = len(again)
        if not count and self.is_old:
            yield orjson.dumps(documents_of(self.type).gone(NO_RECORD))
            count = 1
        checkpoint = RxdbCheckpoint(place, int(time.time())).as_dict(self.seal) if count else self.sent
        yield b'],"checkpoint":' + orjson.dumps(checkpoint) + b"}"

    @property
    def is_old(self) -> bool:
        """Whether the checkpoint would come to be older than what the order remembers, if nothing came with a new one.

        That of the very beginning does not grow old.
        """
        return bool(self.checkpoint.given) and time.time() - self.checkpoint.given > FRESH_SECONDS

    def documents(self, items: Sequence[Item]) -> bytes:
        """Return the JSON of documents, with commas."""
        documents = documents_of(self.type)
        return b",".join(
            orjson.dumps(documents.gone(item.id) if item.row is None else documents.document(item.row))
            for item in items
        )


def check_version(type: RecordType, text: str) -> None:
    """Raise `UpgradeRequired` for a version that the type no longer serves, `NotFound` for none of its versions."""
    served = type.document._meta.get("sync_versions")
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise NotFound("the version is a whole number")
    if served and int(text) < min(served):
        raise UpgradeRequired(f"version {text} of {type.name} is served no more; the oldest is {min(served)}")
    if served and int(text) not in served:
        raise NotFound(f"there is no version {text} of {type.name} yet; there are {', '.join(map(str, served))}")


def rxdb_seal(key: bytes, account: str, type: RecordType) -> bytes:
    """Return what authenticates the checkpoints of an account's documents of a type."""
    return seal_of(key, account, [type.name], ("rxdb",))


def parse_rxdb_pull(type: RecordType, args: Mapping[str, str], identity: Identity, key: bytes) -> RxdbPull:
    """Return what the parameters of a query string ask for; `key` authenticates checkpoints. Raises `BadParameter`."""
    seal = rxdb_seal(key, identity.account, type)
    lwt, id = args.get("lwt", "0"), args.get("id", "")
    limit = whole(args, "limit", 100, 1, MOST_DOCUMENTS)
    if id == "" and lwt in ("", "0", "null", "undefined"):
        return RxdbPull(identity, type, RxdbCheckpoint(Checkpoint(), 0), {"id": "", "lwt": 0}, limit, seal)
    if not (lwt.isascii() and lwt.isdecimal() and len(lwt) <= 16 and int(lwt) < LAST_NUMBER):
        raise bad("lwt", "that of the last answer's `checkpoint`, or 0")
    checkpoint = parse_rxdb_checkpoint(id, int(lwt), seal)
    return RxdbPull(identity, type, checkpoint, {"id": id, "lwt": int(lwt)}, limit, seal)


def parse_rxdb_checkpoint(id: str, lwt: int, seal: bytes) -> RxdbCheckpoint:
    """Return the checkpoint that a client has; raises `BadParameter` for one that was given to another walk."""
    asked = "that of the last answer's `checkpoint`, with its `lwt`, of the same account"
    seq, first, given, *backfill = unsealed(id, seal, "id", asked)
    if seq != lwt:
        raise bad("id", asked, "not_valid")
    return RxdbCheckpoint(Checkpoint(seq, first, (backfill[0], backfill[1]) if backfill else None), given)
