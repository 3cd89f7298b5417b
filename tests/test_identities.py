"""Linked identities: by which providers an account can be entered, and that a way in is always left."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.documents import Account
from service.http import openapi
from service.identity.guests import IS_GUEST
from service.identity.linked_identities import MOST_IDENTITIES
from service.outbox import items
from tests.client import PASSWORD, Person, Phone, make_verified, why
from tests.issuing import IOS, Issuer, issuer
from tests.mailbox import Mailbox
from tests.racing import statuses
from tests.test_house import complaints

__all__ = ["issuer"]

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
IDENTITIES = f"{ME}/identities"


@pytest.fixture
def served(make_app: MakeApp, issuer: Issuer) -> Flask:
    """The app with one provider that has two names: an app may have several."""
    about = {"issuer": issuer.url, "client_ids": {"ios": IOS}}
    return make_app(PROVIDERS={"acme": about, "other": about})


@pytest.fixture
def ada(served: Flask) -> Person:
    return Person.sign_up(served.test_client(), "ada")


@pytest.fixture
def bob(served: Flask) -> Person:
    return Person.sign_up(served.test_client(), "bob")


def by_provider(served: Flask, issuer: Issuer, subject: str = "1001") -> Person:
    """Who has an account by a provider, and no password."""
    person = Person(served.test_client())
    person.tokens = person.post("/auth/providers/acme", {"id_token": issuer.token(subject)}).json
    person.headers = {"Authorization": f"Bearer {person.tokens['access_token']}"}
    person.id = person.get(ME).json["id"]
    return person


def link(person: Phone, issuer: Issuer, subject: str = "1001", **options: Any) -> TestResponse:
    return person.post(IDENTITIES, {"provider": "acme", "id_token": issuer.token(subject)}, **options)


def linked(person: Phone, issuer: Issuer, subject: str = "1001") -> str:
    """The id of an identity that is linked now."""
    answer = link(person, issuer, subject)
    assert answer.status_code == 201, answer.json
    return str(answer.json["id"])


def listed(person: Phone) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = person.get(IDENTITIES).json["items"]
    return found


def long_ago(person: Person, served: Flask) -> Person:
    """The same person, with an access token of a session that began six minutes ago."""
    key = served.config["JWT_SECRET_KEY"]
    claims = jwt.decode(person.tokens["access_token"], key, ["HS256"])
    old = jwt.encode({**claims, "auth_time": int(time.time()) - 360}, key, "HS256")
    return Person(person.client, {"Authorization": f"Bearer {old}"})


# To link


def test_who_is_signed_in_links_a_provider_and_can_then_enter_by_it(served: Flask, ada: Person, issuer: Issuer) -> None:
    assert listed(ada) == []
    answer = link(ada, issuer)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{IDENTITIES}/{answer.json['id']}"
    assert listed(ada) == [answer.json]
    assert {name: answer.json[name] for name in ("provider", "issuer", "subject", "email")} == {
        "provider": "acme",
        "issuer": issuer.url,
        "subject": "1001",
        "email": None,
    }
    assert by_provider(served, issuer).id == ada.id
    kinds = [event["kind"] for event in ada.get(f"{ME}/events").json["items"]]
    assert kinds == ["login", "identity_linked", "login", "sign_up"]


def test_the_address_is_what_the_provider_told_last(ada: Person, issuer: Issuer) -> None:
    linked(ada, issuer)
    for claims, told in (({"email": "a@example.com"}, "a@example.com"), ({}, None)):
        before = listed(ada)[0]["last_used_at"]
        sent = {"id_token": issuer.token("1001", **claims)}
        assert ada.post("/auth/providers/acme", sent).status_code == 200
        assert listed(ada)[0]["email"] == told
        assert listed(ada)[0]["last_used_at"] >= before
    assert "email" not in (Account._get_collection().find_one({"_id": ada.id}) or {})["identities"][0]


def test_what_is_linked_already_stays_as_it_is(ada: Person, issuer: Issuer) -> None:
    id = linked(ada, issuer)
    again = link(ada, issuer)
    assert (again.status_code, again.json["id"]) == (200, id)
    assert len(listed(ada)) == 1


def test_an_identity_belongs_to_one_account(ada: Person, bob: Person, issuer: Issuer) -> None:
    linked(ada, issuer)
    assert why(link(bob, issuer)) == (409, "already_exists")
    # Under another name of the same issuer too.
    sent = {"provider": "other", "id_token": issuer.token("1001")}
    assert why(bob.post(IDENTITIES, sent)) == (409, "already_exists")
    assert listed(bob) == []


def test_who_comes_in_by_a_provider_alone_logs_in_again_for_a_first_address(served: Flask, issuer: Issuer) -> None:
    person = by_provider(served, issuer)
    answer = long_ago(person, served).put(f"{ME}/email", {"email": "eve@example.com"})
    assert why(answer) == (403, "reauthentication_required")
    assert person.put(f"{ME}/email", {"email": "ada@example.com"}).status_code == 202


def test_to_link_and_to_remove_ask_for_a_recent_login(served: Flask, ada: Person, issuer: Issuer) -> None:
    id = linked(ada, issuer)
    old = long_ago(ada, served)
    assert why(link(old, issuer, "2")) == (403, "reauthentication_required")
    assert why(old.delete(f"{IDENTITIES}/{id}")) == (403, "reauthentication_required")
    assert [identity["id"] for identity in listed(old)] == [id]


def test_an_account_has_so_many_and_no_more(ada: Person, issuer: Issuer) -> None:
    for number in range(MOST_IDENTITIES):
        linked(ada, issuer, f"{number}")
    assert why(link(ada, issuer, "more")) == (422, "validation_failed")
    assert len(listed(ada)) == MOST_IDENTITIES


def test_a_link_that_is_sent_again_with_its_key_is_done_once(ada: Person, issuer: Issuer) -> None:
    body = {"provider": "acme", "id_token": issuer.token()}
    first, again = (ada.post(IDENTITIES, body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code, again.json) == (201, 201, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.real
def test_a_link_that_is_undone_leaves_its_token_good(ada: Person, bob: Person, issuer: Issuer) -> None:
    linked(ada, issuer)
    good = {"provider": "acme", "id_token": issuer.token("2")}
    taken = {"provider": "acme", "id_token": issuer.token("1001")}
    parts = [{"method": "POST", "path": IDENTITIES, "body": body} for body in (good, taken)]
    answer = bob.post("/v1/batch", {"requests": parts, "atomic": True})
    assert [part["status"] for part in answer.json["responses"]] == [424, 409], answer.json
    assert listed(bob) == []
    assert bob.post(IDENTITIES, good).status_code == 201


# To be told of it


@pytest.fixture
def mails(served: Flask) -> Mailbox:
    return Mailbox(served)


def told(mails: Mailbox) -> list[tuple[str, str, str]]:
    return [(mail.to, mail.subject, " ".join(mail.text.split())) for mail in mails.collect()]


def test_the_owner_is_told_of_an_identity_that_is_linked_and_of_one_that_is_removed(
    ada: Person, issuer: Issuer, mails: Mailbox
) -> None:
    make_verified(ada, "ada@example.com")
    id = linked(ada, issuer)
    ((to, subject, text),) = told(mails)
    assert (to, subject) == ("ada@example.com", "Another way into your account at Madang")
    assert "can also be entered with acme" in text
    link(ada, issuer)
    assert told(mails) == []
    ada.delete(f"{IDENTITIES}/{id}")
    ((to, subject, text),) = told(mails)
    assert (to, subject) == ("ada@example.com", "One way less into your account at Madang")
    assert "can no longer be entered with acme" in text


def test_the_owner_is_told_in_the_language_of_the_account(ada: Person, issuer: Issuer, mails: Mailbox) -> None:
    make_verified(ada, "ada@example.com", locale="ko-KR")
    linked(ada, issuer)
    ((_, subject, text),) = told(mails)
    assert "로그인 방법이 추가되었습니다" in subject
    assert "acme 계정으로도 로그인할 수 있습니다" in text


def test_nothing_is_told_where_nothing_was_done_or_no_address_is_verified(
    served: Flask, ada: Person, bob: Person, issuer: Issuer, mails: Mailbox
) -> None:
    ada.patch(ME, {"email": "ada@example.com"})
    linked(ada, issuer)
    make_verified(bob, "bob@example.com")
    assert why(link(bob, issuer)) == (409, "already_exists")
    assert why(bob.delete(f"{IDENTITIES}/none-such")) == (404, "not_found")
    eve = by_provider(served, issuer, "3")
    make_verified(eve, "eve@example.com")
    Account._get_collection().update_one({"_id": eve.id}, {"$unset": {"password_hash": ""}})
    assert why(eve.delete(f"{IDENTITIES}/{listed(eve)[0]['id']}")) == (409, "last_way_in")
    assert told(mails) == []


@pytest.mark.real
def test_a_link_that_cannot_be_told_is_none(
    ada: Person, issuer: Issuer, mails: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done and the word of it are one: a process that dies in between leaves neither."""
    make_verified(ada, "ada@example.com")
    monkeypatch.setattr(items, "add_item", lambda *_: 1 / 0)
    assert link(ada, issuer).status_code == 500
    monkeypatch.undo()
    assert (listed(ada), told(mails)) == ([], [])


