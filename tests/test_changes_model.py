"""Convergence: whatever happens to records, rights, recorders and answers, a device ends with what a list shows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

import orjson
import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from pymongo import ReturnDocument

from service.changes import compaction, comparison, feed, order, pull, recorder, tail
from service.changes.barrier import Barrier
from service.changes.compaction import of_record
from service.changes.feed import Checkpoint, Feed, FeedPage
from service.changes.news import News
from service.changes.order import Order, lease_document, order_in
from service.core.errors import FeedUnavailable
from service.documents import Account, Change, Group, Lease, LeaseLost, Note
from service.mongo.raw import Raw
from service.policy import Identity, entries
from service.worker.lease import Holding
from tests.client import Person
from tests.recording import Recording
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = pytest.mark.real

RUNS = int(os.environ.get("MADANG_MODEL_RUNS", "12"))
"""Of the short form; `make converge` runs the long one."""
STEPS = 40
PATIENCE = 3.0
"""Seconds that a pull waits for the order when all is recorded."""
IDS = st.sampled_from(["n1", "n2", "n3", "n4"])
PEOPLE = st.sampled_from(["ada", "bob", "cat"])
ROLES = st.sets(st.sampled_from(["a", "b"]))
GROUPS = st.sampled_from(["g1", "g2"])
READERS = st.lists(st.sampled_from(["bob", "cat", "role:a", "role:b", "group:g1", "group:g2"]), unique=True, max_size=3)


def lost_token() -> dict[str, str]:
    """A token of an event that no oplog has: the next look at the stream says so."""
    database = Note._get_collection().database
    with database.client.start_session(causal_consistency=False) as session, database.watch(session=session) as stream:
        Note._get_collection().insert_one({"_id": "token"})
        token = stream.next()["_id"]["_data"]
    Note._get_collection().delete_one({"_id": "token"})
    collection = token.index("5A1004") + 6
    return {"_data": token[:collection] + "0" * 8 + token[collection + 8 :]}


def late_order() -> Order:
    """Return the order as far as it is, as a pull sees it that began before the last writes."""
    found = order_in(lease_document())
    if found.incomplete:
        raise FeedUnavailable
    return found


@dataclass
class Phone:
    """A device: what it has, and where it is."""

    person: str
    limit: int
    types: str
    cursor: str | None = None
    has: dict[str, Any] = field(default_factory=dict)

    def take(self, items: list[dict[str, Any]]) -> None:
        if self.cursor is None:
            # Who begins drops what does not come: what it has it may have without the cursor behind it.
            self.has = {}
        for item in items:
            if "gone" in item:
                self.has.pop(item["id"], None)
            else:
                self.has[item["id"]] = item["record"]


class Model(RuleBasedStateMachine):
    """People, records, roles, groups, recorders and devices."""

    people: ClassVar[dict[str, Person]]
    app: ClassVar[Flask]
    config: ClassVar[dict[str, Any]]

    @initialize()
    def begin(self) -> None:
        self.lost = lost_token()
        self.app.extensions["madang.barrier"].patience = 0.05
        for document in (Note, Group):
            document._get_collection().delete_many({})
        for person in self.people.values():
            self.store_roles(person, set())
            Account._get_collection().update_one({"_id": person.id}, {"$unset": {"groups": ""}})
        self.recordings = [Recording(REGISTRY, self.config)]
        Change._get_collection().delete_many({})
        Lease._get_collection().delete_one({"_id": order.RECORDER})
        self.recordings[-1].catch_up()
        self.phones = [
            Phone("ada", 3, "notes"),
            Phone("bob", 1, "notes"),
            Phone("bob", 50, "notes,groups"),
            Phone("cat", 2, "notes,notebooks,groups"),
        ]
        self.could_read: dict[str, set[str]] = {name: set() for name in self.people}
        self.held: dict[str, set[str]] = {name: set() for name in self.people}
        self.marks: dict[str, set[str]] = {}
        self.torn: set[str] = set()
        self.seq = 0

    # --- What people do ---

    @rule(person=PEOPLE, id=IDS, readers=READERS)
    def create(self, person: str, id: str, readers: list[str]) -> None:
        self.people[person].post("/v1/notes", {"id": id, "title": "new", "readers": self.named(readers)})
        self.look()

    @rule(person=PEOPLE, id=IDS, text=st.sampled_from(["x", "y"]))
    def change(self, person: str, id: str, text: str) -> None:
        self.people[person].patch(f"/v1/notes/{id}", {"title": text})

    @rule(person=PEOPLE, id=IDS, readers=READERS)
    def share(self, person: str, id: str, readers: list[str]) -> None:
        self.people[person].patch(f"/v1/notes/{id}", {"readers": self.named(readers)})
        self.look()

    @rule(person=PEOPLE, id=IDS)
    def delete(self, person: str, id: str) -> None:
        self.people[person].delete(f"/v1/notes/{id}")

    @rule(id=IDS)
    def forget_the_tombstone(self, id: str) -> None:
        Note._get_collection().delete_one({"_id": id, "purge_at": {"$exists": True}})

    @rule(id=IDS)
    def erase_by_another_program(self, id: str) -> None:
        Note._get_collection().delete_one({"_id": id})

    @rule(text=st.sampled_from(["p", "q"]))
    def change_all_by_another_program(self, text: str) -> None:
        Note._get_collection().update_many(
            {"purge_at": {"$exists": False}}, {"$set": {"title": text}, "$inc": {"revision": 1}}
        )

    @rule(person=PEOPLE, roles=ROLES)
    def give_roles(self, person: str, roles: set[str]) -> None:
        self.store_roles(self.people[person], roles)
        self.look()

    @rule(person=PEOPLE, group=GROUPS, members=st.lists(PEOPLE, max_size=2))
    def found(self, person: str, group: str, members: list[str]) -> None:
        self.of_groups(person, "POST", "", {"id": group, "name": "new"})
        for other in members:
            self.put_member(person, group, other, "member")

    @rule(person=PEOPLE, group=GROUPS, other=PEOPLE, role=st.sampled_from(["member", "manager"]))
    def put_member(self, person: str, group: str, other: str, role: str) -> None:
        self.of_groups(person, "POST", f"/{group}/members", {"account": self.people[other].id, "role": role})

    @rule(person=PEOPLE, group=GROUPS, other=PEOPLE)
    def remove_member(self, person: str, group: str, other: str) -> None:
        self.of_groups(person, "DELETE", f"/{group}/members/{self.people[other].id}")

    @rule(person=PEOPLE, group=GROUPS, text=st.sampled_from(["x", "y"]))
    def rename_group(self, person: str, group: str, text: str) -> None:
        self.of_groups(person, "PATCH", f"/{group}", {"name": text})

    @rule(person=PEOPLE, group=GROUPS)
    def delete_group(self, person: str, group: str) -> None:
        self.of_groups(person, "DELETE", f"/{group}")

    @rule(group=GROUPS)
    def forget_the_tombstone_of_a_group(self, group: str) -> None:
        Group._get_collection().delete_one({"_id": group, "purge_at": {"$exists": True}})

    # --- What the machines do ---

    @rule()
    def record_a_little(self) -> None:
        recording = self.recordings[-1]
        if recording.lease.held or recording.lease.take():
            recording.recorder.step(recording.lease)
        self.order_only_grows()

    @rule()
    def record_all(self) -> None:
        self.recordings[-1].catch_up()
        self.order_only_grows()

    @rule()
    def another_recorder_takes_over(self) -> None:
        Lease._get_collection().update_one({"_id": order.RECORDER}, [{"$set": {"expires_at": "$$NOW"}}])
        self.recordings.append(Recording(REGISTRY, self.config))
        assert self.recordings[-1].lease.take()

    @rule()
    def a_stale_recorder_goes_on(self) -> None:
        for recording in self.recordings[:-1]:
            if recording.lease.held and recording.recorder.tail is not None:
                with pytest.raises(LeaseLost):
                    recording.recorder.compare(recording.lease, {"type": "", "after": ""})
        self.order_only_grows()

    @rule()
    def the_oplog_rolls_over(self) -> None:
        self.another_recorder_takes_over()
        Lease._get_collection().update_one({"_id": order.RECORDER}, {"$set": {"state.token": self.lost}})
        self.torn |= self.marks.keys()

    # --- What devices do ---

    @rule(number=st.integers(0, 3), lost=st.sampled_from(["no", "before", "after"]))
    def pull(self, number: int, lost: str) -> None:
        phone = self.phones[number]
        person = self.people[phone.person]
        args = {"types": phone.types, "limit": str(phone.limit)} | ({"cursor": phone.cursor} if phone.cursor else {})
        key = self.app.extensions["madang.security"].cursor_key
        try:
            found = pull.parse_pull(REGISTRY, args, person.id, key).answer(late_order())
        except FeedUnavailable:
            return
        answer = orjson.loads(orjson.dumps(found.as_dict()))
        self.check_answer(phone.person, answer["items"])
        if lost != "before":
            phone.take(answer["items"])
        if lost == "no":
            phone.cursor = answer["cursor"]

    @rule(number=st.integers(0, 3))
    def pull_all_at_once(self, number: int) -> None:
        """What was acknowledged before is in it, or the order says that it is not so far."""
        phone = self.phones[number]
        if self.walk(phone):
            self.check_complete(phone)

    @rule(number=st.integers(0, 3))
    def forget_all_and_begin_anew(self, number: int) -> None:
        phone = self.phones[number]
        phone.has, phone.cursor = {}, None

    # --- What holds ---

    def check_answer(self, name: str, items: list[dict[str, Any]]) -> None:
        """Of each record there is at most one item, and one that is right."""
        assert len({(item["type"], item["id"]) for item in items}) == len(items)
        for item in items:
            self.check_right(name, item)

    def check_right(self, name: str, item: dict[str, Any]) -> None:
        """Nothing is sent to who may not read it, and nobody hears of the end of what they never could."""
        if "gone" not in item:
            assert item["id"] in self.readable(name)
        elif item["id"] in self.torn:
            # Of what came while nothing was recorded, nobody knows whether a role or an end was first.
            assert self.held[name] & self.marks[item["id"]]
        else:
            assert item["id"] in self.could_read[name]

    def order_only_grows(self) -> None:
        state = (lease_document() or {}).get("state")
        if state:
            assert state["seq"] >= self.seq
            self.seq = state["seq"]
            numbers = [change["seq"] for change in Change._get_collection().find()]
            assert len(set(numbers)) == len(numbers)
            assert all(number <= self.seq for number in numbers)

    def teardown(self) -> None:
        if not hasattr(self, "phones"):
            return
        try:
            self.converge()
        finally:
            self.close()

    def close(self) -> None:
        for recording in self.recordings:
            recording.close()

    def converge(self) -> None:
        self.recordings[-1].catch_up()
        # Nothing is behind any more, so a pull waits for the machine alone, each time for less than a request may take.
        self.app.extensions["madang.barrier"].patience = PATIENCE
        for _ in range(2):
            for phone in self.phones:
                until(lambda phone=phone: self.walk(phone), seconds=30)
        for phone in self.phones:
            self.check_complete(phone)

    def check_complete(self, phone: Phone) -> None:
        pages = (self.people[phone.person].get(f"/v1/{name}?limit=100").json for name in phone.types.split(","))
        assert phone.has == {record["id"]: record for page in pages for record in page["items"]}

    def walk(self, phone: Phone) -> bool:
        """Pull over HTTP until there is no more; False where the order is not so far."""
        more = True
        while more:
            named = {"types": phone.types, "limit": phone.limit} | ({"cursor": phone.cursor} if phone.cursor else {})
            answer = self.people[phone.person].get("/v1/changes", query_string=named)
            if answer.status_code == 503:
                assert answer.json["code"] == "feed_unavailable"
                return False
            assert answer.status_code == 200, answer.json
            self.check_answer(phone.person, answer.json["items"])
            phone.take(answer.json["items"])
            phone.cursor, more = answer.json["cursor"], answer.json["more"]
        return True

    # --- Tools ---

    def named(self, readers: list[str]) -> list[str]:
        return [self.people[name].id if name in self.people else name for name in readers]

    def store_roles(self, person: Person, roles: set[str]) -> None:
        Account._get_collection().update_one({"_id": person.id}, {"$set": {"roles": sorted(roles)}})
        self.forget_sessions()

    def forget_sessions(self) -> None:
        self.app.extensions["madang.security"].sessions.seen.entries.clear()

    def of_groups(self, person: str, method: str, path: str, body: Any = None) -> None:
        """Ask for something of a group; what is refused is nothing."""
        assert self.people[person].send(method, f"/v1/groups{path}", body).status_code < 500
        self.forget_sessions()
        self.look()

    def entries(self, name: str) -> list[str]:
        account = Account._get_collection().find_one({"_id": self.people[name].id})
        return entries(Identity.of(account), ("mine", "shared"))

    def readable(self, name: str) -> set[str]:
        access = {"access": {"$in": self.entries(name)}}
        return {row["_id"] for document in (Note, Group) for row in document._get_collection().find(access)}

    def look(self) -> None:
        """Note what everybody may read now, and by what."""
        for document in (Note, Group):
            for row in document._get_collection().find({"access": {"$exists": True}}, {"access": 1}):
                self.marks.setdefault(row["_id"], set()).update(row["access"])
        for name, seen in self.could_read.items():
            seen |= self.readable(name)
            self.held[name].update(self.entries(name))


def prepared(
    kind: type[Model], make_app: Any, test_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> type[Any]:
    """A model on an empty database; with batches so small that they end between any two events."""
    monkeypatch.setattr(tail, "BATCH", 3)
    monkeypatch.setattr(recorder, "AWAITED_MS", 10)
    monkeypatch.setattr(recorder, "GROWS_MOST", 0.0)
    monkeypatch.setattr(feed, "SETTLES_WITHIN", 0.05)
    made = make_app(JWT_EXPIRATION_DELTA=24 * 3600)
    people = {name: Person.sign_up(made.test_client(), name) for name in ("ada", "bob", "cat")}
    return type("Running", (kind,), {"people": people, "app": made, "config": test_settings})


@pytest.fixture
def model(make_app: Any, test_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> type[Model]:
    return prepared(Model, make_app, test_settings, monkeypatch)


def run(model: type[Model], runs: int, **options: Any) -> None:
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            # What is found is long, and a second run of it takes as long as the first.
            phases=[Phase.generate],
            **options,
        ),
    )


def test_devices_converge(model: type[Model]) -> None:
    run(model, RUNS)


# A recorder or a feed that is wrong is found


def story(model: Model) -> None:
    """A run in which everything happens that a mistake could spoil."""
    model.begin()
    try:
        everything(model)
        model.converge()
    finally:
        model.close()


def everything(model: Model) -> None:
    for id, readers in (("n1", ["bob", "role:a"]), ("n2", ["role:a"]), ("n3", ["role:b"]), ("n7", ["role:b"])):
        model.create("ada", id, readers)
    model.give_roles("bob", {"a"})
    model.record_all()
    for number in range(4):
        model.pull_all_at_once(number)
    model.share("ada", "n1", [])
    model.change("ada", "n2", "x")
    model.pull_all_at_once(2)
    model.record_all()
    model.another_recorder_takes_over()
    model.record_all()
    model.a_stale_recorder_goes_on()
    model.create("ada", "n4", ["role:a"])
    model.delete("ada", "n4")
    model.pull(1, "no")
    model.change_all_by_another_program("p")
    model.record_all()
    model.give_roles("bob", {"b"})
    model.record_all()
    model.change("ada", "n2", "y")
    model.record_all()
    model.pull(2, "after")
    model.share("ada", "n3", ["cat"])
    model.the_oplog_rolls_over()
    model.erase_by_another_program("n7")
    model.create("cat", "n5", ["bob"])
    model.record_all()
    model.pull_all_at_once(3)
    model.delete("ada", "n3")
    model.give_roles("bob", set())
    model.create("ada", "n6", ["role:b"])
    model.record_all()
    model.share("ada", "n6", [])
    model.record_all()
    model.give_roles("bob", {"b"})
    model.record_all()


def test_the_story_ends_well(model: type[Model]) -> None:
    story(model())


def of_any_epoch(holding: Holding, update: Any) -> Any:
    return Lease._get_collection().find_one_and_update(
        {"_id": holding.name}, update, return_document=ReturnDocument.AFTER
    )


def numbered_by_the_clock(news: News, _first: int, end: datetime) -> list[Raw]:
    return [make(int(time.time() * 1e6) - 5_000_000, end) for make in news.makers]


def without_the_last(news: News, first: int, end: datetime) -> list[Raw]:
    return [make(seq, end) for seq, make in enumerate(news.makers[: max(1, news.count - 1)], first)]


def at_its_first_number(*args: Any) -> Raw:
    previous = args[3]
    return of_record(*args) | ({"seq": previous["seq"]} if previous else {})


def since_now(*args: Any) -> Raw:
    change = of_record(*args)
    return change | {"since": [change["seq"]] * len(change["since"])}


def passed_by(_feed: Feed, _identity: Any, checkpoint: Checkpoint, membership: Raw, *_: int) -> FeedPage:
    return FeedPage([], checkpoint.at(membership["seq"]), True)


WRONG: dict[str, tuple[Any, str, Any]] = {
    "a stale recorder writes": (Holding, "change", of_any_epoch),
    "numbers are of the clock": (News, "changes", numbered_by_the_clock),
    "the last change of a batch is lost": (News, "changes", without_the_last),
    "a change stays at its first number": (compaction, "of_record", at_its_first_number),
    "marks are of the last write": (compaction, "of_record", since_now),
    "withdrawals are forgotten": (compaction, "lost_marks", lambda *_: []),
    "deletions are forgotten": (compaction, "is_news", lambda seen, _previous: seen.is_there),
    "roles are forgotten": (News, "look_at_accounts", lambda *_: None),
    "a gap is not compared": (comparison, "next_batch", lambda *_: ([], None)),
    "nobody waits for the order": (Barrier, "passed", lambda _self: order_in(lease_document())),
    "a membership brings nothing": (Feed, "backfilled", passed_by),
    "all hear of every end": (compaction, "can_have_it", lambda *_: True),
    "a page is taken for the last one": (Checkpoint, "at", lambda self, seq: Checkpoint(seq + 1)),
}


@pytest.mark.parametrize("way", WRONG)
def test_what_is_wrong_is_found(model: type[Model], monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    target, name, wrong = WRONG[way]
    monkeypatch.setattr(target, name, wrong)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        story(model())
