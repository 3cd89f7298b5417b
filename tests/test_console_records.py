"""Records in the console: any type has its pages, and they read and write by the same rules as everything else."""

import json
import re
from collections.abc import Iterator
from html import escape
from typing import Any

import pytest
from bson import ObjectId
from flask import Flask
from mongoengine import StringField

from service.core.errors import DatabaseUnavailable
from service.documents import Account, AdminAction, Note, Record
from service.identity.admin_log import AdminLog
from service.model.example import example_of
from service.model.registry import Registry
from service.pages.console_kinds import INPUT_KINDS, input_kind
from service.pages.console_texts import CONSOLE_TEXTS
from service.pages.console_values import Reading, flattened, merge_patch, with_input, without_input
from service.policy import Identity
from service.query.parse import Parser
from service.records.administering import AllRecords
from service.upkeep import indexes
from tests.admin_browser import AdminBrowser, Form
from tests.client import Person
from tests.examples import Examples
from tests.gym import Gym, Visit
from tests.types import EVERY, SHIPPED, new, schema_of

TEXTS = CONSOLE_TEXTS["en"]
SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"


@pytest.fixture
def admin(app: Flask, ada: Person) -> AdminBrowser:
    return AdminBrowser.of(ada, app)


@pytest.fixture
def gyms(make_app: Any, ada: Person) -> Iterator[AdminBrowser]:
    """An admin of a service with record types of somebody's own."""
    served = [*SHIPPED, Gym, Visit]
    app: Flask = make_app(served)
    with app.app_context():
        indexes.make(Registry(served))
    yield AdminBrowser.of(ada, app)
    for document in (Gym, Visit):
        document._get_collection().delete_many({})


def path_of(answer: Any) -> str:
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def actions(kind: str | None = None) -> list[Any]:
    found = AdminAction.objects.order_by("id")
    return [one for one in found if kind is None or one.action == kind]


# Tables


def test_an_admin_sees_the_records_of_all_the_newest_first(admin: AdminBrowser, ada: Person, bob: Person) -> None:
    ids = [person.make_note(title=f"of {person.username}")["id"] for person in (bob, ada, bob)]
    page = admin.get("/admin/records/notes").text
    places = [page.index(id) for id in ids]
    assert places == sorted(places, reverse=True)
    (action,) = actions("listed")
    assert (action.account, action.subject) == (ada.id, "notes")


def test_a_table_goes_on_by_a_cursor(admin: AdminBrowser, bob: Person) -> None:
    rows = [new(Note, bob.id, {"title": f"note {number}"}) for number in range(120)]
    Note._get_collection().insert_many(rows)
    seen: list[str] = []
    path = "/admin/records/notes"
    for _ in range(3):
        page = admin.get(path).text
        seen += [row["_id"] for row in rows if f">{row['_id']}<" in page]
        path = "/admin/records/notes" + (page.partition('rel="next" href="')[2].partition('"')[0] or "?none")
    assert sorted(seen) == sorted(row["_id"] for row in rows)
    assert path.endswith("?none")


def test_the_records_of_one_owner_are_sorted_as_declared(admin: AdminBrowser, ada: Person, bob: Person) -> None:
    for title in ("b", "c", "a"):
        bob.make_note(title=f"title {title}")
    ada.make_note(title="title of ada")
    for owner in (bob.id, "bob", "BOB"):
        page = admin.get("/admin/records/notes", query_string={"owner": owner, "sort": "title"}).text
        assert page.index("title a") < page.index("title b") < page.index("title c")
        assert "title of ada" not in page


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"field1": "title", "operator1": "$eq", "value1": "one"}, ["one"]),
        ({"field1": "title", "operator1": "$prefix", "value1": "t"}, ["two"]),
        ({"field1": "priority", "operator1": "$gte", "value1": "3"}, ["two"]),
        ({"field1": "priority", "operator1": "$in", "value1": "1, 4"}, ["one", "two"]),
        ({"field1": "pinned", "value1": "true"}, ["two"]),
        ({"field1": "tags", "value1": "shop"}, ["one"]),
        ({"field1": "notebook", "operator1": "$exists", "value1": "true"}, []),
        ({"field1": "priority", "value1": "1", "field2": "title", "operator2": "$ne", "value2": "one"}, []),
    ],
)
def test_a_table_is_narrowed_by_the_declared_fields(
    admin: AdminBrowser, bob: Person, condition: dict[str, str], found: list[str]
) -> None:
    bob.make_note(title="one", priority=1, tags=["shop"])
    bob.make_note(title="two", priority=4, pinned=True)
    page = admin.get("/admin/records/notes", query_string=condition).text
    assert [title for title in ("one", "two") if f"<td>{title}</td>" in page] == found


