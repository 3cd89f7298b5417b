"""`/docs` in a real browser, against a real process: it loads from nowhere else, and "Try it out" works."""

import email
import email.policy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from pymongo import MongoClient

from service.core.errors import all_problems
from service.serve.ports import free_port
from tests.client import PASSWORD

ROOT = Path(__file__).parent.parent
HOST = "api.example.test"
"""A name that only this browser knows: pages may behave differently on 127.0.0.1, and no other host can be reached."""
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    f"--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND",
]


def chromium() -> str:
    """Where Chromium is. A test that needs it and finds none fails: a skipped one would look like a good one."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("there is no Chromium: install the package `chromium`, or have `google-chrome` on the PATH")
    return found


def test_a_missing_chromium_fails_and_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="install the package `chromium`"):
        chromium()


# The service and the browser


def wait_until_ready(base: str, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            if http().get(f"{base}/health/ready", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"the service does not start: {process.communicate()[1]}")


def http() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxy for 127.0.0.1
    return session


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service writes, mails too."""
    return tmp_path_factory.mktemp("var")


@pytest.fixture(scope="module")
def service(mongodb_uri: str, var: Path) -> Iterator[str]:
    """The address of a running service, on a database of its own in the MongoDB of the run."""
    uri = urlsplit(mongodb_uri)._replace(path="/madang-browser").geturl()
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")}
    environ |= {"SERVICE_MONGODB_URI": uri, "SERVICE_VAR": str(var), "SERVICE_APP_LINK": "myapp://home"}
    environ["SERVICE_PUBLIC_URL"] = f"http://{HOST}:{port}"
    command = [sys.executable, "run.py", "--port", str(port), "--workers", "1"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.communicate(timeout=30)
    with MongoClient(uri) as client:
        client.drop_database("madang-browser")


@pytest.fixture(scope="module")
def token(service: str) -> str:
    account = {"username": "ada", "password": PASSWORD}
    assert http().post(f"{service}/v1/accounts", json=account).status_code == 201
    return str(http().post(f"{service}/auth", json=account).json()["access_token"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        yield found
        found.close()


class Visit:
    """A page of the service, with everything that it asked for and complained about."""

    def __init__(self, page: Page, service: str) -> None:
        self.page = page
        self.origin = service.replace("127.0.0.1", HOST)
        self.requested: list[str] = []
        self.complaints: list[str] = []
        page.set_default_timeout(60_000)
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("requestfailed", lambda request: self.complaints.append(f"{request.url}: {request.failure}"))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path: str) -> Any:
        answer = self.page.goto(self.origin + path, wait_until="networkidle")
        assert answer is not None
        assert answer.status == 200
        return answer

    def open_docs(self) -> None:
        self.open("/docs")
        assert self.complaints == []
        self.page.locator(".opblock").first.wait_for()

    def authorize(self, scheme: str, typed: dict[str, str]) -> None:
        """Use the "Authorize" dialog as a person does: by a token, or by name and password."""
        self.page.get_by_role("button", name="Authorize").first.click()
        dialog = self.page.locator(".modal-ux")
        form = dialog.locator(".auth-container").filter(has=self.page.locator("h4", has_text=scheme))
        for id, text in typed.items():
            form.locator(f"#{id}").fill(text)
        form.locator("button.authorize").click()
        form.locator("button", has_text="Logout").wait_for()
        dialog.get_by_role("button", name="Close").last.click()

    def try_out(self, operation: str, body: Any = None, **parameters: str) -> tuple[int, Any]:
        """Use "Try it out" on an operation; return status and body as the page shows them."""
        block: Locator = self.page.locator(f'[id$="-{operation}"]')
        block.locator(".opblock-summary-control").click()
        block.get_by_role("button", name="Try it out").click()
        if body is not None:
            block.locator("textarea.body-param__text").fill(json.dumps(body))
        for name, text in parameters.items():
            block.locator(f'tr[data-param-name="{name}"] input[type="text"]').fill(text)
        block.get_by_role("button", name="Execute").click()
        row = block.locator(".live-responses-table tbody tr.response").first
        status = int(row.locator(".response-col_status").inner_text().split()[0])
        return status, json.loads(row.locator(".highlight-code code").first.inner_text())


@pytest.fixture
def visit(browser: Browser, service: str) -> Iterator[Visit]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    yield Visit(page, service)
    page.close()


# What a person does


@pytest.mark.browser
def test_the_docs_load_from_the_service_alone(visit: Visit) -> None:
    visit.open_docs()
    assert {f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" for url in visit.requested} == {visit.origin}
    assert visit.complaints == []


@pytest.mark.browser
def test_the_docs_show_every_operation(visit: Visit, service: str) -> None:
    visit.open_docs()
    paths = http().get(f"{service}/openapi.json").json()["paths"].values()
    operations = sum(len(set(path) - {"parameters"}) for path in paths)
    assert visit.page.locator(".opblock").count() == operations


@pytest.mark.browser
def test_a_note_is_made_and_listed_with_try_it_out(visit: Visit, token: str) -> None:
    visit.open_docs()
    visit.authorize("bearer", {"auth-bearer-value": token})
    status, made = visit.try_out("createNote", {"title": "From the page", "tags": ["docs"]})
    assert (status, made["title"], made["revision"]) == (201, "From the page", 1)
    status, page = visit.try_out("listNotes")
    assert (status, page["items"]) == (200, [made])
    assert visit.complaints == []


@pytest.mark.browser
def test_name_and_password_authorize(visit: Visit, token: str) -> None:
    """The token of `token` is not used: its fixture signs Ada up."""
    visit.open_docs()
    visit.authorize("login", {"oauth_username": "ada", "oauth_password": PASSWORD})
    status, account = visit.try_out("getOwnAccount")
    assert (status, account["username"]) == (200, "ada")
    assert visit.complaints == []


@pytest.mark.browser
def test_what_is_prefilled_is_taken(visit: Visit, token: str) -> None:
    visit.open_docs()
    visit.authorize("bearer", {"auth-bearer-value": token})
    for operation in ("logIn", "createNotebook", "changeOwnAccount", "sendBatch"):
        assert visit.try_out(operation)[0] in (200, 201)
    status, made = visit.try_out("createNote")
    assert status == 201
    status, changed = visit.try_out("changeNote", id=made["id"])
    assert (status, changed["revision"]) == (200, 2)
    status, page = visit.try_out("listNotes")
    assert (status, changed in page["items"]) == (200, True)
    assert visit.complaints == []


@pytest.mark.browser
def test_a_query_is_tried_out(visit: Visit, token: str) -> None:
    visit.open_docs()
    visit.authorize("bearer", {"auth-bearer-value": token})
    status, page = visit.try_out("listNotes", where='{"title": "no such title"}')
    assert (status, page["items"]) == (200, [])


@pytest.mark.browser
def test_a_search_is_tried_out(visit: Visit, token: str) -> None:
    visit.open_docs()
    visit.authorize("bearer", {"auth-bearer-value": token})
    status, page = visit.try_out("listNotes", search="nosuchword")
    assert (status, page) == (200, {"items": [], "next": None})


@pytest.mark.browser
def test_try_it_out_without_a_token_is_refused(visit: Visit) -> None:
    visit.open_docs()
    status, problem = visit.try_out("listNotes")
    assert (status, problem["code"]) == (401, "not_authenticated")


@pytest.mark.browser
def test_a_script_from_elsewhere_does_not_run_on_the_docs(visit: Visit) -> None:
    visit.open_docs()
    visit.page.evaluate("""
        const script = document.createElement("script");
        script.textContent = "window.intruder = true";
        document.body.append(script);
    """)
    assert visit.page.evaluate("window.intruder") is None
    assert any("Content Security Policy" in complaint for complaint in visit.complaints)


@pytest.mark.browser
def test_the_page_of_problems_is_shown(visit: Visit) -> None:
    visit.open("/docs/problems")
    headings = visit.page.locator("h2").all_inner_texts()
    assert headings == [f"{problem.status} {problem.code}" for problem in all_problems()]
    assert visit.complaints == []


# The pages that links of mails lead to


def link_to(var: Path, address: str, path: str) -> str:
    """The link in the mail to an address, from its path on."""

    def found() -> str | None:
        for file in (var / "mail").glob("*.eml"):
            mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
            text = mail.get_body(("plain",)).get_content()
            link = re.search(rf"{path}\?token=[\w-]+", text)
            if mail["To"] == address and link:
                return link[0]
        return None

    return waited_for(found)


def waited_for(look: Callable[[], str | None]) -> str:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.1)
    pytest.fail("nothing came")


PHONE = {"width": 360, "height": 740}
ARTEFACTS = os.environ.get("TEST_ARTEFACTS")
"""Folder for the screenshots of the pages; without it they go with the files of the run."""


@pytest.fixture
def small(browser: Browser, service: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Visit]:
    """A phone without JavaScript, in Korean."""
    context = browser.new_context(viewport=PHONE, java_script_enabled=False, locale="ko-KR")
    yield Visit(context.new_page(), service)
    context.close()


def photographed(visit: Visit, name: str, folder: Path) -> None:
    """Keep a screenshot, and see that the page fits a phone."""
    place = Path(ARTEFACTS) if ARTEFACTS else folder
    place.mkdir(parents=True, exist_ok=True)
    assert visit.page.screenshot(path=place / f"{name}.png", full_page=True)
    width = visit.page.locator("main").bounding_box()["width"]
    assert width <= PHONE["width"]
    assert all(box["height"] >= 44 for box in map(Locator.bounding_box, visit.page.locator("button, a.button").all()))


@pytest.mark.browser
def test_an_address_is_verified_and_a_password_set_by_keyboard_on_a_phone_without_javascript(
    small: Visit, service: str, var: Path, tmp_path: Path
) -> None:
    account = {"username": "mina", "password": PASSWORD, "locale": "ko"}
    assert http().post(f"{service}/v1/accounts", json=account).status_code == 201
    token = http().post(f"{service}/auth", json={"username": "mina", "password": PASSWORD}).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    address = {"email": "mina@example.org"}
    assert http().put(f"{service}/v1/accounts/me/email", json=address, headers=headers).status_code == 202

    small.open(link_to(var, address["email"], "/account/verify"))
    assert urlsplit(small.page.url).query == ""
    photographed(small, "verify", tmp_path)
    small.page.keyboard.press("Tab")
    small.page.keyboard.press("Enter")
    small.page.wait_for_url("**/account/done")
    assert small.page.get_by_role("link").get_attribute("href") == "myapp://home"
    photographed(small, "verified", tmp_path)
    assert http().get(f"{service}/v1/accounts/me", headers=headers).json()["email_verified"] is True

    assert http().post(f"{service}/auth/password-reset", json=address).status_code == 202
    small.open(link_to(var, address["email"], "/account/reset"))
    small.page.get_by_label("새 비밀번호").fill("password1")
    small.page.keyboard.press("Enter")
    small.page.get_by_role("alert").wait_for()
    photographed(small, "reset", tmp_path)
    small.page.get_by_label("새 비밀번호").fill("three green boats")
    small.page.keyboard.press("Enter")
    small.page.wait_for_url("**/account/done")
    login = {"username": address["email"], "password": "three green boats"}
    assert http().post(f"{service}/auth", json=login).status_code == 200
    assert small.complaints == []


@pytest.mark.browser
def test_a_link_of_an_invitation_leads_into_the_app_on_a_phone_without_javascript(
    small: Visit, service: str, token: str, var: Path, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    group = http().post(f"{service}/v1/groups", json={"name": "Choir"}, headers=headers).json()["id"]
    invited = {"email": "jun@example.org"}
    made = http().post(f"{service}/v1/groups/{group}/invitations", json=invited, headers=headers)
    assert made.status_code == 201

    small.open(link_to(var, invited["email"], "/account/join"))
    assert urlsplit(small.page.url).query == ""
    assert small.page.get_by_role("heading").inner_text() == "그룹에 초대되었습니다"
    secret = made.json()["link"].partition("token=")[2]
    assert small.page.get_by_role("link").get_attribute("href") == f"myapp://home?invitation={secret}"
    photographed(small, "join", tmp_path)
    assert small.complaints == []
