"""Challenges by themselves: whose they are, how long they are good, and that one is spent once."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import Challenge, SpentToken
from service.identity import challenges
from service.identity.challenges import OpenChallenges, make_challenge, set_up_by, spend_challenge, tried_challenge

ACCOUNT = {"_id": "ada", "password_hash": "x"}
LIFE = timedelta(minutes=5)
OURS = OpenChallenges([b"in use", b"older"], LIFE)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """The time at which challenges are made and looked at."""
    found = now().replace(microsecond=0)
    monkeypatch.setattr(challenges, "now", lambda: found)
    return found


# --- For an account --------------------------------------------------------------------------------------------------


def test_a_new_challenge_takes_the_place_of_the_one_for_the_same_alone(app: Flask) -> None:
    for subject, sealed in (("first", b"1"), ("second", b"2"), ("second", b"3")):
        make_challenge("set-up", subject, ACCOUNT, LIFE, {"sealed": sealed})
    tried = [tried_challenge("set-up", subject) for subject in ("first", "second", "third")]
    assert [one and one["sealed"] for one in tried] == [b"1", b"3", None]


def test_a_challenge_is_for_one_purpose(app: Flask) -> None:
    make_challenge("set-up", "subject", ACCOUNT, LIFE, {})
    assert tried_challenge("second factor", "subject") is None
    assert tried_challenge("set-up", "subject") is not None


def test_a_challenge_is_tried_five_times(app: Flask) -> None:
    make_challenge("set-up", "subject", ACCOUNT, LIFE, {})
    tries = [tried_challenge("set-up", "subject") for _ in range(6)]
    assert [one is not None for one in tries] == [True] * 5 + [False]


def test_a_subject_that_is_too_long_is_not_looked_at(app: Flask) -> None:
    for characters, is_found in ((300, True), (301, False)):
        make_challenge("set-up", "x" * characters, ACCOUNT, LIFE, {})
        assert (tried_challenge("set-up", "x" * characters) is not None) == is_found


def test_to_spend_one_leaves_the_others(app: Flask) -> None:
    for subject in ("first", "second"):
        make_challenge("set-up", subject, ACCOUNT, LIFE, {})
    second = tried_challenge("set-up", "second")
    assert second is not None
    assert [spend_challenge(second), spend_challenge(second)] == [True, False]
    assert [row["account"] for row in Challenge._get_collection().find()] == ["ada"]
    assert tried_challenge("set-up", "first") is not None


def test_a_set_up_is_of_one_account_session_and_token() -> None:
    all_of_them = {set_up_by({"_id": id}, session, token) for id in "ab" for session in "cd" for token in "ef"}
    assert len(all_of_them) == 8


# --- For whoever comes -----------------------------------------------------------------------------------------------


def test_an_open_challenge_ends_when_its_life_has_passed(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    challenge = OURS.make()
    assert OURS.end_of(challenge) == moment + LIFE
    monkeypatch.setattr(challenges, "now", lambda: moment + LIFE - timedelta(milliseconds=1))
    assert OURS.end_of(challenge) == moment + LIFE
    monkeypatch.setattr(challenges, "now", lambda: moment + LIFE)
    assert OURS.end_of(challenge) is None


def test_the_life_of_an_open_challenge_does_not_hang_on_where_the_server_stands(
    monkeypatch: pytest.MonkeyPatch, moment: datetime
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Seoul")
        time.tzset()
        challenge = OURS.make()
        assert OURS.end_of(challenge) == moment + LIFE
    time.tzset()
    assert int.from_bytes(challenge[32:40], "big") == (moment + LIFE).replace(tzinfo=UTC).timestamp()


def test_an_open_challenge_is_ours_by_the_key_that_made_it() -> None:
    by_older, by_next = OpenChallenges([b"older"], LIFE), OpenChallenges([b"next", b"in use"], LIFE)
    challenge = OURS.make()
    assert OURS.end_of(by_older.make()) is not None
    assert by_next.end_of(challenge) is not None
    assert OpenChallenges([b"stranger"], LIFE).end_of(challenge) is None
    assert by_older.end_of(challenge) is None


def test_no_part_of_an_open_challenge_can_be_changed() -> None:
    challenge = OURS.make()
    for at in range(len(challenge)):
        changed = bytearray(challenge)
        changed[at] ^= 1
        assert OURS.end_of(bytes(changed)) is None
    assert {OURS.end_of(challenge[:length]) for length in range(len(challenge))} == {None}


def test_an_open_challenge_is_spent_once_and_noted_until_it_ends(app: Flask, moment: datetime) -> None:
    first, second = OURS.make(), OURS.make()
    assert [OURS.spend(one) for one in (first, first, second)] == [True, False, True]
    assert [row["expires_at"] for row in SpentToken._get_collection().find()] == [moment + LIFE] * 2
    assert OURS.end_of(first) is not None


def test_what_is_no_open_challenge_of_ours_is_not_noted_as_spent(app: Flask) -> None:
    assert OURS.spend(OpenChallenges([b"stranger"], LIFE).make()) is False
    assert SpentToken._get_collection().count_documents({}) == 0
