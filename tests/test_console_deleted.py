"""A deletion in the console is undone while the tombstone lasts, where the content can be had."""

import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from mongoengine import IntField, StringField, UUIDField

from service.core.clock import now
from service.documents import Account, AdminAction, DeletedContent, Group, Note, Notebook, Record
from service.pages.console_texts import CONSOLE_TEXTS
from service.records import deletion, store, undoing
from service.upkeep import indexes
from tests.admin_browser import AdminBrowser
from tests.client import Person
from tests.recording import Recording
from tests.syncing import Melon, Replica
from tests.test_changes import Device
from tests.types import EVERY, SHIPPED
from tests.uploading import upload

TEXTS = CONSOLE_TEXTS["en"]


@pytest.fixture
def admin(app: Flask, ada: Person) -> AdminBrowser:
    DeletedContent._get_collection().delete_many({})
    return AdminBrowser.of(ada, app)


def deleted(admin: AdminBrowser, name: str, id: str) -> str:
    """Delete a record in the console, and return the path of what is left."""
    answer = admin.send(f"/admin/records/{name}/{id}/delete")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/admin/deleted/{name}/{id}"), answer.text
    return str(answer.headers["Location"])


def stored(id: str) -> dict[str, Any]:
    """What is stored of a note, but for the stamps of the last write."""
    found = Note._get_collection().find_one({"_id": id})
    assert found is not None
    return {name: value for name, value in found.items() if name not in ("updated_at", "revision", "oldest_writer")}


def test_a_deletion_is_undone_with_all_that_the_record_was(admin: AdminBrowser, ada: Person, bob: Person) -> None:
    book = bob.make_notebook()["id"]
    note = bob.make_note(title="Milk and honey", tags=["shop"], readers=[ada.id], notebook=book)["id"]
    before = stored(note)
    path = deleted(admin, "notes", note)
    assert bob.get(f"/v1/notes/{note}").status_code == 404
    assert f'href="{path}"' in admin.get("/admin/deleted/notes").text
    answer = admin.send(path)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/admin/records/notes/{note}")
    assert stored(note) == before
    told = bob.get(f"/v1/notes/{note}").json
    assert (told["title"], told["revision"], told["owner"]) == ("Milk and honey", 3, bob.id)
    assert [one["id"] for one in bob.find(search="honey").json["items"]] == [note]
    assert ada.get(f"/v1/notes/{note}").status_code == 200
    assert DeletedContent.objects.count() == 0
    action = AdminAction.objects(action="restored").first()
    assert (action.target, action.owner, json.loads(action.after)["title"]) == (note, bob.id, "Milk and honey")


