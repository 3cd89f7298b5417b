"""The deletion of an account: what goes, what stays, and that it ends although it is cut short."""

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from mongoengine.connection import get_db
from werkzeug.test import TestResponse

from service.core.clock import now
from service.documents import Account, Event, KeptAnswer, Note, Notebook, Record, Session
from service.documents.versioned import STAMPS
from service.identity.deletion import delete_account, last_writes, sweep
from service.records import deletion as records_deletion
from service.records import store
from tests.client import PASSWORD, Person, Phone
from tests.types import REGISTRY, SHIPPED, create, new

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
ALIVE = {"purge_at": {"$exists": False}}
KEY = {"Idempotency-Key": "4f6c"}


@pytest.fixture
def zoe(app: Flask) -> Person:
    """Somebody whose name and content stand nowhere else."""
    person = Person.sign_up(app.test_client(), "zoe.zebedee", "zoe's zphone")
    person.patch(ME, {"email": "zoe.zebedee@example.com", "display_name": "Zoe Zebedee"})
    return person


def delete(person: Phone, **headers: str) -> None:
    assert person.delete(ME, headers=headers).status_code == 204


def let_it_be_swept() -> int:
    """Sweep as the service does 15 seconds after a deletion; return how many accounts are gone for good."""
    Account.objects(deleted_at__exists=True).update(deleted_at=now() - timedelta(seconds=16))
    records_deletion.release_again(REGISTRY, timedelta())
    return sweep(REGISTRY)


def everything() -> str:
    """All that the database holds, as text."""
    names = get_db().list_collection_names()
    return "\n".join(f"{name} {row}" for name in sorted(names) for row in get_db()[name].find())


def mark(person: Person) -> None:
    """Begin a deletion that is cut short right after its first step."""
    Account._get_collection().update_one({"_id": person.id}, {"$set": {"deleted_at": now()}})


# What goes


def test_nothing_of_an_account_is_left(zoe: Person, bob: Person) -> None:
    notebook = zoe.make_notebook(title="zebras", readers=[bob.id])
    zoe.post("/v1/notes", {"title": "a zzz title", "notebook": notebook["id"]}, headers=KEY)
    zoe.post("/auth", {"username": zoe.username, "password": "wrong"})
    bob.make_note(notebook=notebook["id"], readers=[zoe.id], writers=[zoe.id, "role:team"])
    delete(zoe)
    let_it_be_swept()
    left = everything()
    assert not [
        word
        for word in (zoe.id, "zebedee", "Zebedee", "zebras", "a zzz title", "zphone", notebook["id"])
        if word in left
    ]
    assert bob.id in left


def test_records_are_gone_without_a_tombstone(ada: Person) -> None:
    ada.make_note()
    ada.make_notebook()
    delete(ada)
    # Somebody's note, whose write is under way, may still refer to the notebook.
    assert Note._get_collection().count_documents({}) == Notebook._get_collection().count_documents(ALIVE) == 0
    let_it_be_swept()
    assert [document._get_collection().count_documents({}) for document in SHIPPED] == [0] * len(SHIPPED)


def test_no_grant_is_left_in_the_lists_of_others(ada: Person, bob: Person) -> None:
    note = bob.make_note(readers=[ada.id, "role:team"], writers=["*", ada.id])
    delete(ada)
    after = bob.get(f"/v1/notes/{note['id']}").json
    assert (after["readers"], after["writers"], after["revision"]) == (["role:team"], ["*"], 2)
    assert f"r:{ada.id}" not in Note._get_collection().find_one()["access"]


@pytest.mark.parametrize(
    "stored", [{"readers": "ada"}, {"writers": 5}, {"readers": {"a": "b"}, "writers": "ada"}], ids=str
)
def test_a_grant_goes_though_other_software_has_stored_no_list(
    ada: Person, bob: Person, stored: dict[str, Any]
) -> None:
    """One record of another must not keep an account, and all that are deleted after it."""
    odd, good = (bob.make_note(readers=[ada.id], writers=[ada.id])["id"] for _ in range(2))
    Note._get_collection().update_one({"_id": odd}, {"$set": stored})
    delete(ada)
    assert let_it_be_swept() == 1
    assert Note._get_collection().count_documents({"access": f"r:{ada.id}"}) == 0
    after = bob.get(f"/v1/notes/{good}").json
    assert (after["readers"], after["writers"]) == ([], [])


def test_the_notes_of_others_leave_the_notebook_that_goes(ada: Person, bob: Person) -> None:
    notebook = ada.make_notebook(readers=[bob.id])
    note = bob.make_note(notebook=notebook["id"])
    delete(ada)
    after = bob.get(f"/v1/notes/{note['id']}").json
    assert (after["notebook"], after["revision"]) == (None, 2)


