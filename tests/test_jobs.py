"""Jobs: done later by a worker, once at a time, again where they fail, and not for longer than they may."""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from prometheus_client import REGISTRY as METRICS
from pymongo.errors import AutoReconnect

from service.core.clock import now
from service.documents import Event, OutboxItem
from service.mongo import connection, transactions
from service.mongo.raw import Raw
from service.outbox import items, jobs, performing
from service.outbox.dispatch import Dispatcher, Postponed, Refused
from service.outbox.jobs import JOB, Job, enqueue, job, jobs_in
from service.outbox.performing import JobSender
from service.outbox.run import Run
from service.worker.chores import chores
from service.worker.crew import Crew
from service.worker.lease import Shared
from tests.dispatching import Deaf, due_now, look, stored
from tests.racing import at_once
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at jobs more often than in earnest."""
    monkeypatch.setattr(performing, "LOOKED_AT_EVERY", 0.01)
    monkeypatch.setattr(performing, "RENEWED_EVERY", 0.02)


class Worker:
    """A worker that knows some jobs."""

    def __init__(self, *known: Job) -> None:
        self.killed: list[str] = []
        sender = JobSender({one.name: one for one in known}, lambda: self.killed.append("killed"))
        self.dispatcher = Dispatcher(sender, Deaf())

    def look(self, times: int = 1) -> None:
        look(self.dispatcher, times)


def change(id: str, values: Raw) -> None:
    OutboxItem._get_collection().update_one({"_id": id}, {"$set": values})


def seconds_until_due(id: str) -> float:
    return float((stored(id)["due_at"] - connection.server_time()).total_seconds())


class Noted:
    """The work of a job that notes what it is handed, and raises what it is told to."""

    def __init__(self, *raised: BaseException | None) -> None:
        self.raised = list(raised)
        self.came: list[Any] = []

    def __call__(self, run: Run, what: Any = None) -> None:
        self.came.append(what)
        if self.raised and (error := self.raised.pop(0)) is not None:
            raise error


def wait_until_cut(run: Run) -> None:
    """Work on as a job does that never looks whether it may."""
    while True:
        time.sleep(0.001)


# Done


def test_a_job_is_done_once_with_its_arguments() -> None:
    note = Noted()
    greet = Job("greet", note)
    worker = Worker(greet)
    id = enqueue(greet, {"what": "hello"})
    worker.look(3)
    assert note.came == ["hello"]
    found = stored(id)
    assert (found["state"], found["tries"]) == ("sent", 1)
    assert not {"worker", "key", "at_work"} & found.keys()


def test_a_job_knows_its_run() -> None:
    seen: list[Run] = []
    keep = Job("keep", seen.append)
    id = enqueue(keep)
    Worker(keep).look()
    (run,) = seen
    assert (run.id, run.tries) == (id, 1)


@pytest.mark.parametrize("given", [{"other": 1}, {"what": 1, "more": 2}, {"what": "x" * 70_000}])
def test_arguments_that_no_run_could_take_are_refused_at_once(given: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match="greet: "):
        enqueue(Job("greet", Noted()), given)
    assert OutboxItem._get_collection().count_documents({}) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Greet"},
        {"name": "a" * 65},
        {"tries": 0},
        {"seconds": 0.0},
        {"priority": 10},
        {"cron": "* * * *"},
        {"cron": "0 0 0 * * *"},
        {"cron": "61 * * * *"},
        {"cron": "0 0 30 2 *"},
        {"cron": "* * * * *", "zone": "Mars/Olympus"},
    ],
)
def test_a_job_that_could_never_be_done_is_refused_where_it_stands(wrong: Mapping[str, Any]) -> None:
    given = {"name": "greet", "work": Noted(), **wrong}
    with pytest.raises(ValueError, match=r"greet|Greet|aaa"):
        Job(**given)


def test_a_job_with_a_schedule_takes_no_arguments() -> None:
    def greet(run: Run, what: str) -> None:
        """Needs something."""

    with pytest.raises(ValueError, match="greet: missing a required argument: 'what'"):
        job("greet", cron="0 6 * * 1")(greet)


def test_of_a_job_with_a_schedule_one_run_is_at_work_at_a_time_unless_that_is_said_otherwise() -> None:
    assert job("a", cron="0 6 * * 1")(Noted()).alone
    assert not job("a", cron="0 6 * * 1", alone=False)(Noted()).alone
    assert not job("a")(Noted()).alone


def test_two_jobs_of_one_name_stop_the_start() -> None:
    one, other = ModuleType("one"), ModuleType("other")
    one.greet = other.same = Job("greet", Noted())  # type: ignore[attr-defined]
    assert list(jobs_in([one, other])) == ["greet"]
    other.another = Job("greet", Noted())  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="two jobs 'greet'"):
        jobs_in([one, other])


@pytest.mark.real
def test_a_job_is_stored_with_the_write_that_causes_it_or_not_at_all() -> None:
    greet = Job("greet", Noted())

    def write(fails: bool) -> None:
        enqueue(greet)
        enqueue(greet, key="k")
        if fails:
            raise KeyError

    with pytest.raises(KeyError):
        transactions.run(lambda: write(True))
    assert OutboxItem._get_collection().count_documents({}) == 0
    transactions.run(lambda: write(False))
    assert OutboxItem._get_collection().count_documents({}) == 2


# When, and in which order


def test_a_job_waits_for_its_time() -> None:
    note = Noted()
    greet = Job("greet", note)
    worker = Worker(greet)
    seoul = datetime.now(ZoneInfo("Asia/Seoul")) + timedelta(hours=1)
    id = enqueue(greet, at=seoul)
    worker.look(2)
    assert note.came == []
    assert 3590 < seconds_until_due(id) < 3610
    due_now(id)
    worker.look()
    assert note.came == [None]


def test_what_has_a_lower_priority_is_done_first_then_what_is_due_first() -> None:
    note = Noted()
    greet = Job("greet", note)
    for what, priority, minutes in (("c", 5, 1), ("d", 9, 9), ("b", 5, 2), ("a", 0, 1)):
        enqueue(greet, {"what": what}, priority=priority, at=now() - timedelta(minutes=minutes))
    Worker(greet).look(4)
    assert note.came == ["a", "b", "c", "d"]


def test_of_the_waiting_ones_with_one_key_there_is_one() -> None:
    note = Noted()
    greet, other = Job("greet", note), Job("other", note)
    worker = Worker(greet, other)
    later = now() + timedelta(hours=1)
    id = enqueue(greet, {"what": 1}, key="k", at=later, priority=7)
    assert enqueue(greet, {"what": 2}, key="k", priority=3) == id
    assert enqueue(greet, {"what": 2}, key="k", at=later, priority=9) == id
    assert enqueue(other, {"what": 3}, key="k") != id
    assert (stored(id)["priority"], stored(id)["due_at"]) == (3, items.DUE_AT_ONCE)
    worker.look(3)
    assert sorted(note.came) == [1, 3]
    assert enqueue(greet, {"what": 4}, key="k") != id


@pytest.mark.real
def test_of_many_at_once_with_one_key_one_is_stored() -> None:
    greet = Job("greet", Noted())
    both: list[Callable[[], str]] = [
        lambda: enqueue(greet, key="k"),
        lambda: transactions.run(lambda: enqueue(greet, key="k")),
    ]
    found = at_once(*both * 6)
    assert len(found) == 12
    assert len(set(found)) == OutboxItem._get_collection().count_documents({}) == 1


@pytest.mark.real
def test_what_a_transaction_writes_is_seen_by_the_run_that_it_asks_for() -> None:
    """Were the one that waits begun just before the commit, what is written would be seen by none."""
    events = Event._get_collection()
    seen: list[int] = []
    count = Job("count", lambda run: seen.append(events.count_documents({})))
    worker = Worker(count)
    enqueue(count, key="k")
    asked, begun = threading.Event(), threading.Event()

    def write() -> None:
        events.insert_one({"_id": "written"})
        enqueue(count, key="k")
        asked.set()
        begun.wait(0.3)

    thread = threading.Thread(target=lambda: transactions.run(write))
    thread.start()
    assert asked.wait(10)
    began = threading.Thread(target=lambda: (worker.look(), begun.set()))
    began.start()
    thread.join()
    began.join()
    worker.look(2)
    assert seen[-1] == 1


@pytest.mark.real
def test_one_that_a_transaction_writes_to_keeps_no_other_waiting() -> None:
    """Where a worker dies in a transaction, MongoDB keeps that for a minute."""
    note = Noted()
    greet = Job("greet", note)
    enqueue(greet, {"what": "locked"}, key="k", priority=0)
    client = OutboxItem._get_collection().database.client
    with client.start_session() as session, session.start_transaction():
        OutboxItem._get_collection().update_one({"state": "waiting"}, {"$inc": {"enqueued": 1}}, session=session)
        enqueue(greet, {"what": "free"})
        began = time.monotonic()
        Worker(greet).look(2)
        assert time.monotonic() - began < 2
        assert note.came == ["free"]
    Worker(greet).look()
    assert note.came == ["free", "locked"]


def test_of_one_that_is_alone_a_single_run_is_at_work() -> None:
    greet, other = Job("greet", Noted(), alone=True), Job("other", Noted(), alone=True)
    ids = {enqueue(greet), enqueue(greet)}
    apart = enqueue(other)
    first, second = (items.take_due(JOB, 30.0) for _ in range(2))
    assert first is not None
    assert second is not None
    assert {first["_id"], second["_id"]} == {apart, *({first["_id"], second["_id"]} & ids)}
    assert items.take_due(JOB, 30.0) is None
    (greeting,) = (item for item in (first, second) if item["_id"] != apart)
    items.put_off(greeting, 3600.0, "it failed")
    third = items.take_due(JOB, 30.0)
    assert third is not None
    assert third["_id"] != greeting["_id"]


def test_one_that_is_alone_and_whose_worker_died_is_taken_again_itself() -> None:
    greet = Job("greet", Noted(), alone=True)
    enqueue(greet, at=now() - timedelta(minutes=2))
    enqueue(greet)
    dead = items.take_due(JOB, 30.0)
    assert dead is not None
    assert items.take_due(JOB, 30.0) is None
    due_now(dead["_id"])
    again = items.take_due(JOB, 30.0)
    assert again is not None
    assert (again["_id"], again["tries"]) == (dead["_id"], 2)


# What fails


def test_what_fails_is_tried_again_later_and_kept_as_failed_after_the_last_try(capsys: Any) -> None:
    note = Noted(KeyError("a"), ValueError("b"), ValueError("c"))
    greet = Job("greet", note, tries=3)
    worker = Worker(greet)
    id = enqueue(greet)
    for tries, least, most in ((1, 7.0, 15.0), (2, 14.0, 30.0)):
        worker.look(2)
        assert (stored(id)["state"], len(note.came)) == ("waiting", tries)
        assert least < seconds_until_due(id) <= most
        due_now(id)
    worker.look(2)
    found = stored(id)
    assert (found["state"], found["reason"], len(note.came)) == ("failed", "ValueError: c", 3)
    assert "expires_at" in found
    assert "Traceback" in capsys.readouterr().out


def test_a_job_that_says_so_is_not_tried_again() -> None:
    greet = Job("greet", Noted(Refused("there is no such note")))
    id = enqueue(greet)
    Worker(greet).look()
    assert (stored(id)["state"], stored(id)["reason"]) == ("failed", "there is no such note")


def test_a_job_that_says_so_is_tried_later_without_a_traceback(capsys: Any) -> None:
    greet = Job("greet", Noted(Postponed("not yet")))
    id = enqueue(greet)
    Worker(greet).look()
    assert (stored(id)["state"], stored(id)["reason"]) == ("waiting", "not yet")
    assert "Traceback" not in capsys.readouterr().out


def test_a_job_that_ends_its_thread_is_a_failure_like_any() -> None:
    greet = Job("greet", Noted(SystemExit(1)))
    id = enqueue(greet)
    Worker(greet).look()
    assert stored(id)["reason"] == "SystemExit: 1"


def test_a_job_whose_worker_dies_at_each_try_is_given_up() -> None:
    greet = Job("greet", Noted(), tries=2)
    worker = Worker(greet)
    id = enqueue(greet)
    for _ in range(2):
        assert items.take_due(JOB, 30.0) is not None
        due_now(id)
    worker.look()
    assert (stored(id)["state"], stored(id)["reason"]) == ("failed", "each worker that had it died")


def test_what_failed_is_tried_as_often_as_a_new_one_where_somebody_asks_for_it() -> None:
    note = Noted(KeyError("a"), KeyError("b"))
    greet = Job("greet", note, tries=1)
    worker = Worker(greet)
    id = enqueue(greet)
    worker.look()
    assert stored(id)["state"] == "failed"
    assert items.repeat_failed({"_id": id}) == 1
    worker.look()
    assert stored(id)["state"] == "failed"
    assert items.repeat_failed({"_id": id}) == 1
    worker.look()
    assert (stored(id)["state"], stored(id)["tries"]) == ("sent", 3)


def test_a_job_that_this_version_does_not_know_waits_for_one_that_does() -> None:
    note = Noted()
    greet = Job("greet", note)
    id = enqueue(greet)
    Worker().look()
    assert (stored(id)["state"], "no such job" in stored(id)["reason"]) == ("waiting", True)
    due_now(id)
    Worker(greet).look()
    assert note.came == [None]


# Under way


def test_a_job_says_how_far_it_is() -> None:
    seen: list[Raw] = []

    def work(run: Run) -> None:
        run.progress(0.25, "5 of 20")
        seen.append(stored(run.id))
        run.progress(7)

    half = Job("half", work)
    id = enqueue(half)
    Worker(half).look()
    assert seen[0]["progress"] == {"part": 0.25, "note": "5 of 20"}
    assert stored(id)["progress"]["part"] == 1.0


def test_a_lease_is_kept_while_a_job_is_at_work() -> None:
    def work(run: Run) -> None:
        change(run.id, {"due_at": connection.server_time() + timedelta(seconds=1)})
        end = time.monotonic() + 5
        while seconds_until_due(run.id) < 10:
            assert time.monotonic() < end
            time.sleep(0.01)

    long = Job("long", work)
    id = enqueue(long)
    Worker(long).look()
    assert stored(id)["state"] == "sent"


def test_a_job_that_takes_too_long_is_told_to_end_and_tried_again() -> None:
    long = Job("long", wait_until_cut, seconds=0.05)
    worker = Worker(long)
    id = enqueue(long)
    worker.look()
    assert (stored(id)["state"], stored(id)["reason"]) == ("waiting", "it took longer than 0.05 s")
    assert worker.killed == []


def test_a_job_that_catches_every_exception_is_told_to_end_all_the_same() -> None:
    def work(run: Run) -> None:
        while True:
            try:
                time.sleep(0.001)
                run.check()
            except Exception:
                pass

    deaf = Job("deaf", work, seconds=0.05)
    id = enqueue(deaf)
    Worker(deaf).look()
    assert "longer" in stored(id)["reason"]


def test_a_job_that_nobody_would_wait_for_is_none() -> None:
    async def work(run: Run) -> None: ...

    with pytest.raises(ValueError, match="greet has to be a plain function"):
        Job("greet", work)


def test_who_begins_when_a_job_has_ended_is_not_interrupted_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run({"_id": "x", "tries": 1, "content": {}, "created_at": now()})
    run.begin(lambda: None)
    assert run.has_ended(5)
    assert run.thread is not None
    released, hit = threading.Event(), []

    def go_on() -> None:
        try:
            while not released.wait(0.01):
                pass
        except BaseException as error:
            hit.append(error)

    other = threading.Thread(target=go_on)
    other.start()
    # The system may give the identity of a thread that has ended to the next one.
    monkeypatch.setattr(run.thread.thread, "_ident", other.ident)
    run.interrupt("over time")
    time.sleep(0.1)
    released.set()
    other.join()
    assert hit == []


def test_where_a_job_does_not_end_its_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performing, "ENDS_WITHIN", 1.02)
    released = threading.Event()

    def work(run: Run) -> None:
        end = time.monotonic() + 30
        while not released.is_set() and time.monotonic() < end:
            with suppress(BaseException):
                time.sleep(0.01)

    stuck = Job("stuck", work, seconds=0.05)
    worker = Worker(stuck)
    sender = worker.dispatcher.sender
    assert isinstance(sender, JobSender)
    sender.end_process = lambda: (worker.killed.append("killed"), released.set())
    enqueue(stuck)
    worker.look()
    assert worker.killed == ["killed"]


def test_a_job_that_is_cancelled_while_it_waits_is_not_done() -> None:
    note = Noted()
    greet = Job("greet", note)
    id = enqueue(greet, key="k")
    assert items.cancel({"_id": id}) == (1, 0)
    Worker(greet).look(2)
    assert (note.came, stored(id)["state"], stored(id)["reason"]) == ([], "failed", "cancelled")
    assert enqueue(greet, key="k") != id


def test_a_job_that_is_cancelled_while_it_is_at_work_ends() -> None:
    def work(run: Run) -> None:
        assert items.cancel({"_id": run.id}) == (0, 1)
        wait_until_cut(run)

    long = Job("long", work)
    id = enqueue(long)
    Worker(long).look()
    assert (stored(id)["state"], stored(id)["reason"]) == ("failed", "cancelled")
    assert "cancelled" not in stored(id)


def test_a_job_that_is_cancelled_between_two_tries_is_not_tried_again() -> None:
    note = Noted()
    greet = Job("greet", note)
    id = enqueue(greet)
    assert items.take_due(JOB, 30.0) is not None
    assert items.cancel({"_id": id}) == (0, 1)
    due_now(id)
    Worker(greet).look()
    assert (note.came, stored(id)["reason"]) == ([], "cancelled")


def test_a_job_that_is_dropped_while_it_is_at_work_ends_and_leaves_nothing() -> None:
    def work(run: Run) -> None:
        assert items.remove_items({"_id": run.id}) == 1
        wait_until_cut(run)

    long = Job("long", work)
    enqueue(long)
    Worker(long).look()
    assert OutboxItem._get_collection().count_documents({}) == 0


def test_when_its_worker_ends_a_job_is_given_back_and_that_was_no_try() -> None:
    ending = threading.Event()

    def work(run: Run) -> None:
        ending.set()
        wait_until_cut(run)

    long = Job("long", work, tries=1)
    id = enqueue(long)
    Worker(long).dispatcher.step(Shared(ending))
    found = stored(id)
    assert (found["state"], found["due_at"], found["attempts"]) == ("waiting", items.DUE_AT_ONCE, 0)
    note = Noted()
    Worker(Job("long", note, tries=1)).look()
    assert (note.came, stored(id)["state"]) == ([None], "sent")


# Who has it


def taken_by_another(id: str) -> None:
    """Have another worker take what it believes to be left alone."""
    due_now(id)
    assert items.take_due(JOB, 30.0) is not None


def test_of_a_job_that_another_worker_has_by_now_nothing_is_believed() -> None:
    def work(run: Run) -> None:
        taken_by_another(run.id)

    slow = Job("slow", work)
    id = enqueue(slow)
    Worker(slow).look()
    assert (stored(id)["state"], stored(id)["tries"]) == ("waiting", 2)


def test_a_job_that_another_worker_has_by_now_is_told_to_end() -> None:
    def work(run: Run) -> None:
        taken_by_another(run.id)
        wait_until_cut(run)

    slow = Job("slow", work)
    id = enqueue(slow)
    Worker(slow).look()
    found = stored(id)
    assert (found["state"], found["tries"], "reason" in found) == ("waiting", 2, False)


def test_where_mongodb_does_not_answer_a_job_ends_before_another_worker_can_take_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(performing, "ENDS_WITHIN", performing.KEPT_FOR - 0.1)
    left: list[float] = []

    def work(run: Run) -> None:
        def fail(*_: Any) -> None:
            raise AutoReconnect("gone")

        with monkeypatch.context() as away:
            away.setattr(items, "extend", fail)
            try:
                wait_until_cut(run)
            finally:
                left.append(seconds_until_due(run.id))

    slow = Job("slow", work)
    id = enqueue(slow)
    Worker(slow).look()
    assert left[0] > 15
    assert stored(id)["state"] == "waiting"


def test_a_job_whose_end_cannot_be_told_at_once_is_not_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AutoReconnect("gone")

    note, extend = Noted(), items.extend
    greet = Job("greet", note)
    id, worker = enqueue(greet), Worker(greet)
    with monkeypatch.context() as away:
        away.setattr(items, "extend", lambda *given: extend(*given) if not note.came else fail())
        away.setattr(items, "mark_sent", fail)
        with pytest.raises(AutoReconnect):
            worker.look()
    worker.look(2)
    assert (note.came, stored(id)["state"]) == ([None], "sent")


def test_what_a_job_writes_once_is_written_together_with_its_end() -> None:
    events = Event._get_collection()

    def work(run: Run) -> None:
        run.once(lambda: events.insert_one({"_id": run.id}))

    write = Job("write", work)
    id = enqueue(write)
    Worker(write).look()
    assert (stored(id)["state"], events.count_documents({"_id": id})) == ("sent", 1)


@pytest.mark.real
def test_what_a_job_would_write_once_is_not_written_where_another_worker_has_it() -> None:
    events = Event._get_collection()

    def work(run: Run) -> None:
        taken_by_another(run.id)
        run.once(lambda: events.insert_one({"_id": run.id}))

    write = Job("write", work)
    id = enqueue(write)
    Worker(write).look()
    assert (stored(id)["state"], events.count_documents({})) == ("waiting", 0)


def test_a_job_that_fails_after_it_wrote_once_is_done() -> None:
    def work(run: Run) -> None:
        run.once(lambda: None)
        raise KeyError

    write = Job("write", work)
    id = enqueue(write)
    Worker(write).look()
    assert stored(id)["state"] == "sent"


# In a worker


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tree has a job `tell`; what it was told."""
    told: list[str] = []
    module = ModuleType("module")
    module.tell = Job("tell", lambda run, what: told.append(what))  # type: ignore[attr-defined]
    monkeypatch.setattr("service.functions.modules", lambda: [module])
    return told


