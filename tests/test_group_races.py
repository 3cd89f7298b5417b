"""Races in groups, on the real server: what has to hold of all members holds, whoever comes and goes at once."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from flask import Flask

from service.documents import Account, Group, Note
from service.identity import memberships
from service.policy import MANAGER
from service.records import deletion, founding
from tests.client import Person
from tests.racing import at_once
from tests.types import REGISTRY
from tests.waiting import until

pytestmark = pytest.mark.real

TRIALS = 4


def as_new(app: Flask, person: Person) -> Person:
    """The same person on another phone, for another thread."""
    other = Person(app.test_client(), person.headers)
    other.id = person.id
    return other


def managers(group: str) -> int:
    held = {"groups": {"$elemMatch": {"group": group, "role": MANAGER}}}
    return Account._get_collection().count_documents(held)


def members(group: str) -> int:
    return Account._get_collection().count_documents({"groups.group": group})


@pytest.mark.parametrize("way", ["leave", "step down", "delete the account and leave"])
def test_two_managers_who_go_at_once_do_not_leave_members_alone(app: Flask, ada: Person, way: str) -> None:
    cat = Person.sign_up(app.test_client(), "cat")
    for number in range(TRIALS):
        bob = Person.sign_up(app.test_client(), f"bob{number}")
        group = ada.post("/v1/groups", {"name": "Family"}).json["id"]
        path = f"/v1/groups/{group}/members"
        for person, role in ((bob, "manager"), (cat, "member")):
            assert ada.post(path, {"account": person.id, "role": role}).status_code == 201
        ways = {
            "leave": [partial(person.delete, f"{path}/me") for person in (ada, bob)],
            "step down": [
                partial(person.post, path, {"account": person.id, "role": "member"}) for person in (ada, bob)
            ],
            "delete the account and leave": [
                partial(ada.delete, f"{path}/me"),
                partial(bob.delete, "/v1/accounts/me"),
            ],
        }
        statuses = [answer.status_code for answer in at_once(*ways[way])]
        assert managers(group) == 1, statuses
        if way != "delete the account and leave":
            assert sorted(statuses) in ([200, 409], [204, 409])


def test_who_founds_many_groups_at_once_has_as_many_as_one_may(
    app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(founding, "MOST_GROUPS", 3)
    monkeypatch.setattr(founding.enter, "__defaults__", (3,))
    phones = [as_new(app, ada) for _ in range(8)]
    answers = at_once(*(partial(phone.post, "/v1/groups", {"name": "x"}) for phone in phones))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 5
    assert len(ada.get("/v1/groups").json["items"]) == Group.objects.count() == 3


def test_who_is_added_by_many_at_once_is_added_once(app: Flask, ada: Person, bob: Person) -> None:
    ada.post("/v1/groups", {"id": "family", "name": "x"})
    phones = [as_new(app, ada) for _ in range(6)]
    add = "/v1/groups/family/members"
    answers = at_once(*(partial(phone.post, add, {"account": bob.id}) for phone in phones))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len(Account._get_collection().find_one({"_id": bob.id})["groups"]) == 1


def test_a_group_never_has_more_members_than_it_may(app: Flask, ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memberships, "MOST_MEMBERS", 3)
    ada.post("/v1/groups", {"id": "family", "name": "x"})
    others = [Person.sign_up(app.test_client(), f"person{number}").id for number in range(6)]
    phones = [as_new(app, ada) for _ in others]
    path = "/v1/groups/family/members"
    at_once(*(partial(phone.post, path, {"account": id}) for phone, id in zip(phones, others, strict=True)))
    assert members("family") == 3


def test_nobody_is_left_in_a_group_that_is_deleted_while_they_come_in(app: Flask, ada: Person, bob: Person) -> None:
    for number in range(TRIALS):
        id = f"g{number}"
        ada.post("/v1/groups", {"id": id, "name": "x"})
        other = as_new(app, ada)
        added, deleted = at_once(
            partial(ada.post, f"/v1/groups/{id}/members", {"account": bob.id}),
            partial(other.delete, f"/v1/groups/{id}"),
        )
        assert added.status_code in (201, 404)
        assert deleted.status_code == 204
        assert members(id) == 0


def test_nobody_is_added_whose_account_goes(app: Flask, ada: Person) -> None:
    for number in range(TRIALS):
        ada.post("/v1/groups", {"id": f"g{number}", "name": "x"})
        eve = Person.sign_up(app.test_client(), f"eve{number}")
        added, gone = at_once(
            partial(ada.post, f"/v1/groups/g{number}/members", {"account": eve.id}),
            partial(eve.delete, "/v1/accounts/me"),
        )
        assert (added.status_code in (201, 422), gone.status_code) == (True, 204)
        assert members(f"g{number}") == 1


def test_a_deletion_of_a_group_that_dies_anywhere_is_ended_by_a_worker(
    ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each of its operations in turn."""
    monkeypatch.setattr(deletion, "BATCH", 2)
    for died_at in range(1, 9):
        group = ada.post("/v1/groups", {"name": "x"}).json["id"]
        ada.post(f"/v1/groups/{group}/members", {"account": bob.id})
        for _ in range(3):
            ada.make_note(readers=[f"group:{group}"])
        ways = {"id_batches": deletion.id_batches, "withdraw_all": deletion.withdraw_all, "dissolve": deletion.dissolve}
        change_many = deletion.store.change_many
        with monkeypatch.context() as patch:

            def dying(work: Callable[..., Any], left: Iterator[int]) -> Callable[..., Any]:
                def done(*args: Any) -> Any:
                    if next(left, None) is None:
                        raise Dead
                    return work(*args)

                return done

            left = iter(range(died_at))
            for name, work in ways.items():
                patch.setattr(deletion, name, dying(work, left))
            patch.setattr(deletion.store, "change_many", dying(change_many, left))
            answer = ada.delete(f"/v1/groups/{group}")
        assert answer.status_code in (204, 500)
        assert ada.get(f"/v1/groups/{group}").status_code == 404
        deletion.release_again(REGISTRY, timedelta())
        assert members(group) == 0
        assert Note._get_collection().count_documents({"access": f"r:group:{group}"}) == 0
        assert Note._get_collection().count_documents({"readers": f"group:{group}"}) == 0


