"""How fast files come and go beside PocketBase and Starlette's `FileResponse`, and what is slower meanwhile."""

import http.client
import io
import json
import multiprocessing
import random
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from bench import files
from bench.contenders import PEERS_PYTHON
from bench.files import ACCOUNT, SLOW, SLOW_RATE, Service
from bench.pocketbase import PROGRAM
from bench.processes import serving

CLIENTS = (1, 50)
ROUNDS, SECONDS = 3, 4
"""Of each way with each server, in turns; the median is shown."""
CONTENT = random.Random(18).randbytes(4 * 2**20)
LARGE = random.Random(18).randbytes(24 * 2**20)
"""What is read slowly: more than the kernel holds of it."""
SLOW_BEGIN, READ_SECONDS = 30, 20
"""Seconds in which the kernel fills up with slow downloads, and in which records are read beside them."""
STALE = 5.0
"""Seconds after which a connection that nobody has used is made anew."""
IMAGES, IMAGE_CLIENTS, SHOWN = 24, 4, (4000, 3000)
BOTH_CORES = "0,1"
ADMIN = {"identity": "bench@example.com", "password": "correct horse battery"}
Json = dict[str, Any]
Headers = dict[str, str]


class Peer(ABC):
    """A server that takes and gives files."""

    title: str
    has_more = True
    """Whether it has records and smaller images too."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.local = threading.local()

    def ask(self, method: str, path: str, body: bytes = b"", headers: Headers | None = None) -> bytes:
        """Return the body of an answer, on the connection of this thread. Raises `RuntimeError` for a refusal."""
        if time.monotonic() - getattr(self.local, "asked", 0.0) > STALE:
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        self.local.connection.request(method, path, body, headers or {})
        answer = self.local.connection.getresponse()
        found: bytes = answer.read()
        self.local.asked = time.monotonic()
        if answer.status >= 300:
            raise RuntimeError(f"{self.title}: {method} {path} is {answer.status}: {found[:200]!r}")
        return found

    @abstractmethod
    def upload(self, client: int, content: bytes, name: str = "a.bin") -> str:
        """Store a file, and return its path."""

    def headers(self, _client: int) -> Headers:
        """Return the headers by which a client may read."""
        return {}

    def read(self) -> None:
        """Read one record."""
        raise NotImplementedError

    def thumb(self, path: str) -> str:
        """Return the path of a small image of a file."""
        raise NotImplementedError


class Madang(Peer):
    """The service as it is started, with its door; each client has an account."""

    title = "Madang"

    def __init__(self, service: Service) -> None:
        super().__init__(service.port)
        self.tokens = []
        for number in range(max(CLIENTS)):
            account = {**ACCOUNT, "username": f"phone{number}"}
            service.post("/v1/accounts", account)
            self.tokens.append(service.post("/auth", account)["access_token"])
        told = {**self.headers(0), "Content-Type": "application/json"}
        self.note = json.loads(self.ask("POST", "/v1/notes", b'{"title": "milk"}', told))["id"]

    def headers(self, client: int) -> Headers:
        """Return the headers by which a client may read."""
        return {"Authorization": f"Bearer {self.tokens[client]}"}

    def upload(self, client: int, content: bytes, name: str = "a.bin") -> str:
        """Store a file, and return its path."""
        told = {"Content-Type": "application/octet-stream", "Content-Disposition": f'attachment; filename="{name}"'}
        found = json.loads(self.ask("POST", "/v1/files", content, {**self.headers(client), **told}))
        return f"/v1/files/{found['id']}/content"

    def read(self) -> None:
        """Read one record."""
        self.ask("GET", f"/v1/notes/{self.note}", headers=self.headers(0))

    def thumb(self, path: str) -> str:
        """Return the path of a small image of a file."""
        return path + "?size=thumb"


class PocketBase(Peer):
    """PocketBase with a collection that everybody reads and writes: no right is asked for."""

    title = "PocketBase"

    def __init__(self, port: int) -> None:
        super().__init__(port)
        told = {"Content-Type": "application/json"}
        path = "/api/collections/_superusers/auth-with-password"
        token = json.loads(self.ask("POST", path, json.dumps(ADMIN).encode(), told))["token"]
        rules = dict.fromkeys(("listRule", "viewRule", "createRule"), "")
        field = {"name": "file", "type": "file", "maxSelect": 1, "maxSize": 2**30, "thumbs": ["200x200"]}
        body = {"name": "files", "type": "base", **rules, "fields": [field]}
        self.ask("POST", "/api/collections", json.dumps(body).encode(), {**told, "Authorization": token})
        self.record = self.upload(0, b"a").split("/")[4]

    def upload(self, client: int, content: bytes, name: str = "a.bin") -> str:
        """Store a file, and return its path."""
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        told = {"Content-Type": "multipart/form-data; boundary=x"}
        body = head + content + b"\r\n--x--\r\n"
        found = json.loads(self.ask("POST", "/api/collections/files/records", body, told))
        return f"/api/files/files/{found['id']}/{found['file']}"

    def read(self) -> None:
        """Read one record."""
        self.ask("GET", f"/api/collections/files/records/{self.record}")

    def thumb(self, path: str) -> str:
        """Return the path of a small image of a file."""
        return path + "?thumb=200x200"


class Folder(Peer):
    """Starlette with a folder, by uvicorn: no record, no right, no hash."""

    title = "FileResponse"
    has_more = False

    def upload(self, client: int, content: bytes, name: str = "a.bin") -> str:
        """Store a file, and return its path."""
        return "/files/" + json.loads(self.ask("POST", "/files", content))["id"]


@contextmanager
def lined_up() -> Iterator[list[Peer]]:
    """Start all servers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="madang-bench-")))
        log, data = folder / "log", ("--dir", str(folder / "pocketbase"))
        stored = folder / "files"
        stored.mkdir()
        subprocess.run([PROGRAM, "superuser", "upsert", *ADMIN.values(), *data], check=True, capture_output=True)
        beside = serving(
            [str(PROGRAM), "serve", "--http", "127.0.0.1:{port}", *data], {}, "/api/health", log, BOTH_CORES
        )
        command = [PEERS_PYTHON, "-m", "uvicorn", "bench.peers.starlette_files:app", "--port", "{port}"]
        plain = serving([*command, "--no-access-log"], {"BENCH_FILES": str(stored)}, "/files/0", log, BOTH_CORES)
        yield [
            Madang(stack.enter_context(files.started())),
            PocketBase(stack.enter_context(beside).port),
            Folder(stack.enter_context(plain).port),
        ]


