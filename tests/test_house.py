"""The architecture, as tests: what docs/architecture.md promises holds for every module, route and document."""

import ast
import re
import statistics
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from flask import Flask
from flask.testing import FlaskClient
from importlinter.cli import lint_imports
from jsonschema import Draft202012Validator
from pymongo import ASCENDING
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from service.core.errors import all_problems
from service.documents import RECORDS, SYSTEM
from service.documents.record import Record
from service.http import openapi
from service.pages.console import CONSOLE_ROUTES
from service.serve.addresses import API, WORKER
from service.serve.launcher import ALWAYS
from service.serve.start import MODULES as MODULES_OF_PROGRAMS
from service.upkeep import indexes
from tests.client import PASSWORD, Person, Phone
from tests.examples import Examples
from tests.mailbox import Mailbox
from tests.types import EVERY, parser_of

pytestmark = pytest.mark.all_types

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "service").rglob("*.py"))
SOURCES = [
    *MODULES,
    *sorted((ROOT / "settings").rglob("*.py")),
    ROOT / "run.py",
    *sorted((ROOT / "tests").rglob("*.py")),
]


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Layers


def test_a_module_imports_only_from_rows_below_its_own(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True, no_logo=True) == 0, capsys.readouterr().out


IMPORTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def test_the_rows_of_the_page_are_those_that_are_checked() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    (layers,) = (contract["layers"] for contract in IMPORTS if contract["type"] == "layers")
    checked = {name: row for row, names in enumerate(reversed(layers)) for name in names.split(" | ")}
    told = {
        name.strip("`/"): int(row)
        for row, names in re.findall(r"^\| (\d+) \| (`[^|]+) \|", page, re.MULTILINE)
        for name in names.split(", ")
    }
    assert told == checked


def test_all_that_a_worker_needs_is_kept_from_flask() -> None:
    (layers,) = (contract["layers"] for contract in IMPORTS if contract["type"] == "layers")
    (kept,) = (contract["source_modules"] for contract in IMPORTS if contract.get("forbidden_modules") == ["flask"])
    below = [name for names in layers[layers.index("context") + 1 :] for name in names.split(" | ")]
    assert set(kept) == {f"service.{name}" for name in (*below, "upkeep", "streams", "worker")}


