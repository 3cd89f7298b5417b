"""The worker of the outbox: what is due is sent, and nothing twice; what is not taken is tried again."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from mongoengine.connection import get_db
from prometheus_client import REGISTRY as METRICS
from pymongo.errors import AutoReconnect

from service.core.clock import now
from service.documents import OutboxItem
from service.mongo import connection, transactions
from service.mongo.raw import Raw
from service.outbox import items
from service.outbox.arrivals import Listening, Lookout
from service.outbox.dispatch import CannotSend, Dispatcher, Postponed, Refused, Retries, Turn, delay
from service.outbox.items import NewItem
from service.worker.chores import Chore
from service.worker.crew import Crew
from service.worker.lease import Alone
from tests.dispatching import Deaf, due_now, look, stored

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
def lookout(app: Flask) -> Lookout:
    return Lookout()


@pytest.fixture
def arrivals(lookout: Lookout) -> Listening:
    """What hears of notes."""
    return lookout.of_kind("note")


def has_arrived(lookout: Lookout, arrivals: Listening) -> bool:
    """Tell whether something is found at this look."""
    lookout.look(Alone())
    return arrivals.wait(0.0)


@pytest.mark.real
def test_an_arrival_is_heard_when_its_transaction_is_committed(lookout: Lookout, arrivals: Listening) -> None:
    assert not has_arrived(lookout, arrivals)

    def put_and_look() -> None:
        put("a")
        assert not transactions.outside(has_arrived, lookout, arrivals)

    transactions.run(put_and_look)
    assert has_arrived(lookout, arrivals)


def test_what_is_taken_what_is_put_off_and_what_is_done_wakes_nobody(lookout: Lookout, arrivals: Listening) -> None:
    put("a")
    assert has_arrived(lookout, arrivals)
    assert has_arrived(lookout, arrivals)
    taken = items.take_due("note", 1000.0)
    assert taken is not None
    assert not has_arrived(lookout, arrivals)
    items.put_off(taken, 1000.0, "451 later")
    assert not has_arrived(lookout, arrivals)
    due_now("a")
    assert has_arrived(lookout, arrivals)
    items.mark_sent(taken)
    assert not has_arrived(lookout, arrivals)


def test_one_look_tells_each_who_waits_of_what_is_for_it(lookout: Lookout, arrivals: Listening) -> None:
    for_some = lookout.of_kinds(lambda kind: kind.startswith("webhook:"))
    for kind in ("webhook:1", "push", "webhook:2"):
        items.add_item(NewItem(kind, {}), kind, None)
    lookout.look(Alone())
    assert for_some.heard(0.0) == {"webhook:1", "webhook:2"}
    assert for_some.heard(0.0) == set()
    assert not arrivals.wait(0.0)


def test_who_waits_is_woken_by_what_arrives(lookout: Lookout, arrivals: Listening) -> None:
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(arrivals.heard, 30.0)
        put("a")
        lookout.look(Alone())
        assert heard.result(30) == {"note"}


@pytest.mark.real
def test_a_look_reads_one_key_of_each_kind_however_much_waits(app: Flask) -> None:
    for number in range(50):
        for kind in ("note", "push"):
            items.add_item(NewItem(kind, {}), f"{kind} {number}", None)
    due = {"state": "waiting", "due_at": {"$lte": connection.server_time()}}
    asked = {"distinct": "outbox", "key": "kind", "query": due}
    told = get_db().command("explain", asked, verbosity="executionStats")
    assert told["executionStats"]["totalKeysExamined"] <= 3
