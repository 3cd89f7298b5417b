"""Delete rules: what happens to records that refer to one that goes, as MongoEngine's `reverse_delete_rule` says."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from time import sleep
from typing import Any

import pytest
from flask import Flask
from mongoengine import (
    CASCADE,
    DENY,
    NULLIFY,
    PULL,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    ListField,
    ReferenceField,
    StringField,
)
from mongoengine.connection import get_connection
from pymongo.errors import AutoReconnect
from werkzeug.test import TestResponse

from service.core.clock import now
from service.core.errors import StillReferenced
from service.documents import Note, Notebook, Record
from service.documents.versioned import STAMPS
from service.model.record_type import RecordType
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.records import deletion, store
from service.records.deletion import BATCH
from tests.client import Person, Phone, pointers
from tests.racing import at_once
from tests.types import SHIPPED, create, new

MakeApp = Callable[..., Flask]
DAYS = timedelta(days=30)
KEY = {"Idempotency-Key": "4f6c"}
keyed = pytest.mark.parametrize("headers", [{}, KEY], ids=["plain", "with a key"])


class Shelf(Record):
    """What books stand on."""

    meta = {"collection": "test_shelves"}


class Book(Record):
    """Goes with its shelf."""

    title = StringField(max_length=100)
    shelf = ReferenceField(Shelf, reverse_delete_rule=CASCADE)

    meta = {"collection": "test_books"}


class Page(Record):
    """Goes with its book."""

    book = ReferenceField(Book, reverse_delete_rule=CASCADE)

    meta = {"collection": "test_pages"}


class Label(Record):
    """Outlives what it hangs on."""

    shelf = ReferenceField(Shelf, db_field="s", reverse_delete_rule=NULLIFY)

    meta = {"collection": "test_labels"}


class Tour(Record):
    """Leads along some shelves."""

    shelves = ListField(ReferenceField(Shelf, reverse_delete_rule=PULL))

    meta = {"collection": "test_tours"}


class Stop(EmbeddedDocument):
    """One of several on the way."""

    name = StringField(max_length=9)
    shelf = ReferenceField(Shelf, delete_rule=NULLIFY)


class Trip(EmbeddedDocument):
    """Leads along some shelves."""

    shelves = ListField(ReferenceField(Shelf, delete_rule=PULL))


class Route(Record):
    """Has its references inside of lists."""

    stops = EmbeddedDocumentListField(Stop)
    trips = EmbeddedDocumentListField(Trip)
    first = EmbeddedDocumentField(Stop)
    longest = EmbeddedDocumentField(Trip)

    meta = {"collection": "test_routes"}


class Loan(Record):
    """Keeps a book for as long as it lasts."""

    book = ReferenceField(Book, reverse_delete_rule=DENY)

    meta = {"collection": "test_loans"}


class Folder(Record):
    """Lies in another folder, and goes with it."""

    parent = ReferenceField("self", reverse_delete_rule=CASCADE)

    meta = {"collection": "test_folders"}


LIBRARY: list[type[Record]] = [Shelf, Book, Page, Label, Tour, Route, Loan, Folder]
ALL = [*SHIPPED, *LIBRARY]
TYPES = Registry(ALL)


def release(document: type[Record], ids: list[str], keep: timedelta) -> None:
    deletion.release(TYPES, TYPES.of(document), ids, keep)


def bury(document: type[Record], id: str) -> None:
    """Delete a record without what follows."""
    assert deletion.bury_for_release(TYPES, TYPES.of(document), {"_id": id}, DAYS)


def survey(document: type[Record], ids: list[str]) -> None:
    deletion.survey(TYPES, TYPES.of(document), ids)


@pytest.fixture(autouse=True)
def empty(app: Flask) -> Iterator[None]:
    yield
    for document in LIBRARY:
        document._get_collection().delete_many({})


@pytest.fixture
def library(make_app: MakeApp, ada: Person) -> Phone:
    """Ada at a service that has the types of this page too."""
    return Phone(make_app(documents=ALL).test_client(), ada.headers)


def put(document: type[Record], id: str, **content: Any) -> None:
    create(document, "ada", {"_id": id, **content})


def row(document: type[Record], id: str) -> Raw:
    found = document._get_collection().find_one({"_id": id})
    assert found is not None
    return found


def buried(document: type[Record], id: str) -> bool:
    return row(document, id).keys() - STAMPS - {"going_at"} == {
        "_id",
        "owner",
        "created_at",
        "updated_at",
        "revision",
        "purge_at",
    }


def many(document: type[Record], count: int, **content: Any) -> None:
    document._get_collection().insert_many(
        new(document, "ada", {"_id": f"n{number}", **content}) for number in range(count)
    )


# What each rule does


def test_nullify_clears_the_field_under_its_stored_name() -> None:
    put(Label, "l", s="a", readers=["bob"])
    release(Shelf, ["a"], DAYS)
    assert "s" not in row(Label, "l")
    assert (row(Label, "l")["revision"], row(Label, "l")["readers"]) == (2, ["bob"])


def test_pull_takes_the_one_out_of_the_list() -> None:
    put(Tour, "t", shelves=["a", "b", "c", "a"])
    release(Shelf, ["a", "c"], DAYS)
    assert (row(Tour, "t")["shelves"], row(Tour, "t")["revision"]) == (["b"], 2)


def test_cascade_leaves_a_tombstone_of_what_refers() -> None:
    put(Book, "b", title="x", shelf="a", readers=["bob"])
    release(Shelf, ["a"], DAYS)
    assert buried(Book, "b")
    assert row(Book, "b")["purge_at"] - row(Book, "b")["updated_at"] >= DAYS - timedelta(seconds=1)


def test_cascade_goes_down_all_levels() -> None:
    put(Book, "b", shelf="a")
    put(Page, "p", book="b")
    release(Shelf, ["a"], DAYS)
    assert buried(Book, "b")
    assert buried(Page, "p")


def test_what_refers_to_others_stays_as_it_is() -> None:
    put(Book, "x", shelf="other")
    put(Label, "x", s="other")
    put(Tour, "x", shelves=["other"])
    before = [row(document, "x") for document in (Book, Label, Tour)]
    release(Shelf, ["a"], DAYS)
    assert [row(document, "x") for document in (Book, Label, Tour)] == before


def test_done_twice_it_changes_nothing_more() -> None:
    put(Book, "b", shelf="a")
    put(Label, "l", s="a")
    release(Shelf, ["a"], DAYS)
    before = (row(Book, "b"), row(Label, "l"))
    release(Shelf, ["a"], DAYS)
    assert (row(Book, "b"), row(Label, "l")) == before


def test_deny_refuses_while_there_is_one_that_refers() -> None:
    put(Loan, "l", book="b")
    with pytest.raises(StillReferenced, match="test_loans"):
        survey(Book, ["b"])
    survey(Book, ["other"])


def test_a_tombstone_refers_to_nothing() -> None:
    put(Loan, "l", book="b")
    store.bury(TYPES.of(Loan), {"_id": "l"}, DAYS)
    survey(Book, ["b"])


@pytest.mark.parametrize(("document", "rule"), [(Label, "s"), (Book, "shelf")])
def test_a_record_of_another_type_under_the_same_id_is_none_that_goes(document: type[Record], rule: str) -> None:
    put(document, "a", **{rule: "a"})
    release(Shelf, ["a"], DAYS)
    assert rule not in row(document, "a")


@pytest.mark.parametrize(
    ("document", "stored", "left"),
    [
        (Tour, {"shelves": "a"}, {}),
        (Label, {"s": ["a", "b"]}, {}),
        (Route, {"stops": {"shelf": "a", "name": "x"}}, {"stops": {"name": "x"}}),
        (Route, {"stops": [{"shelf": ["a", "b"]}]}, {"stops": [{"shelf": ["b"]}]}),
        (Route, {"trips": [{"shelves": "a"}]}, {"trips": [{}]}),
        (Route, {"trips": {"shelves": ["a", "b"]}}, {"trips": {"shelves": ["b"]}}),
        (Route, {"trips": {"shelves": "a"}}, {"trips": {}}),
        (Route, {"longest": [{"shelves": ["a", "b"]}]}, {"longest": [{"shelves": ["b"]}]}),
        (Route, {"longest": {"shelves": "a"}}, {"longest": {}}),
        (Route, {"first": [{"shelf": "a"}]}, {"first": [{}]}),
    ],
    ids=str,
)
def test_what_other_software_has_stored_in_another_form_is_released_too(document: Any, stored: Raw, left: Raw) -> None:
    """MongoDB finds it: what is not taken out would be found for ever, and all that waits behind it would wait."""
    for id in ("x", "y"):
        put(document, id)
    document._get_collection().update_one({"_id": "x"}, {"$set": stored})
    release(Shelf, ["a"], DAYS)
    found = row(document, "x")
    assert {name: found[name] for name in stored if name in found} == left
    assert found["revision"] > 1
    assert row(document, "y")["revision"] == 1


# Large and deep


@pytest.mark.parametrize("document", [Label, Tour])
def test_more_records_than_one_batch_are_all_changed(document: type[Record]) -> None:
    many(document, BATCH + 5, **({"s": "a"} if document is Label else {"shelves": ["a", "b"]}))
    release(Shelf, ["a"], DAYS)
    assert document._get_collection().count_documents({"revision": 2}) == BATCH + 5
    assert document._get_collection().count_documents({"$or": [{"s": "a"}, {"shelves": "a"}]}) == 0


def test_each_operation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "BATCH", 10)
    many(Label, 25, s="a")
    assert [len(ids) for ids in taken(deletion.id_batches(TYPES.of(Label), {"s": "a"}))] == [10, 10, 5]


def taken(batches: Iterator[list[str]]) -> Iterator[list[str]]:
    """Each batch, whose records are then gone."""
    for ids in batches:
        yield ids
        Label._get_collection().delete_many({"_id": {"$in": ids}})


def test_a_cascade_of_more_than_one_batch_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "BATCH", 10)
    many(Book, 25, shelf="a")
    Page._get_collection().insert_many(new(Page, "ada", {"_id": f"p{n}", "book": f"n{n}"}) for n in range(25))
    release(Shelf, ["a"], DAYS)
    assert Book._get_collection().count_documents({"purge_at": {"$exists": False}}) == 0
    assert Page._get_collection().count_documents({"purge_at": {"$exists": False}}) == 0


def test_a_tree_of_one_type_goes_with_its_root() -> None:
    put(Folder, "root")
    for name, parent in (("a", "root"), ("b", "root"), ("aa", "a"), ("aaa", "aa")):
        put(Folder, name, parent=parent)
    bury(Folder, "root")
    release(Folder, ["root"], DAYS)
    assert all(buried(Folder, name) for name in ("a", "b", "aa", "aaa"))


def test_records_that_refer_to_each_other_go_together() -> None:
    put(Folder, "a", parent="b")
    put(Folder, "b", parent="a")
    bury(Folder, "a")
    release(Folder, ["a"], DAYS)
    assert buried(Folder, "b")


@pytest.mark.real
def test_a_tree_may_be_deeper_than_calls_of_a_function() -> None:
    levels = 1200
    rows = [new(Folder, "ada", {"_id": f"f{level}", "parent": f"f{level - 1}"}) for level in range(levels)]
    Folder._get_collection().insert_many(rows)
    survey(Folder, ["f-1"])
    release(Folder, ["f-1"], DAYS)
    assert Folder._get_collection().count_documents({"purge_at": {"$exists": True}}) == levels


# Over HTTP


@keyed
def test_a_deleted_notebook_clears_the_notes_of_all_owners(ada: Person, bob: Person, headers: Any) -> None:
    notebook = ada.make_notebook(readers=[bob.id])["id"]
    own, others = ada.make_note(notebook=notebook), bob.make_note(notebook=notebook)
    free = bob.make_note()
    assert ada.delete(f"/v1/notebooks/{notebook}", headers=headers).status_code == 204
    now = [ada.get(f"/v1/notes/{own['id']}").json, *(bob.get(f"/v1/notes/{n['id']}").json for n in (others, free))]
    assert [(note["notebook"], note["revision"]) for note in now] == [(None, 2), (None, 2), (None, 1)]


def test_a_cleared_note_is_a_changed_note(ada: Person) -> None:
    note = ada.make_note(notebook=ada.make_notebook()["id"])
    ada.delete(f"/v1/notebooks/{note['notebook']}")
    path = f"/v1/notes/{note['id']}"
    assert ada.patch(path, {"title": "x"}, headers={"If-Match": '"1"'}).status_code == 412
    assert ada.get(path).json["updated_at"] >= note["updated_at"]


@keyed
def test_a_notebook_of_many_notes_can_be_deleted(ada: Person, headers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "BATCH", 10)
    notebook = ada.make_notebook()["id"]
    many(Note, 25, title="x", notebook=notebook)
    assert ada.delete(f"/v1/notebooks/{notebook}", headers=headers).status_code == 204
    assert Note._get_collection().count_documents({"notebook": {"$exists": False}, "revision": 2}) == 25


@pytest.mark.parametrize(
    ("headers", "status"), [({"If-Match": '"7"'}, 412), ({"If-Match": '"7"', **KEY}, 412)], ids=["plain", "with a key"]
)
def test_a_delete_that_is_refused_clears_nothing(ada: Person, headers: Any, status: int) -> None:
    note = ada.make_note(notebook=ada.make_notebook()["id"])
    assert ada.delete(f"/v1/notebooks/{note['notebook']}", headers=headers).status_code == status
    assert ada.get(f"/v1/notes/{note['id']}").json == note


def test_a_reader_clears_nothing(ada: Person, bob: Person) -> None:
    notebook = ada.make_notebook(readers=[bob.id])["id"]
    note = ada.make_note(notebook=notebook)
    assert bob.delete(f"/v1/notebooks/{notebook}").status_code == 403
    assert ada.get(f"/v1/notes/{note['id']}").json == note


@keyed
def test_what_is_still_referred_to_stays(library: Phone, headers: Any) -> None:
    library.post("/v1/test_books", {"id": "b"})
    library.post("/v1/test_loans", {"id": "l", "book": "b"})
    answer = library.delete("/v1/test_books/b", headers=headers)
    assert (answer.status_code, answer.json["code"]) == (409, "still_referenced")
    assert library.get("/v1/test_books/b").status_code == 200
    assert library.delete("/v1/test_loans/l").status_code == 204
    assert library.delete("/v1/test_books/b").status_code == 204


@keyed
def test_a_shelf_goes_with_its_books_and_their_pages(library: Phone, headers: Any) -> None:
    library.post("/v1/test_shelves", {"id": "a"})
    library.post("/v1/test_books", {"id": "b", "shelf": "a"})
    library.post("/v1/test_pages", {"id": "p", "book": "b"})
    assert library.delete("/v1/test_shelves/a", headers=headers).status_code == 204
    paths = ["/v1/test_shelves/a", "/v1/test_books/b", "/v1/test_pages/p"]
    assert [library.get(path).status_code for path in paths] == [404, 404, 404]


def test_a_tour_goes_on_without_the_shelf(library: Phone) -> None:
    for name in ("a", "b"):
        library.post("/v1/test_shelves", {"id": name})
    library.post("/v1/test_tours", {"id": "t", "shelves": ["a", "b"]})
    library.delete("/v1/test_shelves/a")
    assert library.get("/v1/test_tours/t").json["shelves"] == ["b"]


def test_what_is_referred_to_further_down_keeps_the_top(library: Phone) -> None:
    library.post("/v1/test_shelves", {"id": "a"})
    library.post("/v1/test_books", {"id": "b", "shelf": "a"})
    library.post("/v1/test_loans", {"id": "l", "book": "b"})
    assert library.delete("/v1/test_shelves/a").status_code == 409
    assert library.get("/v1/test_books/b").status_code == 200


# In a transaction


@pytest.fixture
def no_transaction_left(app: Flask) -> Iterator[None]:
    """End what a test left open on the server: it holds its records for a minute."""
    yield
    get_connection().admin.command("killAllSessions", [])


def atomic(person: Phone, *requests: tuple[str, str, Any]) -> list[int]:
    batch = [{"method": method, "path": path, "body": body} for method, path, body in requests]
    answer = person.post("/v1/batch", {"atomic": True, "requests": batch})
    return [part["status"] for part in answer.json.get("responses", [])] or [answer.status_code]


@pytest.mark.real
def test_an_atomic_batch_deletes_a_notebook_and_clears_its_notes(ada: Person) -> None:
    note = ada.make_note(notebook=ada.make_notebook()["id"])
    assert atomic(ada, ("DELETE", f"/v1/notebooks/{note['notebook']}", None)) == [204]
    assert ada.get(f"/v1/notes/{note['id']}").json["notebook"] is None


@pytest.mark.real
def test_a_batch_that_is_undone_clears_nothing(ada: Person) -> None:
    note = ada.make_note(notebook=ada.make_notebook()["id"])
    done = atomic(ada, ("DELETE", f"/v1/notebooks/{note['notebook']}", None), ("POST", "/v1/notes", {}))
    assert done == [424, 422]
    assert ada.get(f"/v1/notebooks/{note['notebook']}").status_code == 200
    assert ada.get(f"/v1/notes/{note['id']}").json == note


@pytest.mark.real
@pytest.mark.usefixtures("no_transaction_left")
def test_an_atomic_batch_changes_a_note_and_deletes_its_notebook(ada: Person) -> None:
    note = ada.make_note(notebook=ada.make_notebook()["id"])
    path = f"/v1/notes/{note['id']}"
    done = atomic(ada, ("PATCH", path, {"title": "new"}), ("DELETE", f"/v1/notebooks/{note['notebook']}", None))
    assert done == [200, 204]
    assert ada.get(path).json["notebook"] is None


@pytest.mark.real
def test_an_atomic_batch_deletes_no_more_than_a_transaction_may_lock(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "MOST_AT_ONCE", 5)
    small, large = (ada.make_notebook()["id"] for _ in range(2))
    notes = [ada.make_note(notebook=notebook)["id"] for notebook in [small] * 3 + [large] * 6]
    delete = [{"method": "DELETE", "path": f"/v1/notebooks/{notebook}"} for notebook in (small, large)]
    answer = ada.post("/v1/batch", {"atomic": True, "requests": delete}).json["responses"]
    assert [part["status"] for part in answer] == [424, 409]
    assert answer[1]["body"]["code"] == "still_referenced"
    assert "by a request of its own" in answer[1]["body"]["detail"]
    assert [ada.get(f"/v1/notes/{note}").json["revision"] for note in notes] == [1] * 9
    assert atomic(ada, ("DELETE", f"/v1/notebooks/{small}", None)) == [204]
    assert ada.delete(f"/v1/notebooks/{large}").status_code == 204


@pytest.mark.real
def test_the_deletions_of_an_atomic_batch_are_counted_together(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "MOST_AT_ONCE", 5)
    notebooks = [ada.make_notebook()["id"] for _ in range(2)]
    for notebook in notebooks * 3:
        ada.make_note(notebook=notebook)
    delete = [("DELETE", f"/v1/notebooks/{notebook}", None) for notebook in notebooks]
    assert atomic(ada, *delete) == [424, 409]
    assert [atomic(ada, one) for one in delete] == [[204], [204]]


@pytest.mark.real
@pytest.mark.parametrize("again", ["PUT", "POST"])
@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}], ids=["plain", "only if new"])
def test_an_atomic_batch_does_not_make_what_it_has_deleted(ada: Person, again: str, headers: Any) -> None:
    note = ada.make_note(id="x")
    path = "/v1/notes/x" if again == "PUT" else "/v1/notes"
    delete = {"method": "DELETE", "path": "/v1/notes/x"}
    make = {"method": again, "path": path, "body": {"id": "x", "title": "x"}, "headers": headers}
    answer = ada.post("/v1/batch", {"atomic": True, "requests": [delete, make]})
    assert [part["status"] for part in answer.json["responses"]] == [424, 409]
    assert "Retry-After" not in answer.headers
    assert ada.get("/v1/notes/x").json == note


# The burial comes first


def late(document: type[Record], id: str, **content: Any) -> None:
    """Store what refers to a record that is deleted: its write had found that one before."""
    put(document, id, **content)


def sweep(after: timedelta = timedelta(0)) -> int:
    return deletion.release_again(TYPES, after)


def test_what_is_deleted_is_gone_although_mongodb_fails_before_the_rest(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = ada.make_note(notebook=ada.make_notebook()["id"])
    with monkeypatch.context() as patched:
        patched.setattr(store, "change_many", failing)
        assert ada.delete(f"/v1/notebooks/{note['notebook']}").status_code == 204
    assert ada.get(f"/v1/notebooks/{note['notebook']}").status_code == 404
    assert ada.get(f"/v1/notes/{note['id']}").json["notebook"] == note["notebook"]
    assert sweep() == 1
    assert ada.get(f"/v1/notes/{note['id']}").json["notebook"] is None


def failing(*_: Any) -> None:
    raise AutoReconnect


@pytest.mark.parametrize("body", [{"title": "x"}, {"title": "x", "id": "n"}])
def test_what_is_deleted_takes_no_reference_from_then_on(
    ada: Person, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    notebook, note = ada.make_notebook()["id"], ada.make_note()
    with monkeypatch.context() as patched:
        patched.setattr(deletion, "release", failing)
        ada.delete(f"/v1/notebooks/{notebook}")
    sent = {**body, "notebook": notebook}
    for answer in (
        ada.post("/v1/notes", sent),
        ada.put("/v1/notes/n", sent),
        ada.patch(f"/v1/notes/{note['id']}", {"notebook": notebook}),
    ):
        assert pointers(answer) == {"/notebook": "not_found"}


def test_a_write_that_comes_late_is_released_by_the_sweep(library: Phone) -> None:
    library.post("/v1/test_shelves", {"id": "a"})
    library.delete("/v1/test_shelves/a")
    late(Label, "l", s="a")
    late(Tour, "t", shelves=["a", "b"])
    assert sweep(timedelta(minutes=1)) == 0
    assert row(Label, "l")["s"] == "a"
    assert (sweep(), sweep()) == (1, 0)
    assert ("s" in row(Label, "l"), row(Tour, "t")["shelves"]) == (False, ["b"])
    assert buried(Shelf, "a")
    assert "going_at" not in row(Shelf, "a")


def test_what_goes_with_another_is_swept_as_well(library: Phone) -> None:
    library.post("/v1/test_shelves", {"id": "a"})
    library.post("/v1/test_books", {"id": "b", "shelf": "a"})
    library.delete("/v1/test_shelves/a")
    late(Page, "p", book="b")
    assert sweep() == 2
    assert buried(Page, "p")
    assert row(Page, "p")["purge_at"] > now() + timedelta(days=29)


def test_a_sweep_ends_when_it_has_to(library: Phone) -> None:
    library.post("/v1/test_shelves", {"id": "a"})
    library.delete("/v1/test_shelves/a")
    assert deletion.release_again(TYPES, timedelta(0), lambda: False) == 0
    assert sweep() == 1


def test_what_has_no_referrers_leaves_no_mark(ada: Person) -> None:
    note = ada.make_note()
    ada.delete(f"/v1/notes/{note['id']}")
    assert "going_at" not in row(Note, note["id"])


def test_what_refers_to_another_by_now_keeps_that_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two who release at once, or beside a change of the reference, each looks again when it writes."""
    for document, content in ((Label, {"s": "a"}), (Tour, {"shelves": ["a"]}), (Book, {"shelf": "a"})):
        put(document, "x", **content)
    put(Page, "p", book="x")
    find = deletion.id_batch

    def found_and_changed(type: RecordType, condition: Any) -> list[str]:
        ids = find(type, condition)
        for document, change in ((Label, {"s": "b"}), (Tour, {"shelves": ["b"]}), (Book, {"shelf": "b"})):
            document._get_collection().update_one({"_id": "x"}, {"$set": change})
        return ids

    monkeypatch.setattr(deletion, "id_batch", found_and_changed)
    release(Shelf, ["a"], DAYS)
    assert (row(Label, "x")["s"], row(Tour, "x")["shelves"], row(Book, "x")["shelf"]) == ("b", ["b"], "b")
    assert {row(document, "x")["revision"] for document in (Label, Tour, Book)} == {1}
    assert row(Page, "p")["book"] == "x"


