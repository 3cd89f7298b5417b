"""Kept answers: the first answer to a request with an idempotency key, by an id that hangs on account and key."""

import hmac
import re
from datetime import timedelta
from typing import Any

from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from service.core.clock import now
from service.core.errors import BadRequest
from service.documents import KeptAnswer
from service.mongo import connection
from service.mongo.raw import Raw

IDEMPOTENCY_KEY = re.compile(r"[\x20-\x7e]{1,255}")
KEPT_FOR = timedelta(hours=24)
OVERHEAD = 1024
"""Bytes that a kept answer takes beside its body, its places in the indexes among them."""
NO_ROOM_FOR_ANOTHER = "too many answers are kept for your retries; wait, or send no key"
"""What somebody hears of whose answers enough are kept."""
ROOM_AFTER = 60
"""Seconds after which somebody who keeps too much may try again."""


def check_idempotency_key(key: str) -> None:
    """Raise `BadRequest` where a text is no idempotency key."""
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key takes 1 to 255 printable ASCII characters")


def keyed_digest(secret: bytes, *parts: str | bytes) -> bytes:
    """Return a keyed hash of `parts`: a body may hold a password, for which a plain hash would not do."""
    packed = [part.encode() if isinstance(part, str) else part for part in parts]
    text = b"".join(len(part).to_bytes(8, "big") + part for part in packed)
    return hmac.digest(secret, text, "sha256")


def kept_form(account: str, request: bytes) -> Raw:
    """Return what is stored of a request that has come, but for its answer."""
    return {"account": account, "request": request, "expires_at": now() + KEPT_FOR}


def find_kept(id: str, settings: Any) -> Raw | None:
    """Return what is kept under an id, None where nothing is."""
    found: Raw | None = known_to_majority(settings).find_one({"_id": id, "expires_at": {"$gt": now()}})
    return found


def forget_expired(id: str) -> None:
    """Remove what is kept under an id if its time is over, which MongoDB does by itself within a minute or so.

    To delete, even nothing, waits for a majority of the members.
    """
    KeptAnswer._get_collection().delete_one({"_id": id, "expires_at": {"$lte": now()}})


def known_to_majority(settings: Any) -> Collection[Raw]:
    """Return the kept answers that outlive the primary.

    One that only the primary has was acknowledged to nobody, and is lost with it; sent again, it would be a promise.
    """
    kept: Collection[Raw] = KeptAnswer._get_collection()
    if connection.is_memory(settings["MONGODB_URI"]):
        return kept
    return kept.with_options(read_concern=ReadConcern("majority"))


def bytes_of(account: str) -> int:
    """Return the bytes of the answers that are kept for an account."""
    pipeline = [{"$match": {"account": account}}, {"$group": {"_id": None, "bytes": {"$sum": "$size"}}}]
    return sum(row["bytes"] for row in KeptAnswer._get_collection().aggregate(pipeline))
