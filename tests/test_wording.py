"""`flask migrate run` gives records the words by which they are found: also killed, twice, and beside writers."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mongoengine as me
import pytest
from flask import Flask

from service.core.clock import now
from service.documents import MigrationRun, Note, Record
from service.documents.record import WORDS
from service.model.record_type import RecordType, derive
from service.model.registry import Registry
from service.mongo.raw import Raw
from service.records import store
from service.upkeep import wording
from service.upkeep.upgrade import UpgradeError
from tests.client import Person
from tests.trees import ROOT, another_database, emptied, flask, serving, start
from tests.types import REGISTRY, create, type_of
from tests.waiting import until

pytestmark = pytest.mark.real
NOTES = type_of(Note)


def without_words(number: int, owner: str, **more: Any) -> Raw:
    """A note as a service without words has stored it."""
    shared = {"owner": owner, "access": [f"o:{owner}"], "revision": 1, "created_at": now(), "updated_at": now()}
    return {"_id": f"n{number:05}", "title": f"tea {number}", "body": "and milk", **shared, **more}


@pytest.fixture
def old(ada: Person) -> Person:
    """Somebody with notes that have no words."""
    Note._get_collection().insert_many([without_words(number, ada.id) for number in range(250)])
    return ada


def made(type: RecordType = NOTES) -> tuple[int, int]:
    """How many records a walk has looked at, and how many of them it has changed."""
    *_, last = wording.make_words(type, rest=0)
    assert last.finished
    return last.looked_at, last.changed


def test_records_without_words_are_found_when_they_have_got_them(old: Person) -> None:
    assert old.find(search="tea", count="true").json == {"items": [], "next": None, "total": 0}
    before = {row["_id"]: row for row in Note._get_collection().find()}
    assert made() == (250, 250)
    assert old.find(search="tea", count="true").json["total"] == 250
    after = {row["_id"]: row for row in Note._get_collection().find()}
    # Apps hold revisions, and fetch what is new: nothing of this is for them.
    assert {id: {name: row[name] for name in row if name != WORDS} for id, row in after.items()} == before
    assert made() == (250, 0)


def test_some_are_found_while_others_have_no_words_yet(old: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = wording.make_words(NOTES, rest=0)
    next(walk)
    assert old.find(search="tea", count="true").json["total"] == wording.BATCH
    old.make_note(title="green tea")
    assert old.find(search="green").json["items"]
    assert not wording.is_worded(NOTES)
    list(walk)
    assert wording.is_worded(NOTES)


def test_a_walk_that_was_cut_short_goes_on_where_it_was(old: Person) -> None:
    next(wording.make_words(NOTES, rest=0))
    assert wording.walk_of(NOTES)["looked_at"] == wording.BATCH  # type: ignore[index]
    assert made() == (250, 250)
    assert Note._get_collection().count_documents({WORDS: {"$exists": True}}) == 250


def test_what_is_deleted_gets_none_and_wrong_ones_are_made_right(old: Person) -> None:
    old.delete("/v1/notes/n00001")
    made()
    notes = Note._get_collection()
    assert WORDS not in notes.find_one({"_id": "n00001"})
    notes.update_one({"_id": "n00002"}, {"$set": {"title": "written by an old server"}})
    notes.update_one({"_id": "n00003"}, {"$set": {f"{WORDS}.0.w": ["wrong"]}})
    assert made() == (250, 2)
    assert [note["id"] for note in old.find(search="written").json["items"]] == ["n00002"]


def test_what_somebody_writes_between_reading_and_writing_stays(old: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    set_words, calls = store.set_words, []

    def late(type: RecordType, rows: list[Raw]) -> int:
        calls.append(len(rows))
        if len(calls) == 1:
            old.patch("/v1/notes/n00005", {"title": "green"})
            old.patch("/v1/notes/n00006", {"readers": ["role:a"]})
            # As an old server does, which makes no words.
            Note._get_collection().update_one({"_id": "n00007"}, {"$set": {"title": "black"}, "$inc": {"revision": 1}})
        return set_words(type, rows)

    monkeypatch.setattr(store, "set_words", late)
    assert made()[0] == 250
    assert calls[:2] == [100, 1]
    for id, word in (("n00005", "green"), ("n00006", "6"), ("n00007", "black")):
        assert [note["id"] for note in old.find(search=f'"{word}"').json["items"]] == [id]
    assert wording.make_right(NOTES, ["n00005", "n00006", "n00007"]) == 0


def test_records_of_other_software_do_not_stop_it(ada: Person) -> None:
    Note._get_collection().insert_many(
        [{"_id": "a", "title": 7, "access": ["o:x"]}, {"_id": "b"}, {"_id": "c", "title": "tea", "access": []}]
    )
    assert made() == (3, 2)


@pytest.mark.parametrize("access", [None, 5, "o:x", [5], {"a": 1}])
def test_what_nobody_may_read_gets_no_words(app: Flask, access: Any) -> None:
    Note._get_collection().insert_one({"_id": "a", "title": "tea", "access": access})
    assert made() == (1, 0)


def test_words_that_mongodb_refuses_end_the_walk_with_a_sentence(app: Flask, old: Person) -> None:
    notes = Note._get_collection()
    notes.insert_one({"_id": "x", "title": "tea " * 4_194_270, "access": ["o:x"], "revision": 1})
    with pytest.raises(UpgradeError, match=r"^words of notes, of x: Resulting document .* is larger than 16777216$"):
        made()
    assert notes.count_documents({WORDS: {"$exists": True}}) == 250
    assert not wording.is_worded(NOTES)
    notes.update_one({"_id": "x"}, {"$set": {"title": "tea"}})
    assert made()[0] == 251
    assert wording.is_worded(NOTES)


@pytest.fixture
def declared() -> Iterator[Callable[..., RecordType]]:
    """A function that derives a type which searches other fields."""

    def declare(*search: str, version: int = 1) -> RecordType:
        fields = {
            "name": me.StringField(),
            "story": me.StringField(),
            "meta": {"collection": "test_worded", "search": [*search], "version": version},
        }
        return derive(type("Worded", (Record,), fields))

    yield declare
    declare("name").collection.drop()


def test_another_declaration_or_version_opens_it_again(app: Flask, declared: Callable[..., RecordType]) -> None:
    type = declared("name")
    create(type.document, "ada", {"name": "a", "story": "b"})
    assert not wording.is_worded(type)
    made(type)
    assert wording.is_worded(type)
    for other in (declared("name", "story"), declared("story"), declared("name", version=2)):
        assert not wording.is_worded(other)
    other = declared("story", "name")
    assert made(other) == (1, 1)
    assert (wording.is_worded(other), wording.is_worded(type)) == (True, False)


def test_what_was_not_searched_for_a_while_is_open_again(app: Flask, declared: Callable[..., RecordType]) -> None:
    type = declared("name")
    create(type.document, "ada", {"name": "a"})
    made(type)
    assert wording.advice(Registry([type.document])) == []
    wording.mark_empty(Registry([declared().document]))
    assert wording.unworded(Registry([type.document])) != []


def test_another_declaration_does_not_mix_up_the_texts_of_a_record(
    app: Flask, declared: Callable[..., RecordType]
) -> None:
    record = create(declared("name").document, "ada", {"name": "old", "story": "tale"})
    other = declared("story", "name")
    # The words of its first text are those of `name`, so all are made anew.
    changed = store.change(other, {"_id": record["_id"], "access": ["o:ada"]}, {"$set": {"story": "new"}})
    assert changed is None
    assert store.change(other, {"_id": record["_id"]}, {"$set": {"story": "new"}}) is not None
    row = other.collection.find_one({"_id": record["_id"]})
    assert [text["f"] for text in row[WORDS]] == ["story", "name"]  # type: ignore[index]
    assert wording.make_right(other, [record["_id"]]) == 0


def test_an_empty_database_has_nothing_to_do_and_a_full_one_says_so(old: Person) -> None:
    MigrationRun._get_collection().delete_many({})
    (said,) = wording.advice(REGISTRY)
    assert said == "a search does not find all notes until `flask migrate run` has made their words"
    wording.mark_empty(REGISTRY)
    assert wording.unworded(REGISTRY) == [REGISTRY.of(Note)]
    Note._get_collection().delete_many({})
    wording.mark_empty(REGISTRY)
    assert wording.advice(REGISTRY) == []


# --- As a command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def uri(mongodb_uri: str) -> str:
    return another_database(mongodb_uri, "wording")


@pytest.fixture
def database(uri: str) -> Iterator[Any]:
    with emptied(uri) as found:
        found["notes"].insert_many([without_words(number, "o", schema_version=1) for number in range(1500)])
        yield found


def looked_at(database: Any) -> int:
    walk = database["migrations"].find_one({"_id": "notes.words"})
    return 0 if walk is None else int(walk["looked_at"])


def worded(database: Any) -> int:
    return int(database["notes"].count_documents({f"{WORDS}.w": {"$exists": True}}))


def test_the_command_killed_goes_on_and_tells_how_far_it_is(uri: str, database: Any) -> None:
    assert "words of title, body" in flask(ROOT, uri, "migrate", "list")
    process = start(ROOT, uri, "migrate", "run", "--rest", "20")
    assert until(lambda: looked_at(database) > 0, 60)
    process.kill()
    process.communicate()
    assert 0 < worded(database) < 1500
    listed = flask(ROOT, uri, "migrate", "list").splitlines()[-1]
    assert listed.startswith("notes")
    assert "open, begun" in listed
    database["notes"].create_index([("owner", 1), ("title", "text"), ("body", "text")], name="search")
    said = flask(ROOT, uri, "migrate", "run", "--rest", "0")
    assert "notes, words of title, body: 1500 looked at, 1500 changed" in said
    assert "not used any more, but written with every change: notes.search. `flask indexes drop`" in said
    assert worded(database) == 1500
    assert flask(ROOT, uri, "migrate", "list").splitlines()[-1].endswith("done")
    assert "1 dropped" in flask(ROOT, uri, "indexes", "drop", "--yes")
    said = flask(ROOT, uri, "migrate", "run", "--rest", "0")
    assert "1500 looked at, 0 changed" in said
    assert "not used any more" not in said


def test_two_at_once_beside_a_service_leave_every_record_found(uri: str, database: Any, tmp_path: Path) -> None:
    with serving(uri, tmp_path, ROOT) as (server,):
        assert "a search does not find all notes until `flask migrate run`" in server.said
        owner = server.sign_up("ada")
        database["notes"].update_many({}, {"$set": {"owner": owner, "access": [f"o:{owner}"]}})
        both = [start(ROOT, uri, "migrate", "run", "--rest", "1") for _ in range(2)]

        def write(number: int) -> None:
            answer = server.send("PATCH", f"/v1/notes/n{number:05}", {"title": f"green {number}"})
            assert answer.status_code == 200, answer.text

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(0, 1500, 15)))
        for process in both:
            said = process.communicate(timeout=120)
            assert process.returncode == 0, said
        time.sleep(0.1)
        assert server.send("GET", '/v1/notes?search="green"&count=true&limit=1').json()["total"] == 100
        assert server.send("GET", '/v1/notes?search="tea"&count=true&limit=1').json()["total"] == 1400