# To remove


def test_what_is_removed_opens_the_account_no_more(served: Flask, ada: Person, issuer: Issuer) -> None:
    id = linked(ada, issuer)
    there = by_provider(served, issuer)
    assert ada.delete(f"{IDENTITIES}/{id}").status_code == 204
    assert listed(ada) == []
    # Who came in by it is out, and who removes it stays.
    assert there.get(ME).status_code == 401
    assert there.post("/auth/refresh", {"refresh_token": there.tokens["refresh_token"]}).status_code == 401
    assert ada.get(ME).status_code == 200
    assert by_provider(served, issuer).id != ada.id
    assert why(ada.delete(f"{IDENTITIES}/{id}")) == (404, "not_found")


def test_the_last_way_in_stays(served: Flask, issuer: Issuer) -> None:
    eve = by_provider(served, issuer)
    (first,) = listed(eve)
    assert why(eve.delete(f"{IDENTITIES}/{first['id']}")) == (409, "last_way_in")
    second = linked(eve, issuer, "2")
    assert eve.delete(f"{IDENTITIES}/{first['id']}").status_code == 204
    assert why(eve.delete(f"{IDENTITIES}/{second}")) == (409, "last_way_in")
    assert by_provider(served, issuer, "2").id == eve.id


def test_nobody_removes_or_sees_what_is_anothers(ada: Person, bob: Person, issuer: Issuer) -> None:
    id = linked(ada, issuer)
    assert why(bob.delete(f"{IDENTITIES}/{id}")) == (404, "not_found")
    assert listed(bob) == []
    assert "identities" not in bob.get(f"/v1/accounts/{ada.id}").json
    assert "identities" not in ada.get(ME).json
    assert len(listed(ada)) == 1


