"""References at any depth: checked on every way of writing, kept by their delete rules, and expanded by their path."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from mongoengine import (
    CASCADE,
    DENY,
    NULLIFY,
    PULL,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    MapField,
    ReferenceField,
    StringField,
)
from mongoengine.base import BaseField
from werkzeug.test import TestResponse

from service.core.clock import now
from service.documents import Account, Record, Session
from service.identity import deletion as account_deletion
from service.model.fields import UnsupportedField
from service.model.record_type import InvalidDocument, derive
from service.model.registry import Registry
from service.mongo import driver
from service.mongo.raw import Raw
from service.records import deletion, store
from service.upkeep import indexes
from tests.client import Person, Phone, pointers

MakeApp = Callable[..., Flask]
KEY = {"Idempotency-Key": "7b1e"}


class Tool(Record):
    """What parts are made with."""

    name = StringField()
    meta = {"collection": "test_tools"}


class Part(EmbeddedDocument):
    """A part of a kit."""

    tool = ReferenceField(Tool, db_field="t", delete_rule=NULLIFY)
    spares = ListField(ReferenceField(Tool, delete_rule=PULL))
    size = IntField()


class Loose(EmbeddedDocument):
    """What stands where no rule can be kept."""

    tool = ReferenceField(Tool)


class Kit(Record):
    """References in every form."""

    name = StringField()
    main = ReferenceField(Tool, db_field="m", reverse_delete_rule=NULLIFY)
    tools = ListField(ReferenceField(Tool, reverse_delete_rule=PULL))
    part = EmbeddedDocumentField(Part, db_field="p")
    parts = EmbeddedDocumentListField(Part, db_field="ps")
    by_room = MapField(EmbeddedDocumentField(Loose))
    named = MapField(ReferenceField(Tool))
    rows = ListField(ListField(ReferenceField(Tool)))
    author = ReferenceField(Account, reverse_delete_rule=NULLIFY)
    helpers = ListField(ReferenceField(Account, reverse_delete_rule=PULL))
    meta = {"collection": "test_kits"}


class Pledge(EmbeddedDocument):
    """What keeps a tool, or goes with it."""

    kept = ReferenceField(Tool, delete_rule=DENY)
    doomed = ReferenceField(Tool, delete_rule=CASCADE)


class Loft(Record):
    """Pledges at depth, and something that goes with an account."""

    pledges = EmbeddedDocumentListField(Pledge)
    guest = ReferenceField(Account, reverse_delete_rule=CASCADE)
    meta = {"collection": "test_lofts"}


TYPES: list[type[Record]] = [Tool, Kit, Loft]
REGISTRY = Registry(TYPES)


@pytest.fixture(autouse=True)
def empty(app: Flask) -> Iterator[None]:
    yield
    for document in TYPES:
        document._get_collection().delete_many({})


@pytest.fixture
def service(make_app: MakeApp) -> Flask:
    made = make_app(documents=TYPES)
    with made.app_context():
        indexes.make(REGISTRY)
    return made


@pytest.fixture
def smith(service: Flask, ada: Person) -> Person:
    """Ada, at a service with the types of this page."""
    ada.client = service.test_client()
    assert ada.post("/v1/test_tools", {"id": "saw", "name": "a saw"}).status_code == 201
    assert ada.post("/v1/test_tools", {"id": "axe", "name": "an axe"}).status_code == 201
    return ada


def stored(document: type[Record], id: str) -> Raw:
    found = document._get_collection().find_one({"_id": id})
    assert found is not None
    return found


# Checked on every way of writing

DEEP: dict[str, tuple[dict[str, Any], str]] = {
    "a field": ({"main": "no"}, "/main"),
    "a list": ({"tools": ["saw", "no"]}, "/tools/1"),
    "an embedded document": ({"part": {"tool": "no"}}, "/part/tool"),
    "a list in an embedded document": ({"part": {"spares": ["saw", "no"]}}, "/part/spares/1"),
    "a list of embedded documents": ({"parts": [{"tool": "saw"}, {"tool": "no"}]}, "/parts/1/tool"),
    "a list in a list of embedded documents": ({"parts": [{"spares": ["no"]}]}, "/parts/0/spares/0"),
    "a map of embedded documents": ({"by_room": {"a/b": {"tool": "no"}}}, "/by_room/a~1b/tool"),
    "a map": ({"named": {"x": "saw", "y": "no"}}, "/named/y"),
    "a list of lists": ({"rows": [["saw"], ["axe", "no"]]}, "/rows/1/1"),
    "an account": ({"author": "no"}, "/author"),
    "a list of accounts": ({"helpers": ["no"]}, "/helpers/0"),
}
deep = pytest.mark.parametrize(("body", "place"), DEEP.values(), ids=DEEP)


def post(person: Phone, body: dict[str, Any]) -> TestResponse:
    return person.post("/v1/test_kits", body)


def put(person: Phone, body: dict[str, Any]) -> TestResponse:
    return person.put("/v1/test_kits/other", body)


def put_over(person: Phone, body: dict[str, Any]) -> TestResponse:
    return person.put("/v1/test_kits/kit", body)


def patch(person: Phone, body: dict[str, Any]) -> TestResponse:
    return person.patch("/v1/test_kits/kit", body)


def keyed(person: Phone, body: dict[str, Any]) -> TestResponse:
    return person.patch("/v1/test_kits/kit", body, headers=KEY)


WAYS = [post, put, put_over, patch, keyed]


@pytest.mark.parametrize("way", WAYS)
@deep
def test_a_reference_to_nothing_is_refused_at_its_place(
    smith: Person, way: Callable[[Phone, Any], TestResponse], body: dict[str, Any], place: str
) -> None:
    smith.post("/v1/test_kits", {"id": "kit"})
    answer = way(smith, body)
    assert (answer.status_code, pointers(answer)) == (422, {place: "not_found"})
    assert stored(Kit, "kit")["revision"] == 1
    assert Kit._get_collection().count_documents({}) == 1


@pytest.mark.parametrize("way", WAYS)
@deep
def test_a_reference_to_what_one_may_not_read_is_refused_as_one_to_nothing(
    smith: Person, bob: Person, service: Flask, way: Any, body: dict[str, Any], place: str
) -> None:
    bob.client = service.test_client()
    bob.post("/v1/test_tools", {"id": "no"})
    smith.post("/v1/test_kits", {"id": "kit"})
    assert pointers(way(smith, body)) == {place: "not_found"}


@pytest.mark.parametrize("way", WAYS)
def test_references_to_what_is_there_are_stored_at_every_depth(smith: Person, way: Any) -> None:
    smith.post("/v1/test_kits", {"id": "kit"})
    body = {
        "main": "saw",
        "tools": ["saw", "axe"],
        "part": {"tool": "saw", "spares": ["axe"], "size": 1},
        "parts": [{"tool": "axe", "spares": [], "size": None}],
        "by_room": {"attic": {"tool": "saw"}},
        "named": {"x": "axe"},
        "rows": [["saw"], []],
        "author": smith.id,
        "helpers": [smith.id],
    }
    answer = way(smith, body)
    assert answer.status_code in (200, 201), answer.json
    assert {name: answer.json[name] for name in body} == body


@pytest.mark.parametrize(
    ("operators", "place"),
    [
        ({"$push": {"tools": "no"}}, "/$push/tools"),
        ({"$push": {"tools": {"each": ["saw", "no"]}}}, "/$push/tools/each/1"),
        ({"$add_to_set": {"tools": "no"}}, "/$add_to_set/tools"),
        ({"$push": {"parts": {"tool": "no"}}}, "/$push/parts/tool"),
        ({"$push": {"parts": {"each": [{}, {"spares": ["no"]}]}}}, "/$push/parts/each/1/spares/0"),
        ({"$push": {"rows": ["axe", "no"]}}, "/$push/rows/1"),
        ({"$add_to_set": {"helpers": {"each": ["no"]}}}, "/$add_to_set/helpers/each/0"),
    ],
)
@pytest.mark.parametrize("headers", [{}, KEY])
def test_what_an_operator_brings_is_checked_at_its_place(
    smith: Person, operators: dict[str, Any], place: str, headers: dict[str, str]
) -> None:
    smith.post("/v1/test_kits", {"id": "kit"})
    answer = smith.patch("/v1/test_kits/kit", operators, headers=headers)
    assert (answer.status_code, pointers(answer)) == (422, {place: "not_found"})
    assert stored(Kit, "kit")["revision"] == 1


@pytest.mark.parametrize("atomic", [False, pytest.param(True, marks=pytest.mark.real)])
def test_a_batch_checks_references_too(smith: Person, atomic: bool) -> None:
    requests = [{"method": "POST", "path": "/v1/test_kits", "body": {"parts": [{"tool": "no"}]}}]
    (part,) = smith.post("/v1/batch", {"requests": requests, "atomic": atomic}).json["responses"]
    assert (part["status"], part["body"]["errors"][0]["pointer"]) == (422, "/parts/0/tool")


@pytest.mark.real
def test_a_batch_may_refer_to_what_it_has_made(smith: Person) -> None:
    requests = [
        {"method": "POST", "path": "/v1/test_tools", "body": {"id": "file"}},
        {"method": "POST", "path": "/v1/test_kits", "body": {"parts": [{"tool": "file"}]}},
    ]
    parts = smith.post("/v1/batch", {"requests": requests, "atomic": True}).json["responses"]
    assert [part["status"] for part in parts] == [201, 201]


def test_a_writer_may_change_a_part_whose_tool_is_anothers(smith: Person, bob: Person, service: Flask) -> None:
    bob.client = service.test_client()
    kit = {"id": "kit", "part": {"tool": "saw", "size": 1}, "parts": [{"tool": "axe"}], "writers": [bob.id]}
    assert smith.post("/v1/test_kits", kit).status_code == 201
    assert bob.patch("/v1/test_kits/kit", {"part": {"size": 2}}).status_code == 200
    assert bob.patch("/v1/test_kits/kit", {"part": {"size": 3}, "$push": {"parts": {}}}).status_code == 200
    assert pointers(bob.patch("/v1/test_kits/kit", {"part": {"tool": "axe"}})) == {"/part/tool": "not_found"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the collections that were read, as it goes on."""
    names: list[str] = []

    def counting(read: Callable[..., Any], named: Any, *args: Any, **kwargs: Any) -> Any:
        names.append((named.collection if isinstance(named, driver.Selection) else named).name)
        return read(named, *args, **kwargs)

    for read in (driver.find, driver.portion):
        monkeypatch.setattr(driver, read.__name__, partial(counting, read))
    return names


