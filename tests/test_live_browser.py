"""The page of docs/live.md in a real browser: it shows notes of another origin's service, and follows them."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from service.serve.ports import free_port
from tests.conftest import ROOT
from tests.test_browser import chromium
from tests.test_processes import LIMITS, is_ready
from tests.test_run import ADA, Running, children, running, token_of
from tests.waiting import until

pytestmark = [pytest.mark.real, pytest.mark.browser]


def example() -> str:
    """The script of the page, as it stands in the documentation."""
    text = (ROOT / "docs" / "live.md").read_text()
    found = re.search(r"### In a browser\n.*?```javascript\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def origin() -> Iterator[tuple[str, dict[str, str]]]:
    """A server of pages, and its pages by path."""
    pages: dict[str, str] = {}

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path)
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((found or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", pages
    server.shutdown()
    thread.join()
    server.server_close()


def page_of(service: Running, token: str) -> str:
    base = f"http://127.0.0.1:{service.port}"
    script = example().replace('"/v1/', f'"{base}/v1/').replace("`/v1/", f"`{base}/v1/")
    return f"""<!doctype html><title>Notes</title><ul id="notes"></ul><script>
const token = {json.dumps(token)};
function show(notes) {{
  const item = (note) => Object.assign(document.createElement("li"), {{ textContent: note.title }});
  document.getElementById("notes").replaceChildren(...[...notes.values()].map(item));
}}
{script}
follow();
</script>"""


def test_a_page_shows_notes_and_follows_them(tmp_path: Path, origin: tuple[str, dict[str, str]]) -> None:
    address, pages = origin
    limits = {**LIMITS, "CORS_ORIGINS": json.dumps([address])}
    with running(tmp_path, "--workers", "1", port=free_port(), **limits) as service, sync_playwright() as playwright:
        assert until(lambda: is_ready(service))
        assert service.send("POST", "/v1/accounts", ADA).status_code == 201
        token = token_of(service)
        assert until(lambda: service.send("GET", "/v1/changes", token=token).status_code == 200)
        pages["/"] = page_of(service, token)
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        mistakes: list[str] = []
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        with page.expect_response(re.compile(r"/v1/live\?")) as opened:
            page.goto(address)
        assert opened.value.status == 200
        time.sleep(0.5)
        service.send("POST", "/v1/notes", {"id": "milk", "title": "Milk"}, token)
        service.send("POST", "/v1/notes", {"id": "bread", "title": "Bread"}, token)
        page.wait_for_function("document.querySelectorAll('li').length === 2", timeout=10_000)
        service.send("PATCH", "/v1/notes/milk", {"title": "Oat milk"}, token)
        service.send("DELETE", "/v1/notes/bread", token=token)
        page.wait_for_function("document.getElementById('notes').textContent === 'Oat milk'", timeout=10_000)
        # The ticket is spent: for another connection the page gets another one.
        with page.expect_response(re.compile(r"/v1/live\?"), timeout=20_000) as again:
            kill_streams(service)
            service.send("POST", "/v1/notes", {"id": "eggs", "title": "Eggs"}, token)
        assert again.value.status == 200
        page.wait_for_function("document.querySelectorAll('li').length === 2", timeout=10_000)
        assert mistakes == []
        browser.close()


def kill_streams(service: Running) -> None:
    """Lose every live connection."""
    for pid in children(service.pid("madang-streams")):
        os.kill(pid, signal.SIGKILL)
