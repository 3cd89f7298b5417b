"""Accounts in the console: what an admin does to one holds within a second, and is told in the log and to its owner."""

import json
from typing import Any

import pyotp
import pytest
from flask import Flask

from service.documents import Account, AdminAction, Event, Note
from service.documents.account import ALIVE, NOT_LOCKED
from service.pages.console_texts import CONSOLE_TEXTS
from tests.admin_browser import AdminBrowser
from tests.client import PASSWORD, Person, Phone
from tests.racing import at_once

TEXTS = CONSOLE_TEXTS["en"]


@pytest.fixture
def admin(app: Flask, ada: Person) -> AdminBrowser:
    return AdminBrowser.of(ada, app)


def press(admin: AdminBrowser, person: Person, button: str, **texts: str) -> Any:
    path = f"/admin/accounts/{person.id}"
    return admin.post(path, {"csrf": admin.form(path)["csrf"], "do": button, **texts})


def last_action() -> Any:
    return AdminAction.objects.order_by("-id").first()


@pytest.mark.parametrize("name", ["bob", "BO", "bob@example.org", "id"])
def test_an_account_is_found_by_name_address_and_id(admin: AdminBrowser, bob: Person, name: str) -> None:
    about = {"email": "bob@example.org", "email_key": "bob@example.org", "email_verified": True}
    Account._get_collection().update_one({"_id": bob.id}, {"$set": about})
    page = admin.get("/admin/accounts", query_string={"name": bob.id if name == "id" else name}).text
    assert page.count(f">{bob.id}<") == 1
    assert ">ada<" not in page


def test_all_accounts_come_page_by_page(admin: AdminBrowser, ada: Person) -> None:
    rows = [Account.new({"_id": f"a{number:03}", "username": f"u{number}"}) for number in range(120)]
    for row in rows:
        row["username_key"] = row["username"]
    Account._get_collection().insert_many(rows)
    seen, path = 0, "/admin/accounts"
    while path:
        page = admin.get(path).text
        seen += page.count('<th scope="row">')
        path = page.partition('rel="next" href="')[2].partition('"')[0]
    assert seen == 121


def test_an_account_shows_nothing_by_which_it_is_entered(admin: AdminBrowser, bob: Person) -> None:
    secret = bob.post("/v1/accounts/me/totp").json["secret"]
    codes = bob.post("/v1/accounts/me/totp/confirmation", {"code": pyotp.TOTP(secret).now()}).json["recovery_codes"]
    stored = Account._get_collection().find_one({"_id": bob.id})
    page = admin.get(f"/admin/accounts/{bob.id}").text
    assert "bob" in page
    for hidden in (secret, *codes, stored["password_hash"], *stored["second_factor"]["recovery_hashes"]):
        assert hidden not in page
    assert bob.tokens["refresh_token"].partition(".")[2] not in page


def test_a_locked_account_is_out_on_its_phone_at_once_and_back_when_it_is_unlocked(
    admin: AdminBrowser, bob: Person, phone: Phone
) -> None:
    assert press(admin, bob, "lock").status_code == 303
    assert bob.get("/v1/notes").status_code == 401
    assert phone.post("/auth", {"username": "bob", "password": PASSWORD}).status_code == 403
    assert last_action().action == "locked"
    assert press(admin, bob, "unlock").status_code == 303
    bob.log_in()
    assert bob.get("/v1/notes").status_code == 200
    assert {"locked", "unlocked"} <= {event.kind for event in Event.objects(account=bob.id)}


def test_the_owner_of_an_account_does_not_read_where_an_admin_sits(
    admin: AdminBrowser, app: Flask, bob: Person
) -> None:
    secret = bob.post("/v1/accounts/me/totp").json["secret"]
    bob.post("/v1/accounts/me/totp/confirmation", {"code": pyotp.TOTP(secret).now()})
    before = Event.objects(account=bob.id).count()
    page = f"/admin/accounts/{bob.id}"
    for button in ("roles", "lock", "unlock", "end", "factor"):
        sent = {"csrf": admin.form(page)["csrf"], "do": button, "roles": "team"}
        address = {"REMOTE_ADDR": "203.0.113.7"}
        assert admin.post(page, sent, environ_overrides=address).status_code == 303
    events = Event.objects(account=bob.id).order_by("id")[before:]
    kinds = ["roles_changed", "locked", "unlocked", "session_ended", "second_factor_off"]
    assert [(event.kind, event.address) for event in events] == [(kind, None) for kind in kinds]
    assert last_action().address == "203.0.113.7"


def test_roles_are_given_and_taken_with_before_and_after_in_the_log(admin: AdminBrowser, bob: Person) -> None:
    press(admin, bob, "roles", roles="team, boss team")
    assert bob.get("/v1/accounts/me").json["roles"] == ["team", "boss"]
    press(admin, bob, "roles", roles="")
    assert bob.get("/v1/accounts/me").json["roles"] == []
    assert json.loads(last_action().before) == {"roles": ["team", "boss"]}
    assert json.loads(last_action().after) == {"roles": []}


