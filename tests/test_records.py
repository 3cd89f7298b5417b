"""Records over HTTP: one record and lists of them, as section 4 of the contract promises."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from flask import Flask
from mongoengine import IntField, ListField, LongField, StringField
from prometheus_client import REGISTRY
from pymongo.errors import DuplicateKeyError
from werkzeug.test import TestResponse

from service.documents import Note, Notebook, Record
from service.documents.versioned import STAMPS
from service.model.patch import parse as parse_patch
from service.records import store
from tests.client import Person, Phone, pointers
from tests.types import SHIPPED, schema_of

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
KINDS = ["notes", "notebooks"]
POINT = {"type": "Point", "coordinates": [127.0, 37.5]}
WHOLE = {
    "title": "제목 🌱",
    "body": "text",
    "tags": ["a", "b"],
    "pinned": True,
    "priority": 5,
    "due": "2026-11-22T10:00:00.000Z",
    "place": POINT,
    "checklist": [{"text": "one", "done": True}, {"text": "two", "done": False}],
}


class Counter(Record):
    """A record type of these tests, with wide limits."""

    hits = IntField(default=0)
    total = LongField(default=0)
    names = ListField(StringField(), max_length=100)
    meta = {"collection": "counters"}


@pytest.fixture
def counters(make_app: Any, ada: Person) -> Iterator[str]:
    """The path of Ada's counter."""
    ada.client = make_app(documents=[*SHIPPED, Counter]).test_client()
    yield ada.post("/v1/counters", {"id": "c"}).headers["Location"]
    Counter._get_collection().delete_many({})


def all_at_once(app: Flask, ada: Person, times: int, method: str, path: str, body: Any, **options: Any) -> list[int]:
    """The sorted statuses of the same request, sent by as many threads."""

    def send(_number: int) -> int:
        return Phone(app.test_client(), ada.headers).send(method, path, body, **options).status_code

    with ThreadPoolExecutor(times) as pool:
        return sorted(pool.map(send, range(times)))


# Create


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_record_is_answered_as_it_is_kept(ada: Person, kind: str) -> None:
    answer = ada.post(f"/v1/{kind}", {"title": "first"})
    assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
    assert answer.headers["Location"] == f"/v1/{kind}/{answer.json['id']}"
    assert ada.get(answer.headers["Location"]).json == answer.json


def test_the_server_sets_owner_times_and_revision(ada: Person) -> None:
    note = ada.make_note()
    assert (note["owner"], note["revision"]) == (ada.id, 1)
    assert note["created_at"] == note["updated_at"]
    assert TIME.fullmatch(note["created_at"])


def test_a_note_has_the_defaults_of_its_type(ada: Person) -> None:
    made = ada.make_note(title="t")
    server = {name: made[name] for name in ("id", "owner", "created_at", "updated_at", "revision")}
    assert made == server | {
        "title": "t",
        "body": "",
        "tags": [],
        "pinned": False,
        "priority": 0,
        "due": None,
        "place": None,
        "checklist": [],
        "notebook": None,
        "readers": [],
        "writers": [],
    }


