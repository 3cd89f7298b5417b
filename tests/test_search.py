"""Searching records: in any language, the best first, as far as one may read them, and always as they are now."""

from collections.abc import Callable, Iterator
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from service.documents import Note, Record
from service.documents.record import WORDS
from service.model.record_type import derive
from service.model.registry import Registry
from service.query.search import Rank
from service.records import search_words, searching, store
from service.upkeep import indexes
from tests.client import Person
from tests.properties import examples
from tests.types import create, type_of

MakeApp = Callable[..., Flask]


def titles(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json
    return [item["title"] for item in answer.json["items"]]


def found(person: Person, search: str, path: str = "/v1/notes", **args: Any) -> list[str]:
    return titles(person.find(path, search=search, **args))


# --- What is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "searches"),
    [
        ("서울에서 만나요", ["서울", "서울에서", "울에", "에서", "만나", "서", "서우", "서울에서 만나요"]),
        ("今天天气很好", ["天气", "今天", "天", "好", "很好", "天天气"]),
        ("東京に行くﾎﾃﾙ", ["東京", "行く", "ホテル", "ﾎﾃﾙ", "に"]),
        ("ภาษาไทยดีที่สุด", ["ไทย", "ภาษา", "ที่สุด"]),
        ("The Who", ["The Who", "the", "who", "wh", "THE WHO"]),
        ("Mein Résumé", ["resume", "RÉSUMÉ", "re\u0301sume\u0301", "rés", "mein res"]),
        ("Straße in Łódź", ["strasse", "STRASSE", "lodz"]),
        ("שָׁלוֹם", ["שלום"]),
        ("कहानी हिन्दी में", ["हिन्दी"]),
        ("birthday 🎂 list", ["🎂", "🎂 list"]),
        ("walking", ["walk", "walking"]),
        ("covid-19", ["covid-19", "19", "cov"]),
    ],
)
def test_words_of_any_language_are_found(ada: Person, title: str, searches: list[str]) -> None:
    ada.make_note(title=title, body="x")
    ada.make_note(title="nothing", body="of the kind; 無, 없음")
    for search in searches:
        assert title in found(ada, search), search


@pytest.mark.parametrize(
    ("title", "searches"),
    [
        ("서울에서 만나요", ["대학", "서웋울", "요만", "부산"]),
        ("今天天气很好", ["气天", "明天", "天很"]),
        ("The Who", ["he", "whom ", "ho ", "!!!", "-the", "- -"]),
        ("walk", ["walking", "wal "]),
        ("green tea", ['"green milk"', "tea -green", '-tea "green"', "-milk"]),
    ],
)
def test_what_is_not_there_is_not_found(ada: Person, title: str, searches: list[str]) -> None:
    ada.make_note(title=title)
    for search in searches:
        assert found(ada, search) == [], search


def test_any_word_is_enough_and_quotes_ask_for_all(ada: Person) -> None:
    for title in ("green tea", "green", "tea", "milk"):
        ada.make_note(title=title)
    assert set(found(ada, "green tea ")) == {"green tea", "green", "tea"}
    assert found(ada, "green tea ")[0] == "green tea"
    assert found(ada, '"green tea"') == ["green tea"]
    assert set(found(ada, "tea -green")) == {"tea"}
    assert found(ada, '"green" -tea') == ["green"]


def test_the_best_match_comes_first(ada: Person) -> None:
    ada.make_note(title="garden", body="tomatoes, tomatoes and more tomatoes")
    ada.make_note(title="kitchen", body="buy tomatoes, bread, butter, cheese, apples and pears")
    ada.make_note(title="tomatoes")
    ada.make_note(title="car")
    assert found(ada, "tomatoes") == ["tomatoes", "garden", "kitchen"]
    assert found(ada, "tomatoes bread ") == ["kitchen", "tomatoes", "garden"]


def test_of_those_that_are_as_good_the_newest_comes_first(ada: Person) -> None:
    made = [ada.make_note(title="tea", priority=number % 3)["created_at"] for number in range(5)]
    answer = ada.find(search="tea").json["items"]
    assert [item["created_at"] for item in answer] == sorted(made, reverse=True)


