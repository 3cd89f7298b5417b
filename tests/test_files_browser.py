"""Files in real Chromium: none runs a script, however it is named, sent or opened; a player finds its place in one.

Each attempt runs where a server believes its client, which shows that it is one.
"""

import io
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Request, Response
from playwright.sync_api import Error as BrowserError
from pymongo import MongoClient

from tests.conftest import ROOT
from tests.films import ACROSS_OF_FILM, film, second_of
from tests.images import quarters, segment, written
from tests.test_browser import HOST, browser
from tests.test_run import ADA, Running, running, token_of

__all__ = ["browser"]
pytestmark = [pytest.mark.real, pytest.mark.browser]

RUN = "document.title='ran';new Image().src='/ran';fetch('/ran');alert(1)"
"""What a script does that runs: it is seen by its requests, its title and its dialog."""
HTML = f"<!DOCTYPE html><html><body><script>{RUN}</script></body></html>".encode()
SVG = f'<svg xmlns="http://www.w3.org/2000/svg"><script>{RUN}</script></svg>'.encode()
XML = f'<r xmlns:h="http://www.w3.org/1999/xhtml"><h:script>{RUN}</h:script></r>'.encode()
SCRIPT = f"/*\n*/{RUN}".encode()
JPEG = written(quarters(), "JPEG")
COMMENTED = JPEG[:2] + segment(0xFE, HTML) + JPEG[2:]


class Attempt(NamedTuple):
    """Bytes, and what a client says of them, which a server that believes it says again."""

    body: bytes
    media_type: str
    name: str
    believed: str = ""

    @property
    def naive(self) -> str:
        """The Content-Type of a server that believes name and type."""
        return self.believed or self.media_type


ATTEMPTS = {
    "HTML": Attempt(HTML, "text/html", "a.html"),
    "HTML named and sent as a picture": Attempt(HTML, "image/png", "a.png", "text/html"),
    "SVG": Attempt(SVG, "image/svg+xml", "a.svg"),
    "SVG with an event": Attempt(SVG.replace(b"<svg ", b'<svg onload="alert(2)" '), "image/svg+xml", "a.svg"),
    "XHTML": Attempt(XML, "application/xhtml+xml", "a.xht"),
    "XML": Attempt(XML, "text/xml", "a.xml"),
    "XML, without a name that ends": Attempt(XML, "application/xml", "a"),
    "XSLT": Attempt(XML, "application/xslt+xml", "a.xslt", "text/xml"),
    "RDF": Attempt(XML, "application/rdf+xml", "a.rdf", "text/xml"),
    "MathML": Attempt(XML, "application/mathml+xml", "a.mathml", "text/xml"),
    "a schema": Attempt(XML, "application/xml", "a.xsd"),
    "a name that ends in a dot": Attempt(HTML, "text/html", "a.html."),
    "a name of two endings": Attempt(SVG, "image/svg+xml", "a.png.svg"),
    "an ending that nobody knows": Attempt(SVG, "image/svg+xml", "a.svg+xml"),
    "a type with a parameter": Attempt(HTML, "text/html;charset=utf-8", "a.png"),
    "a type in capitals": Attempt(HTML, "TEXT/HTML", "a.png"),
    "two types": Attempt(HTML, "image/png, text/html", "a.png"),
    "a type with more behind it": Attempt(HTML, "text/html; x", "a.png"),
    "UTF-16": Attempt(HTML.decode().encode("utf-16"), "text/html", "a.txt"),
    "HTML behind much text": Attempt(b" " * 20_000 + HTML, "text/html", "a.txt"),
    "HTML in a comment of a JPEG": Attempt(COMMENTED, "image/jpeg", "a.jpg", "text/html"),
    "HTML behind a GIF": Attempt(b"GIF89a\1\0\1\0\0\0\0;" + HTML, "image/gif", "a.gif", "text/html"),
    "HTML behind a BMP": Attempt(b"BM" + HTML, "image/bmp", "a.bmp", "text/html"),
    "HTML in a PDF": Attempt(b"%PDF-1.7\n" + HTML, "application/pdf", "a.pdf", "text/html"),
    "HTML in an MP3": Attempt(b"ID3\3\0\0\0\0\0\0" + HTML, "audio/mpeg", "a.mp3", "text/html"),
    "HTML in a film": Attempt(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + HTML, "video/mp4", "a.mp4", "text/html"),
}
SCRIPTS = {
    "a script": Attempt(SCRIPT, "text/javascript", "a.js"),
    "a script sent as text": Attempt(SCRIPT, "text/plain", "a.txt"),
    "a script sent as bytes": Attempt(SCRIPT, "application/octet-stream", "a"),
    "a script behind the end of a GIF": Attempt(b"GIF89a=1;" + SCRIPT, "application/octet-stream", "a.gif"),
}


