"""What the value of a setting may be: said beside its type, held at the start."""

import re
from datetime import timedelta
from typing import Any, NamedTuple


class Between(NamedTuple):
    """A number between two others, or a duration of so many seconds."""

    least: float
    most: float

    def takes(self, value: Any) -> bool:
        """Tell whether a value is good; what is no number is not."""
        return self.least <= (value.total_seconds() if isinstance(value, timedelta) else value) <= self.most

    def __str__(self) -> str:
        """Return what would be right."""
        return f"from {self.least} to {self.most}"


class Written(NamedTuple):
    """A text, or each text of a list, of a pattern; `example` says what would be right."""

    pattern: str
    example: str

    def takes(self, value: Any) -> bool:
        """Tell whether a value is good."""
        return all(re.fullmatch(self.pattern, text) for text in (value if isinstance(value, list) else [value]))

    def __str__(self) -> str:
        """Return what would be right."""
        return self.example


FOLDER = Written(".+", "a folder")
NAME = Written(".+", "a name")
WORD = Written("[!#$%&'*+.^_`|~0-9A-Za-z-]+", "a word such as JWT")
PATH = Written("(/[A-Za-z0-9._~-]+)+", "a path such as /auth")
RATE = Written(
    "[0-9]+ ?(/|per) ?([1-9][0-9]* ?)?(second|minute|hour|day|month|year)s?", "a rate such as 10 per 5 minutes"
)
LEVEL = Written("(?i:debug|info|warning|error|critical)", "DEBUG, INFO, WARNING, ERROR or CRITICAL")
URL = Written("(https?://[A-Za-z0-9.:_[\\]-]+(/[A-Za-z0-9._~-]+)*/?)?", "a URL such as https://api.example.com")
STORE = Written(
    "(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?"
    "([?&](endpoint=https?://[A-Za-z0-9.:_[\\]-]+/?|region=[a-z0-9-]+))*)?",
    "a bucket such as s3://bucket/folder?endpoint=https://s3.example.com&region=eu-1",
)
LINK = Written(
    "((?!(?i:javascript|data|vbscript|file|blob|about):)[A-Za-z][A-Za-z0-9+.-]*:[^\\s\"'<>]+)?",
    "a link such as myapp://home",
)
REDIRECT = Written(
    "(https://[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?(:[0-9]{1,5})?/|"
    "(?!(https?|wss?|ftp|file|data|javascript|vbscript|blob|about|filesystem|intent|view-source|mailto|tel|sms):)"
    "[a-z][a-z0-9+.-]{0,60}:)[A-Za-z0-9._~!$&()*+,;=:@%/?-]{0,240}",
    "links such as com.example.notes:/signed-in or https://app.example.com/signed-in, without a fragment",
)
"""Where a browser is sent with a code: in one spelling, so that two of them are the same or are two."""
HOSTS = Written(
    r"[A-Za-z0-9.:_-]+(/[0-9]{1,3})?", "names of hosts such as hooks.internal, and networks such as 10.0.0.0/8"
)
CONTACT = Written("(mailto:[^\\s@]+@[^\\s@]+|https://\\S+)?", "mailto:push@example.com, or a page by https://…")
ADDRESSES = Written(r"\S+:[0-9]{1,5}", "addresses such as 10.0.0.2:8000")


class Distinct(NamedTuple):
    """A list of texts, of which no two begin with the same word."""

    written: Written

    def takes(self, value: Any) -> bool:
        """Tell whether a value is good."""
        return self.written.takes(value) and len({text.split()[0] for text in value}) == len(value)

    def __str__(self) -> str:
        """Return what would be right."""
        return f"{self.written}, each name once"


SIDE = "([1-9][0-9]{0,2}|[1-3][0-9]{3})"
SIZES = Distinct(
    Written(
        f"[a-z][a-z0-9_-]{{0,31}} {SIDE}(x{SIDE})? (cover|contain)",
        "sizes of up to 3999 pixels such as thumb 200x200 cover or screen 1600 contain",
    )
)
