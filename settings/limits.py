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
ADDRESSES = Written(r"\S+:[0-9]{1,5}", "addresses such as 10.0.0.2:8000")
