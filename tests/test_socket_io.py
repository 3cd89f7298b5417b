"""Live events over Socket.IO, packet by packet: what a client is told, what is never told, and what is not taken."""

import json
import time
from typing import Any

import pytest

from service.core import metrics
from service.core.clock import now
from service.core.errors import FeedUnavailable
from service.documents import Session
from service.streams import engine, live
from service.streams.session_ids import process_tag
from tests.client import Person, Phone
from tests.conftest import Draining
from tests.streaming import Sent, Served, WebSocket
from tests.test_live import cursor_of, listen
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recorded")]

PATH = "/socket.io/"
WS = {"EIO": "4", "transport": "websocket"}
POLL = {"EIO": "4", "transport": "polling"}


class Caller:
    """A client over WebSocket."""

    def __init__(self, streams: Served, auth: Any = None, **headers: str) -> None:
        self.socket: WebSocket = streams.open(PATH, WS, **headers)
        self.asked = 0
        if auth is not None:
            self.socket.emit("40" + json.dumps(auth))

    @property
    def texts(self) -> list[str]:
        return [text[1:] for text in self.socket.texts if text.startswith("4")]

    def came(self, start: str) -> Any:
        """The content of the first packet that begins so, when it has come."""
        until(lambda: any(text.startswith(start) for text in self.texts))
        return json.loads(next(text for text in self.texts if text.startswith(start))[len(start) :] or "null")

    def ask(self, name: str, *given: Any) -> Any:
        """What an event is acknowledged with."""
        self.asked += 1
        self.socket.emit(f"42{self.asked}" + json.dumps([name, *given]))
        (answer,) = self.came(f"3{self.asked}")
        return answer

    def subscribe(self, subscribe: Any = None, **more: Any) -> str:
        asked = {**({} if subscribe is None else {"subscribe": subscribe}), **more}
        return str(self.ask("subscribe", asked)["id"])

    @property
    def events(self) -> list[tuple[str, Any]]:
        return [(name, data) for name, data in (json.loads(text[1:]) for text in self.texts if text[0] == "2")]

    @property
    def told(self) -> list[tuple[str, Any]]:
        items = [data["item"] for name, data in self.events if name == "change"]
        return [(item["id"], item.get("gone") or item["revision"]) for item in items]

    def caught_up(self) -> "Caller":
        until(lambda: "caught_up" in [name for name, _ in self.events])
        return self

    def hears(self, *told: tuple[str, Any]) -> None:
        until(lambda: len(self.told) >= len(told))
        time.sleep(0.1)
        assert self.told == list(told)


def auth_of(person: Person) -> dict[str, str]:
    return {"token": person.headers["Authorization"].removeprefix("Bearer ")}


def call(streams: Served, person: Person) -> Caller:
    """A client that is connected, of what was before having passed."""
    streams.app.following.barrier.passed()  # type: ignore[union-attr]
    found = Caller(streams, auth_of(person))
    assert found.came("0")["sid"]
    return found


def sessions(streams: Served) -> int:
    return len(streams.app.socket_io.engine.sessions)  # type: ignore[union-attr]


def is_forgotten(streams: Served) -> None:
    """Nothing is kept of anybody."""
    until(lambda: streams.waiting == 0 and sessions(streams) == 0, 10)
    found = streams.app.following.subscriptions  # type: ignore[union-attr]
    assert (found.by_key, found.by_session, found.counts) == ({}, {}, {})
    assert streams.app.socket_io.callers == {}  # type: ignore[union-attr]


# What is told


def test_what_is_made_changed_and_deleted_is_told(streams: Served, ada: Person, bob: Person) -> None:
    heard = call(streams, ada)
    own = heard.subscribe({"notes": {}})
    heard.caught_up()
    ada.make_note(id="one")
    bob.make_note(id="bobs")
    ada.make_notebook(id="book")
    until(lambda: heard.told == [("one", 1)])
    ada.delete("/v1/notes/one")
    heard.hears(("one", 1), ("one", "deleted"))
    (_, first) = next(event for event in heard.events if event[0] == "change")
    assert first.keys() == {"subscription", "cursor", "item"}
    assert (first["subscription"], first["item"]["type"], first["item"]["record"]["id"]) == (own, "notes", "one")
    assert ada.get("/v1/changes", query_string={"cursor": first["cursor"], "types": "notes"}).status_code == 200


