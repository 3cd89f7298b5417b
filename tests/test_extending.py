"""docs/extending.md does what it says: its code goes word for word into a copy of the service."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from service.documents import RECORDS, Record
from service.model.fields import COMPARE, EQUAL, MEANINGS, Meaning
from service.serve.ports import free_port
from tests.test_readme import Block, Shell, blocks
from tests.types import SHIPPED

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "extending.md"
CHAPTERS = list(dict.fromkeys(block.heading for block in blocks(PAGE)))


# The page as a person follows it


def apply(block: Block, tree: Path) -> None:
    """Write a new file, or change one as a diff says; what the diff takes out or goes by has to be there, once."""
    kind, path = block.info.split()
    file = tree / path
    if kind == "python":
        assert not file.exists()
        file.write_text(block.text)
        return
    lines = block.text.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] != "+")
    after = "".join(line[1:] for line in lines if line[0] != "-")
    assert file.read_text().count(before) == 1, f"{path} has changed: the page goes by\n{before}"
    file.write_text(file.read_text().replace(before, after))


class Service:
    """A service started from a folder, that a `Shell` can send requests to."""

    def __init__(self, tree: Path) -> None:
        self.base = f"http://127.0.0.1:{(port := free_port())}"
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
        self.process = subprocess.Popen(
            [sys.executable, "run.py", "--memory", "--port", str(port)],
            cwd=tree,
            env={**environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.session = requests.Session()
        self.session.trust_env = False  # no proxy for 127.0.0.1

    def __enter__(self) -> "Service":
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            try:
                self.open("/health/live")
            except requests.ConnectionError:
                time.sleep(0.05)
            else:
                return self
        self.process.kill()
        raise AssertionError(self.process.communicate()[1])

    def __exit__(self, *_: object) -> None:
        self.session.close()
        self.process.terminate()
        self.process.communicate(timeout=30)

    def open(
        self, path: str, method: str = "GET", headers: Any = None, query_string: Any = None, data: Any = None
    ) -> Any:
        """Send a request, called as Flask's test client is."""
        answer = self.session.request(
            method, self.base + path, headers=headers, params=query_string, data=data, timeout=30
        )
        body = answer.json() if answer.content else None
        return SimpleNamespace(status_code=answer.status_code, headers=answer.headers, json=body)


class Followed:
    """A copy of the service in which the page was followed as far as one of its chapters."""

    def __init__(self, tree: Path, chapter: str) -> None:
        if RECORDS != SHIPPED:
            pytest.skip("the page begins with the record types that ship, and here are others")
        self.tree = tree
        for name in ("service", "settings"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("run.py", "pyproject.toml"):
            shutil.copy(ROOT / name, tree)
        chapters = CHAPTERS[: CHAPTERS.index(chapter) + 1]
        self.blocks = [block for block in blocks(PAGE) if block.heading in chapters]
        for block in self.blocks:
            if block.info.startswith(("python ", "diff ")):
                apply(block, tree)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Followed:
    return Followed(tmp_path_factory.mktemp("followed"), CHAPTERS[-1])


@pytest.fixture(scope="module")
def extended(followed: Followed) -> Iterator[Service]:
    """The service with all that the page adds."""
    with Service(followed.tree) as service:
        yield service


@pytest.fixture(scope="module")
def suni(extended: Service, followed: Followed) -> Shell:
    """The terminal of a person who typed all requests of the page, on the service with all that it adds."""
    shell = Shell(extended)
    first = [block for block in followed.blocks if block.info in ("sh", "json")]
    shell.run(*(block for block in first if '"finished_at": null\n' not in block.text))
    return shell


def sent(shell: Shell, method: str, path: str, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json", **dict([shell.variables["AUTH"].split(": ")])}
    return shell.client.open(path, method=method, headers=headers, data=None if body is None else json.dumps(body))


def test_a_document_in_five_minutes(tmp_path: Path) -> None:
    chapter = Followed(tmp_path, CHAPTERS[0])
    assert CHAPTERS[0] == "A document in five minutes"
    with Service(chapter.tree) as service:
        Shell(service).run(*(block for block in chapter.blocks if block.info in ("sh", "json")))


def test_the_requests_of_all_chapters_do_what_they_say(suni: Shell) -> None:
    assert suni.answer.json == {"id": "bus", "state": "done"}


def test_the_openapi_document_shows_all_that_was_added(extended: Service) -> None:
    document = extended.open("/openapi.json").json
    assert {"/v1/tasks", "/v1/tasks/{id}", "/v1/finished-tasks"} <= set(document["paths"])
    schemas = document["components"]["schemas"]
    assert {"Task", "TaskCreate", "TaskPatch", "TaskPage", "FinishArguments", "FinishAnswer"} <= set(schemas)
    task = schemas["TaskCreate"]["properties"]
    assert task["state"]["allOf"] == [{"$ref": "#/components/schemas/TaskState"}]
    assert schemas["TaskState"]["enum"] == ["open", "started", "done"]
    assert task["state"]["description"] == 'how far it is; `"open"` where it is left out'
    assert "finished_at" not in task
    assert "origin" not in schemas["TaskPatch"]["properties"]


def test_the_code_of_the_page_is_in_good_form(followed: Followed) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "service"]
    done = subprocess.run(command, cwd=followed.tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_code_of_the_page_keeps_to_the_layers(followed: Followed) -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; exit(lint_imports(no_cache=True))"]
    done = subprocess.run(command, cwd=followed.tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# What the declarations of the page mean


def test_a_fixed_field_is_said_once(suni: Shell) -> None:
    assert sent(suni, "POST", "/v1/tasks", {"id": "fixed", "title": "a", "origin": "mail"}).json["origin"] == "mail"
    refused = sent(suni, "PATCH", "/v1/tasks/fixed", {"origin": "phone"}).json
    assert [cause["code"] for cause in refused["errors"]] == ["read_only"]


def test_a_default_comes_back_with_null(suni: Shell) -> None:
    sent(suni, "POST", "/v1/tasks", {"id": "default", "title": "a", "state": "started"})
    assert sent(suni, "PATCH", "/v1/tasks/default", {"state": None}).json["state"] == "open"


def test_a_reference_is_cleared_with_its_record(suni: Shell) -> None:
    assert sent(suni, "POST", "/v1/notebooks", {"id": "book", "title": "Kites"}).status_code == 201
    made = sent(suni, "POST", "/v1/tasks", {"id": "refers", "title": "a", "notebook": "book"})
    assert made.json["notebook"] == "book"
    assert sent(suni, "DELETE", "/v1/notebooks/book").status_code == 204
    assert sent(suni, "GET", "/v1/tasks/refers").json["notebook"] is None


def finished_task(suni: Shell, id: str) -> None:
    assert sent(suni, "POST", "/v1/tasks", {"id": id, "title": "a"}).status_code == 201
    assert sent(suni, "POST", "/v1/finished-tasks", {"ids": [id]}).json == {"finished": 1}
    assert sent(suni, "GET", f"/v1/tasks/{id}").json["finished_at"]


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"title": "b"}), ("PUT", {"title": "b"})])
def test_what_the_server_set_stays_when_a_client_writes(suni: Shell, method: str, body: Any) -> None:
    finished_task(suni, method.lower())
    assert sent(suni, method, f"/v1/tasks/{method.lower()}", body).status_code == 200
    assert sent(suni, "GET", f"/v1/tasks/{method.lower()}").json["finished_at"]