def test_a_search_is_paged_without_a_gap_or_a_repetition(ada: Person) -> None:
    made = {ada.make_note(title=f"tea {n % 3 * 'tea '}")["id"] for n in range(9)}
    pages, page = [], ada.find(search="tea", limit=2).json
    pages += page["items"]
    while page["next"]:
        page = ada.find(search="tea", limit=2, cursor=page["next"]).json
        pages += page["items"]
    assert len(pages) == 9
    assert {item["id"] for item in pages} == made
    assert pages == ada.find(search="tea").json["items"]


def test_a_page_goes_on_where_it_was_whatever_comes_and_goes(ada: Person) -> None:
    for title in ("tea tea", "tea", "tea and milk", "tea and milk and more"):
        ada.make_note(title=title)
    page = ada.find(search="tea", limit=1).json
    first = page["items"][0]
    ada.delete(f"/v1/notes/{first['id']}")
    ada.make_note(title="tea tea tea")
    rest = titles(ada.find(search="tea", cursor=page["next"]))
    assert first["title"] not in rest
    assert len(rest) == 3


def test_what_is_gone_when_its_row_is_read_is_left_out_and_another_comes(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        ada.make_note(id=f"n{number}", title="tea")
    ranks_of = searching.ranks_of
    best = [note["id"] for note in ada.find(search="tea").json["items"]]

    def late(*args: Any) -> list[Rank]:
        ranks = ranks_of(*args)
        for id in best[:2]:
            ada.delete(f"/v1/notes/{id}")
        return ranks

    monkeypatch.setattr(searching, "ranks_of", late)
    answer = ada.find(search="tea", limit=3).json
    assert [item["id"] for item in answer["items"]] == best[2:5]
    assert answer["next"]


def test_a_search_is_filtered_counted_and_sends_what_is_asked(ada: Person) -> None:
    ada.make_note(title="tea", pinned=True, tags=["a"])
    ada.make_note(title="tea")
    answer = ada.find(search="tea", where={"pinned": True}, count="true", fields="title,tags")
    assert answer.json["total"] == 1
    assert [{name: item[name] for name in item if name != "id"} for item in answer.json["items"]] == [
        {"title": "tea", "tags": ["a"]}
    ]
    assert ada.find(search="tea milk", count="true").json["total"] == 2


def test_of_more_than_are_ranked_those_with_every_word_are(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MOST_RANKED", 5)
    for number in range(9):
        ada.make_note(title=f"the {number}")
    ada.make_note(title="the who")
    answer = ada.find(search="the who ", count="true").json
    assert titles(ada.find(search="the who "))[0] == "the who"
    assert (len(answer["items"]), answer["total"]) == (5, 10)
    assert len(found(ada, "the ")) == 5


def test_of_long_texts_fewer_are_ranked_and_those_with_every_word_are(
    ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MOST_LETTERS_READ", 100)
    for number in range(9):
        ada.make_note(title=f"the {number}", body="a text of thirty letters or so")
    ada.make_note(title="the who")
    assert 2 <= len(found(ada, "the ")) < 9
    assert titles(ada.find(search="the who "))[0] == "the who"
    assert 2 <= len(found(ada, "the who ")) < 9
    assert ada.find(search="the who ", count="true").json["total"] == 10


@pytest.mark.parametrize("search", ["!!!", "-tea", '""', "- -", '-"green tea"'])
def test_a_search_without_a_word_to_look_for_finds_and_counts_nothing(ada: Person, search: str) -> None:
    ada.make_note(title="milk")
    assert ada.find(search=search, count="true").json == {"items": [], "next": None, "total": 0}


# --- Who finds it ----------------------------------------------------------------------------------------------------


def test_a_search_finds_what_is_shared_where_it_is_asked_for(ada: Person, bob: Person) -> None:
    bob.make_note(title="his tea")
    bob.make_note(title="our tea", readers=[ada.id])
    bob.make_note(title="everyone's tea", readers=["*"])
    ada.make_note(title="my tea")
    assert found(ada, "tea") == found(ada, "tea", scope="mine") == ["my tea"]
    assert found(ada, "tea", scope="shared") == ["our tea"]
    assert set(found(ada, "tea", scope="mine,shared")) == {"my tea", "our tea"}
    assert ada.find(search="tea", scope="mine,shared", count="true").json["total"] == 2
    for scope in ("public", "mine,public", "mine,shared,public"):
        assert ada.find(search="tea", scope=scope).json["code"] == "bad_parameter"


def test_a_search_follows_what_is_given_and_taken_away(ada: Person, bob: Person) -> None:
    note = bob.make_note(title="tea")
    path = f"/v1/notes/{note['id']}"
    assert found(ada, "tea", scope="shared") == []
    bob.patch(path, {"readers": [ada.id]})
    assert found(ada, "tea", scope="shared") == ["tea"]
    bob.patch(path, {"title": "green tea"})
    assert found(ada, "green", scope="shared") == ["green tea"]
    assert found(bob, "green") == ["green tea"]
    bob.patch(path, {"readers": [], "writers": [ada.id]})
    assert ada.patch(path, {"body": "from Ada"}).status_code == 200
    assert found(bob, "ada") == ["green tea"]
    assert found(ada, "ada", scope="shared") == ["green tea"]
    bob.patch(path, {"writers": []})
    assert found(ada, "tea", scope="shared") == []


def test_an_owner_in_where_does_not_widen_a_search(ada: Person, bob: Person) -> None:
    bob.make_note(title="tea")
    assert found(ada, "tea", where={"owner": bob.id}) == []
    assert found(ada, "tea", where={"owner": bob.id}, scope="mine,shared") == []


def test_words_without_access_find_nothing(ada: Person, bob: Person) -> None:
    note = bob.make_note(title="secret", readers=[ada.id])
    Note._get_collection().update_one({"_id": note["id"]}, {"$set": {"access": [f"o:{bob.id}"]}})
    assert found(ada, "secret", scope="shared") == []


# --- With every write ------------------------------------------------------------------------------------------------


def is_worded(document: type[Record] = Note) -> bool:
    """Whether each record has the words that it would get if it were made now."""
    type = type_of(document)
    rows = list(document._get_collection().find({"purge_at": {"$exists": False}}))
    return all(row[WORDS] == search_words.words_of(type, row, row["access"]) for row in rows)


def test_words_follow_every_way_of_writing(ada: Person, bob: Person) -> None:
    path = f"/v1/notes/{ada.make_note(title='one', body='alpha')['id']}"
    for change in (
        {"title": "two"},
        {"body": None},
        {"$unset": ["body"]},
        {"body": "beta", "priority": 3},
        {"title": "three", "$inc": {"priority": 1}},
        {"readers": [bob.id]},
        {"title": "four"},
        {"readers": [], "title": "five"},
        {"pinned": True},
        {"checklist": [{"text": "x"}]},
    ):
        assert ada.patch(path, change).status_code == 200, change
        assert is_worded(), change
    assert ada.put(path, {"title": "six", "body": "gamma"}).status_code == 200
    assert is_worded()
    assert ada.put(path, {"title": "seven", "writers": [bob.id]}).status_code == 200
    assert is_worded()
    assert bob.patch(path, {"title": "eight"}).status_code == 200
    assert bob.put(path, {"title": "nine"}).status_code == 200
    assert is_worded()
    assert found(ada, "nine") == ["nine"]
    assert found(ada, "one two three four five six seven eight ") == []


@given(data=st.data())
@examples(25)
def test_after_any_patches_the_words_are_those_of_the_texts(ada: Person, bob: Person, data: st.DataObject) -> None:
    words = st.text(st.sampled_from("ab é서울今天"), min_size=1, max_size=8).map(lambda text: f"{text}x")
    patches = st.fixed_dictionaries(
        {},
        optional={
            "title": words,
            "body": words | st.none(),
            "pinned": st.booleans(),
            "readers": st.sampled_from([[], [bob.id], ["role:a", "*"]]),
        },
    )
    path = f"/v1/notes/{ada.make_note(title=data.draw(words))['id']}"
    for change in data.draw(st.lists(patches, min_size=1, max_size=4)):
        assert ada.patch(path, change).status_code == 200
    assert is_worded()
    Note._get_collection().delete_many({})


class Step(me.EmbeddedDocument):
    """A step of a recipe."""

    text = me.StringField(db_field="x")


class Recipe(Record):
    """Texts at every depth."""

    name = me.StringField(db_field="n")
    notes = me.StringField()
    first = me.EmbeddedDocumentField(Step, db_field="f")
    steps = me.EmbeddedDocumentListField(Step, db_field="s")
    size = me.IntField()
    meta = {
        "collection": "test_recipes",
        "search": ["name", "first.text", "steps.text"],
        "filters": ["size"],
    }


@pytest.fixture
def cook(make_app: MakeApp, ada: Person) -> Iterator[Person]:
    """Somebody with recipes at `/v1/test_recipes`."""
    app = make_app(documents=[Recipe])
    with app.app_context():
        indexes.make(Registry([Recipe]))
    ada.client = app.test_client()
    yield ada
    Recipe._get_collection().drop()


def test_texts_at_any_depth_are_found_after_every_kind_of_patch(cook: Person) -> None:
    body = {
        "name": "cake",
        "notes": "unsearched",
        "first": {"text": "sift"},
        "steps": [{"text": "bake"}, {"text": "eat"}],
    }
    path = f"/v1/test_recipes/{cook.post('/v1/test_recipes', body).json['id']}"

    def names(search: str) -> int:
        return len(cook.find("/v1/test_recipes", search=search).json["items"])

    assert [names(word) for word in ("cake", "sift", "bake", "eat", "unsearched")] == [1, 1, 1, 1, 0]
    for change, there, gone in (
        ({"first": {"text": "stir"}}, "stir", "sift "),
        ({"first.text": "whisk"}, "whisk", "stir "),
        ({"steps.0.text": "boil"}, "boil", "bake "),
        ({"$push": {"steps": {"text": "serve"}}}, "serve", "nothing"),
        ({"$pull": {"steps": {"text": "eat"}}}, "boil", "eat "),
        ({"steps": [{"text": "wait"}]}, "wait", "boil "),
        ({"first": None}, "cake", "whisk "),
        ({"name": None, "size": 3}, "wait", "cake "),
        ({"notes": "other"}, "wait", "other"),
    ):
        assert cook.patch(path, change).status_code == 200, change
        assert (names(there), names(gone)) == (1, 0), change
        assert is_worded(Recipe), change


def test_a_write_that_touches_no_searched_text_writes_no_words(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/v1/notes/{ada.make_note(title='tea', body='milk')['id']}"
    written: list[Any] = []
    stamped = store.stamped
    monkeypatch.setattr(store, "stamped", lambda *args: written.append(stamped(*args)) or written[-1])
    ada.patch(path, {"pinned": True})
    ada.patch(path, {"checklist": [{"text": "a"}], "$inc": {"priority": 1}})
    ada.patch(path, {"place": {"type": "Point", "coordinates": [1, 2]}})
    ada.put(path, {"title": "tea", "body": "milk", "priority": 2})
    assert len(written) == 4
    assert not [name for update in written for fields in update.values() for name in fields if WORDS in name]
    ada.patch(path, {"title": "green tea"})
    assert {name for name in written[-1]["$set"] if WORDS in name} == {f"{WORDS}.0.w", f"{WORDS}.0.t"}


def test_what_other_software_has_stored_without_times_is_found_and_paged(ada: Person) -> None:
    access = [f"o:{ada.id}"]
    content = {"title": "tea", "body": ""}
    words = search_words.words_field(type_of(Note), content, access)
    for number in range(3):
        row = {"_id": f"x{number}", "owner": ada.id, "revision": 1, "access": access, **content, **words}
        Note._get_collection().insert_one(row)
    ada.make_note(title="tea")
    page = ada.find(search="tea", fields="title", limit=2).json
    assert [item["id"] for item in page["items"]][1:] == ["x0"]
    assert [
        item["id"] for item in ada.find(search="tea", fields="title", cursor=page["next"], limit=2).json["items"]
    ] == [
        "x1",
        "x2",
    ]


def test_what_is_deleted_leaves_no_words(ada: Person) -> None:
    note = ada.make_note(title="tea")
    ada.delete(f"/v1/notes/{note['id']}")
    assert found(ada, "tea") == []
    assert WORDS not in (Note._get_collection().find_one({"_id": note["id"]}) or {})


# --- By the door -----------------------------------------------------------------------------------------------------


def test_a_change_of_a_text_by_a_route_of_ones_own_is_found(ada: Person, bob: Person) -> None:
    note = ada.make_note(title="tea", readers=[bob.id])
    type = type_of(Note)
    changed = store.change(type, {"_id": note["id"]}, {"$set": {"title": "milk"}})
    assert changed is not None
    assert (changed["revision"], found(bob, "milk", scope="shared")) == (2, ["milk"])
    assert store.change(type, {"_id": "none"}, {"$set": {"title": "milk"}}) is None
    assert store.change(type, {"_id": note["id"], "revision": 1}, {"$set": {"title": "x"}}) is None
    assert is_worded()


def test_an_update_that_does_not_say_the_whole_text_is_refused() -> None:
    type = derive(Recipe)
    for update in ({"$set": {"s.0.x": "a"}}, {"$push": {"s": {"x": "a"}}}, {"$rename": {"n": "m"}}):
        with pytest.raises(ValueError, match="has to say the whole of"):
            search_words.worded(type, update, search_words.touched(type, update), ["o:a"])


# --- Bounds ----------------------------------------------------------------------------------------------------------


def test_the_words_of_a_text_have_a_bound_and_those_who_find_it_share_them() -> None:
    text = " ".join(f"w{number}" for number in range(3000))
    words = search_words.in_texts("body", [text], ["me"])
    assert len(words["w"]) == search_words.MOST_WORDS
    shared = search_words.in_texts("body", [text], ["owner", *(f"reader{number}" for number in range(200))])
    assert len(shared["w"]) <= search_words.MOST_ENTRIES
    assert [entry for entry in shared["w"] if entry.startswith("owner")] == [
        f"owner{word}" for word in text.split()[:2000]
    ]
    assert {f"reader{number}w0" for number in range(200)} <= set(shared["w"])


def test_a_long_text_with_many_readers_is_stored_and_found(ada: Person, bob: Person) -> None:
    body = " ".join(f"word{number} 단어{number}" for number in range(5000))
    readers = [bob.id, *(f"somebody{number}" for number in range(99))]
    ada.make_note(title="long", body=body, readers=readers)
    assert found(ada, "word900") == ["long"]
    assert found(bob, "long", scope="shared") == ["long"]
    (row,) = Note._get_collection().find({})
    assert sum(len(text["w"]) for text in row[WORDS]) <= 2 * search_words.MOST_ENTRIES


@pytest.mark.parametrize(
    "search", ["a " * 40, "今天" * 40, "a1 b2 c3 d4 e5 f6 g7 h8 i9 j10 k11 l12 m13 n14 o15 p16 q17"]
)
def test_a_search_for_too_many_words_is_400(ada: Person, search: str) -> None:
    answer = ada.find(search=search)
    if "a " * 2 in search:
        assert answer.status_code == 200  # one word
    else:
        assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")


def test_no_answer_and_no_export_has_the_words(ada: Person) -> None:
    note = ada.make_note(title="tea", body="milk")
    path = f"/v1/notes/{note['id']}"
    answers = [
        ada.get(path),
        ada.find(),
        ada.find(search="tea"),
        ada.find(fields="title"),
        ada.patch(path, {"title": "green"}),
        ada.put(path, {"title": "black"}),
        ada.get("/v1/accounts/me/export"),
        ada.post("/v1/batch", {"requests": [{"method": "GET", "path": path}]}),
    ]
    for answer in answers:
        assert answer.status_code == 200
        assert WORDS not in answer.get_data(as_text=True)
        assert search_words.search_tag(f"o:{ada.id}") not in answer.get_data(as_text=True)
    for name in (WORDS, f"{WORDS}.w", f"{WORDS}.0.t"):
        assert ada.find(where={name: "a"}).status_code == 400
        assert ada.find(sort=name).status_code == 400
        assert ada.find(fields=name).status_code == 400
        assert ada.patch(path, {name: []}).status_code == 422


def test_a_record_that_was_stored_without_words_gets_them_with_its_next_text(ada: Person) -> None:
    note = ada.make_note(title="tea", body="milk")
    Note._get_collection().update_one({"_id": note["id"]}, {"$unset": {WORDS: ""}})
    assert found(ada, "tea") == []
    ada.patch(f"/v1/notes/{note['id']}", {"pinned": True})
    assert found(ada, "tea") == []
    ada.patch(f"/v1/notes/{note['id']}", {"title": "green tea"})
    assert found(ada, "milk") == ["green tea"]
    assert is_worded()


@pytest.mark.real  # mongomock's writes in bulk do not know all that PyMongo sends
def test_created_in_bulk_records_are_found(ada: Person) -> None:
    rows = store.create_many(type_of(Note), ada.id, [{"title": "tea", "body": ""}, {"title": "milk", "body": ""}])
    edits = [store.Edit(rows[0], {"title": "green tea"}), store.Edit(rows[1], {"pinned": True})]
    store.change_each(type_of(Note), edits)
    assert found(ada, "green") == ["green tea"]
    assert found(ada, "milk") == ["milk"]
    assert is_worded()
    create(Note, ada.id, {"title": "bread", "body": ""})
    assert found(ada, "bread") == ["bread"]
