"""The application: several in one process, proxies in front, other origins, and the form of its JSON."""

import gc
import json
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask
from flask.signals import request_finished, request_started
from mongoengine import ListField, StringField

from service.documents import Record, Session
from service.http.openapi import operation
from service.http.web import Answer, json_answer
from service.model.record_type import InvalidDocument
from tests.client import PASSWORD, Person, Phone

ORIGIN = "https://app.example.com"
FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}


# JSON


@pytest.mark.parametrize("pretty", [False, True])
def test_answers_are_written_for_people_where_the_settings_say_so(make_app: Any, ada: Person, pretty: bool) -> None:
    person = Person(make_app(JSON_PRETTY=pretty).test_client(), ada.headers)
    note = person.make_note(title="x")
    for path in (f"/v1/notes/{note['id']}", "/v1/notes", "/v1/notes/nowhere", "/health/live"):
        text = person.get(path).text
        assert (text.startswith("{\n  "), text.endswith("}\n")) == (pretty, pretty)


# Several apps


@pytest.mark.real
def test_several_apps_of_a_process_share_the_connection(make_app: Any, ada: Person) -> None:
    app = make_app()
    assert Phone(app.test_client(), ada.headers).get("/v1/accounts/me").json["id"] == ada.id


@pytest.mark.real
def test_an_app_that_is_gone_leaves_the_connection_to_the_others(make_app: Any, ada: Person) -> None:
    make_app()
    gc.collect()
    assert ada.make_note()


def test_a_record_type_that_cannot_be_served_refuses_to_start(make_app: Any) -> None:
    class Labelled(Record):
        labels = ListField(StringField())
        meta = {"collection": "labelled", "sorts": ["-updated_at", "labels"]}

    with pytest.raises(InvalidDocument, match=r"Labelled sorts by labels, a list"):
        make_app(documents=[Labelled])


# Proxies in front


def address_of_login(app: Flask, headers: dict[str, str]) -> str | None:
    """The address that is stored of a login."""
    Session._get_collection().delete_many({})
    answer = Phone(app.test_client()).post("/auth", {"username": "ada", "password": PASSWORD}, headers=headers)
    assert answer.status_code == 200
    return Session.objects.get().address


def test_a_forged_forwarded_for_changes_nothing(app: Flask, ada: Person) -> None:
    for headers in (
        FORGED,
        {"Forwarded": "for=203.0.113.9"},
        {"X-Real-IP": "203.0.113.9"},
        {"Client-IP": "203.0.113.9"},
    ):
        assert address_of_login(app, headers) == "127.0.0.1"


def test_of_a_trusted_proxy_the_address_is_believed(make_app: Any, ada: Person) -> None:
    assert address_of_login(make_app(TRUSTED_PROXIES=1), FORGED) == "203.0.113.9"


@pytest.mark.parametrize(("count", "address"), [(1, "10.0.0.2"), (2, "10.0.0.1"), (3, "203.0.113.9")])
def test_of_several_addresses_the_one_counts_that_our_proxies_saw(
    make_app: Any, ada: Person, count: int, address: str
) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 10.0.0.1, 10.0.0.2"}
    assert address_of_login(make_app(TRUSTED_PROXIES=count), headers) == address


def test_what_fewer_proxies_wrote_than_are_trusted_is_not_believed(make_app: Any, ada: Person) -> None:
    assert address_of_login(make_app(TRUSTED_PROXIES=2), FORGED) == "127.0.0.1"


# Pages of other origins


def crossed(app: Flask, path: str, origin: str = ORIGIN) -> dict[str, str]:
    """The CORS headers of an answer to a page of an origin."""
    answer = Phone(app.test_client()).get(path, headers={"Origin": origin})
    return {name: value for name, value in answer.headers if name.startswith("Access-Control")}


@pytest.mark.parametrize(
    "path", ["/v1/notes", "/v1/nope", "/v1/accounts/me", "/auth", "/auth/refresh", "/openapi.json"]
)
def test_a_page_of_the_configured_origin_may_call_the_api(app: Flask, path: str) -> None:
    headers = crossed(app, path)
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert set(headers["Access-Control-Expose-Headers"].split(", ")) == {
        *("ETag", "Link", "Location", "Retry-After", "X-Request-ID", "Idempotent-Replayed", "Sync-Problems"),
        *("Accept-Ranges", "Content-Disposition", "Content-Range", "X-File-Id"),
        *("Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset"),
        *("Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version"),
    }


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.com.evil.example", "null", "http://app.example.com"]
)
def test_a_page_of_another_origin_may_not(app: Flask, origin: str) -> None:
    assert crossed(app, "/v1/notes", origin).get("Access-Control-Allow-Origin") in (None, ORIGIN)


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/docs/problems", "/nope"])
def test_what_is_no_part_of_the_api_is_for_no_other_origin(app: Flask, path: str) -> None:
    assert crossed(app, path) == {}


def test_the_login_may_be_called_where_it_was_moved_to(make_app: Any) -> None:
    app = make_app(JWT_AUTH_URL_RULE="/sign-in")
    assert crossed(app, "/sign-in")["Access-Control-Allow-Origin"] == ORIGIN
    assert crossed(app, "/auth") == {}