def python(script: str) -> str:
    """What a new Python says after a script; a script that fails fails the test."""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_opens_no_connection_and_starts_no_thread() -> None:
    script = """
import importlib, pkgutil, socket, threading

class NoSocket(socket.socket):
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")

def no_thread(self):
    raise AssertionError(f"{self} was started")

socket.socket, threading.Thread.start = NoSocket, no_thread
import service
names = [module.name for module in pkgutil.walk_packages(service.__path__, "service.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    assert int(python(script)) == len(MODULES) - 1


@pytest.mark.parametrize(
    "module", ["documents", "model.schema", "model.patch", "query", "records", "upkeep.indexes", "identity.tokens"]
)
def test_what_is_derived_from_documents_comes_without_flask(module: str) -> None:
    assert python(f"import sys, service.{module}; print('flask' in sys.modules)").strip() == "False"


def test_where_no_streams_are_nothing_of_what_they_alone_need_is_loaded() -> None:
    modules = ", ".join((MODULES_OF_PROGRAMS[API], MODULES_OF_PROGRAMS[WORKER], *ALWAYS))
    assert python(f"import sys, {modules}; print({{'engineio', 'requests'}} & {{*sys.modules}})").strip() == "set()"


# Routes

PUBLIC = {
    ("POST", "/v1/accounts"),
    ("POST", "/auth"),
    ("POST", "/auth/refresh"),
    ("POST", "/auth/guest"),
    ("POST", "/auth/code"),
    ("POST", "/auth/code/confirmation"),
    ("POST", "/auth/password-reset"),
    ("POST", "/auth/password-reset/confirmation"),
    *((method, f"/account/{page}") for method in ("GET", "POST") for page in ("verify", "reset")),
    ("GET", "/account/done"),
    ("GET", "/account/join"),
    ("GET", "/account/style.css"),
    *((method, path) for method, path, _ in CONSOLE_ROUTES),
    ("POST", "/auth/second-factor"),
    ("POST", "/auth/passkeys"),
    ("POST", "/auth/passkeys/options"),
    ("POST", "/auth/providers/<name>"),
    ("POST", "/auth/providers/exchange"),
    ("GET", "/auth/providers/<name>/start"),
    *((method, "/auth/providers/<name>/callback") for method in ("GET", "POST")),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/"),
    ("GET", "/v1"),
    ("GET", "/docs"),
    ("GET", "/docs/"),
    ("GET", "/docs/<path:path>"),
    ("GET", "/docs/problems"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
}
"""What needs no token. A route that is added here opens a door: say why in its docstring."""


def routes(app: Flask) -> list[tuple[str, Rule]]:
    """Every method of every route but what Flask answers by itself."""
    return [
        (method, rule)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def example_path(rule: Rule) -> str:
    return re.sub(r"<[^>]+>", "x", rule.rule)


def example_of(path: str) -> str:
    return re.sub(r"<[^>]+>", "x", path.replace("<path:path>", "index.css"))


def test_every_method_of_every_route_is_described(app: Flask) -> None:
    bare = [(method, rule.rule) for method, rule in routes(app) if not openapi.operation_of(app, rule.endpoint, method)]
    assert bare == []


def test_the_public_routes_are_those_listed_here(app: Flask) -> None:
    open_routes = {
        (method, rule.rule) for method, rule in routes(app) if openapi.operation_of(app, rule.endpoint, method).public
    }
    assert open_routes == PUBLIC


def test_every_other_route_asks_for_a_token(app: Flask, phone: Phone) -> None:
    closed = [(method, rule) for method, rule in routes(app) if (method, rule.rule) not in PUBLIC]
    assert closed
    for method, rule in closed:
        for sent in {method, "HEAD"} if method == "GET" else {method}:
            answer = phone.send(sent, example_path(rule))
            assert answer.status_code == 401, (sent, rule.rule)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_public_route_asks_for_none(app: Flask, phone: Phone) -> None:
    for method, path in PUBLIC:
        body = {} if method == "POST" else None
        with phone.send(method, example_of(path), body) as answer:
            assert answer.status_code != 401, path


# Answers and the OpenAPI document


class Recorder(FlaskClient):
    """A test client that remembers what was asked and answered."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        answer = super().open(*args, **kwargs)
        self.__dict__.setdefault("seen", []).append(answer)
        return answer


def rule_of(app: Flask, answer: TestResponse) -> Rule:
    rule, _ = app.url_map.bind("localhost").match(answer.request.path, answer.request.method, return_rule=True)
    return rule


def complaints(app: Flask, document: dict[str, Any], answer: TestResponse) -> Iterator[str]:
    """What of an answer the OpenAPI document does not say."""
    operation = document["paths"][openapi.path_of(rule_of(app, answer))][answer.request.method.lower()]
    described = operation["responses"].get(str(answer.status_code))
    if described is None:
        yield f"status {answer.status_code}"
        return
    yield from (name for name in openapi.HEADER_TEXTS if name in answer.headers and name not in described["headers"])
    content = described.get("content", {})
    if not content:
        yield from ["a body"] if answer.data else []
    elif answer.mimetype not in content:
        yield f"media type {answer.mimetype}"
    elif answer.is_json:
        schema = {**content[answer.mimetype]["schema"], "components": document["components"]}
        yield from (error.message for error in Draft202012Validator(schema).iter_errors(answer.json))


