"""Groups in the order of changes: what a device hears of when somebody comes, goes, or a group ends."""

from __future__ import annotations

import pytest
from flask import Flask

from service.documents import Account, Group
from tests.client import Person
from tests.recording import Recording
from tests.streaming import Served
from tests.syncing import Melon, Replica
from tests.test_changes import Device, summary
from tests.test_groups import add, found, remove, roles
from tests.test_live import listen
from tests.waiting import until

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def every_session_is_looked_up(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.identity.sessions.CHECK_SECONDS", 0.0)


def shared(person: Person, group: str = "family") -> None:
    """Three notes of a person that a group may read."""
    for number in range(3):
        person.make_note(id=f"n{number}", readers=[f"group:{group}"])


NOTES = {"n0", "n1", "n2"}


def test_who_comes_in_is_brought_what_the_group_has_and_who_goes_loses_it(
    ada: Person, bob: Person, recording: Recording
) -> None:
    bobs = Device(bob, recording)
    found(ada)
    shared(ada)
    assert bobs.pull() == []
    add(ada, bob)
    assert {item["id"] for item in bobs.pull()} == {*NOTES, "family"}
    assert bobs.has == bobs.listed()
    ada.patch("/v1/groups/family", {"name": "Friends"})
    ada.patch("/v1/notes/n0", {"title": "x"})
    assert summary(bobs.pull()) == [("family", 2), ("n0", 2)]
    add(ada, bob, "manager")
    assert bobs.pull() == []
    remove(ada, bob)
    ada.patch("/v1/notes/n1", {"title": "secret"})
    assert {(item["id"], item["gone"]) for item in bobs.pull()} == {(id, "withdrawn") for id in (*NOTES, "family")}
    ada.patch("/v1/notes/n1", {"title": "more secrets"})
    assert bobs.pull() == []
    assert bobs.has == bobs.listed() == {}


def test_a_group_that_is_deleted_is_told_as_deleted_and_what_it_had_as_withdrawn(
    ada: Person, bob: Person, recording: Recording
) -> None:
    adas, bobs = Device(ada, recording), Device(bob, recording)
    found(ada)
    add(ada, bob)
    shared(ada)
    adas.pull()
    bobs.pull()
    ada.delete("/v1/groups/family")
    ends = {(item["id"], item.get("gone")) for item in bobs.pull()}
    assert ends == {("family", "deleted"), *((id, "withdrawn") for id in NOTES)}
    assert {(item["id"], item.get("gone")) for item in adas.pull()} >= {("family", "deleted")}
    assert adas.has == adas.listed() == {("notes", id): 2 for id in NOTES}


def test_nobody_hears_of_a_group_that_they_never_were_in(ada: Person, bob: Person, recording: Recording) -> None:
    bobs = Device(bob, recording)
    found(ada)
    shared(ada)
    bobs.pull()
    ada.patch("/v1/groups/family", {"name": "Friends"})
    ada.delete("/v1/groups/family")
    assert bobs.pull() == []


def test_a_record_of_somebody_who_has_left_stays_with_the_group(ada: Person, bob: Person, recording: Recording) -> None:
    adas, bobs = Device(ada, recording), Device(bob, recording)
    found(ada)
    add(ada, bob)
    shared(bob)
    adas.pull()
    remove(ada, bob)
    bob.patch("/v1/notes/n0", {"title": "x"})
    adas.pull()
    bobs.pull()
    assert adas.has == adas.listed()
    assert bobs.has == bobs.listed() == {("notes", "n0"): 2, ("notes", "n1"): 1, ("notes", "n2"): 1}


@pytest.mark.usefixtures("recorded")
def test_a_group_is_followed_live(streams: Served, ada: Person, bob: Person) -> None:
    found(ada)
    shared(ada)
    heard = listen(streams, bob)
    add(ada, bob)
    until(lambda: {id for id, _ in heard.told} == {*NOTES, "family"})
    count = len(heard.told)
    ada.patch("/v1/notes/n0", {"title": "x"})
    until(lambda: heard.told[count:] == [("n0", 2)])
    remove(ada, bob)
    until(lambda: set(heard.told[count + 1 :]) == {(id, "withdrawn") for id in (*NOTES, "family")})
    ada.patch("/v1/notes/n0", {"title": "secret"})
    bob.make_note(id="mine")
    until(lambda: heard.told[-1] == ("mine", 1))
    assert "secret" not in heard.text


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("way", ["added at the end of a list", "changed in the middle of one", "taken out"])
def test_a_stream_hears_of_a_role_that_another_program_writes(
    streams: Served, ada: Person, bob: Person, way: str
) -> None:
    """MongoDB tells of a change of a list by the place in it."""
    before = {"added at the end of a list": ["a", "b"], "changed in the middle of one": ["a", "x", "b"]}
    update = {
        "added at the end of a list": {"$push": {"roles": "team"}},
        "changed in the middle of one": {"$set": {"roles.1": "team"}},
        "taken out": {"$pull": {"roles": "team"}},
    }
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"roles": before.get(way, ["team"])}})
    ada.make_note(id="one", readers=["role:team"])
    heard = listen(streams, bob)
    assert streams.app.following is not None
    turned = []
    (live,) = streams.app.following.subscriptions.all
    turn = live.turn
    live.turn = lambda: turned.append(True) or turn()  # type: ignore[method-assign]
    Account._get_collection().update_one({"_id": bob.id}, update[way])
    until(lambda: heard.told == [("one", "withdrawn" if way == "taken out" else 1)])
    # Once by the account itself, and by each change of a membership.
    until(lambda: len(turned) == (3 if way == "changed in the middle of one" else 2))


