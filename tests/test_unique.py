"""Unique values: free again when a record is deleted, and a duplicate is told at its place on every way of writing."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from mongoengine.base import BaseField
from werkzeug.test import TestResponse

from service.documents import Notebook, Record
from service.model.fields import InvalidDocument
from service.model.record_type import derive
from service.model.registry import Registry
from service.upkeep import indexes
from tests.client import Person, Phone
from tests.types import create

MakeApp = Callable[..., Flask]
KEY = {"Idempotency-Key": "51c0"}


class Address(me.EmbeddedDocument):
    """Where a shop is."""

    door = me.StringField(db_field="d", unique=True)
    street = me.StringField(unique_with="city")
    city = me.StringField()


class Shop(Record):
    """Unique in every way that there is."""

    slug = me.StringField(db_field="s", unique=True, max_length=20)
    sign = me.StringField(unique_with="owner", sparse=True)
    number = me.IntField(unique=True)
    address = me.EmbeddedDocumentField(Address, db_field="a")
    tags = me.ListField(me.StringField())
    meta = {"collection": "test_shops"}


class Seat(Record):
    """Unique within another record."""

    row = me.IntField(unique_with=["number", "hall"])
    number = me.IntField()
    hall = me.StringField()
    meta = {"collection": "test_seats"}


class Mug(Record):
    """A type with a rule over the whole, so that every patch is computed."""

    name = me.StringField(unique=True)
    size = me.IntField()
    meta = {"collection": "test_mugs"}

    def clean(self) -> None:
        """Let everything pass."""


TYPES: list[type[Record]] = [Shop, Seat, Mug]
REGISTRY = Registry(TYPES)


@pytest.fixture
def service(make_app: MakeApp) -> Iterator[Flask]:
    made = make_app(documents=TYPES)
    with made.app_context():
        indexes.make(REGISTRY)
    yield made
    for document in TYPES:
        document._get_collection().drop()


@pytest.fixture
def ada(service: Flask, ada: Person) -> Person:
    ada.client = service.test_client()
    return ada


@pytest.fixture
def bob(service: Flask, bob: Person) -> Person:
    bob.client = service.test_client()
    return bob


def made(person: Phone, **body: Any) -> str:
    answer = person.post("/v1/test_shops", body)
    assert answer.status_code == 201, answer.json
    return str(answer.json["id"])


def taken(answer: TestResponse) -> tuple[int, str, list[str]]:
    """Status, code and places of a problem; without `Retry-After`, for it does not help to send it again."""
    assert "Retry-After" not in answer.headers
    return answer.status_code, answer.json["code"], [cause["pointer"] for cause in answer.json["errors"]]


def conflict(*places: str) -> tuple[int, str, list[str]]:
    return 409, "already_exists", list(places)


# What does not collide


def test_many_records_may_have_no_value(ada: Person) -> None:
    for _ in range(3):
        made(ada)
        made(ada, address={"city": "Ulm"})
        made(ada, slug=None, sign=None)


def test_many_records_may_be_deleted_and_their_values_are_free(ada: Person) -> None:
    for name in ("a", "b", "a", "b", "a"):
        id = made(ada, slug=name, sign=name, number=1, address={"door": name, "street": name, "city": name})
        assert ada.delete(f"/v1/test_shops/{id}").status_code == 204


def test_a_value_that_was_cleared_is_free(ada: Person) -> None:
    id = made(ada, slug="a", address={"door": "1", "city": "Ulm"})
    assert ada.patch(f"/v1/test_shops/{id}", {"slug": None, "address": {"door": None}}).status_code == 200
    made(ada, slug="a", address={"door": "1", "city": "Ulm"})


def test_a_value_is_unique_for_each_owner_where_it_says_so(ada: Person, bob: Person) -> None:
    made(ada, sign="Milk")
    made(bob, sign="Milk")
    assert taken(ada.post("/v1/test_shops", {"sign": "Milk"})) == conflict("/sign")


def test_one_record_may_be_written_again(ada: Person) -> None:
    body = {"slug": "a", "sign": "b", "number": 1, "address": {"door": "1", "city": "Ulm"}}
    for status in (201, 200, 200):
        assert ada.put("/v1/test_shops/x", body).status_code == status
    assert ada.patch("/v1/test_shops/x", body).status_code == 200


# What does


VALUES = {
    "slug": ({"slug": "a"}, "/slug"),
    "number": ({"number": 7}, "/number"),
    "sign": ({"sign": "Milk"}, "/sign"),
    "embedded": ({"address": {"door": "1", "city": "Ulm"}}, "/address/door"),
}
values = pytest.mark.parametrize(("body", "place"), VALUES.values(), ids=VALUES)


def post(person: Phone, body: Any) -> TestResponse:
    return person.post("/v1/test_shops", body)


def put_new(person: Phone, body: Any) -> TestResponse:
    return person.put("/v1/test_shops/new", body)


def put_only(person: Phone, body: Any) -> TestResponse:
    return person.put("/v1/test_shops/new", body, headers={"If-None-Match": "*"})


def put_over(person: Phone, body: Any) -> TestResponse:
    return person.put("/v1/test_shops/other", body)


def put_if(person: Phone, body: Any) -> TestResponse:
    return person.put("/v1/test_shops/other", body, headers={"If-Match": '"1"'})


def put_sharing(person: Phone, body: Any) -> TestResponse:
    return person.put("/v1/test_shops/other", {**body, "readers": []})


def patch(person: Phone, body: Any) -> TestResponse:
    return person.patch("/v1/test_shops/other", body)


def patch_sharing(person: Phone, body: Any) -> TestResponse:
    return person.patch("/v1/test_shops/other", {**body, "readers": ["*"]})


def keyed(way: Callable[[Phone, Any], TestResponse]) -> Callable[[Phone, Any], TestResponse]:
    def send(person: Phone, body: Any) -> TestResponse:
        return way(Phone(person.client, {**person.headers, **KEY}), body)

    return send


def batch(person: Phone, body: Any, **more: Any) -> TestResponse:
    """The first answer of a batch, as if it had come alone."""
    requests = [{"method": "POST", "path": "/v1/test_shops", "body": body}]
    answer = person.post("/v1/batch", {"requests": requests, **more})
    (part,) = answer.json["responses"]
    response: Any = type("Part", (), {"status_code": part["status"], "json": part["body"], "headers": part["headers"]})
    return response  # type: ignore[no-any-return]


def atomic(person: Phone, body: Any) -> TestResponse:
    return batch(person, body, atomic=True)


WAYS = {
    **{way.__name__: way for way in (post, put_new, put_only, put_over, put_if, put_sharing, patch, patch_sharing)},
    "keyed_post": keyed(post),
    "keyed_put": keyed(put_over),
    "keyed_patch": keyed(patch),
    "batch": batch,
}
REAL_WAYS = {"atomic": atomic}
ways = pytest.mark.parametrize(
    "way",
    [
        *(pytest.param(way, id=name) for name, way in WAYS.items()),
        *(pytest.param(way, id=name, marks=pytest.mark.real) for name, way in REAL_WAYS.items()),
    ],
)


@ways
@values
@pytest.mark.real
def test_a_duplicate_is_told_at_its_field_on_every_way_of_writing(
    ada: Person, way: Callable[[Phone, Any], TestResponse], body: dict[str, Any], place: str
) -> None:
    made(ada, id="first", **body)
    made(ada, id="other")
    assert taken(way(ada, body)) == conflict(place)
    assert ada.get("/v1/test_shops/other").json["revision"] == 1
    assert Shop._get_collection().count_documents({}) == 2


@ways
def test_a_duplicate_is_refused_in_memory_too(ada: Person, way: Callable[[Phone, Any], TestResponse]) -> None:
    made(ada, id="first", slug="a")
    made(ada, id="other")
    assert taken(way(ada, {"slug": "a"})) == conflict("/slug")
    assert Shop._get_collection().count_documents({}) == 2


def test_a_duplicate_of_another_owner_is_one_too(ada: Person, bob: Person) -> None:
    made(ada, slug="a")
    assert taken(bob.post("/v1/test_shops", {"slug": "a"})) == conflict("/slug")


@pytest.mark.real
def test_the_detail_says_what_is_taken_and_what_would_be_right(ada: Person) -> None:
    made(ada, slug="a", sign="Milk")
    answer = ada.post("/v1/test_shops", {"sign": "Milk"})
    assert answer.json["detail"] == "the sign is taken"
    (cause,) = answer.json["errors"]
    assert cause == {
        "pointer": "/sign",
        "code": "not_unique",
        "detail": "a value that no other record of its owner has",
    }
    assert ada.post("/v1/test_shops", {"slug": "a"}).json["errors"][0]["detail"] == "a value that no other record has"


@pytest.mark.real
def test_values_that_are_unique_together_are_told_together(ada: Person) -> None:
    seat = {"row": 1, "number": 2, "hall": "A"}
    assert ada.post("/v1/test_seats", {"id": "one", **seat}).status_code == 201
    assert ada.post("/v1/test_seats", {"id": "two", **seat, "number": 3}).status_code == 201
    answer = ada.post("/v1/test_seats", seat)
    assert taken(answer) == conflict("/row", "/number", "/hall")
    assert answer.json["detail"] == "the row and number and hall are taken"
    # Of a patch those that it names.
    assert taken(ada.patch("/v1/test_seats/two", {"number": 2})) == conflict("/number")
    assert taken(ada.patch("/v1/test_seats/two", {"$inc": {"number": -1}})) == conflict("/$inc/number")


@pytest.mark.real
def test_values_of_an_embedded_document_are_unique_together(ada: Person) -> None:
    made(ada, address={"street": "Main St", "city": "Ulm"})
    made(ada, address={"street": "Main St", "city": "Bonn"})
    answer = ada.post("/v1/test_shops", {"address": {"street": "Main St", "city": "Ulm"}})
    assert taken(answer) == conflict("/address/street", "/address/city")


@pytest.mark.real
def test_the_result_of_an_operator_is_a_duplicate_at_its_place(ada: Person) -> None:
    made(ada, id="first", number=7)
    made(ada, id="other", number=6)
    assert taken(ada.patch("/v1/test_shops/other", {"$inc": {"number": 1}})) == conflict("/$inc/number")
    assert taken(ada.patch("/v1/test_shops/other", {"$max": {"number": 7}})) == conflict("/$max/number")


@pytest.mark.real
def test_a_patch_that_is_computed_is_refused_as_well(ada: Person) -> None:
    ada.post("/v1/test_mugs", {"id": "a", "name": "red"})
    ada.post("/v1/test_mugs", {"id": "b", "name": "blue"})
    assert taken(ada.patch("/v1/test_mugs/b", {"name": "red"})) == conflict("/name")
    assert ada.patch("/v1/test_mugs/b", {"size": 2}).status_code == 200


@pytest.mark.real
def test_an_atomic_batch_is_undone_by_a_duplicate(ada: Person) -> None:
    requests = [{"method": "POST", "path": "/v1/test_shops", "body": {"slug": slug}} for slug in ("a", "b", "a")]
    parts = ada.post("/v1/batch", {"requests": requests, "atomic": True}).json["responses"]
    assert [part["status"] for part in parts] == [424, 424, 409]
    assert parts[2]["body"]["errors"][0]["pointer"] == "/slug"
    assert Shop._get_collection().count_documents({}) == 0


@pytest.mark.real
def test_a_batch_may_move_a_value_from_one_record_to_another(ada: Person) -> None:
    made(ada, id="one", slug="a")
    requests = [
        {"method": "PATCH", "path": "/v1/test_shops/one", "body": {"slug": "b"}},
        {"method": "POST", "path": "/v1/test_shops", "body": {"slug": "a"}},
    ]
    parts = ada.post("/v1/batch", {"requests": requests, "atomic": True}).json["responses"]
    assert [part["status"] for part in parts] == [200, 201]


@pytest.mark.parametrize("way", [post, put_new])
def test_the_id_keeps_its_own_sentence(ada: Person, bob: Person, way: Any) -> None:
    made(ada, id="new")
    answer = way(bob, {"id": "new", "slug": "z"})
    assert (answer.status_code, answer.json["detail"]) == (409, "the id is taken")


def test_an_id_that_is_taken_is_told_at_its_place(ada: Person) -> None:
    made(ada, id="x")
    assert taken(ada.post("/v1/test_shops", {"id": "x"})) == conflict("/id")


def test_a_name_that_is_taken_is_told_at_its_place(ada: Person) -> None:
    answer = ada.post("/v1/accounts", {"username": "ADA", "password": "a long pass phrase"})
    assert taken(answer) == conflict("/username")
    assert answer.json["detail"] == "the username is taken"


# Races

AT_ONCE = 8


def at_once(person: Phone, service: Flask, *calls: Callable[[Phone], TestResponse]) -> list[int]:
    phones = [Phone(service.test_client(), person.headers) for _ in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        return [answer.status_code for answer in pool.map(lambda call, phone: call(phone), calls, phones)]


@pytest.mark.real
@pytest.mark.parametrize("headers", [{}, KEY], ids=["plain", "with a key"])
def test_of_many_who_want_one_value_one_gets_it(ada: Person, service: Flask, headers: dict[str, str]) -> None:
    def wanting(slug: str, n: int) -> Callable[[Phone], TestResponse]:
        keys = {name: f"{key}{slug}{n}" for name, key in headers.items()}
        return lambda phone: phone.post("/v1/test_shops", {"slug": slug}, headers=keys)

    for slug in "abcde":
        calls = [wanting(slug, n) for n in range(AT_ONCE)]
        assert sorted(at_once(ada, service, *calls)) == [201] + [409] * (AT_ONCE - 1)


@pytest.mark.real
def test_of_many_records_that_are_changed_to_one_value_one_gets_it(ada: Person, service: Flask) -> None:
    for n in range(AT_ONCE):
        made(ada, id=f"x{n}", number=n)
    calls = [lambda phone, n=n: phone.patch(f"/v1/test_shops/x{n}", {"slug": "same"}) for n in range(AT_ONCE)]
    assert sorted(at_once(ada, service, *calls)) == [200] + [409] * (AT_ONCE - 1)


@pytest.mark.real
def test_many_puts_of_one_record_with_a_unique_value_all_succeed(ada: Person, service: Flask) -> None:
    """The id is looked at before the value, so the others find the record and replace it."""
    for number in range(5):
        calls = [lambda phone: phone.put(f"/v1/test_shops/p{number}", {"slug": f"p{number}"})] * AT_ONCE  # noqa: B023
        assert sorted(at_once(ada, service, *calls)) == [200] * (AT_ONCE - 1) + [201]


# Declared


def declared(**fields: Any) -> type[Record]:
    meta = {"collection": "test_declared_unique", **fields.pop("meta", {})}
    made: type[Record] = type("Single", (Record,), {**fields, "meta": meta})
    return made


def inside(field: BaseField, around: type[BaseField] = me.EmbeddedDocumentField) -> BaseField:
    return around(type("Hull", (me.EmbeddedDocument,), {"inner": field}))


REFUSED: dict[str, tuple[Callable[[], type[Record]], str]] = {
    "a list": (lambda: declared(value=me.ListField(me.StringField(), unique=True)), "holds no single value"),
    "an entry of a list": (
        lambda: declared(value=me.ListField(me.StringField(unique=True))),
        "stands in a list or a map",
    ),
    "in a list of embedded documents": (
        lambda: declared(value=inside(me.StringField(unique=True), me.EmbeddedDocumentListField)),
        "stands in a list or a map",
    ),
    "a place": (lambda: declared(value=me.PointField(auto_index=False, unique=True)), "holds no single value"),
    "a default": (lambda: declared(value=me.StringField(default="", unique=True)), "which two records would share"),
    "hidden": (lambda: declared(value=me.StringField(hidden=True, unique=True)), "no client sees it"),
    "hidden inside": (
        lambda: declared(value=inside(me.StringField(hidden=True, unique=True))),
        "hidden inside",
    ),
    "an index": (
        lambda: declared(value=me.StringField(), meta={"indexes": [{"fields": ["value"], "unique": True}]}),
        "say unique=True on the field",
    ),
    "with a list": (
        lambda: declared(value=me.StringField(unique_with="others"), others=me.ListField(me.StringField())),
        "others holds no single value",
    ),
}


@pytest.mark.parametrize(("make", "say"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_unique_is_refused_at_start(make: Callable[[], type[Record]], say: str) -> None:
    with pytest.raises(InvalidDocument, match=say):
        derive(make())


def test_the_index_of_a_unique_field_is_a_partial_one() -> None:
    found = {model.document["name"]: model.document for model in indexes.wanted(REGISTRY)[Shop]}
    assert {name for name, made in found.items() if made.get("unique")} == {
        *("unique_s", "unique_sign_owner", "unique_number", "unique_a.d", "unique_a.street_a.city")
    }
    assert found["unique_sign_owner"]["partialFilterExpression"] == {
        "sign": {"$exists": True},
        "owner": {"$exists": True},
    }


@pytest.mark.real
def test_the_indexes_are_as_declared_after_they_were_made(service: Flask) -> None:
    assert [change for change in indexes.changes(REGISTRY) if change.document in TYPES] == []


@pytest.mark.real
def test_a_unique_reference_with_a_delete_rule_has_two_indexes(make_app: MakeApp) -> None:
    book = me.ReferenceField(Notebook, reverse_delete_rule=me.NULLIFY, unique=True)
    registry = Registry([Notebook, declared(book=book)])
    indexes.make(registry)
    assert indexes.changes(registry) == []
    registry["test_declared_unique"].collection.drop()


def test_the_api_document_says_what_is_unique(ada: Person) -> None:
    schemas = ada.get("/openapi.json").json["components"]["schemas"]
    for name in ("Shop", "ShopCreate", "ShopPatch"):
        found = schemas[name]["properties"]
        assert found["slug"]["description"] == "unique: no other record has the same"
        assert found["sign"]["description"] == "unique: no other record of its owner has the same"
    assert schemas["Seat"]["properties"]["row"]["description"].endswith("has the same with the same number and hall")
    patching = ada.get("/openapi.json").json["paths"]["/v1/test_shops/{id}"]["patch"]
    assert "already_exists" in patching["responses"]["409"]["description"]
    assert "already_exists" not in Phone(ada.client).get("/openapi.json").json["paths"]["/v1/accounts/me"]["patch"]


# Old data


@pytest.mark.real
@pytest.mark.parametrize("by_hand", [False, True])
def test_an_index_that_old_data_refuses_says_which_and_why(service: Flask, by_hand: bool) -> None:
    Shop._get_collection().drop_index("unique_s")
    for id in ("one", "two"):
        create(Shop, "ada", {"_id": id, "s": "milk"})
    if by_hand:
        done = service.test_cli_runner().invoke(args=["indexes", "make"])
        assert done.exit_code == 1
        said = done.output
    else:
        with pytest.raises(indexes.IndexRefused) as refused:
            indexes.make(REGISTRY)
        said = str(refused.value)
    assert (
        "the index unique_s of test_shops cannot be made: one and two, and maybe more, have the same s 'milk'" in said
    )


@pytest.mark.real
def test_an_index_of_places_that_old_data_refuses_names_the_record(make_app: MakeApp) -> None:
    area = declared(area=me.PolygonField(), meta={"collection": "test_areas"})
    bow_tie = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
    area._get_collection().insert_one({"_id": "bow", "area": bow_tie, "more": "x" * 5000})
    with pytest.raises(
        indexes.IndexRefused, match=r'area_2dsphere of test_areas .*"bow" has a shape .* cross'
    ) as refused:
        indexes.make(Registry([area]))
    assert len(str(refused.value)) < 600
    area._get_collection().drop()
