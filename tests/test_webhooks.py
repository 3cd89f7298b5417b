"""Webhooks: who may make them, what is told of a record, in which order, and what becomes of a call that fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from standardwebhooks import WebhookVerificationError
from werkzeug.test import TestResponse

from service.core.clock import now
from service.core.json_text import decode
from service.documents import AdminAction, Lease, OutboxItem, Webhook, WebhookMatch
from service.http import openapi
from service.outbox import items
from service.outbox.dispatch import Dispatcher
from service.outbox.targets import Targets
from service.webhooks import keeping
from service.webhooks.keeping import WEBHOOKS
from tests.client import Person, Phone, pointers
from tests.dispatching import Deaf, look
from tests.receiving import OWN, PATH, CallingWorker, Endpoint, endpoint, items_of, make_webhook, service, with_role
from tests.recording import Recording
from tests.test_house import Recorder, complaints
from tests.test_where import Gauge
from tests.types import REGISTRY

__all__ = ["endpoint", "service"]

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def every_session_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is believed of a session for 0.8 s is the matter of another test."""
    monkeypatch.setattr("service.identity.sessions.CHECK_SECONDS", 0.0)


@pytest.fixture
def admin(service: Flask) -> Person:
    return with_role(service, "root")


@pytest.fixture
def bob(service: Flask) -> Person:
    """Somebody who writes notes."""
    return Person.sign_up(service.test_client(), "bob")


@pytest.fixture
def caller(service: Flask, recording: Recording) -> CallingWorker:
    found = CallingWorker(service, REGISTRY, recording)
    found.feed()
    return found


# Who may, and what is kept


def test_webhooks_are_for_admins_alone(bob: Person, admin: Person, phone: Phone) -> None:
    made = make_webhook(admin, "https://example.com/hook")
    item = f"{PATH}/{made['id']}"
    for method, path, body in (
        ("GET", PATH, None),
        ("POST", PATH, {"url": "https://example.com/"}),
        ("GET", item, None),
        ("PATCH", item, {"active": False}),
        ("DELETE", item, None),
        ("POST", f"{item}/secret", None),
        ("POST", f"{item}/ping", None),
        ("GET", f"{item}/deliveries", None),
        ("POST", f"{item}/deliveries/x/repeat", None),
    ):
        assert bob.send(method, path, body).json["code"] == "forbidden"
        assert phone.send(method, path, body).status_code == 401
    assert [row["id"] for row in admin.get(PATH).json["items"]] == [made["id"]]


