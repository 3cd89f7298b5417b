"""Call the WSGI applications in this process, without a server: for profiles and for counting instructions."""

import io
import os
import random
from collections.abc import Callable
from typing import Any

import run
from bench import contenders, data
from bench.contenders import Contender
from bench.data import Dataset
from service.serve import api

DATASET = Dataset()
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Any]


def load(contender: Contender, uri: str) -> Wsgi:
    """Return the WSGI application of the bare callable or of Madang, on the contender's database."""
    os.environ |= contender.environment(uri)
    if contender.name == "madang":
        return api.create_serving_app(run.load())
    from bench.peers import bare  # it reads its settings at import

    return bare.application


def environ_of(contender: Contender, workload: str, draw: random.Random, tokens: list[str]) -> dict[str, Any]:
    """Return the WSGI environment of one request of a workload."""
    account = draw.randrange(data.ACCOUNTS)
    number = account + data.ACCOUNTS * draw.randrange(DATASET.notes // data.ACCOUNTS)
    method, path, body = {
        "get": ("GET", contender.item % data.note_id(number), ""),
        "list": ("GET", contender.list_path, ""),
        "create": ("POST", contender.collection, contenders.text(contenders.new_note(number % 64))),
        "patch": ("PATCH", contender.item % data.note_id(number), contenders.text({"title": "new", "priority": 3})),
    }[workload]
    route, _, query = path.partition("?")
    return {
        "REQUEST_METHOD": method,
        "PATH_INFO": route,
        "QUERY_STRING": query,
        "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_AUTHORIZATION": f"Bearer {tokens[account]}",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body.encode())),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body.encode()),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }


class Caller:
    """Sends requests of one workload to an application, one after the other."""

    def __init__(self, contender: Contender, app: Wsgi, workload: str, seed: int = 1) -> None:
        self.contender, self.app, self.workload = contender, app, workload
        self.draw = random.Random(seed)
        self.tokens = [data.token(account) for account in range(data.ACCOUNTS)]
        self.status = ""

    def environs(self, count: int) -> list[dict[str, Any]]:
        """Return the environments of as many requests."""
        return [environ_of(self.contender, self.workload, self.draw, self.tokens) for _ in range(count)]

    def call(self, environ: dict[str, Any]) -> bytes:
        """Return the body of one answer; raises `RuntimeError` when it is no success."""
        answer = self.app(environ, self.start)
        body = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        if not self.status.startswith("2"):
            raise RuntimeError(f"{self.contender.name} {self.workload}: {self.status} {body[:500]!r}")
        return body

    def start(self, status: str, _headers: list[tuple[str, str]], _error: Any = None) -> None:
        """Take the status of the answer."""
        self.status = status
