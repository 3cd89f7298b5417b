"""Passkeys: how one comes to an account, what it opens, and what is no passkey of ours."""

import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from pymongo.errors import AutoReconnect
from webauthn.helpers import parse_authentication_credential_json, parse_registration_credential_json
from werkzeug.test import TestResponse

from service.core.base64url import decode_base64url, encode_base64url
from service.core.clock import now
from service.documents import Account, Challenge, Event, OutboxItem, Session, SpentToken
from service.identity import challenges
from service.identity.notices import Notices
from tests.authenticator import PRESENT, SoftAuthenticator
from tests.client import PASSWORD, Person, Phone, make_verified, why
from tests.mailbox import Mailbox
from tests.racing import statuses
from tests.test_addresses import verified
from tests.test_house import complaints
from tests.test_second_factor import Clock, begun, clock, grow_old, guarded

__all__ = ["clock"]

ME = "/v1/accounts/me"
PASSKEYS = f"{ME}/passkeys"
ORIGIN = "https://app.example.com"
BAD = (401, "bad_credentials")


@pytest.fixture
def served(make_app: Callable[..., Flask]) -> Flask:
    return make_app(WEBAUTHN_RP_ID="example.com", WEBAUTHN_ORIGINS=[ORIGIN, "android:apk-key-hash:abc"])


@pytest.fixture
def person(served: Flask) -> Person:
    return Person.sign_up(served.test_client(), "ada")


@pytest.fixture
def device(served: Flask) -> Phone:
    return Phone(served.test_client())


@pytest.fixture
def authenticator() -> SoftAuthenticator:
    return SoftAuthenticator(ORIGIN)


def registered(person: Person, authenticator: SoftAuthenticator) -> TestResponse:
    options = person.post(f"{PASSKEYS}/options")
    assert options.status_code == 200, options.json
    return person.post(PASSKEYS, {"credential": authenticator.create(options.json), "name": "phone"})


def asked(device: Phone) -> dict[str, Any]:
    return dict(device.post("/auth/passkeys/options").json)


def sign_in(device: Phone, authenticator: SoftAuthenticator) -> TestResponse:
    return device.post("/auth/passkeys", {"credential": authenticator.get(asked(device))})


def test_a_passkey_opens_the_account(person: Person, device: Phone, authenticator: SoftAuthenticator) -> None:
    answer = registered(person, authenticator)
    assert (answer.status_code, answer.json["name"]) == (201, "phone"), answer.json
    tokens = sign_in(device, authenticator)
    assert tokens.status_code == 200, tokens.json
    entered = Phone(device.client, {"Authorization": f"Bearer {tokens.json['access_token']}"})
    assert entered.get(ME).json["id"] == person.id
    assert [one["id"] for one in entered.get(PASSKEYS).json["items"]] == [answer.json["id"]]


def test_a_passkey_is_both_factors(
    person: Person,
    device: Phone,
    authenticator: SoftAuthenticator,
    clock: Clock,
) -> None:
    guarded(person, clock)
    registered(person, authenticator)
    assert sign_in(device, authenticator).status_code == 200
    password = device.post("/auth", {"username": "ada", "password": PASSWORD})
    assert why(password) == (401, "second_factor_required")


def test_keys_have_to_be_discoverable_and_to_verify_their_user(person: Person, device: Phone) -> None:
    options = person.post(f"{PASSKEYS}/options").json
    chosen = options["authenticatorSelection"]
    assert (chosen["residentKey"], chosen["userVerification"]) == ("required", "required")
    assert asked(device)["userVerification"] == "required"
    assert not asked(device).get("allowCredentials")


def test_a_challenge_is_good_once(person: Person, device: Phone, authenticator: SoftAuthenticator) -> None:
    registered(person, authenticator)
    options = asked(device)
    first, second = authenticator.get(options), authenticator.get(options)
    assert device.post("/auth/passkeys", {"credential": first}).status_code == 200
    assert why(device.post("/auth/passkeys", {"credential": second})) == BAD


