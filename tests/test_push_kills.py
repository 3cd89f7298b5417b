"""Workers that send notifications are killed: none is lost, and none is sent again that was marked.

`MADANG_PUSH_KILLS` is how many are killed at random; `make chaos` kills two hundred.
"""

import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from flask import Flask

from service import push
from service.documents import OutboxItem
from tests.client import Person
from tests.forked_workers import Workers, is_gone, is_stopped, wait_for, waiting, working
from tests.http2_server import Asked, Http2Server, Said
from tests.outbox_worker import STOPPED
from tests.push_worker import AT_ONCE, POINTS
from tests.pushing import TOKEN, credentials

pytestmark = [pytest.mark.real, pytest.mark.measured]

KILLS = int(os.environ.get("MADANG_PUSH_KILLS", "5"))
AT_A_TIME = 20


class Watching:
    """What also notes which came although it was marked as sent before."""

    def __init__(self) -> None:
        self.came: Counter[str] = Counter()
        self.late: list[str] = []

    def __call__(self, asked: Asked) -> Said:
        title = asked.json["aps"]["alert"]["title"]
        self.came[title] += 1
        # Marked ones have lost what they say.
        if OutboxItem._get_collection().find_one({"message.title": title}) is None:
            self.late.append(title)
        return Said()


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def server(app: Flask, tmp_path: Path, watching: Watching) -> Iterator[Http2Server]:
    server = Http2Server(tmp_path, watching, keeps=False)
    yield server
    server.stop()


def sending(app: Flask, folder: Path, server: Http2Server) -> AbstractContextManager[Workers]:
    settings = {f"SERVICE_{name}": value for name, value in credentials(folder, server.url).items()}
    return working(app, "tests.push_worker", {**settings, "SSL_CERT_FILE": str(server.certificate)})


def send(person: Person, first: int, number: int) -> None:
    for index in range(first, first + number):
        assert push.send(person.id, title=str(index)) == 1


@pytest.fixture
def person(ada: Person) -> Person:
    assert ada.put("/v1/accounts/me/push", {"platform": "apns", "token": TOKEN}).status_code == 200
    return ada


def test_a_worker_that_is_killed_at_any_point_sends_all_and_nothing_that_is_marked(
    app: Flask, person: Person, tmp_path: Path, server: Http2Server, watching: Watching
) -> None:
    number = (len(POINTS) + 1) * AT_ONCE
    send(person, 0, number)
    with sending(app, tmp_path, server) as workers:
        for point in POINTS:
            pid = workers.start(point)
            wait_for(lambda: is_gone(pid))  # noqa: B023  it is asked before the next
        workers.start()
        wait_for(lambda: waiting() == 0)
    assert set(watching.came) == set(map(str, range(number)))
    # Between the moment that the platform has them and that in which they are marked, nobody can know.
    assert sum(watching.came.values()) - number <= 2 * AT_ONCE
    assert watching.late == []


def test_a_worker_that_is_stopped_for_longer_than_its_lease_sends_nothing_of_what_it_had(
    app: Flask, person: Person, tmp_path: Path, server: Http2Server, watching: Watching
) -> None:
    send(person, 0, AT_ONCE)
    with sending(app, tmp_path, server) as workers:
        stopped = workers.start(STOPPED)
        wait_for(lambda: is_stopped(stopped))
        other = workers.start()
        wait_for(lambda: waiting() == 0)
        os.kill(other, signal.SIGKILL)
        os.kill(stopped, signal.SIGCONT)
        send(person, AT_ONCE, AT_ONCE)
        wait_for(lambda: waiting() == 0)
    assert watching.came == Counter(map(str, range(2 * AT_ONCE)))


def test_workers_that_are_killed_lose_none_and_send_none_again_that_is_marked(
    app: Flask,
    person: Person,
    tmp_path: Path,
    server: Http2Server,
    watching: Watching,
    record_property: Callable[[str, object], None],
) -> None:
    numbers = itertools.count(step=AT_A_TIME)
    with sending(app, tmp_path, server) as workers:
        workers.kill_by_chance(KILLS, 0.3, lambda: send(person, next(numbers), AT_A_TIME))
        wait_for(lambda: waiting() == 0, waiting)
    assert set(watching.came) == set(map(str, range(KILLS * AT_A_TIME)))
    twice = sum(watching.came.values()) - len(watching.came)
    assert twice <= KILLS * AT_ONCE
    assert watching.late == []
    assert workers.others == []
    record_property("sent", f"{KILLS} kills, {len(watching.came)} notifications, {twice} of them twice")