@pytest.mark.parametrize("field", ["shelf", "shelves"])
def test_a_patch_refers_to_what_is_there(library: Phone, field: str) -> None:
    library.post("/v1/test_shelves", {"id": "a"})
    library.post("/v1/test_labels", {"id": "x"})
    library.post("/v1/test_tours", {"id": "x"})
    path, value = ("/v1/test_labels/x", "gone") if field == "shelf" else ("/v1/test_tours/x", ["a", "gone"])
    assert list(pointers(library.patch(path, {field: value})).values()) == ["not_found"]
    if field == "shelves":
        assert library.patch(path, {"$push": {field: "gone"}}).status_code == 422
    assert library.get(path).json["revision"] == 1


# Where a rule may keep a record


def test_a_record_may_be_kept_by_what_refers_to_it_or_to_what_goes_with_it() -> None:
    kept = [document.__name__ for document in ALL if TYPES.is_kept(TYPES.of(document))]
    assert kept == ["Shelf", "Book"]


def test_what_keeps_a_record_writes_to_it_unseen(library: Phone) -> None:
    library.post("/v1/test_books", {"id": "b"})
    before = library.get("/v1/test_books/b")
    library.post("/v1/test_loans", {"id": "l", "book": "b"})
    library.patch("/v1/test_loans/l", {"book": "b"})
    library.put("/v1/test_loans/l", {"book": "b"})
    assert row(Book, "b")["reference_writes"] == 3
    after = library.get("/v1/test_books/b")
    assert (after.json, after.headers["ETag"]) == (before.json, before.headers["ETag"])


