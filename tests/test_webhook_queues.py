"""The queues of webhooks: one that hangs delays itself alone, and each comes and goes with its webhook."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from flask import Flask
from prometheus_client import REGISTRY as METRICS

from service.documents import OutboxItem, Webhook
from service.outbox import items
from service.outbox.calling import OutwardCaller
from service.resources.webhooks import EXTENSION
from service.webhooks import feeding, queues
from service.webhooks.feeding import put_ping
from service.webhooks.keeping import WebhookPlan, Webhooks
from service.webhooks.queues import Queues
from service.webhooks.sending import WebhookSender
from service.worker.lease import Shared
from tests.dispatching import hearing
from tests.receiving import Endpoint, service
from tests.waiting import until

__all__ = ["service"]

pytestmark = pytest.mark.real


@pytest.fixture
def webhooks(service: Flask) -> Webhooks:
    found: Webhooks = service.extensions[EXTENSION]
    return found


@pytest.fixture
def endpoints() -> Iterator[Callable[..., Endpoint]]:
    made: list[Endpoint] = []

    def make(**given: Any) -> Endpoint:
        made.append(Endpoint(**given))
        return made[-1]

    yield make
    for endpoint in made:
        endpoint.close()


@pytest.fixture
def calling(service: Flask, webhooks: Webhooks) -> Iterator[Queues]:
    """A worker that calls webhooks."""
    ending = threading.Event()
    letters, caller = service.extensions["madang.security"].letters, OutwardCaller(webhooks.targets)
    with hearing() as lookout:
        found = Queues(partial(WebhookSender, webhooks, letters, caller), lookout)
        thread = threading.Thread(target=found.work, args=(Shared(ending),))
        thread.start()
        yield found
        ending.set()
        thread.join(30)
        assert not thread.is_alive()
        assert found.queues == {}


def made(webhooks: Webhooks, endpoint: Endpoint) -> str:
    return str(webhooks.make(WebhookPlan(endpoint.url), None)["_id"])


def test_a_receiver_that_hangs_delays_itself_alone(webhooks: Webhooks, calling: Queues, endpoints: Any) -> None:
    released = threading.Event()
    hanging = endpoints(answer=lambda _: 204 if released.wait(30) else 500)
    good = [endpoints() for _ in range(3)]
    stuck, *others = (made(webhooks, endpoint) for endpoint in (hanging, *good))
    put_ping(stuck)
    until(lambda: hanging.came)
    for number in range(5):
        for id in others:
            feeding.put_delivery(id, "notes", f"note-{number}", None)
    until(lambda: all(len(endpoint.came) == 5 for endpoint in good))
    assert len(hanging.came) == 1
    released.set()


def test_what_is_put_in_is_heard_of_at_once(webhooks: Webhooks, calling: Queues, endpoints: Any) -> None:
    endpoint = endpoints()
    id = made(webhooks, endpoint)
    until(lambda: id in calling.queues)
    put_ping(id)
    until(lambda: len(endpoint.came) == 1)
    until(lambda: not calling.queues[id].dispatcher.is_due)
    put_ping(id)
    until(lambda: len(endpoint.came) == 2)


def test_a_queue_ends_with_its_webhook(webhooks: Webhooks, calling: Queues, endpoints: Any) -> None:
    id = made(webhooks, endpoints())
    until(lambda: id in calling.queues)
    thread = calling.queues[id].thread
    webhooks.change(id, {"active": False})
    until(lambda: not thread.is_alive())
    assert id not in calling.queues


def test_of_a_queue_that_has_ended_nothing_is_counted_any_more(
    webhooks: Webhooks, calling: Queues, endpoints: Any
) -> None:
    id = made(webhooks, endpoints(answer=lambda _: 500))
    until(lambda: id in calling.queues)
    queue = calling.queues[id]
    put_ping(id)
    until(lambda: not queue.dispatcher.is_due)
    queue.dispatcher.count_at = 0.0
    until(lambda: counted(id) == 1)
    webhooks.change(id, {"active": False})
    until(lambda: not queue.thread.is_alive())
    assert counted(id) == 0


def counted(id: str) -> float | None:
    """How much the metrics say waits for a webhook."""
    return METRICS.get_sample_value("madang_outbox_waiting", {"kind": f"webhook:{id}"})


def test_what_waits_for_a_webhook_that_was_removed_meanwhile_goes(webhooks: Webhooks, endpoints: Any) -> None:
    stays, gone = (made(webhooks, endpoints()) for _ in range(2))
    for id in (stays, gone):
        put_ping(id)
    Webhook._get_collection().delete_one({"_id": gone})
    queues.clear()
    assert [item["kind"] for item in OutboxItem._get_collection().find({})] == [f"webhook:{stays}"]


def test_a_queue_goes_on_after_a_mistake_of_ours(
    webhooks: Webhooks, calling: Queues, endpoints: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "GOES_ON_AFTER", 0.01)
    endpoint = endpoints()
    failing = iter([RuntimeError, RuntimeError])
    take = items.take_due

    def fails_twice(*args: Any) -> Any:
        if (error := next(failing, None)) is not None:
            raise error
        return take(*args)

    monkeypatch.setattr(items, "take_due", fails_twice)
    put_ping(made(webhooks, endpoint))
    until(lambda: len(endpoint.came) == 1)
