"""docs/webhooks.md does what it says: its receivers run word for word, its commands say what it shows."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask

from service.serve.ports import free_port
from service.webhooks.messages import MOST_MESSAGE_BYTES
from tests.client import Person
from tests.receiving import CallingWorker, service
from tests.recording import Recording
from tests.test_generated_clients import TOOLS
from tests.test_readme import blocks
from tests.types import REGISTRY
from tests.waiting import until

__all__ = ["service"]

pytestmark = pytest.mark.real
PAGE = Path(__file__).parent.parent / "docs" / "webhooks.md"
PORT = "8700"


@pytest.fixture
def port() -> int:
    """One that is free, in place of that of the page."""
    return free_port()


@contextmanager
def receiving(folder: Path, name: str, program: str, port: int, secret: str) -> Iterator[Path]:
    """A receiver of the page at work, and the file of what it says."""
    (script,) = (block.text for block in blocks(PAGE) if block.info.endswith(name))
    (folder / name).write_text(script.replace(PORT, str(port)))
    said = folder / "said"
    with said.open("w") as file:
        environ = {**os.environ, "SECRET": secret}
        process = subprocess.Popen([program, folder / name], stdout=file, stderr=file, env=environ)
        try:
            until(lambda: is_open(port))
            yield said
        finally:
            process.terminate()
            process.wait(10)


def is_open(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def walk(service: Flask, recording: Recording, folder: Path, name: str, program: str, port: int) -> None:
    """Do what the page says, with one of its receivers."""
    commands = "".join(block.text for block in blocks(PAGE) if block.info == "console").replace(PORT, str(port))
    typed = re.findall(r"^\$ flask (.+)\n((?:[^$].*\n)*)", commands, re.MULTILINE)
    assert [command.split()[1] for command, _ in typed] == ["create", "ping", "deliveries"]
    known: dict[str, str] = {}
    worker = CallingWorker(service, REGISTRY, recording)
    ada = Person.sign_up(service.test_client(), "ada")

    def run(command: str, shown: str) -> None:
        for word, value in known.items():
            command, shown = (text.replace(f"{{{word}}}", value) for text in (command, shown))
        result = service.test_cli_runner().invoke(args=command.split())
        wanted = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\S+)", re.escape(shown))
        found = re.fullmatch(wanted, result.output)
        assert found is not None, (command, shown, result.output)
        known.update(found.groupdict())

    run(*typed[0])
    worker.feed()
    with receiving(folder, name, program, port, known["secret"]) as said:
        run(*typed[1])
        worker.call()
        ada.make_note(id="milk")
        worker.work()
        run(*typed[2])
        lines = [line.split() for line in said.read_text().splitlines() if line.startswith("msg_")]
        assert [(kind, id) for _, kind, id in lines][-1] == ("notes.changed", "milk")
        assert lines[0][:2] == [f"msg_{known['ping']}", "webhook.ping"]


def test_the_walk_with_a_receiver_in_python(service: Flask, recording: Recording, tmp_path: Path, port: int) -> None:
    walk(service, recording, tmp_path, "receiver.py", sys.executable, port)


@pytest.mark.clients
def test_the_walk_with_a_receiver_in_node(service: Flask, recording: Recording, tmp_path: Path, port: int) -> None:
    if not (TOOLS / "installed").exists():
        pytest.fail("there is no standardwebhooks for Node: `make clients` installs it")
    (tmp_path / "node_modules").symlink_to(TOOLS / "node_modules")
    walk(service, recording, tmp_path, "receiver.mjs", shutil.which("node") or "node", port)


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"at most {MOST_MESSAGE_BYTES:,} bytes" in PAGE.read_text()
