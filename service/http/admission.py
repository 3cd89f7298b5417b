"""Admission: how many requests are at work at once, how many wait for that, and what the others are told."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BytesIO
from queue import Empty, SimpleQueue
from typing import Any

import pymongo

from service.core.errors import Overloaded, Problem, RequestTimeout
from service.http.connections import Watch
from service.http.refusal import refuse
from service.http.web import BODY

OWN = ("/health/", "/metrics", "/docs", "/openapi.json", "/.well-known/")
"""What the service tells of itself: it has room of its own, so that it answers when nothing else does."""
OWN_SLOTS = 6
QUEUE = 4
"""Requests that may wait for a slot or for their client, for each slot there is. A quarter may wait for a slot only."""
SYNC = "/v1/sync/"
"""Paths of pushes, whose bodies may be larger than others."""
PUSHES = 2
"""Of so many slots one may have a push, which takes seconds where others take milliseconds."""
LARGE_BODIES = 2
"""Most bodies at a time, larger than others may be: one of 16 MiB takes ten times as much when it is read."""
SPARE = 2
"""Threads that are left to refuse when all others are taken; more of them would fight over Python's lock."""
WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def threads(slots: int) -> int:
    """Return how many threads a server of so many slots needs; those beyond the slots sleep most of the time."""
    return slots + slots * QUEUE + OWN_SLOTS + SPARE


class Room:
    """A number of places."""

    def __init__(self, places: int) -> None:
        # Tokens in a queue written in C: a semaphore of the standard library costs ten times as much.
        self.places: SimpleQueue[None] = SimpleQueue()
        for _ in range(places):
            self.places.put(None)

    def enter(self, patience: float = 0.0) -> bool:
        """Take a place; False where there is none within so many seconds."""
        try:
            self.places.get(patience > 0, patience)
        except Empty:
            return False
        return True

    def leave(self) -> None:
        """Give the place back."""
        self.places.put(None)


class Admission:
    """A WSGI app that is `app` for a bounded number of requests at once, and refuses the others.

    What depends on the client, its body and how it takes a streamed answer, happens outside of the slots.
    """

    def __init__(self, app: WSGI, slots: int, settings: Mapping[str, Any]) -> None:
        """Take the app, how many requests may be at work in it, and the settings of the service."""
        self.app = app
        self.work, self.own = Room(slots), Room(OWN_SLOTS)
        self.pushes = Room(max(1, slots // PUSHES))
        self.aside, self.queue = Room(slots * (QUEUE - 1)), Room(slots)
        self.patience: float = settings["ADMISSION_WAIT"]
        self.readiness: float = settings["MONGODB_CONNECT_TIMEOUT"]
        self.largest: int = settings["MAX_CONTENT_LENGTH"]
        self.largest_push: int = settings["MAX_PUSH_LENGTH"]
        self.large = Room(LARGE_BODIES)
        self.watch = Watch(settings["CLIENT_TIMEOUT"], settings["IDLE_TIMEOUT"], settings["BEHIND_DOOR"])

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" not in environ:
            return self.admitted(environ, start_response)
        largest = self.largest_push if environ["PATH_INFO"].startswith(SYNC) else self.largest
        if not self.is_large(environ, largest):
            return self.with_body(environ, start_response, largest)
        if not self.large.enter():
            return refuse(Overloaded(), environ, start_response)
        try:
            return self.with_body(environ, start_response, largest)
        finally:
            self.large.leave()

    def is_large(self, environ: dict[str, Any], largest: int) -> bool:
        """Tell whether a body may be one of those few for which there is memory: of `largest` bytes at most."""
        if "HTTP_TRANSFER_ENCODING" in environ:
            return largest > self.largest
        return self.largest < int(environ["CONTENT_LENGTH"] or 0) <= largest

    def with_body(self, environ: dict[str, Any], start_response: Callable[..., Any], largest: int) -> Iterable[bytes]:
        """Answer a request that has a body."""
        refusal = self.read_body(environ, largest)
        if refusal is not None:
            return refuse(refusal, environ, start_response)
        return self.admitted(environ, start_response)

    def admitted(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request when there is a place for it."""
        if environ["PATH_INFO"].startswith(OWN):
            return self.placed(self.hurry, self.own, environ, start_response)
        if environ["REQUEST_METHOD"] != "POST" or not environ["PATH_INFO"].startswith(SYNC):
            return self.placed(self.app, self.work, environ, start_response)
        if not (self.pushes.enter() or self.wait(self.pushes)):
            return refuse(Overloaded(), environ, start_response)
        try:
            return self.placed(self.app, self.work, environ, start_response)
        finally:
            self.pushes.leave()

    def placed(
        self, app: WSGI, room: Room, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request by an app when there is a place for it in a room."""
        if not (room.enter() or self.wait(room)):
            return refuse(Overloaded(), environ, start_response)
        try:
            answer = app(environ, start_response)
        finally:
            room.leave()
        # A GET alone is answered in pieces; what is left of the others has no body at all.
        if type(answer) is list or environ["REQUEST_METHOD"] != "GET":
            return answer
        return self.stream(answer, environ, start_response)

    def hurry(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Let the app answer what is its own; a load balancer does not wait for MongoDB as long as a person does."""
        with pymongo.timeout(self.readiness):
            return self.app(environ, start_response)

    def wait(self, room: Room) -> bool:
        """Wait for a place in a room, if not too many do."""
        for anteroom in (self.aside, self.queue):
            if anteroom.enter():
                try:
                    return room.enter(self.patience)
                finally:
                    anteroom.leave()
        return False

    def read_body(self, environ: dict[str, Any], largest: int) -> Problem | None:
        """Read a body of at most `largest` bytes before there is a slot for it; return why that cannot be."""
        if "HTTP_TRANSFER_ENCODING" in environ:
            # The chunks say where the body ends (RFC 9112, section 6.3); a length beside them is a trick.
            environ.pop("CONTENT_LENGTH", None)
        length = int(environ.get("CONTENT_LENGTH") or largest + 1)
        if length > largest and "CONTENT_LENGTH" in environ:
            return None  # it is refused unread
        if not self.aside.enter():
            return Overloaded()
        begun = time.monotonic()
        waiting = self.watch.begin(environ["REMOTE_ADDR"])
        try:
            body = environ["wsgi.input"].read(length)
        finally:
            self.watch.end(waiting)
            self.aside.leave()
        cut = "CONTENT_LENGTH" in environ and len(body) < length
        if cut or time.monotonic() - begun > self.watch.patience:
            return RequestTimeout()
        environ[BODY], environ["wsgi.input"] = body, BytesIO(body)
        return None

    def stream(
        self, answer: Iterable[bytes], environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Send an answer piece by piece, if there is room for one more that is under way."""
        if self.aside.enter():
            return Stream(answer, self, environ["REMOTE_ADDR"])
        answer.close()  # type: ignore[attr-defined]
        return refuse(Overloaded(), environ, start_response)


class Stream:
    """A streamed answer, which gives its place back when it ends or its client has gone."""

    def __init__(self, answer: Iterable[bytes], admission: Admission, address: str) -> None:
        self.answer, self.admission = answer, admission
        self.waiting = admission.watch.begin(address)

    def __iter__(self) -> Iterator[bytes]:
        """Return the pieces."""
        return iter(self.answer)

    def close(self) -> None:
        """End it."""
        self.admission.watch.end(self.waiting)
        self.admission.aside.leave()
        self.answer.close()  # type: ignore[attr-defined]
