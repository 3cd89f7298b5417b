"""Who is compared: how each server is started, where its routes are, and how the notes lie in its database."""

import hashlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jwt
import orjson
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, GEOSPHERE, TEXT, IndexModel, MongoClient
from pymongo.database import Database

import settings
from bench import data
from bench.data import Dataset
from service import app as application
from service.documents import Note
from service.identity.sessions import SECRET_BYTES, hashed
from service.model.record_type import derive
from service.mongo import connection
from service.policy import access_list
from service.records import search_words

ROOT = Path(__file__).parent.parent
PEERS_PYTHON = os.environ.get("BENCH_PYTHON") or str(ROOT / ".venv-bench" / "bin" / "python")
"""The interpreter that has the packages of the peers."""
THREADS = 32
"""As many as there are connections at most; with 16 all servers under Granian do as well or a little worse."""
BATCH = 5000
REFRESH = {"aud": "refresh"}
"""What tells a refresh token of a peer from an access token."""
REFRESH_SESSIONS = 20
"""Sessions of each account whose refresh tokens a run may spend."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A server to measure. `command` may name `{python}`, `{port}`, `{threads}` and `{store}`: what `where` gives.

    `stored` gives the document of a note as this server would have written it; `indexes` are those that its reads
    need; `unshaped` gives the content of a note from its JSON. `refresh` gives refresh tokens that are good once.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    stored: Callable[[Document], Document]
    item: str
    collection: str
    list_path: str
    refresh_path: str
    indexes: tuple[IndexModel, ...] = ()
    database: str = ""
    python: str = ""
    threads: int = THREADS
    folder: Path = ROOT
    environ: Mapping[str, str] = field(default_factory=dict)
    items: Callable[[Any], list[Document]] = lambda body: body["items"]
    unshaped: Callable[[Document], Document] = lambda note: note
    refresh_header: bool = False
    validates: bool = True
    prepare: Callable[[str], None] = lambda _uri: None
    refresh_tokens: Callable[[str], list[str]] = lambda _uri: stateless_tokens()

    def filled(self, uri: str) -> list[str]:
        """Return the command with all but the port, which is filled in at the start."""
        values = {
            "{python}": self.python or sys.executable,
            "{threads}": str(self.threads),
            "{store}": self.where(uri),
        }
        return [values.get(part, part) for part in self.command]

    def where(self, uri: str) -> str:
        """Return where the server's own data is: the URI of its database, on the MongoDB that `uri` names."""
        return urlsplit(uri)._replace(path=f"/bench_{self.database or self.name}").geturl()

    def environment(self, uri: str) -> dict[str, str]:
        """Return the environment variables of the server."""
        own = self.where(uri)
        values = {"BENCH_URI": own, "BENCH_SECRET": data.SECRET, "PYTHONPATH": str(self.folder)}
        return values | {name: value.replace("{uri}", own) for name, value in self.environ.items()}

    def token(self, account: int) -> str:
        """Return an access token of an account."""
        return data.token(account)

    def body(self, _account: int, note: Document) -> Document:
        """Return the body that makes a note of an account."""
        return note

    def facts(self, uri: str, workload: str, dataset: Dataset) -> dict[str, Any]:
        """Return what the wrk script draws from."""
        return {
            "accounts": dataset.accounts,
            "notes": dataset.notes,
            "id_prefix": "656e6368",
            "seed": secrets.randbits(30),
            "item": self.item,
            "collection": self.collection,
            "list": self.list_path,
            "refresh": self.refresh_path,
            "refresh_header": self.refresh_header,
            "tokens": [self.token(account) for account in range(dataset.accounts)],
            "bodies": [text(new_note(number)) for number in range(64)],
            "patches": [text({"title": f"changed {number} times", "priority": number % 6}) for number in range(64)],
            "refresh_tokens": self.refresh_tokens(self.where(uri)) if workload == "session" else [],
        }

    def fill(self, uri: str, dataset: Dataset) -> None:
        """Store all notes, then make the indexes and what else the server needs."""
        own = self.where(uri)
        with database_of(own) as base:
            for batch in in_batches(self.stored(note) for note in dataset.stored()):
                base["notes"].insert_many(batch, ordered=False)
            if self.indexes:
                base["notes"].create_indexes(list(self.indexes))
        self.prepare(own)

    def drop(self, uri: str) -> None:
        """Remove all that is stored."""
        with database_of(self.where(uri)) as base:
            base.client.drop_database(base.name)

    def clean(self, uri: str) -> None:
        """Remove the notes that a run has made."""
        with database_of(self.where(uri)) as base:
            base["notes"].delete_many({"title": {"$regex": f"^{data.CREATED}"}})


def text(value: Any) -> str:
    """Return a body."""
    return orjson.dumps(value).decode()


