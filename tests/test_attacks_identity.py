"""Attacks on who somebody is and what they may do (OWASP API2:2023, API5:2023)."""

from typing import Any

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import Account, Session
from tests.client import PASSWORD, Person, Phone, pointers

OBJECTS: list[Any] = [
    *({"$ne": None}, {"$gt": ""}, {"$regex": ".*"}, {"$in": ["ada", PASSWORD]}),
    *(["ada"], True, None),
]
"""What stands for any text where a text reaches a query as it is."""


def stored(person: Person) -> Any:
    return Account._get_collection().find_one({"_id": person.id}), list(Session._get_collection().find())


# An object where a text is due


@pytest.mark.parametrize("value", OBJECTS, ids=str)
def test_an_object_is_no_token_and_no_password(ada: Person, value: Any) -> None:
    before = stored(ada)
    new = "seven paper lamps"
    for method, path, body in [
        ("POST", "/auth/refresh", {"refresh_token": value}),
        ("POST", "/auth", {"username": value, "password": value}),
        ("POST", "/auth", {"username": "ada", "password": value}),
        ("POST", "/auth", {"username": value, "password": PASSWORD}),
        ("PUT", "/v1/accounts/me/password", {"current_password": value, "new_password": new}),
        ("PUT", "/v1/accounts/me/password", {"current_password": PASSWORD, "new_password": value}),
        ("POST", "/auth/logout", {"everywhere": {"$ne": value}}),
    ]:
        assert ada.send(method, path, body).status_code == 422, (method, path, body)
    assert stored(ada) == before


def test_a_header_that_is_no_token_is_nobody(phone: Phone) -> None:
    for token in ('{"$ne": null}', "[object Object]", "null", "undefined", "*", ".", "..", "a.b.c.d"):
        for scheme in ("Bearer", "JWT", "Basic", "Token"):
            assert phone.get("/v1/notes", headers={"Authorization": f"{scheme} {token}"}).status_code == 401


def test_a_token_elsewhere_than_in_its_header_is_not_looked_at(ada: Person, phone: Phone) -> None:
    token = ada.tokens["access_token"]
    for name in ("X-Access-Token", "X-Parse-Session-Token", "X-Authorization", "Proxy-Authorization"):
        assert phone.get("/v1/notes", headers={name: f"Bearer {token}"}).status_code == 401
    for name in ("session", "token", "access_token", "Authorization"):
        assert phone.get("/v1/notes", headers={"Cookie": f"{name}={token}"}).status_code == 401
        assert phone.get("/v1/notes", query_string={name: token}).status_code == 401
    assert phone.post("/v1/notes", {"title": "x", "_SessionToken": token}).status_code == 401


# Sessions


def test_nobody_chooses_the_session_of_a_login(ada: Person) -> None:
    """Session fixation: whoever knows the session before the login would be in it after."""
    before = ada.tokens["session_id"]
    body = {"username": "ada", "password": PASSWORD}
    for name in ("id", "sid", "session_id", "session", "account", "auth_time", "expires_at"):
        assert pointers(ada.post("/auth", {**body, name: before})) == {f"/{name}": "unknown_field"}
    headers = {"Cookie": f"session={before}", "X-Session-Id": before}
    assert ada.post("/auth", body, headers=headers).json["session_id"] != before


def test_what_a_session_holds_cannot_be_written(ada: Person) -> None:
    before = stored(ada)
    session = f"/v1/accounts/me/sessions/{ada.tokens['session_id']}"
    for method in ("POST", "PUT", "PATCH"):
        for path in (session, "/v1/accounts/me/sessions"):
            assert ada.send(method, path, {"expires_at": None, "account": "eve"}).status_code == 405
    for more in ({"expires_at": "2999-01-01T00:00:00Z"}, {"session_id": "x"}, {"account": "eve"}):
        body = {"refresh_token": ada.tokens["refresh_token"], **more}
        assert ada.post("/auth/refresh", body).status_code == 422
    assert stored(ada) == before


