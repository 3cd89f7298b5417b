"""A write with an idempotency key is done once, wherever its process is killed: real processes, `kill -9`, HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from queue import SimpleQueue
from typing import Any

import pytest
import requests
from flask import Flask
from mongoengine.connection import get_connection

from service.core.clock import now
from service.documents import Note, Notebook
from service.records import deletion, store
from tests.client import Person
from tests.conftest import ROOT
from tests.crashing import points
from tests.forked_workers import end_transactions_after, transactions_ended_after
from tests.types import REGISTRY, SHIPPED

pytestmark = pytest.mark.real

SERVERS = 12
EVERY = int(os.environ.get("MADANG_CRASH_EVERY", "3"))
"""Of so many points one is tried, and the last two: after the last command the write is done for certain."""
ENOUGH = 200 if EVERY == 1 else 90

Sent = tuple[str, str, Any]
Rows = list[tuple[int | None, int]]
"""Priority and revision of the records of a case, tombstones too: they have no priority."""

BATCH = [
    {"method": "POST", "path": "/v1/notes", "body": {"title": "KEY"}},
    {"method": "PATCH", "path": "/v1/notes/KEY-1", "body": {"$inc": {"priority": 1}}},
    {"method": "PUT", "path": "/v1/notes/KEY-2", "body": {"title": "KEY", "priority": 2}},
]
NOTE = ("POST", "/v1/notes", {"id": "KEY-1", "title": "KEY"})
NOTEBOOK = ("POST", "/v1/notebooks", {"id": "KEY-1", "title": "KEY"})


@dataclass(frozen=True)
class Kind:
    """A write, what has to be there before it, and what is there when it was done once. KEY stands for its key."""

    write: Sent
    after: Rows
    before: list[Sent] = field(default_factory=list)


KINDS = {
    "POST": Kind(("POST", "/v1/notes", {"title": "KEY"}), [(0, 1)]),
    "POST with an id": Kind(NOTE, [(0, 1)]),
    "PATCH with $inc": Kind(("PATCH", "/v1/notes/KEY-1", {"$inc": {"priority": 1}}), [(1, 2)], [NOTE]),
    "PATCH, merged": Kind(("PATCH", "/v1/notes/KEY-1", {"priority": 3}), [(3, 2)], [NOTE]),
    "PUT that creates": Kind(("PUT", "/v1/notes/KEY-1", {"title": "KEY"}), [(0, 1)]),
    "PUT that replaces": Kind(("PUT", "/v1/notes/KEY-1", {"title": "KEY", "priority": 2}), [(2, 2)], [NOTE]),
    "DELETE": Kind(("DELETE", "/v1/notes/KEY-1", None), [(None, 2)], [NOTE]),
    "DELETE of a notebook with a note": Kind(
        ("DELETE", "/v1/notebooks/KEY-1", None),
        [(None, 2), (0, 2)],
        [NOTEBOOK, ("POST", "/v1/notes", {"title": "KEY", "notebook": "KEY-1"})],
    ),
    "batch": Kind(("POST", "/v1/batch", {"requests": BATCH}), [(0, 1), (1, 2), (2, 1)], [NOTE]),
    "atomic batch": Kind(("POST", "/v1/batch", {"requests": BATCH, "atomic": True}), [(0, 1), (1, 2), (2, 1)], [NOTE]),
}


class Server:
    """A service that is started again when it dies, and a client that retries as docs/retries.md says."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.session = requests.Session()
        self.session.headers.update(headers)

    def send(self, sent: Sent, **headers: str) -> requests.Response:
        method, path, body = sent
        return self.session.request(method, self.base + path, json=body, headers=headers, timeout=20)

    def insist(self, sent: Sent, **headers: str) -> requests.Response:
        """Send until there is an answer, and one that is not about the moment."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                answer = self.send(sent, **headers)
            except requests.ConnectionError:
                time.sleep(0.02)
                continue
            if "Retry-After" not in answer.headers:
                return answer
            time.sleep(int(answer.headers["Retry-After"]))
        raise AssertionError(f"no answer in 30 s to {sent}")

    def pid(self) -> int:
        """The worker; with this it has a connection to MongoDB."""
        return int(self.insist(("GET", "/health/ready", None)).headers["X-Pid"])

    def kill(self, sent: Sent, point: str, **headers: str) -> None:
        """Send a request whose worker is killed at a point."""
        pid = self.pid()
        with pytest.raises(requests.ConnectionError):
            self.send(sent, **headers, **{"X-Crash-At": point})
        assert self.pid() != pid


@pytest.fixture
def short_transactions(ada: Person) -> Iterator[None]:
    with transactions_ended_after(1):
        yield


@pytest.fixture
def start(ada: Person, mongodb_uri: str, short_transactions: None) -> Iterator[Callable[[int], list[Server]]]:
    """A function that starts servers on which ada is signed in."""
    held, processes, servers = [], [], []

    def start(number: int) -> list[Server]:
        # Sockets that do not listen keep the ports ours between two lives of a server.
        mine = [socket.socket() for _ in range(number)]
        for one in mine:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", 0))
        held.extend(mine)
        ports = [one.getsockname()[1] for one in mine]
        environment = {"SERVICE_ENV": "test", "SERVICE_MONGODB_URI": mongodb_uri, "SERVICE_LOG_LEVEL": "CRITICAL"}
        command = [sys.executable, "-m", "tests.crashing", *map(str, ports)]
        processes.append(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, env={**os.environ, **environment}))
        servers.extend(Server(port, ada.headers) for port in ports)
        return servers

    yield start
    for server in servers:
        server.session.close()
    for process in processes:
        process.stdin.close()
        process.wait(20)
    for one in held:
        one.close()


def keyed(sent: Any, key: str) -> Any:
    return json.loads(json.dumps(sent).replace("KEY", key))


def rows(key: str) -> dict[tuple[str, str], tuple[int | None, int]]:
    """What MongoDB holds of a case, by type and id."""
    mine = {"$or": [{"title": key}, {"_id": {"$regex": f"^{key}-"}}]}
    return {
        (document._meta["collection"], row["_id"]): (row.get("priority"), row["revision"])
        for document in SHIPPED
        for row in document._get_collection().find(mine)
    }


def sweep(key: str) -> None:
    """Release what refers to the notebook of a case, if that was deleted, as a worker does some seconds later."""
    long_ago = now() - timedelta(days=1)
    deleted = {"_id": f"{key}-1", "going_at": {"$exists": True}}
    Notebook._get_collection().update_one(deleted, {"$set": {"going_at": long_ago}})
    deletion.release_again(REGISTRY, timedelta(hours=1))


def check_once(server: Server, kind: Kind, key: str, answer: requests.Response) -> None:
    """Check in the database and over HTTP that the effect is there once, and that one more retry is a replay."""
    again = server.insist(keyed(kind.write, key), **{"Idempotency-Key": key})
    assert (again.status_code, again.content) == (answer.status_code, answer.content)
    assert again.headers["Idempotent-Replayed"] == "true"
    sweep(key)
    found = rows(key)
    assert sorted(found.values(), key=str) == sorted(kind.after, key=str)
    for (collection, name), (priority, revision) in found.items():
        read = server.insist(("GET", f"/v1/{collection}/{name}", None))
        if priority is None:
            assert read.status_code == 404
        else:
            assert (read.json()["priority"], read.json()["revision"]) == (priority, revision)


def crash_once(server: Server, kind: Kind, point: str, key: str) -> tuple[bool, float]:
    """Kill at a point, retry, check; return whether the retry was a replay and how long it took to be answered."""
    for sent in keyed(kind.before, key):
        assert server.insist(sent).status_code == 201
    sent, header = keyed(kind.write, key), {"Idempotency-Key": key}
    server.kill(sent, point, **header)
    began = time.monotonic()
    answer = server.insist(sent, **header)
    waited = time.monotonic() - began
    assert answer.status_code < 300, answer.text
    parts = answer.json()["responses"] if "batch" in sent[1] else []
    assert all(part["status"] < 300 for part in parts), answer.text
    check_once(server, kind, key, answer)
    return "Idempotent-Replayed" in answer.headers, waited


def commands(server: Server, kind: Kind, key: str) -> list[str]:
    """Return the commands that a write sends to MongoDB when nothing happens to it."""
    for sent in keyed(kind.before, key):
        server.insist(sent)
    server.pid()
    answer = server.send(keyed(kind.write, key), **{"Idempotency-Key": key, "X-Crash-At": "never"})
    check_once(server, kind, key, answer)
    return answer.headers["X-Commands"].split(",")


def summary(kills: Counter, replays: Counter, waits: list[float]) -> str:
    by_kind = "".join(f"  {name}: {kills[name]} kills, {replays[name]} found done\n" for name in KINDS)
    waited = f"a retry waited {sum(waits) / len(waits):.1f} s on average, {max(waits):.1f} s at most"
    return f"\n{kills.total()} kills, {replays.total()} retries found the write done, {waited}\n{by_kind}"


def test_a_write_is_done_once_wherever_its_process_is_killed(start, capsys: pytest.CaptureFixture) -> None:
    free: SimpleQueue[Server] = SimpleQueue()
    for server in start(SERVERS):
        free.put(server)
    keys = map("k{}".format, count())
    kills, replays, waits, failures = Counter(), Counter(), [], []

    def crash(name: str, point: str, title: str, key: str) -> None:
        server = free.get()
        try:
            replayed, waited = crash_once(server, KINDS[name], point, key)
            kills[name] += 1
            replays[name] += replayed
            waits.append(waited)
        except Exception as error:
            failures.append(f"{name}, {point} ({title}): {error!r}")
        finally:
            free.put(server)

    server = free.get()
    cases = [
        (name, point, title, next(keys))
        for name, kind in KINDS.items()
        for point, title in tried(points(commands(server, kind, next(keys))))
    ]
    free.put(server)
    with ThreadPoolExecutor(SERVERS) as pool:
        list(pool.map(lambda case: crash(*case), cases))
    with capsys.disabled():
        sys.stdout.write(summary(kills, replays, waits))
    assert not failures, "\n".join(failures)
    # After the last command, and before the answer, the write is done for certain.
    assert all(replays[name] >= 2 for name in KINDS)
    assert kills.total() >= ENOUGH


def tried(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The points of a write at which a process is killed."""
    all_points = list(found)
    return [*all_points[:-2:EVERY], *all_points[-2:]]


