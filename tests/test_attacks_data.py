"""Attacks on data: what is another's or hidden, asked for in every position (OWASP API1:2023, API3:2023)."""

from collections.abc import Callable
from typing import Any

import pytest

from service.core.ids import new_id
from service.documents import Account, Note, Notebook, Session
from tests.client import Person, pointers

GUESSES = ["$", ".*", "(a+)+$", "[", "\\", "\\Qa", "#", " ", "\n", "(?i)SECRET", "\u200b", "\U0010ffff", "é" * 200]


# Queries


@pytest.mark.parametrize("text", GUESSES, ids=ascii)
def test_a_prefix_is_text_and_no_pattern(ada: Person, text: str) -> None:
    ada.make_note(title="secret")
    mine = ada.make_note(title=text)
    found = ada.find(where={"title": {"$prefix": text}}).json["items"]
    assert [note["id"] for note in found] == [mine["id"]]


@pytest.mark.parametrize("length", [1001, 33_000, 60_000])
def test_a_prefix_that_mongodb_cannot_take_is_refused(ada: Person, length: int) -> None:
    assert ada.find(where={"title": {"$prefix": "a" * length}}).json["code"] == "bad_query"
    assert ada.find(where={"title": {"$prefix": "\U0010ffff" * 1000}}).status_code == 200


# Another's id, in every position in which a request can hold one

SECRET = "what ada alone knows"


@pytest.fixture
def hers(ada: Person) -> dict[str, str]:
    """What Ada owns and nobody else may see."""
    ada.make_notebook(id="her-book", title=SECRET)
    ada.make_note(id="hers", title=SECRET, body=SECRET, notebook="her-book")
    ada.make_note(id="hers-too", title=SECRET)
    return {
        "account": ada.id,
        "session": ada.tokens["session_id"],
        "cursor": ada.find(limit=1).json["next"],
    }


Attempt = tuple[str, str, Any]


def on_one_record(bob: str) -> list[Attempt]:
    return [
        ("GET", "/v1/notes/hers", None),
        ("GET", "/v1/notes/hers?fields=title,body", None),
        ("GET", "/v1/notes/hers?expand=notebook", None),
        ("PATCH", "/v1/notes/hers", {"title": "mine"}),
        ("PATCH", "/v1/notes/hers", {"readers": [bob]}),
        ("PATCH", "/v1/notes/hers", {"$push": {"readers": bob}}),
        ("PATCH", "/v1/notes/hers", {"$add_to_set": {"writers": {"each": [bob, "*"]}}}),
        ("PATCH", "/v1/notes/hers", {"$inc": {"priority": 1}}),
        ("PUT", "/v1/notes/hers", {"title": "mine"}),
        ("PUT", "/v1/notes/hers", {"title": "mine", "readers": [bob]}),
        ("POST", "/v1/notes", {"id": "hers", "title": "mine"}),
        ("DELETE", "/v1/notes/hers", None),
        ("DELETE", "/v1/notebooks/her-book", None),
    ]


def as_a_reference() -> list[Attempt]:
    return [
        ("POST", "/v1/notes?expand=notebook", {"title": "x", "notebook": "her-book"}),
        ("POST", "/v1/notes", {"title": "x", "notebook": "her-book"}),
        ("PATCH", "/v1/notes/mine", {"notebook": "her-book"}),
        ("PUT", "/v1/notes/mine", {"title": "x", "notebook": "her-book"}),
        ("PUT", "/v1/notes/new", {"title": "x", "notebook": "her-book"}),
    ]


def as_an_owner(ada: str) -> list[Attempt]:
    owned = {"title": "x", "owner": ada}
    return [
        *(("POST", "/v1/notes", owned), ("PUT", "/v1/notes/mine", owned), ("PATCH", "/v1/notes/mine", {"owner": ada})),
        ("PATCH", "/v1/notes/mine", {"access": [f"o:{ada}"]}),
        ("PATCH", "/v1/notes/mine", {"$push": {"access": f"o:{ada}"}}),
        ("PATCH", "/v1/notes/mine", {"revision": 9, "created_at": None, "purge_at": None}),
    ]