@pytest.mark.real
def test_of_two_that_go_at_once_one_stays(served: Flask, issuer: Issuer) -> None:
    for number in range(5):
        eve = by_provider(served, issuer, f"{number}")
        linked(eve, issuer, f"{number} too")
        places = [f"{IDENTITIES}/{identity['id']}" for identity in listed(eve)]
        removals = [partial(Phone(served.test_client(), eve.headers).delete, place) for place in places]
        assert statuses(*removals) == [204, 409]
        assert len(listed(eve)) == 1


@pytest.mark.real
def test_of_two_accounts_that_link_one_identity_at_once_one_gets_it(
    served: Flask, ada: Person, bob: Person, issuer: Issuer
) -> None:
    for number in range(5):
        bodies = [{"provider": "acme", "id_token": issuer.token(f"{number}")} for _ in "ab"]
        links = [partial(person.post, IDENTITIES, body) for person, body in zip((ada, bob), bodies, strict=True)]
        assert statuses(*links) == [201, 409]
    assert len(listed(ada)) + len(listed(bob)) == 5


# Guests


def a_guest(served: Flask) -> Person:
    guest = Person(served.test_client())
    guest.tokens = guest.post("/auth/guest").json
    guest.headers = {"Authorization": f"Bearer {guest.tokens['access_token']}"}
    guest.id = guest.get(ME).json["id"]
    return guest


def test_a_guest_becomes_a_full_account_with_all_that_it_has_whenever_it_began(served: Flask, issuer: Issuer) -> None:
    guest = a_guest(served)
    note = guest.make_note()["id"]
    assert link(long_ago(guest, served), issuer).status_code == 201
    assert Account._get_collection().count_documents(IS_GUEST) == 0
    there = by_provider(served, issuer)
    assert there.id == guest.id
    assert there.get(f"/v1/notes/{note}").status_code == 200
    assert why(link(long_ago(guest, served), issuer, "2")) == (403, "reauthentication_required")


def test_a_guest_that_becomes_a_part_of_another_account_is_linked_to_nobody(
    served: Flask, ada: Person, issuer: Issuer
) -> None:
    guest = a_guest(served)
    Account._get_collection().update_one({"_id": guest.id}, {"$set": {"merged_into": ada.id}})
    assert link(guest, issuer).status_code == 422
    assert listed(guest) == []


# An account without a password