def test_what_others_have_is_not_touched(ada: Person, bob: Person) -> None:
    notebook = bob.make_notebook()
    kept = [bob.make_note(notebook=notebook["id"]), bob.make_note(readers=["*"])]
    ada.make_note(notebook=None)
    delete(ada)
    assert [bob.get(f"/v1/notes/{note['id']}").json for note in kept] == kept
    assert bob.get(f"{ME}/sessions").json["items"]


def test_sessions_events_and_kept_answers_go_at_once(ada: Person, bob: Person) -> None:
    ada.post("/v1/notes", {"title": "x"}, headers=KEY)
    delete(ada)
    owners = {row["account"] for document in (Session, Event, KeptAnswer) for row in document._get_collection().find()}
    assert owners == {bob.id}


def test_what_is_left_until_the_sweep_is_a_mark(ada: Person) -> None:
    delete(ada)
    assert not {"username", "username_key", "password_hash", "email", "display_name", "roles"} & set(
        Account._get_collection().find_one()
    )
    let_it_be_swept()
    assert not Account.objects


def test_a_tombstone_of_before_stays_without_content(ada: Person) -> None:
    note = ada.make_note(title="zzz", readers=["*"])
    ada.delete(f"/v1/notes/{note['id']}")
    delete(ada)
    let_it_be_swept()
    (left,) = Note._get_collection().find()
    assert left.keys() - STAMPS == {"_id", "owner", "created_at", "updated_at", "revision", "purge_at"}


def test_others_see_no_account_any_more(ada: Person, bob: Person) -> None:
    delete(ada)
    assert bob.get(f"/v1/accounts/{ada.id}").json["code"] == "not_found"


def test_the_name_is_free_at_once_and_opens_nothing(app: Flask, ada: Person, bob: Person) -> None:
    bob.make_note(readers=[ada.id])
    delete(ada)
    again = Person.sign_up(app.test_client(), "ada")
    assert again.get("/v1/notes").json["items"] == []
    let_it_be_swept()
    assert again.get(ME).status_code == 200


def test_a_delete_under_a_key_leaves_no_kept_answer(ada: Person) -> None:
    delete(ada, **KEY)
    let_it_be_swept()
    assert KeptAnswer.objects.count() == 0


def test_the_kept_answer_of_the_sign_up_goes_too(phone: Phone) -> None:
    phone.post("/v1/accounts", {"username": "zoe", "password": PASSWORD, "email": "zoe@example.com"}, headers=KEY)
    token = phone.post("/auth", {"username": "zoe", "password": PASSWORD}).json["access_token"]
    phone.headers = {"Authorization": f"Bearer {token}"}
    delete(phone)
    let_it_be_swept()
    assert KeptAnswer.objects.count() == 0


# Who may


def old_login(person: Person, seconds: int) -> TestResponse:
    """What a deletion is answered on tokens whose login is so long ago."""
    Session.objects(account=person.id).update(auth_time=int(time.time()) - seconds)
    token = person.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]}).json["access_token"]
    return person.delete(ME, headers={"Authorization": f"Bearer {token}"})


@pytest.mark.parametrize("seconds", [301, 86_400])
def test_it_asks_for_a_login_of_the_last_five_minutes(ada: Person, seconds: int) -> None:
    answer = old_login(ada, seconds)
    assert (answer.status_code, answer.json["code"]) == (403, "reauthentication_required")
    assert Account.objects.count() == 1


def test_a_refresh_is_good_while_the_login_is_young(ada: Person) -> None:
    assert old_login(ada, 290).status_code == 204


def test_a_new_login_is_enough(ada: Person) -> None:
    assert old_login(ada, 400).status_code == 403
    ada.log_in()
    delete(ada)


def test_without_a_token_nothing_is_deleted(phone: Phone, ada: Person) -> None:
    assert phone.delete(ME).status_code == 401
    assert ada.get(ME).status_code == 200


@pytest.mark.parametrize("path", ["/auth", "/auth/refresh"])
def test_the_tokens_and_the_password_are_worth_nothing_after(ada: Person, path: str) -> None:
    delete(ada)
    bodies = {
        "/auth": {"username": "ada", "password": PASSWORD},
        "/auth/refresh": {"refresh_token": ada.tokens["refresh_token"]},
    }
    assert ada.post(path, bodies[path]).status_code == 401


# Cut short


def test_a_marked_account_is_nobody(app: Flask, ada: Person, bob: Person) -> None:
    mark(ada)
    assert ada.get(ME).status_code == 401
    assert bob.get(f"/v1/accounts/{ada.id}").status_code == 404


