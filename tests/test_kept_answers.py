"""What is stored of an answer that is kept for a retry, how much that counts, and which of two is the one."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from pymongo.errors import AutoReconnect

from service.core.errors import BadRequest
from service.documents import KeptAnswer, Note
from service.http import idempotency
from service.http.idempotency import Attempt, fingerprint
from service.mongo import transactions
from service.records import store
from service.records.kept_answers import OVERHEAD, keyed_digest
from service.security import security
from service.streams.retries import UploadRetries
from tests.client import Person
from tests.test_functions import SECRET, ada, bob, call_read, make_service, service

__all__ = ["ada", "bob", "make_service", "service"]

KEY = {"Idempotency-Key": "one"}
PLAIN = {"_id", "account", "request", "expires_at", "status", "headers", "size", "body"}


def kept() -> dict[str, Any]:
    """The one answer that is kept."""
    (found,) = KeptAnswer._get_collection().find()
    return dict(found)


def test_an_answer_that_holds_nothing_of_others_names_none(ada: Person) -> None:
    answer = ada.post("/v1/notes", {"title": "her own"}, headers=KEY)
    assert kept().keys() == PLAIN
    assert (kept()["account"], kept()["status"], kept()["body"]) == (ada.id, 201, answer.data)
    assert kept()["size"] == len(answer.data) + OVERHEAD


def test_neither_does_that_of_a_function_which_read_nothing_of_them(ada: Person) -> None:
    ada.make_note(title="her own")
    answer = call_read(ada, "alone", {"asked": {"scope": "mine"}})
    assert kept().keys() == PLAIN
    assert kept()["size"] == len(answer.data) + OVERHEAD


def test_what_a_function_has_read_of_others_counts(ada: Person, bob: Person) -> None:
    note = ada.make_note(title=SECRET, readers=[bob.id])["id"]
    answer = call_read(bob, "alone", {"asked": {"scope": "shared"}})
    assert (kept()["others"], kept()["noted"]) == ([ada.id], [{"type": "notes", "reader": bob.id, "ids": [note]}])
    assert kept()["size"] == len(answer.data) + OVERHEAD + len(ada.id) + len(note)


def test_an_answer_names_those_whose_it_says_to_be_beside_those_of_whom_was_read(
    ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada.make_note(title=SECRET, readers=[bob.id])
    monkeypatch.setattr(idempotency, "accounts_in", lambda told: {"carol"})
    call_read(bob, "alone", {"asked": {"scope": "shared"}})
    assert kept()["others"] == sorted([ada.id, "carol"])


def test_of_what_read_too_much_of_others_the_place_alone_counts(
    ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.records.acting.MOST_NOTED", 1)
    for _ in range(2):
        ada.make_note(title=SECRET, readers=[bob.id])
    call_read(bob, "alone", {"asked": {"scope": "shared"}})
    assert kept().keys() == PLAIN - {"body"}
    assert kept()["size"] == OVERHEAD


def test_of_two_answers_to_one_request_the_first_stays(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, replay = iter([False, False]), Attempt.replay
    # Both have looked before the other was done.
    monkeypatch.setattr(Attempt, "replay", lambda attempt: replay(attempt) if next(looks, True) else None)
    first, _, third = (ada.post("/v1/notes", {"title": ""}, headers=KEY) for _ in range(3))
    assert (first.status_code, third.data) == (422, first.data)


def test_path_and_parameters_make_a_request_what_it_is(service: Flask) -> None:
    def told(path: str) -> bytes:
        with service.test_request_context(path, method="POST", json={}):
            return fingerprint()

    push = "/v1/sync/watermelon"
    assert told(push) == told(f"{push}/")
    assert len({told(path) for path in (push, f"{push}?last_pulled_at=1", f"{push}?last_pulled_at=2", "/v1/sync")}) == 4


def test_uploads_and_all_other_requests_have_one_set_of_keys(service: Flask) -> None:
    with service.test_request_context("/"):
        secret = UploadRetries(service.config, security().keys).secret
        assert idempotency.digest("ada", "a key") == keyed_digest(secret, "ada", "a key")


def test_a_key_is_good_for_a_route_that_nothing_describes(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "operation_of", lambda *_: None)
    first, again = (ada.post("/v1/notes", {"title": "x"}, headers=KEY) for _ in range(2))
    assert (first.status_code, again.data) == (201, first.data)


def test_what_was_read_of_a_type_that_there_is_no_more_is_not_told_again(ada: Person, bob: Person) -> None:
    note = ada.make_note(title=SECRET, readers=[bob.id])["id"]
    bob.make_note(title="his own")
    call_read(bob, "alone", {"asked": {"scope": "shared"}})
    for change in ({"noted.0.type": "gone"}, {"noted.0.type": "notes", "noted.0.reader": "gone"}):
        KeptAnswer._get_collection().update_one({}, {"$set": change})
        again = call_read(bob, "alone", {"asked": {"scope": "shared"}})
        assert (again.status_code, SECRET in again.text) == (404, False)
    KeptAnswer._get_collection().update_one({}, {"$set": {"noted.0.reader": bob.id, "noted.0.ids": [note, "other"]}})
    assert call_read(bob, "alone", {"asked": {"scope": "shared"}}).status_code == 404
    KeptAnswer._get_collection().update_one({}, {"$set": {"noted.0.ids": [note]}})
    assert SECRET in call_read(bob, "alone", {"asked": {"scope": "shared"}}).text


def test_who_has_just_founded_a_group_is_told_of_it_again(ada: Person) -> None:
    first, again = (ada.post("/v1/groups", {"name": "hikers"}, headers=KEY) for _ in range(2))
    assert (first.status_code, again.status_code, again.data) == (201, 201, first.data)


def test_a_path_that_ends_otherwise_makes_another_request(ada: Person) -> None:
    answers = [ada.put(f"/v1/notes/{id}", {"title": "x"}, headers=KEY) for id in ("n", "nX")]
    assert [answers[0].status_code, answers[1].json["code"]] == [201, "idempotency_mismatch"]


@pytest.mark.real
def test_what_was_written_before_a_refusal_is_undone(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    create = store.create

    def refused(*given: Any) -> None:
        create(*given)
        raise BadRequest("not so")

    monkeypatch.setattr(store, "create", refused)
    answers = [ada.post("/v1/notes", {"title": "x"}, headers=KEY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[1].data == answers[0].data
    assert Note._get_collection().count_documents({}) == 0


@pytest.mark.real
@pytest.mark.parametrize(("label", "status"), [(transactions.CONFLICT, 409), ("another", 503)])
def test_nothing_is_done_by_who_cannot_claim_the_key(
    ada: Person, monkeypatch: pytest.MonkeyPatch, label: str, status: int
) -> None:
    problem = AutoReconnect("not now")
    problem._add_error_label(label)

    def fails(_: Attempt) -> None:
        raise problem

    monkeypatch.setattr(Attempt, "claim", fails)
    assert ada.post("/v1/notes", {"title": "x"}, headers=KEY).status_code == status
    assert Note._get_collection().count_documents({}) == 0
