"""Access tokens: what is accepted, what is refused and how, and that each `JWT_*` setting does what it says."""

import base64
import hmac
import json
import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from flask import Flask
from werkzeug.test import TestResponse

import settings
from service import security as handlers
from service.core.errors import NotAuthenticated
from service.documents import Account, Session
from service.identity.sessions import Seen
from service.identity.tokens import Recent, is_over
from service.policy import Identity
from tests.client import PASSWORD, Person, Phone

MakeApp = Callable[..., Flask]
LONG = "a signing key that is long enough for every algorithm that there is: 64 bytes"
ME = "/v1/accounts/me"
LATE = 4102444800
"""The year 2100: what is read here is used many minutes later."""


@pytest.fixture
def key(test_settings: dict[str, Any]) -> str:
    return str(test_settings["JWT_SECRET_KEY"])


@pytest.fixture
def claims(ada: Person, key: str) -> dict[str, Any]:
    """The claims of a good token."""
    decoded: dict[str, Any] = jwt.decode(ada.tokens["access_token"], key, ["HS256"])
    return decoded


def ask(app: Flask, authorization: str | None) -> TestResponse:
    return Phone(app.test_client(), {} if authorization is None else {"Authorization": authorization}).get(ME)


def code(app: Flask, token: str) -> str:
    """What a token is answered: the code of the problem, or `ok`."""
    answer = ask(app, f"Bearer {token}")
    assert answer.status_code in (200, 401)
    assert answer.status_code == 200 or answer.headers["WWW-Authenticate"].startswith("Bearer ")
    return answer.json.get("code", "ok")


