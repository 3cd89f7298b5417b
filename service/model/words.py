"""Words: what a text is taken apart into to be searched, and what a search asks for, both by the same function.

A word of a language that puts spaces between words is what it is, without case and accents. In scripts that do not, and
in Korean, which adds particles to words, overlapping pairs of letters are the words: 서울 is found in 서울에서.
"""

import re
import unicodedata
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import accumulate, islice
from operator import add
from typing import NamedTuple

from service.core.normal_forms import normalized

LONGEST_WORD = 32
"""Most letters of a word that count; two that are longer and begin the same are one."""
MOST_LOOKED_AT = 100_000
"""Most characters of some texts that are looked at: to take a megabyte apart takes a second, and as much memory."""

MARKS = (
    *("\u0300-\u036f", "\u0483-\u0487", "\u1ab0-\u1aff", "\u1dc0-\u1dff", "\u20d0-\u20ff", "\ufe20-\ufe2f"),
    # The points of Hebrew, and of Arabic with its letter that only stretches.
    *("\u0591-\u05bd", "\u05bf", "\u05c1-\u05c2", "\u05c4-\u05c5", "\u05c7"),
    *("\u0610-\u061a", "\u0640", "\u064b-\u065f", "\u0670", "\u06d6-\u06dc", "\u06df-\u06e4", "\u06e7-\u06e8"),
    *("\u06ea-\u06ed", "\u0711", "\u0730-\u074a", "\u08d3-\u08e1", "\u08e3-\u08ff"),
)
"""What is left out because people leave it out: accents, and points of scripts that are read without them."""
INVISIBLE = (
    *("\u00ad", "\u061c", "\u180b-\u180f", "\u200c-\u200f", "\u202a-\u202e", "\u2060-\u2064", "\u2066-\u206f"),
    *("\ufe00-\ufe0f", "\ufeff", "\U0001f3fb-\U0001f3ff", "\U000e0000-\U000e01ef"),
)
"""What is left out because nobody sees it: joiners, directions, variants of one character, colours of a skin."""
DOTLESS_I = "\u0131"
LETTERS = dict(
    zip("øđðħłŧØĐÐĦŁŦ" + DOTLESS_I, "oddhltoddhlti", strict=True), œ="oe", Œ="oe", æ="ae", Æ="ae", þ="th", Þ="th"
)
"""Letters that are no letter with an accent to Unicode, but to people (CLDR, Latin-ASCII)."""

HANGUL = ("\u1100-\u11ff", "\ua960-\ua97f", "\uac00-\ud7ff")
UNSPACED = (
    *HANGUL,
    # Chinese characters, kana, bopomofo and Yi.
    *("\u2e80-\u2fdf", "\u3005", "\u3007", "\u3021-\u3029", "\u303b", "\u3041-\u309f", "\u30a1-\u30fa"),
    *("\u30fc-\u30ff", "\u3105-\u312f", "\u31a0-\u31bf", "\u31f0-\u31ff", "\u3400-\u4dbf", "\u4e00-\u9fff"),
    *("\ua000-\ua48c", "\uf900-\ufaff", "\U0001b000-\U0001b16f", "\U00020000-\U0003ffff"),
    # Thai, Lao, Myanmar, Khmer, and their neighbours.
    *("\u0e01-\u0e3a", "\u0e40-\u0e4e", "\u0e81-\u0ece", "\u0edc-\u0edf", "\u1000-\u103f", "\u1050-\u109f"),
    *("\u1780-\u17d3", "\u17d7", "\u17dc-\u17dd", "\u1950-\u19cf", "\u1a20-\u1a7f", "\u1b00-\u1b4c"),
    *("\ua980-\ua9cf", "\ua9e0-\ua9ef", "\uaa60-\uaa7f"),
)
"""Where words are pairs of letters."""
SYMBOLS = (
    *("\u2190-\u21ff", "\u2300-\u23ff", "\u25a0-\u27bf", "\u2900-\u297f", "\u2b00-\u2bff", "\U0001f000-\U0001f3fa"),
    "\U0001f400-\U0001faff",
)
"""What is a word by itself, such as an emoji."""
ASCII_WORD = re.compile(f"([a-z0-9]{{1,{LONGEST_WORD}}})[a-z0-9]*")
STRETCH = re.compile("[hum]+|[wn]+|s")
"""A stretch of text in the kinds of its characters: a run without spaces, a word, a symbol."""
LETTER = re.compile("[hu]m*|m+")
"""A letter of a run, with the marks that belong to it."""


