"""Guests: they have all that an account has but a name; they get one, become a part of another account, or go."""

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from threading import Event as Flag
from threading import Thread
from typing import Any

import mongoengine as me
import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service.core.clock import now
from service.documents import Account, Event, Note, Record, Session
from service.identity import guests
from service.identity.deletion import delete_account
from service.model.registry import Registry
from service.records import handover
from service.upkeep import indexes
from tests.client import PASSWORD, Person, Phone
from tests.types import REGISTRY, SHIPPED, create, type_of

MakeApp = Callable[..., Flask]
ME = "/v1/accounts/me"
KEEP, NO_TIME = timedelta(days=30), timedelta()


class Preference(Record):
    """One of a kind for each owner."""

    kind = me.StringField(required=True, unique_with="owner")
    meta = {"collection": "test_preferences"}


class Badge(Record):
    """With a label that no other one of its owner has, if it has one, and somebody to whom it was given."""

    label = me.StringField(unique_with="owner")
    bearer = me.ReferenceField(Account, reverse_delete_rule=me.NULLIFY)
    friends = me.ListField(me.ReferenceField(Account, reverse_delete_rule=me.PULL))
    meta = {"collection": "test_badges"}


def guest_on(app: Flask, device: str | None = None) -> Person:
    """Somebody without a name."""
    person = Person(app.test_client())
    answer = person.post("/auth/guest", {"device": device} if device else None)
    assert answer.status_code == 200, answer.json
    person.tokens = answer.json
    person.headers = {"Authorization": f"Bearer {person.tokens['access_token']}"}
    person.id = person.get(ME).json["id"]
    return person


@pytest.fixture
def guest(app: Flask) -> Person:
    return guest_on(app, "a tablet")


def merge(taker: Phone, guest: Person, **headers: str) -> TestResponse:
    return taker.post(f"{ME}/merge", {"guest_refresh_token": guest.tokens["refresh_token"]}, headers=headers)


def work(registry: Registry = REGISTRY, after: timedelta = NO_TIME) -> int:
    """Do what a worker does for merges; return how many guests are gone."""
    return guests.go_on_merging(registry, after, KEEP)


def ids(phone: Phone, scope: str = "mine", path: str = "/v1/notes") -> set[str]:
    return {item["id"] for item in phone.find(path, scope=scope, limit=100).json["items"]}


# Guests in groups


