"""The console in real Chromium: whole journeys, and no text of a record that runs."""

import re
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page
from pymongo import MongoClient
from werkzeug.serving import make_server

from service.core.clock import now
from service.core.metrics import BUCKETS
from service.documents import Account, Measurement, OutboxItem, Record
from service.model.example import example_of
from service.model.registry import Registry
from service.outbox import items
from service.upkeep import indexes
from tests.client import PASSWORD, Person, make_verified
from tests.contrast import too_faint
from tests.gym import Gym, Visit
from tests.mailbox import Mailbox
from tests.test_browser import ARTEFACTS, HOST, PHONE, browser
from tests.test_run import Running, running
from tests.types import SHIPPED, new, schema_of
from tests.waiting import until

__all__ = ["browser"]
pytestmark = [pytest.mark.real, pytest.mark.browser]

NEW = "three green boats"


class Console:
    """A page in a browser, with all that it complains about."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base.replace("127.0.0.1", HOST)
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        page.set_default_timeout(10_000)
        page.on("request", lambda request: self.asked.add(urlsplit(request.url).netloc))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)

    def press(self, name: str) -> None:
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).last.click()

    def follow(self, name: str) -> None:
        with self.page.expect_navigation():
            self.page.get_by_role("link", name=name, exact=True).first.click()

    def photograph(self, name: str, folder: Path) -> None:
        """Keep a screenshot as a person would see it."""
        place = Path(ARTEFACTS) if ARTEFACTS else folder
        place.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=place / f"console-{name}.png")

    def sign_in(self, username: str, password: str = PASSWORD) -> None:
        self.open("/admin")
        self.page.get_by_label(re.compile("Username|사용자")).fill(username)
        self.page.get_by_label(re.compile("^(Password|비밀번호)$")).fill(password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**/admin")


# The journey


@pytest.fixture
def service(mongodb_uri: str, tmp_path: Path) -> Iterator[Running]:
    """A first start: with a database in which nothing is."""
    uri = urlsplit(mongodb_uri)._replace(path="/madang-console").geturl()
    with running(tmp_path / "var", "--workers", "1", MONGODB_URI=uri) as found:
        yield found
    with MongoClient(uri) as client:
        client.drop_database("madang-console")


def sign_up(service: Running, username: str) -> str:
    account = {"username": username, "password": PASSWORD}
    assert service.send("POST", "/v1/accounts", account).status_code == 201
    return str(service.send("POST", "/auth", account).json()["access_token"])


def first_link(service: Running) -> str:
    found = re.search(r"admin (http\S+/admin/first\?token=\S+)", service.said)
    assert found, service.said
    return found[1]


def test_from_the_first_start_to_a_record_made_shared_found_changed_in_conflict_deleted_and_restored(
    service: Running, browser: Browser, mongodb_uri: str, tmp_path: Path
) -> None:
    base = f"http://127.0.0.1:{service.port}"
    console = Console(browser.new_page(viewport={"width": 1200, "height": 900}), base)
    page, token = console.page, sign_up(service, "mina")

    link = first_link(service)
    console.open(link.removeprefix(base))
    assert urlsplit(page.url).query == ""
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill(NEW)
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin")
    console.photograph("overview", tmp_path)

    console.follow("notes")
    console.follow("New record")
    page.get_by_label(re.compile("^Owner")).fill("mina")
    page.get_by_label(re.compile("^title")).fill("Milk")
    console.press("Add to tags")
    page.get_by_label("tags 1").fill("shop")
    page.get_by_label("priority").fill("much")
    console.press("Save")
    assert page.locator("#in-priority-mistake").is_visible()
    console.photograph("form", tmp_path)
    page.get_by_label("priority").fill("2")
    console.press("Save")
    (note,) = service.send("GET", "/v1/notes", token=token).json()["items"]
    assert (note["title"], note["tags"], note["priority"]) == ("Milk", ["shop"], 2)

    reader = sign_up(service, "sora")
    shared = f"/v1/notes/{note['id']}"
    assert service.send("GET", shared, token=reader).status_code == 404
    console.follow("Edit")
    console.press("Add to readers")
    page.get_by_label("readers 1").fill(service.send("GET", "/v1/accounts/me", token=reader).json()["id"])
    console.press("Save")
    assert service.send("GET", shared, token=reader).json()["title"] == "Milk"

    console.open("/admin/records/notes")
    page.get_by_label(re.compile("^Owner")).fill("mina")
    page.get_by_label("Field 1").select_option("title")
    page.get_by_label("Value 1").fill("Milk")
    console.press("Show")
    assert page.get_by_role("row").count() == 2
    console.photograph("table", tmp_path)
    console.follow(note["id"])
    console.follow("Edit")
    service.send("PATCH", f"/v1/notes/{note['id']}", {"title": "Oat milk", "priority": 5}, token)
    page.get_by_label(re.compile("^title")).fill("Soy milk")
    console.press("Save")
    assert page.get_by_role("cell", name="Oat milk").is_visible()
    assert page.get_by_role("cell", name="Soy milk").is_visible()
    console.photograph("conflict", tmp_path)
    assert [text for text in console.complaints if "412" not in text] == []
    console.complaints.clear()
    console.press("Save")
    changed = service.send("GET", f"/v1/notes/{note['id']}", token=token).json()
    assert (changed["title"], changed["priority"]) == ("Soy milk", 5)
    console.follow("Delete")
    console.press("Delete")
    assert service.send("GET", shared, token=token).status_code == 404
    console.photograph("deleted", tmp_path)
    console.press("Undo the deletion")
    for one in (token, reader):
        restored = service.send("GET", shared, token=one).json()
        assert (restored["title"], restored["revision"]) == ("Soy milk", changed["revision"] + 2)

    # What is counted in this minute is told by the next one; all programs of a start are one source.
    with MongoClient(mongodb_uri) as client:
        assert len(client["madang-console"]["measurements"].distinct("source")) == 1
    console.follow("Overview")
    assert page.locator("figure.plot").count() == 8
    page.get_by_text("The numbers").click()
    assert page.get_by_role("columnheader", name="99 of 100 within").is_visible()
    console.follow("Indexes")
    assert page.get_by_role("row", name=re.compile("notes.*_id")).first.is_visible()
    console.photograph("indexes", tmp_path)

    assert console.complaints == []
    assert console.asked == {f"{HOST}:{service.port}"}
    # The line for the person at the terminal is the only one that has it.
    assert service.said.count(link.partition("token=")[2]) == 1


# Scripts in fields


@pytest.fixture
def gyms(make_app: Any, ada: Person) -> Iterator[str]:
    """The address of a server with types of every kind of field, with Ada as an admin."""
    served = [*SHIPPED, Gym, Visit]
    app: Flask = make_app(served, ENVIRONMENT="local")
    with app.app_context():
        indexes.make(Registry(served))
    Account._get_collection().update_one({"_id": ada.id}, {"$set": {"roles": ["admin"]}})
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()
    for document in (Gym, Visit):
        document._get_collection().delete_many({})


@pytest.fixture
def console(browser: Browser, gyms: str) -> Iterator[Console]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    found = Console(context.new_page(), gyms)
    found.sign_in("ada")
    yield found
    context.close()


ATTACK = " ".join(
    [
        "<script>window.intruder=1</script>",
        "\"'><img src=x onerror=window.intruder=1>",
        "</textarea></title></style><svg onload=window.intruder=1>",
        "javascript:window.intruder=1",
        "' autofocus onfocus=window.intruder=1 x='",
        '" hx-on:load="window.intruder=1" hx-get="/admin" x="',
        "{{ 7 * 7 }}${7*7}<%= 7*7 %>",
    ]
)
"""What would run if it were no text: one after the other in one text."""


def texts_in(value: Any, attack: str) -> Any:
    """A value with an attack in place of each text."""
    if isinstance(value, dict):
        return {name: texts_in(one, attack) for name, one in value.items()}
    if isinstance(value, list):
        return [texts_in(one, attack) for one in value]
    return attack if isinstance(value, str) else value


FREE = {
    "notes": ["title", "body", "tags"],
    "notebooks": ["title"],
    "groups": ["name"],
    "files": ["name", "media_type", "sha256"],
    "gyms": ["name", "default", "object", "extra", "hours", "machines", "best", "rooms", "contact", "site"],
}
"""The fields of each type that hold free text; other software may have stored any."""


def hostile_record(document: type[Record], owner: str, attack: str) -> dict[str, Any]:
    """A stored record with an attack in every field that holds text, as other software may have stored it."""
    schema = schema_of(document)
    body = dict(example_of(schema, "create") or {})
    body.update({"name": "x", "media_type": "x", "sha256": "x", "size": 1} if document.__name__ == "File" else {})
    known = {name: value for name, value in body.items() if name in schema.fields}
    fields = {name: field for name, field in schema.fields.items() if field.is_given_by_clients}
    record = new(document, owner, schema.load({name: known[name] for name in known if name in fields}))
    for name in FREE[document._meta["collection"]]:
        stored = schema.fields[name].stored
        record[stored] = texts_in(record.get(stored) or "text", attack)
    if "extra" in record:
        record["extra"] = {attack: {attack: [attack]}}
        record["hours"] = {attack: attack}
    return record


def test_no_script_in_any_field_of_any_type_runs(console: Console, ada: Person) -> None:
    looked = 0
    for document in (*SHIPPED, Gym):
        collection = document._get_collection()
        record = hostile_record(document, ada.id, ATTACK)
        collection.insert_one(record)
        for path in ("", f"/{record['_id']}", f"/{record['_id']}/edit", f"/{record['_id']}/delete"):
            console.open(f"/admin/records/{document._meta['collection']}{path}")
            looked += console.page.get_by_text("window.intruder").count() > 0 or path.endswith(("edit", "delete"))
    assert looked == 4 * (len(SHIPPED) + 1)
    console.open("/admin")
    assert console.page.evaluate("window.intruder") is None
    assert console.complaints == []


def test_no_script_in_a_name_of_an_account_or_in_what_is_searched_runs(console: Console, ada: Person) -> None:
    Account._get_collection().update_one({"_id": ada.id}, {"$set": {"display_name": ATTACK}})
    ada.make_notebook(title=ATTACK[:100])
    console.open("/admin/new/notes")
    box = console.page.locator("#in-notebook")
    box.focus()
    console.page.locator("#in-notebook-list option").first.wait_for(state="attached")
    assert console.page.locator("#in-notebook-list option").first.inner_text().startswith("<script>")
    assert console.page.evaluate("window.intruder") is None
    assert console.complaints == []


def test_an_account_is_locked_with_its_phone_out_and_a_mail_that_failed_is_sent(
    console: Console, app: Flask, bob: Person
) -> None:
    make_verified(bob, "bob@example.org")
    bob.put("/v1/accounts/me/password", {"current_password": PASSWORD, "new_password": NEW})
    item = OutboxItem._get_collection().find_one({"kind": "mail"})
    items.give_up(item, "550 no such mailbox")
    console.follow("Outbox")
    assert console.page.get_by_text("550 no such mailbox").is_visible()
    console.press("Repeat")
    assert [mail.to for mail in Mailbox(app).collect()] == ["bob@example.org"]

    console.follow("Accounts")
    console.page.get_by_label("Name, address or id").fill("bob")
    console.press("Show")
    console.follow(bob.id)
    console.press("Lock")
    assert until(lambda: bob.get("/v1/notes").status_code == 401, 1)
    assert console.page.get_by_role("button", name="Unlock").is_visible()
    console.follow("Log")
    assert console.page.get_by_role("cell", name="locked", exact=True).is_visible()
    assert console.complaints == []


def test_a_reference_is_found_while_somebody_types(console: Console, ada: Person) -> None:
    wanted = ada.make_notebook(title="Recipes of autumn")["id"]
    for number in range(12):
        ada.make_notebook(title=f"other {number}")
    console.open("/admin/new/notes")
    console.page.locator("#in-notebook").press_sequentially("Recipes")
    console.page.locator(f'#in-notebook-list option[value="{wanted}"]').wait_for(state="attached")
    assert console.complaints == []


def test_a_point_is_chosen_on_the_map_by_a_press(console: Console, tmp_path: Path) -> None:
    console.open("/admin/new/gyms")
    console.page.locator("#in-name").fill("Gym of Seoul")
    with console.page.expect_navigation():
        console.page.locator('input[name="map /place"]').click(position={"x": 256, "y": 44})
    longitude, latitude = (console.page.locator(f"#in-place-{axis}").input_value() for axis in ("lon", "lat"))
    assert (abs(float(longitude) - 127.2) < 1.3, abs(float(latitude) - 37.2) < 1.3) == (True, True)
    assert console.page.locator("#in-name").input_value() == "Gym of Seoul"
    console.page.locator(".mark").scroll_into_view_if_needed()
    console.photograph("map", tmp_path)
    assert console.complaints == []


def test_what_a_form_offers_is_of_the_owner_that_was_typed(console: Console, ada: Person, bob: Person) -> None:
    books = {person.username: person.make_notebook(title="Recipes")["id"] for person in (ada, bob)}
    console.open("/admin/new/notes")
    console.page.get_by_label(re.compile("^Owner")).fill("bob")
    console.page.locator("#in-notebook").press_sequentially("Rec")
    console.page.locator(f'#in-notebook-list option[value="{books["bob"]}"]').wait_for(state="attached")
    assert console.page.locator(f'#in-notebook-list option[value="{books["ada"]}"]').count() == 0
    assert console.complaints == []


PAGES = (
    *(
        "",
        "/accounts",
        "/outbox",
        "/webhooks",
        "/indexes",
        "/log",
        "/settings",
        "/upload",
        "/records/gyms",
        "/new/gyms",
    ),
    *("/records/notes/{note}", "/records/notes/{note}/edit", "/records/notes/{note}/delete", "/deleted/notes"),
    *("/deleted/notes/{gone}", "/accounts/{ada}", "/accounts/{ada}/delete", "/records/none"),
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_that_is_shown_has_the_contrast_that_wcag_asks_for(
    browser: Browser, gyms: str, ada: Person, scheme: Any
) -> None:
    moment = now()
    for minutes, number in ((20, 0), (10, 50), (0, 90)):
        store_measurement(moment - timedelta(minutes=minutes), number)
    ids = {"note": ada.make_note(title="Milk", tags=["shop"])["id"], "ada": ada.id, "gone": ada.make_note()["id"]}
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme=scheme)
    console = Console(context.new_page(), gyms)
    console.open("/admin/sign-in")
    assert too_faint(console.page) == []
    console.sign_in("ada")
    console.open(f"/admin/records/notes/{ids['gone']}/delete")
    console.press("Delete")
    for path in PAGES:
        console.open("/admin" + path.format(**ids))
        assert too_faint(console.page) == [], path
    console.open("/admin/new/gyms")
    console.page.locator("#in-steps").fill("much")
    console.press("Save")
    assert console.page.locator(".mistake").count() > 1
    assert too_faint(console.page) == []
    context.close()


REACHED = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex]"
FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  return [[...document.querySelectorAll(SELECTOR)].indexOf(one), style.outlineStyle, parseFloat(style.outlineWidth)];
}""".replace("SELECTOR", repr(REACHED))