class Remembered(dict[int, str]):
    """What a function gives for code points, for `str.translate`: remembered for so many, of all that clients send."""

    MOST = 20_000

    def __init__(self, work: Callable[[str], str]) -> None:
        self.work = work

    def __missing__(self, code: int) -> str:
        if len(self) >= self.MOST:
            self.clear()
        found = self[code] = self.work(chr(code))
        return found


def folded(text: str) -> str:
    """Return a text without what people do not mind when they search: case, accents, width, what nobody sees."""
    return text.lower() if text.isascii() else normalized("NFC", text.translate(FOLDS))


def fold_of(character: str) -> str:
    """Return what a character is in a folded text."""
    apart = unicodedata.normalize("NFKD", character).translate(left_out())
    return unicodedata.normalize("NFC", apart.casefold())


def letter_kind(character: str) -> str:
    """Return the kind of a folded character, as `STRETCH` names them.

    `h` is a letter of Korean's, `u` one of another script without spaces and `m` its mark, `w` is any other letter or
    digit and `n` its mark, `s` a symbol that is a word; a space is what stands between words.
    """
    category = unicodedata.category(character)[0]
    if category == "S":
        return "s" if is_among(character, SYMBOLS) else " "
    if category not in "LMN":
        return " "
    if is_among(character, HANGUL):
        return "h"
    spaced = not is_among(character, UNSPACED)
    return ("n" if spaced else "m") if category == "M" else "w" if spaced else "u"


def is_among(character: str, spans: Iterable[str]) -> bool:
    """Tell whether a character is in one of some spans."""
    return any(span[0] <= character <= span[-1] for span in spans)


FOLDS, KINDS = Remembered(fold_of), Remembered(letter_kind)


class Stretch(NamedTuple):
    """The words that stand together in a text without anything between them, and the last letter of a run."""

    words: list[str]
    last: str


def words_in(text: str) -> list[str]:
    """Return the words of a text in their order, each as often as it is there."""
    clear = folded(text)
    if clear.isascii():
        return ASCII_WORD.findall(clear)
    found: list[str] = []
    for words, last in stretches(clear):
        found += words
        if last:
            found.append(last)
    return found


def stretches(clear: str) -> Iterator[Stretch]:
    """Yield the stretches of a folded text.

    A run gives its pairs, and its last letter, so that one letter is found wherever it stands: but not in Korean, where
    that would be one more for each word, most of them particles.
    """
    kinds = clear.translate(KINDS)
    for found in STRETCH.finditer(kinds):
        begin, end = found.span()
        if kinds[begin] not in "hum":
            yield Stretch([clear[begin : min(end, begin + LONGEST_WORD)]], "")
            continue
        run: Sequence[str] = clear[begin:end]
        if "m" in kinds[begin:end]:
            run = letters(clear[begin:end], kinds[begin:end])
        pairs = list(map(add, run, run[1:]))
        yield Stretch(pairs, "" if pairs and kinds[end - 1] == "h" else run[-1])


def letters(run: str, kinds: str) -> list[str]:
    """Return the letters of a run, each with its marks."""
    return [run[found.start() : found.end()][:LONGEST_WORD] for found in LETTER.finditer(kinds)]


def word_counts(texts: Iterable[str], most: int, letters: int) -> Mapping[str, int]:
    """Return how often each word is in some texts: of those that come first `most`, of so many letters together."""
    counts: Counter[str] = Counter()
    left = MOST_LOOKED_AT
    for text in texts:
        counts.update(words_in(text[:left]))
        left -= len(text)
        if left <= 0:
            break
    if len(counts) <= most and sum(map(len, counts)) <= letters:
        return counts
    fitting = sum(length <= letters for length in accumulate(map(len, counts)))
    return dict(islice(counts.items(), min(most, fitting)))


@lru_cache(4096)
def search_tag(entry: str) -> str:
    """Return what stands before the words of a record that somebody may find, by their entry in its access list.

    It has one length for all, so that no word of the one is taken for a word of another; the access list is asked as
    well. 60 bits of a hash: nobody makes a second one that is the same, to fill another's searches.
    """
    return urlsafe_b64encode(blake2b(entry.encode(), digest_size=8).digest())[:10].decode()


@cache
def left_out() -> dict[int, str | None]:
    """Return the table by which characters are left out, or taken for others."""
    gone: dict[int, str | None] = dict.fromkeys(code for span in (*MARKS, *INVISIBLE) for code in codes(span))
    return gone | {ord(letter): other for letter, other in LETTERS.items()}


def codes(span: str) -> range:
    """Return the code points of a span, `a` or `a-z`."""
    return range(ord(span[0]), ord(span[-1]) + 1)
