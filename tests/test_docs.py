"""The pages hold together: links lead somewhere, settings and problem codes are explained, no machine is named.

`python -m tests.test_docs > docs/settings.md` writes the page of settings anew.
"""

import ast
import json
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pytest
from flask.testing import FlaskClient

import settings
from service.core.errors import all_problems
from settings.base import Base

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
SETTINGS = ROOT / "docs" / "settings.md"
REGENERATE = "python -m tests.test_docs > docs/settings.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


# docs/settings.md is made of settings/base.py

INTRODUCTION = f"""# Settings

<!-- Made of settings/base.py by `{REGENERATE}`; a test compares the two. -->

`SERVICE_ENV` picks one of three environments:

| environment | for |
|---|---|
| `local` | your own machine; the default |
| `test` | the tests |
| `production` | the real thing |

Any setting is overridden by an environment variable: `SERVICE_` and the name of the setting.

```sh
SERVICE_ENV=production
SERVICE_MONGODB_URI='mongodb://db1,db2,db3/madang?replicaSet=rs0'
SERVICE_JWT_EXPIRATION_DELTA=600
SERVICE_CORS_ORIGINS='["https://app.example.com", "https://admin.example.com"]'
```

Text is written as it is. Everything else is JSON: `true`, `600`, `["a", "b"]`. A name that is not in this table, or a
value that is not what it says, stops the service at its start, and it says which.

| setting | type | default | elsewhere | meaning |
|---|---|---|---|---|
"""

TYPES: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "whole number",
    float: "number",
    float | timedelta: "seconds",
    list[str]: "list of text",
    dict[str, Any]: "object",
    str | None: "text",
    str | list[str]: "text or list of text",
    str | list[str] | None: "text or list of text",
}


class Setting(NamedTuple):
    name: str
    source: str
    meaning: str


