"""Base64url without padding, in the one spelling that it has (RFC 7515, section 2)."""

import base64


def encode_base64url(data: bytes) -> str:
    """Return `data` as text."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """Return the bytes of a text.

    Raises `ValueError` for padding, for characters out of the alphabet and for spare bits, which Python's decoder
    takes: what is signed would have a second spelling.
    """
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode_base64url(data) != text:
        raise ValueError("not base64url in its one spelling")
    return data
