"""Smaller images that are kept: blobs beside that of their file, which go with it and count in nobody's storage."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from pymongo.errors import DuplicateKeyError

from service.core.clock import now
from service.core.errors import NotFound
from service.documents.blob import Blob
from service.files.blobs import CHUNK_BYTES, FILE_NOT_THERE, BlobPart, Blobs
from service.files.images_sizes import Size
from service.files.uploads import forget_late, in_its_time
from service.records.storage import LIVING

MAKER = 1
"""What makes them: the next number, and all are made anew."""
LIFE = timedelta(minutes=10)
"""How long one may take to be stored; then the sweep takes it away, and it is made again."""


def rendition_of(size: Size, media_type: str) -> str:
    """Return the name of what is made of any image for a size and a media type, whatever the size is called."""
    made_of = f"{MAKER} {size.width}x{size.height} {size.cover} {media_type}"
    return hashlib.sha256(made_of.encode()).hexdigest()[:16]


def kept_length(record: Mapping[str, Any], rendition: str) -> int | None:
    """Return how many bytes a smaller image has that is kept; None where it is not."""
    found = Blob._get_collection().find_one({"_id": blob_id(record, rendition), "file": record["_id"], **LIVING})
    return None if found is None else int(found["length"])


def blob_id(record: Mapping[str, Any], rendition: str) -> str:
    """Return the id of the blob that a smaller image is."""
    return f"{record['blob']}-{rendition}"


def keep(blobs: Blobs, record: Mapping[str, Any], rendition: str, data: bytes) -> None:
    """Keep a smaller image of a file, unless another process does. Raises `NotFound` where the file is gone."""
    moment = now()
    blob = {
        "_id": blob_id(record, rendition),
        "account": record["owner"],
        "reserved": 0,
        "length": len(data),
        "chunkSize": CHUNK_BYTES,
        "uploadDate": moment,
        "rendition": rendition,
        "expires_at": moment + LIFE,
    }
    try:
        Blob._get_collection().insert_one(blob)
    except DuplicateKeyError:
        return
    part = blobs.send(blob["_id"], 0, data, True)
    try:
        in_its_time(partial(claim_rendition, blobs, record, blob["_id"], part))
    except NotFound:
        forget_late(blobs, blob["_id"])
        raise


def claim_rendition(blobs: Blobs, record: Mapping[str, Any], id: str, part: BlobPart) -> None:
    """Store the bytes and give them to the file, as a part of a transaction, in which the file cannot go."""
    original = {"_id": record["blob"], "file": record["_id"], **LIVING}
    if not Blob._get_collection().update_one(original, {"$inc": {"renditions": 1}}).matched_count:
        raise NotFound(FILE_NOT_THERE)
    blobs.keep(id, part)
    claimed = {"$set": {"file": record["_id"]}, "$unset": {"expires_at": ""}}
    if not Blob._get_collection().update_one({"_id": id, **LIVING}, claimed).matched_count:
        raise NotFound("the smaller image has taken too long to be stored")
    blobs.settle(id)
