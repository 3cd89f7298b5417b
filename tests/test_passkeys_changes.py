"""What comes and goes with a passkey: events, what the account says, its other sessions; and how many there may be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.core.base64url import encode_base64url
from service.core.clock import now
from service.documents import Account, Event, Session
from service.identity import passkeys
from service.identity.challenges import NOT_GOOD
from service.identity.passkeys import check_origins
from service.mongo import transactions
from tests.authenticator import SoftAuthenticator
from tests.client import PASSWORD, Person, Phone, why
from tests.test_passkeys import (
    ME,
    ORIGIN,
    PASSKEYS,
    asked,
    authenticator,
    device,
    person,
    registered,
    served,
    sign_in,
)
from tests.test_second_factor import Clock, clock, fresh_counters, guarded

__all__ = ["authenticator", "clock", "device", "fresh_counters", "person", "served"]


def stored(person: Person) -> dict[str, Any]:
    return dict(Account._get_collection().find_one({"_id": person.id}) or {})


def detail(answer: TestResponse) -> str:
    """What somebody is told who is refused: never why."""
    assert why(answer) == (401, "bad_credentials")
    return str(answer.json["detail"])


def events(person: Person, kind: str) -> list[tuple[str, str]]:
    rows = Event._get_collection().find({"account": person.id, "kind": kind})
    return [(row["address"], row["device"]) for row in rows]


def test_the_owner_reads_of_it_and_the_account_has_changed(person: Person, authenticator: SoftAuthenticator) -> None:
    long_ago = now() - timedelta(days=1)
    Session._get_collection().update_many({"account": person.id}, {"$set": {"device": "her phone"}})

    def has_changed() -> bool:
        changed = stored(person)["updated_at"] > long_ago
        Account._get_collection().update_one({"_id": person.id}, {"$set": {"updated_at": long_ago}})
        return changed

    has_changed()
    id = registered(person, authenticator).json["id"]
    assert (has_changed(), events(person, "passkey_added")) == (True, [("127.0.0.1", "her phone")])
    person.patch(f"{PASSKEYS}/{id}", {"name": "old phone"})
    assert has_changed()
    person.delete(f"{PASSKEYS}/{id}")
    assert (has_changed(), events(person, "passkey_removed")) == (True, [("127.0.0.1", "her phone")])


def test_a_guest_with_a_passkey_is_none_any_more(device: Phone, authenticator: SoftAuthenticator) -> None:
    tokens = device.post("/auth/guest").json
    guest = Person(device.client, {"Authorization": f"Bearer {tokens['access_token']}"})
    guest.id = guest.get(ME).json["id"]
    assert "guest_seen_at" in stored(guest)
    assert registered(guest, authenticator).status_code == 201
    assert "guest_seen_at" not in stored(guest)


def test_where_one_goes_all_other_sessions_end(
    served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    id = registered(person, authenticator).json["id"]
    tokens = sign_in(device, authenticator).json
    assert person.delete(f"{PASSKEYS}/{id}").status_code == 204
    assert why(device.post("/auth/refresh", {"refresh_token": tokens["refresh_token"]}))[0] == 401
    assert person.get(ME).status_code == 200


def test_of_several_the_one_that_is_named_is_renamed_and_goes(
    served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    other = SoftAuthenticator(ORIGIN)
    first, second = (registered(person, one).json["id"] for one in (authenticator, other))
    person.patch(f"{PASSKEYS}/{second}", {"name": "pad"})
    assert [one["name"] for one in person.get(PASSKEYS).json["items"]] == ["phone", "pad"]
    assert sign_in(device, other).status_code == 200
    used = {one["id"]: one["last_used_at"] > one["created_at"] for one in person.get(PASSKEYS).json["items"]}
    assert used == {first: False, second: True}
    bob = Person.sign_up(served.test_client(), "bob")
    assert why(bob.patch(f"{PASSKEYS}/{first}", {"name": "his"})) == (404, "not_found")
    assert why(bob.delete(f"{PASSKEYS}/{first}")) == (404, "not_found")
    person.delete(f"{PASSKEYS}/{first}")
    assert [one["id"] for one in person.get(PASSKEYS).json["items"]] == [second]
    assert (sign_in(device, authenticator).status_code, sign_in(device, other).status_code) == (401, 200)


def test_an_account_has_twenty_and_no_more(
    person: Person, authenticator: SoftAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, last = stored(person), SoftAuthenticator(ORIGIN)
    there = [{"id": str(number), "key": encode_base64url(bytes([number]))} for number in range(19)]
    Account._get_collection().update_one({"_id": person.id}, {"$set": {"passkeys": there}})
    assert registered(person, authenticator).status_code == 201
    refused = registered(person, last)
    assert (why(refused), "20 passkeys" in refused.json["detail"]) == ((409, "limit_reached"), True)
    # A request that has read the account before there were any finds no room either.
    monkeypatch.setattr("service.resources.passkeys.own_account", lambda: before)
    assert detail(registered(person, last)) == NOT_GOOD
    assert len(stored(person)["passkeys"]) == 20


def test_a_key_that_an_account_has_is_not_added_once_more(person: Person, authenticator: SoftAuthenticator) -> None:
    answers = [registered(person, authenticator) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 409]
    (cause,) = answers[1].json["errors"]
    assert (cause["code"], cause["pointer"]) == ("not_unique", "/credential")
    assert len(stored(person)["passkeys"]) == 1


@pytest.mark.real  # mongomock lets two accounts have it
def test_a_key_that_another_account_gets_at_the_same_moment_is_not_added(
    served: Flask, person: Person, authenticator: SoftAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob, unchanged = Person.sign_up(served.test_client(), "bob"), passkeys.unchanged

    def overtaken(account: Any) -> Any:
        mine = {"passkeys": [{"key": encode_base64url(authenticator.id)}]}
        transactions.outside(Account._get_collection().update_one, {"_id": bob.id}, {"$set": mine})
        return unchanged(account)

    monkeypatch.setattr(passkeys, "unchanged", overtaken)
    assert why(registered(person, authenticator)) == (409, "already_exists")
    assert "passkeys" not in stored(person)


def test_a_set_up_that_is_spent_at_the_same_moment_adds_nothing(
    person: Person, authenticator: SoftAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passkeys, "spend_challenge", lambda found: False)
    assert detail(registered(person, authenticator)) == NOT_GOOD
    assert "passkeys" not in stored(person)


def test_an_account_that_becomes_a_part_of_another_gets_none(person: Person, authenticator: SoftAuthenticator) -> None:
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json)
    Account._get_collection().update_one({"_id": person.id}, {"$set": {"merged_into": "another"}})
    assert detail(person.post(PASSKEYS, {"credential": credential, "name": "phone"})) == NOT_GOOD
    assert "passkeys" not in stored(person)


def test_options_of_before_the_password_changed_add_nothing(person: Person, authenticator: SoftAuthenticator) -> None:
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json)
    passwords = {"current_password": PASSWORD, "new_password": "four green boats"}
    assert person.put(f"{ME}/password", passwords).status_code == 204
    assert detail(person.post(PASSKEYS, {"credential": credential, "name": "phone"})) == NOT_GOOD
    assert registered(person, authenticator).status_code == 201


def test_options_of_before_the_second_factor_was_on_add_nothing(
    person: Person, authenticator: SoftAuthenticator, clock: Clock
) -> None:
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json)
    guarded(person, clock)
    assert detail(person.post(PASSKEYS, {"credential": credential, "name": "phone"})) == NOT_GOOD


def test_what_another_session_of_the_account_has_begun_is_no_set_up_of_this_one(
    served: Flask, person: Person, authenticator: SoftAuthenticator
) -> None:
    other = Person(served.test_client())
    other.username = "ada"
    other.log_in()
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json)
    assert detail(other.post(PASSKEYS, {"credential": credential, "name": "phone"})) == NOT_GOOD
    assert person.post(PASSKEYS, {"credential": credential, "name": "phone"}).status_code == 201


def test_of_two_sign_ins_that_read_one_count_one_enters(
    served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of the key that signs at the same moment is found out like one that signs later."""
    registered(person, authenticator)
    party = served.extensions["madang.security"].passkeys.configured
    verify = party.verify_sign_in

    def overtaken(*args: Any) -> int:
        Account._get_collection().update_one({"_id": person.id}, {"$inc": {"passkeys.0.sign_count": 5}})
        return int(verify(*args))

    with monkeypatch.context() as patched:
        patched.setattr(party, "verify_sign_in", overtaken)
        assert detail(sign_in(device, authenticator)) == NOT_GOOD
    assert stored(person)["passkeys"][0]["sign_count"] == 5