def test_every_field_comes_back_as_it_was_sent(ada: Person) -> None:
    notebook = ada.make_notebook(colour="#aAbB01")["id"]
    assert ada.make_note(**WHOLE, notebook=notebook).items() >= {**WHOLE, "notebook": notebook}.items()


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000Z"),
        ("2026-11-22T19:00:00+09:00", "2026-11-22T10:00:00.000Z"),
        ("2026-11-21T22:30:00.5-11:30", "2026-11-22T10:00:00.500Z"),
        ("2026-11-22t10:00:00.123456789z", "2026-11-22T10:00:00.123Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_of_any_offset_comes_back_in_utc_with_milliseconds(ada: Person, sent: str, kept: str) -> None:
    note = ada.make_note(due=sent)
    assert note["due"] == kept == ada.get(f"/v1/notes/{note['id']}").json["due"]


@pytest.mark.parametrize("id", ["a", "A-b_c.9", "..a", "x" * 64, "0", "null"])
def test_the_client_may_choose_the_id(ada: Person, id: str) -> None:
    assert ada.post("/v1/notes", {"id": id, "title": "t"}).headers["Location"] == f"/v1/notes/{id}"
    assert Note._get_collection().find_one({"_id": id})


def test_an_id_that_is_taken_is_409(ada: Person, bob: Person) -> None:
    ada.make_note(id="x")
    for person in (ada, bob):
        answer = person.post("/v1/notes", {"id": "x", "title": "t"})
        assert (answer.status_code, answer.json["code"]) == (409, "already_exists")
    assert bob.make_notebook(id="x")


def test_limits_are_inclusive(ada: Person) -> None:
    longest = {"title": "t" * 200, "body": "b" * 100_000, "tags": ["g" * 40] * 20, "priority": 5}
    assert ada.make_note(**longest, checklist=[{"text": "c" * 200}] * 100).items() >= longest.items()


# Read


def test_a_record_that_the_client_has_is_304(ada: Person) -> None:
    path = ada.post("/v1/notes", {"title": "t"}).headers["Location"]
    for tags in ('"1"', 'W/"1"', '"7", "1"', "*"):
        answer = ada.get(path, headers={"If-None-Match": tags})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", '"1"')
    assert ada.get(path, headers={"If-None-Match": '"2"'}).status_code == 200


def test_fields_are_sent_with_the_id_and_nothing_else(ada: Person) -> None:
    ada.make_note(id="x", tags=["a"])
    assert ada.get("/v1/notes/x?fields=tags,title").json == {"id": "x", "tags": ["a"], "title": "a note"}
    assert ada.find(fields="revision").json["items"] == [{"id": "x", "revision": 1}]


@pytest.mark.parametrize(
    "parameters", ["fields=nope", "fields=access", "fields=", "fields=title,", "expand=title", "expand=", "expand=nope"]
)
@pytest.mark.parametrize("path", ["/v1/notes", "/v1/notes/x"])
def test_a_field_that_cannot_be_sent_is_refused(ada: Person, path: str, parameters: str) -> None:
    ada.make_note(id="x")
    answer = ada.get(f"{path}?{parameters}")
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")
    assert answer.json["errors"][0]["parameter"] == parameters.partition("=")[0]


def test_expand_adds_the_record_beside_its_id(ada: Person) -> None:
    notebook = ada.make_notebook()
    id = notebook["id"]
    note = ada.make_note(id="x", notebook=id)
    ada.make_note(id="y")
    assert ada.get("/v1/notes/x?expand=notebook").json == {**note, "expanded": {"notebook": notebook}}
    part = {"id": "x", "notebook": id, "expanded": {"notebook": notebook}}
    assert ada.get("/v1/notes/x?expand=notebook&fields=notebook").json == part


def test_what_is_unset_and_what_may_not_be_read_are_two_things(ada: Person, bob: Person) -> None:
    notebook = ada.make_notebook()["id"]
    ada.make_note(id="x", notebook=notebook, readers=[bob.id])
    ada.make_note(id="y", readers=[bob.id])
    hidden, unset = bob.get("/v1/notes/x?expand=notebook").json, bob.get("/v1/notes/y?expand=notebook").json
    assert (hidden["notebook"], hidden["expanded"]) == (notebook, {"notebook": None})
    assert (unset["notebook"], unset["expanded"]) == (None, {})
    assert "expanded" not in bob.get("/v1/notes/x").json


@pytest.mark.real
def test_expanding_a_page_costs_one_query_per_relation(ada: Person) -> None:
    for _ in range(5):
        ada.make_note(notebook=ada.make_notebook()["id"])
    before = finds()
    assert all(item["expanded"]["notebook"]["title"] for item in ada.find(expand="notebook").json["items"])
    assert finds() - before == 2


def finds() -> float:
    """How many queries MongoDB was sent."""
    return REGISTRY.get_sample_value("madang_database_seconds_count", {"command": "find"}) or 0


# Change


def test_a_merge_patch_changes_what_it_names(ada: Person) -> None:
    before = ada.make_note(**WHOLE)
    after = ada.patch(f"/v1/notes/{before['id']}", {"title": "new", "due": None, "tags": []}).json
    server = {name: after[name] for name in ("updated_at", "revision")}
    assert after == before | server | {"title": "new", "due": None, "tags": []}


def test_null_gives_a_field_its_default_back(ada: Person) -> None:
    ada.make_note(id="x", **WHOLE)
    cleared = ada.patch("/v1/notes/x", dict.fromkeys(set(WHOLE) - {"title"})).json
    assert (
        cleared.items() >= {"body": "", "tags": [], "pinned": False, "priority": 0, "due": None, "place": None}.items()
    )


def test_null_is_not_stored(ada: Person) -> None:
    ada.make_note(id="x", due=None, place=None)
    ada.patch("/v1/notes/x", {"notebook": None, "due": None})
    assert None not in Note._get_collection().find_one({"_id": "x"}).values()


def test_a_merge_patch_goes_into_a_point(ada: Person) -> None:
    ada.make_note(id="x", place=POINT)
    for moved in ({**POINT, "coordinates": [0, 0]}, {"coordinates": [1, 2]}):
        told = ada.patch("/v1/notes/x", {"place": moved}).json["place"]
        assert told == {"type": "Point", "coordinates": moved["coordinates"]}
    assert ada.patch("/v1/notes/x", {"place": {}}).json["place"] == told
    for wrong in ({"type": None}, {"height": 1}, {"coordinates": [200, 0]}, {"type": "Polygon"}, {**POINT, "x": 1}):
        assert pointers(ada.patch("/v1/notes/x", {"place": wrong})).keys() == {"/place"}
    assert ada.patch("/v1/notes/x", {"place": None}).json["place"] is None
    assert pointers(ada.patch("/v1/notes/x", {"place": {"coordinates": [1, 2]}})) == {"/place": "geojson"}


def test_a_whole_point_is_set_by_one_operation() -> None:
    parse = partial(parse_patch, schema_of(Note))
    assert parse({"place": POINT}).direct
    assert not parse({"place": {"coordinates": [0, 0]}}).direct


def test_a_merge_patch_may_say_that_it_is_one(ada: Person) -> None:
    ada.make_note(id="x")
    sent = {"data": b'{"title": "new"}', "content_type": "application/merge-patch+json"}
    assert ada.patch("/v1/notes/x", **sent).json["title"] == "new"


def test_every_write_counts_the_revision_and_moves_updated_at(ada: Person) -> None:
    note = ada.make_note(id="x")
    for revision, (method, body) in enumerate(
        [("PATCH", {"pinned": True}), ("PUT", {"title": "t"}), ("PATCH", {"$inc": {"priority": 1}})], 2
    ):
        time.sleep(0.002)
        answer = ada.send(method, "/v1/notes/x", body)
        assert (answer.json["revision"], answer.headers["ETag"]) == (revision, f'"{revision}"')
        assert answer.json["updated_at"] > note["updated_at"]
        note = answer.json
    assert note["created_at"] < note["updated_at"]


@pytest.mark.parametrize(
    ("patch", "result"),
    [
        ({"$inc": {"priority": 2}}, {"priority": 4}),
        ({"$inc": {"priority": -2}}, {"priority": 0}),
        ({"$min": {"priority": 1}}, {"priority": 1}),
        ({"$min": {"priority": 3}}, {"priority": 2}),
        ({"$max": {"priority": 3}}, {"priority": 3}),
        ({"$max": {"due": "2027-01-01T00:00:00Z"}}, {"due": "2027-01-01T00:00:00.000Z"}),
        ({"$min": {"due": "2027-01-01T00:00:00Z"}}, {"due": "2026-11-22T10:00:00.000Z"}),
        ({"$push": {"tags": "a"}}, {"tags": ["a", "b", "a"]}),
        ({"$push": {"tags": {"each": ["c", "d"]}}}, {"tags": ["a", "b", "c", "d"]}),
        ({"$push": {"tags": {"each": []}}}, {"tags": ["a", "b"]}),
        ({"$add_to_set": {"tags": "a"}}, {"tags": ["a", "b"]}),
        ({"$add_to_set": {"tags": {"each": ["b", "c"]}}}, {"tags": ["a", "b", "c"]}),
        ({"$pull": {"tags": "a"}}, {"tags": ["b"]}),
        ({"$pull": {"tags": {"each": ["a", "x"]}}}, {"tags": ["b"]}),
        (
            {"$pull": {"checklist": {"text": "one", "done": True}}},
            {"checklist": [{"text": "two", "done": False}]},
        ),
        (
            {"$push": {"checklist": {"text": "three"}}},
            {"checklist": [*WHOLE["checklist"], {"text": "three", "done": False}]},
        ),
        ({"$inc": {"priority": 1}, "$pull": {"tags": "b"}, "title": "t"}, {"priority": 3, "tags": ["a"], "title": "t"}),
    ],
    ids=str,
)
def test_an_operator_does_what_it_says(ada: Person, patch: dict[str, Any], result: dict[str, Any]) -> None:
    ada.make_note(id="x", **{**WHOLE, "priority": 2})
    assert ada.patch("/v1/notes/x", patch).json.items() >= result.items()


@pytest.mark.real
def test_add_to_set_adds_an_entry_once_though_it_is_named_twice(ada: Person) -> None:
    ada.make_note(id="x", tags=["a"])
    assert ada.patch("/v1/notes/x", {"$add_to_set": {"tags": {"each": ["b", "b", "a"]}}}).json["tags"] == ["a", "b"]


def test_an_operator_on_a_field_without_a_value_begins_with_it(ada: Person) -> None:
    ada.make_note(id="x")
    assert ada.patch("/v1/notes/x", {"$min": {"due": "2026-11-22T10:00:00Z"}}).json["due"] == WHOLE["due"]


@pytest.mark.parametrize(
    "patch",
    [
        {"$inc": {"priority": 1}},
        {"$inc": {"priority": -6}},
        {"$max": {"priority": 6}},
        {"$push": {"tags": {"each": ["x"] * 19}}},
        {"$inc": {"priority": 1}, "title": "new"},
    ],
    ids=str,
)
def test_a_patch_that_would_break_a_rule_changes_nothing(ada: Person, patch: dict[str, Any]) -> None:
    before = ada.make_note(**WHOLE)
    assert ada.patch(f"/v1/notes/{before['id']}", patch).status_code == 422
    assert ada.get(f"/v1/notes/{before['id']}").json == before


@pytest.mark.real
def test_increments_by_many_at_the_same_time_all_count(ada: Person, counters: str) -> None:
    app = ada.client.application
    assert all_at_once(app, ada, 100, "PATCH", counters, {"$inc": {"hits": 1}}) == [200] * 100
    assert ada.get(counters).json["hits"] == 100
    assert ada.get(counters).json["revision"] == 101


@pytest.mark.real
def test_a_number_without_limits_of_its_own_has_those_of_64_bits(ada: Person, counters: str) -> None:
    assert ada.patch(counters, {"$inc": {"total": 2**62}}).json["total"] == 2**62
    assert pointers(ada.patch(counters, {"$inc": {"total": 2**62}})) == {"/$inc/total": "too_large"}
    assert ada.patch(counters, {"$inc": {"total": -(2**63)}}).json["total"] == -(2**62)


@pytest.mark.real
def test_a_list_that_many_push_to_is_never_longer_than_its_limit(ada: Person, counters: str) -> None:
    app = ada.client.application
    assert all_at_once(app, ada, 101, "PATCH", counters, {"$push": {"names": "x"}}) == [200] * 100 + [422]
    assert ada.get(counters).json["names"] == ["x"] * 100


# Conditions


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"title": "t"}), ("PUT", {"title": "t"}), ("DELETE", None)])
def test_if_match_is_about_the_current_revision(ada: Person, method: str, body: Any) -> None:
    before = ada.make_note(id="x")
    for tags in ('"2"', '"0"', 'W/"1"', '"2", "3"', '"01x"'):
        answer = ada.send(method, "/v1/notes/x", body, headers={"If-Match": tags})
        assert (answer.status_code, answer.json["code"]) == (412, "revision_mismatch")
    assert ada.get("/v1/notes/x").json == before
    assert ada.send(method, "/v1/notes/x", body, headers={"If-Match": '"7", "1"'}).status_code in (200, 204)


