"""Invitations: a manager makes one, and who has its code or its link joins the group by themselves."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from mongoengine.connection import get_db

from service.core.clock import now
from service.documents import Account, Event, Invitation, KeptAnswer
from service.documents.account import address_key
from service.identity import invitations, memberships
from service.identity.codes import CODE_CHARACTERS
from service.identity.deletion import sweep
from service.pages.texts import PAGE_TEXTS
from service.records import founding
from service.security import security
from tests.client import PASSWORD, Person, Phone, make_verified, pointers
from tests.mailbox import Mailbox
from tests.types import REGISTRY

PATH = "/v1/groups/family/invitations"
MEMBERS = "/v1/groups/family/members"
ADDRESS = "mina@example.org"


@pytest.fixture(autouse=True)
def every_session_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is believed of a session for 0.8 s is the matter of another test."""
    monkeypatch.setattr("service.identity.sessions.CHECK_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def fresh_counters(app: Flask) -> Iterator[None]:
    yield
    for name in ("throttle_windows", "throttle_counters"):
        get_db()[name].delete_many({})


@pytest.fixture
def mails(app: Flask) -> Mailbox:
    return Mailbox(app)


@pytest.fixture
def family(ada: Person) -> Person:
    """Its manager."""
    assert ada.post("/v1/groups", {"id": "family", "name": "Family"}).status_code == 201
    return ada


@pytest.fixture
def cat(app: Flask) -> Person:
    return Person.sign_up(app.test_client(), "cat")


def invite(manager: Person, **body: Any) -> dict[str, Any]:
    answer = manager.post(PATH, body)
    assert answer.status_code == 201, answer.json
    made: dict[str, Any] = answer.json
    return made


def accept(person: Person, code: str) -> Any:
    return person.post(f"/v1/invitations/{code}")


def token_of(made: dict[str, Any]) -> str:
    found = re.search(r"/account/join\?token=([\w-]{43})$", made["link"])
    assert found, made["link"]
    return found[1]


def roles(person: Person) -> dict[str, str]:
    return {member["username"]: member["role"] for member in person.get(MEMBERS).json["items"]}


def left(made: dict[str, Any]) -> int:
    found: int = Invitation._get_collection().find_one({"_id": made["id"]})["left"]
    return found


# To make one


def test_an_invitation_is_told_with_its_code_and_link_once(family: Person) -> None:
    made = invite(family, uses=3)
    assert {name: made[name] for name in ("group", "role", "email", "uses", "left", "inviter")} == {
        "group": "family",
        "role": "member",
        "email": None,
        "uses": 3,
        "left": 3,
        "inviter": family.id,
    }
    assert re.fullmatch(rf"([{CODE_CHARACTERS}]{{4}}-){{3}}[{CODE_CHARACTERS}]{{4}}", made["code"])
    token_of(made)
    (listed,) = family.get(PATH).json["items"]
    assert listed == {name: value for name, value in made.items() if name not in ("code", "link")}


def test_what_is_stored_tells_neither_code_nor_link(family: Person) -> None:
    made = invite(family)
    stored = str(Invitation._get_collection().find_one())
    assert made["code"] not in stored
    assert made["code"].replace("-", "") not in stored
    assert token_of(made) not in stored


KEY = {"Idempotency-Key": "key"}


def test_a_retry_is_told_the_same_code_and_link_of_which_nothing_is_kept(family: Person) -> None:
    first, second = (family.post(PATH, {}, headers=KEY) for _ in range(2))
    assert (second.status_code, second.data) == (201, first.data)
    assert second.headers["Idempotent-Replayed"] == "true"
    assert Invitation._get_collection().count_documents({}) == 1
    kept = [answer["body"] for answer in KeptAnswer._get_collection().find()]
    assert [orjson.loads(body)["id"] for body in kept] == [first.json["id"]]
    assert all(secret not in str(kept) for secret in (first.json["code"], token_of(first.json)))


def test_a_retry_after_the_invitation_was_revoked_tells_no_code(family: Person) -> None:
    made = family.post(PATH, {}, headers=KEY).json
    family.delete(f"{PATH}/{made['id']}")
    again = family.post(PATH, {}, headers=KEY)
    assert (again.status_code, again.json["code"]) == (404, "not_found")
    refused, once_more = (family.post(PATH, {"uses": 0}, headers={"Idempotency-Key": "other"}) for _ in range(2))
    assert (once_more.status_code, once_more.json) == (422, refused.json)


def test_a_retry_after_the_secret_was_changed_is_told_the_same(make_app: Callable[..., Flask], ada: Person) -> None:
    old, new = "the first secret of this installation", "the second secret of this installation"
    apps = [make_app(SECRET_KEY=None, JWT_SECRET_KEY=keys) for keys in ([old], [new, old])]
    before, after = (Person(app.test_client(), {}) for app in apps)
    tokens = before.post("/auth", {"username": "ada", "password": PASSWORD}).json
    before.headers = after.headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    before.post("/v1/groups", {"id": "family", "name": "Family"})
    made = before.post(PATH, {}, headers=KEY).json
    with apps[1].app_context():
        assert security().keys.secrets == (new, old)
        told = security().invitations.told_again(made["id"])
    assert (told.code, told.link) == (made["code"], made["link"])
    assert after.post("/v1/accounts", {"username": "dora", "password": PASSWORD}).status_code == 201


@pytest.mark.parametrize("atomic", [False, pytest.param(True, marks=pytest.mark.real)])
def test_a_batch_keeps_no_code_of_an_invitation(family: Person, atomic: bool) -> None:
    body = {"atomic": atomic, "requests": [{"method": "POST", "path": PATH, "body": {"uses": 2}}]}
    first, second = (family.post("/v1/batch", body, headers=KEY).json["responses"][0] for _ in range(2))
    assert first["status"] == 201
    assert second["status"] == (404 if atomic else 201)
    assert atomic or second["body"] == first["body"]
    assert Invitation._get_collection().count_documents({}) == 1
    kept = str([answer["body"] for answer in KeptAnswer._get_collection().find()])
    assert first["body"]["code"] not in kept
    assert token_of(first["body"]) not in kept


def test_an_invitation_is_good_for_so_many_days(make_app: Callable[..., Flask], ada: Person) -> None:
    elsewhere = Person(make_app(INVITATION_DAYS=3).test_client(), ada.headers)
    elsewhere.post("/v1/groups", {"id": "family", "name": "Family"})
    invite(elsewhere)
    stored = Invitation._get_collection().find_one()
    assert stored["expires_at"] - stored["created_at"] == timedelta(days=3)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"role": "boss"}, "/role"),
        ({"uses": 0}, "/uses"),
        ({"uses": 101}, "/uses"),
        ({"uses": "many"}, "/uses"),
        ({"email": "nobody"}, "/email"),
        ({"email": ADDRESS, "uses": 2}, "/uses"),
        ({"days": 3}, "/days"),
    ],
)
def test_a_wrong_invitation_is_refused_with_its_place(family: Person, body: dict[str, Any], place: str) -> None:
    answer = family.post(PATH, body)
    assert (answer.status_code, [*pointers(answer)]) == (422, [place])
    assert Invitation._get_collection().find_one() is None