def test_who_founds_a_group_hears_of_its_end_before_the_founding_was_recorded(
    ada: Person, recording: Recording
) -> None:
    adas = Device(ada, recording)
    adas.pull()
    found(ada)
    ada.delete("/v1/groups/family")
    assert [(item["id"], item["gone"]) for item in adas.pull()] == [("family", "deleted")]


def test_a_founder_who_is_removed_before_the_founding_was_recorded_hears_of_that(
    ada: Person, bob: Person, recording: Recording
) -> None:
    adas = Device(ada, recording)
    adas.pull()
    found(ada)
    add(ada, bob, "manager")
    remove(bob, ada)
    assert [(item["id"], item["gone"]) for item in adas.pull()] == [("family", "withdrawn")]
    bob.patch("/v1/groups/family", {"name": "Friends"})
    assert adas.pull() == []
    assert ada.get("/v1/groups/family").status_code == 404


# Devices that write


@pytest.mark.parametrize("is_recorded", [False, True])
@pytest.mark.parametrize("end", ["deleted", "left"])
def test_a_device_of_rxdb_without_a_checkpoint_hears_of_the_end_of_the_group_that_it_founded(
    ada: Person, bob: Person, recording: Recording, end: str, is_recorded: bool
) -> None:
    adas = Replica(ada, recording, "groups")
    assert adas.push(({"id": "family", "name": "Family", "_deleted": False}, None)) == []
    if is_recorded:
        recording.catch_up()
    if end == "deleted":
        ada.delete("/v1/groups/family")
    else:
        add(ada, bob, "manager")
        remove(ada, ada)
    assert [(document["id"], document["_deleted"]) for document in adas.pull()] == [("family", True)]


def test_a_device_of_watermelondb_founds_a_group_and_shares_with_it_at_once(
    ada: Person, bob: Person, recording: Recording
) -> None:
    adas, bobs = Melon(ada, recording), Melon(bob, recording)
    adas.pull()
    bobs.pull()
    group = {"id": "family", "_status": "created", "_changed": "", "name": "Family"}
    note = {"id": "n", "_status": "created", "_changed": "", "title": "t", "readers": '["group:family"]'}
    for _ in range(2):
        assert adas.push(groups={"created": [group]}, notes={"created": [note]}) == {}
    assert roles(ada) == {"ada": "manager"}
    add(ada, bob)
    tables = bobs.pull()
    assert [row["id"] for row in tables["notes"]["updated"] + tables["groups"]["updated"]] == ["n", "family"]
    assert adas.pull()["groups"]["updated"][0]["owner"] == "group:family"
    assert adas.push(groups={"deleted": ["family"]}) == {}
    tables = bobs.pull()
    assert (tables["notes"]["deleted"], tables["groups"]["deleted"]) == (["n"], ["family"])
    assert Account._get_collection().find_one({"groups.group": "family"}) is None


def test_a_device_of_rxdb_founds_a_group(ada: Person, bob: Person, recording: Recording) -> None:
    adas, bobs = Replica(ada, recording, "groups"), Replica(bob, recording, "groups")
    assert adas.push(({"id": "family", "name": "Family", "_deleted": False}, None)) == []
    (group,) = adas.pull()
    assert (group["owner"], roles(ada)) == ("group:family", {"ada": "manager"})
    add(ada, bob)
    (known,) = bobs.pull()
    # A member reads the group, and does not change it.
    assert bobs.push(({**known, "name": "Mine"}, known)) == [known]
    assert adas.push(({**group, "name": "Friends"}, group)) == []
    assert [document["name"] for document in bobs.pull()] == ["Friends"]
    remove(ada, bob)
    assert [(document["id"], document["_deleted"]) for document in bobs.pull()] == [("family", True)]


@pytest.mark.parametrize("library", ["watermelondb", "rxdb"])
def test_a_push_shares_only_with_a_group_that_one_is_in(
    ada: Person, bob: Person, recording: Recording, library: str
) -> None:
    found(bob, "his")
    if library == "watermelondb":
        adas = Melon(ada, recording)
        adas.pull()
        row = {"id": "n", "_status": "created", "_changed": "", "title": "t", "readers": '["group:his"]'}
        (problem,) = adas.push(notes={"created": [row]})["problems"]
        assert problem["problem"]["code"] == "validation_failed"
    else:
        (conflict,) = Replica(ada, recording).push(({"id": "n", "title": "t", "readers": ["group:his"]}, None))
        assert conflict["_deleted"]
    assert bob.get("/v1/notes/n").status_code == ada.get("/v1/notes/n").status_code == 404