def test_a_webhook_is_made_listed_changed_and_removed(admin: Person) -> None:
    answer = admin.post(PATH, {"url": "https://example.com/hook", "types": ["notes"], "where": {"pinned": True}})
    made = answer.json
    assert answer.headers["Location"] == f"{PATH}/{made['id']}"
    assert made.pop("secret").startswith("whsec_")
    assert made == {
        "id": made["id"],
        "url": "https://example.com/hook",
        "types": ["notes"],
        "where": {"pinned": True},
        "active": True,
        "off_reason": None,
        "off_at": None,
        "failing_since": None,
        "rests_until": None,
        "old_secret_until": None,
        "owner": admin.id,
        "created_at": made["created_at"],
        "updated_at": made["created_at"],
    }
    assert admin.get(PATH).json == {"items": [made]}
    assert admin.get(f"{PATH}/{made['id']}").json == made
    changed = admin.patch(f"{PATH}/{made['id']}", {"types": None, "where": None, "active": False}).json
    assert (changed["types"], changed["where"], changed["active"]) == (None, None, False)
    assert changed["url"] == made["url"]
    assert admin.delete(f"{PATH}/{made['id']}").status_code == 204
    for gone in (admin.get, admin.delete):
        assert gone(f"{PATH}/{made['id']}").json["code"] == "not_found"
    assert admin.patch(f"{PATH}/{made['id']}", {"active": True}).status_code == 404
    assert admin.post(f"{PATH}/{made['id']}/ping").status_code == 404
    assert admin.get(f"{PATH}/{made['id']}/deliveries").status_code == 404


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "/url"),
        ({"url": ""}, "/url"),
        ({"url": 7}, "/url"),
        ({"url": "nowhere"}, "/url"),
        ({"url": "http://example.com/"}, "/url"),
        ({"url": "https://user:password@example.com/"}, "/url"),
        ({"url": "https://localhost/"}, "/url"),
        ({"url": "https://169.254.169.254/latest/meta-data"}, "/url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "/url"),
        ({"url": "https://1.1.1.1/", "types": []}, "/types"),
        ({"url": "https://1.1.1.1/", "types": ["nothings"]}, "/types"),
        ({"url": "https://1.1.1.1/", "types": ["notes", "notes"]}, "/types"),
        ({"url": "https://1.1.1.1/", "types": ["accounts"]}, "/types"),
        ({"url": "https://1.1.1.1/", "where": {"pinned": True}}, "/where"),
        ({"url": "https://1.1.1.1/", "types": ["notes"], "where": {"nothing": 1}}, "/where"),
        ({"url": "https://1.1.1.1/", "types": ["notes"], "where": {"title": "x" * 4001}}, "/where"),
        ({"url": "https://1.1.1.1/", "types": ["notes"], "where": {"location": {"$near": {}}}}, "/where"),
        ({"url": "https://1.1.1.1/", "secret": "whsec_x"}, "/secret"),
    ],
)
def test_what_cannot_be_called_or_told_is_refused_at_its_place(
    make_app: Any, admin: Person, body: Any, place: str
) -> None:
    strict = make_app()
    admin.client = strict.test_client()
    answer = admin.post(PATH, body)
    assert (answer.status_code, [*pointers(answer)]) == (422, [place])
    assert Webhook._get_collection().count_documents({}) == 0


def test_a_where_with_a_number_over_64_bits_is_told_as_it_was_sent(make_app: Any, admin: Person) -> None:
    app = make_app(documents=[Gauge], **OWN)
    admin.client = app.test_client()
    where = {"height": {"$gt": 2**65}}
    body = json.dumps({"url": "https://127.0.0.1/", "types": ["gauges"], "where": where})
    made = admin.post(PATH, data=body, content_type="application/json")
    assert made.status_code == 201
    listed = admin.get(PATH)
    assert decode(listed.data)["items"][0]["where"] == decode(made.data)["where"] == where
    (noted,) = AdminAction._get_collection().find({})
    assert decode(noted["after"].encode())["where"] == where


