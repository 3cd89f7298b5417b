"""Attacks on data: what is another's or hidden, asked for in every position (OWASP API1:2023, API3:2023)."""

import pytest

from tests.client import Person

GUESSES = ["$", ".*", "(a+)+$", "[", "\\", "\\Qa", "#", " ", "\n", "(?i)SECRET", "\u200b", "\U0010ffff", "é" * 200]


# Queries


@pytest.mark.parametrize("text", GUESSES, ids=ascii)
def test_a_prefix_is_text_and_no_pattern(ada: Person, text: str) -> None:
    ada.make_note(title="secret")
    mine = ada.make_note(title=text)
    found = ada.find(where={"title": {"$prefix": text}}).json["items"]
    assert [note["id"] for note in found] == [mine["id"]]


@pytest.mark.parametrize("length", [1001, 33_000, 60_000])
def test_a_prefix_that_mongodb_cannot_take_is_refused(ada: Person, length: int) -> None:
    assert ada.find(where={"title": {"$prefix": "a" * length}}).json["code"] == "bad_query"
    assert ada.find(where={"title": {"$prefix": "\U0010ffff" * 1000}}).status_code == 200
