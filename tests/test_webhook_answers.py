"""What a webhook answers, and what becomes of it: tried again, left alone for as long as it asks, switched off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from flask import Flask

from service.documents import Account
from service.outbox import items
from service.webhooks import keeping
from tests.client import Person
from tests.mailbox import Mailbox
from tests.receiving import OWN, PATH, CallingWorker, Endpoint, items_of, make_webhook, with_role
from tests.recording import Recording
from tests.types import REGISTRY

pytestmark = pytest.mark.real


@pytest.fixture
def service(make_app: Callable[..., Flask]) -> Flask:
    return make_app(**OWN)


@pytest.fixture
def admin(service: Flask) -> Person:
    return with_role(service, "root")


@pytest.fixture
def bob(service: Flask) -> Person:
    """Somebody who writes notes."""
    return Person.sign_up(service.test_client(), "bob")


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    yield found
    found.close()


@pytest.fixture
def caller(service: Flask, recording: Recording) -> CallingWorker:
    found = CallingWorker(service, REGISTRY, recording)
    found.feed()
    return found


# What fails


@pytest.fixture
def mails(service: Flask) -> Mailbox:
    return Mailbox(service)


@pytest.fixture
def reached(admin: Person) -> str:
    """The address of the owner."""
    address = {"email": "root@example.org", "email_key": "root@example.org", "email_verified": True}
    Account._get_collection().update_one({"_id": admin.id}, {"$set": address})
    return "root@example.org"


def test_gone_switches_off_at_once_and_tells_the_owner(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, mails: Mailbox, reached: str
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.answer = lambda _: 410
    bob.make_note()
    bob.make_note()
    caller.work()
    shown = admin.get(f"{PATH}/{made['id']}").json
    assert (shown["active"], shown["off_reason"], len(endpoint.came)) == (False, "gone", 1)
    assert shown["off_at"] is not None
    (mail,) = mails.collect()
    assert mail.to == reached
    assert made["id"] in mail.text
    assert "410" in mail.text
    endpoint.answer = lambda _: 204
    on = admin.patch(f"{PATH}/{made['id']}", {"active": True}).json
    assert (on["active"], on["off_reason"], on["off_at"], on["failing_since"]) == (True, None, None, None)


class Clock:
    """Time that a test lets pass, of the service and of MongoDB alike."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        for module in ("service.outbox.items", "service.outbox.dispatch", "service.webhooks.sending"):
            patch.setattr(f"{module}.now", lambda: keeping_now() + self.ahead)
        patch.setattr("service.webhooks.keeping.now", lambda: keeping_now() + self.ahead)
        asked = items.connection.server_time
        patch.setattr(items.connection, "server_time", lambda: asked() + self.ahead)


