"""Notifications: a device registers, and what ends that; who is sent what, and by whom."""

import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask

from service import push
from service.core.base64url import encode_base64url
from service.core.clock import now
from service.documents import Account, OutboxItem, Session
from service.mongo import transactions
from service.outbox import items
from service.outbox.dispatch import Dispatcher
from service.push import fan_out as steps
from service.push.fan_out import FanOut
from service.push.notification import Notification, in_language
from tests.client import PASSWORD, Person, Phone, pointers
from tests.dispatching import Deaf, look
from tests.pushing import TOKEN, is_registered
from tests.racing import statuses

OTHER = "ab" * 32
PATH = "/v1/accounts/me/push"


def subscription(endpoint: str = "https://push.example.com/send/1") -> str:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = {"p256dh": encode_base64url(point), "auth": encode_base64url(bytes(16))}
    return json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": keys})


def register(person: Person, token: str = TOKEN, platform: str = "apns", **more: Any) -> None:
    answer = person.put(PATH, {"platform": platform, "token": token, **more})
    assert answer.status_code == 200, answer.json


def sent(**wanted: Any) -> list[dict[str, Any]]:
    return list(OutboxItem._get_collection().find(wanted, sort=[("_id", 1)]))


def make_admin(person: Person, app: Flask) -> None:
    Account._get_collection().update_one({"_id": person.id}, {"$set": {"roles": ["admin"]}})
    app.extensions["madang.security"].sessions.forget(person.id)


def fan_out() -> None:
    look(Dispatcher(FanOut(), Deaf()), 2)


# A registration


def test_a_device_registers_and_sees_what_is_registered_without_its_token(ada: Person) -> None:
    answer = ada.put(
        PATH, {"platform": "apns", "token": TOKEN.upper(), "topics": ["news"]}, headers={"Accept-Language": "ko-KR, en"}
    )
    assert answer.status_code == 200
    assert {**answer.json, "registered_at": ""} == {
        "platform": "apns",
        "topics": ["news"],
        "language": "ko-KR",
        "registered_at": "",
    }
    assert ada.get(PATH).json == answer.json
    assert is_registered(TOKEN)


def test_a_second_registration_takes_the_place_of_the_first(ada: Person) -> None:
    register(ada, topics=["news"])
    register(ada, OTHER)
    assert not is_registered(TOKEN)
    assert ada.get(PATH).json["topics"] == []


def test_a_registration_is_ended(ada: Person) -> None:
    register(ada)
    assert ada.delete(PATH).status_code == 204
    assert not is_registered(TOKEN)
    assert ada.get(PATH).status_code == 404
    assert ada.delete(PATH).status_code == 404


def test_a_token_belongs_to_the_session_that_registered_it_last(ada: Person, bob: Person) -> None:
    register(ada)
    register(bob)
    assert ada.get(PATH).status_code == 404
    assert bob.get(PATH).status_code == 200
    assert push.send(ada.id, title="Hello") == 0
    assert "push_moved" in [event["kind"] for event in ada.get("/v1/accounts/me/events").json["items"]]


@pytest.mark.real
def test_of_two_who_register_one_token_at_the_same_moment_one_has_it(ada: Person, bob: Person) -> None:
    body = {"platform": "apns", "token": TOKEN}
    people = [Phone(one.client.application.test_client(), one.headers) for one in (ada, bob)]
    for _ in range(10):
        assert statuses(*(lambda one=one: one.put(PATH, body) for one in people)) == [200, 200]
        assert Session._get_collection().count_documents({"push": {"$exists": True}}) == 1


def test_the_language_is_that_of_the_account_where_the_request_names_none(ada: Person) -> None:
    ada.patch("/v1/accounts/me", {"locale": "pt-BR"})
    register(ada)
    assert ada.get(PATH).json["language"] == "pt-BR"


@pytest.mark.parametrize("end", ["log out", "log out everywhere", "end the session", "delete the account"])
def test_a_registration_goes_with_its_session(ada: Person, end: str) -> None:
    register(ada)
    session = ada.tokens["session_id"]
    if end == "delete the account":
        assert ada.delete("/v1/accounts/me").status_code == 204
    elif end == "end the session":
        assert ada.delete(f"/v1/accounts/me/sessions/{session}").status_code == 204
    else:
        body = {"everywhere": True} if end == "log out everywhere" else None
        assert ada.post("/auth/logout", body).status_code == 204
    assert not is_registered(TOKEN)


