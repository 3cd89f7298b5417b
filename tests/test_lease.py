"""Leases: one holder at a time by MongoDB's clock, an epoch that only grows, and no write of a stale holder."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from pymongo.errors import AutoReconnect

from service.documents import Lease, LeaseLost, Right
from service.mongo import transactions
from service.mongo.raw import Raw
from service.worker.chores import Chore
from service.worker.crew import Crew
from service.worker.lease import Alone, Holding
from tests.waiting import until

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def connected(app: Flask) -> None:
    """An empty database; the fixture `app` connects."""


def stored() -> Raw:
    found: Raw = Lease._get_collection().find_one({"_id": "work"})
    return found


def expire() -> None:
    """Let the lease run out now, by MongoDB's clock."""
    Lease._get_collection().update_one({"_id": "work"}, [{"$set": {"expires_at": "$$NOW"}}])


def test_one_of_many_takes_it() -> None:
    barrier = threading.Barrier(8)

    def attempt(_: int) -> bool:
        barrier.wait()
        return Holding("work").take()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]
    assert stored()["epoch"] == 1


def test_nobody_takes_it_while_it_is_good_and_one_does_when_it_is_not() -> None:
    first, second = Holding("work"), Holding("work")
    assert first.take()
    assert not second.take()
    expire()
    assert second.take()
    assert (first.epoch, second.epoch) == (1, 2)


def test_it_lasts_as_long_as_it_says_by_the_clock_of_mongodb() -> None:
    first, second = Holding("work", seconds=1), Holding("work")
    assert first.take()
    begun = time.monotonic()
    assert until(second.take)
    assert time.monotonic() - begun > 0.8
    assert not first.held


def test_renewal_makes_it_last() -> None:
    lease = Holding("work", seconds=60)
    lease.take()
    before, good = stored()["expires_at"], lease.until
    lease.renew()
    assert stored()["expires_at"] >= before
    assert lease.until > good
    assert stored()["epoch"] == 1


def test_a_holder_that_was_replaced_finds_out_when_it_renews() -> None:
    first, second = Holding("work"), Holding("work")
    first.take()
    expire()
    second.take()
    assert first.held  # by its own clock
    first.renew()
    assert not first.held
    assert second.held


def test_released_it_can_be_taken_at_once_under_the_next_epoch() -> None:
    first, second = Holding("work"), Holding("work")
    first.take()
    first.release()
    assert not first.held
    assert second.take()
    first.release()  # too late to do any harm
    assert not Holding("work").take()
    assert second.epoch == 2


def test_the_epoch_never_goes_back() -> None:
    epochs = []
    for _ in range(3):
        lease = Holding("work")
        assert lease.take()
        epochs.append(lease.epoch)
        lease.release()
    assert epochs == [1, 2, 3]


def test_a_holder_that_takes_it_again_has_a_new_epoch() -> None:
    lease = Holding("work")
    assert lease.take()
    assert lease.take()
    assert lease.epoch == 2


def test_another_name_is_another_lease() -> None:
    assert Holding("work").take()
    assert Holding("other").take()


def test_what_the_holder_keeps_with_it_is_changed_under_its_epoch_alone() -> None:
    first, second = Holding("work"), Holding("work")
    first.take()
    assert first.change({"$set": {"state.position": 7}})["state"] == {"position": 7}
    expire()
    assert second.take()
    with pytest.raises(LeaseLost):
        first.change({"$set": {"state.position": 8}})
    assert second.change({"$inc": {"state.position": 1}})["state"] == {"position": 8}


def test_a_holder_whose_time_is_over_does_not_even_ask() -> None:
    lease = Holding("work", seconds=60)
    lease.take()
    lease.until = 0.0
    with pytest.raises(LeaseLost):
        lease.change({"$set": {"state.position": 8}})


