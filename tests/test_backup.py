"""A backup and its way back: the same answers, one moment, no sessions; over HTTP, on real databases."""

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from bson import decode_all
from pymongo import MongoClient, WriteConcern

from service.upkeep import archive
from service.upkeep.backup import TROUBLES, versions
from tests.conftest import ROOT
from tests.test_house import own_account, records
from tests.test_readme import blocks
from tests.trees import Client, Server, another_database, emptied, environment, flask, serving
from tests.types import EVERY, REGISTRY, SHIPPED, as_it_ships

pytestmark = [pytest.mark.real, pytest.mark.measured]

PEOPLE = ("mina", "suni")
NOTES = [
    {"id": "milk", "title": "Oat milk", "tags": ["shop"], "priority": 3, "notebook": "home", "readers": ["*"]},
    {"id": "bread", "title": "Bread", "body": "한글 🥖", "checklist": [{"text": "rye", "done": True}]},
    {"id": "place", "title": "A place", "place": {"type": "Point", "coordinates": [127.0, 37.5]}},
    {"id": "late", "title": "Late", "due": "2031-01-01T00:00:00.123Z", "priority": 5},
    {"id": "gone", "title": "Gone"},
]
QUESTIONS = [
    "/v1/accounts/me",
    "/v1/accounts/me/export",
    "/v1/notebooks",
    "/v1/notes?sort=title",
    "/v1/notes?sort=-priority,due&count=true",
    "/v1/notes?limit=2&sort=created_at",
    '/v1/notes?where={"tags": "shop"}',
    '/v1/notes?where={"checklist.done": true}&expand=notebook',
    '/v1/notes?where={"place": {"$near": {"coordinates": [127.0, 37.5], "max_distance": 1000}}}',
    "/v1/notes?search=bread",
    "/v1/notes/milk",
    "/v1/notes/gone",
    "/v1/notes/unknown",
]
KEY = {"Idempotency-Key": "k1"}


@pytest.fixture
def uris(mongodb_uri: str) -> list[str]:
    return [another_database(mongodb_uri, name) for name in ("source", "target")]


@pytest.fixture
def databases(uris: list[str]) -> Iterator[list[Any]]:
    with emptied(uris[0]) as source, emptied(uris[1]) as target:
        yield [source, target]


def live(server: Server) -> None:
    """Have people use the service."""
    for name in PEOPLE:
        server.sign_up(name)
    server.send("PUT", "/v1/notebooks/home", {"title": "Home"})
    for note in NOTES:
        assert server.send("PUT", f"/v1/notes/{note['id']}", note).status_code == 201
    server.send("DELETE", "/v1/notes/gone")
    assert server.send("POST", "/v1/notes", {"id": "once", "title": "Once"}, **KEY).status_code == 201


def said(server: Server, question: str) -> tuple[int, Any]:
    answer = server.send("GET", question)
    body = answer.json()
    return answer.status_code, {**body, "request_id": ""} if "request_id" in body else body


def walked(server: Server) -> list[tuple[str, str, int]]:
    """What the walks of the acceptance test meet on a server."""
    client: Any = Client(server)
    own_account(client)
    records("notes")(client)
    return client.seen  # type: ignore[no-any-return]


