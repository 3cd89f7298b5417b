"""One-time codes: good once, for a quarter of an hour, five tries and one purpose; void when something changes."""

import re
import threading
from datetime import timedelta

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import OneTimeCode
from service.identity.codes import CODE_CHARACTERS, Codes, Issued, stamp_of
from service.identity.keys import Keys

ADDRESS = "ada@example.com"


@pytest.fixture
def codes(app: Flask) -> Codes:
    return Codes(Keys(("a secret",)))


def issued(codes: Codes, purpose: str = "reset", subject: str = ADDRESS) -> Issued:
    return codes.issue(purpose, subject, ADDRESS, ADDRESS, None)


def wrong(code: str) -> str:
    return ("A" if code[0] != "A" else "B") + code[1:]


def test_a_code_has_eight_characters_that_look_like_no_other(codes: Codes) -> None:
    found = {issued(codes).code for _ in range(20)}
    assert len(found) == 20
    assert all(re.fullmatch(f"[{CODE_CHARACTERS}]{{8}}", code) for code in found)
    assert not set("01OIL") & set(CODE_CHARACTERS)


def test_a_link_carries_256_bits(codes: Codes) -> None:
    assert len(issued(codes).token) == 43


def test_a_code_is_good_once(codes: Codes) -> None:
    found = codes.tried("reset", ADDRESS, issued(codes).code)
    assert found is not None
    assert [codes.spend(found), codes.spend(found)] == [True, False]
    assert OneTimeCode._get_collection().find_one() is None


def test_a_code_and_its_link_are_spent_together(codes: Codes) -> None:
    made = issued(codes)
    found = codes.of_token("reset", made.token)
    assert found is not None
    codes.spend(found)
    assert codes.tried("reset", ADDRESS, made.code) is None


def test_to_look_at_a_link_spends_nothing(codes: Codes) -> None:
    made = issued(codes)
    assert all(codes.of_token("reset", made.token) for _ in range(10))


def test_a_code_is_read_as_people_type_it(codes: Codes) -> None:
    code = issued(codes).code.lower()
    assert codes.tried("reset", ADDRESS, f" {code[:4]}-{code[4:]} ")


def test_a_code_is_good_for_its_purpose_and_its_subject_alone(codes: Codes) -> None:
    made = issued(codes)
    assert codes.tried("sign-in", ADDRESS, made.code) is None
    assert codes.tried("reset", "bob@example.com", made.code) is None
    assert codes.of_token("sign-in", made.token) is None
    assert codes.tried("reset", ADDRESS, made.code)


def test_a_code_that_was_tried_five_times_is_dead_and_its_link_lives(codes: Codes) -> None:
    made = issued(codes)
    assert [codes.tried("reset", ADDRESS, wrong(made.code)) for _ in range(5)] == [None] * 5
    assert codes.tried("reset", ADDRESS, made.code) is None
    assert codes.of_token("reset", made.token)


def test_the_fifth_try_may_be_right(codes: Codes) -> None:
    made = issued(codes)
    for _ in range(4):
        codes.tried("reset", ADDRESS, wrong(made.code))
    assert codes.tried("reset", ADDRESS, made.code)


def test_of_many_tries_at_once_five_are_compared(codes: Codes, monkeypatch: pytest.MonkeyPatch) -> None:
    made, compared = issued(codes), []
    monkeypatch.setattr(codes, "mac", lambda *_: compared.append(1) or "x")
    stored = OneTimeCode._get_collection()
    threads = [threading.Thread(target=codes.tried, args=("reset", ADDRESS, wrong(made.code))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored.find_one()["tries"] == 5


def test_a_code_asked_for_again_takes_the_place_of_the_old_one(codes: Codes) -> None:
    first, second = issued(codes), issued(codes)
    assert codes.tried("reset", ADDRESS, first.code) is None
    assert codes.of_token("reset", first.token) is None
    assert codes.tried("reset", ADDRESS, second.code)


def test_what_was_found_is_not_spent_for_a_newer_one(codes: Codes) -> None:
    found = codes.tried("reset", ADDRESS, issued(codes).code)
    assert found is not None
    issued(codes)
    assert not codes.spend(found)


def test_a_code_ends_after_a_quarter_of_an_hour(codes: Codes) -> None:
    made = issued(codes)
    assert timedelta(minutes=14) < made.until - now() <= timedelta(minutes=15)
    OneTimeCode._get_collection().update_one({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    assert codes.tried("reset", ADDRESS, made.code) is None
    assert codes.of_token("reset", made.token) is None


def test_neither_code_nor_link_is_stored(codes: Codes) -> None:
    made = issued(codes)
    stored = str(OneTimeCode._get_collection().find_one())
    assert made.code not in stored
    assert made.token not in stored


def test_a_code_outlives_a_change_of_the_key(app: Flask) -> None:
    made = issued(Codes(Keys(("old",))))
    assert Codes(Keys(("other",))).tried("reset", ADDRESS, made.code) is None
    assert Codes(Keys(("new", "old"))).tried("reset", ADDRESS, made.code)


@pytest.mark.parametrize("text", ["", "x" * 1_000_000, "\u0000", "\uff21" * 8])
def test_what_is_no_code_and_no_token_is_none(codes: Codes, text: str) -> None:
    issued(codes)
    assert codes.tried("reset", ADDRESS, text) is None
    assert codes.of_token("reset", text) is None


def test_a_stamp_changes_with_the_password_and_with_the_address() -> None:
    stamps = [
        stamp_of({"password_hash": "a", "email_key": "b"}),
        stamp_of({"password_hash": "c", "email_key": "b"}),
        stamp_of({"password_hash": "a", "email_key": "c"}),
        stamp_of({"password_hash": "a"}),
        stamp_of({}),
        stamp_of(None),
    ]
    assert len(set(stamps)) == len(stamps)
