"""Sessions that are used are looked at together: what that costs, and that who is out stays out."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from pymongo.errors import ServerSelectionTimeoutError
from structlog.testing import capture_logs

from service.core.clock import now
from service.documents import Account, Session
from service.identity import sessions
from service.identity.sessions import Sessions
from service.mongo import driver
from tests.client import Person

ME = "/v1/accounts/me"


@pytest.fixture
def kept(app: Flask) -> Sessions:
    """What the app knows of sessions; nobody renews it but the test."""
    found: Sessions = app.extensions["madang.security"].sessions
    return found


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that lets so many seconds of the monotonic clock pass."""
    passed, monotonic = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + passed[0])
    return lambda seconds: passed.__setitem__(0, passed[0] + seconds)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many sessions each look was for."""
    found: list[int] = []
    live_accounts = sessions.live_accounts

    def counted(owners: Any) -> Any:
        found.append(len(owners))
        return live_accounts(owners)

    monkeypatch.setattr(sessions, "live_accounts", counted)
    return found


def acts(kept: Sessions, person: Person) -> Any:
    return kept.identity(person.id, person.tokens["session_id"], 0)


def test_all_that_are_used_are_looked_at_by_two_reads(
    kept: Sessions, ada: Person, bob: Person, pass_time: Any, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    acts(kept, ada), acts(kept, bob)
    reads: list[str] = []
    find = driver.find
    monkeypatch.setattr(
        driver, "find", lambda of, *args, **options: reads.append(of.name) or find(of, *args, **options)
    )
    for _ in range(5):
        pass_time(0.5)
        kept.renew()
        assert acts(kept, ada).account == ada.id
        assert acts(kept, bob).account == bob.id
    assert looks == [1, 1, 2, 2, 2, 2, 2]
    assert reads == ["sessions", "accounts"] * 5


def test_more_than_one_query_asks_for_are_looked_at_in_parts(
    kept: Sessions, ada: Person, bob: Person, pass_time: Any, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "LOOKED_AT_ONCE", 1)
    acts(kept, ada), acts(kept, bob)
    for _ in range(2):
        pass_time(0.5)
        kept.renew()
        assert None not in (acts(kept, ada), acts(kept, bob))
    assert looks == [1] * 6


def test_what_is_used_no_more_is_looked_at_and_kept_no_longer(
    kept: Sessions, ada: Person, bob: Person, pass_time: Any, looks: list[int]
) -> None:
    acts(kept, ada)
    pass_time(sessions.LATELY_SECONDS - 0.1)
    kept.renew()
    acts(kept, bob)
    pass_time(0.2)
    kept.renew()
    kept.renew()
    assert looks == [1, 1, 1, 1, 1]
    assert [*kept.seen.entries] == [bob.tokens["session_id"]]
    pass_time(sessions.LATELY_SECONDS)
    kept.renew()
    assert looks == [1, 1, 1, 1, 1]
    assert kept.seen.entries == {}


def end(person: Person) -> None:
    Session.objects(account=person.id).delete()


def end_by_time(person: Person) -> None:
    Session.objects(account=person.id).update(expires_at=now() - timedelta(seconds=1))


def end_account(person: Person) -> None:
    Account.objects(id=person.id).update(deleted_at=now())


def give_away(person: Person) -> None:
    Session.objects(account=person.id).update(account="another")


@pytest.mark.parametrize("ended", [end, end_by_time, end_account, give_away])
def test_one_that_has_ended_acts_for_nobody(kept: Sessions, ada: Person, bob: Person, ended: Any) -> None:
    acts(kept, ada), acts(kept, bob)
    ended(ada)
    kept.renew()
    assert acts(kept, ada) is None
    assert acts(kept, bob).account == bob.id


def test_a_session_stays_the_one_that_it_is(kept: Sessions, ada: Person) -> None:
    def acting() -> tuple[str | None, int]:
        found = kept.identity(ada.id, ada.tokens["session_id"], 7)
        assert found is not None
        return found.session, found.auth_time

    before = acting()
    kept.renew()
    assert before == acting() == (ada.tokens["session_id"], 7)


def test_the_session_of_another_account_acts_for_nobody(kept: Sessions, ada: Person, bob: Person) -> None:
    assert kept.identity(ada.id, bob.tokens["session_id"], 0) is None
    assert acts(kept, bob).account == bob.id
    assert kept.identity(ada.id, bob.tokens["session_id"], 0) is None


def test_new_roles_hold_from_then_on(kept: Sessions, ada: Person, bob: Person) -> None:
    acts(kept, ada), acts(kept, bob)
    Account.objects(id=ada.id).update(roles=["team"])
    kept.renew()
    assert acts(kept, ada).roles == ("team",)
    assert acts(kept, bob).roles == ()


def test_one_that_is_kept_lives_for_so_long_and_no_other_does(
    kept: Sessions, ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(person: Person) -> dict[str, Any]:
        return dict(Session._get_collection().find_one({"_id": person.tokens["session_id"]}) or {})

    Session.objects.update(last_used_at=now() - timedelta(hours=1))
    hers = row(ada)
    kept.keep(bob.tokens["session_id"], timedelta(minutes=30))
    assert timedelta(minutes=29) < row(bob)["expires_at"] - now() <= timedelta(minutes=30)
    assert now() - row(bob)["last_used_at"] < timedelta(minutes=1)
    assert row(ada) == hers
    # One that has ended, but is there still, is not brought back.
    monkeypatch.setattr(sessions, "now", lambda: now() + timedelta(days=1000))
    kept.keep(ada.tokens["session_id"], timedelta(minutes=30))
    assert row(ada) == hers


def test_one_that_is_forgotten_during_a_look_stays_so(
    kept: Sessions, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log-out in this process is at once: what was read before it does not bring the session back."""
    live_accounts = sessions.live_accounts

    def overtaken(owners: Any) -> Any:
        found = live_accounts(owners)
        kept.end(ada.id)
        return found

    acts(kept, ada)
    with monkeypatch.context() as patched:
        patched.setattr(sessions, "live_accounts", overtaken)
        kept.renew()
    assert acts(kept, ada) is None


