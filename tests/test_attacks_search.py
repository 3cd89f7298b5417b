"""Attacks by a search: whatever is asked for costs little, is no pattern and no operator, and words go out nowhere."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import BadParameter
from service.documents import Note
from service.documents.record import WORDS
from service.records import search_words
from tests.client import Person
from tests.properties import examples
from tests.recording import Recording
from tests.syncing import Melon, Replica
from tests.types import parser_of

HOSTILE = {
    "a megabyte of marks": "a" + "\u0301\u0327" * 500_000,
    "marks as many as it may have": "a" + "\u0301\u0327" * 249,
    "ten thousand words": " ".join(f"w{number}" for number in range(10_000)),
    "a word of a megabyte": "a" * 1_000_000,
    "a letter that is eighteen": "\ufdfa" * 500,
    "quotes": '"' * 500,
    "quotes that open and close": '"a" -' * 100,
    "minuses": "-" * 500,
    "words to leave out": "-a " * 166,
    "spaces without end": " " * 1_000_000,
    "nothing to be seen": "\u200b\u202e\ufeff" * 100,
    "half of a character": "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "joined emoji": "👨\u200d" * 240,
    "single letters without spaces": '"' + " ".join("天气很好今明後昨") + '"',
}


@pytest.mark.parametrize("search", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("count", ["true", "false"])
def test_a_hostile_search_costs_little(ada: Person, search: str, count: str) -> None:
    ada.make_note(title="tea")
    begun = time.thread_time()
    with suppress(BadParameter):
        parser_of(Note).parse({"search": search, "count": count}, ada.id, b"key")
    # A request line has 64 KiB.
    answer = ada.find(search=search[:6000], count=count)
    assert answer.status_code in (200, 400), answer.json
    assert answer.status_code == 200 or answer.json["code"] == "bad_parameter"
    assert time.thread_time() - begun < 1


@pytest.mark.parametrize(
    "search",
    [
        *(".*", "^", "$", "^tea$", "t.a ", "t?a ", "[a-z]+", "(", "[a", "\\", "\\w+", "(a+)+$", "tea|milk|"),
        *("$where", '{"$gt": ""}', "$ne", "search_words.w", "o:tea ", "\x00", "te\x00a "),
    ],
)
def test_a_search_is_no_pattern_and_no_operator(ada: Person, bob: Person, search: str) -> None:
    bob.make_note(title="his green thing", body="gt where ne")
    for title in ("bread", "xyz"):
        ada.make_note(title=title)
    answer = ada.find(search=search, count="true")
    if "\0" in search:
        assert answer.status_code in (200, 400)
    else:
        assert answer.json == {"items": [], "next": None, "total": 0}, search


@given(
    search=st.text(min_size=1, max_size=40)
    | st.text(st.sampled_from('ab -"天气서울ᄉ🎂é.$\\*'), min_size=1, max_size=40)
)
@examples(100)
def test_any_text_can_be_searched_for_and_counted(ada: Person, search: str) -> None:
    ada.put("/v1/notes/one", {"title": "a b 天气 서울 🎂 é"})
    answer = ada.find(search=search, count="true", scope="mine,shared")
    assert answer.status_code in (200, 400), answer.json
    if answer.status_code == 200:
        assert len(answer.json["items"]) == answer.json["total"]


@pytest.mark.real
def test_no_device_is_sent_the_words(ada: Person, bob: Person, recording: Recording) -> None:
    melon, replica = Melon(ada, recording), Replica(ada, recording)
    note = bob.make_note(title="tea", readers=[ada.id])
    ada.make_note(title="milk")
    recording.catch_up()
    told: list[Any] = [
        melon.pull(),
        replica.pull(),
        ada.get("/v1/changes").json,
        ada.get(f"/v1/notes/{note['id']}?expand=notebook").json,
    ]
    for answer in map(json.dumps, told):
        assert "tea" in answer
        assert WORDS not in answer
        for entry in (f"o:{bob.id}", f"r:{ada.id}"):
            assert search_words.search_tag(entry) not in answer
