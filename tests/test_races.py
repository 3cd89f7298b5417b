"""What only real processes show: an end that reaches every server, races, and a crash in the middle."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask

from service.core.clock import now
from service.documents import Account, Event, Note, Session
from service.identity import deletion
from service.identity.sessions import RENEWAL_PAUSE
from service.records import deletion as records_deletion
from service.serve.ports import free_port
from tests.client import PASSWORD
from tests.racing import at_once
from tests.types import REGISTRY, new
from tests.waiting import until

pytestmark = pytest.mark.real

ROOT = Path(__file__).parent.parent
ME = "/v1/accounts/me"
NEW = "another long pass phrase"
numbers = count()


class Server:
    """A service that runs as its own processes, one worker of the API, on the database of the tests."""

    def __init__(self, uri: str, folder: Path, *words: str) -> None:
        port = free_port()
        self.base = f"http://127.0.0.1:{port}"
        named = {"ENV": "test", "MONGODB_URI": uri, "VAR": str(folder), "LOG_LEVEL": "ERROR"}
        self.process = subprocess.Popen(
            [sys.executable, "run.py", "--port", str(port), "--workers", "1", *words],
            cwd=ROOT,
            env={**os.environ, **{f"SERVICE_{name}": value for name, value in named.items()}},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        assert until(self.is_ready)

    def is_ready(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.base}/health/ready", timeout=2).ok
        return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def metric(self, pattern: str) -> float:
        text = requests.get(f"{self.base}/metrics", timeout=5).text
        return sum(float(value) for value in re.findall(pattern + r" (\S+)", text))


@contextmanager
def served(uri: str, folder: Path, servers: int = 1, *words: str) -> Iterator[list[Server]]:
    """So many servers on one database, started with these words more."""
    started = [Server(uri, folder / f"server{number}", *words) for number in range(servers)]
    try:
        for server in started:
            server.wait()
        yield started
    finally:
        for server in started:
            if server.process.poll() is None:
                server.kill()


class Remote:
    """A phone that talks to a server over HTTP."""

    def __init__(self, server: Server, username: str = "") -> None:
        self.base = server.base
        self.username = username
        self.tokens: dict[str, Any] = {}

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
        token = self.tokens.get("access_token")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        return requests.request(method, self.base + path, json=body, headers=headers, timeout=30, **options)

    def log_in(self, password: str = PASSWORD) -> requests.Response:
        answer = self.send("POST", "/auth", {"username": self.username, "password": password})
        if answer.ok:
            self.tokens = answer.json()
        return answer

    def refresh(self, token: str | None = None) -> requests.Response:
        return self.send("POST", "/auth/refresh", {"refresh_token": token or self.tokens["refresh_token"]})

    def change_password(self, way: str = "plain") -> requests.Response:
        """Change the password by a plain request, one with an idempotency key, or one of an atomic batch."""
        body = {"current_password": PASSWORD, "new_password": NEW}
        if way == "in an atomic batch":
            part = {"method": "PUT", "path": f"{ME}/password", "body": body}
            answer = self.send("POST", "/v1/batch", {"atomic": True, "requests": [part]})
            answer.status_code = answer.json()["responses"][0]["status"]
            return answer
        headers = {"Idempotency-Key": "k"} if way == "with a key" else {}
        return self.send("PUT", f"{ME}/password", body, headers=headers)

    def moved(self, server: Server) -> "Remote":
        """The same phone, whose next requests reach another server."""
        other = Remote(server, self.username)
        other.tokens = self.tokens
        return other


def sign_up(server: Server) -> Remote:
    """A new account, signed in."""
    remote = Remote(server, f"racer{next(numbers)}")
    assert remote.send("POST", "/v1/accounts", {"username": remote.username, "password": PASSWORD}).status_code == 201
    assert remote.log_in().ok
    return remote


@pytest.fixture(scope="module")
def servers(mongodb_uri: str, shared_app: Flask, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with served(mongodb_uri, tmp_path_factory.mktemp("servers"), 2) as running:
        yield running


@pytest.fixture
def here(servers: list[Server], app: Flask) -> Server:
    return servers[0]


@pytest.fixture
def there(servers: list[Server], app: Flask) -> Server:
    return servers[1]


# An end reaches every process within a second

ENDS: dict[str, Callable[[Remote, Remote], requests.Response]] = {
    "log out": lambda phone, tablet: tablet.send("POST", "/auth/logout"),
    "sign out remotely": lambda phone, tablet: phone.send("DELETE", f"{ME}/sessions/{tablet.tokens['session_id']}"),
    "log out everywhere": lambda phone, tablet: phone.send("POST", "/auth/logout", {"everywhere": True}),
    "change the password": lambda phone, tablet: phone.change_password(),
    "delete the account": lambda phone, tablet: phone.send("DELETE", ME),
    "reuse a refresh token": lambda phone, tablet: reuse(tablet),
}


def reuse(remote: Remote) -> requests.Response:
    remote.refresh(remote.refresh().json()["refresh_token"])
    answer = remote.refresh()
    assert answer.json()["code"] == "token_reused"
    answer.status_code = 204
    return answer


@pytest.mark.parametrize("end", ENDS)
def test_an_ended_session_is_dead_everywhere_within_a_second(here: Server, there: Server, end: str) -> None:
    phone = sign_up(here)
    tablet = Remote(here, phone.username)
    tablet.log_in()
    elsewhere = tablet.moved(there)
    assert (tablet.send("GET", ME).status_code, elsewhere.send("GET", ME).status_code) == (200, 200)
    assert ENDS[end](phone, tablet).status_code == 204
    ended = time.monotonic()
    assert last_success(elsewhere) < ended + 1
    assert [remote.send("GET", ME).json()["code"] for remote in (tablet, elsewhere)] == ["not_authenticated"] * 2
    assert [remote.refresh().status_code for remote in (tablet, elsewhere)] == [401, 401]


def last_success(remote: Remote) -> float:
    """When the last request began that was answered, before the first that was refused; 0.0 where none was answered.

    Not when the refused one began: on a busy machine the answer to the one before may take a second.
    """
    success, end = 0.0, time.monotonic() + 5
    while (began := time.monotonic()) < end:
        if remote.send("GET", ME).status_code != 200:
            return success
        success = began
    raise AssertionError("it is answered for ever")


def test_the_server_that_ends_a_session_knows_at_once(here: Server) -> None:
    phone = sign_up(here)
    assert phone.send("GET", ME).status_code == 200
    phone.send("POST", "/auth/logout")
    assert phone.send("GET", ME).status_code == 401


def test_new_roles_hold_everywhere_within_a_second(app: Flask, here: Server, there: Server) -> None:
    phone = sign_up(here)
    owner = sign_up(here)
    path = owner.send("POST", "/v1/notes", {"title": "x", "readers": ["role:team"]}).headers["Location"]
    assert [remote.send("GET", path).status_code for remote in (phone, phone.moved(there))] == [404, 404]
    app.test_cli_runner().invoke(args=["accounts", "roles", phone.username, "team"])
    time.sleep(1)
    assert [remote.send("GET", path).status_code for remote in (phone, phone.moved(there))] == [200, 200]


def long_batch(rounds: int) -> dict[str, Any]:
    """An atomic batch that goes on for a while, and looks at the own account again and again."""
    look = {"method": "GET", "path": ME}
    make = lambda: {"username": f"racer{next(numbers)}", "password": PASSWORD}  # noqa: E731
    sign_up = lambda: {"method": "POST", "path": "/v1/accounts", "body": make()}  # noqa: E731
    return {"atomic": True, "requests": [part for _ in range(rounds) for part in (sign_up(), sign_up(), look)]}


def batch_of_seconds(server: Server) -> dict[str, Any]:
    """A long batch that takes some two seconds: as many rounds as on a quiet machine may be more than a batch may."""
    began = time.monotonic()
    sign_up(server)
    return long_batch(max(2, min(16, round(2.0 / (time.monotonic() - began)))))


def test_a_batch_does_not_keep_a_session_alive(here: Server, there: Server) -> None:
    phone = sign_up(here)
    tablet = Remote(there, phone.username)
    tablet.log_in()
    batch_body = batch_of_seconds(here)
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(phone.send, "POST", "/v1/batch", batch_body)
        time.sleep(0.2)
        assert tablet.send("POST", "/auth/logout", {"everywhere": True}).status_code == 204
        ended = time.monotonic()
        successes = []
        while not batch.done() or time.monotonic() < ended + 2.5:
            began = time.monotonic()
            if phone.send("GET", ME).status_code == 200:
                successes.append(began - ended)
    assert max(successes, default=0) < 1
    statuses = [part["status"] for part in batch.result().json()["responses"]]
    assert (401 in statuses, set(statuses)) == (True, {401, 424})


def test_a_batch_does_not_keep_a_role(app: Flask, here: Server) -> None:
    phone, owner = sign_up(here), sign_up(here)
    command = app.test_cli_runner().invoke
    command(args=["accounts", "roles", phone.username, "team"])
    path = owner.send("POST", "/v1/notes", {"title": "x", "readers": ["role:team"]}).headers["Location"]
    time.sleep(1)
    assert phone.send("GET", path).status_code == 200
    batch_body = batch_of_seconds(here)
    with ThreadPoolExecutor(1) as pool:
        batch = pool.submit(phone.send, "POST", "/v1/batch", batch_body)
        time.sleep(0.2)
        command(args=["accounts", "roles", phone.username])
        taken = time.monotonic()
        assert not batch.done()
        answer = batch.result()
        assert answer.status_code == 200, answer.text
        assert answer.json()["responses"][-1]["status"] == 200
    time.sleep(max(0, taken + 1 - time.monotonic()))
    assert phone.send("GET", path).status_code == 404


def test_a_request_asks_the_database_for_nothing_but_its_record(mongodb_uri: str, app: Flask, tmp_path: Path) -> None:
    # The API alone: what the chores of a worker ask is counted together with that, three finds in five seconds.
    with served(mongodb_uri, tmp_path, 1, "--only", "api") as (alone,):
        phone = sign_up(alone)
        path = phone.send("POST", "/v1/notes", {"title": "x"}).headers["Location"]
        every_command = r"madang_database_seconds_count\{[^}]*\}"
        before, started = alone.metric(every_command), time.monotonic()
        for _ in range(50):
            assert phone.send("GET", path).status_code == 200
        # One of its own, and those of all sessions together.
        looks = 2 * (2 + (time.monotonic() - started) / RENEWAL_PAUSE)
        assert 50 <= alone.metric(every_command) - before <= 50 + looks


# Races


def test_of_simultaneous_sign_ups_on_two_servers_one_wins(here: Server, there: Server) -> None:
    body = {"username": f"racer{next(numbers)}", "password": PASSWORD}
    works = [lambda server=server: Remote(server).send("POST", "/v1/accounts", body) for server in [here, there] * 4]
    assert sorted(answer.status_code for answer in at_once(*works)) == [201] + [409] * 7
    assert Account.objects(username=body["username"]).count() == 1


def test_eight_refreshes_on_two_servers_give_one_successor(here: Server, there: Server) -> None:
    phone = sign_up(here)
    answers = at_once(*[phone.refresh, phone.moved(there).refresh] * 4)
    assert {answer.status_code for answer in answers} == {200}
    (successor,) = {answer.json()["refresh_token"] for answer in answers}
    assert phone.refresh(successor).status_code == 200


def test_retries_of_a_spent_token_beside_its_successor_give_one_line_of_tokens_or_none(
    here: Server, there: Server
) -> None:
    """A retry that comes before its successor is used gets that one, one that comes after it ends the session."""
    ended = 0
    for _ in range(6):
        phone = sign_up(here)
        old, new = phone.tokens["refresh_token"], phone.refresh().json()["refresh_token"]
        works = [partial(phone.moved(server).refresh, token) for server in (here, there) for token in (old, new) * 2]
        answers = list(zip([old, new] * 4, at_once(*works), strict=True))
        given = {(token, answer.json()["refresh_token"]) for token, answer in answers if answer.ok}
        refused = {answer.json()["code"] for _, answer in answers if not answer.ok}
        assert {successor for token, successor in given if token == old} <= {new}
        newest = {successor for token, successor in given if token == new}
        assert len(newest) <= 1
        assert refused <= {"token_reused", "not_authenticated"}
        alive = "token_reused" not in refused
        assert [phone.refresh(token).ok for token in newest] == [alive] * len(newest)
        assert bool(Session.objects(id=phone.tokens["session_id"])) == alive
        ended += not alive
    assert Event.objects(kind="refresh_reused").count() == ended


@pytest.mark.parametrize("everywhere", [False, True])
def test_after_a_logout_no_refresh_brings_the_session_back(here: Server, there: Server, everywhere: bool) -> None:
    phone = sign_up(here)
    for _ in range(5):
        phone.log_in()
        end = lambda: phone.send("POST", "/auth/logout", {"everywhere": everywhere})  # noqa: E731
        refreshed, ended = at_once(phone.moved(there).refresh, end)
        tokens = [phone.tokens["refresh_token"], refreshed.json().get("refresh_token")]
        assert (refreshed.status_code in (200, 401), ended.status_code) == (True, 204)
        assert {phone.refresh(token).status_code for token in tokens if token} == {401}
        assert Session.objects(id=phone.tokens["session_id"]).count() == 0


def test_nobody_waits_for_what_another_hashes_in_a_batch(here: Server, there: Server) -> None:
    phone, owner = sign_up(here), sign_up(there)
    readers = {"title": "x", "readers": ["*"], "writers": ["*"]}
    path = owner.send("POST", "/v1/notes", readers).headers["Location"]
    touch = {"method": "PATCH", "path": path, "body": {"$inc": {"priority": 1}}}
    for _ in range(3):
        with ThreadPoolExecutor(1) as pool:
            body = long_batch(rounds=6)
            body["requests"].insert(0, touch)
            batch = pool.submit(phone.send, "POST", "/v1/batch", body)
            waits, written = [], []
            while not batch.done():
                began = time.monotonic()
                written.append(owner.send("PATCH", path, {"title": "mine"}).status_code)
                waits.append(time.monotonic() - began)
        assert batch.result().status_code == 200, batch.result().text
        assert {part["status"] for part in batch.result().json()["responses"]} <= {200, 201}
        assert set(written) == {200}
        assert max(waits) < 2
        assert owner.send("PATCH", path, {"priority": 0}).status_code == 200


@pytest.mark.parametrize("way", ["plain", "with a key", "in an atomic batch"])
def test_no_session_that_the_old_password_opened_survives_its_change(here: Server, there: Server, way: str) -> None:
    for _ in range(3):
        phone = sign_up(here)
        others = [Remote(server, phone.username) for server in [here, there] * 3]
        works: list[Any] = [other.log_in for other in others]
        works.insert(2, partial(phone.change_password, way))
        assert [answer.status_code for answer in at_once(*works)].count(204) == 1
        assert {other.refresh().status_code for other in others if other.tokens} <= {401}
        assert (phone.refresh().status_code, Remote(there, phone.username).log_in().status_code) == (200, 401)


def test_no_login_survives_a_lock(app: Flask, here: Server, there: Server) -> None:
    phone = sign_up(here)
    others = [Remote(server, phone.username) for server in [here, there] * 3]
    lock = lambda: app.test_cli_runner().invoke(args=["accounts", "lock", phone.username])  # noqa: E731
    at_once(lock, *[other.log_in for other in others])
    assert Session.objects.count() == 0


def test_of_two_changes_of_the_password_on_two_servers_one_wins(here: Server, there: Server) -> None:
    phone = sign_up(here)
    answers = at_once(phone.change_password, phone.moved(there).change_password)
    assert sorted(answer.status_code for answer in answers) == [204, 401]


# A deletion and what refers to the record


def notebook_of(phone: Remote, notes: int) -> str:
    """A new notebook with so many notes in it."""
    notebook = phone.send("POST", "/v1/notebooks", {"title": "x"}).json()
    rows = (new(Note, notebook["owner"], {"title": "x", "notebook": notebook["id"]}) for _ in range(notes))
    Note._get_collection().insert_many(rows)
    return str(notebook["id"])


def test_a_refused_deletion_releases_nothing_however_late_it_is_refused(here: Server, there: Server) -> None:
    """Beside a change of the record it is either done as a whole or not at all."""
    phone = sign_up(here)
    refused = done = 0
    for _ in range(12):
        notebook = notebook_of(phone, 300)
        path = f"/v1/notebooks/{notebook}"
        change = partial(phone.send, "PATCH", path, {"title": "y"})
        delete = partial(phone.moved(there).send, "DELETE", path, headers={"If-Match": '"1"'})
        answers = [answer.status_code for answer in at_once(change, delete)]
        assert answers in ([200, 412], [404, 204])
        referring = Note._get_collection().count_documents({"notebook": notebook})
        assert referring == (300 if answers[1] == 412 else 0)
        refused, done = refused + (answers[1] == 412), done + (answers[1] == 204)
    assert refused
    assert done


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["plain", "with a key"])
def test_what_is_made_while_a_record_goes_refers_to_it_no_more(here: Server, there: Server, headers: Any) -> None:
    phone = sign_up(here)

    def make(notebook: str, remote: Remote, made: list[int]) -> None:
        while (answer := remote.send("POST", "/v1/notes", {"title": "x", "notebook": notebook})).status_code == 201:
            made.append(1)
        assert answer.json()["errors"] == [
            {"pointer": "/notebook", "code": "not_found", "detail": "the id of a record that you may read"}
        ]

    for trial in range(3):
        notebook, made = notebook_of(phone, 500), list[int]()
        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(make, notebook, phone.moved(server), made) for server in (here, there) * 2]
            until(lambda: len(made) >= 12)  # noqa: B023
            key = {name: f"{value}{trial}" for name, value in headers.items()}
            assert phone.send("DELETE", f"/v1/notebooks/{notebook}", headers=key).status_code == 204
            for writer in writers:
                writer.result()
        records_deletion.release_again(REGISTRY, timedelta())
        assert Note._get_collection().count_documents({"notebook": notebook}) == 0


def write_until_refused(remote: Remote, wrote: list[int]) -> None:
    while (answer := remote.send("POST", "/v1/notes", {"title": "x"})).status_code == 201:
        wrote.append(1)
    assert answer.status_code == 401


def test_a_write_that_runs_while_its_account_goes_leaves_nothing(here: Server, there: Server) -> None:
    phone = sign_up(here)
    account = Account.objects.get(username=phone.username).id
    wrote: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write_until_refused, phone.moved(there), wrote) for _ in range(4)]
        while len(wrote) < 20:
            time.sleep(0.01)
        assert phone.send("DELETE", ME).status_code == 204
        for writer in writers:
            writer.result()
    sweep_all()
    assert (Note._get_collection().count_documents({"owner": account}), Account.objects.count()) == (0, 0)


def test_no_login_survives_the_deletion_of_its_account(here: Server, there: Server) -> None:
    phone = sign_up(here)
    others = [Remote(server, phone.username) for server in [here, there] * 3]
    at_once(lambda: phone.send("DELETE", ME), *[other.log_in for other in others])
    sweep_all()
    # A login that came after the end has failed for a name that is nobody's.
    assert (Session.objects.count(), Account.objects.count(), Event.objects(account__ne="").count()) == (0, 0, 0)


def sweep_all() -> None:
    """Do now what the servers do 15 seconds after a deletion."""
    Account.objects(deleted_at__exists=True).update(deleted_at=now() - timedelta(minutes=1))
    deletion.sweep(REGISTRY)


# A crash


def test_a_deletion_that_is_killed_is_ended_by_the_next_sweep(
    app: Flask, mongodb_uri: str, tmp_path: Path, there: Server
) -> None:
    notes = Note._get_collection()
    with served(mongodb_uri, tmp_path) as (server,), notes.database.client.start_session() as session:
        phone = sign_up(server)
        account = Account.objects.get(username=phone.username).id
        notes.insert_many([new(Note, account, {"title": str(number)}) for number in range(3_000)])
        session.start_transaction()
        # The deletion goes a thousand at a time, and waits for whoever writes one of them.
        notes.update_one({"title": "1500"}, {"$set": {"title": "held"}}, session=session)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(phone.send, "DELETE", ME)
            assert until(lambda: notes.count_documents({}) < 3_000)
            server.kill()
            assert asked.exception() is not None or asked.result().json()["code"] == "answer_lost"
        session.abort_transaction()
    left = notes.count_documents({})
    assert 0 < left < 3_000
    assert [answer.status_code for answer in (phone.moved(there).send("GET", ME), phone.moved(there).log_in())] == [
        401
    ] * 2
    sweep_all()
    assert (notes.count_documents({}), Account.objects.count(), Session.objects.count()) == (0, 0, 0)


def test_a_server_sweeps_on_its_own(here: Server, there: Server) -> None:
    phone = sign_up(here)
    phone.send("POST", "/v1/notes", {"title": "x"})
    mark = {"deleted_at": now() - timedelta(minutes=1)}
    Account._get_collection().update_one({"username": phone.username}, {"$set": mark})
    assert until(lambda: (Account.objects.count(), Note._get_collection().count_documents({})) == (0, 0))
