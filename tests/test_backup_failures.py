"""What a backup and a restore meet that goes wrong: one sentence, an exit code, and nothing half done."""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from pymongo import MongoClient

from service.core.clock import now
from service.documents import Account, Webhook
from service.mongo.raw import Raw
from service.serve import mongod
from service.upkeep import archive
from service.upkeep import backup as backups
from service.upkeep.archive import BackupError
from service.upkeep.backup import CLAIM, PREFIX, versions
from service.upkeep.past import PAST_PARAMETER
from tests.client import Person
from tests.conftest import ROOT
from tests.test_archive import HEADER, NOTE, block, whole
from tests.test_past import seconds_of_the_past
from tests.test_readme import Block
from tests.test_run import refused
from tests.trees import another_database, emptied, flask, start, version
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = pytest.mark.measured

NOTES = 20000


def fill(database: Any) -> None:
    database["accounts"].insert_one({"_id": "a", "username_key": "a"})
    database["notes"].insert_many([{"_id": f"a{number:05}", "body": os.urandom(250).hex()} for number in range(NOTES)])


@pytest.fixture
def target(mongodb_uri: str) -> str:
    return another_database(mongodb_uri, "target")


@pytest.fixture
def database(target: str) -> Iterator[Any]:
    """An empty database to restore into."""
    with emptied(target) as found:
        yield found


@pytest.fixture(scope="module")
def source(mongodb_uri: str) -> Iterator[str]:
    uri = another_database(mongodb_uri, "source")
    with emptied(uri) as found:
        fill(found)
        yield uri


@pytest.fixture(scope="module")
def backup(source: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("backup") / "backup"
    flask(ROOT, source, "backup", str(file))
    return file


def error(output: str) -> str:
    """The one sentence at the end of what a command says."""
    assert output.count("Error: ") == 1, output
    return output.splitlines()[-1].removeprefix("Error: ")


def holds(database: Any) -> dict[str, int]:
    """The collections that have documents, with their number."""
    names = [name for name in database.list_collection_names() if not name.startswith("system.")]
    return {name: number for name in names if (number := database[name].count_documents({}))}


# The file


@pytest.mark.real
@pytest.mark.parametrize(
    "harm", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[: len(data) // 2]]
)
def test_a_damaged_backup_is_refused_before_anything_is_stored(
    backup: Path, target: str, database: Any, tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "harmed").write_bytes(harm(backup.read_bytes()))
    said = error(flask(ROOT, target, "restore", str(tmp_path / "harmed"), code=1))
    assert said == "the backup is damaged: it is not whole, or was changed after it was made"
    assert database.list_collection_names() == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ([], "it does not say what is in it"),
        ([block(NOTE)], "it does not say what is in it"),
        ([HEADER, block(NOTE)], "it has no end"),
        ([HEADER, block(NOTE), {"counts": {"notes": 2}}], "does not hold as many documents as it says"),
        ([HEADER, block(NOTE, NOTE), {"counts": {"notes": 2}}], "duplicate key"),
        ([{"made_at": now(), "versions": {"notes": 9}}], "its notes have version 9, this one knows 1"),
        (
            [{"made_at": now(), "versions": {"no_such_type": 1}}],
            "holds no_such_type, which this service has no document for",
        ),
    ],
)
def test_a_backup_that_does_not_fit_leaves_nothing(
    target: str, database: Any, tmp_path: Path, blocks: list[Any], reason: str
) -> None:
    file = whole(tmp_path, *blocks)
    assert reason in error(flask(ROOT, target, "restore", str(file), code=1))
    assert database.list_collection_names() == []


@pytest.mark.real
def test_documents_that_break_an_index_leave_nothing(target: str, database: Any, tmp_path: Path) -> None:
    for name in "ab":
        database["accounts"].insert_one({"_id": name, "username_key": "same"})
    flask(ROOT, target, "backup", str(tmp_path / "file"))
    database["accounts"].drop()
    assert "duplicate key" in error(flask(ROOT, target, "restore", str(tmp_path / "file"), code=1))
    assert database.list_collection_names() == []


