"""What a platform is: who takes notifications for devices, and what it makes of a token that nobody is behind."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from service.core.pem import elliptic_key
from service.outbox.bulk_dispatch import SendOutcome
from service.outbox.dispatch import Refused
from service.push.notification import Notification
from service.push.registrations import Registration


class Dead(Refused):
    """Nobody is behind a token any more; the platform may say until when it has seen that (in UTC)."""

    def __init__(self, reason: str, until: datetime | None = None) -> None:
        super().__init__(reason)
        self.until = until


class Push(NamedTuple):
    """A notification for a device; `id` is that of its item, the same at each try."""

    id: str
    device: Registration
    notification: Notification
    expires_at: datetime


class Platform(Protocol):
    """Takes notifications for devices, from one thread."""

    kind: str
    most: int
    """How many it is handed at once."""
    seconds: float
    """Most seconds that it takes for as many."""

    def deliver(self, pushes: Sequence[Push]) -> list[SendOutcome]:
        """Hand notifications over; return what has come of each. Raises `CannotSend` where none was taken."""
        ...

    def rest(self) -> None:
        """Hear that there is nothing to send at this moment."""
        ...


def read_file(name: str, path: str) -> str:
    """Return the text of a file that a setting names. Raises `ValueError`, which does not repeat what is in it."""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise ValueError(f"{name}: {path} cannot be read: {why}") from None


def key_file(name: str, path: str) -> EllipticCurvePrivateKey:
    """Return the private key of P-256 in a file that a setting names. Raises `ValueError`, which does not repeat it."""
    try:
        return elliptic_key(read_file(name, path))
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(name) else f"{name}: {path}: {error}") from None
