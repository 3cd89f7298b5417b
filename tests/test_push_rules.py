"""Rules that look at several records, in a push of several rows: unique values, and records that others keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from mongoengine import DENY, IntField, ReferenceField, StringField, UUIDField, ValidationError

from service.changes.push_parts import targets_before, targets_first
from service.documents import Account, Record
from service.model.registry import Registry
from service.records import bulk
from service.upkeep import indexes
from tests.client import Person
from tests.syncing import Json

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("recording")]


class Badge(Record):
    """Has a number that no other has."""

    number = StringField(unique=True)
    chip = UUIDField(unique=True)
    meta = {"collection": "test_badges"}


class Key(Record):
    """Opens a room, which stays as long as the key."""

    badge = ReferenceField(Badge, reverse_delete_rule=DENY)
    meta = {"collection": "test_keys"}


class Trip(Record):
    """Begins where it began, and ends after that."""

    origin = StringField(fixed=True)
    begin = IntField()
    end = IntField()
    meta = {"collection": "test_trips"}

    def clean(self) -> None:
        if self.begin is not None and self.end is not None and self.begin > self.end:
            raise ValidationError("the end before the begin")


TYPES: list[type[Record]] = [Badge, Key, Trip]


@pytest.fixture
def ada(make_app: Any) -> Iterator[Person]:
    app = make_app(documents=TYPES)
    with app.app_context():
        indexes.make(Registry(TYPES))
    yield Person.sign_up(app.test_client(), "ada")
    for document in TYPES:
        document._get_collection().drop()


def refused(ada: Person, type: str, *rows: Json) -> dict[str, str]:
    """Push documents of a type, and return the codes of what was refused, by id."""
    answer = ada.post(f"/v1/sync/rxdb/{type}/0/push", [{"newDocumentState": row} for row in rows])
    assert answer.status_code == 200, answer.json
    told = json.loads(answer.headers.get("Sync-Problems", "[]"))
    return {one["id"]: one["problem"]["code"] for one in told}


def stored(ada: Person, type: str) -> list[str]:
    return sorted(item["id"] for item in ada.get(f"/v1/{type}").json["items"])


def test_a_value_that_another_has_is_refused_and_the_others_are_stored(ada: Person) -> None:
    assert refused(ada, "test_badges", {"id": "a", "number": "1"}) == {}
    rows = [{"id": "b", "number": "1"}, {"id": "c", "number": "2"}, {"id": "d", "number": "2"}, {"id": "e"}]
    assert refused(ada, "test_badges", *rows) == {"b": "already_exists", "d": "already_exists"}
    assert stored(ada, "test_badges") == ["a", "c", "e"]


def test_what_others_keep_stays_until_they_go(ada: Person) -> None:
    assert refused(ada, "test_badges", {"id": "a"}, {"id": "b"}) == {}
    assert refused(ada, "test_keys", {"id": "k", "badge": "a"}) == {}
    gone = [{"id": id, "revision": 1, "_deleted": True} for id in ("a", "b")]
    assert refused(ada, "test_badges", *gone) == {"a": "still_referenced"}
    assert stored(ada, "test_badges") == ["a"]
    assert refused(ada, "test_keys", {"id": "k", "revision": 1, "_deleted": True}) == {}
    assert refused(ada, "test_badges", *gone) == {}
    assert stored(ada, "test_badges") == []


def test_what_is_kept_from_its_creation_on_and_what_breaks_a_rule_is_refused(ada: Person) -> None:
    assert refused(ada, "test_trips", {"id": "a", "origin": "x", "begin": 1, "end": 2}) == {}
    for changed in ({"origin": "y"}, {"begin": 3}):
        row = {"id": "a", "revision": 1, "origin": "x", "begin": 1, "end": 2, **changed}
        assert refused(ada, "test_trips", row) == {"a": "validation_failed"}
    assert ada.get("/v1/test_trips/a").json["revision"] == 1


def test_a_reference_that_keeps_cannot_be_cleared_where_its_record_has_gone(ada: Person) -> None:
    assert refused(ada, "test_badges", {"id": "a"}) == {}
    assert refused(ada, "test_badges", {"id": "a", "revision": 1, "_deleted": True}) == {}
    assert refused(ada, "test_keys", {"id": "k", "badge": "a"}) == {"k": "validation_failed"}
    assert stored(ada, "test_keys") == []


def test_a_record_that_would_be_too_large_is_refused_alone(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "LARGEST", 1000)
    assert refused(ada, "test_trips", {"id": "a", "origin": "x" * 1000}, {"id": "b"}) == {"a": "too_large"}
    assert stored(ada, "test_trips") == ["b"]


def test_what_is_new_is_stored_behind_what_it_refers_to() -> None:
    badge, key = (Badge, "badge"), (Key, "key")
    assert targets_before({key: "k", badge: "b"}, {key: [badge], badge: []}) == ["b", "k"]
    # Of those that refer to each other one has to be first.
    assert targets_before({key: "k", badge: "b"}, {key: [badge], badge: [key]}) == ["b", "k"]


def test_types_that_refer_to_each_other_have_an_order_too() -> None:
    class Hen(Record):
        egg = ReferenceField("Egg")
        owner_account = ReferenceField(Account)
        meta = {"collection": "test_hens"}

    class Egg(Record):
        hen = ReferenceField(Hen)
        meta = {"collection": "test_eggs"}

    assert [type.name for type in targets_first(Registry([Hen, Egg]))] == ["test_eggs", "test_hens"]


def test_a_uuid_is_pushed_changed_and_taken(ada: Person) -> None:
    one, other = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b811-9dad-11d1-80b4-00c04fd430c8"
    assert refused(ada, "test_badges", {"id": "a", "chip": one}) == {}
    assert refused(ada, "test_badges", {"id": "a", "revision": 1, "chip": one, "number": "1"}) == {}
    assert refused(ada, "test_badges", {"id": "b", "chip": one}) == {"b": "already_exists"}
    assert refused(ada, "test_badges", {"id": "a", "revision": 2, "chip": other, "number": "1"}) == {}