@pytest.mark.parametrize("path", ["", "/records/notes", "/new/gyms", "/indexes", "/upload", "/accounts/{ada}"])
def test_all_that_can_be_pressed_is_reached_by_tab_in_its_order_and_seen(
    console: Console, ada: Person, path: str
) -> None:
    console.open("/admin" + path.format(ada=ada.id))
    wanted = [
        number
        for number, one in enumerate(console.page.locator(REACHED).all())
        if one.get_attribute("tabindex") != "-1" and one.evaluate("one => one.checkVisibility()")
    ]
    seen: list[int] = []
    for _ in range(3 * len(wanted)):
        console.page.keyboard.press("Tab")
        number, style, width = console.page.evaluate(FOCUSED)
        # A time has several parts, each with a Tab of its own.
        if number == -1 or number in seen[:-1]:
            break
        assert (style, width >= 2) == ("solid", True), console.page.evaluate("document.activeElement.outerHTML")
        seen += [number] if seen[-1:] != [number] else []
    assert seen == wanted


def store_measurement(moment: datetime, number: int) -> None:
    """Store what a start had counted at a moment."""
    names = ("requests", "refused", "failed", "changes", "jobs", "jobs_failed", "sent", "not_sent")
    row = {"_id": f"{moment}", "time": moment, "source": "one", "counted": dict.fromkeys(names, number)}
    held = {"lag": 0.5, "waiting": 2, "data": 10_000 + number, "indexes": 20_000}
    buckets = [0] * 5 + [number] * (len(BUCKETS) - 5)
    Measurement._get_collection().insert_one({**row, "held": held, "buckets": buckets})