def test_a_change_of_the_password_ends_those_of_all_other_sessions(ada: Person) -> None:
    register(ada)
    ada.log_in()
    register(ada, OTHER)
    change = {"current_password": PASSWORD, "new_password": "three green boats"}
    assert ada.put("/v1/accounts/me/password", change).status_code == 204
    assert (is_registered(TOKEN), is_registered(OTHER)) == (False, True)


def test_an_expired_session_is_not_reached(ada: Person) -> None:
    register(ada)
    Session._get_collection().update_many({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    assert push.send(ada.id, title="Hello") == 0


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"platform": "apns", "token": "not hexadecimal"}, "/token"),
        ({"platform": "apns", "token": "../../3/device/x"}, "/token"),
        ({"platform": "apns", "token": "abc"}, "/token"),
        ({"platform": "fcm", "token": "with a space"}, "/token"),
        ({"platform": "fcm", "token": ""}, "/token"),
        ({"platform": "fcm", "token": "x" * 5000}, "/token"),
        ({"platform": "mpns", "token": TOKEN}, "/platform"),
        ({"platform": "apns"}, "/token"),
        ({"token": TOKEN}, "/platform"),
        ({"platform": "apns", "token": TOKEN, "topics": ["News!"]}, "/topics/0"),
        ({"platform": "apns", "token": TOKEN, "topics": ["n"] * 21}, "/topics"),
        ({"platform": "webpush", "token": "{}"}, "/token"),
        ({"platform": "webpush", "token": "[1]"}, "/token"),
        ({"platform": "webpush", "token": "https://push.example.com/1"}, "/token"),
        ({"platform": "webpush", "token": json.dumps({"endpoint": 1, "keys": {"p256dh": "", "auth": ""}})}, "/token"),
    ],
)
def test_what_is_no_registration_is_refused_by_its_place(ada: Person, body: dict[str, Any], place: str) -> None:
    answer = ada.put(PATH, body)
    assert answer.status_code == 422
    assert place in pointers(answer)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://push.example.com/1",
        "https://127.0.0.1/1",
        "https://[::1]/1",
        "https://[::ffff:10.0.0.1]/1",
        "https://169.254.169.254/latest/meta-data",
        "https://192.168.0.1:8443/",
        "https://user:password@push.example.com/1",
        "file:///etc/passwd",
    ],
)
def test_a_subscription_leads_nowhere_within(ada: Person, endpoint: str) -> None:
    answer = ada.put(PATH, {"platform": "webpush", "token": subscription(endpoint)})
    assert pointers(answer) == {"/token": "not_valid"}


def test_a_point_that_is_not_on_the_curve_is_refused(ada: Person) -> None:
    broken = json.loads(subscription())
    broken["keys"]["p256dh"] = encode_base64url(b"\4" + bytes(64))
    assert ada.put(PATH, {"platform": "webpush", "token": json.dumps(broken)}).status_code == 422


def test_a_browser_registers_its_subscription(ada: Person) -> None:
    register(ada, subscription(), "webpush")
    assert ada.get(PATH).json["platform"] == "webpush"


def test_nobody_registers_without_a_token(phone: Phone) -> None:
    assert phone.put(PATH, {"platform": "apns", "token": TOKEN}).status_code == 401


def test_an_account_registers_so_often_at_most(make_app: Any) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_PUSH_REGISTRATIONS="2 per hour")
    ada = Person.sign_up(app.test_client(), "ada")
    register(ada)
    register(ada)
    assert ada.put(PATH, {"platform": "apns", "token": TOKEN}).status_code == 429


def test_events_tell_of_a_new_device_and_not_of_the_same_again(ada: Person) -> None:
    register(ada)
    register(ada, topics=["news"])
    ada.delete(PATH)
    kinds = [event["kind"] for event in ada.get("/v1/accounts/me/events").json["items"]]
    assert [kind for kind in kinds if kind.startswith("push")] == ["push_ended", "push_registered"]