def own_account(client: FlaskClient) -> None:
    ada = Person.sign_up(client, "ada", device="phone")
    ada.post("/v1/accounts", {"username": "ADA", "password": PASSWORD})
    ada.post("/v1/accounts", {"username": "x", "password": "short", "unknown": 1})
    for path in ("", "/sessions", "/events", "/export"):
        ada.get(f"/v1/accounts/me{path}")
        ada.get(f"/v1/accounts/me{path}?unknown=1")
        Phone(client).get(f"/v1/accounts/me{path}")
    ada.patch("/v1/accounts/me", {"display_name": "Ada", "email": "ada@example.com"})
    ada.patch("/v1/accounts/me", {"email": 1, "username": "eve"})
    ada.get(f"/v1/accounts/{ada.id}")
    ada.get("/v1/accounts/nobody")
    ada.put("/v1/accounts/me/password", {"current_password": PASSWORD, "new_password": "seven paper lamps"})
    ada.put("/v1/accounts/me/password", {"current_password": PASSWORD})
    ada.put("/v1/accounts/me/password", {"current_password": "wrong", "new_password": "eight paper lamps"})
    ada.delete("/v1/accounts/me?unknown=1")
    ada.delete("/v1/accounts/me")


def notifications(client: FlaskClient) -> None:
    ada, path = Person.sign_up(client, "ada"), "/v1/accounts/me/push"
    for body in ({"platform": "fcm", "token": "a b"}, {"platform": "fcm", "token": "ab", "topics": ["news"]}):
        ada.put(path, body)
    ada.get(path)
    ada.delete(path)
    ada.delete(path)
    ada.get(path)
    sent = {"topics": ["news"], "title": "New"}
    ada.post("/v1/admin/push", sent)
    ada.set_roles("admin")
    ada.log_in()
    ada.post("/v1/admin/push", sent)


def tokens(client: FlaskClient) -> None:
    ada = Person.sign_up(client, "ada")
    other = ada.log_in()["session_id"]
    ada.log_in()
    ada.post("/auth", {"username": "ada", "password": "wrong"})
    ada.post("/auth", {"username": "ada"})
    ada.post("/auth/refresh", {"refresh_token": ada.tokens["refresh_token"]})
    ada.post("/auth/refresh", {"refresh_token": "none.such"})
    ada.post("/auth/refresh", {})
    ada.delete(f"/v1/accounts/me/sessions/{other}")
    ada.delete(f"/v1/accounts/me/sessions/{other}")
    ada.post("/auth/logout", {"everywhere": "yes"})
    ada.post("/auth/logout")
    ada.post("/auth/logout")


def guests(client: FlaskClient) -> None:
    ada, guest = Person.sign_up(client, "ada"), Person(client)
    tokens = guest.post("/auth/guest", {"device": "phone"}).json
    guest.post("/auth/guest", {"device": 1})
    guest.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    for name in ("ada", "x", "grace", "grace"):
        guest.put("/v1/accounts/me/username", {"username": name, "password": PASSWORD})
    ada.post("/v1/accounts/me/merge", {"guest_refresh_token": tokens["refresh_token"]})


def second_factors(client: FlaskClient) -> None:
    ada, totp = Person.sign_up(client, "ada"), "/v1/accounts/me/totp"
    ada.get(totp)
    ada.post(totp, {"code": 1})
    ada.post(f"{totp}/confirmation", {"code": "wrong"})
    ada.post(f"{totp}/recovery-codes")
    ada.delete(totp)
    app = pyotp.TOTP(ada.post(totp).json["secret"])
    codes = ada.post(f"{totp}/confirmation", {"code": app.now()}).json["recovery_codes"]
    ada.get(totp)
    challenge = ada.post("/auth", {"username": "ada", "password": PASSWORD}).json["challenge"]
    for code in ("wrong", codes[0]):
        ada.post("/auth/second-factor", {"challenge": challenge, "code": code})
    ada.post(f"{totp}/recovery-codes")
    ada.delete(totp)


