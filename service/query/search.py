"""A search: what a client types, taken apart as the texts of records are, and how well a record answers it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from service.documents.record import WORDS
from service.model.values import parse_time, time_text
from service.model.words import folded, stretches
from service.mongo.raw import Filter
from service.query.paging import bad, sealed, unsealed

MOST_CHARACTERS = 500
MOST_TERMS, MOST_WORDS_ASKED = 16, 64
CHUNK = re.compile(r'-?"[^"]*"|[^\s"]+|"')
"""What is quoted, or has spaces around it: each character belongs to one, and is looked at once."""


@dataclass(frozen=True, slots=True)
class Term:
    """Words that have to stand in one text, and the beginning of one more where that is not empty."""

    words: tuple[str, ...]
    begun: str = ""


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched: records with `any_of` some terms, the more the better, `all_of` some, and `none_of` others."""

    any_of: tuple[Term, ...] = ()
    all_of: tuple[Term, ...] = ()
    none_of: tuple[Term, ...] = ()

    @property
    def terms(self) -> tuple[Term, ...]:
        """What counts for how well a record answers."""
        return (*self.all_of, *self.any_of)

    def filter(self, tags: Sequence[str], strict: bool = False) -> Filter:
        """Return the filter of the records that those with some tags find; if `strict`, of those with every term."""
        required = self.terms if strict else self.all_of
        found = [filter_of(tags, [term]) for term in required] or [filter_of(tags, self.any_of)]
        return {"$and": found, **({"$nor": [filter_of(tags, self.none_of)]} if self.none_of else {})}


# --- What is typed ----------------------------------------------------------------------------------------------------


def parse_search(text: str) -> Search:
    """Return the search that a client typed.

    Words in quotes have to be there all, and none with a `-` in front. The last word may be only its beginning. Raises
    `BadParameter` for a search that is empty, or too long.
    """
    if not text.strip() or len(text) > MOST_CHARACTERS:
        raise bad("search", f"1 to {MOST_CHARACTERS} characters", "out_of_range")
    found: dict[str, list[Term]] = {"any_of": [], "all_of": [], "none_of": []}
    for chunk in CHUNK.finditer(text):
        said = chunk[0]
        kind = "none_of" if said[0] == "-" and len(said) > 1 else "all_of" if said[0] == '"' else "any_of"
        if kind == "any_of":
            found[kind] += terms_of(said, typing=chunk.end() == len(text))
        else:
            found[kind] += in_one_text(terms_of(said))
    search = Search(**{kind: tuple(dict.fromkeys(terms)) for kind, terms in found.items()})
    whole = (*search.terms, *search.none_of)
    if len(whole) > MOST_TERMS or sum(len(term.words) + 1 for term in whole) > MOST_WORDS_ASKED:
        raise bad("search", f"at most {MOST_TERMS} words, or {MOST_WORDS_ASKED} letters without spaces", "out_of_range")
    return search


def terms_of(text: str, typing: bool = False) -> Iterator[Term]:
    """Yield the terms of a text; the last one may be only a beginning while somebody is `typing`."""
    found = list(stretches(folded(text)))
    for number, (words, last) in enumerate(found, 1):
        if not words:
            # One letter of a run: it is found where it begins a pair as well.
            yield Term((), last)
        elif typing and number == len(found):
            yield Term(tuple(words[:-1]), words[-1])
        else:
            yield Term(tuple(words))


def in_one_text(terms: Iterable[Term]) -> Iterator[Term]:
    """Yield terms as one that asks for the words of all of them; further ones for beginnings, of which one has one."""
    words: list[str] = []
    begun: list[str] = []
    for term in terms:
        words += term.words
        begun += [term.begun] if term.begun else []
    if words or begun:
        yield Term(tuple(words), begun[0] if begun else "")
    yield from (Term((), other) for other in begun[1:])


# --- What MongoDB is asked --------------------------------------------------------------------------------------------


def filter_of(tags: Sequence[str], terms: Sequence[Term]) -> Filter:
    """Return the filter of the records that have one of some terms among the words of one of some tags."""
    single = [tag + term.words[0] for term in terms if len(term.words) == 1 and not term.begun for tag in tags]
    found: list[Filter] = [{f"{WORDS}.w": {"$in": single}}] if single else []
    for term in terms:
        if len(term.words) != 1 or term.begun:
            found += [term_filter(tag, term) for tag in tags]
    return found[0] if len(found) == 1 else {"$or": found}


def term_filter(tag: str, term: Term) -> Filter:
    """Return the filter of the records that have all words of a term in one text."""
    spans = [(tag + beginning.low, tag + beginning.high) for beginning in beginnings(term.begun)]
    begun = [{"w": {"$elemMatch": {"$gte": low, "$lt": high}}} for low, high in spans]
    found: list[Filter] = [{"w": tag + word} for word in term.words]
    if begun:
        found.append(begun[0] if len(begun) == 1 else {"$or": begun})
    return {WORDS: {"$elemMatch": found[0] if len(found) == 1 else {"$and": found}}}


