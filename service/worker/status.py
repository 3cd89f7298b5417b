"""What a worker tells of itself over HTTP: health and metrics, to a load balancer and to Prometheus."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import ClassVar

import pymongo
from pymongo.errors import PyMongoError

from service.changes import order
from service.core import metrics
from service.core.errors import DatabaseUnavailable, NotFound, Problem, ShuttingDown
from service.core.headers import request_id
from service.worker.crew import Crew, is_ready

SILENCE = 5
"""Seconds that a client may say nothing."""

Page = tuple[int, str, bytes]
"""A status, a content type and a body."""


class StatusServer(ThreadingHTTPServer):
    """Answers `/health/live`, `/health/ready` and `/metrics` from a thread of its own."""

    daemon_threads = True
    # Its port is held for it by who has started it.
    allow_reuse_port = True

    def __init__(self, host: str, port: int, crew: Crew, patience: float) -> None:
        """Listen; `patience` are the seconds that MongoDB may take for an answer. Raises `OSError`."""
        self.crew, self.patience = crew, patience
        self.pages: dict[str, Callable[[], Page]] = {
            "/health/live": healthy,
            "/health/ready": self.ready,
            "/metrics": counted,
        }
        super().__init__((host, port), StatusHandler)

    def server_bind(self) -> None:
        """Bind without a look at the name service, which may be slow: nobody asks for the name of the server."""
        TCPServer.server_bind(self)

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self.serve_forever, name="status", daemon=True).start()

    def ready(self) -> Page:
        """Answer whether the worker works."""
        if self.crew.ending.is_set():
            raise ShuttingDown
        with pymongo.timeout(self.patience):
            if not is_ready(self.crew):
                raise DatabaseUnavailable("MongoDB has no writable primary, or a chore has ended")
            self.check_recorded()
        # Not a 503: the door would send no request to the API any more because a mail server is away.
        return healthy(self.crew.troubles())

    def check_recorded(self) -> None:
        """Raise `FeedUnavailable` where no worker records changes."""
        try:
            order.check_recorded()
        except PyMongoError:
            raise DatabaseUnavailable from None

    def page(self, path: str) -> Page:
        """Return what is at a path."""
        try:
            if path not in self.pages:
                raise NotFound("there is nothing at this path")
            return self.pages[path]()
        except Problem as problem:
            document = json.dumps(problem.as_dict(request_id(""))).encode()
            return problem.status, "application/problem+json", document


class StatusHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: StatusServer
    timeout: ClassVar[int] = SILENCE
    server_version = "Madang"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a GET."""
        status, kind, body = self.server.page(self.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: who looks does so every few seconds."""


def healthy(troubles: Mapping[str, str] | None = None) -> Page:
    """Answer that the worker works, with what it cannot do at this moment."""
    document = {"status": "ok", **({"troubles": dict(troubles)} if troubles else {})}
    return 200, "application/json", json.dumps(document, separators=(",", ":")).encode()


def counted() -> Page:
    """Return the metrics in Prometheus' text format."""
    return 200, "text/plain; version=0.0.4; charset=utf-8", metrics.exposition()
