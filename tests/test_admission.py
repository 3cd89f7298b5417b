"""How many requests are at work at once, and what becomes of the others."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from flask import Flask
from prometheus_client.registry import REGISTRY

from service.http.admission import LARGE_BODIES, OWN_SLOTS, QUEUE, SYNC, Admission, threads
from tests.waiting import until

SLOTS = 2
SETTINGS = {
    "ADMISSION_WAIT": 0.05,
    "MAX_CONTENT_LENGTH": 10,
    "MAX_PUSH_LENGTH": 100,
    "CLIENT_TIMEOUT": 20.0,
    "IDLE_TIMEOUT": 75.0,
    "BEHIND_DOOR": False,
    "MONGODB_CONNECT_TIMEOUT": 2.0,
}


class Gate:
    """A WSGI app whose requests stay in it until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside = 0
        self.most = 0
        self.lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.opened.wait(20)
        with self.lock:
            self.inside -= 1
        start_response("200 OK", [])
        return [b"done"]


class Call:
    """A request on a thread of its own."""

    def __init__(self, app: Any, path: str = "/v1/notes", **environ: Any) -> None:
        self.status, self.headers, self.body = "", {}, b""
        environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "REMOTE_ADDR": "192.0.2.1", **environ}
        self.thread = threading.Thread(target=self.run, args=[app, environ], daemon=True)
        self.thread.start()

    def run(self, app: Any, environ: dict[str, Any]) -> None:
        def start(status: str, headers: list[tuple[str, str]]) -> None:
            self.status, self.headers = status, dict(headers)

        self.body = b"".join(app(environ, start))

    def answered(self) -> "Call":
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def crowd(app: Admission, number: int, **environ: Any) -> list[Call]:
    return [Call(app, **environ) for _ in range(number)]


def patient(gate: Any, seconds: float = 20.0) -> Admission:
    return Admission(gate, SLOTS, {**SETTINGS, "ADMISSION_WAIT": seconds})


def test_no_more_are_at_work_than_there_are_slots_and_those_who_wait_come_next(gate: Gate) -> None:
    calls = crowd(patient(gate), SLOTS * (1 + QUEUE))
    assert until(lambda: gate.inside == SLOTS)
    gate.opened.set()
    assert [call.answered().status for call in calls] == ["200 OK"] * len(calls)
    assert gate.most == SLOTS


def test_when_all_places_to_wait_are_taken_the_next_is_refused_at_once(gate: Gate) -> None:
    app = patient(gate)
    waiting = crowd(app, SLOTS * (1 + QUEUE))
    assert until(lambda: app.queue.places.empty() and gate.inside == SLOTS)
    assert Call(app).answered().status == "503 Service Unavailable"
    gate.opened.set()
    assert {call.answered().status for call in waiting} == {"200 OK"}
    assert Call(app).answered().status == "200 OK"


def test_nobody_waits_longer_than_the_bound(gate: Gate) -> None:
    app = patient(gate, 0.05)
    at_work = crowd(app, SLOTS)
    assert until(lambda: gate.inside == SLOTS)
    assert Call(app).answered().status == "503 Service Unavailable"
    gate.opened.set()
    assert {call.answered().status for call in at_work} == {"200 OK"}