class Dead(Exception):
    """The process has died here."""


def test_who_joins_sees_and_who_leaves_does_not_within_a_second_in_every_process(
    make_app: Any, ada: Person, bob: Person
) -> None:
    elsewhere = as_new(make_app(), bob)
    ada.post("/v1/groups", {"id": "family", "name": "x"})
    ada.make_note(id="n", readers=["group:family"])
    for method, path, body, status in (
        ("POST", "/v1/groups/family/members", {"account": bob.id}, 200),
        ("DELETE", f"/v1/groups/family/members/{bob.id}", None, 404),
    ):
        assert elsewhere.get("/v1/notes/n").status_code != status
        assert ada.send(method, path, body).status_code < 300
        until(lambda status=status: elsewhere.get("/v1/notes/n").status_code == status, 1.0)
        assert bob.get("/v1/notes/n").status_code == status


def test_who_is_removed_while_a_merge_takes_over_its_groups_is_not_in_them_again(
    ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ada.post("/v1/groups", {"id": "hers", "name": "x"}).status_code == 201
    guest = Person.sign_up(ada.client, "guest")
    assert ada.post("/v1/groups/hers/members", {"account": guest.id, "role": "manager"}).status_code == 201
    seen = memberships.groups_of

    def meanwhile(account: str) -> Any:
        found = seen(account)
        monkeypatch.setattr(memberships, "groups_of", seen)
        assert ada.delete(f"/v1/groups/hers/members/{guest.id}").status_code == 204
        return found

    monkeypatch.setattr(memberships, "groups_of", meanwhile)
    memberships.hand_over_memberships(REGISTRY, guest.id, bob.id)
    assert [one["account"] for one in ada.get("/v1/groups/hers/members").json["items"]] == [ada.id]
