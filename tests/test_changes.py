"""Changes over HTTP: what a device that follows its cursor has, after whatever happens to records and rights."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Int64
from flask import Flask
from mongoengine import StringField

from service.changes import comparison, pull
from service.changes.barrier import Barrier
from service.changes.compaction import MOST_INTERVALS, of_membership
from service.changes.comparison import START, next_batch
from service.changes.feed import WITHIN, Checkpoint, Feed, Item
from service.changes.order import lease_document, order_in
from service.core.clock import now
from service.documents import Change, Event, Note, Notebook, Record
from service.http import openapi
from service.identity.deletion import delete_account
from service.upkeep import indexes
from tests.client import Person
from tests.recording import Recording
from tests.test_house import complaints
from tests.types import REGISTRY

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recording")]


class Device:
    """Keeps what it has been told of, by type and id."""

    def __init__(self, person: Person, recording: Recording, **parameters: Any) -> None:
        self.person, self.recording, self.parameters = person, recording, parameters
        self.has: dict[tuple[str, str], int] = {}
        self.cursor: str | None = None
        self.told: list[dict[str, Any]] = []

    def pull(self) -> list[dict[str, Any]]:
        """Follow the cursor until there is no more; return the items."""
        self.recording.catch_up()
        items, more = [], True
        while more:
            named = {**self.parameters, **({"cursor": self.cursor} if self.cursor else {})}
            answer = self.person.get("/v1/changes", query_string=named)
            assert answer.status_code == 200, answer.json
            self.cursor, more = answer.json["cursor"], answer.json["more"]
            items += answer.json["items"]
        for item in items:
            key = item["type"], item["id"]
            if "gone" in item:
                self.has.pop(key, None)
            else:
                self.has[key] = item["revision"]
        return items

    def listed(self) -> dict[tuple[str, str], int]:
        """What lists show."""
        return {
            (name, record["id"]): record["revision"]
            for name in REGISTRY
            for record in self.person.get(f"/v1/{name}?limit=100").json["items"]
        }


@pytest.fixture
def device(ada: Person, recording: Recording) -> Device:
    return Device(ada, recording)


@pytest.fixture
def bobs(bob: Person, recording: Recording) -> Device:
    return Device(bob, recording)


def summary(items: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(item["id"], item.get("gone") or item["revision"]) for item in items]


def set_roles(person: Person, *roles: str) -> None:
    person.set_roles(*roles)
    # The process would look again within a second.
    person.client.application.extensions["madang.security"].sessions.seen.entries.clear()


def test_what_is_made_changed_and_deleted_is_told_once(ada: Person, device: Device) -> None:
    ada.make_note(id="one", title="a")
    ada.make_note(id="two", title="b")
    assert summary(device.pull()) == [("one", 1), ("two", 1)]
    assert device.pull() == []
    ada.patch("/v1/notes/one", {"title": "c"})
    ada.delete("/v1/notes/two")
    items = device.pull()
    assert summary(items) == [("one", 2), ("two", "deleted")]
    assert items[0]["record"] == ada.get("/v1/notes/one").json
    assert device.has == device.listed() == {("notes", "one"): 2}


def test_a_walk_from_the_beginning_has_no_ends(ada: Person, device: Device) -> None:
    ada.make_note(id="one")
    ada.delete("/v1/notes/one")
    ada.make_note(id="two")
    assert summary(device.pull()) == [("two", 1)]


def test_a_grant_brings_an_old_record_and_its_withdrawal_takes_it_away(ada: Person, bob: Person, bobs: Device) -> None:
    ada.make_note(id="one")
    assert bobs.pull() == []
    ada.patch("/v1/notes/one", {"readers": [bob.id]})
    assert summary(bobs.pull()) == [("one", 2)]
    ada.patch("/v1/notes/one", {"readers": []})
    ada.patch("/v1/notes/one", {"title": "secret"})
    items = bobs.pull()
    assert items == [{"type": "notes", "id": "one", "gone": "withdrawn"}]
    ada.patch("/v1/notes/one", {"title": "more secrets"})
    assert bobs.pull() == []


def test_a_role_that_is_gained_brings_what_it_may_read_and_one_that_is_lost_takes_it(
    ada: Person, bob: Person, bobs: Device
) -> None:
    for number in range(5):
        ada.make_note(id=f"team-{number}", readers=["role:team"])
    ada.make_note(id="both", readers=["role:team", bob.id])
    assert summary(bobs.pull()) == [("both", 1)]
    set_roles(bob, "team")
    assert {item["id"] for item in bobs.pull()} >= {f"team-{number}" for number in range(5)}
    assert bobs.has == bobs.listed()
    set_roles(bob)
    ada.make_note(id="later", readers=["role:team"])
    gone = {item["id"] for item in bobs.pull() if "gone" in item}
    assert gone == {f"team-{number}" for number in range(5)}
    assert bobs.has == bobs.listed() == {("notes", "both"): 1}


def test_what_ended_while_the_device_slept_is_told_although_the_role_has_gone_too(
    ada: Person, bob: Person, bobs: Device
) -> None:
    set_roles(bob, "team")
    for name in ("stays", "withdrawn", "deleted"):
        ada.make_note(id=name, readers=["role:team"])
    bobs.pull()
    ada.patch("/v1/notes/withdrawn", {"readers": []})
    ada.delete("/v1/notes/deleted")
    bobs.recording.catch_up()
    set_roles(bob)
    ada.patch("/v1/notes/stays", {"title": "changed"})
    bobs.pull()
    assert bobs.has == bobs.listed() == {}


def test_nobody_hears_of_the_end_of_what_they_never_could_read(ada: Person, bob: Person, bobs: Device) -> None:
    bobs.pull()
    ada.make_note(id="before", readers=["role:team"])
    ada.make_note(id="ended", readers=["role:team"])
    bobs.recording.catch_up()
    ada.patch("/v1/notes/before", {"readers": []})
    ada.delete("/v1/notes/ended")
    bobs.recording.catch_up()
    set_roles(bob, "team")
    assert bobs.pull() == []
    set_roles(bob)
    bobs.recording.catch_up()
    ada.make_note(id="after", readers=["role:team"])
    assert bobs.pull() == []


def test_an_account_that_goes_takes_what_it_owned_from_those_who_had_it(
    app: Flask, ada: Person, bob: Person, bobs: Device
) -> None:
    ada.make_note(id="one", readers=[bob.id])
    ada.make_notebook(id="book", readers=[bob.id])
    assert len(bobs.pull()) == 2
    with app.app_context():
        delete_account(REGISTRY, ada.id)
    assert {item["gone"] for item in bobs.pull()} == {"deleted"}
    assert bobs.has == {}


def test_what_comes_by_two_rights_is_in_an_answer_once(ada: Person, bob: Person, bobs: Device) -> None:
    bobs.pull()
    ada.make_note(id="both", readers=["role:team", bob.id])
    set_roles(bob, "team")
    assert summary(bobs.pull()) == [("both", 1)]


def test_what_comes_once_more_and_does_not_fit_comes_with_the_next_answer(
    ada: Person, bob: Person, bobs: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    bobs.pull()
    ada.make_note(id="both", readers=["role:team", bob.id])
    set_roles(bob, "team")
    bobs.recording.catch_up()
    grown = Feed.items

    def grown_at_its_second_place(feed: Feed, *args: Any) -> list[Item]:
        if args[3:]:
            Note._get_collection().update_one({"_id": "both"}, {"$set": {"body": "x" * 500}})
            bobs.recording.catch_up()
        return grown(feed, *args)

    monkeypatch.setattr(Feed, "items", grown_at_its_second_place)
    monkeypatch.setattr(pull, "MOST_ANSWER_BYTES", 500)
    assert summary(bobs.pull()) == [("both", 1), ("both", 1)]


@pytest.mark.parametrize("limit", [1, 3])
def test_pages_hold_all_once(ada: Person, bob: Person, recording: Recording, limit: int) -> None:
    device = Device(bob, recording, limit=limit)
    set_roles(bob, "a", "b")
    for number in range(4):
        ada.make_note(id=f"a{number}", readers=["role:a"])
        ada.make_note(id=f"b{number}", readers=["role:b", bob.id])
    assert len(device.pull()) == 8
    set_roles(bob, "c")
    for number in range(4):
        ada.make_note(id=f"c{number}", readers=["role:c"])
    device.pull()
    assert device.has == device.listed()
    set_roles(bob, "a", "b")
    device.pull()
    assert device.has == device.listed()
    assert len(device.has) == 8


def test_types_and_scopes_narrow_it(ada: Person, bob: Person, recording: Recording) -> None:
    ada.make_note(id="own")
    ada.make_notebook(id="book")
    bob.make_note(id="given", readers=[ada.id])
    assert summary(Device(ada, recording, types="notebooks").pull()) == [("book", 1)]
    assert summary(Device(ada, recording, types="notes", scope="shared").pull()) == [("given", 1)]
    assert {item["id"] for item in Device(ada, recording, scope="mine").pull()} == {"own", "book"}


def test_a_cursor_is_bound_to_who_asks_and_for_what(ada: Person, bob: Person, device: Device) -> None:
    device.pull()
    for person, named in (
        (bob, {}),
        (ada, {"types": "notes"}),
        (ada, {"scope": "mine"}),
        (ada, {"cursor": device.cursor[:-2] + "AA"}),
        (ada, {"cursor": ""}),
    ):
        answer = person.get("/v1/changes", query_string={"cursor": device.cursor, **named})
        assert (answer.status_code, answer.json["errors"][0]["parameter"]) == (400, "cursor")
        assert "the `cursor` of an earlier answer to this account" in answer.json["detail"]


@pytest.mark.parametrize(
    "named",
    [
        {"types": "nothing"},
        {"types": "notes,notes"},
        {"scope": "public"},
        {"limit": "0"},
        {"limit": "1001"},
        {"limit": "x"},
        {"wait": "26"},
        {"wait": "-1"},
        {"since": "1"},
    ],
)
def test_what_cannot_be_asked_for_is_named(ada: Person, named: dict[str, str]) -> None:
    answer = ada.get("/v1/changes", query_string=named)
    assert answer.status_code == 400
    assert answer.json["errors"][0]["parameter"] == next(iter(named))


def test_in_an_atomic_batch_it_answers_with_what_was_before(ada: Person, device: Device) -> None:
    ada.make_note(id="one")
    device.recording.catch_up()
    parts = [
        {"method": "POST", "path": "/v1/notes", "body": {"id": "two", "title": "t"}},
        {"method": "GET", "path": "/v1/changes"},
    ]
    answer = ada.post("/v1/batch", {"atomic": True, "requests": parts})
    assert [item["id"] for item in answer.json["responses"][1]["body"]["items"]] == ["one"]
    assert summary(device.pull()) == [("one", 1), ("two", 1)]


def test_every_answer_is_what_the_api_document_says(app: Flask, ada: Person, bob: Person, bobs: Device) -> None:
    ada.make_note(id="one", readers=[bob.id])
    ada.make_notebook(id="book", readers=[bob.id])
    bobs.pull()
    ada.patch("/v1/notes/one", {"readers": []})
    ada.delete("/v1/notebooks/book")
    bobs.recording.catch_up()
    asked: list[dict[str, Any]] = [{}, {"cursor": bobs.cursor}, {"cursor": "x"}]
    answers = [bob.get("/v1/changes", query_string=named) for named in asked]
    assert [answer.status_code for answer in answers] == [200, 200, 400]
    with app.test_request_context():
        document = openapi.document(app)
    assert [list(complaints(app, document, answer)) for answer in answers] == [[], [], []]


class Notice(Record):
    """What everybody may read."""

    text = StringField()
    meta = {"collection": "notices", "sync_public": True}


def test_what_is_public_is_told_where_its_type_says_so(
    make_app: Any, test_settings: dict[str, Any], recording: Recording
) -> None:
    recording.lease.release()
    app = make_app([Notice, Note, Notebook])
    registry = app.extensions["madang.registry"]
    indexes.make(registry)
    recorder = Recording(registry, test_settings)
    ada = Person.sign_up(app.test_client(), "ada")
    cat = Person.sign_up(app.test_client(), "cat")
    ada.post("/v1/notices", {"id": "n", "text": "t", "readers": ["*"]})
    device = Device(cat, recorder, types="notices", scope="mine,shared,public")
    assert summary(device.pull()) == [("n", 1)]
    assert Device(cat, recorder, types="notices").pull() == []
    assert cat.get("/v1/changes?types=notes&scope=public").status_code == 400
    ada.patch("/v1/notices/n", {"readers": []})
    assert summary(device.pull()) == [("n", "withdrawn")]
    recorder.close()
    Notice._get_collection().drop()


def test_a_page_goes_no_further_than_the_order_had_come(ada: Person, recording: Recording) -> None:
    ada.make_note(id="one")
    recording.catch_up()
    last = order_in(lease_document()).seq
    ada.make_note(id="two")
    recording.catch_up()
    page = Feed(ada.id, [REGISTRY["notes"]], WITHIN).page(Checkpoint(), last, 10)
    assert ([item.id for item in page.items], page.checkpoint.seq, page.more) == (["one"], last, False)


def test_what_was_withdrawn_twice_is_told_to_who_had_it_before_the_first(
    ada: Person, bob: Person, bobs: Device, recording: Recording
) -> None:
    ada.make_note(id="one", readers=[bob.id])
    bobs.pull()
    for readers in ([], [bob.id], []):
        ada.patch("/v1/notes/one", {"readers": readers})
        recording.catch_up()
    assert [(item["id"], item["gone"]) for item in bobs.pull()] == [("one", "withdrawn")]


def test_a_comparison_begins_anew_where_its_type_has_gone_meanwhile() -> None:
    assert next_batch(REGISTRY, {"type": "gone", "after": "x"}) == ([], START)


@pytest.mark.parametrize("size", [1, 2, 3, 500])
def test_a_comparison_passes_over_no_record_whose_id_begins_with_that_of_another(
    ada: Person, bob: Person, recording: Recording, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(comparison, "BATCH", size)
    ids = ["a", "a-b", "a-c", "a0", "b"]
    for id in ids:
        ada.make_note(id=id, readers=[bob.id])
        recording.catch_up()
        ada.patch(f"/v1/notes/{id}", {"readers": []})
        recording.catch_up()
    assert Change._get_collection().count_documents({"type": "notes"}) == 2 * len(ids)
    Note._get_collection().delete_many({})
    compared: list[str] = []
    position: comparison.Position | None = {"type": "notes", "after": ""}
    while position is not None and position["type"] == "notes":
        dirty, position = next_batch(REGISTRY, position)
        compared += [id for _, id in dirty]
    assert compared == ids


def test_of_many_times_that_somebody_was_a_member_the_oldest_are_one() -> None:
    change: Any = None
    for seq in range(2 * MOST_INTERVALS + 2):
        change = of_membership("a", "role:team", change, seq, now())
    assert len(change["held"]) == MOST_INTERVALS
    assert change["held"][0] == [0, 3]
    assert change["held"][-1] == [2 * MOST_INTERVALS, 2 * MOST_INTERVALS + 1]


def test_a_barrier_whose_change_stream_has_gone_opens_another(app: Flask, recording: Recording) -> None:
    barrier = Barrier(REGISTRY, recording.client, 5.0)
    recording.catch_up()
    tails = []
    for number in range(2):
        # It is recorded by nobody, and moves MongoDB's clock.
        Event._get_collection().insert_one({"_id": f"e{number}"})
        assert barrier.passed().clock
        assert barrier.tail is not None
        tails.append(barrier.tail)
        barrier.tail.cursor = Int64(1)
    assert tails[0] is not tails[1]
    barrier.leave()
