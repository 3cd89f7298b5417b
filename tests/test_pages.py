"""The pages that links of mails lead to: nothing is done by looking, nothing by forms of others, no token stays."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.documents import Account, OneTimeCode
from service.pages.texts import PAGE_TEXTS
from settings.limits import LINK
from tests.client import PASSWORD, Person, Phone
from tests.mailbox import Mailbox
from tests.test_addresses import (
    ADDRESS,
    ME,
    NEW,
    RESET,
    asked,
    code_in,
    fresh_counters,
    log_in,
    one_mail,
    token_in,
    verified,
)

KOREAN = {"Accept-Language": "ko"}


__all__ = ["fresh_counters"]


@pytest.fixture
def mails(app: Flask) -> Mailbox:
    return Mailbox(app)


@pytest.fixture
def browser(app: Flask) -> FlaskClient:
    return app.test_client()


def csrf_in(page: TestResponse) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def followed(browser: FlaskClient, path: str, token: str) -> TestResponse:
    """The page that a link leads to."""
    answer = browser.get(f"{path}?token={token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, path)
    return browser.get(path)


@pytest.fixture
def verify_token(ada: Person, mails: Mailbox) -> str:
    ada.put(f"{ME}/email", {"email": ADDRESS})
    return token_in(one_mail(mails))


@pytest.fixture
def reset_token(ada: Person, mails: Mailbox, phone: Phone) -> str:
    verified(ada, mails)
    return token_in(asked(phone, RESET, mails))


# What they do


def test_a_button_verifies_the_address_and_leads_back_into_the_app(
    make_app: Any, ada: Person, verify_token: str
) -> None:
    browser = make_app(APP_LINK="myapp://home").test_client()
    page = followed(browser, "/account/verify", verify_token)
    assert ADDRESS in page.text
    assert "ada" in page.text
    answer = browser.post("/account/verify", data={"csrf": csrf_in(page)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/done")
    assert ada.get(ME).json["email_verified"] is True
    done = browser.get("/account/done")
    assert ADDRESS in done.text
    assert 'href="myapp://home"' in done.text
    assert PAGE_TEXTS["en"]["void_title"] in browser.get("/account/done").text


def test_a_form_sets_the_password(browser: FlaskClient, ada: Person, reset_token: str, phone: Phone) -> None:
    page = followed(browser, "/account/reset", reset_token)
    assert ADDRESS in page.text
    answer = browser.post("/account/reset", data={"csrf": csrf_in(page), "password": NEW})
    assert answer.status_code == 303
    assert PAGE_TEXTS["en"]["reset_done"] in browser.get("/account/done").text
    assert log_in(phone, "ada", NEW).status_code == 200
    assert ada.get(ME).status_code == 401


def test_a_code_can_be_typed_instead(browser: FlaskClient, ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    code = code_in(asked(phone, RESET, mails))
    csrf = csrf_in(browser.get("/account/reset"))
    form = {"csrf": csrf, "email": ADDRESS, "code": "WRONG234", "password": NEW}
    page = browser.post("/account/reset", data=form)
    assert PAGE_TEXTS["en"]["wrong"] in page.text
    assert f'value="{ADDRESS}"' in page.text
    assert browser.post("/account/reset", data={**form, "code": code}).status_code == 303
    assert log_in(phone, "ada", NEW).status_code == 200


@pytest.mark.parametrize(
    ("password", "told"),
    [
        *(
            ("short", "too_short"),
            ("x" * 129, "too_long"),
            ("password1", "too_common"),
            ("ada ada ada", "holds_username"),
        ),
        ("", "too_short"),
    ],
)
def test_a_password_that_will_not_do_is_told_and_the_link_stays_good(
    browser: FlaskClient, reset_token: str, password: str, told: str
) -> None:
    csrf = csrf_in(followed(browser, "/account/reset", reset_token))
    page = browser.post("/account/reset", data={"csrf": csrf, "password": password}, headers=KOREAN)
    assert PAGE_TEXTS["ko"][told] in page.text
    assert browser.post("/account/reset", data={"csrf": csrf, "password": NEW}).status_code == 303


def test_an_address_that_is_none_is_told(browser: FlaskClient) -> None:
    form = {"csrf": csrf_in(browser.get("/account/reset")), "email": "ada", "code": "x", "password": NEW}
    assert PAGE_TEXTS["en"]["no_address"] in browser.post("/account/reset", data=form).text


def test_an_address_that_was_taken_meanwhile_is_told(
    browser: FlaskClient, bob: Person, mails: Mailbox, verify_token: str
) -> None:
    page = followed(browser, "/account/verify", verify_token)
    verified(bob, mails)
    answer = browser.post("/account/verify", data={"csrf": csrf_in(page)})
    assert PAGE_TEXTS["en"]["taken"] in answer.text


def test_pages_speak_the_language_of_the_account_or_of_the_browser(
    browser: FlaskClient, ada: Person, verify_token: str
) -> None:
    assert '<html lang="en">' in browser.get("/account/reset").text
    assert '<html lang="ko">' in browser.get("/account/reset", headers=KOREAN).text
    ada.patch(ME, {"locale": "ko-KR"})
    assert PAGE_TEXTS["ko"]["verify_title"] in followed(browser, "/account/verify", verify_token).text


def test_every_language_says_the_same(app: Flask) -> None:
    assert PAGE_TEXTS["ko"].keys() == PAGE_TEXTS["en"].keys()
    for name, text in PAGE_TEXTS["en"].items():
        assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", PAGE_TEXTS["ko"][name])), name


# Attacks


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_program_that_looks_through_mails_spends_nothing(
    app: Flask, browser: FlaskClient, ada: Person, verify_token: str, method: str
) -> None:
    for _ in range(3):
        with app.test_client() as scanner:
            scanner.open(f"/account/verify?token={verify_token}", method=method)
            scanner.open("/account/verify", method=method)
    assert ada.get(ME).json["email_verified"] is False
    page = followed(browser, "/account/verify", verify_token)
    assert browser.post("/account/verify", data={"csrf": csrf_in(page)}).status_code == 303


@pytest.mark.parametrize("csrf", [None, "", "x", "é" * 20])
def test_a_form_of_another_page_does_nothing(
    browser: FlaskClient, ada: Person, reset_token: str, phone: Phone, csrf: str | None
) -> None:
    followed(browser, "/account/reset", reset_token)
    form = {"password": NEW} if csrf is None else {"password": NEW, "csrf": csrf}
    assert browser.post("/account/reset", data=form).status_code == 200
    assert log_in(phone, "ada").status_code == 200


def test_a_form_that_another_site_sends_does_nothing(
    browser: FlaskClient, ada: Person, reset_token: str, phone: Phone
) -> None:
    form = {"password": NEW, "csrf": csrf_in(followed(browser, "/account/reset", reset_token))}
    for site in ("cross-site", "same-site", "none"):
        assert browser.post("/account/reset", data=form, headers={"Sec-Fetch-Site": site}).status_code == 200
    assert log_in(phone, "ada").status_code == 200


def test_the_form_of_one_browser_is_nothing_in_another(
    app: Flask, browser: FlaskClient, ada: Person, reset_token: str, phone: Phone
) -> None:
    """An attacker has a form of their own, and has the victim's browser send it."""
    csrf = csrf_in(followed(browser, "/account/reset", reset_token))
    victim = app.test_client()
    followed(victim, "/account/reset", reset_token)
    victim.post("/account/reset", data={"password": NEW, "csrf": csrf})
    assert log_in(phone, "ada").status_code == 200


