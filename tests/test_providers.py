"""Sign-in by a provider: which tokens are good, which accounts they open, and what a provider that fails does to us."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from jwt.algorithms import RSAAlgorithm
from werkzeug.test import TestResponse

from service.core.base64url import decode_base64url, encode_base64url
from service.documents import Account, Session, SpentToken
from service.http import openapi
from service.identity import fetching, issuers
from tests.client import PASSWORD, Person, Phone, make_verified, why
from tests.issuing import IOS, WEB, Issuer, SigningKey, apple, issuer
from tests.racing import statuses
from tests.test_house import complaints

__all__ = ["apple", "issuer"]

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
VERIFIED = {"email": "ada@example.com", "email_verified": True}


def providers(**issuers: Issuer) -> dict[str, Any]:
    """The setting for some issuers."""
    return {name: {"issuer": found.url, "client_ids": {"ios": IOS, "web": WEB}} for name, found in issuers.items()}


@pytest.fixture
def served(make_app: MakeApp, issuer: Issuer, apple: Issuer) -> Flask:
    return make_app(PROVIDERS=providers(acme=issuer, apple=apple))


@pytest.fixture
def device(served: Flask) -> Phone:
    return Phone(served.test_client())


def sign_in(device: Phone, token: str, provider: str = "acme", /, **others: Any) -> TestResponse:
    return device.post(f"/auth/providers/{provider}", {"id_token": token, **others})


def signed_in(device: Phone, token: str, provider: str = "acme", /, **others: Any) -> Person:
    """Who has signed in by a token."""
    answer = sign_in(device, token, provider, **others)
    assert answer.status_code == 200, answer.json
    person = Person(device.client, {"Authorization": f"Bearer {answer.json['access_token']}"})
    person.tokens = answer.json
    person.id = person.get(ME).json["id"]
    return person


REFUSED = (401, "bad_credentials")

# Whom a token stands for


def test_somebody_new_gets_an_account_without_a_username(device: Phone, issuer: Issuer) -> None:
    ada = signed_in(device, issuer.token("1001", **VERIFIED), device="Ada's phone")
    account = ada.get(ME).json
    assert (account["username"], account["email"], account["email_verified"]) == (None, "ada@example.com", True)
    assert [session["device"] for session in ada.get(f"{ME}/sessions").json["items"]] == ["Ada's phone"]
    assert [event["kind"] for event in ada.get(f"{ME}/events").json["items"]] == ["login", "sign_up"]
    assert ada.make_note()["owner"] == ada.id


def test_who_comes_again_gets_the_same_account_whatever_the_address(device: Phone, issuer: Issuer) -> None:
    ada = signed_in(device, issuer.token("1001", **VERIFIED))
    for claims in ({}, {"email": "new@example.com", "email_verified": True}, {"email": "new@example.com"}):
        assert signed_in(device, issuer.token("1001", **claims)).id == ada.id
    assert ada.get(ME).json["email"] == "ada@example.com"
    assert signed_in(device, issuer.token("1002")).id != ada.id


def test_the_same_subject_of_another_issuer_is_somebody_else(device: Phone, issuer: Issuer, apple: Issuer) -> None:
    assert signed_in(device, issuer.token("1001")).id != signed_in(device, apple.token("1001"), "apple").id


def test_the_refresh_token_of_a_sign_in_is_like_any_other(device: Phone, issuer: Issuer) -> None:
    ada = signed_in(device, issuer.token())
    assert device.post("/auth/refresh", {"refresh_token": ada.tokens["refresh_token"]}).status_code == 200


def test_a_locked_account_is_closed_to_its_provider_too(device: Phone, issuer: Issuer) -> None:
    ada = signed_in(device, issuer.token())
    Account.objects(id=ada.id).update(locked_at=Account.objects.get(id=ada.id).created_at)
    assert why(sign_in(device, issuer.token())) == (403, "forbidden")


def test_who_comes_after_the_account_was_deleted_gets_a_new_one(device: Phone, issuer: Issuer) -> None:
    ada = signed_in(device, issuer.token("1001", **VERIFIED))
    assert ada.delete(ME).status_code == 204
    assert "identities" not in (Account._get_collection().find_one({"_id": ada.id}) or {})
    again = signed_in(device, issuer.token("1001", **VERIFIED))
    assert again.id != ada.id
    assert again.get(ME).json["email_verified"] is True


# Addresses: nobody gets into an account by one


def test_a_verified_address_that_an_account_has_does_not_open_it(device: Phone, issuer: Issuer, ada: Person) -> None:
    make_verified(ada, "Ada@example.com")
    token = issuer.token("1001", email="ADA@EXAMPLE.com", email_verified=True)
    assert why(sign_in(device, token)) == (409, "account_exists")
    assert Account._get_collection().count_documents({}) == 1
    # The token was good for nothing yet, so the app can link with it after the sign-in.
    me = Person(device.client, ada.headers)
    assert me.post(f"{ME}/identities", {"provider": "acme", "id_token": token}).status_code == 201
    assert signed_in(device, issuer.token("1001")).id == ada.id


def test_who_registers_the_address_of_another_first_keeps_nothing_of_them(
    device: Phone, issuer: Issuer, bob: Person
) -> None:
    assert bob.patch(ME, {"email": "ada@example.com"}).status_code == 200
    ada = signed_in(device, issuer.token("1001", **VERIFIED))
    assert ada.id != bob.id
    assert ada.get(ME).json["email_verified"] is True
    assert bob.get(ME).json["email_verified"] is False
    assert device.post("/auth", {"username": "ada@example.com", "password": PASSWORD}).status_code == 401
    assert ada.get("/v1/notes").status_code == 200


@pytest.mark.parametrize("told", [False, "false", None, "yes", 1, ["true"]])
def test_who_has_an_address_at_a_provider_unverified_takes_nothing_from_its_owner(
    device: Phone, issuer: Issuer, ada: Person, told: Any
) -> None:
    make_verified(ada, "ada@example.com")
    eve = signed_in(device, issuer.token("666", email="ada@example.com", email_verified=told))
    assert eve.id != ada.id
    assert eve.get(ME).json["email_verified"] is False
    assert "email_key" not in (Account._get_collection().find_one({"_id": eve.id}) or {})
    # Nor from who comes later, by the same provider, with the address verified.
    bob = signed_in(device, issuer.token("1002", email="bob@example.com", email_verified=told))
    owner = signed_in(device, issuer.token("1003", email="bob@example.com", email_verified=True))
    assert owner.id != bob.id
    assert owner.get(ME).json["email_verified"] is True


@pytest.mark.parametrize("address", ["", "no address", "x" * 300 + "@example.com", 7, {"a": 1}])
def test_what_is_no_address_is_none(device: Phone, issuer: Issuer, address: Any) -> None:
    ada = signed_in(device, issuer.token(email=address, email_verified=True))
    assert (ada.get(ME).json["email"], ada.get(ME).json["email_verified"]) == (None, False)


# Apple


def test_apple_hashes_the_nonce_and_writes_truth_as_text(device: Phone, apple: Issuer) -> None:
    ada = signed_in(device, apple.apple_token("000.abc", "a nonce"), "apple", nonce="a nonce")
    account = ada.get(ME).json
    assert (account["email"], account["email_verified"]) == ("x7k2m@privaterelay.example.com", True)


def test_the_nonce_of_apple_is_never_taken_as_it_stands(device: Phone, apple: Issuer) -> None:
    hashed = hashlib.sha256(b"a nonce").hexdigest()
    assert why(sign_in(device, apple.apple_token("1", "a nonce"), "apple", nonce=hashed)) == REFUSED
    assert why(sign_in(device, apple.apple_token("1", nonce="x"), "apple", nonce="a nonce")) == REFUSED
    assert why(sign_in(device, apple.token("1", nonce="a nonce"), "apple", nonce="a nonce")) == REFUSED


def test_a_relay_address_is_one_account_for_each_person(device: Phone, apple: Issuer) -> None:
    one = signed_in(device, apple.apple_token("1"), "apple")
    two = signed_in(device, apple.apple_token("2", email="other@privaterelay.example.com"), "apple")
    assert one.id != two.id
    assert signed_in(device, apple.apple_token("1", email=None, email_verified=None), "apple").id == one.id


def test_a_code_that_came_with_another_token_is_refused(device: Phone, apple: Issuer) -> None:
    half = encode_base64url(hashlib.sha256(b"a code").digest()[:16])
    good, bad = (apple.apple_token("1", c_hash=half) for _ in range(2))
    assert sign_in(device, good, "apple", authorization_code="a code").status_code == 200
    assert why(sign_in(device, bad, "apple", authorization_code="another")) == REFUSED


# Tokens that are not good


def changed(token: str, **members: Any) -> str:
    """A token with other members in its header, and the signature of before."""
    header, rest = token.split(".", 1)
    new = {**json.loads(decode_base64url(header)), **members}
    return f"{encode_base64url(json.dumps(new).encode())}.{rest}"


CLAIMS: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "com.example.other"},
    "no audience": {"aud": None},
    "an empty list of audiences": {"aud": []},
    "an audience of another type": {"aud": {"com.example.notes": 1}},
    "an audience of numbers": {"aud": [7]},
    "an audience of others too": {"aud": [IOS, "com.example.other"], "azp": IOS},
    "several audiences without a party": {"aud": [IOS, WEB]},
    "made for another party": {"azp": "com.example.other"},
    "a party of another type": {"azp": {}},
    "another issuer": {"iss": "https://accounts.example.com"},
    "an issuer with a slash": {"iss": "{url}/"},
    "a list of issuers": {"iss": ["{url}"]},
    "no issuer": {"iss": None},
    "expired": {"exp": -31},
    "no end": {"exp": None},
    "an end in text": {"exp": "soon"},
    "an end that is true": {"exp": True},
    "an end in a thousand years": {"exp": 31_536_000_000},
    "an end beyond all numbers": {"exp": 10**300},
    "issued tomorrow": {"iat": 86_400},
    "no time of issue": {"iat": None},
    "not good yet": {"nbf": 3600},
    "no subject": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is a number": {"sub": 1001},
    "a subject without end": {"sub": "x" * 256},
}


def dated(claims: dict[str, Any], url: str) -> dict[str, Any]:
    """Claims with the times from now on, and the URL of the issuer in place."""
    whole = json.loads(json.dumps(claims).replace("{url}", url))
    times = {name for name in ("exp", "iat", "nbf") if type(whole.get(name)) is int}
    return {**whole, **{name: int(time.time()) + whole[name] for name in times}}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_token_that_says_the_wrong_thing_is_refused(device: Phone, issuer: Issuer, name: str) -> None:
    key, claims = issuer.keys[0], {**issuer.claims(), **dated(CLAIMS[name], issuer.url)}
    without = {claim: value for claim, value in claims.items() if value is not None}
    # By hand: PyJWT signs no claim of a type that it cannot have.
    signing = f"{part({'alg': 'RS256', 'kid': key.kid})}.{part(without)}"
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(signing.encode(), key.private)
    answer = sign_in(device, f"{signing}.{encode_base64url(signature)}")
    assert why(answer) == REFUSED
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert Account._get_collection().count_documents({}) == 0
    assert SpentToken._get_collection().count_documents({}) == 0


def part(value: Any) -> str:
    return encode_base64url(json.dumps(value).encode())


@pytest.mark.parametrize(
    "claims", [{"aud": [IOS]}, {"aud": WEB, "azp": IOS}, {"aud": [IOS, WEB], "azp": WEB}, {"exp": -20}, {"iat": 20}]
)
def test_every_form_of_a_good_token_is_taken(device: Phone, issuer: Issuer, claims: dict[str, Any]) -> None:
    assert sign_in(device, issuer.token(**dated(claims, issuer.url))).status_code == 200


def test_the_nonce_is_in_both_or_in_neither(device: Phone, issuer: Issuer) -> None:
    assert sign_in(device, issuer.token(nonce="n1"), nonce="n1").status_code == 200
    for claimed, sent in (("n1", "n2"), ("n1", None), (None, "n1"), ("n1", ""), ("", None), (7, "7"), (["n1"], "n1")):
        others = {} if sent is None else {"nonce": sent}
        assert why(sign_in(device, issuer.token(nonce=claimed), **others)) == REFUSED, (claimed, sent)


def test_what_is_signed_in_another_way_is_refused(device: Phone, issuer: Issuer) -> None:
    key, claims = issuer.keys[0], issuer.claims()
    pem = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    n = decode_base64url(key.jwk["n"])
    signing = f"{part({'alg': 'HS256', 'kid': key.kid})}.{part(claims)}"
    by_hmac = [
        f"{signing}.{encode_base64url(mac(secret, signing))}" for secret in (pem, n, json.dumps(key.jwk).encode())
    ]
    other = SigningKey("first", number=1)
    forged = jwt.encode(claims, other.private, "RS256", {"kid": "first", "jwk": other.jwk, "jku": f"{issuer.url}/mine"})
    elliptic = SigningKey("first", "ES256")
    for token in (
        f"{part({'alg': 'none', 'kid': key.kid})}.{part(claims)}.",
        f"{part({'alg': 'None', 'kid': key.kid})}.{part(claims)}.AAAA",
        *by_hmac,
        forged,
        jwt.encode(claims, elliptic.private, "ES256", {"kid": "first"}),
        jwt.encode(claims, key.private, "PS256", {"kid": "first"}),
        jwt.encode(claims, key.private, "RS512", {"kid": "first"}),
        jwt.encode(claims, key.private, "RS256", {"kid": "first", "crit": ["b64"], "b64": True}),
        changed(issuer.token(), kid=7),
        changed(issuer.token(), alg="ES256"),
        changed(issuer.token(), alg=["RS256"]),
        issuer.token() + "=",
        issuer.token()[:-8],
        issuer.token().replace(".", "..", 1),
        "x.y.z",
        "",
        "é",
        f"{part([])}.{part([])}.AAAA",
        f"{part({'alg': 'RS256', 'kid': 'first'})}.{part([1])}.AAAA",
    ):
        assert why(sign_in(device, token)) == REFUSED, token
    assert issuer.asked.count("/keys") == 1
    assert "/mine" not in issuer.asked


def mac(secret: bytes, text: str) -> bytes:
    return hmac.digest(secret, text.encode(), "sha256")


def test_a_token_of_one_provider_is_none_of_another(device: Phone, issuer: Issuer, apple: Issuer) -> None:
    apple.keys = issuer.keys
    assert why(sign_in(device, issuer.token(), "apple")) == REFUSED
    assert why(sign_in(device, apple.token(), "acme")) == REFUSED


def test_there_are_no_providers_but_those_of_the_settings(device: Phone, phone: Phone, issuer: Issuer) -> None:
    for name in ("google", "ACME", "acme%00", "..", "__class__"):
        assert sign_in(device, issuer.token(), name).status_code == 404, name
    assert why(sign_in(phone, issuer.token())) == (404, "not_found")


def test_the_body_is_held_to_its_form(device: Phone, issuer: Issuer) -> None:
    for body in ({}, {"id_token": 7}, {"id_token": "x" * 20_000}, {"id_token": issuer.token(), "nonce": 7}, {"x": 1}):
        assert device.post("/auth/providers/acme", body).status_code == 422, body
    assert issuer.asked == []


# Each token once


def test_a_token_is_good_once(device: Phone, issuer: Issuer) -> None:
    token = issuer.token()
    ada = signed_in(device, token)
    assert why(sign_in(device, token)) == REFUSED
    assert why(ada.post(f"{ME}/identities", {"provider": "acme", "id_token": token})) == REFUSED
    assert token not in str(list(SpentToken._get_collection().find()))


def test_a_token_whose_signature_is_spelled_otherwise_is_the_same(device: Phone, issuer: Issuer) -> None:
    issuer.keys = [SigningKey("elliptic", "ES256")]
    token = issuer.token()
    signed, _, signature = token.rpartition(".")
    raw = decode_base64url(signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = raw[:32] + (order - int.from_bytes(raw[32:])).to_bytes(32)
    assert sign_in(device, token).status_code == 200
    assert why(sign_in(device, f"{signed}.{encode_base64url(other)}")) == REFUSED


def signing_in(app: Flask, tokens: list[str]) -> list[Callable[[], TestResponse]]:
    """Sign-ins with these, each on a device of its own."""
    return [partial(sign_in, Phone(app.test_client()), token) for token in tokens]


@pytest.mark.real
def test_of_one_token_that_is_sent_many_times_at_once_one_is_good(served: Flask, issuer: Issuer) -> None:
    token = issuer.token()
    assert statuses(*signing_in(served, [token] * 8)) == [200, *[401] * 7]
    assert Account._get_collection().count_documents({}) == 1
    assert Session._get_collection().count_documents({}) == 1


@pytest.mark.real
def test_two_first_sign_ins_at_once_make_one_account(served: Flask, issuer: Issuer) -> None:
    for subject in ("a", "b", "c", "d"):
        claims = {"email": f"{subject}@example.com", "email_verified": True}
        assert statuses(*signing_in(served, [issuer.token(subject, **claims) for _ in range(4)])) == [200] * 4
    assert Account._get_collection().count_documents({}) == 4


def test_an_account_that_was_made_since_it_was_looked_for_is_found(
    served: Flask, device: Phone, issuer: Issuer
) -> None:
    ada = signed_in(device, issuer.token("1001", **VERIFIED))
    linked = served.extensions["madang.security"].linked_identities
    with served.app_context():
        who = linked.asserted("acme", issuer.token("1001", **VERIFIED), None, None, "192.0.2.1")
        assert linked.signed_up(who, "192.0.2.1")["_id"] == ada.id
    assert Account._get_collection().count_documents({}) == 1


@pytest.mark.real
def test_of_two_people_who_bring_one_verified_address_at_once_one_gets_it(served: Flask, issuer: Issuer) -> None:
    for subject in range(4):
        claims = {"email": f"{subject}@example.com", "email_verified": True}
        assert statuses(*signing_in(served, [issuer.token(f"{subject}{n}", **claims) for n in "ab"])) == [200, 409]


def test_guessing_at_tokens_is_slowed_down(make_app: MakeApp, issuer: Issuer) -> None:
    settings = {"RATELIMIT_ENABLED": True, "RATELIMIT_FAILED_LOGINS": "3 per 5 minutes"}
    device = Phone(make_app(PROVIDERS=providers(acme=issuer), **settings).test_client())
    answers = [sign_in(device, issuer.token(aud="other")).status_code for _ in range(5)]
    assert answers == [401, 401, 401, 429, 429]


def test_new_accounts_count_as_sign_ups_and_their_tokens_stay_good(make_app: MakeApp, issuer: Issuer) -> None:
    settings = {"RATELIMIT_ENABLED": True, "RATELIMIT_SIGN_UPS": "1 per hour"}
    device = Phone(make_app(PROVIDERS=providers(acme=issuer), **settings).test_client())
    signed_in(device, issuer.token("1001"))
    assert sign_in(device, issuer.token("1002")).status_code == 429
    assert sign_in(device, issuer.token("1001")).status_code == 200
    assert SpentToken._get_collection().count_documents({}) == 2


# The keys of an issuer


def test_keys_are_fetched_once(device: Phone, issuer: Issuer) -> None:
    for subject in ("1", "2", "3"):
        signed_in(device, issuer.token(subject))
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]


def test_keys_may_change_in_the_middle(device: Phone, issuer: Issuer) -> None:
    old = issuer.token("1")
    signed_in(device, issuer.token("1"))
    issuer.keys.append(SigningKey("second", "ES256"))
    signed_in(device, issuer.token("1"))
    signed_in(device, old)
    issuer.keys = [SigningKey("third", number=1)]
    late = jwt.encode(issuer.claims("1"), SigningKey("first").private, "RS256", {"kid": "first"})
    signed_in(device, issuer.token("1"))
    assert why(sign_in(device, late)) == REFUSED


def test_names_of_keys_that_nobody_knows_are_looked_up_some_times_and_no_more(device: Phone, issuer: Issuer) -> None:
    signed_in(device, issuer.token())
    for number in range(40):
        assert why(sign_in(device, changed(issuer.token(), kid=f"guess-{number}"))) == REFUSED
    assert issuer.asked.count("/keys") <= 1 + issuers.MOST_LOOKS
    assert sign_in(device, issuer.token()).status_code == 200


def test_a_key_without_a_name_is_found_where_there_is_one(device: Phone, issuer: Issuer) -> None:
    nameless = jwt.encode(issuer.claims(), issuer.keys[0].private, "RS256")
    assert sign_in(device, nameless).status_code == 200
    issuer.keys.append(SigningKey("second", number=1))
    signed_in(device, issuer.token())  # the keys are looked up
    assert why(sign_in(device, jwt.encode(issuer.claims(), issuer.keys[0].private, "RS256"))) == REFUSED


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 0.3)


@pytest.mark.usefixtures("short_wait")
def test_an_issuer_that_keeps_silent_costs_a_bounded_wait_and_then_none(device: Phone, issuer: Issuer) -> None:
    issuer.silent.set()
    begun = time.monotonic()
    answers = [sign_in(device, issuer.token()) for _ in range(5)]
    assert {why(answer) for answer in answers} == {(503, "provider_unavailable")}
    assert answers[0].headers["Retry-After"] == "2"
    assert time.monotonic() - begun < 1.5
    assert len(issuer.asked) == 1
    assert SpentToken._get_collection().count_documents({}) == 0


BROKEN: dict[str, tuple[int, dict[str, str], bytes]] = {
    "an error": (500, {}, b"{}"),
    "a page": (200, {}, b"<html>"),
    "no object": (200, {}, b"[]"),
    "a redirect": (302, {"Location": "/keys"}, b""),
    "too much": (200, {}, b" " * (fetching.LARGEST_DOCUMENT + 1)),
    "nothing": (200, {}, b"{}"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_document_of_an_issuer_is_503(device: Phone, issuer: Issuer, name: str) -> None:
    issuer.broken = BROKEN[name]
    assert why(sign_in(device, issuer.token())) == (503, "provider_unavailable")
    assert issuer.asked == ["/.well-known/openid-configuration"]


DOCUMENTS: dict[str, dict[str, Any]] = {
    "of another issuer": {"issuer": "https://accounts.example.com"},
    "without keys": {"jwks_uri": None},
    "with a file": {"jwks_uri": "file:///etc/passwd"},
    "with a shared secret": {"jwks_uri": "data:,{}"},
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_that_leads_elsewhere_is_503(device: Phone, issuer: Issuer, name: str) -> None:
    issuer.document = DOCUMENTS[name]
    assert why(sign_in(device, issuer.token())) == (503, "provider_unavailable")
    assert issuer.asked == ["/.well-known/openid-configuration"]


def test_an_issuer_that_is_away_is_asked_again_after_a_pause(
    device: Phone, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "PAUSE_SECONDS", 0.0)
    issuer.broken = BROKEN["an error"]
    assert sign_in(device, issuer.token()).status_code == 503
    issuer.broken = None
    assert sign_in(device, issuer.token()).status_code == 200


def test_known_keys_go_on_while_the_issuer_is_away_and_not_for_ever(
    device: Phone, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in(device, issuer.token())
    monkeypatch.setattr(issuers, "KEPT_SECONDS", 0.0)
    issuer.broken = BROKEN["an error"]
    assert sign_in(device, issuer.token()).status_code == 200
    assert issuer.asked.count("/.well-known/openid-configuration") == 2
    monkeypatch.setattr(issuers, "STALE_SECONDS", 0.0)
    assert sign_in(device, issuer.token()).status_code == 503


def test_a_set_may_hold_keys_that_are_not_for_us(
    device: Phone, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = issuer.keys[0].jwk
    others = [
        7,
        {"kty": "oct", "kid": "first", "k": "c2VjcmV0", "alg": "HS256"},
        {**good, "use": "enc"},
        {**good, "kid": "odd", "alg": "RSA-OAEP"},
        {"kty": "RSA", "kid": "broken"},
        {"kty": "EC", "kid": "curve", "crv": "P-999", "x": "AA", "y": "AA"},
        {"kty": "new", "kid": "new"},
    ]
    usual = issuer.page
    monkeypatch.setattr(issuer, "page", lambda path: {"keys": [*others, good]} if path == "/keys" else usual(path))
    assert sign_in(device, issuer.token()).status_code == 200


def test_keys_that_anybody_could_make_are_no_keys() -> None:
    weak = RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True)
    private = RSAAlgorithm.to_jwk(SigningKey("first").private, as_dict=True)
    assert list(issuers.issuer_keys([weak, private])) == []


# The setting


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"acme": {"client_ids": {"ios": IOS}}}, "PROVIDERS.acme.issuer has to be set"),
        ({"google": {}}, "PROVIDERS.google.client_ids: Field required"),
        ({"google": {"client_ids": {}}}, "PROVIDERS.google.client_ids: "),
        ({"google": {"client_ids": {"ios": ""}}}, "PROVIDERS.google.client_ids.ios: "),
        ({"google": {"client_ids": {"ios": IOS}, "clientid": 1}}, "PROVIDERS.google.clientid: "),
        ({"google": 7}, "PROVIDERS.google: "),
        ({"a/b": {}}, "PROVIDERS.a/b: a provider is named with"),
        ({"acme": {"issuer": "ftp://example.com", "client_ids": {"ios": IOS}}}, "has to begin with https://"),
        ({"acme": {"issuer": "https://", "client_ids": {"ios": IOS}}}, "has to be a URL with a host"),
        ({"acme": {"issuer": "https://a@example.com", "client_ids": {"ios": IOS}}}, "has to be a URL with a host"),
        ({"acme": {"issuer": "https://example.com/?a", "client_ids": {"ios": IOS}}}, "has to be a URL with a host"),
    ],
)
def test_a_mistake_in_the_setting_stops_the_start_in_a_sentence(
    make_app: MakeApp, about: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match="PROVIDERS") as refused:
        make_app(PROVIDERS=about)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_in_production_an_issuer_is_asked_over_https_alone(make_app: MakeApp, issuer: Issuer) -> None:
    with pytest.raises(ValueError, match="has to begin with https://"):
        make_app(PROVIDERS=providers(acme=issuer), ENVIRONMENT="production")
    with pytest.raises(ValueError, match="does not begin with https://"):
        fetching.fetch(f"{issuer.url}/keys", https_only=True)
    assert issuer.asked == []


def test_google_and_apple_are_known(make_app: MakeApp) -> None:
    about = {name: {"client_ids": {"ios": IOS}} for name in ("google", "apple")}
    app = make_app(PROVIDERS=about, ENVIRONMENT="production")
    known = app.extensions["madang.security"].linked_identities.providers.by_name
    assert known["google"].issuer_names == ["https://accounts.google.com", "accounts.google.com"]
    assert known["apple"].issuer_names == ["https://appleid.apple.com"]
    assert (known["google"].hashes_nonce, known["apple"].hashes_nonce) == (False, True)


# The API document


def test_every_answer_is_what_the_openapi_document_says(served: Flask, device: Phone, issuer: Issuer) -> None:
    document = openapi.document(served)
    issuer.broken = BROKEN["an error"]
    away = sign_in(device, issuer.token())
    issuer.broken = None
    served.extensions["madang.security"].linked_identities.providers.by_name["acme"].issuer.paused_until = 0.0
    good = sign_in(device, issuer.token(**VERIFIED))
    for answer in (
        away,
        good,
        sign_in(device, issuer.token("2", **VERIFIED)),
        sign_in(device, issuer.token(aud="other")),
        sign_in(device, issuer.token(), "other"),
        device.post("/auth/providers/acme", {}),
    ):
        assert list(complaints(served, document, answer)) == []


@pytest.mark.parametrize("levels", [100, 1000, 1020, 4000])
def test_a_header_of_many_levels_is_refused(device: Phone, issuer: Issuer, levels: int) -> None:
    _, rest = issuer.token().split(".", 1)
    header = encode_base64url(b'{"alg":"RS256","kid":"a","x":' + b"[" * levels + b"]" * levels + b"}")
    assert why(sign_in(device, f"{header}.{rest}")) == REFUSED


def test_base64_of_the_header_is_read_in_one_spelling(device: Phone, issuer: Issuer) -> None:
    header, rest = issuer.token().split(".", 1)
    padded = base64.urlsafe_b64encode(decode_base64url(header)).decode()
    assert why(sign_in(device, f"{padded}=.{rest}")) == REFUSED
