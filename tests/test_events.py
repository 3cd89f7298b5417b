"""Security events: what happened to an account, from where and on which device, for its owner to read."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from service.core.clock import now
from service.core.ids import new_id
from service.documents import Account, Event
from service.upkeep import indexes
from tests.client import PASSWORD, Person, Phone

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
EVENTS = f"{ME}/events"


def events(person: Phone) -> list[dict[str, Any]]:
    answer = person.get(EVENTS)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json["items"]
    return found


def kinds(person: Phone) -> list[str]:
    return [event["kind"] for event in events(person)]


def refresh(person: Person, token: str) -> str:
    return str(person.post("/auth/refresh", {"refresh_token": token}).json.get("refresh_token"))


def reuse(person: Person) -> None:
    old = person.tokens["refresh_token"]
    refresh(person, refresh(person, old))
    refresh(person, old)


def change_password(person: Person, current: str = PASSWORD) -> None:
    body = {"current_password": current, "new_password": "another long pass phrase"}
    person.put(f"{ME}/password", body)


def command(person: Person, *words: str) -> None:
    assert person.client.application.test_cli_runner().invoke(args=["accounts", *words]).exit_code == 0


WHAT_HAPPENS: dict[str, Callable[[Person], Any]] = {
    "login": lambda ada: ada.log_in(),
    "login_failed": lambda ada: ada.post("/auth", {"username": "ada", "password": "wrong"}),
    "refresh_reused": reuse,
    "logout": lambda ada: ada.post("/auth/logout"),
    "logout_everywhere": lambda ada: ada.post("/auth/logout", {"everywhere": True}),
    "session_ended": lambda ada: ada.delete(f"{ME}/sessions/{ada.tokens['session_id']}"),
    "password_changed": change_password,
}


def test_a_new_account_has_a_sign_up_and_a_login(ada: Person) -> None:
    assert kinds(ada) == ["login", "sign_up"]


@pytest.mark.parametrize("kind", WHAT_HAPPENS)
def test_what_happens_is_recorded_with_its_time_and_address(ada: Person, kind: str) -> None:
    started = now()
    WHAT_HAPPENS[kind](ada)
    event = Event.objects.order_by("-time", "-id").first()
    assert (event.account, event.kind, event.address) == (ada.id, kind, "127.0.0.1")
    assert event.time >= started


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (("roles", "ada", "team"), "roles_changed"),
        (("lock", "ada"), "locked"),
        (("unlock", "ada"), "unlocked"),
        (("revoke", "ada"), "session_ended"),
    ],
)
def test_what_the_operator_does_is_recorded_without_an_address(ada: Person, words: Any, kind: str) -> None:
    command(ada, *words)
    event = Event.objects.order_by("-time", "-id").first()
    assert (event.kind, event.account, event.address) == (kind, ada.id, None)


def test_an_event_shows_nothing_more(ada: Person) -> None:
    assert events(ada)[0].keys() == {"id", "time", "kind", "address", "device"}


@pytest.mark.parametrize("kind", ["login", "refresh_reused"])
def test_an_event_names_the_device(ada: Person, kind: str) -> None:
    ada.log_in("a phone")
    WHAT_HAPPENS[kind](ada) if kind != "login" else None
    assert Event.objects(kind=kind).order_by("-time", "-id").first().device == "a phone"


@pytest.mark.parametrize("kind", ["logout", "session_ended", "password_changed"])
def test_the_end_of_a_session_names_its_device(ada: Person, kind: str) -> None:
    ada.log_in("a phone")
    WHAT_HAPPENS[kind](ada)
    assert Event.objects.get(kind=kind).device == "a phone"


def test_a_failed_login_names_the_device_that_tried(ada: Person) -> None:
    ada.post("/auth", {"username": "ada", "password": "wrong", "device": "a stranger's phone"})
    assert Event.objects.get(kind="login_failed").device == "a stranger's phone"


def test_a_wrong_current_password_is_a_failure(ada: Person) -> None:
    change_password(ada, "wrong")
    assert kinds(ada)[0] == "login_failed"


@pytest.mark.real
def test_a_wrong_current_password_under_an_idempotency_key_is_one_too(ada: Person) -> None:
    body = {"current_password": "wrong", "new_password": "another long pass phrase"}
    ada.put(f"{ME}/password", body, headers={"Idempotency-Key": "k"})
    assert kinds(ada)[0] == "login_failed"


def test_a_failure_on_a_name_that_is_not_there_is_nobodys(ada: Person) -> None:
    ada.post("/auth", {"username": "nobody", "password": "wrong"})
    assert Event.objects.get(kind="login_failed").account == ""
    assert "login_failed" not in kinds(ada)


def test_a_rotation_is_no_event(ada: Person) -> None:
    refresh(ada, ada.tokens["refresh_token"])
    assert kinds(ada) == ["login", "sign_up"]


def test_nobody_reads_the_events_of_others(ada: Person, bob: Person) -> None:
    ada.post("/auth", {"username": "bob", "password": "wrong"})
    assert (kinds(ada), kinds(bob)) == (["login", "sign_up"], ["login_failed", "login", "sign_up"])


def test_the_newest_come_first_and_at_most_200(ada: Person) -> None:
    day = timedelta(days=1)
    rows = [{"_id": new_id(), "account": ada.id, "time": now() - day * number, "kind": "x"} for number in range(1, 210)]
    Event._get_collection().insert_many({**row, "expires_at": now() + day} for row in rows)
    times = [event["time"] for event in events(ada)]
    assert (len(times), times) == (200, sorted(times, reverse=True))
    assert kinds(ada)[:3] == ["login", "sign_up", "x"]


def test_events_go_after_90_days() -> None:
    assert any(model.document.get("expireAfterSeconds") == 0 for model in indexes.declared(Event))
    assert Event.expires_at.required


def test_an_event_is_kept_for_90_days(ada: Person) -> None:
    event = Event.objects.first()
    assert event.expires_at - event.time == timedelta(days=90)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nobody_changes_what_happened(ada: Person, method: str) -> None:
    assert ada.send(method, EVENTS, {}).status_code == 405
    assert Account.objects.count() == 1


def test_the_events_follow_the_address_behind_a_proxy(make_app: MakeApp, ada: Person) -> None:
    phone = Phone(make_app(TRUSTED_PROXIES=1).test_client(), {"X-Forwarded-For": "203.0.113.5"})
    phone.post("/auth", {"username": "ada", "password": PASSWORD})
    assert events(ada)[0]["address"] == "203.0.113.5"