def test_a_deletion_cut_short_after_its_first_step_is_ended(ada: Person, bob: Person) -> None:
    ada.make_note()
    granted = bob.make_note(readers=[ada.id])
    mark(ada)
    assert let_it_be_swept() == 1
    assert [row["_id"] for row in Note._get_collection().find()] == [granted["id"]]
    assert ada.id not in everything()


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_deletion_cut_short_between_batches_is_ended(
    ada: Person, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    Note._get_collection().insert_many(new(Note, ada.id, {"title": "x"}) for _ in range(45))
    with monkeypatch.context() as patched:
        patched.setattr(records_deletion, "BATCH", 10)
        patched.setattr(store, "erase", failing_after(batches, store.erase))
        with pytest.raises(KeyboardInterrupt):
            delete_account(REGISTRY, ada.id)
    assert Note._get_collection().count_documents({}) == 45 - 10 * batches
    assert let_it_be_swept() == 1
    assert (Note._get_collection().count_documents({}), Account.objects.count()) == (0, 0)


def failing_after(calls: int, work: Callable[..., None]) -> Callable[..., None]:
    """Do so many batches; then the process dies."""
    left = iter(range(calls))

    def fail(*args: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        work(*args)

    return fail


def test_what_a_running_request_stored_in_the_meantime_goes_with_the_sweep(ada: Person) -> None:
    delete(ada)
    create(Note, ada.id, {"title": "late"})
    Event.record(ada.id, "logout")
    let_it_be_swept()
    assert (Note._get_collection().count_documents({}), Event.objects.count()) == (0, 0)


def test_the_sweep_waits_until_running_requests_have_ended(ada: Person) -> None:
    delete(ada)
    assert sweep(REGISTRY) == 0
    assert Account.objects.count() == 1


@pytest.mark.parametrize(("timeout", "seconds"), [(1, 15), (5, 15), (30, 90)])
def test_the_sweep_waits_for_operations_that_may_take_long(timeout: float, seconds: float) -> None:
    assert last_writes(timeout).total_seconds() == seconds


def test_a_sweep_ends_all_deletions_that_are_due_and_no_other(app: Flask, ada: Person, bob: Person) -> None:
    for name in ("eve", "mallory"):
        delete(Person.sign_up(app.test_client(), name))
    assert let_it_be_swept() == 2
    assert sweep(REGISTRY) == 0
    assert {account.username for account in Account.objects} == {"ada", "bob"}


def test_two_sweeps_at_once_do_no_harm(ada: Person) -> None:
    delete(ada)
    Account.objects.update(deleted_at=now() - timedelta(minutes=1))
    assert [sweep(REGISTRY), sweep(REGISTRY)] == [1, 0]


# How long


class Tick(Record):
    """As small as a record can be: a hundred thousand of them are stored in seconds."""

    meta = {"collection": "test_deleted_ticks", "sorts": ["-updated_at"]}


@pytest.fixture
def ticks(make_app: Any, ada: Person) -> Iterator[Any]:
    """The collection of a record type that is deleted too: Ada is at a service that has it."""
    ada.client = make_app(documents=[*SHIPPED, Tick]).test_client()
    Tick._get_collection().create_index("access")
    yield Tick._get_collection()
    Tick._get_collection().drop()


@pytest.mark.real
def test_100_000_records_are_gone_in_bounded_time(make_app: MakeApp, ada: Person, bob: Person, ticks: Any) -> None:
    for _ in range(10):
        ticks.insert_many(new(Tick, ada.id, {}) for _ in range(10_000))
    ticks.insert_many(new(Tick, bob.id, {"readers": [ada.id]}) for _ in range(5_000))
    here = Phone(make_app(documents=[*SHIPPED, Tick]).test_client(), ada.headers)
    started = time.monotonic()
    delete(here)
    assert time.monotonic() - started < 15
    assert ticks.count_documents({}) == ticks.count_documents({"owner": bob.id, "readers": [], "revision": 2}) == 5_000


def test_notebooks_go_with_the_notes_in_them(ada: Person) -> None:
    ada.make_note(notebook=ada.make_notebook()["id"])
    delete(ada)
    assert (Notebook._get_collection().count_documents(ALIVE), Note._get_collection().count_documents({})) == (0, 0)


def test_a_sweep_that_may_not_go_on_leaves_the_rest_for_the_next_one(ada: Person, bob: Person) -> None:
    for person in (ada, bob):
        mark(person)
    assert sweep(REGISTRY, timedelta(), iter([True, False]).__next__) == 1
    assert Account.objects.count() == 1
    assert sweep(REGISTRY, timedelta()) == 1
