"""Receivers of webhooks, and the worker that calls them, in the hands of a test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flask import Flask
from standardwebhooks import Webhook as Verifier

from service.changes import order
from service.changes.follower import Follower
from service.changes.passage import Passage
from service.documents import OutboxItem, Right, Webhook
from service.model.registry import Registry
from service.outbox.calling import OutwardCaller
from service.outbox.dispatch import Dispatcher
from service.resources.webhooks import EXTENSION
from service.webhooks.feeding import feed, has_listeners
from service.webhooks.keeping import WEBHOOKS
from service.webhooks.sending import WebhookSender
from service.worker.lease import Holding
from tests.client import Person
from tests.dispatching import Deaf, deliver_all
from tests.recording import Recording

OWN = {"WEBHOOK_ALLOW": ["127.0.0.0/8"]}
"""Settings with which servers of this machine may be called."""
PATH = "/v1/admin/webhooks"


@dataclass(frozen=True)
class Came:
    """A message as it came."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def whole(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.whole["data"]

    def verified_by(self, secret: str) -> Any:
        """What the library of the specification makes of it; raises `WebhookVerificationError`."""
        return Verifier(secret).verify(self.body, dict(self.headers))


@dataclass
class Endpoint:
    """A server that takes messages, and answers what it is told to."""

    answer: Callable[[Came], int] = lambda _: 204
    came: list[Came] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message = Came({name.lower(): value for name, value in self.headers.items()}, body)
                endpoint.came.append(message)
                self.send_response(endpoint.answer(message))
                for name, value in {"Content-Length": "0", **endpoint.headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class CallingWorker:
    """A worker that feeds and calls webhooks when it is told to."""

    def __init__(self, app: Flask, registry: Registry, recording: Recording) -> None:
        self.registry, self.recording = registry, recording
        webhooks = app.extensions[EXTENSION]
        letters = app.extensions["madang.security"].letters
        self.sender_of = partial(WebhookSender, webhooks, letters, OutwardCaller(webhooks.targets))
        self.dispatchers: dict[str, Dispatcher] = {}
        self.begin()

    def begin(self) -> None:
        """Begin as a process does that knows nothing."""
        self.follower = Follower(WEBHOOKS, [*self.registry], self.tell, is_awaited=has_listeners)
        self.lease = Holding(WEBHOOKS, 60.0)

    def tell(self, _right: Right, found: Passage) -> None:
        feed(self.registry, found.changes, self.follower.since)

    def feed(self) -> None:
        """Feed all that has happened."""
        self.recording.catch_up()
        assert self.lease.held or self.lease.take()
        self.follower.step(self.lease)
        while self.follower.number < self.recording_number():
            self.follower.step(self.lease)

    def recording_number(self) -> int:
        return order.order_in(order.lease_document()).seq

    def call(self) -> None:
        """Call all webhooks for what is due."""
        for row in Webhook._get_collection().find({"active": True}):
            dispatcher = self.dispatchers.setdefault(row["_id"], Dispatcher(self.sender_of(row["_id"]), Deaf()))
            deliver_all(dispatcher)

    def work(self) -> None:
        """Feed, and call."""
        self.feed()
        self.call()


def with_role(service: Flask, name: str) -> Person:
    """Somebody new who has the role `admin`."""
    person = Person.sign_up(service.test_client(), name)
    person.set_roles("admin")
    return person


def make_webhook(admin: Person, url: str, **more: Any) -> dict[str, Any]:
    """A new webhook, as its maker gets it."""
    answer = admin.post(PATH, {"url": url, **more})
    assert answer.status_code == 201, answer.json
    found: dict[str, Any] = answer.json
    return found


def items_of(webhook: dict[str, Any]) -> list[dict[str, Any]]:
    """What is stored to be sent to a webhook, the oldest first."""
    return list(OutboxItem._get_collection().find({"kind": f"webhook:{webhook['id']}"}, sort=[("created_at", 1)]))


@pytest.fixture
def service(make_app: Callable[..., Flask]) -> Flask:
    """An app that may call servers of this machine."""
    return make_app(**OWN)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    yield found
    found.close()
