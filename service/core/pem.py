"""Private keys of others' making, as they come in files: PEM (RFC 7468)."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def elliptic_key(pem: str) -> EllipticCurvePrivateKey:
    """Return the private key of P-256 in a PEM. Raises `ValueError`, which does not repeat it."""
    try:
        key: Any = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise ValueError("it has to be the text of the key file, a PEM with a private key of P-256")
    return key