def test_a_group_has_so_many_open_invitations_at_most(family: Person, bob: Person, monkeypatch: Any) -> None:
    monkeypatch.setattr(invitations, "MOST_INVITATIONS", 1)
    made = invite(family)
    answer = family.post(PATH, {})
    assert (answer.status_code, answer.json["code"]) == (409, "limit_reached")
    accept(bob, made["code"])
    invite(family)


def test_who_makes_many_invitations_has_to_wait(make_app: Callable[..., Flask], ada: Person) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_INVITATIONS="2 per hour")
    family = Person(app.test_client(), ada.headers)
    family.post("/v1/groups", {"id": "family", "name": "Family"})
    answers = [family.post(PATH, {}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert "Retry-After" in answers[2].headers


# Who may


def test_only_managers_make_see_and_revoke_invitations(family: Person, bob: Person, cat: Person, phone: Phone) -> None:
    made = invite(family)
    family.post(MEMBERS, {"account": bob.id})
    for person, status in ((bob, 403), (cat, 404), (phone, 401)):
        assert person.post(PATH, {}).status_code == status
        assert person.get(PATH).status_code == status
        assert person.delete(f"{PATH}/{made['id']}").status_code == status
    assert left(made) == 1
    assert phone.post(f"/v1/invitations/{made['code']}").status_code == 401


def test_a_manager_revokes_what_another_one_made(family: Person, bob: Person, cat: Person) -> None:
    made = invite(family)
    family.post(MEMBERS, {"account": bob.id, "role": "manager"})
    assert bob.delete(f"{PATH}/{made['id']}").status_code == 204
    assert bob.delete(f"{PATH}/{made['id']}").status_code == 404
    assert bob.get(PATH).json["items"] == []
    assert accept(cat, made["code"]).status_code == 404


def test_an_invitation_is_revoked_in_its_own_group_alone(family: Person, bob: Person) -> None:
    made = invite(family)
    bob.post("/v1/groups", {"id": "other", "name": "Other"})
    assert bob.delete(f"/v1/groups/other/invitations/{made['id']}").status_code == 404
    assert left(made) == 1


# To accept one


@pytest.mark.parametrize("way", ["code", "code without dashes", "code in small letters", "token"])
@pytest.mark.parametrize("role", ["member", "manager"])
def test_who_has_the_code_or_the_link_joins_in_its_role(family: Person, bob: Person, way: str, role: str) -> None:
    family.make_note(id="n", readers=["group:family"])
    made = invite(family, role=role)
    given = {
        "code": made["code"],
        "code without dashes": made["code"].replace("-", ""),
        "code in small letters": made["code"].lower(),
        "token": token_of(made),
    }[way]
    answer = accept(bob, given)
    assert (answer.status_code, answer.json["group"], answer.json["role"]) == (201, "family", role)
    assert roles(bob) == {"ada": "manager", "bob": role}
    assert bob.get("/v1/notes/n").status_code == 200
    kinds = [event["kind"] for event in bob.get("/v1/accounts/me/events").json["items"]]
    assert "group_joined" in kinds
    assert "invitation_made" in [event["kind"] for event in family.get("/v1/accounts/me/events").json["items"]]


def test_accepting_twice_is_the_same_as_once(family: Person, bob: Person, cat: Person) -> None:
    made = invite(family, uses=2)
    first, second = accept(bob, made["code"]), accept(bob, token_of(made))
    assert (first.status_code, second.status_code, second.json) == (201, 200, first.json)
    assert left(made) == 1
    assert accept(cat, made["code"]).status_code == 201
    # Of one that is used up too.
    assert accept(cat, made["code"]).status_code == 200
    assert Event._get_collection().count_documents({"kind": "group_joined", "account": bob.id}) == 1


def test_who_is_a_member_already_uses_nothing_up_and_stays_what_they_are(family: Person, bob: Person) -> None:
    family.post(MEMBERS, {"account": bob.id})
    made = invite(family, role="manager")
    answer = accept(bob, made["code"])
    assert (answer.status_code, answer.json["role"], left(made)) == (200, "member", 1)
    assert accept(family, made["code"]).json["role"] == "manager"


def test_so_many_join_as_there_are_uses(family: Person, bob: Person, cat: Person) -> None:
    made = invite(family)
    assert accept(bob, made["code"]).status_code == 201
    assert accept(cat, made["code"]).status_code == 404
    assert family.get(PATH).json["items"] == []
    assert roles(family) == {"ada": "manager", "bob": "member"}


def test_who_was_removed_does_not_come_back_by_the_same_invitation(family: Person, bob: Person) -> None:
    made = invite(family, uses=5)
    accept(bob, made["code"])
    assert family.delete(f"{MEMBERS}/{bob.id}").status_code == 204
    assert accept(bob, made["code"]).status_code == 404
    assert left(made) == 4


def test_the_answer_is_the_same_whatever_is_wrong_with_an_invitation(family: Person, bob: Person, cat: Person) -> None:
    used, expired, revoked, meant = (invite(family) for _ in range(4))
    accept(bob, used["code"])
    of = {"_id": expired["id"]}
    Invitation._get_collection().update_one(of, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    family.delete(f"{PATH}/{revoked['id']}")
    Invitation._get_collection().update_one({"_id": meant["id"]}, {"$set": {"email_key": ADDRESS}})
    unknown = "2222-2222-2222-2222"
    answers = [accept(cat, code) for code in (unknown, *(made["code"] for made in (used, expired, revoked, meant)))]
    answers += [accept(cat, odd) for odd in ("x", "x" * 5000, "%00", "%ff", "a" * 43, "2222-2222-2222-222")]
    told = [{**answer.json, "request_id": None} for answer in answers]
    assert {answer.status_code for answer in answers} == {404}
    assert all(one == told[0] for one in told)


def test_who_guesses_has_to_wait(make_app: Callable[..., Flask], ada: Person, bob: Person) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_FAILED_LOGINS="2 per hour")
    family, guesser = (Person(app.test_client(), person.headers) for person in (ada, bob))
    family.post("/v1/groups", {"id": "family", "name": "Family"})
    made = invite(family)
    statuses = [accept(guesser, "2222-2222-2222-2222").status_code for _ in range(3)]
    assert statuses == [404, 404, 429]
    assert accept(guesser, made["code"]).status_code == 429
    assert left(made) == 1


def test_one_joins_so_many_groups_oneself_as_one_may(family: Person, bob: Person, monkeypatch: Any) -> None:
    """Nobody else has put them there, so the places that others can fill do not count."""
    monkeypatch.setattr(memberships, "MOST_ADDED", 1)
    bob.post("/v1/groups", {"id": "his", "name": "His"})
    made = invite(family, uses=2)
    assert family.post(MEMBERS, {"account": bob.id}).json["code"] == "limit_reached"
    assert accept(bob, made["code"]).status_code == 201


def test_no_use_is_lost_where_there_is_no_room(family: Person, bob: Person, monkeypatch: Any) -> None:
    made = invite(family)
    with monkeypatch.context() as patch:
        patch.setattr(memberships, "MOST_MEMBERS", 1)
        answer = accept(bob, made["code"])
        assert (answer.status_code, answer.json["code"]) == (409, "limit_reached")
    with monkeypatch.context() as patch:
        patch.setattr(memberships, "MOST_GROUPS", 1)
        patch.setattr(founding.enter, "__defaults__", (1,))
        patch.setattr(memberships.join_group, "__defaults__", (1,))
        bob.post("/v1/groups", {"id": "his", "name": "His"})
        assert accept(bob, made["code"]).json["code"] == "limit_reached"
    assert left(made) == 1
    assert roles(family) == {"ada": "manager"}


def test_a_guest_accepts(family: Person, phone: Phone) -> None:
    made = invite(family)
    guest = Person(phone.client, {"Authorization": f"Bearer {phone.post('/auth/guest', {}).json['access_token']}"})
    assert accept(guest, made["code"]).status_code == 201


# By mail


def test_an_invitation_to_an_address_is_mailed_with_code_and_link(family: Person, mails: Mailbox) -> None:
    made = invite(family, email=ADDRESS)
    (mail,) = mails.collect()
    assert mail.to == ADDRESS
    for shown in (made["code"], token_of(made), "Family", "ada", "7 days"):
        assert shown in mail.text
    assert made["email"] == ADDRESS


def test_only_the_account_with_the_verified_address_accepts(family: Person, bob: Person, cat: Person) -> None:
    made = invite(family, email="Mina@Example.org")
    assert bob.patch("/v1/accounts/me", {"email": ADDRESS}).status_code == 200
    assert accept(bob, made["code"]).status_code == 404
    make_verified(bob, "bob@example.org")
    assert accept(bob, made["code"]).status_code == 404
    make_verified(cat, ADDRESS)
    assert accept(cat, made["code"]).status_code == 201


def test_a_mail_that_is_withheld_leaves_no_invitation(make_app: Callable[..., Flask], ada: Person) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_MAILS_ADDRESS="1 per hour")
    family = Person(app.test_client(), ada.headers)
    family.post("/v1/groups", {"id": "family", "name": "Family"})
    assert [family.post(PATH, {"email": ADDRESS}).status_code for _ in range(2)] == [201, 429]
    assert Invitation._get_collection().count_documents({}) == 1


def test_who_invites_does_not_learn_that_an_account_has_an_address_that_mails_come_back_from(
    family: Person, bob: Person, mails: Mailbox
) -> None:
    make_verified(bob, ADDRESS)
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"email_bounced": address_key(ADDRESS)}})
    known, unknown = invite(family, email=ADDRESS), invite(family, email="nobody@example.org")
    assert known.keys() == unknown.keys()
    assert [mail.to for mail in mails.collect()] == ["nobody@example.org"]
    assert accept(bob, known["code"]).status_code == 201


