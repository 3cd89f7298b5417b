"""Live events over SSE: what a client is told while the API writes, and what it is never told."""

import json
import threading
import time
from typing import Any

import pytest
from flask import Flask

from service.core import metrics
from service.core.clock import now
from service.core.errors import FeedUnavailable
from service.documents import Lease, Note, Session, Ticket
from service.identity.deletion import delete_account
from service.streams import live, sse
from tests.client import Person, Phone
from tests.conftest import Draining
from tests.recording import Recording
from tests.streaming import Exchange, Sent, Served
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recorded")]


class Listener:
    """A client that reads live events."""

    def __init__(self, streams: Served, person: Person, subscribe: Any = None, **more: Any) -> None:
        headers = {**person.headers, **more.pop("headers", {})}
        query = {**({} if subscribe is None else {"subscribe": json.dumps(subscribe)}), **more}
        self.exchange: Exchange = streams.begin("GET", "/v1/live", query, **headers)
        until(lambda: self.exchange.messages or self.exchange.done.done())
        self.exchange.done.done() and self.exchange.done.result()
        assert self.exchange.messages[0]["status"] == 200, Sent(self.exchange.messages).json

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in list(self.exchange.messages)).decode()

    @property
    def events(self) -> list[dict[str, str]]:
        """All events, as the standard reads them."""
        found = []
        for block in self.text.split("\n\n")[:-1]:
            members = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
            if "data" in members:
                found.append(members)
        return found

    @property
    def changes(self) -> list[Any]:
        """The items of the changes."""
        return [json.loads(event["data"]) for event in self.events if event["event"] == "change"]

    @property
    def told(self) -> list[tuple[str, Any]]:
        return [(item["id"], item.get("gone") or item["revision"]) for item in self.changes]

    @property
    def last_id(self) -> str:
        return [line[4:] for line in self.text.split("\n") if line.startswith("id: ")][-1]

    def caught_up(self) -> "Listener":
        until(lambda: "caught_up" in [event["event"] for event in self.events])
        return self

    def hears(self, *told: tuple[str, Any]) -> None:
        """It is told these, and no more."""
        until(lambda: len(self.told) >= len(told))
        time.sleep(0.1)
        assert self.told == list(told)

    def ended(self, seconds: float = 5) -> bool:
        self.exchange.done.result(seconds)
        return not self.exchange.messages[-1].get("more_body")


def listen(streams: Served, person: Person, subscribe: Any = None, **more: Any) -> Listener:
    """A client that is told of what happens from now on: what was before has its place in the order."""
    assert streams.app.following is not None
    streams.app.following.barrier.passed()
    return Listener(streams, person, subscribe, **more).caught_up()


def cursor_of(person: Person, types: str | None = None) -> str:
    named = {"limit": 1000, **({"types": types} if types else {})}
    answer = person.get("/v1/changes", query_string=named)
    assert not answer.json["more"]
    return str(answer.json["cursor"])


# What is told


def test_what_is_made_changed_and_deleted_is_told_as_it_happens(streams: Served, ada: Person) -> None:
    ada.make_note(id="before")
    heard = listen(streams, ada, {"notes": {}})
    ada.make_note(id="one", title="a")
    ada.patch("/v1/notes/one", {"title": "b"})
    ada.make_notebook(id="book")
    ada.delete("/v1/notes/before")
    until(lambda: ("before", "deleted") in heard.told)
    assert heard.told[-1] == ("before", "deleted")
    assert ("one", 2) in heard.told
    assert {item["type"] for item in heard.changes} == {"notes"}
    assert heard.changes[-2]["record"] == ada.get("/v1/notes/one").json
    headers = {name.decode(): text.decode() for name, text in heard.exchange.messages[0]["headers"]}
    assert headers["content-type"] == "text/event-stream"
    assert headers["cache-control"] == "no-store"


def test_without_subscribe_all_types_are_followed(streams: Served, ada: Person) -> None:
    heard = listen(streams, ada)
    ada.make_notebook(id="book")
    ada.make_note(id="one")
    heard.hears(("book", 1), ("one", 1))


def test_others_hear_nothing(streams: Served, ada: Person, bob: Person) -> None:
    heard = listen(streams, bob)
    ada.make_note(id="one")
    ada.delete("/v1/notes/one")
    bob.make_note(id="mine")
    heard.hears(("mine", 1))


