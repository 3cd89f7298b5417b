"""A retry never doubles a write."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.core.clock import now
from service.documents import KeptAnswer, Note, Session
from service.http import kept_bytes
from service.http.idempotency import Attempt, accounts_in
from service.identity import deletion
from service.records import store
from tests.client import PASSWORD, Person, Phone

KEY = {"Idempotency-Key": "4f6c"}
KEY_OF_BATCH = {"Idempotency-Key": "batch"}


def test_a_retry_gets_the_first_answer_and_makes_no_second_record(ada: Person) -> None:
    first = ada.post("/v1/notes", {"title": "once"}, headers=KEY)
    second = ada.post("/v1/notes", {"title": "once"}, headers=KEY)
    assert (second.status_code, second.data) == (201, first.data)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert [second.headers[name] for name in ("ETag", "Location", "Content-Type")] == [
        first.headers[name] for name in ("ETag", "Location", "Content-Type")
    ]
    assert Note._get_collection().count_documents({}) == 1


def test_an_increment_is_done_once(ada: Person) -> None:
    note = ada.make_note()
    for _ in range(3):
        answer = ada.patch(f"/v1/notes/{note['id']}", {"$inc": {"priority": 1}}, headers=KEY)
        assert answer.json["priority"] == 1
    assert ada.get(f"/v1/notes/{note['id']}").json["revision"] == 2


def test_a_delete_is_answered_the_same_twice(ada: Person) -> None:
    note = ada.make_note()
    answers = [ada.delete(f"/v1/notes/{note['id']}", headers=KEY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 204]


def test_a_replace_is_done_once(ada: Person) -> None:
    answers = [ada.put("/v1/notes/n1", {"title": "x"}, headers=KEY) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert ada.get("/v1/notes/n1").json["revision"] == 1


@pytest.mark.parametrize(("body", "status"), [({"title": ""}, 422), ({"title": "x", "id": "taken"}, 409)])
def test_a_refusal_is_kept_too(ada: Person, body: dict, status: int) -> None:
    ada.make_note(id="taken")
    first = ada.post("/v1/notes", body, headers=KEY)
    ada.delete("/v1/notes/taken")
    second = ada.post("/v1/notes", body, headers=KEY)
    assert (first.status_code, second.status_code) == (status, status)
    assert second.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/v1/notes", {"title": "other"}, {}),
        ("PUT", "/v1/notes", {"title": "one"}, {}),
        ("POST", "/v1/notebooks", {"title": "one"}, {}),
        ("POST", "/v1/notes", {"title": "one"}, {"If-Match": '"1"'}),
        ("POST", "/v1/notes", {"title": "one"}, {"If-None-Match": "*"}),
    ],
)
def test_the_same_key_on_another_request_is_a_mismatch(ada: Person, method, path, body, headers) -> None:
    ada.post("/v1/notes", {"title": "one"}, headers=KEY)
    answer = ada.send(method, path, body, headers={**KEY, **headers})
    assert answer.status_code == 405 if method == "PUT" else answer.json["code"] == "idempotency_mismatch"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b'{"title": "x", "priority": 1}', b'{"priority":1,"title":"x"}'),
        (
            b'{"title": "x", "checklist": [{"text": "a", "done": true}]}',
            b'{"checklist":[{"done":true,"text":"a"}],"title":"x"}',
        ),
        (
            b'{"title": "x", "place": {"type": "Point", "coordinates": [5, 1e1]}}',
            b'{"title":"x","place":{"coordinates":[5.0,10],"type":"Point"}}',
        ),
        (b'{"title": "\\u00e9"}', '{"title":"é"}'.encode()),
    ],
)
def test_the_same_body_in_other_words_is_the_same_request(ada: Person, first: bytes, second: bytes) -> None:
    answers = [
        ada.post("/v1/notes", data=body, content_type="application/json", headers=KEY) for body in (first, second)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].data == answers[0].data
    assert Note._get_collection().count_documents({}) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b'{"title": "x", "tags": ["a", "b"]}', b'{"title": "x", "tags": ["b", "a"]}'),
        (b'{"title": "1"}', b'{"title": 1}'),
        (b'{"title": "x", "priority": 9007199254740993}', b'{"title": "x", "priority": 9007199254740992}'),
        (b'{"title": "x", "priority": 1}', b'{"title": "x", "priority": true}'),
        (b'{"title": "x"}', b'{"title": "x", "due": null}'),
        (b"{", b"{}"),
        (b"", b"null"),
    ],
)
def test_another_body_is_another_request(ada: Person, first: bytes, second: bytes) -> None:
    ada.post("/v1/notes", data=first, content_type="application/json", headers=KEY)
    answer = ada.post("/v1/notes", data=second, content_type="application/json", headers=KEY)
    assert answer.json["code"] == "idempotency_mismatch"


def test_keys_are_the_accounts_own(ada: Person, bob: Person) -> None:
    ada.post("/v1/notes", {"title": "one"}, headers=KEY)
    assert "Idempotent-Replayed" not in bob.post("/v1/notes", {"title": "one"}, headers=KEY).headers
    assert Note._get_collection().count_documents({}) == 2


def test_a_slash_at_the_end_of_the_path_makes_no_other_request(ada: Person) -> None:
    first, second = (ada.post(path, {"title": "one"}, headers=KEY) for path in ("/v1/notes", "/v1/notes/"))
    assert (second.status_code, second.data) == (201, first.data)
    assert Note._get_collection().count_documents({}) == 1


def test_a_method_that_a_path_has_not_is_refused_with_a_key_too(ada: Person) -> None:
    for _ in range(2):
        answer = ada.post("/v1/accounts/me/export", {}, headers=KEY)
        assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")


def test_a_key_is_forgotten_after_a_day(ada: Person) -> None:
    ada.post("/v1/notes", {"title": "one"}, headers=KEY)
    KeptAnswer._get_collection().update_many({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    ada.post("/v1/notes", {"title": "two"}, headers=KEY)
    assert Note._get_collection().count_documents({}) == 2


def test_a_refusal_that_is_sent_again_challenges_as_the_first_did(ada: Person) -> None:
    body = {"current_password": "not the one", "new_password": "four green boats"}
    first, second = (
        ada.put("/v1/accounts/me/password", body, headers={"Idempotency-Key": "k"}) for _attempt in range(2)
    )
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["WWW-Authenticate"] == first.headers["WWW-Authenticate"]


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel"])
def test_a_key_is_printable_ascii(ada: Person, key: str) -> None:
    assert ada.post("/v1/notes", {"title": "x"}, headers={"Idempotency-Key": key}).status_code == 400


def test_a_read_takes_no_notice_of_a_key(ada: Person) -> None:
    ada.get("/v1/notes", headers=KEY)
    assert KeptAnswer._get_collection().count_documents({}) == 0


def test_a_sign_up_is_answered_the_same_twice(phone: Phone) -> None:
    body = {"username": "carol", "password": PASSWORD}
    first, second = (phone.post("/v1/accounts", body, headers=KEY) for _ in range(2))
    assert (second.status_code, second.data) == (201, first.data)


def test_a_sign_up_with_the_same_key_and_another_password_is_not_answered_with_it(phone: Phone) -> None:
    phone.post("/v1/accounts", {"username": "carol", "password": PASSWORD}, headers=KEY)
    answer = phone.post("/v1/accounts", {"username": "carol", "password": "another long one"}, headers=KEY)
    assert answer.status_code == 409


def test_a_sign_up_is_no_longer_kept_when_its_account_goes(phone: Phone) -> None:
    body = {"username": "carol", "password": PASSWORD}
    carol = phone.post("/v1/accounts", body, headers=KEY).json["id"]
    deletion.purge(phone.client.application.extensions["madang.registry"], carol)
    assert KeptAnswer._get_collection().count_documents({}) == 0


TOLD: list[tuple[object, set[str]]] = [
    ({"owner": "ada", "id": "note"}, {"ada"}),
    ({"username": "ada", "id": "1"}, {"1"}),
    ({"username": "ada", "account": "1", "role": "member"}, {"1"}),
    ({"id": "note"}, set()),
    (
        {"responses": [7, {"status": 204}, {"body": {"owner": "ada"}}, {"body": {"username": "bob", "id": "2"}}]},
        {"ada", "2"},
    ),
    ({"responses": "none"}, set()),
    ([{"owner": "ada"}], set()),
]


@pytest.mark.parametrize(("told", "accounts"), TOLD)
def test_whose_content_an_answer_holds_is_read_off_it(told: object, accounts: set[str]) -> None:
    assert accounts_in(told) == accounts


@pytest.mark.real
def test_an_answer_that_no_majority_knows_yet_is_not_forgotten(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ada.post("/v1/notes", {"title": "one"}, headers=KEY)
    looks, replay = iter([False, True, True]), Attempt.replay
    monkeypatch.setattr(Attempt, "replay", lambda attempt: replay(attempt) if next(looks) else None)
    again = ada.post("/v1/notes", {"title": "one"}, headers=KEY)
    assert (again.status_code, again.data) == (201, first.data)
    assert Note._get_collection().count_documents({}) == 1


def test_tokens_are_never_kept(ada: Person) -> None:
    ada.post("/auth", {"username": "ada", "password": PASSWORD}, headers=KEY)
    assert KeptAnswer._get_collection().count_documents({}) == 0


@pytest.mark.real
@pytest.mark.parametrize(("how", "again"), [("alone", [201]), ("in a batch", [201, 201]), ("atomic", [404, 201])])
def test_a_ticket_is_never_kept(ada: Person, how: str, again: list[int]) -> None:
    ask = {"method": "POST", "path": "/v1/live/tickets"}
    make = {"method": "POST", "path": "/v1/notes", "body": {"title": "x"}}

    def send() -> list[dict]:
        if how == "alone":
            answer = ada.post("/v1/live/tickets", headers=KEY)
            return [{"status": answer.status_code, "body": answer.json}]
        body = {"atomic": how == "atomic", "requests": [ask, make]}
        return ada.post("/v1/batch", body, headers=KEY).json["responses"]

    first, second = send(), send()
    assert [part["status"] for part in second] == again
    assert second[0]["body"].get("ticket") != first[0]["body"]["ticket"]
    assert first[0]["body"]["ticket"] not in stored_text()
    assert Note._get_collection().count_documents({}) == (0 if how == "alone" else 1)


def test_a_bug_is_not_kept(ada: Person, make_app, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "create", lambda *_: 1 / 0)
    assert ada.post("/v1/notes", {"title": "x"}, headers=KEY).status_code == 500
    monkeypatch.undo()
    assert ada.post("/v1/notes", {"title": "x"}, headers=KEY).status_code == 201


def test_a_batch_is_answered_the_same_twice(ada: Person) -> None:
    body = {"requests": [{"method": "POST", "path": "/v1/notes", "body": {"title": "x"}}] * 2}
    first, second = (ada.post("/v1/batch", body, headers=KEY) for _ in range(2))
    assert second.data == first.data
    assert Note._get_collection().count_documents({}) == 2


def test_a_batch_whose_answer_was_lost_before_it_was_kept_is_done_once(ada: Person) -> None:
    body = {"requests": [{"method": "POST", "path": "/v1/notes", "body": {"title": "x"}}] * 2}
    ada.post("/v1/batch", body, headers=KEY)
    drop_whole_batch()
    again = ada.post("/v1/batch", body, headers=KEY)
    assert [part["headers"]["Idempotent-Replayed"] for part in again.json["responses"]] == ["true", "true"]
    assert Note._get_collection().count_documents({}) == 2


def test_what_asks_for_a_new_login_is_not_kept(ada: Person) -> None:
    Session._get_collection().update_many({}, {"$set": {"auth_time": 1_000}})
    ada.headers = {"Authorization": f"Bearer {refreshed(ada)}"}
    body = {"requests": [{"method": "DELETE", "path": "/v1/accounts/me"}]}
    assert ada.delete("/v1/accounts/me", headers=KEY).json["code"] == "reauthentication_required"
    (part,) = ada.post("/v1/batch", body, headers=KEY_OF_BATCH).json["responses"]
    assert part["body"]["code"] == "reauthentication_required"
    ada.log_in()
    (part,) = ada.post("/v1/batch", body, headers=KEY_OF_BATCH).json["responses"]
    assert part["status"] == 204


def refreshed(person: Person) -> str:
    return str(person.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]}).json["access_token"])


def drop_whole_batch() -> None:
    kept = KeptAnswer._get_collection()
    (whole,) = [answer for answer in kept.find() if answer["body"].startswith(b'{"responses"')]
    kept.delete_one({"_id": whole["_id"]})


@pytest.mark.real
def test_an_atomic_batch_that_failed_is_answered_the_same_twice(ada: Person) -> None:
    make = {"method": "POST", "path": "/v1/notes", "body": {"title": "x", "id": "n1"}}
    body = {"atomic": True, "requests": [make, make]}
    first, second = (ada.post("/v1/batch", body, headers=KEY) for _ in range(2))
    assert [part["status"] for part in first.json["responses"]] == [424, 409]
    assert second.data == first.data
    assert Note._get_collection().count_documents({}) == 0


@pytest.mark.real
def test_an_atomic_batch_is_done_once(ada: Person) -> None:
    body = {"atomic": True, "requests": [{"method": "POST", "path": "/v1/notes", "body": {"title": "x"}}] * 2}
    first, second = (ada.post("/v1/batch", body, headers=KEY) for _ in range(2))
    assert second.data == first.data
    assert Note._get_collection().count_documents({}) == 2


@pytest.mark.real
def test_of_many_at_once_one_does_it_and_the_others_wait_or_get_its_answer(app: Flask, ada: Person) -> None:
    def send(_: int) -> tuple[int, bool]:
        person = Person(app.test_client(), ada.headers)
        answer = person.post("/v1/notes", {"title": "x"}, headers=KEY)
        assert answer.status_code == 201 or answer.json["code"] == "request_in_progress"
        return answer.status_code, "Idempotent-Replayed" in answer.headers

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(send, range(64)))
    assert answers.count((201, False)) == 1
    assert Note._get_collection().count_documents({}) == 1


# What a kept answer holds


def shared(ada: Person, bob: Person) -> str:
    """The path of a note of ada's that bob may write."""
    return f"/v1/notes/{ada.make_note(title='a secret of hers', writers=[bob.id])['id']}"


