"""The front page tells a developer what runs and how to begin, and a stranger nothing but what is open."""

import re
import shlex
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pymongo.errors import ServerSelectionTimeoutError

from service.documents import Account
from service.pages import front as front_page
from tests.client import Person


@pytest.fixture
def front(make_app: Any) -> FlaskClient:
    app: Flask = make_app(ENVIRONMENT="local")
    return app.test_client()


def requests_of(page: str) -> list[str]:
    return [unescape(found) for found in re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)]


def body_of(request: str) -> str:
    """What curl sends of a request."""
    words = shlex.split(request.replace("\\\n", ""))
    return words[words.index("-d") + 1]


def test_the_first_request_signs_somebody_up_and_the_others_go_on_from_there(front: FlaskClient) -> None:
    sign_up, log_in, create = requests_of(front.get("/").text)
    assert "http://localhost/v1/accounts" in sign_up
    made = front.post("/v1/accounts", data=body_of(sign_up), content_type="application/json")
    assert made.status_code == 201, made.text
    inner = log_in.removeprefix("TOKEN=$(").partition("|")[0]
    token = front.post("/auth", data=body_of(inner), content_type="application/json").get_json()["access_token"]
    path = re.search(r"http://localhost(\S+)", create)
    assert path is not None
    headers = {"Authorization": f"Bearer {token}"}
    created = front.post(path[1], data=body_of(create), content_type="application/json", headers=headers)
    assert created.status_code == 201, created.text


def test_who_is_there_already_is_named_in_place_of_a_sign_up(front: FlaskClient, ada: Person) -> None:
    page = front.get("/").text
    assert "ada" in page
    assert len(requests_of(page)) == 2
    assert '"username":"ada"' in body_of(requests_of(page)[0].removeprefix("TOKEN=$(").partition("|")[0])


@pytest.mark.usefixtures("ada")
def test_a_stranger_sees_no_account_and_no_version_in_production(client: FlaskClient) -> None:
    page = client.get("/").text
    assert "account:" not in page
    assert not requests_of(page)
    assert "since" not in page
    assert "/docs/" in page


def test_a_host_name_of_an_attacker_is_not_on_the_page(front: FlaskClient) -> None:
    page = front.get("/", headers={"Host": "x';alert(1)"})
    assert page.status_code == 200
    assert requests_of(page.text)
    assert "alert" not in page.text


def test_whatever_host_name_came_through_is_one_word_of_the_shell(
    front: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_page, "request", SimpleNamespace(host_url="http://x';alert(1)/"))
    with front.application.app_context():
        made = front_page.first_requests("mina", front.application.extensions["madang.registry"])
    assert "http://x';alert(1)/v1/accounts" in shlex.split(made["sign_up"].replace("\\\n", ""))


def test_the_page_runs_no_script_and_is_not_kept(front: FlaskClient) -> None:
    page = front.get("/")
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert page.headers["Cache-Control"] == "no-store"


def test_without_a_mongodb_the_page_says_so(front: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise ServerSelectionTimeoutError("nobody there")

    monkeypatch.setattr(type(Account._get_collection()), "find_one", away)
    page = front.get("/")
    assert page.status_code == 200
    assert "MongoDB does not answer" in page.text


def test_the_root_of_the_api_leads_to_its_documentation(client: FlaskClient) -> None:
    answer = client.get("/v1")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/docs/")