def test_sign_ins_that_fail_count_as_failed_logins(served: Flask, make_app: Any) -> None:
    about = {"WEBAUTHN_RP_ID": "example.com", "WEBAUTHN_ORIGINS": [ORIGIN]}
    phone = Phone(make_app(**about, RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="2 per hour").test_client())
    statuses = [phone.post("/auth/passkeys", {"credential": {}}).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]


def test_options_tell_an_authenticator_which_keys_the_account_has_already(
    person: Person, authenticator: SoftAuthenticator
) -> None:
    assert person.post(f"{PASSKEYS}/options").json["excludeCredentials"] == []
    registered(person, authenticator)
    (known,) = person.post(f"{PASSKEYS}/options").json["excludeCredentials"]
    assert known["id"] == stored(person)["passkeys"][0]["key"]


@pytest.mark.parametrize(
    "origin",
    [
        *("https://example.com", "https://app.example.com", "https://app.example.com:8443"),
        "android:apk-key-hash:abc",
    ],
)
def test_where_passkeys_of_a_domain_may_be_used(origin: str) -> None:
    check_origins("example.com", [origin])


@pytest.mark.parametrize(
    ("party", "origin"),
    [
        ("example.com", "http://localhost"),
        ("localhost", "http://example.com"),
        ("localhost", "ftp://localhost"),
        ("example.com", "https://example.com?a=b"),
        ("example.com", "https://"),
        ("example.com", "android"),
    ],
)
def test_where_they_may_not(party: str, origin: str) -> None:
    with pytest.raises(ValueError, match=f"{party}, or a domain below it"):
        check_origins(party, ["android:apk-key-hash:abc", origin])