def test_a_refusal_is_a_problem_document_that_says_when_to_come_again(gate: Gate) -> None:
    app = patient(gate, 0.01)
    crowd(app, SLOTS)
    assert until(lambda: gate.inside == SLOTS)
    labels = {"method": "GET", "route": "refused", "status": "503"}
    before = REGISTRY.get_sample_value("madang_requests_total", labels) or 0
    named = Call(app, HTTP_X_REQUEST_ID="mine").answered()
    forged = Call(app, HTTP_X_REQUEST_ID='"},').answered()
    problem = json.loads(named.body)
    assert (problem["status"], problem["code"], problem["request_id"]) == (503, "overloaded", "mine")
    assert problem["type"] == "/docs/problems#overloaded"
    assert named.headers["Retry-After"] == "1"
    assert named.headers["Content-Type"] == "application/problem+json"
    assert named.headers["X-Request-ID"] == "mine"
    assert named.headers["X-Content-Type-Options"] == "nosniff"
    assert json.loads(forged.body)["request_id"] == forged.headers["X-Request-ID"]
    assert len(forged.headers["X-Request-ID"]) == 32
    assert REGISTRY.get_sample_value("madang_requests_total", labels) == before + 2


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/docs/problems", "/openapi.json"])
def test_what_the_service_tells_of_itself_has_room_of_its_own(gate: Gate, path: str) -> None:
    app = patient(gate)
    crowd(app, SLOTS * (1 + QUEUE))
    assert until(lambda: app.queue.places.empty() and gate.inside == SLOTS)
    calls = crowd(app, OWN_SLOTS, path=path)
    assert until(lambda: gate.inside == SLOTS + OWN_SLOTS)
    assert Call(app, path).answered().status == "503 Service Unavailable"
    gate.opened.set()
    assert {call.answered().status for call in calls} == {"200 OK"}


def test_a_request_that_fails_gives_its_slot_back() -> None:
    def fail(_environ: Any, _start: Any) -> Any:
        raise ArithmeticError

    app = Admission(fail, 1, SETTINGS)
    for _ in range(3):
        with pytest.raises(ArithmeticError):
            app({"PATH_INFO": "/", "REQUEST_METHOD": "GET"}, lambda *_: None)


class Pieces:
    """An answer in pieces."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"a", b"b"])

    def close(self) -> None:
        self.closed = True


def test_a_streamed_answer_holds_a_place_until_its_end_but_no_slot() -> None:
    given: list[Pieces] = []

    def stream(_environ: Any, start: Any) -> Pieces:
        start("200 OK", [])
        given.append(Pieces())
        return given[-1]

    app = Admission(stream, 1, SETTINGS)
    environ = {"PATH_INFO": "/", "REQUEST_METHOD": "GET", "REMOTE_ADDR": "192.0.2.1"}
    answers: list[Any] = [app(environ, lambda *_: None) for _ in range(QUEUE - 1)]
    beyond = Call(app).answered()
    assert (beyond.status, given[-1].closed) == ("503 Service Unavailable", True)
    assert b"".join(answers[0]) == b"ab"
    answers[0].close()
    assert given[0].closed
    assert Call(app).answered().body == b"ab"
    assert len(app.watch.waits) == len(answers)


class Body:
    """What Granian gives as the body: it blocks until as much is there as was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: int | None = None

    def read(self, size: int) -> bytes:
        self.asked = size
        return self.data[:size]


def echo(environ: dict[str, Any], start: Any) -> list[bytes]:
    start("200 OK", [])
    return [environ["wsgi.input"].read(100)]


@pytest.mark.parametrize(
    ("length", "data", "asked", "status", "seen"),
    [
        ("4", b"abcd", 4, "200 OK", b"abcd"),
        ("4", b"abc", 4, "408 Request Timeout", None),
        ("11", b"a" * 11, 100, "200 OK", b"a" * 11),
        (None, b"abcd", 11, "200 OK", b"abcd"),
        (None, b"a" * 99, 11, "200 OK", b"a" * 11),
    ],
    ids=["whole", "broken off", "too long is left to the app", "chunks", "chunks beyond the limit"],
)
def test_a_body_is_read_before_there_is_a_slot_for_it(
    length: str | None, data: bytes, asked: int, status: str, seen: bytes | None
) -> None:
    body = Body(data)
    how = {"HTTP_TRANSFER_ENCODING": "chunked"} if length is None else {"CONTENT_LENGTH": length}
    call = Call(Admission(echo, 1, SETTINGS), REQUEST_METHOD="POST", **how, **{"wsgi.input": body}).answered()
    assert (call.status, body.asked) == (status, asked)
    assert call.body == seen if seen is not None else json.loads(call.body)["code"] == "request_timeout"