def test_a_deletion_without_a_key_ends_right_wherever_its_process_is_killed(start) -> None:
    """The notebook is there with all that refers to it, or it is gone, and the sweep ends what is left to do."""
    (server,) = start(1)
    delete: Sent = ("DELETE", "/v1/notebooks/KEY-1", None)
    notes: list[Sent] = [("POST", "/v1/notes", {"title": "KEY", "notebook": "KEY-1"})] * 3

    def prepared(key: str) -> Sent:
        for sent in keyed([NOTEBOOK, *notes], key):
            assert server.insist(sent).status_code == 201
        return keyed(delete, key)

    sent = prepared("d")
    server.pid()
    undisturbed = server.send(sent, **{"X-Crash-At": "never"})
    assert undisturbed.status_code == 204
    gone, there = [], []
    for number, (point, _) in enumerate(points(undisturbed.headers["X-Commands"].split(","))):
        key = f"d{number}"
        server.kill(prepared(key), point)
        is_there = server.insist(("GET", f"/v1/notebooks/{key}-1", None)).status_code == 200
        (there if is_there else gone).append(point)
        sweep(key)
        referring = Note._get_collection().count_documents({"notebook": f"{key}-1"})
        assert referring == (3 if is_there else 0), point
        assert "going_at" not in (Notebook._get_collection().find_one({"_id": f"{key}-1"}) or {})
    assert len(there) >= 2
    assert len(gone) >= 4


