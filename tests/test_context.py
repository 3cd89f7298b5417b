"""`g`: typed, filled for each request, and gone with it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from typing import Any

import flask
import flask_restful
import pytest
from flask import Flask

from service.context import Globals, Identity, current_globals, current_service, g
from service.http.openapi import operation
from service.http.web import current_request
from service.resources import Api
from service.security import current_identity
from tests.client import Person, Phone

Look = Callable[[], Any]
MISSING = r"g\.identity is read where it is not set: outside a request, or before authentication"


@pytest.fixture
def looking(make_app: Any) -> Callable[[Look], Flask]:
    """A function that makes an app on which `/v1/look`, for those signed in, and `/look`, for all, answer a look."""

    def make(look: Look) -> Flask:
        app: Flask = make_app()

        class Looking(flask_restful.Resource):
            @operation("Look")
            def get(self) -> Any:
                return look()

        Api(app).add_resource(Looking, "/v1/look")
        app.add_url_rule("/look", "look-view", operation("Look", public=True)(look))
        return app

    return make


def here() -> dict[str, Any]:
    return {"request_id": g.request_id, "account": str(g.identity), "proxy": str(current_identity)}


# What is in it


def test_g_is_the_declared_class(app: Flask) -> None:
    with app.app_context():
        assert type(flask.g._get_current_object()) is Globals


def test_each_field_of_g_is_declared_with_its_type() -> None:
    assert Globals.__annotations__.keys() >= {"request_id", "started", "identity"}
    assert Globals.__annotations__["identity"] in (Identity, "Identity")


def test_a_request_is_filled_before_its_resource_runs(looking: Any, ada: Person) -> None:
    answer = Phone(looking(here).test_client(), ada.headers).get("/v1/look", headers={"X-Request-ID": "mine"})
    assert answer.json == {"request_id": "mine", "account": ada.id, "proxy": ada.id}


def test_an_identity_cannot_be_changed(ada: Person) -> None:
    identity = Identity(ada.id, "session", 0, ("team",))
    with pytest.raises(FrozenInstanceError):
        identity.account = "eve"  # type: ignore[misc]


def test_the_principals_of_an_identity_are_its_id_and_its_roles() -> None:
    assert Identity("ada", "session", 0, ("team", "staff")).principals == ["ada", "role:team", "role:staff"]


def test_the_text_of_an_identity_is_its_account_id_and_a_plain_string() -> None:
    assert type(str(Identity("ada", "session", 0))) is str
    assert str(Identity("ada", "session", 0)) == "ada"


# What is not


def test_the_identity_outside_a_request_is_a_clear_error(app: Flask) -> None:
    for read in (lambda: g.identity, lambda: current_identity.account, lambda: str(current_identity)):
        with app.app_context(), pytest.raises(RuntimeError, match=MISSING):
            read()


def test_the_identity_before_authentication_is_a_clear_error(looking: Any, capsys: pytest.CaptureFixture[str]) -> None:
    app = looking(lambda: str(current_identity))
    app.config["PROPAGATE_EXCEPTIONS"] = False
    assert app.test_client().get("/look").status_code == 500
    assert "g.identity is read where it is not set" in capsys.readouterr().out


def test_without_an_app_it_is_flasks_own_error() -> None:
    with pytest.raises(RuntimeError, match="outside of application context"):
        _ = g.request_id


@pytest.mark.parametrize("look", [current_globals, current_request, current_service, lambda: current_identity.account])
def test_what_belongs_to_a_request_says_so_outside_of_one(look: Look) -> None:
    with pytest.raises(RuntimeError, match="there is none"):
        look()


def test_a_name_that_is_not_declared_is_an_attribute_error(app: Flask) -> None:
    with app.app_context(), pytest.raises(AttributeError, match="identitty"):
        _ = flask.g.identitty


def test_what_is_not_set_can_be_asked_for(app: Flask) -> None:
    with app.app_context():
        assert "identity" not in g
        assert flask.g.get("identity") is None


# One request and the next


def fields_left() -> list[str]:
    """What an earlier request left in `g`; leaves the same for the next."""
    left = [name for name in ("identity", "left_behind") if name in flask.g]
    g.identity = Identity("somebody", "else", 0)
    flask.g.left_behind = True
    return left


def test_nothing_of_a_request_is_there_in_the_next(looking: Any) -> None:
    phone = Phone(looking(lambda: {"left": fields_left(), "id": g.request_id}).test_client())
    first, second = phone.get("/look").json, phone.get("/look").json
    assert (first["left"], second["left"]) == ([], [])
    assert first["id"] != second["id"]


def test_nothing_is_there_after_an_exception(looking: Any, ada: Person) -> None:
    seen = []

    def fail() -> None:
        seen.append(fields_left())
        raise ValueError

    app = looking(fail)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    phone = Phone(app.test_client())
    for _ in range(2):
        assert phone.get("/look").status_code == 500
    assert seen == [[], []]
    assert phone.get("/v1/look").status_code == 401


def test_after_the_request_it_is_gone(app: Flask, ada: Person) -> None:
    ada.get("/v1/notes")
    assert not flask.has_app_context()
    with app.app_context():
        assert list(flask.g) == []


def test_a_request_without_a_token_after_one_with_is_nobody(app: Flask, ada: Person) -> None:
    client = app.test_client()
    assert Phone(client, ada.headers).get("/v1/notes").status_code == 200
    assert Phone(client).get("/v1/notes").status_code == 401


def test_many_threads_on_one_app_each_see_their_own(looking: Any, ada: Person, bob: Person) -> None:
    together = threading.Barrier(16)

    def look() -> dict[str, Any]:
        before = here()
        together.wait(10)
        return {"before": before, "after": here()}

    app = looking(look)

    def ask(number: int) -> bool:
        person = (ada, bob)[number % 2]
        sent = {"X-Request-ID": f"thread-{number}"}
        found = Phone(app.test_client(), person.headers).get("/v1/look", headers=sent).json
        own = {"request_id": f"thread-{number}", "account": person.id, "proxy": person.id}
        return bool(found == {"before": own, "after": own})

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(64)))


def test_what_a_failed_request_of_another_thread_left_is_not_seen(app: Flask, ada: Person, bob: Person) -> None:
    def ask(number: int) -> tuple[int, str]:
        person = (ada, bob)[number % 2]
        phone = Phone(app.test_client(), person.headers)
        phone.get("/v1/notes/none")
        Phone(app.test_client()).get("/v1/notes")
        return number % 2, phone.get("/v1/accounts/me").json["id"]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(40))) == {(0, ada.id), (1, bob.id)}