@pytest.mark.real
def test_a_merge_brings_the_groups_of_the_guest_with_its_roles(
    ada: Person, bob: Person, guest: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.identity.sessions.CHECK_SECONDS", 0.0)
    assert guest.post("/v1/groups", {"id": "own", "name": "x"}).status_code == 201
    for id, roles in (("both", {ada: "member", guest: "manager"}), ("his", {guest: "member"})):
        bob.post("/v1/groups", {"id": id, "name": "x"})
        for person, role in roles.items():
            body = {"account": person.id, "role": role}
            assert bob.post(f"/v1/groups/{id}/members", body).status_code == 201
    (member,) = guest.get("/v1/groups/own/members").json["items"]
    assert (member["account"], member["username"]) == (guest.id, None)
    bob.make_note(id="n", readers=["group:his"])
    assert merge(ada, guest).status_code == 202
    for _ in range(2):
        work()
    found = {
        id: {one["account"]: one["role"] for one in ada.get(f"/v1/groups/{id}/members").json["items"]}
        for id in ("own", "both", "his")
    }
    assert found == {
        "own": {ada.id: "manager"},
        "both": {bob.id: "manager", ada.id: "manager"},
        "his": {bob.id: "manager", ada.id: "member"},
    }
    assert ada.get("/v1/notes/n").status_code == 200


@pytest.mark.real
def test_a_merge_leaves_the_groups_for_which_there_is_no_room(
    ada: Person, bob: Person, guest: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.records.founding.enter.__defaults__", (1,))
    ada.post("/v1/groups", {"id": "hers", "name": "x"})
    guest.post("/v1/groups", {"id": "own", "name": "x"})
    guest.post("/v1/groups/own/members", {"account": bob.id})
    merge(ada, guest)
    for _ in range(2):
        work()
    assert ids(ada, "shared", "/v1/groups") == {"hers"}
    (member,) = bob.get("/v1/groups/own/members").json["items"]
    assert (member["account"], member["role"]) == (bob.id, "manager")


# A guest


def test_a_guest_has_tokens_and_no_name(guest: Person) -> None:
    account = guest.get(ME).json
    assert set(guest.tokens) == {"access_token", "token_type", "expires_in", "refresh_token", "session_id"}
    assert account["username"] is None
    assert account["email"] is None
    assert not [name for name in account if "guest" in name or "merged" in name]
    assert guest.get(f"{ME}/sessions").json["items"][0]["device"] == "a tablet"


def test_a_guest_has_all_that_a_new_account_has(guest: Person, ada: Person) -> None:
    account, other = guest.get(ME).json, ada.get(ME).json
    assert account == guest.get(ME).json, "its times are stored"
    assert {name for name in other if (other[name] is None) != (account[name] is None)} == {"username"}
    assert {name: account[name] for name in ("email_verified", "roles")} == {"email_verified": False, "roles": []}


def test_a_guest_owns_shares_and_refreshes_as_anybody(guest: Person, ada: Person) -> None:
    note = guest.make_note(readers=[ada.id])
    assert ada.get(f"/v1/notes/{note['id']}").status_code == 200
    tokens = guest.post("/auth/refresh", {"refresh_token": guest.tokens["refresh_token"]}).json
    guest.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert guest.get(f"/v1/notes/{note['id']}").status_code == 200


def test_a_guest_needs_no_body(app: Flask) -> None:
    assert Phone(app.test_client()).post("/auth/guest").status_code == 200
    assert Phone(app.test_client()).post("/auth/guest", {"device": 7}).status_code == 422


def test_guests_are_counted_with_sign_ups(make_app: MakeApp) -> None:
    phone = Phone(make_app(RATELIMIT_ENABLED=True, RATELIMIT_SIGN_UPS="2/hour").test_client())
    statuses = [phone.post("/auth/guest").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert phone.post("/v1/accounts", {"username": "late", "password": PASSWORD}).status_code == 429


# It gets a name


def test_a_guest_with_a_name_is_a_full_account_with_all_that_it_had(guest: Person, app: Flask) -> None:
    note = guest.make_note()
    answer = guest.put(f"{ME}/username", {"username": "Grace", "password": PASSWORD})
    assert (answer.status_code, answer.json["username"], answer.json["id"]) == (200, "Grace", guest.id)
    other = Person(app.test_client())
    other.username = "grace"
    other.log_in()
    assert ids(other) == {note["id"]}
    assert guest.get(ME).status_code == 200
    assert "guest_seen_at" not in Account._get_collection().find_one({"_id": guest.id})
    assert "named" in [event["kind"] for event in guest.get(f"{ME}/events").json["items"]]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"username": "x", "password": PASSWORD}, "/username"),
        ({"username": None, "password": PASSWORD}, "/username"),
        ({"password": PASSWORD}, "/username"),
        ({"username": "grace"}, "/password"),
        ({"username": "grace", "password": "short"}, "/password"),
        ({"username": "grace", "password": None}, "/password"),
        ({"username": "grace", "password": 12345678}, "/password"),
        ({"username": "grace-hopper", "password": "grace-hopper"}, "/password"),
        ({"username": "grace", "password": PASSWORD, "role": "admin"}, "/role"),
    ],
)
def test_a_name_that_is_none_is_refused_at_its_place(guest: Person, body: dict[str, Any], pointer: str) -> None:
    answer = guest.put(f"{ME}/username", body)
    assert answer.status_code == 422
    assert [cause["pointer"] for cause in answer.json["errors"]] == [pointer]
    assert guest.get(ME).json["username"] is None


def test_a_name_that_is_taken_is_told(guest: Person, ada: Person) -> None:
    answer = guest.put(f"{ME}/username", {"username": "ADA", "password": PASSWORD})
    assert (answer.status_code, answer.json["code"]) == (409, "already_exists")
    assert answer.json["errors"][0]["pointer"] == "/username"


def test_a_name_stays(ada: Person) -> None:
    answer = ada.put(f"{ME}/username", {"username": "countess", "password": PASSWORD})
    assert (answer.status_code, answer.json["code"]) == (409, "already_exists")
    assert ada.get(ME).json["username"] == "ada"