def test_the_answer_comes_before_what_it_is_about(streams: Served, ada: Person) -> None:
    for number in range(3):
        ada.make_note(id=f"n{number}")
    cursor = ada.get("/v1/changes", query_string={"limit": 1}).json["cursor"]
    cursor_of(ada)
    heard = call(streams, ada)
    heard.subscribe(cursor=cursor)
    heard.caught_up()
    kinds = [text[0] for text in heard.texts]
    assert kinds == ["0", "3", "2", "2", "2"]
    assert heard.told == [("n1", 1), ("n2", 1)]


def test_subscriptions_have_their_own_conditions_and_places(streams: Served, ada: Person) -> None:
    heard = call(streams, ada)
    pinned, books = heard.subscribe({"notes": {"pinned": True}}), heard.subscribe({"notebooks": {}})
    until(lambda: len(heard.events) == 2)
    ada.make_note(id="plain")
    ada.make_note(id="pin", pinned=True)
    ada.make_notebook(id="book")
    heard.hears(("pin", 1), ("book", 1))
    changes = [data for name, data in heard.events if name == "change"]
    assert [data["subscription"] for data in changes] == [pinned, books]


def test_nothing_of_a_subscription_comes_after_its_end(streams: Served, ada: Person) -> None:
    heard = call(streams, ada)
    first, second = heard.subscribe({"notes": {}}), heard.subscribe({"notes": {}})
    assert heard.ask("unsubscribe", {"id": first}) == {}
    ada.make_note(id="one")
    heard.hears(("one", 1))
    assert [data["subscription"] for name, data in heard.events if name == "change"] == [second]
    assert heard.ask("unsubscribe", {"id": first})["code"] == "not_found"
    until(lambda: streams.waiting == 2)


def test_from_a_cursor_it_goes_on_and_one_too_old_is_told(streams: Served, ada: Person) -> None:
    from service.documents import Lease

    heard = call(streams, ada)
    heard.subscribe({"notes": {}})
    heard.caught_up()
    ada.make_note(id="one")
    heard.hears(("one", 1))
    cursor = heard.events[-1][1]["cursor"]
    ada.make_note(id="two")
    heard.hears(("one", 1), ("two", 1))
    again = call(streams, ada)
    again.subscribe({"notes": {}}, cursor=cursor)
    again.caught_up().hears(("two", 1))
    Lease._get_collection().update_one({"_id": "recorder"}, [{"$set": {"state.floor": "$state.seq"}}])
    late = call(streams, ada)
    late.subscribe({"notes": {}}, cursor=cursor)
    late.caught_up()
    assert [name for name, _ in late.events] == ["resync", "caught_up"]


# Who may listen


def test_who_does_not_say_who_it_is_is_refused(streams: Served) -> None:
    for auth in ({}, {"token": ""}, {"token": 1}, {"token": "nonsense"}, [], "x", {"ticket": "x"}):
        told = Caller(streams, auth).came("4")
        assert (told["data"]["status"], told["message"]) == (401, told["data"]["detail"])
    assert streams.waiting == 0


def test_a_session_that_ends_disconnects_within_a_second(streams: Served, ada: Person) -> None:
    heard = call(streams, ada)
    heard.subscribe({"notes": {}})
    begun = time.monotonic()
    Phone(ada.client, dict(ada.headers)).post("/auth/logout")
    until(lambda: "1" in heard.texts)
    assert time.monotonic() - begun < 1
    ada.log_in()
    ada.make_note(id="secret")
    cursor_of(ada)
    assert heard.texts[-1] == "1"
    assert streams.waiting == 0


def test_a_session_that_nobody_refreshes_ends_in_time(streams: Served, ada: Person) -> None:
    from datetime import timedelta

    Session._get_collection().update_many({}, {"$set": {"expires_at": now() + timedelta(seconds=1.5)}})
    heard = call(streams, ada)
    begun = time.monotonic()
    until(lambda: "1" in heard.texts)
    assert time.monotonic() - begun < 2.5


