"""Arguments: taken in one way from the query string, JSON, a form or files, with types and defaults."""

import io
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import flask_restful
import pytest
from flask import Flask
from pydantic import Field
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse

from service import app as application
from service.http.arguments import Arguments, take
from service.http.openapi import operation
from service.resources import Api
from tests.client import Phone, pointers

Send = Callable[..., TestResponse]


class Wanted(Arguments):
    """What the resources of these tests take."""

    name: str = Field(min_length=2)
    times: int = Field(default=1, le=9)
    loud: bool = False
    ratio: float | None = None
    mode: Literal["a", "b"] = "a"
    since: datetime | None = None


class Upload(Arguments):
    """The files that they take."""

    picture: FileStorage
    caption: FileStorage | None = None


@operation("Take from the query string", public=True, parameters=frozenset(Wanted.model_fields))
def from_query() -> dict[str, Any]:
    return take(Wanted, "query").model_dump(mode="json")


def taking(source: Any) -> type[flask_restful.Resource]:
    """A resource that answers what it takes from a part of the body."""

    class Taking(flask_restful.Resource):
        @operation("Take from the body", public=True, body=Wanted)
        def post(self) -> dict[str, Any]:
            return take(Wanted, source).model_dump(mode="json")

    return Taking


class Uploading(flask_restful.Resource):
    """Answers the names and the contents of files."""

    @operation("Take files", public=True, body={"type": "object"})
    def post(self) -> dict[str, Any]:
        sent = take(Upload, "files")
        return {"name": sent.picture.filename, "text": sent.picture.read().decode(), "more": sent.caption is not None}


@pytest.fixture(scope="module")
def app_with_arguments(test_settings: dict[str, Any], shared_app: Flask) -> Flask:
    app = application.create_app(test_settings)
    api = Api(app)
    app.add_url_rule("/query", view_func=from_query)
    api.add_resource(taking("json"), "/json", endpoint="taking-json")
    api.add_resource(taking("form"), "/form", endpoint="taking-form")
    api.add_resource(Uploading, "/files")
    return app


@pytest.fixture
def phone(app_with_arguments: Flask) -> Phone:
    return Phone(app_with_arguments.test_client())


DEFAULTS = {"name": "xy", "times": 1, "loud": False, "ratio": None, "mode": "a", "since": None}
AS_TEXT = {"name": "xy", "times": "3", "loud": "true", "ratio": "0.5", "mode": "b", "since": "2026-11-22T10:00:00Z"}
TYPED = {"name": "xy", "times": 3, "loud": True, "ratio": 0.5, "mode": "b", "since": "2026-11-22T10:00:00Z"}


def send(phone: Phone, source: str, arguments: dict[str, Any]) -> TestResponse:
    if source == "query":
        return phone.get("/query", query_string=arguments)
    return phone.post("/json", arguments) if source == "json" else phone.post("/form", data=arguments)


def places(source: str, answer: TestResponse) -> dict[str, str]:
    """The causes of a refusal, code by name."""
    if source == "query":
        assert (answer.status_code, answer.json["code"]) == (400, "bad_parameter")
        return {cause["parameter"]: cause["code"] for cause in answer.json["errors"]}
    assert (answer.status_code, answer.json["code"]) == (422, "validation_failed")
    return {place.removeprefix("/"): code for place, code in pointers(answer).items()}


@pytest.mark.parametrize("source", ["query", "json", "form"])
def test_what_is_not_sent_has_its_default(phone: Phone, source: str) -> None:
    assert send(phone, source, {"name": "xy"}).json == DEFAULTS


@pytest.mark.parametrize("source", ["query", "form"])
def test_text_is_read_as_the_declared_type(phone: Phone, source: str) -> None:
    assert send(phone, source, AS_TEXT).json == TYPED


def test_json_has_its_own_types(phone: Phone) -> None:
    typed = {name: value for name, value in TYPED.items() if name != "since"}
    assert send(phone, "json", typed).json == {**TYPED, "since": None}


def test_a_time_in_json_is_its_text(phone: Phone) -> None:
    assert send(phone, "json", TYPED).json == TYPED


