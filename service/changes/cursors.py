"""Cursors of changes: checkpoints, bound to the account, the types and the scopes of its walk."""

import hashlib
from collections.abc import Iterable, Sequence

from service.changes.feed import Checkpoint
from service.query.paging import sealed, unsealed
from service.query.parse import SEAL_BYTES

CURSOR = "the `cursor` of an earlier answer to this account, for the same types and scope"


def seal_of(key: bytes, account: str, types: Iterable[str], within: Sequence[str]) -> bytes:
    """Return what authenticates the cursors of one walk; `key` is that of all cursors."""
    walk = "\0".join(["changes", account, ",".join(sorted(types)), ",".join(sorted(within))])
    return hashlib.blake2b(walk.encode(), key=key, digest_size=SEAL_BYTES).digest()


def sealed_cursor(checkpoint: Checkpoint, seal: bytes) -> str:
    """Return the cursor of a checkpoint."""
    return sealed([checkpoint.seq, checkpoint.first, *(checkpoint.backfill or ())], seal)


def checkpoint_of(cursor: str, seal: bytes) -> Checkpoint:
    """Return the checkpoint that a cursor was made of; raises `BadParameter` for one that was made for another walk."""
    seq, first, *backfill = unsealed(cursor, seal, asked=CURSOR)
    return Checkpoint(seq, first, (backfill[0], backfill[1]) if backfill else None)
