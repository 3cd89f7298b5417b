"""A verified address: how an account comes to one, signs in with it, and what its reader can do without a password."""

import re
import threading
import unicodedata
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from mongoengine.connection import get_db
from werkzeug.test import TestResponse

from service.core.clock import now
from service.documents import Account, Event, OneTimeCode, OutboxItem, Session
from service.identity.codes import CODE_CHARACTERS
from service.security import security
from tests.client import PASSWORD, Person, Phone, pointers
from tests.mailbox import Mail, Mailbox
from tests.racing import statuses

ME = "/v1/accounts/me"
ADDRESS = "ada@example.com"
NEW = "three green boats"
RESET, CODE = "/auth/password-reset", "/auth/code"
CODE_IN_MAIL = re.compile(rf"\b[{CODE_CHARACTERS}]{{8}}\b")


@pytest.fixture
def mails(app: Flask) -> Mailbox:
    return Mailbox(app)


@pytest.fixture(autouse=True)
def fresh_counters(app: Flask) -> Iterator[None]:
    yield
    for name in ("throttle_windows", "throttle_counters"):
        get_db()[name].delete_many({})


def one_mail(mails: Mailbox) -> Mail:
    (found,) = mails.collect()
    return found


def code_in(mail: Mail) -> str:
    found = CODE_IN_MAIL.search(mail.text)
    assert found, mail.text
    return found[0]


def token_in(mail: Mail) -> str:
    found = re.search(r"token=([\w-]{43})", mail.text)
    assert found, mail.text
    return found[1]


def wrong(code: str) -> str:
    return ("A" if code[0] != "A" else "B") + code[1:]


def verified(person: Person, mails: Mailbox, address: str = ADDRESS) -> Person:
    """A person whose address is verified."""
    assert person.put(f"{ME}/email", {"email": address}).status_code == 202
    answer = person.post(f"{ME}/email/verification", {"code": code_in(one_mail(mails))})
    assert answer.status_code == 200, answer.json
    return person


def confirmed(phone: Phone, code: str, address: str = ADDRESS, password: str = NEW) -> TestResponse:
    return phone.post(f"{RESET}/confirmation", {"email": address, "code": code, "new_password": password})


def asked(phone: Phone, path: str, mails: Mailbox, address: str = ADDRESS) -> Mail:
    assert phone.post(path, {"email": address}).status_code == 202
    return one_mail(mails)


def log_in(phone: Phone, name: str, password: str = PASSWORD) -> TestResponse:
    return phone.post("/auth", {"username": name, "password": password})


# To verify


@pytest.mark.parametrize("address", ["미나@example.com", "jos\u00e9@b\u00fccher.example"])
def test_an_address_in_any_script_is_verified_and_belongs_to_one_account(
    ada: Person, bob: Person, phone: Phone, mails: Mailbox, address: str
) -> None:
    verified(ada, mails, address)
    assert (ada.get(ME).json["email"], ada.get(ME).json["email_verified"]) == (address, True)
    # As another keyboard sends it: the marks apart from their letters, and in capitals.
    other = unicodedata.normalize("NFD", address).upper()
    assert log_in(phone, other).status_code == 200
    assert bob.put(f"{ME}/email", {"email": other}).status_code == 202
    assert CODE_IN_MAIL.search(one_mail(mails).text) is None
    assert confirmed(phone, code_in(asked(phone, RESET, mails, other)), other).status_code == 204
    assert log_in(phone, address, NEW).status_code == 200
    assert bob.patch(ME, {"email": address}).json["email_verified"] is False


def test_a_new_address_is_that_of_the_account_when_its_code_comes_back(ada: Person, mails: Mailbox) -> None:
    ada.patch(ME, {"email": "old@example.com"})
    answer = ada.put(f"{ME}/email", {"email": ADDRESS})
    assert (answer.status_code, answer.json) == (202, {"expires_in": 900})
    assert (ada.get(ME).json["email"], ada.get(ME).json["email_verified"]) == ("old@example.com", False)
    mail = one_mail(mails)
    assert mail.to == ADDRESS
    answer = ada.post(f"{ME}/email/verification", {"code": code_in(mail)})
    assert (answer.status_code, answer.json["email"], answer.json["email_verified"]) == (200, ADDRESS, True)
    assert {**answer.json, "storage": {"used": 0, "limit": 2**30}} == ada.get(ME).json


