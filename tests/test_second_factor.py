"""The second factor: no way in goes around it, a code is good once, and who has the password guesses a few times."""

import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest
from flask import Flask
from mongoengine.connection import get_db
from werkzeug.test import TestResponse

from service.core.clock import now
from service.core.errors import Forbidden, LimitReached
from service.documents import Account, Challenge, Event, KeptAnswer, Session
from service.identity import second_factors
from tests.client import PASSWORD, Person, Phone, why
from tests.issuing import IOS, Issuer
from tests.mailbox import Mailbox
from tests.racing import statuses
from tests.test_addresses import ADDRESS, NEW, asked, code_in, confirmed, verified
from tests.test_pages import csrf_in, followed
from tests.test_web_sign_in import Trip, about

ME = "/v1/accounts/me"
TOTP = f"{ME}/totp"
BAD = (401, "bad_credentials")
ASKED = (401, "second_factor_required")


class Clock:
    """The time that codes are checked by, in the hands of a test."""

    def __init__(self) -> None:
        # In the middle of a step: no test begins in one and ends in the next.
        self.moment = now().replace(second=15, microsecond=0)

    def __call__(self) -> datetime:
        return self.moment

    def tick(self, steps: int = 1) -> None:
        self.moment += timedelta(seconds=30 * steps)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(second_factors, "now", found)
    return found


@pytest.fixture(autouse=True)
def fresh_counters(app: Flask) -> Iterator[None]:
    yield
    for name in ("throttle_windows", "throttle_counters"):
        get_db()[name].delete_many({})


@pytest.fixture(autouse=True)
def somebody_before(app: Flask) -> Iterator[str]:
    """The id of an account that MongoDB comes to first, where nothing says which; no test changes it."""
    first = Phone(app.test_client()).post("/v1/accounts", {"username": "aaron", "password": PASSWORD}).json["id"]
    yield first
    assert "second_factor" not in (Account._get_collection().find_one({"_id": first}) or {})


@pytest.fixture
def mails(app: Flask) -> Mailbox:
    return Mailbox(app)