@pytest.mark.parametrize(
    "asked",
    [
        {"field1": "body"},
        {"field1": "priority", "value1": "much"},
        {"field1": "title", "operator1": "$where", "value1": "1"},
        {"cursor": "forged"},
        {"owner": "x", "sort": "$where"},
    ],
)
def test_what_a_table_cannot_be_asked_is_told_on_it(admin: AdminBrowser, asked: dict[str, str]) -> None:
    page = admin.get("/admin/records/notes", query_string=asked)
    assert 'role="alert"' in page.text


def test_the_cursor_of_one_owner_is_none_of_another(admin: AdminBrowser, ada: Person, bob: Person) -> None:
    Note._get_collection().insert_many([new(Note, bob.id, {"title": "t"}) for _ in range(51)])
    page = admin.get("/admin/records/notes", query_string={"owner": "bob"}).text
    cursor = page.partition("cursor=")[2].partition('"')[0]
    answer = admin.get("/admin/records/notes", query_string={"owner": "ada", "cursor": cursor})
    assert "the very same query" in answer.text


@pytest.mark.real
@pytest.mark.parametrize("sort", [None, "title", "-updated_at"])
def test_a_page_of_many_records_reads_no_more_than_it_shows(
    app: Flask, ada: Person, bob: Person, sort: str | None
) -> None:
    Note._get_collection().insert_many([new(Note, bob.id, {"title": f"t{number:05}"}) for number in range(1000)])
    notes = EVERY.of(Note)
    records = AllRecords(EVERY, notes, Identity(ada.id, "", 0, is_admin=True), "" if sort is None else bob.id)
    args = {"limit": "20", **({} if sort is None else {"sort": sort})}
    first = records.asked(Parser(notes), args, b"k" * 32)
    cursor = first.cursor(records.page(first).rows[-1])
    for query in (first, records.asked(Parser(notes), {**args, "cursor": cursor}, b"k" * 32)):
        condition = records.condition(query)
        bounded = {"$and": [condition, query.after]} if query.after else condition
        found = notes.collection.find(bounded, limit=20, collation=query.sort.bson or None)
        plan = found.sort(list(query.sort.keys)).hint(query.sort.index_name).explain()
        assert plan["executionStats"]["totalKeysExamined"] <= 40


# One record


@pytest.mark.all_types
@pytest.mark.parametrize("name", EVERY)
def test_every_type_has_its_pages(app: Flask, examples: Examples, ada: Person, name: str) -> None:
    admin = AdminBrowser.of(ada, app)
    assert admin.get(f"/admin/records/{name}").status_code == 200
    if name == "files":
        assert admin.get(f"/admin/new/{name}").status_code == 403
        return
    id = examples.make(name)["id"]
    assert admin.get(f"/admin/records/{name}/{id}").status_code == 200
    revision = admin.form(f"/admin/records/{name}/{id}/edit")["revision"]
    answer = admin.send(f"/admin/records/{name}/{id}/edit")
    assert path_of(answer) == f"/admin/records/{name}/{id}"
    # Nothing was changed, so nothing is written.
    assert admin.form(f"/admin/records/{name}/{id}/edit")["revision"] == revision
    assert admin.get(f"/admin/new/{name}").status_code == 200


