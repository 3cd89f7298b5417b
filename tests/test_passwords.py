"""Passwords: how they are hashed, that hashing has its own thread and a bound, which are refused, and their change."""

import os
import re
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

import pytest
from argon2 import PasswordHasher, extract_parameters
from argon2.low_level import Type
from flask import Flask
from pydantic_core import PydanticCustomError
from werkzeug.test import TestResponse

from service.documents import Account, Session
from service.identity import passwords, security
from service.identity.passwords import Hashing, common_passwords
from service.identity.security import Security, account_by_name
from tests.client import PASSWORD, Person, Phone, pointers

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
NEW = "another long pass phrase"
OLD_HASHER = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1)


@pytest.fixture(autouse=True)
def remembering_hasher() -> None:
    """Here every password is hashed."""


def log_in(app: Flask, password: str = PASSWORD, username: str = "ada") -> TestResponse:
    return Phone(app.test_client()).post("/auth", {"username": username, "password": password})


def change(person: Phone, current: Any = PASSWORD, new: Any = NEW) -> TestResponse:
    return person.put(f"{ME}/password", {"current_password": current, "new_password": new})


def stored_hash() -> str:
    return str(Account.objects.get(username="ada").password_hash)


def hashing_of(app: Flask) -> Hashing:
    security: Security = app.extensions["madang.security"]
    return security.hashing


@contextmanager
def busy(hashing: Hashing, places: int) -> Iterator[None]:
    """So many of the places for hashing are taken, by work that waits."""
    go_on = threading.Event()
    with ThreadPoolExecutor(places) as pool:
        waiting = [pool.submit(hashing.run, go_on.wait) for _ in range(places)]
        time.sleep(0.05)
        try:
            yield
        finally:
            go_on.set()
            assert [future.result() for future in waiting] == [True] * places


# The hash


def test_the_parameters_are_those_of_owasp(ada: Person) -> None:
    found = extract_parameters(stored_hash())
    assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (Type.ID, 19456, 2, 1)
    assert (found.salt_len, found.hash_len) == (16, 32)


COMPOSED = "caf\u00e9 \uac00\ub098 \ud55c\uae00"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
SPACED = COMPOSED.replace(" ", "\u00a0")


@pytest.mark.parametrize("first", [COMPOSED, DECOMPOSED, SPACED])
def test_a_password_is_the_same_from_every_keyboard(app: Flask, phone: Phone, first: str) -> None:
    assert phone.post("/v1/accounts", {"username": "ada", "password": first}).status_code == 201
    hashed = stored_hash()
    assert [log_in(app, other).status_code for other in (COMPOSED, DECOMPOSED, SPACED)] == [200] * 3
    assert log_in(app, COMPOSED.replace("\u00e9", "e")).status_code == 401
    assert stored_hash() == hashed


def test_a_hash_of_a_password_as_it_came_is_renewed_at_the_next_login(app: Flask, ada: Person) -> None:
    Account.objects.update(password_hash=passwords.HASHER.hash(DECOMPOSED))
    assert log_in(app, COMPOSED).status_code == 401
    assert log_in(app, DECOMPOSED).status_code == 200
    assert passwords.HASHER.verify(stored_hash(), COMPOSED)
    assert log_in(app, COMPOSED).status_code == 200


def test_a_password_as_it_came_may_be_the_current_one_of_a_change(app: Flask, ada: Person) -> None:
    Account.objects.update(password_hash=passwords.HASHER.hash(DECOMPOSED))
    assert change(ada, DECOMPOSED, SPACED).status_code == 204
    assert log_in(app, COMPOSED).status_code == 200


def test_the_limits_count_letters_and_not_how_they_are_sent(app: Flask, phone: Phone) -> None:
    longest = "\ud55c" * 128
    sent = unicodedata.normalize("NFD", longest)
    assert len(sent) == 384
    assert phone.post("/v1/accounts", {"username": "ada", "password": sent}).status_code == 201
    assert [log_in(app, form).status_code for form in (sent, longest)] == [200, 200]
    short = phone.post("/v1/accounts", {"username": "bob", "password": unicodedata.normalize("NFD", "\ud55c\uae00")})
    assert pointers(short) == {"/password": "too_short"}