def test_references_to_one_type_are_asked_for_in_one_query(smith: Person, asked: list[str]) -> None:
    parts = [{"spares": ["axe"]}, {"tool": "saw"}]
    smith.post("/v1/test_kits", {"main": "saw", "tools": ["axe"], "parts": parts, "named": {"x": "saw"}})
    assert asked.count("test_tools") == 1


def test_a_record_without_references_asks_for_none(smith: Person, asked: list[str]) -> None:
    smith.post("/v1/test_kits", {"id": "kit", "name": "plain"})
    smith.patch("/v1/test_kits/kit", {"name": "plainer"})
    assert {"test_tools", "accounts"}.isdisjoint(asked)


# Delete rules


def kit(smith: Person, **body: Any) -> None:
    assert smith.post("/v1/test_kits", {"id": "kit", **body}).status_code == 201


def deleted(person: Phone, path: str, headers: Any = None) -> None:
    assert person.delete(path, headers=headers or {}).status_code == 204


@pytest.mark.parametrize("headers", [{}, KEY], ids=["plain", "with a key"])
def test_a_rule_is_kept_at_every_depth(smith: Person, headers: dict[str, str]) -> None:
    parts = [{"tool": "saw", "spares": ["axe", "saw", "axe"], "size": 1}, {"tool": "axe", "size": 2}]
    kit(smith, main="saw", tools=["saw", "axe"], part=parts[0], parts=parts)
    deleted(smith, "/v1/test_tools/saw", headers)
    left = smith.get("/v1/test_kits/kit").json
    assert (left["main"], left["tools"]) == (None, ["axe"])
    assert left["part"] == {"tool": None, "spares": ["axe", "axe"], "size": 1}
    assert left["parts"] == [
        {"tool": None, "spares": ["axe", "axe"], "size": 1},
        {"tool": "axe", "spares": [], "size": 2},
    ]
    assert left["revision"] > 1