def at_once(clients: int, work: Callable[[int], None]) -> None:
    """Let clients work at once, each with its number. Raises what one of them does."""
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))


def a_second(clients: int, work: Callable[[int], Any], seconds: float = SECONDS) -> float:
    """Return how often clients do something a second, all together."""
    done, begun = count(), time.monotonic()

    def again(client: int) -> None:
        while time.monotonic() - begun < seconds:
            work(client)
            next(done)

    at_once(clients, again)
    return next(done) / (time.monotonic() - begun)


def throughput(peers: list[Peer]) -> Iterator[Json]:
    """Yield how many megabytes a second come and go."""
    paths = {peer.title: [peer.upload(client, CONTENT) for client in range(max(CLIENTS))] for peer in peers}

    def upload(peer: Peer, client: int) -> None:
        peer.upload(client, CONTENT)

    def download(peer: Peer, client: int) -> None:
        path = paths[peer.title][client]
        if len(peer.ask("GET", path, headers=peer.headers(client))) != len(CONTENT):
            raise RuntimeError(f"{peer.title}: not all bytes have come")

    for name, work in {"upload": upload, "download": download}.items():
        for clients in CLIENTS:
            rates: dict[str, list[float]] = {peer.title: [] for peer in peers}
            for _ in range(ROUNDS):
                for peer in peers:
                    rates[peer.title].append(a_second(clients, partial(work, peer)))
            median = {title: round(statistics.median(found) * len(CONTENT) / 1e6, 1) for title, found in rates.items()}
            yield {"what": f"{name}, {clients} clients, MB/s", **median}


