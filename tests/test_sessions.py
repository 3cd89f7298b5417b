"""Sessions: refresh tokens that rotate, what a spent one means, and the four ways in which a session ends."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from threading import Barrier
from typing import Any

import jwt
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.core.clock import now
from service.documents import Account, Event, Session
from service.identity import sessions
from service.identity.deletion import delete_account
from service.policy import Identity
from service.upkeep import indexes
from tests.client import PASSWORD, Person, Phone
from tests.types import REGISTRY

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
SESSIONS = f"{ME}/sessions"


def refresh(phone: Phone, token: str) -> TestResponse:
    return phone.post("/auth/refresh", {"refresh_token": token})


def spent(person: Person, times: int = 1) -> list[str]:
    """The refresh tokens of a person after so many rotations, the oldest first; the last one is good."""
    tokens = [person.tokens["refresh_token"]]
    for _ in range(times):
        tokens.append(refresh(person, tokens[-1]).json["refresh_token"])
    return tokens


def let_the_grace_pass() -> None:
    Session.objects.update(rotated_at=now() - timedelta(days=30, seconds=1))


def second_device(person: Person, app: Flask) -> Person:
    """The same person, signed in on a tablet."""
    tablet = Person(app.test_client())
    tablet.id, tablet.username = person.id, person.username
    tablet.log_in("a tablet")
    return tablet


def works(person: Person) -> list[int]:
    """What the two tokens of a person are answered."""
    return [person.get(ME).status_code, refresh(person, person.tokens["refresh_token"]).status_code]


# Who a session acts for


def test_a_session_is_not_looked_up_for_each_request(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions.Seen, "is_stale", False)
    assert ada.get(ME).status_code == 200
    monkeypatch.setattr(sessions, "look", None)
    assert ada.get(ME).status_code == 200


def test_a_session_is_looked_up_again_after_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sessions.Seen(1.0, Identity("ada", "s", 0), 1.0)
    for moment, is_stale in ((1.79, False), (1.8, True), (1.81, True)):
        with monkeypatch.context() as patched:
            patched.setattr(time, "monotonic", lambda moment=moment: moment)
            found = seen.is_stale
        assert found is is_stale


def test_so_many_sessions_are_known(app: Flask) -> None:
    assert app.extensions["madang.security"].sessions.seen.size == 10_000


def test_a_session_is_over_at_its_very_end(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Session.objects.get().expires_at
    found = []
    for moment in (ends - timedelta(milliseconds=1), ends):
        with monkeypatch.context() as patched:
            patched.setattr(sessions, "now", lambda moment=moment: moment)
            found.append(sessions.live_account(ada.id, ada.tokens["session_id"]) is not None)
    assert found == [True, False]


def test_a_session_tells_when_it_ends_and_nothing_once_it_has(app: Flask, ada: Person, bob: Person) -> None:
    expiry = app.extensions["madang.security"].sessions.expiry
    Session.objects(account=bob.id).update(expires_at=now() - timedelta(days=1))
    assert expiry(ada.tokens["session_id"]) == Session.objects.get(account=ada.id).expires_at
    assert expiry("none") is None


def test_a_session_names_its_device_as_long_as_it_is_there(app: Flask, ada: Person, bob: Person) -> None:
    tablet = second_device(ada, app)
    assert sessions.device_of(tablet.tokens["session_id"]) == "a tablet"
    assert sessions.device_of(bob.tokens["session_id"]) is None
    assert sessions.device_of("none") is None


def test_a_session_acts_with_nobody_elses_roles(app: Flask, bob: Person, ada: Person) -> None:
    kept = app.extensions["madang.security"].sessions
    Account.objects(id=bob.id).update(roles=["boss"])
    assert kept.current_identity(ada.id, ada.tokens["session_id"], 0).roles == ()
    Account.objects(id=ada.id).delete()
    assert kept.current_identity(ada.id, ada.tokens["session_id"], 0) is None


def test_the_session_of_an_account_that_is_being_deleted_acts_for_nobody(app: Flask, ada: Person) -> None:
    Account.objects.update(deleted_at=now())
    assert app.extensions["madang.security"].sessions.current_identity(ada.id, ada.tokens["session_id"], 0) is None


@pytest.fixture
def in_a_transaction(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """A function that has a transaction go on, outside of which there is what it is told; it gives what was asked."""

    def begin(there: Any) -> list[Any]:
        asked: list[Any] = []

        def outside(*args: Any) -> Any:
            asked.append(args)
            return there

        monkeypatch.setattr(sessions.transactions, "is_active", lambda: True)
        monkeypatch.setattr(sessions.transactions, "outside", outside)
        return asked

    return begin


def test_in_a_transaction_a_session_acts_as_it_is_outside_of_it(ada: Person, in_a_transaction: Any) -> None:
    session = ada.tokens["session_id"]
    for there in ({"_id": ada.id, "roles": ["team"]}, None):
        asked = in_a_transaction(there)
        assert sessions.look(ada.id, session) == there
        assert asked == [(sessions.live_account, ada.id, session)]


def test_a_session_that_a_transaction_has_ended_acts_no_more_in_it(ada: Person, in_a_transaction: Any) -> None:
    asked = in_a_transaction({"_id": ada.id})
    Session.objects.delete()
    assert sessions.look(ada.id, ada.tokens["session_id"]) is None
    assert asked == []


def test_without_a_transaction_a_session_is_looked_up_once(
    ada: Person, in_a_transaction: Any, monkeypatch: Any
) -> None:
    asked = in_a_transaction(None)
    monkeypatch.setattr(sessions.transactions, "is_active", lambda: False)
    found = sessions.look(ada.id, ada.tokens["session_id"])
    assert (found, asked) == ({"_id": ada.id, "roles": []}, [])


def test_a_session_acts_with_the_roles_of_its_account(app: Flask, ada: Person) -> None:
    Account.objects(id=ada.id).update(roles=["team"])
    kept = app.extensions["madang.security"].sessions
    kept.seen.entries.clear()
    assert kept.identity(ada.id, ada.tokens["session_id"], 0).roles == ("team",)
    Account._get_collection().update_one({"_id": ada.id}, {"$unset": {"roles": ""}})
    assert kept.current_identity(ada.id, ada.tokens["session_id"], 0) == Identity(ada.id, ada.tokens["session_id"], 0)


# The refresh token


def test_a_refresh_token_is_opaque_and_random(ada: Person) -> None:
    first, second = (ada.log_in()["refresh_token"] for _ in range(2))
    assert re.fullmatch(r"[\w.-]{60,100}", first)
    assert first.rpartition(".")[2][:40] != second.rpartition(".")[2][:40]
    with pytest.raises(jwt.DecodeError):
        jwt.decode(first, options={"verify_signature": False})


def test_a_refresh_token_of_an_earlier_version_is_good_and_has_the_same_successor(
    make_app: MakeApp, ada: Person
) -> None:
    """The form of a token is a promise to phones that slept through an upgrade."""
    key, session, secret = "the key of an installation, 32 bytes", ada.tokens["session_id"], bytes(range(32))
    app = make_app(SECRET_KEY=key)
    refreshing, succeeding = (
        hmac.digest(key.encode(), b"madang " + name, "sha256") for name in (b"refresh", b"successor")
    )

    def issued(secret: bytes) -> str:
        mac = hmac.digest(refreshing, session.encode() + b"\0" + secret, "sha256")[:16]
        return f"{session}.{base64.urlsafe_b64encode(secret + mac).decode()}"

    Session.objects.update(refresh_hash=hashlib.sha256(secret).hexdigest())
    answer = refresh(Phone(app.test_client()), issued(secret))
    assert answer.json["refresh_token"] == issued(hmac.digest(succeeding, session.encode() + secret, "sha256"))


def test_no_part_of_a_refresh_token_is_stored(ada: Person) -> None:
    stored = str(Session._get_collection().find_one())
    secret = base64.urlsafe_b64decode(ada.tokens["refresh_token"].rpartition(".")[2] + "==")[:32]
    assert ada.tokens["refresh_token"] not in stored
    assert secret.hex() not in stored
    assert str(secret) not in stored


def test_a_refresh_answers_as_a_login_does_with_new_tokens(ada: Person) -> None:
    answer = refresh(ada, ada.tokens["refresh_token"]).json
    assert answer.keys() == ada.tokens.keys()
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 300)
    assert answer["session_id"] == ada.tokens["session_id"]
    assert answer["refresh_token"] != ada.tokens["refresh_token"]
    ada.headers = {"Authorization": f"Bearer {answer['access_token']}"}
    assert ada.get(ME).status_code == 200


def test_a_session_can_be_refreshed_again_and_again(ada: Person) -> None:
    tokens = spent(ada, times=10)
    assert len(set(tokens)) == 11
    assert Session.objects.count() == 1


def test_a_refresh_needs_no_access_token(phone: Phone, ada: Person) -> None:
    assert refresh(phone, ada.tokens["refresh_token"]).status_code == 200


def test_a_refresh_does_not_renew_the_time_of_the_login(ada: Person) -> None:
    Session.objects.update(auth_time=1_000)
    token = refresh(ada, ada.tokens["refresh_token"]).json["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["auth_time"] == 1_000


def test_a_retry_within_the_grace_gets_the_very_same_successor(ada: Person) -> None:
    answers = [refresh(ada, ada.tokens["refresh_token"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    assert not Event.objects(kind="refresh_reused")


@pytest.mark.parametrize("slept", [timedelta(hours=2), timedelta(days=29)])
def test_a_phone_that_slept_after_a_lost_answer_is_not_logged_out(ada: Person, slept: timedelta) -> None:
    old, lost = spent(ada)
    Session.objects.update(rotated_at=now() - slept, last_used_at=now() - slept)
    answer = refresh(ada, old)
    assert (answer.status_code, answer.json["refresh_token"]) == (200, lost)
    ada.headers = {"Authorization": f"Bearer {answer.json['access_token']}"}
    assert ada.get(ME).status_code == 200
    assert refresh(ada, lost).status_code == 200
    assert refresh(ada, old).json["code"] == "token_reused"


def test_a_retry_does_not_make_the_grace_longer(ada: Person) -> None:
    old, _ = spent(ada)
    rotated = Session.objects.get().rotated_at
    refresh(ada, old)
    assert Session.objects.get().rotated_at == rotated


def test_the_grace_holds_to_its_very_end(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    old, lost = spent(ada)
    ends = Session.objects.get().rotated_at + timedelta(days=30)
    Session.objects.update(expires_at=ends + timedelta(days=1))
    monkeypatch.setattr(sessions, "now", lambda: ends)
    assert refresh(ada, old).json["refresh_token"] == lost
    monkeypatch.setattr(sessions, "now", lambda: ends + timedelta(milliseconds=1))
    assert refresh(ada, old).json["code"] == "token_reused"


def test_each_session_has_a_grace_of_its_own(app: Flask, ada: Person) -> None:
    tablet = second_device(ada, app)
    old, lost = spent(tablet)
    assert refresh(tablet, old).json["refresh_token"] == lost


@pytest.mark.real
def test_eight_refreshes_at_once_give_one_successor(app: Flask, ada: Person) -> None:
    together = Barrier(8)

    def try_it(_: int) -> TestResponse:
        together.wait()
        return refresh(Phone(app.test_client()), ada.tokens["refresh_token"])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(try_it, range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json["refresh_token"] for answer in answers}) == 1
    assert refresh(ada, answers[0].json["refresh_token"]).status_code == 200


# Reuse


def test_reuse_after_the_grace_ends_the_session(ada: Person) -> None:
    old, new = spent(ada)
    let_the_grace_pass()
    assert refresh(ada, old).json["code"] == "token_reused"
    assert refresh(ada, new).json["code"] == "not_authenticated"
    assert ada.get(ME).json["code"] == "not_authenticated"


def test_a_token_whose_successor_was_used_is_reused_even_within_the_grace(ada: Person) -> None:
    oldest, _, newest = spent(ada, times=2)
    assert refresh(ada, oldest).json["code"] == "token_reused"
    assert refresh(ada, newest).status_code == 401


def test_the_setting_is_the_length_of_the_grace(make_app: MakeApp, ada: Person) -> None:
    strict = Phone(make_app(JWT_REFRESH_GRACE=timedelta(0)).test_client())
    old, _ = spent(ada)
    Session.objects.update(rotated_at=now() - timedelta(milliseconds=2))
    assert refresh(strict, old).json["code"] == "token_reused"


def test_reuse_challenges_like_every_401(ada: Person) -> None:
    old, *_ = spent(ada, times=2)
    assert refresh(ada, old).headers["WWW-Authenticate"].startswith("Bearer ")


def test_reuse_ends_no_other_session(app: Flask, ada: Person) -> None:
    tablet = second_device(ada, app)
    refresh(ada, spent(ada, times=2)[0])
    assert works(tablet) == [200, 200]


def test_reuse_is_logged_as_a_security_event(ada: Person, capsys: pytest.CaptureFixture[str]) -> None:
    ada.log_in("a phone")
    old, *_ = spent(ada, times=2)
    capsys.readouterr()
    answer = refresh(ada, old)
    lines = [line for line in capsys.readouterr().out.splitlines() if '"event":"refresh_reused"' in line]
    assert len(lines) == 1
    assert [name in lines[0] for name in (ada.id, ada.tokens["session_id"], answer.json["request_id"])] == [True] * 3
    event = Event.objects.get(kind="refresh_reused")
    assert (event.account, event.address, event.device) == (ada.id, "127.0.0.1", "a phone")


def test_of_two_reuses_at_once_one_is_logged(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    old, *_ = spent(ada, times=2)
    monkeypatch.setattr(app.extensions["madang.security"].sessions, "end", lambda *_args: 0)
    assert refresh(ada, old).json["code"] == "token_reused"
    assert not Event.objects(kind="refresh_reused")


def test_no_token_is_logged(ada: Person, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = [*spent(ada, times=2), ada.tokens["access_token"]]
    refresh(ada, tokens[0])
    written = capsys.readouterr().out
    assert not [token for token in tokens if token in written]


# What happens to the account while its password is looked at

AT_THAT_MOMENT: dict[str, Callable[[Person], Any]] = {
    "it is locked": lambda person: Account.objects(id=person.id).update(locked_at=now()),
    "its password is changed": lambda person: Account.objects(id=person.id).update(password_hash="another"),
    "it is deleted": lambda person: delete_account(REGISTRY, person.id),
}


@pytest.mark.parametrize("event", AT_THAT_MOMENT)
def test_a_login_that_comes_too_late_opens_nothing(
    app: Flask, bob: Person, ada: Person, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    hashing = app.extensions["madang.security"].hashing
    looked_at = hashing.matches

    def matches(*args: Any) -> bool:
        found: bool = looked_at(*args)
        AT_THAT_MOMENT[event](ada)
        return found

    monkeypatch.setattr(hashing, "matches", matches)
    Session.objects(account=ada.id).delete()
    answer = ada.post("/auth", {"username": "ada", "password": PASSWORD})
    assert (answer.status_code, answer.json["code"]) == (401, "bad_credentials")
    assert [session.id for session in Session.objects] == [bob.tokens["session_id"]]


def test_a_login_is_noted_on_its_account_and_in_its_events(ada: Person, bob: Person) -> None:
    # Those of the sign-ups, a millisecond ago.
    Account.objects.update(last_login_at=now() - timedelta(days=1))
    Event.objects.update(time=now() - timedelta(days=1))
    before = now()
    bob.log_in("a phone")
    assert [account.id for account in Account.objects(last_login_at__gte=before)] == [bob.id]
    event = Event.objects(kind="login", time__gte=before).get()
    assert (event.account, event.address, event.device) == (bob.id, "127.0.0.1", "a phone")


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no other system can change its time zone")
def test_the_time_of_a_login_is_the_same_in_every_time_zone(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        token = ada.log_in()["access_token"]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert abs(jwt.decode(token, options={"verify_signature": False})["auth_time"] - time.time()) < 60


# What is no refresh token


@pytest.mark.parametrize(
    "token", ["", ".", "x", "x.y", "a.b.c", "{session}.", "{session}.AAAA", "é.é", "x" * 500, "{session}." + "A" * 64]
)
def test_what_we_did_not_make_is_refused_and_ends_nothing(ada: Person, token: str) -> None:
    answer = refresh(ada, token.replace("{session}", ada.tokens["session_id"]))
    assert (answer.status_code, answer.json["code"]) == (401, "not_authenticated")
    assert works(ada) == [200, 200]


def test_a_refresh_token_has_one_spelling(ada: Person) -> None:
    token = ada.tokens["refresh_token"]
    for other in (f"{token}=", f"{token}====", token.replace("-", "+").replace("_", "/"), f"{token[:-3]}*{token[-3:]}"):
        assert other == token or refresh(ada, other).json["code"] == "not_authenticated"
    assert works(ada) == [200, 200]


def test_the_refresh_token_of_one_session_does_not_open_another(app: Flask, ada: Person, bob: Person) -> None:
    secret = ada.tokens["refresh_token"].rpartition(".")[2]
    assert refresh(bob, f"{bob.tokens['session_id']}.{secret}").status_code == 401
    assert works(bob) == [200, 200]


def test_an_access_token_is_no_refresh_token(ada: Person) -> None:
    assert refresh(ada, ada.tokens["access_token"]).status_code == 401


def test_a_refresh_token_is_no_access_token(ada: Person) -> None:
    for scheme in ("Bearer", "JWT"):
        answer = ada.get(ME, headers={"Authorization": f"{scheme} {ada.tokens['refresh_token']}"})
        assert answer.json["code"] == "not_authenticated"


@pytest.mark.parametrize("body", [{}, {"refresh_token": 1}, {"refresh_token": None}, {"refresh_token": "x" * 501}])
def test_a_body_without_a_refresh_token_is_422(phone: Phone, body: dict[str, Any]) -> None:
    assert refresh(phone, "x").status_code == 401
    assert phone.post("/auth/refresh", body).status_code == 422


# The life of a session


def test_a_session_that_nobody_uses_ends(ada: Person) -> None:
    Session.objects.update(expires_at=now())
    assert works(ada) == [401, 401]
    answer = refresh(ada, ada.tokens["refresh_token"]).json
    assert (answer["code"], answer["detail"]) == ("not_authenticated", "the session has ended; log in again")
    assert not Event.objects(kind="refresh_reused")


def test_a_refresh_comes_too_late_at_the_very_end_and_is_no_reuse(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the clock of the sessions alone: mongomock has already removed what is over by its own.
    ends = Session.objects.get().expires_at
    monkeypatch.setattr(sessions, "now", lambda: ends)
    assert refresh(ada, ada.tokens["refresh_token"]).json["code"] == "not_authenticated"
    assert not Event.objects(kind="refresh_reused")
    monkeypatch.setattr(sessions, "now", lambda: ends - timedelta(milliseconds=1))
    assert refresh(ada, ada.tokens["refresh_token"]).status_code == 200


def test_without_any_grace_a_refresh_may_take_a_while(make_app: MakeApp, ada: Person, monkeypatch: Any) -> None:
    strict, began, passed = Phone(make_app(JWT_REFRESH_GRACE=timedelta(0)).test_client()), now(), count()
    monkeypatch.setattr(sessions, "now", lambda: began + timedelta(seconds=next(passed)))
    assert refresh(strict, ada.tokens["refresh_token"]).status_code == 200


def test_a_refresh_makes_a_session_live_on(ada: Person) -> None:
    Session.objects.update(expires_at=now() + timedelta(minutes=1), last_used_at=now() - timedelta(days=29))
    refresh(ada, ada.tokens["refresh_token"])
    session = Session.objects.get()
    assert session.expires_at - session.last_used_at == timedelta(days=30)
    assert now() - session.last_used_at < timedelta(seconds=5)


def test_mongodb_removes_sessions_that_have_ended() -> None:
    model = next(model for model in indexes.declared(Session) if "expireAfterSeconds" in model.document)
    assert (list(model.document["key"]), model.document["expireAfterSeconds"]) == (["expires_at"], 0)


@pytest.mark.real
def test_the_index_that_removes_them_is_there(app: Flask) -> None:
    assert any(index.get("expireAfterSeconds") == 0 for index in indexes.existing(Session).values())


# The list


def test_the_list_shows_every_device_and_which_one_asks(app: Flask, ada: Person) -> None:
    second_device(ada, app)
    items = ada.get(SESSIONS).json["items"]
    assert [(item["device"], item["current"]) for item in items] == [("a tablet", False), (None, True)]
    assert items[0].keys() == {"id", "device", "created_at", "last_used_at", "address", "current"}
    assert items[0]["address"] == "127.0.0.1"


def test_the_last_used_session_comes_first(app: Flask, ada: Person) -> None:
    second_device(ada, app)
    Session.objects(device="a tablet").update(last_used_at=now() - timedelta(hours=1))
    refresh(ada, ada.tokens["refresh_token"])
    assert [item["current"] for item in ada.get(SESSIONS).json["items"]] == [True, False]


def test_the_list_holds_no_session_of_others(ada: Person, bob: Person) -> None:
    assert [item["id"] for item in ada.get(SESSIONS).json["items"]] == [ada.tokens["session_id"]]


@pytest.mark.real
def test_the_list_holds_no_session_that_has_ended(app: Flask, ada: Person) -> None:
    second_device(ada, app)
    Session.objects(device="a tablet").update(expires_at=now())
    assert len(ada.get(SESSIONS).json["items"]) == 1


# How a session ends


def test_a_logout_ends_this_session_alone(app: Flask, ada: Person) -> None:
    tablet = second_device(ada, app)
    assert ada.post("/auth/logout").status_code == 204
    assert (works(ada), works(tablet)) == ([401, 401], [200, 200])


def test_a_logout_everywhere_ends_all(app: Flask, ada: Person, bob: Person) -> None:
    tablet = second_device(ada, app)
    assert ada.post("/auth/logout", {"everywhere": True}).status_code == 204
    assert (works(ada), works(tablet), works(bob)) == ([401, 401], [401, 401], [200, 200])


def test_a_logout_that_is_not_everywhere_is_a_logout(app: Flask, ada: Person) -> None:
    tablet = second_device(ada, app)
    assert ada.post("/auth/logout", {"everywhere": False}).status_code == 204
    assert (works(ada), works(tablet)) == ([401, 401], [200, 200])


@pytest.mark.parametrize("body", [{"everywhere": "yes"}, {"everywhere": 1}, {"all": True}])
def test_a_logout_that_cannot_be_understood_ends_nothing(ada: Person, body: dict[str, Any]) -> None:
    assert ada.post("/auth/logout", body).status_code == 422
    assert works(ada) == [200, 200]


def test_another_device_can_be_signed_out(app: Flask, ada: Person) -> None:
    tablet = second_device(ada, app)
    assert ada.delete(f"{SESSIONS}/{tablet.tokens['session_id']}").status_code == 204
    assert (works(ada), works(tablet)) == ([200, 200], [401, 401])


def test_a_session_is_signed_out_once(app: Flask, ada: Person) -> None:
    path = f"{SESSIONS}/{second_device(ada, app).tokens['session_id']}"
    assert [ada.delete(path).status_code for _ in range(2)] == [204, 404]


def test_nobody_signs_out_others(ada: Person, bob: Person) -> None:
    assert ada.delete(f"{SESSIONS}/{bob.tokens['session_id']}").json["code"] == "not_found"
    assert works(bob) == [200, 200]


def test_a_change_of_password_ends_every_other_session(app: Flask, ada: Person) -> None:
    tablet = second_device(ada, app)
    body = {"current_password": PASSWORD, "new_password": "another long pass phrase"}
    assert ada.put(f"{ME}/password", body).status_code == 204
    assert (works(ada), works(tablet)) == ([200, 200], [401, 401])