def change_of(path: str) -> dict[str, object]:
    return {"method": "PATCH", "path": path, "body": {"$inc": {"priority": 1}}}


def stored_text() -> str:
    return str(list(KeptAnswer._get_collection().find()))


def test_a_replay_is_admitted_as_a_read_is(ada: Person, bob: Person) -> None:
    path = shared(ada, bob)
    bob.make_note(title="one that he may read")
    first = bob.patch(path, {"$inc": {"priority": 1}}, headers=KEY)
    ada.patch(path, {"writers": []})
    assert bob.patch(path, {"$inc": {"priority": 1}}, headers=KEY).json["code"] == "not_found"
    ada.patch(path, {"readers": [bob.id]})
    assert bob.patch(path, {"$inc": {"priority": 1}}, headers=KEY).data == first.data
    assert ada.get(path).json["priority"] == 1


@pytest.mark.parametrize("atomic", [False, pytest.param(True, marks=pytest.mark.real)])
def test_a_replay_of_a_batch_is_admitted_as_a_read_is(ada: Person, bob: Person, atomic: bool) -> None:
    path = shared(ada, bob)
    make = {"method": "POST", "path": "/v1/notes", "body": {"title": "his own"}}
    body = {"atomic": atomic, "requests": [make, change_of(path)]}
    first = bob.post("/v1/batch", body, headers=KEY)
    assert bob.post("/v1/batch", body, headers=KEY).data == first.data
    ada.patch(path, {"writers": []})
    again = bob.post("/v1/batch", body, headers=KEY).json["responses"]
    assert [part["status"] for part in again] == [201, 404]
    assert again[0] == first.json["responses"][0]
    assert ada.get(path).json["priority"] == 1