def test_a_rule_touches_no_other_record(smith: Person) -> None:
    kit(smith, parts=[{"tool": "axe", "spares": ["axe"]}])
    before = stored(Kit, "kit")
    deleted(smith, "/v1/test_tools/saw")
    assert stored(Kit, "kit") == before


def test_what_a_newer_server_has_stored_in_a_list_stays(smith: Person) -> None:
    kit(smith, parts=[{"tool": "saw", "size": 1}])
    Kit._get_collection().update_one({"_id": "kit"}, {"$set": {"ps.0.newer": "x"}})
    deleted(smith, "/v1/test_tools/saw")
    assert stored(Kit, "kit")["ps"] == [{"spares": [], "size": 1, "newer": "x"}]


def test_a_rule_inside_of_lists_is_kept_for_more_records_than_one_batch(
    smith: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletion, "BATCH", 5)
    for number in range(12):
        smith.post("/v1/test_kits", {"id": f"k{number}", "parts": [{"tool": "saw"}, {"spares": ["saw"]}]})
    deleted(smith, "/v1/test_tools/saw")
    assert Kit._get_collection().count_documents({"$or": [{"ps.t": "saw"}, {"ps.spares": "saw"}]}) == 0
    assert Kit._get_collection().count_documents({}) == 12


def test_nothing_that_is_written_meanwhile_is_lost(smith: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    kit(smith, parts=[{"tool": "saw", "size": 0}])
    change, take_out = store.change, deletion.take_out
    pushed = []

    def after_another(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(store, "change", change)
        pushed.append(smith.patch("/v1/test_kits/kit", {"$push": {"parts": {"size": 1}}}).status_code)
        return change(*args, **kwargs)

    def interrupted(*args: Any) -> None:
        if not pushed:
            monkeypatch.setattr(store, "change", after_another)
        take_out(*args)

    monkeypatch.setattr(deletion, "take_out", interrupted)
    deleted(smith, "/v1/test_tools/saw")
    assert pushed == [200]
    assert [part["size"] for part in stored(Kit, "kit")["ps"]] == [0, 1]
    assert Kit._get_collection().find_one({"ps.t": "saw"}) is None


def test_deny_keeps_what_an_embedded_document_refers_to(smith: Person) -> None:
    smith.post("/v1/test_lofts", {"pledges": [{"kept": "saw"}]})
    assert smith.delete("/v1/test_tools/saw").json["code"] == "still_referenced"
    deleted(smith, "/v1/test_tools/axe")


def test_cascade_deletes_the_record_around_an_embedded_document(smith: Person) -> None:
    smith.post("/v1/test_lofts", {"id": "goes", "pledges": [{}, {"doomed": "saw"}]})
    smith.post("/v1/test_lofts", {"id": "stays", "pledges": [{"doomed": "axe"}]})
    deleted(smith, "/v1/test_tools/saw")
    assert [smith.get(f"/v1/test_lofts/{id}").status_code for id in ("goes", "stays")] == [404, 200]


def test_the_index_of_a_rule_goes_by_the_stored_path() -> None:
    keys = {tuple(model.document["key"]) for model in REGISTRY.of(Kit).indexes}
    assert {("m",), ("tools",), ("p.t",), ("p.spares",), ("ps.t",), ("ps.spares",), ("author",), ("helpers",)} <= keys


# Accounts


def test_a_reference_to_an_account_that_is_being_deleted_is_refused(smith: Person, bob: Person) -> None:
    assert smith.post("/v1/test_kits", {"author": bob.id}).status_code == 201
    deleted(bob, "/v1/accounts/me")
    assert pointers(smith.post("/v1/test_kits", {"author": bob.id})) == {"/author": "not_found"}


def test_rules_are_kept_when_an_account_goes(smith: Person, bob: Person) -> None:
    kit(smith, author=bob.id, helpers=[smith.id, bob.id])
    smith.post("/v1/test_lofts", {"id": "goes", "guest": bob.id})
    smith.post("/v1/test_lofts", {"id": "stays", "guest": smith.id})
    bob.client = smith.client
    deleted(bob, "/v1/accounts/me")
    left = smith.get("/v1/test_kits/kit").json
    assert (left["author"], left["helpers"]) == (None, [smith.id])
    assert [smith.get(f"/v1/test_lofts/{id}").status_code for id in ("goes", "stays")] == [404, 200]


def test_the_sweep_ends_what_a_deletion_of_an_account_left(smith: Person, bob: Person) -> None:
    kit(smith, helpers=[bob.id])
    bob.client = smith.client
    deleted(bob, "/v1/accounts/me")
    Kit._get_collection().update_one({"_id": "kit"}, {"$set": {"author": bob.id}})
    account_deletion.sweep(REGISTRY, timedelta(seconds=-1))
    assert "author" not in stored(Kit, "kit")


def test_expand_gives_the_public_part_of_an_account(smith: Person, bob: Person) -> None:
    bob.patch("/v1/accounts/me", {"display_name": "Bob", "email": "bob@example.com"})
    kit(smith, author=bob.id, helpers=[smith.id, bob.id])
    item = smith.get("/v1/test_kits/kit", query_string={"expand": "author,helpers"}).json
    public = {"id": bob.id, "username": "bob", "display_name": "Bob"}
    assert item["author"] == bob.id
    assert item["expanded"]["author"] == public == smith.get(f"/v1/accounts/{bob.id}").json
    own = {"id": smith.id, "username": "ada", "display_name": None}
    assert item["expanded"]["helpers"] == {smith.id: own, bob.id: public}
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"deleted_at": now()}})
    gone = smith.get("/v1/test_kits/kit", query_string={"expand": "author"}).json
    assert (gone["author"], gone["expanded"]) == (bob.id, {"author": None})