def test_a_record_is_made_changed_and_deleted_by_forms(admin: AdminBrowser, bob: Person) -> None:
    page = admin.send("/admin/new/notes", owner="bob", **{"/title": "From the console", "/priority": "2"})
    path = path_of(page)
    id = path.rpartition("/")[2]
    note = bob.get(f"/v1/notes/{id}").json
    assert (note["title"], note["priority"], note["owner"], note["revision"]) == ("From the console", 2, bob.id, 1)
    admin.send(f"{path}/edit", **{"/title": "Changed", "/priority": ""})
    note = bob.get(f"/v1/notes/{id}").json
    assert (note["title"], note["revision"]) == ("Changed", 2)
    assert path_of(admin.send(f"{path}/delete")) == f"/admin/deleted/notes/{id}"
    assert bob.get(f"/v1/notes/{id}").status_code == 404
    assert admin.get(path).status_code == 404
    created, changed, deleted = actions("created")[0], actions("changed")[0], actions("deleted")[0]
    assert {created.target, changed.target, deleted.target} == {id}
    assert {created.owner, changed.owner, deleted.owner} == {bob.id}
    assert json.loads(created.after)["title"] == "From the console"
    assert json.loads(changed.before)["title"] == "From the console"
    assert json.loads(changed.after)["title"] == "Changed"
    assert json.loads(deleted.before)["title"] == "Changed"
    assert "title" not in json.loads(changed.after).get("other", {})


def test_a_group_is_shown_with_its_members(admin: AdminBrowser, ada: Person, bob: Person) -> None:
    bob.post("/v1/groups", {"id": "family", "name": "Family"})
    bob.post("/v1/groups/family/members", {"account": ada.id, "role": "member"})
    page = admin.get("/admin/records/groups/family").text
    rows = re.findall(r'href="/admin/accounts/(\w+)">(\w+)</a></th><td>(\w+)</td>', page)
    assert sorted(rows, key=lambda row: row[1]) == [(ada.id, "ada", "member"), (bob.id, "bob", "manager")]
    assert TEXTS["members"] not in admin.get(f"/admin/records/notes/{bob.make_note()['id']}").text


def test_what_was_looked_at_is_in_the_log(admin: AdminBrowser, ada: Person, bob: Person) -> None:
    note = bob.make_note()
    admin.get(f"/admin/records/notes/{note['id']}")
    (action,) = actions("read")
    assert (action.account, action.target, action.owner) == (ada.id, note["id"], bob.id)
    assert action.address
    assert action.request_id
    assert note["id"] in admin.get("/admin").text


def test_sent_twice_a_form_makes_one_record(admin: AdminBrowser, bob: Person) -> None:
    form = {**admin.form("/admin/new/notes"), "owner": "bob", "/title": "Once"}
    assert admin.post("/admin/new/notes", form).status_code == 303
    page = admin.post("/admin/new/notes", form)
    assert "the id is taken" in page.text
    assert len(bob.find().json["items"]) == 1


