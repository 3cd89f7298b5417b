"""Which store the bytes of files are in: the one that the settings name."""

from collections.abc import Mapping
from typing import Any

from service.files.blobs import Blobs, GridFs


def store_of(settings: Mapping[str, Any]) -> Blobs:
    """Return the store of `FILES_URL`: MongoDB without one, else what speaks S3."""
    if not settings["FILES_URL"]:
        return GridFs()
    # What it stands on is large, and most have no use for it.
    from service.files.s3 import S3, bucket_from, client_of

    bucket = bucket_from(settings["FILES_URL"])
    return S3(bucket, client_of(bucket))
