"""Web Push: what a push service gets, and that the browser alone can read it, by a library that is not ours."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask

from service import push
from service.core.base64url import decode_base64url, encode_base64url
from service.documents import OutboxItem, Session
from service.outbox import calling
from service.push import web_push
from service.push.platform import Push
from service.push.subscription import PushSubscription
from service.push.web_push import Lately, topic_of
from tests.certificates import certified
from tests.client import Person
from tests.pushing import VAPID_KEY, Sending, credentials, is_registered, reason, states


class PushService:
    """A push service of browsers (RFC 8030): it takes what comes, or answers as a test says."""

    def __init__(self, folder: Path) -> None:
        self.came: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.headers, self.wait = 201, {"Location": "/messages/1"}, 0.0
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.came.append((self.path, dict(self.headers.items()), body))
                time.sleep(service.wait)
                self.send_response(service.status)
                for name, value in {**service.headers, "Content-Length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        context, self.certificate = certified(folder, "localhost", "127.0.0.1")
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def origin(self) -> str:
        return f"https://localhost:{self.server.server_port}"

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Browser:
    """Who subscribes: it alone has the key."""

    def __init__(self, endpoint: str) -> None:
        self.key, self.auth = ec.generate_private_key(ec.SECP256R1()), b"sixteen bytes!!!"
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        keys = {"p256dh": encode_base64url(point), "auth": encode_base64url(self.auth)}
        self.token = json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": keys})

    def read(self, body: bytes) -> Any:
        return json.loads(http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm"))


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PushService]:
    service = PushService(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(service.certificate))
    yield service
    service.stop()


@pytest.fixture
def config(app: Flask, tmp_path: Path) -> dict[str, Any]:
    return {**app.config, **credentials(tmp_path, "https://localhost:1"), "WEBHOOK_ALLOW": ["localhost"]}


@pytest.fixture
def sending(config: dict[str, Any], service: PushService) -> Sending:
    return Sending(config)


@pytest.fixture
def browser(service: PushService, ada: Person) -> Browser:
    return subscribe(ada, f"{service.origin}/push/abc?x=1")


def subscribe(person: Person, endpoint: str) -> Browser:
    browser = Browser(endpoint)
    body = {"platform": "webpush", "token": browser.token}
    assert person.put("/v1/accounts/me/push", body, headers={"Accept-Language": "ko"}).status_code == 200
    return browser


def test_a_browser_reads_what_is_sent_to_it(
    ada: Person, browser: Browser, service: PushService, sending: Sending
) -> None:
    push.send(ada.id, title={"en": "Hi", "ko": "안녕"}, body="b", data={"note": "n1"}, collapse="notes", badge=1)
    sending.step("webpush")
    ((path, headers, body),) = service.came
    assert path == "/push/abc?x=1"
    assert browser.read(body) == {"title": "안녕", "body": "b", "tag": "notes", "badge": 1, "data": {"note": "n1"}}
    assert (headers["Content-Encoding"], headers["Urgency"], headers["Topic"]) == ("aes128gcm", "high", "notes")
    assert 86_000 < int(headers["TTL"]) <= 86_400
    assert states("webpush") == {"sent": 1}


def test_each_message_has_a_key_and_a_salt_of_its_own(
    ada: Person, browser: Browser, service: PushService, sending: Sending
) -> None:
    for _ in range(2):
        push.send(ada.id, title="the same")
    sending.step("webpush")
    (_, _, first), (_, _, second) = service.came
    assert first[:16] != second[:16]
    assert first[21:86] != second[21:86]


def test_the_largest_message_fits(ada: Person, browser: Browser, service: PushService, sending: Sending) -> None:
    push.send(ada.id, title="x", data={"d": "y" * 2980})
    sending.step("webpush")
    ((_, _, body),) = service.came
    assert len(body) <= 4096
    assert len(browser.read(body)["data"]["d"]) == 2980


def test_a_push_service_knows_us_by_our_key(
    ada: Person, browser: Browser, service: PushService, sending: Sending
) -> None:
    for _ in range(2):
        push.send(ada.id, title="x")
        sending.step("webpush")
    said = [headers["Authorization"] for _, headers, _ in service.came]
    assert said[0] == said[1]
    scheme, _, parameters = said[0].partition(" ")
    found = dict(part.strip().split("=", 1) for part in parameters.split(","))
    point = VAPID_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert (scheme, decode_base64url(found["k"])) == ("vapid", point)
    claims = jwt.decode(found["t"], VAPID_KEY.public_key(), ["ES256"], audience=service.origin)
    assert claims["sub"] == "mailto:push@example.com"
    assert 0 < claims["exp"] - time.time() <= 24 * 3600


@pytest.mark.parametrize("status", [404, 410])
def test_a_subscription_that_is_no_more_goes(
    ada: Person, browser: Browser, service: PushService, sending: Sending, status: int
) -> None:
    service.status = status
    push.send(ada.id, title="x")
    sending.step("webpush")
    assert (states("webpush"), is_registered(browser.token)) == ({"failed": 1}, False)


@pytest.mark.parametrize("status", [400, 401, 403, 413, 301])
def test_what_a_push_service_refuses_is_not_tried_again(
    ada: Person, browser: Browser, service: PushService, sending: Sending, status: int
) -> None:
    service.status, service.headers = status, {"Location": "https://127.0.0.1/"}
    push.send(ada.id, title="x")
    sending.step("webpush")
    assert (states("webpush"), len(service.came), is_registered(browser.token)) == ({"failed": 1}, 1, True)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_push_service_that_asks_for_time_gets_it(
    ada: Person, browser: Browser, service: PushService, sending: Sending, status: int
) -> None:
    service.status, service.headers = status, {"Retry-After": "300"}
    push.send(ada.id, title="x")
    sending.step("webpush")
    (item,) = OutboxItem._get_collection().find({})
    assert item["state"] == "waiting"
    assert (item["due_at"] - item["created_at"]).total_seconds() > 290
    service.status = 201
    sending.step("webpush", at_once=True)
    assert states("webpush") == {"sent": 1}


@pytest.mark.parametrize("asked", ["999999999", "9" * 30])
def test_a_push_service_of_somebodys_own_stops_no_other_one(
    app: Flask, ada: Person, bob: Person, service: PushService, sending: Sending, asked: str
) -> None:
    for person in (ada, bob):
        subscribe(person, f"{service.origin}/{person.id}")
        push.send(person.id, title="x")
    service.status, service.headers = 429, {"Retry-After": asked}
    sending.step("webpush")
    assert states("webpush") == {"waiting": 2}
    for item in OutboxItem._get_collection().find({}):
        assert 21_000 < (item["due_at"] - item["created_at"]).total_seconds() < 21_660
    service.status = 201
    cleo = Person.sign_up(app.test_client(), "cleo")
    subscribe(cleo, f"{service.origin}/{cleo.id}")
    push.send(cleo.id, title="x")
    sending.step("webpush")
    assert (states("webpush"), sending.dispatchers["webpush"].trouble) == ({"waiting": 2, "sent": 1}, None)


def test_a_notification_that_fails_by_our_mistake_has_no_other_one_sent_again(
    ada: Person, bob: Person, service: PushService, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(told: Push) -> dict[str, str]:
        if told.texts["title"] == "broken":
            raise RuntimeError
        return {}

    monkeypatch.setattr(web_push, "message_headers", broken)
    for person, title in ((ada, "sound"), (bob, "broken")):
        subscribe(person, f"{service.origin}/{person.id}")
        push.send(person.id, title=title)
    sending.step("webpush")
    assert [path for path, _, _ in service.came] == [f"/{ada.id}"]
    assert (states("webpush"), reason()) == ({"sent": 1, "waiting": 1}, "a mistake of ours: RuntimeError")


def test_one_that_does_not_answer_is_not_asked_again_at_once(
    ada: Person, browser: Browser, service: PushService, sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "CALL_SECONDS", 0.3)
    monkeypatch.setattr(web_push, "SLOW_SECONDS", 0.2)
    service.wait = 1.0
    push.send(ada.id, title="x")
    sending.step("webpush")
    sending.step("webpush", at_once=True)
    assert len(service.came) == 1
    assert (states("webpush"), reason()) == ({"waiting": 1}, "its push service did not answer in time a moment ago")


def test_a_subscription_that_leads_within_is_never_called(
    ada: Person, browser: Browser, service: PushService, config: dict[str, Any]
) -> None:
    push.send(ada.id, title="x")
    Sending({**config, "WEBHOOK_ALLOW": []}).step("webpush")
    assert service.came == []
    assert "not one of the open internet" in reason()


def test_a_certificate_has_to_be_good(
    ada: Person, browser: Browser, service: PushService, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    push.send(ada.id, title="x")
    Sending(config).step("webpush")
    assert (service.came, states("webpush")) == ([], {"waiting": 1})


def test_a_subscription_is_looked_at_once_more_before_it_is_called(
    ada: Person, browser: Browser, sending: Sending, app: Flask
) -> None:
    broken = browser.token.replace("https://localhost", "http://push.example.com")
    Session._get_collection().update_many({"push": {"$exists": True}}, {"$set": {"push.token": broken}})
    push.send(ada.id, title="x")
    sending.step("webpush")
    assert states("webpush") == {"failed": 1}
    assert not is_registered(broken)


@pytest.mark.parametrize("collapse", ["notes", "a" * 32, "a b", "ü", "a" * 40])
def test_a_collapse_id_becomes_a_topic_that_a_push_service_takes(collapse: str) -> None:
    assert 0 < len(topic_of(collapse)) <= 32
    assert set(topic_of(collapse)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def test_two_collapse_ids_become_two_topics() -> None:
    assert topic_of("a b") != topic_of("a c")


def test_of_push_services_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_push, "MOST_ORIGINS", 2)
    known = Lately()
    for name in ("a", "b", "c"):
        known.put(name, name, 60.0)
    known.put("d", "d", -1.0)
    assert [known.get(name) for name in ("a", "b", "c", "d")] == [None, None, "c", None]


def test_what_is_encrypted_is_read_by_nobody_else(service: PushService) -> None:
    ada, eve = Browser(service.origin), Browser(service.origin)
    sealed = PushSubscription.read(ada.token).encrypted(b'"hello"')
    assert ada.read(sealed) == "hello"
    with pytest.raises(http_ece.ECEException):
        eve.read(sealed)