def new_note(number: int) -> Document:
    """Return the body that makes a note."""
    return {**data.as_json(data.content(number)), "title": f"{data.CREATED}, number {number}"}


@contextmanager
def database_of(uri: str) -> Iterator[Database[Document]]:
    """Yield the database that a URI names."""
    with MongoClient[Document](uri) as client:
        yield client.get_default_database()


def in_batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield lists of documents that are good to insert at once."""
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def seed(contender: Contender, uri: str, dataset: Dataset) -> None:
    """Fill the store of a contender anew."""
    contender.drop(uri)
    contender.fill(uri, dataset)


def stateless_tokens(audience: Mapping[str, str] = REFRESH) -> list[str]:
    """Return refresh tokens that are nothing but signed claims."""
    now = datetime.now(UTC)
    claims = {"iat": now, "nbf": now, "exp": now + timedelta(days=1), "type": "refresh", "fresh": False, **audience}
    return [
        jwt.encode({**claims, "sub": data.account_id(a), "jti": f"{n}-{a}"}, data.SECRET, "HS256")
        for n in range(2)
        for a in range(data.ACCOUNTS)
    ]


# --- The bare callable -----------------------------------------------------------------------------------------------


def plain(note: Document) -> Document:
    """Return a note as a plain document with a string for its id."""
    content = {name: value for name, value in note.items() if name != "number"}
    stamps = {"created_at": note["updated_at"], "revision": 1, "notebook": None}
    return {"_id": data.note_id(note["number"]), **content, **stamps}


def with_object_id(note: Document) -> Document:
    """Return a note as a plain document with an ObjectId."""
    return {**plain(note), "_id": ObjectId(data.note_id(note["number"]))}


NEWEST = IndexModel([("owner", ASCENDING), ("updated_at", DESCENDING), ("_id", DESCENDING)])
GRANIAN = ("{python}", "-m", "granian", "--interface", "wsgi", "--port", "{port}", "--workers", "1")
GRANIAN += ("--blocking-threads", "{threads}", "--log-level", "warning")
WHERE = quote('{"pinned":true}')

BARE = Contender(
    name="bare",
    title="bare WSGI",
    packages=("pymongo", "pyjwt", "orjson", "granian"),
    command=(*GRANIAN, "bench.peers.bare:application"),
    stored=plain,
    indexes=(NEWEST,),
    item="/notes/%s",
    collection="/notes",
    list_path="/notes?pinned=true&limit=20",
    refresh_path="/refresh",
    validates=False,
)

NODE = replace(
    BARE,
    name="node",
    title="bare Node",
    packages=(),
    command=("node", str(ROOT / "bench" / "peers" / "bare_node.mjs"), "{port}"),
    environ={"BENCH_MODULES": str(Path(PEERS_PYTHON).parents[1] / "node_modules")},
)
"""The same on Node's own server and MongoDB's driver for it."""

INDEXED = replace(
    BARE,
    name="indexed",
    title="bare WSGI, Madang's indexes",
    indexes=(
        *(
            IndexModel([("owner", ASCENDING), *keys, ("_id", ASCENDING)])
            for keys in (
                *([(name, ASCENDING)] for name in ("updated_at", "created_at", "title", "due", "priority")),
                [("priority", ASCENDING), ("due", DESCENDING)],
            )
        ),
        IndexModel([("owner", ASCENDING), ("place", GEOSPHERE)]),
        IndexModel([("owner", ASCENDING), ("title", TEXT), ("body", TEXT)]),
        IndexModel([("notebook", ASCENDING)], sparse=True),
    ),
)
"""What a service needs that answers the same lists, the same search and the same `$near` as Madang."""

# --- Madang ----------------------------------------------------------------------------------------------------------


def as_record(note: Document) -> Document:
    """Return a note as Madang stores it."""
    stored = plain(note)
    del stored["notebook"]
    access = access_list(note["owner"], {})
    return {**stored, "access": access, **search_words.words_field(NOTES, stored, access)}


NOTES = derive(Note)
"""The record type whose words are made."""


def prepare_madang(uri: str) -> None:
    """Make the accounts, two of which get no load, with a session each, and the indexes."""
    numbers = range(data.ACCOUNTS + 2)
    accounts = [{"_id": data.account_id(n), "username": f"u{n}", "username_key": f"u{n}"} for n in numbers]
    with database_of(uri) as base:
        base["accounts"].insert_many([{**account, "password_hash": "-", "roles": []} for account in accounts])
        base["sessions"].insert_many([session(account, 0, "-") for account in numbers])
    make_indexes(uri)


def make_indexes(uri: str) -> None:
    """Let Madang make its indexes as a person would: in a process of its own."""
    environ = {name: value.replace("{uri}", uri) for name, value in MADANG.environ.items()}
    command = [sys.executable, "-m", "flask", "--app", "run", "indexes", "make"]
    subprocess.run(command, env={**os.environ, **environ}, cwd=ROOT, check=True, capture_output=True, timeout=3600)


def session(account: int, number: int, refresh_hash: str) -> Document:
    """Return the stored session of an account."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return {
        "_id": data.session_id(account, number),
        "account": data.account_id(account),
        "device": None,
        "address": "127.0.0.1",
        "created_at": now,
        "last_used_at": now,
        "auth_time": int(now.replace(tzinfo=UTC).timestamp()),
        "expires_at": now + timedelta(days=1),
        "refresh_hash": refresh_hash,
    }