def test_the_code_of_one_account_is_nothing_to_another(ada: Person, bob: Person, mails: Mailbox) -> None:
    ada.put(f"{ME}/email", {"email": ADDRESS})
    code = code_in(one_mail(mails))
    assert bob.post(f"{ME}/email/verification", {"code": code}).json["code"] == "bad_credentials"
    assert ada.post(f"{ME}/email/verification", {"code": code}).status_code == 200
    assert ada.post(f"{ME}/email/verification", {"code": code}).json["code"] == "bad_credentials"


def test_the_code_that_counts_is_that_of_the_last_address(ada: Person, mails: Mailbox) -> None:
    ada.put(f"{ME}/email", {"email": "typo@example.com"})
    first = code_in(one_mail(mails))
    ada.put(f"{ME}/email", {"email": ADDRESS})
    assert ada.post(f"{ME}/email/verification", {"code": first}).status_code == 401
    assert ada.post(f"{ME}/email/verification", {"code": code_in(one_mail(mails))}).json["email"] == ADDRESS


@pytest.mark.parametrize("other", ["ADA@example.com", "ada@EXAMPLE.com", "ada@ｅｘａｍｐｌｅ.com"])  # noqa: RUF001
def test_a_verified_address_belongs_to_one_account(ada: Person, bob: Person, mails: Mailbox, other: str) -> None:
    verified(ada, mails)
    answer = bob.put(f"{ME}/email", {"email": other})
    assert (answer.status_code, answer.json) == (202, {"expires_in": 900})
    mail = one_mail(mails)
    assert CODE_IN_MAIL.search(mail.text) is None
    assert ada.get(ME).json["email_verified"] is True


def test_of_two_who_verify_one_address_the_first_has_it(ada: Person, bob: Person, mails: Mailbox) -> None:
    ada.put(f"{ME}/email", {"email": ADDRESS})
    of_ada = code_in(one_mail(mails))
    bob.put(f"{ME}/email", {"email": ADDRESS.upper()})
    of_bob = code_in(one_mail(mails))
    assert bob.post(f"{ME}/email/verification", {"code": of_bob}).status_code == 200
    answer = ada.post(f"{ME}/email/verification", {"code": of_ada})
    assert (answer.status_code, answer.json["code"], pointers(answer)) == (
        *(409, "already_exists"),
        {"/email": "not_unique"},
    )
    assert ada.get(ME).json["email_verified"] is False


def test_an_unverified_address_belongs_to_nobody(ada: Person, bob: Person, mails: Mailbox, phone: Phone) -> None:
    ada.patch(ME, {"email": ADDRESS})
    assert log_in(phone, ADDRESS).status_code == 401
    verified(bob, mails)
    assert log_in(phone, ADDRESS).status_code == 200


@pytest.mark.parametrize(
    "email", ["", "ada", "ü ü@example.com", "\u202eada@example.com", "a@b@example.com", "x" * 1_000_000, 1, None, []]
)
def test_what_is_no_address_is_refused(ada: Person, phone: Phone, email: Any) -> None:
    for answer in (ada.put(f"{ME}/email", {"email": email}), phone.post(RESET, {"email": email})):
        assert (answer.status_code, set(pointers(answer))) == (422, {"/email"})


def old_login(app: Flask, person: Person) -> dict[str, str]:
    with app.app_context():
        session = Session._get_collection().find_one({"_id": person.tokens["session_id"]})
        token = security().tokens.issue(person.id, session["_id"], session["auth_time"] - 301)
    return {"Authorization": f"Bearer {token}"}


def test_a_new_address_asks_for_a_recent_login(app: Flask, ada: Person) -> None:
    answer = ada.put(f"{ME}/email", {"email": ADDRESS}, headers=old_login(app, ada))
    assert (answer.status_code, answer.json["code"]) == (403, "reauthentication_required")