def test_a_session_that_ends_while_it_connects_is_refused(streams: Served, ada: Person) -> None:
    ada.get("/v1/accounts/me")
    Session._get_collection().delete_many({})
    assert Caller(streams, auth_of(ada)).came("4")["data"]["code"] == "not_authenticated"
    assert streams.waiting == 0


def test_a_right_that_is_withdrawn_ends_with_it(streams: Served, ada: Person, bob: Person) -> None:
    ada.make_note(id="one", readers=["role:team"])
    bob.set_roles("team")
    heard = call(streams, bob)
    heard.subscribe({"notes": {}})
    heard.caught_up()
    ada.patch("/v1/notes/one", {"title": "known"})
    heard.hears(("one", 2))
    bob.set_roles()
    ada.patch("/v1/notes/one", {"title": "secret"})
    heard.hears(("one", 2), ("one", "withdrawn"))
    assert "secret" not in "".join(heard.texts)


def test_a_page_of_another_origin_may_come_where_it_may_call_the_api(serve: Any, ada: Person) -> None:
    with serve(CORS_ORIGINS=["https://app.example.com"]) as streams:
        for origin in ("https://app.example.com", "https://own.example.com", "http://own.example.com"):
            assert Caller(streams, auth_of(ada), origin=origin, host="own.example.com").came("0")
        other = Caller(streams, auth_of(ada), origin="https://evil.example.com", host="own.example.com")
        until(lambda: other.socket.is_closed)
        assert [one["type"] for one in other.socket.messages] == ["websocket.close"]
        allowed = "access-control-allow-origin"
        good = streams.ask("GET", PATH, POLL, origin="https://app.example.com")
        assert (good.status, good.headers[allowed]) == (200, "https://app.example.com")
        assert allowed not in streams.ask("GET", PATH, POLL, origin="https://evil.example.com").headers
        asked = {"access_control_request_method": "POST", "access_control_request_headers": "content-type"}
        before = streams.ask("OPTIONS", PATH, POLL, origin="https://app.example.com", **asked)
        assert (before.status, before.headers["access-control-allow-headers"]) == (200, "content-type")


# Polling


class Poller:
    """A client that polls."""

    def __init__(self, streams: Served, auth: Any = None) -> None:
        self.streams = streams
        opened = streams.ask("GET", PATH, {**POLL, "t": "abc", "own": "parameter"})
        assert opened.headers["cache-control"] == "no-store"
        self.hello = json.loads(opened.body[1:])
        self.query = {**POLL, "sid": self.hello["sid"]}
        if auth is not None:
            assert self.send("40" + json.dumps(auth)).status == 200

    def send(self, *texts: str) -> Sent:
        return self.streams.post(PATH, self.query, "\x1e".join(texts).encode(), content_type="text/plain")

    def poll(self) -> list[str]:
        got = self.streams.ask("GET", PATH, self.query)
        assert got.status == 200, got.body
        return got.body.decode().split("\x1e")


def test_polling_is_told_the_same(streams: Served, ada: Person) -> None:
    poller = Poller(streams, auth_of(ada))
    assert poller.hello["upgrades"] == ["websocket"]
    assert poller.hello["maxPayload"] == engine.MOST_SENT
    assert poller.poll()[0].startswith("40{")
    assert poller.send('421["subscribe",{"subscribe":{"notes":{}}}]').body == b"OK"
    got = poller.poll()
    while not any("caught_up" in text for text in got):
        got += poller.poll()
    assert got[0] == '431[{"id":"1"}]'
    ada.make_note(id="one")
    (change,) = poller.poll()
    assert json.loads(change[2:])[1]["item"]["id"] == "one"


def test_polling_goes_over_to_websocket_and_misses_nothing(streams: Served, ada: Person) -> None:
    poller = Poller(streams, auth_of(ada))
    poller.send('421["subscribe",{}]')
    got = poller.poll()
    while not any("caught_up" in text for text in got):
        got += poller.poll()
    socket = streams.open(PATH, {**WS, "sid": poller.hello["sid"]})
    socket.emit("2probe")
    until(lambda: socket.texts == ["3probe"])
    ada.make_note(id="one")
    assert poller.poll()
    socket.emit("5")
    until(lambda: any('"one"' in text for text in socket.texts) or any('"one"' in text for text in got))
    ada.make_note(id="two")
    until(lambda: any('"two"' in text for text in socket.texts))
    socket.hang_up()
    is_forgotten(streams)


