"""The `flask webhooks` commands."""

from __future__ import annotations

import json

import pytest
from flask import Flask
from flask.testing import FlaskClient

from service.documents import Webhook
from tests.client import Person
from tests.receiving import CallingWorker, Endpoint, endpoint, service
from tests.recording import Recording
from tests.types import REGISTRY

__all__ = ["endpoint", "service"]


def webhooks(service: Flask, *words: str, code: int = 0) -> str:
    """What a command says."""
    result = service.test_cli_runner().invoke(args=["webhooks", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.real
def test_a_webhook_is_made_told_seen_and_removed(service: Flask, endpoint: Endpoint, recording: Recording) -> None:
    where = '{"pinned": true}'
    id, secret = webhooks(service, "create", endpoint.url, "--type", "notes", "--where", where).split()
    worker = CallingWorker(service, REGISTRY, recording)
    worker.feed()
    assert webhooks(service, "list") == f'{id}  on  {endpoint.url}  notes where {{"pinned":true}}\n'
    assert json.loads(webhooks(service, "show", id))["owner"] is None
    Person.sign_up(service.test_client(), "ada").make_note(id="milk", pinned=True)
    worker.work()
    assert endpoint.came[0].verified_by(secret)["data"]["id"] == "milk"
    delivery = webhooks(service, "deliveries", id).split()[0]
    assert webhooks(service, "deliveries", id) == f"{delivery}  sent    1 tries  notes/milk\n"
    again, ping = webhooks(service, "repeat", id, delivery).strip(), webhooks(service, "ping", id).strip()
    told = webhooks(service, "deliveries", id, "--state", "waiting", "--limit", "2")
    assert told == f"{ping}  waiting 0 tries  ping\n{again}  waiting 0 tries  notes/milk\n"
    new = webhooks(service, "rotate", id, "--keep-hours", "0").split()[1]
    endpoint.answer = lambda _: 418
    worker.call()
    assert endpoint.came[-1].verified_by(new)["type"] == "webhook.ping"
    assert "(418 I'm a Teapot)" in webhooks(service, "deliveries", id)
    assert ", no call taken since 2" in webhooks(service, "list")
    assert f"{id}  off (by hand)" in webhooks(service, "change", id, "--off", "--all")
    assert "https://1.1.1.1/  all types" in webhooks(service, "change", id, "--url", "https://1.1.1.1/")
    webhooks(service, "delete", id, "--yes")
    assert (webhooks(service, "list"), Webhook._get_collection().count_documents({})) == ("", 0)


@pytest.mark.real
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["create", "http://example.com/"], 1, "url: https, unless WEBHOOK_ALLOW names the server"),
        (["create", "https://1.1.1.1/", "--type", "nothings"], 1, "types: one or several of "),
        (["create", "https://1.1.1.1/", "--where", "{"], 2, "--where is not JSON"),
        (["create", "https://1.1.1.1/", "--where", "[]"], 2, "--where has to be a JSON object"),
        (["show", "nobody"], 1, "there is no such webhook"),
        (["ping", "nobody"], 1, "there is no such webhook"),
        (["repeat", "nobody", "nothing"], 1, "there is no such delivery"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(service: Flask, words: list[str], code: int, said: str) -> None:
    assert said in webhooks(service, *words, code=code)


@pytest.mark.once
def test_without_a_real_server_there_are_none(service: Flask, client: FlaskClient) -> None:
    assert "needs a real MongoDB" in webhooks(service, "list", code=1)
