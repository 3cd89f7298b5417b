"""Hooks before a write: typed, once, on every way of writing, and bound to the rules of a body."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from bson import DBRef
from flask import Flask
from mongoengine import DateTimeField, StringField

from service.documents import Notebook, Record
from service.model.fields import InvalidDocument
from service.model.record_type import derive
from service.model.registry import Registry
from service.policy import Identity
from service.upkeep import indexes
from tests.client import Person, pointers
from tests.hooked import ORDERS, Errand
from tests.types import REGISTRY

PATH = "/v1/test_errands"
TYPES: list[type[Record]] = [Notebook, Errand]


@pytest.fixture
def service(make_app: Callable[..., Flask]) -> Iterator[Flask]:
    made = make_app(documents=TYPES)
    with made.app_context():
        indexes.make(Registry(TYPES))
    Errand.calls.clear()
    yield made
    Errand._get_collection().drop()


@pytest.fixture
def ada(service: Flask, ada: Person) -> Person:
    ada.client = service.test_client()
    return ada


def made(ada: Person, title: str = "milk", **fields: Any) -> Any:
    answer = ada.post(PATH, {"title": title, **fields})
    assert answer.status_code == 201, answer.json
    Errand.calls.clear()
    return answer.json


def stored(id: str) -> Any:
    return Errand._get_collection().find_one({"_id": id})


# What a hook gets, and what becomes of what it does


def test_a_hook_sees_a_typed_record_and_a_plain_identity(ada: Person) -> None:
    answer = ada.post(PATH, {"title": "Milk"})
    assert answer.status_code == 201
    assert Errand.calls == [("create", Errand, answer.json["id"], Identity, ada.id)]


def test_what_a_hook_changed_is_stored_answered_and_found(ada: Person) -> None:
    answer = ada.post(PATH, {"title": "Milk"})
    assert (answer.json["slug"], answer.json["revision"], answer.headers["ETag"]) == ("milk", 1, '"1"')
    assert stored(answer.json["id"])["by"] == ada.id
    answer = ada.patch(f"{PATH}/{answer.json['id']}", {"title": "in place"} | IN_PLACE, headers={"If-Match": '"1"'})
    assert (answer.json["rounds"], answer.json["revision"], answer.headers["ETag"]) == (1, 2, '"2"')
    assert answer.json["steps"] == [{"text": "first"}, {"text": "last"}]
    assert (answer.json["size"], answer.json["tags"]) == ({"width": 3}, ["old", "new"])
    assert answer.json["place"]["coordinates"] == [2.0, 1.0]
    assert ada.get(f"{PATH}/{answer.json['id']}").json == answer.json


IN_PLACE = {
    "steps": [{"text": "a"}],
    "size": {"width": 1},
    "place": {"type": "Point", "coordinates": [1.0, 1.0]},
    "tags": ["old"],
}


def test_a_search_finds_what_a_hook_wrote(ada: Person) -> None:
    id = made(ada, "Butter")["id"]
    assert [item["id"] for item in ada.get(f"{PATH}?search=butter").json["items"]] == [id]


REFUSED = {
    "refused": {"/title": "not_today"},
    "long": {"/slug": "too_long"},
    "bare": {"/title": "required"},
    "unclean": {"/slug": "not_valid"},
    "pointing": {"/parent": "not_found"},
    "grouped": {"/readers/0": "not_found"},
}
FAILS = ("failing", "untyped", "taking", "renaming", "set")


def writes(ada: Person, id: str, title: str) -> Iterator[Any]:
    """Every way of one write, each of which has a hook."""
    yield ada.post(PATH, {"title": title})
    yield ada.patch(f"{PATH}/{id}", {"title": title})
    yield ada.put(f"{PATH}/{id}", {"title": title})
    yield ada.put(f"{PATH}/new", {"title": title})
    yield ada.put(f"{PATH}/new", {"title": title}, headers={"If-None-Match": "*"})


@pytest.mark.parametrize("title", REFUSED)
def test_a_hook_that_refuses_or_breaks_a_rule_leaves_nothing(ada: Person, title: str) -> None:
    before = stored(made(ada)["id"])
    for answer in writes(ada, before["_id"], title):
        assert answer.status_code == 422, answer.json
        assert pointers(answer) == REFUSED[title]
    assert list(Errand._get_collection().find({})) == [before]


@pytest.mark.parametrize("title", FAILS)
def test_a_hook_with_a_bug_shows_nothing_and_leaves_nothing(
    ada: Person, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stored(made(ada)["id"])
    for answer in writes(ada, before["_id"], title):
        assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
        assert "secret" not in answer.text
        assert "Errand" not in answer.text
    assert list(Errand._get_collection().find({})) == [before]
    told = capsys.readouterr().out
    assert told.count("hook_failed") == 5
    assert "Errand.before_create" in told
    assert "Errand.before_change" in told


def test_a_hook_may_set_what_only_the_server_or_the_owner_sets(ada: Person, bob: Person, service: Flask) -> None:
    id = made(ada, writers=[bob.id])["id"]
    bob.client = service.test_client()
    answer = bob.patch(f"{PATH}/{id}", {"title": "sharing"})
    assert (answer.json["readers"], answer.json["rounds"]) == (["*"], 1)
    assert stored(id)["access"] == [f"o:{ada.id}", "r:*", f"r:{bob.id}"]


def test_a_hook_does_not_load_what_a_record_refers_to(ada: Person) -> None:
    book = ada.make_notebook()["id"]
    made(ada, parent=book)
    assert ada.post(PATH, {"title": "looking", "parent": book}).status_code == 201
    assert Errand.calls[-1] == (DBRef("notebooks", book), book)


# Once for a write, whatever way it comes


def test_a_patch_of_operators_runs_the_hook_on_the_record_as_it_will_be(ada: Person) -> None:
    id = made(ada, count=3)["id"]
    assert ada.patch(f"{PATH}/{id}", {"$inc": {"count": 2}}).json["count"] == 5
    assert Errand.calls == [("change", "milk", "milk", 5, ada.id)]
    answer = ada.patch(f"{PATH}/{id}", {"$inc": {"count": 6}})
    assert pointers(answer) == {"/$inc/count": "too_large"}
    assert len(Errand.calls) == 1


def test_each_way_of_writing_runs_its_hook_once(ada: Person) -> None:
    id = made(ada)["id"]
    ada.put(f"{PATH}/{id}", {"title": "two"})
    ada.put(f"{PATH}/new", {"title": "new"})
    ada.delete(f"{PATH}/new")
    parts = [
        {"method": "POST", "path": PATH, "body": {"title": "part", "id": "part"}},
        {"method": "PATCH", "path": f"{PATH}/part", "body": {"count": 1}},
        {"method": "DELETE", "path": f"{PATH}/part"},
    ]
    assert [one["status"] for one in ada.post("/v1/batch", {"requests": parts}).json["responses"]] == [201, 200, 204]
    assert [call[0] for call in Errand.calls] == ["change", "create", "delete", "create", "change", "delete"]
    assert Errand.calls[0] == ("change", "milk", "two", 0, ada.id)


def test_what_is_refused_before_runs_no_hook(ada: Person, bob: Person, service: Flask) -> None:
    id = made(ada)["id"]
    bob.client = service.test_client()
    assert ada.post(PATH, {"title": 5}).status_code == 422
    assert ada.patch(f"{PATH}/{id}", {"title": "b"}, headers={"If-Match": '"7"'}).status_code == 412
    assert bob.patch(f"{PATH}/{id}", {"title": "b"}).status_code == 404
    assert ada.delete(f"{PATH}/{id}", headers={"If-Match": '"7"'}).status_code == 412
    assert Errand.calls == []


def test_a_deletion_is_refused_by_its_hook(ada: Person) -> None:
    id = made(ada, "stays")["id"]
    answer = ada.delete(f"{PATH}/{id}")
    assert (answer.status_code, answer.json["detail"]) == (403, "this one stays")
    assert ada.get(f"{PATH}/{id}").status_code == 200


def test_what_goes_with_another_record_runs_no_hook(ada: Person) -> None:
    book = ada.make_notebook()["id"]
    id = made(ada, "stays", parent=book)["id"]
    assert ada.delete(f"/v1/notebooks/{book}").status_code == 204
    assert (ada.get(f"{PATH}/{id}").status_code, Errand.calls) == (404, [])


@pytest.mark.real
def test_a_write_that_others_overtake_runs_the_hook_on_the_newest(ada: Person) -> None:
    id = made(ada)["id"]

    def patched(_: int) -> int:
        return (
            Person(ada.client.application.test_client(), ada.headers)
            .patch(f"{PATH}/{id}", {"$inc": {"count": 1}})
            .status_code
        )

    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(patched, range(8))} == {200}
    answer = ada.get(f"{PATH}/{id}").json
    # One run of the hook is kept for each write: a run on what was overtaken left nothing.
    assert (answer["count"], answer["rounds"], answer["revision"]) == (8, 8, 9)


@pytest.mark.real
def test_a_hook_in_a_transaction_that_is_undone_leaves_nothing(ada: Person) -> None:
    parts = [
        {"method": "POST", "path": PATH, "body": {"title": "one", "id": "one"}},
        {"method": "POST", "path": PATH, "body": {"title": "refused"}},
    ]
    answer = ada.post("/v1/batch", {"atomic": True, "requests": parts})
    assert [one["status"] for one in answer.json["responses"]] == [424, 422]
    assert list(Errand._get_collection().find({})) == []


@pytest.mark.real
def test_a_retry_with_its_key_runs_no_hook_again(ada: Person) -> None:
    key = {"Idempotency-Key": "one"}
    first = ada.post(PATH, {"title": "milk"}, headers=key)
    assert ada.post(PATH, {"title": "milk"}, headers=key).json == first.json
    assert [call[0] for call in Errand.calls] == ["create"]


@pytest.mark.real
def test_a_transaction_that_is_tried_again_runs_the_hook_again(ada: Person) -> None:
    answer = ada.post(PATH, {"title": "again"}, headers={"Idempotency-Key": "one"})
    assert (answer.status_code, [call[0] for call in Errand.calls]) == (201, ["create", "create"])
    assert Errand._get_collection().count_documents({}) == 1


# Pushes of sync


def push_rxdb(ada: Person, *rows: Any) -> tuple[Any, dict[str, str]]:
    answer = ada.post("/v1/sync/rxdb/test_errands/0/push", [{"newDocumentState": row} for row in rows])
    assert answer.status_code == 200, answer.json
    told = json.loads(answer.headers.get("Sync-Problems", "[]"))
    return answer.json, {one["id"]: one["problem"]["code"] for one in told}


@pytest.mark.real
@pytest.mark.usefixtures("recording")
def test_a_push_of_rxdb_runs_each_hook_once_and_is_told_what_it_changed(ada: Person) -> None:
    answer, problems = push_rxdb(ada, {"id": "a", "title": "A"}, {"id": "b", "title": "refused"})
    assert problems == {"b": "validation_failed"}
    assert {row["id"]: row.get("slug") for row in answer if not row["_deleted"]} == {"a": "a"}
    assert [call[:3] for call in Errand.calls] == [("create", Errand, "a"), ("create", Errand, "b")]
    Errand.calls.clear()
    answer, problems = push_rxdb(ada, {"id": "a", "revision": 1, "title": "B", "slug": "a"})
    assert (problems, answer[0]["rounds"]) == ({}, 1)
    _, problems = push_rxdb(ada, {"id": "a", "revision": 2, "title": "stays", "slug": "a", "rounds": 1})
    _, problems = push_rxdb(ada, {"id": "a", "revision": 3, "_deleted": True})
    assert problems == {"a": "forbidden"}
    assert [call[0] for call in Errand.calls] == ["change", "change", "delete"]


@pytest.mark.real
@pytest.mark.usefixtures("recording")
def test_a_push_of_watermelondb_runs_each_hook_once(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that the push is decided about as a whole, and then in parts.
    monkeypatch.setattr("service.changes.push_parts.MOST_IN_PART", 1)
    rows = [{"id": "a", "title": "a"}, {"id": "b", "title": "refused"}, {"id": "c", "title": "c"}]
    answer = ada.post("/v1/sync/watermelondb?last_pulled_at=0", {"test_errands": {"created": rows}})
    assert answer.status_code == 200, answer.json
    assert sorted(call[2] for call in Errand.calls) == ["a", "b", "c"]
    assert sorted(row["_id"] for row in Errand._get_collection().find({})) == ["a", "c"]
    assert stored("c")["slug"] == "c"


@pytest.mark.real
@pytest.mark.usefixtures("recording")
@pytest.mark.parametrize("title", FAILS)
def test_a_hook_with_a_bug_stores_nothing_of_a_push(ada: Person, title: str) -> None:
    rows = [{"newDocumentState": {"id": id, "title": title}} for id, title in (("a", "a"), ("b", title))]
    answer = ada.post("/v1/sync/rxdb/test_errands/0/push", rows)
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert list(Errand._get_collection().find({})) == []


# Declarations


def test_types_without_hooks_have_none() -> None:
    assert {type.hooks for type in REGISTRY.values()} == {frozenset()}
    assert derive(Errand).hooks == {"before_create", "before_change", "before_delete"}
    assert {*ORDERS} >= {*REFUSED, *FAILS}


def misspelled(self: Any, who: Any) -> None:
    """Nothing."""


async def waiting(self: Any, who: Any) -> None:
    """Nothing."""


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a name that is none": ({"before_created": misspelled}, r"before_created.*did you mean before_create\?"),
    "too few arguments": ({"before_change": misspelled}, "takes self, before, who"),
    "of the class": ({"before_create": classmethod(misspelled)}, "has to be a method"),
    "of the record": ({"after_change": misspelled}, "has to be a classmethod"),
    "that waits": ({"before_delete": waiting}, "plain function"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_hook_that_could_not_be_called_stops_the_start(case: str) -> None:
    members, told = WRONG[case]
    name = "Wrong" + case.title().replace(" ", "")
    document = type(name, (Record,), {"meta": {"collection": "test_wrong"}, **members})
    with pytest.raises(InvalidDocument, match=told):
        derive(document)


def test_a_field_may_be_called_as_if_it_were_a_hook() -> None:
    members = {"before_noon": DateTimeField(), "after_all": StringField(), "meta": {"collection": "test_noons"}}
    assert derive(type("Noon", (Record,), members)).hooks == frozenset()