SYLLABLES, FINALS, SYLLABLES_OF_INITIAL = 0xAC00, 28, 588
END_OF_SYLLABLES = 0xD7A4
INITIALS = range(0x1100, 0x1113)
"""Hangul: a syllable is an initial, a vowel and maybe a final, counted in this order (Unicode, section 3.12)."""


class Beginning(NamedTuple):
    """A range of words: what they begin with, and from which to which letter the next one is."""

    start: str
    first: int
    last: int

    @property
    def low(self) -> str:
        """Return the least of these words."""
        return self.start + chr(self.first)

    @property
    def high(self) -> str:
        """Return the least of the words behind them; between two planes are the surrogates, which are none."""
        return self.start + chr(0xE000 if self.last == 0xD7FF else self.last + 1)

    @property
    def pattern(self) -> str:
        """Return the regular expression of what they begin with: a class of characters at most."""
        return f"{re.escape(self.start)}[{re.escape(chr(self.first))}-{re.escape(chr(self.last))}]"


def beginnings(begun: str) -> list[Beginning]:
    """Return the ranges of the words that begin so; none where nothing is begun.

    Who types Korean has a part of a syllable for a moment: what it can become is meant as well.
    """
    if not begun:
        return []
    start, last = begun[:-1], ord(begun[-1])
    if SYLLABLES <= last < END_OF_SYLLABLES and (last - SYLLABLES) % FINALS == 0:
        return [Beginning(start, last, last + FINALS - 1)]
    found = [Beginning(start, last, last)]
    if last in INITIALS:
        first = SYLLABLES + (last - INITIALS[0]) * SYLLABLES_OF_INITIAL
        found.append(Beginning(start, first, first + SYLLABLES_OF_INITIAL - 1))
    return found


# --- How well a record answers ----------------------------------------------------------------------------------------

RANK = "_rank"
"""Under which name a row that was found carries its rank."""
TERM = 10_000
"""What each term counts that is there: more than how well all of them are."""
FIRST_TEXT, OTHER_TEXT, BEGINNING = 60.0, 30.0, 0.8


def told_words(counts: Mapping[str, int]) -> str:
    """Return the words of a text with how often they are there, in one string: that is quick to read and to look at."""
    return "".join([f"\n{word}\t{min(count, 9)}" for word, count in counts.items()])


class Scale:
    """Measures how well records answer a search."""

    def __init__(self, search: Search) -> None:
        self.terms = [Measure.of(term) for term in search.terms]

    def score(self, texts: Sequence[str]) -> int:
        """Return how well a record with these told words answers.

        How many terms it has counts most; then where they are, how often, and among how many words.
        """
        found = 0
        for term in self.terms:
            best = 0.0
            for number, text in enumerate(texts):
                best = max(best, term.quality(text, OTHER_TEXT if number else FIRST_TEXT))
            found += TERM + int(best) if best else 0
        return found


@dataclass(frozen=True, slots=True)
class Measure:
    """What is looked for in a text for one term: whole words as they are told, and a beginning."""

    whole: tuple[str, ...]
    begun: re.Pattern[str] | None
    ended: str

    @classmethod
    def of(cls, term: Term) -> "Measure":
        """Return what is looked for."""
        whole = tuple(f"\n{word}\t" for word in term.words)
        if not term.begun:
            return cls(whole, None, "")
        begun = "|".join(beginning.pattern for beginning in beginnings(term.begun))
        return cls(whole, re.compile(f"\n(?:{begun})"), f"\n{term.begun}\t")

    def quality(self, text: str, weight: float) -> float:
        """Return how well one text answers, 0 where it does not; the text that is declared first has most weight."""
        times = self.times(text)
        return weight * times / (times + 0.5 + text.count("\n") / 200) if times else 0.0

    def times(self, text: str) -> float:
        """Return how often the term is in a text; less than once where it is only begun."""
        times = 9.0
        for word in self.whole:
            at = text.find(word)
            if at < 0:
                return 0.0
            times = min(times, float(text[at + len(word)]))
        if self.begun is None:
            return times
        if (at := text.find(self.ended)) >= 0:
            return min(times, float(text[at + len(self.ended)]))
        return BEGINNING if self.begun.search(text) else 0.0


class Rank(NamedTuple):
    """Where a record stands among all that a search finds: the best first, the newest of those that are as good."""

    score: int
    created_at: datetime
    id: str

    @property
    def key(self) -> tuple[int, float, str]:
        """What ranks are sorted by."""
        return -self.score, -self.created_at.replace(tzinfo=UTC).timestamp(), self.id

    def cursor(self, seal: bytes) -> str:
        """Return the cursor of what follows."""
        return sealed([self.score, time_text(self.created_at), self.id], seal)


def parse_rank(cursor: str, seal: bytes) -> Rank:
    """Return the rank that a cursor was made of; raises `BadParameter` for what is none of this query."""
    score, created_at, last = unsealed(cursor, seal)
    return Rank(score, parse_time(created_at), last)