def test_the_list_of_sessions_has_an_end(ada: Person) -> None:
    row = Session._get_collection().find_one({"account": ada.id})
    old = {**row, "last_used_at": now().replace(year=2025)}
    Session._get_collection().insert_many([{**old, "_id": f"s{number}"} for number in range(300)])
    items = ada.get("/v1/accounts/me/sessions").json["items"]
    assert len(items) == 200
    assert items[0]["current"]


def test_nothing_is_done_for_an_account_that_deletes_itself_in_a_batch(ada: Person) -> None:
    parts = [
        {"method": "POST", "path": "/v1/notes", "body": {"title": "before"}},
        {"method": "DELETE", "path": "/v1/accounts/me"},
        {"method": "POST", "path": "/v1/notes", "body": {"title": "after"}},
        {"method": "PATCH", "path": "/v1/accounts/me", "body": {"display_name": "after"}},
        {"method": "GET", "path": "/v1/accounts/me"},
    ]
    answers = ada.post("/v1/batch", {"requests": parts}).json["responses"]
    assert [answer["status"] for answer in answers] == [201, 204, 401, 401, 401]
    assert ada.get("/v1/notes").status_code == 401


@pytest.mark.parametrize("path", ["/v1/accounts/me", "/v1/accounts/me/", "/v1/accounts/%6de", "/v1/accounts/me?x=1"])
def test_no_deletion_of_an_account_can_be_undone(ada: Person, path: str) -> None:
    """Its line in the log stays, and who restores a backup deletes again what such a line names."""
    parts = [{"method": "DELETE", "path": path}, {"method": "GET", "path": "/v1/notes/none"}]
    before = stored(ada)
    answer = ada.post("/v1/batch", {"requests": parts, "atomic": True})
    assert answer.json["errors"][0]["code"] == "not_allowed"
    assert stored(ada) == before


# Roles

GRANTS = [
    {"roles": ["admin"]},
    {"$push": {"roles": "admin"}},
    {"$add_to_set": {"roles": {"each": ["admin"]}}},
    {"roles.0": "admin"},
    {"$set": {"roles": ["admin"]}},
]


@pytest.mark.parametrize("grant", GRANTS, ids=str)
def test_nobody_gives_themselves_a_role_in_any_way(ada: Person, phone: Phone, grant: dict[str, Any]) -> None:
    part = {"method": "PATCH", "path": "/v1/accounts/me", "body": grant}
    batched = ada.post("/v1/batch", {"requests": [part]}).json["responses"][0]["status"]
    direct = ada.patch("/v1/accounts/me", grant).status_code
    made = phone.post("/v1/accounts", {"username": "eve", "password": PASSWORD, **grant}).status_code
    assert (direct, batched, made) == (422, 422, 422)
    assert ada.get("/v1/accounts/me").json["roles"] == []


@pytest.mark.parametrize("role", ["admin", "owner"])
def test_no_role_opens_what_was_not_given_to_it(app: Flask, ada: Person, bob: Person, role: str) -> None:
    note = ada.make_note()
    bob.set_roles(role)
    bob.log_in()
    assert bob.get("/v1/accounts/me").json["roles"] == [role]
    for method in ("GET", "DELETE"):
        assert bob.send(method, f"/v1/notes/{note['id']}").status_code == 404
    assert bob.find(scope="mine,shared,public").json["items"] == []


def test_no_username_and_no_id_stands_for_somebody_else(phone: Phone, ada: Person) -> None:
    body = {"username": "eve", "password": PASSWORD}
    assert pointers(phone.post("/v1/accounts", {**body, "id": ada.id})) == {"/id": "read_only"}
    for name in ("role:admin", "*", "o:ada", "r:ada", "$ada", "ada:", "me", "."):
        assert pointers(phone.post("/v1/accounts", {**body, "username": name})).keys() == {"/username"}