# The tables of the page


def rows(heading: str, table: str) -> list[list[str]]:
    """The cells of the first table under a heading whose head begins with `table`."""
    text = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    body = text[text.index(f"| {table} |") :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body]


def quoted(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_the_table_of_field_classes_is_that_of_the_service() -> None:
    meanings = {kind.__name__: row for kind, row in MEANINGS.items() if isinstance(row, Meaning)}
    found = {}
    for name, _json, where, update, sort in rows("The field classes", "class"):
        groups = (COMPARE if "compare" in where else set()) | (EQUAL if "equal" in where else set())
        found[name.strip("`")] = (groups | quoted(where), quoted(update), sort == "yes")
    assert found == {name: (row.compare, row.update, row.lowest is not None) for name, row in meanings.items()}


def test_the_groups_of_operators_are_those_of_the_service() -> None:
    (compare,) = re.findall(r"`compare` stands for `([^`]+)`", PAGE.read_text())
    (equal,) = re.findall(r"`equal` for `([^`]+)`", PAGE.read_text())
    assert (set(compare.split()), set(equal.split())) == (COMPARE, EQUAL)


def test_the_table_of_refused_classes_is_that_of_the_service() -> None:
    refused = {kind.__name__: why for kind, why in MEANINGS.items() if isinstance(why, str)}
    assert {name.strip("`"): why for name, why in rows("What is refused", "class")} == refused


REFUSED = {
    "a list without its entries": ("anything = ListField()", "sorts", '["-updated_at"]'),
    "no default sort": ("", "sorts", '["title"]'),
    "a sort by a list": ("names = ListField(StringField())", "sorts", '["-updated_at", "names"]'),
    "a sort without an order": ("place = PointField(auto_index=False)", "sorts", '["-updated_at", "place"]'),
    "a sort by nothing": ("", "sorts", '["-updated_at", "none"]'),
    "a filter on a hidden field": ("secret = StringField(hidden=True)", "filters", '["secret"]'),
    "a search in a number": ("size = IntField()", "search", '["size"]'),
    "a refused class": ("any = DynamicField()", "sorts", '["-updated_at"]'),
}


@pytest.fixture(scope="module")
def refusals() -> dict[str, str]:
    """What the service says to each case, in a Python of its own: MongoEngine never forgets a class."""
    script = f"""
import json
from mongoengine import *
from service.model.record_type import derive
from service.documents import RECORDS, Record

said = {{}}
for case, (field, name, value) in {REFUSED!r}.items():
    members = {{"meta": {{"collection": "things", name: eval(value)}}, "title": StringField()}}
    exec(field, globals(), members)
    try:
        derive(type("Thing", (Record,), members))
    except TypeError as error:
        said[case] = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(said))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_that_the_page_refuses_is_refused(refusals: dict[str, str], case: str) -> None:
    assert re.match(r"(InvalidDocument|UnsupportedField): .*Thing", refusals[case])


def test_every_argument_of_the_record_docstring_is_on_the_page() -> None:
    named = set(re.findall(r"`(\w+)(?:=True)?`", Record.__doc__ or ""))
    assert {name for name in named if name not in PAGE.read_text()} == set()