@pytest.mark.parametrize("origins", ["*", [ORIGIN], [ORIGIN, "https://other.example"]])
def test_credentials_are_never_combined_with_an_origin(make_app: Any, origins: Any) -> None:
    headers = crossed(make_app(CORS_ORIGINS=origins), "/v1/notes")
    assert headers["Access-Control-Allow-Origin"] == ("*" if origins == "*" else ORIGIN)
    assert "Access-Control-Allow-Credentials" not in headers


def test_without_origins_no_page_may_call(make_app: Any) -> None:
    assert crossed(make_app(CORS_ORIGINS=[]), "/v1/notes") == {}


@pytest.mark.parametrize(
    "origin",
    [
        *("https://*.example.com", r"https://app\.example\.com", "https://app.example.com/", "null", "app.example.com"),
        *("https://app.example.com$", "https://[a-z]+.example.com", ".*", ""),
    ],
)
def test_what_is_no_whole_origin_refuses_to_start(make_app: Any, origin: str) -> None:
    """Flask-CORS would take most of these for patterns, and match only the beginning of an origin."""
    for origins in (origin, [ORIGIN, origin]):
        with pytest.raises(ValueError, match="CORS_ORIGINS"):
            make_app(CORS_ORIGINS=origins)


@pytest.mark.parametrize("origin", ["capacitor://localhost", "http://localhost:8100", "https://a-b.example"])
def test_an_app_in_a_web_view_has_an_origin_too(make_app: Any, origin: str) -> None:
    assert crossed(make_app(CORS_ORIGINS=[origin]), "/v1/notes", origin)["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_preflight_allows_methods_and_headers(app: Flask, method: str) -> None:
    wanted = "authorization, content-type, idempotency-key, if-match, if-none-match, x-request-id"
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted}
    answer = Phone(app.test_client()).send("OPTIONS", "/v1/notes/x", headers=headers)
    assert answer.status_code == 200
    assert method in answer.headers["Access-Control-Allow-Methods"].split(", ")
    assert set(answer.headers["Access-Control-Allow-Headers"].lower().split(", ")) == set(wanted.split(", "))
    assert answer.headers["Access-Control-Max-Age"] == "600"


# JSON


def test_an_answer_is_compact_json_in_utf_8(ada: Person) -> None:
    answer = ada.post("/v1/notes", {"title": "제목 é </script>"})
    assert answer.content_type == "application/json"
    assert '"title":"제목 é </script>"'.encode() in answer.data


def test_a_204_has_no_body(ada: Person) -> None:
    ada.make_note(id="x")
    answer = ada.delete("/v1/notes/x")
    assert (answer.status_code, answer.data, answer.headers.get("Content-Length", "0")) == (204, b"", "0")


def test_an_empty_answer_has_no_content_type(ada: Person) -> None:
    ada.make_note(id="x")
    assert "Content-Type" not in ada.delete("/v1/notes/x").headers


# What a page needs, and what extensions of Flask add


def test_the_page_knows_where_one_logs_in_and_what_the_members_are_called(make_app: Any) -> None:
    phone = Phone(make_app(JWT_AUTH_URL_RULE="/login", JWT_AUTH_USERNAME_KEY="email").test_client())
    script = phone.get("/docs/start.js")
    assert script.content_type == "text/javascript; charset=utf-8"
    known = script.text.partition(";\n")[0].removeprefix("const LOGIN = ")
    assert json.loads(known) == {"path": "/login", "username": "email", "password": "password"}
    assert phone.get("/docs/index.html").data == phone.get("/docs").data


def test_what_flask_calls_around_a_request_is_called_here_too(make_app: Any) -> None:
    app: Flask = make_app()
    called: list[str] = []
    own = Blueprint("own", __name__)

    def note(name: str) -> Any:
        return lambda given=None, **_: called.append(name) or given

    @own.get("/own")
    @operation("Do what is our own", public=True)
    def view() -> Answer:
        flask.after_this_request(note("after this"))
        return json_answer({"own": True})

    own.before_request(note("before"))
    own.after_request(note("after"))
    own.teardown_request(note("teardown"))
    app.register_blueprint(own)
    started, finished = note("started"), note("finished")
    with request_started.connected_to(started, app), request_finished.connected_to(finished, app):
        assert Phone(app.test_client()).get("/own").json == {"own": True}
    assert called == ["started", "before", "after this", "after", "finished", "teardown"]


def test_what_is_called_before_a_request_may_answer_it(make_app: Any) -> None:
    app: Flask = make_app()
    app.before_request(lambda: json_answer({"closed": True}, 503))
    answer = app.test_client().get("/health/live")
    assert (answer.status_code, answer.json) == (503, {"closed": True})


def test_a_server_that_is_about_to_end_is_not_ready(make_app: Any) -> None:
    app: Flask = make_app()
    app.extensions["madang.draining"] = True
    answer = Phone(app.test_client()).get("/health/ready")
    assert (answer.status_code, answer.json["code"]) == (503, "shutting_down")
