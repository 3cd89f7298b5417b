"""Pulls that wait, answered by the streams while the API writes and a recorder records."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from service.changes.tail import HistoryLost
from service.core import metrics
from service.core.log import Lines
from service.documents import Session
from service.mongo import connection
from service.streams.app import Streams
from tests.client import Person
from tests.conftest import Draining
from tests.recording import Recording
from tests.streaming import Exchange, Sent, Served, served
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = pytest.mark.real

ORIGIN = "https://app.example.com"


def pull(streams: Served, person: Person, **query: Any) -> Exchange:
    return streams.begin("GET", "/v1/changes", query, **person.headers)


def cursor_of(person: Person) -> str:
    """The end of what there is."""
    answer = person.get("/v1/changes", query_string={"limit": 1000})
    assert not answer.json["more"]
    return str(answer.json["cursor"])


def waits(streams: Served, number: int = 1) -> None:
    until(lambda: streams.waiting == number)
    time.sleep(0.05)


def ids(sent: Sent) -> list[str]:
    assert sent.status == 200, sent.json
    return [item["id"] for item in sent.json["items"]]


@pytest.mark.usefixtures("recorded")
def test_what_is_there_is_answered_at_once(streams: Served, ada: Person) -> None:
    ada.make_note(id="one")
    begun = time.monotonic()
    sent = pull(streams, ada, wait=25).result()
    assert (ids(sent), time.monotonic() - begun < 5) == (["one"], True)
    assert sent.json == ada.get("/v1/changes").json
    assert streams.waiting == 0


@pytest.mark.usefixtures("recorded")
def test_it_is_answered_as_soon_as_there_is_something_new(streams: Served, ada: Person) -> None:
    waiting = pull(streams, ada, wait=25, cursor=cursor_of(ada))
    waits(streams)
    assert not waiting.done.done()
    begun = time.monotonic()
    ada.make_note(id="one")
    assert ids(waiting.result()) == ["one"]
    assert time.monotonic() - begun < 2


@pytest.mark.usefixtures("recorded")
def test_when_its_time_is_over_it_is_answered_with_nothing_and_a_cursor(streams: Served, ada: Person) -> None:
    begun = time.monotonic()
    sent = pull(streams, ada, wait=1, cursor=cursor_of(ada)).result()
    assert ids(sent) == []
    assert 0.9 < time.monotonic() - begun < 5
    ada.make_note(id="one")
    assert ids(pull(streams, ada, wait=5, cursor=sent.json["cursor"]).result()) == ["one"]


@pytest.mark.usefixtures("recorded")
def test_it_is_not_woken_by_what_does_not_concern_it(streams: Served, ada: Person, bob: Person) -> None:
    ada.make_note(id="one")
    of_notebooks = pull(streams, ada, wait=25, types="notebooks", cursor=cursor_of_types(ada, "notebooks"))
    waits(streams)
    (waiting,) = streams.app.following.subscriptions.all
    looks: list[Any] = []
    waiting.tell = looks.append  # type: ignore[method-assign]
    bob.make_notebook(id="bobs")
    ada.make_note(id="two")
    time.sleep(0.5)
    assert looks == []
    del waiting.tell
    ada.make_notebook(id="book")
    assert ids(of_notebooks.result()) == ["book"]


def cursor_of_types(person: Person, types: str) -> str:
    return str(person.get("/v1/changes", query_string={"types": types}).json["cursor"])


@pytest.mark.usefixtures("recorded")
def test_a_grant_a_withdrawal_and_a_role_wake_it(streams: Served, ada: Person, bob: Person) -> None:
    ada.make_note(id="given")
    ada.make_note(id="team", readers=["role:team"])

    def next_items(cause: Callable[[], Any]) -> list[Any]:
        waiting = pull(streams, bob, wait=25, cursor=cursor_of(bob))
        waits(streams)
        cause()
        return [(item["id"], item.get("gone")) for item in waiting.result().json["items"]]

    assert next_items(lambda: ada.patch("/v1/notes/given", {"readers": [bob.id]})) == [("given", None)]
    assert next_items(lambda: ada.patch("/v1/notes/given", {"readers": []})) == [("given", "withdrawn")]
    assert next_items(lambda: bob.set_roles("team")) == [("team", None)]
    assert next_items(lambda: ada.patch("/v1/notes/team", {"title": "x"})) == [("team", None)]
    assert next_items(lambda: bob.set_roles()) == [("team", "withdrawn")]


@pytest.mark.usefixtures("recorded")
def test_waiting_asks_mongodb_nothing_and_takes_no_thread(serve: Any, ada: Person) -> None:
    cursor = cursor_of(ada)
    with serve(LIVE_CONNECTIONS_ACCOUNT=500) as streams:
        all_waiting = [pull(streams, ada, wait=25, cursor=cursor) for _ in range(300)]
        until(lambda: streams.waiting == 300)
        until(lambda: not any(thread_works() for _ in range(3)))
        asked = commands()
        threads = threading.active_count()
        time.sleep(1.5)
        # The reader and the recorder look once a second, and there may be a look that began before.
        assert commands() - asked <= 8
        assert threading.active_count() == threads
        ada.make_note(id="one")
        assert all(ids(one.result(30)) == ["one"] for one in all_waiting)


def thread_works() -> bool:
    before = commands()
    time.sleep(0.1)
    return commands() - before > 2


def commands() -> float:
    """How many commands this process has sent to MongoDB."""
    return sum(
        sample.value
        for metric in metrics.DATABASE.collect()
        for sample in metric.samples
        if sample.name.endswith("_count")
    )


@pytest.mark.usefixtures("recorded")
def test_a_client_that_hangs_up_is_not_waited_for(streams: Served, ada: Person) -> None:
    waiting = pull(streams, ada, wait=25, cursor=cursor_of(ada))
    waits(streams)
    waiting.hang_up()
    until(lambda: streams.waiting == 0, 2)
    waiting.done.result(2)
    assert waiting.messages == []


@pytest.mark.usefixtures("recorded")
def test_a_session_that_ends_ends_the_wait(streams: Served, ada: Person) -> None:
    waiting = pull(streams, ada, wait=25, cursor=cursor_of(ada))
    waits(streams)
    begun = time.monotonic()
    ada.post("/auth/logout")
    sent = waiting.result()
    assert (sent.status, sent.json["code"], time.monotonic() - begun < 1) == (401, "not_authenticated", True)


@pytest.mark.usefixtures("recorded")
def test_when_the_server_drains_all_are_answered_in_time(streams: Served, ada: Person, draining: Draining) -> None:
    cursor = cursor_of(ada)
    all_waiting = [pull(streams, ada, wait=25, cursor=cursor) for _ in range(5)]
    waits(streams, 5)
    begun = time.monotonic()
    draining.now = True
    for one in all_waiting:
        sent = one.result(2)
        assert (ids(sent), sent.headers["connection"]) == ([], "close")
    assert time.monotonic() - begun < 1
    assert ids(pull(streams, ada, wait=25, cursor=cursor).result(2)) == []


@pytest.mark.usefixtures("recorded")
def test_so_many_wait_and_no_more(serve: Any, ada: Person, bob: Person) -> None:
    cursor = cursor_of(ada)
    with serve(LIVE_CONNECTIONS=3, LIVE_CONNECTIONS_ACCOUNT=2) as streams:
        first = [pull(streams, ada, wait=25, cursor=cursor) for _ in range(2)]
        waits(streams, 2)
        sent = pull(streams, ada, wait=25, cursor=cursor).result()
        assert (sent.status, sent.json["code"], sent.headers["retry-after"]) == (429, "too_many_requests", "1")
        pull(streams, bob, wait=25, cursor=cursor_of(bob))
        waits(streams, 3)
        sent = pull(streams, bob, wait=25, cursor=cursor_of(bob)).result()
        assert (sent.status, sent.json["code"], sent.headers["retry-after"]) == (503, "overloaded", "1")
        first[0].hang_up()
        until(lambda: streams.waiting == 2)
        ada.make_note(id="one")
        assert ids(pull(streams, ada, wait=25, cursor=cursor).result()) == ["one"]


# What is refused


def test_without_a_good_token_nobody_waits(streams: Served, ada: Person) -> None:
    for header in ({}, {"Authorization": "Bearer x"}):
        sent = streams.ask("GET", "/v1/changes", "wait=25", **header)
        assert (sent.status, sent.json["code"]) == (401, "not_authenticated")
        assert sent.headers["www-authenticate"].startswith("Bearer")
    Session._get_collection().delete_many({})
    assert pull(streams, ada, wait=25).result().status == 401
    assert streams.waiting == 0


@pytest.mark.parametrize(
    "query", ["since=1&wait=0", "wait=26", "wait=x", "wait=1&wait=2", "cursor=x&wait=1", "limit=0&wait=0"]
)
def test_what_is_wrong_is_refused_as_in_the_api(streams: Served, ada: Person, query: str) -> None:
    sent, answer = streams.ask("GET", "/v1/changes", query, **ada.headers), ada.get(f"/v1/changes?{query}")
    assert (sent.status, sent.headers["content-type"]) == (400, "application/problem+json")
    assert without_id(sent.json) == without_id(answer.json)


def without_id(problem: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "request_id"}


def test_a_body_and_another_method_are_refused(streams: Served, ada: Person) -> None:
    sent = streams.ask("GET", "/v1/changes", "wait=0", content_length="2", **ada.headers)
    assert (sent.status, sent.json["detail"]) == (400, "this takes no body")
    sent = streams.ask("POST", "/v1/changes", **ada.headers)
    assert (sent.status, sent.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("origins", [[ORIGIN], [ORIGIN, "https://other.example"], "*", []], ids=str)
@pytest.mark.parametrize("origin", [ORIGIN, ORIGIN.upper(), "https://evil.example", "null"])
@pytest.mark.parametrize("wanted", ["GET", "TRACE", None])
def test_pages_of_other_origins_are_told_what_the_api_tells_them(
    serve: Any, make_app: Any, origins: Any, origin: str, wanted: str | None
) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Headers": "x-b, Authorization"}
    headers |= {"Access-Control-Request-Method": wanted} if wanted else {}
    api = make_app(CORS_ORIGINS=origins).test_client()
    with serve(CORS_ORIGINS=origins) as streams:
        for method in ("OPTIONS", "GET"):
            answer = api.open("/v1/changes", method=method, headers=headers)
            sent = streams.ask(method, "/v1/changes", **headers)
            assert (sent.status, told(sent.headers)) == (answer.status_code, told(dict(answer.headers)))


def told(headers: dict[str, str]) -> dict[str, set[str]]:
    """What a page of another origin is told, whatever the order."""
    lower = {name.lower(): set(text.split(", ")) for name, text in headers.items()}
    return {name: words for name, words in lower.items() if name.startswith(("access", "vary", "allow"))}


# What it tells of itself


@pytest.mark.usefixtures("recorded")
def test_it_is_counted_and_has_one_line(serve: Any, ada: Person, capsys: pytest.CaptureFixture[str]) -> None:
    with serve(LOG_LEVEL="INFO", LOG_JSON=True) as streams:
        before = counted()
        capsys.readouterr()
        pull(streams, ada, wait=0).result()
        assert counted() - before == 1
        out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if '"event":"request"' in line]
    for part in ('"method":"GET"', '"route":"/v1/changes?wait"', '"status":200', f'"account":"{ada.id}"'):
        assert part in line
    assert "token" not in line.lower()


def counted() -> float:
    return metrics.requests_of("GET", "/v1/changes?wait", 200)._value.get()


def test_head_waits_too_and_has_no_body(streams: Served, ada: Person, recorded: None) -> None:
    sent = streams.ask("HEAD", "/v1/changes", "wait=0", **ada.headers)
    assert (sent.status, sent.body, int(sent.headers["content-length"]) > 0) == (200, b"", True)


# When MongoDB does not answer


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize(
    "error", [AutoReconnect("gone"), HistoryLost("rolled over"), ZeroDivisionError("a bug")], ids=repr
)
def test_what_happens_while_the_reader_is_cut_off_wakes_it_later(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    waiting = pull(streams, ada, wait=25, cursor=cursor_of(ada))
    waits(streams)
    reader = streams.app.following.reader
    assert reader is not None
    step, cut = reader.step, threading.Event()

    def broken() -> None:
        if not cut.is_set():
            time.sleep(0.05)
            raise error
        step()

    monkeypatch.setattr(reader, "step", broken)
    until(lambda: reader.tail is None)
    ada.make_note(id="one")
    time.sleep(0.3)
    assert not waiting.done.done()
    cut.set()
    assert ids(waiting.result()) == ["one"]


def test_without_mongodb_it_is_told(test_settings: dict[str, Any], draining: Draining, ada: Person) -> None:
    class Broken:
        def current_identity(self, _: Any) -> None:
            raise AutoReconnect("gone")

        def __getattr__(self, name: str) -> Any:
            return getattr(security, name)

    app = Streams(test_settings, REGISTRY, draining, {}, Lines(test_settings))
    with served(app) as streams:
        following = app.following
        assert following is not None
        security = following.security
        following.security = Broken()  # type: ignore[assignment]
        from service.streams.pulls import Pulls
        from service.streams.router import Route, Router

        app.router = Router([Route("GET", "/v1/changes", Pulls(following).answer, frozenset({"wait"}))])
        sent = pull(streams, ada, wait=5).result()
        assert (sent.status, sent.json["code"]) == (503, "database_unavailable")


def test_changes_of_one_transaction_come_together_and_in_their_order(
    app: Flask, test_settings: dict[str, Any], recording: Recording, ada: Person
) -> None:
    """Also where they do not fit into one batch of MongoDB's."""
    from service.changes import tail
    from service.changes.reader import Heard, OrderReader

    heard: list[Heard] = []
    client: MongoClient[Any] = connection.stream_client(test_settings)
    reader = OrderReader(client, heard.append)
    reader.open()
    for number in range(7):
        ada.make_note(id=f"n{number}")
    with pytest.MonkeyPatch.context() as patch:
        recording.catch_up()
        patch.setattr(tail, "BATCH", 2)
        until(lambda: (reader.step(), sum(len(one.changes) for one in heard) >= 7)[1])
    reader.close()
    client.close()
    numbers = [[change["seq"] for change in one.changes] for one in heard if one.changes]
    assert len(numbers) == 1 or sum(map(len, numbers)) == 7
    flat = [number for one in numbers for number in one]
    assert flat == sorted(flat)