def test_to_ask_for_options_stores_nothing(device: Phone) -> None:
    assert asked(device)["challenge"] != asked(device)["challenge"]
    assert [document._get_collection().count_documents({}) for document in (Challenge, SpentToken)] == [0, 0]


def test_of_two_sign_ins_with_one_challenge_at_once_one_enters(
    served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    registered(person, authenticator)
    options = asked(device)
    bodies = [{"credential": authenticator.get(options)} for _ in range(4)]
    tries = [lambda body=body: Phone(served.test_client()).post("/auth/passkeys", body) for body in bodies]
    assert statuses(*tries) == [200, 401, 401, 401]


@pytest.mark.real
def test_of_two_registrations_of_one_passkey_at_once_one_is_taken(
    served: Flask, person: Person, authenticator: SoftAuthenticator
) -> None:
    bob = Person.sign_up(served.test_client(), "bob")
    bodies = [
        {"credential": authenticator.create(one.post(f"{PASSKEYS}/options").json), "name": "x"} for one in (person, bob)
    ]
    tries = [
        lambda one=one, body=body: one.post(PASSKEYS, body) for one, body in zip((person, bob), bodies, strict=True)
    ]
    assert statuses(*tries) == [201, 409]


def test_a_challenge_is_spent_by_a_sign_in_that_fails(
    person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    registered(person, authenticator)
    options = asked(device)
    wrong = authenticator.get(options)
    wrong["response"]["signature"] = encode_base64url(b"wrong")
    assert why(device.post("/auth/passkeys", {"credential": wrong})) == BAD
    assert why(device.post("/auth/passkeys", {"credential": authenticator.get(options)})) == BAD


def test_a_challenge_dies_after_five_minutes(
    person: Person, device: Phone, authenticator: SoftAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(person, authenticator)
    first, second = (authenticator.get(asked(device)) for _ in range(2))
    monkeypatch.setattr(challenges, "now", lambda: now() + timedelta(minutes=4, seconds=55))
    assert device.post("/auth/passkeys", {"credential": first}).status_code == 200
    monkeypatch.setattr(challenges, "now", lambda: now() + timedelta(minutes=5, seconds=1))
    assert why(device.post("/auth/passkeys", {"credential": second})) == BAD


@pytest.mark.parametrize("at", [0, 31, 39, 40, 55])
def test_what_is_wrong_in_a_challenge_makes_it_none_of_ours(
    person: Person, device: Phone, authenticator: SoftAuthenticator, at: int
) -> None:
    registered(person, authenticator)
    challenge = bytearray(decode_base64url(asked(device)["challenge"]))
    assert len(challenge) == 56
    challenge[at] ^= 1
    credential = authenticator.get({"challenge": encode_base64url(bytes(challenge))})
    assert why(device.post("/auth/passkeys", {"credential": credential})) == BAD


def test_a_challenge_is_taken_after_the_key_was_changed(
    make_app: Callable[..., Flask], served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    registered(person, authenticator)
    credential = authenticator.get(asked(device))
    about = {"WEBAUTHN_RP_ID": "example.com", "WEBAUTHN_ORIGINS": [ORIGIN], "SECRET_KEY": None}
    old = list(served.extensions["madang.security"].keys.secrets)
    stranger = Phone(make_app(**about, JWT_SECRET_KEY="n" * 64).test_client())
    assert why(stranger.post("/auth/passkeys", {"credential": credential})) == BAD
    newer = Phone(make_app(**about, JWT_SECRET_KEY=["n" * 64, *old]).test_client())
    assert newer.post("/auth/passkeys", {"credential": credential}).status_code == 200


def test_a_new_passkey_takes_a_challenge_once(person: Person, authenticator: SoftAuthenticator) -> None:
    options = person.post(f"{PASSKEYS}/options").json
    body = {"credential": authenticator.create(options), "name": "phone"}
    assert person.post(PASSKEYS, body).status_code == 201
    other = {"credential": SoftAuthenticator(ORIGIN).create(options), "name": "phone"}
    assert why(person.post(PASSKEYS, other)) == BAD


@pytest.mark.parametrize("what", ["origin", "party", "verification", "count", "signature", "challenge"])
def test_what_is_wrong_opens_nothing(
    person: Person, device: Phone, authenticator: SoftAuthenticator, what: str
) -> None:
    registered(person, authenticator)
    assert sign_in(device, authenticator).status_code == 200
    options = asked(device)
    if what == "origin":
        authenticator.origin = "https://app.example.org"
    elif what == "party":
        authenticator.rp_id = "example.org"
    elif what == "verification":
        authenticator.flags = PRESENT
    elif what == "count":
        authenticator.count = 0
    elif what == "signature":
        authenticator.key = SoftAuthenticator(ORIGIN).key
    else:
        options["challenge"] = "A" * 86
    assert why(device.post("/auth/passkeys", {"credential": authenticator.get(options)})) == BAD


@pytest.mark.parametrize("what", ["origin", "party", "verification"])
def test_what_is_wrong_is_not_added(person: Person, authenticator: SoftAuthenticator, what: str) -> None:
    if what == "origin":
        authenticator.origin = "https://example.com.example.org"
    elif what == "party":
        authenticator.rp_id = "example.org"
    else:
        authenticator.flags = PRESENT
    assert why(registered(person, authenticator)) == BAD
    assert person.get(PASSKEYS).json == {"items": []}


def test_a_passkey_belongs_to_one_account(served: Flask, person: Person, authenticator: SoftAuthenticator) -> None:
    registered(person, authenticator)
    other = Person.sign_up(served.test_client(), "bob")
    assert why(registered(other, authenticator)) == (409, "already_exists")


def test_what_one_session_has_begun_another_cannot_end(served: Flask, authenticator: SoftAuthenticator) -> None:
    ada, bob = (Person.sign_up(served.test_client(), name) for name in ("ada", "bob"))
    credential = authenticator.create(ada.post(f"{PASSKEYS}/options").json)
    assert why(bob.post(PASSKEYS, {"credential": credential, "name": "phone"})) == BAD


def test_the_last_way_in_stays(person: Person, authenticator: SoftAuthenticator) -> None:
    id = registered(person, authenticator).json["id"]
    Account._get_collection().update_one({"_id": person.id}, {"$unset": {"password_hash": ""}})
    assert why(person.delete(f"{PASSKEYS}/{id}")) == (409, "last_way_in")
    assert registered(person, SoftAuthenticator(ORIGIN)).status_code == 201
    assert person.delete(f"{PASSKEYS}/{id}").status_code == 204


def test_a_passkey_that_was_removed_opens_nothing(
    person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    id = registered(person, authenticator).json["id"]
    assert person.patch(f"{PASSKEYS}/{id}", {"name": "old phone"}).status_code == 204
    assert person.get(PASSKEYS).json["items"][0]["name"] == "old phone"
    assert person.delete(f"{PASSKEYS}/{id}").status_code == 204
    assert why(sign_in(device, authenticator)) == BAD
    assert why(person.delete(f"{PASSKEYS}/{id}")) == (404, "not_found")


def test_to_add_and_to_remove_ask_for_a_recent_login(person: Person, authenticator: SoftAuthenticator) -> None:
    id = registered(person, authenticator).json["id"]
    grow_old(person)
    assert why(person.post(f"{PASSKEYS}/options")) == (403, "reauthentication_required")
    assert why(person.delete(f"{PASSKEYS}/{id}")) == (403, "reauthentication_required")


def test_the_export_has_them_without_keys(person: Person, authenticator: SoftAuthenticator) -> None:
    assert "passkeys" not in person.get(f"{ME}/export").json
    registered(person, authenticator)
    exported = person.get(f"{ME}/export").json["passkeys"]
    assert exported == person.get(PASSKEYS).json["items"]
    assert set(exported[0]) == {"id", "name", "created_at", "last_used_at"}


def test_a_locked_account_is_not_entered(person: Person, device: Phone, authenticator: SoftAuthenticator) -> None:
    registered(person, authenticator)
    Account._get_collection().update_one({"_id": person.id}, {"$set": {"locked_at": now()}})
    assert why(sign_in(device, authenticator)) == (403, "forbidden")


def test_a_guest_becomes_a_full_account_that_a_second_factor_guards(
    served: Flask,
    device: Phone,
    authenticator: SoftAuthenticator,
    clock: Clock,
) -> None:
    tokens = device.post("/auth/guest").json
    guest = Person(device.client, {"Authorization": f"Bearer {tokens['access_token']}"})
    guest.tokens, guest.id = tokens, guest.get(ME).json["id"]
    assert why(guest.post(f"{ME}/totp")) == (403, "forbidden")
    grow_old(guest)
    assert registered(guest, authenticator).status_code == 201
    # There is a way in from now on, so a recent login can be asked for, and a passkey is one.
    assert why(guest.post(f"{ME}/totp")) == (403, "reauthentication_required")
    access = sign_in(device, authenticator).json["access_token"]
    guest.headers = {"Authorization": f"Bearer {access}"}
    guarded(guest, clock)
    assert sign_in(device, authenticator).status_code == 200


def test_the_owner_is_told_by_mail_of_a_passkey_that_came_and_that_went(
    served: Flask, person: Person, authenticator: SoftAuthenticator
) -> None:
    mails = Mailbox(served)
    verified(person, mails)
    id = registered(person, authenticator).json["id"]
    assert [("was added" in mail.text, "phone" in mail.text) for mail in mails.collect()] == [(True, True)]
    assert person.delete(f"{PASSKEYS}/{id}").status_code == 204
    assert [("was removed" in mail.text, "phone" in mail.text) for mail in mails.collect()] == [(True, True)]


def test_a_change_of_the_password_makes_a_set_up_void(
    person: Person, authenticator: SoftAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(Account._get_collection().find_one({"_id": person.id}))
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json)
    # The request has read the account when the change comes.
    Account._get_collection().update_one({"_id": person.id}, {"$set": {"password_hash": "another"}})
    monkeypatch.setattr("service.resources.passkeys.own_account", lambda: before)
    assert why(person.post(PASSKEYS, {"credential": credential, "name": "phone"})) == BAD
    assert person.get(f"{ME}/export").json.get("passkeys") is None


def test_every_answer_is_what_the_openapi_document_says(
    served: Flask, person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    document = device.get("/openapi.json").json
    added = registered(person, authenticator)
    for answer in (
        *(added, sign_in(device, authenticator), device.post("/auth/passkeys/options")),
        *(person.post(f"{PASSKEYS}/options"), person.get(PASSKEYS), person.get(f"{ME}/export")),
        *(device.post("/auth/passkeys", {"credential": {}}), person.post(PASSKEYS, {"name": ""})),
        *(person.patch(f"{PASSKEYS}/{added.json['id']}", {"name": "x"}), person.patch(f"{PASSKEYS}/x", {"name": "x"})),
        *(person.delete(f"{PASSKEYS}/x"), person.delete(f"{PASSKEYS}/{added.json['id']}")),
    ):
        assert list(complaints(served, document, answer)) == []


def test_the_examples_of_the_page_have_the_form_of_a_credential(person: Person, device: Phone) -> None:
    """They are refused for their challenge alone, and not for what they are."""
    document = device.get("/openapi.json").json
    new, signed = (
        document["components"]["schemas"][name]["properties"]["credential"]["examples"][0]
        for name in ("NewPasskey", "PasskeySignInArguments")
    )
    assert parse_registration_credential_json(new).id == new["id"]
    assert parse_authentication_credential_json(signed).id == signed["id"]
    assert why(person.post(PASSKEYS, {"credential": new, "name": "phone"})) == BAD
    assert why(device.post("/auth/passkeys", {"credential": signed})) == BAD


def test_a_sign_in_does_not_hang_on_where_the_server_stands(
    person: Person, device: Phone, authenticator: SoftAuthenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(person, authenticator)
    told = []
    with monkeypatch.context() as elsewhere:
        for zone in ("Asia/Seoul", "America/Los_Angeles"):
            elsewhere.setenv("TZ", zone)
            time.tzset()
            told.append(sign_in(device, authenticator).status_code)
    time.tzset()
    assert told == [200, 200]


BROKEN: list[Any] = [
    {},
    {"id": 1},
    {"response": 1},
    {"response": {"clientDataJSON": 1}},
    {"response": {"clientDataJSON": "é"}},
    {"response": {"clientDataJSON": "e30"}},
    {"response": {"clientDataJSON": "W10"}},
    {"response": {"clientDataJSON": "gA"}},
    {"response": {"clientDataJSON": encode_base64url(b"[" * 40_000)}},
    {"response": {"clientDataJSON": encode_base64url(b"[" * 700_000)}},
    {"response": {"clientDataJSON": encode_base64url(b"1" * 10_000)}},
]


@pytest.mark.parametrize(("more", "told"), [(60_000, 201), (66_000, 401)])
def test_a_credential_has_a_length_that_one_has(
    person: Person, authenticator: SoftAuthenticator, more: int, told: int
) -> None:
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json)
    credential["response"]["more"] = "x" * more
    assert person.post(PASSKEYS, {"credential": credential, "name": "phone"}).status_code == told


@pytest.mark.parametrize("credential", BROKEN)
def test_what_is_no_credential_is_refused(person: Person, device: Phone, credential: Any) -> None:
    assert why(device.post("/auth/passkeys", {"credential": credential})) == BAD
    assert why(person.post(PASSKEYS, {"credential": credential, "name": "phone"})) == BAD


@pytest.mark.parametrize("part", ["authenticatorData", "signature", "userHandle", "clientDataJSON"])
@pytest.mark.parametrize("value", [None, 1, "", "é", "AA", [], {}])
def test_a_broken_part_is_refused(
    person: Person, device: Phone, authenticator: SoftAuthenticator, part: str, value: Any
) -> None:
    registered(person, authenticator)
    credential = authenticator.get(asked(device))
    credential["response"][part] = value
    assert why(device.post("/auth/passkeys", {"credential": credential})) == BAD


KEYS: list[Any] = [
    *({}, [], 1, "key", {1: 2}, {1: 2, 3: -7}, {1: "a"}, {1: 2, 3: []}),
    {1: 2, 3: -7, -1: 1, -2: b"", -3: b""},
    {1: 2, 3: -7, -1: 1, -2: 1, -3: 2},
    {1: 2, 3: -7, -1: 1, -2: b"x" * 32, -3: b"y" * 32},
    {1: 2, 3: -7, -1: 99, -2: b"x" * 32, -3: b"y" * 32},
    *({1: 3, 3: -257}, {1: 3, 3: -257, -1: b"", -2: b""}, {1: 1, 3: -8, -1: 6, -2: b"short"}),
]


@pytest.mark.parametrize("key", KEYS)
def test_what_is_no_key_is_not_added(person: Person, authenticator: SoftAuthenticator, key: Any) -> None:
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json, key)
    assert why(person.post(PASSKEYS, {"credential": credential, "name": "phone"})) == BAD


@pytest.mark.parametrize("value", [None, 1, "", "é", "AA", [], {}, "gQ", "_w", encode_base64url(b"\x81" * 5000)])
def test_a_broken_attestation_is_refused(person: Person, authenticator: SoftAuthenticator, value: Any) -> None:
    credential = authenticator.create(person.post(f"{PASSKEYS}/options").json)
    credential["response"]["attestationObject"] = value
    assert why(person.post(PASSKEYS, {"credential": credential, "name": "phone"})) == BAD


@pytest.mark.parametrize("form", ["packed", "tpm", "apple", "android-safetynet", "android-key", "fido-u2f", 1])
def test_what_the_maker_says_of_an_authenticator_is_not_looked_at(
    person: Person, authenticator: SoftAuthenticator, form: Any
) -> None:
    authenticator.attestation = {"fmt": form, "attStmt": {"x5c": 1, "sig": [], "ver": {}, "response": True}}
    assert registered(person, authenticator).status_code == 201


def test_bytes_that_went_wrong_are_refused_or_taken(
    person: Person, device: Phone, authenticator: SoftAuthenticator
) -> None:
    chance = random.Random(9052)
    registered(person, authenticator)

    def spoilt(credential: dict[str, Any], part: str) -> dict[str, Any]:
        data = bytearray(decode_base64url(credential["response"][part]))
        for place in chance.sample(range(len(data)), chance.randint(1, 4)):
            data[place] ^= chance.randint(1, 255)
        response = {**credential["response"], part: encode_base64url(bytes(data[: chance.randint(1, len(data) * 3)]))}
        return {**credential, "response": response}

    found = set()
    for _ in range(40):
        credential = SoftAuthenticator(ORIGIN).create(person.post(f"{PASSKEYS}/options").json)
        body = {"credential": spoilt(credential, "attestationObject"), "name": "phone"}
        found.add(person.post(PASSKEYS, body).status_code)
        credential = authenticator.get(asked(device))
        body = {"credential": spoilt(credential, chance.choice(["authenticatorData", "signature"]))}
        found.add(device.post("/auth/passkeys", body).status_code)
    assert found <= {201, 401, 409}
    assert 401 in found


def test_without_a_domain_there_are_none(ada: Person, phone: Phone) -> None:
    assert why(phone.post("/auth/passkeys/options")) == (501, "not_supported")
    assert why(ada.post(f"{PASSKEYS}/options")) == (501, "not_supported")
    assert Challenge._get_collection().count_documents({}) == 0


@pytest.mark.parametrize(
    ("party", "origins"),
    [
        (None, [ORIGIN]),
        ("example.com", []),
        ("example.com", ["http://example.com"]),
        ("example.com", ["https://example.org"]),
        ("example.com", ["https://badexample.com"]),
        ("example.com", ["https://example.com/path"]),
    ],
)
def test_origins_that_no_client_would_take_stop_the_start(
    make_app: Callable[..., Flask], party: str | None, origins: list[str]
) -> None:
    with pytest.raises(ValueError, match="WEBAUTHN_"):
        make_app(WEBAUTHN_RP_ID=party, WEBAUTHN_ORIGINS=origins)


# Together with what is told of it


@pytest.mark.real
@pytest.mark.parametrize("way", ["password", "second factor on", "second factor off", "passkey added", "passkey gone"])
def test_how_an_account_is_entered_changes_with_the_mail_of_it_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
    served: Flask,
    person: Person,
    authenticator: SoftAuthenticator,
    clock: Clock,
    way: str,
) -> None:
    make_verified(person, "ada@example.com")
    Person(served.test_client(), {}).post("/auth", {"username": "ada", "password": PASSWORD})
    key, app = registered(person, authenticator).json["id"], begun(person, clock)
    if way == "second factor off":
        person.post(f"{ME}/totp/confirmation", {"code": app.code()})
    options = person.post(f"{PASSKEYS}/options").json
    new = {"credential": SoftAuthenticator(ORIGIN).create(options), "name": "pad"}
    passwords = {"current_password": PASSWORD, "new_password": "four green boats"}
    asks = {
        "password": lambda: person.put(f"{ME}/password", passwords),
        "second factor on": lambda: person.post(f"{ME}/totp/confirmation", {"code": app.code()}),
        "second factor off": lambda: person.delete(f"{ME}/totp"),
        "passkey added": lambda: person.post(PASSKEYS, new),
        "passkey gone": lambda: person.delete(f"{PASSKEYS}/{key}"),
    }

    def away(*_: Any, **__: Any) -> None:
        raise AutoReconnect("away")

    def stored() -> Any:
        documents = (Account, Session, Event, OutboxItem)
        return [[*document._get_collection().find({}, {"updated_at": 0}).sort("_id")] for document in documents]

    before = stored()
    with monkeypatch.context() as patched:
        patched.setattr(Notices, "tell", away)
        assert why(asks[way]()) == (503, "database_unavailable")
    assert stored() == before
    assert asks[way]().status_code in (200, 201, 204)
