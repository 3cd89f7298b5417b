"""Clients that generators make of the API document: they compile, and do with a real service what an app does."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_browser import http
from tests.test_browser import service as service  # a running service

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / "build/clients"
OURS = Path(__file__).parent / "clients"
Run = Callable[..., str]


def run_in(folder: Path) -> Run:
    """What runs a command in a folder, which has to succeed, and gives what it said."""

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def folder(service: str, tmp_path: Path) -> Path:
    """A folder with the API document as the service gives it and our part of the clients."""
    if not (TOOLS / "installed").exists():
        pytest.fail("there are no generators: `make clients` installs them")
    for ours in OURS.iterdir():
        shutil.copy(ours, tmp_path)
    (tmp_path / "openapi.json").write_bytes(http().get(f"{service}/openapi.json").content)
    return tmp_path


@pytest.mark.clients
def test_a_client_in_typescript_works(service: str, folder: Path) -> None:
    run, packages = run_in(folder), TOOLS / "node_modules"
    (folder / "node_modules").symlink_to(packages)
    run(packages / ".bin/openapi-typescript", "openapi.json", "-o", "api.d.ts")
    run(packages / ".bin/tsc", "-p", ".")
    assert run("node", "out/walk.js", service) == "done\n"


@pytest.mark.clients
def test_a_client_in_python_works(service: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, bin = run_in(folder), TOOLS / "python/bin"
    monkeypatch.setenv("PATH", str(bin), prepend=":")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    said = run(
        "openapi-python-client", "generate", "--path", "openapi.json", "--output-path", "madang_client", "--meta=none"
    )
    assert "Warning" not in said
    run("mypy", "--config-file", "mypy.ini", "walk.py")
    assert run("python", "walk.py", service) == "done\n"