def test_a_text_that_is_too_faint_is_found(browser: Browser) -> None:
    page = browser.new_page()
    shown = "".join(f'<p style="color: #{colour}">{colour}</p>' for colour in ("767676", "777777", "000000"))
    page.set_content(f'<body style="background: #fff">{shown * 3}</body>')
    assert [text.count("#777777") for text in too_faint(page)] == [1, 1, 1]
    page.close()


SPOKEN = "input:not([type=hidden]), select, textarea, button:not([aria-hidden])"


def test_the_console_is_used_by_keyboard_on_a_phone_without_javascript(
    browser: Browser, gyms: str, ada: Person, tmp_path: Path
) -> None:
    note = ada.make_note(title="Milk")
    context = browser.new_context(viewport=PHONE, java_script_enabled=False, locale="ko-KR", color_scheme="dark")
    console = Console(context.new_page(), gyms)
    console.sign_in("ada")
    ids = {"note": note["id"], "ada": ada.id, "gone": ada.make_note()["id"]}
    ada.delete(f"/v1/notes/{ids['gone']}")
    for path in ("/records/notes", *(path.format(**ids) for path in PAGES)):
        console.open(f"/admin{path}")
        assert console.page.locator("main").bounding_box()["width"] <= PHONE["width"], path
        assert console.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
        assert console.page.locator("html").get_attribute("lang") == "ko"
        console.page.keyboard.press("Tab")
        assert console.page.evaluate("document.activeElement.className") == "skip"
        nameless = [
            one.evaluate("one => one.outerHTML")
            for one in console.page.locator(SPOKEN).all()
            if not one.evaluate(
                "one => (one.labels?.[0] ?? one).textContent.trim() || one.getAttribute('aria-label') || one.alt"
            )
        ]
        assert nameless == [], path
    console.open(f"/admin/records/notes/{note['id']}/edit")
    console.photograph("phone", tmp_path)
    console.page.get_by_label(re.compile("^title")).fill("Oat milk")
    console.page.keyboard.press("Enter")
    console.page.wait_for_url(f"**/records/notes/{note['id']}")
    assert ada.get(f"/v1/notes/{note['id']}").json["title"] == "Oat milk"
    context.close()