def test_a_restored_service_answers_as_the_first(uris: list[str], databases: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "backup"
    with serving(uris[0], tmp_path, ROOT) as (source,):
        live(source)
        token = source.session.headers["Authorization"]
        flask(ROOT, uris[0], "backup", str(file))
        output = flask(ROOT, uris[1], "restore", str(file))
        assert "everybody has to log in again" in output
        with serving(uris[1], tmp_path, ROOT) as (target,):
            assert "!!" not in target.said
            assert target.send("GET", "/v1/notes", Authorization=str(token)).status_code == 401
            for name in PEOPLE:
                source.log_in(name)
                target.log_in(name)
                for question in QUESTIONS:
                    assert said(target, question) == said(source, question), question
            again = target.send("POST", "/v1/notes", {"id": "once", "title": "Once"}, **KEY)
            assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
            assert target.send("POST", "/v1/notes", {"id": "gone", "title": "t"}).status_code == 409
            walk = walked(source)
            assert len(walk) > 40
            assert walked(target) == walk
    assert flask(ROOT, uris[1], "indexes", "show") == "the indexes are as declared\n"


OF_THE_MOMENT = {
    "authorization_codes",
    *("sessions", "changes", "corrections", "push_receipts", "awaited_references", "tickets"),
    *("one_time_codes", "invitations", "outbox", "challenges", "set_aside"),
    *("measurements", "slow_lists", "deleted_contents"),
}
"""Collections that a restore leaves empty."""


UNUSED = {"spent_tokens", "admin_actions", "webhooks", "webhook_matches"}
"""Collections that a restore brings back, and in which these tests have nothing."""


def test_every_document_is_back_but_sessions(uris: list[str], databases: list[Any], tmp_path: Path) -> None:
    source, target = databases
    with serving(uris[0], tmp_path, ROOT) as (server,):
        live(server)
    flask(ROOT, uris[0], "backup", str(tmp_path / "backup"))
    flask(ROOT, uris[1], "restore", str(tmp_path / "backup"))
    filled = {"accounts", "events", "kept_answers", "migrations", "notebooks", "notes"}
    names = {*filled, *EVERY, "blobs.files", "blobs.chunks"}
    for name in names:
        assert list(target[name].find(sort=[("_id", 1)])) == list(source[name].find(sort=[("_id", 1)]))
    assert all(source[name].find_one() for name in (*filled, "sessions"))
    assert set(target.list_collection_names()) == {*names, *UNUSED, *OF_THE_MOMENT}
    assert target["sessions"].find_one() is None


def test_the_file_is_its_owners_alone_and_nothing_else_is_left(
    uris: list[str], databases: list[Any], tmp_path: Path
) -> None:
    flask(ROOT, uris[0], "backup", str(tmp_path / "backup"))
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600


def test_an_empty_database_has_a_backup_too(uris: list[str], databases: list[Any], tmp_path: Path) -> None:
    flask(ROOT, uris[0], "backup", str(tmp_path / "backup"))
    assert flask(ROOT, uris[1], "restore", str(tmp_path / "backup")).startswith("0 documents restored")
    assert flask(ROOT, uris[1], "indexes", "show") == "the indexes are as declared\n"


# One moment


def contents(file: Path) -> dict[str, list[dict[str, Any]]]:
    """The documents of a backup by collection."""
    found: dict[str, list[dict[str, Any]]] = {}
    with file.open("rb") as opened:
        archive.verify(opened)
        for block in archive.blocks(opened):
            if "documents" in block:
                found.setdefault(block["collection"], []).extend(decode_all(block["documents"]))
    return found


def test_a_backup_beside_writers_is_of_one_moment(uris: list[str], databases: list[Any], tmp_path: Path) -> None:
    """Writers move a coin between two records of two collections, and put down how often; the sum never changes."""
    source = databases[0]
    source["notebooks"].insert_one({"_id": "purse", "coins": 1000})
    source["notes"].insert_many([{"_id": f"a{number:05}", "body": "x" * 500} for number in range(20000)])
    source["notes"].insert_many([{"_id": f"purse{number}", "coins": 0} for number in range(2)])
    ended = threading.Event()
    moved = [0, 0]

    def move(writer: int) -> None:
        with MongoClient(uris[0]) as client:
            database = client[source.name]
            while not ended.is_set():
                with client.start_session() as session:
                    session.with_transaction(
                        lambda session: [
                            database["notebooks"].update_one(
                                {"_id": "purse"}, {"$inc": {"coins": -1}}, session=session
                            ),
                            database["notes"].update_one(
                                {"_id": f"purse{writer}"}, {"$inc": {"coins": 1}}, session=session
                            ),
                        ],
                        write_concern=WriteConcern("majority"),
                    )
                moved[writer] += 1

    writers = [threading.Thread(target=move, args=[number]) for number in range(2)]
    for writer in writers:
        writer.start()
    seen = []
    try:
        for number in range(5):
            before = sum(moved)
            flask(ROOT, uris[0], "backup", str(tmp_path / f"backup{number}"))
            seen.append((before, sum(moved)))
    finally:
        ended.set()
        for writer in writers:
            writer.join()
    for number, (before, after) in enumerate(seen):
        assert after > before
        found = contents(tmp_path / f"backup{number}")
        coins = [row["coins"] for name in ("notebooks", "notes") for row in found[name] if "coins" in row]
        assert len(found["notes"]) == 20002
        assert sum(coins) == 1000
        # What was acknowledged before the backup began is in it.
        assert before <= 1000 - found["notebooks"][0]["coins"] <= after + 2
    flask(ROOT, uris[1], "restore", str(tmp_path / "backup4"))
    assert databases[1]["notes"].count_documents({}) == 20002


def test_a_service_that_is_backed_up_goes_on(uris: list[str], databases: list[Any], tmp_path: Path) -> None:
    with serving(uris[0], tmp_path, ROOT) as (server,):
        live(server)
        databases[0]["notes"].insert_many([{"_id": f"a{number:05}", "body": "x" * 500} for number in range(20000)])
        ended = threading.Event()
        statuses: list[int] = []

        def write() -> None:
            while not ended.is_set():
                statuses.append(server.send("POST", "/v1/notes", {"title": "meanwhile"}).status_code)

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(0.2)
        flask(ROOT, uris[0], "backup", str(tmp_path / "backup"))
        ended.set()
        writer.join()
    assert len(statuses) > 10
    assert set(statuses) == {201}


# docs/backup.md


PAGE = ROOT / "docs" / "backup.md"


def typed(script: str, uri: str, target: str, folder: Path) -> str:
    """What a block of the page says when it is typed into a shell."""
    env = {**environment(uri, folder), "TARGET": target, "PYTHONPATH": str(ROOT)}
    words = ["sh", "-ec", script.replace(". .venv/bin/activate\n", "")]
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@as_it_ships
def test_the_commands_of_the_page_say_what_it_shows(uris: list[str], databases: list[Any], tmp_path: Path) -> None:
    with serving(uris[0], tmp_path, ROOT) as (server,):
        server.sign_up("mina")
    (tmp_path / "files").mkdir()
    found = [block for block in blocks(PAGE) if block.info in ("sh", "text")]
    assert [block.info for block in found] == ["sh", "text", "sh", "text", "sh"]
    for order, shown in zip(found[::2], [*(block.text for block in found[1::2]), None], strict=True):
        output = typed(order.text, uris[0], uris[1], tmp_path / "files")
        assert shown is None or output == shown
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [f"madang-{date.today()}", "madang-monday"]


def test_what_the_page_says_is_in_a_backup_is_in_it(uris: list[str], databases: list[Any]) -> None:
    inside, outside = (
        PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
        for heading in ("What is in it", "What is not in it")
    )
    records = {document._meta["collection"] for document in SHIPPED}
    assert set(
        re.findall(r"`([\w.]+)`", "".join(line.split("|")[1] for line in inside.splitlines() if "|" in line))
    ) == (set(versions(REGISTRY)) - records)
    assert "| `sessions` |" in outside


def test_a_backup_can_be_read_without_the_service(uris: list[str], databases: list[Any], tmp_path: Path) -> None:
    databases[0]["notes"].insert_one({"_id": "x", "title": "precious"})
    flask(ROOT, uris[0], "backup", str(tmp_path / "file"))
    (command,) = re.findall(r"`(tail [^`]+)`", (ROOT / "docs/decisions/0015-backup.md").read_text())
    done = subprocess.run(
        ["sh", "-c", command.replace("FILE", str(tmp_path / "file"))], capture_output=True, check=False
    )
    assert b"precious" in done.stdout


def test_the_page_names_the_errors_of_mongodb(uris: list[str]) -> None:
    assert all("minSnapshotHistoryWindowInSeconds" in text for text in (PAGE.read_text(), TROUBLES[239]))