def test_workers_do_the_jobs_of_the_tree(test_settings: dict[str, Any], app: Flask, ledger: list[str]) -> None:
    all_chores = chores(test_settings, app.extensions["madang.registry"])
    table = [chore for chore in all_chores if chore.name in ("arrivals", "job")]
    assert [chore.name for chore in table] == ["arrivals", "job", "job"]
    assert all(chore.shared for chore in table)
    crew = Crew(table)
    crew.start()
    try:
        enqueue(Job("tell", lambda run, what: None), {"what": "hello"})
        assert until(lambda: ledger)
    finally:
        crew.stop(10)
    assert ledger == ["hello"]


def test_a_worker_may_leave_jobs_to_others(test_settings: dict[str, Any], app: Flask) -> None:
    table = chores({**test_settings, "JOB_THREADS": 0}, app.extensions["madang.registry"])
    assert not [chore for chore in table if chore.name[:3] == "job"]


def test_what_becomes_of_jobs_is_counted() -> None:
    def counted(outcome: str) -> float:
        return METRICS.get_sample_value("madang_jobs_total", {"name": "counted", "outcome": outcome}) or 0.0

    counts = {outcome: counted(outcome) for outcome in ("done", "postponed", "refused")}
    greet = Job("counted", Noted(None, KeyError("a"), Refused("b")))
    worker = Worker(greet)
    for _ in counts:
        enqueue(greet)
    worker.look(3)
    assert {outcome: counted(outcome) - before for outcome, before in counts.items()} == dict.fromkeys(counts, 1.0)
    assert METRICS.get_sample_value("madang_job_seconds_count", {"name": "counted"}) == 3
    assert METRICS.get_sample_value("madang_jobs_at_work") == 0


def test_the_jobs_of_an_account_can_go_with_it(ada: Any) -> None:
    id = enqueue(Job("greet", Noted()), account=ada.id)
    assert stored(id)["account"] == ada.id
    assert ada.delete("/v1/accounts/me").status_code == 204
    assert OutboxItem._get_collection().count_documents({"_id": id}) == 0


def test_a_time_with_a_zone_is_kept_in_utc() -> None:
    seoul = datetime(2026, 11, 27, 9, 0, tzinfo=ZoneInfo("Asia/Seoul"))
    assert jobs.in_utc(seoul) == datetime(2026, 11, 27, 0, 0)
    assert jobs.in_utc(datetime(2026, 11, 27, 0, 0, tzinfo=UTC)) == jobs.in_utc(datetime(2026, 11, 27, 0, 0))
