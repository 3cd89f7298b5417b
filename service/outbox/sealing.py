"""What nobody may read who reads the database: encrypted with a key that is not in there."""

import secrets
from collections.abc import Sequence

import bson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.mongo.raw import Raw, in_bson

NONCE_BYTES = 12
"""NIST SP 800-38D, section 8.2.2: a random nonce of 96 bits."""


class Unsealable(Exception):
    """None of our keys opens it: the secret was changed, or it was sealed for another item."""


class Seal:
    """Encrypts with the first of some keys of 32 bytes; what the others encrypted is still opened (AES-256-GCM)."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.ciphers = [AESGCM(key) for key in keys]

    def close(self, values: Raw, item: str) -> bytes:
        """Return values encrypted, for the item of this id alone."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self.ciphers[0].encrypt(nonce, in_bson(values), item.encode())

    def open(self, sealed: bytes, item: str) -> Raw:
        """Return the values. Raises `Unsealable`."""
        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        for cipher in self.ciphers:
            try:
                return bson.decode(cipher.decrypt(nonce, text, item.encode()))
            except InvalidTag:
                continue
        raise Unsealable("no key of this service opens it")
