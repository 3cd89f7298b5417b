"""Passkeys in a real Chromium with its virtual authenticator, by the script of docs/passkeys.md."""

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from playwright.sync_api import Browser, CDPSession, Error, Page, sync_playwright
from werkzeug.serving import make_server

from service.core.base64url import decode_base64url, encode_base64url
from service.documents import Account
from service.serve.ports import free_port
from tests.certificates import certified
from tests.client import Person, Phone
from tests.conftest import ROOT
from tests.test_browser import chromium

pytestmark = pytest.mark.browser

PARTY = "example.test"
APP, ELSEWHERE = f"app.{PARTY}", f"shop.{PARTY}"
"""Names that only this browser knows: where passkeys may be used, and a page that is not meant, of the same domain."""
BAD = {"status": 401, "code": "bad_credentials"}


def example() -> str:
    """The script of the page, as it stands in the documentation."""
    found = re.search(r"```javascript\n(.*?)```", (ROOT / "docs" / "passkeys.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return certified(tmp_path_factory.mktemp("tls"), APP, ELSEWHERE)


@pytest.fixture(scope="module")
def browser(certificate: tuple[ssl.SSLContext, Path]) -> Iterator[Browser]:
    """A Chromium that takes our certificate: where it has doubts of one, there are no passkeys."""
    key = x509.load_pem_x509_certificate(certificate[1].read_bytes()).public_key()
    pin = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    arguments = [
        *("--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server", "--disable-background-networking"),
        f"--ignore-certificate-errors-spki-list={base64.b64encode(pin).decode()}",
        f"--host-resolver-rules=MAP {APP} 127.0.0.1, MAP {ELSEWHERE} 127.0.0.1, MAP * ~NOTFOUND",
    ]
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield found
        found.close()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def served(make_app: Callable[..., Flask], port: int) -> Flask:
    return make_app(WEBAUTHN_RP_ID=PARTY, WEBAUTHN_ORIGINS=[f"https://{APP}:{port}"])


@pytest.fixture
def person(served: Flask) -> Person:
    return Person.sign_up(served.test_client(), "ada")


class Device:
    """A browser with an authenticator that knows its user, on a page of the service."""

    def __init__(self, page: Page, port: int) -> None:
        self.page, self.port = page, port
        self.devtools: CDPSession = page.context.new_cdp_session(page)
        self.devtools.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        self.id = self.devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"]
        self.open(APP)

    def open(self, host: str) -> None:
        answer = self.page.goto(f"https://{host}:{self.port}/docs/problems")
        assert answer is not None
        assert answer.ok

    def run(self, call: str) -> Any:
        """What a call of the script of the documentation gives, or the problem that it throws."""
        return self.page.evaluate(
            f"async () => {{ {example()}\ntry {{ return await {call}; }}"
            " catch (error) { if (!error.code || error instanceof DOMException) throw error; return error; } }"
        )

    def add(self, person: Person, name: str = "laptop") -> Any:
        return self.run(f"addPasskey({json.dumps(person.tokens['access_token'])}, {json.dumps(name)})")

    def sign_in(self) -> Any:
        return self.run("signInByPasskey('Ada\\'s laptop')")

    def create(self, options: dict[str, Any]) -> Any:
        """What the browser makes of options, whoever has changed them."""
        call = "navigator.credentials.create({publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options)})"
        return self.page.evaluate(f"async options => (await {call}).toJSON()", options)

    def get(self, options: dict[str, Any]) -> Any:
        call = "navigator.credentials.get({publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options)})"
        return self.page.evaluate(f"async options => (await {call}).toJSON()", options)

    def held(self) -> list[dict[str, Any]]:
        """What the authenticator has, private keys too."""
        return list(self.devtools.send("WebAuthn.getCredentials", {"authenticatorId": self.id})["credentials"])

    def replace(self, key: dict[str, Any], **changed: Any) -> None:
        """Have a key be another one, as a thief of it could."""
        self.devtools.send("WebAuthn.clearCredentials", {"authenticatorId": self.id})
        self.devtools.send("WebAuthn.addCredential", {"authenticatorId": self.id, "credential": {**key, **changed}})


@pytest.fixture
def device(served: Flask, port: int, browser: Browser, certificate: tuple[ssl.SSLContext, Path]) -> Iterator[Device]:
    server = make_server("127.0.0.1", port, served, threaded=True, ssl_context=certificate[0])
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    # A page of an app may call its service; that of the problems, which stands for it, may call nobody.
    context = browser.new_context(bypass_csp=True)
    yield Device(context.new_page(), port)
    context.close()
    server.shutdown()
    thread.join()
    server.server_close()


def entered(served: Flask, tokens: dict[str, Any]) -> Phone:
    assert "access_token" in tokens, tokens
    return Phone(served.test_client(), {"Authorization": f"Bearer {tokens['access_token']}"})


def problem(answer: Any) -> dict[str, Any]:
    return {name: answer[name] for name in BAD}


def test_a_passkey_is_added_and_opens_the_account_without_a_name(served: Flask, person: Person, device: Device) -> None:
    added = device.add(person)
    assert added["name"] == "laptop", added
    (key,) = device.held()
    assert (key["isResidentCredential"], key["rpId"]) == (True, PARTY)
    assert decode_base64url(key_of(key["userHandle"])) == person.id.encode()
    phone = entered(served, device.sign_in())
    assert phone.get("/v1/accounts/me").json["id"] == person.id
    assert phone.get("/v1/accounts/me/passkeys").json["items"][0]["id"] == added["id"]
    assert "Ada's laptop" in [one["device"] for one in phone.get("/v1/accounts/me/sessions").json["items"]]


def key_of(text: str) -> str:
    """Base64 of the DevTools protocol in the form of the web."""
    return encode_base64url(base64.b64decode(text))


def test_of_two_accounts_on_one_device_each_is_opened_by_its_own_passkey(
    served: Flask, person: Person, device: Device
) -> None:
    device.add(person)
    (of_ada,) = device.held()
    bob = Person.sign_up(served.test_client(), "bob")
    device.add(bob)
    (of_bob,) = [key for key in device.held() if key["credentialId"] != of_ada["credentialId"]]
    for key, owner in ((of_ada, person), (of_bob, bob)):
        device.replace(key)
        assert entered(served, device.sign_in()).get("/v1/accounts/me").json["id"] == owner.id


def test_a_passkey_of_one_account_says_in_vain_to_be_of_another(served: Flask, person: Person, device: Device) -> None:
    bob = Person.sign_up(served.test_client(), "bob")
    device.add(bob)
    (key,) = device.held()
    device.replace(key, userHandle=base64.b64encode(person.id.encode()).decode())
    assert problem(device.sign_in()) == BAD
    device.replace(device.held()[0], userHandle=key["userHandle"])
    assert entered(served, device.sign_in()).get("/v1/accounts/me").json["id"] == bob.id


def test_an_authenticator_makes_one_passkey_for_an_account(person: Person, device: Device) -> None:
    device.add(person)
    with pytest.raises(Error, match="InvalidStateError"):
        device.add(person)
    assert len(device.held()) == 1


def test_a_count_that_goes_back_opens_nothing(person: Person, device: Device) -> None:
    device.add(person)
    (before,) = device.held()
    for _ in range(3):
        assert "access_token" in device.sign_in()
    device.replace(before)
    assert problem(device.sign_in()) == BAD
    (stored,) = Account._get_collection().find_one({"_id": person.id})["passkeys"]
    device.replace(before, signCount=stored["sign_count"])
    assert "access_token" in device.sign_in()


def test_a_page_elsewhere_gets_nothing_by_a_passkey(person: Person, device: Device) -> None:
    """The browser lets any page of a domain use its passkeys; which of them are ours, the service says."""
    device.add(person)
    device.open(ELSEWHERE)
    assert problem(device.sign_in()) == BAD
    device.open(APP)
    assert "access_token" in device.sign_in()


def test_a_passkey_that_was_made_on_a_page_elsewhere_is_not_added(person: Person, device: Device) -> None:
    device.open(ELSEWHERE)
    assert problem(device.add(person)) == BAD
    assert person.get("/v1/accounts/me/passkeys").json == {"items": []}


def test_a_passkey_of_another_relying_party_is_neither_added_nor_taken(
    served: Flask, person: Person, device: Device
) -> None:
    options = person.post("/v1/accounts/me/passkeys/options").json
    made = device.create({**options, "rp": {**options["rp"], "id": APP}})
    assert problem(person.post("/v1/accounts/me/passkeys", {"credential": made, "name": "laptop"}).json) == BAD
    # What is signed for another one with a key that we know.
    device.devtools.send("WebAuthn.clearCredentials", {"authenticatorId": device.id})
    device.add(person)
    device.replace(device.held()[0], rpId=APP)
    phone = Phone(served.test_client())
    asked = phone.post("/auth/passkeys/options").json
    signed = device.get({**asked, "rpId": APP})
    assert problem(phone.post("/auth/passkeys", {"credential": signed}).json) == BAD


def test_a_device_that_does_not_know_its_user_makes_no_passkey_and_uses_none(
    served: Flask, person: Person, device: Device
) -> None:
    device.add(person)
    device.devtools.send("WebAuthn.setUserVerified", {"authenticatorId": device.id, "isUserVerified": False})
    with pytest.raises(Error, match="NotAllowedError"):
        device.sign_in()
    # A page that asks for less than we do gets a signature, and no more.
    phone = Phone(served.test_client())
    signed = device.get({**phone.post("/auth/passkeys/options").json, "userVerification": "discouraged"})
    assert problem(phone.post("/auth/passkeys", {"credential": signed}).json) == BAD
