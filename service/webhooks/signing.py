"""Signatures of webhooks, as Standard Webhooks say: by each secret that is good now."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook as Signer

SECRET_PREFIX = "whsec_"  # noqa: S105  what each begins with
SIGNING_SECRET_BYTES = 32
"""The specification asks for 24 to 64."""


def new_secret() -> str:
    """Return a new secret, as the libraries of the receivers take it."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SIGNING_SECRET_BYTES)).decode()


def signed_headers(id: str, moment: datetime, body: bytes, good: Sequence[str]) -> Mapping[str, str]:
    """Return the headers of a message that is sent at a moment (UTC, without a zone), signed by each secret."""
    at = moment.replace(tzinfo=UTC)
    signatures = [Signer(secret).sign(id, at, body.decode()) for secret in good]
    return {
        "webhook-id": id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
        "Content-Type": "application/json",
        "User-Agent": "Madang-Webhooks",
    }
