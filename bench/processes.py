"""Start servers on one core, and read from the kernel what they cost."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.serve.ports import free_port

ROOT = Path(__file__).parent.parent
SERVER_CORES = "0"
LOAD_CORE = 1
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Process:
    """A server with its workers, in a session of its own."""

    def __init__(self, popen: "subprocess.Popen[bytes]", port: int) -> None:
        self.popen = popen
        self.port = port

    @property
    def base(self) -> str:
        """The URL that its paths follow."""
        return f"http://127.0.0.1:{self.port}"

    def members(self) -> list[list[str]]:
        """Return the `/proc/<pid>/stat` fields, from the state on, of the server and all its workers."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = path.read_text()
            except OSError:
                continue
            fields = text.rpartition(")")[2].split()
            if int(fields[3]) == self.popen.pid:
                found.append([text.partition(" ")[0], *fields])
        return found

    def cpu(self) -> float:
        """Return the seconds of CPU that the server and its workers have used."""
        return sum(int(fields[12]) + int(fields[13]) for fields in self.members()) / TICKS

    def memory(self) -> float:
        """Return the resident megabytes of the largest process: a worker."""
        return max((int(fields[22]) * PAGE / 2**20 for fields in self.members()), default=0.0)

    def forget_peak(self) -> None:
        """Let the kernel count the peak of the memory anew."""
        for pid, *_ in self.members():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak(self) -> float:
        """Return the most resident megabytes that the largest process had."""
        texts = (Path(f"/proc/{pid}/status").read_text() for pid, *_ in self.members())
        return max(int(line.split()[1]) / 1024 for text in texts for line in text.splitlines() if "VmHWM" in line)

    def stop(self) -> None:
        """End the server, by force where it does not go."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if self.popen.poll() is None:
                os.killpg(self.popen.pid, sign)
                try:
                    self.popen.wait(10)
                except subprocess.TimeoutExpired:
                    continue


@contextmanager
def serving(
    command: Sequence[str],
    environ: Mapping[str, str],
    ready: str,
    log: Path,
    cores: str = SERVER_CORES,
    port: int = 0,
    folder: Path = ROOT,
) -> Iterator[Process]:
    """Run a server whose command names `{port}` on `cores`, from a `folder`, until the block ends.

    It is up when `ready` answers.
    """
    port = port or free_port()
    filled = [part.replace("{port}", str(port)) for part in command]
    with log.open("ab") as output:
        popen = subprocess.Popen(
            ["taskset", "-c", cores, *filled],
            env={**os.environ, **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
        )
    process = Process(popen, port)
    try:
        await_answer(process, ready, log)
        yield process
    finally:
        process.stop()


def await_answer(process: Process, path: str, log: Path, seconds: float = 60) -> None:
    """Wait until the server answers anything; raises `RuntimeError` with the end of its log when it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.popen.poll() is None:
        try:
            urllib.request.urlopen(process.base + path, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"{process.popen.args} does not answer:\n{log.read_text()[-3000:]}")
