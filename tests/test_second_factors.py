"""The second factor: what people are told, what their codes look like, and accounts that change in the meantime."""

import re
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.core.errors import BadCredentials, NotFound, SecondFactorRequired
from service.documents import Account, Challenge
from service.identity import second_factors
from service.identity.second_factors import NOT_SET_UP, WRONG, SecondFactors
from tests.client import Person, Phone, why
from tests.mailbox import Mailbox
from tests.test_addresses import ADDRESS, verified
from tests.test_second_factor import (
    BAD,
    TOTP,
    Clock,
    begun,
    challenged,
    clock,
    fresh_counters,
    given,
    guarded,
    log_in,
    mails,
    stored,
)

__all__ = ["clock", "fresh_counters", "mails"]


@pytest.fixture
def factors(app: Flask) -> SecondFactors:
    found: SecondFactors = app.extensions["madang.security"].second_factors
    return found


def told(answer: TestResponse) -> str:
    """What somebody is told whose code is refused."""
    assert why(answer) == BAD
    return str(answer.json["detail"])


# What people are told


def test_whatever_is_wrong_with_a_set_up_the_same_is_said(
    ada: Person, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    unasked = told(ada.post(f"{TOTP}/confirmation", {"code": "123456"}))
    app = begun(ada, clock)
    wrong = told(ada.post(f"{TOTP}/confirmation", {"code": app.wrong_code()}))
    # Another request has spent it between the look at it and the writing.
    monkeypatch.setattr(second_factors, "spend_challenge", lambda found: False)
    overtaken = told(ada.post(f"{TOTP}/confirmation", {"code": app.code()}))
    assert {unasked, wrong, overtaken} == {NOT_SET_UP}
    assert "second_factor" not in stored(ada)


def test_whatever_is_wrong_with_an_answer_the_same_is_said(
    ada: Person, phone: Phone, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = guarded(ada, clock)
    unknown = told(given(phone, "x", app.next_code()))
    challenge = challenged(phone)
    wrong = told(given(phone, challenge, app.wrong_code()))
    monkeypatch.setattr(second_factors, "spend_challenge", lambda found: False)
    overtaken = told(given(phone, challenge, app.code()))
    assert {unknown, wrong, overtaken} == {WRONG}


def test_who_is_asked_is_told_what_for(ada: Person, phone: Phone, clock: Clock) -> None:
    guarded(ada, clock)
    assert log_in(phone).json["detail"] == "give a code of the authenticator app, or a recovery code"


def test_recovery_codes_are_ten_that_people_can_write_down(ada: Person, clock: Clock) -> None:
    codes = guarded(ada, clock).recovery_codes
    assert len(codes) == 10
    assert all(re.fullmatch("(?:[2-9A-Z]{4}-){3}[2-9A-Z]{4}", code) for code in codes)


# Who may enter


def test_who_has_passed_enters_by_what_they_were_asked_for_and_on_their_device(
    ada: Person, factors: SecondFactors, mails: Mailbox, clock: Clock
) -> None:
    verified(ada, mails)
    app = guarded(ada, clock)
    account = stored(ada)
    with pytest.raises(SecondFactorRequired) as asked:
        factors.ask(account, "her phone", {"passkeys.key": "k"})
    passed = factors.passed(asked.value.members["challenge"], app.next_code(), "192.0.2.1")
    assert (passed.account["_id"], passed.device) == (ada.id, "her phone")
    factor = account["second_factor"]["id"]
    assert passed.way_in == {"passkeys.key": "k", "email_key": ADDRESS, "second_factor.id": factor}


def test_who_is_asked_for_none_enters_by_what_the_account_has_still(ada: Person, app: Flask) -> None:
    security = app.extensions["madang.security"]
    with pytest.raises(BadCredentials):
        security.enter(stored(ada), "192.0.2.1", None, {"identities.subject": "gone"})
    assert security.enter(stored(ada), "192.0.2.1", None, {"username": "ada"})["access_token"]


def test_those_who_have_no_challenge_keep_nobody_else_out(ada: Person, make_app: Any, clock: Clock) -> None:
    app = guarded(ada, clock)
    limits = {"RATELIMIT_ENABLED": True, "RATELIMIT_FAILED_LOGINS_ACCOUNT": "2 per hour", "TRUSTED_PROXIES": 1}
    phone = Phone(make_app(**limits).test_client())
    for number in range(4):
        phone.headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        assert why(given(phone, "x", "123456")) == BAD
    phone.headers = {"X-Forwarded-For": "192.0.2.1"}
    assert why(given(phone, "x", "123456")) == BAD
    assert given(phone, challenged(phone), app.next_code()).status_code == 200


def test_a_code_is_noted_with_its_own_account(ada: Person, bob: Person, factors: SecondFactors, clock: Clock) -> None:
    guarded(bob, clock)
    app, others = guarded(ada, clock), stored(bob)
    for code in (app.next_code(), app.recovery_codes[0]):
        assert [factors.takes(stored(ada), code) for _ in range(2)] == [True, False]
    assert stored(bob) == others


def test_of_a_wrong_code_nothing_is_written(
    ada: Person, factors: SecondFactors, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = guarded(ada, clock)
    before, sealed = stored(ada), []
    monkeypatch.setattr(factors.seal, "close", lambda values, item: sealed.append(item))
    assert [factors.takes(before, code) for code in (app.wrong_code(), "A" * 16)] == [False, False]
    assert (stored(ada), sealed) == (before, [])


def test_codes_that_are_given_for_one_account_count_for_that_alone(
    ada: Person, bob: Person, make_app: Any, clock: Clock
) -> None:
    of_ada, of_bob = guarded(ada, clock), guarded(bob, clock)
    phone = Phone(make_app(RATELIMIT_ENABLED=True, RATELIMIT_SECOND_FACTOR="2 per day").test_client())
    challenge = log_in(phone, username="bob").json["challenge"]
    assert [given(phone, challenge, of_bob.wrong_code()).status_code for _ in range(3)] == [401, 401, 429]
    assert given(phone, challenged(phone), of_ada.next_code()).status_code == 200


# Accounts that change in the meantime


def test_what_other_sessions_have_begun_goes_when_it_is_on(ada: Person, factors: SecondFactors, clock: Clock) -> None:
    factors.begin(stored(ada), "another session")
    guarded(ada, clock)
    assert Challenge._get_collection().count_documents({}) == 0


def test_who_has_read_a_second_factor_that_was_replaced_changes_nothing(
    ada: Person, factors: SecondFactors, clock: Clock
) -> None:
    app = guarded(ada, clock)
    before = stored(ada)
    assert ada.delete(TOTP).status_code == 204
    guarded(ada, clock)
    after = stored(ada)
    assert factors.takes(before, app.next_code()) is False
    for work in (factors.remove, factors.renew_recovery_codes):
        with pytest.raises(NotFound):
            work(before, "192.0.2.1", None)
    assert stored(ada) == after


def test_the_second_factor_of_an_account_that_is_being_deleted_is_let_be(
    ada: Person, phone: Phone, factors: SecondFactors, clock: Clock
) -> None:
    app, challenge = guarded(ada, clock), challenged(phone)
    before, moment = stored(ada), clock.moment
    Account._get_collection().update_one({"_id": ada.id}, {"$set": {"deleted_at": moment}})
    with pytest.raises(BadCredentials):
        second_factors.challenged(challenge)
    for code in (app.next_code(), app.recovery_codes[0]):
        assert factors.takes(before, code) is False
    for work in (factors.remove, factors.renew_recovery_codes):
        with pytest.raises(NotFound):
            work(before, "192.0.2.1", None)
    assert stored(ada) == {**before, "deleted_at": moment}