@pytest.mark.real
@pytest.mark.parametrize("target", ["test_books/b", "test_shelves/a"])
def test_a_loan_and_the_deletion_of_its_book_do_not_miss_each_other(library: Phone, target: str) -> None:
    lost = kept = 0
    for trial in range(40):
        library.put("/v1/test_shelves/a", {})
        library.put("/v1/test_books/b", {"shelf": "a"})
        one, other = (Phone(library.client.application.test_client(), library.headers) for _ in range(2))
        lend = later(15 * (trial % 8), partial(one.post, "/v1/test_loans", {"book": "b"}))
        delete = later(10, partial(other.delete, f"/v1/{target}"))
        answers = tuple(answer.status_code for answer in at_once(lend, delete))
        is_there = library.get("/v1/test_books/b").status_code == 200
        assert answers == ((201, 409) if is_there else (422, 204))
        assert Loan._get_collection().count_documents({"book": "b"}) == is_there
        lost, kept = lost + (not is_there), kept + is_there
        for document in LIBRARY:
            document._get_collection().delete_many({})
    assert lost
    assert kept


def later(milliseconds: int, work: Callable[[], TestResponse]) -> Callable[[], TestResponse]:
    """Work that begins so much later, so that two which run at once meet at another place in each trial."""

    def begin() -> TestResponse:
        sleep(milliseconds / 1000)
        return work()

    return begin


@pytest.mark.real
def test_what_is_too_much_for_one_transaction_is_said(library: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletion, "MOST_AT_ONCE", 3)
    library.post("/v1/test_shelves", {"id": "a"})
    for number in range(4):
        library.post("/v1/test_books", {"id": f"b{number}", "shelf": "a"})
    answer = library.delete("/v1/test_shelves/a")
    assert (answer.status_code, answer.json["code"]) == (409, "still_referenced")
    assert "of them first" in answer.json["detail"]
    assert library.delete("/v1/test_books/b0").status_code == 204
    assert library.delete("/v1/test_shelves/a").status_code == 204


def test_a_type_nobody_refers_to_has_no_rules() -> None:
    registry = Registry([Notebook, Note])
    assert registry.referrers(registry.of(Note)) == ()
    referring = registry.referrers(registry.of(Notebook))
    assert [(other.document, reference.place.name) for other, reference in referring] == [(Note, "notebook")]
