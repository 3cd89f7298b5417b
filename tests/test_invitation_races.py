"""Races about invitations, on the real server: uses are counted exactly, and who invites manages to the end."""

from functools import partial
from typing import Any

import pytest
from flask import Flask

from service.documents import Invitation
from service.identity import memberships
from tests.client import Person
from tests.racing import at_once
from tests.test_group_races import TRIALS, as_new, members

pytestmark = pytest.mark.real

PATH = "/v1/groups/family/invitations"
MEMBERS = "/v1/groups/family/members"


@pytest.fixture
def family(ada: Person) -> Person:
    assert ada.post("/v1/groups", {"id": "family", "name": "Family"}).status_code == 201
    return ada


def accepting(person: Person, code: str) -> Any:
    return partial(person.post, f"/v1/invitations/{code}")


def test_no_more_join_at_once_than_there_are_uses(app: Flask, family: Person) -> None:
    people = [Person.sign_up(app.test_client(), f"person{number}") for number in range(6)]
    made = family.post(PATH, {"uses": 3}).json
    answers = at_once(*(accepting(person, made["code"]) for person in people))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [404] * 3
    assert members("family") == 4
    stored = Invitation._get_collection().find_one({"_id": made["id"]})
    assert (stored["left"], len(stored["taken_by"])) == (0, 3)


def test_who_accepts_many_times_at_once_uses_one_up(app: Flask, family: Person, bob: Person) -> None:
    made = family.post(PATH, {"uses": 5}).json
    answers = at_once(*(accepting(as_new(app, bob), made["code"]) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert Invitation._get_collection().find_one({"_id": made["id"]})["left"] == 4


def test_who_has_no_room_uses_nothing_up(app: Flask, family: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memberships, "MOST_MEMBERS", 3)
    people = [Person.sign_up(app.test_client(), f"person{number}") for number in range(4)]
    made = family.post(PATH, {"uses": 4}).json
    answers = at_once(*(accepting(person, made["code"]) for person in people))
    assert sorted(answer.status_code for answer in answers) == [201] * 2 + [409] * 2
    assert Invitation._get_collection().find_one({"_id": made["id"]})["left"] == 2


def test_a_use_is_not_lost_with_an_atomic_batch_that_is_undone(family: Person, bob: Person) -> None:
    made = family.post(PATH, {}).json
    parts = [
        {"method": "POST", "path": f"/v1/invitations/{made['code']}"},
        {"method": "GET", "path": "/v1/notes/none-such"},
    ]
    bob.post("/v1/batch", {"requests": parts, "atomic": True})
    assert members("family") == 1
    assert Invitation._get_collection().find_one({"_id": made["id"]})["left"] == 1


@pytest.mark.parametrize("way", ["step down", "leave", "delete the account"])
def test_no_invitation_outlives_the_role_of_its_maker(app: Flask, family: Person, way: str) -> None:
    """Whichever comes first: one that is made too late is refused, one that is there already goes."""
    for number in range(TRIALS):
        bob = Person.sign_up(app.test_client(), f"bob{number}")
        family.post(MEMBERS, {"account": bob.id, "role": "manager"})
        ends = {
            "step down": partial(family.post, MEMBERS, {"account": bob.id, "role": "member"}),
            "leave": partial(as_new(app, bob).delete, f"{MEMBERS}/me"),
            "delete the account": partial(as_new(app, bob).delete, "/v1/accounts/me"),
        }
        made, ended = at_once(partial(bob.post, PATH, {}), ends[way])
        assert made.status_code in (201, 401, 403, 404)
        assert ended.status_code in (200, 204)
        assert Invitation._get_collection().count_documents({"inviter": bob.id}) == 0


def test_nobody_joins_a_group_that_is_deleted_at_the_same_time(app: Flask, ada: Person, bob: Person) -> None:
    for number in range(TRIALS):
        id = f"g{number}"
        ada.post("/v1/groups", {"id": id, "name": "x"})
        made = ada.post(f"/v1/groups/{id}/invitations", {}).json
        joined, deleted = at_once(accepting(bob, made["code"]), partial(ada.delete, f"/v1/groups/{id}"))
        assert joined.status_code in (201, 404)
        assert deleted.status_code == 204
        assert members(id) == 0
        assert Invitation._get_collection().count_documents({"group": id}) == 0


def test_who_is_invited_while_the_invitation_is_revoked_joins_or_does_not(
    app: Flask, family: Person, bob: Person
) -> None:
    for _ in range(TRIALS):
        made = family.post(PATH, {}).json
        joined, revoked = at_once(accepting(bob, made["code"]), partial(family.delete, f"{PATH}/{made['id']}"))
        assert (joined.status_code, revoked.status_code) in ((201, 204), (404, 204))
        assert members("family") == (2 if joined.status_code == 201 else 1)
        bob.delete(f"{MEMBERS}/me")
