"""APNs and FCM as they are documented: what they are sent, and what each of their answers comes to."""

import itertools
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from flask import Flask
from h2.errors import ErrorCodes

from service import push
from service.core.clock import now
from service.documents import OutboxItem, Session
from service.push import apns, http2
from service.push.platform import Push
from service.push.sender import platforms
from tests.client import Person
from tests.http2_server import Asked, Http2Server, Said
from tests.pushing import (
    APNS_KEY,
    GOOGLE_KEY,
    TOKEN,
    Platforms,
    Sending,
    credentials,
    is_registered,
    pem,
    reason,
    states,
)

OTHER = "ab" * 32


@pytest.fixture
def answers() -> Platforms:
    return Platforms()


@pytest.fixture
def server(tmp_path: Path, answers: Platforms, monkeypatch: pytest.MonkeyPatch) -> Iterator[Http2Server]:
    server = Http2Server(tmp_path, answers)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    yield server
    server.stop()


@pytest.fixture
def sending(app: Flask, tmp_path: Path, server: Http2Server) -> Iterator[Sending]:
    sending = Sending({**app.config, **credentials(tmp_path, server.url)})
    yield sending
    sending.leave()


def register(person: Person, token: str = TOKEN, platform: str = "apns", language: str = "en") -> None:
    body = {"platform": platform, "token": token}
    assert person.put("/v1/accounts/me/push", body, headers={"Accept-Language": language}).status_code == 200


def due_in() -> float:
    """In how many seconds the one that waits is due."""
    (item,) = OutboxItem._get_collection().find({"state": "waiting"})
    return float((item["due_at"] - now()).total_seconds())


# APNs


def test_apns_gets_what_is_shown(ada: Person, server: Http2Server, sending: Sending) -> None:
    register(ada, language="ko")
    title = {"en": "New note", "ko": "새 노트"}
    push.send(ada.id, title=title, body="b", data={"note": "n1"}, collapse="note-1", badge=2, sound="default")
    sending.step()
    (asked,) = server.asked
    assert (asked.headers[":method"], asked.path) == ("POST", f"/3/device/{TOKEN}")
    assert {name: asked.headers[name] for name in asked.headers if name.startswith("apns-")} == {
        "apns-topic": "com.example.notes",
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-id": asked.headers["apns-id"],
        "apns-expiration": asked.headers["apns-expiration"],
        "apns-collapse-id": "note-1",
    }
    assert abs(int(asked.headers["apns-expiration"]) - time.time() - 86_400) < 60
    assert asked.json == {
        "note": "n1",
        "aps": {"alert": {"title": "새 노트", "body": "b"}, "badge": 2, "sound": "default"},
    }
    assert states() == {"sent": 1}


@pytest.mark.parametrize("collapse", [" spaces ", "노트", "a\nb", "\x7f"])
def test_a_collapse_id_that_no_header_can_have_leaves_as_one_that_it_can(
    ada: Person, server: Http2Server, sending: Sending, collapse: str
) -> None:
    register(ada)
    for _ in range(2):
        push.send(ada.id, title="x", collapse=collapse)
    push.send(ada.id, title="x", collapse="other")
    sending.step()
    one, same, other = (asked.headers["apns-collapse-id"] for asked in server.asked)
    assert (one, other) == (same, "other")
    assert re.fullmatch(r"[0-9a-f]{32}", one)


def test_a_silent_one_has_the_type_and_priority_that_apple_asks_for(
    ada: Person, server: Http2Server, sending: Sending
) -> None:
    register(ada)
    push.send(ada.id, data={"sync": True}, seconds=0)
    sending.step()
    (asked,) = server.asked
    headers = asked.headers
    assert (headers["apns-push-type"], headers["apns-priority"], headers["apns-expiration"]) == ("background", "5", "0")
    assert asked.json == {"sync": True, "aps": {"content-available": 1}}


def test_one_that_is_not_urgent_waits_for_the_device(ada: Person, server: Http2Server, sending: Sending) -> None:
    register(ada)
    push.send(ada.id, title="x", urgent=False)
    sending.step()
    assert server.asked[0].headers["apns-priority"] == "5"


def test_what_was_sent_is_not_kept(ada: Person, sending: Sending) -> None:
    register(ada)
    push.send(ada.id, title="a secret")
    sending.step()
    assert "message" not in (OutboxItem._get_collection().find_one({}) or {})