def test_a_name_that_nobody_knows_yet_is_good(admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> list[str]:
        raise OSError

    monkeypatch.setattr(Targets, "addresses", unknown)
    assert make_webhook(admin, "https://soon.example/")["active"]


def test_there_are_as_many_as_may_be(admin: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_WEBHOOKS", 2)
    first, _ = (make_webhook(admin, "https://1.1.1.1/") for _ in range(2))
    assert admin.post(PATH, {"url": "https://1.1.1.1/"}).json["code"] == "limit_reached"
    admin.delete(f"{PATH}/{first['id']}")
    make_webhook(admin, "https://1.1.1.1/")


def test_a_retry_is_told_the_same_secret_and_none_is_stored(admin: Person) -> None:
    key = {"Idempotency-Key": "once"}
    first, again = (admin.post(PATH, {"url": "https://1.1.1.1/"}, headers=key) for _ in range(2))
    assert (first.json, again.headers["Idempotent-Replayed"]) == (again.json, "true")
    assert Webhook._get_collection().count_documents({}) == 1
    secret = first.json["secret"].removeprefix("whsec_")
    database = Webhook._get_collection().database
    for name in database.list_collection_names():
        assert all(secret not in repr(row) for row in database[name].find({})), name


# What is told


def test_what_is_made_changed_and_deleted_is_told_in_order(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    made = make_webhook(admin, endpoint.url, types=["notes"])
    bob.post("/v1/notes", {"id": "milk", "title": "milk"})
    bob.make_notebook()
    caller.work()
    bob.patch("/v1/notes/milk", {"title": "oat milk"})
    caller.work()
    bob.delete("/v1/notes/milk")
    caller.work()
    first, second, third = (came.verified_by(made["secret"]) for came in endpoint.came)
    assert first["type"] == "notes.changed"
    assert first["data"] == {
        "type": "notes",
        "id": "milk",
        "revision": 1,
        "record": {**first["data"]["record"], "id": "milk", "title": "milk", "owner": bob.id, "revision": 1},
        "owner": bob.id,
    }
    assert (second["data"]["revision"], second["data"]["record"]["title"]) == (2, "oat milk")
    assert third["data"] == {"type": "notes", "id": "milk", "gone": "deleted", "owner": bob.id}
    assert first["timestamp"].endswith("Z")
    caller.work()
    assert len(endpoint.came) == 3


def test_without_types_all_are_told(admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker) -> None:
    make_webhook(admin, endpoint.url)
    bob.make_note()
    bob.make_notebook()
    caller.work()
    assert [came.whole["type"] for came in endpoint.came] == ["notes.changed", "notebooks.changed"]


def test_what_was_before_a_webhook_is_not_told(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    bob.make_note()
    caller.work()
    make_webhook(admin, endpoint.url)
    caller.work()
    assert endpoint.came == []


def test_what_is_written_before_a_worker_has_begun_is_told(
    service: Flask, admin: Person, bob: Person, endpoint: Endpoint, recording: Recording
) -> None:
    recording.catch_up()
    make_webhook(admin, endpoint.url)
    bob.make_note()
    recording.catch_up()
    CallingWorker(service, REGISTRY, recording).work()
    assert len(endpoint.came) == 1


def test_an_order_that_is_made_anew_tells_nothing_twice(
    service: Flask, admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    """After a restore the order has all records once more."""
    make_webhook(admin, endpoint.url)
    bob.make_note(id="a")
    caller.work()
    Lease._get_collection().update_one({"_id": WEBHOOKS}, {"$set": {"state.number": 0}})
    moved = {"$set": {"updated_at": now() - timedelta(days=1)}}
    REGISTRY["notes"].collection.update_one({"_id": "a"}, moved)
    caller.lease.release()
    caller.begin()
    caller.work()
    assert len(endpoint.came) == 1


def test_conditions_are_told_of_what_fulfils_them_and_of_its_end(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    make_webhook(admin, endpoint.url, types=["notes"], where={"pinned": True})
    steps: list[tuple[Callable[[], Any], Any]] = [
        (lambda: bob.make_note(id="a"), None),
        (lambda: bob.patch("/v1/notes/a", {"title": "still not"}), None),
        (lambda: bob.patch("/v1/notes/a", {"pinned": True}), 3),
        (lambda: bob.patch("/v1/notes/a", {"title": "still"}), 4),
        (lambda: bob.patch("/v1/notes/a", {"pinned": False}), "unmatched"),
        (lambda: bob.patch("/v1/notes/a", {"title": "no more"}), None),
        (lambda: bob.patch("/v1/notes/a", {"pinned": True}), 7),
        (lambda: bob.delete("/v1/notes/a"), "deleted"),
        (lambda: bob.make_note(id="b"), None),
        (lambda: bob.delete("/v1/notes/b"), None),
    ]
    for step, expected in steps:
        endpoint.came.clear()
        step()
        caller.work()
        told = [came.data.get("revision", came.data.get("gone")) for came in endpoint.came]
        assert told == ([] if expected is None else [expected])
    assert WebhookMatch._get_collection().count_documents({}) == 0


def test_a_record_that_is_too_large_is_named_and_not_sent(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    make_webhook(admin, endpoint.url)
    bob.make_note(id="small", body="x" * 15_000)
    bob.make_note(id="large", body="x" * 20_000)
    caller.work()
    small, large = endpoint.came
    assert "record" in small.data
    assert large.data == {"type": "notes", "id": "large", "revision": 1, "owner": bob.id}
    assert all(len(came.body) < 20_000 for came in endpoint.came)


def test_what_is_written_while_a_receiver_is_away_is_told_once_as_it_is_then(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    make_webhook(admin, endpoint.url)
    bob.make_note(id="a")
    for title in ("one", "two", "three"):
        bob.patch("/v1/notes/a", {"title": title})
        caller.feed()
    caller.call()
    assert [came.data["revision"] for came in endpoint.came] == [4]


def test_a_later_try_never_tells_an_earlier_state(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    """The first message fails, the second is taken, then the first is tried again: it tells what is newest."""
    made = make_webhook(admin, endpoint.url)
    answers = iter([500, 204, 204])
    endpoint.answer = lambda _: next(answers)
    bob.make_note(id="a", title="one")
    caller.work()
    bob.patch("/v1/notes/a", {"title": "two"})
    caller.work()
    due_now(made)
    caller.call()
    assert [came.data["revision"] for came in endpoint.came] == [1, 2, 2]
    assert len({came.id for came in endpoint.came}) == 3


def test_two_tries_of_one_record_are_never_under_way_at_once(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    """Else the one with the earlier state could arrive last."""
    kind = keeping.webhook_kind(make_webhook(admin, endpoint.url)["id"])
    bob.make_note(id="a")
    caller.feed()
    first = items.take_due(kind, 30.0)
    assert first is not None
    bob.patch("/v1/notes/a", {"title": "two"})
    bob.make_note(id="b")
    caller.feed()
    other = items.take_due(kind, 30.0)
    assert other is not None
    assert other["content"]["record"] == "b"
    assert items.take_due(kind, 30.0) is None
    items.mark_sent(first)
    second = items.take_due(kind, 30.0)
    assert second is not None
    assert second["content"]["record"] == "a"


def due_now(made: dict[str, Any]) -> None:
    """Have all that waits for a webhook tried."""
    OutboxItem._get_collection().update_many(
        {"kind": keeping.webhook_kind(made["id"]), "state": "waiting"}, {"$set": {"due_at": items.DUE_AT_ONCE}}
    )


def test_each_try_of_one_state_has_one_id(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.answer = lambda _: 500
    bob.make_note()
    caller.work()
    due_now(made)
    caller.call()
    first, again = endpoint.came
    assert (first.id, first.body) == (again.id, again.body)


def test_a_record_that_is_never_taken_keeps_no_other_waiting(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    make_webhook(admin, endpoint.url)
    endpoint.answer = lambda came: 500 if came.data["id"] == "poison" else 204
    for id in ("a", "poison", "b"):
        bob.make_note(id=id)
    caller.work()
    assert [came.data["id"] for came in endpoint.came] == ["a", "poison", "b"]


@pytest.mark.parametrize(("status", "calls"), [(429, 1), (502, 1), (503, 1), (504, 1), (400, 2), (500, 2), (302, 2)])
def test_a_server_that_is_busy_is_left_alone_for_a_while(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, status: int, calls: int
) -> None:
    """Another status is about what was sent, and the next message may be taken."""
    made = make_webhook(admin, endpoint.url)
    endpoint.answer = lambda _: status
    for id in ("a", "b"):
        bob.make_note(id=id)
    caller.feed()
    dispatcher = Dispatcher(caller.sender_of(made["id"]), Deaf())
    look(dispatcher, 2)
    assert len(endpoint.came) == calls


def test_a_worker_that_dies_between_feeding_and_noting_feeds_once_more(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_webhook(admin, endpoint.url, types=["notes"], where={"pinned": True})
    bob.make_note(id="a", pinned=True)
    bob.make_note(id="b", pinned=True)
    caller.work()
    bob.patch("/v1/notes/a", {"pinned": False})
    bob.delete("/v1/notes/b")

    class Killed(BaseException):
        pass

    def dies(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(caller.follower, "pass_over", dies)
        with pytest.raises(Killed):
            caller.feed()
    caller.lease.release()
    caller.begin()
    endpoint.came.clear()
    caller.work()
    assert {(came.data["id"], came.data["gone"]) for came in endpoint.came} == {("a", "unmatched"), ("b", "deleted")}


def test_what_is_off_is_told_nothing(admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker) -> None:
    made = make_webhook(admin, endpoint.url)
    admin.patch(f"{PATH}/{made['id']}", {"active": False})
    bob.make_note(id="a")
    caller.work()
    admin.patch(f"{PATH}/{made['id']}", {"active": True})
    bob.make_note(id="b")
    caller.work()
    assert [came.data["id"] for came in endpoint.came] == ["b"]


def test_the_records_of_a_deleted_account_are_told_as_gone(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    make_webhook(admin, endpoint.url)
    bob.make_note(id="a")
    caller.work()
    assert bob.delete("/v1/accounts/me").status_code == 204
    caller.work()
    assert endpoint.came[-1].data == {"type": "notes", "id": "a", "gone": "deleted", "owner": bob.id}


# Secrets


def test_both_secrets_sign_while_they_are_rotated(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    first = make_webhook(admin, endpoint.url)
    rotated = admin.post(f"{PATH}/{first['id']}/secret").json
    assert rotated["old_secret_until"] is not None
    bob.make_note()
    caller.work()
    for secret in (first["secret"], rotated["secret"]):
        assert endpoint.came[0].verified_by(secret)["type"] == "notes.changed"
    last = admin.post(f"{PATH}/{first['id']}/secret", {"keep_hours": 0}).json
    bob.make_note()
    caller.work()
    endpoint.came[1].verified_by(last["secret"])
    for secret in (first["secret"], rotated["secret"]):
        with pytest.raises(WebhookVerificationError):
            endpoint.came[1].verified_by(secret)


# Deliveries


def test_deliveries_are_seen_and_repeated(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    made = make_webhook(admin, endpoint.url)
    path = f"{PATH}/{made['id']}/deliveries"
    endpoint.answer = lambda came: 400 if came.data["id"] == "b" else 204
    bob.make_note(id="a")
    bob.make_note(id="b")
    caller.work()
    failing, taken = admin.get(path).json["items"]
    assert (taken["record"], taken["state"], taken["tries"], taken["reason"]) == ("a", "sent", 1, None)
    assert (failing["record"], failing["state"], failing["reason"]) == ("b", "waiting", "400 Bad Request")
    assert failing["due_at"] is not None
    assert [one["id"] for one in admin.get(f"{path}?state=sent&limit=1").json["items"]] == [taken["id"]]
    again = admin.post(f"{path}/{taken['id']}/repeat")
    assert (again.status_code, again.json["state"], again.json["record"]) == (202, "waiting", "a")
    assert again.json["id"] != taken["id"]
    caller.call()
    assert [came.data["id"] for came in endpoint.came] == ["a", "b", "a"]
    assert admin.post(f"{path}/nothing/repeat").json["code"] == "not_found"
    assert admin.get(f"{path}?state=lost").status_code == 400


def test_a_ping_says_whether_the_receiver_is_right(admin: Person, endpoint: Endpoint, caller: CallingWorker) -> None:
    made = make_webhook(admin, endpoint.url)
    answer = admin.post(f"{PATH}/{made['id']}/ping")
    assert (answer.status_code, answer.json["type"], answer.json["record"]) == (202, None, None)
    caller.call()
    (came,) = endpoint.came
    assert came.verified_by(made["secret"]) == {
        "type": "webhook.ping",
        "timestamp": came.whole["timestamp"],
        "data": {},
    }
    (shown,) = admin.get(f"{PATH}/{made['id']}/deliveries").json["items"]
    assert (shown["id"], shown["state"]) == (answer.json["id"], "sent")


def test_what_admins_do_with_webhooks_is_in_their_log(admin: Person, endpoint: Endpoint, caller: CallingWorker) -> None:
    made = make_webhook(admin, f"{endpoint.url}/secret-path", types=["notes"])
    path = f"{PATH}/{made['id']}"
    admin.patch(path, {"types": None, "active": True})
    admin.post(f"{path}/secret")
    ping = admin.post(f"{path}/ping").json["id"]
    caller.call()
    again = admin.post(f"{path}/deliveries/{ping}/repeat").json["id"]
    assert admin.patch(f"{PATH}/none-such", {"active": False}).status_code == 404
    admin.delete(path)
    noted = list(AdminAction._get_collection().find({}, sort=[("_id", 1)]))
    assert [(row["action"], row["subject"], row["target"], row["account"]) for row in noted] == [
        (action, "webhooks", made["id"], admin.id)
        for action in ("created", "changed", "secret_rotated", "pinged", "repeated", "deleted")
    ]
    assert json.loads(noted[0]["after"]) == {"types": ["notes"], "where": None, "active": True, "host": "127.0.0.1"}
    assert (json.loads(noted[1]["before"]), json.loads(noted[1]["after"])) == ({"types": ["notes"]}, {"types": None})
    assert [json.loads(row["after"])["delivery"] for row in noted[3:5]] == [ping, again]
    assert not any("secret-path" in str(row) for row in noted)


def test_with_a_webhook_goes_what_was_to_be_sent(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    made = make_webhook(admin, endpoint.url, types=["notes"], where={"pinned": True})
    bob.make_note(pinned=True)
    caller.feed()
    assert len(items_of(made)) == 1
    admin.delete(f"{PATH}/{made['id']}")
    assert items_of(made) == []
    assert WebhookMatch._get_collection().count_documents({}) == 0


def test_what_is_sent_and_what_failed_is_forgotten(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    made = make_webhook(admin, endpoint.url)
    bob.make_note()
    caller.work()
    (item,) = items_of(made)
    assert item["expires_at"] - item["sent_at"] == timedelta(days=7)
    assert "title" not in json.dumps(item["content"])


def test_what_stands_behind_a_host_goes_to_no_log(admin: Person, capsys: pytest.CaptureFixture[str]) -> None:
    """It is often a secret."""
    make_webhook(admin, "https://1.1.1.1/services/T0/very-secret")
    said = "".join(capsys.readouterr())
    assert "webhook_made" in said
    assert "very-secret" not in said


def test_of_an_answer_only_the_status_is_told(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_webhook(admin, endpoint.url)
    endpoint.headers = {"X-Inner": "inner-secret", "Location": "http://inner-secret/"}
    endpoint.answer = lambda _: 302
    bob.make_note()
    caller.work()
    told = admin.get(f"{PATH}/{made['id']}/deliveries").text
    assert "302 Found, which is not followed" in told
    assert "inner-secret" not in told + "".join(capsys.readouterr())


def test_each_answer_is_what_the_api_document_says(
    service: Flask, admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    admin.client = Recorder(service, TestResponse)
    made = make_webhook(admin, endpoint.url, types=["notes"], where={"pinned": True})
    path = f"{PATH}/{made['id']}"
    endpoint.answer = lambda _: 500
    bob.make_note(pinned=True)
    caller.work()
    for method, part, body in (
        ("GET", "", None),
        ("PATCH", "", {"types": None, "where": None}),
        ("POST", "/secret", {"keep_hours": 1}),
        ("POST", "/ping", None),
        ("GET", "/deliveries", None),
        ("DELETE", "", None),
    ):
        assert admin.send(method, path + part, body).status_code < 300
    admin.get(PATH)
    document = openapi.document(service)
    answers = admin.client.__dict__["seen"]
    assert len(answers) == 8
    assert [complaint for answer in answers for complaint in complaints(service, document, answer)] == []


def test_a_secret_that_nobody_can_open_any_more_is_rotated(
    admin: Person, bob: Person, endpoint: Endpoint, caller: CallingWorker
) -> None:
    """After another SECRET_KEY."""
    made = make_webhook(admin, endpoint.url)
    Webhook._get_collection().update_one({}, {"$set": {"sealed": b"x" * 60}})
    bob.make_note()
    caller.work()
    assert endpoint.came == []
    assert "a secret that this service does not have" in items_of(made)[0]["reason"]
    rotated = admin.post(f"{PATH}/{made['id']}/secret").json
    due_now(made)
    caller.call()
    endpoint.came[0].verified_by(rotated["secret"])