def addresses(client: FlaskClient) -> None:
    ada, mails, me = Person.sign_up(client, "ada"), Mailbox(client.application), "/v1/accounts/me"

    def sent() -> str:
        return mails.collect()[-1].text

    def code() -> str:
        found = re.search(r"\b[2-9A-Z]{8}\b", sent())
        assert found
        return found[0]

    ada.put(f"{me}/email", {"email": "ada@example.com"})
    ada.post(f"{me}/email/verification", {"code": code()})
    ada.post(f"{me}/email/verification", {"code": "wrong"})
    ada.put(f"{me}/email", {"email": "ada"})
    confirmed = {"email": "ada@example.com", "new_password": "seven paper lamps"}
    for path in ("/auth/password-reset", "/auth/code"):
        ada.post(path, {"email": "nobody@example.com"})
        ada.post(path, {"email": 1})
        ada.post(path, {"email": "ada@example.com"})
        body = confirmed if path.endswith("reset") else {"email": "ada@example.com"}
        ada.post(f"{path}/confirmation", {**body, "code": code()})
        ada.post(f"{path}/confirmation", {**body, "code": "wrong"})
    for page in ("verify", "reset", "join", "done", "style.css"):
        ada.get(f"/account/{page}?unknown=1")
        ada.client.get(f"/account/{page}")
    for page in ("verify", "reset"):
        ada.client.get(f"/account/{page}?token=x")
        ada.client.get(f"/account/{page}")
        ada.client.post(f"/account/{page}", data={"csrf": ""})
        ada.client.post(f"/account/{page}", data={"unknown": "x"})


def records(collection: str) -> Callable[[FlaskClient], None]:
    def walk(client: FlaskClient) -> None:
        ada, bob = Person.sign_up(client, "ada"), Person.sign_up(client, "bob")
        examples, path = Examples(ada), f"/v1/{collection}"
        body = {**examples.body(collection), "id": "one"}
        ada.post(path, {**body, "readers": [bob.id]})
        ada.post(path, body)
        ada.post(path, {"owner": "eve"})
        ada.post(path, data="{", headers={"Content-Type": "application/json"})
        ada.post(path, data="title=One", headers={"Content-Type": "text/plain"})
        ada.post(path, {"title": "x" * 1_100_000})
        ada.post(path, examples.body(collection))
        ada.get(path, query_string={"limit": 1, "count": "true", "sort": "-updated_at"})
        ada.get(path, query_string={"where": "{"})
        ada.get(path, query_string={"limit": 1000})
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            sent = examples.body(collection) if method in ("PATCH", "PUT") else None
            ada.send(method, f"{path}/new" if method == "PUT" else f"{path}/none-such", sent)
            bob.send(method, f"{path}/one", sent)
            Phone(client).send(method, f"{path}/one", sent)
        changed = examples.changeable(collection, body)
        ada.patch(f"{path}/one", changed, headers={"If-Match": '"1"'})
        ada.patch(f"{path}/one", changed, headers={"If-Match": '"1"'})
        ada.patch(f"{path}/one", {"unknown": 1})
        ada.put(f"{path}/one", body)
        ada.put(f"{path}/one", body, headers={"If-None-Match": "*"})
        ada.put(f"{path}/one", {"unknown": 1})
        ada.delete(f"{path}/one", headers={"If-Match": '"1"'})
        ada.delete(f"{path}/one")
        ada.delete(f"{path}/one")

    return walk


def members_of_groups(client: FlaskClient) -> None:
    ada, bob = Person.sign_up(client, "ada"), Person.sign_up(client, "bob")
    ada.get("/v1/accounts", query_string={"username": "bob"})
    ada.get("/v1/accounts")
    ada.post("/v1/groups", {"id": "one", "name": "One"})
    path = "/v1/groups/one/members"
    bob.get(path)
    ada.post(path, {"account": bob.id})
    ada.post(path, {"account": bob.id, "role": "member"})
    bob.post(path, {"account": ada.id})
    ada.post(path, {"account": "nobody"})
    ada.post(path, {"role": "boss"})
    ada.get(path)
    invitations_to_a_group(ada, bob)
    ada.delete(f"{path}/me")
    ada.delete(f"{path}/{bob.id}")
    bob.delete(f"{path}/me")
    ada.delete(f"{path}/{bob.id}")


