"""Who may do what with a record: every route, asked by everybody that it can be given to."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.documents import Account, Note, Notebook, Record, Session
from service.security import security
from tests.client import Person, Phone

DOCUMENTS: dict[str, type[Record]] = {"notes": Note, "notebooks": Notebook}

SHARED_WITH: dict[str, dict[str, list[str]]] = {
    "owner": {},
    "reader": {"readers": ["eve"]},
    "writer": {"writers": ["eve"]},
    "role that reads": {"readers": ["role:team"]},
    "role that writes": {"writers": ["role:team"]},
    "everyone who reads": {"readers": ["*"]},
    "everyone who writes": {"writers": ["*"]},
    "stranger": {"readers": ["bob", "role:other", "team"], "writers": ["role:eve"]},
    "nobody": {"readers": ["*"], "writers": ["*"]},
}
"""How a record of Ada's is shared so that Eve, who is in the team, is that to it. Nobody is who has no token."""

REQUESTS: dict[str, tuple[str, Any]] = {
    "get": ("GET", None),
    "head": ("HEAD", None),
    "patch": ("PATCH", {"title": "new"}),
    "put": ("PUT", {"title": "new"}),
    "delete": ("DELETE", None),
    "share by patch": ("PATCH", {"readers": ["role:new"]}),
    "share by operator": ("PATCH", {"$push": {"writers": "role:new"}}),
    "share by put": ("PUT", {"title": "new", "writers": ["role:new"]}),
}
READS, WRITES, SHARES = {"get", "head"}, {"patch", "put", "delete"}, {name for name in REQUESTS if "share" in name}


def expected(who: str, request: str) -> int:
    """The status that the contract promises."""
    if who == "nobody":
        return 401
    done = 204 if request == "delete" else 200
    if who == "owner" or request in READS:
        return done if who != "stranger" else 404
    if who == "stranger":
        return 409 if "put" in request else 404
    return done if "write" in who and request in WRITES else 403


def sign_in(app: Flask, name: str, *roles: str) -> Phone:
    """Somebody whose account id is their name; no password is hashed, for there are many of them."""
    moment = datetime.now()
    Account(id=name, username=name, username_key=name, password_hash="none", roles=list(roles)).save()
    times = {"created_at": moment, "last_used_at": moment, "expires_at": moment + timedelta(days=1)}
    Session(id=f"of-{name}", account=name, auth_time=int(moment.timestamp()), refresh_hash="none", **times).save()
    with app.app_context():
        token = security().tokens.issue(name, f"of-{name}", int(moment.timestamp()))
    return Phone(app.test_client(), {"Authorization": f"Bearer {token}"})


@pytest.fixture
def owner(app: Flask) -> Phone:
    return sign_in(app, "ada")


@pytest.fixture
def eve(app: Flask) -> Phone:
    return sign_in(app, "eve", "team", "staff")


def ids(answer: TestResponse) -> list[str]:
    return [item["id"] for item in answer.json["items"]]


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("who", SHARED_WITH)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_route_does_what_its_caller_may(
    app: Flask, owner: Phone, eve: Phone, kind: str, who: str, request_name: str
) -> None:
    caller = {"owner": owner, "nobody": Phone(app.test_client())}.get(who, eve)
    owner.post(f"/v1/{kind}", {"id": "x", "title": "old", **SHARED_WITH[who]})
    stored = DOCUMENTS[kind]._get_collection()
    before = stored.find_one({"_id": "x"})
    method, body = REQUESTS[request_name]
    status = caller.client.open(f"/v1/{kind}/x", method=method, json=body, headers=caller.headers).status_code
    assert status == expected(who, request_name)
    assert (stored.find_one({"_id": "x"}) != before) == (status < 300 and request_name not in READS)
    assert stored.find_one({"_id": "x"})["owner"] == "ada"


@pytest.mark.parametrize(
    ("who", "scopes"),
    [
        ("owner", {"mine"}),
        ("reader", {"shared"}),
        ("writer", {"shared"}),
        ("role that reads", {"shared"}),
        ("role that writes", {"shared"}),
        ("everyone who reads", {"public"}),
        ("everyone who writes", {"public"}),
        ("stranger", set()),
    ],
)
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_list_holds_what_its_scope_says(owner: Phone, eve: Phone, kind: str, who: str, scopes: set[str]) -> None:
    owner.post(f"/v1/{kind}", {"id": "x", "title": "old", **SHARED_WITH[who]})
    caller = owner if who == "owner" else eve
    found = {scope for scope in ("mine", "shared", "public") if ids(caller.find(f"/v1/{kind}", scope=scope))}
    assert found == scopes
    assert bool(ids(caller.find(f"/v1/{kind}"))) == bool(scopes & {"mine", "shared"})
    assert bool(ids(caller.find(f"/v1/{kind}", scope="public,mine,shared"))) == bool(scopes)


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_list_without_a_token_is_401(phone: Phone, kind: str, method: str) -> None:
    assert phone.send(method, f"/v1/{kind}", {"title": "t"} if method == "POST" else None).status_code == 401
    assert not DOCUMENTS[kind].objects


@pytest.mark.parametrize("scope", ["", "all", "mine,", "mine,mine", "Mine", "public,x"])
def test_a_scope_that_does_not_exist_is_refused(owner: Phone, scope: str) -> None:
    assert owner.find(scope=scope).json["errors"][0]["parameter"] == "scope"