def test_a_developers_own_machine_needs_no_tls() -> None:
    check_origins("localhost", ["http://localhost:5000", "https://localhost"])


def test_whatever_is_wrong_the_same_is_said(
    served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    registered(person, authenticator)
    options = asked(device)
    spent, stranger, another = authenticator.get(options), SoftAuthenticator(ORIGIN), SoftAuthenticator(ORIGIN)
    assert device.post("/auth/passkeys", {"credential": spent}).status_code == 200
    stranger.rp_id, stranger.user = authenticator.rp_id, authenticator.user
    another.id, another.key, another.rp_id, another.user = authenticator.id, authenticator.key, "example.com", "bob"
    tries = [spent, stranger.get(asked(device)), another.get(asked(device))]
    told = [detail(device.post("/auth/passkeys", {"credential": one})) for one in tries]
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json)
    credential["response"]["clientDataJSON"] = encode_base64url(stranger.client_data("create", "AAAA"))
    told.append(detail(person.post(PASSKEYS, {"credential": credential, "name": "phone"})))
    assert set(told) == {NOT_GOOD}


def test_who_enters_by_a_passkey_enters_an_account_that_has_it(
    served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    registered(person, authenticator)
    keys = served.extensions["madang.security"].passkeys
    account, way_in = keys.sign_in(authenticator.get(asked(device)), "192.0.2.1")
    assert (account["_id"], way_in) == (person.id, {"passkeys.key": encode_base64url(authenticator.id)})


def test_a_session_that_a_passkey_opens_is_told_with_address_and_device(
    person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    registered(person, authenticator)
    body = {"credential": authenticator.get(asked(device)), "device": "her pad"}
    assert device.post("/auth/passkeys", body).status_code == 200
    assert Session._get_collection().find_one({"account": person.id, "device": "her pad"}) is not None
    assert ("127.0.0.1", "her pad") in events(person, "login")


def test_a_passkey_that_goes_while_it_is_looked_at_opens_nothing(
    served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, keys = registered(person, authenticator).json["id"], served.extensions["madang.security"].passkeys
    sign_in_before = keys.sign_in

    def overtaken(*args: Any) -> Any:
        found = sign_in_before(*args)
        assert person.delete(f"{PASSKEYS}/{id}").status_code == 204
        return found

    monkeypatch.setattr(keys, "sign_in", overtaken)
    assert why(sign_in(device, authenticator)) == (401, "bad_credentials")


def test_those_who_fail_elsewhere_keep_nobody_out(
    person: Person, authenticator: SoftAuthenticator, make_app: Any
) -> None:
    registered(person, authenticator)
    about = {"WEBAUTHN_RP_ID": "example.com", "WEBAUTHN_ORIGINS": [ORIGIN], "TRUSTED_PROXIES": 1}
    limits = {"RATELIMIT_ENABLED": True, "RATELIMIT_FAILED_LOGINS_ACCOUNT": "2 per hour"}
    phone = Phone(make_app(**about, **limits).test_client())
    for number in range(4):
        far = {"X-Forwarded-For": f"203.0.113.{number}"}
        assert phone.post("/auth/passkeys", {"credential": {}}, headers=far).status_code == 401
    near = {"X-Forwarded-For": "192.0.2.1"}
    tries = [{}, authenticator.get(asked(phone))]
    answers = [phone.post("/auth/passkeys", {"credential": one}, headers=near).status_code for one in tries]
    assert answers == [401, 200]


def test_a_domain_and_origins_go_together() -> None:
    check_origins(None, [])
    with pytest.raises(ValueError, match="WEBAUTHN_ORIGINS needs WEBAUTHN_RP_ID"):
        check_origins(None, [ORIGIN])
    with pytest.raises(ValueError, match="WEBAUTHN_RP_ID needs WEBAUTHN_ORIGINS"):
        check_origins("example.com", [])


def test_who_ends_a_set_up_ends_no_other(served: Flask, person: Person) -> None:
    bob = Person.sign_up(served.test_client(), "bob")
    bodies = [
        {"credential": SoftAuthenticator(ORIGIN).create(one.post(f"{PASSKEYS}/options").json), "name": "phone"}
        for one in (person, bob)
    ]
    assert bob.post(PASSKEYS, bodies[1]).status_code == 201
    assert person.post(PASSKEYS, bodies[0]).status_code == 201
