"""Followers go through the changes of some record types: each once, in order, from where they have stopped."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from mongoengine.connection import get_db

from service.changes import follower, passage
from service.changes.follower import Follower, begin_following
from service.changes.order import lease_document
from service.changes.passage import Passage
from service.core import metrics
from service.documents import Change, Lease, LeaseLost, Note, Right
from service.worker.lease import Holding
from tests.client import Person
from tests.recording import Recording

pytestmark = pytest.mark.real
NAME = "test-follower"


class Following:
    """A worker with one follower, and one that records."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.told: list[str] = []
        self.dies_at = ""
        self.start()

    def start(self) -> None:
        """Begin as a process does that knows nothing, while the last one still has its lease."""
        Lease._get_collection().update_one({"_id": NAME}, [{"$set": {"expires_at": "$$NOW"}}])
        self.follower = Follower(NAME, ["notes", "notebooks"], self.tell)
        self.lease = Holding(NAME, 60.0)
        assert self.lease.take()

    def tell(self, right: Right, passage: Passage) -> None:
        for change in passage.changes:
            if change["record"] == self.dies_at:
                raise Killed
            self.told.append(change["record"])

    def catch_up(self) -> list[str]:
        """What is told of all that has happened."""
        self.recording.catch_up()
        self.told = []
        for _ in range(10):
            self.follower.step(self.lease)
        return self.told


class Killed(BaseException):
    """The worker ends at this line."""