def test_other_writers_of_a_record_wait_for_the_transaction_of_the_dead(start) -> None:
    """Without a key or with one of their own; readers and writers of other records do not wait."""
    (server,) = start(1)
    end_transactions_after(3)
    # It finds session and account, claims its key and changes the record.
    changed = [name for name, _ in points(["find", "find", "insert", "findAndModify"])][-2]
    write: Sent = ("PATCH", "/v1/notes/n1", {"$inc": {"priority": 1}})
    for name in ("n1", "n2"):
        server.insist(("POST", "/v1/notes", {"id": name, "title": "a note"}))
    server.kill(write, changed, **{"Idempotency-Key": "dead"})
    assert server.send(("GET", "/v1/notes/n1", None)).json()["priority"] == 0
    assert server.send(("PATCH", "/v1/notes/n2", {"priority": 1})).status_code == 200
    early = server.send(write, **{"Idempotency-Key": "dead"})
    assert (early.status_code, early.json()["code"]) == (409, "request_in_progress")
    assert server.insist(write).json()["priority"] == 1
    assert server.insist(write, **{"Idempotency-Key": "dead"}).json()["priority"] == 2
    assert server.insist(write, **{"Idempotency-Key": "other"}).json()["priority"] == 3


def test_the_docs_end_the_transactions_of_the_dead_at_once(start, mongodb_uri: str) -> None:
    (server,) = start(1)
    end_transactions_after(60)
    script = (ROOT / "docs/retries.md").read_text().partition("```python\n")[2].partition("```")[0]
    write: Sent = ("POST", "/v1/notes", {"title": "a note"})
    server.kill(write, "4-after", **{"Idempotency-Key": "dead"})
    assert server.send(write, **{"Idempotency-Key": "dead"}).status_code == 409
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "SERVICE_MONGODB_URI": mongodb_uri})
    assert server.send(write, **{"Idempotency-Key": "dead"}).status_code == 201


