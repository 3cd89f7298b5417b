"""Subscriptions: what a browser gives for its token, and what is encrypted for it (RFC 8030, RFC 8291)."""

import secrets
from dataclasses import dataclass

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.core.base64url import decode_base64url

POINT_BYTES, SECRET_BYTES, SALT_BYTES = 65, 16, 16
RECORD_BYTES = 4096
"""Size of the one record that a message is (RFC 8291, section 4)."""
SUBSCRIPTION_FORM = (
    'the JSON of a subscription, as JSON.stringify makes it: {"endpoint": …, "keys": {"p256dh": …, "auth": …}}'
)


@dataclass(frozen=True, slots=True)
class PushSubscription:
    """Where a push service takes messages for a browser, and what they are encrypted with."""

    endpoint: str
    key: bytes
    secret: bytes

    @classmethod
    def read(cls, text: str) -> "PushSubscription":
        """Return what a token is. Raises `ValueError` for what is no subscription."""
        try:
            found = orjson.loads(text)
            endpoint, keys = found["endpoint"], found["keys"]
            key, secret = (decode_base64url(keys[name].rstrip("=")) for name in ("p256dh", "auth"))
            EllipticCurvePublicKey.from_encoded_point(SECP256R1(), key)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
            raise ValueError(SUBSCRIPTION_FORM) from None
        if not isinstance(endpoint, str) or len(key) != POINT_BYTES or len(secret) != SECRET_BYTES:
            raise ValueError(SUBSCRIPTION_FORM)
        return cls(endpoint, key, secret)

    def encrypted(self, text: bytes) -> bytes:
        """Return a message that the browser alone can read (RFC 8291, section 3.4; RFC 8188, section 2)."""
        ours, salt = generate_private_key(SECP256R1()), secrets.token_bytes(SALT_BYTES)
        point = ours.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        shared = ours.exchange(ECDH(), EllipticCurvePublicKey.from_encoded_point(SECP256R1(), self.key))
        material = expanded(self.secret, b"WebPush: info\0" + self.key + point, shared, 32)
        content_key = expanded(salt, b"Content-Encoding: aes128gcm\0", material, 16)
        nonce = expanded(salt, b"Content-Encoding: nonce\0", material, 12)
        head = salt + RECORD_BYTES.to_bytes(4, "big") + bytes([POINT_BYTES]) + point
        # 2 is the delimiter of the last record.
        return head + AESGCM(content_key).encrypt(nonce, text + b"\2", None)


def expanded(salt: bytes, info: bytes, material: bytes, length: int) -> bytes:
    """Return so many bytes made of some material (HKDF, RFC 5869)."""
    return HKDF(SHA256(), length, salt, info).derive(material)
