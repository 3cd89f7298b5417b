"""Keys: how they are changed without a logout, asymmetric ones, their publication, and what must not pass for a key."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from flask import Flask
from werkzeug.test import TestResponse

import settings
from service.documents import Session
from service.identity.keys import Keys
from tests.client import PASSWORD, Person, Phone

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
JWKS = "/.well-known/jwks.json"
FIRST, SECOND, THIRD = (f"the {name} signing key, which is long enough" for name in ("first", "second", "third"))


def pem(key: Any) -> str:
    if hasattr(key, "private_bytes"):
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def new_key(algorithm: str) -> Any:
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def asymmetric(key: Any, *older: Any) -> dict[str, Any]:
    """The settings of a service that signs with `key` and still knows `older` ones."""
    name = "ES256" if hasattr(key, "curve") else "EdDSA"
    return {"JWT_ALGORITHM": name, "JWT_SECRET_KEY": [pem(key), *(pem(other) for other in older)]}


def log_in(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = Phone(app.test_client()).post("/auth", {"username": "ada", "password": PASSWORD}).json
    return found


def ask(app: Flask, token: str) -> int:
    return Phone(app.test_client(), {"Authorization": f"Bearer {token}"}).get(ME).status_code


def refresh(app: Flask, token: str) -> TestResponse:
    return Phone(app.test_client()).post("/auth/refresh", {"refresh_token": token})


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


both = pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])

# Rotation


def test_a_key_is_changed_in_three_steps_and_nobody_is_logged_out(make_app: MakeApp, ada: Person) -> None:
    steps = [[FIRST], [FIRST, SECOND], [SECOND, FIRST], [SECOND]]
    before, known, turned, after = (make_app(JWT_SECRET_KEY=keys) for keys in steps)
    old, new = log_in(before)["access_token"], log_in(turned)["access_token"]
    assert [ask(app, old) for app in (before, known, turned, after)] == [200, 200, 200, 401]
    assert [ask(app, new) for app in (before, known, turned, after)] == [401, 200, 200, 200]


def test_each_secret_makes_a_key_of_a_purpose_that_it_alone_makes() -> None:
    made = [key for purpose in ("a", "b") for key in Keys(("new", "old")).each(purpose)]
    assert made == [Keys((secret,)).derived(purpose) for purpose in ("a", "b") for secret in ("new", "old")]
    assert len({*made}) == 4


def test_a_refresh_signs_with_the_first_key(make_app: MakeApp, ada: Person) -> None:
    token = refresh(make_app(JWT_SECRET_KEY=[SECOND, FIRST]), ada.tokens["refresh_token"]).json["access_token"]
    assert claims_of(token) == jwt.decode(token, SECOND, ["HS256"])


def test_the_key_that_signed_is_named_in_the_header(make_app: MakeApp, ada: Person) -> None:
    tokens = [log_in(make_app(JWT_SECRET_KEY=keys))["access_token"] for keys in ([FIRST], [FIRST, SECOND], [SECOND])]
    assert kid(tokens[0]) == kid(tokens[1]) != kid(tokens[2])


def test_the_name_of_a_key_shows_nothing_of_it(make_app: MakeApp, ada: Person) -> None:
    name = kid(log_in(make_app(JWT_SECRET_KEY=FIRST))["access_token"])
    assert len(name) == 16
    assert not [word for word in FIRST.split() if word in name]


def test_a_key_keeps_its_name_through_an_upgrade(make_app: MakeApp, ada: Person) -> None:
    name = hashlib.sha256(b"madang key id\0" + FIRST.encode()).hexdigest()[:16]
    assert kid(log_in(make_app(JWT_SECRET_KEY=FIRST))["access_token"]) == name


def test_a_token_under_the_name_of_another_key_is_refused(make_app: MakeApp, ada: Person) -> None:
    app = make_app(JWT_SECRET_KEY=[FIRST, SECOND])
    good = log_in(app)["access_token"]
    assert ask(app, jwt.encode(claims_of(good), SECOND, headers={"kid": kid(good)})) == 401


def test_the_signing_keys_do_not_touch_refresh_tokens_where_secret_key_is_set(make_app: MakeApp, ada: Person) -> None:
    assert refresh(make_app(JWT_SECRET_KEY=[THIRD]), ada.tokens["refresh_token"]).status_code == 200


def test_without_a_secret_key_refresh_tokens_follow_the_list(make_app: MakeApp, ada: Person) -> None:
    apps = [make_app(SECRET_KEY=None, JWT_SECRET_KEY=keys) for keys in ([FIRST], [SECOND, FIRST], [SECOND])]
    old = log_in(apps[0])["refresh_token"]
    new = refresh(apps[1], old).json["refresh_token"]
    assert refresh(apps[1], old).json["refresh_token"] == new
    assert refresh(apps[2], old).status_code == 401
    assert refresh(apps[2], new).status_code == 200


def test_an_answer_that_was_lost_while_the_key_was_changed_is_given_again(make_app: MakeApp, ada: Person) -> None:
    apps = [make_app(SECRET_KEY=None, JWT_SECRET_KEY=keys) for keys in ([FIRST], [SECOND, FIRST])]
    old = log_in(apps[0])["refresh_token"]
    lost, again = (refresh(app, old).json["refresh_token"] for app in apps)
    assert again != lost  # the same secret, with a MAC of the new key
    assert again.rpartition(".")[2][:42] == lost.rpartition(".")[2][:42]
    assert refresh(apps[1], lost).status_code == 200


# Asymmetric keys


@both
def test_an_asymmetric_key_signs_by_setting(make_app: MakeApp, ada: Person, algorithm: str) -> None:
    app = make_app(**asymmetric(new_key(algorithm)))
    tokens = log_in(app)
    assert jwt.get_unverified_header(tokens["access_token"])["alg"] == algorithm
    assert ask(app, tokens["access_token"]) == 200
    assert ask(app, refresh(app, tokens["refresh_token"]).json["access_token"]) == 200


@both
def test_others_verify_with_what_is_published(make_app: MakeApp, ada: Person, algorithm: str) -> None:
    app = make_app(**asymmetric(new_key(algorithm), new_key(algorithm)))
    published = jwt.PyJWKSet.from_dict(Phone(app.test_client()).get(JWKS).json)
    token = log_in(app)["access_token"]
    claims = jwt.decode(token, published[kid(token)], algorithms=[algorithm])
    assert (claims["sub"], len(published.keys)) == (ada.id, 2)


@both
def test_nothing_private_is_published(make_app: MakeApp, app: Flask, algorithm: str) -> None:
    key = new_key(algorithm)
    answer = Phone(make_app(**asymmetric(key)).test_client()).get(JWKS)
    (published,) = answer.json["keys"]
    members = {"kty", "crv", "x", "kid", "alg", "use"} | ({"y"} if algorithm == "ES256" else set())
    assert (answer.status_code, published.keys()) == (200, members)
    assert (published["alg"], published["use"]) == (algorithm, "sig")


@both
def test_the_name_of_a_public_key_is_its_thumbprint(make_app: MakeApp, app: Flask, algorithm: str) -> None:
    (published,) = Phone(make_app(**asymmetric(new_key(algorithm))).test_client()).get(JWKS).json["keys"]
    members = {name: published[name] for name in ("crv", "kty", "x", "y") if name in published}
    text = json.dumps(members, separators=(",", ":"))
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    assert published["kid"] == digest.rstrip(b"=").decode()


def test_a_shared_secret_is_not_published(phone: Phone) -> None:
    assert phone.get(JWKS).json["code"] == "not_found"


@both
def test_an_old_key_may_stay_as_its_public_half(make_app: MakeApp, ada: Person, algorithm: str) -> None:
    old, new = new_key(algorithm), new_key(algorithm)
    before, turned = make_app(**asymmetric(old)), make_app(**asymmetric(new, old.public_key()))
    token = log_in(before)["access_token"]
    assert ask(turned, token) == 200
    assert kid(log_in(turned)["access_token"]) != kid(token)
    assert len(Phone(turned.test_client()).get(JWKS).json["keys"]) == 2


# What is no key


def rsa_key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("ES256", new_key("EdDSA")),
        ("EdDSA", new_key("ES256")),
        ("ES256", rsa_key()),
        ("EdDSA", rsa_key()),
        ("ES256", ec.generate_private_key(ec.SECP384R1())),
        ("ES256", new_key("ES256").public_key()),
        ("EdDSA", new_key("EdDSA").public_key()),
    ],
    ids=["Ed25519 for ES256", "P-256 for EdDSA", "RSA for ES256", "RSA for EdDSA", "P-384", "public", "public Ed25519"],
)
def test_a_key_that_does_not_sign_so_refuses_to_start(make_app: MakeApp, algorithm: str, key: Any) -> None:
    with pytest.raises(ValueError, match="JWT_SECRET_KEY"):
        make_app(JWT_ALGORITHM=algorithm, JWT_SECRET_KEY=pem(key))


@both
def test_a_text_that_is_no_pem_refuses_to_start(make_app: MakeApp, algorithm: str) -> None:
    with pytest.raises(ValueError, match="JWT_SECRET_KEY"):
        make_app(JWT_ALGORITHM=algorithm, JWT_SECRET_KEY=FIRST)


@both
def test_a_pem_under_a_password_refuses_to_start(make_app: MakeApp, algorithm: str) -> None:
    locked = new_key(algorithm).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    with pytest.raises(ValueError, match="JWT_SECRET_KEY"):
        make_app(JWT_ALGORITHM=algorithm, JWT_SECRET_KEY=locked.decode())


def test_a_pem_is_no_shared_secret(make_app: MakeApp) -> None:
    with pytest.raises(ValueError, match="JWT_SECRET_KEY"):
        make_app(JWT_SECRET_KEY=pem(new_key("ES256").public_key()))


def test_production_refuses_a_short_secret_key() -> None:
    named = {"SERVICE_ENV": "production", "SERVICE_MONGODB_URI": "memory://", "SERVICE_JWT_SECRET_KEY": FIRST}
    with pytest.raises(settings.SettingsError, match="SECRET_KEY"):
        settings.load({**named, "SERVICE_SECRET_KEY": "short"})


def test_a_public_key_proves_no_refresh_token(make_app: MakeApp, ada: Person) -> None:
    old = new_key("ES256").public_key()
    app = make_app(SECRET_KEY=None, **asymmetric(new_key("ES256"), old))
    session, secret = log_in(app)["session_id"], b"guessed by an attacker, 32 bytes"
    proving = hmac.digest(pem(old).encode(), b"madang refresh", "sha256")
    proof = hmac.digest(proving, session.encode() + b"\0" + secret, "sha256")[:16]
    forged = base64.urlsafe_b64encode(secret + proof).rstrip(b"=").decode()
    assert refresh(app, f"{session}.{forged}").json["code"] == "not_authenticated"
    assert Session.objects(id=session).count() == 1


# Confusion


def signed(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    """A token with an HMAC, made by hand: PyJWT refuses to use a public key for one."""
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims))
    mac = base64.urlsafe_b64encode(hmac.digest(key, head + b"." + body, "sha256")).rstrip(b"=")
    return b".".join((head, body, mac)).decode()


@both
def test_a_public_key_is_no_shared_secret(make_app: MakeApp, ada: Person, algorithm: str) -> None:
    key = new_key(algorithm)
    app = make_app(**asymmetric(key))
    good = log_in(app)["access_token"]
    raw = key.public_key().public_bytes(
        *((Encoding.X962, PublicFormat.UncompressedPoint) if algorithm == "ES256" else (Encoding.Raw, PublicFormat.Raw))
    )
    text = pem(key.public_key())
    jwk = json.dumps(Phone(app.test_client()).get(JWKS).json["keys"][0])
    for secret in (text.encode(), text.strip().encode(), raw, jwk.encode(), b""):
        for name in ("HS256", algorithm):
            assert ask(app, signed({"alg": name, "typ": "JWT", "kid": kid(good)}, claims_of(good), secret)) == 401


def test_a_key_that_the_token_brings_itself_is_not_used(make_app: MakeApp, ada: Person) -> None:
    app, mine = make_app(**asymmetric(new_key("ES256"))), new_key("ES256")
    good = log_in(app)["access_token"]
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(mine.public_key()))
    for extra in ({"jwk": jwk}, {"jku": "https://example.com/keys"}, {"x5u": "https://example.com/x"}, {"x5c": ["x"]}):
        assert ask(app, jwt.encode(claims_of(good), mine, "ES256", headers={"kid": kid(good), **extra})) == 401


def test_the_algorithms_do_not_stand_in_for_each_other(make_app: MakeApp, ada: Person) -> None:
    keys = {"ES256": new_key("ES256"), "EdDSA": new_key("EdDSA"), "HS256": FIRST}
    for accepted, key in keys.items():
        app = make_app(JWT_ALGORITHM=accepted, JWT_SECRET_KEY=key if accepted == "HS256" else pem(key))
        good = log_in(app)["access_token"]
        headers = {"kid": kid(good)}
        tokens = [jwt.encode(claims_of(good), other, name, headers=headers) for name, other in keys.items()]
        assert [ask(app, token) for token in tokens] == [200 if name == accepted else 401 for name in keys]


@pytest.mark.parametrize("typ", ["refresh+jwt", "dpop+jwt", "logout+jwt", "id_token", "", 1, [], True])
def test_a_token_of_another_type_is_refused(make_app: MakeApp, ada: Person, typ: Any) -> None:
    app = make_app(JWT_SECRET_KEY=FIRST)
    claims = claims_of(log_in(app)["access_token"])
    assert ask(app, signed({"alg": "HS256", "typ": typ}, claims, FIRST.encode())) == 401


@pytest.mark.parametrize("said", [{}, {"typ": "JWT"}, {"typ": "at+jwt"}])
def test_a_token_may_say_that_it_is_an_access_token(make_app: MakeApp, ada: Person, said: dict[str, str]) -> None:
    app = make_app(JWT_SECRET_KEY=FIRST)
    claims = claims_of(log_in(app)["access_token"])
    assert ask(app, signed({"alg": "HS256", **said}, claims, FIRST.encode())) == 200


def test_a_token_for_another_audience_is_refused(make_app: MakeApp, ada: Person) -> None:
    app = make_app(JWT_SECRET_KEY=FIRST)
    claims = claims_of(log_in(app)["access_token"])
    assert ask(app, jwt.encode({**claims, "aud": "another service"}, FIRST)) == 401


@both
def test_the_claims_are_checked_under_an_asymmetric_key_too(make_app: MakeApp, ada: Person, algorithm: str) -> None:
    key = new_key(algorithm)
    app, moment = make_app(**asymmetric(key)), int(time.time())
    claims = claims_of(log_in(app)["access_token"])
    wrong = [{"exp": moment - 11}, {"nbf": moment + 60}, {"iat": "now"}, {"sub": 1}, {"sid": ["x"]}, {"auth_time": "1"}]
    tokens = [jwt.PyJWS().encode(json.dumps({**claims, **part}).encode(), key, algorithm) for part in wrong]
    assert [ask(app, token) for token in tokens] == [401] * len(wrong)


@both
def test_an_asymmetric_token_without_its_signature_is_refused(make_app: MakeApp, ada: Person, algorithm: str) -> None:
    app = make_app(**asymmetric(new_key(algorithm)))
    head, body, signature = log_in(app)["access_token"].split(".")
    zeros = base64.urlsafe_b64encode(bytes(64)).rstrip(b"=").decode()
    assert [ask(app, f"{head}.{body}.{made}") for made in ("", zeros, signature[:-4], signature)] == [
        401,
        401,
        401,
        200,
    ]