# Expanding


def test_expand_reaches_references_at_every_depth(smith: Person) -> None:
    part = {"tool": "saw", "spares": ["axe", "saw"], "size": 1}
    kit(smith, part=part, parts=[part, {"size": 2}], by_room={"attic": {"tool": "axe"}, "hall": {}}, rows=[["saw"], []])
    saw, axe = (smith.get(f"/v1/test_tools/{id}").json for id in ("saw", "axe"))
    expand = "part.tool,parts.tool,parts.spares,by_room.tool,rows"
    item = smith.get("/v1/test_kits/kit", query_string={"expand": expand}).json
    assert item["expanded"] == {
        "part.tool": saw,
        "parts.tool": {"saw": saw},
        "parts.spares": {"axe": axe, "saw": saw},
        "by_room.tool": {"axe": axe},
        "rows": {"saw": saw},
    }
    assert item["parts"][0] == part


def test_expanding_a_page_is_one_query_for_each_relation(smith: Person, asked: list[str]) -> None:
    for number in range(7):
        smith.post(
            "/v1/test_kits", {"parts": [{"tool": "saw"}, {"tool": "axe"}], "tools": [["saw", "axe"][number % 2]]}
        )
    asked.clear()
    items = smith.find("/v1/test_kits", expand="parts.tool,tools").json["items"]
    assert {id for item in items for id in item["expanded"]["tools"]} == {"saw", "axe"}
    assert asked.count("test_tools") == 2