def invitations_to_a_group(ada: Person, bob: Person) -> None:
    path = "/v1/groups/one/invitations"
    made = ada.post(path, {"uses": 2}).json
    ada.post(path, {"uses": 0})
    bob.post(path, {})
    ada.post(path, {"email": "mina@example.org"})
    ada.get(path)
    bob.get(path)
    bob.post(f"/v1/invitations/{made['code']}")
    Person.sign_up(ada.client, "cat").post(f"/v1/invitations/{made['code']}")
    bob.post("/v1/invitations/none-such")
    ada.delete(f"{path}/{made['id']}")
    ada.delete(f"{path}/{made['id']}")
    bob.delete(f"{path}/none-such")


def a_batch(client: FlaskClient) -> None:
    ada = Person.sign_up(client, "ada")
    parts = [
        {"method": "POST", "path": "/v1/notes", "body": {"title": "One"}},
        {"method": "GET", "path": "/v1/notes/none-such"},
    ]
    ada.post("/v1/batch", {"requests": parts})
    ada.post("/v1/batch", {"requests": parts, "atomic": True})
    ada.post("/v1/batch", {"requests": [{"method": "TRACE", "path": "/auth"}]})
    Phone(client).post("/v1/batch", {"requests": []})


def the_service(client: FlaskClient) -> None:
    pages = ("/", "/v1", "/docs", "/docs/", "/docs/problems")
    for path in (*pages, "/health/live", "/health/ready", "/metrics", "/openapi.json"):
        client.get(path)
        client.get(path, query_string={"unknown": 1})
    client.get("/.well-known/jwks.json")


def a_part_of_a_record(client: FlaskClient) -> None:
    ada = Person.sign_up(client, "ada")
    ada.make_note(id="one")
    ada.get("/v1/notes/one", query_string={"fields": "title"})
    ada.get("/v1/notes", query_string={"fields": "title"})


def an_expanded_reference(client: FlaskClient) -> None:
    ada = Person.sign_up(client, "ada")
    ada.make_note(id="one", notebook=ada.make_notebook()["id"])
    ada.get("/v1/notes/one", query_string={"expand": "notebook"})
    ada.get("/v1/notes", query_string={"expand": "notebook"})


def a_record_that_did_not_change(client: FlaskClient) -> None:
    ada = Person.sign_up(client, "ada")
    ada.make_note(id="one")
    ada.get("/v1/notes/one", headers={"If-None-Match": '"1"'})


def a_retry(client: FlaskClient) -> None:
    ada = Person.sign_up(client, "ada")
    for title in ("One", "One", "Two"):
        ada.post("/v1/notes", {"title": title}, headers={"Idempotency-Key": "key"})


WALKS: dict[str, Callable[[FlaskClient], None]] = {
    "own account": own_account,
    "notifications": notifications,
    "tokens": tokens,
    "guests": guests,
    "addresses": addresses,
    "second factors": second_factors,
    **{document._meta["collection"]: records(document._meta["collection"]) for document in RECORDS},
    "members": members_of_groups,
    "batch": a_batch,
    "service": the_service,
    "fields": a_part_of_a_record,
    "expand": an_expanded_reference,
    "not modified": a_record_that_did_not_change,
    "retry": a_retry,
}


def answers(app: Flask, *names: str) -> list[TestResponse]:
    """All answers of these walks, each on an empty database."""
    client = Recorder(app, TestResponse)
    for name in names:
        for document in indexes.document_classes(EVERY):
            document._get_collection().delete_many({})
        WALKS[name](client)
    return client.__dict__["seen"]


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    return openapi.document(app)


@pytest.mark.parametrize("name", WALKS)
def test_every_answer_is_what_the_openapi_document_says(app: Flask, document: dict[str, Any], name: str) -> None:
    wrong = {
        (answer.request.method, answer.request.path, answer.status_code, complaint)
        for answer in answers(app, name)
        for complaint in complaints(app, document, answer)
    }
    assert wrong == set()


