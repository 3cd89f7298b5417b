"""Stored documents come to the form of this version once, whatever clients and other runners do meanwhile."""

from collections.abc import Callable
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from service.documents import Account, Note, Record
from service.documents.versioned import STAMPS
from service.model import patch
from service.mongo.raw import Raw
from service.records import store
from service.upkeep import migrations, upgrade
from service.upkeep.migrations import Migration
from service.upkeep.upgrade import UpgradeError
from service.upkeep.walk import insist, note_done, walk_start
from tests.client import PASSWORD, Person
from tests.conftest import ROOT
from tests.test_cli import run
from tests.trees import flask
from tests.types import REGISTRY, create, schema_of, type_of

STEPS = list(migrations.MIGRATIONS)
LOUD = Migration(Note, 2, "titles are loud", [{"$set": {"title": {"$toUpper": "$title"}}}])


def stored(id: str) -> Raw:
    found = Note._get_collection().find_one({"_id": id})
    assert found is not None
    return found


def migrate(app: Flask) -> str:
    """What the command says when it ends well."""
    result = run(app, "migrate", "run", "--rest", "0")
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes notes a document of further versions."""

    def declare(*steps: Migration) -> None:
        monkeypatch.setitem(Note._meta, "version", steps[-1].to_version)
        monkeypatch.setattr(migrations, "MIGRATIONS", [*STEPS, *steps])

    return declare


# The version, in what is stored and in no answer


def test_what_is_stored_anew_has_the_version_of_its_form(ada: Person) -> None:
    ada.make_note(id="x")
    ada.put("/v1/notes/y", {"title": "y"})
    assert [stored(name)["schema_version"] for name in ("x", "y")] == [1, 1]
    assert Account._get_collection().find_one()["schema_version"] == Account.version()


def test_a_change_says_which_version_wrote_and_leaves_the_version_of_the_form(ada: Person) -> None:
    ada.make_note(id="x")
    Note._get_collection().update_one({"_id": "x"}, {"$set": {"schema_version": 7}})
    for method, body in (("PATCH", {"title": "b"}), ("PUT", {"title": "c"})):
        ada.send(method, "/v1/notes/x", body)
        assert (stored("x")["schema_version"], stored("x")["oldest_writer"]) == (7, 1)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/v1/accounts/me", {"display_name": "Ada"}),
        ("PUT", "/v1/accounts/me/password", {"current_password": PASSWORD, "new_password": "seven paper lamps"}),
    ],
)
def test_a_change_of_an_account_says_which_version_wrote(ada: Person, method: str, path: str, body: Raw) -> None:
    assert ada.send(method, path, body).status_code < 300
    assert Account._get_collection().find_one()["oldest_writer"] == Account.version()


@pytest.mark.parametrize("name", sorted(STAMPS))
def test_no_client_sees_or_names_the_version(ada: Person, client: FlaskClient, name: str) -> None:
    ada.make_note(id="x")
    ada.patch("/v1/notes/x", {"title": "b"})
    for path in ("/v1/notes/x", "/v1/notes", "/v1/accounts/me", "/v1/accounts/me/export"):
        assert name not in ada.get(path).text
    # WatermelonDB has a query parameter of that name.
    assert name not in str(ada.get("/openapi.json").json["components"])
    assert ada.find(where={name: 1}).status_code == 400
    assert ada.find(sort=name).status_code == 400
    assert ada.find(fields=name).status_code == 400
    for method, path in (("POST", "/v1/notes"), ("PATCH", "/v1/notes/x"), ("PUT", "/v1/notes/x")):
        assert ada.send(method, path, {"title": "a", name: 9}).status_code == 422
    assert ada.patch("/v1/notes/x", {"$inc": {name: 1}}).status_code == 422
    assert ada.patch("/v1/accounts/me", {name: 9}).status_code == 422


class Line(me.EmbeddedDocument):
    text = me.StringField()


class Ruled(Record):
    title = me.StringField()
    lines = me.EmbeddedDocumentListField(Line)

    meta = {"collection": "ruled"}

    def clean(self) -> None:
        """A rule makes a patch read the stored record as an object."""


@pytest.mark.parametrize("newer", [{"mood": "calm"}, {"lines": [{"text": "a", "mood": "calm"}]}])
def test_a_patch_that_is_computed_keeps_what_a_newer_version_has_stored(app: Flask, newer: Raw) -> None:
    Ruled._get_collection().delete_many({})
    made = create(Ruled, "ada", schema_of(Ruled).load({"id": "x", "title": "a"}))
    Ruled._get_collection().update_one({"_id": "x"}, {"$set": newer})
    current = {**made, **newer}
    content = patch.parse(schema_of(Ruled), {"title": "b"}).apply(current)
    record = store.rewrite(type_of(Ruled), {"_id": "x"}, content, current)
    assert record is not None
    for found in (record, Ruled._get_collection().find_one({"_id": "x"})):
        assert {**newer, "title": "b"}.items() <= found.items()


def test_mongoengine_reads_what_a_newer_version_has_stored(ada: Person) -> None:
    ada.make_note(id="x", title="a")
    Note._get_collection().update_one({"_id": "x"}, {"$set": {"mood": "calm"}})
    assert Note.objects.get().title == "a"


# The table


@pytest.mark.parametrize(
    ("version", "steps"), [(1, [2]), (2, []), (3, [3, 2]), (3, [3]), (2, [2, 2])], ids=lambda value: str(value)
)
def test_a_table_that_does_not_lead_to_the_declared_version_refuses_to_start(
    monkeypatch: pytest.MonkeyPatch, make_app: Any, version: int, steps: list[int]
) -> None:
    monkeypatch.setitem(Note._meta, "version", version)
    declared = [*STEPS, *(Migration(Note, step, "a step") for step in steps)]
    monkeypatch.setattr(migrations, "MIGRATIONS", declared)
    with pytest.raises(ValueError, match="Note has"):
        make_app()


def test_a_record_type_that_was_just_added_needs_no_migration_of_its_own() -> None:
    class Added(Record):
        meta = {"collection": "added"}

    assert [step.to_version for step in migrations.steps(Added)] == [1]


# What a migration does to a document


@pytest.mark.real
def test_a_document_without_a_version_gets_one_and_nothing_else(app: Flask, ada: Person) -> None:
    ada.make_note(id="x")
    Note._get_collection().update_one({"_id": "x"}, {"$unset": dict.fromkeys(STAMPS, "")})
    before = stored("x")
    assert "notes: 1 looked at, 1 changed" in migrate(app)
    assert stored("x") == {**before, "schema_version": 1}


@pytest.mark.real
def test_a_change_that_no_client_sees_leaves_revision_and_time(app: Flask, ada: Person, second: Any) -> None:
    before = ada.make_note(id="x", title="a")
    second(LOUD)
    migrate(app)
    assert (stored("x")["title"], stored("x")["schema_version"]) == ("A", 2)
    assert ada.get("/v1/notes/x").json == {**before, "title": "A"}


@pytest.mark.real
def test_a_change_that_clients_see_is_a_new_revision_of_what_changed(app: Flask, ada: Person, second: Any) -> None:
    ada.make_note(id="x", title="a")
    before = ada.make_note(id="y", title="A")
    last = stored("y")["updated_at"]
    second(Migration(Note, 2, "titles are loud", LOUD.stages, seen=True))
    migrate(app)
    changed = ada.get("/v1/notes/x", headers={"If-None-Match": '"1"'})
    assert (changed.status_code, changed.json["title"], changed.headers["ETag"]) == (200, "A", '"2"')
    assert stored("x")["updated_at"] > last
    assert stored("x").keys() == stored("y").keys()
    assert ada.get("/v1/notes/y").json == before
    assert ada.patch("/v1/notes/x", {"title": "b"}, headers={"If-Match": '"1"'}).status_code == 412


@pytest.mark.real
def test_the_account_that_a_migration_changes_has_a_new_time(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada.patch("/v1/accounts/me", {"display_name": "ada"})
    before = Account._get_collection().find_one()
    step = Migration(Account, 3, "loud", [{"$set": {"display_name": {"$toUpper": "$display_name"}}}], seen=True)
    monkeypatch.setitem(Account._meta, "version", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", [*STEPS, step])
    migrate(app)
    after = Account._get_collection().find_one()
    assert after["updated_at"] > before["updated_at"]
    before.pop("oldest_writer")
    assert after == {**before, "display_name": "ADA", "schema_version": 3, "updated_at": after["updated_at"]}


@pytest.mark.real
def test_a_document_goes_through_all_steps_that_it_lacks_in_their_order(app: Flask, ada: Person, second: Any) -> None:
    for number in (0, 1, 2, 3, 4):
        ada.make_note(id=f"v{number}", title="a")
        Note._get_collection().update_one({"_id": f"v{number}"}, {"$set": {"schema_version": number}})
    Note._get_collection().update_one({"_id": "v0"}, {"$unset": {"schema_version": ""}})
    second(
        *(
            Migration(Note, number, "a step", [{"$set": {"title": {"$concat": ["$title", str(number)]}}}])
            for number in (2, 3)
        )
    )
    migrate(app)
    assert {row["_id"]: (row["title"], row["schema_version"]) for row in Note._get_collection().find()} == {
        "v0": ("a23", 3),
        "v1": ("a23", 3),
        "v2": ("a3", 3),
        "v3": ("a", 3),
        "v4": ("a", 4),
    }


@pytest.mark.real
def test_what_was_deleted_is_left_alone(app: Flask, ada: Person, bob: Person, second: Any) -> None:
    ada.make_note(id="x")
    ada.delete("/v1/notes/x")
    tombstone = stored("x")
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"deleted_at": tombstone["purge_at"]}})
    Account._get_collection().update_many({}, {"$unset": dict.fromkeys(STAMPS, "")})
    second(LOUD)
    migrate(app)
    assert stored("x") == tombstone
    assert [account.get("schema_version") for account in Account._get_collection().find(sort=[("_id", 1)])] == [2, None]


@pytest.mark.real
def test_a_step_that_mongodb_refuses_is_told_with_its_place(app: Flask, ada: Person, second: Any) -> None:
    ada.make_note(id="x", title="no number")
    second(Migration(Note, 2, "a number", [{"$set": {"priority": {"$toInt": "$title"}}}]))
    result = run(app, "migrate", "run")
    assert result.exit_code == 1
    last = result.output.splitlines()[-1]
    assert last.startswith("Error: notes to version 2, between the ids x and x: ")
    assert stored("x")["schema_version"] == 1
    second(LOUD)
    migrate(app)
    assert stored("x")["title"] == "NO NUMBER"


# What is known of it


@pytest.mark.real
def test_the_list_says_what_is_open_begun_and_done(
    app: Flask, ada: Person, second: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "BATCH", 2)
    for number in range(5):
        ada.make_note(id=f"n{number}")
    second(LOUD)

    def state() -> str:
        listed = run(app, "migrate", "list").output.splitlines()
        return next(line for line in listed if "titles are loud" in line).split("loud")[1].strip()

    assert state() == "open"
    with app.app_context():
        next(upgrade.upgrade(REGISTRY, Note))
    assert state() == "open, begun: 2 looked at"
    assert "notes: 5 looked at, 5 changed" in migrate(app)
    assert state() == "done"


@pytest.mark.real
def test_a_walk_that_is_begun_anew_is_not_moved_by_one_that_still_goes_on(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "BATCH", 1)
    for number in range(3):
        ada.make_note(id=f"n{number}")
    with app.app_context():
        slow = upgrade.upgrade(REGISTRY, Note, 0)
        next(slow)
        list(upgrade.upgrade(REGISTRY, Note, 0))  # joins it and comes to the end
        next(upgrade.upgrade(REGISTRY, Note, 0))  # begins anew
        list(slow)
        walk = upgrade.run_of(Note)
    assert walk is not None
    assert (walk["position"], "finished_at" in walk) == ("n0", False)


def test_on_an_empty_database_nothing_is_open(app: Flask, ada: Person) -> None:
    with app.app_context():
        upgrade.mark_empty(REGISTRY)
        assert {step.document for step in upgrade.open_migrations(REGISTRY)} == {Account}


@pytest.mark.parametrize("words", [("migrate", "run"), ("backup", "file"), ("restore", "file")], ids=lambda it: it[0])
def test_memory_is_refused_with_a_sentence(words: tuple[str, ...]) -> None:
    said = flask(ROOT, "memory://", *words, code=1)
    assert said == "Error: this needs a real MongoDB; with --memory nothing is kept\n"


def test_what_mongodb_does_not_answer_is_tried_again_for_a_while() -> None:
    def failing(*errors: PyMongoError) -> Callable[[], str]:
        left = iter(errors)

        def work() -> str:
            for error in left:
                raise error
            return "done"

        return work

    assert insist(failing(AutoReconnect("gone"), AutoReconnect("gone")), 5) == "done"
    with pytest.raises(AutoReconnect):
        insist(failing(AutoReconnect("gone")), -1)
    with pytest.raises(OperationFailure):
        insist(failing(OperationFailure("wrong", 2)), 5)


@pytest.mark.real
def test_what_a_newer_service_has_brought_further_is_told_and_left_alone(app: Flask, ada: Person) -> None:
    ada.make_note()
    note_done("notes", walk_start(Note.version() + 1))
    told = "a newer service has migrated notes; this one leaves alone what it does not know"
    assert told in upgrade.advice(REGISTRY)
    with pytest.raises(UpgradeError, match="notes were brought to version 2 by a newer service"):
        list(upgrade.upgrade(REGISTRY, Note))


# The steps that ship


@pytest.mark.real
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"email": "Ada@Example.com", "email_verified": True}, ("Ada@Example.com", True, "ada@example.com")),
        ({"email": "ada@example.com", "email_verified": False}, ("ada@example.com", False, None)),
        ({}, (None, False, None)),
        ({"email": "ada@bücher.example", "email_verified": True}, ("ada@bücher.example", False, None)),
        (
            {"email": "ada@bücher.example", "email_verified": True, "email_key": "ada@xn--bcher-kva.example"},
            ("ada@bücher.example", True, "ada@xn--bcher-kva.example"),
        ),
        (
            {"email": "new@example.com", "email_verified": False, "email_key": "old@example.com"},
            ("new@example.com", False, None),
        ),
    ],
)
def test_a_verified_address_gets_its_key(app: Flask, ada: Person, before: Raw, after: tuple[Any, ...]) -> None:
    accounts = Account._get_collection()
    accounts.update_one({}, {"$set": {**before, "schema_version": 1}})
    for _ in range(2):
        migrate(app)
        found = accounts.find_one()
        assert (found.get("email"), found["email_verified"], found.get("email_key")) == after
        assert found["schema_version"] == 2
        accounts.update_one({}, {"$set": {"oldest_writer": 1}})


@pytest.mark.real
def test_two_accounts_with_one_verified_address_are_named(app: Flask, ada: Person, bob: Person) -> None:
    same = {"email": "same@example.com", "email_verified": True, "schema_version": 1}
    Account._get_collection().update_many({}, {"$set": same})
    result = run(app, "migrate", "run", "--rest", "0")
    assert result.exit_code == 1
    assert "accounts to version 2" in result.output
    assert "same@example.com" in result.output