def test_who_invites_too_often_learns_as_little(make_app: Callable[..., Flask], ada: Person, bob: Person) -> None:
    app = make_app(RATELIMIT_ENABLED=True, RATELIMIT_MAILS_ADDRESS="1 per hour")
    family = Person(app.test_client(), ada.headers)
    family.post("/v1/groups", {"id": "family", "name": "Family"})
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"email_bounced": address_key(ADDRESS)}})
    make_verified(bob, ADDRESS)
    assert [family.post(PATH, {"email": ADDRESS}).status_code for _ in range(2)] == [201, 429]


def test_a_guest_invites_by_code_and_never_by_mail(phone: Phone, bob: Person, mails: Mailbox) -> None:
    guest = Person(phone.client, {"Authorization": f"Bearer {phone.post('/auth/guest', {}).json['access_token']}"})
    guest.patch("/v1/accounts/me", {"display_name": "Your bank"})
    guest.post("/v1/groups", {"id": "family", "name": "Family"})
    assert guest.post(PATH, {"email": ADDRESS}).status_code == 403
    assert mails.collect() == []
    assert accept(bob, invite(guest)["code"]).status_code == 201


# When it ends


def step_down(manager: Person, person: Person) -> Any:
    return manager.post(MEMBERS, {"account": person.id, "role": "member"})


