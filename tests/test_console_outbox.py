"""The outbox, the log and the settings in the console: what failed is sent after all, and no secret is on a page."""

import json
from typing import Any

import pytest
from flask import Flask

from service.documents import AdminAction, Note, OutboxItem
from service.outbox import items
from service.outbox.items import NewItem
from service.outbox.jobs import JOB
from service.pages.console_texts import CONSOLE_TEXTS
from tests.admin_browser import AdminBrowser
from tests.client import PASSWORD, Person, make_verified
from tests.mailbox import Mailbox
from tests.test_console_browser import ATTACK

TEXTS = CONSOLE_TEXTS["en"]
NEW = "three green boats"
OUTBOX = "/admin/outbox"


@pytest.fixture
def admin(app: Flask, ada: Person) -> AdminBrowser:
    return AdminBrowser.of(ada, app)


@pytest.fixture
def failed(bob: Person) -> str:
    """The id of a mail to Bob that a server has refused."""
    make_verified(bob, "bob@example.org")
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert bob.put("/v1/accounts/me/password", body).status_code == 204
    item = OutboxItem._get_collection().find_one({"kind": "mail"})
    items.give_up(item, "550 no such mailbox")
    return str(item["_id"])


def press(admin: AdminBrowser, verb: str, id: str) -> Any:
    return admin.post(OUTBOX, {"csrf": csrf(admin), "do": f"{verb} {id}"})


def csrf(admin: AdminBrowser) -> str:
    return admin.get("/admin").text.partition('name="csrf" value="')[2].partition('"')[0]


def state_of(id: str) -> str | None:
    found = OutboxItem._get_collection().find_one({"_id": id})
    return None if found is None else str(found["state"])


def test_a_mail_that_failed_is_seen_and_sent_when_it_is_repeated(
    app: Flask, admin: AdminBrowser, bob: Person, failed: str
) -> None:
    page = admin.get(OUTBOX).text
    assert "550 no such mailbox" in page
    assert "bob@example.org" in page
    assert press(admin, "repeat", failed).status_code == 303
    assert [mail.to for mail in Mailbox(app).collect()] == ["bob@example.org"]
    assert state_of(failed) == "sent"
    action = AdminAction.objects(action="repeat").get()
    assert (action.target, action.owner) == (failed, bob.id)
    assert "bob@example.org" in action.before


def test_what_is_dropped_is_gone_and_what_is_cancelled_is_not_sent(
    app: Flask, admin: AdminBrowser, failed: str
) -> None:
    press(admin, "repeat", failed)
    assert press(admin, "cancel", failed).status_code == 303
    assert state_of(failed) == "failed"
    assert Mailbox(app).collect() == []
    assert press(admin, "drop", failed).status_code == 303
    assert state_of(failed) is None


@pytest.mark.parametrize("verb", ["repeat", "cancel", "drop"])
def test_what_is_not_there_any_more_is_told(admin: AdminBrowser, verb: str) -> None:
    assert TEXTS["not_done"] in press(admin, verb, "none").text
    assert AdminAction.objects(action=verb).count() == 0


def test_a_button_that_is_none_does_nothing(admin: AdminBrowser, failed: str) -> None:
    assert press(admin, "send", failed).status_code == 404
    assert state_of(failed) == "failed"


def test_a_code_is_on_no_page_and_a_mail_with_one_is_not_repeated(admin: AdminBrowser, bob: Person, app: Flask) -> None:
    bob.put("/v1/accounts/me/email", {"email": "bob@example.org"})
    item = OutboxItem._get_collection().find_one({"kind": "mail"})
    code = Mailbox(app).collect()[0].text
    assert "sealed" in item
    page = admin.get(OUTBOX, query_string={"state": "sent"}).text
    assert "bob@example.org" in page
    assert not [word for word in code.split() if len(word) == 8 and word.isupper() and word in page]
    items_again = press(admin, "repeat", item["_id"])
    assert TEXTS["not_done"] in items_again.text


def test_what_a_job_is_handed_is_not_shown(admin: AdminBrowser) -> None:
    content = {"name": "weekly", "key": ATTACK, "arguments": {"token": "precious"}}
    items.add_item(NewItem(JOB, content), "job-1", None)
    page = admin.get(OUTBOX, query_string={"kind": JOB}).text
    assert "weekly" in page
    assert "precious" not in page
    assert "<script>window" not in page


# The log


def test_the_log_goes_back_page_by_page_and_is_narrowed_to_one_admin(
    app: Flask, admin: AdminBrowser, ada: Person, bob: Person
) -> None:
    other = AdminBrowser.of(bob, app)
    other.get("/admin/records/notes")
    for _ in range(60):
        admin.get("/admin/records/groups")
    first = admin.get("/admin/log").text
    assert first.count("<tr><td>") == 50
    following = first.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert admin.get(following).text.count("<tr><td>") == 13
    page = admin.get("/admin/log", query_string={"admin": bob.id}).text
    assert page.count("<tr><td>") == 2
    assert "groups" not in page


def test_what_was_changed_stands_in_the_log_with_before_and_after(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note(title="was")["id"]
    admin.send(f"/admin/records/notes/{note}/edit", **{"/title": "is"})
    page = admin.get("/admin/log").text
    assert "was" in page
    assert json.loads(AdminAction.objects(action="changed").get().after)["title"] == "is"


# The settings


def test_no_secret_is_on_the_page_of_settings(make_app: Any, ada: Person) -> None:
    secrets = {
        "SECRET_KEY": "precious-secret-of-ours-0123456789abcdef",
        "JWT_SECRET_KEY": "precious-key-of-tokens-0123456789abcdef",
        "MAIL_URL": "smtp://user:precious-password@mail.example.com",
        "MAIL_FROM": "app@example.com",
        "PUBLIC_URL": "https://api.example.com",
        "PROVIDERS": {},
    }
    app = make_app(**secrets)
    app.config["LATER_SETTING"] = "precious-later"
    app.extensions["madang.settings"] |= {"LATER_SETTING"}
    page = AdminBrowser.of(ada, app).get("/admin/settings").text
    assert "precious" not in page
    assert "mongodb://" not in page
    for shown in ("https://api.example.com", "RATELIMIT_SIGN_UPS", "per hour", "LATER_SETTING"):
        assert shown in page


def test_the_page_of_indexes_says_what_they_lack(admin: AdminBrowser) -> None:
    assert TEXTS["indexes_unused"] not in admin.get("/admin/indexes").text
    Note._get_collection().create_index("body", name="of_somebody")
    page = admin.get("/admin/indexes").text
    Note._get_collection().drop_index("of_somebody")
    assert f"{TEXTS['indexes_unused']}: <code>notes.of_somebody</code>" in page
    assert "flask indexes drop" in page
