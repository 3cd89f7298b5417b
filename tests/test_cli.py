"""The `flask accounts` and `flask indexes` commands."""

from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from service.documents import Account, Event, Note, Session
from service.mongo import connection
from service.upkeep import indexes
from tests.client import PASSWORD, Person, Phone
from tests.types import REGISTRY

ME = "/v1/accounts/me"


def run(app: Flask, *words: str, **options: Any) -> Result:
    return app.test_cli_runner().invoke(args=list(words), **options)


def accounts(app: Flask, *words: str, **options: Any) -> str:
    """What a command that succeeds says."""
    result = run(app, "accounts", *words, **options)
    assert result.exit_code == 0, result.output
    return result.output


def refused(app: Flask, *words: str) -> str:
    """What a command that fails says."""
    result = run(app, "accounts", *words)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    return result.output


def log_in(app: Flask, password: str = PASSWORD, username: str = "ada") -> int:
    return Phone(app.test_client()).post("/auth", {"username": username, "password": password}).status_code


# Create and list


def test_a_created_account_can_log_in_and_has_its_roles(app: Flask) -> None:
    said = accounts(app, "create", "ada", "--password", PASSWORD, "--role", "team", "--role", "admin")
    account = Account.objects.get()
    assert (said.strip(), account.roles) == (account.id, ["team", "admin"])
    assert log_in(app) == 200
    assert [event.kind for event in Event.objects] == ["sign_up", "login"]


def test_an_admin_is_made_by_a_flag(app: Flask) -> None:
    accounts(app, "create", "ada", "--password", PASSWORD, "--role", "team", "--admin")
    assert Account.objects.get().roles == ["team", "admin"]


def test_a_name_that_is_not_said_is_asked_for_before_the_password(app: Flask) -> None:
    said = accounts(app, "create", "--admin", input=f"ada\n{PASSWORD}\n{PASSWORD}\n")
    assert said.index("Username") < said.index("Password")
    assert (log_in(app), Account.objects.get().roles) == (200, ["admin"])


def test_the_password_is_asked_for_twice_and_not_shown(app: Flask) -> None:
    said = accounts(app, "create", "ada", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert PASSWORD not in said
    assert log_in(app) == 200


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("a b", "--password", PASSWORD), "/username"),
        (("ada", "--password", "password"), "/password"),
        (("ada", "--password", "ada is my name"), "/password"),
        (("ada", "--password", PASSWORD, "--role", "a b"), "text that matches"),
    ],
)
def test_what_a_sign_up_refuses_is_refused_here_too(app: Flask, words: tuple[str, ...], reason: str) -> None:
    assert reason in refused(app, "create", *words)
    assert not Account.objects


def test_a_name_that_is_taken_is_refused(app: Flask, ada: Person) -> None:
    assert "taken" in refused(app, "create", "ADA", "--password", PASSWORD)
    assert Account.objects.count() == 1


def test_the_list_shows_name_state_and_roles(app: Flask, ada: Person, bob: Person) -> None:
    accounts(app, "roles", "bob", "team")
    accounts(app, "lock", "bob")
    lines = [line.split() for line in accounts(app, "list").splitlines()]
    assert lines == [[ada.id, "ada", "active"], [bob.id, "bob", "locked", "team"]]


def test_the_list_shows_no_hash(app: Flask, ada: Person) -> None:
    assert "argon2" not in accounts(app, "list")


# Roles


def test_a_role_opens_what_was_given_to_it(app: Flask, ada: Person, bob: Person) -> None:
    note = ada.make_note(readers=["role:team"])
    assert bob.get(f"/v1/notes/{note['id']}").status_code == 404
    accounts(app, "roles", "bob", "team")
    bob.log_in()
    assert bob.get(f"/v1/notes/{note['id']}").status_code == 200
    assert bob.get(ME).json["roles"] == ["team"]


def test_the_roles_that_are_given_are_all_that_there_are(app: Flask, ada: Person) -> None:
    for roles in (["team", "admin"], ["team"], []):
        accounts(app, "roles", "ada", *roles)
        assert Account.objects.get().roles == roles


def test_a_role_that_cannot_be_one_changes_nothing(app: Flask, ada: Person) -> None:
    accounts(app, "roles", "ada", "team")
    refused(app, "roles", "ada", "team", "a b")
    assert Account.objects.get().roles == ["team"]


# Lock, unlock, revoke, delete


def test_a_locked_account_is_out_until_it_is_unlocked(app: Flask, ada: Person) -> None:
    accounts(app, "lock", "ADA")
    assert (ada.get(ME).status_code, log_in(app), Session.objects.count()) == (401, 403, 0)
    assert ada.post("/auth/refresh", {"refresh_token": ada.tokens["refresh_token"]}).status_code == 401
    accounts(app, "unlock", "ada")
    assert log_in(app) == 200


def test_revoke_ends_all_sessions_and_no_more(app: Flask, ada: Person, bob: Person) -> None:
    ada.log_in()
    assert accounts(app, "revoke", "ada") == "2 sessions ended\n"
    assert (ada.get(ME).status_code, bob.get(ME).status_code, log_in(app)) == (401, 200, 200)


def test_delete_asks_first(app: Flask, ada: Person) -> None:
    assert run(app, "accounts", "delete", "ada", input="n\n").exit_code == 1
    assert Account.objects.get().username == "ada"


def test_delete_takes_all_that_the_account_owns(app: Flask, ada: Person, bob: Person) -> None:
    ada.make_note()
    kept = bob.make_note(readers=[ada.id])
    accounts(app, "delete", "ada", "--yes")
    assert [(row["_id"], row["readers"]) for row in Note._get_collection().find()] == [(kept["id"], [])]
    assert (log_in(app), ada.get(ME).status_code) == (401, 401)
    assert [session.account for session in Session.objects] == [bob.id]


@pytest.mark.parametrize("words", [("roles",), ("lock",), ("unlock",), ("revoke",), ("delete", "--yes")])
def test_a_name_that_is_not_there_is_told(app: Flask, words: tuple[str, ...]) -> None:
    assert "there is no account 'nobody'" in refused(app, words[0], "nobody", *words[1:])


# Indexes


@pytest.mark.real
def test_indexes_are_shown_and_made(app: Flask) -> None:
    Session._get_collection().drop_index("account_1")
    assert run(app, "indexes", "show").output == "missing      sessions.account_1\n"
    assert run(app, "indexes", "make").output.endswith("1 made\n")
    assert run(app, "indexes", "show").output == "the indexes are as declared\n"


@pytest.mark.real
def test_unused_indexes_are_dropped_after_a_yes(app: Flask) -> None:
    Session._get_collection().create_index("device")
    assert run(app, "indexes", "drop", input="n\n").output.startswith("unused       sessions.device_1\n")
    assert [str(change) for change in indexes.changes(REGISTRY)] == ["unused       sessions.device_1"]
    assert run(app, "indexes", "drop", "--yes").output.endswith("1 dropped\n")
    assert not indexes.changes(REGISTRY)


@pytest.mark.parametrize("words", [("backup", "file"), ("restore", "file"), ("migrate", "run")])
def test_what_needs_a_real_mongodb_says_so_where_nothing_is_kept(make_app: Any, words: tuple[str, ...]) -> None:
    app = make_app()
    app.config["MONGODB_URI"] = connection.MEMORY
    result = run(app, *words)
    assert result.exit_code == 1
    assert result.output == "Error: this needs a real MongoDB; with --memory nothing is kept\n"