def remove(manager: Person, person: Person) -> Any:
    return manager.delete(f"{MEMBERS}/{person.id}")


def leave(_manager: Person, person: Person) -> Any:
    return person.delete(f"{MEMBERS}/me")


def delete_account(_manager: Person, person: Person) -> Any:
    return person.delete("/v1/accounts/me")


@pytest.mark.parametrize("way", [step_down, remove, leave, delete_account])
def test_who_manages_no_more_loses_the_invitations_they_made(
    family: Person, bob: Person, cat: Person, way: Callable[[Person, Person], Any]
) -> None:
    family.post(MEMBERS, {"account": bob.id, "role": "manager"})
    theirs, others = invite(bob), invite(family)
    assert way(family, bob).status_code in (200, 204)
    assert [row["_id"] for row in Invitation._get_collection().find()] == [others["id"]]
    assert accept(cat, theirs["code"]).status_code == 404
    # Nor do they come back with the role.
    if way is step_down:
        family.post(MEMBERS, {"account": bob.id, "role": "manager"})
        assert accept(cat, theirs["code"]).status_code == 404


def test_who_is_locked_invites_nobody_as_long_as_they_are(family: Person, bob: Person, cat: Person) -> None:
    family.post(MEMBERS, {"account": bob.id, "role": "manager"})
    made = invite(bob)
    Account._get_collection().update_one({"_id": bob.id}, {"$set": {"locked_at": now()}})
    assert accept(cat, made["code"]).status_code == 404
    Account._get_collection().update_one({"_id": bob.id}, {"$unset": {"locked_at": ""}})
    assert accept(cat, made["code"]).status_code == 201


