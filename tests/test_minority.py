"""A replica set without its majority: what only one member has is acknowledged to nobody, not even to a retry."""

import random
import signal
from collections.abc import Iterator

import pytest
import requests

from chaos.client import PASSWORD, Client, Watch
from chaos.cluster import Cluster
from chaos.servers import Server

pytestmark = pytest.mark.real

PATIENCE = 60
"""The election timeout in seconds: for so long the lonely primary takes itself for one."""


class Lonely:
    """A server on a primary whose secondaries do not answer, and somebody who was signed in before."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server, self.client = server, client

    def send(self, method: str, path: str, body: object = None, **headers: str) -> requests.Response:
        answer = self.client.once(method, path, body, headers)
        assert answer is not None
        return answer


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lonely]:
    folder = tmp_path_factory.mktemp("minority")
    with Cluster.started(folder / "cluster") as cluster:
        server = Server(folder / "server", cluster.uri, MONGODB_TIMEOUT="0.5")
        try:
            server.start()
            client = Client([server.base], Watch(), random.Random(1), tries=1)
            client.sign_up()
            assert client.send("POST", "/v1/notes", {"id": "mine", "title": "mine"}).status_code == 201
            cluster.elect_after(PATIENCE)
            frozen = cluster.secondaries()
            for member in frozen:
                member.send(signal.SIGSTOP)
            yield Lonely(server, client)
        finally:
            server.stop()


def test_reads_go_on(lonely: Lonely) -> None:
    assert lonely.send("GET", "/v1/notes/mine").json()["title"] == "mine"


def test_a_write_is_not_acknowledged_to_a_retry_either(lonely: Lonely) -> None:
    """The lonely primary has the write and its kept answer, and would lose both if the others elected another."""
    key = {"Idempotency-Key": "k1"}
    first = lonely.send("POST", "/v1/notes", {"title": "x"}, **key)
    second = lonely.send("POST", "/v1/notes", {"title": "x"}, **key)
    assert [first.status_code, second.status_code] == [503, 503]
    assert "Retry-After" in second.headers


WRITES = {
    "create": ("POST", "/v1/notes", {"title": "x"}),
    "change": ("PATCH", "/v1/notes/mine", {"title": "x"}),
    "replace": ("PUT", "/v1/notes/other", {"title": "x"}),
    "delete": ("DELETE", "/v1/notes/mine", None),
    "batch": ("POST", "/v1/batch", {"atomic": True, "requests": [
        {"method": "POST", "path": "/v1/notes", "body": {"title": "x"}}]}),
    "sign-up": ("POST", "/v1/accounts", {"username": "late", "password": PASSWORD}),
    "login": ("POST", "/auth", {"username": "USERNAME", "password": PASSWORD}),
    "login that fails, and is counted": ("POST", "/auth", {"username": "USERNAME", "password": "not the password"}),
    "refresh": ("POST", "/auth/refresh", {"refresh_token": "TOKEN"}),
    "profile": ("PATCH", "/v1/accounts/me", {"display_name": "x"}),
    "password": ("PUT", "/v1/accounts/me/password", {"current_password": PASSWORD, "new_password": "six paper boats"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITES)
def test_no_write_is_acknowledged(lonely: Lonely, kind: str) -> None:
    method, path, body = WRITES[kind]
    filled = {"USERNAME": lonely.client.username, "TOKEN": lonely.client.refresh_token}
    if isinstance(body, dict):
        body = {name: filled.get(value, value) if isinstance(value, str) else value for name, value in body.items()}
    answer = lonely.send(method, path, body)
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
    assert "Retry-After" in answer.headers


def test_no_logout_is_acknowledged(lonely: Lonely) -> None:
    assert lonely.send("POST", "/auth/logout").status_code == 503