def test_what_was_read_before_the_end_is_believed_no_longer_for_coming_late(
    kept: Sessions, ada: Person, pass_time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_accounts = sessions.live_accounts

    def slow(owners: Any) -> Any:
        found = live_accounts(owners)
        end(ada)
        pass_time(sessions.CHECK_SECONDS)
        return found

    acts(kept, ada)
    with monkeypatch.context() as patched:
        patched.setattr(sessions, "live_accounts", slow)
        kept.renew()
    assert acts(kept, ada) is None


class Stop(BaseException):
    """What ends the thread of a test."""


@pytest.mark.parametrize("problem", [ServerSelectionTimeoutError("no primary"), KeyError("account")])
def test_it_goes_on_after_whatever_went_wrong(
    kept: Sessions, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    begun: list[Any] = []
    done = iter([problem, None, Stop()])

    def renew() -> None:
        if (problem := next(done)) is not None:
            raise problem

    slept: list[float] = []
    monkeypatch.setattr(sessions, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(kept, "renew", renew)
    thread = SimpleNamespace(start=lambda: None)
    monkeypatch.setattr(sessions.threading, "Thread", lambda target, **how: begun.append((target, how)) or thread)
    kept.keep_renewing()
    ((work, how),) = begun
    # A process that is to end does not wait for it.
    assert how == {"name": "sessions", "daemon": True}
    with capture_logs() as lines, pytest.raises(Stop):
        work()
    assert next(done, "all") == "all"
    assert slept == [sessions.RENEWAL_PAUSE] * 3
    assert sessions.RENEWAL_PAUSE < sessions.CHECK_SECONDS  # or each request would look for itself after all
    told = [{"event": "sessions_not_renewed", "log_level": "error", "exc_info": problem}]
    # Of MongoDB the requests tell.
    assert lines == ([] if isinstance(problem, ServerSelectionTimeoutError) else told)