@pytest.mark.parametrize("tags", ['"1"', "*"])
def test_if_match_creates_nothing(ada: Person, tags: str) -> None:
    assert ada.put("/v1/notes/x", {"title": "t"}, headers={"If-Match": tags}).status_code == 412
    assert ada.find().json["items"] == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("method", "body"), [("PATCH", {"title": "t"}), ("PATCH", {"readers": ["*"]}), ("PUT", {"title": "t"})]
)
def test_of_many_writers_with_one_if_match_exactly_one_wins(app: Flask, ada: Person, method: str, body: Any) -> None:
    ada.make_note(id="x")
    found = all_at_once(app, ada, 20, method, "/v1/notes/x", body, headers={"If-Match": '"1"'})
    assert found == [200] + [412] * 19
    assert ada.get("/v1/notes/x").json["revision"] == 2


@pytest.mark.real
def test_of_many_deletes_one_wins(app: Flask, ada: Person) -> None:
    ada.make_note(id="x")
    assert all_at_once(app, ada, 10, "DELETE", "/v1/notes/x", None) == [204] + [404] * 9


@pytest.mark.real
def test_of_many_creations_of_one_id_one_wins(app: Flask, ada: Person) -> None:
    assert all_at_once(app, ada, 10, "POST", "/v1/notes", {"id": "x", "title": "t"}) == [201] + [409] * 9
    assert (
        all_at_once(app, ada, 10, "PUT", "/v1/notes/y", {"title": "t"}, headers={"If-None-Match": "*"})
        == [201] + [412] * 9
    )


