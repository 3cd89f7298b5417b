"""Record types of a person's own leave the tests green: a copy of the service gets some, and is tested."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_extending import apply
from tests.test_readme import README, blocks
from tests.trees import add_types
from tests.types import as_it_ships

pytestmark = as_it_ships

ROOT = Path(__file__).parent.parent
RIDDLE = '''"""Riddles."""

from mongoengine import StringField, ValidationError

from service.documents.record import Record


def is_answer(text: str) -> None:
    """Refuse all texts but one, which nobody can guess."""
    if text != "the letter m":
        raise ValidationError("think again")


class Riddle(Record):
    """What comes once in a minute, twice in a moment, and never in a thousand years?"""

    answer = StringField(required=True, validation=is_answer)
    meta = {"collection": "riddles", "example": {"answer": "the letter m"}}
'''


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the service with the type of the README, one with everything, and one that cannot be guessed."""
    tree = tmp_path_factory.mktemp("own") / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "var", "build", "__pycache__"))
    for block in blocks(README):
        if block.heading == "Your own record type":
            apply(block, tree)
    add_types(tree, "monster", (ROOT / "tests" / "monster.py").read_text(), "Monster")
    add_types(tree, "riddle", RIDDLE, "Riddle")
    return tree


def passes(tree: Path, *words: str) -> str:
    """What pytest says of a copy of the service, whose tests have to pass."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SERVICE_", "COVERAGE_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "all_types", *words]
    done = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


@pytest.mark.once
def test_the_tests_about_all_types_pass_with_types_of_ones_own(tree: Path) -> None:
    passes(tree)


@pytest.mark.real
def test_so_do_those_that_need_a_real_mongodb(tree: Path) -> None:
    passes(tree, "--mongodb", "-k", "every_answer or any_type", "tests/test_house.py", "tests/test_bson_boundary.py")


def test_an_example_of_a_class_is_shown_to_clients(tree: Path) -> None:
    script = """
import settings
from service import app
made = app.create_app(settings.load({"SERVICE_ENV": "test", "SERVICE_MONGODB_URI": "memory://"}))
paths = made.test_client().get("/openapi.json").json["paths"]
print(paths["/v1/riddles"]["post"]["requestBody"]["content"]["application/json"]["example"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tree, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{'answer': 'the letter m'}"
