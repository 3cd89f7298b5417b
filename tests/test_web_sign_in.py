"""Sign-in by a provider in a browser: from the app to the provider, back, and into the app with a code."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from http.cookies import SimpleCookie
from threading import Barrier
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from werkzeug.test import TestResponse

import settings
from service.core.base64url import encode_base64url
from service.documents import Account, AuthorizationCode, SpentToken
from service.http import openapi
from service.identity import fetching, web_sign_in
from service.identity.fetching import Limited, RefusedByProvider
from settings import SettingsError
from tests.client import PASSWORD, Person, Phone, make_verified, why
from tests.issuing import IOS, WEB, Issuer, apple, issuer
from tests.racing import statuses
from tests.test_house import complaints

__all__ = ["apple", "issuer"]

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
APP, SITE = "com.example.notes:/signed-in", "https://app.example.com/signed-in?from=web"
BASE = "https://api.example.com"
SECRET = "what the provider gave us: & more"
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
VERIFIED = {"email": "ada@example.com", "email_verified": True}


def about(acme: Issuer, apple: Issuer | None = None) -> dict[str, Any]:
    """The settings for the issuers."""
    names = {"ios": IOS, "web": WEB}
    providers: dict[str, Any] = {"acme": {"issuer": acme.url, "client_ids": names, "client_secret": SECRET}}
    if apple is not None:
        signing = {"team_id": "TEAM", "key_id": "KEY", "private_key": PEM}
        providers["apple"] = {"issuer": apple.url, "client_ids": names, **signing}
    return {"PROVIDERS": providers, "PROVIDER_REDIRECTS": [APP, SITE], "PUBLIC_URL": BASE}


@pytest.fixture
def served(make_app: MakeApp, issuer: Issuer, apple: Issuer) -> Flask:
    return make_app(**about(issuer, apple))


class Trip:
    """An app that has somebody sign in in a browser, which keeps its cookies."""

    def __init__(self, app: Flask, issuer: Issuer, provider: str = "acme") -> None:
        self.issuer, self.provider = issuer, provider
        self.browser = Phone(app.test_client())
        self.phone = Phone(app.test_client())
        self.verifier = secrets.token_urlsafe(32)
        self.asked: dict[str, str] = {}

    @property
    def path(self) -> str:
        return f"/auth/providers/{self.provider}"

    def begin(self, **others: Any) -> TestResponse:
        """The answer to the first step, with the address of the provider if it leads there."""
        usual = {"redirect_uri": APP, "code_challenge": web_sign_in.challenge_of(self.verifier), "state": "the app's"}
        sent = {name: value for name, value in {**usual, **others}.items() if value is not None}
        answer = self.browser.get(f"{self.path}/start", query_string=sent)
        if answer.status_code == 302:
            self.asked = query(answer)
        return answer

    def grant(self, subject: str = "1001", **claims: Any) -> None:
        """Have the token endpoint give an ID token for what was asked."""
        whole = {"aud": WEB, "nonce": self.asked["nonce"], **claims}
        self.issuer.granted = {"id_token": self.issuer.token(subject, **whole)}

    def back(self, **others: Any) -> TestResponse:
        """The answer to the browser that comes back."""
        usual = {"code": "a code", "state": self.asked["state"]}
        sent = {name: value for name, value in {**usual, **others}.items() if value is not None}
        if self.provider == "apple":
            return self.browser.send("POST", f"{self.path}/callback", data=sent)
        return self.browser.get(f"{self.path}/callback", query_string=sent)

    def code(self, subject: str = "1001", **claims: Any) -> str:
        """The code that the app gets."""
        assert self.begin().status_code == 302
        self.grant(subject, **claims)
        return query(self.back())["code"]

    def exchange(self, code: str, verifier: str | None = None, **others: Any) -> TestResponse:
        sent = {"code": code, "code_verifier": verifier or self.verifier, **others}
        return self.phone.post("/auth/providers/exchange", sent)


def query(answer: TestResponse) -> dict[str, str]:
    """The parameters of the address to which an answer leads."""
    assert answer.status_code == 302, answer.data
    return {name: value for name, (value,) in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


def error_of(answer: TestResponse) -> str:
    """The error that the app is told; there is no code then."""
    told = query(answer)
    assert answer.headers["Location"].startswith(APP + "?")
    assert told.keys() == {"error", "state"}
    assert told["state"] == "the app's"
    return told["error"]


def signed_in(phone: Phone, answer: TestResponse) -> Person:
    assert answer.status_code == 200, answer.json
    person = Person(phone.client, {"Authorization": f"Bearer {answer.json['access_token']}"})
    person.tokens, person.id = answer.json, person.get(ME).json["id"]
    return person


@pytest.fixture
def trip(served: Flask, issuer: Issuer) -> Trip:
    return Trip(served, issuer)


@pytest.fixture
def ada(served: Flask, ada: Person) -> Person:
    ada.client = served.test_client()
    return ada


@pytest.fixture
def apple_trip(served: Flask, apple: Issuer) -> Trip:
    return Trip(served, apple, "apple")


REFUSED = (401, "bad_credentials")
UNKNOWN = (400, "bad_parameter")

# The way there and back


def test_somebody_signs_in_in_a_browser(trip: Trip, issuer: Issuer) -> None:
    answer = trip.begin()
    assert answer.headers["Location"].startswith(f"{issuer.url}/authorization?")
    assert trip.asked["redirect_uri"] == f"{BASE}/auth/providers/acme/callback"
    assert (trip.asked["client_id"], trip.asked["response_type"]) == (WEB, "code")
    assert trip.asked["code_challenge_method"] == "S256"
    trip.grant(**VERIFIED)
    back = trip.back(scope="openid email", authuser="0")
    assert back.headers["Location"].startswith(f"{APP}?code=")
    assert query(back)["state"] == "the app's"
    answer = trip.exchange(query(back)["code"], device="Ada's phone")
    account = signed_in(trip.phone, answer).get(ME).json
    assert (account["username"], account["email"], account["email_verified"]) == (None, "ada@example.com", True)
    assert set(answer.json) == {"access_token", "token_type", "expires_in", "refresh_token", "session_id"}


def test_the_token_endpoint_is_asked_with_our_secret_and_a_verifier_of_our_own(trip: Trip, issuer: Issuer) -> None:
    trip.code()
    ((path, form, headers),) = issuer.posted
    assert path == "/token"
    assert form.keys() == {"grant_type", "code", "redirect_uri", "code_verifier"}
    assert web_sign_in.challenge_of(form["code_verifier"]) == trip.asked["code_challenge"]
    assert form["code_verifier"] != trip.verifier
    assert headers["Authorization"].startswith("Basic ")
    assert SECRET not in str(issuer.posted)


def test_who_comes_again_gets_the_same_account_by_either_way(trip: Trip, issuer: Issuer) -> None:
    ada = signed_in(trip.phone, trip.exchange(trip.code()))
    assert signed_in(trip.phone, trip.exchange(trip.code())).id == ada.id
    native = trip.phone.post("/auth/providers/acme", {"id_token": issuer.token()})
    assert signed_in(trip.phone, native).id == ada.id


@pytest.mark.parametrize("state", ["", "a b&c=d#e%41?/", "x" * 1000, None])
def test_the_state_of_the_app_comes_back_as_it_was(trip: Trip, state: str | None) -> None:
    trip.begin(state=state)
    trip.grant()
    location = trip.back().headers["Location"]
    told = parse_qs(urlsplit(location).query, keep_blank_values=True)
    assert told.get("state") == (None if state is None else [state])
    assert "#" not in location


def test_a_link_with_a_query_keeps_it(trip: Trip) -> None:
    trip.begin(redirect_uri=SITE)
    trip.grant()
    assert trip.back().headers["Location"].startswith(f"{SITE}&code=")


def test_an_endpoint_with_a_query_keeps_it(trip: Trip, issuer: Issuer) -> None:
    issuer.document["authorization_endpoint"] = f"{issuer.url}/authorize?tenant=7"
    assert trip.begin().headers["Location"].startswith(f"{issuer.url}/authorize?tenant=7&response_type=code")


def test_what_leads_on_is_kept_nowhere(trip: Trip) -> None:
    begun = trip.begin()
    trip.grant()
    for answer in (begun, trip.back()):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.data == b""


# Apple


def test_apple_comes_back_by_a_form(apple_trip: Trip, apple: Issuer) -> None:
    apple_trip.begin()
    assert apple_trip.asked["response_mode"] == "form_post"
    relay = {"email": "x7k2m@privaterelay.example.com", "email_verified": "true", "is_private_email": "true"}
    apple_trip.grant("000.abc", **relay)
    back = apple_trip.back(user=json.dumps({"name": {"firstName": "Ada"}}))
    account = signed_in(apple_trip.phone, apple_trip.exchange(query(back)["code"])).get(ME).json
    assert (account["email"], account["email_verified"]) == ("x7k2m@privaterelay.example.com", True)


def test_apple_is_shown_a_secret_that_is_signed_when_it_is_needed(apple_trip: Trip, apple: Issuer) -> None:
    apple_trip.begin()
    apple_trip.grant()
    apple_trip.back()
    ((_, form, headers),) = apple.posted
    assert "Authorization" not in headers
    assert form["client_id"] == WEB
    assert jwt.get_unverified_header(form["client_secret"]) == {"alg": "ES256", "kid": "KEY", "typ": "JWT"}
    claims = jwt.decode(form["client_secret"], KEY.public_key(), algorithms=["ES256"], audience=apple.url)
    assert (claims["iss"], claims["sub"]) == ("TEAM", WEB)
    assert 0 < claims["exp"] - time.time() <= 300


def test_who_changes_their_mind_at_apple_is_told_as_elsewhere(apple_trip: Trip) -> None:
    apple_trip.begin()
    assert error_of(apple_trip.back(code=None, error="user_cancelled_authorize")) == "access_denied"


# The cookie


def morsel(answer: TestResponse) -> Any:
    (line,) = answer.headers.getlist("Set-Cookie")
    ((_, found),) = SimpleCookie(line).items()
    return found


def test_the_cookie_is_for_this_host_and_no_page_reads_it(trip: Trip, apple_trip: Trip) -> None:
    for one, same_site in ((trip, "Lax"), (apple_trip, "None")):
        found = morsel(one.begin())
        assert found.key == "__Host-madang_sign_in"
        assert (found["path"], found["domain"], found["samesite"]) == ("/", "", same_site)
        assert found["secure"]
        assert found["httponly"]
        assert found["max-age"] == "600"
        # Nothing of what it holds can be read.
        for shown in (one.asked["state"], APP, "the app's"):
            assert shown not in found.value


def test_without_tls_the_cookie_goes_where_there_is_none(make_app: MakeApp, issuer: Issuer, apple: Issuer) -> None:
    trip = Trip(make_app(**{**about(issuer, apple), "PUBLIC_URL": "http://localhost:8000"}), apple, "apple")
    found = morsel(trip.begin())
    assert (found.key, found["secure"], found["samesite"]) == ("madang_sign_in", "", "Lax")


def test_the_cookie_goes_when_the_browser_comes_back(trip: Trip) -> None:
    trip.begin()
    trip.grant()
    found = morsel(trip.back())
    assert (found.value, found["max-age"], found["path"]) == ("", "0", "/")


def test_the_longest_of_everything_fits_into_a_cookie(make_app: MakeApp, issuer: Issuer) -> None:
    link = "https://app.example.com/" + "x" * 240
    trip = Trip(make_app(**{**about(issuer), "PROVIDER_REDIRECTS": [link]}), issuer)
    answer = trip.begin(redirect_uri=link, state="x" * 1000)
    assert len(answer.headers["Set-Cookie"]) < 4096
    trip.grant()
    assert trip.back().headers["Location"].startswith(link)


def test_a_sign_in_that_comes_to_nothing_stores_nothing(trip: Trip) -> None:
    for _ in range(3):
        trip.begin()
        trip.back(code=None, error="access_denied")
    assert SpentToken._get_collection().count_documents({}) == 0
    assert AuthorizationCode._get_collection().count_documents({}) == 0


# Attacks on the way back


def test_a_state_that_is_not_that_of_the_browser_is_a_problem(trip: Trip, issuer: Issuer) -> None:
    trip.begin()
    trip.grant()
    for state in ("", "another", trip.asked["state"] + "x", "é", "\x00"):
        answer = trip.back(state=state)
        assert why(answer) == UNKNOWN, state
        assert "Location" not in answer.headers
    assert issuer.posted == []
    # And the one that was begun can still be ended.
    assert "code" in query(trip.back())


def test_a_callback_in_another_browser_is_a_problem(served: Flask, trip: Trip, issuer: Issuer) -> None:
    trip.begin()
    trip.grant()
    here, trip.browser = trip.browser, Phone(served.test_client())
    assert why(trip.back()) == UNKNOWN
    other = Trip(served, issuer)
    other.begin()
    trip.browser = other.browser
    assert why(trip.back()) == UNKNOWN
    assert issuer.posted == []
    trip.browser = here
    assert "code" in query(trip.back())


def held_cookie(trip: Trip) -> str:
    return morsel(trip.begin()).value


def test_a_callback_is_good_once_also_with_the_cookie_of_before(trip: Trip, issuer: Issuer) -> None:
    sealed = held_cookie(trip)
    trip.grant()
    assert "code" in query(trip.back())
    assert why(trip.back()) == UNKNOWN
    trip.browser.client.set_cookie("__Host-madang_sign_in", sealed)
    assert why(trip.back()) == UNKNOWN
    assert len(issuer.posted) == 1


@pytest.mark.real
def test_of_many_callbacks_at_once_one_is_good(served: Flask, trip: Trip, issuer: Issuer) -> None:
    sealed = held_cookie(trip)
    trip.grant()

    def one() -> TestResponse:
        browser = Phone(served.test_client())
        browser.client.set_cookie("__Host-madang_sign_in", sealed)
        sent = {"code": "a code", "state": trip.asked["state"]}
        return browser.get("/auth/providers/acme/callback", query_string=sent)

    assert statuses(*[one] * 6) == [302, *[400] * 5]
    assert len(issuer.posted) == 1


def test_a_cookie_that_we_did_not_make_is_none(trip: Trip) -> None:
    sealed = held_cookie(trip)
    for text in ("", "x", sealed[:-4], sealed + "AAAA", "A" * len(sealed), sealed[:20] + "xxxx" + sealed[24:], "é"):
        trip.browser.client.set_cookie("__Host-madang_sign_in", text)
        assert why(trip.back()) == UNKNOWN, text


def test_a_sign_in_at_one_provider_ends_at_no_other(served: Flask, trip: Trip, apple: Issuer) -> None:
    trip.begin()
    mixed = Trip(served, apple, "apple")
    mixed.browser, mixed.asked = trip.browser, trip.asked
    assert why(mixed.back()) == UNKNOWN
    assert apple.posted == []


def test_who_stays_away_too_long_begins_anew(trip: Trip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_sign_in, "FLOW_MINUTES", 0)
    trip.begin()
    monkeypatch.undo()
    assert why(trip.back()) == UNKNOWN


def test_a_link_that_the_settings_no_longer_have_leads_nowhere(make_app: MakeApp, trip: Trip, issuer: Issuer) -> None:
    sealed = held_cookie(trip)
    later = Trip(make_app(**{**about(issuer), "PROVIDER_REDIRECTS": [SITE]}), issuer)
    later.asked = trip.asked
    later.browser.client.set_cookie("__Host-madang_sign_in", sealed)
    assert why(later.back()) == UNKNOWN


def test_an_answer_of_another_issuer_is_not_followed(trip: Trip, issuer: Issuer, apple: Issuer) -> None:
    for iss in (apple.url, issuer.url + "/", "", "null"):
        trip.begin()
        trip.grant()
        assert error_of(trip.back(iss=iss)) == "server_error"
    assert issuer.posted == apple.posted == []
    trip.begin()
    trip.grant()
    assert "code" in query(trip.back(iss=issuer.url))


def test_an_issuer_that_names_itself_does_so_each_time(trip: Trip, issuer: Issuer) -> None:
    issuer.document["authorization_response_iss_parameter_supported"] = True
    trip.begin()
    trip.grant()
    assert error_of(trip.back()) == "server_error"
    trip.begin()
    assert error_of(trip.back(code=None, error="access_denied")) == "server_error"
    assert issuer.posted == []
    trip.begin()
    trip.grant()
    assert "code" in query(trip.back(iss=issuer.url))


def test_that_an_issuer_names_itself_every_process_knows(make_app: MakeApp, trip: Trip, issuer: Issuer) -> None:
    issuer.document["authorization_response_iss_parameter_supported"] = True
    sealed = held_cookie(trip)
    other = Trip(make_app(**about(issuer)), issuer)
    other.asked = trip.asked
    other.browser.client.set_cookie("__Host-madang_sign_in", sealed)
    assert error_of(other.back()) == "server_error"
    assert issuer.posted == []


def test_what_comes_back_while_the_issuer_is_away_is_told_to_the_app(
    make_app: MakeApp, trip: Trip, issuer: Issuer
) -> None:
    sealed = held_cookie(trip)
    other = Trip(make_app(**about(issuer)), issuer)
    other.asked = trip.asked
    other.browser.client.set_cookie("__Host-madang_sign_in", sealed)
    issuer.broken = (500, {}, b"{}")
    assert error_of(other.back()) == "temporarily_unavailable"


def test_parameters_that_stand_twice_are_a_problem(trip: Trip) -> None:
    trip.begin()
    state = trip.asked["state"]
    for text in (f"code=a&code=b&state={state}", f"code=a&state={state}&state=b"):
        assert why(trip.browser.get(f"{trip.path}/callback?{text}")) == UNKNOWN


TOKENS: dict[str, dict[str, Any]] = {
    "for another client of ours": {"aud": IOS},
    "for both": {"aud": [IOS, WEB], "azp": WEB},
    "of another sign-in": {"nonce": "another"},
    "without a nonce": {"nonce": None},
    "of another issuer": {"iss": "https://accounts.example.com"},
    "that has expired": {"exp": int(time.time()) - 60},
    "beside another code": {"c_hash": encode_base64url(hashlib.sha256(b"another").digest()[:16])},
}


@pytest.mark.parametrize("name", TOKENS)
def test_an_id_token_that_is_not_that_of_this_sign_in_gives_no_code(trip: Trip, name: str) -> None:
    trip.begin()
    trip.grant(**TOKENS[name])
    assert error_of(trip.back()) == "server_error"
    assert AuthorizationCode._get_collection().count_documents({}) == 0


# What the provider says instead


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("access_denied", "access_denied"),
        ("login_required", "login_required"),
        ("", "server_error"),
        ("x" * 100, "server_error"),
        ("a&code=b", "server_error"),
        ("\r\nSet-Cookie: a=b", "server_error"),
        ("<script>", "server_error"),
    ],
)
def test_errors_of_the_provider_reach_the_app(trip: Trip, issuer: Issuer, said: str, told: str) -> None:
    trip.begin()
    answer = trip.back(error=said, error_description="<b>no</b>", error_uri="https://evil.example")
    assert error_of(answer) == told
    assert "evil" not in answer.headers["Location"]
    assert issuer.posted == []


def test_neither_a_code_nor_an_error_is_an_error(trip: Trip) -> None:
    for code in (None, ""):
        trip.begin()
        assert error_of(trip.back(code=code)) == "server_error"


BROKEN: dict[str, tuple[tuple[int, dict[str, str], bytes], str]] = {
    "refuses the code": ((400, {}, b'{"error": "invalid_grant"}'), "server_error"),
    "does not know us": ((401, {}, b'{"error": "invalid_client"}'), "server_error"),
    "refuses without a reason": ((400, {}, b"{}"), "server_error"),
    "refuses with a page": ((400, {}, b"<html>"), "temporarily_unavailable"),
    "is away": ((503, {}, b""), "temporarily_unavailable"),
    "sends a page": ((200, {}, b"<html>"), "temporarily_unavailable"),
    "sends a list": ((200, {}, b"[]"), "temporarily_unavailable"),
    "sends no token": ((200, {}, b"{}"), "server_error"),
    "sends a token of another type": ((200, {}, b'{"id_token": 7}'), "server_error"),
    "redirects": ((302, {"Location": "/keys"}, b""), "temporarily_unavailable"),
    "redirects with the form": ((307, {"Location": "/keys"}, b""), "temporarily_unavailable"),
    "sends too much": ((200, {}, b" " * (fetching.LARGEST_DOCUMENT + 1)), "temporarily_unavailable"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_token_endpoint_that_does_not_work_is_an_error_of_the_app(trip: Trip, issuer: Issuer, name: str) -> None:
    trip.begin()
    asked = list(issuer.asked)
    issuer.broken, told = BROKEN[name]
    assert error_of(trip.back()) == told
    assert issuer.asked == [*asked, "/token"]


def test_a_token_endpoint_that_sends_a_gigabyte_is_cut_off(trip: Trip, issuer: Issuer) -> None:
    trip.begin()
    issuer.endless = True
    issuer.broken = (200, {"Content-Length": str(2**30)}, b"{")
    assert error_of(trip.back()) == "temporarily_unavailable"
    assert issuer.sent < 2**24


def test_a_token_endpoint_that_hangs_costs_a_bounded_wait(
    trip: Trip, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trip.begin()
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 0.3)
    issuer.silent.set()
    begun = time.monotonic()
    assert error_of(trip.back()) == "temporarily_unavailable"
    assert time.monotonic() - begun < 2


def test_of_those_who_wait_for_one_provider_so_many_are_let(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 0.05)
    limited, hanging = Limited(), Barrier(fetching.MOST_WAITING + 1)
    for _ in range(fetching.MOST_WAITING):
        with pytest.raises(fetching.ProviderUnavailable):
            limited.wait(hanging.wait)
    # All places are taken, also by those for whom nobody waits any more; this one is not even begun.
    with pytest.raises(fetching.ProviderUnavailable):
        limited.wait(lambda: pytest.fail("it was asked"))
    hanging.wait()
    end = time.monotonic() + 10
    while limited.free._value < fetching.MOST_WAITING and time.monotonic() < end:
        time.sleep(0.01)
    assert limited.wait(lambda: 7) == 7


def test_what_is_wrong_with_a_question_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        Limited().wait(lambda: 1 // 0)
    with pytest.raises(RefusedByProvider):
        Limited().wait(refused)


def refused() -> None:
    raise RefusedByProvider("invalid_grant")


def test_while_the_issuer_is_away_a_start_is_503(trip: Trip, issuer: Issuer) -> None:
    issuer.broken = (500, {}, b"{}")
    answer = trip.begin()
    assert why(answer) == (503, "provider_unavailable")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    "place", [None, 7, "javascript:alert(1)", "file:///etc/passwd", "//evil.example", "/authorize"]
)
def test_an_issuer_without_an_address_for_people_is_503(trip: Trip, issuer: Issuer, place: Any) -> None:
    issuer.document["authorization_endpoint"] = place
    assert why(trip.begin()) == (503, "provider_unavailable")


@pytest.mark.parametrize("place", [None, "file:///etc/passwd", "data:,{}"])
def test_an_issuer_without_a_token_endpoint_gives_no_code(trip: Trip, issuer: Issuer, place: Any) -> None:
    issuer.document["token_endpoint"] = place
    trip.begin()
    assert error_of(trip.back()) == "temporarily_unavailable"


# The start


FORMS = [
    "https://evil.example/",
    f"{APP}/",
    f"{APP}?x=1",
    f"{APP}#",
    f"{APP}#@evil.example",
    APP.upper(),
    "COM.example.notes:/signed-in",
    "com.example.notes:///signed-in",
    "com.example.notes:/signed-in%2F..",
    "com.example.notes:\\signed-in",
    "com.example.notes://evil.example/signed-in",
    "https://app.example.com@evil.example/signed-in?from=web",
    "https://user@app.example.com/signed-in?from=web",
    "https://app.example.com.evil.example/signed-in?from=web",
    "https://app.example.com\\@evil.example/signed-in?from=web",
    "https:\\\\app.example.com/signed-in?from=web",
    "//app.example.com/signed-in?from=web",
    "/signed-in",
    "https://app.example.com./signed-in?from=web",
    "https://APP.example.com/signed-in?from=web",
    "https://app.example.com:443/signed-in?from=web",
    "http://app.example.com/signed-in?from=web",
    "https://app.example.com//signed-in?from=web",
    "https://app.example.com/x/../signed-in?from=web",
    "https://app.example.com/signed-in?from=web&next=//evil.example",
    "https://app.example.com/signed-in?from=web#",
    " https://app.example.com/signed-in?from=web",
    "https://app.example.com/signed-in?from=web\n",
    "https://app.example.com/signed-in?from=web\x00",
    "https://app。example。com/signed-in?from=web",
    "https://\uff41pp.example.com/signed-in?from=web",
    "https://\u0430pp.example.com/signed-in?from=web",
    "javascript:alert(1)",
    "",
]


@pytest.mark.parametrize("link", FORMS)
def test_a_link_that_is_not_in_the_settings_to_the_letter_is_a_problem(trip: Trip, issuer: Issuer, link: str) -> None:
    answer = trip.begin(redirect_uri=link)
    assert why(answer) == UNKNOWN
    assert "redirect_uri" in answer.json["errors"][0]["parameter"]
    assert "Location" not in answer.headers
    assert "Set-Cookie" not in answer.headers
    assert issuer.asked == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"redirect_uri": None},
        {"code_challenge": None},
        {"code_challenge": ""},
        {"code_challenge": "x" * 42},
        {"code_challenge": "x" * 44},
        {"code_challenge": "x" * 42 + "="},
        {"code_challenge": "x" * 43 + "\n"},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge_method": ""},
        {"state": "x" * 1001},
        {"state": "é"},
        {"state": "a\r\nLocation: https://evil.example"},
        {"client_id": WEB},
    ],
)
def test_a_mistake_at_the_start_is_a_problem_and_never_a_redirect(
    trip: Trip, issuer: Issuer, wrong: dict[str, Any]
) -> None:
    answer = trip.begin(**wrong)
    assert why(answer) == UNKNOWN
    assert "Location" not in answer.headers
    assert issuer.asked == []


def test_a_provider_that_has_no_client_for_browsers_has_no_start(make_app: MakeApp, issuer: Issuer) -> None:
    for lacking in ({"client_secret": None}, {"client_ids": {"ios": IOS}}):
        changed = about(issuer)
        changed["PROVIDERS"]["acme"] |= lacking
        trip = Trip(make_app(**changed), issuer)
        assert why(trip.begin()) == (404, "not_found")
        trip.asked = {"state": "x"}
        assert why(trip.back()) == (404, "not_found")
    trip.provider = "other"
    assert why(trip.begin()) == (404, "not_found")


# The exchange


def test_a_code_is_good_once(trip: Trip) -> None:
    code = trip.code()
    assert trip.exchange(code).status_code == 200
    assert why(trip.exchange(code)) == REFUSED
    assert code not in str(list(AuthorizationCode._get_collection().find()))


@pytest.mark.real
def test_of_one_code_that_is_sent_many_times_at_once_one_is_good(trip: Trip) -> None:
    body = {"code": trip.code(), "code_verifier": trip.verifier}

    def one() -> TestResponse:
        return Phone(trip.phone.client.application.test_client()).post("/auth/providers/exchange", body)

    assert statuses(*[one] * 6) == [200, *[401] * 5]
    assert Account._get_collection().count_documents({}) == 1


@pytest.mark.parametrize("verifier", ["x" * 43, "short", "é" * 43, "x" * 129])
def test_with_the_verifier_of_another_a_code_is_void(trip: Trip, verifier: str) -> None:
    code = trip.code()
    assert why(trip.exchange(code, verifier)) == REFUSED
    assert why(trip.exchange(code)) == REFUSED
    assert Account._get_collection().count_documents({}) == 0


def test_the_challenge_itself_is_no_verifier(trip: Trip) -> None:
    assert why(trip.exchange(trip.code(), web_sign_in.challenge_of(trip.verifier))) == REFUSED


def test_a_verifier_that_can_be_guessed_is_none(trip: Trip) -> None:
    trip.verifier = "guess"
    assert why(trip.exchange(trip.code())) == REFUSED


def test_a_code_is_good_for_a_minute(trip: Trip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_sign_in, "CODE_SECONDS", 0)
    assert why(trip.exchange(trip.code())) == REFUSED


def test_a_code_is_good_no_longer_than_it_is_known_that_its_token_was_used(trip: Trip) -> None:
    trip.code(exp=int(time.time()) + 5)
    (found,) = AuthorizationCode._get_collection().find()
    assert found["expires_at"] == found["until"]


def test_a_code_of_nobody_is_refused(trip: Trip) -> None:
    for code in ("", "x", "é", "x" * 200):
        assert why(trip.exchange(code)) == REFUSED
    for wrong in ({}, {"code": "x"}, {"code": 7, "code_verifier": "x"}, {"code": "x" * 201, "code_verifier": "x"}):
        assert trip.phone.post("/auth/providers/exchange", wrong).status_code == 422


def test_guessing_at_codes_and_callbacks_is_slowed_down(make_app: MakeApp, issuer: Issuer) -> None:
    limits = {"RATELIMIT_ENABLED": True, "RATELIMIT_FAILED_LOGINS": "3 per 5 minutes"}
    trip = Trip(make_app(**about(issuer), **limits), issuer)
    # An address of its own: what is counted stays for the other tests.
    for one in (trip.browser, trip.phone):
        one.client.environ_base["REMOTE_ADDR"] = "192.0.2.77"
    assert [trip.exchange("guess").status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    told = []
    for _ in range(5):
        trip.begin()
        told.append(error_of(trip.back()))
    assert told == [*["server_error"] * 3, *["temporarily_unavailable"] * 2]
    assert len(issuer.posted) == 3


# Whom it opens


def test_an_address_that_an_account_has_is_told_to_the_app_alone(trip: Trip, ada: Person) -> None:
    make_verified(ada, "ada@example.com")
    trip.begin()
    trip.grant(**VERIFIED)
    back = query(trip.back())
    assert back.keys() == {"code", "state"}
    assert why(trip.exchange(back["code"])) == (409, "account_exists")
    # The code was good for nothing yet, so the app can link by it after the sign-in.
    linked = ada.post(f"{ME}/identities", {"provider": "acme", "code": back["code"], "code_verifier": trip.verifier})
    assert linked.status_code == 201
    assert why(trip.exchange(back["code"])) == REFUSED
    assert signed_in(trip.phone, trip.exchange(trip.code())).id == ada.id


def test_a_guest_becomes_a_full_account_by_a_browser(trip: Trip) -> None:
    guest = signed_in(trip.phone, trip.phone.post("/auth/guest", {}))
    note = guest.make_note()
    body = {"provider": "acme", "code": trip.code(), "code_verifier": trip.verifier}
    assert guest.post(f"{ME}/identities", body).status_code == 201
    again = signed_in(trip.phone, trip.exchange(trip.code()))
    assert again.id == guest.id
    assert again.get(f"/v1/notes/{note['id']}").status_code == 200


def test_a_code_links_at_its_provider_with_its_verifier_alone(trip: Trip, ada: Person) -> None:
    other = {"provider": "apple", "code": trip.code(), "code_verifier": trip.verifier}
    assert why(ada.post(f"{ME}/identities", other)) == REFUSED
    wrong = {"provider": "acme", "code": trip.code(), "code_verifier": "x" * 43}
    assert why(ada.post(f"{ME}/identities", wrong)) == REFUSED
    code = trip.code()
    for body in (
        {},
        {"code": code},
        {"code_verifier": trip.verifier},
        {"code": code, "code_verifier": trip.verifier, "id_token": "x"},
        {"code": code, "id_token": "x"},
    ):
        assert ada.post(f"{ME}/identities", {"provider": "acme", **body}).status_code == 422
    good = {"provider": "acme", "code": code, "code_verifier": trip.verifier}
    assert ada.post(f"{ME}/identities", good).status_code == 201


def test_a_locked_account_is_closed_in_a_browser_too(trip: Trip) -> None:
    ada = signed_in(trip.phone, trip.exchange(trip.code()))
    Account.objects(id=ada.id).update(locked_at=Account.objects.get(id=ada.id).created_at)
    assert why(trip.exchange(trip.code())) == (403, "forbidden")


# The settings


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"client_secret": ""}, "PROVIDERS.acme.client_secret: "),
        ({"team_id": "TEAM"}, "PROVIDERS.acme: team_id, key_id and private_key are Apple's"),
    ],
)
def test_a_mistake_in_a_secret_stops_the_start(
    make_app: MakeApp, issuer: Issuer, changed: dict[str, Any], told: str
) -> None:
    wrong = about(issuer)
    wrong["PROVIDERS"]["acme"] |= changed
    with pytest.raises(ValueError, match="PROVIDERS") as refused:
        make_app(**wrong)
    assert told in str(refused.value)


OTHER_KEY = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"key_id": None}, "PROVIDERS.apple.key_id has to be set too"),
        ({"private_key": None}, "PROVIDERS.apple.private_key has to be set too"),
        ({"private_key": "a secret"}, "PROVIDERS.apple.private_key: it has to be the text of the key file"),
        ({"private_key": OTHER_KEY.decode()}, "PROVIDERS.apple.private_key: it has to be the text of the key file"),
        ({"client_secret": "a secret"}, "PROVIDERS.apple.client_secret is made here"),
    ],
)
def test_a_mistake_in_the_key_of_apple_stops_the_start(
    make_app: MakeApp, issuer: Issuer, apple: Issuer, changed: dict[str, Any], told: str
) -> None:
    wrong = about(issuer, apple)
    wrong["PROVIDERS"]["apple"] |= changed
    with pytest.raises(ValueError, match="PROVIDERS") as refused:
        make_app(**wrong)
    assert told in str(refused.value)
    assert "a secret" not in str(refused.value)


def test_no_provider_is_called_as_a_path_of_ours(make_app: MakeApp, issuer: Issuer) -> None:
    with pytest.raises(ValueError, match=r"PROVIDERS\.exchange"):
        make_app(PROVIDERS={"exchange": about(issuer)["PROVIDERS"]["acme"]})


def test_secrets_are_in_no_text_of_what_holds_them(served: Flask) -> None:
    shown = repr(served.extensions["madang.security"].linked_identities.providers.by_name)
    assert SECRET not in shown
    assert "EllipticCurve" not in shown


def test_a_mistake_among_providers_does_not_repeat_them() -> None:
    with pytest.raises(SettingsError) as refused:
        settings.load({"SERVICE_ENV": "local", "SERVICE_PROVIDERS": '{"acme": "a secret"'})
    assert "SERVICE_PROVIDERS is not right" in str(refused.value)
    assert "a secret" not in str(refused.value)


def test_links_into_apps_need_an_address_of_the_service(make_app: MakeApp, issuer: Issuer) -> None:
    with pytest.raises(ValueError, match="PUBLIC_URL has to be set where PROVIDER_REDIRECTS is"):
        make_app(**{**about(issuer), "PUBLIC_URL": ""})


@pytest.mark.parametrize(
    "link",
    [
        "http://app.example.com/",
        "https://app.example.com",
        "https://app.example.com/#",
        "https://APP.example.com/",
        "https://app.example.com./",
        "https://user@app.example.com/",
        "https://app.example.com\\/",
        "https:app.example.com/",
        "//app.example.com/",
        "/signed-in",
        "https://äpp.example.com/",
        "https://app.example.com/ä",
        "https://app.example.com/\n",
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "data:text/html,x",
        "intent://x#Intent;end",
        "file:///x",
        "com.example.notes:/a b",
        "",
    ],
)
def test_a_link_that_leads_astray_is_no_setting(link: str) -> None:
    with pytest.raises(SettingsError, match="SERVICE_PROVIDER_REDIRECTS"):
        settings.load({"SERVICE_ENV": "local", "SERVICE_PROVIDER_REDIRECTS": json.dumps([APP, link])})


def test_links_of_apps_are_settings() -> None:
    links = [APP, SITE, "notes:", "com.example.notes://signed-in", "https://app.example.com:8443/"]
    loaded = settings.load({"SERVICE_ENV": "local", "SERVICE_PROVIDER_REDIRECTS": json.dumps(links)})
    assert loaded["PROVIDER_REDIRECTS"] == links


# The API document


def test_every_answer_is_what_the_openapi_document_says(served: Flask, trip: Trip, apple_trip: Trip) -> None:
    document = openapi.document(served)
    begun = trip.begin()
    trip.grant(**VERIFIED)
    back = trip.back()
    apple_trip.begin()
    for answer in (
        begun,
        back,
        trip.back(),
        apple_trip.back(),
        apple_trip.back(),
        trip.begin(redirect_uri="x"),
        trip.exchange(query(back)["code"]),
        trip.exchange("x"),
        trip.phone.post("/auth/providers/exchange", {}),
    ):
        assert list(complaints(served, document, answer)) == []


def test_no_password_opens_what_a_browser_has_made(trip: Trip) -> None:
    signed_in(trip.phone, trip.exchange(trip.code(**VERIFIED)))
    assert trip.phone.post("/auth", {"username": "ada@example.com", "password": PASSWORD}).status_code == 401
