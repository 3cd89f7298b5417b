"""Workers that send mail are killed: nothing is lost, and nothing is sent twice but what nobody could know of.

`MADANG_OUTBOX_KILLS` is how many are killed at random; `make chaos` kills a hundred.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from flask import Flask

from service.documents import OutboxItem
from service.outbox.letters import Letter
from tests.forked_workers import Workers, is_stopped, wait_for, waiting, working
from tests.outbox_worker import POINTS, STOPPED
from tests.smtp_server import Handler, MailServer

pytestmark = [pytest.mark.real, pytest.mark.measured]

KILLS = int(os.environ.get("MADANG_OUTBOX_KILLS", "6"))


class Watching(Handler):
    """A server that also notes what comes although it was marked as sent before."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        id = id_of(self.ids()[-1])
        item = OutboxItem._get_collection().find_one({"_id": id})
        if item is None or item["state"] != "waiting":
            self.late.append(id)
        return answer


def id_of(message_id: str) -> str:
    return message_id.strip("<>").partition("@")[0]


@pytest.fixture
def handler(app: Flask) -> Watching:
    return Watching()


@pytest.fixture
def server(handler: Watching) -> Iterator[MailServer]:
    server = MailServer(handler)
    server.start()
    yield server
    server.stop()


def sending(app: Flask, port: int) -> AbstractContextManager[Workers]:
    mail = {"SERVICE_MAIL_URL": f"smtp://127.0.0.1:{port}", "SERVICE_MAIL_FROM": "mail@example.com"}
    return working(app, "tests.outbox_worker", mail)


def post(app: Flask, number: int) -> None:
    for index in range(number):
        letter = Letter(f"person-{index}@example.org", "sign_in_code", values={"code": "K7QM-2XWD", "minutes": 15})
        assert app.extensions["madang.security"].letters.post(letter)


def all_items() -> set[str]:
    return {item["_id"] for item in OutboxItem._get_collection().find({}, {"_id": 1})}


def test_a_worker_that_is_killed_at_any_point_sends_once_or_says_so(
    app: Flask, handler: Watching, server: MailServer
) -> None:
    post(app, len(POINTS) + 2)
    with sending(app, server.port) as workers:
        died = workers.die_at(POINTS)
        workers.start()
        wait_for(lambda: waiting() == 0)
    came = Counter(map(id_of, handler.ids()))
    assert set(came) == all_items()
    # Between the moment that the server has a mail and that in which it is marked, nobody can know.
    twice = {died["data sent"], died["acknowledged"]}
    assert {id: number for id, number in came.items() if number != 1} == dict.fromkeys(twice, 2)
    assert handler.late == []


def test_a_worker_that_is_stopped_for_longer_than_its_lease_sends_nothing_of_what_it_had(
    app: Flask, handler: Watching, server: MailServer
) -> None:
    post(app, 1)
    with sending(app, server.port) as workers:
        stopped = workers.start(STOPPED)
        wait_for(lambda: is_stopped(stopped))
        other = workers.start()
        wait_for(lambda: waiting() == 0)
        os.kill(other, signal.SIGKILL)
        os.kill(stopped, signal.SIGCONT)
        post(app, 1)
        wait_for(lambda: waiting() == 0)
    assert Counter(map(id_of, handler.ids())) == dict.fromkeys(all_items(), 1)


def test_workers_that_are_killed_lose_no_mail_and_send_none_again_that_is_marked(
    app: Flask, handler: Watching, server: MailServer
) -> None:
    with sending(app, server.port) as workers:
        workers.kill_by_chance(KILLS, 0.3, lambda: post(app, 5))
        wait_for(lambda: waiting() == 0, waiting)
    came = Counter(map(id_of, handler.ids()))
    assert set(came) == all_items()
    assert len(came) == 5 * KILLS
    assert sum(came.values()) - len(came) <= KILLS
    assert handler.late == []
    assert workers.others == []
