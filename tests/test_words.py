"""Words: what a text of any language is taken apart into, and what a search finds in it."""

import sys
import time
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import BadParameter
from service.model import words
from service.model.words import LONGEST_WORD, folded, search_tag, word_counts, words_in
from service.query.search import MOST_TERMS, Scale, Search, Term, beginnings, parse_search, told_words
from tests.properties import examples

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # Spaces between words: case, accents and width do not count, and no word is left out.
        ("The Who", ["the", "who"]),
        ("Résumé, RESUME — Straße!", ["resume", "resume", "strasse"]),
        ("Ångström Łódź Ærø Þór Dvořák ǅ", ["angstrom", "lodz", "aero", "thor", "dvorak", "dz"]),
        ("İstanbul ISPARTA \u0131s\u0131", ["istanbul", "isparta", "isi"]),
        ("ΟΔΟΣ οδός Ἀθῆναι", ["οδοσ", "οδοσ", "αθηναι"]),
        ("Ёлка ёлка йод", ["елка", "елка", "иод"]),
        ("don't e-mail me@home.example", ["don", "t", "e", "mail", "me", "home", "example"]),
        ("snake_case v2.0 #3", ["snake", "case", "v2", "0", "3"]),
        ("\uff21\uff22\uff23\uff11\uff12\uff13 \ufb01ne ①", ["abc123", "fine", "1"]),
        ("שָׁלוֹם עולם", ["שלום", "עולם"]),
        ("كِتَابٌ كتـــاب آب", ["كتاب", "كتاب", "اب"]),
        ("\u0645\u06cc\u200c\u062e", ["\u0645\u06cc\u062e"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        # Korean, and pairs of its syllables.
        ("서울에서 만나요", ["서울", "울에", "에서", "만나", "나요"]),
        ("나 서", ["나", "서"]),
        ("\u1109\u1165\u110b\u116e\u11af", ["서울"]),
        ("ㅋㅋㅋ", ["\u110f\u110f", "\u110f\u110f"]),
        # Chinese, Japanese, and what else has no spaces: pairs, and the last letter.
        ("今天天气很好", ["今天", "天天", "天气", "气很", "很好", "好"]),
        ("東京、大阪", ["東京", "京", "大阪", "阪"]),
        ("ｶﾞｷﾞ ガギ", ["ガギ", "ギ", "ガギ", "ギ"]),
        ("ラーメン", ["ラー", "ーメ", "メン", "ン"]),
        ("ภาษาไทย", ["ภา", "าษ", "ษา", "าไ", "ไท", "ทย", "ย"]),
        ("ดีที่สุด", ["ดีที่", "ที่สุ", "สุด", "ด"]),
        ("ພາສາລາວ", ["ພາ", "າສ", "ສາ", "າລ", "ລາ", "າວ", "ວ"]),
        # Several at once, and what is no letter.
        ("iPhone15を買う", ["iphone15", "を買", "買う", "う"]),
        ("서울city", ["서울", "city"]),
        ("café☕️ 👍🏽 👨‍👩‍👧 🇰🇷", ["cafe", "☕", "👍", "👨", "👩", "👧", "🇰", "🇷"]),
        ("!!! … — \u202e\u200b \n", []),
        ("Z\u0334\u0322\u031ba\u0335\u0356\u035dlgo", ["zalgo"]),
        ("\u0301\u0301", []),
        ("", []),
    ],
)
def test_a_text_is_taken_apart_into_words(text: str, found: list[str]) -> None:
    assert words_in(text) == found
    assert words_in(unicodedata.normalize("NFD", text)) == found


def test_a_word_is_no_longer_than_it_may_be() -> None:
    assert words_in("x" * 5000 + " é" + "y" * 5000) == ["x" * LONGEST_WORD, ("e" + "y" * 5000)[:LONGEST_WORD]]
    assert words_in("a" * 5000) == ["a" * LONGEST_WORD]
    assert max(map(len, words_in("ก" + "\u0e38" * 5000 + "ข"))) <= 2 * LONGEST_WORD