def test_a_guest_becomes_a_full_account_by_an_address_and_needs_no_recent_login(
    app: Flask, phone: Phone, mails: Mailbox
) -> None:
    guest = Person(phone.client)
    guest.tokens = phone.post("/auth/guest").json
    guest.headers = {"Authorization": f"Bearer {guest.tokens['access_token']}"}
    guest.id = guest.get(ME).json["id"]
    guest.headers = old_login(app, guest)
    verified(guest, mails)
    assert "guest_seen_at" not in Account._get_collection().find_one()
    assert phone.post(f"{CODE}/confirmation", {"email": ADDRESS, "code": code_in(asked(phone, CODE, mails))}).json
    assert guest.put(f"{ME}/email", {"email": "ada@example.org"}).json["code"] == "reauthentication_required"


def test_the_reader_of_the_old_address_hears_of_the_new_one(ada: Person, mails: Mailbox) -> None:
    verified(ada, mails)
    ada.put(f"{ME}/email", {"email": "ada@example.org"})
    ada.post(f"{ME}/email/verification", {"code": code_in(one_mail(mails))})
    mail = one_mail(mails)
    assert mail.to == ADDRESS
    assert "ada@example.org" not in mail.text
    assert ada.patch(ME, {"email": None}).json["email_verified"] is False
    mail = one_mail(mails)
    assert mail.to == "ada@example.org"
    assert "has no address." in " ".join(mail.text.split())


def test_a_change_of_the_password_makes_a_code_void(ada: Person, mails: Mailbox) -> None:
    ada.put(f"{ME}/email", {"email": ADDRESS})
    code = code_in(one_mail(mails))
    ada.put(f"{ME}/password", {"current_password": PASSWORD, "new_password": NEW})
    assert ada.post(f"{ME}/email/verification", {"code": code}).status_code == 401


@pytest.mark.real
def test_a_retry_of_a_verification_has_its_answer_and_a_wrong_code_counts_in_spite_of_its_key(
    ada: Person, mails: Mailbox
) -> None:
    ada.put(f"{ME}/email", {"email": ADDRESS}, headers={"Idempotency-Key": "ask"})
    code = code_in(one_mail(mails))
    for number in range(3):
        headers = {"Idempotency-Key": f"try {number}"}
        assert ada.post(f"{ME}/email/verification", {"code": wrong(code)}, headers=headers).status_code == 401
    assert OneTimeCode._get_collection().find_one()["tries"] == 3
    first, second = (
        ada.post(f"{ME}/email/verification", {"code": code}, headers={"Idempotency-Key": "k"}) for _ in range(2)
    )
    assert (first.status_code, first.json) == (200, second.json)
    assert second.headers["Idempotent-Replayed"] == "true"


@pytest.mark.real
def test_a_code_in_an_atomic_batch(ada: Person, mails: Mailbox) -> None:
    ada.put(f"{ME}/email", {"email": ADDRESS})
    requests = [
        {"method": "POST", "path": f"{ME}/email/verification", "body": {"code": code_in(one_mail(mails))}},
        {"method": "PATCH", "path": ME, "body": {"locale": "ko"}},
    ]
    answer = ada.post("/v1/batch", {"atomic": True, "requests": requests})
    assert [part["status"] for part in answer.json["responses"]] == [200, 200]
    assert ada.get(ME).json["email_verified"] is True


# To log in


@pytest.mark.parametrize("name", [ADDRESS, "ADA@Example.COM", "ada", "ADA"])
def test_a_verified_address_is_a_name_to_log_in_with(ada: Person, mails: Mailbox, phone: Phone, name: str) -> None:
    verified(ada, mails)
    assert log_in(phone, name).status_code == 200
    assert log_in(phone, name, "wrong").json["code"] == "bad_credentials"