# Replace


def test_put_creates_and_then_replaces(ada: Person) -> None:
    made = ada.put("/v1/notes/x", {"title": "first", "tags": ["a"], "due": WHOLE["due"]})
    assert (made.status_code, made.headers["Location"], made.headers["ETag"]) == (201, "/v1/notes/x", '"1"')
    replaced = ada.put("/v1/notes/x", {"title": "second"})
    assert (replaced.status_code, replaced.headers["ETag"]) == (200, '"2"')
    assert replaced.json.items() >= {"title": "second", "tags": [], "due": None, "owner": ada.id}.items()
    assert replaced.json["created_at"] == made.json["created_at"]


def test_if_none_match_on_put_creates_only(ada: Person) -> None:
    answers = [ada.put("/v1/notes/x", {"title": title}, headers={"If-None-Match": "*"}) for title in "ab"]
    assert [answer.status_code for answer in answers] == [201, 412]
    assert ada.get("/v1/notes/x").json["title"] == "a"


def test_the_id_in_the_body_is_that_of_the_path(ada: Person) -> None:
    assert ada.put("/v1/notes/x", {"id": "x", "title": "t"}).status_code == 201
    assert pointers(ada.put("/v1/notes/x", {"id": "y", "title": "t"})) == {"/id": "read_only"}


