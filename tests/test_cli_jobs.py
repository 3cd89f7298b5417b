"""The `flask jobs` commands."""

from datetime import timedelta
from types import ModuleType

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import OutboxItem
from service.outbox import items
from service.outbox.items import NewItem
from service.outbox.jobs import JOB, Job, enqueue

GREET = Job("greet", lambda run, what=None: None)


def jobs(app: Flask, *words: str, code: int = 0) -> str:
    """What a command says."""
    result = app.test_cli_runner().invoke(args=["jobs", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree has one job."""
    module = ModuleType("module")
    module.greet = GREET  # type: ignore[attr-defined]
    monkeypatch.setattr("service.functions.modules", lambda: [module])


def failed(app: Flask) -> str:
    id = enqueue(GREET)
    items.give_up({"_id": id, "tries": 0}, "KeyError: 'a'")
    return id


def states() -> dict[str, str]:
    return {item["_id"]: item["state"] for item in OutboxItem._get_collection().find()}


def test_what_waits_is_at_work_or_failed_is_listed_and_no_argument(app: Flask) -> None:
    lost = failed(app)
    late = enqueue(GREET, {"what": "secret"}, key="k", at=now() + timedelta(hours=1))
    due = enqueue(GREET)
    items.add_item(NewItem("mail", {"to": "mina@example.org", "template": "no_account"}), "m", None)
    said = jobs(app, "list")
    assert f"{lost}  greet  failed, 0 tries  (KeyError: 'a')\n" in said
    assert f"{due}  greet  due, 0 tries\n" in said
    assert f"{late}  greet k  due in 3" in said
    assert "secret" not in said
    assert "mina" not in said
    item = items.take_due(JOB, 30.0)
    assert item is not None
    items.extend(item, 30.0, {"progress": {"part": 0.25, "note": "5 of 20"}})
    assert items.cancel({"_id": due}) == (0, 1)
    assert f"at work at {items.worker_name()}, cancelled, 1 tries, 25% 5 of 20\n" in jobs(app, "list")
    items.mark_sent(item)
    assert f"{due}  greet  done, 1 tries" in jobs(app, "list", "--state", "done")
    assert len(jobs(app, "list", "--limit", "1").splitlines()) == 1


def test_what_a_job_says_does_not_command_the_terminal(app: Flask) -> None:
    enqueue(GREET, key="\x1b[2Jk")
    item = items.take_due(JOB, 30.0)
    assert item is not None
    items.extend(item, 30.0, {"progress": {"part": 0.5, "note": "\x1b[31m"}})
    items.give_up(item, "KeyError: \x1b]0;mine")
    assert "\x1b" not in jobs(app, "list")


def test_a_job_is_put_in_by_its_name(app: Flask) -> None:
    id = jobs(app, "run", "greet", "--arguments", '{"what": "hello"}').strip()
    (item,) = OutboxItem._get_collection().find()
    assert (item["_id"], item["content"]["arguments"]) == (id, {"what": "hello"})
    assert jobs(app, "run", "greet", "--key", "k") == jobs(app, "run", "greet", "--key", "k")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["other"], "there is no job 'other'; there are: greet"),
        (["greet", "--arguments", "[1]"], "the arguments have to be a JSON object"),
        (["greet", "--arguments", "{"], "Expecting property name"),
        (["greet", "--arguments", '{"who": 1}'], "greet: got an unexpected keyword argument 'who'"),
    ],
)
def test_what_could_not_be_done_is_not_put_in(app: Flask, words: list[str], said: str) -> None:
    assert said in jobs(app, "run", *words, code=2)
    assert states() == {}


def test_what_failed_is_repeated_and_mails_are_left_alone(app: Flask) -> None:
    id = failed(app)
    items.add_item(NewItem("mail", {"to": "mina@example.org", "template": "no_account"}), "m", None)
    items.give_up({"_id": "m", "tries": 0}, "550 no such mailbox")
    assert jobs(app, "repeat", "--failed") == "1 are tried again\n"
    assert states() == {id: "waiting", "m": "failed"}
    assert jobs(app, "drop", "--yes", "m") == "0 dropped\n"


def test_what_waits_is_cancelled_and_kept_as_failed(app: Flask) -> None:
    waiting, at_work = enqueue(GREET, at=now() + timedelta(hours=1)), enqueue(GREET)
    assert items.take_due(JOB, 30.0) is not None
    assert jobs(app, "cancel", waiting, at_work) == "1 cancelled, 1 at work are told to end\n"
    assert states() == {waiting: "failed", at_work: "waiting"}


def test_what_is_dropped_is_gone(app: Flask) -> None:
    kept, gone = enqueue(GREET), enqueue(GREET)
    assert jobs(app, "drop", gone, "--yes") == "1 dropped\n"
    assert list(states()) == [kept]


@pytest.mark.parametrize("words", [["repeat"], ["drop", "--yes"], ["cancel"], ["repeat", "a", "--failed"]])
def test_it_has_to_be_said_which_are_meant(app: Flask, words: list[str]) -> None:
    assert "name the items, or say --failed" in jobs(app, *words, code=2)