def test_a_grant_and_its_withdrawal_are_told_and_nothing_after_it(streams: Served, ada: Person, bob: Person) -> None:
    ada.make_note(id="one")
    heard = listen(streams, bob)
    ada.patch("/v1/notes/one", {"readers": [bob.id]})
    heard.hears(("one", 2))
    ada.patch("/v1/notes/one", {"readers": []})
    heard.hears(("one", 2), ("one", "withdrawn"))
    ada.patch("/v1/notes/one", {"title": "secret"})
    ada.delete("/v1/notes/one")
    heard.hears(("one", 2), ("one", "withdrawn"))
    assert "secret" not in heard.text


def test_a_role_brings_what_it_may_read_and_takes_it(streams: Served, ada: Person, bob: Person) -> None:
    for number in range(3):
        ada.make_note(id=f"n{number}", readers=["role:team"])
    heard = listen(streams, bob)
    bob.set_roles("team")
    heard.hears(("n0", 1), ("n1", 1), ("n2", 1))
    ada.patch("/v1/notes/n0", {"title": "x"})
    until(lambda: heard.told[-1] == ("n0", 2))
    bob.set_roles()
    until(lambda: len(heard.told) == 7)
    assert {("n0", "withdrawn"), ("n1", "withdrawn"), ("n2", "withdrawn")} == set(heard.told[4:])
    ada.patch("/v1/notes/n0", {"title": "secret"})
    bob.make_note(id="mine")
    until(lambda: heard.told[-1] == ("mine", 1))
    assert len(heard.told) == 8


def test_an_account_that_goes_takes_its_records(app: Flask, streams: Served, ada: Person, bob: Person) -> None:
    ada.make_note(id="one", readers=[bob.id])
    heard = listen(streams, bob)
    with app.app_context():
        delete_account(REGISTRY, ada.id)
    heard.hears(("one", "deleted"))


def test_a_where_narrows_it(streams: Served, ada: Person) -> None:
    ada.make_note(id="old", pinned=True)
    heard = listen(streams, ada, {"notes": {"pinned": True, "priority": {"$gte": 2}}, "notebooks": {"title": "x"}})
    ada.make_note(id="plain")
    ada.make_note(id="fits", pinned=True, priority=3)
    ada.patch("/v1/notes/plain", {"pinned": True, "priority": 2})
    until(lambda: {("fits", 1), ("plain", 2)} == set(heard.told))
    ada.patch("/v1/notes/fits", {"pinned": False})
    ada.patch("/v1/notes/fits", {"title": "still not"})
    ada.patch("/v1/notes/fits", {"pinned": True})
    until(lambda: heard.told[-1] == ("fits", 4))
    # What was told once is not told again, though others may be overtaken on the way.
    assert [gone for id, gone in heard.told if id == "fits" and isinstance(gone, str)] in (["unmatched"], [])
    ada.make_notebook(id="x", title="x")
    until(lambda: heard.told[-1] == ("x", 1))


def test_what_no_longer_fits_is_told(streams: Served, ada: Person) -> None:
    ada.make_note(id="one", pinned=True)
    heard = listen(streams, ada, {"notes": {"pinned": True}})
    ada.patch("/v1/notes/one", {"pinned": False})
    heard.hears(("one", "unmatched"))
    for title in "abc":
        ada.patch("/v1/notes/one", {"title": title})
    ada.delete("/v1/notes/one")
    heard.hears(("one", "unmatched"), ("one", "deleted"))


@pytest.mark.parametrize("where", [{}, {"pinned": False}])
def test_what_cannot_be_told_is_left_out_until_it_is_mended(streams: Served, ada: Person, where: Any) -> None:
    ada.make_note(id="one")
    heard, begun = listen(streams, ada, {"notes": where}), cursor_of(ada, "notes")
    Note._get_collection().update_one({"_id": "one"}, {"$set": {"due": "soon"}})
    assert ada.patch("/v1/notes/one", {"title": "new"}).status_code == 204
    ada.make_note(id="two")
    heard.hears(("two", 1))
    late = Listener(streams, ada, {"notes": where}, cursor=begun).caught_up()
    assert late.told == [("two", 1)]
    assert ada.patch("/v1/notes/one", {"due": None}).status_code == 200
    for listener in (heard, late):
        listener.hears(("two", 1), ("one", 3))


# Where it begins, and goes on