NOT_WALKED = {
    **{path: "for people, behind a cookie: tests/test_console.py" for _, path, _ in CONSOLE_ROUTES},
    "/docs/<path:path>": "files of Swagger UI",
    "/.well-known/jwks.json": "404 while the key is a secret",
    "/auth/providers/<name>": "needs an issuer: tests/test_providers.py",
    "/auth/providers/exchange": "needs an issuer: tests/test_web_sign_in.py",
    "/auth/providers/<name>/start": "needs an issuer: tests/test_web_sign_in.py",
    "/auth/providers/<name>/callback": "needs an issuer: tests/test_web_sign_in.py",
    "/v1/accounts/me/identities": "needs an issuer: tests/test_identities.py",
    "/v1/accounts/me/identities/<id>": "needs an issuer: tests/test_identities.py",
    **dict.fromkeys(
        (
            *(f"/v1/accounts/me/passkeys{end}" for end in ("", "/options", "/<id>")),
            "/auth/passkeys",
            "/auth/passkeys/options",
        ),
        "needs a domain: tests/test_passkeys.py",
    ),
    **dict.fromkeys(
        (
            "/v1/admin/webhooks",
            *(f"/v1/admin/webhooks/<id>{end}" for end in ("", "/secret", "/ping", "/deliveries")),
            "/v1/admin/webhooks/<id>/deliveries/<delivery>/repeat",
        ),
        "needs a real MongoDB: tests/test_webhooks.py",
    ),
    "/v1/changes": "needs a recorder: tests/test_changes.py",
    "/v1/files": "the streams make them: tests/test_files.py",
    "/v1/files/<id>": "the streams make them: tests/test_files.py",
    "/v1/files/<id>/links": "of files, which the streams make: tests/test_file_links.py",
    "/v1/files/<id>/content": "the streams answer: tests/test_files.py",
    "/v1/live": "the streams answer: tests/test_live.py",
    "/v1/live/tickets": "needs a real MongoDB: tests/test_live.py",
    "/v1/accounts/me/merge": "needs a real MongoDB: tests/test_guests.py",
}
"""The routes of sync need one too: tests/test_watermelon.py, tests/test_rxdb.py."""


def test_the_walks_come_by_every_route_with_success_and_with_failure(app: Flask) -> None:
    seen = {
        (answer.request.method, rule_of(app, answer).rule, answer.status_code < 400) for answer in answers(app, *WALKS)
    }
    due = {
        (method, rule.rule, good)
        for method, rule in routes(app)
        if rule.rule not in NOT_WALKED and not rule.rule.startswith("/v1/sync/")
        for good in (True, False)
    }
    assert due - seen == set()


# The door for writes

WRITES = re.compile(r"(insert|update|delete|replace)_(one|many)|find_one_and_\w+|bulk_write")
BESIDE_THE_DOOR = {
    "service/records/store.py": "the door itself",
    "service/mongo": "the driver, by which it writes",
    "service/upkeep/file_bytes.py": "it is a part of a restore",
    "service/upkeep/backup.py": "a restore fills collections that nobody reads yet, and gives them their names",
}
OTHER_DOCUMENTS = {document.__name__ for document in SYSTEM} | {"cls"}
"""Document classes that are no record types; `cls` is one of them in a method of its own."""