def test_a_first_password_asks_for_a_recent_login_and_no_other_password(served: Flask, issuer: Issuer) -> None:
    eve = by_provider(served, issuer)
    new = {"new_password": "seven paper lamps"}
    assert why(long_ago(eve, served).put(f"{ME}/password", new)) == (403, "reauthentication_required")
    assert eve.put(f"{ME}/password", new).status_code == 204
    assert why(eve.put(f"{ME}/password", new)) == (422, "validation_failed")
    wrong = {**new, "current_password": PASSWORD}
    assert why(eve.put(f"{ME}/password", wrong)) == (401, "bad_credentials")


def test_a_password_that_nobody_can_name_an_account_for_is_no_way_in(served: Flask, issuer: Issuer) -> None:
    eve = by_provider(served, issuer)
    assert eve.put(f"{ME}/password", {"new_password": "seven paper lamps"}).status_code == 204
    assert why(eve.delete(f"{IDENTITIES}/{listed(eve)[0]['id']}")) == (409, "last_way_in")


def with_address(served: Flask, issuer: Issuer, subject: str) -> Person:
    """Who came by a provider that has verified the address, and has set a password."""
    sent = {"id_token": issuer.token(subject, email=f"{subject}@example.com", email_verified=True)}
    eve = Person(served.test_client())
    eve.headers = {"Authorization": f"Bearer {eve.post('/auth/providers/acme', sent).json['access_token']}"}
    assert eve.put(f"{ME}/password", {"new_password": "seven paper lamps"}).status_code == 204
    return eve


def test_an_address_with_a_password_is_a_way_in_and_stays_when_it_is_the_last(served: Flask, issuer: Issuer) -> None:
    eve = with_address(served, issuer, "eve")
    assert eve.delete(f"{IDENTITIES}/{listed(eve)[0]['id']}").status_code == 204
    assert eve.post("/auth", {"username": "eve@example.com", "password": "seven paper lamps"}).status_code == 200
    for body in ({"email": None}, {"email": "other@example.com"}):
        assert why(eve.patch(ME, body)) == (409, "last_way_in")
    assert eve.get(ME).json["email_verified"] is True
    linked(eve, issuer)
    assert eve.patch(ME, {"email": None}).status_code == 200


@pytest.mark.real
def test_of_an_address_and_an_identity_that_go_at_once_one_stays(served: Flask, issuer: Issuer) -> None:
    for number in range(5):
        eve = with_address(served, issuer, f"eve{number}")
        one, other = (Phone(served.test_client(), eve.headers) for _ in range(2))
        remove = partial(one.delete, f"{IDENTITIES}/{listed(eve)[0]['id']}")
        assert statuses(remove, partial(other.patch, ME, {"email": None})) in ([200, 409], [204, 409])


# Export and the API document


def test_the_export_has_them_where_there_are_any(ada: Person, issuer: Issuer) -> None:
    assert "identities" not in ada.get(f"{ME}/export").json
    linked(ada, issuer)
    assert ada.get(f"{ME}/export").json["identities"] == listed(ada)


def test_what_is_hidden_of_an_identity_is_in_no_answer(ada: Person, issuer: Issuer) -> None:
    linked(ada, issuer)
    (stored,) = Account._get_collection().find_one({"_id": ada.id})["identities"]  # type: ignore[index]
    for path in (ME, IDENTITIES, f"{ME}/export", f"{ME}/events"):
        assert stored["key"] not in ada.get(path).text


def test_every_answer_is_what_the_openapi_document_says(
    served: Flask, ada: Person, bob: Person, issuer: Issuer
) -> None:
    document, eve = openapi.document(served), by_provider(served, issuer, "eve")
    made = link(ada, issuer)
    for answer in (
        made,
        link(ada, issuer),
        link(bob, issuer),
        link(long_ago(ada, served), issuer, "2"),
        ada.post(IDENTITIES, {"provider": "nobody", "id_token": "x"}),
        ada.post(IDENTITIES, {"provider": "acme", "id_token": "x"}),
        ada.post(IDENTITIES, {}),
        ada.get(IDENTITIES),
        ada.get(f"{ME}/export"),
        Phone(ada.client).get(IDENTITIES),
        ada.delete(f"{IDENTITIES}/{made.json['id']}"),
        ada.delete(f"{IDENTITIES}/{made.json['id']}"),
        eve.delete(f"{IDENTITIES}/{listed(eve)[0]['id']}"),
    ):
        assert list(complaints(served, document, answer)) == [], (answer.request.path, answer.status_code)
