"""The console signs admins in by rules of its own, and lets nobody else come near."""

import re
import time
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.core.clock import now
from service.documents import Account, AdminAction, Session
from service.identity.passwords import Hashing
from service.pages import console
from service.pages.console_texts import CONSOLE_TEXTS
from service.pages.console_visit import CONSOLE_COOKIE
from service.security import security
from tests.admin_browser import AdminBrowser, Form
from tests.client import PASSWORD, Person

TEXTS = CONSOLE_TEXTS["en"]
NEW = "three green boats"


@pytest.fixture
def admin(app: Flask, ada: Person) -> AdminBrowser:
    return AdminBrowser.of(ada, app)


@pytest.fixture
def stranger(app: Flask) -> AdminBrowser:
    return AdminBrowser(app.test_client())


def give_roles(person: Person, *roles: str) -> None:
    Account._get_collection().update_one({"_id": person.id}, {"$set": {"roles": list(roles)}})


def is_let_in(browser: AdminBrowser) -> bool:
    answer = browser.get("/admin")
    assert answer.status_code == 200 or answer.headers["Location"] == "/admin/sign-in"
    return answer.status_code == 200


def is_out_within_a_second(browser: AdminBrowser) -> bool:
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if not is_let_in(browser):
            return True
        time.sleep(0.05)
    return not is_let_in(browser)


# To sign in


def test_an_admin_signs_in_and_sees_the_types(admin: AdminBrowser) -> None:
    page = admin.get("/admin").text
    assert 'href="/admin/records/notes"' in page
    assert AdminAction.objects.first().action == "signed_in"


def test_the_right_password_without_the_role_does_not_let_in_and_leaves_no_session(
    stranger: AdminBrowser, bob: Person
) -> None:
    before = Session.objects.count()
    assert TEXTS["no_admin"] in stranger.sign_in("bob").text
    assert Session.objects.count() == before
    assert not is_let_in(stranger)


@pytest.mark.parametrize(("name", "password"), [("ada", "wrong one"), ("nobody", PASSWORD), ("", ""), ("a\0b", "\0")])
def test_a_wrong_name_and_a_wrong_password_are_told_alike(
    stranger: AdminBrowser, ada: Person, name: str, password: str
) -> None:
    give_roles(ada, "admin")
    assert TEXTS["wrong"] in stranger.sign_in(name, password).text
    assert not is_let_in(stranger)


def test_a_locked_admin_does_not_get_in(stranger: AdminBrowser, ada: Person) -> None:
    Account._get_collection().update_one({"_id": ada.id}, {"$set": {"roles": ["admin"], "locked_at": ada_time()}})
    assert TEXTS["locked"] in stranger.sign_in("ada").text


def ada_time() -> Any:
    return Account.objects.first().created_at


def test_guesses_are_throttled_as_those_of_a_login(make_app: Any, ada: Person) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="2 per hour")
    browser = AdminBrowser(app.test_client())
    for _ in range(2):
        assert TEXTS["wrong"] in browser.sign_in("ada", "no").text
    assert TEXTS["busy"] in browser.sign_in("ada").text
    login = app.test_client().post("/auth", json={"username": "ada", "password": PASSWORD})
    assert login.status_code == 429


def test_a_second_factor_is_asked_for(stranger: AdminBrowser, ada: Person) -> None:
    give_roles(ada, "admin")
    factor = pyotp.TOTP(ada.post("/v1/accounts/me/totp").json["secret"])
    codes = ada.post("/v1/accounts/me/totp/confirmation", {"code": factor.now()}).json["recovery_codes"]
    page = stranger.sign_in("ada")
    assert TEXTS["code"] in page.text
    assert not is_let_in(stranger)
    held = Form(stranger.sign_in("ada").text).texts
    assert TEXTS["wrong"] in stranger.post("/admin/sign-in", {**held, "code": "000000"}).text
    answer = stranger.post("/admin/sign-in", {**held, "code": codes[0]})
    assert answer.headers["Location"] == "/admin"
    assert is_let_in(stranger)


