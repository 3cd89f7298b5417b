"""After a change: each record's newest state is told to the hook of its type, in order, at least once."""

import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from mongoengine import StringField

from service.changes import after_changes, follower, set_aside
from service.changes.after_changes import begin_hooks
from service.core import metrics
from service.core.clock import now
from service.documents import Change, Lease, LeaseLost, Notebook, Record, SetAside
from service.documents.record_change import RecordChange
from service.model.registry import Registry
from service.upkeep import indexes
from service.worker.chores import chores
from tests.client import Person
from tests.telling import LEASE, PATH, Killed, Parcel, Stuck, Telling, fail, title

pytestmark = pytest.mark.real


@pytest.fixture
def service(make_app: Callable[..., Flask]) -> Iterator[Flask]:
    made = make_app(documents=[Parcel])
    with made.app_context():
        indexes.make(Registry([Parcel]))
    yield made
    Parcel._get_collection().drop()
    SetAside._get_collection().delete_many({})
    Lease._get_collection().delete_one({"_id": LEASE})


@pytest.fixture
def ada(service: Flask, ada: Person) -> Person:
    ada.client = service.test_client()
    return ada


@pytest.fixture
def telling(service: Flask, test_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Telling]:
    monkeypatch.setattr(follower, "FOLLOWS_EVERY", 0.0)
    Parcel.does.clear()
    found = Telling(Registry([Parcel]), test_settings)
    found.catch_up()
    yield found
    found.recording.close()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has failed is tried again without a delay, three times in all."""
    monkeypatch.setattr(set_aside, "FIRST_HOOK_DELAY", 0.0)
    monkeypatch.setattr(set_aside, "HOOK_TRIES", 3)


def rows() -> list[tuple[Any, ...]]:
    """What is kept of failures."""
    found = SetAside._get_collection().find({}, sort=[("_id", 1)])
    return [(row["record"], row["state"], row["tries"], row["reason"]) for row in found]


def make(ada: Person, *ids: str) -> None:
    for id in ids:
        assert ada.post(PATH, {"id": id, "title": id}).status_code == 201


# What is told


def test_what_is_made_changed_and_deleted_is_told_in_order(ada: Person, telling: Telling) -> None:
    make(ada, "a", "b")
    assert telling.catch_up() == [("a", "a"), ("b", "b")]
    ada.patch(f"{PATH}/a", {"title": "new"})
    ada.delete(f"{PATH}/b")
    assert telling.catch_up() == [("a", "new"), ("b", None)]
    assert telling.catch_up() == []


def test_a_hook_sees_a_typed_record_its_kind_revision_and_owner(ada: Person, telling: Telling) -> None:
    make(ada, "a")
    telling.catch_up()
    (made,) = Parcel.changes
    assert (made.type, made.id, made.kind, made.revision, made.owner) == ("test_parcels", "a", "created", 1, ada.id)
    assert isinstance(made.record, Parcel)
    assert (made.record.title, made.record.owner, made.record.revision) == ("a", ada.id, 1)
    ada.patch(f"{PATH}/a", {"title": "new"})
    telling.catch_up()
    (changed,) = Parcel.changes
    assert (changed.kind, changed.revision, changed.seq > made.seq) == ("changed", 2, True)
    ada.delete(f"{PATH}/a")
    telling.catch_up()
    (deleted,) = Parcel.changes
    assert (deleted.kind, deleted.revision, deleted.owner, deleted.record) == ("deleted", 3, ada.id, None)


def test_of_many_writes_before_it_looks_a_hook_is_told_the_newest_state_as_new(ada: Person, telling: Telling) -> None:
    make(ada, "a")
    telling.recording.catch_up()
    for number in range(5):
        ada.patch(f"{PATH}/a", {"title": str(number)})
        telling.recording.catch_up()
    assert telling.catch_up() == [("a", "4")]
    assert [(change.kind, change.revision) for change in Parcel.changes] == [("created", 6)]


def test_of_a_record_of_which_nothing_is_left_its_last_owner_is_told(ada: Person, telling: Telling) -> None:
    make(ada, "a")
    telling.catch_up()
    Parcel._get_collection().delete_one({"_id": "a"})
    telling.catch_up()
    (deleted,) = Parcel.changes
    assert (deleted.kind, deleted.revision, deleted.owner) == ("deleted", 1, ada.id)
    # Not even the order has it any more.
    assert telling.work.last_known("test_parcels/gone") == {"revision": 0, "owner": None}


def test_what_only_the_server_sees_of_a_record_is_told_too(ada: Person, telling: Telling) -> None:
    make(ada, "a")
    Parcel._get_collection().update_one({"_id": "a"}, {"$set": {"label": "secret"}})
    telling.catch_up()
    assert Parcel.changes[0].record is not None
    assert Parcel.changes[0].record.label == "secret"


# From where it has stopped


def test_a_worker_goes_on_where_the_last_one_stopped(ada: Person, telling: Telling) -> None:
    make(ada, "a")
    telling.start()
    assert telling.catch_up() == [("a", "a")]
    telling.start()
    assert telling.catch_up() == []


@pytest.mark.parametrize("at", ["a", "b", "c"])
def test_what_was_told_before_a_crash_and_not_noted_is_told_again(ada: Person, telling: Telling, at: str) -> None:
    make(ada, "a", "b", "c")
    attempt = telling.work.attempt

    def attempt_and_die(right: Any, row: Any, is_stored: bool) -> None:
        attempt(right, row, is_stored)
        if row["record"] == at:
            raise Killed

    telling.work.attempt = attempt_and_die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        telling.catch_up()
    telling.start()
    assert telling.catch_up() == [("a", "a"), ("b", "b"), ("c", "c")]
    assert [change.kind for change in Parcel.changes] == ["created"] * 3


def test_a_slow_hook_is_noted_on_its_way(ada: Person, telling: Telling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(after_changes, "TOLD_FOR", 0.0)
    make(ada, "a", "b")
    Parcel.does["b"] = lambda _change: telling.lease.release()
    with pytest.raises(LeaseLost):
        telling.catch_up()
    Parcel.does.clear()
    telling.start()
    assert telling.catch_up() == [("b", "b")]


def test_who_has_lost_the_lease_tells_no_more(ada: Person, telling: Telling) -> None:
    make(ada, "a", "b")
    old, lease = telling.work, telling.lease
    Parcel.does["a"] = lambda _change: lease.release()
    telling.recording.catch_up()
    Parcel.changes.clear()
    with pytest.raises(LeaseLost):
        old.step(lease)
    assert [change.id for change in Parcel.changes] == ["a"]
    Parcel.does.clear()
    telling.start()
    assert telling.catch_up() == [("a", "a"), ("b", "b")]


def test_a_hook_that_comes_later_begins_with_what_is_written_from_then_on(
    ada: Person, telling: Telling, test_settings: dict[str, Any]
) -> None:
    make(ada, "old")
    telling.recording.catch_up()
    Lease._get_collection().delete_one({"_id": LEASE})
    begin_hooks(Registry([Parcel]))
    make(ada, "new")
    telling.start()
    assert telling.catch_up() == [("new", "new")]
    ada.patch(f"{PATH}/old", {"title": "changed"})
    assert telling.catch_up() == [("old", "changed")]
    assert Parcel.changes[0].kind == "changed"


def test_a_hook_that_was_gone_for_a_while_is_told_what_has_happened_meanwhile(ada: Person, telling: Telling) -> None:
    make(ada, "a", "b")
    telling.catch_up()
    telling.lease.release()
    ada.patch(f"{PATH}/a", {"title": "new"})
    ada.delete(f"{PATH}/b")
    begin_hooks(Registry([Parcel]))
    telling.start()
    assert telling.catch_up() == [("a", "new"), ("b", None)]


def test_what_was_written_before_a_hook_came_is_not_told_where_the_order_is_made_anew(
    ada: Person, telling: Telling
) -> None:
    make(ada, "old", "new")
    telling.catch_up()
    long_ago = now() - timedelta(days=1)
    Parcel._get_collection().update_one({"_id": "old"}, {"$set": {"updated_at": long_ago}})
    # As after a restore, which has neither the order nor how far hooks are.
    Change._get_collection().delete_many({})
    Lease._get_collection().delete_many({"_id": {"$in": [LEASE, "recorder"]}})
    begin_hooks(Registry([Parcel]))
    telling.start()
    telling.recording.recorder.close()
    telling.recording.lease.until = 0.0
    assert telling.catch_up() == [("new", "new")]


def test_one_that_was_away_for_longer_than_tombstones_stay_is_told_what_is_there(ada: Person, telling: Telling) -> None:
    make(ada, "stays", "goes")
    telling.catch_up()
    ada.delete(f"{PATH}/goes")
    ada.patch(f"{PATH}/stays", {"title": "new"})
    telling.recording.catch_up()
    Change._get_collection().update_many({"gone": True}, {"$set": {"purge_at": datetime(2020, 1, 1)}})
    telling.recording.recorder.forget(telling.recording.lease)
    late = metrics.FOLLOWED_LATE.labels(LEASE)._value.get()
    assert telling.catch_up() == [("stays", "new")]
    assert metrics.FOLLOWED_LATE.labels(LEASE)._value.get() == late + 1


# What fails


@pytest.mark.usefixtures("at_once")
def test_a_poison_keeps_nothing_else_waiting_and_is_set_aside(ada: Person, telling: Telling) -> None:
    Parcel.does["a"] = fail
    make(ada, "a", "b")
    failed = metrics.HOOK_FAILED.labels("test_parcels")._value.get()
    assert telling.catch_up() == [("a", "a"), ("b", "b"), ("a", "a"), ("a", "a")]
    assert rows() == [("a", "set_aside", 3, "RuntimeError")]
    assert metrics.HOOK_FAILED.labels("test_parcels")._value.get() == failed + 3
    assert metrics.SET_ASIDE.labels("test_parcels")._value.get() == 1
    assert telling.work.trouble == "of 1 records its hook could make nothing; see `flask hooks list`"
    telling.try_now()
    assert telling.catch_up() == []
    # A newer change of the record is told, still as that of a new one, and success ends it.
    Parcel.does.clear()
    ada.patch(f"{PATH}/a", {"title": "new"})
    telling.try_now()
    assert telling.catch_up() == [("a", "new")]
    assert Parcel.changes[0].kind == "created"
    assert (rows(), telling.work.trouble) == ([], None)
    ada.patch(f"{PATH}/a", {"title": "newer"})
    telling.catch_up()
    assert Parcel.changes[0].kind == "changed"


def test_what_has_failed_is_tried_again_later_and_later(ada: Person, telling: Telling) -> None:
    Parcel.does["a"] = fail
    make(ada, "a")
    assert telling.catch_up() == [("a", "a")]
    (row,) = SetAside._get_collection().find({})
    assert 0.5 < (row["due_at"] - now()).total_seconds() <= 1.0
    assert [set_aside.delay_after(tries) for tries in (1, 2, 3, 9, 10, 20)] == [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]
    SetAside._get_collection().update_one({}, {"$set": {"due_at": datetime(2020, 1, 1)}})
    telling.try_now()
    assert telling.catch_up() == [("a", "a")]
    (again,) = SetAside._get_collection().find({})
    assert (again["tries"], again["since"]) == (2, row["since"])
    assert 1.0 < (again["due_at"] - now()).total_seconds() <= 2.0


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_error_of_a_hook_ends_its_worker(ada: Person, telling: Telling, error: type[BaseException]) -> None:
    def end(_change: RecordChange) -> None:
        raise error

    Parcel.does["a"] = end
    make(ada, "a", "b")
    assert ("b", "b") in telling.catch_up()
    assert rows() == [("a", "set_aside", 3, error.__name__)]


def test_a_hook_that_takes_too_long_is_told_to_end_and_tried_again(
    ada: Person, telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(after_changes, "HOOK_SECONDS", 0.1)
    Parcel.does["a"] = Stuck().in_python
    make(ada, "a", "b")
    assert telling.catch_up() == [("a", "a"), ("b", "b")]
    assert (rows(), telling.ended) == ([("a", "waiting", 1, "Interrupted")], 0)


def test_one_that_does_not_end_ends_its_process_and_is_not_told_first_again(
    ada: Person, telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(after_changes, "HOOK_SECONDS", 0.05)
    monkeypatch.setattr(after_changes, "HOOK_ENDS_WITHIN", 0.05)
    monkeypatch.setattr(set_aside, "FIRST_HOOK_DELAY", 60.0)
    stuck = Stuck()
    Parcel.does["b"] = stuck.deaf
    make(ada, "a", "b", "c")
    with pytest.raises(Killed):
        telling.catch_up()
    assert telling.ended == 1
    telling.start()
    assert telling.catch_up() == [("c", "c")]
    assert rows() == [("b", "waiting", 1, "DoesNotEnd")]
    stuck.released.set()


@pytest.mark.usefixtures("at_once")
def test_a_change_that_kills_its_workers_is_set_aside_and_the_others_are_told(ada: Person, telling: Telling) -> None:
    make(ada, "a", "b", "c")
    told: set[str] = set()

    def until_killed() -> bool:
        """Whether the worker has died, at the call of the hook for `b`."""

        def call(row: Any, stored: Any) -> BaseException | None:
            if row["record"] == "b":
                raise Killed
            return type(telling.work).call(telling.work, row, stored)

        telling.work.call = call  # type: ignore[method-assign]
        try:
            for _ in range(3):
                telling.work.step(telling.lease)
        except Killed:
            return True
        finally:
            told.update(change.id for change in Parcel.changes)
        return False

    telling.recording.catch_up()
    Parcel.changes.clear()
    deaths = 0
    while until_killed():
        deaths += 1
        assert deaths < 10
        telling.start()
    # Three until nothing there is trusted, then one for each try.
    assert deaths == 6
    assert (told, rows()) == ({"a", "c"}, [("b", "set_aside", 4, "Died")])


def test_of_two_workers_the_one_that_was_stopped_forgets_no_newer_failure(ada: Person, telling: Telling) -> None:
    """One is stopped in the middle of a call, longer than its lease lasts, and goes on later."""
    make(ada, "a")
    telling.recording.catch_up()
    old, lease, stopped, goes_on = telling.work, telling.lease, threading.Event(), threading.Event()

    def stop(_change: RecordChange) -> None:
        stopped.set()
        assert goes_on.wait(10)

    Parcel.does["a"] = stop

    def sleep_on() -> None:
        with pytest.raises(LeaseLost):
            old.step(lease)

    slept = threading.Thread(target=sleep_on)
    slept.start()
    assert stopped.wait(10)
    Parcel.does["a"] = fail
    telling.start()
    ada.patch(f"{PATH}/a", {"title": "newer"})
    assert telling.catch_up() == [("a", "newer")]
    goes_on.set()
    slept.join()
    assert rows() == [("a", "waiting", 1, "RuntimeError")]


def test_a_failure_of_one_that_was_stopped_takes_no_newer_ones_place(ada: Person, telling: Telling) -> None:
    make(ada, "a")
    older = set_aside.new_row("test_parcels", "a", 5, True, None)
    newer = set_aside.failed_row(set_aside.new_row("test_parcels", "a", 9, False, older), 2, "RuntimeError")
    set_aside.keep_row(newer)
    set_aside.keep_row(set_aside.failed_row(older, 8, "ValueError"))
    set_aside.keep_rows([older, set_aside.new_row("test_parcels", "b", 6, True, None)])
    assert rows() == [("a", "waiting", 2, "RuntimeError"), ("b", "waiting", 0, "Died")]
    set_aside.end_row(older)
    assert len(rows()) == 2
    set_aside.end_row(newer)
    assert len(rows()) == 1


def test_of_what_fails_no_content_is_kept(ada: Person, telling: Telling) -> None:
    def tell_all(change: RecordChange) -> None:
        raise RuntimeError(f"a secret: {title(change)}")

    Parcel.does["a"] = tell_all
    ada.post(PATH, {"id": "a", "title": "my diary"})
    telling.catch_up()
    (row,) = SetAside._get_collection().find({})
    assert "diary" not in str(row)
    assert row.keys() == set(SetAside._fields) - {"id"} | {"_id"}


# Hooks that write


def test_a_hook_writes_as_an_account_by_an_explicit_call(ada: Person, telling: Telling) -> None:
    Parcel.does["a"] = lambda change: change.acting_for(ada.id).records(Parcel).create({"id": "made", "title": "x"})
    make(ada, "a")
    telling.catch_up()
    assert ada.get(f"{PATH}/made").json["owner"] == ada.id
    assert telling.catch_up() == [("made", "x")]


def test_a_hook_that_writes_to_its_record_is_told_of_that_and_stops_where_it_looks_first(
    ada: Person, telling: Telling
) -> None:
    def shout(change: RecordChange) -> None:
        title = change.record.title if change.record else ""
        if title != title.upper():
            change.acting_for(ada.id).records(Parcel).change(change.id, {"title": title.upper()})

    Parcel.does["a"] = shout
    make(ada, "a")
    assert telling.catch_up() == [("a", "a")]
    assert telling.catch_up() == [("a", "A")]
    assert telling.catch_up() == []


def test_a_hook_that_calls_itself_for_ever_keeps_no_other_change_waiting(ada: Person, telling: Telling) -> None:
    Parcel.does["a"] = lambda change: (
        change.acting_for(ada.id).records(Parcel).change("a", {"title": str(change.revision)})
    )
    make(ada, "a")
    for number in range(3):
        make(ada, f"other-{number}")
        assert [id for id, _ in telling.catch_up()] == (["a", "other-0"] if number == 0 else ["a", f"other-{number}"])


# For who runs it


def hooks(service: Flask, *words: str, code: int = 0) -> str:
    """What a command says."""
    result = service.test_cli_runner().invoke(args=["hooks", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.usefixtures("at_once")
def test_what_is_set_aside_is_listed_repeated_and_dropped(service: Flask, ada: Person, telling: Telling) -> None:
    Parcel.does["a"] = fail
    make(ada, "a")
    telling.catch_up()
    assert "test_parcels/a  set aside, 3 tries since " in hooks(service, "list")
    assert "RuntimeError" in hooks(service, "list")
    hooks(service, "repeat", code=2)
    hooks(service, "repeat", "--all", "test_parcels/a", code=2)
    Parcel.does.clear()
    assert hooks(service, "repeat", "--all") == "1 are told again\n"
    assert "waiting, 0 tries" in hooks(service, "list")
    telling.try_now()
    assert telling.catch_up() == [("a", "a")]
    assert (hooks(service, "list"), telling.work.trouble) == ("", None)
    Parcel.does["a"] = fail
    ada.patch(f"{PATH}/a", {"title": "two"})
    telling.catch_up()
    assert hooks(service, "drop", "test_parcels/none", "--yes") == "0 dropped\n"
    assert hooks(service, "drop", "test_parcels/a", "--yes") == "1 dropped\n"
    assert hooks(service, "list") == ""


def test_a_type_without_such_a_hook_has_no_chore(service: Flask, test_settings: dict[str, Any]) -> None:
    with_hook = {chore.name for chore in chores(test_settings, Registry([Parcel, Notebook]))}
    assert with_hook - {chore.name for chore in chores(test_settings, Registry([Notebook]))} == {LEASE}


def test_two_types_are_told_each_by_itself(ada: Person, telling: Telling) -> None:
    class Other(Record):
        title = StringField()
        meta = {"collection": "test_others"}

        @classmethod
        def after_change(cls, change: RecordChange) -> None:
            """Hear of it."""

    begin_hooks(Registry([Parcel, Other]))
    leases = {row["_id"] for row in Lease._get_collection().find({"_id": {"$regex": "^after-change:"}})}
    assert leases == {LEASE, "after-change:test_others"}
    Lease._get_collection().delete_one({"_id": "after-change:test_others"})