def test_a_deletion_that_was_undone_is_done_and_undone_again(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note(title="first")["id"]
    assert admin.send(deleted(admin, "notes", note)).status_code == 303
    bob.patch(f"/v1/notes/{note}", {"title": "second"})
    path = deleted(admin, "notes", note)
    form = admin.form(path)
    assert admin.post(path, form).status_code == 303
    assert admin.post(path, form).status_code == 404
    assert bob.get(f"/v1/notes/{note}").json["title"] == "second"


def test_of_what_a_client_deletes_nothing_is_kept(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note(title="secret")["id"]
    assert admin.send(deleted(admin, "notes", note)).status_code == 303
    bob.delete(f"/v1/notes/{note}")
    page = admin.get(f"/admin/deleted/notes/{note}")
    assert TEXTS["undo_not_kept"] in page.text
    assert "<button>" not in page.text.partition("<main")[2]
    assert "secret" not in str(list(DeletedContent._get_collection().find()))
    assert admin.post(f"/admin/deleted/notes/{note}", admin.form("/admin/new/notes")).status_code == 404


def test_a_file_a_group_and_what_is_too_large_say_that_they_do_not_come_back(
    admin: AdminBrowser, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = bob.post("/v1/groups", {"name": "team"}).json["id"]
    assert TEXTS["undo_members_gone"] in admin.get(f"/admin/records/groups/{group}/delete").text
    assert TEXTS["undo_members_gone"] in admin.get(deleted(admin, "groups", group)).text
    file = upload(bob, {"name": "a.txt"})["id"]
    assert TEXTS["undo_bytes_gone"] in admin.get(f"/admin/records/files/{file}/delete").text
    assert TEXTS["undo_bytes_gone"] in admin.get(deleted(admin, "files", file)).text
    assert Group._get_collection().find_one({"_id": group}, {"name": 1}) == {"_id": group}
    monkeypatch.setattr(undoing, "LARGEST_KEPT", 1000)
    small, large = (bob.make_note(body="x" * size)["id"] for size in (10, 1000))
    assert TEXTS["undo_later"] in admin.get(f"/admin/records/notes/{small}/delete").text
    assert TEXTS["undo_too_large"] in admin.get(f"/admin/records/notes/{large}/delete").text
    deleted(admin, "notes", large)
    assert DeletedContent.objects.count() == 0


def test_a_tombstone_that_has_gone_takes_what_was_kept_with_it(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note()["id"]
    path = deleted(admin, "notes", note)
    form = admin.form(path)
    kept = DeletedContent.objects.first()
    assert kept.expires_at == Note._get_collection().find_one({"_id": note})["purge_at"]
    Note._get_collection().update_one({"_id": note}, {"$set": {"purge_at": now() - timedelta(seconds=1)}})
    assert admin.get(path).status_code == 404
    assert admin.post(path, form).status_code == 404


def test_with_an_account_goes_what_was_deleted_of_it(admin: AdminBrowser, bob: Person) -> None:
    deleted(admin, "notes", bob.make_note(title="secret")["id"])
    assert bob.delete("/v1/accounts/me").status_code == 204
    assert DeletedContent.objects.count() == 0


def test_what_it_refers_to_has_to_be_there_still(admin: AdminBrowser, bob: Person) -> None:
    book = bob.make_notebook()["id"]
    note = bob.make_note(notebook=book)["id"]
    path = deleted(admin, "notes", note)
    bob.delete(f"/v1/notebooks/{book}")
    answer = admin.send(path)
    assert (answer.status_code, "/notebook" in answer.text) == (422, True)
    assert bob.get(f"/v1/notes/{note}").status_code == 404
    assert DeletedContent.objects.count() == 1


def test_who_has_left_a_group_gives_it_nothing_by_an_old_record(admin: AdminBrowser, bob: Person) -> None:
    group = bob.post("/v1/groups", {"name": "team"}).json["id"]
    note = bob.make_note(readers=[f"group:{group}"])["id"]
    path = deleted(admin, "notes", note)
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"groups": []}})
    answer = admin.send(path)
    assert (answer.status_code, "/readers" in answer.text) == (422, True)


def test_what_refers_to_a_record_that_was_brought_back_is_released_no_more(
    admin: AdminBrowser, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = bob.make_notebook()["id"]
    path = deleted(admin, "notebooks", book)
    form = admin.form("/admin/new/notes")
    release, tried = deletion.release, []

    def undo_is_tried(*given: Any) -> None:
        # The sweep has read the ids.
        tried.append(admin.post(path, form))
        if bob.get(f"/v1/notebooks/{book}").status_code == 200:
            bob.make_note(notebook=book)
        release(*given)

    monkeypatch.setattr(deletion, "release", undo_is_tried)
    assert deletion.release_again(EVERY, timedelta(0)) == 1
    assert [(one.status_code, TEXTS["undo_going"] in one.text) for one in tried] == [(409, True)]
    assert Note.objects.count() == 0
    assert admin.send(path).status_code == 303
    note = bob.make_note(notebook=book)["id"]
    assert deletion.release_again(EVERY, timedelta(0)) == 0
    assert bob.get(f"/v1/notes/{note}").json["notebook"] == book


def test_a_worker_that_stood_still_takes_nothing_from_a_record_that_was_brought_back(
    admin: AdminBrowser, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = bob.make_notebook()["id"]
    for _ in range(3):
        bob.make_note(notebook=book)
    with monkeypatch.context() as patched:
        patched.setattr(deletion, "release", lambda *_: None)
        path = deleted(admin, "notebooks", book)
    monkeypatch.setattr(deletion, "BATCH", 1)
    change_many, since = store.change_many, []

    def stands_still(*given: Any) -> None:
        change_many(*given)
        if not since:
            since.append("stands still")
            assert deletion.release_again(EVERY, timedelta(0)) == 1
            assert admin.send(path).status_code == 303
            since[:] = [bob.make_note(notebook=book)["id"] for _ in range(2)]

    monkeypatch.setattr(store, "change_many", stands_still)
    deletion.release_again(EVERY, timedelta(0))
    assert [bob.get(f"/v1/notes/{id}").json.get("notebook") for id in since] == [book, book]


def test_a_tombstone_whose_references_are_released_is_never_given_its_content(admin: AdminBrowser, bob: Person) -> None:
    book = bob.make_notebook()["id"]
    path = deleted(admin, "notebooks", book)
    type = EVERY.of(Notebook)
    left, kept = Notebook._get_collection().find_one({"_id": book}), DeletedContent._get_collection().find_one()
    assert left is not None
    assert "going_at" in left
    assert "<button>" not in admin.get(path).text.partition("<main")[2]
    given = (type, book, bob.id, left["revision"], kept["content"])
    assert store.unbury(*given) is None
    assert Notebook._get_collection().find_one({"_id": book}) == left
    store.settle(type, [book])
    assert store.unbury(*given) is not None


def test_accounts_that_are_gone_are_no_readers_of_what_comes_back(
    app: Flask, admin: AdminBrowser, ada: Person, bob: Person
) -> None:
    gone, going = (Person.sign_up(app.test_client(), name) for name in ("gone", "going"))
    given = [ada.id, gone.id, "role:staff", going.id]
    note = bob.make_note(readers=given, writers=[going.id, ada.id])["id"]
    path = deleted(admin, "notes", note)
    assert gone.delete("/v1/accounts/me").status_code == 204
    Account._get_collection().update_one({"_id": going.id}, {"$set": {"deleted_at": now()}})
    assert admin.send(path).status_code == 303
    found = stored(note)
    assert (found["readers"], found["writers"]) == ([ada.id, "role:staff"], [ada.id])
    assert {*found["access"]} == {f"o:{bob.id}", f"r:{ada.id}", "r:role:staff"}


def test_records_of_another_form_do_not_come_back(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note()["id"]
    path = deleted(admin, "notes", note)
    form = admin.form(path)
    DeletedContent.objects.update(form=7)
    assert TEXTS["undo_other_form"] in admin.get(path).text
    assert admin.post(path, form).status_code == 404


TICKET = uuid.UUID(int=7)


class Ticketed(Record):
    """A type of somebody's own, with a unique value, and one that no client sees."""

    number = IntField(required=True, unique=True)
    secret = StringField(hidden=True)
    ticket = UUIDField()
    meta = {"collection": "console_ticketed"}


@pytest.fixture
def ticketed(make_app: Any, ada: Person) -> Iterator[AdminBrowser]:
    """An admin of a service with such a type."""
    app: Flask = make_app([*SHIPPED, Ticketed])
    with app.app_context():
        indexes.make(app.extensions["madang.registry"])
    yield AdminBrowser.of(ada, app)
    Ticketed._get_collection().drop()


def test_a_type_of_ones_own_comes_back_with_what_is_hidden_and_not_where_a_unique_value_is_taken(
    ticketed: AdminBrowser,
) -> None:
    path = ticketed.send("/admin/new/console_ticketed", owner="ada", **{"/number": "7"}).headers["Location"]
    id = path.rpartition("/")[2]
    Ticketed._get_collection().update_one({"_id": id}, {"$set": {"secret": "hidden", "ticket": TICKET}})
    left = deleted(ticketed, "console_ticketed", id)
    other = ticketed.send("/admin/new/console_ticketed", owner="ada", **{"/number": "7"}).headers["Location"]
    assert ticketed.send(left).status_code == 409
    ticketed.send(f"{other}/edit", **{"/number": "8"})
    assert ticketed.send(left).status_code == 303
    found = Ticketed._get_collection().find_one({"_id": id})
    assert (found["number"], found["secret"], found["ticket"]) == (7, "hidden", TICKET)


@pytest.mark.real
@pytest.mark.parametrize("has_heard", [True, False])
def test_phones_hear_of_what_was_brought_back_whether_they_heard_of_its_deletion_or_not(
    admin: AdminBrowser, ada: Person, bob: Person, recording: Recording, has_heard: bool
) -> None:
    note = bob.make_note(title="Milk", readers=[ada.id])["id"]
    followers = [Device(person, recording) for person in (ada, bob)]
    melon, replica = Melon(bob, recording), Replica(bob, recording)
    for pull in (*(one.pull for one in followers), melon.pull, replica.pull):
        pull()
    path = deleted(admin, "notes", note)
    if has_heard:
        assert [("gone" in item) for one in followers for item in one.pull()] == [True, True]
        assert melon.pull()["notes"]["deleted"] == [note]
        assert [one["_deleted"] for one in replica.pull()] == [True]
    assert admin.send(path).status_code == 303
    for follower in followers:
        follower.pull()
        assert follower.has == follower.listed() == {("notes", note): 3}
    told = melon.pull()["notes"]
    assert [row["id"] for row in (*told["created"], *told["updated"])] == [note]
    assert told["deleted"] == []
    assert [(one["id"], one["_deleted"], one["title"]) for one in replica.pull()] == [(note, False, "Milk")]
    # And by sync it is changed as before.
    assert bob.patch(f"/v1/notes/{note}", {"title": "Oat milk"}).status_code == 200
    assert [one["title"] for one in replica.pull()] == ["Oat milk"]
