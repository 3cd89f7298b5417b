"""Usage: an account whose lists take long has to wait for the next one; others, and what is no list, do not."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from pymongo.errors import AutoReconnect, ExecutionTimeout, PyMongoError

from service.core.errors import TooExpensive, TooManyRequests
from service.identity import usage
from service.identity.usage import AccountUsage
from service.mongo import deadline
from service.records.reading import Reader
from service.resources import accounts
from tests.client import PASSWORD, Person, Phone

MakeApp = Callable[..., Flask]


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(usage, "time", self)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def refusal(used: AccountUsage, account: str = "ada") -> str | None:
    """The `Retry-After` that an account is told, None where it is let through."""
    try:
        used.check(account)
    except TooManyRequests as problem:
        return problem.headers["Retry-After"]
    return None


def test_what_is_used_goes_down_evenly(clock: Clock) -> None:
    used = AccountUsage(30)
    used.add("ada", 30)
    assert refusal(used) is None
    used.add("ada", 1)
    assert refusal(used) == "2"
    clock.now += 1.9
    assert refusal(used) == "1"
    clock.now += 0.2
    assert refusal(used) is None
    clock.now += 58
    used.add("ada", 29)
    assert refusal(used) is None
    assert used.levels.get("ada").seconds == pytest.approx(29.95, abs=0.01)


def test_nobody_saves_up(clock: Clock) -> None:
    used = AccountUsage(30)
    used.add("ada", 1)
    clock.now += 3600
    used.add("ada", 30.5)
    assert refusal(used) == "1"


def test_each_account_has_its_own(clock: Clock) -> None:
    used = AccountUsage(30)
    used.add("ada", 31)
    assert (refusal(used), refusal(used, "bob")) == ("2", None)


def test_accounts_that_have_used_nothing_lately_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    used = AccountUsage(30)
    for number in range(50):
        used.add(f"a{number}", 0.001)
    clock.now += 1
    used.add("ada", 1)
    assert list(used.levels.entries) == ["ada"]
    monkeypatch.setattr(used.levels, "size", 10)
    for number in range(50):
        used.add(f"a{number}", 1)
    assert len(used.levels.entries) == 10


def taking(used: AccountUsage, clock: Clock, seconds: float, error: Exception | None = None) -> None:
    """Do something for ada that takes so long."""
    with suppress(PyMongoError, TooExpensive), used.using("ada"):
        clock.now += seconds
        if error is not None:
            raise error


@pytest.mark.parametrize(("error", "counts"), [(None, True), (TooExpensive(), True), (AutoReconnect(), False)])
def test_what_fails_because_mongodb_is_away_does_not_count(clock: Clock, error: Exception | None, counts: bool) -> None:
    used = AccountUsage(30)
    taking(used, clock, 70, error)
    assert (refusal(used) is not None) == counts


@pytest.mark.parametrize("is_well", [True, False])
def test_what_is_broken_off_counts_while_mongodb_is_well(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, is_well: bool
) -> None:
    monkeypatch.setattr(deadline, "is_well", lambda: is_well)
    used = AccountUsage(30)
    taking(used, clock, 70, ExecutionTimeout("its time is up"))
    assert (refusal(used) is not None) == is_well


def test_of_an_export_the_making_counts_and_not_the_taking(clock: Clock) -> None:
    used = AccountUsage(30)

    def pieces() -> Iterator[int]:
        for number in range(3):
            clock.now += 15
            yield number

    taken = used.each("ada", pieces())
    for expected in range(3):
        assert next(taken) == expected
        clock.now += 20
    # 15 s count each time, of which 10 s are gone after 20 s.
    assert used.now(used.levels.get("ada")) == pytest.approx(15 + 7.5 - 10 - 7.5)


def test_an_export_that_is_broken_off_counts_as_far_as_it_went(clock: Clock) -> None:
    used = AccountUsage(30)

    def pieces() -> Iterator[int]:
        while True:
            clock.now += 0.04
            yield 0

    taken = used.each("ada", pieces())
    next(taken)
    taken.close()
    assert used.levels.get("ada").seconds == pytest.approx(0.04)


# In the service


@pytest.fixture
def limited(make_app: MakeApp, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An app where lists may take one second a minute, and each takes 0.4 by its own clock."""
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_LIST_SECONDS=1.0)
    rows = Reader.rows

    def slow(*args: Any) -> Any:
        clock.now += 0.4
        return rows(*args)

    monkeypatch.setattr(Reader, "rows", slow)
    return app


def test_an_account_whose_lists_take_too_long_has_to_wait(limited: Flask, ada: Person, bob: Person) -> None:
    here, others = (Phone(limited.test_client(), person.headers) for person in (ada, bob))
    assert [here.get("/v1/notes").status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = here.get("/v1/notes")
    assert (answer.json["code"], 0 < int(answer.headers["Retry-After"]) <= 20) == ("too_many_requests", True)
    refused = [here.get(path).status_code for path in ("/v1/notebooks", "/v1/accounts/me/export")]
    assert refused == [429] * 2
    assert others.get("/v1/notes").status_code == 200


def test_who_has_to_wait_for_lists_can_do_all_else(limited: Flask, ada: Person) -> None:
    here = Phone(limited.test_client(), ada.headers)
    for _ in range(4):
        here.get("/v1/notes")
    change = {"current_password": PASSWORD, "new_password": "another long pass phrase"}
    assert here.put("/v1/notes/x", {"title": "saved"}).status_code == 201
    assert here.get("/v1/notes/x").status_code == 200
    assert here.get("/v1/accounts/me/sessions").status_code == 200
    assert here.put("/v1/accounts/me/password", change).status_code == 204
    assert here.post("/auth/logout", {"everywhere": True}).status_code == 204


def test_the_lists_of_a_batch_count_one_by_one(limited: Flask, ada: Person) -> None:
    here = Phone(limited.test_client(), ada.headers)
    answer = here.post("/v1/batch", {"requests": [{"method": "GET", "path": "/v1/notes"}] * 5})
    assert [part["status"] for part in answer.json["responses"]] == [200, 200, 200, 429, 429]
    assert int(answer.headers["Retry-After"]) > 0


def test_an_export_is_counted(limited: Flask, ada: Person, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any) -> Iterator[bytes]:
        clock.now += 3
        yield b"{}"

    monkeypatch.setattr(accounts, "export", slow)
    here = Phone(limited.test_client(), ada.headers)
    assert [here.get("/v1/accounts/me/export").status_code for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("changed", [{"RATELIMIT_ENABLED": False}, {"RATELIMIT_LIST_SECONDS": 0}])
def test_without_a_limit_nothing_is_counted(
    make_app: MakeApp, ada: Person, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    app = make_app(**{"RATELIMIT_ENABLED": True, "RATELIMIT_LIST_SECONDS": 1.0, **changed})
    here = Phone(app.test_client(), ada.headers)
    assert here.get("/v1/notes").status_code == 200
    assert app.extensions["madang.usage"].levels.entries == {}
