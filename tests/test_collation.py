"""Sorts by an alphabet: what is declared, what MongoDB answers, and that only what is the same is equal under it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from mongoengine.base import BaseField

from service.documents import Note, Record
from service.model.collation import IDENTICAL, LOCALES, VARIANTS
from service.model.fields import InvalidDocument
from service.model.record_type import derive
from service.model.registry import Registry
from service.policy import Identity
from service.query.parse import Parser
from service.records.reading import Reader
from service.upkeep import indexes
from tests.client import Person
from tests.properties import examples
from tests.types import create, type_of

MakeApp = Callable[..., Flask]


def sorted_by(collation: Any, name: str = "words") -> type[Record]:
    """A record type whose title has a collation."""
    fields = {
        "title": me.StringField(collation=collation, db_field="t"),
        "mood": me.StringField(collation=collation),
        "tags": me.ListField(me.StringField()),
        "meta": {
            "collection": f"test_{name}",
            "sorts": ["updated_at", "-updated_at", "title", "-title", "mood,-title"],
            "filters": ["id", "title", "mood", "tags"],
        },
    }
    made: type[Record] = type(name.capitalize(), (Record,), fields)
    return made


# --- What is declared ------------------------------------------------------------------------------------------------


def mistake_in(collation: Any, field: BaseField | None = None, **more: Any) -> str:
    fields = {
        "title": field or me.StringField(collation=collation),
        "meta": {"collection": "test_mistakes", "sorts": ["-updated_at"], **more},
    }
    with pytest.raises(InvalidDocument) as raised:
        derive(type("Mistake", (Record,), fields))
    return str(raised.value)


@pytest.mark.parametrize(
    ("collation", "say"),
    [
        ("sw_SE", "'sw_SE', which MongoDB does not know; did you mean sw?"),
        ("SV", "did you mean sv?"),
        ("xx-yy", "'xx-yy', which MongoDB does not know"),
        ("", "does not know"),
        ("simple", "does not know"),
        ("de@collation=phonebok", "the order 'phonebok', which de has not; it has phonebook"),
        ("sv@collation=phonebook", "which sv has not; it has standard"),
        ("ko@collation=search", "which ko has not"),
        ({"locale": "sv", "strength": 2}, "always 5"),
        ({"locale": "sv", "alternate": "shifted"}, "alternate='shifted'; beside the locale there are numericOrdering"),
        ({"locale": "sv", "caseFirst": True}, "caseFirst=True"),
        ({"locale": 7}, "write the code of a language"),
        ({}, "write the code of a language"),
        (["sv"], "write the code of a language"),
        (True, "write the code of a language"),
    ],
)
def test_a_collation_that_mongodb_does_not_have_stops_the_start(collation: Any, say: str) -> None:
    assert say in mistake_in(collation)
    assert "Mistake.title has" in mistake_in(collation)


def test_only_a_text_that_can_be_sorted_by_has_a_collation() -> None:
    assert "is no text" in mistake_in(None, me.IntField(collation="sv"))
    assert "nothing is sorted by it" in mistake_in(None, me.ListField(me.StringField(collation="sv")))
    assert "is no text" in mistake_in(None, me.ListField(me.StringField(), collation="sv"))


def test_the_texts_of_a_sort_have_one_collation() -> None:
    class Mixed(Record):
        title = me.StringField(collation="sv")
        mood = me.StringField()
        meta = {"collection": "test_mixed", "sorts": ["-updated_at", "mood,title"]}

    with pytest.raises(InvalidDocument, match=r"sorts by mood,title.*declare the same of mood and title"):
        derive(Mixed)


def test_a_sort_that_names_no_such_text_has_no_collation() -> None:
    type = type_of(sorted_by("sv"))
    assert type.sorts["-updated_at"].collation is None
    assert type.sorts["title"].bson == {"locale": "sv", "strength": IDENTICAL}


def test_the_index_has_the_collation_and_a_name_of_its_own() -> None:
    options = {"locale": "de@collation=phonebook", "numericOrdering": True, "backwards": False}
    made = {model.document["name"]: model.document for model in derive(sorted_by(options)).indexes}
    name = "access_1_t_1__id_1_de@collation=phonebook_numericOrdering_True"
    assert made[name]["collation"] == {
        "locale": "de@collation=phonebook",
        "strength": IDENTICAL,
        "numericOrdering": True,
    }
    assert "collation" not in made["access_1_updated_at_1__id_1"]


def test_a_cursor_of_another_alphabet_is_refused() -> None:
    swedish, german = (Parser(derive(sorted_by(locale))) for locale in ("sv", "de"))
    asked = swedish.parse({"sort": "title"}, "ada", b"k")
    cursor = asked.cursor({"_id": "a", "t": "Ärta"})
    assert swedish.parse({"sort": "title", "cursor": cursor}, "ada", b"k").after
    with pytest.raises(Exception, match="cursor"):
        german.parse({"sort": "title", "cursor": cursor}, "ada", b"k")


# --- What MongoDB makes of it ----------------------------------------------------------------------------------------


@pytest.mark.real
def test_mongodb_has_every_alphabet_that_can_be_declared(app: Flask) -> None:
    variants = {f"{locale}@collation={name}" for name, locales in VARIANTS.items() for locale in locales}
    for locale in sorted(LOCALES | variants):
        list(Note._get_collection().find({"title": "a"}, collation={"locale": locale, "strength": IDENTICAL}))


def pages(person: Person, path: str, **args: Any) -> list[str]:
    """The titles of all pages of one record, and that they are those of one page."""
    found, answer = [], person.find(path, limit=1, **args).json
    found += answer["items"]
    while answer["next"]:
        answer = person.find(path, limit=1, cursor=answer["next"], **args).json
        found += answer["items"]
    assert found == person.find(path, limit=100, **args).json["items"]
    return [item["title"] for item in found]


@pytest.fixture
def served(make_app: MakeApp, ada: Person) -> Iterator[Callable[[Any], Person]]:
    """A function that serves a type with a collation, and gives a person who uses it at `/v1/test_words`."""
    used = []

    def serve(collation: Any) -> Person:
        document = sorted_by(collation)
        used.append(document)
        app = make_app(documents=[document])
        with app.app_context():
            indexes.make(Registry([document]))
        ada.client = app.test_client()
        return ada

    yield serve
    for document in used:
        document._get_collection().drop()


@pytest.mark.real
@pytest.mark.parametrize(
    ("collation", "titles"),
    [
        pytest.param("sv", ["adel", "Adel", "Åke", "Ås", "ärta", "Öberg"], id="Swedish"),
        pytest.param("sv", ["Vasa", "wagner", "Zorn", "ål", "Ärla", "ö"], id="Swedish: three letters after Z"),
        pytest.param("de", ["Ader", "aerob", "Afrika", "ähnlich", "Aktie", "Öl", "Zahn"], id="German dictionary"),
        pytest.param(
            "de@collation=phonebook", ["Ader", "Ähre", "Aerob", "Afrika", "Odem", "Öl", "Ofen"], id="German phone book"
        ),
        pytest.param("de", ["Masse", "Maße", "Mast"], id="German: ß is ss"),
        pytest.param("ko", ["가방", "각자", "강", "나무", "學校", "한국", "힘", "Apple", "zoo"], id="Korean"),
        pytest.param("ko", ["가", "까치", "나"], id="Korean: tense consonants"),
        pytest.param("en", ["apple", "Apple", "Ärger", "Banana", "cafe", "café", "Zebra", "가방"], id="English"),
        pytest.param("da", ["abe", "Zebra", "æble", "øl", "Århus", "Aarhus"], id="Danish: aa is å"),
        pytest.param("es", ["nube", "ñandú", "oso"], id="Spanish"),
        pytest.param(
            {"locale": "en", "numericOrdering": True}, ["page 1", "page 02", "page 2", "page 10"], id="by number"
        ),
        pytest.param({"locale": "en", "caseFirst": "upper"}, ["Ada", "ada", "Ben", "ben"], id="capitals first"),
    ],
)
def test_a_list_is_in_the_order_of_the_alphabet_page_by_page(
    served: Callable[[Any], Person], collation: Any, titles: list[str]
) -> None:
    person = served(collation)
    for title in sorted(titles):
        assert person.post("/v1/test_words", {"title": title}).status_code == 201
    assert pages(person, "/v1/test_words", sort="title") == titles
    assert pages(person, "/v1/test_words", sort="-title") == titles[::-1]


@pytest.mark.once
def test_mongomock_sorts_by_code_points(served: Callable[[Any], Person]) -> None:
    person = served("sv")
    for title in ("apple", "Zorn", "ärta", "Banana"):
        person.post("/v1/test_words", {"title": title})
    assert pages(person, "/v1/test_words", sort="title") == ["Banana", "Zorn", "apple", "ärta"]
    assert person.find("/v1/test_words", where={"title": {"$gt": "a"}}, sort="title", count="true").json["total"] == 2


NEARLY = ["ada", "Ada", "ADA", "áda", "a\u0323da", "ad\u200da", "a\u00adda", "\uff41da", "ad a", "ad-a", "", "1", "01"]
"""Texts that an alphabet of a lesser strength takes for the same."""


@pytest.mark.real
@pytest.mark.parametrize("sort", ["title", "-title", "mood,-title"])
def test_no_record_is_lost_or_repeated_between_texts_that_look_alike(
    served: Callable[[Any], Person], sort: str
) -> None:
    person = served({"locale": "en", "numericOrdering": True})
    for title in NEARLY:
        for id in ("a", "A"):
            body = {"id": f"{id}.{NEARLY.index(title)}", "title": title, "mood": NEARLY[len(title)]}
            assert person.post("/v1/test_words", body).status_code == 201
    person.post("/v1/test_words", {"id": "none"})
    found = pages(person, "/v1/test_words", sort=sort)
    assert len(found) == 2 * len(NEARLY) + 1
    assert found.count("ada") == 2


@pytest.mark.real
def test_pages_of_any_texts_are_the_list(served: Callable[[Any], Person]) -> None:
    person = served("sv")
    collection = sorted_by("sv")._get_collection()

    @given(titles=st.lists(st.text(st.sampled_from("aAåÅäv w1-\u0301\u200dzé가"), max_size=3), max_size=6))
    @examples(15)
    def walk(titles: list[str]) -> None:
        collection.delete_many({})
        for title in titles:
            assert person.post("/v1/test_words", {"title": title}).status_code == 201
        for sort in ("title", "-title"):
            assert len(pages(person, "/v1/test_words", sort=sort)) == len(titles)

    walk()


# --- What is compared under it ---------------------------------------------------------------------------------------


@pytest.mark.real
def test_what_is_equal_does_not_hang_on_the_sort(served: Callable[[Any], Person]) -> None:
    person = served("en")
    for number, title in enumerate(NEARLY):
        person.post("/v1/test_words", {"id": f"x{number}", "title": title, "tags": [title]})
    person.post("/v1/test_words", {"id": "X1", "title": "other"})
    for sort in ("title", "-updated_at"):
        for where, count in (
            ({"title": "ada"}, 1),
            ({"tags": "ada"}, 1),
            ({"id": "X1"}, 1),
            ({"title": {"$ne": "ada"}}, 13),
        ):
            answer = person.find("/v1/test_words", where=where, sort=sort, count="true").json
            assert (len(answer["items"]), answer["total"]) == (count, count)


@pytest.mark.real
def test_a_role_of_other_capitals_is_another_role(served: Callable[[Any], Person]) -> None:
    served("en")
    document = sorted_by("en")
    create(document, "ada", {"t": "secret", "readers": ["role:Admin"], "writers": []})
    type = derive(document)
    asked = Parser(type).parse({"sort": "title", "scope": "shared", "where": '{"title": {"$gt": "a"}}'}, "ben", b"k")
    seen = {}
    for role in ("Admin", "admin", "Ádmin", "Adm\u200din"):
        reader = Reader(Registry([document]), type, Identity("ben", "session", 0, (role,)))
        seen[role] = len(reader.page(asked).rows), reader.total(asked)
    assert seen == {"Admin": (1, 1), "admin": (0, 0), "Ádmin": (0, 0), "Adm\u200din": (0, 0)}


@pytest.mark.real
def test_more_and_less_follow_the_alphabet_of_the_sort(served: Callable[[Any], Person]) -> None:
    person = served("sv")
    for title in ("apple", "Zorn", "ärta", "Åke", "Banana"):
        person.post("/v1/test_words", {"title": title, "tags": [title]})
    where = {"title": {"$gte": "b", "$lt": "ä"}}
    answer = person.find("/v1/test_words", where=where, sort="title", count="true").json
    assert [item["title"] for item in answer["items"]] == ["Banana", "Zorn", "Åke"]
    assert answer["total"] == 3
    assert pages(person, "/v1/test_words", where=where, sort="title") == ["Banana", "Zorn", "Åke"]
    # Elsewhere by code points.
    answer = person.find("/v1/test_words", where=where, sort="-updated_at", count="true").json
    assert ([item["title"] for item in answer["items"]], answer["total"]) == (["Åke"], 1)
    answer = person.find("/v1/test_words", where={"tags": {"$elemMatch": {"$gt": "z", "$lt": "ä"}}}, sort="title")
    assert [item["title"] for item in answer.json["items"]] == ["Zorn", "Åke"]


@pytest.mark.real
def test_the_index_serves_the_list_and_its_count(served: Callable[[Any], Person]) -> None:
    served("sv")
    type = type_of(sorted_by("sv"))
    for number in range(200):
        create(type.document, f"owner{number % 10}", {"t": f"{'åäöaz'[number % 5]} {number}", "readers": []})
    asked = Parser(type).parse({"sort": "title", "where": json.dumps({"title": {"$gte": "å"}})}, "owner1", b"k")
    condition = {"$and": [{"access": {"$in": ["o:owner1", "r:owner1"]}}, asked.where]}
    cursor = type.collection.find(condition, sort=list(asked.sort.keys), limit=5, collation=asked.sort.bson)
    explained = cursor.hint(asked.sort.index_name).explain()
    assert "'SORT'" not in str(explained["queryPlanner"]["winningPlan"])
    assert explained["executionStats"]["totalKeysExamined"] <= 8


# --- Upkeep ----------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_another_alphabet_is_another_index_beside_the_former(app: Flask) -> None:
    former, latter = Registry([sorted_by("sv")]), Registry([sorted_by("de")])
    collection = former["test_words"].collection
    try:
        indexes.make(former)
        names = {"access_1_t_1__id_1_sv", "access_1_mood_1_t_-1__id_-1_sv"}
        assert names <= collection.index_information().keys()
        assert not [change for change in indexes.changes(former) if change.document is former["test_words"].document]
        changes = [(change.kind, change.name) for change in indexes.changes(latter) if "_t_" in change.name]
        assert {kind for kind, name in changes if name.endswith("_de")} == {"missing"}
        assert {kind for kind, name in changes if name.endswith("_sv")} == {"unused"}
        indexes.make(latter)
        assert names <= collection.index_information().keys()
        indexes.drop(latter)
        assert not names & collection.index_information().keys()
        assert "access_1_t_1__id_1_de" in collection.index_information()
    finally:
        collection.drop()


@pytest.mark.real
@pytest.mark.parametrize("collation", [None, {"locale": "de", "strength": 5}, {"locale": "sv", "strength": 3}])
def test_an_index_with_another_collation_under_its_name_is_different(app: Flask, collation: Any) -> None:
    registry = Registry([sorted_by("sv")])
    collection = registry["test_words"].collection
    name = "access_1_t_1__id_1_sv"
    try:
        options = {} if collation is None else {"collation": collation}
        collection.create_index([("access", 1), ("t", 1), ("_id", 1)], name=name, **options)
        assert (change := next(each for each in indexes.changes(registry) if each.name == name)).kind == "different"
        assert "different" in indexes.advice(registry)[0]
        indexes.make(registry)
        assert name not in {each.name for each in indexes.changes(registry)}
        assert collection.index_information()[name]["collation"]["locale"] == "sv"
        assert change.document is registry["test_words"].document
    finally:
        collection.drop()