def part(value: Any) -> str:
    """A part of a token."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


# The header


def test_both_schemes_are_accepted_without_regard_to_case(ada: Person, app: Flask) -> None:
    for scheme in ("Bearer", "bearer", "BEARER", "JWT", "jwt", "Jwt"):
        assert ask(app, f"{scheme} {ada.tokens['access_token']}").status_code == 200


def test_spaces_around_a_token_are_no_part_of_it(ada: Person, app: Flask) -> None:
    assert ask(app, f"Bearer   {ada.tokens['access_token']}  ").status_code == 200


def test_the_challenge_names_an_error_where_a_token_was_offered(app: Flask) -> None:
    challenge = 'Bearer realm="madang"'
    assert ask(app, None).headers["WWW-Authenticate"] == challenge
    for offered in ("Basic x", "Bearer x"):
        assert ask(app, offered).headers["WWW-Authenticate"] == f'{challenge}, error="invalid_token"'


def test_an_access_token_whose_session_has_ended_says_so(app: Flask, ada: Person) -> None:
    Session._get_collection().delete_many({})
    answer = ask(app, f"Bearer {ada.tokens['access_token']}")
    assert answer.json["detail"] == "the session has ended; log in again"


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic"])
def test_a_header_without_a_token_is_told_what_to_send(app: Flask, header: str) -> None:
    assert ask(app, header).json["detail"].startswith("send the access token as")


@pytest.mark.parametrize("header", [None, "", " ", "Bearer", "Bearer ", "Bearer   ", "JWT", "{token}", "Basic {token}"])
def test_without_a_token_the_answer_is_401(ada: Person, app: Flask, header: str | None) -> None:
    answer = ask(app, header and header.replace("{token}", ada.tokens["access_token"]))
    assert (answer.status_code, answer.json["code"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="madang"')


@pytest.mark.parametrize(
    "token",
    [
        *("a", "a.b", "a.b.c", "..", ".", "a.b.c.d.e", "é.é.é", "x" * 100_000, ".".join(["e30"] * 3), "null"),
        *(part(header) + ".e30.e30" for header in ([], "x", 1, None, {}, {"alg": 1}, {"alg": None}, b"\xff", b"{")),
    ],
    ids=lambda token: token[:20],
)
def test_garbage_is_401(app: Flask, token: str) -> None:
    assert code(app, token) == "not_authenticated"


@pytest.mark.parametrize(
    ("changed", "signing", "reason"),
    [
        ({}, LONG, "its signature is wrong"),
        ({"nbf": LATE, "iat": LATE}, None, "it is not good yet; look at the clocks"),
        ({"exp": None}, None, "a claim is missing"),
    ],
)
def test_a_token_is_told_what_is_wrong_with_it(
    app: Flask, claims: dict[str, Any], key: str, changed: dict[str, Any], signing: str | None, reason: str
) -> None:
    kept = {name: value for name, value in {**claims, **changed}.items() if value is not None}
    answer = ask(app, f"Bearer {jwt.encode(kept, signing or key, 'HS256')}")
    assert answer.json["detail"] == f"the access token is not valid: {reason}"


def test_what_is_no_token_is_told_so(app: Flask) -> None:
    assert ask(app, "Bearer a.b.c").json["detail"] == "the access token is not valid: it has not the form of a token"


SPELLINGS: dict[str, Callable[[list[str]], str]] = {
    "padding": lambda parts: f"{'.'.join(parts)}=",
    "padding inside": lambda parts: f"{parts[0]}=.{parts[1]}.{parts[2]}",
    "a character out of the alphabet": lambda parts: f"{parts[0]}.{parts[1]}.{parts[2][:10]}*{parts[2][10:]}",
    "spare bits": lambda parts: f"{'.'.join(parts)[:-1]}{chr(ord(parts[2][-1]) + 1)}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_token_has_one_spelling(app: Flask, ada: Person, spelling: str) -> None:
    assert code(app, SPELLINGS[spelling](ada.tokens["access_token"].split("."))) == "not_authenticated"
    assert code(app, ada.tokens["access_token"]) == "ok"


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_claims_are_utf_8(app: Flask, claims: dict[str, Any], key: str, coding: str) -> None:
    payload = json.dumps(claims).encode(coding)
    assert code(app, jwt.PyJWS().encode(payload, key, "HS256")) == "not_authenticated"


def test_a_header_is_utf_8(app: Flask, claims: dict[str, Any], key: str) -> None:
    header = json.dumps({"alg": "HS256", "typ": "JWT"})
    for coding, answer in (("utf-8", "ok"), ("utf-16", "not_authenticated")):
        signed = f"{part(header.encode(coding))}.{part(claims)}"
        signature = hmac.digest(key.encode(), signed.encode(), "sha256")
        assert code(app, f"{signed}.{part(signature)}") == answer


def test_a_time_may_have_a_fraction(app: Flask, claims: dict[str, Any], key: str) -> None:
    times = {name: claims[name] + 0.5 for name in ("exp", "auth_time")}
    assert code(app, jwt.encode({**claims, **times}, key)) == "ok"


def test_a_token_is_over_at_its_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 7.0)
    assert [is_over({"until": until}) for until in (6, 7, 8)] == [True, True, False]


@pytest.mark.parametrize("audience", ["madang", ["madang"], [], "", None])
def test_a_token_for_any_audience_is_refused(app: Flask, claims: dict[str, Any], key: str, audience: Any) -> None:
    assert code(app, jwt.PyJWS().encode(json.dumps({**claims, "aud": audience}).encode(), key)) == "not_authenticated"


def test_a_token_header_of_many_levels_is_401(app: Flask) -> None:
    assert code(app, f"{part(b'[' * 5000)}.e30.e30") == "not_authenticated"


def test_a_token_in_the_query_string_is_not_looked_at(app: Flask, ada: Person) -> None:
    phone = Phone(app.test_client())
    assert phone.get(ME, query_string={"access_token": ada.tokens["access_token"]}).status_code == 401


# The signature


def test_a_token_that_was_changed_is_refused(app: Flask, ada: Person, claims: dict[str, Any]) -> None:
    header, _, signature = ada.tokens["access_token"].split(".")
    assert code(app, f"{header}.{part({**claims, 'sub': 'eve'})}.{signature}") == "not_authenticated"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_without_a_signature_is_refused(app: Flask, claims: dict[str, Any], alg: str) -> None:
    for signature in ("", "e30"):
        assert code(app, f"{part({'alg': alg})}.{part(claims)}.{signature}") == "not_authenticated"


def test_another_key_is_refused(app: Flask, ada: Person, claims: dict[str, Any]) -> None:
    for headers in (None, jwt.get_unverified_header(ada.tokens["access_token"])):
        assert code(app, jwt.encode(claims, LONG, "HS256", headers=headers)) == "not_authenticated"


def test_another_algorithm_is_refused(make_app: MakeApp, claims: dict[str, Any]) -> None:
    app = make_app(JWT_SECRET_KEY=LONG)
    assert [code(app, jwt.encode(claims, LONG, alg)) for alg in ("HS256", "HS384", "HS512")] == [
        "ok",
        "not_authenticated",
        "not_authenticated",
    ]
    detail = ask(app, f"Bearer {jwt.encode(claims, LONG, 'HS384')}").json["detail"]
    assert detail == "the access token is not valid: it is signed by another algorithm"


@pytest.mark.parametrize("kid", ["unknown", "", "../../dev/null"])
def test_a_key_that_is_not_in_use_is_refused(app: Flask, claims: dict[str, Any], key: str, kid: str) -> None:
    assert code(app, jwt.encode(claims, key, headers={"kid": kid})) == "not_authenticated"


@pytest.mark.parametrize("kid", [1, None, [], {}, True])
def test_a_key_id_of_another_type_is_refused(app: Flask, claims: dict[str, Any], kid: Any) -> None:
    assert code(app, f"{part({'alg': 'HS256', 'kid': kid})}.{part(claims)}.e30") == "not_authenticated"


def test_a_token_that_names_no_key_is_verified_with_the_first(app: Flask, claims: dict[str, Any], key: str) -> None:
    assert code(app, jwt.encode(claims, key)) == "ok"


def test_a_token_that_demands_an_unknown_extension_is_refused(app: Flask, claims: dict[str, Any], key: str) -> None:
    assert code(app, jwt.encode(claims, key, headers={"crit": ["x"], "x": 1})) == "not_authenticated"


# The claims


def test_a_token_says_who_on_which_session_since_when(ada: Person, claims: dict[str, Any]) -> None:
    assert claims.keys() == {"sub", "sid", "auth_time", "iat", "nbf", "exp"}
    assert (claims["sub"], claims["sid"]) == (ada.id, ada.tokens["session_id"])
    assert claims["exp"] - claims["iat"] == ada.tokens["expires_in"] == 300
    assert abs(claims["auth_time"] - time.time()) < 5


@pytest.mark.parametrize("name", ["sub", "sid", "auth_time", "iat", "nbf", "exp"])
def test_a_token_that_lacks_a_claim_is_refused(app: Flask, claims: dict[str, Any], key: str, name: str) -> None:
    del claims[name]
    assert code(app, jwt.encode(claims, key)) == "not_authenticated"


TIMES = ("auth_time", "iat", "nbf", "exp")


@pytest.mark.parametrize("name", ["sub", "sid", *TIMES])
def test_a_claim_of_the_wrong_type_is_refused(app: Flask, claims: dict[str, Any], key: str, name: str) -> None:
    values = [None, True, [], ["x"], {}, {"$ne": ""}, *(("x", str(LATE)) if name in TIMES else (1, 1.5))]
    # Not `jwt.encode`, which refuses some of these itself.
    tokens = [jwt.PyJWS().encode(json.dumps({**claims, name: value}).encode(), key) for value in values]
    assert "ok" not in {code(app, token) for token in tokens}


@pytest.mark.parametrize("name", TIMES)
def test_a_time_that_is_not_finite_is_refused(app: Flask, claims: dict[str, Any], key: str, name: str) -> None:
    for value in ("inf", "-inf", "nan"):
        assert code(app, jwt.encode({**claims, name: float(value)}, key)) != "ok"


def test_claims_that_are_no_object_are_refused(app: Flask, key: str) -> None:
    for payload in (b"[]", b'"x"', b"1", b"null", b"{", b"\xff"):
        assert code(app, jwt.PyJWS().encode(payload, key)) == "not_authenticated"


def test_a_session_of_somebody_else_is_refused(app: Flask, claims: dict[str, Any], bob: Person, key: str) -> None:
    assert code(app, jwt.encode({**claims, "sub": bob.id}, key)) == "not_authenticated"


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_of_the_future_is_refused(app: Flask, claims: dict[str, Any], key: str, name: str) -> None:
    assert code(app, jwt.encode({**claims, name: int(time.time()) + 60}, key)) == "not_authenticated"


def test_a_token_past_its_exp_has_expired(app: Flask, claims: dict[str, Any], key: str) -> None:
    assert code(app, jwt.encode({**claims, "exp": int(time.time()) - 11}, key)) == "token_expired"
    assert code(app, jwt.encode({**claims, "exp": int(time.time()) - 5}, key)) == "ok"


# What a process remembers


def test_a_token_expires_although_it_was_verified_before(make_app: MakeApp, claims: dict[str, Any], key: str) -> None:
    app = make_app(JWT_LEEWAY=0)
    token = jwt.encode({**claims, "exp": int(time.time()) + 2}, key)
    assert code(app, token) == "ok"
    time.sleep(claims_left(token))
    assert code(app, token) == "token_expired"


def claims_left(token: str) -> float:
    """Seconds that a token has to live."""
    return float(jwt.decode(token, options={"verify_signature": False})["exp"] - time.time())


def test_the_tokens_of_a_deleted_session_are_dead_within_a_second(app: Flask, ada: Person) -> None:
    assert ada.get(ME).status_code == 200
    Session._get_collection().delete_one({"_id": ada.tokens["session_id"]})
    ended = time.monotonic()
    began = ended
    while (answer := ada.get(ME)).status_code == 200:
        # When it was asked, not when it was answered.
        assert began < ended + 1
        time.sleep(0.02)
        began = time.monotonic()
    assert answer.json["code"] == "not_authenticated"


def test_the_other_sessions_of_an_account_live_on(app: Flask, ada: Person) -> None:
    first = Phone(app.test_client(), ada.headers)
    ada.log_in()
    Session._get_collection().delete_one({"_id": ada.tokens["session_id"]})
    assert (first.get(ME).status_code, ada.get(ME).status_code) == (200, 401)


@pytest.mark.parametrize("document", [Session, Account])
def test_without_its_session_or_account_a_token_is_nothing(app: Flask, ada: Person, document: Any) -> None:
    document._get_collection().delete_many({})
    assert code(app, ada.tokens["access_token"]) == "not_authenticated"


def test_a_session_that_is_known_opens_nothing_for_another_account(
    app: Flask, ada: Person, bob: Person, claims: dict[str, Any], key: str
) -> None:
    assert ada.get(ME).json["id"] == ada.id
    assert app.extensions["madang.security"].sessions.seen.get(claims["sid"]) is not None
    assert code(app, jwt.encode({**claims, "sub": bob.id}, key)) == "not_authenticated"


@pytest.mark.parametrize(("length", "answer"), [(4096, "ok"), (4097, "not_authenticated")])
def test_a_token_has_a_longest_length(app: Flask, claims: dict[str, Any], key: str, length: int, answer: str) -> None:
    made = (jwt.encode({**claims, "n": "x" * n, "m": "y" * m}, key) for n in range(2700, 3000) for m in (0,))
    assert code(app, next(token for token in made if len(token) == length)) == answer


def test_a_token_is_verified_once(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code(app, ada.tokens["access_token"]) == "ok"
    monkeypatch.setattr(jwt, "decode", None)
    assert code(app, ada.tokens["access_token"]) == "ok"


def test_what_is_remembered_again_is_forgotten_last() -> None:
    recent: Recent[int] = Recent(2, lambda entry: entry == 0)
    for key in ("a", "b", "a", "c"):
        recent.put(key, 1)
    assert list(recent.entries) == ["a", "c"]


def test_what_is_over_at_once_is_not_remembered() -> None:
    recent: Recent[int] = Recent(2, lambda entry: entry == 0)
    recent.put("a", 0)
    assert (recent.entries, recent.get("a")) == ({}, None)


def test_of_what_is_remembered_one_may_be_forgotten_and_the_rest_stays() -> None:
    recent: Recent[int] = Recent(3, lambda entry: entry == 0)
    for key, entry in (("a", 1), ("b", 2), ("c", 1)):
        recent.put(key, entry)
    recent.drop(lambda entry: entry == 1)
    assert recent.entries == {"b": 2}


@pytest.mark.parametrize("error", [KeyError, RuntimeError, StopIteration])
def test_another_thread_that_makes_room_meanwhile_does_no_harm(error: type[Exception]) -> None:
    def looked_at(_entry: int) -> bool:
        raise error

    recent: Recent[int] = Recent(2, looked_at)
    recent.put("a", 1)
    assert recent.get("a") == 1


def test_a_token_says_when_the_password_was_given_although_its_session_is_known(app: Flask, ada: Person) -> None:
    sessions = app.extensions["madang.security"].sessions
    session = ada.tokens["session_id"]
    assert [sessions.identity(ada.id, session, time).auth_time for time in (5, 7, 5)] == [5, 7, 5]


def test_who_acts_at_this_moment_is_looked_up_each_time(
    app: Flask, ada: Person, claims: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Seen, "is_stale", False)
    security = app.extensions["madang.security"]
    assert security.identity(claims).roles == ()
    Account.objects.update(roles=["team"])
    assert security.identity(claims).roles == ()
    found = security.current_identity({**claims, "auth_time": 7.5})
    assert found == Identity(ada.id, ada.tokens["session_id"], 7, ("team",))
    Session.objects.delete()
    assert security.identity(claims).account == ada.id
    with pytest.raises(NotAuthenticated) as raised:
        security.current_identity(claims)
    assert raised.value.detail == "the session has ended; log in again"


def test_the_two_handlers_of_flask_jwt_are_there(app: Flask, ada: Person, claims: dict[str, Any]) -> None:
    with app.app_context():
        assert handlers.identity(claims) == app.extensions["madang.security"].identity(claims)
        assert handlers.authenticate("ada", PASSWORD)["_id"] == ada.id


def test_a_ticket_stands_for_the_claims_of_its_session_once(app: Flask, ada: Person, claims: dict[str, Any]) -> None:
    security = app.extensions["madang.security"]
    ticket = security.tickets.issue(security.identity(claims))
    assert security.tickets.spend(ticket) == {name: claims[name] for name in ("sub", "sid", "auth_time")}
    with pytest.raises(NotAuthenticated):
        security.tickets.spend(ticket)


def test_the_key_of_cursors_stays_through_an_upgrade(make_app: MakeApp) -> None:
    secret = "the key of an installation, 32 bytes"
    derived = hmac.digest(secret.encode(), b"madang cursor", "sha256")
    assert make_app(SECRET_KEY=secret).extensions["madang.security"].cursor_key == derived


def test_what_is_remembered_is_bounded(make_app: MakeApp, claims: dict[str, Any], key: str) -> None:
    app = make_app()
    verified = app.extensions["madang.security"].tokens.verified
    assert verified.size == 10_000
    verified.size = 3
    for number in range(10):
        code(app, jwt.encode({**claims, "n": number}, key))
    assert len(verified.entries) == 3


def test_a_token_is_forgotten_when_it_has_expired(app: Flask, claims: dict[str, Any], key: str) -> None:
    verified = app.extensions["madang.security"].tokens.verified
    first, second = (jwt.encode({**claims, "n": number}, key) for number in range(2))
    assert code(app, first) == "ok"
    verified.get(first)["until"] = time.time()
    assert code(app, second) == "ok"
    assert list(verified.entries) == [second]


def test_a_session_is_forgotten_when_it_has_to_be_looked_up_again(app: Flask, ada: Person) -> None:
    known = app.extensions["madang.security"].sessions.seen
    ada.get(ME)
    (first,) = known.entries
    known.entries[first].moment -= 1
    other = Person.sign_up(app.test_client(), "bob")
    other.get(ME)
    assert list(known.entries) == [other.tokens["session_id"]]


@pytest.mark.parametrize(
    ("changed", "left"), [({"JWT_LEEWAY": 60}, 10), ({"JWT_VERIFY_CLAIMS": ["signature", "nbf", "iat"]}, math.inf)]
)
def test_a_token_is_remembered_as_long_as_it_is_good(
    make_app: MakeApp, claims: dict[str, Any], key: str, changed: dict[str, Any], left: float
) -> None:
    app, moment = make_app(**changed), int(time.time())
    token = jwt.encode({**claims, "exp": moment - 50}, key)
    assert code(app, token) == "ok"
    assert app.extensions["madang.security"].tokens.verified.get(token)["until"] == moment + left


def test_of_a_token_is_kept_what_says_who_sends_it(app: Flask, claims: dict[str, Any], key: str) -> None:
    token = jwt.encode({**claims, "n": "x" * 1000}, key)
    assert code(app, token) == "ok"
    assert set(app.extensions["madang.security"].tokens.verified.get(token)) == {"sub", "sid", "auth_time", "until"}


# The settings


def log_in(app: Flask, path: str = "/auth", **body: str) -> TestResponse:
    return Phone(app.test_client()).post(path, body or {"username": "ada", "password": PASSWORD})


def issued(app: Flask, key: str, algorithm: str = "HS256") -> dict[str, Any]:
    """The claims of a token that `app` issues to Ada, whenever it is good."""
    options: Any = {"verify_nbf": False}
    found: dict[str, Any] = jwt.decode(log_in(app).json["access_token"], key, [algorithm], options)
    return found


def test_auth_url_rule_moves_the_route(make_app: MakeApp, ada: Person) -> None:
    app = make_app(JWT_AUTH_URL_RULE="/v2/sign-in")
    assert log_in(app, "/v2/sign-in").status_code == 200
    assert log_in(app).status_code == 404


def test_username_and_password_key_name_the_fields(make_app: MakeApp, ada: Person) -> None:
    app = make_app(JWT_AUTH_USERNAME_KEY="login", JWT_AUTH_PASSWORD_KEY="pass phrase")
    assert log_in(app, login="ada", **{"pass phrase": PASSWORD}).status_code == 200
    assert [cause["pointer"] for cause in log_in(app).json["errors"]] == [
        "/login",
        "/pass phrase",
        "/username",
        "/password",
    ]


def test_header_prefix_stands_beside_bearer(make_app: MakeApp, ada: Person) -> None:
    app = make_app(JWT_AUTH_HEADER_PREFIX="Token")
    token = ada.tokens["access_token"]
    assert [ask(app, f"{scheme} {token}").status_code for scheme in ("token", "Bearer", "JWT")] == [200, 200, 401]


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_algorithm_signs_and_verifies(make_app: MakeApp, ada: Person, algorithm: str) -> None:
    app = make_app(JWT_ALGORITHM=algorithm, JWT_SECRET_KEY=LONG)
    token = log_in(app).json["access_token"]
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    assert code(app, token) == "ok"
    assert code(app, jwt.encode(jwt.decode(token, LONG, [algorithm]), LONG, "HS256")) == "not_authenticated"


@pytest.mark.parametrize("leeway", [60, timedelta(minutes=1)])
def test_leeway_forgives_clock_skew(make_app: MakeApp, claims: dict[str, Any], key: str, leeway: Any) -> None:
    app, moment = make_app(JWT_LEEWAY=leeway), int(time.time())
    for skewed in ({"exp": moment - 50}, {"nbf": moment + 50}, {"iat": moment + 50}):
        token = jwt.encode({**claims, **skewed}, key)
        assert [code(app, token), code(app, token)] == ["ok", "ok"]
    assert code(app, jwt.encode({**claims, "exp": moment - 61}, key)) == "token_expired"


@pytest.mark.parametrize("delta", [60, timedelta(minutes=1)])
def test_expiration_delta_is_the_life_of_a_token(make_app: MakeApp, ada: Person, key: str, delta: Any) -> None:
    app = make_app(JWT_EXPIRATION_DELTA=delta)
    claims = issued(app, key)
    assert claims["exp"] - claims["iat"] == log_in(app).json["expires_in"] == 60


@pytest.mark.parametrize("delta", [60, timedelta(minutes=1)])
def test_not_before_delta_delays_a_token(make_app: MakeApp, ada: Person, key: str, delta: Any) -> None:
    app = make_app(JWT_NOT_BEFORE_DELTA=delta)
    claims = issued(app, key)
    assert claims["nbf"] - claims["iat"] == 60
    assert code(app, jwt.encode(claims, key)) == "not_authenticated"


@pytest.mark.parametrize(("name", "seconds"), [("exp", -60), ("nbf", 60), ("iat", 60)])
def test_a_claim_that_verify_claims_leaves_out_is_not_looked_at(
    make_app: MakeApp, claims: dict[str, Any], key: str, name: str, seconds: int
) -> None:
    app = make_app(JWT_VERIFY_CLAIMS=[other for other in ("signature", "exp", "nbf", "iat") if other != name])
    token = jwt.encode({**claims, name: int(time.time()) + seconds}, key)
    assert [code(app, token), code(app, token)] == ["ok", "ok"]


def test_required_claims_may_be_fewer_or_more(make_app: MakeApp, claims: dict[str, Any], key: str) -> None:
    token = jwt.encode({name: value for name, value in claims.items() if name != "exp"}, key)
    lax = make_app(JWT_REQUIRED_CLAIMS=[])
    assert [code(lax, token), code(lax, token)] == ["ok", "ok"]
    assert code(make_app(JWT_REQUIRED_CLAIMS=["jti"]), jwt.encode(claims, key)) == "not_authenticated"


def test_of_several_keys_the_first_signs_and_all_verify(make_app: MakeApp, ada: Person, key: str) -> None:
    rotated, finished = make_app(JWT_SECRET_KEY=[LONG, key]), make_app(JWT_SECRET_KEY=[LONG])
    old, new = ada.tokens["access_token"], log_in(rotated).json["access_token"]
    assert [code(app, token) for app in (rotated, finished) for token in (old, new)] == [
        *("ok", "ok"),
        *("not_authenticated", "ok"),
    ]


def test_refresh_expiration_delta_is_the_life_of_a_session(make_app: MakeApp, ada: Person) -> None:
    made = log_in(make_app(JWT_REFRESH_EXPIRATION_DELTA=timedelta(minutes=1))).json["session_id"]
    session = Session.objects.get(id=made)
    assert session.expires_at - session.created_at == timedelta(minutes=1)


def test_a_session_past_its_life_is_dead_before_mongodb_removes_it(app: Flask, ada: Person) -> None:
    Session.objects(id=ada.tokens["session_id"]).update(expires_at=Session.objects.get().created_at)
    assert ada.get(ME).json["code"] == "not_authenticated"


def test_without_a_jwt_secret_key_the_secret_key_signs() -> None:
    loaded = settings.load({"SERVICE_ENV": "test", "SERVICE_SECRET_KEY": LONG})
    assert loaded["JWT_SECRET_KEY"] == LONG


@pytest.mark.parametrize(
    ("unsafe", "message"),
    [
        ({"JWT_SECRET_KEY": None}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY": []}, "JWT_SECRET_KEY"),
        ({"JWT_SECRET_KEY": ""}, "JWT_SECRET_KEY"),
        *(({"JWT_VERIFY_CLAIMS": claims}, "signature") for claims in ([], ["exp"], ["signature", "aud"])),
        *(({"JWT_ALGORITHM": name}, "JWT_ALGORITHM") for name in ("none", "hs256", "RS256", "ES384", "")),
        *(
            pytest.param(
                {"JWT_SECRET_KEY": keys},
                "JWT_SECRET_KEY",
            )
            for keys in ([""], [LONG, ""])
        ),
    ],
)
def test_a_setting_that_is_not_safe_refuses_to_start(make_app: MakeApp, unsafe: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_app(**unsafe)