def test_guesses_by_name_and_by_address_count_together(make_app: Any, ada: Person, mails: Mailbox) -> None:
    verified(ada, mails)
    phone = Phone(make_app(RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="4 per hour").test_client())
    assert [log_in(phone, name, "wrong").status_code for name in ("ada", ADDRESS) * 2] == [401] * 4
    assert [log_in(phone, name).status_code for name in ("ada", ADDRESS)] == [429] * 2


# To reset


def test_a_code_sets_a_new_password_and_ends_all_sessions(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    code = code_in(asked(phone, RESET, mails))
    answer = confirmed(phone, code)
    assert (answer.status_code, answer.data) == (204, b"")
    assert ada.get(ME).status_code == 401
    assert ada.post("/auth/refresh", {"refresh_token": ada.tokens["refresh_token"]}).status_code == 401
    assert [log_in(phone, "ada", password).status_code for password in (PASSWORD, NEW)] == [401, 200]
    assert one_mail(mails).to == ADDRESS
    assert confirmed(phone, code).json["code"] == "bad_credentials"


def test_a_link_sets_a_new_password_once(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    token = token_in(asked(phone, RESET, mails))
    body = {"token": token, "new_password": NEW}
    answers = [phone.post(f"{RESET}/confirmation", body).status_code for _ in range(2)]
    assert answers == [204, 401]
    assert log_in(phone, "ada", NEW).status_code == 200


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, {"/new_password"}),
        ({"new_password": NEW}, {"/email", "/code"}),
        ({"new_password": NEW, "email": ADDRESS}, {"/code"}),
        ({"new_password": NEW, "token": "x", "code": "ABCD2345"}, {"/code"}),
        ({"new_password": "short", "email": ADDRESS, "code": "ABCD2345"}, {"/new_password"}),
        ({"new_password": NEW, "token": 1}, {"/token"}),
    ],
)
def test_a_reset_names_what_it_lacks(phone: Phone, body: dict[str, Any], told: set[str]) -> None:
    answer = phone.post(f"{RESET}/confirmation", body)
    assert (answer.status_code, set(pointers(answer))) == (422, told)