def test_from_a_cursor_it_goes_on_without_a_gap(streams: Served, ada: Person) -> None:
    ada.make_note(id="one")
    cursor = cursor_of(ada)
    ada.make_note(id="two")
    ada.delete("/v1/notes/one")
    cursor_of(ada)
    heard = listen(streams, ada, cursor=cursor)
    assert heard.told == [("two", 1), ("one", "deleted")]
    assert [event["event"] for event in heard.events] == ["change", "change", "caught_up"]
    ada.make_note(id="three")
    heard.hears(("two", 1), ("one", "deleted"), ("three", 1))


def test_every_id_is_a_place_to_go_on_from(serve: Any, ada: Person) -> None:
    with serve() as streams:
        start = cursor_of(ada)
        heard = listen(streams, ada, cursor=start)
        for number in range(5):
            ada.make_note(id=f"n{number}")
        until(lambda: len(heard.told) == 5)
        ids = [event["id"] for event in heard.events if event["event"] == "change"]
    with serve() as another:
        for number, last in enumerate(ids):
            again = listen(another, ada, cursor=start, headers={"Last_Event_ID": last})
            assert [id for id, _ in again.told] == [f"n{later}" for later in range(number + 1, 5)]
            again.exchange.hang_up()
            until(lambda: another.waiting == 0)
        assert ada.get("/v1/changes", query_string={"cursor": ids[2]}).json["items"][0]["id"] == "n3"


def test_a_place_in_the_middle_of_a_first_walk_is_good_too(streams: Served, ada: Person) -> None:
    for number in range(5):
        ada.make_note(id=f"n{number}")
    page = ada.get("/v1/changes", query_string={"limit": 2}).json
    assert page["more"]
    assert [id for id, _ in listen(streams, ada, cursor=page["cursor"]).told] == ["n2", "n3", "n4"]


