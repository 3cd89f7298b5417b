"""The stream of RxDB's protocol: documents as they change, each message as good as a pull."""

import json
import time
from typing import Any

import pytest

from service.core.errors import FeedUnavailable
from service.streams import rxdb_streams
from tests.client import Person
from tests.conftest import Draining
from tests.streaming import Exchange, Sent, Served
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recorded")]

PATH = "/v1/sync/rxdb/notes/0"


class Replicating:
    """A client that reads the stream of a collection."""

    def __init__(self, streams: Served, person: Person) -> None:
        assert streams.app.following is not None
        streams.app.following.barrier.passed()
        self.exchange: Exchange = streams.begin("GET", f"{PATH}/pullStream", **person.headers)
        until(lambda: self.text.startswith(": open\n\n") or self.exchange.done.done())
        assert self.exchange.messages[0]["status"] == 200, Sent(self.exchange.messages).json

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in list(self.exchange.messages)).decode()

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line[6:]) for line in self.text.split("\n") if line.startswith("data: ")]

    @property
    def told(self) -> list[tuple[str, Any]]:
        documents = [document for message in self.messages for document in message["documents"]]
        return [(document["id"], document["_deleted"] or document["revision"]) for document in documents]

    def hears(self, *told: tuple[str, Any]) -> None:
        until(lambda: self.told[-len(told) :] == list(told))


def pulled(person: Person, checkpoint: dict[str, Any]) -> list[str]:
    answer = person.get(f"{PATH}/pull", query_string={**checkpoint, "limit": 100})
    assert answer.status_code == 200, answer.json
    return [document["id"] for document in answer.json["documents"]]


def test_documents_come_as_they_change_with_a_checkpoint_that_a_pull_takes(streams: Served, ada: Person) -> None:
    ada.make_note(id="before")
    heard = Replicating(streams, ada)
    ada.make_note(id="one")
    heard.hears(("one", 1))
    ada.make_notebook(id="book")
    ada.delete("/v1/notes/before")
    heard.hears(("one", 1), ("before", True))
    assert {tuple(message) for message in heard.messages} == {("documents", "checkpoint")}
    first, last = heard.messages[0]["checkpoint"], heard.messages[-1]["checkpoint"]
    assert pulled(ada, last) == []
    assert pulled(ada, first) == ["before"]
    assert heard.messages[0]["documents"][0] == {**ada.get("/v1/notes/one").json, "_deleted": False}


def test_what_is_withdrawn_comes_as_deleted_and_without_content(streams: Served, ada: Person, bob: Person) -> None:
    ada.make_note(id="one", title="secret", readers=[bob.id])
    heard = Replicating(streams, bob)
    ada.patch("/v1/notes/one", {"readers": []})
    heard.hears(("one", True))
    ada.patch("/v1/notes/one", {"title": "more secrets"})
    bob.make_note(id="mine")
    heard.hears(("one", True), ("mine", 1))
    assert "secret" not in heard.text


def test_messages_use_up_the_time_of_an_account(serve: Any, ada: Person) -> None:
    with serve(RATELIMIT_ENABLED=True, RATELIMIT_LIST_SECONDS=0.001) as streams:
        heard = Replicating(streams, ada)
        for number in range(2):
            ada.make_note(id=f"n{number}")
        heard.exchange.done.result(10)
        sent = streams.ask("GET", f"{PATH}/pullStream", **ada.headers)
        assert (sent.status, sent.json["code"]) == (429, "too_many_requests")


def test_many_come_in_several_messages(streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rxdb_streams, "MOST_OF_MESSAGE", 2)
    heard = Replicating(streams, ada)
    parts = [{"method": "POST", "path": "/v1/notes", "body": {"id": f"n{n}", "title": "x"}} for n in range(7)]
    ada.post("/v1/batch", {"requests": parts, "atomic": True})
    until(lambda: {id for id, _ in heard.told} == {f"n{n}" for n in range(7)})
    assert max(len(message["documents"]) for message in heard.messages) == 2
    assert pulled(ada, heard.messages[-1]["checkpoint"]) == []


