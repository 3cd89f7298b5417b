"""Keys that are derived from one secret, one for each purpose."""

import hmac
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Derives keys from `secrets`; the first is in use, what the others made is still recognised."""

    secrets: tuple[str, ...]

    def derived(self, purpose: str, secret: str | None = None) -> bytes:
        """Return a key of 32 bytes for one `purpose`, so that no two uses share one (RFC 8725, section 3.12)."""
        return hmac.digest((secret or self.secrets[0]).encode(), f"madang {purpose}".encode(), "sha256")

    def each(self, purpose: str) -> list[bytes]:
        """Return the keys of one purpose that all the secrets make, that in use first."""
        return [self.derived(purpose, secret) for secret in self.secrets]