def writes_to_records(path: Path) -> Iterator[str]:
    """What in a module writes to a collection that is not, by its name, that of another document."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        written = ast.unparse(node.func.value)
        if WRITES.fullmatch(node.func.attr) and written.removesuffix("._get_collection()") not in OTHER_DOCUMENTS:
            yield f"{short(path)}:{node.lineno} {written}.{node.func.attr}"
        if written == "driver" and node.func.attr in ("insert", "change"):
            target = ast.unparse(node.args[0]).removesuffix("._get_collection()")
            if target not in OTHER_DOCUMENTS:
                yield f"{short(path)}:{node.lineno} driver.{node.func.attr}({target})"


def test_records_are_written_through_one_door_alone() -> None:
    others = [path for path in MODULES if not short(path).startswith(tuple(BESIDE_THE_DOOR))]
    assert [write for path in others for write in writes_to_records(path)] == []
    assert list(writes_to_records(ROOT / "service/records/store.py"))


# Sessions

OPEN = {"service/identity/security.py": "opened", "service/resources/guests.py": "post"}
"""Who opens sessions, and in which function: what asks for a second factor, and what makes an account without one."""


def test_sessions_are_opened_where_a_second_factor_is_asked_for() -> None:
    found = {}
    for path in MODULES:
        for function in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)):
            called = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
            if any(name.endswith("sessions.open") for name in called):
                found[short(path)] = function.name
    assert found == OPEN


def test_what_opens_sessions_is_called_by_what_has_seen_both_factors() -> None:
    tree = ast.parse((ROOT / "service/identity/security.py").read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    callers = {one.name for one in functions if "self.opened(" in ast.unparse(one)}
    assert callers == {"enter", "enter_by_second_factor", "enter_by_passkey"}
    assert not [short(path) for path in MODULES if "security().opened(" in path.read_text()]


# Indexes


def led_by_access(document: type[Record]) -> list[list[tuple[str, Any]]]:
    """The keys of the indexes that are led by who may read, without that first key."""
    keys = [list(model.document["key"].items()) for model in EVERY.of(document).indexes]
    return [rest for first, *rest in keys if first == ("access", ASCENDING)]


SORTS = [(document, sort) for document in RECORDS for sort in document._meta["sorts"]]
FILTERS = [(document, path) for document in RECORDS for path in document._meta["filters"]]


@pytest.mark.parametrize(("document", "sort"), SORTS)
def test_every_declared_sort_has_an_index(document: type[Record], sort: str) -> None:
    keys = list(EVERY.of(document).sorts[sort].keys)
    backwards = [(name, -direction) for name, direction in keys]
    assert any(index in (keys, backwards) for index in led_by_access(document))


@pytest.mark.parametrize("document", RECORDS)
def test_every_declared_point_and_search_has_an_index(document: type[Record]) -> None:
    points = [path.stored for path in EVERY.of(document).filters.values() if "$near" in path.operators]
    assert all([(point, "2dsphere")] in led_by_access(document) for point in points)
    words = [model.document for model in EVERY.of(document).indexes if model.document["name"] == "search_words"]
    assert [list(model["key"]) for model in words] == ([["search_words.w"]] if document._meta["search"] else [])


def stages(plan: Any) -> Iterator[str]:
    """The names of all stages of a query plan."""
    if isinstance(plan, dict):
        yield from [plan["stage"]] if "stage" in plan else []
        for part in plan.values():
            yield from stages(part)
    elif isinstance(plan, list):
        for part in plan:
            yield from stages(part)


def explained(document: type[Record], args: dict[str, str]) -> set[str]:
    asked = parser_of(document).parse(args, "ada", b"key")
    condition = {"$and": [{"access": {"$in": ["o:ada", "r:ada"]}}, asked.where]}
    cursor = document._get_collection().find(
        condition, sort=list(asked.sort.keys), limit=asked.limit, collation=asked.sort.bson or None
    )
    return set(stages(cursor.explain()["queryPlanner"]["winningPlan"]))


@pytest.mark.real
@pytest.mark.parametrize(("document", "sort"), SORTS)
def test_mongodb_takes_the_index_of_a_sort(ada: Person, document: type[Record], sort: str) -> None:
    found = explained(document, {"sort": sort})
    assert "IXSCAN" in found
    assert not found & {"SORT", "COLLSCAN"}


@pytest.mark.real
@pytest.mark.parametrize(("document", "path"), FILTERS)
def test_mongodb_reads_no_whole_collection_for_a_filter(ada: Person, document: type[Record], path: str) -> None:
    found = explained(document, {"where": f'{{"{path}": {{"$exists": true}}}}'})
    assert "IXSCAN" in found
    assert not found & {"SORT", "COLLSCAN"}


# Problems


def test_every_problem_is_explained_on_its_page(phone: Phone) -> None:
    page = phone.get("/docs/problems").text
    for problem in all_problems():
        assert f'id="{problem.code}"' in page
        assert problem.meaning.split("`")[0].split("'")[0] in page


def test_every_problem_is_explained_in_words_of_its_own() -> None:
    problems = all_problems()
    assert len({problem.meaning for problem in problems}) == len(problems)
    assert all(problem.meaning.endswith(".") and problem.__doc__ for problem in problems)


# Measures

LONG_FOR_A_REASON: dict[str, str] = {"service/core/errors.py": "one table of all problems, which grows with each"}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a module, each with its number of lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{short(path)}:{node.name}", (node.end_lineno or 0) - node.lineno + 1


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_a_long_file_has_a_reason() -> None:
    assert {short(path) for path in MODULES if lines(path) > 450} <= set(LONG_FOR_A_REASON)
    assert all(lines(path) < 600 for path in MODULES)


def test_no_function_is_over_50_lines() -> None:
    assert [named for path in MODULES for named in functions(path) if named[1] > 50] == []


def test_files_and_functions_are_short_on_the_whole() -> None:
    lengths = [length for path in MODULES for _, length in functions(path)]
    assert statistics.median(lines(path) for path in MODULES) <= 160
    assert statistics.median(lengths) <= 10
    assert statistics.quantiles(lengths, n=10)[-1] <= 25


SHARED_NAMES = {
    "init_app": "Flask's name for what sets up an app",
    "BATCH": "most documents that one operation touches",
    "MAC_BYTES": "the length of a message authentication code",
    "Result": "what a function that is handed over returns",
    "change": "one document, by one conditional operation",
    "WSGI": "an application of WSGI",
    "UNAUTHORIZED": "MongoDB's codes for it",
    "KEPT_FOR": "how long documents of a class are kept",
    "advice": "what the person who starts the service should know",
    "mark_empty": "that in a collection without documents nothing is left to bring to this version",
    "ATTEMPTS": "how often something is tried",
    "ENDING": "the signals that end a process",
    "SPARE": "what is left over on purpose",
    "options": "what a program or a library is started with",
    "serve": "the work of a program, until a signal comes",
    "load_worker": "what one of Granian's workers serves",
    "LOOK": "seconds between two looks",
}
"""Names that several modules define at their top, for the same thing."""


def top_level_names(path: Path) -> Iterator[str]:
    """What a module defines at its top."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_a_name_means_one_thing() -> None:
    names = [name for path in MODULES for name in set(top_level_names(path))]
    assert {name for name in names if names.count(name) > 1} - set(SHARED_NAMES) == set()