def test_a_role_that_is_none_is_told_and_not_given(admin: AdminBrowser, bob: Person) -> None:
    answer = press(admin, bob, "roles", roles="team role:<x>")
    assert (answer.status_code, 'role="alert"' in answer.text) == (200, True)
    assert bob.get("/v1/accounts/me").json["roles"] == []


def test_one_session_ends_or_all(admin: AdminBrowser, app: Flask, bob: Person) -> None:
    other = Person(app.test_client())
    other.username = "bob"
    session = other.log_in("tablet")["session_id"]
    assert press(admin, bob, f"end {session}").status_code == 303
    assert other.get("/v1/notes").status_code == 401
    assert bob.get("/v1/notes").status_code == 200
    assert press(admin, bob, f"end {session}").status_code == 404
    assert press(admin, bob, "end").status_code == 303
    assert bob.get("/v1/notes").status_code == 401


def test_the_session_of_somebody_else_does_not_end_by_the_wrong_account(
    admin: AdminBrowser, ada: Person, bob: Person
) -> None:
    assert press(admin, bob, f"end {ada.tokens['session_id']}").status_code == 404
    assert ada.get("/v1/notes").status_code == 200


def test_a_second_factor_is_switched_off_for_who_has_lost_it(admin: AdminBrowser, bob: Person, phone: Phone) -> None:
    secret = bob.post("/v1/accounts/me/totp").json["secret"]
    bob.post("/v1/accounts/me/totp/confirmation", {"code": pyotp.TOTP(secret).now()})
    assert phone.post("/auth", {"username": "bob", "password": PASSWORD}).status_code == 401
    press(admin, bob, "factor")
    assert phone.post("/auth", {"username": "bob", "password": PASSWORD}).status_code == 200
    assert press(admin, bob, "factor").status_code == 404


@pytest.mark.parametrize(("button", "texts"), [("lock", {}), ("roles", {"roles": ""}), ("factor", {})])
def test_nobody_shuts_themselves_out(admin: AdminBrowser, ada: Person, button: str, texts: dict[str, str]) -> None:
    assert TEXTS["own_account"] in press(admin, ada, button, **texts).text.replace("&#39;", "'")
    assert admin.get("/admin").status_code == 200
    path = f"/admin/accounts/{ada.id}/delete"
    answer = admin.send(path, name="ada")
    assert TEXTS["own_account"] in answer.text
    assert Account.objects.get(id=ada.id).username == "ada"


def test_an_account_is_deleted_by_its_name_with_all_that_it_has(admin: AdminBrowser, bob: Person) -> None:
    bob.make_note()
    path = f"/admin/accounts/{bob.id}/delete"
    assert TEXTS["name_differs"] in admin.send(path, name="ada").text
    assert bob.get("/v1/notes").status_code == 200
    assert admin.send(path, name="bob").headers["Location"] == "/admin/accounts"
    assert bob.get("/v1/notes").status_code == 401
    assert Note.objects(owner=bob.id).count() == 0
    assert admin.get(f"/admin/accounts/{bob.id}").status_code == 404
    assert (last_action().action, last_action().target) == ("deleted", bob.id) or AdminAction.objects(
        action="deleted", target=bob.id
    )


@pytest.mark.parametrize("button", ["", "none", "promote"])
def test_a_button_that_is_none_does_nothing(admin: AdminBrowser, bob: Person, button: str) -> None:
    assert press(admin, bob, button).status_code == 404


@pytest.mark.parametrize("path", ["none", "none/delete"])
def test_an_account_that_is_not_there_is_told_so(admin: AdminBrowser, path: str) -> None:
    assert admin.get(f"/admin/accounts/{path}").status_code == 404


@pytest.mark.real
@pytest.mark.parametrize("act", ["roles", "lock", "delete"])
def test_of_admins_who_shut_each_other_out_at_once_one_stays(app: Flask, ada: Person, bob: Person, act: str) -> None:
    for _ in range(1 if act == "delete" else 5):
        Account._get_collection().update_many({}, {"$unset": {"locked_at": ""}})
        admins = [AdminBrowser.of(person, app) for person in (ada, bob)]
        asked = []
        for browser, other in zip(admins, (bob, ada), strict=True):
            path = f"/admin/accounts/{other.id}" + ("/delete" if act == "delete" else "")
            given = {"name": other.id} if act == "delete" else {"do": act, "roles": ""}
            body = {"csrf": browser.form(path)["csrf"], **given}
            asked.append(lambda browser=browser, path=path, body=body: browser.post(path, body))
        done = at_once(*asked)
        left = Account._get_collection().count_documents({"roles": "admin", **ALIVE, **NOT_LOCKED})
        assert (left, sorted(answer.status_code for answer in done)) in [(1, [303, 303]), (1, [303, 403])]
        assert AdminAction.objects(action={"roles": "changed", "lock": "locked", "delete": "deleted"}[act]).count() == 1
        AdminAction.objects.delete()
