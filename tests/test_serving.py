"""Granian as this service runs it: how a server ends, what it does about workers that die, and how many clients fit."""

import resource
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from granian.constants import Interfaces
from granian.server.mp import MPServer

import settings
from service.serve.addresses import Address
from service.serve.deaths import MOST_DEATHS
from service.serve.failures import GAVE_UP
from service.serve.serving import FILES, Draining, DrainingServer, Farewell, allow_connections

pytestmark = pytest.mark.once


@pytest.fixture
def server() -> DrainingServer:
    loaded = settings.load({"SERVICE_ENV": "test", "SERVICE_DRAIN_DELAY": "30"})
    return DrainingServer("api", Address("127.0.0.1", 0), loaded, Draining(), interface=Interfaces.WSGI)


def worker(lives: bool) -> Any:
    return SimpleNamespace(is_alive=lambda: lives, inner=SimpleNamespace(pid=0), idx=0)


def test_a_server_that_drains_asks_each_client_to_take_another_connection() -> None:
    draining = Draining()

    def app(_environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("X-Own", "1")])
        return [b"done"]

    told: list[list[tuple[str, str]]] = []
    farewell = Farewell(app, draining)
    assert farewell({}, lambda _status, headers: told.append(headers)) == [b"done"]
    draining.begin()
    assert farewell({}, lambda _status, headers: told.append(headers)) == [b"done"]
    assert told == [[("X-Own", "1")], [("X-Own", "1"), ("Connection", "close")]]


def test_a_second_signal_ends_the_wait_for_a_load_balancer(server: DrainingServer) -> None:
    begun = time.monotonic()
    threading.Timer(0.1, server.signal_handler_interrupt).start()
    server.wait_for_balancer()
    assert 0.05 < time.monotonic() - begun < 10


def test_a_server_that_ends_by_itself_waits_for_no_load_balancer(
    server: DrainingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(MPServer, "shutdown", lambda _self, code: ended.append(code))
    begun = time.monotonic()
    server.shutdown(3)
    assert (ended, bool(server.draining)) == ([3], True)
    assert time.monotonic() - begun < 10


def test_workers_that_die_too_often_are_not_replaced(
    server: DrainingServer, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(MOST_DEATHS - 1):
        server.deaths.add()
    server.wrks = [worker(lives=False)]
    server.main_loop_interrupt.set()
    server._serve_loop(None, None)
    assert server.deaths.too_many
    assert "workers_given_up" in capsys.readouterr().out


def test_a_server_whose_workers_cannot_live_ends_with_the_code_of_that(
    server: DrainingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def serve(self: DrainingServer, **_options: Any) -> None:
        for _ in range(MOST_DEATHS):
            self.deaths.add()

    monkeypatch.setattr(MPServer, "serve", serve)
    with pytest.raises(SystemExit) as ended:
        server.run(dict)
    assert ended.value.code == GAVE_UP


def test_a_server_that_is_woken_while_all_workers_live_counts_no_death(
    server: DrainingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[list[int]] = []

    def respawn(ids: list[int], *_: Any) -> None:
        replaced.append(ids)
        server.signal_handler_interrupt()

    monkeypatch.setattr(server, "_respawn_workers", respawn)
    server.wrks = [worker(lives=True)]
    server.main_loop_interrupt.set()
    server._serve_loop(None, None)
    assert (replaced, server.deaths.pause) == ([[]], 0)


@pytest.mark.parametrize(
    ("limits", "wanted", "allowed", "set_to"),
    [
        ((256, FILES + 100), 1000, 100, (FILES + 100, FILES + 100)),
        ((256, resource.RLIM_INFINITY), 1000, 1000, (FILES + 1000, resource.RLIM_INFINITY)),
        ((FILES + 1000, FILES + 1000), 1000, 1000, None),
    ],
    ids=["less than wanted", "no limit", "enough as it is"],
)
def test_as_many_connections_are_let_in_as_there_are_files_for(
    limits: tuple[int, int],
    wanted: int,
    allowed: int,
    set_to: tuple[int, int] | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, pair: changed.append(pair))
    assert allow_connections(wanted) == allowed
    assert changed == ([set_to] if set_to else [])
    assert ("few_connections" in capsys.readouterr().out) is (allowed < wanted)
