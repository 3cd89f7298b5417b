"""Accounts: sign-up and its rules, login, the own account, the public part of others, and the end of an account."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.documents import Account, Session
from service.identity.accounts import new_account
from service.resources import accounts
from service.security import security
from tests.client import PASSWORD, Person, Phone, pointers
from tests.types import SHIPPED

ME = "/v1/accounts/me"
FIELDS = {
    *("id", "username", "display_name", "email", "email_verified", "locale", "time_zone", "roles"),
    *("created_at", "updated_at"),
}


def sign_up(phone: Phone, **fields: Any) -> TestResponse:
    return phone.post("/v1/accounts", {"username": "eve", "password": PASSWORD, **fields})


def refused(phone: Phone, **fields: Any) -> dict[str, str]:
    """The causes that a sign-up is refused for."""
    answer = sign_up(phone, **fields)
    assert answer.status_code == 422
    assert not Account.objects
    return pointers(answer)


# Sign-up


def test_a_sign_up_makes_an_account(phone: Phone) -> None:
    answer = sign_up(phone, email="eve@example.com", display_name="Eve 이브")
    assert (answer.status_code, answer.headers["Location"]) == (201, ME)
    assert answer.json.keys() == FIELDS
    assert {name: answer.json[name] for name in ("username", "email", "email_verified", "display_name", "roles")} == {
        "username": "eve",
        "email": "eve@example.com",
        "email_verified": False,
        "display_name": "Eve 이브",
        "roles": [],
    }
    assert answer.json["created_at"] == answer.json["updated_at"]


def test_an_account_is_made_at_one_moment() -> None:
    made = [new_account({}) for _ in range(2000)]
    assert [account for account in made if account["created_at"] != account["updated_at"]] == []


def test_a_new_account_can_log_in(phone: Phone) -> None:
    sign_up(phone)
    answer = phone.post("/auth", {"username": "eve", "password": PASSWORD, "device": "a phone"})
    assert answer.status_code == 200
    assert answer.json.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "session_id"}
    assert (answer.json["token_type"], answer.json["expires_in"]) == ("Bearer", 300)
    assert Session.objects.get().device == "a phone"


@pytest.mark.parametrize("username", ["abc", "A.b_c-1", "...", "x" * 40, "-me"])
def test_a_username_of_the_allowed_characters_is_taken_as_it_is(phone: Phone, username: str) -> None:
    assert sign_up(phone, username=username).json["username"] == username


@pytest.mark.parametrize(
    "username", ["ab", "x" * 41, "a b", "a\n", "eve\n", "é" * 3, "이브이", "a/b", "a@b.c", "eve\u200b", "\uff25ve"]
)
def test_a_username_of_other_characters_is_refused(phone: Phone, username: str) -> None:
    assert refused(phone, username=username) == {"/username": "pattern"}


@pytest.mark.parametrize("username", ["eve", "EVE", "Eve"])
def test_a_username_is_taken_in_every_case(phone: Phone, username: str) -> None:
    sign_up(phone)
    answer = sign_up(phone, username=username)
    assert (answer.status_code, answer.json["code"]) == (409, "already_exists")
    assert Account.objects.count() == 1


@pytest.mark.real
def test_of_simultaneous_sign_ups_under_one_name_one_wins(app: Flask) -> None:
    together = Barrier(4)

    def try_it(username: str) -> int:
        together.wait()
        return sign_up(Phone(app.test_client()), username=username).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(try_it, ["eve", "EVE", "Eve", "eve"])) == [201, 409, 409, 409]
    assert Account.objects.count() == 1


@pytest.mark.parametrize(
    "password",
    [
        "q7!vbn&k",
        "x" * 127 + "y",
        "비밀번호는 길다",
        "🔑🗝️🔒🔓🛡️🧱🏰",
        " leading and trailing ",
        "tab\tand\nnewline",
        "é́" * 8,
    ],
)
def test_any_unicode_is_good_for_a_password(phone: Phone, password: str) -> None:
    assert sign_up(phone, password=password).status_code == 201
    assert phone.post("/auth", {"username": "eve", "password": password}).status_code == 200


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "too_short"),
        ("q7!vbn&", "too_short"),
        ("이" * 7, "too_short"),
        ("x" * 129, "too_long"),
        ("password", "too_common"),
        ("Password1", "too_common"),
        ("12345678", "too_common"),
        ("QWERTYUIOP", "too_common"),
        ("my name is eve", "holds_username"),
        ("xxxxEVExxxx", "holds_username"),
    ],
)
def test_a_weak_password_is_refused(phone: Phone, password: str, code: str) -> None:
    assert refused(phone, password=password) == {"/password": code}


def test_wrong_name_and_wrong_password_are_told_at_once(phone: Phone) -> None:
    assert refused(phone, username="e", password="x", email="y", admin=True) == {
        "/username": "pattern",
        "/password": "too_short",
        "/email": "email",
        "/admin": "unknown_field",
    }


@pytest.mark.parametrize(
    "email",
    [
        "eve",
        "eve@",
        "@example.com",
        "a@b@example.com",
        "eve@example",
        "e v@example.com",
        "",
        "x" * 250 + "@example.com",
    ],
)
def test_an_email_address_has_to_be_one(phone: Phone, email: str) -> None:
    assert set(refused(phone, email=email)) == {"/email"}


def test_a_display_name_has_at_most_100_characters(phone: Phone) -> None:
    assert refused(phone, display_name="x" * 101) == {"/display_name": "too_long"}
    assert sign_up(phone, display_name="x" * 100).status_code == 201


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("id", "me"), ("roles", ["admin"]), ("email_verified", True)),
        *(("created_at", "2026-11-22T10:00:00Z"), ("updated_at", "2026-11-22T10:00:00Z")),
    ],
)
def test_what_the_server_sets_is_read_only(phone: Phone, name: str, value: Any) -> None:
    assert refused(phone, **{name: value}) == {f"/{name}": "read_only"}


def test_the_password_is_kept_as_an_argon2id_hash_alone(phone: Phone) -> None:
    sign_up(phone)
    stored = Account._get_collection().find_one()
    assert stored["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PASSWORD not in str(stored)


# Login


@pytest.mark.parametrize("username", ["ada", "ADA", "Ada"])
def test_a_login_takes_the_name_in_any_case(ada: Person, username: str) -> None:
    assert ada.post("/auth", {"username": username, "password": PASSWORD}).status_code == 200


@pytest.mark.parametrize(
    ("username", "password"),
    [
        *(("ada", "wrong"), ("ada", ""), ("ada", PASSWORD.upper()), ("ada", PASSWORD + " ")),
        *(("eve", PASSWORD), ("", PASSWORD), ("ada ", PASSWORD), ("", ""), ("x" * 200, "x" * 200)),
    ],
)
def test_wrong_name_and_wrong_password_are_the_same(ada: Person, username: str, password: str) -> None:
    named = {"X-Request-ID": "one"}
    usual = ada.post("/auth", {"username": "ada", "password": "another wrong one"}, headers=named)
    answer = ada.post("/auth", {"username": username, "password": password}, headers=named)
    assert (answer.status_code, answer.json["code"]) == (401, "bad_credentials")
    assert answer.data == usual.data
    assert answer.headers["WWW-Authenticate"] == usual.headers["WWW-Authenticate"]


def test_a_name_that_is_not_there_costs_a_hash_too(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    with app.app_context():
        hashing = security().hashing
    run = hashing.run
    monkeypatch.setattr(hashing, "run", lambda work, *args: compared.append(args[0]) or run(work, *args))
    for username in ("ada", "nobody"):
        ada.post("/auth", {"username": username, "password": "wrong"})
    assert [text.split("$")[1:4] for text in compared] == [["argon2id", "v=19", "m=19456,t=2,p=1"]] * 2


def test_a_device_name_has_at_most_80_characters(ada: Person) -> None:
    body = {"username": "ada", "password": PASSWORD}
    assert ada.post("/auth", {**body, "device": "x" * 80}).status_code == 200
    assert pointers(ada.post("/auth", {**body, "device": "x" * 81})) == {"/device": "too_long"}


def test_the_password_as_it_was_sent_reaches_the_hash(phone: Phone) -> None:
    sign_up(phone, password="x" * 100)
    assert phone.post("/auth", {"username": "eve", "password": "x" * 99 + "y"}).status_code == 401


def test_beyond_the_places_for_hashing_a_login_is_429(app: Flask, ada: Person) -> None:
    with app.app_context():
        places = security().hashing.places
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    try:
        answer = ada.post("/auth", {"username": "ada", "password": PASSWORD})
    finally:
        places.release(taken)
    assert (answer.status_code, answer.json["code"]) == (429, "too_many_requests")
    assert int(answer.headers["Retry-After"]) >= 1
    assert ada.log_in()


# The own account


def test_the_own_account_is_the_one_of_the_sign_up(phone: Phone) -> None:
    made = sign_up(phone).json
    phone.headers = {
        "Authorization": "JWT " + phone.post("/auth", {"username": "eve", "password": PASSWORD}).json["access_token"]
    }
    assert phone.get(ME).json == {**made, "storage": {"used": 0, "limit": 2**30}}


def test_no_answer_holds_a_hash(phone: Phone, ada: Person) -> None:
    for answer in (sign_up(phone), ada.get(ME), ada.patch(ME, {}), ada.get(f"/v1/accounts/{ada.id}")):
        assert answer.status_code < 300
        assert b"argon2" not in answer.data
        assert not {"password", "password_hash", "username_key"} & set(answer.json)


def test_display_name_and_email_can_be_changed_and_cleared(ada: Person) -> None:
    changed = ada.patch(ME, {"display_name": "Ada L.", "email": "ada@example.com"}).json
    assert (changed["display_name"], changed["email"]) == ("Ada L.", "ada@example.com")
    assert changed["updated_at"] >= changed["created_at"]
    cleared = ada.patch(ME, {"email": None}).json
    assert (cleared["display_name"], cleared["email"]) == ("Ada L.", None)
    assert ada.get(ME).json == cleared


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("locale", ["ko", "ko-KR", "zh-Hant-TW", "de-CH-1996"], ["", "k", "ko_KR", "ko-", "한국어", "ko\n", "a-" * 20]),
        (
            "time_zone",
            ["Asia/Seoul", "UTC", "America/Argentina/Ushuaia"],
            ["", "Asia", "asia/seoul", "+09:00", "../UTC"],
        ),
    ],
)
def test_an_account_has_a_locale_and_a_time_zone(ada: Person, name: str, good: list[str], bad: list[str]) -> None:
    for value in [*good, None]:
        assert ada.patch(ME, {name: value}).json[name] == value
    for value in bad:
        assert set(pointers(ada.patch(ME, {name: value}))) == {f"/{name}"}


def test_a_sign_up_may_name_locale_and_time_zone(phone: Phone) -> None:
    answer = sign_up(phone, locale="ko-KR", time_zone="Asia/Seoul")
    assert (answer.json["locale"], answer.json["time_zone"]) == ("ko-KR", "Asia/Seoul")


@pytest.mark.parametrize("email", ["new@example.com", None])
def test_another_address_is_not_verified(ada: Person, email: str | None) -> None:
    Account.objects.update(email="ada@example.com", email_verified=True)
    assert ada.patch(ME, {"display_name": "Ada"}).json["email_verified"] is True
    assert ada.patch(ME, {"email": email}).json["email_verified"] is False


def test_the_same_address_stays_verified(ada: Person) -> None:
    Account.objects.update(email="ada@example.com", email_verified=True)
    assert ada.patch(ME, {"email": "ada@example.com"}).json["email_verified"] is True


@pytest.mark.parametrize("name", ["username", "id", "roles", "email_verified", "created_at", "updated_at"])
def test_the_rest_of_an_account_is_read_only(ada: Person, name: str) -> None:
    before = ada.get(ME).json
    for body in ({name: before[name]}, {name: None}, {name: "x"}):
        assert pointers(ada.patch(ME, body)) == {f"/{name}": "read_only"}
    assert ada.get(ME).json == before


@pytest.mark.parametrize("operators", [{"$push": {"roles": "admin"}}, {"$add_to_set": {"roles": "admin"}}])
def test_nobody_gives_themselves_a_role(ada: Person, operators: dict[str, Any]) -> None:
    assert pointers(ada.patch(ME, operators)) == {f"/{next(iter(operators))}/roles": "read_only"}


def test_two_changes_of_different_fields_both_stay(ada: Person) -> None:
    ada.patch(ME, {"display_name": "Ada"})
    assert ada.patch(ME, {"email": "ada@example.com"}).json["display_name"] == "Ada"


# Others


def test_of_others_only_the_public_part_is_shown(ada: Person, bob: Person) -> None:
    bob.patch(ME, {"email": "bob@example.com", "display_name": "Bob"})
    answer = ada.get(f"/v1/accounts/{bob.id}")
    assert answer.json == {"id": bob.id, "username": "bob", "display_name": "Bob"}


@pytest.mark.parametrize("id", ["nobody", "ada", "$ne", "ME"])
def test_an_account_that_is_not_there_is_404(ada: Person, id: str) -> None:
    assert ada.get(f"/v1/accounts/{id}").json["code"] == "not_found"


@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST", "DELETE"])
def test_others_cannot_be_changed(ada: Person, bob: Person, method: str) -> None:
    answer = ada.send(method, f"/v1/accounts/{bob.id}", {"display_name": "x"})
    assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, {"GET", "HEAD", "OPTIONS"})
    assert Account.objects.get(id=bob.id).display_name is None


@pytest.mark.parametrize("path", [ME, "/v1/accounts/x"])
def test_without_a_token_no_account_is_shown(phone: Phone, path: str) -> None:
    assert phone.get(path).json["code"] == "not_authenticated"


# The end


def test_a_deleted_account_is_gone_with_all_that_it_owns(ada: Person, bob: Person) -> None:
    ada.make_note()
    ada.make_notebook()
    kept = bob.make_note(writers=[ada.id])
    assert ada.delete(ME).status_code == 204
    assert "'ada'" not in str(list(Account._get_collection().find()))
    assert [session.account for session in Session.objects] == [bob.id]
    alive = {"purge_at": {"$exists": False}}
    assert [record["_id"] for document in SHIPPED for record in document._get_collection().find(alive)] == [kept["id"]]


def test_the_tokens_of_a_deleted_account_are_dead_at_once(app: Flask, ada: Person) -> None:
    other = Phone(app.test_client(), ada.headers)
    ada.log_in()
    assert other.get(ME).status_code == 200
    ada.delete(ME)
    assert [phone.get(ME).json["code"] for phone in (ada, other)] == ["not_authenticated"] * 2
    assert ada.post("/auth", {"username": "ada", "password": PASSWORD}).json["code"] == "bad_credentials"


def test_the_name_of_a_deleted_account_is_free_again(app: Flask, ada: Person) -> None:
    ada.delete(ME)
    assert Person.sign_up(app.test_client(), "ada").id != ada.id


def test_an_old_login_does_not_delete_an_account(app: Flask, ada: Person) -> None:
    with app.app_context():
        token = security().tokens.issue(ada.id, ada.tokens["session_id"], ada_login(ada) - 301)
    app.extensions["madang.security"].sessions.seen.entries.clear()
    answer = ada.delete(ME, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json["code"]) == (403, "reauthentication_required")
    assert ada.get(ME).status_code == 200


@pytest.mark.parametrize("email", ["eve@example.com", None])
def test_an_old_login_does_not_give_up_a_verified_address(app: Flask, ada: Person, email: str | None) -> None:
    Account.objects.update(email="ada@example.com", email_verified=True, email_key="ada@example.com")
    with app.app_context():
        token = security().tokens.issue(ada.id, ada.tokens["session_id"], ada_login(ada) - 301)
    old = {"Authorization": f"Bearer {token}"}
    assert ada.patch(ME, {"email": email}, headers=old).json["code"] == "reauthentication_required"
    assert ada.patch(ME, {"email": "ada@example.com", "locale": "ko"}, headers=old).json["email_verified"] is True
    assert ada.patch(ME, {"email": email}).json["email_verified"] is False
    assert "email_key" not in Account._get_collection().find_one()


def test_an_address_that_is_verified_meanwhile_is_not_another_one(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sets the address of somebody, in the moment in which their own is verified, has not verified that."""
    ada.patch(ME, {"email": "victim@example.com"})
    patched = accounts.change_of

    def while_another_is_verified(account: Any, wanted: Any) -> Any:
        monkeypatch.setattr(accounts, "change_of", patched)
        Account.objects.update(email="ada@example.com", email_verified=True, email_key="ada@example.com")
        return patched(account, wanted)

    monkeypatch.setattr(accounts, "change_of", while_another_is_verified)
    answer = ada.patch(ME, {"email": "victim@example.com"}).json
    assert (answer["email"], answer["email_verified"]) == ("victim@example.com", False)


def test_what_counts_is_the_auth_time_of_the_token_that_was_sent(app: Flask, ada: Person) -> None:
    assert ada.get(ME).status_code == 200
    with app.app_context():
        token = security().tokens.issue(ada.id, ada.tokens["session_id"], ada_login(ada) - 301)
    assert ada.delete(ME, headers={"Authorization": f"Bearer {token}"}).status_code == 403


def ada_login(ada: Person) -> int:
    """When Ada gave her password, in seconds since the epoch."""
    return int(Session.objects.get(id=ada.tokens["session_id"]).auth_time)


def test_an_account_that_has_gone_since_its_token_was_looked_at_can_do_nothing(ada: Person) -> None:
    assert ada.get(ME).status_code == 200
    Account._get_collection().delete_many({})
    answer = ada.get(ME)
    assert (answer.status_code, answer.json["detail"]) == (401, "the account is gone")