def test_who_came_to_a_page_is_led_back_to_it_and_nowhere_else(stranger: AdminBrowser, ada: Person) -> None:
    give_roles(ada, "admin")
    assert stranger.get("/admin/records/notes").headers["Location"] == "/admin/sign-in"
    assert stranger.sign_in("ada").headers["Location"] == "/admin/records/notes"
    for path in ("/admin//evil.example.com", "/admin/sign-in?back=https://evil.example.com"):
        fresh = AdminBrowser(stranger.client.application.test_client())
        fresh.get(path)
        assert fresh.sign_in("ada").headers["Location"] == "/admin"


# The cookie


def test_the_cookie_is_strict_short_and_for_the_console_alone(make_app: Any, ada: Person) -> None:
    for base, secure in (("http://127.0.0.1:8000", False), ("https://api.example.com", True)):
        browser = AdminBrowser(make_app(PUBLIC_URL=base).test_client())
        set_cookie = browser.get("/admin/sign-in").headers["Set-Cookie"]
        assert ("Secure" in set_cookie) is secure
        for part in ("HttpOnly", "SameSite=Strict", "Path=/admin", "Max-Age=1800"):
            assert part in set_cookie


def test_what_was_in_the_cookie_before_is_gone_after_a_sign_in(stranger: AdminBrowser, ada: Person) -> None:
    give_roles(ada, "admin")
    before = stranger.form("/admin/sign-in")["csrf"]
    planted = stranger.client.get_cookie("madang_admin", path="/admin").value
    stranger.sign_in("ada")
    assert stranger.client.get_cookie("madang_admin", path="/admin").value != planted
    assert Form(stranger.get("/admin").text, "/admin/sign-out").texts.get("csrf") != before
    victim = AdminBrowser(stranger.client.application.test_client())
    victim.client.set_cookie("madang_admin", planted, path="/admin")
    assert not is_let_in(victim)


@pytest.mark.parametrize("value", ["", "x", "e30.aaaa.bbbb", "é"])
def test_a_cookie_that_is_not_ours_lets_nobody_in(stranger: AdminBrowser, value: str) -> None:
    stranger.client.set_cookie("madang_admin", value, path="/admin")
    assert not is_let_in(stranger)


def test_the_cookie_of_links_in_mails_is_none_of_the_console(admin: AdminBrowser, stranger: AdminBrowser) -> None:
    value = admin.client.get_cookie("madang_admin", path="/admin").value
    stranger.client.set_cookie("madang_account", value, path="/account")
    assert stranger.get("/account/done").status_code == 200
    assert not is_let_in(stranger)


def test_a_token_of_the_api_opens_no_page_and_the_cookie_no_route(admin: AdminBrowser, ada: Person) -> None:
    assert ada.client.get("/admin", headers=ada.headers).status_code == 303
    assert admin.get("/v1/notes").status_code == 401


# The end of a visit


def test_a_sign_out_ends_the_session_and_not_the_cookie_alone(admin: AdminBrowser, app: Flask) -> None:
    value = admin.client.get_cookie("madang_admin", path="/admin").value
    answer = admin.send("/admin", "/admin/sign-out", "/admin/sign-out", csrf=csrf_of(admin))
    assert answer.headers["Location"] == "/admin/sign-in"
    copied = AdminBrowser(app.test_client())
    copied.client.set_cookie("madang_admin", value, path="/admin")
    assert not is_let_in(copied)


def csrf_of(browser: AdminBrowser) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', browser.get("/admin").text)
    assert found
    return found[1]


def test_who_loses_the_role_is_out_within_a_second(admin: AdminBrowser, ada: Person) -> None:
    assert is_let_in(admin)
    give_roles(ada, "team")
    assert is_out_within_a_second(admin)


