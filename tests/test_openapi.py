"""The OpenAPI document is valid and complete, and says of each operation what the service really does."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from mongoengine import StringField
from openapi_spec_validator import validate
from pydantic import Field

from service.documents import RECORDS, Record
from service.http import openapi
from service.http.arguments import Arguments, take
from service.model.json_schema import title_of
from service.model.record_type import RecordType
from service.pages.console import CONSOLE_ROUTES
from service.query.parse import ITEM_PARAMETERS, PARAMETERS
from tests.client import Person, Phone
from tests.examples import Examples
from tests.gym import Gym, Visit
from tests.test_house import PUBLIC, WALKS, answers, routes, rule_of
from tests.types import EVERY, SHIPPED

pytestmark = [pytest.mark.all_types, pytest.mark.once]

Json = dict[str, Any]


@pytest.fixture
def document(phone: Phone) -> Json:
    answer = phone.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        yield from ((method.upper(), path, about) for method, about in item.items() if method != "parameters")


def schema(document: Json, name: str) -> Draft202012Validator:
    """The validator of a schema among the components."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        for member in part.values():
            yield from references(member)
    elif isinstance(part, list):
        for member in part:
            yield from references(member)


# The document


def test_the_document_is_valid_openapi(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_every_reference_leads_to_a_component(document: Json) -> None:
    wanted = set(references(document))
    assert wanted
    assert {name.removeprefix("#/components/schemas/") for name in wanted} <= set(document["components"]["schemas"])


def test_every_schema_is_one(document: Json) -> None:
    for made in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(made)


def test_every_component_is_used(document: Json) -> None:
    used = {reference.rpartition("/")[2] for reference in references(document)}
    assert set(document["components"]["schemas"]) - used == set()


def schemas_in(part: Any, name: str = "") -> Iterator[tuple[str, Json]]:
    """Every schema among the components, with its place."""
    if isinstance(part, dict):
        if "type" in part or "anyOf" in part:
            yield name, part
        for member, inner in part.items():
            yield from schemas_in(inner, f"{name}/{member}")
    elif isinstance(part, list):
        for index, inner in enumerate(part):
            yield from schemas_in(inner, f"{name}/{index}")


def test_every_object_with_members_has_a_name(document: Json) -> None:
    """A generator would make up a name for it, which changes with what else there is."""
    named = [f"/components/schemas/{name}" for name in document["components"]["schemas"]]
    assert [name for name, made in schemas_in(document) if "properties" in made and name not in named] == []


def test_names_do_not_depend_on_what_else_there_is(document: Json) -> None:
    wanted = {
        "Note",
        "NoteCreate",
        "NotePatch",
        "NoteView",
        "NotePage",
        "NoteExpanded",
        "NotePush",
        "NoteSort",
        "Point",
    }
    assert wanted <= set(document["components"]["schemas"])
    assert not [name for name in document["components"]["schemas"] if name[-1].isdigit()]


def test_two_schemas_of_one_name_are_kept_apart(make_app: Any) -> None:
    class Session(Record):
        """A meeting, not a login."""

        topic = StringField()
        meta = {"collection": "test_meetings"}

    made = openapi.document(make_app([Session]))
    validate(made)
    created = made["paths"]["/v1/test_meetings"]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    assert "topic" in made["components"]["schemas"][created["$ref"].rpartition("/")[2]]["properties"]
    assert "device" in made["components"]["schemas"]["Session"]["properties"]


def test_the_license_has_its_identifier(document: Json) -> None:
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert document["servers"][0]["url"] == "/"


def test_groups_come_in_the_order_of_use_and_say_what_they_are(document: Json) -> None:
    names = [tag["name"] for tag in document["tags"]]
    assert names == ["accounts", "auth", *EVERY, "admin", "changes", "live", "pages", "sync", "batch", "system"]
    assert all(tag["description"] for tag in document["tags"])
    assert list(dict.fromkeys(about["tags"][0] for _, _, about in operations(document))) == names


def test_members_come_in_the_order_of_their_declaration(document: Json) -> None:
    names = list(document["components"]["schemas"]["Note"]["properties"])
    assert names.index("title") < names.index("body") < names.index("tags") < names.index("checklist")


def test_the_export_is_what_the_schema_says(ada: Person, document: Json) -> None:
    ada.make_note(place=POINT, notebook=ada.make_notebook()["id"])
    ada.post("/v1/groups", {"id": "family", "name": "Family"})
    ada.post("/v1/groups/family/invitations", {})
    ada.put("/v1/accounts/me/push", {"platform": "fcm", "token": "a:b"})
    schema(document, "AccountExport").validate(ada.get("/v1/accounts/me/export").json)


def prefilled(document: Json, about: Json) -> Any:
    """What the page has in the body of an operation, None where it can only show of what kind a member is."""
    content = about["requestBody"]["content"]["application/json"]
    if "example" in content:
        return content["example"]
    made = document["components"]["schemas"][content["schema"].get("$ref", "").rpartition("/")[2]]
    members = {name: part["examples"][0] for name, part in made["properties"].items() if "examples" in part}
    return members if members.keys() >= set(made.get("required", ())) else None


OF_OTHERS = (
    *("refreshTokens", "mergeGuest", "nameOwnAccount", "putGroupMember", "createGroupInvitation"),
    *("uploadFile", "changeFile", "replaceFile", "createFileLink"),
    *("verifyOwnAddress", "confirmPasswordReset", "signInByCode", "linkIdentity", "signInByProvider"),
    *("exchangeProviderCode", "returnFromProviderByForm"),
    *("createWebhook", "changeWebhook", "rotateWebhookSecret"),
    *("giveSecondFactor", "confirmSecondFactor", "addPasskey", "renamePasskey", "signInByPasskey"),
    "sendPush",
)
"""Take what only its owner has, the id of somebody else or of a group, or are for guests, of files, or for admins."""


def test_what_is_prefilled_works(make_app: Any) -> None:
    """Also for types of somebody's own; what libraries for sync send is nothing to fill in by hand."""
    person = Person(make_app([*RECORDS, Gym, Visit]).test_client())
    examples = Examples(person)
    document = person.get("/openapi.json").json
    bodies = {about["operationId"]: (method, path, about) for method, path, about in operations(document)}
    bodies = {
        name: one
        for name, one in bodies.items()
        if "requestBody" in one[2] and one[2]["tags"] not in (["sync"], ["pages"])
    }
    first, last = ["signUp", "logIn"], ["changeOwnPassword", "logOut"]
    ids: dict[str, str] = {}
    searched = set()
    for name in [*first, *(name for name in bodies if name not in (*first, *last, *OF_OTHERS)), *last]:
        method, path, about = bodies[name]
        body, type = prefilled(document, about), examples.registry.get(path.removeprefix("/v1/").split("/")[0])
        if type and (body is None or refers(type, body)):
            assert type.document not in (*SHIPPED, Gym)
            if method == "POST":
                ids[path] = examples.make(type.name)["id"]
                searched.add(type)
            continue
        if type in searched and type.schema.has_rules:
            continue
        assert body is not None, name
        answer = person.send(method, path.replace("{id}", ids.get(path.removesuffix("/{id}"), "")), json=body)
        assert answer.status_code < 300, (name, body, answer.json)
        if name == "signUp":
            person.id = answer.json["id"]
        if name == "logIn":
            person.headers = {"Authorization": f"Bearer {answer.json['access_token']}"}
        if method == "POST" and path.startswith("/v1/") and "id" in (answer.json or {}):
            ids[path] = answer.json["id"]
    Gym._get_collection().drop()
    Visit._get_collection().drop()


def refers(type: RecordType, body: Json) -> bool:
    return any(list(reference.place.json_values(body)) for reference in type.references.values())


def test_every_method_of_every_route_is_there(app: Flask, document: Json) -> None:
    there = {(method, path) for method, path, _ in operations(document)}
    files = {("GET", "/docs/{path}")}  # of Swagger UI; nobody's API
    pages = {(method, re.sub("<(.*?)>", r"{\1}", path)) for method, path, _ in CONSOLE_ROUTES}  # for people
    assert there | files | pages == {(method, openapi.path_of(rule)) for method, rule in routes(app)}
    assert not there & pages


def test_an_operation_id_is_good_for_code_and_stands_once(document: Json) -> None:
    ids = [about["operationId"] for _, _, about in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9]+", name) for name in ids)
    assert {"signUp", "logIn", "refreshTokens", "logOut", "getOwnAccount", "sendBatch", "listEvents"} <= set(ids)
    verbs = ("createNote", "listNotes", "getNote", "changeNote", "replaceNote", "deleteNote")
    assert set(verbs) <= set(ids)


def test_every_operation_has_a_summary(document: Json) -> None:
    assert all(about["summary"] for _, _, about in operations(document))


def test_every_operation_has_its_place_on_the_page(document: Json) -> None:
    assert [path for _, path, about in operations(document) if about["tags"] in ([], [""])] == []


def test_every_parameter_of_a_path_is_described(document: Json) -> None:
    for path, item in document["paths"].items():
        named = {parameter["name"] for parameter in item.get("parameters", ()) if parameter["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))


@pytest.mark.parametrize(("id", "good"), [("my.own-id_1", True), ("x" * 64, True), ("x" * 65, False), ("¿", False)])
def test_schema_and_service_agree_on_an_id_in_a_path(ada: Person, document: Json, id: str, good: bool) -> None:
    (parameter,) = document["paths"]["/v1/notes/{id}"]["parameters"]
    assert Draft202012Validator(parameter["schema"]).is_valid(id) is good
    assert ada.put(f"/v1/notes/{id}", {"title": "a"}).status_code == (201 if good else 422)


def test_all_but_public_operations_ask_for_a_token(app: Flask, document: Json) -> None:
    public = {(method, openapi.path_of(rule)) for method, rule in routes(app) if (method, rule.rule) in PUBLIC}
    for method, path, about in operations(document):
        assert about["security"] == ([] if (method, path) in public else [{"bearer": []}]), (method, path)
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_the_document_is_the_same_every_time(phone: Phone) -> None:
    assert phone.get("/openapi.json").data == phone.get("/openapi.json").data


# Bodies: schema and service agree

POINT = {"type": "Point", "coordinates": [127.0, 37.5]}
GOOD_NOTES: list[Json] = [
    {"title": "a"},
    {"title": "x" * 200, "id": "my.own-id_1"},
    {"title": "a", "body": "", "tags": [], "pinned": True, "priority": 5},
    {"title": "a", "due": None, "place": None, "notebook": None},
    {"title": "a", "due": "2026-11-22T10:00:00+09:00", "place": POINT},
    {"title": "a", "checklist": [{"text": "b"}, {"text": "c", "done": True}]},
    {"title": "a", "readers": ["*", "role:team"], "writers": ["somebody"]},
]
BAD_NOTES: list[Json] = [
    {},
    {"title": ""},
    {"title": "x" * 201},
    {"title": None},
    {"title": 1},
    {"title": "a", "colour": "#ffffff"},
    {"title": "a", "owner": "me"},
    {"title": "a", "revision": 1},
    {"title": "a", "id": "no/slash"},
    {"title": "a", "id": ""},
    {"title": "a", "body": None},
    {"title": "a", "body": "x" * 100_001},
    {"title": "a", "tags": [""]},
    {"title": "a", "tags": "b"},
    {"title": "a", "tags": ["b"] * 21},
    {"title": "a", "pinned": "yes"},
    {"title": "a", "pinned": 1},
    {"title": "a", "priority": 6},
    {"title": "a", "priority": 1.5},
    {"title": "a", "priority": True},
    {"title": "a", "due": 1},
    {"title": "a", "place": [127.0, 37.5]},
    {"title": "a", "place": {"type": "Point"}},
    {"title": "a", "place": {**POINT, "crs": None}},
    {"title": "a", "place": {**POINT, "coordinates": [181, 0]}},
    {"title": "a", "place": {**POINT, "coordinates": [0, -90.5]}},
    {"title": "a", "place": {**POINT, "coordinates": [0]}},
    {"title": "a", "place": {**POINT, "coordinates": [0, 0, 0]}},
    {"title": "a", "checklist": [{"done": True}]},
    {"title": "a", "checklist": [{"text": "b", "more": 1}]},
    {"title": "a", "notebook": ""},
    {"title": "a", "readers": ["no spaces"]},
]
GOOD_PATCHES: list[Json] = [
    {},
    {"title": "b"},
    {"body": None, "tags": None, "pinned": None, "due": None},
    {"$inc": {"priority": 1}},
    {"$push": {"tags": {"each": ["b"]}}, "$max": {"due": "2026-11-22T10:00:00Z"}},
    {"$add_to_set": {"tags": {"each": ["b", "c"]}}},
    {"title": "b", "$pull": {"tags": {"each": ["a"]}}},
]
BAD_PATCHES: list[Json] = [
    {"title": None},
    {"title": ""},
    {"id": "other"},
    {"owner": "me"},
    {"unknown": 1},
    {"$inc": {"title": 1}},
    {"$inc": {"priority": "1"}},
    {"$inc": 1},
    {"$push": {"tags": 1}},
    {"$push": {"title": "a"}},
    {"$add_to_set": {"tags": {"each": "b"}}},
    {"$rename": {"title": "body"}},
]


@pytest.mark.parametrize("body", GOOD_NOTES, ids=str)
def test_schema_and_service_take_a_good_note(ada: Person, document: Json, body: Json) -> None:
    assert list(schema(document, "NoteCreate").iter_errors(body)) == []
    made = ada.post("/v1/notes", body)
    assert made.status_code == 201
    assert list(schema(document, "Note").iter_errors(made.json)) == []


@pytest.mark.parametrize("body", BAD_NOTES, ids=lambda body: str(body)[:60])
def test_schema_and_service_refuse_a_bad_note(ada: Person, document: Json, body: Json) -> None:
    assert not schema(document, "NoteCreate").is_valid(body)
    assert ada.post("/v1/notes", body).json["code"] == "validation_failed"


@pytest.mark.parametrize("body", GOOD_PATCHES, ids=str)
def test_schema_and_service_take_a_good_patch(ada: Person, document: Json, body: Json) -> None:
    ada.make_note(id="one", tags=["a"])
    assert list(schema(document, "NotePatch").iter_errors(body)) == []
    changed = ada.patch("/v1/notes/one", body)
    assert changed.status_code == 200, changed.json
    assert list(schema(document, "Note").iter_errors(changed.json)) == []


@pytest.mark.parametrize("body", BAD_PATCHES, ids=str)
def test_schema_and_service_refuse_a_bad_patch(ada: Person, document: Json, body: Json) -> None:
    ada.make_note(id="one", tags=["a"])
    assert not schema(document, "NotePatch").is_valid(body)
    assert ada.patch("/v1/notes/one", body).json["code"] == "validation_failed"


@pytest.mark.parametrize(("colour", "good"), [("#c0ffee", True), (None, True), ("red", False), ("#c0ffeez", False)])
def test_schema_and_service_agree_on_a_notebook(ada: Person, document: Json, colour: Any, good: bool) -> None:
    body = {"title": "a", "colour": colour}
    assert schema(document, "NotebookCreate").is_valid(body) is good
    assert (ada.post("/v1/notebooks", body).status_code == 201) is good


TOLD = re.compile("`([^`]+)` where it is left out$")


@pytest.mark.parametrize("record", RECORDS)
def test_a_default_that_is_told_is_what_a_new_record_has(examples: Examples, document: Json, record: Any) -> None:
    properties = document["components"]["schemas"][f"{title_of(record)}Create"]["properties"]
    told = {name: TOLD.search(about.get("description", "")) for name, about in properties.items()}
    defaults = {name: json.loads(match[1]) for name, match in told.items() if match}
    made = examples.make(record._meta["collection"])
    assert defaults
    assert {name: made[name] for name in defaults} == defaults


def test_no_default_makes_a_member_of_a_body_required(document: Json) -> None:
    assert [name for name, made in schemas_in(document["components"]) if "default" in made] == []


@pytest.mark.parametrize("record", RECORDS)
def test_what_the_server_sets_is_marked_and_cannot_be_sent(document: Json, record: Any) -> None:
    components = document["components"]["schemas"]
    read = components[title_of(record)]["properties"]
    marked = {name for name, about in read.items() if about.get("readOnly")}
    assert marked >= {"owner", "created_at", "updated_at", "revision"}
    assert set(read) - marked == set(components[f"{title_of(record)}Create"]["properties"])


@pytest.mark.parametrize(
    ("part", "good"),
    [
        ({"path": "/v1/notes?limit=1"}, True),
        ({"path": "/v1/batches"}, True),
        ({"path": "/v1/notes", "headers": {"If-None-Match": "*"}}, True),
        ({"path": "/auth"}, False),
        ({"path": "/v1/batch"}, False),
        ({"path": "/v1/batch/?x"}, False),
        ({"path": "/v1/accounts/me/export"}, False),
        ({"path": "/v1/é"}, False),
        ({"path": "/v1/notes", "headers": {"Authorization": "x"}}, False),
        ({"path": "/v1/notes", "headers": {"If-Match": 1}}, False),
        ({"path": "/v1/notes", "headers": {"If-Match": "é"}}, False),
    ],
)
def test_schema_and_service_agree_on_a_batch(ada: Person, document: Json, part: Json, good: bool) -> None:
    body = {"requests": [{"method": "GET", **part}]}
    assert schema(document, "BatchArguments").is_valid(body) is good
    assert (ada.post("/v1/batch", body).status_code == 200) is good


# Parameters


def parameters(about: Json, place: str) -> set[str]:
    return {parameter["name"] for parameter in about["parameters"] if parameter["in"] == place}


def filled(path: str) -> str:
    return path.replace("{path}", "index.css").replace("{id}", "x")


def unknown(answer: Any) -> list[str]:
    """The parameters that an answer calls unknown."""
    if answer.status_code != 400 or answer.json["code"] != "bad_parameter":
        return []
    return [cause["parameter"] for cause in answer.json.get("errors", ()) if cause["code"] == "unknown_parameter"]


def test_a_parameter_that_is_not_listed_is_refused(ada: Person, document: Json) -> None:
    for method, path, about in operations(document):
        if about["operationId"] == "returnFromProvider":
            continue  # what a provider sends is not for us to say
        for name in {"nonsense", *PARAMETERS} - parameters(about, "query"):
            sent = ada.send(method, filled(path), query_string={name: "1"})
            assert unknown(sent) == [name], (method, path)


def test_a_parameter_that_is_listed_is_known(ada: Person, document: Json) -> None:
    for method, path, about in operations(document):
        for name in parameters(about, "query"):
            with ada.send(method, filled(path), query_string={name: "1"}) as answer:
                assert unknown(answer) == [], (method, path, name)


def test_lists_and_items_have_their_parameters(document: Json) -> None:
    for record in RECORDS:
        path = f"/v1/{record._meta['collection']}"
        type = EVERY.of(record)
        useless = {name for name, some in (("expand", type.references), ("search", type.search)) if not some}
        assert parameters(document["paths"][path]["get"], "query") == PARAMETERS - useless
        assert parameters(document["paths"][path + "/{id}"]["get"], "query") == ITEM_PARAMETERS - useless


@pytest.mark.parametrize("record", RECORDS)
def test_the_sorts_that_are_listed_are_those_that_work(ada: Person, document: Json, record: Any) -> None:
    path = f"/v1/{record._meta['collection']}"
    (sort,) = (one for one in document["paths"][path]["get"]["parameters"] if one["name"] == "sort")
    assert sort["schema"] == {"$ref": f"#/components/schemas/{title_of(record)}Sort"}
    made = document["components"]["schemas"][f"{title_of(record)}Sort"]
    assert all(ada.find(path, sort=name).status_code == 200 for name in made["enum"])
    assert ada.find(path, sort="owner").status_code == 400
    assert "owner" not in made["enum"]


def test_the_sorts_have_names_for_code(document: Json) -> None:
    made = document["components"]["schemas"]["NoteSort"]
    names = dict(zip(made["enum"], made["x-enum-varnames"], strict=True))
    assert names["-updated_at"] == "UPDATED_AT_DESCENDING"
    assert names["-priority,due"] == "PRIORITY_DESCENDING_DUE_ASCENDING"
    assert len(set(names.values())) == len(names)


def of_parameter(document: Json, path: str, name: str) -> Json:
    (found,) = (one["schema"] for one in document["paths"][path]["get"]["parameters"] if one["name"] == name)
    return found


@pytest.mark.parametrize("record", RECORDS)
def test_an_example_of_a_parameter_works(ada: Person, document: Json, record: Any) -> None:
    path = f"/v1/{record._meta['collection']}"
    listed = parameters(document["paths"][path]["get"], "query")
    examples = {name: of_parameter(document, path, name).get("examples", []) for name in listed}
    assert {name for name, some in examples.items() if some} == {"where", "fields"}
    for name, some in examples.items():
        assert [ada.get(path, query_string={name: text}).status_code for text in some] == [200] * len(some)


@pytest.mark.parametrize(
    ("path", "name", "text", "good"),
    [
        ("/v1/notes", "fields", "title,tags,title", True),
        ("/v1/notes", "fields", "title,access", False),
        ("/v1/notes", "fields", "", False),
        ("/v1/notes", "expand", "notebook", True),
        ("/v1/notes", "expand", "title", False),
        ("/v1/notes", "search", " ", False),
        ("/v1/notes", "scope", "public,mine", True),
        ("/v1/notes", "scope", "mine,mine", False),
        ("/v1/notes", "scope", "", False),
    ],
)
def test_schema_and_service_agree_on_a_parameter(
    ada: Person, document: Json, path: str, name: str, text: str, good: bool
) -> None:
    assert Draft202012Validator(of_parameter(document, path, name)).is_valid(text) is good
    assert (ada.get(path, query_string={name: text}).status_code == 200) is good


def test_an_id_of_a_request_may_be_any_text_but_is_not_always_kept(phone: Phone, document: Json) -> None:
    for text in ("mine", "not mine!", "x" * 65):
        assert Draft202012Validator(of_parameter(document, "/health/live", "X-Request-ID")).is_valid(text)
        assert phone.get("/health/live", headers={"X-Request-ID": text}).status_code == 200


def test_conditions_are_listed_where_they_work(document: Json) -> None:
    item = document["paths"]["/v1/notes/{id}"]
    assert [
        method for method in ("get", "patch", "put", "delete") if "If-Match" in parameters(item[method], "header")
    ] == [
        "get",
        "patch",
        "put",
        "delete",
    ]
    assert [method for method in ("get", "patch", "put") if "If-None-Match" in parameters(item[method], "header")] == [
        "get",
        "put",
    ]


def test_every_write_under_v1_takes_an_idempotency_key(document: Json) -> None:
    for method, path, about in operations(document):
        written = path.startswith("/v1/") and method != "GET"
        assert ("Idempotency-Key" in parameters(about, "header")) is written, (method, path)


def test_a_route_of_ones_own_may_take_a_parameter_of_its_own(make_app: Any) -> None:
    @openapi.operation("Show what is due", parameters=frozenset({"until"}), answer={200: {}})
    def soon() -> Json:
        return {}

    app = make_app()
    app.add_url_rule("/soon", view_func=soon)
    assert parameters(openapi.document(app)["paths"]["/soon"]["get"], "query") == {"until"}


def test_a_route_of_ones_own_may_name_a_model_of_its_parameters(make_app: Any) -> None:
    class Window(Arguments):
        until: datetime
        most: int = Field(default=5, le=9)

    @openapi.operation("Show what is due", public=True, parameters=Window, answer={200: {}})
    def soon() -> Json:
        return take(Window, "query").model_dump(mode="json")

    app = make_app()
    app.add_url_rule("/soon", view_func=soon)
    document = openapi.document(app)
    made = {
        one["name"]: one["schema"] for one in document["paths"]["/soon"]["get"]["parameters"] if one["in"] == "query"
    }
    assert made["most"]["maximum"] == 9
    assert made["until"]["format"] == "date-time"
    phone = Phone(app.test_client())
    assert phone.get("/soon?until=2026-11-27T10:00:00Z").json["most"] == 5
    assert phone.get("/soon?until=2026-11-27T10:00:00Z&other=1").status_code == 400


def test_two_routes_of_one_name_are_told_apart_by_their_paths(make_app: Any) -> None:
    app = make_app()

    @openapi.operation("Look", name="look", answer={200: {}})
    def look() -> Json:
        return {}

    for path in ("/one", "/two"):
        app.add_url_rule(path, path[1:], look)
    paths = openapi.document(app)["paths"]
    names = [paths[path]["get"]["operationId"] for path in ("/one", "/two")]
    assert names[0] == "look"
    assert len(set(names)) == 2


# Problems


def codes(about: Json, status: int) -> set[str]:
    """The problem codes that an operation lists under a status."""
    return set(re.findall(r"`(\w+)`:", about["responses"].get(str(status), {}).get("description", "")))


def undocumented(app: Flask, document: Json, *answered: Any) -> set[tuple[str, str, str]]:
    """Every problem in these answers that its operation does not list."""
    problems = [(answer, rule_of(app, answer)) for answer in answered if answer.status_code >= 400]
    assert problems
    return {
        (answer.request.method, rule.rule, answer.json["code"])
        for answer, rule in problems
        if answer.json["code"]
        not in codes(
            document["paths"][openapi.path_of(rule)][answer.request.method.lower()],
            answer.status_code,
        )
    }


@pytest.mark.parametrize(
    "name", [name for name in WALKS if name not in ("retry", "expand", "fields", "not modified", "file")]
)
def test_every_problem_that_comes_is_listed(app: Flask, document: Json, name: str) -> None:
    assert undocumented(app, document, *answers(app, name)) == set()


def test_an_expired_token_is_listed(make_app: Any, document: Json) -> None:
    app = make_app(JWT_EXPIRATION_DELTA=-60)
    late = Person.sign_up(app.test_client(), "ada")
    answered = [late.send(method, filled(path)) for method, path, about in operations(document) if about["security"]]
    assert {answer.json["code"] for answer in answered} == {"token_expired"}
    assert undocumented(app, document, *answered) == set()


def test_a_throttled_login_is_listed(make_app: Any, document: Json) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="1 per minute")
    phone = Phone(app.test_client())
    answered = [phone.post("/auth", {"username": "nobody-here", "password": "wrong"}) for _ in range(2)]
    assert [answer.json["code"] for answer in answered] == ["bad_credentials", "too_many_requests"]
    assert undocumented(app, document, *answered) == set()


def test_a_key_that_came_with_another_request_is_listed(app: Flask, document: Json) -> None:
    assert undocumented(app, document, *answers(app, "retry")) == set()


def test_a_problem_carries_the_headers_that_are_listed(document: Json) -> None:
    for _, _, about in operations(document):
        for status, name in ((401, "WWW-Authenticate"), (429, "Retry-After"), (503, "Retry-After")):
            assert name in about["responses"].get(str(status), {"headers": {name: {}}})["headers"]


def test_the_codes_of_the_schema_are_those_of_the_page(phone: Phone, document: Json) -> None:
    page = phone.get("/docs/problems").text
    listed = document["components"]["schemas"]["Problem"]["properties"]["code"]["x-extensible-enum"]
    assert listed == re.findall(r'<h2 id="(\w+)">', page)
