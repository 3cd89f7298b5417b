"""A mistake in a document, as its author meets it: one sentence on stderr, no traceback, exit code 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.serve.ports import free_port
from tests.trees import add_types, version

pytestmark = pytest.mark.once

DOCUMENT = '''"""Things: what is not in good form."""

from mongoengine import (
    NULLIFY,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    ObjectIdField,
    ReferenceField,
    StringField,
)

from service.documents.notebook import Notebook
from service.documents.record import Record


class Inner(EmbeddedDocument):
    """Something inside."""

    {inner}


class Thing(Record):
    """Something."""

    title = StringField()
    inner = EmbeddedDocumentField(Inner)
    {field}

    meta = {{"collection": "{collection}"{meta}}}
'''
PLAIN = {"field": "size = IntField()", "inner": "size = IntField()", "collection": "things", "meta": ""}

MISTAKES: dict[str, tuple[dict[str, str], str]] = {
    "a typo in an argument": (
        {"field": "name = StringField(max_lenght=3)"},
        "Thing.name has the argument max_lenght, which nobody knows; did you mean max_length?",
    ),
    "a typo in meta": (
        {"meta": ', "filter": ["title"]'},
        "Thing has meta['filter'], which nobody knows; did you mean filters?",
    ),
    "a bad regex": (
        {"field": 'name = StringField(regex="^(a$")'},
        "{place}: '^(a$' is no regular expression: missing ), unterminated subpattern at position 1",
    ),
    "a rule where MongoEngine takes none": (
        {"inner": "book = ReferenceField(Notebook, reverse_delete_rule=NULLIFY)"},
        (
            "{inner_class}: Reverse delete rules are not supported for EmbeddedDocuments (field: book); "
            "say delete_rule=… there"
        ),
    ),
    "a name that is not there": (
        {"field": "name = StringFeild()"},
        "{place}: name 'StringFeild' is not defined",
    ),
    "no Python": (
        {"field": "name = StringField("},
        "{place}: '(' was never closed",
    ),
    "a reference to nowhere": (
        {"field": 'where = ReferenceField("Nowhere")'},
        "Thing.where refers to 'Nowhere', which is no document class",
    ),
    "a collection that is taken": (
        {"collection": "batch"},
        "Thing has the collection 'batch', but the path /v1/batch is taken",
    ),
    "an id of another type": (
        {"field": "id = ObjectIdField(primary_key=True)"},
        (
            "Thing.id takes the place of Record.id; "
            "the id of a record is a text that its client chooses or the server makes"
        ),
    ),
    "a second key": (
        {"field": "code = StringField(primary_key=True)"},
        "{outer_class}: Cannot override primary key field",
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the service that lists one document more."""
    tree = version(tmp_path_factory.mktemp("mistakes"), ())
    add_types(tree, "thing", "", "Thing")
    return tree


def with_mistake(copy: Path, change: dict[str, str]) -> dict[str, str]:
    """Write the document; return the places of its parts."""
    text = DOCUMENT.format(**{**PLAIN, **change})
    (copy / "service" / "documents" / "thing.py").write_text(text)
    parts = {"place": change.get("field", "meta"), "inner_class": "class Inner", "outer_class": "class Thing"}
    return {name: f"service/documents/thing.py, line {line_of(text, part)}" for name, part in parts.items()}


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def started(copy: Path, *command: str) -> tuple[int, str]:
    """The exit code of a command and what it says on stderr."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SERVICE_")}
    environ = {**kept, "PYTHONDONTWRITEBYTECODE": "1", "SERVICE_MONGODB_URI": "memory://"}
    done = subprocess.run(command, cwd=copy, env=environ, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(("change", "say"), MISTAKES.values(), ids=MISTAKES)
def test_the_service_does_not_start_and_says_why_in_one_line(copy: Path, change: dict[str, str], say: str) -> None:
    places = with_mistake(copy, change)
    code, said = started(copy, sys.executable, "run.py", "--memory", "--only", "api", "--port", str(free_port()))
    assert (code, said) == (2, f"Madang does not start: {say.format(**places)}\n")


@pytest.mark.parametrize("name", ["a bad regex", "a typo in an argument"])
def test_a_command_says_it_too(copy: Path, name: str) -> None:
    change, say = MISTAKES[name]
    places = with_mistake(copy, change)
    code, said = started(copy, sys.executable, "-m", "flask", "--app", "run", "indexes", "show")
    assert code != 0
    assert f"Error: {say.format(**places)}\n" in said
    assert "Traceback" not in said