def test_the_export_has_what_is_registered(ada: Person) -> None:
    assert "push" not in ada.get("/v1/accounts/me/export").json
    register(ada, topics=["news"])
    (found,) = ada.get("/v1/accounts/me/export").json["push"]
    assert (found["platform"], found["token"], found["topics"]) == ("apns", TOKEN, ["news"])


def test_the_list_of_sessions_tells_no_token(ada: Person) -> None:
    register(ada)
    assert TOKEN not in ada.get("/v1/accounts/me/sessions").get_data(as_text=True)


# Sending from code


def test_each_device_of_an_account_gets_an_item(ada: Person, bob: Person) -> None:
    register(ada)
    ada.log_in()
    register(ada, "fcm-1", "fcm")
    register(bob, OTHER)
    assert push.send(ada.id, title="Hello", body="there") == 2
    found = sent()
    assert sorted(item["kind"] for item in found) == ["apns", "fcm"]
    assert {item["account"] for item in found} == {ada.id}
    assert all(item["message"]["title"] == "Hello" for item in found)


def test_with_a_topic_those_get_it_that_follow_it(ada: Person) -> None:
    register(ada, topics=["news"])
    ada.log_in()
    register(ada, OTHER)
    assert push.send(ada.id, title="Hello", topic="news") == 1
    assert push.send(ada.id, title="Hello", topic="sports") == 0


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"title": ""},
        {"title": {}},
        {"title": {"en": ""}},
        {"title": {"$where": "x"}},
        {"title": "x" * 3000},
        {"title": {"en": "x", "ko": "가" * 1000}},
        {"data": {"x": "y" * 3000}},
        {"data": {"x": object()}},
        {"title": "x", "collapse": "x" * 65},
        {"title": "x", "collapse": ""},
        {"title": "x", "seconds": -1},
        {"title": "x", "seconds": 29 * 86_400},
        {"title": "x", "badge": -1},
        {"title": "x", "topic": "Not A Topic"},
    ],
)
def test_what_cannot_be_sent_is_refused_when_it_is_asked_for(ada: Person, told: dict[str, Any]) -> None:
    register(ada)
    with pytest.raises(ValueError):
        push.send(ada.id, **told)
    assert sent() == []


@pytest.mark.parametrize(
    ("language", "text"),
    [("ko", "안녕"), ("ko-KR", "안녕"), ("KO", "안녕"), ("pt-BR", "Olá"), ("fr", "Hello"), (None, "Hello")],
)
def test_a_text_is_told_in_the_language_of_the_device(language: str | None, text: str) -> None:
    assert in_language({"pt-BR": "Olá", "en": "Hello", "ko": "안녕"}, language) == text


def test_a_text_without_english_is_told_in_the_first_language() -> None:
    assert in_language({"ko": "안녕", "de": "Hallo"}, "fr") == "안녕"


def test_a_notification_comes_back_from_the_outbox_as_it_was() -> None:
    told = Notification({"en": "Hello", "ko": "안녕"}, None, {"$a.b": [1, None], "n": 2**70}, "x", 60, False, 3, "bell")
    assert Notification.of(told.stored()) == told


@pytest.mark.real
def test_what_a_transaction_sends_goes_with_it(ada: Person) -> None:
    register(ada)

    def undone() -> None:
        push.send(ada.id, title="Hello")
        raise KeyError

    with pytest.raises(KeyError):
        transactions.run(undone)
    assert sent() == []
    transactions.run(lambda: push.send(ada.id, title="Hello"))
    assert len(sent()) == 1


def test_what_waits_goes_with_the_account(ada: Person) -> None:
    register(ada)
    push.send(ada.id, title="Hello")
    ada.delete("/v1/accounts/me")
    assert sent() == []


# Sent by an admin


def test_an_admin_sends_to_the_devices_of_accounts(app: Flask, ada: Person, bob: Person) -> None:
    make_admin(ada, app)
    register(bob)
    body = {"accounts": [bob.id, "nobody"], "title": "Closed on Monday", "data": {"page": "news"}}
    answer = ada.post("/v1/admin/push", body)
    assert answer.status_code == 202
    fan_out()
    (item,) = sent(kind="apns")
    assert (item["account"], item["message"]["title"]) == (bob.id, "Closed on Monday")
    (whole,) = sent(_id=answer.json["id"])
    assert whole["state"] == "sent"
    assert "message" not in whole