def test_pages_follow_each_other(streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = cursor_of(ada)
    for number in range(7):
        ada.make_note(id=f"n{number}")
    cursor_of(ada)
    monkeypatch.setattr(live, "FIRST_ITEMS", 2)
    monkeypatch.setattr(live, "fitting", lambda _: 2)
    assert [id for id, _ in listen(streams, ada, cursor=cursor).told] == [f"n{number}" for number in range(7)]


def test_a_cursor_that_is_too_old_is_told_and_live_goes_on(streams: Served, ada: Person) -> None:
    cursor = cursor_of(ada)
    ada.make_note(id="one")
    newest = cursor_of(ada)
    Lease._get_collection().update_one({"_id": "recorder"}, [{"$set": {"state.floor": "$state.seq"}}])
    heard = listen(streams, ada, cursor=cursor)
    assert [event["event"] for event in heard.events] == ["resync", "caught_up"]
    ada.make_note(id="two")
    heard.hears(("two", 1))
    assert listen(streams, ada, cursor=newest).told == [("two", 1)]


def test_an_id_that_was_made_with_another_key_is_too_old(streams: Served, ada: Person) -> None:
    heard = listen(streams, ada, headers={"Last_Event_ID": "of-another-key"})
    assert [event["event"] for event in heard.events] == ["resync", "caught_up"]


def test_silence_has_comments_with_the_place(
    streams: Served, ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "ALIVE_EVERY", 0.2)
    heard = listen(streams, ada)
    first = heard.last_id
    bob.make_note(id="bobs")
    cursor_of(bob)
    other = listen(streams, bob)
    bob.make_note(id="another")
    other.hears(("another", 1))
    until(lambda: heard.text.count(": alive\n") >= 3)
    assert heard.told == []
    assert heard.last_id != first
    assert listen(streams, ada, headers={"Last_Event_ID": heard.last_id}).told == []


def test_what_comes_while_it_catches_up_comes_once_and_after_it(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = cursor_of(ada)
    for number in range(20):
        ada.make_note(id=f"n{number}")
    monkeypatch.setattr(live, "FIRST_ITEMS", 1)
    monkeypatch.setattr(live, "fitting", lambda _: 1)
    heard = Listener(streams, ada, cursor=cursor)
    for number in range(20, 40):
        ada.make_note(id=f"n{number}")
    until(lambda: len({id for id, _ in heard.told}) == 40)
    assert [id for id, _ in heard.told] == [f"n{number}" for number in range(40)]


def test_a_reader_that_lost_its_place_loses_nothing(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = listen(streams, ada)
    reader = streams.app.following.reader  # type: ignore[union-attr]
    step, cut = reader.step, threading.Event()

    def broken() -> None:
        if not cut.is_set():
            time.sleep(0.05)
            raise ZeroDivisionError
        step()

    monkeypatch.setattr(reader, "step", broken)
    until(lambda: reader.tail is None)
    ada.make_note(id="one")
    cut.set()
    heard.hears(("one", 1))


# Who may listen


def test_a_session_that_ends_ends_its_stream_and_no_other(streams: Served, ada: Person) -> None:
    phone = listen(streams, ada)
    before = dict(ada.headers)
    ada.log_in("tablet")
    tablet = listen(streams, ada)
    begun = time.monotonic()
    Phone(ada.client, before).post("/auth/logout")
    assert phone.ended()
    assert time.monotonic() - begun < 1
    ada.make_note(id="one")
    tablet.hears(("one", 1))
    assert "one" not in phone.text


def test_a_session_that_nobody_refreshes_ends_in_time(streams: Served, ada: Person) -> None:
    from datetime import timedelta

    Session._get_collection().update_many({}, {"$set": {"expires_at": now() + timedelta(seconds=1.5)}})
    heard = listen(streams, ada)
    begun = time.monotonic()
    assert heard.ended()
    assert time.monotonic() - begun < 2.5


def test_a_session_that_ends_while_it_is_opened_is_not_missed(streams: Served, ada: Person) -> None:
    ada.get("/v1/accounts/me")
    Session._get_collection().delete_many({})
    sent = streams.ask("GET", "/v1/live", **ada.headers)
    assert (sent.status, sent.json["code"]) == (401, "not_authenticated")
    assert streams.waiting == 0


def test_an_expired_token_does_not_end_a_stream(serve: Any, ada: Person) -> None:
    with serve(JWT_EXPIRATION_DELTA=1, JWT_LEEWAY=0) as streams:
        heard = listen(streams, ada)
        time.sleep(1.2)
        ada.make_note(id="one")
        heard.hears(("one", 1))


@pytest.mark.parametrize("round", range(5))
def test_who_loses_a_role_hears_nothing_that_was_written_after(
    streams: Served, ada: Person, bob: Person, recording: Recording, round: int
) -> None:
    """The recorder and the reader are behind: what they look up may be newer than what they tell of."""
    bob.set_roles("team")
    ada.make_note(id="one", title="first", readers=["role:team"])
    heard = listen(streams, bob)
    writing = threading.Event()

    def write() -> None:
        while not writing.is_set():
            ada.patch("/v1/notes/one", {"title": "known"})

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.3 + round / 20)
    writing.set()
    writer.join()
    bob.set_roles()
    ada.patch("/v1/notes/one", {"title": "secret"})
    until(lambda: heard.told[-1:] == [("one", "withdrawn")])
    assert "secret" not in heard.text


# Tickets


def ticket(person: Person) -> str:
    answer = person.post("/v1/live/tickets")
    assert (answer.status_code, answer.json["expires_in"]) == (201, 30)
    return str(answer.json["ticket"])


def test_a_ticket_opens_one_stream(serve: Any, ada: Person, phone: Phone) -> None:
    good = ticket(ada)
    nobody = Person(ada.client)
    with serve() as streams, serve() as another:
        heard = listen(streams, nobody, ticket=good)
        ada.make_note(id="one")
        heard.hears(("one", 1))
        for server in (streams, another):
            sent = server.ask("GET", "/v1/live", {"ticket": good})
            assert (sent.status, sent.json["code"]) == (401, "not_authenticated")
        ada.post("/auth/logout")
        assert heard.ended()


@pytest.mark.parametrize("kind", ["old", "invented", "long", "empty"])
def test_no_other_ticket_does(streams: Served, ada: Person, kind: str) -> None:
    good = ticket(ada)
    if kind == "old":
        Ticket._get_collection().update_many({}, {"$set": {"expires_at": now()}})
    text = {"old": good, "invented": good[::-1], "long": "x" * 5000, "empty": ""}[kind]
    assert streams.ask("GET", "/v1/live", {"ticket": text}).status == 401
    assert streams.waiting == 0


def test_of_many_who_spend_one_ticket_one_gets_in(streams: Served, ada: Person) -> None:
    good = ticket(ada)
    all_tries = [streams.begin("GET", "/v1/live", {"ticket": good}) for _ in range(8)]
    until(lambda: sum(one.done.done() for one in all_tries) == 7 and streams.waiting == 1)


def test_a_ticket_is_of_a_session_and_is_nowhere(streams: Served, ada: Person, capsys: Any) -> None:
    good = ticket(ada)
    assert good not in json.dumps([*Ticket._get_collection().find()], default=str)
    listen(streams, Person(ada.client), ticket=good)
    assert good not in "".join(capsys.readouterr())
    late = ticket(ada)
    ada.post("/auth/logout")
    assert streams.ask("GET", "/v1/live", {"ticket": late}).status == 401


def test_a_ticket_and_a_token_together_are_refused(streams: Served, ada: Person) -> None:
    assert streams.ask("GET", "/v1/live", {"ticket": ticket(ada)}, **ada.headers).status == 401


# Limits


def test_so_many_connections_of_an_account_and_no_more(serve: Any, ada: Person, bob: Person) -> None:
    with serve(LIVE_CONNECTIONS_ACCOUNT=2) as streams:
        first = [listen(streams, ada) for _ in range(2)]
        sent = streams.ask("GET", "/v1/live", **ada.headers)
        assert (sent.status, sent.json["code"]) == (429, "too_many_requests")
        listen(streams, bob)
        first[0].exchange.hang_up()
        until(lambda: streams.waiting == 2)
        listen(streams, ada)


def test_conditions_that_take_long_use_up_the_time_of_an_account(serve: Any, ada: Person, bob: Person) -> None:
    with serve(RATELIMIT_ENABLED=True, RATELIMIT_LIST_SECONDS=0.1) as streams:
        costly = {"notes": {"$and": [{"checklist.text": {"$ne": f"{number}"}} for number in range(99)]}}
        heard, other = listen(streams, ada, costly), listen(streams, bob)
        for number in range(30):
            ada.make_note(id=f"n{number}", checklist=[{"text": "a", "done": False}] * 100)
        assert heard.ended(20)
        sent = streams.ask("GET", "/v1/live", **ada.headers)
        assert (sent.status, sent.json["code"], "retry-after" in sent.headers) == (429, "too_many_requests", True)
        bob.make_note(id="mine")
        other.hears(("mine", 1))


def test_so_many_types_and_no_more(serve: Any, ada: Person) -> None:
    with serve(LIVE_SUBSCRIPTIONS=1) as streams:
        sent = streams.ask("GET", "/v1/live", {"subscribe": '{"notes": {}, "notebooks": {}}'}, **ada.headers)
        assert (sent.status, sent.json["code"]) == (429, "too_many_requests")


def test_who_does_not_read_is_cut_off_and_not_kept_for(
    serve: Any, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(CLIENT_TIMEOUT=1.0) as streams:
        heard = listen(streams, ada)
        cut = metrics.CUT_OFF._value.get()
        last = heard.last_id
        heard.exchange.stop_reading()
        for number in range(12):
            ada.make_note(id=f"n{number}", body="x" * 50_000)
        (kept,) = streams.app.following.subscriptions.all  # type: ignore[union-attr]
        until(lambda: kept.is_behind)  # type: ignore[attr-defined]
        assert kept.queued < live.MOST_QUEUED + 60_000  # type: ignore[attr-defined]
        until(lambda: streams.waiting == 0, 5)
        assert metrics.CUT_OFF._value.get() == cut + 1
        again = listen(streams, ada, headers={"Last_Event_ID": last})
        assert [id for id, _ in again.told] == [f"n{number}" for number in range(12)]


def test_who_reads_slowly_is_told_all(serve: Any, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_QUEUED", 1000)
    with serve() as streams:
        heard = listen(streams, ada)
        heard.exchange.stop_reading()
        for number in range(12):
            ada.make_note(id=f"n{number}", body="x" * 500)
        time.sleep(0.5)
        heard.exchange.read_on()
        heard.hears(*((f"n{number}", 1) for number in range(12)))


def test_a_client_that_hangs_up_is_forgotten(streams: Served, ada: Person) -> None:
    heard = listen(streams, ada)
    heard.exchange.hang_up()
    until(lambda: streams.waiting == 0, 2)
    heard.exchange.done.result(2)
    subscriptions = streams.app.following.subscriptions  # type: ignore[union-attr]
    assert (subscriptions.by_key, subscriptions.by_session, subscriptions.counts) == ({}, {}, {})


def test_when_the_server_drains_all_streams_end(streams: Served, ada: Person, draining: Draining) -> None:
    heard = [listen(streams, ada) for _ in range(3)]
    begun = time.monotonic()
    draining.now = True
    assert all(one.ended() for one in heard)
    assert time.monotonic() - begun < 1


# What is refused


POLYGON = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
REFUSED: dict[str, tuple[str, str]] = {
    "{": ("bad_parameter", "JSON object"),
    "[]": ("bad_parameter", "JSON object"),
    '{"a": "\\u0000"}': ("bad_parameter", "JSON object"),
    "{}": ("bad_parameter", "one or several of notebooks, notes"),
    '{"nothing": {}}': ("bad_parameter", "one or several of notebooks, notes"),
    '{"notes": []}': ("bad_query", "`notes`: a condition has to be an object"),
    '{"notes": {"owner_id": 1}}': ("bad_query", "cannot be filtered"),
    '{"notes": {"access": "o:x"}}': ("bad_query", "cannot be filtered"),
    '{"notes": {"$where": "1"}}': ("bad_query", "no operator"),
    '{"notes": {"place": {"$near": {"point": [0, 0]}}}}': ("bad_query", "$near sorts"),
    json.dumps({"notes": {"place": {"$within": POLYGON}}}): ("bad_query", "name a box"),
    '{"notes": ' + '{"$nor": [' * 9 + '{"pinned": true}' + "]}" * 9 + "}": ("bad_query", "8 levels"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_cannot_be_followed_is_refused(streams: Served, ada: Person, text: str) -> None:
    code, words = REFUSED[text]
    sent = streams.ask("GET", "/v1/live", {"subscribe": text}, **ada.headers)
    assert (sent.status, sent.json["code"], words in sent.json["detail"]) == (400, code, True), sent.json
    assert streams.waiting == 0


def test_cursors_of_others_and_unknown_parameters_are_refused(streams: Served, ada: Person, bob: Person) -> None:
    for query in ({"cursor": cursor_of(bob)}, {"cursor": cursor_of(ada, "notes")}, {"cursor": ""}, {"wait": "1"}):
        sent = streams.ask("GET", "/v1/live", query, **ada.headers)
        assert (sent.status, sent.json["errors"][0]["parameter"]) == (400, next(iter(query)))
    assert listen(streams, ada, {"notes": {}}, cursor=cursor_of(ada, "notes")).told == []


def test_head_says_what_get_would_and_opens_nothing(streams: Served, ada: Person) -> None:
    sent = streams.ask("HEAD", "/v1/live", **ada.headers)
    assert (sent.status, sent.body, sent.headers["content-type"]) == (200, b"", "text/event-stream")
    assert streams.waiting == 0
    good = ticket(ada)
    assert streams.ask("HEAD", "/v1/live", {"ticket": good}).status == 401
    listen(streams, Person(ada.client), ticket=good)


def test_options_names_the_methods(streams: Served) -> None:
    sent = streams.ask("OPTIONS", "/v1/live")
    assert (sent.status, sent.headers["allow"], sent.body) == (200, "GET, HEAD, OPTIONS", b"")


def test_a_stream_that_cannot_go_on_ends_and_is_told_in_the_log(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise FeedUnavailable("nobody records")

    heard = listen(streams, ada)
    monkeypatch.setattr(live.Live, "listen", fail)
    ada.set_roles("editor")
    assert heard.ended()
    until(lambda: streams.waiting == 0)
    assert '"event":"live_ended"' in capsys.readouterr().out


def test_what_two_clients_hear_alike_is_written_once(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [listen(streams, ada, {"notes": {}}) for _ in range(2)]
    made: list[Any] = []
    body = sse.ServerSent.body
    monkeypatch.setattr(sse.ServerSent, "body", lambda self, *given: made.append(given) or body(self, *given))
    ada.make_note(id="one")
    for heard in both:
        heard.hears(("one", 1))
    assert len(made) == 1


def test_that_a_record_no_longer_fits_is_told_once_as_long_as_that_is_remembered(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_UNMATCHED", 1)
    ada.make_note(id="one", pinned=True)
    ada.make_note(id="two", pinned=True)
    heard = listen(streams, ada, {"notes": {"pinned": True}})
    ada.make_note(id="other")
    for id in ("one", "two"):
        ada.patch(f"/v1/notes/{id}", {"pinned": False})
    heard.hears(("one", "unmatched"), ("two", "unmatched"))
    ada.patch("/v1/notes/two", {"title": "b"})
    ada.patch("/v1/notes/one", {"title": "b"})
    heard.hears(("one", "unmatched"), ("two", "unmatched"), ("one", "unmatched"))
