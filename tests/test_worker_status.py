"""What a worker answers to a load balancer and to Prometheus: whether it can do its work, and its metrics."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from flask import Flask
from pymongo.errors import AutoReconnect

from service.changes import order
from service.documents import Lease
from service.worker.chores import Chore
from service.worker.crew import Crew
from service.worker.status import StatusServer

pytestmark = pytest.mark.real


@pytest.fixture
def crew(app: Flask) -> Iterator[Crew]:
    crew = Crew([Chore("nothing", 0.02, lambda _right: None)], alone=True)
    crew.start()
    yield crew
    crew.stop(5)


@pytest.fixture
def status(crew: Crew) -> Iterator[StatusServer]:
    server = StatusServer("127.0.0.1", 0, crew, 2.0)
    server.start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server: StatusServer, path: str) -> tuple[int, str, str]:
    """Status, content type and body of an answer."""
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.headers["Content-Type"], answer.read().decode()
    connection.close()
    return found


def refusal(server: StatusServer, path: str = "/health/ready") -> tuple[int, str]:
    """Status and code of a problem."""
    code, kind, body = ask(server, path)
    assert kind == "application/problem+json"
    problem: dict[str, Any] = json.loads(body)
    assert problem["status"] == code
    return code, problem["code"]


@pytest.mark.usefixtures("recording")
def test_it_is_ready_while_changes_are_recorded(status: StatusServer) -> None:
    assert ask(status, "/health/ready") == (200, "application/json", '{"status":"ok"}')


@pytest.mark.usefixtures("recording")
def test_it_says_what_it_cannot_do_and_is_ready_all_the_same(status: StatusServer, crew: Crew) -> None:
    crew.chores.append(Chore("mail", 1.0, lambda _right: None, shared=True, trouble=lambda: "it does not answer"))
    said = '{"status":"ok","troubles":{"mail":"it does not answer"}}'
    assert ask(status, "/health/ready") == (200, "application/json", said)


def test_where_nobody_records_changes_it_is_not_ready_but_lives(status: StatusServer) -> None:
    Lease._get_collection().delete_many({})
    assert refusal(status) == (503, "feed_unavailable")
    assert ask(status, "/health/live") == (200, "application/json", '{"status":"ok"}')


@pytest.mark.usefixtures("recording")
def test_a_worker_that_is_about_to_end_is_not_ready(status: StatusServer, crew: Crew) -> None:
    crew.ending.set()
    assert refusal(status) == (503, "shutting_down")


@pytest.mark.usefixtures("recording")
def test_a_worker_one_of_whose_threads_has_ended_is_not_ready(status: StatusServer, crew: Crew) -> None:
    crew.stop(5)
    crew.ending.clear()
    assert refusal(status) == (503, "database_unavailable")


def test_a_mongodb_that_does_not_answer_makes_it_not_ready(
    status: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise AutoReconnect("gone")

    monkeypatch.setattr(order, "check_recorded", fail)
    assert refusal(status) == (503, "database_unavailable")


def test_it_tells_its_metrics_and_nothing_else(status: StatusServer) -> None:
    code, kind, body = ask(status, "/metrics")
    assert (code, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "# TYPE madang_requests_total counter" in body
    assert refusal(status, "/v1/notes") == (404, "not_found")