def read_slowly(port: int, request: bytes, seconds: float) -> None:
    """Have many clients read a file slowly, for a while. Raises `RuntimeError` where one does not come so far."""
    connections = []
    for _ in range(SLOW):
        connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        connection.sendall(request)
        connections.append(connection)
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        for connection in connections:
            if not connection.recv(SLOW_RATE // 5):
                raise RuntimeError("a slow download was cut off")
        time.sleep(max(0.0, 0.2 - (time.monotonic() - begun) % 0.2))


def percentile(peer: Peer) -> float:
    """Return the milliseconds of which 99 of 100 reads of a record take less, one after the other."""
    found, end = [], time.monotonic() + READ_SECONDS
    while (begun := time.monotonic()) < end:
        peer.read()
        found.append((time.monotonic() - begun) * 1000)
    return sorted(found)[int(len(found) * 0.99)]


def beside_slow(peers: list[Peer]) -> Iterator[Json]:
    """Yield how long reads of records take while nothing else is done, and while many read a file slowly."""
    idle, busy = {}, {}
    for peer in filter(lambda peer: peer.has_more, peers):
        path = peer.upload(0, LARGE)
        idle[peer.title] = percentile(peer)
        lines = [f"{name}: {value}" for name, value in {"Host": "a", **peer.headers(0)}.items()]
        request = "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()
        told = peer.port, request, SLOW_BEGIN + READ_SECONDS + 5
        # A process of its own: who measures does not wait for the others' turn.
        slow = multiprocessing.get_context("fork").Process(target=read_slowly, args=told)
        slow.start()
        time.sleep(SLOW_BEGIN)
        busy[peer.title] = percentile(peer)
        slow.join()
        if slow.exitcode:
            raise RuntimeError(f"{peer.title}: the slow downloads have not gone on")
    yield {"what": "p99 of reads, idle, ms", **rounded(idle)}
    yield {"what": f"p99 of reads beside {SLOW} slow downloads, ms", **rounded(busy)}
    yield {"what": "the second by the first", **rounded({title: busy[title] / idle[title] for title in idle})}


def rounded(found: dict[str, float]) -> dict[str, float]:
    """Return figures as a table has them."""
    return {title: round(value, 2) for title, value in found.items()}


def photos() -> list[bytes]:
    """Return photos of twelve megapixels, each another file."""
    small = Image.merge("RGB", [Image.effect_noise((SHOWN[0] // 4, SHOWN[1] // 4), 80) for _ in range(3)])
    output = io.BytesIO()
    small.resize(SHOWN).save(output, "JPEG", quality=85)
    photo = output.getvalue()
    # With a comment that makes it another one.
    return [photo[:2] + b"\xff\xfe\x00\x04" + number.to_bytes(2) + photo[2:] for number in range(IMAGES)]


def thumbnails(peers: list[Peer]) -> Iterator[Json]:
    """Yield how many small images a second are made, and how many given that are kept."""
    first, kept = {}, {}
    for peer in filter(lambda peer: peer.has_more, peers):
        paths = [peer.thumb(peer.upload(0, photo, "a.jpg")) for photo in photos()]
        left, begun = iter(paths), time.monotonic()

        def make(_client: int, peer: Peer = peer, left: Iterator[str] = left) -> None:
            for path in left:
                peer.ask("GET", path, headers=peer.headers(0))

        at_once(IMAGE_CLIENTS, make)
        first[peer.title] = IMAGES / (time.monotonic() - begun)
        kept[peer.title] = a_second(
            IMAGE_CLIENTS, lambda client, to=peer, of=paths: to.ask("GET", of[client], headers=to.headers(0))
        )
    yield {"what": "thumbnails of 12 megapixels made a second", **rounded(first)}
    yield {"what": "thumbnails that are kept a second", **rounded(kept)}


def run() -> list[Json]:
    """Measure all, and return a row for each."""
    found: list[Json] = []
    with lined_up() as peers:
        for part in (throughput, beside_slow, thumbnails):
            for row in part(peers):
                found.append(row)
                print(json.dumps(row), flush=True)
    return found
