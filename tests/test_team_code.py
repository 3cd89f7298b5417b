"""docs/hooks.md and docs/functions.md do what they say: their code goes word for word into a copy of the service."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import named_tests, written_tests
from tests.test_extending import Service, apply
from tests.test_readme import Shell, blocks
from tests.types import as_it_ships

pytestmark = as_it_ships

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / name for name in ("hooks.md", "functions.md")]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the service with all that the pages add."""
    tree = tmp_path_factory.mktemp("team")
    for name in ("service", "settings"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("run.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    for block in (block for page in PAGES for block in blocks(page)):
        if block.info.startswith(("python ", "diff ")):
            apply(block, tree)
    return tree


@pytest.fixture(scope="module")
def service(tree: Path) -> Iterator[Service]:
    with Service(tree) as found:
        yield found


@pytest.mark.once
def test_the_requests_of_the_pages_do_what_they_say(service: Service) -> None:
    shell = Shell(service)  # type: ignore[arg-type]
    for page in PAGES:
        shell.run(*(block for block in blocks(page) if block.info in ("sh", "json")))


@pytest.mark.once
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "ruff", "check", "--no-cache", "service"],
        ["-c", "from importlinter.cli import lint_imports; exit(lint_imports(no_cache=True))"],
    ],
    ids=["form", "layers"],
)
def test_the_code_of_the_pages_is_in_good_form_and_keeps_to_the_layers(tree: Path, command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.once
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = named_tests(page.read_text())
    assert named
    assert named - written_tests("test_*.py") == set()