def test_expand_at_depth_shows_nothing_that_may_not_be_read(smith: Person, bob: Person) -> None:
    kit(smith, parts=[{"tool": "saw"}], readers=[bob.id])
    bob.client = smith.client
    assert bob.get("/v1/test_kits/kit?expand=parts.tool").json["expanded"] == {"parts.tool": {"saw": None}}


def test_the_fields_and_what_is_expanded_in_them(smith: Person) -> None:
    kit(smith, parts=[{"tool": "saw"}])
    item = smith.get("/v1/test_kits/kit?fields=parts&expand=parts.tool").json
    assert (list(item), list(item["expanded"]["parts.tool"])) == (["id", "parts", "expanded"], ["saw"])
    assert smith.get("/v1/test_kits/kit?fields=name&expand=parts.tool").status_code == 400
    assert "parts.spares" in smith.get("/v1/test_kits/kit?expand=parts").json["detail"]


def test_the_api_document_knows_what_is_expanded(smith: Person) -> None:
    document = smith.get("/openapi.json").json
    kit(smith, parts=[{"tool": "saw", "spares": ["axe"]}], author=smith.id, by_room={"x": {"tool": "saw"}})
    view = {**document["components"]["schemas"]["KitView"], "components": document["components"]}
    item = smith.get("/v1/test_kits/kit?expand=parts.tool,parts.spares,author,by_room.tool").json
    Draft202012Validator(view).validate(item)
    item["expanded"]["parts.tool"]["saw"] = {"id": 5}
    assert not Draft202012Validator(view).is_valid(item)


