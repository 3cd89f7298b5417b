"""What docs/hooks.md says of after_change: its module goes word for word into the tree, its commands are typed."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from mongoengine.connection import get_db

from service.changes import after_changes, follower, set_aside
from service.documents import Record
from service.model.registry import Registry
from service.upkeep import indexes
from tests.client import Person
from tests.telling import Telling
from tests.test_readme import Block, Shell, blocks

pytestmark = pytest.mark.real

PAGE = Path(__file__).parent.parent / "docs" / "hooks.md"
MODULE = "service/documents/booking.py"
"""The module of the page."""


def steps() -> list[Block]:
    """What the page has people type after a change."""
    found = [*blocks(PAGE)]
    begin = [block.info for block in found].index(f"python {MODULE}")
    return found[begin:]


@pytest.fixture
def booking(tmp_path: Path) -> Iterator[type[Record]]:
    path = tmp_path / "booking.py"
    path.write_text(steps()[0].text)
    spec = importlib.util.spec_from_file_location("booking", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["booking"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.Booking
    del sys.modules["booking"]
    for name in ("bookings", "calendar", "set_aside"):
        get_db()[name].drop()


@pytest.fixture
def service(make_app: Callable[..., Flask], booking: type[Record]) -> Flask:
    made = make_app(documents=[booking])
    with made.app_context():
        indexes.make(Registry([booking]))
    return made


def calendar() -> dict[str, Any]:
    """What the calendar at the door shows."""
    return {row["_id"]: (row["day"], row["floor"]) for row in get_db()["calendar"].find()}


def test_the_page_says_what_happens(
    service: Flask,
    booking: type[Record],
    ada: Person,
    test_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower, "FOLLOWS_EVERY", 0.0)
    monkeypatch.setattr(set_aside, "FIRST_HOOK_DELAY", 60.0)
    telling = Telling(Registry([booking]), test_settings, booking)
    telling.catch_up()
    shell = Shell(service.test_client())
    authorization = ada.headers["Authorization"]
    shell.variables.update(BASE="", JSON="Content-Type: application/json", AUTH=f"Authorization: {authorization}")
    shown = []
    for block in steps():
        if block.info == "sh":
            shell.run(block)
            telling.catch_up()
            shown.append(calendar())
        elif block.info == "console":
            ((command, said),) = re.findall(r"^\$ flask (.+)\n((?:[^$].*\n)*)", block.text, re.MULTILINE)
            result = service.test_cli_runner().invoke(args=command.split())
            assert re.fullmatch(re.escape(said).replace("…", ".+"), result.output), result.output
    telling.recording.close()
    assert shown == [{"tea": ("2026-12-24", 0)}, {"party": ("2026-12-31", 3)}]


def test_the_page_names_the_times_that_the_code_keeps() -> None:
    text = " ".join(PAGE.read_text().split())
    assert f"{set_aside.HOOK_TRIES} times in all" in text
    assert f"longer than {after_changes.HOOK_SECONDS:g} s is interrupted" in text
    assert f"does not end {after_changes.HOOK_ENDS_WITHIN:g} s later" in text
    assert f"within {after_changes.TRIED_EVERY:g} s" in text
