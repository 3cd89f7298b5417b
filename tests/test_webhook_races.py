"""Webhooks that are changed while they are changed, or called: nothing of either is undone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import Webhook
from service.mongo import transactions
from service.webhooks.keeping import Webhooks
from tests.client import Person
from tests.receiving import PATH, CallingWorker, Endpoint, endpoint, make_webhook, service, with_role
from tests.recording import Recording
from tests.types import REGISTRY

__all__ = ["endpoint", "service"]

pytestmark = pytest.mark.real


@pytest.fixture
def admin(service: Flask) -> Person:
    return with_role(service, "root")


@pytest.fixture
def overtaken(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    """A function that has another one set something of a webhook while a change of it is being checked, once."""
    check = Webhooks.check

    def overtake(by: dict[str, Any]) -> None:
        left = [by]

        def checked(webhooks: Webhooks, plan: Any) -> None:
            if left:
                transactions.outside(Webhook._get_collection().update_many, {}, {"$set": left.pop()})
            check(webhooks, plan)

        monkeypatch.setattr(Webhooks, "check", checked)

    return overtake


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}])
def test_of_two_changes_at_once_none_undoes_the_other(admin: Person, overtaken: Any, headers: dict[str, str]) -> None:
    made = make_webhook(admin, "https://example.com/leaked")
    overtaken({"url": "https://example.com/new"})
    changed = admin.patch(f"{PATH}/{made['id']}", {"types": ["notes"]}, headers=headers).json
    assert (changed["url"], changed["types"]) == ("https://example.com/new", ["notes"])


def test_a_change_does_not_switch_on_what_was_switched_off_meanwhile(admin: Person, overtaken: Any) -> None:
    made = make_webhook(admin, "https://example.com/hook")
    overtaken({"active": False, "off_reason": "gone", "off_at": now()})
    changed = admin.patch(f"{PATH}/{made['id']}", {"types": ["notes"]}).json
    assert (changed["active"], changed["off_reason"], changed["types"]) == (False, "gone", ["notes"])


def test_what_was_switched_on_during_a_call_that_fails_has_its_week(
    service: Flask, admin: Person, endpoint: Endpoint, recording: Recording
) -> None:
    caller = CallingWorker(service, REGISTRY, recording)
    caller.feed()
    made = make_webhook(admin, endpoint.url)
    Webhook._get_collection().update_one({}, {"$set": {"failing_since": now() - timedelta(days=8)}})

    def switched(_: Any) -> int:
        for active in (False, True):
            admin.patch(f"{PATH}/{made['id']}", {"active": active})
        return 500

    endpoint.answer = switched
    admin.make_note()
    caller.work()
    assert admin.get(f"{PATH}/{made['id']}").json["active"] is True
