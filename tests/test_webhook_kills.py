"""Workers that tell webhooks are killed: each record is told as it is in the end, and never an older state later.

`MADANG_WEBHOOK_KILLS` is how many are killed at random; `make chaos` kills a hundred.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask

from service.resources.webhooks import EXTENSION
from service.webhooks.keeping import WebhookPlan
from tests.client import Person
from tests.forked_workers import Workers, is_gone, is_stopped, transactions_ended_after, wait_for, waiting, working
from tests.outbox_worker import STOPPED
from tests.receiving import OWN, Endpoint, endpoint, service
from tests.webhook_worker import POINTS

__all__ = ["endpoint", "service"]

pytestmark = [pytest.mark.real, pytest.mark.measured]

KILLS = int(os.environ.get("MADANG_WEBHOOK_KILLS", "3"))
LIFE = 5.0 if KILLS > 10 else 1.0
"""Most seconds between two kills: a lease of the dead lasts three."""
NOTES = [f"note-{number}" for number in range(8)]


@pytest.fixture(autouse=True)
def soon_forgotten(app: Flask) -> Iterator[None]:
    """The transactions of the dead do not keep others waiting for long."""
    with transactions_ended_after(2):
        yield


@pytest.fixture
def workers(service: Flask) -> Iterator[Workers]:
    own = {"SERVICE_WEBHOOK_ALLOW": json.dumps(OWN["WEBHOOK_ALLOW"])}
    with working(service, "tests.webhook_worker", own) as found:
        yield found


def told_last(endpoint: Endpoint) -> dict[str, Any]:
    """The newest state of each record that was told; of no record an older one came later."""
    came: dict[str, list[Any]] = defaultdict(list)
    for message in [*endpoint.came]:
        came[message.data["id"]].append(message.data.get("revision", "deleted"))
    for id, states in came.items():
        numbers = [state for state in states if state != "deleted"]
        assert numbers == sorted(numbers), (id, states)
        assert "deleted" not in states[: len(numbers)], (id, states)
    return {id: states[-1] for id, states in came.items()}


def is_told(endpoint: Endpoint, wanted: dict[str, Any]) -> bool:
    return waiting() == 0 and told_last(endpoint) == wanted


def test_a_worker_that_is_killed_at_any_point_tells_at_least_once(
    service: Flask, endpoint: Endpoint, workers: Workers
) -> None:
    service.extensions[EXTENSION].make(WebhookPlan(endpoint.url, ["notes"]), None)
    ada = Person.sign_up(service.test_client(), "ada")
    for number, point in enumerate(POINTS):
        pid = workers.start(point)
        ada.make_note(id=f"note-{number}")
        wait_for(lambda: is_gone(pid))  # noqa: B023  it is asked before the next
    workers.start()
    wait_for(lambda: is_told(endpoint, {f"note-{number}": 1 for number in range(len(POINTS))}))
    assert len(endpoint.came) <= 2 * len(POINTS)


def test_a_worker_that_is_stopped_for_longer_than_its_lease_tells_nothing_older_when_it_goes_on(
    service: Flask, endpoint: Endpoint, workers: Workers
) -> None:
    service.extensions[EXTENSION].make(WebhookPlan(endpoint.url, ["notes"]), None)
    ada = Person.sign_up(service.test_client(), "ada")
    stopped = workers.start(STOPPED)
    ada.make_note(id="a")
    wait_for(lambda: is_stopped(stopped))
    ada.patch("/v1/notes/a", {"title": "newer"})
    other = workers.start()
    wait_for(lambda: is_told(endpoint, {"a": 2}))
    os.kill(other, signal.SIGKILL)
    os.kill(stopped, signal.SIGCONT)
    ada.make_note(id="b")
    wait_for(lambda: is_told(endpoint, {"a": 2, "b": 1}))
    assert [message.data["id"] for message in endpoint.came] in (["a", "b"], ["a", "a", "b"])


def test_workers_that_are_killed_lose_nothing_and_keep_the_order(
    service: Flask, endpoint: Endpoint, workers: Workers, record_property: Callable[[str, object], None]
) -> None:
    by_chance = random.Random(KILLS)
    service.extensions[EXTENSION].make(WebhookPlan(endpoint.url, ["notes"]), None)
    ada = Person.sign_up(service.test_client(), "ada")
    revisions: dict[str, Any] = {}
    for id in NOTES:
        ada.make_note(id=id)
        revisions[id] = 1
    running = [workers.start() for _ in range(2)]
    for number in range(KILLS):
        for id in by_chance.sample(NOTES, 4):
            revisions[id] = ada.patch(f"/v1/notes/{id}", {"title": f"{number}"}).json["revision"]
            time.sleep(by_chance.uniform(0.0, 0.1))
        time.sleep(by_chance.uniform(0.0, LIFE))
        with suppress(ProcessLookupError):
            os.kill(running[number % 2], signal.SIGKILL)
        running[number % 2] = workers.start()
    ada.delete(f"/v1/notes/{NOTES[0]}")
    revisions[NOTES[0]] = "deleted"
    wait_for(lambda: is_told(endpoint, revisions))
    record_property(
        "told", f"{KILLS} kills, {sum(revisions[id] for id in NOTES[1:])} states, {len(endpoint.came)} messages"
    )
