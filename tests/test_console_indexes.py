"""The indexes in the console: what was slow, and by how many keys; what each index costs, and which nobody uses."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from service.core.clock import now
from service.documents import Account, Note, Notebook, SlowList
from service.mongo.raw import Raw
from service.pages.console_indexes import advice_on
from service.pages.console_texts import CONSOLE_TEXTS
from service.policy import Identity
from service.query.parse import Parser, Query
from service.records import slow_lists
from service.records.reading import Reader
from service.records.slow_lists import SLOW_LISTS, SlowLists, SlowSeen, list_kind
from service.upkeep import indexes
from service.upkeep.index_costs import IndexCost, index_costs
from tests.admin_browser import AdminBrowser
from tests.client import Person
from tests.types import EVERY, new

TEXTS = CONSOLE_TEXTS["en"]


@pytest.fixture(autouse=True)
def nothing_slow(app: Flask) -> None:
    SLOW_LISTS.seen.clear()
    SlowList._get_collection().delete_many({})


@pytest.fixture
def everything_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.records.reading.SLOW_AFTER", 0.0)


def asked(**sent: str) -> Query:
    """The query of a list of notes."""
    return Parser(EVERY.of(Note)).parse({"limit": "5", **sent}, "ada", b"k" * 32)


# What was slow


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        ({}, "sort=updated_at:-1,_id:-1"),
        ({"sort": "title", "where": '{"title": "secret"}'}, "where=title $eq sort=title:1,_id:1"),
        (
            {"where": '{"$or": [{"priority": {"$gte": 3}}, {"$not": {"tags": {"$in": ["a"]}}}], "pinned": true}'},
            "where=pinned $eq, priority $gte, tags $in sort=updated_at:-1,_id:-1",
        ),
        ({"search": "secret"}, "search"),
    ],
)
def test_a_kind_of_list_names_fields_and_operators_and_no_value(sent: dict[str, str], kind: str) -> None:
    told = list_kind(asked(**sent))
    assert told.partition(" ")[2] == kind
    assert told.startswith("scope=")
    assert "secret" not in told


@pytest.mark.usefixtures("everything_is_slow")
def test_a_slow_list_is_stored_once_for_its_kind_with_how_often(ada: Person) -> None:
    ada.make_note(title="secret", priority=3)
    for title in ("secret", "other"):
        assert ada.find(where={"title": title}).status_code == 200
    assert ada.get("/v1/notes?sort=title").status_code == 200
    assert SLOW_LISTS.store() == 2
    assert SLOW_LISTS.store() == 0
    rows = {row.times: row for row in SlowList.objects}
    assert rows.keys() == {1, 2}
    assert "title $eq" in rows[2].kind
    assert rows[2].index == EVERY.of(Note).sorts["-updated_at"].index_name
    assert "secret" not in str(list(SlowList._get_collection().find()))


def test_what_is_quick_is_not_noted(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.records.reading.SLOW_AFTER", 60.0)
    ada.find(where={"title": "x"})
    assert SLOW_LISTS.store() == 0


def test_what_ran_out_of_its_time_is_noted_too(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_long(_reader: Reader, _asked: Query) -> Any:
        time.sleep(0.15)
        raise ValueError("too long")

    monkeypatch.setattr(Reader, "rows", too_long)
    with pytest.raises(ValueError, match="too long"):
        Reader(EVERY, EVERY.of(Note), Identity(ada.id, "", 0)).page(asked())
    assert SLOW_LISTS.store() == 1


def test_no_more_kinds_are_remembered_than_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_lists, "MOST_KINDS", 2)
    noted = SlowLists()
    for name in ("title", "priority", "pinned"):
        noted.note(asked(where=f'{{"{name}": {{"$exists": true}}}}'), {}, 0.2)
        noted.note(asked(), {}, 0.4)
    assert len(noted.seen) == 2
    assert sorted(found.times for found in noted.seen.values()) == [1, 3]


def kinds_noted(number: int) -> SlowLists:
    """What has noted so many kinds of lists, each longer than the one before."""
    noted = SlowLists()
    operators = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")
    conditions = [
        {name: {operator: value}} for name, value in (("title", "a"), ("priority", 1)) for operator in operators
    ]
    for seconds, condition in enumerate(conditions[:number], 1):
        noted.note(asked(where=json.dumps(condition)), {}, float(seconds))
    assert len(noted.seen) == number
    return noted


def test_the_longest_alone_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    explained: list[float] = []

    def walked(found: SlowSeen) -> dict[str, int]:
        explained.append(found.seconds)
        return {"keys": 7, "found": 1}

    monkeypatch.setattr(slow_lists, "keys_walked", walked)
    assert kinds_noted(12).store() == 12
    assert explained == [float(seconds) for seconds in range(12, 2, -1)]
    assert {row.seconds for row in SlowList.objects(keys=None)} == {1.0, 2.0}


def test_no_more_kinds_are_stored_than_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_lists, "MOST_STORED", 3)
    assert kinds_noted(2).store() == 2
    # The two are there, of the others the longest has room.
    assert kinds_noted(5).store() == 3
    assert sorted((row.seconds, row.times) for row in SlowList.objects) == [(1.0, 2), (2.0, 2), (5.0, 1)]


@pytest.mark.real
@pytest.mark.usefixtures("everything_is_slow")
def test_mongodb_tells_how_many_keys_it_walks(ada: Person) -> None:
    Note._get_collection().insert_many([new(Note, ada.id, {"title": f"t{n:03}", "priority": 1}) for n in range(300)])
    ada.find(where={"title": "t000"})
    ada.get("/v1/notes?sort=title&limit=10")
    SLOW_LISTS.store()
    walked = {row.index: (row["keys"], row.found) for row in SlowList.objects}
    sorts = EVERY.of(Note).sorts
    keys, found = walked[sorts["-updated_at"].index_name]
    assert (keys >= 300, found) == (True, 1)
    keys, found = walked[sorts["title"].index_name]
    assert (keys <= 30, found) == (True, 10)


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ({"index": "a", "keys": 3000, "found": 20}, "slow_walks"),
        ({"index": "a", "keys": 3000, "found": 0}, "slow_walks"),
        ({"index": "a", "keys": 40, "found": 20}, "slow_machine"),
        ({"index": "a"}, "slow_not_explained"),
        ({"index": ""}, "slow_without_sort"),
    ],
)
def test_each_slow_list_has_its_advice(row: Raw, advice: str) -> None:
    assert advice_on(row) == advice
    assert all(texts[advice] for texts in CONSOLE_TEXTS.values())


# What indexes cost


@pytest.mark.real
def test_an_index_has_its_bytes_and_its_uses(app: Flask, ada: Person) -> None:
    for number in range(10):
        ada.make_note(title=f"title {number}")
    before = {(one.collection, one.name): one for one in index_costs(EVERY)}
    title = ("notes", EVERY.of(Note).sorts["title"].index_name)
    for _ in range(3):
        ada.get("/v1/notes?sort=title")
    after = {(one.collection, one.name): one for one in index_costs(EVERY)}
    assert after[title].uses - before[title].uses == 3
    assert after[title].bytes > 0
    assert before[title].writes >= 10
    ada.make_note(title="one more")
    found = [one.writes for one in index_costs(EVERY) if (one.collection, one.name) == title]
    assert [writes > after[title].writes for writes in found] == [True]
    assert not after[title].is_idle
    assert after["accounts", "username_key_1"].guards == "unique"
    assert after["measurements", "time_1"].guards == "time"
    assert not [one for one in after.values() if one.state]
    assert "_id_" not in {name for _, name in after}


@pytest.mark.parametrize(
    ("about", "is_idle"),
    [
        ({}, True),
        ({"uses": 1}, False),
        ({"since": now() - timedelta(days=6)}, False),
        ({"since": None}, False),
        ({"state": "unused"}, False),
        ({"guards": "unique"}, False),
        ({"is_of_records": False}, False),
    ],
)
def test_what_nobody_has_used_for_a_week_is_idle(about: dict[str, Any], is_idle: bool) -> None:
    told: dict[str, Any] = {"bytes": 5, "since": now() - timedelta(days=8), "is_of_records": True, **about}
    assert IndexCost("notes", "title", **told).is_idle is is_idle


@pytest.mark.real
def test_the_page_names_what_is_missing_and_unused_with_the_command(app: Flask, ada: Person) -> None:
    admin = AdminBrowser.of(ada, app)
    notebooks = Notebook._get_collection()
    title = EVERY.of(Notebook).sorts["title"].index_name
    notebooks.drop_index(title)
    notebooks.create_index("owner", name="of_others")
    try:
        page = admin.get("/admin/indexes").text
        assert f"{TEXTS['indexes_missing']}: <code>notebooks.{title}</code>" in page
        assert "<code>notebooks.of_others</code>" in page
        assert "flask indexes make" in page
        assert "flask indexes drop" in page
        assert TEXTS["indexes_idle"] not in page
    finally:
        notebooks.drop_index("of_others")
        indexes.make(EVERY)
    assert TEXTS["indexes_missing"] + ":" not in admin.get("/admin/indexes").text


def test_the_page_shows_what_was_slow_for_admins_alone(app: Flask, ada: Person, bob: Person) -> None:
    row: Raw = {"type": "notes", "kind": "where=<b>title</b> $eq", "index": "i", "times": 7, "seconds": 1.5}
    SlowList._get_collection().insert_one(
        {"_id": "x", **row, "keys": 12345, "found": 1, "last": Account.objects.first().created_at}
    )
    page = AdminBrowser.of(ada, app).get("/admin/indexes").text
    assert '<td class="number">12,345</td>' in page
    assert "1.5 s" in page
    assert "<b>title" not in page
    assert TEXTS["slow_walks"].replace("'", "&#39;") in page
