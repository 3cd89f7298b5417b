"""The short form of the loads of `make chaos`: what is accepted is quick, the rest is told when to come again."""

from collections.abc import Iterator

import pytest

from chaos import overload
from chaos.overload import Figures, Site

pytestmark = pytest.mark.real

SLOTS = 4
SECONDS = 1.0
SLACK = 10.0
"""Other tests may keep the machine busy meanwhile."""
DEADLINE = 1.5
"""`MONGODB_TIMEOUT` of the server, in seconds: what a request waits for a MongoDB that does not answer."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("overload") / "site"
    limits = {"MONGODB_TIMEOUT": str(DEADLINE), "MONGODB_CONNECT_TIMEOUT": "0.5", "ADMISSION_WAIT": "0.3"}
    with overload.opened(folder, 1, SLOTS, SLACK, **limits) as opened:
        opened.play("warm", SLOTS, 0.5)
        yield opened


def only(figures: Figures, *answers: str) -> bool:
    return set(figures.answers) <= {"accepted", *answers}


def test_with_20_times_the_connections_some_are_served_quickly_and_the_others_told(site: Site) -> None:
    figures = overload.crowded(site, SECONDS)
    assert figures.complaints() == []
    assert only(figures, "overloaded")
    assert figures.refused > SLOTS * overload.TIMES


def test_clients_that_do_as_they_are_told_are_all_served(site: Site) -> None:
    figures = overload.obedient(site, SECONDS)
    assert figures.complaints() == []
    assert only(figures, "overloaded")
    assert 0 < figures.refused < SLOTS * overload.TIMES * (SECONDS + SLACK)


def test_thousands_of_connections_that_say_nothing_keep_nobody_out(site: Site) -> None:
    figures = overload.idle(site, SECONDS, 2000)
    assert figures.complaints() == []
    assert only(figures)


@pytest.mark.parametrize("fault", [overload.frozen, overload.unreachable, overload.late])
def test_without_mongodb_requests_fail_in_time_health_and_docs_answer_and_it_recovers(site: Site, fault) -> None:
    figures = fault(site, DEADLINE + 0.2)
    assert figures.complaints() == []
    assert only(figures, "overloaded", "database_unavailable")
    assert figures.unavailable > 0
    assert figures.recovery is not None
    # Behind requests that wait for MongoDB it would be as late as they are.
    assert figures.health < DEADLINE * 0.8