# Refused at start


def declared(**fields: BaseField) -> type[Record]:
    made: type[Record] = type("Refers", (Record,), {**fields, "meta": {"collection": "test_refers"}})
    return made


def inside(field: BaseField) -> EmbeddedDocumentField:
    return EmbeddedDocumentField(type("Around", (EmbeddedDocument,), {"inner": field}))


REFUSED: dict[str, tuple[Callable[[], BaseField], str]] = {
    "NULLIFY in a map": (lambda: MapField(inside(ReferenceField(Tool, delete_rule=NULLIFY))), "stands in a map"),
    "CASCADE in a list of lists": (
        lambda: ListField(ListField(ReferenceField(Tool, delete_rule=CASCADE))),
        "a list of lists",
    ),
    "NULLIFY of a list": (lambda: ListField(ReferenceField(Tool, reverse_delete_rule=NULLIFY)), "use PULL"),
    "PULL of one": (lambda: ReferenceField(Tool, reverse_delete_rule=PULL), "use NULLIFY"),
    "NULLIFY of what is required": (
        lambda: inside(ReferenceField(Tool, required=True, delete_rule=NULLIFY)),
        "use CASCADE or DENY",
    ),
    "PULL of a required list": (
        lambda: ListField(ReferenceField(Tool, reverse_delete_rule=PULL), required=True),
        "use CASCADE or DENY",
    ),
    "DENY of an account": (lambda: ReferenceField(Account, reverse_delete_rule=DENY), "use NULLIFY, PULL or CASCADE"),
}


@pytest.mark.parametrize(("make", "say"), REFUSED.values(), ids=REFUSED)
def test_a_rule_that_cannot_be_kept_is_refused_at_start(make: Callable[[], BaseField], say: str) -> None:
    with pytest.raises(InvalidDocument, match=rf"Refers\.value.* has the delete rule .*{say}"):
        derive(declared(value=make()))


def test_a_reference_to_a_class_that_is_not_there_is_refused_at_start() -> None:
    with pytest.raises(UnsupportedField, match=r"Refers\.value refers to 'Nowhere', which is no document class"):
        derive(declared(value=ReferenceField("Nowhere")))


@pytest.mark.parametrize("target", [Session, "self"])
def test_a_reference_to_what_is_no_record_type_is_refused_at_start(target: Any) -> None:
    with pytest.raises(
        InvalidDocument, match=r"Refers\.value\.inner refers to (Session|Around), which is no record type"
    ):
        Registry([declared(value=inside(ReferenceField(target)))])