def test_so_many_different_words_are_counted_and_those_that_come_first() -> None:
    texts = ["a b a", "c b", "d a"]
    assert word_counts(texts, 9, 9) == {"a": 3, "b": 2, "c": 1, "d": 1}
    assert word_counts(texts, 2, 9) == {"a": 3, "b": 2}
    assert word_counts(["one two three one"], 9, 8) == {"one": 2, "two": 1}


def test_of_very_long_texts_the_beginning_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_LOOKED_AT", 6)
    assert word_counts(["one two three"], 9, 99) == {"one": 1, "tw": 1}
    assert word_counts(["one", "two", "three"], 9, 99) == {"one": 1, "two": 1}
    assert word_counts(["seven", "two", "three"], 9, 99) == {"seven": 1, "t": 1}


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "a",
            "é",
            "가",
            "今",
            "か\u3099",
            "ก\u0e38",
            "हि",
            "\u0327\u0301\u0334",
            "a\u0301\u0327",
            "🎂",
            "-",
            "_",
            " a",
        ),
        *('"', '-"', '"a', "\ufdfa", "ﬀ", "\u200d", "ㅋ", "\U0001f468\u200d", "a가", "ßé", "\u0e38"),
    ],
)
def test_a_long_text_of_any_kind_costs_what_its_length_does(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    begun = time.thread_time()
    assert len(word_counts([text], 2000, 32_000)) <= 2000
    with suppress(BadParameter):
        parse_search(unit * (500 // len(unit)))
    assert time.thread_time() - begun < 3


def test_what_is_remembered_of_characters_has_a_bound() -> None:
    for code in range(0x3400, 0x3400 + 2 * words.Remembered.MOST):
        folded(chr(code))
        words_in("é" + chr(code))
    assert len(words.FOLDS) <= words.Remembered.MOST
    assert len(words.KINDS) <= words.Remembered.MOST


@given(st.text(max_size=60))
@examples(500)
def test_words_are_folded_and_never_empty(text: str) -> None:
    for word in words_in(text):
        assert word
        assert word == unicodedata.normalize("NFC", word)
        assert not word.isspace()
        word.encode()


def test_every_character_can_be_looked_at() -> None:
    for code in range(0, sys.maxunicode + 1, 7):
        if not 0xD800 <= code < 0xE000:
            words_in(f"é{chr(code)}x")


def test_the_tag_of_an_entry_has_one_length_and_tells_it_from_others() -> None:
    tags = {search_tag(entry) for entry in ("o:a", "r:a", "r:role:a", "r:role:A", "o:" + "x" * 64)}
    assert len(tags) == 5
    assert {len(tag) for tag in tags} == {10}
    assert all(tag.isascii() for tag in tags)


# --- What is searched ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "search"),
    [
        ("Rye wal", Search(any_of=(Term(("rye",)), Term((), "wal")))),
        ("rye walk ", Search(any_of=(Term(("rye",)), Term(("walk",))))),
        ("rye rye rye ", Search(any_of=(Term(("rye",)),))),
        ("서울에서 ", Search(any_of=(Term(("서울", "울에", "에서")),))),
        ("서울에서", Search(any_of=(Term(("서울", "울에"), "에서"),))),
        ("天", Search(any_of=(Term((), "天"),))),
        ("나 서울 ", Search(any_of=(Term((), "나"), Term(("서울",))))),
        ('"green tea" cup ', Search(any_of=(Term(("cup",)),), all_of=(Term(("green", "tea")),))),
        ("tea -milk -e-mail ", Search(any_of=(Term(("tea",)),), none_of=(Term(("milk",)), Term(("e", "mail"))))),
        ('tea -"oat milk"', Search(any_of=(Term(("tea",)),), none_of=(Term(("oat", "milk")),))),
        ('"天 气"', Search(all_of=(Term((), "天"), Term((), "气")))),
        ('"unfinished', Search(any_of=(Term((), "unfinished"),))),
        ("covid-19 ", Search(any_of=(Term(("covid",)), Term(("19",))))),
        ("- -- ! ", Search()),
        ('"" ', Search()),
    ],
)
def test_a_search_is_taken_apart_as_a_text_is(text: str, search: Search) -> None:
    assert parse_search(text) == search


@pytest.mark.parametrize("text", ["a " * 17, "今" * 66, " ".join(f"-w{n}" for n in range(17)), '"' + "w " * 70 + '"'])
def test_a_search_for_too_much_is_refused(text: str) -> None:
    different = " ".join(f"{word}{number}" for number, word in enumerate(text.split()))
    with pytest.raises(BadParameter, match=f"at most {MOST_TERMS} words"):
        parse_search(different if " " in text else text)


@pytest.mark.parametrize(
    ("begun", "yes", "no"),
    [
        ("tea", ["tea", "teapot", "tea가"], ["te", "teb", "eat"]),
        ("서우", ["서우", "서울", "서웅"], ["서유", "서오", "설우"]),
        ("서울", ["서울", "서울가"], ["서우", "서움"]),
        ("서ᄋ", ["서ᄋ", "서아", "서울", "서잎"], ["서자", "서사", "서ᄌ"]),
        ("ᄉ", ["ᄉ", "사", "서울", "싷"], ["싸", "아", "자"]),
        ("天", ["天", "天气"], ["今天"]),
        ("\ud7ff", ["\ud7ff", "\ud7ffa"], ["\ue000"]),
        ("a\U0001f382", ["a\U0001f382b"], ["a\U0001f383"]),
    ],
)
def test_a_beginning_is_found_in_what_begins_so(begun: str, yes: list[str], no: list[str]) -> None:
    def is_begun(word: str) -> bool:
        by_range = any(each.low <= word < each.high for each in beginnings(begun))
        assert bool(Scale(Search((Term((), begun),))).score([told_words({word: 1})])) == by_range
        return by_range

    assert [is_begun(word) for word in yes] == [True] * len(yes)
    assert [is_begun(word) for word in no] == [False] * len(no)
    for each in beginnings(begun):
        (each.low + each.high).encode()


@given(text=st.text(st.sampled_from("ab é가나今天かก\u0e38ᄉ🎂-1"), min_size=1, max_size=12), cut=st.integers(1, 12))
@examples(500)
def test_a_text_is_found_by_each_of_its_beginnings(text: str, cut: int) -> None:
    try:
        search = parse_search(text[:cut].replace("-", " ") + "\u200b")
    except BadParameter:
        return
    told = told_words(word_counts([text.replace("-", " ")], 2000, 32_000))
    assert Scale(search).score([told]) // 10_000 == len(search.terms)


def scored(search: str, *texts: str) -> int:
    return Scale(parse_search(search)).score([told_words(word_counts([text], 2000, 32_000)) for text in texts])


@pytest.mark.parametrize(
    ("search", "better", "worse"),
    [
        ("green tea ", ("green tea",), ("tea tea tea",)),
        ("green tea ", ("", "green things, and tea"), ("tea tea tea", "tea")),
        ("tea ", ("tea", ""), ("", "tea")),
        ("tea ", ("", "tea tea tea"), ("", "tea")),
        ("tea ", ("", "tea milk"), ("", "tea " + " ".join(f"w{number}" for number in range(50)))),
        ("tea", ("tea",), ("teapot",)),
        ("tea", ("", "teapot"), ("", "eat")),
        ("서울 대학", ("서울 대학교",), ("서울",)),
    ],
)
def test_what_answers_better_has_a_higher_score(search: str, better: tuple[str, ...], worse: tuple[str, ...]) -> None:
    assert scored(search, *better) > scored(search, *worse)
