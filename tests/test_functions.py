"""Functions of a team: typed, checked, as the caller may, and answered as any route is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from service import app as application
from service import functions
from service.core.errors import BadQuery, Forbidden
from service.documents import Account, File, Group, KeptAnswer, Note
from service.http.functions import function, functions_by_name
from service.policy import Identity
from service.records.acting import MOST_NOTED, Acting, ReadOfOthers
from tests import team
from tests.client import Person, Phone, pointers
from tests.test_batch import part
from tests.types import SHIPPED

MakeService = Callable[..., Flask]
CALL = "/v1/functions"


@pytest.fixture
def make_service(test_settings: dict[str, Any], app: Flask) -> MakeService:
    """A function that makes an app with the functions of the tests, on an empty database, with other settings."""

    def make(**changed: Any) -> Flask:
        team.calls.clear()
        return application.create_app({**test_settings, **changed}, SHIPPED, [team])

    return make


@pytest.fixture
def service(make_service: MakeService) -> Flask:
    return make_service()


@pytest.fixture
def ada(service: Flask, ada: Person) -> Person:
    ada.client = service.test_client()
    return ada


@pytest.fixture
def bob(service: Flask, bob: Person) -> Person:
    bob.client = service.test_client()
    return bob


def give_role(person: Person, role: str) -> None:
    person.set_roles(role)
    person.log_in()


# What it is given, and what it returns


def test_a_function_gets_its_caller_and_a_typed_body_and_its_answer_is_told(ada: Person) -> None:
    answer = ada.post(f"{CALL}/make-notes", {"titles": ["Milk", "Tea"]})
    assert (answer.status_code, len(answer.json["ids"])) == (200, 2)
    assert team.calls == [(Identity, ada.id, team.Titles(titles=["Milk", "Tea"]))]
    assert [ada.get(f"/v1/notes/{id}").json["title"] for id in answer.json["ids"]] == ["Milk", "Tea"]


def test_a_body_may_be_an_embedded_document(ada: Person) -> None:
    answer = ada.post(f"{CALL}/order", {"lines": [{"item": "tea", "count": 2}, {"item": "milk"}]})
    assert (answer.status_code, answer.json) == (200, {"owner": "somebody else", "total": 3})


def test_without_an_answer_it_is_204(ada: Person) -> None:
    assert (ada.post(f"{CALL}/seldom").status_code, ada.post(f"{CALL}/seldom").data) == (204, b"")


REFUSED: dict[str, tuple[str, Any, dict[str, str]]] = {
    "a wrong type": ("make-notes", {"titles": "Milk"}, {"/titles": "wrong_type"}),
    "a number as text": ("make-notes", {"titles": [], "times": "2"}, {"/times": "wrong_type"}),
    "a missing member": ("make-notes", {}, {"/titles": "required"}),
    "too many": ("make-notes", {"titles": ["a"] * 4}, {"/titles": "too_long"}),
    "an unknown member": ("make-notes", {"titles": [], "owner": "bob"}, {"/owner": "unknown_field"}),
    "inside of a list": (
        "order",
        {"lines": [{"item": "x" * 11}, {}]},
        {"/lines/0/item": "too_long", "/lines/1/item": "required"},
    ),
    "too many lines": ("order", {"lines": [{"item": "a"}] * 3}, {"/lines": "too_long"}),
    "a rule of the whole": ("order", {"lines": [{"item": "a"}], "remark": "none"}, {"/remark": "not_valid"}),
    "what it says itself": ("refuse", None, {"/day": "not_today"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_body_is_told_place_by_place_and_nothing_is_called(ada: Person, case: str) -> None:
    name, body, told = REFUSED[case]
    answer = ada.post(f"{CALL}/{name}", body)
    assert (answer.status_code, pointers(answer)) == (422, told)
    assert team.calls == []


def test_a_body_that_is_no_json_object_too_large_or_unasked_is_refused(ada: Person, make_service: MakeService) -> None:
    ada.client = make_service(MAX_CONTENT_LENGTH=1000).test_client()
    assert ada.post(f"{CALL}/order", [1]).json["code"] == "malformed_json"
    assert ada.post(f"{CALL}/make-notes", {"titles": ["x" * 1000]}).json["code"] == "too_large"
    assert ada.post(f"{CALL}/seldom", {"a": 1}).json["code"] == "bad_request"
    assert ada.post(f"{CALL}/seldom?a=1").json["code"] == "bad_parameter"
    assert ada.get(f"{CALL}/seldom").status_code == 405
    assert ada.post(f"{CALL}/none").status_code == 404


@pytest.mark.parametrize("name", ["fail", "lie"])
def test_a_function_with_a_bug_shows_nothing(ada: Person, name: str) -> None:
    answer = ada.post(f"{CALL}/{name}")
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "secret" not in answer.text


def test_an_answer_that_is_too_large_is_refused(ada: Person) -> None:
    answer = ada.post(f"{CALL}/shout")
    assert (answer.status_code, answer.json["code"]) == (400, "too_expensive")


# Who may call it, and what it may do


def test_nobody_calls_a_function_without_a_token(ada: Person, service: Flask) -> None:
    phone = Phone(service.test_client())
    assert {phone.post(f"{CALL}/{name}").status_code for name in functions_by_name([team])} == {401}


def test_a_function_is_for_those_who_have_one_of_its_roles(ada: Person) -> None:
    assert ada.post(f"{CALL}/count-notes").json["code"] == "forbidden"
    give_role(ada, "manage")
    assert ada.post(f"{CALL}/count-notes").json["code"] == "forbidden"
    give_role(ada, "manager")
    note = ada.make_note()
    assert ada.post(f"{CALL}/count-notes").json == {"ids": [note["id"]]}


def test_a_function_reads_and_writes_as_its_caller_may(ada: Person, bob: Person) -> None:
    own = [ada.make_note(title=title)["id"] for title in "abc"]
    assert ada.post(f"{CALL}/touch", {"ids": own}).status_code == 204
    assert ada.get(f"/v1/notes/{own[0]}").json["priority"] == 1
    assert ada.get(f"/v1/notes/{own[1]}").json["title"] == "put"
    assert ada.get(f"/v1/notes/{own[2]}").status_code == 404
    assert ada.post(f"{CALL}/touch", {"ids": own}).json["code"] == "revision_mismatch"


def test_a_function_is_of_no_use_against_what_is_anothers(ada: Person, bob: Person) -> None:
    note = ada.make_note()
    assert bob.post(f"{CALL}/touch", {"ids": [note["id"]] * 3}).json["code"] == "not_found"
    assert ada.get(f"/v1/notes/{note['id']}").json == note


def test_a_function_makes_no_file_without_its_bytes(ada: Person, service: Flask) -> None:
    identity = Identity(ada.id, "", 0)
    acting = Acting(service.extensions["madang.registry"], identity, timedelta(days=1), "test")
    for make in (acting.records(File).create, lambda values: acting.records(File).put("x", values)):
        with pytest.raises(Forbidden):
            make({"name": "a.txt"})
    assert File._get_collection().find_one({}) is None


def test_all_pages_of_a_list_are_read(ada: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.records.acting.LIMIT", 2)
    give_role(ada, "clerk")
    ids = [ada.make_note(title=title)["id"] for title in "abcde"]
    ada.make_note(title="f", pinned=True)
    assert ada.post(f"{CALL}/count-notes").json == {"ids": ids}


def test_a_function_acts_for_another_by_an_explicit_call_which_is_logged(
    ada: Person, bob: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    note = bob.make_note()
    assert ada.post(f"{CALL}/take-from", {"ids": [bob.id]}).json == {"ids": [note["id"]]}
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "acting_for" in line]
    assert all(word in line for word in ("take-from", ada.id, bob.id))
    assert ada.post(f"{CALL}/take-from", {"ids": ["nobody"]}).json["code"] == "not_found"


def test_a_limit_holds_for_each_account(ada: Person, bob: Person, make_service: MakeService) -> None:
    ada.client = bob.client = make_service(RATELIMIT_ENABLED=True).test_client()
    assert [ada.post(f"{CALL}/seldom").status_code for _ in range(3)] == [204, 204, 429]
    assert bob.post(f"{CALL}/seldom").status_code == 204


@pytest.mark.real
def test_a_function_that_takes_too_long_gets_nothing_more_of_mongodb(ada: Person, service: Flask) -> None:
    service.config["MONGODB_TIMEOUT"] = 0.4
    assert ada.post(f"{CALL}/sleep").json["code"] == "database_unavailable"
    assert [note["_id"] for note in Note._get_collection().find({})] == ["early"]


# Sent again, and in a batch


@pytest.mark.real
def test_with_a_key_a_function_is_done_once_and_as_a_whole(ada: Person) -> None:
    key, body = {"Idempotency-Key": "one"}, {"titles": ["Milk", "Tea"]}
    first = ada.post(f"{CALL}/make-notes", body, headers=key)
    again = ada.post(f"{CALL}/make-notes", body, headers=key)
    assert (again.json, again.headers["Idempotent-Replayed"]) == (first.json, "true")
    assert (len(team.calls), Note._get_collection().count_documents({})) == (1, 2)
    answer = ada.post(f"{CALL}/make-notes", {**body, "stop": True}, headers={"Idempotency-Key": "two"})
    assert (answer.json["code"], Note._get_collection().count_documents({})) == ("limit_reached", 2)


ODD: list[Any] = [
    {"owner": {"id": 1}, "username": None, "responses": None},
    {"owner": "somebody else", "username": None, "responses": None},
    {"owner": None, "username": "ada", "responses": None},
    {"owner": None, "username": None, "responses": [{"body": 5}, 7]},
]


@pytest.mark.parametrize("said", ODD)
def test_an_answer_of_a_function_is_kept_whatever_it_says(ada: Person, said: Any) -> None:
    key = {"Idempotency-Key": "odd"}
    assert [ada.post(f"{CALL}/say", said, headers=key).json for _ in range(2)] == [said, said]
    sent = {"requests": [part("POST", f"{CALL}/say", said)]}
    told = [ada.post("/v1/batch", sent, headers={"Idempotency-Key": "batch"}).json["responses"] for _ in range(2)]
    assert [(one["status"], one["body"]) for (one,) in told] == [(200, said)] * 2
    assert len(team.calls) == 2


SECRET = "a secret of hers"
ATOMIC = pytest.param("in an atomic batch", marks=pytest.mark.real)


def call_read(person: Person, how: str, wanted: dict[str, Any]) -> TestResponse:
    """Call the function that reads, always with the same key."""
    key, path = {"Idempotency-Key": "one"}, f"{CALL}/read-notes"
    if how == "alone":
        return person.post(path, wanted, headers=key)
    sent = {"atomic": how == "in an atomic batch", "requests": [part("POST", path, wanted)]}
    return person.post("/v1/batch", sent, headers=key)


def status_in(answer: TestResponse) -> int:
    """The status of a call, alone or in a batch."""
    return answer.json["responses"][0]["status"] if "responses" in answer.json else answer.status_code


@pytest.mark.parametrize("how", ["alone", "in a batch", ATOMIC])
def test_a_retry_is_told_what_a_function_read_as_long_as_that_may_be_read(ada: Person, bob: Person, how: str) -> None:
    path = f"/v1/notes/{ada.make_note(title=SECRET, readers=[bob.id])['id']}"
    first = call_read(bob, how, {"asked": {"scope": "shared"}})
    assert SECRET in first.text
    if how != "in an atomic batch":  # there it is told once
        assert SECRET in call_read(bob, how, {"asked": {"scope": "shared"}}).text
    ada.patch(path, {"readers": []})
    again = call_read(bob, how, {"asked": {"scope": "shared"}})
    assert (status_in(again), SECRET in again.text, len(team.calls)) == (404, False, 1)


def test_a_retry_is_told_of_a_group_as_long_as_one_is_in_it(ada: Person, bob: Person) -> None:
    group = ada.post("/v1/groups", {"name": SECRET}).json["id"]
    assert ada.post(f"/v1/groups/{group}/members", {"account": bob.id, "role": "member"}).status_code == 201
    assert SECRET in call_read(bob, "alone", {"groups": True}).text
    assert SECRET in call_read(bob, "alone", {"groups": True}).text
    assert ada.delete(f"/v1/groups/{group}/members/{bob.id}").status_code == 204
    again = call_read(bob, "alone", {"groups": True})
    assert (status_in(again), len(team.calls)) == (404, 1)


WANTED: dict[str, Callable[[Person, Person], dict[str, Any]]] = {
    "as the caller": lambda ada, bob: {"asked": {"scope": "shared"}},
    "some fields": lambda ada, bob: {"asked": {"scope": "shared", "fields": "title"}},
    "what a record refers to": lambda ada, bob: {"asked": {"scope": "mine", "expand": "notebook"}},
    "as another": lambda ada, bob: {"account": ada.id, "asked": {"scope": "mine"}},
}


@pytest.mark.parametrize("how", ["alone", "in a batch", ATOMIC])
@pytest.mark.parametrize("case", WANTED)
def test_what_a_function_read_of_an_account_goes_with_it(ada: Person, bob: Person, case: str, how: str) -> None:
    ada.make_note(title=SECRET, readers=[bob.id])
    notebook = ada.post("/v1/notebooks", {"title": SECRET, "readers": [bob.id]}).json["id"]
    bob.make_note(title="his own", notebook=notebook)
    wanted = WANTED[case](ada, bob)
    assert SECRET in call_read(bob, how, wanted).text
    assert ada.delete("/v1/accounts/me").status_code == 204
    kept = str(list(KeptAnswer._get_collection().find()))
    assert (SECRET in kept, ada.id in kept) == (False, False)
    assert (status_in(call_read(bob, how, wanted)), len(team.calls)) == (404, 1)


def test_of_what_read_more_of_others_than_is_noted_nothing_is_kept(
    ada: Person, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.records.acting.MOST_NOTED", 1)
    for _ in range(2):
        ada.make_note(title=SECRET, readers=[bob.id])
    wanted = {"asked": {"scope": "shared"}}
    assert SECRET in call_read(bob, "alone", wanted).text
    assert SECRET not in str(list(KeptAnswer._get_collection().find()))
    assert (status_in(call_read(bob, "alone", wanted)), len(team.calls)) == (404, 1)


def test_of_accounts_of_others_no_more_are_noted_than_a_kept_answer_may_name() -> None:
    noted = ReadOfOthers("ada")
    for number in range(MOST_NOTED + 100):
        assert not noted.is_too_much or number > MOST_NOTED
        noted.note_one("accounts", "ada", {"id": f"account{number}"})
    assert noted.is_any
    assert noted.is_too_much
    assert len(noted.accounts) <= MOST_NOTED + 1


@pytest.mark.parametrize("how", ["alone", "in a batch", ATOMIC])
def test_who_has_lost_the_role_is_not_told_again(ada: Person, how: str) -> None:
    give_role(ada, "manager")
    key, call = {"Idempotency-Key": "one"}, part("POST", f"{CALL}/report")

    def told() -> str:
        if how == "alone":
            return ada.post(f"{CALL}/report", headers=key).text
        sent = {"atomic": how == "in an atomic batch", "requests": [call]}
        return ada.post("/v1/batch", sent, headers=key).text

    assert "a secret of managers" in told()
    give_role(ada, "clerk")
    assert "a secret of managers" not in told()
    assert len(team.calls) == 1


# What it is declared as


def test_the_api_document_has_functions(service: Flask) -> None:
    document = service.test_client().get("/openapi.json").json
    about = document["paths"][f"{CALL}/make-notes"]["post"]
    assert (about["operationId"], about["tags"]) == ("makeNotes", ["functions"])
    assert about["summary"] == "Make a note of each title"
    (content,) = about["requestBody"]["content"].values()
    assert content == {"schema": {"$ref": "#/components/schemas/Titles"}, "example": {"titles": ["Milk"]}}
    assert {"403", "429", "422", "404"} <= set(about["responses"])
    schemas = document["components"]["schemas"]
    assert schemas["Titles"]["additionalProperties"] is False
    assert schemas["OrderCreate"]["required"] == ["lines"]
    assert schemas["Bill"]["required"] == ["owner", "total"]
    assert "requestBody" not in document["paths"][f"{CALL}/seldom"]["post"]
    assert "204" in document["paths"][f"{CALL}/seldom"]["post"]["responses"]


def test_no_function_ships() -> None:
    assert functions_by_name(functions.modules()) == {}


def test_a_function_is_called_as_plain_python_by_a_test() -> None:
    bill = team.order(None, team.Order(lines=[team.Line(item="tea", count=4)]))
    assert bill.total == 4


def test_two_functions_of_one_name_stop_the_start() -> None:
    other = ModuleType("other")
    vars(other)["more"] = function("order")(described)
    with pytest.raises(TypeError, match="two functions called 'order'"):
        functions_by_name([team, other])


def undescribed(acting: Any) -> None: ...


def described(acting: Any) -> None:
    """Do something."""


def with_body(acting: Any, body: Any) -> None:
    """Do something."""


async def waiting(acting: Any) -> None:
    """Wait."""


WRONG: dict[str, tuple[Any, Any, str]] = {
    "a name in capitals": ({"name": "Close"}, described, "small letters"),
    "a name with a slash": ({"name": "a/b"}, described, "small letters"),
    "no docstring": ({"name": "a"}, undescribed, "docstring"),
    "a body that it does not take": ({"name": "a", "body": team.Ids}, described, "takes acting, body"),
    "a body that it is not given": ({"name": "a"}, with_body, "takes acting"),
    "a coroutine": ({"name": "a"}, waiting, "plain function"),
    "a body of no class": ({"name": "a", "body": dict}, with_body, "class of pydantic"),
    "a body that takes anything": ({"name": "a", "body": team.Loose}, with_body, "inherit Payload"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_function_that_could_not_be_called_stops_the_start(case: str) -> None:
    about, work, told = WRONG[case]
    with pytest.raises(TypeError, match=told):
        function(**about)(work)


def test_a_limit_that_is_none_stops_the_start() -> None:
    with pytest.raises(ValueError, match="couldn't parse"):
        function("a", limit="often")(described)


def test_a_function_goes_on_with_the_group_that_it_has_founded(ada: Person, service: Flask) -> None:
    stored = Account._get_collection().find_one({"_id": ada.id})
    assert stored is not None
    acting = Acting(service.extensions["madang.registry"], Identity.of(stored), timedelta(days=1), "test")
    groups = acting.records(Group)
    made = groups.create({"name": "climbers"})
    assert groups.find(made["id"]) == made
    assert groups.change(made["id"], {"name": "runners"})["name"] == "runners"
    groups.delete(made["id"])
    assert groups.find(made["id"]) is None


def test_a_list_is_asked_with_a_number_of_any_size(ada: Person, service: Flask) -> None:
    acting = Acting(service.extensions["madang.registry"], Identity(ada.id, "", 0), timedelta(days=1), "test")
    with pytest.raises(BadQuery, match="at most 9223372036854775807"):
        list(acting.records(Note).each({"priority": 2**65}))