def on_the_account(hers: dict[str, str]) -> list[Attempt]:
    account, session = hers["account"], hers["session"]
    return [
        *((method, f"/v1/accounts/{account}", {"display_name": "x"}) for method in ("PATCH", "PUT", "DELETE")),
        *(("GET", f"/v1/accounts/{account}/{part}", None) for part in ("export", "sessions", "events", "password")),
        ("PUT", f"/v1/accounts/{account}/password", {"current_password": "x", "new_password": "seven paper lamps"}),
        ("DELETE", f"/v1/accounts/me/sessions/{session}", None),
        ("DELETE", f"/v1/accounts/{account}/sessions/{session}", None),
    ]


def everything() -> list[Any]:
    """All that is stored but what happened to an account and who was seen when."""
    collections = [Note, Notebook, Account, Session]
    return [list(document._get_collection().find(sort=[("_id", 1)])) for document in collections]


def test_anothers_id_is_no_use_wherever_a_request_can_hold_it(ada: Person, bob: Person, hers: dict[str, str]) -> None:
    bob.make_note(id="mine")
    attempts = on_one_record(bob.id) + as_a_reference() + as_an_owner(ada.id) + on_the_account(hers)
    before = everything()
    for number, (method, path, body) in enumerate(attempts):
        keyed = {"Idempotency-Key": f"key {number}"}
        answers = [bob.send(method, path, body), bob.send(method, path, body, headers=keyed)]
        part = {"method": method, "path": path, "body": body}
        answers.append(bob.post("/v1/batch", {"requests": [part]}))
        for answer in answers:
            statuses = [part["status"] for part in (answer.json or {}).get("responses", ())] or [answer.status_code]
            assert statuses[0] in (400, 403, 404, 405, 409, 422), (method, path, body)
            assert SECRET.encode() not in answer.data, (method, path, body)
        assert everything() == before, (method, path, body)


QUERIES: list[Callable[[str, str], Any]] = [
    lambda ada, bob: {"id": "hers"},
    lambda ada, bob: {"id": {"$in": ["hers", "hers-too"]}},
    lambda ada, bob: {"id": {"$prefix": "hers"}},
    lambda ada, bob: {"owner": ada},
    lambda ada, bob: {"owner": {"$ne": bob}},
    lambda ada, bob: {"$or": [{"owner": ada}, {"id": "hers"}]},
    lambda ada, bob: {"$nor": [{"owner": bob}]},
    lambda ada, bob: {"$not": {"owner": bob}},
    lambda ada, bob: {"$and": [{"$or": [{"owner": ada}, {"owner": {"$not": {"$eq": bob}}}]}]},
    lambda ada, bob: {"notebook": "her-book"},
    lambda ada, bob: {"title": {"$prefix": "what"}},
]


@pytest.mark.parametrize("scope", ["mine,shared", "mine,shared,public"])
def test_no_query_finds_or_counts_what_is_anothers(ada: Person, bob: Person, hers: dict[str, str], scope: str) -> None:
    for number, query in enumerate(QUERIES):
        for more in ({}, {"expand": "notebook"}, {"sort": "title"}, {"fields": "title"}):
            asked = {"scope": scope, "count": "true", **more}
            answer = bob.find(where=query(ada.id, bob.id), **asked).json
            assert (answer["items"], answer["total"], answer["next"]) == ([], 0, None), number


def test_the_cursor_of_another_leads_nowhere(bob: Person, hers: dict[str, str]) -> None:
    assert bob.find(cursor=hers["cursor"]).json["code"] == "bad_parameter"


def test_a_reference_does_not_tell_what_is_there(ada: Person, bob: Person, hers: dict[str, str]) -> None:
    bob.make_note(id="mine")
    same = {"X-Request-ID": "one"}
    for method, path in (("POST", "/v1/notes"), ("PATCH", "/v1/notes/mine"), ("PUT", "/v1/notes/mine")):
        there, nowhere = (
            bob.send(method, path, {"title": "x", "notebook": book}, headers=same) for book in ("her-book", "none")
        )
        assert (there.status_code, there.data) == (422, nowhere.data)


