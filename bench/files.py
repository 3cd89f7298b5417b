"""Files: the memory of the streams while five gigabytes come and go, and while many slow phones download at once.

Memory hangs on nothing else that runs, so it can be measured at any time; how fast the bytes go is told beside it, and
means something on an idle machine alone.
"""

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.processes import ROOT
from service.serve.ports import free_port

BYTES = int(os.environ.get("MADANG_BENCH_FILE_BYTES", str(5 * 2**30)))
SLOW, SLOW_BYTES, SLOW_RATE, SLOW_SECONDS = 200, 8 * 2**20, 50_000, 30
"""So many downloads at once of such a file, each of so many bytes a second, for so long."""
PART = 16 * 2**20
"""Bytes of a request of an upload."""
PIECE = hashlib.shake_128(b"bench").digest(2**20)
GOAL_MB = 150
STARTS_WITHIN = 60
ACCOUNT = {"username": "ada", "password": "correct horse battery"}
SETTINGS = {
    "FILES_BYTES": str(max(BYTES, 1)),
    "FILES_DIRECT_BYTES": str(2**25),
    "FILES_ACCOUNT_BYTES": str(2**40),
    "RATELIMIT_ENABLED": "false",
    "JWT_EXPIRATION_DELTA": "86400",
}
Json = dict[str, Any]


class Peak(NamedTuple):
    """Megabytes: resident before and at most, of the largest process of the streams, and how fast bytes went."""

    before: float
    most: float
    megabytes_a_second: float


class Service:
    """The service as it is started, with a database of its own."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self.port, self.token = pid, port, ""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        sent = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **named}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        connection.close()
        if found[0] >= 400:
            raise RuntimeError(f"{method} {path} is {found[0]}: {found[2][:200]!r}")
        return found

    def post(self, path: str, body: Json) -> Json:
        """Send JSON, and return what comes."""
        found: Json = json.loads(self.ask("POST", path, json.dumps(body).encode(), Content_Type="application/json")[2])
        return found

    def streams(self) -> list[int]:
        """Return the process ids of the streams."""
        found, all_of_them = [], [self.pid]
        for pid in all_of_them:
            all_of_them += children(pid)
        for pid in all_of_them:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "madang-streams":
                found += [pid, *children(pid)]
        return sorted(set(found))

    def peak_during(self, work: Callable[[], int]) -> Peak:
        """Return the memory of the streams before and during some work that moves so many bytes."""
        for pid in self.streams():
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        before, begun = memory_of(self.streams(), "VmRSS"), time.monotonic()
        moved = work()
        took = time.monotonic() - begun
        return Peak(round(before), round(memory_of(self.streams(), "VmHWM")), round(moved / 1e6 / took, 1))


def children(pid: int) -> list[int]:
    """Return the process ids of what a process has started, on any of its threads."""
    return [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]


def memory_of(pids: list[int], kind: str) -> float:
    """Return the megabytes of the largest of some processes."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return max(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


@contextmanager
def started() -> Iterator[Service]:
    """Start the service with a MongoDB of its own, and somebody signed in."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SERVICE_")}
    with tempfile.TemporaryDirectory(prefix="madang-bench-") as var:
        environ = {**kept, "SERVICE_VAR": var, **{f"SERVICE_{name}": text for name, text in SETTINGS.items()}}
        port = free_port()
        words = [sys.executable, "run.py", "--port", str(port), "--workers", "1"]
        # The program is ours, and so are its arguments.
        with (Path(var) / "output").open("wb") as output:
            process = subprocess.Popen(words, cwd=ROOT, env=environ, stdout=output, stderr=output)
        service = Service(process.pid, port)
        try:
            wait_for(service, process)
            service.post("/v1/accounts", ACCOUNT)
            service.token = service.post("/auth", ACCOUNT)["access_token"]
            yield service
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def wait_for(service: Service, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the service is ready. Raises `RuntimeError` where it does not become so."""
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end and process.poll() is None:
        try:
            service.ask("GET", "/health/ready")
        except (OSError, RuntimeError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("the service does not start")


def uploaded(service: Service, size: int) -> str:
    """Upload so many bytes by tus; return the id of the file."""
    tus = {"Tus_Resumable": "1.0.0"}
    path = service.ask("POST", "/v1/uploads", **tus, Upload_Length=str(size))[1]["location"]
    position, id = 0, ""
    while position < size:
        body = (PIECE * (PART // len(PIECE)))[: min(PART, size - position)]
        more = {"Content_Type": "application/offset+octet-stream", "Upload_Offset": str(position)}
        headers = service.ask("PATCH", path, body, **tus, **more)[1]
        position, id = position + len(body), headers.get("x-file-id", "")
    return id


def downloaded(service: Service, id: str) -> int:
    """Read all bytes of a file, and see that they are right; return how many."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
    connection.request("GET", f"/v1/files/{id}/content", headers={"Authorization": f"Bearer {service.token}"})
    answer, count, found = connection.getresponse(), 0, hashlib.sha256()
    while piece := answer.read(2**20):
        count += len(piece)
        found.update(piece)
    tag = answer.getheader("ETag")
    connection.close()
    if tag != f'"{found.hexdigest()}"':
        raise RuntimeError(f"{count} bytes have come, and they are others")
    return count


def slowly(service: Service, id: str) -> int:
    """Have many clients read a file slowly, for a while; return how many bytes have come."""
    counts: list[int] = []
    end = time.monotonic() + SLOW_SECONDS

    def one() -> None:
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            lines = [
                f"GET /v1/files/{id}/content HTTP/1.1",
                "Host: a",
                f"Authorization: Bearer {service.token}",
                "",
                "",
            ]
            client.sendall("\r\n".join(lines).encode())
            if b" 200 " not in client.recv(64):
                raise RuntimeError("a download was refused")
            count = 0
            while time.monotonic() < end:
                if not (piece := client.recv(SLOW_RATE // 10)):
                    return
                count += len(piece)
                time.sleep(0.1)
            counts.append(count)

    clients = [threading.Thread(target=one) for _ in range(SLOW)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    if len(counts) < SLOW:
        raise RuntimeError(f"{len(counts)} of {SLOW} downloads went on")
    return sum(counts)


def run() -> list[Json]:
    """Measure all, and return a row for each."""
    found: list[Json] = []
    with started() as service:
        small = uploaded(service, SLOW_BYTES)
        downloaded(service, small)  # what is loaded once is loaded by now
        ids: list[str] = []

        def upload() -> int:
            ids.append(uploaded(service, BYTES))
            return BYTES

        works = {
            f"upload of {BYTES} bytes": upload,
            f"download of {BYTES} bytes": lambda: downloaded(service, ids[0]),
            f"{SLOW} downloads of {SLOW_RATE} bytes a second": lambda: slowly(service, small),
        }
        for name, work in works.items():
            found.append({"what": name, **service.peak_during(work)._asdict(), "goal": GOAL_MB})
            print(json.dumps(found[-1]), flush=True)
    return found
