"""Documents and filters as MongoDB has them."""

from collections.abc import Mapping
from typing import Any

import bson
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions

Raw = dict[str, Any]
"""A document in BSON form."""
Filter = dict[str, Any]
"""Which documents of a collection are meant."""
STANDARD: CodecOptions[Any] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
"""The options of all that is stored: a UUID is as every language reads it."""


def in_bson(document: Mapping[str, Any]) -> bytes:
    """Return a document as it is stored; without these options nothing with a UUID in it can be."""
    return bson.encode(document, codec_options=STANDARD)