@pytest.mark.parametrize("atomic", [False, pytest.param(True, marks=pytest.mark.real)])
def test_what_was_read_in_a_batch_is_not_kept_but_read_anew(ada: Person, bob: Person, atomic: bool) -> None:
    path = shared(ada, bob)
    reads = [
        {"method": "GET", "path": part} for part in (path, "/v1/notes?scope=shared&fields=title", "/v1/accounts/me")
    ]
    make = {"method": "POST", "path": "/v1/notes", "body": {"title": "his own"}}
    body = {"atomic": atomic, "requests": [make, *reads]}
    first = bob.post("/v1/batch", body, headers=KEY)
    assert "a secret of hers" in first.text
    assert "a secret of hers" not in stored_text()
    assert bob.post("/v1/batch", body, headers=KEY).data == first.data
    ada.patch(path, {"writers": []})
    again = bob.post("/v1/batch", body, headers=KEY)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert [part["status"] for part in again.json["responses"]] == [201, 404, 200, 200]
    assert "a secret of hers" not in again.text
    assert Note._get_collection().count_documents({"owner": bob.id}) == 1


@pytest.mark.parametrize("how", ["alone", "in a batch", pytest.param("in an atomic batch", marks=pytest.mark.real)])
def test_what_is_kept_of_an_account_goes_with_it(ada: Person, bob: Person, how: str) -> None:
    path = shared(ada, bob)
    make = {"method": "POST", "path": "/v1/notes", "body": {"title": "his own"}}
    batch = {"atomic": how == "in an atomic batch", "requests": [make, change_of(path)]}

    def send() -> TestResponse:
        if how == "alone":
            return bob.patch(path, {"$inc": {"priority": 1}}, headers=KEY)
        return bob.post("/v1/batch", batch, headers=KEY)

    assert "a secret of hers" in send().text
    assert ada.id in stored_text()
    assert ada.delete("/v1/accounts/me").status_code == 204
    assert ada.id not in stored_text()
    answer = send()
    assert ada.id not in answer.text
    assert answer.status_code == (200 if how == "in a batch" else 404)
    assert Note._get_collection().count_documents({"owner": bob.id}) == (0 if how == "alone" else 1)