@pytest.mark.real
def test_puts_of_the_own_new_record_that_name_its_readers_all_succeed_at_once(app: Flask, ada: Person) -> None:
    for number in range(5):
        path, body = f"/v1/notes/{number}", {"title": "t", "readers": ["role:a"]}
        answers = all_at_once(app, ada, 8, "PUT", path, body)
        assert answers == [200] * 7 + [201]
        assert ada.get(path).json["revision"] == 8


@pytest.mark.real
@pytest.mark.parametrize("body", [{"title": "t"}, {"title": "t", "readers": ["role:a"]}], ids=["plain", "shared"])
def test_puts_of_the_own_new_record_with_keys_of_their_own_all_succeed_at_once(
    app: Flask, ada: Person, body: Any
) -> None:
    """In a transaction each sees what was there when it began: one that another has overtaken is tried again."""
    for number in range(5):
        path = f"/v1/notes/{number}"
        with ThreadPoolExecutor(8) as pool:
            keyed = [{**ada.headers, "Idempotency-Key": f"{number} {key}"} for key in range(8)]
            answers = [pool.submit(Phone(app.test_client(), headers).put, path, body) for headers in keyed]
        assert sorted(answer.result().status_code for answer in answers) == [200] * 7 + [201]
        assert ada.get(path).json["revision"] == 8


