"""Errors: whoever raises one, the client gets one form of answer, and never what is inside."""

import json
import re
from collections.abc import Callable
from typing import Any

import flask
import flask_restful
import mongoengine
import pytest
import werkzeug.exceptions
from bson.errors import InvalidDocument
from flask import Flask
from pymongo import errors as mongo

from service import app as application
from service.core import errors
from service.http.openapi import operation
from service.resources import Api
from tests.client import Person, Phone

pytestmark = pytest.mark.once

SECRET = "mongodb://user:hunter2@10.0.0.1/"
Raise = Callable[[], Any]


def raiser(error: Exception) -> Raise:
    def view() -> None:
        raise error

    view.__name__ = type(error).__name__
    return view


def with_label(error: mongo.PyMongoError, label: str) -> mongo.PyMongoError:
    error._add_error_label(label)
    return error


@pytest.fixture(scope="module")
def boom(test_settings: dict[str, Any], shared_app: Flask) -> tuple[Flask, list[Raise]]:
    """An app on which `/v1/boom`, a resource, and `/boom`, a view, fail as the last of a list says."""
    app, fails = application.create_app({**test_settings, "PROPAGATE_EXCEPTIONS": False}), [dict]

    class Boom(flask_restful.Resource):
        @operation("Fail", public=True)
        def get(self) -> Any:
            return fails[-1]()

    Api(app).add_resource(Boom, "/v1/boom")
    app.add_url_rule("/boom", "boom-view", operation("Fail", public=True)(lambda: fails[-1]()))
    return app, fails


@pytest.fixture
def failing(boom: tuple[Flask, list[Raise]]) -> Callable[[Raise], Phone]:
    """A function that makes a client of an app on which `/v1/boom` and `/boom` fail in the way that it is told."""

    def make(fail: Raise) -> Phone:
        app, fails = boom
        fails.append(fail)
        return Phone(app.test_client())

    return make


# One handler for all


UNAVAILABLE = (503, "database_unavailable")
INTERNAL = (500, "internal_error")
RAISED: list[tuple[Any, tuple[int, str]]] = [
    (lambda: flask.abort(400), (400, "bad_request")),
    (lambda: flask.abort(404), (404, "not_found")),
    (lambda: flask.abort(405), (405, "method_not_allowed")),
    (lambda: flask.abort(413), (413, "too_large")),
    (lambda: flask.abort(415), (415, "unsupported_media_type")),
    (lambda: flask.abort(500), INTERNAL),
    (lambda: flask.abort(502), INTERNAL),
    (lambda: flask_restful.abort(404, message=SECRET), (404, "not_found")),
    (lambda: flask_restful.abort(400, message=SECRET), (400, "bad_request")),
    (lambda: flask_restful.abort(500, message=SECRET), INTERNAL),
    (lambda: flask.request.get_json(), (415, "unsupported_media_type")),
    (lambda: flask.request.args["nope"], (400, "bad_request")),
    (raiser(werkzeug.exceptions.SecurityError(SECRET)), (400, "bad_request")),
    (raiser(mongo.ServerSelectionTimeoutError(SECRET)), UNAVAILABLE),
    (raiser(mongo.NetworkTimeout(SECRET)), UNAVAILABLE),
    (raiser(mongo.AutoReconnect(SECRET)), UNAVAILABLE),
    (raiser(mongo.NotPrimaryError(SECRET)), UNAVAILABLE),
    (raiser(mongo.WaitQueueTimeoutError(SECRET)), UNAVAILABLE),
    (raiser(mongo.ExecutionTimeout(SECRET, 50)), UNAVAILABLE),
    (raiser(mongo.WTimeoutError(SECRET, 64)), UNAVAILABLE),
    (raiser(with_label(mongo.OperationFailure(SECRET, 112), "TransientTransactionError")), UNAVAILABLE),
    (raiser(mongo.DuplicateKeyError(SECRET, 11000)), (409, "already_exists")),
    (raiser(mongoengine.NotUniqueError(SECRET)), (409, "already_exists")),
    (raiser(mongo.DocumentTooLarge(SECRET)), (413, "too_large")),
    (raiser(mongo.WriteError(SECRET, 17419)), (413, "too_large")),
    (raiser(mongo.OperationFailure(SECRET, 13)), INTERNAL),
    (raiser(mongo.ConfigurationError(SECRET)), INTERNAL),
    (raiser(mongoengine.ValidationError(SECRET)), INTERNAL),
    (raiser(mongoengine.DoesNotExist(SECRET)), INTERNAL),
    (raiser(InvalidDocument(SECRET)), INTERNAL),
    (raiser(RuntimeError(SECRET)), INTERNAL),
    (raiser(RecursionError(SECRET)), INTERNAL),
    (raiser(KeyError(SECRET)), INTERNAL),
    (lambda: object(), INTERNAL),
    *(
        (raiser(problem()), (problem.status, problem.code))
        for problem in errors.all_problems()
        if problem.code not in ("validation_failed", "unreadable")
    ),
    (raiser(errors.Unreadable("ObjectId", ("title",))), (500, "unreadable")),
    (raiser(errors.ValidationFailed([])), (422, "validation_failed")),
]


