"""What the service shows of itself: request ids, one log line per request, headers, metrics, health."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.values import MultiProcessValue

from service.core import metrics
from service.http import observability
from service.http.openapi import operation
from tests.client import PASSWORD, Person, Phone

SECRET = "s3cret-marker"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def logging_app(make_app: Any, shared_app: Flask) -> Iterator[Any]:
    """A function that makes an app whose log lines the test can read; the log is set up for the whole process."""
    yield make_app
    sinks = structlog.get_config()["processors"][-1]
    if sinks.file is not None:
        sinks.file.close()
    observability.configure_log(shared_app.config)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """A function that gives the log lines since it was last called."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# The request id


@pytest.mark.parametrize("sent", ["a", "A-z_0.9", "x" * 64, "01J9-req.7"])
def test_a_good_request_id_is_the_clients_own(phone: Phone, sent: str) -> None:
    answer = phone.get("/v1/notes", headers={"X-Request-ID": sent})
    assert answer.headers["X-Request-ID"] == answer.json["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 65, "a b", "é", "a\tb", "a/b", "a,b", '"a"', "<a>", "a\x00b", "a\nb"])
def test_any_other_gets_a_new_one(phone: Phone, sent: str) -> None:
    answer = phone.get("/v1/notes", environ_overrides={"HTTP_X_REQUEST_ID": sent})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


def test_no_two_new_ones_are_the_same(phone: Phone) -> None:
    assert len({phone.get("/health/live").headers["X-Request-ID"] for _ in range(50)}) == 50


# The log line


def test_a_request_is_one_line_with_these_members_and_no_other(logging_app: Any, ada: Person, lines: Lines) -> None:
    lines()
    Phone(logging_app().test_client(), ada.headers).get("/v1/notes/none?fields=title", headers={"X-Request-ID": "mine"})
    (line,) = lines()
    assert isinstance(line.pop("ms"), float)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line.pop("timestamp"))
    assert line == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "route": "/v1/notes/<id>",
        "status": 404,
        "request_id": "mine",
        "account": ada.id,
    }


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/v1/notes", "/v1/notes", 401),
        ("GET", "/nope/4711", "unmatched", 404),
        ("DELETE", "/health/live", "unmatched", 405),
        ("GET", "/health/live", "/health/live", 200),
        ("POST", "/auth", "/auth", 400),
    ],
)
def test_a_line_names_the_route_and_not_the_path(
    logging_app: Any, lines: Lines, method: str, path: str, route: str, status: int
) -> None:
    phone = Phone(logging_app().test_client())
    lines()
    phone.send(method, path)
    (line,) = lines()
    assert (line["method"], line["route"], line["status"], line["account"]) == (method, route, status, None)


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_that_a_client_made_up_is_logged(
    logging_app: Any, ada: Person, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    phone = Phone(logging_app(LOG_JSON=as_json).test_client(), ada.headers)
    for body in ({"username": "ada", "password": SECRET}, {"username": SECRET, "password": PASSWORD}):
        phone.post("/auth", body)
    phone.post("/v1/notes", {"title": SECRET, SECRET: 1})
    phone.get(f"/v1/notes/{SECRET}", query_string={"fields": SECRET})
    phone.get(f"/{SECRET}", query_string={SECRET: SECRET})
    phone.get("/v1/notes", headers={"Authorization": f"Bearer {SECRET}", "User-Agent": SECRET, "Referer": SECRET})
    phone.get("/v1/notes", headers={"X-Request-ID": f"{SECRET} x", "If-None-Match": SECRET, "Cookie": SECRET})
    out = "".join(capsys.readouterr())
    assert out.count("status") == 7
    assert not [word for word in (SECRET, PASSWORD, ada.tokens["access_token"], "Bearer") if word in out]


@pytest.mark.parametrize("as_json", [True, False])
def test_no_request_writes_a_second_line(logging_app: Any, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    phone = Phone(logging_app(LOG_JSON=as_json).test_client())
    forged = '\n{"event": "request", "account": "admin"}\r\n'
    for environ in (
        {"HTTP_X_REQUEST_ID": forged},
        {"PATH_INFO": forged},
        {"REQUEST_METHOD": f"GET{forged.upper()}"},
        {"QUERY_STRING": forged},
        {"HTTP_AUTHORIZATION": forged},
        {"REMOTE_ADDR": forged},
    ):
        phone.get("/v1/notes", environ_overrides=environ)
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_the_form_for_people_is_no_json(logging_app: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Phone(logging_app(LOG_JSON=False).test_client()).get("/health/live")
    (line,) = capsys.readouterr().out.splitlines()
    assert not line.startswith("{")
    assert "/health/live" in line


def test_log_level_is_the_least_that_is_logged(logging_app: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Phone(logging_app(LOG_LEVEL="WARNING").test_client()).get("/health/live")
    assert capsys.readouterr().out == ""


# The log file


def fail() -> None:
    raise RuntimeError("what went wrong")


@pytest.mark.parametrize(
    "as_json",
    [
        True,
        pytest.param(
            False,
        ),
    ],
)
def test_the_log_file_gets_the_lines_as_json(logging_app: Any, tmp_path: Path, as_json: bool) -> None:
    app = logging_app(LOG_FILE=str(tmp_path / "log"), LOG_JSON=as_json, PROPAGATE_EXCEPTIONS=False)
    app.add_url_rule("/fail", view_func=operation("Fail", public=True)(fail))
    for path in ("/health/live", "/fail"):
        Phone(app.test_client()).get(path)
    found = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["event"] for line in found] == ["request", "internal_error", "request"]
    assert "Traceback" in found[1]["exception"]


def test_the_log_file_is_rotated_and_old_ones_go(logging_app: Any, tmp_path: Path) -> None:
    app = logging_app(LOG_FILE=str(tmp_path / "log"), LOG_FILE_BYTES=2000, LOG_FILE_COUNT=2)
    for _ in range(60):
        Phone(app.test_client()).get("/health/live")
    files = sorted(tmp_path.glob("log*"))
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size < 2500 for file in files)
    assert all(json.loads(line) for file in files for line in file.read_text().splitlines())


# The headers of every answer


@pytest.mark.parametrize(
    "path",
    [
        "/v1/notes",
        "/nope",
        "/auth",
        "/health/live",
        "/metrics",
        "/openapi.json",
        "/docs/problems",
        "/docs/",
        "/docs/nope.js",
    ],
)
def test_every_answer_has_the_security_headers(phone: Phone, path: str) -> None:
    headers = phone.client.get(path).headers
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Request-ID"]
    assert "Server" not in headers


def test_no_answer_may_be_kept_by_a_proxy(ada: Person) -> None:
    ada.make_note(id="x")
    for path in ("/v1/notes", "/v1/notes/x", "/v1/accounts/me", "/v1/notes/none"):
        assert re.search(r"no-store|private", ada.get(path).headers["Cache-Control"])
    assert "no-store" in ada.post("/auth", {"username": "ada", "password": PASSWORD}).headers["Cache-Control"]


# Metrics


def samples(phone: Phone) -> dict[tuple[Any, ...], float]:
    """Every sample by its name and labels."""
    text = phone.get("/metrics").get_data(as_text=True)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def grown(phone: Phone, work: Callable[[], Any]) -> dict[tuple[Any, ...], float]:
    """What `work` adds to the samples."""
    before = samples(phone)
    work()
    after = samples(phone)
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def counted(method: str, route: str, status: int) -> tuple[Any, ...]:
    return ("madang_requests_total", ("method", method), ("route", route), ("status", str(status)))


def test_requests_are_counted_by_route_method_and_status(phone: Phone, ada: Person) -> None:
    def work() -> None:
        for number in range(3):
            ada.get(f"/v1/notes/{number}")
        phone.post("/v1/notes", {})

    found = grown(phone, work)
    assert found[counted("GET", "/v1/notes/<id>", 404)] == 3
    assert found[counted("POST", "/v1/notes", 401)] == 1
    assert found["madang_request_seconds_count", ("method", "GET"), ("route", "/v1/notes/<id>")] == 3
    assert found["madang_request_seconds_bucket", ("le", "+Inf"), ("method", "POST"), ("route", "/v1/notes")] == 1


def test_a_client_cannot_add_series(phone: Phone) -> None:
    def work() -> None:
        for number in range(5):
            phone.send("GET", f"/made/up/{number}")
            phone.send(f"MADE{number}", "/made/up")

    phone.send("GET", "/made")
    phone.send("MADE", "/made")
    series = len(samples(phone))
    found = grown(phone, work)
    assert found[counted("GET", "unmatched", 404)] == 5
    assert found[counted("other", "unmatched", 404)] == 5
    assert len(samples(phone)) == series


def test_requests_in_flight_are_counted_in_and_out_again(logging_app: Any) -> None:
    app = logging_app(PROPAGATE_EXCEPTIONS=False)
    app.add_url_rule("/fail", view_func=operation("Fail", public=True)(fail))
    phone = Phone(app.test_client())
    for path in ("/health/live", "/fail", "/nope", "/v1/notes"):
        phone.get(path)
    assert samples(phone)["madang_requests_in_flight",] == 1


def test_an_atomic_batch_is_counted_out_as_often_as_in(phone: Phone, ada: Person) -> None:
    parts = [{"method": "POST", "path": "/v1/notes", "body": {"title": "t"}}] * 3
    before = samples(phone)["madang_requests_in_flight",]
    ada.post("/v1/batch", {"atomic": True, "requests": parts})
    assert samples(phone)["madang_requests_in_flight",] == before


@pytest.mark.real
def test_database_time_and_connections_are_measured(phone: Phone, ada: Person) -> None:
    found = grown(phone, lambda: (ada.make_note(), ada.find()))
    assert found["madang_database_seconds_count", ("command", "insert")] >= 1
    assert found["madang_database_seconds_count", ("command", "find")] >= 1
    assert samples(phone)["madang_database_connections", ("state", "open")] >= 1
    assert samples(phone)["madang_database_connections", ("state", "in_use")] == 0


def test_metrics_are_prometheus_text(phone: Phone) -> None:
    answer = phone.get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE madang_requests_total counter" in answer.get_data(as_text=True)


# Health


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_is_for_everyone(phone: Phone, path: str) -> None:
    answer = phone.get(path)
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_liveness_asks_no_database(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.mongo.connection.is_writable", fail)
    assert phone.get("/health/live").status_code == 200


def test_without_a_primary_the_service_is_not_ready(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.mongo.connection.is_writable", lambda: False)
    answer = phone.get("/health/ready")
    assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1


def test_what_all_processes_of_a_folder_have_counted_is_told_together(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for process, number in ((1, 3), (2, 4)):
        counter = MultiProcessValue(lambda process=process: process)
        counter("counter", "things_total", "things_total", (), (), "What is counted.").inc(number)
    assert b"things_total 7.0\n" in metrics.exposition()