def test_a_transaction_of_a_stale_holder_stores_nothing() -> None:
    first, second = Holding("work"), Holding("work")
    first.take()
    others = Lease._get_collection()

    def write() -> None:
        others.insert_one({"_id": "written by the first", "holder": "x", "epoch": 1, "expires_at": None})
        expired = threading.Thread(target=lambda: (expire(), second.take()))
        expired.start()
        expired.join()
        first.change({"$set": {"state.position": 1}})

    with pytest.raises(LeaseLost):
        transactions.run(write)
    assert others.find_one({"_id": "written by the first"}) is None
    assert second.held


def test_who_takes_a_lease_waits_for_a_transaction_that_wrote_under_it() -> None:
    """So an entry of an earlier epoch is never stored after one of a later epoch."""
    first, second = Holding("work"), Holding("work")
    first.take()
    order = []

    def write() -> None:
        first.change({"$set": {"state.position": 1}})
        expired = threading.Thread(target=lambda: (expire(), order.append("taken")))
        expired.start()
        expired.join(0.3)
        order.append("written")

    transactions.run(write)
    assert until(lambda: len(order) == 2)
    assert order == ["written", "taken"]
    assert second.take()
    assert stored()["state"] == {"position": 1}


# The crew


QUICK = 1.0
"""Seconds that a lease is good here."""


class Diary:
    """What is done, and by whom, in several crews; fails where two do it at the same moment."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.busy = threading.Lock()

    def chore(self, who: str, seconds: float = 0.01) -> Chore:
        def work(right: Right) -> None:
            assert self.busy.acquire(blocking=False), "two at once"
            time.sleep(seconds)
            self.done.append(who)
            self.busy.release()

        return Chore("work", 0.02, work)


def test_of_two_crews_one_works_and_the_other_follows() -> None:
    diary = Diary()
    first, second = Crew([diary.chore("first")], seconds=QUICK), Crew([diary.chore("second")], seconds=QUICK)
    first.start()
    assert until(lambda: len(diary.done) > 5)
    second.start()
    assert until(lambda: len(diary.done) > 50)
    assert set(diary.done) == {"first"}
    first.stop(5)
    assert not first.leases[0].held
    assert until(lambda: diary.done[-1] == "second")
    second.stop(5)
    assert not second.complete


def test_a_long_piece_of_work_keeps_its_lease() -> None:
    diary = Diary()
    first, second = Crew([diary.chore("first", 2.5)], seconds=QUICK), Crew([diary.chore("second")], seconds=QUICK)
    first.start()
    assert until(lambda: first.leases[0].held)
    second.start()
    assert until(lambda: diary.done)
    assert diary.done == ["first"]
    first.stop(5)
    second.stop(5)


def test_a_crew_whose_renewals_fail_stops_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    diary = Diary()
    first, second = Crew([diary.chore("first")], seconds=QUICK), Crew([diary.chore("second")], seconds=QUICK)
    first.start()
    assert until(lambda: diary.done)
    lease = first.leases[0]

    def fail() -> None:
        raise AutoReconnect("no")

    monkeypatch.setattr(lease, "renew", fail)
    monkeypatch.setattr(lease, "take", fail)
    second.start()
    assert until(lambda: diary.done[-1] == "second")
    assert not lease.held
    first.stop(5)
    second.stop(5)


def test_a_chore_with_a_bug_is_tried_again_and_disturbs_no_other(capsys: pytest.CaptureFixture) -> None:
    diary, tries = Diary(), []

    def broken(right: Right) -> None:
        tries.append(right.held)
        raise ZeroDivisionError

    crew = Crew([Chore("broken", 0.02, broken), diary.chore("first")], seconds=QUICK)
    crew.start()
    assert until(lambda: len(tries) > 2 and len(diary.done) > 2)
    assert crew.complete
    crew.stop(5)
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_alone_there_is_nobody_to_ask() -> None:
    diary = Diary()
    crew = Crew([diary.chore("me")], alone=True)
    crew.start()
    assert until(lambda: len(diary.done) > 2)
    crew.stop(5)
    assert stored() is None


def test_without_a_lease_there_is_no_document_of_it_to_change() -> None:
    with pytest.raises(LeaseLost):
        Alone().change({"$set": {"state": {}}})
