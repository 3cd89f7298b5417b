"""A worker stays as large as it is, however many requests come."""

import gc
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator

import pytest
from mongoengine.connection import get_connection

from service.model.values import known_times
from service.mongo.short import ShortDriver
from service.query.parse import Parser
from service.records.slow_lists import SLOW_LISTS
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
    # What is of a bounded size: attributes by their names, parsed URLs, times as text, kinds of lists that were slow,
    # what query strings mean, and what was known of the servers of MongoDB at the last operation.
    sys._clear_type_cache()
    urllib.parse.clear_cache()
    known_times.clear()
    SLOW_LISTS.seen.clear()
    for parser in parsers:
        parser.remembered.cache_clear()
    if isinstance(driver := get_connection().driver, ShortDriver):
        driver.known = (None, None)
    return blocks_in_use()


def blocks_in_use() -> int:
    """The least number of blocks that is found in a moment, each time when the collector has run.

    Beside this thread PyMongo's monitors ask MongoDB how it is. That takes some fifty blocks while it lasts, and leaves
    as many in Python's lists of objects to be used again, which the collector empties.
    """
    counted = []
    for _ in range(10):
        gc.collect()
        counted.append(sys.getallocatedblocks())
        time.sleep(0.01)
    return min(counted)


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    """Spare the collector what is there before: it keeps the monitors waiting, and they would all come after it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    "prepare", [reading, listing, patching, replacing, refreshing, missing, wrong, unknown, unsigned]
)
def test_a_request_leaves_nothing_behind(ada: Person, prepare: Callable[[Person], Callable[[int], object]]) -> None:
    ask, parsers = prepare(ada), ada.client.application.extensions["madang.parsers"]
    before = blocks_after(ask, range(100), parsers)
    assert blocks_after(ask, range(100, 100 + REQUESTS), parsers) - before < REQUESTS // 4