@pytest.mark.parametrize("request_name", ["get", "patch", "delete", "share by patch", "share by operator"])
def test_not_there_and_not_yours_are_the_same_to_the_last_byte(owner: Phone, eve: Phone, request_name: str) -> None:
    owner.post("/v1/notes", {"id": "hers", "title": "t"})
    method, body = REQUESTS[request_name]
    for condition in ({}, {"If-Match": '"1"'}, {"If-Match": '"9"'}):
        headers = {**condition, "X-Request-ID": "one"}
        hers, none = (eve.send(method, f"/v1/notes/{name}", body, headers=headers) for name in ("hers", "none"))
        assert (hers.status_code, hers.data, list(hers.headers)) == (404, none.data, list(none.headers))


def test_a_record_that_is_given_in_several_ways_is_listed_once(owner: Phone, eve: Phone) -> None:
    several = ["eve", "role:team", "role:staff", "*", "ada"]
    owner.post("/v1/notes", {"id": "x", "title": "t", "readers": several, "writers": several})
    for person in (owner, eve):
        answer = person.find(scope="mine,shared,public", count="true").json
        assert (len(answer["items"]), answer["total"]) == (1, 1)


def test_a_record_that_is_no_longer_shared_is_out_of_sight_at_once(owner: Phone, eve: Phone) -> None:
    owner.post("/v1/notes", {"id": "x", "title": "t", "readers": ["eve"], "writers": ["role:team"]})
    for body, status in (({"readers": []}, 200), ({"$pull": {"writers": "role:team"}}, 404)):
        owner.patch("/v1/notes/x", body)
        assert eve.get("/v1/notes/x").status_code == status
    owner.patch("/v1/notes/x", {"$add_to_set": {"readers": "eve"}})
    assert ids(eve.find(scope="shared")) == ["x"]
    owner.put("/v1/notes/x", {"title": "t", "readers": []})
    assert ids(eve.find(scope="shared")) == []


def test_a_deleted_record_is_out_of_sight_of_all(owner: Phone, eve: Phone) -> None:
    owner.post("/v1/notes", {"id": "x", "title": "t", "writers": ["*", "eve"]})
    assert eve.delete("/v1/notes/x").status_code == 204
    for person in (owner, eve):
        assert person.get("/v1/notes/x").status_code == 404
        assert person.patch("/v1/notes/x", {"title": "new"}).status_code == 404
        assert ids(person.find(scope="mine,shared,public")) == []


def test_a_role_counts_as_soon_as_it_is_given_and_until_it_is_taken(app: Flask, owner: Phone, eve: Phone) -> None:
    owner.post("/v1/notes", {"id": "x", "title": "t", "writers": ["role:admin"]})
    found = []
    for roles in ([], ["admin"], []):
        Account._get_collection().update_one({"_id": "eve"}, {"$set": {"roles": roles}})
        app.extensions["madang.security"].sessions.seen.entries.clear()
        found.append(eve.patch("/v1/notes/x", {"title": "new"}).status_code)
    assert found == [404, 200, 404]


def test_what_counts_is_the_account_id_and_not_the_username(ada: Person, bob: Person) -> None:
    ada.make_note(id="x", readers=["bob"])
    assert bob.get("/v1/notes/x").status_code == 404


def test_a_writer_changes_the_content_and_leaves_the_sharing(owner: Phone, eve: Phone) -> None:
    owner.post("/v1/notes", {"id": "x", "title": "old", "readers": ["bob"], "writers": ["eve"]})
    for answer in (eve.patch("/v1/notes/x", {"$inc": {"priority": 1}}), eve.put("/v1/notes/x", {"title": "new"})):
        assert (answer.json["owner"], answer.json["readers"], answer.json["writers"]) == ("ada", ["bob"], ["eve"])
    assert owner.get("/v1/notes/x").json["title"] == "new"


def test_a_writer_who_sends_the_whole_record_back_has_to_leave_the_sharing_out(owner: Phone, eve: Phone) -> None:
    owner.post("/v1/notes", {"id": "x", "title": "old", "writers": ["eve"]})
    assert eve.put("/v1/notes/x", {"title": "new", "readers": [], "writers": ["eve"]}).status_code == 403


def test_a_writer_need_not_read_what_the_record_refers_to(owner: Phone, eve: Phone) -> None:
    notebook = owner.post("/v1/notebooks", {"title": "t"}).json["id"]
    owner.post("/v1/notes", {"id": "x", "title": "old", "notebook": notebook, "writers": ["eve"]})
    assert eve.patch("/v1/notes/x", {"title": "new"}).status_code == 200
    assert eve.patch("/v1/notes/x", {"$max": {"due": "2026-11-22T10:00:00Z"}}).status_code == 200
    Note._get_collection().update_one({"_id": "x"}, {"$unset": {"priority": ""}})
    assert eve.patch("/v1/notes/x", {"$inc": {"priority": 1}}).status_code == 200


def test_the_hidden_list_of_readers_follows_the_sharing(owner: Phone) -> None:
    owner.post("/v1/notes", {"id": "x", "title": "t", "readers": ["role:b", "eve"], "writers": ["eve", "*"]})
    assert Note._get_collection().find_one({"_id": "x"})["access"] == ["o:ada", "r:*", "r:eve", "r:role:b"]