def madang_settings(uri: str) -> dict[str, Any]:
    """Return the settings that the measured server has too."""
    variables = {name: value.replace("{uri}", uri) for name, value in MADANG.environ.items()}
    return settings.load(variables)


def madang_tokens(uri: str) -> list[str]:
    """Return the refresh tokens of new sessions."""
    sessions = application.create_app(madang_settings(uri)).extensions["madang.security"].sessions
    tokens, rows = [], []
    for number in range(1, REFRESH_SESSIONS + 1):
        for account in range(data.ACCOUNTS):
            secret = secrets.token_bytes(SECRET_BYTES)
            rows.append(session(account, number, hashed(secret)))
            tokens.append(sessions.packed(rows[-1]["_id"], secret))
    connection.disconnect()
    with database_of(uri) as base:
        base["sessions"].delete_many({"refresh_hash": {"$ne": "-"}})
        base["sessions"].insert_many(rows)
    return tokens


MADANG = Contender(
    name="madang",
    title="Madang",
    packages=("flask", "flask-restful", "mongoengine", "pymongo", "pydantic", "granian"),
    command=("{python}", "run.py", "--only", "api", "--workers", "1", "--threads", "{threads}", "--port", "{port}"),
    stored=as_record,
    item="/v1/notes/%s",
    collection="/v1/notes",
    list_path=f"/v1/notes?where={WHERE}&sort=-updated_at&limit=20",
    refresh_path="/auth/refresh",
    environ={
        "SERVICE_ENV": "production",
        "SERVICE_MONGODB_URI": "{uri}",
        "SERVICE_JWT_SECRET_KEY": data.SECRET,
        "SERVICE_LOG_JSON": "true",
    },
    prepare=prepare_madang,
    refresh_tokens=madang_tokens,
)

# --- The peers -------------------------------------------------------------------------------------------------------


def with_etag(note: Document) -> Document:
    """Return a note as Eve stores it."""
    stored = with_object_id(note)
    return {**stored, "_etag": hashlib.sha1(str(stored).encode()).hexdigest()}


def with_id(note: Document) -> Document:
    """Return a note of Eve's with its id where the others have it."""
    return {**note, "id": note["_id"]}


FASTAPI = Contender(
    name="fastapi",
    title="FastAPI + Beanie",
    packages=("fastapi", "beanie", "pymongo", "pydantic", "uvicorn", "uvloop", "httptools"),
    command=(
        *("{python}", "-m", "uvicorn", "--port", "{port}", "--workers", "1", "--no-access-log"),
        *("--log-level", "warning", "bench.peers.fastapi_beanie:app"),
    ),
    stored=with_object_id,
    indexes=(NEWEST,),
    item="/notes/%s",
    collection="/notes",
    list_path="/notes?pinned=true&limit=20",
    refresh_path="/refresh",
    python=PEERS_PYTHON,
)

EVE = Contender(
    name="eve",
    title="Eve",
    packages=("eve", "flask", "pymongo", "granian"),
    command=(*GRANIAN, "bench.peers.eve_notes:app"),
    stored=with_etag,
    indexes=(NEWEST,),
    item="/notes/%s",
    collection="/notes",
    list_path=f"/notes?where={WHERE}&sort=-updated_at&max_results=20",
    refresh_path="/refresh",
    items=lambda body: [with_id(note) for note in body["_items"]],
    unshaped=with_id,
    python=PEERS_PYTHON,
)

RESTFUL = Contender(
    name="restful",
    title="Flask-RESTful + MongoEngine",
    packages=("flask", "flask-restful", "mongoengine", "flask-jwt-extended", "pymongo", "granian"),
    command=(*GRANIAN, "bench.peers.restful_mongoengine:app"),
    stored=with_object_id,
    indexes=(NEWEST,),
    item="/notes/%s",
    collection="/notes",
    list_path="/notes?pinned=true&limit=20",
    refresh_path="/refresh",
    refresh_header=True,
    refresh_tokens=lambda _uri: stateless_tokens({}),
    python=PEERS_PYTHON,
)

PEERS = (FASTAPI, EVE, RESTFUL)
