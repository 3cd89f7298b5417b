"""What is imported while a MongoDB starts: its end is waited for, and a mistake in a document is one sentence."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from service.serve import imports
from service.serve.failures import CannotStart

pytestmark = pytest.mark.once


@pytest.fixture
def documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the documents of another tree, from which modules can be imported."""
    folder = tmp_path / "service" / "documents"
    folder.mkdir(parents=True)
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    monkeypatch.setattr(imports, "DOCUMENTS", folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(folder)
    return folder


def said_of(documents: Path, name: str, text: str) -> str:
    """What is said of a module of a document."""
    (documents / f"{name}.py").write_text(dedent(text))
    with imports.imported([name]) as wait, pytest.raises(CannotStart) as found:
        wait()
    return str(found.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("own_typo", "\nx = StringFeild()\n", "line 2: name 'StringFeild' is not defined"),
        ("own_syntax", "x = f(\n", "line 1: '(' was never closed"),
        (
            "own_pattern",
            "import re\nre.compile('^(a$')\n",
            "line 2: '^(a$' is no regular expression: missing ), unterminated subpattern at position 1",
        ),
        ("own_silence", "raise ValueError\n", "line 1: ValueError"),
        (
            "own_rule",
            "raise ValueError('Reverse delete rules are not\\n supported here')\n",
            "line 1: Reverse delete rules are not supported here; say delete_rule=… there",
        ),
    ],
)
def test_a_mistake_in_a_document_is_one_sentence_with_its_place(
    documents: Path, name: str, text: str, said: str
) -> None:
    place = Path("service") / "documents" / f"{name}.py"
    assert said_of(documents, name, text) == f"{place}, {said}"


def test_an_error_of_another_module_stays_what_it_is(documents: Path, tmp_path: Path) -> None:
    (tmp_path / "service" / "own_other.py").write_text("1 / 0\n")
    (documents / "own_caller.py").write_text(
        f"import runpy\nrunpy.run_path({str(tmp_path / 'service' / 'own_other.py')!r})\n"
    )
    with imports.imported(["own_caller"]) as wait, pytest.raises(ZeroDivisionError):
        wait()


def test_a_package_that_is_not_there_stays_an_error_of_python() -> None:
    with imports.imported(["no_such_package"]) as wait, pytest.raises(ModuleNotFoundError, match="no_such_package"):
        wait()


def test_what_is_waited_for_has_been_imported(documents: Path) -> None:
    (documents / "own_good.py").write_text("ONE = 1\n")
    with imports.imported(["own_good"]) as wait:
        wait()
        assert sys.modules["own_good"].ONE == 1
