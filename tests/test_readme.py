"""What the documentation tells a person to type does what it says."""

import argparse
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import run
from service.documents import RECORDS
from service.model.fields import MEANINGS, Meaning
from service.query.parse import PARAMETERS
from service.worker.chores import chores
from settings.base import Base
from tests.types import REGISTRY

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
QUERIES = ROOT / "docs" / "queries.md"
CONFLICTS = ROOT / "docs" / "conflicts.md"
ANYTHING = "…"


class Block(NamedTuple):
    """A fenced block: the heading that it stands under, the words after the fence, the text."""

    heading: str
    info: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    heading = ""
    pattern = r"^#+ (?P<heading>.+)$|^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)```$"
    for match in re.finditer(pattern, page.read_text(), re.MULTILINE):
        if match["heading"]:
            heading = match["heading"]
        else:
            yield Block(heading, match["info"], match["text"])


def under(page: Path, heading: str, info: str = "sh") -> list[Block]:
    return [block for block in blocks(page) if block.heading == heading and block.info in (info, "json")]


def headings(page: Path, info: str) -> list[str]:
    return list(dict.fromkeys(block.heading for block in blocks(page) if block.info == info))


# A shell that knows what our pages use


def curl_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("url")
    for flag in ("-s", "-i", "-G"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-X", dest="method")
    for repeated in ("-H", "-d", "--data-urlencode"):
        parser.add_argument(repeated, action="append", default=[])
    return parser


CURL = curl_options()


class Shell:
    """Runs the commands of a page on a test client; a comment says which status or which titles are due."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.variables: dict[str, str] = {}
        self.comment = ""
        self.answer: TestResponse | None = None

    def run(self, *scripts: Block) -> None:
        for block in scripts:
            if block.info == "json":
                assert self.answer is not None
                assert like(json.loads(block.text), self.answer.json), self.answer.json
            else:
                for statement in statements(block.text):
                    self.perform(statement)

    def perform(self, statement: str) -> None:
        if statement.startswith("#"):
            self.comment = statement
        elif re.match(r"\w+\(\) \{", statement):
            assert statement.startswith(("answer() {", "list() {"))
        elif assigned := re.fullmatch(r"([A-Z]+)=\$\((.+)\)", statement, re.DOTALL):
            command, _, filter_ = assigned[2].rpartition("|")
            self.curl(command)
            (member,) = re.findall(r'\["(\w+)"\]', filter_)
            self.variables[assigned[1]] = self.answer.json[member]
        elif assigned := re.fullmatch(r"([A-Z]+)=(.+)", statement):
            (self.variables[assigned[1]],) = self.words(assigned[2])
        elif statement.startswith("curl "):
            self.curl(statement)
        else:
            self.ask(statement)

    def words(self, text: str) -> list[str]:
        """The words of a command; variables are filled in everywhere but in single quotes."""
        parts = re.split(r"('[^']*')", text)
        filled = [
            part if part.startswith("'") else re.sub(r"\$([A-Z]+)", lambda name: self.variables[name[1]], part)
            for part in parts
        ]
        return shlex.split("".join(filled), comments=True)

    def curl(self, command: str) -> None:
        _, *words = self.words(command)
        options = CURL.parse_args(words)
        method = options.method or ("POST" if options.d and not options.G else "GET")
        fields = [tuple(field.split("=", 1)) for field in (*options.data_urlencode, *(options.d if options.G else ()))]
        self.answer = self.client.open(
            options.url.removeprefix(self.variables["BASE"]),
            method=method,
            headers=dict(header.split(": ", 1) for header in options.H),
            query_string=dict(fields) or None,
            data=None if options.G or not options.d else options.d[0],
        )
        (status,) = re.findall(r"\b([2-5]\d\d)\b", self.comment)
        assert self.answer.status_code == int(status), (command, self.answer.json)
        for name, value in re.findall(r"`([A-Z][A-Za-z-]+): ([^`]+)`", self.comment):
            assert self.answer.headers.get(name) == value, command

    def ask(self, statement: str) -> None:
        """Perform our own commands: `list` has the titles, or the code of the problem, in a comment behind it."""
        name, *fields = self.words(statement)
        assert name in ("list", "answer"), statement
        self.answer = self.client.get(
            "/v1/notes",
            headers=dict([self.variables["AUTH"].split(": ")]),
            query_string=dict(field.split("=", 1) for field in fields),
        )
        body = self.answer.json
        if body.get("next"):
            self.variables["NEXT"] = body["next"]
        if name == "list":
            wanted = re.split(r"\s+# ", statement)[-1]
            found = body.get("code") or ", ".join(note["title"] for note in body["items"]) or "none"
            assert found == wanted, (statement, body)


def statements(script: str) -> Iterator[str]:
    """The statements of a script, each with its further lines."""
    statement = ""
    for line in script.splitlines():
        statement = f"{statement}\n{line}" if statement else line
        if statement and is_whole(statement):
            yield statement.replace("\\\n", "")
            statement = ""
    assert not statement, statement


def is_whole(statement: str) -> bool:
    if statement.startswith("#"):
        return True
    if re.match(r"\w+\(\) \{", statement):
        return statement.endswith("\n}")
    if statement.endswith(("\\", "|")):
        return False
    return statement.count("'") % 2 == 0


def like(wanted: Any, found: Any) -> bool:
    """Whether an answer is what a page shows; `…` stands for anything that is there."""
    if wanted == ANYTHING:
        return found is not None
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(like(value, found[name]) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(like, wanted, found))
    return bool(wanted == found)


@pytest.fixture
def shell(client: FlaskClient) -> Shell:
    return Shell(client)


# README.md


def readme_requests() -> tuple[Block, Block]:
    first, retry = under(README, "First requests")
    return first, retry


def test_the_first_requests_of_the_readme_work(shell: Shell) -> None:
    shell.run(readme_requests()[0])
    assert shell.answer.json["code"] == "revision_mismatch"


def test_the_retry_of_the_readme_gets_the_same_answer(shell: Shell) -> None:
    first, retry = readme_requests()
    shell.run(first, retry)
    listed = shell.client.get("/v1/notes?sort=title", headers=dict([shell.variables["AUTH"].split(": ")]))
    assert [note["title"] for note in listed.json["items"]] == ["Bread", "Oat milk"]


def test_the_commands_of_the_retry_can_be_read() -> None:
    assert [shlex.split(line)[0] for line in statements(readme_requests()[1].text) if line[:1] != "#"] == [
        "curl",
        "curl",
    ]


def test_the_readme_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.arguments(["--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options == set(re.findall(r"^\| `(--[a-z-]+)`", README.read_text(), re.MULTILINE))


# docs/queries.md


@pytest.mark.parametrize("heading", [heading for heading in headings(QUERIES, "sh") if heading != "Try it"])
def test_the_queries_of_the_page_find_what_it_says(shell: Shell, heading: str) -> None:
    shell.run(*under(QUERIES, "Try it"), *under(QUERIES, heading))


@pytest.mark.real
@pytest.mark.parametrize("heading", headings(QUERIES, "sh real"))
def test_the_queries_that_need_a_real_mongodb_find_what_the_page_says(shell: Shell, heading: str) -> None:
    shell.run(*under(QUERIES, "Try it"), *under(QUERIES, heading, "sh real"))


def test_every_operator_and_parameter_has_an_example() -> None:
    examples = "\n".join(block.text for block in blocks(QUERIES) if block.info.startswith("sh"))
    used = set(re.findall(r'"(\$\w+)"', examples))
    compared = {name for row in MEANINGS.values() if isinstance(row, Meaning) for name in row.compare}
    assert used >= compared | {"$and", "$or", "$nor", "$not"}
    assert all(re.search(rf"^(list|answer) .*\b{name}=", examples, re.MULTILINE) for name in PARAMETERS)


# docs/conflicts.md


def test_the_commands_about_conflicts_do_what_the_page_says(shell: Shell) -> None:
    shell.run(*(block for block in blocks(CONFLICTS) if block.info in ("sh", "json")))


# What pages list


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in asked}
    page = (ROOT / "docs" / "dependencies.md").read_text().lower()
    assert {name for name in names if f"**{name}**" not in page} == set()


@pytest.mark.all_types
def test_the_architecture_page_names_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    # A person's own record types need no line there.
    own = {document.__module__.rpartition(".")[2] for document in RECORDS}
    modules = {path.stem for path in (ROOT / "service").rglob("*.py")} - {"__init__", *own}
    assert {name for name in modules if not re.search(rf"\b{name}\b", page)} == set()


def test_the_page_of_processes_names_every_chore() -> None:
    page = (ROOT / "docs" / "processes.md").read_text()
    (worker,) = re.findall(r"^\| \*\*worker\*\* \|.*$", page, re.MULTILINE)
    named = {
        chore.name
        for chore in chores(
            {**vars(Base), "MONGODB_URI": "mongodb://127.0.0.1:9/x", "JWT_SECRET_KEY": "k" * 32}, REGISTRY
        )
    }
    assert set(re.findall("`([a-z]+)`", worker)) == named


def test_decisions_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
