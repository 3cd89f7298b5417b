"""What docs/push.md says of a declaration: its module goes word for word into the tree, and its words reach a phone."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from service.changes.passage import Passage
from service.documents import Record
from service.model.registry import Registry
from service.push.declared import DeclaredPushes
from service.worker.lease import Alone
from tests.client import Person
from tests.http2_server import Http2Server
from tests.pushing import TOKEN, Platforms, Sending, credentials
from tests.test_readme import blocks

PAGE = Path(__file__).parent.parent / "docs" / "push.md"
MODULE = "service/documents/errand.py"
"""The module of the page."""


@pytest.fixture
def errand(tmp_path: Path) -> Iterator[type[Record]]:
    (text,) = (block.text for block in blocks(PAGE) if block.info == f"python {MODULE}")
    path = tmp_path / "errand.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("errand", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["errand"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.Errand
    del sys.modules["errand"]
    module.Errand._get_collection().drop()


@pytest.fixture
def service(make_app: Callable[..., Flask], errand: type[Record]) -> Flask:
    return make_app(documents=[errand])


def test_the_page_says_what_a_phone_shows(
    service: Flask, errand: type[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = (Person.sign_up(service.test_client(), name) for name in ("ada", "bob"))
    body = {"platform": "apns", "token": TOKEN, "topics": ["news"]}
    assert bob.put("/v1/accounts/me/push", body, headers={"Accept-Language": "ko"}).status_code == 200
    ids = [
        ada.post("/v1/errands", {"title": "milk", **more}).json["id"]
        for more in ({"assignee": bob.id, "readers": [bob.id]}, {"assignee": bob.id}, {})
    ]
    changes = [{"type": "errands", "record": id} for id in ids]
    DeclaredPushes(Registry([errand])).tell(Alone(), Passage(changes, 3, 3, False))
    asked: list[Any] = sent(service, tmp_path, monkeypatch)
    # Of the others one may not be read by whom it names, and one names nobody.
    (shown,) = asked
    assert shown.json == {"errand": ids[0], "aps": {"alert": {"title": "할 일: milk"}}}
    assert shown.headers["apns-collapse-id"] == f"errand-{ids[0]}"


def sent(service: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What reaches APNs of all that waits."""
    server = Http2Server(tmp_path, Platforms())
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    sending = Sending({**service.config, **credentials(tmp_path, server.url)})
    sending.step()
    sending.leave()
    server.stop()
    return server.asked