def test_what_a_device_may_have_missed_while_it_pushed_is_told_again(
    streams: Served, ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RxDB drops what comes of a row that it is pushing."""
    monkeypatch.setattr(rxdb_streams, "ALIVE_EVERY", 0.3)
    heard = Replicating(streams, ada)
    row = {"newDocumentState": {"id": "one", "title": "mine", "writers": [bob.id], "_deleted": False}}
    assert ada.post(f"{PATH}/push", [row]).status_code == 200
    bob.patch("/v1/notes/one", {"title": "bobs"})
    heard.hears(("one", 2))
    until(lambda: heard.told.count(("one", 2)) >= 3)
    assert pulled(ada, heard.messages[-1]["checkpoint"]) == ["one"]


def test_in_silence_nothing_is_asked_and_comments_come(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rxdb_streams, "ALIVE_EVERY", 0.1)
    asked: list[Any] = []
    monkeypatch.setattr(rxdb_streams.RxdbStream, "made", lambda self, order: asked.append(order) or b'{"documents":[]}')
    heard = Replicating(streams, ada)
    until(lambda: heard.text.count(": alive\n\n") >= 4)
    assert len(asked) == 1


def test_a_session_that_ends_ends_it_and_so_does_the_server(
    serve: Any, ada: Person, bob: Person, draining: Draining
) -> None:
    with serve() as streams:
        adas, bobs = Replicating(streams, ada), Replicating(streams, bob)
        begun = time.monotonic()
        ada.post("/auth/logout")
        adas.exchange.done.result(5)
        assert time.monotonic() - begun < 1
        assert not bobs.exchange.done.done()
        draining.now = True
        bobs.exchange.done.result(5)
        until(lambda: streams.waiting == 0)


def test_head_has_the_headers_of_a_stream_and_opens_none(streams: Served, ada: Person) -> None:
    sent = streams.ask("HEAD", f"{PATH}/pullStream", **ada.headers)
    assert (sent.status, sent.headers["content-type"], sent.body) == (200, "text/event-stream", b"")
    assert streams.waiting == 0


def fail(*_: Any) -> Any:
    raise FeedUnavailable("nobody records")


def test_a_stream_that_cannot_begin_is_forgotten(streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rxdb_streams, "order_now", fail)
    sent = streams.ask("GET", f"{PATH}/pullStream", **ada.headers)
    assert (sent.status, sent.json["code"]) == (503, "feed_unavailable")
    assert streams.waiting == 0


def test_a_stream_that_cannot_go_on_ends_and_is_told_in_the_log(
    streams: Served, ada: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = Replicating(streams, ada)
    monkeypatch.setattr(rxdb_streams.RxdbStream, "made", fail)
    ada.make_note(id="one")
    heard.exchange.done.result(5)
    assert heard.told == []
    until(lambda: streams.waiting == 0)
    assert '"event":"live_ended"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/sync/rxdb/notes/x/pullStream", 404, "not_found"),
        ("/v1/sync/rxdb/nothing/0/pullStream", 404, "not_found"),
        (f"{PATH}/pullStream?lwt=1", 400, "bad_parameter"),
    ],
)
def test_what_is_not_there_is_told(streams: Served, ada: Person, path: str, status: int, code: str) -> None:
    name, _, query = path.partition("?")
    sent = streams.ask("GET", name, query, **ada.headers)
    assert (sent.status, sent.json["code"], sent.json["error"]) == (status, code, True)
    assert streams.ask("GET", f"{PATH}/pullStream").status == 401


def test_each_collection_has_a_stream_of_its_own(serve: Any, ada: Person) -> None:
    with serve(LIVE_CONNECTIONS_ACCOUNT=1) as streams:
        Replicating(streams, ada)
        assert streams.ask("GET", f"{PATH}/pullStream", **ada.headers).status == 429
        other = streams.begin("GET", "/v1/sync/rxdb/notebooks/0/pullStream", **ada.headers)
        until(lambda: other.messages)
        assert other.messages[0]["status"] == 200