def test_json_is_strict_about_types(phone: Phone) -> None:
    sent = {"name": 12, "times": "3", "loud": "true", "ratio": "0.5"}
    assert places("json", send(phone, "json", sent)).keys() == sent.keys()


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [("json", "ratio", "x"), *(("query", name, "x") for name in ("times", "loud", "ratio"))],
)
def test_the_code_of_a_wrong_type_is_ours(phone: Phone, source: str, name: str, value: str) -> None:
    assert places(source, send(phone, source, {"name": "xy", name: value})) == {name: "wrong_type"}


@pytest.mark.parametrize("source", ["query", "json", "form"])
def test_every_cause_is_told_at_once(phone: Phone, source: str) -> None:
    found = places(source, send(phone, source, {"times": 10 if source == "json" else "10", "mode": "c"}))
    assert found == {"name": "required", "times": "too_large", "mode": "not_allowed"}


@pytest.mark.parametrize("source", ["json", "form"])
def test_an_argument_that_nobody_takes_is_refused(phone: Phone, source: str) -> None:
    assert places(source, send(phone, source, {"name": "xy", "nmae": "x"})) == {"nmae": "unknown_field"}


def test_a_parameter_that_nobody_takes_is_refused(phone: Phone) -> None:
    assert places("query", send(phone, "query", {"name": "xy", "nmae": "x"})) == {"nmae": "unknown_parameter"}


@pytest.mark.parametrize("text", ["", "x", "1.5", "0x1", "१", "1e3", " ", "9" * 5000])
@pytest.mark.parametrize("source", ["query", "form"])
def test_text_that_is_no_whole_number_is_refused(phone: Phone, source: str, text: str) -> None:
    assert places(source, send(phone, source, {"name": "xy", "times": text})).keys() == {"times"}


def test_a_parameter_that_stands_twice_is_refused(phone: Phone) -> None:
    answer = send(phone, "query", {"name": ["xy", "yz"]})
    assert answer.status_code == 400
    assert "`name` stands twice" in answer.json["detail"]


def test_a_form_field_that_stands_twice_is_a_fault_of_the_body(phone: Phone) -> None:
    assert places("form", send(phone, "form", {"name": ["xy", "yz"]})).keys() == {"name"}


def test_the_parts_of_a_request_are_not_mixed(phone: Phone) -> None:
    answer = phone.post("/json", {"name": "xy"}, headers={"Cookie": "times=3"})
    assert answer.json == DEFAULTS
    assert phone.post("/json?times=3", {"name": "xy"}).json["code"] == "bad_parameter"


# Files


def test_a_file_is_taken_by_its_name(phone: Phone) -> None:
    answer = phone.post("/files", data={"picture": (io.BytesIO("그림".encode()), "a.png")})
    assert answer.json == {"name": "a.png", "text": "그림", "more": False}


def test_a_file_that_is_missing_or_unknown_is_told(phone: Phone) -> None:
    answer = phone.post("/files", data={"pitcure": (io.BytesIO(b""), "a.png")})
    assert pointers(answer) == {"/picture": "required", "/pitcure": "unknown_field"}


def test_text_is_no_file(phone: Phone) -> None:
    answer = phone.post("/files", data={"picture": "text"}, content_type="multipart/form-data")
    assert pointers(answer) == {"/picture": "required"}


def test_a_file_that_is_too_large_is_refused(
    app_with_arguments: Flask, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app_with_arguments.config, "MAX_CONTENT_LENGTH", 1000)
    answer = phone.post("/files", data={"picture": (io.BytesIO(b"x" * 1000), "a.png")})
    assert (answer.status_code, answer.json["code"]) == (413, "too_large")


def test_a_body_whose_length_is_not_told_is_held_to_the_limit_too(
    app_with_arguments: Flask, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app_with_arguments.config, "MAX_CONTENT_LENGTH", 1000)
    untold = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    body = b'{"name": "' + b"x" * 1000 + b'"}'
    answer = phone.post("/json", data=body, content_type="application/json", environ_overrides=untold)
    assert (answer.status_code, answer.json["code"]) == (413, "too_large")


@pytest.mark.parametrize("body", [b"", b"--x", b"--x\r\n\r\n", b"\xff" * 100])
def test_a_form_that_cannot_be_read_has_no_files(phone: Phone, body: bytes) -> None:
    answer = phone.post("/files", data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 422