def declared_settings() -> Iterator[Setting]:
    """Every setting of `Base` as it stands in the source, with the text under it."""
    (base,) = (
        node for node in ast.parse((ROOT / "settings" / "base.py").read_text()).body if isinstance(node, ast.ClassDef)
    )
    for node, below in zip(base.body, [*base.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
            yield Setting(node.target.id, ast.unparse(node.value), text)


def shown(value: Any) -> str:
    """A value as one writes it into the environment."""
    if value is None:
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def default(setting: Setting) -> str:
    product = f" = {setting.source.replace('*', 'x')}" if " * " in setting.source else ""
    return shown(getattr(Base, setting.name)) + product


def elsewhere(setting: Setting) -> str:
    """The environments in which the default is another."""
    usual = getattr(Base, setting.name)
    values = {name: getattr(kind, setting.name) for name, kind in settings.ENVIRONMENTS.items()}
    return ", ".join(f"{name}: {shown(value)}" for name, value in values.items() if value != usual)


def kind(setting: Setting) -> str:
    """The type of a setting, and what it has to be beside that."""
    hint = get_type_hints(Base, include_extras=True)[setting.name]
    limits = [str(limit).replace("|", "\\|") for limit in getattr(hint, "__metadata__", ())]
    return ", ".join([TYPES[get_type_hints(Base)[setting.name]], *limits])


def columns(setting: Setting) -> tuple[str, ...]:
    return f"`{setting.name}`", kind(setting), default(setting), elsewhere(setting), setting.meaning


def settings_page() -> str:
    return INTRODUCTION + "".join(f"| {' | '.join(columns(setting))} |\n" for setting in declared_settings())


def test_the_page_of_settings_is_up_to_date() -> None:
    assert SETTINGS.read_text() == settings_page(), f"run: {REGENERATE}"


@pytest.mark.parametrize("setting", list(declared_settings()), ids=lambda setting: setting.name)
def test_a_setting_says_what_it_is_for(setting: Setting) -> None:
    assert re.fullmatch(r"[A-Z`].+\.", setting.meaning), f"put one sentence under {setting.name} in settings/base.py"


def test_only_the_base_declares_settings() -> None:
    names = {setting.name for setting in declared_settings()}
    assert all(name in names for kind in settings.ENVIRONMENTS.values() for name in vars(kind) if name.isupper())


def test_the_examples_of_the_page_are_settings() -> None:
    (example,) = re.findall(r"```sh\n(.+?)```", INTRODUCTION, re.DOTALL)
    environ = {name: value.strip("'") for name, value in (line.split("=", 1) for line in example.splitlines())}
    loaded = settings.load({**environ, "SERVICE_SECRET_KEY": "s" * 32})
    assert loaded["JWT_EXPIRATION_DELTA"] == 600
    assert loaded["CORS_ORIGINS"] == ["https://app.example.com", "https://admin.example.com"]


def test_every_setting_that_a_page_names_exists() -> None:
    known = {"SERVICE_ENV", *(f"SERVICE_{setting.name}" for setting in declared_settings())}
    named = {(page.name, name) for page in PAGES for name in re.findall(r"\bSERVICE_[A-Z_]+[A-Z]\b", page.read_text())}
    assert {place for place in named if place[1] not in known} == set()


# Links


def prose(page: Path) -> str:
    """The text of a page without its blocks of code and its code in a line."""
    return re.sub(r"^```.*?^```$|`[^`\n]+`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that the headings of a page have in a link."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](other.md) [d](page.md#one) [e](https://example.com) `[f](no.md)`\n")
    assert list(broken_links(page)) == ["#two", "other.md"]


# docs/attacks.md names the test of each attack

ATTACKS = ROOT / "docs" / "attacks.md"


def written_tests(pattern: str) -> set[str]:
    files = (ROOT / "tests").glob(pattern)
    return {
        f"{file.name}::{name}"
        for file in files
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }


def named_tests(text: str) -> set[str]:
    return set(re.findall(r"`(test_\w+\.py::\w+)`", text))


def test_every_test_that_the_attacks_name_exists() -> None:
    assert named_tests(ATTACKS.read_text()) - written_tests("test_*.py") == set()


def test_every_test_of_an_attack_is_named_among_them() -> None:
    there = written_tests("test_attacks_*.py")
    assert there
    assert there - named_tests(ATTACKS.read_text()) == set()


def test_every_attack_has_its_test() -> None:
    before, _, rest = ATTACKS.read_text().partition("### Memory of one request")
    text = before + rest.partition("\n## ")[2]
    rows = re.findall(r"^\| (?!attack |advisory )(.*) \|$", text, re.MULTILINE)
    assert len(rows) > 80
    assert [row for row in rows if len(row.split(" | ")) != 4 or not named_tests(row.split(" | ")[3])] == []


def test_the_ten_of_owasp_are_all_there() -> None:
    assert re.findall(r"^## API(\d+): ", ATTACKS.read_text(), re.MULTILINE) == [str(number) for number in range(1, 11)]


# Problem codes


def test_every_problem_code_is_explained_to_clients(client: FlaskClient) -> None:
    pages = (ROOT / "docs" / "clients.md").read_text() + client.get("/docs/problems").text
    assert {problem.code for problem in all_problems() if not re.search(rf"\b{problem.code}\b", pages)} == set()


def test_the_table_for_clients_has_codes_under_their_status() -> None:
    statuses = {problem.code: problem.status for problem in all_problems()}
    rows = re.findall(r"^\| (\d{3}[\d, ]*) \| ([^|]+) \|", (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE)
    named = [(code, status) for status, codes in rows for code in re.findall(r"`(\w+)`", codes)]
    assert named
    assert [(code, status) for code, status in named if str(statuses.get(code)) not in status] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_to_a_problem_names_a_code_that_exists(page: Path) -> None:
    named = set(re.findall(r"/docs/problems#(\w+)", page.read_text()))
    assert named <= {problem.code for problem in all_problems()}


# No machine in the files


def own_files() -> Iterator[tuple[str, str]]:
    """Every text file of the project with its text; what Git ignores is not of it."""
    ignored = [line.rstrip("/").replace("*", "") for line in (ROOT / ".gitignore").read_text().split()]
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name != ".git" and not any(part in name for part in ignored)]
        for path in (Path(folder, name) for name in names if name != ".git"):
            try:
                yield str(path.relative_to(ROOT)), path.read_text()
            except UnicodeDecodeError:
                continue  # not a text


MACHINES = {
    "a path of one machine": r"(?<![\w.~-])/(home|root|Users|work|mnt)/\w",
    "the host of a package registry": r"https?://[^\s/\"']*(pypi|registry|mirror|nexus|artifactory|devpi)|/simple/?[\s\"']",
    "an index for pip": r"--(extra-)?index-url|--trusted-host|--find-links|^(extra-)?index-url\s*=",
}


@pytest.mark.parametrize("what", MACHINES)
def test_no_file_names(what: str) -> None:
    own = str(Path(__file__).relative_to(ROOT))
    found = [
        f"{name}: {line.strip()[:100]}"
        for name, text in own_files()
        if name != own
        for line in text.splitlines()
        if re.search(MACHINES[what], line)
    ]
    assert found == []


def test_the_locks_name_packages_and_hashes_only() -> None:
    locks = list(ROOT.glob("*.lock"))
    assert locks
    assert [lock.name for lock in locks if "://" in lock.read_text()] == []


if __name__ == "__main__":
    print(settings_page(), end="")  # noqa: T201  the page is what it is for