def test_the_same_password_has_another_hash_each_time(ada: Person, bob: Person) -> None:
    assert len({account.password_hash for account in Account.objects}) == 2


def test_a_login_renews_a_hash_of_other_parameters(app: Flask, ada: Person) -> None:
    Account.objects.update(password_hash=OLD_HASHER.hash(PASSWORD))
    assert log_in(app).status_code == 200
    renewed = stored_hash()
    assert "m=19456,t=2,p=1" in renewed
    assert log_in(app).status_code == 200
    assert stored_hash() == renewed


def test_a_failed_login_renews_nothing(app: Flask, ada: Person) -> None:
    old = OLD_HASHER.hash(PASSWORD)
    Account.objects.update(password_hash=old)
    assert log_in(app, "wrong").status_code == 401
    assert stored_hash() == old


def test_a_login_that_renews_the_hash_does_not_bring_back_a_password_that_was_changed_meanwhile(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    Account.objects.update(password_hash=OLD_HASHER.hash(PASSWORD))
    changed = OLD_HASHER.hash("four green boats")
    hashing = app.extensions["madang.security"].hashing
    plain = hashing.renewed

    def renewed(*args: Any) -> str | None:
        Account.objects.update(password_hash=changed)
        made: str | None = plain(*args)
        return made

    monkeypatch.setattr(hashing, "renewed", renewed)
    assert log_in(app).status_code == 401
    assert stored_hash() == changed


def test_a_login_whose_hash_another_one_renews_meanwhile_looks_at_its_own_account_again(
    app: Flask, bob: Person, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    Account.objects.update(password_hash=OLD_HASHER.hash(PASSWORD))
    hashing = hashing_of(app)
    plain = hashing.renewed

    def renewed(*args: Any) -> str | None:
        fresh = plain(*args)
        Account.objects(id=ada.id).update(password_hash=hashing.hash(PASSWORD))
        return fresh

    monkeypatch.setattr(hashing, "renewed", renewed)
    found = app.extensions["madang.security"].authenticate("ada", PASSWORD)
    assert found["_id"] == ada.id != bob.id


def test_two_logins_that_both_renew_the_hash_both_succeed(app: Flask, ada: Person) -> None:
    Account.objects.update(password_hash=OLD_HASHER.hash(PASSWORD))
    together = Barrier(2)

    def try_it(_: int) -> int:
        together.wait()
        return log_in(app).status_code

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(try_it, range(2))) == [200, 200]


@pytest.mark.parametrize("broken", ["$argon2id$v=19$m=1", "x", "plain:" + PASSWORD])
def test_a_hash_that_cannot_be_read_matches_nothing(app: Flask, ada: Person, broken: str) -> None:
    Account.objects.update(password_hash=broken)
    assert log_in(app).status_code == 401


# The thread and the bound


def test_hashing_runs_on_a_thread_of_its_own(app: Flask) -> None:
    name = hashing_of(app).run(lambda: threading.current_thread().name)
    assert name.startswith("argon2")


@pytest.mark.parametrize(("own", "steps_back_to"), [(0, 10), (10, 10), (19, 19)])
def test_the_thread_that_hashes_steps_back_and_never_forward(
    monkeypatch: pytest.MonkeyPatch, own: int, steps_back_to: int
) -> None:
    """Without a privilege nobody may step forward: the thread would end, and each login be a 500."""
    thread, stepped = (os.PRIO_PROCESS, threading.get_native_id()), []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "getpriority", lambda *of: own if of == thread else -20)
    monkeypatch.setattr(os, "setpriority", lambda *told: stepped.append(told))
    passwords.step_back()
    assert stepped == [(*thread, steps_back_to)]


def test_where_only_a_process_has_a_priority_none_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "setpriority", None)
    passwords.step_back()


def test_a_thread_steps_back_before_it_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(passwords, "step_back", lambda: order.append("back"))
    Hashing(1).run(order.append, "hash")
    assert order == ["back", "hash"]


