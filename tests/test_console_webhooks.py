"""The webhooks in the console: what is called and how that goes, without a secret, and a call that is tried again."""

import pytest
from flask import Flask

from service.documents import AdminAction, Webhook
from service.outbox import items
from service.pages.console_texts import CONSOLE_TEXTS
from tests.admin_browser import AdminBrowser
from tests.client import Person
from tests.receiving import items_of, make_webhook, service, with_role
from tests.test_console_browser import ATTACK
from tests.test_console_outbox import OUTBOX, press, state_of

__all__ = ["service"]
pytestmark = pytest.mark.real
TEXTS = CONSOLE_TEXTS["en"]
PAGE = "/admin/webhooks"


@pytest.fixture
def root(service: Flask) -> Person:
    return with_role(service, "root")


@pytest.fixture
def admin(service: Flask, root: Person) -> AdminBrowser:
    return AdminBrowser.of(root, service)


def test_each_is_shown_with_what_it_is_called_about_and_why_it_is_off(admin: AdminBrowser, root: Person) -> None:
    made = make_webhook(
        root, "https://example.com/<script>window.x=1</script>", types=["notes"], where={"title": ATTACK}
    )
    make_webhook(root, "https://example.org/all")
    page = admin.get(PAGE).text
    assert "{&#34;title&#34;:" in page
    assert "https://example.org/all" in page
    assert "<script>window" not in page
    assert made["secret"] not in page
    assert TEXTS["webhook_off_gone"] not in page
    Webhook.objects(id=made["id"]).update(active=False, off_reason="gone")
    assert TEXTS["webhook_off_gone"] in admin.get(PAGE).text
    assert AdminAction.objects(action="listed", subject="webhooks").count() == 2


def test_a_call_that_has_failed_is_found_from_there_and_tried_again(admin: AdminBrowser, root: Person) -> None:
    made = make_webhook(root, "https://example.org/hook")
    root.post(f"/v1/admin/webhooks/{made['id']}/ping")
    (item,) = items_of(made)
    items.give_up(item, "500 from the server")
    link = f"{OUTBOX}?kind=webhook:{made['id']}"
    assert link in admin.get(PAGE).text
    assert "500 from the server" in admin.get(link).text
    assert press(admin, "repeat", item["_id"]).status_code == 303
    assert state_of(item["_id"]) == "waiting"


def test_who_is_no_admin_sees_none(service: Flask) -> None:
    bob = Person.sign_up(service.test_client(), "bob")
    assert bob.get(PAGE).status_code == 303
