"""What lands in MongoDB is plain: a proxy of the identity is refused by BSON, and no write hands one over."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.errors import InvalidDocument
from flask import Flask
from werkzeug.local import LocalProxy

from service.context import g
from service.core.clock import now
from service.documents import Note
from service.http.openapi import operation_of
from service.mongo import driver
from service.policy import Identity
from service.security import current_identity
from service.upkeep import indexes
from tests.client import PASSWORD, Person, Phone
from tests.examples import Examples
from tests.types import EVERY, REGISTRY
from tests.uploading import upload

PLAIN = {str, int, float, bool, type(None), datetime, bytes, dict, list, UUID, ObjectId, Int64, Decimal128}


@pytest.fixture
def signed_in(app: Flask) -> Iterator[Identity]:
    """The proxy, while a request of Ada's runs."""
    with app.app_context():
        g.identity = Identity("ada", "session", 0)
        yield current_identity


# The bare proxy


def test_bson_cannot_encode_the_bare_proxy(signed_in: Identity) -> None:
    assert isinstance(signed_in, LocalProxy)
    with pytest.raises(InvalidDocument, match="LocalProxy"):
        bson.encode({"owner": signed_in})


def test_mongoengine_would_let_a_proxy_of_a_string_through(signed_in: Identity) -> None:
    account: Any = LocalProxy(lambda: signed_in.account)
    moment = now()
    note = Note(id="x", title="t", owner=account, created_at=moment, updated_at=moment, revision=1)
    note.validate()
    with pytest.raises(InvalidDocument, match="LocalProxy"):
        bson.encode(note.to_mongo())


@pytest.mark.real
def test_storing_the_bare_proxy_is_refused_and_stores_nothing(signed_in: Identity) -> None:
    for owner in (signed_in, LocalProxy(lambda: signed_in.account)):
        with pytest.raises(InvalidDocument, match="LocalProxy"):
            Note._get_collection().insert_one({"_id": "x", "owner": owner})
    assert Note._get_collection().count_documents({}) == 0


def test_the_text_of_the_proxy_is_a_plain_string(signed_in: Identity) -> None:
    assert type(str(signed_in)) is str
    assert bson.decode(bson.encode({"owner": str(signed_in)})) == {"owner": "ada"}


# Every write route


def odd(value: Any, path: str = "") -> Iterator[str]:
    """The places of values that are not of a plain type."""
    if type(value) not in PLAIN:
        yield f"{path}: {type(value).__name__}"
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        if type(name) not in (str, int):
            yield f"{path}: key {name!r} is {type(name).__name__}"
        yield from odd(member, f"{path}.{name}")


NOTE = {
    "title": "t",
    "tags": ["a"],
    "due": "2026-11-22T10:00:00Z",
    "place": {"type": "Point", "coordinates": [1, 2.5]},
    "checklist": [{"text": "c"}],
    "readers": ["role:a"],
}
BODIES: dict[tuple[str, str], list[Any]] = {
    ("POST", "/v1/accounts"): [{"username": "eve", "password": PASSWORD, "email": "eve@example.com"}],
    ("POST", "/auth"): [{"username": "ada", "password": PASSWORD, "device": "d"}],
    ("PATCH", "/v1/accounts/me"): [{"display_name": "Ada", "email": "ada@example.com"}],
    ("POST", "/v1/notes"): [NOTE, {**NOTE, "id": "mine", "notebook": "x"}],
    ("PUT", "/v1/notes/x"): [NOTE, {"title": "t"}, {**NOTE, "writers": ["*"]}],
    ("PATCH", "/v1/notes/x"): [
        {**NOTE, "notebook": "x"},
        {"$inc": {"priority": 1}, "$push": {"tags": "b"}, "$min": {"due": "2026-01-01T00:00:00Z"}},
        {"$add_to_set": {"writers": "role:b"}, "$pull": {"tags": "a"}, "$max": {"priority": 3}},
        {"readers": None, "due": None},
    ],
    ("POST", "/v1/notebooks"): [{"title": "t", "colour": "#123456"}],
    ("PUT", "/v1/notebooks/x"): [{"title": "t"}],
    ("PATCH", "/v1/notebooks/x"): [{"colour": "#123456"}, {"writers": ["*"]}],
    ("POST", "/v1/groups"): [{"name": "n"}],
    ("PUT", "/v1/groups/x"): [{"name": "n"}],
    ("PATCH", "/v1/groups/x"): [{"name": "n"}],
    ("DELETE", "/v1/groups/x"): [None],
    ("PUT", "/v1/files/x"): [{"name": "n"}],
    ("PATCH", "/v1/files/x"): [{"name": "n"}],
    ("DELETE", "/v1/files/x"): [None],
    ("POST", "/v1/groups/x/invitations"): [{}, {"email": "mina@example.org"}],
    ("DELETE", "/v1/notes/x"): [None],
    ("DELETE", "/v1/notebooks/x"): [None],
}


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Everything that is handed to MongoDB's collections for writing from now on, as it was handed over."""
    handed: list[Any] = []
    for document in indexes.document_classes(REGISTRY):
        collection = document._get_collection()
        for name in (
            "insert_one",
            "insert_many",
            "update_one",
            "update_many",
            "find_one_and_update",
            "replace_one",
            "delete_one",
            "delete_many",
        ):
            spy(monkeypatch, type(collection), name, handed)
    for name in ("insert", "change", "update"):
        spy(monkeypatch, driver, name, handed)
    return handed