def test_a_change_of_the_password_ends_it(admin: AdminBrowser, ada: Person) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert ada.put("/v1/accounts/me/password", body).status_code == 204
    assert is_out_within_a_second(admin)


def test_a_logout_everywhere_on_the_phone_ends_it(admin: AdminBrowser, ada: Person) -> None:
    ada.post("/auth/logout", {"everywhere": True})
    assert is_out_within_a_second(admin)


def test_the_session_stands_in_the_list_of_the_account_and_ends_with_its_time(
    admin: AdminBrowser, ada: Person, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    (session,) = (one for one in ada.get("/v1/accounts/me/sessions").json["items"] if one["device"] == "Admin console")
    stored = Session.objects.get(id=session["id"])
    assert (stored.expires_at - stored.last_used_at).total_seconds() == 1800
    held = time.time()
    monkeypatch.setattr("service.pages.console_visit.time.time", lambda: held + 13 * 3600)
    assert not is_let_in(admin)


def test_the_end_moves_on_with_use(admin: AdminBrowser, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Set-Cookie" not in admin.get("/admin").headers
    held = time.time()
    monkeypatch.setattr("service.pages.console_visit.time.time", lambda: held + 120)
    assert "Set-Cookie" in admin.get("/admin").headers


# Forms of others


def routes_by_post() -> list[str]:
    return [path for method, path, _ in console.CONSOLE_ROUTES if method == "POST"]


@pytest.mark.parametrize("path", routes_by_post())
def test_a_form_of_another_page_does_nothing(admin: AdminBrowser, path: str) -> None:
    before = AdminAction.objects.count(), Account.objects.count()
    path = path.replace("<name>", "notes").replace("<id>", "x").replace("<state>", "failed")
    for sent, headers in (
        ({"csrf": ""}, {}),
        ({"csrf": "guessed"}, {}),
        ({"csrf": csrf_of(admin)}, {"Sec-Fetch-Site": "cross-site"}),
        ({"csrf": csrf_of(admin)}, {"Sec-Fetch-Site": "same-site"}),
    ):
        answer = admin.post(path, sent, headers=headers)
        assert answer.status_code == 400 or path in ("/admin/sign-in", "/admin/first"), answer.text
        assert (AdminAction.objects.count(), Account.objects.count()) == before
    assert is_let_in(admin)


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in console.CONSOLE_ROUTES])
def test_no_page_is_framed_kept_or_loads_from_elsewhere(admin: AdminBrowser, method: str, path: str) -> None:
    answer = admin.client.open(path.replace("<name>", "notes").replace("<id>", "x"), method=method)
    if path.endswith((".css", ".js", ".svg")):
        return
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(
        r"<script(?! src=\"/admin/htmx\.js\" defer>)|\son\w+=|style=|(src|href)=\"https?:", answer.text
    )


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in console.CONSOLE_ROUTES])
def test_a_stranger_sees_nothing_behind_the_sign_in(stranger: AdminBrowser, method: str, path: str) -> None:
    open_to_all = ("/admin/sign-in", "/admin/first", "/admin/style.css", "/admin/htmx.js", "/admin/land.svg")
    answer = stranger.client.open(path.replace("<name>", "notes").replace("<id>", "x"), method=method)
    if path not in open_to_all:
        assert (answer.status_code, answer.headers["Location"]) == (303, "/admin/sign-in")


# The first admin


@pytest.fixture
def first_token(app: Flask) -> str:
    with app.app_context():
        return security().first_admin.token()


def followed(browser: AdminBrowser, token: str) -> dict[str, str]:
    answer = browser.get(f"/admin/first?token={token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/admin/first")
    return browser.form("/admin/first")