@pytest.mark.parametrize("path", ["/v1/boom", "/boom"])
@pytest.mark.parametrize(("fail", "expected"), RAISED)
def test_whoever_raises_an_error_it_is_a_problem_document(
    failing: Any, path: str, fail: Raise, expected: tuple[int, str]
) -> None:
    answer = failing(fail).get(path)
    assert (answer.status_code, answer.json["code"]) == expected
    assert answer.json.keys() >= {"type", "title", "status", "code", "detail", "request_id"}
    assert answer.json["type"] == f"/docs/problems#{expected[1]}"
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("fail", [fail for fail, (status, _) in RAISED if status >= 500 or status == 409])
def test_an_error_of_the_database_or_of_ours_shows_nothing_internal(failing: Any, fail: Raise) -> None:
    text = failing(fail).get("/v1/boom").get_data(as_text=True)
    assert not [word for word in ("hunter2", "10.0.0.1", "Traceback", "pymongo", ".py", "Error(") if word in text]


@pytest.mark.parametrize("fail", [fail for fail, (status, _) in RAISED if status in (429, 503)])
def test_what_passes_says_when_to_try_again(failing: Any, fail: Raise) -> None:
    assert int(failing(fail).get("/v1/boom").headers["Retry-After"]) >= 1


@pytest.mark.parametrize("fail", [fail for fail, (status, _) in RAISED if status == 401])
def test_a_401_challenges(failing: Any, fail: Raise) -> None:
    assert failing(fail).get("/v1/boom").headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_bug_is_logged_with_its_traceback_and_request_id(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    answer = failing(raiser(RuntimeError("what went wrong"))).get("/v1/boom", headers={"X-Request-ID": "find-me"})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    logged = next(line for line in lines if line["event"] == "internal_error")
    assert (logged["request_id"], logged["level"], answer.json["request_id"]) == ("find-me", "error", "find-me")
    assert "Traceback" in logged["exception"]
    assert "RuntimeError: what went wrong" in logged["exception"]


@pytest.mark.parametrize(
    "fail", [lambda: flask.abort(500), lambda: flask_restful.abort(503), raiser(errors.InternalError())]
)
def test_a_500_that_was_asked_for_is_logged_too(failing: Any, capsys: pytest.CaptureFixture[str], fail: Raise) -> None:
    failing(fail).get("/v1/boom")
    assert '"event":"internal_error"' in capsys.readouterr().out


def test_what_is_no_bug_has_no_traceback(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(raiser(mongo.AutoReconnect(SECRET))).get("/v1/boom")
    assert "Traceback" not in capsys.readouterr().out


def test_a_database_that_fails_is_logged_with_its_reason(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(raiser(mongo.AutoReconnect("10.0.0.1 closed the connection"))).get("/v1/boom")
    assert "closed the connection" in capsys.readouterr().out


def test_after_an_error_the_next_request_is_served(failing: Any) -> None:
    phone = failing(raiser(RuntimeError()))
    assert [phone.get(path).status_code for path in ("/v1/boom", "/health/live", "/boom")] == [500, 200, 500]


# The document


def test_the_causes_stand_in_the_document() -> None:
    causes = [errors.Cause("a", "b", pointer="/c"), errors.Cause("d", "e", parameter="f")]
    assert errors.ValidationFailed(causes).as_dict("id") == {
        "type": "/docs/problems#validation_failed",
        "title": "Validation failed",
        "status": 422,
        "code": "validation_failed",
        "detail": "2 fields are not valid",
        "request_id": "id",
        "errors": [{"pointer": "/c", "code": "a", "detail": "b"}, {"parameter": "f", "code": "d", "detail": "e"}],
    }


def test_an_extension_member_stands_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors.NotFound, "extension", {"hint": {"type": "string"}})
    plain = errors.NotFound("gone").as_dict("id")
    assert errors.NotFound("gone", hint="look elsewhere").as_dict("id") == {**plain, "hint": "look elsewhere"}


def test_an_extension_member_that_is_not_declared_is_a_bug() -> None:
    with pytest.raises(TypeError, match="does not declare hint"):
        errors.NotFound("gone", hint="look elsewhere")


def test_what_may_pass_is_not_kept_for_a_retry() -> None:
    passing = {problem.code for problem in errors.all_problems() if problem.status >= 500 or problem.retry_after}
    kept = {problem.code for problem in errors.all_problems() if problem.keepable}
    assert kept & (passing | {"reauthentication_required"}) == set()
    assert {"forbidden", "not_found", "already_exists", "revision_mismatch", "validation_failed"} <= kept


def test_a_pointer_is_one_of_rfc_6901() -> None:
    assert errors.pointer("a/b", 0, "m~n", "") == "/a~1b/0/m~0n/"
    assert errors.pointer() == ""


def test_every_code_is_explained_at_the_place_that_type_names(phone: Phone) -> None:
    page = phone.get("/docs/problems").get_data(as_text=True)
    for problem in errors.all_problems():
        assert f'id="{problem.code}"' in page
        assert problem.meaning.split("`")[0].split("'")[0] in page


def test_what_stands_in_backticks_is_code_on_the_page(phone: Phone) -> None:
    page = phone.get("/docs/problems").text
    assert "`" not in page
    assert "<code>Retry-After</code>" in page


# Paths and methods


@pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/v1/notes/x/y", "/auth/nope", "/v2/notes", "//v1/notes"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "FOO"])
def test_a_path_that_leads_nowhere_is_404(phone: Phone, path: str, method: str) -> None:
    assert phone.send(method, path).json["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/notes", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/v1/notes/x", {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"}),
        ("GET", "/auth", {"POST", "OPTIONS"}),
        ("FOO", "/v1/notebooks", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("TRACE", "/health/live", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/docs", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", "/docs/", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/docs/swagger-ui.css", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/v1/accounts", {"GET", "HEAD", "POST", "OPTIONS"}),
    ],
)
def test_a_405_says_what_is_allowed(phone: Phone, method: str, path: str, allowed: set[str]) -> None:
    answer = phone.send(method, path)
    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == allowed