class Elsewhere:
    """Another site: it gives each attempt as a server that believes its client, and puts any address into a page."""

    def __init__(self) -> None:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                kind, body = site.answers.get(self.path, ("text/plain", b""))
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Be silent."""

        self.answers: dict[str, tuple[str, bytes]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://{HOST}:{self.server.server_address[1]}"

    def give(self, kind: str, body: bytes) -> str:
        """Answer with this at an address of its own, and return that."""
        path = f"/{len(self.answers)}"
        self.answers[path] = (kind, body)
        return self.base + path

    def page(self, html: str) -> str:
        return self.give("text/html", f"<!DOCTYPE html><title>a page</title>{html}".encode())


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    site = Elsewhere()
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


@pytest.fixture(scope="module")
def service(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    uri = urlsplit(mongodb_uri)._replace(path="/madang-files-browser").geturl()
    limits = {"FILES_DIRECT_BYTES": str(2**25), "JWT_EXPIRATION_DELTA": "3600"}
    with running(tmp_path_factory.mktemp("var"), "--workers", "1", MONGODB_URI=uri, **limits) as found:
        assert found.send("POST", "/v1/accounts", ADA).status_code == 201
        yield found
    with MongoClient(uri) as client:
        client.drop_database("madang-files-browser")


@pytest.fixture(scope="module")
def token(service: Running) -> str:
    return token_of(service)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context(accept_downloads=True)
    yield found
    found.close()


def link_to(service: Running, token: str, attempt: Attempt) -> str:
    """The address of an uploaded file, for a browser that has no token."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": attempt.media_type, "Connection": "close"}
    named = {"Content-Disposition": f'attachment; filename="{attempt.name}"'}
    base = f"http://127.0.0.1:{service.port}"
    made = requests.post(f"{base}/v1/files", data=attempt.body, headers={**headers, **named}, timeout=30)
    assert made.status_code == 201, made.text
    link = service.send("POST", f"/v1/files/{made.json()['id']}/links", {}, token)
    parts = urlsplit(link.json()["url"])
    return f"http://{HOST}:{service.port}{parts.path}?{parts.query}"


class Opened:
    """A page in which something was opened: whether it was saved, and what shows that a script has run."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.signs: list[str] = []
        self.saved: list[str] = []
        context.on("request", self.asked)
        page = context.new_page()
        page.on("dialog", lambda dialog: (self.signs.append(dialog.message), dialog.dismiss()))
        page.on("download", lambda download: self.saved.append(download.suggested_filename))
        try:
            page.goto(url, wait_until="load", timeout=20_000)
        except BrowserError as error:
            if "Download is starting" not in error.message:
                raise
            self.is_page = False
        else:
            self.is_page = True
            if page.title() == "ran":
                self.signs.append("title")
        context.remove_listener("request", self.asked)
        page.close()

    def asked(self, request: Request) -> None:
        if urlsplit(request.url).path == "/ran":
            self.signs.append(request.url)


EMBEDDED = "<iframe src='{0}'></iframe><object data='{0}'></object><embed src='{0}'><img src='{0}'>"


@pytest.mark.parametrize("name", ATTEMPTS)
def test_no_file_runs_a_script_wherever_it_is_opened(
    context: BrowserContext, elsewhere: Elsewhere, service: Running, token: str, name: str
) -> None:
    attempt = ATTEMPTS[name]
    assert Opened(context, elsewhere.give(attempt.naive, attempt.body)).signs
    url = link_to(service, token, attempt)
    plain = Opened(context, url)
    assert (plain.signs, plain.is_page) == ([], False)
    shown = f"{url}&inline=true"
    for address in (shown, *(elsewhere.page(EMBEDDED.format(one)) for one in (url, shown))):
        assert Opened(context, address).signs == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_file_is_a_script_of_another_page(
    context: BrowserContext, elsewhere: Elsewhere, service: Running, token: str, name: str
) -> None:
    attempt = SCRIPTS[name]
    html = "<script src='{0}'></script>"
    assert Opened(context, elsewhere.page(html.format(elsewhere.give(attempt.naive, attempt.body)))).signs
    url = link_to(service, token, attempt)
    for more in ("", "&inline=true"):
        assert Opened(context, elsewhere.page(html.format(f"{url}{more}"))).signs == []


def test_the_page_of_attacks_names_each_attempt() -> None:
    page = (
        (ROOT / "docs/attacks.md").read_text().partition("### Files that would run a script")[2].partition("\n## ")[0]
    )
    assert re.findall(r"^\| (.+?) \| `", page, re.MULTILINE) == [*ATTEMPTS, *SCRIPTS]


def test_a_player_finds_its_place_in_a_film_without_the_rest_of_it(
    context: BrowserContext, elsewhere: Elsewhere, service: Running, token: str
) -> None:
    seconds, place = 20, 16
    body = film(seconds)
    url = link_to(service, token, Attempt(body, "video/webm", "film.webm"))
    asked: list[tuple[str, int]] = []

    def note(response: Response) -> None:
        if "/content" in response.url:
            asked.append((response.request.all_headers().get("range", ""), response.status))

    page = context.new_page()
    page.on("response", note)
    page.goto(elsewhere.page(f"<video src='{url}&inline=true' muted preload=metadata></video>"))
    seeked = f"""() => new Promise((done, failed) => {{
        const film = document.querySelector("video");
        film.onerror = () => failed(new Error(film.error.message));
        film.onseeked = () => done([film.duration, film.currentTime, film.videoWidth, film.readyState]);
        film.onloadedmetadata = () => {{ film.currentTime = {place}; }};
        if (film.readyState > 0) film.onloadedmetadata();
    }})"""
    duration, at, across, state = page.evaluate(seeked)
    assert (round(duration), round(at), across) == (seconds, place, ACROSS_OF_FILM)
    assert state >= 2  # there is a picture of that moment
    shown = Image.open(io.BytesIO(page.locator("video").screenshot()))
    assert second_of(shown) == place
    assert {status for _, status in asked} == {206}
    starts = [int(text.removeprefix("bytes=").split("-")[0]) for text, _ in asked]
    assert starts[0] == 0
    # It goes on near the place, and has not read up to there.
    assert any(abs(start - len(body) * place // seconds) < len(body) // 10 for start in starts)