class Authenticator:
    """The app on a phone that was given a secret."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self.secret, self.clock = secret, clock
        self.recovery_codes: list[str] = []

    def code(self, steps: int = 0) -> str:
        """The code of this step, or of one so many later."""
        step = (self.clock.moment - datetime(1970, 1, 1)) // timedelta(seconds=30)
        return pyotp.TOTP(self.secret).generate_otp(step + steps)

    def next_code(self) -> str:
        """A code that was never given."""
        self.clock.tick()
        return self.code()

    def wrong_code(self) -> str:
        good = {self.code(steps) for steps in (-1, 0, 1)}
        return next(code for code in ("000000", "111111", "222222", "333333") if code not in good)


def begun(person: Person, clock: Clock) -> Authenticator:
    answer = person.post(TOTP)
    assert answer.status_code == 200, answer.json
    return Authenticator(answer.json["secret"], clock)


def guarded(person: Person, clock: Clock) -> Authenticator:
    """The authenticator of somebody whose second factor is on."""
    app = begun(person, clock)
    answer = person.post(f"{TOTP}/confirmation", {"code": app.code()})
    assert answer.status_code == 200, answer.json
    app.recovery_codes = answer.json["recovery_codes"]
    return app


def log_in(phone: Phone, password: str = PASSWORD, **about: Any) -> TestResponse:
    return phone.post("/auth", {"username": "ada", "password": password, **about})


def challenged(phone: Phone, **about: Any) -> str:
    answer = log_in(phone, **about)
    assert why(answer) == ASKED, answer.json
    return str(answer.json["challenge"])


def given(phone: Phone, challenge: str, code: str) -> TestResponse:
    return phone.post("/auth/second-factor", {"challenge": challenge, "code": code})


def stored(person: Person) -> dict[str, Any]:
    return dict(Account._get_collection().find_one({"_id": person.id}) or {})


def grow_old(person: Person) -> None:
    """Have the login of somebody be longer ago than what asks for a recent one takes."""
    Session._get_collection().update_many({"account": person.id}, {"$inc": {"auth_time": -301}})
    answer = person.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]})
    person.tokens = answer.json
    person.headers = {"Authorization": f"Bearer {answer.json['access_token']}"}


# To switch it on


def test_an_authenticator_app_gets_a_secret_and_a_uri(ada: Person, app: Flask) -> None:
    answer = ada.post(TOTP)
    secret, uri = answer.json["secret"], urlsplit(answer.json["uri"])
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", f"/{app.config['APP_NAME']}:ada")
    assert parse_qs(uri.query) == {"secret": [secret], "issuer": [app.config["APP_NAME"]]}
    assert len(secret) == 32


def test_it_is_on_when_a_code_was_confirmed_and_not_before(ada: Person, phone: Phone, clock: Clock) -> None:
    app = begun(ada, clock)
    assert log_in(phone).status_code == 200
    assert ada.get(TOTP).status_code == 404
    assert why(ada.post(f"{TOTP}/confirmation", {"code": app.wrong_code()})) == BAD
    assert log_in(phone).status_code == 200
    codes = ada.post(f"{TOTP}/confirmation", {"code": app.code()}).json["recovery_codes"]
    assert len(set(codes)) == 10
    assert why(log_in(phone)) == ASKED
    assert ada.get(TOTP).json["recovery_codes_left"] == 10


def test_to_set_it_up_asks_for_a_recent_login(ada: Person) -> None:
    grow_old(ada)
    assert why(ada.post(TOTP)) == (403, "reauthentication_required")


def test_what_one_session_has_begun_another_cannot_confirm(ada: Person, app: Flask, clock: Clock) -> None:
    other = Person(app.test_client())
    other.username = "ada"
    other.log_in()
    code = begun(ada, clock).code()
    assert why(other.post(f"{TOTP}/confirmation", {"code": code})) == BAD
    assert ada.post(f"{TOTP}/confirmation", {"code": code}).status_code == 200


def test_the_last_secret_counts(ada: Person, clock: Clock) -> None:
    first, second = begun(ada, clock), begun(ada, clock)
    assert why(ada.post(f"{TOTP}/confirmation", {"code": first.code()})) == BAD
    assert ada.post(f"{TOTP}/confirmation", {"code": second.code()}).status_code == 200


def test_a_set_up_is_good_for_five_tries_and_a_quarter_of_an_hour(ada: Person, clock: Clock) -> None:
    app = begun(ada, clock)
    for _ in range(5):
        assert why(ada.post(f"{TOTP}/confirmation", {"code": app.wrong_code()})) == BAD
    assert why(ada.post(f"{TOTP}/confirmation", {"code": app.code()})) == BAD
    app = begun(ada, clock)
    (challenge,) = Challenge._get_collection().find()
    assert timedelta(minutes=14) < challenge["expires_at"] - now() <= timedelta(minutes=15)
    Challenge._get_collection().update_many({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    assert why(ada.post(f"{TOTP}/confirmation", {"code": app.code()})) == BAD


def test_a_change_of_the_password_makes_a_set_up_void(ada: Person, clock: Clock) -> None:
    app = begun(ada, clock)
    assert ada.put(f"{ME}/password", {"current_password": PASSWORD, "new_password": NEW}).status_code == 204
    assert why(ada.post(f"{TOTP}/confirmation", {"code": app.code()})) == BAD


def test_tries_of_a_set_up_are_bounded_however_often_it_begins_and_count_for_its_account_alone(
    ada: Person, bob: Person, make_app: Any, clock: Clock
) -> None:
    ada.client = bob.client = make_app(RATELIMIT_ENABLED=True, RATELIMIT_SECOND_FACTOR="2 per day").test_client()
    wrong = [ada.post(f"{TOTP}/confirmation", {"code": begun(ada, clock).wrong_code()}).status_code for _ in range(3)]
    assert wrong == [401, 401, 429]
    guarded(bob, clock)


@pytest.mark.parametrize("code", ["é23456", "12345", "1234567", "١٢٣٤٥٦", ""])
def test_what_is_no_code_confirms_nothing(ada: Person, clock: Clock, code: str) -> None:
    begun(ada, clock)
    assert why(ada.post(f"{TOTP}/confirmation", {"code": code})) == BAD


def test_a_code_with_spaces_confirms(ada: Person, clock: Clock) -> None:
    code = begun(ada, clock).code()
    assert ada.post(f"{TOTP}/confirmation", {"code": f" {code[:3]} {code[3:]} "}).status_code == 200


def test_codes_do_not_hang_on_where_the_server_stands(
    ada: Person, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Seoul")
        time.tzset()
        guarded(ada, clock)
    time.tzset()


def test_no_confirmation_that_has_read_the_account_before_takes_the_place_of_another(
    ada: Person, app: Flask, clock: Clock
) -> None:
    factors, read_before = app.extensions["madang.security"].second_factors, stored(ada)
    guarded(ada, clock)
    secret, _ = factors.begin(read_before, "another session")
    code = Authenticator(secret, clock).code()
    with pytest.raises(LimitReached):
        factors.confirm(read_before, "another session", code, "192.0.2.1", None)


ENTERED: list[dict[str, Any]] = [
    {"email_key": "a"},
    {"identities": [{}]},
    {"passkeys": [{}]},
    {"password_hash": "x", "username_key": "a"},
]


@pytest.mark.parametrize("account", ENTERED)
def test_whatever_an_account_is_entered_by_can_be_guarded(account: dict[str, Any]) -> None:
    second_factors.refuse_unguarded(account)


@pytest.mark.parametrize("account", [{}, {"password_hash": "x"}, {"username_key": "a"}, {"identities": []}])
def test_an_account_that_nobody_can_enter_has_nothing_to_guard(account: dict[str, Any]) -> None:
    with pytest.raises(Forbidden):
        second_factors.refuse_unguarded(account)


def test_what_was_done_is_told_with_address_and_device_and_changes_the_account(
    ada: Person, phone: Phone, clock: Clock
) -> None:
    def done(kind: str, device: str = "her phone") -> None:
        found = Event._get_collection().find_one({"account": ada.id, "kind": kind}) or {}
        assert (found.get("address"), found.get("device")) == ("127.0.0.1", device)
        assert stored(ada)["updated_at"] == clock.moment
        clock.tick()

    Session._get_collection().update_many({"account": ada.id}, {"$set": {"device": "her phone"}})
    begun(ada, clock)
    app = guarded(ada, clock)
    assert Challenge._get_collection().count_documents({}) == 0
    done("second_factor_on")
    assert ada.post(f"{TOTP}/recovery-codes").status_code == 200
    done("recovery_codes_renewed")
    given(phone, challenged(phone, device="far away"), app.wrong_code())
    Account._get_collection().update_one({"_id": ada.id}, {"$set": {"updated_at": clock.moment}})
    done("second_factor_failed", "far away")
    assert ada.delete(TOTP).status_code == 204
    assert Challenge._get_collection().count_documents({}) == 0
    done("second_factor_off")


def test_sessions_that_were_opened_without_it_end(ada: Person, app: Flask, clock: Clock) -> None:
    other = Person(app.test_client())
    other.username = "ada"
    other.log_in()
    guarded(ada, clock)
    refreshed = other.post("/auth/refresh", {"refresh_token": other.tokens["refresh_token"]})
    assert (refreshed.status_code, ada.get(ME).status_code) == (401, 200)


def test_an_account_has_one(ada: Person, clock: Clock) -> None:
    guarded(ada, clock)
    assert why(ada.post(TOTP)) == (409, "limit_reached")
    assert why(ada.post(f"{TOTP}/confirmation", {"code": "123456"})) == (409, "limit_reached")


def test_of_two_confirmations_at_once_one_switches_it_on(ada: Person, app: Flask, clock: Clock) -> None:
    code = begun(ada, clock).code()
    again = Person(app.test_client(), ada.headers)
    tries = [lambda who=who: who.post(f"{TOTP}/confirmation", {"code": code}) for who in (ada, again)]
    first, second = statuses(*tries)
    assert first == 200
    assert second in (401, 409)


def test_a_guest_has_nothing_that_it_could_guard(phone: Phone) -> None:
    tokens = phone.post("/auth/guest").json
    guest = Phone(phone.client, {"Authorization": f"Bearer {tokens['access_token']}"})
    assert why(guest.post(TOTP)) == (403, "forbidden")


# To enter


def test_a_login_takes_a_code_beside_the_password(ada: Person, phone: Phone, clock: Clock) -> None:
    app = guarded(ada, clock)
    answer = log_in(phone, device="Ada's phone")
    assert why(answer) == ASKED
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="madang"'
    assert "access_token" not in answer.json
    tokens = given(phone, answer.json["challenge"], app.next_code())
    assert set(tokens.json) == {"access_token", "token_type", "expires_in", "refresh_token", "session_id"}
    entered = Phone(phone.client, {"Authorization": f"Bearer {tokens.json['access_token']}"})
    assert entered.get(ME).json["id"] == ada.id
    devices = [session["device"] for session in entered.get(f"{ME}/sessions").json["items"]]
    assert "Ada's phone" in devices


def test_a_wrong_password_does_not_tell_of_it(ada: Person, phone: Phone, clock: Clock) -> None:
    before = log_in(phone, "a wrong password")
    guarded(ada, clock)
    after = log_in(phone, "a wrong password")
    same = [{name: value for name, value in answer.json.items() if name != "request_id"} for answer in (before, after)]
    assert same[0] == same[1]
    assert Challenge._get_collection().count_documents({}) == 0


def test_a_code_is_good_once(ada: Person, phone: Phone, clock: Clock) -> None:
    app = guarded(ada, clock)
    code = app.next_code()
    assert given(phone, challenged(phone), code).status_code == 200
    assert why(given(phone, challenged(phone), code)) == BAD


def test_the_code_that_switched_it_on_is_used(ada: Person, phone: Phone, clock: Clock) -> None:
    app = guarded(ada, clock)
    assert why(given(phone, challenged(phone), app.code())) == BAD


def test_no_code_before_the_last_one_is_taken(ada: Person, phone: Phone, clock: Clock) -> None:
    app = guarded(ada, clock)
    clock.tick(3)
    assert given(phone, challenged(phone), app.code(1)).status_code == 200
    assert why(given(phone, challenged(phone), app.code())) == BAD


@pytest.mark.parametrize(("steps", "status"), [(-2, 401), (-1, 200), (0, 200), (1, 200), (2, 401)])
def test_a_clock_may_go_wrong_by_one_step(ada: Person, phone: Phone, clock: Clock, steps: int, status: int) -> None:
    app = guarded(ada, clock)
    clock.tick(10)
    assert given(phone, challenged(phone), app.code(steps)).status_code == status


def test_of_two_requests_with_one_code_at_once_one_enters(ada: Person, phone: Phone, app: Flask, clock: Clock) -> None:
    code = guarded(ada, clock).next_code()
    challenges = [challenged(phone) for _ in range(4)]
    tries = [lambda one=one: given(Phone(app.test_client()), one, code) for one in challenges]
    assert statuses(*tries) == [200, 401, 401, 401]


def test_of_two_answers_to_one_challenge_at_once_one_enters(
    ada: Person, phone: Phone, app: Flask, clock: Clock
) -> None:
    codes = guarded(ada, clock).recovery_codes
    challenge = challenged(phone)
    tries = [lambda code=code: given(Phone(app.test_client()), challenge, code) for code in codes[:3]]
    assert statuses(*tries) == [200, 401, 401]


def test_a_challenge_is_good_once(ada: Person, phone: Phone, clock: Clock) -> None:
    app, challenge = guarded(ada, clock), challenged(phone)
    assert given(phone, challenge, app.next_code()).status_code == 200
    assert why(given(phone, challenge, app.next_code())) == BAD


def test_a_challenge_dies_after_five_tries(ada: Person, phone: Phone, clock: Clock) -> None:
    app, challenge = guarded(ada, clock), challenged(phone)
    for _ in range(5):
        assert why(given(phone, challenge, app.wrong_code())) == BAD
    assert why(given(phone, challenge, app.next_code())) == BAD
    assert given(phone, challenged(phone), app.code()).status_code == 200


@pytest.mark.real
def test_of_many_tries_at_once_five_are_looked_at(
    ada: Person, phone: Phone, app: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, challenge = guarded(ada, clock).wrong_code(), challenged(phone)
    looked: list[str] = []
    factors = app.extensions["madang.security"].second_factors
    monkeypatch.setattr(factors, "takes", lambda account, code: bool(looked.append(code)))
    assert set(statuses(*[lambda: given(Phone(app.test_client()), challenge, wrong)] * 12)) <= {401, 429}
    assert len(looked) == 5


def test_a_challenge_dies_after_five_minutes(ada: Person, phone: Phone, clock: Clock) -> None:
    app, challenge = guarded(ada, clock), challenged(phone)
    (kept,) = Challenge._get_collection().find()
    assert timedelta(minutes=4) < kept["expires_at"] - now() <= timedelta(minutes=5)
    Challenge._get_collection().update_many({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    assert why(given(phone, challenge, app.next_code())) == BAD


def test_what_is_no_challenge_is_refused_alike(ada: Person, phone: Phone, clock: Clock) -> None:
    app = guarded(ada, clock)
    assert {why(given(phone, text, app.code())) for text in ("", "x", "é" * 100, challenged(phone)[:-1])} == {BAD}
    assert given(phone, "x" * 101, "1").status_code == 422


@pytest.mark.parametrize("code", ["", " ", "12345", "1234567", "１２３４５６", "-" * 19, "é" * 100])  # noqa: RUF001
def test_what_is_no_code_is_refused(ada: Person, phone: Phone, clock: Clock, code: str) -> None:
    guarded(ada, clock)
    assert why(given(phone, challenged(phone), code)) == BAD


def test_a_code_is_taken_with_spaces(ada: Person, phone: Phone, clock: Clock) -> None:
    code = guarded(ada, clock).next_code()
    assert given(phone, challenged(phone), f" {code[:3]} {code[3:]} ").status_code == 200


def test_wrong_codes_are_bounded_by_account_whatever_the_challenge_and_the_address(
    ada: Person, make_app: Any, clock: Clock
) -> None:
    app = guarded(ada, clock)
    attacker = Phone(
        make_app(RATELIMIT_ENABLED=True, RATELIMIT_SECOND_FACTOR="7 per day", TRUSTED_PROXIES=1).test_client()
    )
    answers = []
    for index in range(9):
        far = {"headers": {"X-Forwarded-For": f"203.0.113.{index}"}}
        challenge = attacker.post("/auth", {"username": "ada", "password": PASSWORD}, **far).json["challenge"]
        body = {"challenge": challenge, "code": app.wrong_code()}
        answers.append(attacker.post("/auth/second-factor", body, **far).status_code)
    assert answers == [401] * 7 + [429] * 2


def test_wrong_codes_count_as_failed_logins(ada: Person, make_app: Any, clock: Clock) -> None:
    app = guarded(ada, clock)
    phone = Phone(make_app(RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="2 per hour").test_client())
    statuses = [given(phone, challenged(phone), app.wrong_code()).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]


def test_the_owner_reads_of_wrong_codes(ada: Person, phone: Phone, clock: Clock) -> None:
    app = guarded(ada, clock)
    given(phone, challenged(phone, device="far away"), app.wrong_code())
    event = Event._get_collection().find_one({"account": ada.id, "kind": "second_factor_failed"})
    assert event is not None
    assert event["device"] == "far away"


def test_a_locked_account_is_not_entered(ada: Person, phone: Phone, clock: Clock) -> None:
    app, challenge = guarded(ada, clock), challenged(phone)
    Account._get_collection().update_one({"_id": ada.id}, {"$set": {"locked_at": now()}})
    assert why(given(phone, challenge, app.next_code())) == (403, "forbidden")


def test_a_change_of_the_password_makes_challenges_void(ada: Person, phone: Phone, clock: Clock) -> None:
    app, challenge = guarded(ada, clock), challenged(phone)
    ada.put(f"{ME}/password", {"current_password": PASSWORD, "new_password": NEW})
    assert why(given(phone, challenge, app.next_code())) == BAD
    assert why(log_in(phone, NEW)) == ASKED


def test_the_challenge_of_one_factor_is_nothing_to_the_next(ada: Person, phone: Phone, clock: Clock) -> None:
    guarded(ada, clock)
    challenge = challenged(phone)
    kept = Challenge._get_collection().find_one()
    assert ada.delete(TOTP).status_code == 204
    app = guarded(ada, clock)
    Challenge._get_collection().insert_one(kept)
    assert why(given(phone, challenge, app.next_code())) == BAD


def test_who_has_passed_enters_the_account_as_it_was_when_they_were_asked(
    ada: Person, phone: Phone, app: Flask, clock: Clock
) -> None:
    code, challenge = guarded(ada, clock).next_code(), challenged(phone)
    passed = app.extensions["madang.security"].second_factors.passed(challenge, code, "192.0.2.1")
    assert passed.way_in["second_factor.id"] == stored(ada)["second_factor"]["id"]
    assert passed.way_in["email_key"] is None


def test_the_challenges_of_others_stay_good(ada: Person, bob: Person, phone: Phone, clock: Clock) -> None:
    app, challenge = guarded(ada, clock), challenged(phone)
    guarded(bob, clock)
    assert bob.delete(TOTP).status_code == 204
    assert given(phone, challenge, app.next_code()).status_code == 200


def test_a_login_that_was_begun_before_it_is_on_ends_without_tokens(
    ada: Person, phone: Phone, app: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors = app.extensions["madang.security"].second_factors
    monkeypatch.setattr(factors, "ask", lambda account, device, way_in: guarded(ada, clock))
    assert why(log_in(phone)) == BAD


# The other ways in


def test_a_sign_in_by_code_asks_for_it(ada: Person, phone: Phone, mails: Mailbox, clock: Clock) -> None:
    verified(ada, mails)
    app = guarded(ada, clock)
    mails.collect()
    code = code_in(asked(phone, "/auth/code", mails))
    answer = phone.post("/auth/code/confirmation", {"email": ADDRESS, "code": code})
    assert why(answer) == ASKED
    assert given(phone, answer.json["challenge"], app.next_code()).status_code == 200
    assert why(phone.post("/auth/code/confirmation", {"email": ADDRESS, "code": code})) == BAD


def test_a_reset_of_the_password_leaves_it_on(ada: Person, phone: Phone, mails: Mailbox, clock: Clock) -> None:
    verified(ada, mails)
    app, challenge = guarded(ada, clock), challenged(phone)
    mails.collect()
    assert confirmed(phone, code_in(asked(phone, "/auth/password-reset", mails))).status_code == 204
    assert why(given(phone, challenge, app.next_code())) == BAD
    answer = log_in(phone, NEW)
    assert why(answer) == ASKED
    assert given(phone, answer.json["challenge"], app.code()).status_code == 200


def test_a_sign_in_by_a_provider_asks_for_it_and_the_identity_has_to_be_there_still(
    make_app: Any, clock: Clock
) -> None:
    with Issuer() as issuer:
        config = {"acme": {"issuer": issuer.url, "client_ids": {"ios": IOS}}}
        client = make_app(PROVIDERS=config).test_client()
        phone = Phone(client)
        tokens = phone.post("/auth/providers/acme", {"id_token": issuer.token()}).json
        person = Person(client, {"Authorization": f"Bearer {tokens['access_token']}"})
        person.id = person.get(ME).json["id"]
        app = guarded(person, clock)
        answers = [phone.post("/auth/providers/acme", {"id_token": issuer.token()}) for _ in range(2)]
        assert [why(answer) for answer in answers] == [ASKED, ASKED]
        assert given(phone, answers[0].json["challenge"], app.next_code()).status_code == 200
        Account._get_collection().update_one({"_id": person.id}, {"$set": {"identities": []}})
        assert why(given(phone, answers[1].json["challenge"], app.next_code())) == BAD


# Around it


def test_a_challenge_is_neither_an_access_token_nor_a_refresh_token(ada: Person, phone: Phone, clock: Clock) -> None:
    guarded(ada, clock)
    challenge = challenged(phone)
    bearer = Phone(phone.client, {"Authorization": f"Bearer {challenge}"})
    assert why(bearer.get(ME)) == (401, "not_authenticated")
    assert why(bearer.post(f"{ME}/merge", {"guest_refresh_token": challenge})) == (401, "not_authenticated")
    assert why(phone.post("/auth/refresh", {"refresh_token": challenge})) == (401, "not_authenticated")


def test_a_password_by_mail_and_a_code_by_mail_together_do_not_get_in(
    ada: Person, phone: Phone, mails: Mailbox, clock: Clock
) -> None:
    """Whoever reads the mailbox has two ways in, and both are the same factor."""
    verified(ada, mails)
    guarded(ada, clock)
    mails.collect()
    assert confirmed(phone, code_in(asked(phone, "/auth/password-reset", mails))).status_code == 204
    first = log_in(phone, NEW)
    mails.collect()
    code = code_in(asked(phone, "/auth/code", mails))
    second = phone.post("/auth/code/confirmation", {"email": ADDRESS, "code": code})
    assert [why(first), why(second)] == [ASKED, ASKED]
    for answer in (first, second):
        for other in (NEW, code, second.json["challenge"]):
            assert why(given(phone, answer.json["challenge"], other)) == BAD


def test_the_page_for_a_new_password_leads_to_no_session(
    ada: Person, phone: Phone, mails: Mailbox, app: Flask, clock: Clock
) -> None:
    verified(ada, mails)
    guarded(ada, clock)
    mails.collect()
    mail = asked(phone, "/auth/password-reset", mails)
    token = re.search(r"/account/reset\?token=([\w-]+)", mail.text)
    assert token is not None
    browser = app.test_client()
    page = followed(browser, "/account/reset", token[1])
    assert browser.post("/account/reset", data={"csrf": csrf_in(page), "password": NEW}).status_code == 303
    assert Session._get_collection().count_documents({"account": ada.id}) == 0
    assert why(log_in(phone, NEW)) == ASKED


@pytest.mark.real
def test_a_guarded_account_is_not_merged_into_one_that_is_not(ada: Person, bob: Person, clock: Clock) -> None:
    guarded(ada, clock)
    answer = bob.post(f"{ME}/merge", {"guest_refresh_token": ada.tokens["refresh_token"]})
    assert why(answer) == (422, "validation_failed")
    assert ada.get(ME).status_code == 200


def test_an_answer_with_tokens_is_not_given_again_for_a_key(ada: Person, phone: Phone, clock: Clock) -> None:
    app = guarded(ada, clock)
    body = {"challenge": challenged(phone), "code": app.next_code()}
    answers = [phone.post("/auth/second-factor", body, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 401]


def test_a_batch_with_a_secret_in_it_is_not_kept(ada: Person, clock: Clock) -> None:
    parts = {"requests": [{"method": "POST", "path": TOTP}, {"method": "GET", "path": ME}]}
    answer = ada.post("/v1/batch", parts, headers={"Idempotency-Key": "begin"})
    secret = answer.json["responses"][0]["body"]["secret"]
    assert secret not in str(list(KeptAnswer._get_collection().find()))
    app = Authenticator(secret, clock)
    assert ada.post(f"{TOTP}/confirmation", {"code": app.code()}).status_code == 200


def test_the_code_of_one_account_is_nothing_to_another(ada: Person, bob: Person, phone: Phone, clock: Clock) -> None:
    guarded(ada, clock)
    of_bob = guarded(bob, clock)
    challenge = challenged(phone)
    assert why(given(phone, challenge, of_bob.next_code())) == BAD


def test_a_sign_in_in_a_browser_asks_for_it_too(make_app: Any, clock: Clock) -> None:
    with Issuer() as issuer:
        served = make_app(**about(issuer))
        trip = Trip(served, issuer)
        tokens = trip.exchange(trip.code()).json
        person = Person(served.test_client(), {"Authorization": f"Bearer {tokens['access_token']}"})
        app = guarded(person, clock)
        answer = trip.exchange(trip.code())
        assert why(answer) == ASKED
        assert given(trip.phone, answer.json["challenge"], app.next_code()).status_code == 200


# Recovery codes


def test_a_recovery_code_gets_in_once(ada: Person, phone: Phone, clock: Clock) -> None:
    code = guarded(ada, clock).recovery_codes[3]
    assert given(phone, challenged(phone), code.lower().replace("-", " ")).status_code == 200
    assert why(given(phone, challenged(phone), code)) == BAD
    assert ada.get(TOTP).json["recovery_codes_left"] == 9


def test_of_two_requests_with_one_recovery_code_at_once_one_enters(
    ada: Person, phone: Phone, app: Flask, clock: Clock
) -> None:
    code = guarded(ada, clock).recovery_codes[0]
    challenges = [challenged(phone) for _ in range(3)]
    tries = [lambda one=one: given(Phone(app.test_client()), one, code) for one in challenges]
    assert statuses(*tries) == [200, 401, 401]


def test_the_recovery_code_of_one_account_is_nothing_to_another(
    ada: Person, bob: Person, phone: Phone, clock: Clock
) -> None:
    guarded(ada, clock)
    of_bob = guarded(bob, clock).recovery_codes[0]
    assert why(given(phone, challenged(phone), of_bob)) == BAD


def test_new_recovery_codes_take_the_place_of_the_old(ada: Person, phone: Phone, clock: Clock) -> None:
    app = guarded(ada, clock)
    answer = ada.post(f"{TOTP}/recovery-codes")
    assert answer.status_code == 200
    assert why(given(phone, challenged(phone), app.recovery_codes[0])) == BAD
    assert given(phone, challenged(phone), answer.json["recovery_codes"][0]).status_code == 200


def test_new_recovery_codes_ask_for_a_recent_login_and_a_second_factor(ada: Person, clock: Clock) -> None:
    assert why(ada.post(f"{TOTP}/recovery-codes")) == (404, "not_found")
    guarded(ada, clock)
    grow_old(ada)
    assert why(ada.post(f"{TOTP}/recovery-codes")) == (403, "reauthentication_required")


# To switch it off


def test_the_owner_is_told_when_it_is_on_and_when_it_is_off(
    ada: Person, phone: Phone, mails: Mailbox, clock: Clock
) -> None:
    verified(ada, mails)
    guarded(ada, clock)
    assert [(mail.to, "was switched on" in mail.subject) for mail in mails.collect()] == [(ADDRESS, True)]
    assert ada.delete(TOTP).status_code == 204
    assert log_in(phone).status_code == 200
    assert [(mail.to, "was switched off" in mail.subject) for mail in mails.collect()] == [(ADDRESS, True)]
    assert why(ada.delete(TOTP)) == (404, "not_found")
    kinds = [event["kind"] for event in ada.get(f"{ME}/events").json["items"]]
    assert {"second_factor_on", "second_factor_off"} <= set(kinds)


def test_to_switch_it_off_asks_for_a_recent_login(ada: Person, phone: Phone, clock: Clock) -> None:
    guarded(ada, clock)
    grow_old(ada)
    assert why(ada.delete(TOTP)) == (403, "reauthentication_required")
    assert why(log_in(phone)) == ASKED


def test_who_runs_the_service_lets_somebody_in(
    ada: Person, phone: Phone, app: Flask, mails: Mailbox, clock: Clock
) -> None:
    verified(ada, mails)
    guarded(ada, clock)
    mails.collect()
    result = app.test_cli_runner().invoke(args=["accounts", "second-factor-off", "ada"])
    assert result.exit_code == 0, result.output
    assert log_in(phone).status_code == 200
    assert len(mails.collect()) == 1
    again = app.test_cli_runner().invoke(args=["accounts", "second-factor-off", "ada"])
    assert (again.exit_code, again.output) == (1, "Error: the account has no second factor\n")


# What is stored


def test_nothing_that_gets_in_is_stored_as_it_is(ada: Person, phone: Phone, clock: Clock) -> None:
    app = begun(ada, clock)
    pending = str(list(Challenge._get_collection().find()))
    codes = ada.post(f"{TOTP}/confirmation", {"code": app.code()}).json["recovery_codes"]
    challenge = challenged(phone)
    kept = pending + str(stored(ada)) + str(list(Challenge._get_collection().find()))
    for text in (app.secret, challenge, *codes, *(code.replace("-", "") for code in codes)):
        assert text not in kept


def test_no_answer_with_a_secret_is_kept_for_a_retry(ada: Person, clock: Clock) -> None:
    app = Authenticator(ada.post(TOTP, headers={"Idempotency-Key": "begin"}).json["secret"], clock)
    body = {"code": app.code()}
    codes = ada.post(f"{TOTP}/confirmation", body, headers={"Idempotency-Key": "on"}).json["recovery_codes"]
    kept = str(list(KeptAnswer._get_collection().find()))
    assert not [text for text in (app.secret, *codes) if text in kept]


def test_the_account_and_its_export_have_no_secret(ada: Person, clock: Clock) -> None:
    guarded(ada, clock)
    assert "second_factor" not in ada.get(ME).json
    exported = ada.get(f"{ME}/export").json
    assert exported["second_factor"] == ada.get(TOTP).json
    assert set(exported["second_factor"]) == {"created_at", "recovery_codes_left"}


def test_no_client_writes_it(ada: Person) -> None:
    assert ada.patch(ME, {"second_factor": None}).status_code == 422


def test_it_goes_with_the_account(ada: Person, phone: Phone, clock: Clock) -> None:
    guarded(ada, clock)
    challenged(phone)
    assert ada.delete(ME).status_code == 204
    assert "second_factor" not in stored(ada)
    assert Challenge._get_collection().count_documents({}) == 0


def test_a_secret_is_sealed_anew_by_the_key_in_use(ada: Person, app: Flask, make_app: Any, clock: Clock) -> None:
    secrets = list(app.extensions["madang.security"].keys.secrets)
    authenticator = guarded(ada, clock)
    newer = Phone(make_app(SECRET_KEY=None, JWT_SECRET_KEY=["n" * 64, *secrets]).test_client())
    assert given(newer, challenged(newer), authenticator.next_code()).status_code == 200
    newest = Phone(make_app(SECRET_KEY=None, JWT_SECRET_KEY=["n" * 64]).test_client())
    assert given(newest, challenged(newest), authenticator.next_code()).status_code == 200


def test_where_no_key_opens_the_secret_recovery_codes_get_in(
    ada: Person, phone: Phone, make_app: Any, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    app = guarded(ada, clock)
    other = Phone(make_app(SECRET_KEY="s" * 64, JWT_SECRET_KEY="s" * 64).test_client())
    assert why(given(other, challenged(other), app.next_code())) == BAD
    (line,) = [line for line in capsys.readouterr().out.splitlines() if '"second_factor_unreadable"' in line]
    assert ada.id in line
    assert given(other, challenged(other), app.recovery_codes[0]).status_code == 200
