"""What a mistake in the query string is told as, and which queries are remembered."""

from typing import Any

import mongoengine as me
import pytest

from service.core.errors import BadParameter
from service.documents import Note, Notebook, Record
from service.query.parse import Parser, View
from tests.client import Person
from tests.test_query import KEY, ROW, Shop, misunderstood, parse, refused
from tests.types import schema_of, type_of

NEAR = {"$near": {"point": [1, 2]}}


class Stop(me.EmbeddedDocument):
    """A night on the way."""

    town = me.ReferenceField(Notebook)


class Journey(Record):
    """A record with two references, one of them inside of an embedded document."""

    home = me.ReferenceField(Notebook)
    stop = me.EmbeddedDocumentField(Stop)

    meta = {"collection": "journeys", "sorts": ["-updated_at"]}


@pytest.mark.parametrize(
    ("document", "args", "parameter", "code"),
    [
        (Note, {"limit": "0"}, "limit", "out_of_range"),
        (Note, {"count": "1"}, "count", "not_allowed"),
        (Note, {"scope": "all"}, "scope", "not_allowed"),
        (Note, {"scope": "all", "search": "a"}, "scope", "not_allowed"),
        (Note, {"fields": "x"}, "fields", "unknown_field"),
        (Notebook, {"expand": "notebook"}, "expand", "unknown_parameter"),
        (Note, {"expand": "title"}, "expand", "unknown_field"),
        (Note, {"expand": "notebook", "fields": "title"}, "expand", "not_allowed"),
        (Note, {"sort": "x"}, "sort", "not_allowed"),
        (Notebook, {"search": "a"}, "search", "unknown_parameter"),
        (Note, {"search": "a", "scope": "public"}, "search", "not_allowed"),
        (Note, {"search": "a", "sort": "title"}, "search", "not_allowed"),
        (Note, {"where": {"place": NEAR}, "cursor": "a"}, "cursor", "not_allowed"),
        (Note, {"where": {"place": NEAR}, "sort": "title"}, "sort", "not_allowed"),
    ],
)
def test_a_mistake_is_told_with_its_parameter_and_a_code(
    document: type[Record], args: dict[str, Any], parameter: str, code: str
) -> None:
    with pytest.raises(BadParameter) as failed:
        parse(document, **args)
    (cause,) = failed.value.causes
    assert (cause.parameter, cause.code) == (parameter, code)
    assert failed.value.detail == f"`{parameter}`: {cause.detail}"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"place": NEAR, "title": NEAR}, "$near stands once in `where`"),
        ({"title": NEAR}, "`title`: $near works on a point"),
        ({"nothing": NEAR}, "'nothing' cannot be filtered; these can: id, owner"),
        ({"place": {"$near": {"point": 1}}}, "`place`: the point of $near is "),
    ],
)
def test_a_near_that_cannot_be_is_told_with_its_field(where: Any, said: str) -> None:
    assert misunderstood(where).startswith(said)


@pytest.mark.parametrize("named", [{"fields": "all"}, {"fields": "all", "expand": "notebook"}])
def test_all_fields_may_be_named(named: dict[str, str]) -> None:
    every = tuple(schema_of(Note).fields)
    asked = parse(**named | {"fields": ",".join(every)})
    assert asked.view == View(every, ("notebook",) if "expand" in named else ())


def test_several_references_are_expanded_each_once() -> None:
    assert parse(Journey, expand="stop.town,home,stop.town").view == View(None, ("stop.town", "home"))


def test_a_reference_within_a_field_that_is_sent_is_expanded() -> None:
    assert parse(Journey, expand="stop.town", fields="stop").view == View(("id", "stop"), ("stop.town",))
    assert "leaves out" in refused(Journey, expand="stop.town", fields="home")


def test_of_a_sort_inside_an_embedded_document_the_whole_document_is_read() -> None:
    assert parse(Shop, fields="name", sort="address.city").projection == {"_id": 1, "n": 1, "a": 1}


def test_a_shape_on_each_of_two_fields_is_told_in_one_order() -> None:
    box = {"$within": {"box": [[0, 0], [1, 1]]}}
    where = {"$or": [{"branches": {"$elemMatch": {"spot": box}}}, {"address.spot": box}]}
    assert parse(Shop, where=where).shapes == ("address.spot", "branches.spot")


# --- Over HTTP --------------------------------------------------------------------------------------------------------

OF_AN_ITEM = {"fields": "title", "expand": "notebook"}
OF_A_LIST = {"where": "{}", "sort": "title", "limit": "1", "count": "true", "search": "a", "scope": "mine"}


@pytest.mark.parametrize(("name", "text"), (OF_AN_ITEM | OF_A_LIST).items())
def test_a_list_takes_each_parameter(ada: Person, name: str, text: str) -> None:
    assert ada.get("/v1/notes", query_string={name: text}).status_code == 200


def test_a_list_takes_a_cursor(ada: Person) -> None:
    made = {ada.make_note()["id"] for _ in range(2)}
    first = ada.find(limit=1).json
    second = ada.find(limit=1, cursor=first["next"]).json
    assert {note["id"] for note in first["items"] + second["items"]} == made


@pytest.mark.parametrize(("name", "text"), (OF_AN_ITEM | OF_A_LIST).items())
def test_a_record_takes_those_of_what_is_sent(ada: Person, name: str, text: str) -> None:
    answer = ada.get(f"/v1/notes/{ada.make_note()['id']}", query_string={name: text})
    assert answer.status_code == (200 if name in OF_AN_ITEM else 400)


# --- What is remembered ----------------------------------------------------------------------------------------------


@pytest.fixture
def parser() -> Parser:
    """A parser that remembers nothing yet."""
    return Parser(type_of(Note))


def test_a_query_is_remembered_for_all_accounts_and_pages(parser: Parser) -> None:
    first = parser.parse({"sort": "title"}, "ada", KEY)
    parser.parse({"sort": "title"}, "bob", KEY)
    parser.parse({"sort": "title", "cursor": first.cursor(ROW)}, "ada", KEY)
    assert parser.remembered.cache_info()[:2] == (2, 1)


def test_so_many_queries_are_remembered_and_no_more(parser: Parser) -> None:
    for number in range(600):
        parser.parse({"where": f'{{"title": "{number}"}}'}, "ada", KEY)
    assert parser.remembered.cache_info().currsize == 512


def test_a_long_query_is_not_remembered(parser: Parser) -> None:
    def of(characters: int) -> dict[str, str]:
        where = '{"title": "%s"}'
        return {"where": where % ("x" * (characters - len(where % "") - len("title"))), "sort": "title"}

    assert parser.parse(of(501), "ada", KEY).where == parse(**of(501)).where
    assert parser.remembered.cache_info().currsize == 0
    parser.parse(of(500), "ada", KEY)
    assert parser.remembered.cache_info().currsize == 1