def test_a_sign_up_in_a_batch_is_no_longer_kept_when_that_account_goes(app: Flask, ada: Person) -> None:
    sign_up = {"method": "POST", "path": "/v1/accounts", "body": {"username": "carol", "password": PASSWORD}}
    ada.post("/v1/batch", {"requests": [sign_up]}, headers=KEY)
    carol = Person(app.test_client())
    carol.username = "carol"
    carol.log_in()
    assert "carol" in stored_text()
    carol.delete("/v1/accounts/me")
    assert "carol" not in stored_text()


def test_what_fails_for_want_of_a_token_is_not_kept(ada: Person) -> None:
    end = {"method": "DELETE", "path": f"/v1/accounts/me/sessions/{ada.tokens['session_id']}"}
    make = {"method": "POST", "path": "/v1/notes", "body": {"title": "x"}}
    body = {"requests": [end, make]}
    assert [part["status"] for part in ada.post("/v1/batch", body, headers=KEY).json["responses"]] == [204, 401]
    ada.log_in()
    assert [part["status"] for part in ada.post("/v1/batch", body, headers=KEY).json["responses"]] == [204, 201]
    assert Note._get_collection().count_documents({}) == 1


def test_nothing_is_kept_of_a_sign_up_that_failed(phone: Phone) -> None:
    assert phone.post("/v1/accounts", {"username": "x"}, headers=KEY).status_code == 422
    assert KeptAnswer.objects.count() == 0