def test_a_cookie_that_is_not_ours_is_none(browser: FlaskClient, reset_token: str) -> None:
    followed(browser, "/account/reset", reset_token)
    cookie = browser.get_cookie("madang_account", path="/account")
    assert cookie is not None
    for value in ("", "x", cookie.value[:-1], "e30.aaaa.bbbb", "é"):
        browser.set_cookie("madang_account", value, path="/account")
        assert ADDRESS not in browser.get("/account/reset").text


def test_a_link_for_one_page_is_nothing_on_another(browser: FlaskClient, reset_token: str, ada: Person) -> None:
    assert PAGE_TEXTS["en"]["void_title"] in followed(browser, "/account/verify", reset_token).text
    assert PAGE_TEXTS["en"]["void_title"] in browser.post("/account/verify", data={"csrf": "x"}).text


def test_a_spent_link_says_so(browser: FlaskClient, reset_token: str) -> None:
    csrf = csrf_in(followed(browser, "/account/reset", reset_token))
    assert browser.post("/account/reset", data={"csrf": csrf, "password": NEW}).status_code == 303
    assert PAGE_TEXTS["en"]["void_title"] in followed(browser, "/account/reset", reset_token).text
    assert OneTimeCode._get_collection().find_one() is None


@pytest.mark.parametrize("path", ["/account/verify", "/account/reset"])
def test_no_token_stays_in_an_address_a_page_or_a_referrer(browser: FlaskClient, verify_token: str, path: str) -> None:
    answer = browser.get(f"{path}?token={verify_token}", headers={"Host": "evil.example.net"})
    assert answer.headers["Location"] == path
    assert verify_token not in answer.text
    assert "evil" not in answer.text + str(answer.headers)
    page = browser.get(path)
    assert verify_token not in page.text
    for shown in (answer, page):
        assert shown.headers["Referrer-Policy"] == "no-referrer"
        assert shown.headers["Cache-Control"] == "no-store"