@pytest.fixture
def following(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Iterator[Following]:
    monkeypatch.setattr(follower, "FOLLOWS_EVERY", 0.0)
    found = Following(recording)
    found.catch_up()
    yield found
    Lease._get_collection().delete_one({"_id": NAME})


def state() -> dict[str, Any]:
    return dict(Lease._get_collection().find_one({"_id": NAME})["state"])


def set_order(**fields: Any) -> None:
    """Change what is known of the order."""
    changed = {f"state.{name}": value for name, value in fields.items()}
    Lease._get_collection().update_one({"_id": "recorder"}, {"$set": changed})


def late() -> float:
    return metrics.FOLLOWED_LATE.labels(NAME)._value.get()


def test_each_record_is_told_in_the_order_of_its_newest_change(ada: Person, following: Following) -> None:
    ada.make_notebook(id="book")
    for id in ("one", "two"):
        ada.make_note(id=id)
    assert following.catch_up() == ["book", "one", "two"]
    ada.patch("/v1/notes/two", {"title": "new"})
    ada.delete("/v1/notes/one")
    ada.patch("/v1/notes/two", {"title": "newer"})
    assert following.catch_up() == ["one", "two"]
    assert following.catch_up() == []


def test_many_changes_come_passage_by_passage(
    ada: Person, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "TOLD_AT_ONCE", 3)
    ids = [f"n{number}" for number in range(7)]
    for id in ids:
        ada.make_note(id=id)
    following.recording.catch_up()
    following.told.clear()
    for seen in (3, 6, 7):
        following.follower.step(following.lease)
        assert following.told == ids[:seen]


def test_what_nobody_waited_for_is_told_to_nobody_who_comes_later(ada: Person, following: Following) -> None:
    following.follower.is_awaited = lambda: False
    ada.make_note(id="one")
    assert following.catch_up() == []
    # Another process that goes on from there, for somebody who waits by now.
    following.start()
    ada.make_note(id="two")
    assert following.catch_up() == ["two"]


def test_who_waits_before_a_write_is_told_of_it(
    ada: Person, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bool] = []

    def write_and_wait() -> bool:
        # Whoever looks has read how far the order is.
        if not written:
            written.append(True)
            ada.make_note(id="two")
            following.recording.catch_up()
            return False
        return True

    following.follower.is_awaited = write_and_wait
    ada.make_note(id="one")
    assert following.catch_up() == ["two"]


def test_withdrawals_and_memberships_are_no_changes_of_a_record(ada: Person, bob: Person, following: Following) -> None:
    ada.make_note(id="one", readers=[bob.id])
    following.catch_up()
    ada.patch("/v1/notes/one", {"readers": []})
    get_db()["accounts"].update_one({"_id": bob.id}, {"$set": {"roles": ["tester"]}})
    assert following.catch_up() == ["one"]


def test_of_types_that_nobody_asked_for_nothing_is_told(ada: Person, following: Following) -> None:
    following.follower.types = ["notebooks"]
    ada.make_note(id="one")
    ada.make_notebook(id="book")
    assert following.catch_up() == ["book"]


def test_another_goes_on_where_one_has_stopped(ada: Person, following: Following) -> None:
    ada.make_note(id="one")
    assert following.catch_up() == ["one"]
    ada.make_note(id="two")
    following.start()
    assert following.catch_up() == ["two"]


def test_what_was_told_before_a_crash_and_not_noted_is_told_again(ada: Person, following: Following) -> None:
    for id in ("a", "b", "c"):
        ada.make_note(id=id)
    following.dies_at = "b"
    for begun in (1, 2):
        with pytest.raises(Killed):
            following.catch_up()
        assert following.told == ["a"]
        assert following.follower.begun == begun - 1
        following.start()
    following.dies_at = ""
    assert following.catch_up() == ["a", "b", "c"]
    assert following.follower.begun == 0


def test_the_first_one_begins_with_what_happens_from_now_on(ada: Person, recording: Recording) -> None:
    ada.make_note(id="before")
    recording.catch_up()
    begin_following([NAME])
    begin_following([NAME])
    ada.make_note(id="after")
    assert Following(recording).catch_up() == ["after"]


def test_one_that_begins_before_the_order_does_is_told_all_of_it(
    ada: Person, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = lease_document()
    assert kept is not None
    Lease._get_collection().update_one({"_id": "recorder"}, {"$set": {"state": {}}})
    begin_following([NAME])
    assert (state()["number"], passage.next_passage(["notes"], 0, 10)) == (0, Passage((), 0, 0, False))
    Lease._get_collection().update_one({"_id": "recorder"}, {"$set": {"state": kept["state"]}})
    ada.make_note(id="one")
    assert Following(recording).catch_up() == ["one"]


def test_who_has_lost_the_lease_notes_nothing(ada: Person, following: Following) -> None:
    old, lease = following.follower, following.lease
    following.start()
    ada.make_note(id="one")
    assert following.catch_up() == ["one"]
    noted = state()
    ada.make_note(id="two")
    following.recording.catch_up()
    with pytest.raises(LeaseLost):
        old.step(lease)
    assert state() == noted
    assert following.catch_up() == ["two"]


def test_it_says_so_once_where_ends_may_be_forgotten_and_tells_what_is_there(ada: Person, following: Following) -> None:
    ada.make_note(id="stays")
    ada.make_note(id="goes")
    following.catch_up()
    ada.delete("/v1/notes/goes")
    ada.patch("/v1/notes/stays", {"title": "new"})
    following.recording.catch_up()
    number = state()["number"]
    Change._get_collection().update_many({"gone": True}, {"$set": {"purge_at": datetime(2020, 1, 1)}})
    following.recording.recorder.forget(following.recording.lease)
    before = late()
    assert following.catch_up() == ["stays"]
    assert late() == before + 1
    assert state()["number"] > number
    assert following.catch_up() == []
    assert late() == before + 1


def test_after_an_order_that_was_made_anew_all_is_told(ada: Person, following: Following) -> None:
    ada.make_note(id="one")
    following.catch_up()
    before = late()
    Lease._get_collection().update_one({"_id": NAME}, {"$inc": {"state.number": 10**9}})
    following.start()
    assert "one" in following.catch_up()
    assert late() == before + 1


def test_an_order_that_goes_on_without_it_is_noted_now_and_then(
    ada: Person, following: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    following.follower.types = ["notebooks"]
    monkeypatch.setattr(follower, "NOTED_EVERY", 3600.0)
    number = state()["number"]
    ada.make_note(id="one")
    following.catch_up()
    assert (state()["number"], following.follower.number > number) == (number, True)
    monkeypatch.setattr(follower, "NOTED_EVERY", 0.0)
    following.catch_up()
    assert state()["number"] == following.follower.number > number


def test_how_far_it_is_behind_is_counted(ada: Person, following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "TOLD_AT_ONCE", 1)
    for id in ("a", "b", "c"):
        ada.make_note(id=id)
    following.recording.catch_up()
    behind = []
    for _ in range(4):
        following.follower.step(following.lease)
        behind.append(metrics.BEHIND.labels(NAME)._value.get())
    assert behind == [3, 2, 1, 0]


def test_a_change_says_when_its_record_came_into_the_order(ada: Person, following: Following) -> None:
    def first(id: str) -> tuple[int, int]:
        found = Change._get_collection().find_one({"_id": f"notes/{id}"})
        return found["first"], found["seq"]

    ada.make_note(id="one")
    following.catch_up()
    made, _ = first("one")
    ada.patch("/v1/notes/one", {"title": "new"})
    following.catch_up()
    assert first("one") == (made, first("one")[1])
    assert first("one")[1] > made
    ada.delete("/v1/notes/one")
    following.catch_up()
    assert first("one")[0] == made
    Note._get_collection().delete_one({"_id": "one"})
    ada.make_note(id="one")
    following.catch_up()
    assert first("one")[0] == first("one")[1] > made


def test_a_passage_is_a_range_of_an_index(ada: Person, following: Following) -> None:
    span = {"type": {"$in": ["notebooks", "notes"]}, "seq": {"$gt": 1, "$lte": 10**17}}
    plan = get_db().command(
        "explain", {"find": "changes", "filter": span, "sort": {"seq": 1}, "limit": 100}, verbosity="queryPlanner"
    )
    stages = names_of(plan["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in stages
    assert not stages & {"SORT", "COLLSCAN"}


def names_of(plan: Any) -> set[str]:
    """The stages of a plan, those inside of others too."""
    if isinstance(plan, list):
        return set().union(*map(names_of, plan))
    if not isinstance(plan, dict):
        return set()
    own = {plan["stage"]} if "stage" in plan else set()
    return own.union(*map(names_of, plan.values()))