def test_a_password_that_nobody_may_have_takes_no_try(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    code = code_in(asked(phone, RESET, mails))
    for _ in range(6):
        assert pointers(confirmed(phone, code, password="password1")) == {"/new_password": "too_common"}
    assert pointers(confirmed(phone, code, password="i am ada of all")) == {"/new_password": "holds_username"}
    assert confirmed(phone, code).status_code == 204


def test_a_second_code_makes_the_first_one_void(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    first, second = code_in(asked(phone, RESET, mails)), code_in(asked(phone, RESET, mails))
    assert [confirmed(phone, code).status_code for code in (first, second)] == [401, 204]


@pytest.mark.parametrize("change", ["password", "address"])
def test_a_change_makes_an_open_reset_void(ada: Person, mails: Mailbox, phone: Phone, change: str) -> None:
    verified(ada, mails)
    mail = asked(phone, RESET, mails)
    if change == "password":
        ada.put(f"{ME}/password", {"current_password": PASSWORD, "new_password": "seven paper lamps"})
    else:
        ada.patch(ME, {"email": None})
        ada.put(f"{ME}/email", {"email": "ada@example.org"})
    assert confirmed(phone, code_in(mail)).status_code == 401
    body = {"token": token_in(mail), "new_password": NEW}
    assert phone.post(f"{RESET}/confirmation", body).status_code == 401


def test_a_deleted_account_takes_its_codes_with_it(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    mail = asked(phone, RESET, mails)
    assert ada.delete(ME).status_code == 204
    assert confirmed(phone, code_in(mail)).status_code == 401
    assert OneTimeCode._get_collection().find_one() is None
    assert ADDRESS not in str(list(Account._get_collection().find()))


def test_a_locked_account_stays_locked_after_a_reset(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    Account.objects.update(locked_at=now())
    assert confirmed(phone, code_in(asked(phone, RESET, mails))).status_code == 204
    assert log_in(phone, "ada", NEW).json["code"] == "forbidden"
    answer = phone.post(f"{CODE}/confirmation", {"email": ADDRESS, "code": code_in(asked_again(phone, mails))})
    assert answer.json["code"] == "forbidden"


def asked_again(phone: Phone, mails: Mailbox) -> Mail:
    mails.collect()
    return asked(phone, CODE, mails)


# To sign in by code


@pytest.fixture
def open_phone(make_app: Any) -> Phone:
    """A phone on an app where an unknown address becomes an account."""
    return Phone(make_app(SIGN_UP_BY_CODE=True).test_client())


def test_a_code_signs_in(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    mail = asked(phone, CODE, mails)
    body = {"email": "ADA@example.com", "code": code_in(mail), "device": "tablet"}
    answer = phone.post(f"{CODE}/confirmation", body)
    assert answer.json.keys() == ada.tokens.keys()
    phone.headers = {"Authorization": f"Bearer {answer.json['access_token']}"}
    assert phone.get(ME).json["id"] == ada.id
    assert {row["device"] for row in phone.get(f"{ME}/sessions").json["items"]} == {None, "tablet"}
    assert phone.post(f"{CODE}/confirmation", body).json["code"] == "bad_credentials"


def test_an_unknown_address_becomes_an_account_where_that_is_open(open_phone: Phone, mails: Mailbox) -> None:
    body = {"email": ADDRESS, "code": code_in(asked(open_phone, CODE, mails))}
    answer = open_phone.post(f"{CODE}/confirmation", body)
    open_phone.headers = {"Authorization": f"Bearer {answer.json['access_token']}"}
    account = open_phone.get(ME).json
    assert (account["username"], account["email"], account["email_verified"]) == (None, ADDRESS, True)
    assert open_phone.get(f"/v1/accounts/{account['id']}").json["username"] is None
    assert [event["kind"] for event in open_phone.get(f"{ME}/events").json["items"]] == ["login", "sign_up"]


def test_an_unknown_address_does_not_become_one_elsewhere(phone: Phone, mails: Mailbox) -> None:
    assert CODE_IN_MAIL.search(asked(phone, CODE, mails).text) is None
    assert Account._get_collection().find_one() is None


def test_an_account_without_a_password_sets_one_after_a_recent_login(
    app: Flask, open_phone: Phone, mails: Mailbox
) -> None:
    body = {"email": ADDRESS, "code": code_in(asked(open_phone, CODE, mails))}
    tokens = open_phone.post(f"{CODE}/confirmation", body).json
    assert log_in(open_phone, ADDRESS).status_code == 401
    open_phone.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    person = Person(open_phone.client, open_phone.headers)
    person.id, person.tokens = open_phone.get(ME).json["id"], tokens
    old = old_login(app, person)
    assert person.put(f"{ME}/password", {"new_password": NEW}, headers=old).json["code"] == "reauthentication_required"
    assert person.put(f"{ME}/password", {"new_password": NEW}).status_code == 204
    assert log_in(open_phone, ADDRESS, NEW).status_code == 200
    assert pointers(person.put(f"{ME}/password", {"new_password": "seven paper lamps"})) == {
        "/current_password": "required"
    }


@pytest.mark.real
def test_racing_confirmations_make_one_account(make_app: Any, mails: Mailbox) -> None:
    open_app = make_app(SIGN_UP_BY_CODE=True)
    body = {"email": ADDRESS, "code": code_in(asked(Phone(open_app.test_client()), CODE, mails))}
    tries = [lambda: Phone(open_app.test_client()).post(f"{CODE}/confirmation", body)] * 8
    assert statuses(*tries) == [200] + [401] * 7
    assert Account._get_collection().count_documents({}) == 1
    assert Session._get_collection().count_documents({}) == 1


@pytest.mark.real
def test_racing_resets_set_one_password(app: Flask, ada: Person, mails: Mailbox) -> None:
    verified(ada, mails)
    code = code_in(asked(Phone(app.test_client()), RESET, mails))
    assert statuses(*[lambda: confirmed(Phone(app.test_client()), code)] * 5) == [204] + [401] * 4


@pytest.mark.real
def test_no_session_of_the_old_password_lives_on_after_a_reset(app: Flask, ada: Person, mails: Mailbox) -> None:
    """The reset is a transaction: what others store meanwhile it does not see."""
    verified(ada, mails)
    for number in range(3):
        old, new = (PASSWORD if number == 0 else f"{NEW} {number}", f"{NEW} {number + 1}")
        mails.collect()
        code = code_in(asked(Phone(app.test_client()), RESET, mails))
        ending = threading.Event()

        def log_in_on(old: str = old, ending: threading.Event = ending) -> None:
            phone = Phone(app.test_client())
            while not ending.is_set():
                log_in(phone, "ada", old)

        threads = [threading.Thread(target=log_in_on) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert confirmed(Phone(app.test_client()), code, password=new).status_code == 204
        ending.set()
        for thread in threads:
            thread.join()
        assert Session._get_collection().count_documents({}) == 0


# Security mails


def test_a_login_on_a_device_that_was_not_seen_is_told_once(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    ada.log_in()
    assert mails.collect() == []
    for _ in range(2):
        ada.log_in("tablet of Ada")
    mail = one_mail(mails)
    assert mail.to == ADDRESS
    assert "tablet of Ada" in mail.text


def test_a_device_of_a_known_name_in_another_network_is_told(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    phone.post("/auth", {"username": "ada", "password": PASSWORD}, environ_overrides={"REMOTE_ADDR": "203.0.113.9"})
    assert one_mail(mails).to == ADDRESS


def test_an_unverified_address_is_told_nothing(ada: Person, mails: Mailbox) -> None:
    ada.patch(ME, {"email": ADDRESS})
    ada.log_in("tablet")
    ada.put(f"{ME}/password", {"current_password": PASSWORD, "new_password": NEW})
    assert mails.collect() == []


def test_a_change_of_the_password_is_told(ada: Person, mails: Mailbox) -> None:
    verified(ada, mails)
    ada.put(f"{ME}/password", {"current_password": PASSWORD, "new_password": NEW})
    assert one_mail(mails).to == ADDRESS


def test_mails_are_in_the_language_of_the_account_or_of_the_request(ada: Person, mails: Mailbox, phone: Phone) -> None:
    phone.post(RESET, {"email": ADDRESS}, headers={"Accept-Language": "ko-KR,ko;q=0.9"})
    assert re.search("[가-힣]", one_mail(mails).text)
    ada.patch(ME, {"locale": "ko-KR"})
    ada.put(f"{ME}/email", {"email": ADDRESS}, headers={"Accept-Language": "en"})
    assert re.search("[가-힣]", one_mail(mails).text)


def test_events_name_what_happened(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    confirmed(phone, code_in(asked(phone, RESET, mails)))
    ada.put(f"{ME}/email", {"email": ADDRESS})
    tokens = log_in(phone, "ada", NEW).json
    ada.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    kinds = [event["kind"] for event in ada.get(f"{ME}/events").json["items"]]
    assert kinds[:5] == ["login", "password_reset", "reset_code_sent", "address_verified", "verify_code_sent"]


# Attacks


@pytest.mark.parametrize("path", [RESET, CODE])
def test_the_answer_does_not_tell_whether_an_address_is_known(
    ada: Person, bob: Person, mails: Mailbox, phone: Phone, path: str
) -> None:
    verified(ada, mails)
    bob.patch(ME, {"email": "bob@example.com"})
    cat = Person.sign_up(ada.client, "cat")
    key = "cat@example.com"
    given = {"email": key, "email_key": key, "email_verified": True, "email_bounced": key}
    Account._get_collection().update_one({"_id": cat.id}, {"$set": given})
    found = set()
    for address in (ADDRESS, "bob@example.com", "cat@example.com", "nobody@example.com"):
        answer = phone.post(path, {"email": address})
        found.add((answer.status_code, answer.data, tuple(sorted(answer.headers.keys()))))
        bad = phone.post(f"{path}/confirmation", {"email": address, "code": "AAAAAAAA", **also(path)})
        found.add((bad.status_code, bad.json["code"], bad.json["detail"]))
    assert len(found) == 2


def also(path: str) -> dict[str, str]:
    return {"new_password": NEW} if path == RESET else {}


@pytest.mark.parametrize("path", [RESET, CODE])
def test_the_work_does_not_tell_whether_an_address_is_known(
    ada: Person, mails: Mailbox, phone: Phone, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes the time are the operations of MongoDB: they are the same ones."""
    verified(ada, mails)
    done: list[list[str]] = []
    for address in (ADDRESS, "nobody@example.com"):
        stored = [
            document._get_collection().count_documents({}) for document in (OneTimeCode, OutboxItem, Event, Account)
        ]
        phone.post(path, {"email": address})
        after = [
            document._get_collection().count_documents({}) for document in (OneTimeCode, OutboxItem, Event, Account)
        ]
        done.append([f"{new - old}" for old, new in zip(stored, after, strict=True)])
    assert done == [["1", "1", "1", "0"]] * 2


def test_one_address_gets_so_many_codes_whoever_asks(make_app: Any, ada: Person, mails: Mailbox) -> None:
    verified(ada, mails)
    phone = Phone(make_app(RATELIMIT_ENABLED=True, RATELIMIT_CODES_ADDRESS="3 per hour").test_client())
    for address in (ADDRESS, "nobody@example.com"):
        answers = [
            phone.post(
                (RESET, CODE)[number % 2],
                {"email": address if number else address.upper()},
                environ_overrides={"REMOTE_ADDR": f"203.0.113.{number}"},
            ).status_code
            for number in range(5)
        ]
        assert answers == [202] * 3 + [429] * 2


def test_one_client_asks_for_so_many_codes(make_app: Any) -> None:
    phone = Phone(make_app(RATELIMIT_ENABLED=True, RATELIMIT_CODES="3 per hour").test_client())
    assert [phone.post(CODE, {"email": f"a{n}@example.com"}).status_code for n in range(5)] == [202] * 3 + [429] * 2


def test_a_code_that_is_not_sent_takes_no_place(make_app: Any, ada: Person, mails: Mailbox) -> None:
    verified(ada, mails)
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_MAILS_ADDRESS="1 per hour")
    phone = Phone(app.test_client())
    assert [phone.post(RESET, {"email": ADDRESS}).status_code for _ in range(2)] == [202, 429]


@pytest.mark.real
@pytest.mark.parametrize("path", [RESET, CODE])
def test_of_parallel_guesses_five_are_compared(
    app: Flask, ada: Person, mails: Mailbox, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    verified(ada, mails)
    code = code_in(asked(Phone(app.test_client()), path, mails))
    body = {"email": ADDRESS, "code": wrong(code), **also(path)}
    assert statuses(*[lambda: Phone(app.test_client()).post(f"{path}/confirmation", body)] * 12) == [401] * 12
    assert OneTimeCode._get_collection().find_one()["tries"] == 5
    body = {"email": ADDRESS, "code": code, **also(path)}
    assert Phone(app.test_client()).post(f"{path}/confirmation", body).status_code == 401


def test_guesses_of_codes_are_throttled(make_app: Any, ada: Person, mails: Mailbox) -> None:
    verified(ada, mails)
    phone = Phone(make_app(RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="3 per hour").test_client())
    code = code_in(asked(phone, RESET, mails))
    assert [confirmed(phone, wrong(code)).status_code for _ in range(3)] == [401] * 3
    assert confirmed(phone, code).status_code == 429
    body = {"token": "x" * 43, "new_password": NEW}
    assert [phone.post(f"{RESET}/confirmation", body).status_code for _ in range(4)] == [401] * 3 + [429]


def test_a_code_for_one_purpose_is_nothing_for_another(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    code = code_in(asked(phone, CODE, mails))
    assert confirmed(phone, code).status_code == 401
    assert ada.post(f"{ME}/email/verification", {"code": code}).status_code == 401
    reset = asked(phone, RESET, mails)
    assert phone.post(f"{CODE}/confirmation", {"email": ADDRESS, "code": code_in(reset)}).status_code == 401
    ada.put(f"{ME}/email", {"email": "ada@example.org"})
    verify = one_mail(mails)
    body = {"token": token_in(verify), "new_password": NEW}
    assert phone.post(f"{RESET}/confirmation", body).status_code == 401


def test_who_signs_up_with_the_address_of_somebody_gets_and_keeps_nothing(
    phone: Phone, open_phone: Phone, mails: Mailbox
) -> None:
    """Pre-hijacking: the owner of the address comes later, and never into the account of the attacker."""
    body = {"username": "mallory", "password": PASSWORD, "email": ADDRESS}
    assert phone.post("/v1/accounts", body).status_code == 201
    assert CODE_IN_MAIL.search(asked(phone, RESET, mails).text) is None
    code = code_in(asked(open_phone, CODE, mails))
    tokens = open_phone.post(f"{CODE}/confirmation", {"email": ADDRESS, "code": code}).json
    open_phone.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert open_phone.get(ME).json["username"] is None
    assert log_in(phone, ADDRESS).status_code == 401
    tokens = log_in(phone, "mallory").json
    phone.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert phone.get(ME).json["email_verified"] is False


def test_who_asks_to_verify_the_address_of_somebody_first_does_not_get_it(
    ada: Person, bob: Person, mails: Mailbox, phone: Phone
) -> None:
    bob.put(f"{ME}/email", {"email": ADDRESS})
    of_bob = code_in(one_mail(mails))
    verified(ada, mails)
    assert bob.post(f"{ME}/email/verification", {"code": of_bob}).status_code == 409
    assert confirmed(phone, code_in(asked(phone, RESET, mails))).status_code == 204
    assert log_in(phone, "ada", NEW).status_code == 200
    assert bob.get(ME).json["email_verified"] is False


def test_links_lead_where_the_settings_say_whatever_host_a_request_names(
    make_app: Any, ada: Person, mails: Mailbox
) -> None:
    verified(ada, mails)
    phone = Phone(make_app(PUBLIC_URL="https://api.example.org/base/").test_client())
    headers = {"Host": "evil.example.net", "X-Forwarded-Host": "evil.example.net", "Forwarded": "host=evil.example.net"}
    phone.post(RESET, {"email": ADDRESS}, headers=headers)
    mail = one_mail(mails)
    assert "https://api.example.org/base/account/reset?token=" in mail.text
    assert "evil" not in mail.text + mail.html


def test_without_mail_what_needs_it_is_refused_and_the_rest_works(make_app: Any, monkeypatch: Any) -> None:
    app = make_app()
    monkeypatch.setattr(app.extensions["madang.security"].letters, "available", False)
    person = Person.sign_up(app.test_client(), "eve")
    for answer in (
        person.put(f"{ME}/email", {"email": ADDRESS}),
        *(person.post(path, {"email": ADDRESS}) for path in (RESET, CODE)),
    ):
        assert (answer.status_code, answer.json["code"]) == (501, "not_supported")


PRODUCTION = {"ENVIRONMENT": "production"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"SIGN_UP_BY_CODE": True}, "SIGN_UP_BY_CODE"),
        ({"MAIL_URL": "smtp://127.0.0.1", "MAIL_FROM": "a@example.com"}, "PUBLIC_URL"),
    ],
)
def test_production_says_at_its_start_what_mail_needs(make_app: Any, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_app(**PRODUCTION, **changed)


def test_the_host_of_the_door_is_where_links_lead_if_nobody_says(make_app: Any) -> None:
    mail = {"MAIL_URL": "smtp://127.0.0.1", "MAIL_FROM": "a@example.com", "DOOR_HOST": "api.example.com"}
    links = make_app(**PRODUCTION, **mail).extensions["madang.security"].addresses.links
    assert links.reset("x") == "https://api.example.com/account/reset?token=x"


def test_codes_end(ada: Person, mails: Mailbox, phone: Phone) -> None:
    verified(ada, mails)
    code = code_in(asked(phone, RESET, mails))
    OneTimeCode._get_collection().update_many({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    assert confirmed(phone, code).status_code == 401