def test_a_retried_batch_keeps_its_order(start) -> None:
    """Its second request needs the first, which the dead process had begun: a refusal now would be kept for good."""
    (server,) = start(1)
    end_transactions_after(3)
    parts = [
        {"method": "PUT", "path": "/v1/notes/KEY-1", "body": {"title": "KEY"}},
        {"method": "PATCH", "path": "/v1/notes/KEY-1", "body": {"priority": 1}},
    ]
    kind = Kind(("POST", "/v1/batch", {"requests": parts}), [(1, 2)])
    begun = commands(server, kind, "k1").index("insert") + 1
    crash_once(server, kind, f"{begun}-after", "k2")


def test_a_transaction_that_runs_out_of_time_is_ended(
    app: Flask, ada: Person, short_transactions: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.config, "MONGODB_TIMEOUT", 0.3)
    create = store.create

    def slow(*args: Any) -> Any:
        create(*args)
        time.sleep(0.4)
        raise TimeoutError

    monkeypatch.setattr(store, "create", slow)
    assert ada.post("/v1/notes", {"title": "x"}, headers={"Idempotency-Key": "k1"}).status_code == 500
    assert open_transactions() == 0


def open_transactions() -> int:
    """Count the transactions of this database server that nobody is working on."""
    operations = get_connection().admin.aggregate([{"$currentOp": {"allUsers": True, "idleSessions": True}}])
    return sum("transaction" in operation for operation in operations)


def test_a_batch_that_fails_undoes_what_followed_from_a_delete(ada: Person) -> None:
    notebook = ada.make_notebook()["id"]
    note = ada.make_note(notebook=notebook)["id"]
    parts = [{"method": "DELETE", "path": f"/v1/{path}"} for path in (f"notebooks/{notebook}", "notes/unknown")]
    ada.post("/v1/batch", {"atomic": True, "requests": parts})
    assert ada.get(f"/v1/notes/{note}").json["notebook"] == notebook
