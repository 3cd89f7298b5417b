"""docs/jobs.md does what it says: its modules go word for word into `service/functions`, its commands are typed."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from mongoengine.connection import get_db

from service import functions
from service.documents import OutboxItem
from service.outbox.dispatch import Dispatcher
from service.outbox.jobs import jobs_in
from service.outbox.performing import JobSender
from service.outbox.schedule import Schedule
from service.worker.lease import Alone
from tests.client import Person
from tests.dispatching import Deaf
from tests.test_readme import blocks

PAGE = Path(__file__).parent.parent / "docs" / "jobs.md"


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of the page are in the tree."""
    written = [block for block in blocks(PAGE) if block.info.startswith("python service/functions/")]
    for block in written:
        (tmp_path / Path(block.info.split()[1]).name).write_text(block.text)
    monkeypatch.setattr(functions, "__path__", [str(tmp_path)])
    yield
    for block in written:
        sys.modules.pop(f"service.functions.{Path(block.info.split()[1]).stem}", None)


def work() -> None:
    """Do what a worker does, once."""
    jobs = jobs_in(functions.modules())
    Schedule(jobs).keep()
    Dispatcher(JobSender(jobs), Deaf()).step(Alone())


def test_the_commands_of_the_page_say_what_it_shows(app: Flask, modules: None) -> None:
    (script,) = (block.text for block in blocks(PAGE) if block.info == "console")
    typed = re.findall(r"^\$ flask (.+)\n((?:[^$].*\n)*)", script, re.MULTILINE)
    assert len(typed) == 3
    for command, shown in typed:
        said = app.test_cli_runner().invoke(args=command.split())
        assert re.fullmatch(re.escape(shown).replace("…", ".+"), said.output), (command, said.output)
        work()
    assert get_db()["weekly_notes"].count_documents({}) == 1


def test_the_words_of_a_note_are_counted_once_for_all_its_changes(app: Flask, modules: None, ada: Person) -> None:
    note = ada.make_note(body="two words")["id"]
    words = importlib.import_module("service.functions.words")
    assert words.note_has_changed(note) == words.note_has_changed(note)
    assert OutboxItem._get_collection().count_documents({"content.name": "count-words"}) == 1
    work()
    assert get_db()["words"].find_one() == {"_id": note, "words": 2}
    words.note_has_changed("gone")
    work()
    assert OutboxItem._get_collection().find_one({"reason": "the note has gone"}) is not None


def test_the_table_of_metrics_has_every_outcome_of_a_job() -> None:
    row = next(line for line in PAGE.read_text().splitlines() if "madang_jobs_total" in line)
    outcomes = set(re.findall(r"`(\w+)`", row)) - {"madang_jobs_total"}
    assert outcomes == {"done", "postponed", "refused", "givenback", "lost", "killed"}