def test_a_session_is_polled_by_one_request_at_a_time(streams: Served, ada: Person) -> None:
    poller = Poller(streams, auth_of(ada))
    poller.poll()
    first = streams.begin("GET", PATH, poller.query)
    until(lambda: streams.app.socket_io.engine.sessions[poller.hello["sid"]].is_polled)  # type: ignore[union-attr]
    second = streams.ask("GET", PATH, poller.query)
    assert (second.status, second.json["code"]) == (400, "bad_request")
    assert first.result().status == 200
    is_forgotten(streams)


def test_where_a_door_has_found_this_process_its_sessions_say_so(streams: Served) -> None:
    tag = process_tag("10.0.0.3:8000")
    opened = streams.ask("GET", PATH, POLL, x_streams_address="10.0.0.3:8000")
    socket = streams.open(PATH, WS, x_streams_address="10.0.0.3:8000")
    until(lambda: socket.texts)
    for hello in (opened.body.decode(), socket.texts[0]):
        assert json.loads(hello[1:])["sid"].startswith(tag)
    assert not Poller(streams).hello["sid"].startswith(tag)


# Limits


def test_so_many_connections_of_an_account_and_no_more(serve: Any, ada: Person, bob: Person) -> None:
    with serve(LIVE_CONNECTIONS_ACCOUNT=2) as streams:
        first = call(streams, ada)
        listen(streams, ada)
        for _ in range(3):
            first.subscribe({"notes": {}})
        told = Caller(streams, auth_of(ada)).came("4")["data"]
        assert (told["status"], told["code"], told["retry_after"]) == (429, "too_many_requests", 1)
        call(streams, bob)
        first.socket.hang_up()
        until(lambda: streams.waiting == 2)
        call(streams, ada)


def test_so_many_subscriptions_and_no_more(serve: Any, ada: Person) -> None:
    with serve(LIVE_SUBSCRIPTIONS=2) as streams:
        heard = call(streams, ada)
        first = heard.subscribe({"notes": {}})
        heard.subscribe({"notebooks": {}})
        refused = heard.ask("subscribe", {"subscribe": {"notes": {}}})
        assert (refused["status"], refused["code"]) == (429, "too_many_requests")
        heard.ask("unsubscribe", {"id": first})
        heard.subscribe({"notes": {}})


def test_a_flood_is_told_to_wait_and_then_cut_off(streams: Served, ada: Person) -> None:
    heard = call(streams, ada)
    for number in range(100, 100 + engine.FLOOD + 5):
        heard.socket.emit(f'42{number}["subscribe",{{"subscribe":{{"nothing":{{}}}}}}]')
    until(lambda: heard.socket.is_closed)
    told = [json.loads(text[4:])[0]["status"] for text in heard.texts if text[0] == "3"]
    assert told[:50] == [400] * 50
    assert told[-1] == 429
    is_forgotten(streams)


def test_so_many_sessions_and_no_more(serve: Any, ada: Person) -> None:
    with serve(LIVE_CONNECTIONS=2) as streams:
        pollers = [Poller(streams) for _ in range(2)]
        sent = streams.ask("GET", PATH, POLL)
        assert (sent.status, sent.json["code"]) == (503, "overloaded")
        socket = streams.open(PATH, WS)
        until(lambda: socket.is_closed)
        assert socket.messages[0]["type"] == "websocket.close"
        pollers[0].send("1")
        until(lambda: sessions(streams) == 1)
        Poller(streams)


