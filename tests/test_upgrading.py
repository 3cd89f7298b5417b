"""docs/upgrading.md does what it says, and the old and the new version of its example do no harm side by side."""

import os
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.core.clock import now
from service.documents import Event, KeptAnswer, Session
from service.documents.event import KEPT_FOR
from service.documents.versioned import Versioned
from service.records import kept_answers
from settings.base import Base
from tests.conftest import ROOT
from tests.test_readme import Block, blocks
from tests.trees import Server, another_database, emptied, environment, flask, serving, version

pytestmark = pytest.mark.real

PAGE = ROOT / "docs" / "upgrading.md"
CHANGES = [block for block in blocks(PAGE) if block.info.startswith("diff ")]
EXPAND = [block for block in CHANGES if "contract" not in block.info]
HIDDEN = ("schema_version", "oldest_writer")


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The service as it is, and as versions 2 and 3 of the page make it."""
    return [
        version(tmp_path_factory.mktemp(name), changes)
        for name, changes in (("one", []), ("two", EXPAND), ("three", CHANGES))
    ]


@pytest.fixture
def uri(mongodb_uri: str) -> str:
    return another_database(mongodb_uri, "upgrading")


@pytest.fixture
def database(uri: str) -> Iterator[Any]:
    with emptied(uri) as found:
        yield found


@pytest.fixture
def sides(trees: list[Path], uri: str, database: Any, tmp_path: Path) -> Iterator[list[Server]]:
    """A server of version 1 and one of version 2 on one database, ada signed in on both."""
    with serving(uri, tmp_path, *trees[:2]) as (old, new):
        old.sign_up("ada")
        new.log_in("ada")
        yield [old, new]


def migrate(trees: list[Path], uri: str, number: int = 2) -> str:
    return flask(trees[number - 1], uri, "migrate", "run", "--rest", "0")


def stored(database: Any, id: str) -> dict[str, Any]:
    return database["notes"].find_one({"_id": id})


# The page


def commands(after: str) -> list[Block]:
    page = list(blocks(PAGE))
    return [block for block in page if block.info in ("sh", "text") and block.heading == after]


def test_the_commands_of_the_page_say_what_it_shows(trees: list[Path], uri: str, database: Any, tmp_path: Path) -> None:
    with serving(uri, tmp_path, trees[0]) as (old,):
        old.sign_up("ada")
        old.send("POST", "/v1/notes", {"id": "a", "title": "a", "pinned": True})
        old.send("POST", "/v1/notes", {"id": "b", "title": "b"})
    with serving(uri, tmp_path, trees[1]) as (new,):
        assert "1 open migration(s)" in new.said
        found = commands("A migration of your own")
        assert [block.info for block in found] == ["sh", "text"] * 2
        for typed, shown in zip(found[::2], found[1::2], strict=True):
            script = typed.text.replace(". .venv/bin/activate\n", "")
            done = subprocess.run(
                ["sh", "-ec", script], cwd=trees[1], env=environment(uri, tmp_path), capture_output=True, text=True
            )
            assert (done.returncode, done.stdout) == (0, shown.text), done.stderr
        new.log_in("ada")
        answer = new.send("GET", '/v1/notes?where={"importance": "high"}').json()
        assert [note["id"] for note in answer["items"]] == ["a"]


def test_the_code_of_the_page_is_in_good_form(trees: list[Path]) -> None:
    for tree in trees:
        for words in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
            command = ["ruff", *words, "--config", str(ROOT / "pyproject.toml"), "service"]
            env = {**os.environ, **environment("", tree)}
            done = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout


def test_every_command_and_option_of_the_page_is_there(trees: list[Path], uri: str) -> None:
    text = PAGE.read_text()
    help_texts = "".join(flask(trees[0], uri, *words, "--help") for words in (["migrate"], ["migrate", "run"], []))
    for name in re.findall(r"(--[a-z]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        assert name in help_texts
    for group, word in re.findall(r"`flask (migrate|indexes|backup) ?([a-z]*)", text):
        assert word in flask(trees[0], uri, group, "--help")


def test_the_page_tells_how_long_documents_without_a_version_live() -> None:
    for document in (KeptAnswer, Session, Event):
        assert not issubclass(document, Versioned)
    session = timedelta(seconds=Base.JWT_REFRESH_EXPIRATION_DELTA)
    assert [life.days for life in (session, KEPT_FOR, kept_answers.KEPT_FOR)] == [30, 90, 1]
    assert "they live for 30 days, 90 days and a day at most" in PAGE.read_text()


# Side by side


def test_the_old_server_keeps_what_it_does_not_know(sides: list[Server], database: Any) -> None:
    old, new = sides
    for name, method, body in (
        ("patched", "PATCH", {"title": "b"}),
        ("computed", "PATCH", {"checklist": [{"text": "x"}], "$push": {"tags": "t"}}),
        ("put", "PUT", {"title": "b"}),
        ("shared", "PATCH", {"readers": ["*"]}),
        ("put-and-shared", "PUT", {"title": "b", "readers": ["*"]}),
    ):
        assert new.send("POST", "/v1/notes", {"id": name, "title": "a", "importance": "high"}).status_code == 201
        assert "importance" not in old.send("GET", f"/v1/notes/{name}").json()
        assert old.send(method, f"/v1/notes/{name}", body).status_code == 200
        read = new.send("GET", f"/v1/notes/{name}").json()
        assert (read["importance"], read["revision"]) == ("high", 2), name
        assert stored(database, name)["oldest_writer"] == 1


def test_the_old_server_deletes_what_it_does_not_know(sides: list[Server], database: Any) -> None:
    old, new = sides
    new.send("POST", "/v1/notes", {"id": "x", "title": "a", "importance": "high"})
    assert old.send("DELETE", "/v1/notes/x").status_code == 204
    assert "importance" not in stored(database, "x")
    assert new.send("GET", "/v1/notes/x").status_code == 404


def test_the_old_server_refuses_what_it_does_not_know(sides: list[Server]) -> None:
    old, _ = sides
    assert old.send("POST", "/v1/notes", {"title": "a", "importance": "high"}).status_code == 422


def test_a_notebook_that_the_old_server_deletes_leaves_its_notes_as_they_are(
    sides: list[Server], database: Any
) -> None:
    old, new = sides
    new.send("POST", "/v1/notebooks", {"id": "n", "title": "a"})
    new.send("POST", "/v1/notes", {"id": "x", "title": "a", "importance": "high", "notebook": "n"})
    assert old.send("DELETE", "/v1/notebooks/n").status_code == 204
    read = new.send("GET", "/v1/notes/x").json()
    assert (read["notebook"], read["importance"]) == (None, "high")
    assert stored(database, "x")["oldest_writer"] == 1


def test_the_new_server_reads_and_changes_what_the_old_one_made(sides: list[Server], database: Any) -> None:
    old, new = sides
    old.send("POST", "/v1/notes", {"id": "x", "title": "a", "pinned": True})
    database["notes"].update_one({"_id": "x"}, {"$unset": dict.fromkeys(HIDDEN, "")})  # of the time before versions
    assert new.send("GET", "/v1/notes/x").json()["importance"] == "normal"
    assert new.send("PATCH", "/v1/notes/x", {"title": "b"}).json()["title"] == "b"
    assert old.send("GET", "/v1/notes/x").json()["title"] == "b"


def test_what_an_old_server_touched_is_migrated_again(
    sides: list[Server], trees: list[Path], uri: str, database: Any
) -> None:
    old, new = sides
    old.send("POST", "/v1/notes", {"id": "x", "title": "a", "pinned": True})
    migrate(trees, uri)
    assert stored(database, "x")["importance"] == "high"
    old.send("PATCH", "/v1/notes/x", {"title": "b"})
    old.send("POST", "/v1/notes", {"id": "a", "title": "made after the walk, before its ids", "pinned": True})
    new.send("PATCH", "/v1/notes/x", {"title": "c"})
    assert (stored(database, "x")["schema_version"], stored(database, "x")["oldest_writer"]) == (2, 1)
    assert "notes: 2 looked at, 2 changed" in migrate(trees, uri)
    assert "notes: 2 looked at, 0 changed" in migrate(trees, uri)
    assert [note["importance"] for note in database["notes"].find()] == ["high", "high"]


def test_what_the_new_server_wrote_before_the_migration_stays(
    sides: list[Server], trees: list[Path], uri: str, database: Any
) -> None:
    old, new = sides
    old.send("POST", "/v1/notes", {"id": "x", "title": "a", "pinned": True})
    new.send("PATCH", "/v1/notes/x", {"importance": "low"})
    migrate(trees, uri)
    assert stored(database, "x")["importance"] == "low"
    assert stored(database, "x")["revision"] == 2


def test_the_fields_that_a_later_version_takes_away_are_gone_for_all(
    sides: list[Server], trees: list[Path], uri: str, database: Any
) -> None:
    old, new = sides
    old.send("POST", "/v1/notes", {"id": "x", "title": "a", "pinned": True})
    migrate(trees, uri, 3)
    assert stored(database, "x").keys() & {"pinned", "importance"} == {"importance"}
    assert new.send("GET", "/v1/notes/x").json()["pinned"] is False


def test_both_serve_all_through_a_migration(sides: list[Server], trees: list[Path], uri: str, database: Any) -> None:
    template = {"title": "t", "pinned": True, "owner": "o", "revision": 1, "access": ["o:o"], "schema_version": 1}
    database["notes"].insert_many([{**template, "_id": f"n{number:05}"} for number in range(3000)])
    for side in sides:
        assert side.send("POST", "/v1/notes", {"id": side.base[-5:], "title": "a"}).status_code == 201
    process = subprocess.Popen(
        ["flask", "migrate", "run"], cwd=trees[1], env=environment(uri, trees[1]), stderr=subprocess.DEVNULL
    )
    sent = 0
    while process.poll() is None:
        for side in sides:
            answer = side.send("PATCH", f"/v1/notes/{side.base[-5:]}", {"$inc": {"priority": 1}, "title": str(sent)})
            assert answer.status_code in (200, 422), answer.text
            side.send("PATCH", f"/v1/notes/{side.base[-5:]}", {"priority": 0})
        sent += 1
    assert process.returncode == 0
    assert sent > 0
    assert database["notes"].count_documents({"importance": "high", "schema_version": 2}) == 3000


# Versions that do not fit


def test_the_old_version_does_not_migrate_what_a_newer_one_has(
    sides: list[Server], trees: list[Path], uri: str
) -> None:
    migrate(trees, uri)
    said = flask(trees[0], uri, "migrate", "run", code=1)
    assert said.splitlines()[-1] == (
        "Error: notes were brought to version 2 by a newer service; this one knows version 1"
    )


def test_the_old_version_serves_what_a_newer_one_has_migrated_and_says_so(
    trees: list[Path], uri: str, database: Any, tmp_path: Path
) -> None:
    migrate(trees, uri)
    with serving(uri, tmp_path, trees[0]) as (old,):
        assert "a newer service has migrated notes" in old.said
        old.sign_up("ada")
        assert old.send("POST", "/v1/notes", {"title": "a"}).status_code == 201


def test_a_new_database_has_nothing_to_migrate(trees: list[Path], uri: str, database: Any, tmp_path: Path) -> None:
    with serving(uri, tmp_path, trees[1]) as (new,):
        assert "!!" not in new.said
    assert "open" not in flask(trees[1], uri, "migrate", "list")


def test_a_start_does_not_exchange_an_index_that_an_old_server_needs(
    trees: list[Path], uri: str, database: Any, tmp_path: Path
) -> None:
    database["notes"].create_index("owner", name="search_words")
    database["notes"].insert_one({"_id": "x"})
    database["migrations"].insert_one({"_id": "notes", "run": "r", "to_version": 1, "finished_at": now()})
    with serving(uri, tmp_path, trees[0]) as (server,):
        assert "`flask indexes make`, when no older service runs: different are search_words" in server.said
        assert database["notes"].index_information()["search_words"]["key"] == [("owner", 1)]
        assert "purge_at_1" in database["notes"].index_information()
    assert "1 made" in flask(trees[0], uri, "indexes", "make")
    assert database["notes"].index_information()["search_words"]["key"] == [("search_words.w", 1)]
