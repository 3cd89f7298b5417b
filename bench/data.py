"""The same notes for every peer: made from their number alone, so that any answer can be checked."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt

ACCOUNTS = 50
PRIME = 7919
"""Spreads the times over the notes, so that their order is not the order in which they lie on disk."""
SECRET = "a secret that only the benchmark knows, of more than 32 bytes"
START = datetime(2026, 1, 1)
CREATED = "made by the benchmark"
"""How the title of every note begins that a run makes, and that goes away after it."""
WORDS = ("yard", "house", "front", "meet", "tea", "rain", "boat", "green", "north", "letter", "stone", "river", "lamp")

Note = dict[str, Any]


def note_id(number: int) -> str:
    """Return the id of a note: 24 hexadecimal digits, which are an ObjectId too."""
    return f"656e6368{number:016x}"


def account_id(number: int) -> str:
    """Return the id of an account."""
    return f"acc0{number:020x}"


def content(number: int) -> Note:
    """Return what a client would send to make a note."""
    draw = random.Random(number)
    return {
        "title": " ".join(draw.choices(WORDS, k=5)),
        "body": " ".join(draw.choices(WORDS, k=80)),
        "tags": draw.sample(WORDS, 3),
        "pinned": False,
        "priority": number % 6,
        "due": START + timedelta(days=number % 365),
        "place": {"type": "Point", "coordinates": [round(draw.uniform(-180, 180), 5), round(draw.uniform(-90, 90), 5)]},
        "checklist": [{"text": " ".join(draw.choices(WORDS, k=3)), "done": draw.random() < 0.5} for _ in range(3)],
    }


@dataclass(frozen=True, slots=True)
class Dataset:
    """As many notes as there are, dealt out to the accounts in turn."""

    notes: int = 50_000
    accounts: int = ACCOUNTS

    def owner_of(self, number: int) -> str:
        """Return the account that owns a note."""
        return account_id(number % self.accounts)

    def is_pinned(self, number: int) -> bool:
        """Tell whether a note is one of those that the list asks for: every other one of each account."""
        return number // self.accounts % 2 == 0

    def updated_at(self, number: int) -> datetime:
        """Return when a note was written last: a different second for each."""
        return START + timedelta(seconds=number * PRIME % self.notes)

    def content(self, number: int) -> Note:
        """Return what a client would send to make a note."""
        return {**content(number), "pinned": self.is_pinned(number)}

    def stored(self) -> Iterator[Note]:
        """Yield the content of every note with its `number`, `owner` and `updated_at`."""
        for number in range(self.notes):
            stamps = {"number": number, "owner": self.owner_of(number), "updated_at": self.updated_at(number)}
            yield {**stamps, **self.content(number)}

    def page_of(self, account: int, limit: int = 20) -> list[str]:
        """Return the ids of the pinned notes of an account that were written last, the newest first."""
        own = [number for number in range(account, self.notes, self.accounts) if self.is_pinned(number)]
        return [note_id(number) for number in sorted(own, key=self.updated_at, reverse=True)[:limit]]


@cache
def token(account: int, life: int = 24 * 3600) -> str:
    """Return an access token of an account, with the claims that all peers ask for."""
    issued = int(time.time())
    claims = {
        "sub": account_id(account),
        "sid": session_id(account, 0),
        "auth_time": issued,
        "iat": issued,
        "nbf": issued,
        "exp": issued + life,
        # Flask-JWT-Extended asks for these.
        "jti": f"access-{account}",
        "type": "access",
        "fresh": False,
    }
    return jwt.encode(claims, SECRET, "HS256")


def session_id(account: int, number: int) -> str:
    """Return the id of one of the sessions of an account."""
    return f"5e55{account:010x}{number:010x}"


def as_text(moment: datetime) -> str:
    """Return a time as the wire has it."""
    return moment.replace(tzinfo=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_json(note: Note) -> Note:
    """Return a note as a client sends it."""
    return {**note, "due": as_text(note["due"])}