def test_the_cookie_goes_to_the_pages_alone_and_no_script_reads_it(make_app: Any, verify_token: str) -> None:
    for base, secure in (("http://127.0.0.1:8000", False), ("https://api.example.com", True)):
        browser = make_app(PUBLIC_URL=base).test_client()
        set_cookie = browser.get(f"/account/verify?token={verify_token}").headers["Set-Cookie"]
        assert all(part in set_cookie for part in ("HttpOnly", "Path=/account", "SameSite=Lax", "Max-Age=900"))
        assert ("Secure" in set_cookie) is secure


@pytest.mark.parametrize("path", ["/account/verify", "/account/reset", "/account/done"])
def test_a_page_loads_and_sends_nothing_elsewhere(browser: FlaskClient, path: str) -> None:
    page = browser.get(path)
    policy = page.headers["Content-Security-Policy"]
    assert all(part in policy for part in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"))
    assert "script" not in page.text
    assert not re.search(r' style="| on\w+="|https?://', page.text)
    assert page.headers["X-Frame-Options"] == "DENY"


def test_what_people_call_themselves_is_text(app: Flask, browser: FlaskClient, ada: Person, verify_token: str) -> None:
    Account._get_collection().update_one({}, {"$set": {"username": "<b>{0.__class__}</b>"}})
    page = followed(browser, "/account/verify", verify_token)
    assert "&lt;b&gt;{0.__class__}&lt;/b&gt;" in page.text


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "//evil.example", "x"]
)
def test_a_link_into_the_app_is_no_script_and_has_a_scheme(link: str) -> None:
    assert not LINK.takes(link)


def test_nothing_of_a_request_leads_out_of_the_pages(browser: FlaskClient, verify_token: str) -> None:
    for name in ("next", "redirect", "return_to", "app_link"):
        assert browser.get(f"/account/done?{name}=https://evil.example").status_code == 400
        assert browser.post("/account/verify", data={name: "https://evil.example"}).status_code == 422


def test_guesses_of_codes_on_the_page_are_throttled(make_app: Any, ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    asked(phone, RESET, mails)
    browser = make_app(RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="3 per hour").test_client()
    form = {"csrf": csrf_in(browser.get("/account/reset")), "email": ADDRESS, "code": "WRONG234", "password": NEW}
    pages = [browser.post("/account/reset", data=form).text for _ in range(4)]
    assert [PAGE_TEXTS["en"]["wrong"] in page for page in pages] == [True] * 3 + [False]
    assert PAGE_TEXTS["en"]["busy"] in pages[-1]


def test_every_field_has_its_label_and_says_what_belongs_into_it(browser: FlaskClient, reset_token: str) -> None:
    by_code = browser.get("/account/reset").text
    by_link = followed(browser, "/account/reset", reset_token).text
    for page, names in (
        (by_code, ["username", "one-time-code", "new-password"]),
        (by_link, ["username", "new-password"]),
    ):
        assert re.findall(r'autocomplete="([\w-]+)"', page) == names
        for field in re.findall(r'<input id="(\w+)"', page):
            assert f'<label for="{field}">' in page


def test_a_password_is_in_no_page(browser: FlaskClient, reset_token: str) -> None:
    csrf = csrf_in(followed(browser, "/account/reset", reset_token))
    assert PASSWORD not in browser.post("/account/reset", data={"csrf": csrf, "password": f"{PASSWORD}" * 9}).text
