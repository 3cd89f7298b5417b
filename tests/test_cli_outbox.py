"""The `flask outbox` commands."""

from datetime import timedelta

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import OutboxItem
from service.outbox import items
from service.outbox.items import NewItem
from service.outbox.letters import Letter
from tests.mailbox import Mailbox

CODE = {"code": "K7QM-2XWD", "minutes": 15}


def outbox(app: Flask, *words: str, code: int = 0) -> str:
    """What a command says."""
    result = app.test_cli_runner().invoke(args=["outbox", *words])
    assert result.exit_code == code, result.output
    return result.output


def states() -> dict[str, str]:
    return {item["_id"]: item["state"] for item in OutboxItem._get_collection().find()}


@pytest.fixture
def three(app: Flask) -> dict[str, str]:
    """One that waits, one that failed, and one that failed and is of no more use; their states."""
    for id, until in (("w", None), ("f", None), ("x", now() + timedelta(minutes=15))):
        items.add_item(
            NewItem("mail", {"to": f"{id}@example.org", "template": "no_account"}, until=until), id, b"secret"
        )
    for id in ("f", "x"):
        items.give_up({"_id": id, "tries": 0, **({"until": now()} if id == "x" else {})}, "550 no such mailbox")
    return states()


def test_what_waits_and_what_failed_is_listed_with_the_reason(app: Flask, three: dict[str, str]) -> None:
    said = outbox(app, "list")
    assert len(said.splitlines()) == len(three)
    assert "w  mail waiting 0 min, 0 tries  w@example.org no_account\n" in said
    assert "f  mail failed  0 min, 0 tries  f@example.org no_account  (550 no such mailbox)\n" in said
    assert outbox(app, "list", "--state", "waiting").split()[0] == "w"
    assert outbox(app, "list", "--kind", "push") == ""
    assert len(outbox(app, "list", "--limit", "1").splitlines()) == 1


def test_no_code_and_no_link_is_ever_listed(app: Flask) -> None:
    app.extensions["madang.security"].letters.post(Letter("mina@example.org", "sign_in_code", values=CODE))
    said = outbox(app, "list")
    assert "mina@example.org" in said
    assert CODE["code"] not in said


def test_what_is_sent_is_listed_where_it_is_asked_for(app: Flask) -> None:
    app.extensions["madang.security"].letters.post(Letter("mina@example.org", "no_account"))
    Mailbox(app).collect()
    assert outbox(app, "list") == ""
    assert " sent " in outbox(app, "list", "--state", "sent")


def test_what_failed_is_tried_once_more_but_not_what_is_of_no_more_use(app: Flask, three: dict[str, str]) -> None:
    assert outbox(app, "repeat", "--failed") == "1 are tried again\n"
    assert states() == {**three, "f": "waiting"}
    assert items.due_kinds() == ["mail"]
    assert "expires_at" not in OutboxItem._get_collection().find_one({"_id": "f"})


def test_what_waits_is_not_repeated_for_it_may_be_under_way(app: Flask, three: dict[str, str]) -> None:
    assert outbox(app, "repeat", "w") == "0 are tried again\n"
    assert outbox(app, "repeat", "f", "w") == "1 are tried again\n"


def test_what_is_dropped_is_gone(app: Flask, three: dict[str, str]) -> None:
    assert outbox(app, "drop", "w", "--yes") == "1 dropped\n"
    assert states() == {"f": "failed", "x": "failed"}
    assert outbox(app, "drop", "--failed", "--yes") == "2 dropped\n"
    assert states() == {}


def test_nothing_is_dropped_without_a_yes(app: Flask, three: dict[str, str]) -> None:
    result = app.test_cli_runner().invoke(args=["outbox", "drop", "w"], input="n\n")
    assert result.exit_code == 0
    assert states() == three


@pytest.mark.parametrize("words", [["repeat"], ["drop", "--yes"], ["repeat", "w", "--failed"]])
def test_it_has_to_be_said_what_is_meant(app: Flask, three: dict[str, str], words: list[str]) -> None:
    assert "name the items, or say --failed" in outbox(app, *words, code=2)
    assert states() == three


def test_a_job_is_listed_without_its_arguments_and_commands_no_terminal(app: Flask) -> None:
    content = {"name": "greet", "arguments": {"whom": "secret"}, "key": "a\x1b[2Jb"}
    items.add_item(NewItem("job", content), "j", None)
    listed = outbox(app, "list")
    assert "greet" in listed
    assert "secret" not in listed
    assert "\x1b" not in listed