@pytest.mark.parametrize(("path", "way"), [("/v1/notebooks/x", "put"), ("/v1/notes/x", "create")])
def test_two_puts_that_create_at_the_same_time_both_succeed(
    ada: Person, monkeypatch: pytest.MonkeyPatch, path: str, way: str
) -> None:
    def put_after_another(*_args: Any) -> Any:
        monkeypatch.undo()
        assert ada.put(path, {"title": "first"}).status_code == 201
        raise DuplicateKeyError("what MongoDB answers to one of two writes that meet")

    monkeypatch.setattr(store, way, put_after_another)
    answer = ada.put(path, {"title": "second"})
    assert (answer.status_code, answer.json["title"]) == (200, "second")


def test_put_leaves_sharing_as_it_is_where_the_body_does_not_name_it(ada: Person) -> None:
    ada.make_note(id="x", readers=["role:a"], writers=["role:b"])
    kept = ada.put("/v1/notes/x", {"title": "t"}).json
    assert (kept["readers"], kept["writers"]) == (["role:a"], ["role:b"])
    changed = ada.put("/v1/notes/x", {"title": "t", "readers": []}).json
    assert (changed["readers"], changed["writers"]) == ([], ["role:b"])


def test_an_id_out_of_sight_is_409_for_put(ada: Person, bob: Person) -> None:
    before = ada.make_note(id="x")
    for body in ({"title": "t"}, {"title": "t", "readers": ["*"]}):
        answer = bob.put("/v1/notes/x", body)
        assert (answer.status_code, answer.json["code"]) == (409, "already_exists")
    assert ada.get("/v1/notes/x").json == before


# Delete


def test_a_deleted_record_is_not_there(ada: Person) -> None:
    ada.make_note(id="x")
    answer = ada.delete("/v1/notes/x")
    assert (answer.status_code, answer.data) == (204, b"")
    assert [
        ada.send(method, "/v1/notes/x", body).status_code
        for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None))
    ] == [404] * 3
    assert ada.find(count="true").json == {"items": [], "next": None, "total": 0}


def test_a_tombstone_keeps_the_id_taken(ada: Person, bob: Person) -> None:
    ada.make_note(id="x", readers=[bob.id])
    ada.delete("/v1/notes/x")
    for person in (ada, bob):
        assert person.post("/v1/notes", {"id": "x", "title": "t"}).status_code == 409
        assert person.put("/v1/notes/x", {"title": "t"}).status_code == 409


def test_a_tombstone_has_no_content_and_an_end(ada: Person) -> None:
    ada.make_note(id="x", **WHOLE, readers=["*"])
    ada.delete("/v1/notes/x")
    tombstone = Note._get_collection().find_one({"_id": "x"})
    assert tombstone.keys() - STAMPS == {"_id", "owner", "created_at", "updated_at", "revision", "purge_at"}
    assert (tombstone["purge_at"] - tombstone["updated_at"]).total_seconds() == pytest.approx(30 * 86400, abs=1)