def test_a_push_founds_as_many_groups_as_one_may(
    ada: Person, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.records.founding.MOST_GROUPS", 2)
    adas = Melon(ada, recording)
    adas.pull()
    rows = [{"id": f"g{number}", "_status": "created", "_changed": "", "name": "x"} for number in range(4)]
    problems = adas.push(groups={"created": rows})["problems"]
    assert [(one["id"], one["problem"]["code"]) for one in problems] == [
        ("g2", "limit_reached"),
        ("g3", "limit_reached"),
    ]
    assert Group.objects.count() == len(ada.get("/v1/groups").json["items"]) == 2


# Many at once


def test_an_atomic_batch_founds_a_group_and_shares_with_it(ada: Person, bob: Person) -> None:
    requests = [
        {"method": "POST", "path": "/v1/groups", "body": {"id": "family", "name": "Family"}},
        {"method": "POST", "path": "/v1/groups/family/members", "body": {"account": bob.id}},
        {"method": "POST", "path": "/v1/notes", "body": {"id": "n", "title": "t", "readers": ["group:family"]}},
    ]
    answer = ada.post("/v1/batch", {"requests": requests, "atomic": True})
    assert [part["status"] for part in answer.json["responses"]] == [201, 201, 201]
    assert bob.get("/v1/notes/n").status_code == 200
    undone = [{"method": "DELETE", "path": "/v1/groups/family"}, {"method": "DELETE", "path": "/v1/notes/none"}]
    answer = ada.post("/v1/batch", {"requests": undone, "atomic": True})
    assert [part["status"] for part in answer.json["responses"]] == [424, 404]
    assert bob.get("/v1/notes/n").status_code == 200
    answer = ada.post("/v1/batch", {"requests": undone[:1], "atomic": True})
    assert [part["status"] for part in answer.json["responses"]] == [204]
    assert (bob.get("/v1/notes/n").status_code, roles_stored(ada)) == (404, [])


def roles_stored(person: Person) -> list[str]:
    account = Account._get_collection().find_one({"_id": person.id})
    return [held["role"] for held in account.get("groups", ())]


def test_a_group_is_too_large_for_an_atomic_batch(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.records.deletion.MOST_AT_ONCE", 3)
    found(ada)
    shared(ada)
    delete = {"method": "DELETE", "path": "/v1/groups/family"}
    (part,) = ada.post("/v1/batch", {"requests": [delete], "atomic": True}).json["responses"]
    assert (part["status"], part["body"]["code"]) == (409, "still_referenced")
    assert ada.delete("/v1/groups/family").status_code == 204


def test_invitations_count_where_a_group_is_deleted_in_an_atomic_batch(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.records.deletion.MOST_AT_ONCE", 3)
    found(ada)
    delete = {"method": "DELETE", "path": "/v1/groups/family"}
    for _ in range(3):
        ada.post("/v1/groups/family/invitations", {})
    (part,) = ada.post("/v1/batch", {"requests": [delete], "atomic": True}).json["responses"]
    assert (part["status"], part["body"]["code"]) == (409, "still_referenced")
    assert ada.delete("/v1/groups/family").status_code == 204


def test_a_retry_with_a_key_founds_a_group_once(ada: Person) -> None:
    for _ in range(2):
        answer = ada.post("/v1/groups", {"name": "Family"}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 201
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert len(ada.get("/v1/groups").json["items"]) == len(roles_stored(ada)) == 1


def test_a_retry_of_a_change_of_members_is_done_once(app: Flask, ada: Person, bob: Person) -> None:
    found(ada)
    body = {"account": bob.id, "role": "manager"}
    for _ in range(2):
        answer = ada.post("/v1/groups/family/members", body, headers={"Idempotency-Key": "add"})
        assert (answer.status_code, answer.json["username"]) == (201, "bob")
    for _ in range(2):
        assert ada.delete("/v1/groups/family/members/me", headers={"Idempotency-Key": "go"}).status_code == 204
    assert roles(bob) == {"bob": "manager"}
    # What was kept of an account goes with it, and what was read of a group one is no longer in is not sent again.
    assert ada.post("/v1/groups", {"id": "his", "name": "x"}, headers={"Idempotency-Key": "his"}).status_code == 201
    add(ada, bob, "manager", "his")
    remove(bob, ada, "his")
    assert ada.post("/v1/groups", {"id": "his", "name": "x"}, headers={"Idempotency-Key": "his"}).status_code == 404
    bob.delete("/v1/accounts/me")
    assert ada.post("/v1/groups/family/members", body, headers={"Idempotency-Key": "add"}).status_code == 404
