"""What takes long is done before a transaction: nobody waits for a hash that somebody else asked for."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from pymongo.errors import OperationFailure
from werkzeug.test import TestResponse

from service.documents import Account, Event
from service.identity.passwords import Hashing
from service.mongo import deadline, transactions
from service.resources import batch
from tests.client import PASSWORD, Person, Phone

pytestmark = pytest.mark.real

MakeApp = Callable[..., Flask]
NEW = "another long pass phrase"
KEY = {"Idempotency-Key": "k"}


def sign_up(name: str, **fields: Any) -> dict[str, Any]:
    return {"method": "POST", "path": "/v1/accounts", "body": {"username": name, "password": PASSWORD, **fields}}


def change(current: str = PASSWORD, new: str = NEW) -> dict[str, Any]:
    body = {"current_password": current, "new_password": new}
    return {"method": "PUT", "path": "/v1/accounts/me/password", "body": body}


def atomic(person: Phone, *parts: dict[str, Any], **options: Any) -> TestResponse:
    return person.post("/v1/batch", {"atomic": True, "requests": list(parts)}, **options)


def statuses(answer: TestResponse) -> list[int]:
    return [part["status"] for part in answer.json["responses"]]


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each hash whether it was made in a transaction."""
    made: list[bool] = []
    run = Hashing.run
    monkeypatch.setattr(Hashing, "run", lambda *args: made.append(transactions.is_active()) or run(*args))
    return made


@pytest.mark.parametrize("headers", [{}, KEY])
def test_nothing_is_hashed_within_a_transaction(ada: Person, hashes: list[bool], headers: dict[str, str]) -> None:
    answer = atomic(ada, sign_up("bob"), {"method": "GET", "path": "/v1/notes"}, sign_up("eve"), headers=headers)
    assert statuses(answer) == [201, 200, 201]
    assert statuses(atomic(ada, change(), headers=dict.fromkeys(headers, "l"))) == [204]
    assert ada.post("/v1/accounts", sign_up("cyd")["body"], headers=headers).status_code == 201
    back = ada.put("/v1/accounts/me/password", change(NEW, PASSWORD)["body"], headers={"Idempotency-Key": "m"})
    assert back.status_code == 204
    assert len(hashes) >= 7
    assert not any(hashes)
    assert Phone(ada.client).post("/auth", {"username": "bob", "password": PASSWORD}).status_code == 200


def test_a_retry_hashes_nothing(ada: Person, hashes: list[bool]) -> None:
    sent = [
        lambda: atomic(ada, sign_up("bob"), headers=KEY),
        lambda: ada.put("/v1/accounts/me/password", change()["body"], headers={"Idempotency-Key": "l"}),
        lambda: Phone(ada.client).post("/v1/accounts", sign_up("eve")["body"], headers=KEY),
    ]
    first = [send() for send in sent]
    hashes.clear()
    again = [send() for send in sent]
    assert [answer.status_code for answer in first] == [answer.status_code for answer in again] == [200, 204, 201]
    assert all(answer.headers["Idempotent-Replayed"] == "true" for answer in again)
    assert hashes == []


def test_a_transaction_that_is_tried_again_hashes_nothing_again(
    ada: Person, hashes: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    all_or_none, tries = batch.all_or_none, []

    def conflicting(*args: Any) -> Any:
        told = all_or_none(*args)
        tries.append(told)
        if len(tries) < 3:
            transactions.try_again(OperationFailure("somebody else was faster", 112))
        return told

    monkeypatch.setattr(batch, "all_or_none", conflicting)
    assert statuses(atomic(ada, sign_up("bob"))) == [201]
    assert len(tries) == 3
    assert len(hashes) == 1


def test_what_was_wrong_beforehand_is_what_its_request_is_told(ada: Person) -> None:
    assert statuses(atomic(ada, sign_up("bob"), change("not the password"))) == [424, 401]
    assert statuses(atomic(ada, sign_up("bob"), sign_up("x"))) == [424, 422]
    assert Event._get_collection().count_documents({"account": ada.id, "kind": "login_failed"}) == 1
    assert Account._get_collection().count_documents({}) == 1


def test_the_password_is_changed_once_in_an_atomic_batch(ada: Person) -> None:
    answer = atomic(ada, change(), change(NEW, PASSWORD))
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (422, "not_allowed")
    assert ada.log_in()


def test_sign_ups_of_an_atomic_batch_count_once_each(make_app: MakeApp, ada: Person) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_SIGN_UPS="3 per hour")
    app.extensions["madang.security"].throttle.windows.storage.reset()
    here = Phone(app.test_client(), ada.headers)
    assert statuses(atomic(here, sign_up("bob"), sign_up("eve"))) == [201, 201]
    assert statuses(atomic(here, sign_up("cyd"), sign_up("dan"))) == [424, 429]
    assert Account._get_collection().count_documents({}) == 3


def test_a_batch_whose_hashes_take_all_the_time_was_not_begun(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_BEFOREHAND", 0.1)
    monkeypatch.setattr(Hashing, "hash", lambda *_: time.sleep(0.2) or "x")
    answer = atomic(ada, sign_up("bob"), sign_up("eve"))
    assert (answer.status_code, answer.json["code"]) == (503, "overloaded")
    assert Account._get_collection().count_documents({}) == 1


@pytest.mark.parametrize("headers", [{}, KEY])
def test_hashes_take_none_of_the_time_of_the_transaction(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setitem(app.config, "MONGODB_TIMEOUT", 1.0)
    hash = Hashing.hash
    monkeypatch.setattr(Hashing, "hash", lambda *args: time.sleep(0.4) or hash(*args))
    assert statuses(atomic(ada, *map(sign_up, ("bob", "eve", "cyd")), headers=headers)) == [201] * 3


def test_the_transaction_of_a_batch_ends_before_those_who_wait_for_it(
    ada: Person, monkeypatch: pytest.MonkeyPatch, app: Flask
) -> None:
    answer, left = batch.answer, []
    monkeypatch.setattr(batch, "answer", lambda *args: left.append(deadline.left()) or answer(*args))
    assert statuses(atomic(ada, sign_up("bob"))) == [201]
    assert max(left) <= app.config["MONGODB_TIMEOUT"] * 0.6
