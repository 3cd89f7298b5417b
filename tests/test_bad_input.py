"""What no client should send: every route answers with a problem document and nothing is stored."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask

from service.http.openapi import operation_of
from service.upkeep import indexes
from tests.client import Person, pointers
from tests.types import REGISTRY

JSON = {"content_type": "application/json"}
Route = tuple[str, str]


def dump() -> dict[str, list[Any]]:
    """All that is stored."""
    return {
        document.__name__: list(document._get_collection().find()) for document in indexes.document_classes(REGISTRY)
    }


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    """Ada and what is stored of her, to be put back for each test: hashing a password takes its time."""
    return {}


@pytest.fixture
def me(app: Flask, known: dict[str, Any]) -> Iterator[Person]:
    """Ada with a note and a notebook `x1`; what she sends leaves the database as it is."""
    if not known:
        known["ada"] = ada = Person.sign_up(app.test_client(), "ada")
        ada.make_note(id="x1", tags=["a"], checklist=[{"text": "b"}])
        ada.make_notebook(id="x1")
        known["stored"] = dump()
    else:
        for document in indexes.document_classes(REGISTRY):
            if rows := known["stored"][document.__name__]:
                document._get_collection().insert_many(rows)
    yield known["ada"]
    assert dump() == known["stored"]


@pytest.fixture
def routes(app: Flask) -> list[Route]:
    """Every method and path of the service that takes a body, but for pushes, of which each row is judged by itself.

    Those are in tests/test_watermelon.py and tests/test_rxdb.py; the forms of pages are in tests/test_pages.py,
    tests/test_web_sign_in.py and tests/test_files.py.
    """
    return [
        (method, rule.rule.replace("<id>", "x1"))
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods or ())
        if (operation := operation_of(app, rule.endpoint, method)) and operation.body and not operation.optional_body
        if not operation.is_push and operation.body_type == "application/json"
    ]


def answers(person: Person, routes: list[Route], **request: Any) -> dict[Route, tuple[int, str]]:
    """Status and code that each route answers to the same request."""
    found = {}
    for method, path in routes:
        answer = person.send(method, path, **request)
        found[method, path] = (answer.status_code, answer.json["code"])
    return found


# Bodies that are no JSON, or none of ours


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"title=x",
        b"{'title': 'x'}",
        b'{"title": "x"',
        b'{"title": "x"} {}',
        b'{"title": NaN}',
        b'{"title": -Infinity}',
        b'{"title": 1e999}',
        b'{"title": ' + b"9" * 400 + b"}",
        b'{"title": 01}',
        b'{"title": "\xff"}',
        b'{"title": "a\0"}',
        b'{"title": "\\ud800"}',
        b'{"title": "\\udc00\\ud800"}',
        b'\xef\xbb\xbf{"title": "x"}',
        '{"title": "x"}'.encode("utf-16"),
        b'{"title": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        *(b"[]", b'[{"title": "x"}]', b'"title"', b"1", b"null", b"true"),
    ],
    ids=lambda body: body[:20].decode(errors="replace"),
)
def test_a_body_that_is_no_json_object_is_malformed(me: Person, routes: list[Route], body: bytes) -> None:
    assert answers(me, routes, data=body, **JSON) == dict.fromkeys(routes, (400, "malformed_json"))


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "",
        "?",
    ],
)
def test_a_body_that_is_not_sent_as_json_is_refused(me: Person, routes: list[Route], content_type: str) -> None:
    found = answers(me, routes, data=b'{"title": "x"}', content_type=content_type)
    assert found == dict.fromkeys(routes, (415, "unsupported_media_type"))


def test_a_charset_beside_the_content_type_is_no_obstacle(ada: Person) -> None:
    sent = {"data": b'{"title": "x"}', "content_type": "Application/JSON; charset=utf-8"}
    assert ada.post("/v1/notes", **sent).status_code == 201


def test_a_body_that_is_too_large_is_refused(me: Person, routes: list[Route]) -> None:
    body = json.dumps({"title": "x" * 1024 * 1024}).encode()
    assert answers(me, routes, data=body, **JSON) == dict.fromkeys(routes, (413, "too_large"))


def test_a_body_of_the_greatest_size_is_read(me: Person) -> None:
    body = json.dumps({"title": "x" * (1024 * 1024 - len('{"title": ""}'))}).encode()
    assert len(body) == 1024 * 1024
    assert me.post("/v1/notes", data=body, **JSON).status_code == 422


def test_some_levels_are_just_a_wrong_type(me: Person, routes: list[Route]) -> None:
    body = b'{"title": ' + b"[" * 30 + b"]" * 30 + b"}"
    assert answers(me, routes, data=body, **JSON) == dict.fromkeys(routes, (422, "validation_failed"))


@pytest.mark.parametrize("inner", [b"1", b'"\\u0000"'])
@pytest.mark.parametrize("levels", [65, 250, 1000])
def test_many_levels_are_malformed(me: Person, routes: list[Route], levels: int, inner: bytes) -> None:
    body = b'{"title": ' + b"[" * levels + inner + b"]" * levels + b"}"
    assert answers(me, routes, data=body, **JSON) == dict.fromkeys(routes, (400, "malformed_json"))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"title": "a\0b"}, "/title"),
        ({"title": "a", "tags": ["b", "\0"]}, "/tags/1"),
        ({"title": "a", "checklist": [{"text": "\0"}]}, "/checklist/0/text"),
        ({"title": "a", "b\0": 1}, "/b\0"),
        ({"username": "ada\0", "password": "correct horse"}, "/username"),
    ],
)
def test_nul_in_a_string_is_told_with_its_place(
    me: Person, routes: list[Route], body: dict[str, Any], place: str
) -> None:
    for method, path in routes:
        assert pointers(me.send(method, path, body)) == {place: "nul"}


# Fields


def test_a_field_that_does_not_exist_is_told(me: Person, routes: list[Route]) -> None:
    for method, path in routes:
        answer = me.send(method, path, {"owned_by": "me", "a/b~c": 1})
        assert answer.status_code == 422
        assert pointers(answer).items() >= {"/owned_by": "unknown_field", "/a~1b~0c": "unknown_field"}.items()


@pytest.mark.parametrize(
    "name", ["access", "purge_at", "_id", "_cls", "pk", "__proto__", "", "title.x", "password_hash"]
)
def test_what_is_stored_but_not_shown_cannot_be_written(me: Person, routes: list[Route], name: str) -> None:
    for method, path in routes:
        assert pointers(me.send(method, path, {name: "o:ada"}))[f"/{name}"] == "unknown_field"


MISSING: list[tuple[Route, dict[str, Any], set[str]]] = [
    (("POST", "/auth"), {}, {"/username", "/password"}),
    (("POST", "/v1/accounts"), {}, {"/username", "/password"}),
    (("POST", "/v1/accounts"), {"username": "eve"}, {"/password"}),
    (("POST", "/v1/notes"), {}, {"/title"}),
    (("PUT", "/v1/notes/x1"), {"body": "x"}, {"/title"}),
    (("POST", "/v1/notes"), {"title": "x", "checklist": [{"done": True}]}, {"/checklist/0/text"}),
    (("PATCH", "/v1/notes/x1"), {"checklist": [{}]}, {"/checklist/0/text"}),
    (("POST", "/v1/notebooks"), {"colour": "#123456"}, {"/title"}),
]


@pytest.mark.parametrize(("route", "body", "places"), MISSING)
def test_what_is_missing_is_named(me: Person, route: Route, body: dict[str, Any], places: set[str]) -> None:
    answer = me.send(*route, body)
    assert answer.status_code == 422
    assert pointers(answer) == dict.fromkeys(places, "required")


TEXT = [1, 1.5, True, [], ["x"], {}, {"$gt": ""}, {"$ne": None}]
"""What is no text, though it may mean something to MongoDB."""
REQUIRED_TEXT = [*TEXT, ""]
POINT = {"type": "Point", "coordinates": [1, 2]}
LISTS = ["x", 1, {}, {"$each": ["x"]}, {"$ne": []}]
WRONG: dict[str, list[Any]] = {
    "title": [*REQUIRED_TEXT, "x" * 201],
    "body": [*TEXT, "x" * 100_001],
    "tags": [*LISTS, [1], [None], [""], ["x" * 41], ["x"] * 21, [["x"]], [{"$ne": ""}]],
    "pinned": [0, 1, "true", [], {}, {"$ne": True}],
    "priority": [-1, 6, 6.0, 1.5, True, "1", [], {}, {"$gt": 0}, {"$inc": 1}, 2**31, 2**63, -(2**63), 1e300],
    "due": [*TEXT, "", "today", "2026-11-22", "2026-11-22T10:00:00", "2026-13-01T00:00:00Z", "2026-11-22T25:00:00Z"],
    "place": [
        *("x", 1, True, [1, 2], {}, {"$geometry": POINT}),
        *({**POINT, "type": kind} for kind in ("point", "Polygon", 1, None, {"$ne": ""})),
        *({**POINT, "coordinates": at} for at in (None, [], [1], [1, 2, 3], ["1", 2], [True, 2], [181, 0], [0, -91])),
        {**POINT, "crs": {}},
        {"coordinates": [1, 2]},
    ],
    "checklist": [*LISTS, ["x"], [None], [[]], [{"text": ""}], [{"text": {"$gt": ""}}], [{"text": "a"}] * 101],
    "notebook": [*REQUIRED_TEXT, "nowhere", "x" * 65],
    "readers": [*LISTS, [1], [None], [""], ["a b"], ["role:"], ["role:a b"], ["**"], [{"$ne": ""}], ["ada\n"]],
    "writers": [*LISTS, [{"$gt": ""}], ["x"] * 101],
    "id": [*REQUIRED_TEXT, "a b", "a/b", "é", "x" * 65, "x\n", "$x"],
    **{name: ["x", 1, None] for name in ("owner", "created_at", "updated_at", "revision")},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_told_with_its_place(me: Person, name: str) -> None:
    for value in WRONG[name]:
        for method, path in (("POST", "/v1/notes"), ("PUT", "/v1/notes/x1"), ("PATCH", "/v1/notes/x1")):
            answer = me.send(method, path, {"title": "x", name: value})
            assert answer.status_code == 422, (method, value, answer.json)
            assert all(place.startswith(f"/{name}") for place in pointers(answer)), (method, value, answer.json)


@pytest.mark.parametrize("value", ["red", "#12345", "#1234567", "#12345g", "#123456\n", *TEXT])
def test_a_colour_is_six_hexadecimal_digits(me: Person, value: Any) -> None:
    assert pointers(me.patch("/v1/notebooks/x1", {"colour": value})).keys() == {"/colour"}


@pytest.mark.parametrize("name", ["title", "readers", "id"])
def test_null_is_no_value_of_a_field_that_is_required(me: Person, name: str) -> None:
    assert f"/{name}" in pointers(me.post("/v1/notes", {"title": "x", name: None}))


@pytest.mark.parametrize("value", [None, *TEXT], ids=repr)
@pytest.mark.parametrize("name", ["username", "password"])
@pytest.mark.parametrize("path", ["/auth", "/v1/accounts"])
def test_a_login_or_a_sign_up_takes_text_only(me: Person, path: str, name: str, value: Any) -> None:
    answer = me.post(path, {"username": "eve", "password": "correct horse", name: value})
    assert (answer.status_code, set(pointers(answer))) == (422, {f"/{name}"})


@pytest.mark.parametrize("name", ["display_name", "email"])
def test_an_account_takes_text_only(me: Person, name: str) -> None:
    for value in TEXT:
        assert pointers(me.patch("/v1/accounts/me", {name: value})).keys() == {f"/{name}"}


def test_every_cause_is_told_at_once(me: Person) -> None:
    answer = me.post("/v1/notes", {"tags": [1, "", "x"], "priority": 9, "nope": 1, "revision": 3})
    assert answer.json["detail"] == "6 fields are not valid"
    assert pointers(answer) == {
        "/title": "required",
        "/tags/0": "wrong_type",
        "/tags/1": "too_short",
        "/priority": "too_large",
        "/nope": "unknown_field",
        "/revision": "read_only",
    }


# Update operators


@pytest.mark.parametrize(
    "body",
    [
        {"$set": {"title": "x"}},
        {"$unset": {"body": ""}},
        {"$rename": {"title": "body"}},
        {"$where": "1"},
        {"$": {}},
        {"$inc": 1},
        {"$inc": []},
        {"$inc": {"priority": "1"}},
        {"$inc": {"priority": {"$gt": 0}}},
        {"$inc": {"priority": None}},
        {"$inc": {"title": 1}},
        {"$inc": {"revision": 1}},
        {"$inc": {"nope": 1}},
        {"$inc": {"checklist.0.done": 1}},
        {"$inc": {"priority": 1}, "priority": 2},
        {"$inc": {"priority": 1}, "$max": {"priority": 2}},
        {"$min": {"due": 1}},
        {"$max": {"due": "today"}},
        {"$push": {"tags": 1}},
        {"$push": {"tags": {"each": "x"}}},
        {"$push": {"tags": {"each": ["x"], "position": "0"}}},
        {"$push": {"tags": {"$each": ["x"]}}},
        {"$push": {"access": "r:*"}},
        {"$push": {"owner": "x"}},
        {"$push": {"checklist": {"done": True}}},
        {"$pull": {"tags": {"$ne": ""}}},
        {"$pull": {"title": "x"}},
        {"$add_to_set": {"tags": ""}},
        {"$add_to_set": {"readers": {"$each": ["*"]}}},
    ],
    ids=json.dumps,
)
def test_an_operator_that_is_used_wrongly_changes_nothing(me: Person, body: dict[str, Any]) -> None:
    answer = me.patch("/v1/notes/x1", body)
    assert answer.status_code == 422
    assert all(place.startswith("/$") for place in pointers(answer))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"$inc": {"priority": 6}}, "/$inc/priority"),
        ({"$inc": {"priority": -(2**62)}}, "/$inc/priority"),
        ({"$max": {"priority": 6}}, "/$max/priority"),
        ({"$push": {"tags": {"each": ["x"] * 20}}}, "/$push/tags"),
    ],
    ids=json.dumps,
)
def test_a_result_that_breaks_a_rule_is_told_with_the_place_in_the_body(
    me: Person, body: dict[str, Any], place: str
) -> None:
    assert pointers(me.patch("/v1/notes/x1", body)).keys() == {place}


@pytest.mark.real
def test_the_least_number_of_64_bits_is_refused_as_well(me: Person) -> None:
    assert pointers(me.patch("/v1/notes/x1", {"$inc": {"priority": -(2**63)}})).keys() == {"/$inc/priority"}


@pytest.mark.parametrize("body", [b'{"title": "x", "priority": %d}', b'{"$inc": {"priority": %d}}'])
def test_a_whole_number_of_more_than_64_bits_is_refused(me: Person, body: bytes) -> None:
    assert me.patch("/v1/notes/x1", data=body % 2**64, **JSON).status_code == 422


@pytest.mark.parametrize("route", [("POST", "/v1/notes"), ("PUT", "/v1/notes/x1"), ("POST", "/auth")])
def test_operators_are_for_patch_alone(me: Person, route: Route) -> None:
    assert pointers(me.send(*route, {"title": "x", "$inc": {"priority": 1}}))["/$inc"] == "unknown_field"


# Paths, parameters and headers


@pytest.mark.parametrize("id", ["%00", "%ff", "%ed%a0%80", "a%20b", "%24where", "x" * 5000, "%0d%0aX:1", "{}"])
def test_an_id_that_cannot_be_is_not_there(me: Person, id: str) -> None:
    for method, body in (("GET", None), ("PATCH", {"title": "x"}), ("DELETE", None)):
        assert me.send(method, f"/v1/notes/{id}", body).json["code"] == "not_found"
    assert pointers(me.put(f"/v1/notes/{id}", {"title": "x"})).keys() == {"/id"}
    assert me.get(f"/v1/accounts/{id}").json["code"] == "not_found"


@pytest.mark.parametrize("text", ["%ED%A0%80", "%FF", "%C3", "a%80b"])
@pytest.mark.parametrize("query", ['where={"title":"TEXT"}', "TEXT=1", "fields=TEXT", "cursor=TEXT"])
def test_a_query_string_that_is_not_utf_8_is_refused(ada: Person, query: str, text: str) -> None:
    ada.make_note(title=text)
    answer = ada.get("/v1/notes?" + query.replace("TEXT", text))
    assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")
    assert "UTF-8" in answer.json["detail"]
    part = {"method": "GET", "path": "/v1/notes?" + query.replace("TEXT", text).replace('"', "%22")}
    assert ada.post("/v1/batch", {"requests": [part]}).json["responses"][0]["status"] == 400


def test_every_route_refuses_a_parameter_that_it_does_not_know(app: Flask, me: Person) -> None:
    for rule in app.url_map.iter_rules():
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} & (rule.methods or set()):
            operation = operation_of(app, rule.endpoint, method)
            if rule.endpoint.startswith("swagger_ui") or (operation and operation.takes_others):
                continue
            answer = me.send(method, rule.rule.replace("<id>", "x1"), query_string={"tittle": "x"})
            assert answer.status_code == 400, rule
            assert method == "HEAD" or answer.json["errors"][0]["parameter"] == "tittle"


@pytest.mark.parametrize(
    "text",
    ["limit=1&limit=2", "limit[$gt]=1", "limit=", "limit=1e1", "limit=%00", "limit=%ff", "limit=1%3B", "fields=%00"],
)
def test_a_parameter_with_an_impossible_value_is_refused(me: Person, text: str) -> None:
    assert me.get(f"/v1/notes?{text}").json["code"] == "bad_parameter"


@pytest.mark.parametrize(
    "where",
    [
        "",
        "{",
        "[]",
        "1",
        "null",
        '{"title": NaN}',
        '{"title": 1e999}',
        "[" * 10_000,
        '{"$not":' * 200 + "{" + "}" * 201,
    ],
)
def test_a_where_that_cannot_be_read_is_refused(me: Person, where: str) -> None:
    assert me.get("/v1/notes", query_string={"where": where}).json["code"] == "bad_query"


def test_a_where_of_many_levels_is_refused(me: Person) -> None:
    assert me.get("/v1/notes", query_string={"where": '{"$not":' * 500 + "{" + "}" * 501}).json["code"] == "bad_query"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("value", ["nonsense", "W/", '"é"', 'W/"1"', '"1 "', '"+1"', '"' + "9" * 400 + '"'])
def test_a_condition_that_nobody_understands_does_not_hold(me: Person, method: str, value: str) -> None:
    body = None if method == "DELETE" else {"title": "y"}
    assert me.send(method, "/v1/notes/x1", body, headers={"If-Match": value}).status_code in (400, 412)


@pytest.mark.parametrize(
    ("name", "value"), [*(("If-Match", value) for value in ('"', ",,,", '""', " ")), ("If-None-Match", ",,,")]
)
def test_a_condition_without_a_tag_does_not_hold(me: Person, name: str, value: str) -> None:
    assert me.put("/v1/notes/x1", {"title": "y"}, headers={name: value}).status_code in (400, 412)