def test_what_is_shared_shows_nothing_that_it_refers_to(ada: Person, bob: Person, hers: dict[str, str]) -> None:
    ada.patch("/v1/notes/hers", {"title": "for bob", "body": "", "readers": [bob.id]})
    for answer in (bob.get("/v1/notes/hers?expand=notebook"), bob.find(expand="notebook")):
        assert answer.status_code == 200
        assert SECRET.encode() not in answer.data
    for where in ({"notebook.title": SECRET}, {"notebook": {"title": SECRET}}, {"notebook": {"$prefix": "her"}}):
        assert bob.find(where=where).status_code == 400


# What is hidden, reached through operators, sorts and views

HIDDEN = [
    *("access", "purge_at", "schema_version", "oldest_writer", "_id", "_cls", "password_hash", "readers", "writers"),
    *("access.0", "owner.x", "notebook.owner", "notebook.title", "checklist", "checklist.0.text", "title.length"),
    *("$where", "$expr", "$text", "__proto__", "__class__", "constructor", "id\u200b", "ID", ""),
]
SENT = {"readers", "writers", "checklist"}
"""What an answer holds, but no query asks for."""


def wheres(name: str, guess: Any) -> list[Any]:
    """A guess at a hidden value, behind every operator that could let it pass."""
    plain = {name: guess}
    return [
        *(plain, {"$and": [plain]}, {"$or": [plain, {"title": "x"}]}, {"$nor": [plain]}, {"$not": plain}),
        *({"$or": [{"$and": [{"$nor": [plain]}]}]}, {"title": "x", **plain}, {"title": {"$not": plain}}),
        *({name: {operator: guess}} for operator in ("$eq", "$ne", "$gt", "$prefix", "$regex", "$exists")),
        *({name: {"$in": [guess]}}, {name: {"$not": {"$eq": guess}}}, {"$or": {"0": plain, "length": 1}}),
    ]


def test_what_is_hidden_cannot_be_asked_for_in_any_way(ada: Person) -> None:
    ada.make_note()
    for name in HIDDEN:
        for guess in (f"o:{ada.id}", "wrong", None):
            for where in wheres(name, guess):
                assert ada.find(where=where).status_code == 400, where
        for sort in (name, f"-{name}", f"-priority,{name}"):
            assert ada.find(sort=sort).status_code == 400, sort
        for parameter in ("fields", "expand"):
            for value in (name, f"title,{name}", f"notebook.{name}"):
                answer = ada.find(**{parameter: value})
                assert answer.status_code == 400 or (parameter == "fields" and name in SENT), value


# Ids


def test_nobody_takes_the_next_id_of_another(ada: Person, bob: Person) -> None:
    """Ids that count upwards could be foreseen and taken, for a client may choose one: the next owner would get 409."""
    seen = ada.make_note()["id"]
    second, machine, count = int(seen[:8], 16), seen[8:18], int(seen[18:], 16)
    for later in range(3):
        for step in range(1, 9):
            guess = f"{second + later:08x}{machine}{(count + step) % 2**24:06x}"
            assert bob.post("/v1/notes", {"id": guess, "title": "taken"}).status_code == 201
    assert all(ada.post("/v1/notes", {"title": "x"}).status_code == 201 for _ in range(3))


def test_ids_are_in_the_order_of_their_making() -> None:
    made = [new_id() for _ in range(5000)]
    assert made == sorted(set(made))
    assert {len(name) for name in made} == {24}


@pytest.mark.parametrize("name", [".", "..", "..."])
def test_an_id_of_dots_leads_nowhere_else(ada: Person, name: str) -> None:
    """`/v1/notes/..` is `/v1/` to most clients (RFC 3986, section 5.2.4)."""
    assert pointers(ada.post("/v1/notes", {"id": name, "title": "x"})) == {"/id": "pattern"}
    assert ada.put(f"/v1/notes/{name.replace('.', '%2e')}", {"title": "x"}).status_code in (404, 405, 422)
    assert ada.post("/v1/notes", {"id": f"{name}a", "title": "x"}).status_code == 201
