"""If-Match and If-None-Match, to the letter of RFC 9110."""

from contextlib import nullcontext
from typing import Any

import mongomock
import pytest

from service.core.errors import RevisionMismatch
from service.records.precondition import Precondition, Tags
from tests.client import Person

NOTE = "/v1/notes/x"
WRITES = [("PATCH", {"title": "b"}), ("PUT", {"title": "b"}), ("DELETE", None)]


TAGS: list[Tags | None] = [None, "*", (), (3,), (2,), (2, 3)]


@pytest.mark.parametrize("none_match", TAGS)
@pytest.mark.parametrize("match", TAGS)
def test_the_filter_and_the_check_of_a_precondition_agree(match: Tags | None, none_match: Tags | None) -> None:
    asked = Precondition(match, none_match)
    fulfilled = match in (None, "*", (3,), (2, 3)) and none_match in (None, (), (2,))
    records = mongomock.MongoClient().db.records
    records.insert_one({"revision": 3})
    assert (records.find_one(asked.condition) is not None) is fulfilled
    with nullcontext() if fulfilled else pytest.raises(RevisionMismatch):
        asked.check(3)
    with nullcontext() if match is None else pytest.raises(RevisionMismatch):
        asked.check_absent()


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize(
    "tags",
    [
        *('w/"1"', 'x"1"y', "1", '"1', '"1" "2"', "", '"a b"', "*, *", '"1", *'),
        *("X*X", "\x0b*", 'X"1"', '"1"X', '\x0b"1"', '"1"\x0b'),
    ],
)
def test_what_is_no_list_of_entity_tags_is_refused(ada: Person, header: str, tags: str) -> None:
    ada.make_note(id="x")
    for method, body in (("GET", None), *WRITES):
        answer = ada.send(method, NOTE, body, headers={header: tags})
        assert (answer.status_code, answer.json["code"]) == (400, "bad_request"), (method, tags)
        assert answer.json["detail"].startswith(f"{header} takes")
    assert ada.get(NOTE).json["revision"] == 1


@pytest.mark.parametrize("tags", [' , "1"', '\t"1"', '"1" ,\t', '"7",,"1"', " * ", "\t*"])
def test_spaces_and_empty_places_in_a_list_mean_nothing(ada: Person, tags: str) -> None:
    ada.make_note(id="x")
    assert ada.patch(NOTE, {"title": "b"}, headers={"If-Match": tags}).status_code == 200


@pytest.mark.parametrize("tags", ['W/"1"', '"0001"', '"+1"', '"2"', '"other"', '"1-0123456789abcdef0"'])
@pytest.mark.parametrize(("method", "body"), WRITES)
def test_a_write_asks_for_the_very_revision(ada: Person, method: str, body: object, tags: str) -> None:
    ada.make_note(id="x")
    assert ada.send(method, NOTE, body, headers={"If-Match": tags}).status_code == 412
    assert ada.get(NOTE).json["revision"] == 1


@pytest.mark.parametrize(("method", "body"), WRITES)
@pytest.mark.parametrize("tags", ['"1"', 'W/"1"', '"7" , "1"', "*"])
def test_a_write_is_refused_where_the_record_is_at_a_revision_that_it_must_not_have(
    ada: Person, method: str, body: object, tags: str
) -> None:
    ada.make_note(id="x")
    assert ada.send(method, NOTE, body, headers={"If-None-Match": tags}).status_code == 412
    assert ada.get(NOTE).json["revision"] == 1


@pytest.mark.parametrize(("method", "body"), WRITES)
def test_a_write_is_done_where_the_record_is_at_another_revision(ada: Person, method: str, body: object) -> None:
    ada.make_note(id="x")
    assert ada.send(method, NOTE, body, headers={"If-None-Match": '"2"'}).status_code in (200, 204)


def test_a_get_asks_for_a_revision_too(ada: Person) -> None:
    ada.make_note(id="x")
    assert ada.get(NOTE, headers={"If-Match": '"1"'}).status_code == 200
    assert ada.get(NOTE, headers={"If-Match": '"2"'}).status_code == 412


def test_a_put_with_both_headers_has_to_fulfil_both(ada: Person) -> None:
    for tags in ("*", '"1"'):
        both = {"If-Match": tags, "If-None-Match": "*"}
        assert ada.put(NOTE, {"title": "a"}, headers=both).status_code == 412
    assert ada.get(NOTE).status_code == 404
    ada.make_note(id="x")
    assert ada.put(NOTE, {"title": "a"}, headers={"If-Match": '"1"', "If-None-Match": '"1"'}).status_code == 412
    assert ada.put(NOTE, {"title": "a"}, headers={"If-Match": '"1"', "If-None-Match": '"2"'}).status_code == 200


def test_a_put_that_only_creates_says_of_an_id_out_of_sight_what_any_other_does(ada: Person, bob: Person) -> None:
    ada.make_note(id="x")
    answer = bob.put(NOTE, {"title": "a"}, headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.json["code"]) == (409, "already_exists")


# What expand adds


def expanded(person: Person, headers: Any = ()) -> Any:
    return person.get(NOTE, query_string={"expand": "notebook"}, headers=dict(headers))


def test_the_tag_covers_the_record_that_expand_adds(ada: Person) -> None:
    ada.make_note(id="x", notebook=ada.make_notebook(id="b")["id"])
    before = expanded(ada).headers["ETag"]
    assert expanded(ada, {"If-None-Match": before}).status_code == 304
    ada.patch("/v1/notebooks/b", {"title": "new"})
    after = expanded(ada, {"If-None-Match": before})
    assert (after.status_code, after.json["expanded"]["notebook"]["title"]) == (200, "new")
    assert after.headers["ETag"] != before


def test_a_right_that_was_withdrawn_shows_at_once(ada: Person, bob: Person) -> None:
    ada.make_note(id="x", readers=[bob.id], notebook=ada.make_notebook(id="b", readers=[bob.id])["id"])
    before = expanded(bob).headers["ETag"]
    ada.patch("/v1/notebooks/b", {"readers": []})
    after = expanded(bob, {"If-None-Match": before})
    assert (after.status_code, after.json["expanded"]) == (200, {"notebook": None})


def test_the_tag_of_an_expanded_record_is_good_for_a_write(ada: Person) -> None:
    ada.make_note(id="x", notebook=ada.make_notebook(id="b")["id"])
    tag = expanded(ada).headers["ETag"]
    assert ada.patch(NOTE, {"title": "b"}, headers={"If-Match": tag}).status_code == 200
    assert ada.patch(NOTE, {"title": "c"}, headers={"If-Match": tag}).status_code == 412