class Unsent(Body):
    """A body that is still on its way."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.sent = threading.Event()

    def read(self, size: int) -> bytes:
        self.asked = size
        self.sent.wait(20)
        return super().read(size)


def body_of(call: str, body: Body, length: int) -> dict[str, Any]:
    return {"path": call, "REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(length), "wsgi.input": body}


def test_there_is_memory_for_so_many_large_bodies_at_once_and_no_more() -> None:
    app = Admission(echo, SLOTS, SETTINGS)
    push, large = f"{SYNC}notes", b"a" * 11
    bodies = [Unsent(large) for _ in range(LARGE_BODIES)]
    calls = [Call(app, **body_of(push, body, 11)) for body in bodies]
    assert until(lambda: all(body.asked for body in bodies))
    refused = Call(app, **body_of(push, Body(large), 11)).answered()
    assert (refused.status, json.loads(refused.body)["code"]) == ("503 Service Unavailable", "overloaded")
    assert Call(app, **body_of(push, Body(b"small"), 5)).answered().body == b"small"
    for body in bodies:
        body.sent.set()
    assert [call.answered().body for call in calls] == [large] * LARGE_BODIES
    assert Call(app, **body_of(push, Body(large), 11)).answered().body == large


def test_pushes_leave_half_of_the_slots_to_others(gate: Gate) -> None:
    app = Admission(gate, SLOTS, SETTINGS)
    (push,) = crowd(app, 1, path=f"{SYNC}notes", REQUEST_METHOD="POST")
    assert until(lambda: gate.inside == 1)
    (refused,) = crowd(app, 1, path=f"{SYNC}notes", REQUEST_METHOD="POST")
    assert json.loads(refused.answered().body)["code"] == "overloaded"
    others = crowd(app, 1)
    assert until(lambda: gate.inside == SLOTS)
    gate.opened.set()
    assert {call.answered().status for call in (push, *others)} == {"200 OK"}
    assert Call(app, f"{SYNC}notes", REQUEST_METHOD="POST").answered().status == "200 OK"


def test_a_pull_is_no_push(gate: Gate) -> None:
    crowd(Admission(gate, SLOTS, SETTINGS), SLOTS, path=f"{SYNC}notes")
    assert until(lambda: gate.inside == SLOTS)


def test_when_as_many_bodies_are_on_their_way_as_may_wait_the_next_is_refused() -> None:
    app = Admission(echo, SLOTS, SETTINGS)
    bodies = [Unsent(b"abcd") for _ in range(SLOTS * (QUEUE - 1))]
    calls = [Call(app, **body_of("/v1/notes", body, 4)) for body in bodies]
    assert until(lambda: all(body.asked for body in bodies))
    refused = Call(app, **body_of("/v1/notes", Body(b"abcd"), 4)).answered()
    assert json.loads(refused.body)["code"] == "overloaded"
    for body in bodies:
        body.sent.set()
    assert [call.answered().body for call in calls] == [b"abcd"] * len(calls)


def test_there_is_a_thread_for_everything_that_may_wait() -> None:
    assert threads(16) > 16 * (1 + QUEUE) + OWN_SLOTS


def test_an_app_behind_it_answers_as_without_it(app: Flask, test_settings: dict[str, Any]) -> None:
    client = app.test_client()
    plain = client.post("/auth", json={"username": "nobody", "password": "x"})
    client.application.wsgi_app, inner = Admission(app.wsgi_app, 1, test_settings), app.wsgi_app  # type: ignore[method-assign]
    try:
        admitted = client.post("/auth", json={"username": "nobody", "password": "x"})
        page = client.get("/docs/swagger-ui.css")
        assert page.status_code == 200
        page.close()
    finally:
        client.application.wsgi_app = inner  # type: ignore[method-assign]
    assert admitted.status_code == plain.status_code == 401
    assert admitted.json["code"] == plain.json["code"]
