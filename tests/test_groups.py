"""Groups: who founds one, who comes in and goes, what its members see, and what is left when it ends."""

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import Account, Event, Group, Note
from service.identity import memberships
from service.identity.deletion import sweep
from service.records import deletion, founding
from tests.client import PASSWORD, Person, Phone, pointers
from tests.types import REGISTRY


@pytest.fixture
def cat(app: Flask) -> Person:
    return Person.sign_up(app.test_client(), "cat")


@pytest.fixture(autouse=True)
def every_session_is_looked_up(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is believed of a session for 0.8 s is the matter of another test."""
    monkeypatch.setattr("service.identity.sessions.CHECK_SECONDS", 0.0)


def found(person: Person, id: str = "family", **more: Any) -> dict[str, Any]:
    answer = person.post("/v1/groups", {"id": id, "name": "Family", **more})
    assert answer.status_code == 201, answer.json
    return answer.json


def add(manager: Person, person: Person, role: str = "member", group: str = "family") -> Any:
    return manager.post(f"/v1/groups/{group}/members", {"account": person.id, "role": role})


def remove(manager: Person, person: Person, group: str = "family") -> Any:
    return manager.delete(f"/v1/groups/{group}/members/{person.id}")


def roles(person: Person, group: str = "family") -> dict[str, str]:
    items = person.get(f"/v1/groups/{group}/members").json["items"]
    return {member["username"]: member["role"] for member in items}


def ids(person: Person, collection: str = "groups") -> list[str]:
    return sorted(record["id"] for record in person.get(f"/v1/{collection}").json["items"])


# Founding


def test_the_mark_of_a_founder_outlasts_each_change_and_gives_no_right(ada: Person, bob: Person) -> None:
    found(ada)
    add(ada, bob, "manager")
    mark = f"x:{ada.id}"
    for change in (
        lambda: bob.put("/v1/groups/family", {"name": "Friends", "readers": [bob.id]}),
        lambda: bob.patch("/v1/groups/family", {"readers": []}),
        lambda: remove(bob, ada),
    ):
        assert change().status_code < 300
        stored = Group._get_collection().find_one({"_id": "family"})
        assert stored is not None
        assert mark in stored["access"]
    assert ada.get("/v1/groups/family").status_code == 404
    assert ids(ada) == []


def test_a_group_does_not_name_its_founder_when_the_account_is_gone(ada: Person, bob: Person) -> None:
    found(ada)
    add(ada, bob, "manager")
    assert ada.id in str(Group._get_collection().find_one({"_id": "family"}))
    assert ada.delete("/v1/accounts/me").status_code == 204
    assert ada.id not in str(Group._get_collection().find_one({"_id": "family"}))
    assert ids(bob) == ["family"]


def test_who_founds_a_group_manages_it(ada: Person) -> None:
    group = found(ada)
    assert (group["name"], group["owner"], group["readers"]) == ("Family", "group:family", [])
    (member,) = ada.get("/v1/groups/family/members").json["items"]
    assert member == {
        "account": ada.id,
        "username": "ada",
        "display_name": None,
        "role": "manager",
        "since": member["since"],
    }
    assert ids(ada) == ["family"]
    assert ada.get("/v1/groups?scope=mine").json["items"] == []


@pytest.mark.parametrize("way", ["put", "put only", "post without an id"])
def test_a_group_is_founded_in_any_way_a_record_is_made(ada: Person, way: str) -> None:
    if way == "post without an id":
        answer = ada.post("/v1/groups", {"name": "Family"})
    else:
        headers = {"If-None-Match": "*"} if way == "put only" else {}
        answer = ada.put("/v1/groups/family", {"name": "Family"}, headers=headers)
    assert answer.status_code == 201
    assert roles(ada, answer.json["id"]) == {"ada": "manager"}
    assert ada.put(f"/v1/groups/{answer.json['id']}", {"name": "Friends"}).json["name"] == "Friends"
    assert roles(ada, answer.json["id"]) == {"ada": "manager"}


def test_an_id_that_is_taken_founds_nothing(ada: Person, bob: Person) -> None:
    found(ada)
    assert bob.post("/v1/groups", {"id": "family", "name": "Mine"}).status_code == 409
    assert bob.put("/v1/groups/family", {"name": "Mine"}).status_code == 409
    assert ids(bob) == []
    assert Account._get_collection().find_one({"_id": bob.id}).get("groups", []) == []


def test_an_account_is_a_member_of_so_many_groups_at_most(
    ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(founding, "MOST_GROUPS", 2)
    monkeypatch.setattr(founding.enter, "__defaults__", (2,))
    for id in ("g1", "g2"):
        found(ada, id)
    answer = ada.post("/v1/groups", {"id": "g3", "name": "one too many"})
    assert (answer.status_code, answer.json["code"]) == (409, "limit_reached")
    assert ada.put("/v1/groups/g3", {"name": "one too many"}).json["code"] == "limit_reached"
    assert ids(ada) == ["g1", "g2"]
    assert Group._get_collection().find_one({"_id": "g3"}) is None
    found(bob, "g4")
    monkeypatch.setattr(memberships, "MOST_ADDED", 2)
    assert add(bob, ada, group="g4").json["code"] == "limit_reached"


def test_others_cannot_fill_all_places_of_an_account(ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memberships, "MOST_ADDED", 1)
    for id in ("g1", "g2"):
        found(ada, id)
    assert add(ada, bob, group="g1").status_code == 201
    assert add(ada, bob, group="g2").json["code"] == "limit_reached"
    found(bob, "his")
    assert ids(bob) == ["g1", "his"]


def test_a_group_has_so_many_members_at_most(ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memberships, "MOST_MEMBERS", 1)
    found(ada)
    assert add(ada, bob).json["code"] == "limit_reached"
    assert roles(ada) == {"ada": "manager"}


# Who may do what


@pytest.fixture
def people(ada: Person, bob: Person, cat: Person, app: Flask) -> dict[str, Person]:
    """Somebody of each kind, of a group with a note that is shared with it."""
    dan = Person.sign_up(app.test_client(), "dan")
    found(ada)
    add(ada, bob)
    add(ada, cat)
    assert cat.delete("/v1/groups/family/members/me").status_code == 204
    ada.make_note(id="read", readers=["group:family"])
    ada.make_note(id="write", writers=["group:family"])
    return {"manager": ada, "member": bob, "former member": cat, "stranger": dan}


MATRIX: dict[str, tuple[str, str, Any, dict[str, int]]] = {
    "see the group": ("GET", "/v1/groups/family", None, {"manager": 200, "member": 200}),
    "rename it": ("PATCH", "/v1/groups/family", {"name": "Friends"}, {"manager": 200, "member": 403}),
    "replace it": ("PUT", "/v1/groups/family", {"name": "F"}, {"manager": 200, "member": 403, "": 409}),
    "show it to others": ("PATCH", "/v1/groups/family", {"readers": ["*"]}, {"manager": 200, "member": 403}),
    "delete it": ("DELETE", "/v1/groups/family", None, {"manager": 204, "member": 403}),
    "see who is in it": ("GET", "/v1/groups/family/members", None, {"manager": 200, "member": 200}),
    "read what it was given": ("GET", "/v1/notes/read", None, {"manager": 200, "member": 200}),
    "write what it may read": ("PATCH", "/v1/notes/read", {"title": "x"}, {"manager": 200, "member": 403}),
    "write what it may write": ("PATCH", "/v1/notes/write", {"title": "x"}, {"manager": 200, "member": 200}),
    "share what it may write": ("PATCH", "/v1/notes/write", {"readers": ["*"]}, {"manager": 200, "member": 403}),
    "delete what it may write": ("DELETE", "/v1/notes/write", None, {"manager": 204, "member": 204}),
}
"""What one may do, with the status for each kind of people; 404 for those that are not named, or that of ""."""


@pytest.mark.parametrize("who", ["manager", "member", "former member", "stranger"])
@pytest.mark.parametrize("what", MATRIX)
def test_who_may_do_what(people: dict[str, Person], who: str, what: str) -> None:
    method, path, body, statuses = MATRIX[what]
    answer = people[who].send(method, path, body)
    assert answer.status_code == statuses.get(who, statuses.get("", 404)), answer.json


OTHERS = {"manager": 201, "member": 403, "former member": 404, "stranger": 404}


@pytest.mark.parametrize("who", OTHERS)
def test_who_may_add_and_remove_members(people: dict[str, Person], app: Flask, who: str) -> None:
    eve = Person.sign_up(app.test_client(), "eve")
    assert add(people[who], eve).status_code == OTHERS[who]
    expected = 204 if who == "manager" else OTHERS[who]
    assert remove(people[who], people["manager"] if who != "manager" else eve).status_code == expected
    again = {"manager": 201, "former member": 404, "stranger": 404}.get(who, 403)
    assert add(people[who], people[who] if who != "manager" else eve, "manager").status_code == again


@pytest.mark.parametrize("who", ["manager", "member", "former member", "stranger"])
def test_lists_show_what_the_group_was_given_to_members_alone(people: dict[str, Person], who: str) -> None:
    seen = ["read", "write"] if who in ("manager", "member") else []
    assert ids(people[who], "notes") == seen
    assert ids(people[who]) == (["family"] if seen else [])


def test_who_may_see_a_group_without_being_in_it_sees_no_members(people: dict[str, Person]) -> None:
    people["manager"].patch("/v1/groups/family", {"readers": ["*"]})
    stranger = people["stranger"]
    assert stranger.get("/v1/groups/family").status_code == 200
    assert stranger.get("/v1/groups/family/members").status_code == 403
    assert stranger.get("/v1/notes/read").status_code == 404


# Coming and going


def test_a_member_comes_in_is_promoted_and_goes(ada: Person, bob: Person) -> None:
    found(ada)
    answer = add(ada, bob)
    assert (answer.status_code, answer.json["account"], answer.json["role"]) == (201, bob.id, "member")
    since = answer.json["since"]
    for role in ("member", "manager", "manager"):
        answer = add(ada, bob, role)
        assert (answer.status_code, answer.json["role"], answer.json["since"]) == (200, role, since)
    assert bob.patch("/v1/groups/family", {"name": "Friends"}).status_code == 200
    assert remove(bob, ada).status_code == 204
    assert roles(bob) == {"bob": "manager"}
    assert ada.get("/v1/groups/family").status_code == 404


@pytest.mark.parametrize("body", [{"account": "nobody"}, {"account": ""}, {}, {"account": "x", "role": "boss"}])
def test_a_member_that_is_none_is_refused(ada: Person, body: Any) -> None:
    found(ada)
    assert ada.post("/v1/groups/family/members", body).status_code == 422


def test_who_is_no_member_cannot_be_removed(ada: Person, bob: Person) -> None:
    found(ada)
    assert remove(ada, bob).status_code == 404
    assert ada.delete("/v1/groups/none/members/me").status_code == 404


def test_the_last_manager_cannot_leave_members_alone(ada: Person, bob: Person) -> None:
    found(ada)
    add(ada, bob)
    for answer in (remove(ada, ada), ada.delete("/v1/groups/family/members/me"), add(ada, ada, "member")):
        assert (answer.status_code, answer.json["code"]) == (409, "last_manager")
    assert roles(bob) == {"ada": "manager", "bob": "member"}
    add(ada, bob, "manager")
    assert remove(ada, ada).status_code == 204


def test_a_manager_who_is_locked_cannot_be_the_only_one_left(ada: Person, bob: Person) -> None:
    found(ada)
    add(ada, bob, "manager")
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"locked_at": now()}})
    assert remove(ada, ada).json["code"] == "last_manager"
    Account._get_collection().update_one({"_id": bob.id}, {"$unset": {"locked_at": ""}})
    assert remove(ada, ada).status_code == 204


def test_a_group_ends_with_its_last_member(ada: Person, bob: Person) -> None:
    found(ada)
    note = bob.make_note()
    Note._get_collection().update_one({"_id": note["id"]}, {"$set": {"readers": ["group:family"]}})
    assert ada.delete("/v1/groups/family/members/me").status_code == 204
    assert ada.get("/v1/groups/family").status_code == 404
    assert ada.post("/v1/groups", {"id": "family", "name": "again"}).status_code == 409


def test_an_account_that_joins_and_leaves_reads_it_among_its_events(ada: Person, bob: Person) -> None:
    found(ada)
    add(ada, bob)
    bob.delete("/v1/groups/family/members/me")
    kinds = [event["kind"] for event in bob.get("/v1/accounts/me/events").json["items"]]
    assert [kind for kind in kinds if kind.startswith("group_")] == ["group_left", "group_joined"]


# Sharing


@pytest.mark.parametrize("way", ["post", "put", "patch", "operator", "put new"])
def test_a_record_is_shared_only_with_a_group_that_one_is_in(ada: Person, bob: Person, way: str) -> None:
    found(bob, "his")
    note = ada.make_note(id="n")
    given = {"readers": ["role:team", "group:his"]}
    sent = {
        "post": lambda: ada.post("/v1/notes", {"title": "t", **given}),
        "put new": lambda: ada.put("/v1/notes/new", {"title": "t", **given}),
        "put": lambda: ada.put("/v1/notes/n", {"title": "t", **given}),
        "patch": lambda: ada.patch("/v1/notes/n", given),
        "operator": lambda: ada.patch("/v1/notes/n", {"$add_to_set": {"readers": {"each": given["readers"]}}}),
    }
    answer = sent[way]()
    assert answer.status_code == 422, answer.json
    place = "/$add_to_set/readers/each/1" if way == "operator" else "/readers/1"
    assert pointers(answer) == {place: "not_found"}
    assert ada.get("/v1/notes/n").json == note
    add(bob, ada, group="his")
    assert sent[way]().status_code in (200, 201)
    assert "group:his" in next(note for note in bob.get("/v1/notes").json["items"])["readers"]


def test_a_record_stays_shared_with_a_group_that_its_owner_has_left(ada: Person, bob: Person) -> None:
    found(bob, "his")
    add(bob, ada, group="his")
    ada.make_note(id="n", readers=["group:his"])
    remove(ada, ada, "his")
    for answer in (
        ada.patch("/v1/notes/n", {"title": "new", "readers": ["group:his", "role:x"]}),
        ada.put("/v1/notes/n", {"title": "newer", "readers": ["group:his"]}),
    ):
        assert answer.status_code == 200, answer.json
    assert bob.get("/v1/notes/n").json["title"] == "newer"
    assert ada.patch("/v1/notes/n", {"readers": []}).status_code == 200
    assert bob.get("/v1/notes/n").status_code == 404
    assert ada.patch("/v1/notes/n", {"readers": ["group:his"]}).status_code == 422


def test_a_group_is_shared_with_by_its_id_in_its_grammar(ada: Person) -> None:
    for principal in ("group:", "group:a/b", "group:" + "x" * 65, "groups:a"):
        answer = ada.post("/v1/notes", {"title": "t", "readers": [principal]})
        assert pointers(answer) == {"/readers/0": "pattern"}


# The end of a group


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "BATCH", 2)


def grants() -> list[Any]:
    rows = Note._get_collection().find({}, {"readers": 1, "writers": 1, "access": 1}, sort=[("_id", 1)])
    return [(row.get("readers"), row.get("writers"), row["access"]) for row in rows]


def test_a_group_that_is_deleted_takes_its_grants_away(ada: Person, bob: Person, small_batches: None) -> None:
    found(ada)
    add(ada, bob)
    for number in range(5):
        bob.make_note(id=f"n{number}", readers=["group:family", "role:x"], writers=["group:family"])
    assert len(ids(ada, "notes")) == 5
    assert ada.delete("/v1/groups/family").status_code == 204
    assert ids(ada, "notes") == ids(ada) == ids(bob) == []
    assert grants() == [(["role:x"], [], [f"o:{bob.id}", "r:role:x"])] * 5
    assert Account._get_collection().find_one({"groups.group": "family"}) is None
    assert bob.get("/v1/notes/n0").json["revision"] == 2


def test_what_is_left_of_a_deletion_a_worker_does(
    ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch, small_batches: None
) -> None:
    found(ada)
    add(ada, bob)
    for number in range(3):
        ada.make_note(id=f"n{number}", readers=["group:family"])
    with monkeypatch.context() as patch:
        patch.setattr(deletion, "release", lambda *_: None)
        assert ada.delete("/v1/groups/family").status_code == 204
    assert Account._get_collection().count_documents({"groups.group": "family"}) == 2
    assert deletion.release_again(REGISTRY, timedelta()) == 1
    assert Account._get_collection().count_documents({"groups.group": "family"}) == 0
    assert [access for _, _, access in grants()] == [[f"o:{ada.id}"]] * 3
    assert deletion.release_again(REGISTRY, timedelta()) == 0


def test_nobody_comes_into_a_group_that_is_deleted(ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    found(ada)
    monkeypatch.setattr(deletion, "release", lambda *_: None)
    ada.delete("/v1/groups/family")
    assert add(ada, bob).status_code == 404


# Accounts that go


def test_the_longest_member_follows_a_manager_whose_account_is_deleted(
    ada: Person, bob: Person, cat: Person, app: Flask
) -> None:
    dan = Person.sign_up(app.test_client(), "dan")
    found(ada)
    for person in (bob, cat, dan):
        add(ada, person)
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"locked_at": now()}})
    assert ada.delete("/v1/accounts/me").status_code == 204
    assert roles(cat) == {"bob": "member", "cat": "manager", "dan": "member"}


def test_a_group_whose_last_member_deletes_the_account_ends(ada: Person) -> None:
    found(ada)
    assert ada.delete("/v1/accounts/me").status_code == 204
    assert Group._get_collection().count_documents({"purge_at": {"$exists": False}}) == 0


def test_a_deletion_of_an_account_that_was_cut_short_is_ended(
    ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    found(ada)
    add(ada, bob)
    with monkeypatch.context() as patch:
        patch.setattr("service.identity.deletion.purge", lambda *_: None)
        ada.delete("/v1/accounts/me")
    assert roles(bob) == {"bob": "member"}
    assert sweep(REGISTRY, timedelta()) == 1
    assert roles(bob) == {"bob": "manager"}
    assert Event._get_collection().count_documents({"account": ada.id}) == 0


# Finding people


@pytest.mark.parametrize("name", ["bob", "BOB", "Bob"])
def test_a_person_is_found_by_the_whole_username(ada: Person, bob: Person, name: str) -> None:
    public = {"id": bob.id, "username": "bob", "display_name": None}
    assert ada.get("/v1/accounts", query_string={"username": name}).json == {"items": [public]}


@pytest.mark.parametrize("name", ["bo", "bobb", "b.b", "*", "", "bob\0", "bob@example.org"])
def test_nobody_is_found_by_less_or_more(ada: Person, bob: Person, name: str) -> None:
    answer = ada.get("/v1/accounts", query_string={"username": name})
    assert (answer.status_code, answer.json) == (200, {"items": []})


@pytest.mark.parametrize("query", [{}, {"username": "x" * 41}, {"username": "bob", "limit": "1"}, {"id": "x"}])
def test_a_look_for_an_account_names_it_and_nothing_else(ada: Person, query: dict[str, str]) -> None:
    assert ada.get("/v1/accounts", query_string=query).status_code == 400


def test_who_goes_is_found_no_more(ada: Person, bob: Person) -> None:
    bob.delete("/v1/accounts/me")
    assert ada.get("/v1/accounts?username=bob").json == {"items": []}
    assert ada.client.get("/v1/accounts?username=bob").status_code == 401


@pytest.fixture
def strict(make_app: Any) -> Person:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_ACCOUNT_LOOKUPS="2 per hour")
    return Person.sign_up(app.test_client(), "eve")


def test_who_looks_for_many_accounts_has_to_wait(strict: Person) -> None:
    statuses = [strict.get(f"/v1/accounts?username=name{number}").status_code for number in range(4)]
    assert statuses == [200, 200, 429, 429]


# Attacks


@pytest.mark.parametrize(
    "body", [{"groups": [{"group": "family", "role": "manager"}]}, {"$push": {"groups": "family"}}]
)
def test_nobody_puts_themselves_into_a_group(ada: Person, bob: Person, phone: Phone, body: Any) -> None:
    found(ada)
    assert bob.patch("/v1/accounts/me", body).status_code == 422
    assert phone.post("/v1/accounts", {"username": "eve", "password": PASSWORD, **body}).status_code == 422
    for owner in (bob.id, "group:family"):
        assert bob.post("/v1/groups", {"name": "x", "owner": owner}).status_code == 422
        assert ada.patch("/v1/groups/family", {"owner": owner}).status_code == 422
    assert (ids(bob), roles(ada)) == ([], {"ada": "manager"})