# The place


@pytest.mark.real
def test_a_file_that_is_there_is_never_written_over(source: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    assert "is there already" in error(flask(ROOT, source, "backup", str(tmp_path / "file"), code=1))
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.real
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_folder_that_is_not_there_is_told(source: str, target: str, database: Any, command: str) -> None:
    uri = source if command == "backup" else target
    assert "No such file or directory" in error(flask(ROOT, uri, command, "/tmp/none-such/file", code=1))


def powerless() -> None:
    """Let the rights of files hold for root as well: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability)


@pytest.mark.real
def test_a_file_that_may_not_be_written_or_read_is_told(
    source: str, target: str, database: Any, backup: Path, tmp_path: Path
) -> None:
    folder, closed = tmp_path / "folder", tmp_path / "closed"
    folder.mkdir(mode=0o500)
    said = flask(ROOT, source, "backup", str(folder / "file"), code=1, preexec_fn=powerless)
    assert "Permission denied" in error(said)
    assert list(folder.iterdir()) == []
    shutil.copy(backup, closed)
    closed.chmod(0)
    assert "Permission denied" in error(flask(ROOT, target, "restore", str(closed), code=1, preexec_fn=powerless))


@pytest.mark.real
def test_a_full_disk_is_told_and_leaves_no_file(source: str, tmp_path: Path) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    said = error(flask(ROOT, source, "backup", str(tmp_path / "file"), code=1, preexec_fn=limited))
    assert said.endswith("File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
def test_a_disk_without_room_is_told_and_leaves_no_file(source: str, tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("no mounts here")
    try:
        said = error(flask(ROOT, source, "backup", str(tmp_path / "file"), code=1))
        assert said.endswith("No space left on device")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.real
@pytest.mark.parametrize("name", ["notes", "sessions", "something_else"])
def test_a_database_with_any_document_is_refused(backup: Path, target: str, database: Any, name: str) -> None:
    database[name].insert_one({"_id": "x"})
    said = error(flask(ROOT, target, "restore", str(backup), code=1))
    assert said == f"the database is not empty: it has {name}; restore into an empty one"
    assert holds(database) == {name: 1}


# Cut short, and two at once


@pytest.mark.real
def test_a_backup_that_is_killed_leaves_no_file_of_that_name(source: str, tmp_path: Path) -> None:
    process = start(ROOT, source, "backup", str(tmp_path / "file"))
    assert until(lambda: any(path.stat().st_size > 100_000 for path in tmp_path.glob("*.partial")))
    process.kill()
    process.communicate()
    assert not (tmp_path / "file").exists()
    flask(ROOT, source, "backup", str(tmp_path / "file"))
    assert (tmp_path / "file").exists()


@pytest.mark.real
def test_a_restore_that_is_killed_leaves_an_empty_service(backup: Path, target: str, database: Any) -> None:
    process = start(ROOT, target, "restore", str(backup))
    assert until(lambda: any(name.startswith(PREFIX) for name in database.list_collection_names()))
    process.kill()
    process.communicate()
    assert {name for name in holds(database) if not name.startswith(PREFIX)} == set()
    flask(ROOT, target, "restore", str(backup))
    assert holds(database) == {"accounts": 1, "notes": NOTES}
    assert not [name for name in database.list_collection_names() if name.startswith(PREFIX)]


DYING = Block(
    "",
    "diff service/upkeep/backup.py",
    "             stored()[waiting].rename(name, dropTarget=True)\n+            __import__('os').kill(0, 9)\n",
)


@pytest.mark.real
def test_a_restore_that_is_killed_at_the_worst_moment_is_taken_back(
    backup: Path, target: str, database: Any, tmp_path: Path
) -> None:
    tree = version(tmp_path / "dying", [DYING])
    process = start(tree, target, "restore", str(backup), start_new_session=True)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    code, message = refused(tmp_path, MONGODB_URI=target)
    assert (code, "a restore was cut short" in message) == (2, True)
    assert "try in a minute" in error(flask(ROOT, target, "restore", str(backup), code=1))
    database[CLAIM].update_one({}, {"$set": {"at": now() - timedelta(minutes=2)}})
    flask(ROOT, target, "restore", str(backup))
    assert holds(database) == {"accounts": 1, "notes": NOTES}


@pytest.mark.real
def test_a_restore_that_is_interrupted_clears_up(backup: Path, tmp_path: Path) -> None:
    # A shell lets what it runs in the background ignore the signal, and that is inherited.
    hears = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    with (
        mongod.LocalServer.start(tmp_path / "mongodb") as server,
        MongoClient(server.uri, serverSelectionTimeoutMS=2000) as client,
    ):
        database = client.get_default_database()
        # It takes the documents of a write one by one, and goes on with them whoever still waits for the answer.
        client.admin.command({"setParameter": 1, "internalInsertMaxBatchSize": 1})
        process = start(ROOT, server.uri, "restore", str(backup), preexec_fn=hears)
        assert until(lambda: any(name.startswith(PREFIX) for name in database.list_collection_names()))
        process.send_signal(signal.SIGINT)
        output = "".join(process.communicate(timeout=60))
        assert (process.returncode, "Traceback" in output) == (1, False)
        assert database.list_collection_names() == []


@pytest.mark.real
def test_of_two_restores_at_once_one_wins(backup: Path, target: str, database: Any) -> None:
    both = [start(ROOT, target, "restore", str(backup)) for _ in range(2)]
    said = ["".join(process.communicate(timeout=120)) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert not any("Traceback" in text for text in said)
    assert holds(database) == {"accounts": 1, "notes": NOTES}
    assert flask(ROOT, target, "indexes", "show") == "the indexes are as declared\n"


@pytest.mark.real
def test_two_backups_at_once_are_both_whole(source: str, backup: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one", tmp_path / "two"]
    both = [start(ROOT, source, "backup", str(file)) for file in files]
    for process in both:
        process.communicate(timeout=60)
    first, *others = [read(file) for file in (backup, *files)]
    assert others == [first] * 2


@pytest.mark.real
def test_while_one_restore_gives_collections_their_names_no_other_does(app: Flask) -> None:
    claims = backups.stored()[CLAIM]
    claims.insert_one({"_id": CLAIM, "run": "other", "names": [], "at": now()})
    with pytest.raises(BackupError, match="another restore into this database is about to end"):
        backups.publish("mine", [])
    assert claims.find_one({})["run"] == "other"
    claims.drop()


@pytest.mark.real
def test_a_restore_that_finds_documents_at_its_end_gives_nothing_its_name(ada: Person) -> None:
    waiting = backups.stored()[f"{PREFIX}mine.notes"]
    waiting.insert_one({"_id": "x"})
    with pytest.raises(BackupError, match="the database is not empty"):
        backups.publish("mine", ["notes"])
    assert not backups.is_unfinished()
    assert ada.get("/v1/notes").json["items"] == []
    waiting.drop()


def read(file: Path) -> list[dict[str, Any]]:
    """The blocks of a backup but its header."""
    with file.open("rb") as opened:
        archive.verify(opened)
        return list(archive.blocks(opened))[1:]


# MongoDB


@pytest.mark.real
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_mongodb_that_goes_away_is_told_and_nothing_is_half_done(backup: Path, tmp_path: Path, command: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    file = backup if command == "restore" else folder / "file"
    with (
        mongod.LocalServer.start(tmp_path / "mongodb") as server,
        MongoClient(server.uri, serverSelectionTimeoutMS=2000) as client,
    ):
        database = client.get_default_database()
        if command == "backup":
            fill(database)
        process = start(ROOT, server.uri, command, str(file), settings={"MONGODB_CONNECT_TIMEOUT": "0.5"})
        assert until(lambda: list(folder.iterdir()) or database.list_collection_names(session=None))
        if command == "restore":
            assert until(lambda: any(name.startswith(PREFIX) for name in database.list_collection_names()))
        os.kill(server.pid, signal.SIGKILL)
        output = "".join(process.communicate(timeout=90))
    assert process.returncode == 1, output
    assert error(output).startswith("MongoDB does not answer: ")
    assert list(folder.iterdir()) == []
    with (
        mongod.LocalServer.start(tmp_path / "mongodb") as server,
        MongoClient(server.uri, serverSelectionTimeoutMS=2000) as client,
    ):
        database = client.get_default_database()
        if command == "restore":
            assert {name for name in holds(database) if not name.startswith(PREFIX)} == set()
        flask(ROOT, server.uri, command, str(file))
        assert holds(database) == {"accounts": 1, "notes": NOTES}


@contextmanager
def backup_that_stands(tmp_path: Path, seconds: float) -> Iterator[tuple[Any, Callable[[], tuple[int, str]]]]:
    """Yield a client of a MongoDB in which a backup stands still, and what ends it some seconds later.

    That returns the exit code and what the backup said. Others write meanwhile, or MongoDB would forget nothing.
    """
    with (
        mongod.LocalServer.start(tmp_path / "mongodb") as server,
        MongoClient[Raw](server.uri, serverSelectionTimeoutMS=2000) as client,
    ):
        fill(client.get_default_database())
        files = tmp_path / "files"
        files.mkdir()
        process = start(ROOT, server.uri, "backup", str(files / "file"))
        assert until(lambda: any(path.stat().st_size for path in files.glob("*.partial")))
        process.send_signal(signal.SIGSTOP)

        def ended() -> tuple[int, str]:
            until_then = time.monotonic() + seconds
            while time.monotonic() < until_then:
                client["other"]["things"].update_many({}, {"$inc": {"n": 1}})
                client["other"]["things"].insert_one({})
                time.sleep(0.01)
            process.send_signal(signal.SIGCONT)
            output = "".join(process.communicate(timeout=60))
            return process.returncode, output

        yield client, ended


@pytest.mark.real
def test_a_backup_that_takes_longer_than_mongodb_keeps_the_past_says_what_to_do(tmp_path: Path) -> None:
    with backup_that_stands(tmp_path, 8) as (client, ended):
        client.admin.command({"setParameter": 1, PAST_PARAMETER: 1})
        code, output = ended()
    assert code == 1
    assert "raise minSnapshotHistoryWindowInSeconds (300 by default): docs/backup.md" in error(output)
    assert list((tmp_path / "files").iterdir()) == []


@pytest.mark.real
def test_a_backup_has_the_past_kept_where_mongodb_keeps_less_than_usual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongod, "PAST_SECONDS", 1)
    with backup_that_stands(tmp_path, 8) as (client, ended):
        assert ended()[0] == 0
        assert seconds_of_the_past(client) == 1
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["file"]


@pytest.mark.real
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_mongodb_that_does_not_let_us_in_is_told(source: str, backup: Path, tmp_path: Path, command: str) -> None:
    file = backup if command == "restore" else tmp_path / "file"
    said = flask(ROOT, source.replace("://", "://nobody:wrong@"), command, str(file), code=1)
    assert error(said).startswith("MongoDB refuses: Authentication failed.")


def test_a_backup_names_all_collections_but_sessions() -> None:
    assert list(versions(REGISTRY))[-1] == "accounts"
    assert "sessions" not in versions(REGISTRY)
    assert {name: version for name, version in versions(REGISTRY).items() if version} == {
        **{name: type.document._meta["version"] for name, type in REGISTRY.items()},
        "accounts": Account._meta["version"],
        "webhooks": Webhook._meta["version"],
    }
    assert re.fullmatch(r"[a-z.]+", PREFIX)