def test_data_cannot_take_the_place_of_what_is_shown(ada: Person, server: Http2Server, sending: Sending) -> None:
    register(ada)
    push.send(ada.id, title="x", data={"aps": {"alert": "y"}})
    sending.step()
    assert server.asked[0].json == {"aps": {"alert": {"title": "x"}}}


def test_one_connection_carries_many(ada: Person, server: Http2Server, sending: Sending) -> None:
    register(ada)
    for number in range(300):
        push.send(ada.id, title=f"{number}")
    sending.step()
    push.send(ada.id, title="once more")
    sending.step()
    assert {asked.json["aps"]["alert"]["title"] for asked in server.asked} == {*map(str, range(300)), "once more"}
    assert len(server.asked) == 301
    assert (server.connections, states()) == (1, {"sent": 301})
    assert 1 < server.most_at_once <= 100


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"reason": "BadDeviceToken"}),
        (410, {"reason": "Unregistered", "timestamp": 4102444800000}),
        (410, {"reason": "ExpiredToken", "timestamp": 4102444800000}),
        (410, b"no JSON"),
        (410, [1]),
    ],
)
def test_a_dead_token_goes(ada: Person, answers: Platforms, sending: Sending, status: int, body: Any) -> None:
    register(ada)
    answers.say(TOKEN, Said(status, body))
    push.send(ada.id, title="x")
    sending.step()
    assert not is_registered(TOKEN)
    assert states() == {"failed": 1}


def test_a_token_that_was_registered_after_apns_saw_it_dead_stays(
    ada: Person, answers: Platforms, sending: Sending
) -> None:
    register(ada)
    before = int((datetime.now(UTC) - timedelta(minutes=1)).timestamp() * 1000)
    answers.say(TOKEN, Said(410, {"reason": "Unregistered", "timestamp": before}))
    push.send(ada.id, title="x")
    sending.step()
    assert is_registered(TOKEN)


@pytest.mark.parametrize("why", ["PayloadTooLarge", "DeviceTokenNotForTopic", "BadTopic", ""])
def test_what_apns_refuses_is_not_tried_again_and_the_token_stays(
    ada: Person, answers: Platforms, sending: Sending, why: str
) -> None:
    register(ada)
    answers.say(TOKEN, Said(400, {"reason": why}))
    push.send(ada.id, title="x")
    sending.step()
    assert (states(), reason()) == ({"failed": 1}, f"400 {why}".strip())
    assert is_registered(TOKEN)


@pytest.mark.parametrize("status", [429, 500])
def test_what_a_device_may_get_later_is_tried_later(
    ada: Person, answers: Platforms, server: Http2Server, sending: Sending, status: int
) -> None:
    register(ada)
    answers.say(TOKEN, Said(status, {"reason": "TooManyRequests"}))
    push.send(ada.id, title="x")
    sending.step()
    assert states() == {"waiting": 1}
    assert 3 < due_in() < 11
    sending.step()
    assert len(server.asked) == 1
    sending.step(at_once=True)
    assert states() == {"sent": 1}
    first, second = server.asked
    assert first.headers["apns-id"] == second.headers["apns-id"]


def test_a_platform_that_asks_for_time_gets_it(
    ada: Person, answers: Platforms, server: Http2Server, sending: Sending
) -> None:
    register(ada)
    answers.say(TOKEN, Said(503, {"reason": "ServiceUnavailable"}, {"retry-after": "120"}))
    push.send(ada.id, title="x")
    sending.step()
    dispatcher = sending.dispatchers["apns"]
    assert 100 < dispatcher.paused_until - time.monotonic() <= 120
    assert dispatcher.trouble == "APNs: 503 ServiceUnavailable"
    (item,) = OutboxItem._get_collection().find({})
    assert (item["state"], item["attempts"]) == ("waiting", 0)
    sending.step()
    assert len(server.asked) == 1
    sending.step(at_once=True)
    assert (states(), dispatcher.trouble) == ({"sent": 1}, None)


def test_what_one_is_told_does_not_hold_up_the_others(
    ada: Person, bob: Person, answers: Platforms, sending: Sending
) -> None:
    register(ada)
    register(bob, OTHER)
    answers.say(TOKEN, Said(503, {"reason": "ServiceUnavailable"}, {"retry-after": "120"}))
    push.send(ada.id, title="x")
    push.send(bob.id, title="x")
    sending.step()
    assert states() == {"waiting": 1, "sent": 1}
    assert sending.dispatchers["apns"].trouble is None
    assert 100 < due_in() <= 120