keeping_now = keeping.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_message_is_tried_for_three_days_less_and_less_often(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, clock: Clock
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.answer = lambda _: 500
    bob.make_note()
    caller.work()
    waits, passed = [], timedelta()
    while (item := items_of(made)[0])["state"] == "waiting":
        wait = item["due_at"] - items.connection.server_time()
        waits.append(wait.total_seconds())
        clock.ahead += wait + timedelta(milliseconds=50)
        passed = clock.ahead
        caller.call()
    assert item["state"] == "failed"
    assert item["reason"] == "500 Internal Server Error"
    assert timedelta(days=3) <= passed <= timedelta(days=3, hours=6, minutes=1)
    assert 15 <= len(endpoint.came) <= 35
    assert len(endpoint.came) == item["tries"]
    doubled = [min(5.0 * 2**number, 21_600.0) for number in range(len(waits))]
    assert all(most / 2 - 1 <= wait <= most + 1 for wait, most in zip(waits, doubled, strict=True))
    assert len({round(wait / most, 3) for wait, most in zip(waits, doubled, strict=True)}) > 3


def test_a_week_without_a_call_that_is_taken_switches_off(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, clock: Clock, mails: Mailbox, reached: str
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.answer = lambda _: 503
    for day in range(7):
        clock.ahead = timedelta(days=day)
        bob.make_note(id=f"day-{day}")
        caller.work()
        assert admin.get(f"{PATH}/{made['id']}").json["active"]
    assert mails.collect() == []
    clock.ahead = timedelta(days=7, minutes=1)
    bob.make_note(id="last")
    caller.work()
    shown = admin.get(f"{PATH}/{made['id']}").json
    assert (shown["active"], shown["off_reason"]) == (False, "failing")
    (mail,) = mails.collect()
    assert (mail.to, "for a week" in mail.text) == (reached, True)


def test_a_call_that_is_taken_begins_the_week_anew(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, clock: Clock
) -> None:
    made = make_webhook(admin, endpoint.url)
    answers = iter([503, 204, 503])
    endpoint.answer = lambda _: next(answers, 503)
    bob.make_note()
    caller.work()
    assert admin.get(f"{PATH}/{made['id']}").json["failing_since"] is not None
    clock.ahead = timedelta(days=2)
    bob.make_note()
    caller.call()
    assert admin.get(f"{PATH}/{made['id']}").json["failing_since"] is None
    clock.ahead = timedelta(days=8)
    caller.work()
    assert admin.get(f"{PATH}/{made['id']}").json["active"]


def test_where_the_owner_has_gone_all_who_may_change_it_are_told(
    service: Flask, admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, mails: Mailbox, reached: str
) -> None:
    other = with_role(service, "other")
    made = make_webhook(other, endpoint.url)
    assert other.delete("/v1/accounts/me").status_code == 204
    assert admin.get(f"{PATH}/{made['id']}").json["owner"] is None
    endpoint.answer = lambda _: 410
    bob.make_note()
    caller.work()
    assert [mail.to for mail in mails.collect()] == [reached]


# A server that asks for time


def asked_for(seconds: float) -> str:
    """A `Retry-After` that is a date."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("status", "asked", "least", "most"),
    [
        (503, lambda: "600", 570, 600),
        (429, lambda: asked_for(600), 570, 600),
        # Nobody has it wait for longer than a worker would by itself.
        (503, lambda: "999999999", 21_570, 21_600),
        (503, lambda: "9" * 30, 21_570, 21_600),
    ],
)
def test_a_server_that_asks_for_time_is_left_alone_by_all_workers(
    service: Flask,
    admin: Person,
    bob: Person,
    endpoint: Endpoint,
    caller: CallingWorker,
    clock: Clock,
    status: int,
    asked: Callable[[], str],
    least: float,
    most: float,
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.answer, endpoint.headers = lambda _: status, {"Retry-After": asked()}
    for id in ("a", "b"):
        bob.make_note(id=id)
    caller.work()
    assert len(endpoint.came) == 1
    rests_until = datetime.fromisoformat(admin.get(f"{PATH}/{made['id']}").json["rests_until"])
    assert least <= rests_until.timestamp() - time.time() <= most
    endpoint.answer = lambda _: 204
    caller.dispatchers.clear()  # another worker
    clock.ahead = timedelta(seconds=least - 30)
    caller.call()
    assert len(endpoint.came) == 1
    clock.ahead = timedelta(seconds=most * 1.1 + 60)
    caller.call()
    assert sorted(came.data["id"] for came in endpoint.came[1:]) == ["a", "b"]


def test_one_message_that_is_asked_to_wait_keeps_no_other_one_waiting(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, clock: Clock
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.answer = lambda came: 500 if came.data["id"] == "a" else 204
    endpoint.headers = {"Retry-After": "600"}
    for id in ("a", "b"):
        bob.make_note(id=id)
    caller.work()
    assert {came.data["id"] for came in endpoint.came} == {"a", "b"}
    assert admin.get(f"{PATH}/{made['id']}").json["rests_until"] is None
    due_at = min(item["due_at"] for item in items_of(made) if item["state"] == "waiting")
    assert 570 < (due_at - items.connection.server_time()).total_seconds() <= 600


@pytest.mark.parametrize(
    "asked",
    [
        *("soon", "-5", "Mon, 99 Foo", "9" * 41, ""),
        *("Mon, 01 Jan 99999999999 00:00:00 GMT", "Mon, 01 Jan 2030 99999999999:00:00 GMT"),
    ],
)
def test_what_is_no_time_is_passed_over(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, asked: str
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.answer, endpoint.headers = lambda _: 503, {"Retry-After": asked}
    bob.make_note()
    caller.work()
    assert admin.get(f"{PATH}/{made['id']}").json["rests_until"] is None
    # An answer as any other with this status, and no mistake of ours.
    assert next(iter(caller.dispatchers.values())).trouble == "503 Service Unavailable"


def test_a_webhook_that_is_switched_on_again_is_called_at_once(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.answer, endpoint.headers = lambda _: 503, {"Retry-After": "600"}
    bob.make_note()
    caller.work()
    admin.patch(f"{PATH}/{made['id']}", {"active": False})
    assert admin.patch(f"{PATH}/{made['id']}", {"active": True}).json["rests_until"] is None
