"""The worker of the outbox: what is due is sent, and nothing twice; what is not taken is tried again."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask
from prometheus_client import REGISTRY as METRICS
from pymongo.errors import AutoReconnect

from service.changes.tail import HistoryLost
from service.core.clock import now
from service.documents import OutboxItem
from service.mongo import connection, transactions
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.arrivals import ArrivalStream, Listening
from service.outbox.dispatch import CannotSend, Dispatcher, Postponed, Refused, Retries, Turn, delay
from service.outbox.items import NewItem
from service.worker.chores import Chore
from service.worker.crew import Crew
from service.worker.lease import Alone
from tests.dispatching import Deaf, due_now, hearing, look, stored
from tests.waiting import until

FIRST_DELAY, LONGEST_DELAY = 15.0, 1800.0


class Recorded:
    """A sender that notes what it is handed, and raises what it is told to."""

    kind = "note"
    seconds = 30.0
    tries: int | None = None

    def __init__(self, *raised: Exception | None) -> None:
        self.raised = list(raised)
        self.sent: list[str] = []

    def retries(self, item: Raw) -> Retries:
        return Retries(FIRST_DELAY, LONGEST_DELAY, within=timedelta(days=1), tries=self.tries)

    def send(self, item: Raw, turn: Turn) -> None:
        if self.raised and (error := self.raised.pop(0)) is not None:
            raise error
        self.sent.append(item["_id"])

    def rest(self) -> None:
        pass


def dispatcher(*raised: Exception | None) -> tuple[Dispatcher, Recorded]:
    sender = Recorded(*raised)
    return Dispatcher(sender, Deaf()), sender


def put(id: str, **given: Any) -> None:
    assert items.add_item(NewItem("note", {"text": id}, **given), id, b"secret")


pytestmark = pytest.mark.usefixtures("app")


def test_what_waits_is_sent_once_and_its_secrets_are_gone() -> None:
    worker, sender = dispatcher()
    put("a")
    look(worker, 3)
    assert sender.sent == ["a"]
    found = stored("a")
    assert (found["state"], found["tries"]) == ("sent", 1)
    assert "sealed" not in found
    assert found["sent_at"] < found["expires_at"]


def test_all_that_waits_is_sent() -> None:
    worker, sender = dispatcher()
    for id in ("b", "a", "c"):
        put(id)
    look(worker, 3)
    assert sorted(sender.sent) == ["a", "b", "c"]


def test_what_is_refused_is_kept_as_failed_with_the_reason() -> None:
    worker, sender = dispatcher(Refused("550 no such mailbox"))
    put("a")
    look(worker, 3)
    found = stored("a")
    assert (found["state"], found["reason"], sender.sent) == ("failed", "550 no such mailbox", [])
    assert found["sealed"] == b"secret"


def test_secrets_that_are_good_for_a_while_go_when_it_fails() -> None:
    worker, _ = dispatcher(Refused("550 no such mailbox"))
    put("a", until=now() + timedelta(minutes=15))
    look(worker)
    assert "sealed" not in stored("a")


def test_what_is_postponed_is_tried_again_later_and_not_before() -> None:
    worker, sender = dispatcher(Postponed("451 later"))
    put("a")
    look(worker, 3)
    found = stored("a")
    assert (found["state"], found["reason"], found["tries"], sender.sent) == ("waiting", "451 later", 1, [])
    wait = (found["due_at"] - now()).total_seconds()
    assert FIRST_DELAY / 2 - 5 < wait <= FIRST_DELAY + 1
    due_now("a")
    look(worker)
    assert sender.sent == ["a"]
    assert stored("a")["tries"] == 2
    assert "reason" not in stored("a")


def test_one_that_is_postponed_does_not_keep_others_from_being_sent() -> None:
    worker, sender = dispatcher(Postponed("451 later"))
    put("a")
    put("b")
    look(worker, 3)
    assert len(sender.sent) == 1


def test_after_a_day_it_is_given_up() -> None:
    worker, _ = dispatcher(Postponed("451 later"))
    put("a")
    OutboxItem._get_collection().update_one(
        {"_id": "a"}, {"$set": {"created_at": now() - timedelta(days=1, minutes=1)}}
    )
    look(worker)
    assert (stored("a")["state"], stored("a")["reason"]) == ("failed", "451 later")


def test_what_is_of_no_more_use_is_not_sent() -> None:
    worker, sender = dispatcher()
    put("a", until=now() - timedelta(seconds=1))
    look(worker, 2)
    assert (sender.sent, stored("a")["state"]) == ([], "failed")
    assert "too late" in stored("a")["reason"]
    assert "sealed" not in stored("a")


def test_where_nobody_takes_anything_all_of_it_waits_a_while() -> None:
    worker, sender = dispatcher(CannotSend("it does not answer"))
    for id in ("a", "b", "c"):
        put(id)
    look(worker, 5)
    assert sender.sent == []
    assert worker.trouble == "it does not answer"
    assert sorted(stored(id)["tries"] for id in ("a", "b", "c")) == [0, 0, 1]
    worker.paused_until = 0.0
    look(worker, 5)
    assert len(sender.sent) == 2
    assert worker.trouble is None


def test_a_mistake_of_ours_does_not_keep_others_from_being_sent(capsys: Any) -> None:
    worker, sender = dispatcher(KeyError("a template"))
    put("a")
    put("b")
    look(worker, 3)
    assert len(sender.sent) == 1
    (waiting,) = OutboxItem._get_collection().find({"state": "waiting"})
    assert waiting["reason"] == "a mistake of ours: KeyError"
    assert "KeyError" in capsys.readouterr().out


def test_what_was_acknowledged_is_not_sent_again_where_it_cannot_be_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, sender = dispatcher()
    put("a")
    mark = items.mark_sent
    failures = [AutoReconnect("gone"), AutoReconnect("gone")]

    def fails(item: Raw) -> None:
        if failures:
            raise failures.pop()
        mark(item)

    monkeypatch.setattr(items, "mark_sent", fails)
    for _ in range(2):
        with pytest.raises(AutoReconnect):
            look(worker)
    due_now("a")
    look(worker, 3)
    assert (sender.sent, stored("a")["state"]) == (["a"], "sent")


def test_what_another_has_taken_is_left_to_it_until_its_time_is_over() -> None:
    put("a")
    taken = items.take_due("note", 30.0)
    worker, sender = dispatcher()
    look(worker, 2)
    assert sender.sent == []
    due_now("a")
    look(worker)
    assert sender.sent == ["a"]
    assert taken is not None
    # The first one wakes up and fails: it must not undo what the second has done.
    items.put_off(taken, 1.0, "too slow")
    items.give_up(taken, "too slow")
    assert stored("a")["state"] == "sent"


def test_who_took_it_before_does_not_put_it_off_for_who_has_it_now() -> None:
    put("a")
    first = items.take_due("note", 30.0)
    due_now("a")
    second = items.take_due("note", 30.0)
    assert first is not None
    assert second is not None
    items.put_off(first, 3600.0, "too slow")
    assert stored("a")["due_at"] == second["due_at"]


def test_what_was_acknowledged_is_marked_whoever_has_it_now() -> None:
    put("a")
    first = items.take_due("note", 30.0)
    due_now("a")
    items.take_due("note", 30.0)
    assert first is not None
    items.mark_sent(first)
    assert stored("a")["state"] == "sent"


def test_the_kinds_do_not_wait_for_each_other() -> None:
    worker, sender = dispatcher()
    items.add_item(NewItem("push", {}), "p", None)
    put("a")
    look(worker, 3)
    assert sender.sent == ["a"]
    assert stored("p")["state"] == "waiting"


def test_delays_double_up_to_a_limit_and_half_of_each_is_by_chance() -> None:
    for times, whole in ((1, FIRST_DELAY), (2, 2 * FIRST_DELAY), (50, LONGEST_DELAY)):
        found = [delay(times, FIRST_DELAY, LONGEST_DELAY) for _ in range(200)]
        assert whole / 2 <= min(found) < 0.7 * whole
        assert 0.8 * whole < max(found) <= whole


def test_what_waits_is_counted() -> None:
    worker, _ = dispatcher(Postponed("451 later"))
    before = METRICS.get_sample_value("madang_outbox_put_off_total", {"kind": "note"}) or 0.0
    put("a")
    put("b")
    OutboxItem._get_collection().update_one({"_id": "a"}, {"$set": {"created_at": now() - timedelta(seconds=90)}})
    look(worker)
    assert METRICS.get_sample_value("madang_outbox_waiting", {"kind": "note"}) == 2
    assert METRICS.get_sample_value("madang_outbox_oldest_seconds", {"kind": "note"}) == pytest.approx(90, abs=10)
    assert METRICS.get_sample_value("madang_outbox_put_off_total", {"kind": "note"}) == before + 1


# Several workers


@pytest.mark.real
def test_many_workers_share_what_waits_and_send_each_once() -> None:
    for number in range(60):
        put(f"item-{number}")
    sent: list[str] = []
    workers = [dispatcher() for _ in range(4)]
    for _, sender in workers:
        sender.sent = sent
    threads = [threading.Thread(target=look, args=(worker, 60)) for worker, _ in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sent) == sorted(f"item-{number}" for number in range(60))


def test_a_chore_that_is_shared_needs_no_lease() -> None:
    done = threading.Event()
    crew = Crew([Chore("shared", 0.01, lambda right: done.set(), shared=True, trouble=lambda: "away")])
    assert crew.leases == []
    crew.start()
    assert done.wait(5)
    crew.stop(5)
    assert crew.troubles() == {"shared": "away"}


# Arrivals


@pytest.fixture
def stream(test_settings: dict[str, Any], app: Flask) -> Iterator[ArrivalStream]:
    with hearing(test_settings) as found:
        yield found


@pytest.fixture
def arrivals(stream: ArrivalStream) -> Listening:
    """What hears of notes through a stream that is open."""
    until(lambda: stream.tail is not None)
    found = stream.of_kind("note")
    while found.wait(0.1):
        pass
    return found


@pytest.mark.real
def test_an_arrival_is_heard_when_its_transaction_is_committed(arrivals: Listening) -> None:
    assert not arrivals.wait(0.1)
    put_in = threading.Event()

    def put_later() -> None:
        put("a")
        put_in.wait(30)

    thread = threading.Thread(target=lambda: transactions.run(put_later))
    thread.start()
    assert not arrivals.wait(0.3)
    put_in.set()
    assert arrivals.wait(30)
    thread.join()
    assert not arrivals.wait(0.1)


@pytest.mark.real
def test_what_workers_do_with_items_and_what_is_of_another_kind_wakes_nobody(arrivals: Listening) -> None:
    put("a")
    assert arrivals.wait(30)
    items.add_item(NewItem("push", {}), "p", None)
    taken = items.take_due("note", 1.0)
    assert taken is not None
    items.put_off(taken, 1.0, "451 later")
    items.mark_sent(taken)
    assert not arrivals.wait(0.3)


@pytest.mark.real
def test_one_stream_tells_each_who_waits_of_what_is_for_it(arrivals: Listening, stream: ArrivalStream) -> None:
    for_some = stream.of_kinds(lambda kind: kind.startswith("webhook:"))
    for kind in ("webhook:1", "push", "webhook:2"):
        items.add_item(NewItem(kind, {}), kind, None)
    heard: set[str | None] = set()
    until(lambda: heard.update(for_some.heard(1.0)) or len(heard) == 2)
    assert heard == {"webhook:1", "webhook:2"}
    assert not arrivals.wait(0.1)


@pytest.mark.real
@pytest.mark.parametrize("error", [AutoReconnect("gone"), HistoryLost("gone")])
def test_where_a_stream_breaks_it_is_opened_again_and_all_are_told_to_look(
    arrivals: Listening, stream: ArrivalStream, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    broken = stream.tail
    with monkeypatch.context() as patched:
        patched.setattr(stream.tail, "next", Mock(side_effect=error))
        until(lambda: stream.tail not in (None, broken))
    assert arrivals.heard(30) == {None}
    put("a")
    assert arrivals.wait(30)


@pytest.mark.real
def test_where_no_stream_can_be_opened_the_worker_hears_of_it(
    app: Flask, test_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.outbox.arrivals.Tail", Mock(side_effect=AutoReconnect("gone")))
    stream = ArrivalStream(connection.stream_client(test_settings))
    heard = stream.of_kind("note")
    with pytest.raises(AutoReconnect):
        stream.step(Alone())
    assert not heard.wait(0.01)
