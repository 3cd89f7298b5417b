"""A worker stays as large as it is, however many requests come."""

import gc
import itertools
import sys
import urllib.parse
from collections.abc import Callable

import pytest

from service.model.values import known_times
from service.query.parse import Parser
from tests.client import Person

NOTES = "/v1/notes"
REQUESTS = 60


def note(ada: Person) -> str:
    """The path of a new note."""
    return f"{NOTES}/{ada.post(NOTES, {'title': 'tea'}).json['id']}"


def reading(ada: Person) -> Callable[[int], object]:
    path = note(ada)
    return lambda _: ada.get(path)


def listing(ada: Person) -> Callable[[int], object]:
    note(ada)
    return lambda number: ada.get(f"{NOTES}?limit={number % 20 + 1}&sort=-updated_at")


def patching(ada: Person) -> Callable[[int], object]:
    path = note(ada)
    return lambda number: ada.patch(path, {"title": f"changed {number} times"})


def replacing(ada: Person) -> Callable[[int], object]:
    path = note(ada)
    return lambda number: ada.put(path, {"title": f"replaced {number} times"})


def refreshing(ada: Person) -> Callable[[int], object]:
    return lambda _: ada.post("/auth/refresh", {"refresh_token": ada.tokens["refresh_token"]})


def missing(ada: Person) -> Callable[[int], object]:
    return lambda number: ada.get(f"{NOTES}/{number:024x}")


def wrong(ada: Person) -> Callable[[int], object]:
    return lambda number: ada.post(NOTES, {"title": number})


def unknown(ada: Person) -> Callable[[int], object]:
    return lambda number: ada.get(f"/v1/{number}?x{number}={number}", headers={"X-Request-ID": f"request-{number}"})


def unsigned(ada: Person) -> Callable[[int], object]:
    return lambda number: ada.get(NOTES, headers={"Authorization": f"Bearer {number}.{number}.{number}"})


def blocks_after(ask: Callable[[int], object], numbers: range, parsers: list[Parser]) -> int:
    """Blocks of memory that Python has taken once these requests were made."""
    for number in numbers:
        ask(number)
    gc.collect()
    # Maps of a bounded size: attributes by their names, parsed URLs, times as text, and what query strings mean.
    sys._clear_type_cache()
    urllib.parse.clear_cache()
    known_times.clear()
    for parser in parsers:
        parser.remembered.cache_clear()
    return sys.getallocatedblocks()


@pytest.mark.parametrize(
    "prepare", [reading, listing, patching, replacing, refreshing, missing, wrong, unknown, unsigned]
)
def test_a_request_leaves_nothing_behind(ada: Person, prepare: Callable[[Person], Callable[[int], object]]) -> None:
    ask, parsers = prepare(ada), ada.client.application.extensions["madang.parsers"]
    taken = [blocks_after(ask, range(100), parsers)]
    taken += [blocks_after(ask, range(start, start + REQUESTS), parsers) for start in (100, 200, 300)]
    # A few come and go with the threads beside this one; what leaks does so with every request, each time.
    assert min(after - before for before, after in itertools.pairwise(taken)) < REQUESTS // 2