def test_what_is_wrong_is_told_at_its_field_and_nothing_is_stored(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note()
    path = f"/admin/records/notes/{note['id']}/edit"
    page = admin.send(path, **{"/title": "x" * 10_000, "/priority": "much", "/tags": "[]", "/tags/0": "y" * 500})
    for at in ("in-title", "in-priority", "in-tags-0"):
        assert f'id="{at}-mistake"' in page.text, at
    assert re.findall(r'<\w+ id="([^"]+)"[^>]* autofocus>', page.text) == ["in-title"]
    assert 'value="much"' in page.text
    assert bob.get(f"/v1/notes/{note['id']}").json["revision"] == 1
    assert 'id="owner"' in admin.send("/admin/new/notes", owner="nobody", **{"/title": "t"}).text
    assert "there is no such account" in admin.send("/admin/new/notes", owner="nobody", **{"/title": "t"}).text


def test_an_admin_changes_what_is_shared_but_not_what_the_server_sets(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note()
    path = f"/admin/records/notes/{note['id']}/edit"
    sent = {"/readers": "[]", "/readers/0": "role:team", "/owner": "eve", "/revision": "9", "/id": "x", "/access": "x"}
    assert admin.send(path, **sent).status_code == 303
    after = bob.get(f"/v1/notes/{note['id']}").json
    assert (after["readers"], after["owner"], after["id"], after["revision"]) == (["role:team"], bob.id, note["id"], 2)


def test_a_text_that_a_form_cannot_hold_as_it_is_stays(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note(title="t", body="one\r\ntwo\n\n three ")
    admin.send(f"/admin/records/notes/{note['id']}/edit", **{"/title": "other"})
    assert bob.get(f"/v1/notes/{note['id']}").json["body"] == "one\r\ntwo\n\n three "


# Conflicts


def test_a_conflict_is_shown_side_by_side_and_undoes_nothing_of_the_other(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note(title="was", body="was", priority=1)
    path = f"/admin/records/notes/{note['id']}/edit"
    form = admin.form(path)
    bob.patch(f"/v1/notes/{note['id']}", {"title": "theirs", "priority": 5})
    page = admin.post(path, {**form, "/title": "yours", "/body": "yours"})
    assert page.status_code == 412
    table = page.text.partition('<table class="conflict">')[2].partition("</table>")[0]
    assert "theirs" in table
    assert "yours" in table
    assert re.findall(r'<th scope="row">(\w+)</th>', table) == ["title"]
    merged = Form(page.text).texts
    assert (merged["/title"], merged["/body"], merged["/priority"]) == ("yours", "yours", "5")
    assert admin.post(path, merged).status_code == 303
    after = bob.get(f"/v1/notes/{note['id']}").json
    assert (after["title"], after["body"], after["priority"], after["revision"]) == ("yours", "yours", 5, 3)


def test_what_has_changed_since_it_was_shown_is_not_deleted(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note()
    path = f"/admin/records/notes/{note['id']}/delete"
    form = admin.form(path)
    bob.patch(f"/v1/notes/{note['id']}", {"title": "theirs"})
    assert admin.post(path, form).status_code == 412
    assert bob.get(f"/v1/notes/{note['id']}").status_code == 200


# Every kind of field


def test_every_field_class_has_a_kind() -> None:
    kinds = {input_kind(field) for field in schema_of(Gym).fields.values()}
    assert {kind for _, kind in INPUT_KINDS} | {"text", "choice"} == kinds | {"object"}


def test_a_form_says_what_a_record_has() -> None:
    schema = schema_of(Gym)
    body: dict[str, Any] = example_of(schema, "create") or {}
    told = schema.dump(
        new(Gym, "ada", schema.load({**body, "grid": [[1, 2], []], "extra": {"a": [1, None], "b": "é"}}))
    )
    fields = {name: field for name, field in schema.fields.items() if field.is_patched}
    said = Reading(flattened(fields, told)).body(fields)
    assert {name: value for name, value in said.items() if value != told[name]} == {}
    assert merge_patch(said, said) == {}


def test_a_patch_clears_what_is_gone_from_an_object() -> None:
    before = {"extra": {"a": 1, "b": {"c": 1, "d": 2}}, "tags": [1], "open": True}
    after = {"extra": {"b": {"c": 1}, "e": 3}, "tags": [], "open": True}
    assert merge_patch(before, after) == {"extra": {"a": None, "b": {"d": None}, "e": 3}, "tags": []}
    assert merge_patch({"one": 1}, {"one": True}) == {"one": True}


def test_entries_come_and_go_without_anything_being_stored(gyms: AdminBrowser) -> None:
    form = {**gyms.form("/admin/new/gyms"), "owner": "ada", "/name": "Gym"}
    for at in ("/machines", "/machines", "/grid", "/grid/0", "/hours", "/best", "/trainers"):
        page = gyms.post("/admin/new/gyms", {**form, "do": f"add {at}"})
        assert page.status_code == 200, page.text
        form = Form(page.text).texts
        form.pop("do", None)
    form |= {
        "/machines/0/name": "first",
        "/machines/1/name": "second",
        "/grid/0/0": "7",
        "/hours/0#key": "mon",
        "/hours/0": "9 to 5",
        "/best/name": "best",
        "/trainers/0": Account.objects.first().id,
        "/place#lon": "127",
        "/place#lat": "37.5",
        "/opened": "2026-11-22",
        "/serviced": "2026-11-22T10:00",
        "/extra": '{"a": [1, null]}',
        "/steps": "9223372036854775807",
        "/fee": "12.50",
        "/open": "true",
        "/mood": '"good"',
        "/level": "2",
    }
    page = gyms.post("/admin/new/gyms", {**form, "do": "remove /machines/0"})
    form = {**Form(page.text).texts, "do": "save"}
    id = path_of(gyms.post("/admin/new/gyms", form)).rpartition("/")[2]
    stored = schema_of(Gym).dump(Gym._get_collection().find_one({"_id": id}))
    assert [machine["name"] for machine in stored["machines"]] == ["second"]
    assert stored["machines"][0]["state"] == "new"
    assert (stored["grid"], stored["hours"], stored["best"]["name"]) == ([[7]], {"mon": "9 to 5"}, "best")
    assert stored["place"] == {"type": "Point", "coordinates": [127, 37.5]}
    assert (stored["opened"], stored["serviced"]) == ("2026-11-22", "2026-11-22T10:00:00.000Z")
    assert (stored["extra"], stored["steps"], stored["fee"]) == ({"a": [1, None]}, "9223372036854775807", "12.50")
    assert (stored["open"], stored["mood"], stored["level"]) == (True, "good", 2)


@pytest.mark.parametrize(
    ("buttons", "focused"),
    [
        (["add /machines"], 'id="in-machines-0-name"'),
        (["add /machines", "add /machines"], 'id="in-machines-1-name"'),
        (["add /machines", "remove /machines/0"], 'value="add /machines"'),
        (["add /grid"], 'value="add /grid/0"'),
        (["add /hours"], 'id="in-hours-0-key"'),
        (["add /rooms"], 'id="in-rooms-0-key"'),
        (["remove /hours"], 'value="add /hours"'),
        (["add /best"], 'id="in-best-name"'),
        (["add /best", "remove /best"], 'value="add /best"'),
    ],
)
def test_who_has_pressed_a_button_goes_on_at_what_it_has_changed(
    gyms: AdminBrowser, buttons: list[str], focused: str
) -> None:
    form, page = {**gyms.form("/admin/new/gyms"), "owner": "ada", "/name": "Gym"}, ""
    assert "autofocus" not in gyms.get("/admin/new/gyms").text
    for button in buttons:
        page = gyms.post("/admin/new/gyms", {**form, "do": button}).text
        form = Form(page).texts
    (element,) = re.findall(r"<[^>]* autofocus>", page)
    assert focused in element


@pytest.mark.parametrize("at", ["/no/such", "/name/0", "/machines/x", "", "/grid/0/0/0", "__proto__", "/hours#key"])
def test_a_button_of_nothing_changes_nothing_and_breaks_nothing(gyms: AdminBrowser, at: str) -> None:
    form = {**gyms.form("/admin/new/gyms"), "owner": "ada", "/name": "Gym"}
    for verb in ("add", "remove"):
        assert gyms.post("/admin/new/gyms", {**form, "do": f"{verb} {at}"}).status_code == 200


def test_what_is_taken_out_of_a_list_moves_the_rest_up() -> None:
    flat = {"/a": "[]", "/a/0": "x", "/a/1": "{}", "/a/1/n": "y", "/a/10": "z", "/b/1": "kept"}
    assert without_input(flat, "/a/0") == {"/a": "[]", "/a/0": "{}", "/a/0/n": "y", "/a/9": "z", "/b/1": "kept"}
    fields = schema_of(Gym).fields
    assert with_input({}, fields, "/best")["/best"] == "{}"
    assert "/best/name" not in without_input(with_input({}, fields, "/best"), "/best")


HOSTILE = [
    "\0",
    "9" * 39,
    "-" * 100,
    "1e999",
    "NaN",
    "{",
    '{"a": NaN}',
    "[[[[",
    "\ud7ff",
    SCRIPT,
    "0x1F",
    "1_000",
    "''",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_is_typed_is_stored_as_it_is_or_refused(gyms: AdminBrowser, text: str) -> None:
    form = gyms.form("/admin/new/gyms")
    for name in [name for name in form if name.startswith("/") and name != "/id"]:
        answer = gyms.post("/admin/new/gyms", {**form, "owner": "ada", "/name": "Gym", name: text, "do": "save"})
        assert answer.status_code in (200, 303, 422), (name, answer.status_code)
        form["/id"] = f"x{abs(hash((name, text)))}"


# What others have written is text


def test_a_script_in_any_field_is_text_on_every_page(gyms: AdminBrowser, ada: Person) -> None:
    schema = schema_of(Gym)
    body: dict[str, Any] = example_of(schema, "create") or {}
    hostile = {
        **body,
        "name": SCRIPT[:60],
        "default": SCRIPT,
        "object": SCRIPT,
        "extra": {SCRIPT: SCRIPT},
        "hours": {"mon": SCRIPT[:40]},
        "site": "https://example.org/?<script>alert(1)</script>",
        "machines": [{"name": SCRIPT[:40]}],
        "readers": ["role:team"],
    }
    record = new(Gym, ada.id, schema.load(hostile))
    Gym._get_collection().insert_one(record)
    for path in ("", f"/{record['_id']}", f"/{record['_id']}/edit"):
        page = gyms.get(f"/admin/records/gyms{path}").text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    assert escape(SCRIPT, quote=False)[:20] in page


def test_no_address_of_a_record_becomes_a_link(gyms: AdminBrowser, ada: Person) -> None:
    record = new(Gym, ada.id, schema_of(Gym).load({"name": "g", "site": "https://evil.example.org/"}))
    Gym._get_collection().insert_one(record)
    for path in ("", f"/{record['_id']}", f"/{record['_id']}/edit"):
        assert 'href="https:' not in gyms.get(f"/admin/records/gyms{path}").text


# References


def test_a_reference_is_searched_among_what_the_owner_may_refer_to(
    admin: AdminBrowser, ada: Person, bob: Person
) -> None:
    books = {person.username: person.make_notebook(title=f"book of {person.username}")["id"] for person in (ada, bob)}
    asked = {"input": "/notebook", "owner": bob.id, "/notebook": ""}
    part = admin.get("/admin/choices/notebooks", query_string=asked).text
    assert books["bob"] in part
    assert books["ada"] not in part
    assert bob.id in admin.get("/admin/choices/accounts", query_string={"input": "/x", "/x": "BO"}).text
    assert ada.id not in admin.get("/admin/choices/accounts", query_string={"input": "/x", "/x": "BO"}).text


def test_what_a_form_offers_is_of_its_owner_whatever_button_it_was_sent_by(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note()["id"]
    path = f"/admin/records/notes/{note}/edit"
    for sent in ({"do": "add /tags"}, {"/priority": "much"}):
        page = admin.send(path, **sent)
        assert Form(page.text).texts["owner"] == bob.id
    assert 'hx-include="#owner"' in page.text


def test_an_owner_that_is_none_may_refer_to_nothing(admin: AdminBrowser, ada: Person) -> None:
    ada.make_notebook(readers=["*"])
    for owner, count in (("ada", 1), ("none-such", 0)):
        answer = admin.get("/admin/choices/notebooks", query_string={"owner": owner})
        assert (answer.status_code, answer.text.count("<option")) == (200, count)


def test_a_reference_leads_to_what_it_points_to(admin: AdminBrowser, bob: Person) -> None:
    book = bob.make_notebook()["id"]
    note = bob.make_note(notebook=book)["id"]
    assert f'href="/admin/records/notebooks/{book}"' in admin.get(f"/admin/records/notes/{note}").text
    page = admin.send(f"/admin/records/notes/{note}/edit", **{"/notebook": "none-such"})
    assert 'id="in-notebook-mistake"' in page.text


# What cannot be told


@pytest.mark.parametrize("tags", [5, [ObjectId()], [1, {"a": ObjectId()}]])
def test_a_record_that_json_cannot_say_is_named_with_the_place(admin: AdminBrowser, bob: Person, tags: Any) -> None:
    note = bob.make_note()["id"]
    Note._get_collection().update_one({"_id": note}, {"$set": {"tags": tags}})
    page = admin.get(f"/admin/records/notes/{note}")
    assert TEXTS["unreadable"] in page.text
    assert "tags" in page.text
    assert admin.get(f"/admin/records/notes/{note}/edit").status_code == 500
    assert admin.get("/admin/records/notes").status_code == 200
    assert admin.send(f"/admin/records/notes/{note}/delete").status_code == 303
    (deleted,) = actions("deleted")
    assert (deleted.target, deleted.before) == (note, None)


@pytest.mark.real
def test_what_cannot_be_written_into_the_log_is_not_done(
    admin: AdminBrowser, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = bob.make_note(title="was")["id"]
    path = f"/admin/records/notes/{note}"
    forms = {button: admin.form(f"{path}/{button}") for button in ("edit", "delete")}
    monkeypatch.setattr(AdminLog, "note", refuse_to_log)
    for button, form in forms.items():
        assert admin.post(f"{path}/{button}", {**form, "/title": "now"}).status_code == 503
    assert bob.get(f"/v1/notes/{note}").json["title"] == "was"


def refuse_to_log(*_args: Any, **_told: Any) -> None:
    raise DatabaseUnavailable("there is no room for the log")


@pytest.mark.parametrize(
    "path", ["/admin/records/none", "/admin/records/notes/none", "/admin/new/none", "/admin/records/notes/none/edit"]
)
def test_what_is_not_there_is_told_on_a_page(admin: AdminBrowser, path: str) -> None:
    answer = admin.get(path)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")


# The log


def test_of_a_large_record_the_log_keeps_names_and_sizes(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note(body="x" * 50_000)["id"]
    admin.send(f"/admin/records/notes/{note}/delete")
    assert json.loads(actions("deleted")[0].before)["body"] == "50002 bytes"


def test_with_an_account_goes_what_the_log_tells_of_its_data(admin: AdminBrowser, bob: Person) -> None:
    note = bob.make_note(title="secret")["id"]
    admin.send(f"/admin/records/notes/{note}/edit", **{"/title": "still secret"})
    assert bob.delete("/v1/accounts/me").status_code == 204
    (action,) = actions("changed")
    assert (action.target, action.before, action.after, action.owner) == (note, None, None, None)


def test_hooks_run_for_what_an_admin_writes(make_app: Any, ada: Person) -> None:
    class Hooked(Record):
        title = StringField(required=True)
        who = StringField()
        meta = {"collection": "console_hooked"}

        def before_change(self, before: Any, who: Any) -> None:
            self.who = who.account

    app = make_app([*SHIPPED, Hooked])
    with app.app_context():
        indexes.make(app.extensions["madang.registry"])
    admin = AdminBrowser.of(ada, app)
    path = path_of(admin.send("/admin/new/console_hooked", owner="ada", **{"/title": "t"}))
    admin.send(f"{path}/edit", **{"/title": "u"})
    stored = Hooked._get_collection().find_one({"_id": path.rpartition("/")[2]})
    Hooked._get_collection().delete_many({})
    assert (stored["title"], stored["who"]) == ("u", ada.id)