def test_an_admin_sends_to_whoever_follows_a_topic(app: Flask, ada: Person, bob: Person) -> None:
    make_admin(ada, app)
    register(ada, topics=["sports"])
    register(bob, OTHER, topics=["news", "sports"])
    assert ada.post("/v1/admin/push", {"topics": ["news"], "title": "New"}).status_code == 202
    fan_out()
    assert [item["account"] for item in sent(kind="apns")] == [bob.id]


def test_accounts_and_topics_together_are_both_asked_for(app: Flask, ada: Person, bob: Person) -> None:
    make_admin(ada, app)
    register(ada)
    register(bob, OTHER, topics=["news"])
    assert ada.post("/v1/admin/push", {"accounts": [ada.id], "topics": ["news"], "title": "x"}).status_code == 202
    fan_out()
    assert sent(kind="apns") == []


def test_many_devices_are_gone_through_in_steps(
    app: Flask, ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "STEP_DEVICES", 2)
    monkeypatch.setattr(steps, "STEP_ACCOUNTS", 1)
    make_admin(ada, app)
    for number in range(5):
        bob.log_in()
        register(bob, f"{number:02x}" * 32, topics=["news"])
    register(ada, OTHER, topics=["news"])
    assert ada.post("/v1/admin/push", {"topics": ["news"], "title": "x"}).status_code == 202
    fan_out()
    assert len({item["content"]["session"] for item in sent(kind="apns")}) == len(sent(kind="apns")) == 6
    assert ada.post("/v1/admin/push", {"accounts": [ada.id, bob.id, "nobody"], "title": "x"}).status_code == 202
    fan_out()
    assert len(sent(kind="apns")) == 12


def test_a_fan_out_waits_where_enough_waits(
    app: Flask, ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "MOST_UNSENT", 1)
    make_admin(ada, app)
    register(bob)
    push.send(bob.id, title="Hello")
    ada.post("/v1/admin/push", {"accounts": [bob.id], "title": "x"})
    fan_out()
    assert len(sent(kind="apns")) == 1
    (waiting,) = sent(kind="broadcast")
    assert "wait already" in waiting["reason"]
    OutboxItem._get_collection().delete_many({"kind": "apns"})
    OutboxItem._get_collection().update_many({}, {"$set": {"due_at": items.DUE_AT_ONCE}})
    fan_out()
    assert len(sent(kind="apns")) == 1


def test_only_an_admin_sends_to_others(ada: Person, bob: Person) -> None:
    answer = bob.post("/v1/admin/push", {"accounts": [ada.id], "title": "Hello"})
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "body",
    [
        {"title": "x"},
        {"accounts": ["a"]},
        {"accounts": ["a"] * 1001, "title": "x"},
        {"topics": ["n"] * 21, "title": "x"},
        {"topics": ["N"], "title": "x"},
        {"accounts": ["a"], "title": ""},
        {"accounts": ["a"], "title": "x", "seconds": 29 * 86_400},
        {"accounts": ["a"], "title": "x", "data": {"x": "y" * 3000}},
        {"accounts": ["a"], "title": "x", "collapse": "é" * 40},
        {"accounts": ["a"], "title": "x", "unknown": 1},
    ],
)
def test_an_admin_is_told_what_cannot_be_sent(app: Flask, ada: Person, body: dict[str, Any]) -> None:
    make_admin(ada, app)
    assert ada.post("/v1/admin/push", body).status_code == 422
    assert sent() == []


def test_an_admin_sends_so_often_at_most(make_app: Any) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_ADMIN_PUSHES="1 per hour")
    ada = Person.sign_up(app.test_client(), "ada")
    make_admin(ada, app)
    assert ada.post("/v1/admin/push", {"accounts": [ada.id], "title": "x"}).status_code == 202
    assert ada.post("/v1/admin/push", {"accounts": [ada.id], "title": "x"}).status_code == 429