def test_where_all_are_too_many_the_platform_rests(
    ada: Person, bob: Person, answers: Platforms, sending: Sending
) -> None:
    register(ada)
    register(bob, OTHER)
    answers.say("*", *[Said(429, {"reason": "TooManyRequests"}, {"retry-after": "60"})] * 2)
    push.send(ada.id, title="x")
    push.send(bob.id, title="x")
    sending.step()
    assert 50 < sending.dispatchers["apns"].paused_until - time.monotonic() <= 60


@pytest.mark.parametrize("why", ["InvalidProviderToken", "MissingProviderToken"])
def test_where_apns_does_not_know_us_the_settings_are_named(
    ada: Person, answers: Platforms, sending: Sending, why: str
) -> None:
    register(ada)
    answers.say(TOKEN, Said(403, {"reason": why}))
    push.send(ada.id, title="x")
    sending.step()
    trouble = sending.dispatchers["apns"].trouble or ""
    assert why in trouble
    assert "APNS_KEY_ID" in trouble
    assert (states(), is_registered(TOKEN)) == ({"waiting": 1}, True)


def test_too_many_new_tokens_of_ours_make_us_wait_with_the_same_one(
    ada: Person, answers: Platforms, server: Http2Server, sending: Sending
) -> None:
    register(ada)
    answers.say(TOKEN, Said(429, {"reason": "TooManyProviderTokenUpdates"}))
    push.send(ada.id, title="x")
    sending.step()
    assert 50 < sending.dispatchers["apns"].paused_until - time.monotonic() <= 60
    sending.step(at_once=True)
    first, second = server.asked
    assert first.headers["authorization"] == second.headers["authorization"]
    assert states() == {"sent": 1}


class Clock:
    """The time, in the hands of a test."""

    def __init__(self, at: float) -> None:
        self.at = at

    def time(self) -> float:
        return self.at


def provider_token() -> apns.ProviderToken:
    return apns.ProviderToken(APNS_KEY, "ABC123DEFG", "DEF123GHIJ")


def test_our_token_is_renewed_between_20_and_60_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(1_800_000_123.0)
    monkeypatch.setattr(apns, "time", clock)
    token, seen = provider_token(), []
    for _ in range(400):
        text = token.current()
        age = clock.at - jwt.decode(text, options={"verify_signature": False})["iat"]
        assert 0 <= age <= 60 * 60
        if not seen or seen[-1][1] != text:
            seen.append((clock.at, text))
        clock.at += 60
    assert len(seen) > 8
    assert all(later - earlier >= 20 * 60 for (earlier, _), (later, _) in itertools.pairwise(seen[1:]))


def test_all_workers_have_the_same_token_also_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apns, "time", Clock(1_800_000_123.0))
    assert provider_token().current() == provider_token().current()


