"""Links to the bytes of a file, for image views and players, which send no header: a MAC in place of a token."""

import hmac
import time
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from service.core.base64url import decode_base64url, encode_base64url
from service.core.errors import NotFound
from service.documents.account import ALIVE, NOT_LOCKED, Account
from service.policy import HELD, Identity

LONGEST_LINK = 7 * 24 * 3600
"""Most seconds for which a link is good."""
LINK_MAC_BYTES = 32
LINK_OVER = "the link is over, or is none"


class FileLink(NamedTuple):
    """What a link stands for: the account that has made it, as which its file is read, and a size of an image."""

    account: str
    until: int
    size: str | None = None


class FileLinks:
    """Makes and reads links by keys, the first of which makes them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = keys

    def made(self, file: str, account: str, seconds: int, size: str | None) -> str:
        """Return the text of a link to a file, good for so many seconds."""
        payload = orjson.dumps([account, int(time.time()) + seconds, size])
        return encode_base64url(self.mac(self.keys[0], file, payload) + payload)

    def read(self, file: str, text: str) -> FileLink:
        """Return what a link to a file stands for. Raises `NotFound` for one that is over, and for what is none."""
        try:
            data = decode_base64url(text)
        except ValueError:
            raise NotFound(LINK_OVER) from None
        mac, payload = data[:LINK_MAC_BYTES], data[LINK_MAC_BYTES:]
        if not any(hmac.compare_digest(mac, self.mac(key, file, payload)) for key in self.keys):
            raise NotFound(LINK_OVER)
        link = FileLink(*orjson.loads(payload))
        if link.until <= time.time():
            raise NotFound(LINK_OVER)
        return link

    def mac(self, key: bytes, file: str, payload: bytes) -> bytes:
        """Return the MAC of a link to a file."""
        return hmac.digest(key, file.encode() + b"\0" + payload, "sha256")


def reader_of(link: FileLink) -> Identity:
    """Return as whom a link reads, with the roles and groups of now. Raises `NotFound` where that account has gone."""
    account = Account._get_collection().find_one({"_id": link.account, **ALIVE, **NOT_LOCKED}, HELD)
    if account is None:
        raise NotFound(LINK_OVER)
    return Identity.of(account)