def test_every_path_says_405_to_a_method_that_it_has_not_with_and_without_a_slash(app: Flask, phone: Phone) -> None:
    for rule in app.url_map.iter_rules():
        path = re.sub("<.*?>", "x", rule.rule).rstrip("/")
        for asked in (path or "/", f"{path}/"):
            answer = phone.send("FOO", asked)
            assert (asked, answer.status_code) == (asked, 405)
            assert answer.headers["Allow"]


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/notes", "/v1/notes/x", "/v1/accounts/me", "/auth", "/health/live"),
        pytest.param(
            "/docs/",
        ),
    ],
)
def test_options_says_what_is_allowed_without_a_token(phone: Phone, path: str) -> None:
    answer = phone.send("OPTIONS", path)
    assert (answer.status_code, answer.data) == (200, b"")
    assert "OPTIONS" in answer.headers["Allow"].split(", ")


@pytest.mark.parametrize(
    "path",
    ["/v1/notes", "/v1/notes/x", "/v1/accounts/me", "/health/ready", "/metrics", "/openapi.json", "/docs/problems"],
)
def test_head_is_get_without_its_body(ada: Person, path: str) -> None:
    ada.make_note(id="x")
    get, head = ada.get(path), ada.send("HEAD", path)
    assert (head.status_code, head.data, head.content_type) == (200, b"", get.content_type)
    assert path == "/metrics" or head.headers["Content-Length"] == str(len(get.data))
    assert head.headers.get("ETag") == get.headers.get("ETag")


@pytest.mark.parametrize(("path", "status"), [("/v1/notes", 401), ("/nope", 404), ("/auth", 405)])
def test_head_of_an_error_has_its_status_and_no_body(app: Flask, path: str, status: int) -> None:
    answer = app.test_client().head(path)
    assert (answer.status_code, answer.data) == (status, b"")


def test_a_slash_at_the_end_is_no_other_path(ada: Person) -> None:
    ada.make_note(id="x")
    assert ada.get("/v1/notes/x/").json == ada.get("/v1/notes/x").json


# No JSON inside JSON


def strings(value: Any) -> list[str]:
    """Every string in decoded JSON."""
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for child in children for text in strings(child)]


def is_encoded(text: str) -> bool:
    """Tell whether a string is the JSON of an object, a list or a string."""
    try:
        return isinstance(json.loads(text), dict | list | str)
    except ValueError:
        return False


def test_no_answer_holds_json_in_a_string(app: Flask, ada: Person) -> None:
    ada.make_note(id="x", title="plain", checklist=[{"text": "one"}], notebook=ada.make_notebook(id="x")["id"])
    walked = 0
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods - {"HEAD", "OPTIONS", "DELETE"}):
            for body in (None, {}, {"title": "plain"}, {"username": "ada", "password": "correct horse battery"}):
                answer = ada.client.open(rule.rule.replace("<id>", "x"), method=method, json=body, headers=ada.headers)
                # An example in the OpenAPI document is a `where`, which is JSON in the query string.
                if answer.is_json and rule.endpoint != "openapi":
                    assert isinstance(answer.json, dict), rule
                    assert not [text for text in strings(answer.json) if is_encoded(text)], rule
                    walked += 1
    assert walked > 50