def test_who_never_says_who_it_is_goes(streams: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CONNECT_WITHIN", 0.1)
    monkeypatch.setattr("service.streams.app.SWEEP_EVERY", 0.1)
    Poller(streams)
    socket = streams.open(PATH, WS)
    other = Caller(streams, {"token": "x"})
    is_forgotten(streams)
    until(lambda: socket.is_closed and other.socket.is_closed)


def test_who_answers_no_ping_goes(streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PONG_WITHIN", 0.2)
    monkeypatch.setattr("service.streams.app.SWEEP_EVERY", 0.1)
    monkeypatch.setattr(streams.app.socket_io.engine.server, "ping_interval", 0.1)  # type: ignore[union-attr]
    heard = call(streams, ada)
    poller = Poller(streams, auth_of(ada))
    until(lambda: "2" in heard.socket.texts)
    is_forgotten(streams)
    until(lambda: heard.socket.is_closed)
    assert streams.ask("GET", PATH, poller.query).status == 400


def test_who_does_not_read_is_cut_off_and_not_kept_for(serve: Any, ada: Person) -> None:
    with serve(CLIENT_TIMEOUT=2.0) as streams:
        heard = call(streams, ada)
        heard.subscribe({"notes": {}})
        heard.caught_up()
        cut = metrics.CUT_OFF._value.get()
        place = heard.events[-1][1]["cursor"]
        heard.socket.stop_reading()
        for number in range(30):
            ada.make_note(id=f"n{number}", body="x" * 50_000)
        (kept,) = [one for one in streams.app.following.subscriptions.all if isinstance(one, live.Live)]  # type: ignore[union-attr]
        until(lambda: kept.is_behind)
        assert kept.queued < live.MOST_QUEUED + 60_000
        is_forgotten(streams)
        assert metrics.CUT_OFF._value.get() == cut + 1
        again = call(streams, ada)
        again.subscribe({"notes": {}}, cursor=place)
        again.caught_up()
        assert [id for id, _ in again.told] == [f"n{number}" for number in range(30)]


def test_who_polls_no_more_is_cut_off_and_not_kept_for(serve: Any, ada: Person) -> None:
    with serve(CLIENT_TIMEOUT=1.0) as streams:
        for _ in range(5):
            poller = Poller(streams, auth_of(ada))
            poller.send('421["subscribe",{}]')
        for number in range(12):
            ada.make_note(id=f"n{number}", body="x" * 50_000)
        kept = [streams.app.socket_io.engine.socket(id) for id in streams.app.socket_io.callers]  # type: ignore[union-attr]
        until(lambda: all(sum(len(str(one.data)) for one in socket.queue._queue) < 700_000 for socket in kept))
        is_forgotten(streams)


def test_when_the_server_drains_all_end_and_may_come_again(streams: Served, ada: Person, draining: Draining) -> None:
    heard, poller = call(streams, ada), Poller(streams, auth_of(ada))
    poller.poll()
    waiting = streams.begin("GET", PATH, poller.query)
    draining.now = True
    until(lambda: heard.socket.is_closed, 2)
    assert heard.socket.texts[-1] == "1"
    assert waiting.result(2).body == b"1"
    is_forgotten(streams)


def test_a_subscription_that_cannot_go_on_ends_its_connection(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise FeedUnavailable("nobody records")

    heard = call(streams, ada)
    heard.subscribe({"notes": {}})
    heard.caught_up()
    monkeypatch.setattr(live.Live, "listen", fail)
    ada.set_roles("editor")
    until(lambda: heard.socket.is_closed)
    assert "1" not in heard.texts
    is_forgotten(streams)


# What is not taken


MALFORMED: dict[str, str | bytes] = {
    "bytes": b"\x00\x01",
    "nothing": "",
    "no packet": "hello",
    "open": '0{"sid":"x"}',
    "ping": "2",
    "noop": "6",
    "base64": "bAAAA",
    "no kind": "4",
    "acknowledgement": "431[]",
    "error": "44{}",
    "binary event": '451-["subscribe",{"_placeholder":true,"num":0}]',
    "many attachments": '45999999999-["x"]',
    "no JSON": '42["subscribe",',
    "no list": '42{"a":1}',
    "empty list": "42[]",
    "no name": "42[1]",
    "deep": "42" + "[" * 5000 + "]" * 5000,
    "deep message": "4" + "[" * 5000,
    "long id": "42" + "9" * 50 + '["subscribe"]',
    "NUL": '42["\\u0000"]',
    "surrogate": '42["\ud800"]',
    "another namespace": '42/admin,["subscribe",{}]',
    "a long namespace": "40/" + "x" * 1000 + ",",
    "connected already": '40{"token":"x"}',
    "huge": '42["subscribe","' + "x" * engine.MOST_SENT + '"]',
}


def test_what_no_client_sends_ends_the_connection(
    streams: Served, ada: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    other = call(streams, ada)
    for text in MALFORMED.values():
        heard = call(streams, ada)
        heard.socket.emit(text)
        until(lambda heard=heard: heard.socket.is_closed)
        until(lambda: sessions(streams) == 1)
    assert not other.socket.is_closed
    assert "Traceback" not in capsys.readouterr().out


def test_nor_does_polling_take_it(streams: Served, ada: Person, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {kind: text for kind, text in MALFORMED.items() if isinstance(text, str) and kind != "surrogate"}
    payloads = {"no UTF-8": b"\xff", "many packets": b"\x1e".join([b"3"] * 17), "JSONP": b"d=3"}
    for kind, body in {**{kind: text.encode() for kind, text in texts.items()}, **payloads}.items():
        poller = Poller(streams, auth_of(ada))
        sent = streams.post(PATH, poller.query, body)
        if kind == "huge":
            assert (sent.status, sent.json["code"]) == (413, "too_large")
            poller.send("1")
        until(lambda: sessions(streams) == 0)
        assert streams.ask("GET", PATH, poller.query).status == 400, kind
    is_forgotten(streams)
    assert "Traceback" not in capsys.readouterr().out


WRONG_EVENTS: list[tuple[list[Any], str]] = [
    (["connect", {}, {}], "not_found"),
    (["disconnect", "x"], "not_found"),
    (["message"], "not_found"),
    (["subscribe"], "bad_parameter"),
    (["subscribe", {}, {}], "bad_parameter"),
    (["subscribe", "notes"], "bad_parameter"),
    (["subscribe", {"where": {}}], "bad_parameter"),
    (["subscribe", {"subscribe": []}], "bad_parameter"),
    (["subscribe", {"subscribe": {"nothing": {}}}], "bad_parameter"),
    (["subscribe", {"subscribe": {"notes": {"owner_id": 1}}}], "bad_query"),
    (["subscribe", {"cursor": 1}], "bad_parameter"),
    (["subscribe", {"cursor": "x"}], "bad_parameter"),
    (["unsubscribe", {}], "not_found"),
    (["unsubscribe", {"id": ["1"]}], "not_found"),
]


def test_what_cannot_be_asked_is_answered_with_a_problem(streams: Served, ada: Person) -> None:
    heard = call(streams, ada)
    for content, code in WRONG_EVENTS:
        assert heard.ask(*content)["code"] == code, content
    assert streams.waiting == 1


def test_there_is_one_namespace(streams: Served, ada: Person) -> None:
    heard = call(streams, ada)
    heard.socket.emit("40/admin,{}")
    assert heard.came("4/admin,") == {"message": "Invalid namespace"}
    heard.subscribe({"notes": {}})


NO_ENGINE_IO: list[dict[str, str]] = [
    {**POLL, "j": "0"},
    {"EIO": "3", "transport": "polling"},
    {"EIO": "4", "transport": "smoke"},
    {**POLL, "sid": "unknown"},
    WS,
]


def test_what_is_no_engine_io_is_refused(streams: Served) -> None:
    for query in NO_ENGINE_IO:
        sent = streams.ask("GET", PATH, query)
        assert (sent.status, sent.json["code"]) == (400, "bad_request")
        assert streams.post(PATH, {**query, "sid": "x"}, b"3").status == 400
        assert streams.ask("HEAD", PATH, query).status == 400
    assert sessions(streams) == 0


def test_other_websockets_are_refused(streams: Served) -> None:
    for path, query in (("/v1/live", {}), ("/", WS), (PATH, {**WS, "sid": "unknown"})):
        socket = streams.open(path, query)
        until(lambda socket=socket: socket.is_closed)
        assert socket.messages[0]["type"] == "websocket.close"


def test_no_token_is_logged(streams: Served, ada: Person, capsys: pytest.CaptureFixture[str]) -> None:
    heard = call(streams, ada)
    heard.socket.emit("hello" + auth_of(ada)["token"])
    until(lambda: heard.socket.is_closed)
    text = "".join(capsys.readouterr())
    assert auth_of(ada)["token"] not in text
    assert '"/socket.io"' in text
