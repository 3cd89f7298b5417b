"""An HTTP proxy that loses requests and answers, cuts answers short, delays them and doubles requests."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any, NamedTuple

KEPT = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})
"""Headers of one connection alone."""
FAULTS = ("lost before", "lost after", "cut", "late", "doubled")


class Said(NamedTuple):
    """A request and its answer: who sent it, what went wrong with it, and the texts of both."""

    token: str
    fault: str
    request: str
    status: int
    answer: str


Choose = Callable[[str, str], str]
"""Takes the method and the path of a request, and says what goes wrong with it: a fault, or the status of a problem."""


def now_and_then(random: Random, share: float) -> Choose:
    """Let so large a share of the requests go wrong, in any of the ways."""
    lock = threading.Lock()

    def choose(_method: str, _path: str) -> str:
        with lock:
            return random.choice(FAULTS) if random.random() < share else ""

    return choose


def made_up_problem(status: int) -> tuple[str, bytes]:
    """A problem, as the service answers with one under the paths of RxDB."""
    document = {"status": status, "code": "made_up", "title": "Made up", "error": True}
    return "application/problem+json", json.dumps(document).encode()


class FaultyProxy:
    """Stands between clients and a service; it starts and ends with a `with` block."""

    def __init__(
        self,
        port: int,
        choose: Choose = lambda _method, _path: "",
        lateness: float = 0.05,
        refusal: Callable[[int], tuple[str, bytes]] = made_up_problem,
    ) -> None:
        self.port, self.choose, self.lateness, self.refusal = port, choose, lateness, refusal
        self.happened: Counter[str] = Counter()
        self.seen: list[tuple[str, str, int]] = []
        """Method, path and status of each request that was answered."""
        self.exchanges: deque[Said] = deque(maxlen=1000)
        """The last of what was said, to find out what went wrong."""
        proxy = self

        class Handler(Exchange):
            owner = proxy

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class Exchange(BaseHTTPRequestHandler):
    """One connection of a client."""

    owner: FaultyProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        """Answer what comes; a client may go while it waits."""
        with suppress(ConnectionError):
            super().handle()

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.owner.choose(self.command, self.path)
        self.owner.happened[fault] += 1
        if fault == "lost before":
            self.close_connection = True
            return
        if self.path.endswith("Stream"):
            self.relay()
            return
        if fault.isdecimal():
            self.refuse(int(fault))
            return
        if fault == "late":
            time.sleep(self.owner.lateness)
        if fault == "doubled":
            self.forward(body)
        status, headers, answer = self.forward(body)
        asked = f"{self.command} {self.path} {body.decode(errors='replace')}"
        said = Said(self.headers.get("Authorization", ""), fault, asked, status, answer.decode(errors="replace"))
        self.owner.exchanges.append(said)
        if fault == "lost after":
            self.close_connection = True
            return
        self.owner.seen.append((self.command, self.path, status))
        self.send_response_only(status)
        for name, text in headers:
            if name.lower() not in KEPT or (self.command == "HEAD" and name.lower() == "content-length"):
                self.send_header(name, text)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if fault == "cut" else answer)
        if fault == "cut":
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815  as the library calls them

    def relay(self) -> None:
        """Hand on an answer that goes on and on."""
        connection = self.begin(None)
        try:
            answer = connection.getresponse()
            self.send_response_only(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type", ""))
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(piece)
        finally:
            connection.close()
        self.close_connection = True

    def begin(self, body: bytes | None) -> http.client.HTTPConnection:
        """Send the request on."""
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.port, timeout=60)
        headers = {name: text for name, text in self.headers.items() if name.lower() not in KEPT}
        connection.request(self.command, self.path, body, headers)
        return connection

    def refuse(self, status: int) -> None:
        """Answer with a status that the server did not send."""
        media_type, document = self.owner.refusal(status)
        self.send_response_only(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(document)))
        self.end_headers()
        self.wfile.write(document)

    def forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send the request on, and return the whole answer."""
        connection = self.begin(body or None)
        try:
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()
