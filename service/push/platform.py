"""What a platform is: who takes notifications for devices, and what it makes of a token that nobody is behind."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from service.core.pem import elliptic_key
from service.outbox.bulk_dispatch import SendOutcome
from service.outbox.dispatch import CannotSend, Postponed, Refused
from service.push.notification import Notification, in_language
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
    until: datetime
    """When it is of no more use, in UTC."""

    @property
    def texts(self) -> dict[str, str]:
        """What is shown of it, in the language of the device."""
        texts = {"title": self.notification.title, "body": self.notification.body}
        shown = {name: in_language(text, self.device.language) for name, text in texts.items()}
        return {name: text for name, text in shown.items() if text is not None}

    @property
    def expires_at(self) -> int:
        """When a platform may let go of it, in seconds since 1970; 0 where it comes at once or never."""
        return int(self.until.replace(tzinfo=UTC).timestamp()) if self.notification.seconds else 0

    @property
    def seconds_left(self) -> int:
        """How long a platform may keep it."""
        return max(0, self.expires_at - int(time.time()))


class Platform(Protocol):
    """Takes notifications for devices, from one thread."""

    kind: str
    most: int
    """How many it is handed at once."""
    seconds: float
    """Seconds for which these are its own."""

    def deliver(self, pushes: Sequence[Push], until: float) -> list[SendOutcome]:
        """Hand notifications over; return what has come of each. Raises `CannotSend` where none was taken.

        At `until`, of `elapsed`, nothing is under way any more.
        """
        ...

    def rest(self) -> None:
        """Hear that there is nothing to send at this moment."""
        ...


def seen_together(found: Sequence[SendOutcome]) -> list[SendOutcome]:
    """Return what has come of notifications that one server was handed at once, each seen beside the others.

    Where one was taken, it was not the platform that could take none; where all have to wait, it is the platform.
    """
    if any(outcome is None for outcome in found):
        return [Postponed(str(one), one.wait) if isinstance(one, CannotSend) else one for one in found]
    waits = [one.wait for one in found if isinstance(one, Postponed) and one.wait is not None]
    if len(found) > 1 and len(waits) == len(found):
        return [CannotSend(str(found[0]), max(waits))] * len(found)
    return list(found)


def read_file(name: str, path: str) -> str:
    """Return the text of a file that a setting names. Raises `ValueError`, which does not repeat what is in it."""
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise ValueError(f"{name}: {path} cannot be read: {why}") from None


def key_file(name: str, path: str) -> EllipticCurvePrivateKey:
    """Return the private key of P-256 in a file that a setting names. Raises `ValueError`, which does not repeat it."""
    text = read_file(name, path)
    try:
        return elliptic_key(text)
    except ValueError as error:
        raise ValueError(f"{name}: {path}: {error}") from None
