"""Sign-in by a real OpenID provider: the certified `oidc-provider`, run here, as a native app uses it."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
import requests
from flask import Flask
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from service.serve.ports import free_port
from tests.client import Phone
from tests.issuing import IOS, WEB
from tests.test_browser import http
from tests.test_generated_clients import OURS, TOOLS

pytestmark = pytest.mark.clients
MakeApp = Callable[..., Flask]
CALLBACK = "com.example.notes:/callback"


@contextmanager
def provider(folder: Path, port: int, algorithm: str, *callback: str) -> Iterator[str]:
    """Run the provider with new keys, and give its issuer; with a `callback` it has a client for browsers too."""
    if not (TOOLS / "node_modules/oidc-provider").exists():
        pytest.fail("there is no OpenID provider: `make clients` installs it")
    folder.mkdir()
    shutil.copy(OURS / "provider.mjs", folder)
    (folder / "node_modules").symlink_to(TOOLS / "node_modules")
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            ["node", folder / "provider.mjs", str(port), algorithm, *callback],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n", (folder / "said").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def device(make_app: MakeApp, port: int) -> Phone:
    about = {"issuer": f"http://127.0.0.1:{port}", "client_ids": {"ios": IOS}}
    return Phone(make_app(PROVIDERS={"acme": about}).test_client())


def moved(answer: requests.Response) -> str:
    """Where an answer sends the browser."""
    assert answer.status_code in (302, 303), answer.text
    return urljoin(answer.url, answer.headers["Location"])


def id_token(issuer: str, person: str, nonce: str) -> str:
    """What an app gets when `person` signs in: code, PKCE and the pages of the provider, as its browser goes."""
    browser, verifier = http(), secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "client_id": IOS,
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid email",
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    place = signed_in_there(browser, moved(browser.get(f"{issuer}/auth", params=asked, allow_redirects=False)), person)
    code = parse_qs(urlsplit(place).query)["code"][0]
    sent = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "client_id": IOS}
    return str(browser.post(f"{issuer}/token", data={**sent, "code_verifier": verifier}).json()["id_token"])


def signed_in_there(browser: requests.Session, place: str, person: str) -> str:
    """Where a browser comes to with whom `person` has signed in by the pages of the provider."""
    forms = [{"prompt": "login", "login": person, "password": "any"}, {"prompt": "consent"}]
    while "/callback" not in place:
        page = browser.get(place, allow_redirects=False)
        if page.status_code == 200:
            (action,) = re.findall(r'<form[^>]* action="([^"]+)"', page.text)
            page = browser.post(urljoin(page.url, action), data=forms.pop(0), allow_redirects=False)
        place = moved(page)
    return place


def sign_in(device: Phone, token: str, nonce: str) -> TestResponse:
    return device.post("/auth/providers/acme", {"id_token": token, "nonce": nonce})


def account(device: Phone, answer: TestResponse) -> dict[str, object]:
    """The account of whom an answer signs in."""
    assert answer.status_code == 200, answer.json
    headers = {"Authorization": f"Bearer {answer.json['access_token']}"}
    found: dict[str, object] = device.get("/v1/accounts/me", headers=headers).json
    return found


def test_people_of_a_certified_provider_sign_in_also_after_its_keys_have_changed(
    device: Phone, port: int, tmp_path: Path
) -> None:
    with provider(tmp_path / "first", port, "RS256") as issuer:
        token = id_token(issuer, "ada", "n1")
        ada = account(device, sign_in(device, token, "n1"))
        assert (ada["email"], ada["email_verified"], ada["username"]) == ("ada@example.com", True, None)
        assert sign_in(device, token, "n1").status_code == 401
        assert sign_in(device, id_token(issuer, "ada", "n2"), "n1").status_code == 401
        unverified = account(device, sign_in(device, id_token(issuer, "unverified", "n3"), "n3"))
        assert (unverified["email"], unverified["email_verified"]) == ("unverified@example.com", False)
        late = id_token(issuer, "ada", "n4")
    with provider(tmp_path / "second", port, "ES256") as issuer:
        assert account(device, sign_in(device, id_token(issuer, "ada", "n5"), "n5"))["id"] == ada["id"]
        assert sign_in(device, late, "n4").status_code == 401


# In a browser


@contextmanager
def listening(app: Flask, port: int) -> Iterator[None]:
    """Serve an app on a port."""
    server = make_server("127.0.0.1", port, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


def test_people_of_a_certified_provider_sign_in_in_a_browser(
    make_app: MakeApp, port: int, own_port: int, tmp_path: Path
) -> None:
    here = f"http://127.0.0.1:{own_port}"
    names = {"issuer": f"http://127.0.0.1:{port}", "client_ids": {"web": WEB}}
    secret = {"client_secret": "a secret that the two share"}
    app = make_app(PROVIDERS={"acme": {**names, **secret}}, PROVIDER_REDIRECTS=[APP], PUBLIC_URL=here)
    with listening(app, own_port), provider(tmp_path / "web", port, "RS256", f"{here}/auth/providers/acme/callback"):
        place, verifier, browser = came_back(here, "ada")
        answer = browser.get(place, allow_redirects=False)
        back = urlsplit(moved(answer))
        told = parse_qs(back.query)
        assert (back.scheme, back.path, told["state"]) == ("com.example.notes", "/signed-in", ["the app's"])
        body = {"code": told["code"][0], "code_verifier": verifier}
        assert (
            http().post(f"{here}/auth/providers/exchange", json={**body, "code_verifier": "x" * 43}).status_code == 401
        )
        # The same answer again, in the same browser and in another one.
        assert browser.get(place, allow_redirects=False).status_code == 400
        assert http().get(place, allow_redirects=False).status_code == 400

        place, verifier, browser = came_back(here, "ada")
        assert http().get(place, allow_redirects=False).status_code == 400
        code = parse_qs(urlsplit(moved(browser.get(place, allow_redirects=False))).query)["code"][0]
        body = {"code": code, "code_verifier": verifier, "device": "Ada's phone"}
        tokens = http().post(f"{here}/auth/providers/exchange", json=body)
        headers = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
        ada = http().get(f"{here}/v1/accounts/me", headers=headers).json()
        assert (ada["email"], ada["email_verified"], ada["username"]) == ("ada@example.com", True, None)
        assert http().post(f"{here}/auth/providers/exchange", json=body).status_code == 401

        # A code of somebody else's sign-in there: the provider holds it to the verifier of its own sign-in.
        stolen, _, _ = came_back(here, "bob")
        place, _, browser = came_back(here, "eve")
        codes = [parse_qs(urlsplit(one).query)["code"][0] for one in (place, stolen)]
        answer = browser.get(place.replace(*codes), allow_redirects=False)
        assert parse_qs(urlsplit(moved(answer)).query)["error"] == ["server_error"]


APP = "com.example.notes:/signed-in"


@pytest.fixture
def own_port() -> int:
    return free_port()


def came_back(here: str, person: str) -> tuple[str, str, requests.Session]:
    """Where a browser comes back to, the verifier of the app that has sent it, and the browser."""
    browser, verifier = http(), secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {"redirect_uri": APP, "code_challenge": challenge, "state": "the app's"}
    begun = browser.get(f"{here}/auth/providers/acme/start", params=asked, allow_redirects=False)
    return signed_in_there(browser, moved(browser.get(moved(begun), allow_redirects=False)), person), verifier, browser
