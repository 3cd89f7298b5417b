"""A device that follows the topic `changes` is woken when there is something new for it, and no connection tells it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from service.changes.follower import Follower
from service.core.clock import now
from service.documents import LeaseLost, OutboxItem, Session
from service.mongo.raw import Raw
from service.push import fan_out, waking
from service.streams import following
from service.worker.chores import waking_devices
from service.worker.lease import Alone, Holding
from tests.client import Person
from tests.http2_server import Http2Server, Said
from tests.pushing import Platforms, Sending, credentials
from tests.recording import Recording
from tests.test_live import listen
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = pytest.mark.real


class Waker:
    """A worker that records, notes what is new, and wakes, when it is told to."""

    def __init__(self, recording: Recording, patch: pytest.MonkeyPatch) -> None:
        self.recording, self.lease, self.ahead = recording, Holding(waking.WAKING, 60.0), timedelta()
        types = waking.waking_types(REGISTRY)
        self.follower = Follower(waking.WAKING, types, waking.note_news, False, waking.has_sleepers)
        patch.setattr(waking, "now", lambda: now() + self.ahead)
        assert self.lease.take()
        self.note()

    def note(self) -> None:
        self.recording.catch_up()
        self.follower.step(self.lease)
        self.follower.step(self.lease)

    def woken(self) -> list[str]:
        """Whose devices are sent something by now, and were not before."""
        self.note()
        waking.wake_due(Alone())
        found = list(OutboxItem._get_collection().find({"state": "waiting"}))
        OutboxItem._get_collection().delete_many({})
        return sorted(str(item["account"]) for item in found)


@pytest.fixture
def waker(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Waker:
    return Waker(recording, monkeypatch)


def follow(person: Person, *topics: str) -> None:
    token = f"{person.id:>064}"
    body = {"platform": "apns", "token": token, "topics": topics or ["news", "changes"]}
    assert person.put("/v1/accounts/me/push", body).status_code == 200


def stored(person: Person) -> Raw:
    found = Session._get_collection().find_one({"account": person.id})
    assert found is not None
    return dict(found)


def test_a_device_is_woken_by_what_is_new_for_it_and_no_other_one(ada: Person, bob: Person, waker: Waker) -> None:
    follow(ada)
    follow(bob)
    note = bob.make_note(id="a", readers=[ada.id])["id"]
    assert waker.woken() == sorted([ada.id, bob.id])
    waker.ahead = timedelta(minutes=2)
    bob.make_note(id="b")
    assert waker.woken() == [bob.id]
    waker.ahead = timedelta(minutes=4)
    # What is taken away is news too.
    assert bob.patch(f"/v1/notes/{note}", {"readers": []}).status_code == 200
    assert ada.id in waker.woken()
    waker.ahead = timedelta(minutes=6)
    assert bob.patch(f"/v1/notes/{note}", {"title": "not Ada's matter"}).status_code == 200
    assert waker.woken() == [bob.id]


def test_it_says_nothing_and_wakes_the_app(ada: Person, waker: Waker) -> None:
    follow(ada)
    ada.make_note()
    waker.note()
    waking.wake_due(Alone())
    (item,) = OutboxItem._get_collection().find({})
    assert item["content"] == {"session": stored(ada)["_id"]}
    assert "title" not in item["message"]
    assert (item["message"]["collapse"], item["message"]["urgent"]) == ("changes", False)


def test_who_does_not_follow_the_topic_is_not_woken(ada: Person, waker: Waker) -> None:
    follow(ada, "news")
    ada.make_note()
    assert waker.woken() == []
    assert "wake_at" not in stored(ada)


def test_who_follows_it_no_longer_is_not_woken_by_what_was_noted(ada: Person, waker: Waker) -> None:
    follow(ada)
    ada.make_note()
    waker.note()
    follow(ada, "news")
    assert waker.woken() == []
    assert "wake_at" not in stored(ada)


def test_at_most_one_a_minute_and_the_last_change_is_not_forgotten(ada: Person, waker: Waker) -> None:
    follow(ada)
    ada.make_note(id="a")
    ada.make_note(id="b")
    assert waker.woken() == [ada.id]
    woken_at = stored(ada)["woken_at"]
    for number in range(3):
        ada.patch("/v1/notes/a", {"title": f"{number}"})
        waker.ahead = timedelta(seconds=10 * number)
        assert waker.woken() == []
    assert stored(ada)["wake_at"] - woken_at == waking.APART
    waker.ahead = timedelta(seconds=61)
    assert waker.woken() == [ada.id]
    waker.ahead = timedelta(minutes=5)
    assert waker.woken() == []


def test_who_has_a_live_connection_is_woken_after_its_end(ada: Person, waker: Waker) -> None:
    follow(ada)
    session = [stored(ada)["_id"]]
    waking.note_live(session)
    ada.make_note()
    assert waker.woken() == []
    for minutes in range(1, 4):
        waker.ahead = timedelta(minutes=minutes)
        waking.note_live(session)
        assert waker.woken() == []
    waker.ahead += waking.LIVE_FOR + timedelta(seconds=1)
    assert waker.woken() == [ada.id]


def test_a_connection_alone_is_no_news(ada: Person, waker: Waker) -> None:
    follow(ada)
    waking.note_live([stored(ada)["_id"]])
    assert "wake_at" not in stored(ada)
    waker.ahead = timedelta(minutes=2)
    assert waker.woken() == []


def test_only_sessions_that_follow_the_topic_are_written_to(ada: Person, waker: Waker) -> None:
    follow(ada, "news")
    waking.note_live([stored(ada)["_id"]])
    assert "live_until" not in stored(ada)


def test_roles_groups_and_everybody_are_woken(ada: Person, bob: Person, waker: Waker) -> None:
    follow(ada)
    ada.set_roles("staff")
    group = bob.post("/v1/groups", {"name": "us"}).json["id"]
    waker.woken()
    waker.ahead = timedelta(minutes=2)
    bob.make_note(readers=["role:staff"])
    assert waker.woken() == [ada.id]
    waker.ahead = timedelta(minutes=4)
    bob.make_note(readers=["*"])
    assert waker.woken() == [ada.id]
    waker.ahead = timedelta(minutes=6)
    bob.make_note(id="ours", readers=[f"group:{group}"])
    assert waker.woken() == []
    # To come into a group is news by itself; then what is the group's is.
    member = {"account": ada.id, "role": "member"}
    assert bob.post(f"/v1/groups/{group}/members", member).status_code == 201
    assert waker.woken() == [ada.id]
    waker.ahead = timedelta(minutes=8)
    assert bob.patch("/v1/notes/ours", {"title": "x"}).status_code == 200
    assert waker.woken() == [ada.id]


def test_many_accounts_are_noted_some_at_a_time(
    ada: Person, bob: Person, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waking, "NAMED_AT_ONCE", 1)
    follow(ada)
    follow(bob)
    bob.make_note(readers=[ada.id])
    waker.note()
    assert Session._get_collection().count_documents({"wake_at": {"$exists": True}}) == 2
    waking.note_live([stored(ada)["_id"], stored(bob)["_id"]])
    assert Session._get_collection().count_documents({"live_until": {"$exists": True}}) == 2


def test_who_has_lost_the_lease_notes_nothing(ada: Person, recording: Recording, waker: Waker) -> None:
    follow(ada)
    ada.make_note()
    recording.catch_up()
    waker.lease.until = 0.0
    with pytest.raises(LeaseLost):
        waker.follower.step(waker.lease)
    assert "wake_at" not in stored(ada)


def test_a_worker_that_dies_while_it_wakes_leaves_it_to_the_next(
    ada: Person, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(ada)
    ada.make_note()
    waker.note()
    with monkeypatch.context() as patch:
        patch.setattr(waking, "put_wakes", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            waking.wake_due(Alone())
    assert waker.woken() == [ada.id]


def test_a_full_outbox_is_waited_for(ada: Person, waker: Waker, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(ada)
    ada.make_note()
    with monkeypatch.context() as patch:
        patch.setattr(waking, "is_full", lambda: True)
        assert waker.woken() == []
    assert fan_out.is_full() is False
    assert waker.woken() == [ada.id]


def test_a_session_that_has_ended_or_expired_is_not_woken(ada: Person, bob: Person, waker: Waker) -> None:
    follow(ada)
    follow(bob)
    bob.make_note(readers=[ada.id])
    waker.note()
    Session._get_collection().update_one({"account": ada.id}, {"$set": {"expires_at": now()}})
    assert bob.post("/auth/logout").status_code == 204
    waker.ahead = timedelta(seconds=5)
    assert waker.woken() == []


@pytest.mark.parametrize("said", [Said(), Said(400, {"reason": "BadTopic"})])
def test_what_has_woken_a_device_or_failed_to_is_not_kept(
    ada: Person, waker: Waker, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, said: Said
) -> None:
    follow(ada)
    ada.make_note()
    waker.note()
    waking.wake_due(Alone())
    answers = Platforms()
    answers.say(f"{ada.id:>064}", said)
    server = Http2Server(tmp_path, answers)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    sending = Sending({**ada.client.application.config, **credentials(tmp_path, server.url)})
    sending.step()
    sending.leave()
    server.stop()
    (asked,) = server.asked
    assert (asked.headers["apns-push-type"], asked.headers["apns-collapse-id"]) == ("background", "changes")
    assert asked.json == {"topic": "changes", "aps": {"content-available": 1}}
    assert OutboxItem._get_collection().count_documents({}) == 0


@pytest.mark.usefixtures("recorded")
def test_a_connection_to_the_streams_counts(serve: Callable[..., Any], ada: Person, monkeypatch: Any) -> None:
    monkeypatch.setattr(following, "PRESENCE_TOLD_EVERY", 0.05)
    follow(ada)
    with serve() as streams:
        heard = listen(streams, ada)
        until(lambda: "live_until" in stored(ada))
        first: datetime = stored(ada)["live_until"]
        until(lambda: stored(ada)["live_until"] > first)
        heard.exchange.hang_up()
        until(lambda: not streams.app.following.subscriptions.by_session)


def test_a_worker_does_both() -> None:
    assert [chore.name for chore in waking_devices(REGISTRY)] == ["waking", "wakes"]