def test_tombstone_days_says_how_long(make_app: Any, ada: Person) -> None:
    ada.make_note(id="x")
    Phone(make_app(TOMBSTONE_DAYS=0.5).test_client(), ada.headers).delete("/v1/notes/x")
    tombstone = Note._get_collection().find_one({"_id": "x"})
    assert (tombstone["purge_at"] - tombstone["updated_at"]).total_seconds() == pytest.approx(43200, abs=1)


# References


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/notes"), ("PUT", "/v1/notes/x"), ("PUT", "/v1/notes/new"), ("PATCH", "/v1/notes/x")],
)
def test_a_reference_has_to_lead_to_a_record_that_may_be_read(ada: Person, bob: Person, method: str, path: str) -> None:
    ada.make_note(id="x")
    deleted = ada.make_notebook()["id"]
    ada.delete(f"/v1/notebooks/{deleted}")
    for other in ("nowhere", "x", deleted, bob.make_notebook()["id"]):
        assert pointers(ada.send(method, path, {"title": "t", "notebook": other})) == {"/notebook": "not_found"}
    shared = bob.make_notebook(readers=[ada.id])["id"]
    assert ada.send(method, path, {"title": "t", "notebook": shared}).json["notebook"] == shared


def test_references_to_a_record_are_cleared_when_it_is_deleted(ada: Person) -> None:
    notebook = ada.make_notebook()["id"]
    ada.make_note(id="x", notebook=notebook)
    ada.delete(f"/v1/notebooks/{notebook}")
    assert ada.get("/v1/notes/x").json.items() >= {"notebook": None, "revision": 2}.items()


@pytest.fixture
def out_of_sight(ada: Person, bob: Person) -> str:
    """The id of a notebook that Ada's note `x` is in, though she may no longer read it."""
    notebook = bob.make_notebook(readers=[ada.id])["id"]
    ada.make_note(id="x", notebook=notebook)
    bob.patch(f"/v1/notebooks/{notebook}", {"readers": []})
    return str(notebook)


def test_a_reference_out_of_sight_is_kept(ada: Person, out_of_sight: str) -> None:
    assert ada.patch("/v1/notes/x", {"title": "t"}).json["notebook"] == out_of_sight
    assert ada.get("/v1/notes/x?expand=notebook").json["expanded"] == {"notebook": None}


@pytest.mark.parametrize("patch", [{"readers": ["*"]}, {"$push": {"writers": "*"}}], ids=str)
def test_a_patch_is_not_about_references_that_it_does_not_name(
    ada: Person, out_of_sight: str, patch: dict[str, Any]
) -> None:
    assert ada.patch("/v1/notes/x", patch).json["notebook"] == out_of_sight


# Lists


def walk(ada: Person, **parameters: Any) -> list[str]:
    """The ids on all pages, by `next`."""
    found: list[str] = []
    page = ada.find(**parameters).json
    while True:
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            return found
        page = ada.find(**parameters, cursor=page["next"]).json


def following(answer: TestResponse) -> str | None:
    """The target of the link to the next page."""
    found = re.fullmatch(r'<(.*)>; rel="next"', answer.headers.get("Link", ""))
    return found and found[1]


def test_a_list_of_nothing(ada: Person) -> None:
    answer = ada.get("/v1/notes")
    assert answer.json == {"items": [], "next": None}
    assert "Link" not in answer.headers


def test_the_default_is_20_of_the_latest_change_first(ada: Person) -> None:
    for number in range(21):
        ada.make_note(id=f"n{number:02}")
    time.sleep(0.002)
    ada.patch("/v1/notes/n07", {"pinned": True})
    page = ada.find().json
    assert (len(page["items"]), page["items"][0]["id"]) == (20, "n07")
    stamps = [item["updated_at"] for item in page["items"]]
    assert stamps == sorted(stamps, reverse=True)


@pytest.mark.parametrize(
    "sort", ["title", "-title", "due", "-due", "priority", "-priority", "-priority,due", "created_at", "-updated_at"]
)
def test_paging_walks_every_record_once_in_order(ada: Person, sort: str) -> None:
    for number in range(11):
        ada.make_note(
            id=f"n{number}", title="abc"[number % 3], priority=number % 2, due=[None, WHOLE["due"]][number % 2]
        )
    found = walk(ada, sort=sort, limit=3)
    assert sorted(found) == sorted(f"n{number}" for number in range(11))
    assert found == walk(ada, sort=sort, limit=100)