def test_a_token_that_apns_takes_for_expired_is_made_anew_but_not_again_and_again(
    monkeypatch: pytest.MonkeyPatch, ada: Person, answers: Platforms, server: Http2Server, sending: Sending
) -> None:
    clock = Clock(time.time() // 2400 * 2400 + 2000)
    monkeypatch.setattr(apns, "time", clock)
    register(ada)
    expired = Said(403, {"reason": "ExpiredProviderToken"})
    answers.say(TOKEN, expired, expired)
    push.send(ada.id, title="x")
    sending.step()
    sending.step(at_once=True)
    first, second = (asked.headers["authorization"] for asked in server.asked)
    assert first != second
    assert "clock" in (sending.dispatchers["apns"].trouble or "")
    answers.say(TOKEN, expired)
    sending.step(at_once=True)
    assert server.asked[2].headers["authorization"] == second


def test_goaway_in_the_middle_loses_nothing_and_sends_nothing_twice(
    ada: Person, answers: Platforms, server: Http2Server, sending: Sending
) -> None:
    register(ada)
    for number in range(50):
        push.send(ada.id, title=f"{number}")
    answers.say(TOKEN, *[Said()] * 9, Said(goaway=19))
    sending.step()
    assert (states(), server.connections) == ({"sent": 50}, 2)
    came = sorted(asked.json["aps"]["alert"]["title"] for asked in server.asked if answered(asked))
    assert came == sorted(map(str, range(50)))


def answered(asked: Asked) -> bool:
    """Whether the server looked at a request: not behind the one that its GOAWAY named."""
    return asked.connection == 2 or asked.stream <= 19


def test_a_server_that_only_goes_takes_nothing(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada)
    answers.say("*", *[Said(goaway=0)] * 5)
    push.send(ada.id, title="x")
    sending.step()
    assert "Shutdown" in (sending.dispatchers["apns"].trouble or "")
    (item,) = OutboxItem._get_collection().find({})
    assert (item["state"], item["attempts"]) == ("waiting", 0)


def test_a_connection_that_is_cut_is_made_anew_for_the_next_try(
    ada: Person, answers: Platforms, server: Http2Server, sending: Sending
) -> None:
    register(ada)
    answers.say(TOKEN, Said(cut=True))
    push.send(ada.id, title="x")
    sending.step()
    assert states() == {"waiting": 1}
    assert "broke" in reason()
    sending.step(at_once=True)
    assert (states(), server.connections) == ({"sent": 1}, 2)


def test_a_connection_that_died_while_it_rested_is_made_anew(
    ada: Person, server: Http2Server, sending: Sending
) -> None:
    register(ada)
    push.send(ada.id, title="x")
    sending.step()
    server.cut_all()
    deadline = time.monotonic() + 10
    while sending.dispatchers["apns"].sender.platform.channel.connection is not None:  # type: ignore[attr-defined]
        sending.step()
        assert time.monotonic() < deadline
    push.send(ada.id, title="y")
    sending.step()
    assert (states(), server.connections) == ({"sent": 2}, 2)


def test_a_connection_that_nobody_answers_on_is_found_before_anything_is_sent(
    ada: Person, server: Http2Server, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(ada)
    push.send(ada.id, title="x")
    sending.step()
    connection = sending.dispatchers["apns"].sender.platform.channel.connection  # type: ignore[attr-defined]
    connection.used_at -= 100
    monkeypatch.setattr(http2, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(connection, "pull_in", lambda: b"")
    push.send(ada.id, title="y")
    sending.step()
    assert (states(), server.connections) == ({"sent": 2}, 2)


@pytest.mark.parametrize(
    ("said", "twice"), [(Said(reset=ErrorCodes.REFUSED_STREAM), False), (Said(reset=ErrorCodes.CANCEL), True)]
)
def test_what_was_refused_before_it_was_looked_at_is_sent_again_at_once(
    ada: Person, answers: Platforms, server: Http2Server, sending: Sending, said: Said, twice: bool
) -> None:
    register(ada)
    answers.say(TOKEN, said)
    push.send(ada.id, title="x")
    sending.step()
    assert states() == ({"waiting": 1} if twice else {"sent": 1})


def test_a_server_that_does_not_answer_is_left(
    ada: Person, answers: Platforms, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http2, "QUIET_SECONDS", 0.5)
    register(ada)
    answers.say(TOKEN, Said(silent=True))
    push.send(ada.id, title="x")
    sending.step()
    assert (states(), reason()) == ({"waiting": 1}, "no answer in time")


def test_an_answer_that_does_not_end_is_cut_off(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada)
    answers.say(TOKEN, Said(200, b"x" * 40_000))
    push.send(ada.id, title="x")
    sending.step()
    assert (states(), reason()) == ({"waiting": 1}, "an answer that does not end")


def test_a_server_that_is_not_there_makes_all_wait(
    app: Flask, ada: Person, tmp_path: Path, server: Http2Server
) -> None:
    config = {**app.config, **credentials(tmp_path, "https://localhost:9"), "FCM_URL": server.url}
    sending = Sending(config)
    register(ada)
    push.send(ada.id, title="x")
    sending.step()
    assert "localhost cannot be reached" in (sending.dispatchers["apns"].trouble or "")
    assert states() == {"waiting": 1}


def test_a_server_whose_certificate_is_not_good_gets_nothing(
    app: Flask, ada: Person, tmp_path: Path, server: Http2Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    sending = Sending({**app.config, **credentials(tmp_path, server.url)})
    register(ada)
    push.send(ada.id, title="x")
    sending.step()
    assert "CERTIFICATE_VERIFY_FAILED" in (sending.dispatchers["apns"].trouble or "")
    assert server.asked == []


def test_apns_takes_one_at_a_time_until_it_says_otherwise(
    app: Flask, ada: Person, tmp_path: Path, answers: Platforms, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Http2Server(tmp_path, answers, streams=1)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    sending = Sending({**app.config, **credentials(tmp_path, server.url)})
    register(ada)
    for _ in range(5):
        push.send(ada.id, title="x")
    sending.step()
    sending.leave()
    server.stop()
    assert (states(), server.most_at_once) == ({"sent": 5}, 1)


# Who gets none


def test_who_has_logged_out_gets_nothing(ada: Person, server: Http2Server, sending: Sending) -> None:
    register(ada)
    push.send(ada.id, title="x")
    ada.post("/auth/logout")
    sending.step()
    assert (server.asked, reason()) == ([], "the device is not registered any more")


def test_a_token_that_moved_to_another_account_gets_nothing_of_the_first(
    ada: Person, bob: Person, server: Http2Server, sending: Sending
) -> None:
    register(ada)
    push.send(ada.id, title="for Ada")
    register(bob)
    sending.step()
    assert server.asked == []


def test_what_is_of_no_more_use_is_not_sent(ada: Person, server: Http2Server, sending: Sending) -> None:
    register(ada)
    push.send(ada.id, title="x")
    OutboxItem._get_collection().update_many({}, {"$set": {"until": now() - timedelta(seconds=1)}})
    sending.step()
    assert (server.asked, states()) == ([], {"failed": 1})
    assert "message" not in (OutboxItem._get_collection().find_one({}) or {})


@pytest.mark.parametrize("stored", [{}, {"title": "x", "data": "no JSON"}, {"unknown": 1, "data": "{}"}, None])
def test_one_that_nobody_can_read_stops_no_other_one(
    ada: Person, server: Http2Server, sending: Sending, stored: Any
) -> None:
    register(ada)
    push.send(ada.id, title="x")
    OutboxItem._get_collection().update_one({}, {"$set": {"message": stored}} if stored is not None else UNSAID)
    push.send(ada.id, title="y")
    sending.step()
    assert (states(), len(server.asked)) == ({"sent": 1, "failed": 1}, 1)
    (failed,) = OutboxItem._get_collection().find({"state": "failed"})
    assert failed["reason"].startswith("what it says cannot be read")


def test_a_mistake_of_ours_that_one_shows_stops_no_other_one(
    ada: Person, server: Http2Server, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = apns.payload

    def payload(told: Push) -> dict[str, Any]:
        if told.notification.title == "x":
            raise AssertionError("a mistake")
        return whole(told)

    monkeypatch.setattr(apns, "payload", payload)
    register(ada)
    for title in ("w", "x", "y"):
        push.send(ada.id, title=title)
    sending.step()
    assert (states(), len(server.asked)) == ({"sent": 2, "waiting": 1}, 2)
    assert 3 < due_in() < 11
    (waiting,) = OutboxItem._get_collection().find({"state": "waiting"})
    assert waiting["reason"] == "a mistake of ours: AssertionError"


def test_what_is_not_answered_while_it_is_ours_is_let_go(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada)
    answers.say(TOKEN, Said(silent=True))
    push.send(ada.id, title="x")
    sending.dispatchers["apns"].sender.seconds = 1.5  # type: ignore[misc]
    began = time.monotonic()
    sending.step()
    assert 0.9 < time.monotonic() - began < 1.5
    assert (states(), reason()) == ({"waiting": 1}, "no answer in time")


UNSAID = {"$unset": {"message": ""}}


# FCM


def test_fcm_gets_what_is_shown(ada: Person, server: Http2Server, sending: Sending) -> None:
    register(ada, "fcm:1", "fcm", "ko")
    push.send(
        ada.id, title={"en": "Hi", "ko": "안녕"}, data={"note": "n1", "n": 1}, collapse="c", badge=1, sound="default"
    )
    sending.step("fcm")
    asked = server.asked[-1].json["message"]
    assert (asked["token"], asked["notification"]) == ("fcm:1", {"title": "안녕"})
    assert asked["data"] == {"note": "n1", "n": "1"}
    android = asked["android"]
    assert (android["priority"], android["collapse_key"]) == ("HIGH", "c")
    assert android["notification"] == {"sound": "default", "tag": "c", "notification_count": 1}
    assert 86_000 < int(android["ttl"].removesuffix("s")) <= 86_400
    assert asked["apns"]["headers"]["apns-push-type"] == "alert"
    assert asked["apns"]["payload"]["aps"]["alert"] == {"title": "안녕"}
    assert states("fcm") == {"sent": 1}


def test_a_silent_one_of_fcm_wakes_an_android_and_an_iphone(ada: Person, server: Http2Server, sending: Sending) -> None:
    register(ada, "fcm:1", "fcm")
    push.send(ada.id, data={"sync": "now"})
    sending.step("fcm")
    asked = server.asked[-1].json["message"]
    assert "notification" not in asked
    assert asked["android"]["priority"] == "NORMAL"
    assert asked["apns"]["headers"]["apns-priority"] == "5"
    assert asked["apns"]["payload"] == {"aps": {"content-available": 1}}


def test_the_access_token_is_asked_for_once(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada, "fcm:1", "fcm")
    for _ in range(3):
        push.send(ada.id, title="x")
        sending.step("fcm")
    assert (answers.tokens, states("fcm")) == (1, {"sent": 3})


def fcm_error(status: int, code: str, *details: Any, message: str = "") -> Said:
    found = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}, *details]
    return Said(status, {"error": {"code": status, "message": message, "status": "X", "details": found}})


BAD_TOKEN = {
    "@type": "type.googleapis.com/google.rpc.BadRequest",
    "fieldViolations": [{"field": "message.token", "description": "Invalid registration token"}],
}
BAD_DATA = {**BAD_TOKEN, "fieldViolations": [{"field": "message.data[0].value", "description": "Invalid value"}]}


@pytest.mark.parametrize(
    ("said", "is_dead"),
    [
        (fcm_error(404, "UNREGISTERED"), True),
        (fcm_error(400, "INVALID_ARGUMENT", BAD_TOKEN), True),
        (
            fcm_error(400, "INVALID_ARGUMENT", message="The registration token is not a valid FCM registration token"),
            True,
        ),
        (fcm_error(400, "INVALID_ARGUMENT", BAD_DATA), False),
        (fcm_error(403, "SENDER_ID_MISMATCH"), False),
        (fcm_error(401, "THIRD_PARTY_AUTH_ERROR"), False),
        (Said(404, {"error": "x"}), False),
        (Said(404, b"<html>"), False),
    ],
)
def test_fcm_refuses_and_a_dead_token_goes(
    ada: Person, answers: Platforms, sending: Sending, said: Said, is_dead: bool
) -> None:
    register(ada, "fcm:1", "fcm")
    answers.say("fcm:1", said)
    push.send(ada.id, title="x")
    sending.step("fcm")
    assert states("fcm") == {"failed": 1}
    assert is_registered("fcm:1") is not is_dead


def test_a_quota_of_fcm_is_kept_to(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada, "fcm:1", "fcm")
    answers.say("fcm:1", fcm_error(429, "QUOTA_EXCEEDED"))
    push.send(ada.id, title="x")
    sending.step("fcm")
    assert 50 < due_in() <= 61


def test_fcm_that_is_away_gets_the_time_that_it_asks_for(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada, "fcm:1", "fcm")
    answers.say("fcm:1", Said(503, fcm_error(503, "UNAVAILABLE").body, {"retry-after": "90"}))
    push.send(ada.id, title="x")
    sending.step("fcm")
    assert 80 < sending.dispatchers["fcm"].paused_until - time.monotonic() <= 90


def test_fcm_that_has_a_bug_is_tried_again(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada, "fcm:1", "fcm")
    answers.say("fcm:1", fcm_error(500, "INTERNAL"))
    push.send(ada.id, title="x")
    sending.step("fcm")
    assert (states("fcm"), sending.dispatchers["fcm"].trouble) == ({"waiting": 1}, None)


def test_an_access_token_that_is_not_taken_is_made_anew(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada, "fcm:1", "fcm")
    answers.say("fcm:1", Said(401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}}))
    push.send(ada.id, title="x")
    sending.step("fcm")
    sending.step("fcm", at_once=True)
    assert (answers.tokens, states("fcm")) == (2, {"sent": 1})


@pytest.mark.parametrize(
    "said",
    [
        Said(400, {"error": "invalid_grant"}),
        Said(503, b"", {"retry-after": "30"}),
        Said(200, {"no": "token"}),
        Said(200, [1]),
        Said(cut=True),
    ],
)
def test_without_an_access_token_all_wait(ada: Person, answers: Platforms, sending: Sending, said: Said) -> None:
    register(ada, "fcm:1", "fcm")
    answers.say("token", said)
    push.send(ada.id, title="x")
    sending.step("fcm")
    assert "Google gives no access token" in (sending.dispatchers["fcm"].trouble or "")
    assert states("fcm") == {"waiting": 1}


def test_a_service_account_without_the_right_is_told(ada: Person, answers: Platforms, sending: Sending) -> None:
    register(ada, "fcm:1", "fcm")
    answers.say("fcm:1", Said(403, {"error": {"status": "PERMISSION_DENIED"}}))
    push.send(ada.id, title="x")
    sending.step("fcm")
    assert "FCM_CREDENTIALS_FILE" in (sending.dispatchers["fcm"].trouble or "")


# The settings


def test_without_credentials_notifications_are_logged_where_one_develops(app: Flask, ada: Person) -> None:
    register(ada)
    push.send(ada.id, title="x")
    Sending(app.config).step()
    assert states() == {"sent": 1}


def test_without_credentials_production_refuses_them_with_a_reason(app: Flask, ada: Person) -> None:
    register(ada)
    push.send(ada.id, title="x")
    Sending({**app.config, "ENVIRONMENT": "production"}).step()
    assert (states(), reason()) == ({"failed": 1}, "the settings have no credentials of apns (docs/push.md)")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"APNS_KEY_ID": None}, "APNs needs SERVICE_APNS_KEY_ID too"),
        ({"APNS_TEAM_ID": None, "APNS_TOPIC": None}, "SERVICE_APNS_TEAM_ID and SERVICE_APNS_TOPIC"),
        ({"VAPID_SUBJECT": ""}, "Web Push needs SERVICE_VAPID_SUBJECT too"),
        ({"APNS_KEY_FILE": "none-such.p8"}, "APNS_KEY_FILE: none-such.p8 cannot be read"),
        ({"APNS_KEY_FILE": "google.json"}, "has to be the text of the key file, a PEM with a private key of P-256"),
        ({"VAPID_KEY_FILE": "rsa.pem"}, "has to be the text of the key file, a PEM with a private key of P-256"),
        ({"FCM_CREDENTIALS_FILE": "AuthKey.p8"}, "has to be a service account, with project_id"),
        ({"FCM_CREDENTIALS_FILE": "none-such"}, "FCM_CREDENTIALS_FILE: none-such cannot be read"),
        ({"FCM_CREDENTIALS_FILE": "elliptic.json"}, "has to be a service account, with project_id"),
        ({"FCM_CREDENTIALS_FILE": "partly.json"}, "has to be a service account, with project_id"),
        ({"FCM_CREDENTIALS_FILE": "binary"}, "cannot be read: no text"),
        ({"APNS_URL": "http://localhost"}, "has to be a URL such as https://"),
    ],
)
def test_credentials_that_are_not_right_stop_the_start_and_are_not_told(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = credentials(tmp_path, "https://localhost:1")
    Path("rsa.pem").write_bytes(pem(GOOGLE_KEY))
    whole = Path("google.json").read_text()
    Path("elliptic.json").write_text(whole.replace(jwt_text(GOOGLE_KEY), jwt_text(APNS_KEY)))
    Path("partly.json").write_text('{"project_id": "x"}')
    Path("binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError) as raised:
        platforms({**app.config, **config, **changed})
    assert told in str(raised.value)
    assert "PRIVATE KEY" not in str(raised.value)


def jwt_text(key: Any) -> str:
    """A PEM as it stands in JSON."""
    return json.dumps(pem(key).decode())[1:-1]


def test_the_app_does_not_start_with_a_part_of_the_settings(make_app: Any) -> None:
    with pytest.raises(ValueError, match="APNs needs"):
        make_app(APNS_KEY_ID="ABC123DEFG")


@pytest.mark.usefixtures("app")
def test_a_session_that_was_never_registered_has_nothing_stored() -> None:
    assert Session._get_collection().find_one({"push": {"$exists": True}}) is None