def test_the_link_of_the_first_start_makes_an_admin_once(stranger: AdminBrowser, app: Flask, first_token: str) -> None:
    form = followed(stranger, first_token)
    assert TEXTS["cause_too_short"] in stranger.post("/admin/first", {**form, "username": "mina", "password": "x"}).text
    answer = stranger.post("/admin/first", {**form, "username": "mina", "password": NEW})
    assert answer.headers["Location"] == "/admin"
    assert is_let_in(stranger)
    assert Account.objects.get(username="mina").roles == ["admin"]
    Account.objects.update(roles=[])
    again = AdminBrowser(app.test_client())
    form = followed(again, first_token)
    assert TEXTS["void_title"] in again.post("/admin/first", {**form, "username": "eve", "password": NEW}).text
    assert Account.objects(username="eve").count() == 0


def test_a_name_that_is_taken_leaves_the_link_good(stranger: AdminBrowser, ada: Person, first_token: str) -> None:
    form = followed(stranger, first_token)
    sent = {**form, "username": "ADA", "password": NEW}
    assert TEXTS["cause_not_unique"] in stranger.post("/admin/first", sent).text
    assert stranger.post("/admin/first", {**sent, "username": "mina"}).headers["Location"] == "/admin"


@pytest.mark.parametrize("token", ["x", "", "é", "A" * 5000])
def test_a_link_that_is_none_makes_nobody(stranger: AdminBrowser, token: str) -> None:
    stranger.get("/admin/first", query_string={"token": token})
    page = stranger.get("/admin/first").text
    assert TEXTS["void_title"] in page
    assert Form(page).texts == {}
    assert Account.objects.count() == 0


def test_a_link_that_is_none_costs_no_look_at_accounts_and_no_hash(
    stranger: AdminBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[str] = []
    for name in ("service.pages.console_sign_in", "service.identity.first_admin"):
        monkeypatch.setattr(f"{name}.is_without_admin", lambda: bool(work.append("accounts")) or True)
    monkeypatch.setattr(Hashing, "hash", lambda *_: work.append("hash"))
    form = followed_to_nowhere(stranger)
    assert TEXTS["void_title"] in stranger.get("/admin/first").text
    answer = stranger.post("/admin/first", {**form, "username": "eve", "password": NEW})
    assert TEXTS["void_title"] in answer.text
    assert work == []


def followed_to_nowhere(browser: AdminBrowser) -> dict[str, str]:
    """Follow a link that is none of ours, and return the secret that its form would have had."""
    browser.get(f"/admin/first?token={'A' * 96}")
    with browser.client.application.test_request_context():
        cookie = browser.client.get_cookie("madang_admin", path="/admin")
        return {"csrf": CONSOLE_COOKIE.signer().loads(cookie.value)["csrf"]}


def test_a_link_of_more_than_an_hour_ago_makes_nobody(
    stranger: AdminBrowser, first_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = followed(stranger, first_token)
    later = now() + timedelta(minutes=61)
    monkeypatch.setattr("service.identity.challenges.now", lambda: later)
    assert TEXTS["void_title"] in stranger.get("/admin/first").text
    sent = {**form, "username": "eve", "password": NEW}
    assert TEXTS["void_title"] in stranger.post("/admin/first", sent).text
    assert Account.objects.count() == 0


def test_where_there_is_an_admin_no_link_makes_another(
    stranger: AdminBrowser, admin: AdminBrowser, first_token: str
) -> None:
    stranger.get(f"/admin/first?token={first_token}")
    assert TEXTS["void_title"] in stranger.get("/admin/first").text


# What it looks like


def test_both_languages_say_the_same_things() -> None:
    assert CONSOLE_TEXTS["en"].keys() == CONSOLE_TEXTS["ko"].keys()
    assert all(text for texts in CONSOLE_TEXTS.values() for text in texts.values())


def test_the_console_speaks_the_language_of_the_account(admin: AdminBrowser, ada: Person) -> None:
    ada.patch("/v1/accounts/me", {"locale": "ko-KR"})
    assert '<html lang="ko">' in admin.get("/admin").text


def test_no_page_of_the_console_stands_in_the_api_document(client: FlaskClient) -> None:
    assert not [path for path in client.get("/openapi.json").json["paths"] if path.startswith("/admin")]