@pytest.mark.parametrize("way", ["delete", "leave", "delete the account"])
def test_the_invitations_of_a_group_that_ends_go(family: Person, bob: Person, way: str) -> None:
    made = invite(family)
    path = {"delete": "/v1/groups/family", "leave": f"{MEMBERS}/me", "delete the account": "/v1/accounts/me"}[way]
    assert family.delete(path).status_code == 204
    assert accept(bob, made["code"]).status_code == 404
    assert Invitation._get_collection().find_one() is None


def test_an_invitation_to_a_group_that_is_being_deleted_is_void(
    family: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its members and invitations are still there, for the process has died in between."""
    made = invite(family)
    monkeypatch.setattr("service.records.deletion.dissolve", lambda *_: None)
    family.delete("/v1/groups/family")
    Account._get_collection().update_one(
        {"_id": family.id}, {"$set": {"groups": [{"group": "family", "role": "manager", "since": now()}]}}
    )
    answer = accept(bob, made["code"])
    assert (answer.status_code, answer.json["detail"]) == (404, invitations.VOID)


def test_an_account_that_is_deleted_is_not_remembered_as_one_that_joined(family: Person, bob: Person) -> None:
    made = invite(family, uses=3)
    accept(bob, made["code"])
    bob.delete("/v1/accounts/me")
    sweep(REGISTRY, timedelta())
    stored = Invitation._get_collection().find_one({"_id": made["id"]})
    assert (stored["taken_by"], stored["left"]) == ([], 2)


def test_a_guest_brings_invitations_along_into_an_account(app: Flask, bob: Person, cat: Person) -> None:
    client = app.test_client()
    tokens = client.post("/auth/guest", json={}).json
    guest = Person(client, {"Authorization": f"Bearer {tokens['access_token']}"})
    guest.post("/v1/groups", {"id": "family", "name": "Family"})
    made = invite(guest)
    (account,) = Account._get_collection().find({"guest_seen_at": {"$exists": True}})
    memberships.hand_over_memberships(REGISTRY, account["_id"], bob.id)
    assert accept(cat, made["code"]).status_code == 201
    assert roles(bob) == {"bob": "manager", "cat": "member"}


def test_a_guest_that_has_joined_and_was_removed_does_not_come_back_as_an_account(
    app: Flask, family: Person, bob: Person
) -> None:
    client = app.test_client()
    guest = Person(client, {"Authorization": f"Bearer {client.post('/auth/guest', json={}).json['access_token']}"})
    made = invite(family, uses=3)
    accept(guest, made["code"])
    (account,) = Account._get_collection().find({"guest_seen_at": {"$exists": True}})
    memberships.hand_over_memberships(REGISTRY, account["_id"], bob.id)
    family.delete(f"{MEMBERS}/{bob.id}")
    assert accept(bob, made["code"]).status_code == 404
    assert left(made) == 2


# What one can read


def test_the_export_has_the_invitations_that_one_has_made_without_their_codes(family: Person, bob: Person) -> None:
    made = invite(family, email=ADDRESS)
    (exported,) = family.get("/v1/accounts/me/export").json["invitations"]
    assert exported == {name: value for name, value in made.items() if name not in ("code", "link")}
    assert "invitations" not in bob.get("/v1/accounts/me/export").json


# The page of the link


def followed(browser: FlaskClient, token: str) -> Any:
    answer = browser.get(f"/account/join?token={token}")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/account/join")
    assert token not in answer.text
    return browser.get("/account/join")


@pytest.mark.parametrize(
    ("app_link", "expected"),
    [
        ("myapp://home", "myapp://home?invitation={}"),
        ("myapp:///home", "myapp:///home?invitation={}"),
        ("https://app.example.com/?a=b%20c", "https://app.example.com/?a=b%20c&amp;invitation={}"),
        ("https://app.example.com/#/start", "https://app.example.com/?invitation={}#/start"),
    ],
)
def test_the_page_of_the_link_leads_into_the_app_with_the_token(
    make_app: Callable[..., Flask], ada: Person, app_link: str, expected: str
) -> None:
    browser = make_app(APP_LINK=app_link).test_client()
    ada.post("/v1/groups", {"id": "family", "name": "Family"})
    token = token_of(invite(ada))
    page = followed(browser, token)
    assert f'href="{expected.format(token)}"' in page.text
    assert page.headers["Referrer-Policy"] == "no-referrer"


def test_the_page_of_the_link_changes_nothing_and_tells_no_good_token_from_a_bad_one(
    app: Flask, family: Person
) -> None:
    made = invite(family)
    browser = app.test_client()
    good, bad = followed(browser, token_of(made)), followed(browser, "x")
    assert (good.status_code, good.text) == (200, bad.text)
    assert "Family" not in good.text
    assert left(made) == 1


def test_without_a_link_the_page_says_to_open_it_once_more(app: Flask) -> None:
    assert PAGE_TEXTS["en"]["join_again"] in app.test_client().get("/account/join").text


def test_what_stands_in_a_link_is_text_on_its_page(make_app: Callable[..., Flask]) -> None:
    page = followed(make_app(APP_LINK="myapp://home").test_client(), "%22%3E%3Cb%3E")
    assert "<b>" not in page.text
    assert "invitation=%22%3E%3Cb%3E" in page.text
