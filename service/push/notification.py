"""Notifications: what is said to somebody's devices, each in its language, before a platform gives it its form."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from service.core.json_text import decode, encode
from service.documents.account import LOCALE
from service.mongo.raw import Raw

Text = str | Mapping[str, str]
"""A text, or one for each of some languages (`{"en": …, "ko": …}`)."""
FALLBACK = "en"
MOST_TOLD_BYTES = 3000
"""Most bytes of what is said in one language, with its data as JSON: APNs and FCM take 4,096, Web Push 3,993."""
DAY, MOST_SECONDS = 86_400, 28 * 86_400
"""Four weeks is the most that FCM keeps anything."""
TOPIC = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MOST_COLLAPSE = 64
"""Most bytes of a collapse id, as APNs takes it."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What is said: `title` and `body` are shown, `data` is for the app; with neither text it is silent.

    Of those with one `collapse` a device shows the newest. It is tried for `seconds`, and is of no more use then; with
    0 it comes at once or never. One that is not `urgent` may wait until the device is awake. Raises `ValueError`.
    """

    title: Text | None = None
    body: Text | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    collapse: str | None = None
    seconds: int = DAY
    urgent: bool = True
    badge: int | None = None
    sound: str | None = None

    def __post_init__(self) -> None:
        for name, text in (("title", self.title), ("body", self.body)):
            check_text(name, text)
        if self.collapse is not None and not 0 < len(self.collapse.encode()) <= MOST_COLLAPSE:
            raise ValueError(f"a collapse id of 1 to {MOST_COLLAPSE} bytes")
        if not 0 <= self.seconds <= MOST_SECONDS:
            raise ValueError(f"from 0 to {MOST_SECONDS:,} seconds")
        if self.badge is not None and self.badge < 0:
            raise ValueError("a badge of 0 or more")
        if self.is_silent and not self.data and self.badge is None:
            raise ValueError("a title, a body, data or a badge")
        if longest_bytes(self) > MOST_TOLD_BYTES:
            raise ValueError(f"at most {MOST_TOLD_BYTES:,} bytes of texts and data, in each language")

    @property
    def is_silent(self) -> bool:
        """Whether nobody sees it: it wakes the app."""
        return self.title is None and self.body is None

    @property
    def wakes(self) -> bool:
        """Whether it may wake a device that sleeps: what nobody sees never may."""
        return self.urgent and not self.is_silent

    def stored(self) -> Raw:
        """Return it as an item of the outbox keeps it."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        # As text: names in it are the app's, and may be none that MongoDB likes.
        return {**told, "data": encode(dict(self.data)).decode()}

    @classmethod
    def of(cls, stored: Raw) -> "Notification":
        """Return the one that an item keeps."""
        return cls(**{**stored, "data": decode(stored["data"].encode())})


def check_text(name: str, text: Text | None) -> None:
    """Raise `ValueError` for a text that says nothing, or in what is no language."""
    texts = {FALLBACK: text} if isinstance(text, str) else text
    if text is not None and not (texts and all(isinstance(one, str) and one for one in texts.values())):
        raise ValueError(f"a {name} that says something, or none")
    if any(re.fullmatch(LOCALE, language) is None for language in texts or ()):
        raise ValueError(f"a {name} for language tags such as ko or pt-BR")


def longest_bytes(notification: Notification) -> int:
    """Return the bytes of what is said in the language in which that are the most."""
    texts = [text for text in (notification.title, notification.body) if text is not None]
    each = [[text] if isinstance(text, str) else list(text.values()) for text in texts]
    try:
        return sum(max(len(encode(one)) for one in of_one) for of_one in each) + len(encode(dict(notification.data)))
    except TypeError:
        raise ValueError("data that JSON can say") from None


def in_language(text: Text | None, language: str | None) -> str | None:
    """Return a text in a language (BCP 47), or in its base, or in English, or in the first that there is."""
    if text is None or isinstance(text, str):
        return text
    for wanted in (language, (language or "").split("-")[0], FALLBACK):
        for known, found in text.items():
            if wanted and known.lower() == wanted.lower():
                return found
    return next(iter(text.values()))


def check_topic(topic: str) -> str:
    """Return a topic. Raises `ValueError` for what cannot be one."""
    if TOPIC.fullmatch(topic) is None:
        raise ValueError("a topic of 1 to 64 of a-z 0-9 . _ -, that begins with a letter or a digit")
    return topic