def test_the_glossary_is_in_order_and_says_where_each_word_lives() -> None:
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|.*\| (.+) \|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    assert [word for word, _ in rows] == sorted(word for word, _ in rows)
    for word, place in rows:
        path = place.strip("`")
        linked = re.fullmatch(r"\[.+\]\((.+)\)", path)
        named = (
            ROOT / "docs" / linked[1] if linked else ROOT / ("" if path.startswith("service/") else "service") / path
        )
        assert named.exists(), (word, place)


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "HACK"])
def test_nothing_is_left_for_later(word: str) -> None:
    assert [short(path) for path in MODULES if re.search(rf"\b{word}\b", path.read_text())] == []


def test_the_service_prints_nothing() -> None:
    calls = [node for path in MODULES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"] == []


EXCEPTIONS = {
    "type: ignore": r"# type: ignore\[[\w-]+(, ?[\w-]+)*\]",
    "noqa": r"# noqa: [A-Z]+\d+",
    "no cover": r"# pragma: no cover +\w+",
}


def comments(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        yield from (token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT)


@pytest.mark.parametrize("word", EXCEPTIONS)
def test_an_exception_from_a_rule_is_specific(word: str) -> None:
    vague = [
        (short(path), comment)
        for path in SOURCES
        for comment in comments(path)
        if word in comment and not re.search(EXCEPTIONS[word], comment)
    ]
    assert vague == []