def spy(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, handed: list[Any]) -> None:
    """Let a function, or a method of a collection, note its arguments before it does what it does."""
    real = getattr(owner, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        handed.extend(arg for arg in args if isinstance(arg, dict | list))
        return real(*args, **kwargs)

    if not hasattr(real, "noting"):
        noting.noting = True  # type: ignore[attr-defined]
        monkeypatch.setattr(owner, name, noting)


@pytest.mark.parametrize("route", BODIES, ids=" ".join)
def test_what_a_write_hands_to_mongodb_is_plain(ada: Person, route: tuple[str, str], stored: list[Any]) -> None:
    ada.make_notebook(id="x")
    ada.make_note(id="x")
    ada.post("/v1/groups", {"id": "x", "name": "n"})
    upload(ada, {"id": "x", "name": "n"})
    for body in BODIES[route]:
        stored.clear()
        assert ada.send(*route, body).status_code < 300
        assert stored
        assert [place for value in stored for place in odd(value)] == []


@pytest.mark.all_types
@pytest.mark.parametrize("name", EVERY)
def test_what_a_write_of_any_type_hands_to_mongodb_is_plain(examples: Examples, name: str, stored: list[Any]) -> None:
    body, path = examples.body(name), f"/v1/{name}"
    made = [] if examples.registry[name].is_file else [("POST", path, {**body, "id": "x"})]
    if not made:
        upload(examples.person, {**body, "id": "x"})
    for method, place, sent in (
        *made,
        ("PUT", f"{path}/x", body),
        ("PATCH", f"{path}/x", examples.changeable(name, body)),
        ("DELETE", f"{path}/x", None),
    ):
        stored.clear()
        assert examples.person.send(method, place, sent).status_code < 300
        assert stored
        assert [place for value in stored for place in odd(value)] == []


def test_every_write_of_an_account_or_a_record_is_walked_here(app: Flask) -> None:
    routes = {
        (method, rule.rule.replace("<id>", "x"))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if method in ("POST", "PUT", "PATCH", "DELETE") and operation_of(app, rule.endpoint, method)
    }
    # A push takes a real server, which has no way to store a proxy.
    # Webhooks take one too: tests/test_webhooks.py.
    others = ("/v1/admin/webhooks", "/auth/", "/account/", "/v1/batch", "/v1/accounts/me", "/v1/sync/", "/v1/live/")
    # Members are written in tests/test_groups.py, invitations in tests/test_invitations.py; the streams make files.
    of_groups = ("/v1/groups/x/members", "/v1/groups/x/invitations/", "/v1/invitations/")
    elsewhere = {route for route in routes if route[1].startswith((*others, *of_groups))}
    # The console hands its visitor on, no proxy, and writes in tests/test_console_records.py, on a real server too.
    elsewhere |= {route for route in routes if route[1].startswith("/admin")}
    # What an admin sends is no record: tests/test_push.py.
    elsewhere |= {("POST", "/v1/admin/push"), ("POST", "/v1/files"), ("POST", "/v1/files/x/links")}
    assert routes - elsewhere | {("PATCH", "/v1/accounts/me")} == set(BODIES)


@pytest.mark.parametrize("path", ["/v1/notes", "/v1/notes/x", "/v1/notebooks?scope=public", "/v1/accounts/me"])
def test_what_is_stored_comes_back_plain(ada: Person, path: str) -> None:
    ada.make_note(id="x", **NOTE)
    assert Phone(ada.client, ada.headers).get(path).status_code == 200
    documents = [row for document in indexes.document_classes(REGISTRY) for row in document._get_collection().find()]
    assert documents
    assert [place for row in documents for place in odd(row)] == []
    assert {row["owner"] for row in Note._get_collection().find()} == {ada.id}
