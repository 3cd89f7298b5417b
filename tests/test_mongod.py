"""The local MongoDB: it is found, keeps its data, is held by one process and never outlives it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from service.serve import mongod
from service.serve.failures import MongodError
from service.serve.mongod import DataInUse, LocalServer, MongodNotFound, running_uri
from service.serve.ports import free_port
from service.serve.replica_set import initiate
from tests.waiting import until

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent
CHILD = """
import signal, sys, time
from pathlib import Path
from service.serve.mongod import LocalServer
from service.serve.failures import MongodError
# A shell lets what it starts in the background ignore it, and all that is started by that.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with LocalServer.start(Path(sys.argv[1])) as server:
        print(server.pid, server.uri, flush=True)
        time.sleep(60)
except MongodError as error:
    print(type(error).__name__, error, flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with started(tmp_path_factory.mktemp("mongod")) as running:
        yield running


@contextmanager
def started(data: Path) -> Iterator[LocalServer]:
    running = LocalServer.start(data)
    try:
        yield running
    finally:
        running.stop(timeout=0)


@contextmanager
def plain_mongod(data: Path, *options: str) -> Iterator[tuple[int, int]]:
    """A mongod that no LocalServer started: its pid and port."""
    data.mkdir(exist_ok=True)
    port = free_port()
    words = ["--dbpath", str(data), *options, "--port", str(port), "--nounixsocket", "--quiet"]
    process = subprocess.Popen([mongod.find_mongod(), *words], stdout=subprocess.DEVNULL)
    try:
        until(lambda: listens(port))
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


@contextmanager
def child(data: Path) -> Iterator["subprocess.Popen[str]"]:
    words = [sys.executable, "-c", CHILD, str(data)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def occupied(port: int) -> Iterator[None]:
    """Another program at the port, which hangs up on everybody."""
    listener = socket.create_server(("127.0.0.1", port))

    def hang_up() -> None:
        with suppress(OSError):
            while True:
                listener.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def notes(uri: str) -> Iterator[Collection[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](uri, serverSelectionTimeoutMS=5000) as client:
        yield client.get_default_database()["notes"]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def gone(pid: int) -> bool:
    path = Path(f"/proc/{pid}/cmdline")
    return not path.exists() or not path.read_bytes()


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline()


def keep(uri: str, text: str) -> None:
    with notes(uri) as collection:
        collection.insert_one({"_id": text})


def kept(uri: str) -> list[str]:
    with notes(uri) as collection:
        return sorted(note["_id"] for note in collection.find())


# Finding a mongod


def test_a_mongod_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "mongod"
    own.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert mongod.find_mongod() == own


def test_without_one_on_path_the_package_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert mongod.find_mongod().parts[-3:] == ("db", "bin", "mongod")


def test_without_any_the_message_names_three_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(mongod, "PACKAGE", "not-installed")
    with pytest.raises(MongodNotFound, match=r"(?s)make serve.*brew install.*README\.md.*docker compose up.*--memory"):
        mongod.find_mongod()


def test_a_packaged_mongod_that_lost_its_executable_bit_gets_it_back(tmp_path: Path) -> None:
    plain = tmp_path / "mongod"
    plain.touch(mode=0o644)
    assert os.access(mongod._executable(plain), os.X_OK)


# A running server


def test_transactions_work(server: LocalServer) -> None:
    with notes(server.uri) as collection, collection.database.client.start_session() as session:
        with session.start_transaction():
            collection.insert_one({"_id": "committed"}, session=session)
        assert collection.find_one({"_id": "committed"})


def test_it_listens_on_loopback_only_and_leaves_no_socket_file(server: LocalServer) -> None:
    inode = re.compile(rf": 0100007F:{server.port:04X} 00000000:0000 0A ")
    assert inode.search(Path("/proc/net/tcp").read_text())
    assert not Path(f"/tmp/mongodb-{server.port}.sock").exists()


def test_its_uri_names_the_database(server: LocalServer) -> None:
    assert server.uri == f"mongodb://127.0.0.1:{server.port}/madang?replicaSet=madang"
    assert "/other?" in str(running_uri(server.data, "other"))


def test_running_uri_is_the_uri_of_the_live_server(server: LocalServer, tmp_path: Path) -> None:
    assert running_uri(server.data) == server.uri
    assert running_uri(tmp_path) is None


def test_a_second_start_says_who_holds_the_data_and_what_to_do(server: LocalServer) -> None:
    with pytest.raises(DataInUse) as refused:
        LocalServer.start(server.data)
    for word in (f"process {os.getpid()}", f"process {server.pid}", f"kill {os.getpid()}"):
        assert word in str(refused.value)
    assert f"SERVICE_MONGODB_URI='{server.uri}'" in str(refused.value)


def test_a_forked_worker_neither_stops_the_server_nor_keeps_its_lock(server: LocalServer) -> None:
    worker = os.fork()
    if not worker:
        server.stop()
        os._exit(0 if server._lock is None else 1)
    assert os.waitpid(worker, 0)[1] == 0
    assert running_uri(server.data) == server.uri


def test_it_starts_only_from_the_main_thread(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool, pytest.raises(MongodError, match="main thread"):
        pool.submit(LocalServer.start, tmp_path).result()


# Stop and start again


def test_data_port_and_one_old_log_survive_a_restart(tmp_path: Path) -> None:
    with LocalServer.start(tmp_path) as first:
        keep(first.uri, "kept")
    first.stop()
    assert running_uri(tmp_path) is None
    with started(tmp_path) as second:
        assert (second.port, kept(second.uri)) == (first.port, ["kept"])
    assert sorted(path.name for path in tmp_path.glob("mongod.log*")) == ["mongod.log", "mongod.log.1"]
    with pytest.raises(MongodError, match="is stopped"):
        _ = second.pid


def test_a_taken_port_is_left_for_another_one(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        keep(first.uri, "kept")
    with occupied(first.port), started(tmp_path) as second:
        assert second.port != first.port
        assert kept(second.uri) == ["kept"]


def test_a_mongod_that_does_not_obey_is_killed_and_the_data_stay_good(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        keep(first.uri, "kept")
        os.kill(first.pid, signal.SIGSTOP)
        pid = first.pid
        first.stop(timeout=0.1)
    assert gone(pid)
    with started(tmp_path) as second:
        assert kept(second.uri) == ["kept"]


@pytest.mark.parametrize("state", ["{", f'{{"port": 0, "holder": 1, "started": "", "pid": {os.getpid()}}}'])
def test_a_stale_state_file_is_no_obstacle(tmp_path: Path, state: str) -> None:
    (tmp_path / "madang.json").write_text(state)
    (tmp_path / "mongod.lock").write_text(str(os.getpid()))
    assert running_uri(tmp_path) is None
    with started(tmp_path) as again:
        assert running_uri(tmp_path) == again.uri


def test_bad_data_is_told_with_the_lines_that_matter(tmp_path: Path) -> None:
    for name in ("WiredTiger", "WiredTiger.wt", "WiredTiger.turtle"):
        (tmp_path / name).write_text("junk")
    with pytest.raises(MongodError, match=r"(?s)turtle file read error.*mongod\.log"):
        LocalServer.start(tmp_path)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(log: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mongod, "_fresh_log", full)
    with pytest.raises(MongodError, match="No space left"):
        LocalServer.start(tmp_path)
    monkeypatch.setattr(mongod, "LITTLE_SPACE", 2**60)
    (tmp_path / "mongod.log").touch()
    assert "nearly full" in str(mongod._failed(tmp_path, 14))


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MongodError, match="cannot be made"):
        LocalServer.start(tmp_path / "file" / "data")


def test_a_port_that_is_taken_at_the_last_moment_is_given_up(
    tmp_path: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = iter([server.port, free_port()])
    monkeypatch.setattr(mongod, "free_port", lambda: next(ports))
    with started(tmp_path) as other:
        assert other.port != server.port
        assert running_uri(server.data) == server.uri


# Two at once, crashes, orphans


def test_a_holder_whose_mongod_died_is_named(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: gone(server.pid))
        with pytest.raises(DataInUse, match=f"process {os.getpid()} .*does not run"):
            LocalServer.start(tmp_path)
    with started(tmp_path) as again:
        assert running_uri(tmp_path) == again.uri


def test_of_two_starts_at_once_one_wins_and_the_other_says_so(tmp_path: Path) -> None:
    with child(tmp_path) as one, child(tmp_path) as other:
        lines = [first_line(one), first_line(other)]
        loser = next(line for line in lines if line.startswith("DataInUse"))
        winner = one if loser == lines[1] else other
        assert f"in use by process {winner.pid} " in loser
        assert sum("mongodb://" in line for line in lines if line != loser) == 1


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_mongod_outlives_the_process_that_started_it(tmp_path: Path, sign: signal.Signals) -> None:
    with child(tmp_path) as process:
        pid = int(first_line(process).split()[0])
        process.send_signal(sign)
        process.wait(10)
        assert until(lambda: gone(pid))


def test_a_start_right_after_a_crash_finds_all_data(tmp_path: Path) -> None:
    with child(tmp_path) as process:
        pid, uri = first_line(process).split()
        keep(uri, "kept")
        process.kill()
        process.wait()
    with started(tmp_path) as again:
        assert gone(int(pid))
        assert kept(again.uri) == ["kept"]


def test_a_mongod_that_was_left_behind_is_ended_first(tmp_path: Path) -> None:
    with plain_mongod(tmp_path, "--replSet", mongod.REPLICA_SET) as (pid, _), started(tmp_path) as server:
        assert gone(pid)
        assert server.pid != pid


# A replica set of one for any mongod


def test_initiate_may_be_called_twice_at_once_and_again(tmp_path: Path) -> None:
    with plain_mongod(tmp_path, "--replSet", "rs0") as (pid, port):
        uri = f"mongodb://localhost:{port}/app?replicaSet=rs0"
        with ThreadPoolExecutor() as pool:
            assert list(pool.map(initiate, [uri, uri])) == [None, None]
        initiate(uri)
        keep(uri, "written")
        with pytest.raises(MongodError, match="belongs to the replica set 'rs0'"):
            initiate(uri.replace("rs0", "rs1"))
        with pytest.raises(DataInUse, match=f"did not start.*{pid}"):
            LocalServer.start(tmp_path)


def test_initiate_refuses_a_mongod_that_is_no_member_of_a_set(tmp_path: Path) -> None:
    with plain_mongod(tmp_path) as (_, port), pytest.raises(MongodError, match="without --replSet"):
        initiate(f"mongodb://127.0.0.1:{port}/?replicaSet=rs0")


def test_initiate_gives_up_in_time() -> None:
    with pytest.raises(MongodError, match="no primary"):
        initiate("mongodb://127.0.0.1:9/?replicaSet=rs0", timeout=0.1)


@pytest.mark.parametrize("uri", ["mongodb://one:1,two:2/?replicaSet=rs0", "mongodb://one:1/"])
def test_initiate_refuses_a_uri_that_cannot_mean_a_set_of_one(uri: str) -> None:
    with pytest.raises(MongodError, match=r"one host|name the replica set"):
        initiate(uri)


def test_mongodb_chooses_its_cache_where_none_is_named() -> None:
    assert "--wiredTigerCacheSizeGB" not in mongod.options(Path("data"), None, 256)
    assert "0.25" in mongod.options(Path("data"), 0.25, 256)


def test_a_mongod_of_our_own_keeps_little_of_what_was_and_writes_out_late(tmp_path: Path) -> None:
    with started(tmp_path) as server, MongoClient[dict[str, Any]](server.uri) as client:
        told = client.admin.command({"getParameter": 1, "minSnapshotHistoryWindowInSeconds": 1})
        assert told["minSnapshotHistoryWindowInSeconds"] == 10
        given = client.admin.command("getCmdLineOpts")["parsed"]["storage"]["wiredTiger"]["engineConfig"][
            "configString"
        ]
        assert "eviction_dirty_target=20," in given


def test_a_mongod_that_died_is_started_again_at_its_port_with_its_data(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        keep(server.uri, "kept")
        port, pid = server.port, server.pid
        os.kill(pid, signal.SIGKILL)
        server.process.wait(10)
        assert server.revive().pid == server.pid != pid
        assert server.port == port
        assert until(lambda: running_uri(tmp_path) == server.uri)
        assert kept(server.uri) == ["kept"]


def test_a_mongod_that_cannot_be_ended_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[signal.Signals] = []
    monkeypatch.setattr(mongod, "_server", lambda _data: 7)
    monkeypatch.setattr(mongod, "_command", lambda _pid: f"mongod --dbpath {tmp_path} --replSet {mongod.REPLICA_SET} ")
    monkeypatch.setattr(mongod, "_signal", lambda _pid, sign: sent.append(sign))
    with pytest.raises(DataInUse, match="process 7"):
        mongod._end_orphan(tmp_path, time.monotonic() + 0.2)
    assert sent == [signal.SIGTERM, signal.SIGKILL]


def test_a_start_that_has_the_lock_and_nothing_more_yet_is_told(tmp_path: Path) -> None:
    assert "by a process that is just starting. Try again." in str(mongod._held(tmp_path))


def test_a_folder_whose_lock_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "madang.lock").mkdir()
    with pytest.raises(MongodError, match="cannot be written to"):
        LocalServer.start(tmp_path)


def test_a_mongod_that_may_not_be_run_names_what_its_owner_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    plain = tmp_path / "mongod"
    plain.touch(mode=0o644)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(MongodError, match="Let its owner do: chmod"):
        mongod._executable(plain)


def test_what_is_no_entry_of_the_log_is_shown_as_it_is() -> None:
    assert mongod._complaint(" libcrypto.so.3: cannot open shared object file \n") == (
        "libcrypto.so.3: cannot open shared object file"
    )