def test_a_login_costs_one_hash(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    plain = passwords.form_has_hash

    def form_has_hash(stored: str, form: str) -> bool:
        looked_at.append(form)
        return plain(stored, form)

    monkeypatch.setattr(passwords, "form_has_hash", form_has_hash)
    assert log_in(app).status_code == 200
    assert looked_at == [PASSWORD]


def test_nothing_is_the_password_of_no_account() -> None:
    assert Hashing(1).matches(None, "no account has this password") is False
    assert passwords.form_has_hash("x", PASSWORD) is False


def test_one_hash_is_computed_at_a_time() -> None:
    hashing, running, most = Hashing(8), [], []

    def work() -> None:
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(hashing.run, work)
    assert (len(most), max(most)) == (8, 1)


def test_other_requests_are_served_while_hashes_wait(app: Flask, ada: Person) -> None:
    with busy(hashing_of(app), 8):
        assert ada.get(ME).status_code == 200


def test_over_the_bound_every_hash_is_429(make_app: MakeApp, ada: Person) -> None:
    app = make_app(PASSWORD_HASHING_LIMIT=2)
    person = Phone(app.test_client(), ada.headers)
    with busy(hashing_of(app), 2):
        sign_up = person.post("/v1/accounts", {"username": "eve", "password": PASSWORD})
        answers = [log_in(app), log_in(app, username="nobody"), sign_up, change(person)]
    assert [answer.json["code"] for answer in answers] == ["too_many_requests"] * 4
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
    assert [log_in(app).status_code, change(person).status_code] == [200, 204]


def test_a_hash_that_fails_gives_its_place_back() -> None:
    hashing = Hashing(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            hashing.run(lambda: 1 // 0)
    assert hashing.run(lambda: "free") == "free"


def test_a_name_that_exists_takes_as_much_hashing_as_one_that_does_not(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: list[Any] = []
    verify, make = PasswordHasher.verify, PasswordHasher.hash

    def verifying(self: PasswordHasher, stored: str, password: str) -> bool:
        work.append((extract_parameters(stored), password))
        return verify(self, stored, password)

    def hashing(self: PasswordHasher, password: str) -> str:
        work.append("made")
        return make(self, password)

    monkeypatch.setattr(PasswordHasher, "verify", verifying)
    monkeypatch.setattr(PasswordHasher, "hash", hashing)
    done = []
    for username in ("ada", "nobody"):
        work.clear()
        log_in(app, "wrong", username)
        done.append([*work])
    assert done[0] == done[1]
    assert [password for _, password in done[0]] == ["wrong"]


def operations(app: Flask) -> float:
    """How many MongoDB commands this process has sent."""
    text = Phone(app.test_client()).get("/metrics").text
    return sum(float(number) for number in re.findall(r"madang_database_seconds_count\{.*\} (\S+)", text))


@pytest.mark.real
def test_a_name_that_exists_costs_no_more_of_the_database(app: Flask, ada: Person) -> None:
    counts = []
    for username in ("ada", "nobody"):
        before = operations(app)
        log_in(app, "wrong", username)
        counts.append(operations(app) - before)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("username", ["ada", "nobody", "ada@example.com", "nobody@example.com"])
@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_a_login_looks_its_account_up_once(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch, username: str, password: str
) -> None:
    looked: list[str] = []

    def counted(name: str) -> Any:
        looked.append(name)
        return account_by_name(name)

    monkeypatch.setattr(security, "account_by_name", counted)
    assert log_in(app, password, username).status_code == (200 if (username, password) == ("ada", PASSWORD) else 401)
    assert looked == [username]


# What is refused


def refused(password: Any, username: str = "ada") -> tuple[str, str]:
    """The code and the text with which a new password is refused."""
    with pytest.raises(PydanticCustomError) as raised:
        passwords.acceptable(password, username)
    return raised.value.type, raised.value.message()


def test_a_new_password_has_from_8_to_128_characters() -> None:
    assert refused(1) == ("wrong_type", "a string")
    assert refused("seven77") == ("too_short", "at least 8 characters")
    assert refused("x" * 129) == ("too_long", "at most 128 characters")
    assert [len(passwords.acceptable(text, "ada")) for text in ("eight 88", "x" * 128)] == [8, 128]


def test_where_no_name_is_known_a_password_holds_none() -> None:
    assert passwords.acceptable("seven paper lamps", "") == "seven paper lamps"


@pytest.mark.parametrize("username", [None, 5, ["ada"]])
def test_what_is_no_name_is_held_by_no_password(username: Any) -> None:
    assert passwords.new_password({"new": "my XXXX boats"}, "new", username) == "my XXXX boats"


def test_a_sign_up_without_a_password_is_told_so(phone: Phone) -> None:
    assert pointers(phone.post("/v1/accounts", {"username": "eve"})) == {"/password": "required"}


@pytest.mark.parametrize(("length", "is_brought_into_form"), [(1000, True), (1001, False)])
def test_a_text_that_is_no_password_by_far_is_not_brought_into_form(
    monkeypatch: pytest.MonkeyPatch, length: int, is_brought_into_form: bool
) -> None:
    brought: list[str] = []
    monkeypatch.setattr(passwords, "prepared", lambda text: brought.append(text) or text)
    assert refused("x" * length)[0] == "too_long"
    assert bool(brought) is is_brought_into_form


def test_the_list_of_common_passwords_is_kept_here() -> None:
    common_passwords.cache_clear()
    assert len(common_passwords()) > 15_000
    assert {"password", "12345678", "qwertyuiop", "iloveyou"} <= common_passwords()
    assert passwords.common_passwords() is common_passwords()


@pytest.mark.parametrize("password", ["password", "PassWord", "12345678", "QWERTYUIOP", "football"])
def test_a_common_password_is_refused_in_any_case(phone: Phone, password: str) -> None:
    answer = phone.post("/v1/accounts", {"username": "eve", "password": password})
    assert pointers(answer) == {"/password": "too_common"}


@pytest.mark.parametrize("password", ["adalovelace", "my name is ADA!", "ada-ada-ada"])
def test_a_password_that_holds_the_name_is_refused(ada: Person, password: str) -> None:
    assert pointers(change(ada, new=password)) == {"/new_password": "holds_username"}
    assert log_in(ada.client.application).status_code == 200


# The change


def test_after_a_change_the_new_password_is_good_and_the_old_one_is_not(app: Flask, ada: Person) -> None:
    assert change(ada).status_code == 204
    assert [log_in(app, password).status_code for password in (PASSWORD, NEW)] == [401, 200]


def test_a_change_asks_for_the_current_password(app: Flask, ada: Person) -> None:
    answer = change(ada, current="wrong")
    assert (answer.status_code, answer.json["code"]) == (401, "bad_credentials")
    assert [log_in(app, password).status_code for password in (PASSWORD, NEW)] == [200, 401]
    assert Session.objects.count() == 2


@pytest.mark.parametrize("new", ["password", "12345678", "ada is my name"])
def test_a_new_password_has_to_be_as_good_as_the_first(ada: Person, new: str) -> None:
    before = stored_hash()
    assert change(ada, new=new).status_code == 422
    assert stored_hash() == before


@pytest.mark.parametrize("body", [{}, {"current_password": PASSWORD}, {"new_password": NEW}, {"current_password": 1}])
def test_a_change_that_lacks_something_is_422(ada: Person, body: dict[str, Any]) -> None:
    assert ada.put(f"{ME}/password", body).status_code == 422


def test_of_two_changes_at_once_one_wins(app: Flask, ada: Person) -> None:
    together = Barrier(2)

    def try_it(new: str) -> int:
        together.wait()
        return change(Phone(app.test_client(), ada.headers), new=new).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(try_it, [NEW + " 1", NEW + " 2"])) == [204, 401]


def test_a_locked_account_is_told_to_the_one_who_knows_the_password_alone(app: Flask, ada: Person) -> None:
    Account._get_collection().update_one({}, {"$set": {"locked_at": Account.objects.get().created_at}})
    assert [log_in(app, password).json["code"] for password in (PASSWORD, "wrong")] == ["forbidden", "bad_credentials"]