def test_the_links_lead_through_the_same_pages(ada: Person) -> None:
    for number in range(5):
        ada.make_note(tags=["a"], priority=number)
    path: str | None = "/v1/notes?limit=2&sort=-priority&where=%7B%22tags%22%3A%22a%22%7D&fields=priority"
    found = []
    while path:
        answer = ada.get(path)
        found += [item["priority"] for item in answer.json["items"]]
        path = following(answer)
    assert found == [4, 3, 2, 1, 0]


def test_a_walk_sees_the_rest_once_though_records_come_and_go(ada: Person) -> None:
    for title in "bdfhj":
        ada.make_note(id=title, title=title)
    page = ada.find(sort="title", limit=2).json
    assert [item["id"] for item in page["items"]] == ["b", "d"]
    ada.make_note(id="a", title="a")
    ada.make_note(id="e", title="e")
    ada.delete("/v1/notes/d")
    ada.delete("/v1/notes/f")
    rest = ada.find(sort="title", limit=100, cursor=page["next"]).json
    assert [item["id"] for item in rest["items"]] == ["e", "h", "j"]


def test_a_page_that_ends_with_the_last_record_has_no_next(ada: Person) -> None:
    for _ in range(4):
        ada.make_note()
    second = ada.find(limit=2, cursor=ada.find(limit=2).json["next"]).json
    assert (len(second["items"]), second["next"]) == (2, None)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.0", "१"])
def test_a_limit_is_1_to_100(ada: Person, limit: str) -> None:
    assert ada.find(limit=limit).json["code"] == "bad_parameter"


def test_count_adds_the_exact_total(ada: Person) -> None:
    for number in range(3):
        ada.make_note(priority=number)
    answer = ada.find(where={"priority": {"$gt": 0}}, limit=1, count="true").json
    assert (answer["total"], len(answer["items"])) == (2, 1)
    assert "total" not in ada.find(count="false").json


def test_a_cursor_is_good_for_its_own_query_alone(ada: Person, bob: Person) -> None:
    for person in (ada, ada, bob, bob):
        person.make_note()
    cursor = ada.find(limit=1).json["next"]
    for person, parameters in (
        (ada, {"sort": "title"}),
        (ada, {"where": {"pinned": False}}),
        (ada, {"scope": "mine"}),
        (bob, {}),
    ):
        assert person.find(**parameters, cursor=cursor).json["code"] == "bad_parameter"
    assert ada.get("/v1/notebooks", query_string={"cursor": cursor}).status_code == 400
    assert ada.find(limit=50, cursor=cursor).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: ("B" if text[0] == "A" else "A") + text[1:],
        lambda _: "",
        lambda _: "é",
        lambda _: "null",
    ],
)
def test_a_cursor_that_was_tampered_with_is_refused(ada: Person, change: Any) -> None:
    ada.make_note()
    ada.make_note()
    cursor = ada.find(limit=1).json["next"]
    assert ada.find(cursor=change(cursor)).json["errors"][0]["parameter"] == "cursor"


def test_a_list_holds_what_is_mine_of_that_type(ada: Person, bob: Person) -> None:
    mine = ada.make_note()
    bob.make_note()
    ada.make_notebook()
    assert ada.find().json["items"] == [mine]


@pytest.mark.parametrize("document", [Note, Notebook])
def test_the_hidden_fields_of_a_record_are_not_shown(ada: Person, document: type[Record]) -> None:
    kind = document._meta["collection"]
    ada.post(f"/v1/{kind}", {"id": "x", "title": "t"})
    shown = ada.get(f"/v1/{kind}/x").json.keys()
    assert shown == ada.get(f"/v1/{kind}").json["items"][0].keys()
    assert not {"access", "purge_at", "_id", "_cls"} & shown