# How much is kept


def test_a_long_batch_is_not_kept_twice(ada: Person) -> None:
    make = {"method": "POST", "path": "/v1/notes", "body": {"title": "x", "body": "y" * 50_000}}
    body = {"requests": [make] * 10}
    first, second = (ada.post("/v1/batch", body, headers=KEY) for _ in range(2))
    assert [part["body"] for part in first.json["responses"]] == [part["body"] for part in second.json["responses"]]
    assert KeptAnswer.objects.count() == 10
    assert Note._get_collection().count_documents({}) == 10


def test_an_account_keeps_so_much_and_no_more(make_app, ada: Person, bob: Person, monkeypatch) -> None:
    app = make_app(KEPT_ANSWERS_ACCOUNT_BYTES=64_000)
    person, other = Person(app.test_client(), ada.headers), Person(app.test_client(), bob.headers)
    answers = [
        person.post("/v1/notes", {"title": "x", "body": "y" * 5_000}, headers={"Idempotency-Key": str(number)})
        for number in range(20)
    ]
    statuses = [answer.status_code for answer in answers]
    made = statuses.count(201)
    assert 8 <= made <= 12
    assert statuses == [201] * made + [429] * (20 - made)
    assert answers[-1].headers["Retry-After"] == "60"
    again = person.post("/v1/notes", {"title": "x", "body": "y" * 5_000}, headers={"Idempotency-Key": "0"})
    assert again.data == answers[0].data
    assert person.post("/v1/notes", {"title": "x"}).status_code == 201
    assert other.post("/v1/notes", {"title": "x"}, headers=KEY).status_code == 201
    assert Note._get_collection().count_documents({"owner": ada.id}) == made + 1
    KeptAnswer.objects.delete()
    monkeypatch.setattr(kept_bytes, "PAUSE", 0)
    assert person.post("/v1/notes", {"title": "x"}, headers=KEY).status_code == 201


@pytest.mark.real
def test_all_accounts_keep_so_much_and_no_more(make_app, ada: Person, bob: Person, monkeypatch) -> None:
    app = make_app(KEPT_ANSWERS_BYTES=64_000)
    monkeypatch.setattr(kept_bytes, "PAUSE", 0)
    people = [Person(app.test_client(), person.headers) for person in (ada, bob)]
    statuses = [
        people[number % 2]
        .post("/v1/notes", {"title": "x", "body": "y" * 5_000}, headers={"Idempotency-Key": str(number)})
        .status_code
        for number in range(20)
    ]
    made = statuses.count(201)
    assert 8 <= made <= 12
    assert statuses == [201] * made + [503] * (20 - made)
    KeptAnswer.objects.delete()
    assert people[0].post("/v1/notes", {"title": "x"}, headers=KEY).status_code == 201
