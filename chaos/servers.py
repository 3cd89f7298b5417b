"""Server processes of Madang on one replica set, as `run.py` starts them, that can be killed and started again."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from bench.processes import ROOT, Process, await_answer
from service.serve.ports import free_port

TIMEOUT = 5.0
"""`MONGODB_TIMEOUT` of the servers, in seconds: its default."""


class Server:
    """One `run.py` with its API, on a port that stays its own; other programs have the ports that follow."""

    def __init__(
        self, folder: Path, uri: str, workers: int = 1, threads: int = 16, only: str = "api", **settings: str
    ) -> None:
        """Prepare a start of the programs `only`; `settings` are further `SERVICE_*` variables without their prefix."""
        folder.mkdir(parents=True)
        self.port = free_port()
        self.log = folder / "server.log"
        self.words = [sys.executable, "run.py", "--only", only, "--port", str(self.port)]
        self.words += ["--workers", str(workers), "--threads", str(threads)]
        own = {
            "ENV": "test",
            "MONGODB_URI": uri,
            "VAR": str(folder),
            "LOG_LEVEL": "WARNING",
            "MONGODB_TIMEOUT": str(TIMEOUT),
            "RATELIMIT_ENABLED": "true",
            "RATELIMIT_SIGN_UPS": "100000 per hour",
            **settings,
        }
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("SERVICE_", "PROMETHEUS_"))}
        self.environ = {**kept, **{f"SERVICE_{name}": text for name, text in own.items()}}
        self.process: Process | None = None

    @property
    def base(self) -> str:
        """The URL that its paths follow."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, as often as it takes until the port is free, and wait until it serves."""
        end = time.monotonic() + 60
        while True:
            said = self.log.stat().st_size if self.log.exists() else 0
            with self.log.open("ab") as output:
                popen = subprocess.Popen(
                    self.words, cwd=ROOT, env=self.environ, stdout=output, stderr=output, start_new_session=True
                )
            self.process = Process(popen, self.port)
            # Before it says where it is, workers that outlived a former parent may hold the port, and answer.
            while popen.poll() is None and b"Madang is at" not in self.log.read_bytes()[said:]:
                time.sleep(0.05)
            if popen.poll() is None:
                return await_answer(self.process, "/health/live", self.log)
            # A supervisor would start it again, too.
            if time.monotonic() > end:
                raise RuntimeError(f"it does not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.2)

    def pids(self) -> list[int]:
        """Return the process ids of the parent, first, and of all that it has started."""
        assert self.process is not None
        parent = self.process.popen.pid
        return [parent, *(int(pid) for pid, *_ in self.process.members() if int(pid) != parent)]

    def workers(self) -> list[int]:
        """Return the process ids of the API's workers, by age: the parent's grandchildren."""
        assert self.process is not None
        parents = {int(pid): int(parent) for pid, _, parent, *_ in self.process.members()}
        return sorted(pid for pid, parent in parents.items() if parents.get(parent) == self.process.popen.pid)

    def kill_worker(self, number: int) -> None:
        """Kill one of the workers, whichever has this number by age."""
        if workers := self.workers():
            with suppress(ProcessLookupError):
                os.kill(workers[number % len(workers)], signal.SIGKILL)

    def kill_parent(self) -> None:
        """Kill the process that started the workers."""
        assert self.process is not None
        self.process.popen.kill()
        self.process.popen.wait()

    def kill(self) -> None:
        """Kill the parent and all workers at once."""
        assert self.process is not None
        os.killpg(self.process.popen.pid, signal.SIGKILL)
        self.process.popen.wait()

    def is_up(self) -> bool:
        """Tell whether the parent lives."""
        return self.process is not None and self.process.popen.poll() is None

    def stop(self) -> None:
        """End it and whatever is left of it."""
        if self.process is not None:
            self.process.stop()
            with suppress(ProcessLookupError):
                os.killpg(self.process.popen.pid, signal.SIGKILL)