def test_a_name_given_with_a_key_is_given_once(guest: Person) -> None:
    body, key = {"username": "grace", "password": PASSWORD}, {"Idempotency-Key": "n"}
    first, second = (guest.put(f"{ME}/username", body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code, second.json) == (200, 200, first.json)


def test_who_has_a_password_shows_it_to_get_a_name(guest: Person, app: Flask) -> None:
    guest.put(f"{ME}/username", {"username": "grace", "password": PASSWORD})
    Account._get_collection().update_one({"_id": guest.id}, {"$unset": {"username": "", "username_key": ""}})
    answer = guest.put(f"{ME}/username", {"username": "hopper", "password": "another long pass phrase"})
    assert (answer.status_code, answer.json["code"]) == (401, "bad_credentials")
    assert guest.put(f"{ME}/username", {"username": "hopper", "password": PASSWORD}).status_code == 200


def test_who_comes_in_by_other_ways_shows_it_again_for_a_first_password(guest: Person) -> None:
    Account._get_collection().update_one({"_id": guest.id}, {"$unset": {"guest_seen_at": ""}})
    earlier = int(now().timestamp()) - 400
    Session._get_collection().update_many({"account": guest.id}, {"$set": {"auth_time": earlier}})
    tokens = guest.post("/auth/refresh", {"refresh_token": guest.tokens["refresh_token"]}).json
    guest.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    answer = guest.put(f"{ME}/username", {"username": "grace", "password": PASSWORD})
    assert (answer.status_code, answer.json["code"]) == (403, "reauthentication_required")


# It becomes a part of another account


@pytest.mark.real
def test_all_that_a_guest_has_becomes_the_accounts_and_ids_stay(guest: Person, ada: Person, bob: Person) -> None:
    own = guest.make_note(title="own", readers=[bob.id], writers=[ada.id])
    given = bob.make_note(title="given", readers=[guest.id, ada.id])
    written = bob.make_note(title="written", writers=[guest.id])
    assert merge(ada, guest).status_code == 202
    assert work() == 1
    assert ids(ada) == {own["id"]}
    assert ids(ada, "shared") == {given["id"], written["id"]}
    moved = ada.get(f"/v1/notes/{own['id']}").json
    assert (moved["owner"], moved["readers"], moved["writers"]) == (ada.id, [bob.id], [])
    assert moved["revision"] == own["revision"] + 1
    shared = bob.get(f"/v1/notes/{given['id']}").json
    assert shared["readers"] == [ada.id]
    assert ada.patch(f"/v1/notes/{written['id']}", {"title": "by ada"}).status_code == 200
    assert ada.find(search="own").json["items"], "words go with the access list"
    assert bob.get(f"/v1/accounts/{guest.id}").status_code == 404


@pytest.mark.real
def test_from_the_merge_on_nobody_acts_for_the_guest(guest: Person, ada: Person) -> None:
    merge(ada, guest)
    assert guest.get(ME).status_code == 401
    assert guest.post("/auth/refresh", {"refresh_token": guest.tokens["refresh_token"]}).status_code == 401


@pytest.mark.real
def test_what_a_request_of_the_guest_stores_late_goes_over_too(guest: Person, ada: Person) -> None:
    merge(ada, guest)
    assert work(after=timedelta(seconds=15)) == 0, "requests of the guest may be under way"
    create(Note, guest.id, {"_id": "late", "title": "late"})
    assert work(after=timedelta(seconds=15)) == 0
    assert ids(ada) == {"late"}
    assert work() == 1
    assert Account._get_collection().find_one({"_id": guest.id, "deleted_at": {"$exists": False}}) is None


@pytest.mark.real
def test_a_merge_that_comes_again_does_nothing_more(guest: Person, ada: Person) -> None:
    assert [merge(ada, guest).status_code for _ in range(2)] == [202, 202]
    assert Event.objects(account=ada.id, kind="guest_merged").count() == 1


@pytest.mark.real
def test_the_token_before_is_as_good_when_the_answer_to_a_refresh_was_lost(guest: Person, ada: Person) -> None:
    guest.post("/auth/refresh", {"refresh_token": guest.tokens["refresh_token"]})
    assert merge(ada, guest).status_code == 202


@pytest.mark.real
def test_a_token_that_was_spent_before_the_grace_opens_nothing(make_app: MakeApp) -> None:
    app = make_app(JWT_REFRESH_GRACE=60)
    guest, ada = guest_on(app), Person.sign_up(app.test_client(), "ada")
    guest.post("/auth/refresh", {"refresh_token": guest.tokens["refresh_token"]})
    Session._get_collection().update_one({"account": guest.id}, {"$set": {"rotated_at": now() - timedelta(seconds=61)}})
    assert merge(ada, guest).status_code == 422


@pytest.mark.real
def test_a_merge_takes_the_token_of_a_guest_alone(app: Flask, ada: Person, bob: Person, guest: Person) -> None:
    guest.put(f"{ME}/username", {"username": "grace", "password": PASSWORD})
    ended = guest_on(app)
    ended.post("/auth/logout")
    locked = guest_on(app)
    Account._get_collection().update_one({"_id": locked.id}, {"$set": {"locked_at": now()}})
    forged = guest_on(app)
    forged.tokens["refresh_token"] = forged.tokens["refresh_token"][:-4] + "AAAA"
    for person in (bob, ada, guest, ended, locked, forged):
        answer = merge(ada, person)
        assert answer.status_code == 422
        assert answer.json["errors"] == [
            {"code": "guest_token", "detail": "the last refresh token of a guest", "pointer": "/guest_refresh_token"}
        ]
    assert ada.get(ME).status_code == bob.get(ME).status_code == 200


def test_a_guest_takes_nothing_over(app: Flask, guest: Person) -> None:
    answer = merge(guest_on(app), guest)
    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")


@pytest.mark.real
def test_nobody_merges_a_guest_that_another_one_merges(guest: Person, ada: Person, bob: Person) -> None:
    note = guest.make_note()
    assert merge(ada, guest).status_code == 202
    assert merge(bob, guest).status_code == 422
    work()
    assert ids(ada) == {note["id"]}
    assert not ids(bob)


@pytest.mark.real
def test_a_merge_that_is_cut_short_anywhere_goes_on(
    guest: Person, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "BATCH", 2)
    made = {guest.make_note(title=str(number))["id"] for number in range(7)}
    merge(ada, guest)
    for steps in range(1, 5):
        left = count(-steps)
        guests.go_on_merging(REGISTRY, NO_TIME, KEEP, lambda left=left: next(left) < -1)  # type: ignore[misc]
        assert ids(ada) <= made
    assert work() in (0, 1)
    assert ids(ada) == made
    assert {note["revision"] for note in ada.find().json["items"]} == {2}, "each once"


@pytest.mark.real
def test_with_an_account_that_goes_meanwhile_goes_what_the_guest_had(guest: Person, ada: Person) -> None:
    guest.make_note()
    merge(ada, guest)
    delete_account(REGISTRY, ada.id)
    assert work(after=timedelta(seconds=15)) == 1
    assert Note._get_collection().count_documents({"owner": {"$in": [guest.id, ada.id]}}) == 0


@pytest.mark.real
@pytest.mark.parametrize("odd", [5, "everybody", {"role": "a"}])
def test_a_record_whose_readers_are_no_list_goes_over_and_stops_no_other(
    guest: Person, ada: Person, bob: Person, odd: Any
) -> None:
    notes = [guest.make_note(readers=[bob.id])["id"] for _ in range(2)]
    Note._get_collection().update_one({"_id": notes[0]}, {"$set": {"readers": odd}})
    merge(ada, guest)
    assert work() == 1
    stored = {row["_id"]: row for row in Note._get_collection().find({"owner": ada.id})}
    assert {id: row.get("readers") for id, row in stored.items()} == {notes[0]: None, notes[1]: [bob.id]}


# What cannot stand beside each other, and what refers to the guest


@pytest.fixture
def registry(make_app: MakeApp) -> Registry:
    app = make_app(documents=[*SHIPPED, Preference, Badge])
    found: Registry = app.extensions["madang.registry"]
    indexes.make(found)
    return found


@pytest.mark.real
def test_of_what_must_be_unique_the_accounts_own_stays(guest: Person, ada: Person, registry: Registry) -> None:
    create(Preference, ada.id, {"_id": "hers", "kind": "theme"})
    create(Preference, guest.id, {"_id": "his", "kind": "theme"})
    create(Preference, guest.id, {"_id": "other", "kind": "language"})
    create(Badge, ada.id, {"_id": "b1", "label": "gold"})
    create(Badge, guest.id, {"_id": "b2", "label": "gold"})
    merge(ada, guest)
    assert work(registry) == 1
    rows = type_of(Preference).collection.find({"owner": ada.id})
    assert {row["_id"] for row in rows} == {"hers", "other"}
    badges = {row["_id"]: row.get("label") for row in type_of(Badge).collection.find({"owner": ada.id})}
    assert badges == {"b1": "gold", "b2": None}


@pytest.mark.real
def test_what_refers_to_the_guest_refers_to_the_account(
    guest: Person, ada: Person, bob: Person, registry: Registry
) -> None:
    create(Badge, bob.id, {"_id": "b3", "bearer": guest.id, "friends": [bob.id, guest.id]})
    merge(ada, guest)
    work(registry)
    row = type_of(Badge).collection.find_one({"_id": "b3"})
    assert row is not None
    assert (row["bearer"], row["friends"], row["revision"]) == (ada.id, [bob.id, ada.id], 3)


# It goes


def age(account: str, days: float, session_days: float | None = None) -> None:
    """Have an account as if it had been made, and used last, so many days ago."""
    Account._get_collection().update_one({"_id": account}, {"$set": {"guest_seen_at": now() - timedelta(days=days)}})
    used = now() - timedelta(days=days if session_days is None else session_days)
    Session._get_collection().update_many({"account": account}, {"$set": {"last_used_at": used}})


def test_a_guest_that_nobody_comes_back_to_goes_with_all_that_it_owns(guest: Person) -> None:
    guest.make_note()
    age(guest.id, 91)
    assert guests.let_go(REGISTRY, 90) == 1
    assert guest.get(ME).status_code == 401
    assert Note._get_collection().count_documents({"owner": guest.id}) == 0


def test_a_guest_that_came_back_stays_and_is_not_looked_at_again(guest: Person) -> None:
    age(guest.id, 91, session_days=3)
    assert guests.let_go(REGISTRY, 90) == 0
    seen = Account._get_collection().find_one({"_id": guest.id})["guest_seen_at"]
    assert now() - seen < timedelta(days=4)
    assert guest.get(ME).status_code == 200


@pytest.mark.real
def test_who_has_a_name_or_is_being_merged_does_not_go(app: Flask, guest: Person, ada: Person) -> None:
    named = guest_on(app)
    named.put(f"{ME}/username", {"username": "grace", "password": PASSWORD})
    addressed = guest_on(app)
    Account._get_collection().update_one({"_id": addressed.id}, {"$set": {"email_key": "grace@example.com"}})
    merge(ada, guest)
    for person in (named, addressed, guest):
        if person is not named:
            age(person.id, 91)
    Account._get_collection().update_one({"_id": guest.id}, {"$set": {"guest_seen_at": now() - timedelta(days=91)}})
    assert guests.let_go(REGISTRY, 90) == 0


@pytest.mark.real
def test_a_guest_that_comes_back_while_it_is_looked_at_stays_or_is_gone_whole(app: Flask) -> None:
    for _ in range(10):
        guest = guest_on(app)
        age(guest.id, 91)
        answers: list[int] = []
        body = {"refresh_token": guest.tokens["refresh_token"]}
        came = Thread(target=lambda: answers.append(Phone(app.test_client()).post("/auth/refresh", body).status_code))  # noqa: B023
        came.start()
        gone = guests.let_go(REGISTRY, 90)
        came.join()
        assert (gone, answers) in [(1, [401]), (0, [200])]


# At the same time


@pytest.mark.real
def test_no_write_of_the_guest_or_of_the_taker_is_lost_or_doubled_by_a_merge(
    app: Flask, guest: Person, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "BATCH", 3)
    notes = [guest.make_note()["id"] for _ in range(12)]
    acknowledged: dict[str, set[str]] = {id: set() for id in notes}
    begun, over = Flag(), Flag()

    def write(phone: Phone, name: str) -> None:
        for number in count():
            id, tag = notes[number % len(notes)], f"{name}{number}"
            answer = phone.patch(f"/v1/notes/{id}", {"$add_to_set": {"tags": tag}})
            if answer.status_code == 200:
                acknowledged[id].add(tag)
            assert answer.status_code in (200, 401, 404, 422), answer.json
            made = phone.post("/v1/notes", {"title": "new", "tags": [tag]}) if number % 3 == 0 else answer
            if made.status_code == 201:
                acknowledged[made.json["id"]] = {tag}
            begun.set()
            if made.status_code == 401 or over.is_set():
                return

    phones = [Phone(app.test_client(), headers=dict(person.headers)) for person in (guest, ada)]
    threads = [Thread(target=write, args=(phone, name)) for phone, name in zip(phones, "ga", strict=True)]
    for thread in threads:
        thread.start()
    begun.wait(5)
    merge(ada, guest)
    threads[0].join()
    for _ in range(3):
        work(after=timedelta(seconds=15))
    over.set()
    threads[1].join()
    assert work() == 1
    stored = {row["_id"]: row for row in Note._get_collection().find({"purge_at": {"$exists": False}})}
    assert {row["owner"] for row in stored.values()} == {ada.id}
    assert {id: set(row.get("tags", ())) for id, row in stored.items()} == acknowledged
